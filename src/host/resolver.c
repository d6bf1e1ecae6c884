/* SPDX-License-Identifier: Apache-2.0 */
#include "host/resolver.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"

#define PATH       "/etc/resolv.conf"
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
}

/* `text` is what follows the word "nameserver". A scope ("fe80::1%eth0") cannot be dialled here. */
static void take_server(
	const char *text, size_t len, bool *had4, bool *had6, struct resolver *resolver)
{
	char word[INET6_ADDRSTRLEN + 1];
	struct in6_addr in6;
	struct in_addr in;

	if (!len || len >= sizeof(word))
		return;
	memcpy(word, text, len);
	word[len] = '\0';
	if (!*had4 && inet_pton(AF_INET, word, &in) == 1) {
		resolver->server4 = ip_addr_of_v4(in);
		*had4 = true;
	} else if (!*had6 && inet_pton(AF_INET6, word, &in6) == 1) {
		resolver->server6 = ip_addr_of_v6(&in6);
		*had6 = true;
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

static void read_file(struct resolver *resolver)
{
	static char text[FILE_MAX + 1];
	cleanup_fd int fd = open(PATH, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	ssize_t n = 0;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		set_defaults(resolver);
		return;
	}
	if (resolver->is_known && is_same_file(&st, &resolver->seen))
		return;
	n = read(fd, text, FILE_MAX);
	text[MAX(n, 0)] = '\0';
	parse(resolver, text);
	resolver->seen = st;
	resolver->is_known = true;
}

struct ip_addr resolver_nameserver(struct resolver *resolver, uint8_t family, int64_t now_ns)
{
	if (!resolver->is_known || now_ns - resolver->checked_ns >= RECHECK_NS) {
		read_file(resolver);
		resolver->checked_ns = now_ns;
	}
	return family == AF_INET ? resolver->server4 : resolver->server6;
}
