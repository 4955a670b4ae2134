/*
 * Model compiler: operations with their repeat class, waiters, paginators.
 */
#include "aws/modelc_int.h"

#include "base/json.h"
#include "base/mem.h"

#include <string.h>

static const char *const keys_op[] = {
    "name", "http", "input", "output", "errors", "authtype", "auth",
    "unsignedPayload", "endpoint", "httpChecksum", "httpChecksumRequired",
    "requestcompression", "readonly", "idempotent", "alias",
    "staticContextParams", "operationContextParams",
    /* ignored */
    "documentation", "documentationUrl", "deprecated", "deprecatedMessage",
    "deprecatedSince", "endpointoperation", "endpointdiscovery",
    "unauthenticated", NULL};
static const char *const keys_http[] = {"method", "requestUri",
                                        /* ignored */ "responseCode", NULL};
static const char *const keys_waiter[] = {"operation",
                                          "delay",
                                          "maxAttempts",
                                          "acceptors",
                                          /* ignored */ "description",
                                          NULL};
static const char *const keys_acc[] = {"matcher", "expected", "argument",
                                       "state", NULL};
static const char *const keys_page[] = {"input_token",
                                        "output_token",
                                        "limit_key",
                                        "result_key",
                                        "more_results",
                                        "non_aggregate_keys",
                                        /* ignored */ "py_input_token",
                                        NULL};

/* ---- operations ---- */

/* name starts with a word of the list (a word ends before a small letter). */
static bool has_verb(const char *const *verbs, struct hga_str name)
{
	for (; *verbs != NULL; verbs++) {
		size_t n = strlen(*verbs);

		if (hga_str_starts(name, *verbs) &&
		    (name.n == n || name.s[n] < 'a' || name.s[n] > 'z'))
			return true;
	}
	return false;
}

static bool has_token(struct mc *k, struct hga_val op)
{
	uint32_t number;
	struct hga_val in, members;
	struct hga_vit it;

	in = mc_target_of(k, hga_val_get(op, "input"), &number);
	members = hga_val_get(in, "members");
	if (!mc_is_object(members))
		return false;
	for (it = hga_val_first(members); hga_val_more(it);
	     it = hga_val_next(it))
		if (mc_true_at(hga_vit_val(it), "idempotencyToken"))
			return true;
	return false;
}

static uint8_t repeat_override(struct mc *k, struct hga_str name)
{
	static const struct {
		const char *svc, *op;
		uint8_t repeat;
	} v[] = {
#define REPEAT(s, o, c) {s, o, HGA_REPEAT_##c},
#include "aws/repeat.def"
#undef REPEAT
	};
	size_t i;

	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		if (hga_str_eqc(k->name, v[i].svc) &&
		    hga_str_eqc(name, v[i].op))
			return v[i].repeat;
	return 0;
}

static uint8_t repeat_of_method(struct mc *k, struct hga_val op)
{
	struct hga_str method = mc_str_at(hga_val_get(op, "http"), "method");

	if (k->protocol != HGA_AWS_REST_JSON && k->protocol != HGA_AWS_REST_XML)
		return 0;
	if (hga_str_eqc(method, "GET") || hga_str_eqc(method, "HEAD"))
		return HGA_REPEAT_READ;
	if (hga_str_eqc(method, "PUT") || hga_str_eqc(method, "DELETE"))
		return HGA_REPEAT_IDEMPOTENT;
	return 0;
}

static uint8_t repeat_class(struct mc *k, struct hga_str name,
                            struct hga_val op)
{
	static const char *const reads[] = {"Describe", "Get",      "List",
	                                    "Search",   "Lookup",   "BatchGet",
	                                    "Head",     "Simulate", NULL};
	static const char *const idem[] = {
	    "Delete",    "Terminate",    "Attach",     "Detach",
	    "Associate", "Disassociate", "Enable",     "Disable",
	    "Tag",       "Untag",        "Put",        "Update",
	    "Modify",    "Set",          "Add",        "Remove",
	    "Authorize", "Revoke",       "Deregister", "Cancel",
	    NULL};
	uint8_t c = repeat_override(k, name);

	if (c != 0)
		return c;
	if (mc_true_at(op, "readonly"))
		return HGA_REPEAT_READ;
	if (mc_true_at(op, "idempotent") || has_token(k, op))
		return HGA_REPEAT_IDEMPOTENT;
	c = repeat_of_method(k, op);
	if (c != 0)
		return c;
	if (has_verb(reads, name))
		return HGA_REPEAT_READ;
	return has_verb(idem, name) ? HGA_REPEAT_IDEMPOTENT : HGA_REPEAT_UNSAFE;
}

bool mc_lists_auth(struct hga_val v, const char *suffix)
{
	struct hga_val a = hga_val_get(v, "auth");
	struct hga_vit it;

	if (!hga_val_is(a, HGA_V_LIST))
		return false;
	for (it = hga_val_first(a); hga_val_more(it); it = hga_val_next(it))
		if (hga_str_ends(hga_val_str(hga_vit_val(it)), suffix))
			return true;
	return false;
}

static bool lists_gzip(struct hga_val op)
{
	struct hga_val e =
	    hga_val_get(hga_val_get(op, "requestcompression"), "encodings");
	struct hga_vit it;

	if (!hga_val_is(e, HGA_V_LIST))
		return false;
	for (it = hga_val_first(e); hga_val_more(it); it = hga_val_next(it))
		if (hga_str_eqc(hga_val_str(hga_vit_val(it)), "gzip"))
			return true;
	return false;
}

/* Calls that bring their proof in the parameters; the models do not say that
 * nothing signs them. */
static bool is_unsigned(struct mc *k, struct hga_str name)
{
	return hga_str_eqc(k->name, "sts") &&
	       (hga_str_eqc(name, "AssumeRoleWithWebIdentity") ||
	        hga_str_eqc(name, "AssumeRoleWithSAML"));
}

static uint16_t op_flags(struct mc *k, struct hga_str name, struct hga_val op)
{
	struct hga_val sum = hga_val_get(op, "httpChecksum");
	struct hga_str authtype = mc_str_at(op, "authtype");
	uint16_t f = 0;

	if (mc_true_at(op, "readonly"))
		f |= HGA_OF_READONLY;
	if (mc_true_at(op, "idempotent"))
		f |= HGA_OF_IDEMPOTENT;
	if (hga_str_eqc(authtype, "none") || is_unsigned(k, name) ||
	    (mc_lists_auth(op, "#noAuth") && !mc_lists_auth(op, "#sigv4")))
		f |= HGA_OF_UNSIGNED;
	if (mc_true_at(op, "unsignedPayload") ||
	    hga_str_eqc(authtype, "v4-unsigned-body"))
		f |= HGA_OF_UNSIGNED_PAYLOAD;
	if (mc_true_at(sum, "requestChecksumRequired"))
		f |= HGA_OF_CHECKSUM;
	if (mc_true_at(op, "httpChecksumRequired"))
		f |= HGA_OF_MD5;
	if (lists_gzip(op))
		f |= HGA_OF_GZIP;
	if (mc_lists_auth(op, "#httpBearerAuth"))
		f |= HGA_OF_BEARER;
	if (mc_lists_auth(op, "#sigv4"))
		f |= HGA_OF_SIGV4;
	return f;
}

static int op_shape(struct mc *k, struct hga_val op, const char *key,
                    struct hga_str name, uint16_t *out)
{
	struct hga_val target, ref = hga_val_get(op, key);
	uint32_t number;
	int rc;

	*out = HGA_IMG_NOSHAPE;
	if (!mc_is_object(ref))
		return 0;
	rc = mc_check_keys(k, ref, mc_keys_ref, "reference of operation", name);
	if (rc < 0)
		return rc;
	target = mc_target_of(k, ref, &number);
	if (number == HGA_IMG_NONE ||
	    !hga_str_eqc(mc_str_at(target, "type"), "structure"))
		return mc_bad(k, "input or output is no structure", name);
	*out = (uint16_t)number; /* n_shapes < HGA_IMG_NOSHAPE */
	return 0;
}

static int op_errors(struct mc *k, struct hga_val op, struct hga_str name,
                     struct hga_img_range *out)
{
	struct hga_val list = hga_val_get(op, "errors");
	struct hga_vit it;

	out->at = hga_modelw_count(k->w, HGA_IMG_U16S);
	if (!hga_val_is(list, HGA_V_LIST))
		return 0;
	for (it = hga_val_first(list); hga_val_more(it);
	     it = hga_val_next(it)) {
		uint32_t number;
		uint16_t v;

		(void)mc_target_of(k, hga_vit_val(it), &number);
		if (number == HGA_IMG_NONE)
			return mc_bad(k, "error that does not exist", name);
		v = (uint16_t)number; /* n_shapes < HGA_IMG_NOSHAPE */
		(void)hga_modelw_add(k->w, HGA_IMG_U16S, &v);
		out->n++;
	}
	return 0;
}

/* Context parameters as one small document. */
static int op_contexts(struct mc *k, struct hga_val op, uint32_t *out)
{
	struct hga_val st = hga_val_get(op, "staticContextParams");
	struct hga_val dy = hga_val_get(op, "operationContextParams");
	struct hga_jw j;
	int rc;

	*out = HGA_IMG_NONE;
	if (!mc_is_object(st) && !mc_is_object(dy))
		return 0;
	hga_buf_clear(&k->scratch);
	hga_jw_init(&j, &k->scratch, 0);
	hga_jw_object(&j);
	if (mc_is_object(st)) {
		hga_jw_key(&j, HGA_STR("static"));
		hga_jw_val(&j, st, false);
	}
	if (mc_is_object(dy)) {
		hga_jw_key(&j, HGA_STR("operation"));
		hga_jw_val(&j, dy, false);
	}
	hga_jw_close(&j);
	rc = hga_jw_end(&j, k->err);
	if (rc == 0)
		*out = hga_modelw_doc(k->w, hga_buf_str(&k->scratch));
	return rc;
}

static int op_texts(struct mc *k, struct hga_str name, struct hga_val op,
                    struct hga_img_op *o)
{
	struct hga_val http = hga_val_get(op, "http");
	struct hga_val in = hga_val_get(op, "input");
	struct hga_str s;
	int rc = 0;

	if (mc_is_object(http))
		rc = mc_check_keys(k, http, keys_http, "http of operation",
		                   name);
	if (rc < 0)
		return rc;
	o->name = hga_modelw_str(k->w, name);
	hga_buf_clear(&k->scratch);
	rc = hga_aws_snake(&k->scratch, name, k->err);
	if (rc < 0)
		return rc;
	o->snake = hga_modelw_str(k->w, hga_buf_str(&k->scratch));
	s = mc_str_at(http, "method");
	o->method = hga_modelw_str(k->w, s.s != NULL ? s : HGA_STR("POST"));
	s = mc_str_at(http, "requestUri");
	o->uri = hga_modelw_str(k->w, s.s != NULL ? s : HGA_STR("/"));
	o->wrapper = mc_id_at(k, hga_val_get(op, "output"), "resultWrapper");
	o->host_prefix = mc_id_at(k, hga_val_get(op, "endpoint"), "hostPrefix");
	o->in_name = mc_id_at(k, in, "locationName");
	mc_xml_ns(k, in, &o->in_ns, &o->in_nsprefix);
	o->checksum_member = mc_id_at(k, hga_val_get(op, "httpChecksum"),
	                              "requestAlgorithmMember");
	return 0;
}

int mc_add_op(struct mc *k, const struct mc_named *n)
{
	struct hga_img_op o;
	int rc;

	memset(&o, 0, sizeof(o));
	rc = mc_check_keys(k, n->v, keys_op, "operation", n->name);
	if (rc == 0)
		rc = op_texts(k, n->name, n->v, &o);
	if (rc == 0)
		rc = op_shape(k, n->v, "input", n->name, &o.input);
	if (rc == 0)
		rc = op_shape(k, n->v, "output", n->name, &o.output);
	if (rc == 0)
		rc = op_errors(k, n->v, n->name, &o.errors);
	if (rc == 0)
		rc = op_contexts(k, n->v, &o.contexts);
	if (rc < 0)
		return rc;
	o.flags = op_flags(k, n->name, n->v);
	o.repeat = repeat_class(k, n->name, n->v);
	o.page = HGA_IMG_NONE;
	(void)hga_modelw_add(k->w, HGA_IMG_OPS, &o);
	return 0;
}

/* ---- waiters ---- */

static uint8_t word_index(struct hga_str t, const char *const *words)
{
	uint8_t i;

	for (i = 0; words[i] != NULL; i++)
		if (hga_str_eqc(t, words[i]))
			return (uint8_t)(i + 1);
	return 0;
}

static int add_acceptor(struct mc *k, struct hga_val v, struct hga_str of)
{
	/* in the order of enum hga_aws_matcher and hga_aws_accstate */
	static const char *const matchers[] = {"path",   "pathAll", "pathAny",
	                                       "status", "error",   NULL};
	static const char *const states[] = {"success", "failure", "retry",
	                                     NULL};
	struct hga_val e = hga_val_get(v, "expected");
	struct hga_img_acceptor a;
	int rc = mc_check_keys(k, v, keys_acc, "acceptor of", of);

	if (rc < 0)
		return rc;
	memset(&a, 0, sizeof(a));
	a.matcher = word_index(mc_str_at(v, "matcher"), matchers);
	a.state = word_index(mc_str_at(v, "state"), states);
	a.argument = mc_id_at(k, v, "argument");
	a.text = HGA_IMG_NONE;
	if (hga_val_type(e) == HGA_V_STR) {
		a.kind = 's';
		a.text = hga_modelw_str(k->w, hga_val_str(e));
	} else if (hga_val_type(e) == HGA_V_BOOL) {
		a.kind = 'b';
		a.num = hga_val_bool(e, false);
	} else if (hga_val_type(e) == HGA_V_INT) {
		a.kind = 'i';
		a.num = (int32_t)hga_val_int(e, 0); /* a status or count */
	}
	if (a.matcher == 0 || a.state == 0 || a.kind == 0)
		return mc_bad(k, "acceptor of an unknown kind in", of);
	(void)hga_modelw_add(k->w, HGA_IMG_ACCS, &a);
	return 0;
}

static int add_waiter(struct mc *k, const struct mc_named *n)
{
	struct hga_val list = hga_val_get(n->v, "acceptors");
	struct hga_img_waiter w;
	struct hga_vit it;
	int rc = mc_check_keys(k, n->v, keys_waiter, "waiter", n->name);

	if (rc < 0)
		return rc;
	memset(&w, 0, sizeof(w));
	w.name = hga_modelw_str(k->w, n->name);
	hga_buf_clear(&k->scratch);
	rc = hga_aws_snake(&k->scratch, n->name, k->err);
	if (rc < 0)
		return rc;
	w.snake = hga_modelw_str(k->w, hga_buf_str(&k->scratch));
	w.op = mc_find_named(k->ops, k->n_ops, mc_str_at(n->v, "operation"));
	if (w.op == HGA_IMG_NONE)
		return mc_bad(k, "waiter on an operation that does not exist",
		              n->name);
	w.delay_s = mc_uint_at(n->v, "delay");
	w.max_attempts = mc_uint_at(n->v, "maxAttempts");
	w.acceptors.at = hga_modelw_count(k->w, HGA_IMG_ACCS);
	if (hga_val_is(list, HGA_V_LIST)) {
		w.acceptors.n = hga_val_count(list);
		for (it = hga_val_first(list); rc == 0 && hga_val_more(it);
		     it = hga_val_next(it))
			rc = add_acceptor(k, hga_vit_val(it), n->name);
	}
	(void)hga_modelw_add(k->w, HGA_IMG_WAITERS, &w);
	return rc;
}

int mc_add_waiters(struct mc *k, struct hga_val doc, struct hga_img_range *out)
{
	struct mc_named *v = NULL;
	uint32_t i, n;
	int rc = mc_sorted(k, hga_val_get(doc, "waiters"), &v, &n);

	out->at = hga_modelw_count(k->w, HGA_IMG_WAITERS);
	out->n = n;
	for (i = 0; rc == 0 && i < n; i++)
		rc = add_waiter(k, &v[i]);
	hga_free(v);
	return rc;
}

/* ---- paginators ---- */

static int add_page(struct mc *k, const struct mc_named *n, uint32_t number)
{
	struct hga_img_op *ops;
	struct hga_img_page p;
	int rc = mc_check_keys(k, n->v, keys_page, "paginator", n->name);

	if (rc < 0)
		return rc;
	memset(&p, 0, sizeof(p));
	p.op = mc_find_named(k->ops, k->n_ops, n->name);
	if (p.op == HGA_IMG_NONE)
		return mc_bad(k,
		              "paginator of an operation that does not exist",
		              n->name);
	p.limit_key = mc_id_at(k, n->v, "limit_key");
	p.more_results = mc_id_at(k, n->v, "more_results");
	p.in_tokens = mc_add_ids(k, hga_val_get(n->v, "input_token"));
	p.out_tokens = mc_add_ids(k, hga_val_get(n->v, "output_token"));
	p.result_keys = mc_add_ids(k, hga_val_get(n->v, "result_key"));
	p.non_aggregate =
	    mc_add_ids(k, hga_val_get(n->v, "non_aggregate_keys"));
	if (hga_modelw_add(k->w, HGA_IMG_PAGES, &p) == HGA_IMG_NONE)
		return 0; /* sticks in w */
	/* buffers are at least 16-aligned and records of one size */
	ops = (struct hga_img_op *)(void *)k->w->sections[HGA_IMG_OPS].data;
	ops[k->ops_at + p.op].page = number;
	return 0;
}

int mc_add_pages(struct mc *k, struct hga_val doc, struct hga_img_range *out)
{
	struct mc_named *v = NULL;
	uint32_t i, n;
	int rc = mc_sorted(k, hga_val_get(doc, "pagination"), &v, &n);

	out->at = hga_modelw_count(k->w, HGA_IMG_PAGES);
	out->n = n;
	for (i = 0; rc == 0 && i < n; i++)
		rc = add_page(k, &v[i], i);
	hga_free(v);
	return rc;
}
