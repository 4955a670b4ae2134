/*
 * Memory transport below libssh2: it never sees the socket.
 *
 * Output: one growing buffer; hga_bio_write always takes the whole packet (a
 * short write inside libssh2 would have to be repeated with the same pointer),
 * so memory is bounded by the writers looking at hga_bio_full.  Input: one
 * buffer of 256 KiB shared by all sessions while one of them is pumped; what
 * is left over is kept in a block of the session's own.
 *
 * The end of the stream is reported by hga_bio_ended, never by hga_bio_read:
 * libssh2 would drop packets that it has already queued.
 *
 * Also the allocator of libssh2: blocks of a packet's size come from a free
 * list (malloc would give them back to the system and ask again, packet by
 * packet); the list is freed with the last user.  Each session's blocks are
 * linked: what libssh2 1.11.1 forgets (parts of each key exchange) is freed
 * with the session.
 */
#ifndef HGA_SSH_BIO_H
#define HGA_SSH_BIO_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Below a bio: a socket, or a script in tests.  As recv and send on a
 * non-blocking socket: bytes, 0 at the end, or -errno (-EAGAIN). */
struct hga_bio_ops {
	ssize_t (*recv)(void *ctx, void *buf, size_t n);
	ssize_t (*send)(void *ctx, const void *buf, size_t n);
	void (*close)(void *ctx);
};

struct hga_bio {
	const struct hga_bio_ops *ops;
	void *ctx;
	int fd; /* for the watch and TCP_INFO; -1: none */
	/* input not yet taken by libssh2 */
	const unsigned char *in;
	size_t in_len;
	void *in_block; /* own copy of left-over input, or NULL */
	bool ready;     /* recv may give something */
	bool eof;       /* recv said end or error */
	bool closed;    /* read and write fail from now on */
	int sys;        /* errno of the first failure, 0: plain end */
	/* output not yet given to the socket */
	unsigned char *out;
	size_t out_at, out_len, out_cap;
	uint64_t rx, tx;
	int64_t last_rx_ms;
	int lowat; /* as the socket has it; 0: never set */
	bool user; /* holds the shared buffers */
	bool over; /* more output than HGA_BIO_MAX */
};

#define HGA_BIO_HIGH (512 * 1024)
/* Writers stop at HGA_BIO_HIGH: the rest is answers. */
#define HGA_BIO_MAX (4 * 1024 * 1024)

/* Over a connected socket; the descriptor is the bio's from now on, also on
 * failure. */
int hga_bio_open_fd(struct hga_bio *b, int fd,
                    struct hga_err *err) HGA_MUST_USE;
/* Over anything else; fd is only watched. */
int hga_bio_open(struct hga_bio *b, const struct hga_bio_ops *ops, void *ctx,
                 int fd, struct hga_err *err) HGA_MUST_USE;
/* Closes and frees; safe on a zeroed struct, idempotent. */
void hga_bio_release(struct hga_bio *b);

/* Fetches input when none is left and some may be there; true if bytes came. */
bool hga_bio_fill(struct hga_bio *b, int64_t now_ms);
/* Acknowledges what came now instead of some 40 ms later (TCP only). */
void hga_bio_ack(struct hga_bio *b);
/* The watch is woken by n bytes and not by less (TCP only; 1: by any). */
void hga_bio_lowat(struct hga_bio *b, int n);
/* Keeps unread input across pump rounds; false: out of memory. */
bool hga_bio_keep(struct hga_bio *b);
/* For libssh2's callbacks: bytes or -EAGAIN; -EPIPE after hga_bio_shut; -ENOMEM
 * without memory or beyond HGA_BIO_MAX (over). */
ssize_t hga_bio_read(struct hga_bio *b, void *p, size_t n);
ssize_t hga_bio_write(struct hga_bio *b, const void *p, size_t n);
/* Sends what the socket takes; a failure shows as hga_bio_ended. */
void hga_bio_flush(struct hga_bio *b);
/* From now on libssh2 gets errors: the session can be freed without a peer. */
void hga_bio_shut(struct hga_bio *b);

/* Bytes that wait to be sent. */
static inline size_t hga_bio_unsent(const struct hga_bio *b)
{
	return b->out_len - b->out_at;
}
static inline bool hga_bio_full(const struct hga_bio *b)
{
	return hga_bio_unsent(b) >= HGA_BIO_HIGH;
}
static inline bool hga_bio_pending(const struct hga_bio *b)
{
	return hga_bio_unsent(b) > 0;
}
/* The stream is over and all its input was taken. */
static inline bool hga_bio_ended(const struct hga_bio *b)
{
	return b->eof && b->in_len == 0;
}

/* Without a channel a session holds keys, lists and a packet; with channels
 * also their windows, which small packets blow up. */
#define HGA_BIO_HEAP_BASE (16 * 1024 * 1024)
#define HGA_BIO_HEAP_CHANNEL (64 * 1024 * 1024)

struct hga_bio_heap {
	struct hga_bio_block *first;
	size_t used, max; /* bytes; max is the owner's */
	bool over;        /* a block was refused */
};
/* Frees what was not given back; the number of blocks. */
size_t hga_bio_heap_release(struct hga_bio_heap *h);

/* libssh2's allocator (arguments as its callbacks); *abstract is a pointer to
 * a struct hga_bio_heap, or to a struct that begins with one. */
void *hga_bio_alloc(size_t n, void **abstract);
void *hga_bio_realloc(void *p, size_t n, void **abstract);
void hga_bio_free(void *p, void **abstract);

#endif
