/* Files and queues that take streaming answers. */
#include "aws/sink.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int create(struct hga_aws_sink *s, struct hga_err *err)
{
	struct hga_buf b;
	int fd, rc;

	hga_buf_init(&b, 65536);
	rc = hga_buf_addf(&b, err, "%s.part-XXXXXX", s->path);
	if (rc < 0)
		return rc;
	s->tmp = hga_buf_move(&b);
	fd = mkostemp(s->tmp, O_CLOEXEC); /* mode 0600 */
	if (fd < 0) {
		rc = hga_fs_fail(err, errno, "create", s->tmp);
		hga_free(s->tmp);
		s->tmp = NULL;
		return rc;
	}
	s->fd = fd + 1;
	return 0;
}

int hga_aws_sink_open(struct hga_aws_sink *s, const char *path,
                      struct hga_err *err)
{
	s->open = true;
	hga_buf_init(&s->queue, HGA_AWS_QUEUE);
	if (path == NULL)
		return 0;
	s->path = hga_strdup(path);
	if (s->path == NULL)
		return hga_fail_mem(err);
	return create(s, err);
}

int hga_aws_sink_restart(struct hga_aws_sink *s, struct hga_err *err)
{
	s->size = 0;
	if (s->fd > 0 &&
	    (ftruncate(s->fd - 1, 0) < 0 || lseek(s->fd - 1, 0, SEEK_SET) < 0))
		return hga_fs_fail(err, errno, "truncate", s->tmp);
	return 0;
}

int hga_aws_sink_take(struct hga_aws_sink *s, const void *p, size_t n,
                      struct hga_err *err)
{
	int rc;

	if (s->fd > 0) {
		rc = hga_fs_write_fd(s->fd - 1, s->tmp, p, n, err);
	} else {
		if (s->queue.len > 0 && s->queue.len + n > HGA_AWS_QUEUE)
			return 1;
		s->handed_out = true;
		rc = hga_buf_add(&s->queue, p, n, err);
	}
	if (rc == 0)
		s->size += n;
	return rc;
}

int hga_aws_sink_commit(struct hga_aws_sink *s, struct hga_err *err)
{
	if (s->fd == 0)
		return 0;
	if (fsync(s->fd - 1) < 0)
		return hga_fs_fail(err, errno, "write", s->tmp);
	if (rename(s->tmp, s->path) < 0)
		return hga_fs_fail(err, errno, "rename", s->path);
	hga_free(s->tmp);
	s->tmp = NULL;
	return 0;
}

void hga_aws_sink_close(struct hga_aws_sink *s)
{
	if (s->fd > 0)
		(void)close(s->fd - 1); /* commit has synced it */
	s->fd = 0;
	if (s->tmp != NULL)
		(void)unlink(s->tmp); /* nothing better can be done */
	hga_free(s->tmp);
	hga_free(s->path);
	s->tmp = NULL;
	s->path = NULL;
	hga_buf_release_secret(&s->queue);
}
