/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens in which state: one table, one function per cell or per row of equal cells. The
 * picture is in states.h. A cell without a function cannot come to be; tests/script/matrix says
 * why.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/util.h"
#include "tcpflow/internal.h"
#include "wire/icmp.h"

/* Of either family. */
#define NET_UNREACHABLE 0
_Static_assert(ICMP_NET_UNREACHABLE == 0 && ICMP6_NO_ROUTE == 0, "one code for both");

typedef void handler(struct tcp_flow *flow, const struct tcp_segment *segment);

static int64_t idle_interval_ns(const struct tcp_flow *flow)
{
	return flow->state == TCP_ESTABLISHED ? TCP_IDLE_NS : TCP_HALF_CLOSED_IDLE_NS;
}

/* ---- DIALING ---- */

/* Another attempt with the same port: the container has given up the first one. */
static void dialing_syn(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	struct tcpflow *tcpflow = flow->owner;

	if (segment->seq == flow->irs)
		return;
	tcp_flow_reset_far(flow);
	tcp_flow_open(tcpflow, segment);
}

static void dialing_reset(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	if (segment->seq == flow->rcv_nxt)
		tcp_flow_reset_far(flow);
}

/* It acknowledges what nobody has sent. */
static void dialing_segment(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_refuse(flow->owner, segment);
}

static void dialing_connected(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	struct host *host = flow->owner->config.host;

	host->ops->tcp_dialled(host, flow->fd, &flow->far_addr);
	if (flow->is_dns)
		host->ops->nameserver_said(host, &flow->far_addr, true, tcp_now_ns(flow));
	flow->idle_ns = CLOCK_NEVER;
	flow->far_writable = true;
	tcp_flow_set_state(flow, TCP_SYN_RECEIVED);
	tcp_send_syn_ack(flow);
	flow->unanswered_since_ns = tcp_now_ns(flow);
	flow->retransmit_ns = tcp_now_ns(flow) + tcp_rtt_timeout(&flow->rtt);
	tcp_timer_update(flow);
}

/* The code that makes the container's kernel give the same errno; false: none does. */
static bool unreachable_code(const struct tcp_flow *flow, uint8_t *ret_code)
{
	const struct host_error *error = &flow->error;
	bool is4 = flow->flow.key.family == AF_INET;

	uint8_t type = is4 ? ICMP_DESTINATION_UNREACHABLE : ICMP6_DESTINATION_UNREACHABLE;

	if (error->icmp_family == flow->flow.key.family && error->icmp_type == type) {
		*ret_code = error->icmp_code;
		return true;
	}
	switch (error->error) {
	case ENETUNREACH:
	case EAFNOSUPPORT:
		*ret_code = NET_UNREACHABLE;
		return true;
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ENOPROTOOPT:
	case EPROTO:
		*ret_code = is4 ? ICMP_HOST_UNREACHABLE : ICMP6_ADDRESS_UNREACHABLE;
		return true;
	case EACCES:
	case EPERM:
		*ret_code = is4 ? ICMP_ADMIN_PROHIBITED : ICMP6_ADMIN_PROHIBITED;
		return true;
	default:
		return false;
	}
}

/* As the host answered, so the container is: a refusal, an unreachable, or nothing. What is amiss
 * with the host itself (descriptors, ports) is a refusal. */
static void dialing_failed(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	uint8_t code;

	if (flow->is_dns && tcp_nameserver_failed(flow))
		return;
	if (unreachable_code(flow, &code))
		tcp_send_unreachable(flow, code);
	else if (flow->error.error != ETIMEDOUT)
		tcp_send_reset(flow);
	tcp_flow_close(flow);
}

/* A nameserver's turn is over. Who was silent until the end is passed on as silence. */
static void dialing_idle(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	flow->error = (struct host_error){.error = ETIMEDOUT};
	dialing_failed(flow, segment);
}

/* ---- SYN_RECEIVED ---- */

static void received_syn(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	if (segment->seq == flow->irs)
		tcp_send_syn_ack(flow);
	else
		tcp_send_challenge(flow);
}

static void establish(struct tcp_flow *flow)
{
	flow->snd_una = flow->snd_nxt;
	tcp_rtt_acked(&flow->rtt, flow->snd_una, tcp_now_ns(flow));
	flow->retransmit_ns = CLOCK_NEVER;
	flow->unanswered_since_ns = CLOCK_NEVER;
	flow->dialogue = tcp_habits_of(flow)->first_answer;
	tcp_flow_set_state(flow, TCP_ESTABLISHED);
	flow->idle_ns = tcp_now_ns(flow) + idle_interval_ns(flow);
}

static void synchronized_segment(struct tcp_flow *flow, const struct tcp_segment *segment);

/* With SYN it is a simultaneous open, which nobody means. */
static void received_segment(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	struct tcp_segment s = *segment;

	if (segment->flags & TCP_SYN || segment->ack != flow->snd_nxt) {
		tcp_refuse(flow->owner, segment);
		return;
	}
	if (!tcp_check_sequence(flow, &s))
		return;
	flow->snd_wl1 = segment->seq;
	establish(flow);
	synchronized_segment(flow, segment);
}

static void received_retransmit(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	if (tcp_now_ns(flow) - flow->unanswered_since_ns >= TCP_SYN_GIVE_UP_NS) {
		tcp_count(flow, COUNTER_TCP_GIVEN_UP);
		tcp_flow_abort(flow);
		return;
	}
	tcp_count(flow, COUNTER_TCP_RETRANSMITS);
	tcp_rtt_backoff(&flow->rtt);
	tcp_send_syn_ack(flow);
	flow->rtt.is_measuring = false;
	flow->retransmit_ns = tcp_now_ns(flow) + tcp_rtt_timeout(&flow->rtt);
}

/* What it has is remembered until the container is there. */
static void received_far_ready(struct tcp_flow *flow, const struct tcp_segment *segment)
{
}

/* ---- RESOLVING ---- */

/* It can be about an earlier connection only. */
static void resolving_reset(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_count(flow, COUNTER_TCP_UNACCEPTABLE);
}

/* As in CLOSED: nothing was said to the container yet. */
static void resolving_segment(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_refuse(flow->owner, segment);
}

static void resolving_neighbor(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_arrival_dial(flow);
}

static void resolving_far_error(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_flow_close(flow);
}

/* The question may have got lost. */
static void resolving_retransmit(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	if (tcp_arrival_find(flow, false))
		tcp_arrival_dial(flow);
	else
		flow->retransmit_ns = tcp_now_ns(flow) + TCP_ASK_AGAIN_NS;
}

static void resolving_idle(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_count(flow, COUNTER_TCP_GIVEN_UP);
	tcp_arrival_turn_away(flow);
}

/* ---- SYN_SENT: RFC 9293 3.10.7.3 ---- */

/* A simultaneous open, which nobody means. */
static void sent_syn(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_refuse(flow->owner, segment);
}

static void sent_reset(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	if (segment->flags & TCP_ACK && segment->ack == flow->snd_nxt)
		tcp_arrival_turn_away(flow);
	else
		tcp_count(flow, COUNTER_TCP_UNACCEPTABLE);
}

/* The container knows of an earlier connection between these ports (RFC 9293 3.5.1). The reset ends
 * that, so that the next SYN is heard: at once, but only once. */
static void sent_old_segment(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_refuse(flow->owner, segment);
	if (flow->has_retried)
		return;
	flow->has_retried = true;
	flow->rtt.is_measuring = false;
	tcp_send_syn(flow);
}

/* Data that come with the SYN are left to be sent again. */
static void sent_segment(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	uint32_t offered = MIN(flow->rcv_wnd_max, UINT16_MAX);

	if (segment->ack != flow->snd_nxt) {
		sent_old_segment(flow, segment);
		return;
	}
	if (!(segment->flags & TCP_SYN)) {
		tcp_count(flow, COUNTER_TCP_UNACCEPTABLE);
		return;
	}
	tcp_flow_take_options(flow, segment);
	flow->irs = segment->seq;
	flow->rcv_nxt = flow->last_ack_sent = segment->seq + 1;
	flow->rcv_edge = flow->rcv_nxt + offered;
	flow->heard_ns = tcp_now_ns(flow);
	tcp_take_ack(flow, segment);
	establish(flow);
	tcp_arrival_opened(flow);
	flow->ack_owed = true;
}

/* The container may have moved to another Ethernet address. */
static void sent_retransmit(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	bool is_first = !flow->rtt.n_backoffs;

	if (tcp_now_ns(flow) - flow->unanswered_since_ns >= TCP_SYN_GIVE_UP_NS) {
		tcp_count(flow, COUNTER_TCP_GIVEN_UP);
		tcp_send_reset(flow);
		tcp_arrival_turn_away(flow);
		return;
	}
	tcp_count(flow, COUNTER_TCP_RETRANSMITS);
	tcp_rtt_backoff(&flow->rtt);
	(void)tcp_arrival_find(flow, is_first);
	tcp_send_syn(flow);
	flow->retransmit_ns = tcp_now_ns(flow) + tcp_rtt_timeout(&flow->rtt);
}

static void sent_near_error(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_arrival_turn_away(flow);
}

/* The client is gone. */
static void sent_far_error(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_send_reset(flow);
	tcp_flow_close(flow);
}

/* ---- the states in which data flows ---- */

/* RFC 5961 4: whoever has lost its memory of the connection answers with a reset. */
static void synchronized_syn(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_send_challenge(flow);
}

/* RFC 5961 3: the exact number, or a chance to give it. */
static void synchronized_reset(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	if (segment->seq == flow->rcv_nxt)
		tcp_flow_reset_far(flow);
	else if (seq_after(segment->seq, flow->rcv_nxt) && seq_before(segment->seq, flow->rcv_edge))
		tcp_send_challenge(flow);
	else
		tcp_count(flow, COUNTER_TCP_UNACCEPTABLE);
}

static void enter_time_wait(struct tcp_flow *flow)
{
	tcp_flow_set_state(flow, TCP_TIME_WAIT);
	flow->retransmit_ns = CLOCK_NEVER;
	flow->unanswered_since_ns = CLOCK_NEVER;
	flow->idle_ns = tcp_now_ns(flow) + TCP_TIME_WAIT_NS;
}

static void enter_half_closed(struct tcp_flow *flow, enum tcp_state state)
{
	tcp_flow_set_state(flow, state);
	flow->idle_ns = tcp_now_ns(flow) + TCP_HALF_CLOSED_IDLE_NS;
}

static void take_fin_ack(struct tcp_flow *flow)
{
	if (flow->state == TCP_FIN_WAIT_1)
		enter_half_closed(flow, TCP_FIN_WAIT_2);
	else if (flow->state == TCP_CLOSING)
		enter_time_wait(flow);
	else if (flow->state == TCP_LAST_ACK)
		tcp_flow_end_near(flow);
}

static bool may_bring_data(const struct tcp_flow *flow)
{
	return flow->state == TCP_ESTABLISHED || flow->state == TCP_FIN_WAIT_1 ||
		flow->state == TCP_FIN_WAIT_2;
}

static void take_fin(struct tcp_flow *flow)
{
	if (flow->state == TCP_ESTABLISHED)
		enter_half_closed(flow, TCP_CLOSE_WAIT);
	else if (flow->state == TCP_FIN_WAIT_1)
		tcp_flow_set_state(flow, TCP_CLOSING);
	else
		enter_time_wait(flow);
}

static void synchronized_segment(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	struct tcp_segment s = *segment;

	if (s.flags & TCP_SYN) {
		tcp_send_challenge(flow);
		return;
	}
	if (!tcp_check_sequence(flow, &s) || !tcp_check_ack(flow, &s))
		return;
	if (tcp_take_ack(flow, &s))
		take_fin_ack(flow);
	if (!tcp_flow_is_over(flow) && may_bring_data(flow) && tcp_take_data(flow, &s))
		take_fin(flow);
}

static void synchronized_far_ready(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_flow_schedule(flow);
}

static void enter_vanished(struct tcp_flow *flow)
{
	struct host *host = flow->owner->config.host;

	host->ops->tcp_close(host, flow->fd);
	flow->fd = -1;
	byte_queue_clear(&flow->up, &flow->owner->pool);
	byte_queue_clear(&flow->down, &flow->owner->pool);
	byte_queue_clear(&flow->ahead, &flow->owner->pool);
	list_remove(&flow->hungry);
	flow->far_readable = flow->far_writable = false;
	flow->retransmit_ns = flow->ack_ns = CLOCK_NEVER;
	tcp_flow_set_state(flow, TCP_VANISHED);
	flow->idle_ns = tcp_now_ns(flow) + TCP_VANISHED_NS;
}

/* A reset is passed on; a peer that fell silent is passed on as silence. */
static void synchronized_far_error(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	if (flow->error.error == ETIMEDOUT) {
		enter_vanished(flow);
		return;
	}
	tcp_send_reset(flow);
	tcp_flow_close(flow);
}

/* Whom to tell: the host hears of a reset, unless the container had said all and only its last
 * acknowledgement is missing. */
static void give_up(struct tcp_flow *flow)
{
	tcp_count(flow, COUNTER_TCP_GIVEN_UP);
	if (flow->near_eof && flow->far_eof) {
		tcp_send_reset(flow);
		tcp_flow_end_near(flow);
	} else {
		tcp_flow_abort(flow);
	}
}

static void synchronized_retransmit(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	int64_t now_ns = tcp_now_ns(flow);
	bool in_flight = flow->snd_una != flow->snd_nxt;

	if (!in_flight && !tcp_is_blocked(flow))
		return;
	if (flow->unanswered_since_ns == CLOCK_NEVER)
		flow->unanswered_since_ns = now_ns;
	if (now_ns - flow->unanswered_since_ns >= TCP_GIVE_UP_NS) {
		give_up(flow);
		return;
	}
	tcp_rtt_backoff(&flow->rtt);
	if (in_flight) {
		flow->is_recovering = true;
		flow->recover = flow->snd_nxt;
		tcp_retransmit(flow);
	} else {
		tcp_send_probe(flow);
	}
	flow->retransmit_ns = now_ns + tcp_rtt_timeout(&flow->rtt);
}

/* Nothing came that it could have ridden on. */
static void synchronized_delayed_ack(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_notice_no_answer(flow);
	tcp_send_ack(flow);
}

/* A peer that says nothing is asked more often while one direction is closed. It is soon enough to
 * say so when that has lasted for the time of the first probe: the kernel counts from the peer's
 * last word. Most flows are over long before. */
static void quicken_far(struct tcp_flow *flow)
{
	struct host *host = flow->owner->config.host;
	unsigned int idle_s = TCP_HALF_CLOSED_IDLE_NS / NS_PER_SEC;

	if (flow->state != TCP_CLOSE_WAIT && flow->state != TCP_FIN_WAIT_2)
		return;
	if (flow->far_pace_s && flow->far_pace_s <= idle_s)
		return;
	flow->far_pace_s = idle_s;
	host->ops->tcp_keepalive(host, flow->fd, idle_s);
}

static void synchronized_idle(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	int64_t now_ns = tcp_now_ns(flow), due_ns = flow->heard_ns + idle_interval_ns(flow);

	quicken_far(flow);
	flow->idle_ns = due_ns;
	if (now_ns < due_ns)
		return;
	if (flow->n_probes >= TCP_PROBES) {
		give_up(flow);
		return;
	}
	flow->n_probes++;
	tcp_send_probe(flow);
	flow->idle_ns = now_ns + TCP_PROBE_INTERVAL_NS;
}

/* ---- TIME_WAIT ---- */

/* RFC 9293 3.6.1: a SYN beyond all that was received is a new connection. */
static void waiting_syn(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	struct tcpflow *tcpflow = flow->owner;

	if (!seq_after(segment->seq, flow->rcv_nxt)) {
		tcp_send_challenge(flow);
		return;
	}
	tcp_flow_end_near(flow);
	tcp_flow_open(tcpflow, segment);
}

/* RFC 1337: nobody is helped by an early end. */
static void waiting_reset(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_count(flow, COUNTER_TCP_UNACCEPTABLE);
}

/* Their FIN again: our acknowledgement of it was lost. */
static void waiting_segment(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	if (segment->flags & TCP_SYN) {
		tcp_send_challenge(flow);
		return;
	}
	if (!segment->len && !(segment->flags & TCP_FIN))
		return;
	tcp_send_ack(flow);
	flow->idle_ns = tcp_now_ns(flow) + TCP_TIME_WAIT_NS;
}

static void waiting_far_error(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	byte_queue_clear(&flow->up, &flow->owner->pool);
	tcp_flow_schedule(flow);
}

static void waiting_idle(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_flow_end_near(flow);
}

/* ---- DRAINING ---- */

static void draining_far_error(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_flow_close(flow);
}

/* Its peer has taken nothing for long. It may go on at will, unless others need the memory. */
static void draining_idle(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	flow->idle_ns = tcp_now_ns(flow) + TCP_DRAINING_NS;
	if (!buffer_pool_is_short(&flow->owner->pool, BUFFER_UP))
		return;
	tcp_count(flow, COUNTER_TCP_GIVEN_UP);
	tcp_flow_reset_far(flow);
}

/* ---- VANISHED ---- */

static void vanished_syn(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	struct tcpflow *tcpflow = flow->owner;

	tcp_flow_close(flow);
	tcp_flow_open(tcpflow, segment);
}

static void vanished_reset(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_flow_close(flow);
}

/* It goes on asking, and is to find out by itself. */
static void vanished_segment(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	flow->idle_ns = tcp_now_ns(flow) + TCP_VANISHED_NS;
}

static void vanished_idle(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	tcp_send_reset(flow);
	tcp_flow_close(flow);
}

/* ---- the table ---- */

#define SYNCHRONIZED                                                                \
	[TCP_EVENT_SYN] = synchronized_syn, [TCP_EVENT_RESET] = synchronized_reset, \
	[TCP_EVENT_SEGMENT] = synchronized_segment,                                 \
	[TCP_EVENT_FAR_READY] = synchronized_far_ready,                             \
	[TCP_EVENT_FAR_ERROR] = synchronized_far_error, [TCP_EVENT_IDLE] = synchronized_idle
/* While something of ours may be in flight. */
#define WITH_RETRANSMIT [TCP_EVENT_RETRANSMIT] = synchronized_retransmit
/* While data may come, or the host may end its stream, too. */
#define WITH_DELAYED_ACK [TCP_EVENT_DELAYED_ACK] = synchronized_delayed_ack

static handler *const matrix[N_TCP_STATES][N_TCP_EVENTS] = {
	[TCP_DIALING] =
		{
			[TCP_EVENT_SYN] = dialing_syn,
			[TCP_EVENT_RESET] = dialing_reset,
			[TCP_EVENT_SEGMENT] = dialing_segment,
			[TCP_EVENT_CONNECTED] = dialing_connected,
			[TCP_EVENT_DIAL_FAILED] = dialing_failed,
			[TCP_EVENT_IDLE] = dialing_idle,
		},
	[TCP_SYN_RECEIVED] =
		{
			[TCP_EVENT_SYN] = received_syn,
			[TCP_EVENT_RESET] = synchronized_reset,
			[TCP_EVENT_SEGMENT] = received_segment,
			[TCP_EVENT_FAR_READY] = received_far_ready,
			[TCP_EVENT_RETRANSMIT] = received_retransmit,
		},
	[TCP_RESOLVING] =
		{
			[TCP_EVENT_SYN] = resolving_segment,
			[TCP_EVENT_RESET] = resolving_reset,
			[TCP_EVENT_SEGMENT] = resolving_segment,
			[TCP_EVENT_NEIGHBOR] = resolving_neighbor,
			[TCP_EVENT_FAR_READY] = received_far_ready,
			[TCP_EVENT_FAR_ERROR] = resolving_far_error,
			[TCP_EVENT_RETRANSMIT] = resolving_retransmit,
			[TCP_EVENT_IDLE] = resolving_idle,
		},
	[TCP_SYN_SENT] =
		{
			[TCP_EVENT_SYN] = sent_syn,
			[TCP_EVENT_RESET] = sent_reset,
			[TCP_EVENT_SEGMENT] = sent_segment,
			[TCP_EVENT_NEAR_ERROR] = sent_near_error,
			[TCP_EVENT_FAR_READY] = received_far_ready,
			[TCP_EVENT_FAR_ERROR] = sent_far_error,
			[TCP_EVENT_RETRANSMIT] = sent_retransmit,
		},
	[TCP_ESTABLISHED] = {SYNCHRONIZED, WITH_RETRANSMIT, WITH_DELAYED_ACK},
	[TCP_CLOSE_WAIT] = {SYNCHRONIZED, WITH_RETRANSMIT, WITH_DELAYED_ACK},
	[TCP_FIN_WAIT_1] = {SYNCHRONIZED, WITH_RETRANSMIT, WITH_DELAYED_ACK},
	[TCP_FIN_WAIT_2] = {SYNCHRONIZED, WITH_DELAYED_ACK},
	[TCP_CLOSING] = {SYNCHRONIZED, WITH_RETRANSMIT},
	[TCP_LAST_ACK] = {SYNCHRONIZED, WITH_RETRANSMIT},
	[TCP_TIME_WAIT] =
		{
			[TCP_EVENT_SYN] = waiting_syn,
			[TCP_EVENT_RESET] = waiting_reset,
			[TCP_EVENT_SEGMENT] = waiting_segment,
			[TCP_EVENT_FAR_READY] = synchronized_far_ready,
			[TCP_EVENT_FAR_ERROR] = waiting_far_error,
			[TCP_EVENT_IDLE] = waiting_idle,
		},
	[TCP_DRAINING] =
		{
			[TCP_EVENT_FAR_READY] = synchronized_far_ready,
			[TCP_EVENT_FAR_ERROR] = draining_far_error,
			[TCP_EVENT_IDLE] = draining_idle,
		},
	[TCP_VANISHED] =
		{
			[TCP_EVENT_SYN] = vanished_syn,
			[TCP_EVENT_RESET] = vanished_reset,
			[TCP_EVENT_SEGMENT] = vanished_segment,
			[TCP_EVENT_IDLE] = vanished_idle,
		},
};

const char *tcp_state_name(enum tcp_state state)
{
	static const char *const names[] = {
#define X(id, name) [TCP_##id] = name,
		TCP_STATES(X)
#undef X
	};

	return names[state];
}

const char *tcp_event_name(enum tcp_event event)
{
	static const char *const names[] = {
#define X(id, name) [TCP_EVENT_##id] = name,
		TCP_EVENTS(X)
#undef X
	};

	return names[event];
}

bool tcp_event_is_possible(enum tcp_state state, enum tcp_event event)
{
	return matrix[state][event];
}

void tcp_event(struct tcp_flow *flow, enum tcp_event event, const struct tcp_segment *segment)
{
	handler *handle = matrix[flow->state][event];

	if (flow->owner->trace)
		flow->owner->trace(flow->owner->trace_arg, flow->state, event);
	if (!handle) {
		tcp_count(flow, COUNTER_TCP_IMPOSSIBLE);
		return;
	}
	handle(flow, segment);
}
