/*
 * Directory trees over SFTP.  One struct tree per operation; it goes on alone
 * for a while when the operation is cancelled, until its jobs have cleaned up.
 */
#include "ssh/tree.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "ssh/sftp_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 64
#define FILES_MAX 100000
#define NAMES_MAX (64 * 1024 * 1024)
#define REL_MAX 4096
#define DIRS_OUT 64
#define LISTS_OUT 8
#define BIG (1024 * 1024)
#define SMALL_OUT 64
#define SMALL_OUT_FAR 256 /* round trip of 20 ms and more */
#define ERRORS_MAX 100
#define IDLE_MS 20

enum kind {
	K_DIR,
	K_FILE,
	K_LINK
};

struct entry {
	size_t at; /* relative path in names; "" is the root */
	uint32_t len;
	uint16_t depth;
	uint8_t kind;
	uint64_t size;
	uint32_t mode, mtime;
};

struct tree;

/* A listing, directory or link that was asked for. */
struct step {
	struct tree *t;
	struct step *prev, *next;
	struct hga_buf path, part;
	size_t entry;
	struct hga_sftp_lister l;
};

enum phase {
	T_WALK,
	T_DIRS,
	T_FILES
};

struct tree {
	struct hga_sftp_user user;
	struct hga_sftp *f;
	struct hga_tree *op; /* NULL: cancelled */
	bool put, mtime, keep_going, newer, begun;
	enum hga_tree_links links;
	enum phase phase;
	struct hga_buf remote, exclude; /* exclude: texts ended by NUL */
	int root;                       /* local directory */
	char *local;
	mode_t umask;
	uint64_t max_files, max_bytes, total, moved, dir_bytes;
	struct entry *v;
	size_t n, cap, next;
	struct hga_buf names;
	unsigned out;  /* jobs, listings, steps on their way */
	unsigned bigs; /* of them large files */
	struct hga_sftp_job **jobs;
	size_t n_jobs, cap_jobs;
	struct step *steps;
	int cached_fd; /* directory of the last local file */
	struct hga_buf cached;
	bool has_cached;
	struct hga_err err;
	struct hga_sftp_more more;
};

static void run(struct tree *t);

/* ---- small helpers ---- */

static struct hga_str rel(const struct tree *t, size_t i)
{
	return hga_strn(t->names.data + t->v[i].at, t->v[i].len);
}

static struct hga_str rel_dir(struct hga_str path)
{
	size_t n = path.n;

	while (n > 0 && path.s[n - 1] != '/')
		n--;
	return hga_strn(path.s, n > 0 ? n - 1 : 0);
}

static struct hga_str rel_base(struct hga_str path)
{
	size_t n = rel_dir(path).n;

	return n == 0 && (path.n == 0 || path.s[0] != '/')
	           ? path
	           : hga_strn(path.s + n + 1, path.n - n - 1);
}

/* Remote path of a relative one. */
static int remote_path(const struct tree *t, struct hga_str r,
                       struct hga_buf *out, struct hga_err *err)
{
	int rc;

	hga_buf_init(out, t->remote.len + REL_MAX + 2);
	rc = hga_buf_addstr(out, hga_buf_str(&t->remote), err);
	if (rc == 0 && r.n > 0)
		rc = hga_buf_addc(out, '/', err);
	return rc < 0 || r.n == 0 ? rc : hga_buf_addstr(out, r, err);
}

static bool excluded(const struct tree *t, struct hga_str path)
{
	size_t at = 0;

	while (at < t->exclude.len) {
		struct hga_str pat = hga_str(t->exclude.data + at);

		if (hga_str_glob(pat, path))
			return true;
		at += pat.n + 1;
	}
	return false;
}

/* Without memory the list stays short: no reason to fail the transfer. */
static void add_text(struct hga_buf *list, struct hga_str text)
{
	size_t len = list->len;

	if (hga_buf_addstr(list, text, NULL) < 0 ||
	    hga_buf_addc(list, '\0', NULL) < 0)
		hga_buf_truncate(list, len);
}

static void note_skipped(struct tree *t, struct hga_str path)
{
	if (t->op == NULL)
		return;
	add_text(&t->op->skipped, path);
}

static void stop_jobs(struct tree *t);

/* First error: nothing new is started, what runs is stopped. */
static void fail(struct tree *t, const struct hga_err *err)
{
	if (t->err.kind == HGA_OK)
		t->err = *err;
	stop_jobs(t);
}

/* An error of one file: may be collected. */
static void fail_one(struct tree *t, const struct hga_err *err,
                     const struct hga_sftp_more *more)
{
	if (t->keep_going && err->kind != HGA_MEMORY && err->kind != HGA_NET &&
	    t->op != NULL && t->f->fatal.kind == HGA_OK) {
		t->op->n_errors++;
		if (t->op->n_errors <= ERRORS_MAX)
			add_text(&t->op->errors, hga_str(err->msg));
		return;
	}
	if (t->err.kind == HGA_OK && more != NULL)
		t->more = *more;
	fail(t, err);
}

/* An error of one directory; without the root's there is nothing left. */
static void fail_dir(struct tree *t, size_t i, const struct hga_err *err,
                     const struct hga_sftp_more *more)
{
	if (i > 0) {
		fail_one(t, err, more);
		return;
	}
	if (t->err.kind == HGA_OK)
		t->more = *more;
	fail(t, err);
}

static void fail_path(struct tree *t, enum hga_kind kind, int sys,
                      const char *code, struct hga_str path, const char *what)
{
	struct hga_err err;
	char clean[256];

	hga_ssh_clean(clean, sizeof(clean), path);
	(void)hga_fail(&err, kind, sys, code, "sftp %s: %s: %s",
	               t->put ? "put" : "get", clean, what); /* handed on */
	fail_one(t, &err, NULL);
}

/* ---- entries ---- */

static int total_ok(const struct tree *t, struct hga_err *err)
{
	if (t->max_bytes == 0 || t->total <= t->max_bytes)
		return 0;
	return hga_fail(err, HGA_PROTOCOL, 0, "TooLarge",
	                "sftp %s: more bytes than allowed",
	                t->put ? "put" : "get");
}

static int add_entry(struct tree *t, struct hga_str dir, struct hga_str name,
                     const struct entry *proto, struct hga_err *err)
{
	size_t at = t->names.len;
	struct entry *e;
	int rc = 0;

	if (t->n >= t->max_files)
		return hga_fail(err, HGA_PROTOCOL, 0, "TooLarge",
		                "sftp %s: more than %llu files",
		                t->put ? "put" : "get",
		                (unsigned long long)t->max_files);
	if (proto->depth > DEPTH_MAX || dir.n + name.n + 1 > REL_MAX)
		return hga_fail(err, HGA_PROTOCOL, 0, "TooLarge",
		                "sftp %s: directories too deep",
		                t->put ? "put" : "get");
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 64;

		e = hga_realloc(t->v, cap * sizeof(*e));
		if (e == NULL)
			return hga_fail_mem(err);
		t->v = e;
		t->cap = cap;
	}
	/* dir points into names: make room before copying from it. */
	if (dir.n > 0) {
		size_t off = (size_t)(dir.s - t->names.data);

		rc = hga_buf_reserve(&t->names, dir.n + name.n + 2, err);
		if (rc == 0)
			rc = hga_buf_add(&t->names, t->names.data + off, dir.n,
			                 err);
		if (rc == 0)
			rc = hga_buf_addc(&t->names, '/', err);
	}
	if (rc == 0)
		rc = hga_buf_addstr(&t->names, name, err);
	if (rc < 0)
		return rc;
	e = &t->v[t->n++];
	*e = *proto;
	e->at = at;
	e->len = (uint32_t)(t->names.len - at);
	if (e->kind == K_FILE)
		t->total += e->size;
	return total_ok(t, err);
}

/* ---- local walk (put) ---- */

/* What cannot be read is an error of its own, not of the walk. */
static int unread(struct tree *t, const char *what, const char *path,
                  struct hga_err *err)
{
	int rc = hga_fs_fail(err, errno, what, path);

	fail_one(t, err, NULL);
	return t->err.kind == HGA_OK ? 0 : rc;
}

static int local_one(struct tree *t, int dfd, size_t parent, const char *name,
                     struct hga_err *err)
{
	struct entry e = {.depth = (uint16_t)(t->v[parent].depth + 1)};
	struct hga_str dir = rel(t, parent);
	char path[REL_MAX];
	struct stat st;
	int n = snprintf(path, sizeof(path), "%.*s%s%s", (int)dir.n, dir.s,
	                 dir.n ? "/" : "", name);

	if (n < 0 || (size_t)n >= sizeof(path))
		return hga_fail(err, HGA_USAGE, 0, "Path",
		                "sftp put: path too long below %s", t->local);
	if (excluded(t, hga_str(path)))
		return 0;
	if (fstatat(dfd, name, &st,
	            t->links == HGA_LINKS_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
		return unread(t, "stat", path, err);
	e.mode = st.st_mode & 0777;
	e.mtime = (uint32_t)st.st_mtime;
	e.size = (uint64_t)st.st_size;
	if (S_ISDIR(st.st_mode)) {
		e.kind = K_DIR;
	} else if (S_ISREG(st.st_mode)) {
		e.kind = K_FILE;
	} else if (S_ISLNK(st.st_mode) && t->links == HGA_LINKS_KEEP) {
		e.kind = K_LINK;
	} else {
		note_skipped(t, hga_str(path));
		return 0;
	}
	return add_entry(t, dir, hga_str(name), &e, err);
}

static int not_dots(const struct dirent *d)
{
	return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

static int local_dir(struct tree *t, size_t i, struct hga_err *err)
{
	struct hga_str r = rel(t, i);
	struct dirent **list = NULL;
	char path[REL_MAX];
	int n, dfd, rc = 0;

	if (r.n >= sizeof(path))
		return hga_fail(err, HGA_USAGE, 0, "Path",
		                "sftp put: path too long below %s", t->local);
	memcpy(path, r.n ? r.s : ".", r.n ? r.n : 1);
	path[r.n ? r.n : 1] = '\0';
	dfd = openat(t->root, path,
	             O_RDONLY | O_DIRECTORY | O_CLOEXEC |
	                 (t->links == HGA_LINKS_FOLLOW ? 0 : O_NOFOLLOW));
	if (dfd < 0)
		return unread(t, "open", path, err);
	n = scandirat(dfd, ".", &list, not_dots, alphasort);
	if (n < 0)
		rc = unread(t, "list", path, err);
	for (int k = 0; k < n; k++) {
		if (rc == 0)
			rc = local_one(t, dfd, i, list[k]->d_name, err);
		free(list[k]);
	}
	free(list);
	close(dfd);
	return rc;
}

static int local_walk(struct tree *t, struct hga_err *err)
{
	struct stat st;
	struct entry e = {.kind = K_DIR};
	int rc;

	if (fstat(t->root, &st) < 0)
		return hga_fs_fail(err, errno, "stat", t->local);
	e.mode = st.st_mode & 0777;
	e.mtime = (uint32_t)st.st_mtime;
	rc = add_entry(t, HGA_STR(""), HGA_STR(""), &e, err);
	/* Parents come before their children; the list grows meanwhile. */
	for (size_t i = 0; rc == 0 && i < t->n; i++)
		if (t->v[i].kind == K_DIR)
			rc = local_dir(t, i, err);
	return rc;
}

/* ---- remote walk (get) ---- */

static void step_free(struct step *s)
{
	if (s->next != NULL)
		s->next->prev = s->prev;
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		s->t->steps = s->next;
	hga_sftp_lister_release(&s->l);
	hga_buf_release(&s->path);
	hga_buf_release(&s->part);
	hga_free(s);
}

/* With the entry's remote path; NULL: failed. */
static struct step *step_new(struct tree *t, size_t entry)
{
	struct step *s = hga_calloc(1, sizeof(*s));
	struct hga_err err;

	if (s == NULL) {
		(void)hga_fail_mem(&err); /* handed on */
		fail(t, &err);
		return NULL;
	}
	s->t = t;
	s->entry = entry;
	s->next = t->steps;
	if (s->next != NULL)
		s->next->prev = s;
	t->steps = s;
	if (remote_path(t, rel(t, entry), &s->path, &err) < 0) {
		step_free(s);
		fail(t, &err);
		return NULL;
	}
	return s;
}

static int remote_one(struct tree *t, size_t parent,
                      const struct hga_sftp_entry *d, struct hga_err *err)
{
	const struct hga_sftp_attrs *a = &d->attrs;
	struct entry e = {.depth = (uint16_t)(t->v[parent].depth + 1),
	                  .mode = a->mode & 0777,
	                  .mtime = a->mtime,
	                  .size = a->size};
	struct hga_str dir = rel(t, parent);
	char path[REL_MAX];
	int n = snprintf(path, sizeof(path), "%.*s%s%.*s", (int)dir.n, dir.s,
	                 dir.n ? "/" : "", (int)d->name.n, d->name.s);

	if (n < 0 || (size_t)n >= sizeof(path))
		return hga_fail(err, HGA_PROTOCOL, 0, "TooLarge",
		                "sftp get: a path is too long");
	if (excluded(t, hga_str(path)))
		return 0;
	if (S_ISDIR(a->mode)) {
		e.kind = K_DIR;
	} else if (S_ISREG(a->mode) && (a->flags & HGA_ATTR_SIZE)) {
		e.kind = K_FILE;
		if (a->size > INT64_MAX)
			return hga_fail(err, HGA_PROTOCOL, 0, "TooLarge",
			                "sftp get: a file is too large");
	} else if (S_ISLNK(a->mode) && t->links == HGA_LINKS_FOLLOW) {
		e.kind = K_LINK;
		e.size = 0;
	} else {
		note_skipped(t, hga_str(path));
		return 0;
	}
	return add_entry(t, dir, d->name, &e, err);
}

static int remote_all(struct tree *t, size_t parent,
                      const struct hga_sftp_lister *l, struct hga_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < l->n && rc == 0 && t->err.kind == HGA_OK; i++)
		rc = remote_one(t, parent, &l->v[i], err);
	return rc;
}

static void on_listed(struct hga_sftp *f, struct hga_sftp_lister *l)
{
	struct step *s = l->ctx;
	struct tree *t = s->t;
	struct hga_err err = l->err;
	int rc = 0;

	(void)f; /* of the tree */
	t->out--;
	/* A listing that is against the rules makes the whole tree unsafe. */
	if (err.kind != HGA_OK)
		fail_dir(t, err.kind == HGA_PROTOCOL ? 0 : s->entry, &err,
		         &l->more);
	else
		rc = remote_all(t, s->entry, l, &err);
	if (rc < 0)
		fail(t, &err);
	step_free(s);
	run(t);
}

static void list_next(struct tree *t, size_t i)
{
	struct step *s = step_new(t, i);

	if (s == NULL)
		return;
	s->l.path = hga_buf_str(&s->path);
	s->l.done = on_listed;
	s->l.ctx = s;
	t->out++;
	hga_sftp_list(t->f, &s->l);
}

static void check_total(struct tree *t)
{
	struct hga_err err;

	if (total_ok(t, &err) < 0)
		fail(t, &err);
}

/* A link: its target becomes a file if it is a regular one. */
static void on_follow(struct hga_sftp *f, void *ctx,
                      const struct hga_sftp_reply *r)
{
	struct step *s = ctx;
	struct tree *t = s->t;
	struct entry *e = &t->v[s->entry];
	struct hga_sftp_attrs a;

	t->out--;
	if (hga_sftp_is_attrs(f, r, &a) && S_ISREG(a.mode) &&
	    (a.flags & HGA_ATTR_SIZE) && a.size <= INT64_MAX) {
		e->kind = K_FILE;
		e->size = a.size;
		e->mode = a.mode & 0777;
		e->mtime = a.mtime;
		t->total += a.size;
		check_total(t);
	} else {
		note_skipped(t, rel(t, s->entry));
	}
	step_free(s);
	run(t);
}

static void follow(struct tree *t, size_t i)
{
	struct step *s = step_new(t, i);

	if (s == NULL)
		return;
	t->out++;
	hga_sftp_ask_path(t->f, SFTP_STAT, hga_buf_str(&s->path), on_follow, s);
}

static void run_walk(struct tree *t)
{
	while (t->next < t->n && t->out < LISTS_OUT && t->err.kind == HGA_OK) {
		size_t i = t->next++;

		if (t->v[i].kind == K_DIR)
			list_next(t, i);
		else if (t->v[i].kind == K_LINK)
			follow(t, i);
	}
}

/* ---- directories ---- */

/* The directory of a relative path, opened component by component. */
static int open_local_dir(struct tree *t, struct hga_str path)
{
	int fd = openat(t->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t at = 0;

	while (fd >= 0 && at < path.n) {
		char name[256];
		size_t n = 0;
		int next;

		while (at + n < path.n && path.s[at + n] != '/')
			n++;
		if (n == 0 || n >= sizeof(name)) {
			close(fd);
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(name, path.s + at, n);
		name[n] = '\0';
		next = openat(fd, name,
		              O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(fd);
		fd = next;
		at += n + 1;
	}
	return fd;
}

static void make_local_dir(struct tree *t, size_t i)
{
	struct hga_str r = rel(t, i), base = rel_base(r);
	struct hga_err err;
	char name[256];
	int fd, rc;

	if (r.n == 0)
		return;
	fd = open_local_dir(t, rel_dir(r));
	if (fd < 0 || base.n >= sizeof(name)) {
		fail_path(t, HGA_IO, fd < 0 ? errno : ENAMETOOLONG, "Local", r,
		          "open directory");
		if (fd >= 0)
			close(fd);
		return;
	}
	memcpy(name, base.s, base.n);
	name[base.n] = '\0';
	rc = hga_fs_mkdirat(fd, name, t->v[i].mode | 0700, t->umask, &err);
	if (rc < 0 && rc != -HGA_EXISTS)
		fail_path(t, HGA_IO, err.sys, "Local", r, "make directory");
	close(fd);
}

static void on_dir_stat(struct hga_sftp *f, void *ctx,
                        const struct hga_sftp_reply *r)
{
	struct step *s = ctx;
	struct tree *t = s->t;
	struct hga_sftp_attrs a;
	struct hga_sftp_reply old = {.type = SFTP_STATUS,
	                             .status = FX_FAILURE,
	                             .text = HGA_STR("mkdir")};
	struct hga_err err;
	struct hga_sftp_more more;

	t->out--;
	if (!hga_sftp_is_attrs(f, r, &a) || !S_ISDIR(a.mode)) {
		hga_sftp_status_err(f, r->type == SFTP_STATUS ? r : &old,
		                    "mkdir", hga_buf_str(&s->path), &err,
		                    &more);
		fail_dir(t, s->entry, &err, &more);
	}
	step_free(s);
	run(t);
}

static void on_mkdir(struct hga_sftp *f, void *ctx,
                     const struct hga_sftp_reply *r)
{
	struct step *s = ctx;
	struct tree *t = s->t;
	struct hga_err err;
	struct hga_sftp_more more;

	t->out--;
	if (hga_sftp_is_ok(f, r)) {
		if (t->op != NULL)
			t->op->dirs++;
		step_free(s);
		run(t);
		return;
	}
	/* It may be there already. */
	if (f->fatal.kind == HGA_OK && r->status == FX_FAILURE) {
		t->out++;
		hga_sftp_ask_path(f, SFTP_STAT, hga_buf_str(&s->path),
		                  on_dir_stat, s);
		return;
	}
	hga_sftp_status_err(f, r, "mkdir", hga_buf_str(&s->path), &err, &more);
	fail_dir(t, s->entry, &err, &more);
	step_free(s);
	run(t);
}

static void make_remote_dir(struct tree *t, size_t i)
{
	struct hga_sftp_attrs a = {.flags = HGA_ATTR_MODE,
	                           .mode = (t->v[i].mode & 0777) | 0700};
	struct step *s = step_new(t, i);

	if (s == NULL)
		return;
	t->out++;
	hga_sftp_put_begin(t->f, SFTP_MKDIR, on_mkdir, s, 0, 0);
	hga_sftp_put_str(t->f, hga_buf_str(&s->path));
	hga_sftp_put_attrs(t->f, &a);
	hga_sftp_put_send(t->f);
}

static void run_dirs(struct tree *t)
{
	while (t->next < t->n && t->out < DIRS_OUT && t->err.kind == HGA_OK) {
		size_t i = t->next++;

		if (t->v[i].kind != K_DIR)
			continue;
		if (t->put) {
			make_remote_dir(t, i);
		} else {
			make_local_dir(t, i);
			if (t->op != NULL)
				t->op->dirs++;
		}
	}
}

/* ---- files ---- */

static void stop_jobs(struct tree *t)
{
	for (size_t i = 0; i < t->n_jobs; i++)
		hga_sftp_job_stop(t->jobs[i], &t->err);
}

static int keep_job(struct tree *t, struct hga_sftp_job *j, struct hga_err *err)
{
	if (t->n_jobs == t->cap_jobs) {
		size_t cap = t->cap_jobs ? t->cap_jobs * 2 : 64;
		void *v = hga_realloc(t->jobs, cap * sizeof(void *));

		if (v == NULL)
			return hga_fail_mem(err);
		t->jobs = v;
		t->cap_jobs = cap;
	}
	t->jobs[t->n_jobs++] = j;
	return 0;
}

static void forget_job(struct tree *t, const struct hga_sftp_job *j)
{
	for (size_t i = 0; i < t->n_jobs; i++)
		if (t->jobs[i] == j) {
			t->jobs[i] = t->jobs[--t->n_jobs];
			return;
		}
}

static void on_job_moved(struct hga_sftp_job *j)
{
	struct tree *t = j->owner;

	t->moved += j->moved - j->seen;
	j->seen = j->moved;
	if (t->op == NULL || t->moved - t->op->done < BIG)
		return;
	t->op->done = t->moved;
	if (t->op->base.progress != NULL)
		t->op->base.progress(&t->op->base);
}

static void on_job_done(struct hga_sftp_job *j)
{
	struct tree *t = j->owner;

	forget_job(t, j);
	t->out--;
	if (j->big)
		t->bigs--;
	if (j->err.kind == HGA_OK) {
		if (t->op != NULL)
			t->op->files++;
	} else if (t->err.kind == HGA_OK) {
		fail_one(t, &j->err, &j->more);
	}
	hga_sftp_job_free(j);
	if (!t->f->ended)
		run(t);
}

static int job_source(struct tree *t, struct hga_sftp_job *j, size_t i,
                      struct hga_err *err)
{
	struct hga_str r = rel(t, i);
	char path[REL_MAX];
	int fd;

	memcpy(path, r.s, r.n); /* shorter by add_entry's limit */
	path[r.n] = '\0';
	fd = openat(t->root, path,
	            O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC |
	                (t->links == HGA_LINKS_FOLLOW ? 0 : O_NOFOLLOW));
	if (fd < 0)
		return hga_fs_fail(err, errno, "open", path);
	return hga_sftp_job_from(j, fd, path, err);
}

/* Descriptor of the file's directory, kept for the next file in it. */
static int dir_of(struct tree *t, struct hga_str dir)
{
	if (t->has_cached && hga_str_eq(hga_buf_str(&t->cached), dir))
		return fcntl(t->cached_fd, F_DUPFD_CLOEXEC, 3);
	if (t->has_cached)
		close(t->cached_fd);
	hga_buf_clear(&t->cached);
	t->cached_fd = open_local_dir(t, dir);
	t->has_cached = t->cached_fd >= 0;
	if (!t->has_cached)
		return -1;
	/* Without memory for its name it is not found again. */
	if (hga_buf_addstr(&t->cached, dir, NULL) < 0) {
		int fd = t->cached_fd;

		t->has_cached = false;
		return fd;
	}
	return fcntl(t->cached_fd, F_DUPFD_CLOEXEC, 3);
}

static int job_target(struct tree *t, struct hga_sftp_job *j, size_t i,
                      struct hga_err *err)
{
	struct hga_str r = rel(t, i), base = rel_base(r);
	char name[256];
	int fd;

	if (base.n == 0 || base.n >= sizeof(name))
		return hga_fail(err, HGA_BUG, 0, NULL, "sftp get: bad name");
	memcpy(name, base.s, base.n);
	name[base.n] = '\0';
	fd = dir_of(t, rel_dir(r));
	if (fd < 0)
		return hga_fail(err, HGA_IO, errno, "Local",
		                "sftp get: cannot open the directory of %s",
		                name);
	j->have_attrs = true;
	j->size = t->v[i].size;
	j->mode = t->v[i].mode;
	j->umask = t->umask;
	j->time = t->v[i].mtime;
	return hga_sftp_job_into(j, fd, name, err);
}

static void start_file(struct tree *t, size_t i)
{
	struct hga_buf path;
	struct hga_sftp_job *j = NULL;
	struct hga_err err;
	int rc = remote_path(t, rel(t, i), &path, &err);

	if (rc == 0)
		j = hga_sftp_job_new(t->put, hga_buf_str(&path), &err);
	hga_buf_release(&path);
	if (j == NULL) {
		fail_one(t, &err, NULL);
		return;
	}
	rc = t->put ? job_source(t, j, i, &err) : job_target(t, j, i, &err);
	if (rc == 0)
		rc = keep_job(t, j, &err);
	if (rc < 0) {
		hga_sftp_job_free(j);
		fail_one(t, &err, NULL);
		return;
	}
	j->mtime = t->mtime;
	j->owner = t;
	j->done = on_job_done;
	j->moved_fn = on_job_moved;
	j->big = t->v[i].size >= BIG;
	t->bigs += j->big;
	t->out++;
	hga_sftp_job_start(t->f, j);
}

static void note_unchanged(struct tree *t, size_t i)
{
	t->moved += t->v[i].size;
	if (t->op != NULL)
		t->op->unchanged++;
}

static void on_there(struct hga_sftp *f, void *ctx,
                     const struct hga_sftp_reply *r)
{
	struct step *s = ctx;
	struct tree *t = s->t;
	const struct entry *e = &t->v[s->entry];
	size_t i = s->entry;
	struct hga_sftp_attrs a;
	bool same = hga_sftp_is_attrs(f, r, &a) && S_ISREG(a.mode) &&
	            (a.flags & HGA_ATTR_SIZE) && (a.flags & HGA_ATTR_TIMES) &&
	            a.size == e->size && a.mtime == e->mtime;

	t->out--;
	t->bigs -= e->size >= BIG;
	step_free(s);
	if (f->fatal.kind != HGA_OK)
		return; /* the engine's end follows */
	if (same)
		note_unchanged(t, i);
	else if (t->err.kind == HGA_OK && t->op != NULL)
		start_file(t, i);
	run(t);
}

static bool local_same(struct tree *t, size_t i)
{
	const struct entry *e = &t->v[i];
	struct hga_str base = rel_base(rel(t, i));
	char name[256];
	struct stat st;
	int fd = dir_of(t, rel_dir(rel(t, i)));
	bool same = false;

	if (fd >= 0 && base.n < sizeof(name)) {
		memcpy(name, base.s, base.n);
		name[base.n] = '\0';
		same = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		       S_ISREG(st.st_mode) && (uint64_t)st.st_size == e->size &&
		       (uint64_t)st.st_mtime == e->mtime;
	}
	if (fd >= 0)
		close(fd);
	return same;
}

/* Starts it unless the other side has it already. */
static void start_if_newer(struct tree *t, size_t i)
{
	struct step *s;

	if (!t->put) {
		if (local_same(t, i))
			note_unchanged(t, i);
		else
			start_file(t, i);
		return;
	}
	s = step_new(t, i);
	if (s == NULL)
		return;
	t->out++;
	t->bigs += t->v[i].size >= BIG;
	hga_sftp_ask_path(t->f, SFTP_LSTAT, hga_buf_str(&s->path), on_there, s);
}

static void on_linked(struct hga_sftp *f, void *ctx,
                      const struct hga_sftp_reply *r)
{
	struct step *s = ctx;
	struct tree *t = s->t;
	struct hga_err err;
	struct hga_sftp_more more;

	t->out--;
	if (hga_sftp_is_ok(f, r)) {
		if (t->op != NULL)
			t->op->files++;
	} else if (f->fatal.kind == HGA_OK) {
		hga_sftp_ask_path(f, SFTP_REMOVE, hga_buf_str(&s->part),
		                  hga_sftp_ignore, NULL);
		hga_sftp_status_err(f, r, "symlink", hga_buf_str(&s->path),
		                    &err, &more);
		fail_one(t, &err, &more);
	}
	step_free(s);
	run(t);
}

static void on_symlink(struct hga_sftp *f, void *ctx,
                       const struct hga_sftp_reply *r)
{
	struct step *s = ctx;

	if (!hga_sftp_is_ok(f, r)) {
		on_linked(f, ctx, r);
		return;
	}
	hga_sftp_ask_rename(f, hga_buf_str(&s->part), hga_buf_str(&s->path),
	                    on_linked, s);
}

static void put_link(struct tree *t, size_t i)
{
	struct hga_str r = rel(t, i);
	struct step *s = step_new(t, i);
	char path[REL_MAX], to[REL_MAX], suffix[64];
	struct hga_err err;
	ssize_t n;

	if (s == NULL)
		return;
	memcpy(path, r.s, r.n); /* shorter by add_entry's limit */
	path[r.n] = '\0';
	n = readlinkat(t->root, path, to, sizeof(to));
	if (n < 0 || (size_t)n >= sizeof(to)) {
		fail_path(t, HGA_IO, n < 0 ? errno : ENAMETOOLONG, "Local", r,
		          "read link");
		step_free(s);
		return;
	}
	snprintf(suffix, sizeof(suffix), ".hga-%08x.part",
	         (unsigned)hga_mono_us() ^ (unsigned)i);
	hga_buf_init(&s->part, s->path.max + sizeof(suffix));
	if (hga_buf_addstr(&s->part, hga_buf_str(&s->path), &err) < 0 ||
	    hga_buf_adds(&s->part, suffix, &err) < 0) {
		step_free(s);
		fail(t, &err);
		return;
	}
	t->out++;
	hga_sftp_put_begin(t->f, SFTP_SYMLINK, on_symlink, s, 0, 0);
	hga_sftp_put_str(t->f, hga_strn(to, (size_t)n));
	hga_sftp_put_str(t->f, hga_buf_str(&s->part));
	hga_sftp_put_send(t->f);
}

static void run_files(struct tree *t)
{
	struct hga_ssh *ssh = t->f->ssh;
	unsigned most = ssh != NULL && hga_ssh_rtt(ssh) >= HGA_SSH_LONG_RTT
	                    ? SMALL_OUT_FAR
	                    : SMALL_OUT;

	while (t->next < t->n && t->out < most && t->err.kind == HGA_OK) {
		const struct entry *e = &t->v[t->next];

		if (e->kind == K_FILE && e->size >= BIG && t->bigs > 0)
			return;
		t->next++;
		if (e->kind == K_FILE && t->newer)
			start_if_newer(t, t->next - 1);
		else if (e->kind == K_FILE)
			start_file(t, t->next - 1);
		else if (e->kind == K_LINK && t->put)
			put_link(t, t->next - 1);
	}
}

/* ---- the whole ---- */

static void tree_free(struct tree *t)
{
	while (t->steps != NULL)
		step_free(t->steps);
	if (t->root >= 0)
		close(t->root);
	if (t->has_cached)
		close(t->cached_fd);
	hga_free(t->local);
	hga_free(t->v);
	hga_free(t->jobs);
	hga_buf_release(&t->names);
	hga_buf_release(&t->remote);
	hga_buf_release(&t->exclude);
	hga_buf_release(&t->cached);
	hga_free(t);
}

static void tree_finish(struct tree *t)
{
	struct hga_tree *op = t->op;

	if (op != NULL) {
		op->impl = NULL;
		op->base.err = t->err;
		op->more = t->more;
		op->done = t->moved;
		op->total = t->total;
	}
	tree_free(t);
	if (op != NULL)
		hga_op_finish(&op->base);
}

static void on_finish(struct hga_sftp *f, struct hga_sftp_user *u)
{
	(void)f; /* no request is out any more */
	tree_finish((struct tree *)u);
}

static void next_phase(struct tree *t)
{
	t->next = 0;
	t->phase = t->phase == T_WALK ? T_DIRS : T_FILES;
	if (t->op == NULL)
		return;
	t->op->total = t->total;
}

/* Starts what can be started; the end comes when nothing is out. */
static void run(struct tree *t)
{
	if (t->f->fatal.kind != HGA_OK)
		return; /* the engine's end follows */
	for (;;) {
		if (t->err.kind == HGA_OK && t->op != NULL) {
			switch (t->phase) {
			case T_WALK:
				run_walk(t);
				break;
			case T_DIRS:
				run_dirs(t);
				break;
			case T_FILES:
				run_files(t);
				break;
			}
		}
		if (t->out > 0)
			return;
		if (t->err.kind != HGA_OK || t->op == NULL ||
		    (t->phase == T_FILES && t->next == t->n)) {
			hga_sftp_over(t->f, &t->user);
			return;
		}
		if (t->next == t->n)
			next_phase(t);
	}
}

static void on_begin(struct hga_sftp *f, struct hga_sftp_user *u)
{
	struct tree *t = (struct tree *)u;

	(void)f; /* set at the start */
	t->begun = true;
	run(t);
}

static void name_left(struct tree *t)
{
	size_t n = strlen(t->err.msg);

	if (t->op == NULL || t->op->left.len == 0)
		return;
	snprintf(t->err.msg + n, sizeof(t->err.msg) - n,
	         "; parts (*.hga-XXXXXXXX.part) may be left there, the first "
	         "is %.200s",
	         hga_buf_text(&t->op->left));
}

/* The engine is gone: so are all answers; jobs end as users of their own. */
static void on_user_fail(struct hga_sftp *f, struct hga_sftp_user *u,
                         const struct hga_err *err)
{
	struct tree *t = (struct tree *)u;

	if (t->err.kind == HGA_OK)
		t->err = *err;
	for (size_t i = 0; i < t->n_jobs; i++) {
		struct hga_sftp_job *j = t->jobs[i];

		if (j->put && j->asked && t->op != NULL)
			add_text(&t->op->left, hga_buf_str(&j->rpart));
		hga_sftp_unlink(f, &j->user);
		hga_sftp_job_free(j);
	}
	t->n_jobs = 0;
	name_left(t);
	tree_finish(t);
}

static int get_root(struct tree *t, struct hga_err *err)
{
	struct entry e = {.kind = K_DIR, .mode = 0755};

	int rc = hga_fs_mkdirat(AT_FDCWD, t->local, 0777, t->umask, err);

	if (rc < 0 && rc != -HGA_EXISTS)
		return rc;
	t->root = hga_fs_open(t->local, O_RDONLY | O_DIRECTORY, 0, err);
	if (t->root < 0)
		return t->root;
	return add_entry(t, HGA_STR(""), HGA_STR(""), &e, err);
}

static int put_root(struct tree *t, struct hga_err *err)
{
	t->root = hga_fs_open(t->local, O_RDONLY | O_DIRECTORY, 0, err);
	if (t->root < 0)
		return t->root;
	t->phase = T_DIRS;
	return local_walk(t, err);
}

static int take_args(struct tree *t, struct hga_ssh *ssh,
                     const struct hga_tree_args *a, struct hga_err *err)
{
	int rc = hga_sftp_path(ssh, a->remote, &t->remote, err);

	while (t->remote.len > 1 && t->remote.data[t->remote.len - 1] == '/')
		hga_buf_truncate(&t->remote, t->remote.len - 1);
	for (size_t i = 0; i < a->n_exclude && rc == 0; i++) {
		rc = hga_buf_addstr(&t->exclude, a->exclude[i], err);
		if (rc == 0)
			rc = hga_buf_addc(&t->exclude, '\0', err);
	}
	t->local = hga_strdup(a->local);
	if (rc == 0 && t->local == NULL)
		rc = hga_fail_mem(err);
	t->put = a->put;
	t->mtime = a->mtime;
	t->keep_going = a->keep_going;
	t->newer = a->newer;
	t->links =
	    !a->put && a->links == HGA_LINKS_KEEP ? HGA_LINKS_SKIP : a->links;
	t->max_files = a->max_files ? a->max_files : FILES_MAX;
	t->max_bytes = a->max_bytes;
	t->umask = (mode_t)a->umask;
	t->more.offset = t->more.status = -1;
	return rc;
}

static void tree_cancel(struct hga_op *base)
{
	struct hga_tree *op = (struct hga_tree *)base;
	struct tree *t = op->impl;
	struct hga_err err;

	op->impl = NULL;
	hga_op_drop(base);
	if (t == NULL)
		return;
	t->op = NULL;
	(void)hga_fail(&err, HGA_CANCELLED, 0, NULL, "cancelled"); /* kept */
	fail(t, &err);
	/* Before the version is known begin comes and ends it. */
	if (t->begun)
		run(t);
}

int hga_tree_start(struct hga_ssh *ssh, struct hga_tree *op,
                   const struct hga_tree_args *args, struct hga_err *err)
{
	struct hga_sftp *f;
	struct tree *t;
	int rc = hga_sftp_get(ssh, &f, err);

	if (rc < 0)
		return rc;
	t = hga_calloc(1, sizeof(*t));
	if (t == NULL)
		return hga_fail_mem(err);
	t->root = -1;
	t->f = f;
	t->op = op;
	hga_buf_init(&t->remote, 2 * REL_MAX);
	hga_buf_init(&t->exclude, 64 * 1024);
	hga_buf_init(&t->names, NAMES_MAX);
	hga_buf_init(&t->cached, REL_MAX);
	hga_buf_init(&op->skipped, NAMES_MAX);
	hga_buf_init(&op->errors, 64 * 1024);
	hga_buf_init(&op->left, 256 * 1024);
	op->files = op->dirs = op->done = op->total = op->unchanged = 0;
	op->n_errors = 0;
	rc = take_args(t, ssh, args, err);
	if (rc == 0)
		rc = hga_buf_reserve(&t->names, 256, err);
	if (rc == 0)
		rc = args->put ? put_root(t, err) : get_root(t, err);
	if (rc < 0) {
		tree_free(t);
		return rc;
	}
	op->total = t->total;
	t->user.begin = on_begin;
	t->user.fail = on_user_fail;
	t->user.finish = on_finish;
	op->impl = t;
	hga_op_begin(&op->base, tree_cancel);
	hga_sftp_link(f, &t->user);
	return 0;
}

void hga_tree_release(struct hga_tree *op)
{
	hga_op_cancel(&op->base);
	hga_buf_release(&op->skipped);
	hga_buf_release(&op->errors);
	hga_buf_release(&op->left);
}

/* ---- waiting for cleanups ---- */

static void idle_end(struct hga_sftp_idle *op)
{
	hga_timer_stop(op->ssh_->loop, &op->timer);
	hga_ssh_unref(op->ssh_);
}

static void idle_cancel(struct hga_op *base)
{
	idle_end((struct hga_sftp_idle *)base);
	hga_op_drop(base);
}

static void on_idle(struct hga_timer *timer)
{
	struct hga_sftp_idle *op = timer->data;
	const struct hga_sftp *f = op->ssh_->sftp;
	struct hga_err err;

	if (f != NULL && f->users != NULL && hga_mono_ms() < op->end_ms_ &&
	    hga_timer_start(op->ssh_->loop, timer, IDLE_MS, &err) == 0)
		return;
	idle_end(op);
	hga_op_finish(&op->base);
}

int hga_sftp_idle_start(struct hga_ssh *ssh, struct hga_sftp_idle *op,
                        int64_t timeout_ms, struct hga_err *err)
{
	int rc;

	memset(&op->timer, 0, sizeof(op->timer));
	op->timer.fn = on_idle;
	op->timer.data = op;
	rc = hga_timer_start(ssh->loop, &op->timer, 0, err);
	if (rc < 0)
		return rc;
	op->ssh_ = hga_ssh_ref(ssh);
	op->end_ms_ = hga_mono_ms() + timeout_ms;
	hga_op_begin(&op->base, idle_cancel);
	return 0;
}
