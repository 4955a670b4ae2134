/*
 * Files and users of the specification, written by pid 1 after it entered
 * the instance's root.  No path component may be a link: an image must not
 * be able to send a write elsewhere.
 */
#include "box/guest/guest.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
	FILE_MAX = 4 << 20
};

/* Next component of *path into leaf; false when it is empty, . or .. */
static bool component(const char **path, char leaf[256])
{
	size_t n;

	*path += strspn(*path, "/");
	n = strcspn(*path, "/");
	if (n == 0 || n > 255 || (n == 1 && (*path)[0] == '.') ||
	    (n == 2 && (*path)[0] == '.' && (*path)[1] == '.'))
		return false;
	memcpy(leaf, *path, n);
	leaf[n] = '\0';
	*path += n;
	return true;
}

/* Opens a directory below dir; made with its parent's owner if asked. */
static int step_into(int dir, const char *name, bool make)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dir, name, flags);
	struct stat st;

	if (fd >= 0 || errno != ENOENT || !make)
		return fd;
	if (mkdirat(dir, name, 0755) < 0 || fstat(dir, &st) < 0)
		return -1;
	fd = openat(dir, name, flags);
	if (fd >= 0 &&
	    (fchown(fd, st.st_uid, st.st_gid) < 0 || fchmod(fd, 0755) < 0)) {
		(void)close(fd); /* the first error counts */
		return -1;
	}
	return fd;
}

int files_parent(const char *path, bool make, char leaf[256], struct fault *f)
{
	const char *rest = path;
	int dir;

	if (path[0] != '/' || !component(&rest, leaf))
		return fault_set(f, "file", EINVAL, "path %.200s", path);
	dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (dir >= 0 && rest[strspn(rest, "/")] != '\0') {
		int next = step_into(dir, leaf, make);
		int sys = errno;

		(void)close(dir); /* was only read */
		errno = sys;
		dir = next;
		if (dir >= 0 && !component(&rest, leaf)) {
			(void)close(dir);
			errno = EINVAL;
			dir = -1;
		}
	}
	if (dir < 0)
		return fault_set(f, "file", errno, "directory of %.200s", path);
	return dir;
}

static int read_fd(int fd, struct grow *out)
{
	char buf[4096];
	ssize_t r;

	while ((r = read(fd, buf, sizeof(buf))) > 0) {
		grow_add(out, buf, (size_t)r);
		if (out->bad || out->n > FILE_MAX) {
			errno = EFBIG;
			return -1;
		}
	}
	return r < 0 ? -1 : 0;
}

int files_read(const char *path, struct grow *out, struct fault *f)
{
	char leaf[256];
	int dir, fd, r = 0;

	memset(out, 0, sizeof(*out));
	dir = files_parent(path, false, leaf, f);
	if (dir < 0)
		return f->sys == ENOENT ? 0 : -1;
	fd = openat(dir, leaf, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno != ENOENT)
		r = fault_set(f, "file", errno, "read %.200s", path);
	if (fd >= 0 && read_fd(fd, out) < 0)
		r = fault_set(f, "file", errno, "read %.200s", path);
	if (fd >= 0)
		(void)close(fd); /* was only read */
	(void)close(dir);
	return r;
}

static int write_all(int fd, struct hga_box_text t)
{
	while (t.n > 0) {
		ssize_t r = write(fd, t.s, t.n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -1;
		t.s += r;
		t.n -= (size_t)r;
	}
	return 0;
}

struct ids {
	uid_t uid;
	gid_t gid;
};

/* New file `leaf` in dir; what stood there is replaced, a directory not. */
static int write_at(int dir, const char *leaf, struct hga_box_text data,
                    mode_t mode, struct ids own)
{
	int fd, r;

	if (unlinkat(dir, leaf, 0) < 0 && errno != ENOENT)
		return -1;
	fd = openat(dir, leaf,
	            O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	r = write_all(fd, data);
	if (r == 0)
		r = fchown(fd, own.uid, own.gid);
	if (r == 0)
		r = fchmod(fd, mode);
	if (close(fd) < 0)
		r = -1;
	return r;
}

/* Directory `leaf` in dir with this mode and owner. */
static int make_dir(int dir, const char *leaf, mode_t mode, struct ids own)
{
	int fd = step_into(dir, leaf, true), r;

	if (fd < 0)
		return -1;
	r = fchown(fd, own.uid, own.gid);
	if (r == 0)
		r = fchmod(fd, mode);
	(void)close(fd); /* a directory */
	return r;
}

static int owner_of(const char *name, struct ids *out, struct fault *f)
{
	struct grow pw;
	struct account a;
	bool found;

	out->uid = 0;
	out->gid = 0;
	if (name[0] == '\0' || strcmp(name, "root") == 0)
		return 0;
	if (files_read("/etc/passwd", &pw, f) < 0)
		return -1;
	found = passwd_find((struct hga_box_text){pw.p, pw.n}, name, &a);
	grow_free(&pw);
	if (!found)
		return fault_set(f, "file", 0, "the image has no user %s",
		                 name);
	out->uid = a.uid;
	out->gid = a.gid;
	return 0;
}

int files_write(const struct spec_file *file, struct fault *f)
{
	char path[PATH_MAX], owner[64], leaf[256];
	struct ids own;
	int dir, r;

	if (!text_copy(path, sizeof(path), file->path) ||
	    !text_copy(owner, sizeof(owner), file->owner))
		return fault_set(f, "file", EINVAL, "path or owner");
	if (owner_of(owner, &own, f) < 0)
		return -1;
	dir = files_parent(path, true, leaf, f);
	if (dir < 0)
		return -1;
	r = path[strlen(path) - 1] == '/'
	        ? make_dir(dir, leaf, (mode_t)file->mode, own)
	        : write_at(dir, leaf, file->data, (mode_t)file->mode, own);
	if (r < 0)
		(void)fault_set(f, "file", errno, "%.200s", path); /* is -1 */
	(void)close(dir); /* a directory */
	return r;
}

/* ---- users ---- */

/* Replaces an account file in one step; mode and owner stay. */
static int replace(const char *path, const struct grow *text, struct fault *f)
{
	char leaf[256];
	struct stat st = {.st_mode = 0644};
	int dir = files_parent(path, false, leaf, f), r;

	if (dir < 0)
		return -1;
	r = text->bad ? -1 : 0;
	if (r < 0)
		errno = ENOMEM;
	if (r == 0 && fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
	    errno != ENOENT)
		r = -1;
	if (r == 0)
		r = write_at(
		    dir, ".hgauto.new", (struct hga_box_text){text->p, text->n},
		    st.st_mode & 07777, (struct ids){st.st_uid, st.st_gid});
	if (r == 0)
		r = renameat(dir, ".hgauto.new", dir, leaf);
	if (r < 0)
		(void)fault_set(f, "user", errno, "%s", path); /* is -1 */
	(void)close(dir);
	return r;
}

struct accounts { /* the four files, while users are added */
	struct grow passwd, shadow, group, gshadow;
};

static struct hga_box_text view(const struct grow *g)
{
	return (struct hga_box_text){g->p ? g->p : "", g->n};
}

static void end_line(struct grow *g)
{
	if (g->n > 0 && g->p[g->n - 1] != '\n')
		grow_add(g, "\n", 1);
}

static void join(struct grow *file, const char *group, const char *user)
{
	struct grow next = {0};

	group_join(view(file), group, user, &next);
	if (next.p == NULL && !next.bad)
		return;
	next.bad |= file->bad;
	grow_free(file);
	*file = next;
}

static int add_account(struct accounts *a, const struct spec_user *u,
                       struct fault *f)
{
	char name[64], shell[256], groups[512], *save = NULL;
	struct account known;
	unsigned long id;

	if (!text_copy(name, sizeof(name), u->name) || !account_name_ok(name) ||
	    !text_copy(shell, sizeof(shell), u->shell) ||
	    strpbrk(shell, ":\n") != NULL ||
	    !text_copy(groups, sizeof(groups), u->groups))
		return fault_set(f, "user", EINVAL, "name, shell or groups");
	if (passwd_find(view(&a->passwd), name, &known))
		return 0;
	id = account_free_id(view(&a->passwd), view(&a->group));
	if (id == 0)
		return fault_set(f, "user", ENOSPC, "no free user id");
	end_line(&a->passwd);
	end_line(&a->shadow);
	end_line(&a->group);
	end_line(&a->gshadow);
	grow_addf(&a->passwd, "%s:x:%lu:%lu::/home/%s:%s\n", name, id, id, name,
	          shell[0] ? shell : "/bin/sh");
	/* '*' allows keys; '!' would lock the account for sshd */
	grow_addf(&a->shadow, "%s:*:19000:0:99999:7:::\n", name);
	grow_addf(&a->group, "%s:x:%lu:\n", name, id);
	grow_addf(&a->gshadow, "%s:!::\n", name);
	for (char *g = strtok_r(groups, ",", &save); g;
	     g = strtok_r(NULL, ",", &save)) {
		join(&a->group, g, name);
		join(&a->gshadow, g, name);
	}
	return 1;
}

static int make_home(const struct spec_user *u, struct fault *f)
{
	char name[64], path[80];
	struct spec_file home = {.mode = 0755, .owner = u->name};

	if (!text_copy(name, sizeof(name), u->name))
		return fault_set(f, "user", EINVAL, "name");
	(void)snprintf(path, sizeof(path), "/home/%s/", name); /* fits */
	home.path.s = path;
	home.path.n = strlen(path);
	return files_write(&home, f);
}

static int save_accounts(struct accounts *a, struct fault *f)
{
	if (replace("/etc/group", &a->group, f) < 0 ||
	    replace("/etc/gshadow", &a->gshadow, f) < 0 ||
	    replace("/etc/shadow", &a->shadow, f) < 0 ||
	    replace("/etc/passwd", &a->passwd, f) < 0)
		return -1;
	return 0;
}

static int load_accounts(struct accounts *a, struct fault *f)
{
	if (files_read("/etc/passwd", &a->passwd, f) < 0 ||
	    files_read("/etc/shadow", &a->shadow, f) < 0 ||
	    files_read("/etc/group", &a->group, f) < 0 ||
	    files_read("/etc/gshadow", &a->gshadow, f) < 0)
		return -1;
	return 0;
}

int files_users(const struct spec *s, struct fault *f)
{
	struct accounts a = {0};
	bool made[SPEC_USERS] = {false};
	size_t added = 0;
	int r;

	if (s->n_users == 0)
		return 0;
	r = load_accounts(&a, f);
	for (size_t i = 0; r >= 0 && i < s->n_users; i++) {
		r = add_account(&a, &s->users[i], f);
		made[i] = r > 0;
		added += r > 0;
	}
	if (r >= 0 && added > 0)
		r = save_accounts(&a, f);
	for (size_t i = 0; r >= 0 && i < s->n_users; i++)
		if (made[i])
			r = make_home(&s->users[i], f);
	grow_free(&a.passwd);
	grow_free(&a.shadow);
	grow_free(&a.group);
	grow_free(&a.gshadow);
	return r < 0 ? -1 : 0;
}
