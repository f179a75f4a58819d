#!/usr/bin/env bash
# make test-matrix: runs the tests on each major version of PostgreSQL that a release of Debian carries: here on that of this
# release, and on the others in a minimal root of the release that has them, which is made once and kept in
# ${XDG_CACHE_HOME:-~/.cache}/dugong.  There, clusters of the oldest version are upgraded to the newer one.
# MATRIX="trixie forky" runs some of them.  The output is kept in test/results, in a file named after the day.
set -euo pipefail

checkout=$(realpath "$(dirname "$0")/../..")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dugong
here=$(. /etc/os-release && echo "$VERSION_CODENAME")
declare -A major=([bookworm]=15 [trixie]=17 [forky]=18)
oldest=bookworm
releases=${MATRIX:-bookworm trixie forky}

if ((EUID != 0)); then
	echo "$0: only root can make a root of another release: try sudo make test-matrix" >&2
	exit 1
fi

# root_make RELEASE: what "make test" asks of a machine, nothing else
root_make() {
	local release=$1 root=$cache/$1 mirror script=/usr/share/debootstrap/scripts/$1
	[[ ! -d $root ]] || return 0
	if ! command -v debootstrap >/dev/null; then
		apt-get -qq update
		DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends debootstrap >/dev/null
	fi
	[[ -e $script ]] || script=/usr/share/debootstrap/scripts/sid # one that is newer than debootstrap
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $here" | sed -n 1p)
	mkdir -p "$cache"
	rm -rf "$root.new"
	debootstrap --variant=minbase --include=make,git,ca-certificates "$release" "$root.new" "$mirror" "$script" >"$root.log" || {
		cat "$root.log"
		return 1
	}
	# Of a mirror that is a snapshot, testing is soon out of date
	echo 'Acquire::Check-Valid-Until "false";' >"$root.new/etc/apt/apt.conf.d/snapshot"
	# The older PostgreSQL, as after an upgrade of Debian
	[[ $release == "$oldest" ]] || echo "deb $mirror $oldest main" >"$root.new/etc/apt/sources.list.d/oldest.list"
	mv "$root.new" "$root"
}

# root_run RELEASE COMMAND...: run it in that root, in a copy of the checkout.  Mounts and processes end with it.
root_run() {
	local root=$cache/$1 work
	shift
	work=$(mktemp -d "$root/tmp/checkout.XXXXXX")
	tar -C "$checkout" -cf - . | tar -C "$work" --no-same-owner -xf -
	# shellcheck disable=SC2016
	unshare --mount --pid --fork --kill-child bash -c '
		root=$1 work=$2
		shift 2
		mount -t proc proc "$root/proc"
		mount --rbind /dev "$root/dev"
		mount -t tmpfs tmpfs "$root/dev/shm"
		exec chroot "$root" env -i --chdir="$work" HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"' \
		bash "$root" "${work#"$root"}" "$@" &
	wait $! && status=0 || status=$?
	rm -rf "$work"
	return "$status"
}

# One release
run() {
	local release=$1
	shift
	printf '\n==== PostgreSQL %s, %s\n' "${major[$release]}" "$release"
	set -- PG_MAJOR="${major[$release]}" "$@"
	if [[ $release == "$here" ]]; then
		make -s -C "$checkout" test "$@"
		return
	fi
	root_make "$release" || return
	[[ $release == "$oldest" ]] || set -- PG_OLD_MAJOR="${major[$oldest]}" "$@"
	root_run "$release" make -s test "$@"
}

log=$(mktemp)
results=$checkout/test/results
failed=0
settings=()
for name in ONLY TESTS; do
	[[ -z ${!name:-} ]] || settings+=("$name=${!name}")
done
{
	printf 'dugong %s, %s, %s\n' "$(git -C "$checkout" describe --always --dirty)" "$(uname -sm)" "$(date '+%F %T %Z')"
	for release in $releases; do
		(run "$release" "${settings[@]}" || printf '==== %s failed\n' "$release") 2>&1
	done
} | tee "$log"
! grep -q '^==== .* failed$' "$log" || failed=1
file=$results/$(date +%F)-matrix.log
[[ ! -e $file ]] || file=$results/$(date +%F-%H%M%S)-matrix.log
install -D -m 644 "$log" "$file"
rm "$log"
echo "stored as $file"
exit $failed
