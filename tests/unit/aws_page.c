/*
 * What a page says about the next: tokens, more_results, expressions
 * (aws.md section 13).
 */
#include "tap.h"

#include "aws/modelc.h"
#include "aws/page.h"
#include "base/json.h"

static const char model[] =
    "{\"metadata\":{\"apiVersion\":\"1\",\"protocol\":\"query\","
    "\"endpointPrefix\":\"t\",\"serviceId\":\"T\"},\"operations\":{"
    "\"ListA\":{\"name\":\"ListA\",\"http\":{\"method\":\"POST\","
    "\"requestUri\":\"/\"}},\"ListB\":{\"name\":\"ListB\",\"http\":{"
    "\"method\":\"POST\",\"requestUri\":\"/\"}},\"GetC\":{\"name\":\"GetC\","
    "\"http\":{\"method\":\"POST\",\"requestUri\":\"/\"}}},\"shapes\":{}}";

static const char pages[] =
    "{\"pagination\":{"
    "\"ListA\":{\"input_token\":\"Marker\",\"output_token\":\"NextMarker || "
    "Items[-1].Key\",\"limit_key\":\"Max\",\"result_key\":[\"Items\","
    "\"Other\"],\"more_results\":\"Truncated\",\"non_aggregate_keys\":["
    "\"Version\"]},"
    "\"ListB\":{\"input_token\":[\"A\",\"B\"],\"output_token\":[\"NextA\","
    "\"NextB\"],\"result_key\":\"Items\"}}}";

static const struct hga_aws_svc *svc;

static void next(const char *op, const char *answer, bool more,
                 const char *tokens)
{
	struct hga_pager *p = NULL;
	struct hga_vtape *t = NULL, *out = hga_vtape_new(NULL, 1 << 20);
	struct hga_buf b;
	bool got = !more;

	hga_buf_init(&b, 4096);
	if (hga_pager_new(&p, hga_aws_op_find(svc, hga_str(op)), NULL) < 0 ||
	    hga_json_parse(hga_str(answer), 1 << 20, &t, NULL) < 0 ||
	    hga_pager_next(p, hga_vtape_root(t), out, &got, NULL) < 0 ||
	    hga_json_write(&b, hga_vtape_root(out), 0, true, NULL) < 0)
		ok(false, "%s %s", op, answer);
	ok(got == more, "%s %s: %s", op, answer, more ? "goes on" : "ends");
	if (tokens != NULL)
		is_str(hga_buf_text(&b), tokens, "tokens");
	hga_buf_release(&b);
	hga_vtape_free(out);
	hga_vtape_free(t);
	hga_pager_free(p);
}

static void test_names(void)
{
	struct hga_pager *p = NULL;

	ok(hga_pager_new(&p, hga_aws_op_find(svc, HGA_STR("GetC")), NULL) ==
	           0 &&
	       p == NULL,
	   "no paginator, no pager");
	ok(hga_pager_new(&p, hga_aws_op_find(svc, HGA_STR("ListA")), NULL) == 0,
	   "a pager");
	is_int(hga_pager_tokens(p), 1, "one token");
	ok(hga_str_eqc(hga_pager_input(p, 0), "Marker"), "its input name");
	ok(hga_str_eqc(hga_pager_limit(p), "Max"), "the limit");
	ok(hga_str_eqc(hga_pager_more(p), "Truncated"), "what says more");
	is_int(hga_pager_results(p), 2, "two result keys");
	ok(hga_str_eqc(hga_pager_result(p, 1), "Other"), "the second");
	is_int(hga_pager_fixed(p), 1, "one fixed key");
	hga_pager_free(p);
	ok(hga_pager_new(&p, hga_aws_op_find(svc, HGA_STR("ListB")), NULL) == 0,
	   "another");
	ok(hga_pager_limit(p).s == NULL && hga_pager_more(p).s == NULL,
	   "without limit and more");
	hga_pager_free(p);
}

int main(void)
{
	struct hga_modelc *c = hga_modelc_new(false);
	struct hga_aws_image *img = NULL;
	struct hga_modelc_src src;
	struct hga_err err = {0};
	struct hga_buf image;

	memset(&src, 0, sizeof(src));
	src.name = hga_str("t");
	src.service = hga_str(model);
	src.paginators = hga_str(pages);
	hga_buf_init(&image, 1 << 20);
	if (hga_modelc_add(c, &src, &err) < 0 ||
	    hga_modelc_finish(c, &image, &err) < 0 ||
	    hga_aws_image_open(&img, image.data, image.len, false, &err) < 0) {
		printf("Bail out! %s\n", err.msg);
		return 1;
	}
	hga_modelc_free(c);
	svc = hga_aws_svc_find(img, hga_str("t"));
	test_names();
	next("ListA", "{\"Truncated\":true,\"NextMarker\":\"x\"}", true,
	     "{\"Marker\":\"x\"}");
	next("ListA", "{\"Truncated\":true,\"Items\":[{\"Key\":\"k\"}]}", true,
	     "{\"Marker\":\"k\"}");
	next("ListA", "{\"Truncated\":false,\"NextMarker\":\"x\"}", false,
	     NULL);
	next("ListA", "{\"NextMarker\":\"x\"}", false, NULL);
	next("ListA", "{\"Truncated\":true}", false, NULL);
	next("ListB", "{\"NextA\":\"1\",\"NextB\":\"2\"}", true,
	     "{\"A\":\"1\",\"B\":\"2\"}");
	next("ListB", "{\"NextA\":\"1\"}", true, "{\"A\":\"1\",\"B\":null}");
	next("ListB", "{\"NextA\":\"\",\"NextB\":null}", false, NULL);
	next("ListB", "{}", false, NULL);
	hga_aws_image_free(img);
	hga_buf_release(&image);
	return done();
}
