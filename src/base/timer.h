/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers: one heap per loop, in which the timers themselves are the nodes, so that arming one
 * allocates nothing and cannot fail.
 *
 * It is a pairing heap: timer_arm() is O(1), cancelling and expiring are O(log n) amortised. Timers
 * that are due at the same instant fire in no particular order.
 *
 * A timer is embedded in its owner, zero when new. Owners cancel their timers before they go.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct timer {
	int64_t due_ns;
	/* Called once, with the timer idle already: it may arm itself again. */
	void (*fire)(struct timer *timer, int64_t now_ns);
	struct timer *child;
	struct timer *next; /* sibling to the right */
	struct timer **ref; /* what points to this timer; NULL: idle */
};

struct timer_heap {
	struct timer *root;
};

static inline bool timer_is_armed(const struct timer *timer)
{
	return timer->ref;
}

/* Arms the timer for `due_ns`; one that is armed already is moved. */
void timer_arm(struct timer_heap *heap, struct timer *timer, int64_t due_ns);

/* Nothing happens when it is idle. */
void timer_cancel(struct timer_heap *heap, struct timer *timer);

/* When the earliest timer is due, CLOCK_NEVER without one. */
int64_t timer_heap_next(const struct timer_heap *heap);

/* Fires all that are due at `now_ns`. Those that a callback arms for `now_ns` or earlier wait for
 * the next call, so that a timer that arms itself cannot hold up the loop. */
void timer_heap_expire(struct timer_heap *heap, int64_t now_ns);
