#!/usr/bin/env bash
# Installs the Debian packages that the tests and the demo need, and those that the arguments name, if any is missing,
# and prints the major version of PostgreSQL they use.  On a machine that has them all it changes nothing.
set -euo pipefail

as_root() {
	if ((EUID == 0)); then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		echo "$0: only root or sudo can run: $*" >&2
		exit 1
	fi
}

# PostgreSQL 15, or else the newest that this release of Debian carries
choose_major() {
	local majors
	majors=$(apt-cache pkgnames postgresql-server-dev- | sed -n 's/.*-\([0-9]\+\)$/\1/p' | sort -n)
	grep -x 15 <<<"$majors" || tail -n 1 <<<"$majors"
}

# version PACKAGE: the installed one, or nothing
version() {
	dpkg-query --show --showformat '${db:Status-Status} ${Version}\n' "$1" 2>/dev/null |
		sed -n 's/^installed //p' || true
}

# The package of a server creates a cluster and starts it, unless told not to
forbid_cluster() {
	directory=/etc/postgresql-common/createcluster.d
	trap allow EXIT
	as_root mkdir -p "$directory"
	as_root tee "$directory/dugong-test.conf" >/dev/null <<<'create_main_cluster = false'
}

# The package of pgbouncer starts it, too
forbid_services() {
	policy=/usr/sbin/policy-rc.d
	[[ ! -e $policy ]] || return 0
	trap allow EXIT
	as_root tee "$policy" >/dev/null <<<$'#!/bin/sh\nexit 101'
	as_root chmod 755 "$policy"
	forbidden=1
}

allow() {
	[[ -z ${directory:-} ]] || allow_cluster
	[[ -z ${forbidden:-} ]] || as_root rm -f "$policy"
}

allow_cluster() {
	as_root rm -f "$directory/dugong-test.conf"
	as_root rmdir --ignore-fail-on-non-empty "$directory"
}

if ! command -v apt-get >/dev/null; then
	echo "$0: this is not Debian: apt-get is missing" >&2
	exit 1
fi

major=${PG_MAJOR:-$(choose_major)}
if [[ -z $major ]]; then
	as_root apt-get -qq update >&2
	major=$(choose_major)
fi
server=postgresql-$major headers=postgresql-server-dev-$major

# The client in Node.  Debian's node-pg cannot be installed beside a nodejs from elsewhere: set NODE_PATH to where there is
# a pg, or its test is skipped.
node=(nodejs node-pg)
if [[ -n $(version nodejs) && -z $(version node-pg) ]]; then
	[[ -n $(apt-cache show --no-all-versions node-pg 2>/dev/null) ]] || as_root apt-get -qq update >&2
	if ! apt-get -qq --simulate install --no-install-recommends node-pg >/dev/null 2>&1; then
		echo "node-pg cannot be installed beside this nodejs" >&2
		node=()
	fi
fi

missing=()
for package in gcc libc6-dev make perl libipc-run-perl python3 python3-psycopg pgbouncer "${node[@]}" "$server" "$headers" "$server-pgtap" "$@"; do
	[[ -n $(version "$package") ]] || missing+=("$package")
done

# What is built with the headers of one minor version is not tested with the server of another
if [[ $(version "$server") != "$(version "$headers")" ]]; then
	missing+=("$server" "$headers")
fi

if ((${#missing[@]})); then
	echo "installing ${missing[*]}" >&2
	as_root apt-get -qq update >&2
	[[ -n $(version "$server") ]] || forbid_cluster
	[[ -n $(version pgbouncer) ]] || forbid_services
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -qq install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null
fi

echo "$major"
