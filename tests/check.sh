#!/bin/bash
# Runs every test and sums up: the unit tests in build/tests, the scripts beside this one, then the
# programs in tests/programs.
#
#   tests/check.sh [NAME...]      only these (a unit test, or a script without its .sh)
#
# A test prints one line per case: "PASS name", "FAIL name: reason" or "SKIP name: reason". As many run
# side by side as there are processors; a script with a line "# serial" runs alone, after the others. A
# line "# timeout: N" gives it N seconds instead of 600. What a test printed is kept in
# build/check/NAME.log. QUIRE_LONG=1 has the tests run whole instead of shortened.
set -u
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
unset LD_PRELOAD QUIRE_CONF
logs=build/check
mkdir -p "$logs"

long=${QUIRE_LONG:-0}
slots=$(nproc)
passed=0
failed=0
skips=()
declare -A path_of=() pid_name=() began=()

# Says whether NAME was asked for; without arguments everything is.
asked=" $* "
wanted() { [[ $asked == "  " || $asked == *" $1 "* ]]; }

side_by_side=()
alone=()
for path in build/tests/*_test tests/*.sh tests/programs/*.sh; do
  name=$(basename "$path" .sh)
  case $path in
    tests/check.sh | tests/programs/lib.sh) continue ;;
    build/*) [[ -f $path && -x $path ]] || continue ;;
    *) [[ -f $path ]] || continue ;;
  esac
  wanted "$name" || continue
  path_of[$name]=$path
  if [[ $path == *.sh ]] && grep -q '^# serial' "$path"; then alone+=("$name"); else side_by_side+=("$name"); fi
done
for name in "$@"; do
  [[ -n ${path_of[$name]:-} ]] || { echo "check: no test named $name" >&2; exit 2; }
done

start() {
  local name=$1 path=${path_of[$1]} limit= run=()
  if [[ $path == *.sh ]]; then
    limit=$(sed -n 's/^# timeout: *\([0-9]*\).*/\1/p' "$path" | head -n 1)
    run=("$(head -n 1 "$path" | grep -q bash && echo bash || echo sh)")
  fi
  limit=${limit:-600}
  [[ $long == 0 ]] || limit=$((limit * 20))
  # timeout makes a process group of its own and signals all of it, so nothing stays behind.
  timeout -k 15 "$limit" "${run[@]}" "./$path" >"$logs/$name.log" 2>&1 </dev/null &
  pid_name[$!]=$name
  began[$!]=$SECONDS
}

# Waits for one of the running tests and prints and counts what it had to say.
reap() {
  local pid status name log fails passes
  wait -n -p pid "${!pid_name[@]}"
  status=$?
  name=${pid_name[$pid]}
  log=$logs/$name.log
  unset "pid_name[$pid]"
  passes=$(grep -c '^PASS ' "$log")
  fails=$(grep -c '^FAIL ' "$log")
  grep -aE '^(PASS|FAIL|SKIP) ' "$log" | sed -E "s,^([A-Z]+) (.*),\1 $name: \2,"
  while IFS= read -r line; do skips+=("$name: ${line#SKIP }"); done < <(grep -a '^SKIP ' "$log")
  if ((fails == 0)); then
    # A test that died cannot say so itself.
    if ((status == 124 || status == 137)); then
      echo "FAIL $name: stopped after its time was over, or killed (status $status)"
      fails=1
    elif ((status != 0)); then
      echo "FAIL $name: ended with status $status and no FAIL line"
      fails=1
    elif ! grep -qaE '^(PASS|SKIP) ' "$log"; then
      echo "FAIL $name: tested nothing"
      fails=1
    fi
  fi
  if ((fails)); then
    echo "---- the last lines of $log:"
    tail -n 20 "$log" | cat -v | sed 's/^/  | /'
    echo "----"
  fi
  printf -- '  -- %s: %d passed, %d failed, %d s\n' "$name" "$passes" "$fails" $((SECONDS - began[$pid]))
  passed=$((passed + passes))
  failed=$((failed + fails))
}

stop() {
  # Each entry is a timeout process: it passes the signal on to its group.
  for pid in "${!pid_name[@]}"; do kill "$pid" 2>/dev/null; done
  wait
  exit 130
}
trap stop INT TERM HUP

for name in "${side_by_side[@]}"; do
  ((${#pid_name[@]} < slots)) || reap
  start "$name"
done
while ((${#pid_name[@]})); do reap; done
for name in "${alone[@]}"; do
  start "$name"
  reap
done

echo
echo "${#skips[@]} skipped$( ((${#skips[@]})) && echo ':')"
for skip in "${skips[@]}"; do echo "  $skip"; done
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
