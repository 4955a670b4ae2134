/*
 * Builder of the model image's bytes; format: aws/image.h.
 */
#include "aws/modelw.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define SECTION_MAX (256u * 1024 * 1024)

static const uint16_t record_size[HGA_IMG_NSECTIONS] = {
    [HGA_IMG_SVCS] = sizeof(struct hga_img_svc),
    [HGA_IMG_OPS] = sizeof(struct hga_img_op),
    [HGA_IMG_SHAPES] = sizeof(struct hga_img_shape),
    [HGA_IMG_SEXTS] = sizeof(struct hga_img_sext),
    [HGA_IMG_MEMBERS] = sizeof(struct hga_img_member),
    [HGA_IMG_MEXTS] = sizeof(struct hga_img_mext),
    [HGA_IMG_U16S] = 2,
    [HGA_IMG_U32S] = 4,
    [HGA_IMG_WAITERS] = sizeof(struct hga_img_waiter),
    [HGA_IMG_ACCS] = sizeof(struct hga_img_acceptor),
    [HGA_IMG_PAGES] = sizeof(struct hga_img_page),
    [HGA_IMG_DOCS] = sizeof(struct hga_img_range),
    [HGA_IMG_DOCTEXT] = 1,
    [HGA_IMG_STROFF] = 4,
    [HGA_IMG_STRTEXT] = 1,
};

/* Offsets of the string ids in a record, ended by NO_MORE. */
#define NO_MORE 0xffff
#define S(f) offsetof(struct hga_img_svc, f)
static const uint16_t ids_svc[] = {
    S(name),   S(id),      S(prefix), S(signing), S(version),
    S(target), S(jsonver), S(xmlns),  S(global),  NO_MORE};
#undef S
#define S(f) offsetof(struct hga_img_op, f)
static const uint16_t ids_op[] = {
    S(name),        S(snake),           S(method),  S(uri),
    S(wrapper),     S(host_prefix),     S(in_name), S(in_ns),
    S(in_nsprefix), S(checksum_member), NO_MORE};
#undef S
#define S(f) offsetof(struct hga_img_sext, f)
static const uint16_t ids_sext[] = {S(loc), S(ns), S(nsprefix), S(code),
                                    NO_MORE};
#undef S
#define S(f) offsetof(struct hga_img_mext, f)
static const uint16_t ids_mext[] = {S(loc), S(ns), S(nsprefix), S(context),
                                    NO_MORE};
#undef S
#define S(f) offsetof(struct hga_img_member, f)
static const uint16_t ids_member[] = {S(name), S(wire), S(sent), NO_MORE};
#undef S
#define S(f) offsetof(struct hga_img_waiter, f)
static const uint16_t ids_waiter[] = {S(name), S(snake), NO_MORE};
#undef S
#define S(f) offsetof(struct hga_img_acceptor, f)
static const uint16_t ids_acc[] = {S(argument), S(text), NO_MORE};
#undef S
#define S(f) offsetof(struct hga_img_page, f)
static const uint16_t ids_page[] = {S(limit_key), S(more_results), NO_MORE};
#undef S
static const uint16_t ids_first[] = {0, NO_MORE};

static const uint16_t *const ids_of[HGA_IMG_NSECTIONS] = {
    [HGA_IMG_SVCS] = ids_svc,       [HGA_IMG_OPS] = ids_op,
    [HGA_IMG_SHAPES] = ids_first,   [HGA_IMG_SEXTS] = ids_sext,
    [HGA_IMG_MEMBERS] = ids_member, [HGA_IMG_MEXTS] = ids_mext,
    [HGA_IMG_U32S] = ids_first,     [HGA_IMG_WAITERS] = ids_waiter,
    [HGA_IMG_ACCS] = ids_acc,       [HGA_IMG_PAGES] = ids_page,
};

_Static_assert(offsetof(struct hga_img_shape, name) == 0,
               "ids_first fits shapes");

void hga_modelw_init(struct hga_modelw *w)
{
	size_t i;

	memset(w, 0, sizeof(*w));
	for (i = 0; i < HGA_IMG_NSECTIONS; i++)
		hga_buf_init(&w->sections[i], SECTION_MAX);
	hga_buf_init(&w->text, SECTION_MAX);
	w->partitions = HGA_IMG_NONE;
}

void hga_modelw_release(struct hga_modelw *w)
{
	size_t i;

	for (i = 0; i < HGA_IMG_NSECTIONS; i++)
		hga_buf_release(&w->sections[i]);
	hga_buf_release(&w->text);
	hga_free(w->strs);
	hga_free(w->slots);
	w->strs = NULL;
	w->slots = NULL;
}

/* ---- strings ---- */

static uint32_t hash_of(struct hga_str t)
{
	uint32_t h = 2166136261u;
	size_t i;

	for (i = 0; i < t.n; i++)
		h = (h ^ (unsigned char)t.s[i]) * 16777619u;
	return h;
}

static struct hga_str str_of(const struct hga_modelw *w, uint32_t id)
{
	return hga_strn(w->text.data + w->strs[id].at, w->strs[id].n);
}

static int grow_slots(struct hga_modelw *w)
{
	uint32_t i, n = w->n_slots == 0 ? 4096 : w->n_slots * 2;
	uint32_t *v = hga_calloc(n, sizeof(*v));

	if (v == NULL)
		return hga_fail_mem(&w->err);
	for (i = 0; i < w->n_strs; i++) {
		uint32_t at = hash_of(str_of(w, i)) & (n - 1);

		while (v[at] != 0)
			at = (at + 1) & (n - 1);
		v[at] = i + 1;
	}
	hga_free(w->slots);
	w->slots = v;
	w->n_slots = n;
	return 0;
}

static int grow_strs(struct hga_modelw *w)
{
	uint32_t cap = w->cap_strs == 0 ? 2048 : w->cap_strs * 2;
	struct hga_modelw_str *v;

	v = hga_realloc(w->strs, (size_t)cap * sizeof(*v));
	if (v == NULL)
		return hga_fail_mem(&w->err);
	w->strs = v;
	w->cap_strs = cap;
	return 0;
}

static uint32_t add_str(struct hga_modelw *w, struct hga_str t, uint32_t slot)
{
	struct hga_modelw_str s;

	if (w->n_strs == w->cap_strs && grow_strs(w) < 0)
		return HGA_IMG_NONE;
	s.at = (uint32_t)w->text.len; /* below SECTION_MAX */
	s.n = (uint32_t)t.n;
	if (hga_buf_addstr(&w->text, t, &w->err) < 0)
		return HGA_IMG_NONE;
	w->strs[w->n_strs] = s;
	w->slots[slot] = ++w->n_strs;
	return w->n_strs - 1;
}

uint32_t hga_modelw_str(struct hga_modelw *w, struct hga_str t)
{
	uint32_t at;

	if (w->err.kind != HGA_OK || t.s == NULL)
		return HGA_IMG_NONE;
	if (w->n_strs * 2 >= w->n_slots && grow_slots(w) < 0)
		return HGA_IMG_NONE;
	at = hash_of(t) & (w->n_slots - 1);
	while (w->slots[at] != 0) {
		if (hga_str_eq(str_of(w, w->slots[at] - 1), t))
			return w->slots[at] - 1;
		at = (at + 1) & (w->n_slots - 1);
	}
	return add_str(w, t, at);
}

/* ---- sections ---- */

uint32_t hga_modelw_count(const struct hga_modelw *w, enum hga_img_section s)
{
	return (uint32_t)(w->sections[s].len / record_size[s]);
}

uint32_t hga_modelw_add(struct hga_modelw *w, enum hga_img_section s,
                        const void *record)
{
	uint32_t i = hga_modelw_count(w, s);

	if (w->err.kind != HGA_OK)
		return HGA_IMG_NONE;
	if (hga_buf_add(&w->sections[s], record, record_size[s], &w->err) < 0)
		return HGA_IMG_NONE;
	return i;
}

uint32_t hga_modelw_doc(struct hga_modelw *w, struct hga_str json)
{
	struct hga_buf *text = &w->sections[HGA_IMG_DOCTEXT];
	struct hga_img_range r;

	r.at = (uint32_t)text->len; /* below SECTION_MAX */
	r.n = (uint32_t)json.n;
	if (w->err.kind != HGA_OK || hga_buf_addstr(text, json, &w->err) < 0)
		return HGA_IMG_NONE;
	return hga_modelw_add(w, HGA_IMG_DOCS, &r);
}

static void *records(struct hga_modelw *w, enum hga_img_section s)
{
	return w->sections[s].data;
}

/* ---- end: strings sorted and renumbered ---- */

struct order {
	struct hga_str text;
	uint32_t id;
};

static int by_text(const void *a, const void *b)
{
	const struct order *x = a, *y = b;

	return hga_str_cmp(x->text, y->text);
}

static void renumber(struct hga_modelw *w, const uint32_t *map)
{
	size_t s, i;

	for (s = 0; s < HGA_IMG_NSECTIONS; s++) {
		unsigned char *p = (unsigned char *)w->sections[s].data;
		size_t n = w->sections[s].len / record_size[s];
		const uint16_t *f;

		if (ids_of[s] == NULL)
			continue;
		for (i = 0; i < n; i++, p += record_size[s]) {
			for (f = ids_of[s]; *f != NO_MORE; f++) {
				uint32_t id;

				memcpy(&id, p + *f, sizeof(id));
				if (id == HGA_IMG_NONE)
					continue;
				memcpy(p + *f, &map[id], sizeof(id));
			}
		}
	}
}

static int write_strings(struct hga_modelw *w, const struct order *v)
{
	struct hga_buf *text = &w->sections[HGA_IMG_STRTEXT];
	uint32_t i, off = 0;

	(void)hga_modelw_add(w, HGA_IMG_STROFF, &off); /* sticks in err */
	for (i = 0; i < w->n_strs && w->err.kind == HGA_OK; i++) {
		if (hga_buf_addstr(text, v[i].text, &w->err) < 0 ||
		    hga_buf_addc(text, '\0', &w->err) < 0)
			break;
		off = (uint32_t)text->len;
		(void)hga_modelw_add(w, HGA_IMG_STROFF, &off);
	}
	return -(int)w->err.kind;
}

static int sort_strings(struct hga_modelw *w)
{
	struct order *v = hga_calloc((size_t)w->n_strs + 1, sizeof(*v));
	uint32_t *map = hga_calloc((size_t)w->n_strs + 1, sizeof(*map));
	uint32_t i;
	int rc = 0;

	if (v == NULL || map == NULL) {
		rc = hga_fail_mem(&w->err);
		goto out;
	}
	for (i = 0; i < w->n_strs; i++) {
		v[i].text = str_of(w, i);
		v[i].id = i;
	}
	qsort(v, w->n_strs, sizeof(*v), by_text);
	for (i = 0; i < w->n_strs; i++)
		map[v[i].id] = i;
	renumber(w, map);
	rc = write_strings(w, v);
out:
	hga_free(v);
	hga_free(map);
	return rc;
}

/* ---- end: permutations ---- */

struct pair {
	uint32_t key;
	uint16_t i;
};

static int by_key(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->i < y->i ? -1 : x->i > y->i;
}

static int by_u32(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* out[0..n) = order of the keys found every stride bytes from p on. */
static void permute(struct pair *tmp, const void *p, size_t stride, uint32_t n,
                    uint16_t *out)
{
	const unsigned char *b = p;
	uint32_t i;

	for (i = 0; i < n; i++) {
		memcpy(&tmp[i].key, b + i * stride, sizeof(tmp[i].key));
		tmp[i].i = (uint16_t)i; /* n <= 0xffff */
	}
	qsort(tmp, n, sizeof(*tmp), by_key);
	for (i = 0; i < n; i++)
		out[i] = tmp[i].i;
}

static void sort_shape(struct hga_modelw *w, const struct hga_img_shape *s,
                       struct pair *tmp)
{
	const struct hga_img_member *m = records(w, HGA_IMG_MEMBERS);
	uint16_t *u16s = records(w, HGA_IMG_U16S);
	uint32_t *u32s = records(w, HGA_IMG_U32S);
	uint32_t n = s->members.n;

	if (s->enums.n > 0)
		qsort(u32s + s->enums.at, s->enums.n, 4, by_u32);
	if (s->type != HGA_T_STRUCT || n == 0)
		return;
	m += s->members.at;
	permute(tmp, &m->name, sizeof(*m), n, u16s + s->perms);
	permute(tmp, &m->wire, sizeof(*m), n, u16s + s->perms + n);
}

static int sort_rest(struct hga_modelw *w)
{
	struct pair *tmp = hga_calloc(0x10000, sizeof(*tmp));
	const struct hga_img_svc *svcs = records(w, HGA_IMG_SVCS);
	const struct hga_img_shape *shapes = records(w, HGA_IMG_SHAPES);
	const struct hga_img_op *ops = records(w, HGA_IMG_OPS);
	uint16_t *u16s = records(w, HGA_IMG_U16S);
	uint32_t i;

	if (tmp == NULL)
		return hga_fail_mem(&w->err);
	for (i = 0; i < hga_modelw_count(w, HGA_IMG_SHAPES); i++)
		sort_shape(w, shapes + i, tmp);
	for (i = 0; i < hga_modelw_count(w, HGA_IMG_SVCS); i++)
		if (svcs[i].ops.n > 0)
			permute(tmp, &ops[svcs[i].ops.at].snake, sizeof(*ops),
			        svcs[i].ops.n, u16s + svcs[i].snakes);
	hga_free(tmp);
	return 0;
}

static int by_svc_name(const void *a, const void *b)
{
	const struct hga_img_svc *x = a, *y = b;

	return x->name < y->name ? -1 : x->name > y->name;
}

/* ---- end: layout ---- */

static int write_sections(struct hga_modelw *w, struct hga_img_header *h,
                          struct hga_buf *out, struct hga_err *err)
{
	static const char zeros[8] = {0};
	size_t i;
	int rc;

	for (i = 0; i < HGA_IMG_NSECTIONS; i++) {
		size_t pad = -out->len & 7;

		rc = hga_buf_add(out, zeros, pad, err);
		if (rc < 0)
			return rc;
		h->sections[i].at = (uint32_t)out->len;
		h->sections[i].n = (uint32_t)w->sections[i].len;
		rc = hga_buf_addstr(out, hga_buf_str(&w->sections[i]), err);
		if (rc < 0)
			return rc;
	}
	if (out->len > 0x7fffffff)
		return hga_fail(err, HGA_PROTOCOL, 0, "Model",
		                "model image: over 2 GiB");
	h->size = (uint32_t)out->len;
	return 0;
}

int hga_modelw_finish(struct hga_modelw *w, const char *hash,
                      struct hga_buf *out, struct hga_err *err)
{
	struct hga_img_header h = {
	    .magic = HGA_IMG_MAGIC,
	    .format = HGA_IMG_FORMAT,
	    .endian = HGA_IMG_ENDIAN,
	};
	int rc;

	if (w->err.kind != HGA_OK || sort_strings(w) < 0 || sort_rest(w) < 0) {
		if (err != NULL)
			*err = w->err;
		return -(int)w->err.kind;
	}
	if (hga_modelw_count(w, HGA_IMG_SVCS) > 1)
		qsort(records(w, HGA_IMG_SVCS),
		      hga_modelw_count(w, HGA_IMG_SVCS),
		      sizeof(struct hga_img_svc), by_svc_name);
	h.partitions = w->partitions;
	memcpy(h.hash, hash, sizeof(h.hash));
	rc = hga_buf_add(out, &h, sizeof(h), err);
	if (rc == 0)
		rc = write_sections(w, &h, out, err);
	if (rc == 0)
		memcpy(out->data, &h, sizeof(h));
	return rc;
}
