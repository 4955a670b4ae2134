/* WSMan: envelopes, sizes, answers, faults; quoting; what is refused. */
#include "base/mem.h"
#include "winrm/winrs.h"
#include "winrm/wsman.h"

#include "tap.h"

static struct hga_err err;
static const struct hga_wsman_head head = {
    {"https://hgauto:5986/wsman", 25},
    {"11111111-2222-3333-4444-555555555555", 36},
    153600,
    20000};

static void sizes(void)
{
	struct hga_str cmd = HGA_STR(HGA_WINRS_CMD);
	size_t n = hga_winrs_payload(&head, cmd, 0);

	ok(n > 113900 - 300 && n < 113900 + 300, "153600: %zu raw bytes", n);
	n = hga_winrs_payload(&head, cmd, 512000);
	ok(n > 382700 - 300 && n < 382700 + 300, "512000: %zu raw bytes", n);
	n = hga_winrs_payload(&head, cmd, 4 << 20);
	ok(n > 3144400 - 300 && n < 3144400 + 300, "4 MiB: %zu raw bytes", n);
	is_int((long long)hga_winrs_payload(&head, cmd, 1000), 0,
	       "an envelope without room");
}

static void send_fits(void)
{
	static char bytes[200000];
	size_t n = hga_winrs_payload(&head, HGA_STR(HGA_WINRS_CMD), 0);
	struct hga_winrs_req in = {
	    .action = HGA_WSMAN_SEND,
	    .resource = HGA_STR(HGA_WINRS_CMD),
	    .shell = HGA_STR("11111111-2222-3333-4444-555555555555"),
	    .command = HGA_STR("11111111-2222-3333-4444-555555555555"),
	    .end = true,
	};
	struct hga_wsman_req q;
	struct hga_buf out;

	hga_buf_init(&out, 1 << 20);
	in.data = hga_strn(bytes, n);
	ok(hga_winrs_write(&in, &q, &err) == 0 &&
	       hga_wsman_envelope(&head, &q, "id", &out, &err) == 0,
	   "a full Send is written");
	ok(out.len <= 153600 && out.len > 153600 - 400,
	   "it fills the envelope (%zu bytes)", out.len);
	hga_buf_release(&q.body);
	hga_buf_release(&out);
}

static void quoting(void)
{
	static const char *const pairs[][2] = {
	    {"plain", "plain"},
	    {"", "\"\""},
	    {"a b", "\"a b\""},
	    {"C:\\x\\", "C:\\x\\"},
	    {"C:\\a b\\", "\"C:\\a b\\\\\""},
	    {"say \"hi\"", "\"say \\\"hi\\\"\""},
	    {"a\\\"b", "\"a\\\\\\\"b\""},
	    {"%PATH%&x", "%PATH%&x"},
	};
	struct hga_buf b;

	hga_buf_init(&b, 1000);
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		hga_buf_clear(&b);
		if (hga_winrs_quote(&b, hga_str(pairs[i][0]), &err) < 0)
			hga_buf_clear(&b);
		is_str(hga_buf_text(&b), pairs[i][1], pairs[i][0]);
	}
	ok(hga_winrs_quote(&b, hga_strn("a\0b", 3), &err) == -HGA_USAGE,
	   "NUL is refused");
	hga_buf_release(&b);
	is_int((long long)hga_winrs_whole(HGA_STR("a\xc3\xa9")), 3, "whole");
	is_int((long long)hga_winrs_whole(HGA_STR("a\xe2\x82")), 1, "cut");
	is_int((long long)hga_winrs_whole(HGA_STR("\x80\x80\x80\x80")), 4,
	       "no UTF-8 at all is not held back");
}

static int read_answer(struct hga_wsman_resp *r, const char *xml, size_t step)
{
	size_t n = strlen(xml);
	int rc = 0;

	hga_wsman_resp_init(r);
	for (size_t i = 0; i < n && rc == 0; i += step)
		rc = hga_wsman_resp_feed(r, xml + i,
		                         n - i < step ? n - i : step, &err);
	return rc < 0 ? rc : hga_wsman_resp_end(r, &err);
}

#define ENV(body)                                                              \
	"<s:Envelope xmlns:s=\"u\" xmlns:a=\"v\" xmlns:w=\"w\"><s:Header>"     \
	"<a:RelatesTo>uuid:AB</a:RelatesTo></s:Header><s:Body>" body           \
	"</s:Body></s:Envelope>"

static void answers(void)
{
	static const char receive[] = ENV(
	    "<x:ReceiveResponse xmlns:x=\"y\"><x:Stream Name=\"stdout\" "
	    "CommandId=\"C\">aGk=</x:Stream><x:Stream Name=\"stderr\">ZQ==</"
	    "x:Stream><x:Stream Name=\"stdout\" End=\"true\"></x:Stream>"
	    "<x:CommandState State=\"http://s/CommandState/Done\"><x:ExitCode>"
	    "3221225477</x:ExitCode></x:CommandState></x:ReceiveResponse>");
	struct hga_wsman_resp r;

	for (size_t step = 1; step < 4; step++) {
		is_int(read_answer(&r, receive, step), 0, "an answer in bytes");
		is_str(r.relates, "uuid:AB", "what it answers");
		is_str(hga_buf_text(&r.data), "hie", "decoded streams");
		ok(r.n_streams == 3 && r.streams[2].end &&
		       strcmp(r.streams[1].name, "stderr") == 0,
		   "three streams");
		is_str(r.state, "Done", "state");
		ok(r.has_exit && r.exit_code == 0xc0000005, "exit code");
		hga_wsman_resp_release(&r);
	}
	for (size_t step = 1; step < 9; step++) {
		is_int(
		    read_answer(&r,
		                ENV("<x><Stream>YWJj ZGVm\nZ2hp aml="
		                    "</Stream><Stream>YWJjZGVm</Stream></x>"),
		                step),
		    0, "blanks inside base64");
		is_str(hga_buf_text(&r.data), "abcdefghijiabcdef", "decoded");
		hga_wsman_resp_release(&r);
	}
	ok(read_answer(&r, ENV("<x><Stream>YW==YWJj</Stream></x>"), 3) ==
	       -HGA_PROTOCOL,
	   "padding inside");
	hga_wsman_resp_release(&r);
	ok(read_answer(&r, ENV("<x><Stream>YWJjZ</Stream></x>"), 3) ==
	       -HGA_PROTOCOL,
	   "a group that is cut");
	hga_wsman_resp_release(&r);
	ok(read_answer(&r, ENV("<x><Stream>*</Stream></x>"), 100) ==
	       -HGA_PROTOCOL,
	   "a stream that is not base64");
	hga_wsman_resp_release(&r);
	ok(read_answer(&r, "<html><p>no</html>", 100) == -HGA_PROTOCOL,
	   "an error page");
	hga_wsman_resp_release(&r);
	ok(read_answer(&r, "<!DOCTYPE a><a/>", 100) == -HGA_PROTOCOL,
	   "a document type");
	hga_wsman_resp_release(&r);
}

static void faults(void)
{
	static const char fault[] =
	    ENV("<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode>"
	        "<s:Value>w:InvalidSelectors</s:Value></s:Subcode></s:Code>"
	        "<s:Reason><s:Text>reason</s:Text></s:Reason><s:Detail>"
	        "<f:WSManFault xmlns:f=\"f\" Code=\"2150858843\"><f:Message>"
	        "%s</f:Message></f:WSManFault></s:Detail></s:Fault>");
	char text[2000];
	struct hga_wsman_resp r;

	snprintf(text, sizeof(text), fault, " plain ");
	is_int(read_answer(&r, text, 7), 0, "a fault is read");
	ok(r.fault && r.has_code && r.code == 2150858843u, "its code");
	is_str(r.subcode, "w:InvalidSelectors", "its subcode");
	ok(hga_str_eqc(hga_wsman_fault_text(&r), "plain"), "its message");
	hga_wsman_resp_release(&r);
	snprintf(text, sizeof(text), fault,
	         "<f:ProviderFault provider=\"p\" path=\"q\"><f:WSManFault "
	         "Code=\"5\"><f:Message>inner</f:Message></f:WSManFault>"
	         "</f:ProviderFault>");
	is_int(read_answer(&r, text, 7), 0, "a provider's fault is read");
	ok(r.code == 2150858843u, "the outer code counts");
	ok(hga_str_eqc(hga_wsman_fault_text(&r), "inner"),
	   "the provider's text says most");
	is_str(r.provider, "p", "provider");
	hga_wsman_resp_release(&r);
}

static void refused(void)
{
	struct hga_loop *loop = hga_loop_new(&err);
	struct hga_wsman *s = NULL;
	struct hga_wsman_opts o = {
	    .host = "10.0.0.1",
	    .port = 5985,
	    .user = HGA_STR("u"),
	    .password = HGA_STR("p"),
	};

	ok(hga_wsman_open(loop, &o, &s, &err) == -HGA_USAGE &&
	       strcmp(err.code, "Plaintext") == 0,
	   "plain HTTP is not the default");
	o.https = true;
	ok(hga_wsman_open(loop, &o, &s, &err) == -HGA_USAGE &&
	       strcmp(err.code, "TlsIdentity") == 0,
	   "TLS without an identity");
	o.insecure = true;
	ok(hga_wsman_open(loop, &o, &s, &err) == -HGA_USAGE,
	   "insecure is for loopback only");
	o.host = "127.0.0.1";
	ok(hga_wsman_open(loop, &o, &s, &err) == 0, "there it is allowed");
	hga_wsman_close(s);
	hga_loop_free(loop);
}

int main(void)
{
	sizes();
	send_fits();
	quoting();
	answers();
	faults();
	refused();
	return done();
}
