/* Key pairs in the state directory; reliability.md section 2.13. */
#include "state/vault.h"

#include "base/fs.h"
#include "base/mem.h"
#include "state/record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_LIMIT 65536

int hga_vault_path(const struct hga_state *st, const char *name,
                   struct hga_buf *out, struct hga_err *err)
{
	char rel[300];

	if (!hga_fs_name_ok(hga_str(name)) || name[0] == '.')
		return hga_fail(err, HGA_USAGE, 0, "Name",
		                "\"%.200s\" is not a name for a key", name);
	(void)snprintf(rel, sizeof(rel), "keys/%s", name);
	return hga_state_file(st, rel, out, err);
}

int hga_vault_key_get(const struct hga_state *st, const char *name,
                      struct hga_key **out, struct hga_err *err)
{
	struct hga_buf path;
	int r;

	hga_buf_init(&path, PATH_LIMIT);
	r = hga_vault_path(st, name, &path, err);
	if (r == 0)
		r = hga_key_load(path.data, out, err);
	hga_buf_release(&path);
	return r;
}

/* The public half is for people and other programs; it can be made again. */
static int write_public(struct hga_buf *path, const struct hga_key *key,
                        struct hga_err *err)
{
	struct hga_buf line;
	int r;

	hga_buf_init(&line, PATH_LIMIT);
	r = hga_key_public(key, &line, err);
	if (r == 0)
		r = hga_buf_addc(&line, '\n', err);
	if (r == 0)
		r = hga_buf_adds(path, ".pub", err);
	if (r == 0)
		r = hga_fs_replace(path->data, hga_buf_str(&line), 0600,
		                   HGA_FS_SYNC, err);
	hga_buf_release(&line);
	return r;
}

int hga_vault_key_put(const struct hga_state *st, const char *name,
                      const struct hga_key *key, struct hga_err *err)
{
	struct hga_buf path;
	struct hga_buf text;
	int r;

	hga_buf_init(&path, PATH_LIMIT);
	hga_buf_init(&text, PATH_LIMIT);
	r = hga_vault_path(st, name, &path, err);
	if (r == 0)
		r = hga_key_private(key, &text, err);
	if (r == 0)
		r = hga_fs_replace(path.data, hga_buf_str(&text), 0600,
		                   HGA_FS_SYNC | HGA_FS_EXCL, err);
	if (r == 0)
		r = write_public(&path, key, err);
	hga_buf_release_secret(&text);
	hga_buf_release(&path);
	return r;
}

int hga_vault_key_ensure(const struct hga_state *st, const char *name,
                         const char *comment, struct hga_key **out, bool *made,
                         struct hga_err *err)
{
	struct hga_key *key = NULL;
	int r = hga_vault_key_get(st, name, out, err);

	if (made != NULL)
		*made = false;
	if (r != -HGA_NOTFOUND)
		return r;
	r = hga_key_new("ed25519", comment, &key, err);
	if (r == 0)
		r = hga_vault_key_put(st, name, key, err);
	if (r == 0) {
		*out = key;
		if (made != NULL)
			*made = true;
		return 0;
	}
	hga_key_free(key);
	/* another process was first */
	return r == -HGA_EXISTS ? hga_vault_key_get(st, name, out, err) : r;
}

int hga_vault_key_remove(const struct hga_state *st, const char *name,
                         struct hga_err *err)
{
	struct hga_buf path;
	int r;

	hga_buf_init(&path, PATH_LIMIT);
	r = hga_vault_path(st, name, &path, err);
	if (r == 0 && unlink(path.data) != 0 && errno != ENOENT)
		r = hga_fs_fail(err, errno, "remove", path.data);
	if (r == 0)
		r = hga_buf_adds(&path, ".pub", err);
	if (r == 0 && unlink(path.data) != 0 && errno != ENOENT)
		r = hga_fs_fail(err, errno, "remove", path.data);
	hga_buf_release(&path);
	return r;
}
