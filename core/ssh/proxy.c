/*
 * ProxyCommand: a child whose standard input and output are one end of a
 * socket pair; the session runs over the other one.  What it says on stderr
 * goes to the log, the last 2 KiB into the error, their last line into its
 * text.
 */
#include "ssh/impl.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TAIL 2048
#define GRACE_MS 1000

struct hga_proxy {
	struct hga_ssh *ssh; /* its owner */
	struct hga_proc proc;
	struct hga_timer grace; /* between its silence and its end */
	char tail[TAIL];
	size_t tail_len;
	bool over, waited;
};

static void take_words(struct hga_proxy *p)
{
	struct hga_buf *q = &p->proc.errq;
	size_t n = q->len < TAIL ? q->len : TAIL;
	char clean[512];

	if (q->len == 0)
		return;
	hga_ssh_clean(clean, sizeof(clean), hga_str_trim(hga_buf_str(q)));
	hga_log(HGA_LOG_DEBUG, "ssh", "%s: proxy command: %s", p->ssh->name,
	        clean);
	if (p->tail_len + n > TAIL) {
		size_t drop = p->tail_len + n - TAIL;

		memmove(p->tail, p->tail + drop, p->tail_len - drop);
		p->tail_len -= drop;
	}
	memcpy(p->tail + p->tail_len, q->data + q->len - n, n);
	p->tail_len += n;
	hga_buf_clear(q);
	hga_proc_resume(&p->proc);
}

static struct hga_proxy *proxy_of(struct hga_op *op)
{
	return (struct hga_proxy *)((char *)op -
	                            offsetof(struct hga_proxy, proc));
}

static void on_words(struct hga_op *op)
{
	take_words(proxy_of(op));
}

static void on_exit_(struct hga_op *op)
{
	struct hga_proxy *p = proxy_of(op);

	take_words(p);
	p->over = true;
	hga_ssh_kick(p->ssh);
}

static void on_grace(struct hga_timer *t)
{
	struct hga_proxy *p = t->data;

	p->waited = true;
	hga_ssh_kick(p->ssh);
}

static int spawn(struct hga_proxy *p, const char *command, int fd,
                 struct hga_err *err)
{
	const char *argv[] = {"/bin/sh", "-c", NULL, NULL};
	struct hga_proc_args a = {.argv = argv,
	                          .in = HGA_IO_FD,
	                          .out = HGA_IO_FD,
	                          .err = HGA_IO_PIPE,
	                          .in_fd = fd,
	                          .out_fd = fd};
	struct hga_buf line;
	int rc;

	hga_buf_init(&line, 64 * 1024);
	rc = hga_buf_addf(&line, err, "exec %s", command);
	argv[2] = hga_buf_text(&line);
	if (rc == 0)
		rc = hga_proc_start(p->ssh->loop, &p->proc, &a, err);
	hga_buf_release(&line);
	return rc;
}

int hga_proxy_start(struct hga_ssh *ssh, const char *command, int *fd,
                    struct hga_err *err)
{
	struct hga_proxy *p = hga_calloc(1, sizeof(*p));
	int pair[2], rc;

	if (p == NULL)
		return hga_fail_mem(err);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		hga_free(p);
		return hga_fail(err, HGA_IO, errno, "Socket", "ssh %s",
		                ssh->name);
	}
	p->ssh = ssh;
	p->proc.base.done = on_exit_;
	p->proc.base.progress = on_words;
	p->grace.fn = on_grace;
	p->grace.data = p;
	rc = spawn(p, command, pair[1], err);
	close(pair[1]);
	/* Not in socketpair: the child wants to block. */
	if (rc == 0 && fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0)
		rc =
		    hga_fail(err, HGA_IO, errno, "Socket", "ssh %s", ssh->name);
	if (rc < 0) {
		hga_proc_release(&p->proc);
		hga_free(p);
		close(pair[0]);
		return rc;
	}
	ssh->proxy = p;
	*fd = pair[0];
	return 0;
}

/* The next line of text, which begins behind it then. */
static struct hga_str next_line(struct hga_str *text)
{
	ptrdiff_t nl = hga_str_chr(*text, '\n', 0);
	size_t n = nl < 0 ? text->n : (size_t)nl;
	struct hga_str line = hga_strn(text->s, n);

	*text = hga_strn(text->s + n + (nl >= 0), text->n - n - (nl >= 0));
	return line;
}

static struct hga_str said(const struct hga_proxy *p)
{
	return hga_str_trim(hga_strn(p->tail, p->tail_len));
}

static void tell_words(const struct hga_proxy *p, char *out, size_t size)
{
	struct hga_str text = said(p);
	size_t at = 0;

	while (text.n > 0 && at + 1 < size) {
		if (at > 0)
			out[at++] = '\n';
		hga_ssh_clean(out + at, size - at,
		              hga_str_trim(next_line(&text)));
		at += strlen(out + at);
	}
}

void hga_proxy_stop(struct hga_ssh *ssh)
{
	struct hga_proxy *p = ssh->proxy;

	ssh->proxy = NULL;
	if (p == NULL)
		return;
	if (ssh->connect != NULL)
		tell_words(p, ssh->connect->more.proxy,
		           sizeof(ssh->connect->more.proxy));
	hga_timer_stop(ssh->loop, &p->grace);
	hga_proc_release(&p->proc);
	hga_free(p);
}

bool hga_proxy_failed(struct hga_ssh *ssh, struct hga_err *err)
{
	struct hga_proxy *p = ssh->proxy;
	char how[64] = "closed the connection", words[256];
	struct hga_str text = said(p), line = text;
	const char *sep;

	if (!p->over && !p->waited) {
		if (hga_timer_running(&p->grace) ||
		    hga_timer_start(ssh->loop, &p->grace, GRACE_MS, NULL) == 0)
			return false;
	}
	if (p->over && p->proc.exited && p->proc.signal == 0)
		snprintf(how, sizeof(how), "exited with code %d", p->proc.code);
	else if (p->over && p->proc.exited)
		snprintf(how, sizeof(how), "was ended by signal %d",
		         p->proc.signal);
	while (text.n > 0)
		line = next_line(&text);
	hga_ssh_clean(words, sizeof(words), hga_str_trim(line));
	sep = words[0] != '\0' ? ": " : "";
	(void)hga_fail(err, HGA_NET, 0, "ProxyFailed",
	               "ssh %s: the proxy command %s%s%s", ssh->name, how, sep,
	               words); /* the caller returns it */
	return true;
}
