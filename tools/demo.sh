#!/bin/bash
# Runs a real redis-server with the same load on quire, on glibc's malloc and on Debian's jemalloc in turn,
# checks that its data reads back right, and prints throughput and memory side by side.
set -u
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1
unset LD_PRELOAD
quire=$PWD/build/libquire.so
objects=150000
requests=400000
rounds=3

for tool in redis-server redis-cli redis-benchmark; do
  command -v $tool >/dev/null || { echo "demo: $tool is not installed (make deps)" >&2; exit 1; }
done
[[ -r $quire ]] || { echo "demo: $quire is not built (make)" >&2; exit 1; }

# The full path of a library as the dynamic linker finds it for redis-server.
library() { ldd "$(command -v redis-server)" | awk -v name="$1" '$1 == name { print $3 }'; }
libc=$(library libc.so.6)
# Debian links redis-server with jemalloc. Preloading libc puts libc's malloc before it.
jemalloc=$(library libjemalloc.so.2)
jemalloc=${jemalloc:-$(ldconfig -p | awk '$1 == "libjemalloc.so.2" { print $NF; exit }')}

work=$(mktemp -d "${TMPDIR:-/tmp}/quire-demo.XXXXXX") || exit 1
server=
clean() {
  [[ -z $server ]] || { kill "$server" && wait "$server"; } 2>/dev/null
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

die() {
  echo "demo: $1" >&2
  [[ ! -s $work/log ]] || tail -n 5 "$work/log" >&2
  exit 1
}

ask() { redis-cli -s "$work/socket" "$@"; }
info() { ask INFO memory | tr -d '\r' | sed -n "s/^$1://p"; }
# One field of a /proc/PID file, in MiB.
mib() { awk -v field="$2:" '$1 == field { printf "%.1f", $2 / 1024 }' "/proc/$server/$1"; }

# Known values that the benchmark does not touch, made by a script inside the server; and their digest.
# Every second one is deleted again, so that the heap has holes.
fill='
  for i = 1, tonumber(ARGV[1]) do
    redis.call("SET", "known:" .. i, string.rep(i .. ",", 1 + (i * 7919) % 60))
    if i % 4 == 0 then redis.call("HSET", "hash:" .. i % 1000, i, string.rep("h", i % 100)) end
  end
  for i = 1, tonumber(ARGV[1]), 2 do redis.call("DEL", "known:" .. i) end
  return redis.call("DBSIZE")'
expected_of='
  local wrong = 0
  for i = 1, tonumber(ARGV[1]) do
    local value = redis.call("GET", "known:" .. i)
    local expected = i % 2 == 0 and string.rep(i .. ",", 1 + (i * 7919) % 60) or false
    if value ~= expected then wrong = wrong + 1 end
    if i % 4 == 0 and redis.call("HGET", "hash:" .. i % 1000, i) ~= string.rep("h", i % 100) then
      wrong = wrong + 1
    end
  end
  return wrong'

# Says whether the process's malloc is the one named. jemalloc's own count of bytes (mallctl) is the
# witness: it stands at almost nothing when another allocator serves redis.
verify() { # name, library
  grep -qF "$(realpath "$2")" "/proc/$server/maps" || die "$1: $2 is not mapped"
  [[ -n $(library libjemalloc.so.2) ]] || return 0 # this redis is not linked with it: nothing to confuse
  local used counted
  used=$(info used_memory)
  counted=$(info allocator_allocated)
  if [[ $1 == jemalloc ]]; then
    ((counted > used / 2)) || die "jemalloc does not serve this redis ($counted of $used bytes)"
  else
    ((counted < used / 2)) || die "jemalloc serves this redis instead of $1 ($counted of $used bytes)"
  fi
}

serve() { # name, library
  rm -f "$work/socket"
  LD_PRELOAD=$2 redis-server --port 0 --unixsocket "$work/socket" --dir "$work" --save "" \
    --appendonly no >"$work/log" 2>&1 &
  server=$!
  for ((i = 0; i < 200; i++)); do
    [[ $(ask PING 2>/dev/null) == PONG ]] && break
    kill -0 "$server" 2>/dev/null || die "redis-server did not start on $1"
    sleep 0.05
  done
}

finish() {
  kill "$server"
  wait "$server" 2>/dev/null
  server=
}

run() { # name, library
  local set get wrong
  serve "$1" "$2"
  ask EVAL "$fill" 0 "$objects" >/dev/null
  redis-benchmark -s "$work/socket" --csv -n "$requests" -c 30 -P 16 -d 200 -r 200000 -t set,get \
    >"$work/bench" 2>&1 || die "redis-benchmark failed on $1"
  set=$(sed -n 's/^"SET","\([0-9]*\).*/\1/p' "$work/bench")
  get=$(sed -n 's/^"GET","\([0-9]*\).*/\1/p' "$work/bench")
  verify "$1" "$2"
  wrong=$(ask EVAL "$expected_of" 0 "$objects")
  [[ $wrong == 0 ]] || die "$1: $wrong known values read back wrong"
  echo "$set $get $(mib smaps_rollup Pss) $(mib status VmHWM)" >>"$work/$1.runs"
  finish
}

# The heap of a redis that has deleted four of five values, before and after compaction.
thin='
  for i = 1, tonumber(ARGV[1]) do
    redis.call("SET", "known:" .. i, string.rep(i .. ",", 1 + (i * 7919) % 60))
    if i % 4 == 0 then redis.call("HSET", "hash:" .. i % 1000, i, string.rep("h", i % 100)) end
  end
  for i = 1, tonumber(ARGV[1]) do if i % 5 ~= 0 then redis.call("DEL", "known:" .. i) end end'
picture() {
  local look=$PWD/build/quire gained
  if [[ ! -x $look ]]; then
    echo "No picture of the heap: build/quire is missing, for libraries it needs (make deps)"
    return
  fi
  serve quire "$quire"
  ask EVAL "$thin" 0 $((4 * objects)) >/dev/null
  "$look" record -n 1 -o "$work/before.qrec" "$server" 2>>"$work/log" || die "no snapshot of the heap"
  gained=$("$look" compact "$server" 2>>"$work/log") || die "the heap was not compacted"
  "$look" record -n 1 -o "$work/after.qrec" "$server" 2>>"$work/log" || die "no snapshot of the heap"
  finish
  "$look" map -o docs/heap.png "$work/before.qrec" "$work/after.qrec" &&
    "$look" map -o docs/heap-dark.png --theme dark "$work/before.qrec" "$work/after.qrec" &&
    "$look" map -o build/heap.html "$work/before.qrec" "$work/after.qrec" || die "no picture of the heap"
  echo "The heap of a redis that has deleted four of five values, before and after compaction, which is"
  echo "docs/heap.png, and build/heap.html to look around in with a browser:"
  echo
  sed 's/^/  /' <<<"$gained"
}

# The median of one column of a malloc's runs.
median() { awk -v n="$2" '{ print $n }' "$work/$1.runs" | sort -g | sed -n "$((rounds / 2 + 1))p"; }

version=$(redis-server --version | sed -n 's/.* v=\([^ ]*\).*/\1/p')
echo "redis-server $version, not recompiled, on three mallocs: $objects known values, every second one deleted,"
echo "then $requests SET and GET each by 30 clients over a Unix socket. In turn, medians of $rounds runs."
echo
mallocs=(quire glibc)
libraries=("$quire" "$libc")
if [[ -n $jemalloc ]]; then mallocs+=(jemalloc) libraries+=("$jemalloc"); fi
for ((round = 0; round < rounds; round++)); do
  for i in "${!mallocs[@]}"; do run "${mallocs[i]}" "${libraries[i]}"; done
done
printf '%-10s %12s %12s %11s %11s %12s\n' malloc "SET/s" "GET/s" "PSS MiB" "peak MiB" "data"
for name in "${mallocs[@]}"; do
  printf '%-10s %12s %12s %11s %11s %12s\n' "$name" "$(median "$name" 1)" "$(median "$name" 2)" \
    "$(median "$name" 3)" "$(median "$name" 4)" "reads back"
done
[[ -n $jemalloc ]] || echo "jemalloc is not installed"
echo
picture
echo
echo "Your own program:  LD_PRELOAD=$quire your-program"
