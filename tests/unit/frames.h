/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames made by hand, for the tests. Written without the program's own layouts and checksum, so
 * that a mistake there is not repeated here.
 */
#pragma once

#include <arpa/inet.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* IPv6's header and 64 KiB, behind Ethernet's with a tag. */
#define FRAME_MAX (40 + 65536 + 18)

struct frame {
	size_t len;
	uint8_t b[FRAME_MAX];
};

static const uint8_t frame_near_mac[6] = {0x02, 0, 0, 0, 0, 0x64};
static const uint8_t frame_far_mac[6] = {0x52, 0x55, 10, 0, 2, 2};

static inline void put16(uint8_t *at, uint32_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

static inline uint32_t get16(const uint8_t *at)
{
	return (uint32_t)at[0] << 8 | at[1];
}

/* RFC 1071, word by word as its section 1 puts it. */
static inline uint32_t naive_sum(uint32_t sum, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i += 2)
		sum += (uint32_t)data[i] << 8 | (i + 1 < len ? data[i + 1] : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static inline bool frame_is_ip4(const struct frame *f)
{
	return f->b[13] == 0;
}

static inline uint8_t *frame_transport(struct frame *f)
{
	return f->b + 14 + (frame_is_ip4(f) ? (f->b[14] & 15) * 4 : 40);
}

/* The sum over the pseudo header, 0 for ICMP over IPv4: what a checksum's field holds as long as it
 * is partial. */
static inline uint32_t frame_pseudo_sum(struct frame *f, size_t frame_len)
{
	uint8_t tail[4] = {0, frame_is_ip4(f) ? f->b[23] : f->b[20]};

	if (frame_is_ip4(f) && f->b[23] == 1)
		return 0;
	put16(tail + 2, (uint32_t)(f->b + frame_len - frame_transport(f)));
	return naive_sum(frame_is_ip4(f) ? naive_sum(0, f->b + 26, 8) : naive_sum(0, f->b + 22, 32),
		tail, 4);
}

/* The sum over pseudo header, transport header and data: 0xffff when the checksum is right. */
static inline uint32_t frame_transport_sum(struct frame *f, size_t frame_len)
{
	uint8_t *transport = frame_transport(f);

	return naive_sum(
		frame_pseudo_sum(f, frame_len), transport, (size_t)(f->b + frame_len - transport));
}

static inline void frame_fix_ip4(struct frame *f)
{
	size_t header_len = (size_t)(f->b[14] & 15) * 4;

	put16(f->b + 24, 0);
	put16(f->b + 24, ~naive_sum(0, f->b + 14, header_len) & 0xffff);
}

/* NULL: none that is known here. */
static inline uint8_t *frame_checksum_field(struct frame *f)
{
	switch (frame_is_ip4(f) ? f->b[23] : f->b[20]) {
	case 1:
	case 58:
		return frame_transport(f) + 2;
	case 6:
		return frame_transport(f) + 16;
	case 17:
		return frame_transport(f) + 6;
	default:
		return NULL;
	}
}

static inline void frame_fix_transport(struct frame *f)
{
	uint8_t *at = frame_checksum_field(f);

	if (!at)
		return;
	put16(at, 0);
	put16(at, ~frame_transport_sum(f, f->len) & 0xffff);
}

static inline void frame_eth(struct frame *f, uint32_t type)
{
	memset(f, 0, sizeof(*f));
	memcpy(f->b, frame_far_mac, 6);
	memcpy(f->b + 6, frame_near_mac, 6);
	put16(f->b + 12, type);
	f->len = 14;
}

/* `transport` has its checksum filled in here. */
static inline void frame_ip4(struct frame *f, uint8_t protocol, const char *src, const char *dst,
	const void *transport, size_t len)
{
	frame_eth(f, 0x0800);
	f->b[14] = 0x45;
	put16(f->b + 16, (uint32_t)(20 + len));
	put16(f->b + 18, 0x1234);
	f->b[22] = 64;
	f->b[23] = protocol;
	g_assert_cmpint(inet_pton(AF_INET, src, f->b + 26), ==, 1);
	g_assert_cmpint(inet_pton(AF_INET, dst, f->b + 30), ==, 1);
	memcpy(f->b + 34, transport, len);
	f->len = 34 + len;
	frame_fix_ip4(f);
	if (len >= 8)
		frame_fix_transport(f);
}

static inline void frame_ip6(struct frame *f, uint8_t protocol, const char *src, const char *dst,
	const void *transport, size_t len)
{
	frame_eth(f, 0x86dd);
	f->b[14] = 0x60;
	put16(f->b + 18, (uint32_t)len);
	f->b[20] = protocol;
	f->b[21] = protocol == 58 ? 255 : 64;
	g_assert_cmpint(inet_pton(AF_INET6, src, f->b + 22), ==, 1);
	g_assert_cmpint(inet_pton(AF_INET6, dst, f->b + 38), ==, 1);
	memcpy(f->b + 54, transport, len);
	f->len = 54 + len;
	if (len >= 8)
		frame_fix_transport(f);
}

static inline void frame_ip(struct frame *f, uint8_t protocol, const char *src, const char *dst,
	const void *transport, size_t len)
{
	(strchr(src, ':') ? frame_ip6 : frame_ip4)(f, protocol, src, dst, transport, len);
}

static inline void frame_tcp(
	struct frame *f, const char *src, const char *dst, uint8_t flags, size_t data_len)
{
	uint8_t tcp[2048] = {0x9c, 0x40, 0, 80, 0x7f, 0xff, 0xff, 0xf0, 0, 0, 0, 0, 0x60, flags,
		0xff, 0xff, 0, 0, 0, 0, 2, 4, 5, 0xb4};

	g_assert_cmpuint(24 + data_len, <=, sizeof(tcp));
	for (size_t i = 0; i < data_len; i++)
		tcp[24 + i] = (uint8_t)(i * 7 + 1);
	frame_ip(f, 6, src, dst, tcp, 24 + data_len);
}

static inline void frame_udp(struct frame *f, const char *src, const char *dst, uint32_t port,
	const void *data, size_t len)
{
	static uint8_t udp[FRAME_MAX];

	memset(udp, 0, 8);
	put16(udp, 40000);
	put16(udp + 2, port);
	put16(udp + 4, (uint32_t)(8 + len));
	if (len)
		memcpy(udp + 8, data, len);
	frame_ip(f, 17, src, dst, udp, 8 + len);
}

static inline void frame_arp(struct frame *f)
{
	static const uint8_t arp[28] = {0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0x64, 10, 0, 2, 100,
		0, 0, 0, 0, 0, 0, 10, 0, 2, 2};

	frame_eth(f, 0x0806);
	memset(f->b, 0xff, 6);
	memcpy(f->b + 14, arp, sizeof(arp));
	f->len = 14 + sizeof(arp);
}

/* Neighbour solicitation for fd00::2 with a source link-layer address. */
static inline void frame_ns(struct frame *f)
{
	uint8_t ns[32] = {135, [8] = 0xfd, [23] = 2, [24] = 1, [25] = 1, 2, 0, 0, 0, 0, 0x64};

	frame_ip6(f, 58, "fd00::64", "ff02::1:ff00:2", ns, sizeof(ns));
}

static inline void frame_ping(struct frame *f, const char *src, const char *dst)
{
	bool v6 = strchr(src, ':');
	uint8_t echo[64] = {v6 ? 128 : 8, 0, 0, 0, 1, 2, 0, 1};

	frame_ip(f, v6 ? 58 : 1, src, dst, echo, sizeof(echo));
}

/* The bytes at `offset` are replaced. */
static inline void frame_patch(struct frame *f, size_t offset, const void *bytes, size_t len)
{
	g_assert_cmpuint(offset + len, <=, f->len);
	memcpy(f->b + offset, bytes, len);
}
