/*
 * The program: process set-up, then the root task runs hg.cli's main.
 *
 * Hidden: `hgauto __lua FILE ARGS...` runs FILE as the root task without the
 * command line, for tests of the host itself.
 */
#include "host.h"
#include "lb.h"

#include "base/mem.h"

#include <lauxlib.h>

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Descriptors 0-2 exist, so that no file of ours becomes one of them. */
static void open_standard(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) != fd)
			_exit(70);
}

static void set_up_process(struct host *h)
{
	const struct rlimit none = {0, 0};

	open_standard();
	h->umask = umask(077);               /* of files the user asks for */
	(void)signal(SIGPIPE, SIG_IGN);      /* EPIPE tells the same */
	(void)signal(SIGXFSZ, SIG_IGN);      /* so does EFBIG */
	(void)setrlimit(RLIMIT_CORE, &none); /* memory holds secrets */
	(void)setlocale(LC_CTYPE, "");       /* else C */
}

static int push_argv(lua_State *L, const struct host *h, int from, bool list)
{
	luaL_checkstack(L, h->argc + 4, "too many arguments");
	if (list)
		lua_createtable(L, h->argc, 0);
	for (int i = from; i < h->argc; i++) {
		lua_pushstring(L, h->argv[i]);
		if (list)
			lua_rawseti(L, -2, i - from + 1);
	}
	return list ? 1 : h->argc - from;
}

static int returned(lua_State *L, int status, lua_KContext ctx)
{
	(void)status; /* errors do not come here */
	(void)ctx;    /* no state */
	return lua_gettop(L) > 0 ? 1 : 0;
}

static void start_torture(const struct host *h)
{
	if (h->torture != 0)
		hga_mem_torture(h->torture, h->torture_pair);
}

/*
 * After Ctrl-C the root task counts as cancelled whatever it returns; what that
 * means (130, or 6 when something is left) the command line has decided.
 */
static int cli_returned(lua_State *L, int status, lua_KContext ctx)
{
	struct host *h = host_of(L);

	(void)status; /* errors do not come here */
	(void)ctx;    /* no state */
	if (h->exit_code < 0 && lua_isinteger(L, -1))
		h->exit_code = (int)(lua_tointeger(L, -1) & 0xff);
	return 1;
}

static int run_cli(lua_State *L)
{
	const struct host *h = host_of(L);

	lua_getglobal(L, "require");
	lua_pushliteral(L, "hg.cli");
	lua_call(L, 1, 1);
	lua_getfield(L, -1, "main");
	lua_replace(L, -2);
	(void)push_argv(L, h, 0, true); /* one table */
	start_torture(h);
	lua_callk(L, 1, 1, 0, cli_returned);
	return cli_returned(L, LUA_OK, 0);
}

static int run_file(lua_State *L)
{
	const struct host *h = host_of(L);
	int n;

	if (h->argc < 2)
		return lb_fail(L, HGA_USAGE, NULL,
		               "usage: hgauto __lua FILE [ARG...]");
	host_loadfile(L, h->argv[1], true);
	n = push_argv(L, h, 2, false);
	start_torture(h);
	lua_callk(L, n, 1, 0, returned);
	return returned(L, LUA_OK, 0);
}

/* --scripts DIR is an option of the host, before all others. */
static int take_scripts(struct host *h)
{
	h->scripts = getenv("HGAUTO_SCRIPTS");
	if (h->scripts != NULL && *h->scripts == '\0')
		h->scripts = NULL;
	if (h->argc == 0 || strcmp(h->argv[0], "--scripts") != 0)
		return 0;
	if (h->argc < 2) {
		fprintf(stderr, "hgauto: --scripts needs a directory\n");
		return 2;
	}
	h->scripts = h->argv[1];
	/* A daemon that we start shall run the same scripts. */
	if (setenv("HGAUTO_SCRIPTS", h->scripts, 1) != 0) {
		fprintf(stderr, "hgauto: out of memory\n");
		return 70;
	}
	h->argc -= 2;
	h->argv += 2;
	return 0;
}

int main(int argc, char **argv)
{
	struct host h;
	struct hga_err err;
	bool file;
	int code;

	memset(&h, 0, sizeof(h));
	set_up_process(&h);
	h.argc = argc > 0 ? argc - 1 : 0;
	h.argv = argv + (argc > 0);
	code = take_scripts(&h);
	if (code != 0)
		return code;
	file = h.argc > 0 && strcmp(h.argv[0], "__lua") == 0;
	if (host_init(&h, &err) < 0) {
		fprintf(stderr, "hgauto: %s\n", err.msg);
		host_release(&h);
		return 70;
	}
	code = host_run(&h, file ? run_file : run_cli);
	host_release(&h);
	return code;
}
