#!/bin/sh
# A process reads the heap of another, live one that allocates in several threads: tests/peek/reader.c
# follows the protocol of include/quire.h, tests/peek/target.c runs under LD_PRELOAD and knows nothing
# of it.
# timeout: 120
set -u
cd "$(dirname "$0")/.." || exit 1
library=${QUIRE_LIB:-build/libquire.so}
case $library in /*) ;; *) library=$PWD/$library ;; esac
[ -f "$library" ] || { echo "FAIL peek: $library is missing: make"; exit 1; }

scope=$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)
if [ "$scope" = 3 ] || { [ "$scope" = 2 ] && [ "$(id -u)" != 0 ]; }; then
  echo "SKIP peek: ptrace_scope is $scope: no process may read another"
  exit 0
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for program in target reader; do
  ${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Iinclude "tests/peek/$program.c" \
    -lpthread -o "$dir/$program" || { echo "FAIL peek: $program does not compile"; exit 1; }
done
"$dir/reader" "$library" "$dir/target"
