#!/bin/sh
# skips
echo "missing feature: a <second> moon"
exit 80
