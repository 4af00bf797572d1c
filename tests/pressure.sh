#!/bin/bash
# Memory pressure for real: in a control group with a limit a program reads a file that doesn't fit, over and over, and the
# kernel counts the stalls. Another program holds freed memory that by its options would stay for an hour: the background
# thread has to give it back. Needs root, a memory controller, and a kernel that tells pressure.
# serial
set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
lib=$(realpath -m "${QUIRE_LIB:-$here/../build/libquire.so}")
unset LD_PRELOAD
conf=background_threshold:1M,decay_ms:3600000
file_mib=48        # what is read
limit_mib=32       # what there is room for, beside what the other holds
held_mib=45        # that
enough_us=4500000  # so much in a minute: at some time within it 150 ms of 2 s
status=0
mkdir -p "$here/../build"
work=$(mktemp -d "$here/../build/pressure.XXXXXX") # on a disk: what lies in memory can't be reclaimed
limited= grouped= reader= holder=

end() {
  # Killed and waited for, since a group with a process in it can't be removed.
  for pid in $reader $holder; do kill -KILL "$pid" 2>/dev/null; done
  wait 2>/dev/null
  [[ -z $grouped ]] || rmdir "$grouped"
  [[ -z $limited || $limited == "$grouped" ]] || rmdir "$limited"
  rm -rf "$work"
}
trap end EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
trap 'exit 129' HUP

skip_all() {
  echo "SKIP pressure: $1"
  exit 0
}

[[ -f $lib ]] || { echo "FAIL pressure: there is no $lib"; exit 1; }
for source in "$here"/pressure/*.c "$here/background/refuse.c"; do
  name=$(basename "$source" .c)
  if ! ${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O1 -g -fno-builtin -Wall -Wextra -Wno-unused-function \
    -I"$here/../include" "$source" -lpthread -o "$work/$name"; then
    echo "FAIL pressure: $name.c does not compile"
    exit 1
  fi
done

# ---- what this machine has ----

mount_of() { awk -v type="$1" -v option="$2" '$3 == type && "," $4 "," ~ "," option "," { print $2; exit }' /proc/mounts; }

[[ -r /proc/pressure/memory ]] || skip_all "this kernel doesn't tell memory pressure"
unified=$(mount_of cgroup2 rw)
if [[ -n $unified ]] && mkdir "$unified/quire-pressure.$$" 2>/dev/null; then grouped=$unified/quire-pressure.$$; fi
if [[ -n $grouped && -e $grouped/memory.max ]]; then
  limited=$grouped
  limit_file=memory.max
else
  v1=$(mount_of cgroup memory)
  if [[ -n $v1 ]] && mkdir "$v1/quire-pressure.$$" 2>/dev/null; then limited=$v1/quire-pressure.$$; fi
  limit_file=memory.limit_in_bytes
fi
[[ -n $limited ]] || skip_all "no control group with a memory limit can be made here"

# ---- the tests ----

stalls_us() { sed -n 's/^some .*total=//p' "$1"; }

# inside GROUPS COMMAND...: runs it there, in place of this shell.
inside() {
  local group
  for group in $1; do echo "$BASHPID" >"$group/cgroup.procs" || exit 1; done
  shift
  exec "$@"
}

# gives_back NAME GROUPS LIMIT FILE COMMAND...: the command holds memory in these groups; FILE counts the stalls that it can see.
gives_back() {
  local name=$1 groups=$2 limit=$3 file=$4 before held code stalled
  shift 4
  if ! echo $((limit << 20)) >"$limited/$limit_file" 2>"$work/error"; then
    echo "SKIP $name: no limit to be set: $(<"$work/error")"
    return
  fi
  before=$(stalls_us "$file")
  rm -f "$work/says"
  mkfifo "$work/says" # it says when it holds
  (inside "$groups" env "$@" "$work/holds") >"$work/says" 2>&1 &
  holder=$!
  exec 3<"$work/says"
  IFS= read -r held <&3
  if [[ $held == held ]]; then
    (inside "${groups:-$limited}" "$work/thrashes" "$work/file" "$file_mib") &
    reader=$!
  fi
  held="$held $(tr '\n' ' ' <&3)"
  exec 3<&-
  wait "$holder"
  code=$?
  holder=
  if [[ -n $reader ]]; then
    kill -KILL "$reader"
    wait "$reader" 2>/dev/null
    reader=
  fi
  stalled=$(($(stalls_us "$file") - before))
  if ((code == 0)); then
    echo "PASS $name"
  elif [[ $held != held* ]] && ((stalled > 0)); then
    echo "SKIP $name: somebody else brings memory pressure already"
  elif [[ $held == held* ]] && ((stalled < enough_us)); then
    echo "SKIP $name: only $((stalled / 1000)) ms of stalls to be had in a minute"
  else
    echo "FAIL $name: status $code after $((stalled / 1000)) ms of stalls: $held"
    status=1
  fi
}

head -c "${file_mib}M" /dev/zero >"$work/file"
quire=(LD_PRELOAD="$lib" QUIRE_CONF="$conf")
if [[ -n $grouped && -r $grouped/memory.pressure ]]; then
  both=$grouped
  [[ $limited == "$grouped" ]] || both="$grouped $limited"
  gives_back "pressure of its own group" "$both" $((limit_mib + held_mib)) "$grouped/memory.pressure" "${quire[@]}"
  gives_back "pressure of its own group, without io_uring" "$both" $((limit_mib + held_mib)) "$grouped/memory.pressure" \
    "$work/refuse" EPERM ring env "${quire[@]}"
else
  echo "SKIP pressure of its own group: control groups don't tell pressure here"
fi
gives_back "pressure of the machine" "" "$limit_mib" /proc/pressure/memory "${quire[@]}"
exit $status
