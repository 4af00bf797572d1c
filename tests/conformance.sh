#!/bin/bash
# malloc's family and C++'s operators by their manuals and standards, under LD_PRELOAD, by default and with the options that
# change how memory is handed out.
# timeout: 600
set -u
cd "$(dirname "$0")/.." || exit 1
ulimit -c 0
library=$PWD/${QUIRE_LIBRARY:-build/libquire.so}
bin=build/tests/conformance
status=0
mkdir -p $bin
if ! cc -std=gnu17 -D_GNU_SOURCE -O1 -g -fno-builtin -w tests/conformance/family.c -o $bin/family ||
  ! c++ -std=c++20 -D_GNU_SOURCE -O1 -g -fno-builtin -w tests/conformance/operators.cc -lpthread -o $bin/operators; then
  echo "FAIL build: the programs do not compile"
  exit 1
fi
for program in family operators; do
  for configuration in "" check:on decay_ms:0,cache_thread:0 huge:always; do
    out=$(LD_PRELOAD=$library QUIRE_CONF=$configuration timeout 200 $bin/$program 2>&1)
    code=$?
    sed -E "s/^(PASS|FAIL|SKIP) ([^:]*)/\1 $program ${configuration:-defaults} \2/; s/(decay_ms|check|huge|cache_thread):/\1=/g" <<<"$out"
    if ((code > 1)); then
      echo "FAIL $program ${configuration//:/=}: ended with status $code: $(tail -n 1 <<<"$out")"
      status=1
    elif ((code != 0)); then
      status=1
    fi
  done
done
exit $status
