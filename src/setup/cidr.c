/* SPDX-License-Identifier: Apache-2.0 */
#include "setup/cidr.h"

#include <arpa/inet.h>
#include <string.h>

/* Skips `max` digits at most; NULL when there is none. */
static const char *skip_digits(const char *at, int max)
{
	const char *start = at;

	while (at - start < max && *at >= '0' && *at <= '9')
		at++;
	return at == start ? NULL : at;
}

/* Where the prefix length begins; NULL unless the whole text has the form. */
static const char *find_prefix(const char *at)
{
	const char *prefix, *end;

	for (int i = 0; i < 4; i++) {
		at = skip_digits(at, 3);
		if (!at || *at != (i < 3 ? '.' : '/'))
			return NULL;
		at++;
	}
	prefix = at;
	end = skip_digits(prefix, 2);
	return end && *end == '\0' ? prefix : NULL;
}

static uint32_t prefix_length(const char *digits)
{
	uint32_t length = (uint32_t)(digits[0] - '0');

	return digits[1] ? length * 10 + (uint32_t)(digits[1] - '0') : length;
}

enum cidr_outcome cidr_parse(
	const char *text, struct in_addr *ret_network, struct in_addr *ret_netmask)
{
	const char *prefix = find_prefix(text);
	char address[INET_ADDRSTRLEN] = "";
	struct in_addr network, netmask;
	uint32_t length;

	if (!prefix)
		return CIDR_SYNTAX;
	memcpy(address, text, (size_t)(prefix - 1 - text));
	if (inet_pton(AF_INET, address, &network) != 1)
		return CIDR_ADDRESS;
	length = prefix_length(prefix);
	if (length < CIDR_PREFIX_MIN || length > CIDR_PREFIX_MAX)
		return CIDR_PREFIX;
	netmask.s_addr = htonl(UINT32_MAX << (32 - length));
	if (network.s_addr & ~netmask.s_addr)
		return CIDR_HOST_BITS;
	*ret_network = network;
	*ret_netmask = netmask;
	return CIDR_OK;
}

struct in_addr cidr_host(struct in_addr network, uint32_t host)
{
	return (struct in_addr){htonl(ntohl(network.s_addr) + host)};
}
