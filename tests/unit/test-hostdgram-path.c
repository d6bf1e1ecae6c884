/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real datagram sockets, in a namespace of their own: where the loopback's MTU can be lowered, ping
 * be allowed or not, and a tun device has the test on its other end, as a router.
 */
#include "dgram-fixture.h"

#include <linux/if_tun.h>
#include <poll.h>

#define TUN         "tun0"
#define TUN4        "198.51.100.1"
#define REMOTE4     "198.51.100.9" /* behind the tun */
#define TUN6        "2001:db8::1"
#define REMOTE6     "2001:db8::9"
#define ROUTER_BYTE 77 /* the last of a router's address */

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
	struct host_datagram run = datagram_to(&peer, bytes, 10 * (mtu + 100) + 7), out[2];

	run.segment = (uint16_t)(mtu + 100);
	run.dont_fragment = true;
	g_assert_cmpint(host_send(&dgram, &run, 1), ==, -EMSGSIZE);
	expect_too_big(&dgram, mtu);
	expect_no_error(&dgram);
	g_assert_true(dgram.no_runs);
	/* Behind others: told once, too. */
	dgram.no_runs = false;
	out[0] = datagram_to(&peer, bytes, 1);
	out[0].dont_fragment = true;
	out[1] = run;
	g_assert_cmpint(host_send(&dgram, out, 2), ==, 1);
	expect_peer_recv(&peer, bytes, 1);
	g_assert_cmpint(host_send(&dgram, out + 1, 1), ==, -EMSGSIZE);
	expect_too_big(&dgram, mtu);
	expect_no_error(&dgram);
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

static int tun = -1;
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
		{5, 0x02, true, 5}, {255, 0x02, false, 255}, {1, 3, false, 1}, {2, 3, false, 2},
		{2, 1, false, 2}, {2, 1, true, 2}, {2, 1, false, 2}, {0, 0, false, 64},
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
		fd_close(&tun);
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
		fd_close(&tun);
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
		fd_close(&tun);
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
		fd_close(&tun);
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
	container_tests_add(tests, ARRAY_SIZE(tests));
	return g_test_run();
}
