/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A filter with its surroundings, and what one frame does to it; included once per program.
 */
#pragma once

#include "frames.h"

#include "base/util.h"
#include "slirp/filter.h"

#define MTU      1500

#define NEAR4    "10.0.2.100"
#define FAR4     "192.0.2.1"
#define GATEWAY4 "10.0.2.2"
#define NEAR6    "fd00::64"
#define FAR6     "2001:db8::1"
#define GATEWAY6 "fd00::2"

static struct policy policy;
static struct counters counters;
static struct filter filter;
static int64_t now_ns;
static struct frame frame, reply;

static inline void set_up(uint32_t mtu)
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
	filter_init(&filter, &policy, mtu, &counters);
}

static inline void tear_down(void)
{
	filter_done(&filter);
	for (size_t i = 0; i < ARRAY_SIZE(filter.reassembly.datagrams); i++)
		g_assert_null(filter.reassembly.datagrams[i]);
}

static inline enum filter_result go(void)
{
	size_t len = 0;
	enum filter_result result =
		filter_frame(&filter, frame.b, frame.len, now_ns, reply.b, &len);

	if (result == FILTER_PASS)
		frame.len = len;
	if (result == FILTER_ANSWER)
		reply.len = len;
	return result;
}

static inline void expect_pass(void)
{
	struct counters before = counters;
	size_t len = frame.len;
	uint8_t *copy = g_memdup2(frame.b, len);

	g_assert_cmpint(go(), ==, FILTER_PASS);
	g_assert_cmpmem(frame.b, frame.len, copy, len);
	g_assert_cmpmem(&counters, sizeof(counters), &before, sizeof(before));
	g_free(copy);
}

/* Dropped, and counted once, under that name only. */
static inline void expect_drop(enum counter reason)
{
	struct counters before = counters;

	g_assert_cmpint(go(), ==, FILTER_DROP);
	for (int i = 0; i < N_COUNTERS; i++) {
		g_assert_cmpuint(counters.value[i] - before.value[i], ==, i == (int)reason);
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
