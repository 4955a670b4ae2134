/*
 * CLIXML and PSRP for Lua: the parts of hgauto.winrm.core without transport.
 */
#ifndef HGA_LWINRM_H
#define HGA_LWINRM_H

#include <lauxlib.h>
#include <lua.h>

/* Classes and functions of the codec. */
void lwinrm_codec_classes(lua_State *L);
extern const luaL_Reg lwinrm_codec[];

#endif
