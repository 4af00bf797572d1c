#!/bin/bash
# node: worker threads that pass buffers to each other, JSON, compression, hashing.
. "$(dirname "$0")/lib.sh"
need node

loads node node -e 0
count=$(amount 6000 60000)
node "$src/workers.js" "$count" >"$work/without" 2>&1 &
other=$!
quire node "$src/workers.js" "$count" >"$work/with" 2>&1 || echo "status $?" >>"$work/with"
wait "$other" || fail "node without quire" "cannot compare"
grep -q '"same":false' "$work/with" && fail "inflate" "what was compressed did not come back"
same "same output" "$work/without" "$work/with"
finish
