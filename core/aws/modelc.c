/*
 * JSON models -> image: reads the files of a service, checks every key and
 * puts the image together.
 */
#include "aws/modelc.h"

#include "aws/image.h"
#include "aws/modelc_int.h"
#include "aws/modelw.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define JSON_MAX (64u * 1024 * 1024)
#define TAPE_MAX (512u * 1024 * 1024)
#define NOTES_MAX (64u * 1024)

struct hga_modelc {
	struct hga_modelw w;
	struct hga_buf notes;
	struct hga_hash hash;
	bool strict;
};

static const char *const keys_top[] = {
    "version",  "metadata",      "operations",          "shapes",
    "examples", "documentation", "clientContextParams", "authorizers",
    NULL};
static const char *const keys_meta[] = {
    "apiVersion", "endpointPrefix", "protocol", "protocols", "serviceId",
    "signingName", "jsonVersion", "targetPrefix", "xmlNamespace",
    "awsQueryCompatible", "globalEndpoint", "auth",
    /* ignored */
    "serviceAbbreviation", "serviceFullName", "signatureVersion", "uid",
    "checksumFormat", "timestampFormat", "protocolSettings", "ripServiceName",
    NULL};

/* ---- small helpers ---- */

int mc_bad(struct mc *k, const char *what, struct hga_str name)
{
	return hga_fail(k->err, HGA_PROTOCOL, 0, "Model",
	                "model of %.*s: %s: \"%.*s\"", HGA_STRF(k->name), what,
	                HGA_STRF(name));
}

struct hga_str mc_str_at(struct hga_val v, const char *key)
{
	struct hga_val x = hga_val_get(v, key);

	if (hga_val_type(x) != HGA_V_STR)
		return hga_strn(NULL, 0);
	return hga_val_str(x);
}

bool mc_true_at(struct hga_val v, const char *key)
{
	return hga_val_bool(hga_val_get(v, key), false);
}

bool mc_has(struct hga_val v, const char *key)
{
	return hga_val_type(hga_val_get(v, key)) != HGA_V_NONE;
}

bool mc_is_object(struct hga_val v)
{
	return hga_val_is(v, HGA_V_MAP) || hga_val_is(v, HGA_V_STRUCT);
}

uint32_t mc_id_at(struct mc *k, struct hga_val v, const char *key)
{
	return hga_modelw_str(k->w, mc_str_at(v, key));
}

uint32_t mc_uint_at(struct hga_val v, const char *key)
{
	int64_t i = hga_val_int(hga_val_get(v, key), 0);

	return i < 0 || i > 1000000000 ? 0 : (uint32_t)i;
}

static int named_cmp(const void *a, const void *b)
{
	const struct mc_named *x = a, *y = b;

	return hga_str_cmp(x->name, y->name);
}

/* Entries of an object sorted by name, in memory of the caller's. */
int mc_sorted(struct mc *k, struct hga_val map, struct mc_named **out,
              uint32_t *n)
{
	struct mc_named *v;
	struct hga_vit it;
	uint32_t i = 0;

	*n = mc_is_object(map) ? hga_val_count(map) : 0;
	v = hga_calloc((size_t)*n + 1, sizeof(*v));
	if (v == NULL)
		return hga_fail_mem(k->err);
	*out = v;
	if (*n == 0)
		return 0;
	for (it = hga_val_first(map); hga_val_more(it); it = hga_val_next(it)) {
		v[i].name = hga_vit_name(&it);
		v[i++].v = hga_vit_val(it);
	}
	qsort(v, *n, sizeof(*v), named_cmp);
	return 0;
}

uint32_t mc_find_named(const struct mc_named *v, uint32_t n,
                       struct hga_str name)
{
	uint32_t lo = 0, hi = n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = hga_str_cmp(v[mid].name, name);

		if (c == 0)
			return mid;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return HGA_IMG_NONE;
}

static bool known_key(const char *const *keys, struct hga_str name)
{
	for (; *keys != NULL; keys++)
		if (hga_str_eqc(name, *keys))
			return true;
	return false;
}

int mc_check_keys(struct mc *k, struct hga_val v, const char *const *keys,
                  const char *what, struct hga_str of)
{
	struct hga_vit it;

	if (!mc_is_object(v))
		return mc_bad(k, what, of);
	for (it = hga_val_first(v); hga_val_more(it); it = hga_val_next(it)) {
		struct hga_str name = hga_vit_name(&it);

		if (known_key(keys, name))
			continue;
		if (k->strict)
			return hga_fail(k->err, HGA_PROTOCOL, 0, "Model",
			                "model of %.*s: unknown key \"%.*s\" "
			                "in %s %.*s",
			                HGA_STRF(k->name), HGA_STRF(name), what,
			                HGA_STRF(of));
		if (hga_buf_addf(k->notes, NULL,
		                 "%.*s: unknown key \"%.*s\" in %s %.*s\n",
		                 HGA_STRF(k->name), HGA_STRF(name), what,
		                 HGA_STRF(of)) < 0)
			return 0; /* no room for more notes */
	}
	return 0;
}
/* ---- services ---- */

static enum hga_aws_protocol protocol_named(struct hga_str t)
{
	static const struct {
		const char *name;
		enum hga_aws_protocol p;
	} v[] = {
	    {"json", HGA_AWS_JSON},
	    {"rest-json", HGA_AWS_REST_JSON},
	    {"rest-xml", HGA_AWS_REST_XML},
	    {"query", HGA_AWS_QUERY},
	    {"ec2", HGA_AWS_EC2},
	    {"smithy-rpc-v2-cbor", HGA_AWS_CBOR},
	};
	size_t i;

	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		if (hga_str_eqc(t, v[i].name))
			return v[i].p;
	return (enum hga_aws_protocol)0;
}

static bool listed(struct hga_val list, const char *text)
{
	struct hga_vit it;

	if (!hga_val_is(list, HGA_V_LIST))
		return false;
	for (it = hga_val_first(list); hga_val_more(it); it = hga_val_next(it))
		if (hga_str_eqc(hga_val_str(hga_vit_val(it)), text))
			return true;
	return false;
}

static int choose_protocol(struct mc *k, struct hga_val meta)
{
	static const char *const order[] = {"json",  "rest-json", "rest-xml",
	                                    "query", "ec2",       NULL};
	struct hga_val list = hga_val_get(meta, "protocols");
	struct hga_str p = mc_str_at(meta, "protocol");
	int i;

	for (i = 0; order[i] != NULL; i++) {
		if (listed(list, order[i])) {
			p = hga_str(order[i]);
			break;
		}
	}
	k->protocol = protocol_named(p);
	if (k->protocol == (enum hga_aws_protocol)0)
		return mc_bad(k, "unknown protocol", p);
	return 0;
}

static void svc_head(struct mc *k, struct hga_val meta, struct hga_img_svc *s)
{
	uint32_t prefix_unused;

	s->name = hga_modelw_str(k->w, k->name);
	s->id = mc_id_at(k, meta, "serviceId");
	s->prefix = mc_id_at(k, meta, "endpointPrefix");
	s->signing = mc_id_at(k, meta, "signingName");
	if (s->signing == HGA_IMG_NONE)
		s->signing = s->prefix;
	s->version = mc_id_at(k, meta, "apiVersion");
	s->target = mc_id_at(k, meta, "targetPrefix");
	s->jsonver = mc_id_at(k, meta, "jsonVersion");
	s->global = mc_id_at(k, meta, "globalEndpoint");
	mc_xml_ns(k, meta, &s->xmlns, &prefix_unused);
	s->protocol = (uint8_t)k->protocol;
	if (mc_has(meta, "awsQueryCompatible"))
		s->flags |= HGA_VF_QUERY_COMPAT;
	if (mc_lists_auth(meta, "#httpBearerAuth"))
		s->flags |= HGA_VF_BEARER;
	if (mc_lists_auth(meta, "#sigv4"))
		s->flags |= HGA_VF_SIGV4;
}

static int svc_shapes(struct mc *k, struct hga_img_svc *s)
{
	uint32_t i;
	int rc = 0;

	s->shapes.at = hga_modelw_count(k->w, HGA_IMG_SHAPES);
	s->shapes.n = k->n_shapes;
	for (i = 0; rc == 0 && i < k->n_shapes; i++)
		rc = mc_add_shape(k, &k->shapes[i]);
	return rc;
}

static int svc_ops(struct mc *k, struct hga_img_svc *s)
{
	uint16_t zero = 0;
	uint32_t i;
	int rc = 0;

	k->ops_at = hga_modelw_count(k->w, HGA_IMG_OPS);
	s->ops.at = k->ops_at;
	s->ops.n = k->n_ops;
	for (i = 0; rc == 0 && i < k->n_ops; i++)
		rc = mc_add_op(k, &k->ops[i]);
	s->snakes = hga_modelw_count(k->w, HGA_IMG_U16S);
	for (i = 0; i < k->n_ops; i++)
		(void)hga_modelw_add(k->w, HGA_IMG_U16S, &zero);
	return rc;
}

/* JSON text without blanks, as a document. */
static int add_doc(struct hga_modelw *w, struct hga_buf *scratch,
                   struct hga_str json, uint32_t *out, struct hga_err *err)
{
	struct hga_vtape *t = NULL;
	int rc;

	*out = HGA_IMG_NONE;
	if (json.n == 0)
		return 0;
	rc = hga_json_parse(json, TAPE_MAX, &t, err);
	if (rc < 0)
		return rc;
	hga_buf_clear(scratch);
	rc = hga_json_write(scratch, hga_vtape_root(t), 0, false, err);
	if (rc == 0)
		*out = hga_modelw_doc(w, hga_buf_str(scratch));
	hga_vtape_free(t);
	return rc;
}

static int compile(struct mc *k, struct hga_val service, struct hga_val waiters,
                   struct hga_val pages, struct hga_str ruleset)
{
	struct hga_val meta = hga_val_get(service, "metadata");
	struct hga_img_svc s;
	int rc;

	memset(&s, 0, sizeof(s));
	rc = mc_check_keys(k, service, keys_top, "service", k->name);
	if (rc == 0)
		rc = mc_check_keys(k, meta, keys_meta, "metadata of", k->name);
	if (rc == 0)
		rc = choose_protocol(k, meta);
	if (rc == 0)
		rc = mc_sorted(k, hga_val_get(service, "shapes"), &k->shapes,
		               &k->n_shapes);
	if (rc == 0)
		rc = mc_sorted(k, hga_val_get(service, "operations"), &k->ops,
		               &k->n_ops);
	if (rc < 0)
		return rc;
	if (k->n_shapes >= HGA_IMG_NOSHAPE || k->n_ops >= 0xffff)
		return mc_bad(k, "too many shapes or operations", k->name);
	svc_head(k, meta, &s);
	rc = svc_shapes(k, &s);
	if (rc == 0)
		rc = svc_ops(k, &s);
	if (rc == 0)
		rc = mc_add_waiters(k, waiters, &s.waiters);
	if (rc == 0)
		rc = mc_add_pages(k, pages, &s.pages);
	if (rc == 0)
		rc = add_doc(k->w, &k->scratch, ruleset, &s.ruleset, k->err);
	if (rc == 0)
		(void)hga_modelw_add(k->w, HGA_IMG_SVCS, &s);
	return rc;
}

static int sticky(struct hga_modelc *c, struct hga_err *err)
{
	if (c->w.err.kind == HGA_OK)
		return 0;
	if (err != NULL)
		*err = c->w.err;
	return -(int)c->w.err.kind;
}

int hga_modelc_addv(struct hga_modelc *c, struct hga_str name,
                    struct hga_val service, struct hga_val waiters,
                    struct hga_val paginators, struct hga_str ruleset,
                    struct hga_err *err)
{
	struct hga_err own = {.kind = HGA_OK};
	struct mc k;
	int rc;

	memset(&k, 0, sizeof(k));
	k.strict = c->strict;
	k.notes = &c->notes;
	k.w = &c->w;
	k.name = name;
	k.err = err != NULL ? err : &own;
	hga_buf_init(&k.scratch, JSON_MAX);
	rc = sticky(c, err);
	if (rc == 0)
		rc = compile(&k, service, waiters, paginators, ruleset);
	if (rc == 0)
		rc = sticky(c, err);
	hga_free(k.shapes);
	hga_free(k.ops);
	hga_buf_release(&k.scratch);
	if (rc < 0 && c->w.err.kind == HGA_OK)
		c->w.err = *k.err;
	return rc;
}

/* ---- files ---- */

/*
 * Deep merge: b's entries win, objects of both are merged.  Recursion is
 * bounded by the JSON parser's nesting limit.
 */
static void merge(struct hga_vtape *t, struct hga_val a, struct hga_val b)
{
	struct hga_vit it;

	if (!mc_is_object(a) || !mc_is_object(b)) {
		(void)hga_vt_copy(t, HGA_NO_NAME, b); /* sticks in t */
		return;
	}
	(void)hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	for (it = hga_val_first(a); hga_val_more(it); it = hga_val_next(it)) {
		struct hga_str name = hga_vit_name(&it);
		struct hga_val over = hga_val_getn(b, name);

		(void)hga_vt_key(t, name);
		if (hga_val_type(over) == HGA_V_NONE)
			(void)hga_vt_copy(t, HGA_NO_NAME, hga_vit_val(it));
		else
			merge(t, hga_vit_val(it), over);
	}
	for (it = hga_val_first(b); hga_val_more(it); it = hga_val_next(it)) {
		struct hga_str name = hga_vit_name(&it);

		if (hga_val_type(hga_val_getn(a, name)) != HGA_V_NONE)
			continue;
		(void)hga_vt_key(t, name);
		(void)hga_vt_copy(t, HGA_NO_NAME, hga_vit_val(it));
	}
	(void)hga_vt_close(t);
}

/* One file and its extras as a value. */
static int read_file(struct hga_str text, struct hga_str extras,
                     struct hga_vtape **out, struct hga_err *err)
{
	struct hga_vtape *base = NULL, *over = NULL, *both = NULL;
	struct hga_val m;
	int rc;

	if (text.n == 0)
		return 0;
	rc = hga_json_parse(text, TAPE_MAX, &base, err);
	if (rc < 0 || extras.n == 0) {
		*out = base;
		return rc;
	}
	rc = hga_json_parse(extras, TAPE_MAX, &over, err);
	if (rc < 0)
		goto out;
	m = hga_val_get(hga_vtape_root(over), "merge");
	both = hga_vtape_new(NULL, TAPE_MAX);
	if (both == NULL) {
		rc = hga_fail_mem(err);
		goto out;
	}
	if (!mc_is_object(m))
		m = hga_vtape_root(over);
	merge(both, hga_vtape_root(base), m);
	rc = hga_vt_end(both, err);
	*out = both;
out:
	hga_vtape_free(base);
	hga_vtape_free(over);
	return rc;
}

static struct hga_val root_of(const struct hga_vtape *t)
{
	struct hga_val none = {NULL, 0};

	return t == NULL ? none : hga_vtape_root(t);
}

static int add_hash(struct hga_modelc *c, const struct hga_str *v, size_t n,
                    struct hga_err *err)
{
	int rc = 0;
	size_t i;

	for (i = 0; i < n && rc == 0; i++) {
		uint64_t len = v[i].n;

		rc = hga_hash_update(&c->hash, &len, sizeof(len), err);
		if (rc == 0 && len > 0)
			rc = hga_hash_update(&c->hash, v[i].s, v[i].n, err);
	}
	return rc;
}

int hga_modelc_add(struct hga_modelc *c, const struct hga_modelc_src *src,
                   struct hga_err *err)
{
	const struct hga_str all[] = {src->name,
	                              src->service,
	                              src->service_extras,
	                              src->waiters,
	                              src->waiters_extras,
	                              src->paginators,
	                              src->paginators_extras,
	                              src->ruleset};
	struct hga_vtape *svc = NULL, *waiters = NULL, *pages = NULL;
	int rc;

	rc = add_hash(c, all, sizeof(all) / sizeof(all[0]), err);
	if (rc == 0)
		rc = read_file(src->service, src->service_extras, &svc, err);
	if (rc == 0)
		rc =
		    read_file(src->waiters, src->waiters_extras, &waiters, err);
	if (rc == 0)
		rc = read_file(src->paginators, src->paginators_extras, &pages,
		               err);
	if (rc < 0)
		hga_err_prefix(err, "model of %.*s", HGA_STRF(src->name));
	if (rc == 0)
		rc = hga_modelc_addv(c, src->name, root_of(svc),
		                     root_of(waiters), root_of(pages),
		                     src->ruleset, err);
	hga_vtape_free(svc);
	hga_vtape_free(waiters);
	hga_vtape_free(pages);
	return rc;
}

int hga_modelc_partitions(struct hga_modelc *c, struct hga_str json,
                          struct hga_err *err)
{
	struct hga_buf scratch;
	int rc = add_hash(c, &json, 1, err);

	hga_buf_init(&scratch, JSON_MAX);
	if (rc == 0)
		rc = add_doc(&c->w, &scratch, json, &c->w.partitions, err);
	hga_buf_release(&scratch);
	return rc;
}

struct hga_modelc *hga_modelc_new(bool strict)
{
	struct hga_modelc *c = hga_calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	hga_modelw_init(&c->w);
	hga_buf_init(&c->notes, NOTES_MAX);
	c->strict = strict;
	if (hga_hash_init(&c->hash, HGA_SHA256, NULL) < 0) {
		hga_modelc_free(c);
		return NULL;
	}
	return c;
}

void hga_modelc_free(struct hga_modelc *c)
{
	if (c == NULL)
		return;
	hga_modelw_release(&c->w);
	hga_buf_release(&c->notes);
	hga_hash_release(&c->hash);
	hga_free(c);
}

int hga_modelc_finish(struct hga_modelc *c, struct hga_buf *out,
                      struct hga_err *err)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t sum[HGA_SHA256_LEN];
	char hex[64];
	size_t i;
	int rc = hga_hash_final(&c->hash, sum, err);

	if (rc < 0)
		return rc;
	for (i = 0; i < sizeof(sum); i++) {
		hex[2 * i] = digits[sum[i] >> 4];
		hex[2 * i + 1] = digits[sum[i] & 15];
	}
	return hga_modelw_finish(&c->w, hex, out, err);
}

const char *hga_modelc_notes(const struct hga_modelc *c)
{
	return hga_buf_text(&c->notes);
}
