/* SPDX-License-Identifier: Apache-2.0 */
#include "path-fixture.h"

static void test_passed(void)
{
	set_up();
	frame_tcp(&frame, NEAR4, FAR4, 2, 100);
	expect_pass();
	frame_tcp(&frame, NEAR6, FAR6, 2, 100);
	expect_pass();
	frame_udp(&frame, NEAR4, FAR4, 0, "x", 1);
	expect_pass();
	frame_udp(&frame, NEAR6, FAR6, 443, "", 0);
	expect_pass();
	frame_udp(&frame, NEAR4, "255.255.255.255", 9, "x", 1);
	expect_pass();
	frame_udp(&frame, NEAR4, "224.0.0.251", 5353, "x", 1);
	expect_pass();
	frame_udp(&frame, NEAR4, FAR4, 69, "x", 1);
	expect_pass();
	frame_ping(&frame, NEAR4, GATEWAY4);
	expect_pass();
	frame_ping(&frame, NEAR6, GATEWAY6);
	expect_pass();
	frame_arp(&frame);
	expect_pass();
	frame_ns(&frame);
	expect_pass();
	frame_udp(&frame, NEAR4, FAR4, 53, "x", 1);
	put16(frame.b + 40, 0); /* no checksum: RFC 768 */
	expect_pass();
	frame_ip4(&frame, 132, NEAR4, FAR4, "sctp", 4);
	expect_pass();
	tear_down();
}

/* As large as IPv4 allows, and one more. */
static void test_oversized(void)
{
	static uint8_t data[65536];

	set_up();
	frame_udp(&frame, NEAR4, FAR4, 9, data, 65535 - 28);
	expect_pass();
	frame.len = INGRESS_FRAME_MAX + 1; /* padded */
	expect_drop(COUNTER_DROP_OVERSIZED);
	frame_eth(&frame, 0x88f8);
	frame.len = INGRESS_FRAME_MAX + 1;
	expect_drop(COUNTER_DROP_OVERSIZED);
	tear_down();
}

static void test_padding_cut(void)
{
	set_up();
	for (int i = 0; i < 3; i++) {
		size_t len;

		if (i == 0)
			frame_arp(&frame);
		else
			frame_tcp(&frame, i == 1 ? NEAR4 : NEAR6, i == 1 ? FAR4 : FAR6, 2, 1);
		len = frame.len;
		memset(frame.b + len, 0xee, 18);
		frame.len += 18;
		g_assert_cmpint(go(), ==, PASS);
		g_assert_cmpuint(frame.len, ==, len);
	}
	tear_down();
}

static const struct broken broken[] = {
	{"no IP at all", TCP4, 12, BYTES("\x88\xf8"), COUNTER_DROP_ETHERTYPE}, /* NC-SI */
	{"VLAN tag", TCP4, 12, BYTES("\x81\x00"), COUNTER_DROP_ETHERTYPE},
	{"802.3 length", TCP4, 12, BYTES("\x00\x30"), COUNTER_DROP_ETHERTYPE},
	{"group as sender", TCP4, 6, BYTES("\x03"), COUNTER_DROP_HEADER},
	{"group as sender of IPv6", NS, 6, BYTES("\x33"), COUNTER_DROP_HEADER},

	{"ARP hardware type", ARP, 14, BYTES("\x00\x06"), COUNTER_DROP_HEADER},
	{"ARP protocol type", ARP, 16, BYTES("\x86\xdd"), COUNTER_DROP_HEADER},
	{"ARP hardware length", ARP, 18, BYTES("\x08"), COUNTER_DROP_HEADER},
	{"ARP protocol length", ARP, 19, BYTES("\x10"), COUNTER_DROP_HEADER},
	{"ARP opcode 0", ARP, 20, BYTES("\x00\x00"), COUNTER_DROP_HEADER},
	{"ARP opcode 3", ARP, 20, BYTES("\x00\x03"), COUNTER_DROP_HEADER},

	{"IPv4 version", TCP4, 14, BYTES("\x65"), COUNTER_DROP_HEADER},
	{"IPv4 header length 4", TCP4, 14, BYTES("\x44"), COUNTER_DROP_HEADER},
	{"IPv4 header longer than the packet", TCP4, 16, BYTES("\x00\x13"), COUNTER_DROP_HEADER},
	{"IPv4 longer than the frame", TCP4, 16, BYTES("\x05\x00"), COUNTER_DROP_TRUNCATED},
	{"IPv4 reserved flag", TCP4, 20, BYTES("\x80\x00"), COUNTER_DROP_HEADER},
	{"IPv4 TTL 0", TCP4, 22, BYTES("\x00"), COUNTER_DROP_HEADER},
	{"IPv4 from 0.0.0.0", TCP4, 26, BYTES("\0\0\0\0"), COUNTER_DROP_HEADER},
	{"IPv4 UDP from 0.0.0.0", UDP4, 26, BYTES("\0\0\0\0"), COUNTER_DROP_HEADER},
	{"IPv4 from 0/8", TCP4, 26, BYTES("\x00\x01\x01\x01"), COUNTER_DROP_HEADER},
	{"IPv4 from loopback", TCP4, 26, BYTES("\x7f\x00\x00\x01"), COUNTER_DROP_HEADER},
	{"IPv4 from multicast", UDP4, 26, BYTES("\xe0\x00\x00\x01"), COUNTER_DROP_HEADER},
	{"IPv4 from 240/4", UDP4, 26, BYTES("\xf0\x00\x00\x01"), COUNTER_DROP_HEADER},
	{"IPv4 from broadcast", UDP4, 26, BYTES("\xff\xff\xff\xff"), COUNTER_DROP_HEADER},
	{"IPv4 from N's broadcast", UDP4, 26, BYTES("\x0a\x00\x02\xff"), COUNTER_DROP_HEADER},

	{"TCP offset 4", TCP4, 46, BYTES("\x40"), COUNTER_DROP_HEADER},
	{"TCP offset behind the end", TCP4, 46, BYTES("\xf0"), COUNTER_DROP_TRUNCATED},
	{"TCP option of length 0", TCP4, 55, BYTES("\x00"), COUNTER_DROP_HEADER},
	{"TCP option of length 1", TCP4, 55, BYTES("\x01"), COUNTER_DROP_HEADER},
	{"TCP option behind the end", TCP4, 55, BYTES("\x05"), COUNTER_DROP_HEADER},
	{"TCP option without a length", TCP4, 54, BYTES("\1\1\1\x08"), COUNTER_DROP_HEADER},
	{"UDP length 7", UDP4, 38, BYTES("\x00\x07"), COUNTER_DROP_HEADER},
	{"UDP length 0", UDP4, 38, BYTES("\x00\x00"), COUNTER_DROP_HEADER},
	{"UDP longer than the packet", UDP4, 38, BYTES("\x00\x11"), COUNTER_DROP_TRUNCATED},
	{"ICMP too short", PING4, 16, BYTES("\x00\x1b"), COUNTER_DROP_TRUNCATED},
	{"TCP too short", TCP4, 16, BYTES("\x00\x27"), COUNTER_DROP_TRUNCATED},
	{"UDP too short", UDP4, 16, BYTES("\x00\x1b"), COUNTER_DROP_TRUNCATED},

	{"IPv6 version", TCP6, 14, BYTES("\x40"), COUNTER_DROP_HEADER},
	{"IPv6 longer than the frame", TCP6, 18, BYTES("\x01\x00"), COUNTER_DROP_TRUNCATED},
	{"IPv6 empty", TCP6, 18, BYTES("\x00\x00"), COUNTER_DROP_TRUNCATED},
	{"IPv6 jumbogram", TCP6, 18, BYTES("\x00\x00\x00"), COUNTER_DROP_HEADER},
	{"IPv6 hop limit 0", TCP6, 21, BYTES("\x00"), COUNTER_DROP_HEADER},
	{"IPv6 from multicast", TCP6, 22, BYTES("\xff\x02"), COUNTER_DROP_HEADER},
	{"IPv6 from ::1", TCP6, 22, BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"), COUNTER_DROP_HEADER},
	{"IPv6 from ::", TCP6, 22, BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), COUNTER_DROP_HEADER},
	{"echo from ::", PING6, 22, BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), COUNTER_DROP_HEADER},
	{"IPv6 from v4-mapped", TCP6, 22, BYTES("\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\2\2"),
		COUNTER_DROP_HEADER},
	{"IPv6 from v4-compatible", TCP6, 22, BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\x0a\0\2\2"),
		COUNTER_DROP_HEADER},
	{"IPv6 extension too long", UDP6, 20, BYTES("\x00"), COUNTER_DROP_TRUNCATED},
	{"UDP over IPv6 without checksum", UDP6, 60, BYTES("\x00\x00"), COUNTER_DROP_HEADER},
	{"TCP over IPv6 offset", TCP6, 66, BYTES("\x00"), COUNTER_DROP_HEADER},
};

static void test_broken(void)
{
	set_up();
	expect_broken(broken, ARRAY_SIZE(broken));
	tear_down();
}

static void test_truncated(void)
{
	set_up();
	for (enum base base = TCP4; base <= ARP; base++) {
		frame_of(base);
		while (frame.len-- > 0)
			expect_drop(COUNTER_DROP_TRUNCATED);
	}
	tear_down();
}

static void test_ip4_checksum(void)
{
	set_up();
	frame_of(TCP4);
	frame.b[18] ^= 1;
	expect_drop(COUNTER_DROP_CHECKSUM);
	tear_down();
}

static void test_ip4_options(void)
{
	static const struct {
		const char *options;
		size_t len;
		bool passes;
	} rows[] = {
		{BYTES("\x94\x04\x00\x00"), true}, /* router alert */
		{BYTES("\x01\x01\x01\x00"), true},
		{BYTES("\x00\xff\xff\xff"), true}, /* behind the end of the list */
		{BYTES("\x94\x00\x00\x00"), false}, {BYTES("\x94\x01\x00\x00"), false},
		{BYTES("\x94\x05\x00\x00"), false}, {BYTES("\x01\x01\x01\x94"), false},
		{BYTES("\x83\x07\x04\x7f\x00\x00\x01\x00"), false}, /* loose source route */
		{BYTES("\x89\x07\x04\x7f\x00\x00\x01\x00"), false}, /* strict */
	};

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		g_test_message("row %zu", i);
		frame_of(TCP4);
		add_ip4_options(rows[i].options, rows[i].len);
		if (rows[i].passes)
			expect_pass();
		else
			expect_drop(COUNTER_DROP_HEADER);
	}
	tear_down();
}

static void test_ip6_source_route(void)
{
	uint8_t payload[16] = {17, 0, 0, 1, 0, 0, 0, 0, 0, 9, 0, 9, 0, 8, 1, 1};

	set_up();
	frame_ip6(&frame, 43, NEAR6, FAR6, payload, sizeof(payload));
	expect_drop(COUNTER_DROP_HEADER);
	frame.b[56] = 4;
	expect_pass();
	tear_down();
}

static void test_ip6_disabled(void)
{
	set_up();
	policy.ipv6 = false;
	frame_of(NS);
	expect_drop(COUNTER_DROP_IPV6_DISABLED);
	frame.len = 20;
	expect_drop(COUNTER_DROP_IPV6_DISABLED);
	frame_of(TCP4);
	expect_pass();
	tear_down();
}

static void test_refused(void)
{
	static const char *const refused4[] = {"0.0.0.0", "127.0.0.1", "127.0.0.53", "240.0.0.1"};
	static const char *const refused6[] = {"::", "::1", "::ffff:127.0.0.1", "fe80::1"};

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(refused4); i++) {
		frame_tcp(&frame, NEAR4, refused4[i], 2, 0);
		expect_answer(3, 0);
		g_assert_cmpmem(reply.b, 6, frame_near_mac, 6);
		g_assert_cmpmem(reply.b + 6, 6, frame_far_mac, 6);
		g_assert_cmpmem(reply.b + 26, 4, &policy.gateway, 4);
		g_assert_cmpmem(reply.b + 30, 4, frame.b + 26, 4);
		g_assert_cmpmem(reply.b + 42, reply.len - 42, frame.b + 14, frame.len - 14);
		frame_udp(&frame, NEAR4, refused4[i], 53, "x", 1);
		expect_answer(3, 0);
		frame_ping(&frame, NEAR4, refused4[i]);
		expect_answer(3, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(refused6); i++) {
		frame_tcp(&frame, NEAR6, refused6[i], 2, 0);
		expect_answer(1, 0);
		g_assert_cmpmem(reply.b, 6, frame_near_mac, 6);
		g_assert_cmpmem(reply.b + 6, 6, "\x52\x56\x00\x00\x00\x02", 6);
		g_assert_cmpmem(reply.b + 22, 16, &policy.gateway6, 16);
		g_assert_cmpmem(reply.b + 38, 16, frame.b + 22, 16);
		g_assert_cmpmem(reply.b + 62, reply.len - 62, frame.b + 14, frame.len - 14);
		frame_udp(&frame, NEAR6, refused6[i], 53, "x", 1);
		expect_answer(1, 0);
	}
	tear_down();
}

/* Refused all the same, but nobody is told: RFC 1122 3.2.2. */
static void test_refused_silently(void)
{
	set_up();
	frame_ping(&frame, NEAR4, "127.0.0.1");
	frame.b[34] = 3;
	expect_drop(COUNTER_POLICY_REFUSED);
	frame_tcp(&frame, NEAR4, "127.0.0.1", 2, 0);
	memset(frame.b, 0xff, 6);
	expect_drop(COUNTER_POLICY_REFUSED);
	frame_ip4(&frame, 17, NEAR4, "127.0.0.1", "12345678", 8);
	put16(frame.b + 20, 0x0001);
	frame_fix_ip4(&frame);
	expect_drop(COUNTER_POLICY_REFUSED);
	tear_down();
}

static int n_answered(int n_asked)
{
	int n = 0;

	for (int i = 0; i < n_asked; i++) {
		frame_tcp(&frame, NEAR4, "127.0.0.1", 2, 0);
		n += go() == ANSWER;
	}
	return n;
}

static void test_rate_limit(void)
{
	set_up();
	g_assert_cmpint(n_answered(80), ==, ICMP_LIMIT_BURST);
	g_assert_cmpuint(counters.value[COUNTER_ICMP_LIMITED], ==, 80 - ICMP_LIMIT_BURST);
	g_assert_cmpuint(counters.value[COUNTER_POLICY_REFUSED], ==, 80);
	now_ns += ICMP_LIMIT_INTERVAL_NS - 1;
	g_assert_cmpint(n_answered(2), ==, 0);
	now_ns += 1;
	g_assert_cmpint(n_answered(2), ==, 1);
	now_ns += 20 * ICMP_LIMIT_INTERVAL_NS + 5;
	g_assert_cmpint(n_answered(30), ==, 20);
	now_ns += ICMP_LIMIT_INTERVAL_NS - 5; /* what was left over counts */
	g_assert_cmpint(n_answered(2), ==, 1);
	now_ns += 3600 * NS_PER_SEC;
	g_assert_cmpint(n_answered(80), ==, ICMP_LIMIT_BURST);
	tear_down();
}

/* --- the virtio-net header --- */

static enum ingress_result result_of(enum base base)
{
	switch (base) {
	case TCP4:
	case TCP6:
		return INGRESS_TCP;
	case UDP4:
	case UDP6:
		return INGRESS_UDP;
	case PING4:
	case PING6:
	case NS:
		return INGRESS_ICMP;
	case ARP:
		break;
	}
	return INGRESS_OTHER;
}

static void test_result(void)
{
	set_up();
	for (enum base base = TCP4; base <= ARP; base++) {
		enum ingress_result result = result_of(base);

		frame_of(base);
		ingress.own_stack = true;
		vnet_set(0, GSO_NONE, 0, 0, 0);
		expect_pass();
		g_assert_cmpint(ingress_result, ==, result);
		if (result != INGRESS_TCP && result != INGRESS_UDP)
			expect_vnet_zero();
		ingress.own_stack = false;
		vnet_set(0, GSO_NONE, 0, 0, 0);
		expect_pass();
		g_assert_cmpint(
			ingress_result, ==, result == INGRESS_TCP ? INGRESS_TCP : INGRESS_OTHER);
		expect_vnet_zero();
	}
	tear_down();
}

static void test_tcp_verified(void)
{
	set_up();
	for (size_t data_len = 0; data_len < 70; data_len++) {
		bool is4 = data_len & 1;

		frame_tcp(&frame, is4 ? NEAR4 : NEAR6, is4 ? FAR4 : FAR6, 0x18, data_len);
		ingress.own_stack = true;
		expect_untouched(INGRESS_TCP);
		memset(frame.b + frame.len, 0xee, 9); /* padding does not count */
		frame.len += 9;
		g_assert_cmpint(go(), ==, PASS);
		frame.b[frame.len - 1 - data_len / 2] ^= 0x20;
		expect_drop(COUNTER_DROP_CHECKSUM);
		vnet_set(DATA_VALID, GSO_NONE, 0, 3, 3);
		expect_untouched(INGRESS_TCP);
		ingress.own_stack = false;
		vnet_set(0, GSO_NONE, 0, 3, 3);
		expect_pass();
		expect_vnet_zero();
	}
	tear_down();
}

/* The addresses are part of it. */
static void test_tcp_pseudo_header(void)
{
	set_up();
	ingress.own_stack = true;
	for (size_t at = 26; at < 34; at++) {
		frame_of(TCP4);
		frame.b[at] ^= 0x40;
		frame_fix_ip4(&frame);
		expect_drop(COUNTER_DROP_CHECKSUM);
	}
	for (size_t at = 23; at < 54; at++) {
		frame_of(TCP6);
		frame.b[at] ^= 0x02;
		expect_drop(COUNTER_DROP_CHECKSUM);
	}
	tear_down();
}

static void test_tcp_partial(void)
{
	static const enum base bases[] = {TCP4, TCP6};

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		ingress.own_stack = true;
		frame_of(bases[i]);
		make_partial();
		expect_untouched(INGRESS_TCP);
		vnet[0] |= DATA_VALID;
		expect_untouched(INGRESS_TCP);
		ingress.own_stack = false;
		g_assert_cmpint(go(), ==, PASS);
		g_assert_cmpint(ingress_result, ==, INGRESS_TCP);
		g_assert_cmphex(frame_transport_sum(&frame, frame.len), ==, 0xffff);
		expect_vnet_zero();
	}
	tear_down();
}

/* For a stack that is given some of the TCP segments, without knowing partial checksums. */
static void test_complete_later(void)
{
	static uint8_t buf[sizeof(vnet) + FRAME_MAX];

	set_up();
	frame_of(TCP4);
	make_partial();
	ingress.own_stack = true;
	expect_untouched(INGRESS_TCP);
	memcpy(buf, vnet, sizeof(vnet));
	memcpy(buf + sizeof(vnet), frame.b, frame.len);
	for (int again = 0; again < 2; again++) {
		ingress_complete_checksum(buf, &packet);
		memcpy(vnet, buf, sizeof(vnet));
		memcpy(frame.b, buf + sizeof(vnet), frame.len);
		expect_vnet_zero();
		g_assert_cmphex(frame_transport_sum(&frame, frame.len), ==, 0xffff);
	}
	tear_down();
}

static void test_other_partial(void)
{
	static const enum base bases[] = {UDP4, PING4, UDP6, PING6, NS};

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(bases) * 2; i++) {
		struct frame *expected;

		frame_of(bases[i / 2]);
		expected = g_memdup2(&frame, sizeof(frame));
		make_partial();
		if (i % 2) { /* padding is not summed */
			memset(frame.b + frame.len, 0xee, 9);
			frame.len += 9;
		}
		g_assert_cmpint(go(), ==, PASS);
		g_assert_cmpint(ingress_result, ==, INGRESS_OTHER);
		g_assert_cmpmem(frame.b, frame.len, expected->b, expected->len);
		expect_vnet_zero();
		g_free(expected);
	}
	tear_down();
}

/* 0 would say that there is none (RFC 768). */
static void test_udp_sum_of_zero(void)
{
	uint8_t data[2];

	set_up();
	frame_udp(&frame, NEAR4, FAR4, 9, "\0\0", 2);
	memcpy(data, frame_checksum_field(&frame), 2);
	frame_udp(&frame, NEAR4, FAR4, 9, data, 2);
	g_assert_cmphex(get16(frame_checksum_field(&frame)), ==, 0);
	make_partial();
	g_assert_cmpint(go(), ==, PASS);
	g_assert_cmphex(get16(frame_checksum_field(&frame)), ==, 0xffff);
	tear_down();
}

/* VXLAN and its like: the checksum of a packet within. Nothing else changes. */
static void test_partial_within(void)
{
	static const uint8_t data[] = "0123456789abcdef";
	uint32_t expected = naive_sum(0, data + 4, 12);

	set_up();
	for (int padded = 0; padded < 2; padded++) {
		frame_udp(&frame, NEAR4, FAR4, 4789, data, 16);
		frame.len += padded ? 9 : 0;
		vnet_set(NEEDS_CSUM, GSO_NONE, 0, 42 + 4, 10);
		g_assert_cmpint(go(), ==, PASS);
		g_assert_cmpmem(frame.b + 42, 14, data, 14);
		g_assert_cmphex(get16(frame.b + 42 + 14), ==, ~expected & 0xffff);
		expect_vnet_zero();
	}
	tear_down();
}

/* Where a checksum cannot be: all of the headers, and behind the packet. */
static void test_partial_elsewhere(void)
{
	set_up();
	for (enum base base = TCP4; base <= ARP; base++) {
		size_t start, field, end, n_passed = 0;

		frame_of(base);
		end = frame.len;
		start = base == ARP ? 0 : (size_t)(frame_transport(&frame) - frame.b);
		field = base == ARP ? 0 : (size_t)(frame_checksum_field(&frame) - frame.b) - start;
		memset(frame.b + end, 0, 40); /* padding */
		for (size_t at = 0; at < end + 40; at++) {
			for (size_t offset = 0; offset < end + 40; offset++) {
				bool own = base != ARP && at == start && offset == field;
				bool within = base != TCP4 && base != TCP6 && base != ARP &&
					at >= start + 8 && at + offset + 2 <= end;

				/* What is within would make the datagram's own wrong. */
				ingress.own_stack = (own || !within) && offset % 2;
				frame.len = end + 40;
				vnet_set(NEEDS_CSUM, GSO_NONE, 0, at, offset);
				if (!own && !within) {
					expect_drop(COUNTER_DROP_HEADER);
					continue;
				}
				g_assert_cmpint(go(), ==, PASS);
				frame_of(base);
				n_passed++;
			}
		}
		g_assert_cmpuint(n_passed > 0, ==, base != ARP);
		vnet_set(NEEDS_CSUM, GSO_NONE, 0, 0xffff, 0xffff);
		expect_drop(COUNTER_DROP_HEADER);
	}
	tear_down();
}

static void test_gso(void)
{
	static const uint8_t types[] = {GSO_TCP4, GSO_UDP, GSO_TCP6, GSO_UDP_L4, 2, 6, 0x7f};

	set_up();
	for (int i = 0; i < (int)ARRAY_SIZE(types) * 2 * 2; i++) {
		uint8_t type = types[i / 4] | (i & 1 ? GSO_ECN : 0);

		ingress.own_stack = i & 2;
		for (enum base base = TCP4; base <= ARP; base++) {
			bool ours = (type & 0x7f) == (base == TCP4 ? GSO_TCP4 : GSO_TCP6);

			frame_of(base);
			vnet_set(0, type, 1448, 0, 0);
			if (ours && (base == TCP4 || base == TCP6))
				expect_pass();
			else
				expect_drop(COUNTER_DROP_GSO);
			vnet_set(0, type, 0, 0, 0);
			expect_drop(COUNTER_DROP_GSO);
		}
	}
	frame_of(TCP4);
	vnet_set(0, GSO_ECN, 1448, 0, 0);
	expect_drop(COUNTER_DROP_GSO);
	tear_down();
}

/* A whole TCP segment in two fragments, with that in the header of the last one. */
static enum verdict go_in_fragments(uint8_t flags, uint8_t xor)
{
	static struct frame whole;
	size_t cut = 34 + 64;

	frame_tcp(&whole, NEAR4, FAR4, 0x18, 100);
	whole.b[whole.len - 1] ^= xor;
	for (int last = 0; last < 2; last++) {
		size_t from = last ? cut : 34, len = (last ? whole.len : cut) - from;

		frame = whole;
		memmove(frame.b + 34, whole.b + from, len);
		frame.len = 34 + len;
		put16(frame.b + 16, (uint32_t)(20 + len));
		put16(frame.b + 20, last ? 8 : 0x2000);
		frame_fix_ip4(&frame);
		memset(vnet, 0, sizeof(vnet));
		if (!last)
			expect_drop(N_COUNTERS); /* none: it waits */
	}
	vnet_set(flags, GSO_NONE, 0, 0, 0);
	return go();
}

/* What came in fragments has a complete checksum, and nobody vouches for it. */
static void test_fragments(void)
{
	set_up();
	ingress.own_stack = true;
	g_assert_cmpint(go_in_fragments(0, 0), ==, PASS);
	g_assert_cmpint(ingress_result, ==, INGRESS_TCP);
	expect_vnet_zero();
	g_assert_cmpint(go_in_fragments(DATA_VALID, 0), ==, PASS);
	expect_vnet_zero();
	g_assert_cmpint(go_in_fragments(DATA_VALID, 1), ==, DROP);
	g_assert_cmpuint(counters.value[COUNTER_DROP_CHECKSUM], ==, 1);
	g_assert_cmpint(go_in_fragments(NEEDS_CSUM, 0), ==, DROP);
	g_assert_cmpuint(counters.value[COUNTER_DROP_HEADER], ==, 1);
	vnet_set(NEEDS_CSUM, GSO_NONE, 0, 34, 16);
	expect_drop(COUNTER_DROP_HEADER);
	vnet_set(0, GSO_TCP4, 1448, 0, 0);
	expect_drop(COUNTER_DROP_GSO);
	frame.b[23] = 17;
	frame_fix_ip4(&frame);
	vnet_set(NEEDS_CSUM, GSO_NONE, 0, 42, 6);
	expect_drop(COUNTER_DROP_HEADER);
	tear_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/ingress/passed", test_passed);
	g_test_add_func("/ingress/oversized", test_oversized);
	g_test_add_func("/ingress/padding-cut", test_padding_cut);
	g_test_add_func("/ingress/broken", test_broken);
	g_test_add_func("/ingress/truncated", test_truncated);
	g_test_add_func("/ingress/ip4-checksum", test_ip4_checksum);
	g_test_add_func("/ingress/ip4-options", test_ip4_options);
	g_test_add_func("/ingress/ip6-source-route", test_ip6_source_route);
	g_test_add_func("/ingress/ip6-disabled", test_ip6_disabled);
	g_test_add_func("/ingress/refused", test_refused);
	g_test_add_func("/ingress/refused-silently", test_refused_silently);
	g_test_add_func("/ingress/rate-limit", test_rate_limit);
	g_test_add_func("/ingress/result", test_result);
	g_test_add_func("/ingress/tcp-verified", test_tcp_verified);
	g_test_add_func("/ingress/tcp-pseudo-header", test_tcp_pseudo_header);
	g_test_add_func("/ingress/tcp-partial", test_tcp_partial);
	g_test_add_func("/ingress/complete-later", test_complete_later);
	g_test_add_func("/ingress/other-partial", test_other_partial);
	g_test_add_func("/ingress/udp-sum-of-zero", test_udp_sum_of_zero);
	g_test_add_func("/ingress/partial-within", test_partial_within);
	g_test_add_func("/ingress/partial-elsewhere", test_partial_elsewhere);
	g_test_add_func("/ingress/gso", test_gso);
	g_test_add_func("/ingress/fragments", test_fragments);
	return g_test_run();
}
