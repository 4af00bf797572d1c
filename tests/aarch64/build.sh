# What tests/aarch64.sh and tests/aarch64-system.sh share: the library and its unit tests for aarch64. CUnit is not there for
# a foreign machine: tests/unit/plain stands in for it, and the ring of liburing is left out.
prefix=aarch64-linux-gnu-
sysroot=/usr/aarch64-linux-gnu
out=build/check-aarch64
flags="-std=gnu17 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Werror -Itests/unit/plain -I. -Iinclude -fno-builtin-malloc -fno-strict-aliasing"
support="tests/unit/plain/plain.c $(find tests/unit -maxdepth 1 -name '*.c' ! -name '*_test.c' ! -name check.c | tr '\n' ' ')"
core=$(find arch page slab alloc -name '*.c' | sed "s,^,$out/,; s,c\$,o," | tr '\n' ' ')

# Prints why nothing can be built here, if so.
lacking() {
  command -v ${prefix}gcc >/dev/null || echo "no ${prefix}gcc here"
  [[ -e $sysroot/lib/libc.so.6 ]] || echo "no C library for it in $sysroot"
}

build_library() { # target...
  mkdir -p $out/tests
  if make -s -j"$(nproc)" CROSS=$prefix B=$out URING=no CFLAGS="-O2 -g -Werror" "$@" >$out/build.log 2>&1; then
    echo "PASS build"
  else
    echo "FAIL build: $(grep -E 'error|Error' $out/build.log | head -n 2 | tr '\n' ' ')"
    return 1
  fi
}

# The program's path is $out/tests/NAME, what the compiler said in NAME.log beside it.
build_test() { # name
  # shellcheck disable=SC2086
  ${prefix}gcc $flags "tests/unit/$1.c" $support $core -lpthread -o "$out/tests/$1" 2>"$out/tests/$1.log" && return
  echo "FAIL $1: does not compile: $(grep -m 1 error "$out/tests/$1.log")"
  return 1
}
