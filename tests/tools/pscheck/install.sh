#!/bin/sh
# install.sh DIR: puts tree-sitter and its PowerShell grammar below DIR by npm ci
# (versions and SHA-512: package-lock.json; no script of theirs runs) and prints
# the directory of the modules.  Exit 3 when they cannot be had here.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
if ! command -v npm >/dev/null 2>&1 || ! command -v node >/dev/null 2>&1; then
	echo "no npm" >&2
	exit 3
fi
if ! cmp -s "$here/package-lock.json" "$dir/installed"; then
	cp "$here/package.json" "$here/package-lock.json" "$dir"
	if ! (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --silent) > "$dir/log" 2>&1; then
		tail -n 3 "$dir/log" >&2
		echo "npm cannot get the grammar" >&2
		exit 3
	fi
	cp "$here/package-lock.json" "$dir/installed"
fi
echo "$dir/node_modules"
