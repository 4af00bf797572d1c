#!/bin/bash
# libFuzzer over sequences of malloc calls, for 15 seconds; QUIRE_LONG=1: ten minutes. What it has learnt stays in build/fuzz/corpus,
# what it found in build/fuzz/crash-*: build/fuzz/malloc_fuzz FILE repeats it.
# timeout: 300
set -u
cd "$(dirname "$0")/.." || exit 1
seconds=15
[[ ${QUIRE_LONG:-0} == 0 ]] || seconds=600
out=build/fuzz
mkdir -p $out/corpus
if ! command -v clang >/dev/null || ! echo 'int LLVMFuzzerTestOneInput(const char *p, long n) { return p == 0 && n; }' |
  clang -x c -fsanitize=fuzzer,address - -o $out/probe 2>/dev/null; then
  echo "SKIP fuzz: no clang with libFuzzer here"
  exit 0
fi
flags="-O1 -g -fsanitize=fuzzer-no-link,address -fno-omit-frame-pointer -DQUIRE_DEBUG -DQUIRE_NO_RSEQ"
build() {
  make -s -j"$(nproc)" CC=clang B=$out CFLAGS="$flags" objects $out/tests/unit/fake.o $out/tests/fuzz/malloc_fuzz.o || return 1
  local ring=
  nm -u $out/arch/*.o | grep -q io_uring && ring=-luring
  clang -fsanitize=fuzzer,address -o $out/malloc_fuzz $out/tests/fuzz/malloc_fuzz.o $out/tests/unit/fake.o \
    $out/arch/*.o $out/page/*.o $out/slab/*.o $out/alloc/*.o $ring -lpthread
}
if ! build >$out/build.log 2>&1; then
  echo "FAIL build: $(grep -m 2 -E 'error|undefined' $out/build.log | tr '\n' ' ')"
  exit 1
fi
ASAN_OPTIONS=detect_leaks=0:handle_abort=1 $out/malloc_fuzz -max_total_time=$seconds -max_len=600 -timeout=30 -rss_limit_mb=4096 \
  -artifact_prefix=$out/ -print_final_stats=1 ${QUIRE_SEED:+-seed=$QUIRE_SEED} $out/corpus >$out/run.log 2>&1
code=$?
runs=$(sed -n 's/^stat::number_of_executed_units: *//p' $out/run.log)
if ((code == 0)) && [[ ${runs:-0} -gt 0 ]]; then
  echo "PASS malloc_fuzz"
  echo "  $runs inputs tried, $(find $out/corpus -type f | wc -l) kept"
  exit 0
fi
echo "FAIL malloc_fuzz: status $code: $(grep -m 2 -E 'malloc_fuzz:|quire:|ERROR|SUMMARY' $out/run.log | tr '\n' ' ') $(grep -o 'Test unit written to .*' $out/run.log)"
exit 1
