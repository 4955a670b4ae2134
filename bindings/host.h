/*
 * The host: one Lua state with its capped allocator, the loop, modules, the
 * file loader and its sandbox.
 *
 * One host per process.  Everything that may raise runs below host_run.
 * Lua is cut to size (hostlib.c): no bytecode, no LUA_* variables, no C
 * modules, no os.exit, io.popen or os.execute; coroutine functions refuse
 * tasks; stdout and stderr are written through base/term.
 */
#ifndef HGA_HOST_H
#define HGA_HOST_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "base/term.h"
#include "net/loop.h"

#include <lua.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct sched;

/* VM instructions and bytes a file may use while it is loaded. */
#define HOST_LOAD_STEPS 20000000
#define HOST_LOAD_BYTES ((size_t)64 << 20)

struct host {
	/* the caller's, before host_init */
	int argc; /* without the program's name and --scripts */
	char **argv;
	const char *scripts; /* directory over the embedded files or NULL */
	mode_t umask;        /* that we were called with */
	/* ours */
	lua_State *L; /* the main state; never waits */
	struct hga_loop *loop;
	struct sched *sched;
	struct hga_term *term;
	size_t mem_used, mem_max; /* bytes Lua holds, may hold */
	int loading;              /* depth of host.sandbox */
	int64_t load_left;        /* VM instructions left there */
	int exit_code;            /* chosen by host.exit, -1: none */
	bool gcstress;            /* HGAUTO_GCSTRESS */
	unsigned long torture;    /* HGAUTO_TORTURE, 0: off */
	bool torture_pair;
	char *script_dir; /* searched by require, or NULL; owned */
	/* A long string of Lua is one block: head, text, tail. */
	size_t text_head, text_extra; /* of that head; of both */
	struct hga_buf *given;        /* becomes the next such block */
	bool sees;                    /* the last allocation is noted */
	const char *seen;
	size_t seen_size;
};

/* The host of a state. */
struct host *host_of(lua_State *L);

/*
 * Pushes a large buffer's bytes after the first `skip` as a string that takes
 * over the buffer's own block: large output need not be in memory twice, and
 * with a skip of text_head it need not be moved.  b is empty then; when it
 * fails b only is to be released.  False: b is to be copied. [-0, +(0|1), m]
 */
bool host_push_large(lua_State *L, struct hga_buf *b, size_t skip);

/* Makes the loop, the Lua state and the scheduler, opens the libraries. */
int host_init(struct host *h, struct hga_err *err) HGA_MUST_USE;
/* Closes all; no task may live. */
void host_release(struct host *h);

/*
 * Runs fn (a C function without arguments) as the root task until it and all
 * tasks have ended.  Returns the exit code: what host.exit said, else the
 * integer fn returned (nothing, true: 0; false: 1); an error that escapes is
 * printed and mapped as in cli.md section 3.3.
 */
int host_run(struct host *h, lua_CFunction fn);

/*
 * Appends the file of that name below the override directory, else the
 * embedded one; origin (may be NULL) gets its path, or "hgauto:NAME".
 * -HGA_NOTFOUND "NoFile" when there is none.
 */
int host_file(struct host *h, const char *name, struct hga_buf *out,
              struct hga_buf *origin, struct hga_err *err) HGA_MUST_USE;

/* Pushes the names of all files that begin with prefix, sorted.
 * [-0, +1, m] */
void host_files(lua_State *L, const char *prefix);

/*
 * Pushes the chunk of a script file: a regular file owned by us or root, not
 * writable by others, text (no bytecode).  set_dir: its directory is
 * searched by require from now on. [-0, +1, raises load, notfound]
 */
void host_loadfile(lua_State *L, const char *path, bool set_dir);
/* Sets that directory (copied), NULL: none. */
void host_setdir(struct host *h, const char *dir);
/* Pushes the chunk of a text; chunk names as for lua_load. [-0, +1, raises] */
void host_loadtext(lua_State *L, struct hga_str text, const char *chunkname);

/* Writes through the terminal writer; a broken pipe is no error. */
void host_write(lua_State *L, enum hga_term_stream stream, struct hga_str text);

/* hostlib.c: standard libraries, replaced functions, searchers. */
void hostlib_open(lua_State *L);
/* lcoro.c */
void lcoro_open(lua_State *L);

#endif
