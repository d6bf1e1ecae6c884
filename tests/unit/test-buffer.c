/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"
#include "flow/buffer.h"

#define POOL_SIZE (8u << 20)

static struct buffer_pool pool;
static struct byte_queue queue;

static void set_up(size_t size)
{
	g_assert_cmpint(buffer_pool_init(&pool, size), ==, 0);
	g_assert_true(buffer_pool_is_whole(&pool));
	queue = (struct byte_queue){0};
}

static void tear_down(void)
{
	byte_queue_clear(&queue, &pool);
	g_assert_cmpuint(queue.len, ==, 0);
	g_assert_null(queue.head);
	g_assert_null(queue.tail);
	g_assert_true(buffer_pool_is_whole(&pool));
	buffer_pool_done(&pool);
	g_assert_null(pool.memory);
}

/* The byte at that offset of every stream here. */
static uint8_t byte_at(size_t offset)
{
	return (uint8_t)(offset * 7 + offset / 251);
}

static size_t append(enum buffer_side side, size_t offset, size_t len)
{
	uint8_t *data = g_malloc(len);
	size_t n;

	for (size_t i = 0; i < len; i++)
		data[i] = byte_at(offset + i);
	n = byte_queue_append(&queue, &pool, side, data, len);
	g_free(data);
	return n;
}

/* The queue holds the stream's bytes from `from` to `to`, seen through pieces of any number. */
static void expect_stream(size_t from, size_t to)
{
	size_t at = from;

	g_assert_cmpuint(queue.len, ==, to - from);
	while (at < to) {
		size_t len = to - at, sum = 0;
		struct iovec iov[3];
		int n = byte_queue_map(&queue, at - from, &len, iov, ARRAY_SIZE(iov));

		g_assert_cmpint(n, >=, 1);
		g_assert_cmpint(n, <=, ARRAY_SIZE(iov));
		for (int i = 0; i < n; i++) {
			const uint8_t *piece = iov[i].iov_base;

			g_assert_cmpuint(iov[i].iov_len, >, 0);
			for (size_t k = 0; k < iov[i].iov_len; k++)
				g_assert_cmphex(piece[k], ==, byte_at(at + sum + k));
			sum += iov[i].iov_len;
		}
		g_assert_cmpuint(sum, ==, len);
		at += len;
	}
}

static void test_append_and_drop(void)
{
	size_t from = 0, to = 0;

	set_up(POOL_SIZE);
	for (int round = 0; round < 200; round++) {
		size_t more = (size_t)round * 977 % 70001, less;

		g_assert_cmpuint(append(BUFFER_DOWN, to, more), ==, more);
		to += more;
		expect_stream(from, to);
		less = (to - from) * (size_t)(round % 5) / 4;
		byte_queue_drop(&queue, &pool, less);
		from += less;
		expect_stream(from, to);
	}
	byte_queue_drop(&queue, &pool, to - from);
	g_assert_true(buffer_pool_is_whole(&pool));
	g_assert_null(queue.head);
	tear_down();
}

/* A message takes a small chunk, what is longer a large one; both are filled up first. */
static void test_classes(void)
{
	set_up(POOL_SIZE);
	append(BUFFER_DOWN, 0, 1);
	append(BUFFER_DOWN, 1, BUFFER_SMALL - 1);
	g_assert_cmpuint(pool.small.n_free, ==, pool.small.n_chunks - 1);
	g_assert_cmpuint(pool.large.n_free, ==, pool.large.n_chunks);
	append(BUFFER_DOWN, BUFFER_SMALL, BUFFER_SMALL + 1);
	g_assert_cmpuint(pool.small.n_free, ==, pool.small.n_chunks - 1);
	g_assert_cmpuint(pool.large.n_free, ==, pool.large.n_chunks - 1);
	append(BUFFER_DOWN, 2 * BUFFER_SMALL + 1, BUFFER_LARGE - BUFFER_SMALL - 1);
	expect_stream(0, BUFFER_SMALL + BUFFER_LARGE);
	g_assert_cmpuint(pool.small.n_free, ==, pool.small.n_chunks - 1);
	g_assert_cmpuint(pool.large.n_free, ==, pool.large.n_chunks - 1);
	append(BUFFER_DOWN, BUFFER_SMALL + BUFFER_LARGE, 1);
	g_assert_cmpuint(pool.small.n_free, ==, pool.small.n_chunks - 2);
	/* Dropping up to a chunk's end frees it, up to the byte before does not. */
	byte_queue_drop(&queue, &pool, BUFFER_SMALL - 1);
	g_assert_cmpuint(pool.small.n_free, ==, pool.small.n_chunks - 2);
	byte_queue_drop(&queue, &pool, 1);
	g_assert_cmpuint(pool.small.n_free, ==, pool.small.n_chunks - 1);
	byte_queue_drop(&queue, &pool, 0);
	expect_stream(BUFFER_SMALL, BUFFER_SMALL + BUFFER_LARGE + 1);
	tear_down();
}

static void adopt(size_t offset, uint32_t start, uint32_t end)
{
	struct chunk *chunk = chunk_alloc(&pool, BUFFER_DOWN);

	g_assert_nonnull(chunk);
	g_assert_cmpuint(chunk->start, ==, 0);
	g_assert_cmpuint(chunk->end, ==, 0);
	g_assert_cmpuint(chunk->size, ==, BUFFER_LARGE);
	for (uint32_t i = start; i < end; i++)
		chunk->data[i] = byte_at(offset + i - start);
	chunk->start = start;
	chunk->end = end;
	byte_queue_adopt(&queue, chunk);
}

static void test_adopt(void)
{
	set_up(POOL_SIZE);
	append(BUFFER_DOWN, 0, 10);
	adopt(10, 0, 100);
	adopt(110, 5000, BUFFER_LARGE); /* its begin is elsewhere already */
	append(BUFFER_DOWN, 110 + BUFFER_LARGE - 5000, 7);
	expect_stream(0, 110 + BUFFER_LARGE - 5000 + 7);
	byte_queue_drop(&queue, &pool, 111);
	expect_stream(111, 110 + BUFFER_LARGE - 5000 + 7);
	byte_queue_clear(&queue, &pool);
	adopt(0, 0, 10); /* to an empty one, and it is filled up */
	append(BUFFER_DOWN, 10, BUFFER_LARGE - 10);
	expect_stream(0, BUFFER_LARGE);
	g_assert_cmpuint(pool.large.n_free, ==, pool.large.n_chunks - 1);
	tear_down();
}

static void test_move(void)
{
	struct byte_queue empty = {0}, first = {0};
	uint8_t bytes[10];

	set_up(POOL_SIZE);
	byte_queue_move(&queue, &empty);
	g_assert_null(queue.head);
	append(BUFFER_UP, 10, BUFFER_LARGE); /* what is behind */
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = byte_at(i);
	g_assert_cmpuint(byte_queue_append(&first, &pool, BUFFER_UP, bytes, 10), ==, 10);
	byte_queue_move(&first, &queue);
	g_assert_cmpuint(queue.len, ==, 0);
	g_assert_null(queue.head);
	byte_queue_move(&queue, &first); /* to an empty one */
	expect_stream(0, 10 + BUFFER_LARGE);
	append(BUFFER_UP, 10 + BUFFER_LARGE, 100);
	expect_stream(0, 110 + BUFFER_LARGE);
	tear_down();
}

static void test_map(void)
{
	struct iovec iov[4];
	size_t len = 100;

	set_up(POOL_SIZE);
	g_assert_cmpint(byte_queue_map(&queue, 0, &len, iov, 4), ==, 0);
	g_assert_cmpuint(len, ==, 0);
	for (size_t i = 0; i < 4; i++)
		adopt(i * 100, 0, 100), queue.tail->size = 100; /* full */
	expect_stream(0, 400);
	len = 100;
	g_assert_cmpint(byte_queue_map(&queue, 100, &len, iov, 4), ==, 1); /* one chunk exactly */
	g_assert_cmpuint(len, ==, 100);
	len = 102;
	g_assert_cmpint(byte_queue_map(&queue, 99, &len, iov, 4), ==, 3);
	g_assert_cmpuint(iov[0].iov_len, ==, 1);
	g_assert_cmpuint(iov[1].iov_len, ==, 100);
	g_assert_cmpuint(iov[2].iov_len, ==, 1);
	len = 400;
	g_assert_cmpint(byte_queue_map(&queue, 50, &len, iov, 2), ==, 2); /* too few pieces */
	g_assert_cmpuint(len, ==, 150);
	len = 400;
	g_assert_cmpint(byte_queue_map(&queue, 350, &len, iov, 4), ==, 1); /* less than asked for */
	g_assert_cmpuint(len, ==, 50);
	len = 5;
	g_assert_cmpint(byte_queue_map(&queue, 400, &len, iov, 4), ==, 0);
	g_assert_cmpuint(len, ==, 0);
	len = 0;
	g_assert_cmpint(byte_queue_map(&queue, 0, &len, iov, 4), ==, 0);
	for (struct chunk *chunk = queue.head; chunk; chunk = chunk->next)
		chunk->size = BUFFER_LARGE;
	tear_down();
}

/* Takes chunks until there is none; returns how many of each size it were. */
static struct chunk *take_all(enum buffer_side side, uint32_t *ret_large, uint32_t *ret_small)
{
	struct chunk *taken = NULL, *chunk;

	*ret_large = *ret_small = 0;
	while ((chunk = chunk_alloc(&pool, side))) {
		*(chunk->size == BUFFER_LARGE ? ret_large : ret_small) += 1;
		chunk->next = taken;
		taken = chunk;
	}
	return taken;
}

static void release_all(struct chunk *chunks)
{
	while (chunks) {
		struct chunk *next = chunks->next;

		chunk_release(&pool, chunks);
		chunks = next;
	}
}

/* What is taken from the container leaves a quarter at least to the other way, in every pool. */
static void test_reserve(void)
{
	static const size_t sizes[] = {BUFFER_POOL_MIN, 300001, 512 * 1024, 1u << 20, POOL_SIZE};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint32_t n_large, n_small;
		struct chunk *up, *down;

		set_up(sizes[i]);
		g_assert_false(buffer_pool_is_short(&pool, BUFFER_UP));
		up = take_all(BUFFER_UP, &n_large, &n_small);
		g_assert_cmpuint(n_large, >=, pool.large.n_chunks / 2);
		g_assert_cmpuint(n_small, >=, pool.small.n_chunks / 2);
		g_assert_true(buffer_pool_is_short(&pool, BUFFER_UP));
		g_assert_true(buffer_pool_is_empty(&pool, BUFFER_UP));
		g_assert_false(buffer_pool_is_short(&pool, BUFFER_DOWN));
		g_assert_false(buffer_pool_is_empty(&pool, BUFFER_DOWN));
		g_assert_cmpuint(append(BUFFER_UP, 0, 1), ==, 0);
		down = take_all(BUFFER_DOWN, &n_large, &n_small);
		g_assert_cmpuint(n_large * 4, >=, pool.large.n_chunks);
		g_assert_cmpuint(n_small * 4, >=, pool.small.n_chunks);
		g_assert_true(buffer_pool_is_short(&pool, BUFFER_DOWN));
		g_assert_true(buffer_pool_is_empty(&pool, BUFFER_DOWN));
		g_assert_cmpuint(append(BUFFER_DOWN, 0, 1), ==, 0);
		g_assert_cmpuint(pool.large.n_free, ==, 0);
		g_assert_cmpuint(pool.small.n_free, ==, 0);
		release_all(down);
		g_assert_true(buffer_pool_is_short(&pool, BUFFER_UP));
		release_all(up);
		g_assert_false(buffer_pool_is_short(&pool, BUFFER_UP));
		tear_down();
	}
}

/* The pool's memory is all used, no two chunks have a byte in common, and none lies outside. */
static void test_sizes(void)
{
	for (size_t size = BUFFER_POOL_MIN; size < POOL_SIZE; size = size * 3 / 2 + 12345) {
		uint32_t n_large, n_small;
		struct chunk *taken;
		uint8_t *used;

		set_up(size);
		taken = take_all(BUFFER_DOWN, &n_large, &n_small);
		g_assert_cmpuint(n_large, >, 0);
		g_assert_cmpuint(n_small, >, 0);
		g_assert_cmpuint(
			n_large * BUFFER_LARGE + n_small * BUFFER_SMALL + BUFFER_SMALL, >, size);
		used = g_malloc0(size);
		for (struct chunk *chunk = taken; chunk; chunk = chunk->next) {
			size_t at = (size_t)(chunk->data - pool.memory);

			g_assert_true(chunk->data >= pool.memory && at + chunk->size <= size);
			for (size_t i = 0; i < chunk->size; i++)
				g_assert_cmpint(used[at + i]++, ==, 0);
			memset(chunk->data, 0xff, chunk->size);
		}
		g_free(used);
		release_all(taken);
		tear_down();
	}
}

/* Either kind stands in for the other; what there is no memory for is not taken. */
static void test_exhaustion(void)
{
	uint32_t n_large, n_small;
	struct chunk *taken;
	size_t all;

	set_up(BUFFER_POOL_MIN);
	all = (size_t)pool.large.n_chunks * BUFFER_LARGE +
		(size_t)pool.small.n_chunks * BUFFER_SMALL;
	g_assert_cmpuint(append(BUFFER_DOWN, 0, all + 1), ==, all);
	expect_stream(0, all);
	g_assert_cmpuint(append(BUFFER_DOWN, all, 1), ==, 0);
	byte_queue_drop(&queue, &pool, 1); /* frees no chunk */
	g_assert_cmpuint(append(BUFFER_DOWN, all, 1), ==, 0);
	expect_stream(1, all);
	byte_queue_clear(&queue, &pool);

	taken = take_all(BUFFER_DOWN, &n_large, &n_small);
	while (taken->size == BUFFER_SMALL) { /* taken last, so in front */
		struct chunk *next = taken->next;

		chunk_release(&pool, taken);
		taken = next;
	}
	/* Those who wait for memory can go on with these. */
	g_assert_true(buffer_pool_is_short(&pool, BUFFER_DOWN));
	g_assert_false(buffer_pool_is_empty(&pool, BUFFER_DOWN));
	g_assert_cmpuint(append(BUFFER_DOWN, 0, BUFFER_SMALL + 1), ==, BUFFER_SMALL + 1);
	expect_stream(0, BUFFER_SMALL + 1);
	byte_queue_clear(&queue, &pool);
	release_all(taken);

	for (uint32_t i = 0; i < pool.small.n_chunks;
		i++) /* messages until only large ones are left */
		append(BUFFER_DOWN, (size_t)i * BUFFER_SMALL, BUFFER_SMALL);
	g_assert_cmpuint(pool.small.n_free, ==, 0);
	g_assert_cmpuint(append(BUFFER_DOWN, (size_t)n_small * BUFFER_SMALL, 1), ==, 1);
	g_assert_cmpuint(pool.large.n_free, ==, pool.large.n_chunks - 1);
	tear_down();
}

/* ---- giving back ---- */

static size_t resident(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n_pages = (pool.size + page - 1) / page, n = 0;
	unsigned char *there = g_malloc(n_pages);

	g_assert_cmpint(mincore(pool.memory, pool.size, there), ==, 0);
	for (size_t i = 0; i < n_pages; i++)
		n += there[i] & 1;
	g_free(there);
	return n * page;
}

static void touch_all(void)
{
	uint32_t n_large, n_small;
	struct chunk *taken = take_all(BUFFER_DOWN, &n_large, &n_small);

	for (struct chunk *chunk = taken; chunk; chunk = chunk->next)
		memset(chunk->data, 1, chunk->size);
	release_all(taken);
}

static void test_touched_on_demand(void)
{
	set_up(POOL_SIZE);
	g_assert_cmpuint(resident(), ==, 0);
	g_assert_false(buffer_pool_has_idle(&pool));
	g_assert_false(buffer_pool_trim(&pool));
	tear_down();
}

/* Everything goes back in the end, in bounded steps, and not what was used a moment ago. */
static void test_trim(void)
{
	size_t before, now;
	int n_calls = 0;

	set_up(POOL_SIZE);
	touch_all();
	g_assert_cmpuint(resident(), >=, POOL_SIZE - BUFFER_SMALL - 4096);
	g_assert_true(buffer_pool_has_idle(&pool));
	before = resident();
	g_assert_true(buffer_pool_trim(&pool));
	g_assert_cmpuint(resident(), ==, before); /* freed in this period */
	for (bool more = true; more; n_calls++) {
		before = resident();
		more = buffer_pool_trim(&pool);
		now = resident();
		g_assert_cmpuint(now, <, before);
		g_assert_cmpuint(before - now, <=, 6u << 20);
	}
	g_assert_cmpint(n_calls, >=, 2);
	g_assert_cmpuint(resident(), ==, 0);
	g_assert_false(buffer_pool_has_idle(&pool));
	g_assert_false(buffer_pool_trim(&pool));
	tear_down();
}

/* What is in use stays as it is. */
static void test_trim_spares_what_is_used(void)
{
	set_up(POOL_SIZE);
	touch_all();
	append(BUFFER_DOWN, 0, 100000);
	append(BUFFER_DOWN, 100000, 10);
	while (buffer_pool_trim(&pool))
		;
	g_assert_false(buffer_pool_has_idle(&pool));
	expect_stream(0, 100010);
	g_assert_cmpuint(resident(), >=, 100000);
	g_assert_cmpuint(resident(), <, POOL_SIZE / 4); /* the small ones are one piece */
	tear_down();
}

/* Small chunks alone are a reason to come again, too: as soon as all of them are free. */
static void test_trim_small_only(void)
{
	set_up(POOL_SIZE);
	append(BUFFER_DOWN, 0, BUFFER_SMALL);
	append(BUFFER_DOWN, BUFFER_SMALL, 1);
	g_assert_cmpuint(pool.large.n_free, ==, pool.large.n_chunks);
	byte_queue_drop(&queue, &pool, BUFFER_SMALL);
	g_assert_false(buffer_pool_has_idle(&pool)); /* one is still in use */
	g_assert_false(buffer_pool_trim(&pool));
	byte_queue_drop(&queue, &pool, 1);
	g_assert_true(buffer_pool_has_idle(&pool));
	g_assert_true(buffer_pool_trim(&pool)); /* a moment ago */
	g_assert_cmpuint(resident(), >, 0);
	g_assert_false(buffer_pool_trim(&pool));
	g_assert_cmpuint(resident(), ==, 0);
	g_assert_false(buffer_pool_has_idle(&pool));
	/* What was given back is there again when it is needed. */
	append(BUFFER_DOWN, 0, BUFFER_SMALL);
	expect_stream(0, BUFFER_SMALL);
	tear_down();
}

/* A chunk that is used in every period is not given back and touched again each time. */
static void test_trim_spares_the_warm(void)
{
	set_up(POOL_SIZE);
	touch_all();
	for (int i = 0; i < 10; i++) {
		chunk_release(&pool, chunk_alloc(&pool, BUFFER_DOWN));
		append(BUFFER_DOWN, 0, 1);
		byte_queue_clear(&queue, &pool);
		g_assert_true(buffer_pool_trim(&pool));
	}
	g_assert_cmpuint(resident(), >=, BUFFER_LARGE + POOL_SIZE / 8);
	g_assert_cmpuint(resident(), <, BUFFER_LARGE + POOL_SIZE / 4);
	tear_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/buffer/append-and-drop", test_append_and_drop);
	g_test_add_func("/buffer/classes", test_classes);
	g_test_add_func("/buffer/adopt", test_adopt);
	g_test_add_func("/buffer/move", test_move);
	g_test_add_func("/buffer/map", test_map);
	g_test_add_func("/buffer/reserve", test_reserve);
	g_test_add_func("/buffer/sizes", test_sizes);
	g_test_add_func("/buffer/exhaustion", test_exhaustion);
	g_test_add_func("/buffer/touched-on-demand", test_touched_on_demand);
	g_test_add_func("/buffer/trim", test_trim);
	g_test_add_func("/buffer/trim-spares-what-is-used", test_trim_spares_what_is_used);
	g_test_add_func("/buffer/trim-small-only", test_trim_small_only);
	g_test_add_func("/buffer/trim-spares-the-warm", test_trim_spares_the_warm);
	return g_test_run();
}
