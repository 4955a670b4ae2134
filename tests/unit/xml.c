/* XML parser: events, limits, refusals, escaping. */
#include "base/xml.h"
#include "base/mem.h"
#include "tap.h"

static int on_start(void *data, struct hga_str name,
                    const struct hga_xml_attr *attrs, size_t n,
                    struct hga_err *err)
{
	int r = hga_buf_addf(data, err, "<%.*s", HGA_STRF(name));

	for (size_t i = 0; i < n && r == 0; i++)
		r = hga_buf_addf(data, err, " %.*s=%.*s",
		                 HGA_STRF(attrs[i].name),
		                 HGA_STRF(attrs[i].value));
	return r < 0 ? r : hga_buf_addc(data, '>', err);
}

static int on_text(void *data, struct hga_str text, struct hga_err *err)
{
	return hga_buf_addstr(data, text, err);
}

static int on_end(void *data, struct hga_str name, struct hga_err *err)
{
	return hga_buf_addf(data, err, "</%.*s>", HGA_STRF(name));
}

static const struct hga_xml_fns fns = {on_start, on_text, on_end};

static int owner(void *data, struct hga_str name,
                 const struct hga_xml_attr *attrs, size_t n,
                 struct hga_err *err)
{
	int r = on_start(data, name, attrs, n, err);

	return r == 0 && hga_str_eqc(name, "o") ? HGA_XML_OWN : r;
}

static const struct hga_xml_fns own_fns = {owner, on_text, on_end};
static char result[4096];

/* own: the text of elements "o" is unseen by expat. */
static const char *parse(bool own, const char *text, size_t n, size_t piece)
{
	struct hga_err err;
	struct hga_xml *x;
	struct hga_buf b;
	int r = 0;

	hga_buf_init(&b, 16 << 20);
	x = hga_xml_new(own ? &own_fns : &fns, &b);
	if (own)
		hga_xml_own_text(x);
	for (size_t i = 0; i < n && r == 0; i += piece)
		r = hga_xml_feed(x, text + i, n - i < piece ? n - i : piece,
		                 &err);
	if (r == 0)
		r = hga_xml_end(x, &err);
	if (r < 0)
		snprintf(result, sizeof(result), "ERROR %s", err.code);
	else
		snprintf(result, sizeof(result), "%s", hga_buf_text(&b));
	hga_xml_free(x);
	hga_buf_release(&b);
	return result;
}

static const char *events(const char *text, size_t n, size_t piece)
{
	return parse(false, text, n, piece);
}

static void parses(const char *text, const char *want, const char *name)
{
	is_str(events(text, strlen(text), 4096), want, name);
	is_str(events(text, strlen(text), 1), want, name);
}

static void test_events(void)
{
	parses("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<a><b>x</b></a>",
	       "<a><b>x</b></a>", "elements");
	parses("<n:a xmlns:n='u'><n:b x:y='1'/></n:a>",
	       "<a xmlns:n=u><b x:y=1></b></a>", "prefixes are cut");
	parses("<a>&lt;&amp;&gt;&quot;&apos;&#65;&#x20ac;</a>",
	       "<a><&>\"'A\xe2\x82\xac</a>", "the five and numeric entities");
	parses("<a><![CDATA[<x>&]]></a>", "<a><x>&</a>", "CDATA");
	parses("<a><!-- no --></a>", "<a></a>", "comments are skipped");
}

static void test_refused(void)
{
	parses("<!DOCTYPE a><a/>", "ERROR Doctype", "DOCTYPE");
	parses("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "ERROR Doctype",
	       "entity");
	parses("<a><?php x?></a>", "ERROR Instruction",
	       "processing instruction");
	parses("<?xml-stylesheet href='x'?><a/>", "ERROR Instruction",
	       "style sheet");
	parses("<a>&unknown;</a>", "ERROR Syntax", "unknown entity");
	parses("<a><b></a></b>", "ERROR Syntax", "crossed tags");
	parses("<a>", "ERROR Syntax", "unfinished");
	parses("", "ERROR Syntax", "empty");
	parses("<a/><b/>", "ERROR Syntax", "second root");
	parses("<a x='1' x='2'/>", "ERROR Syntax", "attribute twice");
	parses("not xml", "ERROR Syntax", "no XML at all");
	is_str(events("<a>\0</a>", 8, 100), "ERROR Syntax", "NUL");
	is_str(events("<a>\xff</a>", 8, 100), "ERROR Syntax", "bad UTF-8");
}

static void test_limits(void)
{
	struct hga_buf b;
	int r = 0;

	hga_buf_init(&b, 64 << 20);
	for (int i = 0; i < 64 && r == 0; i++)
		r = hga_buf_adds(&b, "<a>", NULL);
	for (int i = 0; i < 64 && r == 0; i++)
		r = hga_buf_adds(&b, "</a>", NULL);
	ok(strncmp(events(b.data, b.len, 100), "<a>", 3) == 0, "depth 64");
	hga_buf_clear(&b);
	for (int i = 0; i < 65 && r == 0; i++)
		r = hga_buf_adds(&b, "<a>", NULL);
	is_str(events(b.data, b.len, 100), "ERROR TooDeep", "depth 65");

	hga_buf_clear(&b);
	r = hga_buf_adds(&b, "<a", NULL);
	for (int i = 0; i < 65 && r == 0; i++)
		r = hga_buf_addf(&b, NULL, " x%d='1'", i);
	if (r == 0)
		r = hga_buf_adds(&b, "/>", NULL);
	is_str(events(b.data, b.len, 100), "ERROR TooLarge", "65 attributes");

	hga_buf_clear(&b);
	r = hga_buf_adds(&b, "<a>", NULL);
	for (int i = 0; i < 1024 && r == 0; i++)
		r = hga_buf_addf(&b, NULL, "%01024d", i);
	ok(hga_buf_adds(&b, "</a>", NULL) == 0 &&
	       strncmp(events(b.data, b.len, 4096), "<a>0", 4) == 0,
	   "text of 1 MiB");
	hga_buf_truncate(&b, b.len - 4);
	is_int(hga_buf_adds(&b, "x</a>", NULL), 0, "one byte more");
	is_str(events(b.data, b.len, 4096), "ERROR TooLarge",
	       "text over 1 MiB");

	hga_buf_clear(&b);
	r = hga_buf_adds(&b, "<a><!--", NULL);
	for (int i = 0; i < 4096 && r == 0; i++)
		r = hga_buf_addf(&b, NULL, "%01024d", i);
	is_str(events(b.data, b.len, 65536), "ERROR TooLarge",
	       "a comment without end");
	is_int(r, 0, "texts were made");
	hga_buf_release(&b);
}

static int refuse(void *data, struct hga_str name, struct hga_err *err)
{
	(void)data;
	(void)name;
	return hga_fail(err, HGA_TASK, 0, "Mine", "stop here");
}

static void test_callback(void)
{
	static const struct hga_xml_fns stop = {NULL, NULL, refuse};
	struct hga_xml *x = hga_xml_new(&stop, NULL);
	struct hga_err err;

	is_int(hga_xml_feed(x, "<a><b/><c/>", 11, &err), -HGA_TASK,
	       "a callback's failure comes out");
	is_str(err.code, "Mine", "as it was");
	is_int(hga_xml_feed(x, "</a>", 4, &err), -HGA_TASK, "and stays");
	hga_xml_free(x);
}

static const char *owned(const char *text, size_t n, size_t piece)
{
	return parse(true, text, n, piece);
}

static void test_own(void)
{
	static const char *const docs[] = {
	    "<a>1<o>QUJD</o>2<o/>3<o></o>4</a>",
	    "<a><o>QU<x>in</x>JD</o></a>",
	    "<a><o n='1>2'>A&amp;B&#65;C</o><o>D</o></a>",
	    "<a><o><!-- <o> -->AB<!-- - > -->CD</o></a>",
	    "<o><o>1</o>2<p>3</p>4</o>",
	    "<a><o><![CDATA[x<y>]]>z</o></a>",
	    "<a><o>AB</p></a>",
	    "<a><o>AB",
	};
	static const char wide[] = "\xfe\xff\0<\0o\0>\0A\0B\0<\0/\0o\0>";
	char want[sizeof(result)];

	for (size_t i = 0; i < sizeof(docs) / sizeof(docs[0]); i++)
		for (size_t piece = 1; piece < 12; piece++) {
			size_t n = strlen(docs[i]);

			snprintf(want, sizeof(want), "%s",
			         events(docs[i], n, piece));
			is_str(owned(docs[i], n, piece), want, docs[i]);
		}
	is_str(owned(wide, sizeof(wide) - 1, 30), "<o>AB</o>", "16-bit units");
	/* the callback's to refuse; expat never sees it */
	is_str(owned("<o>\x01</o>", 8, 8), "<o>\x01</o>", "own means unseen");
	is_str(events("<o>\x01</o>", 8, 8), "ERROR Syntax", "else seen");
}

static void test_escape(void)
{
	struct hga_buf b;

	hga_buf_init(&b, 1000);
	is_int(
	    hga_xml_escape(&b, HGA_STR("a<b>&\"'\r\n\x01\xff\xc3\xa4"), NULL),
	    0, "escape");
	is_str(hga_buf_text(&b),
	       "a&lt;b&gt;&amp;&quot;&apos;&#13;\n\xef\xbf\xbd\xef\xbf\xbd"
	       "\xc3\xa4",
	       "its text");
	hga_buf_release(&b);
}

int main(void)
{
	test_events();
	test_refused();
	test_limits();
	test_callback();
	test_own();
	test_escape();
	return done();
}
