#!/bin/bash
# A threaded server linked with libquire.a, as static-pie and as a plain static program, under clients that
# check every answer. Clients are the same program.
. "$(dirname "$0")/lib.sh"
archive=$root/build/libquire.a
if [[ -z $(cc -print-file-name=libc.a | grep /) ]]; then
  skip static "no static libc here"
  finish
fi
requests=$(amount 20000 1000000)

run() { # name, flags that make the program
  local name=$1 server bad= pids=() pid i
  shift
  rm -f "$work/port"
  build_program server.c "$@" -I"$root/include" -pthread "$archive"
  if [[ $name != dynamic* ]] && readelf -l "$work/server" | grep -q INTERP; then
    fail "$name" "not linked statically"
    return
  fi
  "$work/server" serve "$work/port" >"$work/server.out" 2>&1 &
  server=$!
  servers+=("$server")
  if ! until_true 30 test -s "$work/port"; then
    cat "$work/server.out"
    fail "$name" "the server did not start"
    return
  fi
  for i in 1 2 3 4 5 6; do
    "$work/server" load "$(cat "$work/port")" "$i" "$requests" >"$work/client.$i" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || bad=1; done
  cat "$work"/client.* | sed -E "s/^(PASS|FAIL) /&$name: /"
  [[ -z $bad ]] || fail "$name: clients" "a client failed"
  kill -TERM "$server"
  wait "$server" || fail "$name: server" "status $?"
  servers=()
  sed -E "s/^(PASS|FAIL) /&$name: /" "$work/server.out"
}

run static-pie -static-pie -fPIE
run static -static -fno-pie
run "dynamic, allocator linked in" -fPIE -pie
finish
