/*
 * evil_sftp MODE: an SFTP server on standard input and output that lies; a
 * real sshd starts it as its subsystem.  It never touches a file.
 *
 * up up2 dots abs slash back option space nl ctl utf8 long dup empty: a
 *   listing with such a name (back, option, space, dots: harmless ones here)
 * count: more names announced than sent     endless: a listing without end
 * short: 1 MiB announced, 10 bytes come     more: 10 announced, data for ever
 * huge: size 2^63 + 1                       one: one byte a read
 * silent: no answer after the version       id: answers to nobody
 * type: a status where data belong          frame: a frame of 2 GiB
 * loop: each directory holds another        link: a link among the names
 * noext: a sane server without extensions   grow: the file grows meanwhile
 * handle: a handle of 300 bytes             attrs: attributes cut short
 * twice: each answer comes two times        endown: ends after the open
 * lie: writes are cut, and stat tells so
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *mode;
static unsigned char out[512 * 1024];
static size_t n_out;

static void o8(unsigned v)
{
	out[n_out++] = (unsigned char)v;
}

static void o32(uint32_t v)
{
	o8(v >> 24);
	o8(v >> 16 & 255);
	o8(v >> 8 & 255);
	o8(v & 255);
}

static void ostr(const void *p, size_t n)
{
	o32((uint32_t)n);
	memcpy(out + n_out, p, n);
	n_out += n;
}

static void begin(unsigned type, uint32_t id)
{
	n_out = 0;
	o32(0);
	o8(type);
	o32(id);
}

static void end(void)
{
	uint32_t n = (uint32_t)(n_out - 4);
	size_t at = 0;

	for (int i = 0; i < 4; i++)
		out[i] = (unsigned char)(n >> (24 - 8 * i));
	while (at < n_out) {
		ssize_t w = write(1, out + at, n_out - at);

		if (w <= 0)
			exit(0);
		at += (size_t)w;
	}
}

static int is(const char *name)
{
	return strcmp(mode, name) == 0;
}

static void status(uint32_t id, uint32_t code)
{
	begin(101, id);
	o32(code);
	ostr("\033[31mtext", 9);
	ostr("", 0);
	end();
}

static void attrs(uint64_t size, uint32_t perm)
{
	o32(1 | 4);
	o32((uint32_t)(size >> 32));
	o32((uint32_t)size);
	o32(perm);
}

static uint64_t size_of(void)
{
	if (is("short"))
		return 1024 * 1024;
	if (is("huge"))
		return ((uint64_t)1 << 63) + 1;
	return is("one") ? 3000 : 10;
}

static void name(const void *p, size_t n, uint32_t perm)
{
	ostr(p, n);
	ostr("long", 4);
	attrs(size_of(), perm);
}

static void names(uint32_t id)
{
	static int calls;
	char longname[300];
	uint32_t file = 0100644, dir = 040755;

	calls++;
	if (calls % 2 == 0 && !is("endless")) {
		status(id, 1);
		return;
	}
	begin(104, id);
	if (is("endless")) {
		o32(500);
		for (int i = 0; i < 500; i++) {
			char text[32];

			snprintf(text, sizeof(text), "f%d-%d", calls, i);
			name(text, strlen(text), file);
		}
		end();
		return;
	}
	o32(is("count") ? 1000 : 2);
	name("good", 4, file);
	memset(longname, 'x', sizeof(longname));
	if (is("up"))
		name("../up", 5, file);
	else if (is("up2"))
		name("../../up", 8, file);
	else if (is("dots"))
		name("...", 3, file);
	else if (is("back"))
		name("C:\\win", 6, file);
	else if (is("option"))
		name("-rf", 3, file);
	else if (is("space"))
		name(" sp ", 4, file);
	else if (is("nl"))
		name("a\nb", 3, file);
	else if (is("abs"))
		name("/tmp/evil", 9, file);
	else if (is("slash"))
		name("a/b", 3, dir);
	else if (is("ctl"))
		name("a\033[2Jb", 6, file);
	else if (is("utf8"))
		name("\xff\xfe", 2, file);
	else if (is("long"))
		name(longname, 300, file);
	else if (is("dup"))
		name("good", 4, dir);
	else if (is("empty"))
		name("", 0, dir);
	else if (is("loop"))
		name("again", 5, dir);
	else if (is("link"))
		name("link", 4, 0120777);
	else
		name("other", 5, file);
	end();
}

static void data(uint32_t id, uint64_t off, uint32_t n)
{
	static uint64_t grown = 10;
	uint64_t have = is("more") ? UINT64_MAX : is("one") ? 3000 : 10;

	if (is("grow"))
		have = grown += 10;

	if (off >= have) {
		status(id, 1);
		return;
	}
	if (n > have - off)
		n = (uint32_t)(have - off);
	if (n > 32768)
		n = 32768;
	if (is("one"))
		n = 1;
	begin(is("type") ? 104 : 103, id);
	o32(n);
	memset(out + n_out, 'd', n);
	n_out += n;
	end();
}

static uint32_t g32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	       (uint32_t)p[2] << 8 | p[3];
}

static void request(unsigned type, uint32_t id, const unsigned char *p,
                    size_t n)
{
	uint32_t len = n >= 4 ? g32(p) : 0;
	int directory =
	    n >= 4 + len && len >= 3 && memcmp(p + 4 + len - 3, "dir", 3) == 0;

	if (is("silent"))
		return;
	if (is("id"))
		id += 77;
	if (is("frame")) {
		if (write(1, "\177\377\377\377", 4) != 4)
			exit(0);
		return;
	}
	if (is("twice") && type != 3)
		status(id, 0);
	if (is("endown") && type != 3 && type != 17 && type != 7)
		exit(0);
	switch (type) {
	case 3:  /* open */
	case 11: /* opendir */
		begin(102, id);
		if (is("handle")) {
			static const char longhandle[300];

			ostr(longhandle, sizeof(longhandle));
		} else {
			ostr("h", 1);
		}
		end();
		return;
	case 5: /* read: handle, offset, length */
		data(id, (uint64_t)g32(p + 4 + len) << 32 | g32(p + 8 + len),
		     g32(p + 12 + len));
		return;
	case 7:
	case 8:
	case 17: /* lstat fstat stat */
		begin(105, id);
		if (is("attrs"))
			o32(15);
		else if (is("lie") && type == 8)
			attrs(3, 0100644);
		else
			attrs(size_of(), directory ? 040755 : 0100644);
		end();
		return;
	case 12:
		names(id);
		return;
	default:
		status(id, 0);
		return;
	}
}

static int get(void *p, size_t n)
{
	size_t at = 0;

	while (at < n) {
		ssize_t r = read(0, (char *)p + at, n - at);

		if (r <= 0)
			return 0;
		at += (size_t)r;
	}
	return 1;
}

int main(int argc, char **argv)
{
	static unsigned char in[300 * 1024];
	unsigned char head[4];

	mode = argc > 1 ? argv[1] : "";
	while (get(head, 4)) {
		uint32_t n = g32(head);

		if (n < 5 || n > sizeof(in) || !get(in, n))
			return 1;
		if (in[0] == 1) {
			n_out = 0;
			o32(5);
			o8(2);
			o32(3);
			end();
			continue;
		}
		request(in[0], g32(in + 1), in + 5, n - 5);
	}
	return 0;
}
