/*
 * Identity of a server: pins and the choice of host key algorithms.
 *
 * A pin is a whole public key or its SHA-256 fingerprint.  Keys are compared
 * in constant time.  There is no way to accept a key that is no pin.
 */
#ifndef HGA_SSH_HOSTKEY_H
#define HGA_SSH_HOSTKEY_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>

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

#endif
