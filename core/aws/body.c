/*
 * Bodies after serialisation: gzip, checksums (the SDKs' flexible checksums
 * in their header form, Content-MD5), files.
 */
#include "aws/body.h"

#include "base/fs.h"
#include "base/gzip.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART (64u * 1024)    /* read at once */
#define HASH_PARTS 64        /* hashed in one go: 4 MiB */
#define GZIP_MAX (64u << 20) /* a compressed body */

static const struct {
	const char *name, *header;
	enum hga_hash_alg alg; /* of the digests */
} sums[] = {
    [HGA_SUM_NONE] = {NULL, NULL, HGA_SHA256},
    [HGA_SUM_MD5] = {"MD5", "Content-MD5", HGA_MD5},
    [HGA_SUM_CRC32] = {"CRC32", "x-amz-checksum-crc32", HGA_SHA256},
    [HGA_SUM_CRC32C] = {"CRC32C", "x-amz-checksum-crc32c", HGA_SHA256},
    [HGA_SUM_SHA1] = {"SHA1", "x-amz-checksum-sha1", HGA_SHA1},
    [HGA_SUM_SHA256] = {"SHA256", "x-amz-checksum-sha256", HGA_SHA256},
};

/* ---- compression ---- */

static int append_encoding(struct hga_aws_request *r, struct hga_err *err)
{
	const char *old = hga_aws_pairs_get(&r->headers, "Content-Encoding");
	struct hga_buf b;
	int rc = 0;

	hga_buf_init(&b, 65536);
	if (old != NULL && old[0] != '\0')
		rc = hga_buf_addf(&b, err, "%s, ", old);
	if (rc == 0)
		rc = hga_buf_adds(&b, "gzip", err);
	if (rc == 0)
		rc = hga_aws_pairs_set(&r->headers, HGA_STR("Content-Encoding"),
		                       hga_buf_str(&b), err);
	hga_buf_release(&b);
	return rc;
}

int hga_aws_body_compress(struct hga_aws_op op, struct hga_aws_request *r,
                          uint64_t min, struct hga_err *err)
{
	struct hga_buf packed;
	int rc;

	if (!(op.r->flags & HGA_OF_GZIP) || !r->has_body || r->file != NULL ||
	    r->body.len < min || !hga_gzip_there())
		return 0;
	hga_buf_init(&packed, GZIP_MAX);
	rc = hga_gzip(&packed, hga_buf_str(&r->body), err);
	if (rc == 0)
		rc = append_encoding(r, err);
	if (rc < 0) {
		hga_buf_release_secret(&packed);
		return rc;
	}
	hga_buf_release_secret(&r->body);
	r->body = packed;
	return 0;
}

/* ---- choice of the checksum ---- */

/* A header x-amz-checksum-... or Content-MD5 that the caller gave. */
static bool has_sum(const struct hga_aws_request *r)
{
	static const struct hga_str glob = {"x-amz-checksum-*", 16};
	size_t i;

	if (hga_aws_pairs_get(&r->headers, "Content-MD5") != NULL)
		return true;
	for (i = 0; i < r->headers.n; i++) {
		struct hga_str name = hga_str(r->headers.v[i].name);

		/* the serialiser writes them as the model does: lower case */
		if (hga_str_glob(glob, name) &&
		    !hga_str_eqc(name, "x-amz-checksum-mode") &&
		    !hga_str_eqc(name, "x-amz-checksum-type"))
			return true;
	}
	return false;
}

static int unknown(struct hga_str name, struct hga_str alg, struct hga_err *err)
{
	return hga_fail(err, HGA_USAGE, 0, "ParamValidation",
	                "parameter %.*s: checksum algorithm %.*s is not one of "
	                "CRC32, CRC32C, SHA1, SHA256",
	                HGA_STRF(name), HGA_STRF(alg));
}

int hga_aws_body_sum(struct hga_aws_op op, struct hga_val params,
                     const struct hga_aws_request *r, enum hga_aws_sum *sum,
                     struct hga_err *err)
{
	struct hga_str member = hga_aws_text(op.svc, op.r->checksum_member);
	struct hga_val chosen = hga_val_getn(params, member);
	int i;

	*sum = HGA_SUM_NONE;
	if (has_sum(r) || !r->has_body)
		return 0;
	if (member.n > 0 && hga_val_is(chosen, HGA_V_STR)) {
		for (i = HGA_SUM_CRC32; i <= HGA_SUM_SHA256; i++)
			if (hga_str_eqc(hga_val_str(chosen), sums[i].name)) {
				*sum = (enum hga_aws_sum)i;
				return 0;
			}
		return unknown(member, hga_val_str(chosen), err);
	}
	if (op.r->flags & HGA_OF_CHECKSUM)
		*sum = HGA_SUM_CRC32;
	else if (op.r->flags & HGA_OF_MD5)
		*sum = HGA_SUM_MD5;
	return 0;
}

/* ---- headers of a checksum ---- */

/* Name of the header that says which algorithm was used; empty: none. */
static struct hga_str alg_header(struct hga_aws_op op)
{
	const struct hga_img_shape *in = hga_aws_shape(op.svc, op.r->input);
	const struct hga_img_member *m = NULL;

	if (in != NULL && op.r->checksum_member != HGA_IMG_NONE)
		m = hga_aws_member_find(
		    op.svc, in, hga_aws_text(op.svc, op.r->checksum_member));
	if (m == NULL || m->location != HGA_LOC_HEADER)
		return hga_str("");
	return hga_aws_text(op.svc, hga_aws_mext(op.svc, m)->loc);
}

static int set_headers(struct hga_aws_op op, struct hga_aws_request *r,
                       enum hga_aws_sum sum, const uint8_t *digest, size_t n,
                       struct hga_err *err)
{
	struct hga_str which = alg_header(op);
	struct hga_buf b64;
	int rc;

	hga_buf_init(&b64, 256);
	rc = hga_b64_encode(&b64, digest, n, err);
	if (rc == 0)
		rc = hga_aws_pairs_set(&r->headers, hga_str(sums[sum].header),
		                       hga_buf_str(&b64), err);
	if (rc == 0 && which.n > 0 && sum != HGA_SUM_MD5)
		rc = hga_aws_pairs_set(&r->headers, which,
		                       hga_str(sums[sum].name), err);
	hga_buf_release(&b64);
	return rc;
}

static bool is_crc(enum hga_aws_sum sum)
{
	return sum == HGA_SUM_CRC32 || sum == HGA_SUM_CRC32C;
}

static uint32_t crc_of(enum hga_aws_sum sum, uint32_t crc, const void *p,
                       size_t n)
{
	return sum == HGA_SUM_CRC32 ? hga_crc32(crc, p, n)
	                            : hga_crc32c(crc, p, n);
}

/* Big-endian, as the services want it. */
static void crc_bytes(uint8_t out[4], uint32_t crc)
{
	out[0] = (uint8_t)(crc >> 24);
	out[1] = (uint8_t)(crc >> 16);
	out[2] = (uint8_t)(crc >> 8);
	out[3] = (uint8_t)crc;
}

int hga_aws_body_set_sum(struct hga_aws_op op, struct hga_aws_request *r,
                         enum hga_aws_sum sum, struct hga_err *err)
{
	uint8_t digest[HGA_HASH_MAX];
	int rc;

	if (sum == HGA_SUM_NONE || r->file != NULL)
		return 0;
	if (is_crc(sum)) {
		crc_bytes(digest,
		          crc_of(sum, 0, hga_buf_text(&r->body), r->body.len));
		return set_headers(op, r, sum, digest, 4, err);
	}
	rc = hga_hash(sums[sum].alg, hga_buf_text(&r->body), r->body.len,
	              digest, err);
	if (rc < 0)
		return rc;
	return set_headers(op, r, sum, digest, hga_hash_len(sums[sum].alg),
	                   err);
}

/* ---- files ---- */

static int changed(const struct hga_aws_file *f, struct hga_err *err)
{
	return hga_fail(err, HGA_IO, 0, "Changed",
	                "%s changed while it was sent", f->path);
}

int hga_aws_file_open(struct hga_aws_file *f, const struct hga_aws_request *r,
                      enum hga_aws_sum sum, struct hga_err *err)
{
	struct stat st;
	int fd, rc;

	/* a pipe without a writer must not hold up the process */
	fd = hga_fs_open(r->file, O_RDONLY | O_NONBLOCK, 0, err);
	if (fd < 0)
		return fd;
	f->fd = fd + 1;
	f->path = hga_strdup(r->file);
	if (f->path == NULL)
		return hga_fail_mem(err);
	if (fstat(fd, &st) < 0)
		return hga_fs_fail(err, errno, "stat", r->file);
	if (!S_ISREG(st.st_mode))
		return hga_fail(err, HGA_USAGE, 0, "NotAFile",
		                "%s is not a regular file", r->file);
	f->size = (uint64_t)st.st_size; /* of a regular file: not negative */
	f->changed = st.st_mtim;
	f->sum = sum;
	rc = hga_hash_init(&f->sha, HGA_SHA256, err);
	if (rc == 0 && sum != HGA_SUM_NONE && !is_crc(sum))
		rc = hga_hash_init(&f->other, sums[sum].alg, err);
	return rc;
}

void hga_aws_file_close(struct hga_aws_file *f)
{
	if (f->fd > 0)
		(void)close(f->fd - 1); /* it was only read */
	hga_hash_release(&f->sha);
	hga_hash_release(&f->other);
	hga_free(f->path);
	memset(f, 0, sizeof(*f));
}

int hga_aws_file_rewind(struct hga_aws_file *f, struct hga_err *err)
{
	struct stat st;

	if (fstat(f->fd - 1, &st) < 0)
		return hga_fs_fail(err, errno, "stat", f->path);
	if ((uint64_t)st.st_size != f->size ||
	    st.st_mtim.tv_sec != f->changed.tv_sec ||
	    st.st_mtim.tv_nsec != f->changed.tv_nsec)
		return changed(f, err);
	f->at = 0;
	return 0;
}

int64_t hga_aws_file_read(struct hga_aws_file *f, void *p, size_t n,
                          struct hga_err *err)
{
	ssize_t got;

	if (n > f->size - f->at)
		n = (size_t)(f->size - f->at); /* smaller than n */
	if (n == 0)
		return 0;
	do {
		got = pread(f->fd - 1, p, n, (off_t)f->at);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return hga_fs_fail(err, errno, "read", f->path);
	if (got == 0)
		return changed(f, err);
	f->at += (uint64_t)got;
	return got;
}

static int hash_part(struct hga_aws_file *f, const void *p, size_t n,
                     struct hga_err *err)
{
	int rc = hga_hash_update(&f->sha, p, n, err);

	if (rc == 0 && is_crc(f->sum))
		f->crc = crc_of(f->sum, f->crc, p, n);
	else if (rc == 0 && f->sum != HGA_SUM_NONE)
		rc = hga_hash_update(&f->other, p, n, err);
	return rc;
}

static int hash_end(struct hga_aws_file *f, struct hga_aws_op op,
                    struct hga_aws_request *r, struct hga_err *err)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t digest[HGA_HASH_MAX];
	size_t i;
	int rc = hga_hash_final(&f->sha, digest, err);

	if (rc < 0)
		return rc;
	for (i = 0; i < HGA_SHA256_LEN; i++) {
		r->payload_hash[2 * i] = digits[digest[i] >> 4];
		r->payload_hash[2 * i + 1] = digits[digest[i] & 15];
	}
	r->payload_hash[2 * i] = '\0';
	if (f->sum == HGA_SUM_NONE)
		return 0;
	if (is_crc(f->sum)) {
		crc_bytes(digest, f->crc);
		return set_headers(op, r, f->sum, digest, 4, err);
	}
	rc = hga_hash_final(&f->other, digest, err);
	if (rc < 0)
		return rc;
	return set_headers(op, r, f->sum, digest,
	                   hga_hash_len(sums[f->sum].alg), err);
}

int hga_aws_file_hash(struct hga_aws_file *f, struct hga_aws_op op,
                      struct hga_aws_request *r, struct hga_err *err)
{
	char *part = hga_alloc(PART);
	int64_t got = 1;
	int i, rc = 0;

	if (part == NULL)
		return hga_fail_mem(err);
	for (i = 0; rc == 0 && got > 0 && i < HASH_PARTS; i++) {
		got = hga_aws_file_read(f, part, PART, err);
		if (got < 0)
			rc = (int)got; /* a -kind */
		else if (got > 0)
			rc = hash_part(f, part, (size_t)got, err);
	}
	hga_free(part);
	if (rc < 0)
		return rc;
	return got > 0 ? 1 : hash_end(f, op, r, err);
}
