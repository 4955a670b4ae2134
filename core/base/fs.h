/*
 * Local files: safe opening, atomic writing, locks, names, tree removal.
 *
 * Every descriptor is O_CLOEXEC.  Errors: missing -HGA_NOTFOUND, taken
 * -HGA_EXISTS, else -HGA_IO; the message names operation and path.
 * Calls block (local disks only).
 */
#ifndef HGA_BASE_FS_H
#define HGA_BASE_FS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* open with O_CLOEXEC added, EINTR repeated.  Returns a descriptor. */
int hga_fs_open(const char *path, int flags, unsigned mode,
                struct hga_err *err) HGA_MUST_USE;
/* Fills err from errno sys for an operation ("open") on path. */
int hga_fs_fail(struct hga_err *err, int sys, const char *what,
                const char *path);

/* Appends a whole file; longer than max: -HGA_PROTOCOL "TooLarge". */
int hga_fs_read(const char *path, size_t max, struct hga_buf *out,
                struct hga_err *err) HGA_MUST_USE;
/* The rest of an open descriptor likewise. */
int hga_fs_read_fd(int fd, const char *path, size_t max, struct hga_buf *out,
                   struct hga_err *err) HGA_MUST_USE;
/* All n bytes to a descriptor. */
int hga_fs_write_fd(int fd, const char *path, const void *p, size_t n,
                    struct hga_err *err) HGA_MUST_USE;

enum {
	HGA_FS_SYNC = 1, /* fsync file and directory */
	HGA_FS_EXCL = 2  /* an existing target is -HGA_EXISTS */
};
/*
 * Atomic: temporary file beside the target (O_EXCL, O_NOFOLLOW, final mode),
 * rename over it.  On failure the target is as before and no file is left.
 */
int hga_fs_replace(const char *path, struct hga_str data, unsigned mode,
                   int flags, struct hga_err *err) HGA_MUST_USE;
/* In place: truncates or creates; links at the end are followed. */
int hga_fs_write(const char *path, struct hga_str data, unsigned mode,
                 struct hga_err *err) HGA_MUST_USE;
/* Appends in one write; creates with mode.  sync: on disk when it returns. */
int hga_fs_append(const char *path, struct hga_str data, unsigned mode,
                  bool sync, struct hga_err *err) HGA_MUST_USE;
/* Copies content into a new file (replaced atomically) with mode. */
int hga_fs_copy(const char *from, const char *to, unsigned mode,
                struct hga_err *err) HGA_MUST_USE;
/* fsync of the directory that holds path. */
int hga_fs_sync_dir(const char *path, struct hga_err *err) HGA_MUST_USE;

/* mkdir; parents: also missing parents, and an existing directory is fine. */
int hga_fs_mkdir(const char *path, unsigned mode, bool parents,
                 struct hga_err *err) HGA_MUST_USE;
/* mkdirat with mask in place of the umask of the process (077). */
int hga_fs_mkdirat(int dir, const char *path, unsigned mode, mode_t mask,
                   struct hga_err *err) HGA_MUST_USE;
/* New directory parent/prefixXXXXXX (0700); its path is appended. */
int hga_fs_tmpdir(const char *parent, const char *prefix, struct hga_buf *out,
                  struct hga_err *err) HGA_MUST_USE;
/* Removes a file or a whole tree by descriptors, never through a link;
 * missing is fine. */
int hga_fs_rmtree(const char *path, struct hga_err *err) HGA_MUST_USE;

/*
 * Opened object belongs to us (or to root, with root_too) and has none of
 * the bits of mask: else -HGA_AUTH "Owner" or "Mode" naming path.
 */
int hga_fs_check_owner(int fd, const char *path, unsigned mask, bool root_too,
                       struct hga_err *err) HGA_MUST_USE;

/* One path component that cannot escape: not "", ".", "..", no / or control
 * bytes, valid UTF-8, at most 255 bytes. */
bool hga_fs_name_ok(struct hga_str name);

/*
 * flock on a file created with 0600 (O_NOFOLLOW).  Returns the descriptor
 * (closing it unlocks).  Taken by another: -HGA_EXISTS "Locked" at once;
 * waiting is the caller's (timer).
 */
int hga_fs_lock(const char *path, bool shared,
                struct hga_err *err) HGA_MUST_USE;
/* Same, trying again every few milliseconds for up to wait_ms (blocks the
 * process: for locks held for milliseconds only). */
int hga_fs_lock_wait(const char *path, bool shared, int wait_ms,
                     struct hga_err *err) HGA_MUST_USE;

/* Free bytes for us on the file system of path. */
int hga_fs_space(const char *path, uint64_t *bytes,
                 struct hga_err *err) HGA_MUST_USE;
/* Name of the file system of path: "ext4", "xfs", "btrfs", "tmpfs",
 * "overlay", "nfs", "cifs", "fuse", ... or "0x<magic>". */
int hga_fs_type(const char *path, char out[32],
                struct hga_err *err) HGA_MUST_USE;
/* It is one whose locks are not reliable (network, FUSE). */
bool hga_fs_type_remote(const char *type);

#endif
