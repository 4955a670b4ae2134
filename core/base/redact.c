/*
 * Redaction: one automaton over all encodings of all secrets (Aho and
 * Corasick, "Efficient string matching", 1975).  Its state's depth is the
 * number of bytes that may still become part of a secret, so exactly those
 * are held back.
 */
#include "base/redact.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/xml.h"

#include <string.h>

#define SECRET_MAX 65536
#define SECRET_LONG 4096 /* above: the common encodings only */
#define LINE_MIN 16
#define NODES_MAX (4u * 1024 * 1024)
#define TEXT_MAX (64u * 1024 * 1024)

struct node {
	uint32_t child, sibling, fail;
	uint32_t depth;
	uint32_t out;  /* longest pattern that ends here, in bytes */
	uint32_t refs; /* additions of patterns that pass here */
	uint32_t ends; /* those that end here */
	uint8_t c;
};

struct hga_redact {
	struct node *nodes; /* [0] is the root */
	uint32_t n, cap;
	uint32_t root[256];        /* children of the root */
	uint32_t *queue;           /* for fail links */
	uint32_t unused, n_unused; /* nodes given back, by their siblings */
	uint32_t epoch;            /* changes when nodes were given back */
	bool dirty, dropping;
	size_t secrets;
};

/* Like realloc, leaving no copy behind. */
static void *grow_wiped(void *p, size_t old, size_t new)
{
	void *q = hga_alloc(new);

	if (q == NULL)
		return NULL;
	if (old != 0) {
		memcpy(q, p, old);
		hga_wipe(p, old);
	}
	hga_free(p);
	return q;
}

struct hga_redact *hga_redact_new(void)
{
	struct hga_redact *r = hga_calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->nodes = hga_calloc(64, sizeof(*r->nodes));
	if (r->nodes == NULL) {
		hga_free(r);
		return NULL;
	}
	r->cap = 64;
	r->n = 1;
	return r;
}

void hga_redact_free(struct hga_redact *r)
{
	if (r == NULL)
		return;
	hga_wipe(r->nodes, r->cap * sizeof(*r->nodes));
	hga_free(r->nodes);
	hga_free(r->queue);
	hga_wipe(r, sizeof(*r));
	hga_free(r);
}

size_t hga_redact_count(const struct hga_redact *r)
{
	return r->secrets;
}

/* Child of node at by byte c, 0 when there is none. */
static uint32_t find_child(const struct hga_redact *r, uint32_t at, uint8_t c)
{
	uint32_t i;

	if (at == 0)
		return r->root[c];
	for (i = r->nodes[at].child; i != 0; i = r->nodes[i].sibling)
		if (r->nodes[i].c == c)
			break;
	return i;
}

static bool room_for(struct hga_redact *r, size_t n)
{
	size_t want = r->cap;
	void *p;

	n = n > r->n_unused ? n - r->n_unused : 0;
	if (n > NODES_MAX || r->n + n > NODES_MAX)
		return false;
	while (want < r->n + n)
		want *= 2;
	if (want == r->cap)
		return true;
	p = grow_wiped(r->nodes, r->n * sizeof(*r->nodes),
	               want * sizeof(*r->nodes));
	if (p == NULL)
		return false;
	r->nodes = p;
	r->cap = (uint32_t)want; /* at most twice NODES_MAX */
	return true;
}

/* A zeroed node; room_for was asked. */
static uint32_t take_node(struct hga_redact *r)
{
	uint32_t at = r->unused;

	if (at == 0) {
		at = r->n++;
	} else {
		r->unused = r->nodes[at].sibling;
		r->n_unused--;
	}
	memset(&r->nodes[at], 0, sizeof(r->nodes[at]));
	return at;
}

static uint32_t add_child(struct hga_redact *r, uint32_t at, uint8_t c)
{
	uint32_t i = take_node(r);
	struct node *n = &r->nodes[i];

	n->c = c;
	n->depth = r->nodes[at].depth + 1;
	if (at == 0) {
		r->root[c] = i;
	} else {
		n->sibling = r->nodes[at].child;
		r->nodes[at].child = i;
	}
	return i;
}

/* Takes node i, through which no pattern passes any more, and the line of
 * nodes below it out of the tree. */
static void drop_line(struct hga_redact *r, uint32_t at, uint32_t i)
{
	uint32_t *p = at == 0 ? &r->root[r->nodes[i].c] : &r->nodes[at].child;

	while (*p != i)
		p = &r->nodes[*p].sibling;
	*p = at == 0 ? 0 : r->nodes[i].sibling;
	while (i != 0) {
		uint32_t below = r->nodes[i].child;

		hga_wipe(&r->nodes[i], sizeof(r->nodes[i]));
		r->nodes[i].sibling = r->unused;
		r->unused = i;
		r->n_unused++;
		i = below;
	}
	r->epoch++;
}

/* The node where the pattern ends, 0 when there is none. */
static uint32_t end_of(const struct hga_redact *r, struct hga_str s)
{
	uint32_t at = 0;

	for (size_t i = 0; i < s.n; i++) {
		at = find_child(r, at, (uint8_t)s.s[i]);
		if (at == 0)
			return 0;
	}
	return r->nodes[at].ends > 0 ? at : 0;
}

static void drop_pattern(struct hga_redact *r, struct hga_str s)
{
	uint32_t at = 0, end = end_of(r, s);

	if (end == 0)
		return;
	r->nodes[end].ends--;
	r->dirty = true;
	for (size_t i = 0; i < s.n; i++) {
		uint32_t next = find_child(r, at, (uint8_t)s.s[i]);

		if (--r->nodes[next].refs == 0) {
			drop_line(r, at, next);
			return;
		}
		at = next;
	}
}

/* Adds one pattern, or takes it back. */
static int add_pattern(struct hga_redact *r, struct hga_str s,
                       struct hga_err *err)
{
	uint32_t at = 0;

	if (s.n < HGA_REDACT_MIN)
		return 0;
	if (r->dropping) {
		drop_pattern(r, s);
		return 0;
	}
	if (!room_for(r, s.n))
		return hga_fail_mem(err);
	for (size_t i = 0; i < s.n; i++) {
		uint32_t next = find_child(r, at, (uint8_t)s.s[i]);

		at = next != 0 ? next : add_child(r, at, (uint8_t)s.s[i]);
		r->nodes[at].refs++;
	}
	r->nodes[at].ends++;
	r->dirty = true;
	return 0;
}

/* Takes the pattern in b, then empties it. */
static int add_buf(struct hga_redact *r, struct hga_buf *b, int built,
                   struct hga_err *err)
{
	int res = built < 0 ? built : add_pattern(r, hga_buf_str(b), err);

	hga_wipe(b->data, b->len);
	hga_buf_clear(b);
	return res;
}

enum b64 {
	B64_PLAIN,
	B64_URL, /* the other alphabet */
	B64_FORM /* percent-encoded, as in the body of a form */
};

static int respell(struct hga_buf *b, enum b64 how, struct hga_err *err)
{
	struct hga_buf plain = *b;
	int res = 0;

	switch (how) {
	case B64_PLAIN:
		break;
	case B64_URL:
		for (size_t i = 0; i < b->len; i++) {
			if (b->data[i] == '+')
				b->data[i] = '-';
			if (b->data[i] == '/')
				b->data[i] = '_';
		}
		break;
	case B64_FORM:
		hga_buf_init(b, plain.max);
		res = hga_pct_encode(b, hga_buf_str(&plain), "", err);
		hga_buf_release_secret(&plain);
		break;
	}
	return res;
}

/*
 * base64 of s when skip unknown bytes stand before it: only the characters
 * that depend on s alone.
 */
static int add_b64(struct hga_redact *r, struct hga_buf *tmp, struct hga_str s,
                   size_t skip, enum b64 how, struct hga_err *err)
{
	static const size_t lead[] = {0, 2, 3};
	size_t keep = (skip + s.n) * 8 / 6;
	struct hga_buf in;
	int res;

	hga_buf_init(&in, s.n + 3);
	res = hga_buf_reserve(&in, s.n + 2, err);
	if (res == 0)
		res = hga_buf_add(&in, "\0\0", skip, err);
	if (res == 0)
		res = hga_buf_addstr(&in, s, err);
	if (res == 0)
		res = hga_b64_encode(tmp, in.data, in.len, err);
	hga_buf_release_secret(&in);
	if (res == 0) {
		hga_buf_truncate(tmp, keep);
		hga_buf_consume(tmp, lead[skip]);
	}
	if (res == 0)
		res = respell(tmp, how, err);
	return add_buf(r, tmp, res, err);
}

static int add_all_b64(struct hga_redact *r, struct hga_buf *tmp,
                       struct hga_str s, bool url_too, struct hga_err *err)
{
	int res = 0;

	for (size_t skip = 0; skip < 3 && res == 0; skip++) {
		res = add_b64(r, tmp, s, skip, B64_PLAIN, err);
		if (res == 0)
			res = add_b64(r, tmp, s, skip, B64_FORM, err);
		if (res == 0 && url_too)
			res = add_b64(r, tmp, s, skip, B64_URL, err);
	}
	return res;
}

/* Inside of a JSON string. */
static int add_json(struct hga_redact *r, struct hga_buf *tmp, struct hga_str s,
                    struct hga_err *err)
{
	struct hga_jw w;
	int res;

	hga_jw_init(&w, tmp, 0);
	hga_jw_str(&w, s);
	res = hga_jw_end(&w, err);
	if (res == 0) {
		hga_buf_truncate(tmp, tmp->len - 1);
		hga_buf_consume(tmp, 1);
	}
	return add_buf(r, tmp, res, err);
}

static int put_unit(struct hga_buf *b, uint32_t unit, struct hga_err *err)
{
	char two[2] = {(char)(unit & 0xff), (char)(unit >> 8)};

	return hga_buf_add(b, two, 2, err);
}

/* UTF-16LE; a byte that is no UTF-8 becomes one unit. */
static int utf16(struct hga_buf *out, struct hga_str s, struct hga_err *err)
{
	int res = 0;

	while (s.n > 0 && res == 0) {
		uint32_t cp = (uint8_t)s.s[0];
		size_t len = hga_utf8_next(s, &cp);

		if (cp < 0x10000) {
			res = put_unit(out, cp, err);
		} else {
			cp -= 0x10000;
			res = put_unit(out, 0xd800 + (cp >> 10), err);
			if (res == 0)
				res = put_unit(out, 0xdc00 + (cp & 0x3ff), err);
		}
		len = len ? len : 1;
		s = hga_strn(s.s + len, s.n - len);
	}
	return res;
}

static int add_utf16(struct hga_redact *r, struct hga_buf *tmp,
                     struct hga_str s, struct hga_err *err)
{
	struct hga_buf wide;
	int res;

	hga_buf_init(&wide, s.n * 2 + 1);
	res = hga_buf_reserve(&wide, s.n * 2, err);
	if (res == 0)
		res = utf16(&wide, s, err);
	if (res == 0)
		res = add_pattern(r, hga_buf_str(&wide), err);
	if (res == 0)
		res = add_all_b64(r, tmp, hga_buf_str(&wide), true, err);
	hga_buf_release_secret(&wide);
	return res;
}

static int add_percent(struct hga_redact *r, struct hga_buf *tmp,
                       struct hga_str s, const char *safe, bool lower,
                       struct hga_err *err)
{
	int res = hga_pct_encode(tmp, s, safe, err);

	for (size_t i = 0; res == 0 && lower && i + 2 < tmp->len; i++)
		if (tmp->data[i] == '%')
			for (size_t k = i + 1; k < i + 3; k++)
				if (tmp->data[k] >= 'A')
					tmp->data[k] =
					    (char)(tmp->data[k] | 32);
	return add_buf(r, tmp, res, err);
}

/* As HTML forms do: a blank is a plus. */
static int add_form(struct hga_redact *r, struct hga_buf *tmp, struct hga_str s,
                    struct hga_err *err)
{
	int res = hga_pct_encode(tmp, s, " ", err);

	for (size_t i = 0; res == 0 && i < tmp->len; i++)
		if (tmp->data[i] == ' ')
			tmp->data[i] = '+';
	return add_buf(r, tmp, res, err);
}

static int add_hex(struct hga_redact *r, struct hga_buf *tmp, struct hga_str s,
                   bool upper, struct hga_err *err)
{
	int res = hga_hex_encode(tmp, s.s, s.n, err);

	for (size_t i = 0; res == 0 && upper && i < tmp->len; i++)
		if (tmp->data[i] >= 'a')
			tmp->data[i] = (char)(tmp->data[i] & ~32);
	return add_buf(r, tmp, res, err);
}

/* & < > only, quotes left alone. */
static int add_xml_text(struct hga_redact *r, struct hga_buf *tmp,
                        struct hga_str s, struct hga_err *err)
{
	int res = 0;

	for (size_t i = 0; i < s.n && res == 0; i++) {
		if (s.s[i] == '&')
			res = hga_buf_adds(tmp, "&amp;", err);
		else if (s.s[i] == '<')
			res = hga_buf_adds(tmp, "&lt;", err);
		else if (s.s[i] == '>')
			res = hga_buf_adds(tmp, "&gt;", err);
		else
			res = hga_buf_addc(tmp, s.s[i], err);
	}
	return add_buf(r, tmp, res, err);
}

static int add_rare(struct hga_redact *r, struct hga_buf *tmp, struct hga_str s,
                    struct hga_err *err)
{
	int res = add_utf16(r, tmp, s, err);

	if (res == 0)
		res = add_percent(r, tmp, s, "", false, err);
	if (res == 0)
		res = add_percent(r, tmp, s, "", true, err);
	if (res == 0)
		res = add_percent(r, tmp, s, "/", false, err);
	if (res == 0)
		res = add_form(r, tmp, s, err);
	if (res == 0)
		res = add_hex(r, tmp, s, false, err);
	return res < 0 ? res : add_hex(r, tmp, s, true, err);
}

static int add_lines(struct hga_redact *r, struct hga_str s,
                     struct hga_err *err)
{
	size_t from = 0;
	int res = 0;

	if (hga_str_chr(s, '\n', 0) < 0)
		return 0;
	while (from < s.n && res == 0) {
		ptrdiff_t nl = hga_str_chr(s, '\n', from);
		size_t to = nl < 0 ? s.n : (size_t)nl;
		struct hga_str line =
		    hga_str_trim(hga_strn(s.s + from, to - from));

		from = to + 1;
		if (line.n >= LINE_MIN && !hga_str_starts(line, "-----"))
			res = add_pattern(r, line, err);
	}
	return res;
}

/* All spellings of a secret, into the tree or out of it. */
static int each_pattern(struct hga_redact *r, struct hga_str secret,
                        struct hga_err *err)
{
	struct hga_buf tmp;
	int res;

	hga_buf_init(&tmp, secret.n * 8 + 64);
	/* the longest encoding, so that no copy is left by growing */
	res = hga_buf_reserve(&tmp, secret.n * 7 + 32, err);
	if (res == 0)
		res = add_pattern(r, secret, err);
	if (res == 0)
		res =
		    add_all_b64(r, &tmp, secret, secret.n <= SECRET_LONG, err);
	if (res == 0)
		res = add_json(r, &tmp, secret, err);
	if (res == 0)
		res = add_buf(r, &tmp, hga_xml_escape(&tmp, secret, err), err);
	if (res == 0)
		res = add_xml_text(r, &tmp, secret, err);
	if (res == 0 && secret.n <= SECRET_LONG)
		res = add_rare(r, &tmp, secret, err);
	if (res == 0)
		res = add_lines(r, secret, err);
	hga_buf_release_secret(&tmp);
	return res;
}

int hga_redact_add(struct hga_redact *r, struct hga_str secret,
                   struct hga_err *err)
{
	bool known = end_of(r, secret) != 0;
	int res;

	if (secret.n < HGA_REDACT_MIN)
		return hga_fail(err, HGA_USAGE, 0, "TooShort",
		                "a secret needs at least %d bytes to be "
		                "recognised",
		                HGA_REDACT_MIN);
	if (secret.n > SECRET_MAX)
		return hga_fail(err, HGA_USAGE, 0, "TooLarge",
		                "a secret may have at most 64 KiB");
	res = each_pattern(r, secret, err);
	if (res == 0 && !known)
		r->secrets++;
	return res;
}

void hga_redact_drop(struct hga_redact *r, struct hga_str secret)
{
	bool known = end_of(r, secret) != 0;

	r->dropping = true;
	/* Without memory for the spellings some of them stay. */
	(void)!each_pattern(r, secret, NULL);
	r->dropping = false;
	if (known && end_of(r, secret) == 0)
		r->secrets--;
}

/* ---- matching ---- */

/* The longest proper suffix of a node's text that is in the tree. */
static void link_child(struct hga_redact *r, uint32_t parent, uint32_t at)
{
	struct node *n = &r->nodes[at];
	uint32_t f = parent;

	n->fail = 0;
	while (f != 0) {
		uint32_t next;

		f = r->nodes[f].fail;
		next = find_child(r, f, n->c);
		if (next != 0) {
			n->fail = next;
			break;
		}
	}
	n->out = n->ends > 0 ? n->depth : r->nodes[n->fail].out;
}

/* Sets the fail links, level by level. */
static int prepare(struct hga_redact *r, struct hga_err *err)
{
	uint32_t head = 0;
	uint32_t tail = 0;

	if (!r->dirty)
		return 0;
	hga_free(r->queue);
	r->queue = hga_alloc(r->n * sizeof(*r->queue));
	if (r->queue == NULL)
		return hga_fail_mem(err);
	for (unsigned c = 0; c < 256; c++)
		if (r->root[c] != 0) {
			link_child(r, 0, r->root[c]);
			r->queue[tail++] = r->root[c];
		}
	while (head < tail) {
		uint32_t at = r->queue[head++];

		for (uint32_t i = r->nodes[at].child; i != 0;
		     i = r->nodes[i].sibling) {
			link_child(r, at, i);
			r->queue[tail++] = i;
		}
	}
	hga_free(r->queue);
	r->queue = NULL;
	r->dirty = false;
	return 0;
}

static uint32_t advance(const struct hga_redact *r, uint32_t at, uint8_t c)
{
	for (;;) {
		uint32_t next = find_child(r, at, c);

		if (next != 0 || at == 0)
			return next;
		at = r->nodes[at].fail;
	}
}

void hga_redact_open(struct hga_redact_stream *s, struct hga_redact *r)
{
	memset(s, 0, sizeof(*s));
	s->r = r;
	s->epoch = r != NULL ? r->epoch : 0;
	hga_buf_init(&s->held, TEXT_MAX);
	hga_buf_init(&s->marks, TEXT_MAX);
}

void hga_redact_close(struct hga_redact_stream *s)
{
	hga_buf_release_secret(&s->held);
	hga_buf_release(&s->marks);
	s->state = 0;
	s->hidden = false;
}

/* Gives out n held bytes from index from. */
static int give(struct hga_redact_stream *s, size_t from, size_t n,
                struct hga_buf *out, struct hga_err *err)
{
	size_t end = from + n;
	int res = 0;

	while (from < end && res == 0) {
		size_t to = from;

		while (to < end && s->marks.data[to] == s->marks.data[from])
			to++;
		if (s->marks.data[from] == 0)
			res = hga_buf_add(out, s->held.data + from, to - from,
			                  err);
		else if (!s->hidden)
			res = hga_buf_adds(out, "***", err);
		s->hidden = s->marks.data[from] != 0;
		from = to;
	}
	return res;
}

/* Passes on what cannot begin a secret; returns how many bytes that were. */
static size_t clean_run(const struct hga_redact *r, struct hga_str t)
{
	size_t i = 0;

	while (i < t.n && r->root[(uint8_t)t.s[i]] == 0)
		i++;
	return i;
}

static int hold(struct hga_redact_stream *s, char c, struct hga_err *err)
{
	uint32_t len;
	int res = hga_buf_addc(&s->held, c, err);

	if (res == 0)
		res = hga_buf_addc(&s->marks, '\0', err);
	if (res < 0)
		return res;
	s->state = advance(s->r, s->state, (uint8_t)c);
	len = s->r->nodes[s->state].out;
	if (len > 0) /* never more than is held: a suffix of the state */
		memset(s->marks.data + s->marks.len - len, 1, len);
	return 0;
}

/* The state of the held bytes in a tree that has lost nodes. */
static void find_state(struct hga_redact_stream *s)
{
	s->state = 0;
	for (size_t i = 0; i < s->held.len; i++)
		s->state = advance(s->r, s->state, (uint8_t)s->held.data[i]);
	s->epoch = s->r->epoch;
}

int hga_redact_feed(struct hga_redact_stream *s, struct hga_str text,
                    struct hga_buf *out, struct hga_err *err)
{
	size_t from = 0; /* held bytes given out */
	size_t i = 0;
	int res;

	if (s->r == NULL)
		return hga_buf_addstr(out, text, err);
	res = prepare(s->r, err);
	if (res == 0 && s->epoch != s->r->epoch) {
		find_state(s);
		from = s->held.len - s->r->nodes[s->state].depth;
		res = give(s, 0, from, out, err);
	}
	while (i < text.n && res == 0) {
		size_t ready;

		if (s->state == 0) {
			struct hga_str rest = {text.s + i, text.n - i};
			size_t n = clean_run(s->r, rest);

			if (n > 0) {
				res = hga_buf_add(out, rest.s, n, err);
				s->hidden = false;
				i += n;
				continue;
			}
		}
		res = hold(s, text.s[i++], err);
		if (res < 0)
			break;
		ready = s->held.len - from - s->r->nodes[s->state].depth;
		if (ready > 0)
			res = give(s, from, ready, out, err);
		from += ready;
	}
	hga_buf_consume(&s->held, from);
	hga_buf_consume(&s->marks, from);
	return res;
}

int hga_redact_flush(struct hga_redact_stream *s, struct hga_buf *out,
                     struct hga_err *err)
{
	int res = give(s, 0, s->held.len, out, err);

	hga_buf_clear(&s->held);
	hga_buf_clear(&s->marks);
	s->state = 0;
	s->hidden = false;
	return res;
}

int hga_redact_text(struct hga_redact *r, struct hga_str text,
                    struct hga_buf *out, struct hga_err *err)
{
	struct hga_redact_stream s;
	int res;

	hga_redact_open(&s, r);
	res = hga_redact_feed(&s, text, out, err);
	if (res == 0)
		res = hga_redact_flush(&s, out, err);
	hga_redact_close(&s);
	return res;
}

/* ---- shapes ---- */

static bool upper_or_digit(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Length of an access key id at the front of t, 0 if none. */
static size_t access_key(struct hga_str t)
{
	if (!hga_str_starts(t, "AKIA") && !hga_str_starts(t, "ASIA"))
		return 0;
	for (size_t i = 4; i < 20; i++)
		if (i >= t.n || !upper_or_digit(t.s[i]))
			return 0;
	return 20;
}

static bool in_set(char c, const char *set)
{
	return c != '\0' && strchr(set, c) != NULL;
}

/*
 * "Authorization: VALUE", "x-amz-security-token=VALUE&": *from and the
 * result are the borders of VALUE, 0 if t does not begin so.
 */
static size_t header_value(struct hga_str t, size_t *from)
{
	static const char *const names[] = {"authorization",
	                                    "x-amz-security-token"};
	const char *stop = "\r\n\"'";
	size_t i = 0;

	for (size_t k = 0; k < 2; k++) {
		size_t n = strlen(names[k]);

		if (t.n > n && hga_str_ieqc(hga_strn(t.s, n), names[k]))
			i = n;
	}
	if (i == 0)
		return 0;
	while (i < t.n && in_set(t.s[i], "\"' "))
		i++;
	if (i == t.n || (t.s[i] != ':' && t.s[i] != '='))
		return 0;
	if (t.s[i] == '=')
		stop = "\r\n\"'& \t";
	i++;
	while (i < t.n && in_set(t.s[i], "\"' "))
		i++;
	*from = i;
	while (i < t.n && !in_set(t.s[i], stop))
		i++;
	return i > *from ? i : 0;
}

/* Length of a PEM private key block at the front of t (an unfinished one
 * reaches to the end), 0 if none. */
static size_t pem_block(struct hga_str t)
{
	struct hga_str head = {t.s, t.n < 64 ? t.n : 64};
	struct hga_str rest;
	ptrdiff_t key;
	ptrdiff_t end;

	if (!hga_str_starts(t, "-----BEGIN "))
		return 0;
	key = hga_str_find(head, HGA_STR("PRIVATE KEY-----"));
	if (key < 0)
		return 0;
	rest = hga_strn(t.s + key, t.n - (size_t)key);
	end = hga_str_find(rest, HGA_STR("-----END "));
	if (end < 0)
		return t.n;
	rest = hga_strn(rest.s + end, rest.n - (size_t)end);
	key = hga_str_find(rest, HGA_STR("KEY-----"));
	return key < 0 ? t.n : (size_t)(rest.s - t.s) + (size_t)key + 8;
}

/* What is to be hidden at the front of t: borders, false if nothing. */
static bool shape_at(struct hga_str t, size_t *from, size_t *to)
{
	*from = 0;
	switch (t.s[0]) {
	case 'A':
	case 'a':
		*to = access_key(t);
		if (*to == 0)
			*to = header_value(t, from);
		return *to != 0;
	case 'X':
	case 'x':
		*to = header_value(t, from);
		return *to != 0;
	case '-':
		*to = pem_block(t);
		return *to != 0;
	default:
		return false;
	}
}

int hga_redact_shapes(struct hga_str text, struct hga_buf *out,
                      struct hga_err *err)
{
	size_t done = 0;
	size_t i = 0;
	int res = 0;

	while (i < text.n && res == 0) {
		size_t from;
		size_t to;

		if (!shape_at(hga_strn(text.s + i, text.n - i), &from, &to)) {
			i++;
			continue;
		}
		res = hga_buf_add(out, text.s + done, i + from - done, err);
		if (res == 0)
			res = hga_buf_adds(out, "***", err);
		i += to;
		done = i;
	}
	return res < 0 ? res
	               : hga_buf_add(out, text.s + done, text.n - done, err);
}
