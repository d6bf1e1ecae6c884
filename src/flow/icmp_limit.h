/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How often an ICMP error may be sent to the container (RFC 1812 4.3.2.8, RFC 4443 2.4(f)): a token
 * bucket. One instance serves everybody who sends them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/counter.h"
#include "base/util.h"

/* So many at once, and then one per interval. */
#define ICMP_LIMIT_BURST       50
#define ICMP_LIMIT_INTERVAL_NS (NS_PER_SEC / 100)

struct icmp_limit {
	struct counters *counters;
	uint32_t n_tokens;
	int64_t refilled_ns;
};

void icmp_limit_init(struct icmp_limit *limit, struct counters *counters);

/* Whether one may be sent now; when not, it is counted. */
bool icmp_limit_take(struct icmp_limit *limit, int64_t now_ns);
