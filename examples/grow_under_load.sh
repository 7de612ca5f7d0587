#!/usr/bin/env bash
# Grows the cluster to 5 shards and shrinks it to 2 while a counter counts, and shows that no count was lost.
# Usage: grow_under_load.sh [PROXY_PORT] [TOPOLOGY_PORT]      (larder: $LARDER, else from PATH or target/release)
set -euo pipefail
proxy=${1:-6379} topology=127.0.0.1:${2:-7000}
larder=${LARDER:-$(command -v larder || echo target/release/larder)}

redis-cli -p "$proxy" del visits >/dev/null
for _ in $(seq 20000); do echo "INCR visits"; done | redis-cli -p "$proxy" >/dev/null &
counting=$!
"$larder" reshard --shards 5 --topology "$topology"
"$larder" reshard --shards 2 --topology "$topology"
wait "$counting"

visits=$(redis-cli -p "$proxy" get visits)
echo "counted 20000, found $visits"
[ "$visits" = 20000 ]
