/*
 * Model image: compiler, look-ups, names by protocol, damaged images.
 */
#include "tap.h"

#include "aws_toy.h"
#include "aws_walk.h"

#include "base/mem.h"

static const struct hga_img_shape *in_shape(const struct toy *t)
{
	return hga_aws_shape_find(t->svc, HGA_STR("In"));
}

static const char *member_text(const struct toy *t, const char *shape,
                               const char *member, char which)
{
	const struct hga_img_shape *s =
	    hga_aws_shape_find(t->svc, hga_str(shape));
	const struct hga_img_member *m =
	    hga_aws_member_find(t->svc, s, hga_str(member));

	return hga_aws_cstr(t->svc, which == 's' ? m->sent : m->wire);
}

static void test_lookups(void)
{
	struct toy t;
	struct hga_aws_op op;

	toy_open(&t, TOY_META("ec2") TOY_BODY);
	op = hga_aws_op_find(t.svc, HGA_STR("DescribeThings"));
	ok(op.r != NULL, "an operation is found by its name");
	ok(hga_aws_op_find(t.svc, HGA_STR("describe_things")).r == op.r,
	   "by its snake_case name");
	ok(hga_aws_op_find(t.svc, HGA_STR("describe-things")).r == op.r,
	   "by its kebab-case name");
	ok(hga_aws_op_find(t.svc, HGA_STR("describethings")).r == NULL,
	   "but not by any spelling");
	ok(hga_aws_svc_find(t.img, HGA_STR("nope")) == NULL,
	   "an absent service is not found");
	ok(hga_aws_member_find(t.svc, in_shape(&t), HGA_STR("Kind")) != NULL &&
	       hga_aws_member_find(t.svc, in_shape(&t), HGA_STR("kind")) ==
	           NULL,
	   "members are found by their exact name");
	is_str(hga_aws_cstr(t.svc, hga_aws_op_error(op, 0)->name), "Busy",
	       "the operation's error shape");
	is_int(hga_aws_sext(t.svc, hga_aws_op_error(op, 0))->status, 409,
	       "its status");
	is_str(hga_aws_cstr(
	           t.svc,
	           hga_aws_id(t.svc,
	                      hga_aws_shape_find(t.svc, HGA_STR("Kind"))->enums,
	                      0)),
	       "t3.medium", "enum values are sorted");
	is_str(hga_aws_doc(t.svc, t.svc->r->ruleset).s, "{\"version\":\"1.0\"}",
	       "the rule set is kept without blanks");
	toy_close(&t);
}

static void test_names(void)
{
	struct toy t;

	toy_open(&t, TOY_META("ec2") TOY_BODY);
	is_str(member_text(&t, "In", "Ids", 's'), "Id",
	       "ec2 requests: locationName with a capital");
	is_str(member_text(&t, "Out", "Things", 'w'), "thingSet",
	       "ec2 results: locationName");
	toy_close(&t);
	toy_open(&t, TOY_META("query") TOY_BODY);
	is_str(member_text(&t, "In", "Ids", 's'), "id",
	       "query requests: locationName as it is");
	is_str(member_text(&t, "Out", "Flat", 'w'), "Flat",
	       "a list flattened on its reference keeps the member's name");
	toy_close(&t);
}

static void test_waiters_pages(void)
{
	const struct hga_img_acceptor *a;
	const struct hga_img_waiter *w;
	const struct hga_img_page *p;
	struct hga_aws_op op;
	struct toy t;

	toy_open(&t, TOY_META("ec2") TOY_BODY);
	w = hga_aws_waiter_find(t.svc, HGA_STR("thing_ready"));
	ok(w != NULL, "a waiter is found by its snake_case name");
	ok(w == hga_aws_waiter_find(t.svc, HGA_STR("ThingReady")),
	   "and by its model name");
	is_int(w->delay_s, 15, "its delay");
	is_int(w->acceptors.n, 3, "its acceptors");
	a = hga_aws_acceptor(t.svc, w, 0);
	ok(a->matcher == HGA_ACC_PATHALL && a->kind == 'b' && a->num == 1,
	   "a boolean is expected");
	a = hga_aws_acceptor(t.svc, w, 1);
	ok(a->matcher == HGA_ACC_STATUS && a->kind == 'i' && a->num == 404 &&
	       a->state == HGA_ACC_RETRY,
	   "a status is expected");
	op = hga_aws_op_at(t.svc, w->op);
	p = hga_aws_page(op);
	ok(p != NULL && p->out_tokens.n == 2, "the paginator has two tokens");
	is_str(hga_aws_cstr(t.svc, hga_aws_id(t.svc, p->out_tokens, 1)), "More",
	       "in the model's order");
	ok(hga_aws_page(hga_aws_op_find(t.svc, HGA_STR("CreateThing"))) == NULL,
	   "other operations have none");
	toy_close(&t);
}

static int repeat_of(const struct toy *t, const char *op)
{
	return hga_aws_op_find(t->svc, hga_str(op)).r->repeat;
}

static void test_repeat(void)
{
	struct toy t;

	toy_open(&t, TOY_META("ec2") TOY_BODY);
	is_int(repeat_of(&t, "DescribeThings"), HGA_REPEAT_READ,
	       "Describe reads");
	is_int(repeat_of(&t, "CreateThing"), HGA_REPEAT_IDEMPOTENT,
	       "a token makes Create idempotent");
	is_int(repeat_of(&t, "RunARNs"), HGA_REPEAT_IDEMPOTENT,
	       "and any other verb");
	toy_close(&t);
}

static void test_snake(void)
{
	static const char *const v[][2] = {
	    {"DescribeInstances", "describe_instances"},
	    {"DescribeDBInstances", "describe_db_instances"},
	    {"ListVirtualMFADevices", "list_virtual_mfa_devices"},
	    {"GetEbsEncryptionByDefault", "get_ebs_encryption_by_default"},
	    {"RunARNs", "run_arns"},
	    {"GetIpamResourceCidrs", "get_ipam_resource_cidrs"},
	    {"AssumeRoleWithSAML", "assume_role_with_saml"},
	    {"ListOpenIDConnectProviders", "list_open_id_connect_providers"},
	    {"Describe2Things", "describe2_things"},
	    {"already_snake", "already_snake"},
	};
	struct hga_buf b;
	size_t i;

	hga_buf_init(&b, 256);
	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		hga_buf_clear(&b);
		if (hga_aws_snake(&b, hga_str(v[i][0]), NULL) < 0)
			abort();
		is_str(hga_buf_text(&b), v[i][1], v[i][0]);
	}
	hga_buf_release(&b);
}

static void compile_fails(const char *service, bool strict, bool want,
                          const char *name)
{
	struct hga_modelc_src src = {.name = HGA_STR("toy"),
	                             .service = hga_str(service)};
	struct hga_modelc *c = hga_modelc_new(strict);
	struct hga_err err = {.kind = HGA_OK};
	int rc = hga_modelc_add(c, &src, &err);

	ok((rc == -HGA_PROTOCOL) == want, "%s (%s)", name,
	   rc < 0 ? err.msg : "accepted");
	hga_modelc_free(c);
}

static void test_compiler(void)
{
	compile_fails("{\"metadata\":{\"protocol\":\"ec2\"},\"mystery\":1}",
	              true, true, "an unknown key stops a strict compiler");
	compile_fails("{\"metadata\":{\"protocol\":\"ec2\"},\"mystery\":1}",
	              false, false, "a lenient one notes it");
	compile_fails("{\"metadata\":{\"protocol\":\"soap\"}}", false, true,
	              "an unknown protocol is refused");
	compile_fails("[1]", false, true, "a model that is no object");
	compile_fails("{\"metadata\":{\"protocol\":\"ec2\"},\"shapes\":{"
	              "\"L\":{\"type\":\"list\",\"member\":{"
	              "\"shape\":\"Gone\"}}}}",
	              false, true, "a reference to nothing is refused");
	compile_fails("{\"metadata\":{\"protocol\":\"ec2\"},\"operations\":{"
	              "\"A\":{\"input\":{\"shape\":\"S\"}}},\"shapes\":{"
	              "\"S\":{\"type\":\"string\"}}}",
	              false, true, "an input that is no structure is refused");
}

/* Every 32-bit word replaced in turn: opening refuses, or all still reads
 * within bounds (a sanitizer watches). */
static void test_damage(void)
{
	static const uint32_t values[] = {0, 1, 0xffff, 0x7fffffff, 0xffffffff};
	struct hga_aws_image *img;
	unsigned refused = 0, opened = 0;
	unsigned char *copy;
	struct toy t;
	size_t at, v;

	toy_open(&t, TOY_META("ec2") TOY_BODY);
	copy = hga_alloc(t.image.len);
	for (at = 0; at + 4 <= t.image.len; at += 4) {
		for (v = 0; v < 5; v++) {
			memcpy(copy, t.image.data, t.image.len);
			memcpy(copy + at, &values[v], 4);
			if (hga_aws_image_open(&img, copy, t.image.len, false,
			                       NULL) < 0) {
				refused++;
				continue;
			}
			opened++;
			walk_image(img);
			hga_aws_image_free(img);
		}
	}
	ok(refused > 1000, "damaged images are refused (%u of %u)", refused,
	   refused + opened);
	for (at = 0; at < t.image.len; at += 7) {
		if (hga_aws_image_open(&img, t.image.data, at, false, NULL) ==
		    0)
			break;
	}
	ok(at >= t.image.len, "a truncated image is refused");
	walk_image(t.img);
	ok(walk_sum > 0, "a whole one can be walked");
	hga_free(copy);
	toy_close(&t);
}

static void test_deterministic(void)
{
	struct toy a, b;

	toy_open(&a, TOY_META("ec2") TOY_BODY);
	toy_open(&b, TOY_META("ec2") TOY_BODY);
	ok(a.image.len == b.image.len &&
	       memcmp(a.image.data, b.image.data, a.image.len) == 0,
	   "the same models give the same image");
	is_int((long long)hga_aws_image_hash(a.img).n, 64,
	       "the image carries the hash of its inputs");
	toy_close(&a);
	toy_close(&b);
}

int main(void)
{
	test_lookups();
	test_names();
	test_waiters_pages();
	test_repeat();
	test_snake();
	test_compiler();
	test_damage();
	test_deterministic();
	return done();
}
