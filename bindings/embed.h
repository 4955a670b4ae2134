/*
 * Files built into the program: scripts, API models, the guest helper.
 *
 * The table is generated (core/tools/embed.sh), sorted by name in byte order;
 * each file is followed by a NUL that does not count.  Names are relative to
 * scripts/ ("lib/hg/init.lua"); built files go by their base name
 * ("models.img", "hgauto-box").  Override by a directory: host.h, host_file.
 */
#ifndef HGA_EMBED_H
#define HGA_EMBED_H

#include <stddef.h>

struct embed_file {
	const char *name;
	const unsigned char *data;
	size_t len;
};

extern const struct embed_file embed_files[];
extern const size_t embed_n;

/* The file of that name or NULL. */
const struct embed_file *embed_find(const char *name);

#endif
