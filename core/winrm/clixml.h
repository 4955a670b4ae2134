/*
 * CLIXML, the serialisation of PowerShell remoting ([MS-PSRP] 2.2.5).
 *
 * Reading gives a tape (base/val.h) in the neutral form, without loss:
 * null; a map {t=TAG, v=...} for a primitive (text unescaped, integers and
 * booleans as such, all else the text of the element); {t="Ref", id=}; and
 * {t="Obj", id=, types=[], str=, props={}, ext={}, base=, kind=, list=[] |
 * dict=[[key, value]...]} where ext is MS.  Type references are resolved.
 * Writing takes plain values, or a marked map (hga_clixml_mark) with a value
 * in the neutral form.
 * Limits: 10^6 elements, 64 MiB of text, depth 64 (32 when writing); no
 * document types.  Errors are -HGA_PROTOCOL "Malformed" when reading,
 * -HGA_USAGE when writing; no content is quoted.
 */
#ifndef HGA_WINRM_CLIXML_H
#define HGA_WINRM_CLIXML_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "base/val.h"

#include <stdbool.h>

#define HGA_CLIXML_TEXT ((size_t)64 * 1024 * 1024)
#define HGA_CLIXML_NODES 1000000u
#define HGA_CLIXML_WRITE_DEPTH 32u

/* Key of the only member of a map that holds a neutral value; begins with a
 * byte no name of a peer can have. */
#define HGA_CLIXML_MARK "\001clixml"

/* Undoes _xHHHH_ groups; a lone surrogate becomes U+FFFD. */
int hga_clixml_unescape(struct hga_buf *out, struct hga_str text,
                        struct hga_err *err) HGA_MUST_USE;
/* Writes groups for what XML cannot carry, then escapes for XML.  Text that
 * is not UTF-8: -HGA_USAGE "Utf8". */
int hga_clixml_escape(struct hga_buf *out, struct hga_str text,
                      struct hga_err *err) HGA_MUST_USE;

/* Appends one document (with or without a byte order mark) to an empty tape;
 * a root Objs gives the list of what it holds; no bytes: null. */
int hga_clixml_read(struct hga_str xml, struct hga_vtape *out,
                    struct hga_err *err) HGA_MUST_USE;

/*
 * What powershell.exe writes to a redirected stderr: "#< CLIXML", then a
 * document.  Appends the text of its error strings; any other text as it is.
 */
int hga_clixml_stderr(struct hga_str text, struct hga_buf *out,
                      struct hga_err *err) HGA_MUST_USE;

/* A document being written: RefIds and type ids count from 0.  The first
 * failure sticks in r and err; later calls do nothing. */
struct hga_clixml_w {
	struct hga_buf *out;
	unsigned next_ref, next_tn, depth;
	struct hga_buf types; /* known lists: text, each ended by NUL */
	int r;
	struct hga_err err;
};

void hga_cw_init(struct hga_clixml_w *w, struct hga_buf *out);
void hga_cw_release(struct hga_clixml_w *w);
/* Literal markup of ours. */
void hga_cw_raw(struct hga_clixml_w *w, const char *xml);
/* <Obj RefId= N=>; name NULL: none. */
void hga_cw_open(struct hga_clixml_w *w, const char *name);
void hga_cw_close(struct hga_clixml_w *w);
/* TN or, when that list was written before, TNRef. types: "A\nB\nC". */
void hga_cw_types(struct hga_clixml_w *w, const char *types);
void hga_cw_text(struct hga_clixml_w *w, const char *tag, const char *name,
                 struct hga_str text);
void hga_cw_int(struct hga_clixml_w *w, const char *tag, const char *name,
                int64_t v);
void hga_cw_bool(struct hga_clixml_w *w, const char *name, bool v);
void hga_cw_nil(struct hga_clixml_w *w, const char *name);
/* type: after "System.Management.Automation." */
void hga_cw_enum(struct hga_clixml_w *w, const char *name, const char *type,
                 const char *text, int v);
/* A plain value: string S, integer I32 or I64, number Db, boolean B, null
 * Nil, blob BA, list System.Object[], map (keys sorted) Hashtable. */
void hga_cw_value(struct hga_clixml_w *w, const char *name, struct hga_val v);

/* One value as a document. */
int hga_clixml_write(struct hga_val v, struct hga_buf *out,
                     struct hga_err *err) HGA_MUST_USE;
/* One value in the neutral form as a document. */
int hga_clixml_write_typed(struct hga_val v, struct hga_buf *out,
                           struct hga_err *err) HGA_MUST_USE;

#endif
