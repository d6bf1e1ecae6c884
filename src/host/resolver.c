/* SPDX-License-Identifier: Apache-2.0 */
#include "host/resolver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"

#define RECHECK_NS NS_PER_SEC
/* Beyond that nobody's resolver reads. */
#define FILE_MAX 65536

static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
		a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void set_defaults(struct resolver *resolver)
{
	resolver->server4 = ip_addr_of_v4((struct in_addr){htonl(INADDR_LOOPBACK)});
	resolver->server6 = ip_addr_of_v6(&in6addr_loopback);
	resolver->zone6[0] = '\0';
}

/* "fe80::1%eth0" (RFC 4007 11) */
static bool take_server6(char *word, struct resolver *resolver)
{
	char *zone = strchr(word, '%');
	struct in6_addr in6;

	if (zone)
		*zone++ = '\0';
	if (inet_pton(AF_INET6, word, &in6) != 1 || (zone && strlen(zone) >= IF_NAMESIZE))
		return false;
	resolver->server6 = ip_addr_of_v6(&in6);
	snprintf(resolver->zone6, sizeof(resolver->zone6), "%s", zone ? zone : "");
	return true;
}

/* `text` is what follows the word "nameserver". */
static void take_server(
	const char *text, size_t len, bool *had4, bool *had6, struct resolver *resolver)
{
	char word[INET6_ADDRSTRLEN + IF_NAMESIZE];
	struct in_addr in;

	if (!len || len >= sizeof(word))
		return;
	memcpy(word, text, len);
	word[len] = '\0';
	if (inet_pton(AF_INET, word, &in) == 1) {
		if (!*had4)
			resolver->server4 = ip_addr_of_v4(in);
		*had4 = true;
	} else if (!*had6) {
		*had6 = take_server6(word, resolver);
	}
}

static void parse(struct resolver *resolver, const char *text)
{
	static const char keyword[] = "nameserver";
	bool had4 = false, had6 = false;

	set_defaults(resolver);
	while (*text) {
		size_t line = strcspn(text, "\n");

		if (!strncmp(text, keyword, sizeof(keyword) - 1)) {
			const char *value = text + sizeof(keyword) - 1;
			size_t blank = strspn(value, " \t");

			if (blank)
				take_server(value + blank, strcspn(value + blank, " \t\r\n#;"),
					&had4, &had6, resolver);
		}
		text += line + (text[line] == '\n');
	}
}

/* It says nothing about the file: the container may have used up the descriptors. */
static bool is_passing(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM;
}

/* What does not fit is cut at a line's end, so that it does not become another address. */
static bool read_text(int fd, char *text, size_t size)
{
	ssize_t n = read(fd, text, size - 1);
	char *cut = NULL;

	if (n < 0)
		return false;
	text[n] = '\0';
	if ((size_t)n == size - 1)
		cut = memrchr(text, '\n', (size_t)n);
	if (cut)
		*cut = '\0';
	return true;
}

static void read_file(struct resolver *resolver)
{
	static char text[FILE_MAX + 1];
	cleanup_fd int fd = open(resolver->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 && is_passing(errno))
		return;
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		set_defaults(resolver);
		resolver->is_known = false;
		return;
	}
	if (resolver->is_known && is_same_file(&st, &resolver->seen))
		return;
	resolver->is_known = read_text(fd, text, sizeof(text));
	parse(resolver, resolver->is_known ? text : "");
	resolver->seen = st;
}

struct ip_addr resolver_nameserver(struct resolver *resolver, uint8_t family, int64_t now_ns)
{
	if (!resolver->was_checked)
		set_defaults(resolver);
	if (!resolver->was_checked || now_ns - resolver->checked_ns >= RECHECK_NS) {
		read_file(resolver);
		resolver->checked_ns = now_ns;
		resolver->was_checked = true;
	}
	return family == AF_INET ? resolver->server4 : resolver->server6;
}

uint32_t resolver_scope6(const struct resolver *resolver)
{
	uint32_t index = if_nametoindex(resolver->zone6);

	return index ? index : (uint32_t)strtoul(resolver->zone6, NULL, 10);
}
