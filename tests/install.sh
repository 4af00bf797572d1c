#!/bin/bash
# `make install` into an empty directory, and what a packager and a programmer do with the result: a program
# that uses quire.h is compiled by pkg-config, shared and static, and run; the man page is rendered; the
# library needs nothing but libc and exports nothing but what it should.
set -u
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
work=$(mktemp -d "${TMPDIR:-/tmp}/quire-install.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
failures=0
pass() { echo "PASS $1"; }
fail() {
  echo "FAIL $1: $2"
  failures=$((failures + 1))
}
check() { # name, command...
  local name=$1 status
  shift
  "$@" >"$work/out" 2>&1
  status=$?
  if ((status == 0)); then pass "$name"; else
    tail -n 10 "$work/out"
    fail "$name" "status $status"
  fi
}

tree=$work/root
# A make that calls this script hands down its own flags; they are not for this one.
unset MAKEFLAGS MFLAGS MAKELEVEL
check "make install" make -s install PREFIX=/usr DESTDIR="$tree"
find "$tree" -type f -o -type l | sed "s,^$tree,  ," | sort

so=$(find "$tree" -name 'libquire.so' | head -n 1)
archive=$(find "$tree" -name 'libquire.a' | head -n 1)
if [[ -z $so || -z $archive ]]; then
  fail "libraries installed" "libquire.so or libquire.a is missing"
  exit 1
fi
if find "$tree" -not -path "$tree/usr*" -not -path "$tree" | grep -q .; then
  fail "stays below PREFIX" "something is outside of $tree/usr"
else
  pass "stays below PREFIX"
fi
if grep -rlF "$work" "$tree" | grep -q .; then
  fail "knows nothing of DESTDIR" "the staging directory is written into: $(grep -rlF "$work" "$tree" | head -n 3)"
else
  pass "knows nothing of DESTDIR"
fi

if [[ -x $tree/usr/bin/quire ]]; then
  check "the command finds its library" grep -qF "$tree/usr/lib/libquire.so.0" \
    <("$tree/usr/bin/quire" run cat /proc/self/maps)
  check "the command's man page renders" man -l "$tree/usr/share/man/man1/quire.1"
  check "the command needs no library of quire's" sh -c "! ldd '$tree/usr/bin/quire' | grep -q libquire"
else
  echo "SKIP the command: it was not built (make deps, make)"
fi
check "the library needs nothing of the command's" sh -c "! ldd '$so' | grep -qE 'jansson|ncurses|tinfo|microhttpd|cairo'"

cat >"$work/user.c" <<'END'
#include <quire.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
  struct quire_stats before, after;
  char *block = (char *)malloc(3 << 20), *small = (char *)quire_malloc(100);
  if (!block || !small || quire_stats(&before)) return 1;
  memset(block, 1, 3 << 20);
  struct quire_description what;
  quire_describe(small, &what);
  if (what.kind != QUIRE_OBJECT || what.start != small || what.size < 100) return 2;
  quire_describe(block + 12345, &what);
  if (what.kind != QUIRE_FOLIO || what.start != block || what.size < 3 << 20) return 3;
  free(block);
  quire_free(small);
  if (quire_stats(&after) || before.live < after.live + (3 << 20)) return 4;
  if (quire_stats_print(stdout, QUIRE_JSON)) return 5;
  return 0;
}
END
cp "$work/user.c" "$work/user.cc"
# What pkg-config says, with the staging directory in front of the paths.
flags() {
  PKG_CONFIG_SYSROOT_DIR=$tree PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1 \
    PKG_CONFIG_LIBDIR=$(dirname "$(find "$tree" -name quire.pc)") pkg-config "$@" quire
}
if ! flags --cflags --libs >"$work/flags" 2>&1; then
  fail "pkg-config" "$(cat "$work/flags")"
  exit 1
fi
pass "pkg-config: $(flags --modversion)"
version=$(sed -n 's/^#define QUIRE_VERSION "\(.*\)"/\1/p' include/quire.h)
if [[ $(flags --modversion) == "$version" ]]; then pass "one version"; else
  fail "one version" "quire.h says $version, pkg-config $(flags --modversion)"
fi

# The flags are words.
# shellcheck disable=SC2046
{
  check "compile, shared" cc -std=c17 -Wall -Wextra -Werror "$work/user.c" -o "$work/shared" $(flags --cflags --libs)
  check "compile, shared, C++" c++ -std=c++17 -Wall -Werror "$work/user.cc" -o "$work/shared-cc" $(flags --cflags --libs)
  check "compile, static" cc -std=c17 -static "$work/user.c" -o "$work/static" $(flags --static --cflags --libs)
  check "compile, static-pie" cc -std=c17 -static-pie -fPIE "$work/user.c" -o "$work/static-pie" \
    $(flags --static --cflags --libs)
}
soname=$(readelf -d "$so" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
if [[ -n $soname && -e $(dirname "$so")/$soname ]]; then pass "soname $soname is installed"; else
  fail "soname is installed" "no file '$soname' beside libquire.so"
fi
export LD_LIBRARY_PATH
LD_LIBRARY_PATH=$(dirname "$so")
check "run, shared" "$work/shared"
check "run, shared, C++" "$work/shared-cc"
unset LD_LIBRARY_PATH
check "run, static" "$work/static"
check "run, static-pie" "$work/static-pie"
check "preload" sh -c "LD_PRELOAD='$so' grep -qF '$(basename "$(realpath "$so")")' /proc/self/maps"

needed=$(readelf -d "$so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vE '^(libc\.so\.6|ld-linux.*)$')
if [[ -z $needed ]]; then pass "needs only libc"; else fail "needs only libc" "needs $(echo $needed)"; fi

# malloc's family, operator new (_Zn[wa]) and delete (_Zd[la]) in every form, quire_*: no more, no less.
nm -D --defined-only "$so" | awk '$2 != "A" { print $3 }' | sed 's/@.*//' | sort -u >"$work/exports"
family="malloc calloc realloc reallocarray free free_sized free_aligned_sized aligned_alloc memalign
  posix_memalign valloc pvalloc malloc_usable_size malloc_trim malloc_stats malloc_info mallinfo mallinfo2
  mallopt"
more=$(grep -vxE "quire_[a-z0-9_]+|_Z(nw|na)m[A-Za-z0-9_]*|_Z(dl|da)Pv[A-Za-z0-9_]*" "$work/exports" |
  grep -vxF "$(printf '%s\n' $family)")
if [[ -z $more ]]; then pass "exports no more"; else fail "exports no more" "$(echo $more)"; fi
t=RKSt9nothrow_t
a=St11align_val_t
operators="_Znwm _Znam _Znwm$t _Znam$t _Znwm$a _Znam$a _Znwm$a$t _Znam$a$t _ZdlPv _ZdaPv _ZdlPvm _ZdaPvm
  _ZdlPv$t _ZdaPv$t _ZdlPv$a _ZdaPv$a _ZdlPvm$a _ZdaPvm$a _ZdlPv$a$t _ZdaPv$a$t"
api=$(sed -nE 's/.*[ *](quire_[a-z_]+)\(.*/\1/p' include/quire.h | sort -u)
less=$(printf '%s\n' $family $operators $api | grep -vxFf "$work/exports")
if [[ -z $less ]]; then pass "exports all of it"; else fail "exports all of it" "not $(echo $less)"; fi

# The library must not ask for anything at load time that would be dear to a small program.
if readelf -d "$so" | grep -q TEXTREL; then fail "no text relocations" "it has them"; else pass "no text relocations"; fi
if readelf -lW "$so" | grep GNU_STACK | grep -q RWE; then fail "stack not executable" "it is"; else
  pass "stack not executable"
fi

page=$(find "$tree" -name 'quire.3*' | head -n 1)
if [[ -z $page ]]; then
  fail "man page" "not installed"
elif command -v groff >/dev/null; then
  groff -man -Tutf8 -ww "$page" >"$work/page" 2>"$work/page.err"
  if [[ -s $work/page.err ]]; then
    head -n 5 "$work/page.err"
    fail "man page renders without a warning" "see above"
  elif grep -q QUIRE_CONF "$work/page" && grep -q LD_PRELOAD "$work/page"; then
    pass "man page renders without a warning"
  else
    fail "man page" "says nothing of QUIRE_CONF or LD_PRELOAD"
  fi
else
  echo "SKIP man page: groff is not installed"
fi
exit $((failures != 0))
