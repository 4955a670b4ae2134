/*
 * Inside of the credential chain.
 *
 * A plan says without any I/O but the profile files where credentials come
 * from: links in the order they are followed, each handing its credentials
 * to the next.  A run follows a plan on the loop.  Every provider is one
 * function that starts its work and later ends in exactly one of cred_yield,
 * cred_none, cred_fail.
 */
#ifndef HGA_AWS_CRED_INT_H
#define HGA_AWS_CRED_INT_H

#include "aws/ask.h"
#include "aws/call.h"
#include "aws/client.h"
#include "aws/cred.h"
#include "base/json.h"

enum {
	CRED_LINKS = 16,             /* roles that lead to roles */
	CRED_DOC_MAX = 64 << 10,     /* bytes of a credential document */
	CRED_TAPE_MAX = 1 << 20,     /* the same, parsed */
	CRED_FRESH_S = 15 * 60,      /* less is not used from a cache */
	CRED_MANDATORY_S = 10 * 60,  /* less is not used at all */
	CRED_LOGIN_FRESH_S = 5 * 60, /* aws login */
	CRED_TRY_AGAIN_S = 60        /* after a refresh that may fail */
};

enum cred_kind {
	CRED_KEYS = 0, /* ready credentials */
	CRED_ROLE,
	CRED_WEB,
	CRED_SSO,
	CRED_LOGIN,
	CRED_PROCESS,
	CRED_CONTAINER,
	CRED_IMDS
};

/* What a link needs to know; NULL: not configured.  Owned texts. */
enum cred_text {
	CRED_T_PROFILE = 0,
	CRED_T_ROLE_ARN,
	CRED_T_SESSION_NAME,
	CRED_T_EXTERNAL_ID,
	CRED_T_MFA,
	CRED_T_DURATION,
	CRED_T_TOKEN_FILE,
	CRED_T_SSO_SESSION,
	CRED_T_SSO_URL,
	CRED_T_SSO_REGION,
	CRED_T_SSO_ACCOUNT,
	CRED_T_SSO_ROLE,
	CRED_T_LOGIN,
	CRED_T_LOGIN_DIR,
	CRED_T_REGION,
	CRED_T_COMMAND,
	CRED_T_ACCOUNT,
	CRED_T_URL,       /* container, metadata service */
	CRED_T_AUTH,      /* container: the header itself (a secret) */
	CRED_T_AUTH_FILE, /* container: file with it */
	CRED_T_COUNT
};

struct cred_link {
	enum cred_kind kind;
	char *t[CRED_T_COUNT];
	struct hga_creds *keys; /* CRED_KEYS */
	bool required;          /* metadata service: none is a failure */
	bool no_v1;
	double timeout_s;
	unsigned attempts;
};

struct cred_plan {
	struct cred_link links[CRED_LINKS];
	size_t n;
	bool may_be_none; /* ends at the metadata service of the chain */
};

/* Wipes and frees; safe on a zeroed struct. */
void cred_plan_release(struct cred_plan *p);
/*
 * The chain for a configuration.  0 also without any link: then *tried says
 * why for each provider.  -HGA_AUTH, -HGA_USAGE for broken configuration.
 */
int cred_plan_make(struct hga_aws_config *cfg, struct cred_plan *p,
                   struct hga_buf *tried, struct hga_err *err) HGA_MUST_USE;
/* Only what the profile itself says (also a session that only gives a
 * token); no link: nothing. */
int cred_plan_profile(struct hga_aws_config *cfg, const char *profile,
                      struct cred_plan *p, struct hga_err *err) HGA_MUST_USE;
/* Equal plans get equal texts. */
int cred_plan_hash(const struct cred_plan *p, char out[65],
                   struct hga_err *err) HGA_MUST_USE;
/* A new link at the end. */
int cred_plan_add(struct cred_plan *p, enum cred_kind kind,
                  struct cred_link **out, struct hga_err *err) HGA_MUST_USE;
int cred_text_set(struct cred_link *l, enum cred_text what, const char *text,
                  struct hga_err *err) HGA_MUST_USE;
/* Configured container: 1 added, 0 not configured (cred_container.c). */
int cred_plan_container(struct hga_aws_config *cfg, struct cred_plan *p,
                        struct hga_err *err) HGA_MUST_USE;
/* Metadata service: 1 added, 0 switched off (cred_imds.c). */
int cred_plan_imds(struct hga_aws_config *cfg, struct cred_plan *p,
                   struct hga_err *err) HGA_MUST_USE;

/* ---- following a plan ---- */

struct cred_run {
	struct hga_aws *aws;
	struct hga_aws_config *cfg; /* for the clients inside */
	const struct cred_plan *plan;
	size_t at;
	struct hga_creds *creds; /* of the link before */
	bool bearer;
	bool no_cache; /* the CLI's cache is neither read nor written */
	bool stale;    /* what caches hold was refused */
	void (*done)(struct cred_run *r); /* from the loop; creds or err */
	void *data;
	struct hga_err err;
	char why[160]; /* none: the reason */

	/* ---- the provider's ---- */
	struct hga_timer timer;
	struct hga_http http;
	struct hga_proc proc;
	struct hga_ask ask;
	struct hga_aws_call call;
	struct hga_secret bearer_token, code;
	struct hga_secret seen[4]; /* others that passed: hidden till the end */
	unsigned n_seen;
	int64_t bearer_expires_us;
	struct hga_buf path;   /* of a cache file */
	struct hga_vtape *doc; /* what it held */
	struct hga_buf text;
	char name[256]; /* role of an instance */
	int state;
	unsigned tries;
	void (*then)(struct cred_run *r);
	bool v1;
};

/* From the next step of the loop on. */
int cred_run_start(struct cred_run *r, struct hga_err *err) HGA_MUST_USE;
/* Stops everything and frees; safe on a zeroed struct. */
void cred_run_release(struct cred_run *r);
/* Keeps a secret that only passes through out of logs, as long as r lives;
   one too many stays hidden for good. */
void cred_hide(struct cred_run *r, struct hga_str secret);
const struct cred_link *cred_link_of(const struct cred_run *r);
int64_t cred_now_us(const struct cred_run *r);

/* Ends of a provider. */
void cred_yield(struct cred_run *r, struct hga_creds *taken);
void cred_none(struct cred_run *r, const char *why);
void cred_fail(struct cred_run *r, const struct hga_err *err);
/* cred_fail as "CredentialProvider". */
void cred_broken(struct cred_run *r, const char *fmt, ...) HGA_PRINTF(2, 3);

/* The URL may be talked to (hga_aws_only). */
int cred_only(const struct cred_run *r, const char *url,
              struct hga_err *err) HGA_MUST_USE;
/* Runs fn after a pause. */
void cred_later(struct cred_run *r, int64_t ms, void (*fn)(struct cred_run *));
/* One request; done is called when it is over (r->http).  ms: of the whole. */
int cred_http(struct cred_run *r, struct hga_http_args *a,
              void (*done)(struct hga_op *), struct hga_err *err) HGA_MUST_USE;
/* True: the answer never came because nobody was reached. */
bool cred_unreached(const struct hga_http *h);
/*
 * One call of a service (r->call).  region NULL: the configuration's.  creds
 * NULL: unsigned.  params is used until this returns.
 */
int cred_call(struct cred_run *r, const char *service, const char *region,
              const char *op, struct hga_vtape *params, struct hga_creds *creds,
              void (*done)(struct hga_op *), struct hga_err *err) HGA_MUST_USE;
/* A map of texts for cred_call; NULL values are left out. */
struct cred_pair {
	const char *name, *value;
};
int cred_params(struct hga_vtape **out, const struct cred_pair *pairs, size_t n,
                struct hga_err *err) HGA_MUST_USE;

/* Parses a document of secrets; the caller frees it with
 * hga_vtape_free_secret.  No content gets into the error. */
int cred_parse(struct hga_str text, struct hga_vtape **out,
               struct hga_err *err) HGA_MUST_USE;

/* Names of the members of a credential document. */
struct cred_names {
	const char *id, *secret, *token, *expires, *account;
};
extern const struct cred_names cred_names_upper; /* AccessKeyId, Token */
extern const struct cred_names cred_names_sts;   /* SessionToken */
extern const struct cred_names cred_names_lower; /* accessKeyId */
/*
 * Credentials from a document.  Expiry: a time as text or in seconds;
 * account: text or absent.
 */
int cred_from_doc(struct hga_val doc, const struct cred_names *names,
                  const char *provider, struct hga_creds **out,
                  struct hga_err *err) HGA_MUST_USE;

/* ---- caches on disk (cred_cache.c) ---- */

/* Appends HOME/.aws/SUB/NAME.json; -HGA_NOTFOUND without home. */
int cred_cache_path(const struct hga_aws_env *env, const char *sub,
                    const char *name, struct hga_buf *out,
                    struct hga_err *err) HGA_MUST_USE;
/* File names of the CLI: 40 hex digits. */
int cred_cache_role(const struct cred_link *l, char out[41],
                    struct hga_err *err) HGA_MUST_USE;
int cred_cache_sso(const struct cred_link *l, char out[41],
                   struct hga_err *err) HGA_MUST_USE;
/*
 * Reads a cache file.  *out NULL: none, or one that is not ours alone or
 * malformed (a warning was logged).
 */
int cred_cache_read(const struct hga_aws_env *env, const char *path,
                    struct hga_vtape **out, struct hga_err *err) HGA_MUST_USE;
/* Writes old (may be NONE) with the members of news over it, those of equal
 * name that are maps on both sides merged; a failure is only logged. */
void cred_cache_write(const struct hga_aws_env *env, const char *path,
                      struct hga_val old, struct hga_val news);
/*
 * The CLI's cache for this link: true and *out when it holds credentials
 * that last.  r->path and r->doc are left for cred_cache_put.
 */
bool cred_cache_get(struct cred_run *r,
                    int (*name)(const struct cred_link *, char *,
                                struct hga_err *),
                    const char *provider, struct hga_creds **out);
/* Puts new credentials there. */
void cred_cache_put(struct cred_run *r, const struct hga_creds *c,
                    const char *provider_type);

/* ---- providers ---- */

void cred_role_start(struct cred_run *r);
void cred_web_start(struct cred_run *r);
void cred_sso_start(struct cred_run *r);
void cred_login_start(struct cred_run *r);
void cred_process_start(struct cred_run *r);
void cred_container_start(struct cred_run *r);
void cred_imds_start(struct cred_run *r);

/* Pure parts, for tests and fuzzing. */
int cred_process_parse(struct hga_str out, const char *account,
                       struct hga_creds **c, struct hga_err *err) HGA_MUST_USE;
/* "DPoP" header for a POST to url: ES256 JWT with the key in PEM. */
int cred_login_proof(struct hga_str pem, const char *url, int64_t now_us,
                     const char *jti, struct hga_buf *out,
                     struct hga_err *err) HGA_MUST_USE;

#endif
