/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/neighbor.h"

#include "base/util.h"
#include "gateway/own.h"

void neighbor_table_init(
	struct neighbor_table *table, const struct policy *policy, const struct siphash_key *key)
{
	*table = (struct neighbor_table){.policy = policy, .key = *key};
	list_init(&table->used);
}

static struct neighbor **bucket_of(struct neighbor_table *table, const struct ip_addr *addr)
{
	uint64_t hash = siphash(&table->key, &addr->in6, sizeof(addr->in6));

	return &table->buckets[hash % NEIGHBOR_BUCKETS];
}

static struct neighbor *find(struct neighbor_table *table, const struct ip_addr *addr)
{
	struct neighbor *neighbor = *bucket_of(table, addr);

	while (neighbor && !ip_addr_equal(&neighbor->addr, addr))
		neighbor = neighbor->next;
	return neighbor;
}

static void touch(struct neighbor_table *table, struct neighbor *neighbor)
{
	list_remove(&neighbor->used);
	list_append(&table->used, &neighbor->used);
}

const struct neighbor *neighbor_find(struct neighbor_table *table, const struct ip_addr *addr)
{
	struct neighbor *neighbor = find(table, addr);

	if (neighbor)
		touch(table, neighbor);
	return neighbor;
}

/* The one that gives way is in no list any more. */
static struct neighbor *evict(struct neighbor_table *table)
{
	struct neighbor *oldest = container_of(list_take(&table->used), struct neighbor, used);
	struct neighbor **ref = bucket_of(table, &oldest->addr);

	while (*ref != oldest)
		ref = &(*ref)->next;
	*ref = oldest->next;
	return oldest;
}

static struct neighbor *add(struct neighbor_table *table, const struct ip_addr *addr)
{
	struct neighbor **bucket = bucket_of(table, addr), *neighbor;

	neighbor = table->n_neighbors < NEIGHBORS_MAX ? &table->neighbors[table->n_neighbors++]
						      : evict(table);
	*neighbor = (struct neighbor){.addr = *addr, .next = *bucket};
	*bucket = neighbor;
	return neighbor;
}

static bool is_unicast4(const struct policy *policy, const struct ip_addr *addr)
{
	uint32_t v4 = ntohl(ip_addr_v4(addr).s_addr);

	return v4 >> 24 != 0 && v4 >> 24 != IN_LOOPBACKNET && v4 >> 28 < 0xe &&
		!policy_is_directed_broadcast(policy, addr);
}

static bool is_unicast6(const struct in6_addr *addr)
{
	static const uint8_t zero[12];

	/* ::/96 has :: and ::1 in it. */
	return !IN6_IS_ADDR_MULTICAST(addr) && !IN6_IS_ADDR_V4MAPPED(addr) &&
		memcmp(addr, zero, sizeof(zero)) != 0;
}

static bool mac_is_unicast(const struct eth_addr *mac)
{
	static const struct eth_addr zero;

	return !eth_addr_is_group(mac) && memcmp(mac, &zero, sizeof(zero)) != 0;
}

static bool can_be_neighbor(const struct policy *policy, const struct ip_addr *addr)
{
	bool is_unicast =
		addr->family == AF_INET ? is_unicast4(policy, addr) : is_unicast6(&addr->in6);

	return is_unicast && own_address_of(policy, addr) == OWN_NONE;
}

bool neighbor_learn(struct neighbor_table *table, const struct ip_addr *addr,
	const struct eth_addr *mac, int64_t now_ns)
{
	struct neighbor *neighbor;

	if (!mac_is_unicast(mac) || !can_be_neighbor(table->policy, addr))
		return false;
	neighbor = find(table, addr);
	if (!neighbor)
		neighbor = add(table, addr);
	neighbor->mac = *mac;
	neighbor->heard_ns = now_ns;
	touch(table, neighbor);
	return true;
}
