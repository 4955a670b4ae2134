/*
 * Endpoint rules: what documents may not hold, limits, partitions.  The
 * functions themselves are covered by the shared cases (tests/vectors).
 */
#include "tap.h"

#include "aws/rules.h"
#include "base/json.h"

static const char parts_text[] =
    "{\"partitions\":[{\"id\":\"aws\",\"regionRegex\":"
    "\"^(us|eu)\\\\-\\\\w+\\\\-\\\\d+$\",\"regions\":{\"us-east-1\":{},"
    "\"aws-global\":{}},\"outputs\":{\"dnsSuffix\":\"a.example\","
    "\"implicitGlobalRegion\":\"us-east-1\"}},{\"id\":\"aws-b\","
    "\"regionRegex\":\"^eub\\\\-\\\\d+$\",\"regions\":{\"odd\":"
    "{\"dnsSuffix\":\"odd.example\"}},\"outputs\":{\"dnsSuffix\":"
    "\"b.example\"}}]}";

#define RULES(params, rules)                                                   \
	"{\"parameters\":{" params "},\"rules\":[" rules "]}"
#define URL(text)                                                              \
	"{\"type\":\"endpoint\",\"conditions\":[],\"endpoint\":{\"url\":"      \
	"\"" text "\"}}"

/* want: the URL, "!text" for a refusal, NULL for a bad document. */
static void eval(const char *rules_text, const char *params, const char *want,
                 const char *what)
{
	struct hga_rules_result res = {0};
	struct hga_partitions *parts = NULL;
	struct hga_rules *rules = NULL;
	struct hga_vtape *t = NULL;
	struct hga_err err = {0};
	int rc;

	if (hga_rules_new(&rules, hga_str(rules_text), &err) < 0 ||
	    hga_partitions_new(&parts, hga_str(parts_text), &err) < 0 ||
	    hga_json_parse(hga_str(params), 1 << 20, &t, &err) < 0) {
		ok(false, "%s: %s", what, err.msg);
		return;
	}
	rc = hga_rules_eval(rules, parts, hga_vtape_root(t), &res, &err);
	if (want == NULL) {
		ok(rc == -HGA_PROTOCOL, "%s: %s", what, err.msg);
		is_str(err.code, "Ruleset", "its code");
	} else {
		ok(rc == 0 && res.refused == (want[0] == '!'), "%s", what);
		is_str(hga_buf_text(&res.text), want + res.refused, what);
	}
	hga_rules_result_release(&res);
	hga_vtape_free(t);
	hga_partitions_free(parts);
	hga_rules_free(rules);
}

static void test_documents(void)
{
	eval(RULES("\"R\":{\"type\":\"string\"}", URL("https://{R}.x")),
	     "{\"R\":\"a\"}", "https://a.x", "a template");
	eval(RULES("", URL("https://{{x}}")), "{}", "https://{x}",
	     "doubled braces are braces");
	eval(RULES("", URL("https://{R}")), "{}", NULL, "an unknown name");
	eval(RULES("\"R\":{\"type\":\"string\"}", URL("https://{R}")), "{}",
	     NULL, "a name without a value");
	eval(RULES("", URL("https://{R")), "{}", NULL, "an open brace");
	eval(RULES("", URL("https://R}")), "{}", NULL, "a closing brace");
	eval(RULES("\"R\":{\"type\":\"string\",\"required\":true}", URL("x")),
	     "{}", "!endpoint parameter R is missing",
	     "a required parameter is missing");
	eval(RULES("\"R\":{\"type\":\"string\",\"required\":true,\"default\":"
	           "\"d\"}",
	           URL("{R}")),
	     "{\"R\":null}", "d", "null is absent, defaults apply");
	eval(RULES("\"R\":{\"type\":\"boolean\"}", URL("x")), "{\"R\":\"a\"}",
	     NULL, "a parameter of a wrong type");
	eval(RULES("", "{\"type\":\"error\",\"conditions\":[{\"fn\":\"odd\","
	               "\"argv\":[]}],\"error\":\"x\"}"),
	     "{}", NULL, "an unknown function");
	eval(RULES("", "{\"type\":\"error\",\"conditions\":[{\"fn\":\"not\","
	               "\"argv\":[]}],\"error\":\"x\"}"),
	     "{}", NULL, "a missing argument");
	eval(RULES("", "{\"type\":\"error\",\"conditions\":[{\"fn\":\"not\","
	               "\"argv\":[\"x\"]}],\"error\":\"x\"}"),
	     "{}", NULL, "an argument of a wrong type");
	eval(RULES("", ""), "{}", "!no endpoint rule applies", "no rules");
	eval(RULES("", "{\"type\":\"odd\"}"), "{}", NULL,
	     "an unknown kind of rule");
}

/* Names that double a text each time must not eat the memory. */
static void test_limit(void)
{
	char doc[8192], *p = doc;

	p += snprintf(p, 512,
	              "{\"parameters\":{},\"rules\":[{\"type\":\"endpoint\","
	              "\"conditions\":[{\"fn\":\"uriEncode\",\"argv\":["
	              "\"aaaaaaaa\"],\"assign\":\"v0\"}");
	for (int i = 1; i < 40; i++)
		p += snprintf(p, 160,
		              ",{\"fn\":\"uriEncode\",\"argv\":[\"{v%d}{v%d}\"]"
		              ",\"assign\":\"v%d\"}",
		              i - 1, i - 1, i);
	snprintf(p, 128, "],\"endpoint\":{\"url\":\"{v39}\"}}]}");
	eval(doc, "{}", NULL, "texts that double");
}

static void partition(struct hga_partitions *p, const char *region,
                      const char *name, const char *suffix)
{
	struct hga_partition part;
	bool found = false;
	struct hga_err err = {0};

	if (hga_partitions_find(p, hga_str(region), &part, &found, &err) < 0 ||
	    !found) {
		ok(false, "%s: %s", region, err.msg);
		return;
	}
	ok(hga_str_eqc(part.name, name), "%s is of %s", region, name);
	ok(hga_str_eqc(part.suffix, suffix), "%s: %s", region, suffix);
}

static void test_partitions(void)
{
	struct hga_partitions *p = NULL;
	struct hga_partition part;
	struct hga_err err = {0};
	bool found = true;

	if (hga_partitions_new(&p, hga_str(parts_text), &err) < 0)
		abort();
	partition(p, "us-east-1", "aws", "a.example");
	partition(p, "eu-west-99", "aws", "a.example");
	partition(p, "eub-1", "aws-b", "b.example");
	partition(p, "mars", "aws", "a.example");
	hga_partitions_free(p);
	p = NULL;
	if (hga_partitions_new(&p, hga_str("{\"partitions\":7}"), &err) < 0)
		abort();
	ok(hga_partitions_find(p, HGA_STR("x"), &part, &found, &err) == 0 &&
	       !found,
	   "a document without partitions");
	hga_partitions_free(p);
	p = NULL;
	if (hga_partitions_new(&p, hga_str("{"), &err) < 0)
		abort();
	ok(hga_partitions_find(p, HGA_STR("x"), &part, &found, &err) ==
	       -HGA_PROTOCOL,
	   "a document that is no JSON");
	hga_partitions_free(p);
}

int main(void)
{
	test_documents();
	test_limit();
	test_partitions();
	return done();
}
