/*
 * The log: levels, sinks, one redactor before all of them.
 *
 * Process-wide (state in log.c).  A record is formatted once, redacted, cut
 * to 16 KiB, then given to each sink that wants its level.  Without sinks
 * nothing is formatted.  Not reentrant: a sink must not log.
 */
#ifndef HGA_BASE_LOG_H
#define HGA_BASE_LOG_H

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct hga_redact;

enum hga_log_level {
	HGA_LOG_TRACE, /* contents of requests and answers */
	HGA_LOG_DEBUG,
	HGA_LOG_INFO,
	HGA_LOG_WARN,
	HGA_LOG_ERROR,
	HGA_LOG_NONE /* as a level of a sink: nothing */
};

struct hga_log_rec {
	enum hga_log_level level;
	char letter; /* T D I W E; o, e: remote stdout, stderr */
	int64_t wall_us;
	const char *label;   /* lane and step, or area ("aws"); may be "" */
	struct hga_str text; /* redacted, no trailing newline; may hold
	                      * newlines and raw terminal bytes */
};

/* A sink, in the caller's memory until removed. */
struct hga_log_sink {
	void (*write)(struct hga_log_sink *sink, const struct hga_log_rec *rec);
	enum hga_log_level level;  /* the lowest wanted */
	struct hga_log_sink *next; /* the log's */
};

/* Adds a sink (once) / takes it out (harmless if absent). */
void hga_log_add(struct hga_log_sink *sink);
void hga_log_remove(struct hga_log_sink *sink);
/* True when some sink wants that level: guards costly arguments. */
bool hga_log_wants(enum hga_log_level level);

/* Logs one record.  Errors are swallowed: the log never fails its caller. */
void hga_log(enum hga_log_level level, const char *label, const char *fmt, ...)
    HGA_PRINTF(3, 4);
/* The same with ready text (which may hold any bytes). */
void hga_log_text(enum hga_log_level level, const char *label,
                  struct hga_str text);

/* A piece of remote output (level debug, letter o or e). */
void hga_log_output(bool is_stderr, const char *label, struct hga_str text);

/* "trace", "debug", "info", "warn", "error", "none"; false for another name. */
bool hga_log_level_find(const char *name, enum hga_log_level *out);
const char *hga_log_level_name(enum hga_log_level level);

/* The process's redactor (created at first use, NULL without memory); secrets
 * registered there vanish from log and screen. */
struct hga_redact *hga_log_redact(void);
/* Registers a secret with it; too short ones are ignored. */
void hga_log_secret(struct hga_str secret);
/*
 * Takes one registration back, for a secret that has lost its worth: a
 * process that lives long would hold ever more of them.  It still vanishes
 * until some more were forgotten.  Too short ones are ignored.
 */
void hga_log_forget(struct hga_str secret);
/* Frees the redactor, wiping it, and forgets all sinks (end of process). */
void hga_log_release(void);

/*
 * A sink that appends lines "2026-11-22T14:03:30.123Z L label \u2502 text"
 * (each line of a record) to a file it creates with mode 0600 (O_APPEND,
 * O_NOFOLLOW).  limit_bytes 0: no limit; at the limit one last line says so.
 */
struct hga_log_file;
int hga_log_file_open(const char *path, enum hga_log_level level,
                      uint64_t limit_bytes, struct hga_log_file **out,
                      struct hga_err *err) HGA_MUST_USE;
/* Removes the sink and closes; NULL is allowed. */
void hga_log_file_close(struct hga_log_file *f);

#endif
