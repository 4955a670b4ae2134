/*
 * The module table: one line per C module that `require` finds.
 *
 * X(name, f): require "NAME" calls luaopen_F.  A module with a Lua half
 * (scripts/lib/hgauto/X.lua) registers its C half as "hgauto.X.core".  The
 * declarations are weak, so a program without some of them links; require
 * then raises notfound "not built in".
 */
#ifndef HGA_MODULES_H
#define HGA_MODULES_H

#include <lua.h>

#define HGA_MODULES(X)                                                         \
	X("hgauto.async.core", hgauto_async_core)                              \
	X("hgauto.aws.core", hgauto_aws_core)                                  \
	X("hgauto.aws.model", hgauto_aws_model)                                \
	X("hgauto.box.core", hgauto_box_core)                                  \
	X("hgauto.crypto", hgauto_crypto)                                      \
	X("hgauto.embed", hgauto_embed)                                        \
	X("hgauto.fs", hgauto_fs)                                              \
	X("hgauto.host", hgauto_host)                                          \
	X("hgauto.http.core", hgauto_http_core)                                \
	X("hgauto.httpd.core", hgauto_httpd_core)                              \
	X("hgauto.json", hgauto_json)                                          \
	X("hgauto.log", hgauto_log)                                            \
	X("hgauto.proc.core", hgauto_proc_core)                                \
	X("hgauto.readline", hgauto_readline)                                  \
	X("hgauto.ssh.core", hgauto_ssh_core)                                  \
	X("hgauto.state", hgauto_state)                                        \
	X("hgauto.state.core", hgauto_state_core)                              \
	X("hgauto.term", hgauto_term)                                          \
	X("hgauto.time", hgauto_time)                                          \
	X("hgauto.winrm.core", hgauto_winrm_core)

#define HGA_DECLARE(name, f)                                                   \
	int luaopen_##f(lua_State *L) __attribute__((weak));
HGA_MODULES(HGA_DECLARE)
#undef HGA_DECLARE

#endif
