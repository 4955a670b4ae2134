/*
 * Services from the built-in image and from the model directories of users.
 */
#include "aws/models.h"

#include "aws/modelc.h"
#include "aws/valid.h"
#include "base/fs.h"
#include "base/gzip.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef HGA_VERSION
#define HGA_VERSION "0"
#endif

#define LABEL "aws"
#define FILE_MAX ((size_t)64 << 20)
#define IMAGE_MAX ((size_t)256 << 20)
#define PATH_SIZE 4096
#define NAMES_MAX 1000

enum {
	F_SERVICE,
	F_SERVICE_X,
	F_WAITERS,
	F_WAITERS_X,
	F_PAGES,
	F_PAGES_X,
	F_RULES,
	F_COUNT
};

static const char *const file_names[F_COUNT] = {
    [F_SERVICE] = "service-2",         [F_SERVICE_X] = "service-2.sdk-extras",
    [F_WAITERS] = "waiters-2",         [F_WAITERS_X] = "waiters-2.sdk-extras",
    [F_PAGES] = "paginators-1",        [F_PAGES_X] = "paginators-1.sdk-extras",
    [F_RULES] = "endpoint-rule-set-1",
};

/* One answered look-up. */
struct known {
	struct known *next;
	char *name;
	const struct hga_aws_svc *svc; /* NULL: there is none */
	struct hga_aws_image *img;     /* a user's, or NULL */
	struct hga_buf data;           /* its bytes */
};

struct hga_aws_models {
	const struct hga_aws_image *img;
	const struct hga_aws_env *env;
	char *cache; /* or NULL */
	struct known *known;
};

int hga_aws_models_new(struct hga_aws_models **out,
                       const struct hga_aws_image *img,
                       const struct hga_aws_env *env, struct hga_err *err)
{
	struct hga_aws_models *m = hga_calloc(1, sizeof(*m));

	if (m == NULL)
		return hga_fail_mem(err);
	m->img = img;
	m->env = env;
	*out = m;
	return 0;
}

static void known_free(struct known *k)
{
	if (k == NULL)
		return;
	hga_aws_image_free(k->img);
	hga_buf_release(&k->data);
	hga_free(k->name);
	hga_free(k);
}

void hga_aws_models_free(struct hga_aws_models *m)
{
	struct known *k;

	if (m == NULL)
		return;
	while ((k = m->known) != NULL) {
		m->known = k->next;
		known_free(k);
	}
	hga_free(m->cache);
	hga_free(m);
}

int hga_aws_models_cache(struct hga_aws_models *m, struct hga_str dir,
                         struct hga_err *err)
{
	char *copy = NULL;

	if (dir.n > 0) {
		copy = hga_memdup0(dir.s, dir.n);
		if (copy == NULL)
			return hga_fail_mem(err);
	}
	hga_free(m->cache);
	m->cache = copy;
	return 0;
}

/* ---- directories ---- */

/* Directory number i of the search into out; false: no more. */
static bool place_at(const struct hga_aws_models *m, unsigned i, char *out)
{
	const char *home = hga_aws_env_get(m->env, "HOME");
	struct hga_str list = hga_str(hga_aws_env_get(m->env, "AWS_DATA_PATH"));
	size_t at = 0;
	int n;

	while (at < list.n) {
		ptrdiff_t colon = hga_str_chr(list, ':', at);
		size_t end = colon < 0 ? list.n : (size_t)colon;

		/* relative ones would depend on where the program runs */
		if (list.s[at] == '/' && i-- == 0) {
			n = snprintf(out, PATH_SIZE, "%.*s", (int)(end - at),
			             list.s + at);
			return n > 0 && n < PATH_SIZE;
		}
		at = end + 1;
	}
	if (home == NULL)
		home = m->env->home(m->env->data);
	if (i > 0 || home == NULL || home[0] != '/')
		return false;
	n = snprintf(out, PATH_SIZE, "%s/.aws/models", home);
	return n > 0 && n < PATH_SIZE;
}

/* DIR/NAME.json, or DIR/NAME.json.gz where that can be read; false: neither
 * is there. */
static bool find_file(const char *dir, const char *name, char *out,
                      struct stat *st)
{
	static const char *const ends[] = {".json", ".json.gz"};

	for (int i = 0; i < (hga_gzip_there() ? 2 : 1); i++) {
		int n = snprintf(out, PATH_SIZE, "%s/%s%s", dir, name, ends[i]);

		if (n > 0 && n < PATH_SIZE && stat(out, st) == 0 &&
		    S_ISREG(st->st_mode))
			return true;
	}
	return false;
}

/* A newer version of the service than best in one place: its directory. */
static void newest_in(const char *place, struct hga_str name, char *best,
                      size_t size, char *dir)
{
	char base[PATH_SIZE], path[PATH_SIZE], sub[PATH_SIZE];
	struct dirent *e;
	struct stat st;
	DIR *d;
	int n = snprintf(base, sizeof(base), "%s/%.*s", place, HGA_STRF(name));

	if (n < 0 || n >= PATH_SIZE)
		return;
	d = opendir(base);
	if (d == NULL)
		return;
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.' || strlen(e->d_name) >= size ||
		    strcmp(e->d_name, best) <= 0)
			continue;
		n = snprintf(sub, sizeof(sub), "%s/%s", base, e->d_name);
		if (n < 0 || n >= PATH_SIZE ||
		    !find_file(sub, file_names[F_SERVICE], path, &st))
			continue;
		memcpy(best, e->d_name, strlen(e->d_name) + 1);
		memcpy(dir, sub, (size_t)n + 1);
	}
	(void)closedir(d); /* only read */
}

/* Directory of the user's model that wins; false: none does. */
static bool find_dir(const struct hga_aws_models *m, struct hga_str name,
                     const struct hga_aws_svc *built_in, char *dir)
{
	char best[64] = "", place[PATH_SIZE];

	if (!hga_fs_name_ok(name) || name.n > 100)
		return false;
	for (unsigned i = 0; place_at(m, i, place); i++)
		newest_in(place, name, best, sizeof(best), dir);
	if (best[0] == '\0')
		return false;
	return built_in == NULL ||
	       strcmp(best, hga_aws_cstr(built_in, built_in->r->version)) >= 0;
}

/* ---- the cache ---- */

/* Path of the cached image: what it was made of, hashed. */
static int cache_path(const struct hga_aws_models *m, const char *dir,
                      struct hga_buf *out, struct hga_err *err)
{
	char path[PATH_SIZE], hex[65];
	struct hga_buf text;
	struct stat st;
	int rc;

	hga_buf_init(&text, 1 << 16);
	rc = hga_buf_addf(&text, err, "hgauto %s format %u image %.*s\n",
	                  HGA_VERSION, HGA_IMG_FORMAT,
	                  HGA_STRF(hga_aws_image_hash(m->img)));
	for (int i = 0; rc == 0 && i < F_COUNT; i++) {
		if (find_file(dir, file_names[i], path, &st))
			rc = hga_buf_addf(
			    &text, err, "%s %" PRId64 " %" PRId64 ".%09ld\n",
			    path, (int64_t)st.st_size,
			    (int64_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	}
	if (rc == 0)
		rc = hga_hash_hex(HGA_SHA256, hga_buf_text(&text), text.len,
		                  hex, err);
	if (rc == 0)
		rc = hga_buf_addf(out, err, "%s/%s.hgm", m->cache, hex);
	hga_buf_release(&text);
	return rc;
}

/* Opens the image in k->data and finds the service in it. */
static int open_image(struct known *k, struct hga_err *err)
{
	int rc =
	    hga_aws_image_open(&k->img, k->data.data, k->data.len, false, err);

	if (rc < 0)
		return rc;
	k->svc = hga_aws_svc_find(k->img, hga_str(k->name));
	if (k->svc != NULL)
		return 0;
	hga_aws_image_free(k->img);
	k->img = NULL;
	return hga_fail(err, HGA_PROTOCOL, 0, "Image",
	                "model image: it holds another service");
}

static int read_cached(struct known *k, const char *path, struct hga_err *err)
{
	int fd = hga_fs_open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, err);
	int rc;

	if (fd < 0)
		return fd;
	rc = hga_fs_check_owner(fd, path, 077, false, err);
	if (rc == 0)
		rc = hga_fs_read_fd(fd, path, IMAGE_MAX, &k->data, err);
	(void)close(fd); /* only read */
	if (rc == 0)
		rc = open_image(k, err);
	if (rc < 0)
		hga_buf_clear(&k->data);
	return rc;
}

/* Failing to keep it costs time at the next start, nothing else. */
static void write_cached(const struct hga_aws_models *m, const struct known *k,
                         const char *path)
{
	struct hga_err err = {0};

	if (hga_fs_mkdir(m->cache, 0700, true, &err) < 0 ||
	    hga_fs_replace(path, hga_buf_str(&k->data), 0600, 0, &err) < 0)
		hga_log(HGA_LOG_DEBUG, LABEL, "model of %s not kept: %s",
		        k->name, err.msg);
}

/* ---- compiling ---- */

static int read_file(const char *path, struct hga_buf *out, struct hga_err *err)
{
	struct hga_buf packed;
	int rc;

	if (!hga_str_ends(hga_str(path), ".gz"))
		return hga_fs_read(path, FILE_MAX, out, err);
	hga_buf_init(&packed, FILE_MAX);
	rc = hga_fs_read(path, FILE_MAX, &packed, err);
	if (rc == 0)
		rc = hga_gunzip(out, hga_buf_str(&packed), err);
	hga_buf_release(&packed);
	return rc;
}

static int read_files(const char *dir, struct hga_buf *files,
                      struct hga_err *err)
{
	char path[PATH_SIZE];
	struct stat st;
	int rc = 0;

	for (int i = 0; rc == 0 && i < F_COUNT; i++) {
		if (find_file(dir, file_names[i], path, &st))
			rc = read_file(path, &files[i], err);
	}
	return rc;
}

static int compile_files(struct known *k, const struct hga_aws_svc *built_in,
                         const struct hga_buf *files, struct hga_err *err)
{
	struct hga_modelc_src src = {
	    .name = hga_str(k->name),
	    .service = hga_buf_str(&files[F_SERVICE]),
	    .service_extras = hga_buf_str(&files[F_SERVICE_X]),
	    .waiters = hga_buf_str(&files[F_WAITERS]),
	    .waiters_extras = hga_buf_str(&files[F_WAITERS_X]),
	    .paginators = hga_buf_str(&files[F_PAGES]),
	    .paginators_extras = hga_buf_str(&files[F_PAGES_X]),
	    .ruleset = hga_buf_str(&files[F_RULES]),
	};
	struct hga_modelc *c = hga_modelc_new(false);
	int rc;

	if (c == NULL)
		return hga_fail_mem(err);
	if (src.ruleset.n == 0 && built_in != NULL)
		src.ruleset = hga_aws_doc(built_in, built_in->r->ruleset);
	rc = hga_modelc_add(c, &src, err);
	if (rc == 0)
		rc = hga_modelc_finish(c, &k->data, err);
	if (rc == 0 && hga_modelc_notes(c)[0] != '\0')
		hga_log(HGA_LOG_DEBUG, LABEL, "%s", hga_modelc_notes(c));
	hga_modelc_free(c);
	return rc == 0 ? open_image(k, err) : rc;
}

static int compile(struct known *k, const struct hga_aws_svc *built_in,
                   const char *dir, struct hga_err *err)
{
	struct hga_buf files[F_COUNT];
	int rc;

	for (int i = 0; i < F_COUNT; i++)
		hga_buf_init(&files[i], FILE_MAX);
	rc = read_files(dir, files, err);
	if (rc == 0)
		rc = compile_files(k, built_in, files, err);
	for (int i = 0; i < F_COUNT; i++)
		hga_buf_release(&files[i]);
	if (rc < 0 && err != NULL)
		hga_err_prefix(err, "%s", dir);
	return rc;
}

static int load(const struct hga_aws_models *m, struct known *k,
                const struct hga_aws_svc *built_in, const char *dir,
                struct hga_err *err)
{
	struct hga_err why = {0};
	struct hga_buf path;
	int rc = 0;

	if (m->cache == NULL)
		return compile(k, built_in, dir, err);
	hga_buf_init(&path, PATH_SIZE);
	rc = cache_path(m, dir, &path, err);
	if (rc < 0)
		goto out;
	if (read_cached(k, hga_buf_text(&path), &why) == 0)
		goto out;
	if (why.kind != HGA_NOTFOUND)
		hga_log(HGA_LOG_DEBUG, LABEL, "%s: %s; compiling again",
		        hga_buf_text(&path), why.msg);
	rc = compile(k, built_in, dir, err);
	if (rc == 0)
		write_cached(m, k, hga_buf_text(&path));
out:
	hga_buf_release(&path);
	return rc;
}

/* ---- look-ups ---- */

int hga_aws_models_find(struct hga_aws_models *m, struct hga_str name,
                        const struct hga_aws_svc **out, struct hga_err *err)
{
	const struct hga_aws_svc *built_in;
	char dir[PATH_SIZE];
	struct known *k;
	int rc;

	for (k = m->known; k != NULL; k = k->next) {
		if (hga_str_eqc(name, k->name)) {
			*out = k->svc;
			return 0;
		}
	}
	built_in = hga_aws_svc_find(m->img, name);
	if (!find_dir(m, name, built_in, dir)) {
		*out = built_in;
		if (built_in == NULL)
			return 0; /* names that do not exist are not kept */
		dir[0] = '\0';
	}
	k = hga_calloc(1, sizeof(*k));
	if (k == NULL)
		return hga_fail_mem(err);
	hga_buf_init(&k->data, IMAGE_MAX);
	k->svc = built_in;
	k->name = hga_memdup0(name.s, name.n);
	rc = k->name == NULL  ? hga_fail_mem(err)
	     : dir[0] != '\0' ? load(m, k, built_in, dir, err)
	                      : 0;
	if (rc < 0) {
		known_free(k);
		return rc;
	}
	k->next = m->known;
	m->known = k;
	*out = k->svc;
	return 0;
}

struct name_list {
	char *v[NAMES_MAX];
	size_t n;
};

static int name_add(struct name_list *l, struct hga_str name,
                    struct hga_err *err)
{
	for (size_t i = 0; i < l->n; i++) {
		if (hga_str_eqc(name, l->v[i]))
			return 0;
	}
	if (l->n == NAMES_MAX)
		return 0; /* enough for any list shown to people */
	l->v[l->n] = hga_memdup0(name.s, name.n);
	if (l->v[l->n] == NULL)
		return hga_fail_mem(err);
	l->n++;
	return 0;
}

static int names_in(const struct hga_aws_models *m, const char *place,
                    struct name_list *l, struct hga_err *err)
{
	char dir[PATH_SIZE];
	DIR *d = opendir(place);
	struct dirent *e;
	int rc = 0;

	if (d == NULL)
		return 0;
	while (rc == 0 && (e = readdir(d)) != NULL) {
		struct hga_str name = hga_str(e->d_name);

		if (e->d_name[0] != '.' && find_dir(m, name, NULL, dir))
			rc = name_add(l, name, err);
	}
	(void)closedir(d); /* only read */
	return rc;
}

static int by_text(const void *a, const void *b)
{
	char *const *x = a;
	char *const *y = b;

	return strcmp(*x, *y);
}

int hga_aws_models_names(struct hga_aws_models *m, struct hga_buf *out,
                         struct hga_err *err)
{
	struct name_list *l = hga_calloc(1, sizeof(*l));
	char place[PATH_SIZE];
	int rc = 0;

	if (l == NULL)
		return hga_fail_mem(err);
	for (size_t i = 0; rc == 0 && i < hga_aws_image_services(m->img); i++) {
		const struct hga_aws_svc *svc = hga_aws_svc_at(m->img, i);

		rc = name_add(l, hga_aws_text(svc, svc->r->name), err);
	}
	for (unsigned i = 0; rc == 0 && place_at(m, i, place); i++)
		rc = names_in(m, place, l, err);
	qsort(l->v, l->n, sizeof(l->v[0]), by_text);
	for (size_t i = 0; i < l->n; i++) {
		if (rc == 0)
			rc = hga_buf_addf(out, err, "%s\n", l->v[i]);
		hga_free(l->v[i]);
	}
	hga_free(l);
	return rc;
}

struct hga_str hga_aws_models_suggest(struct hga_str names, struct hga_str name)
{
	struct hga_suggest s;
	size_t at = 0;

	hga_suggest_init(&s, name);
	while (at < names.n) {
		ptrdiff_t nl = hga_str_chr(names, '\n', at);
		size_t end = nl < 0 ? names.n : (size_t)nl;

		hga_suggest_try(&s, hga_strn(names.s + at, end - at));
		at = end + 1;
	}
	return hga_suggest_best(&s);
}
