/* SPDX-License-Identifier: Apache-2.0 */
/* What ingress does for our own stack only: UDP, ICMP, and a router's answers. */
#include "path-fixture.h"

#include "link/link.h"

static void set_up_own(void)
{
	set_up();
	ingress.own_stack = true;
}

static void set_ttl(uint8_t ttl)
{
	frame.b[frame_is_ip4(&frame) ? 22 : 21] = ttl;
	if (frame_is_ip4(&frame))
		frame_fix_ip4(&frame);
}

static void test_udp_verified(void)
{
	static const uint8_t data[70] = "datagram";

	set_up_own();
	for (size_t len = 1; len < sizeof(data); len++) {
		bool is4 = len & 1;

		frame_udp(&frame, is4 ? NEAR4 : NEAR6, is4 ? FAR4 : FAR6, 9, data, len);
		expect_untouched(INGRESS_UDP);
		g_assert_cmpuint(packet.transport_len, ==, 8 + len);
		memset(frame.b + frame.len, 0xee, 9); /* padding does not count */
		frame.len += 9;
		g_assert_cmpint(go(), ==, PASS);
		frame.b[frame.len - 1 - len / 2] ^= 0x20;
		expect_drop(COUNTER_DROP_CHECKSUM);
		vnet_set(DATA_VALID, GSO_NONE, 0, 3, 3);
		expect_untouched(INGRESS_UDP);
		memset(vnet, 0, sizeof(vnet));
		put16(frame_checksum_field(&frame), 0); /* none: RFC 768, RFC 8200 8.1 */
		if (is4)
			expect_untouched(INGRESS_UDP);
		else
			expect_drop(COUNTER_DROP_HEADER);
	}
	frame_udp(&frame, NEAR6, FAR6, 9, "", 0);
	expect_untouched(INGRESS_UDP);
	tear_down();
}

static void test_udp_pseudo_header(void)
{
	set_up_own();
	for (size_t at = 26; at < 34; at++) {
		frame_of(UDP4);
		frame.b[at] ^= 0x40;
		frame_fix_ip4(&frame);
		expect_drop(COUNTER_DROP_CHECKSUM);
	}
	for (size_t at = 23; at < 54; at++) {
		frame_of(UDP6);
		frame.b[at] ^= 0x02;
		expect_drop(COUNTER_DROP_CHECKSUM);
	}
	tear_down();
}

static void test_udp_partial(void)
{
	static const enum base bases[] = {UDP4, UDP6};

	set_up_own();
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		frame_of(bases[i]);
		make_partial();
		expect_untouched(INGRESS_UDP);
		vnet[0] |= DATA_VALID;
		expect_untouched(INGRESS_UDP);
	}
	tear_down();
}

/* A frame whose IP packet goes on for `n` bytes behind the datagram. */
static void add_tail(size_t n)
{
	memset(frame.b + frame.len, 0xee, n);
	frame.len += n;
	if (frame_is_ip4(&frame)) {
		put16(frame.b + 16, (uint32_t)frame.len - 14);
		frame_fix_ip4(&frame);
	} else {
		put16(frame.b + 18, (uint32_t)frame.len - 54);
	}
}

static void expect_cut(const struct frame *expected)
{
	g_assert_cmpint(go(), ==, PASS);
	g_assert_cmpint(ingress_result, ==, INGRESS_UDP);
	g_assert_cmpmem(frame.b, frame.len, expected->b, expected->len);
	g_assert_cmpuint(packet.transport_offset + packet.transport_len, ==, packet.len);
}

/* The same as if the tail had never been. */
static void test_udp_shorter_than_packet(void)
{
	static struct frame expected;

	set_up_own();
	for (size_t n = 1; n < 70; n++) {
		for (int partial = 0; partial < 2; partial++) {
			frame_of(n & 1 ? UDP4 : UDP6);
			memset(vnet, 0, sizeof(vnet));
			if (partial)
				make_partial();
			expected = frame;
			add_tail(n);
			expect_cut(&expected);
		}
		frame_udp(&frame, NEAR4, FAR4, 9, "", 0);
		memset(vnet, 0, sizeof(vnet));
		expected = frame;
		add_tail(n);
		expect_cut(&expected);
	}
	tear_down();
}

/* The kernel leaves the inner checksum to us; the outer one is right once it is there. */
static void test_udp_partial_within(void)
{
	static uint8_t data[60];
	static struct frame expected;
	size_t field = 42 + 4 + 10;

	set_up_own();
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 5);
	for (int wrong = 0; wrong < 2; wrong++) {
		put16(data + 14, 0x1234); /* of the pseudo header within */
		put16(data + 14, ~naive_sum(0, data + 4, sizeof(data) - 4) & 0xffff);
		frame_udp(&frame, NEAR4, FAR4, 4789, data, sizeof(data));
		expected = frame;
		put16(frame.b + field, 0x1234);
		frame.b[60] ^= (uint8_t)wrong; /* the sender's mistake: the sum within covers it */
		frame.b[44] ^= (uint8_t)wrong; /* and this is of the outer datagram only */
		vnet_set(NEEDS_CSUM, GSO_NONE, 0, 42 + 4, 10);
		if (wrong) {
			expect_drop(COUNTER_DROP_CHECKSUM);
			continue;
		}
		expect_cut(&expected);
		expect_vnet_zero();
	}
	/* In a tail that is cut off. */
	frame_udp(&frame, NEAR4, FAR4, 4789, data, 4);
	expected = frame;
	add_tail(40);
	vnet_set(NEEDS_CSUM, GSO_NONE, 0, frame.len - 20, 10);
	expect_cut(&expected);
	tear_down();
}

static void test_udp_port_zero(void)
{
	set_up_own();
	for (int i = 0; i < 4; i++) {
		frame_of(i & 1 ? UDP4 : UDP6);
		put16(frame_transport(&frame) + (i & 2), 0);
		frame_fix_transport(&frame);
		expect_drop(COUNTER_DROP_HEADER);
		ingress.own_stack = false;
		expect_pass();
		ingress.own_stack = true;
	}
	tear_down();
}

/* Nobody vouches for ICMP. */
static void test_icmp_verified(void)
{
	static const enum base bases[] = {PING4, PING6, NS};
	static struct frame expected;

	set_up_own();
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		frame_of(bases[i]);
		expected = frame;
		/* The type of ICMPv6 would be that of a group report. */
		for (size_t at = bases[i] != PING4; at < 32; at++) {
			frame = expected;
			frame_transport(&frame)[at] ^= 4;
			memset(vnet, 0, sizeof(vnet));
			expect_drop(COUNTER_DROP_CHECKSUM);
			vnet_set(DATA_VALID, GSO_NONE, 0, 0, 0);
			expect_drop(COUNTER_DROP_CHECKSUM);
		}
		frame = expected;
		make_partial();
		g_assert_cmpint(go(), ==, PASS);
		g_assert_cmpint(ingress_result, ==, INGRESS_ICMP);
		g_assert_cmpmem(frame.b, frame.len, expected.b, expected.len);
		expect_vnet_zero();
		make_partial();
		frame_checksum_field(&frame)[0] ^= 4; /* the pseudo header's sum is a lie */
		if (bases[i] != PING4)
			expect_drop(COUNTER_DROP_CHECKSUM);
	}
	/* The addresses count for ICMPv6. */
	memset(vnet, 0, sizeof(vnet));
	frame_of(PING6);
	frame.b[23] ^= 1;
	expect_drop(COUNTER_DROP_CHECKSUM);
	tear_down();
}

/* Nobody listens, and it is no error. */
static void test_group_reports(void)
{
	static const uint8_t mld[] = {130, 131, 132, 143};
	uint8_t report[24] = {0x16};

	for (int own = 0; own < 2; own++) {
		set_up();
		ingress.own_stack = own;
		frame_ip4(&frame, 2, NEAR4, "224.0.0.22", report, 8);
		set_ttl(1);
		own ? expect_drop(N_COUNTERS) : expect_pass();
		memset(frame.b + 26, 0, 4); /* a host without address reports, too */
		frame_fix_ip4(&frame);
		own ? expect_drop(N_COUNTERS) : expect_pass();
		for (size_t i = 0; i < ARRAY_SIZE(mld); i++) {
			report[0] = mld[i];
			frame_ip6(&frame, 58, "fe80::64", "ff02::16", report, sizeof(report));
			set_ttl(1);
			own ? expect_drop(N_COUNTERS) : expect_pass();
		}
		tear_down();
	}
}

static void test_odd_protocols(void)
{
	static const uint8_t odd[] = {0, 4, 41, 47, 50, 89, 103, 132, 253};
	uint8_t echo[16] = {128};

	set_up_own();
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
		frame_ip4(&frame, odd[i], NEAR4, FAR4, "payload", 7);
		expect_answer_for(COUNTER_DROP_PROTOCOL, 3, 13);
		g_assert_cmpmem(reply.b + 26, 4, &policy.gateway, 4);
		if (odd[i]) {
			frame_ip6(&frame, odd[i], NEAR6, FAR6, "payload", 7);
			expect_answer_for(COUNTER_DROP_PROTOCOL, 1, 1);
			g_assert_cmpmem(reply.b + 22, 16, &policy.gateway6, 16);
		}
	}
	frame_ip6(&frame, 59, NEAR6, FAR6, "", 0);
	expect_answer_for(COUNTER_DROP_PROTOCOL, 1, 1);
	frame_ip4(&frame, 89, NEAR4, "224.0.0.5", "ospf", 4);
	expect_drop(COUNTER_DROP_PROTOCOL);
	/* The other family's ICMP is nothing to tell of by this one's. */
	frame_ip4(&frame, 58, NEAR4, FAR4, echo, sizeof(echo));
	expect_drop(COUNTER_DROP_PROTOCOL);
	echo[0] = 8;
	frame_ip6(&frame, 1, NEAR6, FAR6, echo, sizeof(echo));
	expect_drop(COUNTER_DROP_PROTOCOL);
	ingress.own_stack = false;
	expect_pass();
	g_assert_cmpint(ingress_result, ==, INGRESS_OTHER);
	tear_down();
}

/* RFC 1812 5.3.1: who forwards counts, who is meant does not. */
static void test_ttl(void)
{
	static const char *const on_link[][2] = {{NEAR4, GATEWAY4}, {NEAR4, "10.0.2.3"},
		{NEAR4, "10.0.2.77"}, {NEAR4, "10.0.2.255"}, {NEAR4, "255.255.255.255"},
		{NEAR4, "224.0.0.251"}, {NEAR6, GATEWAY6}, {NEAR6, "fd00::77"}, {NEAR6, "ff02::fb"},
		{NEAR6, "ff0e::1"}};
	static const enum base behind[] = {TCP4, UDP4, PING4, TCP6, UDP6};

	set_up_own();
	for (size_t i = 0; i < ARRAY_SIZE(on_link); i++) {
		frame_udp(&frame, on_link[i][0], on_link[i][1], 9, "x", 1);
		set_ttl(1);
		expect_pass();
	}
	for (size_t i = 0; i < ARRAY_SIZE(behind); i++) {
		frame_of(behind[i]);
		set_ttl(2);
		expect_pass();
		set_ttl(1);
		if (frame_is_ip4(&frame)) {
			expect_answer_for(COUNTER_DROP_TTL, 11, 0);
			g_assert_cmpmem(reply.b + 26, 4, &policy.gateway, 4);
			g_assert_cmpmem(reply.b + 38, 4, "\0\0\0\0", 4);
			g_assert_cmpmem(reply.b + 42, reply.len - 42, frame.b + 14, frame.len - 14);
		} else {
			expect_answer_for(COUNTER_DROP_TTL, 3, 0);
			g_assert_cmpmem(reply.b + 22, 16, &policy.gateway6, 16);
			g_assert_cmpmem(reply.b + 58, 4, "\0\0\0\0", 4);
		}
		ingress.own_stack = false;
		expect_pass();
		ingress.own_stack = true;
	}
	frame_ip4(&frame, 132, NEAR4, FAR4, "sctp", 4);
	set_ttl(1);
	expect_answer_for(COUNTER_DROP_TTL, 11, 0);
	frame_of(PING4);
	frame.b[34] = 3; /* no error about an error */
	set_ttl(1);
	expect_drop(COUNTER_DROP_TTL);
	frame_ip4(&frame, 17, NEAR4, FAR4, "12345678", 8);
	put16(frame.b + 20, 0x2000);
	set_ttl(1);
	expect_answer_for(COUNTER_DROP_TTL, 11, 0);
	put16(frame.b + 20, 1); /* no first fragment */
	set_ttl(1);
	expect_drop(COUNTER_DROP_TTL);
	tear_down();
}

static void test_ttl_rate_limit(void)
{
	int n = 0;

	set_up_own();
	frame_of(UDP4);
	set_ttl(1);
	for (int i = 0; i < 80; i++)
		n += go() == ANSWER;
	g_assert_cmpint(n, ==, ICMP_LIMIT_BURST);
	g_assert_cmpuint(counters.value[COUNTER_DROP_TTL], ==, 80);
	tear_down();
}

/* --- runs of datagrams --- */

static uint8_t run_data[65507];

/* As Linux 6.18 gives them to a tap that offers to cut them. */
static void make_run(bool is4, size_t len, uint32_t size)
{
	frame_udp(&frame, is4 ? NEAR4 : NEAR6, is4 ? FAR4 : FAR6, 443, run_data, len);
	make_partial();
	vnet[1] = GSO_UDP_L4;
	vnet_put16(4, size);
}

static void test_runs(void)
{
	static const struct {
		size_t len;
		uint32_t size;
		bool passes;
	} rows[] = {{5000, 1000, true}, {5001, 1000, true}, {2001, 1000, true}, {65487, 1452, true},
		{65487, 65535, true}, {1000, 1000, true}, {1, 1, true}, {1, 1000, true},
		{128, 1, true}, {129, 1, false}, {1280, 10, true}, {1281, 10, false},
		{5000, 0, false}, {0, 1000, false}, {0, 0, false}};

	set_up_own();
	for (size_t i = 0; i < ARRAY_SIZE(rows) * 2; i++) {
		g_test_message("row %zu", i / 2);
		make_run(i % 2, rows[i / 2].len, rows[i / 2].size);
		ingress.offloads = LINK_CSUM | LINK_TSO4 | LINK_TSO6;
		expect_drop(COUNTER_DROP_GSO);
		ingress.offloads |= LINK_USO;
		if (rows[i / 2].passes)
			expect_untouched(INGRESS_UDP);
		else
			expect_drop(COUNTER_DROP_GSO);
		/* libslirp knows none. */
		ingress.own_stack = false;
		make_run(i % 2, rows[i / 2].len, rows[i / 2].size);
		expect_drop(COUNTER_DROP_GSO);
		ingress.own_stack = true;
	}
	tear_down();
}

static void test_runs_of_others(void)
{
	set_up_own();
	ingress.offloads = LINK_USO;
	for (enum base base = TCP4; base <= ARP; base++) {
		frame_of(base);
		vnet_set(0, GSO_UDP_L4, 4, 0, 0);
		if (base == UDP4 || base == UDP6)
			expect_untouched(INGRESS_UDP);
		else
			expect_drop(COUNTER_DROP_GSO);
		vnet_set(0, GSO_UDP_L4 | GSO_ECN, 4, 0, 0);
		expect_drop(COUNTER_DROP_GSO);
		vnet_set(0, GSO_UDP, 4, 0, 0);
		expect_drop(COUNTER_DROP_GSO);
	}
	make_run(true, 3000, 1000);
	put16(frame.b + 20, 0x2000);
	frame_fix_ip4(&frame);
	expect_drop(COUNTER_DROP_GSO);
	make_run(true, 3000, 1000);
	put16(frame.b + 38, 1008); /* that of a single one */
	expect_drop(COUNTER_DROP_GSO);
	make_run(true, 3000, 1000);
	vnet_put16(6, 42); /* the checksum of something within */
	expect_drop(COUNTER_DROP_GSO);
	make_run(true, 3000, 1000);
	vnet_put16(8, 4); /* somewhere in the header */
	expect_drop(COUNTER_DROP_HEADER);
	make_run(true, 3000, 1000);
	frame_fix_transport(&frame);
	frame.b[1000] ^= 1;
	vnet[0] = 0; /* whoever sends it complete has to send it right */
	expect_drop(COUNTER_DROP_CHECKSUM);
	make_run(true, 3000, 1000);
	put16(frame.b + 34, 0);
	expect_drop(COUNTER_DROP_HEADER);
	tear_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/ingress-own/udp-verified", test_udp_verified);
	g_test_add_func("/ingress-own/udp-pseudo-header", test_udp_pseudo_header);
	g_test_add_func("/ingress-own/udp-partial", test_udp_partial);
	g_test_add_func("/ingress-own/udp-shorter-than-packet", test_udp_shorter_than_packet);
	g_test_add_func("/ingress-own/udp-partial-within", test_udp_partial_within);
	g_test_add_func("/ingress-own/udp-port-zero", test_udp_port_zero);
	g_test_add_func("/ingress-own/icmp-verified", test_icmp_verified);
	g_test_add_func("/ingress-own/group-reports", test_group_reports);
	g_test_add_func("/ingress-own/odd-protocols", test_odd_protocols);
	g_test_add_func("/ingress-own/ttl", test_ttl);
	g_test_add_func("/ingress-own/ttl-rate-limit", test_ttl_rate_limit);
	g_test_add_func("/ingress-own/runs", test_runs);
	g_test_add_func("/ingress-own/runs-of-others", test_runs_of_others);
	return g_test_run();
}
