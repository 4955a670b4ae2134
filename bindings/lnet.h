/*
 * What lhttp.c and lhttpd.c share: header fields between Lua and core.
 */
#ifndef HGA_LNET_H
#define HGA_LNET_H

#include "net/http.h"

#include <lua.h>

/*
 * Reads header fields from the table at idx (nil: none): name = value, name =
 * {value, ...} or a list of {name, value}.  Values are strings, numbers or
 * secrets; names of tables are sorted, so that the order never changes.
 * Pushes one userdata that owns the array; the texts stay borrowed from the
 * table. [-0, +1, raises usage]
 */
const struct hga_http_hdr *lnet_headers(lua_State *L, int idx, size_t *n);

/*
 * Pushes name -> value (lower case; repeated fields joined by ", ") and the
 * list of {name, value} as received. [-0, +2, m]
 */
void lnet_pushheaders(lua_State *L, const struct hga_http_hdr *h, size_t n);

#endif
