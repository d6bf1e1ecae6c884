/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real datagram sockets: on the loopback; and in a namespace of their own, where its MTU can be
 * lowered, ping be allowed or not, and a tun device has the test on its other end, as a router.
 */
#include "frames.h"

#include <linux/if_tun.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "host/hostsock.h"
#include "tests/support/container.h"
#include "tests/support/interfaces.h"

#define TUN          "tun0"
#define TUN4         "198.51.100.1"
#define REMOTE4      "198.51.100.9" /* behind the tun */
#define TUN6         "2001:db8::1"
#define REMOTE6      "2001:db8::9"
#define ROUTER_BYTE  77 /* the last of a router's address */
#define TIMEOUT_NS   (30 * NS_PER_SEC)
#define DATAGRAM_MAX 65507 /* 65535 less IPv4's and UDP's headers */
#define ROOM         65536

#define ALL_FEATURES (HOSTSOCK_UDP_GRO | HOSTSOCK_UDP_SEGMENT)

static struct loop loop;
static struct hostsock hostsock;
static struct host *host;
static uint32_t events;
static int n_fds_before, tun;
static uint8_t rooms[HOST_BATCH_MAX][ROOM];
static struct host_datagram in[HOST_BATCH_MAX];
static uint8_t bytes[ROOM], sink[ROOM];

static const struct handle handle = {.kind = HANDLE_UDP, .index = 77, .generation = 0x123456};

static const char *const loopbacks[] = {"127.0.0.1", "::1"};

static void set_up(unsigned int features)
{
	tun = -1;
	n_fds_before = count_fds();
	g_assert_cmpint(loop_init(&loop), ==, 0);
	hostsock_init(&hostsock, &loop, features);
	host = &hostsock.host;
	events = 0;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 251);
}

static void tear_down(void)
{
	fd_close(&tun);
	hostsock_done(&hostsock);
	loop_done(&loop);
	g_assert_cmpint(count_fds(), ==, n_fds_before);
}

static bool has_loopback(const char *address)
{
	struct ip_addr addr = addr_of(address);
	const struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	cleanup_fd int fd = socket(addr.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return addr.family == AF_INET ||
		(fd >= 0 && bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) == 0);
}

/* ---- events ---- */

static void note(void *owner, struct handle got, uint32_t got_events)
{
	g_assert_cmpint(got.kind, ==, HANDLE_UDP);
	g_assert_cmpuint(got.index, ==, handle.index);
	g_assert_cmpuint(got.generation, ==, handle.generation);
	events |= got_events;
}

static void wait_for(uint32_t wanted)
{
	int64_t until_ns = clock_now_ns() + TIMEOUT_NS;

	while ((events & wanted) != wanted) {
		g_assert_cmpint(clock_now_ns(), <, until_ns);
		g_assert_cmpint(loop_turn(&loop, until_ns, note, NULL), >=, 0);
	}
}

static void expect_no_event(void)
{
	events = 0;
	g_assert_cmpint(loop_turn(&loop, 0, note, NULL), >=, 0);
	g_assert_cmphex(events, ==, 0);
}

/* ---- our sockets, and peers that are nothing but sockets ---- */

static struct host_dgram open_with(const struct host_dgram_config *config)
{
	struct host_dgram dgram;

	memset(&dgram, 0xff, sizeof(dgram)); /* all of it is to be written */
	events = 0;
	g_assert_cmpint(host->ops->dgram_open(host, config, handle, &dgram), ==, 0);
	g_assert_cmpint(dgram.fd, >=, 0);
	g_assert_cmpint(dgram.family, ==, config->family);
	return dgram;
}

static struct host_dgram open_dgram(uint8_t family)
{
	return open_with(&(struct host_dgram_config){.family = family, .protocol = IPPROTO_UDP});
}

static void close_dgram(struct host_dgram *dgram)
{
	host->ops->dgram_close(host, dgram);
}

static void set_int(int fd, int level, int name, int value)
{
	g_assert_cmpint(setsockopt(fd, level, name, &value, sizeof(value)), ==, 0);
}

static int get_int(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	g_assert_cmpint(getsockopt(fd, level, name, &value, &len), ==, 0);
	return value;
}

static socklen_t sockaddr_for(const struct ip_addr *addr, uint16_t port, struct sockaddr_in6 *ret)
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

static uint16_t port_of(int fd)
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

static struct peer peer_at(const char *address)
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
static struct peer nobody_at(const char *address)
{
	struct peer peer = peer_at(address);

	fd_close(&peer.fd);
	return peer;
}

static void expect_peer_recv(const struct peer *peer, const uint8_t *data, size_t len)
{
	ssize_t n = recv(peer->fd, sink, sizeof(sink), 0);

	g_assert_cmpmem(sink, (size_t)n, data, len);
}

static void expect_peer_empty(const struct peer *peer)
{
	g_assert_cmpint(recv(peer->fd, sink, sizeof(sink), MSG_DONTWAIT), ==, -1);
	g_assert_cmpint(errno, ==, EAGAIN);
}

static void peer_send(
	const struct peer *peer, const struct host_dgram *to, const uint8_t *data, size_t len)
{
	struct sockaddr_in6 sa;
	socklen_t sa_len = sockaddr_for(&peer->addr, port_of(to->fd), &sa);

	g_assert_cmpint(sendto(peer->fd, data, len, 0, (struct sockaddr *)&sa, sa_len), ==, len);
}

static struct host_datagram datagram_to(const struct peer *peer, const uint8_t *data, size_t len)
{
	return (struct host_datagram){.addr = peer->addr,
		.port = peer->port,
		.data = (uint8_t *)(uintptr_t)data,
		.len = len};
}

static int host_send(struct host_dgram *dgram, const struct host_datagram *datagrams, int n)
{
	return host->ops->dgram_send(host, dgram, datagrams, n);
}

static void send_one(struct host_dgram *dgram, const struct peer *peer, size_t len)
{
	const struct host_datagram datagram = datagram_to(peer, bytes, len);

	g_assert_cmpint(host_send(dgram, &datagram, 1), ==, 1);
}

static int host_recv(struct host_dgram *dgram, int n)
{
	for (int i = 0; i < n; i++) {
		memset(&in[i], 0xff, sizeof(in[i]));
		in[i].data = rooms[i];
		in[i].len = ROOM;
	}
	return host->ops->dgram_recv(host, dgram, in, n);
}

static void assert_addr(const struct ip_addr *addr, const struct ip_addr *expected)
{
	g_assert_cmpint(addr->family, ==, expected->family);
	g_assert_cmpmem(&addr->in6, 16, &expected->in6, 16);
}

/* The next `n` datagrams are in in[]. */
static void recv_all(struct host_dgram *dgram, int n)
{
	int got = host_recv(dgram, n);

	while (got == 0) {
		events = 0;
		wait_for(EPOLLIN);
		got = host_recv(dgram, n);
	}
	g_assert_cmpint(got, ==, n);
}

static struct host_dgram_error error_of(struct host_dgram *dgram)
{
	struct host_dgram_error error;

	memset(&error, 0xff, sizeof(error));
	g_assert_true(host->ops->dgram_error(host, dgram, &error));
	return error;
}

static void expect_no_error(struct host_dgram *dgram)
{
	struct host_dgram_error error;

	g_assert_false(host->ops->dgram_error(host, dgram, &error));
	g_assert_cmpint(get_int(dgram->fd, SOL_SOCKET, SO_ERROR), ==, 0);
}

/* ---- there and back ---- */

static void both_ways(const char *address)
{
	struct peer peer = peer_at(address);
	struct host_dgram dgram = open_dgram(peer.addr.family);
	static const size_t lens[] = {0, 1, 1472, 1473, 0, DATAGRAM_MAX, 512};
	struct host_datagram out[ARRAY_SIZE(lens)];

	for (int at_once = 0; at_once <= 1; at_once++) {
		for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
			out[i] = datagram_to(&peer, bytes + i, lens[i]);
			if (!at_once)
				g_assert_cmpint(host_send(&dgram, &out[i], 1), ==, 1);
		}
		if (at_once)
			g_assert_cmpint(
				host_send(&dgram, out, ARRAY_SIZE(lens)), ==, ARRAY_SIZE(lens));
		for (size_t i = 0; i < ARRAY_SIZE(lens); i++)
			expect_peer_recv(&peer, bytes + i, lens[i]);
		expect_peer_empty(&peer);
	}
	for (int batch = 1; batch <= 8; batch += 7) {
		for (size_t i = 0; i < ARRAY_SIZE(lens); i++)
			peer_send(&peer, &dgram, bytes + i, lens[i]);
		for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
			const struct host_datagram *got = &in[batch == 1 ? 0 : i];

			if (batch == 1 || i == 0)
				g_assert_cmpint(host_recv(&dgram, batch), ==,
					MIN(batch, (int)ARRAY_SIZE(lens)));
			assert_addr(&got->addr, &peer.addr);
			g_assert_cmpuint(got->port, ==, peer.port);
			g_assert_cmpuint(got->segment, ==, 0);
			g_assert_cmpmem(got->data, got->len, bytes + i, lens[i]);
		}
		g_assert_cmpint(host_recv(&dgram, batch), ==, 0);
	}
	expect_no_error(&dgram);
	close_dgram(&dgram);
	g_assert_cmpint(dgram.fd, ==, -1);
	close(peer.fd);
}

static void test_both_ways(void)
{
	set_up(ALL_FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(loopbacks); i++)
		if (has_loopback(loopbacks[i]))
			both_ways(loopbacks[i]);
	tear_down();
}

/* The largest batch, to two peers in turns: none lost, in order. */
static void test_batch(void)
{
	struct host_datagram out[HOST_BATCH_MAX];
	struct host_dgram dgram;
	struct peer peers[2];

	set_up(ALL_FEATURES);
	peers[0] = peer_at("127.0.0.1");
	peers[1] = peer_at("127.0.0.1");
	dgram = open_dgram(AF_INET);
	for (int i = 0; i < HOST_BATCH_MAX; i++)
		out[i] = datagram_to(&peers[i % 2], bytes + i, (size_t)i);
	g_assert_cmpint(host_send(&dgram, out, HOST_BATCH_MAX), ==, HOST_BATCH_MAX);
	for (int i = 0; i < HOST_BATCH_MAX; i++)
		expect_peer_recv(&peers[i % 2], bytes + i, (size_t)i);
	for (int i = 0; i < HOST_BATCH_MAX + 3; i++)
		peer_send(&peers[i % 2], &dgram, bytes + i, 100);
	recv_all(&dgram, HOST_BATCH_MAX);
	for (int i = 0; i < HOST_BATCH_MAX; i++) {
		g_assert_cmpuint(in[i].port, ==, peers[i % 2].port);
		g_assert_cmpmem(in[i].data, in[i].len, bytes + i, 100);
	}
	g_assert_cmpint(host_recv(&dgram, HOST_BATCH_MAX), ==, 3);
	close_dgram(&dgram);
	close(peers[0].fd);
	close(peers[1].fd);
	tear_down();
}

/* An event comes when something has come, and then once; none that one could write. */
static void test_edges(void)
{
	struct host_dgram dgram;
	struct peer peer, nobody;

	set_up(ALL_FEATURES);
	peer = peer_at("127.0.0.1");
	nobody = nobody_at("127.0.0.1");
	dgram = open_dgram(AF_INET);
	g_assert_true(fcntl(dgram.fd, F_GETFL) & O_NONBLOCK);
	g_assert_true(fcntl(dgram.fd, F_GETFD) & FD_CLOEXEC);
	send_one(&dgram, &peer, 1);
	expect_no_event();
	peer_send(&peer, &dgram, bytes, 1);
	wait_for(EPOLLIN);
	g_assert_cmphex(events, ==, EPOLLIN);
	expect_no_event(); /* though it was not read */
	peer_send(&peer, &dgram, bytes, 1);
	wait_for(EPOLLIN);
	recv_all(&dgram, 2);
	events = 0;
	send_one(&dgram, &nobody, 1);
	wait_for(EPOLLERR);
	g_assert_cmpint(error_of(&dgram).error, ==, ECONNREFUSED);
	expect_no_error(&dgram);
	expect_no_event();
	close_dgram(&dgram);
	expect_no_event();
	close(peer.fd);
	tear_down();
}

/* A datagram that the room is too short for is lost, and no other. */
static void test_short_room(void)
{
	struct host_dgram dgram;
	struct peer peer;

	set_up(ALL_FEATURES);
	peer = peer_at("127.0.0.1");
	dgram = open_dgram(AF_INET);
	send_one(&dgram, &peer, 1);
	for (size_t i = 0; i < 6; i++)
		peer_send(&peer, &dgram, bytes + i, i % 2 ? 100 : 101);
	for (int i = 0; i < 5; i++)
		in[i] = (struct host_datagram){.data = rooms[i], .len = 100};
	g_assert_cmpint(host->ops->dgram_recv(host, &dgram, in, 5), ==, 3);
	for (size_t i = 0; i < 3; i++) {
		g_assert_cmpmem(in[i].data, in[i].len, bytes + 2 * i + 1, 100);
		for (size_t j = 0; j < 5; j++)
			g_assert_true(i == j || in[i].data != in[j].data);
	}
	close_dgram(&dgram);
	close(peer.fd);
	tear_down();
}

/* ---- runs ---- */

/* Returns how many datagrams the peer got. */
static int expect_run(const struct peer *peer, size_t segment, size_t len)
{
	int n = 0;

	for (size_t offset = 0; offset < len; offset += segment, n++)
		expect_peer_recv(peer, bytes + offset, MIN(segment, len - offset));
	expect_peer_empty(peer);
	return n;
}

static void send_run(
	struct host_dgram *dgram, const struct peer *peer, uint16_t segment, size_t len)
{
	struct host_datagram run = datagram_to(peer, bytes, len);

	run.segment = segment;
	g_assert_cmpint(host_send(dgram, &run, 1), ==, 1);
}

static void runs_out(const char *address)
{
	struct peer peer = peer_at(address);
	struct host_dgram dgram = open_dgram(peer.addr.family);

	send_run(&dgram, &peer, 1000, 10017);
	g_assert_cmpint(expect_run(&peer, 1000, 10017), ==, 11);
	send_run(&dgram, &peer, 1000, HOST_RUN_MAX * 1000); /* both bounds, nearly */
	g_assert_cmpint(expect_run(&peer, 1000, HOST_RUN_MAX * 1000), ==, HOST_RUN_MAX);
	send_run(&dgram, &peer, 1, HOST_RUN_MAX);
	g_assert_cmpint(expect_run(&peer, 1, HOST_RUN_MAX), ==, HOST_RUN_MAX);
	send_run(&dgram, &peer, 1000, 1000); /* a run of one */
	g_assert_cmpint(expect_run(&peer, 1000, 1000), ==, 1);
	send_run(&dgram, &peer, 1000, 0);
	expect_peer_recv(&peer, bytes, 0);
	g_assert_false(dgram.no_runs);
	g_assert_cmpuint(dgram.n_dropped, ==, 0);
	close_dgram(&dgram);
	close(peer.fd);
}

/* Among others, each in its place. */
static void runs_between(void)
{
	struct peer peer = peer_at("127.0.0.1");
	struct host_dgram dgram = open_dgram(AF_INET);

	for (int no_runs = 0; no_runs <= 1; no_runs++) {
		struct host_datagram out[4] = {datagram_to(&peer, bytes, 7),
			datagram_to(&peer, bytes, 205), datagram_to(&peer, bytes, 64000),
			datagram_to(&peer, bytes, 9)};

		out[1].segment = 100;
		out[2].segment = 1000;
		dgram.no_runs = no_runs;
		g_assert_cmpint(host_send(&dgram, out, 4), ==, 4);
		expect_peer_recv(&peer, bytes, 7);
		for (size_t at = 0; at < 205; at += 100)
			expect_peer_recv(&peer, bytes + at, MIN(205 - at, 100));
		for (size_t at = 0; at < 64000; at += 1000)
			expect_peer_recv(&peer, bytes + at, 1000);
		expect_peer_recv(&peer, bytes, 9);
		expect_peer_empty(&peer);
	}
	close_dgram(&dgram);
	close(peer.fd);
}

static void test_runs_out(void)
{
	struct peer peer;
	struct host_dgram dgram;

	set_up(ALL_FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(loopbacks); i++)
		if (has_loopback(loopbacks[i]))
			runs_out(loopbacks[i]);
	runs_between();
	tear_down();

	set_up(HOSTSOCK_UDP_GRO);
	peer = peer_at("127.0.0.1");
	dgram = open_dgram(AF_INET);
	g_assert_true(dgram.no_runs);
	send_run(&dgram, &peer, 1000, 10017);
	g_assert_cmpint(expect_run(&peer, 1000, 10017), ==, 11);
	close_dgram(&dgram);
	close(peer.fd);
	tear_down();
}

/* What one kernel sends as a run, the other gives as one, when it is wanted. */
static void test_runs_in(void)
{
	for (unsigned int features = 0; features <= HOSTSOCK_UDP_GRO; features++) {
		struct peer peer, far;
		struct host_dgram dgram;

		set_up(features);
		peer = peer_at("127.0.0.1");
		dgram = open_dgram(AF_INET);
		send_one(&dgram, &peer, 1);
		far = (struct peer){.addr = peer.addr, .port = port_of(dgram.fd)};
		set_int(peer.fd, IPPROTO_UDP, UDP_SEGMENT, 100);
		peer_send(&peer, &dgram, bytes, 1050);
		peer_send(&peer, &dgram, bytes, 100);
		recv_all(&dgram, features ? 2 : 12);
		if (features) {
			g_assert_cmpuint(in[0].segment, ==, 100);
			g_assert_cmpmem(in[0].data, in[0].len, bytes, 1050);
			g_assert_cmpuint(in[1].segment, ==, 0);
			g_assert_cmpuint(in[1].len, ==, 100);
		} else {
			g_assert_cmpuint(in[0].segment, ==, 0);
			g_assert_cmpmem(in[10].data, in[10].len, bytes + 1000, 50);
		}
		g_assert_cmpuint(far.port, !=, 0);
		close_dgram(&dgram);
		close(peer.fd);
		tear_down();
	}
}

/* ---- what goes with a datagram ---- */

static void traffic_in(const char *address)
{
	struct peer peer = peer_at(address);
	struct host_dgram dgram = open_dgram(peer.addr.family);
	bool is4 = peer.addr.family == AF_INET;
	int level = is4 ? IPPROTO_IP : IPPROTO_IPV6;

	send_one(&dgram, &peer, 1);
	set_int(peer.fd, level, is4 ? IP_TTL : IPV6_UNICAST_HOPS, 33);
	set_int(peer.fd, level, is4 ? IP_TOS : IPV6_TCLASS, 0x61);
	peer_send(&peer, &dgram, bytes, 5);
	set_int(peer.fd, level, is4 ? IP_TTL : IPV6_UNICAST_HOPS, 255);
	set_int(peer.fd, level, is4 ? IP_TOS : IPV6_TCLASS, 0);
	peer_send(&peer, &dgram, bytes, 5);
	recv_all(&dgram, 2);
	g_assert_cmpuint(in[0].ttl, ==, 33);
	g_assert_cmphex(in[0].tos, ==, 0x61);
	g_assert_cmpuint(in[1].ttl, ==, 255);
	g_assert_cmphex(in[1].tos, ==, 0);
	close_dgram(&dgram);
	close(peer.fd);
}

static void test_traffic_in(void)
{
	set_up(ALL_FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(loopbacks); i++)
		if (has_loopback(loopbacks[i]))
			traffic_in(loopbacks[i]);
	tear_down();
}

/* ---- where from and where to ---- */

static void test_from(void)
{
	struct host_dgram_config config = {.family = AF_INET, .protocol = IPPROTO_UDP};
	struct ip_addr from = addr_of("127.0.0.5"), from6 = addr_of("::1");
	struct host_dgram dgram;
	struct rlimit limit, none;
	struct peer peer;
	int r;

	set_up(ALL_FEATURES);
	peer = peer_at("127.0.0.1");
	config.from = &from;
	dgram = open_with(&config);
	send_one(&dgram, &peer, 1);
	close_dgram(&dgram);
	{
		struct sockaddr_in sa;
		socklen_t len = sizeof(sa);

		g_assert_cmpint(
			recvfrom(peer.fd, sink, sizeof(sink), 0, (struct sockaddr *)&sa, &len), ==,
			1);
		g_assert_cmphex(ntohl(sa.sin_addr.s_addr), ==, 0x7f000005);
	}
	config.from = &from6; /* of the other family: not meant */
	dgram = open_with(&config);
	close_dgram(&dgram);
	from = addr_of("192.0.2.99");
	config.from = &from;
	g_assert_cmpint(host->ops->dgram_open(host, &config, handle, &dgram), ==, -EADDRNOTAVAIL);

	getrlimit(RLIMIT_NOFILE, &limit);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
	setrlimit(RLIMIT_NOFILE, &none);
	r = host->ops->dgram_open(host, &config, handle, &dgram);
	setrlimit(RLIMIT_NOFILE, &limit);
	g_assert_cmpint(r, ==, -EMFILE);
	close(peer.fd);
	tear_down();
}

/* Only from the peer that it is connected to. */
static void connected(const char *address)
{
	struct peer peer = peer_at(address), stranger = peer_at(address);
	struct host_dgram_config config = {.family = peer.addr.family,
		.protocol = IPPROTO_UDP,
		.peer = &peer.addr,
		.peer_port = peer.port};
	struct host_datagram query = {.data = bytes, .len = 30};
	struct host_dgram dgram = open_with(&config);
	struct host_dgram_error error;

	g_assert_cmpint(host_send(&dgram, &query, 1), ==, 1);
	expect_peer_recv(&peer, bytes, 30);
	peer_send(&stranger, &dgram, bytes, 1);
	peer_send(&peer, &dgram, bytes, 2);
	recv_all(&dgram, 1);
	g_assert_cmpuint(in[0].len, ==, 2);
	g_assert_cmpuint(in[0].port, ==, peer.port);
	assert_addr(&in[0].addr, &peer.addr);
	g_assert_cmpint(host_recv(&dgram, 2), ==, 0);
	close(peer.fd);
	g_assert_cmpint(host_send(&dgram, &query, 1), ==, 1);
	wait_for(EPOLLERR);
	error = error_of(&dgram);
	g_assert_cmpint(error.error, ==, ECONNREFUSED);
	g_assert_cmpuint(error.port, ==, peer.port);
	expect_no_error(&dgram);
	g_assert_cmpint(host_send(&dgram, &query, 1), ==, 1);
	close_dgram(&dgram);
	close(stranger.fd);
}

static void test_connected(void)
{
	set_up(ALL_FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(loopbacks); i++)
		if (has_loopback(loopbacks[i]))
			connected(loopbacks[i]);
	tear_down();
}

/* ---- errors ---- */

/* As host.h has it for the caller. Returns how many errors there were. */
static int send_all(struct host_dgram *dgram, const struct host_datagram *out, int n)
{
	struct host_dgram_error error;
	int n_errors = 0, n_failures = 0;

	for (int i = 0; i < n;) {
		int r = host_send(dgram, out + i, n - i);

		if (r > 0) {
			i += r;
			n_failures = 0;
			continue;
		}
		g_assert_cmpint(n_failures++, <, 10);
		while (host->ops->dgram_error(host, dgram, &error))
			n_errors++;
	}
	return n_errors;
}

/* No datagram to the living one is missing, however the errors of the refusing one come. */
static void alternate(const char *address, int batch, bool drains)
{
	struct peer living = peer_at(address), refusing = nobody_at(address);
	struct host_dgram dgram = open_dgram(living.addr.family);
	struct host_datagram out[HOST_BATCH_MAX];
	struct host_dgram_error error;
	uint32_t number[HOST_BATCH_MAX];
	int n_errors = 0;

	for (uint32_t next = 0; next < 2 * 2000; next += (uint32_t)batch) {
		for (int i = 0; i < batch; i++) {
			number[i] = next + (uint32_t)i;
			out[i] = datagram_to(i % 2 ? &living : &refusing, (uint8_t *)&number[i],
				sizeof(*number));
		}
		n_errors += send_all(&dgram, out, batch);
		for (int i = 1; i < batch; i += 2)
			expect_peer_recv(&living, (uint8_t *)&number[i], sizeof(*number));
		while (drains && host->ops->dgram_error(host, &dgram, &error)) {
			g_assert_cmpint(error.error, ==, ECONNREFUSED);
			g_assert_cmpuint(error.port, ==, refusing.port);
			n_errors++;
		}
	}
	while (host->ops->dgram_error(host, &dgram, &error))
		n_errors++;
	g_assert_cmpint(n_errors, >, 0);
	expect_peer_empty(&living);
	/* Nor one on the way back. */
	out[0] = datagram_to(&refusing, bytes, 1);
	g_assert_cmpint(host_send(&dgram, out, 1), ==, 1);
	peer_send(&living, &dgram, bytes, 3);
	recv_all(&dgram, 1);
	close_dgram(&dgram);
	close(living.fd);
}

static void test_alternate(void)
{
	set_up(ALL_FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(loopbacks); i++) {
		if (!has_loopback(loopbacks[i]))
			continue;
		alternate(loopbacks[i], 2, true);
		alternate(loopbacks[i], HOST_BATCH_MAX, true);
		alternate(loopbacks[i], 40, false);
	}
	tear_down();
}

/* An error between a run's datagrams that go singly does not cost one, nor is one sent twice. */
static void test_runs_and_errors(void)
{
	struct peer living, refusing;
	struct host_dgram dgram;

	set_up(0);
	living = peer_at("127.0.0.1");
	refusing = nobody_at("127.0.0.1");
	dgram = open_dgram(AF_INET);
	for (int i = 0; i < 50; i++) {
		struct host_datagram out[3] = {datagram_to(&refusing, bytes, 250),
			datagram_to(&living, bytes, 6400), datagram_to(&refusing, bytes, 1)};

		out[0].segment = out[1].segment = 100;
		send_all(&dgram, out, 3);
		g_assert_cmpint(expect_run(&living, 100, 6400), ==, 64);
	}
	g_assert_cmpuint(dgram.n_dropped, ==, 0);
	close_dgram(&dgram);
	close(living.fd);
	tear_down();
}

static void refused(const char *address, uint8_t type, uint8_t code)
{
	struct peer nobody = nobody_at(address);
	struct host_dgram dgram = open_dgram(nobody.addr.family);
	struct host_dgram_error error;

	for (size_t len = 0; len < 1000; len += 300) {
		struct host_datagram out = datagram_to(&nobody, bytes + len, len);

		events = 0;
		g_assert_cmpint(host_send(&dgram, &out, 1), ==, 1);
		wait_for(EPOLLERR);
		error = error_of(&dgram);
		g_assert_cmpint(error.error, ==, ECONNREFUSED);
		g_assert_cmpint(error.icmp_family, ==, nobody.addr.family);
		g_assert_cmpint(error.icmp_type, ==, type);
		g_assert_cmpint(error.icmp_code, ==, code);
		g_assert_cmpuint(error.port, ==, nobody.port);
		g_assert_cmpuint(error.mtu, ==, 0);
		assert_addr(&error.addr, &nobody.addr);
		assert_addr(&error.offender, &nobody.addr);
		/* IPv4's quote what 576 bytes have room for, IPv6's 1280. */
		g_assert_cmpuint(error.quote_len, >=, MIN(len, 500));
		g_assert_cmpuint(error.quote_len, <=, len);
		g_assert_cmpmem(error.quote, error.quote_len, bytes + len, error.quote_len);
		expect_no_error(&dgram);
	}
	close_dgram(&dgram);
}

static void test_refused(void)
{
	set_up(ALL_FEATURES);
	refused("127.0.0.1", 3, 3);
	if (has_loopback("::1"))
		refused("::1", 1, 4);
	tear_down();
}

/* A queue without room for another error leaves it pending. */
static void test_error_queue_full(void)
{
	struct peer living, refusing;
	struct host_dgram dgram;
	struct host_dgram_error error;

	set_up(ALL_FEATURES);
	living = peer_at("127.0.0.1");
	refusing = nobody_at("127.0.0.1");
	dgram = open_dgram(AF_INET);
	set_int(dgram.fd, SOL_SOCKET, SO_RCVBUF, 1);
	for (int i = 0; i < 100; i++)
		send_one(&dgram, &refusing, 500);
	while (host->ops->dgram_error(host, &dgram, &error))
		;
	g_assert_cmpint(get_int(dgram.fd, SOL_SOCKET, SO_ERROR), ==, 0);
	send_one(&dgram, &living, 1);
	expect_peer_recv(&living, bytes, 1);
	close_dgram(&dgram);
	close(living.fd);
	tear_down();
}

static void set_mtu(const char *name, int mtu)
{
	cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = request_for(name);

	ifr.ifr_mtu = mtu;
	g_assert_cmpint(ioctl(fd, SIOCSIFMTU, &ifr), ==, 0);
}

static void expect_too_big(struct host_dgram *dgram, uint32_t mtu)
{
	struct host_dgram_error error = error_of(dgram);

	g_assert_cmpint(error.error, ==, EMSGSIZE);
	g_assert_cmpint(error.icmp_family, ==, 0);
	g_assert_cmpint(error.addr.family, ==, 0);
	g_assert_cmpint(error.offender.family, ==, 0);
	g_assert_cmpuint(error.mtu, ==, mtu);
	g_assert_cmpuint(error.quote_len, ==, 0);
}

static void too_big(const char *address, uint32_t mtu)
{
	struct peer peer = peer_at(address);
	struct host_dgram dgram = open_dgram(peer.addr.family);
	size_t fits = mtu - (peer.addr.family == AF_INET ? 28 : 48);
	struct host_datagram out[4];

	for (size_t i = 0; i < 4; i++) {
		out[i] = datagram_to(&peer, bytes, i == 2 ? fits + 1 : fits);
		out[i].dont_fragment = true;
	}
	g_assert_cmpint(host_send(&dgram, out + 2, 1), ==, -EMSGSIZE);
	expect_too_big(&dgram, mtu);
	expect_no_error(&dgram);
	/* Among others: those before it go, it is told once. */
	g_assert_cmpint(host_send(&dgram, out, 4), ==, 2);
	g_assert_cmpint(host_send(&dgram, out + 2, 2), ==, -EMSGSIZE);
	expect_too_big(&dgram, mtu);
	expect_no_error(&dgram);
	out[2].dont_fragment = false;
	g_assert_cmpint(host_send(&dgram, out + 2, 2), ==, 2);
	for (size_t i = 0; i < 4; i++)
		expect_peer_recv(&peer, bytes, out[i].len);
	expect_peer_empty(&peer);
	/* Of several in a row each is told once. */
	out[0] = out[1] = out[2] = out[3] = datagram_to(&peer, bytes, fits + 1);
	for (int i = 0; i < 4; i++)
		out[i].dont_fragment = true;
	for (int i = 0; i < 4; i++) {
		g_assert_cmpint(host_send(&dgram, out + i, 4 - i), ==, -EMSGSIZE);
		expect_too_big(&dgram, mtu);
		expect_no_error(&dgram);
		out[i].dont_fragment = false;
		g_assert_cmpint(host_send(&dgram, out + i, 4 - i), ==, 1);
		expect_peer_recv(&peer, bytes, fits + 1);
	}
	close_dgram(&dgram);
	close(peer.fd);
}

/* A run whose datagrams are larger than the MTU goes singly, and so do later ones. */
static void run_too_big(const char *address, uint32_t mtu)
{
	struct peer peer = peer_at(address);
	struct host_dgram dgram = open_dgram(peer.addr.family);
	struct host_datagram run = datagram_to(&peer, bytes, 10 * (mtu + 100) + 7);

	run.segment = (uint16_t)(mtu + 100);
	run.dont_fragment = true;
	g_assert_cmpint(host_send(&dgram, &run, 1), ==, -EMSGSIZE);
	expect_too_big(&dgram, mtu);
	expect_no_error(&dgram);
	g_assert_true(dgram.no_runs);
	dgram.no_runs = false;
	run.dont_fragment = false;
	g_assert_cmpint(host_send(&dgram, &run, 1), ==, 1);
	g_assert_cmpint(expect_run(&peer, mtu + 100, run.len), ==, 11);
	g_assert_true(dgram.no_runs);
	expect_no_error(&dgram);
	send_run(&dgram, &peer, 100, 250);
	g_assert_cmpint(expect_run(&peer, 100, 250), ==, 3);
	g_assert_cmpuint(dgram.n_dropped, ==, 0);
	close_dgram(&dgram);
	close(peer.fd);
}

static void test_too_big(void *arg)
{
	interface_up("lo");
	set_mtu("lo", 1400);
	set_up(ALL_FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(loopbacks); i++) {
		if (!has_loopback(loopbacks[i]))
			continue;
		too_big(loopbacks[i], 1400);
		run_too_big(loopbacks[i], 1400);
	}
	tear_down();
}

/* Fragments that the send buffer has no room for: a matter of the moment. A run is sent in part. */
static void test_no_room(void *arg)
{
	struct host_datagram out;
	struct host_dgram dgram;
	struct peer peer;

	interface_up("lo");
	set_mtu("lo", 1400);
	set_up(ALL_FEATURES);
	peer = peer_at("127.0.0.1");
	dgram = open_dgram(AF_INET);
	set_int(dgram.fd, SOL_SOCKET, SO_SNDBUF, 1);
	out = datagram_to(&peer, bytes, 60000);
	g_assert_cmpint(host_send(&dgram, &out, 1), ==, -EAGAIN);
	expect_peer_empty(&peer);
	send_one(&dgram, &peer, 10);
	expect_peer_recv(&peer, bytes, 10);
	close_dgram(&dgram);
	close(peer.fd);
	tear_down();
}

static void test_unreachable(void *arg)
{
	struct peer far = {.addr = addr_of("203.0.113.1"), .port = 9}, living;
	struct host_datagram out[3];
	struct host_dgram dgram;

	interface_up("lo");
	set_up(ALL_FEATURES);
	living = peer_at("127.0.0.1");
	dgram = open_dgram(AF_INET);
	out[0] = out[2] = datagram_to(&living, bytes, 5);
	out[1] = datagram_to(&far, bytes, 5);
	g_assert_cmpint(host_send(&dgram, out, 3), ==, 1);
	g_assert_cmpint(host_send(&dgram, out + 1, 2), ==, -ENETUNREACH);
	expect_no_error(&dgram);
	g_assert_cmpint(host_send(&dgram, out + 2, 1), ==, 1);
	expect_peer_recv(&living, bytes, 5);
	expect_peer_recv(&living, bytes, 5);
	far = (struct peer){.addr = addr_of("255.255.255.255"), .port = 9};
	out[1] = datagram_to(&far, bytes, 5);
	g_assert_cmpint(host_send(&dgram, out + 1, 1), ==, -ENETUNREACH); /* not EACCES */
	g_assert_cmpint(get_int(dgram.fd, SOL_SOCKET, SO_BROADCAST), ==, 1);
	close_dgram(&dgram);
	close(living.fd);
	tear_down();
}

/* ---- the network behind the tun ---- */

struct network {
	uint8_t family;
	const char *ours, *remote;
	const char *group;
	size_t header_len; /* IP's */
};

static const struct network networks[] = {
	{AF_INET, TUN4, REMOTE4, "239.1.2.3", 20},
	{AF_INET6, TUN6, REMOTE6, "ff15::1234", 40},
};

static struct frame packet; /* without an Ethernet header */

/* False: there is no IPv6. */
static bool open_tun(uint8_t family)
{
	struct ifreq ifr = request_for(TUN);

	tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	ifr.ifr_flags = IFF_TUN | IFF_NO_PI;
	g_assert_cmpint(ioctl(tun, TUNSETIFF, &ifr), ==, 0);
	add_address4(TUN, TUN4, "255.255.255.0");
	interface_up(TUN);
	return family == AF_INET || add_address6(TUN, TUN6, 64);
}

/* The next packet of the protocol that the host's kernel sends. */
static void expect_packet(const struct network *network, uint8_t protocol)
{
	int64_t until_ns = clock_now_ns() + TIMEOUT_NS;
	struct pollfd pfd = {.fd = tun, .events = POLLIN};
	bool is_it;

	do {
		ssize_t n;

		g_assert_cmpint(clock_now_ns(), <, until_ns);
		g_assert_cmpint(poll(&pfd, 1, TIMEOUT_NS / NS_PER_MS), ==, 1);
		n = read(tun, packet.b, sizeof(packet.b));
		g_assert_cmpint(n, >, 0);
		packet.len = (size_t)n;
		is_it = network->family == AF_INET
			? packet.b[0] >> 4 == 4 && packet.b[9] == protocol
			: packet.b[0] >> 4 == 6 && packet.b[6] == protocol;
		/* Neighbour discovery is none of ours. */
		is_it = is_it && (protocol != IPPROTO_ICMPV6 || packet.b[40] == 128);
	} while (!is_it);
}

/* A router's answer to the packet, of which it quotes `quote_len` bytes. */
static void inject_icmp4(uint8_t type, uint8_t code, uint32_t rest, size_t quote_len)
{
	uint8_t reply[28 + 576] = {0x45, [8] = 64, [9] = IPPROTO_ICMP, [20] = type, [21] = code};
	size_t len = 28 + MIN(quote_len, packet.len);

	put16(reply + 2, (uint32_t)len);
	memcpy(reply + 12, packet.b + 16, 3);
	reply[15] = ROUTER_BYTE;
	memcpy(reply + 16, packet.b + 12, 4);
	put16(reply + 10, ~naive_sum(0, reply, 20));
	put16(reply + 26, rest);
	memcpy(reply + 28, packet.b, len - 28);
	put16(reply + 22, ~naive_sum(0, reply + 20, len - 20));
	g_assert_cmpint(write(tun, reply, len), ==, (ssize_t)len);
}

static void inject_icmp6(uint8_t type, uint8_t code, uint32_t rest, size_t quote_len)
{
	uint8_t reply[48 + 1232] = {0x60, [6] = IPPROTO_ICMPV6, [7] = 64, [40] = type, [41] = code};
	size_t len = 48 + MIN(quote_len, packet.len);
	uint32_t sum;

	put16(reply + 4, (uint32_t)len - 40);
	memcpy(reply + 8, packet.b + 24, 15);
	reply[23] = ROUTER_BYTE;
	memcpy(reply + 24, packet.b + 8, 16);
	put16(reply + 46, rest);
	memcpy(reply + 48, packet.b, len - 48);
	sum = naive_sum((uint32_t)len - 40 + IPPROTO_ICMPV6, reply + 8, 32);
	put16(reply + 42, ~naive_sum(sum, reply + 40, len - 40));
	g_assert_cmpint(write(tun, reply, len), ==, (ssize_t)len);
}

static void inject_icmp(
	const struct network *network, uint8_t type, uint8_t code, uint32_t rest, size_t quote_len)
{
	if (network->family == AF_INET)
		inject_icmp4(type, code, rest, quote_len);
	else
		inject_icmp6(type, code, rest, quote_len);
}

static struct peer remote_of(const struct network *network, uint16_t port)
{
	return (struct peer){.fd = -1, .addr = addr_of(network->remote), .port = port};
}

static void traffic_out(const struct network *network)
{
	static const struct {
		uint8_t ttl, tos;
		bool is_to_group;
		uint8_t expected;
	} rows[] = {{0, 0, false, 64}, {9, 0xb9, false, 9}, {9, 0xb9, false, 9}, {0, 0, true, 1},
		{5, 0x02, true, 5}, {255, 0x02, false, 255}, {1, 3, false, 1}, {0, 0, false, 64},
		{0, 0xfc, true, 1}};
	struct peer remote = remote_of(network, 7), group = remote;
	struct host_dgram dgram = open_dgram(network->family);
	struct host_datagram out[ARRAY_SIZE(rows)];
	bool is4 = network->family == AF_INET;
	const struct ip_mreqn by = {.imr_ifindex = (int)if_nametoindex(TUN)};

	group.addr = addr_of(network->group);
	if (is4)
		g_assert_cmpint(
			setsockopt(dgram.fd, IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof(by)), ==, 0);
	else
		set_int(dgram.fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, by.imr_ifindex);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		out[i] = datagram_to(rows[i].is_to_group ? &group : &remote, bytes, i);
		out[i].ttl = rows[i].ttl;
		out[i].tos = rows[i].tos;
	}
	g_assert_cmpint(host_send(&dgram, out, ARRAY_SIZE(rows)), ==, ARRAY_SIZE(rows));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		expect_packet(network, IPPROTO_UDP);
		g_assert_cmpuint(packet.len, ==, network->header_len + 8 + i);
		g_assert_cmpuint(packet.b[is4 ? 8 : 7], ==, rows[i].expected);
		g_assert_cmphex(is4 ? packet.b[1] : get16(packet.b) >> 4 & 0xff, ==, rows[i].tos);
	}
	close_dgram(&dgram);
}

static void test_traffic_out(void *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(networks); i++) {
		set_up(ALL_FEATURES);
		if (open_tun(networks[i].family))
			traffic_out(&networks[i]);
		tear_down();
	}
}

static void assert_offender(const struct network *network, const struct ip_addr *offender)
{
	struct ip_addr router = addr_of(network->remote);

	router.in6.s6_addr[15] = ROUTER_BYTE;
	assert_addr(offender, &router);
}

struct icmp_row {
	uint8_t family, type, code;
	int error;
};

static const struct icmp_row icmp_rows[] = {
	{AF_INET, 3, 0, ENETUNREACH},
	{AF_INET, 3, 1, EHOSTUNREACH},
	{AF_INET, 3, 3, ECONNREFUSED},
	{AF_INET, 3, 13, EHOSTUNREACH},
	{AF_INET, 11, 0, EHOSTUNREACH},
	{AF_INET6, 1, 0, ENETUNREACH},
	{AF_INET6, 1, 1, EACCES},
	{AF_INET6, 1, 3, EHOSTUNREACH},
	{AF_INET6, 1, 4, ECONNREFUSED},
	{AF_INET6, 3, 0, EHOSTUNREACH},
};

/* The next datagram goes all the same, whether the error was taken or not. */
static void expect_icmp(
	const struct network *network, struct host_dgram *dgram, const struct icmp_row *row)
{
	struct peer remote = remote_of(network, 33434);
	struct host_dgram_error error;

	g_test_message("type %d, code %d", row->type, row->code);
	for (size_t len = 0; len < 1500; len += 600) {
		size_t quote_len = network->header_len + 8 + MIN(len, 500);

		send_one(dgram, &remote, len);
		expect_packet(network, IPPROTO_UDP);
		inject_icmp(network, row->type, row->code, 0, quote_len);
		if (len) {
			send_one(dgram, &remote, len);
			expect_packet(network, IPPROTO_UDP);
		}
		error = error_of(dgram);
		g_assert_cmpint(error.error, ==, row->error);
		g_assert_cmpint(error.icmp_family, ==, network->family);
		g_assert_cmpint(error.icmp_type, ==, row->type);
		g_assert_cmpint(error.icmp_code, ==, row->code);
		g_assert_cmpuint(error.port, ==, remote.port);
		assert_addr(&error.addr, &remote.addr);
		assert_offender(network, &error.offender);
		g_assert_cmpmem(error.quote, error.quote_len, bytes, MIN(len, 500));
		expect_no_error(dgram);
	}
}

static void test_router(void *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(networks); i++) {
		struct host_dgram dgram;

		set_up(ALL_FEATURES);
		if (open_tun(networks[i].family)) {
			dgram = open_dgram(networks[i].family);
			for (size_t j = 0; j < ARRAY_SIZE(icmp_rows); j++)
				if (icmp_rows[j].family == networks[i].family)
					expect_icmp(&networks[i], &dgram, &icmp_rows[j]);
			close_dgram(&dgram);
		}
		tear_down();
	}
}

static bool has_df(const struct network *network)
{
	return network->family == AF_INET && packet.b[6] & 0x40;
}

/* A path whose MTU is learned: what may be cut is cut from then on, the rest is refused. */
static void learn_mtu(const struct network *network, struct host_dgram *dgram)
{
	struct peer remote = remote_of(network, 4433);
	struct host_datagram out = datagram_to(&remote, bytes, 1400);
	bool is4 = network->family == AF_INET;
	struct host_dgram_error error;

	g_assert_cmpint(host_send(dgram, &out, 1), ==, 1);
	expect_packet(network, IPPROTO_UDP);
	g_assert_false(has_df(network));
	out.dont_fragment = true;
	g_assert_cmpint(host_send(dgram, &out, 1), ==, 1);
	expect_packet(network, IPPROTO_UDP);
	g_assert_cmpint(has_df(network), ==, is4);
	inject_icmp(network, is4 ? 3 : 2, is4 ? 4 : 0, 1300, network->header_len + 8 + 100);
	error = error_of(dgram);
	g_assert_cmpint(error.error, ==, EMSGSIZE);
	g_assert_cmpint(error.icmp_family, ==, network->family);
	g_assert_cmpuint(error.mtu, ==, 1300);
	g_assert_cmpuint(error.quote_len, ==, 100);
	assert_addr(&error.addr, &remote.addr);
	assert_offender(network, &error.offender);
	expect_no_error(dgram);
	g_assert_cmpint(host_send(dgram, &out, 1), ==, -EMSGSIZE);
	expect_too_big(dgram, 1300);
	expect_no_error(dgram);
	out.dont_fragment = false;
	g_assert_cmpint(host_send(dgram, &out, 1), ==, 1);
	for (int i = 0; i < 2; i++) {
		expect_packet(network, is4 ? IPPROTO_UDP : IPPROTO_FRAGMENT);
		g_assert_cmpuint(packet.len, <=, 1300);
	}
}

static void test_learn_mtu(void *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(networks); i++) {
		struct host_dgram dgram;

		set_up(ALL_FEATURES);
		if (open_tun(networks[i].family)) {
			dgram = open_dgram(networks[i].family);
			learn_mtu(&networks[i], &dgram);
			close_dgram(&dgram);
		}
		tear_down();
	}
}

/* ---- echo requests ---- */

static struct host_dgram_config ping_config(uint8_t family)
{
	return (struct host_dgram_config){
		.family = family, .protocol = family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6};
}

/* In bytes[]. */
static struct host_datagram echo_request(const struct peer *peer, uint16_t sequence, size_t len)
{
	bytes[0] = peer->addr.family == AF_INET ? 8 : 128;
	bytes[1] = 0;
	put16(bytes + 4, 0x1234);
	put16(bytes + 6, sequence);
	return datagram_to(peer, bytes, len);
}

static void ping(const char *address)
{
	struct peer peer = {.addr = addr_of(address)};
	struct host_dgram_config config = ping_config(peer.addr.family);
	struct host_dgram dgram = open_with(&config);
	bool is4 = peer.addr.family == AF_INET;

	for (size_t len = 8; len <= 60008; len += 30000) {
		struct host_datagram out = echo_request(&peer, (uint16_t)len, len);

		out.tos = 0x48;
		g_assert_cmpint(host_send(&dgram, &out, 1), ==, 1);
		recv_all(&dgram, 1);
		assert_addr(&in[0].addr, &peer.addr);
		g_assert_cmpuint(in[0].port, ==, 0);
		g_assert_cmpuint(in[0].ttl, ==, 64);
		g_assert_cmphex(in[0].tos, ==, 0x48);
		g_assert_cmpuint(in[0].data[0], ==, is4 ? 0 : 129);
		g_assert_cmpuint(get16(in[0].data + 6), ==, len);
		g_assert_cmpmem(in[0].data + 8, in[0].len - 8, bytes + 8, len - 8);
	}
	expect_no_error(&dgram);
	close_dgram(&dgram);
}

static void allow_ping(void)
{
	write_file("/proc/sys/net/ipv4/ping_group_range", "0 0");
}

static void test_ping(void *arg)
{
	struct host_dgram_config config = ping_config(AF_INET);
	struct host_dgram dgram;

	interface_up("lo");
	set_up(ALL_FEATURES);
	g_assert_cmpint(host->ops->dgram_open(host, &config, handle, &dgram), ==, -EACCES);
	allow_ping();
	for (size_t i = 0; i < ARRAY_SIZE(loopbacks); i++)
		if (has_loopback(loopbacks[i]))
			ping(loopbacks[i]);
	tear_down();
}

/* The quote begins with the ICMP header, which says what the request's number was. */
static void ping_router(const struct network *network)
{
	struct host_dgram_config config = ping_config(network->family);
	struct host_dgram dgram = open_with(&config);
	struct peer remote = remote_of(network, 0);
	bool is4 = network->family == AF_INET;
	struct host_datagram out = echo_request(&remote, 0x5678, 1400);
	struct host_dgram_error error;

	out.ttl = 3;
	out.dont_fragment = true;
	g_assert_cmpint(host_send(&dgram, &out, 1), ==, 1);
	expect_packet(network, (uint8_t)config.protocol);
	g_assert_cmpuint(packet.b[is4 ? 8 : 7], ==, 3);
	g_assert_cmpint(has_df(network), ==, is4);
	inject_icmp(network, is4 ? 11 : 3, 0, 0, network->header_len + 8 + 50);
	error = error_of(&dgram);
	g_assert_cmpint(error.error, ==, EHOSTUNREACH);
	g_assert_cmpint(error.icmp_family, ==, network->family);
	g_assert_cmpint(error.icmp_type, ==, is4 ? 11 : 3);
	g_assert_cmpuint(error.port, ==, 0);
	assert_addr(&error.addr, &remote.addr);
	assert_offender(network, &error.offender);
	g_assert_cmpuint(error.quote_len, ==, 58);
	g_assert_cmpuint(error.quote[0], ==, bytes[0]);
	g_assert_cmphex(get16(error.quote + 4), ==, get16(packet.b + network->header_len + 4));
	g_assert_cmphex(get16(error.quote + 6), ==, 0x5678);
	g_assert_cmpmem(error.quote + 8, 50, bytes + 8, 50);
	expect_no_error(&dgram);
	inject_icmp(network, is4 ? 3 : 2, is4 ? 4 : 0, 1300, network->header_len + 8);
	error = error_of(&dgram);
	g_assert_cmpint(error.error, ==, EMSGSIZE);
	g_assert_cmpuint(error.mtu, ==, 1300);
	g_assert_cmpint(host_send(&dgram, &out, 1), ==, -EMSGSIZE);
	expect_too_big(&dgram, 1300);
	close_dgram(&dgram);
}

static void test_ping_router(void *arg)
{
	allow_ping();
	for (size_t i = 0; i < ARRAY_SIZE(networks); i++) {
		set_up(ALL_FEATURES);
		if (open_tun(networks[i].family))
			ping_router(&networks[i]);
		tear_down();
	}
}

int main(int argc, char **argv)
{
	static const struct container_test tests[] = {
		{"/hostdgram/traffic-out", test_traffic_out},
		{"/hostdgram/too-big", test_too_big},
		{"/hostdgram/no-room", test_no_room},
		{"/hostdgram/unreachable", test_unreachable},
		{"/hostdgram/router", test_router},
		{"/hostdgram/learn-mtu", test_learn_mtu},
		{"/hostdgram/ping", test_ping},
		{"/hostdgram/ping-router", test_ping_router},
	};

	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/hostdgram/both-ways", test_both_ways);
	g_test_add_func("/hostdgram/batch", test_batch);
	g_test_add_func("/hostdgram/edges", test_edges);
	g_test_add_func("/hostdgram/short-room", test_short_room);
	g_test_add_func("/hostdgram/runs-out", test_runs_out);
	g_test_add_func("/hostdgram/runs-in", test_runs_in);
	g_test_add_func("/hostdgram/traffic-in", test_traffic_in);
	g_test_add_func("/hostdgram/from", test_from);
	g_test_add_func("/hostdgram/connected", test_connected);
	g_test_add_func("/hostdgram/alternate", test_alternate);
	g_test_add_func("/hostdgram/runs-and-errors", test_runs_and_errors);
	g_test_add_func("/hostdgram/refused", test_refused);
	g_test_add_func("/hostdgram/error-queue-full", test_error_queue_full);
	container_tests_add(tests, ARRAY_SIZE(tests));
	return g_test_run();
}
