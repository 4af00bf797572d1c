#!/bin/bash
# Snapshots of a compacted redis: most keys are deleted, the heap is meshed, and BGSAVE (fork) runs again and
# again under write load on other keys. A second server loads each dump; keys that nobody touched must be what
# they were.
# timeout: 400
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark perl

keys=100000
rounds=$(amount 5 100)
conf=compact:aggressive,background_threshold:1M

# Redis' protocol: values of 20 to 500 bytes that follow from their keys; then nine of ten are deleted at random.
commands() {
  perl -e '
    my ($keys) = @ARGV;
    srand(7);
    sub command { print "*" . @_ . "\r\n"; print "\$" . length($_) . "\r\n$_\r\n" for @_; }
    for my $i (1 .. $keys) { command("SET", "kept:$i", substr("value of $i, " x 40, 0, 20 + $i * 7919 % 480)); }
    for my $i (1 .. $keys) { command("DEL", "kept:$i") if rand() < 0.9; }
  ' "$keys"
}

# What must be there, from the same numbers: key and value.
expected() {
  perl -e '
    my ($keys) = @ARGV;
    srand(7);
    for my $i (1 .. $keys) {
      next if rand() < 0.9;
      print "kept:$i ", substr("value of $i, " x 40, 0, 20 + $i * 7919 % 480), "\n";
    }
  ' "$keys" | LC_ALL=C sort
}

found() { # socket
  redis-cli -s "$1" EVAL '
    local out, cursor = {}, "0"
    repeat
      local page = redis.call("SCAN", cursor, "MATCH", "kept:*", "COUNT", 10000)
      cursor = page[1]
      for _, key in ipairs(page[2]) do out[#out + 1] = key .. " " .. redis.call("GET", key) end
    until cursor == "0"
    return out' 0 | LC_ALL=C sort -u
}

server=
start_server() { # directory, then a prefix
  local dir=$1
  shift
  mkdir -p "$dir"
  "$@" redis-server --port 0 --unixsocket "$dir/socket" --dir "$dir" --save "" --appendonly no \
    --busy-reply-threshold 0 >"$dir/log" 2>&1 &
  server=$!
  servers+=("$server")
  until_true 60 sh -c "redis-cli -s '$dir/socket' ping | grep -q PONG"
}

info() { redis-cli -s "$main/socket" INFO persistence | tr -d '\r' | sed -n "s/^$1://p"; }
saved() { [[ $(info rdb_bgsave_in_progress) == 0 ]]; }
# More than the one mapping by which compaction itself looks at that memory; private ones are of the time
# before a fork.
is_meshed() { (($(grep -c 'rw-s.*memfd:quire' "/proc/$redis/maps") > 1)); }

# The dump, loaded by a server of another allocator.
compare_dump() { # name
  local dir=$work/second
  rm -rf "$dir"
  mkdir -p "$dir"
  cp "$main/dump.rdb" "$dir/"
  start_server "$dir" env || { fail "$1" "a second server did not start from it"; return 1; }
  found "$dir/socket" >"$work/found"
  stop_server "$server"
  cmp -s "$work/expected" "$work/found" && return
  diff "$work/expected" "$work/found" | head -n 6 | cut -c 1-200
  fail "$1" "untouched keys differ"
  return 1
}

snapshot() { # name
  redis-cli -s "$main/socket" BGSAVE >/dev/null
  until_true 120 saved || { fail "$1" "is not over"; return 1; }
  [[ $(info rdb_last_bgsave_status) == ok ]] || { fail "$1" "failed"; return 1; }
  compare_dump "$1"
}

# A server of its own each time: a process that forks often is left unmeshed for a time.
main=$work/main
one_round() { # number
  local bench ok=0
  rm -rf "$main"
  if ! start_server "$main" "${on_quire[@]}" QUIRE_CONF=$conf; then
    tail "$main/log"
    fail "snapshot $1" "redis does not start on quire with $conf"
    return 1
  fi
  redis=$server
  redis-cli -s "$main/socket" --pipe <"$work/commands" >"$work/pipe" || { fail "load" "$(tail -n 1 "$work/pipe")"; return 1; }
  [[ -z $may ]] || until_true 60 is_meshed || { fail "snapshot $1" "nothing was meshed within a minute"; return 1; }
  redis-benchmark -s "$main/socket" -q -n 1000000000 -c 10 -P 4 -r 100000 -d 200 -t set,incr,lpush,lpop,hset \
    >"$work/bench" 2>&1 &
  bench=$!
  servers+=("$bench")
  # Again at once: of what the first has frozen, and of what has come since.
  snapshot "snapshot $1" && snapshot "snapshot $1, again" && ok=1
  kill -0 "$bench" 2>/dev/null || { fail "snapshot $1" "the load ended: $(tail -n 1 "$work/bench")"; ok=0; }
  stop_server "$bench"
  found "$main/socket" >"$work/found"
  cmp -s "$work/expected" "$work/found" || { fail "snapshot $1" "values in the server differ"; ok=0; }
  stop_server "$redis"
  ((ok))
}

# May it mesh at all? The kernel is asked as by the other tests of compaction.
cat >"$work/may.c" <<'END'
#include "may_mesh.h"
int main(void) {
  const char *why_not = why_no_mesh();
  if (why_not != NULL) puts(why_not);
  return why_not != NULL;
}
END
cc -D_GNU_SOURCE -I"$programs/../compact" "$work/may.c" -o "$work/may" || { fail "compile" "may.c"; finish; }
may=
if "$work/may" >"$work/why"; then may=1; else skip "meshed before a snapshot" "$(cat "$work/why")"; fi

commands >"$work/commands"
expected >"$work/expected"
for ((i = 1; i <= rounds; i++)); do one_round $i || break; done
((i <= rounds)) || pass "$((2 * rounds)) snapshots of $rounds compacted heaps under load"
finish
