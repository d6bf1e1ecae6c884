/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A frame's way to libslirp and its surroundings: ingress, and behind it the filter for those tests
 * that ask for it. Included once per program.
 */
#pragma once

#include "frames.h"

#include "base/util.h"
#include "flow/ingress.h"
#include "slirp/filter.h"

#define NEAR4    "10.0.2.100"
#define FAR4     "192.0.2.1"
#define GATEWAY4 "10.0.2.2"
#define NEAR6    "fd00::64"
#define FAR6     "2001:db8::1"
#define GATEWAY6 "fd00::2"

static struct policy policy;
static struct counters counters;
static struct icmp_limit icmp_limit;
static struct ingress ingress;
static struct filter filter;
static bool with_filter; /* what passes ingress goes through the filter, too */
static int64_t now_ns;
/* go() takes the frame behind that header, and leaves both as they came out. */
static uint8_t vnet[12];
static struct frame frame, reply;
static struct packet packet;
static enum ingress_result ingress_result;

enum verdict { PASS, DROP, ANSWER };

static inline void set_up(void)
{
	policy = (struct policy){.ipv6 = true, .host_loopback = true};
	inet_pton(AF_INET, "10.0.2.0", &policy.network);
	inet_pton(AF_INET, "255.255.255.0", &policy.netmask);
	inet_pton(AF_INET, GATEWAY4, &policy.gateway);
	inet_pton(AF_INET, "10.0.2.3", &policy.dns);
	inet_pton(AF_INET6, GATEWAY6, &policy.gateway6);
	inet_pton(AF_INET6, "fd00::3", &policy.dns6);
	counters = (struct counters){0};
	now_ns = 7 * NS_PER_SEC;
	memset(vnet, 0, sizeof(vnet));
	icmp_limit_init(&icmp_limit, &counters);
	ingress_init(&ingress, &policy, &icmp_limit, false, &counters);
	filter_init(&filter, &policy, &icmp_limit, &counters);
}

static inline void tear_down(void)
{
	ingress_done(&ingress);
	for (size_t i = 0; i < ARRAY_SIZE(ingress.reassembly.datagrams); i++)
		g_assert_null(ingress.reassembly.datagrams[i]);
}

static inline enum verdict go_filter(uint8_t *bytes)
{
	switch (filter_packet(&filter, bytes, &packet, now_ns, reply.b, &reply.len)) {
	case FILTER_PASS:
	case FILTER_PASS_IF_NEXT:
		return PASS;
	case FILTER_ANSWER:
		return ANSWER;
	case FILTER_DROP:
		break;
	}
	return DROP;
}

static inline enum verdict go_ingress(uint8_t *buf, size_t len)
{
	ingress_result = ingress_frame(&ingress, buf, len, now_ns, &packet, reply.b, &reply.len);
	switch (ingress_result) {
	case INGRESS_TCP:
	case INGRESS_UDP:
	case INGRESS_ICMP:
	case INGRESS_OTHER:
		return PASS;
	case INGRESS_ANSWER:
		return ANSWER;
	case INGRESS_DROP:
		break;
	}
	return DROP;
}

static inline enum verdict go(void)
{
	static uint8_t buf[sizeof(vnet) + FRAME_MAX];
	enum verdict verdict;

	memcpy(buf, vnet, sizeof(vnet));
	memcpy(buf + sizeof(vnet), frame.b, frame.len);
	verdict = go_ingress(buf, frame.len);
	if (verdict == PASS && with_filter)
		verdict = go_filter(buf + sizeof(vnet));
	if (verdict != PASS)
		return verdict;
	frame.len = packet.len;
	memcpy(frame.b, buf + sizeof(vnet), frame.len);
	memcpy(vnet, buf, sizeof(vnet));
	return PASS;
}

static inline void expect_pass(void)
{
	struct counters before = counters;
	size_t len = frame.len;
	uint8_t *copy = g_memdup2(frame.b, len);

	g_assert_cmpint(go(), ==, PASS);
	g_assert_cmpmem(frame.b, frame.len, copy, len);
	g_assert_cmpmem(&counters, sizeof(counters), &before, sizeof(before));
	g_free(copy);
}

/* Dropped, and counted once, under that name only. */
static inline void expect_drop(enum counter reason)
{
	struct counters before = counters;

	g_assert_cmpint(go(), ==, DROP);
	for (int i = 0; i < N_COUNTERS; i++) {
		g_assert_cmpuint(counters.value[i] - before.value[i], ==, i == (int)reason);
	}
}

/* Counted once, under that name only, and answered with that ICMP message. */
static inline void expect_answer_for(enum counter reason, uint8_t type, uint8_t code)
{
	struct counters before = counters;

	g_assert_cmpint(go(), ==, ANSWER);
	for (int i = 0; i < N_COUNTERS; i++)
		g_assert_cmpuint(counters.value[i] - before.value[i], ==, i == (int)reason);
	g_assert_cmpint(*frame_transport(&reply), ==, type);
	g_assert_cmpint(frame_transport(&reply)[1], ==, code);
	g_assert_cmphex(frame_transport_sum(&reply, reply.len), ==, 0xffff);
}

static inline void expect_answer(uint8_t type, uint8_t code)
{
	expect_answer_for(COUNTER_POLICY_REFUSED, type, code);
}

/* --- the virtio-net header --- */

enum { NEEDS_CSUM = 1, DATA_VALID = 2 };
enum { GSO_NONE = 0, GSO_TCP4 = 1, GSO_UDP = 3, GSO_TCP6 = 4, GSO_UDP_L4 = 5, GSO_ECN = 0x80 };

static inline void vnet_put16(size_t at, size_t v)
{
	vnet[at] = (uint8_t)v;
	vnet[at + 1] = (uint8_t)(v >> 8);
}

/* Lengths that nobody should believe, around what counts. */
static inline void vnet_set(
	uint8_t flags, uint8_t gso_type, uint32_t gso_size, size_t start, size_t offset)
{
	memset(vnet, 0xa5, sizeof(vnet));
	vnet[0] = flags;
	vnet[1] = gso_type;
	vnet_put16(4, gso_size);
	vnet_put16(6, start);
	vnet_put16(8, offset);
}

/* As a kernel gives it to whom has offered to compute checksums. */
static inline void make_partial(void)
{
	uint8_t *transport = frame_transport(&frame), *field = frame_checksum_field(&frame);

	put16(field, frame_pseudo_sum(&frame, frame.len));
	vnet_set(NEEDS_CSUM, GSO_NONE, 0, (size_t)(transport - frame.b),
		(size_t)(field - transport));
}

static inline void expect_vnet_zero(void)
{
	static const uint8_t zero[sizeof(vnet)];

	g_assert_cmpmem(vnet, sizeof(vnet), zero, sizeof(zero));
}

/* The frame and its header pass as they are. */
static inline void expect_untouched(enum ingress_result result)
{
	uint8_t before[sizeof(vnet)];

	memcpy(before, vnet, sizeof(vnet));
	expect_pass();
	g_assert_cmpint(ingress_result, ==, result);
	g_assert_cmpmem(vnet, sizeof(vnet), before, sizeof(before));
}

/* --- broken frames --- */

/* One change to a frame that would pass, and the name under which it is dropped. */
enum base { TCP4, UDP4, PING4, TCP6, UDP6, PING6, NS, ARP };

struct broken {
	const char *what;
	enum base base;
	size_t offset;
	const char *bytes;
	size_t n_bytes;
	enum counter reason;
};

#define BYTES(s) s, sizeof(s) - 1

static inline void frame_of(enum base base)
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

static inline void expect_broken(const struct broken *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		g_test_message("%s", rows[i].what);
		frame_of(rows[i].base);
		expect_pass();
		frame_patch(&frame, rows[i].offset, rows[i].bytes, rows[i].n_bytes);
		/* So that nothing but the patch is wrong. */
		if (frame.b[12] == 8 && frame.b[13] == 0)
			frame_fix_ip4(&frame);
		expect_drop(rows[i].reason);
	}
}

/* Puts `len` bytes of options into the frame's IPv4 header. */
static inline void add_ip4_options(const char *options, size_t len)
{
	memmove(frame.b + 34 + len, frame.b + 34, frame.len - 34);
	memcpy(frame.b + 34, options, len);
	frame.len += len;
	frame.b[14] = (uint8_t)(0x45 + len / 4);
	put16(frame.b + 16, (uint32_t)frame.len - 14);
	frame_fix_ip4(&frame);
}
