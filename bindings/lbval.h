/*
 * Tape <-> Lua.  The only place where values become Lua tables and back.
 *
 * null: hgauto.json's null (light userdata NULL) inside lists, absent in
 * maps and structures.  Tables of the list class (lbval_pushlistmeta) are
 * lists even when empty.
 */
#ifndef HGA_LBVAL_H
#define HGA_LBVAL_H

#include "base/val.h"

#include <lua.h>

#include <stdbool.h>

/*
 * Called for each STRUCT node with shape != HGA_NO_SHAPE when its table was
 * just pushed (top of the stack): may set a metatable.  May be NULL; if not,
 * lists get the list metatable, too.
 */
typedef void (*lbval_shape_fn)(lua_State *L, uint16_t shape, void *data);

/* Pushes the whole value, freeing the tape's chunks on the way; raises only
 * Lua's memory error (the tape's owner frees the rest). [-0, +1, m] */
void lbval_drain(lua_State *L, struct hga_vtape *t, lbval_shape_fn fn,
                 void *data);

/* Pushes the value at a cursor, tape unchanged. [-0, +1, m] */
void lbval_push(lua_State *L, struct hga_val v);

/* The same; with list_meta every list gets the list metatable. */
void lbval_pushx(lua_State *L, struct hga_val v, bool list_meta);

/* Pushes the metatable that marks lists. [-0, +1, m] */
void lbval_pushlistmeta(lua_State *L);

/*
 * Appends the Lua value at idx to the tape without looking at shapes: keys
 * 1..n -> LIST, string keys -> MAP, {} -> EMPTY.  Mixed keys, holes, cycles,
 * functions: -HGA_USAGE with the path in the text.  borrow: strings are not
 * copied (the table must stay alive and unchanged).  Does not raise.
 */
int lbval_tape(lua_State *L, int idx, struct hga_vtape *t, bool borrow,
               struct hga_err *err) HGA_MUST_USE;

/* The same where secret objects may stand for strings: for requests whose
 * bodies are never shown. */
int lbval_tape_secret(lua_State *L, int idx, struct hga_vtape *t,
                      struct hga_err *err) HGA_MUST_USE;

#endif
