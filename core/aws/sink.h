/*
 * Where the body of a streaming answer goes instead of into the result: a
 * file, or a bounded queue that somebody empties.
 *
 * File: written beside the target with mode 0600 and renamed over it by
 * commit; every attempt begins anew.  Queue: 256 KiB; a byte that entered it
 * counts as handed out, so there is no further attempt.
 */
#ifndef HGA_AWS_SINK_H
#define HGA_AWS_SINK_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define HGA_AWS_QUEUE ((size_t)256 * 1024)

/* Zeroed: none. */
struct hga_aws_sink {
	bool open;
	char *path, *tmp;     /* of a file */
	int fd;               /* plus one; 0: closed */
	struct hga_buf queue; /* the reader clears it */
	uint64_t size;        /* bytes of this attempt */
	bool handed_out;      /* queue: some byte entered it */
};

/* path NULL: a queue.  Creates the temporary file. */
int hga_aws_sink_open(struct hga_aws_sink *s, const char *path,
                      struct hga_err *err) HGA_MUST_USE;
/* A new attempt: what a file got so far is dropped. */
int hga_aws_sink_restart(struct hga_aws_sink *s,
                         struct hga_err *err) HGA_MUST_USE;
/* 0: taken; 1: the queue is full, nothing was taken; or -kind. */
int hga_aws_sink_take(struct hga_aws_sink *s, const void *p, size_t n,
                      struct hga_err *err) HGA_MUST_USE;
/* The answer is complete: the file gets its name. */
int hga_aws_sink_commit(struct hga_aws_sink *s,
                        struct hga_err *err) HGA_MUST_USE;
/* Removes an uncommitted file; safe on a zeroed struct, idempotent. */
void hga_aws_sink_close(struct hga_aws_sink *s);

#endif
