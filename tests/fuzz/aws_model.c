/*
 * JSON models from outside, through the run-time compiler; what it writes
 * must pass the image's own check.  Each operation's endpoint is looked for.
 */
#include "aws/endpoint.h"
#include "aws/modelc.h"
#include "aws_walk.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The parts of the input up to a 0xff byte are the files. */
static struct hga_str part(const uint8_t **p, size_t *n)
{
	struct hga_str r = {(const char *)*p, 0};

	while (r.n < *n && (*p)[r.n] != 0xff)
		r.n++;
	*p += r.n < *n ? r.n + 1 : r.n;
	*n -= r.n < *n ? r.n + 1 : r.n;
	return r;
}

static void find_endpoints(const struct hga_aws_svc *svc)
{
	struct hga_aws_endpoint_args a = {.svc = svc, .region = HGA_STR("r")};
	struct hga_aws_endpoint e;
	struct hga_rules *rules = NULL;

	if (hga_rules_new(&rules, hga_aws_doc(svc, svc->r->ruleset), NULL) == 0)
		a.rules = rules;
	for (uint32_t i = 0; i < svc->r->ops.n && i < 8; i++) {
		a.op = hga_aws_op_at(svc, i);
		(void)!hga_aws_endpoint_find(&a, &e, NULL);
	}
	hga_rules_free(rules);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct hga_modelc_src src = {.name = HGA_STR("toy")};
	struct hga_modelc *c = hga_modelc_new(false);
	struct hga_aws_image *img;
	struct hga_buf out;

	src.service = part(&data, &n);
	src.waiters = part(&data, &n);
	src.paginators = part(&data, &n);
	src.service_extras = part(&data, &n);
	src.ruleset = part(&data, &n);
	hga_buf_init(&out, 1 << 26);
	if (c != NULL && hga_modelc_add(c, &src, NULL) == 0 &&
	    hga_modelc_finish(c, &out, NULL) == 0) {
		if (hga_aws_image_open(&img, out.data, out.len, false, NULL) <
		    0)
			abort(); /* our own image is refused */
		walk_image(img);
		if (hga_aws_image_services(img) > 0)
			find_endpoints(hga_aws_svc_at(img, 0));
		hga_aws_image_free(img);
	}
	hga_modelc_free(c);
	hga_buf_release(&out);
	return 0;
}
