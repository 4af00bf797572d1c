#!/bin/bash
# stress-ng's stressors for malloc, fork and virtual memory, which verify what they wrote.
. "$(dirname "$0")/lib.sh"
need stress-ng

loads stress-ng stress-ng --version
seconds=$(amount 4 120)

# stressor NAME options...
stressor() {
  local name=$1
  shift
  # A directory of its own for its files; a count of its own for what it must not leave behind.
  if quire stress-ng --temp-path "$work" --verify --metrics-brief --timeout "$seconds" "$@" \
    >"$work/$name.log" 2>&1 && ! grep -aE 'fail:|unexpected|quire:|cannot be preloaded' "$work/$name.log"; then
    grep -aE "metrc:.*[0-9]" "$work/$name.log" | tail -n 1 | cut -c 1-100
    pass "$name"
  else
    tail -n 15 "$work/$name.log"
    fail "$name" "stress-ng failed"
  fi
}

stressor malloc --malloc 2 --malloc-bytes 256M
stressor malloc-threads --malloc 2 --malloc-bytes 128M --malloc-pthreads 4 --malloc-touch
stressor malloc-trim --malloc 2 --malloc-bytes 64M --malloc-max 4096 --malloc-zerofree
stressor fork --fork 2
stressor vfork --vfork 2
stressor vm --vm 2 --vm-bytes 256M --vm-method all
stressor clone --clone 2
stressor mmap --mmap 2 --mmap-bytes 64M
stressor pthread --pthread 2
stressor tree --tree 1 --hsearch 1
finish
