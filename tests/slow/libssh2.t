#!/bin/sh
# libssh2's own test programs, linked with the library as we edit it, against a
# real sshd that has their user (in namespaces of its own).
set -u
out=$(cd "$(dirname "${HGAUTO:?}")" && pwd)
tree=$(sed -n 's/^SSH2_CPPFLAGS := -I\([^ ]*\)\/include .*/\1/p' "$out/../vendor/vendor.mk")
sshd=$(PATH=$PATH:/usr/sbin command -v sshd)
if [ "$(id -u)" != 0 ] || [ -z "$sshd" ] || [ ! -d "$tree/tests" ]; then
	echo "1..0 # SKIP needs root, openssh-server and libssh2's tree in build/vendor"
	exit
fi
if [ -z "${HGAUTO_NS:-}" ]; then
	HGAUTO_NS=1 exec unshare -m -n --propagation private sh "$0"
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/hgauto-test.XXXXXX")
pid=
trap '[ -z "$pid" ] || kill "$pid"; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

# The user, its keys, the server.
mkdir -p "$dir/home/.ssh" "$dir/home/sandbox" /run/sshd
cp "$tree/tests/openssh_server/authorized_keys" "$dir/home/.ssh/"
for f in passwd group shadow; do
	cp "/etc/$f" "$dir/$f"
done
echo "libssh2:x:54321:54321::$dir/home:/bin/sh" >> "$dir/passwd"
echo "libssh2:x:54321:" >> "$dir/group"
echo "libssh2:$(openssl passwd -6 'my test password'):19000:0:99999:7:::" >> "$dir/shadow"
for f in passwd group shadow; do
	mount --bind "$dir/$f" "/etc/$f"
done
chown -R 54321:54321 "$dir/home"
chmod 755 "$dir"
for f in "$tree"/tests/openssh_server/ssh_host_*_key "$tree/tests/openssh_server/ca_user_keys.pub"; do
	install -m 600 "$f" "$dir/"
done
ip link set lo up
{
	cat "$tree/tests/openssh_server/sshd_config"
	for f in "$dir"/ssh_host_*_key; do
		echo "HostKey $f"
	done
	cat <<END
TrustedUserCAKeys $dir/ca_user_keys.pub
ListenAddress 127.0.0.1
Port 22
Port 4711
PidFile none
UsePAM yes
StrictModes no
PasswordAuthentication yes
KbdInteractiveAuthentication yes
END
} > "$dir/sshd_config"
"$sshd" -D -e -f "$dir/sshd_config" 2>"$dir/sshd.log" &
pid=$!

# Upstream clears a session itself; ours leaves that to the allocator.
cat > "$dir/clear.c" <<'END'
#include <stdlib.h>
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
	return calloc(1, n);
}
END
flags="-w -O1 -DHAVE_CONFIG_H -DLIBSSH2_OPENSSL -DLIBSSH2_TESTS -Ivendor -I$tree/include -I$tree/src -I$tree/tests"
export OPENSSH_NO_DOCKER=1 OPENSSH_SERVER_HOST=127.0.0.1 OPENSSH_SERVER_PORT=22
export USER=libssh2 srcdir="$tree/tests" PRIVKEY="$tree/tests/key_rsa" PUBKEY="$tree/tests/key_rsa.pub"
t=0
for src in "$tree"/tests/test_*.c; do
	name=$(basename "$src" .c)
	more="$tree/tests/runner.c $tree/tests/session_fixture.c $tree/tests/openssh_fixture.c"
	case $name in test_ssh2 | test_simple | test_auth_keyboard_info_request) more= ;; esac
	case $name in
	test_agent_forward_ok | test_auth_pubkey_ok_dsa) continue ;; # want an agent; no server knows DSA
	esac
	t=$((t + 1))
	# shellcheck disable=SC2086 # lists of words
	if cc $flags -o "$dir/$name" "$src" $more "$dir/clear.c" "$out/libssh2.a" \
		-Wl,--wrap=malloc -lcrypto -lz >"$dir/log" 2>&1 &&
		(cd "$dir" && timeout 60 "./$name") >>"$dir/log" 2>&1; then
		echo "ok $t - $name"
	else
		echo "not ok $t - $name"
		tail -n 15 "$dir/log" | sed 's/^/# /'
	fi
done
echo "1..$t"
