/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard's rules as a table, and what it is for: streams that would make libslirp run off the
 * end of its list, sent by hand through the bridge to a listener on the loopback. Each of those
 * runs in a process of its own, since one that gets through is the end of it.
 */
#include <libslirp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "frames.h"
#include "slirp/bridge.h"
#include "slirp/reass_guard.h"
#include "tests/support/fake_host.h"
#include "tests/support/fake_link.h"

#define FIN       0x01
#define SYN       0x02
#define RST       0x04
#define PSH       0x08
#define ACK       0x10
#define NEAR_PORT 40000

static struct frame frame;

static void put32(uint8_t *at, uint32_t v)
{
	put16(at, v >> 16);
	put16(at + 2, v & 0xffff);
}

static uint32_t get32(const uint8_t *at)
{
	return get16(at) << 16 | get16(at + 2);
}

/* The trigger of an address whose bytes 4 to 7 are these. */
static uint32_t trigger(const char *address)
{
	struct in6_addr in6;
	uint32_t value;

	if (inet_pton(AF_INET6, address, &in6) != 1)
		return 0;
	memcpy(&value, &in6.s6_addr[4], sizeof(value));
	return value;
}

struct ends {
	const char *name, *near, *far;
};

static const struct ends ends4 = {"ip4", "10.0.2.100", "10.0.2.2"};
static const struct ends ends6 = {"ip6", "fd00::64", "fd00::2"};
static const struct ends ends6_chosen = {"ip6-chosen", "fd00:0:89ab:cdef::64", "fd00::2"};
static const struct ends *const all_ends[] = {&ends4, &ends6, &ends6_chosen};

static const char data[] = "abcdefghijklmnopqrstuvwxyz";

struct segment {
	uint32_t seq, ack;
	uint16_t port, window;
	uint8_t flags;
	const char *data;
	size_t len;
};

static void frame_segment(const struct ends *ends, const struct segment *segment)
{
	uint8_t tcp[20 + sizeof(data)] = {[12] = 0x50, segment->flags};

	put16(tcp, NEAR_PORT);
	put16(tcp + 2, segment->port);
	put32(tcp + 4, segment->seq);
	put32(tcp + 8, segment->ack);
	put16(tcp + 14, segment->window);
	if (segment->len)
		memcpy(tcp + 20, segment->data, segment->len);
	frame_ip(&frame, IPPROTO_TCP, ends->near, ends->far, tcp, 20 + segment->len);
}

/* ---- the rules ---- */

static const struct {
	int begin; /* of the segment, before the trigger */
	size_t len;
	uint8_t flags;
	enum reass_verdict verdict;
	size_t left;
	uint8_t left_flags;
} rules[] = {
	{10, 8, ACK, REASS_PASS, 8, ACK},
	{10, 9, ACK | FIN, REASS_PASS, 9, ACK | FIN},
	{10, 10, ACK | PSH, REASS_CUT, 9, ACK | PSH},
	{10, 10, ACK | FIN, REASS_CUT, 9, ACK},
	{9, 9, ACK, REASS_CUT, 8, ACK},
	{10, 11, ACK, REASS_CUT, 9, ACK},
	{9, 20, ACK | FIN, REASS_CUT, 8, ACK},
	{2, 2, ACK, REASS_CUT, 1, ACK},
	{2, 1, ACK, REASS_PASS, 1, ACK},
	{1, 1, ACK, REASS_ASK, 1, ACK},
	{1, 1, ACK | FIN, REASS_ASK, 1, ACK | FIN},
	{1, 9, ACK | FIN, REASS_ASK, 9, ACK | FIN},
	{1, 2, ACK, REASS_ASK, 2, ACK},
	{1, 0, ACK, REASS_PASS, 0, ACK},
	{1, 0, ACK | FIN, REASS_PASS, 0, ACK | FIN},
	{0, 0, ACK, REASS_PASS, 0, ACK},
	{0, 0, ACK | FIN, REASS_ASK, 0, ACK | FIN},
	{0, 1, ACK, REASS_PASS, 1, ACK},
	{0, 5, ACK | FIN, REASS_PASS, 5, ACK | FIN},
	{-1, 5, ACK | FIN, REASS_PASS, 5, ACK | FIN},
	/* A SYN takes the place in front of its data. */
	{1, 0, SYN, REASS_PASS, 0, SYN},
	{1, 0, SYN | ACK | FIN, REASS_CUT, 0, SYN | ACK},
	{1, 5, SYN, REASS_PASS, 5, SYN},
	{2, 1, SYN, REASS_CUT, 0, SYN},
	{2, 7, SYN | FIN, REASS_CUT, 0, SYN},
	{9, 8, SYN, REASS_CUT, 7, SYN},
	{9, 7, SYN, REASS_PASS, 7, SYN},
};

static void check_rule(const struct ends *ends, size_t i, uint32_t damage)
{
	const struct segment segment = {.seq = trigger(ends->near) - (uint32_t)rules[i].begin,
		.flags = rules[i].flags,
		.data = data,
		.len = rules[i].len};
	struct packet packet, again;

	frame_segment(ends, &segment);
	frame_transport(&frame)[17] ^= (uint8_t)damage;
	g_assert_cmpint(packet_parse(frame.b, frame.len, &packet), ==, PACKET_OK);
	g_assert_cmpint(reass_guard_check(frame.b, &packet), ==, rules[i].verdict);
	g_assert_cmpuint(packet.transport_len - packet.transport_header_len, ==, rules[i].left);
	g_assert_cmpint(packet_parse(frame.b, frame.len, &again), ==, PACKET_OK);
	g_assert_cmpuint(again.len, ==, packet.len);
	g_assert_cmpuint(again.transport_len, ==, packet.transport_len);
	g_assert_cmphex(frame_transport(&frame)[13], ==, rules[i].left_flags);
	g_assert_cmphex(get32(frame_transport(&frame) + 4), ==, segment.seq);
	g_assert_cmpmem(frame_transport(&frame) + 20, rules[i].left, data, rules[i].left);
	if (damage)
		g_assert_cmphex(frame_transport_sum(&frame, packet.len), !=, 0xffff);
	else
		g_assert_cmphex(frame_transport_sum(&frame, packet.len), ==, 0xffff);
}

static void test_rules(void)
{
	if (SLIRP_CHECK_VERSION(4, 8, 0)) {
		g_test_skip("this libslirp needs no guard");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		for (size_t j = 0; j < ARRAY_SIZE(all_ends); j++) {
			check_rule(all_ends[j], i, 0);
			check_rule(all_ends[j], i, 1);
		}
}

/* ---- the inquiry ---- */

#define INFO_HEAD \
	"  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n"
#define LINE_WITH(state, src, sport, dst, dport, waiting) \
	"  TCP[" state "]  12 " src " " sport " " dst " " dport " " waiting " 0\n"
#define LINE(state, src, sport, dst, dport) LINE_WITH(state, src, sport, dst, dport, "0")

static const struct {
	const char *text;
	enum reass_answer answer;
} connections[] = {
	{INFO_HEAD LINE("ESTABLISHED", "10.0.2.100", "40000", "10.0.2.2", "80"), REASS_NEXT_BYTE},
	{INFO_HEAD LINE("ESTABLISHED", "*", "40000", "0.0.0.0", "80"), REASS_NEXT_BYTE},
	{INFO_HEAD LINE("FIN_WAIT_1", "10.0.2.100", "40000", "10.0.2.2", "80"), REASS_NEXT_ALL},
	{INFO_HEAD LINE_WITH("FIN_WAIT_1", "10.0.2.100", "40000", "10.0.2.2", "80", "1"),
		REASS_NOT_NEXT},
	{LINE_WITH("ESTABLISHED", "10.0.2.100", "40000", "10.0.2.2", "80", "17"), REASS_NEXT_BYTE},
	{LINE("CLOSE_WAIT", "10.0.2.100", "40000", "10.0.2.2", "80"), REASS_NEXT_ALL},
	{LINE("ESTABLISHED", "*", "40000", "0.0.0.0", "80")
			LINE("FIN_WAIT_2", "*", "40000", "0.0.0.0", "80"),
		false},
	{LINE("FIN_WAIT_2", "*", "40000", "0.0.0.0", "81") LINE("ESTABLISHED", "*", "40000",
		 "0.0.0.0", "80") LINE("FIN_WAIT_2", "*", "40001", "0.0.0.0", "80"),
		REASS_NEXT_BYTE},
	/* Published ports: the near end comes second, the listener is no connection. */
	{LINE("HOST_FORWARD", "*", "8080", "10.0.2.100", "40000")
			LINE("ESTABLISHED", "127.0.0.1", "8080", "10.0.2.100", "40000"),
		REASS_NEXT_BYTE},
	{LINE("ESTABLISHED", "127.0.0.1", "8080", "10.0.2.100", "40000")
			LINE("CLOSING", "127.0.0.1", "8080", "10.0.2.100", "40000"),
		false},
	{LINE("HOST_FORWARD", "*", "8080", "10.0.2.100", "40000"), REASS_NOT_NEXT},
	{INFO_HEAD "  UDP[20 sec]  12 10.0.2.100 40000 10.0.2.2 80 0 0\n", REASS_NOT_NEXT},
	{INFO_HEAD, REASS_NOT_NEXT},
	{"", REASS_NOT_NEXT},
};

static struct reass_inquiry answered(const char *far_address, uint8_t flags, uint32_t ack)
{
	const struct segment segment = {
		.seq = 0xffffffff, .port = 80, .flags = ACK, .data = data, .len = 5};
	uint8_t probe[REASS_PROBE_MAX],
		reply[20] = {0, 80, NEAR_PORT >> 8, NEAR_PORT & 0xff, [12] = 0x50, flags};
	struct reass_inquiry inquiry;
	struct packet packet;
	size_t len;

	frame_segment(&ends4, &segment);
	g_assert_cmpint(packet_parse(frame.b, frame.len, &packet), ==, PACKET_OK);
	len = reass_inquiry_begin(&inquiry, frame.b, &packet, probe);
	g_assert_cmpuint(len, ==, frame.len - segment.len);
	put32(reply + 8, ack);
	frame_ip(&frame, IPPROTO_TCP, far_address, ends4.near, reply, sizeof(reply));
	reass_inquiry_saw(&inquiry, frame.b, frame.len);
	memcpy(frame.b, probe, len);
	frame.len = len;
	g_assert_cmphex(get32(frame_transport(&frame) + 4), ==, 0xfffffffe);
	g_assert_cmphex(frame_transport_sum(&frame, frame.len), ==, 0xffff);
	return inquiry;
}

static void test_first_answer(void)
{
	const struct {
		const char *far_address;
		uint8_t flags;
		uint32_t ack;
		bool answer;
	} cases[] = {
		{"10.0.2.2", ACK, 0xffffffff, true},
		{"10.0.2.2", ACK | PSH, 0xffffffff, true},
		{"10.0.2.2", ACK, 0, false},
		{"10.0.2.2", ACK, 0xfffffffe, false},
		{"10.0.2.2", ACK | RST, 0xffffffff, false},
		{"10.0.2.2", SYN | ACK, 0xffffffff, false},
		{"10.0.2.3", ACK, 0xffffffff, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct reass_inquiry inquiry =
			answered(cases[i].far_address, cases[i].flags, cases[i].ack);

		g_assert_cmpint(
			reass_inquiry_sweep(&inquiry, frame.b, frame.len), ==, cases[i].answer);
		g_assert_cmphex(frame_transport_sum(&frame, frame.len), ==, 0xffff);
		g_assert_cmpuint(
			get16(frame_transport(&frame)), ==, cases[i].answer ? 0 : NEAR_PORT);
	}
}

static void see(struct reass_inquiry *inquiry, uint32_t port, uint8_t flags)
{
	uint8_t reply[20] = {0, 80, [8] = 0xff, 0xff, 0xff, 0xff, 0x50, flags};

	put16(reply + 2, port);
	frame_ip(&frame, IPPROTO_TCP, ends4.far, ends4.near, reply, sizeof(reply));
	reass_inquiry_saw(inquiry, frame.b, frame.len);
}

/* An answer that comes after the second probe had waited: the first one was stale. */
static void test_second_answer(void)
{
	for (int i = 0; i < 4; i++) {
		struct reass_inquiry inquiry = answered("10.0.2.2", ACK, 0xffffffff);

		g_assert_true(reass_inquiry_sweep(&inquiry, frame.b, frame.len));
		if (i & 1)
			see(&inquiry, 0, RST);
		if (i & 2)
			see(&inquiry, NEAR_PORT, ACK);
		g_assert_cmpint(reass_inquiry_end(&inquiry, connections[0].text), ==,
			i == 1 ? REASS_NEXT_BYTE : REASS_NOT_NEXT);
	}
}

static void test_connections(void)
{
	struct reass_inquiry inquiry = {.near_port = NEAR_PORT, .far_port = 80, .n_resets = 1};

	for (size_t i = 0; i < ARRAY_SIZE(connections); i++)
		g_assert_cmpint(reass_inquiry_end(&inquiry, connections[i].text), ==,
			connections[i].answer);
}

/* ---- with libslirp ---- */

static struct world {
	struct fake_link link;
	struct fake_host host;
	struct loop loop;
	struct counters counters;
	struct policy policy;
	struct icmp_limit icmp_limit;
	struct bridge bridge;
	/* The container's one connection. */
	const struct ends *ends;
	uint32_t trigger, isn, acked, far_next;
	uint16_t port, window;
	int listener, server;
} w;

static void input(void)
{
	struct packet packet;

	g_assert_cmpint(packet_parse(frame.b, frame.len, &packet), ==, PACKET_OK);
	bridge_input(&w.bridge, frame.b, &packet);
	bridge_finish(&w.bridge);
}

/* Neither time nor the host's kernel is waited for: all of its answers on the loopback are there
 * when the call returns. */
static void host_events(void)
{
	for (int fd = 0; fd < FAKE_HOST_FDS; fd++) {
		struct pollfd p = {.fd = fd, .events = (short)w.host.fd[fd].events};

		if (w.host.fd[fd].is_watched && poll(&p, 1, 0) == 1)
			bridge_ready(&w.bridge, w.host.fd[fd].handle, (uint32_t)p.revents);
	}
	bridge_finish(&w.bridge);
}

static void look_at(const GByteArray *sent)
{
	struct frame reply = {.len = sent->len};
	struct packet packet;
	const uint8_t *tcp;

	memcpy(reply.b, sent->data, sent->len);
	if (packet_parse(reply.b, reply.len, &packet) != PACKET_OK ||
		packet.protocol != IPPROTO_TCP)
		return;
	tcp = frame_transport(&reply);
	if (get16(tcp + 2) != NEAR_PORT)
		return;
	g_assert_false(tcp[13] & RST);
	w.acked = get32(tcp + 8);
	w.far_next = get32(tcp + 4) + packet.transport_len - packet.transport_header_len +
		!!(tcp[13] & (SYN | FIN));
}

static void replies(void)
{
	GByteArray *sent;

	while ((sent = fake_link_take(&w.link))) {
		look_at(sent);
		g_byte_array_unref(sent);
	}
}

/* `at` is counted from the first byte of data, which has number 1. */
static void say(uint32_t at, uint8_t flags, const char *bytes, size_t len)
{
	const struct segment segment = {.seq = w.isn + at,
		.ack = flags & ACK ? w.far_next : 0,
		.port = w.port,
		.window = w.window,
		.flags = flags,
		.data = bytes,
		.len = len};

	frame_segment(w.ends, &segment);
	input();
	host_events();
	replies();
}

static void listen_on_loopback(void)
{
	struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	bool is4 = w.ends == &ends4;
	struct sockaddr *addr = is4 ? (struct sockaddr *)&in4 : (struct sockaddr *)&in6;
	socklen_t len = is4 ? sizeof(in4) : sizeof(in6);

	w.listener = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (w.listener < 0 || bind(w.listener, addr, len) < 0)
		_exit(0); /* no IPv6 on this machine */
	g_assert_cmpint(listen(w.listener, 1), ==, 0);
	g_assert_cmpint(getsockname(w.listener, addr, &len), ==, 0);
	w.port = ntohs(is4 ? in4.sin_port : in6.sin6_port);
}

static void introduce(void)
{
	uint8_t ns[32] = {135, [8] = 0xfd, [23] = 2, [24] = 1, [25] = 1, 2, 0, 0, 0, 0, 0x64};

	if (w.ends == &ends4)
		frame_arp(&frame);
	else
		frame_ip6(&frame, 58, w.ends->near, "ff02::1:ff00:2", ns, sizeof(ns));
	input();
}

/* The stream is such that `n` bytes of data end at the trigger. */
static void begin(const struct ends *ends, uint32_t n)
{
	const struct bridge_config config = {.policy = &w.policy,
		.icmp_limit = &w.icmp_limit,
		.mtu = 1500,
		.dhcp_start.s_addr = htonl(0x0a00020f),
		.descriptor_limit = 1024};

	w = (struct world){.loop.now_ns = 1000 * NS_PER_SEC,
		.ends = ends,
		.window = 0xffff,
		.trigger = trigger(ends->near),
		.isn = trigger(ends->near) - n - 1,
		.policy = {.ipv6 = true, .host_loopback = true}};
	inet_pton(AF_INET, "10.0.2.0", &w.policy.network);
	inet_pton(AF_INET, "255.255.255.0", &w.policy.netmask);
	inet_pton(AF_INET, "10.0.2.2", &w.policy.gateway);
	inet_pton(AF_INET, "10.0.2.3", &w.policy.dns);
	inet_pton(AF_INET6, "fd00::2", &w.policy.gateway6);
	inet_pton(AF_INET6, "fd00::3", &w.policy.dns6);
	icmp_limit_init(&w.icmp_limit, &w.counters);
	fake_link_init(&w.link);
	fake_host_init(&w.host);
	listen_on_loopback();
	g_assert_cmpint(
		bridge_init(&w.bridge, &config, &w.link.link, &w.host.host, &w.loop, &w.counters),
		==, 0);
	bridge_finish(&w.bridge);
	introduce();
}

static void open_with(const char *bytes, size_t len)
{
	say(0, SYN, bytes, len);
	w.server = accept4(w.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	g_assert_cmpint(w.server, >=, 0);
	host_events();
	replies();
	g_assert_cmphex(w.acked, ==, w.isn + 1);
	say(1, ACK, NULL, 0);
}

/* The container's kernel: it sends what is not acknowledged, as one segment, again and again. */
static uint32_t send_all(const char *bytes, uint32_t n, uint8_t flags)
{
	uint32_t n_sent = 0, end = w.isn + 1 + n + (flags & FIN);

	while (w.acked != end && n_sent < 5) {
		uint32_t at = w.acked - w.isn;

		n_sent++;
		say(at, ACK | PSH | flags, bytes + at - 1, at - 1 < n ? n + 1 - at : 0);
	}
	g_assert_cmphex(w.acked, ==, end);
	return n_sent;
}

/* The kernel of a busy machine may deliver late. */
static ssize_t take(char *buf, size_t size)
{
	struct pollfd p = {.fd = w.server, .events = POLLIN};

	poll(&p, 1, 10000);
	return recv(w.server, buf, size, 0);
}

static void expect(const char *bytes, size_t n)
{
	char buf[64];
	size_t got = 0;

	while (got < n) {
		ssize_t r = take(buf + got, sizeof(buf) - got);

		g_assert_cmpint(r, >, 0);
		got += (size_t)r;
	}
	g_assert_cmpmem(buf, got, bytes, n);
}

static void expect_end(void)
{
	char byte;

	g_assert_cmpint(take(&byte, 1), ==, 0);
}

static void end(void)
{
	if (!SLIRP_CHECK_VERSION(4, 8, 0))
		g_assert_cmpuint(w.counters.value[COUNTER_REASS_GUARDED], >, 0);
	close(w.server);
	close(w.listener);
	bridge_done(&w.bridge);
	w.link.link.ops->close(&w.link.link);
}

/* The end of the list is reached by two segments in the wrong order. */
static void play_disorder(const struct ends *ends)
{
	begin(ends, 8);
	open_with(NULL, 0);
	say(5, ACK | PSH, data + 4, 4);
	say(1, ACK | PSH, data, 4);
	g_assert_cmpuint(send_all(data, 8, 0), <=, 1);
	expect(data, 8);
	g_assert_cmpuint(send_all(data, 16, FIN), ==, 1);
	expect(data + 8, 8);
	expect_end();
	end();
}

/* The last byte comes too early, and again when its turn is. */
static void play_early(const struct ends *ends)
{
	begin(ends, 8);
	open_with(NULL, 0);
	say(8, ACK | PSH, data + 7, 1);
	say(9, ACK | FIN, NULL, 0);
	say(1, ACK | PSH, data, 7);
	g_assert_cmpuint(send_all(data, 8, 0), <=, 1);
	expect(data, 8);
	end();
}

static void play_order(const struct ends *ends)
{
	begin(ends, 8);
	open_with(NULL, 0);
	g_assert_cmpuint(send_all(data, 8, 0), <=, 2);
	expect(data, 8);
	g_assert_cmpuint(send_all(data, 8, FIN), ==, 1);
	expect_end();
	end();
}

/* What is behind the trigger may have been queued. */
static void play_queued(const struct ends *ends)
{
	begin(ends, 8);
	open_with(NULL, 0);
	say(9, ACK | PSH, data + 8, 4);
	say(15, ACK | PSH, data + 14, 2);
	g_assert_cmpuint(send_all(data, 16, 0), <=, 4);
	expect(data, 16);
	end();
}

static void play_syn_data(const struct ends *ends)
{
	begin(ends, 8);
	open_with(data, 8);
	g_assert_cmpuint(send_all(data, 8, 0), <=, 2);
	expect(data, 8);
	end();
}

/* From the host's end on, libslirp takes everything through the loop. */
static void play_host_closed(const struct ends *ends)
{
	begin(ends, 8);
	open_with(NULL, 0);
	g_assert_cmpint(shutdown(w.server, SHUT_WR), ==, 0);
	host_events();
	replies();
	say(1, ACK | PSH, data, 8);
	say(8, ACK | PSH, data + 7, 1);
	expect(data, 7);
	say(8, ACK | PSH, data + 7, 1);
	say(9, ACK | FIN, NULL, 0);
	g_assert_cmphex(w.acked, ==, w.trigger - 1);
	end();
}

/* And yet the container's stream goes on behind the trigger, queued segments and end included. */
static void play_host_closed_crossing(const struct ends *ends)
{
	begin(ends, 8);
	open_with(NULL, 0);
	g_assert_cmpint(shutdown(w.server, SHUT_WR), ==, 0);
	host_events();
	replies();
	say(13, ACK | PSH, data + 12, 4);
	say(9, ACK | PSH, data + 8, 2);
	g_assert_cmpuint(send_all(data, 20, FIN), <=, 3);
	expect(data, 20);
	expect_end();
	end();
}

/* Likewise, and nothing of it was seen: the container's window keeps the FIN back. */
static void play_host_closed_unseen(const struct ends *ends)
{
	uint32_t far_next;

	begin(ends, 8);
	open_with(NULL, 0);
	say(1, ACK | PSH, data, 3);
	w.window = 0;
	say(4, ACK, NULL, 0);
	far_next = w.far_next;
	g_assert_cmpint(send(w.server, "x", 1, 0), ==, 1);
	g_assert_cmpint(shutdown(w.server, SHUT_WR), ==, 0);
	for (int i = 0; i < 3; i++)
		host_events();
	replies();
	g_assert_cmphex(w.far_next, ==, far_next);
	say(4, ACK | PSH, data + 3, 5);
	say(8, ACK | PSH, data + 7, 1);
	g_assert_cmphex(w.acked, ==, w.trigger - 1);
	end();
}

/* A FIN moves what is expected onto the trigger; a second one would be presented there. */
static void play_two_fins(const struct ends *ends)
{
	begin(ends, 8);
	open_with(NULL, 0);
	say(1, ACK | FIN, data, 7);
	g_assert_cmphex(w.acked, ==, w.trigger);
	say(9, ACK | FIN, NULL, 0);
	g_assert_cmphex(w.acked, ==, w.trigger);
	expect(data, 7);
	expect_end();
	end();
}

static const struct play {
	const char *name;
	void (*fn)(const struct ends *ends);
} plays[] = {
	{"disorder", play_disorder},
	{"early", play_early},
	{"order", play_order},
	{"queued", play_queued},
	{"syn-data", play_syn_data},
	{"host-closed", play_host_closed},
	{"host-closed-crossing", play_host_closed_crossing},
	{"host-closed-unseen", play_host_closed_unseen},
	{"two-fins", play_two_fins},
};

struct scene {
	const struct play *play;
	const struct ends *ends;
};

static void test_scene(gconstpointer arg)
{
	const struct scene *scene = arg;

	if (g_test_subprocess()) {
		scene->play->fn(scene->ends);
		return;
	}
	g_test_trap_subprocess(NULL, 30 * G_USEC_PER_SEC, G_TEST_SUBPROCESS_DEFAULT);
	g_test_trap_assert_passed();
}

static void add_scenes(void)
{
	static struct scene scenes[ARRAY_SIZE(plays) * ARRAY_SIZE(all_ends)];

	for (size_t i = 0; i < ARRAY_SIZE(scenes); i++) {
		struct scene *scene = &scenes[i];
		char *path;

		*scene = (struct scene){
			&plays[i / ARRAY_SIZE(all_ends)], all_ends[i % ARRAY_SIZE(all_ends)]};
		path = g_strdup_printf("/reass-guard/%s/%s", scene->play->name, scene->ends->name);
		g_test_add_data_func(path, scene, test_scene);
		g_free(path);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/reass-guard/rules", test_rules);
	g_test_add_func("/reass-guard/first-answer", test_first_answer);
	g_test_add_func("/reass-guard/second-answer", test_second_answer);
	g_test_add_func("/reass-guard/connections", test_connections);
	add_scenes();
	return g_test_run();
}
