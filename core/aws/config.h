/*
 * Settings of AWS clients: argument, environment, profile, default - each
 * value with its origin.
 *
 * All effects (environment, files, clock, random numbers) go through struct
 * hga_aws_env, so that tests run without a home directory or a real clock.
 * Nothing is read before the first look-up that needs it.  Profile files are
 * read in the dialect of base/ini.h; [profile default] beats [default], and
 * the credentials file wins over the configuration file property by property.
 * Secrets of the files stay inside and are wiped on release.
 */
#ifndef HGA_AWS_CONFIG_H
#define HGA_AWS_CONFIG_H

#include "base/buf.h"
#include "base/err.h"
#include "base/ini.h"
#include "base/str.h"
#include "net/http.h"
#include "net/proc.h"

#include <stdbool.h>
#include <stdint.h>

struct hga_ask;

/* The outside world.  Functions get data as first argument. */
struct hga_aws_env {
	void *data;
	/* Value of a variable or NULL. */
	const char *(*getenv)(void *data, const char *name);
	/* Appends a whole file; a missing one is -HGA_NOTFOUND. */
	int (*read)(void *data, const char *path, struct hga_buf *out,
	            struct hga_err *err);
	/* Home directory from the password file or NULL. */
	const char *(*home)(void *data);
	int64_t (*wall_us)(void *data);
	double (*random)(void *data); /* [0, 1) */
	int (*uuid)(void *data, char out[37], struct hga_err *err);

	/* ---- NULL: the real one, see hga_aws_env_fill ---- */
	/* As read; a file of somebody else, or one that others may read or
	 * write, is -HGA_AUTH. */
	int (*read_private)(void *data, const char *path, struct hga_buf *out,
	                    struct hga_err *err);
	/* Replaces a file (0600, synced) and makes its directory (0700). */
	int (*write_private)(void *data, const char *path, struct hga_str text,
	                     struct hga_err *err);
	/* As hga_http_start, hga_proc_start, hga_ask_start. */
	int (*http)(void *data, struct hga_loop *loop, struct hga_http *op,
	            const struct hga_http_args *args, struct hga_err *err);
	int (*spawn)(void *data, struct hga_loop *loop, struct hga_proc *op,
	             const struct hga_proc_args *args, struct hga_err *err);
	int (*ask)(void *data, struct hga_loop *loop, struct hga_ask *op,
	           const char *prompt, struct hga_err *err);
};

/* The real one (data is not used). */
extern const struct hga_aws_env hga_aws_env_real;
/* Puts the real functions where there are none. */
void hga_aws_env_fill(struct hga_aws_env *env);

enum hga_aws_setting {
	HGA_SET_PROFILE = 0,
	HGA_SET_REGION,
	HGA_SET_CONFIG_FILE,
	HGA_SET_CREDENTIALS_FILE,
	HGA_SET_ENDPOINT_URL, /* look up with hga_aws_config_endpoint */
	HGA_SET_IGNORE_ENDPOINTS,
	HGA_SET_FIPS,
	HGA_SET_DUALSTACK,
	HGA_SET_RETRY_MODE,
	HGA_SET_MAX_ATTEMPTS,
	HGA_SET_CA_BUNDLE,
	HGA_SET_STS_REGIONAL,
	HGA_SET_ACCOUNT_MODE,   /* account_id_endpoint_mode */
	HGA_SET_NO_HOST_PREFIX, /* disable_host_prefix_injection */
	HGA_SET_APP_ID,
	HGA_SET_COMPRESS_MIN, /* request_min_compression_size_bytes */
	HGA_SET_NO_COMPRESS,  /* disable_request_compression */
	HGA_SET_EXECUTION_ENV,
	HGA_SET_IMDS_DISABLED,
	HGA_SET_IMDS_ENDPOINT,
	HGA_SET_IMDS_MODE,
	HGA_SET_IMDS_NO_V1,
	HGA_SET_IMDS_TIMEOUT,
	HGA_SET_IMDS_ATTEMPTS,
	HGA_SET_LOGIN_CACHE,
	HGA_SET_HTTPS_PROXY, /* the transport reads it; here to be shown */
	HGA_SET_HTTP_PROXY,
	HGA_SET_NO_PROXY,
	HGA_SET_COUNT
};

enum hga_aws_from {
	HGA_FROM_NONE = 0, /* not set, no default */
	HGA_FROM_ARGUMENT,
	HGA_FROM_ENVIRONMENT,
	HGA_FROM_PROFILE,
	HGA_FROM_DEFAULT
};

struct hga_aws_value {
	const char *text; /* NULL: not set; the configuration's */
	enum hga_aws_from from;
	char where[128]; /* "argument", "AWS_REGION", "profile hg
	                  * (~/.aws/config:3)", "default" */
};

struct hga_aws_config {
	const struct hga_aws_env *env;
	char *args[HGA_SET_COUNT];
	bool loaded;
	char *profile;      /* after loading: the name in use */
	bool profile_named; /* asked for by argument or environment */
	char *config_path, *credentials_path;
	char *nested; /* last value found in a services section */
	struct hga_ini config, credentials;
};

/* env must outlive it.  No I/O. */
void hga_aws_config_init(struct hga_aws_config *c,
                         const struct hga_aws_env *env);
/* Wipes and frees; safe on a zeroed struct. */
void hga_aws_config_release(struct hga_aws_config *c);
/* Sets an argument (copied); an empty view unsets it. */
int hga_aws_config_arg(struct hga_aws_config *c, enum hga_aws_setting s,
                       struct hga_str value, struct hga_err *err) HGA_MUST_USE;

/*
 * Reads the profile files (once).  Fails with usage for a malformed file
 * ("Ini") and for a named profile that does not exist ("ProfileNotFound",
 * with a suggestion), io for an unreadable one.  Missing files are empty.
 */
int hga_aws_config_load(struct hga_aws_config *c,
                        struct hga_err *err) HGA_MUST_USE;

/* Name of a setting as in the documentation, "region". */
const char *hga_aws_setting_name(enum hga_aws_setting s);
/* Value of a setting; loads when neither argument nor environment has it. */
int hga_aws_config_get(struct hga_aws_config *c, enum hga_aws_setting s,
                       struct hga_aws_value *out,
                       struct hga_err *err) HGA_MUST_USE;
/* Truth of a setting; anything but true and false is -HGA_USAGE. */
int hga_aws_config_bool(struct hga_aws_config *c, enum hga_aws_setting s,
                        bool *out, struct hga_err *err) HGA_MUST_USE;

/*
 * Configured endpoint of a service (service id, "EC2"): argument, then
 * AWS_ENDPOINT_URL_<ID>, AWS_ENDPOINT_URL, the profile's services section,
 * the profile's endpoint_url.  out->text NULL: none configured.
 */
int hga_aws_config_endpoint(struct hga_aws_config *c, struct hga_str service_id,
                            struct hga_aws_value *out,
                            struct hga_err *err) HGA_MUST_USE;

/* Number of a setting: seconds or a count, not negative and at most max;
 * anything else is -HGA_USAGE. */
int hga_aws_config_num(struct hga_aws_config *c, enum hga_aws_setting s,
                       double max, double *out,
                       struct hga_err *err) HGA_MUST_USE;
/* Property of the profile in use (merged), or NULL.  After loading. */
const char *hga_aws_config_prop(const struct hga_aws_config *c,
                                const char *name);
/* The same of any profile. */
const char *hga_aws_config_prop_of(const struct hga_aws_config *c,
                                   const char *profile, const char *name);
/* Some file has a section for the profile. */
bool hga_aws_config_has(const struct hga_aws_config *c, const char *profile);
/* Fails with "ProfileNotFound" and a suggestion. */
int hga_aws_config_missing(const struct hga_aws_config *c, const char *profile,
                           struct hga_err *err);
/* Appends path with "~/" made the home directory. */
int hga_aws_expand(const struct hga_aws_env *env, const char *path,
                   struct hga_buf *out, struct hga_err *err) HGA_MUST_USE;
/* The profile's section in one file, or NULL.  After loading. */
const struct hga_ini_section *
hga_aws_config_section(const struct hga_aws_config *c, bool credentials);
/* Any section of a profile by name in one file, or NULL. */
const struct hga_ini_section *
hga_aws_config_find(const struct hga_aws_config *c, bool credentials,
                    const char *profile);

/* Non-blank value of an environment variable or NULL. */
const char *hga_aws_env_get(const struct hga_aws_env *env, const char *name);
/*
 * Default path of "config" or "credentials" below the home directory; the
 * rules of Windows are only there for the shared test cases.  Appends.
 */
int hga_aws_default_path(const struct hga_aws_env *env, bool windows,
                         const char *file, struct hga_buf *out,
                         struct hga_err *err) HGA_MUST_USE;

#endif
