/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams that the host has not been given yet: a turn's, their data side by side, so that a run
 * of equal ones of one sender to one peer is one piece of memory and one message. Who sends them is
 * the caller's: a pointer that is only compared and given back.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/counter.h"
#include "host/host.h"

#define OUTBOX_MESSAGES HOST_BATCH_MAX
/* Two of the largest runs; more would leave the processor's nearer caches. */
#define OUTBOX_BYTES (128 * 1024)
/* Errors of earlier datagrams that may stand in the way of one: each is told and it is tried again.
 * A peer that refuses as fast as we send does not hold up the others for ever. */
#define OUTBOX_ATTEMPTS_MAX 16

struct outbox {
	unsigned int n;
	uint32_t n_bytes;
	bool is_open; /* the last message may grow */
	struct host_datagram messages[OUTBOX_MESSAGES];
	uint32_t n_datagrams[OUTBOX_MESSAGES];
	void *senders[OUTBOX_MESSAGES]; /* NULL: taken */
	uint8_t *data;
};

/* 0 or -ENOMEM. */
int outbox_init(struct outbox *outbox);
void outbox_done(struct outbox *outbox);
/* All of it has been sent. */
void outbox_clear(struct outbox *outbox);

/* A copy of a datagram, or of a run of at most HOST_RUN_MAX and HOST_RUN_BYTES_MAX. False: there is
 * no room; there is in an empty one. */
bool outbox_add(struct outbox *outbox, void *sender, const struct host_datagram *datagram);
/* The beginning of a run of any length (`segment` 0: one datagram) that fits into one message is in
 * *ret; `run` goes on behind it. False: that was all. */
bool outbox_cut(struct host_datagram *run, uint16_t segment, struct host_datagram *ret);
/* All messages of whoever has the oldest one, in their order. Returns how many; 0: there are none,
 * and the outbox is empty again. */
unsigned int outbox_take(struct outbox *outbox, void **ret_sender,
	struct host_datagram ret_messages[OUTBOX_MESSAGES]);

/* The first of what is sent failed with `error`, an errno. Whether to try it again; it may have
 * been changed. */
typedef bool outbox_retry_fn(void *sender, struct host_datagram *datagram, int error);
/* Gives `n` messages to the host; counts those that it does not take. */
void outbox_send(struct host *host, struct host_dgram *dgram, struct counters *counters,
	struct host_datagram *messages, unsigned int n, outbox_retry_fn *retry, void *sender);
