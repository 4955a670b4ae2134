/* JSON push parser and writer, RFC 8259; see the header. */
#include "base/json.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STRING_MAX (32u * 1024 * 1024)
#define SMALL (64u * 1024)
#define NUMBER_MAX 1000
#define WRITE_DEPTH 128

enum state {
	ST_VALUE,       /* a value must come */
	ST_FIRST_VALUE, /* a value or ] */
	ST_FIRST_KEY,   /* a key or } */
	ST_KEY,         /* a key must come */
	ST_COLON,
	ST_AFTER, /* , or the end of the container */
	ST_STRING,
	ST_ESCAPE,
	ST_HEX,
	ST_NUMBER,
	ST_WORD, /* true, false, null */
	ST_DONE
};

struct hga_json {
	hga_json_fn fn;
	void *data;
	enum state state;
	unsigned depth;
	uint64_t arrays[2]; /* bit per level: array */
	bool key;           /* the string being read is a key */
	unsigned hex_n;
	uint32_t hex, high; /* \u digits so far; pending high surrogate */
	struct hga_buf tok;
	size_t off; /* bytes before the current feed */
	int r;
	struct hga_err err;
};

struct hga_json *hga_json_new(hga_json_fn fn, void *data)
{
	struct hga_json *p = hga_calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->fn = fn;
	p->data = data;
	hga_buf_init(&p->tok, STRING_MAX);
	return p;
}

void hga_json_free(struct hga_json *p)
{
	if (p == NULL)
		return;
	hga_buf_release_secret(&p->tok);
	hga_free(p);
}

static int bad(struct hga_json *p, size_t at, const char *what)
{
	return hga_fail(&p->err, HGA_PROTOCOL, 0, "Syntax",
	                "JSON: %s at byte %zu", what, p->off + at);
}

static bool in_array(const struct hga_json *p)
{
	unsigned top = p->depth - 1;

	return p->arrays[top / 64] >> (top % 64) & 1;
}

static int emit(struct hga_json *p, enum hga_json_type type,
                struct hga_str text)
{
	struct hga_json_event ev;

	memset(&ev, 0, sizeof(ev));
	ev.type = type;
	ev.text = text;
	return p->fn(p->data, &ev, &p->err);
}

static void after_value(struct hga_json *p)
{
	p->state = p->depth == 0 ? ST_DONE : ST_AFTER;
}

static int open_container(struct hga_json *p, bool array)
{
	uint64_t bit = (uint64_t)1 << (p->depth % 64);

	if (p->depth == HGA_JSON_DEPTH)
		return hga_fail(&p->err, HGA_PROTOCOL, 0, "TooDeep",
		                "JSON nested deeper than %d", HGA_JSON_DEPTH);
	if (array)
		p->arrays[p->depth / 64] |= bit;
	else
		p->arrays[p->depth / 64] &= ~bit;
	p->depth++;
	p->state = array ? ST_FIRST_VALUE : ST_FIRST_KEY;
	return emit(p, array ? HGA_JSON_ARRAY : HGA_JSON_OBJECT,
	            hga_strn("", 0));
}

static int close_container(struct hga_json *p, char c, size_t at)
{
	bool array = in_array(p);

	if ((c == ']') != array)
		return bad(p, at, "wrong bracket");
	p->depth--;
	after_value(p);
	return emit(p, array ? HGA_JSON_ARRAY_END : HGA_JSON_OBJECT_END,
	            hga_strn("", 0));
}

static void begin_string(struct hga_json *p, bool key)
{
	hga_buf_clear(&p->tok);
	p->key = key;
	p->high = 0;
	p->state = ST_STRING;
}

static int end_string(struct hga_json *p, struct hga_str s, size_t at)
{
	if (!hga_utf8_valid(s))
		return bad(p, at, "malformed UTF-8 before the end of string");
	if (p->key) {
		p->state = ST_COLON;
		return emit(p, HGA_JSON_KEY, s);
	}
	after_value(p);
	return emit(p, HGA_JSON_STR, s);
}

static int add_cp(struct hga_json *p, uint32_t cp)
{
	char tmp[4];

	return hga_buf_add(&p->tok, tmp, hga_utf8_put(tmp, cp), &p->err);
}

/* A high surrogate without its low half. */
static int flush_high(struct hga_json *p)
{
	if (p->high == 0)
		return 0;
	p->high = 0;
	return add_cp(p, 0xfffd);
}

static int add_hex(struct hga_json *p)
{
	uint32_t u = p->hex;

	p->state = ST_STRING;
	if (u >= 0xdc00 && u < 0xe000 && p->high != 0) {
		u = 0x10000 + ((p->high - 0xd800) << 10) + (u - 0xdc00);
		p->high = 0;
		return add_cp(p, u);
	}
	if (flush_high(p) < 0)
		return -(int)p->err.kind;
	if (u >= 0xd800 && u < 0xdc00) {
		p->high = u;
		return 0;
	}
	return add_cp(p, u);
}

static int on_hex(struct hga_json *p, char c, size_t at)
{
	uint32_t v;

	if (c >= '0' && c <= '9')
		v = (uint32_t)(c - '0');
	else if (c >= 'a' && c <= 'f')
		v = (uint32_t)(c - 'a' + 10);
	else if (c >= 'A' && c <= 'F')
		v = (uint32_t)(c - 'A' + 10);
	else
		return bad(p, at, "wrong \\u escape");
	p->hex = p->hex << 4 | v;
	return ++p->hex_n == 4 ? add_hex(p) : 0;
}

static int on_escape(struct hga_json *p, char c, size_t at)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/\b\f\n\r\t";
	const char *f;
	int r;

	if (c == 'u') {
		p->hex = 0;
		p->hex_n = 0;
		p->state = ST_HEX;
		return 0;
	}
	f = c != '\0' ? strchr(from, c) : NULL;
	if (f == NULL)
		return bad(p, at, "unknown escape");
	r = flush_high(p);
	if (r < 0)
		return r;
	p->state = ST_STRING;
	return hga_buf_addc(&p->tok, to[f - from], &p->err);
}

/* Reads string bytes from s[*i] on; views the input when it can. */
static int on_string(struct hga_json *p, const char *s, size_t n, size_t *i)
{
	size_t from = *i;
	size_t to = from;
	int r;

	while (to < n && s[to] != '"' && s[to] != '\\' &&
	       (unsigned char)s[to] >= 0x20)
		to++;
	*i = to;
	if (to < n && s[to] == '"' && p->tok.len == 0 && p->high == 0) {
		(*i)++;
		return end_string(p, hga_strn(s + from, to - from), to);
	}
	if (to > from || (to < n && s[to] == '"')) {
		r = flush_high(p);
		if (r == 0)
			r = hga_buf_add(&p->tok, s + from, to - from, &p->err);
		if (r < 0)
			return r;
	}
	if (to == n)
		return 0;
	(*i)++;
	if (s[to] == '"')
		return end_string(p, hga_buf_str(&p->tok), to);
	if (s[to] != '\\')
		return bad(p, to, "control byte in string");
	p->state = ST_ESCAPE;
	return 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The RFC's number grammar; *integer: without fraction and exponent. */
static bool number_ok(struct hga_str t, bool *integer)
{
	size_t i = t.n > 0 && t.s[0] == '-';
	size_t from = i;

	while (i < t.n && is_digit(t.s[i]))
		i++;
	if (i == from || (t.s[from] == '0' && i - from > 1))
		return false;
	*integer = i == t.n;
	if (i < t.n && t.s[i] == '.') {
		for (from = ++i; i < t.n && is_digit(t.s[i]);)
			i++;
		if (i == from)
			return false;
	}
	if (i < t.n && (t.s[i] == 'e' || t.s[i] == 'E')) {
		i++;
		if (i < t.n && (t.s[i] == '+' || t.s[i] == '-'))
			i++;
		for (from = i; i < t.n && is_digit(t.s[i]);)
			i++;
		if (i == from)
			return false;
	}
	return i == t.n;
}

static int end_number(struct hga_json *p, size_t at)
{
	struct hga_str t = hga_buf_str(&p->tok);
	struct hga_json_event ev;
	bool integer = false;

	memset(&ev, 0, sizeof(ev));
	if (!number_ok(t, &integer) || !hga_str_num(t, &ev.d))
		return bad(p, at, "malformed number");
	ev.type =
	    integer && hga_str_int(t, &ev.i) ? HGA_JSON_INT : HGA_JSON_NUM;
	ev.text = t;
	after_value(p);
	return p->fn(p->data, &ev, &p->err);
}

static int end_word(struct hga_json *p, size_t at)
{
	struct hga_str t = hga_buf_str(&p->tok);
	struct hga_json_event ev;

	memset(&ev, 0, sizeof(ev));
	ev.text = t;
	ev.type = HGA_JSON_BOOL;
	ev.b = hga_str_eqc(t, "true");
	if (hga_str_eqc(t, "null"))
		ev.type = HGA_JSON_NULL;
	else if (!ev.b && !hga_str_eqc(t, "false"))
		return bad(p, at, "unknown word");
	after_value(p);
	return p->fn(p->data, &ev, &p->err);
}

static bool number_byte(char c)
{
	return is_digit(c) || c == '-' || c == '+' || c == '.' || c == 'e' ||
	       c == 'E';
}

static bool word_byte(char c)
{
	return c >= 'a' && c <= 'z';
}

/* Collects a number or word; ends it at the first byte of another kind. */
static int on_token(struct hga_json *p, const char *s, size_t n, size_t *i)
{
	bool number = p->state == ST_NUMBER;
	size_t max = number ? NUMBER_MAX : 5;
	size_t from = *i;

	while (*i < n && (number ? number_byte(s[*i]) : word_byte(s[*i])))
		(*i)++;
	if (*i - from > max - p->tok.len)
		return bad(p, *i, number ? "overlong number" : "unknown word");
	if (hga_buf_add(&p->tok, s + from, *i - from, &p->err) < 0)
		return -(int)p->err.kind;
	if (*i == n)
		return 0;
	return number ? end_number(p, *i) : end_word(p, *i);
}

/* First byte of a value; words and numbers are read again by on_token. */
static int on_value(struct hga_json *p, char c, size_t *i)
{
	hga_buf_clear(&p->tok);
	if (c == '-' || is_digit(c)) {
		p->state = ST_NUMBER;
		return 0;
	}
	if (word_byte(c)) {
		p->state = ST_WORD;
		return 0;
	}
	(*i)++;
	if (c == '{' || c == '[')
		return open_container(p, c == '[');
	if (c == '"') {
		begin_string(p, false);
		return 0;
	}
	if (c == ']' && p->state == ST_FIRST_VALUE)
		return close_container(p, c, *i - 1);
	return bad(p, *i - 1, "value expected");
}

static int on_after(struct hga_json *p, char c, size_t at)
{
	if (c == ',') {
		p->state = in_array(p) ? ST_VALUE : ST_KEY;
		return 0;
	}
	if (c == ']' || c == '}')
		return close_container(p, c, at);
	return bad(p, at, "comma or bracket expected");
}

/* States between tokens: c is no white space. */
static int on_punct(struct hga_json *p, char c, size_t *i)
{
	size_t at = *i;

	if (p->state == ST_VALUE || p->state == ST_FIRST_VALUE)
		return on_value(p, c, i);
	(*i)++;
	if (p->state == ST_AFTER)
		return on_after(p, c, at);
	if (p->state == ST_DONE)
		return bad(p, at, "data after the value");
	if (p->state == ST_COLON) {
		p->state = ST_VALUE;
		return c == ':' ? 0 : bad(p, at, "colon expected");
	}
	if (c == '}' && p->state == ST_FIRST_KEY)
		return close_container(p, c, at);
	if (c != '"')
		return bad(p, at, "key expected");
	begin_string(p, true);
	return 0;
}

static int step(struct hga_json *p, const char *s, size_t n, size_t *i)
{
	char c = s[*i];

	switch (p->state) {
	case ST_STRING:
		return on_string(p, s, n, i);
	case ST_ESCAPE:
		(*i)++;
		return on_escape(p, c, *i - 1);
	case ST_HEX:
		(*i)++;
		return on_hex(p, c, *i - 1);
	case ST_NUMBER:
	case ST_WORD:
		return on_token(p, s, n, i);
	case ST_VALUE:
	case ST_FIRST_VALUE:
	case ST_FIRST_KEY:
	case ST_KEY:
	case ST_COLON:
	case ST_AFTER:
	case ST_DONE:
		break;
	}
	if (c == ' ' || c == '\n' || c == '\r' || c == '\t') {
		(*i)++;
		return 0;
	}
	return on_punct(p, c, i);
}

static int finish(struct hga_json *p, int r, struct hga_err *err)
{
	p->r = r;
	if (r < 0 && err != NULL)
		*err = p->err;
	return r;
}

int hga_json_feed(struct hga_json *p, const void *bytes, size_t n,
                  struct hga_err *err)
{
	size_t i = 0;
	int r = p->r;

	while (i < n && r == 0)
		r = step(p, bytes, n, &i);
	p->off += i;
	return finish(p, r, err);
}

int hga_json_end(struct hga_json *p, struct hga_err *err)
{
	int r = p->r;

	if (r == 0 && p->state == ST_NUMBER)
		r = end_number(p, 0);
	else if (r == 0 && p->state == ST_WORD)
		r = end_word(p, 0);
	if (r == 0 && p->state != ST_DONE)
		r = bad(p, 0, "unexpected end");
	return finish(p, r, err);
}

/* ---- into a tape ---- */

int hga_json_into_tape(void *tape, const struct hga_json_event *ev,
                       struct hga_err *err)
{
	struct hga_vtape *t = tape;
	int r = 0;

	switch (ev->type) {
	case HGA_JSON_OBJECT:
		r = hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
		break;
	case HGA_JSON_ARRAY:
		r = hga_vt_open(t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
		break;
	case HGA_JSON_OBJECT_END:
	case HGA_JSON_ARRAY_END:
		r = hga_vt_close(t);
		break;
	case HGA_JSON_KEY:
		r = hga_vt_key(t, ev->text);
		break;
	case HGA_JSON_STR:
		r = hga_vt_str(t, HGA_NO_NAME, ev->text);
		break;
	case HGA_JSON_INT:
		r = hga_vt_int(t, HGA_NO_NAME, ev->i);
		break;
	case HGA_JSON_NUM:
		r = hga_vt_num(t, HGA_NO_NAME, ev->d);
		break;
	case HGA_JSON_BOOL:
		r = hga_vt_bool(t, HGA_NO_NAME, ev->b);
		break;
	case HGA_JSON_NULL:
		r = hga_vt_null(t, HGA_NO_NAME);
		break;
	}
	return r < 0 ? hga_vt_end(t, err) : 0;
}

int hga_json_parse(struct hga_str text, size_t max, struct hga_vtape **out,
                   struct hga_err *err)
{
	struct hga_vtape *t = hga_vtape_new(NULL, max);
	struct hga_json *p = NULL;
	int r;

	if (t != NULL)
		p = hga_json_new(hga_json_into_tape, t);
	if (p == NULL) {
		hga_vtape_free(t);
		return hga_fail_mem(err);
	}
	/* Documents of secrets are small: none is left behind by growing. */
	r = hga_buf_reserve(&p->tok, text.n < SMALL ? text.n : 0, err);
	if (r == 0)
		r = hga_json_feed(p, text.s, text.n, err);
	if (r == 0)
		r = hga_json_end(p, err);
	hga_json_free(p);
	if (r == 0)
		*out = t;
	else
		hga_vtape_free_secret(t);
	return r;
}

/* ---- writer ---- */

void hga_jw_init(struct hga_jw *w, struct hga_buf *out, int indent)
{
	memset(w, 0, sizeof(*w));
	w->out = out;
	w->indent = indent;
	w->first = true;
}

static bool dead(const struct hga_jw *w)
{
	return w->err.kind != HGA_OK;
}

/* The results of these appends are in w->err: the first failure sticks. */
static void out_n(struct hga_jw *w, const char *s, size_t n)
{
	if (!dead(w) && hga_buf_add(w->out, s, n, &w->err) < 0)
		return;
}

static void out_s(struct hga_jw *w, const char *s)
{
	out_n(w, s, strlen(s));
}

static void misuse(struct hga_jw *w, const char *what)
{
	if (!dead(w))
		(void)hga_fail(&w->err, HGA_BUG, 0, "Json", "%s", what);
}

static bool top_is_array(const struct hga_jw *w)
{
	unsigned top = w->depth - 1;

	return w->arrays[top / 64] >> (top % 64) & 1;
}

static void newline(struct hga_jw *w)
{
	if (w->indent <= 0)
		return;
	out_s(w, "\n");
	for (unsigned i = 0; i < w->depth * (unsigned)w->indent; i++)
		out_s(w, " ");
}

static void separate(struct hga_jw *w)
{
	if (!w->first)
		out_s(w, ",");
	w->first = false;
	newline(w);
}

/* Before each value. */
static void lead_in(struct hga_jw *w)
{
	if (w->depth == 0) {
		if (!w->first)
			misuse(w, "second value at the top");
		w->first = false;
	} else if (top_is_array(w)) {
		separate(w);
	} else if (!w->keyed) {
		misuse(w, "value without key");
	}
	w->keyed = false;
}

static void open_level(struct hga_jw *w, bool array)
{
	uint64_t bit = (uint64_t)1 << (w->depth % 64);

	lead_in(w);
	if (w->depth == WRITE_DEPTH)
		misuse(w, "nested too deeply");
	if (dead(w))
		return;
	out_s(w, array ? "[" : "{");
	if (array)
		w->arrays[w->depth / 64] |= bit;
	else
		w->arrays[w->depth / 64] &= ~bit;
	w->depth++;
	w->first = true;
}

void hga_jw_object(struct hga_jw *w)
{
	open_level(w, false);
}

void hga_jw_array(struct hga_jw *w)
{
	open_level(w, true);
}

void hga_jw_close(struct hga_jw *w)
{
	bool array;

	if (w->depth == 0 || w->keyed)
		misuse(w, "close without open container");
	if (dead(w))
		return;
	array = top_is_array(w);
	w->depth--;
	if (!w->first)
		newline(w);
	out_s(w, array ? "]" : "}");
	w->first = false;
}

static void quoted(struct hga_jw *w, struct hga_str s)
{
	static const char special[] = "\"\\\b\f\n\r\t";
	static const char letter[] = "\"\\bfnrt";
	size_t from = 0;
	size_t i = 0;

	out_s(w, "\"");
	while (i < s.n && !dead(w)) {
		unsigned char c = (unsigned char)s.s[i];
		size_t len =
		    c >= 0x20 && c < 0x80
		        ? 1
		        : hga_utf8_next(hga_strn(s.s + i, s.n - i), NULL);
		const char *esc = c != 0 ? strchr(special, c) : NULL;
		char hex[7] = "\\u00";

		if (len > 0 && c >= 0x20 && esc == NULL) {
			i += len;
			continue;
		}
		out_n(w, s.s + from, i - from);
		hex[4] = c < 16 ? '0' : '1';
		hex[5] = "0123456789abcdef"[c & 15];
		if (esc != NULL) {
			out_s(w, "\\");
			out_n(w, &letter[esc - special], 1);
		} else if (len == 0) {
			out_s(w, "\xef\xbf\xbd");
		} else {
			out_s(w, hex);
		}
		from = ++i;
	}
	out_n(w, s.s + from, s.n - from);
	out_s(w, "\"");
}

void hga_jw_key(struct hga_jw *w, struct hga_str key)
{
	if (w->depth == 0 || top_is_array(w) || w->keyed)
		misuse(w, "key outside an object");
	if (dead(w))
		return;
	separate(w);
	quoted(w, key);
	out_s(w, w->indent > 0 ? ": " : ":");
	w->keyed = true;
}

void hga_jw_str(struct hga_jw *w, struct hga_str v)
{
	lead_in(w);
	quoted(w, v);
}

void hga_jw_raw(struct hga_jw *w, struct hga_str json)
{
	lead_in(w);
	out_n(w, json.s, json.n);
}

void hga_jw_int(struct hga_jw *w, int64_t v)
{
	lead_in(w);
	if (!dead(w) && hga_buf_addf(w->out, &w->err, "%lld", (long long)v) < 0)
		return;
}

void hga_jw_num(struct hga_jw *w, double v)
{
	char tmp[32];

	if (!isfinite(v) && !dead(w))
		(void)hga_fail(&w->err, HGA_USAGE, 0, "NotFinite",
		               "JSON cannot carry inf or nan");
	lead_in(w);
	out_n(w, tmp, hga_num_text(tmp, v));
}

void hga_jw_bool(struct hga_jw *w, bool v)
{
	lead_in(w);
	out_s(w, v ? "true" : "false");
}

void hga_jw_null(struct hga_jw *w)
{
	lead_in(w);
	out_s(w, "null");
}

void hga_jw_kstr(struct hga_jw *w, const char *key, struct hga_str v)
{
	hga_jw_key(w, hga_str(key));
	hga_jw_str(w, v);
}

void hga_jw_kint(struct hga_jw *w, const char *key, int64_t v)
{
	hga_jw_key(w, hga_str(key));
	hga_jw_int(w, v);
}

struct member {
	struct hga_str key;
	struct hga_val v;
	uint32_t order;
};

static int by_key(const void *a, const void *b)
{
	const struct member *x = a;
	const struct member *y = b;
	int r = hga_str_cmp(x->key, y->key);

	if (r != 0)
		return r;
	return x->order < y->order ? -1 : x->order > y->order;
}

static void sorted_members(struct hga_jw *w, struct hga_val v)
{
	uint32_t n = hga_val_count(v);
	struct member *m = hga_calloc(n, sizeof(*m));
	uint32_t i = 0;

	if (m == NULL) {
		if (!dead(w))
			(void)hga_fail_mem(&w->err);
		return;
	}
	for (struct hga_vit it = hga_val_first(v); hga_val_more(it);
	     it = hga_val_next(it), i++)
		m[i] = (struct member){hga_vit_name(&it), hga_vit_val(it), i};
	qsort(m, n, sizeof(*m), by_key);
	for (i = 0; i < n && !dead(w); i++) {
		if (i + 1 < n && hga_str_eq(m[i].key, m[i + 1].key))
			continue;
		hga_jw_key(w, m[i].key);
		hga_jw_val(w, m[i].v, true);
	}
	hga_free(m);
}

static void children(struct hga_jw *w, struct hga_val v, bool sort)
{
	bool list = hga_val_is(v, HGA_V_LIST);

	if (list)
		hga_jw_array(w);
	else
		hga_jw_object(w);
	if (sort && !list) {
		sorted_members(w, v);
	} else {
		for (struct hga_vit it = hga_val_first(v);
		     hga_val_more(it) && !dead(w); it = hga_val_next(it)) {
			if (!list)
				hga_jw_key(w, hga_vit_name(&it));
			hga_jw_val(w, hga_vit_val(it), sort);
		}
	}
	hga_jw_close(w);
}

static void blob(struct hga_jw *w, struct hga_str s)
{
	lead_in(w);
	out_s(w, "\"");
	if (!dead(w) && hga_b64_encode(w->out, s.s, s.n, &w->err) < 0)
		return;
	out_s(w, "\"");
}

/* Recursion is bounded by the tape's depth of 128. */
void hga_jw_val(struct hga_jw *w, struct hga_val v, bool sort)
{
	switch (hga_val_type(v)) {
	case HGA_V_NONE:
	case HGA_V_NULL:
		hga_jw_null(w);
		break;
	case HGA_V_BOOL:
		hga_jw_bool(w, hga_val_bool(v, false));
		break;
	case HGA_V_INT:
		hga_jw_int(w, hga_val_int(v, 0));
		break;
	case HGA_V_NUM:
		hga_jw_num(w, hga_val_num(v, 0));
		break;
	case HGA_V_STR:
	case HGA_V_SSTR:
		hga_jw_str(w, hga_val_str(v));
		break;
	case HGA_V_BLOB:
		blob(w, hga_val_str(v));
		break;
	case HGA_V_LIST:
	case HGA_V_MAP:
	case HGA_V_STRUCT:
		children(w, v, sort);
		break;
	case HGA_V_EMPTY:
		hga_jw_object(w);
		hga_jw_close(w);
		break;
	}
}

int hga_jw_end(struct hga_jw *w, struct hga_err *err)
{
	if (w->depth != 0 || w->first)
		misuse(w, "unfinished JSON text");
	if (!dead(w))
		return 0;
	if (err != NULL)
		*err = w->err;
	return -(int)w->err.kind;
}

int hga_json_write(struct hga_buf *out, struct hga_val v, int indent, bool sort,
                   struct hga_err *err)
{
	struct hga_jw w;

	hga_jw_init(&w, out, indent);
	hga_jw_val(&w, v, sort);
	return hga_jw_end(&w, err);
}
