/*
 * Reading CLIXML ([MS-PSRP] 2.2.5): one pass of expat's events onto a tape,
 * a small stack of what is open instead of recursion.
 */
#include "winrm/clixml.h"

#include "base/mem.h"
#include "base/xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- text ---- */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The unit of a group at the front of s, or -1. */
static long group(struct hga_str s)
{
	long v = 0;

	if (s.n < 7 || s.s[0] != '_' || (s.s[1] != 'x' && s.s[1] != 'X') ||
	    s.s[6] != '_')
		return -1;
	for (int i = 2; i < 6; i++) {
		int d = hex_value(s.s[i]);

		if (d < 0)
			return -1;
		v = v * 16 + d;
	}
	return v;
}

static struct hga_str rest(struct hga_str s, size_t at)
{
	return hga_strn(s.s + at, s.n - at);
}

int hga_clixml_unescape(struct hga_buf *out, struct hga_str text,
                        struct hga_err *err)
{
	size_t from = 0;
	int r = 0;

	for (size_t i = 0; i < text.n && r == 0;) {
		long unit = text.s[i] == '_' ? group(rest(text, i)) : -1, low;
		char utf8[4];
		uint32_t cp = (uint32_t)unit;

		if (unit < 0) {
			i++;
			continue;
		}
		r = hga_buf_add(out, text.s + from, i - from, err);
		i += 7;
		if (unit >= 0xd800 && unit < 0xdc00 &&
		    (low = group(rest(text, i))) >= 0xdc00 && low < 0xe000) {
			cp = 0x10000 + ((uint32_t)(unit - 0xd800) << 10) +
			     (uint32_t)(low - 0xdc00);
			i += 7;
		}
		from = i;
		if (r == 0)
			r = hga_buf_add(out, utf8, hga_utf8_put(utf8, cp), err);
	}
	if (r == 0)
		r = hga_buf_add(out, text.s + from, text.n - from, err);
	return r;
}

/* ---- the reader ---- */

enum what {
	W_ROOT,
	W_ITEMS, /* values: LST, IE, QUE, STK, Objs */
	W_OBJ,
	W_MEMBERS, /* named values: Props, MS */
	W_DICT,
	W_ENTRY,
	W_TYPES,
	W_TYPE,
	W_TYPEREF,
	W_STRING, /* ToString */
	W_PRIM,
	W_VOID, /* Nil, Ref: no content counts */
	W_SKIP  /* a foreign element */
};

struct frame {
	enum what what;
	unsigned n;   /* entries: values so far */
	char tag[12]; /* W_PRIM */
};

struct tn {
	char id[12];
	size_t from, to; /* in reader.names */
};

struct reader {
	struct hga_vtape *t;
	struct frame stack[HGA_XML_DEPTH + 1];
	unsigned depth, nodes;
	struct hga_buf text, plain, names;
	struct tn *tns;
	size_t n_tns, cap_tns;
	bool seen; /* the root value */
};

static int malformed(struct hga_err *err, const char *what)
{
	return hga_fail(err, HGA_PROTOCOL, 0, "Malformed", "CLIXML: %s", what);
}

static struct hga_str attr(const struct hga_xml_attr *a, size_t n,
                           const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (hga_str_eqc(a[i].name, name))
			return a[i].value;
	return hga_str(NULL);
}

/* How a primitive's text is read. */
enum prim {
	P_NONE,
	P_STRING, /* with groups */
	P_INT,
	P_BOOL,
	P_TEXT
};

static enum prim prim_of(struct hga_str tag)
{
	static const struct {
		const char *tag;
		enum prim prim;
	} prims[] = {
	    {"S", P_STRING},   {"XD", P_STRING}, {"SBK", P_STRING},
	    {"URI", P_STRING}, {"I16", P_INT},   {"I32", P_INT},
	    {"I64", P_INT},    {"U16", P_INT},   {"U32", P_INT},
	    {"U64", P_INT},    {"By", P_INT},    {"SB", P_INT},
	    {"B", P_BOOL},     {"Sg", P_TEXT},   {"Db", P_TEXT},
	    {"D", P_TEXT},     {"C", P_TEXT},    {"DT", P_TEXT},
	    {"TS", P_TEXT},    {"G", P_TEXT},    {"Version", P_TEXT},
	    {"BA", P_TEXT},    {"SS", P_TEXT},
	};

	for (size_t i = 0; i < sizeof(prims) / sizeof(prims[0]); i++)
		if (hga_str_eqc(tag, prims[i].tag))
			return prims[i].prim;
	return P_NONE;
}

static int tape(const struct reader *rd, int r, struct hga_err *err)
{
	(void)rd; /* failures of the tape: memory or its limit */
	if (r == 0)
		return 0;
	if (r == -HGA_MEMORY)
		return hga_fail_mem(err);
	return hga_fail(err, (enum hga_kind) - r, 0, "TooLarge",
	                "CLIXML: value too large");
}

static int key(struct reader *rd, const char *name)
{
	return hga_vt_key(rd->t, hga_str(name));
}

static int push(struct reader *rd, enum what what, struct hga_str tag)
{
	struct frame *f = &rd->stack[++rd->depth]; /* base/xml limits it */

	f->what = what;
	f->n = 0;
	snprintf(f->tag, sizeof(f->tag), "%.*s", HGA_STRF(tag));
	hga_buf_clear(&rd->text);
	return 0;
}

static int open_obj(struct reader *rd, struct hga_str id, struct hga_err *err)
{
	(void)push(rd, W_OBJ, HGA_STR("Obj")); /* cannot fail */
	hga_vt_open(rd->t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	key(rd, "t");
	hga_vt_str(rd->t, HGA_NO_NAME, HGA_STR("Obj"));
	key(rd, "id");
	return tape(rd, hga_vt_str(rd->t, HGA_NO_NAME, id), err);
}

static int add_ref(struct reader *rd, struct hga_str id, struct hga_err *err)
{
	hga_vt_open(rd->t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	key(rd, "t");
	hga_vt_str(rd->t, HGA_NO_NAME, HGA_STR("Ref"));
	key(rd, "id");
	hga_vt_str(rd->t, HGA_NO_NAME, id);
	return tape(rd, hga_vt_close(rd->t), err);
}

/* Begins a value in a place where one may stand. */
static int value(struct reader *rd, struct hga_str tag,
                 const struct hga_xml_attr *a, size_t n, struct hga_err *err)
{
	struct hga_str id = attr(a, n, "RefId");

	if (hga_str_eqc(tag, "Obj"))
		return open_obj(rd, id, err);
	if (hga_str_eqc(tag, "Ref")) {
		int r = add_ref(rd, id, err);

		return r < 0 ? r : push(rd, W_VOID, tag);
	}
	if (prim_of(tag) != P_NONE)
		return push(rd, W_PRIM, tag);
	if (hga_vt_null(rd->t, HGA_NO_NAME) < 0)
		return hga_fail_mem(err);
	return push(rd, hga_str_eqc(tag, "Nil") ? W_VOID : W_SKIP, tag);
}

static int begin_list(struct reader *rd, const char *name, enum what what,
                      struct hga_err *err)
{
	if (name != NULL)
		key(rd, name);
	(void)push(rd, what, hga_str(name)); /* cannot fail */
	return tape(
	    rd, hga_vt_open(rd->t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE), err);
}

static int begin_map(struct reader *rd, const char *name, struct hga_err *err)
{
	key(rd, name);
	(void)push(rd, W_MEMBERS, hga_str(name)); /* cannot fail */
	return tape(
	    rd, hga_vt_open(rd->t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE), err);
}

static int add_types(struct reader *rd, struct hga_str id, struct hga_err *err)
{
	const struct tn *tn = NULL;

	for (size_t i = 0; i < rd->n_tns; i++)
		if (hga_str_eqc(id, rd->tns[i].id))
			tn = &rd->tns[i];
	if (tn == NULL)
		return malformed(err, "reference to an unknown type list");
	key(rd, "types");
	hga_vt_open(rd->t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
	for (size_t at = tn->from; at < tn->to;) {
		struct hga_str s = hga_str(rd->names.data + at);

		hga_vt_str(rd->t, HGA_NO_NAME, s);
		at += s.n + 1;
	}
	return tape(rd, hga_vt_close(rd->t), err);
}

static int new_types(struct reader *rd, struct hga_str id, struct hga_err *err)
{
	struct tn *tn;

	if (rd->n_tns == rd->cap_tns) {
		size_t cap = rd->cap_tns ? rd->cap_tns * 2 : 16;

		tn = hga_realloc(rd->tns, cap * sizeof(*tn));
		if (tn == NULL)
			return hga_fail_mem(err);
		rd->tns = tn;
		rd->cap_tns = cap;
	}
	tn = &rd->tns[rd->n_tns++];
	snprintf(tn->id, sizeof(tn->id), "%.*s", HGA_STRF(id));
	tn->from = tn->to = rd->names.len;
	return begin_list(rd, "types", W_TYPES, err);
}

static bool is_list(struct hga_str tag)
{
	return hga_str_eqc(tag, "LST") || hga_str_eqc(tag, "IE") ||
	       hga_str_eqc(tag, "QUE") || hga_str_eqc(tag, "STK");
}

static int in_obj(struct reader *rd, struct hga_str tag,
                  const struct hga_xml_attr *a, size_t n, struct hga_err *err)
{
	struct hga_str id = attr(a, n, "RefId");

	if (hga_str_eqc(tag, "TN"))
		return new_types(rd, id, err);
	if (hga_str_eqc(tag, "TNRef")) {
		int r = add_types(rd, id, err);

		return r < 0 ? r : push(rd, W_TYPEREF, tag);
	}
	if (hga_str_eqc(tag, "ToString")) {
		key(rd, "str");
		return push(rd, W_STRING, tag);
	}
	if (hga_str_eqc(tag, "Props"))
		return begin_map(rd, "props", err);
	if (hga_str_eqc(tag, "MS"))
		return begin_map(rd, "ext", err);
	if (hga_str_eqc(tag, "DCT"))
		return begin_list(rd, "dict", W_DICT, err);
	if (is_list(tag)) {
		key(rd, "kind");
		hga_vt_str(rd->t, HGA_NO_NAME, tag);
		return begin_list(rd, "list", W_ITEMS, err);
	}
	key(rd, "base");
	return value(rd, tag, a, n, err);
}

static int in_members(struct reader *rd, struct hga_str tag,
                      const struct hga_xml_attr *a, size_t n,
                      struct hga_err *err)
{
	int r;

	hga_buf_clear(&rd->plain);
	r = hga_clixml_unescape(&rd->plain, attr(a, n, "N"), err);
	if (r < 0)
		return r;
	hga_vt_key(rd->t, hga_buf_str(&rd->plain));
	return value(rd, tag, a, n, err);
}

static int in_root(struct reader *rd, struct hga_str tag,
                   const struct hga_xml_attr *a, size_t n, struct hga_err *err)
{
	rd->seen = true;
	if (hga_str_eqc(tag, "Objs"))
		return begin_list(rd, NULL, W_ITEMS, err);
	return value(rd, tag, a, n, err);
}

static int on_start(void *data, struct hga_str tag,
                    const struct hga_xml_attr *a, size_t n, struct hga_err *err)
{
	struct reader *rd = data;
	struct frame *f = &rd->stack[rd->depth];

	if (++rd->nodes > HGA_CLIXML_NODES)
		return hga_fail(err, HGA_PROTOCOL, 0, "TooLarge",
		                "CLIXML: more than %u elements",
		                HGA_CLIXML_NODES);
	switch (f->what) {
	case W_ROOT:
		return in_root(rd, tag, a, n, err);
	case W_ITEMS:
		return value(rd, tag, a, n, err);
	case W_OBJ:
		return in_obj(rd, tag, a, n, err);
	case W_MEMBERS:
		return in_members(rd, tag, a, n, err);
	case W_DICT:
		if (!hga_str_eqc(tag, "En"))
			return malformed(err, "dictionary without entries");
		return begin_list(rd, NULL, W_ENTRY, err);
	case W_ENTRY:
		if (f->n++ > 1 ||
		    !hga_str_eqc(attr(a, n, "N"), f->n == 1 ? "Key" : "Value"))
			return malformed(err, "entry is not key and value");
		return value(rd, tag, a, n, err);
	case W_TYPES:
		if (!hga_str_eqc(tag, "T"))
			return malformed(err, "type list without types");
		return push(rd, W_TYPE, tag);
	case W_SKIP:
		return push(rd, W_SKIP, tag);
	case W_TYPE:
	case W_TYPEREF:
	case W_STRING:
	case W_PRIM:
	case W_VOID:
		break;
	}
	return malformed(err, "element inside a simple value");
}

static int on_text(void *data, struct hga_str text, struct hga_err *err)
{
	struct reader *rd = data;

	switch (rd->stack[rd->depth].what) {
	case W_TYPE:
	case W_STRING:
	case W_PRIM:
		return hga_buf_addstr(&rd->text, text, err);
	case W_ROOT:
	case W_ITEMS:
	case W_OBJ:
	case W_MEMBERS:
	case W_DICT:
	case W_ENTRY:
	case W_TYPES:
	case W_TYPEREF:
	case W_VOID:
	case W_SKIP:
		break;
	}
	return 0;
}

static int add_string(struct reader *rd, struct hga_err *err)
{
	int r;

	hga_buf_clear(&rd->plain);
	r = hga_clixml_unescape(&rd->plain, hga_buf_str(&rd->text), err);
	if (r < 0)
		return r;
	return tape(rd, hga_vt_str(rd->t, HGA_NO_NAME, hga_buf_str(&rd->plain)),
	            err);
}

static int add_int(struct reader *rd, struct hga_err *err)
{
	struct hga_str s = hga_str_trim(hga_buf_str(&rd->text));
	uint64_t big;
	int64_t v;

	if (hga_str_int(s, &v))
		return tape(rd, hga_vt_int(rd->t, HGA_NO_NAME, v), err);
	if (!hga_str_uint(s, &big))
		return malformed(err, "not an integer");
	return tape(rd, hga_vt_str(rd->t, HGA_NO_NAME, s), err);
}

static int add_bool(struct reader *rd, struct hga_err *err)
{
	struct hga_str s = hga_str_trim(hga_buf_str(&rd->text));
	bool v = hga_str_eqc(s, "true");

	if (!v && !hga_str_eqc(s, "false"))
		return malformed(err, "not a boolean");
	return tape(rd, hga_vt_bool(rd->t, HGA_NO_NAME, v), err);
}

static int end_prim(struct reader *rd, const char *tag, struct hga_err *err)
{
	int r = 0;

	hga_vt_open(rd->t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	key(rd, "t");
	hga_vt_str(rd->t, HGA_NO_NAME, hga_str(tag));
	key(rd, "v");
	switch (prim_of(hga_str(tag))) {
	case P_STRING:
		r = add_string(rd, err);
		break;
	case P_INT:
		r = add_int(rd, err);
		break;
	case P_BOOL:
		r = add_bool(rd, err);
		break;
	case P_TEXT:
		r = tape(rd,
		         hga_vt_str(rd->t, HGA_NO_NAME,
		                    hga_str_trim(hga_buf_str(&rd->text))),
		         err);
		break;
	case P_NONE:
		break;
	}
	return r < 0 ? r : tape(rd, hga_vt_close(rd->t), err);
}

static int end_type(struct reader *rd, struct hga_err *err)
{
	struct hga_buf *n = &rd->names;
	int r;

	if (memchr(hga_buf_text(&rd->text), '\0', rd->text.len) != NULL)
		return malformed(err, "bad type name");
	r = hga_buf_addstr(n, hga_buf_str(&rd->text), err);
	if (r == 0)
		r = hga_buf_addc(n, '\0', err);
	if (r < 0)
		return r;
	rd->tns[rd->n_tns - 1].to = n->len;
	return tape(rd, hga_vt_str(rd->t, HGA_NO_NAME, hga_buf_str(&rd->text)),
	            err);
}

static int on_end(void *data, struct hga_str tag, struct hga_err *err)
{
	struct reader *rd = data;
	struct frame *f = &rd->stack[rd->depth];
	int r = 0;

	(void)tag; /* expat pairs them */
	rd->depth--;
	switch (f->what) {
	case W_ENTRY:
		if (f->n != 2)
			return malformed(err, "entry is not key and value");
		r = tape(rd, hga_vt_close(rd->t), err);
		break;
	case W_ITEMS:
	case W_OBJ:
	case W_MEMBERS:
	case W_DICT:
	case W_TYPES:
		r = tape(rd, hga_vt_close(rd->t), err);
		break;
	case W_TYPE:
		r = end_type(rd, err);
		break;
	case W_STRING:
		r = add_string(rd, err);
		break;
	case W_PRIM:
		r = end_prim(rd, f->tag, err);
		break;
	case W_ROOT:
	case W_TYPEREF:
	case W_VOID:
	case W_SKIP:
		break;
	}
	hga_buf_clear(&rd->text);
	return r;
}

static int parse(struct hga_str xml, const struct hga_xml_fns *fns, void *data,
                 struct hga_err *err)
{
	struct hga_xml *x = hga_xml_new(fns, data);
	int r;

	if (x == NULL)
		return hga_fail_mem(err);
	hga_xml_limit_text(x, HGA_CLIXML_TEXT);
	r = hga_xml_feed(x, xml.s, xml.n, err);
	if (r == 0)
		r = hga_xml_end(x, err);
	hga_xml_free(x);
	return r;
}

int hga_clixml_read(struct hga_str xml, struct hga_vtape *out,
                    struct hga_err *err)
{
	static const struct hga_xml_fns fns = {on_start, on_text, on_end};
	struct reader *rd;
	int r;

	if (hga_str_starts(xml, "\xef\xbb\xbf"))
		xml = rest(xml, 3);
	if (hga_str_trim(xml).n == 0)
		return hga_vt_null(out, HGA_NO_NAME) < 0 ? hga_fail_mem(err)
		                                         : 0;
	rd = hga_calloc(1, sizeof(*rd));
	if (rd == NULL)
		return hga_fail_mem(err);
	rd->t = out;
	hga_buf_init(&rd->text, HGA_CLIXML_TEXT);
	hga_buf_init(&rd->plain, HGA_CLIXML_TEXT);
	hga_buf_init(&rd->names, HGA_CLIXML_TEXT);
	r = parse(xml, &fns, rd, err);
	if (r == 0)
		r = hga_vt_end(out, err);
	hga_buf_release(&rd->text);
	hga_buf_release(&rd->plain);
	hga_buf_release(&rd->names);
	hga_free(rd->tns);
	hga_free(rd);
	return r;
}

/* ---- stderr of powershell.exe ---- */

struct errors {
	struct hga_buf *out, text;
	unsigned depth;
	bool in;
};

static int err_start(void *data, struct hga_str tag,
                     const struct hga_xml_attr *a, size_t n,
                     struct hga_err *err)
{
	struct errors *e = data;

	(void)err;
	e->depth++;
	e->in = e->depth == 2 && hga_str_eqc(tag, "S") &&
	        hga_str_ieqc(attr(a, n, "S"), "Error");
	return 0;
}

static int err_text(void *data, struct hga_str text, struct hga_err *err)
{
	struct errors *e = data;

	return e->in ? hga_buf_addstr(&e->text, text, err) : 0;
}

static int err_end(void *data, struct hga_str tag, struct hga_err *err)
{
	struct errors *e = data;
	int r = 0;

	(void)tag;
	if (e->in)
		r = hga_clixml_unescape(e->out, hga_buf_str(&e->text), err);
	e->in = false;
	e->depth--;
	hga_buf_clear(&e->text);
	return r;
}

int hga_clixml_stderr(struct hga_str text, struct hga_buf *out,
                      struct hga_err *err)
{
	static const struct hga_xml_fns fns = {err_start, err_text, err_end};
	struct errors e = {.out = out};
	size_t start = out->len;
	ptrdiff_t at =
	    hga_str_starts(text, "#< CLIXML") ? hga_str_chr(text, '<', 2) : -1;
	int r;

	if (at < 0)
		return hga_buf_addstr(out, text, err);
	hga_buf_init(&e.text, HGA_CLIXML_TEXT);
	r = parse(rest(text, (size_t)at), &fns, &e, err);
	hga_buf_release(&e.text);
	if (r != -HGA_PROTOCOL)
		return r;
	/* Cut or followed by something else: better all of it than nothing. */
	hga_buf_truncate(out, start);
	return hga_buf_addstr(out, text, err);
}
