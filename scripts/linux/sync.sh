#!/bin/sh
# sync.sh NODE [BUNDLE]: brings the repository in the current directory to
# exactly NODE, after adding BUNDLE's changesets.  Prints the node it ends at,
# with a + when files differ from it.
set -eu
node=$1 bundle=${2-}
export HGPLAIN=1 HGRCPATH=''
if [ -n "$bundle" ]; then
	hg unbundle -q "$bundle"
	rm -f "$bundle"
fi
hg update -q -C -r "$node"
# After the update: before it, files of the other revision would stay.
hg --config extensions.purge= purge --all
hg identify -T "{parents % '{node}'}{dirty}\n"
