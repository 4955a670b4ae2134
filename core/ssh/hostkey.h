/*
 * Identity of a server: pins, else known_hosts files, and the choice of host
 * key algorithms.
 *
 * A pin is a whole public key or its SHA-256 fingerprint.  Keys are compared
 * in constant time.  With pins nothing else is looked at.  A key that is
 * neither pinned nor known is refused, unless accept_new allows to write an
 * unknown one (never a changed or revoked one) into a file of ours.
 */
#ifndef HGA_SSH_HOSTKEY_H
#define HGA_SSH_HOSTKEY_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "ssh/known_hosts.h"

#include <stdbool.h>

struct hga_ssh_args;

struct hga_pin {
	struct hga_buf blob; /* raw public key; empty for a fingerprint */
	char fingerprint[64];
	char type[32]; /* "" for a fingerprint: any type */
};

struct hga_pins {
	struct hga_pin *v;
	size_t n;
};

/* Reads pin texts: "TYPE BASE64 [comment]" or "SHA256:...".  -HGA_USAGE for
 * anything else; at most 64. */
int hga_pins_parse(struct hga_pins *out, const struct hga_str *texts, size_t n,
                   struct hga_err *err) HGA_MUST_USE;
void hga_pins_release(struct hga_pins *pins);

/* True when the server's key (raw blob) is one of the pins. */
bool hga_pins_match(const struct hga_pins *pins, struct hga_str blob);

/* Appends our host key algorithms, comma separated: only those of the pinned
 * types, unless some pin is a fingerprint. */
int hga_pins_algorithms(const struct hga_pins *pins, struct hga_buf *out,
                        struct hga_err *err) HGA_MUST_USE;

/* Fingerprints of all pins, for messages (cut when long). */
void hga_pins_text(const struct hga_pins *pins, char *out, size_t size);

/* All that says whom to trust. */
struct hga_trust {
	struct hga_pins pins;
	struct hga_khosts **files; /* ours is the last one */
	size_t n_files;
	char *own, *alias;
	bool accept_new;
	char *only; /* narrows the algorithms, or NULL */
};

/* Parses pins, opens files.  -HGA_BUG NoHostKey without any source. */
int hga_trust_init(struct hga_trust *t, const struct hga_ssh_args *args,
                   struct hga_err *err) HGA_MUST_USE;
void hga_trust_release(struct hga_trust *t);

/* As hga_pins_algorithms; without pins all of ours, known types first. */
int hga_trust_algorithms(const struct hga_trust *t, const char *host, int port,
                         struct hga_buf *out, struct hga_err *err) HGA_MUST_USE;

/* What was found out about a server's key. */
struct hga_trust_found {
	struct hga_kh_found line; /* that decided; path NULL: none */
	bool pin, added;
	const char *hint; /* static, or NULL */
};

/*
 * 0: trusted.  -HGA_AUTH HostKeyChanged, HostKeyRevoked, HostKeyUnknown; the
 * text names the session by name.  fingerprint is the key's.
 */
int hga_trust_check(const struct hga_trust *t, const char *name,
                    const struct hga_kh_host *host, struct hga_str blob,
                    const char *fingerprint, struct hga_trust_found *found,
                    struct hga_err *err) HGA_MUST_USE;

/* -HGA_AUTH HostKeyChanged for a server without a key of a pinned type. */
int hga_trust_fail_pin(const char *name, struct hga_err *err);

#endif
