#!/bin/bash
# A program that closes every descriptor, as daemons do, with the background thread running.
. "$(dirname "$0")/lib.sh"
build_program closefds.c -pthread
mkdir "$work/files"
judge closefds quire "$work/closefds" "$work/files"
finish
