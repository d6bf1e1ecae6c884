/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the data path asks of the host's kernel: the second of the two interfaces (the first:
 * link_ops), so that it runs unchanged on a fake host in tests.
 *
 * Whatever libslirp serves, it opens and closes its sockets itself; for these there are readiness
 * and the treatment of its listeners. Our own TCP connections are all made by tcp_dial(), watched
 * edge-triggered for EPOLLIN, EPOLLOUT and EPOLLRDHUP from the start, and never waited for.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/handle.h"
#include "wire/types.h"

struct host;

struct host_dial {
	struct ip_addr addr; /* a link-local one is the nameserver's */
	uint16_t port;
	const struct ip_addr *from; /* the source address; NULL: the kernel chooses */
};

/* Why a dial failed, as precisely as the kernel knows. */
struct host_error {
	int error; /* errno, positive; 0: none, the connection stands */
	/* The ICMP or ICMPv6 error behind it, if there was one: `family` says of which kind. */
	uint8_t icmp_family; /* AF_INET, AF_INET6; 0: none */
	uint8_t icmp_type, icmp_code;
};

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

	/* A connection to `dial` is begun and watched with `handle`. Returns its descriptor, or a
	 * negative errno when that failed at once. EPOLLOUT or an error tells the outcome. */
	int (*tcp_dial)(struct host *host, const struct host_dial *dial, struct handle handle);
	/* The outcome of a dial on which an event has come; later, why EPOLLERR has. */
	void (*tcp_dial_result)(struct host *host, int fd, struct host_error *ret);
	/* The connection to `addr` stands: from now on only what is final is an error. */
	void (*tcp_dialled)(struct host *host, int fd, const struct ip_addr *addr);
	/* Up to `len` bytes; 0 at the end of the stream, -EAGAIN when none are there now, or
	 * another negative errno. Fewer than `len` means that there are no more now. */
	ssize_t (*tcp_recv)(struct host *host, int fd, void *buf, size_t len);
	/* How many bytes were taken; -EAGAIN: none now. Fewer than given means that there is no
	 * room now; EPOLLOUT follows. */
	ssize_t (*tcp_send)(struct host *host, int fd, const struct iovec *iov, int n_iov);
	/* Nothing more will be sent; what was sent arrives first. */
	void (*tcp_shutdown)(struct host *host, int fd);
	/* What was sent still arrives. */
	void (*tcp_close)(struct host *host, int fd);
	/* The peer gets a reset. */
	void (*tcp_reset)(struct host *host, int fd);
	/* A probe goes out when the connection was silent for `idle_s`, which is not 0, and then as
	 * often again, or every 20 s; three without an answer are an error (ETIMEDOUT). */
	void (*tcp_keepalive)(struct host *host, int fd, unsigned int idle_s);
	/* Whether the peer has yet to acknowledge something. */
	bool (*tcp_has_unacknowledged)(struct host *host, int fd);
	/* The nameserver of this family that the host uses. */
	struct ip_addr (*nameserver)(struct host *host, uint8_t family, int64_t now_ns);
};

struct host {
	const struct host_ops *ops;
};
