/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checked parse in front of libslirp: what does not add up never reaches it. libslirp trusts
 * lengths that it has not compared, and dials addresses that only mean the host itself.
 *
 * It drops and counts, puts fragments together, cuts padding off, clears TCP urgent flags
 * (libslirp's out-of-band path is old and was its weakest), and answers what policy refuses with
 * an ICMP error, at a bounded rate.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/counter.h"
#include "flow/policy.h"
#include "flow/reassembly.h"
#include "slirp/dhcp_guard.h"

/* ICMP errors: so many at once, and then one per interval (RFC 1812 4.3.2.8). */
#define FILTER_ICMP_BURST       50
#define FILTER_ICMP_INTERVAL_NS (NS_PER_SEC / 100)

struct filter {
	const struct policy *policy;
	struct counters *counters;
	uint32_t mtu;
	/* Token bucket for ICMP errors. */
	uint32_t n_tokens;
	int64_t refilled_ns;
	struct reassembly reassembly;
	struct dhcp_guard dhcp;
};

enum filter_result {
	FILTER_PASS,         /* give it to libslirp; the frame may have been changed in place */
	FILTER_PASS_IF_NEXT, /* likewise, but only when libslirp expects just that: reass_guard.h */
	FILTER_DROP,         /* counted, or a fragment that waits for others */
	FILTER_ANSWER,       /* counted; the reply frame is to be sent to the container instead */
};

/* The largest answer: Ethernet, IPv6, ICMPv6 and as much of the packet as fits in 1280 bytes. */
#define FILTER_ANSWER_MAX (14 + 1280)
/* What a frame's buffer must have room for: a datagram grows out of its last fragment. */
#define FILTER_FRAME_MAX REASSEMBLY_FRAME_MAX

void filter_init(struct filter *filter, const struct policy *policy, uint32_t mtu,
	struct counters *counters);
void filter_done(struct filter *filter);

/* `frame` is an Ethernet frame of `len` bytes (without virtio-net header) in a buffer of
 * FILTER_FRAME_MAX. For FILTER_PASS and FILTER_PASS_IF_NEXT *ret_len is how many bytes of it to
 * give to libslirp: 4.7 takes padding behind an IPv6 packet for data. For FILTER_ANSWER the reply
 * is in `answer` (FILTER_ANSWER_MAX bytes), its length in *ret_len. */
enum filter_result filter_frame(struct filter *filter, uint8_t *frame, size_t len, int64_t now_ns,
	uint8_t *answer, size_t *ret_len);
