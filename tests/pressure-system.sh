#!/bin/bash
# memory.high of a control group, on an emulated machine: few real ones let a test make such a group, and on them others'
# stalls are answered, too. Its disk is an initramfs made here.
#
#   tests/pressure-system.sh                              the tests
#   tests/pressure-system.sh measure PROGRAM CONF WORD... runs bench/pressure.c's program there with these options of quire's
#                                                         and of its own, and prints what it says; status 2: it can't be had
#
# Needs qemu-system-x86_64 and a kernel (see tests/aarch64/initramfs.sh; tools/deps.sh numa installs both). That of Debian 12
# can't mesh, so there a pass only discards, and its rings can't wait for a futex, so the thread polls.
# serial
# timeout: 300
set -u
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/aarch64/initramfs.sh
. tests/aarch64/initramfs.sh
out=build/check-high
prefix=
lib=${QUIRE_LIB:-build/libquire.so}
[[ -f $lib ]] || { echo "FAIL pressure-system: there is no $lib"; exit 1; }
measured=
words=psi=0 # no stalls are counted: memory.high is all that there is to answer
if [[ ${1:-} == measure ]]; then
  measured=$2
  words="$words MEASURE_CONF=$3 MEASURE=$(IFS=, && echo "${*:4}")"
fi

find_parts libc.so.6 libm.so.6
if [[ -n $why ]]; then
  [[ -z $measured ]] || { echo "$why"; exit 2; }
  echo "SKIP pressure-system: $why"
  exit 0
fi
mkdir -p $out
build_programs aarch64/init pressure/high background/refuse || exit 1

archive() {
  common_members "$lib"
  program tests/high $out/high
  program bin/refuse $out/refuse
  [[ -z $measured ]] || program bin/pressure "$measured"
  member TRAILER!!! 0
}
archive >$out/initramfs
run_machine 280 "$words" -smp 2 -m 1G

if [[ -n $measured ]]; then
  # All that stands between these two lines.
  sed -n '/^BEGIN high$/,/^END high /{//!p}' $out/console.log | sed '/^$/d'
  grep -q '^END high 0$' $out/console.log
  exit
fi
lines=$(what_was_said "" $out/console.log)
echo "$lines"
grep 'from the event' $out/console.log # for information: emulated, all takes ten to twenty times as long
! grep -q '^FAIL ' <<<"$lines"
