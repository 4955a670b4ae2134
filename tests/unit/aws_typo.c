/*
 * Typing errors: one edit in every operation and parameter name of the
 * built-in services; the right name must be the suggestion in 95 of 100.
 */
#include "../vectors/vec.h"

#include "aws/valid.h"

static uint64_t seed = 20261122;

static unsigned dice(unsigned n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)(seed % n);
}

static const char letters[] = "abcdefghijklmnopqrstuvwxyz";

/* One letter lost, added, wrong, or two swapped. */
static void mistype(struct hga_str name, char *out, size_t size)
{
	unsigned at = dice((unsigned)name.n), n = (unsigned)name.n;
	char c = letters[dice(26)];

	snprintf(out, size, "%.*s", (int)name.n, name.s);
	switch (dice(4)) {
	case 0:
		memmove(out + at, out + at + 1, n - at);
		break;
	case 1:
		memmove(out + at + 1, out + at, n - at + 1);
		out[at] = c;
		break;
	case 2:
		out[at] = out[at] == c ? 'q' : c;
		break;
	default:
		if (at + 1 < n) {
			out[n + 1] = out[at];
			out[at] = out[at + 1];
			out[at + 1] = out[n + 1];
		} else {
			out[at] = c;
		}
	}
}

struct tally {
	unsigned n, good;
};

static void count(struct tally *t, struct hga_str want, struct hga_str got)
{
	t->n++;
	if (got.s != NULL && hga_str_eq(want, got))
		t->good++;
}

static void operations(const struct hga_aws_svc *svc, struct tally *t)
{
	char typo[256];

	for (uint32_t i = 0; i < svc->r->ops.n; i++) {
		struct hga_str name = hga_aws_op_name(hga_aws_op_at(svc, i));

		mistype(name, typo, sizeof(typo));
		if (hga_aws_op_find(svc, hga_str(typo)).r != NULL)
			continue;
		count(t, name, hga_aws_suggest_op(svc, hga_str(typo)));
	}
}

static void parameters(const struct hga_aws_svc *svc, struct tally *t)
{
	char typo[256];

	for (uint32_t i = 0; i < svc->r->shapes.n; i++) {
		const struct hga_img_shape *s = &svc->shapes[i];

		if (s->type != HGA_T_STRUCT)
			continue;
		for (uint32_t k = 0; k < s->members.n; k++) {
			struct hga_str name =
			    hga_aws_text(svc, hga_aws_member(svc, s, k)->name);

			/* One letter says nothing. */
			if (name.n < 2)
				continue;
			mistype(name, typo, sizeof(typo));
			if (hga_aws_member_find(svc, s, hga_str(typo)) != NULL)
				continue;
			count(t, name,
			      hga_aws_suggest_member(svc, s, hga_str(typo)));
		}
	}
}

int main(void)
{
	struct hga_aws_image *img = vec_models();
	struct tally ops = {0, 0}, params = {0, 0};

	if (img == NULL) {
		skip("no model image (HGAUTO_MODELS)");
		return done();
	}
	printf("# seed %llu\n", (unsigned long long)seed);
	for (size_t i = 0; i < hga_aws_image_services(img); i++) {
		operations(hga_aws_svc_at(img, i), &ops);
		parameters(hga_aws_svc_at(img, i), &params);
	}
	printf("# aws typo operations %u/%u\n# aws typo parameters %u/%u\n",
	       ops.good, ops.n, params.good, params.n);
	ok(ops.n > 0 && ops.good * 100 >= ops.n * 95,
	   "95 of 100 operations are found");
	ok(params.n > 0 && params.good * 100 >= params.n * 95,
	   "95 of 100 parameters are found");
	hga_aws_image_free(img);
	return done();
}
