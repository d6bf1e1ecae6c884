/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of published ports, told to a real kernel behind a real tap: it is found by ARP and
 * neighbour discovery, finds the client by them where that seems to be on its link, and opens the
 * same connection again though it remembers the last one. The client is a socketpair.
 */
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "flow/ingress.h"
#include "gateway/gateway.h"
#include "host/hostsock.h"
#include "link/tap.h"
#include "tcpflow/tcpflow.h"
#include "tests/support/container.h"
#include "tests/support/interfaces.h"

#include <linux/if_tun.h>

#define PORT        8000
#define CLIENT_PORT 45678
#define MTU         1500

static struct tap_link tap;
static struct egress egress;
static struct counters counters;
static struct icmp_limit icmp_limit;
static struct policy policy;
static struct gateway gateway;
static struct loop loop;
static struct hostsock hostsock;
static struct host_ops host_ops;
static struct host host;
static struct ingress ingress;
static struct tcpflow tcpflow;
static struct handle handle; /* of the only client */
static int far_fd = -1;

/* ---- the relay ---- */

static int adopt(struct host *h, int fd, struct handle of)
{
	handle = of;
	far_fd = fd;
	return 0;
}

/* A socketpair knows none. */
static void keepalive(struct host *h, int fd, unsigned int idle_s)
{
}

static void heard(void *arg, const struct ip_addr *addr, const struct eth_addr *mac)
{
	tcpflow_neighbor(&tcpflow, addr, mac);
}

static void open_tap(void)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), len = LINK_HEADER_LEN,
	    on = 1;
	struct ifreq request = request_for("tap0");

	g_assert_cmpint(fd, >=, 0);
	request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	g_assert_cmpint(ioctl(fd, TUNSETIFF, &request), ==, 0);
	g_assert_cmpint(ioctl(fd, TUNSETVNETHDRSZ, &len), ==, 0);
	g_assert_cmpint(ioctl(fd, TUNSETVNETLE, &on), ==, 0);
	tap_link_init(&tap, fd, LINK_HEADER_LEN);
	write_file("/proc/sys/net/ipv6/conf/tap0/accept_dad", "0");
	interface_up("tap0");
	add_address4("tap0", "10.0.2.100", "255.255.255.0");
	add_address6("tap0", "fd00::64", 64);
}

static void set_up(void)
{
	const struct siphash_key key = {{1, 2}};
	const struct tcpflow_config config = {
		.policy = &policy,
		.link = &tap.link,
		.host = &host,
		.loop = &loop,
		.counters = &counters,
		.icmp_limit = &icmp_limit,
		.next_hop = &gateway.next_hop,
		.key = &key,
		.mtu = MTU,
		.max_flows = 64,
		.memory = 16 * 1024 * 1024,
	};

	open_tap();
	policy = (struct policy){
		.gateway6 = addr_of("fd00::2").in6,
		.dns6 = addr_of("fd00::3").in6,
		.ipv6 = true,
		.dns_enabled = true,
	};
	policy.network.s_addr = htonl(0x0a000200);
	policy.netmask.s_addr = htonl(0xffffff00);
	policy.gateway.s_addr = htonl(0x0a000202);
	policy.dns.s_addr = htonl(0x0a000203);
	policy.guest.s_addr = htonl(0x0a000264);
	g_assert_cmpint(loop_init(&loop), ==, 0);
	loop.now_ns = clock_now_ns();
	hostsock_init(&hostsock, &loop, 0);
	host_ops = *hostsock.host.ops;
	host_ops.tcp_adopt = adopt;
	host_ops.tcp_keepalive = keepalive;
	host.ops = &host_ops;
	icmp_limit_init(&icmp_limit, &counters);
	ingress_init(&ingress, &policy, &icmp_limit, true, &counters);
	egress_init(&egress, &policy, &tap.link, MTU, 1, &counters);
	gateway_init(&gateway, &policy, &egress, &loop, &key, &counters);
	gateway.heard = heard;
	g_assert_cmpint(tcpflow_init(&tcpflow, &config), ==, 0);
}

static void tear_down(void)
{
	tcpflow_done(&tcpflow);
	g_assert_cmpuint(gateway.n_claims, ==, 0);
	ingress_done(&ingress);
	hostsock_done(&hostsock);
	loop_done(&loop);
	tap.link.ops->close(&tap.link);
}

static void take_frames(void)
{
	static uint8_t buf[INGRESS_BUFFER_LEN], answer[INGRESS_ANSWER_MAX];
	uint8_t *frame = buf + LINK_HEADER_LEN;
	struct packet packet;
	size_t answer_len;
	ssize_t n;

	while ((n = tap.link.ops->recv(&tap.link, buf)) > 0) {
		enum ingress_result kind = ingress_frame(
			&ingress, buf, (size_t)n, loop.now_ns, &packet, answer, &answer_len);

		if (kind == INGRESS_TCP && tcpflow_input(&tcpflow, frame, &packet) == TCPFLOW_STRAY)
			tcpflow_refuse(&tcpflow, frame, &packet);
		else if (kind == INGRESS_ICMP || kind == INGRESS_OTHER)
			(void)gateway_input(&gateway, frame, &packet, loop.now_ns);
	}
}

static void turn(void)
{
	struct pollfd fds[] = {{.fd = tap.link.fd, .events = POLLIN},
		{.fd = far_fd, .events = POLLIN | POLLRDHUP}};
	struct flow *flow;

	g_assert_cmpint(poll(fds, ARRAY_SIZE(fds), 5), >=, 0);
	loop.now_ns = clock_now_ns();
	timer_heap_expire(&loop.timers, loop.now_ns);
	take_frames();
	flow = flow_table_get(&tcpflow.table, handle.index, handle.generation);
	/* Level-triggered, so that nothing has to be remembered. */
	if (flow && far_fd >= 0)
		tcpflow_host_ready(
			&tcpflow, handle, (uint32_t)(fds[1].revents & ~POLLNVAL) | EPOLLOUT);
	while (tcpflow_finish(&tcpflow))
		;
	flow = flow_table_get(&tcpflow.table, handle.index, handle.generation);
	if (!flow || container_of(flow, struct tcp_flow, flow)->fd < 0)
		far_fd = -1;
}

/* ---- both ends ---- */

static int listen_at(int family)
{
	const struct sockaddr_in6 any = {
		.sin6_family = (sa_family_t)family, .sin6_port = htons(PORT)};
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

	/* There will be some of it in TIME_WAIT. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	/* An IPv4 name lies in the same place. */
	g_assert_cmpint(bind(fd, (const void *)&any,
				family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(any)),
		==, 0);
	g_assert_cmpint(listen(fd, 10), ==, 0);
	return fd;
}

/* The client's end of the socketpair. */
static int arrive(const char *client, const char *server, uint16_t port)
{
	struct tcp_arrival arrival = {
		.near = addr_of(server),
		.near_port = port,
		.far = addr_of(client),
		.far_port = CLIENT_PORT,
	};
	int fds[2];

	g_assert_cmpint(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
	arrival.fd = fds[0];
	loop.now_ns = clock_now_ns();
	g_assert_cmpint(tcpflow_arrive(&tcpflow, &arrival), ==, 0);
	return fds[1];
}

static int64_t patience_until_ns(void)
{
	return clock_now_ns() + INTERFACES_TIMEOUT_NS;
}

static int accept_one(int listener, const char *client)
{
	int64_t until_ns = patience_until_ns();
	struct sockaddr_in6 name;
	socklen_t len = sizeof(name);
	struct sockaddr_in *name4 = (struct sockaddr_in *)(void *)&name;
	const struct ip_addr expected = addr_of(client);
	struct ip_addr got;
	int fd;

	while ((fd = accept4(listener, (void *)&name, &len, SOCK_CLOEXEC | SOCK_NONBLOCK)) < 0) {
		g_assert_cmpint(errno, ==, EAGAIN);
		g_assert_cmpint(clock_now_ns(), <, until_ns);
		turn();
	}
	got = name.sin6_family == AF_INET ? ip_addr_of_v4(name4->sin_addr)
					  : ip_addr_of_v6(&name.sin6_addr);
	g_assert_true(ip_addr_equal(&got, &expected));
	g_assert_cmpuint(ntohs(name.sin6_port), ==, CLIENT_PORT);
	return fd;
}

/* Returns how many bytes came until the end. */
static size_t read_all(int fd)
{
	static char buf[65536];
	int64_t until_ns = patience_until_ns();
	size_t n_all = 0;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) != 0) {
		if (n < 0)
			g_assert_cmpint(errno, ==, EAGAIN);
		g_assert_cmpint(clock_now_ns(), <, until_ns);
		n_all += n > 0 ? (size_t)n : 0;
		turn();
	}
	return n_all;
}

static void write_all(int fd, size_t len)
{
	static const char zeros[65536];
	int64_t until_ns = patience_until_ns();

	while (len) {
		ssize_t n = write(fd, zeros, MIN(len, sizeof(zeros)));

		g_assert_cmpint(clock_now_ns(), <, until_ns);
		len -= n > 0 ? (size_t)n : 0;
		turn();
	}
}

/* ---- tests ---- */

/* The server reads all of it as it comes; and ends first, so that its kernel is in TIME_WAIT. */
static void converse(int client, int server, size_t len)
{
	static char buf[65536];
	int64_t until_ns = patience_until_ns();
	size_t n_sent = 0, n_got = 0;
	ssize_t n;

	while (n_got < len) {
		n = n_sent < len ? write(client, buf, MIN(len - n_sent, sizeof(buf))) : 0;
		n_sent += n > 0 ? (size_t)n : 0;
		turn();
		while ((n = read(server, buf, sizeof(buf))) > 0)
			n_got += (size_t)n;
		g_assert_cmpint(clock_now_ns(), <, until_ns);
	}
	write_all(server, 1000);
	g_assert_cmpint(shutdown(server, SHUT_WR), ==, 0);
	g_assert_cmpuint(read_all(client), ==, 1000);
	close(client);
	g_assert_cmpuint(read_all(server), ==, 0);
	close(server);
	while (tcpflow.table.n_flows)
		turn();
}

static const struct {
	const char *client, *server;
} pairs[] = {
	{"10.0.2.2", "10.0.2.100"},
	{"10.0.2.77", "10.0.2.100"}, /* seems to be on the link */
	{"fd00::2", "fd00::64"},
	{"fd00::77", "fd00::64"},
};

/* The same ports, again and again: after little, and after so much that the container's kernel
 * takes the next SYN for an old one (RFC 9293 3.6.1, 3.5.1). */
static void again(void *arg)
{
	static const size_t lens[] = {1, 3000000, 1, 1};

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		int family = strchr(pairs[i].server, ':') ? AF_INET6 : AF_INET;
		int listener = listen_at(family);

		g_test_message("%s", pairs[i].client);
		for (size_t j = 0; j < ARRAY_SIZE(lens); j++) {
			int client = arrive(pairs[i].client, pairs[i].server, PORT);
			int server = accept_one(listener, pairs[i].client);

			converse(client, server, lens[j]);
		}
		close(listener);
	}
	g_assert_cmpuint(counters.value[COUNTER_NEIGHBORS_ASKED], >=, 2);
	g_assert_cmpuint(counters.value[COUNTER_TCP_GIVEN_UP], ==, 0);
	tear_down();
}

static void refused(void *arg)
{
	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		int client = arrive(pairs[i].client, pairs[i].server, PORT);

		g_assert_cmpuint(read_all(client), ==, 0);
		g_assert_cmpuint(tcpflow.table.n_flows, ==, 0);
		close(client);
	}
	g_assert_cmpuint(counters.value[COUNTER_TCP_GIVEN_UP], ==, 0);
	tear_down();
}

int main(int argc, char **argv)
{
	static const struct container_test tests[] = {
		{"/arrival-kernel/again", again},
		{"/arrival-kernel/refused", refused},
	};

	g_test_init(&argc, &argv, NULL);
	container_tests_add(tests, ARRAY_SIZE(tests));
	return g_test_run();
}
