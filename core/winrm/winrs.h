/*
 * Requests of remote shells ([MS-WSMV] 3.1.4): the command shell (WinRS) and
 * the transport of PowerShell pipelines.  Only writes; calls are wsman.h's.
 */
#ifndef HGA_WINRM_WINRS_H
#define HGA_WINRM_WINRS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "winrm/wsman.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HGA_WINRS_CMD HGA_WSMAN_NS_SHELL "/cmd"
#define HGA_WINRS_LINE_MAX 8000u  /* of cmd.exe: 8191 */
#define HGA_WINRS_ARGV_MAX 32000u /* of CreateProcess: 32767 */

/* Absent parts: empty views, zero. */
struct hga_winrs_req {
	enum hga_wsman_action action;
	struct hga_str resource, shell;
	size_t envelope;
	/* Create */
	struct hga_str inputs, outputs; /* stream names */
	const struct hga_str *env;      /* name, value, name, value ... */
	size_t n_env;                   /* pairs */
	struct hga_str cwd, name, lifetime, codepage, version;
	struct hga_str pool;     /* ShellId chosen by us */
	struct hga_str creation; /* fragments */
	int64_t idle_s;
	bool no_profile;
	/* Command, Send, Receive, Signal */
	struct hga_str command; /* CommandId */
	struct hga_str line;
	const struct hga_str *args;
	size_t n_args;
	struct hga_str first; /* fragments, instead of args */
	bool skip_shell, console_stdin, is_cmd;
	struct hga_str stream, data, streams, code;
	bool end;
};

/* Fills out (zeroed); on failure nothing is kept in it. */
int hga_winrs_write(const struct hga_winrs_req *in, struct hga_wsman_req *out,
                    struct hga_err *err) HGA_MUST_USE;

/* Raw bytes that fit into one Send to that resource with an envelope of that
 * size; 0: none do. */
size_t hga_winrs_payload(const struct hga_wsman_head *h,
                         struct hga_str resource, size_t envelope);

/* Appends arg quoted as the C runtime of Windows takes it apart. */
int hga_winrs_quote(struct hga_buf *out, struct hga_str arg,
                    struct hga_err *err) HGA_MUST_USE;

/* Bytes of whole UTF-8 characters at the front of s: the rest may be the
 * beginning of one that was cut. */
size_t hga_winrs_whole(struct hga_str s);

#endif
