/*
 * Shared by the drivers of the third-party AWS cases: where they lie, JSON
 * files as values, comparison of values, counts.  Everything is static.
 */
#ifndef HGA_TEST_VEC_H
#define HGA_TEST_VEC_H

#include "../unit/tap.h"

#include "aws/image.h"
#include "aws/modelc.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/val.h"

#include <dirent.h>
#include <glob.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VEC_UNUSED __attribute__((unused))
#define VEC_TAPE (512u * 1024 * 1024)

/*
 * lie: cases that lie in the suite's files; run (total) and named together
 * must be as many.  named: cases that need not pass, each recognised by its
 * id or nature; why says how.
 */
struct vec_count {
	const char *name;
	unsigned passed, total, skipped;
	unsigned lie, named;
	const char *why;
};

/* Path of a file or directory of the suites; static memory. */
VEC_UNUSED static const char *vec_path(const char *rel)
{
	static char path[4096];
	const char *root = getenv("HGAUTO_VECTORS");

	snprintf(path, sizeof(path), "%s/aws/%s",
	         root != NULL ? root : "../shared/vectors", rel);
	return path;
}

VEC_UNUSED static bool vec_there(const char *rel)
{
	struct stat st;

	return stat(vec_path(rel), &st) == 0;
}

/* Says what was counted and whether all passed. */
VEC_UNUSED static void vec_end(const struct vec_count *c)
{
	printf("# aws %s %u/%u\n", c->name, c->passed, c->total);
	if (c->skipped > 0)
		printf("# aws %s: %u skipped\n", c->name, c->skipped);
	if (c->named > 0)
		printf("# aws %s: %u of %u not counted: %s\n", c->name,
		       c->named, c->lie, c->why);
	ok(c->passed == c->total && c->total + c->skipped + c->named > 0,
	   "%s: every case passes", c->name);
	if (c->lie > 0)
		ok(c->total + c->named == c->lie,
		   "%s: every case that lies there was run (%u of %u)", c->name,
		   c->total + c->named, c->lie);
}

VEC_UNUSED static bool vec_case(struct vec_count *c, bool good, const char *id,
                                const char *why)
{
	c->total++;
	if (good)
		c->passed++;
	else
		printf("# FAIL %s: %s\n", id, why);
	return good;
}

/* Whole file, NUL-terminated (hga_free); NULL when absent. */
VEC_UNUSED static char *vec_read(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	struct hga_buf b;
	char block[65536];
	size_t got;

	if (f == NULL)
		return NULL;
	hga_buf_init(&b, VEC_TAPE);
	while ((got = fread(block, 1, sizeof(block), f)) > 0)
		if (hga_buf_add(&b, block, got, NULL) < 0)
			abort();
	fclose(f);
	if (hga_buf_add(&b, "", 0, NULL) < 0 ||
	    hga_buf_reserve(&b, 1, NULL) < 0)
		abort();
	b.data[b.len] = '\0';
	*n = b.len;
	return hga_buf_move(&b);
}

/* A JSON file as a value; NULL when absent; aborts the test when wrong. */
VEC_UNUSED static struct hga_vtape *vec_json(const char *path)
{
	struct hga_vtape *t = NULL;
	struct hga_err err;
	size_t n = 0;
	char *text = vec_read(path, &n);

	if (text == NULL)
		return NULL;
	if (hga_json_parse(hga_strn(text, n), VEC_TAPE, &t, &err) < 0) {
		printf("Bail out! %s: %s\n", path, err.msg);
		exit(1);
	}
	hga_free(text);
	return t;
}

VEC_UNUSED static struct hga_str vec_str(struct hga_val v, const char *key)
{
	return hga_val_str(hga_val_get(v, key));
}

/* As a C string in one of four static buffers. */
VEC_UNUSED static const char *vec_cstr(struct hga_val v, const char *key)
{
	static char buf[4][1024];
	static unsigned at;
	char *b = buf[at++ & 3];

	snprintf(b, sizeof(buf[0]), "%.*s", HGA_STRF(vec_str(v, key)));
	return b;
}

VEC_UNUSED static bool vec_none(struct hga_val v)
{
	return hga_val_type(v) == HGA_V_NONE || hga_val_is(v, HGA_V_NULL);
}

VEC_UNUSED static bool vec_text_of_nan(struct hga_str t, double *d)
{
	if (hga_str_eqc(t, "NaN"))
		*d = (double)NAN;
	else if (hga_str_eqc(t, "Infinity"))
		*d = (double)INFINITY;
	else if (hga_str_eqc(t, "-Infinity"))
		*d = -(double)INFINITY;
	else
		return false;
	return true;
}

/* Member of that name, or (fold) of the same name in another case. */
VEC_UNUSED static struct hga_val vec_member(struct hga_val v,
                                            struct hga_str name, bool fold)
{
	struct hga_val x = hga_val_getn(v, name);
	struct hga_vit it;

	if (!fold || hga_val_type(x) != HGA_V_NONE)
		return x;
	for (it = hga_val_first(v); hga_val_more(it); it = hga_val_next(it))
		if (hga_str_ieq(hga_vit_name(&it), name))
			return hga_vit_val(it);
	return x;
}

/* Blobs are text, {"$blob": base64} or {"$time": n} are tags, numbers that
 * JSON cannot write are text; fold: names have no case. */
VEC_UNUSED static bool vec_equal_as(struct hga_val got, struct hga_val want,
                                    bool fold)
{
	enum hga_vtype g = hga_val_type(got), w = hga_val_type(want);
	struct hga_vit a, b;
	double d;

	if (w == HGA_V_MAP && hga_val_count(want) == 1) {
		struct hga_val x = hga_val_get(want, "$time");
		struct hga_buf raw;
		bool same;

		if (!vec_none(x))
			return fabs(hga_val_num(got, NAN) -
			            hga_val_num(x, NAN)) < 1e-5;
		x = hga_val_get(want, "$blob");
		if (!vec_none(x)) {
			hga_buf_init(&raw, 1 << 20);
			if (hga_b64_decode(&raw, hga_val_str(x), NULL) < 0)
				abort();
			same = hga_str_eq(hga_val_str(got), hga_buf_str(&raw));
			hga_buf_release(&raw);
			return same;
		}
	}
	if ((g == HGA_V_STR || g == HGA_V_BLOB) &&
	    (w == HGA_V_STR || w == HGA_V_BLOB))
		return hga_str_eq(hga_val_str(got), hga_val_str(want));
	if (g == HGA_V_NUM && w == HGA_V_STR &&
	    vec_text_of_nan(hga_val_str(want), &d))
		return isnan(d) ? isnan(hga_val_num(got, 0))
		                : hga_val_num(got, 0) == d;
	if ((g == HGA_V_MAP || g == HGA_V_STRUCT || g == HGA_V_EMPTY) &&
	    (w == HGA_V_MAP || w == HGA_V_EMPTY)) {
		uint32_t n = 0;

		if (w == HGA_V_EMPTY || g == HGA_V_EMPTY)
			return hga_val_count(got) == hga_val_count(want);
		for (b = hga_val_first(want); hga_val_more(b);
		     b = hga_val_next(b)) {
			struct hga_val x =
			    vec_member(got, hga_vit_name(&b), fold);

			if (vec_none(hga_vit_val(b)) && vec_none(x))
				continue;
			n++;
			if (!vec_equal_as(x, hga_vit_val(b), fold))
				return false;
		}
		return hga_val_count(got) == n;
	}
	if (g == HGA_V_LIST && w == HGA_V_LIST) {
		if (hga_val_count(got) != hga_val_count(want))
			return false;
		a = hga_val_first(got);
		for (b = hga_val_first(want); hga_val_more(b);
		     a = hga_val_next(a), b = hga_val_next(b))
			if (!vec_equal_as(hga_vit_val(a), hga_vit_val(b), fold))
				return false;
		return true;
	}
	if (g == HGA_V_NONE || w == HGA_V_NONE)
		return g == w;
	return hga_val_equal(got, want);
}

VEC_UNUSED static bool vec_equal(struct hga_val got, struct hga_val want)
{
	return vec_equal_as(got, want, false);
}

/* A value as JSON for messages; static memory. */
VEC_UNUSED static const char *vec_show(struct hga_val v)
{
	static char out[2][2048];
	static unsigned at;
	char *o = out[at++ & 1];
	struct hga_buf b;

	if (hga_val_type(v) == HGA_V_NONE)
		return "(nothing)";
	hga_buf_init(&b, 1 << 20);
	if (hga_json_write(&b, v, 0, true, NULL) < 0)
		snprintf(o, sizeof(out[0]), "(not to be written)");
	else
		snprintf(o, sizeof(out[0]), "%s", hga_buf_text(&b));
	hga_buf_release(&b);
	return o;
}

/* An image in memory and what it was opened from. */
struct vec_model {
	struct hga_buf image;
	struct hga_aws_image *img;
	const struct hga_aws_svc *svc;
	struct hga_aws_op op;
};

VEC_UNUSED static void vec_model_release(struct vec_model *m)
{
	hga_aws_image_free(m->img);
	hga_buf_release(&m->image);
	m->img = NULL;
}

/* Suite plus one case's `given` is a whole service. */
VEC_UNUSED static bool vec_model(struct vec_model *m, struct hga_val suite,
                                 struct hga_val given, struct hga_err *err)
{
	struct hga_vtape *t = hga_vtape_new(NULL, VEC_TAPE);
	struct hga_modelc *c = hga_modelc_new(false);
	struct hga_val none = {NULL, 0};
	struct hga_str name = vec_str(given, "name");
	bool good = false;

	memset(m, 0, sizeof(*m));
	hga_buf_init(&m->image, VEC_TAPE);
	if (name.n == 0)
		name = HGA_STR("OperationName");
	(void)hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	(void)hga_vt_key(t, HGA_STR("metadata"));
	(void)hga_vt_copy(t, HGA_NO_NAME, hga_val_get(suite, "metadata"));
	(void)hga_vt_key(t, HGA_STR("shapes"));
	(void)hga_vt_copy(t, HGA_NO_NAME, hga_val_get(suite, "shapes"));
	(void)hga_vt_key(t, HGA_STR("operations"));
	(void)hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	(void)hga_vt_key(t, name);
	(void)hga_vt_copy(t, HGA_NO_NAME, given);
	(void)hga_vt_close(t);
	(void)hga_vt_close(t);
	if (hga_vt_end(t, err) == 0 &&
	    hga_modelc_addv(c, HGA_STR("suite"), hga_vtape_root(t), none, none,
	                    hga_str(""), err) == 0 &&
	    hga_modelc_finish(c, &m->image, err) == 0 &&
	    hga_aws_image_open(&m->img, m->image.data, m->image.len, false,
	                       err) == 0) {
		m->svc = hga_aws_svc_find(m->img, HGA_STR("suite"));
		m->op = hga_aws_op_find(m->svc, name);
		good = m->op.r != NULL;
	}
	hga_modelc_free(c);
	hga_vtape_free(t);
	return good;
}

/* Path of the image built beside this program; static memory. */
VEC_UNUSED static const char *vec_models_path(void)
{
	static char path[4200];
	const char *given = getenv("HGAUTO_MODELS");
	ssize_t n;
	char *slash;
	int i;

	if (given != NULL)
		return given;
	n = readlink("/proc/self/exe", path, sizeof(path) - 32);
	path[n < 0 ? 0 : n] = '\0';
	for (i = 0; i < 2; i++) {
		slash = strrchr(path, '/');
		if (slash != NULL)
			*slash = '\0';
	}
	strncat(path, "/models.img", 16);
	return path;
}

/*
 * The image the program embeds: HGAUTO_MODELS, else models.img in the
 * directory above this program's.  NULL when there is none.
 */
VEC_UNUSED static struct hga_aws_image *vec_models(void)
{
	struct hga_aws_image *img = NULL;
	static void *volatile data; /* for the life of the test */
	struct hga_err err;
	size_t n = 0;

	data = vec_read(vec_models_path(), &n);
	if (data == NULL)
		return NULL;
	if (hga_aws_image_open(&img, data, n, false, &err) < 0) {
		printf("Bail out! %s\n", err.msg);
		exit(1);
	}
	return img;
}

#endif
