/*
 * mkmodel OUT MODELDIR SERVICELIST: compiles the newest models of the listed
 * services into one image (aws/image.h).  MODELDIR has botocore's layout:
 * SERVICE/VERSION/FILE.json and partitions.json.  Lines of SERVICELIST are
 * service names; blank lines and lines starting with '#' are skipped.
 * A key no model is known to have stops the build.
 */
#include "aws/modelc.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX (64u * 1024 * 1024)

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
    [F_SERVICE] = "service-2.json",
    [F_SERVICE_X] = "service-2.sdk-extras.json",
    [F_WAITERS] = "waiters-2.json",
    [F_WAITERS_X] = "waiters-2.sdk-extras.json",
    [F_PAGES] = "paginators-1.json",
    [F_PAGES_X] = "paginators-1.sdk-extras.json",
    [F_RULES] = "endpoint-rule-set-1.json",
};

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "mkmodel: %s: %s\n", what, why);
	return -1;
}

/* Whole file; missing: *found false and empty. */
static int slurp(const char *path, struct hga_buf *b, bool *found)
{
	struct hga_err err;
	char block[16384];
	FILE *f = fopen(path, "rb");
	int rc = 0;
	size_t n;

	*found = f != NULL;
	if (f == NULL)
		return errno == ENOENT ? 0 : fail(path, strerror(errno));
	while (rc == 0 && (n = fread(block, 1, sizeof(block), f)) > 0)
		if (hga_buf_add(b, block, n, &err) < 0)
			rc = fail(path, err.msg);
	if (ferror(f))
		rc = fail(path, "cannot be read");
	fclose(f);
	return rc;
}

static bool has_service(const char *dir, const char *version)
{
	char path[4096];
	struct stat st;

	if (snprintf(path, sizeof(path), "%s/%s/%s", dir, version,
	             file_names[F_SERVICE]) >= (int)sizeof(path))
		return false;
	return stat(path, &st) == 0;
}

/* Newest version directory with a service file. */
static int newest(const char *dir, char *out, size_t size)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	out[0] = '\0';
	if (d == NULL)
		return fail(dir, strerror(errno));
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.' && strlen(e->d_name) < size &&
		    strcmp(e->d_name, out) > 0 && has_service(dir, e->d_name))
			memcpy(out, e->d_name, strlen(e->d_name) + 1);
	closedir(d);
	return out[0] != '\0' ? 0 : fail(dir, "no service-2.json inside");
}

static int compile(struct hga_modelc *c, const char *name,
                   struct hga_buf *files)
{
	struct hga_modelc_src src = {
	    .name = hga_str(name),
	    .service = hga_buf_str(&files[F_SERVICE]),
	    .service_extras = hga_buf_str(&files[F_SERVICE_X]),
	    .waiters = hga_buf_str(&files[F_WAITERS]),
	    .waiters_extras = hga_buf_str(&files[F_WAITERS_X]),
	    .paginators = hga_buf_str(&files[F_PAGES]),
	    .paginators_extras = hga_buf_str(&files[F_PAGES_X]),
	    .ruleset = hga_buf_str(&files[F_RULES]),
	};
	struct hga_err err;

	if (hga_modelc_add(c, &src, &err) < 0)
		return fail(name, err.msg);
	return 0;
}

static int add_service(struct hga_modelc *c, const char *root, const char *name)
{
	struct hga_buf files[F_COUNT];
	char dir[2048], version[64], path[4096];
	int i, rc;
	bool found;

	if (snprintf(dir, sizeof(dir), "%s/%s", root, name) >= (int)sizeof(dir))
		return fail(name, "path too long");
	if (newest(dir, version, sizeof(version)) < 0)
		return -1;
	for (i = 0; i < F_COUNT; i++)
		hga_buf_init(&files[i], FILE_MAX);
	for (i = 0, rc = 0; rc == 0 && i < F_COUNT; i++) {
		snprintf(path, sizeof(path), "%s/%s/%s", dir, version,
		         file_names[i]);
		rc = slurp(path, &files[i], &found);
	}
	if (rc == 0)
		rc = compile(c, name, files);
	for (i = 0; i < F_COUNT; i++)
		hga_buf_release(&files[i]);
	return rc;
}

static int add_partitions(struct hga_modelc *c, const char *root)
{
	struct hga_buf b;
	struct hga_err err;
	char path[4096];
	bool found = false;
	int rc;

	hga_buf_init(&b, FILE_MAX);
	snprintf(path, sizeof(path), "%s/partitions.json", root);
	rc = slurp(path, &b, &found);
	if (rc == 0 && found &&
	    hga_modelc_partitions(c, hga_buf_str(&b), &err) < 0)
		rc = fail(path, err.msg);
	hga_buf_release(&b);
	return rc;
}

static int add_all(struct hga_modelc *c, const char *root, const char *list)
{
	char line[256];
	FILE *f = fopen(list, "r");
	int rc = 0;

	if (f == NULL)
		return fail(list, strerror(errno));
	while (rc == 0 && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, " \t\r\n")] = '\0';
		if (line[0] != '\0' && line[0] != '#')
			rc = add_service(c, root, line);
	}
	fclose(f);
	return rc == 0 ? add_partitions(c, root) : rc;
}

static int write_image(struct hga_modelc *c, const char *out)
{
	struct hga_buf b;
	struct hga_err err;
	int rc = 0;
	FILE *f;

	hga_buf_init(&b, 0x7fffffff);
	if (hga_modelc_finish(c, &b, &err) < 0) {
		hga_buf_release(&b);
		return fail(out, err.msg);
	}
	f = fopen(out, "wb");
	if (f == NULL || fwrite(b.data, 1, b.len, f) != b.len)
		rc = fail(out, strerror(errno));
	if (f != NULL && fclose(f) != 0)
		rc = fail(out, strerror(errno));
	hga_buf_release(&b);
	return rc;
}

int main(int argc, char **argv)
{
	struct hga_modelc *c;
	int rc;

	if (argc != 4) {
		fputs("usage: mkmodel OUT MODELDIR SERVICELIST\n", stderr);
		return 2;
	}
	c = hga_modelc_new(true);
	if (c == NULL)
		return 1;
	rc = add_all(c, argv[2], argv[3]);
	if (rc == 0)
		rc = write_image(c, argv[1]);
	hga_modelc_free(c);
	return rc == 0 ? 0 : 1;
}
