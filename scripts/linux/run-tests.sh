#!/bin/sh
# run-tests.sh PYTHON WHEEL OUT [ARGUMENT...]: runs Mercurial's test suite of
# the tree in /hgwork/src against WHEEL.  OUT is an existing directory and gets
# report.json, xunit.xml and the .err files.  The exit status is run-tests.py's.
set -u
umask 022
python=$1 wheel=$2 out=$3
shift 3
cd /hgwork/src/tests || exit 254
# The suite makes an environment of its own; nothing may come from the net.
export TMPDIR=/hgwork/tmp PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1
exec "$python" run-tests.py --hg-wheel "$wheel" --json --xunit "$out/xunit.xml" \
	--outputdir "$out" "$@"
