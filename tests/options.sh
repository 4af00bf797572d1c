#!/bin/sh
# The option table is one: what quire.h and the man page say about options is what the table says, and
# the page is well-formed.
set -u
cd "$(dirname "$0")/.." || exit 1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
status=0

verdict() { # NAME REASON: fails unless the last command succeeded
  if [ $? -eq 0 ]; then echo "PASS $1"; else echo "FAIL $1: $2"; status=1; fi
}

make -s build/tools/options-text build/quire.3 || {
  echo "FAIL options: the tool or the page can't be built"
  exit 1
}

build/tools/options-text header >"$dir/table"
sed -n '/^\/\* Options, in QUIRE_CONF/,/^ \*\/$/p' include/quire.h >"$dir/quire.h"
diff "$dir/table" "$dir/quire.h"
verdict quire_h "its comment on options differs from build/tools/options-text header"

# Every option has its paragraph, and no mark is left in the page.
sed -n 's/^ \*   \([a-z_]*\):.*/.BI \1:/p' "$dir/table" >"$dir/names"
missing=
while read -r name; do
  grep -qF -- "$name" build/quire.3 || missing="$missing ${name#.BI }"
done <"$dir/names"
[ -s "$dir/names" ] && [ -z "$missing" ] && ! grep -n '@[A-Z]*@' build/quire.3
verdict man_options "missing:$missing, or a mark was not replaced"

if command -v groff >/dev/null 2>&1; then
  groff -man -Tutf8 -ww -rCHECKSTYLE=0 build/quire.3 >"$dir/page" 2>"$dir/warnings"
  [ ! -s "$dir/warnings" ] && grep -q QUIRE_CONF "$dir/page"
  verdict man_renders "$(head -n 1 "$dir/warnings")"
else
  echo "SKIP man_renders: groff is not installed"
fi
exit $status
