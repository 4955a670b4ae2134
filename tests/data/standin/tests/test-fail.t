#!/bin/sh
# only when named
echo "expected & got <this>"
exit 1
