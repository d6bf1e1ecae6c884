/* SPDX-License-Identifier: Apache-2.0 */
#include "icmpflow/icmpflow.h"

#include <errno.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "frames.h"
#include "tests/support/fake_link.h"
#include "tests/unit/capture.h"
#include "wire/icmp.h"

#define NEAR4     "10.0.2.100"
#define FAR4      "192.0.2.1"
#define NEAR6     "fd00::64"
#define FAR6      "2001:db8::1"
#define SOCKETS   64
#define MAX_FLOWS 4

/* A socket of the fake host, and what its next calls give. */
struct socket {
	bool is_open;
	struct host_dgram_config config;
	struct handle handle;
	int send_results[4]; /* 0: it is sent */
	int n_sends;
	struct host_datagram sent; /* the last one, its data in `sent_data` */
	uint8_t sent_data[65536];
	struct host_dgram_error errors[4];
	int n_errors, at_error;
	int n_replies; /* of `reply`, whose data is in `reply_data` */
	struct host_datagram reply;
	uint8_t reply_data[65536];
	int n_changes;
	int recv_error, n_recvs; /* 0: it works */
};

static struct socket *sockets;
static int n_sockets, open_error, n_open_errors;
static struct fake_link near_link;
static struct host host;
static struct loop loop;
static struct policy policy;
static struct counters counters;
static struct icmp_limit icmp_limit;
static struct egress egress;
static struct icmpflow icmpflow;
static struct frame frame;

/* ---- the host ---- */

static struct socket *socket_of(const struct host_dgram *dgram)
{
	g_assert_cmpint(dgram->fd, >=, 0);
	g_assert_cmpint(dgram->fd, <, n_sockets);
	g_assert_true(sockets[dgram->fd].is_open);
	return &sockets[dgram->fd];
}

static int fake_open(struct host *h, const struct host_dgram_config *config, struct handle handle,
	struct host_dgram *ret)
{
	if (n_open_errors) {
		n_open_errors--;
		return open_error;
	}
	g_assert_cmpint(n_sockets, <, SOCKETS);
	sockets[n_sockets].is_open = true;
	sockets[n_sockets].config = *config;
	sockets[n_sockets].handle = handle;
	*ret = (struct host_dgram){.fd = n_sockets++, .family = config->family};
	return 0;
}

static void fake_close(struct host *h, struct host_dgram *dgram)
{
	socket_of(dgram)->is_open = false;
	dgram->fd = -1;
}

static int fake_send(
	struct host *h, struct host_dgram *dgram, const struct host_datagram *datagrams, int n)
{
	struct socket *s = socket_of(dgram);
	int r = s->send_results[s->n_sends % 4];

	g_assert_cmpint(n, ==, 1);
	s->n_sends++;
	if (r < 0)
		return r;
	s->sent = datagrams[0];
	memcpy(s->sent_data, datagrams[0].data, datagrams[0].len);
	return 1;
}

static int fake_recv(
	struct host *h, struct host_dgram *dgram, struct host_datagram *datagrams, int n)
{
	struct socket *s = socket_of(dgram);
	int i;

	s->n_recvs++;
	if (s->recv_error)
		return s->recv_error;
	if (s->at_error < s->n_errors)
		return -s->errors[s->at_error].error;
	for (i = 0; i < n && s->n_replies; i++, s->n_replies--) {
		uint8_t *data = datagrams[i].data;

		g_assert_cmpuint(datagrams[i].len, >=, s->reply.len);
		memcpy(data, s->reply_data, s->reply.len);
		datagrams[i] = s->reply;
		datagrams[i].data = data;
	}
	return i;
}

static bool fake_error(struct host *h, struct host_dgram *dgram, struct host_dgram_error *ret)
{
	struct socket *s = socket_of(dgram);

	if (s->at_error == s->n_errors)
		return false;
	*ret = s->errors[s->at_error++];
	return true;
}

static int fake_change(struct host *h, int fd, uint32_t events, struct handle handle)
{
	g_assert_true(sockets[fd].is_open);
	g_assert_cmpuint(events, ==, EPOLLIN | EPOLLERR | (uint32_t)EPOLLET);
	g_assert_cmpuint(handle_pack(handle), ==, handle_pack(sockets[fd].handle));
	sockets[fd].n_changes++;
	return 0;
}

static const struct host_ops host_ops = {
	.change = fake_change,
	.dgram_open = fake_open,
	.dgram_close = fake_close,
	.dgram_send = fake_send,
	.dgram_recv = fake_recv,
	.dgram_error = fake_error,
};

/* ---- surroundings ---- */

static void set_up(void)
{
	static const struct siphash_key key = {{1, 2}};
	const struct flow_config config = {
		.policy = &policy,
		.egress = &egress,
		.host = &host,
		.loop = &loop,
		.counters = &counters,
		.icmp_limit = &icmp_limit,
		.key = &key,
		.max_sockets = MAX_FLOWS,
	};

	policy = (struct policy){.ipv6 = true, .host_loopback = true, .dns_enabled = true};
	inet_pton(AF_INET, "10.0.2.0", &policy.network);
	inet_pton(AF_INET, "255.255.255.0", &policy.netmask);
	inet_pton(AF_INET, "10.0.2.2", &policy.gateway);
	inet_pton(AF_INET, "10.0.2.3", &policy.dns);
	inet_pton(AF_INET6, "fd00::2", &policy.gateway6);
	inet_pton(AF_INET6, "fd00::3", &policy.dns6);
	sockets = g_new0(struct socket, SOCKETS);
	n_sockets = n_open_errors = 0;
	host.ops = &host_ops;
	loop = (struct loop){.epoll_fd = -1, .now_ns = 7 * NS_PER_SEC};
	counters = (struct counters){0};
	icmp_limit_init(&icmp_limit, &counters);
	fake_link_init(&near_link);
	egress_init(&egress, &policy, &near_link.link, 1500, 1, &counters);
	g_assert_cmpint(icmpflow_init(&icmpflow, &config), ==, 0);
}

static void tear_down(void)
{
	icmpflow_done(&icmpflow);
	for (int i = 0; i < n_sockets; i++)
		g_assert_false(sockets[i].is_open);
	g_assert_null(loop.timers.root);
	g_assert_true(g_queue_is_empty(&near_link.sent));
	g_free(sockets);
}

static void make_ping(const char *src, const char *dst, uint32_t id, uint32_t seq, size_t len)
{
	static uint8_t echo[65536];
	bool is6 = strchr(src, ':');

	echo[0] = is6 ? 128 : 8;
	put16(echo + 4, id);
	put16(echo + 6, seq);
	for (size_t i = 0; i < len; i++)
		echo[8 + i] = (uint8_t)(i * 5 + 3);
	frame_ip(&frame, is6 ? 58 : 1, src, dst, echo, 8 + len);
}

static void input(void)
{
	struct packet packet;

	g_assert_cmpint(packet_parse(frame.b, frame.len, &packet), ==, PACKET_OK);
	icmpflow_input(&icmpflow, frame.b, &packet);
}

static void ping(const char *src, const char *dst, uint32_t id, uint32_t seq, size_t len)
{
	make_ping(src, dst, id, seq, len);
	input();
}

static struct ip_addr addr_of(const char *text)
{
	struct in6_addr v6;
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return ip_addr_of_v4(v4);
	g_assert_cmpint(inet_pton(AF_INET6, text, &v6), ==, 1);
	return ip_addr_of_v6(&v6);
}

static void assert_addr(const struct ip_addr *addr, const char *text)
{
	struct ip_addr wanted = addr_of(text);

	g_assert_cmpint(addr->family, ==, wanted.family);
	g_assert_cmpmem(&addr->in6, 16, &wanted.in6, 16);
}

static void advance(int64_t ns)
{
	loop.now_ns += ns;
	timer_heap_expire(&loop.timers, loop.now_ns);
}

/* What the link got last goes to `frame`. */
static void take_frame(void)
{
	g_autoptr(GByteArray) sent = fake_link_take(&near_link);

	g_assert_nonnull(sent);
	memcpy(frame.b, sent->data, sent->len);
	frame.len = sent->len;
	g_assert_cmphex(frame_transport_sum(&frame, frame.len), ==, 0xffff);
	g_assert_cmpmem(frame.b, 6, frame_near_mac, 6);
}

static void expect_error(uint8_t type, uint8_t code)
{
	take_frame();
	g_assert_cmpint(frame_transport(&frame)[0], ==, type);
	g_assert_cmpint(frame_transport(&frame)[1], ==, code);
}

/* The id and the number in the quoted echo request, whose header stands behind `ip_len` bytes. */
static void expect_quoted(size_t ip_len, uint32_t id, uint32_t seq)
{
	const uint8_t *echo = frame_transport(&frame) + 8 + ip_len;

	g_assert_cmpuint(get16(echo + 4), ==, id);
	g_assert_cmpuint(get16(echo + 6), ==, seq);
}

static void give_reply(struct socket *s, const char *from, uint8_t type, uint32_t seq, size_t len)
{
	s->reply = (struct host_datagram){
		.addr = addr_of(from), .ttl = 60, .tos = 0x48, .len = 8 + len};
	memset(s->reply_data, 0, 8);
	s->reply_data[0] = type;
	put16(s->reply_data + 4, 0x4242); /* the kernel's id */
	put16(s->reply_data + 6, seq);
	for (size_t i = 0; i < len; i++)
		s->reply_data[8 + i] = (uint8_t)(i * 5 + 3);
	s->n_replies = 1;
}

/* ---- tests ---- */

static void test_request4(void)
{
	struct socket *s;

	set_up();
	s = &sockets[0];
	make_ping(NEAR4, FAR4, 0x1234, 7, 56);
	frame.b[15] = 0xb8;
	frame.b[20] = 0x40; /* DF */
	frame_fix_ip4(&frame);
	input();
	g_assert_cmpint(n_sockets, ==, 1);
	g_assert_cmpint(s->config.family, ==, AF_INET);
	g_assert_cmpint(s->config.protocol, ==, IPPROTO_ICMP);
	g_assert_null(s->config.from);
	g_assert_null(s->config.peer);
	g_assert_cmpint(s->handle.kind, ==, HANDLE_PING);
	assert_addr(&s->sent.addr, FAR4);
	g_assert_cmpuint(s->sent.len, ==, 64);
	g_assert_cmpuint(s->sent.ttl, ==, 63);
	g_assert_cmpuint(s->sent.tos, ==, 0xb8);
	g_assert_true(s->sent.dont_fragment);
	g_assert_cmpmem(s->sent_data + 8, 56, frame.b + 42, 56);
	g_assert_cmpuint(get16(s->sent_data + 6), ==, 7);
	ping(NEAR4, "192.0.2.2", 0x1234, 8, 0);
	g_assert_cmpint(n_sockets, ==, 1);
	assert_addr(&s->sent.addr, "192.0.2.2");
	g_assert_false(s->sent.dont_fragment);
	ping("10.0.2.101", FAR4, 0x1234, 8, 0);
	ping(NEAR4, FAR4, 0x1235, 8, 0);
	g_assert_cmpint(n_sockets, ==, 3);
	tear_down();
}

static void test_request6(void)
{
	struct ip_addr outbound = addr_of("2001:db8::99");

	set_up();
	policy.has_outbound6 = true;
	policy.outbound6 = outbound;
	make_ping(NEAR6, FAR6, 1, 2, 1000);
	put16(frame.b + 14, 0x6b80); /* class 0xb8 */
	frame.b[21] = 2;
	input();
	g_assert_cmpint(sockets[0].config.protocol, ==, IPPROTO_ICMPV6);
	assert_addr(sockets[0].config.from, "2001:db8::99");
	assert_addr(&sockets[0].sent.addr, FAR6);
	g_assert_cmpuint(sockets[0].sent.ttl, ==, 1);
	g_assert_cmpuint(sockets[0].sent.tos, ==, 0xb8);
	g_assert_true(sockets[0].sent.dont_fragment);
	g_assert_cmpuint(sockets[0].sent.len, ==, 1008);
	tear_down();
}

static void test_reply(void)
{
	set_up();
	ping(NEAR4, FAR4, 0x1234, 7, 56);
	give_reply(&sockets[0], FAR4, 0, 7, 56);
	icmpflow_host_ready(&icmpflow, sockets[0].handle, EPOLLIN);
	take_frame();
	g_assert_cmpuint(frame.len, ==, 14 + 20 + 64);
	g_assert_cmpuint(frame.b[22], ==, 60);
	g_assert_cmpuint(frame.b[15], ==, 0x48);
	g_assert_cmpmem(frame.b + 26, 4, "\xc0\x00\x02\x01", 4);
	g_assert_cmpmem(frame.b + 30, 4, "\x0a\x00\x02\x64", 4);
	g_assert_cmpmem(frame.b + 6, 6, frame_far_mac, 6);
	g_assert_cmpmem(frame.b + 42, 56, sockets[0].reply_data + 8, 56);
	g_assert_cmpuint(get16(frame.b + 38), ==, 0x1234);
	g_assert_cmpuint(get16(frame.b + 40), ==, 7);

	ping(NEAR6, FAR6, 0x1234, 7, 56);
	give_reply(&sockets[1], FAR6, 129, 9, 1);
	sockets[1].reply.ttl = 1;
	icmpflow_host_ready(&icmpflow, sockets[1].handle, EPOLLIN);
	take_frame();
	g_assert_cmpuint(frame.b[21], ==, 1);
	g_assert_cmpuint(get16(frame.b + 58), ==, 0x1234);
	tear_down();
}

/* Only replies pass. */
static void test_not_a_reply(void)
{
	set_up();
	ping(NEAR4, FAR4, 1, 1, 0);
	give_reply(&sockets[0], FAR4, 8, 1, 0);
	icmpflow_host_ready(&icmpflow, sockets[0].handle, EPOLLIN);
	give_reply(&sockets[0], FAR4, 0, 1, 0);
	sockets[0].reply.len = 7;
	icmpflow_host_ready(&icmpflow, sockets[0].handle, EPOLLIN);
	g_assert_cmpuint(counters.value[COUNTER_ICMP_DROPPED], ==, 2);
	tear_down();
}

/* However many come: all of them, but not in one event. */
static void test_many_replies(void)
{
	int n = 0;

	set_up();
	ping(NEAR4, FAR4, 1, 1, 0);
	give_reply(&sockets[0], FAR4, 0, 1, 0);
	sockets[0].n_replies = 1000;
	while (sockets[0].n_replies) {
		int before = sockets[0].n_changes;

		icmpflow_host_ready(&icmpflow, sockets[0].handle, EPOLLIN);
		g_assert_true(!sockets[0].n_replies || sockets[0].n_changes == before + 1);
	}
	g_assert_cmpint(sockets[0].n_changes, >=, 2);
	while (!g_queue_is_empty(&near_link.sent)) {
		take_frame();
		n++;
	}
	g_assert_cmpint(n, ==, 1000);
	tear_down();
}

/* A call that always fails is not asked for ever. */
static void test_broken_socket(void)
{
	set_up();
	ping(NEAR4, FAR4, 1, 1, 0);
	sockets[0].recv_error = -ENOSYS;
	icmpflow_host_ready(&icmpflow, sockets[0].handle, EPOLLIN);
	g_assert_cmpint(sockets[0].n_recvs, <=, 2);
	g_assert_cmpint(sockets[0].n_changes, ==, 0);
	tear_down();
}

static void test_never_leaves(void)
{
	static const struct {
		const char *src, *dst;
		int type, code; /* type 0: no answer */
	} cases[] = {
		{NEAR4, "10.0.2.55", 3, 1},
		{NEAR4, "10.0.2.255", 0, 0},
		{NEAR4, "255.255.255.255", 0, 0},
		{NEAR4, "224.0.0.1", 0, 0},
		{NEAR4, "127.0.0.1", 3, 0},
		{NEAR6, "fd00::55", 1, 3},
		{NEAR6, "fe80::55", 1, 3},
		{NEAR6, "ff02::1", 0, 0},
		{NEAR6, "::1", 1, 0},
	};

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		ping(cases[i].src, cases[i].dst, 1, 1, 8);
		if (cases[i].type)
			expect_error((uint8_t)cases[i].type, (uint8_t)cases[i].code);
		g_assert_true(g_queue_is_empty(&near_link.sent));
	}
	g_assert_cmpint(n_sockets, ==, 0);
	g_assert_cmpuint(counters.value[COUNTER_ICMP_DROPPED], ==, 7);
	g_assert_cmpuint(counters.value[COUNTER_POLICY_REFUSED], ==, 2);
	make_ping(NEAR4, FAR4, 1, 1, 8);
	frame.b[35] = 1; /* a code that there is not */
	frame_fix_transport(&frame);
	input();
	g_assert_cmpint(n_sockets, ==, 0);
	tear_down();
}

static void test_forbidden(void)
{
	struct capture capture;

	set_up();
	open_error = -EACCES;
	n_open_errors = 1000;
	capture_begin(&capture);
	for (int i = 0; i < 3; i++) {
		ping(NEAR4, FAR4, 1, 1, 8);
		expect_error(3, 13);
		ping(NEAR6, FAR6, 1, 1, 8);
		expect_error(1, 1);
	}
	capture_end(&capture);
	g_assert_nonnull(strstr(capture.err, "net.ipv4.ping_group_range=\"0 2147483647\""));
	g_assert_true(strchr(capture.err, '\n') == strrchr(capture.err, '\n'));
	capture_free(&capture);
	g_assert_cmpuint(counters.value[COUNTER_ICMP_FORBIDDEN], ==, 6);
	/* At a bounded rate. */
	for (int i = 0; i < 100; i++)
		ping(NEAR4, FAR4, 1, 1, 8);
	g_assert_cmpuint(g_queue_get_length(&near_link.sent), ==, ICMP_LIMIT_BURST - 6);
	while (!g_queue_is_empty(&near_link.sent))
		take_frame();
	g_assert_cmpuint(icmpflow.table.n_flows, ==, 0);
	/* And when it is allowed again, it works. */
	n_open_errors = 0;
	ping(NEAR4, FAR4, 1, 1, 8);
	g_assert_cmpint(n_sockets, ==, 1);
	tear_down();
}

static void test_no_family(void)
{
	set_up();
	open_error = -EAFNOSUPPORT;
	n_open_errors = 1;
	ping(NEAR6, FAR6, 1, 1, 8);
	expect_error(1, 0);
	g_assert_cmpuint(icmpflow.table.n_flows, ==, 0);
	tear_down();
}

/* No descriptor is left: the one silent longest gives way, and who has none to give is dropped. */
static void test_shortage(void)
{
	set_up();
	open_error = -EMFILE;
	n_open_errors = 1;
	ping(NEAR4, FAR4, 1, 1, 8);
	g_assert_cmpint(n_sockets, ==, 0);
	g_assert_cmpuint(counters.value[COUNTER_ICMP_DROPPED], ==, 1);
	ping(NEAR4, FAR4, 1, 1, 8);
	ping(NEAR4, FAR4, 2, 1, 8);
	ping(NEAR4, FAR4, 1, 2, 8);
	n_open_errors = 1;
	ping(NEAR4, FAR4, 3, 1, 8);
	g_assert_cmpint(n_sockets, ==, 3);
	g_assert_true(sockets[0].is_open);
	g_assert_false(sockets[1].is_open);
	g_assert_cmpuint(counters.value[COUNTER_ICMP_EVICTED], ==, 1);
	n_open_errors = 1000;
	ping(NEAR4, FAR4, 4, 1, 8);
	g_assert_cmpuint(icmpflow.table.n_flows, ==, 0);
	tear_down();
}

static void test_evicted(void)
{
	set_up();
	for (uint32_t id = 1; id <= MAX_FLOWS; id++)
		ping(NEAR4, FAR4, id, 1, 8);
	/* Hearing counts as much as asking. */
	give_reply(&sockets[0], FAR4, 0, 1, 0);
	icmpflow_host_ready(&icmpflow, sockets[0].handle, EPOLLIN);
	take_frame();
	ping(NEAR4, FAR4, 99, 1, 8);
	g_assert_true(sockets[0].is_open);
	g_assert_false(sockets[1].is_open);
	g_assert_true(sockets[4].is_open);
	g_assert_cmpuint(counters.value[COUNTER_ICMP_EVICTED], ==, 1);
	/* Who has gone is not found by its handle. */
	icmpflow_host_ready(&icmpflow, sockets[1].handle, EPOLLIN);
	tear_down();
}

static void test_idle(void)
{
	set_up();
	ping(NEAR4, FAR4, 1, 1, 8);
	advance(20 * NS_PER_SEC);
	ping(NEAR4, FAR4, 2, 1, 8);
	advance(20 * NS_PER_SEC);
	ping(NEAR4, FAR4, 1, 2, 8);
	advance(40 * NS_PER_SEC - 1);
	g_assert_true(sockets[1].is_open);
	advance(1);
	g_assert_false(sockets[1].is_open);
	g_assert_true(sockets[0].is_open);
	advance(20 * NS_PER_SEC - 1);
	g_assert_true(sockets[0].is_open);
	advance(1);
	g_assert_false(sockets[0].is_open);
	g_assert_cmpuint(icmpflow.table.n_flows, ==, 0);
	g_assert_null(loop.timers.root);
	tear_down();
}

/* The error of an earlier request is told, and the next one goes out all the same. */
static void test_earlier_error(void)
{
	static const uint8_t quote[16] = {8, 0, 0, 0, 0x42, 0x42, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8};
	struct host_dgram_error error = {
		.error = EHOSTUNREACH,
		.addr = addr_of(FAR4),
		.icmp_family = AF_INET,
		.icmp_type = 3,
		.icmp_code = 1,
		.offender = addr_of("198.51.100.1"),
		.quote_len = sizeof(quote),
	};

	set_up();
	memcpy(error.quote, quote, sizeof(quote));
	ping(NEAR4, FAR4, 0x1234, 7, 8);
	sockets[0].errors[0] = error;
	sockets[0].n_errors = 1;
	sockets[0].send_results[1] = -EHOSTUNREACH;
	ping(NEAR4, "192.0.2.2", 0x1234, 8, 8);
	g_assert_cmpint(sockets[0].n_sends, ==, 3);
	assert_addr(&sockets[0].sent.addr, "192.0.2.2");
	expect_error(3, 1);
	expect_quoted(20, 0x1234, 7);
	g_assert_cmpmem(frame.b + 26, 4, "\xc6\x33\x64\x01", 4);
	g_assert_cmpmem(frame_transport(&frame) + 8 + 16, 4, "\xc0\x00\x02\x01", 4);

	/* By an event likewise; the TTL was too small. */
	error.icmp_type = 11;
	error.icmp_code = 0;
	sockets[0].errors[1] = error;
	sockets[0].n_errors = 2;
	icmpflow_host_ready(&icmpflow, sockets[0].handle, EPOLLERR);
	expect_error(11, 0);
	expect_quoted(20, 0x1234, 7);
	/* Too short to say of what. */
	error.quote_len = 7;
	sockets[0].errors[2] = error;
	sockets[0].n_errors = 3;
	icmpflow_host_ready(&icmpflow, sockets[0].handle, EPOLLERR);
	tear_down();
}

static void test_own_error(void)
{
	set_up();
	sockets[0].send_results[0] = sockets[0].send_results[1] = -ENETUNREACH;
	ping(NEAR4, FAR4, 0x1234, 7, 8);
	g_assert_cmpint(sockets[0].n_sends, ==, 2);
	expect_error(3, 0);
	expect_quoted(20, 0x1234, 7);
	g_assert_cmpuint(counters.value[COUNTER_ICMP_DROPPED], ==, 1);
	sockets[0].send_results[2] = -EAGAIN;
	ping(NEAR4, FAR4, 0x1234, 8, 8);
	g_assert_cmpint(sockets[0].n_sends, ==, 3);
	g_assert_cmpuint(counters.value[COUNTER_ICMP_DROPPED], ==, 2);
	tear_down();
}

/* Sent in fragments all the same, and told. */
static void test_too_big(void)
{
	set_up();
	ping(NEAR6, FAR6, 0x1234, 7, 1400);
	sockets[0].send_results[1] = -EMSGSIZE;
	sockets[0].errors[0] = (struct host_dgram_error){.error = EMSGSIZE, .mtu = 1280};
	sockets[0].n_errors = 1;
	ping(NEAR6, FAR6, 0x1234, 8, 1400);
	g_assert_cmpint(sockets[0].n_sends, ==, 3);
	g_assert_false(sockets[0].sent.dont_fragment);
	expect_error(2, 0);
	g_assert_cmpuint(get16(frame_transport(&frame) + 6), ==, 1280);
	expect_quoted(40, 0x1234, 8);
	tear_down();
}

/* One too big, behind another's error: neither costs it. */
static void test_too_big_behind_error(void)
{
	static const uint8_t quote[8] = {128, 0, 0, 0, 0x42, 0x42, 0, 7};

	set_up();
	ping(NEAR6, FAR6, 0x1234, 7, 1400);
	sockets[0].send_results[1] = -ECONNREFUSED;
	sockets[0].send_results[2] = -EMSGSIZE;
	sockets[0].errors[0] = (struct host_dgram_error){
		.error = EHOSTUNREACH,
		.addr = addr_of(FAR6),
		.icmp_family = AF_INET6,
		.icmp_type = 1,
		.icmp_code = 3,
		.offender = addr_of("2001:db8::fe"),
		.quote_len = sizeof(quote),
	};
	memcpy(sockets[0].errors[0].quote, quote, sizeof(quote));
	sockets[0].n_errors = 1;
	ping(NEAR6, FAR6, 0x1234, 8, 1400);
	g_assert_cmpint(sockets[0].n_sends, ==, 4);
	g_assert_false(sockets[0].sent.dont_fragment);
	expect_error(1, 3);
	expect_quoted(40, 0x1234, 7);
	tear_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/icmpflow/request4", test_request4);
	g_test_add_func("/icmpflow/request6", test_request6);
	g_test_add_func("/icmpflow/reply", test_reply);
	g_test_add_func("/icmpflow/not-a-reply", test_not_a_reply);
	g_test_add_func("/icmpflow/many-replies", test_many_replies);
	g_test_add_func("/icmpflow/broken-socket", test_broken_socket);
	g_test_add_func("/icmpflow/never-leaves", test_never_leaves);
	g_test_add_func("/icmpflow/forbidden", test_forbidden);
	g_test_add_func("/icmpflow/no-family", test_no_family);
	g_test_add_func("/icmpflow/shortage", test_shortage);
	g_test_add_func("/icmpflow/evicted", test_evicted);
	g_test_add_func("/icmpflow/idle", test_idle);
	g_test_add_func("/icmpflow/earlier-error", test_earlier_error);
	g_test_add_func("/icmpflow/own-error", test_own_error);
	g_test_add_func("/icmpflow/too-big", test_too_big);
	g_test_add_func("/icmpflow/too-big-behind-error", test_too_big_behind_error);
	return g_test_run();
}
