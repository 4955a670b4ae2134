/*
 * Waiters as botocore runs them: oracle/waiters.json, core only.  Polling and
 * counting, which belong to the Lua half, are a loop here.
 */
#include "vec.h"

#include "aws/wait.h"

struct outcome {
	bool success;
	char message[2048];
	long long calls;
};

static struct hga_waiter_poll poll_of(struct hga_val response)
{
	struct hga_val error = hga_val_get(response, "Error");
	struct hga_val meta = hga_val_get(response, "ResponseMetadata");
	struct hga_waiter_poll p = {response, 0, NULL, NULL};

	p.status = (int)hga_val_int(hga_val_get(meta, "HTTPStatusCode"), 0);
	if (vec_none(error))
		return p;
	p.response.t = NULL;
	p.code = vec_cstr(error, "Code");
	p.message = vec_cstr(error, "Message");
	return p;
}

static void say(struct outcome *o, const char *name, const char *text,
                const char *more)
{
	snprintf(o->message, sizeof(o->message), "Waiter %s failed: %s%s", name,
	         text, more);
}

/* False when the waiter itself fails. */
static bool run(const struct hga_waiter *w, struct hga_val responses,
                long long max, struct outcome *o)
{
	uint32_t n = hga_val_count(responses);
	const char *name = hga_waiter_name(w);
	enum hga_waiter_verdict v;
	struct hga_buf why;
	char prior[1500] = "";

	hga_buf_init(&why, 8192);
	for (o->calls = 0;;) {
		uint32_t i =
		    (uint32_t)o->calls < n ? (uint32_t)o->calls : n - 1;
		struct hga_waiter_poll p = poll_of(hga_val_at(responses, i));

		o->calls++;
		if (hga_waiter_step(w, &p, &v, &why, NULL) < 0)
			return false;
		if (why.len > 0) /* the last that matched counts */
			snprintf(prior, sizeof(prior),
			         ". Previously accepted state: %s",
			         hga_buf_text(&why));
		if (v == HGA_WAITER_RETRY && o->calls < max)
			continue;
		break;
	}
	o->success = v == HGA_WAITER_SUCCESS;
	if (v == HGA_WAITER_RETRY)
		say(o, name, "Max attempts exceeded", prior);
	if (v == HGA_WAITER_FAILURE)
		say(o, name, "Waiter encountered a terminal failure state: ",
		    hga_buf_text(&why));
	if (v == HGA_WAITER_ERROR)
		say(o, name, "", hga_buf_text(&why));
	hga_buf_release(&why);
	return true;
}

static bool sleeps_fit(const struct hga_waiter *w, struct hga_val c,
                       long long calls)
{
	struct hga_val sleeps = hga_val_get(hga_val_get(c, "expect"), "sleeps");
	struct hga_val delay = hga_val_get(hga_val_get(c, "config"), "Delay");
	double want = hga_val_num(delay, hga_waiter_delay_s(w));

	if (hga_val_count(sleeps) != calls - 1)
		return false;
	return calls < 2 ||
	       fabs(hga_val_num(hga_val_at(sleeps, 0), -1) - want) < 1e-9;
}

static const char *check(const struct hga_aws_svc *svc, struct hga_val c)
{
	static char why[4096];
	const struct hga_img_waiter *m =
	    hga_aws_waiter_find(svc, vec_str(c, "waiter"));
	struct hga_val want = hga_val_get(c, "expect");
	struct hga_waiter *w;
	struct outcome o = {false, "", 0};
	const char *bad = NULL;

	if (m == NULL || hga_waiter_new(&w, svc, m, NULL) < 0)
		return "no such waiter";
	if (!run(w, hga_val_get(c, "responses"),
	         hga_val_int(
	             hga_val_get(hga_val_get(c, "config"), "MaxAttempts"),
	             hga_waiter_attempts(w)),
	         &o))
		bad = "fails";
	else if (o.calls != hga_val_int(hga_val_get(want, "calls"), -1))
		bad = "number of calls";
	else if (o.success != hga_str_eqc(vec_str(want, "outcome"), "success"))
		bad = "outcome";
	else if (!o.success &&
	         !hga_str_eqc(vec_str(want, "message"), o.message))
		bad = o.message;
	else if (!sleeps_fit(w, c, o.calls))
		bad = "pauses";
	if (bad != NULL)
		snprintf(why, sizeof(why), "%s", bad);
	hga_waiter_free(w);
	return bad != NULL ? why : NULL;
}

int main(void)
{
	struct vec_count count = {.name = "waiters"};
	struct hga_vtape *t = vec_json(vec_path("oracle/waiters.json"));
	struct hga_aws_image *img = vec_models();
	struct hga_vit it;

	if (t == NULL || img == NULL) {
		skip(t == NULL ? "no third-party cases (HGAUTO_VECTORS)"
		               : "no model image (HGAUTO_MODELS)");
		hga_aws_image_free(img);
		hga_vtape_free(t);
		return done();
	}
	it = hga_val_first(hga_val_get(hga_vtape_root(t), "cases"));
	for (; hga_val_more(it); it = hga_val_next(it)) {
		struct hga_val c = hga_vit_val(it);
		const struct hga_aws_svc *svc =
		    hga_aws_svc_find(img, vec_str(c, "service"));
		const char *bad;

		if (svc == NULL) {
			count.skipped++;
			continue;
		}
		bad = check(svc, c);
		vec_case(&count, bad == NULL, vec_cstr(c, "caseId"),
		         bad != NULL ? bad : "");
	}
	vec_end(&count);
	hga_aws_image_free(img);
	hga_vtape_free(t);
	return done();
}
