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

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/handle.h"
#include "base/util.h"
#include "wire/types.h"

struct host;

struct host_dial {
	struct ip_addr addr;
	uint32_t scope; /* of a link-local address: the interface's index */
	uint16_t port;
	const struct ip_addr *from; /* the source address; NULL: the kernel chooses */
};

/* Where a listener is, or a published UDP socket. */
struct host_bind {
	struct ip_addr addr;
	uint16_t port;
	bool dual_stack; /* addr is ::, IPv4 clients come, too, as v4-mapped addresses */
	bool paused;     /* bound, and not listening: tcp_listen_resume() */
};

/* Who has connected. IPv4 addresses are of family AF_INET, however the listener got them; a client
 * of a unix socket has family AF_UNIX and nothing else. */
struct host_client {
	struct ip_addr peer;
	uint16_t peer_port;
};

/* What a socket is that somebody else has made and bound. */
struct host_socket {
	int type;            /* SOCK_STREAM, SOCK_DGRAM, ... */
	struct ip_addr addr; /* family AF_UNIX and others: nothing else */
	uint16_t port;       /* 0: it is not bound */
	bool dual_stack;     /* IPv4 clients come to an IPv6 address, too */
	bool is_listening;
};

/* Why a dial failed, as precisely as the kernel knows. */
struct host_error {
	int error; /* errno, positive; 0: none, the connection stands */
	/* The ICMP or ICMPv6 error behind it, if there was one: `family` says of which kind. */
	uint8_t icmp_family; /* AF_INET, AF_INET6; 0: none */
	uint8_t icmp_type, icmp_code;
};

/*
 * A datagram socket, connected to nobody: UDP, or echo requests (icmp(7)'s "ping sockets", whose
 * messages begin with the ICMP header and whose id is the kernel's choice). The caller owns it and
 * fills `fd` from dgram_open(); the rest is what the kernel was told last, so that it need not be
 * told again: all zero to begin with.
 */
struct host_dgram {
	int fd;
	uint8_t family;
	uint8_t ttl, group_ttl, tos; /* 0: the kernel's default */
	bool dont_fragment;
	bool no_runs; /* the kernel or the device does not cut runs for this one: they go singly */
	bool is_dual; /* of family AF_INET6, and IPv4 peers come, too */
	bool is_shared; /* others may have copies of the descriptor */
	/* Entries to come in the error queue that say a second time what one of them says. */
	uint8_t n_repeated_errors;
	/* Datagrams of runs of which others were sent, and which were not: added up for the
	 * caller, who counts them and sets it to 0. */
	uint32_t n_dropped;
};

struct host_dgram_config {
	uint8_t family;             /* AF_INET, AF_INET6 */
	uint8_t protocol;           /* IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6 */
	const struct ip_addr *from; /* the source address; NULL: the kernel chooses */
	/* A published port: bound here, and each datagram's `local` is told and heeded. NULL: a
	 * port of the kernel's choice. */
	const struct host_bind *published;
	/* Only this peer, whose answers alone arrive (DNS); NULL: whoever speaks to it. */
	const struct ip_addr *peer;
	uint16_t peer_port;
	uint32_t peer_scope; /* the interface's index of a link-local peer */
	/* Nobody wants to know TTL and TOS of what comes, nor to have it in runs (DNS). */
	bool is_plain;
};

/* A datagram, or with `segment` a run of them: one after another in `data`, each that long but for
 * the last, which may be shorter. */
struct host_datagram {
	struct ip_addr addr; /* whom it goes to, or comes from; family 0: the connected peer */
	uint16_t port;       /* not of ping sockets */
	/* Of a published port: the address of ours that it came to, or is to leave from; family 0:
	 * the kernel chooses. */
	struct ip_addr local;
	uint32_t scope;     /* of a published port: the interface of a link-local peer; 0: none */
	uint8_t ttl, tos;   /* to be sent with; as it came. ttl 0: the default, or unknown */
	bool dont_fragment; /* going out only */
	uint16_t segment;   /* 0: one datagram */
	uint8_t *data;
	size_t len; /* coming in: the room before the call, the length after it */
};

static inline uint32_t host_n_datagrams(const struct host_datagram *run)
{
	return run->segment ? (uint32_t)((run->len + run->segment - 1) / run->segment) : 1;
}

/* Runs are at most so many datagrams (Linux: 64 before 6.9) and so many bytes. */
#define HOST_RUN_MAX       64
#define HOST_RUN_BYTES_MAX 65000
/* Datagrams that one call sends or receives at most. */
#define HOST_BATCH_MAX 64
/* Of the datagram that an error is about, so much is kept. */
#define HOST_QUOTE_MAX 1232

/* What became of a datagram that was sent: ip(7), IP_RECVERR. */
struct host_dgram_error {
	int error;           /* errno, positive */
	struct ip_addr addr; /* whom it went to; family 0: not said (what sending itself found) */
	uint16_t port;
	uint8_t icmp_family, icmp_type, icmp_code; /* as in struct host_error */
	uint32_t mtu;                              /* of the path, with EMSGSIZE */
	struct ip_addr offender;                   /* who says so; family 0: this host */
	/* Of a published port: to which address of ours; family 0: not said. And the interface of
	 * a link-local `addr`. */
	struct ip_addr local;
	uint32_t scope;
	size_t quote_len;
	/* The first bytes of what was in `data`: behind UDP's header, or from the ICMP header on,
	 * which then has the kernel's id. */
	uint8_t quote[HOST_QUOTE_MAX];
};

/* The host's nameservers that are asked at most (resolv.conf(5) has 3). */
#define HOST_NAMESERVERS_MAX 8
/* How long -EAGAIN of nameservers() lasts at most. */
#define HOST_NAMESERVERS_WAIT_NS (250 * NS_PER_MS)

struct host_nameserver {
	struct ip_addr addr;
	uint32_t scope;   /* of a link-local address: the interface's index; 0: none is named */
	uint8_t position; /* in the host's file, below HOST_NAMESERVERS_MAX */
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
	/* 0 or a negative errno: -ENOTSOCK, -EBADF. */
	int (*describe)(struct host *host, int fd, struct host_socket *ret);
	/* A listener for TCP with the largest backlog, watched level-triggered for EPOLLIN; its
	 * descriptor or a negative errno. With `paused` it is bound only, and not watched. */
	int (*tcp_listen)(struct host *host, const struct host_bind *bind, struct handle handle);
	/* Stops listening and keeps the port: clients are refused, nobody else can have it.
	 * Connections that were accepted go on, those that wait to be are reset. And begins again.
	 * It is watched while it listens. 0 or a negative errno, and all is as before. */
	int (*tcp_listen_pause)(struct host *host, int fd);
	int (*tcp_listen_resume)(struct host *host, int fd, struct handle handle);
	/* A client, not watched yet: its descriptor, -EAGAIN when none waits, or another negative
	 * errno (-EMFILE: refuse()). */
	int (*tcp_accept)(struct host *host, int fd, struct host_client *ret);
	/* Once more who an accepted client is; 0 or a negative errno when it is gone. */
	int (*tcp_client)(struct host *host, int fd, struct host_client *ret);
	/* What tcp_dial() does to a connection of its own, done to an accepted one: it is watched
	 * with `handle`, edge-triggered. 0 or a negative errno. */
	int (*tcp_adopt)(struct host *host, int fd, struct handle handle);
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
	/* As many bytes as there is room for; 0 at the end of the stream, -EAGAIN when none are
	 * there now, or another negative errno. Fewer means that there are no more now. */
	ssize_t (*tcp_recv)(struct host *host, int fd, const struct iovec *iov, int n_iov);
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

	/* A socket as `config` has it, watched edge-triggered with `handle` for EPOLLIN and
	 * EPOLLERR. *ret is ready to use. 0 or a negative errno: -EACCES for a ping socket that
	 * net.ipv4.ping_group_range forbids, -EMFILE, ... */
	int (*dgram_open)(struct host *host, const struct host_dgram_config *config,
		struct handle handle, struct host_dgram *ret);
	/* Likewise of a socket that there is: one that somebody else has bound (`published`: where
	 * is not looked at), or one of another namespace. With 0 it is
	 * dgram_close()'s to close, else the caller's still. -EPROTOTYPE:
	 * it is none of that family and protocol. */
	int (*dgram_adopt)(struct host *host, int fd, const struct host_dgram_config *config,
		struct handle handle, struct host_dgram *ret);
	void (*dgram_close)(struct host *host, struct host_dgram *dgram);
	/* Sends up to HOST_BATCH_MAX in their order, each with its ttl, tos and dont_fragment.
	 * Returns how many were sent, or, when the first was not, a negative errno: -EAGAIN there
	 * is no room now, others concern the first one alone (-EMSGSIZE: with dont_fragment, and
	 * larger than the path's MTU; dgram_error() tells it), or, seldom, are an earlier
	 * datagram's error, which is in the error queue then: dgram_error() first, then once more.
	 * (The host itself sends again what such an error was in the way of.) A run that the kernel
	 * refuses is sent singly by the host itself, and remembered; one that was sent in part
	 * counts as sent, its rest is lost as on any wire: n_dropped. */
	int (*dgram_send)(struct host *host, struct host_dgram *dgram,
		const struct host_datagram *datagrams, int n);
	/* Fills up to HOST_BATCH_MAX. Returns how many there were; fewer than `n` means that there
	 * are no more now. 0: none, or a negative errno: there is an error in the queue. */
	int (*dgram_recv)(struct host *host, struct host_dgram *dgram,
		struct host_datagram *datagrams, int n);
	/* Takes the oldest error out of the queue, and the socket's pending one with it. False:
	 * there was none. EPOLLERR comes once, so it is asked until then. */
	bool (*dgram_error)(
		struct host *host, struct host_dgram *dgram, struct host_dgram_error *ret);

	/* The host's nameservers, in the order in which to try them: those that are known not to
	 * answer come last. Returns how many there are, at least one; -EAGAIN: the host is looking
	 * again who they are, and is to be asked again, after HOST_NAMESERVERS_WAIT_NS at the
	 * latest (dns_servers_known() tells when). */
	int (*nameservers)(struct host *host, struct host_nameserver ret[HOST_NAMESERVERS_MAX],
		int64_t now_ns);
	/* The nameserver `addr` has answered; or it was silent or refused, and is to be tried last
	 * for a while. */
	void (*nameserver_said)(
		struct host *host, const struct ip_addr *addr, bool answered, int64_t now_ns);
};

/* Of what dgram_open() has said: descriptors, memory or (EAGAIN, of connect(2)) ports are lacking,
 * which others can give back. */
static inline bool host_is_short(int error)
{
	return error == -EAGAIN || error == -EMFILE || error == -ENFILE || error == -ENOMEM ||
		error == -ENOBUFS || error == -ENOSPC;
}

struct host {
	const struct host_ops *ops;
};
