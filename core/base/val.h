/*
 * Values: the neutral form between protocol code and bindings.
 *
 * A result is a tape: a preorder array of 16-byte nodes in chunks of 64 KiB
 * plus text in chunks of 64 KiB, both owned by one struct hga_vtape.  It is
 * written once, in order, while bytes arrive, then read any number of times
 * through cursors (struct hga_val, passed by value) or drained once.
 *
 * Names: a container entry's name is either a string id (a static table of
 * the model image or of HGA_KEY statics; compared as an integer) or text of
 * the tape (keys chosen by a peer).  Map entries are a key node followed by
 * the value node; count counts pairs.
 *
 * Limits: depth 128, 2^32 - 1 nodes, text 2^32 - 1 bytes per string.
 */
#ifndef HGA_BASE_VAL_H
#define HGA_BASE_VAL_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum hga_vtype {
	HGA_V_NONE = 0, /* no such value (result of a failed look-up) */
	HGA_V_NULL,
	HGA_V_BOOL,
	HGA_V_INT,
	HGA_V_NUM,
	HGA_V_STR,
	HGA_V_SSTR, /* string of at most 8 bytes held in the node */
	HGA_V_BLOB,
	HGA_V_LIST,
	HGA_V_MAP,    /* string keys, chosen by the data */
	HGA_V_STRUCT, /* members with names known from a model */
	HGA_V_EMPTY   /* Lua's {}: fits list, map and structure */
};

#define HGA_NO_NAME 0xffffffffu
#define HGA_NO_SHAPE 0xffffu

struct hga_node {
	uint8_t type;
	uint8_t len;    /* SSTR: bytes used in u.t */
	uint16_t shape; /* containers: shape number, HGA_NO_SHAPE = none */
	uint32_t name;  /* member name (string id) or HGA_NO_NAME */
	union {
		struct {
			uint32_t count, skip; /* children; nodes in subtree */
		} c;
		struct {
			uint32_t len, ref;
		} s;
		int64_t i;
		double d;
		char t[8];
	} u;
};
_Static_assert(sizeof(struct hga_node) == 16, "nodes are 16 bytes");

struct hga_vtape; /* opaque */

/*
 * Resolves string ids to text.  names may be NULL for tapes without ids.
 * The table must outlive the tape.
 */
struct hga_vnames {
	struct hga_str (*text)(const struct hga_vnames *, uint32_t id);
	uint32_t (*find)(const struct hga_vnames *, struct hga_str text);
	/* Name of a shape for messages; may be NULL. */
	struct hga_str (*shape)(const struct hga_vnames *, uint16_t shape);
};

/* Empty tape whose nodes and text together may take at most max bytes. */
struct hga_vtape *hga_vtape_new(const struct hga_vnames *names,
                                size_t max) HGA_MUST_USE;
void hga_vtape_free(struct hga_vtape *t);
/* As free, wiping all text (secrets). */
void hga_vtape_free_secret(struct hga_vtape *t);
const struct hga_vnames *hga_vtape_names(const struct hga_vtape *t);
/* Bytes held now. */
size_t hga_vtape_bytes(const struct hga_vtape *t);

/*
 * Builders, called in document order.  The first failure sticks: later calls
 * do nothing and return the same code, so a writer may check once at the end
 * with hga_vt_end.  name is a string id or HGA_NO_NAME; inside a MAP call
 * hga_vt_key before each value.  Texts are copied.
 */
int hga_vt_open(struct hga_vtape *t, enum hga_vtype type, uint32_t name,
                uint16_t shape);
int hga_vt_close(struct hga_vtape *t);
int hga_vt_key(struct hga_vtape *t, struct hga_str key);
int hga_vt_null(struct hga_vtape *t, uint32_t name);
int hga_vt_bool(struct hga_vtape *t, uint32_t name, bool v);
int hga_vt_int(struct hga_vtape *t, uint32_t name, int64_t v);
int hga_vt_num(struct hga_vtape *t, uint32_t name, double v);
int hga_vt_str(struct hga_vtape *t, uint32_t name, struct hga_str v);
int hga_vt_blob(struct hga_vtape *t, uint32_t name, struct hga_str v);
int hga_vt_empty(struct hga_vtape *t, uint32_t name);
/* As hga_vt_str but the bytes stay the caller's until the tape is freed. */
int hga_vt_str_borrow(struct hga_vtape *t, uint32_t name, struct hga_str v);
/* 0 when exactly one whole value was built, else fills err. */
int hga_vt_end(struct hga_vtape *t, struct hga_err *err) HGA_MUST_USE;
/* Open containers now. */
unsigned hga_vt_depth(const struct hga_vtape *t);

/* A position in a tape.  type HGA_V_NONE: nothing there. */
struct hga_val {
	const struct hga_vtape *t;
	uint32_t at;
};

/* The whole value; NONE for an unfinished tape. */
struct hga_val hga_vtape_root(const struct hga_vtape *t);
/* SSTR is reported as STR. */
enum hga_vtype hga_val_type(struct hga_val v);
bool hga_val_is(struct hga_val v, enum hga_vtype type);
/* Member of a structure or map by text; NONE when absent. */
struct hga_val hga_val_get(struct hga_val v, const char *name);
struct hga_val hga_val_getn(struct hga_val v, struct hga_str name);
/* Element i (0-based) of a list; NONE when out of range. */
struct hga_val hga_val_at(struct hga_val v, uint32_t i);
/* Children of a container (pairs of a map). */
uint32_t hga_val_count(struct hga_val v);
uint16_t hga_val_shape(struct hga_val v);

/* Iteration: for (it = hga_val_first(v); hga_val_more(it); it = ..._next(it))
 */
struct hga_vit {
	const struct hga_vtape *t;
	uint32_t at, left;
	bool map;
};
struct hga_vit hga_val_first(struct hga_val v);
bool hga_val_more(struct hga_vit it);
struct hga_vit hga_val_next(struct hga_vit it);
/* Current child. */
struct hga_val hga_vit_val(struct hga_vit it);
/* Its name or key; empty in lists.  Valid as long as the tape (and it). */
struct hga_str hga_vit_name(const struct hga_vit *it);

/* String or blob text; for SSTR the view points into the tape. */
struct hga_str hga_val_str(struct hga_val v);
/* INT, or NUM with an exact integer; else def. */
int64_t hga_val_int(struct hga_val v, int64_t def);
double hga_val_num(struct hga_val v, double def);
bool hga_val_bool(struct hga_val v, bool def);

/* Deep copy of v as the next value of t (names become text keys). */
int hga_vt_copy(struct hga_vtape *t, uint32_t name, struct hga_val v);
/* Deep equality; 1 == 1.0; EMPTY equals any empty container; order of
 * members does not matter. */
bool hga_val_equal(struct hga_val a, struct hga_val b);

/*
 * Draining reader (bindings only): gives nodes in order and frees each chunk
 * once passed; the tape is unusable for cursors afterwards.
 */
struct hga_vdrain {
	struct hga_vtape *t;
	uint32_t at;
};
void hga_vdrain_init(struct hga_vdrain *d, struct hga_vtape *t);
/* Next node or NULL at the end; *text is set for strings and text keys and
 * stays valid until the next call. */
const struct hga_node *hga_vdrain_next(struct hga_vdrain *d,
                                       struct hga_str *text);

#endif
