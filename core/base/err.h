/*
 * Errors of the core: a closed list of kinds and a struct the caller owns.
 *
 * A failing function returns -kind and fills *err; on success it returns 0
 * and leaves *err untouched.  err may be NULL when the caller only wants the
 * return value.  Messages never contain secrets and need no freeing.
 */
#ifndef HGA_BASE_ERR_H
#define HGA_BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>

#define HGA_MUST_USE __attribute__((warn_unused_result))
#define HGA_PRINTF(f, a) __attribute__((format(printf, f, a)))

enum hga_kind {
	HGA_OK = 0,
	HGA_USAGE,     /* bad arguments or parameters */
	HGA_LOAD,      /* effect or error while loading a file */
	HGA_AUTH,      /* credentials, host key, certificate, key file */
	HGA_AWS,       /* the service answered with an error */
	HGA_REMOTE,    /* remote command or host failed */
	HGA_NET,       /* DNS, connect, TLS, connection lost */
	HGA_PROTOCOL,  /* malformed or oversized answer */
	HGA_TIMEOUT,   /* a deadline passed */
	HGA_COST,      /* cost limit */
	HGA_IO,        /* local files and children */
	HGA_NOTFOUND,  /* a named thing is missing */
	HGA_EXISTS,    /* a named thing is taken */
	HGA_TASK,      /* raised by a task */
	HGA_RUNTIME,   /* Lua error */
	HGA_CANCELLED, /* scope cancelled */
	HGA_MEMORY,    /* allocation failed */
	HGA_BUG        /* our fault */
};

struct hga_err {
	enum hga_kind kind;
	int sys; /* errno or 0 */
	char code[64];
	char msg[512];
};

/* Name of a kind ("usage", "net", ...); static text. */
const char *hga_kind_name(enum hga_kind kind);

/* Kind with that name, or HGA_OK when there is none. */
enum hga_kind hga_kind_find(const char *name);

/*
 * Fills *err and returns -kind.  With sys != 0 ": strerror(sys)" is appended.
 * code is a short CamelCase word or NULL.  err may be NULL.
 */
int hga_fail(struct hga_err *err, enum hga_kind kind, int sys, const char *code,
             const char *fmt, ...) HGA_PRINTF(5, 6);

/* Same with a va_list. */
int hga_vfail(struct hga_err *err, enum hga_kind kind, int sys,
              const char *code, const char *fmt, va_list ap) HGA_PRINTF(5, 0);

/* hga_fail for a failed allocation: kind memory, fixed text. */
int hga_fail_mem(struct hga_err *err);

/* A failure is negative: what an analyser that reads one source at a time
   cannot know, and without which it follows paths that do not exist. */
#ifdef __clang_analyzer__
#define hga_fail(...) ((void)hga_fail(__VA_ARGS__), -1)
#define hga_vfail(...) ((void)hga_vfail(__VA_ARGS__), -1)
#define hga_fail_mem(err) ((void)hga_fail_mem(err), -1)
#endif

/* Puts "PREFIX: " before an error's message (truncating its end). */
void hga_err_prefix(struct hga_err *err, const char *fmt, ...) HGA_PRINTF(2, 3);

#endif
