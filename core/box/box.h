/*
 * Local instances: one keeper process and one pid 1 each (box/guest), started,
 * spoken to and ended from the event loop.
 *
 * Tier full only: needs root; every other wish is -HGA_IO "Unsupported".
 * Nothing of an instance outlives this process: the keeper kills pid 1 when
 * our end of the lifeline closes, however we die.
 *
 * Errors of a start: kind io, code = the step that failed (spec bind clone
 * overlay mount pivot file user net protocol spawn boot).  An operation on an
 * instance that has ended: kind io, code "Gone".
 *
 * Operations belong to the caller (net/op.h).  A box must not be freed from
 * inside a callback.  Any number of operations may run at once.
 */
#ifndef HGA_BOX_BOX_H
#define HGA_BOX_BOX_H

#include "base/buf.h"
#include "base/err.h"
#include "box/proto.h"
#include "net/loop.h"
#include "net/op.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- the box program ---- */

struct hga_box_program {
	int fd; /* of a sealed memfd; -1: a file */
	char path[PATH_MAX];
};

/*
 * Makes the embedded program executable: a sealed memfd, or, where the kernel
 * forbids that (vm.memfd_noexec), the file DIR/hgauto-box with mode 0700.
 * path is usable by this process and its children until close.
 */
int hga_box_program_open(struct hga_box_program *p, const void *image,
                         size_t len, const char *dir,
                         struct hga_err *err) HGA_MUST_USE;
void hga_box_program_close(struct hga_box_program *p);

/* ---- one instance ---- */

struct hga_box;

struct hga_box_file {
	const char *path;  /* absolute; a directory when it ends in / */
	const char *owner; /* name in the image; NULL: root */
	unsigned mode;
	const void *data;
	size_t len;
};

struct hga_box_user {
	const char *name, *shell, *groups; /* groups: comma list; NULL: none */
};

struct hga_box_disk {
	const char *path;  /* of a file on the host; empty: only names */
	const char *names; /* comma list of names below /dev */
};

struct hga_box_args {        /* borrowed during the start call only */
	const char *program; /* path of hga_box_program */
	const char *hostname;
	const char *images_dir;     /* absolute, exists */
	const char *const *layers;  /* names below images_dir, top first */
	size_t n_layers;            /* 1 to HGA_BOX_LAYERS */
	const char *upper, *work;   /* relative to images_dir, exist */
	const char *log;            /* appended to; NULL: discarded */
	const char *address;        /* 127.x.y.z for SSH; NULL: none */
	const char *private_ip;     /* NULL: none */
	bool redirect;              /* outbound TCP and names; needs one */
	const char *dns;            /* resolver, IPv4[:port]; NULL: none */
	const uint16_t *host_ports; /* of our loopback, inside 172.31.0.1 */
	size_t n_host_ports;        /* at most 32 */
	const struct hga_box_file *files;
	size_t n_files;
	const struct hga_box_user *users;
	size_t n_users;
	const struct hga_box_disk *disks; /* at most HGA_BOX_DISKS */
	size_t n_disks;
	const struct hga_box_rule *rules;
	size_t n_rules;
	int64_t timeout_ms; /* until booted; 0: 30 s */
};

enum hga_box_state {
	HGA_BOX_NEW = 0,
	HGA_BOX_STARTING,
	HGA_BOX_UP,
	HGA_BOX_ENDED
};

struct hga_box_info {
	enum hga_box_state state;
	enum hga_box_reason down;   /* an orderly end has begun */
	enum hga_box_reason reason; /* of the end */
	int status;                 /* of waitpid for pid 1 */
	pid_t keeper;
	uint16_t ssh_port; /* 22, 2222, or 0: not listening */
	bool net;          /* the redirect works (not without nf_tables) */
};

/* Start, rules or wait: which one is the function's business. */
struct hga_box_op {
	struct hga_op base;
	struct hga_box *box; /* the module's, as all below */
	struct hga_box_op *next;
	struct hga_timer timer;
	uint32_t id;
	const char *step; /* code of the error when it is refused */
	unsigned char what;
	bool kills; /* when its time is over */
};

struct hga_box *hga_box_new(struct hga_loop *loop,
                            struct hga_err *err) HGA_MUST_USE;

/*
 * Frees; an instance that still runs is killed and awaited, at most 2 s,
 * without the loop (the orderly way is kill, then wait).  Running operations
 * are cancelled.  NULL is allowed.
 */
void hga_box_free(struct hga_box *box);

/* Done when pid 1 is ready and, if the rules say so, listens for SSH. */
int hga_box_start(struct hga_box *box, struct hga_box_op *op,
                  const struct hga_box_args *args,
                  struct hga_err *err) HGA_MUST_USE;

const struct hga_box_info *hga_box_get_info(const struct hga_box *box);
/* "off", "reboot", "crash", "killed", or "" while it runs. */
const char *hga_box_reason_name(enum hga_box_reason reason);

/*
 * Hands out a socket that listens inside: "imds", where 169.254.169.254:80
 * leads.  Returns the descriptor, the caller's; -HGA_NOTFOUND when there is
 * none or it was taken.  While it is open it keeps the instance's network.
 */
int hga_box_listener(struct hga_box *box, const char *name,
                     struct hga_err *err) HGA_MUST_USE;

/* Replaces the inbound rules. */
int hga_box_ports(struct hga_box *box, struct hga_box_op *op,
                  const struct hga_box_rule *rules, size_t n,
                  struct hga_err *err) HGA_MUST_USE;

/*
 * Makes a file a block device inside, and takes it away again.  Refused: kind
 * io, code "loop" (no device, no such volume), "busy" (mounted inside).
 */
int hga_box_attach(struct hga_box *box, struct hga_box_op *op,
                   const struct hga_box_disk *disk,
                   struct hga_err *err) HGA_MUST_USE;
int hga_box_detach(struct hga_box *box, struct hga_box_op *op, const char *path,
                   struct hga_err *err) HGA_MUST_USE;

/* protocol "tcp", "udp", "icmp" (ignored: false in *used), "-1"; cidr IPv4. */
int hga_box_rule_make(const char *protocol, int from, int to, const char *cidr,
                      struct hga_box_rule *out, bool *used,
                      struct hga_err *err) HGA_MUST_USE;

/* Sends the request; the end is seen by wait.  Harmless after the end. */
int hga_box_power(struct hga_box *box, enum hga_box_power what,
                  struct hga_err *err) HGA_MUST_USE;

/* Done when nothing of the instance is left.  timeout_ms 0: no limit; when
 * it passes: kill and wait on (kills), else kind timeout. */
int hga_box_wait(struct hga_box *box, struct hga_box_op *op, int64_t timeout_ms,
                 bool kills, struct hga_err *err) HGA_MUST_USE;

/* ---- a command inside ---- */

enum {
	HGA_BOX_QUEUE = 256 << 10
};

struct hga_box_exec_args {
	const char *user; /* NULL: root */
	const char *cwd;  /* NULL: the user's home */
	const char *const *argv;
	size_t argc;
	const char *const *env; /* NAME=value */
	size_t n_env;
	const void *in; /* copied; then end of file */
	size_t in_len;
	int64_t timeout_ms; /* 0: none */
};

/*
 * Output is read into bounded queues that the owner empties in progress and
 * done; a full queue stops the command.  After a passed deadline (kind
 * timeout) or cancel its process group gets TERM and 2 s later KILL.
 */
struct hga_box_exec {
	struct hga_op base;
	struct hga_buf out, errq;
	bool exited; /* code or signal is valid */
	int code, signal;
	struct hga_box_exec_impl *impl; /* the module's */
};

/* done: exited and both pipes at their end (or 1 s after the exit while a
 * background process holds them).  More than 60,000 bytes of arguments and
 * environment: kind usage. */
int hga_box_exec_start(struct hga_box *box, struct hga_box_exec *x,
                       const struct hga_box_exec_args *args,
                       struct hga_err *err) HGA_MUST_USE;
/* After the owner consumed queued output: read on. */
void hga_box_exec_resume(struct hga_box_exec *x);
/* Cancels a running one, frees the queues. */
void hga_box_exec_release(struct hga_box_exec *x);

#endif
