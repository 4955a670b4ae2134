/*
 * Model compiler: references and shapes, and the names members have on the
 * wire by the rules of the service's protocol.
 *
 * Old fragments (test suites, old models) put `payload` on the reference of
 * an operation and `location` or `flattened` on the target shape; both are
 * moved to the usual place here.
 */
#include "aws/modelc_int.h"

#include <string.h>

const char *const mc_keys_ref[] = {
    "shape", "locationName", "queryName", "location", "idempotencyToken",
    "flattened", "jsonvalue", "hostLabel", "streaming", "xmlAttribute",
    "xmlNamespace", "timestampFormat", "contextParam", "resultWrapper",
    "payload", "sensitive",
    /* ignored */
    "documentation", "deprecated", "deprecatedMessage", "deprecatedSince",
    "box", "eventpayload", "eventheader", "wrapper", "exception", "fault",
    "error", "endpointdiscoveryid", "min", "max", "pattern", "enum", "union",
    "document", NULL};
static const char *const keys_shape[] = {
    "type", "members", "member", "key", "value", "required", "enum", "min",
    "sensitive", "exception", "error", "fault", "retryable", "union",
    "document", "streaming", "payload", "eventstream", "flattened",
    "locationName", "location", "timestampFormat", "xmlNamespace",
    /* ignored */
    "documentation", "deprecated", "deprecatedMessage", "deprecatedSince",
    "max", "pattern", "box", "event", "wrapper", "xmlOrder", "synthetic",
    "requiresLength", "jsonvalue", "xmlAttribute", "hostLabel",
    "idempotencyToken", "box", "exceptionEvent", "documentationUrl", NULL};

/* ---- references and their names ---- */

struct hga_val mc_target_of(struct mc *k, struct hga_val ref, uint32_t *number)
{
	struct hga_val none = {NULL, 0};

	*number =
	    mc_find_named(k->shapes, k->n_shapes, mc_str_at(ref, "shape"));
	return *number == HGA_IMG_NONE ? none : k->shapes[*number].v;
}

static bool is_list(struct hga_val shape)
{
	return hga_str_eqc(mc_str_at(shape, "type"), "list");
}

static uint32_t capital_id(struct mc *k, struct hga_str name)
{
	hga_buf_clear(&k->scratch);
	if (hga_buf_addstr(&k->scratch, name, &k->w->err) < 0)
		return HGA_IMG_NONE;
	if (name.n > 0 && name.s[0] >= 'a' && name.s[0] <= 'z')
		k->scratch.data[0] = (char)(name.s[0] - 32);
	return hga_modelw_str(k->w, hga_buf_str(&k->scratch));
}

/* One name of a member on the wire, by the rules for XML and query. */
static struct hga_str xml_name(struct hga_val ref, struct hga_val target,
                               struct hga_str loc, struct hga_str name)
{
	struct hga_str item;

	if (loc.s != NULL)
		return loc;
	if (!is_list(target) || mc_true_at(ref, "flattened") ||
	    !mc_true_at(target, "flattened"))
		return name;
	item = mc_str_at(hga_val_get(target, "member"), "locationName");
	return item.s != NULL ? item : name;
}

static void set_names(struct mc *k, struct hga_img_member *m,
                      struct hga_val ref, struct hga_val target,
                      struct hga_str loc, struct hga_str name)
{
	struct hga_str wire, query = mc_str_at(ref, "queryName");

	switch (k->protocol) {
	case HGA_AWS_JSON:
	case HGA_AWS_REST_JSON:
	case HGA_AWS_CBOR:
		wire = loc.s != NULL ? loc : name;
		m->wire = hga_modelw_str(k->w, wire);
		m->sent = m->wire;
		return;
	case HGA_AWS_QUERY:
	case HGA_AWS_REST_XML:
		wire = xml_name(ref, target, loc, name);
		m->wire = hga_modelw_str(k->w, wire);
		m->sent = m->wire;
		return;
	case HGA_AWS_EC2:
		wire = xml_name(ref, target, loc, name);
		m->wire = hga_modelw_str(k->w, wire);
		if (query.s != NULL)
			m->sent = hga_modelw_str(k->w, query);
		else
			m->sent = capital_id(k, loc.s != NULL ? loc : name);
		return;
	}
}

static uint8_t ts_format(struct hga_str t)
{
	if (hga_str_eqc(t, "iso8601"))
		return HGA_TS_ISO;
	if (hga_str_eqc(t, "unixTimestamp"))
		return HGA_TS_UNIX;
	if (hga_str_eqc(t, "rfc822"))
		return HGA_TS_RFC822;
	return HGA_TS_NONE;
}

static uint8_t location(struct hga_str t)
{
	if (hga_str_eqc(t, "uri"))
		return HGA_LOC_URI;
	if (hga_str_eqc(t, "querystring"))
		return HGA_LOC_QUERY;
	if (hga_str_eqc(t, "header"))
		return HGA_LOC_HEADER;
	if (hga_str_eqc(t, "headers"))
		return HGA_LOC_HEADERS;
	if (hga_str_eqc(t, "statusCode"))
		return HGA_LOC_STATUS;
	return HGA_LOC_BODY;
}

static uint16_t ref_flags(struct hga_val ref, struct hga_val target)
{
	uint16_t f = 0;

	if (mc_true_at(ref, "idempotencyToken"))
		f |= HGA_MF_TOKEN;
	if (mc_true_at(ref, "flattened"))
		f |= HGA_MF_FLAT | HGA_MF_FLATREF;
	if (mc_true_at(target, "flattened"))
		f |= HGA_MF_FLAT;
	if (mc_true_at(ref, "jsonvalue") || mc_true_at(target, "jsonvalue"))
		f |= HGA_MF_JSONVALUE;
	if (mc_true_at(ref, "hostLabel"))
		f |= HGA_MF_HOSTLABEL;
	if (mc_true_at(ref, "streaming") || mc_true_at(target, "streaming"))
		f |= HGA_MF_STREAMING;
	if (mc_true_at(ref, "xmlAttribute"))
		f |= HGA_MF_XMLATTR;
	if (mc_true_at(ref, "sensitive") || mc_true_at(target, "sensitive"))
		f |= HGA_MF_SENSITIVE;
	return f;
}

/* xmlNamespace as {uri, prefix} or as a text. */
void mc_xml_ns(struct mc *k, struct hga_val v, uint32_t *uri, uint32_t *prefix)
{
	struct hga_val ns = hga_val_get(v, "xmlNamespace");

	*uri = HGA_IMG_NONE;
	*prefix = HGA_IMG_NONE;
	if (hga_val_type(ns) == HGA_V_STR) {
		*uri = hga_modelw_str(k->w, hga_val_str(ns));
	} else if (mc_is_object(ns)) {
		*uri = mc_id_at(k, ns, "uri");
		*prefix = mc_id_at(k, ns, "prefix");
	}
}

static uint32_t member_ext(struct mc *k, struct hga_val ref, struct hga_str loc)
{
	struct hga_img_mext x;
	bool rest =
	    k->protocol == HGA_AWS_REST_XML || k->protocol == HGA_AWS_REST_JSON;

	mc_xml_ns(k, ref, &x.ns, &x.nsprefix);
	x.context = mc_id_at(k, hga_val_get(ref, "contextParam"), "name");
	x.loc = rest ? hga_modelw_str(k->w, loc) : HGA_IMG_NONE;
	if (x.ns == HGA_IMG_NONE && x.context == HGA_IMG_NONE &&
	    x.loc == HGA_IMG_NONE)
		return HGA_IMG_NONE;
	return hga_modelw_add(k->w, HGA_IMG_MEXTS, &x);
}

/* Adds the reference `ref` called `name` (member, item, key or value). */
static int add_ref(struct mc *k, struct hga_val ref, struct hga_str name,
                   struct hga_str of, bool required)
{
	struct hga_img_member m;
	struct hga_val target;
	struct hga_str loc, t;
	uint32_t number;
	int rc;

	rc = mc_check_keys(k, ref, mc_keys_ref, "reference in", of);
	if (rc < 0)
		return rc;
	target = mc_target_of(k, ref, &number);
	if (number == HGA_IMG_NONE)
		return mc_bad(k, "reference to a shape that does not exist",
		              of);
	memset(&m, 0, sizeof(m));
	loc = mc_str_at(ref, "locationName");
	m.location = location(mc_str_at(ref, "location"));
	if (m.location == HGA_LOC_BODY && mc_has(target, "location")) {
		m.location = location(mc_str_at(target, "location"));
		if (loc.s == NULL)
			loc = mc_str_at(target, "locationName");
	}
	m.name = hga_modelw_str(k->w, name);
	set_names(k, &m, ref, target, loc, name);
	m.shape = (uint16_t)number; /* n_shapes < HGA_IMG_NOSHAPE */
	m.flags = ref_flags(ref, target);
	if (required)
		m.flags |= HGA_MF_REQUIRED;
	t = mc_str_at(ref, "timestampFormat");
	m.ts =
	    ts_format(t.s != NULL ? t : mc_str_at(target, "timestampFormat"));
	m.ext = member_ext(k, ref, loc);
	(void)hga_modelw_add(k->w, HGA_IMG_MEMBERS, &m); /* sticks in w */
	return 0;
}

/* ---- shapes ---- */

static int shape_type(struct mc *k, struct hga_str t, struct hga_str name,
                      uint8_t *out)
{
	static const struct {
		const char *name;
		uint8_t type;
	} v[] = {
	    {"structure", HGA_T_STRUCT},  {"list", HGA_T_LIST},
	    {"map", HGA_T_MAP},           {"string", HGA_T_STRING},
	    {"character", HGA_T_STRING},  {"integer", HGA_T_INT},
	    {"long", HGA_T_LONG},         {"short", HGA_T_INT},
	    {"byte", HGA_T_INT},          {"bigInteger", HGA_T_LONG},
	    {"float", HGA_T_FLOAT},       {"double", HGA_T_DOUBLE},
	    {"bigDecimal", HGA_T_DOUBLE}, {"boolean", HGA_T_BOOL},
	    {"blob", HGA_T_BLOB},         {"timestamp", HGA_T_TIME},
	};
	size_t i;

	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		if (hga_str_eqc(t, v[i].name)) {
			*out = v[i].type;
			return 0;
		}
	}
	return mc_bad(k, "unknown type of shape", name);
}

static uint16_t shape_flags(struct hga_val v)
{
	static const struct {
		const char *key;
		uint16_t flag;
	} t[] = {
	    {"flattened", HGA_SF_FLAT},
	    {"sensitive", HGA_SF_SENSITIVE},
	    {"exception", HGA_SF_EXCEPTION},
	    {"fault", HGA_SF_FAULT},
	    {"union", HGA_SF_UNION},
	    {"document", HGA_SF_DOCUMENT},
	    {"streaming", HGA_SF_STREAMING},
	    {"eventstream", HGA_SF_EVENTSTREAM},
	};
	struct hga_val r = hga_val_get(v, "retryable");
	uint16_t f = 0;
	size_t i;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		if (mc_true_at(v, t[i].key))
			f |= t[i].flag;
	if (hga_val_type(r) != HGA_V_NONE)
		f |= HGA_SF_RETRYABLE;
	if (mc_true_at(r, "throttling"))
		f |= HGA_SF_THROTTLING;
	if (mc_has(v, "min"))
		f |= HGA_SF_MIN;
	return f;
}

static bool is_required(struct hga_val shape, struct hga_str name)
{
	struct hga_val r = hga_val_get(shape, "required");
	struct hga_vit it;

	if (!hga_val_is(r, HGA_V_LIST))
		return false;
	for (it = hga_val_first(r); hga_val_more(it); it = hga_val_next(it))
		if (hga_str_eq(hga_val_str(hga_vit_val(it)), name))
			return true;
	return false;
}

static int add_members(struct mc *k, struct hga_val shape, struct hga_str name,
                       struct hga_img_shape *s)
{
	struct hga_val members = hga_val_get(shape, "members");
	uint16_t zero = 0;
	struct hga_vit it;
	uint32_t i;
	int rc;

	if (!mc_is_object(members))
		return 0;
	if (hga_val_count(members) > 0x7ffe)
		return mc_bad(k, "too many members", name);
	s->members.n = hga_val_count(members);
	for (it = hga_val_first(members); hga_val_more(it);
	     it = hga_val_next(it)) {
		struct hga_str m = hga_vit_name(&it);

		rc =
		    add_ref(k, hga_vit_val(it), m, name, is_required(shape, m));
		if (rc < 0)
			return rc;
	}
	s->perms = hga_modelw_count(k->w, HGA_IMG_U16S);
	for (i = 0; i < 2 * s->members.n; i++)
		(void)hga_modelw_add(k->w, HGA_IMG_U16S, &zero);
	return 0;
}

static int add_item(struct mc *k, struct hga_val shape, const char *key,
                    const char *def, struct hga_str name)
{
	struct hga_val ref = hga_val_get(shape, key);

	if (!mc_is_object(ref))
		return mc_bad(k, "list or map without its element", name);
	return add_ref(k, ref, hga_str(def), name, false);
}

static int add_children(struct mc *k, struct hga_val v, struct hga_str name,
                        struct hga_img_shape *s)
{
	int rc;

	s->members.at = hga_modelw_count(k->w, HGA_IMG_MEMBERS);
	if (s->type == HGA_T_STRUCT)
		return add_members(k, v, name, s);
	if (s->type == HGA_T_LIST) {
		s->members.n = 1;
		return add_item(k, v, "member", "member", name);
	}
	if (s->type != HGA_T_MAP)
		return 0;
	s->members.n = 2;
	rc = add_item(k, v, "key", "key", name);
	if (rc == 0)
		rc = add_item(k, v, "value", "value", name);
	return rc;
}

/* List of texts -> string ids. */
struct hga_img_range mc_add_ids(struct mc *k, struct hga_val list)
{
	struct hga_img_range r = {hga_modelw_count(k->w, HGA_IMG_U32S), 0};
	struct hga_vit it;
	uint32_t id;

	if (hga_val_type(list) == HGA_V_STR) {
		id = hga_modelw_str(k->w, hga_val_str(list));
		(void)hga_modelw_add(k->w, HGA_IMG_U32S, &id);
		r.n = 1;
		return r;
	}
	if (!hga_val_is(list, HGA_V_LIST))
		return r;
	for (it = hga_val_first(list); hga_val_more(it);
	     it = hga_val_next(it)) {
		if (hga_val_type(hga_vit_val(it)) != HGA_V_STR)
			continue;
		id = hga_modelw_str(k->w, hga_val_str(hga_vit_val(it)));
		(void)hga_modelw_add(k->w, HGA_IMG_U32S, &id);
		r.n++;
	}
	return r;
}

static uint32_t member_number(struct hga_val shape, struct hga_str name)
{
	struct hga_val members = hga_val_get(shape, "members");
	struct hga_vit it;
	uint32_t i = 0;

	if (name.s == NULL || !mc_is_object(members))
		return HGA_IMG_NONE;
	for (it = hga_val_first(members); hga_val_more(it);
	     it = hga_val_next(it), i++)
		if (hga_str_eq(hga_vit_name(&it), name))
			return i;
	return HGA_IMG_NONE;
}

/* `payload` of an operation's reference to this shape (old fragments). */
static struct hga_str old_payload(struct mc *k, struct hga_str shape)
{
	static const char *const ends[] = {"input", "output"};
	uint32_t i, e;

	for (i = 0; i < k->n_ops; i++) {
		for (e = 0; e < 2; e++) {
			struct hga_val ref = hga_val_get(k->ops[i].v, ends[e]);

			if (mc_has(ref, "payload") &&
			    hga_str_eq(mc_str_at(ref, "shape"), shape))
				return mc_str_at(ref, "payload");
		}
	}
	return hga_strn(NULL, 0);
}

static uint32_t shape_ext(struct mc *k, struct hga_val v, struct hga_str name)
{
	struct hga_val e = hga_val_get(v, "error");
	struct hga_str payload = mc_str_at(v, "payload");
	struct hga_img_sext x;

	memset(&x, 0, sizeof(x));
	if (payload.s == NULL && (k->protocol == HGA_AWS_REST_JSON ||
	                          k->protocol == HGA_AWS_REST_XML))
		payload = old_payload(k, name);
	x.min = hga_val_num(hga_val_get(v, "min"), 0);
	x.loc = mc_id_at(k, v, "locationName");
	mc_xml_ns(k, v, &x.ns, &x.nsprefix);
	x.payload = member_number(v, payload);
	x.code = mc_id_at(k, e, "code");
	x.status = mc_uint_at(e, "httpStatusCode");
	if (!mc_has(v, "min") && x.loc == HGA_IMG_NONE &&
	    x.ns == HGA_IMG_NONE && x.payload == HGA_IMG_NONE &&
	    x.code == HGA_IMG_NONE && x.status == 0)
		return HGA_IMG_NONE;
	return hga_modelw_add(k->w, HGA_IMG_SEXTS, &x);
}

int mc_add_shape(struct mc *k, const struct mc_named *n)
{
	struct hga_img_shape s;
	int rc;

	memset(&s, 0, sizeof(s));
	rc = mc_check_keys(k, n->v, keys_shape, "shape", n->name);
	if (rc == 0)
		rc = shape_type(k, mc_str_at(n->v, "type"), n->name, &s.type);
	if (rc < 0)
		return rc;
	s.name = hga_modelw_str(k->w, n->name);
	s.ts = ts_format(mc_str_at(n->v, "timestampFormat"));
	s.flags = shape_flags(n->v);
	rc = add_children(k, n->v, n->name, &s);
	if (rc < 0)
		return rc;
	s.enums = mc_add_ids(k, hga_val_get(n->v, "enum"));
	s.ext = shape_ext(k, n->v, n->name);
	(void)hga_modelw_add(k->w, HGA_IMG_SHAPES, &s);
	return 0;
}
