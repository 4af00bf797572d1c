#!/bin/bash
# fork, vfork, posix_spawn and popen from any thread while all threads allocate.
. "$(dirname "$0")/lib.sh"
build_program spawn.c -pthread
loads spawn "$work/spawn" 1
judge spawn quire "$work/spawn" "$(amount 60 2000)"
finish
