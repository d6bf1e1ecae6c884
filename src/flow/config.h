/* SPDX-License-Identifier: Apache-2.0 */
/* What each of the machines of datagrams works with: udpflow, icmpflow and dns. */
#pragma once

#include <stdint.h>

#include "base/counter.h"
#include "base/loop.h"
#include "base/siphash.h"
#include "flow/egress.h"
#include "flow/icmp_limit.h"
#include "flow/policy.h"
#include "host/host.h"

struct flow_config {
	const struct policy *policy;
	struct egress *egress;
	struct host *host;
	struct loop *loop;
	struct counters *counters;
	struct icmp_limit *icmp_limit;
	const struct siphash_key *key; /* random */
	/* At most; beyond them the one that was silent longest gives way, or (dns) they are shared
	 * by more queries than is good. */
	uint32_t max_sockets;
};
