#!/bin/bash
# Compiles everything with gcc and clang, warnings being errors, and runs the unit tests of the debug build (every invariant and
# lock rank checked) and of the address, undefined-behaviour and thread sanitizers. No report is accepted.
# serial
# timeout: 1500
set -u
cd "$(dirname "$0")/.." || exit 1
export QUIRE_STEPS=${QUIRE_STEPS:-30000}
[[ ${QUIRE_LONG:-0} == 0 ]] || export QUIRE_STEPS=2000000
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=0:allocator_may_return_null=1:handle_segv=0
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=0:exitcode=66:handle_segv=0
status=0
tests=$(find tests/unit -maxdepth 1 -name '*_test.c' | sed 's,.*/\(.*\)\.c,\1,' | sort)
logs=build/variants
mkdir -p $logs

# ---- warnings ----
warnings() { # compiler
  if ! command -v "$1" >/dev/null; then
    echo "SKIP warnings-$1: no $1 here"
  elif make -s -j"$(nproc)" CC="$1" B="build/werror-$1" CFLAGS="-O2 -g -Werror" objects command-objects \
    $(find tests/unit -maxdepth 1 -name '*.c' | sed "s,^,build/werror-$1/,; s,c\$,o,") >"$logs/werror-$1.log" 2>&1; then
    echo "PASS warnings-$1"
  else
    echo "FAIL warnings-$1: $(grep -m 2 -E 'error' "$logs/werror-$1.log" | tr '\n' ' ')"
    status=1
  fi
}
warnings gcc
warnings clang

# ---- variants ----
# Reports go to files of their own: the background thread can't write to the program's descriptors.
run_one() { # variant test
  local log=$logs/$1-$2.log code
  rm -f "$logs/$1-$2.report."*
  ASAN_OPTIONS=$ASAN_OPTIONS:log_path=$PWD/$logs/$1-$2.report TSAN_OPTIONS=$TSAN_OPTIONS:log_path=$PWD/$logs/$1-$2.report \
    UBSAN_OPTIONS=$UBSAN_OPTIONS:log_path=$PWD/$logs/$1-$2.report timeout 300 "build/$1/tests/$2" >"$log" 2>&1
  code=$?
  cat "$logs/$1-$2.report."* >>"$log" 2>/dev/null
  grep -aE '^(PASS|FAIL|SKIP) ' "$log" | sed -E "s/^([A-Z]+) /\1 $1.${2%_test}./"
  local report
  report=$(grep -aE 'WARNING: ThreadSanitizer|ERROR: AddressSanitizer|runtime error:|^SUMMARY' "$log" | head -n 2 | tr '\n' ' ')
  if [[ -n $report ]]; then
    echo "FAIL $1.$2: $report($log)"
  elif ((code != 0)) && ! grep -q '^FAIL ' "$log"; then
    echo "FAIL $1.$2: ended with status $code: $(tail -n 1 "$log" | cat -v)"
  fi
}
export -f run_one
export logs

for variant in debug asan tsan; do
  targets=$(for t in $tests; do echo "build/$variant/tests/$t"; done)
  # shellcheck disable=SC2086
  if ! make -s -j"$(nproc)" VARIANT=$variant $targets >"$logs/$variant.log" 2>&1; then
    echo "FAIL build-$variant: $(grep -m 2 -E 'error|Error' "$logs/$variant.log" | tr '\n' ' ')"
    status=1
    continue
  fi
  # One after the other: a test's threads want the processors, and the machine may be small.
  for t in $tests; do run_one $variant "$t"; done >"$logs/$variant.out"
  cat "$logs/$variant.out"
  ! grep -q '^FAIL ' "$logs/$variant.out" || status=1
done
# ---- the quire command ----
# Its parsers of other processes' memory, files and terminals, with addresses and undefined behaviour watched.
if [[ -x build/quire ]]; then
  log=$logs/asan-quire.log
  rm -f "$logs/asan-quire.report."*
  if ! make -s -j"$(nproc)" VARIANT=asan build/asan/quire build/asan/alloc/fields.o >"$log" 2>&1; then
    echo "FAIL asan.quire: does not build: $(grep -m 2 -E 'error|Error' "$log" | tr '\n' ' ')"
    status=1
  else
    options=halt_on_error=0:log_path=$PWD/$logs/asan-quire.report
    ASAN_OPTIONS=$ASAN_OPTIONS:$options UBSAN_OPTIONS=$UBSAN_OPTIONS:$options QUIRE_COMMAND=$PWD/build/asan/quire \
      QUIRE_OBJECTS=$PWD/build/asan SANITIZE=-fsanitize=address,undefined timeout 600 tests/quire.sh >"$log" 2>&1
    cat "$logs/asan-quire.report."* >>"$log" 2>/dev/null
    grep -aE '^(PASS|FAIL|SKIP) ' "$log" | sed -E 's/^([A-Z]+) /\1 asan.quire./'
    ! grep -q '^FAIL ' "$log" || status=1
    if report=$(grep -m 1 -aE 'ERROR: AddressSanitizer|runtime error:' "$log"); then
      echo "FAIL asan.quire: $report ($log)"
      status=1
    fi
  fi
else
  echo "SKIP asan.quire: the command was not built"
fi
exit $status
