/*
 * Where calls go: settings and parameters through the endpoint rules of the
 * built-in services and of a small one, and requests made ready for the
 * place.
 */
#include "../vectors/vec.h"
#include "aws_env.h"

#include "aws/client.h"

static struct hga_aws_image *models;

struct place {
	struct fake_env f;
	struct hga_aws *aws;
	struct hga_aws_client *c;
	struct hga_aws_client_args a;
	struct hga_err err;
};

static void place_init(struct place *p, const char *region)
{
	memset(p, 0, sizeof(*p));
	fake_init(&p->f);
	p->a.region = hga_str(region);
}

static void place_release(struct place *p)
{
	hga_aws_client_free(p->c);
	hga_aws_free(p->aws);
	p->c = NULL;
	p->aws = NULL;
}

/* A ready client of a service; the result of making it ready. */
static int place_open(struct place *p, const struct hga_aws_image *img,
                      const char *service)
{
	struct hga_aws_args args = {.img = img, .agent = "t"};

	place_release(p);
	args.env = &p->f.env;
	p->a.svc = hga_aws_svc_find(img, hga_str(service));
	if (hga_aws_new(&p->aws, &args, &p->err) < 0 ||
	    hga_aws_client_new(p->aws, &p->a, &p->c, &p->err) < 0)
		abort();
	return hga_aws_client_ready(p->c, &p->err);
}

/* want: URL and, after a blank, signing region and partition. */
static void goes(struct place *p, const char *service, const char *want)
{
	const struct hga_aws_endpoint *e;
	char got[1024];

	if (place_open(p, models, service) < 0) {
		is_str(p->err.msg, want, service);
		return;
	}
	e = hga_aws_client_endpoint(p->c);
	snprintf(got, sizeof(got), "%s://%s%s %s %s",
	         e->https ? "https" : "http", e->host, e->base, e->region,
	         e->partition);
	is_str(got, want, service);
}

static void test_services(void)
{
	struct place p;

	place_init(&p, "us-west-2");
	goes(&p, "ec2", "https://ec2.us-west-2.amazonaws.com us-west-2 aws");
	goes(&p, "iam", "https://iam.amazonaws.com us-east-1 aws");
	goes(&p, "sts", "https://sts.us-west-2.amazonaws.com us-west-2 aws");
	fake_var(&p.f, "AWS_STS_REGIONAL_ENDPOINTS", "legacy");
	goes(&p, "sts", "https://sts.amazonaws.com us-east-1 aws");
	p.a.use_fips = 1;
	goes(&p, "ec2",
	     "https://ec2-fips.us-west-2.amazonaws.com us-west-2 aws");
	p.a.use_dualstack = 1;
	goes(&p, "ssm", "https://ssm-fips.us-west-2.api.aws us-west-2 aws");
	p.a.endpoint_url = hga_str("http://127.0.0.1:4566");
	goes(&p, "ec2",
	     "Invalid Configuration: FIPS and custom endpoint are not "
	     "supported");
	p.a.use_fips = p.a.use_dualstack = 0;
	goes(&p, "ec2", "http://127.0.0.1:4566 us-west-2 aws");
	p.a.endpoint_url = hga_str("https://api.example/base/");
	goes(&p, "ec2", "https://api.example/base us-west-2 aws");
	place_release(&p);
}

static void test_regions(void)
{
	struct hga_aws_endpoint_args a = {0};
	struct hga_aws_endpoint e;
	struct hga_err err = {0};
	struct place p;

	place_init(&p, "us-gov-west-1");
	goes(&p, "ec2",
	     "https://ec2.us-gov-west-1.amazonaws.com us-gov-west-1 "
	     "aws-us-gov");
	goes(&p, "iam",
	     "https://iam.us-gov.amazonaws.com us-gov-west-1 aws-us-gov");
	p.a.region = hga_str("cn-north-1");
	goes(&p, "ec2",
	     "https://ec2.cn-north-1.amazonaws.com.cn cn-north-1 aws-cn");
	p.a.region = hga_str("eu-new-9");
	goes(&p, "ec2", "https://ec2.eu-new-9.amazonaws.com eu-new-9 aws");
	p.a.region = hga_str("");
	goes(&p, "iam", "https://iam.amazonaws.com us-east-1 aws");
	goes(&p, "ec2", "You must specify a region.");
	goes(&p, "sts", "You must specify a region.");
	place_release(&p);
	a.svc = hga_aws_svc_find(models, HGA_STR("ec2"));
	a.region = HGA_STR("evil.example/");
	ok(hga_aws_endpoint_find(&a, &e, &err) == -HGA_USAGE,
	   "a region that would be a host: %s", err.msg);
}

/* ---- S3 ---- */

/* want: URL of the request. */
static void request(struct place *p, const char *op_name, const char *params,
                    const char *prefix, const char *want)
{
	struct hga_aws_op op = hga_aws_op_find(p->a.svc, hga_str(op_name));
	struct hga_aws_request req = {0};
	struct hga_aws_endpoint e = {0};
	struct hga_vtape *t = NULL;
	struct hga_err err = {0};
	char host[400], got[1024] = "";
	struct hga_str bucket;

	if (op.r == NULL ||
	    hga_json_parse(hga_str(params), 1 << 20, &t, &err) < 0)
		abort();
	bucket = vec_str(hga_vtape_root(t), "Bucket");
	hga_aws_request_init(&req, 1 << 20);
	/* what a serialiser makes of /{Bucket}/{Key+} */
	if (hga_buf_addf(&req.path, NULL, "/%.*s%s", HGA_STRF(bucket),
	                 vec_none(hga_val_get(hga_vtape_root(t), "Key"))
	                     ? ""
	                     : "/k%20y") < 0 ||
	    hga_buf_adds(&req.host_prefix, prefix, NULL) < 0)
		abort();
	if (aws_find_place(p->c, op, hga_vtape_root(t), NULL, &e, &err) < 0 ||
	    aws_place_request(p->c, &e, op, &req, host, sizeof(host), &err) < 0)
		is_str(err.msg, want, op_name);
	else {
		snprintf(got, sizeof(got), "%s://%s%s",
		         e.https ? "https" : "http", host,
		         hga_buf_text(&req.path));
		is_str(got, want, op_name);
	}
	hga_aws_request_release(&req);
	hga_vtape_free(t);
}

static void s3(struct place *p)
{
	is_int(place_open(p, models, "s3"), 0, "s3 is ready");
}

static void test_s3(void)
{
	struct place p;

	place_init(&p, "eu-west-1");
	s3(&p);
	request(&p, "GetObject", "{\"Bucket\":\"my-bucket\",\"Key\":\"k y\"}",
	        "", "https://my-bucket.s3.eu-west-1.amazonaws.com/k%20y");
	request(&p, "ListObjectsV2", "{\"Bucket\":\"my-bucket\"}", "",
	        "https://my-bucket.s3.eu-west-1.amazonaws.com/");
	request(&p, "ListObjectsV2", "{\"Bucket\":\"My_Bucket\"}", "",
	        "https://s3.eu-west-1.amazonaws.com/My_Bucket");
	request(&p, "ListBuckets", "{}", "",
	        "https://s3.eu-west-1.amazonaws.com/");
	request(&p, "GetObject",
	        "{\"Bucket\":\"arn:aws:s3:eu-west-1:123456789012:accesspoint/"
	        "ap\",\"Key\":\"k\"}",
	        "",
	        "https://ap-123456789012.s3-accesspoint.eu-west-1."
	        "amazonaws.com/ap/k%20y");
	p.a.endpoint_url = hga_str("http://127.0.0.1:9000");
	s3(&p);
	request(&p, "GetObject", "{\"Bucket\":\"my-bucket\",\"Key\":\"k\"}", "",
	        "http://127.0.0.1:9000/my-bucket/k%20y");
	p.a.endpoint_url = hga_str("");
	fake_file(&p.f, "/pw-home/.aws/config",
	          "[default]\ns3 =\n  addressing_style = path\n");
	s3(&p);
	request(&p, "GetObject", "{\"Bucket\":\"my-bucket\",\"Key\":\"k\"}", "",
	        "https://s3.eu-west-1.amazonaws.com/my-bucket/k%20y");
	place_release(&p);
}

static void test_memory_of_places(void)
{
	struct hga_aws_op op;
	struct hga_aws_endpoint e;
	struct hga_vtape *t;
	struct place p;
	char text[64];
	unsigned kept = 0, good = 0;

	place_init(&p, "eu-west-1");
	s3(&p);
	op = hga_aws_op_find(p.a.svc, HGA_STR("HeadBucket"));
	for (int i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "{\"Bucket\":\"bucket-%d\"}",
		         i % 50);
		t = NULL;
		if (hga_json_parse(hga_str(text), 4096, &t, NULL) < 0)
			abort();
		snprintf(text, sizeof(text),
		         "bucket-%d.s3.eu-west-1.amazonaws.com", i % 50);
		if (aws_find_place(p.c, op, hga_vtape_root(t), NULL, &e,
		                   NULL) == 0 &&
		    strcmp(e.host, text) == 0)
			good++;
		hga_vtape_free(t);
	}
	is_int(good, 100, "each bucket has its own host");
	for (size_t i = 0; i < AWS_PLACES; i++)
		kept += p.c->places[i].asked != NULL;
	is_int(kept, AWS_PLACES, "32 answers are remembered");
	place_release(&p);
}

/* ---- a service of our own ---- */

static const char model[] =
    "{\"metadata\":{\"apiVersion\":\"1\",\"protocol\":\"json\","
    "\"endpointPrefix\":\"toy\",\"serviceId\":\"Toy\",\"jsonVersion\":\"1.1\","
    "\"targetPrefix\":\"T\"},\"operations\":{\"Get\":{\"input\":{\"shape\":"
    "\"In\"},\"staticContextParams\":{\"Fixed\":{\"value\":\"f\"}},"
    "\"operationContextParams\":{\"Found\":{\"path\":\"List[*].Key\"}}}},"
    "\"shapes\":{\"In\":{\"type\":\"structure\",\"members\":{\"Name\":{"
    "\"shape\":\"S\",\"contextParam\":{\"name\":\"Bound\"}},\"List\":{"
    "\"shape\":\"L\"}}},\"L\":{\"type\":\"list\",\"member\":{\"shape\":\"E\"}}"
    ",\"E\":{\"type\":\"structure\",\"members\":{\"Key\":{\"shape\":\"S\"}}},"
    "\"S\":{\"type\":\"string\"}}}";

static const char rules[] =
    "{\"parameters\":{\"Region\":{\"type\":\"string\",\"builtIn\":"
    "\"AWS::Region\"},\"Fixed\":{\"type\":\"string\",\"default\":\"-\","
    "\"required\":true},\"Found\":{\"type\":\"stringArray\",\"default\":[\"-\"]"
    ",\"required\":true},\"Bound\":{\"type\":\"string\",\"default\":\"-\","
    "\"required\":true},\"Id\":{\"type\":\"string\",\"builtIn\":"
    "\"AWS::Auth::AccountId\",\"default\":\"none\",\"required\":true},\"Mode\":"
    "{\"type\":\"string\",\"builtIn\":\"AWS::Auth::AccountIdEndpointMode\"}},"
    "\"rules\":[{\"type\":\"error\",\"conditions\":[{\"fn\":\"stringEquals\","
    "\"argv\":[{\"ref\":\"Mode\"},\"required\"]},{\"fn\":\"stringEquals\","
    "\"argv\":[{\"ref\":\"Id\"},\"none\"]}],\"error\":\"an account id is "
    "required\"},{\"type\":\"endpoint\",\"conditions\":[{\"fn\":\"getAttr\","
    "\"argv\":[{\"ref\":\"Found\"},\"[0]\"],\"assign\":\"first\"}],"
    "\"endpoint\":{\"url\":\"https://{Id}.{Fixed}.{first}.{Bound}.example\","
    "\"headers\":{\"x-where\":[\"{Region}\"]},\"properties\":{\"authSchemes\":"
    "[{\"name\":\"sigv4a\"},{\"name\":\"sigv4\",\"signingName\":\"other\","
    "\"signingRegion\":\"r-1\",\"disableDoubleEncoding\":true}]}}}]}";

/* want: the host, or the refusal. */
static void toy_goes(struct place *p, const char *params,
                     const struct hga_creds *creds, const char *want,
                     const char *what)
{
	struct hga_aws_endpoint e = {0};
	struct hga_vtape *t = NULL;
	struct hga_err err = {0};

	if (hga_json_parse(hga_str(params), 1 << 20, &t, &err) < 0)
		abort();
	if (aws_find_place(p->c, hga_aws_op_at(p->a.svc, 0), hga_vtape_root(t),
	                   creds, &e, &err) < 0)
		is_str(err.msg, want, what);
	else
		is_str(e.host, want, what);
	hga_vtape_free(t);
}

static void test_sources(const struct hga_aws_image *img)
{
	static const char full[] =
	    "{\"Name\":\"n\",\"List\":[{\"Key\":\"k\"},{}]}";
	struct hga_creds creds = {.account_id = "123456789012"};
	struct hga_aws_request req = {0};
	struct hga_aws_endpoint e;
	const struct hga_val none = {NULL, 0};
	struct hga_aws_op op;
	char host[400];
	struct place p;

	place_init(&p, "us-west-2");
	is_int(place_open(&p, img, "toy"), 0, "a service with own rules");
	toy_goes(&p, full, &creds, "123456789012.f.k.n.example",
	         "static, found and bound parameters, account id");
	toy_goes(&p, "{}", &creds, "123456789012.f.-.-.example",
	         "defaults of the others");
	toy_goes(&p, full, NULL, "none.f.k.n.example", "no credentials");
	toy_goes(&p, "{\"Name\":\"a b\"}", NULL,
	         "Invalid endpoint: https://none.f.-.a b.example (bad host)",
	         "a parameter that makes no host");
	fake_var(&p.f, "AWS_ACCOUNT_ID_ENDPOINT_MODE", "disabled");
	is_int(place_open(&p, img, "toy"), 0, "account ids switched off");
	toy_goes(&p, full, &creds, "none.f.k.n.example", "none is used");
	fake_var(&p.f, "AWS_ACCOUNT_ID_ENDPOINT_MODE", "required");
	is_int(place_open(&p, img, "toy"), 0, "account ids required");
	toy_goes(&p, full, &creds, "123456789012.f.k.n.example",
	         "with one it goes on");
	toy_goes(&p, full, NULL, "an account id is required",
	         "without one it is refused");
	fake_var(&p.f, "AWS_ACCOUNT_ID_ENDPOINT_MODE", "preferred");
	is_int(place_open(&p, img, "toy"), 0, "the default mode");
	op = hga_aws_op_at(p.a.svc, 0);
	hga_aws_request_init(&req, 1 << 20);
	if (aws_find_place(p.c, op, none, NULL, &e, NULL) < 0 ||
	    hga_buf_adds(&req.path, "/", NULL) < 0 ||
	    hga_buf_adds(&req.host_prefix, "pre-", NULL) < 0 ||
	    aws_place_request(p.c, &e, op, &req, host, sizeof(host), NULL) < 0)
		abort();
	is_str(host, "pre-none.f.-.-.example", "host prefix");
	is_str(hga_aws_pairs_get(&req.headers, "X-Where"), "us-west-2",
	       "headers of the rules");
	is_str(e.service, "other", "signing name of the first known scheme");
	is_str(e.region, "r-1", "its region");
	ok(aws_sign_args(p.c, &e, &creds, NULL, host).raw_path,
	   "the path is not encoded twice");
	fake_var(&p.f, "AWS_DISABLE_HOST_PREFIX_INJECTION", "true");
	is_int(place_open(&p, img, "toy"), 0, "host prefixes switched off");
	if (aws_place_request(p.c, &e, op, &req, host, sizeof(host), NULL) < 0)
		abort();
	is_str(host, "none.f.-.-.example", "none is used");
	hga_aws_request_release(&req);
	place_release(&p);
}

static void test_only(void)
{
	struct place p;

	place_init(&p, "eu-west-1");
	p.a.endpoint_url = hga_str("https://cloud.example");
	s3(&p);
	is_int(hga_aws_only(p.aws, HGA_STR("https://cloud.example"), NULL), 0,
	       "one endpoint only");
	request(&p, "GetObject", "{\"Bucket\":\"my-bucket\",\"Key\":\"k\"}", "",
	        "https://my-bucket.cloud.example/k%20y");
	request(&p, "ListBuckets", "{}", "pre-",
	        "this run may only talk to cloud.example, not to "
	        "pre-cloud.example");
	place_release(&p);
}

int main(void)
{
	struct hga_modelc_src src = {.name = HGA_STR("toy")};
	struct hga_modelc *c = hga_modelc_new(true);
	struct hga_aws_image *toy = NULL;
	struct hga_err err = {0};
	struct hga_buf image;

	src.service = hga_str(model);
	src.ruleset = hga_str(rules);
	hga_buf_init(&image, 1 << 20);
	if (hga_modelc_add(c, &src, &err) < 0 ||
	    hga_modelc_finish(c, &image, &err) < 0 ||
	    hga_aws_image_open(&toy, image.data, image.len, false, &err) < 0) {
		printf("Bail out! %s\n", err.msg);
		return 1;
	}
	hga_modelc_free(c);
	test_sources(toy);
	models = vec_models();
	if (models == NULL) {
		skip("no model image beside this program");
	} else {
		test_services();
		test_regions();
		test_s3();
		test_memory_of_places();
		test_only();
	}
	hga_aws_image_free(models);
	hga_aws_image_free(toy);
	hga_buf_release(&image);
	return done();
}
