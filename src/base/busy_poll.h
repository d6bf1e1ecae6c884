/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Busy polling: whether the loop looks again for some microseconds before it sleeps.
 *
 * To sleep and to be woken takes longer than the other end of a dialogue needs for its answer, and
 * a virtual processor that has nothing to do takes longest to wake. What came soon a number of
 * times will come soon again; as long as that is so, looking for it costs less than sleeping.
 *
 *   SLEEPS --n_needed short waits in a row--> LOOKS --its credit is used up--> SLEEPS
 *
 * Each time that it was wrong it waits for twice as many, so that whoever cannot be served sooner,
 * on a busy machine or with one processor, costs next to nothing.
 */
#pragma once

#include <stdint.h>

struct busy_poll {
	int64_t window_ns; /* how long it looks; 0: it always sleeps */
	uint32_t n_short;  /* short waits in a row */
	uint32_t n_needed;
	uint32_t credit; /* 0: it sleeps */
};

void busy_poll_init(struct busy_poll *poll, int64_t window_ns);

/* For how long to look before this wait; 0: not at all. */
int64_t busy_poll_ns(const struct busy_poll *poll);
/* The wait is over, with or without an event, and took so long in all. */
void busy_poll_learn(struct busy_poll *poll, int64_t waited_ns);
