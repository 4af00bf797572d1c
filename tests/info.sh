#!/bin/sh
# The part of malloc's family that tells and tunes, as an unmodified program sees it under LD_PRELOAD.
set -u
cd "$(dirname "$0")/.." || exit 1
library=${QUIRE_LIB:-$PWD/build/libquire.so}
[ -f "$library" ] || { echo "FAIL info: $library is missing: make"; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
status=0

verdict() { # NAME REASON: fails unless the last command succeeded
  if [ $? -eq 0 ]; then echo "PASS $1"; else echo "FAIL $1: $2"; status=1; fi
}

${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O1 -g -Wall -Wno-deprecated-declarations -fno-builtin \
  -Iinclude tests/info/family.c -o "$dir/family" || { echo "FAIL info: does not compile"; exit 1; }

LD_PRELOAD=$library "$dir/family" "$dir" 2>"$dir/stderr" || status=1

grep -q '^quire .* live in a heap of ' "$dir/stderr"
verdict malloc_stats "the text is not on standard error"

if command -v python3 >/dev/null 2>&1; then
  python3 - "$dir/info.xml" <<'PY'
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
assert root.tag == "malloc" and root.get("version") == "1"
heap = root.find("heap")
assert heap.get("nr") == "0"
for of in heap, root:
    assert [t.get("type") for t in of.findall("total")] == ["fast", "rest"]
    assert [t.get("type") for t in of.findall("system")] == ["current", "max"]
    assert [t.get("type") for t in of.findall("aspace")] == ["total", "mprotect"]
    assert int(of.find("system").get("size")) > 1000000
sizes = heap.find("sizes").findall("size")
assert sizes
last = 0
for s in sizes:
    a, b, total, count = (int(s.get(k)) for k in ("from", "to", "total", "count"))
    assert last < a <= b and total == count * b
    last = b
PY
  verdict malloc_info_xml "not the document that glibc's manual shows"
else
  echo "SKIP malloc_info_xml: python3 is not installed"
fi

# stats:on: one page at exit, malloc_stats' own aside, and nothing else is different. cat closes its
# standard error before it ends.
QUIRE_CONF=stats:on LD_PRELOAD=$library "$dir/family" >"$dir/out" 2>"$dir/err"
[ "$(grep -c ' live in a heap of ' "$dir/err")" = 2 ]
verdict stats_at_exit "no page, or more than one"
echo hello | QUIRE_CONF=stats:on LD_PRELOAD=$library cat >"$dir/out" 2>"$dir/err"
[ "$(cat "$dir/out")" = hello ] && [ "$(grep -c ' live in a heap of ' "$dir/err")" = 1 ]
verdict stats_at_exit_closed "no page, or more than one"
exit $status
