/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published ports on our own parts: the backend of forward/ that listens, accepts in batches, and
 * hands each client over to one of the two paths.
 *
 *   listener --accept--> auto: client at 127/8, ::1 or a unix socket --> splice/, else the tap
 *                        splice --(cannot work)--> tap
 *                        tap --> tcpflow_arrive()
 *   UDP socket --recv--> udp.c: a flow per client, over the link or by a socket of the namespace
 *
 * tcp.c has the listeners, lazy.c those that listen only while the container does, udp.c datagrams.
 */
#pragma once

#include "flow/config.h"
#include "flow/next_hop.h"
#include "forward/forward.h"
#include "splice/splice.h"
#include "tcpflow/tcpflow.h"
#include "wire/packet.h"

struct publish_config {
	const struct policy *policy;
	struct host *host;
	struct loop *loop;
	struct counters *counters;
	struct egress *egress;
	struct icmp_limit *icmp_limit;
	struct next_hop *next_hop;
	struct tcpflow *tcpflow;
	struct splice *splice; /* NULL: there is no namespace to have sockets of; all is tap */
	struct socket_source *sockets; /* NULL likewise */
	const struct siphash_key *key;
	uint32_t max_udp_clients;
	/* Descriptors from this number on are kept for what must go on when clients use up the
	 * others: they are no listener's and no client's. */
	int max_fd;
	/* The IPv6 address at which the guest was last seen; false: it was not. */
	bool (*guest6)(void *arg, struct in6_addr *ret);
	void *arg;
};

struct publish;

/* NULL without memory. `config` is copied, what it points to stays its owner's. */
struct publish *publish_new(const struct publish_config *config);
/* All rules were unbound before. NULL is nothing. */
void publish_free(struct publish *publish);
struct forward_backend *publish_backend(struct publish *publish);

/* The descriptors of the folders in which sockets of rules have their names, which are unlinked at
 * the end: up to `max`; returns how many. */
size_t publish_folders(const struct publish *publish, int *ret_fds, size_t max);

/* HANDLE_PUBLISH, HANDLE_PUBLISH_UDP. `events` are epoll's. */
void publish_ready(struct publish *publish, struct handle handle, uint32_t events);
/* A datagram of the container (or a run of them, by its virtio-net header in front of `frame`).
 * True: it was an answer to a client of a published port, and is on its way. */
bool publish_udp_input(struct publish *publish, const uint8_t *frame, const struct packet *packet);
/* An ICMP error of the container's. True: it was about a packet that we sent it for a client. */
bool publish_udp_near_error(
	struct publish *publish, const uint8_t *frame, const struct packet *packet);
/* `addr` was heard of at `mac`. */
void publish_neighbor(
	struct publish *publish, const struct ip_addr *addr, const struct eth_addr *mac);
/* The end of a turn. Returns true when there is more to do at once. */
bool publish_finish(struct publish *publish);
