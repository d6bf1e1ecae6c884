/* SPDX-License-Identifier: Apache-2.0 */
#include "base/busy_poll.h"

#include <stdbool.h>

#include "base/util.h"

/* What being woken adds to a wait that would have been short. */
#define WAKE_UP_NS (100 * NS_PER_MS / 1000)
#define NEEDED_MIN 8
#define NEEDED_MAX 1024
/* A look in vain costs as much as this many successful ones earn. */
#define MISS_COST    1
#define CREDIT_FIRST 8
#define CREDIT_MAX   32

void busy_poll_init(struct busy_poll *poll, int64_t window_ns)
{
	*poll = (struct busy_poll){.window_ns = window_ns, .n_needed = NEEDED_MIN};
}

int64_t busy_poll_ns(const struct busy_poll *poll)
{
	return poll->credit ? poll->window_ns : 0;
}

static void learn_asleep(struct busy_poll *poll, bool is_short)
{
	poll->n_short = is_short ? poll->n_short + 1 : 0;
	if (poll->n_short >= poll->n_needed)
		poll->credit = CREDIT_FIRST;
}

static void learn_looking(struct busy_poll *poll, bool is_hit)
{
	if (is_hit) {
		poll->credit = MIN(poll->credit + 1, CREDIT_MAX);
		if (poll->credit == CREDIT_MAX)
			poll->n_needed = NEEDED_MIN;
		return;
	}
	poll->credit -= MIN(poll->credit, MISS_COST);
	if (poll->credit)
		return;
	poll->n_short = 0;
	poll->n_needed = MIN(2 * poll->n_needed, NEEDED_MAX);
}

void busy_poll_learn(struct busy_poll *poll, int64_t waited_ns)
{
	if (!poll->window_ns)
		return;
	if (poll->credit)
		learn_looking(poll, waited_ns <= poll->window_ns);
	else
		learn_asleep(poll, waited_ns <= poll->window_ns + WAKE_UP_NS);
}
