#!/bin/bash
# Cross-compiles the library for aarch64 and runs the unit tests under qemu-user, which has no restartable sequences:
# tests/aarch64-system.sh has.
# serial
# timeout: 900
set -u
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/aarch64/build.sh
. tests/aarch64/build.sh
export QUIRE_STEPS=${QUIRE_STEPS:-20000}
# An emulator keeps books of all address space that is reserved: little of it will do.
export QUIRE_CONF=reserve:2G
status=0
why=$(lacking | head -n 1)
command -v qemu-aarch64 >/dev/null || why="no qemu-aarch64 here"
[[ -z $why ]] || { echo "SKIP aarch64: $why"; exit 0; }

build_library objects || exit 1
for source in tests/unit/*_test.c; do
  name=$(basename "$source" .c)
  build_test "$name" || { status=1; continue; }
  # These are about memory that is mapped twice, and mremap of no length fails there.
  case $name in compact_test | compaction_test | mesh_test | migrate_test | move_out_test | mover_test | zone_test)
    echo "SKIP $name: qemu-user can't map memory twice; tests/aarch64-system.sh runs it"
    continue ;;
  esac
  timeout 200 qemu-aarch64 -L $sysroot "$out/tests/$name" >"$out/tests/$name.out" 2>&1
  code=$?
  grep -E '^(PASS|FAIL|SKIP) ' "$out/tests/$name.out" | sed -E "s/^([A-Z]+) /\1 ${name%_test}./"
  if ((code != 0)); then
    status=1
    grep -q '^FAIL ' "$out/tests/$name.out" || echo "FAIL $name: ended with status $code: $(tail -n 1 "$out/tests/$name.out")"
  fi
done
exit $status
