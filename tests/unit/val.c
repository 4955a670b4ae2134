/* Value tapes: building, cursors, copy, comparison, draining. */
#include "base/val.h"
#include "base/mem.h"
#include "tap.h"

static struct hga_str name_text(const struct hga_vnames *n, uint32_t id)
{
	(void)n;
	return id == 0 ? HGA_STR("Alpha") : HGA_STR("BetaIsALongName");
}

static uint32_t name_find(const struct hga_vnames *n, struct hga_str s)
{
	(void)n;
	if (hga_str_eqc(s, "Alpha"))
		return 0;
	return hga_str_eqc(s, "BetaIsALongName") ? 1 : HGA_NO_NAME;
}

static const struct hga_vnames names = {name_text, name_find, NULL};

/* {Alpha=[1, 2.5, "short", "a longer text", true, null],
 *  BetaIsALongName={k=7, longer_key={}}} */
static struct hga_vtape *sample(void)
{
	struct hga_vtape *t = hga_vtape_new(&names, 1 << 20);

	if (t == NULL)
		return NULL;
	hga_vt_open(t, HGA_V_STRUCT, HGA_NO_NAME, 5);
	hga_vt_open(t, HGA_V_LIST, 0, HGA_NO_SHAPE);
	hga_vt_int(t, HGA_NO_NAME, 1);
	hga_vt_num(t, HGA_NO_NAME, 2.5);
	hga_vt_str(t, HGA_NO_NAME, HGA_STR("short"));
	hga_vt_str(t, HGA_NO_NAME, HGA_STR("a longer text"));
	hga_vt_bool(t, HGA_NO_NAME, true);
	hga_vt_null(t, HGA_NO_NAME);
	hga_vt_close(t);
	hga_vt_open(t, HGA_V_MAP, 1, HGA_NO_SHAPE);
	hga_vt_key(t, HGA_STR("k"));
	hga_vt_int(t, HGA_NO_NAME, 7);
	hga_vt_key(t, HGA_STR("longer_key"));
	hga_vt_empty(t, HGA_NO_NAME);
	hga_vt_close(t);
	hga_vt_close(t);
	return t;
}

static void test_cursor(void)
{
	struct hga_vtape *t = sample();
	struct hga_val root;
	struct hga_val list;
	struct hga_val map;
	struct hga_vit it;

	is_int(hga_vt_end(t, NULL), 0, "whole value");
	root = hga_vtape_root(t);
	is_int(hga_val_type(root), HGA_V_STRUCT, "root is a structure");
	is_int(hga_val_shape(root), 5, "with its shape");
	list = hga_val_get(root, "Alpha");
	is_int(hga_val_count(list), 6, "six elements");
	is_int(hga_val_int(hga_val_at(list, 0), -1), 1, "int");
	ok(hga_val_num(hga_val_at(list, 1), 0) == 2.5, "number");
	is_int(hga_val_type(hga_val_at(list, 2)), HGA_V_STR, "SSTR is a STR");
	ok(hga_str_eqc(hga_val_str(hga_val_at(list, 2)), "short"), "inline");
	ok(hga_str_eqc(hga_val_str(hga_val_at(list, 3)), "a longer text"),
	   "text");
	ok(hga_val_bool(hga_val_at(list, 4), false), "bool");
	is_int(hga_val_type(hga_val_at(list, 5)), HGA_V_NULL, "null");
	is_int(hga_val_type(hga_val_at(list, 6)), HGA_V_NONE, "out of range");
	map = hga_val_get(root, "BetaIsALongName");
	is_int(hga_val_count(map), 2, "two pairs");
	is_int(hga_val_int(hga_val_get(map, "k"), -1), 7, "map look-up");
	is_int(hga_val_type(hga_val_get(map, "longer_key")), HGA_V_EMPTY,
	       "empty");
	is_int(hga_val_type(hga_val_get(root, "Gamma")), HGA_V_NONE,
	       "absent member");
	is_int(hga_val_type(hga_val_get(hga_val_get(root, "No"), "x")),
	       HGA_V_NONE, "look-up in nothing");
	it = hga_val_first(root);
	ok(hga_str_eqc(hga_vit_name(&it), "Alpha"), "first member's name");
	it = hga_val_next(it);
	ok(hga_str_eqc(hga_vit_name(&it), "BetaIsALongName"), "second's");
	it = hga_val_next(it);
	ok(!hga_val_more(it), "no third");
	hga_vtape_free(t);
}

static void test_copy(void)
{
	struct hga_vtape *a = sample();
	struct hga_vtape *b = hga_vtape_new(NULL, 1 << 20);
	struct hga_vtape *c = hga_vtape_new(NULL, 1 << 20);
	struct hga_val root;

	hga_vt_open(b, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
	hga_vt_copy(b, HGA_NO_NAME, hga_vtape_root(a));
	hga_vt_copy(b, HGA_NO_NAME, hga_val_get(hga_vtape_root(a), "Alpha"));
	hga_vt_close(b);
	is_int(hga_vt_end(b, NULL), 0, "copied");
	root = hga_vtape_root(b);
	is_int(hga_val_type(hga_val_at(root, 0)), HGA_V_MAP,
	       "a structure becomes a map");
	ok(hga_val_equal(hga_val_at(root, 0), hga_vtape_root(a)),
	   "the copy equals");
	ok(hga_val_equal(hga_val_at(root, 1),
	                 hga_val_get(hga_vtape_root(a), "Alpha")),
	   "a part, too");
	ok(!hga_val_equal(hga_val_at(root, 0), hga_val_at(root, 1)),
	   "different values differ");
	hga_vt_copy(c, HGA_NO_NAME,
	            hga_val_get(hga_vtape_root(a), "BetaIsALongName"));
	ok(hga_val_equal(hga_vtape_root(c),
	                 hga_val_get(hga_vtape_root(a), "BetaIsALongName")),
	   "a map with an empty value");
	hga_vtape_free(a);
	hga_vtape_free(b);
	hga_vtape_free(c);
}

static void test_equal(void)
{
	struct hga_vtape *t = hga_vtape_new(NULL, 10000);
	struct hga_val l;

	hga_vt_open(t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
	hga_vt_int(t, HGA_NO_NAME, 1);
	hga_vt_num(t, HGA_NO_NAME, 1.0);
	hga_vt_empty(t, HGA_NO_NAME);
	hga_vt_open(t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
	hga_vt_close(t);
	hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	hga_vt_close(t);
	hga_vt_int(t, HGA_NO_NAME, 9007199254740993); /* 2^53 + 1 */
	hga_vt_num(t, HGA_NO_NAME, 9007199254740992.0);
	hga_vt_close(t);
	l = hga_vtape_root(t);
	ok(hga_val_equal(hga_val_at(l, 0), hga_val_at(l, 1)), "1 == 1.0");
	ok(hga_val_equal(hga_val_at(l, 2), hga_val_at(l, 3)), "{} == []");
	ok(hga_val_equal(hga_val_at(l, 2), hga_val_at(l, 4)), "{} == map");
	ok(!hga_val_equal(hga_val_at(l, 3), hga_val_at(l, 4)),
	   "empty list is no map");
	ok(!hga_val_equal(hga_val_at(l, 5), hga_val_at(l, 6)),
	   "comparison with numbers is exact");
	hga_vtape_free(t);
}

static void test_misuse(void)
{
	struct hga_vtape *t = hga_vtape_new(NULL, 10000);
	struct hga_err err;

	hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	is_int(hga_vt_int(t, HGA_NO_NAME, 1), -HGA_BUG, "value without key");
	is_int(hga_vt_close(t), -HGA_BUG, "the failure sticks");
	is_int(hga_vt_end(t, &err), -HGA_BUG, "and is told");
	is_int(err.kind, HGA_BUG, "with its error");
	is_int(hga_val_type(hga_vtape_root(t)), HGA_V_NONE, "no root");
	hga_vtape_free(t);

	t = hga_vtape_new(NULL, 1000);
	hga_vt_open(t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
	is_int(hga_vt_end(t, NULL), -HGA_BUG, "unfinished");
	hga_vtape_free(t);

	t = hga_vtape_new(NULL, 1000);
	hga_vt_open(t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
	for (int i = 0; i < 100; i++)
		hga_vt_int(t, HGA_NO_NAME, i);
	is_int(hga_vt_end(t, NULL), -HGA_PROTOCOL, "limit in bytes");
	hga_vtape_free(t);

	t = hga_vtape_new(NULL, 100000);
	for (int i = 0; i < 129; i++)
		hga_vt_open(t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
	is_int(hga_vt_end(t, NULL), -HGA_PROTOCOL, "limit of depth");
	hga_vtape_free(t);
}

/* Many nodes, short and long texts; read by cursor and drained. */
static void test_drain(void)
{
	struct hga_vtape *t = hga_vtape_new(NULL, (size_t)1 << 26);
	const struct hga_node *n;
	struct hga_vdrain d;
	struct hga_str text;
	static char big[70000];
	size_t before;
	size_t longs = 0;
	bool right = true;
	int i = 0;

	memset(big, 'b', sizeof(big));
	hga_vt_open(t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
	for (int k = 0; k < 20000; k++) {
		char s[32];

		snprintf(s, sizeof(s), "text number %d", k);
		hga_vt_str(t, HGA_NO_NAME, hga_str(s));
		if (k % 1000 == 0)
			hga_vt_str(t, HGA_NO_NAME, hga_strn(big, 70000));
	}
	hga_vt_str_borrow(t, HGA_NO_NAME, HGA_STR("borrowed text"));
	hga_vt_close(t);
	is_int(hga_vt_end(t, NULL), 0, "large value");
	ok(hga_str_eqc(hga_val_str(hga_val_at(hga_vtape_root(t), 20020)),
	               "borrowed text"),
	   "borrowed text by cursor");
	before = hga_vtape_bytes(t);
	hga_vdrain_init(&d, t);
	n = hga_vdrain_next(&d, &text);
	is_int(n->u.c.count, 20021, "count");
	while ((n = hga_vdrain_next(&d, &text)) != NULL) {
		char s[32];

		if (text.n == 70000) {
			longs++;
			right = right && text.s[69999] == 'b';
			continue;
		}
		if (hga_str_eqc(text, "borrowed text"))
			continue;
		snprintf(s, sizeof(s), "text number %d", i++);
		right = right && hga_str_eqc(text, s);
	}
	ok(right, "texts come in order");
	is_int(i, 20000, "all short ones");
	is_int((long long)longs, 20, "all long ones");
	ok(hga_vtape_bytes(t) < before / 4, "chunks were freed on the way");
	hga_vtape_free_secret(t);
}

static void test_memory(void)
{
	unsigned long n = 0;
	int r;

	do {
		struct hga_vtape *t;

		hga_mem_torture(++n, false);
		t = sample();
		r = t != NULL ? hga_vt_end(t, NULL) : -HGA_MEMORY;
		hga_mem_torture(0, false);
		hga_vtape_free(t);
	} while (r == -HGA_MEMORY && n < 100);
	ok(r == 0 && n > 3, "each failing allocation is told");
}

int main(void)
{
	test_cursor();
	test_copy();
	test_equal();
	test_misuse();
	test_drain();
	test_memory();
	return done();
}
