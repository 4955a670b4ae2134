/* Allocator front with a failure hook; architecture sections 8 and 12. */
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <string.h>

#include <malloc.h>
#include <openssl/crypto.h>

/* Test state of the torture hook; see the header. */
static unsigned long torture_at;
static unsigned long torture_count;
static bool torture_pair;

bool hga_mem_should_fail(void)
{
	if (torture_at == 0)
		return false;
	torture_count++;
	return torture_count == torture_at ||
	       (torture_pair && torture_count == torture_at + 1);
}

void hga_mem_torture(unsigned long n, bool pair)
{
	torture_at = n;
	torture_pair = pair;
	torture_count = 0;
}

unsigned long hga_mem_count(void)
{
	return torture_count;
}

void *hga_alloc(size_t size)
{
	if (hga_mem_should_fail())
		return NULL;
	return malloc(size ? size : 1);
}

void *hga_calloc(size_t n, size_t size)
{
	if (hga_mem_should_fail())
		return NULL;
	return calloc(n ? n : 1, size ? size : 1);
}

/* AddressSanitizer knows the bounds and leaks of the heap only. */
void *hga_pages(size_t size)
{
#ifdef __SANITIZE_ADDRESS__
	return hga_calloc(1, size);
#else
	void *p;

	if (hga_mem_should_fail())
		return NULL;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p != MAP_FAILED ? p : NULL;
#endif
}

void hga_pages_free(void *p, size_t size)
{
#ifdef __SANITIZE_ADDRESS__
	(void)size; /* the heap knows it */
	hga_free(p);
#else
	if (p != NULL)
		(void)munmap(p, size); /* fails only for what is not ours */
#endif
}

void *hga_realloc(void *p, size_t size)
{
	if (hga_mem_should_fail())
		return NULL;
	return realloc(p, size ? size : 1);
}

void hga_mem_start(void)
{
#ifdef M_MMAP_THRESHOLD
	/* Hints: without them glibc raises the threshold with each large
	 * block that is freed, up to 32 MiB. */
	(void)mallopt(M_MMAP_THRESHOLD, (int)HGA_MEM_LARGE);
	(void)mallopt(M_TRIM_THRESHOLD, (int)HGA_MEM_LARGE);
#endif
}

size_t hga_mem_large(size_t size)
{
	const size_t huge = (size_t)2 << 20, header = 64;
	size_t n;

	if (size <= HGA_MEM_LARGE)
		size = HGA_MEM_LARGE + 1;
	if (!hga_size_add(size, header + huge - 1, &n))
		return size;
	return (n & ~(huge - 1)) - header;
}

void hga_mem_advise(void *p, size_t size)
{
	const uintptr_t page = 4096;
	/* with malloc's header: a mapping in two parts cannot be moved */
	uintptr_t from = (uintptr_t)p & ~(page - 1);
	uintptr_t to = ((uintptr_t)p + size + page - 1) & ~(page - 1);

	/* a kernel without such pages refuses */
	if (size >= HGA_MEM_LARGE)
		(void)madvise((void *)from, to - from, MADV_HUGEPAGE);
}

void hga_free(void *p)
{
	free(p);
}

void hga_wipe(void *p, size_t n)
{
	if (p != NULL && n != 0)
		OPENSSL_cleanse(p, n);
}

char *hga_memdup0(const void *p, size_t n)
{
	size_t size;
	char *d;

	if (!hga_size_add(n, 1, &size))
		return NULL;
	d = hga_alloc(size);
	if (d == NULL)
		return NULL;
	if (n != 0)
		memcpy(d, p, n);
	d[n] = '\0';
	return d;
}

char *hga_strdup(const char *s)
{
	return hga_memdup0(s, strlen(s));
}

bool hga_size_add(size_t a, size_t b, size_t *out)
{
	return !__builtin_add_overflow(a, b, out);
}

bool hga_size_mul(size_t a, size_t b, size_t *out)
{
	return !__builtin_mul_overflow(a, b, out);
}
