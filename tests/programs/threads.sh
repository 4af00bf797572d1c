#!/bin/bash
# A C++ program with threads and exceptions, and every form of operator new and delete.
. "$(dirname "$0")/lib.sh"
build_program threads.cc -pthread -Wno-alloc-size-larger-than
loads threads "$work/threads"
judge "c++" quire "$work/threads"
# Without optimization the compiler leaves no allocation out and inlines none of the operators.
build_program threads.cc -pthread -O0 -Wno-alloc-size-larger-than
judge "c++ unoptimized" quire "$work/threads"
finish
