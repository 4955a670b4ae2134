/*
 * credential_process: a program of the user's, started without a shell, that
 * prints a document.
 */
#include "aws/cred_int.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/quote.h"
#include "base/redact.h"

#include <stdio.h>
#include <string.h>

enum {
	RUN_MS = 60000,
	WORDS_MAX = 4096, /* bytes of the command line */
	ERROR_SHOWN = 1024
};

int cred_process_parse(struct hga_str out, const char *account,
                       struct hga_creds **c, struct hga_err *err)
{
	struct hga_vtape *t = NULL;
	struct hga_val v;
	int rc = cred_parse(out, &t, err);

	if (rc < 0) {
		hga_err_prefix(err, "its output is no document");
		return rc;
	}
	v = hga_vtape_root(t);
	if (hga_val_int(hga_val_get(v, "Version"), 0) != 1)
		rc = hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
		              "its output is not of Version 1");
	if (rc == 0)
		rc = cred_from_doc(v, &cred_names_sts, "process", c, err);
	hga_vtape_free_secret(t);
	if (rc == 0 && (*c)->account_id[0] == '\0' && account != NULL)
		(void)snprintf((*c)->account_id, sizeof((*c)->account_id), "%s",
		               account);
	return rc;
}

/* What the program said on stderr, on one line and without secrets. */
static void show_failure(struct cred_run *r)
{
	struct hga_str said = hga_str_trim(hga_buf_str(&r->proc.errq));
	struct hga_buf clean;

	if (said.n > ERROR_SHOWN)
		said.n = ERROR_SHOWN;
	hga_buf_init(&clean, 8 * ERROR_SHOWN);
	if (hga_redact_text(hga_log_redact(), said, &clean, NULL) < 0)
		hga_buf_clear(&clean);
	for (size_t i = 0; i < clean.len; i++) {
		if ((unsigned char)clean.data[i] < ' ')
			clean.data[i] = ' ';
	}
	if (r->proc.signal != 0)
		cred_broken(r, "the program was ended by signal %d%s%.300s",
		            r->proc.signal, clean.len > 0 ? ": " : "",
		            hga_buf_text(&clean));
	else
		cred_broken(r, "the program ended with code %d%s%.300s",
		            r->proc.code, clean.len > 0 ? ": " : "",
		            hga_buf_text(&clean));
	hga_buf_release(&clean);
}

static void on_end(struct hga_op *op)
{
	struct cred_run *r = op->task;
	const struct cred_link *l = cred_link_of(r);
	struct hga_creds *c = NULL;
	struct hga_err err = op->err;
	int rc;

	if (err.kind != HGA_OK) {
		cred_fail(r, &err);
		return;
	}
	if (r->proc.signal != 0 || r->proc.code != 0) {
		show_failure(r);
		return;
	}
	rc = cred_process_parse(hga_buf_str(&r->proc.out), l->t[CRED_T_ACCOUNT],
	                        &c, &err);
	hga_buf_release_secret(&r->proc.out);
	if (rc < 0) {
		cred_fail(r, &err);
		return;
	}
	(void)snprintf(c->where, sizeof(c->where), "profile %s",
	               l->t[CRED_T_PROFILE]);
	cred_yield(r, c);
}

static void on_output(struct hga_op *op)
{
	struct cred_run *r = op->task;

	/* Of stderr only the beginning counts. */
	if (r->proc.errq.len > ERROR_SHOWN) {
		hga_buf_truncate(&r->proc.errq, ERROR_SHOWN);
		hga_proc_resume(&r->proc);
	}
	if (r->proc.out.len <= CRED_DOC_MAX)
		return;
	hga_op_cancel(&r->proc.base);
	hga_buf_release_secret(&r->proc.out);
	cred_broken(r, "the program printed more than %d bytes", CRED_DOC_MAX);
}

static int start(struct cred_run *r, char *words, size_t n, struct hga_err *err)
{
	const struct hga_aws_env *env = &r->aws->env;
	struct hga_proc_args a = {0};
	const char **argv = hga_calloc(n + 1, sizeof(*argv));
	int rc;

	if (argv == NULL)
		return hga_fail_mem(err);
	for (size_t i = 0; i < n; i++) {
		argv[i] = words;
		words += strlen(words) + 1;
	}
	a.argv = argv;
	a.in = HGA_IO_NULL;
	a.out = HGA_IO_PIPE;
	a.err = HGA_IO_PIPE;
	a.timeout_ms = RUN_MS;
	hga_proc_release(&r->proc);
	memset(&r->proc, 0, sizeof(r->proc));
	r->proc.base.done = on_end;
	r->proc.base.progress = on_output;
	r->proc.base.task = r;
	rc = env->spawn(env->data, r->aws->loop, &r->proc, &a, err);
	hga_free(argv);
	return rc;
}

void cred_process_start(struct cred_run *r)
{
	struct hga_str line = hga_str(cred_link_of(r)->t[CRED_T_COMMAND]);
	struct hga_err err = {0};
	struct hga_buf words;
	size_t n = 0;
	int rc;

	hga_buf_init(&words, WORDS_MAX);
	rc = hga_split_sh(&words, line, &n, &err);
	if (rc == 0 && n == 0)
		rc = hga_fail(&err, HGA_USAGE, 0, NULL, "it has no words");
	if (rc == 0)
		rc = start(r, words.data, n, &err);
	hga_buf_release_secret(&words);
	if (rc < 0)
		cred_fail(r, &err);
}
