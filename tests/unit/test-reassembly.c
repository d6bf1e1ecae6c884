/* SPDX-License-Identifier: Apache-2.0 */
#include "path-fixture.h"

static uint8_t datagram[65536];

static void fragment(uint32_t id, uint32_t start, uint32_t len, bool more)
{
	frame_ip4(&frame, 17, NEAR4, FAR4, datagram + start, 0);
	memcpy(frame.b + 34, datagram + start, len);
	frame.len = 34 + len;
	put16(frame.b + 16, 20 + len);
	put16(frame.b + 18, id);
	put16(frame.b + 20, (more ? 0x2000u : 0) | start / 8);
	frame_fix_ip4(&frame);
}

static void expect_waits(void)
{
	expect_drop(N_COUNTERS); /* none */
}

/* A UDP datagram of `len` bytes, its header included, with a right checksum. */
static void datagram_make(uint32_t len)
{
	static uint8_t data[65536];

	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 31 >> 3);
	frame_udp(&frame, NEAR4, FAR4, 9, data, len - 8);
	memcpy(datagram, frame.b + 34, len);
}

static void expect_datagram(uint32_t len)
{
	g_assert_cmpint(go(), ==, PASS);
	g_assert_cmpuint(frame.len, ==, 34 + len);
	g_assert_cmpuint(get16(frame.b + 16), ==, 20 + len);
	g_assert_cmphex(get16(frame.b + 20), ==, 0);
	g_assert_cmphex(naive_sum(0, frame.b + 14, 20), ==, 0xffff);
	g_assert_cmpmem(frame.b + 34, len, datagram, len);
}

static void test_fragments_any_order(void)
{
	static const uint8_t orders[][3] = {
		{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

	set_up();
	datagram_make(3001);
	for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
		for (int k = 0; k < 3; k++) {
			uint32_t start = orders[i][k] * 1000u;

			fragment(7, start, start == 2000 ? 1001 : 1000, start != 2000);
			if (k < 2)
				expect_waits();
			else
				expect_datagram(3001);
		}
	}
	tear_down();
}

static void test_fragments_largest(void)
{
	uint32_t start = 0;

	set_up();
	datagram_make(65515);
	for (; start + 1480 < 65515; start += 1480) {
		fragment(9, start, 1480, true);
		expect_waits();
	}
	fragment(9, start, 65515 - start, false);
	expect_datagram(65515);
	/* One byte more is none of a datagram. */
	fragment(9, 65512, 4, false);
	expect_drop(COUNTER_DROP_FRAGMENT);
	tear_down();
}

/* The header of the first fragment may be longer than that of the others. */
static void test_fragments_too_long_with_options(void)
{
	uint32_t start = 1480;

	set_up();
	datagram_make(65515);
	for (; start + 1480 < 65515; start += 1480) {
		fragment(9, start, 1480, true);
		expect_waits();
	}
	fragment(9, start, 65515 - start, false);
	expect_waits();
	fragment(9, 0, 1472, true);
	add_ip4_options("\1\1\1\0", 4);
	expect_waits();
	fragment(9, 1472, 8, true);
	expect_drop(COUNTER_DROP_FRAGMENT);
	tear_down();
}

static void test_fragments_impossible(void)
{
	set_up();
	datagram_make(3000);
	fragment(1, 8, 9, true); /* no multiple of 8 */
	expect_drop(COUNTER_DROP_FRAGMENT);
	fragment(1, 8, 0, true); /* empty */
	expect_drop(COUNTER_DROP_FRAGMENT);
	fragment(1, 8, 0, false);
	expect_drop(COUNTER_DROP_FRAGMENT);
	fragment(1, 0, 16, true); /* RFC 1858: TCP's header is not whole */
	frame.b[23] = 6;
	frame_fix_ip4(&frame);
	expect_drop(COUNTER_DROP_FRAGMENT);
	fragment(1, 8, 24, true); /* RFC 1858: TCP's flags on their own */
	frame.b[23] = 6;
	frame_fix_ip4(&frame);
	expect_drop(COUNTER_DROP_FRAGMENT);
	fragment(1, 8, 24, true); /* from nobody */
	memset(frame.b + 26, 0, 4);
	frame_fix_ip4(&frame);
	expect_drop(COUNTER_DROP_HEADER);
	tear_down();
}

static void test_fragments_overlap(void)
{
	static const struct {
		uint32_t start, len;
		bool more;
	} rows[] = {
		{1000, 1000, true}, /* the same again */
		{1992, 16, true},   /* at the end */
		{504, 504, true},   /* at the begin */
		{1200, 8, true},    /* within */
		{800, 1400, true},  /* around */
		{1000, 800, false}, /* the end before what is there */
	};

	set_up();
	datagram_make(3000);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		g_test_message("row %zu", i);
		fragment(3, 1000, 1000, true);
		expect_waits();
		fragment(3, rows[i].start, rows[i].len, rows[i].more);
		expect_drop(COUNTER_DROP_FRAGMENT);
		/* The datagram is gone: what would have completed it does not. */
		fragment(3, 0, 1000, true);
		expect_waits();
		fragment(3, 2000, 1000, false);
		expect_waits();
		fragment(3, 2400, 8, true); /* behind, away with it */
		expect_drop(COUNTER_DROP_FRAGMENT);
	}
	tear_down();
}

static void test_fragments_two_ends(void)
{
	set_up();
	datagram_make(3000);
	fragment(3, 2000, 500, false);
	expect_waits();
	fragment(3, 2504, 496, true);
	expect_drop(COUNTER_DROP_FRAGMENT);
	fragment(3, 2000, 500, false);
	expect_waits();
	fragment(3, 1000, 500, false);
	expect_drop(COUNTER_DROP_FRAGMENT);
	fragment(3, 2000, 504, true); /* behind the end, not overlapping */
	expect_waits();
	fragment(3, 1000, 500, false);
	expect_drop(COUNTER_DROP_FRAGMENT);
	tear_down();
}

static void test_fragments_expire(void)
{
	set_up();
	datagram_make(2000);
	fragment(3, 0, 1000, true);
	expect_waits();
	now_ns += REASSEMBLY_TIMEOUT_NS - 1;
	fragment(3, 1000, 1000, false);
	expect_datagram(2000);
	fragment(3, 0, 1000, true);
	expect_waits();
	now_ns += REASSEMBLY_TIMEOUT_NS;
	fragment(3, 1000, 1000, false);
	expect_drop(COUNTER_DROP_FRAGMENT); /* the old one; this begins a new one */
	fragment(3, 0, 1000, true);
	expect_datagram(2000);
	tear_down();
}

/* One more than fit: the oldest goes, all others are completed. */
static void test_fragments_bounded(void)
{
	set_up();
	datagram_make(2000);
	for (uint32_t id = 0; id <= REASSEMBLY_DATAGRAMS_MAX; id++) {
		now_ns++;
		fragment(id, 0, 1000, true);
		if (id < REASSEMBLY_DATAGRAMS_MAX)
			expect_waits();
		else
			expect_drop(COUNTER_DROP_FRAGMENT);
	}
	for (uint32_t id = 1; id <= REASSEMBLY_DATAGRAMS_MAX; id++) {
		fragment(id, 1000, 1000, false);
		expect_datagram(2000);
	}
	tear_down();
}

/* Fragments of one id but another protocol, source or destination are another datagram's. */
static void test_fragments_kept_apart(void)
{
	static const size_t offsets[] = {18, 23, 26 + 3, 30 + 3};

	set_up();
	datagram_make(2000);
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		fragment(3, 1000, 1000, false);
		frame.b[offsets[i]] ^= 1;
		frame_fix_ip4(&frame);
		expect_waits();
	}
	fragment(3, 0, 1000, true);
	expect_waits();
	fragment(3, 1000, 1000, false);
	expect_datagram(2000);
	tear_down();
}

/* What is in the datagram is looked at when it is whole: no way around the guards. */
static void test_fragments_are_checked_whole(void)
{
	uint64_t cleared;

	set_up();
	datagram_make(2000);
	put16(datagram + 4, 2001);
	fragment(3, 0, 1000, true);
	expect_waits();
	fragment(3, 1000, 1000, false);
	expect_drop(COUNTER_DROP_TRUNCATED);

	frame_tcp(&frame, NEAR4, FAR4, 0x38, 1400);
	memcpy(datagram, frame.b + 34, 1424);
	cleared = counters.value[COUNTER_URGENT_CLEARED];
	for (int last = 1; last >= 0; last--) {
		fragment(4, last ? 1000 : 0, last ? 424 : 1000, !last);
		frame.b[23] = 6;
		frame_fix_ip4(&frame);
		if (last)
			expect_waits();
	}
	g_assert_cmpint(go(), ==, PASS);
	g_assert_cmpuint(counters.value[COUNTER_URGENT_CLEARED], ==, cleared + 1);
	g_assert_cmphex(frame.b[34 + 13], ==, 0x18);
	g_assert_cmphex(frame_transport_sum(&frame, frame.len), ==, 0xffff);
	tear_down();
}

/* --- IPv6 --- */

/* What stands in front of the fragment header; the whole does not have it any more. */
static const uint8_t hop_by_hop[8] = {44, 0, 5, 2, 0, 0, 1, 0};
static uint8_t next_header = 17;

static void fragment6_behind(const uint8_t *options, size_t options_len, uint32_t id,
	uint32_t start, uint32_t len, bool more)
{
	uint8_t *at = frame.b + 54 + options_len;

	frame_ip6(&frame, options_len ? 0 : 44, NEAR6, FAR6, "", 0);
	if (options_len)
		memcpy(frame.b + 54, options, options_len);
	at[0] = next_header;
	put16(at + 2, start | more);
	put16(at + 4, id >> 16);
	put16(at + 6, id);
	memcpy(at + 8, datagram + start, len);
	frame.len = 54 + options_len + 8 + len;
	put16(frame.b + 18, (uint32_t)frame.len - 54);
}

static void fragment6(uint32_t id, uint32_t start, uint32_t len, bool more)
{
	fragment6_behind(NULL, 0, id, start, len, more);
}

/* What the frame would have been without fragments. */
static struct frame whole6;

static void datagram6_make(uint32_t len)
{
	static uint8_t data[65536];

	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 37 >> 3);
	frame_udp(&whole6, NEAR6, FAR6, 9, data, len - 8);
	memcpy(datagram, whole6.b + 54, len);
}

static void expect_datagram6(void)
{
	g_assert_cmpint(go(), ==, PASS);
	g_assert_cmpmem(frame.b, frame.len, whole6.b, whole6.len);
	g_assert_false(packet.is_fragment);
	g_assert_cmpuint(packet.transport_offset, ==, 54);
	g_assert_cmpuint(packet.transport_len, ==, whole6.len - 54);
}

static void set_up6(void)
{
	set_up();
	next_header = 17;
}

static void test_fragments6_any_order(void)
{
	static const uint8_t orders[][3] = {
		{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

	set_up6();
	datagram6_make(3001);
	for (size_t i = 0; i < ARRAY_SIZE(orders) * 2; i++) {
		for (int k = 0; k < 3; k++) {
			uint32_t start = orders[i / 2][k] * 1000u;

			fragment6_behind(hop_by_hop, i % 2 ? 8 : 0, 0x12345678, start,
				start == 2000 ? 1001 : 1000, start != 2000);
			if (k < 2)
				expect_waits();
			else
				expect_datagram6();
		}
	}
	tear_down();
}

/* 64 KiB behind the header of 40 bytes, as far as lengths can say; and one more. */
static void test_fragments6_largest(void)
{
	uint32_t start = 0;

	set_up6();
	datagram6_make(65535);
	for (; start + 1448 < 65535; start += 1448) {
		fragment6(9, start, 1448, true);
		expect_waits();
	}
	fragment6(9, start, 65535 - start, false);
	expect_datagram6();
	fragment6(9, 65528, 7, false);
	expect_waits();
	fragment6(9, 65528, 8, false);
	expect_drop(COUNTER_DROP_FRAGMENT);
	fragment6_behind(hop_by_hop, 8, 10, 65520, 7, false);
	expect_waits();
	fragment6_behind(hop_by_hop, 8, 10, 65520, 8, false);
	expect_drop(COUNTER_DROP_FRAGMENT);
	tear_down();
}

static void test_fragments6_overlap(void)
{
	set_up6();
	datagram6_make(3000);
	for (uint32_t start = 8; start < 3000; start += 496) {
		fragment6(3, start, 1000, true);
		expect_waits();
		fragment6(3, start + 496, 8, true);
		expect_drop(COUNTER_DROP_FRAGMENT);
	}
	fragment6(3, 8, 9, true); /* no multiple of 8 */
	expect_drop(COUNTER_DROP_FRAGMENT);
	fragment6(3, 8, 0, true); /* empty */
	expect_drop(COUNTER_DROP_FRAGMENT);
	fragment6(3, 0, 0, false);
	expect_drop(COUNTER_DROP_FRAGMENT);
	tear_down();
}

static void test_fragments6_expire(void)
{
	set_up6();
	datagram6_make(2000);
	fragment6(3, 0, 1000, true);
	expect_waits();
	now_ns += REASSEMBLY_TIMEOUT_NS - 1;
	fragment6(3, 1000, 1000, false);
	expect_datagram6();
	fragment6(3, 0, 1000, true);
	expect_waits();
	now_ns += REASSEMBLY_TIMEOUT_NS;
	fragment6(3, 1000, 1000, false);
	expect_drop(COUNTER_DROP_FRAGMENT);
	tear_down();
}

/* RFC 6946: nothing to those that wait, though all that names a datagram is the same. */
static void test_fragments6_atomic(void)
{
	static struct frame two;

	set_up6();
	datagram6_make(2000);
	two = whole6;
	fragment6(3, 0, 1000, true);
	expect_waits();
	datagram6_make(77);
	for (int options = 0; options < 2; options++) {
		fragment6_behind(hop_by_hop, options ? 8 : 0, 3, 0, 77, false);
		expect_datagram6();
	}
	datagram6_make(2000);
	fragment6(3, 1000, 1000, false);
	expect_datagram6();
	g_assert_cmpmem(two.b, two.len, whole6.b, whole6.len);
	tear_down();
}

/* RFC 8200 4.5: in all but the first fragment the next header is nothing. */
static void test_fragments6_next_header(void)
{
	set_up6();
	datagram6_make(2000);
	next_header = 59;
	fragment6(3, 1000, 1000, false);
	expect_waits();
	next_header = 17;
	fragment6(3, 0, 1000, true);
	expect_datagram6();
	tear_down();
}

static void test_fragments6_kept_apart(void)
{
	static const size_t offsets[] = {22 + 15, 38 + 15, 54 + 4, 54 + 7};

	set_up6();
	datagram6_make(2000);
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		fragment6(3, 1000, 1000, false);
		frame.b[offsets[i]] ^= 1;
		expect_waits();
	}
	fragment(3, 1000, 1000, false); /* IPv4 */
	expect_waits();
	fragment6(3, 0, 1000, true);
	expect_waits();
	fragment6(3, 1000, 1000, false);
	expect_datagram6();
	tear_down();
}

/* Both families share the room, and the oldest makes it, of whichever it is. */
static void test_fragments6_bounded(void)
{
	set_up6();
	datagram6_make(2000);
	fragment6(1000, 0, 1000, true);
	expect_waits();
	for (uint32_t id = 1; id < REASSEMBLY_DATAGRAMS_MAX; id++) {
		now_ns++;
		fragment(id, 0, 1000, true);
		expect_waits();
	}
	now_ns++;
	fragment6(1001, 0, 1000, true);
	expect_drop(COUNTER_DROP_FRAGMENT);
	now_ns++;
	fragment6(1002, 0, 1000, true);
	expect_drop(COUNTER_DROP_FRAGMENT);
	fragment6(1001, 1000, 1000, false);
	expect_datagram6();
	datagram_make(2000);
	fragment(1, 1000, 1000, false);
	expect_waits(); /* the first half was given up */
	fragment(2, 0, 1000, true);
	expect_drop(COUNTER_DROP_FRAGMENT); /* it was there already: of id 2 nothing was given up */
	tear_down();
}

static void test_fragments6_in_fragments(void)
{
	set_up6();
	datagram6_make(2000);
	memset(datagram, 0, 8);
	datagram[0] = 17; /* a fragment header */
	datagram[7] = 1;
	next_header = 44;
	fragment6(3, 0, 1000, true);
	expect_waits();
	fragment6(3, 1000, 1000, false);
	expect_drop(COUNTER_DROP_FRAGMENT);
	fragment6(3, 0, 1000, false);
	expect_drop(COUNTER_DROP_FRAGMENT);
	/* Options that only the destination reads stay where they are. */
	datagram6_make(2000);
	memmove(datagram + 8, datagram, 1992);
	memcpy(datagram, "\x11\0\1\4\0\0\0\0", 8);
	put16(datagram + 8 + 4, 1992);
	put16(datagram + 8 + 6, 1);
	next_header = 60;
	fragment6(3, 0, 1000, true);
	expect_waits();
	fragment6(3, 1000, 1000, false);
	g_assert_cmpint(go(), ==, PASS);
	g_assert_cmpuint(packet.protocol, ==, 17);
	g_assert_cmpuint(packet.transport_offset, ==, 62);
	g_assert_cmpuint(frame.len, ==, 54 + 2000);
	g_assert_cmpmem(frame.b + 54, 2000, datagram, 2000);
	tear_down();
}

/* RFC 6980 5. Echo requests may come so. */
static void test_fragments6_neighbor_discovery(void)
{
	set_up6();
	next_header = 58;
	for (uint8_t type = 128; type < 138; type++) {
		bool discovery = type >= 133 && type <= 137;
		uint8_t message[64] = {type, [8] = 0xfd, [23] = 2};

		frame_ip6(&whole6, 58, NEAR6, FAR6, message, sizeof(message));
		whole6.b[21] = 64;
		memcpy(datagram, whole6.b + 54, sizeof(message));
		for (int atomic = 0; atomic < 2; atomic++) {
			if (!atomic) {
				fragment6(3, 0, 32, true);
				expect_waits();
				fragment6(3, 32, 32, false);
			} else {
				fragment6(3, 0, 64, false);
			}
			if (discovery)
				expect_drop(COUNTER_DROP_FRAGMENT);
			else
				expect_datagram6();
		}
	}
	tear_down();
}

/* Neither who is meant nor the rest is looked at less closely. */
static void test_fragments6_are_checked(void)
{
	set_up6();
	datagram6_make(2000);
	put16(datagram + 4, 2001);
	fragment6(3, 0, 1000, true);
	expect_waits();
	fragment6(3, 1000, 1000, false);
	expect_drop(COUNTER_DROP_TRUNCATED);
	fragment6(3, 0, 1000, true);
	g_assert_cmpint(inet_pton(AF_INET6, "::1", frame.b + 38), ==, 1);
	expect_answer(1, 0);
	fragment6(3, 0, 1000, true);
	g_assert_cmpint(inet_pton(AF_INET6, "fe80::1", frame.b + 38), ==, 1);
	expect_answer(1, 0);
	fragment6(3, 0, 1000, true);
	g_assert_cmpint(inet_pton(AF_INET6, "::", frame.b + 22), ==, 1);
	expect_drop(COUNTER_DROP_HEADER);
	policy.ipv6 = false;
	fragment6(3, 0, 1000, true);
	expect_drop(COUNTER_DROP_IPV6_DISABLED);
	tear_down();
}

/* Our own stack gets what it is, and a checksum over the whole. */
static void test_fragments6_own_stack(void)
{
	set_up6();
	with_filter = false;
	ingress.own_stack = true;
	for (int wrong = 0; wrong < 2; wrong++) {
		datagram6_make(2000);
		datagram[1999] ^= (uint8_t)wrong;
		fragment6(3, 0, 1000, true);
		expect_waits();
		fragment6(3, 1000, 1000, false);
		if (wrong)
			expect_drop(COUNTER_DROP_CHECKSUM);
		else
			expect_datagram6();
		g_assert_cmpint(ingress_result, ==, wrong ? INGRESS_DROP : INGRESS_UDP);
	}
	with_filter = true;
	tear_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	with_filter = true;
	g_test_add_func("/reassembly/any-order", test_fragments_any_order);
	g_test_add_func("/reassembly/largest", test_fragments_largest);
	g_test_add_func("/reassembly/too-long", test_fragments_too_long_with_options);
	g_test_add_func("/reassembly/impossible", test_fragments_impossible);
	g_test_add_func("/reassembly/overlap", test_fragments_overlap);
	g_test_add_func("/reassembly/two-ends", test_fragments_two_ends);
	g_test_add_func("/reassembly/expire", test_fragments_expire);
	g_test_add_func("/reassembly/bounded", test_fragments_bounded);
	g_test_add_func("/reassembly/kept-apart", test_fragments_kept_apart);
	g_test_add_func("/reassembly/checked-whole", test_fragments_are_checked_whole);
	g_test_add_func("/reassembly/ip6/any-order", test_fragments6_any_order);
	g_test_add_func("/reassembly/ip6/largest", test_fragments6_largest);
	g_test_add_func("/reassembly/ip6/overlap", test_fragments6_overlap);
	g_test_add_func("/reassembly/ip6/expire", test_fragments6_expire);
	g_test_add_func("/reassembly/ip6/atomic", test_fragments6_atomic);
	g_test_add_func("/reassembly/ip6/next-header", test_fragments6_next_header);
	g_test_add_func("/reassembly/ip6/kept-apart", test_fragments6_kept_apart);
	g_test_add_func("/reassembly/ip6/bounded", test_fragments6_bounded);
	g_test_add_func("/reassembly/ip6/in-fragments", test_fragments6_in_fragments);
	g_test_add_func("/reassembly/ip6/neighbor-discovery", test_fragments6_neighbor_discovery);
	g_test_add_func("/reassembly/ip6/checked", test_fragments6_are_checked);
	g_test_add_func("/reassembly/ip6/own-stack", test_fragments6_own_stack);
	return g_test_run();
}
