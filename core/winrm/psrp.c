/*
 * Fragments ([MS-PSRP] 2.2.4) and message heads (2.2.1).
 */
#include "winrm/psrp.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLAG_START 1u
#define FLAG_END 2u

static const struct {
	uint32_t type;
	const char *name;
} types[] = {
    {HGA_PSRP_SESSION_CAPABILITY, "SESSION_CAPABILITY"},
    {HGA_PSRP_INIT_RUNSPACEPOOL, "INIT_RUNSPACEPOOL"},
    {0x00010005, "PUBLIC_KEY"},
    {0x00010006, "ENCRYPTED_SESSION_KEY"},
    {0x00010007, "PUBLIC_KEY_REQUEST"},
    {0x00010008, "CONNECT_RUNSPACEPOOL"},
    {0x0002100b, "RUNSPACEPOOL_INIT_DATA"},
    {0x0002100c, "RESET_RUNSPACE_STATE"},
    {0x00021002, "SET_MAX_RUNSPACES"},
    {0x00021003, "SET_MIN_RUNSPACES"},
    {0x00021004, "RUNSPACE_AVAILABILITY"},
    {HGA_PSRP_RUNSPACEPOOL_STATE, "RUNSPACEPOOL_STATE"},
    {HGA_PSRP_CREATE_PIPELINE, "CREATE_PIPELINE"},
    {0x00021007, "GET_AVAILABLE_RUNSPACES"},
    {0x00021008, "USER_EVENT"},
    {HGA_PSRP_APPLICATION_PRIVATE_DATA, "APPLICATION_PRIVATE_DATA"},
    {0x0002100a, "GET_COMMAND_METADATA"},
    {0x00021100, "RUNSPACEPOOL_HOST_CALL"},
    {0x00021101, "RUNSPACEPOOL_HOST_RESPONSE"},
    {HGA_PSRP_PIPELINE_INPUT, "PIPELINE_INPUT"},
    {HGA_PSRP_END_OF_PIPELINE_INPUT, "END_OF_PIPELINE_INPUT"},
    {HGA_PSRP_PIPELINE_OUTPUT, "PIPELINE_OUTPUT"},
    {HGA_PSRP_ERROR_RECORD, "ERROR_RECORD"},
    {HGA_PSRP_PIPELINE_STATE, "PIPELINE_STATE"},
    {HGA_PSRP_DEBUG_RECORD, "DEBUG_RECORD"},
    {HGA_PSRP_VERBOSE_RECORD, "VERBOSE_RECORD"},
    {HGA_PSRP_WARNING_RECORD, "WARNING_RECORD"},
    {HGA_PSRP_PROGRESS_RECORD, "PROGRESS_RECORD"},
    {HGA_PSRP_INFORMATION_RECORD, "INFORMATION_RECORD"},
    {HGA_PSRP_PIPELINE_HOST_CALL, "PIPELINE_HOST_CALL"},
    {0x00041101, "PIPELINE_HOST_RESPONSE"},
};
#define N_TYPES (sizeof(types) / sizeof(types[0]))

const char *hga_psrp_name(uint32_t type)
{
	for (size_t i = 0; i < N_TYPES; i++)
		if (types[i].type == type)
			return types[i].name;
	return NULL;
}

uint32_t hga_psrp_find(struct hga_str name)
{
	for (size_t i = 0; i < N_TYPES; i++)
		if (hga_str_eqc(name, types[i].name))
			return types[i].type;
	return 0;
}

/* ---- numbers ---- */

static void put_be(uint8_t *p, uint64_t v, int n)
{
	for (int i = n - 1; i >= 0; i--, v >>= 8)
		p[i] = (uint8_t)v;
}

static uint64_t get_be(const uint8_t *p, int n)
{
	uint64_t v = 0;

	for (int i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

static void put_le32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++, v >>= 8)
		p[i] = (uint8_t)v;
}

static uint32_t get_le32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
	       (uint32_t)p[3] << 24;
}

/* Place of the n-th byte of the text form in .NET's binary form. */
static const uint8_t guid_at[16] = {3, 2, 1,  0,  5,  4,  7,  6,
                                    8, 9, 10, 11, 12, 13, 14, 15};

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool hga_psrp_guid(struct hga_str text, uint8_t out[16])
{
	size_t at = 0;

	if (text.n != HGA_PSRP_UUID)
		return false;
	for (int i = 0; i < 16; i++) {
		int hi, lo;

		if (i == 4 || i == 6 || i == 8 || i == 10)
			if (text.s[at++] != '-')
				return false;
		hi = nibble(text.s[at]);
		lo = nibble(text.s[at + 1]);
		at += 2;
		if (hi < 0 || lo < 0)
			return false;
		out[guid_at[i]] = (uint8_t)(hi * 16 + lo);
	}
	return true;
}

void hga_psrp_guid_text(const uint8_t in[16], char out[37])
{
	size_t at = 0;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			out[at++] = '-';
		snprintf(out + at, 3, "%02X", in[guid_at[i]]);
		at += 2;
	}
}

/* ---- sending ---- */

void hga_psrp_out_init(struct hga_psrp_out *o)
{
	memset(o, 0, sizeof(*o));
	o->next = 1;
	hga_buf_init(&o->data, HGA_PSRP_MESSAGE_MAX + HGA_PSRP_MESSAGE_MAX / 8);
}

void hga_psrp_out_release(struct hga_psrp_out *o)
{
	hga_buf_release_secret(&o->data);
	hga_free(o->cuts);
	o->cuts = NULL;
	o->n_cuts = o->cap_cuts = 0;
}

static size_t open_from(const struct hga_psrp_out *o)
{
	return o->n_cuts > 0 ? o->cuts[o->n_cuts - 1] : 0;
}

void hga_psrp_out_clear(struct hga_psrp_out *o)
{
	size_t ended = open_from(o), rest = o->data.len - ended;

	if (o->data.len == 0)
		return;
	hga_buf_consume(&o->data, ended);
	hga_wipe(o->data.data + rest, ended);
	o->n_cuts = 0;
}

int hga_psrp_out_flush(struct hga_psrp_out *o, struct hga_err *err)
{
	size_t *cuts, cap = o->cap_cuts ? o->cap_cuts * 2 : 8;

	if (o->data.len == open_from(o))
		return 0;
	if (o->n_cuts == o->cap_cuts) {
		cuts = hga_realloc(o->cuts, cap * sizeof(*cuts));
		if (cuts == NULL)
			return hga_fail_mem(err);
		o->cuts = cuts;
		o->cap_cuts = cap;
	}
	o->cuts[o->n_cuts++] = o->data.len;
	return 0;
}

static int add_fragment(struct hga_psrp_out *o, uint64_t id, unsigned flags,
                        struct hga_str part, struct hga_err *err)
{
	uint8_t head[HGA_PSRP_FRAGMENT];
	int r;

	put_be(head, o->next, 8);
	put_be(head + 8, id, 8);
	head[16] = (uint8_t)flags;
	put_be(head + 17, part.n, 4);
	r = hga_buf_add(&o->data, head, sizeof(head), err);
	return r < 0 ? r : hga_buf_addstr(&o->data, part, err);
}

static int cut_message(struct hga_psrp_out *o, struct hga_str msg,
                       struct hga_err *err)
{
	uint64_t id = 0;
	size_t at = 0;
	int r = 0;

	do {
		size_t used = o->data.len - open_from(o), room, n;

		if (used + HGA_PSRP_FRAGMENT + 1 > o->payload) {
			r = hga_psrp_out_flush(o, err);
			used = 0;
		}
		room = o->payload - used - HGA_PSRP_FRAGMENT;
		n = msg.n - at < room ? msg.n - at : room;
		if (r == 0)
			r = add_fragment(o, id++,
			                 (at == 0 ? FLAG_START : 0) |
			                     (at + n == msg.n ? FLAG_END : 0),
			                 hga_strn(msg.s + at, n), err);
		at += n;
	} while (r == 0 && at < msg.n);
	return r;
}

int hga_psrp_out_add(struct hga_psrp_out *o, uint32_t type, bool to_client,
                     struct hga_str pool, struct hga_str pipeline,
                     struct hga_str data, struct hga_err *err)
{
	uint8_t head[HGA_PSRP_HEAD] = {0};
	struct hga_buf msg;
	int r;

	if (o->payload < HGA_PSRP_FRAGMENT + 1)
		return hga_fail(err, HGA_USAGE, 0, "Envelope",
		                "envelope too small for a fragment");
	put_le32(head, to_client ? 1 : 2);
	put_le32(head + 4, type);
	if ((pool.n > 0 && !hga_psrp_guid(pool, head + 8)) ||
	    (pipeline.n > 0 && !hga_psrp_guid(pipeline, head + 24)))
		return hga_fail(err, HGA_USAGE, 0, "Uuid", "not a UUID");
	hga_buf_init(&msg, HGA_PSRP_MESSAGE_MAX);
	r = hga_buf_add(&msg, head, sizeof(head), err);
	if (r == 0)
		r = hga_buf_addstr(&msg, data, err);
	if (r == 0)
		r = cut_message(o, hga_buf_str(&msg), err);
	if (r == 0)
		o->next++;
	hga_buf_release_secret(&msg);
	return r;
}

/* ---- receiving ---- */

struct object {
	uint64_t id, next_fragment;
	struct hga_buf data;
	bool whole, started;
	struct object *next;
};

struct hga_psrp_in {
	struct object *unfinished;
	struct object *ready, **ready_end, *given;
	unsigned n_unfinished;
	uint64_t highest, n_seen; /* of finished objects */
};

struct hga_psrp_in *hga_psrp_in_new(void)
{
	struct hga_psrp_in *in = hga_calloc(1, sizeof(*in));

	if (in != NULL)
		in->ready_end = &in->ready;
	return in;
}

static void object_free(struct object *o)
{
	if (o == NULL)
		return;
	hga_buf_release(&o->data);
	hga_free(o);
}

static void list_free(struct object *o)
{
	while (o != NULL) {
		struct object *next = o->next;

		object_free(o);
		o = next;
	}
}

void hga_psrp_in_free(struct hga_psrp_in *in)
{
	if (in == NULL)
		return;
	list_free(in->unfinished);
	list_free(in->ready);
	object_free(in->given);
	hga_free(in);
}

static int malformed(struct hga_err *err, const char *what)
{
	return hga_fail(err, HGA_PROTOCOL, 0, "Malformed", "PSRP: %s", what);
}

static struct object *find(struct hga_psrp_in *in, uint64_t id)
{
	struct object *o = in->unfinished;

	while (o != NULL && o->id != id)
		o = o->next;
	return o;
}

static int new_object(struct hga_psrp_in *in, uint64_t id, struct object **out,
                      struct hga_err *err)
{
	struct object *o;

	if (in->n_unfinished >= HGA_PSRP_UNFINISHED)
		return malformed(err, "too many unfinished messages");
	o = hga_calloc(1, sizeof(*o));
	if (o == NULL)
		return hga_fail_mem(err);
	o->id = id;
	hga_buf_init(&o->data, HGA_PSRP_MESSAGE_MAX);
	o->next = in->unfinished;
	in->unfinished = o;
	in->n_unfinished++;
	*out = o;
	return 0;
}

static int finish(struct hga_psrp_in *in, struct object *o, struct hga_err *err)
{
	struct object **p = &in->unfinished;

	if (o->data.len < HGA_PSRP_HEAD)
		return malformed(err, "message without a head");
	while (*p != o)
		p = &(*p)->next;
	*p = o->next;
	in->n_unfinished--;
	o->next = NULL;
	*in->ready_end = o;
	in->ready_end = &o->next;
	in->n_seen++;
	if (o->id > in->highest)
		in->highest = o->id;
	return 0;
}

static int fragment(struct hga_psrp_in *in, const uint8_t *head,
                    struct hga_str part, struct hga_err *err)
{
	uint64_t id = get_be(head, 8), fid = get_be(head + 8, 8);
	unsigned flags = head[16];
	struct object *o = find(in, id);
	int r;

	if ((flags & FLAG_START) != 0) {
		if (o != NULL || fid != 0)
			return malformed(err, "message begins twice");
		if ((r = new_object(in, id, &o, err)) < 0)
			return r;
	}
	if (o == NULL || fid != o->next_fragment)
		return malformed(err, "fragment out of order");
	o->next_fragment++;
	r = hga_buf_addstr(&o->data, part, err);
	if (r < 0)
		return r == -HGA_MEMORY ? r
		                        : malformed(err, "message too large");
	return (flags & FLAG_END) != 0 ? finish(in, o, err) : 0;
}

int hga_psrp_in_feed(struct hga_psrp_in *in, const void *p, size_t n,
                     struct hga_err *err)
{
	const uint8_t *at = p;

	while (n > 0) {
		size_t len;
		int r;

		if (n < HGA_PSRP_FRAGMENT)
			return malformed(err, "cut fragment");
		len = (size_t)get_be(at + 17, 4);
		if (len > n - HGA_PSRP_FRAGMENT)
			return malformed(err, "fragment longer than its bytes");
		r = fragment(
		    in, at, hga_strn((const char *)at + HGA_PSRP_FRAGMENT, len),
		    err);
		if (r < 0)
			return r;
		at += HGA_PSRP_FRAGMENT + len;
		n -= HGA_PSRP_FRAGMENT + len;
	}
	return 0;
}

bool hga_psrp_in_next(struct hga_psrp_in *in, struct hga_psrp_msg *out)
{
	struct object *o = in->ready;
	const uint8_t *p;

	object_free(in->given);
	in->given = o;
	if (o == NULL)
		return false;
	in->ready = o->next;
	if (in->ready == NULL)
		in->ready_end = &in->ready;
	o->next = NULL;
	p = (const uint8_t *)o->data.data;
	out->object = o->id;
	out->destination = get_le32(p);
	out->type = get_le32(p + 4);
	memcpy(out->pool, p + 8, 16);
	memcpy(out->pipeline, p + 24, 16);
	out->data =
	    hga_strn(o->data.data + HGA_PSRP_HEAD, o->data.len - HGA_PSRP_HEAD);
	return true;
}

bool hga_psrp_in_whole(const struct hga_psrp_in *in)
{
	return in->n_unfinished == 0 && in->n_seen == in->highest;
}

unsigned hga_psrp_in_unfinished(const struct hga_psrp_in *in)
{
	return in->n_unfinished;
}
