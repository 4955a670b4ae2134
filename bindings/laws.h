/*
 * Inside of hgauto.aws.core: shared by laws.c (clients, introspection) and
 * laws_call.c (calls, ledger gate).
 */
#ifndef HGA_LAWS_H
#define HGA_LAWS_H

#include "aws/call.h"
#include "aws/models.h"
#include "aws/page.h"
#include "aws/wait.h"

#include <lua.h>

#define LAWS_CLIENT "hgauto.aws.client"
#define LAWS_CREDS "hgauto.aws.credentials"
#define LAWS_PAGER "hgauto.aws.pager"
#define LAWS_WAITER "hgauto.aws.waiter"
#define LAWS_PRESIGNED "hgauto.aws.presigned"

struct laws_client {
	struct hga_aws_client *c;
	bool strict; /* unknown fields of answers raise */
};

struct laws_creds {
	struct hga_creds *c;
};

struct laws_pager {
	struct hga_pager *p;
};

struct laws_waiter {
	struct hga_waiter *w;
};

/* Pushes what all clients share (it owns the models) and returns the models;
 * made at first use. [-0, +1, raises] */
struct hga_aws_models *laws_pushmodels(lua_State *L);
/* Service by name; raises usage with a suggestion. */
const struct hga_aws_svc *laws_check_svc(lua_State *L, struct hga_str name);
/* Pushes the sorted names of all services. [-0, +1, raises] */
void laws_pushservices(lua_State *L);
/* The client at idx. */
struct laws_client *laws_check_client(lua_State *L, int idx);
/* Operation of a service by any spelling; raises usage with a suggestion. */
struct hga_aws_op laws_check_op(lua_State *L, const struct hga_aws_svc *svc,
                                struct hga_str name);
/* Pushes the weak table answer -> meta. [-0, +1, m] */
void laws_pushmetas(lua_State *L);
/* Drains the tape into a table whose structures know their fields.
 * [-0, +1, m] */
void laws_pushanswer(lua_State *L, const struct laws_client *c,
                     struct hga_vtape *tape);

/* Puts the reasons of the providers and a hint into the error object on top
 * when that is NoCredentials. */
void laws_set_tried(lua_State *L, const struct hga_err *err,
                    const struct hga_buf *tried);
/* core.call(client, operation, params, opts); waits. */
int laws_call(lua_State *L);
/* core.creates() -> rows of creates.def. */
int laws_creates(lua_State *L);

#endif
