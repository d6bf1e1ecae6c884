/* SPDX-License-Identifier: Apache-2.0 */
#include "frames.h"

#include "base/handle.h"
#include "base/util.h"
#include "flow/table.h"

/* Larger than a struct flow and of an odd size, with something of its own at the end. */
struct thing {
	struct flow flow;
	char own[133];
};

#define MAX_FLOWS 1000

static const struct siphash_key hash_key = {{1, 2}};
static struct flow_table table;

static void set_up(uint32_t max_flows)
{
	g_assert_cmpint(flow_table_init(&table, sizeof(struct thing), max_flows, &hash_key), ==, 0);
}

static void tear_down(void)
{
	struct flow *flow;

	while ((flow = flow_table_any(&table)))
		flow_table_remove(&table, flow);
	flow_table_sweep(&table);
	g_assert_cmpuint(table.n_flows, ==, 0);
	g_assert_cmpuint(table.n_hashed, ==, 0);
	flow_table_done(&table);
	g_assert_null(flow_table_any(&table));
}

static struct flow_key key_of(uint32_t n)
{
	return (struct flow_key){
		.near = ip_addr_of_v4((struct in_addr){htonl(0x0a000264)}).in6,
		.far = ip_addr_of_v4((struct in_addr){htonl(0xc0000201 + (n >> 16))}).in6,
		.near_port = (uint16_t)n,
		.far_port = 80,
		.family = AF_INET,
	};
}

/* As its owner does: all of it is written. */
static struct flow *add(uint32_t n)
{
	struct flow_key key = key_of(n);
	struct flow *flow = flow_table_add(&table, &key);

	if (flow) {
		struct thing *thing = container_of(flow, struct thing, flow);

		for (size_t i = 0; i < sizeof(thing->own); i++)
			g_assert_cmpint(thing->own[i], ==, 0);
		memset(thing->own, 'x', sizeof(thing->own));
	}
	return flow;
}

static struct flow *find(uint32_t n)
{
	struct flow_key key = key_of(n);

	return flow_table_find(&table, &key);
}

static uint32_t n_blocks_there(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < table.n_blocks; i++)
		n += table.blocks[i] != NULL;
	return n;
}

static void test_add_find_get(void)
{
	struct flow *a, *b;

	set_up(MAX_FLOWS);
	g_assert_null(find(1));
	g_assert_null(flow_table_any(&table));
	a = add(1);
	b = add(2);
	g_assert_nonnull(a);
	g_assert_true(find(1) == a);
	g_assert_true(find(2) == b);
	g_assert_null(find(3));
	g_assert_true(flow_table_get(&table, a->index, a->generation) == a);
	g_assert_true(flow_table_get(&table, b->index, b->generation) == b);
	g_assert_null(flow_table_get(&table, a->index, b->generation));
	g_assert_null(flow_table_get(&table, a->index, 0));
	g_assert_null(flow_table_get(&table, b->index + 1, 0));
	g_assert_null(flow_table_get(&table, 500, 1)); /* a block that is not there */
	g_assert_null(flow_table_get(&table, 1u << 20, 1));
	g_assert_null(flow_table_get(&table, UINT32_MAX, 1));
	tear_down();
}

/* Every field of the key tells flows apart. */
static void test_key_fields(void)
{
	struct flow_key keys[6];

	set_up(MAX_FLOWS);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		keys[i] = key_of(7);
	keys[1].near.s6_addr[15]++;
	keys[2].far.s6_addr[15]++;
	keys[3].near_port++;
	keys[4].far_port++;
	keys[5].family = AF_INET6; /* v4-mapped, but carried by IPv6 */
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		g_assert_null(flow_table_find(&table, &keys[i]));
		g_assert_nonnull(flow_table_add(&table, &keys[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		g_assert_cmpmem(&flow_table_find(&table, &keys[i])->key, sizeof(keys[i]), &keys[i],
			sizeof(keys[i]));
	tear_down();
}

static struct flow_key key_of_frame(const struct frame *frame)
{
	struct flow_key key;
	struct packet packet;

	memset(&key, 0xff, sizeof(key)); /* every byte is to be written */
	g_assert_cmpint(packet_parse(frame->b, frame->len, &packet), ==, PACKET_OK);
	flow_key_of(&key, frame->b, &packet);
	return key;
}

static void test_key_of_frame(void)
{
	static const uint8_t ports[20] = {0x12, 0x34, 0, 80, [12] = 0x50};
	static struct frame frame;
	struct flow_key expected = key_of(0x1234), key;

	frame_ip4(&frame, 6, "10.0.2.100", "192.0.2.1", ports, sizeof(ports));
	key = key_of_frame(&frame);
	g_assert_cmpmem(&key, sizeof(key), &expected, sizeof(expected));
	frame_ip6(&frame, 6, "fd00::64", "2001:db8::1", ports, sizeof(ports));
	expected.family = AF_INET6;
	inet_pton(AF_INET6, "fd00::64", &expected.near);
	inet_pton(AF_INET6, "2001:db8::1", &expected.far);
	key = key_of_frame(&frame);
	g_assert_cmpmem(&key, sizeof(key), &expected, sizeof(expected));
}

/* The memory of a flow stays until the turn is over, but nobody finds it. */
static void test_remove_and_sweep(void)
{
	struct flow *flow, *other;
	uint32_t index, generation;

	set_up(MAX_FLOWS);
	flow = add(1);
	index = flow->index;
	generation = flow->generation;
	flow_table_remove(&table, flow);
	flow_table_remove(&table, flow); /* twice is once */
	g_assert_null(find(1));
	g_assert_null(flow_table_get(&table, index, generation));
	g_assert_null(flow_table_any(&table));
	g_assert_cmpuint(table.n_flows, ==, 1);
	other = add(1); /* the same key within the turn */
	g_assert_nonnull(other);
	g_assert_cmpuint(other->index, !=, index);
	g_assert_true(find(1) == other);
	flow_table_sweep(&table);
	flow_table_sweep(&table);
	g_assert_cmpuint(table.n_flows, ==, 1);
	g_assert_true(find(1) == other);
	g_assert_null(flow_table_get(&table, index, generation));
	tear_down();
}

/* A stale handle never means the flow that has the place now. */
static void test_generations(void)
{
	uint32_t index = 0, last = 0;

	set_up(MAX_FLOWS);
	for (int i = 0; i < 300; i++) {
		struct flow *flow = add(1);

		if (i) {
			g_assert_cmpuint(flow->index, ==, index);
			g_assert_cmpuint(flow->generation, !=, last);
			g_assert_null(flow_table_get(&table, index, last));
		}
		index = flow->index;
		last = flow->generation;
		flow_table_remove(&table, flow);
		flow_table_sweep(&table);
	}
	tear_down();
}

/* 24 bits go into a handle, and 0 is no generation. */
static void test_generations_wrap(void)
{
	set_up(MAX_FLOWS);
	table.generation = HANDLE_GENERATION_MASK - 1;
	g_assert_cmphex(add(1)->generation, ==, HANDLE_GENERATION_MASK);
	g_assert_cmphex(add(2)->generation, ==, 1);
	tear_down();
}

/* Another may have the key while the flow lives on. */
static void test_unhash(void)
{
	struct flow *old, *new;

	set_up(MAX_FLOWS);
	old = add(1);
	flow_table_unhash(&table, old);
	flow_table_unhash(&table, old);
	g_assert_null(find(1));
	g_assert_cmpuint(table.n_hashed, ==, 0);
	g_assert_true(flow_table_get(&table, old->index, old->generation) == old);
	new = add(1);
	g_assert_true(find(1) == new);
	flow_table_remove(&table, old);
	flow_table_sweep(&table);
	g_assert_true(find(1) == new);
	tear_down();
}

static void test_max_flows(void)
{
	static const uint32_t limits[] = {1, 63, 64, 65, 128, 1000};

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		set_up(limits[i]);
		for (uint32_t n = 0; n < limits[i]; n++)
			g_assert_nonnull(add(n));
		g_assert_null(add(limits[i]));
		g_assert_null(find(limits[i]));
		/* A dead one keeps its place until the turn is over. */
		flow_table_remove(&table, find(limits[i] / 2));
		g_assert_null(add(limits[i]));
		flow_table_sweep(&table);
		g_assert_nonnull(add(limits[i]));
		g_assert_null(add(limits[i] + 1));
		tear_down();
	}
}

/* More flows than there were buckets: all are still found, and the chains are short. */
static void test_grow(void)
{
	const uint32_t n = 5000;
	uint32_t n_longest = 0;

	set_up(n);
	for (uint32_t i = 0; i < n; i++)
		g_assert_nonnull(add(i * 13));
	for (uint32_t i = 0; i < n; i++) {
		g_assert_nonnull(find(i * 13));
		g_assert_cmpuint(find(i * 13)->key.near_port, ==, (uint16_t)(i * 13));
	}
	g_assert_cmpuint(table.n_buckets, >=, n);
	for (uint32_t i = 0; i < table.n_buckets; i++) {
		uint32_t len = 0;

		for (struct flow *flow = table.buckets[i]; flow; flow = flow->next)
			len++;
		n_longest = MAX(n_longest, len);
	}
	g_assert_cmpuint(n_longest, <, 16);
	for (uint32_t i = 0; i < n; i += 2)
		flow_table_remove(&table, find(i * 13));
	flow_table_sweep(&table);
	for (uint32_t i = 0; i < n; i++)
		g_assert_true(!find(i * 13) == (i % 2 == 0));
	tear_down();
}

/* What lies in one bucket is told apart and taken out at its front, middle and end. */
static void test_collisions(void)
{
	static const int orders[][3] = {
		{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	uint32_t same[3], n_same = 0;
	uint64_t bucket = 0;

	set_up(MAX_FLOWS);
	for (uint32_t n = 0; n_same < ARRAY_SIZE(same); n++) {
		struct flow_key key = key_of(n);
		uint64_t hash = siphash(&hash_key, &key, sizeof(key));

		if (!n)
			bucket = hash % table.n_buckets;
		if (hash % table.n_buckets == bucket)
			same[n_same++] = n;
	}
	for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
		for (int k = 0; k < 3; k++)
			g_assert_nonnull(add(same[k]));
		for (int k = 0; k < 3; k++) {
			flow_table_remove(&table, find(same[orders[i][k]]));
			g_assert_null(find(same[orders[i][k]]));
			for (int m = k + 1; m < 3; m++)
				g_assert_nonnull(find(same[orders[i][m]]));
		}
		flow_table_sweep(&table);
	}
	tear_down();
}

/* Blocks come and go with their flows, all but the lowest; places are taken from below. */
static void test_blocks(void)
{
	set_up(MAX_FLOWS);
	g_assert_cmpuint(n_blocks_there(), ==, 0);
	for (uint32_t n = 0; n < 200; n++)
		g_assert_cmpuint(add(n)->index, ==, n);
	g_assert_cmpuint(n_blocks_there(), ==, 4);
	for (uint32_t n = 64; n < 128; n++)
		flow_table_remove(&table, find(n));
	g_assert_cmpuint(n_blocks_there(), ==, 4);
	flow_table_sweep(&table);
	g_assert_cmpuint(n_blocks_there(), ==, 3);
	g_assert_null(flow_table_get(&table, 100, 101));
	g_assert_cmpuint(add(1000)->index, ==, 64); /* the block comes back */
	for (uint32_t n = 0; n < 200; n++)
		if (find(n))
			flow_table_remove(&table, find(n));
	flow_table_remove(&table, find(1000));
	flow_table_sweep(&table);
	g_assert_cmpuint(n_blocks_there(), ==, 1);
	g_assert_cmpuint(add(1)->index, ==, 0);
	tear_down();
}

/* Flows lie on cache lines of their own, whatever the size of the kind's struct. */
static void test_alignment(void)
{
	set_up(MAX_FLOWS);
	for (uint32_t n = 0; n < 130; n++)
		g_assert_cmpuint((uintptr_t)add(n) % 64, ==, 0);
	tear_down();
}

static void test_iteration(void)
{
	bool seen[300] = {false};
	uint32_t n_seen = 0;

	set_up(MAX_FLOWS);
	for (uint32_t n = 0; n < ARRAY_SIZE(seen); n++)
		add(n);
	for (uint32_t n = 64; n < 200; n++) /* leaves a block that is not there */
		flow_table_remove(&table, find(n));
	flow_table_sweep(&table);
	for (struct flow *flow = flow_table_any(&table); flow;
		flow = flow_table_after(&table, flow)) {
		g_assert_false(seen[flow->key.near_port]);
		seen[flow->key.near_port] = true;
		n_seen++;
		/* Itself and one ahead go while it is passed over. */
		flow_table_remove(&table, flow);
		if (n_seen == 1)
			flow_table_remove(&table, find(250));
	}
	g_assert_cmpuint(n_seen, ==, ARRAY_SIZE(seen) - (200 - 64) - 1);
	g_assert_false(seen[250]);
	g_assert_null(flow_table_any(&table));
	tear_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/table/add-find-get", test_add_find_get);
	g_test_add_func("/table/key-fields", test_key_fields);
	g_test_add_func("/table/key-of-frame", test_key_of_frame);
	g_test_add_func("/table/remove-and-sweep", test_remove_and_sweep);
	g_test_add_func("/table/generations", test_generations);
	g_test_add_func("/table/generations-wrap", test_generations_wrap);
	g_test_add_func("/table/unhash", test_unhash);
	g_test_add_func("/table/max-flows", test_max_flows);
	g_test_add_func("/table/grow", test_grow);
	g_test_add_func("/table/collisions", test_collisions);
	g_test_add_func("/table/blocks", test_blocks);
	g_test_add_func("/table/alignment", test_alignment);
	g_test_add_func("/table/iteration", test_iteration);
	return g_test_run();
}
