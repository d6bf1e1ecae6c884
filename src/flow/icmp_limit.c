/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/icmp_limit.h"

void icmp_limit_init(struct icmp_limit *limit, struct counters *counters)
{
	*limit = (struct icmp_limit){.counters = counters, .n_tokens = ICMP_LIMIT_BURST};
}

bool icmp_limit_take(struct icmp_limit *limit, int64_t now_ns)
{
	int64_t n = (now_ns - limit->refilled_ns) / ICMP_LIMIT_INTERVAL_NS;

	if (n > 0) {
		limit->n_tokens = (uint32_t)MIN(limit->n_tokens + n, ICMP_LIMIT_BURST);
		limit->refilled_ns += n * ICMP_LIMIT_INTERVAL_NS;
	}
	if (!limit->n_tokens) {
		count(limit->counters, COUNTER_ICMP_LIMITED);
		return false;
	}
	limit->n_tokens--;
	return true;
}
