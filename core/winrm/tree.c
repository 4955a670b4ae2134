/*
 * XML to a value; the limits are base/xml's, with longer texts.
 */
#include "winrm/tree.h"

#include "base/xml.h"

#define TEXT_MAX ((size_t)64 * 1024 * 1024)

struct tree {
	struct hga_vtape *t;
	struct hga_buf text;
};

static int flush(struct tree *t)
{
	int r = 0;

	if (hga_str_trim(hga_buf_str(&t->text)).n > 0)
		r = hga_vt_str(t->t, HGA_NO_NAME, hga_buf_str(&t->text));
	hga_buf_clear(&t->text);
	return r;
}

static int check(int r, struct hga_err *err)
{
	return r < 0 ? hga_fail(err, (enum hga_kind) - r, 0, "TooLarge",
	                        "XML: document too large")
	             : 0;
}

static int on_start(void *data, struct hga_str name,
                    const struct hga_xml_attr *attrs, size_t n,
                    struct hga_err *err)
{
	struct tree *t = data;
	int r = flush(t);

	if (r < 0)
		return check(r, err);
	/* failures stick to the tape */
	(void)hga_vt_open(t->t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	(void)hga_vt_key(t->t, HGA_STR("n"));
	(void)hga_vt_str(t->t, HGA_NO_NAME, name);
	(void)hga_vt_key(t->t, HGA_STR("a"));
	(void)hga_vt_open(t->t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	for (size_t i = 0; i < n; i++) {
		(void)hga_vt_key(t->t, attrs[i].name);
		(void)hga_vt_str(t->t, HGA_NO_NAME, attrs[i].value);
	}
	(void)hga_vt_close(t->t);
	(void)hga_vt_key(t->t, HGA_STR("c"));
	return check(hga_vt_open(t->t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE),
	             err);
}

static int on_text(void *data, struct hga_str text, struct hga_err *err)
{
	struct tree *t = data;

	return hga_buf_addstr(&t->text, text, err);
}

static int on_end(void *data, struct hga_str name, struct hga_err *err)
{
	struct tree *t = data;
	int r = flush(t);

	(void)name; /* expat pairs them */
	if (r == 0)
		r = hga_vt_close(t->t);
	if (r == 0)
		r = hga_vt_close(t->t);
	return check(r, err);
}

int hga_xml_tree(struct hga_str xml, struct hga_vtape *out, struct hga_err *err)
{
	static const struct hga_xml_fns fns = {on_start, on_text, on_end};
	struct tree t = {.t = out};
	struct hga_xml *x = hga_xml_new(&fns, &t);
	int r;

	if (x == NULL)
		return hga_fail_mem(err);
	hga_buf_init(&t.text, TEXT_MAX);
	hga_xml_limit_text(x, TEXT_MAX);
	r = hga_xml_feed(x, xml.s, xml.n, err);
	if (r == 0)
		r = hga_xml_end(x, err);
	if (r == 0)
		r = hga_vt_end(out, err);
	hga_xml_free(x);
	hga_buf_release(&t.text);
	return r;
}
