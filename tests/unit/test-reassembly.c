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
	return g_test_run();
}
