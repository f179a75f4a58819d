#!/usr/bin/env bash
# make bench, make bench-full: measures dugong beside its alternatives, in a sandbox.  See README.md.
set -euo pipefail

# shellcheck source=test/harness/cluster.sh
. "$(dirname "$0")/../test/harness/cluster.sh"
bench=$(realpath "$(dirname "$0")")

SANDBOX_PACKAGES=(valgrind)
command -v npm >/dev/null || SANDBOX_PACKAGES+=(npm)

# The peers, from the registry that npm is configured with.  A comparison with what is not there is left out, and says so.
sandbox_fill() {
	local package
	mkdir "$SANDBOX/peers"
	for package in @eventide/message-db@1.3.1 @event-driven-io/emmett-postgresql@0.42.0; do
		npm pack --silent --ignore-scripts --cache "$SANDBOX/tmp/npm" --pack-destination "$SANDBOX/peers" "$package" >/dev/null ||
			echo "could not fetch $package" >&2
	done
	git -C "$bench" describe --always --dirty >"$SANDBOX/revision" 2>/dev/null || true
}

# The table becomes a file of the checkout, named after the day
sandbox_take() {
	local file
	file=$bench/results/$(date +%F).md
	if [[ -s $SANDBOX/results.md ]]; then
		[[ ! -e $file ]] || file=$bench/results/$(date +%F-%H%M%S).md
		install -D -m 644 "$SANDBOX/results.md" "$file"
		echo "stored as $file"
	fi
}

sandbox "$@"

build bench with_llvm=no >"$SANDBOX/build.log" 2>&1 || {
	cat "$SANDBOX/build.log"
	exit 1
}
cluster_start bench_cluster
python3 bench/run.py "$@"
