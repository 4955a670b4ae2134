#!/bin/sh
# 10,000 calls in one process; see tests/lua/aws_soak.lua.
HGAUTO_SOAK=10000 exec "${HGAUTO:?}" test tests/lua/aws_soak.lua
