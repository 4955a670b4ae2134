/*
 * Inside of core/ssh: the session struct and channels as the pump sees them.
 * Nothing outside this folder includes it.
 *
 * A channel (struct hga_chan) belongs to the session from hga_chan_new on.
 * Its user sets the functions below and lets go with hga_chan_drop; what
 * libssh2 still holds then (an open channel, a request on its way) is a
 * zombie that the pump finishes.  State that libssh2 keeps in the session
 * (opening a channel) is used by one channel at a time: the slot.
 */
#ifndef HGA_SSH_IMPL_H
#define HGA_SSH_IMPL_H

#include "net/dial.h"
#include "ssh/auth.h"
#include "ssh/hostkey.h"
#include "ssh/session.h"

#include <libssh2.h>

#define HGA_SSH_WINDOW (2 * 1024 * 1024)
#define HGA_SSH_PACKET 32768
/* Seconds of a round trip from which one channel does not fill the line. */
#define HGA_SSH_LONG_RTT 0.02
#define HGA_SSH_WRITE 32700 /* libssh2 cuts longer writes to this */
#define HGA_SSH_CHANNELS 10 /* OpenSSH's MaxSessions */

enum hga_ssh_phase {
	HGA_SSH_CONNECT,
	HGA_SSH_BANNER,
	HGA_SSH_KEX,
	HGA_SSH_HOSTKEY,
	HGA_SSH_LOGIN,
	HGA_SSH_READY,
	HGA_SSH_DEAD
};

enum hga_chan_state {
	HGA_CHAN_QUEUED,   /* waits for the slot */
	HGA_CHAN_OPENING,  /* has the slot */
	HGA_CHAN_STARTING, /* exec or subsystem request sent */
	HGA_CHAN_RUNNING,
	HGA_CHAN_GONE /* libssh2 holds nothing */
};

struct hga_chan_pty {
	const char *term;
	int cols, rows;
};

struct hga_chan {
	struct hga_ssh *ssh;
	LIBSSH2_CHANNEL *ch;
	enum hga_chan_state state;
	const char *type;   /* "session", "direct-tcpip"; static */
	char *open_message; /* of another type than session; owned */
	size_t open_len;
	const struct hga_chan_pty *pty; /* wanted first; the user's */
	bool pty_done;
	const char *request; /* "exec", "subsystem"; static; NULL: none */
	char *message;       /* owned */
	size_t message_len;
	unsigned window;
	bool no_input, eof_sent; /* nothing will be written; the server knows */
	bool asked;              /* libssh2 waits for the server's answer ... */
	uint64_t asked_rx;       /* ... and had so many bytes when asked */
	bool zombie;
	bool urgent;           /* fails where another one would queue */
	bool forgotten;        /* closed by us long ago: no longer counted */
	int64_t closed_ms;     /* when we closed it; 0: not yet */
	unsigned refused;      /* times, with no other one open */
	int64_t not_before_ms; /* of the next try */
	bool passive;          /* no operation waits for it */
	/* The user's; none is called after hga_chan_drop. */
	void *user;
	void (*on_start)(struct hga_chan *);
	/* The request has left, its answer may be a round trip away: sends
	 * what may follow it at once; -kind in *err ends the session.  May be
	 * NULL; called again and again. */
	int (*on_request)(struct hga_chan *, struct hga_err *err);
	/* One turn on a running channel: true on progress; -kind in *err ends
	 * the session. */
	bool (*on_turn)(struct hga_chan *, struct hga_err *err);
	/* The channel never came up, or the session died. */
	void (*on_fail)(struct hga_chan *, const struct hga_err *err);
	struct hga_chan *next;
};

struct hga_ssh {
	struct hga_bio_heap heap; /* first: libssh2's allocator wants it */
	struct hga_loop *loop;
	unsigned refs;
	enum hga_ssh_phase phase;
	size_t lazy; /* bytes to send that can wait for the next turn */
	bool held;   /* they wait for it already */
	bool pumping, again, closing;
	bool broken; /* libssh2 failed: its state is undefined */
	LIBSSH2_SESSION *s;
	struct hga_bio bio;
	struct hga_dial dial;
	struct hga_watch watch;
	struct hga_timer deadline; /* of the phase */
	struct hga_timer kick;     /* pump again in the next step */
	struct hga_timer alive;
	struct hga_timer retry; /* of a refused channel */
	struct hga_timer bury;  /* of channels that the server does not close */
	struct hga_timer late;  /* reads what has not woken us */
	uint64_t late_rx;       /* bytes received when it was started */
	struct hga_chan *spare; /* open for the next command */
	struct hga_timer spare_end;
	unsigned execs; /* commands that the server has started */
	bool brief;     /* the last command was over in a moment */
	bool ever_open; /* some channel was opened */
	struct hga_ssh_connect *connect; /* while connecting */
	struct hga_err dead;             /* why it ended */
	struct hga_err end;              /* why it is to end (its carrier) */
	/* arguments, owned */
	char *name, *host, *user, *ciphers, *bind_address;
	int port, family;
	int64_t connect_ms, banner_ms, kex_ms, login_ms;
	int64_t t_start_ms, t_total_ms;
	int64_t paused_ms, left_ms; /* while a question is open */
	int64_t interval_ms;
	int count, probes;
	int64_t probe_rx_ms; /* last_rx_ms when the probes were counted */
	bool probe_due;      /* to be sent by the pump */
	struct hga_trust trust;
	struct hga_trust_found found;
	char *kex, *macs;
	struct hga_auth auth;
	struct hga_ssh *via;     /* carries this one; a reference */
	struct hga_relay *relay; /* its channel */
	struct hga_proxy *proxy; /* or a child */
	/* banner watching: bytes before the line "SSH-" */
	char banner[256];
	size_t banner_len, pre_bytes;
	unsigned pre_lines;
	bool banner_done;
	/* identity */
	struct hga_buf first; /* the server's first packet, until kex is done */
	struct hga_buf hostkey;
	char fingerprint[64];
	char address[64];
	char disconnect[256]; /* the server's reason */
	char *login_banner;
	struct hga_chan *chans; /* oldest first */
	void *slot;             /* a channel or forward */
	unsigned open, limit;   /* session channels libssh2 knows; allowed */
	struct hga_forward *forwards;
	unsigned probes_sent;
	bool no_probe; /* another request waits for its answer */
	struct hga_sftp *sftp;
	uint64_t sftp_gen; /* of the newest one */
	struct hga_ssh_ping *pings;
	double rtt;
};

struct hga_ssh *hga_ssh_ref(struct hga_ssh *ssh);
/* A zeroed session, NULL without memory; hga_ssh_unref gives it back. */
struct hga_ssh *hga_ssh_alloc(void) HGA_MUST_USE;
void hga_ssh_unref(struct hga_ssh *ssh);
/* Pump in the next step of the loop. */
void hga_ssh_kick(struct hga_ssh *ssh);
/* connect.c: one step of a phase before ready: 1 progress, 0 wait, -kind. */
int hga_ssh_step_connect(struct hga_ssh *ssh, bool filled,
                         struct hga_err *err) HGA_MUST_USE;
/* The login's deadline stands still, and goes on. */
void hga_ssh_pause(struct hga_ssh *ssh);
int hga_ssh_resume(struct hga_ssh *ssh, struct hga_err *err) HGA_MUST_USE;
/* Sets the callbacks of watch and timers (but deadline). */
void hga_ssh_hook(struct hga_ssh *ssh);
const char *hga_ssh_phase_name(enum hga_ssh_phase p);
/* Fills err: closed by its owner. */
void hga_ssh_closed_err(struct hga_ssh *ssh, struct hga_err *err);
/* Ends the session; everything on it ends with err. */
void hga_ssh_die(struct hga_ssh *ssh, const struct hga_err *err);
/* Fills err for a failed libssh2 call: the transport's own reason if it
 * ended, the server's words, else libssh2's.  Returns -kind. */
int hga_ssh_fail(struct hga_ssh *ssh, struct hga_err *err, const char *doing,
                 int rc);
/* -HGA_NET unless the session is ready. */
int hga_ssh_check(struct hga_ssh *ssh, struct hga_err *err) HGA_MUST_USE;
/* Smoothed round trip in seconds from the kernel, 0 when unknown. */
double hga_ssh_rtt(struct hga_ssh *ssh);
/* Seconds since the connection was started. */
double hga_ssh_age(const struct hga_ssh *ssh);

/* New queued channel; message is copied.  NULL: out of memory. */
struct hga_chan *hga_chan_new(struct hga_ssh *ssh, const char *request,
                              struct hga_str message, unsigned window);
/* New queued channel of another type, with what its open request says. */
struct hga_chan *hga_chan_new_open(struct hga_ssh *ssh, const char *type,
                                   struct hga_str message);
/* A running channel that the server has opened; NULL: out of memory. */
struct hga_chan *hga_chan_adopt(struct hga_ssh *ssh, LIBSSH2_CHANNEL *ch);
/* A probe has no answer yet. */
bool hga_ssh_probing(const struct hga_ssh *ssh);
/* forward.c */
bool hga_forward_turn_all(struct hga_ssh *ssh, struct hga_err *err);
bool hga_forward_waited(const struct hga_ssh *ssh);
void hga_forward_end_all(struct hga_ssh *ssh);
/* proxy.c: the child of a ProxyCommand; its descriptor is the transport. */
int hga_proxy_start(struct hga_ssh *ssh, const char *command, int *fd,
                    struct hga_err *err) HGA_MUST_USE;
void hga_proxy_stop(struct hga_ssh *ssh);
/* The transport has ended before the login: true when err says why, false to
 * be asked again (the child's end is awaited, at most 1 s). */
bool hga_proxy_failed(struct hga_ssh *ssh, struct hga_err *err);
/* One turn of each: true on progress; *err tells of the session's end. */
bool hga_chan_turn_all(struct hga_ssh *ssh, struct hga_err *err);
/* Bytes of answers on their way that need not wake us; 0: any does. */
size_t hga_chan_answers(const struct hga_ssh *ssh);
void hga_chan_free(struct hga_chan *c);
/* The user lets go; c must not be used afterwards. */
void hga_chan_drop(struct hga_chan *c);

/* Foreign text for a message: control bytes and broken UTF-8 become '?'. */
void hga_ssh_clean(char *out, size_t size, struct hga_str text);

#endif
