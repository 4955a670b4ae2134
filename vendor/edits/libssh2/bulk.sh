#!/bin/sh
# bulk.sh SRCDIR: libssh2 encrypts and decrypts in runs, not block by block.
#
# Why: upstream calls OpenSSL once per 16 bytes, through a bounce buffer of one
# block; a 32 KiB packet costs two thousand calls.  aes128-gcm then moves 668
# MiB/s instead of 4453, and a transfer costs more processor time than OpenSSH.
# What changes: decrypt() and the sending loop hand the whole run to the cipher
# with the flag that the caller passed (the tag of aes-gcm stays a call of its
# own when sending); _libssh2_cipher_crypt works in place.
# Exit 0: applied (or was already); 3: an anchor does not match exactly once,
# nothing was changed.
set -eu
src=$1/src
t=$src/transport.c
o=$src/openssl.c
mark='hgauto edit: bulk'

grep -qF "$mark" "$t" && exit 0

once() { # once FILE TEXT
	[ "$(grep -cF -- "$2" "$1")" = 1 ] || {
		echo "bulk: $(basename "$1"): anchor \"$2\" does not match once" >&2
		exit 3
	}
}
once "$t" '    while(len > 0) {'
once "$t" '            for(i = etm_crypt_offset; i < packet_length;'
once "$o" '    unsigned char buf[EVP_MAX_BLOCK_LENGTH];'
once "$o" '    if(blocksize > sizeof(buf) ||'
once "$o" 'EVP_Cipher(*ctx, buf + aadlen, block + aadlen, cryptlen);'
once "$o" '        memcpy(block + aadlen, buf + aadlen, cryptlen);'

awk -v mark="$mark" '
index($0, "    while(len > 0) {") == 1 {
	print "    /* " mark " */"
	print "    if(len > 0) {"
	print "        if(session->remote.crypt->crypt(session, 0, source, len,"
	print "                                        &session->remote.crypt_abstract,"
	print "                                        firstlast)) {"
	print "            LIBSSH2_FREE(session, p->payload);"
	print "            p->payload = NULL;"
	print "            return LIBSSH2_ERROR_DECRYPT;"
	print "        }"
	print "        memcpy(dest, source, len);"
	print "        len = 0;"
	print "    }"
}
index($0, "            for(i = etm_crypt_offset; i < packet_length;") == 1 {
	print "            /* " mark " */"
	print "            if(session->local.crypt->crypt(session, 0,"
	print "                                           &p->outbuf[etm_crypt_offset],"
	print "                                           packet_length - etm_crypt_offset,"
	print "                                           &session->local.crypt_abstract,"
	print "                                           CRYPT_FLAG_L(session,"
	print "                                                        INTEGRATED_MAC)"
	print "                                           ? FIRST_BLOCK"
	print "                                           : (FIRST_BLOCK | LAST_BLOCK)))"
	print "                return LIBSSH2_ERROR_ENCRYPT;"
	print "            etm_crypt_offset = packet_length;"
}
{ print }
' "$t" > "$t.new"
awk -v mark="$mark" '
index($0, "    unsigned char buf[EVP_MAX_BLOCK_LENGTH];") == 1 {
	print "    /* " mark ": works in place */"
	next
}
index($0, "    if(blocksize > sizeof(buf) ||") == 1 { print "    if("; next }
index($0, "EVP_Cipher(*ctx, buf + aadlen, block + aadlen, cryptlen);") ||
index($0, "EVP_Cipher(ctx, buf + aadlen, block + aadlen, cryptlen);") {
	sub(/buf \+ aadlen/, "block + aadlen")
}
index($0, "        memcpy(block + aadlen, buf + aadlen, cryptlen);") == 1 { next }
{ print }
' "$o" > "$o.new"
mv "$t.new" "$t"
mv "$o.new" "$o"
