/*
 * What all libcurl transfers have in common: options, proxies, the guard that
 * keeps a local run on loopback, and the meaning of connection errors.
 */
#include "net/xfer.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEEPALIVE_S 30L
/* Load balancers forget idle connections after 60 s. */
#define MAX_IDLE_S 55L

/* ---- addresses ---- */

static bool is_localhost(const char *host)
{
	struct hga_str h = hga_str(host);

	return strcasecmp(host, "localhost") == 0 ||
	       (h.n > 10 && strcasecmp(host + h.n - 10, ".localhost") == 0);
}

static bool loopback4(const struct in_addr *a)
{
	return ntohl(a->s_addr) >> 24 == 127;
}

/* Loopback and the addresses of instance and container metadata. */
static bool never_proxied(const char *host)
{
	static const unsigned char ec2[4] = {0xfd, 0x00, 0x0e, 0xc2};
	struct in_addr a4;
	struct in6_addr a6;
	uint32_t ip;

	if (inet_pton(AF_INET, host, &a4) == 1) {
		ip = ntohl(a4.s_addr);
		return loopback4(&a4) || ip == 0xa9fea9fe ||
		       ip >> 8 == 0xa9feaa;
	}
	if (inet_pton(AF_INET6, host, &a6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&a6) ||
		       memcmp(a6.s6_addr, ec2, sizeof(ec2)) == 0;
	return is_localhost(host);
}

static bool allowed_locally(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_UNIX)
		return true;
	return sa->sa_family == AF_INET &&
	       loopback4(
	           &((const struct sockaddr_in *)(const void *)sa)->sin_addr);
}

static void address_text(const struct sockaddr *sa, char *out, size_t size)
{
	const struct sockaddr_in *s4 = (const void *)sa;
	const struct sockaddr_in6 *s6 = (const void *)sa;
	char ip[INET6_ADDRSTRLEN] = "?";

	if (sa->sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &s6->sin6_addr, ip, sizeof(ip));
		snprintf(out, size, "[%s]:%d", ip, ntohs(s6->sin6_port));
		return;
	}
	inet_ntop(AF_INET, &s4->sin_addr, ip, sizeof(ip));
	snprintf(out, size, "%s:%d", ip, ntohs(s4->sin_port));
}

/* Every socket of libcurl is made here: CLOEXEC, and the local-only guard. */
static curl_socket_t open_socket(void *data, curlsocktype purpose,
                                 struct curl_sockaddr *a)
{
	struct hga_xfer *x = data;

	(void)purpose; /* there are only connections */
	if (hga_loop_is_local_only(x->loop) && !allowed_locally(&a->addr)) {
		address_text(&a->addr, x->refused, sizeof(x->refused));
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static int fail_local(const char *what, struct hga_err *err)
{
	return hga_fail(err, HGA_NET, 0, "LocalOnly",
	                "refusing to connect to %s: not a local cloud address",
	                what);
}

/* Names are not even resolved: that would be a packet to a foreign host. */
static int check_local(const struct hga_xfer_peer *peer, struct hga_err *err)
{
	struct in_addr a4;
	char what[320];

	if (peer->unix_socket || is_localhost(peer->host) ||
	    (inet_pton(AF_INET, peer->host, &a4) == 1 && loopback4(&a4)))
		return 0;
	snprintf(what, sizeof(what),
	         strchr(peer->host, ':') != NULL ? "[%s]:%d" : "%s:%d",
	         peer->host, peer->port);
	return fail_local(what, err);
}

/* ---- proxies ---- */

static const char *env2(const char *lower, const char *upper)
{
	const char *v = getenv(lower);

	if (v == NULL || v[0] == '\0')
		v = getenv(upper);
	return v != NULL && v[0] != '\0' ? v : NULL;
}

static const char *proxy_for(const struct hga_xfer_peer *peer)
{
	const char *v = NULL;

	if (peer->use == HGA_X_HTTPS)
		v = env2("https_proxy", "HTTPS_PROXY");
	/* Under CGI a client's header "Proxy:" arrives as HTTP_PROXY. */
	if (peer->use == HGA_X_HTTP && getenv("REQUEST_METHOD") == NULL)
		v = env2("http_proxy", "HTTP_PROXY");
	return v != NULL ? v : env2("all_proxy", "ALL_PROXY");
}

static void set_proxy(struct hga_xfer *x, const struct hga_xfer_peer *peer,
                      CURLcode *rc)
{
	const char *proxy = NULL, *none = env2("no_proxy", "NO_PROXY");

	if (!peer->unix_socket && !hga_loop_is_local_only(x->loop) &&
	    !never_proxied(peer->host))
		proxy = proxy_for(peer);
	HGA_SETOPT(x, rc, CURLOPT_PROXY, proxy != NULL ? proxy : "");
	HGA_SETOPT(x, rc, CURLOPT_NOPROXY, none != NULL ? none : "");
	HGA_SETOPT(x, rc, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	if (peer->use == HGA_X_TCP)
		HGA_SETOPT(x, rc, CURLOPT_HTTPPROXYTUNNEL, 1L);
}

/* ---- options ---- */

/* The directory instead of the bundle file: parsing the file costs more CPU
 * than the rest of a process start. */
static void set_tls(struct hga_xfer *x, CURLcode *rc)
{
	const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
	const char *dir = v->capath != NULL ? v->capath : "/etc/ssl/certs";

	HGA_SETOPT(x, rc, CURLOPT_CAINFO, NULL);
	HGA_SETOPT(x, rc, CURLOPT_CAPATH, dir);
	HGA_SETOPT(x, rc, CURLOPT_PROXY_CAINFO, NULL);
	HGA_SETOPT(x, rc, CURLOPT_PROXY_CAPATH, dir);
	HGA_SETOPT(x, rc, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	HGA_SETOPT(x, rc, CURLOPT_SSL_VERIFYPEER, 1L);
	HGA_SETOPT(x, rc, CURLOPT_SSL_VERIFYHOST, 2L);
}

static void set_common(struct hga_xfer *x, CURLcode *rc)
{
	HGA_SETOPT(x, rc, CURLOPT_PRIVATE, x);
	HGA_SETOPT(x, rc, CURLOPT_ERRORBUFFER, x->curl_err);
	HGA_SETOPT(x, rc, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	HGA_SETOPT(x, rc, CURLOPT_OPENSOCKETDATA, x);
	HGA_SETOPT(x, rc, CURLOPT_PROTOCOLS_STR, "http,https");
	HGA_SETOPT(x, rc, CURLOPT_NOSIGNAL, 1L);
	HGA_SETOPT(x, rc, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	HGA_SETOPT(x, rc, CURLOPT_FOLLOWLOCATION, 0L);
	HGA_SETOPT(x, rc, CURLOPT_TCP_KEEPALIVE, 1L);
	HGA_SETOPT(x, rc, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_S);
	HGA_SETOPT(x, rc, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_S);
	HGA_SETOPT(x, rc, CURLOPT_MAXAGE_CONN, MAX_IDLE_S);
}

int hga_xfer_opt_err(CURLcode rc, struct hga_err *err)
{
	if (rc == CURLE_OK)
		return 0;
	if (rc == CURLE_OUT_OF_MEMORY)
		return hga_fail_mem(err);
	return hga_fail(err, HGA_BUG, 0, "Curl", "curl_easy_setopt: %s",
	                curl_easy_strerror(rc));
}

int hga_xfer_open(struct hga_loop *loop, struct hga_xfer *x,
                  const struct hga_xfer_peer *peer, struct hga_err *err)
{
	CURLcode rc = CURLE_OK;
	int r;

	x->loop = loop;
	if (hga_loop_is_local_only(loop) && (r = check_local(peer, err)) < 0)
		return r;
	if (hga_loop_multi(loop, err) == NULL)
		return -HGA_MEMORY;
	x->easy = curl_easy_init();
	if (x->easy == NULL)
		return hga_fail_mem(err);
	set_common(x, &rc);
	set_tls(x, &rc);
	set_proxy(x, peer, &rc);
	r = hga_xfer_opt_err(rc, err);
	if (r < 0)
		hga_xfer_close(x);
	return r;
}

int hga_xfer_start(struct hga_xfer *x, struct hga_err *err)
{
	x->refused[0] = '\0';
	x->curl_err[0] = '\0';
	return hga_loop_xfer_add(x->loop, x, err);
}

void hga_xfer_stop(struct hga_xfer *x)
{
	if (x->running)
		hga_loop_xfer_remove(x->loop, x);
}

void hga_xfer_close(struct hga_xfer *x)
{
	hga_xfer_stop(x);
	if (x->easy != NULL)
		curl_easy_cleanup(x->easy);
	x->easy = NULL;
}

/* ---- errors ---- */

/* libcurl's own words where it has some. */
static const char *reason(const struct hga_xfer *x, CURLcode rc)
{
	return x->curl_err[0] != '\0' ? x->curl_err : curl_easy_strerror(rc);
}

static int connect_err(struct hga_xfer *x, const char *what,
                       struct hga_err *err)
{
	long sys = 0;

	if (x->refused[0] != '\0')
		return fail_local(x->refused, err);
	curl_easy_getinfo(x->easy, CURLINFO_OS_ERRNO, &sys);
	switch (sys) {
	case ECONNREFUSED:
		return hga_fail(err, HGA_NET, (int)sys, "Refused",
		                "connect to %s", what);
	case ECONNRESET:
	case EPIPE:
		return hga_fail(err, HGA_NET, (int)sys, "Reset",
		                "connect to %s", what);
	case ETIMEDOUT:
		return hga_fail(err, HGA_TIMEOUT, (int)sys, "Connect",
		                "connect to %s", what);
	default:
		return hga_fail(err, HGA_NET, (int)sys, "Unreachable",
		                "connect to %s", what);
	}
}

static bool proxy_refused(struct hga_xfer *x)
{
	long code = 0;

	curl_easy_getinfo(x->easy, CURLINFO_HTTP_CONNECTCODE, &code);
	return code != 0 && code / 100 != 2;
}

int hga_xfer_conn_err(struct hga_xfer *x, CURLcode rc, const char *what,
                      struct hga_err *err)
{
	double seconds = 0;

	switch ((int)rc) { /* the list grows with each libcurl */
	case CURLE_OUT_OF_MEMORY:
		return hga_fail_mem(err);
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return hga_fail(err, HGA_NET, 0, "Resolve", "%s",
		                reason(x, rc));
	case CURLE_COULDNT_CONNECT:
		return connect_err(x, what, err);
	case CURLE_OPERATION_TIMEDOUT:
		curl_easy_getinfo(x->easy, CURLINFO_TOTAL_TIME, &seconds);
		return hga_fail(err, HGA_TIMEOUT, 0, "Connect",
		                "no connection to %s in time (connect, %.1f s)",
		                what, seconds);
	case CURLE_URL_MALFORMAT:
		return hga_fail(err, HGA_USAGE, 0, "Url", "bad URL: %s",
		                reason(x, rc));
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CRL_BADFILE:
		return hga_fail(err, HGA_AUTH, 0, "Certificate", "%s: %s", what,
		                reason(x, rc));
	case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
		return hga_fail(err, HGA_AUTH, 0, "Pin",
		                "%s: public key differs from the pin", what);
	case CURLE_PROXY:
		return hga_fail(err, HGA_NET, 0, "Proxy",
		                "%s: through the proxy: %s", what,
		                reason(x, rc));
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_ENGINE_INITFAILED:
		return hga_fail(err, HGA_NET, 0, "TLS", "%s: %s", what,
		                reason(x, rc));
	}
	if (proxy_refused(x))
		return hga_fail(err, HGA_NET, 0, "Proxy",
		                "%s: refused by the proxy: %s", what,
		                reason(x, rc));
	return hga_fail(err, HGA_NET, 0, "Reset", "connect to %s: %s", what,
	                reason(x, rc));
}
