# Part of tests/quire-map.sh: the terminal's views, by tmux.

screen() { tmux -S "$dir/tmux.$window" capture-pane -p; }
keys() { tmux -S "$dir/tmux.$window" send-keys "$@"; }
# Waits until the screen shows a pattern, as a user would.
shows() {
  local i
  for ((i = 0; i < 400; i++)); do
    screen | grep -qE "$1" && return 0
    pause
  done
  return 1
}
longest() { wc -L; } # in columns; not every awk knows characters of several bytes

terminal_at() { # WIDTH HEIGHT
  window=$1
  local size=$1x$2 out
  tmux -S "$dir/tmux.$window" -f /dev/null new-session -d -x "$1" -y "$2" \
    "env -u TMUX TERM=xterm-256color PS1='\$ ' bash --norc" || { fail "tmux $size" "it does not start"; return; }
  shows '\$' || :
  keys "clear; $quire map $dir/after.qrec" Enter
  if shows '^target ' && shows '^\$ *$'; then pass "$size: prints"; else fail "$size: prints" "$(screen | tail -n 3)"; fi
  out=$(screen)
  grep -qE '^target [0-9]+ .*held, .*live' <<<"$out" && pass "$size: title" || fail "$size: title" "$(head -n 2 <<<"$out")"
  grep -q 'slab [0-9.]* [KM]iB' <<<"$out" && grep -q 'folio [0-9.]* [KM]iB' <<<"$out" && pass "$size: legend" ||
    fail "$size: legend" "$(tail -n 6 <<<"$out")"
  (($(longest <<<"$out") <= $1)) && pass "$size: no line is too long" || fail "$size: line length" "$(longest <<<"$out")"
  (($(grep -c '▀' <<<"$out") >= $2 / 4)) && pass "$size: the picture fills the window" ||
    fail "$size: the picture" "$(grep -c '▀' <<<"$out") rows of half blocks"
  keys "clear; NO_COLOR=1 $quire map $dir/after.qrec | cat -v; echo do''ne" Enter
  shows '^done'
  screen | grep -q '\^\[' && fail "$size: NO_COLOR" "there are escape sequences" || pass "$size: NO_COLOR: no escape sequences"
  keys "clear; $quire map -i $dir/film.qrec" Enter
  shows 'frame [0-9]+ 0x' && pass "$size: browses" || fail "$size: browses" "$(screen | tail -n 4)"
  keys g
  shows 'frame 0 0x' && pass "$size: g goes to the first frame" || fail "$size: g" "$(screen | tail -n 4)"
  keys + + + + Right Right Down
  shows 'frame (1|3[2-9]|[4-9][0-9]) 0x' && pass "$size: zooms and moves" || fail "$size: zooms and moves" "$(screen | tail -n 4)"
  (($(screen | longest) <= $1)) && pass "$size: no line is too long while browsing" || fail "$size: browsing" "$(screen | longest)"
  keys , ,
  shows ' [0-9]+/[0-9]+ at ' && pass "$size: moments" || fail "$size: moments" "$(screen | head -n 1)"
  keys q
  shows '\$ *$' && pass "$size: q leaves" || fail "$size: q leaves" "$(screen | tail -n 4)"
  keys "clear; $quire map -i $dir/torn.qrec" Enter
  shows 'is cut off or damaged' && pass "$size: tells that a recording was cut off" ||
    fail "$size: a recording that was cut off" "$(screen | tail -n 4)"
  keys Right
  shows 'frame [0-9]+ 0x' && pass "$size: until a key is pressed" || fail "$size: a key" "$(screen | tail -n 4)"
  keys q
  shows '\$ *$'
  tmux -S "$dir/tmux.$window" kill-server
}

if command -v tmux >/dev/null; then
  terminal_at 80 24
  terminal_at 200 60
else
  echo "SKIP terminal: tmux is not installed"
fi
