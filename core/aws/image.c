/*
 * Reading of the model image: opening (with a complete check for images from
 * outside), look-ups by binary search, names.
 */
#include "aws/image.h"

#include "base/mem.h"

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "model images are little-endian and used in place"
#endif

struct hga_aws_image {
	const unsigned char *base;
	const struct hga_img_header *h;
	size_t n_svcs;
	size_t n_strings;
	struct hga_aws_svc *svcs;
};

/* Size of one record of each section. */
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

static const void *section(const struct hga_aws_image *img,
                           enum hga_img_section s)
{
	return img->base + img->h->sections[s].at;
}

static size_t count(const struct hga_aws_image *img, enum hga_img_section s)
{
	return img->h->sections[s].n / record_size[s];
}

/* ---- strings ---- */

static struct hga_str image_text(const struct hga_aws_image *img, uint32_t id)
{
	const uint32_t *off = section(img, HGA_IMG_STROFF);
	const char *text = section(img, HGA_IMG_STRTEXT);

	if (id >= img->n_strings)
		return hga_strn("", 0);
	return hga_strn(text + off[id], off[id + 1] - off[id] - 1);
}

static uint32_t image_text_find(const struct hga_aws_image *img,
                                struct hga_str text)
{
	size_t lo = 0, hi = img->n_strings;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = hga_str_cmp(image_text(img, (uint32_t)mid), text);

		if (c == 0)
			return (uint32_t)mid;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return HGA_IMG_NONE;
}

struct hga_str hga_aws_text(const struct hga_aws_svc *svc, uint32_t id)
{
	return image_text(svc->img, id);
}

const char *hga_aws_cstr(const struct hga_aws_svc *svc, uint32_t id)
{
	return image_text(svc->img, id).s;
}

uint32_t hga_aws_text_find(const struct hga_aws_svc *svc, struct hga_str text)
{
	return image_text_find(svc->img, text);
}

static const struct hga_aws_svc *of_names(const struct hga_vnames *names)
{
	/* names is the first member of the service */
	return (const struct hga_aws_svc *)(const void *)names;
}

static struct hga_str names_text(const struct hga_vnames *names, uint32_t id)
{
	return image_text(of_names(names)->img, id);
}

static uint32_t names_find(const struct hga_vnames *names, struct hga_str text)
{
	return image_text_find(of_names(names)->img, text);
}

static struct hga_str names_shape(const struct hga_vnames *names,
                                  uint16_t shape)
{
	const struct hga_aws_svc *svc = of_names(names);
	const struct hga_img_shape *s = hga_aws_shape(svc, shape);

	return s == NULL ? hga_strn("", 0) : hga_aws_text(svc, s->name);
}

static struct hga_str image_doc(const struct hga_aws_image *img, uint32_t i)
{
	const struct hga_img_range *d = section(img, HGA_IMG_DOCS);
	const char *text = section(img, HGA_IMG_DOCTEXT);

	if (i >= count(img, HGA_IMG_DOCS))
		return hga_strn("", 0);
	return hga_strn(text + d[i].at, d[i].n);
}

struct hga_str hga_aws_doc(const struct hga_aws_svc *svc, uint32_t index)
{
	return image_doc(svc->img, index);
}

struct hga_str hga_aws_partitions(const struct hga_aws_image *img)
{
	return image_doc(img, img->h->partitions);
}

/* ---- the check of a foreign image ---- */

struct check {
	const struct hga_aws_image *img;
	const struct hga_img_svc *svc;
	bool bad;
};

/* A string id that must be there. */
static void c_name(struct check *c, uint32_t id)
{
	if (id >= c->img->n_strings)
		c->bad = true;
}

static void c_text(struct check *c, uint32_t id)
{
	if (id != HGA_IMG_NONE)
		c_name(c, id);
}

static void c_index(struct check *c, uint32_t i, size_t n)
{
	if (i != HGA_IMG_NONE && i >= n)
		c->bad = true;
}

static bool c_range(struct check *c, struct hga_img_range r,
                    enum hga_img_section s)
{
	size_t n = count(c->img, s);

	if (r.n > n || r.at > n - r.n)
		c->bad = true;
	return !c->bad;
}

static void c_ids(struct check *c, struct hga_img_range r)
{
	const uint32_t *v = section(c->img, HGA_IMG_U32S);
	uint32_t i;

	if (!c_range(c, r, HGA_IMG_U32S))
		return;
	for (i = 0; i < r.n; i++)
		c_name(c, v[r.at + i]);
}

/* n u16 from at on, each below limit. */
static void c_u16s(struct check *c, uint32_t at, uint32_t n, uint32_t limit)
{
	const uint16_t *v = section(c->img, HGA_IMG_U16S);
	struct hga_img_range r = {at, n};
	uint32_t i;

	if (!c_range(c, r, HGA_IMG_U16S))
		return;
	for (i = 0; i < n; i++)
		if (v[at + i] >= limit)
			c->bad = true;
}

static void c_strings(struct check *c)
{
	const struct hga_aws_image *img = c->img;
	const uint32_t *off = section(img, HGA_IMG_STROFF);
	const char *text = section(img, HGA_IMG_STRTEXT);
	size_t i, size = count(img, HGA_IMG_STRTEXT);

	if (off[0] != 0 || off[img->n_strings] != size) {
		c->bad = true;
		return;
	}
	for (i = 0; i < img->n_strings; i++) {
		if (off[i + 1] <= off[i] || off[i + 1] > size ||
		    text[off[i + 1] - 1] != '\0') {
			c->bad = true;
			return;
		}
	}
	for (i = 1; i < img->n_strings; i++)
		if (hga_str_cmp(image_text(img, (uint32_t)i - 1),
		                image_text(img, (uint32_t)i)) >= 0)
			c->bad = true;
}

static void c_docs(struct check *c)
{
	const struct hga_img_range *d = section(c->img, HGA_IMG_DOCS);
	size_t i, n = count(c->img, HGA_IMG_DOCS);

	for (i = 0; i < n; i++)
		(void)c_range(c, d[i], HGA_IMG_DOCTEXT); /* sets bad */
	c_index(c, c->img->h->partitions, n);
}

static void c_exts(struct check *c)
{
	const struct hga_img_sext *s = section(c->img, HGA_IMG_SEXTS);
	const struct hga_img_mext *m = section(c->img, HGA_IMG_MEXTS);
	size_t i;

	for (i = 0; i < count(c->img, HGA_IMG_SEXTS); i++) {
		c_text(c, s[i].loc);
		c_text(c, s[i].ns);
		c_text(c, s[i].nsprefix);
		c_text(c, s[i].code);
	}
	for (i = 0; i < count(c->img, HGA_IMG_MEXTS); i++) {
		c_text(c, m[i].loc);
		c_text(c, m[i].ns);
		c_text(c, m[i].nsprefix);
		c_text(c, m[i].context);
	}
}

static void c_members(struct check *c, struct hga_img_range r)
{
	const struct hga_img_member *m = section(c->img, HGA_IMG_MEMBERS);
	uint32_t i;

	for (i = r.at; i < r.at + r.n; i++) {
		c_name(c, m[i].name);
		c_name(c, m[i].wire);
		c_name(c, m[i].sent);
		if (m[i].shape >= c->svc->shapes.n)
			c->bad = true;
		c_index(c, m[i].ext, count(c->img, HGA_IMG_MEXTS));
	}
}

static uint32_t wanted_members(const struct hga_img_shape *s)
{
	switch ((enum hga_aws_type)s->type) {
	case HGA_T_STRUCT:
		return s->members.n;
	case HGA_T_LIST:
		return 1;
	case HGA_T_MAP:
		return 2;
	case HGA_T_STRING:
	case HGA_T_INT:
	case HGA_T_LONG:
	case HGA_T_FLOAT:
	case HGA_T_DOUBLE:
	case HGA_T_BOOL:
	case HGA_T_BLOB:
	case HGA_T_TIME:
		return 0;
	}
	return HGA_IMG_NONE;
}

static void c_shape(struct check *c, const struct hga_img_shape *s)
{
	const struct hga_img_sext *x = section(c->img, HGA_IMG_SEXTS);

	c_name(c, s->name);
	c_ids(c, s->enums);
	c_index(c, s->ext, count(c->img, HGA_IMG_SEXTS));
	if (s->members.n != wanted_members(s) || s->members.n > 0xfffe)
		c->bad = true;
	if (!c_range(c, s->members, HGA_IMG_MEMBERS))
		return;
	c_members(c, s->members);
	if (s->ext != HGA_IMG_NONE)
		c_index(c, x[s->ext].payload, s->members.n);
	if (s->type == HGA_T_STRUCT)
		c_u16s(c, s->perms, 2 * s->members.n, s->members.n);
}

static void c_opshape(struct check *c, uint16_t number)
{
	const struct hga_img_shape *s = section(c->img, HGA_IMG_SHAPES);

	if (number == HGA_IMG_NOSHAPE)
		return;
	if (number >= c->svc->shapes.n ||
	    s[c->svc->shapes.at + number].type != HGA_T_STRUCT)
		c->bad = true;
}

static void c_op(struct check *c, const struct hga_img_op *o)
{
	c_name(c, o->name);
	c_name(c, o->snake);
	c_name(c, o->method);
	c_name(c, o->uri);
	c_text(c, o->wrapper);
	c_text(c, o->host_prefix);
	c_text(c, o->in_name);
	c_text(c, o->in_ns);
	c_text(c, o->in_nsprefix);
	c_text(c, o->checksum_member);
	c_index(c, o->contexts, count(c->img, HGA_IMG_DOCS));
	c_opshape(c, o->input);
	c_opshape(c, o->output);
	if (o->repeat < HGA_REPEAT_READ || o->repeat > HGA_REPEAT_UNSAFE)
		c->bad = true;
	c_u16s(c, o->errors.at, o->errors.n, c->svc->shapes.n);
	c_index(c, o->page, c->svc->pages.n);
}

static void c_waiter(struct check *c, const struct hga_img_waiter *w)
{
	const struct hga_img_acceptor *a = section(c->img, HGA_IMG_ACCS);
	uint32_t i;

	c_name(c, w->name);
	c_name(c, w->snake);
	if (w->op >= c->svc->ops.n)
		c->bad = true;
	if (!c_range(c, w->acceptors, HGA_IMG_ACCS))
		return;
	for (i = w->acceptors.at; i < w->acceptors.at + w->acceptors.n; i++) {
		if (a[i].matcher < HGA_ACC_PATH ||
		    a[i].matcher > HGA_ACC_ERROR ||
		    a[i].state < HGA_ACC_SUCCESS || a[i].state > HGA_ACC_RETRY)
			c->bad = true;
		c_text(c, a[i].argument);
		if (a[i].kind == 's')
			c_name(c, a[i].text);
		else if (a[i].kind != 'i' && a[i].kind != 'b')
			c->bad = true;
	}
}

static void c_page(struct check *c, const struct hga_img_page *p)
{
	if (p->op >= c->svc->ops.n)
		c->bad = true;
	c_text(c, p->limit_key);
	c_text(c, p->more_results);
	c_ids(c, p->in_tokens);
	c_ids(c, p->out_tokens);
	c_ids(c, p->result_keys);
	c_ids(c, p->non_aggregate);
}

static void c_svc_head(struct check *c)
{
	const struct hga_img_svc *s = c->svc;

	c_name(c, s->name);
	c_text(c, s->id);
	c_text(c, s->prefix);
	c_text(c, s->signing);
	c_text(c, s->version);
	c_text(c, s->target);
	c_text(c, s->jsonver);
	c_text(c, s->xmlns);
	c_text(c, s->global);
	c_index(c, s->ruleset, count(c->img, HGA_IMG_DOCS));
	if (s->protocol < HGA_AWS_EC2 || s->protocol > HGA_AWS_CBOR)
		c->bad = true;
	if (s->shapes.n >= HGA_IMG_NOSHAPE || s->ops.n > 0xffff)
		c->bad = true;
	(void)c_range(c, s->ops, HGA_IMG_OPS); /* each sets bad */
	(void)c_range(c, s->shapes, HGA_IMG_SHAPES);
	(void)c_range(c, s->waiters, HGA_IMG_WAITERS);
	(void)c_range(c, s->pages, HGA_IMG_PAGES);
}

static void c_svc(struct check *c)
{
	const struct hga_img_svc *s = c->svc;
	const struct hga_img_op *ops = section(c->img, HGA_IMG_OPS);
	const struct hga_img_shape *shapes = section(c->img, HGA_IMG_SHAPES);
	const struct hga_img_waiter *ws = section(c->img, HGA_IMG_WAITERS);
	const struct hga_img_page *ps = section(c->img, HGA_IMG_PAGES);
	uint32_t i;

	c_svc_head(c);
	if (c->bad)
		return;
	c_u16s(c, s->snakes, s->ops.n, s->ops.n);
	for (i = 0; i < s->shapes.n && !c->bad; i++)
		c_shape(c, shapes + s->shapes.at + i);
	for (i = 0; i < s->ops.n && !c->bad; i++)
		c_op(c, ops + s->ops.at + i);
	for (i = 0; i < s->waiters.n && !c->bad; i++)
		c_waiter(c, ws + s->waiters.at + i);
	for (i = 0; i < s->pages.n && !c->bad; i++)
		c_page(c, ps + s->pages.at + i);
}

static bool all_good(const struct hga_aws_image *img)
{
	const struct hga_img_svc *svcs = section(img, HGA_IMG_SVCS);
	struct check c = {img, NULL, false};
	size_t i;

	c_strings(&c);
	if (!c.bad)
		c_docs(&c);
	if (!c.bad)
		c_exts(&c);
	for (i = 0; i < img->n_svcs && !c.bad; i++) {
		c.svc = svcs + i;
		c_svc(&c);
	}
	return !c.bad;
}

/* Header and section table: what every later access relies on. */
static bool header_good(const void *data, size_t n)
{
	const struct hga_img_header *h = data;
	size_t i;

	if (n < sizeof(*h) || ((uintptr_t)data & 7) != 0)
		return false;
	if (h->magic != HGA_IMG_MAGIC || h->format != HGA_IMG_FORMAT ||
	    h->endian != HGA_IMG_ENDIAN || h->size != n)
		return false;
	for (i = 0; i < HGA_IMG_NSECTIONS; i++) {
		struct hga_img_range r = h->sections[i];

		if ((r.at & 7) != 0 || r.n > n || r.at > n - r.n ||
		    r.n % record_size[i] != 0)
			return false;
	}
	return h->sections[HGA_IMG_STROFF].n >= 4;
}

/* ---- opening ---- */

static void bind_svc(struct hga_aws_svc *s, const struct hga_aws_image *img,
                     const struct hga_img_svc *r)
{
	const struct hga_img_op *ops = section(img, HGA_IMG_OPS);
	const struct hga_img_shape *shapes = section(img, HGA_IMG_SHAPES);
	const struct hga_img_waiter *waiters = section(img, HGA_IMG_WAITERS);
	const struct hga_img_page *pages = section(img, HGA_IMG_PAGES);

	s->names.text = names_text;
	s->names.find = names_find;
	s->names.shape = names_shape;
	s->img = img;
	s->r = r;
	s->ops = ops + r->ops.at;
	s->shapes = shapes + r->shapes.at;
	s->waiters = waiters + r->waiters.at;
	s->pages = pages + r->pages.at;
}

static int fill(struct hga_aws_image *img, const void *data, bool trusted,
                struct hga_err *err)
{
	const struct hga_img_svc *recs;
	size_t i;

	img->base = data;
	img->h = data;
	img->n_svcs = count(img, HGA_IMG_SVCS);
	img->n_strings = count(img, HGA_IMG_STROFF) - 1;
	if (!trusted && !all_good(img))
		return hga_fail(err, HGA_PROTOCOL, 0, "Image",
		                "model image: an index or name is damaged");
	img->svcs = hga_calloc(img->n_svcs + 1, sizeof(*img->svcs));
	if (img->svcs == NULL)
		return hga_fail_mem(err);
	recs = section(img, HGA_IMG_SVCS);
	for (i = 0; i < img->n_svcs; i++)
		bind_svc(&img->svcs[i], img, recs + i);
	return 0;
}

int hga_aws_image_open(struct hga_aws_image **out, const void *data, size_t n,
                       bool trusted, struct hga_err *err)
{
	struct hga_aws_image *img;
	int rc;

	if (!header_good(data, n))
		return hga_fail(err, HGA_PROTOCOL, 0, "Image",
		                "not a model image of this program");
	img = hga_calloc(1, sizeof(*img));
	if (img == NULL)
		return hga_fail_mem(err);
	rc = fill(img, data, trusted, err);
	if (rc < 0) {
		hga_free(img);
		return rc;
	}
	*out = img;
	return 0;
}

void hga_aws_image_free(struct hga_aws_image *img)
{
	if (img == NULL)
		return;
	hga_free(img->svcs);
	hga_free(img);
}

struct hga_str hga_aws_image_hash(const struct hga_aws_image *img)
{
	return hga_strn(img->h->hash,
	                strnlen(img->h->hash, sizeof(img->h->hash)));
}

/* ---- services, operations ---- */

size_t hga_aws_image_services(const struct hga_aws_image *img)
{
	return img->n_svcs;
}

const struct hga_aws_svc *hga_aws_svc_at(const struct hga_aws_image *img,
                                         size_t i)
{
	return i < img->n_svcs ? &img->svcs[i] : NULL;
}

const struct hga_aws_svc *hga_aws_svc_find(const struct hga_aws_image *img,
                                           struct hga_str name)
{
	size_t i;

	for (i = 0; i < img->n_svcs; i++)
		if (hga_str_eq(image_text(img, img->svcs[i].r->name), name))
			return &img->svcs[i];
	return NULL;
}

uint32_t hga_aws_id(const struct hga_aws_svc *svc, struct hga_img_range r,
                    uint32_t i)
{
	const uint32_t *v = section(svc->img, HGA_IMG_U32S);

	return i < r.n ? v[r.at + i] : HGA_IMG_NONE;
}

struct hga_aws_op hga_aws_op_at(const struct hga_aws_svc *svc, uint32_t i)
{
	struct hga_aws_op op = {svc, NULL};

	if (i < svc->r->ops.n)
		op.r = &svc->ops[i];
	return op;
}

static struct hga_aws_op find_camel(const struct hga_aws_svc *svc,
                                    struct hga_str name)
{
	uint32_t lo = 0, hi = svc->r->ops.n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c =
		    hga_str_cmp(hga_aws_text(svc, svc->ops[mid].name), name);

		if (c == 0)
			return hga_aws_op_at(svc, mid);
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return hga_aws_op_at(svc, HGA_IMG_NONE);
}

/* As hga_str_cmp(a, b) with '-' in b read as '_'. */
static int cmp_kebab(struct hga_str a, struct hga_str b)
{
	size_t i;

	for (i = 0; i < a.n && i < b.n; i++) {
		unsigned char x = (unsigned char)a.s[i];
		unsigned char y = (unsigned char)b.s[i];

		if (y == '-')
			y = '_';
		if (x != y)
			return x < y ? -1 : 1;
	}
	return a.n == b.n ? 0 : a.n < b.n ? -1 : 1;
}

static struct hga_aws_op find_snake(const struct hga_aws_svc *svc,
                                    struct hga_str name)
{
	const uint16_t *perm = section(svc->img, HGA_IMG_U16S);
	uint32_t lo = 0, hi = svc->r->ops.n;

	perm += svc->r->snakes;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		struct hga_str s = hga_aws_text(svc, svc->ops[perm[mid]].snake);
		int c = cmp_kebab(s, name);

		if (c == 0)
			return hga_aws_op_at(svc, perm[mid]);
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return hga_aws_op_at(svc, HGA_IMG_NONE);
}

struct hga_aws_op hga_aws_op_find(const struct hga_aws_svc *svc,
                                  struct hga_str name)
{
	struct hga_aws_op op = find_camel(svc, name);

	return op.r != NULL ? op : find_snake(svc, name);
}

struct hga_str hga_aws_op_name(struct hga_aws_op op)
{
	return hga_aws_text(op.svc, op.r->name);
}

/* ---- shapes, members ---- */

const struct hga_img_shape *hga_aws_shape(const struct hga_aws_svc *svc,
                                          uint16_t number)
{
	return number < svc->r->shapes.n ? &svc->shapes[number] : NULL;
}

uint16_t hga_aws_shape_number(const struct hga_aws_svc *svc,
                              const struct hga_img_shape *s)
{
	/* a service has fewer than HGA_IMG_NOSHAPE shapes */
	return s == NULL ? HGA_IMG_NOSHAPE : (uint16_t)(s - svc->shapes);
}

const struct hga_img_shape *hga_aws_shape_find(const struct hga_aws_svc *svc,
                                               struct hga_str name)
{
	uint32_t lo = 0, hi = svc->r->shapes.n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c =
		    hga_str_cmp(hga_aws_text(svc, svc->shapes[mid].name), name);

		if (c == 0)
			return &svc->shapes[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

const struct hga_img_member *hga_aws_member(const struct hga_aws_svc *svc,
                                            const struct hga_img_shape *s,
                                            uint32_t i)
{
	const struct hga_img_member *m = section(svc->img, HGA_IMG_MEMBERS);

	return i < s->members.n ? m + s->members.at + i : NULL;
}

static const struct hga_img_member *find_member(const struct hga_aws_svc *svc,
                                                const struct hga_img_shape *s,
                                                struct hga_str text, bool wire)
{
	const struct hga_img_member *m = section(svc->img, HGA_IMG_MEMBERS);
	const uint16_t *perm = section(svc->img, HGA_IMG_U16S);
	uint32_t lo = 0, hi = s->members.n;

	if (s->type != HGA_T_STRUCT)
		return NULL;
	perm += s->perms + (wire ? s->members.n : 0);
	m += s->members.at;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		const struct hga_img_member *x = &m[perm[mid]];
		uint32_t id = wire ? x->wire : x->name;
		int c = hga_str_cmp(hga_aws_text(svc, id), text);

		if (c == 0)
			return x;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

const struct hga_img_member *hga_aws_member_find(const struct hga_aws_svc *svc,
                                                 const struct hga_img_shape *s,
                                                 struct hga_str name)
{
	return find_member(svc, s, name, false);
}

const struct hga_img_member *hga_aws_member_wire(const struct hga_aws_svc *svc,
                                                 const struct hga_img_shape *s,
                                                 struct hga_str wire)
{
	return find_member(svc, s, wire, true);
}

const struct hga_img_sext *hga_aws_sext(const struct hga_aws_svc *svc,
                                        const struct hga_img_shape *s)
{
	static const struct hga_img_sext none = {
	    .loc = HGA_IMG_NONE,
	    .ns = HGA_IMG_NONE,
	    .nsprefix = HGA_IMG_NONE,
	    .payload = HGA_IMG_NONE,
	    .code = HGA_IMG_NONE,
	};
	const struct hga_img_sext *x = section(svc->img, HGA_IMG_SEXTS);

	return s->ext == HGA_IMG_NONE ? &none : x + s->ext;
}

const struct hga_img_mext *hga_aws_mext(const struct hga_aws_svc *svc,
                                        const struct hga_img_member *m)
{
	static const struct hga_img_mext none = {HGA_IMG_NONE, HGA_IMG_NONE,
	                                         HGA_IMG_NONE, HGA_IMG_NONE};
	const struct hga_img_mext *x = section(svc->img, HGA_IMG_MEXTS);

	return m->ext == HGA_IMG_NONE ? &none : x + m->ext;
}

const struct hga_img_shape *hga_aws_op_error(struct hga_aws_op op, uint32_t i)
{
	const uint16_t *v = section(op.svc->img, HGA_IMG_U16S);

	if (i >= op.r->errors.n)
		return NULL;
	return hga_aws_shape(op.svc, v[op.r->errors.at + i]);
}

/* ---- waiters, paginators ---- */

const struct hga_img_waiter *hga_aws_waiter_find(const struct hga_aws_svc *svc,
                                                 struct hga_str name)
{
	uint32_t i;

	for (i = 0; i < svc->r->waiters.n; i++) {
		const struct hga_img_waiter *w = &svc->waiters[i];

		if (hga_str_eq(hga_aws_text(svc, w->name), name) ||
		    cmp_kebab(hga_aws_text(svc, w->snake), name) == 0)
			return w;
	}
	return NULL;
}

const struct hga_img_acceptor *hga_aws_acceptor(const struct hga_aws_svc *svc,
                                                const struct hga_img_waiter *w,
                                                uint32_t i)
{
	const struct hga_img_acceptor *a = section(svc->img, HGA_IMG_ACCS);

	return i < w->acceptors.n ? a + w->acceptors.at + i : NULL;
}

const struct hga_img_page *hga_aws_page(struct hga_aws_op op)
{
	return op.r->page == HGA_IMG_NONE ? NULL : &op.svc->pages[op.r->page];
}

/* ---- snake_case ---- */

static bool is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

/* Start of a plural acronym at the end ("ARNs"), else the length. */
static size_t plural_at(struct hga_str t)
{
	size_t i;

	if (t.n < 3 || t.s[t.n - 1] != 's')
		return t.n;
	for (i = t.n - 1; i > 0 && is_upper(t.s[i - 1]); i--)
		;
	return t.n - 1 - i >= 2 ? i : t.n;
}

static bool word_starts(struct hga_str t, size_t i, size_t plural)
{
	if (i == 0 || i > plural || !is_upper(t.s[i]))
		return false;
	if (i == plural)
		return true;
	if (i + 1 < t.n && is_lower(t.s[i + 1]))
		return true;
	return is_lower(t.s[i - 1]) || (t.s[i - 1] >= '0' && t.s[i - 1] <= '9');
}

/* Names whose words no rule finds. */
static const char *snake_exception(struct hga_str t)
{
	static const char *const v[][2] = {
	    {"CreateCachediSCSIVolume", "create_cached_iscsi_volume"},
	    {"DescribeCachediSCSIVolumes", "describe_cached_iscsi_volumes"},
	    {"DescribeStorediSCSIVolumes", "describe_stored_iscsi_volumes"},
	    {"CreateStorediSCSIVolume", "create_stored_iscsi_volume"},
	    {"ListHITsForQualificationType",
	     "list_hits_for_qualification_type"},
	    {"ExecutePartiQLStatement", "execute_partiql_statement"},
	    {"ExecutePartiQLTransaction", "execute_partiql_transaction"},
	    {"ExecutePartiQLBatch", "execute_partiql_batch"},
	};
	size_t i;

	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		if (hga_str_eqc(t, v[i][0]))
			return v[i][1];
	return NULL;
}

int hga_aws_snake(struct hga_buf *out, struct hga_str camel,
                  struct hga_err *err)
{
	const char *known = snake_exception(camel);
	size_t i, plural = plural_at(camel);

	if (known != NULL)
		return hga_buf_adds(out, known, err);
	if (hga_str_chr(camel, '_', 0) >= 0)
		return hga_buf_addstr(out, camel, err);
	for (i = 0; i < camel.n; i++) {
		char c = camel.s[i];
		int rc = 0;

		if (word_starts(camel, i, plural))
			rc = hga_buf_addc(out, '_', err);
		if (rc == 0)
			rc = hga_buf_addc(out, is_upper(c) ? (char)(c + 32) : c,
			                  err);
		if (rc < 0)
			return rc;
	}
	return 0;
}
