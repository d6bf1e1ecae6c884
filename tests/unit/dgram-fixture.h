/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests of the real host's datagram sockets: ours, and peers that are nothing but sockets.
 */
#pragma once

#include "frames.h"

#include <netinet/udp.h>
#include <sys/epoll.h>

#include "host/hostsock.h"
#include "tests/support/container.h"
#include "tests/support/interfaces.h"

#define TIMEOUT_NS   (30 * NS_PER_SEC)
#define DATAGRAM_MAX 65507 /* 65535 less IPv4's and UDP's headers */
#define ROOM         65536

#define ALL_FEATURES (HOSTSOCK_UDP_GRO | HOSTSOCK_UDP_SEGMENT)

static struct loop loop;
static struct hostsock hostsock;
static struct host *host;
static uint32_t events;
static int n_fds_before;
static uint8_t rooms[HOST_BATCH_MAX][ROOM];
static struct host_datagram in[HOST_BATCH_MAX];
static uint8_t bytes[ROOM], sink[ROOM];

static const struct handle handle = {.kind = HANDLE_UDP, .index = 77, .generation = 0x123456};

static const char *const loopbacks[] = {"127.0.0.1", "::1"};

static inline void set_up(unsigned int features)
{
	n_fds_before = count_fds();
	g_assert_cmpint(loop_init(&loop), ==, 0);
	hostsock_init(&hostsock, &loop, features);
	host = &hostsock.host;
	events = 0;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 251);
}

static inline void tear_down(void)
{
	hostsock_done(&hostsock);
	loop_done(&loop);
	g_assert_cmpint(count_fds(), ==, n_fds_before);
}

static inline bool has_loopback(const char *address)
{
	struct ip_addr addr = addr_of(address);
	const struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	cleanup_fd int fd = socket(addr.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return addr.family == AF_INET ||
		(fd >= 0 && bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) == 0);
}

/* ---- events ---- */

static inline void note(void *owner, struct handle got, uint32_t got_events)
{
	g_assert_cmpint(got.kind, ==, HANDLE_UDP);
	g_assert_cmpuint(got.index, ==, handle.index);
	g_assert_cmpuint(got.generation, ==, handle.generation);
	events |= got_events;
}

static inline void wait_for(uint32_t wanted)
{
	int64_t until_ns = clock_now_ns() + TIMEOUT_NS;

	while ((events & wanted) != wanted) {
		g_assert_cmpint(clock_now_ns(), <, until_ns);
		g_assert_cmpint(loop_turn(&loop, until_ns, note, NULL), >=, 0);
	}
}

static inline void expect_no_event(void)
{
	events = 0;
	g_assert_cmpint(loop_turn(&loop, 0, note, NULL), >=, 0);
	g_assert_cmphex(events, ==, 0);
}

/* ---- our sockets, and peers that are nothing but sockets ---- */

static inline struct host_dgram open_with(const struct host_dgram_config *config)
{
	struct host_dgram dgram;

	memset(&dgram, 0xff, sizeof(dgram)); /* all of it is to be written */
	events = 0;
	g_assert_cmpint(host->ops->dgram_open(host, config, handle, &dgram), ==, 0);
	g_assert_cmpint(dgram.fd, >=, 0);
	g_assert_cmpint(dgram.family, ==, config->family);
	return dgram;
}

static inline struct host_dgram open_dgram(uint8_t family)
{
	return open_with(&(struct host_dgram_config){.family = family, .protocol = IPPROTO_UDP});
}

static inline void close_dgram(struct host_dgram *dgram)
{
	host->ops->dgram_close(host, dgram);
}

static inline void set_int(int fd, int level, int name, int value)
{
	g_assert_cmpint(setsockopt(fd, level, name, &value, sizeof(value)), ==, 0);
}

static inline int get_int(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	g_assert_cmpint(getsockopt(fd, level, name, &value, &len), ==, 0);
	return value;
}

static inline socklen_t sockaddr_for(
	const struct ip_addr *addr, uint16_t port, struct sockaddr_in6 *ret)
{
	if (addr->family == AF_INET) {
		const struct sockaddr_in sa = {.sin_family = AF_INET,
			.sin_port = htons(port),
			.sin_addr = ip_addr_v4(addr)};

		memcpy(ret, &sa, sizeof(sa));
		return sizeof(sa);
	}
	*ret = (struct sockaddr_in6){
		.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = addr->in6};
	return sizeof(*ret);
}

static inline uint16_t port_of(int fd)
{
	struct sockaddr_in6 sa;
	socklen_t len = sizeof(sa);

	g_assert_cmpint(getsockname(fd, (struct sockaddr *)&sa, &len), ==, 0);
	return ntohs(sa.sin6_port); /* at the same place in both families */
}

struct peer {
	int fd;
	struct ip_addr addr;
	uint16_t port;
};

static inline struct peer peer_at(const char *address)
{
	const struct timeval timeout = {.tv_sec = TIMEOUT_NS / NS_PER_SEC};
	struct peer peer = {.addr = addr_of(address)};
	struct sockaddr_in6 sa;
	socklen_t len = sockaddr_for(&peer.addr, 0, &sa);

	peer.fd = socket(peer.addr.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(bind(peer.fd, (struct sockaddr *)&sa, len), ==, 0);
	g_assert_cmpint(
		setsockopt(peer.fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), ==, 0);
	set_int(peer.fd, SOL_SOCKET, SO_RCVBUF, 1 << 20);
	peer.port = port_of(peer.fd);
	return peer;
}

/* A port that nobody has. */
static inline struct peer nobody_at(const char *address)
{
	struct peer peer = peer_at(address);

	fd_close(&peer.fd);
	return peer;
}

static inline void expect_peer_recv(const struct peer *peer, const uint8_t *data, size_t len)
{
	ssize_t n = recv(peer->fd, sink, sizeof(sink), 0);

	g_assert_cmpmem(sink, (size_t)n, data, len);
}

static inline void expect_peer_empty(const struct peer *peer)
{
	g_assert_cmpint(recv(peer->fd, sink, sizeof(sink), MSG_DONTWAIT), ==, -1);
	g_assert_cmpint(errno, ==, EAGAIN);
}

static inline void peer_send(
	const struct peer *peer, const struct host_dgram *to, const uint8_t *data, size_t len)
{
	struct sockaddr_in6 sa;
	socklen_t sa_len = sockaddr_for(&peer->addr, port_of(to->fd), &sa);

	g_assert_cmpint(sendto(peer->fd, data, len, 0, (struct sockaddr *)&sa, sa_len), ==, len);
}

static inline struct host_datagram datagram_to(
	const struct peer *peer, const uint8_t *data, size_t len)
{
	return (struct host_datagram){.addr = peer->addr,
		.port = peer->port,
		.data = (uint8_t *)(uintptr_t)data,
		.len = len};
}

static inline int host_send(struct host_dgram *dgram, const struct host_datagram *datagrams, int n)
{
	return host->ops->dgram_send(host, dgram, datagrams, n);
}

static inline void send_one(struct host_dgram *dgram, const struct peer *peer, size_t len)
{
	const struct host_datagram datagram = datagram_to(peer, bytes, len);

	g_assert_cmpint(host_send(dgram, &datagram, 1), ==, 1);
}

static inline int host_recv(struct host_dgram *dgram, int n)
{
	for (int i = 0; i < n; i++) {
		memset(&in[i], 0xff, sizeof(in[i]));
		in[i].data = rooms[i];
		in[i].len = ROOM;
	}
	return host->ops->dgram_recv(host, dgram, in, n);
}

static inline void assert_addr(const struct ip_addr *addr, const struct ip_addr *expected)
{
	g_assert_cmpint(addr->family, ==, expected->family);
	g_assert_cmpmem(&addr->in6, 16, &expected->in6, 16);
}

/* The next `n` datagrams are in in[]. */
static inline void recv_all(struct host_dgram *dgram, int n)
{
	int got = host_recv(dgram, n);

	while (got == 0) {
		events = 0;
		wait_for(EPOLLIN);
		got = host_recv(dgram, n);
	}
	g_assert_cmpint(got, ==, n);
}

static inline struct host_dgram_error error_of(struct host_dgram *dgram)
{
	struct host_dgram_error error;

	memset(&error, 0xff, sizeof(error));
	g_assert_true(host->ops->dgram_error(host, dgram, &error));
	return error;
}

static inline void expect_no_error(struct host_dgram *dgram)
{
	struct host_dgram_error error;

	g_assert_false(host->ops->dgram_error(host, dgram, &error));
	g_assert_cmpint(get_int(dgram->fd, SOL_SOCKET, SO_ERROR), ==, 0);
}

/* ---- runs ---- */

/* Returns how many datagrams the peer got. */
static inline int expect_run(const struct peer *peer, size_t segment, size_t len)
{
	int n = 0;

	for (size_t offset = 0; offset < len; offset += segment, n++)
		expect_peer_recv(peer, bytes + offset, MIN(segment, len - offset));
	expect_peer_empty(peer);
	return n;
}

static inline void send_run(
	struct host_dgram *dgram, const struct peer *peer, uint16_t segment, size_t len)
{
	struct host_datagram run = datagram_to(peer, bytes, len);

	run.segment = segment;
	g_assert_cmpint(host_send(dgram, &run, 1), ==, 1);
}
