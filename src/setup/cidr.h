/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IPv4 network arithmetic for --cidr. Pure. Addresses are in network byte order.
 */
#pragma once

#include <netinet/in.h>
#include <stdint.h>

/* The smallest prefix still has room for N+100, the address that the container gets. */
#define CIDR_PREFIX_MIN 1
#define CIDR_PREFIX_MAX 25

enum cidr_outcome {
	CIDR_OK,
	CIDR_SYNTAX,    /* not four numbers, a slash and one or two digits */
	CIDR_ADDRESS,   /* four numbers that are no address */
	CIDR_PREFIX,    /* length outside of the limits above */
	CIDR_HOST_BITS, /* an address within the network instead of the network's */
};

/* Fills the outputs only when it returns CIDR_OK. */
enum cidr_outcome cidr_parse(
	const char *text, struct in_addr *ret_network, struct in_addr *ret_netmask);

/* The address N+`host`. */
struct in_addr cidr_host(struct in_addr network, uint32_t host);
