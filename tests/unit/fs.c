/* Local files: atomic writing, names, locks, trees, owners. */
#include "base/fs.h"
#include "base/mem.h"
#include "tap.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/hgauto-fs-XXXXXX";
static struct hga_err err;

static const char *in(const char *name)
{
	static char p[4][256];
	static int i;
	char *out = p[i++ % 4];

	snprintf(out, 256, "%s/%s", dir, name);
	return out;
}

static const char *content(const char *path)
{
	static char text[1024];
	struct hga_buf b;

	hga_buf_init(&b, 1000);
	snprintf(text, sizeof(text), "error");
	if (hga_fs_read(path, 1000, &b, &err) == 0)
		snprintf(text, sizeof(text), "%s", hga_buf_text(&b));
	hga_buf_release(&b);
	return text;
}

static int entries(const char *path)
{
	DIR *d = opendir(path);
	int n = 0;

	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		closedir(d);
	return n - 2;
}

static unsigned mode_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

static void test_write(void)
{
	is_int(hga_fs_replace(in("a"), HGA_STR("one"), 0640, HGA_FS_SYNC, &err),
	       0, "new file");
	is_str(content(in("a")), "one", "its content");
	is_int(mode_of(in("a")), 0640, "its mode, whatever the umask");
	is_int(hga_fs_replace(in("a"), HGA_STR("two"), 0600, 0, &err), 0,
	       "replaced");
	is_str(content(in("a")), "two", "new content");
	is_int(hga_fs_replace(in("a"), HGA_STR("x"), 0600, HGA_FS_EXCL, &err),
	       -HGA_EXISTS, "not over an existing one");
	is_str(content(in("a")), "two", "which stays");
	is_int(symlink("a", in("link")), 0, "a link");
	is_int(hga_fs_replace(in("link"), HGA_STR("three"), 0600, 0, &err), 0,
	       "onto a link");
	is_str(content(in("a")), "two", "the link's target is untouched");
	is_int(hga_fs_replace(in("no/a"), HGA_STR("x"), 0600, 0, &err),
	       -HGA_NOTFOUND, "missing directory");
	ok(strstr(err.msg, "/no/") != NULL, "named in the message");
	is_int(entries(dir), 2, "no temporary file is left");
	is_int(hga_fs_append(in("b"), HGA_STR("x"), 0600, false, &err), 0,
	       "append");
	is_int(hga_fs_append(in("b"), HGA_STR("y"), 0600, false, &err), 0,
	       "append");
	is_str(content(in("b")), "xy", "both");
	is_int(hga_fs_write(in("b"), HGA_STR("z"), 0600, &err), 0, "in place");
	is_str(content(in("b")), "z", "truncated");
	is_int(hga_fs_copy(in("b"), in("c"), 0644, &err), 0, "copy");
	is_str(content(in("c")), "z", "copied");
	is_int(hga_fs_copy(in("none"), in("c"), 0644, &err), -HGA_NOTFOUND,
	       "copy of nothing");
}

static void test_read(void)
{
	struct hga_buf b;

	hga_buf_init(&b, 5);
	is_int(hga_fs_write(in("five"), HGA_STR("12345"), 0600, &err), 0,
	       "five bytes");
	is_int(hga_fs_read(in("five"), 5, &b, &err), 0, "fit five");
	is_int((long long)b.len, 5, "all");
	hga_buf_clear(&b);
	is_int(hga_fs_read(in("five"), 4, &b, &err), -HGA_PROTOCOL,
	       "but not four");
	hga_buf_release(&b);
	is_int(hga_fs_read(in("none"), 4, &b, &err), -HGA_NOTFOUND, "missing");
	is_str(err.code, "ENOENT", "its code");
}

static void test_dirs(void)
{
	struct hga_buf b;

	is_int(hga_fs_mkdir(in("d/e/f"), 0700, true, &err), 0, "with parents");
	is_int(hga_fs_mkdir(in("d/e/f"), 0700, true, &err), 0, "again");
	is_int(hga_fs_mkdir(in("d"), 0700, false, &err), -HGA_EXISTS, "taken");
	is_int(hga_fs_mkdir(in("a"), 0700, true, &err), -HGA_EXISTS,
	       "a file in the way");
	hga_buf_init(&b, 1000);
	is_int(hga_fs_tmpdir(dir, "t-", &b, &err), 0, "temporary");
	is_int(mode_of(b.data), 0700, "its mode");
	hga_buf_release(&b);
}

static void test_rmtree(void)
{
	char cmd[512];

	is_int(hga_fs_rmtree(in("nothing"), &err), 0, "missing is fine");
	snprintf(cmd, sizeof(cmd),
	         "cd %s && mkdir -p t/a/b/c t/x/y && touch t/f t/a/b/c/g && "
	         "ln -s ../keep t/a/l && mkdir keep && touch keep/k && "
	         "mkdir t/.rm-0 && touch t/.rm-0/z && mkdir -p t/ro/sub/sub && "
	         "touch t/ro/sub/sub/q && chmod 500 t/ro/sub t/ro",
	         dir);
	is_int(system(cmd), 0, "a tree");
	is_int(hga_fs_rmtree(in("t"), &err), 0, "removed");
	is_int(access(in("t"), F_OK), -1, "gone");
	is_int(access(in("keep/k"), F_OK), 0, "links were not followed");
	is_int(hga_fs_rmtree(in("keep/k"), &err), 0, "a file");
	snprintf(cmd, sizeof(cmd),
	         "cd %s && d=deep; i=0; while [ $i -lt 300 ]; do d=$d/x; "
	         "i=$((i+1)); done; mkdir -p $d && touch $d/f",
	         dir);
	is_int(system(cmd), 0, "a deep tree");
	is_int(hga_fs_rmtree(in("deep"), &err), 0, "removed");
	is_int(access(in("deep"), F_OK), -1, "gone");
}

static void test_names(void)
{
	ok(hga_fs_name_ok(HGA_STR("a b.c\xc3\xa4")), "a name");
	ok(!hga_fs_name_ok(HGA_STR("")) && !hga_fs_name_ok(HGA_STR(".")) &&
	       !hga_fs_name_ok(HGA_STR("..")) &&
	       !hga_fs_name_ok(HGA_STR("a/b")) &&
	       !hga_fs_name_ok(HGA_STR("a\0b")) &&
	       !hga_fs_name_ok(HGA_STR("a\n")) &&
	       !hga_fs_name_ok(HGA_STR("\xff")),
	   "no names");
}

static void test_owner(void)
{
	int fd = open(in("a"), O_RDONLY);

	(void)fchmod(fd, 0640);
	is_int(hga_fs_check_owner(fd, "a", 077, false, &err), -HGA_AUTH,
	       "group bit");
	is_str(err.code, "Mode", "its code");
	(void)fchmod(fd, 0600);
	is_int(hga_fs_check_owner(fd, "a", 077, false, &err), 0, "private");
	if (geteuid() == 0 && fchown(fd, 12345, 12345) == 0) {
		is_int(hga_fs_check_owner(fd, "a", 077, true, &err), -HGA_AUTH,
		       "a foreign owner");
		is_str(err.code, "Owner", "its code");
	} else {
		skip("not root");
	}
	close(fd);
}

static void test_locks(void)
{
	int a = hga_fs_lock(in("lock"), false, &err);
	int b;

	ok(a >= 0, "locked");
	is_int(mode_of(in("lock")), 0600, "mode of the lock file");
	is_int(hga_fs_lock(in("lock"), false, &err), -HGA_EXISTS, "taken");
	is_str(err.code, "Locked", "its code");
	is_int(hga_fs_lock_wait(in("lock"), true, 20, &err), -HGA_EXISTS,
	       "waiting in vain");
	close(a);
	a = hga_fs_lock(in("lock"), true, &err);
	b = hga_fs_lock(in("lock"), true, &err);
	ok(a >= 0 && b >= 0, "shared twice");
	close(a);
	close(b);
	ok((fcntl(hga_fs_lock(in("lock"), false, &err), F_GETFD) &
	    FD_CLOEXEC) != 0,
	   "children do not inherit it");
}

static void test_system(void)
{
	uint64_t bytes = 0;
	char type[32];

	is_int(hga_fs_space(dir, &bytes, &err), 0, "space");
	ok(bytes > 0, "some");
	is_int(hga_fs_type("/proc", type, &err), 0, "type");
	is_str(type, "0x9fa0", "of a file system without a name here");
	ok(hga_fs_type_remote("nfs") && hga_fs_type_remote("fuse") &&
	       !hga_fs_type_remote("ext4") && !hga_fs_type_remote("0x1"),
	   "remote ones");
}

int main(void)
{
	(void)umask(077);
	if (mkdtemp(dir) == NULL)
		return 1;
	test_write();
	test_read();
	test_dirs();
	test_rmtree();
	test_names();
	test_owner();
	test_locks();
	test_system();
	is_int(hga_fs_rmtree(dir, &err), 0, "cleaned up");
	return done();
}
