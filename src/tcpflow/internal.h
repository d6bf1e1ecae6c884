/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of tcpflow/ share: machine.c (what happens in which state), input.c (segments from
 * the container), output.c (segments to it), big.c (the largest of these), far.c (the host's
 * socket), arrive.c (clients of published ports), timers.c, flow.c (life).
 */
#pragma once

#include "tcpflow/tcpflow.h"
#include "wire/tcp.h"

/* Of the window that we offer, when the container knows scales: units of 128 bytes. */
#define TCP_RCV_SHIFT 7

/* A segment from the container, looked at. */
struct tcp_segment {
	const uint8_t *frame;
	const struct packet *packet;
	const struct tcp_header *tcp;
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t window; /* not scaled */
	const uint8_t *data;
	uint32_t len; /* of the data */
};

static inline int64_t tcp_now_ns(const struct tcp_flow *flow)
{
	return flow->owner->config.loop->now_ns;
}

static inline void tcp_count(struct tcp_flow *flow, enum counter which)
{
	count(flow->owner->config.counters, which);
}

/* ---- machine.c ---- */

/* `segment` for the events that come with one, else NULL. The flow may be over afterwards: in the
 * table's list of the dead, its memory still there. */
void tcp_event(struct tcp_flow *flow, enum tcp_event event, const struct tcp_segment *segment);

/* ---- flow.c ---- */

/* A new flow, in `state`. */
void tcp_flow_set_up(struct tcp_flow *flow, struct tcpflow *tcpflow, enum tcp_state state);
/* What the container's SYN says of its window scale and MSS. */
void tcp_flow_take_options(struct tcp_flow *flow, const struct tcp_segment *syn);
/* How much is offered at most, as far as is known. */
uint32_t tcp_flow_window_max(const struct tcp_flow *flow);
/* Dials for a SYN to which no flow belongs; answers it when that cannot be. */
void tcp_flow_open(struct tcpflow *tcpflow, const struct tcp_segment *syn);
/* The one setter; counts the half-open. */
void tcp_flow_set_state(struct tcp_flow *flow, enum tcp_state state);
/* It has something to do in this turn. */
void tcp_flow_schedule(struct tcp_flow *flow);
/* The end: no more is sent to either side than was. */
void tcp_flow_close(struct tcp_flow *flow);
/* The end, a reset for the host; the container had its word. */
void tcp_flow_reset_far(struct tcp_flow *flow);
/* The end, a reset for both. */
void tcp_flow_abort(struct tcp_flow *flow);
/* Over for the container; the flow stays only while bytes wait for the host. */
void tcp_flow_end_near(struct tcp_flow *flow);

/* Neither side's stream has begun. */
static inline bool tcp_flow_is_arriving(const struct tcp_flow *flow)
{
	return flow->state == TCP_RESOLVING || flow->state == TCP_SYN_SENT;
}

static inline struct tcp_habits *tcp_habits_of(struct tcp_flow *flow)
{
	return flow->is_arrival ? &flow->owner->arrival_habits : &flow->owner->habits;
}

static inline bool tcp_flow_is_over(const struct tcp_flow *flow)
{
	return list_is_linked(&flow->flow.dead);
}

/* ---- arrive.c ---- */

/* Sends the first SYN to near_mac. */
void tcp_arrival_dial(struct tcp_flow *flow);
/* Asks for the container's server; returns whether it is known, in near_mac. With `again`, what is
 * known has not helped. */
bool tcp_arrival_find(struct tcp_flow *flow, bool again);
/* The container has accepted. */
void tcp_arrival_opened(struct tcp_flow *flow);
/* The container will not have the client, who is reset: the end. */
void tcp_arrival_turn_away(struct tcp_flow *flow);
/* It is counted as active no more. */
void tcp_arrival_leave(struct tcp_flow *flow);
/* Gives back what an arrival holds. */
void tcp_arrival_forget(struct tcp_flow *flow);

/* ---- output.c ---- */

/* Ours: the first segment of an arrival. */
void tcp_send_syn(struct tcp_flow *flow);
/* The MSS that the link leaves room for. */
uint16_t tcp_link_mss(const struct tcp_flow *flow);
void tcp_send_syn_ack(struct tcp_flow *flow);
/* A segment without data that tells what was received, and the window. */
void tcp_send_ack(struct tcp_flow *flow);
/* As RFC 5961 wants it, at a bounded rate. */
void tcp_send_challenge(struct tcp_flow *flow);
void tcp_send_reset(struct tcp_flow *flow);
/* Answers a segment of no flow with a reset. */
void tcp_refuse(struct tcpflow *tcpflow, const struct tcp_segment *segment);
/* A segment that is too old, to which the container answers where it stands: a probe of its window
 * or of its being there. */
void tcp_send_probe(struct tcp_flow *flow);
/* What of `down` the window allows and was not sent, then FIN if that is all. */
void tcp_send_pending(struct tcp_flow *flow);
/* The first segment that is not acknowledged, again. */
void tcp_retransmit(struct tcp_flow *flow);
/* ICMP destination unreachable in answer to the SYN, `code` of the family. */
void tcp_send_unreachable(struct tcp_flow *flow, uint8_t code);
/* Sends or puts off the acknowledgement that is owed, tells of a window that has opened. */
void tcp_settle_ack(struct tcp_flow *flow);
/* The acknowledgement has waited for nothing. */
void tcp_notice_no_answer(struct tcp_flow *flow);
/* How much of the stream to the container may be added to `down` now. */
uint32_t tcp_room_down(const struct tcp_flow *flow);
/* Whether something waits that the container's window keeps back. */
bool tcp_is_blocked(const struct tcp_flow *flow);

/* ---- big.c ---- */

/* Whether the container may be sent frames beyond 64 KiB, as its SYN tells. */
void tcp_big_begin(struct tcp_flow *flow, const struct tcp_segment *syn);
/* One was sent, of `len` bytes from `seq` on. */
void tcp_big_sent(struct tcp_flow *flow, uint32_t seq, uint32_t len);
/* What was sent is acknowledged up to snd_una. */
void tcp_big_acked(struct tcp_flow *flow);
/* `len` bytes from snd_una on are about to be sent again. */
void tcp_big_missed(struct tcp_flow *flow, uint32_t len);

/* ---- input.c ---- */

/* RFC 9293 3.10.7.4 in its order. False: the segment was answered or dropped. */
bool tcp_check_sequence(struct tcp_flow *flow, struct tcp_segment *segment);
bool tcp_check_ack(struct tcp_flow *flow, const struct tcp_segment *segment);
/* Takes what is acknowledged and the window. Returns whether our FIN is acknowledged. */
bool tcp_take_ack(struct tcp_flow *flow, const struct tcp_segment *segment);
/* Takes the data, and returns whether the container's FIN was reached. */
bool tcp_take_data(struct tcp_flow *flow, const struct tcp_segment *segment);

/* ---- far.c ---- */

/* Dials; a negative errno when it failed at once. */
int tcp_far_dial(struct tcp_flow *flow, const struct host_dial *dial);
/* Bytes of the container to the host's socket: how many were taken. */
uint32_t tcp_far_send(struct tcp_flow *flow, const uint8_t *data, uint32_t len);
/* Moves what can be moved, both ways, within the budget of a turn. */
void tcp_far_pump(struct tcp_flow *flow);

/* Forgets what the host has sent. */
void tcp_far_discard(struct tcp_flow *flow);

/* ---- nameserver.c ---- */

/* Dials the first nameserver of the host's that was not tried yet; the flow's `idle` deadline is
 * for the next one, or for another look at who they are. 0, or a negative errno: there is none. */
int tcp_nameserver_dial(struct tcp_flow *flow);
/* The dial has failed as flow->error says, or took too long. Returns whether there is another one
 * under way; else flow->error is the last one's. */
bool tcp_nameserver_failed(struct tcp_flow *flow);

/* ---- timers.c ---- */

void tcp_timer_fire(struct timer *timer, int64_t now_ns);
/* Arms the timer for the earliest deadline, if it would fire too late. */
void tcp_timer_update(struct tcp_flow *flow);
