/*
 * Between box.c (life of an instance), launch.c (its start) and exec.c
 * (commands inside): not for other users.
 */
#ifndef HGA_BOX_INNER_H
#define HGA_BOX_INNER_H

#include "box/box.h"

/* The loop of a box, and its list of commands (owned by exec.c). */
struct hga_loop *hga_box_loop(struct hga_box *box);
struct hga_box_exec_impl **hga_box_execs(struct hga_box *box);

/* Fresh number for a request. */
uint32_t hga_box_next_id(struct hga_box *box);

/* Sends or queues; takes the descriptors in every case. */
int hga_box_post(struct hga_box *box, enum hga_box_msg type, uint32_t id,
                 const struct hga_buf *body, int *fds, size_t n_fds,
                 struct hga_err *err) HGA_MUST_USE;

/* -HGA_IO "Gone" or "boot" unless the instance is up. */
int hga_box_must_be_up(const struct hga_box *box, struct hga_err *err);

/* EXIT for command id; unknown ids are ignored. */
void hga_box_exec_exit(struct hga_box *box, uint32_t id, int status);
/* ERR for command id; false when it is none of exec.c's. */
bool hga_box_exec_refused(struct hga_box *box, uint32_t id, int sys,
                          struct hga_box_text text);
/* The instance has ended: all commands end as failed. */
void hga_box_exec_gone(struct hga_box *box);
/* The box is freed: all commands are cancelled. */
void hga_box_exec_cancel_all(struct hga_box *box);

struct hga_box_launched {
	pid_t keeper;
	int ctl;  /* non-blocking, ours */
	int life; /* our end of the lifeline */
};

/* Starts the keeper; -HGA_IO with code "spawn" when the system refuses. */
int hga_box_launch(const struct hga_box_args *a, struct hga_box_launched *out,
                   struct hga_err *err) HGA_MUST_USE;

/* Appends little-endian numbers and strings as proto.h defines them. */
int hga_box_put_u16(struct hga_buf *b, unsigned v, struct hga_err *err);
int hga_box_put_u32(struct hga_buf *b, uint32_t v, struct hga_err *err);
int hga_box_put_text(struct hga_buf *b, const char *s, struct hga_err *err);
int hga_box_put_rule(struct hga_buf *b, const struct hga_box_rule *rule,
                     struct hga_err *err);

#endif
