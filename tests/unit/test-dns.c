/* SPDX-License-Identifier: Apache-2.0 */
/* The DNS forwarder on a fake host whose nameservers the test plays, and a simulated clock. */
#include "dns/dns.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "dns/internal.h"
#include "dns/message.h"
#include "tests/support/fake_link.h"
#include "tests/unit/frames.h"
#include "wire/vnet.h"

#define SOCKETS_MAX 4096
/* A question's length in make_query(). */
#define NAME "\7example\3org\0\0\1\0\1"

struct fake_socket {
	bool is_open, has_source;
	struct ip_addr peer;
	struct handle handle;
	GQueue sent, incoming; /* of GByteArray */
	int error;
};

static struct fake_socket sockets[SOCKETS_MAX];
static int n_opened, n_open, n_sends, n_calls, n_changes, open_error, send_error;
static bool is_one_turn; /* it goes on */
static size_t too_long;  /* for any datagram; 0: nothing is */
static struct host_nameserver servers[HOST_NAMESERVERS_MAX];
static int n_servers; /* 0: they are being looked for */
static GString *said;

static struct host host;
static struct fake_link fake;
static struct egress egress;
static struct counters counters;
static struct policy policy;
static struct icmp_limit limit;
static struct loop loop;
static struct dns *dns;
static uint8_t buffer[VNET_HEADER_LEN + FRAME_MAX];

/* ---- the host ---- */

static int fake_open(struct host *h, const struct host_dgram_config *config, struct handle handle,
	struct host_dgram *ret)
{
	struct fake_socket *socket = &sockets[n_opened];

	if (open_error)
		return open_error;
	g_assert_cmpint(n_opened, <, SOCKETS_MAX);
	g_assert_cmpint(config->protocol, ==, IPPROTO_UDP);
	g_assert_cmpint(config->peer_port, ==, 53);
	g_assert_cmpint(config->family, ==, config->peer->family);
	g_assert_cmpint(handle.kind, ==, HANDLE_DNS);
	*socket = (struct fake_socket){.is_open = true,
		.has_source = config->from,
		.peer = *config->peer,
		.handle = handle};
	*ret = (struct host_dgram){.fd = n_opened++, .family = config->family};
	n_open++;
	return 0;
}

static void forget(GQueue *queue)
{
	GByteArray *datagram;

	while ((datagram = g_queue_pop_head(queue)))
		g_byte_array_unref(datagram);
}

static void fake_close(struct host *h, struct host_dgram *dgram)
{
	struct fake_socket *socket = &sockets[dgram->fd];

	g_assert_true(socket->is_open);
	socket->is_open = false;
	forget(&socket->sent);
	forget(&socket->incoming);
	n_open--;
}

/* One datagram, or a run of them. */
static void note_sent(struct fake_socket *socket, const struct host_datagram *message)
{
	size_t one = message->segment ? message->segment : message->len;

	g_assert_cmpint(message->addr.family, ==, 0);
	for (size_t at = 0; at < message->len; at += one, n_sends++) {
		GByteArray *datagram = g_byte_array_new();

		g_byte_array_append(
			datagram, message->data + at, (guint)MIN(one, message->len - at));
		g_queue_push_tail(&socket->sent, datagram);
	}
}

static int fake_send(
	struct host *h, struct host_dgram *dgram, const struct host_datagram *datagrams, int n)
{
	struct fake_socket *socket = &sockets[dgram->fd];

	g_assert_true(socket->is_open);
	g_assert_cmpint(n, >=, 1);
	g_assert_cmpint(n, <=, HOST_BATCH_MAX);
	n_calls++;
	if (send_error)
		return send_error;
	for (int i = 0; i < n; i++) {
		if (too_long && datagrams[i].len >= too_long)
			return i ? i : -EMSGSIZE;
		note_sent(socket, &datagrams[i]);
	}
	return n;
}

static int fake_recv(
	struct host *h, struct host_dgram *dgram, struct host_datagram *datagrams, int n)
{
	struct fake_socket *socket = &sockets[dgram->fd];
	GByteArray *datagram;
	int i = 0;

	g_assert_true(socket->is_open);
	for (; i < n && (datagram = g_queue_pop_head(&socket->incoming)); i++) {
		g_assert_cmpuint(datagrams[i].len, >=, datagram->len);
		if (datagram->len)
			memcpy(datagrams[i].data, datagram->data, datagram->len);
		datagrams[i].len = datagram->len;
		g_byte_array_unref(datagram);
	}
	return i ? i : socket->error ? -socket->error : 0;
}

static bool fake_error(struct host *h, struct host_dgram *dgram, struct host_dgram_error *ret)
{
	struct fake_socket *socket = &sockets[dgram->fd];

	if (!socket->error)
		return false;
	*ret = (struct host_dgram_error){.error = socket->error, .addr = socket->peer};
	socket->error = 0;
	return true;
}

static int fake_nameservers(
	struct host *h, struct host_nameserver ret[HOST_NAMESERVERS_MAX], int64_t now_ns)
{
	memcpy(ret, servers, sizeof(servers));
	return n_servers ? n_servers : -EAGAIN;
}

static void fake_said(struct host *h, const struct ip_addr *addr, bool answered, int64_t now_ns)
{
	g_string_append_printf(said, "%c%u", answered ? '+' : '-', addr->in6.s6_addr[15]);
}

static int fake_change(struct host *h, int fd, uint32_t events, struct handle handle)
{
	g_assert_true(sockets[fd].is_open);
	g_assert_cmpuint(events, ==, EPOLLIN | EPOLLERR | (uint32_t)EPOLLET);
	g_assert_cmpuint(handle_pack(handle), ==, handle_pack(sockets[fd].handle));
	n_changes++;
	return 0;
}

static const struct host_ops host_ops = {
	.change = fake_change,
	.dgram_open = fake_open,
	.dgram_close = fake_close,
	.dgram_send = fake_send,
	.dgram_recv = fake_recv,
	.dgram_error = fake_error,
	.nameservers = fake_nameservers,
	.nameserver_said = fake_said,
};

static struct ip_addr address(const char *text)
{
	struct ip_addr addr = {.family = AF_INET6};
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return ip_addr_of_v4(v4);
	g_assert_cmpint(inet_pton(AF_INET6, text, &addr.in6), ==, 1);
	return addr;
}

static void add_server(const char *text)
{
	servers[n_servers].addr = address(text);
	servers[n_servers].position = (uint8_t)n_servers;
	n_servers++;
}

static void set_up_with(uint32_t max_sockets)
{
	static const struct siphash_key key = {{1, 2}};
	const struct flow_config config = {
		.policy = &policy,
		.egress = &egress,
		.host = &host,
		.loop = &loop,
		.counters = &counters,
		.icmp_limit = &limit,
		.key = &key,
		.max_sockets = max_sockets,
	};

	host.ops = &host_ops;
	memset(&counters, 0, sizeof(counters));
	memset(servers, 0, sizeof(servers));
	n_opened = n_open = n_sends = n_calls = n_changes = 0;
	open_error = send_error = n_servers = 0;
	too_long = 0;
	is_one_turn = false;
	said = g_string_new(NULL);
	loop = (struct loop){.now_ns = 1000 * NS_PER_SEC};
	fake_link_init(&fake);
	policy = (struct policy){
		.network.s_addr = htonl(0x0a000200),
		.netmask.s_addr = htonl(0xffffff00),
		.gateway.s_addr = htonl(0x0a000202),
		.dns.s_addr = htonl(0x0a000203),
		.gateway6 = address("fd00::2").in6,
		.dns6 = address("fd00::3").in6,
		.dns_enabled = true,
		.ipv6 = true,
	};
	icmp_limit_init(&limit, &counters);
	egress_init(&egress, &policy, &fake.link, 65520, 0, &counters);
	dns = dns_new(&config);
	g_assert_nonnull(dns);
}

static void set_up(void)
{
	set_up_with(64);
	add_server("192.0.2.1");
}

static void pass(int64_t ns)
{
	loop.now_ns += ns;
	timer_heap_expire(&loop.timers, loop.now_ns);
	dns_finish(dns);
}

/* Nothing is left of what is over. */
static void assert_over(void)
{
	g_assert_cmpuint(dns->n_queries, ==, 0);
	g_assert_cmpuint(dns->n_bytes, ==, 0);
	pass(NS_PER_SEC);
	g_assert_cmpuint(dns->n_sockets, ==, 0);
	g_assert_cmpint(n_open, ==, 0);
	/* The inbox's memory has gone back. */
	pass(NS_PER_SEC);
	pass(NS_PER_SEC);
	g_assert_cmpint(timer_heap_next(&loop.timers), ==, CLOCK_NEVER);
}

static void forget_frames(void)
{
	GByteArray *sent;

	while ((sent = fake_link_take(&fake)))
		g_byte_array_unref(sent);
}

static void tear_down(void)
{
	dns_free(dns);
	g_assert_cmpint(n_open, ==, 0);
	g_assert_cmpint(timer_heap_next(&loop.timers), ==, CLOCK_NEVER);
	g_assert_null(fake_link_take(&fake));
	fake.link.ops->close(&fake.link);
	g_string_free(said, true);
}

static uint64_t counter(enum counter which)
{
	return counters.value[which];
}

/* ---- the container ---- */

/* A query with that id for NAME; returns its length. */
static size_t make_query(uint8_t *at, uint16_t id)
{
	static const uint8_t fixed[] = {1, 0x20, 0, 1, 0, 0, 0, 0, 0, 0};

	put16(at, id);
	memcpy(at + 2, fixed, sizeof(fixed));
	memcpy(at + 12, NAME, sizeof(NAME) - 1);
	return 12 + sizeof(NAME) - 1;
}

static void frame_from(struct frame *frame, bool v6, uint16_t port, size_t len)
{
	uint8_t *udp;

	frame_eth(frame, v6 ? 0x86dd : 0x0800);
	frame->b[14] = v6 ? 0x60 : 0x45;
	if (v6) {
		put16(frame->b + 18, (uint32_t)len + 8);
		frame->b[20] = 17;
		frame->b[21] = 64;
		inet_pton(AF_INET6, "fd00::64", frame->b + 22);
		inet_pton(AF_INET6, "fd00::3", frame->b + 38);
	} else {
		put16(frame->b + 16, (uint32_t)len + 28);
		frame->b[22] = 64;
		frame->b[23] = 17;
		inet_pton(AF_INET, "10.0.2.100", frame->b + 26);
		inet_pton(AF_INET, "10.0.2.3", frame->b + 30);
		frame_fix_ip4(frame);
	}
	udp = frame_transport(frame);
	put16(udp, port);
	put16(udp + 2, 53);
	put16(udp + 4, (uint32_t)len + 8);
	put16(udp + 6, 0xffff);
	frame->len = (size_t)(udp - frame->b) + 8 + len;
}

/* From port `port`; a run of datagrams of that size with `segment`. */
static void say(bool v6, uint16_t port, const uint8_t *data, size_t len, uint16_t segment)
{
	static struct frame frame;
	struct vnet_header vnet = {.gso_type = segment ? VNET_GSO_UDP_L4 : VNET_GSO_NONE,
		.gso_size = le16_of(segment)};
	struct packet packet;

	frame_from(&frame, v6, port, len);
	memcpy(frame_transport(&frame) + 8, data, len);
	memcpy(buffer, &vnet, sizeof(vnet));
	memcpy(buffer + VNET_HEADER_LEN, frame.b, frame.len);
	g_assert_cmpint(packet_parse(frame.b, frame.len, &packet), ==, PACKET_OK);
	dns_input(dns, buffer + VNET_HEADER_LEN, &packet);
	if (!is_one_turn)
		dns_finish(dns);
}

static void ask_from(bool v6, uint16_t port, uint16_t id)
{
	uint8_t data[512];

	say(v6, port, data, make_query(data, id), 0);
}

/* The next answer: to that port, with that id and length, from the address that was asked. */
static void expect_answer(bool v6, uint16_t port, uint16_t id, size_t len)
{
	static struct frame frame;
	GByteArray *sent = fake_link_take(&fake);
	uint8_t *udp;

	g_assert_nonnull(sent);
	frame.len = sent->len;
	memcpy(frame.b, sent->data, sent->len);
	g_byte_array_unref(sent);
	g_assert_true(frame_is_ip4(&frame) == !v6);
	g_assert_cmpmem(frame.b, 6, frame_near_mac, 6);
	udp = frame_transport(&frame);
	if (v6)
		g_assert_cmpmem(frame.b + 22, 16, &policy.dns6, 16);
	else
		g_assert_cmpmem(frame.b + 26, 4, &policy.dns, 4);
	g_assert_cmpuint(frame.b[v6 ? 53 : 33], ==, 100);
	g_assert_cmpuint(get16(udp), ==, 53);
	g_assert_cmpuint(get16(udp + 2), ==, port);
	g_assert_cmpuint(get16(udp + 4), ==, len + 8);
	g_assert_cmphex(frame_transport_sum(&frame, frame.len), ==, 0xffff);
	g_assert_cmphex(get16(udp + 8), ==, id);
	for (size_t i = 12 + sizeof(NAME) - 1; i < len; i++)
		g_assert_cmpuint(udp[8 + i], ==, (uint8_t)i);
}

static void expect_refusal(bool v6)
{
	GByteArray *sent = fake_link_take(&fake);
	const uint8_t *icmp;

	g_assert_nonnull(sent);
	g_assert_cmpuint(sent->data[v6 ? 20 : 23], ==, v6 ? 58 : 1);
	icmp = sent->data + (v6 ? 54 : 34);
	g_assert_cmpuint(icmp[0], ==, v6 ? 1 : 3);
	g_assert_cmpuint(icmp[1], ==, v6 ? 4 : 3);
	icmp += 8 + (v6 ? 40 : 20); /* UDP's header in the quote */
	g_assert_cmpuint(get16(icmp), ==, 4000);
	g_assert_cmpuint(get16(icmp + 2), ==, 53);
	g_byte_array_unref(sent);
}

/* ---- the nameservers ---- */

/* What came on that socket first; to be freed. */
static GByteArray *take_sent(int socket)
{
	GByteArray *query = g_queue_pop_head(&sockets[socket].sent);

	g_assert_nonnull(query);
	return query;
}

static uint16_t expect_sent(int socket, const char *peer)
{
	struct ip_addr addr = address(peer);
	GByteArray *query = take_sent(socket);
	uint8_t wanted[512];
	uint16_t id = (uint16_t)get16(query->data);

	g_assert_cmpmem(&sockets[socket].peer.in6, 16, &addr.in6, 16);
	g_assert_cmpmem(query->data, query->len, wanted, make_query(wanted, id));
	g_byte_array_unref(query);
	return id;
}

static void put_in(int socket, const uint8_t *data, size_t len)
{
	GByteArray *datagram = g_byte_array_new();

	g_byte_array_append(datagram, data, (guint)len);
	g_queue_push_tail(&sockets[socket].incoming, datagram);
}

static void give(int socket, const uint8_t *data, size_t len)
{
	put_in(socket, data, len);
	dns_host_ready(dns, sockets[socket].handle, EPOLLIN);
	dns_finish(dns);
}

/* An answer of that length. */
static size_t make_answer(uint8_t *at, uint16_t id, size_t len)
{
	size_t begin = make_query(at, id);

	at[2] |= 0x80;
	for (size_t i = begin; i < len; i++)
		at[i] = (uint8_t)i;
	return len;
}

static void reply(int socket, uint16_t id, size_t len)
{
	static uint8_t data[65536];

	give(socket, data, make_answer(data, id, len));
}

/* Answers what came on that socket first; returns the id under which the container gets it. */
static int take_answered(int socket)
{
	GByteArray *query = take_sent(socket), *answer;
	int id;

	reply(socket, (uint16_t)get16(query->data), 100);
	g_byte_array_unref(query);
	answer = fake_link_take(&fake);
	g_assert_nonnull(answer);
	id = (int)get16(answer->data + 14 + 20 + 8);
	g_byte_array_unref(answer);
	return id;
}

static void refuse(int socket)
{
	sockets[socket].error = ECONNREFUSED;
	dns_host_ready(dns, sockets[socket].handle, EPOLLERR);
	dns_finish(dns);
}

/* ---- the tests ---- */

static void test_forwards(void)
{
	static const struct {
		bool v6;
		const char *server;
	} rows[] = {{false, "192.0.2.1"}, {true, "192.0.2.1"}, {false, "2001:db8::1"},
		{true, "fe80::1"}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint16_t id;

		set_up_with(64);
		add_server(rows[i].server);
		ask_from(rows[i].v6, 4000, 0x1234);
		g_assert_cmpint(n_sends, ==, 1);
		id = expect_sent(0, rows[i].server);
		reply(0, id, 400);
		expect_answer(rows[i].v6, 4000, 0x1234, 400);
		g_assert_cmpstr(said->str, ==, "+1");
		reply(0, id, 400); /* once */
		g_assert_cmpuint(counter(COUNTER_DNS_ANSWERS), ==, 1);
		g_assert_cmpuint(counter(COUNTER_DNS_STRANGERS), ==, 1);
		assert_over();
		tear_down();
	}
}

/* EDNS0 and TC are none of our business, nor is the size. */
static void test_sizes(void)
{
	static const size_t sizes[] = {12 + sizeof(NAME) - 1, 512, 1232, 4096, 65000};

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		ask_from(false, 4000, 7);
		reply(0, expect_sent(0, "192.0.2.1"), sizes[i]);
		expect_answer(false, 4000, 7, sizes[i]);
	}
	assert_over();
	tear_down();
}

/* RFC 5452: neither id nor port are those that the container chose, nor stay for long. */
static void test_ids_and_ports(void)
{
	uint16_t id, last = 0;
	int n_same = 0;

	set_up();
	for (int i = 0; i < 640; i++) {
		ask_from(false, 4000, 1);
		id = expect_sent(n_opened - 1, "192.0.2.1");
		n_same += id == last || id == 1;
		last = id;
		reply(n_opened - 1, id, 100);
		expect_answer(false, 4000, 1, 100);
	}
	g_assert_cmpint(n_same, <, 5);
	g_assert_cmpint(n_opened, ==, 10);
	g_assert_cmpint(n_open, ==, 0); /* the tenth has served its time, too */
	/* One that has nothing to do is closed before. */
	ask_from(false, 4000, 1);
	reply(10, expect_sent(10, "192.0.2.1"), 100);
	expect_answer(false, 4000, 1, 100);
	g_assert_cmpint(n_open, ==, 1);
	assert_over();
	/* And one that always has something to do, after a second. */
	for (int i = 0; i < 6; i++) {
		ask_from(false, 4000, 1);
		reply(n_opened - 1, expect_sent(n_opened - 1, "192.0.2.1"), 100);
		expect_answer(false, 4000, 1, 100);
		g_assert_cmpint(n_opened, ==, i < 4 ? 12 : 13);
		pass(NS_PER_SEC / 4);
	}
	assert_over();
	tear_down();
}

static void test_source(void)
{
	static const struct {
		const char *server;
		bool has_source;
	} rows[] = {{"192.0.2.1", true}, {"2001:db8::1", true}, {"127.0.0.53", false},
		{"::1", false}, {"0.0.0.0", false}, {"fe80::1", false}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		set_up_with(64);
		policy.has_outbound = policy.has_outbound6 = true;
		policy.outbound = address("198.51.100.1");
		policy.outbound6 = address("2001:db8:1::1");
		add_server(rows[i].server);
		ask_from(false, 4000, 1);
		g_assert_true(sockets[0].has_source == rows[i].has_source);
		tear_down();
	}
}

/* ---- failover ---- */

static void test_silent(void)
{
	uint16_t first, second;

	set_up();
	add_server("2001:db8::2");
	ask_from(false, 4000, 9);
	first = expect_sent(0, "192.0.2.1");
	pass(500 * NS_PER_MS - 1);
	g_assert_cmpint(n_sends, ==, 1);
	pass(1);
	g_assert_cmpint(n_sends, ==, 2);
	second = expect_sent(1, "2001:db8::2");
	g_assert_cmpstr(said->str, ==, "-1");
	reply(1, second, 100);
	expect_answer(false, 4000, 9, 100);
	g_assert_cmpstr(said->str, ==, "-1+2");
	/* It is late, and nobody waits any more. */
	reply(0, first, 100);
	g_assert_cmpuint(counter(COUNTER_DNS_FAILED_OVER), ==, 1);
	g_assert_cmpuint(counter(COUNTER_DNS_ANSWERS), ==, 1);
	assert_over();
	tear_down();
}

/* Who was asked first may still be the first to answer. */
static void test_slow(void)
{
	uint16_t first;

	set_up();
	add_server("192.0.2.2");
	ask_from(false, 4000, 9);
	first = expect_sent(0, "192.0.2.1");
	pass(700 * NS_PER_MS);
	expect_sent(1, "192.0.2.2");
	reply(0, first, 100);
	expect_answer(false, 4000, 9, 100);
	g_assert_cmpstr(said->str, ==, "-1+1");
	assert_over();
	tear_down();
}

static void test_all_silent(void)
{
	set_up();
	add_server("192.0.2.2");
	add_server("192.0.2.3");
	ask_from(false, 4000, 9);
	for (int i = 0; i < 20; i++)
		pass(500 * NS_PER_MS - (i == 19));
	g_assert_cmpint(n_sends, ==, 3);
	g_assert_cmpstr(said->str, ==, "-1-2-3");
	g_assert_cmpuint(dns->n_queries, ==, 1);
	pass(1);
	g_assert_cmpuint(counter(COUNTER_DNS_UNANSWERED), ==, 1);
	assert_over();
	tear_down();
}

static void test_refused(void)
{
	set_up();
	add_server("192.0.2.2");
	ask_from(false, 4000, 9);
	ask_from(false, 4000, 10);
	refuse(0);
	g_assert_cmpint(n_sends, ==, 4); /* what refuses one refuses all */
	g_assert_cmpint(n_open, ==, 1);
	/* In no order. */
	g_assert_cmpint(take_answered(1) + take_answered(1), ==, 9 + 10);
	g_assert_cmpstr(said->str, ==, "-1+2+2");
	assert_over();
	tear_down();
}

static void test_all_refused(void)
{
	for (int v6 = 0; v6 < 2; v6++) {
		set_up();
		add_server("2001:db8::2");
		ask_from(v6, 4000, 9);
		refuse(0);
		g_assert_null(fake_link_take(&fake));
		refuse(1);
		expect_refusal(v6);
		g_assert_cmpuint(counter(COUNTER_DNS_REFUSED), ==, 1);
		assert_over();
		/* Likewise when there is no way to them. */
		open_error = -ENETUNREACH;
		ask_from(v6, 4000, 9);
		expect_refusal(v6);
		open_error = 0;
		send_error = -EPERM;
		ask_from(v6, 4000, 9);
		expect_refusal(v6);
		g_assert_cmpstr(said->str, ==, "-1-2-1-2-1-2");
		assert_over();
		tear_down();
	}
}

/* The first one is silent, and may still answer: nobody is refused. */
static void test_one_refused(void)
{
	uint16_t first;

	set_up();
	add_server("192.0.2.2");
	ask_from(false, 4000, 9);
	first = expect_sent(0, "192.0.2.1");
	pass(500 * NS_PER_MS);
	refuse(1);
	pass(5 * NS_PER_SEC);
	g_assert_cmpint(n_sends, ==, 2);
	reply(0, first, 100);
	expect_answer(false, 4000, 9, 100);
	assert_over();
	tear_down();
}

/* ---- who is heard ---- */

static void test_strangers(void)
{
	uint8_t data[512];
	uint64_t n = 0;
	uint16_t id;
	size_t len;

	set_up();
	ask_from(false, 4000, 9);
	id = expect_sent(0, "192.0.2.1");
	len = make_answer(data, id, 100);
	put16(data, id + 1U);
	give(0, data, len);
	n++;
	make_answer(data, id, 100);
	data[13] ^= 0x20; /* upper case */
	give(0, data, len);
	n++;
	make_answer(data, id, 100);
	data[2] &= 0x7f; /* a query */
	give(0, data, len);
	n++;
	make_answer(data, id, 100);
	data[2] |= 0x28; /* another opcode */
	give(0, data, len);
	n++;
	make_answer(data, id, 100);
	data[5] = 2; /* two questions */
	give(0, data, len);
	n++;
	make_answer(data, id, 100);
	data[5] = 0; /* none, and no error */
	give(0, data, len);
	n++;
	make_answer(data, id, 100);
	for (len = 0; len < 12 + sizeof(NAME) - 1; len++, n++)
		give(0, data, len);
	g_assert_cmpuint(counter(COUNTER_DNS_STRANGERS), ==, n);
	g_assert_cmpuint(counter(COUNTER_DNS_ANSWERS), ==, 0);
	reply(0, id, 100);
	expect_answer(false, 4000, 9, 100);
	assert_over();
	tear_down();
}

/* Errors may come without the question, and are passed on. */
static void test_errors(void)
{
	uint8_t data[512];

	set_up();
	for (uint8_t code = 1; code < 6; code++) {
		ask_from(false, 4000, 9);
		make_answer(data, expect_sent(0, "192.0.2.1"), 12);
		data[3] = code;
		data[5] = 0;
		give(0, data, 12);
		expect_answer(false, 4000, 9, 12);
	}
	assert_over();
	tear_down();
}

/* A stale event is nobody's. */
static void test_stale_event(void)
{
	struct handle handle;

	set_up();
	ask_from(false, 4000, 9);
	handle = sockets[0].handle;
	handle.generation++;
	dns_host_ready(dns, handle, EPOLLIN | EPOLLERR);
	handle.index = 1000000;
	dns_host_ready(dns, handle, EPOLLIN | EPOLLERR);
	handle.index = 63;
	dns_host_ready(dns, handle, EPOLLIN | EPOLLERR);
	reply(0, expect_sent(0, "192.0.2.1"), 100);
	expect_answer(false, 4000, 9, 100);
	tear_down();
}

/* ---- what comes ---- */

static void test_no_query(void)
{
	uint8_t data[512];

	set_up();
	make_query(data, 1);
	for (size_t len = 0; len < 12; len++)
		say(false, 4000, data, len, 0);
	say(true, 4000, data, make_answer(data, 1, 100), 0);
	g_assert_cmpuint(counter(COUNTER_DNS_QUERIES), ==, 13);
	g_assert_cmpuint(counter(COUNTER_DNS_DROPPED), ==, 13);
	g_assert_cmpint(n_opened, ==, 0);
	assert_over();
	tear_down();
}

/* What cannot be read is the nameserver's to judge; its answer is known by the id. */
static void test_odd_query(void)
{
	static const uint8_t odd[] = {0, 5, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0xc0, 0x0c, 0xff};
	uint8_t data[sizeof(odd)];
	GByteArray *query;

	set_up();
	say(false, 4000, odd, sizeof(odd), 0);
	query = take_sent(0);
	g_assert_cmpmem(query->data + 2, query->len - 2, odd + 2, sizeof(odd) - 2);
	memcpy(data, query->data, sizeof(odd));
	data[2] |= 0x80;
	g_byte_array_unref(query);
	give(0, data, 12);
	expect_answer(false, 4000, 5, 12);
	assert_over();
	tear_down();
}

/* The client asks again: the next one is asked, then the same ones; answered is it once. */
static void test_retransmission(void)
{
	uint16_t ids[2];

	set_up();
	add_server("192.0.2.2");
	ask_from(false, 4000, 9);
	ids[0] = expect_sent(0, "192.0.2.1");
	pass(100 * NS_PER_MS);
	ask_from(false, 4000, 9);
	ids[1] = expect_sent(1, "192.0.2.2");
	for (int i = 0; i < 4; i++) {
		ask_from(false, 4000, 9);
		g_assert_cmpuint(
			expect_sent(i % 2, i % 2 ? "192.0.2.2" : "192.0.2.1"), ==, ids[i % 2]);
	}
	g_assert_cmpuint(dns->n_queries, ==, 1);
	ask_from(false, 4001, 9); /* somebody else */
	ask_from(false, 4000, 8);
	ask_from(true, 4000, 9);
	g_assert_cmpuint(dns->n_queries, ==, 4);
	reply(1, ids[1], 100);
	expect_answer(false, 4000, 9, 100);
	g_assert_cmpuint(counter(COUNTER_DNS_ANSWERS), ==, 1);
	tear_down();
}

static void test_run(void)
{
	uint8_t data[1024];
	size_t len = make_query(data, 1);

	set_up();
	for (uint16_t i = 1; i < 5; i++)
		make_query(data + i * len, i + 1U);
	say(false, 4000, data, 5 * len, (uint16_t)len);
	g_assert_cmpint(n_sends, ==, 5);
	for (uint16_t i = 0; i < 5; i++) {
		reply(0, expect_sent(0, "192.0.2.1"), 100);
		expect_answer(false, 4000, i + 1U, 100);
	}
	assert_over();
	tear_down();
}

/* ---- who the nameservers are ---- */

static void test_servers_unknown(void)
{
	set_up_with(64);
	ask_from(false, 4000, 9);
	ask_from(false, 4000, 9);
	ask_from(false, 4000, 10);
	g_assert_cmpint(n_opened, ==, 0);
	add_server("192.0.2.1");
	dns_servers_known(dns);
	dns_finish(dns);
	g_assert_cmpint(n_sends, ==, 2);
	reply(0, expect_sent(0, "192.0.2.1"), 100);
	reply(0, expect_sent(0, "192.0.2.1"), 100);
	expect_answer(false, 4000, 9, 100);
	expect_answer(false, 4000, 10, 100);
	assert_over();
	/* Nobody says so, but the time is over after which the old ones are good. */
	n_servers = 0;
	ask_from(false, 4000, 9);
	n_servers = 1;
	pass(HOST_NAMESERVERS_WAIT_NS - 1);
	g_assert_cmpint(n_sends, ==, 2);
	pass(1);
	g_assert_cmpint(n_sends, ==, 3);
	/* While a query goes on to the next one, too. */
	n_servers = 0;
	pass(500 * NS_PER_MS);
	add_server("192.0.2.1");
	add_server("192.0.2.2");
	dns_servers_known(dns);
	dns_finish(dns);
	g_assert_cmpint(n_sends, ==, 4);
	tear_down();
}

/* ---- many ---- */

static void ask_many(int n)
{
	for (int i = 0; i < n; i++)
		ask_from(false, (uint16_t)(4000 + i / 60000), (uint16_t)i);
}

static int cmp_ids(gconstpointer a, gconstpointer b)
{
	return *(const uint16_t *)a - *(const uint16_t *)b;
}

/* Answers everything that was sent; the ids of one socket differ. Returns how many there were. */
static int answer_all(uint32_t most_per_socket)
{
	int n = 0;

	for (int i = 0; i < n_opened; i++) {
		GArray *ids = g_array_new(false, false, sizeof(uint16_t));
		GByteArray *query;

		while ((query = g_queue_pop_head(&sockets[i].sent))) {
			uint16_t id = (uint16_t)get16(query->data);

			g_array_append_val(ids, id);
			g_byte_array_unref(query);
		}
		g_assert_cmpuint(ids->len, <=, most_per_socket);
		g_array_sort(ids, cmp_ids);
		for (guint k = 0; k < ids->len; k++, n++) {
			uint16_t id = g_array_index(ids, uint16_t, k);

			if (k)
				g_assert_cmpuint(id, !=, g_array_index(ids, uint16_t, k - 1));
			reply(i, id, 100);
			g_byte_array_unref(fake_link_take(&fake));
		}
		g_array_free(ids, true);
	}
	return n;
}

static void test_many(void)
{
	set_up_with(1000);
	add_server("192.0.2.1");
	ask_many(10000);
	g_assert_cmpuint(dns->n_queries, ==, 10000);
	g_assert_cmpint(n_open, ==, 157);
	g_assert_cmpint(answer_all(64), ==, 10000);
	g_assert_cmpuint(counter(COUNTER_DNS_ANSWERS), ==, 10000);
	assert_over();
	tear_down();
}

/* With few sockets they are shared by more. */
static void test_few_sockets(void)
{
	set_up_with(10);
	add_server("192.0.2.1");
	ask_many(5000);
	g_assert_cmpint(n_open, ==, 10);
	g_assert_cmpint(answer_all(510), ==, 5000);
	assert_over();
	tear_down();
}

/* There is no further event for what one event leaves. */
static void test_many_answers_at_once(void)
{
	uint8_t data[100];
	GByteArray *query;
	int n_events = 0;

	set_up_with(1);
	add_server("192.0.2.1");
	ask_many(1000);
	while ((query = g_queue_pop_head(&sockets[0].sent))) {
		put_in(0, data, make_answer(data, (uint16_t)get16(query->data), sizeof(data)));
		g_byte_array_unref(query);
	}
	do {
		n_changes = 0;
		dns_host_ready(dns, sockets[0].handle, EPOLLIN);
		n_events++;
	} while (n_changes);
	g_assert_cmpuint(counter(COUNTER_DNS_ANSWERS), ==, 1000);
	g_assert_cmpint(n_events, >, 1);
	forget_frames();
	assert_over();
	tear_down();
}

/* What a turn brings goes out together, equal ones as one run; and so do answers, by who asked. */
static void test_batches(void)
{
	static uint8_t data[65536];
	uint16_t ids[20];

	set_up();
	fake.link.offloads = LINK_CSUM | LINK_USO;
	is_one_turn = true;
	for (uint16_t i = 0; i < 20; i++)
		ask_from(false, 4000 + i % 2, i);
	g_assert_cmpint(n_sends, ==, 0);
	dns_finish(dns);
	g_assert_cmpint(n_sends, ==, 20);
	g_assert_cmpint(n_calls, ==, 1);
	for (int i = 0; i < 20; i++)
		ids[i] = expect_sent(0, "192.0.2.1");
	for (int i = 0; i < 20; i++)
		put_in(0, data, make_answer(data, ids[i], i < 16 ? 100 : 101));
	for (int turn = 0; turn < 2; turn++)
		dns_host_ready(dns, sockets[0].handle, EPOLLIN);
	g_assert_cmpuint(counter(COUNTER_DNS_ANSWERS), ==, 20);
	/* The first batch of four, then larger ones. */
	g_assert_cmpuint(counter(COUNTER_FRAMES_OUT), <=, 2 + 2 + 4);
	fake.link.ops->close(&fake.link);
	assert_over();
	tear_down();
}

/* One that comes twice is passed on once, also in one batch. */
static void test_doubled_answer(void)
{
	uint8_t data[100];
	uint16_t id;

	set_up();
	ask_from(false, 4000, 9);
	id = expect_sent(0, "192.0.2.1");
	put_in(0, data, make_answer(data, id, sizeof(data)));
	reply(0, id, sizeof(data));
	expect_answer(false, 4000, 9, sizeof(data));
	g_assert_null(fake_link_take(&fake));
	g_assert_cmpuint(counter(COUNTER_DNS_STRANGERS), ==, 1);
	assert_over();
	tear_down();
}

/* More than an outbox holds, while there is no way to the first nameserver: each reaches the other
 * one, once. */
static void test_fails_in_one_turn(void)
{
	set_up();
	add_server("192.0.2.2");
	is_one_turn = true;
	send_error = -ENETUNREACH;
	for (uint16_t i = 0; i < 100; i++)
		ask_from(false, (uint16_t)(4000 + i), (uint16_t)(i * 7));
	send_error = 0;
	dns_finish(dns);
	g_assert_cmpint(n_sends, ==, 100);
	g_assert_cmpint(answer_all(64), ==, 100);
	is_one_turn = false;
	assert_over();
	/* Nor to any: each is refused, as fast as ICMP errors may be sent. */
	send_error = -ENETUNREACH;
	for (uint16_t i = 0; i < 10; i++)
		ask_from(false, 4000, i);
	for (uint16_t i = 0; i < 10; i++)
		expect_refusal(false);
	assert_over();
	tear_down();
}

/* What is too long for any datagram of the one nameserver's family says nothing about it. */
static void test_too_long(void)
{
	static uint8_t data[65510];
	size_t len = make_query(data, 5);

	set_up();
	too_long = 65508;
	memset(data + len, 0, sizeof(data) - len);
	is_one_turn = true;
	ask_from(false, 4000, 9);
	say(true, 4000, data, sizeof(data), 0);
	ask_from(false, 4000, 10);
	dns_finish(dns);
	expect_refusal(true);
	g_assert_cmpint(n_sends, ==, 2);
	g_assert_cmpstr(said->str, ==, "");
	g_assert_cmpint(take_answered(0) + take_answered(0), ==, 9 + 10);
	assert_over();
	tear_down();
}

/* There is no room in the socket: it is lost, and the client asks again. */
static void test_no_room(void)
{
	set_up();
	send_error = -EAGAIN;
	ask_from(false, 4000, 9);
	g_assert_cmpuint(counter(COUNTER_UDP_SEND_FULL), ==, 1);
	g_assert_cmpuint(dns->n_queries, ==, 1);
	send_error = 0;
	ask_from(false, 4000, 9);
	reply(0, expect_sent(0, "192.0.2.1"), 100);
	expect_answer(false, 4000, 9, 100);
	assert_over();
	tear_down();
}

static void test_no_descriptor(void)
{
	set_up();
	ask_many(10);
	open_error = -EMFILE;
	for (uint16_t i = 0; i < 100; i++)
		ask_from(true, 4000, i);
	g_assert_cmpint(n_open, ==, 1);
	g_assert_cmpint(answer_all(110), ==, 110);
	assert_over();
	ask_from(false, 4000, 9); /* not even one: silence */
	g_assert_cmpuint(counter(COUNTER_DNS_REFUSED), ==, 1);
	g_assert_null(strchr(said->str, '-'));
	assert_over();
	tear_down();
}

/* The sockets of a nameserver that is asked no more make room for another's. */
static void test_sockets_change_hands(void)
{
	set_up_with(1);
	add_server("192.0.2.1");
	ask_from(false, 4000, 9);
	reply(0, expect_sent(0, "192.0.2.1"), 100);
	expect_answer(false, 4000, 9, 100);
	n_servers = 0;
	add_server("192.0.2.2");
	ask_from(false, 4000, 9);
	reply(1, expect_sent(1, "192.0.2.2"), 100);
	expect_answer(false, 4000, 9, 100);
	assert_over();
	tear_down();
}

static void test_evicted(void)
{
	uint8_t data[60000];
	size_t len = make_query(data, 1);

	set_up_with(1000);
	add_server("192.0.2.1");
	ask_many(16384 + 100);
	g_assert_cmpuint(dns->n_queries, ==, 16384);
	g_assert_cmpuint(counter(COUNTER_DNS_EVICTED), ==, 100);
	memset(data + len, 0, sizeof(data) - len);
	for (uint16_t i = 0; i < 1000; i++) {
		put16(data, i);
		say(true, 4000, data, sizeof(data), 0);
		g_assert_cmpuint(dns->n_bytes, <=, 16 * 1024 * 1024);
	}
	g_assert_cmpuint(dns->n_queries, >, 100);
	for (int i = 0; i < 21; i++)
		pass(500 * NS_PER_MS);
	assert_over();
	tear_down();
}

/* What is under way at the end is forgotten. */
static void test_free(void)
{
	set_up();
	ask_many(100);
	n_servers = 0;
	ask_from(true, 4000, 9);
	tear_down();
}

/* ---- messages ---- */

static void test_question(void)
{
	static const struct {
		const char *question;
		size_t len, end;
	} rows[] = {
#define ROW(text, end) {text, sizeof(text) - 1, end}
		ROW(NAME, 12 + sizeof(NAME) - 1),
		ROW(NAME "more", 12 + sizeof(NAME) - 1),
		ROW("\0\0\2\0\1", 17),
		ROW("", 0),
		ROW("\0\0\2\0", 0),
		ROW("\7example\3or", 0),
		ROW("\7example", 0),
		ROW("\300\14\0\1\0\1", 0),
		ROW("\100aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\0\0\1\0"
		    "\1",
			0),
#undef ROW
	};
	uint8_t data[1024];
	size_t at;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		make_query(data, 1);
		memcpy(data + 12, rows[i].question, rows[i].len);
		g_assert_cmpuint(dns_question_end(data, 12 + rows[i].len), ==, rows[i].end);
	}
	data[5] = 2;
	g_assert_cmpuint(dns_question_end(data, 100), ==, 0);
	/* A name has 255 bytes at most. */
	make_query(data, 1);
	memset(data + 12, 0, sizeof(data) - 12);
	for (at = 12; at < 12 + 254; at += 2)
		data[at] = 1;
	g_assert_cmpuint(dns_question_end(data, 1000), ==, 12 + 255 + 4);
	data[at] = 1;
	g_assert_cmpuint(dns_question_end(data, 1000), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/dns/forwards", test_forwards);
	g_test_add_func("/dns/sizes", test_sizes);
	g_test_add_func("/dns/ids-and-ports", test_ids_and_ports);
	g_test_add_func("/dns/source", test_source);
	g_test_add_func("/dns/silent", test_silent);
	g_test_add_func("/dns/slow", test_slow);
	g_test_add_func("/dns/all-silent", test_all_silent);
	g_test_add_func("/dns/refused", test_refused);
	g_test_add_func("/dns/all-refused", test_all_refused);
	g_test_add_func("/dns/one-refused", test_one_refused);
	g_test_add_func("/dns/strangers", test_strangers);
	g_test_add_func("/dns/errors", test_errors);
	g_test_add_func("/dns/stale-event", test_stale_event);
	g_test_add_func("/dns/no-query", test_no_query);
	g_test_add_func("/dns/odd-query", test_odd_query);
	g_test_add_func("/dns/retransmission", test_retransmission);
	g_test_add_func("/dns/run", test_run);
	g_test_add_func("/dns/servers-unknown", test_servers_unknown);
	g_test_add_func("/dns/many", test_many);
	g_test_add_func("/dns/few-sockets", test_few_sockets);
	g_test_add_func("/dns/many-answers-at-once", test_many_answers_at_once);
	g_test_add_func("/dns/batches", test_batches);
	g_test_add_func("/dns/doubled-answer", test_doubled_answer);
	g_test_add_func("/dns/fails-in-one-turn", test_fails_in_one_turn);
	g_test_add_func("/dns/too-long", test_too_long);
	g_test_add_func("/dns/no-room", test_no_room);
	g_test_add_func("/dns/no-descriptor", test_no_descriptor);
	g_test_add_func("/dns/sockets-change-hands", test_sockets_change_hands);
	g_test_add_func("/dns/evicted", test_evicted);
	g_test_add_func("/dns/free", test_free);
	g_test_add_func("/dns/question", test_question);
	return g_test_run();
}
