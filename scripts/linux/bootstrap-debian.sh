#!/bin/sh
# bootstrap-debian.sh PACKAGE... [-- PACKAGE...]: makes a Debian machine ready
# for building Mercurial as user hg.  Runs as root by sudo, may be repeated.
# Nothing missing: no call of apt.  Without those behind -- it works, too: when
# they cannot be had, that is said.
set -eu

say() { echo "bootstrap: $*"; }

if command -v cloud-init >/dev/null 2>&1; then
	timeout 300 cloud-init status --wait >/dev/null 2>&1 || true
fi

login=${SUDO_USER:-root}
if ! getent passwd hg >/dev/null; then
	getent group hg >/dev/null || groupadd hg
	# "*" and not "!": sshd without PAM refuses a locked account.
	useradd -g hg -m -p '*' -s /bin/bash hg
	say "made user hg"
fi
home=$(getent passwd hg | cut -d : -f 6)
from=$(getent passwd "$login" | cut -d : -f 6)/.ssh/authorized_keys
if [ -f "$from" ]; then
	install -d -m 0700 -o hg -g hg "$home/.ssh"
	install -m 0600 -o hg -g hg "$from" "$home/.ssh/authorized_keys"
fi
if [ ! -f /etc/sudoers.d/90-hg ]; then
	umask 077
	echo 'hg ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/.90-hg.tmp
	chmod 0440 /etc/sudoers.d/.90-hg.tmp
	mv /etc/sudoers.d/.90-hg.tmp /etc/sudoers.d/90-hg
	umask 022
fi

have=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null |
	awk '$2 == "installed" { printf " %s ", $1 }')
missing= optional= list=missing
for p; do
	case "$p$have" in
	--\ *) list=optional ;;
	*" $p "*) ;;
	*)
		case $list in
		missing) missing="$missing $p" ;;
		optional) optional="$optional $p" ;;
		esac
		;;
	esac
done
install_packages() {
	export DEBIAN_FRONTEND=noninteractive
	apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=600 update || return 1
	apt-get -q install -y --no-install-recommends -o Acquire::Retries=3 \
		-o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 \
		-o Dpkg::Options::=--force-unsafe-io "$@" || return 2
}
if [ -n "$missing" ]; then
	say "installing$missing"
	rc=0
	# shellcheck disable=SC2086
	install_packages $missing $optional || rc=$?
	case $rc in
	1) echo "machine lacks$missing and apt cannot reach its archive" >&2 ;;
	2) echo "machine lacks$missing and apt cannot install them" >&2 ;;
	esac
	[ "$rc" = 0 ] || exit 20
elif [ -n "$optional" ]; then
	say "installing$optional"
	# shellcheck disable=SC2086
	install_packages $optional >/tmp/hgauto-optional.log 2>&1 ||
		say "going on without$optional: $(tail -n 1 /tmp/hgauto-optional.log)"
	rm -f /tmp/hgauto-optional.log
fi

install -d -m 0755 /hgdev
install -d -m 0755 -o hg -g hg /hgdev/src /hgwork
if [ ! -d /hgdev/src/.hg ]; then
	su hg -c 'HGRCPATH= hg init /hgdev/src && printf "[phases]\npublish = false\n" > /hgdev/src/.hg/hgrc'
	say "made /hgdev/src"
fi
if [ ! -f /etc/pip.conf ]; then
	printf '[global]\ndisable-pip-version-check = true\n' > /etc/pip.conf
fi
say ready
