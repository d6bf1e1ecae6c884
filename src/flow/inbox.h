/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams that the host has for us: rooms for one batch of them, lent to whoever receives; and
 * runs of equal ones of one peer, put together for egress_udp(). What the kernel has put together
 * is taken apart again, and joined with what goes with it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/loop.h"
#include "flow/egress.h"
#include "host/host.h"

struct inbox {
	struct loop *loop;
	uint8_t *rooms;          /* touched pages go back when it is quiet */
	struct timer trim_timer; /* armed while some may be touched */
	bool was_used;           /* since it was armed */
	struct host_datagram in[HOST_BATCH_MAX];
};

/* 0 or a negative errno. */
int inbox_init(struct inbox *inbox, struct loop *loop);
void inbox_done(struct inbox *inbox);
/* Empty rooms for `n` datagrams; good until the next call. */
struct host_datagram *inbox_rooms(struct inbox *inbox, unsigned int n);

/* How many to ask for: who sends more at a time is asked for more, a single answer costs no more
 * than one. `asked` is what inbox_batch() gave before, 0 at first; `n` is what came. */
#define INBOX_BATCH_MIN 4
unsigned int inbox_batch(unsigned int asked, unsigned int n);

/* Datagrams of one peer on their way to the container, all as long as the first but for the last,
 * which may be shorter. */
struct run {
	const struct host_datagram *first; /* NULL: none yet */
	struct iovec iov[EGRESS_PIECES_MAX];
	int n;
};

static inline void run_begin(struct run *run)
{
	run->first = NULL;
	run->n = 0;
}

/* The run is to be passed on now; it is empty afterwards. */
typedef void run_deliver_fn(void *owner, const struct run *run);
/* A datagram, or what the kernel has made of several. */
void run_add(struct run *run, const struct host_datagram *datagram, run_deliver_fn *deliver,
	void *owner);
/* Nothing follows. */
void run_end(struct run *run, run_deliver_fn *deliver, void *owner);
