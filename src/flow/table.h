/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flows of one kind: found by their addresses and ports, or by the handle that an epoll event
 * carries. The table owns them; it alone frees, when a turn is over (flow_table_sweep()), so that
 * no pointer dangles within one.
 *
 * The hash is keyed (SipHash), since the container chooses the keys. Memory is taken for 64 flows
 * at a time and given back when none of them is left.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/siphash.h"
#include "wire/packet.h"

/* A conversation as the container sees it. IPv4 addresses are v4-mapped; `family` tells them from
 * IPv6 addresses that look the same. No padding: it is hashed and compared as bytes. */
struct flow_key {
	struct in6_addr near, far; /* the container's address, and the one it speaks to */
	uint16_t near_port, far_port;
	uint8_t family;
	uint8_t zero[3];
};
_Static_assert(sizeof(struct flow_key) == 40, "no padding");

/* What every flow begins with. */
struct flow {
	struct flow_key key;
	struct flow *next; /* in its bucket */
	uint64_t hash;
	uint32_t index;
	uint32_t generation; /* 24 bits; 0: a free place */
	bool is_hashed;
	struct list dead; /* until the turn is over */
};

struct flow_block;

struct flow_table {
	size_t flow_size;
	uint32_t n_flows, max_flows;
	uint32_t generation;
	struct siphash_key key;
	struct flow **buckets;
	uint32_t n_buckets; /* a power of two */
	uint32_t n_hashed;
	struct flow_block **blocks; /* NULL: not there now */
	uint32_t n_blocks;
	uint32_t first_room; /* no block below has room */
	struct list dead;
};

/* `flow_size` is that of the kind's struct, which begins with a struct flow. 0 or -ENOMEM. */
int flow_table_init(struct flow_table *table, size_t flow_size, uint32_t max_flows,
	const struct siphash_key *key);
/* All flows must have been removed. */
void flow_table_done(struct flow_table *table);

/* The conversation to which a packet with ports belongs, seen from the container. */
void flow_key_of(struct flow_key *ret, const uint8_t *frame, const struct packet *packet);

struct flow *flow_table_find(const struct flow_table *table, const struct flow_key *key);
/* NULL: the handle is of an earlier flow. */
struct flow *flow_table_get(const struct flow_table *table, uint32_t index, uint32_t generation);
/* A new flow, zero but for its head. NULL: there are max_flows already, or no memory. */
struct flow *flow_table_add(struct flow_table *table, const struct flow_key *key);
/* From now on its key may be used by another. */
void flow_table_unhash(struct flow_table *table, struct flow *flow);
/* It is found no more; its memory stays until the turn is over. */
void flow_table_remove(struct flow_table *table, struct flow *flow);
/* The turn is over. */
void flow_table_sweep(struct flow_table *table);
/* Any flow; NULL: there is none. For teardown. */
struct flow *flow_table_any(const struct flow_table *table);
/* The one behind `flow` in no particular order, NULL: it was the last. */
struct flow *flow_table_after(const struct flow_table *table, const struct flow *flow);
