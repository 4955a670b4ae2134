#!/bin/sh
# run-one.sh FILE: runs one test by its kind; prove's --exec.
HGAUTO=${HGAUTO:?}
case $1 in
*.lua) exec "$HGAUTO" test "$1" ;;
*.t) exec sh "$1" ;;
*.py) exec /usr/bin/python3 "$1" ;;
*) exec "$1" ;;
esac
