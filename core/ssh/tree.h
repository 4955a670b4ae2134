/*
 * Whole directories over SFTP: walk first, directories in order, then files,
 * the small ones many at a time.
 *
 * Each file is replaced atomically, the tree is not.  put stores symbolic
 * links as links (or follows or skips them); get never makes one.  Devices,
 * sockets and FIFOs are skipped and listed.  Every name a server gives is
 * checked before anything is written, local targets are opened by descriptor,
 * component by component, never through a link.
 *
 * Limits: depth 64, max_files entries (100,000), max_bytes.
 */
#ifndef HGA_SSH_TREE_H
#define HGA_SSH_TREE_H

#include "base/buf.h"
#include "base/str.h"
#include "ssh/session.h"
#include "ssh/sftp.h"

enum hga_tree_links {
	HGA_LINKS_KEEP,
	HGA_LINKS_FOLLOW,
	HGA_LINKS_SKIP
};

struct hga_tree_args {
	bool put;
	const char *local; /* directory; get makes it */
	struct hga_str remote;
	enum hga_tree_links links;     /* get: KEEP is SKIP */
	const struct hga_str *exclude; /* globs on relative paths */
	size_t n_exclude;
	bool mtime;
	bool keep_going;    /* go on after a file or directory has failed */
	bool newer;         /* leave files of equal size and time */
	uint64_t max_files; /* 0: 100,000 */
	uint64_t max_bytes; /* 0: none */
	unsigned umask;     /* get: of what is made here */
};

struct hga_tree {
	struct hga_op base; /* progress: done has grown */
	uint64_t files, dirs, done, total;
	uint64_t unchanged;     /* newer: files left alone, not in files */
	struct hga_buf skipped; /* relative paths, each ended by NUL */
	struct hga_buf errors;  /* keep_going: texts, each ended by NUL */
	struct hga_buf left;    /* parts that a lost connection left there */
	unsigned n_errors;
	struct hga_sftp_more more;
	void *impl;
};

int hga_tree_start(struct hga_ssh *ssh, struct hga_tree *op,
                   const struct hga_tree_args *args,
                   struct hga_err *err) HGA_MUST_USE;
void hga_tree_release(struct hga_tree *op);

/* Waits until what cancelled transfers left behind is removed, at most so
 * long; never fails. */
struct hga_sftp_idle {
	struct hga_op base;
	struct hga_timer timer;
	struct hga_ssh *ssh_;
	int64_t end_ms_;
};
int hga_sftp_idle_start(struct hga_ssh *ssh, struct hga_sftp_idle *op,
                        int64_t timeout_ms, struct hga_err *err) HGA_MUST_USE;

#endif
