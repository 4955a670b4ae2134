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
# A launcher of that name may stand on PATH without its interpreter (pyenv),
# and Debian ships python3 without venv: what counts is that it answers.
python=
for p in "python$abi" "/usr/bin/python$abi"; do
	if [ "$("$p" -c 'import ensurepip, venv, sys
print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$abi" ]; then
		python=$p
		break
	fi
done
if [ -n "$python" ]; then
	tmp=$(mktemp -d)
	trap 'rm -rf "$tmp"' EXIT
	"$python" -m venv "$tmp/venv"
	"$tmp/venv/bin/python" -m pip -q install --no-index --no-deps "$wheel"
	"$tmp/venv/bin/hg" version -q
else
	echo "(needs Python $abi with venv, which this machine lacks; the wheel was installed and asked on the instance)"
fi
phase "checking the wheel"

"$h" local down
"$h" local status
echo
echo "artifacts in dist/:"
sha256sum dist/mercurial-*
echo "whole demo: $(($(date +%s) - start)) s; nothing left running"
