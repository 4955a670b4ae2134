/*
 * known_hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").  Verdicts are those of
 * OpenSSH's client with StrictHostKeyChecking=yes, host certificates aside.
 */
#include "ssh/known_hosts.h"

#include "base/crypto.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "ssh/auth.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOB_MAX (16 * 1024)
#define LINES_MAX 1000000
#define LOCK_MS 5000
#define SHA1_LEN 20

struct hga_khosts {
	unsigned refs;
	char *path;
	struct hga_buf text;  /* the lines' names and types point into it */
	struct hga_buf blobs; /* their keys, one after the other */
	struct hga_kh_line *v;
	size_t n, cap;
	unsigned bad;
	struct stat st;
	struct hga_khosts *next;
};

/* Files in use, so that many sessions at once parse each only once; the
 * process has one thread. */
static struct hga_khosts *open_files;

/* ---- parsing ---- */

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct hga_str skip_blanks(struct hga_str s)
{
	while (s.n > 0 && blank(s.s[0]))
		s = hga_strn(s.s + 1, s.n - 1);
	return s;
}

/* The next word of *rest. */
static struct hga_str word(struct hga_str *rest)
{
	size_t n = 0;
	struct hga_str w;

	while (n < rest->n && !blank(rest->s[n]))
		n++;
	w = hga_strn(rest->s, n);
	*rest = skip_blanks(hga_strn(rest->s + n, rest->n - n));
	return w;
}

/* Types a server may show; a line of another type says nothing. */
static bool known_type(struct hga_str type)
{
	static const char *const types[] = {
	    "ssh-ed25519",
	    "ecdsa-sha2-nistp256",
	    "ecdsa-sha2-nistp384",
	    "ecdsa-sha2-nistp521",
	    "ssh-rsa",
	    "ssh-dss",
	    "sk-ssh-ed25519@openssh.com",
	    "sk-ecdsa-sha2-nistp256@openssh.com",
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (hga_str_eqc(type, types[i]))
			return true;
	return false;
}

/* The key of a line, appended to k->blobs; false: it cannot be read. */
static int read_blob(struct hga_khosts *k, struct hga_kh_line *l,
                     struct hga_str b64, bool *good, struct hga_err *err)
{
	size_t start = k->blobs.len, at = 0;
	struct hga_err why;
	struct hga_str type, part;
	int rc = hga_b64_decode(&k->blobs, b64, &why);

	*good = false;
	if (rc == -HGA_MEMORY)
		return hga_fail_mem(err);
	if (rc < 0) {
		hga_buf_truncate(&k->blobs, start);
		return 0;
	}
	l->blob = hga_strn(k->blobs.data + start, k->blobs.len - start);
	if (l->blob.n > BLOB_MAX || !hga_wire_str(l->blob, &at, &type) ||
	    !hga_str_eq(type, l->type) || at == l->blob.n) {
		hga_buf_truncate(&k->blobs, start);
		return 0;
	}
	/* A blob is a sequence of strings to its last byte. */
	while (at < l->blob.n)
		if (!hga_wire_str(l->blob, &at, &part)) {
			hga_buf_truncate(&k->blobs, start);
			return 0;
		}
	*good = true;
	return 0;
}

static bool read_marker(struct hga_str *rest, enum hga_kh_marker *out)
{
	struct hga_str w;

	*out = HGA_KH_PLAIN;
	if (rest->s[0] != '@')
		return true;
	w = word(rest);
	if (hga_str_eqc(w, "@revoked"))
		*out = HGA_KH_REVOKED;
	else if (hga_str_eqc(w, "@cert-authority"))
		*out = HGA_KH_CA;
	else
		return false;
	return true;
}

/* "|1|SALT|HMAC" with 20 bytes each. */
static bool read_hashed(struct hga_str name, struct hga_buf *salt,
                        struct hga_buf *mac)
{
	ptrdiff_t bar;

	if (!hga_str_starts(name, "|1|"))
		return false;
	bar = hga_str_chr(name, '|', 3);
	return bar > 0 &&
	       hga_b64_decode(salt, hga_strn(name.s + 3, (size_t)bar - 3),
	                      NULL) == 0 &&
	       hga_b64_decode(
	           mac, hga_strn(name.s + bar + 1, name.n - (size_t)bar - 1),
	           NULL) == 0 &&
	       salt->len == SHA1_LEN && mac->len == SHA1_LEN;
}

static bool names_ok(struct hga_str names)
{
	struct hga_buf salt, mac;
	bool good = true;

	if (names.n == 0)
		return false;
	if (names.s[0] != '|')
		return true;
	hga_buf_init(&salt, 64);
	hga_buf_init(&mac, 64);
	good = read_hashed(names, &salt, &mac);
	hga_buf_release(&salt);
	hga_buf_release(&mac);
	return good;
}

static int add_line(struct hga_khosts *k, const struct hga_kh_line *l,
                    struct hga_err *err)
{
	if (k->v == NULL || k->n == k->cap) {
		size_t cap = k->cap ? k->cap * 2 : 16;
		struct hga_kh_line *v = hga_realloc(k->v, cap * sizeof(*k->v));

		if (v == NULL)
			return hga_fail_mem(err);
		k->v = v;
		k->cap = cap;
	}
	k->v[k->n++] = *l;
	return 0;
}

static int parse_line(struct hga_khosts *k, struct hga_str line, unsigned no,
                      struct hga_err *err)
{
	struct hga_kh_line l = {.line = no};
	struct hga_str rest;
	bool good;
	int rc;

	if (line.n > 0 && line.s[line.n - 1] == '\r')
		line.n--;
	rest = skip_blanks(line);
	if (rest.n == 0 || rest.s[0] == '#')
		return 0;
	good = line.n <= HGA_KHOSTS_LINE && read_marker(&rest, &l.marker);
	if (good) {
		l.names = word(&rest);
		l.type = word(&rest);
		good = names_ok(l.names) && known_type(l.type);
	}
	if (good) {
		rc = read_blob(k, &l, word(&rest), &good, err);
		if (rc < 0)
			return rc;
	}
	if (!good) {
		k->bad++;
		return 0;
	}
	return add_line(k, &l, err);
}

static int parse_all(struct hga_khosts *k, struct hga_err *err)
{
	struct hga_str text = hga_buf_str(&k->text);
	size_t at = 0;
	unsigned no = 0;
	int rc;

	/* All keys together are shorter than their base64: one block, so that
	 * the lines can point into it. */
	rc = hga_buf_reserve(&k->blobs, text.n + 1, err);
	while (rc == 0 && at < text.n && no < LINES_MAX) {
		ptrdiff_t nl = hga_str_chr(text, '\n', at);
		size_t end = nl < 0 ? text.n : (size_t)nl;

		rc = parse_line(k, hga_strn(text.s + at, end - at), ++no, err);
		at = end + 1;
	}
	return rc;
}

static struct hga_khosts *khosts_new(const char *path, struct hga_err *err)
{
	struct hga_khosts *k = hga_calloc(1, sizeof(*k));

	if (k != NULL)
		k->path = hga_strdup(path);
	if (k == NULL || k->path == NULL) {
		hga_free(k);
		(void)hga_fail_mem(err); /* NULL tells */
		return NULL;
	}
	k->refs = 1;
	hga_buf_init(&k->text, HGA_KHOSTS_FILE);
	hga_buf_init(&k->blobs, HGA_KHOSTS_FILE + 1);
	return k;
}

int hga_khosts_parse(struct hga_str text, const char *where,
                     struct hga_khosts **out, struct hga_err *err)
{
	struct hga_khosts *k = khosts_new(where, err);
	int rc;

	*out = NULL;
	if (k == NULL)
		return -HGA_MEMORY;
	rc = hga_buf_addstr(&k->text, text, err);
	if (rc == 0)
		rc = parse_all(k, err);
	if (rc < 0) {
		hga_khosts_free(k);
		return rc;
	}
	*out = k;
	return 0;
}

static struct hga_khosts *find_open(const char *path, const struct stat *st)
{
	for (struct hga_khosts *k = open_files; k != NULL; k = k->next)
		if (strcmp(k->path, path) == 0 && k->st.st_ino == st->st_ino &&
		    k->st.st_size == st->st_size &&
		    k->st.st_mtim.tv_sec == st->st_mtim.tv_sec &&
		    k->st.st_mtim.tv_nsec == st->st_mtim.tv_nsec)
			return k;
	return NULL;
}

static int load(struct hga_khosts *k, struct hga_err *err)
{
	struct hga_err why;
	int rc = hga_fs_read(k->path, HGA_KHOSTS_FILE, &k->text, &why);

	if (rc == -HGA_MEMORY || rc == -HGA_PROTOCOL) {
		*err = why;
		return rc;
	}
	if (rc < 0 && rc != -HGA_NOTFOUND)
		hga_log(HGA_LOG_WARN, "ssh", "known hosts: %s", why.msg);
	rc = rc < 0 ? 0 : parse_all(k, err);
	if (rc == 0 && k->bad > 0)
		hga_log(HGA_LOG_DEBUG, "ssh",
		        "%s: %u lines cannot be read and are skipped", k->path,
		        k->bad);
	return rc;
}

int hga_khosts_open(const char *path, struct hga_khosts **out,
                    struct hga_err *err)
{
	struct hga_khosts *k;
	struct stat st;
	int rc;

	*out = NULL;
	if (stat(path, &st) != 0)
		memset(&st, 0, sizeof(st));
	k = find_open(path, &st);
	if (k != NULL) {
		k->refs++;
		*out = k;
		return 0;
	}
	k = khosts_new(path, err);
	if (k == NULL)
		return -HGA_MEMORY;
	k->st = st;
	/* A FIFO or device would hang or never end. */
	rc = st.st_ino != 0 && !S_ISREG(st.st_mode) ? 0 : load(k, err);
	if (rc < 0) {
		hga_khosts_free(k);
		return rc;
	}
	k->next = open_files;
	open_files = k;
	*out = k;
	return 0;
}

void hga_khosts_free(struct hga_khosts *k)
{
	if (k == NULL || --k->refs > 0)
		return;
	for (struct hga_khosts **at = &open_files; *at != NULL;
	     at = &(*at)->next)
		if (*at == k) {
			*at = k->next;
			break;
		}
	hga_buf_release(&k->text);
	hga_buf_release(&k->blobs);
	hga_free(k->v);
	hga_free(k->path);
	hga_free(k);
}

const char *hga_khosts_path(const struct hga_khosts *k)
{
	return k->path;
}

size_t hga_khosts_count(const struct hga_khosts *k)
{
	return k->n;
}

const struct hga_kh_line *hga_khosts_line(const struct hga_khosts *k, size_t i)
{
	return &k->v[i];
}

unsigned hga_khosts_bad(const struct hga_khosts *k)
{
	return k->bad;
}

/* ---- names ---- */

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

int hga_kh_name(struct hga_buf *out, const char *host, int port,
                struct hga_err *err)
{
	bool with_port = port != 0 && port != 22;
	int rc = with_port ? hga_buf_addc(out, '[', err) : 0;

	for (; rc == 0 && *host != '\0'; host++)
		rc = hga_buf_addc(out, lower(*host), err);
	if (rc == 0 && with_port)
		rc = hga_buf_addf(out, err, "]:%d", port);
	return rc;
}

/* Glob with * and ?, case ignored; never deep. */
static bool pattern_match(struct hga_str p, struct hga_str s)
{
	size_t i = 0, k = 0, star = SIZE_MAX, mark = 0;

	while (i < s.n) {
		if (k < p.n && p.s[k] == '*') {
			star = k++;
			mark = i;
		} else if (k < p.n &&
		           (p.s[k] == '?' || lower(p.s[k]) == lower(s.s[i]))) {
			i++;
			k++;
		} else if (star != SIZE_MAX) {
			k = star + 1;
			i = ++mark;
		} else {
			return false;
		}
	}
	while (k < p.n && p.s[k] == '*')
		k++;
	return k == p.n;
}

static bool hashed_match(struct hga_str hashed, struct hga_str name)
{
	struct hga_buf salt, mac;
	uint8_t sum[HGA_HASH_MAX];
	bool same = false;

	hga_buf_init(&salt, 64);
	hga_buf_init(&mac, 64);
	if (read_hashed(hashed, &salt, &mac) &&
	    hga_hmac(HGA_SHA1, hga_buf_str(&salt), name, sum, NULL) == 0)
		same = memcmp(sum, mac.data, SHA1_LEN) == 0;
	hga_buf_release(&salt);
	hga_buf_release(&mac);
	return same;
}

bool hga_kh_match(struct hga_str names, struct hga_str name)
{
	bool found = false;
	size_t at = 0;

	if (names.n > 0 && names.s[0] == '|')
		return hashed_match(names, name);
	while (at < names.n) {
		ptrdiff_t comma = hga_str_chr(names, ',', at);
		size_t end = comma < 0 ? names.n : (size_t)comma;
		struct hga_str p = hga_strn(names.s + at, end - at);
		bool negated = p.n > 0 && p.s[0] == '!';

		if (negated)
			p = hga_strn(p.s + 1, p.n - 1);
		if (pattern_match(p, name)) {
			if (negated)
				return false;
			found = true;
		}
		at = end + 1;
	}
	return found;
}

/* ---- verdict ---- */

static int name_of(const struct hga_kh_host *h, bool plain, struct hga_buf *out,
                   struct hga_err *err)
{
	hga_buf_init(out, 4096);
	if (h->alias != NULL)
		return hga_kh_name(out, h->alias, 0, err);
	return hga_kh_name(out, h->host, plain ? 0 : h->port, err);
}

static int note(struct hga_kh_found *f, const struct hga_khosts *k,
                const struct hga_kh_line *l, struct hga_err *err)
{
	f->path = k->path;
	f->line = l->line;
	return hga_blob_fingerprint(l->blob, f->expected, err);
}

struct look {
	bool trusted, changed, revoked;
};

static int look_at(const struct hga_khosts *k, const struct hga_kh_line *l,
                   struct hga_str blob, struct look *seen,
                   struct hga_kh_found *f, struct hga_err *err)
{
	bool same = hga_equal_ct(l->blob, blob);

	switch (l->marker) {
	case HGA_KH_REVOKED:
		if (!same || seen->revoked)
			return 0;
		seen->revoked = true;
		return note(f, k, l, err);
	case HGA_KH_CA:
		f->ca_only = !seen->trusted && !seen->changed;
		return 0;
	case HGA_KH_PLAIN:
		break;
	}
	f->ca_only = false;
	if (seen->revoked || seen->trusted || (!same && seen->changed))
		return 0;
	if (same)
		seen->trusted = true;
	else
		seen->changed = true;
	return note(f, k, l, err);
}

static int look_up(struct hga_khosts *const *files, size_t n,
                   struct hga_str name, struct hga_str blob,
                   enum hga_kh_verdict *out, struct hga_kh_found *f,
                   struct hga_err *err)
{
	struct look seen = {false, false, false};
	int rc = 0;

	memset(f, 0, sizeof(*f));
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < files[i]->n && rc == 0; j++) {
			const struct hga_kh_line *l = &files[i]->v[j];

			if (hga_kh_match(l->names, name))
				rc = look_at(files[i], l, blob, &seen, f, err);
		}
	*out = seen.revoked   ? HGA_KH_IS_REVOKED
	       : seen.trusted ? HGA_KH_TRUSTED
	       : seen.changed ? HGA_KH_CHANGED
	                      : HGA_KH_UNKNOWN;
	return rc;
}

int hga_khosts_check(struct hga_khosts *const *files, size_t n,
                     const struct hga_kh_host *host, struct hga_str blob,
                     enum hga_kh_verdict *out, struct hga_kh_found *found,
                     struct hga_err *err)
{
	enum hga_kh_verdict again;
	struct hga_kh_found other;
	struct hga_buf name;
	int rc = name_of(host, false, &name, err);

	if (rc == 0)
		rc = look_up(files, n, hga_buf_str(&name), blob, out, found,
		             err);
	hga_buf_release(&name);
	if (rc < 0 || *out != HGA_KH_UNKNOWN || host->alias != NULL ||
	    host->port == 22)
		return rc;
	rc = name_of(host, true, &name, err);
	if (rc == 0)
		rc = look_up(files, n, hga_buf_str(&name), blob, &again, &other,
		             err);
	hga_buf_release(&name);
	/* Another key for the plain name says nothing about this port, but a
	 * key that was revoked is so wherever it turns up. */
	if (rc == 0 &&
	    (again == HGA_KH_TRUSTED || again == HGA_KH_IS_REVOKED)) {
		*out = again;
		*found = other;
	}
	return rc;
}

int hga_khosts_has_type(struct hga_khosts *const *files, size_t n,
                        const struct hga_kh_host *host, const char *type,
                        bool *out, struct hga_err *err)
{
	struct hga_buf name;
	int rc = 0;

	*out = false;
	/* The plain name last: only what is known for the port orders. */
	for (int plain = 0; plain < 2 && !*out && rc == 0; plain++) {
		rc = name_of(host, plain != 0, &name, err);
		for (size_t i = 0; i < n && rc == 0; i++)
			for (size_t j = 0; j < files[i]->n && !*out; j++) {
				const struct hga_kh_line *l = &files[i]->v[j];

				*out =
				    l->marker == HGA_KH_PLAIN &&
				    hga_str_eqc(l->type, type) &&
				    hga_kh_match(l->names, hga_buf_str(&name));
			}
		hga_buf_release(&name);
	}
	return rc;
}

/* ---- files of ours ---- */

static int locked(const char *path, struct hga_err *err)
{
	struct hga_buf lock;
	int fd;

	hga_buf_init(&lock, 4096);
	fd = hga_buf_addf(&lock, err, "%s.lock", path);
	if (fd == 0)
		fd = hga_fs_lock_wait(hga_buf_text(&lock), false, LOCK_MS, err);
	hga_buf_release(&lock);
	return fd;
}

static int read_old(const char *path, struct hga_buf *text, struct hga_err *err)
{
	struct hga_err why;
	int rc;

	hga_buf_init(text, HGA_KHOSTS_FILE);
	rc = hga_fs_read(path, HGA_KHOSTS_FILE, text, &why);
	if (rc == -HGA_NOTFOUND)
		return 0;
	if (rc < 0)
		*err = why;
	return rc;
}

static int new_line(struct hga_buf *text, const struct hga_kh_host *host,
                    struct hga_str blob, struct hga_err *err)
{
	struct hga_str type;
	struct hga_buf name;
	size_t at = 0;
	int rc = 0;

	if (!hga_wire_str(blob, &at, &type) || !known_type(type))
		return hga_fail(err, HGA_USAGE, 0, "KeyFormat",
		                "known hosts: this is no host key");
	if (text->len > 0 && text->data[text->len - 1] != '\n')
		rc = hga_buf_addc(text, '\n', err);
	if (rc < 0)
		return rc;
	rc = name_of(host, false, &name, err);
	for (size_t i = 0; i < name.len && rc == 0; i++)
		if ((unsigned char)name.data[i] <= ' ' ||
		    strchr(",*?!|#@", name.data[i]) != NULL)
			rc = hga_fail(err, HGA_USAGE, 0, "Host",
			              "known hosts: the name cannot be "
			              "written there");
	if (rc == 0)
		rc = hga_buf_addf(text, err, "%s %.*s ", hga_buf_text(&name),
		                  HGA_STRF(type));
	hga_buf_release(&name);
	if (rc == 0)
		rc = hga_b64_encode(text, blob.s, blob.n, err);
	return rc < 0 ? rc : hga_buf_addc(text, '\n', err);
}

int hga_khosts_add(const char *path, const struct hga_kh_host *host,
                   struct hga_str blob, struct hga_err *err)
{
	struct hga_buf text;
	int fd = locked(path, err), rc;

	if (fd < 0)
		return fd;
	rc = read_old(path, &text, err);
	if (rc == 0)
		rc = new_line(&text, host, blob, err);
	if (rc == 0)
		rc = hga_fs_replace(path, hga_buf_str(&text), 0600, HGA_FS_SYNC,
		                    err);
	hga_buf_release(&text);
	(void)close(fd); /* unlocks */
	return rc;
}

/* Copies all lines of text but those for name. */
static int without(struct hga_str text, struct hga_str name,
                   struct hga_buf *out, unsigned *n, struct hga_err *err)
{
	size_t at = 0;
	int rc = 0;

	while (at < text.n && rc == 0) {
		ptrdiff_t nl = hga_str_chr(text, '\n', at);
		size_t end = nl < 0 ? text.n : (size_t)nl + 1;
		struct hga_str line = hga_strn(text.s + at, end - at);
		struct hga_str rest = skip_blanks(hga_str_trim(line));
		enum hga_kh_marker marker;

		at = end;
		if (rest.n > 0 && rest.s[0] != '#' &&
		    read_marker(&rest, &marker) &&
		    hga_kh_match(word(&rest), name)) {
			(*n)++;
			continue;
		}
		rc = hga_buf_addstr(out, line, err);
	}
	return rc;
}

int hga_khosts_remove(const char *path, const struct hga_kh_host *host,
                      unsigned *n, struct hga_err *err)
{
	struct hga_buf text, out, name;
	int fd = locked(path, err), rc;

	*n = 0;
	if (fd < 0)
		return fd;
	hga_buf_init(&out, HGA_KHOSTS_FILE);
	rc = read_old(path, &text, err);
	if (rc == 0)
		rc = name_of(host, false, &name, err);
	else
		hga_buf_init(&name, 1);
	if (rc == 0)
		rc = without(hga_buf_str(&text), hga_buf_str(&name), &out, n,
		             err);
	if (rc == 0 && *n > 0)
		rc = hga_fs_replace(path, hga_buf_str(&out), 0600, HGA_FS_SYNC,
		                    err);
	hga_buf_release(&name);
	hga_buf_release(&text);
	hga_buf_release(&out);
	(void)close(fd); /* unlocks */
	return rc;
}
