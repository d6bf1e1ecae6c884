/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of publish/ share: publish.c (rules, and which path a client takes), tcp.c
 * (listeners), lazy.c (which of them listen), udp.c (datagrams).
 *
 * Each rule has one `struct published`, from bind() to unbind(); connections do not know it, they
 * hold its `usage`.
 */
#pragma once

#include "base/list.h"
#include "publish/publish.h"

/* A listening socket of a TCP rule; a published UDP socket is udp.c's. */
struct listener {
	struct list link; /* in publish->ready or publish->resting */
	struct published *published;
	int fd;
	uint32_t slot, generation; /* its handle's */
	uint16_t host_port, guest_port;
	bool paused; /* a lazy rule's: nothing in the container listens */
	int error;   /* why it could not listen again, a negative errno */
};

struct published {
	struct list link; /* in publish->rules */
	struct publish *publish;
	struct forward_rule *rule;
	struct usage *usage;
	/* Of the host's side: AF_INET, AF_INET6, AF_UNIX; and whether it has IPv4 clients, too. */
	uint8_t family;
	bool dual_stack;
	uint32_t n_listeners;
	struct listener *listeners;          /* TCP */
	struct list lazy_link;               /* in lazy->rules */
	struct unix_listener *unix_listener; /* FORWARD_FROM_UNIX */
	struct published_udp *udp;           /* UDP: udp.c's own */
};

struct publish {
	struct forward_backend backend;
	struct publish_config config;
	struct list rules;
	/* Listeners by the index in their handles; a slot that is free has none. */
	struct slot {
		struct listener *listener;
		uint32_t generation;
		uint32_t next_free;
	} * slots;
	uint32_t n_slots, first_free;
	/* Listeners at which clients wait, and those that rest since they could not be accepted. */
	struct list ready, resting;
	struct timer rest_timer;
	uint16_t next_port; /* publish_own_port()'s */
	struct lazy *lazy;
	struct publish_udp *udp; /* udp.c's own */
};

/* ---- publish.c: decisions that both protocols need ---- */

/* The guest's address of the rule as of now, for a client of `family` (AF_INET, AF_INET6, AF_UNIX);
 * false: it is not known (yet). */
bool published_guest(const struct published *published, uint8_t family, struct ip_addr *ret);
/* Whether the rule names no guest. */
bool published_has_default_guest(const struct published *published);
/* Whether a client at `peer` is to be carried by a socket of the namespace. */
bool published_wants_splice(const struct published *published, const struct ip_addr *peer);
/* 127/8, ::1. */
bool publish_is_loopback(const struct ip_addr *addr);
/* One that no server has (RFC 6335 6), for a client without one that it can keep. */
uint16_t publish_own_port(struct publish *publish);
/* How a client is shown on the link to the guest: *far and *far_port. */
void publish_client_name(struct publish *publish, const struct ip_addr *peer, uint16_t peer_port,
	const struct ip_addr *guest, struct ip_addr *far, uint16_t *far_port);

/* ---- udp.c ---- */

/* All of its state, or NULL without memory; and its end, when all rules were unbound. */
struct publish_udp *publish_udp_new(struct publish *publish);
void publish_udp_free(struct publish_udp *udp);
/* As forward_backend_ops' bind(), all ports or none; guest and path were checked. A descriptor of
 * FORWARD_FROM_FD was checked to be a bound datagram socket of AF_INET or AF_INET6; it is taken out
 * of the spec here, when 0 is returned. */
int publish_udp_bind(struct published *published, struct forward_failure *ret_failure);
/* Its clients have nobody to answer them any more. */
void publish_udp_unbind(struct published *published);
/* The usage's numbers are filled in by the caller. */
void publish_udp_status(const struct published *published, struct forward_status *ret);
void publish_udp_ready(struct publish_udp *udp, struct handle handle, uint32_t events);
void publish_udp_neighbor(
	struct publish_udp *udp, const struct ip_addr *addr, const struct eth_addr *mac);
/* Returns true when there is more to do at once. */
bool publish_udp_finish(struct publish_udp *udp);

/* ---- tcp.c ---- */

void publish_tcp_init(struct publish *publish);
void publish_tcp_done(struct publish *publish);
/* As the backend's. */
int publish_tcp_bind(struct published *published, struct forward_failure *ret_failure);
void publish_tcp_unbind(struct published *published);
void publish_tcp_status(const struct published *published, struct forward_status *ret);
void publish_tcp_ready(struct publish *publish, struct handle handle);
bool publish_tcp_finish(struct publish *publish);
/* Makes the listener listen, or not; one that could not is tried again with the next call. */
void listener_set_paused(struct listener *listener, bool paused);

/* ---- lazy.c ---- */

/* NULL without memory. */
struct lazy *lazy_new(struct publish *publish);
void lazy_free(struct lazy *lazy);
/* Whether the rule's listeners are to begin paused: lazy_add() then follows. */
bool lazy_is_for(const struct lazy *lazy, const struct published *published);
void lazy_add(struct lazy *lazy, struct published *published);
/* Nothing happens when it was not added. */
void lazy_remove(struct lazy *lazy, struct published *published);
