#!/bin/sh
# vendor.sh OUT: obtains, verifies and patches what vendor/manifest pins and
# writes OUT/vendor.mk.  Cached: a second run compares hashes and is done.
# vendor.sh --apt SUITE DIR WORDS: runs apt-get WORDS in DIR for that suite.
# Environment: VENDOR_FETCH=cache (no network), VENDOR_STRICT=1 (no fallback,
# every edit must apply), AWS_MODELS=DIR (models from there).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ "$1" = --apt ]; then
	mkdir -p "$3"
	cache=$(cd "$3" && pwd)
	out=$(mktemp -d)
	trap 'rm -rf "$out"' EXIT
else
	out=$1
	mkdir -p "$out"
	out=$(cd "$out" && pwd)
	cache=${HGAUTO_VENDOR_CACHE:-$out/cache}
	mkdir -p "$cache"
fi

say() { echo "vendor: $*" >&2; }
die() {
	say "$*"
	exit 1
}
pin() { # pin BLOCK KEY
	awk -F '|' -v b="$1" -v k="$2" '
		{ gsub(/^[ \t]+|[ \t]+$/, "", $1); gsub(/^[ \t]+|[ \t]+$/, "", $2)
		  gsub(/^[ \t]+|[ \t]+$/, "", $3) }
		$1 == b && $2 == k { print $3; exit }' "$here/manifest"
}
have() { # have FILE SHA256
	[ -f "$cache/$1" ] && echo "$2  $cache/$1" | sha256sum -c --status
}

# A private apt configuration for another suite; the machine's stays as it is.
apt_private() { # apt_private SUITE COMMAND...
	suite=$1
	shift
	command -v apt-get >/dev/null || die "apt-get is missing; put the files of vendor/manifest into $cache"
	[ "${VENDOR_FETCH:-}" != cache ] || die "VENDOR_FETCH=cache, but $cache lacks a file (see above)"
	a=$out/apt-$suite
	mkdir -p "$a/lists/partial" "$a/cache/archives/partial" "$a/state"
	: > "$a/status"
	uri=$(apt-get indextargets --format '$(REPO_URI)|$(ORIGIN)|$(LABEL)' \
		'Created-By: Packages' | awk -F '|' '$2 == "Debian" && $3 == "Debian" { print $1; exit }')
	# A fresh container has no lists yet: then ask the sources.
	if [ -z "$uri" ]; then
		uri=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
			/etc/apt/sources.list.d/*.sources 2>/dev/null | awk '
			$1 == "deb" { for (i = 2; i <= NF; i++)
				if ($i ~ /^(https?|file|ftp|copy|mirror[^:]*):/ && $i !~ /security/) { print $i; exit } }
			$1 == "URIs:" && $2 !~ /security/ { print $2; exit }')
	fi
	[ -n "$uri" ] || die "found no Debian archive in apt's sources"
	ring=/usr/share/keyrings/debian-archive-keyring.gpg
	by=
	[ -f $ring ] && by="[signed-by=$ring] "
	printf 'deb %s%s %s main\ndeb-src %s%s %s main\n' \
		"$by" "$uri" "$suite" "$by" "$uri" "$suite" > "$a/sources.list"
	# apt reads its own configuration first; ours overrides what matters.
	cat > "$a/apt.conf" <<EOF
Dir::Etc::sourcelist "$a/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$a/state";
Dir::State::lists "$a/lists";
Dir::State::status "$a/status";
Dir::Cache "$a/cache";
APT::Sandbox::User "";
APT::Architectures { "$(dpkg --print-architecture)"; };
Acquire::Languages "none";
Acquire::Retries "3";
EOF
	if [ ! -f "$a/updated" ]; then
		APT_CONFIG=$a/apt.conf apt-get -q -q update ||
			die "apt-get update for $suite failed"
		touch "$a/updated"
	fi
	(cd "$cache" && APT_CONFIG=$a/apt.conf "$@")
}

if [ "$1" = --apt ]; then
	suite=$2
	shift 3
	apt_private "$suite" apt-get -q -q "$@"
	exit
fi

# ---- libssh2 ---------------------------------------------------------------
version=$(pin libssh2 version)
revision=$(pin libssh2 revision)
orig=$(pin libssh2 orig)
deb=$(pin libssh2 debian)
orig_sum=$(pin libssh2 orig-sha256)
deb_sum=$(pin libssh2 debian-sha256)
origin=debian-$revision
if ! have "$orig" "$orig_sum" || ! have "$deb" "$deb_sum"; then
	say "fetching libssh2 $revision"
	rm -f "$cache/$orig" "$cache/$deb"
	if ! apt_private "$(pin libssh2 suite)" apt-get -q -q source \
		--download-only "libssh2=$revision"; then
		[ -z "${VENDOR_STRICT:-}" ] ||
			die "libssh2 $revision is gone from the archive (VENDOR_STRICT=1)"
		apt_private "$(pin libssh2 suite)" apt-get -q -q source \
			--download-only libssh2 || die "cannot fetch libssh2"
		newer=$(cd "$cache" && ls -t "libssh2_$version"-*.debian.tar.xz 2>/dev/null | head -n 1)
		[ -n "$newer" ] || die "the archive has no libssh2 $version any more; move the pin"
		say "warning: $revision is gone; using $newer, which apt authenticated"
		deb=$newer
		deb_sum=$(sha256sum < "$cache/$newer" | cut -d ' ' -f 1)
		origin=$newer
	fi
fi
have "$orig" "$orig_sum" || die "$orig has the wrong sha256; expected $orig_sum"
have "$deb" "$deb_sum" || die "$deb has the wrong sha256; expected $deb_sum"

# Unpacked tree: named by everything it is made of.
edits=$(find "$here/edits/libssh2" -name '*.sh' 2>/dev/null | LC_ALL=C sort)
# shellcheck disable=SC2086
key=$( (echo "$orig_sum $deb_sum"; cat /dev/null $edits) | sha256sum | cut -c 1-12)
tree=$out/libssh2-$key
if [ ! -f "$tree/.done" ]; then
	rm -rf "$tree" "$tree.tmp"
	mkdir -p "$tree.tmp"
	tar -xzf "$cache/$orig" -C "$tree.tmp" --strip-components=1 --no-same-owner
	tar -xJf "$cache/$deb" -C "$tree.tmp" --no-same-owner
	n=0
	while read -r p _; do
		case $p in '' | \#*) continue ;; esac
		patch -s -p1 -d "$tree.tmp" < "$tree.tmp/debian/patches/$p" ||
			die "patch $p of $origin does not apply"
		n=$((n + 1))
	done < "$tree.tmp/debian/patches/series"
	[ $n -gt 0 ] || die "$origin has an empty patch series"
	applied=
	for e in $edits; do
		name=$(basename "$e" .sh)
		if sh "$e" "$tree.tmp"; then
			applied="$applied $name"
		elif [ -n "${VENDOR_STRICT:-}" ]; then
			die "edit $name does not apply (VENDOR_STRICT=1)"
		else
			say "warning: edit $name does not apply; built without it"
		fi
	done
	echo "$applied" > "$tree.tmp/.edits"
	echo "$origin" > "$tree.tmp/.origin"
	: > "$tree.tmp/.done"
	mv "$tree.tmp" "$tree"
fi
for old in "$out"/libssh2-*; do
	[ "$old" = "$tree" ] || rm -rf "$old"
done
applied=$(cat "$tree/.edits")
origin=$(cat "$tree/.origin")

# ---- models ----------------------------------------------------------------
models_version=
if [ -n "${AWS_MODELS:-}" ]; then
	models=$AWS_MODELS
	models_version=AWS_MODELS
else
	models=$out/models/botocore/data
	mfile=$(pin models file)
	msum=$(pin models file-sha256)
	pinned=$(pin models version)
	sys=$(dpkg-query -W -f '${Version}' python3-botocore 2>/dev/null || true)
	if [ -n "$sys" ] && dpkg --compare-versions "$sys" ge "$pinned"; then
		models=/usr/lib/python3/dist-packages/botocore/data
		models_version=$sys
	elif have "$mfile" "$msum" || {
		say "fetching $mfile"
		rm -f "$cache/$mfile"
		apt_private "$(pin models suite)" apt-get -q -q download \
			"$(pin models package)=$pinned" || true
		# apt writes "+" and ":" percent-encoded into file names.
		enc=$(echo "$mfile" | sed 's/+/%2b/g')
		[ ! -f "$cache/$enc" ] || mv "$cache/$enc" "$cache/$mfile"
		have "$mfile" "$msum"
	}; then
		models_version=$pinned
		if [ ! -f "$out/models/$msum" ]; then
			rm -rf "$out/models"
			mkdir -p "$out/models/x"
			dpkg-deb -x "$cache/$mfile" "$out/models/x"
			mv "$out/models/x/usr/lib/python3/dist-packages/botocore" "$out/models/botocore"
			rm -rf "$out/models/x"
			: > "$out/models/$msum"
		fi
	elif [ -f "$cache/$mfile" ]; then
		die "$mfile has the wrong sha256; expected $msum"
	elif [ -n "$sys" ] && [ -z "${VENDOR_STRICT:-}" ]; then
		say "warning: models $pinned cannot be had; using python3-botocore $sys of this system (older: fewer operations)"
		models=/usr/lib/python3/dist-packages/botocore/data
		models_version=$sys
	else
		die "AWS models: no network and no python3-botocore; set AWS_MODELS=DIR"
	fi
fi
[ -d "$models/ec2" ] || die "$models holds no AWS models (ec2 is missing)"

# ---- what make needs -------------------------------------------------------
files=$(sed -n '/^CSOURCES/,/^$/p' "$tree/src/Makefile.inc" | grep -o '[a-z0-9_-]*\.c')
[ -n "$files" ] || die "$tree/src/Makefile.inc names no sources"
macros=
for name in $applied; do
	macros="$macros -DHGA_SSH2_EDIT_$(echo "$name" | tr '[:lower:]' '[:upper:]')"
done
{
	echo "SSH2_SRC := $tree/src"
	echo "SSH2_FILES := $(for f in $files; do printf '%s ' "$tree/src/$f"; done)"
	echo "SSH2_CPPFLAGS := -I$tree/include$macros"
	echo "SSH2_VERSION_DEF := -DHGA_SSH2_ORIGIN='\"$origin\"' -DHGA_SSH2_EDITS='\"$(echo $applied)\"' -DHGA_MODELS_VERSION='\"$models_version\"'"
	echo "MODELS_DIR := $models"
} > "$out/vendor.mk.tmp"
if cmp -s "$out/vendor.mk.tmp" "$out/vendor.mk"; then
	rm "$out/vendor.mk.tmp"
	touch "$out/vendor.mk"
else
	mv "$out/vendor.mk.tmp" "$out/vendor.mk"
fi
