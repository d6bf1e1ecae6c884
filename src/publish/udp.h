/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of published UDP ports share: udp.c (rules, sockets, turns), udp_client.c (who
 * speaks to them), udp_send.c (what goes to the host), udp_splice.c (sockets of the namespace).
 *
 * A client is whoever sends from one address and port to one of ours, at one published socket. It
 * goes one of two ways:
 *
 *   tap     its datagrams go over the link, in its name; what the guest sends to that name goes
 *           back from the published socket, from the address that the client spoke to
 *   splice  they go by a socket of the container's namespace, connected to the guest
 *
 * Until the way is there (an answer to ARP, a socket of the agent's) a few of them wait.
 */
#pragma once

#include "flow/inbox.h"
#include "flow/outbox.h"
#include "flow/table.h"
#include "publish/internal.h"

/* A client is forgotten when nothing came or went for so long (RFC 4787 REQ-5). */
#define PUBLISH_UDP_IDLE_NS (120 * NS_PER_SEC)
/* How long the container's word about the path to it holds (RFC 1191 6.3). */
#define PUBLISH_UDP_PATH_MTU_NS (600 * NS_PER_SEC)
/* Between two questions where the guest is. */
#define PUBLISH_UDP_ASK_NS (1 * NS_PER_SEC)
/* In a handle's index: it is a client's socket of the namespace. */
#define UDP_CLIENT_INDEX (UINT32_C(1) << 31)
/* What waits for a way: of one client, and of all, bytes with what keeps them. */
#define PUBLISH_UDP_WAITING_MAX   128
#define PUBLISH_UDP_WAITING_BYTES (4 << 20)

/* A descriptor from which we receive: a published socket, or a client's in the namespace. */
struct udp_end {
	struct host_dgram dgram; /* fd -1: it is not there (yet) */
	struct list ready;       /* in publish_udp.ready: may have more */
	unsigned int batch;      /* how many to ask for */
	bool is_client;
};

/* A published port. (wire/ has an enum udp_port.) */
struct udp_socket {
	struct udp_end end; /* first */
	struct published *published;
	uint16_t guest_port;
	uint32_t index, generation; /* its handle's */
	struct list clients;
};

enum udp_way {
	UDP_TAP,
	UDP_NO_WAY, /* the agent was asked for a socket, or one has failed */
	UDP_SPLICE, /* by a socket of the namespace */
};

struct udp_client {
	struct flow flow;   /* first: publish_udp.clients'; its key says who it is to the host */
	struct udp_end end; /* UDP_SPLICE */
	enum udp_way way;
	struct udp_socket *port;
	struct ip_addr addr, local; /* the client, and which of our addresses it speaks to */
	uint16_t addr_port;
	uint32_t scope;
	struct ip_addr guest;
	struct udp_name *name;   /* UDP_TAP: how the container knows it */
	struct eth_addr our_mac; /* likewise */
	uint32_t path_mtu;       /* towards the container, where it has told; 0: it has not */
	int64_t path_mtu_until_ns;
	bool has_sent; /* something went into the container */
	int64_t used_ns;
	struct timer timer;
	struct list used;    /* in publish_udp.used */
	struct list of_port; /* in udp_socket.clients */
	struct list waiting; /* in publish_udp.waiting */
	struct list queue;   /* of struct udp_waiter */
	unsigned int n_queue;
	int64_t wait_since_ns;
	struct usage *usage; /* NULL: it was closed */
	struct publish_udp *owner;
};

/* A client in the container's eyes: what the container sends there is the client's. */
struct udp_name {
	struct flow flow; /* first: publish_udp.names' */
	struct udp_client *client;
};

struct publish_udp {
	struct publish *publish;
	struct flow_table clients, names;
	/* By the index in their handles; NULL: free. */
	struct udp_socket **ports;
	uint32_t n_ports, ports_room, first_free, generation;
	struct list used;    /* clients, least recently first */
	struct list ready;   /* ends */
	struct list waiting; /* clients */
	size_t n_waiting_bytes;
	bool heard; /* of a neighbour, in this turn */
	struct outbox outbox;
	struct inbox inbox;
};

static inline const struct publish_config *udp_config(const struct publish_udp *udp)
{
	return &udp->publish->config;
}

/* ---- udp.c ---- */

/* `n` datagrams of clients were lost, as `which` says. */
void udp_lost(struct publish_udp *udp, struct usage *usage, enum counter which, int n);

/* ---- udp_client.c ---- */

/* Of whom this is; a new one, if need be. NULL: there is no room, or no guest. */
struct udp_client *udp_client_of(struct udp_socket *port, const struct host_datagram *from);
/* Whom an error of the published socket concerns; NULL: nobody. */
struct udp_client *udp_client_find(struct udp_socket *port, const struct ip_addr *addr,
	uint16_t addr_port, const struct ip_addr *local, uint32_t scope);
void udp_client_close(struct udp_client *client);
/* It was used now. */
void udp_client_touch(struct udp_client *client);
/* A run of its datagrams, on their way to the container. */
void udp_client_deliver(struct udp_client *client, const struct run *run);
/* From now on it goes over the link; false: that cannot be, it was closed. */
bool udp_client_use_tap(struct udp_client *client);
/* A datagram, or a run of them, waits for a way. */
void udp_client_wait(struct udp_client *client, const struct run *run);
/* A datagram, or a run of at most EGRESS_PIECES_MAX, as it would be received. */
void udp_run_of(const struct host_datagram *datagram, struct run *ret);
/* What waits goes now, if there is a way. */
void udp_client_flush(struct udp_client *client);

/* ---- udp_send.c ---- */

/* `run`, of any length, as datagrams of `segment` bytes (0: one), is to be sent from `end`. */
void udp_put(
	struct publish_udp *udp, struct udp_end *end, struct host_datagram *run, uint16_t segment);
/* `data`, what the container has for the client. */
void udp_answer(struct udp_client *client, struct host_datagram *data, uint16_t segment);
void publish_udp_send_all(struct publish_udp *udp);
/* Reads the errors that the kernel has kept for an end, and tells the container of those of the
 * published sockets. `current` is the datagram whose sending failed just now, or NULL. */
enum udp_errors {
	UDP_ERRORS_NONE,
	UDP_ERRORS_SOME,
	UDP_ERRORS_TOO_BIG, /* `current` is larger than its path's MTU, and may not be cut */
};
enum udp_errors publish_udp_take_errors(
	struct publish_udp *udp, struct udp_end *end, const struct host_datagram *current);

/* ---- udp_splice.c ---- */

/* Asks for a socket of the namespace; it goes over the link (or is closed) if that is no way. */
void udp_splice_begin(struct udp_client *client);
void udp_splice_send(struct udp_client *client, const struct host_datagram *datagram);
/* Something has come from the guest. */
void udp_splice_answer(struct udp_client *client, const struct run *run);
/* Something was sent, and could not be. */
void udp_splice_failed(struct udp_client *client, const struct host_datagram *datagram, int error);
/* The socket is given up if it has failed, and another way is tried. */
void udp_splice_check(struct udp_client *client);
