# shellcheck shell=bash
# A private PostgreSQL.  What sources this file and calls sandbox goes on in a temporary directory,
# as an unprivileged user, with a copy of the checkout and of the installed PostgreSQL.  Nothing is
# written elsewhere, and at the end the processes and the directory are gone (KEEP=1 keeps it).
set -euo pipefail
SANDBOX_PACKAGES=()

# sandbox ARGUMENT...: run the calling script again, in a new sandbox; does nothing in there.  The script may have set
# SANDBOX_PACKAGES, what it needs beside what the tests need, and may have defined sandbox_fill and sandbox_take, which run
# outside before and, however it ends, after: nobody in there has the settings of npm, or may write to the checkout.
sandbox() {
	[[ -z ${SANDBOX:-} ]] || return 0

	local root script user=()
	root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
	script=$(realpath --relative-to="$root" "$0")
	PG_MAJOR=$("$root/test/harness/packages.sh" "${SANDBOX_PACKAGES[@]}")

	# Not in TMPDIR, because the path of a socket must be short
	SANDBOX=$(mktemp -d /tmp/dugong.XXXXXX)
	trap sandbox_remove EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	mkdir "$SANDBOX"/{src,tmp}
	tar -C "$root" --exclude=./.git -cf - . | tar -C "$SANDBOX/src" --no-same-owner -xf -
	! declare -F sandbox_fill >/dev/null || sandbox_fill
	if ((EUID == 0)); then
		chown -R postgres: "$SANDBOX"
		user=(setpriv --reuid=postgres --regid=postgres --init-groups)
	fi

	# In the background, so that a signal to us is handled at once, and as a group to be signalled
	setsid "${user[@]}" env -i --default-signal -C "$SANDBOX/src" \
		SANDBOX="$SANDBOX" TMPDIR="$SANDBOX/tmp" HOME="$SANDBOX" PATH="$PATH" LANG=C.UTF-8 NODE_PATH="${NODE_PATH:-}" \
		PG_MAJOR="$PG_MAJOR" PG_OLD_MAJOR="${PG_OLD_MAJOR:-}" ONLY="${ONLY:-}" TESTS="${TESTS:-}" COVERAGE="${COVERAGE:-}" DUGONG_LONG="${DUGONG_LONG:-}" \
		DUGONG_SEED="${DUGONG_SEED:-}" DUGONG_STEPS="${DUGONG_STEPS:-}" DUGONG_ROUNDS="${DUGONG_ROUNDS:-}" DUGONG_WAKE_SECONDS="${DUGONG_WAKE_SECONDS:-}" \
		bash "$script" "$@" </dev/null &
	child=$!
	wait "$child"
	exit
}

# The processes of the sandbox, with the servers, which have left the process group
sandbox_processes() {
	find /proc/[0-9]*/cwd -maxdepth 0 -lname "$SANDBOX/*" -printf '%h\n' 2>/dev/null | cut -d/ -f3
}

sandbox_remove() {
	local pids tries
	trap '' HUP INT TERM
	if [[ -n ${child:-} ]]; then
		kill -TERM -- "-$child" 2>/dev/null || true
	fi
	for ((tries = 0; tries < 100; tries++)); do
		mapfile -t pids < <(sandbox_processes)
		((${#pids[@]})) || break
		kill -QUIT "${pids[@]}" 2>/dev/null || true # to a server: immediate shutdown
		sleep 0.1
	done
	! declare -F sandbox_take >/dev/null || sandbox_take || true
	if [[ -n ${KEEP:-} ]]; then
		echo "kept $SANDBOX"
	else
		rm -rf "$SANDBOX"
	fi
}

# build NAME [VARIABLE=value...]: a copy of the sources, built with these variables of make, and
# installed into a copy of PostgreSQL, whose programs find its files relative to themselves: of that
# under SERVER_ROOT, or of the machine's.
build() {
	local name=$1 usr=$SANDBOX/$1/usr
	shift
	mkdir -p "$usr"/{lib,share}/postgresql "$usr/include"
	cp -a "${SERVER_ROOT:-}/usr/lib/postgresql/$PG_MAJOR" "$usr/lib/postgresql/"
	cp -a "${SERVER_ROOT:-}/usr/share/postgresql/$PG_MAJOR" "$usr/share/postgresql/"
	cp -a "${SERVER_ROOT:-}/usr/include/postgresql" "$usr/include/"
	cp -a "$SANDBOX/src" "$usr/"
	enter "$name"
	make -s clean && make -s -j"$(nproc)" "$@" && make -s install "$@"
}

# enter NAME: go to that build
enter() {
	cd "$SANDBOX/$1/usr/src"
	export PATH=$SANDBOX/$1/usr/lib/postgresql/$PG_MAJOR/bin:$PATH
}

# cluster_start NAME [SETTING...]: a new cluster, with these lines in its postgresql.conf, which
# psql connects to by default, and which ends with the calling (sub)shell.
cluster_start() {
	local directory=$SANDBOX/${CLUSTER_PREFIX:-}$1 data=$SANDBOX/${CLUSTER_PREFIX:-}$1/data
	shift
	mkdir "$directory"
	initdb -D "$data" --username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync \
		>"$directory/initdb.log"
	printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$directory'" "$@" \
		>>"$data/postgresql.conf"
	pg_ctl -D "$data" --log="$directory/server.log" --silent start
	# shellcheck disable=SC2064
	trap "pg_ctl -D '$data' --mode=immediate --silent stop" EXIT
	export PGHOST=$directory PGPORT=5432 PGUSER=postgres
}
