/*
 * Helpers of every binding: object check, option tables, operations, errors,
 * secrets, strings.  Functions that may raise are marked LB_RAISES.
 * A module's luaopen_* function is declared in modules.h.
 */
#ifndef HGA_LB_H
#define HGA_LB_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "net/op.h"

#include <lua.h>
#include <lauxlib.h>

#include <stdbool.h>
#include <stdint.h>

#define LB_RAISES

/*
 * Raises *err as the common error table {kind, code, message, sys}.
 * Never returns; typed int for `return lb_raise(L, &err);`.
 */
int lb_raise(lua_State *L, const struct hga_err *err) LB_RAISES;

/* Pushes the error table without raising, so fields may be added; raise it
 * with lua_error. [-0, +1, m] */
void lb_pusherr(lua_State *L, const struct hga_err *err);

/* Pushes the table of methods that every error has. [-0, +1, memory] */
void lb_pusherrmethods(lua_State *L);
/* Gives the table at idx the metatable of errors. [-0, +0, m] */
void lb_seterrmeta(lua_State *L, int idx);

/* The value at idx is an error table / its kind (HGA_OK: none). */
bool lb_iserr(lua_State *L, int idx);
enum hga_kind lb_errkind(lua_State *L, int idx);

/* Appends the value at idx (and, of an error, what it suppresses) to the
 * field `suppressed` of the error at first; of a `cancelled` only what it
 * suppresses.  Without memory it is dropped. [-0, +0, -] */
void lb_adderr(lua_State *L, int first, int idx);

/* Formats and raises. */
int lb_fail(lua_State *L, enum hga_kind kind, const char *code, const char *fmt,
            ...) HGA_PRINTF(4, 5) LB_RAISES;

/* The same with "FILE:LINE: " of the calling script in front, for mistakes
 * that only their place explains; sets `where`. */
int lb_fail_at(lua_State *L, enum hga_kind kind, const char *code,
               const char *fmt, ...) HGA_PRINTF(4, 5) LB_RAISES;

/* Pushes "FILE:LINE" of the innermost frame with a line, of the scripts
 * rather than of the library.  False: there is none. [-0, +(0|1), m] */
bool lb_pushwhere(lua_State *L);

/* Raises usage "bad argument N (WHAT)". */
int lb_usage(lua_State *L, int arg, const char *fmt, ...)
    HGA_PRINTF(3, 4) LB_RAISES;

/*
 * Creates the metatable `tname` once: methods in __index, meta (may be NULL)
 * in the metatable itself, __name = tname, __metatable = false.  A `close`
 * method also becomes __close and __gc unless meta gives them. [-0, +0]
 */
void lb_newclass(lua_State *L, const char *tname, const luaL_Reg *methods,
                 const luaL_Reg *meta);

/* Zeroed userdata of that class with nuv user values. [-0, +1, m] */
void *lb_newobj(lua_State *L, size_t size, int nuv, const char *tname);

/* The object at idx, or raises usage with both type names (and the hint
 * "call it with a colon" when idx is 1 and a table or nil stands there). */
void *lb_check(lua_State *L, int idx, const char *tname) LB_RAISES;

/* The object at idx or NULL. */
void *lb_test(lua_State *L, int idx, const char *tname);

/* Makes the class of operations; once, before the first of them. */
void lb_openops(lua_State *L);
/*
 * Userdata of `size` zeroed bytes whose first member is a struct hga_op.
 * __gc cancels it when running, then calls release (may be NULL), once.
 * [-0, +1, m]
 */
void *lb_newop(lua_State *L, size_t size, void (*release)(struct hga_op *));

/* Cancels and calls release now instead of waiting for the collector
 * (idempotent).  The userdata must be on the stack of the current function,
 * as in a continuation; elsewhere op is only cancelled. */
void lb_endop(lua_State *L, struct hga_op *op);

/* ---- option tables ---- */

enum lb_opttype {
	LB_BOOL,  /* bool */
	LB_INT,   /* int64_t */
	LB_NUM,   /* double */
	LB_MS,    /* int64_t milliseconds from seconds (number) or "10m" */
	LB_STR,   /* struct hga_str, borrowed from the table's string */
	LB_CSTR,  /* const char *, borrowed; embedded NUL is usage */
	LB_FUNC,  /* int: 1 if given (a function); value: lua_getfield */
	LB_TABLE, /* int: 1 if given (a table) */
	LB_ANY    /* int: 1 if given and not nil */
};

struct lb_opt {
	const char *name;
	enum lb_opttype type;
	size_t off; /* offset in the caller's zero- or default-filled struct */
};

/*
 * Reads the table at idx (nil or none: nothing) into *out by defs (ended by
 * name NULL).  An unknown key raises usage with the nearest name; a wrong
 * type raises usage naming option and types.  what: "ssh.exec".  Absent
 * options leave *out as it is.  The table must stay on the stack while
 * borrowed strings are used.
 */
void lb_opts(lua_State *L, int idx, const char *what, const struct lb_opt *defs,
             void *out) LB_RAISES;

/* Table field as string list -> array of NUL-terminated strings borrowed from
 * the table, in a userdata pushed on the stack. [-0, +1, raises] */
const char **lb_strlist(lua_State *L, int idx, const char *what, size_t *n);

/* Milliseconds from seconds (number >= 0) or a duration text. */
int64_t lb_checkms(lua_State *L, int idx) LB_RAISES;

/*
 * Pushes the content of a buffer as a string and releases the buffer, also
 * when memory runs out. [-0, +1, m]
 */
void lb_pushbuf(lua_State *L, struct hga_buf *b);
/* The same of what follows the first `skip` bytes: a buffer that begins with
 * host.h's text_head bytes of no meaning is not even moved. */
void lb_pushbuf_after(lua_State *L, struct hga_buf *b, size_t skip);
/* The same without raising: false, nothing pushed. */
bool lb_trypushbuf(lua_State *L, struct hga_buf *b) HGA_MUST_USE;
/* The same for secrets: the buffer is wiped. */
void lb_pushbuf_secret(lua_State *L, struct hga_buf *b);

/* ---- secrets ---- */

/* Pushes a secret object (tostring gives ***, :reveal() the text, :len());
 * copied, registered for redaction, wiped by the collector. [-0, +1, raises] */
void lb_pushsecret(lua_State *L, struct hga_str text) LB_RAISES;
/* Text of a secret object or of a plain string at idx; false if neither. */
bool lb_tosecret(lua_State *L, int idx, struct hga_str *out);

/* ---- SSH keys (lcrypto.c) ---- */

struct hga_key;

/* Class of key handles; lb_check gives a struct hga_key **, NULL: closed. */
#define LB_KEY_CLASS "hgauto.key"
/* A new handle holding NULL; what is put there is freed with it. */
struct hga_key **lb_newkey(lua_State *L);

static inline struct hga_str lb_checkstr(lua_State *L, int idx)
{
	struct hga_str r;
	r.s = luaL_checklstring(L, idx, &r.n);
	return r;
}

static inline void lb_pushstr(lua_State *L, struct hga_str s)
{
	lua_pushlstring(L, s.s ? s.s : "", s.n);
}

#endif
