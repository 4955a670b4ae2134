/*
 * Transport buffers and the packet allocator of the SSH client; the traps of
 * libssh2 1.11.1 that this answers are in bio.h.
 */
#include "ssh/bio.h"

#include "base/mem.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_SIZE (128 * 1024)
#define OUT_MIN (2 * 1024) /* most sessions send little */
/* libssh2 allocates one block per packet: 35000 bytes and a little. */
#define BLOCK_SIZE (36 * 1024)
#define BLOCK_MIN (4 * 1024) /* smaller ones go to the plain allocator */
#define BLOCKS_KEPT 64
/* No packet, banner or list of a sane peer is larger. */
#define ALLOC_MAX (1024 * 1024)

/*
 * Shared by all sessions of the process, which has one loop and one thread:
 * the buffer is in use only inside one pump round.
 */
static struct {
	unsigned users;
	unsigned char *in;
	struct hga_bio_block *list;
	unsigned kept;
} pool;

/* In front of each piece of memory that libssh2 gets. */
struct hga_bio_block {
	struct hga_bio_block *prev, *next; /* of the heap; next: free list */
	size_t size;
	size_t pooled;
};
_Static_assert(sizeof(struct hga_bio_block) % 16 == 0,
               "keeps malloc's alignment");

static void pool_drain(void)
{
	while (pool.list != NULL) {
		struct hga_bio_block *b = pool.list;

		pool.list = b->next;
		hga_free(b);
	}
	pool.kept = 0;
	hga_free(pool.in);
	pool.in = NULL;
}

static int pool_enter(struct hga_err *err)
{
	if (pool.in == NULL)
		pool.in = hga_alloc(IN_SIZE);
	if (pool.in == NULL)
		return hga_fail_mem(err);
	pool.users++;
	return 0;
}

static void pool_leave(void)
{
	if (--pool.users == 0)
		pool_drain();
}

static struct hga_bio_block *block_new(size_t n)
{
	struct hga_bio_block *b;

	/* Zeroed when small: 1.11.1 leaves the name of a short exit-signal
	 * packet unset.  Zeroed when large: the edit "lean" counts on it. */
	if (n < BLOCK_MIN || n > BLOCK_SIZE) {
		b = n < BLOCK_MIN ? hga_calloc(1, sizeof(*b) + n)
		                  : hga_pages(sizeof(*b) + n);
		if (b != NULL)
			b->size = n;
		return b;
	}
	b = pool.list;
	if (b != NULL) {
		pool.list = b->next;
		pool.kept--;
	} else {
		b = hga_alloc(sizeof(*b) + BLOCK_SIZE);
	}
	if (b == NULL)
		return NULL;
	b->pooled = 1;
	b->size = BLOCK_SIZE;
	return b;
}

static void block_free(struct hga_bio_block *b)
{
	if (b->pooled != 0 && pool.kept < BLOCKS_KEPT && pool.users > 0) {
		b->next = pool.list;
		pool.list = b;
		pool.kept++;
		return;
	}
	if (b->size > BLOCK_SIZE)
		hga_pages_free(b, sizeof(*b) + b->size);
	else
		hga_free(b);
}

void *hga_bio_alloc(size_t n, void **abstract)
{
	struct hga_bio_heap *h = *abstract;
	struct hga_bio_block *b;

	if (n > ALLOC_MAX || n > h->max || h->used > h->max - n) {
		h->over = true;
		return NULL;
	}
	b = block_new(n);
	if (b == NULL)
		return NULL;
	h->used += sizeof(*b) + b->size;
	b->prev = NULL;
	b->next = h->first;
	if (h->first != NULL)
		h->first->prev = b;
	h->first = b;
	return b + 1;
}

void hga_bio_free(void *p, void **abstract)
{
	struct hga_bio_heap *h = *abstract;
	struct hga_bio_block *b = p;

	if (p == NULL)
		return;
	b--;
	h->used -= sizeof(*b) + b->size;
	if (b->prev != NULL)
		b->prev->next = b->next;
	else
		h->first = b->next;
	if (b->next != NULL)
		b->next->prev = b->prev;
	block_free(b);
}

void *hga_bio_realloc(void *p, size_t n, void **abstract)
{
	struct hga_bio_block *b = p;
	void *q;

	if (p == NULL)
		return hga_bio_alloc(n, abstract);
	b--;
	if (n <= b->size)
		return p;
	q = hga_bio_alloc(n, abstract);
	if (q == NULL)
		return NULL;
	memcpy(q, p, b->size);
	hga_bio_free(p, abstract);
	return q;
}

size_t hga_bio_heap_release(struct hga_bio_heap *h)
{
	size_t n = 0;

	for (; h->first != NULL; n++) {
		struct hga_bio_block *b = h->first;

		h->first = b->next;
		hga_wipe(b + 1, b->size);
		block_free(b);
	}
	h->used = 0;
	return n;
}

/* ---- socket backend ---- */

static ssize_t fd_recv(void *ctx, void *buf, size_t n)
{
	const struct hga_bio *b = ctx;
	ssize_t r;

	do
		r = recv(b->fd, buf, n, 0);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static ssize_t fd_send(void *ctx, const void *buf, size_t n)
{
	const struct hga_bio *b = ctx;
	ssize_t r;

	do
		r = send(b->fd, buf, n, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static void fd_close(void *ctx)
{
	struct hga_bio *b = ctx;

	if (b->fd >= 0)
		close(b->fd);
	b->fd = -1;
}

static const struct hga_bio_ops fd_ops = {fd_recv, fd_send, fd_close};

int hga_bio_open_fd(struct hga_bio *b, int fd, struct hga_err *err)
{
	int one = 1;

	/* Not a TCP socket in tests: then this fails without harm. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return hga_bio_open(b, &fd_ops, b, fd, err);
}

int hga_bio_open(struct hga_bio *b, const struct hga_bio_ops *ops, void *ctx,
                 int fd, struct hga_err *err)
{
	int rc;

	memset(b, 0, sizeof(*b));
	b->ops = ops;
	b->ctx = ctx;
	b->fd = fd;
	b->ready = true;
	rc = pool_enter(err);
	if (rc < 0) {
		ops->close(ctx);
		b->ops = NULL;
		return rc;
	}
	b->user = true;
	return 0;
}

void hga_bio_release(struct hga_bio *b)
{
	if (b->ops != NULL && b->ops->close != NULL)
		b->ops->close(b->ctx);
	b->ops = NULL;
	hga_free(b->in_block);
	b->in_block = NULL;
	b->in = NULL;
	b->in_len = 0;
	if (b->out != NULL)
		hga_wipe(b->out, b->out_len);
	hga_free(b->out);
	b->out = NULL;
	b->out_at = b->out_len = b->out_cap = 0;
	b->closed = b->eof = true;
	if (b->user) {
		b->user = false;
		pool_leave();
	}
}

static void fail(struct hga_bio *b, int sys)
{
	if (b->sys == 0)
		b->sys = sys;
	b->eof = true;
	b->ready = false;
	b->out_at = b->out_len = 0;
}

bool hga_bio_fill(struct hga_bio *b, int64_t now_ms)
{
	ssize_t n;

	if (b->in_len > 0 || !b->ready || b->eof || b->closed)
		return false;
	hga_free(b->in_block);
	b->in_block = NULL;
	n = b->ops->recv(b->ctx, pool.in, IN_SIZE);
	if (n == -EAGAIN || n == -EWOULDBLOCK) {
		b->ready = false;
		return false;
	}
	if (n <= 0) {
		fail(b, (int)-n);
		return false;
	}
	/* A short read emptied the socket: no second call to learn that. */
	if (n < IN_SIZE)
		b->ready = false;
	b->in = pool.in;
	b->in_len = (size_t)n;
	b->rx += (uint64_t)n;
	b->last_rx_ms = now_ms;
	return true;
}

void hga_bio_ack(struct hga_bio *b)
{
#ifdef TCP_QUICKACK
	int one = 1;

	/* Not TCP, or not this kernel: then it takes its time. */
	if (b->fd >= 0)
		(void)setsockopt(b->fd, IPPROTO_TCP, TCP_QUICKACK, &one,
		                 sizeof(one));
#else
	(void)b;
#endif
}

void hga_bio_lowat(struct hga_bio *b, int n)
{
	if (b->fd < 0 || n == (b->lowat ? b->lowat : 1))
		return;
	/* Not a socket: then every byte wakes. */
	(void)setsockopt(b->fd, SOL_SOCKET, SO_RCVLOWAT, &n, sizeof(n));
	b->lowat = n;
}

bool hga_bio_keep(struct hga_bio *b)
{
	void *copy;

	if (b->in_len == 0 || b->in_block != NULL)
		return true;
	copy = hga_alloc(b->in_len);
	if (copy == NULL)
		return false;
	memcpy(copy, b->in, b->in_len);
	b->in_block = copy;
	b->in = copy;
	return true;
}

ssize_t hga_bio_read(struct hga_bio *b, void *p, size_t n)
{
	if (b->closed)
		return -EPIPE;
	if (b->in_len == 0)
		return -EAGAIN;
	if (n > b->in_len)
		n = b->in_len;
	memcpy(p, b->in, n);
	b->in += n;
	b->in_len -= n;
	return (ssize_t)n;
}

/* Room for n more bytes behind out_len. */
static bool out_room(struct hga_bio *b, size_t n)
{
	size_t cap = b->out_cap ? b->out_cap : OUT_MIN;
	unsigned char *q;

	if (b->out_at > 0 &&
	    (b->out_at == b->out_len || b->out_len + n > b->out_cap)) {
		memmove(b->out, b->out + b->out_at, b->out_len - b->out_at);
		b->out_len -= b->out_at;
		b->out_at = 0;
	}
	if (b->out_len + n <= b->out_cap)
		return true;
	while (cap < b->out_len + n)
		cap *= 2;
	q = hga_realloc(b->out, cap);
	if (q == NULL)
		return false;
	b->out = q;
	b->out_cap = cap;
	return true;
}

ssize_t hga_bio_write(struct hga_bio *b, const void *p, size_t n)
{
	if (b->closed)
		return -EPIPE;
	/* Lost, but what has arrived is still to be read: pretend. */
	if (b->eof)
		return (ssize_t)n;
	if (b->out_len - b->out_at + n > HGA_BIO_MAX) {
		b->over = true;
		return -ENOMEM;
	}
	if (!out_room(b, n))
		return -ENOMEM;
	memcpy(b->out + b->out_len, p, n);
	b->out_len += n;
	return (ssize_t)n;
}

void hga_bio_flush(struct hga_bio *b)
{
	while (hga_bio_pending(b) && b->ops != NULL && !b->eof) {
		ssize_t n = b->ops->send(b->ctx, b->out + b->out_at,
		                         b->out_len - b->out_at);

		if (n == -EAGAIN || n == -EWOULDBLOCK)
			return;
		if (n <= 0) {
			/* Input may still hold the reason: read on. */
			if (b->sys == 0)
				b->sys = (int)-n;
			b->out_at = b->out_len = 0;
			b->ready = true;
			return;
		}
		b->out_at += (size_t)n;
		b->tx += (uint64_t)n;
	}
}

void hga_bio_shut(struct hga_bio *b)
{
	b->closed = true;
	b->in_len = 0;
}
