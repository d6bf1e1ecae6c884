/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libslirp behind our link, our host and our clock. GLib and libslirp stay inside this folder.
 *
 * One turn, in this order, since libslirp's socket indices are good only from one list to the next:
 *   1. bridge_ready()  for each event of one of its descriptors
 *   2. bridge_input()  for each frame of the container; the first one of a turn begins it
 *   3. bridge_finish() hands over the rest of the events, renews the list, sets the deadline
 * A turn in which nothing of libslirp's is due costs nothing.
 *
 * libslirp keeps its time and its resolver's address in globals: one bridge per process.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/counter.h"
#include "base/loop.h"
#include "flow/policy.h"
#include "host/host.h"
#include "link/link.h"
#include "slirp/filter.h"
#include "slirp/interest.h"
#include "wire/packet.h"

struct Slirp;
struct bridge_timer;
struct reass_inquiry;

struct bridge_config {
	const struct policy *policy;
	struct icmp_limit *icmp_limit;
	struct in_addr dhcp_start;
	uint32_t mtu;
	bool dns_enabled;
	struct sockaddr_in *outbound;   /* NULL: the host's choice; kept by libslirp */
	struct sockaddr_in6 *outbound6; /* likewise */
	uint64_t descriptor_limit;      /* how many libslirp can have */
};

struct bridge {
	struct Slirp *slirp;
	struct link *link; /* NULL once it is closed: frames for it are dropped */
	struct loop *loop;
	struct counters *counters;
	struct interest interest;
	struct filter filter;
	struct reass_inquiry *inquiry; /* NULL outside of one */
	struct bridge_timer *ra_timer;
	int64_t deadline_ns; /* libslirp's own timeouts */
	uint64_t descriptor_limit;
	int64_t listeners_rest_until_ns; /* none of them is watched until then */
	bool is_due;             /* something of libslirp's is to be looked at in this turn */
	bool has_begun;          /* its events of this turn were handed over */
	bool listener_was_ready; /* in this turn, and libslirp was told */
	bool new_forward;        /* a published port was added since the last list */
	bool heard_neighbor;     /* in this turn: frames that wait for its address can go */
	bool seen_ipv6;
};

/* 0, or -EINVAL when libslirp refuses the configuration. Keeps all pointers. */
int bridge_init(struct bridge *bridge, const struct bridge_config *config, struct link *link,
	struct host *host, struct loop *loop, struct counters *counters);
void bridge_done(struct bridge *bridge);

/* The container's interface is up: it is told at once where the router is (RFC 4861 6.2.4), and
 * not only when it asks. */
void bridge_link_up(struct bridge *bridge);

/* A packet that may be for others: the container's IPv6 may come up at any time, and shows it by
 * its first multicast listener report or neighbour solicitation. */
void bridge_saw(struct bridge *bridge, const struct packet *packet);

void bridge_ready(struct bridge *bridge, struct handle handle, uint32_t events);
/* An Ethernet frame, without virtio-net header, that has passed ingress_frame() as `packet`, its
 * checksums complete. Both are changed. */
void bridge_input(struct bridge *bridge, uint8_t *frame, struct packet *packet);
void bridge_finish(struct bridge *bridge);

/* Whether bytes that the container was told have arrived still wait for a host socket. */
bool bridge_has_unsent(struct bridge *bridge);
