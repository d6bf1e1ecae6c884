/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting fragments together (RFC 791 3.2, RFC 8200 4.5) within strict bounds, so that what lies
 * behind sees whole datagrams only: libslirp 4.7 keeps those of IPv4 for 30 s, each in a buffer as
 * large as the MTU, without counting them, and knows none of IPv6.
 *
 * At most REASSEMBLY_DATAGRAMS_MAX of both families together are in the making, about 75 KiB each;
 * one more, and the oldest is given up. Fragments that overlap in any way end their datagram (RFC
 * 5722's rule for IPv6). Datagrams that were given up are counted as drop_fragment; of one whose
 * time is over, and whose first fragment has come, somebody can be told (RFC 1122 3.3.2, RFC
 * 8200 4.5).
 *
 * IPv6's extension headers in front of the fragment header are left out of the whole: they were
 * looked at in every fragment, and nobody behind reads them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/counter.h"
#include "base/timer.h"
#include "base/util.h"
#include "wire/ip6.h"
#include "wire/packet.h"

#define REASSEMBLY_DATAGRAMS_MAX 32
/* After the first fragment came; as Linux and libslirp have it. */
#define REASSEMBLY_TIMEOUT_NS (30 * NS_PER_SEC)
/* The longest frame that may come out. */
#define REASSEMBLY_FRAME_MAX (ETH_HEADER_LEN + IP6_LEN_MAX)

struct datagram;

/* `frame` is the first fragment, cut at REASSEMBLY_FIRST_MAX, and so is `packet`. */
typedef void reassembly_expired_fn(
	void *owner, const uint8_t *frame, const struct packet *packet, int64_t now_ns);
/* As much as an ICMP error may quote. */
#define REASSEMBLY_FIRST_MAX (ETH_HEADER_LEN + IP6_MIN_MTU)

struct reassembly {
	struct counters *counters;
	struct timer_heap *timers; /* NULL: their time is looked at only when others come */
	struct timer timer;        /* armed for the oldest one, or one that is gone */
	reassembly_expired_fn *expired;
	void *owner;
	struct datagram *datagrams[REASSEMBLY_DATAGRAMS_MAX]; /* owned; NULL: none */
};

enum reassembly_outcome {
	REASSEMBLY_WAITS,    /* the fragment was taken, others are missing */
	REASSEMBLY_COMPLETE, /* the frame now holds the datagram */
	REASSEMBLY_DROPPED,  /* counted */
};

void reassembly_init(struct reassembly *reassembly, struct counters *counters);
void reassembly_done(struct reassembly *reassembly);
/* From now on datagrams end by the clock, and `expired` is told of each that has a first fragment.
 */
void reassembly_watch(struct reassembly *reassembly, struct timer_heap *timers,
	reassembly_expired_fn *expired, void *owner);

/* `packet` is what packet_parse() found in `frame`: a fragment. One that is a whole datagram (IPv6,
 * RFC 6946) is nothing to those that wait. For REASSEMBLY_COMPLETE the
 * datagram is written over the frame, for which there are REASSEMBLY_FRAME_MAX bytes; *ret_len is
 * its length. It has yet to be parsed. */
enum reassembly_outcome reassembly_add(struct reassembly *reassembly, const struct packet *packet,
	uint8_t *frame, int64_t now_ns, size_t *ret_len);
