#!/bin/bash
# A redis-server under redis-benchmark, with known values beside the benchmark's, snapshots (fork) while
# the load runs, values freed by its background threads, and a second server that loads what was saved.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark perl

keys=$(amount 15000 150000)
# With snapshots all the time, some thousands are served per second.
requests=$(amount 80000 240000)

# The known values: strings, hashes, lists and sorted sets in database 1, many of them overwritten,
# grown and deleted on the way. Printed as commands in redis' own protocol.
commands() {
  perl -e '
    my ($keys, $round) = @ARGV;
    my $seed = 12345;
    sub next_number { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return $seed >> 8; }
    sub command { print "*" . @_ . "\r\n"; print "\$" . length($_) . "\r\n$_\r\n" for @_; }
    command("SELECT", 1);
    for my $i (1 .. $keys) {
      my $size = next_number() % (next_number() % 50 ? 400 : 20000);
      command("SET", "string:$i", substr("value $i of round $round, " x ($size / 15 + 1), 0, $size + 1));
      command("APPEND", "string:" . (1 + next_number() % $i), "grown by $i ");
      command("HSET", "hash:" . ($i % 500), "field $i", "content " x (next_number() % 20));
      command("RPUSH", "list:" . ($i % 100), "element $i " . "e" x (next_number() % 200));
      command("ZADD", "sorted:" . ($i % 50), next_number(), "member $i");
      command("UNLINK", "string:" . (1 + next_number() % $i)) if $i % 3 == 0;
      command("LPOP", "list:" . (next_number() % 100)) if $i % 2 == 0;
    }
    command("SET", "huge", "0123456789abcdef" x 1500000);
  ' "$keys" "$1"
}

# Everything in database 1, sorted, as text.
read_back() {
  redis-cli -s "$1" -n 1 EVAL '
    local out = {}
    local keys = redis.call("KEYS", "*")
    table.sort(keys)
    for _, key in ipairs(keys) do
      local kind = redis.call("TYPE", key).ok
      if kind == "string" then out[#out + 1] = redis.sha1hex(redis.call("GET", key)) .. " " .. key
      else out[#out + 1] = redis.call("DEBUG", "DIGEST-VALUE", key)[1] .. " " .. key end
    end
    return out' 0
}

server= # the process id of the server started last
start_server() { # "quire" or "", directory
  local prefix=() dir=$2
  [[ -z $1 ]] || prefix=("${on_quire[@]}")
  mkdir -p "$dir"
  "${prefix[@]}" redis-server --port 0 --unixsocket "$dir/socket" --dir "$dir" --save "" --appendonly no \
    --enable-debug-command yes --io-threads "$(amount 1 2)" --io-threads-do-reads yes --lazyfree-lazy-user-del yes \
    --lazyfree-lazy-user-flush yes --busy-reply-threshold 0 >"$dir/log" 2>&1 &
  server=$!
  servers+=("$server")
  until_true 60 sh -c "redis-cli -s '$dir/socket' ping | grep -q PONG"
}

saved() { redis-cli -s "$1" INFO persistence | grep -q 'rdb_bgsave_in_progress:0'; }

load() { # "quire" or "", directory
  local prefix=$1 dir=$2 bench snapshots=0 ok
  if ! start_server "$prefix" "$dir"; then
    tail "$dir/log"
    return 1
  fi
  [[ -z $prefix ]] || { is_on_quire "$server" && pass "redis-server is on quire" ||
    fail "redis-server is on quire" "$lib is not in its maps"; }
  commands 1 | redis-cli -s "$dir/socket" --pipe >"$dir/pipe" || return 1
  redis-benchmark -s "$dir/socket" -q -n "$requests" -c 20 -P 8 -r 20000 -d 300 \
    -t set,get,incr,lpush,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset >"$dir/bench" 2>&1 &
  bench=$!
  # Known values are written again while the benchmark and the snapshots run.
  commands 2 | redis-cli -s "$dir/socket" --pipe >"$dir/pipe" &
  local pipe=$!
  while kill -0 "$bench" 2>/dev/null; do
    redis-cli -s "$dir/socket" BGSAVE >/dev/null
    until_true 120 saved "$dir/socket" || return 1
    snapshots=$((snapshots + 1))
    # The load shall also get somewhere between snapshots.
    redis-cli -s "$dir/socket" WAIT 1 500 >/dev/null
  done
  wait "$bench" && wait "$pipe" || return 1
  redis-cli -s "$dir/socket" BGSAVE >/dev/null
  until_true 120 saved "$dir/socket" || return 1
  redis-cli -s "$dir/socket" INFO persistence | tr -d '\r' | grep -q '^rdb_last_bgsave_status:ok' || return 1
  echo "$snapshots snapshots during the load"
  ((snapshots > 0)) || return 1
  redis-cli -s "$dir/socket" DBSIZE >"$dir/size"
  redis-cli -s "$dir/socket" DEBUG DIGEST >"$dir/digest"
  read_back "$dir/socket" >"$dir/values"
  redis-cli -s "$dir/socket" FLUSHALL ASYNC >/dev/null
  redis-cli -s "$dir/socket" MEMORY PURGE >/dev/null
  redis-cli -s "$dir/socket" PING | grep -q PONG
  ok=$?
  stop_server "$server"
  return $ok
}

# Both at once: they are two servers with nothing in common, and the machine has two processors.
load "" "$work/without" >"$work/without.out" 2>&1 &
without=$!
if load quire "$work/with"; then pass "load with snapshots"; else
  tail "$work/with/log"
  fail "load with snapshots" "the server or its load failed"
fi
wait "$without" || fail "load without quire" "cannot compare"
same "known values read back" "$work/without/values" "$work/with/values"

# The last snapshot, read by a fresh server on quire and by one without.
for prefix in quire ""; do
  dir=$work/reload-${prefix:-plain}
  mkdir -p "$dir"
  cp "$work/with/dump.rdb" "$dir/"
  if start_server "$prefix" "$dir"; then
    redis-cli -s "$dir/socket" DEBUG DIGEST >"$dir/digest"
    if cmp -s "$dir/digest" "$work/with/digest"; then pass "snapshot reloaded ${prefix:-without quire}"; else
      fail "snapshot reloaded ${prefix:-without quire}" "its digest is not that of the server that saved it"
    fi
  else
    tail "$dir/log"
    fail "snapshot reloaded ${prefix:-without quire}" "the server did not start"
  fi
  stop_server "$server"
done
finish
