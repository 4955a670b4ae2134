/*
 * JMESPath: text -> tree.  A lexer and a precedence-climbing parser after
 * the grammar of jmespath.org.
 */
#include "aws/jp_int.h"

#include "base/json.h"
#include "base/mem.h"

#include <string.h>

enum tok {
	T_END,
	T_NAME,
	T_QUOTED, /* quoted identifier */
	T_NUMBER,
	T_LITERAL,
	T_STRING,
	T_DOT,
	T_STAR,
	T_FLATTEN, /* [] */
	T_FILTER,  /* [? */
	T_LBRACKET,
	T_RBRACKET,
	T_LPAREN,
	T_RPAREN,
	T_LBRACE,
	T_RBRACE,
	T_COMMA,
	T_COLON,
	T_PIPE,
	T_OR,
	T_AND,
	T_AMP,
	T_NOT,
	T_COMPARE,
	T_CURRENT
};

/* How strongly a token binds what stands left of it. */
static int power(enum tok t)
{
	switch (t) {
	case T_PIPE:
		return 1;
	case T_OR:
		return 2;
	case T_AND:
		return 3;
	case T_COMPARE:
		return 5;
	case T_FLATTEN:
		return 9;
	case T_STAR:
		return 20;
	case T_FILTER:
		return 21;
	case T_DOT:
		return 40;
	case T_NOT:
		return 45;
	case T_LBRACE:
		return 50;
	case T_LBRACKET:
		return 55;
	case T_LPAREN:
		return 60;
	case T_END:
	case T_NAME:
	case T_QUOTED:
	case T_NUMBER:
	case T_LITERAL:
	case T_STRING:
	case T_RBRACKET:
	case T_RPAREN:
	case T_RBRACE:
	case T_COMMA:
	case T_COLON:
	case T_AMP:
	case T_CURRENT:
		break;
	}
	return 0;
}

#define PROJECTION_STOP 10

struct token {
	enum tok t;
	enum jp_op op;
	uint32_t text, text_n; /* names, strings: in the pool */
	uint32_t lit;
	int64_t num;
	uint32_t col;
};

struct parser {
	struct hga_jp *jp;
	size_t at;
	struct token cur, ahead; /* ahead is valid with has_ahead */
	bool has_ahead;
	unsigned nest, levels;
	struct hga_err *err;
};

static int bad_at(struct parser *p, uint32_t col, const char *what)
{
	return hga_fail(p->err, HGA_USAGE, 0, "Syntax",
	                "JMESPath, column %u: %s", col, what);
}

static int bad(struct parser *p, const char *what)
{
	return bad_at(p, p->cur.col, what);
}

/* ---- lexer ---- */

static bool is_name_start(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int keep_text(struct parser *p, struct token *k, struct hga_str text)
{
	k->text = (uint32_t)p->jp->pool.len; /* the pool is small */
	k->text_n = (uint32_t)text.n;
	return hga_buf_addstr(&p->jp->pool, text, p->err);
}

static int lex_name(struct parser *p, struct token *k, struct hga_str s)
{
	size_t end = p->at;

	while (end < s.n && (is_name_start(s.s[end]) || is_digit(s.s[end])))
		end++;
	k->t = T_NAME;
	s = hga_strn(s.s + p->at, end - p->at);
	p->at = end;
	return keep_text(p, k, s);
}

static int lex_number(struct parser *p, struct token *k, struct hga_str s)
{
	size_t end = p->at + 1;

	while (end < s.n && is_digit(s.s[end]))
		end++;
	k->t = T_NUMBER;
	if (!hga_str_int(hga_strn(s.s + p->at, end - p->at), &k->num))
		return bad_at(p, k->col, "not a number");
	p->at = end;
	return 0;
}

/* End of a text closed by `quote`; backslashes protect. SIZE_MAX: none. */
static size_t closing(struct hga_str s, size_t at, char quote)
{
	for (; at < s.n; at++) {
		if (s.s[at] == '\\')
			at++;
		else if (s.s[at] == quote)
			return at;
	}
	return SIZE_MAX;
}

static int json_value(struct parser *p, struct hga_str text,
                      struct hga_vtape **out)
{
	return hga_json_parse(text, 8 * JP_TEXT_MAX, out, NULL) == -HGA_MEMORY
	           ? hga_fail_mem(p->err)
	           : 0;
}

static int lex_quoted(struct parser *p, struct token *k, struct hga_str s)
{
	size_t end = closing(s, p->at + 1, '"');
	struct hga_vtape *t = NULL;
	int rc;

	if (end == SIZE_MAX)
		return bad_at(p, k->col, "a closing \" is missing");
	rc = json_value(p, hga_strn(s.s + p->at, end + 1 - p->at), &t);
	if (rc < 0)
		return rc;
	if (t == NULL)
		return bad_at(p, k->col, "not a quoted name");
	k->t = T_QUOTED;
	rc = keep_text(p, k, hga_val_str(hga_vtape_root(t)));
	hga_vtape_free(t);
	p->at = end + 1;
	return rc;
}

/* text with every \Q replaced by Q. */
static int unescape(struct hga_buf *b, struct hga_str text, char q,
                    struct hga_err *err)
{
	size_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < text.n; i++) {
		if (text.s[i] == '\\' && i + 1 < text.n && text.s[i + 1] == q)
			i++;
		rc = hga_buf_addc(b, text.s[i], err);
	}
	return rc;
}

static int lex_string(struct parser *p, struct token *k, struct hga_str s)
{
	size_t end = closing(s, p->at + 1, '\'');
	struct hga_buf *pool = &p->jp->pool;
	int rc;

	if (end == SIZE_MAX)
		return bad_at(p, k->col, "a closing ' is missing");
	k->t = T_STRING;
	k->text = (uint32_t)pool->len;
	rc = unescape(pool, hga_strn(s.s + p->at + 1, end - p->at - 1), '\'',
	              p->err);
	k->text_n = (uint32_t)pool->len - k->text;
	p->at = end + 1;
	return rc;
}

static int keep_literal(struct parser *p, struct token *k, struct hga_vtape *t)
{
	struct hga_jp *jp = p->jp;

	if (jp->n_lits == jp->cap_lits) {
		uint32_t cap = jp->cap_lits == 0 ? 4 : jp->cap_lits * 2;
		struct jp_lit *v = hga_realloc(jp->lits, cap * sizeof(*v));

		if (v == NULL) {
			hga_vtape_free(t);
			return hga_fail_mem(p->err);
		}
		jp->lits = v;
		jp->cap_lits = cap;
	}
	k->lit = jp->n_lits;
	jp->lits[jp->n_lits++].t = t;
	return 0;
}

/* JSON, or (as old expressions have it) text without its quotes. */
static int literal_value(struct parser *p, struct token *k, struct hga_str text)
{
	struct hga_vtape *t = NULL;
	struct hga_buf b;
	int rc = json_value(p, text, &t);

	if (rc == 0 && t == NULL) {
		hga_buf_init(&b, 2 * JP_TEXT_MAX);
		rc = hga_buf_addc(&b, '"', p->err);
		if (rc == 0)
			rc = hga_buf_addstr(&b, hga_str_trim(text), p->err);
		if (rc == 0)
			rc = hga_buf_addc(&b, '"', p->err);
		if (rc == 0)
			rc = json_value(p, hga_buf_str(&b), &t);
		hga_buf_release(&b);
	}
	if (rc == 0 && t == NULL)
		return bad_at(p, k->col, "a literal must be JSON");
	return rc < 0 ? rc : keep_literal(p, k, t);
}

static int lex_literal(struct parser *p, struct token *k, struct hga_str s)
{
	size_t end = closing(s, p->at + 1, '`');
	struct hga_buf b;
	int rc;

	if (end == SIZE_MAX)
		return bad_at(p, k->col, "a closing ` is missing");
	k->t = T_LITERAL;
	hga_buf_init(&b, JP_TEXT_MAX);
	rc = unescape(&b, hga_strn(s.s + p->at + 1, end - p->at - 1), '`',
	              p->err);
	if (rc == 0)
		rc = literal_value(p, k, hga_buf_str(&b));
	hga_buf_release(&b);
	p->at = end + 1;
	return rc;
}

static int lex_sign(struct parser *p, struct token *k, struct hga_str s)
{
	static const struct {
		char text[3];
		uint8_t t, op;
	} v[] = {
	    {"[]", T_FLATTEN, 0},     {"[?", T_FILTER, 0},
	    {"||", T_OR, 0},          {"&&", T_AND, 0},
	    {"==", T_COMPARE, JP_EQ}, {"!=", T_COMPARE, JP_NE},
	    {"<=", T_COMPARE, JP_LE}, {">=", T_COMPARE, JP_GE},
	    {"<", T_COMPARE, JP_LT},  {">", T_COMPARE, JP_GT},
	    {".", T_DOT, 0},          {"*", T_STAR, 0},
	    {"[", T_LBRACKET, 0},     {"]", T_RBRACKET, 0},
	    {"(", T_LPAREN, 0},       {")", T_RPAREN, 0},
	    {"{", T_LBRACE, 0},       {"}", T_RBRACE, 0},
	    {",", T_COMMA, 0},        {":", T_COLON, 0},
	    {"|", T_PIPE, 0},         {"&", T_AMP, 0},
	    {"!", T_NOT, 0},          {"@", T_CURRENT, 0},
	};
	size_t i;

	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		size_t n = strlen(v[i].text);

		if (s.n - p->at < n || memcmp(s.s + p->at, v[i].text, n) != 0)
			continue;
		k->t = (enum tok)v[i].t;
		k->op = (enum jp_op)v[i].op;
		p->at += n;
		return 0;
	}
	return bad_at(p, k->col, "unexpected character");
}

static int lex(struct parser *p, struct token *k)
{
	struct hga_str s = hga_buf_str(&p->jp->src);
	char c;

	while (p->at < s.n && (s.s[p->at] == ' ' || s.s[p->at] == '\t' ||
	                       s.s[p->at] == '\r' || s.s[p->at] == '\n'))
		p->at++;
	memset(k, 0, sizeof(*k));
	k->col = (uint32_t)p->at + 1;
	if (p->at == s.n) {
		k->t = T_END;
		return 0;
	}
	c = s.s[p->at];
	if (is_name_start(c))
		return lex_name(p, k, s);
	if (is_digit(c) ||
	    (c == '-' && p->at + 1 < s.n && is_digit(s.s[p->at + 1])))
		return lex_number(p, k, s);
	if (c == '"')
		return lex_quoted(p, k, s);
	if (c == '\'')
		return lex_string(p, k, s);
	if (c == '`')
		return lex_literal(p, k, s);
	return lex_sign(p, k, s);
}

static int advance(struct parser *p)
{
	if (p->has_ahead) {
		p->cur = p->ahead;
		p->has_ahead = false;
		return 0;
	}
	return lex(p, &p->cur);
}

static int peek(struct parser *p)
{
	int rc = 0;

	if (!p->has_ahead)
		rc = lex(p, &p->ahead);
	if (rc == 0)
		p->has_ahead = true;
	return rc;
}

static int match(struct parser *p, enum tok t, const char *what)
{
	if (p->cur.t != t)
		return bad(p, what);
	return advance(p);
}

/* ---- nodes ---- */

static unsigned level_of(const struct hga_jp *jp, uint32_t node)
{
	return node == JP_NO ? 0 : jp->nodes[node].level;
}

static int grow(struct parser *p)
{
	struct hga_jp *jp = p->jp;
	uint32_t cap = jp->cap_nodes == 0 ? 16 : jp->cap_nodes * 2;
	struct jp_node *v;

	v = hga_realloc(jp->nodes, (size_t)cap * sizeof(*v));
	if (v == NULL)
		return hga_fail_mem(p->err);
	jp->nodes = v;
	jp->cap_nodes = cap;
	return 0;
}

/* A node above a, b and c (JP_NO: none). */
static int node(struct parser *p, enum jp_kind kind, uint32_t a, uint32_t b,
                uint32_t c, uint32_t *out)
{
	struct hga_jp *jp = p->jp;
	unsigned level = level_of(jp, a);
	struct jp_node *n;

	if (level_of(jp, b) > level)
		level = level_of(jp, b);
	if (level_of(jp, c) > level)
		level = level_of(jp, c);
	if (level >= JP_LEVELS)
		return bad(p, "the expression is nested too deeply");
	if (jp->n_nodes == jp->cap_nodes && grow(p) < 0)
		return -HGA_MEMORY;
	n = &jp->nodes[jp->n_nodes];
	memset(n, 0, sizeof(*n));
	n->kind = (uint8_t)kind;
	n->level = (uint16_t)(level + 1);
	n->a = a;
	n->b = b;
	n->c = c;
	n->next = JP_NO;
	n->col = p->cur.col;
	*out = jp->n_nodes++;
	return 0;
}

static int leaf(struct parser *p, enum jp_kind kind, uint32_t *out)
{
	return node(p, kind, JP_NO, JP_NO, JP_NO, out);
}

static int text_leaf(struct parser *p, enum jp_kind kind, const struct token *k,
                     uint32_t *out)
{
	int rc = leaf(p, kind, out);

	if (rc < 0)
		return rc;
	p->jp->nodes[*out].text = k->text;
	p->jp->nodes[*out].text_n = k->text_n;
	p->jp->nodes[*out].lit = k->lit;
	p->jp->nodes[*out].col = k->col;
	return 0;
}

/* ---- grammar ---- */

static int expression(struct parser *p, int bp, uint32_t *out);
static int projection_rhs(struct parser *p, int bp, uint32_t *out);

static int open_nest(struct parser *p)
{
	return ++p->nest > JP_NEST ? bad(p, "too many open brackets") : 0;
}

/* Appends a child to the list of `parent` ending at *last. */
static void add_child(struct parser *p, uint32_t parent, uint32_t *last,
                      uint32_t child)
{
	struct jp_node *v = p->jp->nodes;

	if (*last == JP_NO)
		v[parent].a = child;
	else
		v[*last].next = child;
	*last = child;
	if (v[child].level >= v[parent].level)
		v[parent].level = (uint16_t)(v[child].level + 1);
}

/* a, b]   (the bracket is behind us) */
static int multi_list(struct parser *p, uint32_t *out)
{
	uint32_t last = JP_NO, child = JP_NO;
	int rc;

	*out = JP_NO;
	rc = leaf(p, JP_LIST, out);
	if (rc == 0)
		rc = open_nest(p);
	while (rc == 0) {
		rc = expression(p, 0, &child);
		if (rc < 0)
			break;
		add_child(p, *out, &last, child);
		if (p->cur.t == T_RBRACKET)
			break;
		rc = match(p, T_COMMA, "expected , or ]");
	}
	p->nest--;
	return rc < 0 ? rc : advance(p);
}

/* key: value, ...}   (the brace is behind us) */
static int multi_hash(struct parser *p, uint32_t *out)
{
	uint32_t last = JP_NO, child = JP_NO;
	struct token key;
	int rc;

	*out = JP_NO;
	rc = leaf(p, JP_HASH, out);
	if (rc == 0)
		rc = open_nest(p);
	while (rc == 0) {
		key = p->cur;
		if (key.t != T_NAME && key.t != T_QUOTED)
			return bad(p, "expected a name");
		rc = advance(p);
		if (rc == 0)
			rc = match(p, T_COLON, "expected :");
		if (rc == 0)
			rc = expression(p, 0, &child);
		/* a node of its own keeps the key apart from the value */
		if (rc == 0)
			rc = node(p, JP_SUB, child, JP_NO, JP_NO, &child);
		if (rc < 0)
			return rc;
		p->jp->nodes[child].text = key.text;
		p->jp->nodes[child].text_n = key.text_n;
		add_child(p, *out, &last, child);
		if (p->cur.t == T_RBRACE)
			break;
		rc = match(p, T_COMMA, "expected , or }");
	}
	p->nest--;
	return rc < 0 ? rc : advance(p);
}

static int slice(struct parser *p, uint32_t *out)
{
	int64_t num[3] = {0, 0, 0};
	uint8_t has = 0;
	unsigned i = 0;
	int rc = 0;

	while (rc == 0 && p->cur.t != T_RBRACKET) {
		if (p->cur.t == T_COLON && i < 2) {
			i++;
		} else if (p->cur.t == T_NUMBER && !(has & (1u << i))) {
			num[i] = p->cur.num;
			has |= (uint8_t)(1u << i);
		} else {
			return bad(p, "not a slice");
		}
		rc = advance(p);
	}
	if (rc == 0)
		rc = leaf(p, JP_SLICE, out);
	if (rc < 0)
		return rc;
	memcpy(p->jp->nodes[*out].num, num, sizeof(num));
	p->jp->nodes[*out].has = has;
	return advance(p);
}

/* N] or a slice, applied to `left`; a slice begins a projection. */
static int index_of(struct parser *p, uint32_t left, uint32_t *out)
{
	uint32_t right = JP_NO;
	bool sliced;
	int rc = peek(p);

	if (rc < 0)
		return rc;
	sliced = p->cur.t == T_COLON || p->ahead.t == T_COLON;
	if (sliced) {
		rc = slice(p, &right);
	} else {
		rc = leaf(p, JP_INDEX, &right);
		if (rc == 0) {
			p->jp->nodes[right].num[0] = p->cur.num;
			rc = advance(p);
		}
		if (rc == 0)
			rc = match(p, T_RBRACKET, "expected ]");
	}
	if (rc == 0)
		rc = node(p, JP_SUB, left, right, JP_NO, out);
	if (rc < 0 || !sliced)
		return rc;
	left = *out;
	rc = projection_rhs(p, power(T_STAR), &right);
	return rc < 0 ? rc : node(p, JP_PROJECT, left, right, JP_NO, out);
}

/* What stands behind a dot. */
static int dot_rhs(struct parser *p, int bp, uint32_t *out)
{
	int rc;

	switch (p->cur.t) {
	case T_NAME:
	case T_QUOTED:
	case T_STAR:
		return expression(p, bp, out);
	case T_LBRACKET:
		rc = advance(p);
		return rc < 0 ? rc : multi_list(p, out);
	case T_LBRACE:
		rc = advance(p);
		return rc < 0 ? rc : multi_hash(p, out);
	case T_END:
	case T_NUMBER:
	case T_LITERAL:
	case T_STRING:
	case T_DOT:
	case T_FLATTEN:
	case T_FILTER:
	case T_RBRACKET:
	case T_LPAREN:
	case T_RPAREN:
	case T_RBRACE:
	case T_COMMA:
	case T_COLON:
	case T_PIPE:
	case T_OR:
	case T_AND:
	case T_AMP:
	case T_NOT:
	case T_COMPARE:
	case T_CURRENT:
		break;
	}
	return bad(p, "expected a name, *, [ or { after the dot");
}

/* What a projection applies to each element. */
static int projection_rhs(struct parser *p, int bp, uint32_t *out)
{
	int rc;

	if (power(p->cur.t) < PROJECTION_STOP)
		return leaf(p, JP_CURRENT, out);
	if (p->cur.t == T_LBRACKET || p->cur.t == T_FILTER)
		return expression(p, bp, out);
	if (p->cur.t != T_DOT)
		return bad(p, "not possible after a projection");
	rc = advance(p);
	return rc < 0 ? rc : dot_rhs(p, bp, out);
}

/* condition]   (the [? is behind us) */
static int filter(struct parser *p, uint32_t left, uint32_t *out)
{
	uint32_t cond = JP_NO, right = JP_NO;
	int rc = open_nest(p);

	if (rc == 0)
		rc = expression(p, 0, &cond);
	p->nest--;
	if (rc == 0)
		rc = match(p, T_RBRACKET, "expected ]");
	if (rc < 0)
		return rc;
	rc = p->cur.t == T_FLATTEN ? leaf(p, JP_CURRENT, &right)
	                           : projection_rhs(p, power(T_FILTER), &right);
	return rc < 0 ? rc : node(p, JP_FILTER, left, right, cond, out);
}

static int flatten(struct parser *p, uint32_t left, uint32_t *out)
{
	uint32_t right = JP_NO;
	int rc = node(p, JP_FLATTEN, left, JP_NO, JP_NO, &left);

	if (rc == 0)
		rc = projection_rhs(p, power(T_FLATTEN), &right);
	return rc < 0 ? rc : node(p, JP_PROJECT, left, right, JP_NO, out);
}

/* [ at the start of an expression; behind us. */
static int prefix_bracket(struct parser *p, uint32_t *out)
{
	uint32_t left = JP_NO, right = JP_NO;
	int rc;

	if (p->cur.t == T_NUMBER || p->cur.t == T_COLON) {
		rc = leaf(p, JP_CURRENT, &left);
		return rc < 0 ? rc : index_of(p, left, out);
	}
	if (p->cur.t == T_STAR) {
		rc = peek(p);
		if (rc < 0)
			return rc;
		if (p->ahead.t == T_RBRACKET) {
			rc = advance(p);
			if (rc == 0)
				rc = advance(p);
			if (rc == 0)
				rc = leaf(p, JP_CURRENT, &left);
			if (rc == 0)
				rc = projection_rhs(p, power(T_STAR), &right);
			return rc < 0 ? rc
			              : node(p, JP_PROJECT, left, right, JP_NO,
			                     out);
		}
	}
	return multi_list(p, out);
}

static int prefix_star(struct parser *p, uint32_t *out)
{
	uint32_t left = JP_NO, right = JP_NO;
	int rc = leaf(p, JP_CURRENT, &left);

	if (rc == 0)
		rc = p->cur.t == T_RBRACKET
		         ? leaf(p, JP_CURRENT, &right)
		         : projection_rhs(p, power(T_STAR), &right);
	return rc < 0 ? rc : node(p, JP_VALUES, left, right, JP_NO, out);
}

static int prefix_paren(struct parser *p, uint32_t *out)
{
	int rc = open_nest(p);

	if (rc == 0)
		rc = expression(p, 0, out);
	p->nest--;
	return rc < 0 ? rc : match(p, T_RPAREN, "expected )");
}

static int prefix_unary(struct parser *p, enum jp_kind kind, int bp,
                        uint32_t *out)
{
	uint32_t a = JP_NO;
	int rc = expression(p, bp, &a);

	return rc < 0 ? rc : node(p, kind, a, JP_NO, JP_NO, out);
}

static int prefix_quoted(struct parser *p, const struct token *k, uint32_t *out)
{
	if (p->cur.t == T_LPAREN)
		return bad(p, "a quoted name cannot be called");
	return text_leaf(p, JP_FIELD, k, out);
}

/* The first token of an expression; behind us, k. */
static int prefix(struct parser *p, const struct token *k, uint32_t *out)
{
	uint32_t left = JP_NO;
	int rc;

	switch (k->t) {
	case T_NAME:
		return text_leaf(p, JP_FIELD, k, out);
	case T_QUOTED:
		return prefix_quoted(p, k, out);
	case T_LITERAL:
		return text_leaf(p, JP_LITERAL, k, out);
	case T_STRING:
		return text_leaf(p, JP_STRING, k, out);
	case T_CURRENT:
		return leaf(p, JP_CURRENT, out);
	case T_STAR:
		return prefix_star(p, out);
	case T_LBRACE:
		return multi_hash(p, out);
	case T_LBRACKET:
		return prefix_bracket(p, out);
	case T_LPAREN:
		return prefix_paren(p, out);
	case T_NOT:
		return prefix_unary(p, JP_NOT, power(T_NOT), out);
	case T_AMP:
		return prefix_unary(p, JP_EXPREF, 0, out);
	case T_FLATTEN:
	case T_FILTER:
		rc = leaf(p, JP_CURRENT, &left);
		if (rc < 0)
			return rc;
		return k->t == T_FILTER ? filter(p, left, out)
		                        : flatten(p, left, out);
	case T_END:
	case T_NUMBER:
	case T_DOT:
	case T_RBRACKET:
	case T_RPAREN:
	case T_RBRACE:
	case T_COMMA:
	case T_COLON:
	case T_PIPE:
	case T_OR:
	case T_AND:
	case T_COMPARE:
		break;
	}
	return bad_at(p, k->col,
	              k->t == T_END ? "the expression ends too early"
	                            : "no expression can begin like this");
}

/* arguments)   (the parenthesis is behind us) */
static int call(struct parser *p, uint32_t left, uint32_t *out)
{
	uint32_t last = JP_NO, child = JP_NO;
	int rc;

	if (p->jp->nodes[left].kind != JP_FIELD)
		return bad(p, "only a name can be called");
	p->jp->nodes[left].kind = JP_CALL;
	*out = left;
	rc = open_nest(p);
	while (rc == 0 && p->cur.t != T_RPAREN) {
		rc = expression(p, 0, &child);
		if (rc < 0)
			break;
		add_child(p, left, &last, child);
		if (p->cur.t == T_RPAREN)
			break;
		rc = match(p, T_COMMA, "expected , or )");
		if (rc == 0 && p->cur.t == T_RPAREN)
			rc = bad(p, "an argument is missing");
	}
	p->nest--;
	return rc < 0 ? rc : advance(p);
}

static int infix_two(struct parser *p, enum jp_kind kind, const struct token *k,
                     uint32_t left, uint32_t *out)
{
	uint32_t right = JP_NO;
	int rc = expression(p, power(k->t), &right);

	if (rc == 0)
		rc = node(p, kind, left, right, JP_NO, out);
	if (rc == 0)
		p->jp->nodes[*out].op = (uint8_t)k->op;
	return rc;
}

static int infix_dot(struct parser *p, uint32_t left, uint32_t *out)
{
	bool star = p->cur.t == T_STAR;
	uint32_t right = JP_NO;
	int rc;

	if (star) {
		rc = advance(p);
		if (rc == 0)
			rc = projection_rhs(p, power(T_DOT), &right);
	} else {
		rc = dot_rhs(p, power(T_DOT), &right);
	}
	return rc < 0 ? rc
	              : node(p, star ? JP_VALUES : JP_SUB, left, right, JP_NO,
	                     out);
}

static int infix_bracket(struct parser *p, uint32_t left, uint32_t *out)
{
	uint32_t right = JP_NO;
	int rc;

	if (p->cur.t == T_NUMBER || p->cur.t == T_COLON)
		return index_of(p, left, out);
	rc = match(p, T_STAR, "expected a number, : or *");
	if (rc == 0)
		rc = match(p, T_RBRACKET, "expected ]");
	if (rc == 0)
		rc = projection_rhs(p, power(T_STAR), &right);
	return rc < 0 ? rc : node(p, JP_PROJECT, left, right, JP_NO, out);
}

/* A token that continues `left`; behind us, k. */
static int infix(struct parser *p, const struct token *k, uint32_t left,
                 uint32_t *out)
{
	switch (k->t) {
	case T_DOT:
		return infix_dot(p, left, out);
	case T_PIPE:
		return infix_two(p, JP_PIPE, k, left, out);
	case T_OR:
		return infix_two(p, JP_OR, k, left, out);
	case T_AND:
		return infix_two(p, JP_AND, k, left, out);
	case T_COMPARE:
		return infix_two(p, JP_COMPARE, k, left, out);
	case T_LPAREN:
		return call(p, left, out);
	case T_FILTER:
		return filter(p, left, out);
	case T_FLATTEN:
		return flatten(p, left, out);
	case T_LBRACKET:
		return infix_bracket(p, left, out);
	case T_END:
	case T_NAME:
	case T_QUOTED:
	case T_NUMBER:
	case T_LITERAL:
	case T_STRING:
	case T_STAR:
	case T_RBRACKET:
	case T_RPAREN:
	case T_LBRACE:
	case T_RBRACE:
	case T_COMMA:
	case T_COLON:
	case T_AMP:
	case T_NOT:
	case T_CURRENT:
		break;
	}
	return bad_at(p, k->col, "not possible here");
}

static int expression(struct parser *p, int bp, uint32_t *out)
{
	struct token k = p->cur;
	uint32_t left = JP_NO;
	int rc;

	if (++p->levels > JP_LEVELS)
		return bad(p, "the expression is nested too deeply");
	rc = advance(p);
	if (rc == 0)
		rc = prefix(p, &k, &left);
	while (rc == 0 && bp < power(p->cur.t)) {
		k = p->cur;
		rc = advance(p);
		if (rc == 0)
			rc = infix(p, &k, left, &left);
	}
	p->levels--;
	if (rc == 0)
		*out = left;
	return rc;
}

int jp_parse(struct hga_jp *jp, struct hga_err *err)
{
	struct parser p = {.jp = jp, .err = err};
	int rc = advance(&p);

	if (rc == 0 && p.cur.t == T_END)
		return bad(&p, "the expression is empty");
	if (rc == 0)
		rc = expression(&p, 0, &jp->root);
	if (rc == 0 && p.cur.t != T_END)
		rc = bad(&p, "not possible here");
	return rc;
}
