# What the program tests share; each sources this file. A program runs once as it is and once on quire,
# and its output must be the same.
#
# QUIRE_LIB=path    the library under test (build/libquire.so)
# QUIRE_LONG=1      the whole load instead of a shortened one
# QUIRE_CONF        is passed on, so a test can be run by hand with any option
set -u
export LC_ALL=C
programs=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$programs/../.." && pwd)
src=$programs/src
lib=$(realpath -m "${QUIRE_LIB:-$root/build/libquire.so}")
unset LD_PRELOAD
failures=0
servers=()

work=$(mktemp -d "${TMPDIR:-/tmp}/quire-test.XXXXXX") || exit 1
clean() {
  for pid in "${servers[@]}"; do kill "$pid" 2>/dev/null; done
  for pid in "${servers[@]}"; do wait "$pid" 2>/dev/null; done
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

pass() { echo "PASS $1"; }
fail() { # name, reason
  echo "FAIL $1: $2"
  failures=$((failures + 1))
}
skip() { echo "SKIP $1: $2"; }
finish() { exit $((failures != 0)); }

# The first argument in a short run, the second in a long one.
amount() { if [[ ${QUIRE_LONG:-0} == 0 ]]; then echo "$1"; else echo "$2"; fi; }

# Runs a command, and what it starts, on quire. As words for a command in the background, where a
# function would leave a shell between: "${on_quire[@]}" server &
quire() { LD_PRELOAD=$lib "$@"; }
on_quire=(env "LD_PRELOAD=$lib")

# Leaves the script when one of these commands is not installed.
need() {
  for command in "$@"; do
    if ! command -v "$command" >/dev/null; then
      skip "$command" "not installed"
      finish
    fi
  done
}

# check NAME COMMAND...: the command must succeed; what it printed is shown when it does not.
check() {
  local name=$1 status
  shift
  "$@" >"$work/check.out" 2>&1
  status=$?
  if ((status == 0)); then
    pass "$name"
  else
    tail -n 15 "$work/check.out"
    fail "$name" "status $status from: $(basename "$1") ${*:2:3}"
  fi
}

# same NAME WITHOUT WITH: two files must be alike, and not empty.
same() {
  if [[ ! -s $2 ]]; then
    fail "$1" "the run without quire gave nothing to compare"
  elif cmp -s "$2" "$3"; then
    pass "$1"
  else
    diff "$2" "$3" 2>&1 | head -n 10 | cut -c 1-300
    fail "$1" "differs from the run without quire"
  fi
}

# Says whether a running process has the library mapped.
is_on_quire() { grep -qF "$lib" "/proc/$1/maps"; }

# loads NAME COMMAND...: while COMMAND runs on quire, a program whose file is called NAME must be started
# with the library in it. The dynamic linker itself is asked, so children count as well.
loads() {
  local program=$1 found= file
  shift
  rm -f "$work"/loads.*
  LD_DEBUG=files LD_DEBUG_OUTPUT=$work/loads LD_PRELOAD=$lib "$@" >"$work/loads-out" 2>&1 </dev/null
  for file in "$work"/loads.*; do
    grep -qE "initialize program: (.*/)?$program\$" "$file" 2>/dev/null &&
      grep -qF "calling init: $lib" "$file" && found=1
  done
  if [[ -n $found ]]; then
    pass "$program is on quire"
  else
    tail -n 5 "$work/loads-out"
    fail "$program is on quire" "the dynamic linker did not load $lib into it"
  fi
}

# until_true SECONDS COMMAND...: tries again until it succeeds.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || return 1
    sleep 0.05
  done
}

free_port() {
  perl -MIO::Socket::INET -e \
    'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport, "\n"'
}

# Ends a server that this script started and waits for it.
stop_server() {
  kill "$1" 2>/dev/null
  wait "$1" 2>/dev/null
  local left=() pid
  for pid in "${servers[@]}"; do [[ $pid == "$1" ]] || left+=("$pid"); done
  servers=("${left[@]}")
}

# Compiles one of src/*.c or *.cc into $work: build_program NAME.c [flags...]
build_program() {
  local source=$1 compiler=cc standard=-std=gnu17
  shift
  [[ $source != *.cc ]] || { compiler=c++ standard=-std=c++17; }
  if ! "$compiler" "$standard" -O2 -g -Wall -Wextra -o "$work/${source%.*}" "$src/$source" "$@" \
    >"$work/cc.out" 2>&1; then
    cat "$work/cc.out"
    fail "compile $source" "$compiler failed"
    finish
  fi
}

# judge NAME COMMAND...: runs a program that prints PASS and FAIL lines itself, NAME before each. Silence
# and death are failures.
judge() {
  local name=$1 status
  shift
  # By a pipe: a program under RLIMIT_FSIZE may not write to a file.
  "$@" 2>"$work/judge.err" </dev/null | cat >"$work/judge.out"
  status=${PIPESTATUS[0]}
  sed -E "s/^(PASS|FAIL|SKIP) /&$name: /" "$work/judge.out"
  if ((status)) || grep -q 'ld.so: object' "$work/judge.err"; then
    tail -n 10 "$work/judge.err"
    if grep -q '^FAIL ' "$work/judge.out"; then failures=$((failures + 1)); else
      fail "$name" "status $status"
    fi
  elif ! grep -qE '^(PASS|SKIP) ' "$work/judge.out"; then
    fail "$name" "said nothing"
  fi
}

if [[ ! -r $lib ]] || ! quire grep -qF "$lib" /proc/self/maps; then
  fail "preload" "$lib cannot be preloaded"
  finish
fi
