/* CLIXML: escapes, primitives, objects, references; what is malformed. */
#include "base/mem.h"
#include "winrm/clixml.h"

#include "tap.h"

static struct hga_err err;

static struct hga_vtape *read_xml(const char *xml)
{
	struct hga_vtape *t = hga_vtape_new(NULL, 1 << 24);

	if (hga_clixml_read(hga_str(xml), t, &err) == 0)
		return t;
	hga_vtape_free(t);
	return NULL;
}

static void is_prim(const char *xml, const char *tag, const char *want)
{
	struct hga_vtape *t = read_xml(xml);
	struct hga_val v = t ? hga_vtape_root(t) : (struct hga_val){NULL, 0};
	struct hga_str tagv, text;
	char number[32];

	if (!ok(t != NULL, "%s is read", xml))
		return;
	tagv = hga_val_str(hga_val_get(v, "t"));
	v = hga_val_get(v, "v");
	if (hga_val_is(v, HGA_V_INT)) {
		snprintf(number, sizeof(number), "%lld",
		         (long long)hga_val_int(v, 0));
		text = hga_str(number);
	} else if (hga_val_is(v, HGA_V_BOOL)) {
		text = hga_str(hga_val_bool(v, false) ? "true" : "false");
	} else {
		text = hga_val_str(v);
	}
	ok(hga_str_eqc(tagv, tag) && hga_str_eqc(text, want), "%s gives %s %s",
	   xml, tag, want);
	hga_vtape_free(t);
}

static void primitives(void)
{
	is_prim("<S>a_x000A_b</S>", "S", "a\nb");
	is_prim("<SBK>$x</SBK>", "SBK", "$x");
	is_prim("<XD>&lt;a/&gt;</XD>", "XD", "<a/>");
	is_prim("<URI>http://h/</URI>", "URI", "http://h/");
	is_prim("<By>255</By>", "By", "255");
	is_prim("<SB>-128</SB>", "SB", "-128");
	is_prim("<I16>-32768</I16>", "I16", "-32768");
	is_prim("<U16>65535</U16>", "U16", "65535");
	is_prim("<U32>4294967295</U32>", "U32", "4294967295");
	is_prim("<I64>-9223372036854775808</I64>", "I64",
	        "-9223372036854775808");
	is_prim("<U64>18446744073709551615</U64>", "U64",
	        "18446744073709551615");
	is_prim("<Db>-INF</Db>", "Db", "-INF");
	is_prim("<Sg>10.0323</Sg>", "Sg", "10.0323");
	is_prim("<D>1.10</D>", "D", "1.10");
	is_prim("<C>97</C>", "C", "97");
	is_prim("<TS>PT1M</TS>", "TS", "PT1M");
	is_prim("<BA>AQID</BA>", "BA", "AQID");
	is_prim("<B>true</B>", "B", "true");
	is_prim("<Version>5.1.2</Version>", "Version", "5.1.2");
}

static void escapes(void)
{
	static const struct {
		const char *plain, *xml;
	} pairs[] = {
	    {"a_b", "a_b"},
	    {"a_x0041_", "a_x005F_x0041_"},
	    {"_X", "_x005F_X"},
	    {"\t\n\x7f", "_x0009__x000A__x007F_"},
	    {"\xf0\x9d\x84\x9e", "_xD834__xDD1E_"},
	    {"<&>", "&lt;&amp;&gt;"},
	};
	struct hga_buf b;

	hga_buf_init(&b, 1000);
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		hga_buf_clear(&b);
		ok(hga_clixml_escape(&b, hga_str(pairs[i].plain), &err) == 0,
		   "text %zu is written", i);
		is_str(hga_buf_text(&b), pairs[i].xml, "as expected");
	}
	hga_buf_clear(&b);
	ok(hga_clixml_unescape(&b, HGA_STR("_xD834_a_xDD1E__x00E9_"), &err) ==
	       0,
	   "lone surrogates are read");
	is_str(hga_buf_text(&b),
	       "\xef\xbf\xbd"
	       "a\xef\xbf\xbd\xc3\xa9",
	       "as replacement characters");
	ok(hga_clixml_escape(&b, HGA_STR("\xff"), &err) == -HGA_USAGE,
	   "text that is not UTF-8 is refused");
	hga_buf_release(&b);
}

static void objects(void)
{
	struct hga_vtape *t = read_xml(
	    "\xef\xbb\xbf<Obj RefId=\"0\"><TN RefId=\"0\"><T>A</T><T>B</T></TN>"
	    "<ToString>text</ToString><Props><S N=\"p_x0020_q\">1</S></Props>"
	    "<MS><Obj N=\"o\" RefId=\"1\"><TNRef RefId=\"0\"/><STK><I32>1</I32>"
	    "<Nil/></STK></Obj><Ref N=\"r\" RefId=\"1\"/></MS></Obj>");
	struct hga_val v, ext;

	if (!ok(t != NULL, "an object with a byte order mark is read"))
		return;
	v = hga_vtape_root(t);
	ext = hga_val_get(v, "ext");
	ok(hga_str_eqc(hga_val_str(hga_val_get(v, "str")), "text"), "text");
	ok(hga_str_eqc(hga_val_str(hga_val_get(
	                   hga_val_get(hga_val_get(v, "props"), "p q"), "v")),
	               "1"),
	   "a property with an escaped name");
	ok(hga_str_eqc(hga_val_str(hga_val_at(
	                   hga_val_get(hga_val_get(ext, "o"), "types"), 1)),
	               "B"),
	   "a reference to a type list is resolved");
	ok(hga_val_count(hga_val_get(hga_val_get(ext, "o"), "list")) == 2,
	   "a stack");
	ok(hga_str_eqc(hga_val_str(hga_val_get(hga_val_get(ext, "r"), "t")),
	               "Ref"),
	   "a reference");
	hga_vtape_free(t);
}

static void malformed(void)
{
	static const char *const bad[] = {
	    "<Obj RefId=\"0\"><TNRef RefId=\"7\"/></Obj>",
	    "<I32>x</I32>",
	    "<B>maybe</B>",
	    "<S><S>a</S></S>",
	    "<Obj RefId=\"0\"><DCT><S>a</S></DCT></Obj>",
	    "<Obj RefId=\"0\"><DCT><En><S N=\"Key\">a</S></En></DCT></Obj>",
	    "<Obj RefId=\"0\"><DCT><En><S N=\"Value\">a</S></En></DCT></Obj>",
	    "<Obj RefId=\"0\"><TN RefId=\"0\"><S>a</S></TN></Obj>",
	    "<!DOCTYPE a [<!ENTITY b \"c\">]><S>&b;</S>",
	    "<S>a",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct hga_vtape *t = read_xml(bad[i]);

		ok(t == NULL && err.kind == HGA_PROTOCOL, "refused: %s",
		   bad[i]);
		hga_vtape_free(t);
	}
}

static void round_trip(void)
{
	static const char xml[] =
	    "<Obj RefId=\"0\"><TN RefId=\"0\"><T>System.Collections.Hashtable"
	    "</T><T>System.Object</T></TN><DCT><En><S N=\"Key\">a</S>"
	    "<I64 N=\"Value\">4294967296</I64></En><En><S N=\"Key\">b</S>"
	    "<Nil N=\"Value\"/></En></DCT></Obj>";
	struct hga_vtape *t = hga_vtape_new(NULL, 1 << 20), *u;
	struct hga_buf b;

	hga_buf_init(&b, 1 << 20);
	hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	hga_vt_key(t, HGA_STR("b"));
	hga_vt_null(t, HGA_NO_NAME);
	hga_vt_key(t, HGA_STR("a"));
	hga_vt_int(t, HGA_NO_NAME, 4294967296);
	hga_vt_close(t);
	ok(hga_clixml_write(hga_vtape_root(t), &b, &err) == 0,
	   "a map is written");
	is_str(hga_buf_text(&b), xml, "its keys sorted, integers by range");
	hga_vtape_free(t);
	u = read_xml(hga_buf_text(&b));
	hga_buf_clear(&b);
	ok(u != NULL &&
	       hga_clixml_write_typed(hga_vtape_root(u), &b, &err) == 0,
	   "what was read is written again");
	is_str(hga_buf_text(&b), xml, "the same");
	hga_vtape_free(u);
	hga_buf_release(&b);
}

static void torture(void)
{
	static const char xml[] =
	    "<Obj RefId=\"0\"><TN RefId=\"0\"><T>A</T></TN><LST><S>a</S><Obj "
	    "RefId=\"1\"><TNRef RefId=\"0\"/></Obj></LST></Obj>";
	int failed = 0, done_at = 0;

	for (unsigned long n = 1; n < 500 && done_at == 0; n++) {
		struct hga_vtape *t;
		int r = -HGA_MEMORY;

		hga_mem_torture(n, false);
		t = hga_vtape_new(NULL, 1 << 20);
		if (t != NULL)
			r = hga_clixml_read(hga_str(xml), t, &err);
		hga_mem_torture(0, false);
		hga_vtape_free(t);
		if (r == 0)
			done_at = (int)n;
		else if (r != -HGA_MEMORY)
			failed++;
	}
	ok(failed == 0 && done_at > 3,
	   "each failing allocation is reported as such (%d)", done_at);
}

int main(void)
{
	primitives();
	escapes();
	objects();
	malformed();
	round_trip();
	torture();
	return done();
}
