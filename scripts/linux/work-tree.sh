#!/bin/sh
# work-tree.sh: copies the synced repository to /hgwork/src, where tests run.
set -eu
rm -rf /hgwork/src
cp -a --reflink=auto /hgdev/src /hgwork/src
