/*
 * Models of users: where they are looked for, which version wins, the cache
 * of compiled ones and what it does not believe.
 */
#include "aws_env.h"
#include "aws_toy.h"
#include "tap.h"

#include "aws/models.h"
#include "base/fs.h"
#include "base/gzip.h"

#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[256];
static struct toy built_in; /* service "toy", version 2020-01-01 */

/* A model whose only operation is called like this. */
static void put_model(const char *rel, const char *op)
{
	char path[1024], dir[1024], text[2048];
	struct hga_err err = {0};

	snprintf(path, sizeof(path), "%s/%s", root, rel);
	snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(path, '/') - path),
	         path);
	snprintf(text, sizeof(text),
	         "{\"metadata\":{\"apiVersion\":\"x\",\"protocol\":\"json\","
	         "\"jsonVersion\":\"1.1\",\"endpointPrefix\":\"toy\","
	         "\"serviceId\":\"Toy\"},\"operations\":{\"%s\":{}},"
	         "\"shapes\":{},\"new\":1}",
	         op);
	if (hga_fs_mkdir(dir, 0700, true, &err) < 0 ||
	    hga_fs_write(path, hga_str(text), 0644, &err) < 0) {
		printf("Bail out! %s\n", err.msg);
		exit(1);
	}
}

struct look {
	struct fake_env f;
	struct hga_aws_models *m;
	char home[300], data_path[1024], cache[300];
};

static void look_init(struct look *l, const char *data_path)
{
	memset(l, 0, sizeof(*l));
	fake_init(&l->f);
	snprintf(l->home, sizeof(l->home), "%s/home", root);
	snprintf(l->cache, sizeof(l->cache), "%s/state/cache/models", root);
	fake_var(&l->f, "HOME", l->home);
	if (data_path != NULL) {
		snprintf(l->data_path, sizeof(l->data_path), "%s", data_path);
		fake_var(&l->f, "AWS_DATA_PATH", l->data_path);
	}
	if (hga_aws_models_new(&l->m, built_in.img, &l->f.env, NULL) < 0 ||
	    hga_aws_models_cache(l->m, hga_str(l->cache), NULL) < 0)
		abort();
}

static void look_release(struct look *l)
{
	hga_aws_models_free(l->m);
}

/* want: an operation of the service found, "" for none at all. */
static void finds(struct look *l, const char *service, const char *want,
                  const char *what)
{
	const struct hga_aws_svc *svc = NULL;
	struct hga_err err = {0};

	if (hga_aws_models_find(l->m, hga_str(service), &svc, &err) < 0) {
		ok(false, "%s: %s", what, err.msg);
		return;
	}
	if (want[0] == '\0')
		ok(svc == NULL, "%s", what);
	else
		ok(svc != NULL && hga_aws_op_find(svc, hga_str(want)).r != NULL,
		   "%s", what);
}

/* The same in a process of its own, so to speak. */
static void afresh(const char *data_path, const char *service, const char *want,
                   const char *what)
{
	struct look l;

	look_init(&l, data_path);
	finds(&l, service, want, what);
	look_release(&l);
}

/* Names of the files in the cache; the newest test's only. */
static size_t cached(char *path, size_t size)
{
	char pattern[512];
	size_t n;
	glob_t g;

	snprintf(pattern, sizeof(pattern), "%s/state/cache/models/*", root);
	if (glob(pattern, 0, NULL, &g) != 0)
		return 0;
	n = g.gl_pathc;
	snprintf(path, size, "%s", g.gl_pathv[0]);
	globfree(&g);
	return n;
}

static void empty_cache(void)
{
	char dir[512];

	snprintf(dir, sizeof(dir), "%s/state", root);
	if (hga_fs_rmtree(dir, NULL) < 0)
		abort();
}

static void test_places(void)
{
	char two[600], three[700];

	afresh(NULL, "toy", "DescribeThings", "without models: the built-in");
	afresh(NULL, "other", "", "no such service");
	put_model("home/.aws/models/other/2019-01-01/service-2.json", "Home");
	afresh(NULL, "other", "Home", "~/.aws/models");
	put_model("a/other/2019-01-01/service-2.json", "First");
	put_model("b/other/2019-01-01/service-2.json", "Second");
	snprintf(two, sizeof(two), "%s/a:%s/b", root, root);
	afresh(two, "other", "First", "among equal versions the first place");
	put_model("b/other/2021-01-01/service-2.json", "Newer");
	afresh(two, "other", "Newer", "a newer version wins");
	put_model("a/toy/2019-12-31/service-2.json", "Old");
	afresh(two, "toy", "DescribeThings", "the built-in is newer");
	put_model("a/toy/2020-01-01/service-2.json", "Same");
	afresh(two, "toy", "Same", "of the built-in's version: the user's");
	snprintf(three, sizeof(three), "a:b::%s/none", root);
	if (chdir(root) != 0)
		abort();
	afresh(three, "other", "Home", "relative directories are not read");
	if (chdir("/") != 0)
		abort();
	afresh(two, "../other", "", "a name is no path");
	afresh(two, "..", "", "nor a step up");
}

static void test_names(void)
{
	struct look l;
	struct hga_buf names;
	char two[600];

	snprintf(two, sizeof(two), "%s/a:%s/b", root, root);
	look_init(&l, two);
	hga_buf_init(&names, 1 << 16);
	is_int(hga_aws_models_names(l.m, &names, NULL), 0, "names");
	is_str(hga_buf_text(&names), "other\ntoy\n", "each once, sorted");
	ok(hga_str_eqc(
	       hga_aws_models_suggest(hga_buf_str(&names), HGA_STR("ohter")),
	       "other"),
	   "the nearest");
	ok(hga_aws_models_suggest(hga_buf_str(&names), HGA_STR("quite")).s ==
	       NULL,
	   "nothing near");
	hga_buf_release(&names);
	look_release(&l);
}

static void test_cache(void)
{
	char path[1024], dir[600];
	struct stat st, again;

	empty_cache();
	snprintf(dir, sizeof(dir), "%s/b", root);
	afresh(dir, "other", "Newer", "compiled");
	is_int((long long)cached(path, sizeof(path)), 1, "and kept");
	ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "mode 0600");
	ok(hga_str_ends(hga_str(path), ".hgm") &&
	       strlen(strrchr(path, '/')) == 1 + 64 + 4,
	   "named after a hash");
	afresh(dir, "other", "Newer", "read from there");
	ok(stat(path, &again) == 0 && again.st_ino == st.st_ino,
	   "it is not written again");
	put_model("b/other/2021-01-01/service-2.json", "Changed_");
	afresh(dir, "other", "Changed_", "a changed file is compiled");
	is_int((long long)cached(path, sizeof(path)), 2, "under another name");
}

static void test_damage(void)
{
	const struct hga_aws_svc *svc = NULL;
	char path[1024], dir[600];
	struct hga_buf image;
	struct hga_err err = {0};
	int good = 0, tried = 0;
	struct look l;

	empty_cache();
	snprintf(dir, sizeof(dir), "%s/b", root);
	afresh(dir, "other", "Changed_", "compiled");
	is_int((long long)cached(path, sizeof(path)), 1, "kept");
	hga_buf_init(&image, 1 << 24);
	if (hga_fs_read(path, 1 << 24, &image, &err) < 0)
		abort();
	for (size_t at = 0; at < image.len; at += 1 + image.len / 40) {
		char old = image.data[at];

		image.data[at] = (char)(old ^ 0x55);
		if (hga_fs_replace(path, hga_buf_str(&image), 0600, 0, &err) <
		    0)
			abort();
		image.data[at] = old;
		/* refused and compiled again, or a byte that means nothing */
		look_init(&l, dir);
		if (hga_aws_models_find(l.m, HGA_STR("other"), &svc, &err) ==
		        0 &&
		    svc != NULL)
			good++;
		look_release(&l);
		tried++;
	}
	is_int(good, tried, "damaged images do no harm");
	hga_buf_release(&image);
}

/* The image of another model put in its place would be seen. */
static void test_believed(void)
{
	char path[1024], other[1024], dir[600];
	struct hga_buf image;

	empty_cache();
	put_model("c/other/2021-01-01/service-2.json", "Planted");
	snprintf(dir, sizeof(dir), "%s/c", root);
	afresh(dir, "other", "Planted", "another model");
	hga_buf_init(&image, 1 << 24);
	if (cached(other, sizeof(other)) != 1 ||
	    hga_fs_read(other, 1 << 24, &image, NULL) < 0)
		abort();
	empty_cache();
	snprintf(dir, sizeof(dir), "%s/b", root);
	afresh(dir, "other", "Changed_", "compiled");
	if (cached(path, sizeof(path)) != 1 ||
	    hga_fs_replace(path, hga_buf_str(&image), 0600, 0, NULL) < 0)
		abort();
	afresh(dir, "other", "Planted", "the kept image is what is used");
	hga_buf_release(&image);
}

static void test_trust(void)
{
	char path[1024], dir[600];
	struct stat st;

	empty_cache();
	snprintf(dir, sizeof(dir), "%s/b", root);
	afresh(dir, "other", "Changed_", "compiled");
	if (cached(path, sizeof(path)) != 1 ||
	    hga_fs_write(path, HGA_STR("short"), 0600, NULL) < 0)
		abort();
	afresh(dir, "other", "Changed_", "a cut image is compiled again");
	ok(stat(path, &st) == 0 && st.st_size > 100, "and replaced");
	if (chmod(path, 0644) != 0)
		abort();
	afresh(dir, "other", "Changed_", "one that others could read too");
	ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "and closed");
	if (unlink(path) != 0 || symlink("/etc/passwd", path) != 0)
		abort();
	afresh(dir, "other", "Changed_", "a link is not followed");
}

static void test_packed(void)
{
	char dir[600], plain[700], packed[710];
	struct hga_buf text, gz;
	struct hga_err err = {0};

	snprintf(dir, sizeof(dir), "%s/z", root);
	snprintf(plain, sizeof(plain), "%s/packed/2020-01-01/service-2.json",
	         dir);
	snprintf(packed, sizeof(packed), "%s.gz", plain);
	put_model("z/packed/2020-01-01/service-2.json", "Packed");
	if (!hga_gzip_there()) {
		skip("built without zlib");
		return;
	}
	hga_buf_init(&text, 1 << 20);
	hga_buf_init(&gz, 1 << 20);
	if (hga_fs_read(plain, 1 << 20, &text, &err) < 0 ||
	    hga_gzip(&gz, hga_buf_str(&text), &err) < 0 ||
	    hga_fs_write(packed, hga_buf_str(&gz), 0644, &err) < 0 ||
	    unlink(plain) != 0)
		abort();
	afresh(dir, "packed", "Packed", "a packed model");
	hga_buf_release(&text);
	hga_buf_release(&gz);
}

static void test_broken(void)
{
	const struct hga_aws_svc *svc = NULL;
	struct hga_err err = {0};
	struct look l;
	char dir[600], path[700];

	snprintf(dir, sizeof(dir), "%s/d", root);
	snprintf(path, sizeof(path), "%s/broken/2020-01-01/service-2.json",
	         dir);
	put_model("d/broken/2020-01-01/service-2.json", "x");
	if (hga_fs_write(path, HGA_STR("{\"metadata\":"), 0644, NULL) < 0)
		abort();
	look_init(&l, dir);
	ok(hga_aws_models_find(l.m, HGA_STR("broken"), &svc, &err) ==
	           -HGA_PROTOCOL &&
	       strstr(err.msg, "/d/broken/2020-01-01") != NULL,
	   "a broken model is an error that names it: %s", err.msg);
	look_release(&l);
}

int main(void)
{
	const char *tmp = getenv("TMPDIR");
	struct hga_buf dir;

	hga_buf_init(&dir, 200);
	if (hga_fs_tmpdir(tmp != NULL ? tmp : "/tmp", "models-", &dir, NULL) <
	    0)
		abort();
	snprintf(root, sizeof(root), "%s", hga_buf_text(&dir));
	hga_buf_release(&dir);
	toy_open(&built_in, TOY_META("json") TOY_BODY);
	test_places();
	test_names();
	test_cache();
	test_believed();
	test_trust();
	test_damage();
	test_packed();
	test_broken();
	toy_close(&built_in);
	if (hga_fs_rmtree(root, NULL) < 0)
		abort();
	return done();
}
