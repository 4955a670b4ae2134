/*
 * WS-Management with Microsoft's extensions ([MS-WSMV], DSP0226) over
 * net/http: sessions, envelopes, answers, one call.
 *
 * A session holds the address, the identity the peer must prove, the account
 * and statistics; nothing is connected before the first call.  Credentials
 * (Basic) leave only after the TLS identity was verified, or in plain HTTP
 * when that was allowed.  A call is one request and its answer.  Receive and
 * Get may be sent again; any other request only when no byte of it can have
 * left.  Limits on an answer: 16 MiB or twice the envelope, depth 64, no
 * document types.  Bodies and credentials never reach messages.
 */
#ifndef HGA_WINRM_WSMAN_H
#define HGA_WINRM_WSMAN_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "net/http.h"
#include "net/loop.h"
#include "net/op.h"

#include <stdbool.h>
#include <stdint.h>

#define HGA_WSMAN_NS_SHELL                                                     \
	"http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
#define HGA_WSMAN_NS_CONFIG "http://schemas.microsoft.com/wbem/wsman/1/config"
#define HGA_WSMAN_NS_PS "http://schemas.microsoft.com/powershell"

/* Fault codes that decide what happens next. */
#define HGA_WSMAN_TIMED_OUT 2150858793u
#define HGA_WSMAN_ACCESS_DENIED 5u

enum hga_wsman_action {
	HGA_WSMAN_GET,
	HGA_WSMAN_CREATE,
	HGA_WSMAN_DELETE,
	HGA_WSMAN_COMMAND,
	HGA_WSMAN_SEND,
	HGA_WSMAN_RECEIVE,
	HGA_WSMAN_SIGNAL
};

/* ---- requests ---- */

struct hga_wsman_option {
	const char *name;
	struct hga_str value;
	bool must;
};

struct hga_wsman_req {
	enum hga_wsman_action action;
	struct hga_str resource; /* URI */
	struct hga_str shell;    /* selector ShellId; empty: none */
	struct hga_wsman_option options[4];
	size_t n_options;
	size_t envelope;     /* MaxEnvelopeSize; 0: the session's */
	struct hga_buf body; /* XML inside s:Body */
};

/* What all envelopes of a session say. */
struct hga_wsman_head {
	struct hga_str to, session_id; /* session_id: a UUID */
	size_t envelope;
	int64_t operation_ms;
};

/* Appends the envelope; message_id is a UUID. */
int hga_wsman_envelope(const struct hga_wsman_head *h,
                       const struct hga_wsman_req *req, const char *message_id,
                       struct hga_buf *out, struct hga_err *err) HGA_MUST_USE;

/* ---- answers ---- */

struct hga_wsman_stream {
	char name[16];
	bool end;
	size_t at, len; /* in data */
};

struct hga_wsman_resp {
	char relates[64], shell_id[64], command_id[64];
	char state[16]; /* of the command: "Done", "Running", "Pending", "" */
	char shell_state[24]; /* answer to Get: "Connected", ... */
	bool has_exit, whole, timed_out, simulated;
	uint32_t exit_code;
	struct hga_wsman_stream *streams;
	size_t n_streams;
	struct hga_buf data; /* decoded stream bytes */
	/* Where those of stdout and stderr go instead, or NULL; they are not
	 * in streams then.  Set after hga_wsman_resp_init. */
	struct hga_buf *out, *errs;
	bool too_much;         /* more than one of these buffers may hold */
	struct hga_buf leaves; /* simple elements: NAME NUL TEXT NUL, at most
	                          256 of them */
	/* fault */
	bool fault, has_code;
	uint64_t code;
	char subcode[64], provider[96], provider_path[160];
	struct hga_buf reason, message, provider_text;
	void *impl; /* the parser's */
};

void hga_wsman_resp_init(struct hga_wsman_resp *r);
void hga_wsman_resp_release(struct hga_wsman_resp *r);
/* Bytes of an answer, cut anywhere, then the end of it. */
int hga_wsman_resp_feed(struct hga_wsman_resp *r, const void *p, size_t n,
                        struct hga_err *err) HGA_MUST_USE;
int hga_wsman_resp_end(struct hga_wsman_resp *r,
                       struct hga_err *err) HGA_MUST_USE;
/* The text of a fault that says most. */
struct hga_str hga_wsman_fault_text(const struct hga_wsman_resp *r);

/* ---- sessions ---- */

struct hga_wsman; /* opaque */

struct hga_wsman_opts {
	const char *host;
	int port;
	bool https, allow_plaintext;
	struct hga_str user, password;
	const char *ca;   /* PEM of the machine's own certificate, or NULL */
	const char *name; /* the name in it; NULL: host */
	const char *pin;  /* "sha256//BASE64" or NULL */
	bool insecure;    /* no identity at all: loopback only */
	int64_t connect_ms, operation_ms; /* 0: 10 s, 20 s */
	size_t envelope;                  /* 0: 153600 */
};

struct hga_wsman_stats {
	uint64_t requests, retries, bytes_in, bytes_out;
};

/* All of opts is copied.  -HGA_USAGE for what can never be safe. */
int hga_wsman_open(struct hga_loop *loop, const struct hga_wsman_opts *opts,
                   struct hga_wsman **out, struct hga_err *err) HGA_MUST_USE;
/* Wipes the password; no call may run.  NULL is allowed. */
void hga_wsman_close(struct hga_wsman *s);
/* "HOST:PORT". */
const char *hga_wsman_peer(const struct hga_wsman *s);
const struct hga_wsman_head *hga_wsman_head(const struct hga_wsman *s);
const struct hga_wsman_stats *hga_wsman_stats(const struct hga_wsman *s);
/* Another password for the same account (it was changed there). */
int hga_wsman_account(struct hga_wsman *s, struct hga_str user,
                      struct hga_str password,
                      struct hga_err *err) HGA_MUST_USE;

/* ---- one call ---- */

struct hga_wsman_call {
	struct hga_op base;
	/* As of struct hga_wsman_resp, set before the start, kept by the
	 * caller; a call that fails leaves them as they were. */
	struct hga_buf *out, *errs;
	struct hga_wsman_resp resp; /* also of a fault */
	int status;                 /* HTTP, 0: no answer */
	bool sent;                  /* the request may have arrived */
	unsigned attempts;
	void *impl;
};

/*
 * c is zeroed or released; the body of req is taken.  Errors: auth
 * TlsIdentity, Unauthorized, AccessDenied; net Connect, ConnectionLost;
 * timeout Response; remote WSManFault, Http, OutputTooLarge; protocol
 * Malformed.  A Receive
 * that the peer ended with TimedOut succeeds with resp.timed_out.
 */
int hga_wsman_call_start(struct hga_wsman *s, struct hga_wsman_call *c,
                         struct hga_wsman_req *req,
                         struct hga_err *err) HGA_MUST_USE;
void hga_wsman_call_release(struct hga_wsman_call *c);
/* Keeps the memory of a finished call's data for the next one; its data is
 * gone then.  With large output most of the time went into growing it anew. */
void hga_wsman_reuse(struct hga_wsman *s, struct hga_wsman_call *c);

#endif
