#!/bin/sh
# run-one.sh FILE: runs one test by its kind; prove's --exec.  A suite that was
# started in the background inherits ignored signals; tests need them.
HGAUTO=${HGAUTO:?}
run() { exec env --default-signal=INT,HUP,TERM "$@"; }
case $1 in
*.lua) run "$HGAUTO" test "$1" ;;
*.t) run sh "$1" ;;
*.py) run /usr/bin/python3 "$1" ;;
*) run "$1" ;;
esac
