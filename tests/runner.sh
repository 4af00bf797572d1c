#!/bin/bash
# tests/check.sh itself, on a made-up tree: what fails, dies, hangs or says nothing must be counted.
set -u
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/quire-runner.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
failures=0
mkdir -p "$work/tests/programs" "$work/build/tests"
cp "$here/check.sh" "$work/tests/"

# expect NAME STATUS LAST-LINE: one test is in place; what check.sh makes of it.
expect() {
  local out status
  out=$(QUIRE_LONG=0 bash "$work/tests/check.sh" 2>&1)
  status=$?
  if [[ $status == "$2" && $(tail -n 1 <<<"$out") == "$3" ]]; then echo "PASS $1"; else
    tail -n 5 <<<"$out" | sed 's/^/  | /'
    echo "FAIL $1: status $status and \"$(tail -n 1 <<<"$out")\" instead of $2 and \"$3\""
    failures=$((failures + 1))
  fi
}
put() { printf '%s\n' '#!/bin/sh' "$@" >"$work/tests/programs/one.sh"; }

expect "no test at all is a failure" 1 "0 passed, 0 failed"
put 'echo PASS a' 'echo PASS b'
expect "passes are counted" 0 "2 passed, 0 failed"
put 'echo PASS a' 'echo "FAIL b: reason"' 'exit 1'
expect "a failure is counted" 1 "1 passed, 1 failed"
put 'echo PASS a' 'echo "FAIL b: reason"'
expect "a failure counts whatever the status" 1 "1 passed, 1 failed"
put 'echo PASS a' 'kill -SEGV $$'
expect "death is a failure" 1 "1 passed, 1 failed"
put 'exit 0'
expect "silence is a failure" 1 "0 passed, 1 failed"
put '# timeout: 1' 'echo PASS a' 'while :; do :; done'
expect "a test that hangs is a failure" 1 "1 passed, 1 failed"
put 'echo "SKIP a: not here"'
expect "nothing but skips is no success" 1 "0 passed, 0 failed"
put '# serial' 'echo PASS a'
printf '#!/bin/sh\necho PASS unit\n' >"$work/build/tests/some_test"
chmod +x "$work/build/tests/some_test"
expect "unit tests and scripts that run alone" 0 "2 passed, 0 failed"
exit $((failures != 0))
