#!/bin/bash
# A preloaded program on a machine with two nodes of memory, emulated: where the kernel says that things are.
#
# Needs qemu-system-x86_64, hwloc, and a kernel: QUIRE_X86_KERNEL=FILE, that of Debian's installer (tools/deps.sh numa
# installs all three), or the one that runs here, if it may be read. The machine's disk is an initramfs made here.
# serial
# timeout: 400
set -u
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tests/aarch64/initramfs.sh
. tests/aarch64/initramfs.sh
out=build/check-numa
prefix=
lib=${QUIRE_LIB:-build/libquire.so}
[[ -f $lib ]] || { echo "FAIL numa-system: there is no $lib"; exit 1; }
seconds=380

why=
[[ $(uname -m) == x86_64 ]] || why="this is no x86-64 machine"
command -v qemu-system-x86_64 >/dev/null || why="no qemu-system-x86_64 here (tools/deps.sh numa)"
libraries=()
for name in libc.so.6 libm.so.6 libhwloc.so.15 libudev.so.1; do
  path=$(ldconfig -p 2>/dev/null | sed -n "s/.*$name .*x86-64.*=> //p" | head -n 1)
  [[ -n $path ]] || why="no $name here"
  libraries+=("$path")
done
kernel=${QUIRE_X86_KERNEL:-}
for file in /usr/lib/debian-installer/images/*/amd64/text/debian-installer/amd64/linux "/boot/vmlinuz-$(uname -r)"; do
  [[ -n $kernel || ! -r $file ]] || kernel=$file
done
[[ -n $why || -r $kernel ]] || why="no kernel here (tools/deps.sh numa, or QUIRE_X86_KERNEL=FILE)"
[[ -z $why ]] || { echo "SKIP numa-system: $why"; exit 0; }

mkdir -p $out
for program in aarch64/init numa/machine; do
  if ! cc -std=gnu17 -D_GNU_SOURCE -O1 -g -fno-builtin -Wall -Wextra -Wno-unused-function -Iinclude \
    tests/$program.c -lpthread -o "$out/${program#*/}" 2>"$out/build.log"; then
    echo "FAIL build: $program: $(grep -m 1 error "$out/build.log")"
    exit 1
  fi
done

archive() {
  local name path
  for name in dev proc sys tmp lib lib64 lib/x86_64-linux-gnu tests preloaded; do directory $name; done
  member dev/console 0020600 "" 5 1
  program lib64/ld-linux-x86-64.so.2 "$(realpath /lib64/ld-linux-x86-64.so.2)"
  for path in "${libraries[@]}"; do program "lib/x86_64-linux-gnu/$(basename "$path")" "$(realpath "$path")"; done
  program lib/libquire.so "$lib"
  program init $out/init
  program preloaded/machine $out/machine
  member TRAILER!!! 0
}
archive >$out/initramfs

# As on real machines: a processor and its memory, twice. The kernel is kept from moving pages by itself.
console=$out/console.log
timeout --foreground $seconds qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu max -smp 2,sockets=2 -m 2G \
  -object memory-backend-ram,id=m0,size=1G -object memory-backend-ram,id=m1,size=1G \
  -numa node,nodeid=0,cpus=0,memdev=m0 -numa node,nodeid=1,cpus=1,memdev=m1 \
  -nodefaults -no-user-config -display none -no-reboot -serial stdio -kernel "$kernel" -initrd $out/initramfs \
  -append "console=ttyS0 quiet panic=-1 numa_balancing=disable SECONDS_EACH=$((seconds - 20))" \
  </dev/null >$console.raw 2>&1
tr -d '\r' <$console.raw >$console

lines=$(what_was_said machine $console)
echo "$lines"
! grep -q '^FAIL ' <<<"$lines"
