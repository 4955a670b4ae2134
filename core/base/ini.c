/* INI files of the AWS SDKs' dialect (aws.md section 8). */
#include "base/ini.h"

#include "base/fs.h"
#include "base/mem.h"

#include <string.h>

#define TEXT_MAX (1024 * 1024)
#define VALUE_MAX 65536 /* with its continuations */
#define PROPS_MAX 10000
#define SECTIONS_MAX 2000

#define NONE ((size_t)-1)    /* nothing yet */
#define IGNORED ((size_t)-2) /* with a name that is not allowed */

struct parser {
	struct hga_ini *ini;
	const char *file;
	unsigned line;
	size_t section, prop; /* indexes or the marks above */
	struct hga_err *err;
};

static void wipe_text(char *s)
{
	if (s != NULL)
		hga_wipe(s, strlen(s));
	hga_free(s);
}

void hga_ini_release(struct hga_ini *ini)
{
	for (size_t i = 0; i < ini->n; i++) {
		struct hga_ini_section *s = &ini->sections[i];

		for (size_t k = 0; k < s->n; k++) {
			hga_free(s->props[k].name);
			wipe_text(s->props[k].value);
		}
		hga_free(s->props);
		hga_free(s->type);
		hga_free(s->name);
	}
	hga_free(ini->sections);
	memset(ini, 0, sizeof(*ini));
}

static int complain(const struct parser *p, const char *what)
{
	return hga_fail(p->err, HGA_USAGE, 0, "Ini", "%s:%u: %s", p->file,
	                p->line, what);
}

static bool name_ok(struct hga_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.s[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    !(c >= '0' && c <= '9') &&
		    (c == '\0' || strchr("-_./%@:+", c) == NULL))
			return false;
	}
	return s.n > 0;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Cuts a comment: # or ; behind a blank. */
static struct hga_str cut_comment(struct hga_str s)
{
	for (size_t i = 1; i < s.n; i++)
		if ((s.s[i] == '#' || s.s[i] == ';') && blank(s.s[i - 1]))
			return hga_strn(s.s, i);
	return s;
}

static bool grow(void **array, size_t *cap, size_t size)
{
	size_t want = *cap ? *cap * 2 : 8;
	size_t bytes;
	void *p;

	if (!hga_size_mul(want, size, &bytes))
		return false;
	p = hga_realloc(*array, bytes);
	if (p == NULL)
		return false;
	*array = p;
	*cap = want;
	return true;
}

static size_t find_section(const struct hga_ini *ini, struct hga_str type,
                           struct hga_str name)
{
	for (size_t i = 0; i < ini->n; i++)
		if (hga_str_eqc(type, ini->sections[i].type) &&
		    hga_str_eqc(name, ini->sections[i].name))
			return i;
	return NONE;
}

static int add_section(struct parser *p, struct hga_str type,
                       struct hga_str name)
{
	struct hga_ini *ini = p->ini;
	struct hga_ini_section s;
	void *array = ini->sections;

	if (ini->n == SECTIONS_MAX)
		return complain(p, "too many sections");
	if (ini->n == ini->cap && !grow(&array, &ini->cap, sizeof(s)))
		return hga_fail_mem(p->err);
	ini->sections = array;
	memset(&s, 0, sizeof(s));
	s.type = hga_memdup0(type.s, type.n);
	s.name = hga_memdup0(name.s, name.n);
	s.line = p->line;
	if (s.type == NULL || s.name == NULL) {
		hga_free(s.type);
		hga_free(s.name);
		return hga_fail_mem(p->err);
	}
	p->section = ini->n;
	ini->sections[ini->n++] = s;
	return 0;
}

/* "[profile X] # comment" */
static int on_header(struct parser *p, struct hga_str line)
{
	ptrdiff_t end = hga_str_chr(line, ']', 0);
	struct hga_str type = {"", 0};
	struct hga_str name;
	struct hga_str rest;
	size_t cut = 0;

	if (end < 0)
		return complain(p, "missing ] after section name");
	rest =
	    hga_str_trim(hga_strn(line.s + end + 1, line.n - (size_t)end - 1));
	if (rest.n > 0 && rest.s[0] != '#' && rest.s[0] != ';')
		return complain(p, "missing ] at the end of section name");
	name = hga_str_trim(hga_strn(line.s + 1, (size_t)end - 1));
	while (cut < name.n && !blank(name.s[cut]))
		cut++;
	if (cut < name.n) {
		type = hga_strn(name.s, cut);
		name = hga_str_trim(hga_strn(name.s + cut, name.n - cut));
	}
	p->prop = NONE;
	p->section = IGNORED;
	if (!name_ok(name) || (type.n > 0 && !name_ok(type)))
		return 0;
	p->section = find_section(p->ini, type, name);
	return p->section != NONE ? 0 : add_section(p, type, name);
}

static char *lower_dup(struct hga_str s)
{
	char *d = hga_memdup0(s.s, s.n);

	for (char *c = d; c != NULL && *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c + 32);
	return d;
}

/* *at: index of a property to be overwritten, or of a new one. */
static int place_prop(struct parser *p, struct hga_ini_section *s,
                      struct hga_str name, size_t *at)
{
	void *array = s->props;

	for (*at = 0; *at < s->n; (*at)++)
		if (hga_str_ieqc(name, s->props[*at].name))
			return 0;
	if (p->ini->total == PROPS_MAX) {
		(void)complain(p, "too many properties");
		return -HGA_USAGE;
	}
	if (s->n == s->cap && !grow(&array, &s->cap, sizeof(*s->props))) {
		(void)hga_fail_mem(p->err);
		return -HGA_MEMORY;
	}
	s->props = array;
	s->props[s->n].name = lower_dup(name);
	s->props[s->n].value = NULL;
	if (s->props[s->n].name == NULL)
		return hga_fail_mem(p->err);
	p->ini->total++;
	s->n++;
	return 0;
}

static int on_property(struct parser *p, struct hga_str line)
{
	ptrdiff_t eq = hga_str_chr(line, '=', 0);
	struct hga_ini_section *s;
	struct hga_str name;
	struct hga_str value;
	char *text;
	size_t at = 0;
	int r;

	if (p->section == NONE)
		return complain(p, "property before any section");
	if (eq < 0)
		return complain(p, "no = in property");
	name = hga_str_trim(hga_strn(line.s, (size_t)eq));
	if (name.n == 0)
		return complain(p, "no name before =");
	p->prop = IGNORED;
	if (p->section == IGNORED || !name_ok(name))
		return 0;
	value = hga_strn(line.s + eq + 1, line.n - (size_t)eq - 1);
	value = hga_str_trim(cut_comment(value));
	text = hga_memdup0(value.s, value.n);
	s = &p->ini->sections[p->section];
	if (text == NULL)
		return hga_fail_mem(p->err);
	r = place_prop(p, s, name, &at);
	if (r < 0) {
		wipe_text(text);
		return r;
	}
	wipe_text(s->props[at].value);
	s->props[at].value = text;
	s->props[at].line = p->line;
	p->prop = at;
	return 0;
}

static int on_continuation(struct parser *p, struct hga_str line)
{
	struct hga_ini_prop *prop;
	struct hga_str add = hga_str_trim(line);
	size_t old;
	char *text;

	if (p->prop == NONE)
		return complain(p, "continuation without a property");
	if (p->prop == IGNORED)
		return 0;
	prop = &p->ini->sections[p->section].props[p->prop];
	old = strlen(prop->value);
	if (old + add.n > VALUE_MAX)
		return complain(p, "value longer than 64 KiB");
	text = hga_alloc(old + add.n + 2);
	if (text == NULL)
		return hga_fail_mem(p->err);
	memcpy(text, prop->value, old);
	text[old] = '\n';
	memcpy(text + old + 1, add.s, add.n);
	text[old + 1 + add.n] = '\0';
	wipe_text(prop->value);
	prop->value = text;
	return 0;
}

static int on_line(struct parser *p, struct hga_str line)
{
	struct hga_str t = hga_str_trim(line);

	if (t.n == 0 || line.s[0] == '#' || line.s[0] == ';')
		return 0;
	if (blank(line.s[0]))
		return on_continuation(p, line);
	if (line.s[0] == '[')
		return on_header(p, line);
	return on_property(p, line);
}

int hga_ini_parse(struct hga_ini *ini, struct hga_str text, const char *file,
                  struct hga_err *err)
{
	struct parser p = {ini, file, 0, NONE, NONE, err};
	size_t from = 0;
	int r = 0;

	if (text.n > TEXT_MAX)
		return hga_fail(err, HGA_USAGE, 0, "Ini",
		                "%s: larger than 1 MiB", file);
	if (hga_str_chr(text, '\0', 0) >= 0)
		return hga_fail(err, HGA_USAGE, 0, "Ini", "%s: holds NUL bytes",
		                file);
	if (hga_str_starts(text, "\xef\xbb\xbf")) /* byte order mark */
		from = 3;
	while (from < text.n && r == 0) {
		ptrdiff_t nl = hga_str_chr(text, '\n', from);
		size_t to = nl < 0 ? text.n : (size_t)nl;

		p.line++;
		if (to > from)
			r = on_line(&p, hga_strn(text.s + from, to - from));
		from = to + 1;
	}
	return r;
}

int hga_ini_load(struct hga_ini *ini, const char *path, struct hga_err *err)
{
	struct hga_buf text;
	int r;

	hga_buf_init(&text, TEXT_MAX);
	r = hga_fs_read(path, TEXT_MAX, &text, err);
	if (r == 0)
		r = hga_ini_parse(ini, hga_buf_str(&text), path, err);
	hga_buf_release_secret(&text);
	return r;
}

const struct hga_ini_section *hga_ini_find(const struct hga_ini *ini,
                                           const char *type, const char *name)
{
	size_t i = find_section(ini, hga_str(type), hga_str(name));

	return i == NONE ? NULL : &ini->sections[i];
}

const struct hga_ini_prop *hga_ini_prop(const struct hga_ini_section *s,
                                        const char *name)
{
	for (size_t i = 0; s != NULL && i < s->n; i++)
		if (strcmp(s->props[i].name, name) == 0)
			return &s->props[i];
	return NULL;
}

const char *hga_ini_get(const struct hga_ini_section *s, const char *name)
{
	const struct hga_ini_prop *p = hga_ini_prop(s, name);

	return p != NULL ? p->value : NULL;
}

bool hga_ini_nested(const char *text, const char *key, struct hga_str *out)
{
	struct hga_str t = hga_str(text);
	bool found = false;
	size_t from = 0;

	while (from < t.n) {
		ptrdiff_t nl = hga_str_chr(t, '\n', from);
		size_t to = nl < 0 ? t.n : (size_t)nl;
		struct hga_str line = hga_strn(t.s + from, to - from);
		ptrdiff_t eq = hga_str_chr(line, '=', 0);

		from = to + 1;
		if (eq < 0)
			continue;
		if (!hga_str_ieqc(hga_str_trim(hga_strn(line.s, (size_t)eq)),
		                  key))
			continue;
		*out = hga_str_trim(
		    hga_strn(line.s + eq + 1, line.n - (size_t)eq - 1));
		found = true;
	}
	return found;
}
