/*
 * One question on the controlling terminal (/dev/tty), for secrets such as
 * MFA codes: what is typed is not shown.
 *
 * The terminal's settings are put back when the answer came, the question
 * was cancelled or its time passed (5 minutes).  At most 63 bytes.
 */
#ifndef HGA_AWS_ASK_H
#define HGA_AWS_ASK_H

#include "net/loop.h"
#include "net/op.h"

#include <termios.h>

struct hga_ask {
	struct hga_op base;
	char answer[64]; /* wiped by release */
	/* ---- the module's ---- */
	struct hga_loop *loop;
	struct hga_watch watch;
	struct hga_timer timer;
	struct termios saved;
	size_t n;
	int fd;
};

/* op is zeroed.  Without terminal -HGA_AUTH "NoTerminal".  done: err kind
 * timeout "Total", or auth "NoAnswer" for an empty line or end of input. */
int hga_ask_start(struct hga_loop *loop, struct hga_ask *op, const char *prompt,
                  struct hga_err *err) HGA_MUST_USE;
/* Cancels a running one and wipes the answer; safe on a zeroed struct. */
void hga_ask_release(struct hga_ask *op);

#endif
