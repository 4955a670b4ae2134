#!/bin/sh
# work-fs.sh FS SIZE [DEVICE...]: puts /hgwork on the file system FS.  Runs as
# root by sudo.  FS is default (a directory), tmpfs, or one that mkfs makes on
# the first DEVICE that exists; that must be a block device of SIZE bytes (0:
# any), without a signature, not mounted.
set -eu
fs=$1 size=$2
shift 2
fail() {
	echo "work-fs: $*" >&2
	exit 1
}
supported() { # the kernel has it, if need be after loading its module
	grep -qw "$1" /proc/filesystems && return
	modprobe -q "$1" 2>/dev/null || true
	grep -qw "$1" /proc/filesystems ||
		fail "$1: not supported by the kernel of this image"
}

case $fs in
default) ;;
tmpfs)
	mount -t tmpfs -o size=50%,mode=0755 hgwork /hgwork
	;;
ext3 | ext4 | xfs | btrfs | jfs)
	supported "$fs"
	device=
	for d; do
		[ -e "$d" ] || continue
		device=$(readlink -f "$d")
		break
	done
	[ -n "$device" ] || fail "no volume to format; looked for $*"
	[ -b "$device" ] || fail "$device is no block device"
	have=$(blockdev --getsize64 "$device")
	[ "$size" = 0 ] || [ "$have" = "$size" ] ||
		fail "$device has $have bytes instead of $size"
	grep -q "^$device " /proc/mounts && fail "$device is mounted"
	rc=0
	blkid -p "$device" >&2 || rc=$?
	[ "$rc" = 2 ] || fail "$device holds something already"
	case $fs in
	ext3 | ext4) mkfs -t "$fs" -q -F -E lazy_journal_init=1 "$device" ;;
	xfs | btrfs) mkfs -t "$fs" -q -f "$device" ;;
	jfs) mkfs -t jfs -q "$device" ;;
	esac
	mount -t "$fs" "$device" /hgwork
	;;
*)
	fail "unknown file system $fs"
	;;
esac
chown hg:hg /hgwork
for d in tmp out wheel; do
	install -d -m 0755 -o hg -g hg "/hgwork/$d"
done
echo "work-fs: /hgwork on $fs"
