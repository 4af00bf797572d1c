#!/bin/bash
# Cross-compiles the library for aarch64 and runs the unit tests under qemu-user. CUnit is not there for a foreign machine:
# tests/unit/plain stands in for it, and the ring of liburing is left out.
# serial
# timeout: 900
set -u
cd "$(dirname "$0")/.." || exit 1
export QUIRE_STEPS=${QUIRE_STEPS:-20000}
# An emulator keeps books of all address space that is reserved: little of it will do.
export QUIRE_CONF=reserve:2G
prefix=aarch64-linux-gnu-
sysroot=/usr/aarch64-linux-gnu
out=build/check-aarch64/tests
status=0
for tool in ${prefix}gcc qemu-aarch64; do
  command -v $tool >/dev/null || { echo "SKIP aarch64: no $tool here"; exit 0; }
done
[[ -e $sysroot/lib/libc.so.6 ]] || { echo "SKIP aarch64: no C library for it in $sysroot"; exit 0; }

mkdir -p $out
log=$out/build.log
if ! make -s -j"$(nproc)" CROSS=$prefix B=build/check-aarch64 URING=no CFLAGS="-O2 -g -Werror" objects >$log 2>&1; then
  echo "FAIL build: $(grep -E 'error|Error' $log | head -n 2 | tr '\n' ' ')"
  exit 1
fi
echo "PASS build"

flags="-std=gnu17 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Werror -Itests/unit/plain -I. -Iinclude -fno-builtin-malloc -fno-strict-aliasing"
support="tests/unit/plain/plain.c $(find tests/unit -maxdepth 1 -name '*.c' ! -name '*_test.c' ! -name check.c | tr '\n' ' ')"
core=$(find arch page slab alloc -name '*.c' | sed 's,^,build/check-aarch64/,; s,c$,o,' | tr '\n' ' ')

build() { # name
  # shellcheck disable=SC2086
  ${prefix}gcc $flags "tests/unit/$1.c" $support $core -lpthread -o "$out/$1" 2>"$out/$1.log"
}

for source in tests/unit/*_test.c; do
  name=$(basename "$source" .c)
  if ! build "$name"; then
    echo "FAIL $name: does not compile: $(grep -m 1 error "$out/$name.log")"
    status=1
    continue
  fi
  timeout 200 qemu-aarch64 -L $sysroot "$out/$name" >"$out/$name.out" 2>&1
  code=$?
  grep -E '^(PASS|FAIL|SKIP) ' "$out/$name.out" | sed -E "s/^([A-Z]+) /\1 ${name%_test}./"
  if ((code != 0)); then
    status=1
    grep -q '^FAIL ' "$out/$name.out" || echo "FAIL $name: ended with status $code: $(tail -n 1 "$out/$name.out")"
  fi
done
exit $status
