/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who makes sockets that this process cannot make itself: those of the container's namespace, and
 * unix sockets connected to a path of the caller's file system. The netns agent, in the program.
 */
#pragma once

#include <stdint.h>

/* `fd` is a socket (non-blocking, close-on-exec, the callee's) or a negative errno. */
typedef void socket_made_fn(void *owner, uint64_t cookie, int fd);

struct socket_source {
	/* `done` will be called once, perhaps before this returns. `family` is AF_INET or AF_INET6,
	 * `type` SOCK_STREAM or SOCK_DGRAM; or AF_NETLINK and SOCK_RAW, for sock_diag(7). */
	void (*make)(struct socket_source *source, uint8_t family, int type, socket_made_fn *done,
		void *owner, uint64_t cookie);
	/* Likewise a stream socket that is connected to `path`, which is copied. */
	void (*connect_unix)(struct socket_source *source, const char *path, socket_made_fn *done,
		void *owner, uint64_t cookie);
};
