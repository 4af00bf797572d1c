#!/bin/bash
# Checks the layers: arch <- page <- slab <- alloc <- preload. A layer includes itself and what stands left
# of it. The checks are tried on made-up trees first, which they must refuse.
set -u
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
layers="arch page slab alloc preload"
work=$(mktemp -d "${TMPDIR:-/tmp}/quire-layers.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
failures=0

rank() { # prints 0 for arch, ... 4 for preload; nothing for anything else
  local n=0 layer
  for layer in $layers; do
    [[ $layer != "$1" ]] || echo $n
    n=$((n + 1))
  done
}

# Each check prints what breaks its rule in the tree $1, one a line, and nothing when all is well.

# Includes are written "layer/x.h" and never point to the right; quire.h is for alloc and preload.
includes() {
  local tree=$1 file line name from to
  for file in "$tree"/{arch,page,slab,alloc,preload}/*.[ch]; do
    [[ -e $file ]] || continue
    from=$(basename "$(dirname "$file")")
    while IFS=: read -r line name; do
      to=$(rank "${name%%/*}")
      if [[ $name == quire.h ]]; then
        [[ $from == alloc || $from == preload ]] || echo "$file:$line: quire.h is not for $from"
      elif [[ -z $to ]]; then
        echo "$file:$line: \"$name\" is in no layer"
      elif ((to > $(rank "$from"))); then
        echo "$file:$line: $from includes ${name%%/*}, which stands right of it"
      elif [[ ! -e $tree/$name ]]; then
        echo "$file:$line: there is no $name"
      fi
    done < <(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*("|<quire\.h>)' "$file" |
      sed -E 's/^([0-9]+):[^"<]*["<]([^">]*)[">].*/\1:\2/')
  done
}

# No source includes a source, tests and tools as little as the layers.
sources() {
  grep -rnE '^[[:space:]]*#[[:space:]]*include.*\.(c|cc)[">]' --include='*.[ch]' --include='*.cc' \
    "$1"/{arch,page,slab,alloc,preload,include,tools,bench,tests} 2>/dev/null
}

# Each header says by itself what it needs.
headers() {
  local tree=$1 file
  for file in "$tree"/{arch,page,slab,alloc,preload,include}/*.h; do
    [[ -e $file ]] || continue
    (cd "$tree" && gcc -fsyntax-only -std=gnu17 -D_GNU_SOURCE -I. -Iinclude -x c "$file" 2>"$work/err") ||
      echo "$file: $(grep -m 1 error "$work/err")"
  done
}

# What an object file of a layer calls is not defined to its right: a declaration written by hand would
# pass the includes. Variables may be: a hook that a layer declares can be filled in above.
symbols() {
  local tree=$1 layer other
  for layer in $layers; do
    [[ -d $tree/$layer ]] || continue
    for other in $layers; do
      (($(rank "$other") > $(rank "$layer"))) && [[ -d $tree/$other ]] || continue
      join <(nm -u "$tree/$layer"/*.o 2>/dev/null | awk '$1 == "U" { print $2 }' | sort -u) \
        <(nm --defined-only -g "$tree/$other"/*.o 2>/dev/null | awk '$2 ~ /[TWi]/ { print $3 }' | sort -u) |
        # malloc and free are everybody's names, whoever serves them.
        grep -vxE 'malloc|calloc|realloc|free|memalign|aligned_alloc|posix_memalign|malloc_usable_size' |
        sed "s/^/$layer calls $other: /"
    done
  done
}

refuses() { # name, pattern that must be found, check, tree
  if "$3" "$4" | grep -q "$2"; then echo "PASS $1"; else
    echo "FAIL $1: the check let it pass"
    failures=$((failures + 1))
  fi
}

accepts() { # name, check, tree
  local found
  found=$("$2" "$3")
  if [[ -z $found ]]; then echo "PASS $1"; else
    echo "$found"
    echo "FAIL $1: see the lines above"
    failures=$((failures + 1))
  fi
}

bad=$work/bad
mkdir -p "$bad"/{arch,page,slab,alloc,preload,include,tests}
echo '#include "slab/slab.h"' >"$bad/page/upward.c"
echo '#include "../arch/low.h"' >"$bad/page/relative.h"
echo '#include "quire.h"' >"$bad/slab/public.c"
echo '  #  include "arch/missing.h"' >"$bad/alloc/missing.c"
echo '#include "other.c"' >"$bad/tests/source.c"
echo 'size_t no_size_t(void);' >"$bad/arch/alone.h"
echo 'int slab_thing(void); int page_thing(void) { return slab_thing(); }' >"$bad/page/hidden.c"
echo 'int slab_thing(void) { return 1; }' >"$bad/slab/thing.c"
for object in page/hidden slab/thing; do gcc -c "$bad/$object.c" -o "$bad/$object.o" || exit 1; done
refuses "refuses an include to the right" "page includes slab" includes "$bad"
refuses "refuses an include outside the layers" "is in no layer" includes "$bad"
refuses "refuses quire.h in a low layer" "not for slab" includes "$bad"
refuses "refuses an include of nothing" "there is no arch/missing.h" includes "$bad"
refuses "refuses a source that includes a source" "source.c" sources "$bad"
refuses "refuses a header that does not compile alone" "alone.h" headers "$bad"
refuses "refuses a call to the right" "page calls slab: slab_thing" symbols "$bad"

accepts "includes point to the left" includes "$PWD"
accepts "no source includes a source" sources "$PWD"
accepts "headers compile alone" headers "$PWD"
if ls build/arch/*.o >/dev/null 2>&1; then accepts "calls point to the left" symbols "$PWD/build"; else
  echo "SKIP calls point to the left: nothing built in build/"
fi
exit $((failures != 0))
