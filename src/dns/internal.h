/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of dns/ share: dns.c (queries: who is asked when, and what comes of it) and
 * sockets.c (the host's sockets on which they wait for answers).
 *
 *   query --try--> socket --> nameserver
 *
 * A query has one try for each nameserver that it was sent to; the first answer to any of them ends
 * it. A socket is connected to one nameserver and serves few tries.
 */
#pragma once

#include "base/list.h"
#include "base/timer.h"
#include "dns/dns.h"
#include "wire/eth.h"

#define DNS_PORT    53
#define DNS_BUCKETS 4096
/* What one call receives at most. */
#define DNS_BATCH 8

struct dns_query;

struct dns_try {
	struct host_nameserver server;
	struct dns_query *query;
	struct dns_socket *socket; /* NULL: it has failed */
	struct list in_socket;
	uint16_t id;
};

struct dns_query {
	struct dns *owner;
	struct list used;       /* in dns.queries, the oldest first */
	struct list waiting;    /* in dns.waiting: for the list of nameservers */
	struct dns_query *next; /* in its bucket */
	uint64_t hash;
	struct timer timer;
	int64_t give_up_ns;
	struct eth_addr near_mac;
	struct ip_addr near, asked; /* who asks, and under which of our addresses */
	uint16_t near_port;
	uint8_t n_tries, n_again;
	bool is_short; /* of descriptors or memory: that is no nameserver's word */
	struct dns_try tries[HOST_NAMESERVERS_MAX];
	size_t len;
	uint8_t data[]; /* as the container sent it */
};

struct dns_socket {
	struct dns *owner;
	struct host_dgram dgram;
	struct host_nameserver server;
	uint32_t index, generation; /* its handle */
	struct list node;           /* in dns.open or dns.full */
	struct list tries;
	uint32_t n_tries, n_used; /* now, and ever */
	bool is_failed;           /* is not given any more tries */
	bool is_held;             /* must not be closed now */
	struct timer idle;
};

struct dns {
	struct flow_config config;
	uint64_t n_ids;
	struct dns_query *buckets[DNS_BUCKETS];
	struct list queries, waiting;
	uint32_t n_queries;
	size_t n_bytes; /* of all queries */
	struct timer wait_timer;
	struct list open, full; /* sockets that take more tries, and that should not */
	struct dns_socket **sockets;
	uint32_t *free_indices;
	uint32_t n_sockets, generation;
	uint8_t *inbox; /* DNS_BATCH datagrams */
};

static inline bool dns_is_same_server(
	const struct host_nameserver *a, const struct host_nameserver *b)
{
	return a->scope == b->scope && ip_addr_equal(&a->addr, &b->addr);
}

/* ---- sockets.c ---- */

/* Gives the try a socket and an id. 0; -EMFILE: there is room nowhere; or why its nameserver cannot
 * be reached, a negative errno. */
int dns_socket_attach(struct dns *dns, struct dns_try *try);
/* It expects nothing any more; its socket is closed when nobody else does and it has served its
 * time. Nothing happens when it has none. */
void dns_socket_detach(struct dns_try *try);
/* The try's query, under its id. 0 or a negative errno. */
int dns_socket_send(struct dns_try *try);
struct dns_socket *dns_socket_get(struct dns *dns, struct handle handle);
/* Who waits for an answer with this id; NULL: nobody. */
struct dns_try *dns_socket_find(struct dns_socket *socket, uint16_t id);
/* Closes it if it may be closed now: after is_held. */
void dns_socket_settle(struct dns_socket *socket);
void dns_socket_close(struct dns_socket *socket);
