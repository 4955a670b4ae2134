#!/bin/sh
# verify.sh KIND FILE [WORK]: checks a built artifact and prints `version V`.
# WORK is a directory for temporary files, /hgwork by default.
# wheel: installs it into an empty environment and asks the hg inside.
# sdist: has the documentation and nothing that was generated too much.
# deb: says about itself what its name says; unpacked, its hg is asked.
set -eu
kind=$1 file=$2
name=$(basename "$file")
tmp=$(mktemp -d "${3:-/hgwork}/verify.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
fail() {
	echo "verify $name: $*" >&2
	exit 1
}
# ask PYTHON HG: what hg says about itself, run by PYTHON; prints its version.
ask() {
	# In the source tree the wrong package would be imported.
	cd /
	HGRCPATH='' HGPLAIN=1 "$1" "$2" debuginstall -T json > "$tmp/report" ||
		fail "hg debuginstall failed: $(tr '\n' ' ' < "$tmp/report")"
	"$1" - "$tmp/report" <<'PY'
import json
import sys

report = json.load(open(sys.argv[1]))[0]
if report.get('problems'):
    sys.exit('hg debuginstall reports %s problems' % report['problems'])
if report.get('hgmodulepolicy') != 'c':
    sys.exit('module policy is %s instead of c' % report.get('hgmodulepolicy'))
version = report['hgver']
extra = report.get('hgverextra')
if extra:
    version += '+' + extra
print('version ' + version)
PY
}
case $kind in
wheel)
	python3 -m venv "$tmp/venv"
	PIP_DISABLE_PIP_VERSION_CHECK=1 "$tmp/venv/bin/python" -m pip -q install \
		--no-index --no-deps "$file"
	ask "$tmp/venv/bin/python" "$tmp/venv/bin/hg"
	;;
sdist)
	tar -tzf "$file" > "$tmp/list"
	tops=$(cut -d / -f 1 "$tmp/list" | sort -u)
	case $tops in
	mercurial-*) ;;
	*) fail "top directory is not mercurial-VERSION: $tops" ;;
	esac
	[ "$(echo "$tops" | wc -l)" = 1 ] || fail "more than one top directory"
	grep -qx "$tops/doc/hg.1" "$tmp/list" || fail "doc/hg.1 is missing"
	if grep -E "^$tops/(build/.|mercurial/locale/.*\.mo$)" "$tmp/list" >&2; then
		fail "holds files that do not belong into a source archive"
	fi
	tar -xzOf "$file" "$tops/PKG-INFO" > "$tmp/info"
	version=$(sed -n 's/^Version: //p' "$tmp/info" | head -n 1)
	[ "$tops" = "mercurial-$version" ] || fail "PKG-INFO says $version, the directory $tops"
	echo "version $version"
	;;
deb)
	package=$(dpkg-deb -f "$file" Package) || fail "is no Debian package"
	full=${package}_$(dpkg-deb -f "$file" Version)_$(dpkg-deb -f "$file" Architecture).deb
	[ "$full" = "$name" ] || fail "says it is $full"
	dpkg-deb -x "$file" "$tmp/root"
	[ -x "$tmp/root/usr/bin/hg" ] || fail "has no /usr/bin/hg"
	# Before the hg that this machine has itself.
	export PYTHONPATH="$tmp/root/usr/lib/python3/dist-packages"
	ask /usr/bin/python3 "$tmp/root/usr/bin/hg"
	;;
*)
	fail "unknown kind $kind"
	;;
esac
