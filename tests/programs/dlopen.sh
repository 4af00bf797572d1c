#!/bin/bash
# Plugins that come and go, and memory that another allocator made.
. "$(dirname "$0")/lib.sh"
build_program plugin.c -shared -fPIC
build_program dlopen.c -pthread -ldl
judge dlopen quire "$work/dlopen" "$work/plugin" "$(amount 500 20000)"
finish
