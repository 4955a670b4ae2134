/*
 * Allocation front of the core.
 *
 * All memory of the core comes from here, so that the torture mode can make
 * the n-th allocation fail.  A failing call returns NULL and changes nothing.
 * Sizes computed from remote numbers go through hga_size_add/mul.
 */
#ifndef HGA_BASE_MEM_H
#define HGA_BASE_MEM_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* Uninitialised memory; size 0 gives a unique pointer. */
void *hga_alloc(size_t size) HGA_MUST_USE;

/* Zeroed array; NULL also on overflow. */
void *hga_calloc(size_t n, size_t size) HGA_MUST_USE;

/* As realloc; the old block stays valid on failure. */
void *hga_realloc(void *p, size_t size) HGA_MUST_USE;

/*
 * Once, at the start of a program: blocks from HGA_MEM_LARGE on get pages of
 * their own for good.  They grow by moving pages, where a heap would copy
 * them, and are given back when freed.
 */
void hga_mem_start(void);

/* Size from HGA_MEM_LARGE on that is no smaller and, with malloc's header,
 * fills pages of 2 MiB: such blocks are moved as a whole. */
size_t hga_mem_large(size_t size);

/*
 * Tells the kernel that a block just allocated will be filled: with pages of
 * 2 MiB the first touch of large output costs a fraction.  Does nothing for
 * blocks below HGA_MEM_LARGE; never fails.
 */
#define HGA_MEM_LARGE ((size_t)4 << 20)
void hga_mem_advise(void *p, size_t size);

/* free(NULL) is allowed. */
void hga_free(void *p);

/* Zeroed pages of their own, NULL without memory: they count when they are
 * touched and are given back at once.  For large blocks that stay mostly
 * unused; a system call each. */
void *hga_pages(size_t size) HGA_MUST_USE;
void hga_pages_free(void *p, size_t size);

/* Overwrites memory in a way the compiler cannot drop (secrets). */
void hga_wipe(void *p, size_t n);

/* Copy of n bytes plus a NUL. */
char *hga_memdup0(const void *p, size_t n) HGA_MUST_USE;

/* Copy of a NUL-terminated string. */
char *hga_strdup(const char *s) HGA_MUST_USE;

/* *out = a + b; false on overflow. */
bool hga_size_add(size_t a, size_t b, size_t *out) HGA_MUST_USE;

/* *out = a * b; false on overflow. */
bool hga_size_mul(size_t a, size_t b, size_t *out) HGA_MUST_USE;

/*
 * Torture hook: make allocation number n (1-based, counted from this call)
 * fail, and with pair also n + 1.  0 switches it off.  Only for tests.
 */
void hga_mem_torture(unsigned long n, bool pair);

/* Allocations counted since hga_mem_torture. */
unsigned long hga_mem_count(void);

/* Asked by allocators of our own (Lua's) before each allocation: fail now? */
bool hga_mem_should_fail(void);

#endif
