#!/bin/sh
# Layers hold: who may include whom (the table of the architecture), no Lua
# symbol in core, no vendored symbol exported.
set -eu
bad=0
say() {
	echo "layers: $*"
	bad=1
}
allowed() { # allowed AREA: folders its own #include lines may name
	case $1 in
	base) echo base ;;
	net) echo 'base net' ;;
	state) echo 'base state' ;;
	aws) echo 'base net aws' ;;
	ssh) echo 'base net ssh' ;;
	winrm) echo 'base net winrm' ;;
	box) echo 'base net box' ;;
	box/guest) echo 'box' ;;
	tools) echo 'base aws' ;;
	esac
}
libs() { # libs AREA: library headers it may include
	case $1 in
	base) echo 'openssl/ expat.h zlib.h' ;;
	net) echo 'curl/ microhttpd.h openssl/' ;;
	state) echo 'sqlite3.h' ;;
	ssh) echo 'libssh2.h libssh2_sftp.h' ;;
	*) echo ;;
	esac
}
for area in base net state aws ssh winrm box box/guest tools; do
	for f in core/"$area"/*.c core/"$area"/*.h; do
		[ -f "$f" ] || continue
		for inc in $(sed -n 's/^# *include "\([^"]*\)".*/\1/p' "$f"); do
			dir=${inc%/*}
			[ "$dir" != "$inc" ] || {
				[ "$area" = box/guest ] || say "$f: \"$inc\" lacks its folder"
				continue
			}
			case " $(allowed "$area") " in
			*" ${dir%%/guest} "*) ;;
			*) say "$f: core/$area may not include \"$inc\"" ;;
			esac
		done
		for inc in $(sed -n 's/^# *include <\(openssl\/[^>]*\|expat\.h\|zlib\.h\|curl\/[^>]*\|microhttpd\.h\|sqlite3\.h\|libssh2[^>]*\|lua[^>]*\|lauxlib\.h\|readline\/[^>]*\)>.*/\1/p' "$f"); do
			ok=
			for l in $(libs "$area"); do
				case $inc in "$l"*) ok=1 ;; esac
			done
			[ -n "$ok" ] || say "$f: core/$area may not include <$inc>"
		done
	done
done
for f in bindings/*.c bindings/*.h; do
	for inc in $(sed -n 's/^# *include <\(openssl\/[^>]*\|expat\.h\|zlib\.h\|curl\/[^>]*\|microhttpd\.h\|sqlite3\.h\|libssh2[^>]*\)>.*/\1/p' "$f"); do
		case $f in
		bindings/host.c | bindings/version.c) ;; # asks libraries for their versions
		*) say "$f: bindings may not include <$inc>" ;;
		esac
	done
done
if [ -n "${1:-}" ] && [ -f "$1/core.a" ]; then
	if nm -u "$1/core.a" 2>/dev/null | grep -E ' (lua_|luaL_)'; then
		say "core.a needs Lua"
	fi
	if nm -D --defined-only "$1/hgauto" | grep -E 'libssh2_|sqlite3_|hga_'; then
		say "hgauto exports symbols of libraries"
	fi
fi
exit $bad
