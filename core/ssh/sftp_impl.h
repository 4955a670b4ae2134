/*
 * Inside of the SFTP engine, for sftp.c, xfer.c, tree.c and their tests.
 *
 * The engine turns requests into bytes (tx) and bytes into replies; it knows
 * no channel: sftp.c moves the bytes over one, tests move them by hand with
 * hga_sftp_engine_new, hga_sftp_feed and the tx buffer.
 *
 * Whoever uses the engine links a struct hga_sftp_user: begin runs when the
 * server's version is known, fail when the engine ends (it is unlinked then).
 * A user with requests out must stay until their answers came: a single call
 * then unlinks and frees itself, a job says hga_sftp_over.
 */
#ifndef HGA_SSH_SFTP_IMPL_H
#define HGA_SSH_SFTP_IMPL_H

#include "base/hash.h"
#include "ssh/impl.h"
#include "ssh/sftp.h"

#define HGA_SFTP_FRAME (257 * 1024)
#define HGA_SFTP_TX_HIGH (256 * 1024)
#define HGA_SFTP_LIST_MAX 100000
#define HGA_SFTP_SILENCE_MS 30000

enum hga_sftp_type {
	SFTP_INIT = 1,
	SFTP_VERSION,
	SFTP_OPEN,
	SFTP_CLOSE,
	SFTP_READ,
	SFTP_WRITE,
	SFTP_LSTAT,
	SFTP_FSTAT,
	SFTP_SETSTAT,
	SFTP_FSETSTAT,
	SFTP_OPENDIR,
	SFTP_READDIR,
	SFTP_REMOVE,
	SFTP_MKDIR,
	SFTP_RMDIR,
	SFTP_REALPATH,
	SFTP_STAT,
	SFTP_RENAME,
	SFTP_READLINK,
	SFTP_SYMLINK,
	SFTP_STATUS = 101,
	SFTP_HANDLE,
	SFTP_DATA,
	SFTP_NAME,
	SFTP_ATTRS,
	SFTP_EXTENDED = 200,
	SFTP_EXTENDED_REPLY
};

enum { /* status codes */
	FX_OK,
	FX_EOF,
	FX_NO_SUCH_FILE,
	FX_PERMISSION_DENIED,
	FX_FAILURE,
	FX_BAD_MESSAGE,
	FX_NO_CONNECTION,
	FX_CONNECTION_LOST,
	FX_OP_UNSUPPORTED
};

enum { /* open flags */
	FXF_READ = 1,
	FXF_WRITE = 2,
	FXF_CREAT = 8,
	FXF_EXCL = 32
};

enum { /* extensions offered */
	EXT_LIMITS = 1,
	EXT_POSIX_RENAME = 2,
	EXT_FSYNC = 4,
	EXT_STATVFS = 8,
	EXT_HARDLINK = 16,
	EXT_EXPAND = 32
};

struct hga_sftp_reply {
	uint8_t type;
	struct hga_str body; /* behind the id */
	uint32_t status;     /* of STATUS */
	struct hga_str text; /* of STATUS, foreign */
	uint64_t off;        /* what the request had given */
	uint32_t len;
};

struct hga_sftp;
typedef void (*hga_sftp_fn)(struct hga_sftp *f, void *ctx,
                            const struct hga_sftp_reply *r);

struct hga_sftp_user {
	void (*begin)(struct hga_sftp *f, struct hga_sftp_user *u);
	void (*fail)(struct hga_sftp *f, struct hga_sftp_user *u,
	             const struct hga_err *err);
	/* Queues requests with data while there is room; true if it did. */
	bool (*produce)(struct hga_sftp *f, struct hga_sftp_user *u);
	/* After hga_sftp_over: unlinked, from the engine, never from inside a
	 * reply function or produce. */
	void (*finish)(struct hga_sftp *f, struct hga_sftp_user *u);
	bool over;
	struct hga_sftp_user *prev, *next;
};

struct hga_sftp_req {
	uint32_t id; /* 0: free */
	uint32_t len;
	uint64_t off;
	hga_sftp_fn fn;
	void *ctx;
	uint32_t next_free;
};

struct hga_sftp {
	struct hga_ssh *ssh;
	uint64_t gen;          /* tells this engine from earlier ones */
	struct hga_chan *chan; /* NULL in tests and after the end */
	struct hga_timer silence;
	int64_t last_ms;
	bool version, ended, busy;     /* busy: inside feed or produce */
	bool retired;                  /* to end when its last user has gone */
	struct hga_sftp_job *assisted; /* the get that others may help */
	struct hga_err fatal;          /* the engine is to end */
	unsigned ext;
	uint32_t read_size, write_size; /* bytes a request */
	uint64_t read_out, write_out;   /* bytes on their way */
	bool read_full;                 /* the window was filled */
	struct hga_sftp_user *users, *turn;
	unsigned n_over;
	struct hga_sftp_req *reqs;
	uint32_t n_reqs, free_req, used_reqs, seq;
	struct hga_buf rx, tx;
	size_t rx_at, tx_at;
	size_t frame; /* where the request being built begins in tx */
	uint32_t frame_slot;
	/* rate of the last second, for the amount of reads on their way */
	int64_t rate_ms;
	uint64_t rate_bytes, window;
	bool fast; /* of the last measured stretch */
};

/* ---- engine ---- */

/* Engine without a channel: INIT is in tx.  NULL: out of memory. */
struct hga_sftp *hga_sftp_engine_new(struct hga_ssh *ssh);
void hga_sftp_engine_free(struct hga_sftp *f);
/* Bytes from the server; -kind when malformed (then end the engine). */
int hga_sftp_feed(struct hga_sftp *f, const void *p, size_t n,
                  struct hga_err *err) HGA_MUST_USE;
/* Asks users for data until tx is full; true if something was queued. */
bool hga_sftp_produce(struct hga_sftp *f);
/* Fails all users and frees the engine. */
void hga_sftp_end(struct hga_sftp *f, const struct hga_err *err);

/* The session's engine, opened if need be. */
int hga_sftp_get(struct hga_ssh *ssh, struct hga_sftp **out,
                 struct hga_err *err) HGA_MUST_USE;
/* Whether another read may leave.  Once the window is full several leave at
 * once later: fewer packets to both sides, and the server still has half of
 * the least window to do. */
bool hga_sftp_may_read(struct hga_sftp *f);
/* Bytes that a fast transfer gets in the next moments; 0: none, or who
 * knows when. */
uint64_t hga_sftp_coming(const struct hga_sftp *f);
/* One more engine on a channel of its own, for one user; see retire. */
int hga_sftp_extra(struct hga_ssh *ssh, struct hga_sftp **out,
                   struct hga_err *err) HGA_MUST_USE;
/* Such an engine ends as soon as nobody uses it. */
void hga_sftp_retire(struct hga_sftp *f);
void hga_sftp_link(struct hga_sftp *f, struct hga_sftp_user *u);
void hga_sftp_unlink(struct hga_sftp *f, struct hga_sftp_user *u);
/* The session needs a channel: ends its engine if nobody uses it. */
void hga_sftp_make_way(struct hga_ssh *ssh);
/* Asks for finish. */
void hga_sftp_over(struct hga_sftp *f, struct hga_sftp_user *u);

/*
 * Requests: begin, fields, send.  A failure of memory is remembered in
 * f->fatal, so callers need not check each step.  The reply function is
 * called exactly once unless the engine ends.
 */
void hga_sftp_put_begin(struct hga_sftp *f, uint8_t type, hga_sftp_fn fn,
                        void *ctx, uint64_t off, uint32_t len);
void hga_sftp_put_u32(struct hga_sftp *f, uint32_t v);
void hga_sftp_put_u64(struct hga_sftp *f, uint64_t v);
void hga_sftp_put_str(struct hga_sftp *f, struct hga_str s);
void hga_sftp_put_attrs(struct hga_sftp *f, const struct hga_sftp_attrs *a);
/* Room for n bytes of a string whose length word is written; NULL: memory. */
char *hga_sftp_put_room(struct hga_sftp *f, uint32_t n);
void hga_sftp_put_send(struct hga_sftp *f);
/* Takes back the request being built. */
void hga_sftp_put_abort(struct hga_sftp *f);
/* Whatever the answer is. */
void hga_sftp_ignore(struct hga_sftp *f, void *ctx,
                     const struct hga_sftp_reply *r);

/* One request with a path. */
void hga_sftp_ask_path(struct hga_sftp *f, uint8_t type, struct hga_str path,
                       hga_sftp_fn fn, void *ctx);
/* One request with a handle. */
void hga_sftp_ask_handle(struct hga_sftp *f, uint8_t type, struct hga_str h,
                         hga_sftp_fn fn, void *ctx);
void hga_sftp_ask_open(struct hga_sftp *f, struct hga_str path, uint32_t flags,
                       const struct hga_sftp_attrs *a, hga_sftp_fn fn,
                       void *ctx);
/* Over an existing target where the server can. */
void hga_sftp_ask_rename(struct hga_sftp *f, struct hga_str from,
                         struct hga_str to, hga_sftp_fn fn, void *ctx);

/* ---- replies ---- */

/* Marks the engine for its end: no memory; an answer of the wrong form. */
void hga_sftp_no_memory(struct hga_sftp *f);
void hga_sftp_bad(struct hga_sftp *f, const char *what);
bool hga_sftp_read_u64(struct hga_str s, size_t *at, uint64_t *out);
bool hga_sftp_read_attrs(struct hga_str body, size_t *at,
                         struct hga_sftp_attrs *out);
/* ATTRS reply: true; STATUS: false; anything else also ends the engine. */
bool hga_sftp_is_attrs(struct hga_sftp *f, const struct hga_sftp_reply *r,
                       struct hga_sftp_attrs *out);
/* HANDLE reply into h (at most 256 bytes). */
bool hga_sftp_is_handle(struct hga_sftp *f, const struct hga_sftp_reply *r,
                        struct hga_buf *h);
/* True for STATUS OK; false for another status (or a bad type). */
bool hga_sftp_is_ok(struct hga_sftp *f, const struct hga_sftp_reply *r);

/* Fills err (and more, may be NULL) for a STATUS reply. */
void hga_sftp_status_err(struct hga_sftp *f, const struct hga_sftp_reply *r,
                         const char *doing, struct hga_str path,
                         struct hga_err *err, struct hga_sftp_more *more);

/* "sftp put HOST:/path" */
void hga_sftp_what(struct hga_sftp *f, const char *doing, struct hga_str path,
                   char *out, size_t size);
void hga_sftp_digits(char *out, size_t size, uint64_t v);
/* "~", "~/x", drive letters of Windows servers; -HGA_USAGE for "~user", NUL,
 * empty. */
int hga_sftp_path(struct hga_ssh *ssh, struct hga_str path, struct hga_buf *out,
                  struct hga_err *err) HGA_MUST_USE;

/* ---- listing a directory ---- */

struct hga_sftp_lister {
	struct hga_str path; /* borrowed until done */
	struct hga_buf handle;
	struct hga_sftp_entry *v; /* sorted by name when done */
	size_t *offs;             /* of the names, while they still move */
	size_t n, cap;
	struct hga_buf names;
	struct hga_err err;
	struct hga_sftp_more more;
	void (*done)(struct hga_sftp *f, struct hga_sftp_lister *l);
	void *ctx;
};
void hga_sftp_list(struct hga_sftp *f, struct hga_sftp_lister *l);
void hga_sftp_lister_release(struct hga_sftp_lister *l);

/* ---- transfer of one file (xfer.c) ---- */

enum hga_job_state {
	JOB_OPEN,   /* waits for attributes or the handle */
	JOB_MOVE,   /* data */
	JOB_FINISH, /* all data sent; waits for the last answers */
	JOB_RENAME,
	JOB_CLEAN, /* failed: closes and removes */
	JOB_OVER
};

struct hga_sftp_lane;

struct hga_sftp_job {
	struct hga_sftp_user user;
	struct hga_sftp *f;
	struct hga_sftp_lane *lanes;
	unsigned parallel;
	enum hga_job_state state;
	bool resume, keep; /* keep: the part stays behind */
	bool keep_cancelled;
	bool asked;   /* put: a part may be there, known or not */
	bool left;    /* and the connection is gone */
	bool checked; /* get: the source is still the same */
	uint64_t resumed, contiguous, src_time;
	bool put, hold, need_atomic, atomic, fsync, mtime, sync_local;
	bool check_target; /* put: a directory there is an error */
	bool have_attrs;   /* get: size and mode are known already */
	bool have_handle, closed, part_made, retried;
	bool asks_space; /* put: a write failed; the answer tells why */
	bool probe_sent, probed, discard;
	bool detached; /* nobody waits any more */
	bool big;      /* the owner's */
	unsigned out;  /* requests on their way */
	struct hga_buf remote, rpart;
	/* local side: a descriptor, or memory */
	int fd, dirfd;
	char *lname, *lpart;
	struct hga_str mem;
	struct hga_buf *sink;
	struct hga_buf handle;
	uint32_t mode;  /* to set */
	uint32_t umask; /* get: not given to the file */
	bool set_mode;  /* get: mode is not the source's */
	uint32_t time;  /* to set, with mtime */
	uint64_t size, next, moved, max;
	uint64_t seen; /* the owner's */
	struct hga_hash hash;
	bool hashing;
	uint64_t hashed;
	char sha256[65];
	const char *want_sha256;
	struct hga_err err;
	struct hga_sftp_more more;
	/* Called once at the end, from the loop; frees or reuses the job. */
	void (*done)(struct hga_sftp_job *j);
	void (*moved_fn)(struct hga_sftp_job *j);
	void *owner;
};

/* New job; remote is copied.  NULL: *err. */
struct hga_sftp_job *hga_sftp_job_new(bool put, struct hga_str remote,
                                      struct hga_err *err);
/* get into a file of an open directory (a descriptor of the job's own from
 * now on, also on failure); name: one component. */
int hga_sftp_job_into(struct hga_sftp_job *j, int dirfd, const char *name,
                      struct hga_err *err) HGA_MUST_USE;
/* put from a regular file (likewise the job's): takes size, mode and time. */
int hga_sftp_job_from(struct hga_sftp_job *j, int fd, const char *path,
                      struct hga_err *err) HGA_MUST_USE;
void hga_sftp_job_start(struct hga_sftp *f, struct hga_sftp_job *j);
/* Ends it with an error after removing the part; done is called. */
void hga_sftp_job_stop(struct hga_sftp_job *j, const struct hga_err *err);
/* Stops it: removes the part in the background, then frees the job; done is
 * not called. */
void hga_sftp_job_abandon(struct hga_sftp_job *j);
void hga_sftp_job_free(struct hga_sftp_job *j);
/* Position of the last component. */
size_t hga_sftp_base_at(struct hga_str path);

#endif
