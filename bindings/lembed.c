/*
 * Module hgauto.embed: the files built into the program.
 */
#include "embed.h"
#include "host.h"
#include "lb.h"
#include "modules.h"

#include <lauxlib.h>

/// Content of an embedded file (or of its replacement on disk).
// @param name string e.g. "linux/build.sh"
// @return string|nil nil when there is none
static int l_read(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	struct host *h = host_of(L);
	struct hga_buf out;
	struct hga_err err;
	int r;

	hga_buf_init(&out, (size_t)512 << 20);
	r = host_file(h, name, &out, NULL, &err);
	if (r == 0) {
		lb_pushbuf(L, &out);
		return 1;
	}
	hga_buf_release(&out);
	if (r == -HGA_NOTFOUND)
		return 0;
	return lb_raise(L, &err);
}

/// Names of the embedded files, sorted.
// @param[opt] prefix string
// @return string[]
static int l_list(lua_State *L)
{
	host_files(L, luaL_optstring(L, 1, ""));
	return 1;
}

static const luaL_Reg embed_fns[] = {
    {"read", l_read}, {"list", l_list}, {NULL, NULL}};

int luaopen_hgauto_embed(lua_State *L)
{
	luaL_newlib(L, embed_fns);
	return 1;
}
