/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams towards the container: Ethernet and IP headers in front of a transport header and its
 * data, checksums (left to the link where it computes them), fragments where they do not fit into
 * the MTU (RFC 791, RFC 8200 4.5), runs of equal UDP datagrams as one frame where the link cuts
 * them (LINK_USO). TCP builds its own.
 *
 * Don't Fragment is clear on IPv4: a bridge behind the tap may have a smaller MTU.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/counter.h"
#include "flow/policy.h"
#include "link/link.h"
#include "wire/eth.h"
#include "wire/types.h"

/* Pieces of one datagram, or datagrams of one run. */
#define EGRESS_PIECES_MAX 64

struct egress {
	const struct policy *policy;
	struct link *link; /* NULL: it is gone, all is dropped */
	struct counters *counters;
	uint32_t mtu;     /* of the link: IP header and all behind it */
	uint16_t next_id; /* IPv4's identification */
	uint32_t next_id6;
};

/* What all packets of a conversation have in common. */
struct egress_head {
	struct eth_addr dst_mac, src_mac;
	struct ip_addr src, dst; /* of one family */
	uint8_t ttl;             /* 0: 64, as hosts have it (RFC 1700) */
	uint8_t tos;
	uint32_t path_mtu; /* towards dst, when it is known to be smaller than the link's; 0: not */
};

/* Keeps all pointers. `id_seed` is random. */
void egress_init(struct egress *egress, const struct policy *policy, struct link *link,
	uint32_t mtu, uint32_t id_seed, struct counters *counters);

/* The Ethernet address under which `addr`, one of ours, speaks: 52:55 and the IPv4 address, 52:56
 * and the last four bytes of the IPv6 address, as libslirp has it. */
struct eth_addr egress_mac(const struct ip_addr *addr);

/* And under which one a frame of that family is answered: the address that it went to, or the
 * gateway's when that was a group's. */
struct eth_addr egress_answer_mac(
	const struct egress *egress, const struct eth_header *eth, uint8_t family);

/* One packet of `protocol` (UDP, ICMP, ICMPv6), whole or in fragments. `iov` is the transport
 * header and data; the header's checksum field is written, wherever it lies in iov[0]. What the
 * link does not take is counted and lost, as on any wire. */
void egress_send(struct egress *egress, const struct egress_head *head, uint8_t protocol,
	const struct iovec *iov, int n_iov);

/* UDP datagrams of one conversation, the data of each in one of `iov` (at most EGRESS_PIECES_MAX),
 * all as long as the first but for the last, which may be shorter. In as few frames as possible. */
void egress_udp(struct egress *egress, const struct egress_head *head, uint16_t src_port,
	uint16_t dst_port, const struct iovec *iov, int n_iov);

/* A frame that is complete, without virtio-net header. */
void egress_frame(struct egress *egress, const uint8_t *frame, size_t len);
