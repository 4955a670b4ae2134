/*
 * Value tapes (architecture.md section 6).  Node i lies in chunk i / 4096;
 * a text reference is chunk number << 16 | offset, texts that do not fit get
 * a chunk of their own, and chunks are filled strictly in order so that the
 * draining reader can free them on its way.
 */
#include "base/val.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

#define NODES 4096u /* nodes of a full chunk */
#define TEXT_CHUNK 65536u
#define TEXT_FIRST 1024u
#define TEXT_BIG 16384u /* longer texts get their own chunk */
#define MAX_CHUNKS 65536u
#define MAX_DEPTH 128
#define BORROWED 1 /* node.len of STR: u.s.ref indexes borrowed[] */

struct text_chunk {
	char *p;
	uint32_t len, cap;
};

struct hga_vtape {
	const struct hga_vnames *names;
	size_t max, used, held;
	struct hga_node **nodes;
	uint32_t n, cap; /* nodes; room in all chunks */
	uint32_t n_node_chunks, cap_node_chunks;
	struct text_chunk *text;
	uint32_t n_text, cap_text;
	const char **borrowed;
	uint32_t n_borrowed, cap_borrowed;
	uint32_t open[MAX_DEPTH];
	unsigned depth;
	bool keyed; /* a key stands, its value is due */
	uint32_t drained_text;
	int r; /* the first failure */
	struct hga_err err;
};

struct hga_vtape *hga_vtape_new(const struct hga_vnames *names, size_t max)
{
	struct hga_vtape *t = hga_calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->names = names;
	t->max = max;
	return t;
}

static void tape_free(struct hga_vtape *t, bool wipe)
{
	if (t == NULL)
		return;
	for (uint32_t i = 0; i < t->n_text; i++) {
		if (wipe && t->text[i].p != NULL)
			hga_wipe(t->text[i].p, t->text[i].cap);
		hga_free(t->text[i].p);
	}
	for (uint32_t i = 0; i < t->n_node_chunks; i++) {
		uint32_t room = t->n_node_chunks == 1 ? t->cap : NODES;

		if (wipe && t->nodes[i] != NULL) /* short texts live here */
			hga_wipe(t->nodes[i], room * sizeof(struct hga_node));
		hga_free(t->nodes[i]);
	}
	hga_free(t->text);
	hga_free(t->nodes);
	hga_free(t->borrowed);
	hga_free(t);
}

void hga_vtape_free(struct hga_vtape *t)
{
	tape_free(t, false);
}

void hga_vtape_free_secret(struct hga_vtape *t)
{
	tape_free(t, true);
}

const struct hga_vnames *hga_vtape_names(const struct hga_vtape *t)
{
	return t->names;
}

size_t hga_vtape_bytes(const struct hga_vtape *t)
{
	return t->held;
}

unsigned hga_vt_depth(const struct hga_vtape *t)
{
	return t->depth;
}

static struct hga_node *node_at(const struct hga_vtape *t, uint32_t i)
{
	return &t->nodes[i / NODES][i % NODES];
}

/* ---- writing ---- */

static int stick(struct hga_vtape *t, int r)
{
	if (t->r == 0)
		t->r = r;
	return t->r;
}

static int stick_bug(struct hga_vtape *t, const char *what)
{
	return stick(t, hga_fail(&t->err, HGA_BUG, 0, "Tape", "%s", what));
}

/* Doubles an array of items of that size; the count must fit 32 bits. */
static void *grow(void *p, uint32_t *cap, size_t size)
{
	uint32_t want = *cap ? *cap * 2 : 8;
	size_t bytes;
	void *q;

	if (want < *cap || !hga_size_mul(want, size, &bytes))
		return NULL;
	q = hga_realloc(p, bytes);
	if (q != NULL)
		*cap = want;
	return q;
}

static bool new_node_chunk(struct hga_vtape *t, uint32_t room)
{
	struct hga_node *c;

	if (t->n_node_chunks == t->cap_node_chunks) {
		/* an array of pointers; NOLINTNEXTLINE(*-sizeof-expression) */
		void *p = grow(t->nodes, &t->cap_node_chunks, sizeof(c));

		if (p == NULL)
			return false;
		t->nodes = p;
	}
	c = hga_alloc(room * sizeof(*c));
	if (c == NULL)
		return false;
	t->nodes[t->n_node_chunks++] = c;
	t->cap += room;
	t->held += room * sizeof(*c);
	return true;
}

/* The first chunk starts small: most values are. */
static bool room_for_node(struct hga_vtape *t)
{
	uint32_t room;
	void *p;

	if (t->n < t->cap)
		return true;
	if (t->cap == 0)
		return new_node_chunk(t, 32);
	if (t->cap >= NODES)
		return t->cap <= UINT32_MAX - NODES && new_node_chunk(t, NODES);
	room = t->cap * 4 < NODES ? t->cap * 4 : NODES;
	p = hga_realloc(t->nodes[0], room * sizeof(struct hga_node));
	if (p == NULL)
		return false;
	t->held += (room - t->cap) * sizeof(struct hga_node);
	t->nodes[0] = p;
	t->cap = room;
	return true;
}

/* Accounts for n more bytes of content. */
static int use(struct hga_vtape *t, size_t n)
{
	size_t sum;

	if (!hga_size_add(t->used, n, &sum) || sum > t->max)
		return stick(t,
		             hga_fail(&t->err, HGA_PROTOCOL, 0, "TooLarge",
		                      "value larger than %zu bytes", t->max));
	t->used = sum;
	return 0;
}

/* Appends a node without looking at the container around it. */
static int put(struct hga_vtape *t, const struct hga_node *n)
{
	if (use(t, sizeof(*n)) < 0)
		return t->r;
	if (!room_for_node(t))
		return stick(t, hga_fail_mem(&t->err));
	*node_at(t, t->n) = *n;
	t->n++;
	return 0;
}

/* A value may stand here?  Counts it in its container. */
static int enter(struct hga_vtape *t)
{
	struct hga_node *c;

	if (t->r != 0)
		return t->r;
	if (t->depth == 0)
		return t->n == 0 ? 0 : stick_bug(t, "second root value");
	c = node_at(t, t->open[t->depth - 1]);
	if (c->type == HGA_V_MAP && !t->keyed)
		return stick_bug(t, "map value without key");
	t->keyed = false;
	c->u.c.count++;
	return 0;
}

static int put_value(struct hga_vtape *t, const struct hga_node *n)
{
	return enter(t) < 0 ? t->r : put(t, n);
}

static struct hga_node blank_node(enum hga_vtype type, uint32_t name)
{
	struct hga_node n;

	memset(&n, 0, sizeof(n));
	n.type = (uint8_t)type;
	n.shape = HGA_NO_SHAPE;
	n.name = name;
	return n;
}

int hga_vt_open(struct hga_vtape *t, enum hga_vtype type, uint32_t name,
                uint16_t shape)
{
	struct hga_node n = blank_node(type, name);

	n.shape = shape;
	if (t->r == 0 && type != HGA_V_LIST && type != HGA_V_MAP &&
	    type != HGA_V_STRUCT)
		return stick_bug(t, "not a container");
	if (t->r == 0 && t->depth == MAX_DEPTH)
		return stick(t, hga_fail(&t->err, HGA_PROTOCOL, 0, "TooDeep",
		                         "values nested deeper than %d",
		                         MAX_DEPTH));
	if (put_value(t, &n) < 0)
		return t->r;
	t->open[t->depth++] = t->n - 1;
	return 0;
}

int hga_vt_close(struct hga_vtape *t)
{
	uint32_t at;

	if (t->r != 0)
		return t->r;
	if (t->depth == 0 || t->keyed)
		return stick_bug(t, "close without open container");
	at = t->open[--t->depth];
	node_at(t, at)->u.c.skip = t->n - at;
	return 0;
}

static bool new_text_chunk(struct hga_vtape *t, uint32_t cap)
{
	char *p;

	if (t->n_text == MAX_CHUNKS)
		return false;
	if (t->n_text == t->cap_text) {
		void *q = grow(t->text, &t->cap_text, sizeof(*t->text));

		if (q == NULL)
			return false;
		t->text = q;
	}
	p = hga_alloc(cap);
	if (p == NULL)
		return false;
	t->text[t->n_text++] = (struct text_chunk){p, 0, cap};
	t->held += cap;
	return true;
}

/* Copies text; 0 and *ref, or the sticky failure. */
static int put_text(struct hga_vtape *t, struct hga_str s, uint32_t *ref)
{
	struct text_chunk *c = t->n_text ? &t->text[t->n_text - 1] : NULL;

	if (s.n >= UINT32_MAX || use(t, s.n) < 0)
		return t->r ? t->r
		            : stick(t, hga_fail(&t->err, HGA_PROTOCOL, 0,
		                                "TooLarge", "text too long"));
	if (c == NULL || c->cap - c->len < s.n) {
		uint32_t cap = c == NULL ? TEXT_FIRST : c->cap * 2;

		if (cap > TEXT_CHUNK || cap < TEXT_FIRST)
			cap = TEXT_CHUNK;
		if (s.n > TEXT_BIG)
			cap = (uint32_t)s.n; /* checked above */
		else if (cap < s.n)
			cap = TEXT_CHUNK;
		if (!new_text_chunk(t, cap))
			return stick(t, hga_fail_mem(&t->err));
		c = &t->text[t->n_text - 1];
	}
	*ref = (t->n_text - 1) << 16 | c->len;
	if (s.n != 0)
		memcpy(c->p + c->len, s.s, s.n);
	c->len += (uint32_t)s.n;
	return 0;
}

/* Fills a string node: inline when short. */
static int text_node(struct hga_vtape *t, struct hga_node *n, struct hga_str s)
{
	if (n->type == HGA_V_STR && s.n <= sizeof(n->u.t)) {
		n->type = HGA_V_SSTR;
		n->len = (uint8_t)s.n;
		if (s.n != 0)
			memcpy(n->u.t, s.s, s.n);
		return 0;
	}
	n->u.s.len = (uint32_t)s.n; /* put_text refuses longer ones */
	return put_text(t, s, &n->u.s.ref);
}

int hga_vt_key(struct hga_vtape *t, struct hga_str key)
{
	struct hga_node n = blank_node(HGA_V_STR, HGA_NO_NAME);

	if (t->r != 0)
		return t->r;
	if (t->depth == 0 || t->keyed ||
	    node_at(t, t->open[t->depth - 1])->type != HGA_V_MAP)
		return stick_bug(t, "key outside a map");
	if (text_node(t, &n, key) < 0 || put(t, &n) < 0)
		return t->r;
	t->keyed = true;
	return 0;
}

int hga_vt_null(struct hga_vtape *t, uint32_t name)
{
	struct hga_node n = blank_node(HGA_V_NULL, name);

	return put_value(t, &n);
}

int hga_vt_bool(struct hga_vtape *t, uint32_t name, bool v)
{
	struct hga_node n = blank_node(HGA_V_BOOL, name);

	n.u.i = v;
	return put_value(t, &n);
}

int hga_vt_int(struct hga_vtape *t, uint32_t name, int64_t v)
{
	struct hga_node n = blank_node(HGA_V_INT, name);

	n.u.i = v;
	return put_value(t, &n);
}

int hga_vt_num(struct hga_vtape *t, uint32_t name, double v)
{
	struct hga_node n = blank_node(HGA_V_NUM, name);

	n.u.d = v;
	return put_value(t, &n);
}

static int put_str(struct hga_vtape *t, enum hga_vtype type, uint32_t name,
                   struct hga_str v)
{
	struct hga_node n = blank_node(type, name);

	if (enter(t) < 0 || text_node(t, &n, v) < 0)
		return t->r;
	return put(t, &n);
}

int hga_vt_str(struct hga_vtape *t, uint32_t name, struct hga_str v)
{
	return put_str(t, HGA_V_STR, name, v);
}

int hga_vt_blob(struct hga_vtape *t, uint32_t name, struct hga_str v)
{
	return put_str(t, HGA_V_BLOB, name, v);
}

int hga_vt_empty(struct hga_vtape *t, uint32_t name)
{
	struct hga_node n = blank_node(HGA_V_EMPTY, name);

	return put_value(t, &n);
}

int hga_vt_str_borrow(struct hga_vtape *t, uint32_t name, struct hga_str v)
{
	struct hga_node n = blank_node(HGA_V_STR, name);

	if (v.n <= sizeof(n.u.t) || v.n >= UINT32_MAX)
		return hga_vt_str(t, name, v);
	if (t->r != 0)
		return t->r;
	if (t->n_borrowed == t->cap_borrowed) {
		void *p =
		    grow(t->borrowed, &t->cap_borrowed, sizeof(*t->borrowed));
		if (p == NULL)
			return stick(t, hga_fail_mem(&t->err));
		t->borrowed = p;
	}
	n.len = BORROWED;
	n.u.s.len = (uint32_t)v.n;
	n.u.s.ref = t->n_borrowed;
	if (put_value(t, &n) < 0)
		return t->r;
	t->borrowed[t->n_borrowed++] = v.s;
	return 0;
}

int hga_vt_end(struct hga_vtape *t, struct hga_err *err)
{
	if (t->r == 0 && (t->depth != 0 || t->n == 0))
		(void)stick_bug(t, "unfinished value"); /* told below */
	if (t->r != 0 && err != NULL)
		*err = t->err;
	return t->r;
}

/* ---- reading ---- */

static const struct hga_node *node_of(struct hga_val v)
{
	if (v.t == NULL || v.at >= v.t->n)
		return NULL;
	return node_at(v.t, v.at);
}

static struct hga_val no_val(void)
{
	return (struct hga_val){NULL, 0};
}

static bool is_container(const struct hga_node *n)
{
	return n->type == HGA_V_LIST || n->type == HGA_V_MAP ||
	       n->type == HGA_V_STRUCT;
}

/* Nodes of the subtree that begins with n. */
static uint32_t span(const struct hga_node *n)
{
	return is_container(n) ? n->u.c.skip : 1;
}

static struct hga_str node_text(const struct hga_vtape *t,
                                const struct hga_node *n)
{
	const struct text_chunk *c;

	if (n->type == HGA_V_SSTR)
		return hga_strn(n->u.t, n->len);
	if (n->type != HGA_V_STR && n->type != HGA_V_BLOB)
		return hga_strn("", 0);
	if (n->len == BORROWED)
		return hga_strn(t->borrowed[n->u.s.ref], n->u.s.len);
	c = &t->text[n->u.s.ref >> 16];
	return hga_strn(c->p + (n->u.s.ref & 0xffff), n->u.s.len);
}

struct hga_val hga_vtape_root(const struct hga_vtape *t)
{
	if (t == NULL || t->r != 0 || t->depth != 0 || t->n == 0)
		return no_val();
	return (struct hga_val){t, 0};
}

enum hga_vtype hga_val_type(struct hga_val v)
{
	const struct hga_node *n = node_of(v);

	if (n == NULL)
		return HGA_V_NONE;
	return n->type == HGA_V_SSTR ? HGA_V_STR : (enum hga_vtype)n->type;
}

bool hga_val_is(struct hga_val v, enum hga_vtype type)
{
	return hga_val_type(v) == type;
}

uint32_t hga_val_count(struct hga_val v)
{
	const struct hga_node *n = node_of(v);

	return n != NULL && is_container(n) ? n->u.c.count : 0;
}

uint16_t hga_val_shape(struct hga_val v)
{
	const struct hga_node *n = node_of(v);

	return n != NULL && is_container(n) ? n->shape : HGA_NO_SHAPE;
}

struct hga_vit hga_val_first(struct hga_val v)
{
	struct hga_vit it = {v.t, v.at + 1, hga_val_count(v),
	                     hga_val_is(v, HGA_V_MAP)};

	return it;
}

bool hga_val_more(struct hga_vit it)
{
	return it.left > 0;
}

struct hga_vit hga_val_next(struct hga_vit it)
{
	struct hga_val v = hga_vit_val(it);

	it.at = v.at + span(node_at(it.t, v.at));
	it.left--;
	return it;
}

struct hga_val hga_vit_val(struct hga_vit it)
{
	return (struct hga_val){it.t, it.at + it.map};
}

struct hga_str hga_vit_name(const struct hga_vit *it)
{
	const struct hga_node *n = node_at(it->t, it->at);

	if (it->map)
		return node_text(it->t, n);
	if (n->name == HGA_NO_NAME || it->t->names == NULL)
		return hga_strn("", 0);
	return it->t->names->text(it->t->names, n->name);
}

struct hga_val hga_val_getn(struct hga_val v, struct hga_str name)
{
	const struct hga_vnames *names;
	struct hga_val found = no_val();
	uint32_t id;

	if (hga_val_is(v, HGA_V_MAP)) {
		for (struct hga_vit it = hga_val_first(v); hga_val_more(it);
		     it = hga_val_next(it))
			if (hga_str_eq(hga_vit_name(&it), name))
				found = hga_vit_val(it);
		return found;
	}
	if (!hga_val_is(v, HGA_V_STRUCT) || v.t->names == NULL)
		return found;
	names = v.t->names;
	id = names->find(names, name);
	if (id == HGA_NO_NAME)
		return found;
	for (struct hga_vit it = hga_val_first(v); hga_val_more(it);
	     it = hga_val_next(it))
		if (node_at(v.t, it.at)->name == id)
			return hga_vit_val(it);
	return found;
}

struct hga_val hga_val_get(struct hga_val v, const char *name)
{
	return hga_val_getn(v, hga_str(name));
}

struct hga_val hga_val_at(struct hga_val v, uint32_t i)
{
	struct hga_vit it;

	if (!hga_val_is(v, HGA_V_LIST) || i >= hga_val_count(v))
		return no_val();
	for (it = hga_val_first(v); i > 0; i--)
		it = hga_val_next(it);
	return hga_vit_val(it);
}

struct hga_str hga_val_str(struct hga_val v)
{
	const struct hga_node *n = node_of(v);

	return n == NULL ? hga_strn("", 0) : node_text(v.t, n);
}

/* The exact integer a double holds. */
static bool exact_int(double d, int64_t *out)
{
	if (!(d >= -9223372036854775808.0 && d < 9223372036854775808.0) ||
	    floor(d) != d)
		return false;
	*out = (int64_t)d;
	return true;
}

int64_t hga_val_int(struct hga_val v, int64_t def)
{
	const struct hga_node *n = node_of(v);
	int64_t i;

	if (n != NULL && n->type == HGA_V_INT)
		return n->u.i;
	if (n != NULL && n->type == HGA_V_NUM && exact_int(n->u.d, &i))
		return i;
	return def;
}

double hga_val_num(struct hga_val v, double def)
{
	const struct hga_node *n = node_of(v);

	if (n != NULL && n->type == HGA_V_INT)
		return (double)n->u.i;
	return n != NULL && n->type == HGA_V_NUM ? n->u.d : def;
}

bool hga_val_bool(struct hga_val v, bool def)
{
	const struct hga_node *n = node_of(v);

	return n != NULL && n->type == HGA_V_BOOL ? n->u.i != 0 : def;
}

/* ---- copy, compare ---- */

struct copy_level {
	uint32_t end; /* index behind the container */
	bool map, named, key_due;
};

static int copy_leaf(struct hga_vtape *t, uint32_t name,
                     const struct hga_vtape *src, const struct hga_node *n)
{
	switch ((enum hga_vtype)n->type) {
	case HGA_V_NULL:
		return hga_vt_null(t, name);
	case HGA_V_BOOL:
		return hga_vt_bool(t, name, n->u.i != 0);
	case HGA_V_INT:
		return hga_vt_int(t, name, n->u.i);
	case HGA_V_NUM:
		return hga_vt_num(t, name, n->u.d);
	case HGA_V_STR:
	case HGA_V_SSTR:
		return hga_vt_str(t, name, node_text(src, n));
	case HGA_V_BLOB:
		return hga_vt_blob(t, name, node_text(src, n));
	case HGA_V_EMPTY:
		return hga_vt_empty(t, name);
	case HGA_V_NONE:
	case HGA_V_LIST:
	case HGA_V_MAP:
	case HGA_V_STRUCT:
		break;
	}
	return stick_bug(t, "copy of nothing");
}

/* Member name of a structure as a key; nothing in other containers. */
static int copy_name(struct hga_vtape *t, const struct copy_level *up,
                     const struct hga_vtape *src, const struct hga_node *n)
{
	if (!up->named)
		return 0;
	if (src->names == NULL || n->name == HGA_NO_NAME)
		return hga_vt_key(t, hga_strn("", 0));
	return hga_vt_key(t, src->names->text(src->names, n->name));
}

int hga_vt_copy(struct hga_vtape *t, uint32_t name, struct hga_val v)
{
	struct copy_level lv[MAX_DEPTH + 1];
	const struct hga_node *root = node_of(v);
	unsigned depth = 0;
	uint32_t end;

	if (root == NULL)
		return stick_bug(t, "copy of nothing");
	end = v.at + span(root);
	lv[0] = (struct copy_level){end, false, false, false};
	for (uint32_t i = v.at; i < end && t->r == 0; i++) {
		/* by value: t may be v's tape and its chunk may move */
		struct hga_node n = *node_at(v.t, i);
		struct copy_level *up = &lv[depth];
		uint32_t id = i == v.at ? name : HGA_NO_NAME;

		if (up->map && up->key_due) {
			(void)hga_vt_key(t, node_text(v.t, &n)); /* sticks */
			up->key_due = false;
			continue;
		}
		(void)copy_name(t, up, v.t, &n); /* sticks */
		up->key_due = up->map;
		if (is_container(&n)) {
			bool named = n.type == HGA_V_STRUCT;

			(void)hga_vt_open(
			    t, named ? HGA_V_MAP : (enum hga_vtype)n.type, id,
			    HGA_NO_SHAPE); /* sticks */
			lv[++depth] = (struct copy_level){
			    i + n.u.c.skip, n.type == HGA_V_MAP, named,
			    n.type == HGA_V_MAP};
		} else {
			(void)copy_leaf(t, id, v.t, &n); /* sticks */
		}
		while (depth > 0 && i + 1 == lv[depth].end) {
			depth--;
			(void)hga_vt_close(t); /* sticks */
		}
	}
	return t->r;
}

static bool equal_lists(struct hga_val a, struct hga_val b)
{
	struct hga_vit ib = hga_val_first(b);

	for (struct hga_vit ia = hga_val_first(a); hga_val_more(ia);
	     ia = hga_val_next(ia), ib = hga_val_next(ib))
		if (!hga_val_equal(hga_vit_val(ia), hga_vit_val(ib)))
			return false;
	return true;
}

static bool equal_members(struct hga_val a, struct hga_val b)
{
	for (struct hga_vit it = hga_val_first(a); hga_val_more(it);
	     it = hga_val_next(it)) {
		struct hga_val other = hga_val_getn(b, hga_vit_name(&it));

		if (!hga_val_equal(hga_vit_val(it), other))
			return false;
	}
	return true;
}

static bool equal_containers(struct hga_val a, struct hga_val b)
{
	enum hga_vtype ta = hga_val_type(a);
	enum hga_vtype tb = hga_val_type(b);

	if (hga_val_count(a) != hga_val_count(b))
		return false;
	if (hga_val_count(a) == 0 && (ta == HGA_V_EMPTY || tb == HGA_V_EMPTY))
		return true;
	if ((ta == HGA_V_LIST) != (tb == HGA_V_LIST))
		return false;
	return ta == HGA_V_LIST ? equal_lists(a, b) : equal_members(a, b);
}

static bool equal_numbers(const struct hga_node *a, const struct hga_node *b)
{
	int64_t i;

	if (a->type == HGA_V_INT && b->type == HGA_V_INT)
		return a->u.i == b->u.i;
	if (a->type == HGA_V_NUM && b->type == HGA_V_NUM)
		return a->u.d == b->u.d;
	if (a->type == HGA_V_NUM)
		return exact_int(a->u.d, &i) && i == b->u.i;
	return exact_int(b->u.d, &i) && i == a->u.i;
}

static bool is_number(enum hga_vtype t)
{
	return t == HGA_V_INT || t == HGA_V_NUM;
}

static bool holds_values(enum hga_vtype t)
{
	return t == HGA_V_LIST || t == HGA_V_MAP || t == HGA_V_STRUCT ||
	       t == HGA_V_EMPTY;
}

/* Recursion is bounded by the tape's depth of 128. */
bool hga_val_equal(struct hga_val a, struct hga_val b)
{
	enum hga_vtype ta = hga_val_type(a);
	enum hga_vtype tb = hga_val_type(b);

	if (holds_values(ta) && holds_values(tb))
		return equal_containers(a, b);
	if (is_number(ta) && is_number(tb))
		return equal_numbers(node_of(a), node_of(b));
	if (ta != tb)
		return false;
	if (ta == HGA_V_STR || ta == HGA_V_BLOB)
		return hga_str_eq(hga_val_str(a), hga_val_str(b));
	if (ta == HGA_V_BOOL)
		return hga_val_bool(a, false) == hga_val_bool(b, false);
	return true;
}

/* ---- draining ---- */

void hga_vdrain_init(struct hga_vdrain *d, struct hga_vtape *t)
{
	d->t = t;
	d->at = 0;
}

static void drop_node_chunk(struct hga_vtape *t, uint32_t i)
{
	hga_free(t->nodes[i]);
	t->nodes[i] = NULL;
	t->held -= NODES * sizeof(struct hga_node);
}

static void drop_text_before(struct hga_vtape *t, uint32_t chunk)
{
	for (; t->drained_text < chunk; t->drained_text++) {
		struct text_chunk *c = &t->text[t->drained_text];

		hga_free(c->p);
		t->held -= c->cap;
		*c = (struct text_chunk){NULL, 0, 0};
	}
}

const struct hga_node *hga_vdrain_next(struct hga_vdrain *d,
                                       struct hga_str *text)
{
	struct hga_vtape *t = d->t;
	const struct hga_node *n;

	if (t->r != 0 || d->at >= t->n)
		return NULL;
	if (d->at > 0 && d->at % NODES == 0)
		drop_node_chunk(t, d->at / NODES - 1);
	n = node_at(t, d->at++);
	if ((n->type == HGA_V_STR || n->type == HGA_V_BLOB) &&
	    n->len != BORROWED)
		drop_text_before(t, n->u.s.ref >> 16);
	*text = node_text(t, n);
	return n;
}
