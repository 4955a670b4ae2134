/*
 * Account files as text: lookups without NSS (the instance's own files are
 * the only truth) and the few edits that a first boot needs.
 */
#include "box/guest/guest.h"

#include <stdio.h>
#include <stdlib.h>

/* Next line of *rest without its newline; false at the end. */
static bool next_line(struct hga_box_text *rest, struct hga_box_text *line)
{
	const char *nl;

	if (rest->n == 0)
		return false;
	nl = memchr(rest->s, '\n', rest->n);
	line->s = rest->s;
	line->n = nl ? (size_t)(nl - rest->s) : rest->n;
	rest->s += line->n + (nl != NULL);
	rest->n -= line->n + (nl != NULL);
	return true;
}

/* i-th field of a line, counted from 0; empty beyond the last. */
static struct hga_box_text field(struct hga_box_text line, unsigned i)
{
	struct hga_box_text none = {"", 0};

	for (;; i--) {
		const char *c = memchr(line.s, ':', line.n);
		size_t n = c ? (size_t)(c - line.s) : line.n;

		if (i == 0) {
			line.n = n;
			return line;
		}
		if (c == NULL)
			return none;
		line.s += n + 1;
		line.n -= n + 1;
	}
}

static bool text_is(struct hga_box_text t, const char *s)
{
	return t.n == strlen(s) && memcmp(t.s, s, t.n) == 0;
}

static bool number(struct hga_box_text t, unsigned long *out)
{
	unsigned long v = 0;

	if (t.n == 0 || t.n > 10)
		return false;
	for (size_t i = 0; i < t.n; i++) {
		if (t.s[i] < '0' || t.s[i] > '9')
			return false;
		v = v * 10 + (unsigned long)(t.s[i] - '0');
	}
	*out = v;
	return v < UINT32_MAX;
}

bool account_name_ok(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");

	return n > 0 && n <= 32 && name[n] == '\0' &&
	       (name[0] == '_' || (name[0] >= 'a' && name[0] <= 'z'));
}

bool passwd_find(struct hga_box_text passwd, const char *name,
                 struct account *out)
{
	struct hga_box_text line;
	unsigned long uid, gid;

	while (next_line(&passwd, &line)) {
		if (!text_is(field(line, 0), name))
			continue;
		if (!number(field(line, 2), &uid) ||
		    !number(field(line, 3), &gid) ||
		    !text_copy(out->home, sizeof(out->home), field(line, 5)) ||
		    !text_copy(out->shell, sizeof(out->shell), field(line, 6)))
			return false;
		out->uid = (uid_t)uid;
		out->gid = (gid_t)gid;
		return true;
	}
	return false;
}

bool group_find(struct hga_box_text group, const char *name, gid_t *out)
{
	struct hga_box_text line;
	unsigned long gid;

	while (next_line(&group, &line)) {
		if (!text_is(field(line, 0), name))
			continue;
		if (!number(field(line, 2), &gid))
			return false;
		*out = (gid_t)gid;
		return true;
	}
	return false;
}

static bool has_member(struct hga_box_text list, const char *user)
{
	while (list.n > 0) {
		const char *c = memchr(list.s, ',', list.n);
		struct hga_box_text one = {list.s, list.n};

		if (c != NULL)
			one.n = (size_t)(c - list.s);
		if (text_is(one, user))
			return true;
		list.s += one.n + (c != NULL);
		list.n -= one.n + (c != NULL);
	}
	return false;
}

size_t group_list(struct hga_box_text group, const char *user, gid_t first,
                  gid_t *out, size_t max)
{
	struct hga_box_text line;
	unsigned long gid;
	size_t n = 0;

	if (max > 0)
		out[n++] = first;
	while (n < max && next_line(&group, &line))
		if (has_member(field(line, 3), user) &&
		    number(field(line, 2), &gid) && gid != first)
			out[n++] = (gid_t)gid;
	return n;
}

static bool id_used(struct hga_box_text file, unsigned long id)
{
	struct hga_box_text line;
	unsigned long v;

	while (next_line(&file, &line))
		if (number(field(line, 2), &v) && v == id)
			return true;
	return false;
}

unsigned long account_free_id(struct hga_box_text passwd,
                              struct hga_box_text group)
{
	for (unsigned long id = 1000; id < 60000; id++)
		if (!id_used(passwd, id) && !id_used(group, id))
			return id;
	return 0;
}

static unsigned colons(struct hga_box_text line)
{
	unsigned n = 0;

	for (size_t i = 0; i < line.n; i++)
		n += line.s[i] == ':';
	return n;
}

void group_join(struct hga_box_text group, const char *name, const char *user,
                struct grow *out)
{
	struct hga_box_text line, members;

	while (next_line(&group, &line)) {
		grow_add(out, line.s, line.n);
		members = field(line, 3);
		if (colons(line) == 3 && text_is(field(line, 0), name) &&
		    !has_member(members, user)) {
			if (members.n > 0)
				grow_add(out, ",", 1);
			grow_add(out, user, strlen(user));
		}
		grow_add(out, "\n", 1);
	}
}
