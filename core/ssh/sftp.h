/*
 * SFTP version 3 on a channel of its own (libssh2's SFTP is not used).
 *
 * One engine per session, opened at first use.  Single operations are calls;
 * files move by transfers: put writes NAME.hga-XXXXXXXX.part beside the
 * target (0600, exclusive), compares the size and renames; get does the same
 * locally.  A failed or cancelled transfer removes its part.  Nothing a server
 * says chooses a local path.
 *
 * Limits: frames 257 KiB, 100,000 entries a listing, 30 s without any answer
 * while requests are out, at most 4 MiB on their way.  A malformed answer ends
 * the engine (kind protocol), not the session.
 *
 * Errors: notfound; remote PermissionDenied, SftpFailure, NoSpace,
 * IsDirectory, Unsupported; protocol Malformed, TooLarge, UnsafeName,
 * ShortTransfer; timeout Transfer; net as the session; io (local).
 */
#ifndef HGA_SSH_SFTP_H
#define HGA_SSH_SFTP_H

#include "base/buf.h"
#include "base/str.h"
#include "ssh/session.h"

#include <stdbool.h>
#include <stdint.h>

/* What an SFTP error knows beyond its text. */
struct hga_sftp_more {
	char path[512];
	int64_t offset; /* -1: none */
	int status;     /* SSH_FX_..., -1: none */
	char server[256];
};

enum { /* which attributes are given */
	HGA_ATTR_SIZE = 1,
	HGA_ATTR_IDS = 2,
	HGA_ATTR_MODE = 4,
	HGA_ATTR_TIMES = 8
};

struct hga_sftp_attrs {
	uint32_t flags;
	uint64_t size;
	uint32_t uid, gid;
	uint32_t mode; /* type and permissions as in st_mode */
	uint32_t atime, mtime;
};

struct hga_sftp_entry {
	struct hga_str name; /* checked: one safe component */
	struct hga_sftp_attrs attrs;
};

enum hga_sftp_what {
	HGA_SFTP_STAT,
	HGA_SFTP_LSTAT,
	HGA_SFTP_LIST,
	HGA_SFTP_MKDIR,
	HGA_SFTP_RMDIR,
	HGA_SFTP_REMOVE,
	HGA_SFTP_RENAME, /* over an existing target, atomic if possible */
	HGA_SFTP_SETATTR,
	HGA_SFTP_READLINK,
	HGA_SFTP_SYMLINK, /* path: the link, path2: what it names */
	HGA_SFTP_REALPATH,
	HGA_SFTP_HARDLINK, /* path2: another name of the file path */
	HGA_SFTP_STATVFS,  /* of the file system that holds path */
	HGA_SFTP_EXPAND    /* "~user/x" as an absolute path */
};

struct hga_sftp_space {
	uint64_t block, blocks, free, avail; /* avail: for users; in blocks */
	uint64_t files, files_free;
	bool read_only;
};

struct hga_sftp_call_args {
	enum hga_sftp_what what;
	struct hga_str path, path2;
	struct hga_sftp_attrs attrs; /* MKDIR (mode), SETATTR */
};

struct hga_sftp_call {
	struct hga_op base;
	struct hga_sftp_attrs attrs;    /* STAT, LSTAT */
	struct hga_sftp_entry *entries; /* LIST, sorted by name */
	size_t n_entries;
	struct hga_buf text; /* READLINK, REALPATH, EXPAND; names of LIST */
	struct hga_sftp_space space; /* STATVFS */
	struct hga_sftp_more more;
	void *impl;
};

int hga_sftp_call_start(struct hga_ssh *ssh, struct hga_sftp_call *op,
                        const struct hga_sftp_call_args *args,
                        struct hga_err *err) HGA_MUST_USE;
/* Frees results; cancels a running one. */
void hga_sftp_call_release(struct hga_sftp_call *op);

struct hga_sftp_xfer_args {
	bool put;
	const char *local;   /* NULL: memory */
	struct hga_str data; /* put from memory; borrowed until done */
	struct hga_str remote;
	int64_t mode;   /* -1: that of the source, 0644 from memory */
	unsigned umask; /* get: not given to the file, unless mode is set */
	bool mtime;     /* keep the time of the source */
	bool need_atomic;
	bool fsync;         /* put: also on the server; get: always local */
	bool hash;          /* SHA-256 while the bytes pass */
	const char *sha256; /* get: what it must be (hex); implies hash */
	bool hold;          /* put: leave the part, the caller renames it */
	bool discard;       /* get without local: only count and hash */
	uint64_t max;       /* get: more is protocol TooLarge; 0: no limit */
	/* A part of an earlier try at the same file (size and time) is gone on
	 * with; a lost connection leaves it, with keep a cancel, too. */
	bool resume, keep;
	unsigned parallel; /* put: channels, at most 8; 0: by line and size */
};

struct hga_sftp_xfer {
	struct hga_op base; /* progress: done has grown */
	uint64_t done, total;
	uint64_t resumed; /* bytes that were there already */
	char sha256[65];  /* "" without hash */
	char want_[65];
	bool atomic;
	struct hga_buf part; /* path of the part: hold; or left by a failure */
	struct hga_buf data; /* get to memory */
	struct hga_sftp_more more;
	void *impl;
};

int hga_sftp_xfer_start(struct hga_ssh *ssh, struct hga_sftp_xfer *op,
                        const struct hga_sftp_xfer_args *args,
                        struct hga_err *err) HGA_MUST_USE;
void hga_sftp_xfer_release(struct hga_sftp_xfer *op);

/* Lets the get that runs on ssh, if it is worth it, use another session to
 * the same host, too.  0 also when there is nothing to help with. */
int hga_sftp_assist(struct hga_ssh *ssh, struct hga_ssh *other,
                    struct hga_err *err) HGA_MUST_USE;

/* True for a name a server may give us: one component, no "." or "..", no
 * slash, no control byte, valid UTF-8, at most 255 bytes. */
bool hga_sftp_name_safe(struct hga_str name);

#endif
