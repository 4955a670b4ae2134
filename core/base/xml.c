/*
 * XML push parser: expat with limits (aws.md section 11).  A failing callback
 * stops expat; its error is kept until the feeding function returns.
 */
#include "base/xml.h"

#include "base/mem.h"

#include <string.h>

#include <expat.h>

#define TOKEN_MAX (2 * 1024 * 1024)
#define FEED_MAX (1024 * 1024) /* expat takes int lengths */

struct hga_xml {
	const struct hga_xml_fns *fns;
	void *data;
	XML_Parser p;
	unsigned depth;
	size_t text; /* bytes since the last tag */
	size_t text_max;
	bool owns; /* start may say HGA_XML_OWN */
	bool own;  /* it did, nothing came since */
	uint64_t fed;
	int r;
	struct hga_err err;
};

static const XML_Memory_Handling_Suite memory = {hga_alloc, hga_realloc,
                                                 hga_free};

static void stop(struct hga_xml *x, int r)
{
	if (x->r == 0)
		x->r = r;
	/* fails only when stopped already */
	(void)XML_StopParser(x->p, XML_FALSE);
}

/* hga_fail with the place in the document. */
static void refuse(struct hga_xml *x, const char *code, const char *what)
{
	if (x->r != 0)
		return;
	stop(x, hga_fail(&x->err, HGA_PROTOCOL, 0, code,
	                 "XML: %s at line %lu column %lu", what,
	                 (unsigned long)XML_GetCurrentLineNumber(x->p),
	                 (unsigned long)XML_GetCurrentColumnNumber(x->p)));
}

static struct hga_str local_name(const char *name)
{
	const char *colon = strrchr(name, ':');

	return hga_str(colon != NULL && colon[1] != '\0' ? colon + 1 : name);
}

static void XMLCALL on_start(void *data, const char *name, const char **atts)
{
	struct hga_xml_attr attrs[HGA_XML_ATTRS];
	struct hga_xml *x = data;
	size_t n = 0;
	int r = 0;

	x->text = 0;
	x->own = false;
	if (++x->depth > HGA_XML_DEPTH) {
		refuse(x, "TooDeep", "elements nested deeper than 64");
		return;
	}
	for (; atts[2 * n] != NULL; n++) {
		if (n == HGA_XML_ATTRS) {
			refuse(x, "TooLarge", "more than 64 attributes");
			return;
		}
		attrs[n].name = hga_str(atts[2 * n]);
		attrs[n].value = hga_str(atts[2 * n + 1]);
	}
	if (x->r == 0 && x->fns->start != NULL)
		r = x->fns->start(x->data, local_name(name), attrs, n, &x->err);
	if (r < 0)
		stop(x, r);
	x->own = r == HGA_XML_OWN && x->owns;
}

static void XMLCALL on_end(void *data, const char *name)
{
	struct hga_xml *x = data;
	int r = 0;

	x->text = 0;
	x->own = false;
	x->depth--;
	if (x->r == 0 && x->fns->end != NULL)
		r = x->fns->end(x->data, local_name(name), &x->err);
	if (r < 0)
		stop(x, r);
}

static void XMLCALL on_text(void *data, const char *s, int n)
{
	struct hga_xml *x = data;
	int r = 0;

	x->own = false;
	x->text += (size_t)n; /* expat never gives a negative length */
	if (x->text > x->text_max) {
		refuse(x, "TooLarge", "text too long");
		return;
	}
	if (x->r == 0 && x->fns->text != NULL)
		r = x->fns->text(x->data, hga_strn(s, (size_t)n), &x->err);
	if (r < 0)
		stop(x, r);
}

static void XMLCALL on_doctype(void *data, const char *name, const char *sysid,
                               const char *pubid, int internal)
{
	(void)name;
	(void)sysid;
	(void)pubid;
	(void)internal;
	refuse(data, "Doctype", "document type refused");
}

static void XMLCALL on_entity(void *data, const char *name, int parameter,
                              const char *value, int len, const char *base,
                              const char *sysid, const char *pubid,
                              const char *notation)
{
	(void)name;
	(void)parameter;
	(void)value;
	(void)len;
	(void)base;
	(void)sysid;
	(void)pubid;
	(void)notation;
	refuse(data, "Doctype", "entity declaration refused");
}

static void XMLCALL on_instruction(void *data, const char *target,
                                   const char *text)
{
	(void)target;
	(void)text;
	refuse(data, "Instruction", "processing instruction refused");
}

struct hga_xml *hga_xml_new(const struct hga_xml_fns *fns, void *data)
{
	struct hga_xml *x = hga_calloc(1, sizeof(*x));

	if (x == NULL)
		return NULL;
	x->fns = fns;
	x->data = data;
	x->text_max = HGA_XML_TEXT;
	x->p = XML_ParserCreate_MM(NULL, &memory, NULL);
	if (x->p == NULL) {
		hga_free(x);
		return NULL;
	}
	XML_SetUserData(x->p, x);
	XML_SetElementHandler(x->p, on_start, on_end);
	XML_SetCharacterDataHandler(x->p, on_text);
	XML_SetStartDoctypeDeclHandler(x->p, on_doctype);
	XML_SetEntityDeclHandler(x->p, on_entity);
	XML_SetProcessingInstructionHandler(x->p, on_instruction);
	return x;
}

void hga_xml_free(struct hga_xml *x)
{
	if (x == NULL)
		return;
	XML_ParserFree(x->p);
	hga_free(x);
}

void hga_xml_limit_text(struct hga_xml *x, size_t max)
{
	x->text_max = max;
}

void hga_xml_own_text(struct hga_xml *x)
{
	x->owns = true;
}

unsigned hga_xml_depth(const struct hga_xml *x)
{
	return x->depth;
}

static void expat_failed(struct hga_xml *x)
{
	enum XML_Error code = XML_GetErrorCode(x->p);

	if (x->r != 0)
		return;
	if (code == XML_ERROR_NO_MEMORY)
		x->r = hga_fail_mem(&x->err);
	else
		refuse(x, "Syntax", XML_ErrorString(code));
}

/* A token that never ends would be scanned anew with each piece. */
static void check_token(struct hga_xml *x)
{
	XML_Index at = XML_GetCurrentByteIndex(x->p);

	if (at >= 0 && x->fed - (uint64_t)at > TOKEN_MAX + FEED_MAX)
		refuse(x, "TooLarge", "tag or comment too long");
}

static int result(const struct hga_xml *x, struct hga_err *err)
{
	if (x->r < 0 && err != NULL)
		*err = x->err;
	return x->r;
}

/* Own text must be bytes of ASCII: not in a document of 16-bit units. */
static void check_units(struct hga_xml *x, const char *s, size_t n)
{
	for (size_t i = 0; i < n && x->fed + i < 2; i++)
		if (s[i] == '\0' || (unsigned char)s[i] >= 0xfe)
			x->owns = false;
}

static void feed_expat(struct hga_xml *x, const char *s, size_t n)
{
	if (x->fed < 2)
		check_units(x, s, n);
	x->fed += n;
	if (XML_Parse(x->p, s, (int)n, 0) != XML_STATUS_OK) /* <= FEED_MAX */
		expat_failed(x);
	else
		check_token(x);
}

static size_t before(const char *s, char c, size_t n)
{
	const char *at = memchr(s, c, n);

	return at != NULL ? (size_t)(at - s) : n;
}

/* Text of an element that owns it; returns what of it is here. */
static size_t feed_own(struct hga_xml *x, const char *s, size_t n)
{
	size_t part = before(s, '&', before(s, '<', n));

	if (part > 0)
		on_text(x, s, (int)part); /* <= FEED_MAX */
	x->own = part == n;
	return part;
}

int hga_xml_feed(struct hga_xml *x, const void *bytes, size_t n,
                 struct hga_err *err)
{
	const char *s = bytes;

	while (n > 0 && x->r == 0) {
		size_t part = n < FEED_MAX ? n : FEED_MAX;

		if (x->own) {
			part = feed_own(x, s, part);
		} else {
			if (x->owns) { /* expat must stop behind a tag */
				size_t tag = before(s, '>', part);

				part = tag < part ? tag + 1 : part;
			}
			feed_expat(x, s, part);
			x->own = x->own && s[part - 1] == '>';
		}
		s += part;
		n -= part;
	}
	return result(x, err);
}

int hga_xml_end(struct hga_xml *x, struct hga_err *err)
{
	if (x->r == 0 && XML_Parse(x->p, "", 0, 1) != XML_STATUS_OK)
		expat_failed(x);
	return result(x, err);
}

static const char *entity(char c)
{
	switch (c) {
	case '&':
		return "&amp;";
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '"':
		return "&quot;";
	case '\'':
		return "&apos;";
	case '\r':
		return "&#13;";
	default:
		break;
	}
	if ((unsigned char)c < 0x20 && c != '\n' && c != '\t')
		return "\xef\xbf\xbd";
	return NULL;
}

int hga_xml_escape(struct hga_buf *out, struct hga_str text,
                   struct hga_err *err)
{
	size_t from = 0;
	int r = 0;

	for (size_t i = 0; i < text.n && r == 0;) {
		size_t len =
		    hga_utf8_next(hga_strn(text.s + i, text.n - i), NULL);
		const char *e = len == 0 ? "\xef\xbf\xbd" : entity(text.s[i]);

		i += len ? len : 1;
		if (e == NULL)
			continue;
		r = hga_buf_add(out, text.s + from, i - from - (len ? len : 1),
		                err);
		if (r == 0)
			r = hga_buf_adds(out, e, err);
		from = i;
	}
	if (r == 0)
		r = hga_buf_add(out, text.s + from, text.n - from, err);
	return r;
}
