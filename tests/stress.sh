#!/bin/bash
# Checksummed contents under many threads, frees across threads, thread churn and forks, with the library as it is shipped
# and with its debug build, under several configurations. 20 seconds in all; QUIRE_LONG=1: ten minutes.
# timeout: 600
set -u
cd "$(dirname "$0")/.." || exit 1
ulimit -c 0
seconds=3
[[ ${QUIRE_LONG:-0} == 0 ]] || seconds=85
seed=${QUIRE_SEED:-$RANDOM}
program=build/tests/stress
status=0
mkdir -p build/tests
if ! cc -std=gnu17 -D_GNU_SOURCE -O2 -g -fno-builtin -Wall tests/stress/stress.c -lpthread -o "$program"; then
  echo "FAIL build: stress.c does not compile"
  exit 1
fi

try() { # name library threads configuration
  local out code
  out=$(LD_PRELOAD=$PWD/$2 QUIRE_CONF=$4 timeout $((seconds * 10 + 60)) "$program" "$seconds" "$3" "$seed" 2>&1)
  code=$?
  if ((code == 0)); then
    echo "PASS $1"
    echo "  $out"
  else
    echo "FAIL $1: status $code (seed $seed, QUIRE_CONF=$4): $(tail -n 3 <<<"$out" | tr '\n' ' ')"
    status=1
  fi
}

for library in build/libquire.so build/debug/libquire.so; do
  if [[ $library == build/debug/* ]] && ! make -s VARIANT=debug "$library" >/dev/null 2>&1; then
    echo "FAIL debug: the debug library does not build"
    exit 1
  fi
done
try defaults build/libquire.so 8 ""
try many-threads build/libquire.so 40 ""
try discard-at-once build/libquire.so 4 "decay_ms:0,background_threshold:0"
try hugepages build/libquire.so 4 "huge:always,cache_thread:64K"
try small-budget build/libquire.so 8 "cache_total:256K,background:off,decay_ms:50"
try checked build/libquire.so 4 "check:on"
try debug build/debug/libquire.so 6 ""
exit $status
