/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What egress, path_error and the gateway send, told to a real kernel behind a real tap: its
 * sockets get the datagrams, singly or merged, and the errors, and it finds our addresses.
 */
#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "flow/egress.h"
#include "flow/path_error.h"
#include "gateway/gateway.h"
#include "link/tap.h"
#include "tests/support/container.h"

/* <linux/if_tun.h> of Linux 6.2 */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define PORT 8000

static struct tap_link tap;
static struct egress egress;
static struct counters counters;
static struct policy policy;
static struct eth_addr near_mac;
static uint8_t data[65507];

static void tell(int family, unsigned long what, void *request)
{
	int sock = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(ioctl(sock, what, request), ==, 0);
	close(sock);
}

static struct ifreq named(void)
{
	return (struct ifreq){.ifr_name = "tap0"};
}

/* An address can be bound when it is no longer tentative, which a work queue of the kernel sees to
 * even where nothing is to be detected. */
static void wait_for_address(const struct in6_addr *addr)
{
	struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_addr = *addr};
	int sock = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = -1;

	for (int i = 0; i < 10000; i++) {
		r = bind(sock, (void *)&name, sizeof(name));
		if (r == 0)
			break;
		g_assert_cmpint(errno, ==, EADDRNOTAVAIL);
		usleep(1000);
	}
	g_assert_cmpint(r, ==, 0);
	close(sock);
}

/* 10.0.2.100/24 and fd00::64/64. */
static void configure(void)
{
	struct ifreq request = named();
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&request.ifr_addr;
	struct in6_ifreq request6 = {.ifr6_prefixlen = 64};

	write_file("/proc/sys/net/ipv6/conf/tap0/accept_dad", "0");
	request.ifr_flags = IFF_UP;
	tell(AF_INET, SIOCSIFFLAGS, &request);
	*v4 = (struct sockaddr_in){.sin_family = AF_INET};
	v4->sin_addr.s_addr = htonl(0x0a000264);
	tell(AF_INET, SIOCSIFADDR, &request);
	v4->sin_addr.s_addr = htonl(0xffffff00);
	tell(AF_INET, SIOCSIFNETMASK, &request);
	request6.ifr6_ifindex = (int)if_nametoindex("tap0");
	g_assert_cmpint(inet_pton(AF_INET6, "fd00::64", &request6.ifr6_addr), ==, 1);
	tell(AF_INET6, SIOCSIFADDR, &request6);
	wait_for_address(&request6.ifr6_addr);
	request = named();
	tell(AF_INET, SIOCGIFHWADDR, &request);
	memcpy(&near_mac, request.ifr_hwaddr.sa_data, sizeof(near_mac));
}

static void set_up(uint32_t mtu)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), len = LINK_HEADER_LEN,
	    on = 1;
	struct ifreq request = named();

	request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	g_assert_cmpint(ioctl(fd, TUNSETIFF, &request), ==, 0);
	g_assert_cmpint(ioctl(fd, TUNSETVNETHDRSZ, &len), ==, 0);
	g_assert_cmpint(ioctl(fd, TUNSETVNETLE, &on), ==, 0);
	tap_link_init(&tap, fd, LINK_HEADER_LEN);
	configure();
	policy.gateway.s_addr = htonl(0x0a000202);
	policy.network.s_addr = htonl(0x0a000200);
	policy.netmask.s_addr = htonl(0xffffff00);
	g_assert_cmpint(inet_pton(AF_INET6, "fd00::2", &policy.gateway6), ==, 1);
	egress_init(&egress, &policy, &tap.link, mtu, 1, &counters);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 31 + i / 256);
}

static struct ip_addr address(bool v6, uint8_t last)
{
	struct ip_addr addr = v6 ? ip_addr_of_v6(&policy.gateway6) : ip_addr_of_v4(policy.gateway);

	addr.in6.s6_addr[15] = last;
	return addr;
}

static struct egress_head head_of(bool v6)
{
	struct egress_head head = {
		.src = address(v6, 2), .dst = address(v6, 100), .dst_mac = near_mac, .ttl = 64};

	head.src_mac = egress_mac(&head.src);
	return head;
}

static int open_socket(bool v6)
{
	const struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
	const struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	const struct timeval timeout = {.tv_sec = 10};
	int sock = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	g_assert_cmpint(bind(sock, v6 ? (const void *)&any6 : (const void *)&any4,
				v6 ? sizeof(any6) : sizeof(any4)),
		==, 0);
	return sock;
}

static void expect(int sock, const struct iovec *iov, int n_iov)
{
	static uint8_t buf[sizeof(data) + 1];

	for (int i = 0; i < n_iov; i++) {
		ssize_t n = recv(sock, buf, sizeof(buf), 0);

		g_assert_cmpint(n, ==, (ssize_t)iov[i].iov_len);
		g_assert_cmpmem(buf, (size_t)n, iov[i].iov_base, iov[i].iov_len);
	}
}

/* Fragments, checksums of ours and the kernel's, for every MTU. */
static void datagrams(void *arg)
{
	static const uint32_t mtus[] = {68, 576, 1280, 1500, 65520};
	const struct iovec iov[] = {
		{data, 0}, {data, 1}, {data + 1, 1472}, {data, 1473}, {data, sizeof(data)}};

	for (size_t i = 0; i < ARRAY_SIZE(mtus); i++) {
		set_up(mtus[i]);
		for (int round = 0; round < 4; round++) {
			bool v6 = round & 1;
			struct egress_head head = head_of(v6);
			int sock = open_socket(v6);

			tap.link.offloads = round & 2 ? LINK_CSUM : 0;
			for (size_t j = 0; j < ARRAY_SIZE(iov); j++) {
				egress_udp(&egress, &head, 7, PORT, &iov[j], 1);
				expect(sock, &iov[j], 1);
			}
			close(sock);
		}
		tap.link.ops->close(&tap.link);
	}
}

static void switch_uso_on(void)
{
	if (ioctl(tap.link.fd, TUNSETOFFLOAD,
		    (unsigned long)(TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6)))
		_exit(EXIT_SKIP);
	tap.link.offloads = LINK_CSUM | LINK_USO;
}

static void runs(void *arg)
{
	struct iovec iov[30];

	set_up(1500);
	switch_uso_on();
	for (size_t i = 0; i < ARRAY_SIZE(iov); i++)
		iov[i] = (struct iovec){data + i * 1400, i == 29 ? 3 : 1400};
	for (int v6 = 0; v6 < 2; v6++) {
		struct egress_head head = head_of(v6);
		int sock = open_socket(v6);

		egress_udp(&egress, &head, 7, PORT, iov, ARRAY_SIZE(iov));
		g_assert_cmpuint(counters.value[COUNTER_FRAMES_OUT], ==, 1 + v6);
		expect(sock, iov, ARRAY_SIZE(iov));
		close(sock);
	}
	tap.link.ops->close(&tap.link);
}

static void runs_stay_together(void *arg)
{
	static uint8_t buf[65536];
	struct iovec iov[30], whole = {data, 29 * 1400 + 3}, to = {buf, sizeof(buf)};
	union {
		char b[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	int on = 1, size;

	set_up(1500);
	switch_uso_on();
	for (size_t i = 0; i < ARRAY_SIZE(iov); i++)
		iov[i] = (struct iovec){data + i * 1400, i == 29 ? 3 : 1400};
	for (int v6 = 0; v6 < 2; v6++) {
		struct egress_head head = head_of(v6);
		struct msghdr msg = {.msg_iov = &to,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control)};
		int sock = open_socket(v6);

		g_assert_cmpint(setsockopt(sock, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)), ==, 0);
		egress_udp(&egress, &head, 7, PORT, iov, ARRAY_SIZE(iov));
		g_assert_cmpint(recvmsg(sock, &msg, 0), ==, (ssize_t)whole.iov_len);
		g_assert_cmpmem(buf, whole.iov_len, data, whole.iov_len);
		g_assert_nonnull(CMSG_FIRSTHDR(&msg));
		memcpy(&size, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(size));
		g_assert_cmpint(size, ==, 1400);
		close(sock);
	}
	tap.link.ops->close(&tap.link);
}

/* ---- errors ---- */

static int open_connected(bool v6)
{
	struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
	struct sockaddr_in to4 = {.sin_family = AF_INET, .sin_port = htons(9)};
	int sock = open_socket(v6), on = 1;

	to6.sin6_addr = policy.gateway6;
	to4.sin_addr = policy.gateway;
	g_assert_cmpint(
		connect(sock, v6 ? (void *)&to6 : (void *)&to4, v6 ? sizeof(to6) : sizeof(to4)), ==,
		0);
	setsockopt(sock, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVERR : IP_RECVERR, &on,
		sizeof(on));
	return sock;
}

static int error_of(int sock)
{
	socklen_t len = sizeof(int);
	int error;

	g_assert_cmpint(getsockopt(sock, SOL_SOCKET, SO_ERROR, &error, &len), ==, 0);
	return error;
}

static int path_mtu(int sock, bool v6)
{
	socklen_t len = sizeof(int);
	int mtu;

	g_assert_cmpint(getsockopt(sock, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU : IP_MTU,
				&mtu, &len),
		==, 0);
	return mtu;
}

/* Each becomes, at the socket that sent the datagram, what it was on the host. Linux makes
 * EHOSTUNREACH of IPv4's prohibited. */
static void errors(void *arg)
{
	static const struct {
		int error, expected4, expected6;
		uint32_t mtu;
	} rows[] = {
		{ECONNREFUSED, ECONNREFUSED, ECONNREFUSED, 0},
		{EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH, 0},
		{ENETUNREACH, ENETUNREACH, ENETUNREACH, 0},
		{EPERM, EHOSTUNREACH, EACCES, 0},
		{EMSGSIZE, EMSGSIZE, EMSGSIZE, 1400},
	};
	struct icmp_limit limit;

	set_up(1500);
	icmp_limit_init(&limit, &counters);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
		bool v6 = i & 1;
		struct path_error_about about = {.near_mac = near_mac,
			.near = address(v6, 100),
			.far = address(v6, 2),
			.protocol = IPPROTO_UDP,
			.header = {PORT >> 8, PORT & 255, 0, 9, 0, 28}};
		struct host_dgram_error error = {
			.error = rows[i / 2].error, .mtu = rows[i / 2].mtu, .quote_len = 20};
		int sock = open_connected(v6);

		g_assert_true(path_error_send(&egress, &limit, &about, &error, 0));
		g_assert_cmpint(
			error_of(sock), ==, v6 ? rows[i / 2].expected6 : rows[i / 2].expected4);
		if (error.mtu)
			g_assert_cmpint(path_mtu(sock, v6), ==, (int)error.mtu);
		close(sock);
	}
	tap.link.ops->close(&tap.link);
}

/* ---- the gateway ---- */

static struct loop loop;

static void init_gateway(struct gateway *gateway)
{
	const struct siphash_key key = {{1, 2}};

	set_up(1500);
	policy.dns.s_addr = htonl(0x0a000203);
	policy.dns6 = address(true, 3).in6;
	policy.dns_enabled = true;
	gateway_init(gateway, &policy, &egress, &loop, &key, &counters);
}

/* Gives the gateway what the container sends, until it sends a packet of `protocol` that is not for
 * the gateway. */
static void pump_until(struct gateway *gateway, uint8_t protocol)
{
	static uint8_t buf[LINK_BUFFER_LEN];
	struct pollfd p = {.fd = tap.link.fd, .events = POLLIN};
	struct packet packet;
	ssize_t n;

	do {
		g_assert_cmpint(poll(&p, 1, 10000), ==, 1);
		n = tap.link.ops->recv(&tap.link, buf);
		g_assert_cmpint(n, >, 0);
		g_assert_cmpint(
			packet_parse(buf + LINK_HEADER_LEN, (size_t)n, &packet), ==, PACKET_OK);
		if (packet.protocol == 0 || packet.protocol == IPPROTO_ICMPV6 ||
			packet.protocol == IPPROTO_ICMP)
			(void)gateway_input(gateway, buf + LINK_HEADER_LEN, &packet, 1);
	} while (packet.protocol != protocol);
}

/* A datagram leaves when its next hop is known. */
static void resolution(void *arg)
{
	static const char *ours[] = {
		"10.0.2.2", "10.0.2.3", "fd00::2", "fd00::3", "fe80::2", "fe80::3"};
	struct ip_addr near = {0};
	struct gateway gateway;

	init_gateway(&gateway);
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
		struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
		struct sockaddr_in to4 = {.sin_family = AF_INET, .sin_port = htons(9)};
		bool v6 = strchr(ours[i], ':');
		int sock = open_socket(v6);

		to6.sin6_scope_id = if_nametoindex("tap0");
		g_assert_cmpint(inet_pton(v6 ? AF_INET6 : AF_INET, ours[i],
					v6 ? (void *)&to6.sin6_addr : (void *)&to4.sin_addr),
			==, 1);
		g_assert_cmpint(sendto(sock, "x", 1, 0, v6 ? (void *)&to6 : (void *)&to4,
					v6 ? sizeof(to6) : sizeof(to4)),
			==, 1);
		pump_until(&gateway, IPPROTO_UDP);
		close(sock);
	}
	for (int v6 = 0; v6 < 2; v6++) {
		near = address(v6, 100);
		g_assert_nonnull(neighbor_find(&gateway.neighbors, &near));
		g_assert_cmpmem(&neighbor_find(&gateway.neighbors, &near)->mac, 6, &near_mac, 6);
	}
	tap.link.ops->close(&tap.link);
}

/* Ping sockets; the datagram behind says that the request was seen. */
static void echo(void *arg)
{
	static uint8_t request[1400], reply[1500];
	struct gateway gateway;

	init_gateway(&gateway);
	write_file("/proc/sys/net/ipv4/ping_group_range", "0 0");
	for (int v6 = 0; v6 < 2; v6++) {
		int sock = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC,
			v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
		int udp = open_connected(v6);
		struct sockaddr_storage to;
		socklen_t len = sizeof(to);
		struct timeval timeout = {.tv_sec = 10};

		g_assert_cmpint(sock, >=, 0);
		setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
		g_assert_cmpint(getpeername(udp, (void *)&to, &len), ==, 0);
		memcpy(request + 8, data, sizeof(request) - 8);
		request[0] = v6 ? 128 : 8;
		request[7] = 3;
		g_assert_cmpint(sendto(sock, request, sizeof(request), 0, (void *)&to, len), ==,
			sizeof(request));
		g_assert_cmpint(send(udp, "x", 1, 0), ==, 1);
		pump_until(&gateway, IPPROTO_UDP);
		g_assert_cmpint(recv(sock, reply, sizeof(reply), 0), ==, sizeof(request));
		g_assert_cmpuint(reply[0], ==, v6 ? 129 : 0);
		g_assert_cmpmem(reply + 6, sizeof(request) - 6, request + 6, sizeof(request) - 6);
		close(udp);
		close(sock);
	}
	tap.link.ops->close(&tap.link);
}

int main(int argc, char **argv)
{
	static const struct container_test tests[] = {
		{"/egress-kernel/datagrams", datagrams},
		{"/egress-kernel/runs", runs},
		{"/egress-kernel/runs-stay-together", runs_stay_together},
		{"/egress-kernel/errors", errors},
		{"/egress-kernel/resolution", resolution},
		{"/egress-kernel/echo", echo},
	};

	g_test_init(&argc, &argv, NULL);
	container_tests_add(tests, ARRAY_SIZE(tests));
	return g_test_run();
}
