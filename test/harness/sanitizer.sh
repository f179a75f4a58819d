#!/usr/bin/env bash
# Builds PostgreSQL of a major version from Debian's source package, with assertions, AddressSanitizer and
# UndefinedBehaviorSanitizer, and prints the directory that it is installed under, as Debian would install it under /.  It is
# kept for the next time.  It takes some six minutes on two cores.
set -euo pipefail

major=$1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dugong
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Sources come from where the machine's packages come from, without a change to its apt
apt_source() {
	local command=$1
	shift
	"$command" -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources" \
		-o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root "$@"
}

list_sources() {
	local file
	mkdir -p "$work"/{sources,lists/partial,cache/archives/partial}
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
		[[ -f $file ]] || continue
		case $file in
			*.list) sed 's/^deb /deb-src /' "$file" >"$work/sources/$(basename "$file")" ;;
			*.sources) sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/sources/$(basename "$file")" ;;
		esac
	done
	apt_source apt-get update || true # not every source has sources
}

# fetch VERSION: its archive, which the mirror may not have any more
fetch() {
	(cd "$work" && apt_source apt-get source --download-only "postgresql-$major=$1") &&
		tar -C "$work" -xf "$work"/*.orig.tar.*
}

# install_into DIRECTORY
install_into() {
	local pg=/usr/lib/postgresql/$major flags
	flags="-fsanitize=address,undefined -fno-sanitize=alignment,shift,pointer-overflow"
	export ASAN_OPTIONS=detect_leaks=0
	cd "$work"/postgresql-*/
	nice ./configure --prefix=/usr --bindir="$pg/bin" --libdir="$pg/lib" --libexecdir=/usr/lib/postgresql \
		--includedir="/usr/include/postgresql/$major" --datadir="/usr/share/postgresql/$major" \
		--with-system-tzdata=/usr/share/zoneinfo --disable-rpath --without-readline --without-zlib --with-icu --with-uuid=e2fs \
		--enable-cassert --enable-debug --enable-tap-tests CFLAGS="-Og -fno-omit-frame-pointer $flags" LDFLAGS="$flags"
	nice make -s -j"$(nproc)" world-bin
	make -s DESTDIR="$1.part" install-world-bin
	mv "$1.part" "$1"
}

{
	list_sources
	found=
	for version in $(apt_source apt-cache showsrc "postgresql-$major" | sed -n 's/^Version: //p' | sort -Vr | uniq); do
		found=$cache/postgresql-$version-sanitizers
		[[ ! -d $found ]] || break
		if fetch "$version"; then
			rm -rf "$found.part"
			mkdir -p "$cache"
			install_into "$found"
			break
		fi
		found=
	done
} >&2
[[ -n $found ]]
echo "$found"
