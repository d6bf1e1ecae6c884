/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real datagram sockets, on the loopback.
 */
#include "dgram-fixture.h"

#include <netinet/udp.h>
#include <sys/resource.h>

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

/* An IPv6 socket is no way to IPv4. */
static void test_mapped(void)
{
	struct host_datagram out;
	struct host_dgram dgram;
	struct peer peer;

	if (!has_loopback("::1")) {
		g_test_skip("the machine is without IPv6");
		return;
	}
	set_up(ALL_FEATURES);
	peer = peer_at("127.0.0.1");
	dgram = open_dgram(AF_INET6);
	out = datagram_to(&peer, bytes, 5);
	out.addr.family = AF_INET6;
	g_assert_cmpint(host_send(&dgram, &out, 1), ==, -ENETUNREACH);
	expect_peer_empty(&peer);
	close_dgram(&dgram);
	close(peer.fd);
	tear_down();
}

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
	send_one(&dgram, &living, 1);
	expect_peer_recv(&living, bytes, 1);
	for (int i = 0; i < 100; i++) /* the bound is of both queues together */
		peer_send(&living, &dgram, bytes, 500);
	send_one(&dgram, &refusing, 500);
	wait_for(EPOLLERR);
	g_assert_false(host->ops->dgram_error(host, &dgram, &error));
	expect_no_error(&dgram);
	for (int i = 0; i < 100; i++)
		send_one(&dgram, &refusing, 500);
	send_one(&dgram, &living, 1);
	expect_peer_recv(&living, bytes, 1);
	while (host->ops->dgram_error(host, &dgram, &error))
		;
	g_assert_cmpint(host_recv(&dgram, 1), ==, 1);
	close_dgram(&dgram);
	close(living.fd);
	tear_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/hostdgram/both-ways", test_both_ways);
	g_test_add_func("/hostdgram/batch", test_batch);
	g_test_add_func("/hostdgram/edges", test_edges);
	g_test_add_func("/hostdgram/short-room", test_short_room);
	g_test_add_func("/hostdgram/runs-out", test_runs_out);
	g_test_add_func("/hostdgram/runs-in", test_runs_in);
	g_test_add_func("/hostdgram/traffic-in", test_traffic_in);
	g_test_add_func("/hostdgram/mapped", test_mapped);
	g_test_add_func("/hostdgram/from", test_from);
	g_test_add_func("/hostdgram/connected", test_connected);
	g_test_add_func("/hostdgram/alternate", test_alternate);
	g_test_add_func("/hostdgram/runs-and-errors", test_runs_and_errors);
	g_test_add_func("/hostdgram/refused", test_refused);
	g_test_add_func("/hostdgram/error-queue-full", test_error_queue_full);
	return g_test_run();
}
