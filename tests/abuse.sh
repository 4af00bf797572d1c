#!/bin/bash
# Runs each program of tests/abuse without options and with check:on, and looks at its last words: they must be one line,
# begin with "quire: ", say what was done, name the pointer and tell what the memmap knows of it.
# timeout: 300
set -u
cd "$(dirname "$0")/.." || exit 1
ulimit -c 0
library=$PWD/${QUIRE_LIBRARY:-build/libquire.so}
programs=build/tests/abuse
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
status=0

fail() {
  echo "FAIL $1: $2"
  status=1
}

# Prints what is wrong with the last words, nothing if all is well: expected text, address.
judge_words() {
  local line
  line=$(head -n 1 "$temporary/err")
  if [[ $(wc -l <"$temporary/err") != 1 ]]; then
    echo "wants one line on stderr, got: $(head -c 300 "$temporary/err" | tr '\n' '|')"
  elif [[ $line != "quire: "* || $line != *"; aborting" ]]; then
    echo "not in the form of last words: $line"
  elif ! grep -qE "$1" <<<"$line"; then
    echo "wants \"$1\": $line"
  elif ! grep -qE "$2( with size [0-9]+)?: [^ ]+ .*" <<<"$line"; then
    echo "does not name $2 and what is known of it: $line"
  fi
}

try() { # program mode expected configuration
  local name=$1-$2 expected=$3 code why
  env LD_PRELOAD="$library" QUIRE_CONF="$4" timeout 60 "$programs/$1" >"$temporary/out" 2>"$temporary/err" </dev/null
  code=$?
  case $expected in
    ok)
      if ((code == 0)) && [[ ! -s $temporary/err ]]; then echo "PASS $name"
      else fail "$name" "wants an exit with 0 and silence, got $code and: $(head -n 1 "$temporary/err")"; fi
      ;;
    segv)
      if ((code == 139)); then echo "PASS $name"
      else fail "$name" "wants SIGSEGV, got status $code and: $(head -n 1 "$temporary/err")"; fi
      ;;
    *)
      why=$(judge_words "$expected" "$(head -n 1 "$temporary/out")")
      if ((code != 134)); then fail "$name" "wants SIGABRT, got status $code: $why"
      elif [[ -n $why ]]; then fail "$name" "$why"
      else echo "PASS $name"; fi
      ;;
  esac
}

[[ -r $library ]] || { echo "FAIL abuse: no $library"; exit 1; }
for source in tests/abuse/*.c; do
  program=$(basename "$source" .c)
  for mode in default check; do
    expected=$(sed -n "s,^// $mode: ,,p" "$source")
    configuration=
    [[ $mode == check ]] && configuration=check:on
    if [[ ! -x $programs/$program ]]; then
      fail "$program-$mode" "was not built"
    elif [[ -z $expected ]]; then
      fail "$program-$mode" "says nothing of how it must end"
    elif [[ $expected != later ]]; then
      try "$program" "$mode" "$expected" "$configuration"
    fi
  done
done 2>/dev/null
exit $status
