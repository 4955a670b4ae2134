/*
 * One remote command (or shell, or connection made by the server): a channel
 * with an exec request, its streams and its end.
 *
 * The object lives from hga_ssh_exec_start to hga_ssh_exec_free; waiting is an
 * operation of its own, so that a cancelled wait leaves the command running
 * and its owner can signal or end it.  stdout and stderr stay apart; of each
 * the last max_output bytes are kept, and with queue also everything, in
 * queues of 256 KiB that the owner empties (then the window stops the peer).
 * A command has ended well only with a received exit status of 0.
 */
#ifndef HGA_SSH_EXEC_H
#define HGA_SSH_EXEC_H

#include "base/buf.h"
#include "base/str.h"
#include "ssh/session.h"

#define HGA_EXEC_QUEUE (256 * 1024)
#define HGA_EXEC_CMD_MAX (128 * 1024)

struct hga_ssh_exec_args {
	struct hga_str cmd;   /* bytes of the request; copied */
	struct hga_str input; /* stdin; borrowed until freed */
	bool in_open;         /* stdin stays open for hga_ssh_exec_write */
	size_t max_output;    /* kept per stream */
	bool queue[2];        /* stdout, stderr: also give everything */
	bool wait_exit;       /* ends 0.5 s after the exit status */
	bool urgent; /* without a free channel: ChannelRefused at once */
	/* A terminal of that kind and size; stderr then comes with stdout. */
	const char *term;
	int cols, rows;
	bool shell; /* no command: the user's login shell */
	/* No command but a connection from the server to host:port (port 0: to
	 * a unix socket): its bytes are input and stdout, it has no status. */
	const char *to_host;
	int to_port;
};

/* What is known of a command; the texts live as long as the object. */
struct hga_ssh_exec_info {
	bool started, ended;
	bool exited; /* code is valid */
	int code;
	const char *signal;          /* "" or "KILL" */
	uint64_t out, err;           /* bytes received */
	const struct hga_err *error; /* NULL: none */
	double seconds;
};

struct hga_ssh_exec; /* opaque */

/* Errors at the start: usage TooLarge, Nul; net when the session is dead. */
int hga_ssh_exec_start(struct hga_ssh *ssh,
                       const struct hga_ssh_exec_args *args,
                       struct hga_ssh_exec **out,
                       struct hga_err *err) HGA_MUST_USE;
/* Lets go: a running command loses its channel (and usually goes on). */
void hga_ssh_exec_free(struct hga_ssh_exec *x);

void hga_ssh_exec_info(const struct hga_ssh_exec *x,
                       struct hga_ssh_exec_info *out);
/* Bytes of stdin taken, 0 to n; after the end all vanish. */
size_t hga_ssh_exec_write(struct hga_ssh_exec *x, const void *p, size_t n);
/* No more input; EOF is sent after what is queued. */
void hga_ssh_exec_eof(struct hga_ssh_exec *x);
/* Sends a signal by name ("TERM"); nobody answers, servers may ignore it. */
void hga_ssh_exec_signal(struct hga_ssh_exec *x, const char *name);
/* The terminal has another size now. */
void hga_ssh_exec_resize(struct hga_ssh_exec *x, int cols, int rows);
/* Queue of a stream (0 stdout, 1 stderr); consume it, then resume. */
struct hga_buf *hga_ssh_exec_queue(struct hga_ssh_exec *x, int stream);
void hga_ssh_exec_resume(struct hga_ssh_exec *x);
/* Kept tail in two parts; true when more was received than kept. */
bool hga_ssh_exec_tail(const struct hga_ssh_exec *x, int stream,
                       struct hga_str part[2]);

/* Waits until the command has ended, output is queued, or (want_space) all
 * given input was taken. */
struct hga_ssh_wait {
	struct hga_op base;
	struct hga_ssh_exec *x; /* while running */
	struct hga_timer timer;
	int64_t end_ms, idle_ms;
	bool want_space;
};
/* Times in ms, 0: none.  Errors: timeout Command, Idle; never the command's
 * own end, which hga_ssh_exec_info tells.  One wait at a time: usage Busy. */
int hga_ssh_wait_start(struct hga_ssh_exec *x, struct hga_ssh_wait *w,
                       int64_t timeout_ms, int64_t idle_ms, bool want_space,
                       struct hga_err *err) HGA_MUST_USE;

#endif
