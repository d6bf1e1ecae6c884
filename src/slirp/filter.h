/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checked parse in front of libslirp: what does not add up never reaches it. libslirp trusts
 * lengths that it has not compared, and dials addresses that only mean the host itself.
 *
 * It drops and counts, clears TCP urgent flags (libslirp's out-of-band path is old and was its
 * weakest), and answers what policy refuses with an ICMP error, at a bounded rate.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/counter.h"
#include "flow/policy.h"

struct filter {
	const struct policy *policy;
	struct counters *counters;
	uint32_t mtu;
	/* Token bucket for ICMP errors. */
	uint32_t n_tokens;
	int64_t refilled_ns;
};

enum filter_result {
	FILTER_PASS,   /* give it to libslirp; the frame may have been changed in place */
	FILTER_DROP,   /* counted */
	FILTER_ANSWER, /* counted; the reply frame is to be sent to the container instead */
};

/* The largest answer: Ethernet, IPv6, ICMPv6 and as much of the packet as fits in 1280 bytes. */
#define FILTER_ANSWER_MAX (14 + 1280)

void filter_init(struct filter *filter, const struct policy *policy, uint32_t mtu,
	struct counters *counters);

/* `frame` is an Ethernet frame of `len` bytes (without virtio-net header). For FILTER_ANSWER the
 * reply is in `answer` (FILTER_ANSWER_MAX bytes), its length in *ret_len. */
enum filter_result filter_frame(struct filter *filter, uint8_t *frame, size_t len, int64_t now_ns,
	uint8_t *answer, size_t *ret_len);
