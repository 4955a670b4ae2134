/*
 * The SFTP engine: requests, replies, extensions; its channel.
 * draft-ietf-secsh-filexfer-02 and OpenSSH's PROTOCOL section 4.
 */
#include "ssh/sftp.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "ssh/sftp_impl.h"

#include <stdio.h>
#include <string.h>

#define RX_SIZE (512 * 1024)
#define TX_MAX (8 * 1024 * 1024)
#define REQS_MAX 4096
#define SLOT_BITS 12
#define NO_SLOT UINT32_MAX
#define TURN_BYTES (1024 * 1024)
#define SIZE_DEFAULT (32 * 1024)
#define SIZE_MAX_REQ (256 * 1024)
#define HANDLE_MAX 256
#define PATH_MAX_BYTES 4096
#define WINDOW (4 * 1024 * 1024)
#define READ_MIN (2 * 1024 * 1024)
#define READ_MAX (4 * 1024 * 1024)
#define RATE_MS 250
#define FAST_PER_MS (64 * 1024)
#define SPEED_UP_MS 1500

/* ---- texts ---- */

void hga_sftp_digits(char *out, size_t size, uint64_t v)
{
	char raw[24];
	size_t n, at = 0;

	snprintf(raw, sizeof(raw), "%llu", (unsigned long long)v);
	n = strlen(raw);
	for (size_t i = 0; i < n && at + 2 < size; i++) {
		if (i > 0 && (n - i) % 3 == 0)
			out[at++] = ',';
		out[at++] = raw[i];
	}
	out[at] = '\0';
}

void hga_sftp_what(struct hga_sftp *f, const char *doing, struct hga_str path,
                   char *out, size_t size)
{
	char clean[256];

	hga_ssh_clean(clean, sizeof(clean), path);
	snprintf(out, size, "sftp %s %s:%s", doing, f->ssh ? f->ssh->name : "",
	         clean);
}

static void set_fatal(struct hga_sftp *f, const struct hga_err *err)
{
	if (f->fatal.kind == HGA_OK)
		f->fatal = *err;
}

void hga_sftp_no_memory(struct hga_sftp *f)
{
	struct hga_err err;

	(void)hga_fail_mem(&err); /* kept as fatal */
	set_fatal(f, &err);
}

void hga_sftp_bad(struct hga_sftp *f, const char *what)
{
	struct hga_err err;

	(void)hga_fail(&err, HGA_PROTOCOL, 0, "Malformed",
	               "sftp %s: malformed answer: %s",
	               f->ssh ? f->ssh->name : "", what); /* kept as fatal */
	set_fatal(f, &err);
}

bool hga_sftp_name_safe(struct hga_str name)
{
	return hga_fs_name_ok(name);
}

int hga_sftp_path(struct hga_ssh *ssh, struct hga_str path, struct hga_buf *out,
                  struct hga_err *err)
{
	bool windows = ssh != NULL && strstr(ssh->banner, "Windows") != NULL;
	int rc = 0;

	if (path.n == 0 || path.n > PATH_MAX_BYTES ||
	    memchr(path.s, '\0', path.n) != NULL)
		return hga_fail(err, HGA_USAGE, 0, "Path",
		                "sftp: not a path: empty, longer than %d "
		                "bytes, or with a NUL byte",
		                PATH_MAX_BYTES);
	if (path.s[0] == '~') {
		if (path.n > 1 && path.s[1] != '/')
			return hga_fail(err, HGA_USAGE, 0, "Path",
			                "sftp: ~user is not supported: %.*s",
			                HGA_STRF(path));
		path.s += path.n > 1 ? 2 : 1;
		path.n -= path.n > 1 ? 2 : 1;
		if (path.n == 0)
			path = HGA_STR(".");
	}
	if (windows && path.n > 1 && path.s[1] == ':')
		rc = hga_buf_addc(out, '/', err);
	for (size_t i = 0; i < path.n && rc == 0; i++) {
		char c = path.s[i];

		rc = hga_buf_addc(out, windows && c == '\\' ? '/' : c, err);
	}
	return rc;
}

/* ---- building requests ---- */

static uint32_t take_slot(struct hga_sftp *f)
{
	uint32_t slot = f->free_req;

	if (slot == NO_SLOT) {
		uint32_t n = f->n_reqs ? f->n_reqs * 2 : 64;
		struct hga_sftp_req *v;

		if (n > REQS_MAX)
			return NO_SLOT;
		v = hga_realloc(f->reqs, n * sizeof(*v));
		if (v == NULL)
			return NO_SLOT;
		f->reqs = v;
		memset(v + f->n_reqs, 0, (n - f->n_reqs) * sizeof(*v));
		for (uint32_t i = n; i-- > f->n_reqs;) {
			v[i].next_free = f->free_req;
			f->free_req = i;
		}
		f->n_reqs = n;
		slot = f->free_req;
	}
	f->free_req = f->reqs[slot].next_free;
	f->used_reqs++;
	return slot;
}

static void give_slot(struct hga_sftp *f, uint32_t slot)
{
	f->reqs[slot].id = 0;
	f->reqs[slot].next_free = f->free_req;
	f->free_req = slot;
	f->used_reqs--;
}

static void tx_add(struct hga_sftp *f, const void *p, size_t n)
{
	if (f->fatal.kind == HGA_OK && hga_buf_add(&f->tx, p, n, NULL) < 0)
		hga_sftp_no_memory(f);
}

void hga_sftp_put_u32(struct hga_sftp *f, uint32_t v)
{
	char p[4] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};

	tx_add(f, p, 4);
}

void hga_sftp_put_u64(struct hga_sftp *f, uint64_t v)
{
	hga_sftp_put_u32(f, (uint32_t)(v >> 32));
	hga_sftp_put_u32(f, (uint32_t)v);
}

void hga_sftp_put_str(struct hga_sftp *f, struct hga_str s)
{
	hga_sftp_put_u32(f, (uint32_t)s.n);
	tx_add(f, s.s, s.n);
}

void hga_sftp_put_begin(struct hga_sftp *f, uint8_t type, hga_sftp_fn fn,
                        void *ctx, uint64_t off, uint32_t len)
{
	uint32_t slot, id;

	if (f->fatal.kind != HGA_OK)
		return;
	slot = take_slot(f);
	if (slot == NO_SLOT) {
		hga_sftp_no_memory(f);
		return;
	}
	f->seq = f->seq % 0xfffff + 1;
	id = f->seq << SLOT_BITS | slot;
	f->reqs[slot] = (struct hga_sftp_req){
	    .id = id, .len = len, .off = off, .fn = fn, .ctx = ctx};
	f->frame = f->tx.len;
	f->frame_slot = slot;
	hga_sftp_put_u32(f, 0); /* length, set at the end */
	tx_add(f, &type, 1);
	hga_sftp_put_u32(f, id);
}

char *hga_sftp_put_room(struct hga_sftp *f, uint32_t n)
{
	hga_sftp_put_u32(f, n);
	if (f->fatal.kind != HGA_OK)
		return NULL;
	if (hga_buf_reserve(&f->tx, n, NULL) < 0) {
		hga_sftp_no_memory(f);
		return NULL;
	}
	f->tx.len += n;
	f->tx.data[f->tx.len] = '\0';
	return f->tx.data + f->tx.len - n;
}

void hga_sftp_put_attrs(struct hga_sftp *f, const struct hga_sftp_attrs *a)
{
	hga_sftp_put_u32(f, a->flags);
	if (a->flags & HGA_ATTR_SIZE)
		hga_sftp_put_u64(f, a->size);
	if (a->flags & HGA_ATTR_IDS) {
		hga_sftp_put_u32(f, a->uid);
		hga_sftp_put_u32(f, a->gid);
	}
	if (a->flags & HGA_ATTR_MODE)
		hga_sftp_put_u32(f, a->mode);
	if (a->flags & HGA_ATTR_TIMES) {
		hga_sftp_put_u32(f, a->atime);
		hga_sftp_put_u32(f, a->mtime);
	}
}

static void arm_silence(struct hga_sftp *f)
{
	if (f->chan == NULL || hga_timer_running(&f->silence))
		return;
	if (hga_timer_start(f->ssh->loop, &f->silence, HGA_SFTP_SILENCE_MS,
	                    NULL) < 0)
		hga_sftp_no_memory(f);
}

void hga_sftp_put_send(struct hga_sftp *f)
{
	uint32_t n = (uint32_t)(f->tx.len - f->frame - 4);

	if (f->fatal.kind != HGA_OK)
		return;
	for (int i = 0; i < 4; i++)
		f->tx.data[f->frame + (size_t)i] = (char)(n >> (24 - 8 * i));
	if (f->used_reqs == 1)
		f->last_ms = hga_mono_ms();
	arm_silence(f);
	if (f->chan != NULL && !f->busy)
		hga_ssh_kick(f->ssh);
}

void hga_sftp_put_abort(struct hga_sftp *f)
{
	if (f->fatal.kind != HGA_OK)
		return;
	give_slot(f, f->frame_slot);
	hga_buf_truncate(&f->tx, f->frame);
}

void hga_sftp_ignore(struct hga_sftp *f, void *ctx,
                     const struct hga_sftp_reply *r)
{
	(void)f; /* nobody waits for it */
	(void)ctx;
	(void)r;
}

void hga_sftp_ask_path(struct hga_sftp *f, uint8_t type, struct hga_str path,
                       hga_sftp_fn fn, void *ctx)
{
	hga_sftp_put_begin(f, type, fn, ctx, 0, 0);
	hga_sftp_put_str(f, path);
	hga_sftp_put_send(f);
}

void hga_sftp_ask_handle(struct hga_sftp *f, uint8_t type, struct hga_str h,
                         hga_sftp_fn fn, void *ctx)
{
	hga_sftp_ask_path(f, type, h, fn, ctx);
}

void hga_sftp_ask_open(struct hga_sftp *f, struct hga_str path, uint32_t flags,
                       const struct hga_sftp_attrs *a, hga_sftp_fn fn,
                       void *ctx)
{
	hga_sftp_put_begin(f, SFTP_OPEN, fn, ctx, 0, 0);
	hga_sftp_put_str(f, path);
	hga_sftp_put_u32(f, flags);
	hga_sftp_put_attrs(f, a);
	hga_sftp_put_send(f);
}

void hga_sftp_ask_rename(struct hga_sftp *f, struct hga_str from,
                         struct hga_str to, hga_sftp_fn fn, void *ctx)
{
	bool posix = f->ext & EXT_POSIX_RENAME;

	hga_sftp_put_begin(f, posix ? SFTP_EXTENDED : SFTP_RENAME, fn, ctx, 0,
	                   0);
	if (posix)
		hga_sftp_put_str(f, HGA_STR("posix-rename@openssh.com"));
	hga_sftp_put_str(f, from);
	hga_sftp_put_str(f, to);
	hga_sftp_put_send(f);
}

/* ---- replies ---- */

bool hga_sftp_read_u64(struct hga_str s, size_t *at, uint64_t *out)
{
	uint32_t hi, lo;

	if (!hga_wire_u32(s, at, &hi) || !hga_wire_u32(s, at, &lo))
		return false;
	*out = (uint64_t)hi << 32 | lo;
	return true;
}

static bool skip_extended(struct hga_str body, size_t *at)
{
	struct hga_str skip;
	uint32_t n;

	if (!hga_wire_u32(body, at, &n) || n > (body.n - *at) / 8)
		return false;
	for (uint32_t i = 0; i < 2 * n; i++)
		if (!hga_wire_str(body, at, &skip))
			return false;
	return true;
}

bool hga_sftp_read_attrs(struct hga_str body, size_t *at,
                         struct hga_sftp_attrs *out)
{
	uint32_t flags;

	memset(out, 0, sizeof(*out));
	if (!hga_wire_u32(body, at, &flags))
		return false;
	if ((flags & HGA_ATTR_SIZE) && !hga_sftp_read_u64(body, at, &out->size))
		return false;
	if ((flags & HGA_ATTR_IDS) && (!hga_wire_u32(body, at, &out->uid) ||
	                               !hga_wire_u32(body, at, &out->gid)))
		return false;
	if ((flags & HGA_ATTR_MODE) && !hga_wire_u32(body, at, &out->mode))
		return false;
	if ((flags & HGA_ATTR_TIMES) && (!hga_wire_u32(body, at, &out->atime) ||
	                                 !hga_wire_u32(body, at, &out->mtime)))
		return false;
	if ((flags & 0x80000000u) && !skip_extended(body, at))
		return false;
	out->flags = flags & 15;
	return true;
}

bool hga_sftp_is_attrs(struct hga_sftp *f, const struct hga_sftp_reply *r,
                       struct hga_sftp_attrs *out)
{
	size_t at = 0;

	if (r->type == SFTP_STATUS && r->status != FX_OK)
		return false;
	if (r->type == SFTP_ATTRS && hga_sftp_read_attrs(r->body, &at, out))
		return true;
	hga_sftp_bad(f, "attributes");
	return false;
}

bool hga_sftp_is_handle(struct hga_sftp *f, const struct hga_sftp_reply *r,
                        struct hga_buf *h)
{
	size_t at = 0;
	struct hga_str s;

	if (r->type == SFTP_STATUS && r->status != FX_OK)
		return false;
	if (r->type != SFTP_HANDLE || !hga_wire_str(r->body, &at, &s) ||
	    s.n > HANDLE_MAX) {
		hga_sftp_bad(f, "handle");
		return false;
	}
	hga_buf_init(h, HANDLE_MAX);
	if (hga_buf_addstr(h, s, NULL) < 0) {
		hga_sftp_no_memory(f);
		return false;
	}
	return true;
}

bool hga_sftp_is_ok(struct hga_sftp *f, const struct hga_sftp_reply *r)
{
	if (r->type == SFTP_STATUS)
		return r->status == FX_OK;
	hga_sftp_bad(f, "status expected");
	return false;
}

static const struct {
	enum hga_kind kind;
	const char *code, *text;
} status_errs[] = {
    [FX_OK] = {HGA_PROTOCOL, "Malformed", "unexpected success"},
    [FX_EOF] = {HGA_PROTOCOL, "ShortTransfer", "unexpected end"},
    [FX_NO_SUCH_FILE] = {HGA_NOTFOUND, "NotFound", "no such file or directory"},
    [FX_PERMISSION_DENIED] = {HGA_REMOTE, "PermissionDenied",
                              "permission denied"},
    [FX_FAILURE] = {HGA_REMOTE, "SftpFailure", "the server failed"},
    [FX_BAD_MESSAGE] = {HGA_PROTOCOL, "Malformed", "bad message"},
    [FX_NO_CONNECTION] = {HGA_NET, "ConnectionLost", "no connection"},
    [FX_CONNECTION_LOST] = {HGA_NET, "ConnectionLost", "connection lost"},
    [FX_OP_UNSUPPORTED] = {HGA_REMOTE, "Unsupported",
                           "the server cannot do that"},
};
#define N_STATUS_ERRS (sizeof(status_errs) / sizeof(status_errs[0]))

void hga_sftp_status_err(struct hga_sftp *f, const struct hga_sftp_reply *r,
                         const char *doing, struct hga_str path,
                         struct hga_err *err, struct hga_sftp_more *more)
{
	uint32_t s = r->status < N_STATUS_ERRS ? r->status : FX_FAILURE;
	char what[320], server[128];

	hga_sftp_what(f, doing, path, what, sizeof(what));
	hga_ssh_clean(server, sizeof(server), r->text);
	(void)hga_fail(err, status_errs[s].kind, 0, status_errs[s].code,
	               "%s: %s%s%s%s", what, status_errs[s].text,
	               *server ? " (" : "", server,
	               *server ? ")" : ""); /* the caller's */
	if (more == NULL)
		return;
	hga_ssh_clean(more->path, sizeof(more->path), path);
	more->status = (int)r->status;
	more->offset = -1;
	snprintf(more->server, sizeof(more->server), "%s", server);
}

/* ---- version, extensions ---- */

static uint32_t request_size(uint64_t packet, uint64_t given)
{
	uint64_t n = given ? given : SIZE_DEFAULT;

	if (packet > 2048 && n > packet - 1024)
		n = packet - 1024;
	if (n > SIZE_MAX_REQ)
		n = SIZE_MAX_REQ;
	return n < 4096 ? 4096 : (uint32_t)n;
}

static void on_limits(struct hga_sftp *f, void *ctx,
                      const struct hga_sftp_reply *r)
{
	uint64_t packet, rd, wr;
	size_t at = 0;

	(void)ctx; /* of the engine itself */
	if (r->type != SFTP_EXTENDED_REPLY ||
	    !hga_sftp_read_u64(r->body, &at, &packet) ||
	    !hga_sftp_read_u64(r->body, &at, &rd) ||
	    !hga_sftp_read_u64(r->body, &at, &wr))
		return;
	f->read_size = request_size(packet, rd);
	f->write_size = request_size(packet, wr);
}

static void ask_limits(struct hga_sftp *f)
{
	hga_sftp_put_begin(f, SFTP_EXTENDED, on_limits, NULL, 0, 0);
	hga_sftp_put_str(f, HGA_STR("limits@openssh.com"));
	hga_sftp_put_send(f);
}

static const struct {
	const char *name, *data;
	unsigned flag;
} extensions[] = {
    {"limits@openssh.com", "1", EXT_LIMITS},
    {"posix-rename@openssh.com", "1", EXT_POSIX_RENAME},
    {"fsync@openssh.com", "1", EXT_FSYNC},
    {"statvfs@openssh.com", "2", EXT_STATVFS},
    {"hardlink@openssh.com", "1", EXT_HARDLINK},
    {"expand-path@openssh.com", "1", EXT_EXPAND},
};

static void on_version(struct hga_sftp *f, struct hga_str body)
{
	struct hga_str name, data;
	size_t at = 0;
	uint32_t version;

	if (!hga_wire_u32(body, &at, &version) || version < 3) {
		hga_sftp_bad(f, "version");
		return;
	}
	while (at < body.n) {
		if (!hga_wire_str(body, &at, &name) ||
		    !hga_wire_str(body, &at, &data)) {
			hga_sftp_bad(f, "extensions");
			return;
		}
		for (size_t i = 0;
		     i < sizeof(extensions) / sizeof(extensions[0]); i++)
			if (hga_str_eqc(name, extensions[i].name) &&
			    hga_str_eqc(data, extensions[i].data))
				f->ext |= extensions[i].flag;
	}
	f->version = true;
	if (f->ext & EXT_LIMITS)
		ask_limits(f);
	for (struct hga_sftp_user *u = f->users, *next; u != NULL; u = next) {
		next = u->next;
		u->begin(f, u);
	}
}

/* ---- input ---- */

static void on_reply(struct hga_sftp *f, uint8_t type, struct hga_str body)
{
	struct hga_sftp_reply r = {.type = type, .text = HGA_STR("")};
	struct hga_sftp_req *q, req;
	uint32_t id, slot;
	size_t at = 0;

	if (!hga_wire_u32(body, &at, &id)) {
		hga_sftp_bad(f, "no id");
		return;
	}
	slot = id & ((1u << SLOT_BITS) - 1);
	q = slot < f->n_reqs ? &f->reqs[slot] : NULL;
	if (q == NULL || id == 0 || q->id != id) {
		hga_sftp_bad(f, "unknown id");
		return;
	}
	r.body = hga_strn(body.s + 4, body.n - 4);
	if (type == SFTP_STATUS) {
		at = 0;
		if (!hga_wire_u32(r.body, &at, &r.status)) {
			hga_sftp_bad(f, "status");
			return;
		}
		/* Old servers leave the text out. */
		(void)hga_wire_str(r.body, &at, &r.text);
	}
	req = *q;
	r.off = req.off;
	r.len = req.len;
	give_slot(f, slot);
	f->last_ms = hga_mono_ms();
	req.fn(f, req.ctx, &r);
}

static void on_frame(struct hga_sftp *f, struct hga_str frame)
{
	uint8_t type = (uint8_t)frame.s[0];
	struct hga_str body = hga_strn(frame.s + 1, frame.n - 1);

	if (!f->version) {
		if (type == SFTP_VERSION)
			on_version(f, body);
		else
			hga_sftp_bad(f, "no version");
		return;
	}
	on_reply(f, type, body);
}

static void sweep(struct hga_sftp *f);

/* Handles all whole frames in rx. */
static void parse(struct hga_sftp *f)
{
	while (f->fatal.kind == HGA_OK) {
		struct hga_str rest =
		    hga_strn(f->rx.data + f->rx_at, f->rx.len - f->rx_at);
		size_t at = 0;
		uint32_t n;

		if (!hga_wire_u32(rest, &at, &n))
			break;
		if (n == 0 || n > HGA_SFTP_FRAME) {
			hga_sftp_bad(f, "length");
			break;
		}
		if (rest.n - at < n)
			break;
		f->rx_at += 4 + n;
		on_frame(f, hga_strn(rest.s + 4, n));
		if (f->n_over > 0)
			sweep(f);
	}
	if (f->rx_at == f->rx.len)
		hga_buf_clear(&f->rx);
	else
		hga_buf_consume(&f->rx, f->rx_at);
	f->rx_at = 0;
}

int hga_sftp_feed(struct hga_sftp *f, const void *p, size_t n,
                  struct hga_err *err)
{
	const char *s = p;

	f->busy = true;
	while (n > 0 && f->fatal.kind == HGA_OK) {
		size_t room = RX_SIZE - f->rx.len;

		if (room > n)
			room = n;
		if (hga_buf_add(&f->rx, s, room, NULL) < 0) {
			hga_sftp_no_memory(f);
			break;
		}
		s += room;
		n -= room;
		parse(f);
	}
	f->busy = false;
	if (f->fatal.kind == HGA_OK)
		return 0;
	*err = f->fatal;
	return -(int)err->kind;
}

/* ---- users, output ---- */

void hga_sftp_link(struct hga_sftp *f, struct hga_sftp_user *u)
{
	struct hga_sftp_user **at = &f->users, *prev = NULL;

	while (*at != NULL) {
		prev = *at;
		at = &(*at)->next;
	}
	*at = u;
	u->prev = prev;
	u->next = NULL;
	if (f->chan != NULL)
		f->chan->passive = false;
	if (f->version)
		u->begin(f, u);
	else if (f->chan != NULL)
		hga_ssh_kick(f->ssh);
}

void hga_sftp_unlink(struct hga_sftp *f, struct hga_sftp_user *u)
{
	if (f->turn == u)
		f->turn = u->next;
	if (u->prev != NULL)
		u->prev->next = u->next;
	else if (f->users == u)
		f->users = u->next;
	if (u->next != NULL)
		u->next->prev = u->prev;
	u->prev = u->next = NULL;
	if (f->users == NULL && f->chan != NULL)
		f->chan->passive = true;
}

void hga_sftp_over(struct hga_sftp *f, struct hga_sftp_user *u)
{
	if (u->over)
		return;
	u->over = true;
	f->n_over++;
	if (f->chan != NULL && !f->busy)
		hga_ssh_kick(f->ssh);
}

static void sweep(struct hga_sftp *f)
{
	while (f->n_over > 0) {
		struct hga_sftp_user *u = f->users;

		while (u != NULL && !u->over)
			u = u->next;
		f->n_over--;
		if (u == NULL)
			continue; /* unlinked meanwhile */
		u->over = false;
		hga_sftp_unlink(f, u);
		u->finish(f, u);
	}
}

bool hga_sftp_produce(struct hga_sftp *f)
{
	bool any = false, again = true;

	/* Room for the reply table too: callers of single requests need it. */
	while (again && f->fatal.kind == HGA_OK && f->version) {
		again = false;
		f->turn = f->users;
		while (f->turn != NULL && f->fatal.kind == HGA_OK &&
		       f->tx.len - f->tx_at < HGA_SFTP_TX_HIGH &&
		       f->used_reqs < REQS_MAX / 2) {
			struct hga_sftp_user *u = f->turn;

			f->turn = u->next;
			if (u->produce != NULL && u->produce(f, u))
				any = again = true;
			sweep(f);
		}
	}
	return any;
}

struct hga_sftp *hga_sftp_engine_new(struct hga_ssh *ssh)
{
	static const char init[] = {0, 0, 0, 5, SFTP_INIT, 0, 0, 0, 3};
	struct hga_sftp *f = hga_calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->ssh = ssh;
	f->free_req = NO_SLOT;
	f->read_size = f->write_size = SIZE_DEFAULT;
	f->window = READ_MIN;
	f->last_ms = hga_mono_ms();
	hga_buf_init(&f->rx, RX_SIZE);
	hga_buf_init(&f->tx, TX_MAX);
	if (hga_buf_add(&f->tx, init, sizeof(init), NULL) < 0) {
		hga_free(f);
		return NULL;
	}
	return f;
}

void hga_sftp_engine_free(struct hga_sftp *f)
{
	hga_buf_release(&f->rx);
	hga_buf_release(&f->tx);
	hga_free(f->reqs);
	hga_free(f);
}

void hga_sftp_end(struct hga_sftp *f, const struct hga_err *err)
{
	struct hga_err copy = *err;

	f->ended = true;
	set_fatal(f, &copy); /* no request is built any more */
	if (f->chan != NULL) {
		hga_timer_stop(f->ssh->loop, &f->silence);
		hga_chan_drop(f->chan);
		f->chan = NULL;
	}
	if (f->ssh != NULL && f->ssh->sftp == f)
		f->ssh->sftp = NULL;
	while (f->users != NULL) {
		struct hga_sftp_user *u = f->users;

		hga_sftp_unlink(f, u);
		u->over = false;
		u->fail(f, u, &copy);
	}
	hga_sftp_engine_free(f);
}

/* ---- the channel below ---- */

static int read_channel(struct hga_sftp *f, bool *progress, struct hga_err *err)
{
	LIBSSH2_CHANNEL *ch = f->chan->ch;
	char skip[1024];
	ssize_t n;

	for (;;) {
		if (hga_buf_reserve(&f->rx, RX_SIZE - f->rx.len, err) < 0)
			return -HGA_MEMORY;
		n = libssh2_channel_read_ex(ch, 0, f->rx.data + f->rx.len,
		                            RX_SIZE - f->rx.len);
		if (n <= 0)
			break;
		f->rx.len += (size_t)n;
		*progress = true;
		parse(f);
		if (f->fatal.kind != HGA_OK)
			return 0;
	}
	if (n < 0 && n != LIBSSH2_ERROR_EAGAIN)
		return hga_ssh_fail(f->ssh, err, "sftp", (int)n);
	/* Nobody wants the program's stderr; it must not fill the window. */
	while (libssh2_channel_read_ex(ch, SSH_EXTENDED_DATA_STDERR, skip,
	                               sizeof(skip)) > 0)
		*progress = true;
	return 0;
}

/* Sends whole pieces of HGA_SSH_WRITE, the rest when nothing follows. */
static int write_channel(struct hga_sftp *f, bool *progress,
                         struct hga_err *err)
{
	size_t sent = 0;

	while (!hga_bio_full(&f->ssh->bio) && sent < TURN_BYTES) {
		size_t left = f->tx.len - f->tx_at;
		ssize_t n;

		if (left < HGA_SSH_WRITE) {
			hga_buf_consume(&f->tx, f->tx_at);
			f->tx_at = 0;
			if (hga_sftp_produce(f)) {
				*progress = true;
				continue;
			}
		}
		if (left == 0 || f->fatal.kind != HGA_OK)
			return 0;
		n = libssh2_channel_write_ex(f->chan->ch, 0,
		                             f->tx.data + f->tx_at, left);
		if (n == LIBSSH2_ERROR_EAGAIN || n == 0)
			return 0;
		if (n < 0)
			return hga_ssh_fail(f->ssh, err, "sftp", (int)n);
		f->tx_at += (size_t)n;
		sent += (size_t)n;
		f->last_ms = hga_mono_ms();
		*progress = true;
	}
	return 0;
}

bool hga_sftp_may_read(struct hga_sftp *f)
{
	if (f->read_out >= f->window)
		f->read_full = true;
	else if (f->read_out + READ_MIN / 2 <= f->window)
		f->read_full = false;
	return !f->read_full;
}

uint64_t hga_sftp_coming(const struct hga_sftp *f)
{
	/* Of the answer that is being read, what is here does not come. */
	return f->fast && f->read_out > f->rx.len ? f->read_out - f->rx.len : 0;
}

/* Bytes of reads on their way: twice what the line holds.  More makes the
 * buffers of OpenSSH's server quadratic. */
static void adapt(struct hga_sftp *f)
{
	int64_t now = hga_mono_ms(), dt = now - f->rate_ms;
	double want;

	if (dt < RATE_MS)
		return;
	if (f->rate_ms == 0) {
		/* A long line: its rate shows only when TCP has sped up. */
		f->window = hga_ssh_rtt(f->ssh) >= HGA_SSH_LONG_RTT ? READ_MAX
		                                                    : READ_MIN;
		f->rate_ms = now + (f->window == READ_MAX ? SPEED_UP_MS : 0);
		f->rate_bytes = 0;
		return;
	}
	f->fast = f->rate_bytes >= (uint64_t)dt * FAST_PER_MS;
	want =
	    2 * hga_ssh_rtt(f->ssh) * (double)f->rate_bytes * 1000 / (double)dt;
	f->rate_ms = now;
	f->rate_bytes = 0;
	f->window = want > READ_MAX   ? READ_MAX
	            : want < READ_MIN ? READ_MIN
	                              : (uint64_t)want;
}

static void server_ended(struct hga_sftp *f)
{
	struct hga_err err;

	(void)hga_fail(&err, HGA_REMOTE, 0, "SftpFailure",
	               "sftp %s: the server's sftp program ended",
	               f->ssh->name); /* kept as fatal */
	set_fatal(f, &err);
}

static void end_retired(struct hga_sftp *f)
{
	struct hga_err err;

	(void)hga_fail(&err, HGA_NET, 0, "End", "sftp: done"); /* for nobody */
	hga_sftp_end(f, &err);
}

void hga_sftp_retire(struct hga_sftp *f)
{
	f->retired = true;
	if (!f->busy && f->users == NULL)
		end_retired(f);
}

void hga_sftp_make_way(struct hga_ssh *ssh)
{
	struct hga_sftp *f = ssh->sftp;

	if (f != NULL && !f->busy && f->users == NULL && f->used_reqs == 0)
		end_retired(f);
}

/* An engine without work keeps no buffers: there may be hundreds. */
static void give_back(struct hga_sftp *f)
{
	if (f->users != NULL || f->used_reqs > 0 || f->rx.len > 0 ||
	    f->tx.len > f->tx_at)
		return;
	hga_buf_release(&f->rx);
	hga_buf_release(&f->tx);
	f->tx_at = 0;
}

static bool on_turn(struct hga_chan *c, struct hga_err *err)
{
	struct hga_sftp *f = c->user;
	bool progress = false;
	int rc;

	f->busy = true;
	sweep(f);
	adapt(f);
	rc = read_channel(f, &progress, err);
	if (rc == 0 && f->fatal.kind == HGA_OK)
		rc = write_channel(f, &progress, err);
	f->busy = false;
	if (rc < 0)
		return false;
	if (f->fatal.kind == HGA_OK && libssh2_channel_eof(c->ch) == 1)
		server_ended(f);
	if (f->fatal.kind != HGA_OK) {
		hga_sftp_end(f, &f->fatal);
		return true;
	}
	if (f->retired && f->users == NULL) {
		end_retired(f);
		return true;
	}
	give_back(f);
	return progress;
}

static void on_start(struct hga_chan *c)
{
	struct hga_sftp *f = c->user;

	f->last_ms = hga_mono_ms();
}

/* INIT follows the request for the subsystem. */
static int on_request(struct hga_chan *c, struct hga_err *err)
{
	bool progress = false;

	return write_channel(c->user, &progress, err);
}

static void on_chan_fail(struct hga_chan *c, const struct hga_err *err)
{
	struct hga_sftp *f = c->user;

	f->chan = NULL; /* gone already */
	hga_timer_stop(f->ssh->loop, &f->silence);
	hga_sftp_end(f, err);
}

static void on_silence(struct hga_timer *t)
{
	struct hga_sftp *f = t->data;
	int64_t due = f->last_ms + HGA_SFTP_SILENCE_MS, now = hga_mono_ms();
	struct hga_err err;

	if (f->version && f->used_reqs == 0)
		return;
	if (now >= due) {
		(void)hga_fail(&err, HGA_TIMEOUT, 0, "Transfer",
		               "sftp %s: no answer for %d s", f->ssh->name,
		               HGA_SFTP_SILENCE_MS / 1000); /* handed on */
		hga_sftp_end(f, &err);
		return;
	}
	if (hga_timer_start(f->ssh->loop, t, due - now, &err) < 0)
		hga_sftp_end(f, &err);
}

int hga_sftp_extra(struct hga_ssh *ssh, struct hga_sftp **out,
                   struct hga_err *err)
{
	struct hga_sftp *f;
	int rc = hga_ssh_check(ssh, err);

	if (rc < 0)
		return rc;
	f = hga_sftp_engine_new(ssh);
	if (f == NULL)
		return hga_fail_mem(err);
	f->chan = hga_chan_new(ssh, "subsystem", HGA_STR("sftp"), WINDOW);
	if (f->chan == NULL) {
		hga_sftp_engine_free(f);
		return hga_fail_mem(err);
	}
	f->gen = ++ssh->sftp_gen;
	f->chan->user = f;
	f->chan->passive = true;
	f->chan->on_start = on_start;
	f->chan->on_request = on_request;
	f->chan->on_turn = on_turn;
	f->chan->on_fail = on_chan_fail;
	f->silence.fn = on_silence;
	f->silence.data = f;
	arm_silence(f);
	*out = f;
	return 0;
}

int hga_sftp_get(struct hga_ssh *ssh, struct hga_sftp **out,
                 struct hga_err *err)
{
	int rc = hga_ssh_check(ssh, err);

	if (rc < 0)
		return rc;
	if (ssh->sftp == NULL)
		rc = hga_sftp_extra(ssh, &ssh->sftp, err);
	*out = ssh->sftp;
	return rc;
}
