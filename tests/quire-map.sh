#!/bin/bash
# quire map and quire record: what they say of a heap whose counts the library itself tells, images
# and pages by their content, recordings that were cut off or damaged, the terminal at two sizes (by
# tmux) and the page in a browser (by Chromium). Helpers are in tests/quire-map/.
# timeout: 900
set -u
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/.." || exit 1
unset LD_PRELOAD QUIRE_CONF NO_COLOR
library=${QUIRE_LIB:-$PWD/build/libquire.so}
quire=${QUIRE_COMMAND:-$PWD/build/quire}
[[ -f $library ]] || { echo "FAIL quire-map: $library is missing: make"; exit 1; }
[[ -x $quire ]] || { echo "SKIP quire-map: there is no quire command (libraries for it are missing)"; exit 0; }
scope=$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)
if [[ $scope == 3 || ($scope == 2 && $(id -u) != 0) ]]; then
  echo "SKIP quire-map: ptrace_scope is $scope: no process may read another"
  exit 0
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/quire-map.XXXXXX") || exit 1
target=
failures=0
clean() {
  [[ -z $target ]] || kill "$target" 2>/dev/null
  for socket in "$dir"/tmux.*; do
    [[ ! -S $socket ]] || tmux -S "$socket" kill-server 2>/dev/null
  done
  rm -rf "$dir"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

pass() { echo "PASS $1"; }
fail() { echo "FAIL $1: $2"; failures=$((failures + 1)); }
# check NAME WHAT-IS WHAT-SHOULD-BE
check() { if [[ $2 == "$3" ]]; then pass "$1"; else fail "$1" "\"$2\" instead of \"$3\""; fi; }

compile() { # PROGRAM FLAG...
  local name=$1
  shift
  ${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O1 -g -Wall -Wextra -fno-strict-aliasing -I. -Iinclude \
    "tests/quire-map/$name.c" "$@" -o "$dir/$name" || { echo "FAIL quire-map: $name does not compile"; exit 1; }
}
compile target "$library"
compile png $(pkg-config --cflags --libs cairo)

# ---- a heap to look at ----

nheaps=0
begin() { # MIB, options of quire
  local pipes=$dir/heap$((++nheaps))
  mkfifo "$pipes.in" "$pipes.out" || exit 1
  LD_PRELOAD=$library QUIRE_CONF=$2 "$dir/target" "$1" <"$pipes.in" >"$pipes.out" 2>"$dir/err" &
  target=$!
  exec 4>"$pipes.in" 5<"$pipes.out"
  answer || { echo "FAIL quire-map: the target did not start: $(tail -n 3 "$dir/err")"; exit 1; }
}
finish() {
  exec 4>&-
  wait "$target"
  target=
  exec 5<&-
}

# The target's lines up to "ready".
answer() {
  local line
  while IFS= read -rt 300 -u 5 line; do
    [[ $line == ready ]] && return 0
    echo "$line"
  done
  return 1
}
# A moment for who polls: nobody ever writes into this pipe.
mkfifo "$dir/never"
exec 6<>"$dir/never"
pause() { read -rt 0.05 -u 6 || :; }
tell() { echo tell >&4; answer; }
told() { sed -n "s/^$2 //p" <<<"$1"; }
# The number behind a name of map's JSON.
number() { sed -n "s/^ *\"$2\": \([0-9]*\),*\$/\1/p" <<<"$1" | head -n 1; }
sum() { local n=0 k; for k in "${@:2}"; do n=$((n + $(number "$1" "$k"))); done; echo $n; }

# What map says while the library's own counts stay the same before and after.
settled() {
  local i
  for ((i = 0; i < 50; i++)); do
    before=$(tell)
    json=$("$quire" map --json "$target") || return 1
    after=$(tell)
    [[ $before == "$after" ]] && return 0
  done
  return 1
}

compare() { # NAME
  local wrong= what
  while read -r what is should; do
    [[ $is == "$should" ]] || wrong+=" $what is $is and not $should;"
  done <<EOF
slab-frames $(sum "$json" slab host guest hollow) $(told "$before" slab_frames)
folio-frames $(sum "$json" folio guard) $(told "$before" folio_frames)
owned-frames $(number "$json" owned) $(told "$before" owned_frames)
slabs $(number "$json" slabs) $(told "$before" slabs)
folios $(number "$json" folios) $(told "$before" folios)
slots $(number "$json" slots) $(told "$before" slots)
free-slots $(number "$json" free_slots) $(told "$before" free_slots)
guests $(number "$json" guest) $(told "$before" guests)
hollow $(sum "$json" hollow guest) $(told "$before" hollow)
free-with-memory $(number "$json" free) $(told "$before" dirty)
pinned $(number "$json" pinned) $(told "$before" pinned)
live $(number "$json" live) $(told "$before" live)
frames $(number "$json" frames) $(told "$before" opened)
unsure $(number "$json" unsure) 0
EOF
  if [[ -z $wrong ]]; then pass "$1"; else fail "$1" "$wrong"; fi
}

begin 24 compact:off
if settled; then compare "map counts what the library counts"; else fail "map counts" "the heap never stood still"; fi
kill -STOP "$target"
still=$("$quire" map --json "$target")
check "a stopped program is read all the same" "$(number "$still" slab) $(number "$still" folio)" \
  "$(number "$json" slab) $(number "$json" folio)"
kill -CONT "$target"
"$quire" record -n 1 -o "$dir/plain.qrec" "$target" 2>/dev/null
finish

begin 48 decay_ms:100
"$quire" record -n 1 -o "$dir/before.qrec" "$target" 2>/dev/null
"$quire" record --every 20 -o "$dir/film.qrec" "$target" 2>"$dir/record" 4>&- 5<&- &
recorder=$!
echo compact >&4
answer
if settled; then compare "map counts what the library counts, compacted"; else fail "map counts, compacted" "the heap never stood still"; fi
meshed=$(number "$json" guest)
"$quire" record -n 1 -o "$dir/after.qrec" "$target" 2>/dev/null
for ((i = 0; i < 400 && $(stat -c %s "$dir/film.qrec") < 3 * $(stat -c %s "$dir/before.qrec") / 2; i++)); do pause; done
kill -INT $recorder
wait $recorder
check "Ctrl-C ends a recording well" "$?" 0
check "and says what was written" "$(grep -c 'snapshots.*film.qrec' "$dir/record")" 1
replayed=$("$quire" map --json "$dir/after.qrec")
live=$("$quire" stat --json "$dir/after.qrec" | sed -n 's/^  "live": \([0-9]*\),$/\1/p')
check "stat replays it" "$live" "$(told "$before" live)"
check "a recording holds what was there" "$(sum "$replayed" slab host) $(number "$replayed" guest) $(number "$replayed" slots)" \
  "$(sum "$json" slab host) $(number "$json" guest) $(number "$json" slots)"
"$quire" record --every 20 -o "$dir/ended.qrec" "$target" 2>"$dir/record" 4>&- 5<&- &
recorder=$!
for ((i = 0; i < 400 && $(stat -c %s "$dir/ended.qrec" 2>/dev/null || echo 0) < 1000; i++)); do pause; done
finish
wait $recorder
check "a program that ends, ends its recording well" "$? $(grep -c 'has ended' "$dir/record")" "0 1"
if ((meshed == 0)); then echo "SKIP guests and hosts: meshing is not permitted here"; fi

# ---- errors ----

refuses() { # NAME STATUS PATTERN COMMAND...
  local out status
  out=$("${@:4}" 2>&1 >/dev/null)
  status=$?
  if [[ $status == "$2" && $out =~ $3 ]]; then pass "$1"; else fail "$1" "status $status, \"$out\""; fi
}
bash -c 'exit 0' &
gone=$!
wait $gone
refuses "no such process" 3 "no .*process|process.*(gone|ended)|There is no" "$quire" map $gone
refuses "a process without quire" 4 . "$quire" map $$
refuses "no such file" 1 "No such file" "$quire" map "$dir/nothing.qrec"
refuses "a directory" 1 "not a file" "$quire" map "$dir"
refuses "another file" 1 "no recording" "$quire" map tests/check.sh
: >"$dir/empty.qrec"
refuses "too short a file" 1 "too short" "$quire" map "$dir/empty.qrec"
cp "$dir/plain.qrec" "$dir/newer.qrec"
printf '\x02' | dd of="$dir/newer.qrec" bs=1 seek=8 conv=notrunc status=none
size=$(stat -c %s "$dir/film.qrec")
head -c $((size - 100)) "$dir/film.qrec" >"$dir/torn.qrec"
refuses "a recording that was cut off is shown, and one is told" 0 "is cut off or damaged behind its snapshot [0-9]+" \
  "$quire" map "$dir/torn.qrec"
refuses "and of its numbers" 0 "is cut off or damaged behind its snapshot [0-9]+" "$quire" stat "$dir/torn.qrec"
refuses "a newer version" 1 "version 2" "$quire" map "$dir/newer.qrec"
head -c 400 "$dir/plain.qrec" >"$dir/cut.qrec"
refuses "a recording without a whole snapshot" 1 "no whole snapshot" "$quire" map "$dir/cut.qrec"
refuses "what should it be?" 2 "png, .svg or .html" "$quire" map -o heap.gif "$dir/plain.qrec"
refuses "a directory that isn't there" 1 "." "$quire" map -o "$dir/none/heap.png" "$dir/plain.qrec"
refuses "-i without a terminal" 1 "terminal" "$quire" map -i "$dir/plain.qrec" </dev/null
"$quire" map --help | grep -q "examples:" && pass "map --help has examples" || fail "map --help" "no examples"
"$quire" record --help | grep -q "examples:" && pass "record --help has examples" || fail "record --help" "no examples"

# ---- images: as many pixels of a colour as there are frames of its kind, and the legend's ----

json=$("$quire" map --json "$dir/after.qrec")
free=$(number "$json" discarded)
owned=$(number "$json" owned)
frames_fit() { # NAME OWNED-PIXELS DISCARDED-PIXELS
  local c
  for ((c = 1; c <= 10; c++)); do
    if (($2 - owned * c * c >= 80 && $2 - owned * c * c <= 150 && $3 - free * c * c >= 80 && $3 - free * c * c <= 150)); then
      pass "$1 (cells of $c pixels)"
      return
    fi
  done
  fail "$1" "$2 and $3 pixels for $owned and $free frames"
}
# The area of each colour of an SVG: a path per colour, of rectangles "Mx yhWvHh-Wz", and the legend's squares.
areas() {
  awk '
    match($0, /fill="#[0-9a-f]*"/) { colour = substr($0, RSTART + 7, 6) }
    /^<path/ {
      sub(/.* d="/, "")
      n = split($0, all, "M")
      for (i = 2; i <= n; i++) { split(all[i], part, /[hvz]/); area[colour] += part[2] * part[3] }
    }
    /^<rect/ { match($0, /width="[0-9.]*/); w = substr($0, RSTART + 7, RLENGTH - 7); area[colour] += w * w }
    END { print area["e8d71e"] + 0, area["ebe8e1"] + 0 }' "$1"
}
for width in 400 1200; do
  "$quire" map --width $width -o "$dir/heap.png" "$dir/after.qrec"
  mapfile -t pixels < <("$dir/png" "$dir/heap.png" e8d71e ebe8e1)
  frames_fit "PNG of width $width: as many pixels as there are frames" "${pixels[1]}" "${pixels[2]}"
  [[ $width == 400 ]] || check "an image is as wide as asked for" "${pixels[0]% *}" $width
  "$quire" map --width $width -o "$dir/heap.svg" "$dir/after.qrec"
  read -r a b <<<"$(areas "$dir/heap.svg")"
  frames_fit "SVG of width $width: as large areas as there are frames" "${a%.*}" "${b%.*}"
done
cells=$(number "$json" frames)
size=$(stat -c %s "$dir/heap.svg")
[[ $(head -c 4 "$dir/heap.svg") == "<svg" && $(tail -n 1 "$dir/heap.svg") == "</svg>" ]] && pass "an SVG is whole" || fail "an SVG" "not whole"
((size < cells * 12)) && pass "an SVG of $cells frames is small" || fail "an SVG is small" "$size bytes for $cells frames"
"$quire" map --width 1480 -o "$dir/two.png" "$dir/before.qrec" "$dir/after.qrec" &&
  mapfile -t pixels < <("$dir/png" "$dir/two.png" d9f2e7 00664d)
((meshed == 0 || pixels[1] > 100)) && pass "before and after in one image" || fail "before and after in one image" "${pixels[*]}"
"$quire" map --theme dark -o "$dir/dark.png" "$dir/after.qrec"
mapfile -t pixels < <("$dir/png" "$dir/dark.png" 101216 fcfbf8)
((pixels[1] > 1000 && pixels[2] == 0)) && pass "a dark image" || fail "a dark image" "${pixels[*]}"

# ---- damaged recordings ----

begin 4 compact:off
"$quire" record --every 10 -o "$dir/killed.qrec" "$target" 2>/dev/null 4>&- 5<&- &
recorder=$!
for ((i = 0; i < 400 && $(stat -c %s "$dir/killed.qrec" 2>/dev/null || echo 0) < 20000; i++)); do pause; done
kill -KILL $recorder
wait $recorder 2>/dev/null
json=$("$quire" map --json "$dir/killed.qrec" 2>/dev/null)
check "a recording whose recorder was killed is good" "$(number "$json" pid)" "$target"
finish

if echo 'int main(void) { return 0; }' | ${CC:-cc} -fsanitize=address,undefined -x c - -o "$dir/probe" 2>/dev/null; then
  "$quire" map --json "$dir/film.qrec" >/dev/null
  compile damage -fsanitize=address,undefined -fno-sanitize-recover=undefined \
    tools/quire/{recording,columns,picture,palette,screen,snapshot,draw,numbers,cli,process,elf}.c -ljansson -lz -lm
  # A small one of its own: three snapshots of a few MiB.
  begin 2 compact:off
  "$quire" record -n 3 --every 10 -o "$dir/small.qrec" "$target" 2>/dev/null
  finish
  rounds=150
  ((${QUIRE_LONG:-0} == 0)) || rounds=20000
  if out=$("$dir/damage" "$dir/small.qrec" $rounds 2>&1); then pass "damaged recordings ($out)"; else fail "damaged recordings" "$(tail -n 5 <<<"$out")"; fi
else
  echo "SKIP damaged recordings: the compiler has no sanitizers"
fi

# shellcheck source=tests/quire-map/terminal.sh
. tests/quire-map/terminal.sh
# shellcheck source=tests/quire-map/page.sh
. tests/quire-map/page.sh
exit $((failures != 0))
