/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/handle.h"
#include "base/util.h"
#include "wire/tcp.h"

#define BLOCK_FLOWS   64
#define BUCKETS_FIRST 256

struct flow_block {
	uint32_t n_used;
	_Alignas(64) uint8_t flows[];
};

static size_t block_size(const struct flow_table *table)
{
	return sizeof(struct flow_block) + BLOCK_FLOWS * table->flow_size;
}

/* From the system, not from the heap: one small piece above it would keep it there for ever. */
static struct flow_block *block_alloc(const struct flow_table *table)
{
	void *block = mmap(NULL, block_size(table), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return block != MAP_FAILED ? block : NULL;
}

static void block_free(const struct flow_table *table, struct flow_block *block)
{
	if (block)
		munmap(block, block_size(table));
}

static struct flow *flow_at(const struct flow_table *table, uint32_t index)
{
	struct flow_block *block = table->blocks[index / BLOCK_FLOWS];

	return (struct flow *)(void *)(block->flows + index % BLOCK_FLOWS * table->flow_size);
}

int flow_table_init(struct flow_table *table, size_t flow_size, uint32_t max_flows,
	const struct siphash_key *key)
{
	*table = (struct flow_table){
		.flow_size = (flow_size + 63) / 64 * 64,
		.max_flows = max_flows,
		.key = *key,
		.n_buckets = BUCKETS_FIRST,
		.n_blocks = (uint32_t)(((uint64_t)max_flows + BLOCK_FLOWS - 1) / BLOCK_FLOWS),
	};
	list_init(&table->dead);
	table->buckets = calloc(table->n_buckets, sizeof(struct flow *));
	table->blocks = calloc(table->n_blocks, sizeof(struct flow_block *));
	if (table->buckets && table->blocks)
		return 0;
	flow_table_done(table);
	return -ENOMEM;
}

void flow_table_done(struct flow_table *table)
{
	flow_table_sweep(table);
	for (uint32_t i = 0; i < table->n_blocks && table->blocks; i++)
		block_free(table, table->blocks[i]);
	free(table->blocks);
	free(table->buckets);
	table->blocks = NULL;
	table->buckets = NULL;
	table->n_blocks = 0;
}

void flow_key_of(struct flow_key *ret, const uint8_t *frame, const struct packet *packet)
{
	/* UDP's header begins in the same way. */
	const struct tcp_header *ports =
		(const struct tcp_header *)(frame + packet->transport_offset);

	*ret = (struct flow_key){
		.near = packet->src.in6,
		.far = packet->dst.in6,
		.near_port = be16_get(ports->src_port),
		.far_port = be16_get(ports->dst_port),
		.family = packet->src.family,
	};
}

static uint64_t hash_of(const struct flow_table *table, const struct flow_key *key)
{
	return siphash(&table->key, key, sizeof(*key));
}

static struct flow **bucket_of(const struct flow_table *table, uint64_t hash)
{
	return &table->buckets[hash & (table->n_buckets - 1)];
}

struct flow *flow_table_find(const struct flow_table *table, const struct flow_key *key)
{
	uint64_t hash = hash_of(table, key);
	struct flow *flow = *bucket_of(table, hash);

	while (flow && (flow->hash != hash || memcmp(&flow->key, key, sizeof(*key)) != 0))
		flow = flow->next;
	return flow;
}

struct flow *flow_table_get(const struct flow_table *table, uint32_t index, uint32_t generation)
{
	struct flow *flow;

	if (index / BLOCK_FLOWS >= table->n_blocks || !table->blocks[index / BLOCK_FLOWS])
		return NULL;
	flow = flow_at(table, index);
	if (!generation || flow->generation != generation || list_is_linked(&flow->dead))
		return NULL;
	return flow;
}

/* Twice as many buckets when there are as many flows; without memory chains grow longer. */
static void grow(struct flow_table *table)
{
	struct flow **old = table->buckets;
	uint32_t n_old = table->n_buckets;
	struct flow **buckets = calloc((size_t)n_old * 2, sizeof(struct flow *));

	if (!buckets)
		return;
	table->buckets = buckets;
	table->n_buckets = n_old * 2;
	for (uint32_t i = 0; i < n_old; i++) {
		for (struct flow *flow = old[i], *next; flow; flow = next) {
			struct flow **bucket = bucket_of(table, flow->hash);

			next = flow->next;
			flow->next = *bucket;
			*bucket = flow;
		}
	}
	free(old);
}

/* The block with a free place that lies lowest, so that the upper ones empty. */
static struct flow_block *block_with_room(struct flow_table *table)
{
	for (; table->first_room < table->n_blocks; table->first_room++) {
		struct flow_block **block = &table->blocks[table->first_room];

		if (!*block)
			*block = block_alloc(table);
		if (!*block)
			return NULL;
		if ((*block)->n_used < BLOCK_FLOWS)
			return *block;
	}
	return NULL;
}

static struct flow *place_alloc(struct flow_table *table)
{
	struct flow_block *block;

	if (table->n_flows >= table->max_flows)
		return NULL;
	block = block_with_room(table);
	if (!block)
		return NULL;
	for (uint32_t i = 0; i < BLOCK_FLOWS; i++) {
		uint32_t index = table->first_room * BLOCK_FLOWS + i;
		struct flow *flow = flow_at(table, index);

		if (flow->generation)
			continue;
		block->n_used++;
		table->n_flows++;
		memset(flow, 0, table->flow_size);
		flow->index = index;
		return flow;
	}
	return NULL;
}

static uint32_t next_generation(struct flow_table *table)
{
	table->generation = (table->generation + 1) & HANDLE_GENERATION_MASK;
	if (!table->generation)
		table->generation = 1;
	return table->generation;
}

struct flow *flow_table_add(struct flow_table *table, const struct flow_key *key)
{
	struct flow *flow = place_alloc(table);
	struct flow **bucket;

	if (!flow)
		return NULL;
	if (table->n_hashed >= table->n_buckets)
		grow(table);
	flow->key = *key;
	flow->generation = next_generation(table);
	flow->hash = hash_of(table, key);
	bucket = bucket_of(table, flow->hash);
	flow->next = *bucket;
	*bucket = flow;
	flow->is_hashed = true;
	table->n_hashed++;
	return flow;
}

void flow_table_unhash(struct flow_table *table, struct flow *flow)
{
	struct flow **ref = bucket_of(table, flow->hash);

	if (!flow->is_hashed)
		return;
	while (*ref != flow)
		ref = &(*ref)->next;
	*ref = flow->next;
	flow->next = NULL;
	flow->is_hashed = false;
	table->n_hashed--;
}

void flow_table_remove(struct flow_table *table, struct flow *flow)
{
	flow_table_unhash(table, flow);
	if (!list_is_linked(&flow->dead))
		list_append(&table->dead, &flow->dead);
}

static void place_free(struct flow_table *table, struct flow *flow)
{
	uint32_t n_block = flow->index / BLOCK_FLOWS;
	struct flow_block *block = table->blocks[n_block];

	flow->generation = 0;
	table->n_flows--;
	block->n_used--;
	/* The lowest one stays, or a single flow that comes and goes would cost a block each. */
	if (!block->n_used && n_block) {
		block_free(table, block);
		table->blocks[n_block] = NULL;
	}
	table->first_room = MIN(table->first_room, n_block);
}

void flow_table_sweep(struct flow_table *table)
{
	struct list *node;

	if (!table->dead.next)
		return;
	while ((node = list_take(&table->dead)))
		place_free(table, container_of(node, struct flow, dead));
}

static struct flow *flow_from(const struct flow_table *table, uint32_t index)
{
	for (uint32_t n = index / BLOCK_FLOWS; n < table->n_blocks; n++, index = n * BLOCK_FLOWS) {
		if (!table->blocks[n])
			continue;
		for (; index < (n + 1) * BLOCK_FLOWS; index++) {
			struct flow *flow = flow_at(table, index);

			if (flow->generation && !list_is_linked(&flow->dead))
				return flow;
		}
	}
	return NULL;
}

struct flow *flow_table_any(const struct flow_table *table)
{
	return flow_from(table, 0);
}

struct flow *flow_table_after(const struct flow_table *table, const struct flow *flow)
{
	return flow_from(table, flow->index + 1);
}
