/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of this host at published UDP ports, on real sockets: the "namespace" is the test's own,
 * the guest is a socket on its loopback.
 */
#include "dgram-fixture.h"

#include <limits.h>

#include "publish/publish.h"

#define MANY 300

static struct counters counters;
static struct policy policy;
static struct publish *publish;
static struct forward_rule rule;
static struct peer guest;
static uint16_t port;
static int make_error;
static struct splice *tcp_splice; /* nothing asks it for connections */

static void make(struct socket_source *source, uint8_t family, int type, socket_made_fn *done,
	void *owner, uint64_t cookie)
{
	done(owner, cookie,
		make_error ? -make_error : socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

static struct socket_source source = {.make = make};

static bool find(
	struct next_hop *next_hop, const struct ip_addr *addr, bool again, struct eth_addr *ret_mac)
{
	g_assert_not_reached();
}

static int claim(struct next_hop *next_hop, const struct ip_addr *addr)
{
	g_assert_not_reached();
}

static void release(struct next_hop *next_hop, const struct ip_addr *addr)
{
	g_assert_not_reached();
}

static const struct next_hop_ops next_hop_ops = {find, claim, release};
static struct next_hop next_hop = {.ops = &next_hop_ops};

static void set_up_publish(const char *host_addr, const char *guest_addr, uint16_t host_port)
{
	static const struct siphash_key key = {{1, 2}};
	const struct splice_config splice_config = {
		.loop = &loop,
		.counters = &counters,
		.sockets = &source,
		.key = &key,
		.max_flows = 1,
	};
	struct publish_config config = {
		.policy = &policy,
		.host = host,
		.loop = &loop,
		.counters = &counters,
		.next_hop = &next_hop,
		.sockets = &source,
		.key = &key,
		.max_udp_clients = 100,
		.max_fd = INT_MAX,
	};
	struct forward_failure failure;

	counters = (struct counters){0};
	make_error = 0;
	config.splice = tcp_splice = splice_new(&splice_config);
	g_assert_nonnull(tcp_splice);
	publish = publish_new(&config);
	g_assert_nonnull(publish);
	guest = peer_at(guest_addr);
	rule = (struct forward_rule){.id = 1};
	rule.spec = (struct forward_spec){
		.proto = FORWARD_UDP,
		.host_addr = addr_of(host_addr),
		.host_port = host_port,
		.guest_addr = guest.addr,
		.guest_port = guest.port,
		.n_ports = 1,
		.host_fd = -1,
	};
	port = host_port;
	g_assert_cmpint(
		publish_backend(publish)->ops->bind(publish_backend(publish), &rule, &failure), ==,
		0);
}

static void unbind(void)
{
	publish_backend(publish)->ops->unbind(publish_backend(publish), &rule, false);
}

static void tear_down_publish(void)
{
	unbind();
	publish_free(publish);
	splice_free(tcp_splice);
	close(guest.fd);
}

static void dispatch(void *owner, struct handle got, uint32_t got_events)
{
	publish_ready(publish, got, got_events);
}

/* Until one of the ends has something to read. */
static void run_until_readable(int fd)
{
	int64_t until_ns = clock_now_ns() + TIMEOUT_NS;

	while (recv(fd, sink, 0, MSG_PEEK | MSG_DONTWAIT) < 0) {
		g_assert_cmpint(clock_now_ns(), <, until_ns);
		g_assert_cmpint(loop_turn(&loop, 0, dispatch, NULL), >=, 0);
		while (publish_finish(publish))
			;
	}
}

static void client_says(const struct peer *client, const char *to, size_t len)
{
	const struct ip_addr addr = addr_of(to);
	struct sockaddr_in6 sa;
	socklen_t sa_len = sockaddr_for(&addr, port, &sa);

	g_assert_cmpint(sendto(client->fd, bytes, len, 0, (struct sockaddr *)&sa, sa_len), ==, len);
}

/* Returns the sender's port. */
static uint16_t expect_at(const struct peer *peer, size_t len)
{
	struct sockaddr_in6 sa;
	socklen_t sa_len = sizeof(sa);
	ssize_t n;

	run_until_readable(peer->fd);
	n = recvfrom(peer->fd, sink, sizeof(sink), 0, (struct sockaddr *)&sa, &sa_len);
	g_assert_cmpmem(sink, (size_t)n, bytes, len);
	return ntohs(sa.sin6_port);
}

static void guest_says(uint16_t to_port, size_t len)
{
	struct sockaddr_in6 sa;
	socklen_t sa_len = sockaddr_for(&guest.addr, to_port, &sa);

	g_assert_cmpint(sendto(guest.fd, bytes, len, 0, (struct sockaddr *)&sa, sa_len), ==, len);
}

/* A port that was free just now. */
static uint16_t free_port(const char *address)
{
	return nobody_at(address).port;
}

/* All sizes both ways, each client by a socket of its own. */
static void sizes(const char *address)
{
	static const size_t lens[] = {0, 1, 1472, 1473, 0, DATAGRAM_MAX, 512};
	struct peer clients[2];
	uint16_t at_guest[2];

	set_up(ALL_FEATURES);
	set_up_publish(address, address, free_port(address));
	for (int c = 0; c < 2; c++) {
		clients[c] = peer_at(address);
		for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
			client_says(&clients[c], address, lens[i]);
			at_guest[c] = expect_at(&guest, lens[i]);
			guest_says(at_guest[c], lens[i]);
			g_assert_cmpuint(expect_at(&clients[c], lens[i]), ==, port);
		}
	}
	g_assert_cmpuint(at_guest[0], !=, at_guest[1]);
	g_assert_cmpuint(counters.value[COUNTER_PUBLISH_UDP_CLIENTS], ==, 2);
	for (int c = 0; c < 2; c++)
		close(clients[c].fd);
	tear_down_publish();
	tear_down();
}

static void test_sizes4(void)
{
	sizes("127.0.0.1");
}

static void test_sizes6(void)
{
	if (has_loopback("::1"))
		sizes("::1");
	else
		g_test_skip("no IPv6");
}

/* From the address that it was sent to, which is not the one that the kernel would choose. */
static void test_other_address(void)
{
	struct peer client;
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);

	set_up(ALL_FEATURES);
	client = peer_at("127.0.0.1");
	set_up_publish("0.0.0.0", "127.0.0.1", free_port("0.0.0.0"));
	client_says(&client, "127.0.0.2", 9);
	guest_says(expect_at(&guest, 9), 8);
	run_until_readable(client.fd);
	g_assert_cmpint(
		recvfrom(client.fd, sink, sizeof(sink), 0, (struct sockaddr *)&sa, &len), ==, 8);
	g_assert_cmphex(ntohl(sa.sin_addr.s_addr), ==, INADDR_LOOPBACK + 1);
	close(client.fd);
	tear_down_publish();
	tear_down();
}

/* Batches in order, runs where the kernel makes some. */
static void many(unsigned int features)
{
	struct peer client;
	uint16_t at_guest;

	set_up(features);
	client = peer_at("127.0.0.1");
	set_up_publish("127.0.0.1", "127.0.0.1", free_port("127.0.0.1"));
	for (int i = 0; i < MANY; i++)
		client_says(&client, "127.0.0.1", i % 100 ? 300 : (size_t)i / 100);
	for (int i = 0; i < MANY; i++)
		at_guest = expect_at(&guest, i % 100 ? 300 : (size_t)i / 100);
	for (int i = 0; i < MANY; i++)
		guest_says(at_guest, i % 100 ? 300 : (size_t)i / 100);
	for (int i = 0; i < MANY; i++)
		expect_at(&client, i % 100 ? 300 : (size_t)i / 100);
	close(client.fd);
	tear_down_publish();
	tear_down();
}

static void test_many(void)
{
	many(ALL_FEATURES);
}

static void test_many_without_runs(void)
{
	many(0);
}

/* Nobody is there: nothing comes of it but a number, and later there is somebody. */
static void test_refused(void)
{
	struct sockaddr_in6 sa;
	struct peer client;
	socklen_t len;
	int64_t until_ns = clock_now_ns() + TIMEOUT_NS;

	set_up(ALL_FEATURES);
	client = peer_at("127.0.0.1");
	set_up_publish("127.0.0.1", "127.0.0.1", free_port("127.0.0.1"));
	fd_close(&guest.fd);
	client_says(&client, "127.0.0.1", 1);
	while (!counters.value[COUNTER_PUBLISH_UDP_REFUSED]) {
		g_assert_cmpint(clock_now_ns(), <, until_ns);
		g_assert_cmpint(loop_turn(&loop, 0, dispatch, NULL), >=, 0);
		publish_finish(publish);
	}
	expect_peer_empty(&client);
	guest.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	len = sockaddr_for(&guest.addr, guest.port, &sa);
	g_assert_cmpint(bind(guest.fd, (struct sockaddr *)&sa, len), ==, 0);
	client_says(&client, "127.0.0.1", 2);
	guest_says(expect_at(&guest, 2), 3);
	expect_at(&client, 3);
	g_assert_cmpuint(counters.value[COUNTER_PUBLISH_UDP_CLIENTS], ==, 1);
	close(client.fd);
	tear_down_publish();
	tear_down();
}

/* The port is free when unbind() has returned, though there are clients. */
static void test_port_is_free(void)
{
	struct forward_failure failure;
	struct peer client;

	set_up(ALL_FEATURES);
	client = peer_at("127.0.0.1");
	set_up_publish("127.0.0.1", "127.0.0.1", free_port("127.0.0.1"));
	client_says(&client, "127.0.0.1", 1);
	expect_at(&guest, 1);
	unbind();
	g_assert_cmpint(
		publish_backend(publish)->ops->bind(publish_backend(publish), &rule, &failure), ==,
		0);
	client_says(&client, "127.0.0.1", 2);
	guest_says(expect_at(&guest, 2), 3);
	expect_at(&client, 3);
	close(client.fd);
	tear_down_publish();
	tear_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/publish-udp/sizes4", test_sizes4);
	g_test_add_func("/publish-udp/sizes6", test_sizes6);
	g_test_add_func("/publish-udp/other-address", test_other_address);
	g_test_add_func("/publish-udp/many", test_many);
	g_test_add_func("/publish-udp/many-without-runs", test_many_without_runs);
	g_test_add_func("/publish-udp/refused", test_refused);
	g_test_add_func("/publish-udp/port-is-free", test_port_is_free);
	return g_test_run();
}
