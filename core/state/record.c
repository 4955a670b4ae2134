/* The state directory and its runs; reliability.md sections 2.1 and 2.7. */
#include "state/record.h"

#include "base/crypto.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PATH_LIMIT 65536
#define SID_LEN 12

struct hga_state {
	char *path;
	char sid[SID_LEN + 1];
	bool tightened;
};

static const char *user_name(uid_t uid, char out[32])
{
	const struct passwd *pw = getpwuid(uid);

	if (pw != NULL)
		(void)snprintf(out, 32, "%.31s", pw->pw_name);
	else
		(void)snprintf(out, 32, "uid %lu", (unsigned long)uid);
	return out;
}

static int check_dir(struct hga_state *st, int fd, struct hga_err *err)
{
	char name[32];
	char type[32];
	struct stat sb;
	int r;

	if (fstat(fd, &sb) != 0)
		return hga_fs_fail(err, errno, "stat", st->path);
	if (sb.st_uid != geteuid())
		return hga_fail(err, HGA_AUTH, 0, "Owner",
		                "%s: owned by %s, not by you; nothing was read",
		                st->path, user_name(sb.st_uid, name));
	r = hga_fs_type(st->path, type, err);
	if (r < 0)
		return r;
	if (hga_fs_type_remote(type))
		return hga_fail(err, HGA_AUTH, 0, "Filesystem",
		                "%s is on %s; file locks are not reliable "
		                "there",
		                st->path, type);
	if ((sb.st_mode & 077) == 0)
		return 0;
	if (fchmod(fd, 0700) != 0)
		return hga_fs_fail(err, errno, "set the mode of", st->path);
	st->tightened = true;
	return 0;
}

static bool sid_ok(struct hga_str s)
{
	if (s.n != SID_LEN)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!(s.s[i] >= '0' && s.s[i] <= '9') &&
		    !(s.s[i] >= 'a' && s.s[i] <= 'f'))
			return false;
	return true;
}

static int read_sid(struct hga_state *st, const char *path, struct hga_err *err)
{
	struct hga_buf text;
	struct hga_str sid;
	int r;

	hga_buf_init(&text, 256);
	r = hga_fs_read(path, 64, &text, err);
	sid = hga_str_trim(hga_buf_str(&text));
	if (r == 0 && !sid_ok(sid))
		r = hga_fail(err, HGA_IO, 0, "Damaged",
		             "%s does not hold 12 hex digits", path);
	if (r == 0)
		memcpy(st->sid, sid.s, SID_LEN);
	hga_buf_release(&text);
	return r;
}

static int ensure_sid(struct hga_state *st, struct hga_err *err)
{
	char token[33];
	struct hga_buf path;
	int r;

	hga_buf_init(&path, PATH_LIMIT);
	r = hga_buf_addf(&path, err, "%s/sid", st->path);
	if (r == 0)
		r = read_sid(st, path.data, err);
	if (r == -HGA_NOTFOUND) {
		r = hga_token(token, err);
		token[SID_LEN] = '\n';
		if (r == 0)
			r = hga_fs_replace(path.data,
			                   hga_strn(token, SID_LEN + 1), 0600,
			                   HGA_FS_SYNC | HGA_FS_EXCL, err);
		/* another process may have been first */
		if (r == 0 || r == -HGA_EXISTS)
			r = read_sid(st, path.data, err);
	}
	hga_buf_release(&path);
	return r;
}

int hga_state_open(const char *dir, bool create, struct hga_state **out,
                   struct hga_err *err)
{
	struct hga_state *st;
	int fd = -1;
	int r = 0;

	if (getuid() != geteuid() || getgid() != getegid())
		return hga_fail(err, HGA_AUTH, 0, "Setuid",
		                "hgauto does not run with a setuid or setgid "
		                "bit");
	if (create)
		r = hga_fs_mkdir(dir, 0700, true, err);
	if (r < 0)
		return r;
	st = hga_calloc(1, sizeof(*st));
	if (st == NULL)
		return hga_fail_mem(err);
	st->path = realpath(dir, NULL);
	if (st->path == NULL)
		r = hga_fs_fail(err, errno, "open", dir);
	if (r == 0)
		r = fd = hga_fs_open(
		    st->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, err);
	if (fd >= 0) {
		r = check_dir(st, fd, err);
		(void)close(fd); /* was only read */
	}
	if (r == 0)
		r = ensure_sid(st, err);
	if (r < 0)
		hga_state_free(st);
	else
		*out = st;
	return r;
}

void hga_state_free(struct hga_state *st)
{
	if (st == NULL)
		return;
	free(st->path); /* realpath's */
	hga_free(st);
}

const char *hga_state_path(const struct hga_state *st)
{
	return st->path;
}

const char *hga_state_sid(const struct hga_state *st)
{
	return st->sid;
}

bool hga_state_tightened(const struct hga_state *st)
{
	return st->tightened;
}

int hga_state_file(const struct hga_state *st, const char *name,
                   struct hga_buf *out, struct hga_err *err)
{
	size_t start = out->len;
	const char *part = name;
	int r = hga_buf_adds(out, st->path, err);

	while (r == 0) {
		const char *slash = strchrnul(part, '/');
		struct hga_str c = {part, (size_t)(slash - part)};

		if (!hga_fs_name_ok(c))
			return hga_fail(err, HGA_USAGE, 0, "Name",
			                "\"%.200s\" is not a file name inside "
			                "the state directory",
			                name);
		r = hga_buf_addc(out, '/', err);
		if (r == 0)
			r = hga_buf_addstr(out, c, err);
		if (*slash == '\0')
			break;
		if (r == 0)
			r = hga_fs_mkdir(out->data + start, 0700, true, err);
		part = slash + 1;
	}
	return r;
}

/* ---- runs ---- */

struct hga_run {
	char id[HGA_RUN_ID];
	char *dir;
	int lock_fd;
};

bool hga_run_id_ok(struct hga_str id)
{
	static const char shape[] = "dddddddd-dddd-xxxx";

	if (id.n != sizeof(shape) - 1)
		return false;
	for (size_t i = 0; i < id.n; i++) {
		char c = id.s[i];
		bool digit = c >= '0' && c <= '9';

		if (shape[i] == 'd'   ? !digit
		    : shape[i] == '-' ? c != '-'
		                      : !digit && !(c >= 'a' && c <= 'z'))
			return false;
	}
	return true;
}

/* Appends the path of a file of a run, making the directories above. */
static int run_file(const struct hga_state *st, const char *id,
                    const char *file, struct hga_buf *out, struct hga_err *err)
{
	char name[HGA_RUN_ID + 32];

	if (!hga_run_id_ok(hga_str(id)))
		return hga_fail(err, HGA_USAGE, 0, "Run",
		                "\"%.40s\" is not the ID of a run", id);
	(void)snprintf(name, sizeof(name), "runs/%s/%s", id, file);
	return hga_state_file(st, name, out, err);
}

static int make_id(char out[HGA_RUN_ID], struct hga_err *err)
{
	static const char abc[] = "abcdefghjkmnpqrstvwxyz23456789";
	uint8_t rnd[4];
	struct hga_date d;
	int r = hga_random(rnd, sizeof(rnd), err);

	if (r < 0)
		return r;
	hga_date_of(hga_wall_us(), &d);
	(void)snprintf(out, HGA_RUN_ID, "%04d%02d%02d-%02d%02d-%c%c%c%c",
	               d.year % 10000, d.month % 100, d.day % 100, d.hour % 100,
	               d.min % 100, abc[rnd[0] % 30], abc[rnd[1] % 30],
	               abc[rnd[2] % 30], abc[rnd[3] % 30]);
	return 0;
}

/* mkdir decides whose the ID is. */
static int claim_dir(const struct hga_state *st, struct hga_run *run,
                     struct hga_err *err)
{
	struct hga_buf dir;
	char name[HGA_RUN_ID + 8];
	int r = -HGA_EXISTS;

	hga_buf_init(&dir, PATH_LIMIT);
	for (int tries = 0; tries < 100 && r == -HGA_EXISTS; tries++) {
		hga_buf_clear(&dir);
		r = make_id(run->id, err);
		(void)snprintf(name, sizeof(name), "runs/%s", run->id);
		if (r == 0)
			r = hga_state_file(st, name, &dir, err);
		if (r == 0)
			r = hga_fs_mkdir(dir.data, 0700, false, err);
	}
	if (r == 0)
		run->dir = hga_buf_move(&dir);
	hga_buf_release(&dir);
	return r;
}

static int flock_soon(int fd)
{
	const struct timespec step = {0, 2000000};

	/* a process that asks whether we live holds it for an instant */
	for (int i = 0; i < 500; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -1;
		(void)nanosleep(&step, NULL); /* cut short: tried sooner */
	}
	return -1;
}

static int lock_run(struct hga_run *run, struct hga_err *err)
{
	struct hga_buf path;
	int r;

	hga_buf_init(&path, PATH_LIMIT);
	r = hga_buf_addf(&path, err, "%s/lock", run->dir);
	if (r == 0)
		r = hga_fs_open(path.data,
		                O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600,
		                err);
	if (r >= 0) {
		run->lock_fd = r;
		r = flock_soon(run->lock_fd) == 0
		        ? hga_fs_sync_dir(path.data, err)
		        : hga_fs_fail(err, errno, "lock", path.data);
	}
	if (r == 0)
		r = hga_fs_sync_dir(run->dir, err);
	hga_buf_release(&path);
	return r;
}

int hga_run_new(const struct hga_state *st, struct hga_run **out,
                struct hga_err *err)
{
	struct hga_run *run = hga_calloc(1, sizeof(*run));
	int r;

	if (run == NULL)
		return hga_fail_mem(err);
	run->lock_fd = -1;
	r = claim_dir(st, run, err);
	if (r == 0)
		r = lock_run(run, err);
	if (r < 0)
		hga_run_free(run);
	else
		*out = run;
	return r;
}

void hga_run_free(struct hga_run *run)
{
	if (run == NULL)
		return;
	if (run->lock_fd >= 0)
		(void)close(run->lock_fd); /* the kernel unlocks */
	hga_free(run->dir);
	hga_free(run);
}

const char *hga_run_id(const struct hga_run *run)
{
	return run->id;
}

const char *hga_run_dir(const struct hga_run *run)
{
	return run->dir;
}

int hga_run_lock_fd(const struct hga_run *run)
{
	return run->lock_fd;
}

bool hga_run_lost(const struct hga_run *run)
{
	struct stat sb;

	return fstat(run->lock_fd, &sb) != 0 || sb.st_nlink == 0;
}

int hga_run_alive(const struct hga_state *st, const char *id,
                  struct hga_err *err)
{
	struct hga_buf path;
	int fd;
	int r;

	if (!hga_run_id_ok(hga_str(id)))
		return hga_fail(err, HGA_USAGE, 0, "Run",
		                "\"%.40s\" is not the ID of a run", id);
	hga_buf_init(&path, PATH_LIMIT);
	r = hga_buf_addf(&path, err, "%s/runs/%s/lock", st->path, id);
	if (r < 0)
		goto out;
	fd = hga_fs_open(path.data, O_RDONLY | O_NOFOLLOW, 0, err);
	if (fd < 0) {
		r = fd == -HGA_NOTFOUND ? 0 : fd;
		goto out;
	}
	/* shared: two who ask at once do not see each other */
	r = flock(fd, LOCK_SH | LOCK_NB) != 0;
	if (r == 1 && errno != EWOULDBLOCK)
		r = hga_fs_fail(err, errno, "lock", path.data);
	(void)close(fd); /* was only read */
out:
	hga_buf_release(&path);
	return r;
}

int hga_run_take(const struct hga_state *st, const char *id,
                 struct hga_err *err)
{
	struct hga_buf path;
	int r;

	hga_buf_init(&path, PATH_LIMIT);
	r = run_file(st, id, "lock", &path, err);
	if (r == 0)
		r = hga_fs_lock_wait(path.data, false, 20, err);
	hga_buf_release(&path);
	return r;
}

static int run_dirs_only(const struct dirent *e)
{
	return hga_run_id_ok(hga_str(e->d_name));
}

int hga_run_list(const struct hga_state *st, struct hga_buf *out,
                 struct hga_err *err)
{
	struct dirent **list = NULL;
	struct hga_buf dir;
	int n;
	int r;

	hga_buf_init(&dir, PATH_LIMIT);
	r = hga_buf_addf(&dir, err, "%s/runs", st->path);
	if (r < 0)
		goto out;
	n = scandir(dir.data, &list, run_dirs_only, alphasort);
	if (n < 0 && errno != ENOENT)
		r = hga_fs_fail(err, errno, "list", dir.data);
	for (int i = 0; i < n; i++) {
		if (r == 0)
			r = hga_buf_add(out, list[i]->d_name,
			                strlen(list[i]->d_name) + 1, err);
		free(list[i]); /* scandir's */
	}
	free(list); /* scandir's */
out:
	hga_buf_release(&dir);
	return r;
}
