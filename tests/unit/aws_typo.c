/*
 * Typing errors: each kind of edit (a letter lost, added, wrong, two
 * swapped) once in every operation and parameter name of the built-in
 * services, at a place that chance chooses; the right name must be the
 * suggestion in 95 of 100.  HGAUTO_TYPO_SEED repeats a run.
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

/* Edit number kind somewhere in the name. */
static void mistype(struct hga_str name, unsigned kind, char *out, size_t size)
{
	unsigned n = (unsigned)name.n, at = dice(kind == 3 ? n - 1 : n);
	char c = letters[dice(26)];

	snprintf(out, size, "%.*s", (int)name.n, name.s);
	switch (kind) {
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
		c = out[at];
		out[at] = out[at + 1];
		out[at + 1] = c;
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

static void operation(const struct hga_aws_svc *svc, struct hga_str name,
                      struct tally *t)
{
	char typo[256];

	for (unsigned kind = 0; kind < 4; kind++) {
		mistype(name, kind, typo, sizeof(typo));
		/* some edits make another right name */
		if (hga_aws_op_find(svc, hga_str(typo)).r == NULL)
			count(t, name, hga_aws_suggest_op(svc, hga_str(typo)));
	}
}

static void parameter(const struct hga_aws_svc *svc,
                      const struct hga_img_shape *s, struct hga_str name,
                      struct tally *t)
{
	char typo[256];

	for (unsigned kind = 0; kind < 4; kind++) {
		mistype(name, kind, typo, sizeof(typo));
		if (hga_aws_member_find(svc, s, hga_str(typo)) == NULL)
			count(t, name,
			      hga_aws_suggest_member(svc, s, hga_str(typo)));
	}
}

static void service(const struct hga_aws_svc *svc, struct tally *ops,
                    struct tally *params)
{
	for (uint32_t i = 0; i < svc->r->ops.n; i++) {
		operation(svc, hga_aws_text(svc, svc->ops[i].name), ops);
		operation(svc, hga_aws_text(svc, svc->ops[i].snake), ops);
	}
	for (uint32_t i = 0; i < svc->r->shapes.n; i++) {
		const struct hga_img_shape *s = &svc->shapes[i];

		for (uint32_t k = 0;
		     s->type == HGA_T_STRUCT && k < s->members.n; k++) {
			struct hga_str name =
			    hga_aws_text(svc, hga_aws_member(svc, s, k)->name);

			/* One letter says nothing. */
			if (name.n > 1)
				parameter(svc, s, name, params);
		}
	}
}

int main(void)
{
	struct hga_aws_image *img = vec_models();
	const char *given = getenv("HGAUTO_TYPO_SEED");
	struct tally ops = {0, 0}, params = {0, 0};

	if (img == NULL) {
		skip("no model image (HGAUTO_MODELS)");
		return done();
	}
	if (given != NULL)
		seed = strtoull(given, NULL, 10) | 1;
	printf("# seed %llu\n", (unsigned long long)seed);
	for (size_t i = 0; i < hga_aws_image_services(img); i++)
		service(hga_aws_svc_at(img, i), &ops, &params);
	printf("# aws typo operations %u/%u\n# aws typo parameters %u/%u\n",
	       ops.good, ops.n, params.good, params.n);
	ok(ops.n > 0 && ops.good * 100 >= ops.n * 95,
	   "95 of 100 operations are found");
	ok(params.n > 0 && params.good * 100 >= params.n * 95,
	   "95 of 100 parameters are found");
	hga_aws_image_free(img);
	return done();
}
