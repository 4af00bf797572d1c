#!/bin/bash
# Compaction under real programs: nothing is lost, whatever the program does meanwhile, whatever the kernel
# refuses, and nothing but memory changes.
# serial
# timeout: 600
set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
lib=$(realpath -m "${QUIRE_LIB:-$here/../build/libquire.so}")
unset LD_PRELOAD QUIRE_CONF
work=$(mktemp -d "${TMPDIR:-/tmp}/quire-test.XXXXXX")
map_count=/proc/sys/vm/max_map_count
maps_before=$(cat $map_count)
clean() {
  [[ $(cat $map_count) == "$maps_before" ]] || echo "$maps_before" >$map_count
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
trap 'exit 129' HUP
failures=0

fail() {
  echo "FAIL compact: $1: $2"
  failures=$((failures + 1))
}

[[ -f $lib ]] || { echo "FAIL compact: there is no $lib"; exit 1; }
# Others than root are to run these too.
chmod 755 "$work"

build() { # NAME [flags...]
  local name=$1
  shift
  ${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O2 -g -fno-builtin-malloc -Wall -Wextra -o "$work/$name" \
    "$here/compact/$name.c" "$@" -lpthread >"$work/cc.out" 2>&1 && return
  cat "$work/cc.out"
  fail "$name" "does not compile"
  exit 1
}
build sparse
build refuse
build waiters -I"$here/compact"
build direct
[[ ! -f /usr/include/liburing.h ]] || build torture "$here/compact/torture_io.c" -luring

# check NAME COMMAND...: must succeed; 77 is a skip, whose reason is the last line that it printed. So is a
# line "SKIP part: reason" for a part of it.
check() {
  local name=$1 status
  shift
  timeout "${limit:-120}" "$@" >"$work/out" 2>&1
  status=$?
  case $status in
    0)
      echo "PASS compact: $name"
      sed -n "s/^SKIP /&compact: $name: /p" "$work/out"
      ;;
    77) echo "SKIP compact: $name: $(tail -n 1 "$work/out")" ;;
    124) fail "$name" "hangs: $(tail -n 5 "$work/out" | tr '\n' ' ')" ;;
    *) fail "$name" "status $status: $(tail -n 12 "$work/out" | tr '\n' ' ')" ;;
  esac
}

# on CONF COMMAND...
on() {
  local conf=$1
  shift
  env LD_PRELOAD="$lib" QUIRE_CONF="$conf" "$@"
}
export -f on
export lib

# ---- torture ----

seconds=30
[[ ${QUIRE_LONG:-0} == 0 ]] || seconds=600
mkdir "$work/files"
if [[ -x $work/torture ]]; then
  limit=$((seconds + 120)) check "torture for $seconds s" env LD_PRELOAD="$lib" "$work/torture" $seconds "$work/files"
  [[ ! -s $work/out ]] || grep 'objects checked' "$work/out"

  # The kernel moves pages on its own account, as under memory pressure. It does so where memory is in
  # fragments, which two of these see to.
  migrates=/proc/sys/vm/compact_memory
  beside_migration() { # SECONDS
    local n status=0 pids=()
    while echo 1 >"$migrates"; do sleep 0.2; done &
    local migration=$!
    for n in 1 2; do
      mkdir "$work/files/$n"
      LD_PRELOAD="$lib" "$work/torture" "$1" "$work/files/$n" &
      pids+=($!)
    done
    for n in "${pids[@]}"; do wait "$n" || status=$?; done
    kill "$migration"
    wait "$migration" 2>/dev/null
    return $status
  }
  export -f beside_migration
  export work migrates
  if [[ -w $migrates ]]; then
    limit=$((seconds + 120)) check "torture while the kernel migrates pages" bash -c "beside_migration $((seconds * 2 / 3))"
  else
    echo "SKIP compact: torture while the kernel migrates pages: $migrates can't be written to"
  fi
else
  echo "SKIP compact: torture: liburing is not installed"
fi

# ---- direct I/O ----

rounds=50
[[ ${QUIRE_LONG:-0} == 0 ]] || rounds=1000
limit=$((rounds + 100)) check "direct reads into aligned memory, across forks" env LD_PRELOAD="$lib" "$work/direct" $rounds "$work/files"
[[ ! -s $work/out ]] || grep 'objects read' "$work/out"

# ---- where and how it meshes ----

exits_at_any_moment() {
  local i status
  for ((i = 0; i < 200; i++)); do
    on background_threshold:1M,compact:aggressive "$work/sparse" exit $((i * i % 977 * 60)) $((i % 7)) >"$work/exit"
    status=$?
    ((status == i % 7)) || { echo "run $i: status $status"; return 1; }
    [[ $(cat "$work/exit") == "last line" ]] || { echo "run $i: no last line"; return 1; }
  done
}
export -f exits_at_any_moment
export work

for huge in never auto always; do
  check "huge:$huge" env LD_PRELOAD="$lib" QUIRE_CONF=huge:$huge "$work/sparse" mesh
done
for stall in 10 100000; do
  check "compact_stall:$stall" env LD_PRELOAD="$lib" QUIRE_CONF=compact_stall:$stall "$work/sparse" mesh
done
check "compact:aggressive, unasked" env LD_PRELOAD="$lib" QUIRE_CONF=compact:aggressive,background_threshold:1M "$work/sparse" alone
check "unasked, while freed memory is kept for an hour" env LD_PRELOAD="$lib" \
  QUIRE_CONF=compact:aggressive,background_threshold:1M,decay_ms:3600000 "$work/sparse" alone
check "compact:off maps nothing" env LD_PRELOAD="$lib" QUIRE_CONF=compact:off "$work/sparse" hollow
check "background:off gives back what is empty" env LD_PRELOAD="$lib" QUIRE_CONF=background:off "$work/sparse" hollow
check "a child that compacts by itself" env LD_PRELOAD="$lib" "$work/sparse" child
check "a child that compacts after its parent has" env LD_PRELOAD="$lib" "$work/sparse" child later
check "all descriptors are closed while it works" env LD_PRELOAD="$lib" "$work/sparse" closes
for kind in private shared; do
  check "threads that wait on $kind semaphores" env LD_PRELOAD="$lib" "$work/waiters" $kind
done
check "under seccomp" "$work/refuse" kill env LD_PRELOAD="$lib" "$work/sparse" hollow
check "a program that sandboxes itself once it is meshed" env LD_PRELOAD="$lib" "$work/sparse" sandboxes
check "userfaultfd is refused with EPERM" "$work/refuse" EPERM env LD_PRELOAD="$lib" "$work/sparse" hollow
check "userfaultfd is refused with ENOSYS" "$work/refuse" ENOSYS env LD_PRELOAD="$lib" "$work/sparse" hollow
# A process without the right to a watch of its own, and with a descriptor that its manager gave it.
unprivileged() { # CONF WHAT: keeps its process number
  exec setpriv --reuid=65534 --regid=65534 --clear-groups env LD_PRELOAD="$work/libquire.so" QUIRE_CONF="$1" "$work/sparse" $2
}
by_option() { # WHAT FILE
  exec 9<>"$2"
  unprivileged watch_fd:9 "$1"
}
by_manager() { # WHAT PID COUNT: the second of three descriptors, of which COUNT are said to be there
  exec 3<>/dev/null 4<>/dev/userfaultfd 5<>/dev/null
  export LISTEN_PID=$2 LISTEN_FDS=$3 LISTEN_FDNAMES=log:userfaultfd:other
  unprivileged "" "$1"
}
export -f unprivileged by_option by_manager
if ((EUID != 0)); then
  check "without privilege" env LD_PRELOAD="$lib" "$work/sparse" mesh
elif command -v setpriv >/dev/null; then
  cp "$lib" "$work/libquire.so" && chmod 755 "$work/libquire.so"
  check "without privilege" bash -c 'unprivileged "" mesh'
  if reason=$("$work/sparse" may) && [[ -w /dev/userfaultfd ]] &&
    ! setpriv --reuid=65534 --regid=65534 --clear-groups "$work/sparse" may >/dev/null; then
    check "watch_fd, without privilege" bash -c 'by_option given /dev/userfaultfd'
    check "watch_fd of another device" bash -c 'by_option hollow /dev/null'
    check "watch_fd of a file" bash -c 'by_option hollow "$work/out"'
    check "a service manager's descriptor, without privilege" bash -c 'by_manager given $$ 3'
    check "a descriptor meant for another process" bash -c 'by_manager hollow 1 3'
    check "a descriptor that was not passed" bash -c 'by_manager hollow $$ 1'
  else
    echo "SKIP compact: descriptors that are passed: ${reason:-/dev/userfaultfd is missing, or anybody may use userfaultfd}"
  fi
else
  echo "SKIP compact: without privilege: setpriv is not installed"
fi
for mib in 700 2000; do
  check "RLIMIT_AS of $mib MiB" bash -c "ulimit -v $((mib << 10)) && LD_PRELOAD=$lib exec $work/sparse limited"
done
limit=400 check "exit at any moment" bash -c exits_at_any_moment

# ---- few mappings ----

few_mappings() {
  local status
  echo 4096 >$map_count || { echo "vm.max_map_count can't be set"; return 77; }
  LD_PRELOAD="$lib" "$work/sparse" maps 4096 50
  status=$?
  echo "$maps_before" >$map_count
  return $status
}
export -f few_mappings
export map_count maps_before
if [[ -w $map_count ]]; then
  check "vm.max_map_count of 4096" bash -c few_mappings
else
  echo "SKIP compact: vm.max_map_count of 4096: it can't be set here"
fi
exit $((failures != 0))
