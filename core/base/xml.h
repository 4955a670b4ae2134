/*
 * XML push parser on expat: bytes in, events out.
 *
 * Element names come without their namespace prefix; attribute names as
 * written, xmlns declarations included.  Text arrives in pieces (white space
 * too), already decoded to UTF-8.  Limits: depth 64, 64 attributes, 1 MiB of
 * text between two tags, 2 MiB for one unfinished token.  DOCTYPE, entity
 * declarations and processing instructions (but the XML declaration) are
 * refused.  Errors are -HGA_PROTOCOL ("Syntax", "TooDeep", "TooLarge",
 * "Doctype", "Instruction") with line and column; no content is quoted.
 */
#ifndef HGA_BASE_XML_H
#define HGA_BASE_XML_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stddef.h>

#define HGA_XML_DEPTH 64
#define HGA_XML_ATTRS 64
#define HGA_XML_TEXT (1024 * 1024)

struct hga_xml_attr {
	struct hga_str name, value;
};

/* Callbacks; any may be NULL.  Views are valid during the call.  < 0 (err
 * filled) stops the parser with that result.  start may return HGA_XML_OWN
 * after hga_xml_own_text. */
#define HGA_XML_OWN 1
struct hga_xml_fns {
	int (*start)(void *data, struct hga_str name,
	             const struct hga_xml_attr *attrs, size_t n,
	             struct hga_err *err);
	int (*text)(void *data, struct hga_str text, struct hga_err *err);
	int (*end)(void *data, struct hga_str name, struct hga_err *err);
};

struct hga_xml; /* opaque */

/* fns must outlive the parser.  NULL without memory. */
struct hga_xml *hga_xml_new(const struct hga_xml_fns *fns,
                            void *data) HGA_MUST_USE;
void hga_xml_free(struct hga_xml *x);
/* Another limit than HGA_XML_TEXT, before the first byte. */
void hga_xml_limit_text(struct hga_xml *x, size_t max);
/*
 * Before the first byte: elements for which start returns HGA_XML_OWN get
 * their text, up to the next tag or reference, without expat looking at it.
 * Expat takes each character by itself, which costs more than decoding long
 * base64 does; the text callback must refuse what XML would.
 */
void hga_xml_own_text(struct hga_xml *x);
/* Feeds n bytes, cut anywhere. */
int hga_xml_feed(struct hga_xml *x, const void *bytes, size_t n,
                 struct hga_err *err) HGA_MUST_USE;
/* No more bytes: error unless one whole document was seen. */
int hga_xml_end(struct hga_xml *x, struct hga_err *err) HGA_MUST_USE;
/* Open elements now. */
unsigned hga_xml_depth(const struct hga_xml *x);

/* Appends text with & < > " ' (and CR, so that it survives) escaped and
 * control bytes that XML cannot carry replaced by U+FFFD. */
int hga_xml_escape(struct hga_buf *out, struct hga_str text,
                   struct hga_err *err) HGA_MUST_USE;

#endif
