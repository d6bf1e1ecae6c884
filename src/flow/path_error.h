/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host's kernel was told about a datagram of the container (ip(7), IP_RECVERR), told on to
 * the container: as the ICMP error that makes the same errno of it there.
 *
 * An ICMP error goes on with its own type and code, in the name of whoever sent it; what the host's
 * kernel found by itself becomes destination unreachable of the gateway's (ECONNREFUSED port,
 * EHOSTUNREACH host or address, ENETUNREACH net or no route, EACCES and EPERM administratively
 * prohibited, EMSGSIZE fragmentation needed or packet too big with its MTU). Others are not told.
 */
#pragma once

#include "flow/egress.h"
#include "flow/icmp_limit.h"
#include "host/host.h"

/* The room that an ICMP error of ours takes. */
#define PATH_ERROR_HEADER_MAX 8

/* The datagram that it is about, as the container sent it. */
struct path_error_about {
	struct eth_addr near_mac;
	struct ip_addr near, far; /* of one family: who sent it, and to whom, in its own words */
	uint8_t protocol;         /* UDP, ICMP, ICMPv6 */
	uint8_t header[PATH_ERROR_HEADER_MAX]; /* the transport header; error->quote follows it */
};

/* Returns whether an error was sent: it is one to be told, and the limit left room. */
bool path_error_send(struct egress *egress, struct icmp_limit *limit,
	const struct path_error_about *about, const struct host_dgram_error *error, int64_t now_ns);

/* `error` is about `datagram`; of a run, about its first one. */
void path_error_quote(struct host_dgram_error *error, const struct host_datagram *datagram);
