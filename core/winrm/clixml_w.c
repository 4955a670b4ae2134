/*
 * Writing CLIXML ([MS-PSRP] 2.2.5): plain and neutral values of a tape.
 * Recursion is bounded by HGA_CLIXML_WRITE_DEPTH.
 */
#include "winrm/clixml.h"

#include "base/mem.h"
#include "base/xml.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- text ---- */

static int add_group(struct hga_buf *out, unsigned unit, struct hga_err *err)
{
	return hga_buf_addf(out, err, "_x%04X_", unit);
}

static int add_astral(struct hga_buf *out, uint32_t cp, struct hga_err *err)
{
	int r = add_group(out, 0xd800 + ((cp - 0x10000) >> 10), err);

	return r < 0 ? r
	             : add_group(out, 0xdc00 + ((cp - 0x10000) & 0x3ff), err);
}

static bool needs_group(struct hga_str s, size_t i, uint32_t cp)
{
	if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp > 0xffff ||
	    cp == 0xfffe || cp == 0xffff)
		return true;
	return cp == '_' && i + 1 < s.n &&
	       (s.s[i + 1] == 'x' || s.s[i + 1] == 'X');
}

int hga_clixml_escape(struct hga_buf *out, struct hga_str text,
                      struct hga_err *err)
{
	size_t from = 0;
	int r = 0;

	for (size_t i = 0; i < text.n && r == 0;) {
		uint32_t cp;
		size_t n = hga_utf8_next(hga_strn(text.s + i, text.n - i), &cp);

		if (n == 0)
			return hga_fail(err, HGA_USAGE, 0, "Utf8",
			                "text is not UTF-8 at byte %zu; send "
			                "bytes with winrm.bytes",
			                i);
		if (needs_group(text, i, cp)) {
			r = hga_xml_escape(
			    out, hga_strn(text.s + from, i - from), err);
			if (r == 0)
				r = cp > 0xffff ? add_astral(out, cp, err)
				                : add_group(out, cp, err);
			from = i + n;
		}
		i += n;
	}
	if (r == 0)
		r = hga_xml_escape(out, hga_strn(text.s + from, text.n - from),
		                   err);
	return r;
}

/* ---- parts ---- */

void hga_cw_init(struct hga_clixml_w *w, struct hga_buf *out)
{
	memset(w, 0, sizeof(*w));
	w->out = out;
	hga_buf_init(&w->types, 1024 * 1024);
}

void hga_cw_release(struct hga_clixml_w *w)
{
	hga_buf_release(&w->types);
}

static void got(struct hga_clixml_w *w, int r)
{
	if (w->r == 0)
		w->r = r;
}

void hga_cw_raw(struct hga_clixml_w *w, const char *xml)
{
	if (w->r == 0)
		got(w, hga_buf_adds(w->out, xml, &w->err));
}

static void escaped(struct hga_clixml_w *w, struct hga_str s)
{
	if (w->r == 0)
		got(w, hga_clixml_escape(w->out, s, &w->err));
}

/* <TAG N="name"; the caller closes the tag. */
static void begin(struct hga_clixml_w *w, const char *tag, const char *name)
{
	hga_cw_raw(w, "<");
	hga_cw_raw(w, tag);
	if (name == NULL)
		return;
	hga_cw_raw(w, " N=\"");
	escaped(w, hga_str(name));
	hga_cw_raw(w, "\"");
}

static void end(struct hga_clixml_w *w, const char *tag)
{
	hga_cw_raw(w, "</");
	hga_cw_raw(w, tag);
	hga_cw_raw(w, ">");
}

void hga_cw_open(struct hga_clixml_w *w, const char *name)
{
	begin(w, "Obj", name);
	if (w->r == 0)
		got(w, hga_buf_addf(w->out, &w->err, " RefId=\"%u\">",
		                    w->next_ref++));
}

void hga_cw_close(struct hga_clixml_w *w)
{
	hga_cw_raw(w, "</Obj>");
}

/* Number of a list written before, or -1. */
static long known_types(const struct hga_clixml_w *w, const char *types)
{
	long id = 0;

	for (size_t at = 0; at < w->types.len; id++) {
		if (strcmp(w->types.data + at, types) == 0)
			return id;
		at += strlen(w->types.data + at) + 1;
	}
	return -1;
}

void hga_cw_types(struct hga_clixml_w *w, const char *types)
{
	long id = known_types(w, types);
	const char *p = types;

	if (w->r < 0)
		return;
	if (id >= 0) {
		got(w, hga_buf_addf(w->out, &w->err, "<TNRef RefId=\"%ld\"/>",
		                    id));
		return;
	}
	got(w, hga_buf_add(&w->types, types, strlen(types) + 1, &w->err));
	if (w->r == 0)
		got(w, hga_buf_addf(w->out, &w->err, "<TN RefId=\"%u\">",
		                    w->next_tn++));
	while (*p != '\0') {
		size_t n = strcspn(p, "\n");

		hga_cw_text(w, "T", NULL, hga_strn(p, n));
		p += n + (p[n] == '\n');
	}
	hga_cw_raw(w, "</TN>");
}

void hga_cw_text(struct hga_clixml_w *w, const char *tag, const char *name,
                 struct hga_str text)
{
	begin(w, tag, name);
	hga_cw_raw(w, ">");
	escaped(w, text);
	end(w, tag);
}

void hga_cw_int(struct hga_clixml_w *w, const char *tag, const char *name,
                int64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, v);
	hga_cw_text(w, tag, name, hga_str(text));
}

void hga_cw_bool(struct hga_clixml_w *w, const char *name, bool v)
{
	hga_cw_text(w, "B", name, hga_str(v ? "true" : "false"));
}

void hga_cw_nil(struct hga_clixml_w *w, const char *name)
{
	begin(w, "Nil", name);
	hga_cw_raw(w, "/>");
}

void hga_cw_enum(struct hga_clixml_w *w, const char *name, const char *type,
                 const char *text, int v)
{
	char types[256];

	snprintf(types, sizeof(types),
	         "System.Management.Automation.%s\nSystem.Enum\n"
	         "System.ValueType\nSystem.Object",
	         type);
	hga_cw_open(w, name);
	hga_cw_types(w, types);
	hga_cw_text(w, "ToString", NULL, hga_str(text));
	hga_cw_int(w, "I32", NULL, v);
	hga_cw_close(w);
}

/* ---- values ---- */

static bool deeper(struct hga_clixml_w *w)
{
	if (w->r < 0)
		return false;
	if (++w->depth <= HGA_CLIXML_WRITE_DEPTH)
		return true;
	got(w, hga_fail(&w->err, HGA_USAGE, 0, "TooDeep",
	                "value nested deeper than %u", HGA_CLIXML_WRITE_DEPTH));
	return false;
}

static void put_number(struct hga_clixml_w *w, const char *name, double v)
{
	char text[32];
	size_t n;

	if (v != v)
		n = (size_t)snprintf(text, sizeof(text), "NaN");
	else if (v > 1.7976931348623157e308)
		n = (size_t)snprintf(text, sizeof(text), "INF");
	else if (v < -1.7976931348623157e308)
		n = (size_t)snprintf(text, sizeof(text), "-INF");
	else
		n = hga_num_text(text, v);
	hga_cw_text(w, "Db", name, hga_strn(text, n));
}

static void put_bytes(struct hga_clixml_w *w, const char *name,
                      struct hga_str bytes)
{
	begin(w, "BA", name);
	hga_cw_raw(w, ">");
	if (w->r == 0)
		got(w, hga_b64_encode(w->out, bytes.s, bytes.n, &w->err));
	end(w, "BA");
}

static void put_list(struct hga_clixml_w *w, const char *name, struct hga_val v)
{
	struct hga_vit it;

	hga_cw_open(w, name);
	hga_cw_types(w, "System.Object[]\nSystem.Array\nSystem.Object");
	hga_cw_raw(w, "<LST>");
	for (it = hga_val_first(v); hga_val_more(it); it = hga_val_next(it))
		hga_cw_value(w, NULL, hga_vit_val(it));
	hga_cw_raw(w, "</LST>");
	hga_cw_close(w);
}

struct pair {
	struct hga_str key;
	struct hga_val v;
};

static int by_key(const void *a, const void *b)
{
	return hga_str_cmp(((const struct pair *)a)->key,
	                   ((const struct pair *)b)->key);
}

static struct pair *sorted(struct hga_clixml_w *w, struct hga_val v, size_t n)
{
	struct pair *pairs = hga_calloc(n ? n : 1, sizeof(*pairs));
	struct hga_vit it;
	size_t i = 0;

	if (pairs == NULL) {
		got(w, hga_fail_mem(&w->err));
		return NULL;
	}
	for (it = hga_val_first(v); hga_val_more(it) && i < n;
	     it = hga_val_next(it)) {
		struct hga_str name = hga_vit_name(&it);

		pairs[i].key = name;
		pairs[i++].v = hga_vit_val(it);
	}
	return pairs;
}

static void put_map(struct hga_clixml_w *w, const char *name, struct hga_val v)
{
	size_t n = hga_val_is(v, HGA_V_EMPTY) ? 0 : hga_val_count(v);
	struct pair *pairs = sorted(w, v, n);

	if (pairs == NULL)
		return;
	qsort(pairs, n, sizeof(*pairs), by_key);
	hga_cw_open(w, name);
	hga_cw_types(w, "System.Collections.Hashtable\nSystem.Object");
	hga_cw_raw(w, "<DCT>");
	for (size_t i = 0; i < n; i++) {
		hga_cw_raw(w, "<En>");
		hga_cw_text(w, "S", "Key", pairs[i].key);
		hga_cw_value(w, "Value", pairs[i].v);
		hga_cw_raw(w, "</En>");
	}
	hga_cw_raw(w, "</DCT>");
	hga_cw_close(w);
	hga_free(pairs);
}

static void put_typed(struct hga_clixml_w *w, const char *name,
                      struct hga_val v);

static void put_container(struct hga_clixml_w *w, const char *name,
                          struct hga_val v)
{
	struct hga_val marked = hga_val_get(v, HGA_CLIXML_MARK);

	if (!deeper(w))
		return;
	if (!hga_val_is(marked, HGA_V_NONE))
		put_typed(w, name, marked);
	else if (hga_val_is(v, HGA_V_LIST))
		put_list(w, name, v);
	else
		put_map(w, name, v);
	w->depth--;
}

void hga_cw_value(struct hga_clixml_w *w, const char *name, struct hga_val v)
{
	int64_t i;

	switch (hga_val_type(v)) {
	case HGA_V_NONE:
	case HGA_V_NULL:
		hga_cw_nil(w, name);
		break;
	case HGA_V_BOOL:
		hga_cw_bool(w, name, hga_val_bool(v, false));
		break;
	case HGA_V_INT:
		i = hga_val_int(v, 0);
		hga_cw_int(w, i >= INT32_MIN && i <= INT32_MAX ? "I32" : "I64",
		           name, i);
		break;
	case HGA_V_NUM:
		put_number(w, name, hga_val_num(v, 0));
		break;
	case HGA_V_STR:
	case HGA_V_SSTR:
		hga_cw_text(w, "S", name, hga_val_str(v));
		break;
	case HGA_V_BLOB:
		put_bytes(w, name, hga_val_str(v));
		break;
	case HGA_V_LIST:
	case HGA_V_MAP:
	case HGA_V_STRUCT:
	case HGA_V_EMPTY:
		put_container(w, name, v);
		break;
	}
}

/* ---- the neutral form ---- */

static bool simple_tag(struct hga_str tag)
{
	if (tag.n == 0 || tag.n > 10)
		return false;
	for (size_t i = 0; i < tag.n; i++)
		if (!((tag.s[i] >= 'A' && tag.s[i] <= 'Z') ||
		      (tag.s[i] >= 'a' && tag.s[i] <= 'z') ||
		      (tag.s[i] >= '0' && tag.s[i] <= '9')))
			return false;
	return true;
}

static void typed_prim(struct hga_clixml_w *w, const char *name,
                       const char *tag, struct hga_val v)
{
	char text[32];

	switch (hga_val_type(v)) {
	case HGA_V_BOOL:
		hga_cw_text(w, tag, name,
		            hga_str(hga_val_bool(v, false) ? "true" : "false"));
		break;
	case HGA_V_INT:
		hga_cw_int(w, tag, name, hga_val_int(v, 0));
		break;
	case HGA_V_NUM:
		hga_cw_text(
		    w, tag, name,
		    hga_strn(text, hga_num_text(text, hga_val_num(v, 0))));
		break;
	case HGA_V_STR:
	case HGA_V_SSTR:
	case HGA_V_BLOB:
		hga_cw_text(w, tag, name, hga_val_str(v));
		break;
	case HGA_V_NONE:
	case HGA_V_NULL:
	case HGA_V_LIST:
	case HGA_V_MAP:
	case HGA_V_STRUCT:
	case HGA_V_EMPTY:
		got(w, hga_fail(&w->err, HGA_USAGE, 0, "Typed",
		                "a typed value needs a text, number or "
		                "boolean"));
		break;
	}
}

static void typed_types(struct hga_clixml_w *w, struct hga_val types)
{
	struct hga_buf all;
	struct hga_vit it;
	int r = 0;

	hga_buf_init(&all, 65536);
	for (it = hga_val_first(types); hga_val_more(it) && r == 0;
	     it = hga_val_next(it)) {
		if (all.len > 0)
			r = hga_buf_addc(&all, '\n', &w->err);
		if (r == 0)
			r = hga_buf_addstr(&all, hga_val_str(hga_vit_val(it)),
			                   &w->err);
	}
	got(w, r);
	hga_cw_types(w, hga_buf_text(&all));
	hga_buf_release(&all);
}

static void typed_list(struct hga_clixml_w *w, struct hga_val obj)
{
	struct hga_str kind = hga_val_str(hga_val_get(obj, "kind"));
	struct hga_val list = hga_val_get(obj, "list");
	char tag[12];
	struct hga_vit it;

	snprintf(tag, sizeof(tag), "%.*s",
	         HGA_STRF(simple_tag(kind) ? kind : HGA_STR("LST")));
	begin(w, tag, NULL);
	hga_cw_raw(w, ">");
	for (it = hga_val_first(list); hga_val_more(it); it = hga_val_next(it))
		put_typed(w, NULL, hga_vit_val(it));
	end(w, tag);
}

static void typed_dict(struct hga_clixml_w *w, struct hga_val dict)
{
	struct hga_vit it;

	hga_cw_raw(w, "<DCT>");
	for (it = hga_val_first(dict); hga_val_more(it);
	     it = hga_val_next(it)) {
		struct hga_val pair = hga_vit_val(it);

		hga_cw_raw(w, "<En>");
		put_typed(w, "Key", hga_val_at(pair, 0));
		put_typed(w, "Value", hga_val_at(pair, 1));
		hga_cw_raw(w, "</En>");
	}
	hga_cw_raw(w, "</DCT>");
}

static void typed_members(struct hga_clixml_w *w, const char *tag,
                          struct hga_val members)
{
	struct hga_vit it;

	begin(w, tag, NULL);
	hga_cw_raw(w, ">");
	for (it = hga_val_first(members); hga_val_more(it) && w->r == 0;
	     it = hga_val_next(it)) {
		struct hga_str key = hga_vit_name(&it);
		char *name = hga_memdup0(key.s, key.n);

		if (name == NULL)
			got(w, hga_fail_mem(&w->err));
		else
			put_typed(w, name, hga_vit_val(it));
		hga_free(name);
	}
	end(w, tag);
}

static void typed_obj(struct hga_clixml_w *w, const char *name,
                      struct hga_val v)
{
	static const char *const keys[] = {"types", "str",   "base", "dict",
	                                   "list",  "props", "ext"};
	struct hga_val part;

	hga_cw_open(w, name);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		part = hga_val_get(v, keys[i]);
		if (hga_val_is(part, HGA_V_NONE))
			continue;
		switch (i) {
		case 0:
			typed_types(w, part);
			break;
		case 1:
			hga_cw_text(w, "ToString", NULL, hga_val_str(part));
			break;
		case 2:
			put_typed(w, NULL, part);
			break;
		case 3:
			typed_dict(w, part);
			break;
		case 4:
			typed_list(w, v);
			break;
		default:
			typed_members(w, i == 5 ? "Props" : "MS", part);
			break;
		}
	}
	hga_cw_close(w);
}

static void put_typed(struct hga_clixml_w *w, const char *name,
                      struct hga_val v)
{
	struct hga_str t = hga_val_str(hga_val_get(v, "t"));
	struct hga_val bytes = hga_val_get(v, "bytes");
	char tag[12];

	if (!deeper(w))
		return;
	if (hga_val_is(v, HGA_V_NULL) || hga_val_is(v, HGA_V_NONE))
		hga_cw_nil(w, name);
	else if (hga_val_is(v, HGA_V_LIST) || hga_val_is(v, HGA_V_EMPTY))
		put_list(w, name, v);
	else if (hga_str_eqc(t, "Obj"))
		typed_obj(w, name, v);
	else if (!hga_val_is(bytes, HGA_V_NONE))
		put_bytes(w, name, hga_val_str(bytes));
	else if (!simple_tag(t) || hga_str_eqc(t, "Ref"))
		got(w,
		    hga_fail(&w->err, HGA_USAGE, 0, "Typed",
		             "not a type that can be sent: %.*s", HGA_STRF(t)));
	else {
		snprintf(tag, sizeof(tag), "%.*s", HGA_STRF(t));
		typed_prim(w, name, tag, hga_val_get(v, "v"));
	}
	w->depth--;
}

static int finish(struct hga_clixml_w *w, struct hga_err *err)
{
	if (w->r < 0 && err != NULL)
		*err = w->err;
	hga_cw_release(w);
	return w->r;
}

int hga_clixml_write(struct hga_val v, struct hga_buf *out, struct hga_err *err)
{
	struct hga_clixml_w w;

	hga_cw_init(&w, out);
	hga_cw_value(&w, NULL, v);
	return finish(&w, err);
}

int hga_clixml_write_typed(struct hga_val v, struct hga_buf *out,
                           struct hga_err *err)
{
	struct hga_clixml_w w;

	hga_cw_init(&w, out);
	put_typed(&w, NULL, v);
	return finish(&w, err);
}
