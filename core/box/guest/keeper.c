/*
 * The keeper: one per instance, in the host's namespaces.  It listens on the
 * instance's public address, forwards messages between daemon and pid 1, and
 * guards the life of pid 1: when the lifeline or the control socket ends,
 * pid 1 is killed, and with it everything inside.
 */
#include "box/guest/net.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum {
	SSH_PORT = 22,
	SSH_PORT_ELSE = 2222
};

struct keeper {
	int agent; /* to pid 1 */
	int pidfd; /* of pid 1 */
	pid_t pid;
	int listener;  /* -1: no rule admits SSH */
	uint16_t port; /* of SSH; 0: not listening */
	int net;       /* of proxy.c, to poll; -1: there is no network */
	uint32_t address;
	struct rules rules;
	struct disk disks[HGA_BOX_DISKS]; /* names empty: a free slot */
	/* requests that the agent works at, by slot; 0: none */
	uint32_t attaching[HGA_BOX_DISKS], detaching[HGA_BOX_DISKS];
	bool booted, killed, dying;
	bool agent_full, ctl_full; /* wait for room before reading */
	uint8_t buf[HGA_BOX_MSG];
};

static struct keeper keeper;
static struct spec spec;
static void *spec_map; /* files and users of spec borrow from it */
static size_t spec_size;

static void tell(enum hga_box_msg type, uint32_t id, const void *p, size_t n)
{
	/* a daemon that is gone is noticed by the lifeline */
	(void)hga_box_send(HGA_BOX_FD_CTL, type, id, p, n, NULL, 0);
}

static void tell_fault(int sock, const struct fault *f)
{
	uint8_t room[512];
	struct hga_box_wr w = {room, 0, sizeof(room), false};

	hga_box_wr_text(&w, f->step, strlen(f->step));
	hga_box_wr_u32(&w, (uint32_t)f->sys);
	hga_box_wr_text(&w, f->text, strlen(f->text));
	/* nobody else could be told */
	(void)hga_box_send(sock, HGA_BOX_FAIL, 0, w.p, w.n, NULL, 0);
}

static void tell_gone(enum hga_box_reason reason, int status)
{
	uint8_t room[8];
	struct hga_box_wr w = {room, 0, sizeof(room), false};

	hga_box_wr_u8(&w, reason);
	hga_box_wr_u32(&w, (uint32_t)status);
	tell(HGA_BOX_GONE, 0, w.p, w.n);
}

static void tell_error(uint32_t id, int sys, const char *text)
{
	uint8_t room[256];
	struct hga_box_wr w = {room, 0, sizeof(room), false};

	hga_box_wr_u32(&w, (uint32_t)sys);
	hga_box_wr_text(&w, text, strlen(text));
	tell(HGA_BOX_ERR, id, w.p, w.n);
}

/* ---- inbound SSH ---- */

static int bind_port(struct keeper *k, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
	                         .sin_port = htons(port)};
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	in.sin_addr.s_addr = htonl(k->address);
	/* a reboot binds while connections of the last boot linger */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0 ||
	    (k->booted && listen(fd, 128) < 0)) {
		int sys = errno;

		(void)close(fd); /* never listened */
		errno = sys;
		return -1;
	}
	k->port = port;
	return fd;
}

/*
 * Listener if a rule names port 22, else none.  Where 22 is refused (no
 * right, or a server of the host holds it on every address) 2222 is used.
 */
static int set_listener(struct keeper *k)
{
	bool want = k->address != 0 && rules_cover(&k->rules, SSH_PORT);

	if (!want && k->listener >= 0) {
		(void)close(k->listener); /* refuses from now on */
		k->listener = -1;
		k->port = 0;
	}
	if (!want || k->listener >= 0)
		return 0;
	k->listener = bind_port(k, SSH_PORT);
	if (k->listener < 0 && (errno == EACCES || errno == EADDRINUSE))
		k->listener = bind_port(k, SSH_PORT_ELSE);
	return k->listener < 0 ? -1 : 0;
}

/* Closing with RST, so that the peer does not see an orderly end. */
static void refuse(int fd)
{
	struct linger now = {.l_onoff = 1};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	(void)close(fd); /* the peer learns it */
}

static void on_connection(struct keeper *k)
{
	struct sockaddr_in in = {0};
	socklen_t n = sizeof(in);
	int fd = accept4(k->listener, (struct sockaddr *)&in, &n, SOCK_CLOEXEC);

	if (fd < 0)
		return; /* the peer left meanwhile */
	if (!rules_admit(&k->rules, SSH_PORT, ntohl(in.sin_addr.s_addr)) ||
	    hga_box_send(k->agent, HGA_BOX_SSH, 0, NULL, 0, &fd, 1) < 0) {
		refuse(fd);
		return;
	}
	(void)close(fd); /* the agent has it */
}

/* ---- life of pid 1 ---- */

static void kill_guest(struct keeper *k)
{
	k->dying = true;
	if (syscall(SYS_pidfd_send_signal, k->pidfd, SIGKILL, NULL, 0) < 0)
		(void)kill(k->pid, SIGKILL); /* its own child: still ours */
}

/* reboot(2) inside reaches us as SIGINT (halt, off) or SIGHUP (restart). */
static enum hga_box_reason reason_of(const struct keeper *k, int status)
{
	if (k->killed)
		return HGA_BOX_REASON_KILLED;
	if (WIFEXITED(status) && WEXITSTATUS(status) == HGA_BOX_EXIT_OFF)
		return HGA_BOX_REASON_OFF;
	if (WIFEXITED(status) && WEXITSTATUS(status) == HGA_BOX_EXIT_REBOOT)
		return HGA_BOX_REASON_REBOOT;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGINT)
		return HGA_BOX_REASON_OFF;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGHUP)
		return HGA_BOX_REASON_REBOOT;
	return HGA_BOX_REASON_CRASH;
}

/* ---- messages ---- */

static bool has_room(int sock)
{
	struct pollfd p = {.fd = sock, .events = POLLOUT};

	return poll(&p, 1, 0) > 0;
}

static void on_ports(struct keeper *k, struct hga_box_in *in)
{
	uint8_t room[2];
	struct hga_box_wr w = {room, 0, sizeof(room), false};

	if (!rules_parse(&in->body, &k->rules)) {
		tell_error(in->id, EINVAL, "malformed rules");
		return;
	}
	if (set_listener(k) < 0) {
		tell_error(in->id, errno, "listen on port 22");
		return;
	}
	hga_box_wr_u16(&w, k->port);
	tell(HGA_BOX_OK, in->id, w.p, w.n);
}

static bool on_power(struct keeper *k, struct hga_box_in *in)
{
	uint8_t what = in->body.n == 1 ? in->body.p[0] : 0;

	if (what == HGA_BOX_POWER_KILL) {
		k->killed = true;
		kill_guest(k);
		return true;
	}
	if (what != HGA_BOX_POWER_OFF && what != HGA_BOX_POWER_REBOOT)
		return false;
	/* an agent that cannot be reached is dying already */
	(void)hga_box_send(k->agent, HGA_BOX_POWER, 0, &what, 1, NULL, 0);
	return true;
}

/* ---- volumes ---- */

static void drop_disk(struct keeper *k, size_t i)
{
	if (k->disks[i].fd >= 0)
		(void)close(k->disks[i].fd); /* AUTOCLEAR does the rest */
	memset(&k->disks[i], 0, sizeof(k->disks[i]));
	k->disks[i].fd = -1;
	k->attaching[i] = k->detaching[i] = 0;
}

static size_t disk_slot(const struct keeper *k, const char *path)
{
	size_t i = 0;

	while (i < HGA_BOX_DISKS &&
	       (path ? strcmp(k->disks[i].path, path) != 0 ||
	                   k->disks[i].names[0] == '\0'
	             : k->disks[i].names[0] != '\0'))
		i++;
	return i;
}

static void ask_agent(struct keeper *k, enum hga_box_msg type, uint32_t id,
                      const struct disk *d)
{
	static uint8_t room[PATH_MAX + 512];
	struct hga_box_wr w = {room, 0, sizeof(room), false};

	hga_box_wr_u32(&w, d->major);
	hga_box_wr_u32(&w, d->minor);
	hga_box_wr_text(&w, "", 0); /* the path is the host's business */
	hga_box_wr_text(&w, d->names, strlen(d->names));
	if (hga_box_send(k->agent, type, id, w.p, w.n, NULL, 0) < 0)
		tell_error(id, errno, "the instance is ending");
}

static void on_disk(struct keeper *k, struct hga_box_in *in)
{
	static struct disk d; /* too large for the stack */
	size_t i = disk_slot(k, NULL);
	struct fault f;

	if (!disk_parse(&in->body, &d) || d.path[0] == '\0') {
		tell_error(in->id, EINVAL, "malformed volume");
	} else if (disk_slot(k, d.path) < HGA_BOX_DISKS) {
		tell_error(in->id, EEXIST, "the volume is attached");
	} else if (i == HGA_BOX_DISKS) {
		tell_error(in->id, ENOSPC, "too many volumes");
	} else if (disk_open(&d, &f) < 0) {
		tell_error(in->id, f.sys, f.text);
	} else {
		k->disks[i] = d;
		k->attaching[i] = in->id;
		ask_agent(k, HGA_BOX_DISK, in->id, &d);
	}
}

static void on_undisk(struct keeper *k, struct hga_box_in *in)
{
	struct hga_box_text t = hga_box_rd_text(&in->body);
	static char path[PATH_MAX];
	size_t i;

	if (in->body.bad || !text_copy(path, sizeof(path), t) ||
	    (i = disk_slot(k, path)) == HGA_BOX_DISKS) {
		tell_error(in->id, ENOENT, "no such volume");
		return;
	}
	k->detaching[i] = in->id;
	ask_agent(k, HGA_BOX_UNDISK, in->id, &k->disks[i]);
}

/* An answer of the agent decides about the devices it was asked for. */
static void settle_disks(struct keeper *k, enum hga_box_msg type, uint32_t id)
{
	for (size_t i = 0; i < HGA_BOX_DISKS && id != 0; i++) {
		bool good = type == HGA_BOX_OK;

		if (k->attaching[i] == id) {
			k->attaching[i] = 0;
			if (!good)
				drop_disk(k, i);
		} else if (k->detaching[i] == id) {
			k->detaching[i] = 0;
			if (good)
				drop_disk(k, i);
		}
	}
}

/* From the daemon; false: the instance must end. */
static bool on_daemon(struct keeper *k)
{
	struct hga_box_in in;
	bool good = true;

	if (hga_box_recv(HGA_BOX_FD_CTL, k->buf, &in) <= 0)
		return false;
	switch (in.type) {
	case HGA_BOX_EXEC:
	case HGA_BOX_KILL:
	case HGA_BOX_CONN:
		if (hga_box_send(k->agent, in.type, in.id, in.body.p, in.body.n,
		                 in.fds, in.n_fds) < 0)
			tell_error(in.id, errno, "the instance is ending");
		break;
	case HGA_BOX_DISK:
		on_disk(k, &in);
		break;
	case HGA_BOX_UNDISK:
		on_undisk(k, &in);
		break;
	case HGA_BOX_PORTS:
		on_ports(k, &in);
		break;
	case HGA_BOX_POWER:
		good = on_power(k, &in);
		break;
	case HGA_BOX_SSH:
	case HGA_BOX_NET:
	case HGA_BOX_BORN:
	case HGA_BOX_BOOTED:
	case HGA_BOX_FAIL:
	case HGA_BOX_LISTEN:
	case HGA_BOX_DOWN:
	case HGA_BOX_GONE:
	case HGA_BOX_EXIT:
	case HGA_BOX_FD:
	case HGA_BOX_OK:
	case HGA_BOX_ERR:
	default:
		good = false;
		break;
	}
	if (!good) {
		struct fault f;

		(void)fault_set(&f, "protocol", EBADMSG, "message %u",
		                (unsigned)in.type);
		tell_fault(HGA_BOX_FD_CTL, &f);
	}
	hga_box_close_fds(&in);
	return good;
}

/* The sockets of the instance's network. */
static void on_net(struct keeper *k, struct hga_box_in *in)
{
	struct net_socks s;

	if (in->n_fds != 3 || k->net >= 0)
		return;
	s = (struct net_socks){.tcp = in->fds[0],
	                       .dns_udp = in->fds[1],
	                       .dns_tcp = in->fds[2],
	                       .imds = -1};
	in->n_fds = 0;
	k->net = proxy_open(&spec, &s);
	if (k->net < 0)
		say("hgauto-box: network: %s", strerror(errno));
}

static void on_booted(struct keeper *k)
{
	uint8_t room[3];
	struct hga_box_wr w = {room, 0, sizeof(room), false};

	k->booted = true;
	if (k->listener >= 0 && listen(k->listener, 128) < 0) {
		say("hgauto-box: listen: %s", strerror(errno));
		k->port = 0;
	}
	hga_box_wr_u16(&w, k->port);
	hga_box_wr_u8(&w, k->net >= 0);
	tell(HGA_BOX_BOOTED, 0, w.p, w.n);
}

/* From pid 1; false: it is gone or speaks nonsense. */
static bool on_agent(struct keeper *k)
{
	struct hga_box_in in;

	if (hga_box_recv(k->agent, k->buf, &in) <= 0)
		return false;
	if (in.type == HGA_BOX_BOOTED) {
		on_booted(k);
	} else if (in.type == HGA_BOX_NET) {
		on_net(k, &in);
	} else if (in.type >= HGA_BOX_FAIL) {
		settle_disks(k, in.type, in.id);
		(void)hga_box_send(HGA_BOX_FD_CTL, in.type, in.id, in.body.p,
		                   in.body.n, in.fds, in.n_fds);
	}
	hga_box_close_fds(&in);
	return true;
}

/* ---- loop ---- */

enum {
	W_LIFE,
	W_PID,
	W_CTL,
	W_AGENT,
	W_LISTEN,
	W_NET,
	W_N
};

/* What to wait for now.  A message is read only when its copy fits into the
 * other socket, so a send never blocks. */
static void arm(const struct keeper *k, struct pollfd p[W_N])
{
	short ctl = k->agent_full ? 0 : POLLIN;
	short agent = k->ctl_full ? 0 : POLLIN;

	if (k->agent_full)
		agent |= POLLOUT;
	if (k->ctl_full)
		ctl |= POLLOUT;
	p[W_LIFE] = (struct pollfd){.fd = HGA_BOX_FD_LIFE, .events = POLLIN};
	p[W_PID] = (struct pollfd){.fd = k->pidfd, .events = POLLIN};
	p[W_CTL] = (struct pollfd){.fd = HGA_BOX_FD_CTL, .events = ctl};
	p[W_AGENT] = (struct pollfd){.fd = k->agent, .events = agent};
	p[W_LISTEN] = (struct pollfd){
	    .fd = k->booted && !k->agent_full ? k->listener : -1,
	    .events = POLLIN};
	p[W_NET] = (struct pollfd){.fd = k->net, .events = POLLIN};
	if (k->dying) { /* only its end counts */
		p[W_LIFE].fd = -1;
		p[W_CTL].fd = -1;
		p[W_AGENT].fd = -1;
		p[W_LISTEN].fd = -1;
		p[W_NET].fd = -1;
	}
}

/* One round; false when pid 1 has ended. */
static bool turn(struct keeper *k)
{
	struct pollfd p[W_N];

	arm(k, p);
	if (poll(p, W_N, k->net < 0 || k->dying ? -1 : proxy_wait()) < 0)
		return true; /* EINTR; the descriptors are valid */
	if (p[W_PID].revents != 0)
		return false;
	if (p[W_LIFE].revents != 0) {
		kill_guest(k);
		return true;
	}
	if (p[W_NET].revents != 0)
		proxy_turn();
	if (p[W_CTL].revents & POLLOUT)
		k->ctl_full = false;
	if (p[W_AGENT].revents & POLLOUT)
		k->agent_full = false;
	if (p[W_AGENT].revents & (POLLIN | POLLHUP)) {
		if (!has_room(HGA_BOX_FD_CTL))
			k->ctl_full = true;
		else if (!on_agent(k))
			kill_guest(k);
	}
	if (!k->dying && (p[W_CTL].revents & (POLLIN | POLLHUP))) {
		if (!has_room(k->agent))
			k->agent_full = true;
		else if (!on_daemon(k))
			kill_guest(k);
	}
	if (!k->dying && p[W_LISTEN].revents != 0) {
		if (!has_room(k->agent))
			k->agent_full = true;
		else
			on_connection(k);
	}
	return true;
}

/* After pid 1's end: what it still said, then the last message. */
static void finish(struct keeper *k)
{
	int status = 0;
	struct pollfd p = {.fd = k->agent, .events = POLLIN};

	if (k->listener >= 0)
		(void)close(k->listener); /* before anyone learns of the end */
	if (waitpid(k->pid, &status, 0) < 0)
		say("hgauto-box: wait: %s", strerror(errno));
	while (poll(&p, 1, 0) > 0 && (p.revents & POLLIN) && on_agent(k))
		;
	tell_gone(reason_of(k, status), status);
}

/* ---- start ---- */

static int read_spec(struct fault *f)
{
	struct stat st;

	if (fstat(HGA_BOX_FD_SPEC, &st) < 0 || st.st_size <= 0 ||
	    st.st_size > HGA_BOX_SPEC)
		return fault_set(f, "spec", 0, "size");
	spec_size = (size_t)st.st_size;
	spec_map =
	    mmap(NULL, spec_size, PROT_READ, MAP_PRIVATE, HGA_BOX_FD_SPEC, 0);
	if (spec_map == MAP_FAILED)
		return fault_set(f, "spec", errno, "map");
	(void)close(HGA_BOX_FD_SPEC); /* the map stays */
	return spec_parse(spec_map, spec_size, &spec, f);
}

/* Host keys are among the files: gone as soon as they are written. */
static void forget_spec(void)
{
	spec.n_files = 0;
	spec.n_users = 0;
	(void)munmap(spec_map, spec_size); /* cannot fail */
}

/* The sockets go to those who use them; here none stays open. */
static int send_net(struct net_socks *s)
{
	int fds[3] = {s->tcp, s->dns_udp, s->dns_tcp};
	int r;

	r = hga_box_send(HGA_BOX_FD_CTL, HGA_BOX_NET, 0, NULL, 0, fds, 3);
	for (int i = 0; i < 3; i++)
		(void)close(fds[i]); /* the keeper has it */
	return r;
}

static int send_imds(int fd)
{
	uint8_t room[16];
	struct hga_box_wr w = {room, 0, sizeof(room), false};
	int r;

	hga_box_wr_text(&w, "imds", 4);
	r = hga_box_send(HGA_BOX_FD_CTL, HGA_BOX_LISTEN, 0, w.p, w.n, &fd, 1);
	(void)close(fd); /* the daemon has it */
	return r;
}

static int make_net(struct fault *f)
{
	struct net_socks s = {-1, -1, -1, -1};
	int r = spec.redirect ? guest_net_redirect(spec.private_ip, &s, f)
	                      : guest_net_lonely(spec.private_ip, &s.imds, f);

	if (r < 0)
		return -1;
	if ((s.tcp >= 0 && send_net(&s) < 0) ||
	    (s.imds >= 0 && send_imds(s.imds) < 0))
		return fault_set(f, "net", errno, "hand over the sockets");
	return 0;
}

static int make_guest(struct fault *f)
{
	if (root_enter(&spec, f) < 0)
		return -1;
	if (files_users(&spec, f) < 0)
		return -1;
	for (size_t i = 0; i < spec.n_files; i++)
		if (files_write(&spec.files[i], f) < 0)
			return -1;
	for (size_t i = 0; i < spec.n_disks; i++)
		if (disk_nodes(&spec.disks[i], f) < 0)
			return -1;
	if (make_net(f) < 0)
		return -1;
	return root_shims(f);
}

static bool peer_gone(int sock)
{
	struct pollfd p = {.fd = sock};

	return poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0;
}

/* Pid 1 of the instance. */
static int guest_main(int sock)
{
	struct fault f;
	int initctl;

	/* first of all: without the keeper there is no life */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || peer_gone(sock))
		return HGA_BOX_EXIT_FAIL;
	(void)prctl(PR_SET_NAME, "hgauto-init", 0, 0, 0); /* only a name */
	(void)setsid(); /* a fresh child is no group leader */
	if (dup3(sock, HGA_BOX_FD_CTL, O_CLOEXEC) < 0 ||
	    close_range(HGA_BOX_FD_CTL + 1, ~0u, 0) < 0)
		return HGA_BOX_EXIT_FAIL;
	(void)umask(0);
	initctl = make_guest(&f);
	if (initctl < 0) {
		tell_fault(HGA_BOX_FD_CTL, &f);
		return HGA_BOX_EXIT_FAIL;
	}
	(void)umask(022);
	forget_spec();
	tell(HGA_BOX_BOOTED, 0, NULL, 0);
	return agent_run(HGA_BOX_FD_CTL, initctl);
}

static int start_guest(struct keeper *k, struct fault *f)
{
	int pair[2];

	k->listener = -1;
	k->net = -1;
	k->address = spec.address;
	k->rules = spec.rules;
	if (set_listener(k) < 0)
		return fault_set(f, "bind", errno,
		                 "listen on the public address");
	for (size_t i = 0; i < HGA_BOX_DISKS; i++)
		k->disks[i].fd = -1;
	for (size_t i = 0; i < spec.n_disks; i++) {
		if (disk_open(&spec.disks[i], f) < 0)
			return -1;
		k->disks[i] = spec.disks[i];
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fault_set(f, "clone", errno, "socket pair");
	k->pid = guest_clone(&k->pidfd);
	if (k->pid < 0)
		return fault_set(f, "clone", errno, "new namespaces");
	if (k->pid == 0) {
		(void)close(pair[0]); /* the keeper's end */
		_exit(guest_main(pair[1]));
	}
	(void)close(pair[1]); /* the agent's end */
	k->agent = pair[0];
	return 0;
}

int keeper_run(void)
{
	struct keeper *k = &keeper;
	struct fault f;

	(void)prctl(PR_SET_NAME, "hgauto-keeper", 0, 0, 0); /* only a name */
	/* pins no directory, holds no descriptor but its own */
	if (chdir("/") < 0 || close_range(HGA_BOX_FD_LIFE + 1, ~0u, 0) < 0)
		return 1;
	for (int i = HGA_BOX_FD_CTL; i <= HGA_BOX_FD_LIFE; i++)
		if (fcntl(i, F_SETFD, FD_CLOEXEC) < 0)
			return 1;
	if (read_spec(&f) < 0 || start_guest(k, &f) < 0) {
		tell_fault(HGA_BOX_FD_CTL, &f);
		tell_gone(HGA_BOX_REASON_CRASH, 0);
		return 1;
	}
	forget_spec();
	(void)hga_box_send(HGA_BOX_FD_CTL, HGA_BOX_BORN, 0, NULL, 0, &k->pidfd,
	                   1); /* the lifeline tells us of a lost daemon */
	while (turn(k))
		;
	finish(k);
	return 0;
}
