/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the data path asks of the host's kernel: the second of the two interfaces (the first:
 * link_ops), so that it runs unchanged on a fake host in tests.
 *
 * While libslirp is the stack it opens and closes its sockets itself; what is left is readiness and
 * the treatment of its listeners.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/handle.h"

struct host;

struct host_ops {
	/* As epoll_ctl(2)'s ADD, MOD and DEL, with its errors as negative errno. */
	int (*watch)(struct host *host, int fd, uint32_t events, struct handle handle);
	int (*change)(struct host *host, int fd, uint32_t events, struct handle handle);
	int (*unwatch)(struct host *host, int fd);
	/* Whether a stream socket listens (SO_ACCEPTCONN). */
	bool (*is_listening)(struct host *host, int fd);
	/* Whether a stream socket has been connected (its peer has a name). */
	bool (*is_connected)(struct host *host, int fd);
	/* listen(2); on a socket that listens it changes the backlog only. */
	int (*listen)(struct host *host, int fd, int backlog);
	/* Accepts one client and resets it at once (SO_LINGER 0), also when the process has no
	 * descriptor left. 0, -EAGAIN when none waits, or another negative errno. */
	int (*refuse)(struct host *host, int fd);
};

struct host {
	const struct host_ops *ops;
};
