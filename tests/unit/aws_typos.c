/*
 * One edit in every operation and parameter name of the embedded services:
 * how often is the right name suggested first?  Needs the model image built
 * beside this program.
 */
#include "../vectors/vec.h"

#include "aws/valid.h"

struct score {
	unsigned right, all;
};

/* Edit number kind of the name at a place that depends on the name. */
static size_t edit(char *out, struct hga_str name, unsigned kind, unsigned at)
{
	size_t i = at % name.n;

	memcpy(out, name.s, name.n);
	switch (kind) {
	case 0: /* a letter is missing */
		memmove(out + i, out + i + 1, name.n - i - 1);
		return name.n - 1;
	case 1: /* a letter too much */
		memmove(out + i + 1, name.s + i, name.n - i);
		out[i] = 'x';
		return name.n + 1;
	case 2: /* another letter */
		out[i] = out[i] == 'q' ? 'z' : 'q';
		return name.n;
	default: /* neighbours swapped */
		i = i + 1 < name.n ? i : 0;
		out[i] = name.s[i + 1];
		out[i + 1] = name.s[i];
		return name.n;
	}
}

static void try_op(struct score *s, const struct hga_aws_svc *svc,
                   struct hga_str name, unsigned seed)
{
	char typo[256];
	unsigned k;

	for (k = seed % 2; k < 4; k += 2) {
		struct hga_str t = hga_strn(typo, edit(typo, name, k, seed));

		if (hga_aws_op_find(svc, t).r != NULL)
			continue;
		s->all++;
		s->right += hga_str_eq(hga_aws_suggest_op(svc, t), name);
	}
}

static void try_member(struct score *s, const struct hga_aws_svc *svc,
                       const struct hga_img_shape *shape, struct hga_str name,
                       unsigned seed)
{
	char typo[256];
	unsigned k;

	for (k = 0; k < 4; k++) {
		struct hga_str t = hga_strn(typo, edit(typo, name, k, seed));

		if (hga_aws_member_find(svc, shape, t) != NULL)
			continue;
		s->all++;
		s->right +=
		    hga_str_eq(hga_aws_suggest_member(svc, shape, t), name);
	}
}

static void service(struct score *ops, struct score *members,
                    const struct hga_aws_svc *svc)
{
	uint32_t i, m;

	for (i = 0; i < svc->r->ops.n; i++) {
		const struct hga_img_shape *in =
		    hga_aws_shape(svc, svc->ops[i].input);

		try_op(ops, svc, hga_aws_text(svc, svc->ops[i].name), i * 7);
		try_op(ops, svc, hga_aws_text(svc, svc->ops[i].snake), i * 5);
		for (m = 0; in != NULL && m < in->members.n; m++) {
			struct hga_str name =
			    hga_aws_text(svc, hga_aws_member(svc, in, m)->name);

			if (name.n > 2)
				try_member(members, svc, in, name, i + m * 3);
		}
	}
}

int main(void)
{
	struct score ops = {0, 0}, members = {0, 0};
	struct hga_aws_image *img = vec_models();
	size_t i;

	if (img == NULL) {
		skip("no model image beside this program");
		return done();
	}
	for (i = 0; i < hga_aws_image_services(img); i++)
		service(&ops, &members, hga_aws_svc_at(img, i));
	printf("# operations %u/%u, parameters %u/%u\n", ops.right, ops.all,
	       members.right, members.all);
	ok(ops.all > 1000 && ops.right >= ops.all / 100 * 95,
	   "the right operation comes first in 95 of 100 typos");
	ok(members.all > 1000 && members.right >= members.all / 100 * 95,
	   "so does the right parameter");
	hga_aws_image_free(img);
	return done();
}
