/*
 * Credentials: the shared cases of the SDK teams for the chain, profiles,
 * roles that lead to roles, tokens, and the addresses of metadata services.
 * Files, variables, clock and network are those of each case.
 */
#include "vec.h"

#include "../unit/aws_env.h"

#include "aws/call.h"
#include "aws/cred_int.h"
#include "base/log.h"
#include "base/time.h"

#define NO_CASES "no third-party cases (HGAUTO_VECTORS)"
#define NOW_US (1000000000LL * 1000000) /* 2001-09-09: expiries are later */

static struct hga_aws_image *models;

/* Texts that live until the end of a case. */
static char pool[128][4096];
static unsigned pool_at;

static const char *keep(struct hga_str s)
{
	char *p = pool[pool_at++ % 128];

	snprintf(p, sizeof(pool[0]), "%.*s", (int)s.n, s.s);
	return p;
}

/* ---- the network of a case ---- */

struct exchange {
	struct hga_str method, uri, body;
	int status; /* 0: the connection failed */
	bool used;
};

struct world {
	struct fake_env f;
	struct hga_loop *loop;
	const char *dir;
	struct exchange x[32];
	size_t n, at;
	char wrong[600]; /* the first request that was not expected */
	struct hga_timer timer;
	struct hga_http *op;
	struct hga_http_args args;
	bool refuse;
};

static void read_traffic(struct world *w, struct hga_val events)
{
	struct exchange *x = NULL;

	for (struct hga_vit it = hga_val_first(events);
	     hga_val_more(it) && w->n < 32; it = hga_val_next(it)) {
		struct hga_val a = hga_val_get(hga_vit_val(it), "action");
		struct hga_val q =
		    hga_val_get(hga_val_get(a, "Request"), "request");
		struct hga_val s = hga_val_get(
		    hga_val_get(hga_val_get(a, "Response"), "response"), "Ok");
		struct hga_val d = hga_val_get(a, "Data");

		if (!vec_none(q)) {
			x = &w->x[w->n++];
			x->method = vec_str(q, "method");
			x->uri = vec_str(q, "uri");
			x->body = hga_str("");
		}
		if (x == NULL)
			continue;
		if (!vec_none(s))
			x->status =
			    (int)hga_val_int(hga_val_get(s, "status"), 0);
		if (hga_str_eqc(vec_str(d, "direction"), "Response"))
			x->body = vec_str(hga_val_get(d, "data"), "Utf8");
	}
}

/* Every "a=b" of one query is in the other. */
static bool within(struct hga_str a, struct hga_str b)
{
	while (a.n > 0) {
		ptrdiff_t amp = hga_str_chr(a, '&', 0);
		size_t n = amp < 0 ? a.n : (size_t)amp;

		if (hga_str_find(b, hga_strn(a.s, n)) < 0)
			return false;
		a = hga_strn(a.s + n, a.n - n);
		if (a.n > 0)
			a = hga_strn(a.s + 1, a.n - 1);
	}
	return true;
}

static void split(struct hga_str uri, struct hga_str *path,
                  struct hga_str *query)
{
	ptrdiff_t at = hga_str_chr(uri, '?', 0);

	*path = at < 0 ? uri : hga_strn(uri.s, (size_t)at);
	*query = at < 0 ? hga_str("")
	                : hga_strn(uri.s + at + 1, uri.n - (size_t)at - 1);
	if (path->n > 0 && path->s[path->n - 1] == '/')
		path->n--;
}

static bool same_uri(struct hga_str a, struct hga_str b)
{
	struct hga_str pa, qa, pb, qb;

	split(a, &pa, &qa);
	split(b, &pb, &qb);
	return hga_str_eq(pa, pb) && within(qa, qb) && within(qb, qa);
}

static void answer(struct hga_timer *t)
{
	struct world *w = t->data;
	struct hga_http *op = w->op;
	const struct exchange *x;
	struct hga_err err = {0};

	if (w->refuse || w->x[w->at].status == 0) {
		if (!w->refuse)
			w->at++;
		(void)hga_fail(&op->base.err, HGA_NET, 0, "Refused",
		               "connection refused");
		hga_op_finish(&op->base);
		return;
	}
	x = &w->x[w->at++];
	op->status = x->status;
	op->sent = true;
	hga_buf_init(&op->head, 1024);
	hga_buf_init(&op->body, 1 << 20);
	(void)!hga_buf_adds(&op->head, "content-type: text/plain\n", NULL);
	if (w->args.on_head != NULL && w->args.on_head(w->args.data, &err) < 0)
		op->base.err = err;
	else if (w->args.sink == NULL)
		(void)!hga_buf_addstr(&op->body, x->body, NULL);
	else if (x->body.n > 0 &&
	         w->args.sink(w->args.data, x->body.s, x->body.n, &err) < 0)
		op->base.err = err;
	op->received = (int64_t)x->body.n;
	hga_op_finish(&op->base);
}

static void drop(struct hga_op *op)
{
	struct world *w = op->task;

	(void)w;
	hga_op_drop(op);
}

/* One after the other, as recorded; then nobody is there. */
static int fake_http(void *data, struct hga_loop *loop, struct hga_http *op,
                     const struct hga_http_args *args, struct hga_err *err)
{
	struct world *w = data;
	const struct exchange *x = &w->x[w->at];

	w->op = op;
	w->args = *args;
	w->refuse = w->at >= w->n || !hga_str_eqc(x->method, args->method) ||
	            !same_uri(x->uri, hga_str(args->url));
	if (w->refuse && w->wrong[0] == '\0')
		snprintf(w->wrong, sizeof(w->wrong), "%s %s", args->method,
		         args->url);
	w->timer.fn = answer;
	w->timer.data = w;
	hga_op_begin(&op->base, drop);
	return hga_timer_start(loop, &w->timer, 0, err);
}

static int case_read(void *data, const char *path, struct hga_buf *out,
                     struct hga_err *err)
{
	const struct world *w = data;
	char file[8192];
	size_t n;
	char *text;
	int rc;

	snprintf(file, sizeof(file), "%s/fs%s", w->dir, path);
	text = vec_read(file, &n);
	if (text == NULL)
		return hga_fail(err, HGA_NOTFOUND, 0, NULL, "%s: missing",
		                path);
	rc = hga_buf_add(out, text, n, err);
	hga_free(text);
	return rc;
}

static int no_write(void *data, const char *path, struct hga_str text,
                    struct hga_err *err)
{
	(void)data;
	(void)path;
	(void)text;
	(void)err;
	return 0;
}

static const char *no_home(void *data)
{
	(void)data;
	return NULL;
}

static void world_init(struct world *w, const char *dir)
{
	memset(w, 0, sizeof(*w));
	fake_init(&w->f);
	w->dir = dir;
	w->f.wall_us = NOW_US;
	w->f.env.data = w;
	w->f.env.read = case_read;
	w->f.env.read_private = case_read;
	w->f.env.write_private = no_write;
	w->f.env.http = fake_http;
	w->f.env.home = no_home;
	fake_var(&w->f, "AWS_EC2_METADATA_DISABLED", "false");
	/* Some cases name an endpoint of plain http. */
	fake_var(&w->f, "HGAUTO_INSECURE_ENDPOINT", "1");
}

/* ---- directories: cred-chain, cred-profile, token-chain ---- */

enum how {
	CHAIN,
	PROFILE,
	TOKEN
};

static void on_done(struct hga_op *op)
{
	*(bool *)op->task = true;
}

/* 0 with the credentials, or the failure. */
static int acquire(struct world *w, enum how how, struct hga_creds **out,
                   struct hga_err *err)
{
	struct hga_aws_args args = {w->loop, models, &w->f.env, "test"};
	struct hga_aws_client_args a = {0};
	struct hga_aws_client *client = NULL;
	struct hga_creds_get g = {0};
	const char *profile = fake_getenv(&w->f, "AWS_PROFILE");
	struct hga_aws *aws = NULL;
	bool over = false;
	int rc;

	/* A profile that was asked for leaves the environment out. */
	if (how == PROFILE)
		a.profile = hga_str(profile != NULL ? profile : "default");
	g.base.done = on_done;
	g.base.task = &over;
	rc = hga_aws_new(&aws, &args, err);
	if (rc == 0)
		rc = hga_aws_client_new(aws, &a, &client, err);
	if (rc == 0)
		rc = how == TOKEN ? hga_creds_bearer_start(&g, client, err)
		                  : hga_creds_get_start(&g, client, err);
	while (rc == 0 && !over)
		if (hga_loop_step(w->loop, 1000, err) < 0)
			abort();
	if (rc == 0 && g.base.err.kind != HGA_OK) {
		*err = g.base.err;
		rc = -(int)err->kind;
	}
	*out = g.creds != NULL ? hga_creds_ref(g.creds) : NULL;
	hga_creds_get_release(&g);
	hga_aws_client_free(client);
	hga_aws_free(aws);
	return rc < 0 ? rc : 0;
}

static bool same_time(struct hga_val want, int64_t us)
{
	int64_t t = 0;

	if (vec_none(want))
		return true;
	if (hga_val_is(want, HGA_V_STR))
		return hga_time_parse(hga_val_str(want), &t) && t == us;
	return hga_val_int(want, -1) == us / 1000000;
}

static bool same_creds(struct hga_val want, const struct hga_creds *c)
{
	struct hga_str token = vec_str(want, "session_token");
	struct hga_str account = vec_str(want, "account_id");

	if (!vec_none(hga_val_get(want, "token")))
		return hga_str_eqc(vec_str(want, "token"), c->token.s) &&
		       same_time(hga_val_get(want, "expiration"),
		                 c->expires_us);
	return hga_str_eqc(vec_str(want, "access_key_id"), c->access_key_id) &&
	       hga_str_eqc(vec_str(want, "secret_access_key"), c->secret.s) &&
	       hga_str_eq(token, hga_str(c->token.s)) &&
	       (account.n == 0 || hga_str_eqc(account, c->account_id)) &&
	       same_time(hga_val_get(want, "expiry"), c->expires_us);
}

/* A command with a pipe needs a shell, which must not be started. */
static bool needs_shell(const char *dir)
{
	char path[5000];
	size_t n = 0;
	char *text, *at;
	bool pipes;

	snprintf(path, sizeof(path), "%s/fs/home/.aws/config", dir);
	text = vec_read(path, &n);
	at = text != NULL ? strstr(text, "credential_process") : NULL;
	pipes = at != NULL && memchr(at, '|', strcspn(at, "\n")) != NULL;
	hga_free(text);
	return pipes;
}

static struct hga_vtape *part(const char *dir, const char *file)
{
	char path[5000];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return vec_json(path);
}

static bool run_case(const char *dir, struct hga_val want, enum how how,
                     char *why, size_t size)
{
	static struct world w;
	struct hga_vtape *vars = part(dir, "env.json");
	struct hga_vtape *traffic = part(dir, "http-traffic.json");
	struct hga_val good = hga_val_get(hga_val_get(want, "result"), "Ok");
	bool must_fail = vec_none(good) || needs_shell(dir);
	struct hga_creds *c = NULL;
	struct hga_err err = {0};
	bool same;
	int rc;

	world_init(&w, dir);
	w.loop = hga_loop_new(&err);
	if (traffic != NULL)
		read_traffic(&w,
		             hga_val_get(hga_vtape_root(traffic), "events"));
	for (struct hga_vit it =
	         hga_val_first(vars != NULL ? hga_vtape_root(vars)
	                                    : (struct hga_val){NULL, 0});
	     hga_val_more(it); it = hga_val_next(it))
		fake_var(&w.f, keep(hga_vit_name(&it)),
		         keep(hga_val_str(hga_vit_val(it))));
	rc = acquire(&w, how, &c, &err);
	same = must_fail ? rc < 0 : rc == 0 && same_creds(good, c);
	snprintf(why, size, "%.200s; asked %s; %zu of %zu exchanges",
	         rc < 0 ? err.msg : "other credentials", w.wrong, w.at, w.n);
	hga_creds_free(c);
	hga_loop_free(w.loop);
	hga_vtape_free(traffic);
	hga_vtape_free(vars);
	return same;
}

static void directory(const char *suite, enum how how)
{
	struct vec_count count = {.name = suite};
	struct vec_count shell = {.name =
	                              "cred-profile (shell wanted, refused)"};
	static char dir[4400], why[1200];
	DIR *d = opendir(vec_path(suite));
	const struct dirent *e;
	size_t there = 0;

	if (d == NULL) {
		skip(NO_CASES);
		return;
	}
	while ((e = readdir(d)) != NULL) {
		struct hga_vtape *t;

		if (e->d_name[0] == '.')
			continue;
		there++;
		snprintf(dir, sizeof(dir), "%s/%.200s", vec_path(suite),
		         e->d_name);
		t = part(dir, "test-case.json");
		if (t == NULL)
			continue;
		vec_case(
		    needs_shell(dir) ? &shell : &count,
		    run_case(dir, hga_vtape_root(t), how, why, sizeof(why)),
		    e->d_name, why);
		hga_vtape_free(t);
	}
	closedir(d);
	ok(count.total + shell.total == there, "%s: every case was run", suite);
	vec_end(&count);
	if (shell.total > 0)
		vec_end(&shell);
}

/* ---- assume-role-chain ---- */

static void add_sections(char *out, size_t size, const char *type,
                         struct hga_val sections)
{
	for (struct hga_vit a = hga_val_first(sections); hga_val_more(a);
	     a = hga_val_next(a)) {
		size_t n = strlen(out);

		snprintf(out + n, size - n, "[%s %s]\n", type,
		         keep(hga_vit_name(&a)));
		for (struct hga_vit b = hga_val_first(hga_vit_val(a));
		     hga_val_more(b); b = hga_val_next(b)) {
			n = strlen(out);
			snprintf(out + n, size - n, "%s = %s\n",
			         keep(hga_vit_name(&b)),
			         keep(hga_val_str(hga_vit_val(b))));
		}
	}
}

static bool same_text(const char *have, struct hga_val want, const char *key)
{
	return hga_str_eq(hga_str(have), vec_str(want, key));
}

static bool same_link(const struct cred_link *l, struct hga_val entry)
{
	struct hga_vit it = hga_val_first(entry);
	struct hga_str kind = hga_vit_name(&it);
	struct hga_val v = hga_vit_val(it);
	char *const *t = l->t;

	switch (l->kind) {
	case CRED_KEYS:
		return (hga_str_eqc(kind, "AccessKey") &&
		        same_text(l->keys->access_key_id, v, "access_key_id") &&
		        same_text(l->keys->secret.s, v, "secret_access_key") &&
		        same_text(l->keys->account_id, v, "account_id")) ||
		       (hga_str_eqc(kind, "NamedSource") &&
		        strcmp(l->keys->provider, "environment") == 0);
	case CRED_ROLE:
		return hga_str_eqc(kind, "AssumeRole") &&
		       same_text(t[CRED_T_ROLE_ARN], v, "role_arn") &&
		       same_text(t[CRED_T_EXTERNAL_ID], v, "external_id") &&
		       same_text(t[CRED_T_SESSION_NAME], v,
		                 "role_session_name");
	case CRED_WEB:
		return hga_str_eqc(kind, "WebIdentityToken") &&
		       same_text(t[CRED_T_ROLE_ARN], v, "role_arn") &&
		       same_text(t[CRED_T_TOKEN_FILE], v,
		                 "web_identity_token_file") &&
		       same_text(t[CRED_T_SESSION_NAME], v,
		                 "role_session_name");
	case CRED_SSO:
		return hga_str_eqc(kind, "Sso") &&
		       same_text(t[CRED_T_SSO_ACCOUNT], v, "sso_account_id") &&
		       same_text(t[CRED_T_SSO_ROLE], v, "sso_role_name") &&
		       same_text(t[CRED_T_SSO_SESSION], v, "sso_session") &&
		       same_text(t[CRED_T_SSO_REGION], v, "sso_region") &&
		       same_text(t[CRED_T_SSO_URL], v, "sso_start_url");
	case CRED_PROCESS:
		return hga_str_eqc(kind, "CredentialProcess") &&
		       (hga_str_eqc(hga_val_str(v), t[CRED_T_COMMAND]) ||
		        same_text(t[CRED_T_COMMAND], v, "command"));
	case CRED_CONTAINER:
	case CRED_IMDS:
		return hga_str_eqc(kind, "NamedSource");
	case CRED_LOGIN:
		return false;
	}
	return false;
}

static bool chain_case(struct hga_val c)
{
	static char text[32768];
	struct hga_val in = hga_val_get(c, "input");
	struct hga_val want =
	    hga_val_get(hga_val_get(c, "output"), "ProfileChain");
	struct cred_plan plan = {0};
	struct hga_aws_config cfg;
	struct hga_err err = {0};
	struct fake_env f;
	bool same;
	int rc;

	text[0] = '\0';
	add_sections(text, sizeof(text), "profile",
	             hga_val_get(in, "profiles"));
	add_sections(text, sizeof(text), "sso-session",
	             hga_val_get(in, "sso_sessions"));
	fake_init(&f);
	fake_var(&f, "AWS_EC2_METADATA_DISABLED", "false");
	fake_var(&f, "AWS_ACCESS_KEY_ID", "ENVKEY");
	fake_var(&f, "AWS_SECRET_ACCESS_KEY", "ENVSECRET");
	fake_var(&f, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x");
	fake_file(&f, "/pw-home/.aws/config", text);
	hga_aws_config_init(&cfg, &f.env);
	rc = cred_plan_profile(&cfg, keep(vec_str(in, "selected_profile")),
	                       &plan, &err);
	if (vec_none(want)) {
		same = rc < 0;
	} else {
		same = rc == 0 && plan.n == hga_val_count(want);
		for (uint32_t i = 0; same && i < plan.n; i++)
			same = same_link(&plan.links[i], hga_val_at(want, i));
	}
	cred_plan_release(&plan);
	hga_aws_config_release(&cfg);
	return same;
}

/* ---- addresses ---- */

static void case_env(struct fake_env *f, struct hga_val c)
{
	fake_init(f);
	fake_var(f, "AWS_EC2_METADATA_DISABLED", "false");
	for (struct hga_vit it = hga_val_first(hga_val_get(c, "env"));
	     hga_val_more(it); it = hga_val_next(it))
		fake_var(f, keep(hga_vit_name(&it)),
		         keep(hga_val_str(hga_vit_val(it))));
	for (struct hga_vit it = hga_val_first(hga_val_get(c, "fs"));
	     hga_val_more(it); it = hga_val_next(it))
		fake_file(f, keep(hga_vit_name(&it)),
		          keep(hga_val_str(hga_vit_val(it))));
}

static bool same_url(struct hga_val result, int rc, const struct cred_plan *p,
                     const char *path)
{
	struct hga_str want = vec_str(result, "Ok");
	char have[2100];

	if (want.n == 0)
		return rc < 0;
	if (rc != 1)
		return false;
	snprintf(have, sizeof(have), "%s%s", p->links[0].t[CRED_T_URL], path);
	return hga_str_eqc(want, have);
}

static bool ecs_case(struct hga_val c)
{
	struct cred_plan plan = {0};
	struct hga_aws_config cfg;
	struct hga_err err = {0};
	struct fake_env f;
	bool same;
	int rc;

	case_env(&f, c);
	hga_aws_config_init(&cfg, &f.env);
	rc = cred_plan_container(&cfg, &plan, &err);
	same = same_url(hga_val_get(c, "result"), rc, &plan, "");
	cred_plan_release(&plan);
	hga_aws_config_release(&cfg);
	return same;
}

static bool imds_case(struct hga_val c)
{
	struct cred_plan plan = {0};
	struct hga_aws_config cfg;
	struct hga_err err = {0};
	struct fake_env f;
	bool same;
	int rc;

	case_env(&f, c);
	hga_aws_config_init(&cfg, &f.env);
	rc = hga_aws_config_arg(&cfg, HGA_SET_IMDS_MODE,
	                        vec_str(c, "mode_override"), &err);
	if (rc == 0)
		rc = hga_aws_config_arg(&cfg, HGA_SET_IMDS_ENDPOINT,
		                        vec_str(c, "endpoint_override"), &err);
	if (rc == 0)
		rc = cred_plan_imds(&cfg, &plan, &err);
	same =
	    same_url(hga_val_get(c, "result"), rc, &plan, "/latest/api/token");
	cred_plan_release(&plan);
	hga_aws_config_release(&cfg);
	return same;
}

static void each(const char *file, const char *name, const char *list,
                 bool (*fn)(struct hga_val))
{
	struct vec_count count = {.name = name};
	struct hga_vtape *t = vec_json(vec_path(file));
	struct hga_val all;
	struct hga_vit it;

	if (t == NULL) {
		skip(NO_CASES);
		return;
	}
	all = hga_vtape_root(t);
	if (list != NULL)
		all = hga_val_get(all, list);
	for (it = hga_val_first(all); hga_val_more(it); it = hga_val_next(it))
		vec_case(&count, fn(hga_vit_val(it)),
		         vec_cstr(hga_vit_val(it), "caseId"), "differs");
	ok(count.total == hga_val_count(all), "%s: every case was run", name);
	vec_end(&count);
	hga_vtape_free(t);
}

int main(void)
{
	models = vec_models();
	if (models == NULL) {
		skip("no model image");
		return done();
	}
	each("assume-role-chain.json", "assume-role-chain", NULL, chain_case);
	each("ecs-uri.json", "ecs-uri", "tests", ecs_case);
	each("imds-endpoint.json", "imds-endpoint", "tests", imds_case);
	directory("cred-chain", CHAIN);
	directory("cred-profile", PROFILE);
	directory("token-chain", TOKEN);
	hga_aws_image_free(models);
	hga_log_release();
	return done();
}
