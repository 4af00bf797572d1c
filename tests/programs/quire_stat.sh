#!/bin/bash
# What quire stat says of redis, Python and Node.js against the kernel's own accounting: smaps, and a control
# group that each runs in alone. Within 2 %.
# timeout: 300
. "$(dirname "$0")/lib.sh"
seer=${QUIRE_COMMAND:-$root/build/quire}
[[ -x $seer ]] || { skip quire_stat "the command was not built (make deps, make)"; finish; }
need python3

# A group of version 1 or 2 in which memory is counted; "" when none is to be had.
groups() {
  local v1=/sys/fs/cgroup/memory v2=/sys/fs/cgroup
  if [[ -w $v1/cgroup.procs ]]; then echo $v1; elif grep -qw memory $v2/cgroup.subtree_control 2>/dev/null; then
    echo $v2
  fi
}
base=$(groups)
group=
new_group() {
  group=
  [[ -n $base ]] || return 0
  group=$base/quire-test-$$-$1
  mkdir "$group" 2>/dev/null || group=
}
end_group() { [[ -z $group ]] || until_true 10 rmdir "$group"; }

# PID: of the whole process by the kernel, of the heap by quire and by the kernel, within 2 % of each other.
compare() { # name pid
  "$seer" stat --json "$2" >"$work/json" || { fail "$1" "stat: status $?"; return; }
  cp "/proc/$2/smaps_rollup" "$work/rollup"
  : >"$work/group"
  [[ -z $group ]] || cp "$group/memory.stat" "$work/group"
  python3 - "$1" "$work/json" "$work/rollup" "$work/group" <<'PY'
import json, sys
name, o = sys.argv[1], json.load(open(sys.argv[2]))
rollup = {w[0][:-1]: int(w[1]) << 10 for w in map(str.split, open(sys.argv[3])) if w[0].endswith(":")}
group = {k: int(v) for k, v in map(str.split, open(sys.argv[4]))}
kernel = o["kernel"]
def check(what, said, true):
    off = abs(said - true) / true * 100
    print("%s %s: %s%.1f MiB here, %.1f MiB by the kernel, %.2f %% off" % ("PASS" if off < 2 else "FAIL",
        name, what + ": ", said / 2**20, true / 2**20, off))
assert o["heap"] > 30 << 20, "too little to compare: %d" % o["heap"]
check("heap and smaps", o["heap"], kernel["heap_pss"])
check("process and smaps", kernel["pss"], rollup["Pss"])
if group:
    # What is not quire's: stacks, data of libraries. Files that are mapped are not the group's alone.
    rest = rollup["Pss_Anon"] + rollup["Pss_Shmem"] - kernel["heap_pss"]
    charged = group["rss"] + group.get("shmem", 0) if "rss" in group else group["anon"] + group["shmem"]
    check("heap and control group", o["heap"] + rest, charged)
else:
    print("SKIP %s: control group: none can be made here" % name)
PY
  [[ ${PIPESTATUS[0]} == 0 ]] || fail "$1" "see above"
}

# Large enough that what was allocated but never touched (which quire counts and the kernel doesn't: parts of folios,
# slots of new slabs, thread caches) is little beside the rest.
#
# NAME COMMAND...: starts it on quire in a group of its own; $program is its number.
begin_program() {
  local name=$1
  shift
  new_group "$name"
  mkfifo "$work/$name.hold"
  GROUP=$group QUIRE_CONF=background_threshold:0,compact:off PYTHONMALLOC=malloc "${on_quire[@]}" bash -c '[[ -z $GROUP ]] || echo $$ >"$GROUP/cgroup.procs"; exec "$@"' - "$@" \
    >"$work/$name.out" 2>&1 <>"$work/$name.hold" &
  program=$!
  servers+=("$program")
}

# NAME, once it has its heap.
judge_program() {
  "$seer" purge "$program" >"$work/purge" 2>&1 || fail "$1" "purge: $(cat "$work/purge")"
  compare "$1" "$program" >"$work/compare" 2>&1
  cat "$work/compare"
  grep -qE '^(PASS|FAIL)' "$work/compare" && ! grep -q '^FAIL' "$work/compare" || failures=$((failures + 1))
  stop_server "$program"
  end_group
}

begin_program python3 python3 -c '
import sys
held = [{"number": i, "text": "value %d " % i * 5} for i in range(600000)]
del held[::3]
print("ready", flush=True)
sys.stdin.readline()'
until_true 120 grep -q ready "$work/python3.out" || fail python3 "$(tail -n 1 "$work/python3.out")"
judge_program python3

if command -v node >/dev/null; then
  begin_program node node -e '
const held = [];
for (let i = 0; i < 90000; i++) held.push(Buffer.allocUnsafeSlow(1000 + i % 3000).fill(i));
for (let i = 0; i < held.length; i += 4) held[i] = null;
console.log("ready");
process.stdin.resume();'
  until_true 120 grep -q ready "$work/node.out" || fail node "$(tail -n 1 "$work/node.out")"
  judge_program node
else
  skip node "not installed"
fi

if command -v redis-server >/dev/null && command -v redis-benchmark >/dev/null; then
  begin_program redis redis-server --port 0 --unixsocket "$work/socket" --save "" --appendonly no
  until_true 60 sh -c "redis-cli -s '$work/socket' ping | grep -q PONG" || fail redis "it does not answer"
  redis-benchmark -s "$work/socket" -n 900000 -r 1200000 -d 150 -P 16 -q -t set >"$work/load" 2>&1 ||
    fail redis "the load: $(tail -n 1 "$work/load")"
  judge_program redis
else
  skip redis "not installed"
fi
finish
