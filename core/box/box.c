/*
 * Supervisor side of local instances: keeper start, message exchange, the
 * end.  Local cloud specification, sections 2.1 to 2.3.
 */
#include "box/box.h"
#include "box/inner.h"

#include "base/mem.h"
#include "base/str.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

enum {
	BOOT_MS = 30000,
	FREE_MS = 2000,
	OUT_MAX = 1024 /* queued messages to the keeper */
};

enum {
	OP_START = 1,
	OP_CALL,
	OP_WAIT
};

struct packet { /* what did not fit into the socket yet */
	struct packet *next;
	enum hga_box_msg type;
	uint32_t id;
	int fds[HGA_BOX_FDS];
	size_t n_fds, len;
	uint8_t body[];
};

struct hga_box {
	struct hga_loop *loop;
	struct hga_hook hook;
	struct hga_box_info info;
	int ctl, life;           /* life: our end of the lifeline */
	int keeper_fd, guest_fd; /* pidfds */
	int imds;                /* listener made inside; -1: taken, none */
	struct hga_watch ctl_w, keeper_w, guest_w;
	bool keeper_gone;
	bool killed; /* we asked for it */
	struct packet *out, **out_end;
	size_t n_out;
	struct hga_box_op *ops;
	struct hga_box_exec_impl *execs;
	uint32_t last_id;
	struct hga_err fail; /* kind 0: none was reported */
	uint8_t buf[HGA_BOX_MSG];
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd); /* sockets, pipes, pidfds: nothing to lose */
	*fd = -1;
}

/* ---- small services ---- */

struct hga_loop *hga_box_loop(struct hga_box *box)
{
	return box->loop;
}

struct hga_box_exec_impl **hga_box_execs(struct hga_box *box)
{
	return &box->execs;
}

uint32_t hga_box_next_id(struct hga_box *box)
{
	if (++box->last_id == 0)
		box->last_id = 1;
	return box->last_id;
}

const struct hga_box_info *hga_box_get_info(const struct hga_box *box)
{
	return &box->info;
}

const char *hga_box_reason_name(enum hga_box_reason reason)
{
	switch (reason) {
	case HGA_BOX_REASON_NONE:
		break;
	case HGA_BOX_REASON_OFF:
		return "off";
	case HGA_BOX_REASON_REBOOT:
		return "reboot";
	case HGA_BOX_REASON_CRASH:
		return "crash";
	case HGA_BOX_REASON_KILLED:
		return "killed";
	}
	return "";
}

static int gone_error(const struct hga_box *box, struct hga_err *err)
{
	return hga_fail(err, HGA_IO, 0, "Gone", "the instance has ended (%s)",
	                hga_box_reason_name(box->info.reason));
}

int hga_box_must_be_up(const struct hga_box *box, struct hga_err *err)
{
	switch (box->info.state) {
	case HGA_BOX_NEW:
	case HGA_BOX_STARTING:
		return hga_fail(err, HGA_IO, 0, "boot",
		                "the instance has not booted yet");
	case HGA_BOX_UP:
		return 0;
	case HGA_BOX_ENDED:
		break;
	}
	return gone_error(box, err);
}

/* ---- sending ---- */

static void drop_fds(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close_fd(&fds[i]);
}

static void drop_packets(struct hga_box *box)
{
	while (box->out != NULL) {
		struct packet *p = box->out;

		box->out = p->next;
		drop_fds(p->fds, p->n_fds);
		hga_free(p);
	}
	box->out_end = &box->out;
	box->n_out = 0;
}

/* Sends what is queued; the watch asks for writing while something is. */
static void flush(struct hga_box *box)
{
	while (box->out != NULL) {
		struct packet *p = box->out;

		if (hga_box_send(box->ctl, p->type, p->id, p->body, p->len,
		                 p->fds, p->n_fds) < 0 &&
		    errno == EAGAIN)
			break;
		/* other errors: the keeper is gone, its pidfd tells */
		box->out = p->next;
		if (box->out == NULL)
			box->out_end = &box->out;
		box->n_out--;
		drop_fds(p->fds, p->n_fds);
		hga_free(p);
	}
	if (hga_watch_start(box->loop, &box->ctl_w,
	                    box->out ? HGA_READ | HGA_WRITE : HGA_READ,
	                    NULL) < 0)
		return; /* a running watch needs no memory */
}

static int queue(struct hga_box *box, enum hga_box_msg type, uint32_t id,
                 struct hga_str body, int *fds, size_t n_fds,
                 struct hga_err *err)
{
	struct packet *p;

	if (box->n_out >= OUT_MAX)
		return hga_fail(err, HGA_IO, EAGAIN, "protocol",
		                "the instance takes no more requests");
	p = hga_alloc(sizeof(*p) + body.n);
	if (p == NULL)
		return hga_fail_mem(err);
	p->next = NULL;
	p->type = type;
	p->id = id;
	p->len = body.n;
	p->n_fds = n_fds;
	if (body.n > 0)
		memcpy(p->body, body.s, body.n);
	for (size_t i = 0; i < n_fds; i++) {
		p->fds[i] = fds[i];
		fds[i] = -1;
	}
	*box->out_end = p;
	box->out_end = &p->next;
	box->n_out++;
	flush(box);
	return 0;
}

static int post(struct hga_box *box, enum hga_box_msg type, uint32_t id,
                struct hga_str body, int *fds, size_t n_fds,
                struct hga_err *err)
{
	if (box->ctl < 0)
		return gone_error(box, err);
	if (body.n > HGA_BOX_PAYLOAD)
		return hga_fail(err, HGA_USAGE, 0, "TooLarge",
		                "request of more than %d bytes",
		                HGA_BOX_PAYLOAD);
	if (box->out == NULL) {
		if (hga_box_send(box->ctl, type, id, body.s, body.n, fds,
		                 n_fds) == 0)
			return 0;
		if (errno != EAGAIN)
			return hga_fail(err, HGA_IO, errno, "protocol",
			                "talk to the instance");
	}
	return queue(box, type, id, body, fds, n_fds, err);
}

int hga_box_post(struct hga_box *box, enum hga_box_msg type, uint32_t id,
                 const struct hga_buf *body, int *fds, size_t n_fds,
                 struct hga_err *err)
{
	int r = post(box, type, id, hga_buf_str(body), fds, n_fds, err);

	drop_fds(fds, n_fds);
	return r;
}

/* ---- operations ---- */

static void kill_guest(struct hga_box *box)
{
	if (box->guest_fd >= 0)
		(void)pidfd_send_signal(box->guest_fd, SIGKILL, NULL, 0);
	close_fd(&box->life); /* the keeper does it too, whatever we may */
}

static void unlink_op(struct hga_box_op *op)
{
	struct hga_box_op **at = &op->box->ops;

	while (*at != NULL && *at != op)
		at = &(*at)->next;
	if (*at == op)
		*at = op->next;
	op->next = NULL;
	hga_timer_stop(op->box->loop, &op->timer);
}

static void finish_op(struct hga_box_op *op)
{
	unlink_op(op);
	hga_op_finish(&op->base);
}

static void fail_op(struct hga_box_op *op, const struct hga_err *why)
{
	op->base.err = *why;
	finish_op(op);
}

static void cancel_op(struct hga_op *base)
{
	struct hga_box_op *op = (struct hga_box_op *)base;

	unlink_op(op);
	hga_op_drop(base);
	if (op->what == OP_START) /* nobody waits for this instance */
		kill_guest(op->box);
}

static struct hga_box_op *find_op(struct hga_box *box, unsigned char what)
{
	struct hga_box_op *op = box->ops;

	while (op != NULL && op->what != what)
		op = op->next;
	return op;
}

static struct hga_box_op *find_call(struct hga_box *box, uint32_t id)
{
	struct hga_box_op *op = box->ops;

	while (op != NULL && (op->what != OP_CALL || op->id != id))
		op = op->next;
	return op;
}

static void begin_op(struct hga_box *box, struct hga_box_op *op,
                     unsigned char what, void (*on_time)(struct hga_timer *))
{
	hga_op_begin(&op->base, cancel_op);
	op->box = box;
	op->what = what;
	op->timer.fn = on_time;
	op->timer.data = op;
	op->next = box->ops;
	box->ops = op;
}

/* ---- the end ---- */

static void stop_watches(struct hga_box *box)
{
	hga_watch_stop(box->loop, &box->ctl_w);
	hga_watch_stop(box->loop, &box->keeper_w);
	hga_watch_stop(box->loop, &box->guest_w);
}

static void close_all(struct hga_box *box)
{
	stop_watches(box);
	drop_packets(box);
	close_fd(&box->life);
	close_fd(&box->ctl);
	close_fd(&box->keeper_fd);
	close_fd(&box->guest_fd);
	close_fd(&box->imds); /* it would keep the namespace alive */
}

static void boot_error(struct hga_box *box, struct hga_err *err)
{
	if (box->fail.kind != HGA_OK)
		*err = box->fail;
	else
		(void)hga_fail(err, HGA_IO, 0, "boot",
		               "the instance ended while it booted");
}

/* Keeper and pid 1 are both gone: everybody who waits learns it. */
static void ended(struct hga_box *box)
{
	struct hga_box_op *op;
	struct hga_err err = {.kind = HGA_OK};

	box->info.state = HGA_BOX_ENDED;
	if (box->info.reason == HGA_BOX_REASON_NONE) /* the keeper was killed */
		box->info.reason = HGA_BOX_REASON_CRASH;
	if (box->killed && box->info.reason == HGA_BOX_REASON_CRASH)
		box->info.reason = HGA_BOX_REASON_KILLED;
	close_all(box);
	hga_box_exec_gone(box);
	while ((op = find_op(box, OP_START)) != NULL) {
		boot_error(box, &err);
		fail_op(op, &err);
	}
	while ((op = find_op(box, OP_CALL)) != NULL) {
		(void)gone_error(box, &err); /* fills err */
		fail_op(op, &err);
	}
	while ((op = find_op(box, OP_WAIT)) != NULL)
		finish_op(op);
}

static void check_end(struct hga_box *box)
{
	if (box->keeper_gone && box->guest_fd < 0)
		ended(box);
}

static void on_guest(struct hga_watch *w, int events)
{
	struct hga_box *box = w->data;

	(void)events; /* readable: it has ended */
	hga_watch_stop(box->loop, w);
	close_fd(&box->guest_fd);
	check_end(box);
}

static void read_messages(struct hga_box *box);

static void reap_keeper(struct hga_box *box)
{
	while (waitpid(box->info.keeper, NULL, 0) < 0 && errno == EINTR)
		;
	box->keeper_gone = true;
}

static void on_keeper(struct hga_watch *w, int events)
{
	struct hga_box *box = w->data;

	(void)events; /* readable: it has ended */
	hga_watch_stop(box->loop, w);
	read_messages(box); /* what it still said */
	hga_watch_stop(box->loop, &box->ctl_w);
	reap_keeper(box);
	if (box->guest_fd >= 0) {
		/* it dies with the keeper; the watch tells when */
		kill_guest(box);
		if (hga_watch_start(box->loop, &box->guest_w, HGA_READ, NULL) <
		    0)
			close_fd(&box->guest_fd); /* no memory to wait */
	}
	check_end(box);
}

/* ---- receiving ---- */

static void on_fail(struct hga_box *box, struct hga_box_rd *r)
{
	struct hga_box_text step = hga_box_rd_text(r);
	int sys = (int)hga_box_rd_u32(r);
	struct hga_box_text text = hga_box_rd_text(r);
	char code[32];

	if (r->bad || box->fail.kind != HGA_OK)
		return; /* the first one counts */
	(void)snprintf(code, sizeof(code), "%.*s", (int)(step.n & 31), step.s);
	if (sys == ENOTSUP)
		(void)snprintf(code, sizeof(code), "Unsupported");
	(void)hga_fail(&box->fail, HGA_IO, sys, code, "%.*s: %.*s",
	               (int)(step.n & 31), step.s, (int)(text.n & 255), text.s);
}

static void on_booted(struct hga_box *box, struct hga_box_rd *r)
{
	struct hga_box_op *op;

	box->info.state = HGA_BOX_UP;
	box->info.ssh_port = hga_box_rd_u16(r);
	box->info.net = hga_box_rd_u8(r) != 0;
	while ((op = find_op(box, OP_START)) != NULL)
		finish_op(op);
}

static void on_gone(struct hga_box *box, struct hga_box_rd *r)
{
	box->info.reason = (enum hga_box_reason)hga_box_rd_u8(r);
	box->info.status = (int)hga_box_rd_u32(r);
	if (box->info.reason > HGA_BOX_REASON_KILLED)
		box->info.reason = HGA_BOX_REASON_CRASH;
}

static void on_ok(struct hga_box *box, struct hga_box_in *in)
{
	struct hga_box_op *op = find_call(box, in->id);

	if (in->body.n == 2)
		box->info.ssh_port = hga_box_rd_u16(&in->body);
	if (op != NULL)
		finish_op(op);
}

static void on_error(struct hga_box *box, struct hga_box_in *in)
{
	int sys = (int)hga_box_rd_u32(&in->body);
	struct hga_box_text text = hga_box_rd_text(&in->body);
	struct hga_box_op *op;
	struct hga_err err = {.kind = HGA_OK};

	if (in->body.bad || hga_box_exec_refused(box, in->id, sys, text))
		return;
	op = find_call(box, in->id);
	if (op == NULL)
		return;
	(void)hga_fail(&err, HGA_IO, sys,
	               sys == ENOTSUP ? "Unsupported"
	               : sys == EBUSY ? "busy"
	                              : op->step,
	               "%.*s", (int)(text.n & 255), text.s); /* fills err */
	fail_op(op, &err);
}

static void on_listen(struct hga_box *box, struct hga_box_in *in)
{
	struct hga_box_text tag = hga_box_rd_text(&in->body);

	if (in->n_fds != 1 || box->imds >= 0 || tag.n != 4 ||
	    memcmp(tag.s, "imds", 4) != 0)
		return; /* its descriptors are closed by the caller */
	box->imds = in->fds[0];
	in->n_fds = 0;
}

int hga_box_listener(struct hga_box *box, const char *name, struct hga_err *err)
{
	int fd = box->imds, r = hga_box_must_be_up(box, err);

	if (r < 0)
		return r;
	if (strcmp(name, "imds") != 0 || fd < 0)
		return hga_fail(err, HGA_NOTFOUND, 0, "NoListener",
		                "the instance has no listener %.40s", name);
	box->imds = -1;
	return fd;
}

static void on_message(struct hga_box *box, struct hga_box_in *in)
{
	switch (in->type) {
	case HGA_BOX_BORN:
		if (in->n_fds == 1 && box->guest_fd < 0) {
			box->guest_fd = in->fds[0];
			box->guest_w.fd = in->fds[0];
			in->n_fds = 0;
		}
		return;
	case HGA_BOX_BOOTED:
		on_booted(box, &in->body);
		return;
	case HGA_BOX_FAIL:
		on_fail(box, &in->body);
		return;
	case HGA_BOX_LISTEN:
		on_listen(box, in);
		return;
	case HGA_BOX_DOWN:
		box->info.down = (enum hga_box_reason)hga_box_rd_u8(&in->body);
		return;
	case HGA_BOX_GONE:
		on_gone(box, &in->body);
		return;
	case HGA_BOX_EXIT:
		hga_box_exec_exit(box, in->id, (int)hga_box_rd_u32(&in->body));
		return;
	case HGA_BOX_OK:
		on_ok(box, in);
		return;
	case HGA_BOX_ERR:
		on_error(box, in);
		return;
	case HGA_BOX_EXEC:
	case HGA_BOX_KILL:
	case HGA_BOX_CONN:
	case HGA_BOX_DISK:
	case HGA_BOX_UNDISK:
	case HGA_BOX_PORTS:
	case HGA_BOX_POWER:
	case HGA_BOX_SSH:
	case HGA_BOX_NET:
	case HGA_BOX_FD:
	default:
		/* nothing that we asked for */
		(void)hga_fail(&box->fail, HGA_IO, EBADMSG, "protocol",
		               "message %u", (unsigned)in->type);
		kill_guest(box);
		return;
	}
}

static void read_messages(struct hga_box *box)
{
	struct hga_box_in in;
	int r;

	while (box->ctl >= 0 &&
	       (r = hga_box_recv(box->ctl, box->buf, &in)) != 0) {
		if (r < 0 && errno == EAGAIN)
			return;
		if (r < 0)
			break;
		on_message(box, &in);
		hga_box_close_fds(&in);
	}
	/* the end, or nonsense: the keeper's pidfd tells when it is over */
	hga_watch_stop(box->loop, &box->ctl_w);
	drop_packets(box);
	kill_guest(box);
}

static void on_ctl(struct hga_watch *w, int events)
{
	struct hga_box *box = w->data;

	if (events & HGA_WRITE)
		flush(box);
	if (events & (HGA_READ | HGA_HUP))
		read_messages(box);
}

/* ---- life cycle ---- */

static void on_loop_free(struct hga_hook *hook);

struct hga_box *hga_box_new(struct hga_loop *loop, struct hga_err *err)
{
	struct hga_box *box = hga_calloc(1, sizeof(*box));

	if (box == NULL) {
		(void)hga_fail_mem(err); /* NULL is the failure */
		return NULL;
	}
	box->loop = loop;
	box->ctl = box->life = box->keeper_fd = box->guest_fd = -1;
	box->imds = -1;
	box->out_end = &box->out;
	box->ctl_w.fn = on_ctl;
	box->keeper_w.fn = on_keeper;
	box->guest_w.fn = on_guest;
	box->ctl_w.data = box->keeper_w.data = box->guest_w.data = box;
	box->hook.fn = on_loop_free;
	box->hook.data = box;
	hga_hook_add(loop, &box->hook);
	return box;
}

/* Kill and wait without the loop. */
static void end_now(struct hga_box *box)
{
	struct pollfd p[2];
	int tries = box->keeper_fd < 0 ? 0 : FREE_MS / 20;

	stop_watches(box);
	kill_guest(box);
	if (box->keeper_gone)
		return;
	/* the keeper may be about to clone: closing its socket ends it too */
	close_fd(&box->ctl);
	p[0] = (struct pollfd){.fd = box->keeper_fd, .events = POLLIN};
	p[1] = (struct pollfd){.fd = box->guest_fd, .events = POLLIN};
	p[0].revents = 0;
	while (tries-- > 0 && poll(p, 1, 20) == 0)
		;
	if (p[0].revents == 0)
		(void)kill(box->info.keeper, SIGKILL); /* pid 1 follows it */
	reap_keeper(box);
	if (p[1].fd >= 0)
		(void)poll(&p[1], 1, FREE_MS); /* killed: it ends by itself */
}

static void end_if_running(struct hga_box *box)
{
	switch (box->info.state) {
	case HGA_BOX_NEW:
	case HGA_BOX_ENDED:
		break;
	case HGA_BOX_STARTING:
	case HGA_BOX_UP:
		end_now(box);
		break;
	}
	box->info.state = HGA_BOX_ENDED;
}

static void cancel_all(struct hga_box *box)
{
	hga_box_exec_cancel_all(box);
	while (box->ops != NULL)
		hga_op_cancel(&box->ops->base);
}

void hga_box_free(struct hga_box *box)
{
	if (box == NULL)
		return;
	if (box->loop != NULL) {
		hga_hook_remove(box->loop, &box->hook);
		cancel_all(box);
		end_if_running(box);
		close_all(box);
	}
	hga_free(box);
}

/* The loop goes first: only hga_free is left for the owner. */
static void on_loop_free(struct hga_hook *hook)
{
	struct hga_box *box = hook->data;

	cancel_all(box);
	end_if_running(box);
	close_all(box);
	box->loop = NULL;
}

/* ---- start ---- */

static int watch_keeper(struct hga_box *box, struct hga_err *err)
{
	int r;

	box->keeper_fd = pidfd_open(box->info.keeper, 0);
	if (box->keeper_fd < 0)
		return hga_fail(err, HGA_IO, errno, "spawn", "pidfd");
	box->keeper_w.fd = box->keeper_fd;
	box->ctl_w.fd = box->ctl;
	r = hga_watch_start(box->loop, &box->keeper_w, HGA_READ, err);
	if (r == 0)
		r = hga_watch_start(box->loop, &box->ctl_w, HGA_READ, err);
	return r;
}

static int start_keeper(struct hga_box *box, const struct hga_box_args *a,
                        struct hga_err *err)
{
	struct hga_box_launched l;
	int r = hga_box_launch(a, &l, err);

	if (r < 0)
		return r;
	box->info.state = HGA_BOX_STARTING;
	box->info.keeper = l.keeper;
	box->ctl = l.ctl;
	box->life = l.life;
	r = watch_keeper(box, err);
	if (r < 0) {
		end_if_running(box);
		close_all(box);
	}
	return r;
}

/* ---- operations for users ---- */

static void on_boot_time(struct hga_timer *t)
{
	struct hga_box_op *op = t->data;
	struct hga_err err = {.kind = HGA_OK};

	(void)hga_fail(&err, HGA_TIMEOUT, 0, "boot",
	               "the instance has not booted in time"); /* fills err */
	kill_guest(op->box);
	fail_op(op, &err);
}

static int check_args(const struct hga_box_args *a, struct hga_err *err)
{
	if (a->program == NULL || a->hostname == NULL ||
	    a->images_dir == NULL || a->upper == NULL || a->work == NULL ||
	    a->n_layers == 0)
		return hga_fail(err, HGA_USAGE, 0, "Missing",
		                "program, hostname, images_dir, layers, upper "
		                "and work are required");
	if (a->n_layers > HGA_BOX_LAYERS)
		return hga_fail(err, HGA_USAGE, 0, "TooLarge",
		                "%zu layers, at most %d", a->n_layers,
		                HGA_BOX_LAYERS);
	if (a->n_rules > HGA_BOX_RULES)
		return hga_fail(err, HGA_USAGE, 0, "TooLarge",
		                "%zu rules, at most %d", a->n_rules,
		                HGA_BOX_RULES);
	if (geteuid() != 0)
		return hga_fail(err, HGA_IO, 0, "Unsupported",
		                "local instances need root (tier full); "
		                "rootless ones are not supported yet");
	return 0;
}

int hga_box_start(struct hga_box *box, struct hga_box_op *op,
                  const struct hga_box_args *args, struct hga_err *err)
{
	int64_t ms = args->timeout_ms > 0 ? args->timeout_ms : BOOT_MS;
	int r = check_args(args, err);

	if (r < 0)
		return r;
	if (box->info.state != HGA_BOX_NEW)
		return hga_fail(err, HGA_USAGE, 0, "Started",
		                "a box is started once");
	begin_op(box, op, OP_START, on_boot_time);
	r = hga_timer_start(box->loop, &op->timer, ms, err);
	if (r == 0)
		r = start_keeper(box, args, err);
	if (r < 0)
		cancel_op(&op->base);
	return r;
}

/* A request that is answered by OK or ERR. */
static int call(struct hga_box *box, struct hga_box_op *op,
                enum hga_box_msg type, const char *step,
                const struct hga_buf *body, struct hga_err *err)
{
	int r;

	begin_op(box, op, OP_CALL, NULL);
	op->id = hga_box_next_id(box);
	op->step = step;
	r = hga_box_post(box, type, op->id, body, NULL, 0, err);
	if (r < 0)
		cancel_op(&op->base);
	return r;
}

int hga_box_ports(struct hga_box *box, struct hga_box_op *op,
                  const struct hga_box_rule *rules, size_t n,
                  struct hga_err *err)
{
	struct hga_buf b;
	int r = hga_box_must_be_up(box, err);

	if (r < 0)
		return r;
	if (n > HGA_BOX_RULES)
		return hga_fail(err, HGA_USAGE, 0, "TooLarge",
		                "%zu rules, at most %d", n, HGA_BOX_RULES);
	hga_buf_init(&b, HGA_BOX_PAYLOAD);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = hga_box_put_rule(&b, &rules[i], err);
	if (r == 0)
		r = call(box, op, HGA_BOX_PORTS, "bind", &b, err);
	hga_buf_release(&b);
	return r;
}

int hga_box_attach(struct hga_box *box, struct hga_box_op *op,
                   const struct hga_box_disk *disk, struct hga_err *err)
{
	struct hga_buf b;
	int r = hga_box_must_be_up(box, err);

	if (r < 0)
		return r;
	hga_buf_init(&b, HGA_BOX_PAYLOAD);
	if ((r = hga_box_put_text(&b, disk->path, err)) == 0 &&
	    (r = hga_box_put_text(&b, disk->names, err)) == 0)
		r = call(box, op, HGA_BOX_DISK, "loop", &b, err);
	hga_buf_release(&b);
	return r;
}

int hga_box_detach(struct hga_box *box, struct hga_box_op *op, const char *path,
                   struct hga_err *err)
{
	struct hga_buf b;
	int r = hga_box_must_be_up(box, err);

	if (r < 0)
		return r;
	hga_buf_init(&b, HGA_BOX_PAYLOAD);
	r = hga_box_put_text(&b, path, err);
	if (r == 0)
		r = call(box, op, HGA_BOX_UNDISK, "loop", &b, err);
	hga_buf_release(&b);
	return r;
}

int hga_box_power(struct hga_box *box, enum hga_box_power what,
                  struct hga_err *err)
{
	char body = (char)what;

	switch (box->info.state) {
	case HGA_BOX_NEW:
		return hga_box_must_be_up(box, err);
	case HGA_BOX_ENDED:
		return 0;
	case HGA_BOX_STARTING:
	case HGA_BOX_UP:
		break;
	}
	if (what == HGA_BOX_POWER_KILL) {
		box->killed = true;
		kill_guest(box); /* the keeper reports the end */
		return 0;
	}
	return post(box, HGA_BOX_POWER, 0, hga_strn(&body, 1), NULL, 0, err);
}

static void on_wait_time(struct hga_timer *t)
{
	struct hga_box_op *op = t->data;
	struct hga_box *box = op->box;
	struct hga_err err = {.kind = HGA_OK};

	if (box->info.state == HGA_BOX_ENDED) { /* it had before the call */
		finish_op(op);
		return;
	}
	if (op->kills) { /* and wait on */
		box->killed = true;
		kill_guest(box);
		return;
	}
	(void)hga_fail(&err, HGA_TIMEOUT, 0, "Total",
	               "the instance still runs"); /* fills err */
	fail_op(op, &err);
}

int hga_box_wait(struct hga_box *box, struct hga_box_op *op, int64_t timeout_ms,
                 bool kills, struct hga_err *err)
{
	int r = 0;

	if (box->info.state == HGA_BOX_NEW)
		return hga_box_must_be_up(box, err);
	begin_op(box, op, OP_WAIT, on_wait_time);
	op->kills = kills;
	if (box->info.state == HGA_BOX_ENDED)
		timeout_ms = 0;
	if (box->info.state == HGA_BOX_ENDED || timeout_ms > 0)
		r = hga_timer_start(box->loop, &op->timer, timeout_ms, err);
	if (r < 0)
		cancel_op(&op->base);
	return r;
}
