/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of flows, and the turn.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/util.h"
#include "tcpflow/internal.h"
#include "wire/icmp.h"

/* Flows whose dial or handshake is under way: a quarter of all. */
#define HALF_OPEN_SHARE 4
#define HALF_OPEN_MIN   16
/* New flows that one turn may bring: one a frame (relay.c, LINK_BATCH). */
#define ROOM_FLOWS 64
/* The least that is taken for the container's MSS. */
#define MSS_MIN 48
#define MSS_MAX (65535 - 60)

/* ---- states ---- */

static bool is_half_open(enum tcp_state state)
{
	return state == TCP_DIALING || state == TCP_SYN_RECEIVED || state == TCP_RESOLVING ||
		state == TCP_SYN_SENT;
}

/* Of the flow's kind. */
static uint32_t *n_half_open(struct tcp_flow *flow)
{
	return flow->is_arrival ? &flow->owner->n_arriving : &flow->owner->n_half_open;
}

void tcp_flow_set_state(struct tcp_flow *flow, enum tcp_state state)
{
	*n_half_open(flow) += is_half_open(state);
	*n_half_open(flow) -= is_half_open(flow->state);
	flow->state = state;
	list_remove(&flow->waiting);
	if (state == TCP_RESOLVING)
		list_append(&flow->owner->resolving, &flow->waiting);
	if (state == TCP_SYN_SENT)
		list_append(&flow->owner->dialled, &flow->waiting);
	if (state == TCP_TIME_WAIT)
		list_append(&flow->owner->waiting, &flow->waiting);
	if (state == TCP_TIME_WAIT || state == TCP_VANISHED)
		tcp_arrival_leave(flow);
}

void tcp_flow_schedule(struct tcp_flow *flow)
{
	if (!list_is_linked(&flow->ready) && !tcp_flow_is_over(flow))
		list_append(&flow->owner->ready, &flow->ready);
}

/* ---- the end ---- */

static void forget_near(struct tcp_flow *flow)
{
	flow->retransmit_ns = flow->ack_ns = flow->idle_ns = CLOCK_NEVER;
	timer_cancel(&flow->owner->config.loop->timers, &flow->timer);
	byte_queue_clear(&flow->down, &flow->owner->pool);
	byte_queue_clear(&flow->ahead, &flow->owner->pool);
	list_remove(&flow->hungry);
	flow->far_eof = true;
	flow->far_readable = false;
}

static void end(struct tcp_flow *flow, bool with_reset)
{
	struct tcpflow *tcpflow = flow->owner;
	struct host *host = tcpflow->config.host;

	if (tcp_flow_is_over(flow))
		return;
	forget_near(flow);
	byte_queue_clear(&flow->up, &tcpflow->pool);
	list_remove(&flow->ready);
	list_remove(&flow->waiting);
	if (flow->fd >= 0 && with_reset)
		host->ops->tcp_reset(host, flow->fd);
	else if (flow->fd >= 0)
		host->ops->tcp_close(host, flow->fd);
	flow->fd = -1;
	*n_half_open(flow) -= is_half_open(flow->state);
	tcp_arrival_forget(flow);
	flow_table_remove(&tcpflow->table, &flow->flow);
}

void tcp_flow_close(struct tcp_flow *flow)
{
	end(flow, false);
}

void tcp_flow_reset_far(struct tcp_flow *flow)
{
	end(flow, true);
}

void tcp_flow_abort(struct tcp_flow *flow)
{
	tcp_send_reset(flow);
	end(flow, true);
}

static void drain(struct tcp_flow *flow)
{
	forget_near(flow);
	flow_table_unhash(&flow->owner->table, &flow->flow);
	flow->near_eof = true;
	tcp_flow_set_state(flow, TCP_DRAINING);
	flow->idle_ns = tcp_now_ns(flow) + TCP_DRAINING_NS;
	tcp_flow_schedule(flow);
}

void tcp_flow_end_near(struct tcp_flow *flow)
{
	if (flow->fd < 0 || !flow->up.len)
		tcp_flow_close(flow);
	else
		drain(flow);
}

/* ---- the beginning ---- */

/* RFC 6528: a clock of 4 microseconds, and what only we know about this connection. */
static uint32_t initial_sequence(const struct tcpflow *tcpflow, const struct flow_key *key)
{
	return (uint32_t)(tcpflow->config.loop->now_ns / 4096) +
		(uint32_t)siphash(&tcpflow->isn_key, key, sizeof(*key));
}

/* The queue of the link holds packets, and each is a segment at least. */
uint32_t tcp_flow_window_max(const struct tcp_flow *flow)
{
	uint64_t queue = (uint64_t)flow->owner->config.queue_len / 2 * flow->mss;
	uint32_t window = TCP_UP_WINDOW;

	if (queue)
		window = (uint32_t)MAX(MIN(queue, window), 2 * (uint64_t)flow->mss);
	return flow->has_window_scale ? window : MIN(window, UINT16_MAX);
}

void tcp_flow_take_options(struct tcp_flow *flow, const struct tcp_segment *syn)
{
	struct tcp_options options;
	uint32_t mss;

	tcp_options_parse(syn->tcp, &options);
	mss = options.mss;
	if (!mss)
		mss = flow->flow.key.family == AF_INET ? TCP_MSS_DEFAULT4 : TCP_MSS_DEFAULT6;
	flow->mss = (uint16_t)MAX(MIN(mss, MSS_MAX), MSS_MIN);
	flow->has_window_scale = options.has_window_scale;
	flow->snd_shift = options.window_scale;
	flow->rcv_shift = options.has_window_scale ? TCP_RCV_SHIFT : 0;
	flow->rcv_wnd_max = tcp_flow_window_max(flow);
	tcp_big_begin(flow, syn);
}

void tcp_flow_set_up(struct tcp_flow *flow, struct tcpflow *tcpflow, enum tcp_state state)
{
	flow->owner = tcpflow;
	flow->fd = -1;
	flow->state = N_TCP_STATES;
	tcp_flow_set_state(flow, state);
	flow->iss = initial_sequence(tcpflow, &flow->flow.key);
	flow->snd_una = flow->snd_nxt = flow->iss;
	flow->retransmit_ns = flow->ack_ns = flow->idle_ns = CLOCK_NEVER;
	flow->unanswered_since_ns = CLOCK_NEVER;
	flow->heard_ns = tcpflow->config.loop->now_ns;
	flow->timer.fire = tcp_timer_fire;
}

static void set_up_dialing(
	struct tcp_flow *flow, struct tcpflow *tcpflow, const struct tcp_segment *syn)
{
	const struct eth_header *eth = (const struct eth_header *)syn->frame;

	tcp_flow_set_up(flow, tcpflow, TCP_DIALING);
	flow->near_mac = eth->src;
	flow->our_mac = eth->dst;
	flow->irs = syn->seq;
	flow->rcv_nxt = flow->rcv_edge = flow->last_ack_sent = syn->seq + 1;
	tcp_flow_take_options(flow, syn);
}

/* Policy is asked for every socket that is to be opened. 0 or a negative errno. */
static int dial(struct tcp_flow *flow, const struct ip_addr *dst, uint16_t port)
{
	const struct tcpflow_config *config = &flow->owner->config;
	struct host_dial dial = {.port = port};

	switch (policy_map(config->policy, dst, port, IPPROTO_TCP, &dial.addr)) {
	case POLICY_PASS:
		dial.from = policy_source(config->policy, dial.addr.family);
		return tcp_far_dial(flow, &dial);
	case POLICY_NAMESERVER:
		return tcp_nameserver_dial(flow);
	case POLICY_UNREACHABLE:
	default:
		count(config->counters, COUNTER_POLICY_REFUSED);
		return -ENETUNREACH;
	}
}

/* To this host itself a connection stands when connect(2) returns. The event says so, too, but not
 * before the next turn, and the container waits. */
static void look_at_once(struct tcp_flow *flow)
{
	struct host *host = flow->owner->config.host;

	if (flow->fd >= 0 && host->ops->is_connected(host, flow->fd))
		tcp_event(flow, TCP_EVENT_CONNECTED, NULL);
}

void tcp_flow_open(struct tcpflow *tcpflow, const struct tcp_segment *syn)
{
	struct tcp_flow *flow = NULL;
	struct flow_key key;
	struct flow *added;
	int r;

	/* No answer: the container's kernel tries again in a second. */
	if (tcpflow->n_half_open >= tcpflow->max_half_open) {
		count(tcpflow->config.counters, COUNTER_TCP_HALF_OPEN);
		return;
	}
	flow_key_of(&key, syn->frame, syn->packet);
	added = flow_table_add(&tcpflow->table, &key);
	if (!added) {
		count(tcpflow->config.counters, COUNTER_TCP_REFUSED);
		tcp_refuse(tcpflow, syn);
		return;
	}
	flow = container_of(added, struct tcp_flow, flow);
	set_up_dialing(flow, tcpflow, syn);
	r = dial(flow, &syn->packet->dst, key.far_port);
	count(tcpflow->config.counters, COUNTER_TCP_OPENED);
	if (r == 0) {
		look_at_once(flow);
		return;
	}
	flow->error = (struct host_error){.error = -r};
	tcp_event(flow, TCP_EVENT_DIAL_FAILED, NULL);
}

/* ---- the turn ---- */

static bool is_synchronized(const struct tcp_flow *flow)
{
	return flow->state >= TCP_ESTABLISHED && flow->state <= TCP_LAST_ACK;
}

static bool has_unsent(const struct tcp_flow *flow)
{
	struct host *host = flow->owner->config.host;

	if (flow->up.len || flow->owner->config.link || flow->fd < 0)
		return flow->up.len;
	return host->ops->tcp_has_unacknowledged(host, flow->fd);
}

/* Nothing is left to be done on the host's side. */
static void release_far(struct tcp_flow *flow)
{
	struct host *host = flow->owner->config.host;

	if (flow->fd < 0)
		return;
	/* Before anything else: it may hold up a peer that answers while it reads. */
	if (!flow->owner->config.link)
		tcp_far_discard(flow);
	if (has_unsent(flow))
		return;
	host->ops->tcp_close(host, flow->fd);
	flow->fd = -1;
}

static void step(struct tcp_flow *flow)
{
	if (flow->fd >= 0 && !is_half_open(flow->state))
		tcp_far_pump(flow);
	if (tcp_flow_is_over(flow))
		return;
	if (is_synchronized(flow)) {
		tcp_send_pending(flow);
		if (tcp_is_blocked(flow) && flow->retransmit_ns == CLOCK_NEVER)
			flow->retransmit_ns = tcp_now_ns(flow) + tcp_rtt_timeout(&flow->rtt);
	}
	if (is_synchronized(flow) || flow->state == TCP_TIME_WAIT)
		tcp_settle_ack(flow);
	if (flow->state == TCP_TIME_WAIT || flow->state == TCP_DRAINING)
		release_far(flow);
	if (flow->state == TCP_DRAINING && flow->fd < 0)
		tcp_flow_close(flow);
	tcp_timer_update(flow);
}

static void trim(struct timer *timer, int64_t now_ns)
{
	struct tcpflow *tcpflow = container_of(timer, struct tcpflow, trim_timer);

	if (buffer_pool_trim(&tcpflow->pool))
		timer_arm(&tcpflow->config.loop->timers, timer, now_ns + TCP_TRIM_NS);
}

/* Flows that waited for memory get their turn with the others. */
static void feed_hungry(struct tcpflow *tcpflow)
{
	struct list *node;

	while (!buffer_pool_is_empty(&tcpflow->pool, BUFFER_DOWN) &&
		(node = list_take(&tcpflow->hungry)))
		tcp_flow_schedule(container_of(node, struct tcp_flow, hungry));
}

/* The oldest in TIME_WAIT give way, so that there is room for the SYNs of one turn. */
static void make_room(struct tcpflow *tcpflow)
{
	struct flow_table *table = &tcpflow->table;
	uint32_t wanted = MIN(ROOM_FLOWS, (table->max_flows + 1) / 2);
	struct list *node;

	for (uint32_t room = table->max_flows - table->n_flows; room < wanted; room++) {
		node = list_take(&tcpflow->waiting);
		if (!node)
			return;
		tcp_flow_end_near(container_of(node, struct tcp_flow, waiting));
	}
}

/* It fills what recv(2) is given: others do not wait for it. */
static bool is_bulk(const struct tcp_flow *flow)
{
	return flow->n_chunks > 1;
}

void tcpflow_answer(struct tcpflow *tcpflow)
{
	struct list turn, *node;

	list_init(&turn);
	list_move(&turn, &tcpflow->ready);
	while ((node = list_take(&turn))) {
		struct tcp_flow *flow = container_of(node, struct tcp_flow, ready);

		if (is_bulk(flow))
			tcp_flow_schedule(flow);
		else
			step(flow);
	}
}

bool tcpflow_finish(struct tcpflow *tcpflow)
{
	struct list turn, *node;

	list_init(&turn);
	feed_hungry(tcpflow);
	list_move(&turn, &tcpflow->ready);
	while ((node = list_take(&turn)))
		step(container_of(node, struct tcp_flow, ready));
	feed_hungry(tcpflow);
	flow_table_sweep(&tcpflow->table);
	make_room(tcpflow);
	flow_table_sweep(&tcpflow->table);
	if (buffer_pool_has_idle(&tcpflow->pool) && !timer_is_armed(&tcpflow->trim_timer))
		timer_arm(&tcpflow->config.loop->timers, &tcpflow->trim_timer,
			tcpflow->config.loop->now_ns + TCP_TRIM_NS);
	return !list_is_empty(&tcpflow->ready);
}

/* ---- the relay's part ---- */

int tcpflow_init(struct tcpflow *tcpflow, const struct tcpflow_config *config)
{
	int r;

	*tcpflow = (struct tcpflow){
		.config = *config,
		.trim_timer.fire = trim,
		.max_half_open = MAX(config->max_flows / HALF_OPEN_SHARE, HALF_OPEN_MIN),
		.isn_key = {{siphash(config->key, "isn0", 4), siphash(config->key, "isn1", 4)}},
	};
	list_init(&tcpflow->ready);
	list_init(&tcpflow->hungry);
	list_init(&tcpflow->waiting);
	list_init(&tcpflow->resolving);
	list_init(&tcpflow->dialled);
	r = flow_table_init(
		&tcpflow->table, sizeof(struct tcp_flow), config->max_flows, config->key);
	if (r < 0)
		return r;
	r = buffer_pool_init(&tcpflow->pool, config->memory);
	if (r < 0)
		flow_table_done(&tcpflow->table);
	return r;
}

/* A client who was not let in yet has no connection that could have ended. */
static void leave(struct tcp_flow *flow)
{
	if (tcp_flow_is_arriving(flow))
		tcp_flow_reset_far(flow);
	else
		tcp_flow_close(flow);
}

void tcpflow_done(struct tcpflow *tcpflow)
{
	struct flow *flow;

	while ((flow = flow_table_any(&tcpflow->table)))
		leave(container_of(flow, struct tcp_flow, flow));
	timer_cancel(&tcpflow->config.loop->timers, &tcpflow->trim_timer);
	flow_table_done(&tcpflow->table);
	buffer_pool_done(&tcpflow->pool);
}

void tcpflow_link_gone(struct tcpflow *tcpflow)
{
	tcpflow->config.link = NULL;
	for (struct flow *f = flow_table_any(&tcpflow->table); f;
		f = flow_table_after(&tcpflow->table, f)) {
		struct tcp_flow *flow = container_of(f, struct tcp_flow, flow);

		if (flow->fd < 0 || is_half_open(flow->state))
			leave(flow);
		else if (flow->state != TCP_DRAINING)
			drain(flow);
	}
}

bool tcpflow_has_unsent(const struct tcpflow *tcpflow)
{
	for (struct flow *flow = flow_table_any(&tcpflow->table); flow;
		flow = flow_table_after(&tcpflow->table, flow))
		if (has_unsent(container_of(flow, struct tcp_flow, flow)))
			return true;
	return false;
}
