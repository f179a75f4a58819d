#!/usr/bin/env bash
# make demo: builds the extension and plays demo.sql in a new cluster with default settings.
set -euo pipefail

# shellcheck source=test/harness/cluster.sh
. "$(dirname "$0")/../test/harness/cluster.sh"
sandbox "$@"

build demo with_llvm=no >"$SANDBOX/build.log" 2>&1 || {
	cat "$SANDBOX/build.log"
	exit 1
}
cluster_start demo_cluster
createdb demo
psql -X -q -P pager=off -v ON_ERROR_STOP=1 -d demo -f examples/demo.sql
