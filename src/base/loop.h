/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: one epoll instance (level-triggered), one timer heap, the time once per turn.
 * It calls nobody back but the dispatch function that it is given and the timers.
 */
#pragma once

#include <stdint.h>

#include "base/busy_poll.h"
#include "base/handle.h"
#include "base/timer.h"

struct loop {
	int epoll_fd;
	int64_t now_ns; /* sampled when the turn's events were fetched */
	struct timer_heap timers;
	struct busy_poll busy_poll; /* never, after loop_init() */
};

/* `events` are epoll's; called once for each descriptor that is ready. */
typedef void loop_dispatch_fn(void *owner, struct handle handle, uint32_t events);

int loop_init(struct loop *loop);
void loop_done(struct loop *loop);

/* The three calls of epoll_ctl(2); 0 or a negative errno. The loop does not own descriptors: they
 * are unwatched before they are closed, since a copy of the descriptor would stay ready for ever.
 */
int loop_watch(struct loop *loop, int fd, uint32_t events, struct handle handle);
int loop_change(struct loop *loop, int fd, uint32_t events, struct handle handle);
int loop_unwatch(struct loop *loop, int fd);

/* Waits for an event, a timer or `deadline_ns` (CLOCK_NEVER: for ever; 0: only looks), samples the
 * time and dispatches the events. Returns how many there were or a negative errno; a signal is no
 * error. */
int loop_wait(struct loop *loop, int64_t deadline_ns, loop_dispatch_fn *dispatch, void *owner);
/* Fires the timers that were due when the wait ended. Behind the events, and what the caller reads
 * because of them: who was kept from running must not take for silence what has been there in time.
 */
void loop_expire(struct loop *loop);
/* One turn: both. */
int loop_turn(struct loop *loop, int64_t deadline_ns, loop_dispatch_fn *dispatch, void *owner);
