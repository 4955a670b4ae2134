/*
 * Single SFTP operations and listings.  A cancelled call stays in the engine
 * until its answer has come.
 */
#include "ssh/sftp.h"

#include "base/mem.h"
#include "ssh/sftp_impl.h"

#include <stdlib.h>
#include <string.h>

#define NAMES_MAX (32 * 1024 * 1024)
#define PATH_MAX_BYTES 4096

/* ---- listing ---- */

static int by_name(const void *a, const void *b)
{
	const struct hga_sftp_entry *x = a, *y = b;

	return hga_str_cmp(x->name, y->name);
}

static int list_unsafe(struct hga_sftp *f, struct hga_sftp_lister *l,
                       struct hga_str name, const char *why)
{
	char what[300], clean[80];

	hga_sftp_what(f, "list", l->path, what, sizeof(what));
	hga_ssh_clean(clean, sizeof(clean), name);
	return hga_fail(&l->err, HGA_PROTOCOL, 0, "UnsafeName",
	                "%s: the server gave %s: \"%s\"", what, why, clean);
}

/* Sorts; two equal names would be one local file. */
static void list_sort(struct hga_sftp *f, struct hga_sftp_lister *l)
{
	for (size_t i = 0; i < l->n; i++)
		l->v[i].name.s = l->names.data + l->offs[i];
	if (l->n > 1)
		qsort(l->v, l->n, sizeof(*l->v), by_name);
	for (size_t i = 1; i < l->n; i++)
		if (hga_str_eq(l->v[i - 1].name, l->v[i].name)) {
			(void)list_unsafe(f, l, l->v[i].name,
			                  "a name twice"); /* in l->err */
			return;
		}
}

static void list_close(struct hga_sftp *f, struct hga_sftp_lister *l)
{
	hga_sftp_ask_handle(f, SFTP_CLOSE, hga_buf_str(&l->handle),
	                    hga_sftp_ignore, NULL);
	l->done(f, l);
}

static int list_grow(struct hga_sftp_lister *l)
{
	size_t cap = l->cap ? l->cap * 2 : 64;
	struct hga_sftp_entry *v = hga_realloc(l->v, cap * sizeof(*v));
	size_t *offs;

	if (v == NULL)
		return hga_fail_mem(&l->err);
	l->v = v;
	offs = hga_realloc(l->offs, cap * sizeof(*offs));
	if (offs == NULL)
		return hga_fail_mem(&l->err);
	l->offs = offs;
	l->cap = cap;
	return 0;
}

static int list_add(struct hga_sftp *f, struct hga_sftp_lister *l,
                    struct hga_str name, const struct hga_sftp_attrs *a)
{
	struct hga_sftp_entry *e;

	if (hga_str_eqc(name, ".") || hga_str_eqc(name, ".."))
		return 0;
	if (!hga_sftp_name_safe(name))
		return list_unsafe(f, l, name, "an unsafe name");
	if (l->n == HGA_SFTP_LIST_MAX)
		return hga_fail(&l->err, HGA_PROTOCOL, 0, "TooLarge",
		                "sftp list: more than %d entries",
		                HGA_SFTP_LIST_MAX);
	if (l->n == l->cap && list_grow(l) < 0)
		return -HGA_MEMORY;
	e = &l->v[l->n];
	e->name = hga_strn(NULL, name.n);
	e->attrs = *a;
	l->offs[l->n] = l->names.len;
	if (hga_buf_addstr(&l->names, name, &l->err) < 0)
		return -HGA_MEMORY;
	l->n++;
	return 0;
}

static void on_readdir(struct hga_sftp *f, void *ctx,
                       const struct hga_sftp_reply *r);

static int list_names(struct hga_sftp *f, struct hga_sftp_lister *l,
                      struct hga_str body)
{
	size_t at = 0;
	uint32_t n;

	if (!hga_wire_u32(body, &at, &n) || n > (body.n - at) / 12) {
		hga_sftp_bad(f, "names");
		return -HGA_PROTOCOL;
	}
	for (uint32_t i = 0; i < n; i++) {
		struct hga_str name, longname;
		struct hga_sftp_attrs a;
		int rc;

		if (!hga_wire_str(body, &at, &name) ||
		    !hga_wire_str(body, &at, &longname) ||
		    !hga_sftp_read_attrs(body, &at, &a)) {
			hga_sftp_bad(f, "names");
			return -HGA_PROTOCOL;
		}
		rc = list_add(f, l, name, &a);
		if (rc < 0)
			return rc;
	}
	/* An endless listing of nothing would never end. */
	if (n == 0)
		hga_sftp_bad(f, "empty names");
	return n == 0 ? -HGA_PROTOCOL : 0;
}

static void on_readdir(struct hga_sftp *f, void *ctx,
                       const struct hga_sftp_reply *r)
{
	struct hga_sftp_lister *l = ctx;

	if (r->type == SFTP_NAME) {
		if (list_names(f, l, r->body) == 0) {
			hga_sftp_ask_handle(f, SFTP_READDIR,
			                    hga_buf_str(&l->handle), on_readdir,
			                    l);
			return;
		}
		if (f->fatal.kind != HGA_OK)
			l->err = f->fatal;
	} else if (r->type != SFTP_STATUS || r->status == FX_OK) {
		hga_sftp_bad(f, "names expected");
		l->err = f->fatal;
	} else if (r->status != FX_EOF) {
		hga_sftp_status_err(f, r, "list", l->path, &l->err, &l->more);
	} else {
		list_sort(f, l);
	}
	list_close(f, l);
}

static void on_opendir(struct hga_sftp *f, void *ctx,
                       const struct hga_sftp_reply *r)
{
	struct hga_sftp_lister *l = ctx;

	if (hga_sftp_is_handle(f, r, &l->handle)) {
		hga_sftp_ask_handle(f, SFTP_READDIR, hga_buf_str(&l->handle),
		                    on_readdir, l);
		return;
	}
	if (f->fatal.kind != HGA_OK)
		l->err = f->fatal;
	else
		hga_sftp_status_err(f, r, "list", l->path, &l->err, &l->more);
	l->done(f, l);
}

void hga_sftp_list(struct hga_sftp *f, struct hga_sftp_lister *l)
{
	hga_buf_init(&l->names, NAMES_MAX);
	hga_sftp_ask_path(f, SFTP_OPENDIR, l->path, on_opendir, l);
}

void hga_sftp_lister_release(struct hga_sftp_lister *l)
{
	hga_free(l->v);
	hga_free(l->offs);
	l->v = NULL;
	l->offs = NULL;
	l->n = l->cap = 0;
	hga_buf_release(&l->names);
	hga_buf_release(&l->handle);
}

/* ---- single operations ---- */

/* A call that outlives its operation when that is cancelled. */
struct call {
	struct hga_sftp_user user;
	struct hga_sftp *f;
	struct hga_sftp_call *op; /* NULL: cancelled */
	enum hga_sftp_what what;
	struct hga_buf path, path2;
	struct hga_sftp_attrs attrs;
	struct hga_sftp_lister lister;
	bool retried;
};

static const char *const call_names[] = {
    [HGA_SFTP_STAT] = "stat",         [HGA_SFTP_LSTAT] = "lstat",
    [HGA_SFTP_LIST] = "list",         [HGA_SFTP_MKDIR] = "mkdir",
    [HGA_SFTP_RMDIR] = "rmdir",       [HGA_SFTP_REMOVE] = "remove",
    [HGA_SFTP_RENAME] = "rename",     [HGA_SFTP_SETATTR] = "chmod",
    [HGA_SFTP_READLINK] = "readlink", [HGA_SFTP_SYMLINK] = "symlink",
    [HGA_SFTP_REALPATH] = "realpath", [HGA_SFTP_HARDLINK] = "link",
    [HGA_SFTP_STATVFS] = "statvfs",   [HGA_SFTP_EXPAND] = "expand",
};

static void call_free(struct call *c)
{
	hga_sftp_lister_release(&c->lister);
	hga_buf_release(&c->path);
	hga_buf_release(&c->path2);
	hga_free(c);
}

static void call_end(struct call *c, const struct hga_err *err)
{
	struct hga_sftp_call *op = c->op;

	if (op == NULL) {
		call_free(c);
		return;
	}
	if (err != NULL)
		op->base.err = *err;
	op->impl = NULL;
	if (c->what == HGA_SFTP_LIST && err == NULL) {
		op->entries = c->lister.v;
		op->n_entries = c->lister.n;
		op->text = c->lister.names;
		c->lister.v = NULL;
		memset(&c->lister.names, 0, sizeof(c->lister.names));
	}
	call_free(c);
	hga_op_finish(&op->base);
}

static void call_over(struct call *c, const struct hga_err *err)
{
	hga_sftp_unlink(c->f, &c->user);
	call_end(c, err);
}

static void call_fail(struct hga_sftp *f, struct hga_sftp_user *u,
                      const struct hga_err *err)
{
	(void)f; /* about to go */
	call_end((struct call *)u, err);
}

static void call_status(struct call *c, const struct hga_sftp_reply *r)
{
	struct hga_sftp_more more;
	struct hga_err err;

	hga_sftp_status_err(c->f, r, call_names[c->what], hga_buf_str(&c->path),
	                    &err, &more);
	if (c->op != NULL)
		c->op->more = more;
	call_over(c, &err);
}

static void on_call_name(struct call *c, const struct hga_sftp_reply *r)
{
	struct hga_str name;
	size_t at = 0;
	uint32_t n;

	if (r->type != SFTP_NAME || !hga_wire_u32(r->body, &at, &n) || n != 1 ||
	    !hga_wire_str(r->body, &at, &name)) {
		hga_sftp_bad(c->f, "one name expected");
		return; /* the engine's end fails the call */
	}
	if (c->op != NULL && hga_buf_addstr(&c->op->text, name, NULL) < 0) {
		hga_sftp_no_memory(c->f);
		return;
	}
	call_over(c, NULL);
}

/* f_bsize frsize blocks bfree bavail files ffree favail fsid flag namemax */
static void on_call_space(struct call *c, const struct hga_sftp_reply *r)
{
	uint64_t v[11];
	size_t at = 0;

	for (int i = 0; i < 11; i++)
		if (r->type != SFTP_EXTENDED_REPLY ||
		    !hga_sftp_read_u64(r->body, &at, &v[i])) {
			hga_sftp_bad(c->f, "file system");
			return; /* the engine's end fails the call */
		}
	if (c->op != NULL)
		c->op->space = (struct hga_sftp_space){
		    .block = v[1] ? v[1] : v[0],
		    .blocks = v[2],
		    .free = v[3],
		    .avail = v[4],
		    .files = v[5],
		    .files_free = v[6],
		    .read_only = v[9] & 1,
		};
	call_over(c, NULL);
}

static void ask(struct call *c);

/* Servers without posix-rename refuse an existing target: remove it. */
static void on_removed(struct hga_sftp *f, void *ctx,
                       const struct hga_sftp_reply *r)
{
	struct call *c = ctx;

	(void)f; /* the call knows it */
	(void)r; /* the second rename tells */
	ask(c);
}

static void on_call(struct hga_sftp *f, void *ctx,
                    const struct hga_sftp_reply *r)
{
	struct call *c = ctx;
	struct hga_sftp_attrs a;

	if (r->type == SFTP_STATUS && r->status != FX_OK) {
		if (c->what == HGA_SFTP_RENAME && !c->retried &&
		    !(f->ext & EXT_POSIX_RENAME) && r->status == FX_FAILURE) {
			c->retried = true;
			hga_sftp_ask_path(f, SFTP_REMOVE,
			                  hga_buf_str(&c->path2), on_removed,
			                  c);
			return;
		}
		call_status(c, r);
		return;
	}
	switch (c->what) {
	case HGA_SFTP_STAT:
	case HGA_SFTP_LSTAT:
		if (!hga_sftp_is_attrs(f, r, &a))
			return;
		if (c->op != NULL)
			c->op->attrs = a;
		call_over(c, NULL);
		return;
	case HGA_SFTP_READLINK:
	case HGA_SFTP_REALPATH:
	case HGA_SFTP_EXPAND:
		on_call_name(c, r);
		return;
	case HGA_SFTP_STATVFS:
		on_call_space(c, r);
		return;
	case HGA_SFTP_HARDLINK:
	case HGA_SFTP_LIST:
	case HGA_SFTP_MKDIR:
	case HGA_SFTP_RMDIR:
	case HGA_SFTP_REMOVE:
	case HGA_SFTP_RENAME:
	case HGA_SFTP_SETATTR:
	case HGA_SFTP_SYMLINK:
		if (hga_sftp_is_ok(f, r))
			call_over(c, NULL);
		return;
	}
}

static void on_listed(struct hga_sftp *f, struct hga_sftp_lister *l)
{
	struct call *c = l->ctx;

	(void)f; /* the call knows it */
	if (c->op != NULL)
		c->op->more = l->more;
	call_over(c, l->err.kind != HGA_OK ? &l->err : NULL);
}

static void ask_two(struct call *c, uint8_t type, const struct hga_buf *a,
                    const struct hga_buf *b)
{
	hga_sftp_put_begin(c->f, type, on_call, c, 0, 0);
	hga_sftp_put_str(c->f, hga_buf_str(a));
	hga_sftp_put_str(c->f, hga_buf_str(b));
	hga_sftp_put_send(c->f);
}

static void ask_attrs(struct call *c, uint8_t type)
{
	hga_sftp_put_begin(c->f, type, on_call, c, 0, 0);
	hga_sftp_put_str(c->f, hga_buf_str(&c->path));
	hga_sftp_put_attrs(c->f, &c->attrs);
	hga_sftp_put_send(c->f);
}

/* What a server must offer for a call, 0: nothing. */
static unsigned extension_of(enum hga_sftp_what what)
{
	return what == HGA_SFTP_HARDLINK  ? EXT_HARDLINK
	       : what == HGA_SFTP_STATVFS ? EXT_STATVFS
	       : what == HGA_SFTP_EXPAND  ? EXT_EXPAND
	                                  : 0;
}

static const struct hga_sftp_reply unsupported = {
    .type = SFTP_STATUS, .status = FX_OP_UNSUPPORTED, .text = {"", 0}};

static void ask_extended(struct call *c, const char *name)
{
	hga_sftp_put_begin(c->f, SFTP_EXTENDED, on_call, c, 0, 0);
	hga_sftp_put_str(c->f, hga_str(name));
	hga_sftp_put_str(c->f, hga_buf_str(&c->path));
}

static void ask(struct call *c)
{
	static const uint8_t types[] = {
	    [HGA_SFTP_STAT] = SFTP_STAT,
	    [HGA_SFTP_LSTAT] = SFTP_LSTAT,
	    [HGA_SFTP_RMDIR] = SFTP_RMDIR,
	    [HGA_SFTP_REMOVE] = SFTP_REMOVE,
	    [HGA_SFTP_READLINK] = SFTP_READLINK,
	    [HGA_SFTP_REALPATH] = SFTP_REALPATH,
	};

	switch (c->what) {
	case HGA_SFTP_LIST:
		c->lister.path = hga_buf_str(&c->path);
		c->lister.done = on_listed;
		c->lister.ctx = c;
		hga_sftp_list(c->f, &c->lister);
		return;
	case HGA_SFTP_MKDIR:
		ask_attrs(c, SFTP_MKDIR);
		return;
	case HGA_SFTP_SETATTR:
		ask_attrs(c, SFTP_SETSTAT);
		return;
	case HGA_SFTP_RENAME:
		hga_sftp_ask_rename(c->f, hga_buf_str(&c->path),
		                    hga_buf_str(&c->path2), on_call, c);
		return;
	case HGA_SFTP_SYMLINK:
		/* OpenSSH wants the target first, against the draft. */
		ask_two(c, SFTP_SYMLINK, &c->path2, &c->path);
		return;
	case HGA_SFTP_HARDLINK:
		ask_extended(c, "hardlink@openssh.com");
		hga_sftp_put_str(c->f, hga_buf_str(&c->path2));
		hga_sftp_put_send(c->f);
		return;
	case HGA_SFTP_STATVFS:
		ask_extended(c, "statvfs@openssh.com");
		hga_sftp_put_send(c->f);
		return;
	case HGA_SFTP_EXPAND:
		ask_extended(c, "expand-path@openssh.com");
		hga_sftp_put_send(c->f);
		return;
	case HGA_SFTP_STAT:
	case HGA_SFTP_LSTAT:
	case HGA_SFTP_RMDIR:
	case HGA_SFTP_REMOVE:
	case HGA_SFTP_READLINK:
	case HGA_SFTP_REALPATH:
		hga_sftp_ask_path(c->f, types[c->what], hga_buf_str(&c->path),
		                  on_call, c);
		return;
	}
}

static void call_begin(struct hga_sftp *f, struct hga_sftp_user *u)
{
	struct call *c = (struct call *)u;

	if (c->op == NULL) {
		hga_sftp_unlink(f, u);
		call_free(c);
		return;
	}
	if (extension_of(c->what) & ~f->ext)
		call_status(c, &unsupported);
	else
		ask(c);
}

static void call_cancel(struct hga_op *base)
{
	struct hga_sftp_call *op = (struct hga_sftp_call *)base;
	struct call *c = op->impl;

	/* The answer still comes; the call waits for it alone. */
	if (c != NULL)
		c->op = NULL;
	op->impl = NULL;
	hga_op_drop(base);
}

int hga_sftp_call_start(struct hga_ssh *ssh, struct hga_sftp_call *op,
                        const struct hga_sftp_call_args *args,
                        struct hga_err *err)
{
	struct hga_sftp *f;
	struct call *c;
	int rc = hga_sftp_get(ssh, &f, err);

	if (rc < 0)
		return rc;
	/* Known already: a start function does not call done. */
	if (f->version && (extension_of(args->what) & ~f->ext)) {
		hga_sftp_status_err(f, &unsupported, call_names[args->what],
		                    args->path, err, NULL);
		return -(int)err->kind;
	}
	c = hga_calloc(1, sizeof(*c));
	if (c == NULL)
		return hga_fail_mem(err);
	hga_buf_init(&c->path, PATH_MAX_BYTES + 16);
	hga_buf_init(&c->path2, PATH_MAX_BYTES + 16);
	if (args->what == HGA_SFTP_EXPAND)
		rc = hga_buf_addstr(&c->path, args->path, err);
	else
		rc = hga_sftp_path(ssh, args->path, &c->path, err);
	if (rc == 0 &&
	    (args->what == HGA_SFTP_RENAME || args->what == HGA_SFTP_HARDLINK))
		rc = hga_sftp_path(ssh, args->path2, &c->path2, err);
	else if (rc == 0 && args->what == HGA_SFTP_SYMLINK)
		rc = hga_buf_addstr(&c->path2, args->path2, err);
	if (rc < 0) {
		call_free(c);
		return rc;
	}
	c->f = f;
	c->op = op;
	c->what = args->what;
	c->attrs = args->attrs;
	c->user.begin = call_begin;
	c->user.fail = call_fail;
	op->entries = NULL;
	op->n_entries = 0;
	memset(&op->more, 0, sizeof(op->more));
	op->more.offset = op->more.status = -1;
	hga_buf_init(&op->text, 64 * 1024);
	op->impl = c;
	hga_op_begin(&op->base, call_cancel);
	hga_sftp_link(f, &c->user);
	return 0;
}

void hga_sftp_call_release(struct hga_sftp_call *op)
{
	hga_op_cancel(&op->base);
	hga_free(op->entries);
	op->entries = NULL;
	op->n_entries = 0;
	hga_buf_release(&op->text);
}
