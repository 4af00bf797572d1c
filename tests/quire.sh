#!/bin/bash
# The quire command against live targets: what it says, what it refuses, and that nobody is harmed.
# timeout: 900
set -u
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/.." || exit 1
quire=${QUIRE_COMMAND:-$PWD/build/quire}
library=${QUIRE_LIB:-$PWD/build/libquire.so}
objects=${QUIRE_OBJECTS:-$PWD/build} # and SANITIZE=-fsanitize=..., if they were built so
[[ -f $library ]] || { echo "FAIL quire: $library is missing: make"; exit 1; }
[[ -x $quire ]] || { echo "SKIP quire: the command was not built (make deps, make)"; exit 0; }
rounds=30
[[ ${QUIRE_LONG:-0} == 0 ]] || rounds=1000
dir=$(mktemp -d)
chmod 755 "$dir"
status=0
pids=()
unset QUIRE_CONF LD_PRELOAD

end_all() {
  local pid
  for pid in "${pids[@]}"; do
    kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
  done
  pids=()
}
trap 'end_all; rm -rf "$dir"' EXIT

pass() { echo "PASS $1"; }
fail() { echo "FAIL $1: $2"; status=1; }
verdict() { # NAME REASON: fails unless the last command succeeded
  if [ $? -eq 0 ]; then pass "$1"; else fail "$1" "$2"; fi
}

# NAME STATUS PATTERN COMMAND...: ends with this status, and says this on either output.
says() {
  local name=$1 want=$2 pattern=$3 got
  shift 3
  timeout 60 "$@" >"$dir/out" 2>"$dir/err" </dev/null
  got=$?
  if [[ $got != "$want" ]]; then
    fail "$name" "status $got instead of $want: $(head -c 300 "$dir/err" | tr '\n' ' ')"
  elif [[ -n $pattern ]] && ! cat "$dir/out" "$dir/err" | tr '\n' ' ' | grep -qE -- "$pattern"; then
    fail "$name" "says '$(cat "$dir/out" "$dir/err" | head -c 300 | tr '\n' ' ')'"
  else
    pass "$name"
  fi
}

# LIBRARY OPTIONS WHAT: starts the target in the background and waits until it is ready; $target is its number.
launch() {
  : >"$dir/$3.out"
  LD_PRELOAD=$1 QUIRE_CONF=$2 "$dir/target" "$3" >"$dir/$3.out" 2>"$dir/$3.err" &
  target=$!
  pids+=("$target")
  await "$target" "$dir/$3.out" ready
}

# PID FILE TEXT: until the file has a line of this text, or the process has ended.
await() {
  : >>"$2" # the process may not have got so far as to make it
  tail -n +1 -f --pid="$1" "$2" 2>/dev/null | grep -q -m 1 -- "$3"
}

compile() { # OUTPUT ARGUMENT...
  ${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O1 -g -Wall -Wextra ${SANITIZE:-} -I. -Iinclude -o "$@" ||
    { echo "FAIL quire: $1 does not compile"; exit 1; }
}
SANITIZE='' compile "$dir/target" tests/quire/target.c -lpthread
SANITIZE='' compile "$dir/other" -rdynamic tests/quire/other.c
compile "$dir/reader" tests/quire/reader.c "$objects"/tools/quire/{process,elf,snapshot,draw,numbers}.o \
  "$objects/alloc/fields.o"

# ---- what every subcommand has ----

commands=$("$quire" --help | sed -n 's/^  \([a-z]\{1,\}\) .*/\1/p')
lacking=
for c in $commands; do
  "$quire" "$c" --help >"$dir/help" 2>&1 || lacking="$lacking $c(status)"
  grep -q "^usage: quire $c" "$dir/help" || lacking="$lacking $c(usage)"
  grep -q '^examples:' "$dir/help" || lacking="$lacking $c(examples)"
  grep -q '^ *--json ' "$dir/help" || lacking="$lacking $c(json)"
  grep -q '^exit status:' "$dir/help" || lacking="$lacking $c(status)"
  "$quire" "$c" --no-such-option >/dev/null 2>&1
  [[ $? == 2 ]] || lacking="$lacking $c(2)"
done
[[ $(wc -w <<<"$commands") -ge 9 && -z $lacking ]]
verdict help "lacking:$lacking"
says no_command 2 'usage: quire COMMAND' "$quire"
says wrong_command 2 "no command 'frobnicate'" "$quire" frobnicate
says version 0 "^quire $(sed -n 's/#define QUIRE_VERSION "\(.*\)"/\1/p' include/quire.h)" "$quire" --version
says no_pid 2 'of which process' "$quire" stat
says bad_pid 2 "'12x' is not the number" "$quire" purge 12x
says bad_source 2 "'12x' is neither the number" "$quire" stat 12x
says full_output 1 "can't write" sh -c "'$quire' --help >/dev/full && exit 0; '$quire' doctor >/dev/full"

if command -v groff >/dev/null; then
  "$quire" --man >"$dir/quire.1" && groff -man -ww -Tutf8 "$dir/quire.1" >"$dir/man" 2>"$dir/err"
  lacking=
  for c in $commands; do grep -q "usage: quire $c" "$dir/man" || lacking="$lacking $c"; done
  [[ -z $lacking && ! -s $dir/err ]]
  verdict man_page "lacking:$lacking $(head -n 2 "$dir/err")"
else
  echo "SKIP man_page: no groff here"
fi

completes() { # NAME EXPECTED WORD...: the last word is completed
  local name=$1 expected=$2 got
  shift 2
  # shellcheck disable=SC2016
  got=$(PATH=$(dirname "$quire"):$PATH bash -c '. tools/quire/quire.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
    _quire 2>/dev/null; echo "${COMPREPLY[*]}"' - "$@")
  [[ $got == "$expected" ]]
  verdict "$name" "'$got'"
}
completes completes_commands "purge" quire pu
completes completes_options "--prometheus" quire stat --p
completes completes_no_words_of_examples "" quire record --forc
completes completes_options_of_map "--theme=" quire map --th
completes completes_values "light" quire map --theme = l
completes completes_values_behind_equals "light dark" quire map --theme =
completes completes_separate_values "overhead" quire top --sort o
completes completes_allocator_values "auto aggressive" quire run --compact = a
completes completes_output_files "$dir/other" quire map -o "$dir/oth"
completes completes_allocator_options "--huge= --huge_threshold=" quire run --huge

# ---- processes that can't be looked at ----

sleep 1000 &
pids+=($!)
plain=$!
"$dir/other" >"$dir/other.out" &
pids+=($!)
other=$!
await "$other" "$dir/other.out" ready
lookers=("stat" "map" "map -o $dir/x.png" "record -o $dir/x.qrec" "compact" "purge" "top --once" "top --json")
for looker in "${lookers[@]}"; do
  read -ra words <<<"$looker"
  says "no_process: ${looker%% $dir*}" 3 'there is no process' "$quire" "${words[@]}" 4194303
  says "not_quire: ${looker%% $dir*}" 4 'does not run quire' "$quire" "${words[@]}" "$plain"
  says "other_version: ${looker%% $dir*}" 6 'header is version 99' "$quire" "${words[@]}" "$other"
done
[[ ! -e $dir/x.png && ! -e $dir/x.qrec ]]
verdict nothing_is_written_of_nothing "there are files"

launch "$library" background:off still
still=$target
kill -STOP "$still"
if [[ $(id -u) == 0 ]] && setpriv --reuid=65534 --regid=65534 --clear-groups true 2>/dev/null; then
  cp "$quire" "$dir/quire-as-nobody"
  for looker in "${lookers[@]}"; do
    read -ra words <<<"$looker"
    says "denied: ${looker%% $dir*}" 5 "may not be read.*another user's.*CAP_SYS_PTRACE" \
      setpriv --reuid=65534 --regid=65534 --clear-groups "$dir/quire-as-nobody" "${words[@]}" "$still"
  done
else
  echo "SKIP denied: not root, nobody to be another user"
fi

# ---- the same numbers as the library's own ----

"$dir/reader" equals "$still" "$dir/still.out" >"$dir/equals"
verdict stopped_target_equals_library "$(cat "$dir/equals")"
"$dir/reader" fuzz "$still" $((rounds * 30)) >"$dir/fuzz" 2>&1
verdict corrupted_targets "$(tail -n 3 "$dir/fuzz" | tr '\n' ' ')"
echo "# $(cat "$dir/fuzz")"
kill -CONT "$still"

# ---- stat ----

"$quire" stat "$still" >"$dir/page"
lines=$(grep -cE '^(live|overhead|what the kernel says|hugepages|compaction|so far|made of)' "$dir/page")
[[ $lines == 7 ]] && ! grep -q $'\033' "$dir/page" && [[ $(wc -l <"$dir/page") -le 60 ]]
verdict stat_page "$lines parts of 7, or colours, or too long"
if command -v python3 >/dev/null; then
  "$quire" stat --json "$still" >"$dir/json"
  python3 - "$dir/json" "$still" 2>"$dir/err" <<'PY'
import json, sys
o = json.load(open(sys.argv[1]))
assert o["pid"] == int(sys.argv[2]) and o["comm"] == "target"
over = o["overhead"]
assert over["total"] == sum(v for k, v in over.items() if k != "total")
assert o["heap"] == o["live"] + over["total"]
assert o["stats"]["live"] == o["live"] > 0
assert o["options"]["background"] == "off" and o["options"]["compact"] == "auto"
assert o["kernel"]["heap_pss"] <= o["kernel"]["pss"]
PY
  verdict stat_json "$(tail -n 1 "$dir/err")"
else
  echo "SKIP stat_json: no python3 here"
fi
"$quire" stat --watch=0.1 --count=3 --prometheus "$still" >"$dir/watch"
[[ $(grep -c '^quire_live_bytes{' "$dir/watch") == 3 ]]
verdict stat_watch "not three pages"

exposition() { # FILE: each metric's HELP and TYPE once and before its samples; samples well-formed
  awk '/^# HELP /{ if (help[$3]++) bad = bad " HELP " $3; next }
    /^# TYPE /{ if (type[$3]++ || !help[$3]) bad = bad " TYPE " $3; current = $3; next }
    { name = $0; sub(/[{ ].*/, "", name); samples++
      if (name != current) bad = bad " order " name
      if ($0 !~ /^quire_[a-z_]+(\{([a-z]+="([^"\\]|\\.)*",?)+\})? [0-9.]+$/) bad = bad " line " $0 }
    END { print bad; exit bad != "" || samples < 30 }' "$1"
}
"$quire" stat --prometheus "$still" >"$dir/metrics"
found=$(exposition "$dir/metrics")
verdict stat_prometheus "$found"

# Nodes of memory, of a recording that is made by hand: three nodes, of what else is as it is in the target.
compile "$dir/nodes" tests/quire/nodes.c \
  "$objects"/tools/quire/{process,elf,snapshot,draw,numbers,recorder,columns}.o -lz
for case in three one absurd; do "$dir/nodes" "$case" "$still" "$dir/$case.qrec" || fail "nodes_$case" "no recording"; done
says nodes_text 0 "nodes of memory: the heap is divided by them +on no known node +4.0 KiB +0.2 % +on node 1 of 3 +8.0 KiB\
 +0.5 % +on node 2 of 3 +0 B +0.0 % +on node 3 of 3 +1.6 MiB +99.3 % +brought to another +20.0 KiB +7 folios\
 +not brought: refused +44.0 KiB +so far" "$quire" stat "$dir/three.qrec"
"$quire" stat "$dir/one.qrec" >"$dir/page" && grep -q '^so far' "$dir/page" && ! grep -q 'node' "$dir/page"
verdict nodes_of_one_are_not_told "$(grep node "$dir/page" | tr '\n' ' ')"
says nodes_json 0 '"node_frames": \[ +1, +2, +0, +407 +\]' "$quire" stat --json "$dir/three.qrec"
says nodes_absurd 0 'on node 32 of 32 ' "$quire" stat "$dir/absurd.qrec"
"$quire" stat --prometheus "$dir/three.qrec" >"$dir/metrics"
found=$(exposition "$dir/metrics") && grep -q '^quire_nodes{.*} 3$' "$dir/metrics" &&
  [[ $(sed -n 's/^quire_node_frames_bytes{.*,node="\([0-9]\)"} /\1:/p' "$dir/metrics" | tr '\n' ' ') == '0:4096 1:8192 2:0 3:1667072 ' ]]
verdict nodes_prometheus "$found $(grep node_frames "$dir/metrics" | tr '\n' ' ')"

# ---- run ----

says run_status 7 '' "$quire" run --library="$library" sh -c 'exit 7'
says run_preloads 0 libquire "$quire" run --library="$library" cat /proc/self/maps
says run_options 0 '^huge:never,decay_ms:7,compact:off *$' env QUIRE_CONF=huge:never "$quire" run \
  --library="$library" -o decay_ms:7 --compact=off sh -c 'echo $QUIRE_CONF'
[[ -n ${SANITIZE:-} ]] || says run_keeps_preload 0 "^$library:$library *$" env LD_PRELOAD="$library" "$quire" run --library="$library" \
  sh -c 'echo $LD_PRELOAD'
says run_print 0 "^LD_PRELOAD='$library' QUIRE_CONF='check:on' echo hello *$" \
  "$quire" run --library="$library" --print --check=on echo hello
says run_json 0 "\"LD_PRELOAD\": \"$library\", +\"QUIRE_CONF\": \"check:on\" +\}, +\"arguments\": \[ +\"echo\", +\"a b\"" \
  "$quire" run --library="$library" --json --check=on echo "a b"
says run_json_refuses 127 'no such program' "$quire" run --library="$library" --json no-such-program-anywhere
says record_json 0 "^\{ +\"file\": \"$dir/x.qrec\", +\"pid\": $still, +\"snapshots\": 2, +\"seconds\": [0-9.]+, +\"bytes\": [1-9][0-9]*,\
 +\"live\": [1-9][0-9]*, +\"ended\": false \} *$" "$quire" record --json -n 2 --every 1 -o "$dir/x.qrec" "$still"
says run_wrong_option 2 'no option "huge_tresold"' "$quire" run -o huge_tresold:1 true
says run_wrong_value 2 'decay_ms:soon is not possible' "$quire" run --decay_ms=soon true
says run_no_program 127 'no such program' "$quire" run --library="$library" no-such-program-anywhere
says run_nothing 2 'which program' "$quire" run
says run_program_options 0 '^--json' "$quire" run --library="$library" echo --json

printf 'int main(void) { return 0; }\n' >"$dir/empty.c"
if cc -static "$dir/empty.c" -o "$dir/static" 2>/dev/null; then
  says run_static 126 'linked statically' "$quire" run --library="$library" "$dir/static"
  printf '#!%s\n' "$dir/static" >"$dir/script"
  chmod +x "$dir/script"
  says run_script_of_static 126 "$dir/static is linked statically" "$quire" run --library="$library" "$dir/script"
  says run_force 0 '' "$quire" run --force --library="$library" "$dir/static"
else
  echo "SKIP run_static: no static libc here"
fi
printf '#!/bin/sh\ngrep -c libquire /proc/self/maps\n' >"$dir/script"
chmod +x "$dir/script"
says run_script 0 '^[1-9]' "$quire" run --library="$library" "$dir/script"
cp /bin/true "$dir/foreign"
printf '\x28\x00' | dd of="$dir/foreign" bs=1 seek=18 conv=notrunc 2>/dev/null # EM_ARM
says run_foreign 126 'another architecture' "$quire" run --library="$library" "$dir/foreign"
if [[ -x $dir/quire-as-nobody ]]; then
  cp /bin/true "$dir/setuid"
  chmod 4755 "$dir/setuid"
  says run_setuid 126 'is setuid' setpriv --reuid=65534 --regid=65534 --clear-groups \
    "$dir/quire-as-nobody" run --library="$library" "$dir/setuid"
else
  echo "SKIP run_setuid: not root"
fi

# ---- doctor ----

says doctor 0 'a program that user [0-9]+ starts here: [0-9]+ gaps?' "$quire" doctor
says doctor_of_target 0 'process [0-9]+, on quire .*background thread' "$quire" doctor "$still"
says doctor_no_process 3 'there is no process' "$quire" doctor 4194303
if [[ -x $dir/quire-as-nobody && $(cat /proc/sys/vm/unprivileged_userfaultfd) == 0 ]]; then
  says doctor_unprivileged 0 'gap +userfaultfd: not permitted.*OpenFile=/dev/userfaultfd:userfaultfd.*sysctl -w' \
    setpriv --reuid=65534 --regid=65534 --clear-groups "$dir/quire-as-nobody" doctor
fi
if command -v python3 >/dev/null; then
  "$quire" doctor --json >"$dir/json"
  python3 - "$dir/json" 2>"$dir/err" <<'PY'
import json, sys
o = json.load(open(sys.argv[1]))
order = {"gap": 0, "note": 1, "good": 2}
states = [order[f["state"]] for f in o["findings"]]
assert states == sorted(states) and len(states) >= 12
assert all(f["cost"] and f["fixes"] for f in o["findings"] if f["state"] == "gap")
PY
  verdict doctor_json "$(tail -n 1 "$dir/err")"
fi

# ---- purge and compact ----

says purge_without_thread 1 'no background thread.*background_threshold' "$quire" purge "$still"
launch "$library" background_threshold:0,compact:off,decay_ms:3600000 sparse
sparse=$target
says purge 0 'target \(process [0-9]+\): [0-9.]+ [KM]iB gained by purge' "$quire" purge "$sparse"
says compact 0 'target \(process [0-9]+\): [0-9.]+ [KM]iB gained by compact' "$quire" compact "$sparse"
says compact_json 0 '"gained": [0-9]+' "$quire" compact --json "$sparse"
kill -STOP "$sparse"
says compact_stopped 1 'has not answered within 0.3 s' "$quire" compact --timeout=0.3 "$sparse"
kill -CONT "$sparse"
says compact_after_stop 0 'gained by compact' "$quire" compact "$sparse"
for ((i = 0; i < rounds; i++)); do
  "$quire" purge "$sparse" >/dev/null &
  "$quire" compact "$sparse" >/dev/null &
done
failed=0
for job in $(jobs -p); do
  case " ${pids[*]} " in *" $job "*) ;; *) wait "$job" || failed=$((failed + 1)) ;; esac
done
((failed == 0)) && kill -0 "$sparse"
verdict many_askers "$failed of $((2 * rounds)) were not answered"

SANITIZE='' compile "$dir/refuse" tests/compact/refuse.c
if "$dir/refuse" kill true >/dev/null && [[ $(id -u) == 0 ]]; then
  : >"$dir/filtered.out"
  "$dir/refuse" kill env LD_PRELOAD="$library" QUIRE_CONF=background_threshold:0 "$dir/target" sparse \
    >"$dir/filtered.out" &
  pids+=($!)
  await $! "$dir/filtered.out" ready
  says purge_under_a_filter 0 'gained by purge' "$quire" purge $!
  says filtered_is_not_meshed 0 'gap +seccomp: a filter' "$quire" doctor $!
else
  echo "SKIP purge_under_a_filter: not root, or no filter is to be had"
fi

# ---- libraries that are gone, programs without symbols, other namespaces ----

cp "$library" "$dir/libquire-gone.so"
launch "$dir/libquire-gone.so" '' sparse
rm "$dir/libquire-gone.so"
says deleted_library 0 'target .*live in a heap' "$quire" stat "$target"
if cc -O1 -std=gnu17 -D_GNU_SOURCE -Iinclude -static tests/quire/target.c \
  -Wl,--whole-archive "${library%.so}.a" -Wl,--no-whole-archive -lpthread -o "$dir/whole" 2>/dev/null; then
  strip -o "$dir/stripped" "$dir/whole"
  for kind in whole stripped; do
    QUIRE_CONF=background:off "$dir/$kind" sparse >"$dir/whole.out" &
    pids+=($!)
    await $! "$dir/whole.out" ready
    says "static_${kind}_program" 0 "$kind .*live in a heap" "$quire" stat $!
    kill $!
  done
else
  echo "SKIP static_program: it does not link statically here"
fi
if unshare --pid --fork true 2>/dev/null; then
  : >"$dir/sparse.out"
  LD_PRELOAD=$library QUIRE_CONF=background_threshold:0 unshare --pid --fork --kill-child "$dir/target" sparse \
    >"$dir/sparse.out" &
  pids+=($!)
  await $! "$dir/sparse.out" ready
  inside=$(pgrep -P $! -x target)
  says other_pid_namespace 0 'gained by purge' "$quire" purge "$inside"
else
  echo "SKIP other_pid_namespace: not permitted to make one"
fi

# ---- targets at full speed ----

launch "$library" '' busy
busy=$target
"$dir/reader" live "$busy" "$rounds" >"$dir/live"
verdict snapshots_of_a_busy_target "$(cat "$dir/live")"
echo "# $(cat "$dir/live")"
wrong=0
for ((i = 0; i < rounds; i++)); do
  "$quire" stat --prometheus "$busy" >"$dir/metrics" 2>"$dir/err" && grep -q '^quire_live_bytes{' "$dir/metrics" ||
    wrong=$((wrong + 1))
done
((wrong == 0)) && kill -0 "$busy"
verdict stat_of_a_busy_target "$wrong of $rounds failed: $(head -n 1 "$dir/err")"
kill "$busy"

# The parent forks all the time; each look also finds some child that lives, executes or ends just then.
launch "$library" background_threshold:0 fork
forker=$target
wrong=0 looks=0
for ((i = 0; i < rounds; i++)); do
  for pid in $forker $(pgrep -P "$forker"); do
    "$quire" stat "$pid" >"$dir/page" 2>"$dir/err"
    got=$?
    looks=$((looks + 1))
    case $got in
      0) grep -q 'live in a heap' "$dir/page" || wrong=$((wrong + 1)) ;;
      1 | 3 | 4) [[ $pid != "$forker" && -s $dir/err ]] || wrong=$((wrong + 1)) ;;
      *) wrong=$((wrong + 1)) ;;
    esac
  done
  timeout 20 "$quire" purge "$forker" >/dev/null 2>"$dir/err" || grep -q 'no background thread' "$dir/err" ||
    wrong=$((wrong + 1))
done
((wrong == 0)) && kill -0 "$forker"
verdict stat_of_a_forking_target "$wrong of $looks looks went wrong: $(head -n 1 "$dir/err")"
kill "$forker"

# ---- export ----

"$quire" export --listen=127.0.0.1:0 >"$dir/export.out" 2>"$dir/err" &
pids+=($!)
export=$!
await "$export" "$dir/export.out" http
url=$(sed -n 's/^quire export: //p' "$dir/export.out")
if command -v curl >/dev/null; then
  curl -s --max-time 60 "$url" >"$dir/metrics"
  found=$(exposition "$dir/metrics") && grep -q "^quire_live_bytes{pid=\"$sparse\",comm=\"target\"} [1-9]" "$dir/metrics"
  verdict export_metrics "$found $(head -n 3 "$dir/metrics" | tr '\n' ' ')"
  codes=$(for request in "$url" "${url%metrics}" "${url%metrics}nothing" "-X DELETE $url"; do
    # shellcheck disable=SC2086
    curl -s -o "$dir/body" -w '%{http_code} ' --max-time 60 $request
  done)
  [[ $codes == '200 200 404 405 ' ]]
  verdict export_codes "$codes"
fi
address=${url#http://}
"$quire" export --json --listen=127.0.0.1:0 >"$dir/export.json" 2>"$dir/err" &
pids+=($!)
await $! "$dir/export.json" http
grep -qE '^\{"url": "http://127.0.0.1:[0-9]+/metrics"\}$' "$dir/export.json"
verdict export_json "$(cat "$dir/export.json" "$dir/err")"
says export_taken 1 'in use' "$quire" export --listen="${address%/metrics}"
says export_address 2 'not ADDRESS:PORT' "$quire" export --listen=nowhere
kill -TERM "$export"
wait "$export"
verdict export_ends "status $?"

# ---- top ----

says top_no_terminal 1 'no terminal' "$quire" top
says top_once 0 "PID COMMAND.*$sparse target" "$quire" top --once
says top_of_some 0 "^1 process,.*PID COMMAND.*$sparse target" "$quire" top --once "$sparse"
for command in stat map record top doctor compact purge; do
  completes "completes_processes_of_$command" "$sparse" quire $command "$sparse"
done
completes completes_processes_behind_an_option "$sparse" quire stat --watch "$sparse"
completes completes_recordings "$dir/three.qrec" quire map "$dir/thr"
says top_wrong_sort 2 'sort=heap' "$quire" top --sort=beauty
says top_wrong_theme 2 'theme is light or dark' "$quire" top --theme=pink
if command -v tmux >/dev/null; then
  terminals=0
  tmux() { command tmux -L "quire-test-$$-$terminals" -f /dev/null "$@" 2>/dev/null; }
  terminal() { # WIDTH HEIGHT COMMAND: a server of its own, as one that ends takes its time
    terminals=$((terminals + 1))
    tmux new-session -d -x "$1" -y "$2" "$3"
  }
  screen() { tmux capture-pane -p; }
  until_screen() { # PATTERN
    local t
    for ((t = 0; t < 200; t++)); do
      screen | grep -qE -- "$1" && return 0
      tmux has-session || return 1
      read -r -t 0.05 <> <(:)
    done
    return 1
  }
  until_over() {
    local t
    for ((t = 0; t < 200; t++)); do
      tmux has-session || return 0
      read -r -t 0.05 <> <(:)
    done
    return 1
  }
  for size in 80x24 200x60; do
    terminal "${size%x*}" "${size#*x}" "env TERM=screen $quire top --delay=0.2 --sort=pid $sparse $still"
    until_screen "$sparse target .* [0-9.]+ MiB" && until_screen "^ +$still target" && until_screen '^ +PID COMMAND .*MAPS' && until_screen 'q quit'
    verdict "top_$size" "$(screen | head -n 5 | tr '\n' '|')"
    tmux send-keys s
    until_screen 'sorted by heap'
    verdict "top_sorts_$size" "$(screen | head -n 2 | tr '\n' '|')"
    tmux send-keys Enter
    until_screen 'in slabs .*MiB' && until_screen 'Esc back'
    verdict "top_details_$size" "$(screen | head -n 5 | tr '\n' '|')"
    until_screen '^target .* held, .* live +a cell: ' || until_screen ' target [0-9]+ .* held, .* live +a cell: '
    verdict "top_map_$size" "$(screen | head -n 5 | tr '\n' '|')"
    # Beside each other: on one line the title of the map and that of the numbers. Else the numbers are below.
    screen >"$dir/screen"
    if [[ $size == 80x24 ]]; then
      [[ $(grep -nE '^target [0-9]+ |^ *free, given back |^target \(process |^  in slabs ' "$dir/screen" | grep -oE 'target [0-9]|free|target \(|in slabs' |
        tr '\n' ' ') =~ ^'target '[0-9]' free target ( in slabs '$ ]]
    else
      grep -qE '^target \(process .* target [0-9]+ .* held' "$dir/screen" && grep -qE '^  options|background thread' "$dir/screen"
    fi
    verdict "top_layout_$size" "$(head -c 2000 "$dir/screen" | tr '\n' '|')"
    tmux send-keys m
    for ((i = 0; i < 200; i++)); do
      screen >"$dir/screen"
      grep -q '^  in slabs ' "$dir/screen" || break
      read -r -t 0.05 <> <(:)
    done
    # It is the heap of a process that stands still: what quire map says of it, but for the time.
    pid=$(sed -n '3s/^target \([0-9]*\) .*/\1/p' "$dir/screen")
    COLUMNS=${size%x*} LINES=$((${size#*x} - 3)) "$quire" map "${pid:-1}" >"$dir/map"
    rows=$(wc -l <"$dir/map")
    ((rows > 8)) && diff <(sed -n "4,$((2 + rows))p" "$dir/screen" | sed 's/ *$//') <(sed -n '2,$s/ *$//p' "$dir/map") >"$dir/diff"
    verdict "top_map_is_quire_map_$size" "$rows rows; $(head -n 6 "$dir/diff" | tr '\n' '|')"
    tmux send-keys m
    until_screen '^  in slabs ' && ! screen | grep -q ' held, '
    verdict "top_numbers_alone_$size" "$(screen | head -n 5 | tr '\n' '|')"
    tmux send-keys m PPage
    until_screen ' held, '
    verdict "top_both_again_$size" "$(screen | head -n 5 | tr '\n' '|')"
    tmux send-keys Escape
    until_screen 'up/down select' && tmux send-keys P && until_screen 'purge of target.*gained|no background thread'
    verdict "top_purges_$size" "$(screen | tail -n 3 | tr '\n' '|')"
    tmux resize-window -x 60 -y 15 && until_screen 'quire top'
    verdict "top_resized_$size" "$(screen | head -n 3 | tr '\n' '|')"
    tmux send-keys q
    until_over
    verdict "top_ends_$size" "it still runs"
  done
  # Where there are 256 colours the map is drawn in them.
  terminal 120 40 "env TERM=screen-256color $quire top --delay=0.2 $still"
  until_screen "$still target" && tmux send-keys Enter && until_screen '^▀+' &&
    (($(tmux capture-pane -p -e | grep '▀' | grep -oE '48;5;[0-9]+' | sort -u | wc -l) >= 3))
  verdict top_map_in_colours "$(screen | head -n 6 | tr '\n' '|')"
  tmux send-keys q
  until_over
  terminal 120 40 "env NO_COLOR=1 TERM=screen-256color $quire top --delay=0.2 $still"
  until_screen "$still target" && tmux send-keys Enter && until_screen ' held, .* live' &&
    ! tmux capture-pane -p -e | grep -qE '▀|[34]8;5;'
  verdict top_map_without_colours "$(screen | head -n 6 | tr '\n' '|')"
  tmux send-keys q
  until_over
  # Who is looked at may end.
  launch "$library" '' sparse
  terminal 100 30 "env TERM=screen $quire top --delay=0.2 $target"
  until_screen "$target target" && tmux send-keys Enter && until_screen ' held, .* live' && kill -KILL "$target" && ! wait "$target" 2>/dev/null &&
    until_screen "process $target has ended" && until_screen 'no process runs quire'
  verdict top_details_of_one_that_ends "$(screen | tail -n 4 | tr '\n' '|')"
  tmux send-keys q
  until_over
  terminal 80 60 "$quire stat $sparse; read x"
  until_screen 'compaction' && tmux capture-pane -p -e | grep -q $'\033\[1m'
  verdict colours_on_terminals "none"
  tmux send-keys Enter
  terminal 80 60 "NO_COLOR=1 $quire stat $sparse; read x"
  until_screen 'compaction' && ! tmux capture-pane -p -e | grep -q $'\033\[1m'
  verdict no_color "there are, or nothing is"
  tmux send-keys Enter
else
  echo "SKIP top: no tmux here"
fi
exit $status
