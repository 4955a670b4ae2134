#!/bin/sh
# The demonstration: Mercurial's real source, built on a real local instance.
# HG_REPO=DIR builds that checkout instead of apt's source package.
set -eu
h=${HGAUTO:?}
source=${HG_REPO:-apt}
start=$(date +%s)
SECONDS_AT=$start
phase() {
	now=$(date +%s)
	echo "---- $1 took $((now - SECONDS_AT)) s"
	SECONDS_AT=$now
}

"$h" local doctor || {
	echo "demo: this machine cannot start local instances (see above)" >&2
	exit 1
}
echo "---- the first run downloads and builds a base image: about 1 GB of disk, some minutes"
"$h" run --local build-linux --source "$source"
phase "hgauto run --local build-linux --source $source"

echo "---- the wheel, installed and asked"
wheel=$(ls -t dist/mercurial-*.whl | head -n 1)
abi=$(echo "$wheel" | sed 's/.*-cp\([0-9]\)\([0-9]*\)-.*/\1.\2/')
if command -v "python$abi" >/dev/null 2>&1; then
	tmp=$(mktemp -d)
	trap 'rm -rf "$tmp"' EXIT
	"python$abi" -m venv "$tmp/venv"
	"$tmp/venv/bin/python" -m pip -q install --no-index --no-deps "$wheel"
	"$tmp/venv/bin/hg" version -q
else
	echo "(needs Python $abi, which this machine lacks; it was installed and checked on the instance)"
fi
phase "checking the wheel"

"$h" local down
"$h" local status
echo
echo "artifacts in dist/:"
sha256sum dist/mercurial-*
echo "whole demo: $(($(date +%s) - start)) s; nothing left running"
