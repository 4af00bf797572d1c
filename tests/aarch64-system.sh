#!/bin/bash
# The unit tests, and a preloaded program, on an emulated aarch64 machine. Unlike qemu-user it has a real kernel, and with it
# restartable sequences.
#
#   tests/aarch64-system.sh [NAME...]      only these unit tests
#
# Runs in make check-long, or when QUIRE_AARCH64_KERNEL is set. Needs qemu-system-aarch64 and a kernel for it: QUIRE_AARCH64_KERNEL=FILE, or that of Debian's installer
# (tools/deps.sh aarch64 installs both). The machine's disk is an initramfs made here, of C programs only.
# serial
# timeout: 900
set -u
export LC_ALL=C
if [[ ${QUIRE_LONG:-0} == 0 && $# == 0 && -z ${QUIRE_AARCH64_KERNEL:-} ]]; then
  echo "SKIP aarch64-system: it takes long: make check-long runs it"
  exit 0
fi
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/aarch64/build.sh
. tests/aarch64/build.sh
# shellcheck source=tests/aarch64/initramfs.sh
. tests/aarch64/initramfs.sh
# Emulation is slow; what takes other threads' caches is what this machine is for.
steps=${QUIRE_STEPS:-2000}
hammer=${QUIRE_STEPS:-3000000}
seconds=800
if [[ ${QUIRE_LONG:-0} != 0 ]]; then steps=20000 hammer=20000000 seconds=16000; fi

kernel=${QUIRE_AARCH64_KERNEL:-}
for file in /usr/lib/debian-installer/images/*/arm64/text/debian-installer/arm64/linux; do
  [[ -n $kernel || ! -e $file ]] || kernel=$file
done
why=$(lacking | head -n 1)
command -v qemu-system-aarch64 >/dev/null || why="no qemu-system-aarch64 here (tools/deps.sh aarch64)"
[[ -n $why || -r $kernel ]] || why="no aarch64 kernel here (tools/deps.sh aarch64, or QUIRE_AARCH64_KERNEL=FILE)"
[[ -z $why ]] || { echo "SKIP aarch64-system: $why"; exit 0; }

build_library objects $out/libquire.so || exit 1
names=${*:-$(find tests/unit -maxdepth 1 -name '*_test.c' | sed 's,.*/\(.*\)\.c,\1,' | sort)}
status=0
built=()
for name in $names; do
  if [[ $# == 0 && ${QUIRE_LONG:-0} == 0 && $name =~ ^(compact|mesh) ]]; then
    echo "SKIP $name: takes many minutes under emulation; QUIRE_LONG=1 or its name as an argument runs it"
    continue
  fi
  if build_test "$name"; then built+=("$name"); else status=1; fi
done
for program in aarch64/init background/caches; do
  # shellcheck disable=SC2086
  if ! ${prefix}gcc -std=gnu17 -D_GNU_SOURCE -O1 -g -fno-builtin -Wall -Wextra -Wno-unused-function -Iinclude \
    tests/$program.c -lpthread -o "$out/${program#*/}" 2>"$out/build.log"; then
    echo "FAIL build: $program: $(grep -m 1 error "$out/build.log")"
    exit 1
  fi
done

archive() {
  local name
  for name in dev proc sys tmp lib tests preloaded; do directory $name; done
  member dev/console 0020600 "" 5 1
  for name in ld-linux-aarch64.so.1 libc.so.6 libm.so.6; do member lib/$name 0100755 $sysroot/lib/$name; done
  program lib/libquire.so $out/libquire.so
  program init $out/init
  program preloaded/caches $out/caches
  for name in "${built[@]}"; do program "tests/$name" "$out/tests/$name"; done
  member TRAILER!!! 0
}
archive >$out/initramfs

# ---- the machine; unknown words of the command line become its first process's environment ----
console=$out/console.log
timeout --foreground $seconds qemu-system-aarch64 -M virt -cpu cortex-a72 -smp 2 -m 2G -accel tcg,thread=multi \
  -nodefaults -no-user-config -display none -no-reboot -serial stdio -kernel "$kernel" -initrd $out/initramfs \
  -append "console=ttyAMA0 quiet panic=-1 SECONDS_EACH=$((seconds / 4)) QUIRE_STEPS=$steps STEPS_tcache_test=$hammer" \
  </dev/null >$console.raw 2>&1
tr -d '\r' <$console.raw >$console

# This machine is for taking caches: nothing of that may be left out.
lines=$(what_was_said tcache $console)
echo "$lines"
grep -q '^FAIL ' <<<"$lines" && status=1
exit $status
