/*
 * Retry decisions computed by botocore: oracle/retry-*.json.  Its "standard"
 * of the first file is our standard-v1.
 */
#include "vec.h"

#include "aws/rate.h"
#include "aws/retry.h"

static enum hga_retry_mode mode_of(struct hga_str name)
{
	if (hga_str_eqc(name, "legacy"))
		return HGA_RETRY_LEGACY;
	return hga_str_eqc(name, "standard") ? HGA_RETRY_V1
	                                     : HGA_RETRY_STANDARD;
}

/* False for a trigger this driver does not know. */
static bool read_trigger(struct hga_val t, struct hga_retry_fact *f)
{
	struct hga_str kind = hga_val_str(hga_val_at(t, 0));
	struct hga_val one = hga_val_at(t, 1), two = hga_val_at(t, 2);
	struct hga_str none = {NULL, 0};

	if (hga_str_eqc(kind, "http")) {
		f->status = (int)hga_val_int(one, 0);
		return true;
	}
	f->status = (int)hga_val_int(two, 0);
	if (hga_str_eqc(kind, "code")) {
		f->code = hga_val_str(one);
		return true;
	}
	if (hga_str_eqc(kind, "retry-after")) {
		f->after_ms = hga_retry_after(hga_val_str(one), none);
		return true;
	}
	/* ValueError stands for an error of the program: not for us. */
	f->network = !hga_str_eqc(hga_val_str(one), "ValueError");
	return hga_str_eqc(kind, "exc");
}

static bool check(struct hga_val c)
{
	struct hga_retry_fact f = {0};
	struct hga_retry_verdict v;
	struct hga_val want = hga_val_get(c, "expect");
	struct hga_val delay = hga_val_get(want, "delay_at_rand_1");
	char service[64];

	snprintf(service, sizeof(service), "%s", vec_cstr(c, "service"));
	f.mode = mode_of(vec_str(c, "mode"));
	f.service = service;
	f.attempt = (unsigned)hga_val_int(hga_val_get(c, "attempt"), 0);
	f.after_ms = -1;
	f.code = hga_str("");
	if (!read_trigger(hga_val_get(c, "trigger"), &f))
		return false;
	v = hga_retry_policy(&f, 1.0);
	if (v.retry != hga_val_bool(hga_val_get(want, "retry"), false))
		return false;
	return !v.retry || vec_none(delay) ||
	       fabs(v.delay - hga_val_num(delay, -1)) < 1e-9;
}

static void decisions(const char *file, const char *name)
{
	struct vec_count count = {.name = name};
	struct hga_vtape *t = vec_json(vec_path(file));
	struct hga_vit it;

	if (t == NULL) {
		skip("no third-party cases (HGAUTO_VECTORS)");
		return;
	}
	it = hga_val_first(hga_val_get(hga_vtape_root(t), "cases"));
	for (; hga_val_more(it); it = hga_val_next(it)) {
		struct hga_val c = hga_vit_val(it);

		vec_case(&count, check(c), vec_cstr(c, "caseId"),
		         vec_show(hga_val_get(c, "expect")));
	}
	vec_end(&count);
	hga_vtape_free(t);
}

static bool replay_quota(struct hga_val c)
{
	struct hga_retry_quota q;
	struct hga_vit it = hga_val_first(hga_val_get(c, "steps"));

	hga_retry_quota_init(&q);
	q.left = (int)hga_val_int(hga_val_get(c, "initial"), 500);
	q.max = q.left;
	for (; hga_val_more(it); it = hga_val_next(it)) {
		struct hga_val s = hga_vit_val(it);
		int n = (int)hga_val_int(hga_val_at(s, 1), 0);
		bool taken = true;

		if (hga_str_eqc(hga_val_str(hga_val_at(s, 0)), "acquire"))
			taken = hga_retry_quota_take(&q, n);
		else
			hga_retry_quota_give(&q, n);
		if (taken != hga_val_bool(hga_val_at(s, 2), true) ||
		    q.left != hga_val_int(hga_val_at(s, 3), -1))
			return false;
	}
	return true;
}

/* A throttle is told the last rate, without its sign. */
static bool replay_cubic(struct hga_val c)
{
	struct hga_rate_cubic cubic;
	struct hga_vit it = hga_val_first(hga_val_get(c, "steps"));
	double rate = 0;

	hga_rate_cubic_init(&cubic,
	                    hga_val_num(hga_val_get(c, "starting_max_rate"), 0),
	                    hga_val_num(hga_val_get(c, "start"), 0));
	for (; hga_val_more(it); it = hga_val_next(it)) {
		struct hga_val s = hga_vit_val(it);
		double now = hga_val_num(hga_val_at(s, 0), -1);
		double want = hga_val_num(hga_val_at(s, 2), NAN);

		if (hga_str_eqc(hga_val_str(hga_val_at(s, 1)), "ok"))
			rate = hga_rate_cubic_ok(&cubic, now);
		else
			rate = hga_rate_cubic_throttle(&cubic, fabs(rate), now);
		if (!(fabs(rate - want) <= 1e-9 * (1 + fabs(want))))
			return false;
	}
	return true;
}

static bool replay_rate(struct hga_val c)
{
	struct hga_rate_meter meter;
	struct hga_vit it = hga_val_first(hga_val_get(c, "steps"));

	hga_rate_meter_init(&meter, hga_val_num(hga_val_get(c, "start"), 0));
	for (; hga_val_more(it); it = hga_val_next(it)) {
		struct hga_val s = hga_vit_val(it);
		double now = hga_val_num(hga_val_at(s, 0), -1);
		double want = hga_val_num(hga_val_at(s, 1), NAN);

		if (!(fabs(hga_rate_meter_count(&meter, now) - want) <=
		      1e-9 * (1 + fabs(want))))
			return false;
	}
	return true;
}

static void replay(const char *file, const char *name,
                   bool (*one)(struct hga_val))
{
	struct vec_count count = {.name = name};
	struct hga_vtape *t = vec_json(vec_path(file));
	struct hga_vit it;

	if (t == NULL) {
		skip("no third-party cases (HGAUTO_VECTORS)");
		return;
	}
	it = hga_val_first(hga_val_get(hga_vtape_root(t), "cases"));
	for (; hga_val_more(it); it = hga_val_next(it))
		vec_case(&count, one(hga_vit_val(it)),
		         vec_cstr(hga_vit_val(it), "caseId"), "differs");
	vec_end(&count);
	hga_vtape_free(t);
}

int main(void)
{
	decisions("oracle/retry-cur.json", "retry-cur");
	decisions("oracle/retry-2026.json", "retry-2026");
	replay("oracle/retry-quota.json", "retry-quota", replay_quota);
	replay("oracle/retry-cubic.json", "retry-cubic", replay_cubic);
	replay("oracle/retry-rate.json", "retry-rate", replay_rate);
	return done();
}
