/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source.h"

#include <errno.h>
#include <limits.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/util.h"

/* Without a client for as long the stock is given up. */
#define IDLE_NS (5 * NS_PER_SEC)
/* The rest is for others who ask the agent. */
#define ASKED_MAX (AGENT_REQUESTS_MAX * 3 / 4)

struct wish {
	struct list node;
	struct agent_source *source;
	struct source_shelf *shelf; /* NULL: one of the others */
	socket_made_fn *done;
	void *owner;
	uint64_t cookie;
	struct agent_socket what; /* when there is no path */
	char path[];
};

/* ---- wishes ---- */

/* NULL: there are too many, or no memory. */
static struct wish *wish_new(struct agent_source *source, socket_made_fn *done, void *owner,
	uint64_t cookie, const char *path)
{
	size_t size = strlen(path) + 1;
	struct wish *wish;

	if (source->n_waiting >= SOURCE_WAITING_MAX)
		return NULL;
	wish = calloc(1, sizeof(*wish) + size);
	if (!wish)
		return NULL;
	memcpy(wish->path, path, size);
	wish->source = source;
	wish->done = done;
	wish->owner = owner;
	wish->cookie = cookie;
	source->n_waiting++;
	return wish;
}

/* It is in no list, and gone before its owner hears of it, who may have another one at once. */
static void answer(struct wish *wish, int fd)
{
	socket_made_fn *done = wish->done;
	void *owner = wish->owner;
	uint64_t cookie = wish->cookie;

	wish->source->n_waiting--;
	if (wish->shelf)
		wish->shelf->n_waiting--;
	free(wish);
	done(owner, cookie, fd);
}

static void fail_all(struct list *wishes, int error)
{
	struct list failed, *node;

	list_init(&failed);
	list_move(&failed, wishes);
	while ((node = list_take(&failed)))
		answer(container_of(node, struct wish, node), error);
}

/* ---- asking the agent ---- */

static void ask_more(struct agent_source *source);

static void shelf_clear(struct source_shelf *shelf)
{
	while (shelf->n_fds)
		fd_close(&shelf->fds[--shelf->n_fds]);
	shelf->is_stocked = false;
}

/* Returns it, or a negative errno. */
static int keep_reserve(const struct agent_source *source, int fd)
{
	if (fd < source->max_fd)
		return fd;
	fd_close(&fd);
	return -EMFILE;
}

/* What the agent has refused once is not asked for ahead of need. */
static void take_stream(void *owner, uint64_t cookie, int fd)
{
	struct agent_source *source = owner;
	struct source_shelf *shelf = &source->shelves[cookie];
	struct list *node = list_take(&shelf->waiting);
	struct wish *wish = node ? container_of(node, struct wish, node) : NULL;

	source->n_asked--;
	shelf->n_asked--;
	fd = keep_reserve(source, fd);
	if (fd < 0 || wish)
		shelf->is_stocked = fd >= 0;
	if (wish)
		answer(wish, fd);
	else if (fd >= 0 && shelf->is_stocked && shelf->n_fds < SOURCE_STOCK)
		shelf->fds[shelf->n_fds++] = fd;
	else
		fd_close(&fd);
	ask_more(source);
}

static void take_other(void *owner, uint64_t cookie, int fd)
{
	struct wish *wish = owner;
	struct agent_source *source = wish->source;

	source->n_asked--;
	list_remove(&wish->node);
	answer(wish, keep_reserve(source, fd));
	ask_more(source);
}

static uint32_t wanted(const struct source_shelf *shelf)
{
	if (!shelf->is_stocked || shelf->n_fds > SOURCE_STOCK / 2)
		return shelf->n_waiting;
	return shelf->n_waiting + SOURCE_STOCK - shelf->n_fds;
}

static int ask_for_shelf(struct agent_source *source, size_t which)
{
	static const struct agent_socket streams[] = {{.family = AF_INET, .type = SOCK_STREAM},
		{.family = AF_INET6, .type = SOCK_STREAM}};
	struct source_shelf *shelf = &source->shelves[which];

	while (shelf->n_asked < wanted(shelf) && source->n_asked < ASKED_MAX) {
		int r = agent_client_socket(
			source->client, &streams[which], take_stream, source, which);

		if (r < 0)
			return r;
		shelf->n_asked++;
		source->n_asked++;
	}
	return 0;
}

static int ask_for_others(struct agent_source *source)
{
	struct agent_client *client = source->client;
	struct list *node;

	while (source->n_asked < ASKED_MAX && (node = list_take(&source->others))) {
		struct wish *wish = container_of(node, struct wish, node);
		int r = wish->path[0]
			? agent_client_unix(client, wish->path, take_other, wish, 0)
			: agent_client_socket(client, &wish->what, take_other, wish, 0);

		if (r == -EAGAIN || r == -EPIPE) {
			list_prepend(&source->others, node);
			return r;
		}
		if (r < 0) {
			answer(wish, r);
			continue;
		}
		list_append(&source->asked, &wish->node);
		source->n_asked++;
	}
	return 0;
}

/* Nobody would come back to those who wait when nothing is under way, or for nothing. */
static void ask_more(struct agent_source *source)
{
	int r = ask_for_others(source);

	for (size_t i = 0; i < ARRAY_SIZE(source->shelves) && r == 0; i++)
		r = ask_for_shelf(source, i);
	if (r == 0 || (r == -EAGAIN && source->n_asked))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(source->shelves); i++) {
		shelf_clear(&source->shelves[i]);
		fail_all(&source->shelves[i].waiting, r);
	}
	fail_all(&source->others, r);
}

/* ---- being asked ---- */

static void idle_expire(struct timer *timer, int64_t now_ns)
{
	struct agent_source *source = container_of(timer, struct agent_source, idle);

	if (source->used_ns + IDLE_NS > now_ns) {
		timer_arm(&source->client->loop->timers, timer, source->used_ns + IDLE_NS);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(source->shelves); i++)
		shelf_clear(&source->shelves[i]);
}

static void note_use(struct agent_source *source)
{
	struct loop *loop = source->client->loop;

	source->used_ns = loop->now_ns;
	if (!timer_is_armed(&source->idle))
		timer_arm(&loop->timers, &source->idle, source->used_ns + IDLE_NS);
}

static void wait_in(struct agent_source *source, struct list *wishes, struct wish *wish)
{
	list_append(wishes, &wish->node);
	if (wish->shelf)
		wish->shelf->n_waiting++;
	ask_more(source);
}

/* -EAGAIN: there is none at once. */
static int take_from_stock(struct agent_source *source, struct source_shelf *shelf)
{
	int fd;

	if (source->client->sock < 0)
		shelf_clear(shelf);
	if (!shelf->n_fds)
		return -EAGAIN;
	fd = shelf->fds[--shelf->n_fds];
	ask_more(source);
	return fd;
}

static void source_make(struct socket_source *interface, uint8_t family, int type,
	socket_made_fn *done, void *owner, uint64_t cookie)
{
	struct agent_source *source = container_of(interface, struct agent_source, source);
	struct source_shelf *shelf =
		type == SOCK_STREAM ? &source->shelves[family == AF_INET6] : NULL;
	struct wish *wish;
	int fd = shelf ? take_from_stock(source, shelf) : -EAGAIN;

	if (shelf)
		note_use(source);
	if (fd >= 0) {
		done(owner, cookie, fd);
		return;
	}
	wish = wish_new(source, done, owner, cookie, "");
	if (!wish) {
		done(owner, cookie, -EAGAIN);
		return;
	}
	wish->shelf = shelf;
	wish->what = (struct agent_socket){.family = family,
		.type = type,
		.protocol = family == AF_NETLINK ? NETLINK_SOCK_DIAG : 0};
	wait_in(source, shelf ? &shelf->waiting : &source->others, wish);
}

static void source_connect_unix(struct socket_source *interface, const char *path,
	socket_made_fn *done, void *owner, uint64_t cookie)
{
	struct agent_source *source = container_of(interface, struct agent_source, source);
	struct wish *wish = path[0] ? wish_new(source, done, owner, cookie, path) : NULL;

	if (wish)
		wait_in(source, &source->others, wish);
	else
		done(owner, cookie, path[0] ? -EAGAIN : -EINVAL);
}

void agent_source_init(struct agent_source *source, struct agent_client *client)
{
	*source = (struct agent_source){
		.source = {.make = source_make, .connect_unix = source_connect_unix},
		.client = client,
		.max_fd = INT_MAX,
		.idle.fire = idle_expire,
	};
	list_init(&source->others);
	list_init(&source->asked);
	for (size_t i = 0; i < ARRAY_SIZE(source->shelves); i++)
		list_init(&source->shelves[i].waiting);
}

void agent_source_done(struct agent_source *source)
{
	timer_cancel(&source->client->loop->timers, &source->idle);
	for (size_t i = 0; i < ARRAY_SIZE(source->shelves); i++) {
		shelf_clear(&source->shelves[i]);
		fail_all(&source->shelves[i].waiting, -EPIPE);
	}
	fail_all(&source->others, -EPIPE);
}
