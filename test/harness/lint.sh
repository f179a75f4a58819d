#!/usr/bin/env bash
# make lint: the C code compiles under clang without warnings, and clang-tidy and cppcheck find nothing.
set -euo pipefail

# shellcheck source=test/harness/cluster.sh
. "$(dirname "$0")/cluster.sh"
# shellcheck disable=SC2034
SANDBOX_PACKAGES=(clang clang-tidy cppcheck)
sandbox "$@"

include=$("/usr/lib/postgresql/$PG_MAJOR/bin/pg_config" --includedir-server)
files=(src/*.c src/*/*.c)
make -s -k -j"$(nproc)" CC=clang WERROR=1 with_llvm=no PG_CONFIG="/usr/lib/postgresql/$PG_MAJOR/bin/pg_config"
printf '%s\n' "${files[@]}" | xargs -P"$(nproc)" -n8 sh -c \
	'clang-tidy --quiet "$@" -- -std=gnu11 -Isrc -I"$0" -D_GNU_SOURCE -Wno-ignored-attributes 2>/dev/null' "$include"
# Without the server's headers, whose macros mislead it: left out is what needs to know that ereport does not return, and what
# palloc and the output arguments of the server do
cppcheck --quiet -j"$(nproc)" --std=c11 --enable=warning,performance,portability --error-exitcode=1 -Isrc \
	-D'foreach(cell,list)=for(ListCell *cell=first(list);cell;cell=next(cell))' \
	--suppress=missingInclude --suppress=missingIncludeSystem --suppress=legacyUninitvar -DPG_VERSION_NUM=150000 \
	--suppress=nullPointerRedundantCheck --suppress=uninitvar \
	--template='{file}:{line}: {id}: {message}' src
