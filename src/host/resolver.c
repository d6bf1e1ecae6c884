/* SPDX-License-Identifier: Apache-2.0 */
#include "host/resolver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"

/* ---- the text ---- */

/* "fe80::1%eth0" (RFC 4007 11) */
static bool take_addr6(char *word, struct resolver_server *ret)
{
	char *zone = strchr(word, '%');
	struct in6_addr in6;

	if (zone)
		*zone++ = '\0';
	if (inet_pton(AF_INET6, word, &in6) != 1 || (zone && strlen(zone) >= IF_NAMESIZE))
		return false;
	ret->addr = ip_addr_of_v6(&in6);
	if (IN6_IS_ADDR_V4MAPPED(&in6))
		ret->addr.family = AF_INET;
	snprintf(ret->zone, sizeof(ret->zone), "%s", zone ? zone : "");
	return true;
}

static bool take_addr(const char *text, size_t len, struct resolver_server *ret)
{
	char word[INET6_ADDRSTRLEN + IF_NAMESIZE];
	struct in_addr in;

	*ret = (struct resolver_server){0};
	if (!len || len >= sizeof(word) || memchr(text, '\0', len))
		return false;
	memcpy(word, text, len);
	word[len] = '\0';
	if (inet_pton(AF_INET, word, &in) != 1)
		return take_addr6(word, ret);
	ret->addr = ip_addr_of_v4(in);
	return true;
}

static size_t span(const char *text, size_t len, const char *set, bool is_in)
{
	size_t n = 0;

	while (n < len && (text[n] && strchr(set, text[n])) == is_in)
		n++;
	return n;
}

/* One line, without its end. */
static bool take_line(const char *line, size_t len, struct resolver_server *ret)
{
	static const char keyword[] = "nameserver";
	size_t at = sizeof(keyword) - 1, blank;

	if (len < at || memcmp(line, keyword, at) != 0)
		return false;
	blank = span(line + at, len - at, " \t", true);
	if (!blank)
		return false;
	at += blank;
	return take_addr(line + at, span(line + at, len - at, " \t\r#;", false), ret);
}

int resolver_parse(const char *text, size_t len, struct resolver_server ret[HOST_NAMESERVERS_MAX])
{
	const char *end = text + len;
	int n = 0;

	while (text < end && n < HOST_NAMESERVERS_MAX) {
		const char *line_end = memchr(text, '\n', (size_t)(end - text));

		if (!line_end)
			line_end = end;
		n += take_line(text, (size_t)(line_end - text), &ret[n]);
		text = line_end + (line_end < end);
	}
	return n;
}

/* ---- the list ---- */

static int64_t shunned_until(const struct resolver *resolver, const struct ip_addr *addr)
{
	for (int i = 0; i < resolver->n_servers; i++)
		if (ip_addr_equal(&resolver->servers[i].addr, addr))
			return resolver->shunned_until_ns[i];
	return 0;
}

/* What is known of those that stay is kept. */
static void set_servers(struct resolver *resolver, const struct resolver_server *servers, int n)
{
	int64_t shunned_until_ns[HOST_NAMESERVERS_MAX];

	for (int i = 0; i < n; i++)
		shunned_until_ns[i] = shunned_until(resolver, &servers[i].addr);
	memcpy(resolver->servers, servers, (size_t)n * sizeof(*servers));
	memcpy(resolver->shunned_until_ns, shunned_until_ns, (size_t)n * sizeof(int64_t));
	resolver->n_servers = n;
}

static void set_text(struct resolver *resolver, const char *text, size_t len)
{
	const struct resolver_server loopback[] = {
		{.addr = ip_addr_of_v4((struct in_addr){htonl(INADDR_LOOPBACK)})},
		{.addr = ip_addr_of_v6(&in6addr_loopback)},
	};
	struct resolver_server servers[HOST_NAMESERVERS_MAX];
	int n = resolver_parse(text, len, servers);

	if (n)
		set_servers(resolver, servers, n);
	else
		set_servers(resolver, loopback, ARRAY_SIZE(loopback));
}

/* As interfaces are called now. */
static void find_scopes(struct resolver *resolver)
{
	for (int i = 0; i < resolver->n_servers; i++) {
		const char *zone = resolver->servers[i].zone;

		resolver->scopes[i] = *zone ? if_nametoindex(zone) : 0;
		if (*zone && !resolver->scopes[i])
			resolver->scopes[i] = (uint32_t)strtoul(zone, NULL, 10);
	}
}

static void put_servers(const struct resolver *resolver, bool is_shunned, int64_t now_ns,
	struct host_nameserver *ret, int *n)
{
	for (int i = 0; i < resolver->n_servers; i++)
		if ((resolver->shunned_until_ns[i] > now_ns) == is_shunned)
			ret[(*n)++] = (struct host_nameserver){
				.addr = resolver->servers[i].addr,
				.scope = resolver->scopes[i],
				.position = (uint8_t)i,
			};
}

void resolver_said(
	struct resolver *resolver, const struct ip_addr *addr, bool answered, int64_t now_ns)
{
	for (int i = 0; i < resolver->n_servers; i++)
		if (ip_addr_equal(&resolver->servers[i].addr, addr))
			resolver->shunned_until_ns[i] = answered ? 0 : now_ns + RESOLVER_SHUN_NS;
}

/* ---- the file ---- */

/* It says nothing about the file: the container may have used up the descriptors, or nobody is
 * there who could open it. */
static bool is_passing(int error)
{
	switch (error) {
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case EAGAIN:
	case EPIPE:
	case ETIMEDOUT:
	case ETOOMANYREFS:
	case EBADMSG:
	case ENOSYS:
		return true;
	default:
		return false;
	}
}

static void forget(struct resolver *resolver)
{
	set_text(resolver, "", 0);
}

/* Each time: a second change within the clock's tick, or one that keeps the time, has left no trace
 * but the text. What does not fit is cut at a line's end, so that it does not become another
 * address. */
static void read_file(struct resolver *resolver, int fd)
{
	static char text[RESOLVER_FILE_MAX];
	ssize_t n = read(fd, text, sizeof(text));
	const char *cut;

	n = n < 0 ? 0 : n;
	if (n == sizeof(text)) {
		cut = memrchr(text, '\n', sizeof(text));
		n = cut ? cut - text : 0;
	}
	set_text(resolver, text, (size_t)n);
}

static void take_file(struct resolver *resolver, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		forget(resolver);
	else
		read_file(resolver, fd);
}

void resolver_take(struct resolver *resolver, int fd, int64_t now_ns)
{
	cleanup_fd int file = fd;

	if (file >= 0)
		take_file(resolver, file);
	else if (!resolver->n_servers || !is_passing(-fd))
		forget(resolver);
	find_scopes(resolver);
	resolver->is_looking = false;
	resolver->was_checked = true;
	resolver->checked_ns = now_ns;
}

static int open_file(const struct resolver *resolver)
{
	int fd = open(resolver->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd < 0 ? -errno : fd;
}

static void look(struct resolver *resolver, int64_t now_ns)
{
	int r;

	if (!resolver->ask) {
		resolver_take(resolver, open_file(resolver), now_ns);
		return;
	}
	resolver->is_looking = true;
	resolver->asked_ns = now_ns;
	r = resolver->ask(resolver->arg);
	if (r < 0)
		resolver_take(resolver, r, now_ns);
}

int resolver_nameservers(
	struct resolver *resolver, struct host_nameserver ret[HOST_NAMESERVERS_MAX], int64_t now_ns)
{
	int n = 0;

	if (!resolver->is_looking &&
		(!resolver->was_checked || now_ns - resolver->checked_ns >= RESOLVER_RECHECK_NS))
		look(resolver, now_ns);
	if (resolver->is_looking && now_ns - resolver->asked_ns < HOST_NAMESERVERS_WAIT_NS)
		return -EAGAIN;
	/* Whoever is to open it takes too long: next time, then. */
	if (resolver->is_looking)
		resolver_take(resolver, -ETIMEDOUT, now_ns);
	put_servers(resolver, false, now_ns, ret, &n);
	put_servers(resolver, true, now_ns, ret, &n);
	return n;
}
