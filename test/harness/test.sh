#!/usr/bin/env bash
# make test: builds the extension and runs its tests in a sandbox.  make test-long ("test.sh long"): the same in its long form,
# and what takes long only; its output is kept in test/results.  See test/README.md.
set -euo pipefail

# shellcheck source=test/harness/cluster.sh
. "$(dirname "$0")/cluster.sh"
# shellcheck disable=SC2034
SANDBOX_PACKAGES=(valgrind locales)
[[ -z ${COVERAGE:-} ]] || SANDBOX_PACKAGES+=(lcov)
if [[ -n ${PG_OLD_MAJOR:-} ]]; then
	SANDBOX_PACKAGES+=("postgresql-$PG_OLD_MAJOR" "postgresql-server-dev-$PG_OLD_MAJOR")
fi
checkout=$(realpath "$(dirname "$0")/../..")

parts="regress pgtap isolation fault tap"
if [[ ${1:-} == long ]]; then
	export DUGONG_LONG=1
	parts+=" sanitizer"
fi
wants_sanitizer() {
	[[ " ${ONLY:-$parts} " == *" sanitizer "* ]]
}
if wants_sanitizer; then
	SANDBOX_PACKAGES+=(bzip2 libicu-dev pkg-config sqlsmith uuid-dev)
fi

sandbox_fill() {
	git -C "$checkout" describe --always --dirty >"$SANDBOX/revision" 2>/dev/null || true
	if wants_sanitizer; then
		cp -a "$("$checkout/test/harness/sanitizer.sh" "$PG_MAJOR")" "$SANDBOX/server"
		cp -n "/usr/share/postgresql/$PG_MAJOR/extension"/pgtap* "$SANDBOX/server/usr/share/postgresql/$PG_MAJOR/extension"
	fi
}

# The output of a long run, and what was covered, become files of the checkout, named after the day
sandbox_take() {
	local kind file
	for kind in long coverage; do
		[[ -s $SANDBOX/$kind.log ]] || continue
		file=$checkout/test/results/$(date +%F)-$kind.log
		[[ ! -e $file ]] || file=$checkout/test/results/$(date +%F-%H%M%S)-$kind.log
		install -D -m 644 "$SANDBOX/$kind.log" "$file"
		echo "stored as $file"
	done
}

sandbox "$@"
if [[ -n $DUGONG_LONG ]]; then
	exec > >(tee "$SANDBOX/long.log") 2>&1
	printf 'dugong %s, PostgreSQL %s, %s, %s\n' "$(cat "$SANDBOX/revision")" "$PG_MAJOR" "$(uname -sm)" "$(date '+%F %T %Z')"
fi

names=()   # the tests of the current part
summary=() # a line for each step
all_passed=0
all_failed=0

server_settings=(
	"fsync = off"
	"max_prepared_transactions = 10"
	"max_worker_processes = 16"
)

# find_tests DIRECTORY SUFFIX: set names to the tests there, or to those among them in TESTS.
find_tests() {
	local file name
	names=()
	for file in "$1"/*"$2"; do
		name=$(basename "$file" "$2")
		if [[ -e $file && (-z $TESTS || " $TESTS " == *" $name "*) ]]; then
			names+=("$name")
		fi
	done
	((${#names[@]}))
}

# expect DIRECTORY: a test without expected output fails with a diff, and does not end pg_regress.
expect() {
	(cd "$1" && touch "${names[@]/%/.out}")
}

# count LOG: how many test files passed and failed, as pg_regress (15, or later) or prove tells it.
count() {
	awk '/^test .*\.\.\. ok/ || /^ok [0-9]/ || /^[^ ]+ \.\.+ (ok|skipped)/ { passed++ }
		/^test .*\.\.\. FAILED/ || /^not ok [0-9]/ || /^[^ ]+ +\(Wstat: / { failed++ }
		END { print passed + 0, failed + 0 }' "$1"
}

# show_failure LOG: print what a failed step left behind.
show_failure() {
	local name
	cat regression.diffs output_iso/regression.diffs
	sed -n 's|^test/.*t/\([^ ]*\)\.pl *(Wstat: .*|\1|p' "$1" |
		while read -r name; do
			tail -n 100 "tmp_check/log/regress_log_$name" "tmp_check/log/${name}_"*.log
		done
	grep 'PANIC\|was terminated by signal' "$SANDBOX"/*/server.log
} 2>/dev/null

# step TITLE COMMAND...: run one step, and count what it tells.
step() {
	local title=$1 log=$SANDBOX/step.log status passed failed
	shift
	printf '\n== %s\n' "$title"
	rm -f regression.diffs output_iso/regression.diffs
	SECONDS=0
	(
		set -e
		"$@"
	) 2>&1 | tee "$log"
	status=${PIPESTATUS[0]}
	read -r passed failed < <(count "$log")
	if ((status)); then
		((failed)) || failed=1
		show_failure "$log"
	fi
	((all_passed += passed, all_failed += failed))
	summary+=("$(printf '%-32s %4d passed %4d failed %4d s' "$title" "$passed" "$failed" "$SECONDS")")
	return "$status"
}

# use NAME [VARIABLE=value...]: go to that build, made when first asked for.
use() {
	if [[ ! -d $SANDBOX/$1 ]]; then
		step "build $1" build "$@" || {
			summarize
			exit 1
		}
	fi
	enter "$1"
}

# What the tests have run of src, by lines and functions; processes that were killed have not told.  KEEP=1 keeps coverage.info,
# which names the lines.
report_coverage() {
	enter normal
	lcov --quiet --capture --no-external --directory src --output-file coverage.info 2>/dev/null
	{
		printf 'dugong %s, PostgreSQL %s, %s\n' "$(cat "$SANDBOX/revision")" "$PG_MAJOR" "$(date '+%F %T %Z')"
		lcov --list coverage.info | sed "s|$PWD/||"
	} >"$SANDBOX/coverage.log"
	tail -n 1 "$SANDBOX/coverage.log"
}

build_old() {
	PG_MAJOR=$PG_OLD_MAJOR
	build old with_llvm=no
}

# use_old: build for PG_OLD_MAJOR, too, if it is set: test/t/043_pg_upgrade.pl upgrades from there.
use_old() {
	[[ -n $PG_OLD_MAJOR ]] || return 0
	step "build for PostgreSQL $PG_OLD_MAJOR" build_old
	export DUGONG_OLD_BINDIR=$SANDBOX/old/usr/lib/postgresql/$PG_OLD_MAJOR/bin
}

summarize() {
	printf '\n== summary\n'
	printf '%s\n' "${summary[@]:-no test ran}"
	printf '%d passed, %d failed\n' "$all_passed" "$all_failed"
	((all_passed && !all_failed))
}

# run_regress CLUSTER [SETTING...]
run_regress() {
	cluster_start "$@" "${server_settings[@]}"
	expect expected
	make -s installcheck REGRESS="${names[*]}" ISOLATION= TAP_TESTS=
}

run_pgtap() {
	cluster_start pgtap "${server_settings[@]}"
	createdb pgtap
	export PGDATABASE=pgtap
	psql -X -q -c 'CREATE EXTENSION pgtap' -c 'CREATE EXTENSION dugong'
	names=("${names[@]/#/test/pgtap/}")
	prove --ext .sql --exec 'psql -X -q -t -A -P pager=off -v ON_ERROR_STOP=1 -f' \
		"${names[@]/%/.sql}"
}

# run_isolation DIRECTORY [VARIABLE=value...]
run_isolation() {
	cluster_start "$(basename "$1")_specs" "${server_settings[@]}"
	expect "$1/expected"
	make -s installcheck REGRESS= ISOLATION="${names[*]}" TAP_TESTS= "${@:2}"
}

# run_tap DIRECTORY [VARIABLE=value...]: TAP tests make their own clusters
run_tap() {
	names=("${names[@]/#/$1/}")
	make -s installcheck REGRESS= ISOLATION= PROVE_TESTS="${names[*]/%/.pl}" "${@:2}"
}

# Somebody who may call everything and owns nothing makes up statements: for some time, then so many of a seed
run_sqlsmith() {
	local dsn seconds=60 statements=1000 seed=$RANDOM
	if [[ -n $DUGONG_LONG ]]; then
		seconds=1800 statements=20000
	fi
	cluster_start sqlsmith "${server_settings[@]}"
	psql -X -q -v ON_ERROR_STOP=1 -f test/memory/sqlsmith.sql >/dev/null
	dsn="host=$PGHOST dbname=smith user=smith"
	echo "seed $seed for $seconds s, then $statements statements of seed ${DUGONG_SEED:-20261124}"
	timeout "$seconds" sqlsmith --target="$dsn" --seed="$seed" >/dev/null 2>&1 || (($? == 124))
	sqlsmith --target="$dsn" --seed="${DUGONG_SEED:-20261124}" --max-queries="$statements" >/dev/null 2>&1
	psql -X -q -v ON_ERROR_STOP=1 -d smith -c "SELECT bank_open_account('after', 1)" -c "CALL dugong.wait_for_projection('bank_account', '60 s')" >/dev/null
	echo "ok 1 - sqlsmith; $(grep -c STATEMENT: "$SANDBOX/sanitized_sqlsmith/server.log") statements were refused"
}

# See test/t/Reports.pm
check_reports() {
	local found
	found=$(perl -Itest/t -MReports -e 'print reports(@ARGV)' "$SANDBOX"/sanitized_*/server.log tmp_check/log/*.log)
	printf '%s\n' "$found"
	[[ -z $found ]]
	echo "ok 1 - no reports"
}

# Everything that runs much of the C code, in a build with assertions and sanitizers
run_sanitizer() {
	local tap="001_worker 007_projections 011_projections 012_workers 014_subscriptions 017_mode 021_erasure 022_import 023_tenants 024_proof 025_append_conditions 052_input 053_large"
	export SERVER_ROOT=$SANDBOX/server CLUSTER_PREFIX=sanitized_
	# Memory that is still in use at the end is PostgreSQL's habit
	export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1
	server_settings+=("log_error_verbosity = verbose")
	use sanitizer
	find_tests sql .sql && step "pg_regress, sanitizers" run_regress plain
	find_tests test/pgtap .sql && step "pgTAP, sanitizers" run_pgtap
	find_tests test/isolation/specs .spec && step "isolation, sanitizers" run_isolation test/isolation
	TESTS=${TESTS:-$tap} find_tests test/t .pl && DUGONG_LONG='' step "TAP, sanitizers" run_tap test/t
	[[ -n $TESTS && " $TESTS " != *" sqlsmith "* ]] || step "sqlsmith, sanitizers" run_sqlsmith
	step "reports" check_reports
}

set +e # a failed step is counted, and the next one runs
for part in ${ONLY:-$parts}; do
	case $part in
		regress)
			find_tests sql .sql || continue
			use normal WERROR=1
			step "pg_regress" run_regress plain
			step "pg_regress, preloaded" run_regress preloaded "shared_preload_libraries = dugong"
			;;
		pgtap)
			find_tests test/pgtap .sql || continue
			use normal WERROR=1
			step "pgTAP" run_pgtap
			;;
		isolation)
			find_tests test/isolation/specs .spec || continue
			use normal WERROR=1
			step "isolation" run_isolation test/isolation
			;;
		fault)
			if find_tests test/fault/specs .spec; then
				use fault FAULT_POINTS=1 WERROR=1 with_llvm=no
				step "isolation, fault points" run_isolation test/fault FAULT_POINTS=1
			fi
			if find_tests test/fault/t .pl; then
				use fault FAULT_POINTS=1 WERROR=1 with_llvm=no
				step "TAP, fault points" run_tap test/fault/t FAULT_POINTS=1
			fi
			;;
		tap)
			find_tests test/t .pl || continue
			use normal WERROR=1
			use normal
			use_old
			step "TAP" run_tap test/t
			;;
		sanitizer)
			run_sanitizer
			;;
		*)
			echo "there is no part $part" >&2
			exit 2
			;;
	esac
done
[[ -z $COVERAGE ]] || report_coverage
summarize
