/*
 * One child process: argv (no shell), explicit environment and descriptors,
 * own process group, pidfd as watch, no SIGCHLD handler.
 *
 * stdout and stderr are read into bounded queues (256 KiB each; the pipe
 * then stops the child) that the owner empties in progress/done; stdin is
 * fed from a buffer.  With a deadline or on cancel the group gets TERM, and
 * 2 s later KILL; after a cancel the struct is linked to nothing (the module
 * goes on in the loop until the child is dead; hga_loop_free kills and
 * collects what is left).
 */
#ifndef HGA_NET_PROC_H
#define HGA_NET_PROC_H

#include "base/buf.h"
#include "net/loop.h"
#include "net/op.h"

#include <sys/types.h>

enum hga_proc_io {
	HGA_IO_NULL = 0, /* /dev/null */
	HGA_IO_PIPE,     /* stdin: from args.in; out/err: queues */
	HGA_IO_INHERIT,
	HGA_IO_FD,   /* the given descriptor (borrowed) */
	HGA_IO_MERGE /* stderr only: same as stdout */
};

struct hga_proc_args {
	const char *const *argv; /* argv[0] searched in PATH */
	const char *const *env;  /* whole environment; NULL: ours */
	const char *cwd;         /* NULL: ours */
	enum hga_proc_io in, out, err;
	int in_fd, out_fd, err_fd; /* for HGA_IO_FD */
	const void *in_data;       /* HGA_IO_PIPE: copied */
	size_t in_len;
	bool in_open;       /* keep stdin open after in_data (hga_proc_write) */
	const int *keep;    /* pairs (our fd, child's fd), ended by -1 */
	int64_t timeout_ms; /* 0: none (the caller has a deadline) */
	bool foreground;    /* same process group and session as ours */
	bool session;       /* a session of its own, not only a group */
};

struct hga_proc {
	struct hga_op base;
	pid_t pid;
	int status;               /* of waitpid, valid after success */
	bool exited;              /* code valid */
	int code, signal;         /* exit code; or terminating signal */
	struct hga_buf out, errq; /* queued output, owner consumes */
	bool out_eof, err_eof;
	struct hga_proc_impl *impl; /* the module's */
};

/* The process runs when this returns 0.  done: exited and both pipes at EOF
 * (or 1 s after the exit while a grandchild holds them).  A missing program
 * or directory is kind notfound, code "Spawn"; a passed deadline kind timeout,
 * code "Total" (exited, code and signal are valid then, too). */
int hga_proc_start(struct hga_loop *loop, struct hga_proc *p,
                   const struct hga_proc_args *args,
                   struct hga_err *err) HGA_MUST_USE;
/* After the owner consumed queued output: read on. */
void hga_proc_resume(struct hga_proc *p);
/* Queues bytes for stdin (in_open), at most 4 MiB; -HGA_IO when it was
 * closed, by us or by the child. */
int hga_proc_write(struct hga_proc *p, const void *data, size_t n,
                   struct hga_err *err) HGA_MUST_USE;
void hga_proc_close_stdin(struct hga_proc *p);
/* To the process group; ignored after the end. */
void hga_proc_kill(struct hga_proc *p, int signo);
/* Bytes of stdin not yet taken by the child; progress follows when they
 * become 0. */
size_t hga_proc_pending(const struct hga_proc *p);
/* Frees queues; cancels a running one. */
void hga_proc_release(struct hga_proc *p);

#endif
