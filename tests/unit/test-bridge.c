/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libslirp behind a fake link, a fake epoll and a simulated clock. Its sockets are real ones on the
 * loopback of whoever runs the test; readiness is what the test says.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"
#include "slirp/bridge.h"
#include "slirp/hostfwd.h"
#include "tests/support/fake_host.h"
#include "tests/support/fake_link.h"

#define START_NS (1000 * NS_PER_SEC)
#define GATEWAY  0x0a000202
#define GUEST    0x0a000264
#define TCP_SYN  0x02
#define TCP_ACK  0x10
#define ETH_LEN  14
#define IP_LEN   20
#define TCP_LEN  20

struct fixture {
	struct fake_link link;
	struct fake_host host;
	struct loop loop;
	struct counters counters;
	struct policy policy;
	struct icmp_limit icmp_limit;
	struct bridge bridge;
	struct hostfwd hostfwd;
};

static void set_up(struct fixture *f, gconstpointer limit)
{
	const struct bridge_config config = {
		.policy = &f->policy,
		.icmp_limit = &f->icmp_limit,
		.dhcp_start.s_addr = htonl(0x0a00020f),
		.mtu = 1500,
		.dns_enabled = true,
		.descriptor_limit = limit ? GPOINTER_TO_UINT(limit) : 1024,
	};

	*f = (struct fixture){
		.loop.now_ns = START_NS,
		.policy =
			{
				.network.s_addr = htonl(0x0a000200),
				.netmask.s_addr = htonl(0xffffff00),
				.gateway.s_addr = htonl(GATEWAY),
				.dns.s_addr = htonl(0x0a000203),
				.guest.s_addr = htonl(GUEST),
				.gateway6.s6_addr = {0xfd, [15] = 2},
				.dns6.s6_addr = {0xfd, [15] = 3},
				.ipv6 = true,
				.host_loopback = true,
			},
	};
	icmp_limit_init(&f->icmp_limit, &f->counters);
	fake_link_init(&f->link);
	fake_host_init(&f->host);
	g_assert_cmpint(bridge_init(&f->bridge, &config, &f->link.link, &f->host.host, &f->loop,
				&f->counters),
		==, 0);
	hostfwd_init(&f->hostfwd, &f->bridge, f->policy.guest);
	bridge_finish(&f->bridge);
}

static void tear_down(struct fixture *f, gconstpointer unused)
{
	bridge_done(&f->bridge);
	g_assert_null(f->loop.timers.root);
	f->link.link.ops->close(&f->link.link);
}

/* ---- frames ---- */

static const uint8_t guest_mac[6] = {2, 0, 0, 0, 0, 1}, router_mac[6] = {0x52, 0x55, 10, 0, 2, 2};

static uint16_t checksum(const uint8_t *bytes, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++)
		sum += (uint32_t)bytes[i] << (i % 2 ? 0 : 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put16(uint8_t *at, uint16_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

static void put32(uint8_t *at, uint32_t v)
{
	put16(at, (uint16_t)(v >> 16));
	put16(at + 2, (uint16_t)v);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void eth_header(uint8_t *frame, uint16_t type)
{
	memcpy(frame, router_mac, 6);
	memcpy(frame + 6, guest_mac, 6);
	put16(frame + 12, type);
}

/* An IPv4/TCP frame from the guest, correct in everything. Returns its length. */
static size_t tcp_frame(
	uint8_t *frame, uint32_t dst, uint16_t port, uint8_t flags, uint32_t seq, uint32_t ack)
{
	uint8_t *ip = frame + ETH_LEN, *tcp = ip + IP_LEN;

	memset(frame, 0, ETH_LEN + IP_LEN + TCP_LEN);
	eth_header(frame, 0x0800);
	ip[0] = 0x45;
	put16(ip + 2, IP_LEN + TCP_LEN);
	ip[8] = 64;
	ip[9] = IPPROTO_TCP;
	put32(ip + 12, GUEST);
	put32(ip + 16, dst);
	put16(ip + 10, checksum(ip, IP_LEN, 0));
	put16(tcp, 4321);
	put16(tcp + 2, port);
	put32(tcp + 4, seq);
	put32(tcp + 8, ack);
	tcp[12] = 5 << 4;
	tcp[13] = flags;
	put16(tcp + 14, 65535);
	put16(tcp + 16, checksum(ip + 12, 8 + TCP_LEN, IPPROTO_TCP + TCP_LEN));
	return ETH_LEN + IP_LEN + TCP_LEN;
}

static void input(struct fixture *f, const uint8_t *frame, size_t len)
{
	uint8_t copy[LINK_FRAME_MAX];
	struct packet packet;

	memcpy(copy, frame, len);
	g_assert_cmpint(packet_parse(copy, len, &packet), ==, PACKET_OK);
	bridge_input(&f->bridge, copy, &packet);
	bridge_finish(&f->bridge);
}

static void arp_input(struct fixture *f)
{
	uint8_t arp[42] = {[14] = 0, 1, 8, 0, 6, 4, 0, 1};

	eth_header(arp, 0x0806);
	memcpy(arp + 22, guest_mac, 6);
	put32(arp + 28, GUEST);
	put32(arp + 38, GATEWAY);
	input(f, arp, sizeof(arp));
}

/* So that libslirp knows where the guest is. */
static void introduce_guest(struct fixture *f)
{
	GByteArray *reply;

	arp_input(f);
	reply = fake_link_take(&f->link);
	g_assert_nonnull(reply);
	g_assert_cmpuint(reply->data[21], ==, 2); /* a reply */
	g_assert_cmpmem(reply->data + 22, 6, router_mac, 6);
	g_byte_array_unref(reply);
}

/* ---- tests ---- */

static void test_arp(struct fixture *f, gconstpointer unused)
{
	introduce_guest(f);
	g_assert_cmpuint(f->counters.value[COUNTER_FRAMES_OUT], ==, 1);
	g_assert_cmpint(f->bridge.deadline_ns, ==, CLOCK_NEVER);
}

static void test_down_link_drops(struct fixture *f, gconstpointer unused)
{
	introduce_guest(f);
	f->link.is_down = true;
	arp_input(f);
	g_assert_cmpuint(f->counters.value[COUNTER_FRAMES_OUT_DROPPED], ==, 1);
	f->bridge.link = NULL;
	arp_input(f);
	g_assert_cmpuint(f->counters.value[COUNTER_FRAMES_OUT_DROPPED], ==, 2);
}

/* What is for the TFTP server: refused with ICMP port unreachable, no socket made. */
static void test_answer(struct fixture *f, gconstpointer unused)
{
	uint8_t frame[64] = {0}, *ip = frame + ETH_LEN, *udp = ip + IP_LEN;
	GByteArray *answer;

	introduce_guest(f);
	tcp_frame(frame, GATEWAY, 69, 0, 0, 0);
	ip[9] = IPPROTO_UDP;
	put16(ip + 10, 0);
	put16(ip + 10, checksum(ip, IP_LEN, 0));
	put16(udp + 4, TCP_LEN);
	input(f, frame, ETH_LEN + IP_LEN + TCP_LEN);
	g_assert_cmpuint(f->bridge.interest.n_open, ==, 0);
	g_assert_cmpuint(f->counters.value[COUNTER_POLICY_REFUSED], ==, 1);
	answer = fake_link_take(&f->link);
	g_assert_nonnull(answer);
	g_assert_cmpuint(answer->data[ETH_LEN + 9], ==, IPPROTO_ICMP);
	g_assert_cmpuint(answer->data[ETH_LEN + IP_LEN], ==, 3);
	g_assert_cmpuint(answer->data[ETH_LEN + IP_LEN + 1], ==, 3);
	g_byte_array_unref(answer);
}

static int listener_on_loopback(uint16_t *ret_port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
	g_assert_cmpint(listen(fd, 8), ==, 0);
	g_assert_cmpint(getsockname(fd, (struct sockaddr *)&addr, &len), ==, 0);
	*ret_port = ntohs(addr.sin_port);
	return fd;
}

static int only_watched_fd(const struct fixture *f)
{
	int found = -1;

	for (int fd = 0; fd < FAKE_HOST_FDS; fd++)
		if (f->host.fd[fd].is_watched) {
			g_assert_cmpint(found, ==, -1);
			found = fd;
		}
	return found;
}

/* SYN, host's connect, SYN-ACK, ACK, and a byte from the host: each step only by events. */
static void test_connection(struct fixture *f, gconstpointer unused)
{
	uint16_t port;
	int listener = listener_on_loopback(&port), server, fd;
	uint8_t frame[64];
	GByteArray *reply;
	uint32_t iss;
	size_t len;

	introduce_guest(f);
	len = tcp_frame(frame, GATEWAY, port, TCP_SYN, 0xfffffff0, 0);
	input(f, frame, len);
	g_assert_null(fake_link_take(&f->link));
	fd = only_watched_fd(f);
	g_assert_cmpint(fd, >=, 0);
	g_assert_true(f->host.fd[fd].events & EPOLLOUT);
	g_assert_cmpint(f->bridge.deadline_ns, <=, f->loop.now_ns + NS_PER_SEC);

	server = accept(listener, NULL, NULL);
	g_assert_cmpint(server, >=, 0);
	bridge_ready(&f->bridge, f->host.fd[fd].handle, EPOLLOUT);
	bridge_finish(&f->bridge);
	reply = fake_link_take(&f->link);
	g_assert_nonnull(reply);
	g_assert_cmpuint(
		reply->data[ETH_LEN + IP_LEN + 13] & (TCP_SYN | TCP_ACK), ==, TCP_SYN | TCP_ACK);
	g_assert_cmpuint(get32(reply->data + ETH_LEN + IP_LEN + 8), ==, 0xfffffff1);
	iss = get32(reply->data + ETH_LEN + IP_LEN + 4);
	g_byte_array_unref(reply);

	len = tcp_frame(frame, GATEWAY, port, TCP_ACK, 0xfffffff1, iss + 1);
	input(f, frame, len);
	g_assert_true(f->host.fd[fd].events & EPOLLIN);
	g_assert_false(f->host.fd[fd].events & EPOLLOUT);

	g_assert_cmpint(send(server, "x", 1, 0), ==, 1);
	bridge_ready(&f->bridge, f->host.fd[fd].handle, EPOLLIN);
	bridge_finish(&f->bridge);
	reply = fake_link_take(&f->link);
	g_assert_nonnull(reply);
	g_assert_cmpuint(reply->data[reply->len - 1], ==, 'x');
	g_byte_array_unref(reply);

	/* Not acknowledged: sent again when the simulated time has passed, and not before. */
	f->loop.now_ns += NS_PER_MS;
	bridge_finish(&f->bridge);
	g_assert_null(fake_link_take(&f->link));
	for (int i = 0; i < 20 && g_queue_is_empty(&f->link.sent); i++) {
		f->loop.now_ns = MAX(f->loop.now_ns + 1, f->bridge.deadline_ns);
		bridge_finish(&f->bridge);
	}
	reply = fake_link_take(&f->link);
	g_assert_nonnull(reply);
	g_assert_cmpuint(reply->data[reply->len - 1], ==, 'x');
	g_assert_cmpint(f->loop.now_ns, <, START_NS + 20 * NS_PER_SEC);
	g_byte_array_unref(reply);
	close(server);
	close(listener);
}

static bool is_router_advertisement(const GByteArray *frame)
{
	return frame && frame->len > ETH_LEN + 40 && frame->data[12] == 0x86 &&
		frame->data[ETH_LEN + 6] == IPPROTO_ICMPV6 && frame->data[ETH_LEN + 40] == 134;
}

/* RFC 4861 6.2.4: unasked when the link comes up, here by word of main() and by the first frame. */
static void test_router_advertisement(struct fixture *f, gconstpointer unused)
{
	static const uint8_t report[ETH_LEN + 40 + 8] = {
		0x33,
		0x33,
		0,
		0,
		0,
		0x16,
		2,
		0,
		0,
		0,
		0,
		1,
		0x86,
		0xdd, /* Ethernet */
		0x60,
		0,
		0,
		0,
		0,
		8,
		IPPROTO_ICMPV6,
		1, /* IPv6, hop limit 1 */
		[22] = 0xfe,
		0x80,
		[37] = 1,
		[38] = 0xff,
		0x02,
		[53] = 0x16, /* fe80::1 > ff02::16 */
		[54] = 143,
	};
	GByteArray *frame;

	g_assert_null(fake_link_take(&f->link));
	bridge_link_up(&f->bridge);
	timer_heap_expire(&f->loop.timers, f->loop.now_ns);
	bridge_finish(&f->bridge);
	frame = fake_link_take(&f->link);
	g_assert_true(is_router_advertisement(frame));
	g_byte_array_unref(frame);

	input(f, report, sizeof(report));
	timer_heap_expire(&f->loop.timers, f->loop.now_ns);
	bridge_finish(&f->bridge);
	frame = fake_link_take(&f->link);
	g_assert_true(is_router_advertisement(frame));
	g_byte_array_unref(frame);
	input(f, report, sizeof(report));
	timer_heap_expire(&f->loop.timers, f->loop.now_ns);
	g_assert_null(fake_link_take(&f->link));
	g_assert_cmpint(timer_heap_next(&f->loop.timers), >, f->loop.now_ns + NS_PER_SEC);
}

static struct forward_rule rule_on(uint16_t port)
{
	return (struct forward_rule){
		.id = 1,
		.spec =
			{
				.proto = FORWARD_TCP,
				.host_addr = ip_addr_of_v4((struct in_addr){htonl(0x7f000001)}),
				.host_port = port,
				.n_ports = 1,
				.guest_addr = ip_addr_of_v4((struct in_addr){htonl(GUEST)}),
				.guest_port = 80,
			},
	};
}

static uint16_t free_port(void)
{
	uint16_t port;

	close(listener_on_loopback(&port));
	return port;
}

static void test_forward_backlog(struct fixture *f, gconstpointer unused)
{
	const struct forward_backend_ops *ops = f->hostfwd.backend.ops;
	struct forward_rule rule = rule_on(free_port());
	struct forward_failure failure;
	int fd;

	for (fd = 0; fd < FAKE_HOST_FDS; fd++)
		f->host.fd[fd].is_listening = true;
	g_assert_cmpint(ops->bind(&f->hostfwd.backend, &rule, &failure), ==, 0);
	bridge_finish(&f->bridge);
	fd = only_watched_fd(f);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(f->host.fd[fd].backlog, ==, SOMAXCONN);
	g_assert_cmpint(ops->bind(&f->hostfwd.backend, &rule, &failure), ==, -EADDRINUSE);
	ops->unbind(&f->hostfwd.backend, &rule, false);
	fake_host_close(&f->host, fd);
	bridge_finish(&f->bridge);
	g_assert_cmpint(only_watched_fd(f), ==, -1);
	g_assert_cmpint(ops->bind(&f->hostfwd.backend, &rule, &failure), ==, 0);
	ops->unbind(&f->hostfwd.backend, &rule, false);
}

static void connect_to(uint16_t port, int *ret_client)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(0x7f000001),
		.sin_port = htons(port)};

	*ret_client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	g_assert_cmpint(connect(*ret_client, (struct sockaddr *)&addr, sizeof(addr)), ==, -1);
	g_assert_cmpint(errno, ==, EINPROGRESS);
}

/* What waits for the guest's hardware address goes when that is known, without another event. */
static void test_forward_before_arp(struct fixture *f, gconstpointer unused)
{
	const struct forward_backend_ops *ops = f->hostfwd.backend.ops;
	struct forward_rule rule = rule_on(free_port());
	struct forward_failure failure;
	uint8_t reply[42] = {[14] = 0, 1, 8, 0, 6, 4, 0, 2};
	GByteArray *sent;
	int fd, client;

	g_assert_cmpint(ops->bind(&f->hostfwd.backend, &rule, &failure), ==, 0);
	bridge_finish(&f->bridge);
	fd = only_watched_fd(f);
	connect_to(rule.spec.host_port, &client);
	bridge_ready(&f->bridge, f->host.fd[fd].handle, EPOLLIN);
	bridge_finish(&f->bridge);
	sent = fake_link_take(&f->link);
	g_assert_nonnull(sent);
	g_assert_cmpuint(sent->data[13], ==, 6); /* who has the guest's address? */
	g_assert_null(fake_link_take(&f->link));
	memcpy(reply + 32, sent->data + 22, 10);
	g_byte_array_unref(sent);

	eth_header(reply, 0x0806);
	memcpy(reply + 22, guest_mac, 6);
	put32(reply + 28, GUEST);
	input(f, reply, sizeof(reply));
	sent = fake_link_take(&f->link);
	g_assert_nonnull(sent);
	g_assert_cmpuint(sent->data[ETH_LEN + 9], ==, IPPROTO_TCP);
	g_assert_cmpuint(sent->data[ETH_LEN + IP_LEN + 13], ==, TCP_SYN);
	g_byte_array_unref(sent);
	close(client);
}

/* With the limit at 64, all of which is the reserve: clients are reset, libslirp does not see them.
 */
static void test_forward_refused(struct fixture *f, gconstpointer limit)
{
	const struct forward_backend_ops *ops = f->hostfwd.backend.ops;
	struct forward_rule rule = rule_on(free_port());
	struct forward_failure failure;
	int fd;

	for (fd = 0; fd < FAKE_HOST_FDS; fd++)
		f->host.fd[fd].is_listening = true;
	g_assert_cmpint(ops->bind(&f->hostfwd.backend, &rule, &failure), ==, 0);
	bridge_finish(&f->bridge);
	fd = only_watched_fd(f);
	f->host.fd[fd].n_waiting = 3;
	bridge_ready(&f->bridge, f->host.fd[fd].handle, EPOLLIN);
	bridge_finish(&f->bridge);
	g_assert_cmpint(f->host.n_refused, ==, 3);
	g_assert_cmpuint(f->counters.value[COUNTER_FORWARD_REFUSED], ==, 3);
	g_assert_cmpuint(f->bridge.interest.n_open, ==, 1);
}

/* Not even a reset is possible: the listener is left alone for a while, for it stays ready. */
static void test_listeners_rest(struct fixture *f, gconstpointer limit)
{
	const struct forward_backend_ops *ops = f->hostfwd.backend.ops;
	struct forward_rule rule = rule_on(free_port());
	struct forward_failure failure;
	int fd;

	for (fd = 0; fd < FAKE_HOST_FDS; fd++)
		f->host.fd[fd].is_listening = true;
	g_assert_cmpint(ops->bind(&f->hostfwd.backend, &rule, &failure), ==, 0);
	bridge_finish(&f->bridge);
	fd = only_watched_fd(f);
	g_assert_cmpint(fd, >=, 0);
	f->host.refuse_error = -ENFILE;
	bridge_ready(&f->bridge, f->host.fd[fd].handle, EPOLLIN);
	bridge_finish(&f->bridge);
	g_assert_cmpint(only_watched_fd(f), ==, -1);
	g_assert_cmpint(f->bridge.deadline_ns, <=, f->loop.now_ns + NS_PER_SEC);
	for (int i = 0; i < 10 && only_watched_fd(f) < 0; i++) {
		f->loop.now_ns = f->bridge.deadline_ns;
		bridge_finish(&f->bridge);
	}
	g_assert_cmpint(only_watched_fd(f), ==, fd);
	f->host.refuse_error = 0;
	f->host.fd[fd].n_waiting = 1;
	bridge_ready(&f->bridge, f->host.fd[fd].handle, EPOLLIN);
	bridge_finish(&f->bridge);
	g_assert_cmpint(f->host.n_refused, ==, 1);
	g_assert_cmpint(only_watched_fd(f), ==, fd);
}

static void test_unsent(struct fixture *f, gconstpointer unused)
{
	g_assert_false(bridge_has_unsent(&f->bridge));
}

#define ADD(name, limit, fn) \
	g_test_add("/bridge/" name, struct fixture, GUINT_TO_POINTER(limit), set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	ADD("arp", 0, test_arp);
	ADD("down-link-drops", 0, test_down_link_drops);
	ADD("answer", 0, test_answer);
	ADD("connection", 0, test_connection);
	ADD("router-advertisement", 0, test_router_advertisement);
	ADD("forward-backlog", 0, test_forward_backlog);
	ADD("forward-before-arp", 0, test_forward_before_arp);
	ADD("forward-refused", 1, test_forward_refused);
	ADD("listeners-rest", 1, test_listeners_rest);
	ADD("unsent", 0, test_unsent);
	return g_test_run();
}
