/*
 * Serialisers, readers, errors, validation and suggestions on a small
 * service: what the third-party cases do not ask.
 */
#include "tap.h"

#include "aws_toy.h"

#include "aws/out.h"
#include "aws/ser.h"
#include "aws/valid.h"

#define TAPE_MAX (1u << 26)

/* ---- requests ---- */

static int count_tokens(void *data, char out[37], struct hga_err *err)
{
	(void)err;
	snprintf(out, 37, "token-%d", ++*(int *)data);
	return 0;
}

/* Body of a request, or the error's text; static memory. */
static const char *body_of(const struct toy *t, const char *op,
                           const char *params, const char *extra,
                           struct hga_aws_request *keep)
{
	static char text[4096];
	struct hga_vtape *p = NULL, *x = NULL;
	int n = 0;
	struct hga_aws_tokens tokens = {count_tokens, &n};
	struct hga_aws_ser s = {.op = hga_aws_op_find(t->svc, hga_str(op)),
	                        .tokens = &tokens};
	struct hga_aws_request r;
	struct hga_err err;

	memset(&r, 0, sizeof(r));
	s.params = toy_json(params, &p);
	if (extra != NULL)
		s.extra = toy_json(extra, &x);
	if (hga_aws_serialize(&s, &r, &err) < 0)
		snprintf(text, sizeof(text), "%s: %s", err.code, err.msg);
	else
		snprintf(text, sizeof(text), "%s", hga_buf_text(&r.body));
	if (keep != NULL)
		*keep = r;
	else
		hga_aws_request_release(&r);
	hga_vtape_free(p);
	hga_vtape_free(x);
	return text;
}

#define HEAD "Action=DescribeThings&Version=2020-01-01"

static void test_query(void)
{
	struct hga_aws_request r;
	struct toy t;

	toy_open(&t, TOY_META("ec2") TOY_BODY);
	is_str(body_of(&t, "DescribeThings",
	               "{\"Ids\":[\"a b\",null,\"c&d\"],\"MaxResults\":7.0}",
	               NULL, NULL),
	       HEAD "&Id.1=a%20b&Id.2=c%26d&MaxResults=7",
	       "lists, blanks, an exact float for an integer");
	is_str(body_of(&t, "DescribeThings", "{\"When\":1.5}", NULL, NULL),
	       HEAD "&When=1970-01-01T00%3A00%3A01.5Z",
	       "a timestamp with a fraction");
	is_str(body_of(&t, "DescribeThings", "{\"Ids\":[]}", NULL, NULL), HEAD,
	       "ec2 writes nothing for an empty list");
	is_str(body_of(&t, "DescribeThings", "{\"Ids\":{\"a\":1}}", NULL, NULL),
	       "ParamValidation: parameter Ids: expected table (list)",
	       "a map for a list is named with its path");
	is_str(body_of(&t, "DescribeThings", "{\"Where\":{\"Nope\":1}}", NULL,
	               NULL),
	       HEAD, "what the model does not know is not sent");
	is_str(body_of(&t, "DescribeThings", "{}", "{\"New.1\":\"x\"}", NULL),
	       HEAD "&New.1=x", "raw parameters are appended");
	is_str(body_of(&t, "DescribeThings", "{}", "{\"New\":1}", NULL),
	       "ParamValidation: extra.New: expected string",
	       "and must be texts");
	is_str(body_of(&t, "CreateThing", "{\"Name\":\"n\"}", NULL, &r),
	       "Action=CreateThing&Version=2020-01-01&Name=n"
	       "&ClientToken=token-1",
	       "an absent idempotency token is made");
	ok(r.tokens.n == 1 && strcmp(r.tokens.v[0].name, "ClientToken") == 0 &&
	       strcmp(r.tokens.v[0].value, "token-1") == 0,
	   "and recorded");
	hga_aws_request_release(&r);
	(void)body_of(&t, "CreateThing", "{\"ClientToken\":\"mine\"}", NULL,
	              &r); /* only r counts */
	ok(r.tokens.n == 0, "a given token is left alone");
	hga_aws_request_release(&r);
	(void)body_of(&t, "RunARNs", "{\"Name\":\"abc\"}", NULL, &r);
	is_str(hga_buf_text(&r.host_prefix), "abc-x.",
	       "a label is put into the host prefix");
	hga_aws_request_release(&r);
	is_str(body_of(&t, "RunARNs", "{\"Name\":\"a/b\"}", NULL, NULL),
	       "ParamValidation: parameter Name: must be a host name label "
	       "(letters, digits, '-', '.')",
	       "unless it could name another host");
	toy_close(&t);
	toy_open(&t, TOY_META("query") TOY_BODY);
	is_str(body_of(&t, "DescribeThings",
	               "{\"Ids\":[],\"Tags\":{\"b\":\"2\",\"a\":\"1\"}}", NULL,
	               NULL),
	       HEAD "&id=&Tags.entry.1.key=a&Tags.entry.1.value=1"
	            "&Tags.entry.2.key=b&Tags.entry.2.value=2",
	       "query: empty list, map entries by key");
	toy_close(&t);
}

static void test_json(void)
{
	struct hga_aws_request r;
	struct toy t;

	toy_open(&t, TOY_META("json") TOY_BODY);
	is_str(body_of(&t, "DescribeThings",
	               "{\"When\":\"1970-01-01T00:00:02Z\",\"Ids\":[\"x\"],"
	               "\"Tags\":{\"b\":\"2\",\"a\":\"1\"},\"Kind\":null}",
	               NULL, &r),
	       "{\"id\":[\"x\"],\"Tags\":{\"a\":\"1\",\"b\":\"2\"},\"When\":2}",
	       "members in model order, maps by key, no nulls");
	is_str(hga_aws_pairs_get(&r.headers, "x-amz-target"),
	       "Toy.DescribeThings", "the target header");
	is_str(hga_aws_pairs_get(&r.headers, "content-type"),
	       "application/x-amz-json-1.1", "the content type");
	hga_aws_request_release(&r);
	is_str(body_of(&t, "DescribeThings", "{}", NULL, NULL), "{}",
	       "an object even without parameters");
	is_str(body_of(&t, "DescribeThings", "{}", "{\"New\":[1]}", NULL),
	       "{\"New\":[1]}", "raw members are added");
	toy_close(&t);
	toy_open(&t, TOY_META("smithy-rpc-v2-cbor") TOY_BODY);
	ok(strncmp(body_of(&t, "DescribeThings", "{}", NULL, NULL),
	           "Unsupported: toy:", 17) == 0,
	   "a protocol without serialiser is a clear error");
	toy_close(&t);
}

/* ---- answers ---- */

/* "ok JSON", "error CODE|MESSAGE|REQUESTID JSON" or "KIND CODE"; static. */
static const char *answer(const struct toy *t, const char *opname, int status,
                          const char *head, const char *body, size_t n)
{
	static char text[8192];
	struct hga_aws_op op = hga_aws_op_find(t->svc, hga_str(opname));
	struct hga_vtape *tape = hga_vtape_new(&t->svc->names, TAPE_MAX);
	struct hga_aws_out *o = hga_aws_out_new(op, NULL, tape);
	enum hga_aws_answer kind = HGA_ANSWER_OK;
	struct hga_err err = {.kind = HGA_OK};
	struct hga_buf b;
	int rc;

	hga_buf_init(&b, 1 << 20);
	rc = hga_aws_out_head(o, status, hga_str(head), &err);
	if (rc == 0)
		rc = hga_aws_out_feed(o, body, n, &err);
	if (rc == 0)
		rc = hga_aws_out_finish(o, &kind, &err);
	if (rc < 0) {
		snprintf(text, sizeof(text), "%s %s", hga_kind_name(err.kind),
		         err.code);
	} else if (kind == HGA_ANSWER_ERROR) {
		const struct hga_aws_error *e = hga_aws_out_error(o);

		if (hga_json_write(&b, hga_aws_out_members(o), 0, true, NULL) <
		    0)
			abort();
		snprintf(text, sizeof(text), "error %s|%s|%s %s%s%s", e->code,
		         hga_buf_text(&e->message), hga_aws_out_request_id(o),
		         hga_buf_text(&b), e->retryable ? " retryable" : "",
		         e->throttling ? " throttling" : "");
	} else {
		if (hga_json_write(&b, hga_vtape_root(tape), 0, true, NULL) < 0)
			abort();
		snprintf(text, sizeof(text), "ok %s%s%s", hga_buf_text(&b),
		         hga_aws_out_request_id(o)[0] != '\0' ? " " : "",
		         hga_aws_out_request_id(o));
	}
	hga_buf_release(&b);
	hga_aws_out_free(o);
	hga_vtape_free(tape);
	return text;
}

static const char *got(const struct toy *t, const char *op, const char *body)
{
	return answer(t, op, 200, "", body, strlen(body));
}

#define R(x) "<DescribeThingsResponse>" x "</DescribeThingsResponse>"

static void test_xml(void)
{
	struct toy t;

	toy_open(&t, TOY_META("ec2") TOY_BODY);
	is_str(got(&t, "DescribeThings",
	           "<?xml version=\"1.0\"?>\n" R(
	               "<requestId>rq</requestId><thingSet><item>"
	               "<thingId>a&amp;b</thingId><made>2020-01-01T00:00:"
	               "00.500Z</made><on>true</on><data>aGk=</data><new>"
	               "<x>1</x></new><inner><thingId/></inner></item>"
	               "<item/></thingSet><count>7</count>")),
	       "ok {\"Count\":7,\"Things\":[{\"Data\":\"aGk=\",\"Inner\":"
	       "{\"ThingId\":\"\"},\"Made\":1577836800.5,\"On\":true,"
	       "\"ThingId\":\"a&b\"},{}]} rq",
	       "all kinds of members; unknown elements are skipped");
	is_str(got(&t, "DescribeThings",
	           R("<Flat>1</Flat><Other>a</Other><Flat>2</Flat>"
	             "<Other>b</Other><count>5</count><Flat>3</Flat>")),
	       "ok {\"Count\":5,\"Flat\":[\"1\",\"2\",\"3\"],"
	       "\"Other\":[\"a\",\"b\"]}",
	       "mixed elements of two flattened lists");
	is_str(got(&t, "DescribeThings",
	           R("<Tags><entry><key>k</key><value>v</value></entry>"
	             "<entry><value>v2</value><key>k2</key></entry>"
	             "<entry><key>lone</key></entry></Tags>")),
	       "ok {\"Tags\":{\"k\":\"v\",\"k2\":\"v2\"}}",
	       "a map's value may come before its key");
	is_str(got(&t, "DescribeThings", R("<Choice><C>1</C></Choice>")),
	       "ok {\"Choice\":{\"SDK_UNKNOWN_MEMBER\":{\"name\":\"C\"}}}",
	       "an unknown member of a union");
	is_str(got(&t, "DescribeThings", R("<Choice><B>9</B></Choice>")),
	       "ok {\"Choice\":{\"B\":9}}", "a known one");
	is_str(got(&t, "DescribeThings", R("<count></count>")), "ok {}",
	       "an empty number is absent");
	is_str(got(&t, "DeleteThing",
	           "<DeleteThingResponse><return>true</return>"
	           "</DeleteThingResponse>"),
	       "ok {}", "an operation without output");
	is_str(got(&t, "DeleteThing", ""), "ok {}", "or without a body");
	toy_close(&t);
}

static void test_garbled(void)
{
	static const char nul[] = R("<count>1\0</count>");
	struct toy t;

	toy_open(&t, TOY_META("ec2") TOY_BODY);
	is_str(got(&t, "DescribeThings", ""), "protocol Garbled", "empty");
	is_str(got(&t, "DescribeThings", " \r\n"), "protocol Garbled", "blank");
	is_str(got(&t, "DescribeThings", "<DescribeThingsResponse><count>7"),
	       "protocol Garbled", "truncated");
	is_str(got(&t, "DescribeThings", "<html><body>Log in</body></html>"),
	       "protocol Garbled", "a portal page");
	is_str(got(&t, "DescribeThings",
	           "<!DOCTYPE html><html><body>x</body></html>"),
	       "protocol Garbled", "a portal page with DOCTYPE");
	is_str(got(&t, "DescribeThings",
	           "<CreateThingResponse></CreateThingResponse>"),
	       "protocol Garbled", "another operation's answer");
	is_str(got(&t, "DescribeThings", R("<count>many</count>")),
	       "protocol Garbled", "a number that is none");
	is_str(answer(&t, "DescribeThings", 200, "", nul, sizeof(nul) - 1),
	       "protocol Garbled", "a NUL");
	toy_close(&t);
	toy_open(&t, TOY_META("json") TOY_BODY);
	is_str(got(&t, "DescribeThings", ""), "ok {}",
	       "json: an empty body is an empty object");
	is_str(got(&t, "DescribeThings", "[]"), "protocol Garbled",
	       "json: an array");
	is_str(got(&t, "DescribeThings", "{\"count\":1"), "protocol Garbled",
	       "json: truncated");
	is_str(got(&t, "DescribeThings", "<html/>"), "protocol Garbled",
	       "json: a page");
	is_str(got(&t, "DescribeThings", "{\"thingSet\":5}"),
	       "protocol Garbled", "json: another type than the model's");
	toy_close(&t);
}

static void test_limits(void)
{
	struct hga_buf b;
	struct toy t;
	int i;

	hga_buf_init(&b, 1 << 22);
	toy_open(&t, TOY_META("ec2") TOY_BODY);
	if (hga_buf_adds(&b, "<DescribeThingsResponse>", NULL) < 0)
		abort();
	for (i = 0; i < 70; i++)
		if (hga_buf_adds(&b, "<inner>", NULL) < 0)
			abort();
	is_str(answer(&t, "DescribeThings", 200, "", b.data, b.len),
	       "protocol TooDeep", "depth over the limit is named");
	hga_buf_clear(&b);
	if (hga_buf_adds(&b, "<DescribeThingsResponse><nextToken>", NULL) < 0 ||
	    hga_buf_reserve(&b, 2 << 20, NULL) < 0)
		abort();
	memset(b.data + b.len, 'x', 2 << 20);
	b.len += 2 << 20;
	is_str(answer(&t, "DescribeThings", 200, "", b.data, b.len),
	       "protocol TooLarge", "text over the limit is named");
	hga_buf_release(&b);
	toy_close(&t);
}

static void test_json_answers(void)
{
	struct toy t;

	toy_open(&t, TOY_META("json") TOY_BODY);
	is_str(got(&t, "DescribeThings",
	           "{\"thingSet\":[{\"thingId\":\"a\",\"made\":1577836800,"
	           "\"on\":false,\"data\":\"aGk=\",\"what\":[{\"x\":1}]},null],"
	           "\"Tags\":{\"a\":\"1\",\"n\":null},\"Flat\":[\"x\",null],"
	           "\"count\":12345678901234567,\"nextToken\":null}"),
	       "ok {\"Count\":12345678901234567,\"Flat\":[\"x\",null],"
	       "\"Tags\":{\"a\":\"1\"},\"Things\":[{\"Data\":\"aGk=\","
	       "\"Made\":1577836800,\"On\":false,\"ThingId\":\"a\"},null]}",
	       "members, nulls, integers beyond 2^53, unknown ones");
	is_str(got(&t, "DescribeThings",
	           "{\"thingSet\":[{\"made\":\"2020-01-01T00:00:00Z\"}],"
	           "\"Choice\":{\"__type\":\"t\",\"Z\":{\"q\":1}}}"),
	       "ok {\"Choice\":{\"SDK_UNKNOWN_MEMBER\":{\"name\":\"Z\"}},"
	       "\"Things\":[{\"Made\":1577836800}]}",
	       "a date as text; an unknown member of a union");
	is_str(answer(&t, "DescribeThings", 200, "x-amzn-requestid: r9\n", "{}",
	              2),
	       "ok {} r9", "the request id of a header");
	toy_close(&t);
}

/* ---- errors ---- */

static const char *err_of(const struct toy *t, int status, const char *head,
                          const char *body)
{
	return answer(t, "DescribeThings", status, head, body, strlen(body));
}

static void test_errors(void)
{
	struct toy t;

	toy_open(&t, TOY_META("ec2") TOY_BODY);
	is_str(err_of(&t, 409, "",
	              "<Response><Errors><Error><Code>ThingBusy</Code>"
	              "<Message>wait</Message><Holder>me</Holder></Error>"
	              "</Errors><RequestID>r1</RequestID></Response>"),
	       "error ThingBusy|wait|r1 {\"Holder\":\"me\"} retryable "
	       "throttling",
	       "ec2's form, with the modelled members and traits");
	is_str(err_of(&t, 400, "",
	              "<ErrorResponse><Error><Type>Sender</Type><Code>X</Code>"
	              "<Message>m</Message></Error><RequestId>r2</RequestId>"
	              "</ErrorResponse>"),
	       "error X|m|r2 {}", "query's form");
	is_str(err_of(&t, 403, "",
	              "<Error><Code>AccessDenied</Code><Message>no</Message>"
	              "<RequestId>r3</RequestId><HostId>h</HostId></Error>"),
	       "error AccessDenied|no|r3 {}", "s3's form");
	is_str(err_of(&t, 500, "", "<html>oops</html>"),
	       "error 500|Internal Server Error| {}", "an HTML page");
	is_str(err_of(&t, 503, "x-amzn-requestid: r4\n", ""),
	       "error 503|Service Unavailable|r4 {}", "no body at all");
	is_str(err_of(&t, 400, "",
	              "<Response><Errors><Error><Code>Cut</Code><Message>of"),
	       "error Cut|of| {}", "a cut body says what it can");
	is_str(err_of(&t, 301, "location: https://elsewhere/\n", ""),
	       "error 301|Moved Permanently (not followed, to "
	       "https://elsewhere/)| {}",
	       "a redirect is shown, not followed");
	is_str(err_of(&t, 400, "", "\0"), "error 400|Bad Request| {}",
	       "an empty code becomes the status");
	toy_close(&t);
	toy_open(&t, TOY_META("json") TOY_BODY);
	is_str(err_of(&t, 400, "x-amzn-errortype: ns#Busy:http://x\n",
	              "{\"message\":\"m\",\"Holder\":\"me\"}"),
	       "error Busy|m| {\"Holder\":\"me\"} retryable throttling",
	       "json: code of the header, cut to its name");
	is_str(err_of(&t, 400, "x-amzn-query-error: Old.Code;Sender\n",
	              "{\"__type\":\"ns#Busy\",\"Message\":\"m\"}"),
	       "error Old.Code|m| {} retryable throttling",
	       "json: the query code wins, the type names the shape");
	is_str(err_of(&t, 400, "x-amzn-errortype: ThingBusy\n",
	              "<ErrorResponse><Error><Message>as XML</Message></Error>"
	              "</ErrorResponse>"),
	       "error ThingBusy|as XML| {} retryable throttling",
	       "json: XML answers are understood");
	is_str(err_of(&t, 400, "", "{\"__type\":\"A\",\"code\":\"B\"}"),
	       "error A|Bad Request| {}", "json: __type before code");
	toy_close(&t);
}

/* ---- validation ---- */

/* The report, or "fine" with warnings; static memory. */
static const char *report_of(const struct toy *t, const char *params)
{
	static char text[4096];
	struct hga_vtape *p = NULL;
	struct hga_buf report, warnings;
	struct hga_val v = toy_json(params, &p);
	struct hga_err err;

	hga_buf_init(&report, 1 << 16);
	hga_buf_init(&warnings, 1 << 16);
	if (hga_aws_validate(hga_aws_op_find(t->svc, HGA_STR("DescribeThings")),
	                     v, &report, &warnings, &err) == 0)
		snprintf(text, sizeof(text), "fine %s",
		         hga_buf_text(&warnings));
	else
		snprintf(text, sizeof(text), "%s",
		         strchr(hga_buf_text(&report), '\n') + 1);
	hga_buf_release(&report);
	hga_buf_release(&warnings);
	hga_vtape_free(p);
	return text;
}

static void test_validation(void)
{
	struct toy t;

	toy_open(&t, TOY_META("ec2") TOY_BODY);
	is_str(report_of(&t, "{}"),
	       "Missing required parameter in input: \"Ids\"", "missing");
	is_str(report_of(&t, "{\"Ids\":[\"a\"],\"Kinds\":1,\"zzz\":2}"),
	       "Unknown parameter in input: \"Kinds\", did you mean \"Kind\"?\n"
	       "Unknown parameter in input: \"zzz\", must be one of: Ids, "
	       "MaxResults, Kind, Secret, Where, Choice, Tags, When",
	       "unknown, near and far");
	is_str(report_of(&t, "{\"Ids\":[\"a\"],\"AvailabilityZone\":\"x\"}"),
	       "Unknown parameter in input: \"AvailabilityZone\", did you mean "
	       "Where.AvailabilityZone?",
	       "a member one level down");
	is_str(report_of(&t, "{\"Ids\":[\"a\"],\"AvailabiltyZone\":\"x\"}"),
	       "Unknown parameter in input: \"AvailabiltyZone\", did you mean "
	       "Where.AvailabilityZone?",
	       "a misspelt one");
	is_str(report_of(&t, "{\"Ids\":[\"a\",5]}"),
	       "Invalid type for parameter Ids[2], value: 5, type: integer, "
	       "valid types: string",
	       "1-based indices, Lua's names of types");
	is_str(report_of(&t, "{\"Ids\":[],\"MaxResults\":4}"),
	       "Invalid length for parameter Ids, value: 0, valid min length: "
	       "1\nInvalid value for parameter MaxResults, value: 4, valid min "
	       "value: 5",
	       "minima");
	is_str(report_of(&t, "{\"Ids\":[\"a\"],\"Secret\":12345}"),
	       "Invalid type for parameter Secret, value: ***, type: integer, "
	       "valid types: string",
	       "values of sensitive members are not shown");
	is_str(report_of(&t, "{\"Ids\":[\"a\"],\"Choice\":{\"A\":\"x\","
	                     "\"B\":9}}"),
	       "Invalid number of members set in union Choice: 2, exactly one "
	       "is needed, must be one of: A, B",
	       "unions");
	is_str(report_of(&t, "{\"Ids\":[\"a\"],\"Kind\":\"t3.mediun\"}"),
	       "fine warning: \"t3.mediun\" is not a known Kind; did you mean "
	       "\"t3.medium\"?\n",
	       "unknown enum values only warn");
	is_str(report_of(&t, "{\"Ids\":[\"a\"],\"When\":\"2020-01-01\","
	                     "\"MaxResults\":5.0}"),
	       "fine ", "dates as text, exact floats as integers");
	is_str(report_of(&t, "{\"Ids\":[\"a\"],\"When\":\"soon\"}"),
	       "Invalid type for parameter When, value: soon, type: string, "
	       "valid types: number, string (a date)",
	       "a text that is no date");
	toy_close(&t);
}

/* ---- suggestions ---- */

static const char *nearest(const char *want, const char *const *names)
{
	struct hga_suggest s;
	struct hga_str best;

	hga_suggest_init(&s, hga_str(want));
	for (; *names != NULL; names++)
		hga_suggest_try(&s, hga_str(*names));
	best = hga_suggest_best(&s);
	return best.s == NULL ? "" : best.s;
}

static void test_suggestions(void)
{
	static const char *const v[] = {
	    "InstanceId", "InstanceIds", "InstanceType", "Ids", "Image", NULL};

	is_str(nearest("instance_id", v), "InstanceId",
	       "case and '_' do not count");
	is_str(nearest("InstnaceType", v), "InstanceType",
	       "a swap of neighbours is one step");
	is_str(nearest("Imge", v), "Image", "one step from a short name");
	is_str(nearest("Imges", v), "", "two steps are too many there");
	is_str(nearest("xyz", v), "", "nothing near, nothing said");
	is_str(nearest("InstanceIdx", v), "InstanceId",
	       "ties go to the first in the alphabet");
}

int main(void)
{
	test_query();
	test_json();
	test_xml();
	test_garbled();
	test_limits();
	test_json_answers();
	test_errors();
	test_validation();
	test_suggestions();
	return done();
}
