/*
 * Fuzz target: answers of an SFTP server to a put, a get and a listing.
 *
 * Input: records of a head byte (bit 7: take the id from the record, else that
 * of the oldest request not answered yet; the rest: which request), a type
 * byte, a length byte (times 4 with bit 7 set) and that many bytes of body.
 */
#include "ssh/sftp_impl.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define IDS 64

static struct {
	uint32_t v[IDS];
	size_t n;
} ids;

static int ends;

static void on_done(struct hga_sftp_job *j)
{
	ends++;
	hga_sftp_job_free(j);
}

static void on_list(struct hga_sftp *f, struct hga_sftp_lister *l)
{
	(void)f;
	for (size_t i = 0; l->err.kind == HGA_OK && i < l->n; i++)
		if (!hga_sftp_name_safe(l->v[i].name))
			abort();
}

static struct hga_sftp_lister lister;

static void begin_list(struct hga_sftp *f, struct hga_sftp_user *u)
{
	(void)u;
	hga_sftp_list(f, &lister);
}

static void fail_list(struct hga_sftp *f, struct hga_sftp_user *u,
                      const struct hga_err *err)
{
	(void)f;
	(void)u;
	(void)err;
}

/* Remembers the ids of what was asked. */
static void take(struct hga_sftp *f)
{
	size_t at = f->tx_at;

	while (f->tx.len - at >= 4) {
		struct hga_str in = hga_strn(f->tx.data, f->tx.len);
		uint32_t n, id;
		size_t p = at;

		if (!hga_wire_u32(in, &p, &n) || in.n - p < n)
			abort(); /* our own requests are whole */
		p++;
		if (n >= 5 && in.s[p - 1] != SFTP_INIT &&
		    hga_wire_u32(in, &p, &id) && ids.n < IDS)
			ids.v[ids.n++] = id;
		at += 4 + n;
	}
	hga_buf_clear(&f->tx);
	f->tx_at = 0;
}

static int answer(struct hga_sftp *f, const uint8_t *head, const uint8_t *body,
                  size_t n, struct hga_err *err)
{
	unsigned char frame[9 + 512];
	uint32_t len = (uint32_t)n + 5, id = 0;
	size_t which = head[0] & 63;

	if (!(head[0] & 128) && ids.n > 0) {
		which %= ids.n;
		id = ids.v[which];
		memmove(ids.v + which, ids.v + which + 1,
		        (--ids.n - which) * sizeof(ids.v[0]));
	} else if (n >= 4) {
		memcpy(&id, body, 4);
	}
	for (int i = 0; i < 4; i++) {
		frame[i] = (unsigned char)(len >> (24 - 8 * i));
		frame[5 + i] = (unsigned char)(id >> (24 - 8 * i));
	}
	frame[4] = head[1];
	memcpy(frame + 9, body, n);
	return hga_sftp_feed(f, frame, n + 9, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char version[] = "\0\0\0\5\2\0\0\0\3";
	struct hga_sftp *f = hga_sftp_engine_new(NULL);
	struct hga_sftp_user u = {.begin = begin_list, .fail = fail_list};
	struct hga_err err = {.kind = HGA_OK};
	struct hga_sftp_job *put, *get;
	struct hga_buf sink;
	int rc;

	ids.n = 0;
	ends = 0;
	memset(&lister, 0, sizeof(lister));
	lister.path = HGA_STR("d");
	lister.done = on_list;
	hga_buf_init(&sink, 4096);
	put = hga_sftp_job_new(true, HGA_STR("d/f"), &err);
	get = hga_sftp_job_new(false, HGA_STR("d/g"), &err);
	put->mem = HGA_STR("some content");
	put->size = 12;
	put->check_target = true;
	get->sink = &sink;
	get->max = 4096;
	put->done = get->done = on_done;
	hga_sftp_job_start(f, put);
	hga_sftp_job_start(f, get);
	hga_sftp_link(f, &u);
	if (size > 0 && data[0] == 'R') /* raw bytes from the start */
		rc = hga_sftp_feed(f, data + 1, size - 1, &err);
	else
		rc = hga_sftp_feed(f, version, 9, &err);
	for (size_t at = 0; rc == 0 && size - at >= 3 && data[0] != 'R';) {
		size_t n = data[at + 2] & 128 ? (size_t)(data[at + 2] & 127) * 4
		                              : data[at + 2];

		(void)hga_sftp_produce(f);
		take(f);
		if (n > size - at - 3)
			n = size - at - 3;
		rc = answer(f, data + at, data + at + 3, n, &err);
		at += 3 + n;
	}
	if (rc == 0)
		(void)hga_fail(&err, HGA_NET, 0, "End", "end");
	hga_sftp_end(f, &err);
	if (ends != 2)
		abort(); /* each transfer ends exactly once */
	hga_sftp_lister_release(&lister);
	hga_buf_release(&sink);
	return 0;
}
