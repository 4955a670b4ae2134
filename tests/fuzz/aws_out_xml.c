/*
 * Answers of protocol ec2, as result and as error.
 */
#include "aws_out.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct toy t;

	if (t.img == NULL)
		toy_open(&t, TOY_META("ec2") TOY_BODY);
	feed_answer(&t, 200, data, n);
	feed_answer(&t, 409, data, n);
	return 0;
}
