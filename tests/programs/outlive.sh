#!/bin/bash
# Threads that live longer than main: the end of the process must be the same as without quire, each time.
. "$(dirname "$0")/lib.sh"
build_program outlive.c -pthread
rounds=$(amount 40 3000)
for how in exit leave; do
  "$work/outlive" "$how" >"$work/expected"
  bad=
  for ((i = 0; i < rounds && ! ${#bad}; i++)); do
    quire timeout 60 "$work/outlive" "$how" >"$work/out" 2>&1 || bad="status $? in round $i"
    cmp -s "$work/expected" "$work/out" || bad="${bad:-other output in round $i}"
  done
  if [[ -z $bad ]]; then pass "$how, $rounds times"; else
    head -n 5 "$work/out"
    fail "$how, $rounds times" "$bad"
  fi
done
finish
