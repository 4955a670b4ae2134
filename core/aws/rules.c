/*
 * Interpreter of endpoint rulesets (Smithy's endpoint rules), and the
 * partitions document.
 *
 * Recursion follows the nesting of the document, which the JSON parser
 * limits (HGA_JSON_DEPTH).
 */
#include "aws/rules.h"

#include "aws/rules_int.h"
#include "base/json.h"
#include "base/mem.h"

#include <regex.h>
#include <string.h>

#define DOC_MAX ((size_t)1 << 20)
#define TAPE_MAX ((size_t)64 << 20)
#define PATTERN_MAX 256

/* ---- partitions ---- */

struct hga_partitions {
	struct hga_str json;
	struct hga_vtape *tape; /* NULL: not read yet */
	struct hga_val list;
};

int hga_partitions_new(struct hga_partitions **out, struct hga_str json,
                       struct hga_err *err)
{
	struct hga_partitions *p = hga_calloc(1, sizeof(*p));

	if (p == NULL)
		return hga_fail_mem(err);
	p->json = json;
	*out = p;
	return 0;
}

void hga_partitions_free(struct hga_partitions *p)
{
	if (p == NULL)
		return;
	hga_vtape_free(p->tape);
	hga_free(p);
}

static int read_document(struct hga_str json, struct hga_vtape **out,
                         struct hga_err *err)
{
	if (json.n > DOC_MAX)
		return hga_fail(err, HGA_PROTOCOL, 0, "Ruleset",
		                "endpoint rules: a document of over %zu bytes",
		                DOC_MAX);
	return hga_json_parse(json, TAPE_MAX, out, err);
}

static int read_partitions(struct hga_partitions *p, struct hga_err *err)
{
	int rc;

	if (p->tape != NULL || p->json.n == 0)
		return 0;
	rc = read_document(p->json, &p->tape, err);
	if (rc < 0)
		return rc;
	p->list = hga_val_get(hga_vtape_root(p->tape), "partitions");
	return 0;
}

/*
 * A document's pattern in POSIX terms: \d and \w become sets, other escapes
 * of punctuation lose their backslash.  false: it has something else.
 */
static bool posix_pattern(struct hga_str p, char *out, size_t size)
{
	size_t n = 0;

	if (p.n == 0 || p.n > PATTERN_MAX)
		return false;
	for (size_t i = 0; i < p.n; i++) {
		const char *set = NULL;
		size_t len;

		if (p.s[i] == '\\' && i + 1 < p.n) {
			i++;
			if (p.s[i] == 'd')
				set = "[0-9]";
			else if (p.s[i] == 'w')
				set = "[A-Za-z0-9_]";
			else if (p.s[i] != '-')
				return false;
		}
		len = set != NULL ? strlen(set) : 1;
		if (p.s[i] == '\0' || n + len + 1 > size)
			return false;
		memcpy(out + n, set != NULL ? set : &p.s[i], len);
		n += len;
	}
	out[n] = '\0';
	return true;
}

static bool region_fits(struct hga_str pattern, struct hga_str region)
{
	char posix[PATTERN_MAX * 12 + 1], text[128];
	regex_t re;
	bool fits;

	if (region.n >= sizeof(text) ||
	    !posix_pattern(pattern, posix, sizeof(posix)))
		return false;
	memcpy(text, region.s, region.n);
	text[region.n] = '\0';
	if (regcomp(&re, posix, REG_EXTENDED | REG_NOSUB) != 0)
		return false;
	fits = regexec(&re, text, 0, NULL, 0) == 0;
	regfree(&re);
	return fits;
}

static void fill_partition(struct hga_val p, struct hga_str region,
                           struct hga_partition *out)
{
	struct hga_val id = hga_val_get(p, "id");

	out->outputs = hga_val_get(p, "outputs");
	out->region = hga_val_getn(hga_val_get(p, "regions"), region);
	out->name = hga_val_str(id);
	out->suffix = hga_val_str(hga_val_get(out->outputs, "dnsSuffix"));
	out->global_region =
	    hga_val_str(hga_val_get(out->outputs, "implicitGlobalRegion"));
}

int hga_partitions_find(struct hga_partitions *p, struct hga_str region,
                        struct hga_partition *out, bool *found,
                        struct hga_err *err)
{
	struct hga_vit it;
	int rc = read_partitions(p, err);

	memset(out, 0, sizeof(*out));
	*found = true;
	if (rc < 0)
		return rc;
	for (it = hga_val_first(p->list); hga_val_more(it);
	     it = hga_val_next(it)) {
		struct hga_val regions =
		    hga_val_get(hga_vit_val(it), "regions");

		if (hga_val_type(hga_val_getn(regions, region)) != HGA_V_NONE) {
			fill_partition(hga_vit_val(it), region, out);
			return 0;
		}
	}
	for (it = hga_val_first(p->list); hga_val_more(it);
	     it = hga_val_next(it)) {
		struct hga_val re = hga_val_get(hga_vit_val(it), "regionRegex");

		if (region_fits(hga_val_str(re), region)) {
			fill_partition(hga_vit_val(it), region, out);
			return 0;
		}
	}
	for (it = hga_val_first(p->list); hga_val_more(it);
	     it = hga_val_next(it)) {
		if (hga_str_eqc(hga_val_str(hga_val_get(hga_vit_val(it), "id")),
		                "aws")) {
			fill_partition(hga_vit_val(it), region, out);
			return 0;
		}
	}
	*found = false;
	return 0;
}

/* ---- documents ---- */

struct hga_rules {
	struct hga_vtape *tape;
	struct hga_val params, rules;
};

int hga_rules_new(struct hga_rules **out, struct hga_str json,
                  struct hga_err *err)
{
	struct hga_rules *r = hga_calloc(1, sizeof(*r));
	int rc;

	if (r == NULL)
		return hga_fail_mem(err);
	rc = read_document(json, &r->tape, err);
	if (rc < 0) {
		hga_free(r);
		return rc;
	}
	r->params = hga_val_get(hga_vtape_root(r->tape), "parameters");
	r->rules = hga_val_get(hga_vtape_root(r->tape), "rules");
	*out = r;
	return 0;
}

void hga_rules_free(struct hga_rules *r)
{
	if (r == NULL)
		return;
	hga_vtape_free(r->tape);
	hga_free(r);
}

struct hga_val hga_rules_params(const struct hga_rules *r)
{
	return r->params;
}

bool hga_rules_empty(const struct hga_rules *r)
{
	return !hga_val_is(r->rules, HGA_V_LIST);
}

/* ---- one evaluation ---- */

struct rules_block {
	struct rules_block *next;
	max_align_t data[];
};

/* A name; rules below see those above them. */
struct name {
	const struct name *next;
	struct hga_str name;
	struct rv value;
};

struct eval {
	struct rules_run run;
	const struct hga_rules *rules;
	struct hga_val params; /* given ones */
	struct hga_rules_result *out;
};

void *rules_alloc(struct rules_run *run, size_t size)
{
	struct rules_block *b;

	if (size > RULES_TEXT_MAX - run->used) {
		(void)hga_fail(run->err, HGA_PROTOCOL, 0, "Ruleset",
		               "endpoint rules: they make over %zu bytes of "
		               "text",
		               RULES_TEXT_MAX);
		return NULL;
	}
	b = hga_calloc(1, sizeof(*b) + size);
	if (b == NULL) {
		(void)hga_fail_mem(run->err);
		return NULL;
	}
	run->used += size;
	b->next = run->blocks;
	run->blocks = b;
	return b->data;
}

int rules_bad(struct rules_run *run, const char *what, struct hga_str name)
{
	return hga_fail(run->err, HGA_PROTOCOL, 0, "Ruleset",
	                "endpoint rules: %s: \"%.*s\"", what, HGA_STRF(name));
}

static bool is_object(struct hga_val v)
{
	return hga_val_is(v, HGA_V_MAP) || hga_val_is(v, HGA_V_STRUCT);
}

static struct rv param(const struct eval *e, struct hga_str name)
{
	struct rv v = rules_of_data(hga_val_getn(e->params, name));

	if (v.kind != RV_NONE)
		return v;
	return rules_of_data(
	    hga_val_get(hga_val_getn(e->rules->params, name), "default"));
}

/* A name of a rule above, else a parameter; others do not exist. */
static int look_up(struct eval *e, const struct name *names,
                   struct hga_str name, struct rv *out)
{
	for (; names != NULL; names = names->next) {
		if (hga_str_eq(names->name, name)) {
			*out = names->value;
			return 0;
		}
	}
	if (hga_val_type(hga_val_getn(e->rules->params, name)) == HGA_V_NONE)
		return rules_bad(&e->run, "unknown name", name);
	*out = param(e, name);
	return 0;
}

/* "{name}" or "{name#path}" (without braces) appended to b. */
static int expand_one(struct eval *e, const struct name *names,
                      struct hga_str what, struct hga_buf *b)
{
	ptrdiff_t hash = hga_str_chr(what, '#', 0);
	struct hga_str name = hash < 0 ? what : hga_strn(what.s, (size_t)hash);
	struct rv v, whole;
	int rc = look_up(e, names, name, &whole);

	v = whole;
	if (rc == 0 && hash >= 0)
		rc = rules_attr(
		    &e->run, &whole,
		    hga_strn(what.s + hash + 1, what.n - (size_t)hash - 1), &v);
	if (rc < 0)
		return rc;
	if (v.kind != RV_STR)
		return rules_bad(&e->run, "no text to put in", what);
	return hga_buf_addstr(b, v.s, e->run.err);
}

static int expand_into(struct eval *e, const struct name *names,
                       struct hga_str t, struct hga_buf *b)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < t.n; i++) {
		char c = t.s[i];
		ptrdiff_t close;

		if (c != '{' && c != '}') {
			rc = hga_buf_addc(b, c, e->run.err);
		} else if (i + 1 < t.n && t.s[i + 1] == c) {
			rc = hga_buf_addc(b, c, e->run.err);
			i++;
		} else if (c == '{') {
			close = hga_str_chr(t, '}', i);
			if (close < 0)
				return rules_bad(&e->run, "open brace in", t);
			rc = expand_one(
			    e, names,
			    hga_strn(t.s + i + 1, (size_t)close - i - 1), b);
			i = (size_t)close;
		} else {
			return rules_bad(&e->run, "brace too much in", t);
		}
	}
	return rc;
}

/* A template's text; without braces it is the template itself. */
static int expand(struct eval *e, const struct name *names, struct hga_str t,
                  struct hga_str *out)
{
	struct hga_buf b;
	char *copy;
	int rc;

	*out = t;
	if (hga_str_chr(t, '{', 0) < 0 && hga_str_chr(t, '}', 0) < 0)
		return 0;
	hga_buf_init(&b, RULES_TEXT_MAX);
	rc = expand_into(e, names, t, &b);
	if (rc == 0) {
		copy = rules_alloc(&e->run, b.len + 1);
		if (copy == NULL) {
			rc = -(int)e->run.err->kind;
		} else {
			memcpy(copy, hga_buf_text(&b), b.len);
			*out = hga_strn(copy, b.len);
		}
	}
	hga_buf_release(&b);
	return rc;
}

static int call(struct eval *e, const struct name *names, struct hga_val v,
                struct rv *out);

/* An argument: a reference, a call, a template or a plain value. */
static int value(struct eval *e, const struct name *names, struct hga_val v,
                 struct rv *out)
{
	struct hga_val ref = hga_val_get(v, "ref");

	*out = rules_of_data(v);
	if (out->kind == RV_STR)
		return expand(e, names, out->s, &out->s);
	if (!is_object(v))
		return 0;
	if (hga_val_is(ref, HGA_V_STR))
		return look_up(e, names, hga_val_str(ref), out);
	return call(e, names, v, out);
}

static int call(struct eval *e, const struct name *names, struct hga_val v,
                struct rv *out)
{
	struct hga_str name = hga_val_str(hga_val_get(v, "fn"));
	struct hga_val args = hga_val_get(v, "argv");
	struct rv argv[RULES_ARGS];
	unsigned n = 0, i = 0;
	rules_fn fn = rules_fn_find(name, &n);
	struct hga_vit it;
	int rc = 0;

	if (fn == NULL)
		return rules_bad(&e->run, "unknown function", name);
	if (!hga_val_is(args, HGA_V_LIST) || hga_val_count(args) != n)
		return rules_bad(&e->run, "wrong number of arguments", name);
	for (it = hga_val_first(args); rc == 0 && hga_val_more(it);
	     it = hga_val_next(it))
		rc = value(e, names, hga_vit_val(it), &argv[i++]);
	return rc == 0 ? fn(&e->run, argv, out) : rc;
}

/* ---- endpoints ---- */

static int text_value(struct eval *e, const struct name *names,
                      struct hga_val v, struct hga_str *out)
{
	struct rv r;
	int rc = value(e, names, v, &r);

	if (rc < 0)
		return rc;
	if (r.kind != RV_STR)
		return rules_bad(&e->run, "no text", HGA_STR("endpoint"));
	*out = r.s;
	return 0;
}

static int add_headers(struct eval *e, const struct name *names,
                       struct hga_val headers)
{
	struct hga_vit h, it;
	int rc = 0;

	if (!is_object(headers))
		return 0;
	for (h = hga_val_first(headers); rc == 0 && hga_val_more(h);
	     h = hga_val_next(h)) {
		struct hga_val list = hga_vit_val(h);

		if (!hga_val_is(list, HGA_V_LIST))
			return rules_bad(&e->run, "header without a list",
			                 hga_vit_name(&h));
		for (it = hga_val_first(list); rc == 0 && hga_val_more(it);
		     it = hga_val_next(it)) {
			struct hga_str text;

			rc = text_value(e, names, hga_vit_val(it), &text);
			if (rc == 0)
				rc = hga_aws_pairs_add(&e->out->headers,
				                       hga_vit_name(&h), text,
				                       e->run.err);
		}
	}
	return rc;
}

/* A property with its templates expanded. */
static int add_property(struct eval *e, const struct name *names,
                        struct hga_vtape *t, struct hga_val v)
{
	struct hga_str text;
	struct hga_vit it;
	int rc = 0;

	if (hga_val_is(v, HGA_V_STR)) {
		rc = expand(e, names, hga_val_str(v), &text);
		/* the tape's failure sticks in it */
		if (rc == 0)
			(void)hga_vt_str(t, HGA_NO_NAME, text);
		return rc;
	}
	if (hga_val_is(v, HGA_V_LIST)) {
		(void)hga_vt_open(t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
		for (it = hga_val_first(v); rc == 0 && hga_val_more(it);
		     it = hga_val_next(it))
			rc = add_property(e, names, t, hga_vit_val(it));
		(void)hga_vt_close(t);
		return rc;
	}
	if (!is_object(v)) {
		(void)hga_vt_copy(t, HGA_NO_NAME, v);
		return 0;
	}
	(void)hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	for (it = hga_val_first(v); rc == 0 && hga_val_more(it);
	     it = hga_val_next(it)) {
		(void)hga_vt_key(t, hga_vit_name(&it));
		rc = add_property(e, names, t, hga_vit_val(it));
	}
	(void)hga_vt_close(t);
	return rc;
}

static int add_properties(struct eval *e, const struct name *names,
                          struct hga_val v)
{
	int rc;

	if (!is_object(v) || hga_val_count(v) == 0)
		return 0;
	e->out->properties = hga_vtape_new(NULL, RULES_TEXT_MAX * 16);
	if (e->out->properties == NULL)
		return hga_fail_mem(e->run.err);
	rc = add_property(e, names, e->out->properties, v);
	if (rc == 0)
		rc = hga_vt_end(e->out->properties, e->run.err);
	return rc;
}

static int take_endpoint(struct eval *e, const struct name *names,
                         struct hga_val v)
{
	struct hga_str url = {NULL, 0};
	int rc = text_value(e, names, hga_val_get(v, "url"), &url);

	if (rc == 0)
		rc = hga_buf_addstr(&e->out->text, url, e->run.err);
	if (rc == 0)
		rc = add_headers(e, names, hga_val_get(v, "headers"));
	if (rc == 0)
		rc = add_properties(e, names, hga_val_get(v, "properties"));
	return rc;
}

static int refuse(struct eval *e, struct hga_str text)
{
	e->out->refused = true;
	return hga_buf_addstr(&e->out->text, text, e->run.err);
}

/* ---- rules ---- */

static int evaluate(struct eval *e, const struct name *names,
                    struct hga_val rules, bool *done);

/* Do all conditions hold?  Their named results come before *names. */
static int conditions(struct eval *e, const struct name **names,
                      struct hga_val list, bool *hold)
{
	struct hga_vit it;

	*hold = true;
	if (!hga_val_is(list, HGA_V_LIST))
		return 0;
	for (it = hga_val_first(list); hga_val_more(it);
	     it = hga_val_next(it)) {
		struct hga_val assign = hga_val_get(hga_vit_val(it), "assign");
		struct name *n;
		struct rv v = {0};
		int rc = call(e, *names, hga_vit_val(it), &v);

		if (rc < 0)
			return rc;
		*hold = v.kind != RV_NONE && (v.kind != RV_BOOL || v.b);
		if (!*hold)
			return 0;
		if (!hga_val_is(assign, HGA_V_STR))
			continue;
		n = rules_alloc(&e->run, sizeof(*n));
		if (n == NULL)
			return -(int)e->run.err->kind;
		n->next = *names;
		n->name = hga_val_str(assign);
		n->value = v;
		*names = n;
	}
	return 0;
}

static int apply(struct eval *e, const struct name *names, struct hga_val rule,
                 bool *done)
{
	struct hga_str type = hga_val_str(hga_val_get(rule, "type"));
	struct hga_val error = hga_val_get(rule, "error");
	struct hga_str text;
	int rc;

	if (hga_str_eqc(type, "tree")) {
		rc = evaluate(e, names, hga_val_get(rule, "rules"), done);
		if (rc < 0 || *done)
			return rc;
		*done = true;
		return refuse(e, HGA_STR("no endpoint rule applies"));
	}
	*done = true;
	if (hga_str_eqc(type, "endpoint"))
		return take_endpoint(e, names, hga_val_get(rule, "endpoint"));
	if (!hga_str_eqc(type, "error"))
		return rules_bad(&e->run, "unknown kind of rule", type);
	rc = text_value(e, names, error, &text);
	return rc == 0 ? refuse(e, text) : rc;
}

static int evaluate(struct eval *e, const struct name *names,
                    struct hga_val rules, bool *done)
{
	struct hga_vit it;
	int rc = 0;

	*done = false;
	if (!hga_val_is(rules, HGA_V_LIST))
		return 0;
	for (it = hga_val_first(rules); rc == 0 && !*done && hga_val_more(it);
	     it = hga_val_next(it)) {
		const struct name *own = names;
		bool hold;

		rc = conditions(
		    e, &own, hga_val_get(hga_vit_val(it), "conditions"), &hold);
		if (rc == 0 && hold)
			rc = apply(e, own, hga_vit_val(it), done);
	}
	return rc;
}

/* Required ones are there and all have their type; *done: refused. */
static int check_params(struct eval *e, bool *done)
{
	struct hga_vit it;

	*done = false;
	for (it = hga_val_first(e->rules->params); hga_val_more(it);
	     it = hga_val_next(it)) {
		struct hga_val p = hga_vit_val(it);
		struct hga_str type = hga_val_str(hga_val_get(p, "type"));
		struct rv v = param(e, hga_vit_name(&it));
		enum rv_kind want = RV_DATA;

		if (hga_str_ieqc(type, "string"))
			want = RV_STR;
		else if (hga_str_ieqc(type, "boolean"))
			want = RV_BOOL;
		if (v.kind != RV_NONE && v.kind != want)
			return rules_bad(&e->run, "parameter of a wrong type",
			                 hga_vit_name(&it));
		if (v.kind != RV_NONE ||
		    !hga_val_bool(hga_val_get(p, "required"), false))
			continue;
		*done = true;
		e->out->refused = true;
		return hga_buf_addf(&e->out->text, e->run.err,
		                    "endpoint parameter %.*s is missing",
		                    HGA_STRF(hga_vit_name(&it)));
	}
	return 0;
}

int hga_rules_eval(const struct hga_rules *r, struct hga_partitions *p,
                   struct hga_val params, struct hga_rules_result *out,
                   struct hga_err *err)
{
	struct hga_err own = {.kind = HGA_OK};
	struct eval e = {.rules = r, .params = params, .out = out};
	bool done;
	int rc;

	memset(out, 0, sizeof(*out));
	hga_buf_init(&out->text, RULES_TEXT_MAX);
	e.run.partitions = p;
	e.run.err = err != NULL ? err : &own;
	rc = check_params(&e, &done);
	if (rc == 0 && !done)
		rc = evaluate(&e, NULL, r->rules, &done);
	if (rc == 0 && !done)
		rc = refuse(&e, HGA_STR("no endpoint rule applies"));
	while (e.run.blocks != NULL) {
		struct rules_block *b = e.run.blocks;

		e.run.blocks = b->next;
		hga_free(b);
	}
	return rc;
}

void hga_rules_result_release(struct hga_rules_result *res)
{
	hga_buf_release(&res->text);
	hga_aws_pairs_release(&res->headers);
	hga_vtape_free(res->properties);
	res->properties = NULL;
}
