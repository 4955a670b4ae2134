/*
 * One AWS API call: prepared in start, then one attempt after the other from
 * the loop.  Every way to the end goes through settle(), so that a gate that
 * passed is always answered.
 */
#include "aws/call.h"

#include "aws/client.h"
#include "aws/trace.h"
#include "aws/valid.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
	TIMEOUT_MS = 300000,  /* a call with all its attempts */
	READ_MS = 60000,      /* silence of the service */
	RESEND_MS = 60000,    /* age of a notice to the ledger */
	SKEW_US = 240000000,  /* difference of clocks that matters */
	EVENTUAL_MS = 300000, /* how long a new thing may be unknown */
	EVENTUAL_IAM_MS = 60000
};

#define LABEL "aws"

/* Operations that take their time. */
static const struct {
	const char *service, *op;
	int64_t timeout_ms, read_ms;
} slow_ops[] = {
    {"lambda", "Invoke", 960000, 910000},
};

static void on_timer(struct hga_timer *t);

static const char *svc_name(const struct hga_aws_call *c)
{
	return hga_aws_cstr(c->op.svc, c->op.svc->r->name);
}

static const char *op_name(const struct hga_aws_call *c)
{
	return hga_aws_cstr(c->op.svc, c->op.r->name);
}

static struct hga_loop *loop_of(const struct hga_aws_call *c)
{
	return c->client->aws->loop;
}

static int64_t now_ms(void)
{
	return hga_mono_ms();
}

static void set_code(struct hga_aws_call *c, const char *code)
{
	(void)snprintf(c->code, sizeof(c->code), "%s", code);
}

/* ---- the end ---- */

enum hga_aws_outcome hga_aws_call_outcome(const struct hga_aws_call *c)
{
	if (c->base.state == HGA_OP_FINISHED && c->base.err.kind == HGA_OK &&
	    c->tape != NULL)
		return HGA_CALL_DONE;
	return c->any_ambiguous ? HGA_CALL_UNKNOWN : HGA_CALL_NOTHING;
}

struct hga_val hga_aws_call_answer(const struct hga_aws_call *c)
{
	const struct hga_val none = {NULL, 0};

	if (c->base.err.kind != HGA_OK || c->tape == NULL)
		return none;
	return hga_vtape_root(c->tape);
}

static void leave_queue(struct hga_aws_call *c)
{
	struct aws_host *h = c->host;
	struct hga_aws_call *prev = NULL, *p;

	if (!c->queued)
		return;
	c->queued = false;
	for (p = h->first; p != NULL && p != c; p = p->next)
		prev = p;
	if (prev == NULL)
		h->first = c->next;
	else
		prev->next = c->next;
	if (h->last == c)
		h->last = prev;
	c->next = NULL;
}

static void drop_slot(struct hga_aws_call *c)
{
	struct aws_host *h = c->host;
	struct hga_aws_call *next;

	if (!c->in_slot)
		return;
	c->in_slot = false;
	h->inflight--;
	next = h->first;
	if (next == NULL)
		return;
	leave_queue(next);
	/* From the loop: this may run inside somebody's cancel. */
	hga_timer_stop(loop_of(next), &next->timer);
	(void)!hga_timer_start(loop_of(next), &next->timer, 0, NULL);
}

static void settle(struct hga_aws_call *c)
{
	hga_timer_stop(loop_of(c), &c->timer);
	hga_op_cancel(&c->get.base);
	leave_queue(c);
	drop_slot(c);
	c->took_ms = now_ms() - c->started_ms;
	c->base.state = HGA_OP_FINISHED;
	if (!c->gated || c->settled)
		return;
	c->settled = true;
	if (c->args.settled != NULL)
		c->args.settled(c->args.data, c);
}

static void finish(struct hga_aws_call *c)
{
	settle(c);
	hga_op_finish(&c->base);
}

int hga_aws_call_hide(const struct hga_aws_call *c, struct hga_str text,
                      struct hga_buf *out, struct hga_err *err)
{
	return aws_hide(&c->hidden, text, out, err);
}

/* A service may quote what it was sent. */
static void redact_message(struct hga_aws_call *c)
{
	struct hga_buf clean;

	hga_buf_init(&clean, 4 * c->message.max);
	if (aws_hide(&c->hidden, hga_buf_str(&c->message), &clean, NULL) < 0) {
		hga_buf_release(&clean);
		hga_buf_clear(&c->message);
		return;
	}
	hga_buf_release(&c->message);
	c->message = clean;
}

/* The most frequent failure in plain words. */
static void say_refused(const struct hga_aws_call *c, char *out, size_t size)
{
	const char *host = c->host->name, *colon = strrchr(host, ':');

	if (colon == NULL || strchr(colon, ']') != NULL)
		(void)snprintf(out, size,
		               "cannot connect to %s: connection refused",
		               host);
	else
		(void)snprintf(out, size,
		               "cannot connect to %.*s port %s: connection "
		               "refused",
		               (int)(colon - host), host, colon + 1);
}

/* One line: what, how often, how long. */
static void describe(struct hga_aws_call *c)
{
	const char *msg = c->base.err.msg, *name = op_name(c);
	size_t n = strlen(name);
	char tail[64] = "", refused[512];

	/* The reader of answers names the operation itself. */
	if (strncmp(msg, name, n) == 0 && strncmp(msg + n, ": ", 2) == 0)
		msg += n + 2;
	if (strcmp(c->base.err.code, "Refused") == 0) {
		say_refused(c, refused, sizeof(refused));
		msg = refused;
	}

	if (c->attempts > 1)
		(void)snprintf(tail, sizeof(tail), " (%u attempts, %.1f s)",
		               c->attempts,
		               (double)(now_ms() - c->started_ms) / 1000);
	hga_buf_clear(&c->message);
	/* A message that does not fit in memory is the short one in err. */
	(void)!hga_buf_addf(&c->message, NULL, "%s %s: %s%s", svc_name(c), name,
	                    msg, tail);
}

/* Fails the call with err, which is about the way, not from the service. */
static void fail(struct hga_aws_call *c, const struct hga_err *err)
{
	c->base.err = *err;
	set_code(c, err->code);
	c->ambiguous = c->any_ambiguous && c->op.r->repeat != HGA_REPEAT_READ;
	describe(c);
	hga_log(HGA_LOG_INFO, LABEL, "%s", hga_buf_text(&c->message));
	finish(c);
}

/* ---- preparation ---- */

static int64_t pick(int64_t a, int64_t b, int64_t c)
{
	if (a > 0)
		return a;
	return b > 0 ? b : c;
}

static void set_limits(struct hga_aws_call *c)
{
	const struct hga_aws_client *cl = c->client;
	int64_t timeout = TIMEOUT_MS, read = READ_MS;

	for (size_t i = 0; i < sizeof(slow_ops) / sizeof(*slow_ops); i++) {
		if (strcmp(slow_ops[i].service, svc_name(c)) == 0 &&
		    strcmp(slow_ops[i].op, op_name(c)) == 0) {
			timeout = slow_ops[i].timeout_ms;
			read = slow_ops[i].read_ms;
		}
	}
	timeout = pick(c->args.timeout_ms, cl->timeout_ms, timeout);
	c->args.read_ms = pick(c->args.read_ms, cl->read_ms, read);
	c->args.timeout_ms = timeout;
	c->deadline_ms = c->started_ms + timeout;
	c->max_attempts =
	    (unsigned)pick(c->args.max_attempts, cl->max_attempts, 1);
}

static bool ends_with(struct hga_str s, const char *a, const char *b)
{
	return hga_str_ends(s, a) || hga_str_ends(s, b);
}

static bool is_creating(const struct hga_aws_call *c)
{
	static const char *const verbs[] = {"Create",   "Run",      "Import",
	                                    "Allocate", "Register", "Copy"};
	struct hga_str name = hga_aws_op_name(c->op);

	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++) {
		if (hga_str_starts(name, verbs[i]))
			return true;
	}
	return false;
}

/* Names given to new things, for patience later. */
static void keep_names(struct hga_aws_call *c)
{
	struct hga_vit it;
	size_t n = 0;

	if (!is_creating(c))
		return;
	for (it = hga_val_first(c->args.params); hga_val_more(it) && n < 4;
	     it = hga_val_next(it)) {
		struct hga_val v = hga_vit_val(it);

		if (!hga_val_is(v, HGA_V_STR) ||
		    !hga_str_ends(hga_vit_name(&it), "Name"))
			continue;
		c->names[n] = hga_memdup0(hga_val_str(v).s, hga_val_str(v).n);
		if (c->names[n] != NULL)
			n++;
	}
}

static int check_params(struct hga_aws_call *c, struct hga_err *err)
{
	struct hga_buf warnings;
	int rc;

	if (c->args.no_validate)
		return 0;
	hga_buf_init(&warnings, 1 << 16);
	rc =
	    hga_aws_validate(c->op, c->args.params, &c->report, &warnings, err);
	if (rc == 0 && warnings.len > 0)
		hga_log(HGA_LOG_WARN, LABEL, "%s %s: %s", svc_name(c),
		        op_name(c), hga_buf_text(&warnings));
	hga_buf_release(&warnings);
	return rc;
}

int aws_add_trace_id(const struct hga_aws_env *env, struct hga_aws_pairs *h,
                     struct hga_err *err)
{
	const char *id = hga_aws_env_get(env, "_X_AMZN_TRACE_ID");
	struct hga_buf b;
	int rc = 0;

	if (id == NULL || *id == '\0' ||
	    hga_aws_env_get(env, "AWS_LAMBDA_FUNCTION_NAME") == NULL ||
	    hga_aws_pairs_get(h, "X-Amzn-Trace-Id") != NULL)
		return 0;
	hga_buf_init(&b, 65536);
	for (; *id != '\0' && rc == 0; id++) {
		unsigned char ch = (unsigned char)*id;

		if (ch < 0x20 || ch >= 0x7f)
			rc = hga_buf_addf(&b, err, "%%%02X", ch);
		else
			rc = hga_buf_addc(&b, (char)ch, err);
	}
	if (rc == 0)
		rc = hga_aws_pairs_set(h, HGA_STR("X-Amzn-Trace-Id"),
		                       hga_buf_str(&b), err);
	hga_buf_release(&b);
	return rc;
}

static int add_headers(struct hga_aws_call *c, struct hga_err *err)
{
	struct hga_aws_pairs *h = &c->req.headers;
	const struct hga_aws_env *env = &c->client->aws->env;
	int rc = env->uuid(env->data, c->invocation, err);

	if (rc == 0)
		rc = hga_aws_pairs_set(h, HGA_STR("User-Agent"),
		                       hga_str(c->client->agent), err);
	if (rc == 0)
		rc = hga_aws_pairs_set(h, HGA_STR("Accept-Encoding"),
		                       HGA_STR("identity"), err);
	if (rc == 0)
		rc = hga_aws_pairs_set(h, HGA_STR("amz-sdk-invocation-id"),
		                       hga_str(c->invocation), err);
	if (rc == 0)
		rc = aws_add_trace_id(env, h, err);
	return rc;
}

/* Files must be there before anything is sent. */
static int open_streams(struct hga_aws_call *c, struct hga_err *err)
{
	int rc = hga_aws_out_check(c->op, err);

	if (rc == 0 && c->req.file != NULL)
		rc = hga_aws_file_open(&c->file, &c->req,
		                       (enum hga_aws_sum)c->req.sum, err);
	if (rc < 0 || (c->args.to_path == NULL && !c->args.to_queue))
		return rc;
	if (hga_aws_out_stream(c->op) == NULL)
		return hga_fail(err, HGA_USAGE, 0, NULL,
		                "to: the answer of %s %s does not stream",
		                svc_name(c), op_name(c));
	return hga_aws_sink_open(&c->sink, c->args.to_path, err);
}

static int prepare(struct hga_aws_call *c, struct hga_err *err)
{
	char host[400];
	int rc = c->kept != NULL ? 0 : check_params(c, err);

	if (rc == 0)
		rc = aws_hidden_add(&c->hidden, c->op.svc, c->op.r->input,
		                    c->args.params, err);
	if (rc == 0)
		rc = aws_serialize(c->client, c->op, c->args.params,
		                   c->args.extra, &c->req, err);
	if (rc == 0)
		rc = aws_find_place(c->client, c->op, c->args.params, c->creds,
		                    &c->endpoint, err);
	if (rc == 0)
		rc = aws_place_request(c->client, &c->endpoint, c->op, &c->req,
		                       host, sizeof(host), err);
	if (rc == 0)
		rc = add_headers(c, err);
	if (rc == 0)
		rc = open_streams(c, err);
	if (rc < 0)
		return rc;
	c->host = aws_host_ensure(c->client->aws, host);
	if (c->host == NULL)
		return hga_fail_mem(err);
	set_limits(c);
	keep_names(c);
	return 0;
}

/* ---- credentials, gate ---- */

static void on_creds(struct hga_op *op);

/* AWS_BEARER_TOKEN_<SIGNING NAME> or NULL. */
static const char *env_token(const struct hga_aws_call *c)
{
	const struct hga_img_svc *r = c->op.svc->r;
	char name[96] = "AWS_BEARER_TOKEN_";
	size_t at = strlen(name);
	struct hga_str s = hga_aws_text(c->op.svc, r->signing);

	if (s.n >= sizeof(name) - at)
		return NULL;
	for (size_t i = 0; i < s.n; i++) {
		char ch = s.s[i];

		name[at++] = ch == '-' || ch == ' '   ? '_'
		             : ch >= 'a' && ch <= 'z' ? (char)(ch - 32)
		                                      : ch;
	}
	name[at] = '\0';
	return hga_aws_env_get(&c->client->aws->env, name);
}

enum proof {
	PROOF_SIGNATURE,
	PROOF_ENV_TOKEN, /* text of the token follows */
	PROOF_TOKEN
};

/* What the model lets us prove who we are with.  An operation's list stands
 * for the service's. */
static enum proof choose_proof(const struct hga_aws_call *c, const char **token)
{
	unsigned op = c->op.r->flags, svc = c->op.svc->r->flags;
	bool own = (op & (HGA_OF_BEARER | HGA_OF_SIGV4)) != 0;
	bool bearer =
	    own ? (op & HGA_OF_BEARER) != 0 : (svc & HGA_VF_BEARER) != 0;
	bool sigv4 = own ? (op & HGA_OF_SIGV4) != 0 : (svc & HGA_VF_SIGV4) != 0;

	if (!bearer)
		return PROOF_SIGNATURE;
	*token = env_token(c);
	if (*token != NULL)
		return PROOF_ENV_TOKEN;
	return sigv4 ? PROOF_SIGNATURE : PROOF_TOKEN;
}

/* 1: c->creds is set; 0: on_creds follows. */
static int get_creds(struct hga_aws_call *c, struct hga_err *err)
{
	const char *token = NULL;
	enum proof proof = choose_proof(c, &token);
	int rc;

	c->bearer = proof != PROOF_SIGNATURE;
	if (proof == PROOF_ENV_TOKEN) {
		hga_creds_free(c->creds);
		c->creds = NULL;
		rc = hga_creds_new_token(&c->creds, "environment",
		                         hga_str_trim(hga_str(token)), err);
		return rc < 0 ? rc : 1;
	}
	hga_creds_get_release(&c->get);
	memset(&c->get, 0, sizeof(c->get));
	c->get.base.done = on_creds;
	c->get.base.task = c;
	rc = c->bearer ? hga_creds_bearer_start(&c->get, c->client, err)
	               : hga_creds_get_start(&c->get, c->client, err);
	if (rc == 1) {
		hga_creds_free(c->creds);
		c->creds = hga_creds_ref(c->get.creds);
	}
	if (rc < 0)
		(void)!hga_buf_addstr(&c->tried, hga_buf_str(&c->get.tried),
		                      NULL);
	return rc;
}

static int open_gate(struct hga_aws_call *c, struct hga_err *err)
{
	int rc;

	if (c->args.gate == NULL)
		return 0;
	rc = c->args.gate(c->args.data, c, err);
	if (rc < 0)
		return rc;
	c->gated = true;
	c->marked_ms = now_ms();
	return 0;
}

/* Not about the way to the service: no operation's name before it. */
static void fail_plain(struct hga_aws_call *c, const struct hga_err *err)
{
	c->base.err = *err;
	set_code(c, err->code);
	c->ambiguous = c->any_ambiguous && c->op.r->repeat != HGA_REPEAT_READ;
	(void)!hga_buf_adds(&c->message, err->msg, NULL);
	finish(c);
}

static void again(struct hga_aws_call *c, int64_t delay_ms, const char *why);

/* Copies what the caller lends until the start is over. */
static int keep_args(struct hga_aws_call *c, struct hga_err *err)
{
	const struct hga_val both[] = {c->args.params, c->args.extra};
	int rc;

	c->kept = hga_vtape_new(NULL, AWS_REQUEST_MAX);
	if (c->kept == NULL)
		return hga_fail_mem(err);
	hga_vt_open(c->kept, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
	for (size_t i = 0; i < 2; i++) {
		if (hga_val_type(both[i]) == HGA_V_NONE)
			hga_vt_null(c->kept, HGA_NO_NAME);
		else
			hga_vt_copy(c->kept, HGA_NO_NAME, both[i]);
	}
	hga_vt_close(c->kept);
	rc = hga_vt_end(c->kept, err);
	if (rc == 0 && c->args.to_path != NULL) {
		c->kept_path = hga_strdup(c->args.to_path);
		rc = c->kept_path != NULL ? 0 : hga_fail_mem(err);
	}
	return rc;
}

static void drop_kept(struct hga_aws_call *c)
{
	const struct hga_val none = {NULL, 0};

	hga_vtape_free_secret(c->kept);
	hga_free(c->kept_path);
	c->kept = NULL;
	c->kept_path = NULL;
	c->args.params = none;
	c->args.extra = none;
	c->args.to_path = NULL; /* the sink has it */
}

static struct hga_val given(struct hga_val v)
{
	const struct hga_val none = {NULL, 0};

	return hga_val_is(v, HGA_V_NULL) ? none : v;
}

/* What had to wait for the credentials. */
static int prepare_kept(struct hga_aws_call *c, struct hga_err *err)
{
	struct hga_vit it = hga_val_first(hga_vtape_root(c->kept));
	int rc;

	c->args.params = given(hga_vit_val(it));
	c->args.extra = given(hga_vit_val(hga_val_next(it)));
	c->args.to_path = c->kept_path;
	rc = prepare(c, err);
	drop_kept(c);
	return rc;
}

static void on_creds(struct hga_op *op)
{
	struct hga_aws_call *c = op->task;
	bool first = c->creds == NULL;
	struct hga_err err = op->err;
	int rc = err.kind == HGA_OK ? 0 : -(int)err.kind;

	if (rc < 0)
		(void)!hga_buf_addstr(&c->tried, hga_buf_str(&c->get.tried),
		                      NULL);
	if (rc == 0) {
		hga_creds_free(c->creds);
		c->creds = hga_creds_ref(c->get.creds);
	}
	if (rc == 0 && first && c->kept != NULL)
		rc = prepare_kept(c, &err);
	if (rc == 0 && first)
		rc = open_gate(c, &err);
	if (rc < 0)
		fail_plain(c, &err);
	else
		again(c, 0,
		      first ? "credentials are there"
		            : "credentials were got anew");
}

/* Waiting for them takes as long as the whole call may. */
static int watch_creds(struct hga_aws_call *c, struct hga_err *err)
{
	int64_t left = c->deadline_ms - now_ms();

	return hga_timer_start(loop_of(c), &c->timer, left > 0 ? left : 0, err);
}

static bool is_anonymous(const struct hga_aws_call *c)
{
	return c->client->anonymous || (c->op.r->flags & HGA_OF_UNSIGNED) != 0;
}

/* The first send, or what comes before it.  Mistakes are told before
 * credentials are waited for. */
static int set_off(struct hga_aws_call *c, struct hga_err *err)
{
	int rc = hga_aws_client_ready(c->client, err);
	bool wait = false;

	if (rc == 0 && !is_anonymous(c)) {
		rc = get_creds(c, err);
		wait = rc == 0;
	}
	if (rc >= 0 && wait &&
	    aws_wants_creds(c->client, c->op, c->args.params)) {
		set_limits(c);
		rc = check_params(c, err);
		if (rc == 0)
			rc = keep_args(c, err);
	} else if (rc >= 0) {
		rc = prepare(c, err);
	}
	if (rc == 0 && wait)
		return watch_creds(c, err);
	if (rc == 0)
		rc = open_gate(c, err);
	return rc < 0 ? rc : hga_timer_start(loop_of(c), &c->timer, 0, err);
}

static void on_cancel(struct hga_op *op)
{
	struct hga_aws_call *c = (struct hga_aws_call *)op;

	if (c->http.base.state == HGA_OP_RUNNING) {
		if (c->http.sent) {
			c->sent = true;
			c->any_ambiguous = true;
		}
		hga_op_cancel(&c->http.base);
	}
	c->base.err.kind = HGA_CANCELLED;
	c->ambiguous = c->any_ambiguous;
	settle(c);
	hga_op_drop(op);
}

int hga_aws_call_start(struct hga_aws_call *c,
                       const struct hga_aws_call_args *args,
                       struct hga_err *err)
{
	const struct hga_val none = {NULL, 0};
	int rc;

	c->args = *args;
	c->op = args->op;
	c->client = hga_aws_client_ref(args->client);
	c->started_ms = now_ms();
	hga_buf_init(&c->report, 1 << 16);
	hga_buf_init(&c->tried, 4096);
	hga_buf_init(&c->message, 1 << 20);
	hga_buf_init(&c->hidden, AWS_REQUEST_MAX);
	c->timer.fn = on_timer;
	c->timer.data = c;
	hga_op_begin(&c->base, on_cancel);
	rc = set_off(c, err);
	c->args.params = none;
	c->args.extra = none;
	c->args.to_path = NULL; /* the sink has it */
	if (rc < 0)
		settle(c);
	return rc;
}

void hga_aws_call_release(struct hga_aws_call *c)
{
	hga_op_cancel(&c->base);
	hga_http_release(&c->http);
	hga_aws_out_free(c->out);
	hga_vtape_free(c->tape);
	hga_aws_request_release(&c->req);
	hga_aws_file_close(&c->file);
	hga_aws_sink_close(&c->sink);
	hga_buf_release(&c->report);
	hga_buf_release(&c->tried);
	hga_buf_release(&c->message);
	hga_buf_release_secret(&c->hidden);
	for (size_t i = 0; i < 4; i++)
		hga_free(c->names[i]);
	drop_kept(c);
	hga_creds_free(c->creds);
	hga_creds_get_release(&c->get);
	hga_aws_client_free(c->client);
	c->out = NULL;
	c->tape = NULL;
	c->creds = NULL;
	c->client = NULL;
	memset(c->names, 0, sizeof(c->names));
}

/* ---- one attempt ---- */

static int on_head(void *data, struct hga_err *err)
{
	struct hga_aws_call *c = data;

	return hga_aws_out_head(c->out, c->http.status,
	                        hga_buf_str(&c->http.head), err);
}

static int on_body(void *data, const void *p, size_t n, struct hga_err *err)
{
	struct hga_aws_call *c = data;
	size_t max = c->client->max_response;

	if (!hga_aws_out_streams(c->out) &&
	    (uint64_t)c->http.received + n > max)
		return hga_fail(err, HGA_PROTOCOL, 0, "TooLarge",
		                "answer above the limit of %zu bytes "
		                "(max_response)",
		                max);
	return hga_aws_out_feed(c->out, p, n, err);
}

static int on_stream(void *data, const void *p, size_t n, struct hga_err *err)
{
	struct hga_aws_call *c = data;
	int rc = hga_aws_sink_take(&c->sink, p, n, err);

	if (rc == 0 && c->sink.queue.len > 0 && c->base.progress != NULL)
		c->base.progress(&c->base);
	return rc;
}

void hga_aws_call_resume(struct hga_aws_call *c)
{
	hga_http_resume(&c->http);
}

/* Tape and reader of the attempt. */
static int new_reader(struct hga_aws_call *c, struct hga_err *err)
{
	struct hga_aws_vopt opt = {.documents = strcmp(svc_name(c), "iam") == 0,
	                           .sink = c->sink.open ? on_stream : NULL,
	                           .data = c};

	hga_aws_out_free(c->out);
	hga_vtape_free(c->tape);
	c->out = NULL;
	c->tape = hga_vtape_new(&c->op.svc->names,
	                        2 * c->client->max_response + (16u << 20));
	if (c->tape != NULL)
		c->out = hga_aws_out_new(c->op, &opt, c->tape);
	return c->out != NULL ? 0 : hga_fail_mem(err);
}

static int sign_traced(struct hga_aws_call *c, const struct hga_sign_args *a,
                       struct hga_err *err)
{
	struct hga_sign_cache *keys = &c->client->aws->keys;
	struct hga_sign_trace t;
	int rc;

	if (!hga_log_wants(HGA_LOG_TRACE))
		return hga_aws_sign(&c->req, a, keys, NULL, err);
	memset(&t, 0, sizeof(t));
	rc = hga_aws_sign(&c->req, a, keys, &t, err);
	if (rc == 0)
		aws_trace_request(c, &t);
	hga_sign_trace_release(&t);
	return rc;
}

/* The token goes as it is; headers are checked for line breaks when they are
 * sent. */
static int show_token(struct hga_aws_call *c, struct hga_err *err)
{
	const struct hga_secret *token = &c->creds->token;
	struct hga_buf text;
	int rc;

	hga_buf_init(&text, token->n + 16);
	rc = hga_buf_reserve(&text, token->n + 8, err);
	if (rc == 0)
		rc = hga_buf_adds(&text, "Bearer ", err);
	if (rc == 0)
		rc = hga_buf_add(&text, token->s, token->n, err);
	if (rc == 0)
		rc =
		    hga_aws_pairs_set(&c->req.headers, HGA_STR("Authorization"),
		                      hga_buf_str(&text), err);
	hga_buf_release_secret(&text);
	if (rc == 0 && hga_log_wants(HGA_LOG_TRACE))
		aws_trace_request(c, NULL);
	return rc;
}

static int sign(struct hga_aws_call *c, struct hga_err *err)
{
	struct hga_sign_args a;
	char text[48];
	int rc;

	(void)snprintf(text, sizeof(text), "attempt=%u; max=%u",
	               c->attempts + 1, c->max_attempts);
	rc = hga_aws_pairs_set(&c->req.headers, HGA_STR("amz-sdk-request"),
	                       hga_str(text), err);
	if (rc == 0 && c->creds == NULL && hga_log_wants(HGA_LOG_TRACE))
		aws_trace_request(c, NULL);
	if (rc < 0 || c->creds == NULL)
		return rc;
	if (c->bearer)
		return show_token(c, err);
	a = aws_sign_args(c->client, &c->endpoint, c->creds, c->host,
	                  c->host->name);
	if ((c->op.r->flags & HGA_OF_UNSIGNED_PAYLOAD) != 0)
		a.unsigned_payload = c->endpoint.https;
	return sign_traced(c, &a, err);
}

static int make_url(const struct hga_aws_call *c, struct hga_buf *url,
                    struct hga_err *err)
{
	int rc =
	    hga_buf_addf(url, err, "%s://%s",
	                 c->endpoint.https ? "https" : "http", c->host->name);

	if (rc == 0)
		rc = hga_buf_addstr(url, hga_buf_str(&c->req.path), err);
	if (rc == 0 && c->req.query.len > 0) {
		rc = hga_buf_addc(url, '?', err);
		if (rc == 0)
			rc = hga_buf_addstr(url, hga_buf_str(&c->req.query),
			                    err);
	}
	return rc;
}

static void on_http(struct hga_op *op);

static int64_t on_source(void *data, void *p, size_t n, struct hga_err *err)
{
	struct hga_aws_call *c = data;

	return hga_aws_file_read(&c->file, p, n, err);
}

static int start_http(struct hga_aws_call *c, const char *url,
                      const struct hga_http_hdr *headers, struct hga_err *err)
{
	struct hga_http_args a = {0};
	bool unsafe = c->op.r->repeat == HGA_REPEAT_UNSAFE;
	const struct hga_aws_env *env = &c->client->aws->env;

	a.method = c->req.method;
	a.url = url;
	a.headers = headers;
	a.n_headers = c->req.headers.n;
	a.body = c->req.body.data;
	a.body_len = c->req.body.len;
	a.has_body = c->req.has_body;
	if (c->req.file != NULL) {
		a.source = on_source;
		a.body_len = c->file.size;
	}
	/* A pooled connection may be dead already: fine for what can be
	 * repeated, not for the rest. */
	a.fresh = unsafe || c->force_fresh ||
	          (!c->req.has_body && c->op.r->repeat != HGA_REPEAT_READ);
	a.connect_ms = c->client->connect_ms;
	a.idle_ms = c->args.read_ms;
	a.total_ms = c->deadline_ms - now_ms();
	if (a.total_ms < 1)
		a.total_ms = 1;
	a.ca_bundle = c->client->ca_bundle;
	a.sink = on_body;
	a.on_head = on_head;
	a.data = c;
	c->http.base.done = on_http;
	c->http.base.task = c;
	return env->http(env->data, loop_of(c), &c->http, &a, err);
}

static int send_request(struct hga_aws_call *c, struct hga_err *err)
{
	const struct hga_aws_pairs *h = &c->req.headers;
	struct hga_http_hdr *headers;
	struct hga_buf url;
	int rc;

	headers = hga_calloc(h->n + 1, sizeof(*headers));
	if (headers == NULL)
		return hga_fail_mem(err);
	for (size_t i = 0; i < h->n; i++) {
		headers[i].name = hga_str(h->v[i].name);
		headers[i].value = hga_str(h->v[i].value);
	}
	hga_buf_init(&url, AWS_REQUEST_MAX);
	rc = make_url(c, &url, err);
	hga_http_release(&c->http);
	memset(&c->http, 0, sizeof(c->http));
	if (rc == 0)
		rc = start_http(c, hga_buf_text(&url), headers, err);
	hga_buf_release_secret(&url);
	hga_free(headers);
	return rc;
}

static int notice(struct hga_aws_call *c, struct hga_err *err)
{
	int rc;

	if (!c->gated || c->args.resend == NULL ||
	    now_ms() - c->marked_ms <= RESEND_MS)
		return 0;
	rc = c->args.resend(c->args.data, c, err);
	c->marked_ms = now_ms();
	return rc;
}

static void attempt(struct hga_aws_call *c)
{
	struct hga_err err = {0};
	int rc = notice(c, &err);

	if (rc == 0 && c->req.file != NULL)
		rc = hga_aws_file_rewind(&c->file, &err);
	if (rc == 0 && c->sink.open)
		rc = hga_aws_sink_restart(&c->sink, &err);
	if (rc == 0)
		rc = new_reader(c, &err);
	if (rc == 0)
		rc = sign(c, &err);
	if (rc == 0)
		rc = send_request(c, &err);
	if (rc < 0) {
		fail(c, &err);
		return;
	}
	c->force_fresh = false;
	c->paced = false;
}

/* Mode adaptive: false when the call must wait for its turn first. */
static bool may_send(struct hga_aws_call *c, struct hga_err *err)
{
	double wait_s;
	int64_t wait_ms, left_ms = c->deadline_ms - now_ms();

	if (c->client->mode != HGA_RETRY_ADAPTIVE)
		return true;
	wait_s = hga_rate_ask(&c->client->rate, (double)now_ms() / 1000);
	if (wait_s <= 0)
		return true;
	c->paced = true;
	drop_slot(c);
	wait_ms = (int64_t)(wait_s * 1000) + 1;
	/* err tells the caller of a failure */
	(void)!hga_timer_start(loop_of(c), &c->timer,
	                       wait_ms < left_ms ? wait_ms : left_ms, err);
	return false;
}

static void time_out(struct hga_aws_call *c, const char *what)
{
	struct hga_err err = {0};

	(void)hga_fail(&err, HGA_TIMEOUT, 0, "CallTimeout",
	               "no answer of %s within %.3g s (%s)",
	               c->host != NULL ? c->host->name : svc_name(c),
	               (double)c->args.timeout_ms / 1000, what);
	fail(c, &err);
}

/* The signature needs the digest of a body that is a file. */
static bool is_hashed(const struct hga_aws_call *c)
{
	return c->req.file == NULL || c->req.payload_hash[0] != '\0';
}

/* One part per turn of the loop. */
static void hash_part(struct hga_aws_call *c)
{
	struct hga_err err = {0};
	int rc = hga_aws_file_hash(&c->file, c->op, &c->req, &err);

	if (rc >= 0)
		rc = hga_timer_start(loop_of(c), &c->timer, 0, &err);
	if (rc < 0)
		fail(c, &err);
}

/* Time to send; or the deadline came while waiting for a slot. */
static void on_timer(struct hga_timer *t)
{
	struct hga_aws_call *c = t->data;
	struct aws_host *h = c->host;
	struct hga_err err = {0};

	if (now_ms() >= c->deadline_ms) {
		time_out(c, c->queued  ? "waiting for other requests"
		            : c->paced ? "slowed down after throttling"
		                       : "before the request was sent");
		return;
	}
	if (!is_hashed(c)) {
		hash_part(c);
		return;
	}
	if (c->in_slot || h->inflight < c->client->max_concurrency) {
		if (!c->in_slot)
			h->inflight++;
		c->in_slot = true;
		if (may_send(c, &err))
			attempt(c);
		else if (err.kind != HGA_OK)
			fail(c, &err);
		return;
	}
	if (h->first == NULL)
		h->first = c;
	else
		h->last->next = c;
	h->last = c;
	c->next = NULL;
	c->queued = true;
	(void)!hga_timer_start(loop_of(c), t, c->deadline_ms - now_ms(), NULL);
}

/* ---- what came of it ---- */

struct finding {
	enum hga_retry_harm harm;
	struct hga_retry_fact fact;
	const struct hga_aws_error *error; /* the service's, or NULL */
	struct hga_err err;                /* ours otherwise */
	bool timed_out;
};

/* An error code from the service's own document, not made of a status. */
static bool is_document(const struct hga_aws_error *e)
{
	return e->code[0] < '0' || e->code[0] > '9';
}

static enum hga_retry_harm harm_of_error(const struct hga_aws_error *e,
                                         enum hga_retry_cost class)
{
	static const struct hga_str capacity = {"Insufficient*Capacity", 21};

	if (!is_document(e))
		return HGA_HARM_AMBIGUOUS;
	if (class == HGA_RETRY_THROTTLE)
		return HGA_HARM_THROTTLED;
	if (e->status >= 400 && e->status < 500)
		return HGA_HARM_REFUSED;
	if (hga_str_glob(capacity, hga_str(e->code)))
		return HGA_HARM_REFUSED;
	return HGA_HARM_AMBIGUOUS;
}

static struct hga_str header(const struct hga_aws_call *c, const char *name)
{
	return hga_http_header(&c->http, name, 0);
}

static void init_fact(struct hga_aws_call *c, struct finding *f)
{
	f->fact.mode = c->client->mode;
	f->fact.service = svc_name(c);
	f->fact.attempt = c->attempts;
	f->fact.max_attempts = c->max_attempts;
	f->fact.code = hga_str("");
	f->fact.after_ms = -1;
}

static void read_error(struct hga_aws_call *c, struct finding *f)
{
	const struct hga_aws_error *e = hga_aws_out_error(c->out);

	f->error = e;
	f->fact.status = e->status;
	f->fact.code = hga_str(e->code);
	f->fact.model_retryable = e->retryable;
	f->fact.model_throttling = e->throttling;
	f->fact.after_ms = hga_retry_after(header(c, "x-amz-retry-after"),
	                                   header(c, "retry-after"));
	/* Not the service: something between us and it counts requests. */
	if (e->status == 429 && !is_document(e))
		f->fact.garbled = true;
	f->harm = harm_of_error(e, hga_retry_policy(&f->fact, 0).class);
	c->answered = true;
}

/* The transfer itself failed. */
static void read_failure(struct hga_aws_call *c, struct finding *f)
{
	const struct hga_err *e = &c->http.base.err;

	f->err = *e;
	f->fact.network = true;
	f->timed_out = e->kind == HGA_TIMEOUT;
	f->harm = c->http.sent ? HGA_HARM_AMBIGUOUS : HGA_HARM_NOT_SENT;
	if (e->kind == HGA_NET || e->kind == HGA_TIMEOUT)
		return;
	/* A cut or broken answer is as good as none. */
	if (e->kind == HGA_PROTOCOL && (strcmp(e->code, "ShortBody") == 0 ||
	                                strcmp(e->code, "Malformed") == 0))
		return;
	f->fact.network = false;
}

/* Reads the answer; true: success. */
static bool judge(struct hga_aws_call *c, struct finding *f)
{
	enum hga_aws_answer kind;
	int rc;

	memset(f, 0, sizeof(*f));
	init_fact(c, f);
	c->status = c->http.status;
	if (c->http.base.err.kind != HGA_OK) {
		read_failure(c, f);
		return false;
	}
	rc = hga_aws_out_finish(c->out, &kind, &f->err);
	(void)snprintf(c->request_id, sizeof(c->request_id), "%s",
	               hga_aws_out_request_id(c->out));
	if (rc == 0 && kind == HGA_ANSWER_OK)
		return true;
	f->harm = HGA_HARM_AMBIGUOUS;
	if (rc == 0)
		read_error(c, f);
	else if (strcmp(f->err.code, "Garbled") == 0)
		f->fact.garbled = true;
	return false;
}

/* ---- clocks ---- */

/* Service time from the first parsable Date header; false without one. */
static bool service_time(const struct hga_aws_call *c, int64_t *us)
{
	for (unsigned i = 0; i < 4; i++) {
		struct hga_str v = hga_http_header(&c->http, "date", i);

		if (v.s == NULL)
			return false;
		if (hga_time_parse(v, us))
			return true;
	}
	return false;
}

/* The host's clock differs from what we signed with; *offset: by how much
 * from the local one. */
static bool clock_differs(const struct hga_aws_call *c, int64_t *offset)
{
	const struct hga_aws_env *env = &c->client->aws->env;
	int64_t there, diff;

	if (!service_time(c, &there))
		return false;
	*offset = there - env->wall_us(env->data);
	diff = *offset - c->host->skew_us;
	return diff > SKEW_US || diff < -SKEW_US;
}

static void tell_skew(const struct hga_aws_call *c)
{
	if (c->host->skew_told)
		return;
	c->host->skew_told = true;
	hga_log(HGA_LOG_WARN, LABEL,
	        "the local clock differs from that of %s by %" PRId64
	        " s; requests are signed with the service's time",
	        c->host->name, c->host->skew_us / 1000000);
}

static bool fix_skew(struct hga_aws_call *c, const struct finding *f)
{
	int64_t offset;

	if (c->skew_fixed || f->error == NULL ||
	    !hga_retry_is_skew_code(f->fact.code) || !clock_differs(c, &offset))
		return false;
	c->skew_fixed = true;
	c->host->skew_us = offset;
	tell_skew(c);
	return true;
}

/* ---- repeats outside of the policy ---- */

/* A pooled connection died under a request that may be sent twice. */
static bool resend_fresh(struct hga_aws_call *c, const struct finding *f)
{
	if (c->resent_fresh || strcmp(f->err.code, "Send") != 0 ||
	    f->err.kind != HGA_NET ||
	    !hga_retry_gate(HGA_HARM_AMBIGUOUS,
	                    (enum hga_repeat)c->op.r->repeat))
		return false;
	c->resent_fresh = true;
	c->force_fresh = true;
	return true;
}

static bool is_not_found(const struct hga_aws_call *c, struct hga_str code,
                         int64_t *window_ms)
{
	*window_ms = EVENTUAL_MS;
	if (hga_str_starts(code, "Invalid") && hga_str_ends(code, ".NotFound"))
		return true;
	*window_ms = EVENTUAL_IAM_MS;
	return strcmp(svc_name(c), "iam") == 0 &&
	       hga_str_eqc(code, "NoSuchEntity");
}

static bool names_profile(const struct hga_aws_call *c, const struct finding *f)
{
	return strcmp(op_name(c), "RunInstances") == 0 &&
	       hga_str_eqc(f->fact.code, "InvalidParameterValue") &&
	       hga_str_find(hga_buf_str(&f->error->message),
	                    HGA_STR("nstance")) >= 0;
}

/*
 * The service does not know yet what this process made a moment ago.
 * Returns the pause before the next look, or -1.
 */
static int64_t patience(struct hga_aws_call *c, const struct finding *f)
{
	const struct aws_recent *r = NULL;
	int64_t window, pause, now = now_ms();
	const struct hga_aws *aws = c->client->aws;

	if (c->args.no_eventual || !c->client->eventual || f->error == NULL)
		return -1;
	if (is_not_found(c, f->fact.code, &window)) {
		r = aws_recent_in(aws, hga_buf_str(&f->error->message), false);
		if (r == NULL)
			r = aws_recent_in(aws, hga_buf_str(&c->req.body),
			                  false);
	} else if (names_profile(c, f)) {
		r = aws_recent_in(aws, hga_buf_str(&c->req.body), true);
	}
	pause = (int64_t)1000
	        << (c->eventual_tries < 3 ? c->eventual_tries : 3);
	if (r == NULL || now + pause > r->at_ms + window ||
	    now + pause > c->deadline_ms)
		return -1;
	c->eventual_tries++;
	return pause;
}

/*
 * A patient client waits until the service has time for it: throttling has no
 * effect and says nothing about the request.  Returns the pause, or -1 when the
 * call's time is over before, or that is not what happened.
 */
static int64_t throttle_pause(struct hga_aws_call *c, const struct finding *f)
{
	struct hga_retry_fact fact = f->fact;
	struct hga_retry_verdict v;
	int64_t pause;

	if (!c->client->patient || f->harm != HGA_HARM_THROTTLED)
		return -1;
	fact.attempt = c->throttles + 1;
	fact.max_attempts = UINT_MAX;
	v = hga_retry_policy(&fact, aws_random(c->client->aws));
	pause = (int64_t)(v.delay * 1000);
	if (!v.retry || now_ms() + pause >= c->deadline_ms)
		return -1;
	c->throttles++;
	return pause;
}

/* ---- decision ---- */

static void again(struct hga_aws_call *c, int64_t delay_ms, const char *why)
{
	struct hga_err err = {0};

	hga_log(HGA_LOG_DEBUG, LABEL, "%s %s: again in %" PRId64 " ms: %s",
	        svc_name(c), op_name(c), delay_ms, why);
	/* A long pause must not block the others at this host. */
	if (delay_ms > 0)
		drop_slot(c);
	if (hga_timer_start(loop_of(c), &c->timer, delay_ms, &err) < 0)
		fail(c, &err);
}

/* Why an attempt is not repeated; NULL: policy, harm, time and quota agree,
 * and *delay_ms is set. */
static const char *refusal(struct hga_aws_call *c, const struct finding *f,
                           const struct hga_retry_verdict *v, int64_t *delay_ms)
{
	int cost = hga_retry_quota_cost(&f->fact, v->class, f->timed_out);

	if (v->class == HGA_RETRY_NO)
		return "it would fail again";
	if (!v->retry)
		return "no attempt is left";
	if (!hga_retry_gate(f->harm, (enum hga_repeat)c->op.r->repeat))
		return "it was sent and may have had its effect";
	*delay_ms = (int64_t)(v->delay * 1000);
	if (now_ms() + *delay_ms >= c->deadline_ms)
		return "the call's time is over before";
	if (!hga_retry_quota_take(&c->client->quota, cost))
		return "the client's retry quota is used up";
	c->last_cost = cost;
	return NULL;
}

static bool may_retry(struct hga_aws_call *c, const struct finding *f,
                      int64_t *delay_ms)
{
	struct hga_retry_verdict v =
	    hga_retry_policy(&f->fact, aws_random(c->client->aws));
	const char *why;

	c->retryable = v.class != HGA_RETRY_NO;
	c->throttling = v.class == HGA_RETRY_THROTTLE;
	c->exhausted = c->retryable && !v.retry && c->attempts > 1;
	why = refusal(c, f, &v, delay_ms);
	if (why != NULL)
		hga_log(HGA_LOG_DEBUG, LABEL, "%s %s: not repeated: %s",
		        svc_name(c), op_name(c), why);
	return why == NULL;
}

/* The boto3 sentence. */
static void describe_error(struct hga_aws_call *c,
                           const struct hga_aws_error *e)
{
	char tries[48] = "";
	struct hga_str location = header(c, "location");

	if (c->exhausted)
		(void)snprintf(tries, sizeof(tries),
		               " (reached max retries: %u)", c->attempts - 1);
	hga_buf_clear(&c->message);
	(void)!hga_buf_addf(&c->message, NULL,
	                    "An error occurred (%s) when calling the %s "
	                    "operation%s: %s",
	                    e->code, op_name(c), tries,
	                    hga_buf_text(&e->message));
	if (e->status >= 300 && e->status < 400 && location.s != NULL)
		(void)!hga_buf_addf(&c->message, NULL,
		                    " (redirect to %.*s was not followed)",
		                    HGA_STRF(location));
	redact_message(c);
}

static bool is_repeat_answer(const char *code)
{
	static const char *const globs[] = {"*Duplicate*", "*AlreadyExists*",
	                                    "*NotFound*", "NoSuchEntity"};

	for (size_t i = 0; i < sizeof(globs) / sizeof(*globs); i++) {
		if (hga_str_glob(hga_str(globs[i]), hga_str(code)))
			return true;
	}
	return false;
}

static void fail_answer(struct hga_aws_call *c, const struct finding *f)
{
	const struct hga_aws_error *e = f->error;

	describe_error(c, e);
	set_code(c, e->code);
	(void)hga_fail(&c->base.err, HGA_AWS, 0, NULL, "%s",
	               hga_buf_text(&c->message));
	(void)snprintf(c->base.err.code, sizeof(c->base.err.code), "%.63s",
	               e->code);
	c->ambiguous = c->any_ambiguous && c->op.r->repeat != HGA_REPEAT_READ;
	c->maybe_done = c->any_ambiguous && is_repeat_answer(e->code);
	hga_log(HGA_LOG_INFO, LABEL, "%s %s: %s", svc_name(c), op_name(c),
	        hga_buf_text(&c->message));
	finish(c);
}

static void fail_finding(struct hga_aws_call *c, struct finding *f)
{
	if (f->error != NULL) {
		fail_answer(c, f);
		return;
	}
	if (f->err.kind == HGA_TIMEOUT && strcmp(f->err.code, "Total") == 0) {
		time_out(c, c->http.got_any ? "receive: the request was sent"
		            : c->http.sent
		                ? "wait: the request was sent"
		                : "connect: the request was not sent");
		return;
	}
	fail(c, &f->err);
}

/* The service says that the credentials are over: other ones, once. */
static bool renew_creds(struct hga_aws_call *c, const struct finding *f)
{
	static const char *const codes[] = {
	    "ExpiredToken", "ExpiredTokenException", "RequestExpired",
	    "InvalidClientTokenId"};
	struct hga_err err = {0};
	bool over = false;
	int rc;

	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
		over = over || hga_str_eqc(f->fact.code, codes[i]);
	if (!over || f->error == NULL || c->renewed || c->bearer ||
	    !cred_refused(c->client, c->creds))
		return false;
	c->renewed = true;
	c->attempts--;
	drop_slot(c);
	rc = get_creds(c, &err);
	if (rc == 0)
		rc = watch_creds(c, &err);
	else if (rc == 1)
		again(c, 0, "others have got new credentials");
	if (rc < 0)
		fail_plain(c, &err);
	return true;
}

static void decide(struct hga_aws_call *c, struct finding *f)
{
	int64_t delay;

	if (f->harm == HGA_HARM_AMBIGUOUS)
		c->any_ambiguous = true;
	/* what a reader has of the answer cannot be taken back */
	if (c->sink.handed_out) {
		fail_finding(c, f);
		return;
	}
	if (resend_fresh(c, f)) {
		c->attempts--;
		again(c, 0, "the pooled connection was dead");
		return;
	}
	if (fix_skew(c, f)) {
		c->attempts--;
		again(c, 0, "clock corrected");
		return;
	}
	if (renew_creds(c, f))
		return;
	delay = patience(c, f);
	if (delay >= 0) {
		c->attempts--;
		again(c, delay, "not visible yet");
		return;
	}
	delay = throttle_pause(c, f);
	if (delay >= 0) {
		c->attempts--;
		again(c, delay, f->fact.code.s);
		return;
	}
	if (may_retry(c, f, &delay)) {
		again(c, delay, f->error != NULL ? f->error->code : f->err.msg);
		return;
	}
	fail_finding(c, f);
}

/* ---- success ---- */

/* What was deleted on purpose is not waited for. */
static bool is_deleting(const struct hga_aws_call *c)
{
	static const char *const verbs[] = {"Delete", "Deregister", "Terminate",
	                                    "Release"};
	struct hga_str name = hga_aws_op_name(c->op);

	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++) {
		if (hga_str_starts(name, verbs[i]))
			return true;
	}
	return false;
}

static bool is_profile_op(const struct hga_aws_call *c)
{
	return strcmp(op_name(c), "CreateInstanceProfile") == 0;
}

static void remember_value(struct hga_aws_call *c, struct hga_str name,
                           struct hga_val v, int64_t now)
{
	/* What the request named existed before. */
	if (hga_val_is(v, HGA_V_STR) && ends_with(name, "Id", "Name") &&
	    hga_str_find(hga_buf_str(&c->req.body), hga_val_str(v)) < 0)
		aws_recent_add(c->client->aws, hga_val_str(v), now,
		               is_profile_op(c));
}

/* Ids in the answer, two containers deep: that is where creating operations
 * have them. */
static void remember_answer(struct hga_aws_call *c, struct hga_val v, int depth,
                            int64_t now)
{
	for (struct hga_vit it = hga_val_first(v); hga_val_more(it);
	     it = hga_val_next(it)) {
		struct hga_val e = hga_vit_val(it);
		enum hga_vtype t = hga_val_type(e);

		remember_value(c, hga_vit_name(&it), e, now);
		if (depth > 0 && (t == HGA_V_LIST || t == HGA_V_STRUCT))
			remember_answer(c, e, depth - 1, now);
	}
}

static void remember(struct hga_aws_call *c)
{
	int64_t now = now_ms();

	if (is_deleting(c))
		aws_recent_forget(c->client->aws, hga_buf_str(&c->req.body));
	if (!is_creating(c))
		return;
	for (size_t i = 0; i < 4; i++)
		aws_recent_add(c->client->aws, hga_str(c->names[i]), now,
		               is_profile_op(c));
	remember_answer(c, hga_vtape_root(c->tape), 2, now);
}

static void succeed(struct hga_aws_call *c)
{
	struct hga_err err = {0};
	int64_t offset;
	int rc;

	hga_retry_quota_give(&c->client->quota,
	                     c->last_cost > 0 ? c->last_cost : 1);
	if (clock_differs(c, &offset)) {
		c->host->skew_us = offset;
		tell_skew(c);
	}
	remember(c);
	rc = hga_aws_sink_commit(&c->sink, &err);
	if (rc < 0)
		fail(c, &err);
	else
		finish(c);
}

static void log_attempt(const struct hga_aws_call *c)
{
	if (!hga_log_wants(HGA_LOG_DEBUG))
		return;
	hga_log(HGA_LOG_DEBUG, LABEL,
	        "%s %s attempt %u of %u at %s: status %d, %" PRId64
	        " bytes, %.0f ms",
	        svc_name(c), op_name(c), c->attempts, c->max_attempts,
	        c->host->name, c->http.status, c->http.received,
	        c->http.t_total * 1000);
}

/* What the answer says about the service's load. */
static void pace(struct hga_aws_call *c, const struct finding *f, bool good)
{
	bool throttled = false;

	if (c->client->mode != HGA_RETRY_ADAPTIVE)
		return;
	if (!good)
		throttled =
		    hga_retry_policy(&f->fact, 0).class == HGA_RETRY_THROTTLE;
	hga_rate_seen(&c->client->rate, throttled, (double)now_ms() / 1000);
}

static void on_http(struct hga_op *op)
{
	struct hga_aws_call *c = op->task;
	struct finding f;
	bool good;

	c->attempts++;
	c->sent = c->sent || c->http.sent;
	log_attempt(c);
	good = judge(c, &f);
	if (hga_log_wants(HGA_LOG_TRACE))
		aws_trace_answer(c, good);
	pace(c, &f, good);
	if (good)
		succeed(c);
	else
		decide(c, &f);
}
