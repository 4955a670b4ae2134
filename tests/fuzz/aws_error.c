/*
 * Error answers of every protocol: header lines up to an empty one, then a
 * body, which may be of another protocol than the service's.
 */
#include "aws_toy.h"

#include "aws/error.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_error(const struct toy *t, const char *name,
                       struct hga_str head, struct hga_str body)
{
	struct hga_vtape *tape = hga_vtape_new(&t->svc->names, 1 << 24);
	struct hga_aws_error e;
	struct hga_buf b;

	hga_aws_error_init(&e);
	hga_buf_init(&b, 1 << 26);
	if (hga_aws_error_read(&e, hga_aws_op_find(t->svc, hga_str(name)), 400,
	                       head, body, tape, NULL) == 0) {
		/* always a code, a message and a whole value */
		if (e.code[0] == '\0' || e.message.len == 0 ||
		    !hga_val_is(hga_vtape_root(tape), HGA_V_STRUCT) ||
		    hga_json_write(&b, hga_vtape_root(tape), 0, true, NULL) ==
		        -HGA_BUG)
			abort();
	}
	hga_buf_release(&b);
	hga_aws_error_release(&e);
	hga_vtape_free(tape);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct toy ec2, json, rest_json, rest_xml;
	struct hga_str all = hga_strn((const char *)data, n), head, body;
	ptrdiff_t end = hga_str_find(all, HGA_STR("\n\n"));
	size_t h = end < 0 ? 0 : (size_t)end + 1;

	if (ec2.img == NULL) {
		toy_open(&ec2, TOY_META("ec2") TOY_BODY);
		toy_open(&json, TOY_META("json") TOY_BODY);
		toy_open(&rest_json, TOY_META("rest-json") TOY_REST);
		toy_open(&rest_xml, TOY_META("rest-xml") TOY_REST);
	}
	head = hga_strn(all.s, h);
	body = hga_strn(all.s + h, all.n - h);
	read_error(&ec2, "DescribeThings", head, body);
	read_error(&json, "DescribeThings", head, body);
	read_error(&rest_json, "GetThing", head, body);
	read_error(&rest_xml, "GetThing", head, body);
	return 0;
}
