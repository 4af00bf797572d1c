#!/bin/bash
# timeout: 900
# python3's own regression tests. Each case must end as it does without quire: what this machine fails
# or skips anyway is not held against it.
. "$(dirname "$0")/lib.sh"

# Debian's interpreter, whatever else is first in PATH: its tests come from the same package source.
python=/usr/bin/python3
if ! $python -c 'import test.test_json' 2>/dev/null; then
  skip python "Debian's testsuite package is not installed"
  finish
fi

tests="test_threading test_subprocess test_multiprocessing_fork test_json test_sqlite3 test_mmap"
tests+=" $(amount "" "test_multiprocessing_spawn test_multiprocessing_forkserver test_gc test_ctypes
  test_asyncio test_concurrent_futures test_io test_re test_pickle test_dict test_list test_bytes
  test_zlib test_ssl test_socket test_fork1 test_posix test_mailbox test_array test_set")"

# Virtual machines whose host answers no vsock wait for it for ever, with quire or without: --ignore.
#
# Without PYTHONMALLOC python serves small objects itself; with malloc every one of them is a call.
regression() { # directory, command prefix...
  local dir=$1
  shift
  mkdir -p "$dir"
  (
    cd "$dir" || exit
    # shellcheck disable=SC2086
    PYTHONMALLOC=malloc TMPDIR=$dir "$@" $python -m test --timeout "$(amount 300 1500)" \
      --ignore '*VSOCK*' --junit-xml "$dir/result.xml" $tests
  ) >"$dir/out" 2>&1
  # One line per case: its name and how it ended.
  $python - "$dir/result.xml" >"$dir/cases" <<'END'
import sys
import xml.etree.ElementTree as tree
for case in sorted(tree.parse(sys.argv[1]).iter("testcase"), key=lambda c: c.get("name")):
    ends = [end for end in ("failure", "error", "skipped") if case.find(end) is not None]
    print(case.get("name"), ends[0] if ends else case.get("result"))
END
}

loads python3 $python -c pass

$python "$src/sqlite_module.py" >"$work/sqlite.without"
quire $python "$src/sqlite_module.py" >"$work/sqlite.with" 2>&1
same "sqlite3 module" "$work/sqlite.without" "$work/sqlite.with"

regression "$work/without" env &
other=$!
regression "$work/with" "${on_quire[@]}"
wait "$other"

# Without results nothing can be compared: the interpreter died, or a test of it hung.
for side in without with; do
  [[ -s $work/$side/result.xml ]] && continue
  tail -n 20 "$work/$side/out"
  fail "regression tests" "no results from python $side quire"
  finish
done

for test in $tests; do
  # A case is named like __main__.Class.name or test.test_x.Class.name; results come per file as well.
  module=${test//./[.]}
  [[ $test != test_ctypes ]] || module='ctypes[.]test' # its cases lie in the library itself
  for side in without with; do
    grep -E "(^|[. ])$module([. ]|\$)" "$work/$side/cases" >"$work/$side/$test"
  done
  if ! $python -c "import test.$test" 2>/dev/null; then
    skip "$test" "not part of Debian's testsuite package"
  elif [[ ! -s $work/without/$test ]]; then
    fail "$test" "no case of it ran without quire"
  elif cmp -s "$work/without/$test" "$work/with/$test"; then
    echo "$test: $(wc -l <"$work/with/$test") cases, $(grep -c ' completed$' "$work/with/$test") completed," \
      "$(grep -c ' skipped$' "$work/with/$test") skipped"
    pass "$test"
  else
    diff "$work/without/$test" "$work/with/$test" | head -n 15
    grep -aE -A 12 '^(FAIL|ERROR):|Fatal|quire:' "$work/with/out" | head -n 40
    fail "$test" "ends differently than without quire"
  fi
done
finish
