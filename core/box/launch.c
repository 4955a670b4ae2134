/*
 * The specification of an instance as bytes, and the start of its keeper with
 * nothing but the descriptors it needs.  Local cloud specification, 2.1.
 */
#include "box/inner.h"

#include "base/str.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum {
	LOWEST_FD = 10
}; /* above the keeper's numbers */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd); /* sockets, pipes, memory files */
	*fd = -1;
}

int hga_box_put_u16(struct hga_buf *b, unsigned v, struct hga_err *err)
{
	uint8_t room[2];
	struct hga_box_wr w = {room, 0, sizeof(room), false};

	hga_box_wr_u16(&w, v);
	return hga_buf_add(b, room, sizeof(room), err);
}

int hga_box_put_u32(struct hga_buf *b, uint32_t v, struct hga_err *err)
{
	uint8_t room[4];
	struct hga_box_wr w = {room, 0, sizeof(room), false};

	hga_box_wr_u32(&w, v);
	return hga_buf_add(b, room, sizeof(room), err);
}

int hga_box_put_text(struct hga_buf *b, const char *s, struct hga_err *err)
{
	size_t n = s ? strlen(s) : 0;
	int r;

	if (n > HGA_BOX_SPEC)
		return hga_fail(err, HGA_USAGE, 0, "TooLarge", "text");
	r = hga_box_put_u32(b, (uint32_t)n, err);
	return r < 0 ? r : hga_buf_add(b, s ? s : "", n, err);
}

/* ---- specification ---- */

static int put_record(struct hga_buf *b, enum hga_box_tag tag, const char *s,
                      struct hga_err *err)
{
	int r = hga_box_put_u16(b, tag, err);

	return r < 0 ? r : hga_box_put_text(b, s, err);
}

static int put_file(struct hga_buf *b, const struct hga_box_file *f,
                    struct hga_err *err)
{
	const char *owner = f->owner ? f->owner : "root";
	size_t n = 12 + strlen(owner) + strlen(f->path) + f->len;
	int r;

	if (f->len > HGA_BOX_RECORD || n > HGA_BOX_RECORD)
		return hga_fail(err, HGA_USAGE, 0, "TooLarge",
		                "file %.200s has more than 4 MiB", f->path);
	if ((r = hga_box_put_u16(b, HGA_BOX_TAG_FILE, err)) < 0 ||
	    (r = hga_box_put_u32(b, (uint32_t)n, err)) < 0 ||
	    (r = hga_box_put_u32(b, f->mode, err)) < 0 ||
	    (r = hga_box_put_text(b, owner, err)) < 0 ||
	    (r = hga_box_put_text(b, f->path, err)) < 0)
		return r;
	return hga_buf_add(b, f->data ? f->data : "", f->len, err);
}

static int put_user(struct hga_buf *b, const struct hga_box_user *u,
                    struct hga_err *err)
{
	const char *shell = u->shell ? u->shell : "";
	const char *groups = u->groups ? u->groups : "";
	size_t n = 12 + strlen(u->name) + strlen(shell) + strlen(groups);
	int r;

	if (n > HGA_BOX_RECORD)
		return hga_fail(err, HGA_USAGE, 0, "TooLarge", "user");
	if ((r = hga_box_put_u16(b, HGA_BOX_TAG_USER, err)) < 0 ||
	    (r = hga_box_put_u32(b, (uint32_t)n, err)) < 0 ||
	    (r = hga_box_put_text(b, u->name, err)) < 0 ||
	    (r = hga_box_put_text(b, shell, err)) < 0)
		return r;
	return hga_box_put_text(b, groups, err);
}

int hga_box_put_rule(struct hga_buf *b, const struct hga_box_rule *rule,
                     struct hga_err *err)
{
	uint8_t room[HGA_BOX_RULE_SIZE];
	struct hga_box_wr w = {room, 0, sizeof(room), false};

	hga_box_wr_rule(&w, rule);
	return hga_buf_add(b, room, w.n, err);
}

static int put_rule(struct hga_buf *b, const struct hga_box_rule *rule,
                    struct hga_err *err)
{
	int r;

	if ((r = hga_box_put_u16(b, HGA_BOX_TAG_RULE, err)) < 0 ||
	    (r = hga_box_put_u32(b, HGA_BOX_RULE_SIZE, err)) < 0)
		return r;
	return hga_box_put_rule(b, rule, err);
}

static int put_disk(struct hga_buf *b, const struct hga_box_disk *d,
                    struct hga_err *err)
{
	size_t n = 8 + strlen(d->path) + strlen(d->names);
	int r;

	if (n > HGA_BOX_RECORD)
		return hga_fail(err, HGA_USAGE, 0, "TooLarge", "volume");
	if ((r = hga_box_put_u16(b, HGA_BOX_TAG_DISK, err)) < 0 ||
	    (r = hga_box_put_u32(b, (uint32_t)n, err)) < 0 ||
	    (r = hga_box_put_text(b, d->path, err)) < 0)
		return r;
	return hga_box_put_text(b, d->names, err);
}

static int put_lists(struct hga_buf *b, const struct hga_box_args *a,
                     struct hga_err *err)
{
	char port[8];
	int r = 0;

	for (size_t i = 0; r == 0 && i < a->n_host_ports; i++) {
		(void)snprintf(port, sizeof(port), "%u",
		               (unsigned)a->host_ports[i]); /* fits */
		r = put_record(b, HGA_BOX_TAG_HOST_PORT, port, err);
	}
	for (size_t i = 0; r == 0 && i < a->n_layers; i++)
		r = put_record(b, HGA_BOX_TAG_LAYER, a->layers[i], err);
	for (size_t i = 0; r == 0 && i < a->n_users; i++)
		r = put_user(b, &a->users[i], err);
	for (size_t i = 0; r == 0 && i < a->n_files; i++)
		r = put_file(b, &a->files[i], err);
	for (size_t i = 0; r == 0 && i < a->n_disks; i++)
		r = put_disk(b, &a->disks[i], err);
	for (size_t i = 0; r == 0 && i < a->n_rules; i++)
		r = put_rule(b, &a->rules[i], err);
	return r;
}

static int build_spec(struct hga_buf *b, const struct hga_box_args *a,
                      struct hga_err *err)
{
	int r;

	if ((r = put_record(b, HGA_BOX_TAG_HOSTNAME, a->hostname, err)) < 0 ||
	    (r = put_record(b, HGA_BOX_TAG_IMAGES_DIR, a->images_dir, err)) <
	        0 ||
	    (r = put_record(b, HGA_BOX_TAG_UPPER, a->upper, err)) < 0 ||
	    (r = put_record(b, HGA_BOX_TAG_WORK, a->work, err)) < 0 ||
	    (r = put_record(b, HGA_BOX_TAG_NET,
	                    a->redirect ? "redirect" : "none", err)) < 0)
		return r;
	if (a->dns != NULL &&
	    (r = put_record(b, HGA_BOX_TAG_DNS, a->dns, err)) < 0)
		return r;
	if (a->address != NULL &&
	    (r = put_record(b, HGA_BOX_TAG_ADDRESS, a->address, err)) < 0)
		return r;
	if (a->private_ip != NULL &&
	    (r = put_record(b, HGA_BOX_TAG_PRIVATE_IP, a->private_ip, err)) < 0)
		return r;
	return put_lists(b, a, err);
}

/* Memory file with the records: keys in it never reach a disk. */
static int spec_fd(const struct hga_box_args *a, int *out, struct hga_err *err)
{
	struct hga_buf b;
	size_t done = 0;
	int fd, r;

	hga_buf_init(&b, HGA_BOX_SPEC);
	r = build_spec(&b, a, err);
	fd = r < 0 ? -1 : memfd_create("hgauto-spec", MFD_CLOEXEC);
	if (r == 0 && fd < 0)
		r = hga_fail(err, HGA_IO, errno, "spawn", "memory file");
	while (r == 0 && done < b.len) {
		ssize_t n = write(fd, b.data + done, b.len - done);

		if (n < 0 && errno != EINTR)
			r = hga_fail(err, HGA_IO, errno, "spawn",
			             "memory file");
		if (n > 0)
			done += (size_t)n;
	}
	hga_buf_release_secret(&b);
	if (r < 0)
		close_fd(&fd);
	*out = fd;
	return r;
}

/* ---- spawning the keeper ---- */

enum {
	CHILD_CTL,
	CHILD_SPEC,
	CHILD_LIFE,
	CHILD_LOG,
	CHILD_N
};

struct plumbing {
	int child[CHILD_N]; /* all >= LOWEST_FD */
	int ctl, life;      /* ours */
};

static int lift(int *fd)
{
	int high = fcntl(*fd, F_DUPFD_CLOEXEC, LOWEST_FD);

	if (high < 0)
		return -1;
	close_fd(fd);
	*fd = high;
	return 0;
}

static int open_plumbing(struct plumbing *pl, const char *log,
                         struct hga_err *err)
{
	int pair[2], pipe_fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return hga_fail(err, HGA_IO, errno, "spawn", "socket pair");
	pl->ctl = pair[0];
	pl->child[CHILD_CTL] = pair[1];
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return hga_fail(err, HGA_IO, errno, "spawn", "pipe");
	pl->child[CHILD_LIFE] = pipe_fds[0];
	pl->life = pipe_fds[1];
	pl->child[CHILD_LOG] =
	    open(log ? log : "/dev/null",
	         O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (pl->child[CHILD_LOG] < 0)
		return hga_fail(err, HGA_IO, errno, "spawn", "%.200s",
		                log ? log : "/dev/null");
	for (int i = 0; i < CHILD_N; i++)
		if (lift(&pl->child[i]) < 0)
			return hga_fail(err, HGA_IO, errno, "spawn",
			                "descriptors");
	if (fcntl(pl->ctl, F_SETFL, O_NONBLOCK) < 0)
		return hga_fail(err, HGA_IO, errno, "spawn", "socket");
	return 0;
}

static int file_actions(posix_spawn_file_actions_t *fa,
                        const struct plumbing *pl)
{
	int r =
	    posix_spawn_file_actions_addopen(fa, 0, "/dev/null", O_RDONLY, 0);

	if (r == 0)
		r = posix_spawn_file_actions_addopen(fa, 1, "/dev/null",
		                                     O_WRONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(fa, pl->child[CHILD_LOG],
		                                     2);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(fa, pl->child[CHILD_CTL],
		                                     HGA_BOX_FD_CTL);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(fa, pl->child[CHILD_SPEC],
		                                     HGA_BOX_FD_SPEC);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(fa, pl->child[CHILD_LIFE],
		                                     HGA_BOX_FD_LIFE);
	return r;
}

/* Own session: no signal of the daemon's terminal reaches it. */
static int attributes(posix_spawnattr_t *at)
{
	sigset_t all, none;
	int r;

	(void)sigfillset(&all);
	(void)sigemptyset(&none);
	r = posix_spawnattr_setsigdefault(at, &all);
	if (r == 0)
		r = posix_spawnattr_setsigmask(at, &none);
	if (r == 0)
		r = posix_spawnattr_setflags(at, POSIX_SPAWN_SETSID |
		                                     POSIX_SPAWN_SETSIGDEF |
		                                     POSIX_SPAWN_SETSIGMASK);
	return r;
}

static int spawn(const char *program, const struct plumbing *pl, pid_t *pid)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	char name[] = "hgauto-box", mode[] = "run";
	char *argv[] = {name, mode, NULL}, *env[] = {NULL};
	int r = posix_spawn_file_actions_init(&fa);

	if (r != 0)
		return r;
	r = posix_spawnattr_init(&at);
	if (r == 0) {
		r = file_actions(&fa, pl);
		if (r == 0)
			r = attributes(&at);
		if (r == 0)
			r = posix_spawn(pid, program, &fa, &at, argv, env);
		(void)posix_spawnattr_destroy(&at);
	}
	(void)posix_spawn_file_actions_destroy(&fa);
	return r;
}

int hga_box_launch(const struct hga_box_args *a, struct hga_box_launched *out,
                   struct hga_err *err)
{
	struct plumbing pl = {{-1, -1, -1, -1}, -1, -1};
	int r = spec_fd(a, &pl.child[CHILD_SPEC], err), sys;

	if (r == 0)
		r = open_plumbing(&pl, a->log, err);
	if (r == 0) {
		sys = spawn(a->program, &pl, &out->keeper);
		if (sys != 0)
			r = hga_fail(err, HGA_IO, sys, "spawn", "run %.200s",
			             a->program);
	}
	for (size_t i = 0; i < CHILD_N; i++)
		close_fd(&pl.child[i]);
	if (r < 0) {
		close_fd(&pl.ctl);
		close_fd(&pl.life);
	}
	out->ctl = pl.ctl;
	out->life = pl.life;
	return r;
}
