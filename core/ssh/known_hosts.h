/*
 * known_hosts files: parser and matcher of our own, with OpenSSH's verdicts.
 *
 * Knows hashed names, [host]:port, wildcards, negation, @revoked and
 * @cert-authority (libssh2 cannot check host certificates: such a line trusts
 * nothing), CRLF; lines that cannot be read are skipped and counted.  Files
 * are shared by all who have them open and read again only when they changed.
 * Only hga_khosts_add and hga_khosts_remove write, and only where their caller
 * says; a user's own files are never changed.  Limits: file 16 MiB, line
 * 64 KiB.
 */
#ifndef HGA_SSH_KNOWN_HOSTS_H
#define HGA_SSH_KNOWN_HOSTS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>

#define HGA_KHOSTS_FILE (16 * 1024 * 1024)
#define HGA_KHOSTS_LINE (64 * 1024)

enum hga_kh_marker {
	HGA_KH_PLAIN,
	HGA_KH_REVOKED,
	HGA_KH_CA
};

struct hga_kh_line {
	enum hga_kh_marker marker;
	struct hga_str names; /* as written: list, or one hashed name */
	struct hga_str type, blob;
	unsigned line; /* from 1 */
};

struct hga_khosts; /* opaque, counted */

/* Parses a text; where names it in messages. */
int hga_khosts_parse(struct hga_str text, const char *where,
                     struct hga_khosts **out, struct hga_err *err) HGA_MUST_USE;
/* Reads a file; one that is missing is empty, one that cannot be read too
 * (said in the log).  Larger than the limit: -HGA_PROTOCOL TooLarge. */
int hga_khosts_open(const char *path, struct hga_khosts **out,
                    struct hga_err *err) HGA_MUST_USE;
void hga_khosts_free(struct hga_khosts *k);

const char *hga_khosts_path(const struct hga_khosts *k);
size_t hga_khosts_count(const struct hga_khosts *k);
const struct hga_kh_line *hga_khosts_line(const struct hga_khosts *k, size_t i);
/* Lines that were no comment and could not be read. */
unsigned hga_khosts_bad(const struct hga_khosts *k);

/* The name a host is filed under: "host" or "[host]:port", lower case. */
int hga_kh_name(struct hga_buf *out, const char *host, int port,
                struct hga_err *err) HGA_MUST_USE;
/* A line's names stand for this name. */
bool hga_kh_match(struct hga_str names, struct hga_str name);

/* What a server is looked up as. */
struct hga_kh_host {
	const char *host;
	int port;
	const char *alias; /* HostKeyAlias, or NULL: replaces name and port */
};

enum hga_kh_verdict {
	HGA_KH_UNKNOWN,
	HGA_KH_TRUSTED,
	HGA_KH_CHANGED,
	HGA_KH_IS_REVOKED
};

struct hga_kh_found {
	const char *path; /* of the line that decided; NULL: none */
	unsigned line;
	char expected[64]; /* its fingerprint */
	bool ca_only;      /* a certificate authority is all that is known */
};

/*
 * Compares a server's key (raw blob) with what the files know, first file
 * first.  As in OpenSSH a line for the plain name also trusts the same key on
 * another port or revokes it, but says nothing about other keys.
 */
int hga_khosts_check(struct hga_khosts *const *files, size_t n,
                     const struct hga_kh_host *host, struct hga_str blob,
                     enum hga_kh_verdict *out, struct hga_kh_found *found,
                     struct hga_err *err) HGA_MUST_USE;
/* Some line of that type is for the host. */
int hga_khosts_has_type(struct hga_khosts *const *files, size_t n,
                        const struct hga_kh_host *host, const char *type,
                        bool *out, struct hga_err *err) HGA_MUST_USE;

/* Adds a line to a file of ours (0600, locked, whole or not at all). */
int hga_khosts_add(const char *path, const struct hga_kh_host *host,
                   struct hga_str blob, struct hga_err *err) HGA_MUST_USE;
/* Takes all lines for a host out of a file of ours; how many in *n. */
int hga_khosts_remove(const char *path, const struct hga_kh_host *host,
                      unsigned *n, struct hga_err *err) HGA_MUST_USE;

#endif
