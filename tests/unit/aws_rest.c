/*
 * The rest protocols beyond the third-party cases: what is refused, checksums
 * and files, sinks, answers that are none, limits.
 */
#include "tap.h"

#include "aws_toy.h"

#include "aws/body.h"
#include "aws/out.h"
#include "aws/ser.h"
#include "base/gzip.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static struct toy json, xml;

/* ---- requests ---- */

static int request(const struct toy *t, const char *op, const char *params,
                   struct hga_aws_request *r, struct hga_err *err)
{
	struct hga_vtape *tape;
	struct hga_val v = toy_json(params, &tape);
	struct hga_aws_ser s = {.op = hga_aws_op_find(t->svc, hga_str(op)),
	                        .params = v};
	enum hga_aws_sum sum = HGA_SUM_NONE;
	int rc;

	memset(r, 0, sizeof(*r));
	memset(err, 0, sizeof(*err));
	rc = hga_aws_serialize(&s, r, err);
	if (rc == 0)
		rc = hga_aws_body_sum(s.op, v, r, &sum, err);
	if (rc == 0)
		rc = hga_aws_body_set_sum(s.op, r, sum, err);
	r->sum = sum;
	hga_vtape_free(tape);
	return rc;
}

static void is_refused(const char *op, const char *params, const char *part,
                       const char *name)
{
	struct hga_aws_request r;
	struct hga_err err;
	int rc = request(&json, op, params, &r, &err);

	ok(rc == -HGA_USAGE && strstr(err.msg, part) != NULL, "%s (%s)", name,
	   rc < 0 ? err.msg : "accepted");
	hga_aws_request_release(&r);
}

static void test_refused(void)
{
	is_refused("PutThing", "{\"Name\":\"\",\"Rest\":\"a\"}", "Name",
	           "an empty label is refused");
	is_refused("PutThing", "{\"Name\":\"a\"}", "Rest",
	           "a missing label is refused");
	is_refused("PutThing",
	           "{\"Name\":\"a\",\"Rest\":\"b\",\"Note\":\"x\\r\\ny: z\"}",
	           "Note", "a header with a line break is refused");
	is_refused("PutThing",
	           "{\"Name\":\"a\",\"Rest\":\"b\",\"Meta\":{\"k\":\"1\\n2\"}}",
	           "Meta.k", "so is one of a prefix map, with its path");
	is_refused("PutThing",
	           "{\"Name\":\"a\",\"Rest\":\"b\",\"Notes\":\"x\"}", "Notes",
	           "a text for a list of headers is refused");
	is_refused("PutData", "{\"Body\":\"x\",\"Algorithm\":\"CRC64NVME\"}",
	           "CRC64NVME", "an unknown checksum algorithm is refused");
	is_refused("PutOld", "{\"Part\":\"x\"}", "Part",
	           "a text for a structure payload is refused");
}

static void test_places(void)
{
	struct hga_aws_request r;
	struct hga_err err;

	ok(request(&json, "PutThing",
	           "{\"Name\":\"a b/c\",\"Rest\":\"x y/z\",\"Ask\":[\"1&\","
	           "\"2\"],\"More\":{\"ask\":\"no\",\"zed\":\"1\",\"new\":"
	           "\"2\"},\"Notes\":[\"a,b\",\"c\"],\"Meta\":{\"K\":\"v\"},"
	           "\"Text\":\"t\"}",
	           &r, &err) == 0,
	   "a request is made");
	is_str(hga_buf_text(&r.path), "/things/a%20b%2Fc/x%20y/z",
	       "labels are encoded, greedy ones keep their slashes");
	is_str(hga_buf_text(&r.query), "x=1&ask=1%26&ask=2&new=2&zed=1",
	       "the query: the model's own, members, then the map without "
	       "the name of a member");
	is_str(hga_aws_pairs_get(&r.headers, "x-notes"), "\"a,b\",c",
	       "an item with a comma is quoted");
	is_str(hga_aws_pairs_get(&r.headers, "x-meta-k"), "v",
	       "a map becomes headers with its prefix");
	is_str(hga_buf_text(&r.body), "{\"Text\":\"t\"}",
	       "only members of the body are in the body");
	hga_aws_request_release(&r);
	ok(request(&xml, "PutThing",
	           "{\"Name\":\"a\",\"Rest\":\"b\",\"Text\":\"<&>\"}", &r,
	           &err) == 0,
	   "and in XML");
	is_str(hga_buf_text(&r.body),
	       "<PutIn><Text>&lt;&amp;&gt;</Text></PutIn>", "text is escaped");
	hga_aws_request_release(&r);
	ok(request(&xml, "PutOld",
	           "{\"Part\":{\"Text\":\"t\",\"Kind\":\"a\\\"b\"}}", &r,
	           &err) == 0 &&
	       strcmp(hga_buf_text(&r.body),
	              "<Part Kind=\"a&quot;b\"><Text>t</Text></Part>") == 0,
	   "attributes stand in the start tag, escaped (%s)",
	   hga_buf_text(&r.body));
	hga_aws_request_release(&r);
}

/* ---- checksums ---- */

static void test_sums(void)
{
	struct hga_aws_request r;
	struct hga_err err;

	/* values of openssl md5, of zlib and of RFC 3720 */
	ok(request(&json, "PutData", "{\"Body\":\"123456789\"}", &r, &err) == 0,
	   "a body that needs a checksum");
	is_str(hga_aws_pairs_get(&r.headers, "x-amz-checksum-crc32"),
	       "y/Q5Jg==", "CRC-32 of 123456789 is cbf43926");
	is_str(hga_aws_pairs_get(&r.headers, "x-amz-sdk-checksum-algorithm"),
	       "CRC32", "the algorithm is said");
	hga_aws_request_release(&r);
	ok(request(&json, "PutData",
	           "{\"Body\":\"123456789\",\"Algorithm\":\"CRC32C\"}", &r,
	           &err) == 0,
	   "another algorithm");
	is_str(hga_aws_pairs_get(&r.headers, "x-amz-checksum-crc32c"),
	       "4waSgw==", "CRC-32C of 123456789 is e3069283");
	hga_aws_request_release(&r);
	ok(request(&json, "PutData", "{\"Body\":\"x\",\"Sum\":\"mine\"}", &r,
	           &err) == 0,
	   "a checksum of the caller's own");
	is_str(hga_aws_pairs_get(&r.headers, "x-amz-checksum-sha1"), "mine",
	       "it is kept");
	ok(hga_aws_pairs_get(&r.headers, "x-amz-checksum-crc32") == NULL,
	   "and the only one");
	hga_aws_request_release(&r);
	ok(request(&xml, "PutOld", "{\"Part\":{}}", &r, &err) == 0 &&
	       strcmp(hga_buf_text(&r.body), "<Part></Part>") == 0,
	   "an old operation that needs a checksum");
	is_str(hga_aws_pairs_get(&r.headers, "Content-MD5"),
	       "29YCQ32JkhHWBHeBQyLEcQ==", "it gets Content-MD5");
	hga_aws_request_release(&r);
}

/* ---- files ---- */

static char dir[] = "/tmp/hga-rest-XXXXXX";

static const char *write_file(const char *name, const char *text)
{
	static char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0)
		abort();
	return path;
}

static int file_request(const char *path, struct hga_aws_request *r,
                        struct hga_err *err)
{
	char params[256];

	snprintf(params, sizeof(params), "{\"Body\":{\"$file\":\"%s\"}}", path);
	return request(&json, "PutData", params, r, err);
}

static void test_file(void)
{
	struct hga_aws_op op = hga_aws_op_find(json.svc, HGA_STR("PutData"));
	const char *path = write_file("body", "123456789");
	struct hga_aws_file f;
	struct hga_aws_request r;
	struct hga_err err;
	char got[16];

	memset(&f, 0, sizeof(f));
	ok(file_request(path, &r, &err) == 0 && r.has_body && r.body.len == 0 &&
	       r.file != NULL && strcmp(r.file, path) == 0,
	   "a file in place of a streaming body");
	ok(hga_aws_file_open(&f, &r, (enum hga_aws_sum)r.sum, &err) == 0 &&
	       f.size == 9,
	   "its size is known");
	ok(hga_aws_file_hash(&f, op, &r, &err) == 0, "it is hashed");
	is_str(r.payload_hash,
	       "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb"
	       "225",
	       "the digest is what sha256sum says");
	is_str(hga_aws_pairs_get(&r.headers, "x-amz-checksum-crc32"),
	       "y/Q5Jg==", "and so is the checksum");
	ok(hga_aws_file_rewind(&f, &err) == 0 &&
	       hga_aws_file_read(&f, got, sizeof(got), &err) == 9 &&
	       memcmp(got, "123456789", 9) == 0 &&
	       hga_aws_file_read(&f, got, sizeof(got), &err) == 0,
	   "it is read");
	ok(hga_aws_file_rewind(&f, &err) == 0 &&
	       hga_aws_file_read(&f, got, sizeof(got), &err) == 9,
	   "and read again for another attempt");
	(void)write_file("body", "12345");
	ok(hga_aws_file_rewind(&f, &err) == -HGA_IO &&
	       strcmp(err.code, "Changed") == 0,
	   "a file that changed is told: %s", err.msg);
	hga_aws_file_close(&f);
	hga_aws_request_release(&r);
	ok(file_request(dir, &r, &err) == 0 &&
	       hga_aws_file_open(&f, &r, HGA_SUM_NONE, &err) == -HGA_USAGE,
	   "a directory is no body: %s", err.msg);
	hga_aws_file_close(&f);
	hga_aws_request_release(&r);
	ok(request(&json, "PutThing",
	           "{\"Name\":\"a\",\"Rest\":\"b\",\"Text\":{\"$file\":"
	           "\"/x\"}}",
	           &r, &err) == -HGA_USAGE,
	   "only streaming bodies are files");
	hga_aws_request_release(&r);
}

/* ---- answers ---- */

struct answer {
	struct hga_vtape *tape;
	struct hga_aws_out *out;
	enum hga_aws_answer kind;
	struct hga_err err;
	int rc;
};

static void answer_status(struct answer *a, const struct toy *t, const char *op,
                          int status, const char *head, const char *body,
                          const struct hga_aws_vopt *opt)
{
	memset(a, 0, sizeof(*a));
	a->tape = hga_vtape_new(&t->svc->names, 1 << 24);
	a->out =
	    hga_aws_out_new(hga_aws_op_find(t->svc, hga_str(op)), opt, a->tape);
	a->rc = hga_aws_out_head(a->out, status, hga_str(head), &a->err);
	if (a->rc == 0)
		a->rc = hga_aws_out_feed(a->out, body, strlen(body), &a->err);
	if (a->rc == 0)
		a->rc = hga_aws_out_finish(a->out, &a->kind, &a->err);
}

static void answer(struct answer *a, const struct toy *t, const char *op,
                   const char *head, const char *body)
{
	answer_status(a, t, op, 200, head, body, NULL);
}

static void release(struct answer *a)
{
	hga_aws_out_free(a->out);
	hga_vtape_free(a->tape);
}

/* The result as JSON; static memory. */
static const char *shown(const struct answer *a)
{
	static char text[4096];
	struct hga_val v = a->kind == HGA_ANSWER_OK
	                       ? hga_vtape_root(a->tape)
	                       : hga_aws_out_members(a->out);
	struct hga_buf b;

	hga_buf_init(&b, sizeof(text) - 1);
	if (a->rc < 0 || hga_json_write(&b, v, 0, true, NULL) < 0)
		snprintf(text, sizeof(text), "%s", a->err.msg);
	else
		snprintf(text, sizeof(text), "%s", hga_buf_text(&b));
	hga_buf_release(&b);
	return text;
}

static void test_answers(void)
{
	struct answer a;

	answer(&a, &json, "GetThing",
	       "x-note: n\nx-notes: a, \"b,\\\"c\"\nx-meta-k: v\n"
	       "x-dates: Mon, 16 Dec 2019 23:48:18 GMT, Mon, 16 Dec 2019 "
	       "23:48:19 GMT\nx-doc: eyJhIjoxfQ==\n",
	       "{\"Count\":3,\"Note\":\"not this\",\"Any\":[1,{\"x\":null}]}");
	is_str(shown(&a),
	       "{\"Any\":[1,{\"x\":null}],\"Count\":3,\"Dates\":[1576540098,"
	       "1576540099],\"Doc\":{\"a\":1},\"Meta\":{\"k\":\"v\"},\"Note\":"
	       "\"n\",\"Notes\":[\"a\",\"b,\\\"c\"],\"Status\":200}",
	       "members come from status, headers and body");
	release(&a);
	answer(&a, &xml, "GetThing", "x-note: n\n",
	       "<Whatever><Flat>1</Flat><Count>3</Count><Flat>2</Flat>"
	       "<Map><entry><key>k</key><value>v</value></entry></Map>"
	       "</Whatever>");
	is_str(shown(&a),
	       "{\"Count\":3,\"Flat\":[\"1\",\"2\"],\"Map\":{\"k\":\"v\"},"
	       "\"Note\":\"n\",\"Status\":200}",
	       "and in XML, whatever the root is called");
	release(&a);
	answer(&a, &json, "GetThing", "", "");
	is_str(shown(&a), "{\"Status\":200}",
	       "a body without members may be empty");
	release(&a);
	answer(&a, &json, "GetPart", "", "");
	is_str(shown(&a), "{}", "an empty payload is absent");
	release(&a);
	answer(&a, &xml, "GetPart", "", "<P Kind=\"k\"><Text>t</Text></P>");
	is_str(shown(&a), "{\"Part\":{\"Kind\":\"k\",\"Text\":\"t\"}}",
	       "a payload with an attribute");
	release(&a);
	answer(&a, &json, "GetData", "x-size: 3\n", "abc");
	ok(a.rc == 0 && hga_str_eqc(hga_val_str(hga_val_get(
	                                hga_vtape_root(a.tape), "Body")),
	                            "abc"),
	   "a streaming body without a sink is in the result");
	release(&a);
}

static void is_garbled(const struct toy *t, const char *op, const char *head,
                       const char *body, const char *name)
{
	struct answer a;

	answer(&a, t, op, head, body);
	ok(a.rc == -HGA_PROTOCOL && strcmp(a.err.code, "Garbled") == 0,
	   "garbled: %s (%s)", name, a.rc < 0 ? a.err.msg : shown(&a));
	release(&a);
}

static void test_garbled(void)
{
	static const char page[] = "<!DOCTYPE html><html><body>log in";

	is_garbled(&json, "GetThing", "", page, "a portal page for JSON");
	is_garbled(&json, "GetThing", "", "{\"Count\":", "a cut object");
	is_garbled(&json, "GetThing", "", "[]", "an array");
	is_garbled(&json, "GetThing", "", "{}{}", "two values");
	is_garbled(&xml, "GetThing", "", page, "a portal page for XML");
	is_garbled(&xml, "GetThing", "", "<html><body/></html>",
	           "a page that is well-formed");
	is_garbled(&xml, "GetThing", "", "<A><Count>1</Count>",
	           "a cut element");
	is_garbled(&xml, "GetThing", "", "\1\2\3", "no text at all");
	is_garbled(&json, "Ping", "", page,
	           "a portal page where no body is expected");
	is_garbled(&json, "GetData", "x-size: big\n", "abc",
	           "a header that is no number");
}

static void test_errors(void)
{
	const struct hga_aws_error *e;
	struct answer a;

	answer_status(&a, &json, "GetThing", 409,
	              "x-amzn-errortype: ThingBusy:http://x/\nx-note: n\n",
	              "{\"Holder\":\"me\",\"message\":\"busy\"}", NULL);
	e = hga_aws_out_error(a.out);
	ok(a.rc == 0 && a.kind == HGA_ANSWER_ERROR &&
	       strcmp(e->code, "ThingBusy") == 0 &&
	       strcmp(hga_buf_text(&e->message), "busy") == 0,
	   "an error: code from the header, message from the body");
	is_str(shown(&a), "{\"Holder\":\"me\",\"Note\":\"n\"}",
	       "its members from headers and body");
	release(&a);
	answer_status(&a, &json, "GetThing", 409,
	              "x-amzn-errortype: ThingBusy\nx-note: n\n", "{\"Hol",
	              NULL);
	is_str(shown(&a), "{\"Note\":\"n\"}",
	       "a cut body leaves the members of the headers");
	release(&a);
	answer(&a, &xml, "GetThing", "",
	       "<Error><Code>InternalError</Code><Message>m</Message></Error>");
	e = hga_aws_out_error(a.out);
	ok(a.rc == 0 && a.kind == HGA_ANSWER_ERROR && e->status == 500 &&
	       strcmp(e->code, "InternalError") == 0,
	   "an error document under status 200 is an error of 500");
	release(&a);
	answer_status(&a, &xml, "GetThing", 404, "x-amz-request-id: R\n", "",
	              NULL);
	e = hga_aws_out_error(a.out);
	ok(a.rc == 0 && strcmp(e->code, "404") == 0 &&
	       strcmp(hga_aws_out_request_id(a.out), "R") == 0,
	   "an error without a body has its status as code");
	release(&a);
}

/* ---- sinks ---- */

struct sink {
	char text[64];
	size_t n;
	int pauses;
};

static int take(void *data, const void *p, size_t n, struct hga_err *err)
{
	struct sink *s = data;

	(void)err; /* never fails */
	if (s->pauses > 0) {
		s->pauses--;
		return 1;
	}
	memcpy(s->text + s->n, p, n);
	s->n += n;
	return 0;
}

static void test_sink(void)
{
	struct sink s = {.pauses = 1};
	struct hga_aws_vopt opt = {.sink = take, .data = &s};
	struct answer a;

	answer_status(&a, &json, "GetData", 200, "x-size: 3\n", "abc", &opt);
	ok(a.rc == 1 && hga_aws_out_streams(a.out) && s.n == 0,
	   "a sink may take nothing");
	ok(hga_aws_out_feed(a.out, "abc", 3, &a.err) == 0 &&
	       hga_aws_out_feed(a.out, "def", 3, &a.err) == 0 &&
	       hga_aws_out_finish(a.out, &a.kind, &a.err) == 0 && s.n == 6 &&
	       memcmp(s.text, "abcdef", 6) == 0,
	   "and then all of it");
	a.rc = 0;
	is_str(shown(&a), "{\"Size\":3}", "the member is absent");
	ok(hga_aws_out_kept(a.out).n == 0, "nothing of it is kept");
	release(&a);
	memset(&s, 0, sizeof(s));
	answer_status(&a, &json, "GetData", 409, "", "{\"code\":\"ThingBusy\"}",
	              &opt);
	ok(a.rc == 0 && a.kind == HGA_ANSWER_ERROR && s.n == 0,
	   "an error's body does not go into the sink");
	release(&a);
	answer_status(&a, &json, "GetThing", 200, "", "{\"Count\":1}", &opt);
	ok(a.rc == 0 && s.n == 0 && !hga_aws_out_streams(a.out),
	   "nor does that of another operation");
	release(&a);
}

/* ---- limits ---- */

static void limit(const struct toy *t, const char *op, const char *open,
                  int times, const char *code, const char *name)
{
	struct hga_vtape *tape = hga_vtape_new(&t->svc->names, 1 << 28);
	struct hga_aws_out *o =
	    hga_aws_out_new(hga_aws_op_find(t->svc, hga_str(op)), NULL, tape);
	struct hga_err err = {.kind = HGA_OK};
	int rc = hga_aws_out_head(o, 200, hga_str(""), &err);

	while (rc == 0 && times-- > 0)
		rc = hga_aws_out_feed(o, open, strlen(open), &err);
	ok(rc == -HGA_PROTOCOL && strcmp(err.code, code) == 0, "%s (%s %s)",
	   name, err.code, err.msg);
	hga_aws_out_free(o);
	hga_vtape_free(tape);
}

static void test_limits(void)
{
	static char text[65537];
	struct hga_buf b;
	int i;

	limit(&json, "GetThing", "{\"Any\":", 200, "TooDeep", "JSON depth");
	limit(&xml, "GetThing", "<Part>", 65, "TooDeep", "XML depth");
	limit(&xml, "GetPart", "<Inner>", 65, "TooDeep",
	      "XML depth of a payload");
	memset(text, 'x', sizeof(text) - 1);
	hga_buf_init(&b, 1 << 22);
	(void)!hga_buf_adds(&b, "<A><Count>", NULL);
	for (i = 0; i < 17; i++)
		(void)!hga_buf_adds(&b, text, NULL);
	limit(&xml, "GetThing", hga_buf_text(&b), 1, "TooLarge", "XML text");
	hga_buf_clear(&b);
	(void)!hga_buf_adds(&b, "<A", NULL);
	for (i = 0; i < 65; i++)
		(void)!hga_buf_addf(&b, NULL, " a%d=\"\"", i);
	(void)!hga_buf_adds(&b, ">", NULL);
	limit(&xml, "GetThing", hga_buf_text(&b), 1, "TooLarge",
	      "XML attributes");
	hga_buf_release(&b);
	is_garbled(&xml, "GetPart", "",
	           "<!DOCTYPE a [<!ENTITY b \"c\">]><P>&b;</P>",
	           "entity declarations");
	is_garbled(&xml, "GetPart", "", "<?php x ?><P/>", "an instruction");
}

static void test_gzip(void)
{
	struct hga_buf a, b;
	struct hga_err err;
	char big[20000];

	memset(big, 'x', sizeof(big));
	hga_buf_init(&a, 1 << 20);
	hga_buf_init(&b, 1 << 20);
	if (!hga_gzip_there()) {
		skip("built without zlib");
		return;
	}
	ok(hga_gzip(&a, hga_strn(big, sizeof(big)), &err) == 0 && a.len < 200,
	   "gzip makes it small");
	ok(hga_gunzip(&b, hga_buf_str(&a), &err) == 0 && b.len == sizeof(big) &&
	       memcmp(b.data, big, b.len) == 0,
	   "and it comes back");
	hga_buf_clear(&b);
	ok(hga_gunzip(&b, hga_strn(a.data, a.len - 1), &err) == -HGA_PROTOCOL,
	   "a cut one is refused");
	hga_buf_release(&a);
	hga_buf_release(&b);
}

int main(void)
{
	char path[128];

	if (mkdtemp(dir) == NULL)
		abort();
	toy_open(&json, TOY_META("rest-json") TOY_REST);
	toy_open(&xml, TOY_META("rest-xml") TOY_REST);
	test_refused();
	test_places();
	test_sums();
	test_file();
	test_answers();
	test_garbled();
	test_errors();
	test_sink();
	test_limits();
	test_gzip();
	toy_close(&json);
	toy_close(&xml);
	snprintf(path, sizeof(path), "%s/body", dir);
	(void)unlink(path);
	(void)rmdir(dir);
	return done();
}
