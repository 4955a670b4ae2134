/*
 * Private keys kept in the state directory (keys/NAME, mode 0600; NAME.pub
 * beside it).
 *
 * A key is on disk, synced, before it is given out, so that nothing created
 * with it outlives it.
 */
#ifndef HGA_STATE_VAULT_H
#define HGA_STATE_VAULT_H

#include "base/buf.h"
#include "base/crypto.h"
#include "base/err.h"

#include <stdbool.h>

struct hga_state;

/* Loads keys/NAME, or makes an ed25519 key with that comment (*made tells,
 * may be NULL).  The caller frees the key.  NAME is one safe component. */
int hga_vault_key_ensure(const struct hga_state *st, const char *name,
                         const char *comment, struct hga_key **out, bool *made,
                         struct hga_err *err) HGA_MUST_USE;
/* Loads only; missing is -HGA_NOTFOUND. */
int hga_vault_key_get(const struct hga_state *st, const char *name,
                      struct hga_key **out, struct hga_err *err) HGA_MUST_USE;
/* Stores a key that exists already; a taken name is -HGA_EXISTS. */
int hga_vault_key_put(const struct hga_state *st, const char *name,
                      const struct hga_key *key,
                      struct hga_err *err) HGA_MUST_USE;
/* Removes both files; missing is fine. */
int hga_vault_key_remove(const struct hga_state *st, const char *name,
                         struct hga_err *err) HGA_MUST_USE;
/* Appends the path of the private file (which need not exist). */
int hga_vault_path(const struct hga_state *st, const char *name,
                   struct hga_buf *out, struct hga_err *err) HGA_MUST_USE;

#endif
