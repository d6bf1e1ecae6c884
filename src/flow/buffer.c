/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"

/* What of the pool the small chunks get: an eighth. */
#define SMALL_SHARE 8
/* What the upward side leaves to the other one: a quarter of each kind, rounded up. */
#define DOWN_SHARE 4
/* Chunks whose pages are given back in one call, so that the loop is not held up. */
#define TRIM_BATCH 64

/* ---- the pool ---- */

static int class_init(struct chunk_class *class, uint8_t *memory, uint32_t n, uint32_t size)
{
	*class = (struct chunk_class){
		.memory = memory,
		.chunk_size = size,
		.n_chunks = n,
		.n_free = n,
		.n_reserved = (n + DOWN_SHARE - 1) / DOWN_SHARE,
		.chunks = calloc(n, sizeof(struct chunk)),
	};
	return class->chunks ? 0 : -ENOMEM;
}

/* A chunk that was never used is made when it is needed, so that the pool costs nothing before. */
static struct chunk *take_free(struct chunk_class *class)
{
	struct chunk *chunk = class->free;

	if (chunk) {
		class->free = chunk->next;
		return chunk;
	}
	chunk = &class->chunks[class->n_made];
	chunk->data = class->memory + (size_t) class->n_made * class->chunk_size;
	chunk->size = class->chunk_size;
	class->n_made++;
	return chunk;
}

int buffer_pool_init(struct buffer_pool *pool, size_t size)
{
	uint32_t n_large, n_small;
	void *memory;

	*pool = (struct buffer_pool){0};
	n_large = (uint32_t)((size - size / SMALL_SHARE) / BUFFER_LARGE);
	n_small = (uint32_t)((size - (size_t)n_large * BUFFER_LARGE) / BUFFER_SMALL);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	pool->memory = memory;
	pool->size = size;
	if (class_init(&pool->large, pool->memory, n_large, BUFFER_LARGE) == 0 &&
		class_init(&pool->small, pool->memory + (size_t)n_large * BUFFER_LARGE, n_small,
			BUFFER_SMALL) == 0)
		return 0;
	buffer_pool_done(pool);
	return -ENOMEM;
}

void buffer_pool_done(struct buffer_pool *pool)
{
	if (pool->memory)
		munmap(pool->memory, pool->size);
	free(pool->large.chunks);
	free(pool->small.chunks);
	*pool = (struct buffer_pool){0};
}

bool buffer_pool_is_whole(const struct buffer_pool *pool)
{
	return pool->large.n_free == pool->large.n_chunks &&
		pool->small.n_free == pool->small.n_chunks;
}

static bool class_has(const struct chunk_class *class, enum buffer_side side)
{
	return class->n_free > (side == BUFFER_UP ? class->n_reserved : 0);
}

bool buffer_pool_is_short(const struct buffer_pool *pool, enum buffer_side side)
{
	return !class_has(&pool->large, side);
}

bool buffer_pool_is_empty(const struct buffer_pool *pool, enum buffer_side side)
{
	return !class_has(&pool->large, side) && !class_has(&pool->small, side);
}

static struct chunk *class_alloc(struct buffer_pool *pool, struct chunk_class *class)
{
	struct chunk *chunk = take_free(class);

	class->n_free--;
	if (class == &pool->large)
		pool->n_touched_free -= chunk->is_touched;
	chunk->next = NULL;
	chunk->start = chunk->end = 0;
	chunk->is_touched = true;
	return chunk;
}

static struct chunk *alloc_from(struct buffer_pool *pool, enum buffer_side side,
	struct chunk_class *first, struct chunk_class *second)
{
	if (class_has(first, side))
		return class_alloc(pool, first);
	return class_has(second, side) ? class_alloc(pool, second) : NULL;
}

struct chunk *chunk_alloc(struct buffer_pool *pool, enum buffer_side side)
{
	return alloc_from(pool, side, &pool->large, &pool->small);
}

void chunk_release(struct buffer_pool *pool, struct chunk *chunk)
{
	struct chunk_class *class = chunk->size == BUFFER_LARGE ? &pool->large : &pool->small;

	chunk->next = class->free;
	chunk->freed_in = pool->period;
	class->free = chunk;
	class->n_free++;
	if (class == &pool->large) {
		pool->n_touched_free++;
	} else {
		pool->small_is_touched = true;
		pool->small_freed_in = pool->period;
	}
}

/* Small chunks share pages, so they are given back together or not at all. */
static bool small_is_idle(const struct buffer_pool *pool)
{
	return pool->small_is_touched && pool->small.n_free == pool->small.n_chunks;
}

bool buffer_pool_has_idle(const struct buffer_pool *pool)
{
	return pool->n_touched_free || small_is_idle(pool);
}

/* Returns whether they are idle, but not for long enough. */
static bool trim_small(struct buffer_pool *pool)
{
	const struct chunk_class *small = &pool->small;

	if (!small_is_idle(pool))
		return false;
	if (pool->small_freed_in == pool->period)
		return true;
	madvise(small->memory, (size_t)small->n_made * BUFFER_SMALL, MADV_DONTNEED);
	pool->small_is_touched = false;
	return false;
}

bool buffer_pool_trim(struct buffer_pool *pool)
{
	bool small_left = trim_small(pool);
	uint32_t n = 0, n_left = 0;

	for (struct chunk *chunk = pool->large.free; chunk; chunk = chunk->next) {
		if (!chunk->is_touched)
			continue;
		if (chunk->freed_in == pool->period || n == TRIM_BATCH) {
			n_left++;
			continue;
		}
		madvise(chunk->data, chunk->size, MADV_DONTNEED);
		chunk->is_touched = false;
		pool->n_touched_free--;
		n++;
	}
	pool->period++;
	return n_left || small_left;
}

/* ---- queues ---- */

static struct chunk *chunk_for(struct buffer_pool *pool, enum buffer_side side, size_t len)
{
	if (len <= BUFFER_SMALL)
		return alloc_from(pool, side, &pool->small, &pool->large);
	return chunk_alloc(pool, side);
}

static struct chunk *chunk_with_room(
	struct byte_queue *queue, struct buffer_pool *pool, enum buffer_side side, size_t len)
{
	struct chunk *chunk = queue->tail;

	if (chunk && chunk->end < chunk->size)
		return chunk;
	chunk = chunk_for(pool, side, len);
	if (chunk)
		byte_queue_adopt(queue, chunk);
	return chunk;
}

size_t byte_queue_append(struct byte_queue *queue, struct buffer_pool *pool, enum buffer_side side,
	const void *data, size_t len)
{
	const uint8_t *at = data;
	size_t left = len;

	while (left) {
		struct chunk *chunk = chunk_with_room(queue, pool, side, left);
		size_t n;

		if (!chunk)
			break;
		n = MIN(left, chunk->size - chunk->end);
		memcpy(chunk->data + chunk->end, at, n);
		chunk->end += (uint32_t)n;
		queue->len += (uint32_t)n;
		at += n;
		left -= n;
	}
	return len - left;
}

void byte_queue_adopt(struct byte_queue *queue, struct chunk *chunk)
{
	chunk->next = NULL;
	if (queue->tail)
		queue->tail->next = chunk;
	else
		queue->head = chunk;
	queue->tail = chunk;
	queue->len += chunk->end - chunk->start;
}

void byte_queue_drop(struct byte_queue *queue, struct buffer_pool *pool, size_t len)
{
	queue->len -= (uint32_t)len;
	while (queue->head && len >= queue->head->end - queue->head->start) {
		struct chunk *chunk = queue->head;

		len -= chunk->end - chunk->start;
		queue->head = chunk->next;
		if (!queue->head)
			queue->tail = NULL;
		chunk_release(pool, chunk);
	}
	if (len && queue->head)
		queue->head->start += (uint32_t)len;
}

void byte_queue_move(struct byte_queue *to, struct byte_queue *from)
{
	if (!from->head)
		return;
	if (to->tail)
		to->tail->next = from->head;
	else
		to->head = from->head;
	to->tail = from->tail;
	to->len += from->len;
	*from = (struct byte_queue){0};
}

void byte_queue_clear(struct byte_queue *queue, struct buffer_pool *pool)
{
	byte_queue_drop(queue, pool, queue->len);
}

int byte_queue_map(
	const struct byte_queue *queue, size_t offset, size_t *len, struct iovec *iov, int n_iov)
{
	size_t left = *len;
	int n = 0;

	for (struct chunk *chunk = queue->head; chunk && left && n < n_iov; chunk = chunk->next) {
		size_t held = chunk->end - chunk->start, take;

		if (offset >= held) {
			offset -= held;
			continue;
		}
		take = MIN(held - offset, left);
		iov[n++] = (struct iovec){
			.iov_base = chunk->data + chunk->start + offset, .iov_len = take};
		left -= take;
		offset = 0;
	}
	*len -= left;
	return n;
}
