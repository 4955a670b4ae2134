#!/bin/sh
# deb.sh VERSION NODE SUITE OUT OVERLAY UPSTREAM: builds a Debian package of the
# checked-out revision into the new directory OUT, in the repository's
# directory.  VERSION is Debian's, UPSTREAM Mercurial's own; OVERLAY holds our
# debian/ files.
set -eu
umask 022
version=$1 node=$2 suite=$3 out=$4 overlay=$5 upstream=$6
export HGPLAIN=1 HGRCPATH=''
at=$(hg log -r . -T '{node} {date|hgdate}')
if [ "${at%% *}" != "$node" ]; then
	echo "the working directory is at ${at%% *} instead of $node" >&2
	exit 1
fi
SOURCE_DATE_EPOCH=${at#* }
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH%% *}
export SOURCE_DATE_EPOCH
rm -rf "$out" "$out.work"
mkdir -p "$out" "$out.work"
top=$out.work/mercurial-$upstream
hg archive -q -r "$node" -X .hg_archival.txt --type files "$top"
rm -f "$top/.hg_archival.txt"
cp -R "$overlay/debian" "$top/debian"
chmod 755 "$top/debian/rules"
date=$(LC_ALL=C date -u -d "@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %H:%M:%S +0000')
cat > "$top/debian/changelog" <<EOF
mercurial ($version) $suite; urgency=medium

  * Built from changeset $node.

 -- hgauto build <hgauto@localhost>  $date
EOF
cd "$top"
# pybuild replaces the unsuffixed variable.
SETUPTOOLS_SCM_PRETEND_VERSION_FOR_MERCURIAL=$upstream \
	DEB_BUILD_OPTIONS="nocheck noautodbgsym parallel=$(nproc)" \
	MERCURIAL_SETUP_FORCE_TRANSLATIONS=1 \
	dpkg-buildpackage -us -uc -b
mv "$out.work"/*.deb "$out/"
rm -rf "$out.work"
