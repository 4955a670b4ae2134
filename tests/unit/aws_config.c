/*
 * Settings of AWS clients: order of sources, origins, profiles, endpoints.
 * Expectations from aws.md section 8.
 */
#include "tap.h"

#include "aws_env.h"

#include "aws/config.h"
#include "aws/endpoint.h"

static const char config_text[] = "[default]\n"
                                  "region = us-east-1\n"
                                  "[profile hg]\n"
                                  "region = eu-west-1\n"
                                  "retry_mode = legacy\n"
                                  "services = mine\n"
                                  "endpoint_url = https://all.example\n"
                                  "[services mine]\n"
                                  "ec2 =\n"
                                  "  endpoint_url = https://ec2.example\n"
                                  "[hg2]\n"
                                  "region = xx-never-1\n";

static void get(struct fake_env *f, const char *profile, enum hga_aws_setting s,
                const char *want, const char *where, const char *name)
{
	struct hga_aws_config c;
	struct hga_aws_value v = {0};
	struct hga_err err = {0};

	hga_aws_config_init(&c, &f->env);
	if (hga_aws_config_arg(&c, HGA_SET_PROFILE, hga_str(profile), &err) <
	        0 ||
	    hga_aws_config_get(&c, s, &v, &err) < 0)
		ok(false, "%s: %s", name, err.msg);
	else
		is_str(v.text, want, name);
	if (where != NULL)
		is_str(v.where, where, name);
	hga_aws_config_release(&c);
}

static void test_order(void)
{
	struct fake_env f;
	struct hga_aws_config c;
	struct hga_aws_value v;
	struct hga_err err = {0};

	fake_init(&f);
	fake_file(&f, "/pw-home/.aws/config", config_text);
	get(&f, "", HGA_SET_REGION, "us-east-1",
	    "profile default (/pw-home/.aws/config:2)",
	    "the default profile's region");
	get(&f, "hg", HGA_SET_REGION, "eu-west-1",
	    "profile hg (/pw-home/.aws/config:4)", "a named profile's region");
	fake_var(&f, "AWS_PROFILE", "hg");
	get(&f, "", HGA_SET_RETRY_MODE, "legacy", NULL,
	    "the environment names the profile");
	fake_var(&f, "AWS_DEFAULT_REGION", "ap-south-1");
	get(&f, "", HGA_SET_REGION, "ap-south-1", "AWS_DEFAULT_REGION",
	    "the environment beats the profile");
	fake_var(&f, "AWS_REGION", "sa-east-1");
	get(&f, "", HGA_SET_REGION, "sa-east-1", "AWS_REGION",
	    "AWS_REGION beats AWS_DEFAULT_REGION");
	get(&f, "", HGA_SET_STS_REGIONAL, "regional", "default", "a default");
	get(&f, "", HGA_SET_MAX_ATTEMPTS, NULL, "", "no value at all");
	f.reads = 0;
	hga_aws_config_init(&c, &f.env);
	ok(hga_aws_config_arg(&c, HGA_SET_REGION, hga_str("us-west-2"), &err) ==
	           0 &&
	       hga_aws_config_get(&c, HGA_SET_REGION, &v, &err) == 0,
	   "an argument is taken");
	is_str(v.where, "argument", "its origin");
	is_int(f.reads, 0, "no file is read for it");
	hga_aws_config_release(&c);
	hga_aws_config_release(&c);
	ok(true, "a second release is harmless");
}

static void fails(struct fake_env *f, const char *profile,
                  enum hga_aws_setting s, const char *code, const char *part)
{
	struct hga_aws_config c;
	struct hga_aws_value v;
	struct hga_err err = {0};

	hga_aws_config_init(&c, &f->env);
	ok(hga_aws_config_arg(&c, HGA_SET_PROFILE, hga_str(profile), &err) ==
	           0 &&
	       hga_aws_config_get(&c, s, &v, &err) == -HGA_USAGE,
	   "usage error: %s", part);
	is_str(err.code, code, "its code");
	ok(strstr(err.msg, part) != NULL, "\"%s\" has \"%s\"", err.msg, part);
	hga_aws_config_release(&c);
}

static void test_errors(void)
{
	struct fake_env f;

	fake_init(&f);
	fake_file(&f, "/pw-home/.aws/config", config_text);
	fails(&f, "gh", HGA_SET_RETRY_MODE, "ProfileNotFound",
	      "The config profile (gh) could not be found; did you mean hg?");
	fails(&f, "hg2", HGA_SET_REGION, "ProfileNotFound",
	      "The config profile (hg2) could not be found");
	fake_var(&f, "AWS_REGION", "us_west_2");
	fails(&f, "", HGA_SET_REGION, "InvalidRegion", "us_west_2");
	fake_init(&f);
	fake_file(&f, "/pw-home/.aws/config", "region = x\n");
	fails(&f, "", HGA_SET_REGION, "Ini", "/pw-home/.aws/config:1");
}

static void test_files(void)
{
	struct fake_env f;

	fake_init(&f);
	fake_var(&f, "HOME", "/me");
	fake_var(&f, "AWS_CONFIG_FILE", "~/elsewhere");
	fake_file(&f, "/me/elsewhere", config_text);
	get(&f, "hg", HGA_SET_REGION, "eu-west-1", NULL,
	    "~ in AWS_CONFIG_FILE is HOME");
	get(&f, "", HGA_SET_CREDENTIALS_FILE, "/me/.aws/credentials", "default",
	    "the credentials file's default place");
	fake_init(&f);
	fake_file(&f, "/pw-home/.aws/config",
	          "[profile default]\nregion = good-1\n[default]\n"
	          "region = bad-1\n");
	fake_file(&f, "/pw-home/.aws/credentials",
	          "[default]\nretry_mode = standard-v1\n"
	          "[profile default]\nretry_mode = wrong\n");
	get(&f, "", HGA_SET_REGION, "good-1", NULL,
	    "[profile default] beats [default]");
	get(&f, "", HGA_SET_RETRY_MODE, "standard-v1", NULL,
	    "the credentials file has bare names");
}

static void endpoint(struct fake_env *f, const char *profile, const char *id,
                     const char *arg, const char *want, const char *name)
{
	struct hga_aws_config c;
	struct hga_aws_value v = {0};
	struct hga_err err = {0};

	hga_aws_config_init(&c, &f->env);
	if (hga_aws_config_arg(&c, HGA_SET_PROFILE, hga_str(profile), &err) <
	        0 ||
	    hga_aws_config_arg(&c, HGA_SET_ENDPOINT_URL, hga_str(arg), &err) <
	        0 ||
	    hga_aws_config_endpoint(&c, hga_str(id), &v, &err) < 0)
		ok(false, "%s: %s", name, err.msg);
	else
		is_str(v.text, want, name);
	hga_aws_config_release(&c);
}

static void test_endpoints(void)
{
	struct fake_env f;

	fake_init(&f);
	fake_file(&f, "/pw-home/.aws/config", config_text);
	endpoint(&f, "", "EC2", "", NULL, "none is configured");
	endpoint(&f, "hg", "EC2", "", "https://ec2.example",
	         "the services section");
	endpoint(&f, "hg", "SSO OIDC", "", "https://all.example",
	         "the profile's general one");
	fake_var(&f, "AWS_ENDPOINT_URL", "https://env.example");
	endpoint(&f, "hg", "EC2", "", "https://env.example",
	         "the environment beats the profile");
	fake_var(&f, "AWS_ENDPOINT_URL_SSO_OIDC", "https://oidc.example");
	endpoint(&f, "hg", "SSO OIDC", "", "https://oidc.example",
	         "a service's variable beats the general one");
	endpoint(&f, "hg", "EC2", "https://arg.example", "https://arg.example",
	         "the argument beats all");
	fake_var(&f, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "True");
	endpoint(&f, "hg", "EC2", "", NULL, "configured ones can be ignored");
	endpoint(&f, "hg", "EC2", "https://arg.example", "https://arg.example",
	         "but not the argument");
}

static void parse(const char *url, bool good, const char *host,
                  const char *base)
{
	struct hga_aws_endpoint e = {0};
	struct hga_err err = {0};
	int rc = hga_aws_endpoint_parse(hga_str(url), &e, &err);

	ok((rc == 0) == good, "%s is %s", url, good ? "taken" : "refused");
	if (!good)
		return;
	is_str(e.host, host, "host");
	is_str(e.base, base, "base path");
}

static void test_urls(void)
{
	struct hga_aws_endpoint e = {0};
	struct hga_err err = {0};

	parse("http://127.0.0.1:4566", true, "127.0.0.1:4566", "");
	parse("https://Example.ORG:443/a/b/", true, "example.org", "/a/b");
	parse("http://[::1]:80/", true, "[::1]", "");
	parse("ftp://example.org", false, NULL, NULL);
	parse("https://", false, NULL, NULL);
	parse("https://a b", false, NULL, NULL);
	parse("https://example.org:0", false, NULL, NULL);
	parse("https://example.org:99999", false, NULL, NULL);
	parse("https://example.org/?x", false, NULL, NULL);
	ok(hga_aws_endpoint_parse(hga_str("https://me:secret@x"), &e, &err) <
	           0 &&
	       strstr(err.msg, "secret") == NULL,
	   "user information is refused and not repeated");
	ok(hga_aws_host_is_loopback(hga_str("127.0.0.1:80")), "loopback");
	ok(hga_aws_host_is_loopback(hga_str("[::1]:80")), "v6 loopback");
	ok(hga_aws_host_is_loopback(hga_str("LOCALHOST")), "localhost");
	ok(!hga_aws_host_is_loopback(hga_str("127.0.0.1.example.org")),
	   "a name that begins like loopback is not");
	ok(!hga_aws_host_is_loopback(hga_str("10.0.0.1")), "10.0.0.1 is not");
}

int main(void)
{
	test_order();
	test_errors();
	test_files();
	test_endpoints();
	test_urls();
	return done();
}
