#!/bin/bash
# timeout: 900
# gcc, g++ and clang compiling real sources: this project's own, a large generated one, and C++ that
# unfolds much of the standard library. Object files must be the same byte for byte.
. "$(dirname "$0")/lib.sh"
need gcc g++ perl

# A long C file: arithmetic, switches, structures and calls among some thousand functions. They are not static: of
# functions that are called once clang makes a single one, and its time grows much faster than their number.
perl -e '
  my $n = shift;
  print "#include <stdio.h>\n#include <string.h>\nstruct s { int a, b; double c; char d[32]; };\n";
  for my $i (0 .. $n - 1) {
    my ($p, $q) = ($i * 7919 % 101, $i * 104729 % 97);
    print "int f$i(struct s *s, int n) {\n  int r = n ^ $p;\n";
    print "  for (int i = 0; i < (n & 15); i++) { s->c += i * $q.5; r += s->d[(i + $p) & 31] * $q; }\n";
    print "  switch (r % 7) {\n", (map { "  case $_: s->a += r * " . ($p + $_) . "; break;\n" } 0 .. 6), "  }\n";
    print "  snprintf(s->d, sizeof s->d, \"%d-$i\", r);\n";
    print $i ? "  return (r & 1) ? f" . ($i - 1) . "(s, r >> 1) : r + (int)strlen(s->d);\n}\n" : "  return r;\n}\n";
  }
  print "int main(void) { struct s s = {0}; printf(\"%d\\n\", f", $n - 1, "(&s, 12345)); return s.a & 1; }\n";
' "$(amount 250 10000)" >"$work/generated.c"

failed_to_compile=0
# compile SIDE NAME COMMAND...: the object goes to a directory per side, under the same name.
compile() {
  local side=$1 name=$2
  shift 2
  mkdir -p "$work/$side"
  if [[ $side == with ]]; then quire "$@" -o "$work/$side/$name" >"$work/$side/$name.err" 2>&1; else
    "$@" -o "$work/$side/$name" >"$work/$side/$name.err" 2>&1; fi ||
    { echo "$side: $name: status $?"; tail -n 5 "$work/$side/$name.err"; return 1; }
}

compile_all() { # without or with
  local side=$1 source failed=0
  cd "$work/tree" || return 1
  while IFS= read -r source; do
    compile "$side" "$(echo "$source" | tr / _).o" \
      gcc -std=gnu17 -O2 -g -fPIC -D_GNU_SOURCE -I. -Iinclude -c "$source" || failed=1
  done <"$work/sources"
  compile "$side" generated.O2.o gcc -O2 -g -c "$work/generated.c" || failed=1
  compile "$side" generated.Os.o gcc -Os -fwhole-program -c "$work/generated.c" || failed=1
  compile "$side" templates.o g++ -std=c++17 -O2 -g -c "$src/templates.cc" || failed=1
  compile "$side" templates g++ -std=c++17 -O1 -flto -frandom-seed=1 -pthread "$src/templates.cc" || failed=1
  if command -v clang >/dev/null; then
    compile "$side" clang.generated.o clang -O2 -g -c "$work/generated.c" || failed=1
    compile "$side" clang.templates.o clang++ -std=c++17 -O1 -c "$src/templates.cc" || failed=1
  fi
  return $failed
}

# A copy of the project's sources: somebody may be editing them while this runs.
mkdir "$work/tree"
(cd "$root" && find arch page slab alloc preload include tools tests/programs/src \
  -name '*.[ch]' -exec cp --parents -t "$work/tree" {} + -o -path 'tools/quire/page/*' -exec cp --parents -t "$work/tree" {} +)
(cd "$work/tree" && find . -name '*.c' | sed 's,^\./,,' | sort) |
  while IFS= read -r source; do
    # What does not compile without quire is not quire's fault, and not a source to compare.
    (cd "$work/tree" && gcc -std=gnu17 -fsyntax-only -D_GNU_SOURCE -I. -Iinclude "$source" \
      2>/dev/null) && echo "$source"
  done >"$work/sources"
echo "$(wc -l <"$work/sources") sources of this project, $(wc -l <"$work/generated.c") generated lines"

cat >"$work/small.cc" <<'END'
#include <string>
std::string f() { return "small"; }
END
loads cc1plus g++ -O1 -c "$work/small.cc" -o "$work/small.o"
loads as g++ -O1 -c "$work/small.cc" -o "$work/small.o"
loads cc1 gcc -O1 -c "$work/generated.c" -o "$work/small.o"

compile_all without >"$work/without.out" 2>&1 &
other=$!
compile_all with || failed_to_compile=1
wait "$other" || { cat "$work/without.out"; fail "compile without quire" "cannot compare"; }
if ((failed_to_compile)); then fail "compile" "a compiler on quire failed"; else pass "compile"; fi

count=0
different=
for object in "$work"/without/*; do
  case $object in *.err) continue ;; esac
  count=$((count + 1))
  cmp -s "$object" "$work/with/${object##*/}" || different+=" ${object##*/}"
done
if [[ -n $different ]]; then fail "same objects" "these differ:$different"; else
  echo "$count objects compared"
  pass "same objects"
fi
"$work/without/templates" >"$work/t.without"
quire "$work/with/templates" >"$work/t.with"
same "compiled program's output" "$work/t.without" "$work/t.with"
finish
