#!/bin/bash
# quire map and quire record of programs that allocate, fork, execute and end at full speed: every answer that is
# accepted adds up, every refusal says why, and the program goes on. (tests/quire.sh does the same with quire stat.)
# timeout: 600
set -u
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/.." || exit 1
quire=${QUIRE_COMMAND:-$PWD/build/quire}
library=${QUIRE_LIB:-$PWD/build/libquire.so}
[[ -f $library ]] || { echo "FAIL quire-alive: $library is missing: make"; exit 1; }
[[ -x $quire ]] || { echo "SKIP quire-alive: the command was not built (make deps, make)"; exit 0; }
scope=$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)
if [[ $scope == 3 || ($scope == 2 && $(id -u) != 0) ]]; then
  echo "SKIP quire-alive: ptrace_scope is $scope: no process may read another"
  exit 0
fi
unset QUIRE_CONF LD_PRELOAD
rounds=30
[[ ${QUIRE_LONG:-0} == 0 ]] || rounds=1000
dir=$(mktemp -d "${TMPDIR:-/tmp}/quire-alive.XXXXXX") || exit 1
status=0
target=
end_target() {
  [[ -n $target ]] || return
  kill -KILL "$target"
  wait "$target" 2>/dev/null
  target=
}
trap 'end_target; rm -rf "$dir"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Iinclude -o "$dir/target" tests/quire/target.c -lpthread ||
  { echo "FAIL quire-alive: the target does not compile"; exit 1; }

launch() { # OPTIONS WHAT: $target is its number, once it is ready
  : >"$dir/out"
  LD_PRELOAD=$library QUIRE_CONF=$1 "$dir/target" "$2" >"$dir/out" 2>"$dir/target.err" &
  target=$!
  tail -n +1 -f --pid="$target" "$dir/out" 2>/dev/null | grep -q -m 1 ready
}

# What is accepted adds up: each frame is of one kind, what has no memory isn't held,
# slabs have room for their frames, and free slots are slots.
adds_up() { # FILE: answers of map --json, one behind the other
  awk '
    function end_of_answer() {
      if (answers == 0) return
      if (kinds != frames || frames % 512 != 0) bad = bad " " answers ": " kinds " of " frames " frames;"
      if (n["frames_held"] > frames - n["unused"] - n["discarded"] - n["guest"] - n["hollow"]) bad = bad " " answers ": held;"
      if (n["slab"] + n["host"] + n["guest"] + n["hollow"] > 64 * n["slabs"]) bad = bad " " answers ": slabs;"
      if (n["free_slots"] > n["slots"] || n["hugepages_used"] * 512 > frames) bad = bad " " answers ": counts;"
      all += frames
      unsure += n["unsure"]
    }
    /^\{/ { end_of_answer(); answers++; kinds = 0; whole = 0 }
    /^\}/ { whole = 1 }
    /^ *"kinds"/ { in_kinds = 1 }
    /^  \}/ { in_kinds = 0 }
    /: [0-9]+,?$/ {
      gsub(/[",:]/, "")
      n[$1] = $2
      if ($1 == "frames") frames = $2
      if (in_kinds) kinds += $2
    }
    END {
      end_of_answer()
      if (!whole) bad = bad " the last is cut off;"
      if (unsure * 20 > all) bad = bad " " unsure " of " all " frames are unsure;"
      print bad == "" ? answers " answers, " all " frames, of which " unsure " were changing" : substr(bad, 1, 300)
      exit bad != ""
    }' "$1"
}

# An answer that is accepted is kept. A child, not the target, may have executed something or ended meanwhile.
ask() { # PID COMMAND...
  local pid=$1 got
  shift
  "$@" >"$dir/answer" 2>"$dir/err"
  got=$?
  asked=$((asked + 1))
  case $got in
    0)
      [[ ! -s $dir/answer ]] || { cat "$dir/answer" >>"$dir/answers"; accepted=$((accepted + 1)); }
      [[ $pid == "$target" ]] || of_children=$((of_children + 1))
      return 0
      ;;
    1 | 3 | 4) [[ $pid != "$target" && -s $dir/err && ! -s $dir/answer ]] && return 1 ;;
  esac
  wrong="$wrong status $got of $*: $(head -n 1 "$dir/err");"
  return 1
}

# As often as there are rounds: the target and (true) its children.
ask_all() { # NAME CHILDREN
  local name=$1 children=$2 asked=0 accepted=0 of_children=0 wrong='' found pid i
  : >"$dir/answers"
  for ((i = 0; i < rounds; i++)); do
    for pid in $($children && pgrep -P "$target") $target; do
      ask "$pid" "$quire" map --json "$pid"
      ask "$pid" "$quire" record -n 2 --every 1 -o "$dir/alive.qrec" "$pid" && ask "$target" "$quire" map --json "$dir/alive.qrec"
    done
  done
  found=$(adds_up "$dir/answers")
  echo "# $asked times asked: $found; $of_children were of children"
  [[ -z $wrong && $found == "$accepted answers"* ]] && ((accepted >= 2 * rounds)) && { ! $children || ((of_children > 0)); } && kill -0 "$target" && [[ ! -s $dir/target.err ]]
  if [[ $? == 0 ]]; then
    echo "PASS $name"
  else
    echo "FAIL $name: ${wrong:0:300} $found $(head -n 1 "$dir/target.err")"
    status=1
  fi
}

launch '' busy
ask_all "a busy program" false
end_target
launch background_threshold:0 fork
ask_all "a program that forks" true
end_target
exit $status
