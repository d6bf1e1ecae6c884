/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published datagram sockets, on the loopback, where a host has many addresses.
 */
#include "dgram-fixture.h"

#include <linux/if_tun.h>

#define OTHER "127.0.0.2" /* not the one that the kernel would answer from */

static struct host_dgram open_published(const char *address, bool dual_stack, uint16_t *ret_port)
{
	const struct host_bind bind = {.addr = addr_of(address), .dual_stack = dual_stack};
	struct host_dgram dgram = open_with(&(struct host_dgram_config){
		.family = bind.addr.family, .protocol = IPPROTO_UDP, .published = &bind});

	*ret_port = port_of(dgram.fd);
	return dgram;
}

static void say(const struct peer *peer, const char *to, uint16_t port, size_t len)
{
	const struct ip_addr addr = addr_of(to);
	struct sockaddr_in6 sa;
	socklen_t sa_len = sockaddr_for(&addr, port, &sa);

	g_assert_cmpint(sendto(peer->fd, bytes, len, 0, (struct sockaddr *)&sa, sa_len), ==, len);
}

/* The next one is from that address of ours. */
static void expect_from(const struct peer *peer, const char *from, uint16_t port, size_t len)
{
	const struct ip_addr addr = addr_of(from);
	struct sockaddr_in6 sa = {0}, expected = {0};
	socklen_t sa_len = sizeof(sa), expected_len = sockaddr_for(&addr, port, &expected);
	ssize_t n = recvfrom(peer->fd, sink, sizeof(sink), 0, (struct sockaddr *)&sa, &sa_len);

	g_assert_cmpmem(sink, (size_t)n, bytes, len);
	g_assert_cmpmem(&sa, sa_len, &expected, expected_len);
}

/* A datagram and an answer, which leaves from where the first one came to. */
static void talk(struct host_dgram *dgram, uint16_t port, const char *client, const char *local)
{
	const struct ip_addr at = addr_of(local);
	struct peer peer = peer_at(client);
	struct host_datagram answers[3];

	say(&peer, local, port, 10);
	recv_all(dgram, 1);
	assert_addr(&in[0].addr, &peer.addr);
	assert_addr(&in[0].local, &at);
	g_assert_cmpuint(in[0].port, ==, peer.port);
	g_assert_cmpuint(in[0].len, ==, 10);
	g_assert_cmpuint(in[0].ttl, ==, 64);
	for (int i = 0; i < 3; i++) {
		answers[i] = datagram_to(&peer, bytes, i == 1 ? 5000 : (size_t)i);
		answers[i].local = at;
		answers[i].ttl = 9;
		answers[i].tos = 0x10;
	}
	answers[1].segment = 1000;
	g_assert_cmpint(host_send(dgram, answers, 3), ==, 3);
	g_assert_cmpint(host_send(dgram, answers, 1), ==, 1);
	expect_from(&peer, local, port, 0);
	for (int i = 0; i < 5; i++) {
		struct sockaddr_in6 sa;
		socklen_t len = sizeof(sa);
		ssize_t n = recvfrom(peer.fd, sink, sizeof(sink), 0, (struct sockaddr *)&sa, &len);

		g_assert_cmpmem(sink, (size_t)n, bytes + i * 1000, 1000);
	}
	expect_from(&peer, local, port, 2);
	expect_from(&peer, local, port, 0);
	g_assert_false(dgram->no_runs);
	if (peer.addr.family == AF_INET) {
		g_assert_cmpint(get_int(dgram->fd, IPPROTO_IP, IP_TTL), ==, 9);
		g_assert_cmpint(get_int(dgram->fd, IPPROTO_IP, IP_TOS), ==, 0x10);
	} else {
		g_assert_cmpint(get_int(dgram->fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS), ==, 9);
	}
	close(peer.fd);
}

/* Who is not there is told of, with the address that it was sent from. */
static void fail(struct host_dgram *dgram, const char *client, const char *local)
{
	const struct ip_addr at = addr_of(local);
	struct peer nobody = nobody_at(client);
	struct host_datagram datagram = datagram_to(&nobody, bytes, 30);
	struct host_dgram_error error;

	datagram.local = at;
	events = 0;
	g_assert_cmpint(host_send(dgram, &datagram, 1), ==, 1);
	wait_for(EPOLLERR);
	error = error_of(dgram);
	g_assert_cmpint(error.error, ==, ECONNREFUSED);
	g_assert_cmpint(error.icmp_family, ==, nobody.addr.family);
	assert_addr(&error.addr, &nobody.addr);
	assert_addr(&error.offender, &nobody.addr);
	assert_addr(&error.local, &at);
	g_assert_cmpuint(error.port, ==, nobody.port);
	g_assert_cmpmem(error.quote, error.quote_len, bytes, 30);
	expect_no_error(dgram);
}

static void test_two_addresses(void)
{
	struct host_dgram dgram;
	uint16_t port;

	set_up(ALL_FEATURES);
	dgram = open_published("0.0.0.0", false, &port);
	g_assert_false(dgram.is_dual);
	talk(&dgram, port, "127.0.0.1", OTHER);
	talk(&dgram, port, "127.0.0.1", "127.0.0.1");
	fail(&dgram, "127.0.0.1", OTHER);
	close_dgram(&dgram);
	dgram = open_published(OTHER, false, &port);
	talk(&dgram, port, "127.0.0.1", OTHER);
	close_dgram(&dgram);
	tear_down();
}

static void test_ip6(void)
{
	struct host_dgram dgram;
	uint16_t port;

	set_up(ALL_FEATURES);
	if (has_loopback("::1")) {
		dgram = open_published("::", false, &port);
		g_assert_false(dgram.is_dual);
		g_assert_cmpint(get_int(dgram.fd, IPPROTO_IPV6, IPV6_V6ONLY), ==, 1);
		talk(&dgram, port, "::1", "::1");
		fail(&dgram, "::1", "::1");
		close_dgram(&dgram);
	}
	tear_down();
}

static void test_dual_stack(void)
{
	struct host_dgram dgram;
	uint16_t port;

	set_up(ALL_FEATURES);
	if (has_loopback("::1")) {
		dgram = open_published("::", true, &port);
		g_assert_true(dgram.is_dual);
		talk(&dgram, port, "127.0.0.1", OTHER);
		talk(&dgram, port, "::1", "::1");
		fail(&dgram, "127.0.0.1", OTHER);
		fail(&dgram, "::1", "::1");
		close_dgram(&dgram);
	}
	tear_down();
}

/* The kernel's own words. */
static void test_cannot_be_bound(void)
{
	struct host_bind where = {.addr = addr_of("127.0.0.1")};
	const struct host_dgram_config config = {
		.family = AF_INET, .protocol = IPPROTO_UDP, .published = &where};
	struct host_dgram dgram, second;

	set_up(ALL_FEATURES);
	dgram = open_published("127.0.0.1", false, &where.port);
	g_assert_cmpint(host->ops->dgram_open(host, &config, handle, &second), ==, -EADDRINUSE);
	where.addr = addr_of("0.0.0.0");
	g_assert_cmpint(host->ops->dgram_open(host, &config, handle, &second), ==, -EADDRINUSE);
	close_dgram(&dgram);
	g_assert_cmpint(host->ops->dgram_open(host, &config, handle, &second), ==, 0);
	close_dgram(&second);
	where.addr = addr_of("192.0.2.1");
	g_assert_cmpint(host->ops->dgram_open(host, &config, handle, &second), ==, -EADDRNOTAVAIL);
	tear_down();
}

/* Somebody else has bound it, and keeps a copy. */
static void test_adopt(void)
{
	const struct host_bind nowhere = {.port = 0};
	const struct host_dgram_config config = {
		.family = AF_INET, .protocol = IPPROTO_UDP, .published = &nowhere};
	struct host_dgram_config other = config;
	struct host_dgram dgram;
	struct peer bound, peer;
	int stream;

	set_up(ALL_FEATURES);
	bound = peer_at("0.0.0.0");
	peer = peer_at("127.0.0.1");
	stream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(
		host->ops->dgram_adopt(host, stream, &config, handle, &dgram), ==, -EPROTOTYPE);
	other.family = AF_INET6;
	g_assert_cmpint(
		host->ops->dgram_adopt(host, bound.fd, &other, handle, &dgram), ==, -EPROTOTYPE);
	g_assert_cmpint(
		host->ops->dgram_adopt(host, dup(bound.fd), &config, handle, &dgram), ==, 0);
	talk(&dgram, bound.port, "127.0.0.1", OTHER);
	close_dgram(&dgram);
	say(&peer, "127.0.0.1", bound.port, 3);
	expect_no_event();
	expect_peer_recv(&bound, bytes, 3);
	close(stream);
	close(bound.fd);
	close(peer.fd);
	tear_down();
}

/* A socket that is made elsewhere, for one peer: others are not heard. */
static void test_adopt_for_peer(void)
{
	struct host_dgram dgram;
	struct peer peer, other;
	struct host_dgram_config config = {.family = AF_INET, .protocol = IPPROTO_UDP};
	struct host_datagram datagram;

	set_up(ALL_FEATURES);
	peer = peer_at("127.0.0.1");
	other = peer_at("127.0.0.1");
	config.peer = &peer.addr;
	config.peer_port = peer.port;
	g_assert_cmpint(host->ops->dgram_adopt(host, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
				&config, handle, &dgram),
		==, 0);
	datagram = (struct host_datagram){.data = bytes, .len = 5000, .segment = 1000};
	g_assert_cmpint(host_send(&dgram, &datagram, 1), ==, 1);
	g_assert_cmpint(expect_run(&peer, 1000, 5000), ==, 5);
	peer_send(&other, &dgram, bytes, 5);
	peer_send(&peer, &dgram, bytes, 6);
	recv_all(&dgram, 1);
	g_assert_cmpuint(in[0].len, ==, 6);
	close_dgram(&dgram);
	close(peer.fd);
	close(other.fd);
	tear_down();
}

/* An address of the namespace's own is reached over its lo, or not at all. */
static void no_lo(void *arg)
{
	const struct ip_addr own = addr_of("10.0.2.100");
	const struct host_dgram_config config = {
		.family = AF_INET, .protocol = IPPROTO_UDP, .peer = &own, .peer_port = 53};
	struct ifreq ifr = request_for("tap0");
	struct host_dgram dgram;
	int tap, fd;

	set_up(ALL_FEATURES);
	tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	ifr.ifr_flags = IFF_TAP | IFF_NO_PI;
	g_assert_cmpint(ioctl(tap, TUNSETIFF, &ifr), ==, 0);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(
		host->ops->dgram_adopt(host, fd, &config, handle, &dgram), ==, -ENETUNREACH);
	add_address4("tap0", "10.0.2.100", "255.255.255.0");
	interface_up("tap0");
	g_assert_cmpint(host->ops->dgram_adopt(host, fd, &config, handle, &dgram), ==, -ENETDOWN);
	interface_up("lo");
	g_assert_cmpint(host->ops->dgram_adopt(host, fd, &config, handle, &dgram), ==, 0);
	close_dgram(&dgram);
	close(tap);
	tear_down();
}

int main(int argc, char **argv)
{
	static const struct container_test in_container[] = {{"/hostdgram-published/no-lo", no_lo}};

	g_test_init(&argc, &argv, NULL);
	container_tests_add(in_container, ARRAY_SIZE(in_container));
	g_test_add_func("/hostdgram-published/two-addresses", test_two_addresses);
	g_test_add_func("/hostdgram-published/ip6", test_ip6);
	g_test_add_func("/hostdgram-published/dual-stack", test_dual_stack);
	g_test_add_func("/hostdgram-published/cannot-be-bound", test_cannot_be_bound);
	g_test_add_func("/hostdgram-published/adopt", test_adopt);
	g_test_add_func("/hostdgram-published/adopt-for-peer", test_adopt_for_peer);
	return g_test_run();
}
