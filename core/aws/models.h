/*
 * The services the program knows: those built in, and the models a user put
 * beside them.
 *
 * A service is looked for in the directories of AWS_DATA_PATH (absolute ones
 * of the ':' list), in ~/.aws/models, then among the built-in ones; layout
 * SERVICE/VERSION/FILE.json (FILE.json.gz too where zlib was found when the
 * program was built).  The newest version wins, among equal ones the first
 * place.  What a user's model lacks of endpoint rules comes from the
 * built-in service of that name.
 *
 * A user's model is compiled in memory when its service is first asked for
 * and kept as an image in the cache directory, named after the paths, sizes
 * and times of its files and the built-in image.  An image from there is
 * checked as any foreign one; a damaged, foreign or too open file is
 * compiled again.  Nothing relative to the current directory is read.
 */
#ifndef HGA_AWS_MODELS_H
#define HGA_AWS_MODELS_H

#include "aws/config.h"
#include "aws/image.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

struct hga_aws_models; /* opaque */

/* img (the built-in services) and env must outlive it.  No I/O. */
int hga_aws_models_new(struct hga_aws_models **out,
                       const struct hga_aws_image *img,
                       const struct hga_aws_env *env,
                       struct hga_err *err) HGA_MUST_USE;
/* Services found before are gone afterwards. */
void hga_aws_models_free(struct hga_aws_models *m);
/* Where compiled models are kept (made at need, 0700); an empty view: not at
 * all. */
int hga_aws_models_cache(struct hga_aws_models *m, struct hga_str dir,
                         struct hga_err *err) HGA_MUST_USE;

/*
 * A service by name, for as long as m lives; *out NULL: there is none.
 * Fails for a user's model that cannot be read or compiled (kind protocol,
 * io or auth), naming the file.
 */
int hga_aws_models_find(struct hga_aws_models *m, struct hga_str name,
                        const struct hga_aws_svc **out,
                        struct hga_err *err) HGA_MUST_USE;

/* Names of all services, sorted, each once, one a line. */
int hga_aws_models_names(struct hga_aws_models *m, struct hga_buf *out,
                         struct hga_err *err) HGA_MUST_USE;
/* Nearest name of a service; .s NULL: none.  A view into names. */
struct hga_str hga_aws_models_suggest(struct hga_str names,
                                      struct hga_str name);

#endif
