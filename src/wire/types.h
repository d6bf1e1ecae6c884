/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte order and alignment in types: a header's fields are byte arrays, so that no layout has
 * padding, none needs alignment, and a network-order value cannot be used by mistake.
 * The compiler makes one load and one swap of each get.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef struct {
	uint8_t b[2];
} be16;

typedef struct {
	uint8_t b[4];
} be32;

static inline uint16_t be16_get(be16 v)
{
	return (uint16_t)(v.b[0] << 8 | v.b[1]);
}

static inline be16 be16_of(uint16_t v)
{
	return (be16){{(uint8_t)(v >> 8), (uint8_t)v}};
}

static inline uint32_t be32_get(be32 v)
{
	return (uint32_t)v.b[0] << 24 | (uint32_t)v.b[1] << 16 | (uint32_t)v.b[2] << 8 | v.b[3];
}

static inline be32 be32_of(uint32_t v)
{
	return (be32){{(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v}};
}

/* An address of either family. IPv4 is kept v4-mapped (::ffff:a.b.c.d, RFC 4291 2.5.5.2), so that
 * one 16-byte comparison serves both. `family` says how the packet carried it: an IPv6 packet to a
 * v4-mapped address is not IPv4. */
struct ip_addr {
	uint8_t family; /* AF_INET or AF_INET6 */
	struct in6_addr in6;
};

static inline struct ip_addr ip_addr_of_v4(struct in_addr v4)
{
	struct ip_addr addr = {.family = AF_INET, .in6 = {{{[10] = 0xff, [11] = 0xff}}}};

	memcpy(&addr.in6.s6_addr[12], &v4, sizeof(v4));
	return addr;
}

static inline struct ip_addr ip_addr_of_v6(const struct in6_addr *v6)
{
	return (struct ip_addr){.family = AF_INET6, .in6 = *v6};
}

/* The IPv4 address in network byte order; only for family AF_INET. */
static inline struct in_addr ip_addr_v4(const struct ip_addr *addr)
{
	struct in_addr v4;

	memcpy(&v4, &addr->in6.s6_addr[12], sizeof(v4));
	return v4;
}

static inline bool ip_addr_equal(const struct ip_addr *a, const struct ip_addr *b)
{
	return a->family == b->family && IN6_ARE_ADDR_EQUAL(&a->in6, &b->in6);
}

/* Groups are 224/4 and ff00::/8; broadcast addresses are no groups. */
static inline bool ip_addr_is_group(const struct ip_addr *addr)
{
	if (addr->family == AF_INET)
		return IN_MULTICAST(ntohl(ip_addr_v4(addr).s_addr));
	return IN6_IS_ADDR_MULTICAST(&addr->in6);
}

/* Of one machine, as far as the address alone tells: not 0/8, 224/3, ::, ff00::/8. */
static inline bool ip_addr_is_unicast(const struct ip_addr *addr)
{
	uint32_t v4 = ntohl(ip_addr_v4(addr).s_addr);

	if (addr->family == AF_INET)
		return v4 >> 24 != 0 && v4 >> 28 < 0xe;
	return !IN6_IS_ADDR_MULTICAST(&addr->in6) && !IN6_IS_ADDR_UNSPECIFIED(&addr->in6);
}
