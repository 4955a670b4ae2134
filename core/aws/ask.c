/* A question on the terminal, read without blocking the loop. */
#include "aws/ask.h"

#include "base/fs.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum {
	WAIT_MS = 300000
};

static void put_back(struct hga_ask *a)
{
	static const char nl = '\n';

	hga_watch_stop(a->loop, &a->watch);
	hga_timer_stop(a->loop, &a->timer);
	/* The terminal may be gone: then nobody looks at it either. */
	(void)!write(a->fd, &nl, 1);
	(void)tcsetattr(a->fd, TCSANOW, &a->saved);
	(void)close(a->fd);
	a->fd = -1;
}

static void on_cancel(struct hga_op *op)
{
	put_back((struct hga_ask *)op);
	hga_op_drop(op);
}

static void finish(struct hga_ask *a)
{
	put_back(a);
	if (a->base.err.kind == HGA_OK && a->n == 0)
		(void)hga_fail(&a->base.err, HGA_AUTH, 0, "NoAnswer",
		               "nothing was typed");
	hga_op_finish(&a->base);
}

static void on_timer(struct hga_timer *t)
{
	struct hga_ask *a = t->data;

	(void)hga_fail(&a->base.err, HGA_TIMEOUT, 0, "Total",
	               "nothing was typed within %d s", WAIT_MS / 1000);
	finish(a);
}

static void on_input(struct hga_watch *w, int events)
{
	struct hga_ask *a = w->data;
	char c = 0;
	ssize_t got;

	(void)events;
	while ((got = read(a->fd, &c, 1)) == 1) {
		if (c == '\n' || c == '\r') {
			finish(a);
			return;
		}
		if (a->n < sizeof(a->answer) - 1)
			a->answer[a->n++] = c;
	}
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	finish(a);
}

static int show(struct hga_ask *a, const char *prompt, struct hga_err *err)
{
	struct termios quiet;

	quiet = a->saved;
	quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
	quiet.c_lflag |= ICANON | ISIG;
	if (tcsetattr(a->fd, TCSAFLUSH, &quiet) < 0)
		return hga_fail(err, HGA_AUTH, errno, "NoTerminal", "/dev/tty");
	return hga_fs_write_fd(a->fd, "/dev/tty", prompt, strlen(prompt), err);
}

int hga_ask_start(struct hga_loop *loop, struct hga_ask *a, const char *prompt,
                  struct hga_err *err)
{
	int rc;

	a->loop = loop;
	a->n = 0;
	a->fd =
	    hga_fs_open("/dev/tty", O_RDWR | O_NONBLOCK | O_NOCTTY, 0, NULL);
	if (a->fd < 0)
		return hga_fail(err, HGA_AUTH, 0, "NoTerminal",
		                "there is no terminal to ask on");
	if (tcgetattr(a->fd, &a->saved) < 0) {
		(void)close(a->fd); /* nothing was changed */
		return hga_fail(err, HGA_AUTH, 0, "NoTerminal",
		                "/dev/tty is no terminal");
	}
	rc = show(a, prompt, err);
	a->watch.fn = on_input;
	a->watch.data = a;
	a->watch.fd = a->fd;
	a->timer.fn = on_timer;
	a->timer.data = a;
	if (rc == 0)
		rc = hga_watch_start(loop, &a->watch, HGA_READ, err);
	if (rc == 0)
		rc = hga_timer_start(loop, &a->timer, WAIT_MS, err);
	if (rc < 0) {
		put_back(a);
		return rc;
	}
	hga_op_begin(&a->base, on_cancel);
	return 0;
}

void hga_ask_release(struct hga_ask *a)
{
	hga_op_cancel(&a->base);
	hga_wipe(a->answer, sizeof(a->answer));
}
