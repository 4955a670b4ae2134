/*
 * An XML document as a value, for who answers requests (the simulated
 * endpoint, test servers): a map {n = local name, a = {attribute = text},
 * c = [text or child, ...]}; text of white space only is left out.
 */
#ifndef HGA_WINRM_TREE_H
#define HGA_WINRM_TREE_H

#include "base/err.h"
#include "base/str.h"
#include "base/val.h"

int hga_xml_tree(struct hga_str xml, struct hga_vtape *out,
                 struct hga_err *err) HGA_MUST_USE;

#endif
