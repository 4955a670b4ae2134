#!/bin/sh
# sshd.sh DIR setup              keys and configuration below DIR
# sshd.sh DIR run PORT [LINE...] sshd in the foreground on 127.0.0.1:PORT (or
#                                LISTEN, in a network namespace)
# sshd.sh DIR inetd [LINE...]    one connection on standard input
#
# A real OpenSSH server for tests.  As root it runs in a mount namespace of its
# own, so that /run/sshd, the user "hgtest" (uid 12345, sudo without password)
# and its home below DIR exist for it alone; nothing of the machine changes.  root's
# shell is /bin/sh there: a login must not run the machine's start files.
# HGA_TEST_HASH: the password hash of hgtest, else it has none.
# HGA_TEST_BOOT: a file that is the machine's boot id there.
# LINE: further lines of sshd_config, before ours (the first value wins).
# Exit 77: no sshd here.
set -eu
dir=$1
what=$2
shift 2
PATH=$PATH:/usr/sbin:/sbin
sshd=$(command -v sshd) || { echo "sshd is missing (openssh-server)" >&2; exit 77; }

if [ "$what" = setup ]; then
	umask 077
	mkdir -p "$dir/home"
	for t in ed25519 ecdsa rsa; do
		ssh-keygen -q -t $t -N '' -C test -f "$dir/host_$t"
		ssh-keygen -q -t $t -N '' -C test -f "$dir/id_$t"
	done
	ssh-keygen -q -t ed25519 -N '' -C other -f "$dir/other"
	cat "$dir"/id_*.pub > "$dir/authorized_keys"
	chmod 755 "$dir" "$dir/home"
	chmod 644 "$dir/authorized_keys"
	exit
fi

port=
if [ "$what" = run ]; then
	port=$1
	shift
fi
{
	for line; do echo "$line"; done
	[ -z "$port" ] || printf 'Port %s\nListenAddress %s\n' "$port" "${LISTEN:-127.0.0.1}"
	case $* in *HostKey\ *) ;; *)
		for t in ed25519 ecdsa rsa; do echo "HostKey $dir/host_$t"; done ;;
	esac
	cat <<END
AuthorizedKeysFile $dir/authorized_keys
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
PrintMotd no
X11Forwarding no
LogLevel DEBUG1
END
	# Of these the last value wins.
	case $* in *MaxStartups*) ;; *) echo 'MaxStartups 2000' ;; esac
	case $* in *Subsystem*) ;; *) echo 'Subsystem sftp internal-sftp' ;; esac
} > "$dir/sshd_config.$$"
mode=-D
[ "$what" = run ] || mode=-i

if [ "$(id -u)" != 0 ]; then
	exec "$sshd" "$mode" -E "$dir/sshd.log" -f "$dir/sshd_config.$$"
fi
{ sed '/^root:/s|:[^:]*$|:/bin/sh|' /etc/passwd; echo "hgtest:x:12345:12345::$dir/home:/bin/sh"; } > "$dir/passwd"
{ cat /etc/shadow; echo "hgtest:${HGA_TEST_HASH:-*}:19000:0:99999:7:::"; } > "$dir/shadow"
{ cat /etc/group; echo 'hgtest:x:12345:'; } > "$dir/group"
printf 'root ALL=(ALL) NOPASSWD: ALL\nhgtest ALL=(ALL) NOPASSWD: ALL\n' > "$dir/sudoers"
chmod 644 "$dir/passwd" "$dir/group"
chmod 440 "$dir/sudoers"
chown 12345:12345 "$dir/home"
export sshd mode dir
# shellcheck disable=SC2016 # expanded by the inner shell
exec unshare -m --propagation private sh -c '
	set -e
	mount -t tmpfs -o mode=755 tmpfs /run
	mkdir -m 755 /run/sshd
	for f in passwd shadow group; do mount --bind "$dir/$f" /etc/$f; done
	[ -z "${HGA_TEST_BOOT:-}" ] ||
		mount --bind "$HGA_TEST_BOOT" /proc/sys/kernel/random/boot_id
	[ ! -f /etc/sudoers ] || mount --bind "$dir/sudoers" /etc/sudoers
	exec "$sshd" "$mode" -E "$dir/sshd.log" -f "$1"' sh "$dir/sshd_config.$$"
