/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the container has sent and the host has not been given yet: a turn's datagrams, their data
 * side by side, so that a run of equal ones to one peer is one piece of memory and one message.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "host/host.h"

#define OUTBOX_MESSAGES HOST_BATCH_MAX
/* Two of the largest runs; more would leave the processor's nearer caches. */
#define OUTBOX_BYTES (128 * 1024)

struct udp_flow;

struct outbox {
	unsigned int n;
	uint32_t n_bytes;
	bool is_open; /* the last message may grow */
	struct host_datagram messages[OUTBOX_MESSAGES];
	uint32_t n_datagrams[OUTBOX_MESSAGES];
	struct udp_flow *flows[OUTBOX_MESSAGES]; /* NULL: sent */
	uint8_t *data;
};

/* 0 or -ENOMEM. */
int outbox_init(struct outbox *outbox);
void outbox_done(struct outbox *outbox);
/* All of it has been sent. */
void outbox_clear(struct outbox *outbox);

/* A copy of a datagram, or of a run of at most HOST_RUN_MAX and HOST_RUN_BYTES_MAX. False: there is
 * no room; there is in an empty one. */
bool outbox_add(struct outbox *outbox, struct udp_flow *flow, const struct host_datagram *datagram);
