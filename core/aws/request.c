/*
 * Requests as bytes: owned header lists and buffers.
 */
#include "aws/request.h"

#include "base/mem.h"

#include <string.h>

static int grow(struct hga_aws_pairs *h, struct hga_err *err)
{
	size_t cap = h->cap == 0 ? 8 : h->cap * 2, bytes;
	struct hga_aws_pair *v;

	if (!hga_size_mul(cap, sizeof(*v), &bytes))
		return hga_fail_mem(err);
	v = hga_realloc(h->v, bytes);
	if (v == NULL)
		return hga_fail_mem(err);
	h->v = v;
	h->cap = cap;
	return 0;
}

static void drop_text(char *s)
{
	if (s != NULL)
		hga_wipe(s, strlen(s));
	hga_free(s);
}

static void drop(struct hga_aws_pairs *h, size_t i)
{
	drop_text(h->v[i].name);
	drop_text(h->v[i].value);
	h->n--;
	memmove(&h->v[i], &h->v[i + 1], (h->n - i) * sizeof(h->v[0]));
}

int hga_aws_pairs_add(struct hga_aws_pairs *h, struct hga_str name,
                      struct hga_str value, struct hga_err *err)
{
	struct hga_aws_pair p;

	if (h->n == h->cap && grow(h, err) < 0)
		return -HGA_MEMORY;
	p.name = hga_memdup0(name.s, name.n);
	p.value = hga_memdup0(value.s, value.n);
	if (p.name == NULL || p.value == NULL) {
		hga_free(p.name);
		hga_free(p.value);
		return hga_fail_mem(err);
	}
	h->v[h->n++] = p;
	return 0;
}

int hga_aws_pairs_set(struct hga_aws_pairs *h, struct hga_str name,
                      struct hga_str value, struct hga_err *err)
{
	size_t i, at = h->n;
	char *text;

	for (i = 0; i < h->n && at == h->n; i++)
		if (hga_str_ieq(hga_str(h->v[i].name), name))
			at = i;
	if (at == h->n)
		return hga_aws_pairs_add(h, name, value, err);
	text = hga_memdup0(value.s, value.n);
	if (text == NULL)
		return hga_fail_mem(err);
	drop_text(h->v[at].value);
	h->v[at].value = text;
	for (i = h->n; i > at + 1; i--)
		if (hga_str_ieq(hga_str(h->v[i - 1].name), name))
			drop(h, i - 1);
	return 0;
}

const char *hga_aws_pairs_get(const struct hga_aws_pairs *h, const char *name)
{
	size_t i;

	for (i = 0; i < h->n; i++)
		if (hga_str_ieqc(hga_str(h->v[i].name), name))
			return h->v[i].value;
	return NULL;
}

void hga_aws_pairs_remove(struct hga_aws_pairs *h, const char *name)
{
	size_t i;

	for (i = h->n; i > 0; i--)
		if (hga_str_ieqc(hga_str(h->v[i - 1].name), name))
			drop(h, i - 1);
}

void hga_aws_pairs_release(struct hga_aws_pairs *h)
{
	while (h->n > 0)
		drop(h, h->n - 1);
	hga_free(h->v);
	h->v = NULL;
	h->cap = 0;
}

void hga_aws_request_init(struct hga_aws_request *r, size_t max_body)
{
	memset(r, 0, sizeof(*r));
	hga_buf_init(&r->path, max_body);
	hga_buf_init(&r->query, max_body);
	hga_buf_init(&r->body, max_body);
	hga_buf_init(&r->host_prefix, 4096);
}

void hga_aws_request_release(struct hga_aws_request *r)
{
	hga_buf_release(&r->path);
	hga_buf_release_secret(&r->query);
	hga_buf_release_secret(&r->body);
	hga_buf_release(&r->host_prefix);
	hga_aws_pairs_release(&r->headers);
	hga_aws_pairs_release(&r->tokens);
	hga_free(r->file);
	r->file = NULL;
	r->sum = 0;
	r->payload_hash[0] = '\0';
	r->has_body = false;
	r->method[0] = '\0';
}
