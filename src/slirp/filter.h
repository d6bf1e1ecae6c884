/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libslirp must be kept from besides what no stack may see (flow/ingress): it trusts lengths
 * inside of DHCP and of neighbour discovery, and offers a TFTP server that has no file to give.
 *
 * It drops and counts, clears TCP urgent flags (libslirp's out-of-band path is old and was its
 * weakest), and answers what is for the TFTP server with an ICMP error.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/counter.h"
#include "flow/icmp_limit.h"
#include "flow/policy.h"
#include "flow/unreachable.h"
#include "slirp/dhcp_guard.h"
#include "wire/packet.h"

struct filter {
	const struct policy *policy;
	struct icmp_limit *icmp_limit;
	struct counters *counters;
	struct dhcp_guard dhcp;
};

enum filter_result {
	FILTER_PASS,         /* give it to libslirp; the frame may have been changed in place */
	FILTER_PASS_IF_NEXT, /* likewise, but only when libslirp expects just that: reass_guard.h */
	FILTER_DROP,         /* counted */
	FILTER_ANSWER,       /* counted; the reply frame is to be sent to the container instead */
};

#define FILTER_ANSWER_MAX UNREACHABLE_MAX

/* Keeps all pointers. */
void filter_init(struct filter *filter, const struct policy *policy, struct icmp_limit *icmp_limit,
	struct counters *counters);

/* `packet` is what ingress found in `frame`. For FILTER_PASS and FILTER_PASS_IF_NEXT packet->len is
 * how many bytes of it to give to libslirp: 4.7 takes padding behind an IPv6 packet for data. For
 * FILTER_ANSWER the reply is in `answer` (FILTER_ANSWER_MAX bytes). */
enum filter_result filter_packet(struct filter *filter, uint8_t *frame, struct packet *packet,
	int64_t now_ns, uint8_t *answer, size_t *ret_answer_len);
