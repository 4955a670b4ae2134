#!/bin/sh
# once.sh SRCDIR: the public half of an X25519 key is computed once.
#
# Why: upstream keeps only the private half between its two messages; OpenSSL
# computes the public half again when it is given that alone, a fifth of the
# arithmetic of a key exchange.
# What changes: the private half's block holds the public half behind it, and
# both are given to OpenSSL, which takes them as they are.
# Exit 0: applied (or was already); 3: an anchor does not match exactly once,
# nothing was changed.
set -eu
o=$1/src/openssl.c
mark='hgauto edit: once'
include='#include <assert.h>'
block='        priv = LIBSSH2_ALLOC(session, privLen);'
given='        *out_private_key = priv;'
made='    server_key = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL,'

grep -qF "$mark" "$o" && exit 0
for anchor in "$include" "$block" "$given" "$made"; do
	[ "$(grep -cF -- "$anchor" "$o")" = 1 ] || {
		echo "once: openssl.c: anchor \"$anchor\" does not match once" >&2
		exit 3
	}
done

awk -v mark="$mark" -v include="$include" -v block="$block" -v given="$given" -v made="$made" '
skip > 0 { skip--; next }
index($0, block) == 1 {
	print "        priv = LIBSSH2_ALLOC(session, 2 * privLen); /* " mark " */"
	next
}
index($0, given) == 1 {
	print "        pubLen = LIBSSH2_ED25519_KEY_LEN;"
	print "        if(EVP_PKEY_get_raw_public_key(key, priv + privLen,"
	print "                                       &pubLen) != 1)"
	print "            goto clean_exit;"
	print ""
}
index($0, made) == 1 { # and its two further lines
	print "    server_key = hga_x25519_whole(private_key); /* " mark " */"
	skip = 2
	next
}
{ print }
index($0, include) == 1 {
	print ""
	print "static EVP_PKEY *hga_x25519_whole(uint8_t *halves); /* " mark " */"
}
' "$o" > "$o.new"
cat >> "$o.new" <<END

#ifdef LIBSSH2_CRYPTO_C
/* $mark: a key of its private half and the public one behind it. */
static EVP_PKEY *hga_x25519_whole(uint8_t *halves)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_X25519, NULL);
    OSSL_PARAM params[3];

    params[0] = OSSL_PARAM_construct_octet_string("priv", halves,
                                                  LIBSSH2_ED25519_KEY_LEN);
    params[1] = OSSL_PARAM_construct_octet_string("pub", halves +
                                                  LIBSSH2_ED25519_KEY_LEN,
                                                  LIBSSH2_ED25519_KEY_LEN);
    params[2] = OSSL_PARAM_construct_end();
    if(ctx && EVP_PKEY_fromdata_init(ctx) == 1 &&
       EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_KEYPAIR, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    return key;
}
#endif
END
mv "$o.new" "$o"
