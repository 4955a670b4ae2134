/*
 * PowerShell remoting ([MS-PSRP]): fragments and messages, without transport.
 *
 * The sender cuts messages into fragments and fragments into buffers of one
 * request each; the receiver puts messages together again, whatever the order
 * of their objects.  Limits: 64 MiB per message, 16 unfinished ones.
 */
#ifndef HGA_WINRM_PSRP_H
#define HGA_WINRM_PSRP_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "base/val.h"

#include <stdbool.h>
#include <stdint.h>

#define HGA_PSRP_MESSAGE_MAX ((size_t)64 * 1024 * 1024)
#define HGA_PSRP_UNFINISHED 16u
#define HGA_PSRP_FRAGMENT 21u /* bytes of a fragment's head */
#define HGA_PSRP_HEAD 40u     /* bytes of a message's head */
#define HGA_PSRP_UUID 36u

enum hga_psrp_type {
	HGA_PSRP_SESSION_CAPABILITY = 0x00010002,
	HGA_PSRP_INIT_RUNSPACEPOOL = 0x00010004,
	HGA_PSRP_RUNSPACEPOOL_STATE = 0x00021005,
	HGA_PSRP_CREATE_PIPELINE = 0x00021006,
	HGA_PSRP_APPLICATION_PRIVATE_DATA = 0x00021009,
	HGA_PSRP_PIPELINE_INPUT = 0x00041002,
	HGA_PSRP_END_OF_PIPELINE_INPUT = 0x00041003,
	HGA_PSRP_PIPELINE_OUTPUT = 0x00041004,
	HGA_PSRP_ERROR_RECORD = 0x00041005,
	HGA_PSRP_PIPELINE_STATE = 0x00041006,
	HGA_PSRP_DEBUG_RECORD = 0x00041007,
	HGA_PSRP_VERBOSE_RECORD = 0x00041008,
	HGA_PSRP_WARNING_RECORD = 0x00041009,
	HGA_PSRP_PROGRESS_RECORD = 0x00041010,
	HGA_PSRP_INFORMATION_RECORD = 0x00041011,
	HGA_PSRP_PIPELINE_HOST_CALL = 0x00041100
};

/* Name of a type ("PIPELINE_OUTPUT"), NULL for one we do not know; and
 * back, 0 when there is none. */
const char *hga_psrp_name(uint32_t type);
uint32_t hga_psrp_find(struct hga_str name);

/* "XXXXXXXX-..." <-> 16 bytes in .NET's order; false: not a UUID. */
bool hga_psrp_guid(struct hga_str text, uint8_t out[16]) HGA_MUST_USE;
void hga_psrp_guid_text(const uint8_t in[16], char out[37]);

/* ---- sending ---- */

struct hga_psrp_out {
	uint64_t next;  /* object id of the next message, from 1 */
	size_t payload; /* bytes of one buffer */
	/* Buffers one after the other; cuts[i] ends the i-th.  The last one
	 * is still open. */
	struct hga_buf data;
	size_t *cuts;
	size_t n_cuts, cap_cuts;
};

void hga_psrp_out_init(struct hga_psrp_out *o);
void hga_psrp_out_release(struct hga_psrp_out *o);
/* Appends one message.  pool, pipeline: UUIDs, empty for none.  to_client:
 * destination (a server writes, too).  -HGA_USAGE when payload is < 22. */
int hga_psrp_out_add(struct hga_psrp_out *o, uint32_t type, bool to_client,
                     struct hga_str pool, struct hga_str pipeline,
                     struct hga_str data, struct hga_err *err) HGA_MUST_USE;
/* Ends the open buffer, if it holds anything. */
int hga_psrp_out_flush(struct hga_psrp_out *o,
                       struct hga_err *err) HGA_MUST_USE;
/* Forgets the ended buffers; the open one and the object id stay. */
void hga_psrp_out_clear(struct hga_psrp_out *o);

/* ---- receiving ---- */

struct hga_psrp_msg {
	uint64_t object;
	uint32_t type, destination;
	uint8_t pool[16], pipeline[16];
	struct hga_str data; /* CLIXML, may begin with a byte order mark */
};

struct hga_psrp_in; /* opaque */

struct hga_psrp_in *hga_psrp_in_new(void) HGA_MUST_USE;
void hga_psrp_in_free(struct hga_psrp_in *in);
/* Whole fragments, as one stream element carries them. */
int hga_psrp_in_feed(struct hga_psrp_in *in, const void *p, size_t n,
                     struct hga_err *err) HGA_MUST_USE;
/* Next whole message in the order of completion; false: none.  Its data is
 * valid until the next call. */
bool hga_psrp_in_next(struct hga_psrp_in *in, struct hga_psrp_msg *out);
/* Nothing is half received, and no object id is missing below the highest. */
bool hga_psrp_in_whole(const struct hga_psrp_in *in);
/* Messages that began and did not end. */
unsigned hga_psrp_in_unfinished(const struct hga_psrp_in *in);

/* ---- messages ---- */

int hga_psrp_capability(struct hga_buf *out, struct hga_str version,
                        struct hga_err *err) HGA_MUST_USE;
/* host: calls of the host are wanted; app: application arguments or NONE */
int hga_psrp_init_pool(struct hga_buf *out, bool host, struct hga_val app,
                       struct hga_err *err) HGA_MUST_USE;
/*
 * CREATE_PIPELINE from a map: statements = list of lists of commands {cmd,
 * is_script, use_local_scope, args=[{name, value}], MergeMyResult=n, ...};
 * no_input (default true), add_to_history, nested, host, streams (remote
 * stream options, default 1), minor (of the protocol version 2.minor).
 */
int hga_psrp_create_pipeline(struct hga_buf *out, struct hga_val spec,
                             struct hga_err *err) HGA_MUST_USE;

#endif
