/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resolv.conf: what the text names does not depend on where it ends in memory, each address that is
 * found stands in it, and a text that is cut names no others.
 */
#include <arpa/inet.h>
#include <string.h>

#include "host/resolver.h"
#include "tests/fuzz/fuzz.h"

static int parse(const uint8_t *data, size_t size, struct resolver_server *ret)
{
	char *text = malloc(size ? size : 1); /* its end is guarded by the sanitizer */
	int n;

	ALWAYS(text);
	memcpy(text, data, size);
	n = resolver_parse(text, size, ret);
	ALWAYS(n >= 0 && n <= HOST_NAMESERVERS_MAX);
	free(text);
	return n;
}

static void check(const struct resolver_server *server)
{
	ALWAYS(server->addr.family == AF_INET || server->addr.family == AF_INET6);
	ALWAYS(memchr(server->zone, '\0', sizeof(server->zone)));
	ALWAYS(server->addr.family == AF_INET6 || !server->zone[0]);
	ALWAYS(!strpbrk(server->zone, " \t\r\n#;"));
}

static bool is_same(const struct resolver_server *a, const struct resolver_server *b)
{
	return a->addr.family == b->addr.family && IN6_ARE_ADDR_EQUAL(&a->addr.in6, &b->addr.in6) &&
		!strcmp(a->zone, b->zone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct resolver_server whole[HOST_NAMESERVERS_MAX], cut[HOST_NAMESERVERS_MAX];
	const uint8_t *line_end = size ? memrchr(data, '\n', size) : NULL;
	int n = parse(data, size, whole), n_cut;

	for (int i = 0; i < n; i++)
		check(&whole[i]);
	n_cut = parse(data, line_end ? (size_t)(line_end - data) : 0, cut);
	ALWAYS(n_cut <= n && n - n_cut <= (line_end ? 1 : n));
	for (int i = 0; i < n_cut; i++)
		ALWAYS(is_same(&whole[i], &cut[i]));
	return 0;
}
