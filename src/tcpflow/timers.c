/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One timer per flow for its three deadlines. Deadlines move with nearly every segment, the timer
 * does not: it is armed for the earliest or earlier, and finds nothing due when it fired too soon.
 */
#include "base/clock.h"
#include "base/util.h"
#include "tcpflow/internal.h"

static int64_t earliest_ns(const struct tcp_flow *flow)
{
	return MIN(flow->retransmit_ns, MIN(flow->ack_ns, flow->idle_ns));
}

void tcp_timer_update(struct tcp_flow *flow)
{
	int64_t due_ns = earliest_ns(flow);

	if (due_ns == CLOCK_NEVER || tcp_flow_is_over(flow))
		return;
	if (!timer_is_armed(&flow->timer) || due_ns < flow->timer.due_ns)
		timer_arm(&flow->owner->config.loop->timers, &flow->timer, due_ns);
}

static void fire_if_due(
	struct tcp_flow *flow, int64_t *deadline_ns, enum tcp_event event, int64_t now_ns)
{
	if (tcp_flow_is_over(flow) || *deadline_ns > now_ns)
		return;
	*deadline_ns = CLOCK_NEVER;
	tcp_event(flow, event, NULL);
}

void tcp_timer_fire(struct timer *timer, int64_t now_ns)
{
	struct tcp_flow *flow = container_of(timer, struct tcp_flow, timer);

	fire_if_due(flow, &flow->ack_ns, TCP_EVENT_DELAYED_ACK, now_ns);
	fire_if_due(flow, &flow->retransmit_ns, TCP_EVENT_RETRANSMIT, now_ns);
	fire_if_due(flow, &flow->idle_ns, TCP_EVENT_IDLE, now_ns);
	tcp_timer_update(flow);
}
