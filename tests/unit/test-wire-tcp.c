/* SPDX-License-Identifier: Apache-2.0 */
#include "frames.h"

#include <linux/virtio_net.h>

#include "base/util.h"
#include "wire/checksum.h"
#include "wire/option.h"
#include "wire/tcp.h"
#include "wire/vnet.h"

/* A header with these options, at the heap's end: a read too far is seen by the sanitizer. */
static struct tcp_options parsed(const void *options, size_t len)
{
	struct tcp_options ret = {.mss = 1, .window_scale = 1, .has_window_scale = true};
	struct tcp_header *tcp = g_malloc(TCP_HEADER_MIN + len);

	*tcp = (struct tcp_header){.offset = (uint8_t)((TCP_HEADER_MIN + len) / 4 << 4)};
	memcpy(tcp + 1, options, len);
	tcp_options_parse(tcp, &ret);
	g_free(tcp);
	return ret;
}

static void test_options(void)
{
	static const struct {
		const char *what, *options;
		uint8_t len;
		uint16_t mss;
		int window_scale; /* -1: none */
	} rows[] = {
		{"none", "", 0, 0, -1},
		{"what Linux sends", "\2\4\5\xb4\4\2\10\12\1\2\3\4\0\0\0\0\1\3\3\7", 20, 1460, 7},
		{"at the end of the longest header",
			"\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\3\3\4\2"
			"\4\xff\xff",
			40, 65535, 4},
		{"behind the list's end", "\1\0\2\4\5\xb4\3\3\7\0\0\0", 12, 0, -1},
		{"of unknown kinds", "\376\4\xf9\x89\375\3x\2\4\1\2\0", 12, 0x102, -1},
		{"unknown as long as the list", "\36\14xxxxxxxxxx", 12, 0, -1},
		{"MSS, high byte first", "\2\4\x12\x34", 4, 0x1234, -1},
		{"MSS too short", "\2\3\5\3\3\7\0\0", 8, 0, 7},
		{"MSS too long", "\2\5\5\xb4x\3\3\7", 8, 0, 7},
		{"MSS twice: the last one", "\2\4\0\1\2\4\0\2", 8, 2, -1},
		{"MSS of nothing", "\2\4\0\0", 4, 0, -1},
		{"shift of 0", "\3\3\0\0", 4, 0, 0},
		{"shift of 14", "\3\3\16\0", 4, 0, 14},
		{"shift above 14 (RFC 7323 2.3)", "\3\3\17\0", 4, 0, 14},
		{"shift of 255", "\3\3\377\0", 4, 0, 14},
		{"shift too short", "\3\2\2\4\5\xb4\0\0", 8, 1460, -1},
		{"shift too long", "\3\4\7\7\2\4\5\xb4", 8, 1460, -1},
		/* The checked parse lets none of these pass; nothing is read beyond all the same.
		 */
		{"a kind alone at the end", "\1\1\1\2", 4, 0, -1},
		{"cut short", "\1\2\4\5", 4, 0, -1},
		{"length of 0", "\2\0\5\xb4\3\3\7\0", 8, 0, -1},
		{"length of 1", "\2\1\5\xb4\3\3\7\0", 8, 0, -1},
		{"longer than the header", "\2\377\5\xb4", 4, 0, -1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tcp_options got = parsed(rows[i].options, rows[i].len);

		g_test_message("%s", rows[i].what);
		g_assert_cmpuint(got.mss, ==, rows[i].mss);
		g_assert_cmpint(got.has_window_scale, ==, rows[i].window_scale >= 0);
		g_assert_cmpint(got.window_scale, ==, MAX(rows[i].window_scale, 0));
	}
}

/* Every list of four bytes: the walk ends, within the list. */
static void test_option_walk(void)
{
	static const uint8_t values[] = {0, 1, 2, 3, 4, 5, 8, 255};
	const size_t n = ARRAY_SIZE(values);

	for (size_t i = 0; i < n * n * n * n; i++) {
		uint8_t *list = g_malloc(4), kind;
		struct cursor options = {.at = list, .left = 4};

		for (size_t k = 0, rest = i; k < 4; k++, rest /= n)
			list[k] = values[rest % n];
		for (const uint8_t *at = list; option_next(&options, &kind); at = options.at) {
			if (kind > 1)
				g_assert_cmpint(options.at - at, ==, at[1]);
			g_assert_cmpint(options.at - at, >=, kind > 1 ? 2 : 1);
			g_assert_cmpuint(options.left, <, 4);
			g_assert_true(options.at + options.left == list + 4);
			g_assert_cmpint(kind, !=, 0);
		}
		/* Broken: not empty, and no end. */
		if (options.left && kind)
			g_assert_true(options.left == 1 || options.at[1] < 2 ||
				options.at[1] > options.left);
		g_free(list);
	}
}

static void test_sequence(void)
{
	static const struct {
		uint32_t a, b;
	} rows[] = {{0, 1}, {UINT32_MAX, 0}, {UINT32_MAX - 10, 10}, {0, INT32_MAX},
		{UINT32_C(0x80000000), UINT32_MAX}, {UINT32_C(0x7fffffff), UINT32_C(0x80000000)}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		g_assert_true(seq_before(rows[i].a, rows[i].b));
		g_assert_false(seq_before(rows[i].b, rows[i].a));
		g_assert_true(seq_after(rows[i].b, rows[i].a));
		g_assert_false(seq_after(rows[i].a, rows[i].b));
		g_assert_false(seq_before(rows[i].a, rows[i].a));
		g_assert_false(seq_after(rows[i].a, rows[i].a));
	}
}

static void test_header(void)
{
	static const uint8_t bytes[TCP_HEADER_MIN] = {
		0x12, 0x34, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8, 0xa0, 0x12, 0xfe, 0xdc, 9, 10, 11, 12};
	struct tcp_header tcp;

	memcpy(&tcp, bytes, sizeof(tcp));
	g_assert_cmphex(be16_get(tcp.src_port), ==, 0x1234);
	g_assert_cmpuint(be16_get(tcp.dst_port), ==, 80);
	g_assert_cmphex(be32_get(tcp.seq), ==, 0x01020304);
	g_assert_cmphex(be32_get(tcp.ack), ==, 0x05060708);
	g_assert_cmpuint(tcp_header_len(&tcp), ==, 40);
	g_assert_cmphex(tcp.flags, ==, TCP_SYN | TCP_ACK);
	g_assert_cmphex(be16_get(tcp.window), ==, 0xfedc);
	g_assert_cmphex(be16_get(tcp.checksum), ==, 0x090a);
	g_assert_cmphex(be16_get(tcp.urgent), ==, 0x0b0c);
}

/* Ours and the kernel's layout and numbers are the same. */
static void test_vnet(void)
{
	struct vnet_header vnet = {
		.flags = VNET_NEEDS_CSUM,
		.gso_type = VNET_GSO_TCP6 | VNET_GSO_ECN,
		.header_len = le16_of(0x1234),
		.gso_size = le16_of(1440),
		.csum_start = le16_of(54),
		.csum_offset = le16_of(16),
		.num_buffers = le16_of(0xff01),
	};
	struct virtio_net_hdr_v1 theirs;

	g_assert_cmpuint(sizeof(theirs), ==, sizeof(vnet));
	memcpy(&theirs, &vnet, sizeof(theirs));
	g_assert_cmphex(theirs.flags, ==, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	g_assert_cmphex(theirs.gso_type, ==, VIRTIO_NET_HDR_GSO_TCPV6 | VIRTIO_NET_HDR_GSO_ECN);
	g_assert_cmphex(GUINT16_FROM_LE(theirs.hdr_len), ==, 0x1234);
	g_assert_cmpuint(GUINT16_FROM_LE(theirs.gso_size), ==, 1440);
	g_assert_cmpuint(GUINT16_FROM_LE(theirs.csum_start), ==, 54);
	g_assert_cmpuint(GUINT16_FROM_LE(theirs.csum_offset), ==, 16);
	g_assert_cmphex(GUINT16_FROM_LE(theirs.num_buffers), ==, 0xff01);
	g_assert_cmphex(le16_get(vnet.header_len), ==, 0x1234);
	g_assert_cmphex(VNET_DATA_VALID, ==, VIRTIO_NET_HDR_F_DATA_VALID);
	g_assert_cmphex(VNET_GSO_NONE, ==, VIRTIO_NET_HDR_GSO_NONE);
	g_assert_cmphex(VNET_GSO_TCP4, ==, VIRTIO_NET_HDR_GSO_TCPV4);
	g_assert_cmphex(VNET_GSO_UDP, ==, VIRTIO_NET_HDR_GSO_UDP);
	g_assert_cmphex(VNET_GSO_UDP_L4, ==, 5); /* missing in older kernels' headers */
}

/* Pieces of even length, wherever they are cut and wherever they lie; the last may be odd. */
static void test_checksum_pieces(void)
{
	uint8_t data[201], moved[202];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 167 + 200);
	for (size_t len = 0; len <= sizeof(data); len++) {
		uint32_t expected = 0xffff ^ naive_sum(0, data, len);

		for (size_t cut = 0; cut <= len; cut += 2) {
			uint64_t sum = checksum_add(0, data, cut);

			memcpy(moved + 1, data + cut, len - cut);
			sum = checksum_add(sum, moved + 1, len - cut);
			g_assert_cmphex(be16_get(checksum_finish(sum)), ==, expected);
		}
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/wire/tcp/options", test_options);
	g_test_add_func("/wire/tcp/option-walk", test_option_walk);
	g_test_add_func("/wire/tcp/sequence", test_sequence);
	g_test_add_func("/wire/tcp/header", test_header);
	g_test_add_func("/wire/vnet", test_vnet);
	g_test_add_func("/wire/checksum-pieces", test_checksum_pieces);
	return g_test_run();
}
