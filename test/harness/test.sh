#!/usr/bin/env bash
# make test: builds the extension and runs its tests in a sandbox.  make test-long ("test.sh long"): the same in its long form,
# and what takes long only; its output is kept in test/results.  See test/README.md.
set -euo pipefail

# shellcheck source=test/harness/cluster.sh
. "$(dirname "$0")/cluster.sh"
# shellcheck disable=SC2034
SANDBOX_PACKAGES=(valgrind locales)
checkout=$(realpath "$(dirname "$0")/../..")

sandbox_fill() {
	git -C "$checkout" describe --always --dirty >"$SANDBOX/revision" 2>/dev/null || true
}

# The output of a long run becomes a file of the checkout, named after the day
sandbox_take() {
	local file
	file=$checkout/test/results/$(date +%F)-long.log
	if [[ -s $SANDBOX/long.log ]]; then
		[[ ! -e $file ]] || file=$checkout/test/results/$(date +%F-%H%M%S)-long.log
		install -D -m 644 "$SANDBOX/long.log" "$file"
		echo "stored as $file"
	fi
}

parts="regress pgtap isolation fault tap"
if [[ ${1:-} == long ]]; then
	export DUGONG_LONG=1
fi
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
		step "build $1" build "$@" WERROR=1 || {
			summarize
			exit 1
		}
	fi
	enter "$1"
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

set +e # a failed step is counted, and the next one runs
for part in ${ONLY:-$parts}; do
	case $part in
		regress)
			find_tests sql .sql || continue
			use normal
			step "pg_regress" run_regress plain
			step "pg_regress, preloaded" run_regress preloaded "shared_preload_libraries = dugong"
			;;
		pgtap)
			find_tests test/pgtap .sql || continue
			use normal
			step "pgTAP" run_pgtap
			;;
		isolation)
			find_tests test/isolation/specs .spec || continue
			use normal
			step "isolation" run_isolation test/isolation
			;;
		fault)
			if find_tests test/fault/specs .spec; then
				use fault FAULT_POINTS=1 with_llvm=no
				step "isolation, fault points" run_isolation test/fault FAULT_POINTS=1
			fi
			if find_tests test/fault/t .pl; then
				use fault FAULT_POINTS=1 with_llvm=no
				step "TAP, fault points" run_tap test/fault/t FAULT_POINTS=1
			fi
			;;
		tap)
			find_tests test/t .pl || continue
			use normal
			step "TAP" run_tap test/t
			;;
		*)
			echo "there is no part $part" >&2
			exit 2
			;;
	esac
done
summarize
