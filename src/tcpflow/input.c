/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments from the container: which are good (RFC 9293 3.10.7.4, RFC 5961), and what is in them.
 * Of data out of order one run is kept; the container mends the rest by sending again.
 */
#include "base/clock.h"
#include "base/util.h"
#include "tcpflow/internal.h"

/* A bulk stream is acknowledged each time that much of the window has been used. */
#define ACK_PARTS 4

static struct tcp_segment segment_of(const uint8_t *frame, const struct packet *packet)
{
	const struct tcp_header *tcp =
		(const struct tcp_header *)(frame + packet->transport_offset);

	return (struct tcp_segment){
		.frame = frame,
		.packet = packet,
		.tcp = tcp,
		.seq = be32_get(tcp->seq),
		.ack = be32_get(tcp->ack),
		.flags = tcp->flags,
		.window = be16_get(tcp->window),
		.data = (const uint8_t *)tcp + packet->transport_header_len,
		.len = packet->transport_len - packet->transport_header_len,
	};
}

/* What the flags ask for; N_TCP_EVENTS: nothing that there is. */
static enum tcp_event event_of(const struct tcp_segment *segment)
{
	if (segment->flags & TCP_RST)
		return TCP_EVENT_RESET;
	if (segment->flags & TCP_ACK)
		return TCP_EVENT_SEGMENT;
	if ((segment->flags & (TCP_SYN | TCP_FIN)) == TCP_SYN)
		return TCP_EVENT_SYN;
	return N_TCP_EVENTS;
}

static bool is_to_one_host(const struct tcpflow *tcpflow, const struct tcp_segment *segment)
{
	const struct eth_header *eth = (const struct eth_header *)segment->frame;
	const struct ip_addr *dst = &segment->packet->dst;

	return !eth_addr_is_group(&eth->dst) && ip_addr_is_unicast(dst) &&
		!policy_is_directed_broadcast(tcpflow->config.policy, dst);
}

/* A connection needs two ends that are one host each (RFC 9293 3.9.2.3), and ports. */
static bool is_sane(const struct tcpflow *tcpflow, const struct tcp_segment *segment)
{
	return is_to_one_host(tcpflow, segment) && be16_get(segment->tcp->src_port) &&
		!(segment->flags & TCP_SYN && segment->flags & TCP_FIN);
}

static enum tcpflow_result input_unknown(
	struct tcpflow *tcpflow, const struct tcp_segment *segment, enum tcp_event event)
{
	if (event != TCP_EVENT_SYN)
		return TCPFLOW_STRAY;
	if (be16_get(segment->tcp->dst_port))
		tcp_flow_open(tcpflow, segment);
	else
		tcp_refuse(tcpflow, segment);
	return TCPFLOW_TAKEN;
}

enum tcpflow_result tcpflow_input(
	struct tcpflow *tcpflow, const uint8_t *frame, const struct packet *packet)
{
	const struct tcp_segment segment = segment_of(frame, packet);
	enum tcp_event event = event_of(&segment);
	struct flow_key key;
	struct flow *found;

	if (!is_sane(tcpflow, &segment) || event == N_TCP_EVENTS) {
		count(tcpflow->config.counters, COUNTER_DROP_HEADER);
		return TCPFLOW_TAKEN;
	}
	if (segment.flags & TCP_URG)
		count(tcpflow->config.counters, COUNTER_URGENT_CLEARED);
	flow_key_of(&key, frame, packet);
	found = flow_table_find(&tcpflow->table, &key);
	if (!found)
		return input_unknown(tcpflow, &segment, event);
	tcp_event(container_of(found, struct tcp_flow, flow), event, &segment);
	return TCPFLOW_TAKEN;
}

void tcpflow_refuse(struct tcpflow *tcpflow, const uint8_t *frame, const struct packet *packet)
{
	const struct tcp_segment segment = segment_of(frame, packet);

	if (segment.flags & TCP_RST)
		return;
	count(tcpflow->config.counters, COUNTER_TCP_STRAY);
	tcp_refuse(tcpflow, &segment);
}

/* ---- sequence numbers ---- */

static uint32_t segment_end(const struct tcp_segment *segment)
{
	return segment->seq + segment->len + !!(segment->flags & TCP_FIN);
}

/* RFC 9293 3.4: some of it lies in the window, or for an empty one, where it would. So does all
 * that was received already but for something new at its end. Who has probed our window with a byte
 * behind it may count from there, and its acknowledgements are good (3.10.7.4). */
static bool is_acceptable(const struct tcp_flow *flow, const struct tcp_segment *segment)
{
	uint32_t end = segment_end(segment);

	if (end == segment->seq)
		return !seq_before(segment->seq, flow->rcv_nxt) &&
			!seq_after(segment->seq, flow->rcv_edge + 1);
	return seq_after(end, flow->rcv_nxt) && seq_before(segment->seq, flow->rcv_edge);
}

/* A probe of the container's (RFC 9293 3.8.4). The host's peer is then to be asked as often. */
static void notice_keepalive(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	struct host *host = flow->owner->config.host;
	int64_t silent_s = (tcp_now_ns(flow) - flow->heard_ns) / NS_PER_SEC;

	if (segment->seq != flow->rcv_nxt - 1 || segment->len > 1 || silent_s < 1 || flow->fd < 0)
		return;
	/* A probe of a closed window looks the same; and a FIN may come again. */
	if (flow->rcv_edge == flow->rcv_nxt || segment->flags & TCP_FIN)
		return;
	if (flow->far_pace_s && flow->far_pace_s <= silent_s)
		return;
	flow->far_pace_s = (uint32_t)silent_s;
	host->ops->tcp_keepalive(host, flow->fd, flow->far_pace_s);
}

static void heard(struct tcp_flow *flow)
{
	flow->heard_ns = tcp_now_ns(flow);
	flow->n_probes = 0;
	/* What is in flight is answered by being acknowledged, or by a window that was closed
	 * since. */
	if (flow->snd_una == flow->snd_nxt || (!flow->snd_wnd && flow->max_snd_wnd))
		flow->unanswered_since_ns = CLOCK_NEVER;
}

static void trim_front(struct tcp_flow *flow, struct tcp_segment *segment)
{
	uint32_t old = flow->rcv_nxt - segment->seq;

	if (!seq_before(segment->seq, flow->rcv_nxt))
		return;
	segment->seq = flow->rcv_nxt;
	segment->data += MIN(old, segment->len);
	segment->len -= MIN(old, segment->len);
}

static void trim_back(struct tcp_flow *flow, struct tcp_segment *segment)
{
	if (!seq_after(segment_end(segment), flow->rcv_edge))
		return;
	/* An empty one may stand behind the edge. */
	if (segment->len && seq_after(segment->seq + segment->len, flow->rcv_edge))
		segment->len = flow->rcv_edge - segment->seq;
	segment->flags &= (uint8_t)~TCP_FIN;
}

bool tcp_check_sequence(struct tcp_flow *flow, struct tcp_segment *segment)
{
	if (!is_acceptable(flow, segment)) {
		notice_keepalive(flow, segment);
		/* The window is nobody's business in an old segment, but that it came is. */
		if (!seq_after(segment_end(segment), flow->rcv_nxt))
			heard(flow);
		tcp_count(flow, COUNTER_TCP_UNACCEPTABLE);
		tcp_send_ack(flow);
		return false;
	}
	heard(flow);
	trim_front(flow, segment);
	trim_back(flow, segment);
	return true;
}

/* RFC 5961 5.2: neither of what was not sent nor older than any window. */
bool tcp_check_ack(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	if (!seq_after(segment->ack, flow->snd_nxt) &&
		!seq_before(segment->ack, flow->snd_una - flow->max_snd_wnd))
		return true;
	tcp_count(flow, COUNTER_TCP_UNACCEPTABLE);
	tcp_send_challenge(flow);
	return false;
}

/* ---- acknowledgements ---- */

/* The backoffs were those of the probes; what was in flight may be lost. */
static void window_opens(struct tcp_flow *flow)
{
	int64_t due_ns;

	flow->rtt.n_backoffs = 0;
	due_ns = tcp_now_ns(flow) + tcp_rtt_timeout(&flow->rtt);
	if (flow->snd_una != flow->snd_nxt)
		flow->retransmit_ns = MIN(flow->retransmit_ns, due_ns);
}

static bool take_window(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	uint32_t window = (uint32_t)segment->window
		<< (segment->flags & TCP_SYN ? 0 : flow->snd_shift);
	bool is_news = window != flow->snd_wnd;

	/* RFC 9293 3.10.7.4: not from an acknowledgement that is older than the last one, whose
	 * edge ends earlier than it would seem from snd_una; nor from an older segment. But one
	 * that acknowledges something new is news, though what is sent again has an old number. */
	if (seq_before(segment->ack, flow->snd_una) ||
		(segment->ack == flow->snd_una && seq_before(segment->seq, flow->snd_wl1)))
		return false;
	if (!flow->snd_wnd && window)
		window_opens(flow);
	flow->snd_wnd = window;
	flow->max_snd_wnd = MAX(flow->max_snd_wnd, window);
	flow->snd_wl1 = segment->seq;
	return is_news;
}

static void start_recovery(struct tcp_flow *flow)
{
	flow->is_recovering = true;
	flow->recover = flow->snd_nxt;
	tcp_retransmit(flow);
}

/* RFC 5681 2: says nothing new, while something is in flight. */
static void take_duplicate(struct tcp_flow *flow)
{
	if (flow->n_duplicates < UINT8_MAX)
		flow->n_duplicates++;
	if (flow->n_duplicates == 3 && !flow->is_recovering)
		start_recovery(flow);
}

/* Returns whether FIN is among what is newly acknowledged. */
static bool advance(struct tcp_flow *flow, uint32_t ack)
{
	uint32_t acked = ack - flow->snd_una, data = MIN(acked, flow->down.len);

	byte_queue_drop(&flow->down, &flow->owner->pool, data);
	flow->snd_una = ack;
	tcp_big_acked(flow);
	flow->n_duplicates = 0;
	flow->unanswered_since_ns = CLOCK_NEVER;
	tcp_rtt_acked(&flow->rtt, ack, tcp_now_ns(flow));
	flow->retransmit_ns = CLOCK_NEVER;
	if (flow->snd_una != flow->snd_nxt)
		flow->retransmit_ns = tcp_now_ns(flow) + tcp_rtt_timeout(&flow->rtt);
	if (flow->is_recovering && !seq_before(ack, flow->recover))
		flow->is_recovering = false;
	return acked > data;
}

bool tcp_take_ack(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	bool window_is_news = take_window(flow, segment), fin_is_acked;

	tcp_flow_schedule(flow);
	if (!seq_after(segment->ack, flow->snd_una)) {
		if (segment->ack == flow->snd_una && flow->snd_una != flow->snd_nxt &&
			!segment->len && !window_is_news && !(segment->flags & TCP_FIN))
			take_duplicate(flow);
		return false;
	}
	fin_is_acked = advance(flow, segment->ack);
	/* RFC 6582: a part was acknowledged, so the next one is missing, too. */
	if (flow->is_recovering)
		tcp_retransmit(flow);
	return fin_is_acked;
}

/* ---- data ---- */

/* Since a window's edge is told in units and does not go back, each segment that is none of whole
 * units moves it on; this bounds how far that leads. */
static uint32_t room_up(const struct tcp_flow *flow)
{
	uint32_t max = flow->rcv_wnd_max + BUFFER_LARGE;

	return max - MIN(flow->up.len, max);
}

/* Behind a bridge frames overtake each other on their way through the container's kernel. What came
 * too early is kept when it goes on where the kept ends, or nothing is; the rest comes again. */
static void keep_ahead(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	if (!flow->ahead.len)
		flow->ahead_seq = segment->seq;
	/* Memory that is short is for what was acknowledged. */
	if (segment->seq == flow->ahead_seq + flow->ahead.len &&
		!buffer_pool_is_short(&flow->owner->pool, BUFFER_UP))
		byte_queue_append(
			&flow->ahead, &flow->owner->pool, BUFFER_UP, segment->data, segment->len);
	/* At once and each time, since three of them make the container send again. */
	tcp_count(flow, COUNTER_TCP_UNACCEPTABLE);
	tcp_send_ack(flow);
}

/* The gap is closed: what lies behind it goes on with `up`. */
static void join_ahead(struct tcp_flow *flow)
{
	struct byte_queue *ahead = &flow->ahead;
	uint32_t old = flow->rcv_nxt - flow->ahead_seq;

	if (!ahead->len || seq_before(flow->rcv_nxt, flow->ahead_seq))
		return;
	byte_queue_drop(ahead, &flow->owner->pool, MIN(old, ahead->len));
	if (ahead->len > room_up(flow))
		byte_queue_clear(ahead, &flow->owner->pool); /* comes again */
	flow->rcv_nxt += ahead->len;
	byte_queue_move(&flow->up, ahead);
}

static void note_data(struct tcp_flow *flow, uint32_t len)
{
	flow->rcv_nxt += len;
	flow->has_received = true;
	join_ahead(flow);
	flow->ack_owed = true;
	if (flow->n_in < 2)
		flow->n_in++;
	if (flow->rcv_nxt - flow->last_ack_sent >= flow->rcv_wnd_max / ACK_PARTS)
		tcp_send_ack(flow);
}

/* The socket first, the queue for what it does not take. What there is no memory for stays
 * unacknowledged, and comes again. */
static uint32_t take_bytes(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	uint32_t n = 0;

	if (!flow->up.len)
		n = tcp_far_send(flow, segment->data, segment->len);
	if (flow->fd < 0)
		return n;
	if (n < segment->len)
		n += (uint32_t)byte_queue_append(&flow->up, &flow->owner->pool, BUFFER_UP,
			segment->data + n, MIN(segment->len - n, room_up(flow)));
	if (n < segment->len)
		tcp_count(flow, COUNTER_TCP_MEMORY_SHORT);
	return n;
}

bool tcp_take_data(struct tcp_flow *flow, const struct tcp_segment *segment)
{
	uint32_t n;

	if (segment->seq != flow->rcv_nxt) {
		keep_ahead(flow, segment);
		return false;
	}
	if (segment->len) {
		n = take_bytes(flow, segment);
		if (flow->fd < 0)
			return false;
		note_data(flow, n);
		if (n < segment->len)
			return false;
	}
	if (!(segment->flags & TCP_FIN) || flow->rcv_nxt != segment->seq + segment->len)
		return false;
	byte_queue_clear(&flow->ahead, &flow->owner->pool);
	flow->rcv_nxt++;
	flow->near_eof = true;
	flow->ack_owed = true;
	return true;
}
