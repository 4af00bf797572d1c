#!/bin/bash
# A preloaded program on a machine with two nodes of memory, emulated: where the kernel says that things are.
#
# Needs qemu-system-x86_64, hwloc, and a kernel (see tests/aarch64/initramfs.sh; tools/deps.sh numa installs all three). The
# machine's disk is an initramfs made here.
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

find_parts libc.so.6 libm.so.6 libhwloc.so.15 libudev.so.1
[[ -z $why ]] || { echo "SKIP numa-system: $why"; exit 0; }
mkdir -p $out
build_programs aarch64/init numa/machine || exit 1

archive() {
  common_members "$lib"
  program preloaded/machine $out/machine
  member TRAILER!!! 0
}
archive >$out/initramfs

# As on real machines: a processor and its memory, twice. The kernel is kept from moving pages by itself.
run_machine 380 numa_balancing=disable -smp 2,sockets=2 -m 2G \
  -object memory-backend-ram,id=m0,size=1G -object memory-backend-ram,id=m1,size=1G \
  -numa node,nodeid=0,cpus=0,memdev=m0 -numa node,nodeid=1,cpus=1,memdev=m1

lines=$(what_was_said machine $out/console.log)
echo "$lines"
! grep -q '^FAIL ' <<<"$lines"
