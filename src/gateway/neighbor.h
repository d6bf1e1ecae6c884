/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who was heard on the link, and under which Ethernet address. The table is full soon when a
 * container wants it to be; then the neighbour that was least recently heard of or asked for gives
 * way. The hash is keyed, since the container chooses the addresses.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/siphash.h"
#include "flow/policy.h"
#include "wire/eth.h"
#include "wire/types.h"

#define NEIGHBORS_MAX    256
#define NEIGHBOR_BUCKETS 256 /* a power of two */

struct neighbor {
	struct ip_addr addr;
	struct eth_addr mac;
	int64_t heard_ns;
	struct neighbor *next; /* in its bucket */
	struct list used;
};

/* It is not moved: its parts point to each other. */
struct neighbor_table {
	const struct policy *policy;
	struct siphash_key key;
	struct neighbor *buckets[NEIGHBOR_BUCKETS];
	struct list used; /* least recently first */
	uint32_t n_neighbors;
	struct neighbor neighbors[NEIGHBORS_MAX];
};

/* Keeps `policy`. */
void neighbor_table_init(
	struct neighbor_table *table, const struct policy *policy, const struct siphash_key *key);

/* `addr` spoke, or was spoken of, as being at `mac`. What no neighbour can have is not believed:
 * addresses of ours, of groups, of this host (loopback), group MACs. Returns whether it is. */
bool neighbor_learn(struct neighbor_table *table, const struct ip_addr *addr,
	const struct eth_addr *mac, int64_t now_ns);

/* NULL: not heard of. Good until the next neighbor_learn(). */
const struct neighbor *neighbor_find(struct neighbor_table *table, const struct ip_addr *addr);
