#!/bin/sh
# deps.sh GROUP...: installs the apt packages of these groups that are missing.
# Nothing missing: no network, no output.  Without root, sudo or apt it prints
# the exact command and fails.
set -eu
here=$(dirname "$0")
want=
for group; do
	want="$want $(awk -v g="$group" '$1 == g { print $2 }' "$here/packages")"
done
if ! command -v dpkg-query >/dev/null 2>&1; then
	echo "deps: this is no Debian system; install these yourself:$want" |
		tr '\n' ' ' >&2
	echo "deps: then run make with DEPS=no" >&2
	exit 1
fi
# shellcheck disable=SC2086
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null |
	awk '$2 == "installed" { printf " %s ", $1 }')
missing=
for p in $want; do
	found=
	for alt in $(echo "$p" | tr '|' ' '); do
		case "$installed" in *" $alt "*) found=$alt ;; esac
	done
	[ -n "$found" ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

run=
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "deps: missing:$missing" >&2
		echo "deps: as root: apt-get update && apt-get install --no-install-recommends$missing" |
			sed 's/|[^ ]*//g' >&2
		exit 1
	fi
	run="sudo"
fi
echo "installing:$missing"
$run apt-get -q -o Acquire::Retries=3 update >/dev/null
pick=
for p in $missing; do
	for alt in $(echo "$p" | tr '|' ' '); do
		if apt-cache show "$alt" >/dev/null 2>&1; then
			pick="$pick $alt"
			break
		fi
	done
done
# shellcheck disable=SC2086
$run env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
	-o Acquire::Retries=3 -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 \
	install --no-install-recommends $pick >/dev/null || {
	echo "deps: apt-get could not install:$pick" >&2
	exit 1
}
