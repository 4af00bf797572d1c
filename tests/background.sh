#!/bin/bash
# The background thread under real programs: it gives memory back, and nothing else can be seen of it.
# timeout: 300
set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
lib=$(realpath -m "${QUIRE_LIB:-$here/../build/libquire.so}")
unset LD_PRELOAD
conf=background_threshold:1M,decay_ms:100
work=$(mktemp -d "${TMPDIR:-/tmp}/quire-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
failures=0

fail() {
  echo "FAIL background: $1: $2"
  failures=$((failures + 1))
}

[[ -f $lib ]] || { echo "FAIL background: there is no $lib"; exit 1; }
for source in "$here"/background/*.c; do
  name=$(basename "$source" .c)
  if ! ${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O1 -g -fno-builtin -Wall -Wextra -Wno-unused-function \
    -I"$here/../include" "$source" -lpthread -o "$work/$name"; then
    echo "FAIL background: $name.c does not compile"
    exit 1
  fi
done

quire() { env LD_PRELOAD="$lib" QUIRE_CONF="$conf" "$@"; }

# check NAME COMMAND...: must succeed; 77 is a skip.
check() {
  local name=$1 status
  shift
  "$@" >"$work/out" 2>&1
  status=$?
  case $status in
    0) echo "PASS background: $name" ;;
    77) echo "SKIP background: $name: idle caches can't be taken here (no rseq)" ;;
    *) fail "$name" "status $status: $(tr '\n' ' ' <"$work/out")" ;;
  esac
}

refused() {
  "$work/refuse" "$1" "$2" env LD_PRELOAD="$lib" QUIRE_CONF="$conf" "$work/$3"
  local status=$?
  [[ $status != 3 ]] || echo "no seccomp filter to be had"
  return $status
}

exits_200_times() {
  local i status
  for ((i = 0; i < 200; i++)); do
    [[ $(quire "$work/exits" $((i % 7))) == "last line" ]] || { echo "run $i: no last line"; return 1; }
    quire "$work/exits" $((i % 7)) >/dev/null
    status=$?
    ((status == i % 7)) || { echo "run $i: status $status"; return 1; }
  done
}

main_leaves() {
  local i
  for ((i = 0; i < 20; i++)); do
    [[ $(timeout 60 env LD_PRELOAD="$lib" QUIRE_CONF="$conf" "$work/leaves") == "worker done
at exit" ]] || { echo "run $i: wrong output, or it did not end"; return 1; }
  done
}

check "memory goes back while the program idles" quire "$work/gives_back"
check "one large free wakes it" quire "$work/gives_back" large
check "decay_ms:0" env LD_PRELOAD="$lib" QUIRE_CONF=background_threshold:1M,decay_ms:0 "$work/gives_back"
check "a program closes all descriptors and keeps its own files" quire "$work/closes" "$work"
check "io_uring refused with EPERM" refused EPERM ring gives_back
check "io_uring refused with ENOSYS" refused ENOSYS ring gives_back
check "no descriptor table of its own" refused EPERM all gives_back
check "asleep with io_uring refused" refused EPERM ring sleeps
check "a program that sandboxes itself at first" quire "$work/sandboxes"
check "a program that sandboxes itself later" quire "$work/sandboxes" running
check "forks while it works" quire "$work/forks"
check "exits while it works" exits_200_times
check "main leaves by pthread_exit" main_leaves
check "asleep when nothing is left" quire "$work/sleeps"
check "idle threads' caches are taken" quire "$work/caches"
check "no thread for a small heap" env LD_PRELOAD="$lib" "$work/threadless" 8000000
check "background:off" env LD_PRELOAD="$lib" QUIRE_CONF="background:off,background_threshold:0" \
  "$work/threadless" 100000000
exit $((failures != 0))
