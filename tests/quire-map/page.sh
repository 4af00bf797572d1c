# Part of tests/quire-map.sh: the page in a browser, by real events of mouse and keys.

# drive PAGE: the lines of standard input; what they answered goes to the array `said`.
drive() {
  mapfile -t said < <(timeout 300 "$dir/browser" "$chromium" "$dir/profile" "file://$1" 2>"$dir/browser.err")
  ((${#said[@]} > 0)) || said=("$(tail -n 3 "$dir/browser.err")")
}
# The same as the page says: the middle of a frame's cell on the screen, in pixels of the page.
place='(f => { const v = QUIRE.view, b = v.canvas.getBoundingClientRect(), p = v.plan.placeOf(f), s = v.camera.scale; return [b.left + (p.x + .5 - v.camera.x) * s, b.top + (p.y + .5 - v.camera.y) * s]; })'
find_frame="(k => QUIRE.view.surface.heap.cells.findIndex((c, i) => QUIRE.kinds[QUIRE.view.surface.heap.kind(i)] === k))"

page_hover() {
  local kind frame x y card owner
  for kind in slab host guest folio owned hollow discarded; do
    drive "$dir/after.html" <<<"eval QUIRE.ready.then(() => 1)
frame
eval $find_frame('$kind')
eval $place($find_frame('$kind'))"
    frame=${said[1]:-}
    if [[ $frame == -1 && $kind != slab && $kind != folio && $kind != owned ]]; then
      echo "SKIP hovering a $kind: this heap has none"
      continue
    fi
    IFS=', ' read -r x y <<<"$(tr -d '[]' <<<"${said[2]:-0,0}")"
    drive "$dir/after.html" <<<"eval QUIRE.ready.then(() => 1)
frame
move $x $y
frame
eval document.getElementById('card').dataset.kind + ' ' + document.getElementById('card').dataset.frame
eval document.getElementById('card').hidden ? '' : document.getElementById('card').textContent
errors"
    card=${said[2]:-}
    owner=$("$quire" map --frame "$frame" "$dir/after.qrec")
    check "hovering a $kind finds it" "${said[1]:-}" "\"$kind $frame\""
    # What the command says of this frame, the page says too.
    if [[ $owner =~ of\ ([0-9]+)\ B,\ ([0-9]+)\ of\ ([0-9]+)\ free ]]; then
      [[ $card == *"objects${BASH_REMATCH[1]} B each"* && $card == *"slots${BASH_REMATCH[2]} of ${BASH_REMATCH[3]} free"* ]] &&
        pass "and tells its owner ($kind)" || fail "and tells its owner ($kind)" "$card instead of $owner"
    fi
    [[ ! $owner =~ guest\ of\ frame\ ([0-9]+) || $card == *"memoryof frame ${BASH_REMATCH[1]}"* ]] || fail "a guest's host" "$card"
    [[ $owner =~ (0x[0-9a-f]+): && $card == *"address${BASH_REMATCH[1]}"* ]] || fail "the address ($kind)" "$card"
    check "no errors while hovering a $kind" "${said[3]:-}" 0
  done
}

page_slider() {
  local kind=guest before after
  ((meshed > 0)) || kind=hollow
  # The border goes to the right end and to the left: what is under the mouse is before, then after.
  drive "$dir/compare.html" <<<"eval QUIRE.ready.then(() => QUIRE.frame = $find_frame('$kind'))
frame
eval [$place(QUIRE.frame), [QUIRE.view.borderX() + QUIRE.view.canvas.getBoundingClientRect().left, QUIRE.view.canvas.getBoundingClientRect().top + 200, QUIRE.view.width()]].flat()"
  IFS=', ' read -r x y border at width <<<"$(tr -d '[]' <<<"${said[1]:-0,0,0,0,0}")"
  local right=${width%.*} pixel="(p => [...QUIRE.view.canvas.getContext('2d').getImageData(p[0] - QUIRE.view.canvas.getBoundingClientRect().left, p[1] - QUIRE.view.canvas.getBoundingClientRect().top, 1, 1).data].slice(0, 3).map(v => v.toString(16).padStart(2, '0')).join(''))($place(QUIRE.frame))"
  drive "$dir/compare.html" <<<"eval QUIRE.ready.then(() => QUIRE.frame = $find_frame('$kind'))
frame
move $border $at
down $border $at
move 400 $at
move $right $at
up $right $at
frame
eval QUIRE.view.border > .95
move $x $y
frame
eval document.getElementById('card').dataset.kind
eval $pixel
eval document.getElementById('left').textContent + ' ' + document.getElementById('right').textContent
move $right $at
down $right $at
move 300 $at
move 20 $at
up 20 $at
frame
eval QUIRE.view.border < .05
move $x $y
frame
eval document.getElementById('card').dataset.kind
eval $pixel
errors"
  check "the slider moves to the right" "${said[1]:-}" true
  check "its labels" "${said[4]:-}" '"before after"'
  [[ ${said[2]:-} != "\"$kind\"" && ${said[2]:-} == '"'*'"' ]] && pass "left of it is what was before (${said[2]})" ||
    fail "left of the slider" "${said[2]:-}"
  check "the slider moves to the left" "${said[5]:-}" true
  check "right of it is what is after" "${said[6]:-}" "\"$kind\""
  [[ ${said[3]:-} != "${said[7]:-}" ]] && pass "and it is drawn so" || fail "the two sides are drawn alike" "${said[3]:-}"
  check "no errors while sliding" "${said[8]:-}" 0
}

# Becomes true within some hundred frames, or false.
reached() { echo "new Promise(r => { let n = 600; const look = () => $1 ? r(true) : n-- > 0 ? requestAnimationFrame(look) : r(false); look(); })"; }

page_player() {
  local legend='[...document.querySelectorAll("#legend li")].map(e => e.dataset.kind).join(" ")'
  drive "$dir/film.html" <<<"eval QUIRE.ready.then(() => QUIRE.view.entries.length > 2)
frame
eval (b => [b.left + b.width / 2, b.top + b.height / 2])(document.getElementById('play').getBoundingClientRect())
eval (b => [b.left, b.top + b.height / 2, b.right])(document.getElementById('seek').getBoundingClientRect())"
  check "a recording has a player" "${said[0]:-}" true
  IFS=', ' read -r x y <<<"$(tr -d '[]' <<<"${said[1]:-0,0}")"
  IFS=', ' read -r left row right <<<"$(tr -d '[]' <<<"${said[2]:-0,0,0}")"
  local ended="new Promise(r => { const look = () => QUIRE.view.index === QUIRE.view.entries.length - 1 && !QUIRE.view.playing ? r(QUIRE.view.sides[1].heap.kinds) : requestAnimationFrame(look); look(); })"
  drive "$dir/film.html" <<<"eval QUIRE.ready.then(() => [QUIRE.view.index, QUIRE.view.playing])
frame
eval document.getElementById('speed').value = '16'
down $x $y
up $x $y
eval $ended
eval document.getElementById('time').textContent
key ,
eval $(reached 'QUIRE.view.index === QUIRE.view.entries.length - 2')
down $((${left%.*} + 9)) $row
up $((${left%.*} + 9)) $row
frame
eval $(reached 'QUIRE.view.index < QUIRE.view.entries.length / 2')
key c
frame
eval !document.getElementById('divider').hidden
eval $legend.length > 0
errors"
  check "it begins at the beginning" "${said[0]:-}" "[0,false]"
  # The page's last moment, played by differences, is the command's.
  json=$("$quire" map --json "$dir/film.qrec")
  local should= kind
  for kind in unused discarded free slab hollow host guest folio guard owned meta poison reserved unsure; do
    should+=,$(number "$json" $kind)
  done
  check "play goes to the end, and shows it" "${said[2]:-}" "[${should#,}]"
  check "a key goes a moment back" "${said[4]:-}" true
  check "a click into the timeline goes there" "${said[5]:-}" true
  check "compare from a recording" "${said[6]:-} ${said[7]:-}" "true true"
  check "no errors while playing" "${said[8]:-}" 0
}

page_zoom() {
  drive "$dir/after.html" <<<"eval QUIRE.ready.then(() => 1)
frame
move 500 400
eval QUIRE.before = QUIRE.view.at(500 - 18, 400 - QUIRE.view.canvas.getBoundingClientRect().top).frame
wheel 500 400 -900
frame
eval QUIRE.view.at(500 - 18, 400 - QUIRE.view.canvas.getBoundingClientRect().top).frame === QUIRE.before
eval QUIRE.view.camera.scale > 8
down 500 400
move 560 430
up 560 430
frame
eval QUIRE.view.at(560 - 18, 430 - QUIRE.view.canvas.getBoundingClientRect().top).frame === QUIRE.before
key 0
frame
eval QUIRE.view.fitted
key t
frame
eval QUIRE.view.dark
eval getComputedStyle(document.body).backgroundColor
size 420 700
frame
eval document.documentElement.scrollWidth <= 420
errors"
  check "the wheel zooms around the mouse" "${said[2]:-} ${said[3]:-}" "true true"
  check "dragging moves the picture" "${said[4]:-}" true
  check "0 shows all" "${said[5]:-}" true
  check "t is for the dark" "${said[6]:-} ${said[7]:-}" 'true "rgb(16, 18, 22)"'
  check "a narrow window is no problem" "${said[8]:-}" true
  check "no errors while zooming" "${said[9]:-}" 0
}

chromium=$(command -v chromium || command -v chromium-browser || :)
"$quire" map -o "$dir/after.html" "$dir/after.qrec"
grep -qE '(src|href)="?[a-z]+:/|@import|https?://' "$dir/after.html" && fail "the page needs no network" "it names an address" ||
  pass "the page needs no network"
if [[ -z $chromium ]]; then
  echo "SKIP page: chromium is not installed"
else
  compile browser -ljansson
  "$quire" map -o "$dir/compare.html" "$dir/before.qrec" "$dir/after.qrec"
  "$quire" map -o "$dir/film.html" "$dir/film.qrec"
  page_hover
  page_slider
  page_player
  page_zoom
fi
