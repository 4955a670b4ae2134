/* Credentials of a container: one document at a local address. */
#include "aws/cred_int.h"

#include "aws/endpoint.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

#define HOST "http://169.254.170.2"

enum {
	ONE_MS = 2000,
	TRIES = 3,
	PAUSE_MS = 1000
};

/* ---- the plan ---- */

/* The host in a URL's authority, without port. */
static struct hga_str host_of(struct hga_str authority)
{
	ptrdiff_t end = hga_str_chr(authority, ']', 0);

	if (authority.n > 0 && authority.s[0] == '[' && end > 0)
		return hga_strn(authority.s + 1, (size_t)end - 1);
	end = hga_str_chr(authority, ':', 0);
	return end < 0 ? authority : hga_strn(authority.s, (size_t)end);
}

static bool is_local(struct hga_str authority)
{
	static const char *const known[] = {"169.254.170.2", "169.254.170.23",
	                                    "fd00:ec2::23"};
	struct hga_str host = host_of(authority);

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		if (hga_str_ieqc(host, known[i]))
			return true;
	}
	return hga_aws_host_is_loopback(authority);
}

static int check_url(const char *url, struct hga_err *err)
{
	struct hga_str u = hga_str(url), authority;
	size_t n = 0;

	for (size_t i = 0; i < u.n; i++) {
		if ((unsigned char)u.s[i] <= ' ')
			return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
			                "AWS_CONTAINER_CREDENTIALS_FULL_URI "
			                "holds blanks or control characters");
	}
	if (hga_str_starts(u, "https://"))
		return 0;
	if (!hga_str_starts(u, "http://"))
		return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
		                "AWS_CONTAINER_CREDENTIALS_FULL_URI is no "
		                "http(s) URL: %s",
		                url);
	authority = hga_strn(u.s + 7, u.n - 7);
	while (n < authority.n && authority.s[n] != '/' &&
	       authority.s[n] != '?' && authority.s[n] != '#')
		n++;
	authority.n = n;
	/* User information would hide the host. */
	if (hga_str_chr(authority, '@', 0) < 0 && is_local(authority))
		return 0;
	return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
	                "AWS_CONTAINER_CREDENTIALS_FULL_URI: http:// is only "
	                "for loopback and the addresses of containers, not "
	                "for %.*s",
	                HGA_STRF(authority));
}

static int find_url(const struct hga_aws_env *env, char *out, size_t size,
                    struct hga_err *err)
{
	const char *path =
	    hga_aws_env_get(env, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full =
	    hga_aws_env_get(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
	int n;

	if (path == NULL && full == NULL)
		return 0;
	if (path != NULL && path[0] != '/')
		return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
		                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does "
		                "not begin with /");
	n = snprintf(out, size, "%s%s", path != NULL ? HOST : "",
	             path != NULL ? path : full);
	if (n < 0 || (size_t)n >= size)
		return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
		                "AWS_CONTAINER_CREDENTIALS_FULL_URI is too "
		                "long");
	if (path == NULL && check_url(full, err) < 0)
		return -HGA_AUTH;
	return 1;
}

int cred_plan_container(struct hga_aws_config *cfg, struct cred_plan *p,
                        struct hga_err *err)
{
	const struct hga_aws_env *env = cfg->env;
	struct hga_aws_value ca;
	struct cred_link *l;
	char url[2048];
	int rc = find_url(env, url, sizeof(url), err);

	if (rc != 1)
		return rc;
	rc = hga_aws_config_get(cfg, HGA_SET_CA_BUNDLE, &ca, err);
	if (rc == 0)
		rc = cred_plan_add(p, CRED_CONTAINER, &l, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_URL, url, err);
	if (rc == 0)
		rc = cred_text_set(
		    l, CRED_T_AUTH_FILE,
		    hga_aws_env_get(env,
		                    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
		    err);
	if (rc == 0)
		rc = cred_text_set(
		    l, CRED_T_AUTH,
		    hga_aws_env_get(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN"),
		    err);
	return rc < 0 ? rc : 1;
}

/* ---- the request ---- */

static void ask(struct cred_run *r);

/* Once more, or the failure. */
static void again(struct cred_run *r, const struct hga_err *err)
{
	if (++r->tries < TRIES)
		cred_later(r, PAUSE_MS, ask);
	else
		cred_fail(r, err);
}

static void on_answer(struct hga_op *op)
{
	struct cred_run *r = op->task;
	struct hga_vtape *t = NULL;
	struct hga_creds *c = NULL;
	struct hga_err err = op->err;
	int status = r->http.status;

	if (err.kind == HGA_OK && status != 200) {
		(void)hga_fail(&err, HGA_AUTH, 0, "CredentialProvider",
		               "%s answered with status %d",
		               cred_link_of(r)->t[CRED_T_URL], status);
		if (status < 500 && status != 429) {
			cred_fail(r, &err);
			return;
		}
	}
	if (err.kind == HGA_OK &&
	    cred_parse(hga_buf_str(&r->http.body), &t, &err) == 0)
		(void)!cred_from_doc(hga_vtape_root(t), &cred_names_upper,
		                     "container", &c, &err);
	hga_vtape_free_secret(t);
	if (c == NULL) {
		again(r, &err);
		return;
	}
	(void)snprintf(c->where, sizeof(c->where), "%s",
	               cred_link_of(r)->t[CRED_T_URL]);
	cred_yield(r, c);
}

/* The header, from its file each time; "" without. */
static int authorization(struct cred_run *r, struct hga_err *err)
{
	const struct cred_link *l = cred_link_of(r);
	const struct hga_aws_env *env = &r->aws->env;
	const char *file = l->t[CRED_T_AUTH_FILE];
	struct hga_str v;
	int rc = 0;

	hga_buf_release_secret(&r->text);
	if (file != NULL)
		rc = env->read(env->data, file, &r->text, err);
	else if (l->t[CRED_T_AUTH] != NULL)
		rc = hga_buf_adds(&r->text, l->t[CRED_T_AUTH], err);
	if (rc < 0)
		return rc;
	while (r->text.len > 0 && (r->text.data[r->text.len - 1] == '\n' ||
	                           r->text.data[r->text.len - 1] == '\r'))
		hga_buf_truncate(&r->text, r->text.len - 1);
	v = hga_buf_str(&r->text);
	if (hga_str_chr(v, '\r', 0) >= 0 || hga_str_chr(v, '\n', 0) >= 0 ||
	    memchr(v.s, '\0', v.n) != NULL)
		return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
		                "the authorization token of the container "
		                "holds a line break");
	cred_hide(r, v);
	return 0;
}

static void ask(struct cred_run *r)
{
	const char *url = cred_link_of(r)->t[CRED_T_URL];
	struct hga_http_hdr headers[2] = {
	    {HGA_STR("Accept"), HGA_STR("application/json")}};
	struct hga_http_args a = {0};
	struct hga_err err = {0};
	int rc = authorization(r, &err);

	if (rc == 0)
		rc = cred_only(r, url, &err);
	if (rc == 0) {
		headers[1].name = HGA_STR("Authorization");
		headers[1].value = hga_buf_str(&r->text);
		a.method = "GET";
		a.url = url;
		a.headers = headers;
		a.n_headers = r->text.len > 0 ? 2 : 1;
		a.total_ms = ONE_MS;
		a.repeatable = true;
		rc = cred_http(r, &a, on_answer, &err);
	}
	if (rc < 0)
		cred_fail(r, &err);
}

void cred_container_start(struct cred_run *r)
{
	ask(r);
}
