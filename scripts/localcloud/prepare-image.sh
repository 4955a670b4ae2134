#!/bin/sh
# Makes an instance's base of a fresh Debian root: the login user, sudo, sshd.
# Called at the end of the build as: prepare-image.sh ROOT USER
set -eu
root=$1
user=$2

# '*' allows keys; '!' would lock the account for sshd.
chroot "$root" useradd --create-home --shell /bin/bash --password '*' "$user"
for group in adm sudo; do
	chroot "$root" usermod --append --groups "$group" "$user"
done
mkdir -p "$root/etc/sudoers.d" "$root/etc/ssh/sshd_config.d"
echo "$user ALL=(ALL) NOPASSWD:ALL" >"$root/etc/sudoers.d/90-hgauto"
chmod 440 "$root/etc/sudoers.d/90-hgauto"

# Without PAM a login needs six programs less (message of the day, ageing).
cat >"$root/etc/ssh/sshd_config.d/00-hgauto.conf" <<'END'
# Written by hgauto for its local cloud.
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
UsePAM no
PrintLastLog no
END
rm -f "$root"/etc/ssh/ssh_host_*

# Services are not started: pid 1 of an instance is no service manager.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

# Nothing of the machine that built it.
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root/etc/hostname" \
	"$root/etc/resolv.conf"
rm -rf "$root/etc/apt/auth.conf" "$root"/etc/apt/auth.conf.d/* \
	"$root/etc/apt/apt.conf.d/99mmdebstrap" "$root"/var/lib/apt/lists/* \
	"$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb \
	"$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old \
	"$root"/var/log/apt/* "$root"/var/log/*.log
