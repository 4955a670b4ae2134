/*
 * JMESPath inside: the tree of an expression, values during evaluation, and
 * what parser, evaluator and functions share.
 */
#ifndef HGA_AWS_JP_INT_H
#define HGA_AWS_JP_INT_H

#include "aws/jmespath.h"
#include "base/buf.h"

#define JP_TEXT_MAX (64u * 1024)
#define JP_NEST 64    /* brackets and parentheses */
#define JP_LEVELS 512 /* nested nodes of any kind */
#define JP_NO 0xffffffffu

enum jp_kind {
	JP_CURRENT,
	JP_FIELD,   /* text */
	JP_INDEX,   /* num[0] */
	JP_SLICE,   /* num, has */
	JP_SUB,     /* a then b on its result */
	JP_PIPE,    /* the same; ends projections */
	JP_PROJECT, /* a gives a list, b on each element */
	JP_VALUES,  /* a gives an object, b on each value */
	JP_FILTER,  /* a, condition c, b */
	JP_FLATTEN, /* a */
	JP_OR,
	JP_AND,
	JP_NOT,     /* a */
	JP_COMPARE, /* a op b */
	JP_LIST,    /* children from a by next */
	JP_HASH,    /* children with text as key */
	JP_LITERAL, /* lit */
	JP_STRING,  /* text */
	JP_CALL,    /* text; children */
	JP_EXPREF   /* a */
};

enum jp_op {
	JP_EQ,
	JP_NE,
	JP_LT,
	JP_LE,
	JP_GT,
	JP_GE
};

struct jp_node {
	uint8_t kind, op;
	uint8_t has;           /* JP_SLICE: bit i: num[i] is given */
	uint16_t level;        /* height of the subtree */
	uint32_t a, b, c;      /* children */
	uint32_t next;         /* sibling in a list of children */
	uint32_t text, text_n; /* in the expression's pool */
	uint32_t col;          /* 1-based column in the expression */
	uint32_t lit;
	int64_t num[3];
};

/* A literal of the expression. */
struct jp_lit {
	struct hga_vtape *t;
};

struct hga_jp {
	struct hga_buf src;  /* the expression */
	struct hga_buf pool; /* names and strings */
	struct jp_node *nodes;
	uint32_t n_nodes, cap_nodes;
	struct jp_lit *lits;
	uint32_t n_lits, cap_lits;
	uint32_t root;
};

static inline struct hga_str jp_text(const struct hga_jp *jp,
                                     const struct jp_node *n)
{
	return hga_strn(hga_buf_text(&jp->pool) + n->text, n->text_n);
}

/* Fills jp->nodes from jp->src. */
int jp_parse(struct hga_jp *jp, struct hga_err *err) HGA_MUST_USE;

/* ---- values ---- */

enum jv_kind {
	JV_NULL,
	JV_BOOL,
	JV_INT,
	JV_NUM,
	JV_STR,
	JV_REF,
	JV_LIST,
	JV_OBJ,
	JV_EXPREF
};

struct jv;

struct jv_list {
	struct jv *v;
	uint32_t n;
};

struct jv_entry;

struct jv_obj {
	struct jv_entry *v;
	uint32_t n;
};

/* A value: a scalar, a container of the input (JV_REF: object or list), or
 * one made here. */
struct jv {
	enum jv_kind k;
	union {
		bool b;
		int64_t i;
		double d;
		struct hga_str s;
		struct hga_val ref;
		struct jv_list l;
		struct jv_obj o;
		uint32_t node;
	} u;
};

struct jv_entry {
	struct hga_str key;
	struct jv v;
};

struct jp_block {
	struct jp_block *next;
	size_t used, size;
	/* bytes follow */
};

/* One evaluation: all memory is freed together. */
struct jp_run {
	const struct hga_jp *jp;
	struct jp_block *blocks;
	size_t held, max;
	struct hga_err *err;
};

void *jp_alloc(struct jp_run *r, size_t n, size_t size);
int jp_fail(struct jp_run *r, const struct jp_node *at, const char *code,
            const char *fmt, ...) HGA_PRINTF(4, 5);
int jp_eval(struct jp_run *r, uint32_t node, const struct jv *in,
            struct jv *out) HGA_MUST_USE;
/* Calls function n; in: the current value. */
int jp_call(struct jp_run *r, const struct jp_node *n, const struct jv *in,
            struct jv *out) HGA_MUST_USE;
/* Is there a function of that name? */
bool jp_is_function(struct hga_str name);

struct jv jv_of(struct hga_val v);
struct jv jv_string(struct hga_str s);
bool jv_is_list(const struct jv *v);
bool jv_is_object(const struct jv *v);
bool jv_is_number(const struct jv *v);
double jv_number(const struct jv *v);
bool jv_true(const struct jv *v);
bool jv_equal(const struct jv *a, const struct jv *b);
uint32_t jv_count(const struct jv *v); /* of a list or an object */
/* Elements of a list (not copied when they are there already). */
int jv_elements(struct jp_run *r, const struct jv *list,
                struct jv_list *out) HGA_MUST_USE;
/* Entries of an object. */
int jv_entries(struct jp_run *r, const struct jv *obj,
               struct jv_obj *out) HGA_MUST_USE;
struct jv jv_field(const struct jv *v, struct hga_str name);
/* Appends as the next value of a tape; failures stick in it. */
void jv_write(struct hga_vtape *t, const struct jv *v);

#endif
