/*
 * Open remote files: reads and writes at a position the caller keeps.
 *
 * A file belongs to the SFTP engine that opened it: when that has ended
 * (connection lost, malformed answer) every operation fails with kind net and
 * nothing is opened again behind the caller's back.  Large reads and writes
 * are split into requests that are on their way together; a read gives less
 * than was asked for only at the end of the file.  A failed write may have
 * changed some of the bytes.
 *
 * Limits: HGA_SFTP_IO_MAX bytes an operation.
 */
#ifndef HGA_SSH_SFTP_FILE_H
#define HGA_SSH_SFTP_FILE_H

#include "base/buf.h"
#include "ssh/sftp.h"

#define HGA_SFTP_IO_MAX (1024 * 1024)

struct hga_sftp_file;

enum { /* how to open */
	HGA_SFTP_R = 1,
	HGA_SFTP_W = 2,
	HGA_SFTP_CREATE = 8,
	HGA_SFTP_TRUNC = 16,
	HGA_SFTP_EXCL = 32
};

struct hga_sftp_open {
	struct hga_op base;
	struct hga_sftp_file *file; /* the caller's from done on */
	struct hga_sftp_more more;
	void *impl;
};

/* mode: permissions of a file that is made, before the server's umask. */
int hga_sftp_open_start(struct hga_ssh *ssh, struct hga_sftp_open *op,
                        struct hga_str path, unsigned flags, uint32_t mode,
                        struct hga_err *err) HGA_MUST_USE;
/* Cancels; closes the file if nobody has taken it. */
void hga_sftp_open_release(struct hga_sftp_open *op);

enum hga_sftp_io_what {
	HGA_SFTP_IO_READ,     /* length bytes from offset into data */
	HGA_SFTP_IO_WRITE,    /* text at offset */
	HGA_SFTP_IO_STAT,     /* into attrs */
	HGA_SFTP_IO_TRUNCATE, /* to offset bytes */
	HGA_SFTP_IO_SYNC,     /* Unsupported where the server cannot */
	HGA_SFTP_IO_CLOSE     /* with the server's answer */
};

struct hga_sftp_io_args {
	enum hga_sftp_io_what what;
	uint64_t offset;
	size_t length;
	struct hga_str text; /* copied at the start */
};

struct hga_sftp_io {
	struct hga_op base;
	struct hga_buf data;
	struct hga_sftp_attrs attrs;
	struct hga_sftp_more more;
	void *impl;
};

int hga_sftp_io_start(struct hga_sftp_file *file, struct hga_sftp_io *op,
                      const struct hga_sftp_io_args *args,
                      struct hga_err *err) HGA_MUST_USE;
void hga_sftp_io_release(struct hga_sftp_io *op);

/* Closes it, if still open, without waiting for the answer; NULL is allowed.
 * Operations on their way go on. */
void hga_sftp_file_free(struct hga_sftp_file *file);

#endif
