/*
 * Whom to trust: pinned host keys, else known_hosts.  Blob layout: RFC 4253
 * section 6.6; the fingerprint is OpenSSH's "SHA256:" form.
 */
#include "ssh/hostkey.h"

#include "base/crypto.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "ssh/auth.h"
#include "ssh/session.h"

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

/* ---- all sources together ---- */

static char *dup_or_null(const char *s, bool *failed)
{
	char *p = s != NULL ? hga_strdup(s) : NULL;

	*failed |= s != NULL && p == NULL;
	return p;
}

static int open_files(struct hga_trust *t, const struct hga_ssh_args *a,
                      struct hga_err *err)
{
	size_t n = a->n_known_hosts + (a->own_known_hosts != NULL);
	int rc = 0;

	t->files = hga_calloc(n ? n : 1, sizeof(struct hga_khosts *));
	if (t->files == NULL)
		return hga_fail_mem(err);
	for (size_t i = 0; i < n && rc == 0; i++) {
		rc = hga_khosts_open(i < a->n_known_hosts ? a->known_hosts[i]
		                                          : a->own_known_hosts,
		                     &t->files[i], err);
		if (rc == 0)
			t->n_files = i + 1;
	}
	return rc;
}

int hga_trust_init(struct hga_trust *t, const struct hga_ssh_args *a,
                   struct hga_err *err)
{
	bool failed = false;
	int rc;

	memset(t, 0, sizeof(*t));
	if (a->n_pins == 0 && a->n_known_hosts == 0 &&
	    a->own_known_hosts == NULL)
		return hga_fail(err, HGA_BUG, 0, "NoHostKey",
		                "ssh %.100s: connect without a trusted host "
		                "key (host_key) or known_hosts",
		                a->host);
	t->own = dup_or_null(a->own_known_hosts, &failed);
	t->alias = dup_or_null(a->host_key_alias, &failed);
	t->only = dup_or_null(a->hostkeys, &failed);
	t->accept_new = a->accept_new && a->own_known_hosts != NULL;
	if (failed)
		return hga_fail_mem(err);
	rc = hga_pins_parse(&t->pins, a->pins, a->n_pins, err);
	if (rc == 0 && a->n_pins == 0)
		rc = open_files(t, a, err);
	return rc;
}

void hga_trust_release(struct hga_trust *t)
{
	hga_pins_release(&t->pins);
	for (size_t i = 0; i < t->n_files; i++)
		hga_khosts_free(t->files[i]);
	hga_free(t->files);
	hga_free(t->own);
	hga_free(t->alias);
	hga_free(t->only);
	memset(t, 0, sizeof(*t));
}

/* name is in the comma-separated list. */
static bool listed(const char *list, struct hga_str name)
{
	size_t at = 0;
	struct hga_str all = hga_str(list);

	while (at < all.n) {
		ptrdiff_t comma = hga_str_chr(all, ',', at);
		size_t end = comma < 0 ? all.n : (size_t)comma;

		if (hga_str_eq(hga_strn(all.s + at, end - at), name))
			return true;
		at = end + 1;
	}
	return false;
}

/* Appends those of names (comma separated) that only allows. */
static int add_algs(const struct hga_trust *t, const char *names,
                    struct hga_buf *out, struct hga_err *err)
{
	struct hga_str all = hga_str(names);
	size_t at = 0;
	int rc = 0;

	while (at < all.n && rc == 0) {
		ptrdiff_t comma = hga_str_chr(all, ',', at);
		size_t end = comma < 0 ? all.n : (size_t)comma;
		struct hga_str one = hga_strn(all.s + at, end - at);

		at = end + 1;
		if (t->only != NULL && !listed(t->only, one))
			continue;
		rc = hga_buf_addf(out, err, "%s%.*s", out->len ? "," : "",
		                  HGA_STRF(one));
	}
	return rc;
}

int hga_trust_algorithms(const struct hga_trust *t, const char *host, int port,
                         struct hga_buf *out, struct hga_err *err)
{
	struct hga_kh_host h = {host, port, t->alias};
	bool known[N_ALGS];
	int rc = 0;

	if (t->pins.n > 0)
		return hga_pins_algorithms(&t->pins, out, err);
	for (size_t i = 0; i < N_ALGS && rc == 0; i++)
		rc = hga_khosts_has_type(t->files, t->n_files, &h, algs[i].type,
		                         &known[i], err);
	for (int first = 1; first >= 0 && rc == 0; first--)
		for (size_t i = 0; i < N_ALGS && rc == 0; i++)
			if (known[i] == (first == 1))
				rc = add_algs(t, algs[i].alg, out, err);
	if (rc == 0 && out->len == 0)
		rc = hga_fail(err, HGA_USAGE, 0, "HostKeyAlgorithms",
		              "ssh: none of these host key algorithms is "
		              "supported: %.200s",
		              t->only ? t->only : "");
	return rc;
}

int hga_trust_fail_pin(const char *name, struct hga_err *err)
{
	return hga_fail(err, HGA_AUTH, 0, "HostKeyChanged",
	                "ssh %s: host key differs from the one given to the "
	                "machine; nothing was sent",
	                name);
}

/* Short name of a key's type for people: "ED25519". */
static const char *type_word(struct hga_str blob)
{
	struct hga_str type;
	size_t at = 0;

	if (!hga_wire_str(blob, &at, &type))
		return "unknown";
	if (hga_str_eqc(type, "ssh-ed25519"))
		return "ED25519";
	if (hga_str_eqc(type, "ssh-rsa"))
		return "RSA";
	return hga_str_starts(type, "ecdsa-") ? "ECDSA" : "unknown";
}

static int unknown(const struct hga_trust *t, const char *name,
                   const struct hga_kh_host *host, struct hga_str blob,
                   const char *fingerprint, struct hga_trust_found *f,
                   struct hga_err *err)
{
	int rc;

	if (!t->accept_new) {
		f->hint = f->line.ca_only
		              ? "only a certificate authority is known"
		              : "compare the fingerprint, then "
		                "accept_new=true";
		return hga_fail(err, HGA_AUTH, 0, "HostKeyUnknown",
		                "ssh %s: host key is not known (%s %s); "
		                "nothing was sent",
		                name, type_word(blob), fingerprint);
	}
	rc = hga_khosts_add(t->own, host, blob, err);
	if (rc < 0)
		return rc;
	f->added = true;
	hga_log(HGA_LOG_WARN, "ssh", "%s: new host key %s %s, kept in %s", name,
	        type_word(blob), fingerprint, t->own);
	return 0;
}

int hga_trust_check(const struct hga_trust *t, const char *name,
                    const struct hga_kh_host *host, struct hga_str blob,
                    const char *fingerprint, struct hga_trust_found *f,
                    struct hga_err *err)
{
	enum hga_kh_verdict verdict = HGA_KH_UNKNOWN;
	int rc;

	memset(f, 0, sizeof(*f));
	if (t->pins.n > 0) {
		f->pin = true;
		return hga_pins_match(&t->pins, blob)
		           ? 0
		           : hga_trust_fail_pin(name, err);
	}
	rc = hga_khosts_check(t->files, t->n_files, host, blob, &verdict,
	                      &f->line, err);
	if (rc < 0)
		return rc;
	switch (verdict) {
	case HGA_KH_TRUSTED:
		return 0;
	case HGA_KH_IS_REVOKED:
		return hga_fail(err, HGA_AUTH, 0, "HostKeyRevoked",
		                "ssh %s: host key is revoked (%.200s:%u); "
		                "nothing was sent",
		                name, f->line.path, f->line.line);
	case HGA_KH_CHANGED:
		return hga_fail(err, HGA_AUTH, 0, "HostKeyChanged",
		                "ssh %s: host key %s differs from the known "
		                "one %s (%.200s:%u); nothing was sent",
		                name, fingerprint, f->line.expected,
		                f->line.path, f->line.line);
	case HGA_KH_UNKNOWN:
		break;
	}
	return unknown(t, name, host, blob, fingerprint, f, err);
}
