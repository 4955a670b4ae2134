/*
 * Base of every operation that takes time.
 *
 * The operation's struct belongs to the caller (bindings: a userdata); core
 * links it while it runs and never frees it.  A start function returns 0
 * (running; done will be called exactly once, from the loop, unless the
 * operation is cancelled) or -kind with *err filled (never started, done is
 * not called).  done and progress are never called from inside a start
 * function.  cancel is synchronous: afterwards no callback comes and the
 * struct may be freed; it is harmless on an idle or finished operation.  From
 * inside progress only the operations of hga_proc may be cancelled.
 */
#ifndef HGA_NET_OP_H
#define HGA_NET_OP_H

#include "base/err.h"

enum hga_op_state {
	HGA_OP_IDLE = 0,
	HGA_OP_RUNNING,
	HGA_OP_FINISHED
};

struct hga_op {
	void (*done)(struct hga_op *);     /* exactly once, from the loop */
	void (*progress)(struct hga_op *); /* output is queued; may be NULL */
	void (*cancel)(struct hga_op *);   /* set by the start function */
	void *task;                        /* the scheduler's */
	struct hga_err err;                /* kind 0: success */
	unsigned char state;               /* enum hga_op_state */
};

/* For start functions: mark as running. */
static inline void hga_op_begin(struct hga_op *op,
                                void (*cancel)(struct hga_op *))
{
	op->err.kind = HGA_OK;
	op->err.sys = 0;
	op->err.code[0] = '\0';
	op->err.msg[0] = '\0';
	op->cancel = cancel;
	op->state = HGA_OP_RUNNING;
}

/* For implementations, from the loop: finished (op->err says how). */
static inline void hga_op_finish(struct hga_op *op)
{
	op->state = HGA_OP_FINISHED;
	if (op->done != NULL)
		op->done(op);
}

/* For cancel functions: no callback comes any more. */
static inline void hga_op_drop(struct hga_op *op)
{
	op->state = HGA_OP_FINISHED;
}

/* Cancels if running. */
static inline void hga_op_cancel(struct hga_op *op)
{
	if (op->state == HGA_OP_RUNNING && op->cancel != NULL)
		op->cancel(op);
	op->state = HGA_OP_FINISHED;
}

#endif
