#!/bin/sh
# Builds the sources in two directories and compares the programs.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for d in one two-longer; do
	mkdir -p "$tmp/$d"
	git ls-files -z | xargs -0 cp --parents -t "$tmp/$d"
	(cd "$tmp/$d" && HGAUTO_VENDOR_CACHE="${HGAUTO_VENDOR_CACHE:-$PWD/../cache}" \
		make -s --no-print-directory -j"$(nproc)" all)
done
cmp "$tmp/one/build/release/hgauto" "$tmp/two-longer/build/release/hgauto"
echo "two builds in different directories are equal"
