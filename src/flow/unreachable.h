/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The answer to a packet of the container that goes nowhere: an ICMP error, in the gateway's name,
 * when one may be sent at all and the limit leaves room for it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "flow/egress.h"
#include "flow/icmp_limit.h"
#include "flow/policy.h"
#include "wire/icmp_error.h"
#include "wire/packet.h"

/* The largest answer, an Ethernet frame. */
#define UNREACHABLE_MAX (ETH_HEADER_LEN + ICMP6_ERROR_MAX)

/* `type`, `code` and `rest` are icmp_build_error()'s. The frame is written to `answer`
 * (UNREACHABLE_MAX bytes); returns its length, 0: there is none. */
size_t icmp_error_answer(const struct policy *policy, struct icmp_limit *limit,
	const uint8_t *frame, const struct packet *packet, uint8_t type, uint8_t code,
	uint32_t rest, int64_t now_ns, uint8_t *answer);

/* Likewise, destination unreachable with `code` of the packet's family. */
size_t unreachable_answer(const struct policy *policy, struct icmp_limit *limit,
	const uint8_t *frame, const struct packet *packet, uint8_t code, int64_t now_ns,
	uint8_t *answer);

/* Likewise, with the code of the packet's family, sent to the container at once. */
void unreachable_send(struct egress *egress, struct icmp_limit *limit, const uint8_t *frame,
	const struct packet *packet, uint8_t code4, uint8_t code6, int64_t now_ns);
