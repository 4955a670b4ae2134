/* gzip coding of whole texts by zlib. */
#include "base/gzip.h"

#include <string.h>

#ifdef HGA_ZLIB

#include <limits.h>
#include <zlib.h>

#define STEP 32768u

bool hga_gzip_there(void)
{
	return true;
}

/* zlib counts its input in unsigned int and does not change it. */
static void set_input(z_stream *z, struct hga_str data)
{
	z->next_in = (z_const Bytef *)(uintptr_t)data.s;
	z->avail_in = (uInt)data.n; /* checked by the callers */
}

static int too_large(struct hga_err *err)
{
	return hga_fail(err, HGA_USAGE, 0, "TooLarge",
	                "too much for one gzip member");
}

int hga_gzip(struct hga_buf *out, struct hga_str data, struct hga_err *err)
{
	z_stream z;
	int rc = 0, end = Z_OK;

	if (data.n > UINT_MAX)
		return too_large(err);
	memset(&z, 0, sizeof(z));
	/* 16: a gzip header, without name and time */
	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8,
	                 Z_DEFAULT_STRATEGY) != Z_OK)
		return hga_fail_mem(err);
	set_input(&z, data);
	while (rc == 0 && end != Z_STREAM_END) {
		rc = hga_buf_reserve(out, STEP, err);
		if (rc < 0)
			break;
		z.next_out = (Bytef *)(out->data + out->len);
		z.avail_out = STEP;
		end = deflate(&z, Z_FINISH);
		out->len += STEP - z.avail_out;
		if (end != Z_OK && end != Z_STREAM_END && end != Z_BUF_ERROR)
			rc = hga_fail_mem(err);
	}
	(void)deflateEnd(&z); /* frees, whatever it says */
	return rc < 0 ? rc : hga_buf_add(out, "", 0, err);
}

int hga_gunzip(struct hga_buf *out, struct hga_str data, struct hga_err *err)
{
	z_stream z;
	int rc = 0, end = Z_OK;

	if (data.n > UINT_MAX)
		return too_large(err);
	memset(&z, 0, sizeof(z));
	if (inflateInit2(&z, 15 + 16) != Z_OK)
		return hga_fail_mem(err);
	set_input(&z, data);
	while (rc == 0 && end == Z_OK) {
		rc = hga_buf_reserve(out, STEP, err);
		if (rc < 0)
			break;
		z.next_out = (Bytef *)(out->data + out->len);
		z.avail_out = STEP;
		end = inflate(&z, Z_NO_FLUSH);
		out->len += STEP - z.avail_out;
	}
	if (rc == 0 && end == Z_MEM_ERROR)
		rc = hga_fail_mem(err);
	else if (rc == 0 && (end != Z_STREAM_END || z.avail_in > 0))
		rc = hga_fail(err, HGA_PROTOCOL, 0, "Garbled",
		              "not one whole gzip member");
	(void)inflateEnd(&z); /* frees, whatever it says */
	return rc < 0 ? rc : hga_buf_add(out, "", 0, err);
}

#else

bool hga_gzip_there(void)
{
	return false;
}

static int without(struct hga_err *err)
{
	return hga_fail(err, HGA_USAGE, 0, "NoZlib",
	                "this program was built without zlib");
}

int hga_gzip(struct hga_buf *out, struct hga_str data, struct hga_err *err)
{
	(void)out; /* nothing can be made */
	(void)data;
	return without(err);
}

int hga_gunzip(struct hga_buf *out, struct hga_str data, struct hga_err *err)
{
	(void)out; /* nothing can be read */
	(void)data;
	return without(err);
}

#endif
