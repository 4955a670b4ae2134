#!/bin/sh
# manylinux.sh DIR: gives the wheel in DIR the platform tag of what it needs of
# the C library.  Fails when an extension needs another library.
set -eu
dir=$1
tmp=$(mktemp -d /hgwork/manylinux.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
set -- "$dir"/*.whl
wheel=$1
python3 -m zipfile -e "$wheel" "$tmp"
newest=5
find "$tmp" -name '*.so*' -type f > "$tmp/list"
while read -r so; do
	for need in $(LC_ALL=C readelf -d "$so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
		case $need in
		libc.so.6 | libm.so.6 | libpthread.so.0 | libdl.so.2 | librt.so.1 | ld-linux-*) ;;
		*)
			echo "manylinux: ${so##*/} needs $need" >&2
			exit 1
			;;
		esac
	done
	for n in $(LC_ALL=C readelf -V "$so" | sed -n 's/.*Name: GLIBC_2\.\([0-9]*\).*/\1/p'); do
		[ "$n" -le "$newest" ] || newest=$n
	done
done < "$tmp/list"
python3 -m wheel tags --platform-tag "manylinux_2_${newest}_x86_64" --remove "$wheel"
