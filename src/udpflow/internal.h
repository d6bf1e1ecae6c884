/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of udpflow/ share. */
#pragma once

#include "udpflow/udpflow.h"

/* The container's word about the path to it is forgotten after ten minutes (RFC 1191 6.3). */
#define UDP_PATH_MTU_NS (600 * NS_PER_SEC)

struct udp_flow {
	struct flow flow; /* first: the table's; its key has no far side */
	struct host_dgram dgram;
	struct eth_addr near_mac, our_mac;
	struct in6_addr loopback_name; /* how the container last called the host's ::1 */
	uint32_t path_mtu;             /* towards the container, where it has told; 0: it has not */
	int64_t path_mtu_until_ns;
	unsigned int batch; /* how many to ask for */
	bool has_unsent;    /* in the outbox */
	bool only_dns;      /* never spoke to a port but 53 */
	int64_t used_ns;
	struct timer timer;
	struct list used;  /* in udpflow.used */
	struct list ready; /* in udpflow.ready */
	struct udpflow *owner;
};

/* send.c: all that is in the outbox. */
void udp_send_all(struct udpflow *udpflow);
/* send.c: tells the container of the errors that the host's kernel has kept about this mapping.
 * `current` is the datagram whose sending failed just now, or NULL. */
enum udp_errors {
	UDP_ERRORS_NONE,
	UDP_ERRORS_SOME,
	UDP_ERRORS_TOO_BIG, /* `current` is larger than its path's MTU, and may not be cut */
};
enum udp_errors udp_take_errors(struct udp_flow *flow, const struct host_datagram *current);

/* recv.c: one batch of what has come for the mapping. */
void udp_receive(struct udp_flow *flow);

/* udpflow.c: by which name the container knows a peer. False: by none. */
bool udp_far_name(
	const struct udp_flow *flow, const struct ip_addr *addr, struct ip_addr *ret_name);
/* udpflow.c: it was used now. */
void udp_touch(struct udp_flow *flow);
