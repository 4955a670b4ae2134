/*
 * Comparison of XML documents: canonical text without blank text, attributes
 * sorted, neighbouring entries of maps sorted (their order is free).
 */
#ifndef HGA_TEST_VEC_XML_H
#define HGA_TEST_VEC_XML_H

#include "vec.h"

#include "base/xml.h"

#define VX_DEPTH 64
#define VX_KIDS 256

struct vx_level {
	char *head; /* "<name attr...>" */
	char *name;
	char *kids[VX_KIDS], *kid_names[VX_KIDS];
	bool entries[VX_KIDS]; /* the child looks like a map entry */
	size_t n;
	struct hga_buf text;
};

struct vx {
	struct vx_level lv[VX_DEPTH];
	size_t n;
	char *result;
};

VEC_UNUSED static int vx_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

VEC_UNUSED static int vx_start(void *data, struct hga_str name,
                               const struct hga_xml_attr *attrs, size_t n,
                               struct hga_err *err)
{
	struct vx *x = data;
	struct vx_level *l = &x->lv[x->n++];
	char *v[64];
	struct hga_buf b;
	size_t i;

	(void)err;
	memset(l, 0, sizeof(*l));
	hga_buf_init(&l->text, 1 << 20);
	hga_buf_init(&b, 1 << 20);
	for (i = 0; i < n; i++) {
		char one[2048];

		snprintf(one, sizeof(one), " %.*s=\"%.*s\"",
		         HGA_STRF(attrs[i].name), HGA_STRF(attrs[i].value));
		v[i] = hga_strdup(one);
	}
	qsort(v, n, sizeof(v[0]), vx_cmp);
	(void)!hga_buf_addf(&b, NULL, "<%.*s", HGA_STRF(name));
	for (i = 0; i < n; i++) {
		(void)!hga_buf_adds(&b, v[i], NULL);
		hga_free(v[i]);
	}
	(void)!hga_buf_addc(&b, '>', NULL);
	l->head = hga_buf_move(&b);
	l->name = hga_memdup0(name.s, name.n);
	return 0;
}

VEC_UNUSED static int vx_text(void *data, struct hga_str text,
                              struct hga_err *err)
{
	struct vx *x = data;

	return hga_buf_addstr(&x->lv[x->n - 1].text, text, err);
}

/* Two children in an element called entry, or the first of them a key. */
VEC_UNUSED static bool vx_is_entry(const struct vx_level *l)
{
	return l->n == 2 && (strcmp(l->name, "entry") == 0 ||
	                     strcmp(l->kid_names[0], "key") == 0 ||
	                     strcmp(l->kid_names[0], "K") == 0 ||
	                     strcmp(l->kid_names[0], "foo") == 0);
}

VEC_UNUSED static void vx_sort_entries(struct vx_level *l)
{
	size_t i = 0;

	while (i < l->n) {
		size_t j = i;

		while (j < l->n && l->entries[j] &&
		       strcmp(l->kid_names[j], l->kid_names[i]) == 0)
			j++;
		qsort(&l->kids[i], j - i, sizeof(l->kids[0]), vx_cmp);
		i = j > i ? j : i + 1;
	}
}

VEC_UNUSED static int vx_end(void *data, struct hga_str name,
                             struct hga_err *err)
{
	struct vx *x = data;
	struct vx_level *l = &x->lv[--x->n], *up;
	bool entry = vx_is_entry(l);
	struct hga_buf b;
	size_t i;

	(void)err;
	hga_buf_init(&b, 1 << 24);
	vx_sort_entries(l);
	(void)!hga_buf_adds(&b, l->head, NULL);
	for (i = 0; i < l->n; i++) {
		(void)!hga_buf_adds(&b, l->kids[i], NULL);
		hga_free(l->kids[i]);
		hga_free(l->kid_names[i]);
	}
	if (l->n == 0)
		(void)!hga_buf_addstr(&b, hga_buf_str(&l->text), NULL);
	(void)!hga_buf_addf(&b, NULL, "</%.*s>", HGA_STRF(name));
	hga_free(l->head);
	hga_buf_release(&l->text);
	if (x->n == 0) {
		hga_free(l->name);
		x->result = hga_buf_move(&b);
		return 0;
	}
	up = &x->lv[x->n - 1];
	if (up->n == VX_KIDS)
		abort();
	up->entries[up->n] = entry;
	up->kid_names[up->n] = l->name;
	up->kids[up->n++] = hga_buf_move(&b);
	return 0;
}

/* Canonical text (hga_free) or NULL. */
VEC_UNUSED static char *vec_xml(struct hga_str doc)
{
	static const struct hga_xml_fns fns = {vx_start, vx_text, vx_end};
	static struct vx x;
	struct hga_xml *p = hga_xml_new(&fns, &x);
	bool good;

	memset(&x, 0, sizeof(x));
	doc = hga_str_trim(doc);
	good = hga_xml_feed(p, doc.s, doc.n, NULL) == 0 &&
	       hga_xml_end(p, NULL) == 0;
	hga_xml_free(p);
	return good ? x.result : NULL;
}

VEC_UNUSED static bool vec_xml_equal(struct hga_str a, struct hga_str b)
{
	char *x = vec_xml(a), *y = vec_xml(b);
	bool same = x != NULL && y != NULL && strcmp(x, y) == 0;

	hga_free(x);
	hga_free(y);
	return same;
}

#endif
