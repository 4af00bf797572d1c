#!/bin/bash
# Programs on a machine that is said to have two nodes of memory: in a mount namespace the kernel's list of nodes is another
# file, and hwloc is told by its environment variables what to say. Memory of the second node is not to be had, which the
# kernel says when it is asked: that must do no harm.
# timeout: 600
set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
lib=$(realpath -m "${QUIRE_LIB:-$here/../build/libquire.so}")
unset LD_PRELOAD QUIRE_CONF
export HWLOC_SYNTHETIC="node:2 pu:1" HWLOC_THISSYSTEM=1
work=$(mktemp -d "${TMPDIR:-/tmp}/quire-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
trap 'exit 129' HUP
failures=0
seconds=4
[[ ${QUIRE_LONG:-0} == 0 ]] || seconds=120

fail() {
  echo "FAIL $1: $2"
  failures=$((failures + 1))
}

skip_all() {
  echo "SKIP numa: $1"
  exit 0
}

build() { # NAME source... [flags...]
  local name=$1
  shift
  ${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O2 -g -fno-builtin -Wall -Wextra -I"$here/../include" -o "$work/$name" \
    "$@" -lpthread >"$work/cc.out" 2>&1 && return
  cat "$work/cc.out"
  fail "$name" "does not compile"
  exit 1
}

[[ -f $lib ]] || { echo "FAIL numa: there is no $lib"; exit 1; }
online=/sys/devices/system/node/online
[[ -e $online ]] || skip_all "the kernel has no $online"
namespace=(unshare -m)
((EUID == 0)) || namespace=(unshare -rm)
"${namespace[@]}" mount --bind /dev/null $online 2>"$work/err" || skip_all "no mount namespace: $(head -n 1 "$work/err")"
hwloc=$(ldconfig -p 2>/dev/null | sed -n 's/.*libhwloc\.so\.15 .*=> //p' | head -n 1)

build divided "$here/numa/divided.c"
build stress -w "$here/stress/stress.c"
build victim -w "$here/inject/victim.c"
[[ ! -f /usr/include/liburing.h ]] || build torture "$here/compact/torture.c" "$here/compact/torture_io.c" -luring

echo 0-1 >"$work/two"
echo 0 >"$work/one"

# on LIST CONF COMMAND...: with quire, where the kernel lists these nodes. hide=FILE is not to be found.
on() {
  local list=$1 conf=$2
  shift 2
  "${namespace[@]}" bash -c '
    mount --bind "$1" '$online' || exit 99
    [[ -z $2 ]] || mount --bind /dev/null "$2" || exit 99
    conf=$3 library=$4
    shift 4
    exec env LD_PRELOAD="$library" QUIRE_CONF="$conf" "$@"' - "$work/$list" "${hide:-}" "$conf" "$lib" "$@"
}

check() { # NAME COMMAND...
  local name=$1 status
  shift
  "$@" >"$work/out" 2>&1 </dev/null
  status=$?
  case $status in
    0)
      echo "PASS $name"
      sed -n '$s/^/  /p' "$work/out"
      ;;
    77) echo "SKIP $name: $(tail -n 1 "$work/out")" ;;
    *) fail "$name" "status $status: $(tail -n 5 "$work/out" | tr '\n' ' ')" ;;
  esac
}

soon=background_threshold:1M,decay_ms:50
check "one node" on one $soon "$work/divided" 1
check "numa:off" on two $soon,numa:off "$work/divided" 3
check "a program with a memory policy" on two $soon "$work/divided" 6 policy
if [[ -z $hwloc ]]; then
  check "no hwloc" on two $soon "$work/divided" 4
  echo "SKIP two nodes: there is no libhwloc.so.15"
  exit $((failures != 0))
fi
hide=$hwloc check "no hwloc" on two $soon "$work/divided" 4
HWLOC_THISSYSTEM=0 check "hwloc describes another machine" on two $soon "$work/divided" 5
HWLOC_SYNTHETIC="node:1 pu:2" check "hwloc knows of one node" on two $soon "$work/divided" 5
check "two nodes" on two $soon "$work/divided" 2
check "two nodes, huge:always" on two $soon,huge:always "$work/divided" 2
check "two nodes, compact:aggressive" on two $soon,compact:aggressive "$work/divided" 2
check "two nodes, check:on" on two $soon,check:on "$work/divided" 2
check "two nodes, stress" on two $soon timeout 120 "$work/stress" $seconds 8 "${QUIRE_SEED:-$RANDOM}"
check "two nodes, little address space" on two $soon bash -c "ulimit -v 300000 && exec $work/victim 10000 22"
if [[ -x $work/torture ]]; then
  mkdir "$work/files"
  check "two nodes, torture" on two $soon timeout 300 "$work/torture" $((2 * seconds)) "$work/files"
fi
check "the report" on two $soon,stats:on "$work/divided" 2
grep -q '^nodes of memory: several, the heap is divided' "$work/out" || fail "the report" "nothing of nodes: $(tail -n 3 "$work/out")"

# What the quire command says of such a process, while it stands still: by node, and all of it.
shown() {
  local pid stdout=$work/busy.out try tried=77
  "${namespace[@]}" bash -c 'mount --bind "$1" '$online' && shift && exec "$@"' - "$work/two" \
    env LD_PRELOAD="$lib" QUIRE_CONF=$soon "$work/target" busy >"$stdout" 2>&1 &
  pid=$!
  for ((try = 0; try < 2000 && tried == 77; try++)); do
    kill -0 $pid || { cat "$stdout"; return 1; }
    "$quire" stat --json $pid >"$work/json" 2>/dev/null && grep -q '"nodes": 2' "$work/json" && tried=0
    read -rt 0.01 <> <(:)
  done
  ((tried == 0)) && kill -STOP $pid && "$quire" stat --json $pid >"$work/json" && "$quire" stat $pid >"$work/page"
  tried=$?
  kill -KILL $pid
  wait $pid 2>/dev/null
  ((tried == 0)) || { echo "no two nodes were seen"; return 1; }
  [[ $(grep -cE '^  on node [12] of 2' "$work/page") == 2 ]] && grep '^nodes of memory: the heap is divided' "$work/page" || return 1
  python3 - "$work/json" <<'PY'
import json, sys
s = json.load(open(sys.argv[1]))["stats"]
# The program is at work between the look at the one and at the others.
off = abs(sum(s["node_frames"]) - s["frames_used"])
assert len(s["node_frames"]) == 3 and off * 10 <= s["frames_used"], s
print("frames by node:", *s["node_frames"])
PY
}
quire=${QUIRE_COMMAND:-$here/../build/quire}
if [[ -x $quire ]] && command -v python3 >/dev/null; then
  build target "$here/quire/target.c"
  check "quire stat tells of two nodes" shown
else
  echo "SKIP quire stat tells of two nodes: there is no quire command, or no python3"
fi
exit $((failures != 0))
