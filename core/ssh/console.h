/*
 * A remote command joined with our own standard streams: what `ssh` does.
 *
 * With raw the terminal at in_fd goes into raw mode until the end (restored in
 * any case, also by cancel), its size is passed on, and "~." at the beginning
 * of a line leaves.  The command must have been started with both queues and
 * open input.  Output is written as it is, or (filter) made harmless for a
 * terminal line by line.  Slow readers and writers stop the other side.
 */
#ifndef HGA_SSH_CONSOLE_H
#define HGA_SSH_CONSOLE_H

#include "net/loop.h"
#include "net/op.h"
#include "ssh/exec.h"

#include <stdbool.h>
#include <termios.h>

struct hga_console_args {
	int in_fd, out_fd[2]; /* borrowed; stdout, stderr */
	bool raw, input, filter;
};

struct hga_console {
	struct hga_op base;
	bool left; /* the user left with ~. */
	/* the module's */
	struct hga_console_args args;
	struct hga_loop *loop;
	struct hga_ssh_exec *x;
	struct hga_ssh_wait wait;
	struct hga_watch in, out[2];
	struct termios saved;
	bool restore, in_eof, signals, ended;
	struct hga_buf line[2]; /* unfinished, with filter */
	char buf[4096];         /* typed, not yet taken */
	size_t at, len;
	unsigned char escape; /* 0 in a line, 1 at its beginning, 2 after ~ */
};

/* done: the command has ended (its info tells how) and all its output is
 * written, the user left, or nobody reads the output any more.  One at a time
 * with raw. */
int hga_console_start(struct hga_loop *loop, struct hga_console *c,
                      struct hga_ssh_exec *x,
                      const struct hga_console_args *args,
                      struct hga_err *err) HGA_MUST_USE;
/* Restores the terminal; safe on a zeroed struct, idempotent. */
void hga_console_release(struct hga_console *c);

#endif
