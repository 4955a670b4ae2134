#!/bin/sh
# 1,000 key exchanges under load; see tests/lua/ssh_rekey.lua.
HGAUTO_REKEYS=1000 exec "${HGAUTO:?}" test tests/lua/ssh_rekey.lua
