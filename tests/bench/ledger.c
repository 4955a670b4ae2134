/*
 * What a durable record costs: an intent and its event, with the lock and with
 * checkpoints, against one append of 300 bytes and fdatasync to a file beside
 * it, one after the other, RECORDS times.  Then the processor time of opening
 * a ledger of 1,000 entries with all its checks.
 *
 * ledger DIR RECORDS OPENS prints "record P50 MEAN", "append P50 MEAN" (ms)
 * and "open MS" (the least of OPENS).
 */
#include "base/crypto.h"
#include "state/ledger.h"
#include "state/record.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ENTRIES 1000
#define APPEND 300

static struct hga_err err;
static struct hga_state *st;
static struct hga_ledger *led;
static int64_t place;

static void need(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "bench-ledger: %s: %s\n", what, err.msg);
	exit(1);
}

static double seconds(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static const char *new_op(void)
{
	static char op[HGA_OP_ID];

	need(hga_token(op, &err), "token");
	return op;
}

static void intend(const char *op)
{
	struct hga_ledger_intent in;

	memset(&in, 0, sizeof(in));
	in.op = hga_str(op);
	in.run = HGA_STR("20261130-0845-abcd");
	in.kind = HGA_STR("instance");
	in.place = place;
	in.token = hga_str(op);
	in.req = HGA_STR("0123456789abcdef0123456789abcdef"
	                 "0123456789abcdef0123456789abcdef");
	in.expires = 1795356210.5;
	in.detail = HGA_STR("{\"type\":\"t3.medium\"}");
	need(hga_ledger_intent(led, &in, &err), "intent");
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

static void show(const char *name, double *t, int n)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
		sum += t[i];
	qsort(t, (size_t)n, sizeof(*t), by_value);
	printf("%s %.4f %.4f\n", name, t[n / 2] * 1e3, sum / n * 1e3);
}

static void open_ledger(const char *dir)
{
	struct hga_ledger_place p = {HGA_STR("aws"), HGA_STR("123456789012"),
	                             HGA_STR("us-west-2"), HGA_STR("")};

	need(hga_state_open(dir, true, &st, &err), dir);
	need(hga_ledger_open(st, &led, &err), "open");
	need(hga_ledger_place(led, &p, &place, &err), "place");
}

static void records(const char *dir, int n)
{
	char path[4096];
	char line[APPEND];
	double *ours = calloc((size_t)n, sizeof(*ours));
	double *theirs = calloc((size_t)n, sizeof(*theirs));
	int fd;

	memset(line, 'x', sizeof(line));
	(void)snprintf(path, sizeof(path), "%s/append", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0 || ours == NULL || theirs == NULL)
		exit(1);
	for (int i = 0; i < n; i++) {
		const char *op = new_op();
		double t = seconds(CLOCK_MONOTONIC);

		if (write(fd, line, sizeof(line)) != APPEND ||
		    fdatasync(fd) != 0)
			exit(1);
		theirs[i] = seconds(CLOCK_MONOTONIC) - t;
		t = seconds(CLOCK_MONOTONIC);
		intend(op);
		ours[i] = seconds(CLOCK_MONOTONIC) - t;
	}
	(void)close(fd);
	show("record", ours, n);
	show("append", theirs, n);
	free(ours);
	free(theirs);
}

static void openings(int rounds)
{
	double best = 1e9;

	for (int i = 0; i < rounds; i++) {
		double t;

		hga_ledger_close(led);
		t = seconds(CLOCK_PROCESS_CPUTIME_ID);
		need(hga_ledger_open(st, &led, &err), "open");
		t = seconds(CLOCK_PROCESS_CPUTIME_ID) - t;
		best = t < best ? t : best;
	}
	printf("open %.3f\n", best * 1e3);
}

int main(int argc, char **argv)
{
	int n = argc > 2 ? atoi(argv[2]) : 0;

	if (argc != 4 || n < 1 || n > ENTRIES) {
		fprintf(stderr, "usage: ledger DIR RECORDS OPENS\n");
		return 2;
	}
	open_ledger(argv[1]);
	records(argv[1], n);
	for (int i = n; i < ENTRIES; i++)
		intend(new_op());
	openings(atoi(argv[3]));
	hga_ledger_close(led);
	hga_state_free(st);
	return 0;
}
