/*
 * The credential cache shared with the AWS CLI: names of files, who may read
 * them, whose are believed, what is kept on a rewrite; and the CLI itself,
 * where it is installed, on both sides of it.
 */
#include "tap.h"

#include "aws_env.h"

#include "aws/cred_int.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROLE "arn:aws:iam::123456789012:role/RoleA"
#define ROLE_FILE "330942beff5b0648244cebd8031e0bfca87ac4a0"
#define SECRET "canary-cached-secret"
#define NOW_US (INT64_C(1795356210) * 1000000)
#define LATER "2099-01-01T00:00:00Z"

static char home[256], warned[1024];

static void on_record(struct hga_log_sink *sink, const struct hga_log_rec *rec)
{
	(void)sink;
	snprintf(warned, sizeof(warned), "%.*s", HGA_STRF(rec->text));
}

static struct hga_log_sink sink = {on_record, HGA_LOG_WARN, NULL};

/* ---- one link in a world whose home directory is real ---- */

struct world {
	struct fake_env f;
	struct hga_aws aws;
	struct cred_plan plan;
	struct cred_run run;
};

static const char *real_home(void *data)
{
	(void)data;
	return home;
}

static void text(struct world *w, enum cred_text what, const char *value)
{
	if (cred_text_set(&w->plan.links[0], what, value, NULL) < 0)
		abort();
}

static void begin(struct world *w, enum cred_kind kind)
{
	struct cred_link *l;

	memset(w, 0, sizeof(*w));
	fake_init(&w->f);
	w->f.env.home = real_home;
	w->f.wall_us = NOW_US;
	hga_aws_env_fill(&w->f.env);
	w->aws.env = w->f.env;
	w->run.aws = &w->aws;
	w->run.plan = &w->plan;
	hga_buf_init(&w->run.path, 4096);
	if (cred_plan_add(&w->plan, kind, &l, NULL) < 0)
		abort();
	warned[0] = '\0';
}

static void end(struct world *w)
{
	hga_vtape_free_secret(w->run.doc);
	hga_buf_release(&w->run.path);
	cred_plan_release(&w->plan);
}

static const char *file_of(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/.aws/cli/cache/%s.json", home, name);
	return path;
}

static void put_file(const char *name, const char *content, unsigned mode)
{
	if (hga_fs_replace(file_of(name), hga_str(content), mode, 0, NULL) < 0)
		abort();
}

/* The content of a file; "" without. */
static const char *content_of(const char *name)
{
	static char all[8192];
	FILE *f = fopen(file_of(name), "r");
	size_t n = f != NULL ? fread(all, 1, sizeof(all) - 1, f) : 0;

	if (f != NULL)
		(void)fclose(f);
	all[n] = '\0';
	return all;
}

/* What the cache gives for the role: an id or NULL. */
static const char *cached(struct world *w)
{
	static char id[64];
	struct hga_creds *c = NULL;

	hga_vtape_free_secret(w->run.doc);
	w->run.doc = NULL;
	if (!cred_cache_get(&w->run, cred_cache_role, "assume-role", &c))
		return NULL;
	snprintf(id, sizeof(id), "%s", c->access_key_id);
	hga_creds_free(c);
	return id;
}

static void store(struct world *w, const char *id)
{
	struct hga_creds *c;

	if (hga_creds_new(&c, "assume-role", hga_str(id), HGA_STR(SECRET),
	                  HGA_STR("token-of-the-role"), NULL) < 0)
		abort();
	c->expires_us = NOW_US + INT64_C(3600) * 1000000;
	snprintf(c->account_id, sizeof(c->account_id), "123456789012");
	cred_cache_put(&w->run, c, NULL);
	hga_creds_free(c);
}

/* ---- tests ---- */

static void test_names(void)
{
	struct world w;
	char name[41];

	begin(&w, CRED_ROLE);
	text(&w, CRED_T_ROLE_ARN, ROLE);
	is_int(cred_cache_role(w.plan.links, name, NULL), 0, "a role");
	is_str(name, ROLE_FILE, "has the published name");
	text(&w, CRED_T_MFA, "arn:aws:iam::1:mfa/me");
	text(&w, CRED_T_SESSION_NAME, "B\"\\\xc3\xa4");
	text(&w, CRED_T_DURATION, "900");
	text(&w, CRED_T_EXTERNAL_ID, "x");
	is_int(cred_cache_role(w.plan.links, name, NULL), 0, "all its keys");
	/* sha1 of what Python's json.dumps(d, sort_keys=True) gives. */
	is_str(name, "0fe2bebdf4d6a4e41c84cfe5c152579c839a1348",
	       "sorted, a number, ASCII only");
	end(&w);

	begin(&w, CRED_SSO);
	text(&w, CRED_T_SSO_ACCOUNT, "012345678901");
	text(&w, CRED_T_SSO_ROLE, "SampleRole");
	text(&w, CRED_T_SSO_SESSION, "dev");
	text(&w, CRED_T_SSO_URL, "https://x.awsapps.com/start");
	is_int(cred_cache_sso(w.plan.links, name, NULL), 0, "single sign-on");
	is_str(name, "4f0072b03f86a95e613340c2868ab49e9cc60d6e",
	       "has the published name");
	end(&w);
	begin(&w, CRED_SSO);
	text(&w, CRED_T_SSO_ACCOUNT, "012345678901");
	text(&w, CRED_T_SSO_ROLE, "SampleRole");
	text(&w, CRED_T_SSO_URL, "https://x.awsapps.com/start");
	is_int(cred_cache_sso(w.plan.links, name, NULL), 0, "without session");
	is_str(name, "9b671b6fa2425241f6d3b175a6a1269e93930247",
	       "by its start URL");
	end(&w);
}

static void test_file(void)
{
	struct world w;
	struct stat st = {0};

	begin(&w, CRED_ROLE);
	text(&w, CRED_T_ROLE_ARN, ROLE);
	ok(cached(&w) == NULL, "nothing is there yet");
	is_str(warned, "", "which is worth no warning");
	store(&w, "ASIAFIRST");
	is_int(stat(file_of(ROLE_FILE), &st), 0, "kept under its name");
	is_int(st.st_mode & 07777, 0600, "for its owner alone");
	snprintf(warned, sizeof(warned), "%s/.aws/cli/cache", home);
	is_int(stat(warned, &st) == 0 ? (int)(st.st_mode & 07777) : -1, 0700,
	       "and so is the directory");
	is_str(cached(&w), "ASIAFIRST", "and read again");
	w.run.stale = true;
	ok(cached(&w) == NULL, "not when a service refused it");
	w.run.stale = false;
	w.f.wall_us = NOW_US + INT64_C(2701) * 1000000;
	ok(cached(&w) == NULL, "not with less than a quarter hour left");
	w.f.wall_us = NOW_US + INT64_C(2700) * 1000000;
	is_str(cached(&w), "ASIAFIRST", "with a quarter hour it is");
	w.run.no_cache = true;
	ok(cached(&w) == NULL, "not when the cache is off");
	store(&w, "ASIAOFF");
	ok(strstr(content_of(ROLE_FILE), "ASIAOFF") == NULL,
	   "nor is it written then");
	end(&w);
}

static void test_rewrite(void)
{
	struct world w;
	const char *all;

	begin(&w, CRED_ROLE);
	text(&w, CRED_T_ROLE_ARN, ROLE);
	put_file(ROLE_FILE,
	         "{\"AssumedRoleUser\": {\"Arn\": \"kept-arn\"}, "
	         "\"Credentials\": {\"AccessKeyId\": \"ASIAOLD\", "
	         "\"SecretAccessKey\": \"old-secret\", \"Own\": [1, \"kept\"], "
	         "\"SessionToken\": \"t\", "
	         "\"Expiration\": \"2001-01-01T00:00:00UTC\"}, \"N\": 1.5}",
	         0600);
	ok(cached(&w) == NULL, "an old one is not used");
	is_str(warned, "", "which is worth no warning");
	store(&w, "ASIANEW");
	all = content_of(ROLE_FILE);
	ok(strstr(all, "kept-arn") != NULL && strstr(all, "\"N\": 1.5") != NULL,
	   "what others wrote stays");
	ok(strstr(all, "\"kept\"") != NULL, "also among the credentials");
	ok(strstr(all, "ASIAOLD") == NULL && strstr(all, "old-secret") == NULL,
	   "the old credentials do not");
	is_str(cached(&w), "ASIANEW", "the new ones are found");
	end(&w);
}

#define GOOD                                                                   \
	"{\"Credentials\": {\"AccessKeyId\": \"ASIAOTHER\", "                  \
	"\"SecretAccessKey\": \"" SECRET "\", \"SessionToken\": \"t\", "       \
	"\"Expiration\": \"%s\"}}"

static const char *good(const char *when)
{
	static char all[512];

	snprintf(all, sizeof(all), GOOD, when);
	return all;
}

/* The file is not used, the log says why and no secret. */
static void ignored(struct world *w, const char *why)
{
	warned[0] = '\0';
	ok(cached(w) == NULL, "ignored: %s", why);
	ok(strstr(warned, why) != NULL && strstr(warned, ROLE_FILE) != NULL,
	   "\"%s\" says so", warned);
	ok(strstr(warned, SECRET) == NULL, "without a secret");
}

static void test_foreign(void)
{
	static const char *const times[] = {LATER, "2099-01-01T00:00:00UTC",
	                                    "2099-01-01T00:00:00+00:00"};
	static const unsigned modes[] = {0640, 0604, 0620, 0602};
	static const char *const bad[] = {
	    "",
	    "{",
	    "\"" SECRET "\"",
	    "[1]",
	    "{\"Credentials\": 7}",
	    "{\"Credentials\": {\"AccessKeyId\": \"A\"}}"};
	struct world w;

	begin(&w, CRED_ROLE);
	text(&w, CRED_T_ROLE_ARN, ROLE);
	for (size_t i = 0; i < sizeof(times) / sizeof(*times); i++) {
		put_file(ROLE_FILE, good(times[i]), 0600);
		is_str(cached(&w), "ASIAOTHER", times[i]);
	}
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		put_file(ROLE_FILE, good(LATER), 0600);
		if (chmod(file_of(ROLE_FILE), modes[i]) < 0)
			abort();
		ignored(&w, "too open");
	}
	put_file(ROLE_FILE, good(LATER), 0600);
	if (chown(file_of(ROLE_FILE), 12345, (gid_t)-1) == 0)
		ignored(&w, "not by you");
	else
		skip("only root can give files away");
	if (unlink(file_of(ROLE_FILE)) < 0 ||
	    mkfifo(file_of(ROLE_FILE), 0600) < 0)
		abort();
	ok(cached(&w) == NULL, "a pipe is no cache, and does not block");
	(void)unlink(file_of(ROLE_FILE));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		put_file(ROLE_FILE, bad[i], 0600);
		ok(cached(&w) == NULL, "no credentials: %s", bad[i]);
		ok(strstr(warned, SECRET) == NULL, "nothing of it is shown");
		store(&w, "ASIAOVER");
		is_str(cached(&w), "ASIAOVER", "it is written over");
	}
	end(&w);
}

/* ---- the CLI ---- */

static int listen_loopback(int *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    listen(fd, 8) < 0 || getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		abort();
	*port = ntohs(a.sin_port);
	return fd;
}

/* One request, which may come in two parts; answers AssumeRole and
 * GetCallerIdentity. */
static void answer(int fd, char *seen, size_t size)
{
	static const char role[] =
	    "<AssumeRoleResponse><AssumeRoleResult><AssumedRoleUser>"
	    "<AssumedRoleId>x</AssumedRoleId><Arn>arn:aws:sts::123456789012:"
	    "assumed-role/RoleA/x</Arn></AssumedRoleUser><Credentials>"
	    "<AccessKeyId>ASIABYCLI</AccessKeyId><SecretAccessKey>" SECRET
	    "</SecretAccessKey><SessionToken>t</SessionToken>"
	    "<Expiration>" LATER "</Expiration></Credentials>"
	    "</AssumeRoleResult></AssumeRoleResponse>";
	static const char who[] =
	    "<GetCallerIdentityResponse><GetCallerIdentityResult>"
	    "<Account>123456789012</Account><Arn>a</Arn><UserId>u</UserId>"
	    "</GetCallerIdentityResult></GetCallerIdentityResponse>";
	const char *body = NULL;
	char head[128];
	size_t n = 0;

	while (n < size - 1) {
		ssize_t got = recv(fd, seen + n, size - 1 - n, 0);

		if (got <= 0)
			break;
		n += (size_t)got;
		seen[n] = '\0';
		body = strstr(seen, "Action=AssumeRole&") != NULL ? role
		       : strstr(seen, "Action=GetCallerIdentity") != NULL
		           ? who
		           : NULL;
		if (body != NULL)
			break;
	}
	if (body == NULL)
		return;
	n = (size_t)snprintf(head, sizeof(head),
	                     "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n"
	                     "Content-Type: text/xml\r\n"
	                     "Connection: close\r\n\r\n",
	                     strlen(body));
	(void)!send(fd, head, n, MSG_NOSIGNAL);
	(void)!send(fd, body, strlen(body), MSG_NOSIGNAL);
}

static pid_t start_cli(int port)
{
	char url[64], config[300], creds[300];
	pid_t pid;

	snprintf(url, sizeof(url), "http://127.0.0.1:%d", port);
	snprintf(config, sizeof(config), "%s/config", home);
	snprintf(creds, sizeof(creds), "%s/none", home);
	pid = fork();
	if (pid != 0)
		return pid;
	setenv("HOME", home, 1);
	setenv("AWS_CONFIG_FILE", config, 1);
	setenv("AWS_SHARED_CREDENTIALS_FILE", creds, 1);
	setenv("AWS_ENDPOINT_URL", url, 1);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	setenv("AWS_MAX_ATTEMPTS", "1", 1);
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	unsetenv("AWS_PROFILE");
	if (freopen("/dev/null", "w", stdout) == NULL)
		_exit(127);
	execlp("aws", "aws", "sts", "get-caller-identity", "--profile", "r",
	       "--region", "us-east-1", (char *)NULL);
	_exit(127);
}

/* Runs the CLI against us.  Its exit code; what it sent, one after another,
 * in seen. */
static int run_cli(char *seen, size_t size)
{
	int port, code = -1, lfd = listen_loopback(&port);
	pid_t pid = start_cli(port);
	size_t used = 0;

	seen[0] = '\0';
	/* A Python program on a busy machine: 120 s. */
	for (int i = 0; pid > 0 && i < 1200; i++) {
		struct pollfd p = {lfd, POLLIN, 0};
		int fd;

		if (waitpid(pid, &code, WNOHANG) == pid) {
			pid = 0;
			break;
		}
		if (poll(&p, 1, 100) != 1)
			continue;
		fd = accept(lfd, NULL, NULL);
		if (fd < 0)
			continue;
		answer(fd, seen + used, size - used);
		used += strlen(seen + used);
		(void)close(fd);
	}
	if (pid > 0) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, &code, 0);
	}
	(void)close(lfd);
	return WIFEXITED(code) ? WEXITSTATUS(code) : -1;
}

static void test_cli(void)
{
	static char seen[16384];
	char path[300];
	struct world w;
	int rc;

	begin(&w, CRED_ROLE);
	text(&w, CRED_T_ROLE_ARN, ROLE);
	w.f.wall_us = (int64_t)time(NULL) * 1000000;
	(void)unlink(file_of(ROLE_FILE));
	snprintf(path, sizeof(path), "%s/config", home);
	if (hga_fs_replace(path,
	                   HGA_STR("[profile r]\nrole_arn = " ROLE "\n"
	                           "source_profile = b\n[profile b]\n"
	                           "aws_access_key_id = AKIABASE\n"
	                           "aws_secret_access_key = base-secret\n"),
	                   0600, 0, NULL) < 0)
		abort();
	rc = run_cli(seen, sizeof(seen));
	if (rc == 127) {
		skip("needs the AWS CLI");
		end(&w);
		return;
	}
	is_int(rc, 0, "the CLI is content with an empty cache");
	ok(strstr(seen, "Action=AssumeRole") != NULL, "it asks for the role");
	is_str(cached(&w), "ASIABYCLI", "what it kept, we use");
	is_str(warned, "", "without a warning");

	(void)unlink(file_of(ROLE_FILE));
	ok(cached(&w) == NULL, "the cache is empty again");
	{
		struct hga_creds *c;

		if (hga_creds_new(&c, "assume-role", HGA_STR("ASIABYUS"),
		                  HGA_STR(SECRET), HGA_STR("t"), NULL) < 0)
			abort();
		c->expires_us = w.f.wall_us + INT64_C(7200) * 1000000;
		cred_cache_put(&w.run, c, NULL);
		hga_creds_free(c);
	}
	is_int(run_cli(seen, sizeof(seen)), 0, "the CLI is content with ours");
	ok(strstr(seen, "Action=AssumeRole") == NULL, "it asks for nothing");
	ok(strstr(seen, "Credential=ASIABYUS/") != NULL, "and signs with it");
	end(&w);
}

int main(void)
{
	const char *tmp = getenv("TMPDIR");
	struct hga_buf dir;

	hga_buf_init(&dir, 4096);
	if (hga_fs_tmpdir(tmp != NULL ? tmp : "/tmp", "cache-", &dir, NULL) < 0)
		abort();
	snprintf(home, sizeof(home), "%s", hga_buf_text(&dir));
	hga_log_add(&sink);
	test_names();
	test_file();
	test_rewrite();
	test_foreign();
	test_cli();
	hga_log_remove(&sink);
	(void)!hga_fs_rmtree(home, NULL);
	hga_buf_release(&dir);
	hga_log_release();
	return done();
}
