/* SPDX-License-Identifier: Apache-2.0 */
#include "frames.h"

#include "base/util.h"
#include "wire/checksum.h"
#include "wire/cursor.h"
#include "wire/icmp_error.h"
#include "wire/packet.h"

static const char near4[] = "10.0.2.100", far4[] = "192.0.2.1";
static const char near6[] = "fd00::64", far6[] = "2001:db8::1";

static struct frame frame;

static struct packet parsed(enum packet_outcome expected)
{
	/* At the heap's end, so that a read too far is seen by the sanitizer. */
	uint8_t *copy = g_memdup2(frame.b, frame.len);
	struct packet packet;

	g_assert_cmpint(packet_parse(copy, frame.len, &packet), ==, expected);
	g_free(copy);
	return packet;
}

static void assert_addr(const struct ip_addr *addr, const char *text)
{
	char buf[INET6_ADDRSTRLEN];
	struct in_addr v4;

	if (addr->family == AF_INET) {
		v4 = ip_addr_v4(addr);
		inet_ntop(AF_INET, &v4, buf, sizeof(buf));
	} else {
		inet_ntop(AF_INET6, &addr->in6, buf, sizeof(buf));
	}
	g_assert_cmpstr(buf, ==, text);
}

static void test_bytes(void)
{
	g_assert_cmphex(be16_get(be16_of(0x1234)), ==, 0x1234);
	g_assert_cmphex(be32_get(be32_of(0x89abcdef)), ==, 0x89abcdef);
	g_assert_cmphex(be32_of(0x89abcdef).b[0], ==, 0x89);
}

static void test_cursor(void)
{
	uint8_t bytes[10] = {0};
	struct cursor cursor = {.at = bytes, .left = sizeof(bytes)};

	g_assert_true(cursor_take(&cursor, 4) == bytes);
	g_assert_null(cursor_take(&cursor, 7));
	g_assert_null(cursor_take(&cursor, SIZE_MAX));
	g_assert_cmpuint(cursor.left, ==, 6);
	g_assert_false(cursor_limit(&cursor, 7));
	g_assert_true(cursor_limit(&cursor, 5));
	g_assert_null(cursor_header(&cursor, struct icmp_sender));
	g_assert_true(cursor_take(&cursor, 5) == bytes + 4);
	g_assert_nonnull(cursor_take(&cursor, 0));
}

/* Random lengths, alignments and contents, in one piece and in two. */
static void test_checksum_model(void)
{
	uint8_t data[4200];

	for (int round = 0; round < 3000; round++) {
		size_t start = (size_t)g_test_rand_int_range(0, 17);
		size_t len = (size_t)g_test_rand_int_range(0, round % 10 ? 200 : 4096);
		size_t cut = len ? (size_t)g_test_rand_int_range(0, (int)len) & ~(size_t)1 : 0;
		uint32_t expected;

		for (size_t i = 0; i < len; i++)
			data[start + i] = round % 7 ? (uint8_t)g_test_rand_int() : 0xff;
		expected = ~naive_sum(0, data + start, len) & 0xffff;
		g_assert_cmphex(be16_get(checksum_finish(checksum_add(0, data + start, len))), ==,
			expected);
		g_assert_cmphex(
			be16_get(checksum_finish(checksum_add(checksum_add(0, data + start, cut),
				data + start + cut, len - cut))),
			==, expected);
	}
}

/* RFC 1071 3, the example: 0001 f203 f4f5 f6f7 add up to ddf2. */
static void test_checksum_example(void)
{
	static const uint8_t example[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

	g_assert_cmphex(be16_get(checksum_finish(checksum_add(0, example, sizeof(example)))), ==,
		0xffff & ~0xddf2);
	g_assert_cmphex(be16_get(checksum_finish(0)), ==, 0xffff);
}

static void test_checksum_pseudo(void)
{
	struct ip6_addr src, dst;
	be32 src4, dst4;

	frame_tcp(&frame, near4, far4, 2, 33);
	memcpy(&src4, frame.b + 26, 4);
	memcpy(&dst4, frame.b + 30, 4);
	g_assert_cmphex(be16_get(checksum_finish(checksum_add(
				checksum_pseudo4(src4, dst4, 6, 57), frame.b + 34, 57))),
		==, 0);
	frame_tcp(&frame, near6, far6, 2, 33);
	memcpy(&src, frame.b + 22, 16);
	memcpy(&dst, frame.b + 38, 16);
	g_assert_cmphex(be16_get(checksum_finish(checksum_add(
				checksum_pseudo6(&src, &dst, 6, 57), frame.b + 54, 57))),
		==, 0);
}

static void test_checksum_update(void)
{
	for (int round = 0; round < 20000; round++) {
		uint8_t data[8];
		be16 checksum, before, after;
		int at = g_test_rand_int_range(0, 4) * 2;

		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)(round % 3 ? g_test_rand_int() : 0);
		data[(at + 2) % 8] |= 1; /* not all zero, as no header is */
		checksum = checksum_finish(checksum_add(0, data, sizeof(data)));
		memcpy(&before, data + at, 2);
		after = be16_of(round % 5 ? (uint16_t)g_test_rand_int() : 0);
		memcpy(data + at, &after, 2);
		checksum = checksum_update(checksum, before, after);
		/* A verifier adds the checksum in: both zeros are right (RFC 1624 3). */
		g_assert_cmphex(naive_sum(be16_get(checksum), data, sizeof(data)), ==, 0xffff);
	}
}

static void test_tcp4(void)
{
	struct packet p;

	frame_tcp(&frame, near4, far4, 2, 10);
	memset(frame.b + frame.len, 0xee, 6);
	frame.len += 6; /* padding */
	p = parsed(PACKET_OK);
	g_assert_cmphex(p.ethertype, ==, ETH_TYPE_IP4);
	g_assert_cmpint(p.protocol, ==, IPPROTO_TCP);
	g_assert_cmpint(p.ttl, ==, 64);
	assert_addr(&p.src, near4);
	assert_addr(&p.dst, far4);
	g_assert_cmpuint(p.ip_offset, ==, 14);
	g_assert_cmpuint(p.transport_offset, ==, 34);
	g_assert_cmpuint(p.transport_len, ==, 34);
	g_assert_cmpuint(p.transport_header_len, ==, 24);
	g_assert_cmpuint(p.len, ==, frame.len - 6);
	g_assert_false(p.is_fragment || p.more_fragments || p.source_routed);
}

static void test_udp6(void)
{
	struct packet p;

	frame_udp(&frame, near6, far6, 53, "abc", 3);
	frame.len += 2;
	p = parsed(PACKET_OK);
	g_assert_cmphex(p.ethertype, ==, ETH_TYPE_IP6);
	g_assert_cmpint(p.src.family, ==, AF_INET6);
	assert_addr(&p.src, near6);
	assert_addr(&p.dst, far6);
	g_assert_cmpuint(p.transport_offset, ==, 54);
	g_assert_cmpuint(p.transport_len, ==, 11);
	g_assert_cmpuint(p.transport_header_len, ==, 8);
	g_assert_cmpuint(p.len, ==, frame.len - 2);
}

static void test_arp(void)
{
	struct packet p;

	frame_arp(&frame);
	frame.len = 60;
	p = parsed(PACKET_OK);
	assert_addr(&p.src, near4);
	assert_addr(&p.dst, "10.0.2.2");
	g_assert_cmpuint(p.len, ==, 42);
}

static void test_fragment4(void)
{
	uint8_t data[24] = {0};
	struct packet p;

	frame_ip4(&frame, 17, near4, far4, data, sizeof(data));
	put16(frame.b + 20, 0x2000 | 185);
	frame_fix_ip4(&frame);
	p = parsed(PACKET_OK);
	g_assert_true(p.is_fragment && p.more_fragments);
	g_assert_cmpuint(p.fragment_offset, ==, 1480);
	g_assert_cmphex(p.fragment_id, ==, 0x1234);
	g_assert_cmpuint(p.transport_len, ==, 24);
	g_assert_cmpuint(p.transport_header_len, ==, 0);
}

/* Hop-by-hop, destination options, routing, fragment: each 8 bytes. */
static void test_extensions6(void)
{
	uint8_t chain[] = {60, 0, 5, 2, 0, 0, 1, 0, 43, 0, 1, 4, 0, 0, 0, 0, 44, 0, 2, 0, 0, 0, 0,
		0, 17, 0, 0x05, 0xc9, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 5, 6, 7, 8};
	struct packet p;

	frame_ip6(&frame, 0, near6, far6, chain, sizeof(chain));
	p = parsed(PACKET_OK);
	g_assert_cmpint(p.protocol, ==, IPPROTO_UDP);
	g_assert_true(p.is_fragment && p.more_fragments);
	g_assert_cmpuint(p.fragment_offset, ==, 1480);
	g_assert_cmphex(p.fragment_id, ==, 0xdeadbeef);
	g_assert_cmpuint(p.transport_offset, ==, 54 + 32);
	g_assert_cmpuint(p.transport_len, ==, 8);
	g_assert_false(p.source_routed);
	frame.b[54 + 18] = 0; /* routing type 0 */
	g_assert_true(parsed(PACKET_OK).source_routed);
}

static void test_extension_chain_bounded(void)
{
	uint8_t chain[8 * (PACKET_EXTENSIONS_MAX + 1)];

	for (size_t i = 0; i < sizeof(chain); i++)
		chain[i] = i % 8 ? 0 : 60;
	frame_ip6(&frame, 60, near6, far6, chain, sizeof(chain));
	frame.b[54 + 8 * (PACKET_EXTENSIONS_MAX - 1)] = 59; /* the last of eight */
	parsed(PACKET_OK);
	frame.b[54 + 8 * (PACKET_EXTENSIONS_MAX - 1)] = 60;
	frame.b[54 + 8 * PACKET_EXTENSIONS_MAX] = 59;
	parsed(PACKET_BAD_HEADER);
}

/* RFC 8200 4.1: hop-by-hop options come first. */
static void test_hop_by_hop_first(void)
{
	static const uint8_t chain[16] = {0, 0, 1, 4, 0, 0, 0, 0, 59, 0, 1, 4};

	frame_ip6(&frame, 60, near6, far6, chain, sizeof(chain));
	parsed(PACKET_BAD_HEADER);
	frame.b[54] = 60;
	parsed(PACKET_OK);
	frame.b[20] = 0;
	parsed(PACKET_OK);
}

/* Every frame, cut at every length, is truncated or, from its end on, right. */
static void test_truncation(void)
{
	for (int kind = 0; kind < 6; kind++) {
		size_t whole;

		if (kind == 0)
			frame_tcp(&frame, near4, far4, 2, 9);
		else if (kind == 1)
			frame_tcp(&frame, near6, far6, 2, 9);
		else if (kind == 2)
			frame_udp(&frame, near6, far6, 7, "xyz", 3);
		else if (kind == 3)
			frame_ns(&frame);
		else if (kind == 4)
			frame_ping(&frame, near4, far4);
		else
			frame_arp(&frame);
		whole = frame.len;
		for (frame.len = 0; frame.len < whole; frame.len++)
			parsed(PACKET_TRUNCATED);
		parsed(PACKET_OK);
	}
}

static struct packet parsed_any(void)
{
	struct packet packet;

	packet_parse(frame.b, frame.len, &packet);
	return packet;
}

static bool allowed(void)
{
	struct packet packet = parsed(PACKET_OK);

	return icmp_error_allowed(frame.b, &packet);
}

static void test_icmp_error_allowed(void)
{
	frame_tcp(&frame, near4, "127.0.0.1", 2, 0);
	g_assert_true(allowed());
	frame.b[0] = 0xff; /* a group's MAC */
	g_assert_false(allowed());
	frame_tcp(&frame, near4, "224.0.0.1", 2, 0);
	g_assert_false(allowed());
	frame_tcp(&frame, near4, "255.255.255.255", 2, 0);
	g_assert_false(allowed());
	frame_tcp(&frame, "0.0.0.0", far4, 2, 0);
	g_assert_false(allowed());
	frame_tcp(&frame, near6, "::1", 2, 0);
	g_assert_true(allowed());
	frame_tcp(&frame, near6, "ff02::1", 2, 0);
	g_assert_false(allowed());
	frame_tcp(&frame, "::", far6, 2, 0);
	g_assert_false(allowed());
	frame_arp(&frame);
	g_assert_false(allowed());
}

static void test_icmp_error_not_about_errors(void)
{
	for (int type = 0; type < 256; type++) {
		frame_ping(&frame, near4, far4);
		frame.b[34] = (uint8_t)type;
		g_assert_cmpint(allowed(), ==, type == 0 || type == 8 || type == 13 || type == 14);
		frame_ping(&frame, near6, far6);
		frame.b[54] = (uint8_t)type;
		g_assert_cmpint(allowed(), ==, type >= 128 && type != 137);
	}
	/* A header-less ICMPv6 packet behind extension headers must not be looked into. */
	frame_ip6(&frame, 59, near6, far6, "", 0);
	g_assert_true(allowed());
}

static void test_icmp_error_first_fragment_only(void)
{
	uint8_t data[16] = {0};

	frame_ip4(&frame, 17, near4, far4, data, sizeof(data));
	put16(frame.b + 20, 0x2000);
	frame_fix_ip4(&frame);
	g_assert_true(allowed());
	put16(frame.b + 20, 0x2001);
	frame_fix_ip4(&frame);
	g_assert_false(allowed());
}

static struct frame reply;

static void build(const char *sender, uint8_t type, uint8_t code, uint32_t rest)
{
	struct icmp_sender from = {.mac = {{0x52, 0x55, 10, 0, 2, 2}}};
	struct packet packet = parsed_any();
	struct in6_addr v6;
	struct in_addr v4;

	if (inet_pton(AF_INET, sender, &v4) == 1) {
		from.addr = ip_addr_of_v4(v4);
	} else {
		inet_pton(AF_INET6, sender, &v6);
		from.addr = ip_addr_of_v6(&v6);
	}
	memset(&reply, 0xee, sizeof(reply));
	reply.len = icmp_build_error(reply.b, &from, frame.b, &packet, type, code, rest);
}

/* What every reply has, and that it quotes `quoted` bytes. */
static void assert_reply(const char *sender, const char *receiver, size_t header, size_t quoted)
{
	struct packet p;

	g_assert_cmpuint(reply.len, ==, 14 + header + 8 + quoted);
	g_assert_cmpint(packet_parse(reply.b, reply.len, &p), ==, PACKET_OK);
	assert_addr(&p.src, sender);
	assert_addr(&p.dst, receiver);
	g_assert_cmpuint(p.len, ==, reply.len);
	g_assert_cmpmem(reply.b, 6, frame_near_mac, 6);
	g_assert_cmpmem(reply.b + 6, 6, frame_far_mac, 6);
	g_assert_cmpmem(reply.b + 14 + header + 8, quoted, frame.b + 14, quoted);
	g_assert_cmphex(frame_transport_sum(&reply, reply.len), ==, 0xffff);
	g_assert_cmphex(reply.b[reply.len], ==, 0xee);
}

static void test_icmp_error4(void)
{
	/* RFC 1812 4.3.2.3: the whole is at most 576 bytes. */
	static const size_t lens[][2] = {{0, 44}, {504, 548}, {505, 548}, {1400, 548}};

	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		frame_tcp(&frame, near4, "127.0.0.1", 2, lens[i][0]);
		frame.len += 5; /* padding is not quoted */
		build("10.0.2.2", 3, 4, 1400);
		assert_reply("10.0.2.2", near4, 20, lens[i][1]);
		g_assert_cmpint(reply.b[34], ==, 3);
		g_assert_cmpint(reply.b[35], ==, 4);
		g_assert_cmpmem(reply.b + 38, 4, "\0\0\x05\x78", 4); /* RFC 1191 4 */
		g_assert_cmphex(naive_sum(0, reply.b + 14, 20), ==, 0xffff);
	}
}

static void test_icmp_error6(void)
{
	/* RFC 4443 3.1: as much as fits in 1280 bytes. */
	static const size_t lens[][2] = {{0, 64}, {1168, 1232}, {1169, 1232}, {1900, 1232}};

	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		frame_tcp(&frame, near6, "::1", 2, lens[i][0]);
		build("fd00::2", 2, 1, 0x12345678);
		assert_reply("fd00::2", near6, 40, lens[i][1]);
		g_assert_cmpint(reply.b[54], ==, 2);
		g_assert_cmpint(reply.b[55], ==, 1);
		g_assert_cmpmem(reply.b + 58, 4, "\x12\x34\x56\x78", 4);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/wire/bytes", test_bytes);
	g_test_add_func("/wire/cursor", test_cursor);
	g_test_add_func("/wire/checksum/model", test_checksum_model);
	g_test_add_func("/wire/checksum/example", test_checksum_example);
	g_test_add_func("/wire/checksum/pseudo", test_checksum_pseudo);
	g_test_add_func("/wire/checksum/update", test_checksum_update);
	g_test_add_func("/wire/packet/tcp4", test_tcp4);
	g_test_add_func("/wire/packet/udp6", test_udp6);
	g_test_add_func("/wire/packet/arp", test_arp);
	g_test_add_func("/wire/packet/fragment4", test_fragment4);
	g_test_add_func("/wire/packet/extensions6", test_extensions6);
	g_test_add_func("/wire/packet/extension-chain-bounded", test_extension_chain_bounded);
	g_test_add_func("/wire/packet/hop-by-hop-first", test_hop_by_hop_first);
	g_test_add_func("/wire/packet/truncation", test_truncation);
	g_test_add_func("/wire/icmp-error/allowed", test_icmp_error_allowed);
	g_test_add_func("/wire/icmp-error/not-about-errors", test_icmp_error_not_about_errors);
	g_test_add_func(
		"/wire/icmp-error/first-fragment-only", test_icmp_error_first_fragment_only);
	g_test_add_func("/wire/icmp-error/built4", test_icmp_error4);
	g_test_add_func("/wire/icmp-error/built6", test_icmp_error6);
	return g_test_run();
}
