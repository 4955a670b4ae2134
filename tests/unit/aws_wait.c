/*
 * Waiter steps with waiters of the caller's own: matchers, order, errors,
 * explanations (aws.md section 14).
 */
#include "tap.h"

#include "aws/modelc.h"
#include "aws/wait.h"
#include "base/json.h"

static const char model[] =
    "{\"metadata\":{\"apiVersion\":\"1\",\"protocol\":\"ec2\","
    "\"endpointPrefix\":\"ec2\",\"serviceId\":\"EC2\"},\"operations\":{"
    "\"DescribeThings\":{\"name\":\"DescribeThings\",\"http\":{\"method\":"
    "\"POST\",\"requestUri\":\"/\"}}},\"shapes\":{}}";

static const struct hga_aws_svc *svc;

static struct hga_vtape *json(const char *text)
{
	struct hga_vtape *t = NULL;

	if (hga_json_parse(hga_str(text), 1 << 20, &t, NULL) < 0)
		exit(1);
	return t;
}

static struct hga_waiter *waiter(const char *acceptors)
{
	char text[2048];
	struct hga_waiter *w = NULL;
	struct hga_err err = {0};
	struct hga_vtape *t;

	snprintf(text, sizeof(text),
	         "{\"operation\":\"describe_things\",\"delay\":2,"
	         "\"max_attempts\":3,\"acceptors\":[%s]}",
	         acceptors);
	t = json(text);
	if (hga_waiter_custom(&w, svc, HGA_STR("ThingReady"), hga_vtape_root(t),
	                      &err) < 0)
		printf("# %s\n", err.msg);
	hga_vtape_free(t);
	return w;
}

static void step(const char *acceptors, const char *answer, int status,
                 const char *code, enum hga_waiter_verdict want,
                 const char *why)
{
	struct hga_waiter *w = waiter(acceptors);
	struct hga_waiter_poll p = {{NULL, 0}, status, code, "boom"};
	struct hga_vtape *t = answer != NULL ? json(answer) : NULL;
	enum hga_waiter_verdict v = HGA_WAITER_RETRY;
	struct hga_buf b;

	if (w == NULL) {
		ok(false, "a waiter");
		return;
	}
	if (t != NULL)
		p.response = hga_vtape_root(t);
	hga_buf_init(&b, 4096);
	is_int(hga_waiter_step(w, &p, &v, &b, NULL), 0, "a step");
	is_int(v, want, acceptors);
	is_str(hga_buf_text(&b), why, "its explanation");
	hga_buf_release(&b);
	hga_vtape_free(t);
	hga_waiter_free(w);
}

#define ACC(state, matcher, arg, want)                                         \
	"{\"state\":\"" state "\",\"matcher\":\"" matcher                      \
	"\",\"argument\":\"" arg "\",\"expected\":" want "}"

static void test_paths(void)
{
	step(ACC("success", "path", "State", "\"up\""), "{\"State\":\"up\"}",
	     200, NULL, HGA_WAITER_SUCCESS,
	     "For expression \"State\" we matched expected path: \"up\"");
	step(ACC("success", "path", "State", "\"up\""), "{\"State\":\"down\"}",
	     200, NULL, HGA_WAITER_RETRY, "");
	step(ACC("success", "path", "Ready", "true"), "{\"Ready\":true}", 200,
	     NULL, HGA_WAITER_SUCCESS,
	     "For expression \"Ready\" we matched expected path: \"True\"");
	step(ACC("success", "pathAll", "L[].S", "\"up\""),
	     "{\"L\":[{\"S\":\"up\"},{\"S\":\"up\"}]}", 200, NULL,
	     HGA_WAITER_SUCCESS,
	     "For expression \"L[].S\" all members matched expected path: "
	     "\"up\"");
	step(ACC("success", "pathAll", "L[].S", "\"up\""),
	     "{\"L\":[{\"S\":\"up\"},{\"S\":\"x\"}]}", 200, NULL,
	     HGA_WAITER_RETRY, "");
	step(ACC("success", "pathAll", "L[].S", "\"up\""), "{\"L\":[]}", 200,
	     NULL, HGA_WAITER_RETRY, "");
	step(ACC("failure", "pathAny", "L[].S", "\"bad\""),
	     "{\"L\":[{\"S\":\"up\"},{\"S\":\"bad\"}]}", 200, NULL,
	     HGA_WAITER_FAILURE,
	     "For expression \"L[].S\" we matched expected path: \"bad\" at "
	     "least once");
	step(ACC("failure", "pathAny", "L[].S", "\"bad\""), "{\"L\":[]}", 200,
	     NULL, HGA_WAITER_RETRY, "");
	step(ACC("success", "path", "length(State)", "1"), "{}", 200, NULL,
	     HGA_WAITER_RETRY, "");
}

static void test_errors(void)
{
	step(ACC("success", "error", "", "\"Gone.NotFound\""), NULL, 400,
	     "Gone.NotFound", HGA_WAITER_SUCCESS,
	     "Matched expected service error code: Gone.NotFound");
	step(ACC("success", "error", "", "\"Gone.NotFound\""), NULL, 400,
	     "Other", HGA_WAITER_ERROR, "An error occurred (Other): boom");
	step(ACC("retry", "error", "", "true"), NULL, 400, "Any",
	     HGA_WAITER_RETRY, "Matched expected service error code: True");
	step(ACC("success", "error", "", "false"), "{}", 200, NULL,
	     HGA_WAITER_SUCCESS, "Matched expected service error code: False");
	step(ACC("success", "status", "", "404"), NULL, 404, "404",
	     HGA_WAITER_SUCCESS, "Matched expected HTTP status code: 404");
	step(ACC("success", "path", "State", "null"), NULL, 400, "Any",
	     HGA_WAITER_ERROR, "An error occurred (Any): boom");
	step(ACC("failure", "path", "S", "\"a\"") "," ACC("success", "path",
	                                                  "S", "\"a\""),
	     "{\"S\":\"a\"}", 200, NULL, HGA_WAITER_FAILURE,
	     "For expression \"S\" we matched expected path: \"a\"");
}

static void bad(const char *acceptors, const char *name)
{
	struct hga_waiter *w = waiter(acceptors);

	ok(w == NULL, "%s", name);
	hga_waiter_free(w);
}

static void test_description(void)
{
	struct hga_waiter *w =
	    waiter(ACC("success", "path", "State", "\"up\""));
	struct hga_err err = {0};
	struct hga_vtape *t;

	if (ok(w != NULL, "a description is taken")) {
		is_str(hga_waiter_name(w), "ThingReady", "name");
		is_int((long long)hga_waiter_delay_s(w), 2, "delay");
		is_int(hga_waiter_attempts(w), 3, "attempts");
		ok(hga_str_eqc(hga_aws_op_name(hga_waiter_op(w)),
		               "DescribeThings"),
		   "operation");
	}
	hga_waiter_free(w);
	bad(ACC("won", "path", "State", "\"up\""), "an unknown state is not");
	bad(ACC("success", "pat", "State", "\"up\""), "nor a matcher");
	bad(ACC("success", "path", "State[", "\"up\""), "nor bad syntax");
	bad("{\"state\":\"success\",\"matcher\":\"error\"}", "nor no value");
	t = json("{\"operation\":\"describe_thingz\",\"acceptors\":[]}");
	is_int(
	    hga_waiter_custom(&w, svc, HGA_STR("x"), hga_vtape_root(t), &err),
	    -HGA_USAGE, "nor an unknown operation");
	ok(strstr(err.msg, "did you mean describe_things?") != NULL,
	   "with a suggestion: %s", err.msg);
	hga_vtape_free(t);
}

int main(void)
{
	struct hga_modelc *c = hga_modelc_new(false);
	struct hga_aws_image *img = NULL;
	struct hga_modelc_src src;
	struct hga_err err = {0};
	struct hga_buf image;

	memset(&src, 0, sizeof(src));
	src.name = hga_str("ec2");
	src.service = hga_str(model);
	hga_buf_init(&image, 1 << 20);
	if (hga_modelc_add(c, &src, &err) < 0 ||
	    hga_modelc_finish(c, &image, &err) < 0 ||
	    hga_aws_image_open(&img, image.data, image.len, false, &err) < 0) {
		printf("Bail out! %s\n", err.msg);
		return 1;
	}
	hga_modelc_free(c);
	svc = hga_aws_svc_find(img, hga_str("ec2"));
	test_paths();
	test_errors();
	test_description();
	hga_aws_image_free(img);
	hga_buf_release(&image);
	return done();
}
