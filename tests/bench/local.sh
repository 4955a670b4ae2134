#!/bin/sh
# RunInstances to login on the local cloud, and the end of an instance.
# Needs root and a built base image: HGAUTO_TEST_IMAGES=STATE/local/images.
set -eu
HGAUTO=${HGAUTO:-$BUILD/$MODE/hgauto}
export HGAUTO
exec "$HGAUTO" test tests/bench/local.lua
