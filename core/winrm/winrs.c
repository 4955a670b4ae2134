/*
 * Bodies of shell requests ([MS-WSMV] 2.2.4).
 */
#include "winrm/winrs.h"

#include "base/xml.h"

#include <string.h>

#define BODY_MAX ((size_t)32 * 1024 * 1024)
#define SAMPLE_ID "00000000-0000-0000-0000-000000000000"

/* A request being written; the first failure sticks. */
struct out {
	struct hga_buf *b;
	struct hga_err *err;
	int r;
};

static void raw(struct out *o, const char *s)
{
	if (o->r == 0)
		o->r = hga_buf_adds(o->b, s, o->err);
}

static void text(struct out *o, struct hga_str s)
{
	if (o->r == 0)
		o->r = hga_xml_escape(o->b, s, o->err);
}

static void b64(struct out *o, struct hga_str s)
{
	if (o->r == 0)
		o->r = hga_b64_encode(o->b, s.s, s.n, o->err);
}

/* <rsp:TAG>text</rsp:TAG>, nothing when it is empty. */
static void element(struct out *o, const char *tag, struct hga_str s)
{
	if (s.n == 0)
		return;
	raw(o, "<rsp:");
	raw(o, tag);
	raw(o, ">");
	text(o, s);
	raw(o, "</rsp:");
	raw(o, tag);
	raw(o, ">");
}

static void attribute(struct out *o, const char *name, struct hga_str s)
{
	if (s.n == 0)
		return;
	raw(o, " ");
	raw(o, name);
	raw(o, "=\"");
	text(o, s);
	raw(o, "\"");
}

static void option(struct hga_wsman_req *q, const char *name,
                   struct hga_str value, bool must)
{
	struct hga_wsman_option *p = &q->options[q->n_options++];

	p->name = name;
	p->value = value;
	p->must = must;
}

static void create(const struct hga_winrs_req *in, struct hga_wsman_req *q,
                   struct out *o)
{
	if (in->version.n > 0)
		option(q, "protocolversion", in->version, true);
	if (in->codepage.n > 0)
		option(q, "WINRS_CODEPAGE", in->codepage, true);
	if (in->no_profile)
		option(q, "WINRS_NOPROFILE", HGA_STR("TRUE"), true);
	raw(o, "<rsp:Shell");
	attribute(o, "ShellId", in->pool);
	raw(o, ">");
	element(o, "InputStreams", in->inputs);
	element(o, "OutputStreams", in->outputs);
	if (in->n_env > 0) {
		raw(o, "<rsp:Environment>");
		for (size_t i = 0; i < in->n_env; i++) {
			raw(o, "<rsp:Variable");
			attribute(o, "Name", in->env[2 * i]);
			raw(o, ">");
			text(o, in->env[2 * i + 1]);
			raw(o, "</rsp:Variable>");
		}
		raw(o, "</rsp:Environment>");
	}
	if (in->idle_s > 0 && o->r == 0)
		o->r = hga_buf_addf(
		    o->b, o->err, "<rsp:IdleTimeOut>PT%lldS</rsp:IdleTimeOut>",
		    (long long)in->idle_s);
	element(o, "Lifetime", in->lifetime);
	element(o, "Name", in->name);
	element(o, "WorkingDirectory", in->cwd);
	if (in->creation.n > 0) {
		raw(o, "<creationXml xmlns=\"" HGA_WSMAN_NS_PS "\">");
		b64(o, in->creation);
		raw(o, "</creationXml>");
	}
	raw(o, "</rsp:Shell>");
}

static void command(const struct hga_winrs_req *in, struct hga_wsman_req *q,
                    struct out *o)
{
	if (in->is_cmd)
		option(q, "WINRS_CONSOLEMODE_STDIN",
		       hga_str(in->console_stdin ? "TRUE" : "FALSE"), false);
	option(q, "WINRS_SKIP_CMD_SHELL",
	       hga_str(in->skip_shell ? "TRUE" : "FALSE"), false);
	raw(o, "<rsp:CommandLine");
	attribute(o, "CommandId", in->command);
	raw(o, "><rsp:Command>");
	text(o, in->line);
	raw(o, "</rsp:Command>");
	for (size_t i = 0; i < in->n_args; i++) {
		raw(o, "<rsp:Arguments>");
		text(o, in->args[i]);
		raw(o, "</rsp:Arguments>");
	}
	if (in->first.n > 0) {
		raw(o, "<rsp:Arguments>");
		b64(o, in->first);
		raw(o, "</rsp:Arguments>");
	}
	raw(o, "</rsp:CommandLine>");
}

static void send(const struct hga_winrs_req *in, struct out *o)
{
	raw(o, "<rsp:Send><rsp:Stream");
	attribute(o, "Name", in->stream.n > 0 ? in->stream : HGA_STR("stdin"));
	attribute(o, "CommandId", in->command);
	if (in->end)
		raw(o, " End=\"true\"");
	raw(o, ">");
	b64(o, in->data);
	raw(o, "</rsp:Stream></rsp:Send>");
}

static void receive(const struct hga_winrs_req *in, struct hga_wsman_req *q,
                    struct out *o)
{
	option(q, "WSMAN_CMDSHELL_OPTION_KEEPALIVE", HGA_STR("True"), false);
	raw(o, "<rsp:Receive><rsp:DesiredStream");
	attribute(o, "CommandId", in->command);
	raw(o, ">");
	text(o, in->streams);
	raw(o, "</rsp:DesiredStream></rsp:Receive>");
}

static void signal_(const struct hga_winrs_req *in, struct out *o)
{
	raw(o, "<rsp:Signal");
	attribute(o, "CommandId", in->command);
	raw(o, "><rsp:Code>");
	text(o, in->code);
	raw(o, "</rsp:Code></rsp:Signal>");
}

int hga_winrs_write(const struct hga_winrs_req *in, struct hga_wsman_req *out,
                    struct hga_err *err)
{
	struct out o = {&out->body, err, 0};

	out->action = in->action;
	out->resource = in->resource;
	out->shell = in->shell;
	out->envelope = in->envelope;
	out->n_options = 0;
	hga_buf_init(&out->body, BODY_MAX);
	switch (in->action) {
	case HGA_WSMAN_CREATE:
		create(in, out, &o);
		break;
	case HGA_WSMAN_COMMAND:
		command(in, out, &o);
		break;
	case HGA_WSMAN_SEND:
		send(in, &o);
		break;
	case HGA_WSMAN_RECEIVE:
		receive(in, out, &o);
		break;
	case HGA_WSMAN_SIGNAL:
		signal_(in, &o);
		break;
	case HGA_WSMAN_GET:
	case HGA_WSMAN_DELETE:
		break;
	}
	if (o.r < 0)
		hga_buf_release_secret(&out->body);
	return o.r;
}

size_t hga_winrs_payload(const struct hga_wsman_head *h,
                         struct hga_str resource, size_t envelope)
{
	struct hga_winrs_req in = {
	    .action = HGA_WSMAN_SEND,
	    .resource = resource,
	    .shell = HGA_STR(SAMPLE_ID),
	    .command = HGA_STR(SAMPLE_ID),
	    .envelope = envelope,
	};
	struct hga_wsman_req q;
	struct hga_buf out;
	size_t used, whole = envelope > 0 ? envelope : h->envelope;

	hga_buf_init(&out, 65536);
	if (hga_winrs_write(&in, &q, NULL) < 0)
		return 0;
	if (hga_wsman_envelope(h, &q, SAMPLE_ID, &out, NULL) < 0)
		out.len = whole;
	used = out.len + 256;
	hga_buf_release(&out);
	hga_buf_release(&q.body);
	return whole > used ? (whole - used) / 4 * 3 : 0;
}

static bool needs_quotes(struct hga_str arg)
{
	if (arg.n == 0)
		return true;
	for (size_t i = 0; i < arg.n; i++)
		if (arg.s[i] == ' ' || arg.s[i] == '\t' || arg.s[i] == '"')
			return true;
	return false;
}

int hga_winrs_quote(struct hga_buf *out, struct hga_str arg,
                    struct hga_err *err)
{
	struct out o = {out, err, 0};
	size_t slashes = 0;

	if (memchr(arg.n ? arg.s : "", '\0', arg.n) != NULL)
		return hga_fail(err, HGA_USAGE, 0, "Nul",
		                "an argument of a command cannot hold NUL");
	if (!needs_quotes(arg))
		return hga_buf_addstr(out, arg, err);
	raw(&o, "\"");
	for (size_t i = 0; i < arg.n && o.r == 0; i++) {
		char c = arg.s[i];

		if (c == '"') /* double those before, and one for it */
			for (slashes++; slashes > 0; slashes--)
				raw(&o, "\\");
		slashes = c == '\\' ? slashes + 1 : 0;
		if (o.r == 0)
			o.r = hga_buf_addc(out, c, err);
	}
	for (; slashes > 0; slashes--)
		raw(&o, "\\");
	raw(&o, "\"");
	return o.r;
}

size_t hga_winrs_whole(struct hga_str s)
{
	size_t back = 1;

	while (back <= 3 && back <= s.n) {
		unsigned char c = (unsigned char)s.s[s.n - back];
		size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

		if (c >= 0x80 && c < 0xc0) {
			back++;
			continue;
		}
		return need > back ? s.n - back : s.n;
	}
	return s.n;
}
