/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The round-trip time and the retransmission timeout of one flow (RFC 6298), in nanoseconds. The
 * wire is a tap, so the floor is far below the RFC's second: what it waits for is the container's
 * delayed acknowledgement, 40 ms in Linux.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"

#define TCP_RTO_FIRST_NS (200 * NS_PER_MS)
#define TCP_RTO_MIN_NS   (100 * NS_PER_MS)
#define TCP_RTO_MAX_NS   (10 * NS_PER_SEC)

struct tcp_rtt {
	int64_t srtt_ns, rttvar_ns; /* 0: not measured yet */
	int64_t sent_ns;            /* when the segment under measurement left */
	uint32_t seq;               /* its end */
	bool is_measuring;
	uint8_t n_backoffs;
};

/* A new segment that ends before `seq` has left: one at a time is measured. */
void tcp_rtt_sent(struct tcp_rtt *rtt, uint32_t seq, int64_t now_ns);
/* `ack` acknowledges something new. */
void tcp_rtt_acked(struct tcp_rtt *rtt, uint32_t ack, int64_t now_ns);
/* Something is sent again: what is measured is worth nothing (Karn), the timeout doubles. */
void tcp_rtt_backoff(struct tcp_rtt *rtt);
/* The timeout, backoff included. */
int64_t tcp_rtt_timeout(const struct tcp_rtt *rtt);
