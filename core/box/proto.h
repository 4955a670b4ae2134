/*
 * What the supervisor (box.c) and the box program (guest/) say to each other.
 *
 * Three programs in a row: daemon -- keeper -- agent (pid 1 of the instance).
 * Neighbours talk over a unix SEQPACKET pair, one message per packet:
 * u8 type, u32 id, payload of at most HGA_BOX_PAYLOAD bytes, little-endian,
 * up to HGA_BOX_FDS descriptors beside it.  Strings are u32 length and bytes.
 * The daemon speaks only to the keeper, which forwards what is the agent's.
 * A malformed message ends the instance.
 *
 * The specification of an instance is a file of records u16 tag, u32 length,
 * bytes; an unknown tag is a failure.  Parameters never travel in argv.
 *
 * Everything here is inline, for the box program links nothing of ours.
 */
#ifndef HGA_BOX_PROTO_H
#define HGA_BOX_PROTO_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	HGA_BOX_PAYLOAD = 60000,
	HGA_BOX_HEAD = 5,
	HGA_BOX_MSG = HGA_BOX_HEAD + HGA_BOX_PAYLOAD,
	HGA_BOX_FDS = 3,
	HGA_BOX_LAYERS = 16,
	HGA_BOX_DISKS = 16,
	HGA_BOX_RECORD = 4 << 20, /* largest record */
	HGA_BOX_SPEC = 32 << 20,  /* largest specification */

	/* descriptors of the keeper; nothing else is open */
	HGA_BOX_FD_CTL = 3,
	HGA_BOX_FD_SPEC = 4,
	HGA_BOX_FD_LIFE = 5,

	/* exit status of pid 1 */
	HGA_BOX_EXIT_OFF = 0,
	HGA_BOX_EXIT_FAIL = 1,
	HGA_BOX_EXIT_REBOOT = 99
};

enum hga_box_msg {
	/* daemon -> keeper -> agent */
	HGA_BOX_EXEC = 1, /* user, cwd, u32 argc, argv.., u32 n, env..; 3 fds */
	HGA_BOX_KILL,     /* i32 signal, u32 ms until SIGKILL follows (0: no) */
	HGA_BOX_CONN,     /* u16 port */
	/* daemon -> keeper: path, names (hga_box_disk); keeper -> agent: the
	 * same with u32 major, u32 minor before it */
	HGA_BOX_DISK,
	HGA_BOX_UNDISK, /* path; keeper -> agent as DISK */
	/* daemon -> keeper */
	HGA_BOX_PORTS = 16, /* rules (hga_box_rule, packed); replaces all */
	HGA_BOX_POWER,      /* u8 enum hga_box_power */
	/* keeper -> agent */
	HGA_BOX_SSH = 32, /* one connected socket */
	/* agent -> keeper, before BOOTED: sockets made inside for TCP, name
	 * queries by UDP and by TCP; not sent: there is no network */
	HGA_BOX_NET,
	/* to the daemon */
	HGA_BOX_BORN = 64, /* pidfd of pid 1 */
	HGA_BOX_BOOTED,    /* u16 port of SSH (0: not listening), u8 has net */
	HGA_BOX_FAIL,      /* step, i32 errno, text */
	HGA_BOX_LISTEN,    /* tag; one listening socket */
	HGA_BOX_DOWN,      /* u8 enum hga_box_reason: an orderly end began */
	HGA_BOX_GONE,      /* u8 enum hga_box_reason, i32 status of waitpid */
	HGA_BOX_EXIT,      /* answer: i32 status of waitpid */
	HGA_BOX_FD,        /* answer: one descriptor */
	HGA_BOX_OK,        /* answer: done */
	HGA_BOX_ERR        /* answer: i32 errno, text */
};

enum hga_box_power {
	HGA_BOX_POWER_OFF = 1,
	HGA_BOX_POWER_REBOOT,
	HGA_BOX_POWER_KILL
};

enum hga_box_reason {
	HGA_BOX_REASON_NONE = 0, /* still there */
	HGA_BOX_REASON_OFF,
	HGA_BOX_REASON_REBOOT,
	HGA_BOX_REASON_CRASH,
	HGA_BOX_REASON_KILLED
};

enum hga_box_tag {
	HGA_BOX_TAG_HOSTNAME = 1,
	HGA_BOX_TAG_IMAGES_DIR, /* absolute */
	HGA_BOX_TAG_LAYER,      /* name below images_dir, top first; repeated */
	HGA_BOX_TAG_UPPER,      /* relative to images_dir */
	HGA_BOX_TAG_WORK,
	HGA_BOX_TAG_ADDRESS,    /* dotted, 127.77.h.l */
	HGA_BOX_TAG_PRIVATE_IP, /* dotted */
	HGA_BOX_TAG_NET,        /* "none", "redirect" */
	HGA_BOX_TAG_DNS,        /* resolver: dotted[:port] */
	HGA_BOX_TAG_HOST_PORT,  /* decimal; repeated */
	HGA_BOX_TAG_FILE,       /* u32 mode, owner, path, rest: data; repeated;
	                           a path that ends in / is a directory */
	HGA_BOX_TAG_USER,       /* name, shell, groups (comma list); repeated */
	HGA_BOX_TAG_DISK, /* path (absolute; empty: names of the root volume),
	                     names (comma list, below /dev); repeated */
	HGA_BOX_TAG_RULE, /* hga_box_rule; repeated */
	HGA_BOX_TAG_CGROUP,
	HGA_BOX_TAG_LIMITS,
	HGA_BOX_TAG_IDMAP,
	HGA_BOX_TAG_CONSOLE
};

/* Inbound rule, 12 bytes: u8 protocol (6, 17, 0 = all), u8 prefix length,
 * u16 first port, u16 last port, u16 zero, u32 network (host order value). */
struct hga_box_rule {
	uint8_t proto, prefix;
	uint16_t from, to;
	uint32_t net;
};

enum {
	HGA_BOX_RULE_SIZE = 12,
	HGA_BOX_RULES = 1024
};

/* ---- reading: a view that turns bad instead of overrunning ---- */

struct hga_box_rd {
	const uint8_t *p;
	size_t n;
	bool bad; /* a read did not fit; all later reads give zeros */
};

struct hga_box_text { /* not NUL-terminated, borrowed */
	const char *s;
	size_t n;
};

static inline const uint8_t *hga_box_rd_bytes(struct hga_box_rd *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->bad || n > r->n) {
		r->bad = true;
		return NULL;
	}
	r->p += n;
	r->n -= n;
	return p;
}

static inline uint8_t hga_box_rd_u8(struct hga_box_rd *r)
{
	const uint8_t *p = hga_box_rd_bytes(r, 1);

	return p ? p[0] : 0;
}

static inline uint16_t hga_box_rd_u16(struct hga_box_rd *r)
{
	const uint8_t *p = hga_box_rd_bytes(r, 2);

	return p ? (uint16_t)(p[0] | p[1] << 8) : 0;
}

static inline uint32_t hga_box_rd_u32(struct hga_box_rd *r)
{
	const uint8_t *p = hga_box_rd_bytes(r, 4);

	return p ? (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
	               (uint32_t)p[3] << 24
	         : 0;
}

static inline struct hga_box_text hga_box_rd_text(struct hga_box_rd *r)
{
	struct hga_box_text t = {"", 0};
	size_t n = hga_box_rd_u32(r);
	const uint8_t *p = hga_box_rd_bytes(r, n);

	if (p != NULL) {
		t.s = (const char *)p;
		t.n = n;
	}
	return t;
}

static inline bool hga_box_rd_rule(struct hga_box_rd *r,
                                   struct hga_box_rule *out)
{
	out->proto = hga_box_rd_u8(r);
	out->prefix = hga_box_rd_u8(r);
	out->from = hga_box_rd_u16(r);
	out->to = hga_box_rd_u16(r);
	if (hga_box_rd_u16(r) != 0)
		r->bad = true;
	out->net = hga_box_rd_u32(r);
	return !r->bad && out->prefix <= 32 && out->from <= out->to;
}

/* ---- writing into a fixed block; `full` instead of an overrun ---- */

struct hga_box_wr {
	uint8_t *p;
	size_t n, cap;
	bool full;
};

static inline void hga_box_wr_bytes(struct hga_box_wr *w, const void *p,
                                    size_t n)
{
	if (w->full || n > w->cap - w->n) {
		w->full = true;
		return;
	}
	if (n > 0)
		memcpy(w->p + w->n, p, n);
	w->n += n;
}

static inline void hga_box_wr_u8(struct hga_box_wr *w, unsigned v)
{
	uint8_t b = (uint8_t)(v & 255);

	hga_box_wr_bytes(w, &b, 1);
}

static inline void hga_box_wr_u16(struct hga_box_wr *w, unsigned v)
{
	uint8_t b[2] = {(uint8_t)(v & 255), (uint8_t)(v >> 8 & 255)};

	hga_box_wr_bytes(w, b, 2);
}

static inline void hga_box_wr_u32(struct hga_box_wr *w, uint32_t v)
{
	uint8_t b[4] = {(uint8_t)(v & 255), (uint8_t)(v >> 8 & 255),
	                (uint8_t)(v >> 16 & 255), (uint8_t)(v >> 24 & 255)};

	hga_box_wr_bytes(w, b, 4);
}

static inline void hga_box_wr_text(struct hga_box_wr *w, const char *s,
                                   size_t n)
{
	hga_box_wr_u32(w, (uint32_t)(n > UINT32_MAX ? UINT32_MAX : n));
	hga_box_wr_bytes(w, s, n);
}

static inline void hga_box_wr_rule(struct hga_box_wr *w,
                                   const struct hga_box_rule *rule)
{
	hga_box_wr_u8(w, rule->proto);
	hga_box_wr_u8(w, rule->prefix);
	hga_box_wr_u16(w, rule->from);
	hga_box_wr_u16(w, rule->to);
	hga_box_wr_u16(w, 0);
	hga_box_wr_u32(w, rule->net);
}

/* ---- messages ---- */

struct hga_box_in {
	enum hga_box_msg type;
	uint32_t id;
	struct hga_box_rd body; /* into the caller's buffer */
	int fds[HGA_BOX_FDS];   /* the receiver's from now on; -1: none */
	size_t n_fds;
};

/* Head of a packet; false when it is too short. */
static inline bool hga_box_parse(const uint8_t *p, size_t n,
                                 struct hga_box_in *in)
{
	struct hga_box_rd r = {p, n, false};

	in->type = (enum hga_box_msg)hga_box_rd_u8(&r);
	in->id = hga_box_rd_u32(&r);
	in->body = r;
	return !r.bad;
}

/*
 * Sends one message; 0, or -1 with errno (EAGAIN on a full non-blocking
 * socket).  The descriptors stay the caller's.
 */
static inline int hga_box_send(int sock, enum hga_box_msg type, uint32_t id,
                               const void *body, size_t n, const int *fds,
                               size_t n_fds)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(HGA_BOX_FDS * sizeof(int))];
	} anc = {.align = {0}};
	uint8_t head[HGA_BOX_HEAD] = {
	    (uint8_t)type, (uint8_t)(id & 255), (uint8_t)(id >> 8 & 255),
	    (uint8_t)(id >> 16 & 255), (uint8_t)(id >> 24 & 255)};
	union { /* iovec is not const-correct */
		const void *in;
		void *out;
	} cast = {.in = body};
	struct iovec v[2] = {{head, sizeof(head)}, {cast.out, n}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
	ssize_t r;

	if (n > HGA_BOX_PAYLOAD || n_fds > HGA_BOX_FDS) {
		errno = EMSGSIZE;
		return -1;
	}
	if (n_fds > 0) {
		struct cmsghdr *c;

		m.msg_control = anc.room;
		m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		if (c == NULL) { /* cannot be: there is room */
			errno = EINVAL;
			return -1;
		}
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	do
		r = sendmsg(sock, &m, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -1 : 0;
}

static inline void hga_box_close_fds(struct hga_box_in *in)
{
	for (size_t i = 0; i < in->n_fds; i++)
		(void)close(in->fds[i]); /* nothing to be told */
	in->n_fds = 0;
}

/* Descriptors of the ancillary part; more than HGA_BOX_FDS: false. */
static inline bool hga_box_take_fds(struct msghdr *m, struct hga_box_in *in)
{
	bool good = true;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int),
			       sizeof(int));
			if (in->n_fds < HGA_BOX_FDS) {
				in->fds[in->n_fds++] = fd;
			} else {
				good = false;
				(void)close(fd); /* not ours to keep */
			}
		}
	}
	return good;
}

/*
 * Receives one message into buf (HGA_BOX_MSG bytes): 1, 0 at the end, -1 with
 * errno (EAGAIN; EBADMSG: malformed, its descriptors are closed).
 */
static inline int hga_box_recv(int sock, uint8_t *buf, struct hga_box_in *in)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(8 * sizeof(int))];
	} anc;
	struct iovec v = {buf, HGA_BOX_MSG};
	struct msghdr m = {.msg_iov = &v,
	                   .msg_iovlen = 1,
	                   .msg_control = anc.room,
	                   .msg_controllen = sizeof(anc.room)};
	ssize_t r;

	memset(in, 0, sizeof(*in));
	do
		r = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (r < 0 && errno == EINTR);
	if (r <= 0)
		return r < 0 ? -1 : 0;
	if (!hga_box_take_fds(&m, in) ||
	    (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
	    !hga_box_parse(buf, (size_t)r, in)) {
		hga_box_close_fds(in);
		errno = EBADMSG;
		return -1;
	}
	return 1;
}

#endif
