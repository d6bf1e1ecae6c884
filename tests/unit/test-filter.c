/* SPDX-License-Identifier: Apache-2.0 */
#include "filter-fixture.h"

static void expect_answer(uint8_t type, uint8_t code)
{
	uint64_t refused = counters.value[COUNTER_POLICY_REFUSED];

	g_assert_cmpint(go(), ==, FILTER_ANSWER);
	g_assert_cmpuint(counters.value[COUNTER_POLICY_REFUSED], ==, refused + 1);
	g_assert_cmpint(*frame_transport(&reply), ==, type);
	g_assert_cmpint(frame_transport(&reply)[1], ==, code);
	g_assert_cmphex(frame_transport_sum(&reply, reply.len), ==, 0xffff);
}

static void test_passed(void)
{
	set_up(MTU);
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

/* As large as the MTU allows, and one more. */
static void test_oversized(void)
{
	uint8_t data[MTU + 1] = {0};

	set_up(MTU);
	frame_udp(&frame, NEAR4, FAR4, 9, data, MTU - 28);
	expect_pass();
	frame_udp(&frame, NEAR4, FAR4, 9, data, MTU - 27);
	expect_drop(COUNTER_DROP_OVERSIZED);
	frame_eth(&frame, 0x88f8);
	frame.len = 15 + MTU;
	expect_drop(COUNTER_DROP_OVERSIZED);
	tear_down();
}

static void test_padding_cut(void)
{
	set_up(MTU);
	for (int i = 0; i < 3; i++) {
		size_t len;

		if (i == 0)
			frame_arp(&frame);
		else
			frame_tcp(&frame, i == 1 ? NEAR4 : NEAR6, i == 1 ? FAR4 : FAR6, 2, 1);
		len = frame.len;
		memset(frame.b + len, 0xee, 18);
		frame.len += 18;
		g_assert_cmpint(go(), ==, FILTER_PASS);
		g_assert_cmpuint(frame.len, ==, len);
	}
	tear_down();
}

enum base { TCP4, UDP4, PING4, TCP6, UDP6, PING6, NS, ARP };

static void frame_of(enum base base)
{
	switch (base) {
	case TCP4:
		return frame_tcp(&frame, NEAR4, FAR4, 0x12, 8);
	case UDP4:
		return frame_udp(&frame, NEAR4, FAR4, 7, "12345678", 8);
	case PING4:
		return frame_ping(&frame, NEAR4, FAR4);
	case TCP6:
		return frame_tcp(&frame, NEAR6, FAR6, 0x12, 8);
	case UDP6:
		return frame_udp(&frame, NEAR6, FAR6, 7, "12345678", 8);
	case PING6:
		return frame_ping(&frame, NEAR6, GATEWAY6);
	case NS:
		return frame_ns(&frame);
	case ARP:
		return frame_arp(&frame);
	}
}

/* One change to a frame that would pass, and the name under which it is dropped. */
static const struct {
	const char *what;
	enum base base;
	size_t offset;
	const char *bytes;
	size_t n_bytes;
	enum counter reason;
} broken[] = {
#define BYTES(s) s, sizeof(s) - 1
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
	{"ARP group as sender", ARP, 22, BYTES("\xff"), COUNTER_DROP_HEADER},
	{"ARP from loopback", ARP, 28, BYTES("\x7f"), COUNTER_DROP_HEADER},
	{"ARP from multicast", ARP, 28, BYTES("\xe0"), COUNTER_DROP_HEADER},

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
	{"IPv6 fragment", UDP6, 20, BYTES("\x2c"), COUNTER_DROP_FRAGMENT},
	{"IPv6 extension too long", UDP6, 20, BYTES("\x00"), COUNTER_DROP_TRUNCATED},
	{"UDP over IPv6 without checksum", UDP6, 60, BYTES("\x00\x00"), COUNTER_DROP_HEADER},
	{"TCP over IPv6 offset", TCP6, 66, BYTES("\x00"), COUNTER_DROP_HEADER},

	{"NDP hop limit", NS, 21, BYTES("\xfe"), COUNTER_DROP_HEADER},
	{"NDP code", NS, 55, BYTES("\x01"), COUNTER_DROP_HEADER},
	{"NDP too short", NS, 18, BYTES("\x00\x17"), COUNTER_DROP_TRUNCATED},
	{"NDP option of length 0", NS, 79, BYTES("\x00"), COUNTER_DROP_HEADER},
	{"NDP option behind the end", NS, 79, BYTES("\x02"), COUNTER_DROP_HEADER},
	{"NDP option without a length", NS, 18, BYTES("\x00\x19"), COUNTER_DROP_HEADER},
	{"NDP target multicast", NS, 62, BYTES("\xff"), COUNTER_DROP_HEADER},
	{"advertisement too short", PING6, 54, BYTES("\x88\x00"), COUNTER_DROP_HEADER},
	{"router advertisement", NS, 54, BYTES("\x86"), COUNTER_DROP_HEADER},
	{"redirect", NS, 54, BYTES("\x89"), COUNTER_DROP_HEADER},
};

static void test_broken(void)
{
	set_up(MTU);
	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		g_test_message("%s", broken[i].what);
		frame_of(broken[i].base);
		expect_pass();
		frame_patch(&frame, broken[i].offset, broken[i].bytes, broken[i].n_bytes);
		/* So that nothing but the patch is wrong. */
		if (frame.b[12] == 8 && frame.b[13] == 0)
			frame_fix_ip4(&frame);
		expect_drop(broken[i].reason);
	}
	tear_down();
}

static void test_truncated(void)
{
	set_up(MTU);
	for (enum base base = TCP4; base <= ARP; base++) {
		frame_of(base);
		while (frame.len-- > 0)
			expect_drop(COUNTER_DROP_TRUNCATED);
	}
	tear_down();
}

static void test_ip4_checksum(void)
{
	set_up(MTU);
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

	set_up(MTU);
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

	set_up(MTU);
	frame_ip6(&frame, 43, NEAR6, FAR6, payload, sizeof(payload));
	expect_drop(COUNTER_DROP_HEADER);
	frame.b[56] = 4;
	expect_pass();
	tear_down();
}

static void test_ip6_disabled(void)
{
	set_up(MTU);
	policy.ipv6 = false;
	frame_of(NS);
	expect_drop(COUNTER_DROP_IPV6_DISABLED);
	frame.len = 20;
	expect_drop(COUNTER_DROP_IPV6_DISABLED);
	frame_of(TCP4);
	expect_pass();
	tear_down();
}

/* Flag and pointer go, the checksum stays as right as it was, everything else as it was. */
static void test_urgent(void)
{
	static const uint16_t pointers[] = {0, 1, 8, 0x7fff, 0xffff};

	set_up(MTU);
	for (size_t i = 0; i < ARRAY_SIZE(pointers) * 512; i++) {
		uint8_t *tcp;
		uint8_t flags = (uint8_t)(i >> 1);
		bool urgent = flags & 0x20;
		uint64_t cleared = counters.value[COUNTER_URGENT_CLEARED];
		struct frame *expected = NULL;

		frame_tcp(&frame, i & 1 ? NEAR4 : NEAR6, i & 1 ? FAR4 : FAR6, flags & 0xdf, i % 64);
		put16(frame_transport(&frame) + 4, (uint32_t)g_test_rand_int() & 0x7fff);
		frame_fix_transport(&frame);
		expected = g_memdup2(&frame, sizeof(frame));
		tcp = frame_transport(&frame);
		tcp[13] = flags;
		put16(tcp + 18, pointers[i / 512]);
		frame_fix_transport(&frame);
		g_assert_cmpint(go(), ==, FILTER_PASS);
		g_assert_cmpuint(counters.value[COUNTER_URGENT_CLEARED] - cleared, ==, urgent);
		g_assert_cmphex(frame_transport_sum(&frame, frame.len), ==, 0xffff);
		memcpy(tcp + 16, frame_transport(expected) + 16, 2);
		g_assert_cmpmem(frame.b, frame.len, expected->b, expected->len);
		g_free(expected);
	}
	tear_down();
}

static void test_urgent_wrong_checksum_stays_wrong(void)
{
	set_up(MTU);
	frame_tcp(&frame, NEAR4, FAR4, 0x38, 5);
	frame_transport(&frame)[16] ^= 0x40;
	g_assert_cmpint(go(), ==, FILTER_PASS);
	g_assert_cmphex(frame_transport_sum(&frame, frame.len), !=, 0xffff);
	tear_down();
}

static void test_refused(void)
{
	static const char *const refused4[] = {"0.0.0.0", "127.0.0.1", "127.0.0.53", "240.0.0.1"};
	static const char *const refused6[] = {"::", "::1", "::ffff:127.0.0.1", "fe80::1"};

	set_up(MTU);
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
	set_up(MTU);
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

static void test_tftp(void)
{
	set_up(MTU);
	frame_udp(&frame, NEAR4, GATEWAY4, 69, "\0\1x\0octet", 10);
	expect_answer(3, 3);
	frame_udp(&frame, NEAR6, GATEWAY6, 69, "\0\1x\0octet", 10);
	expect_answer(1, 4);
	tear_down();
}

static int n_answered(int n_asked)
{
	int n = 0;

	for (int i = 0; i < n_asked; i++) {
		frame_tcp(&frame, NEAR4, "127.0.0.1", 2, 0);
		n += go() == FILTER_ANSWER;
	}
	return n;
}

static void test_rate_limit(void)
{
	set_up(MTU);
	g_assert_cmpint(n_answered(80), ==, FILTER_ICMP_BURST);
	g_assert_cmpuint(counters.value[COUNTER_ICMP_LIMITED], ==, 80 - FILTER_ICMP_BURST);
	g_assert_cmpuint(counters.value[COUNTER_POLICY_REFUSED], ==, 80);
	now_ns += FILTER_ICMP_INTERVAL_NS - 1;
	g_assert_cmpint(n_answered(2), ==, 0);
	now_ns += 1;
	g_assert_cmpint(n_answered(2), ==, 1);
	now_ns += 20 * FILTER_ICMP_INTERVAL_NS + 5;
	g_assert_cmpint(n_answered(30), ==, 20);
	now_ns += FILTER_ICMP_INTERVAL_NS - 5; /* what was left over counts */
	g_assert_cmpint(n_answered(2), ==, 1);
	now_ns += 3600 * NS_PER_SEC;
	g_assert_cmpint(n_answered(80), ==, FILTER_ICMP_BURST);
	tear_down();
}

static void test_dhcp6(void)
{
	uint8_t message[] = {11, 1, 2, 3, 0, 1, 0, 4, 9, 9, 9, 9, 0, 6, 0, 2, 0, 23, 0, 8, 0, 0};

	set_up(MTU);
	frame_udp(&frame, NEAR6, "ff02::1:2", 547, message, sizeof(message));
	expect_pass();
	message[7] = 20;
	frame_udp(&frame, NEAR6, "ff02::1:2", 547, message, sizeof(message));
	expect_drop(COUNTER_DROP_HEADER);
	frame_udp(&frame, NEAR6, FAR6, 547, message, sizeof(message)); /* somebody else's matter */
	expect_pass();
	frame_udp(&frame, NEAR6, GATEWAY6, 547, message, 3);
	expect_drop(COUNTER_DROP_TRUNCATED);
	frame_udp(&frame, NEAR6, GATEWAY6, 547, message, 7);
	expect_drop(COUNTER_DROP_HEADER);
	tear_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/filter/passed", test_passed);
	g_test_add_func("/filter/oversized", test_oversized);
	g_test_add_func("/filter/padding-cut", test_padding_cut);
	g_test_add_func("/filter/broken", test_broken);
	g_test_add_func("/filter/truncated", test_truncated);
	g_test_add_func("/filter/ip4-checksum", test_ip4_checksum);
	g_test_add_func("/filter/ip4-options", test_ip4_options);
	g_test_add_func("/filter/ip6-source-route", test_ip6_source_route);
	g_test_add_func("/filter/ip6-disabled", test_ip6_disabled);
	g_test_add_func("/filter/urgent", test_urgent);
	g_test_add_func("/filter/urgent-wrong-checksum", test_urgent_wrong_checksum_stays_wrong);
	g_test_add_func("/filter/refused", test_refused);
	g_test_add_func("/filter/refused-silently", test_refused_silently);
	g_test_add_func("/filter/tftp", test_tftp);
	g_test_add_func("/filter/rate-limit", test_rate_limit);
	g_test_add_func("/filter/dhcp6", test_dhcp6);
	return g_test_run();
}
