/*
 * Inside the box program: what its files share.
 *
 * libc only, no allocation at run time but for file contents, single thread.
 * keeper.c is the process in the host's namespaces; root.c, files.c and
 * agent.c run in its child, pid 1 of the instance.  A function that fails
 * fills a struct fault (the step that local-cloud errors name) and returns
 * -1; text must not carry secrets.
 */
#ifndef HGA_BOX_GUEST_H
#define HGA_BOX_GUEST_H

#include "box/proto.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fault {
	const char *step; /* "overlay", "file", ...; static text */
	int sys;          /* errno or 0 */
	char text[256];
};

/* Fills *f and returns -1; the errno text is added by the receiver. */
int fault_set(struct fault *f, const char *step, int sys, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* One line on stderr (the instance's box.log). */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* NUL-terminated copy; false when it does not fit or holds a NUL. */
bool text_copy(char *dst, size_t size, struct hga_box_text t);

/* ---- spec.c: the specification ---- */

enum {
	SPEC_FILES = 256,
	SPEC_USERS = 16,
	SPEC_PORTS = 32
};

struct spec_file {
	uint32_t mode;
	struct hga_box_text owner, path, data;
};

struct spec_user {
	struct hga_box_text name, shell, groups;
};

struct disk {                /* a volume: a file behind a loop device */
	char path[PATH_MAX]; /* empty: no device stands behind the names */
	char names[256];     /* comma list of names below /dev */
	unsigned major, minor;
	int fd; /* of the loop device, which lives as long; -1: none */
};

/* Path and names; false when malformed. */
bool disk_parse(struct hga_box_rd *r, struct disk *out);

struct rules {
	struct hga_box_rule list[HGA_BOX_RULES];
	size_t n;
};

struct spec { /* texts of files and users borrow the parsed bytes */
	char hostname[65];
	char images_dir[PATH_MAX];
	char layer[HGA_BOX_LAYERS][256];
	size_t n_layers;
	char upper[512], work[512];
	uint32_t address, private_ip; /* host order; 0: none */
	bool redirect;                /* net.h; else lo only */
	uint32_t dns;                 /* host order; 0: no resolver */
	uint16_t dns_port;
	uint16_t host_port[SPEC_PORTS]; /* of the host's loopback */
	size_t n_host_ports;
	struct spec_file files[SPEC_FILES];
	size_t n_files;
	struct spec_user users[SPEC_USERS];
	size_t n_users;
	struct disk disks[HGA_BOX_DISKS];
	size_t n_disks;
	struct rules rules;
};

/* Step "spec" on anything unknown, malformed, missing or not supported. */
int spec_parse(const uint8_t *p, size_t n, struct spec *out, struct fault *f);

/* Payload of PORTS; false when malformed (*out unchanged). */
bool rules_parse(struct hga_box_rd *r, struct rules *out);
/* May this source (host order) reach this TCP port? */
bool rules_admit(const struct rules *r, uint16_t port, uint32_t source);
/* Does any rule name this TCP port? */
bool rules_cover(const struct rules *r, uint16_t port);

/* Payload of EXEC, taken apart: pointers into `copy`, NULL at the end. */
enum {
	EXEC_WORDS = 2048
};
struct exec_args {
	char copy[HGA_BOX_PAYLOAD + EXEC_WORDS];
	const char *user, *cwd;
	char *argv[EXEC_WORDS + 1], *env[EXEC_WORDS + 1];
	size_t argc, envc;
};
/* False when malformed: NUL bytes, too many words, rest, empty argv. */
bool exec_parse(struct hga_box_rd *r, struct exec_args *out);

/* "P 60", "R 0", "C": what the shutdown script writes. */
struct initctl {
	enum hga_box_power what; /* 0: cancel */
	unsigned long seconds;
};
bool initctl_parse(const char *line, size_t n, struct initctl *out);

/* ---- passwd.c: account files as text ---- */

struct grow { /* text under construction; bad: memory or limit */
	char *p;
	size_t n, cap;
	bool bad;
};
void grow_add(struct grow *g, const char *s, size_t n);
void grow_addf(struct grow *g, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void grow_free(struct grow *g);

struct account {
	uid_t uid;
	gid_t gid;
	char home[256], shell[256];
};

/* Lower-case letter or _, then letters, digits, _ and -; at most 32. */
bool account_name_ok(const char *name);
/* The account of that name in the text of /etc/passwd. */
bool passwd_find(struct hga_box_text passwd, const char *name,
                 struct account *out);
/* Number of a group by name in the text of /etc/group. */
bool group_find(struct hga_box_text group, const char *name, gid_t *out);
/* Groups that list the user as a member, and first; returns how many. */
size_t group_list(struct hga_box_text group, const char *user, gid_t first,
                  gid_t *out, size_t max);
/* Lowest number from 1000 on that neither file uses; 0: none left. */
unsigned long account_free_id(struct hga_box_text passwd,
                              struct hga_box_text group);
/* Copy of group or gshadow with `user` added to the members of `name`;
 * unchanged when it is there already or no such group exists. */
void group_join(struct hga_box_text group, const char *name, const char *user,
                struct grow *out);

/* ---- files.c: the instance's files, every component without links ---- */

/* Directory of an absolute path, opened component by component from the
 * root; missing ones are made (0755, owner of their parent) when asked.
 * leaf receives the last component. */
int files_parent(const char *path, bool make, char leaf[256], struct fault *f);
/* Contents of a file, at most 4 MiB; absent: n = 0 and p = NULL. */
int files_read(const char *path, struct grow *out, struct fault *f);
int files_write(const struct spec_file *file, struct fault *f);
/* Missing users; existing ones stay as they are. */
int files_users(const struct spec *s, struct fault *f);

/* ---- root.c: namespaces are there, make the instance's view ---- */

int root_enter(const struct spec *s, struct fault *f);
/* No mount of this namespace is seen elsewhere from now on.  In a chroot the
 * working directory and the root change to those of the namespace; below is
 * any directory that is not the root. */
int root_private(const char *below);
/* After the root was entered: shims of shutdown, control FIFO (its fd). */
int root_shims(struct fault *f);

/* ---- disk.c: volumes ---- */

/* Loop device (AUTOCLEAR) for the file of a disk; the holder of fd keeps it
 * alive.  In the host's namespaces. */
int disk_open(struct disk *d, struct fault *f);
/* Block nodes of a disk in /dev; in the instance. */
int disk_nodes(const struct disk *d, struct fault *f);
/* Removes them; EBUSY while the device is mounted in the instance. */
int disk_forget(const struct disk *d, struct fault *f);

/* ---- agent.c and keeper.c ---- */

/* Loop of pid 1; returns the exit status. */
int agent_run(int sock, int initctl);
/* Mode run; returns the exit status of the program. */
int keeper_run(void);
/* Mode contain: CMD in a process and mount namespace of its own that ends
 * with us, and we with our parent; its exit code. */
int contain_run(char **argv);
/* Mode probe: one line per check, "NAME ok" or "NAME failed TEXT". */
int probe_run(const char *dir);

/* Raw clone of the caller with all namespaces of an instance; 0 in the
 * child; *pidfd in the parent. */
pid_t guest_clone(int *pidfd);
/* As fork, with these namespaces (CLONE_NEW*). */
pid_t raw_clone(unsigned long flags, int *pidfd);
/* lo up with 127.0.0.1 and, if not 0, the private address. */
int guest_net_none(uint32_t private_ip, struct fault *f);

#endif
