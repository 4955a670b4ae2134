/*
 * Takes apart what the daemon sends: specification, rules, commands, and the
 * lines of the shutdown script.  Pure functions over bytes.
 */
#include "box/guest/guest.h"

#include <arpa/inet.h>
#include <stdio.h>

/* ---- rules ---- */

bool rules_parse(struct hga_box_rd *r, struct rules *out)
{
	static struct rules fresh; /* too large for the stack */

	fresh.n = 0;
	while (r->n > 0) {
		if (fresh.n == HGA_BOX_RULES ||
		    !hga_box_rd_rule(r, &fresh.list[fresh.n]))
			return false;
		fresh.n++;
	}
	*out = fresh;
	return true;
}

static bool names_port(const struct hga_box_rule *r, uint16_t port)
{
	if (r->proto == 0)
		return true;
	return r->proto == 6 && port >= r->from && port <= r->to;
}

static bool covers(const struct hga_box_rule *r, uint32_t source)
{
	uint32_t mask = r->prefix ? UINT32_MAX << (32 - r->prefix) : 0;

	return (source & mask) == (r->net & mask);
}

bool rules_admit(const struct rules *r, uint16_t port, uint32_t source)
{
	for (size_t i = 0; i < r->n; i++)
		if (names_port(&r->list[i], port) &&
		    covers(&r->list[i], source))
			return true;
	return false;
}

bool rules_cover(const struct rules *r, uint16_t port)
{
	for (size_t i = 0; i < r->n; i++)
		if (names_port(&r->list[i], port))
			return true;
	return false;
}

/* ---- specification ---- */

/* Host order; false for anything but four decimal numbers. */
static bool address(struct hga_box_text t, uint32_t *out)
{
	char buf[INET_ADDRSTRLEN];
	struct in_addr a;

	if (!text_copy(buf, sizeof(buf), t) || inet_pton(AF_INET, buf, &a) != 1)
		return false;
	*out = ntohl(a.s_addr);
	return true;
}

/* Names in overlay's option string: its separators cannot be escaped on all
 * kernels, so they are refused. */
static bool mount_safe(const char *s)
{
	return s[0] != '\0' && strpbrk(s, ":,\\\n") == NULL;
}

static bool add_layer(struct spec *s, struct hga_box_text t)
{
	char *name;

	if (s->n_layers == HGA_BOX_LAYERS)
		return false;
	name = s->layer[s->n_layers];
	if (!text_copy(name, sizeof(s->layer[0]), t) || !mount_safe(name) ||
	    name[0] == '.' || strchr(name, '/') != NULL)
		return false;
	s->n_layers++;
	return true;
}

static bool add_file(struct spec *s, struct hga_box_rd *r)
{
	struct spec_file *file;

	if (s->n_files == SPEC_FILES)
		return false;
	file = &s->files[s->n_files++];
	file->mode = hga_box_rd_u32(r);
	file->owner = hga_box_rd_text(r);
	file->path = hga_box_rd_text(r);
	file->data.s = (const char *)r->p;
	file->data.n = r->n;
	r->n = 0;
	return !r->bad && file->mode <= 07777;
}

static bool add_user(struct spec *s, struct hga_box_rd *r)
{
	struct spec_user *user;

	if (s->n_users == SPEC_USERS)
		return false;
	user = &s->users[s->n_users++];
	user->name = hga_box_rd_text(r);
	user->shell = hga_box_rd_text(r);
	user->groups = hga_box_rd_text(r);
	return !r->bad && r->n == 0;
}

static bool add_rule(struct spec *s, struct hga_box_rd *r)
{
	if (s->rules.n == HGA_BOX_RULES ||
	    !hga_box_rd_rule(r, &s->rules.list[s->rules.n]) || r->n != 0)
		return false;
	s->rules.n++;
	return true;
}

/* One name below /dev: letters, digits, no way out of it. */
static bool disk_names_ok(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789,");

	return n > 0 && s[n] == '\0';
}

bool disk_parse(struct hga_box_rd *r, struct disk *out)
{
	struct hga_box_text path = hga_box_rd_text(r);
	struct hga_box_text names = hga_box_rd_text(r);

	/* of no driver: opening it is ENXIO (a free loop device, 7:x, would
	 * come to life when opened) */
	out->major = 259;
	out->minor = 1048575;
	out->fd = -1;
	return !r->bad && r->n == 0 &&
	       text_copy(out->path, sizeof(out->path), path) &&
	       (out->path[0] == '\0' || out->path[0] == '/') &&
	       text_copy(out->names, sizeof(out->names), names) &&
	       disk_names_ok(out->names);
}

static bool add_disk(struct spec *s, struct hga_box_rd *r)
{
	if (s->n_disks == HGA_BOX_DISKS ||
	    !disk_parse(r, &s->disks[s->n_disks]))
		return false;
	s->n_disks++;
	return true;
}

static bool hostname_ok(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz"
	                     "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.");

	return n > 0 && s[n] == '\0' && s[0] != '-' && s[0] != '.';
}

static bool set_net(struct spec *s, struct hga_box_text t)
{
	s->redirect = t.n == 8 && memcmp(t.s, "redirect", 8) == 0;
	return s->redirect || (t.n == 4 && memcmp(t.s, "none", 4) == 0);
}

/* 1 to 65535 in decimal digits. */
static bool port_of(const char *s, size_t n, uint16_t *out)
{
	uint32_t v = 0;

	for (size_t i = 0; i < n && v <= 65535; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (uint32_t)(s[i] - '0');
	}
	*out = (uint16_t)v;
	return n > 0 && v > 0 && v <= 65535;
}

/* ADDRESS or ADDRESS:PORT. */
static bool set_dns(struct spec *s, struct hga_box_text t)
{
	const char *colon = t.n > 0 ? memchr(t.s, ':', t.n) : NULL;
	struct hga_box_text ip = {t.s, colon ? (size_t)(colon - t.s) : t.n};

	s->dns_port = 53;
	return address(ip, &s->dns) &&
	       (colon == NULL ||
	        port_of(colon + 1, t.n - ip.n - 1, &s->dns_port));
}

static bool add_host_port(struct spec *s, struct hga_box_text t)
{
	if (s->n_host_ports == SPEC_PORTS ||
	    !port_of(t.s, t.n, &s->host_port[s->n_host_ports]))
		return false;
	s->n_host_ports++;
	return true;
}

enum verdict {
	GOOD,
	BAD,
	UNSUPPORTED,
	UNKNOWN
};

static enum verdict record(struct spec *s, unsigned tag, struct hga_box_rd *r)
{
	struct hga_box_text t = {(const char *)r->p, r->n};

	switch ((enum hga_box_tag)tag) {
	case HGA_BOX_TAG_HOSTNAME:
		return text_copy(s->hostname, sizeof(s->hostname), t) &&
		               hostname_ok(s->hostname)
		           ? GOOD
		           : BAD;
	case HGA_BOX_TAG_IMAGES_DIR:
		return text_copy(s->images_dir, sizeof(s->images_dir), t) &&
		               s->images_dir[0] == '/'
		           ? GOOD
		           : BAD;
	case HGA_BOX_TAG_LAYER:
		return add_layer(s, t) ? GOOD : BAD;
	case HGA_BOX_TAG_UPPER:
		return text_copy(s->upper, sizeof(s->upper), t) &&
		               mount_safe(s->upper)
		           ? GOOD
		           : BAD;
	case HGA_BOX_TAG_WORK:
		return text_copy(s->work, sizeof(s->work), t) &&
		               mount_safe(s->work)
		           ? GOOD
		           : BAD;
	case HGA_BOX_TAG_ADDRESS:
		return address(t, &s->address) && s->address >> 24 == 127 ? GOOD
		                                                          : BAD;
	case HGA_BOX_TAG_PRIVATE_IP:
		return address(t, &s->private_ip) ? GOOD : BAD;
	case HGA_BOX_TAG_NET:
		return set_net(s, t) ? GOOD : UNSUPPORTED;
	case HGA_BOX_TAG_DNS:
		return set_dns(s, t) ? GOOD : BAD;
	case HGA_BOX_TAG_HOST_PORT:
		return add_host_port(s, t) ? GOOD : BAD;
	case HGA_BOX_TAG_FILE:
		return add_file(s, r) ? GOOD : BAD;
	case HGA_BOX_TAG_USER:
		return add_user(s, r) ? GOOD : BAD;
	case HGA_BOX_TAG_RULE:
		return add_rule(s, r) ? GOOD : BAD;
	case HGA_BOX_TAG_DISK:
		return add_disk(s, r) ? GOOD : BAD;
	case HGA_BOX_TAG_CGROUP:
	case HGA_BOX_TAG_LIMITS:
	case HGA_BOX_TAG_IDMAP:
	case HGA_BOX_TAG_CONSOLE:
		return UNSUPPORTED;
	}
	return UNKNOWN;
}

static int refuse(struct fault *f, unsigned tag, enum verdict v)
{
	static const char *const why[] = {
	    [GOOD] = "is good",
	    [BAD] = "is malformed",
	    [UNSUPPORTED] = "asks for what is not supported yet",
	    [UNKNOWN] = "is unknown",
	};

	return fault_set(f, "spec", v == UNSUPPORTED ? ENOTSUP : 0,
	                 "record %u %s", tag, why[v]);
}

int spec_parse(const uint8_t *p, size_t n, struct spec *out, struct fault *f)
{
	struct hga_box_rd r = {p, n, false};

	memset(out, 0, sizeof(*out));
	if (n > HGA_BOX_SPEC)
		return fault_set(f, "spec", 0, "too large");
	while (r.n > 0) {
		unsigned tag = hga_box_rd_u16(&r);
		size_t len = hga_box_rd_u32(&r);
		struct hga_box_rd body = {NULL, len, false};
		enum verdict v;

		body.p = hga_box_rd_bytes(&r, len);
		if (r.bad || len > HGA_BOX_RECORD)
			return fault_set(f, "spec", 0, "cut off or oversized");
		v = record(out, tag, &body);
		if (v != GOOD)
			return refuse(f, tag, v);
	}
	if (out->hostname[0] == '\0' || out->images_dir[0] == '\0' ||
	    out->n_layers == 0 || out->upper[0] == '\0' || out->work[0] == '\0')
		return fault_set(f, "spec", 0, "a required record is missing");
	if (out->redirect && out->private_ip == 0)
		return fault_set(f, "spec", 0, "a network needs an address");
	return 0;
}

/* ---- commands ---- */

static char *word(struct hga_box_rd *r, struct exec_args *x, size_t *used)
{
	struct hga_box_text t = hga_box_rd_text(r);
	char *w = x->copy + *used;

	if (r->bad || !text_copy(w, sizeof(x->copy) - *used, t)) {
		r->bad = true;
		return NULL;
	}
	*used += t.n + 1;
	return w;
}

static bool words(struct hga_box_rd *r, struct exec_args *x, size_t *used,
                  char **list, size_t *count)
{
	uint32_t n = hga_box_rd_u32(r);

	if (r->bad || n > EXEC_WORDS)
		return false;
	for (*count = 0; *count < n; (*count)++) {
		list[*count] = word(r, x, used);
		if (r->bad)
			return false;
	}
	list[n] = NULL;
	return true;
}

bool exec_parse(struct hga_box_rd *r, struct exec_args *out)
{
	size_t used = 0;

	out->user = word(r, out, &used);
	out->cwd = word(r, out, &used);
	if (r->bad || !words(r, out, &used, out->argv, &out->argc) ||
	    !words(r, out, &used, out->env, &out->envc))
		return false;
	return r->n == 0 && out->argc > 0 && out->argv[0][0] != '\0';
}

/* ---- initctl ---- */

bool initctl_parse(const char *line, size_t n, struct initctl *out)
{
	unsigned long v = 0;

	if (n == 1 && line[0] == 'C') {
		out->what = (enum hga_box_power)0;
		out->seconds = 0;
		return true;
	}
	if (n < 3 || n > 11 || line[1] != ' ' ||
	    (line[0] != 'P' && line[0] != 'R'))
		return false;
	for (size_t i = 2; i < n; i++) {
		if (line[i] < '0' || line[i] > '9')
			return false;
		v = v * 10 + (unsigned long)(line[i] - '0');
	}
	out->what = line[0] == 'P' ? HGA_BOX_POWER_OFF : HGA_BOX_POWER_REBOOT;
	out->seconds = v;
	return true;
}
