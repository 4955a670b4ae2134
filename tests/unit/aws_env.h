/*
 * A world of variables and files for tests of AWS settings and credentials.
 */
#ifndef HGA_TEST_AWS_ENV_H
#define HGA_TEST_AWS_ENV_H

#include "aws/config.h"

#include <stdio.h>
#include <string.h>

struct fake_env {
	struct hga_aws_env env; /* give this to the code */
	struct {
		const char *name, *value;
	} vars[48];
	struct {
		const char *path, *text;
	} files[8];
	int reads;
	int64_t wall_us;
	unsigned uuids;
};

__attribute__((unused)) static const char *fake_getenv(void *data,
                                                       const char *name)
{
	const struct fake_env *f = data;

	for (size_t i = 0; i < 48 && f->vars[i].name != NULL; i++) {
		if (strcmp(f->vars[i].name, name) == 0)
			return f->vars[i].value;
	}
	/* Nobody asks the metadata service by mistake. */
	return strcmp(name, "AWS_EC2_METADATA_DISABLED") == 0 ? "true" : NULL;
}

__attribute__((unused)) static int fake_read(void *data, const char *path,
                                             struct hga_buf *out,
                                             struct hga_err *err)
{
	struct fake_env *f = data;

	f->reads++;
	for (size_t i = 0; i < 8 && f->files[i].path != NULL; i++) {
		if (strcmp(f->files[i].path, path) != 0)
			continue;
		if (f->files[i].text == NULL)
			return hga_fail(err, HGA_IO, 0, NULL, "%s: denied",
			                path);
		return hga_buf_adds(out, f->files[i].text, err);
	}
	return hga_fail(err, HGA_NOTFOUND, 0, NULL, "%s: missing", path);
}

__attribute__((unused)) static const char *fake_home(void *data)
{
	(void)data;
	return "/pw-home";
}

__attribute__((unused)) static int64_t fake_wall(void *data)
{
	return ((const struct fake_env *)data)->wall_us;
}

__attribute__((unused)) static double fake_random(void *data)
{
	(void)data;
	return 0.0;
}

__attribute__((unused)) static int fake_uuid(void *data, char out[37],
                                             struct hga_err *err)
{
	struct fake_env *f = data;

	(void)err;
	snprintf(out, 37, "00000000-0000-4000-8000-%012u", f->uuids++);
	return 0;
}

__attribute__((unused)) static void fake_init(struct fake_env *f)
{
	memset(f, 0, sizeof(*f));
	f->env.data = f;
	f->env.getenv = fake_getenv;
	f->env.read = fake_read;
	f->env.home = fake_home;
	f->env.wall_us = fake_wall;
	f->env.random = fake_random;
	f->env.uuid = fake_uuid;
}

__attribute__((unused)) static void
fake_var(struct fake_env *f, const char *name, const char *value)
{
	size_t i = 0;

	while (f->vars[i].name != NULL && strcmp(f->vars[i].name, name) != 0)
		i++;
	f->vars[i].name = name;
	f->vars[i].value = value;
}

__attribute__((unused)) static void
fake_file(struct fake_env *f, const char *path, const char *text)
{
	size_t i = 0;

	while (f->files[i].path != NULL)
		i++;
	f->files[i].path = path;
	f->files[i].text = text;
}

#endif
