/*
 * Standard streams of a remote command; the terminal's raw mode and size.
 */
#include "ssh/console.h"

#include "base/term.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CHUNK 4096 /* a writable pipe takes this much without blocking */
#define LINE_MAX_BYTES (64 * 1024)

static void turn(struct hga_console *c);

void hga_console_release(struct hga_console *c)
{
	if (c->loop == NULL)
		return;
	if (c->wait.x != NULL)
		hga_op_cancel(&c->wait.base);
	hga_watch_stop(c->loop, &c->in);
	hga_watch_stop(c->loop, &c->out[0]);
	hga_watch_stop(c->loop, &c->out[1]);
	if (c->signals &&
	    hga_loop_signal(c->loop, SIGWINCH, NULL, NULL, NULL) == 0)
		c->signals = false;
	/* The terminal may be gone: then there is nothing to restore. */
	if (c->restore)
		(void)tcsetattr(c->args.in_fd, TCSADRAIN, &c->saved);
	c->restore = false;
	hga_buf_release(&c->line[0]);
	hga_buf_release(&c->line[1]);
	c->loop = NULL;
}

static void end(struct hga_console *c)
{
	c->ended = true;
	hga_console_release(c);
	hga_op_finish(&c->base);
}

static void on_cancel(struct hga_op *op)
{
	hga_console_release((struct hga_console *)op);
	hga_op_drop(op);
}

/* ---- input ---- */

/* Looks for "~." at the beginning of a line in what was typed; "~~" there is
 * one tilde. */
static void look_for_escape(struct hga_console *c)
{
	char typed[2048];
	size_t n = c->len, to = 0;

	memcpy(typed, c->buf, n);
	for (size_t i = 0; i < n; i++) {
		char b = typed[i];

		if (c->escape == 1 && b == '~') {
			c->escape = 2;
			continue;
		}
		if (c->escape == 2 && b == '.') {
			c->left = true;
			return;
		}
		if (c->escape == 2 && b != '~')
			c->buf[to++] = '~'; /* held back before */
		c->buf[to++] = b;
		c->escape = b == '\r' || b == '\n';
	}
	c->len = to;
}

static void give(struct hga_console *c)
{
	if (c->at < c->len)
		c->at +=
		    hga_ssh_exec_write(c->x, c->buf + c->at, c->len - c->at);
	if (c->at < c->len)
		return;
	c->at = c->len = 0;
	if (c->in_eof)
		hga_ssh_exec_eof(c->x);
}

static void on_in(struct hga_watch *w, int events)
{
	struct hga_console *c = w->data;
	/* Room for tildes that were held back. */
	ssize_t n = read(w->fd, c->buf, sizeof(c->buf) / 2);

	(void)events; /* reading tells */
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	hga_watch_stop(c->loop, w);
	if (n <= 0)
		c->in_eof = true;
	c->at = 0;
	c->len = n > 0 ? (size_t)n : 0;
	if (c->args.raw)
		look_for_escape(c);
	if (c->left) {
		end(c);
		return;
	}
	give(c);
	if (c->wait.x != NULL)
		hga_op_cancel(&c->wait.base);
	turn(c);
}

/* ---- output ---- */

static int put_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EAGAIN) {
			struct pollfd pf = {.fd = fd, .events = POLLOUT};

			(void)poll(&pf, 1, 1000); /* tried again anyway */
			continue;
		}
		if (w < 0 && errno != EINTR)
			return -1;
		if (w > 0) {
			p += w;
			n -= (size_t)w;
		}
	}
	return 0;
}

/* Whole lines made harmless; the rest waits for its end. */
static int put_lines(int fd, struct hga_buf *q, bool last)
{
	const char *nl = q->len ? memrchr(q->data, '\n', q->len) : NULL;
	size_t n = nl ? (size_t)(nl - q->data) + 1 : 0;
	struct hga_buf clean;
	int rc;

	if (last || (n == 0 && q->len >= LINE_MAX_BYTES))
		n = q->len;
	if (n == 0)
		return 0;
	hga_buf_init(&clean, 8 * HGA_EXEC_QUEUE);
	rc = hga_term_filter(&clean, hga_strn(q->data, n), NULL);
	if (rc == 0)
		rc = put_all(fd, clean.data, clean.len);
	hga_buf_release(&clean);
	hga_buf_consume(q, n);
	return rc;
}

/* 0 all written, 1 later, -1 nobody reads. */
static int put(struct hga_console *c, int stream, bool last)
{
	struct hga_buf *q = hga_ssh_exec_queue(c->x, stream);
	struct hga_buf *line = &c->line[stream];
	struct pollfd pf = {.fd = c->args.out_fd[stream], .events = POLLOUT};

	while (q->len > 0) {
		size_t n = q->len < CHUNK ? q->len : CHUNK;

		if (poll(&pf, 1, 0) <= 0)
			return 1;
		if (c->args.filter) {
			if (hga_buf_add(line, q->data, n, NULL) < 0 ||
			    put_lines(pf.fd, line, false) < 0)
				return -1;
		} else if (put_all(pf.fd, q->data, n) < 0) {
			return -1;
		}
		hga_buf_consume(q, n);
	}
	return last ? put_lines(pf.fd, line, true) : 0;
}

static void on_out(struct hga_watch *w, int events)
{
	struct hga_console *c = w->data;

	(void)events; /* writing tells */
	hga_watch_stop(c->loop, w);
	turn(c);
}

static void on_wait(struct hga_op *op)
{
	turn((struct hga_console *)((char *)op -
	                            offsetof(struct hga_console, wait)));
}

static int wait_for(struct hga_console *c, int late)
{
	struct hga_err *err = &c->base.err;

	if (late != 0)
		return hga_watch_start(c->loop, &c->out[late - 1], HGA_WRITE,
		                       err);
	if (c->wait.x == NULL) {
		memset(&c->wait, 0, sizeof(c->wait));
		c->wait.base.done = on_wait;
		if (hga_ssh_wait_start(c->x, &c->wait, 0, 0, c->at < c->len,
		                       err) < 0)
			return -1;
	}
	if (c->args.input && !c->in_eof && c->len == 0 && !c->in.running)
		return hga_watch_start(c->loop, &c->in, HGA_READ, err);
	return 0;
}

/* Moves what can be moved, then waits for more. */
static void turn(struct hga_console *c)
{
	struct hga_ssh_exec_info info;
	int late = 0;

	hga_ssh_exec_info(c->x, &info);
	for (int i = 0; i < 2 && late == 0; i++) {
		int rc = put(c, i, info.ended);

		if (rc < 0) {
			end(c);
			return;
		}
		late = rc > 0 ? i + 1 : 0;
	}
	hga_ssh_exec_resume(c->x);
	if (info.ended && late == 0) {
		end(c);
		return;
	}
	give(c);
	if (wait_for(c, late) < 0)
		end(c);
}

/* ---- terminal ---- */

static void resize(struct hga_console *c)
{
	struct winsize ws;

	if (ioctl(c->args.in_fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0 &&
	    ws.ws_row > 0)
		hga_ssh_exec_resize(c->x, ws.ws_col, ws.ws_row);
}

static void on_winch(int signo, void *data)
{
	(void)signo; /* the only one */
	resize(data);
}

static int make_raw(struct hga_console *c, struct hga_err *err)
{
	struct termios raw;
	int rc;

	if (tcgetattr(c->args.in_fd, &c->saved) != 0)
		return hga_fail(err, HGA_IO, errno, "Terminal",
		                "standard input is no terminal");
	raw = c->saved;
	cfmakeraw(&raw);
	rc = hga_loop_signal(c->loop, SIGWINCH, on_winch, c, err);
	if (rc < 0)
		return rc;
	c->signals = true;
	c->restore = true;
	if (tcsetattr(c->args.in_fd, TCSADRAIN, &raw) != 0)
		return hga_fail(err, HGA_IO, errno, "Terminal",
		                "cannot set the terminal");
	resize(c);
	return 0;
}

int hga_console_start(struct hga_loop *loop, struct hga_console *c,
                      struct hga_ssh_exec *x,
                      const struct hga_console_args *args, struct hga_err *err)
{
	int rc = 0;

	c->args = *args;
	c->loop = loop;
	c->x = x;
	c->escape = 1;
	c->in.fd = args->in_fd;
	c->in.fn = on_in;
	c->in.data = c;
	for (int i = 0; i < 2; i++) {
		c->out[i].fd = args->out_fd[i];
		c->out[i].fn = on_out;
		c->out[i].data = c;
		hga_buf_init(&c->line[i], 2 * LINE_MAX_BYTES);
	}
	if (!args->input)
		hga_ssh_exec_eof(x);
	if (args->raw)
		rc = make_raw(c, err);
	if (rc == 0) {
		hga_op_begin(&c->base, on_cancel);
		rc = wait_for(c, 0);
		if (rc < 0)
			*err = c->base.err;
	}
	if (rc < 0) {
		hga_console_release(c);
		c->base.state = HGA_OP_IDLE;
	}
	return rc;
}
