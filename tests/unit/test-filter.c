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

static const struct broken broken[] = {
	{"ARP group as sender", ARP, 22, BYTES("\xff"), COUNTER_DROP_HEADER},
	{"ARP from loopback", ARP, 28, BYTES("\x7f"), COUNTER_DROP_HEADER},
	{"ARP from multicast", ARP, 28, BYTES("\xe0"), COUNTER_DROP_HEADER},

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
	set_up();
	expect_broken(broken, ARRAY_SIZE(broken));
	tear_down();
}

/* Flag and pointer go, the checksum stays as right as it was, everything else as it was. */
static void test_urgent(void)
{
	static const uint16_t pointers[] = {0, 1, 8, 0x7fff, 0xffff};

	set_up();
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
		g_assert_cmpint(go(), ==, PASS);
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
	set_up();
	frame_tcp(&frame, NEAR4, FAR4, 0x38, 5);
	frame_transport(&frame)[16] ^= 0x40;
	g_assert_cmpint(go(), ==, PASS);
	g_assert_cmphex(frame_transport_sum(&frame, frame.len), !=, 0xffff);
	tear_down();
}

static void test_tftp(void)
{
	set_up();
	frame_udp(&frame, NEAR4, GATEWAY4, 69, "\0\1x\0octet", 10);
	expect_answer(3, 3);
	frame_udp(&frame, NEAR6, GATEWAY6, 69, "\0\1x\0octet", 10);
	expect_answer(1, 4);
	tear_down();
}

static void test_dhcp6(void)
{
	uint8_t message[] = {11, 1, 2, 3, 0, 1, 0, 4, 9, 9, 9, 9, 0, 6, 0, 2, 0, 23, 0, 8, 0, 0};

	set_up();
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
	with_filter = true;
	g_test_add_func("/filter/passed", test_passed);
	g_test_add_func("/filter/broken", test_broken);
	g_test_add_func("/filter/urgent", test_urgent);
	g_test_add_func("/filter/urgent-wrong-checksum", test_urgent_wrong_checksum_stays_wrong);
	g_test_add_func("/filter/tftp", test_tftp);
	g_test_add_func("/filter/dhcp6", test_dhcp6);
	return g_test_run();
}
