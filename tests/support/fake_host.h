/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host whose epoll is a table, with epoll's errors, and whose sockets are what the test says.
 */
#pragma once

#include <errno.h>
#include <glib.h>

#include "base/util.h"
#include "host/host.h"

#define FAKE_HOST_FDS 256

struct fake_host {
	struct host host;
	struct {
		bool is_watched, is_listening, is_connected;
		uint32_t events;
		struct handle handle;
		int backlog, n_waiting;
	} fd[FAKE_HOST_FDS];
	int n_calls; /* of watch, change and unwatch */
	int n_refused;
	int refuse_error; /* 0: refusing works */
};

static int fake_host_watch(struct host *host, int fd, uint32_t events, struct handle handle)
{
	struct fake_host *fake = container_of(host, struct fake_host, host);

	fake->n_calls++;
	if (fake->fd[fd].is_watched)
		return -EEXIST;
	fake->fd[fd].is_watched = true;
	fake->fd[fd].events = events;
	fake->fd[fd].handle = handle;
	return 0;
}

static int fake_host_change(struct host *host, int fd, uint32_t events, struct handle handle)
{
	struct fake_host *fake = container_of(host, struct fake_host, host);

	fake->n_calls++;
	if (!fake->fd[fd].is_watched)
		return -ENOENT;
	fake->fd[fd].events = events;
	fake->fd[fd].handle = handle;
	return 0;
}

static int fake_host_unwatch(struct host *host, int fd)
{
	struct fake_host *fake = container_of(host, struct fake_host, host);

	fake->n_calls++;
	if (!fake->fd[fd].is_watched)
		return -ENOENT;
	fake->fd[fd].is_watched = false;
	return 0;
}

static bool fake_host_is_listening(struct host *host, int fd)
{
	return container_of(host, struct fake_host, host)->fd[fd].is_listening;
}

static bool fake_host_is_connected(struct host *host, int fd)
{
	return container_of(host, struct fake_host, host)->fd[fd].is_connected;
}

static int fake_host_listen(struct host *host, int fd, int backlog)
{
	container_of(host, struct fake_host, host)->fd[fd].backlog = backlog;
	return 0;
}

static int fake_host_refuse(struct host *host, int fd)
{
	struct fake_host *fake = container_of(host, struct fake_host, host);

	if (fake->refuse_error)
		return fake->refuse_error;
	if (fake->fd[fd].n_waiting == 0)
		return -EAGAIN;
	fake->fd[fd].n_waiting--;
	fake->n_refused++;
	return 0;
}

static const struct host_ops fake_host_ops = {
	.watch = fake_host_watch,
	.change = fake_host_change,
	.unwatch = fake_host_unwatch,
	.is_listening = fake_host_is_listening,
	.is_connected = fake_host_is_connected,
	.listen = fake_host_listen,
	.refuse = fake_host_refuse,
};

static inline void fake_host_init(struct fake_host *fake)
{
	*fake = (struct fake_host){.host = {.ops = &fake_host_ops}};
}

/* What the kernel does when the last descriptor of a socket is closed. */
static inline void fake_host_close(struct fake_host *fake, int fd)
{
	fake->fd[fd].is_watched = false;
}
