/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is sent is taken apart by a receiver of this file's own: fragments put together, runs cut,
 * checksums verified, or completed where the link was asked to.
 */
#include "flow/egress.h"

#include <arpa/inet.h>

#include "tests/support/fake_link.h"
#include "tests/unit/frames.h"

#define DATAGRAM_MAX (40 + 65535)
#define ALL          (LINK_CSUM | LINK_USO)

static struct fake_link fake;
static struct egress egress;
static struct counters counters;
static struct policy policy;
static struct frame whole;       /* what was put together last */
static uint8_t vnet[12];         /* the first frame's */
static uint32_t n_parts, n_sent; /* frames of the last packet; of all */
static uint32_t mtu;

static void set_up(uint32_t offloads, uint32_t link_mtu)
{
	fake_link_init(&fake);
	fake.link.offloads = offloads;
	memset(&counters, 0, sizeof(counters));
	n_sent = 0;
	mtu = link_mtu;
	egress_init(&egress, &policy, &fake.link, mtu, 0xfffe1234, &counters);
}

/* All that was sent was looked at. */
static void tear_down(void)
{
	g_assert_true(g_queue_is_empty(&fake.sent));
	g_assert_cmpuint(counters.value[COUNTER_FRAMES_OUT], ==, n_sent);
	fake.link.ops->close(&fake.link);
}

static struct ip_addr address(const char *text)
{
	struct ip_addr addr = {.family = AF_INET6};
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return ip_addr_of_v4(v4);
	g_assert_cmpint(inet_pton(AF_INET6, text, &addr.in6), ==, 1);
	return addr;
}

static struct egress_head head_of(bool v6)
{
	return (struct egress_head){
		.dst_mac = {{2, 0, 0, 0, 0, 0x64}},
		.src_mac = {{0x52, 0x55, 10, 0, 2, 2}},
		.src = address(v6 ? "2001:db8::1" : "192.0.2.1"),
		.dst = address(v6 ? "fd00::64" : "10.0.2.100"),
		.ttl = 57,
		.tos = 0xb9,
	};
}

/* ---- the receiver ---- */

static uint32_t be32_at(const uint8_t *at)
{
	return get16(at) << 16 | get16(at + 2);
}

static void check_headers(const struct frame *f)
{
	static const struct frame zero;
	const uint8_t *ip = f->b + 14;

	g_assert_cmpmem(f->b, 12, "\2\0\0\0\0\x64\x52\x55\x0a\0\2\2", 12);
	if (frame_is_ip4(f)) {
		g_assert_cmpuint(ip[0], ==, 0x45);
		g_assert_cmpuint(ip[1], ==, 0xb9);
		g_assert_cmpuint(ip[8], ==, 57);
		g_assert_cmpuint(get16(ip + 2), ==, f->len - 14);
		g_assert_cmphex(naive_sum(0, ip, 20), ==, 0xffff);
		g_assert_cmphex(ip[6] & 0xc0, ==, 0); /* don't fragment is clear */
		g_assert_cmpmem(ip + 12, 8, "\xc0\0\2\1\x0a\0\2\x64", 8);
		return;
	}
	g_assert_cmphex(be32_at(ip), ==, 0x6b900000);
	g_assert_cmpuint(ip[7], ==, 57);
	g_assert_cmpuint(get16(ip + 4), ==, f->len - 14 - 40);
	g_assert_cmpmem(ip + 8, 4, "\x20\x01\x0d\xb8", 4);
	g_assert_cmpmem(ip + 12, 11, zero.b, 11);
	g_assert_cmpuint(ip[39], ==, 0x64);
}

/* False: an ordinary packet. */
static bool fragment_of(
	const struct frame *f, uint32_t *ret_offset, bool *ret_more, uint32_t *ret_id)
{
	const uint8_t *ip = f->b + 14;

	if (frame_is_ip4(f)) {
		*ret_offset = (get16(ip + 6) & 0x1fff) * 8;
		*ret_more = ip[6] & 0x20;
		*ret_id = get16(ip + 4);
		return *ret_more || *ret_offset;
	}
	*ret_offset = get16(ip + 42) & 0xfff8;
	*ret_more = ip[43] & 1;
	*ret_id = be32_at(ip + 44);
	return ip[6] == 44;
}

static bool take_frame(struct frame *f)
{
	GByteArray *sent = g_queue_pop_head(&fake.sent);

	if (!sent)
		return false;
	n_sent++;
	memcpy(vnet, sent->data, 12);
	f->len = sent->len - 12;
	memcpy(f->b, sent->data + 12, f->len);
	g_byte_array_unref(sent);
	check_headers(f);
	return true;
}

/* A fragment's data behind what is there of `whole`. */
static void append(const struct frame *f, uint32_t offset, bool more)
{
	size_t header_len = frame_is_ip4(f) ? 34 : 54, skip = frame_is_ip4(f) ? 34 : 62;

	if (offset == 0) {
		whole.len = header_len;
		memcpy(whole.b, f->b, header_len);
		if (!frame_is_ip4(f))
			whole.b[20] = f->b[54];
	}
	g_assert_cmpuint(whole.len, ==, header_len + offset);
	g_assert_cmpuint(f->len - 14, <=, mtu);
	if (more)
		g_assert_cmpuint((f->len - skip) % 8, ==, 0);
	g_assert_cmpuint(whole.len + f->len - skip, <=, sizeof(whole.b));
	memcpy(whole.b + whole.len, f->b + skip, f->len - skip);
	whole.len += f->len - skip;
}

/* The next packet, in `whole`, with its transport checksum right; false: none. */
static bool receive(void)
{
	static struct frame f;
	uint32_t offset, id, next_id, next_offset;
	bool more;
	static const uint8_t none[12];

	if (!take_frame(&f))
		return false;
	n_parts = 1;
	if (!fragment_of(&f, &offset, &more, &id)) {
		whole = f;
		return true;
	}
	g_assert_cmpuint(offset, ==, 0);
	append(&f, 0, more);
	while (more) {
		g_assert_cmpmem(vnet, 12, none, 12);
		g_assert_true(take_frame(&f));
		g_assert_true(fragment_of(&f, &next_offset, &more, &next_id));
		g_assert_cmpuint(next_id, ==, id);
		append(&f, next_offset, more);
		n_parts++;
	}
	g_assert_cmpmem(vnet, 12, none, 12);
	return true;
}

static uint32_t transport_sum(void)
{
	return frame_transport_sum(&whole, whole.len);
}

/* The field is as the virtio-net header says, which is to lie in the frame. */
static void check_sum(void)
{
	size_t at = (size_t)(frame_transport(&whole) - whole.b);

	if (!(vnet[0] & 1)) {
		g_assert_cmphex(transport_sum(), ==, 0xffff);
		return;
	}
	g_assert_cmpuint(vnet[2] | vnet[3] << 8, ==, at + 8);
	g_assert_cmpuint(vnet[6] | vnet[7] << 8, ==, at);
	g_assert_cmpuint(vnet[8] | vnet[9] << 8, ==, 6);
	g_assert_cmphex(get16(whole.b + at + 6), ==, frame_pseudo_sum(&whole, whole.len) & 0xffff);
}

/* The datagrams that come next are these. Returns in how many frames. */
static uint32_t expect(const struct iovec *iov, int n_iov)
{
	uint32_t n_frames = 0;

	for (int i = 0; i < n_iov;) {
		const uint8_t *udp;
		size_t left, size;

		g_assert_true(receive());
		n_frames += n_parts;
		check_sum();
		udp = frame_transport(&whole);
		g_assert_cmpuint(get16(udp), ==, 7000);
		g_assert_cmpuint(get16(udp + 2), ==, 8000);
		left = (size_t)(whole.b + whole.len - udp);
		g_assert_cmpuint(get16(udp + 4), ==, left);
		left -= 8;
		size = vnet[1] ? (size_t)(vnet[4] | vnet[5] << 8) : left;
		g_assert_cmpuint(vnet[1], ==, size < left ? 5 : 0);
		if (vnet[1])
			g_assert_cmpuint(size + 8 + (frame_is_ip4(&whole) ? 20 : 40), <=, mtu);
		for (udp += 8;; udp += size) {
			g_assert_cmpint(i, <, n_iov);
			g_assert_cmpmem(udp, MIN(size, left), iov[i].iov_base, iov[i].iov_len);
			i++;
			if (left <= size)
				break;
			left -= size;
		}
	}
	return n_frames;
}

/* ---- tests ---- */

static uint8_t pattern[65600];

static void fill(void)
{
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 31 + i / 256);
}

static void test_mac(void)
{
	struct ip_addr v4 = address("10.0.2.3"), v6 = address("fd00::3");
	struct eth_addr mac = egress_mac(&v4);

	g_assert_cmpmem(&mac, 6, "\x52\x55\x0a\0\2\3", 6);
	mac = egress_mac(&v6);
	g_assert_cmpmem(&mac, 6, "\x52\x56\0\0\0\3", 6);
}

/* In one piece and in pieces of odd length. */
static void test_send(void)
{
	for (int v6 = 0; v6 < 2; v6++) {
		struct egress_head head = head_of(v6);
		uint8_t echo[9] = {v6 ? 129 : 0, 0, 0xff, 0xff, 1, 2, 3, 4, 5};
		const struct iovec iov[] = {{echo, 9}, {pattern, 0}, {pattern, 7}, {pattern + 7, 1},
			{pattern + 8, 1000}, {pattern + 1008, 33}};

		set_up(ALL, 1500);
		egress_send(&egress, &head, v6 ? 58 : 1, iov, 6);
		g_assert_true(receive());
		g_assert_cmphex(transport_sum(), ==, 0xffff);
		g_assert_cmpuint(vnet[0] | vnet[1], ==, 0); /* raw sockets see it as it is */
		g_assert_cmpmem(
			frame_transport(&whole) + 9, whole.len - 9 - (v6 ? 54 : 34), pattern, 1041);
		tear_down();
	}
}

static void test_ids_count(void)
{
	struct egress_head head = head_of(false);
	const struct iovec iov[] = {{pattern, 100}, {pattern, 100}, {pattern, 50}, {pattern, 60}};

	set_up(ALL, 1500);
	egress_udp(&egress, &head, 7000, 8000, iov, 4);
	g_assert_true(receive());
	g_assert_cmphex(get16(whole.b + 18), ==, 0xfffe);
	g_assert_true(receive());
	g_assert_cmphex(get16(whole.b + 18), ==, 1);
	tear_down();
}

/* UDP's checksum of 0 would say that there is none. */
static void test_checksum_zero(void)
{
	uint32_t n_ffff = 0;

	for (int v6 = 0; v6 < 2; v6++) {
		struct egress_head head = head_of(v6);

		set_up(0, 1500);
		for (uint32_t i = 0; i < 65536; i += 1) {
			uint8_t data[2] = {(uint8_t)(i >> 8), (uint8_t)i};
			const struct iovec iov = {data, 2};

			egress_udp(&egress, &head, 7000, 8000, &iov, 1);
			g_assert_true(receive());
			g_assert_cmphex(transport_sum(), ==, 0xffff);
			g_assert_cmphex(get16(frame_transport(&whole) + 6), !=, 0);
			n_ffff += get16(frame_transport(&whole) + 6) == 0xffff;
		}
		tear_down();
	}
	g_assert_cmpuint(n_ffff, >=, 2);
}

struct run_row {
	uint32_t offloads, mtu, path_mtu;
	uint32_t size, n, last;
	uint32_t n_frames4, n_frames6;
};

static const struct run_row runs[] = {
	{ALL, 1500, 0, 1400, 1, 1400, 1, 1},
	{ALL, 1500, 0, 1400, 2, 1400, 1, 1},
	{ALL, 1500, 0, 1400, 2, 1, 1, 1},
	{ALL, 1500, 0, 1000, 64, 1000, 1, 1},
	{ALL, 1500, 0, 1452, 64, 7, 2, 2},
	{ALL, 1500, 0, 1472, 46, 7, 2, 91}, /* of IPv6 none fits any more */
	{ALL, 1500, 0, 1, 64, 1, 1, 1},
	{ALL, 1500, 0, 1400, 5, 0, 2, 2},
	{ALL, 1500, 0, 0, 5, 0, 5, 5},
	{ALL, 1500, 0, 1473, 3, 1473, 6, 6},
	{ALL, 1500, 1280, 1252, 3, 1252, 1, 6},
	{ALL, 1500, 1000, 1200, 3, 1200, 6, 1}, /* not below 1280 */
	{ALL, 1500, 9000, 1200, 3, 1200, 1, 1},
	{ALL, 65520, 0, 65507, 1, 65507, 2, 2},
	{ALL, 65520, 0, 20000, 9, 20000, 3, 3},
	{LINK_CSUM, 1500, 0, 1400, 5, 1400, 5, 5},
	{LINK_USO, 1500, 0, 1400, 5, 1400, 5, 5},
	{0, 1500, 0, 1399, 5, 1000, 5, 5},
	{0, 1500, 0, 65507, 1, 65507, 45, 46},
	{ALL, 576, 0, 65507, 1, 65507, 119, 125},
	{ALL, 1280, 0, 65507, 1, 65507, 53, 54},
	{ALL, 68, 0, 1000, 1, 1000, 21, 63},
};

static void test_runs(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
		const struct run_row *row = &runs[i];
		struct iovec iov[EGRESS_PIECES_MAX];

		for (uint32_t j = 0; j < row->n; j++)
			iov[j] = (struct iovec){
				pattern + j % 64, j + 1 == row->n ? row->last : row->size};
		for (int v6 = 0; v6 < 2; v6++) {
			struct egress_head head = head_of(v6);

			g_test_message("row %zu, IPv%d", i, v6 ? 6 : 4);
			head.path_mtu = row->path_mtu;
			set_up(row->offloads, row->mtu);
			egress_udp(&egress, &head, 7000, 8000, iov, (int)row->n);
			g_assert_cmpuint(
				expect(iov, (int)row->n), ==, v6 ? row->n_frames6 : row->n_frames4);
			tear_down();
		}
	}
}

/* Whatever the caller's lengths are, each datagram arrives as it is. */
static void test_any_lengths(void)
{
	static const uint32_t offloads[] = {0, LINK_CSUM, ALL};

	for (int i = 0; i < 3000; i++) {
		int n = g_test_rand_int_range(1, EGRESS_PIECES_MAX + 1);
		struct egress_head head = head_of(i % 2);
		struct iovec iov[EGRESS_PIECES_MAX];

		for (int j = 0; j < n; j++)
			iov[j] = j && g_test_rand_int_range(0, 4)
				? iov[j - 1]
				: (struct iovec){pattern + g_test_rand_int_range(0, 99),
					  (size_t)g_test_rand_int_range(0, i % 7 ? 1600 : 65508)};
		set_up(offloads[i % 3], (uint32_t)g_test_rand_int_range(68, i % 5 ? 2000 : 65521));
		egress_udp(&egress, &head, 7000, 8000, iov, n);
		expect(iov, n);
		tear_down();
	}
}

static void test_many_pieces(void)
{
	struct iovec iov[EGRESS_PIECES_MAX + 1];
	uint8_t udp[8] = {7000 >> 8, 7000 & 255, 8000 >> 8, 8000 & 255, 0, 8 + 63 * 5 / 256, 0, 0};
	struct egress_head head = head_of(true);
	const struct iovec whole_data = {pattern, 63 * 1001};

	put16(udp + 4, 8 + 63 * 1001);
	iov[0] = (struct iovec){udp, 8};
	for (size_t i = 0; i <= 63; i++)
		iov[1 + i] = (struct iovec){pattern + i * 1001, 1001};
	set_up(ALL, 65520);
	egress_send(&egress, &head, 17, iov, 64);
	g_assert_cmpuint(expect(&whole_data, 1), ==, 1);
	tear_down();
	set_up(ALL, 1500);
	egress_send(&egress, &head, 17, iov, 64);
	g_assert_cmpuint(expect(&whole_data, 1), >, 40);
	egress_send(&egress, &head, 17, iov, 65);
	egress_send(&egress, &head, 17, iov, 0);
	g_assert_cmpuint(counters.value[COUNTER_FRAMES_OUT_DROPPED], ==, 2);
	tear_down();
}

/* The largest that IP has room for, and one byte more. */
static void test_largest(void)
{
	for (int v6 = 0; v6 < 2; v6++) {
		struct egress_head head = head_of(v6);
		struct iovec iov = {pattern, v6 ? 65527 : 65507};

		set_up(ALL, 1500);
		egress_udp(&egress, &head, 7000, 8000, &iov, 1);
		expect(&iov, 1);
		iov.iov_len++;
		egress_udp(&egress, &head, 7000, 8000, &iov, 1);
		g_assert_cmpuint(counters.value[COUNTER_FRAMES_OUT_DROPPED], ==, 1);
		tear_down();
	}
}

static void test_lost(void)
{
	struct egress_head head = head_of(false);
	struct iovec iov[3] = {{pattern, 100}, {pattern, 100}, {pattern, 4000}};

	set_up(LINK_CSUM, 1500);
	fake.is_down = true;
	egress_udp(&egress, &head, 7000, 8000, iov, 3);
	/* Of the third its first fragment was not taken. */
	g_assert_cmpuint(counters.value[COUNTER_FRAMES_OUT_DROPPED], ==, 3);
	egress_frame(&egress, pattern, 60);
	g_assert_cmpuint(counters.value[COUNTER_FRAMES_OUT_DROPPED], ==, 4);
	egress.link = NULL;
	egress_udp(&egress, &head, 7000, 8000, iov, 3);
	egress_send(&egress, &head, 1, iov, 1);
	egress_frame(&egress, pattern, 60);
	g_assert_cmpuint(counters.value[COUNTER_FRAMES_OUT_DROPPED], ==, 9);
	tear_down();
}

static void test_frame(void)
{
	GByteArray *sent;

	set_up(ALL, 1500);
	egress_frame(&egress, pattern, 60);
	sent = fake_link_take(&fake);
	g_assert_nonnull(sent);
	g_assert_cmpmem(sent->data, sent->len, pattern, 60);
	g_byte_array_unref(sent);
	n_sent++;
	tear_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	fill();
	g_test_add_func("/egress/mac", test_mac);
	g_test_add_func("/egress/send", test_send);
	g_test_add_func("/egress/ids-count", test_ids_count);
	g_test_add_func("/egress/checksum-zero", test_checksum_zero);
	g_test_add_func("/egress/runs", test_runs);
	g_test_add_func("/egress/any-lengths", test_any_lengths);
	g_test_add_func("/egress/many-pieces", test_many_pieces);
	g_test_add_func("/egress/largest", test_largest);
	g_test_add_func("/egress/lost", test_lost);
	g_test_add_func("/egress/frame", test_frame);
	return g_test_run();
}
