/* SPDX-License-Identifier: Apache-2.0 */
#include "splice/pipes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/util.h"

/* The largest of these that there is: with 1 MiB a quarter of the user's 64 MiB (the usual
 * pipe-user-pages-soft) serves 16 bulk flows. What is smaller than the last is slower than recv(2)
 * and send(2): beyond the soft limit new pipes have two pages. */
static const uint32_t sizes[] = {1024 * 1024, 256 * 1024, 64 * 1024};

#define IDLE_NS  (2 * NS_PER_SEC)
#define RETRY_NS (100 * NS_PER_MS)

void pipe_pool_init(struct pipe_pool *pool, uint64_t max_pipes, uint32_t size, int max_fd)
{
	*pool = (struct pipe_pool){
		.max_pipes = max_pipes, .size = size, .max_fd = max_fd ? max_fd : INT_MAX};
	list_init(&pool->free);
	list_init(&pool->stuck);
}

/* It is in no list. */
static void pipe_close(struct pipe_pool *pool, struct pipe *pipe)
{
	close(pipe->in);
	close(pipe->out);
	free(pipe);
	pool->n_pipes--;
}

void pipe_pool_done(struct pipe_pool *pool)
{
	struct list *node;

	while ((node = list_take(&pool->free)))
		pipe_close(pool, container_of(node, struct pipe, node));
}

/* What the pipe can hold from now on, 0: too little. */
static uint32_t grow(int fd, uint32_t wanted)
{
	if (wanted)
		return fcntl(fd, F_SETPIPE_SZ, wanted) > 0 ? wanted : 0;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		if (fcntl(fd, F_SETPIPE_SZ, sizes[i]) > 0)
			return sizes[i];
	return 0;
}

static struct pipe *pipe_open(struct pipe_pool *pool)
{
	struct pipe *pipe = calloc(1, sizeof(*pipe));
	int fds[2];

	if (!pipe)
		return NULL;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		free(pipe);
		return NULL;
	}
	pipe->out = fds[0];
	pipe->in = fds[1];
	pool->n_pipes++;
	if (MAX(fds[0], fds[1]) < pool->max_fd)
		pipe->size = grow(pipe->in, pool->size);
	if (pipe->size)
		return pipe;
	pipe_close(pool, pipe);
	return NULL;
}

struct pipe *pipe_take(struct pipe_pool *pool, int64_t now_ns)
{
	struct pipe *pipe;

	if (!list_is_empty(&pool->free)) {
		struct list *last = pool->free.prev;

		list_remove(last);
		return container_of(last, struct pipe, node);
	}
	if (pool->n_pipes >= pool->max_pipes || now_ns < pool->retry_ns)
		return NULL;
	pipe = pipe_open(pool);
	if (!pipe)
		pool->retry_ns = now_ns + RETRY_NS;
	return pipe;
}

void pipe_release(struct pipe_pool *pool, struct pipe *pipe, int64_t now_ns)
{
	if (pipe->n_bytes) {
		list_remove(&pipe->node);
		pipe_close(pool, pipe);
		return;
	}
	list_remove(&pipe->node);
	pipe->holder = NULL;
	pipe->since_ns = now_ns;
	list_append(&pool->free, &pipe->node);
}

void pipe_is_stuck(struct pipe_pool *pool, struct pipe *pipe, int64_t now_ns)
{
	if (list_is_linked(&pipe->node))
		return;
	pipe->since_ns = now_ns;
	list_append(&pool->stuck, &pipe->node);
}

void pipe_is_moving(struct pipe *pipe)
{
	list_remove(&pipe->node);
}

struct pipe *pipe_stuck_before(const struct pipe_pool *pool, int64_t before_ns)
{
	struct pipe *oldest;

	if (list_is_empty(&pool->stuck))
		return NULL;
	oldest = container_of(pool->stuck.next, struct pipe, node);
	return oldest->since_ns < before_ns ? oldest : NULL;
}

void pipe_pool_trim(struct pipe_pool *pool, int64_t now_ns)
{
	for (struct list *node = pool->free.next, *next; node != &pool->free; node = next) {
		struct pipe *oldest = container_of(node, struct pipe, node);

		next = node->next;
		if (oldest->since_ns + IDLE_NS > now_ns)
			return;
		list_remove(node);
		pipe_close(pool, oldest);
	}
}
