/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of dns/ share: dns.c (queries: who is asked when, and what comes of it), sockets.c
 * (the host's sockets on which they wait for answers), send.c and receive.c (both ways in batches).
 *
 *   query --try--> socket --> outbox --finish, or when it is full--> nameserver
 *   nameserver --> inbox --> answers, by who asked --> egress
 *
 * A query has one try for each nameserver that it was sent to; the first answer to any of them ends
 * it. A socket is connected to one nameserver and serves few tries.
 */
#pragma once

#include "base/list.h"
#include "base/timer.h"
#include "dns/dns.h"
#include "flow/inbox.h"
#include "flow/outbox.h"
#include "wire/eth.h"

#define DNS_PORT    53
#define DNS_BUCKETS 4096
/* Of a socket's tries, by id. */
#define DNS_TRY_BUCKETS 64
#define DNS_HOST_EVENTS (EPOLLIN | EPOLLERR | EPOLLET)

struct dns_query;

struct dns_try {
	struct host_nameserver server;
	struct dns_query *query;
	struct dns_socket *socket; /* NULL: it has failed */
	struct dns_try *next;      /* in its bucket of the socket */
	uint16_t id;
};

struct dns_query {
	struct dns *owner;
	struct list used;       /* in dns.queries, the oldest first */
	struct list waiting;    /* in dns.waiting or dns.onward */
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
	struct dns_try *tries[DNS_TRY_BUCKETS];
	uint32_t n_tries, n_used; /* now, and ever */
	int64_t opened_ns;
	bool is_failed;  /* is not given any more tries */
	bool is_held;    /* must not be closed now */
	bool has_unsent; /* nor while it has something in the outbox */
	struct timer idle;
};

/* Of a query that is not in any list any more. */
struct dns_answer {
	struct dns_query *query; /* NULL: it was passed on */
	uint8_t *data;           /* in the inbox */
	size_t len;
};

struct dns {
	struct flow_config config;
	uint64_t n_ids;
	struct dns_query *buckets[DNS_BUCKETS];
	struct list queries;
	struct list waiting; /* for the list of nameservers */
	struct list onward;  /* go on to the next nameserver when the turn ends */
	uint32_t n_queries;
	size_t n_bytes; /* of all queries */
	struct timer wait_timer;
	struct list open, full; /* sockets that take more tries, and that should not */
	struct dns_socket **sockets;
	uint32_t *free_indices;
	uint32_t n_sockets, generation;
	struct outbox outbox; /* its senders are sockets */
	struct inbox inbox;
	unsigned int batch; /* how many to ask for */
	struct dns_answer answers[HOST_BATCH_MAX];
	unsigned int n_answers;
};

static inline bool dns_is_same_server(
	const struct host_nameserver *a, const struct host_nameserver *b)
{
	return a->scope == b->scope && ip_addr_equal(&a->addr, &b->addr);
}

/* ---- dns.c ---- */

/* The nameserver has answered, or has failed. */
void dns_tell(struct dns *dns, const struct host_nameserver *server, bool answered);
/* Nothing more is expected of this try: its query goes on to the next nameserver. */
void dns_onward(struct dns_try *try);
/* Out of all lists: nobody but the caller, who frees it, knows it any more. */
void dns_query_unlink(struct dns_query *query);

/* ---- send.c ---- */

/* The try's query, under its id, with what else the turn sends. */
void dns_send(struct dns_try *try);
/* All that is in the outbox. */
void dns_send_all(struct dns *dns);

/* ---- sockets.c ---- */

/* Gives the try a socket and an id. 0; -EMFILE: there is room nowhere; or why its nameserver cannot
 * be reached, a negative errno. */
int dns_socket_attach(struct dns *dns, struct dns_try *try);
/* It expects nothing any more; its socket is closed when nobody else does and it has served its
 * time. Nothing happens when it has none. */
void dns_socket_detach(struct dns_try *try);
/* It is not used any more; whoever waits there goes on to the next nameserver. */
void dns_socket_fail(struct dns_socket *socket);
struct dns_socket *dns_socket_get(struct dns *dns, struct handle handle);
/* Who waits for an answer with this id; NULL: nobody. */
struct dns_try *dns_socket_find(struct dns_socket *socket, uint16_t id);
/* Closes it if it may be closed now: after is_held or has_unsent. */
void dns_socket_settle(struct dns_socket *socket);
void dns_socket_close(struct dns_socket *socket);
