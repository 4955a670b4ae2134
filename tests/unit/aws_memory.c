/*
 * Each allocation of the AWS codecs fails once: no crash, no leak (a
 * sanitizer watches), and the failure is told as kind memory.
 */
#include "tap.h"

#include "aws_toy.h"

#include "aws/endpoint.h"
#include "aws/jmespath.h"
#include "aws/out.h"
#include "aws/ser.h"
#include "aws/sign.h"
#include "aws/valid.h"

static struct toy toy;

static int compile(struct hga_err *err)
{
	struct hga_modelc_src src = {
	    .name = HGA_STR("toy"),
	    .service = HGA_STR(TOY_META("ec2") TOY_BODY),
	    .waiters = HGA_STR(TOY_WAITERS),
	    .paginators = HGA_STR(TOY_PAGES),
	    .service_extras = HGA_STR("{\"merge\":{\"metadata\":{}}}"),
	    .ruleset = HGA_STR("{\"a\":1}"),
	};
	struct hga_modelc *c = hga_modelc_new(true);
	struct hga_aws_image *img = NULL;
	struct hga_buf out;
	int rc;

	if (c == NULL)
		return hga_fail_mem(err);
	hga_buf_init(&out, 1 << 24);
	rc = hga_modelc_add(c, &src, err);
	if (rc == 0)
		rc = hga_modelc_finish(c, &out, err);
	if (rc == 0)
		rc = hga_aws_image_open(&img, out.data, out.len, false, err);
	hga_aws_image_free(img);
	hga_modelc_free(c);
	hga_buf_release(&out);
	return rc;
}

static int token(void *data, char out[37], struct hga_err *err)
{
	(void)data;
	(void)err;
	memcpy(out, "t", 2);
	return 0;
}

static int request(const char *op, const char *params, struct hga_err *err)
{
	struct hga_aws_tokens tokens = {token, NULL};
	struct hga_aws_ser s = {.op = hga_aws_op_find(toy.svc, hga_str(op)),
	                        .tokens = &tokens};
	struct hga_sign_args a = {
	    .creds = {HGA_STR("a"), HGA_STR("b"), HGA_STR("c")},
	    .region = HGA_STR("r"),
	    .service = HGA_STR("s"),
	    .host = HGA_STR("h"),
	    .expires_s = 60,
	};
	struct hga_sign_cache cache;
	struct hga_aws_request r;
	struct hga_vtape *p = NULL;
	struct hga_buf report;
	int rc;

	memset(&r, 0, sizeof(r));
	memset(&cache, 0, sizeof(cache));
	hga_buf_init(&report, 1 << 16);
	rc = hga_json_parse(hga_str(params), 1 << 20, &p, err);
	if (rc == 0)
		s.params = hga_vtape_root(p);
	if (rc == 0)
		rc = hga_aws_validate(s.op, s.params, &report, NULL, err);
	if (rc == 0)
		rc = hga_aws_serialize(&s, &r, err);
	if (rc == 0)
		rc = hga_aws_sign(&r, &a, &cache, NULL, err);
	if (rc == 0)
		rc = hga_aws_presign(&r, &a, &cache, NULL, err);
	hga_aws_request_release(&r);
	hga_sign_cache_release(&cache);
	hga_vtape_free(p);
	hga_buf_release(&report);
	return rc;
}

static int query_request(struct hga_err *err)
{
	return request("DescribeThings",
	               "{\"Ids\":[\"a\",\"b\"],\"Tags\":{\"x\":\"y\"},"
	               "\"When\":1,\"Where\":{\"AvailabilityZone\":\"z\"}}",
	               err);
}

static int token_request(struct hga_err *err)
{
	return request("RunARNs", "{\"Name\":\"n\"}", err);
}

static int answer(int status, const char *body, struct hga_err *err)
{
	struct hga_aws_op op =
	    hga_aws_op_find(toy.svc, HGA_STR("DescribeThings"));
	struct hga_vtape *t = hga_vtape_new(&toy.svc->names, 1 << 24);
	struct hga_aws_out *o = t == NULL ? NULL : hga_aws_out_new(op, NULL, t);
	enum hga_aws_answer kind;
	int rc;

	if (o == NULL) {
		hga_vtape_free(t);
		return hga_fail_mem(err);
	}
	rc = hga_aws_out_head(o, status, HGA_STR("a: b\n"), err);
	if (rc == 0)
		rc = hga_aws_out_feed(o, body, strlen(body), err);
	if (rc == 0)
		rc = hga_aws_out_finish(o, &kind, err);
	hga_aws_out_free(o);
	hga_vtape_free(t);
	return rc;
}

static int xml_answer(struct hga_err *err)
{
	return answer(200,
	              "<DescribeThingsResponse><thingSet><item><thingId>a"
	              "</thingId><data>aGk=</data></item></thingSet><Flat>1"
	              "</Flat><count>6</count><Flat>2</Flat><Tags><entry>"
	              "<value>v</value><key>k</key></entry></Tags>"
	              "</DescribeThingsResponse>",
	              err);
}

static int xml_error(struct hga_err *err)
{
	return answer(409,
	              "<Response><Errors><Error><Code>ThingBusy</Code><Message>"
	              "m</Message><Holder>h</Holder></Error></Errors>"
	              "<RequestID>r</RequestID></Response>",
	              err);
}

static int jmespath(struct hga_err *err)
{
	struct hga_vtape *in = NULL, *out = NULL;
	int rc;

	rc = hga_json_parse(HGA_STR("{\"a\":[{\"b\":2},{\"b\":1}]}"), 1 << 20,
	                    &in, err);
	if (rc == 0)
		rc = hga_jp_query(
		    HGA_STR("{x: sort_by(a, &b)[?b > `0`].b | [0:1], "
		            "\"y z\": to_string(a), w: 'it\\'s', "
		            "v: keys(@), u: join(',', ['a', 'b'])}"),
		    hga_vtape_root(in), &out, err);
	hga_vtape_free(in);
	hga_vtape_free(out);
	return rc;
}

static void torture(const char *name, int (*fn)(struct hga_err *))
{
	struct hga_err err = {.kind = HGA_OK};
	unsigned long n, wrong = 0;
	int rc;

	for (n = 1; n < 100000; n++) {
		memset(&err, 0, sizeof(err));
		hga_mem_torture(n, false);
		rc = fn(&err);
		hga_mem_torture(0, false);
		if (rc == 0)
			break;
		if (rc != -HGA_MEMORY || err.kind != HGA_MEMORY) {
			wrong++;
			printf("# %s, allocation %lu: %d %s\n", name, n, rc,
			       err.msg);
		}
	}
	ok(wrong == 0 && n > 3 && n < 100000,
	   "%s: each of %lu allocations may fail", name, n - 1);
}

static const char rules_text[] =
    "{\"parameters\":{\"Region\":{\"type\":\"string\",\"builtIn\":"
    "\"AWS::Region\"}},\"rules\":[{\"type\":\"endpoint\",\"conditions\":["
    "{\"fn\":\"aws.partition\",\"argv\":[{\"ref\":\"Region\"}],\"assign\":"
    "\"p\"},{\"fn\":\"uriEncode\",\"argv\":[\"a/b\"],\"assign\":\"e\"},{"
    "\"fn\":\"parseURL\",\"argv\":[\"https://h/p\"],\"assign\":\"u\"},{"
    "\"fn\":\"aws.parseArn\",\"argv\":[\"arn:a:b:c:d:e\"],\"assign\":\"a\"}"
    "],\"endpoint\":{\"url\":\"https://{Region}.{p#dnsSuffix}/{e}\","
    "\"headers\":{\"x\":[\"{a#region}{u#normalizedPath}\"]},\"properties\":{"
    "\"authSchemes\":[{\"name\":\"sigv4\",\"signingRegion\":\"{Region}\"}]}"
    "}}]}";

static int endpoint(struct hga_err *err)
{
	static const char parts_text[] =
	    "{\"partitions\":[{\"id\":\"aws\",\"regions\":{\"r\":{}},"
	    "\"outputs\":{\"dnsSuffix\":\"x.example\"}}]}";
	struct hga_aws_endpoint_args a = {.svc = toy.svc,
	                                  .region = HGA_STR("r")};
	struct hga_partitions *parts = NULL;
	struct hga_rules *rules = NULL;
	struct hga_aws_endpoint e;
	int rc = hga_rules_new(&rules, hga_str(rules_text), err);

	if (rc == 0)
		rc = hga_partitions_new(&parts, hga_str(parts_text), err);
	a.rules = rules;
	a.partitions = parts;
	if (rc == 0)
		rc = hga_aws_endpoint_find(&a, &e, err);
	hga_partitions_free(parts);
	hga_rules_free(rules);
	return rc;
}

int main(void)
{
	toy_open(&toy, TOY_META("ec2") TOY_BODY);
	torture("endpoint rules", endpoint);
	torture("compiling a model", compile);
	torture("request with lists and maps", query_request);
	torture("request with a token", token_request);
	torture("XML answer", xml_answer);
	torture("XML error", xml_error);
	torture("JMESPath", jmespath);
	toy_close(&toy);
	toy_open(&toy, TOY_META("json") TOY_BODY);
	torture("JSON request", query_request);
	toy_close(&toy);
	return done();
}
