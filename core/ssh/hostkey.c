/*
 * Pinned host keys.  Blob layout: RFC 4253 section 6.6; the fingerprint is
 * OpenSSH's "SHA256:" form.
 */
#include "ssh/hostkey.h"

#include "base/crypto.h"
#include "base/hash.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define PINS_MAX 64
#define BLOB_MAX (16 * 1024)

/* In order of preference; no certificates (libssh2 cannot check them), no
 * ssh-rsa (SHA-1), no ssh-dss. */
static const struct {
	const char *type, *alg;
} algs[] = {
    {"ssh-ed25519", "ssh-ed25519"},
    {"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"},
    {"ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"},
    {"ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"},
    {"ssh-rsa", "rsa-sha2-512,rsa-sha2-256"},
};
#define N_ALGS (sizeof(algs) / sizeof(algs[0]))

static int parse_fingerprint(struct hga_pin *pin, struct hga_str text,
                             struct hga_err *err)
{
	/* 32 bytes in base64 without padding. */
	if (text.n != 7 + 43)
		return hga_fail(err, HGA_USAGE, 0, "KeyFormat",
		                "host key: a fingerprint has 43 digits after "
		                "\"SHA256:\"");
	for (size_t i = 7; i < text.n; i++) {
		unsigned char c = (unsigned char)text.s[i];

		if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZ"
		           "abcdefghijklmnopqrstuvwxyz0123456789+/",
		           c) == NULL ||
		    c == '\0')
			return hga_fail(err, HGA_USAGE, 0, "KeyFormat",
			                "host key: malformed fingerprint");
	}
	memcpy(pin->fingerprint, text.s, text.n);
	pin->fingerprint[text.n] = '\0';
	return 0;
}

static int parse_key(struct hga_pin *pin, struct hga_str text,
                     struct hga_err *err)
{
	struct hga_pubinfo info;
	int rc = hga_pubkey_info(text, &info, err);

	if (rc == 0)
		rc = hga_pubkey_blob(text, &pin->blob, err);
	if (rc < 0)
		return rc;
	memcpy(pin->type, info.type, sizeof(pin->type));
	memcpy(pin->fingerprint, info.fingerprint, sizeof(pin->fingerprint));
	for (size_t i = 0; i < N_ALGS; i++)
		if (strcmp(algs[i].type, pin->type) == 0)
			return 0;
	return hga_fail(err, HGA_USAGE, 0, "KeyUnsupported",
	                "host key: type %s is not supported", pin->type);
}

int hga_pins_parse(struct hga_pins *out, const struct hga_str *texts, size_t n,
                   struct hga_err *err)
{
	out->n = 0;
	out->v = NULL;
	if (n > PINS_MAX)
		return hga_fail(err, HGA_USAGE, 0, "TooLarge",
		                "host key: more than %d keys", PINS_MAX);
	out->v = hga_calloc(n ? n : 1, sizeof(*out->v));
	if (out->v == NULL)
		return hga_fail_mem(err);
	for (size_t i = 0; i < n; i++) {
		struct hga_str t = hga_str_trim(texts[i]);
		struct hga_pin *pin = &out->v[i];
		int rc;

		hga_buf_init(&pin->blob, BLOB_MAX);
		out->n = i + 1;
		rc = hga_str_starts(t, "SHA256:")
		         ? parse_fingerprint(pin, t, err)
		         : parse_key(pin, t, err);
		if (rc < 0) {
			hga_pins_release(out);
			return rc;
		}
	}
	return 0;
}

void hga_pins_release(struct hga_pins *pins)
{
	for (size_t i = 0; i < pins->n; i++)
		hga_buf_release(&pins->v[i].blob);
	hga_free(pins->v);
	pins->v = NULL;
	pins->n = 0;
}

bool hga_pins_match(const struct hga_pins *pins, struct hga_str blob)
{
	char fp[64];
	bool found = false;

	if (hga_blob_fingerprint(blob, fp, NULL) < 0)
		return false;
	for (size_t i = 0; i < pins->n; i++) {
		const struct hga_pin *p = &pins->v[i];

		/* A whole key is compared as a whole, not by its digest. */
		if (p->blob.len > 0)
			found |= hga_equal_ct(hga_buf_str(&p->blob), blob);
		else
			found |=
			    hga_equal_ct(hga_str(p->fingerprint), hga_str(fp));
	}
	return found;
}

static bool wanted(const struct hga_pins *pins, const char *type)
{
	for (size_t i = 0; i < pins->n; i++)
		if (pins->v[i].type[0] == '\0' ||
		    strcmp(pins->v[i].type, type) == 0)
			return true;
	return false;
}

int hga_pins_algorithms(const struct hga_pins *pins, struct hga_buf *out,
                        struct hga_err *err)
{
	size_t start = out->len;

	for (size_t i = 0; i < N_ALGS; i++) {
		int rc;

		if (!wanted(pins, algs[i].type))
			continue;
		rc = hga_buf_addf(out, err, "%s%s", out->len > start ? "," : "",
		                  algs[i].alg);
		if (rc < 0)
			return rc;
	}
	return 0;
}

void hga_pins_text(const struct hga_pins *pins, char *out, size_t size)
{
	size_t at = 0;

	out[0] = '\0';
	for (size_t i = 0; i < pins->n && at < size; i++) {
		int n = snprintf(out + at, size - at, "%s%s", i ? " " : "",
		                 pins->v[i].fingerprint);

		if (n < 0)
			return;
		at += (size_t)n;
	}
}
