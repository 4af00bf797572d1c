#!/bin/bash
# Programs under limits: address space, locked memory, file sizes, descriptors, processes, chroot, seccomp.
. "$(dirname "$0")/lib.sh"
build_program limits.c -pthread
chmod 755 "$work"
loads limits "$work/limits" plain

limited() { # ulimit's option and value, then the command
  (
    ulimit "$1" "$2" || exit 9
    shift 2
    exec "${on_quire[@]}" "$@"
  )
}
judge "RLIMIT_AS of 2 GiB" limited -v 2097152 "$work/limits" as
judge "RLIMIT_AS of 400 MiB" limited -v 409600 "$work/limits" as
judge "RLIMIT_DATA of 400 MiB" limited -d 409600 "$work/limits" data
for what in late-data mlockall memlock fsize nofile nproc seccomp; do
  judge "$what" quire "$work/limits" $what
done
judge chroot quire "$work/limits" chroot "$work"
finish
