/*
 * Model images from outside: opened with the complete check, then everything
 * in them is read.
 */
#include "aws_walk.h"

#include "base/mem.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct hga_aws_image *img;
	unsigned char *copy = hga_alloc(n + 1); /* aligned, exact */
	uint32_t size = (uint32_t)n;

	if (copy == NULL)
		return 0;
	memcpy(copy, data, n);
	/* a wrong size alone is no interesting refusal */
	if (n >= sizeof(struct hga_img_header))
		memcpy(copy + offsetof(struct hga_img_header, size), &size,
		       sizeof(size));
	if (hga_aws_image_open(&img, copy, n, false, NULL) == 0) {
		walk_image(img);
		hga_aws_image_free(img);
	}
	hga_free(copy);
	return 0;
}
