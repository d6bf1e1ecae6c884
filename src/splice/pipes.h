/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pipes for splice(2): made on demand, up to a number, as large as pipe-max-size and
 * pipe-user-pages-soft allow (pipe(7)), kept for a while after their last use.
 *
 * A pipe is free (and empty), in use, or stuck: its bytes find no taker, and whoever needs a pipe
 * more may drain it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct way;

struct pipe {
	int in, out; /* what is written to `in` is read from `out` */
	uint32_t size;
	uint32_t n_bytes; /* in it */
	struct way *holder;
	struct list node; /* among the free or the stuck ones */
	int64_t since_ns; /* in that list since */
};

struct pipe_pool {
	struct list free; /* the one used last at the end: it is warm in the cache */
	struct list stuck;
	uint64_t n_pipes, max_pipes;
	uint32_t size;
	int max_fd;
	int64_t retry_ns; /* there were none to be had: not before then again */
};

/* `size` in bytes, 0: the best. Descriptors are below `max_fd`, 0: any. */
void pipe_pool_init(struct pipe_pool *pool, uint64_t max_pipes, uint32_t size, int max_fd);
/* All pipes must be free. */
void pipe_pool_done(struct pipe_pool *pool);

/* An empty pipe; NULL: there is none. */
struct pipe *pipe_take(struct pipe_pool *pool, int64_t now_ns);
/* One that still holds bytes is closed. */
void pipe_release(struct pipe_pool *pool, struct pipe *pipe, int64_t now_ns);
/* Its bytes find no taker from now on; nothing happens when that was known. */
void pipe_is_stuck(struct pipe_pool *pool, struct pipe *pipe, int64_t now_ns);
/* They do again; nothing happens when it was not stuck. */
void pipe_is_moving(struct pipe *pipe);
/* The one that is stuck since before `before_ns`, for the longest time. NULL: there is none. */
struct pipe *pipe_stuck_before(const struct pipe_pool *pool, int64_t before_ns);
/* Closes free pipes that were not used for a while. */
void pipe_pool_trim(struct pipe_pool *pool, int64_t now_ns);
