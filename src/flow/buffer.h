/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where bytes wait: a queue per flow and direction, made of chunks from one pool. The pool's
 * address space is reserved at start, touched on demand, and given back to the system after a burst
 * (buffer_pool_trim()); an empty queue holds nothing.
 *
 * There are large chunks, which recv(2) fills at once, and small ones for messages; either stands
 * in for the other. Queues of the side that holds what was taken from the container leave a quarter
 * to the other one, so that stopped readers on the host cannot stop the way back.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define BUFFER_LARGE 65536
#define BUFFER_SMALL 2048
/* The smallest pool. */
#define BUFFER_POOL_MIN (256 * 1024)

struct chunk {
	struct chunk *next;
	uint8_t *data;
	uint32_t start, end; /* what of it is in use */
	uint32_t size;
	bool is_touched;   /* its pages are there */
	uint32_t freed_in; /* the trim period in which it was freed */
};

/* What the bytes wait for. */
enum buffer_side {
	BUFFER_UP,   /* the host's socket */
	BUFFER_DOWN, /* the container's acknowledgement */
	N_BUFFER_SIDES
};

struct chunk_class {
	uint8_t *memory;
	uint32_t chunk_size;
	struct chunk *chunks;
	uint32_t n_made;    /* of them were in use once */
	struct chunk *free; /* last in, first out: warm in the cache */
	uint32_t n_chunks, n_free, n_reserved;
};

struct buffer_pool {
	uint8_t *memory;
	size_t size;
	struct chunk_class large, small;
	uint32_t period;
	uint32_t n_touched_free; /* large ones */
	bool small_is_touched;
	uint32_t small_freed_in; /* as chunk.freed_in: the last of them */
};

struct byte_queue {
	struct chunk *head, *tail;
	uint32_t len;
};

/* `size` in bytes, at least BUFFER_POOL_MIN. 0 or -ENOMEM. */
int buffer_pool_init(struct buffer_pool *pool, size_t size);
void buffer_pool_done(struct buffer_pool *pool);
/* Whether nothing is in use, for tests. */
bool buffer_pool_is_whole(const struct buffer_pool *pool);
/* Whether the side would get no large chunk now. */
bool buffer_pool_is_short(const struct buffer_pool *pool, enum buffer_side side);
/* Whether it would get none at all. */
bool buffer_pool_is_empty(const struct buffer_pool *pool, enum buffer_side side);
/* Whether there are free pages to be given back. */
bool buffer_pool_has_idle(const struct buffer_pool *pool);
/* Gives free pages back that were not used since the call before, at most some MiB. Returns whether
 * it has to be called again some time later. */
bool buffer_pool_trim(struct buffer_pool *pool);

/* A large chunk, or a small one when there is none, or NULL. */
struct chunk *chunk_alloc(struct buffer_pool *pool, enum buffer_side side);
void chunk_release(struct buffer_pool *pool, struct chunk *chunk);

/* Copies to the queue's end; returns how much of it there was memory for. */
size_t byte_queue_append(struct byte_queue *queue, struct buffer_pool *pool, enum buffer_side side,
	const void *data, size_t len);
/* A chunk that holds bytes becomes the queue's end. */
void byte_queue_adopt(struct byte_queue *queue, struct chunk *chunk);
/* Forgets the first `len` bytes, of which there are as many. */
void byte_queue_drop(struct byte_queue *queue, struct buffer_pool *pool, size_t len);
/* All bytes of `from` become the end of `to`. */
void byte_queue_move(struct byte_queue *to, struct byte_queue *from);
void byte_queue_clear(struct byte_queue *queue, struct buffer_pool *pool);
/* Where the bytes from `offset` on lie, up to `*len` of them and n_iov pieces. Returns the number
 * of pieces; *len becomes what they hold. */
int byte_queue_map(
	const struct byte_queue *queue, size_t offset, size_t *len, struct iovec *iov, int n_iov);
