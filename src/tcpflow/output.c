/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments to the container: one writev(2) each, headers here, payload where recv(2) has put it.
 * With TSO one of them carries up to 64 KiB and more, cut by whoever is at the other end, or by
 * nobody.
 */
#include "base/clock.h"
#include "base/util.h"
#include "flow/unreachable.h"
#include "tcpflow/internal.h"
#include "wire/checksum.h"
#include "wire/ip4.h"
#include "wire/ip6.h"
#include "wire/vnet.h"

#define TTL 64
/* The largest IP packet less its headers, for either family. */
#define PAYLOAD_MAX (65535 - IP6_HEADER_LEN - TCP_HEADER_MIN)
/* The MSS that we announce: the container's own MTU is the bound. */
#define OUR_MSS PAYLOAD_MAX
/* SYN-ACK: MSS, NOP, window scale. */
#define OPTIONS_MAX 8
#define HEADERS_MAX                                                                     \
	(LINK_HEADER_LEN + ETH_HEADER_LEN + IP6_HEADER_LEN + sizeof(struct ip6_jumbo) + \
		TCP_HEADER_MIN + OPTIONS_MAX)
/* Pieces of payload in one frame; small chunks may be many. */
#define PIECES_MAX 7

/* Challenges that are sent in a second (RFC 5961 7). */
#define CHALLENGES_MAX 100

/* ---- one frame ---- */

/* Who speaks to whom; a flow's, or that of a segment that has none. */
struct route {
	const struct flow_key *key;
	const struct eth_addr *near_mac, *our_mac;
};

struct outgoing {
	uint32_t seq, ack;
	uint16_t window;
	uint8_t flags;
	uint16_t gso_size; /* 0: the payload is one segment */
	uint8_t options[OPTIONS_MAX];
	uint8_t options_len;
	struct iovec payload[PIECES_MAX];
	int n_payload;
	uint32_t payload_len;
};

static uint64_t pseudo_sum(const struct flow_key *key, uint32_t tcp_len)
{
	struct ip6_addr src6, dst6;
	be32 src4, dst4;

	if (key->family == AF_INET) {
		memcpy(&src4, &key->far.s6_addr[12], sizeof(src4));
		memcpy(&dst4, &key->near.s6_addr[12], sizeof(dst4));
		return checksum_pseudo4(src4, dst4, IPPROTO_TCP, tcp_len);
	}
	memcpy(&src6, &key->far, sizeof(src6));
	memcpy(&dst6, &key->near, sizeof(dst6));
	return checksum_pseudo6(&src6, &dst6, IPPROTO_TCP, tcp_len);
}

/* A larger one than the header can say has 0 there, and the frame's length counts (Linux 6.3). */
static size_t put_ip4(uint8_t *at, const struct flow_key *key, uint32_t tcp_len)
{
	struct ip4_header *ip = (struct ip4_header *)at;
	uint32_t len = IP4_HEADER_MIN + tcp_len;

	*ip = (struct ip4_header){
		.version_ihl = IP4_VERSION << 4 | IP4_HEADER_MIN / 4,
		.total_length = be16_of(len > IP4_LEN_MAX ? 0 : (uint16_t)len),
		.fragment = be16_of(IP4_DONT_FRAGMENT), /* so the id may be 0 (RFC 6864 4.1) */
		.ttl = TTL,
		.protocol = IPPROTO_TCP,
	};
	memcpy(&ip->src, &key->far.s6_addr[12], sizeof(ip->src));
	memcpy(&ip->dst, &key->near.s6_addr[12], sizeof(ip->dst));
	ip->checksum = checksum_finish(checksum_add(0, ip, sizeof(*ip)));
	return sizeof(*ip);
}

static size_t put_ip6(uint8_t *at, const struct flow_key *key, uint32_t tcp_len)
{
	struct ip6_header *ip = (struct ip6_header *)at;
	struct ip6_jumbo *jumbo = (struct ip6_jumbo *)(ip + 1);
	bool is_jumbo = tcp_len > IP6_PAYLOAD_MAX;

	*ip = (struct ip6_header){
		.version_class_flow = be32_of((uint32_t)IP6_VERSION << 28),
		.payload_length = be16_of(is_jumbo ? 0 : (uint16_t)tcp_len),
		.next_header = is_jumbo ? IPPROTO_HOPOPTS : IPPROTO_TCP,
		.hop_limit = TTL,
	};
	memcpy(&ip->src, &key->far, sizeof(ip->src));
	memcpy(&ip->dst, &key->near, sizeof(ip->dst));
	if (!is_jumbo)
		return sizeof(*ip);
	*jumbo = (struct ip6_jumbo){
		.extension.next_header = IPPROTO_TCP,
		.option = IP6_OPTION_JUMBO,
		.option_len = sizeof(jumbo->payload_length),
		.payload_length = be32_of((uint32_t)sizeof(*jumbo) + tcp_len),
	};
	return sizeof(*ip) + sizeof(*jumbo);
}

static void put_tcp(uint8_t *at, const struct flow_key *key, const struct outgoing *out)
{
	struct tcp_header *tcp = (struct tcp_header *)at;

	*tcp = (struct tcp_header){
		.src_port = be16_of(key->far_port),
		.dst_port = be16_of(key->near_port),
		.seq = be32_of(out->seq),
		.ack = be32_of(out->ack),
		.offset = (uint8_t)((TCP_HEADER_MIN + out->options_len) / 4 << 4),
		.flags = out->flags,
		.window = be16_of(out->window),
	};
	memcpy(tcp + 1, out->options, out->options_len);
}

/* The whole sum, or what the link's other end needs to make it whole: the pseudo header's. */
static void put_checksum(struct vnet_header *vnet, uint8_t *tcp_at, size_t tcp_offset,
	const struct flow_key *key, const struct outgoing *out, uint32_t offloads)
{
	struct tcp_header *tcp = (struct tcp_header *)tcp_at;
	size_t header_len = tcp_header_len(tcp);
	uint64_t sum = pseudo_sum(key, (uint32_t)header_len + out->payload_len);
	be16 pseudo;

	if (!(offloads & LINK_CSUM)) {
		tcp->checksum = checksum_finish(checksum_add_pieces(
			checksum_add(sum, tcp, header_len), out->payload, out->n_payload));
		return;
	}
	pseudo = checksum_finish(sum);
	tcp->checksum = (be16){{(uint8_t)~pseudo.b[0], (uint8_t)~pseudo.b[1]}};
	vnet->flags = VNET_NEEDS_CSUM;
	vnet->csum_start = le16_of((uint16_t)tcp_offset);
	vnet->csum_offset = le16_of(offsetof(struct tcp_header, checksum));
	/* Also of a single segment: so the kernel puts just the headers apart, and the payload
	 * where large copies are fast. */
	vnet->header_len = le16_of((uint16_t)(tcp_offset + header_len));
	if (!out->gso_size)
		return;
	vnet->gso_type = key->family == AF_INET ? VNET_GSO_TCP4 : VNET_GSO_TCP6;
	vnet->gso_size = le16_of(out->gso_size);
}

/* All headers but for the payload; returns their length. */
static size_t put_headers(
	uint8_t *buf, const struct route *route, const struct outgoing *out, uint32_t offloads)
{
	struct vnet_header *vnet = (struct vnet_header *)buf;
	struct eth_header *eth = (struct eth_header *)(buf + LINK_HEADER_LEN);
	uint8_t *ip = (uint8_t *)(eth + 1);
	bool is4 = route->key->family == AF_INET;
	uint32_t tcp_len = TCP_HEADER_MIN + out->options_len + out->payload_len;
	size_t ip_len = is4 ? put_ip4(ip, route->key, tcp_len) : put_ip6(ip, route->key, tcp_len);

	*vnet = (struct vnet_header){0};
	*eth = (struct eth_header){
		.dst = *route->near_mac,
		.src = *route->our_mac,
		.type = be16_of(is4 ? ETH_TYPE_IP4 : ETH_TYPE_IP6),
	};
	put_tcp(ip + ip_len, route->key, out);
	put_checksum(vnet, ip + ip_len, ETH_HEADER_LEN + ip_len, route->key, out, offloads);
	return LINK_HEADER_LEN + ETH_HEADER_LEN + ip_len + TCP_HEADER_MIN + out->options_len;
}

/* What the link does not take is lost, and sent again like what the wire loses. Returns whether it
 * was taken. */
static bool put_on_link(struct tcpflow *tcpflow, const struct iovec *iov, int n_iov)
{
	struct link *link = tcpflow->config.link;
	bool is_taken = link->ops->send(link, iov, n_iov) == 0;

	count(tcpflow->config.counters, is_taken ? COUNTER_FRAMES_OUT : COUNTER_FRAMES_OUT_DROPPED);
	return is_taken;
}

static bool send_frame(
	struct tcpflow *tcpflow, const struct route *route, const struct outgoing *out)
{
	uint8_t buf[HEADERS_MAX];
	struct iovec iov[1 + PIECES_MAX] = {{.iov_base = buf}};

	if (!tcpflow->config.link)
		return true;
	iov[0].iov_len = put_headers(buf, route, out, tcpflow->config.link->offloads);
	memcpy(&iov[1], out->payload, (size_t)out->n_payload * sizeof(iov[0]));
	return put_on_link(tcpflow, iov, 1 + out->n_payload);
}

/* ---- the window that we offer ---- */

static uint32_t window_now(const struct tcp_flow *flow)
{
	uint32_t offered = flow->rcv_edge - flow->rcv_nxt, window;

	if (flow->up.len && buffer_pool_is_short(&flow->owner->pool, BUFFER_UP))
		return offered;
	window = flow->rcv_wnd_max - MIN(flow->up.len, flow->rcv_wnd_max);
	return MAX(window, offered); /* what was offered is not taken back (RFC 9293 3.8.6) */
}

/* The field's value. Rounded up, so that the edge stays where it was at least. */
static uint16_t offer_window(struct tcp_flow *flow)
{
	uint32_t unit = UINT32_C(1) << flow->rcv_shift;
	uint32_t field = MIN((window_now(flow) + unit - 1) >> flow->rcv_shift, UINT16_MAX);
	uint32_t edge = flow->rcv_nxt + (field << flow->rcv_shift);

	if (seq_after(edge, flow->rcv_edge))
		flow->rcv_edge = edge;
	return (uint16_t)field;
}

/* ---- a flow's segments ---- */

uint16_t tcp_link_mss(const struct tcp_flow *flow)
{
	uint32_t ip_len = flow->flow.key.family == AF_INET ? IP4_HEADER_MIN : IP6_HEADER_LEN;
	uint32_t headers = ip_len + TCP_HEADER_MIN, mtu = flow->owner->config.mtu;

	return (uint16_t)(mtu ? MIN(mtu - MIN(headers, mtu), OUR_MSS) : OUR_MSS);
}

/* Returns the length. */
static uint8_t put_syn_options(uint8_t options[OPTIONS_MAX], uint16_t mss, bool has_window_scale)
{
	memcpy(options, (uint8_t[]){TCP_OPTION_MSS, 4, mss >> 8, mss & 0xff}, 4);
	if (!has_window_scale)
		return 4;
	memcpy(options + 4, (uint8_t[]){TCP_OPTION_NOP, TCP_OPTION_WINDOW_SCALE, 3, TCP_RCV_SHIFT},
		4);
	return 8;
}

void tcp_send_syn(struct tcp_flow *flow)
{
	const struct route route = {&flow->flow.key, &flow->near_mac, &flow->our_mac};
	struct outgoing out = {
		.seq = flow->iss,
		.flags = TCP_SYN,
		.window = (uint16_t)MIN(flow->rcv_wnd_max, UINT16_MAX),
	};

	out.options_len = put_syn_options(out.options, tcp_link_mss(flow), true);
	flow->snd_nxt = flow->iss + 1;
	send_frame(flow->owner, &route, &out);
}

/* We know of nothing that it could acknowledge. */
static void send_reset_of_syn(struct tcp_flow *flow)
{
	const struct route route = {&flow->flow.key, &flow->near_mac, &flow->our_mac};
	const struct outgoing out = {.seq = flow->snd_nxt, .flags = TCP_RST};

	send_frame(flow->owner, &route, &out);
}

/* Returns whether the link has taken it. */
static bool send_segment(struct tcp_flow *flow, struct outgoing *out)
{
	const struct route route = {&flow->flow.key, &flow->near_mac, &flow->our_mac};

	out->flags |= TCP_ACK;
	out->ack = flow->rcv_nxt;
	if (!(out->flags & TCP_SYN))
		out->window = offer_window(flow);
	flow->ack_owed = false;
	flow->ack_ns = CLOCK_NEVER;
	flow->last_ack_sent = flow->rcv_nxt;
	return send_frame(flow->owner, &route, out);
}

void tcp_send_syn_ack(struct tcp_flow *flow)
{
	struct outgoing out = {
		.seq = flow->iss,
		.flags = TCP_SYN,
	};
	uint32_t window = MIN(flow->rcv_wnd_max, UINT16_MAX); /* never scaled here (RFC 7323 2.2) */

	out.options_len = put_syn_options(out.options, OUR_MSS, flow->has_window_scale);
	out.window = (uint16_t)window;
	/* A challenge before it may have told of more. */
	if (seq_after(flow->rcv_nxt + window, flow->rcv_edge))
		flow->rcv_edge = flow->rcv_nxt + window;
	flow->snd_nxt = flow->iss + 1;
	send_segment(flow, &out);
	tcp_rtt_sent(&flow->rtt, flow->snd_nxt, tcp_now_ns(flow));
}

void tcp_send_ack(struct tcp_flow *flow)
{
	struct outgoing out = {.seq = flow->snd_nxt};

	send_segment(flow, &out);
}

void tcp_send_challenge(struct tcp_flow *flow)
{
	struct tcpflow *tcpflow = flow->owner;

	if (tcp_now_ns(flow) - tcpflow->challenges_since_ns >= NS_PER_SEC) {
		tcpflow->challenges_since_ns = tcp_now_ns(flow);
		tcpflow->n_challenges = 0;
	}
	if (tcpflow->n_challenges++ < CHALLENGES_MAX)
		tcp_send_ack(flow);
}

void tcp_send_reset(struct tcp_flow *flow)
{
	struct outgoing out = {.seq = flow->snd_nxt, .flags = TCP_RST};

	if (flow->state == TCP_RESOLVING)
		return; /* it has heard nothing of us */
	if (flow->state == TCP_SYN_SENT) {
		send_reset_of_syn(flow);
		return;
	}
	/* Before our SYN was sent it is the answer to theirs (RFC 9293 3.5.2). */
	if (flow->state == TCP_DIALING)
		out.seq = 0;
	send_segment(flow, &out);
}

void tcp_refuse(struct tcpflow *tcpflow, const struct tcp_segment *segment)
{
	const struct eth_header *eth = (const struct eth_header *)segment->frame;
	struct flow_key key;
	const struct route route = {&key, &eth->src, &eth->dst};
	struct outgoing out = {.flags = TCP_RST};

	if (segment->flags & TCP_RST)
		return;
	flow_key_of(&key, segment->frame, segment->packet);
	if (segment->flags & TCP_ACK) {
		out.seq = segment->ack;
	} else {
		out.flags |= TCP_ACK;
		out.ack = segment->seq + segment->len + !!(segment->flags & TCP_SYN) +
			!!(segment->flags & TCP_FIN);
	}
	send_frame(tcpflow, &route, &out);
}

void tcp_send_probe(struct tcp_flow *flow)
{
	struct outgoing out = {.seq = flow->snd_una - 1};

	tcp_count(flow, COUNTER_TCP_PROBES);
	if (flow->unanswered_since_ns == CLOCK_NEVER)
		flow->unanswered_since_ns = tcp_now_ns(flow);
	send_segment(flow, &out);
}

/* ---- data ---- */

static bool has_tso(const struct tcp_flow *flow)
{
	uint32_t bit = flow->flow.key.family == AF_INET ? LINK_TSO4 : LINK_TSO6;

	return flow->owner->config.link && flow->owner->config.link->offloads & bit;
}

/* So that none but the last segment is short. */
static uint32_t whole_segments(const struct tcp_flow *flow, uint32_t max)
{
	return MAX(max / flow->mss, 1) * flow->mss;
}

static uint32_t frame_payload_max(const struct tcp_flow *flow)
{
	bool is_big = flow->big == TCP_BIG_YES && flow->snd_wnd > UINT16_MAX;

	if (!has_tso(flow))
		return flow->mss;
	return whole_segments(flow, is_big ? LINK_BIG_PAYLOAD : PAYLOAD_MAX);
}

static uint8_t habit_after(uint8_t habit, bool was_soon)
{
	return was_soon ? (uint8_t)MIN(habit + 1, TCP_HABIT) : 0;
}

/* An answer to a single segment, soon: next time the acknowledgement may wait for it. */
static void notice_dialogue(struct tcp_flow *flow)
{
	struct tcp_habits *habits = tcp_habits_of(flow);
	bool was_soon = flow->n_in == 1 && tcp_now_ns(flow) - flow->heard_ns < TCP_DELAYED_ACK_NS;

	if (!flow->n_in)
		return;
	flow->dialogue = habit_after(flow->dialogue, was_soon);
	if (!flow->has_answered)
		habits->first_answer = habit_after(habits->first_answer, was_soon);
	flow->has_answered = true;
	flow->n_in = 0;
}

void tcp_notice_no_answer(struct tcp_flow *flow)
{
	flow->dialogue = 0;
	if (flow->near_eof)
		tcp_habits_of(flow)->last_answer = 0;
	else if (!flow->has_answered)
		tcp_habits_of(flow)->first_answer = 0;
}

/* From `offset` in `down`, at most `len`; returns how many bytes of it went out. */
static uint32_t send_data(struct tcp_flow *flow, uint32_t offset, uint32_t len)
{
	struct outgoing out = {.seq = flow->snd_una + offset};
	size_t n = MIN(len, frame_payload_max(flow));
	bool is_taken;

	out.n_payload = byte_queue_map(&flow->down, offset, &n, out.payload, PIECES_MAX);
	out.payload_len = (uint32_t)n;
	out.gso_size = n > flow->mss ? flow->mss : 0;
	if (offset + n == flow->down.len)
		out.flags |= TCP_PSH;
	is_taken = send_segment(flow, &out);
	if (n <= PAYLOAD_MAX)
		return (uint32_t)n;
	if (is_taken)
		tcp_big_sent(flow, out.seq, (uint32_t)n);
	else
		flow->big = TCP_BIG_NEVER; /* no memory in such large pieces */
	return is_taken ? (uint32_t)n : send_data(flow, offset, len);
}

static uint32_t min_window(const struct tcp_flow *flow)
{
	return MIN(flow->snd_wnd, TCP_DOWN_WINDOW);
}

uint32_t tcp_room_down(const struct tcp_flow *flow)
{
	uint32_t window = min_window(flow), room;

	if (window <= flow->down.len)
		return 0;
	room = window - flow->down.len;
	/* Rather much later than little now (RFC 9293 3.8.6.2.1, where a segment is much). */
	if (flow->down.len && room < MIN(BUFFER_LARGE, flow->max_snd_wnd / 2))
		return 0;
	return room;
}

static void notice_last_answer(struct tcp_flow *flow)
{
	struct tcp_habits *habits = tcp_habits_of(flow);
	bool was_soon = tcp_now_ns(flow) - flow->heard_ns < TCP_DELAYED_ACK_NS;

	habits->last_answer = habit_after(habits->last_answer, was_soon);
	tcp_flow_set_state(flow, TCP_LAST_ACK);
}

static void send_fin(struct tcp_flow *flow)
{
	struct outgoing out = {.seq = flow->snd_una + flow->down.len, .flags = TCP_FIN};

	flow->snd_nxt = out.seq + 1;
	if (flow->state == TCP_ESTABLISHED)
		tcp_flow_set_state(flow, TCP_FIN_WAIT_1);
	else if (flow->state == TCP_CLOSE_WAIT)
		notice_last_answer(flow);
	send_segment(flow, &out);
}

static bool awaits_fin(const struct tcp_flow *flow)
{
	return flow->far_eof && (flow->state == TCP_ESTABLISHED || flow->state == TCP_CLOSE_WAIT);
}

bool tcp_is_blocked(const struct tcp_flow *flow)
{
	uint32_t in_flight = flow->snd_nxt - flow->snd_una;

	if (in_flight)
		return false;
	if (flow->down.len || awaits_fin(flow))
		return true;
	return flow->far_readable && !tcp_room_down(flow);
}

void tcp_send_pending(struct tcp_flow *flow)
{
	uint32_t window = flow->snd_wnd, sent = flow->snd_nxt - flow->snd_una;
	bool was_in_flight = sent;

	if (sent < flow->down.len)
		notice_dialogue(flow);
	while (sent < flow->down.len && sent < window) {
		sent += send_data(flow, sent, MIN(flow->down.len, window) - sent);
		flow->snd_nxt = flow->snd_una + sent;
		tcp_rtt_sent(&flow->rtt, flow->snd_nxt, tcp_now_ns(flow));
	}
	if (sent == flow->down.len && sent < window && awaits_fin(flow))
		send_fin(flow);
	if (flow->snd_nxt != flow->snd_una && !was_in_flight)
		flow->retransmit_ns = tcp_now_ns(flow) + tcp_rtt_timeout(&flow->rtt);
}

void tcp_retransmit(struct tcp_flow *flow)
{
	uint32_t len = MIN(flow->down.len, whole_segments(flow, PAYLOAD_MAX));

	tcp_count(flow, COUNTER_TCP_RETRANSMITS);
	flow->rtt.is_measuring = false;
	tcp_big_missed(flow, len);
	if (!flow->snd_wnd)
		tcp_send_probe(flow);
	else if (len)
		send_data(flow, 0, MIN(len, MAX(flow->snd_wnd, 1)));
	else
		send_fin(flow);
	flow->retransmit_ns = tcp_now_ns(flow) + tcp_rtt_timeout(&flow->rtt);
}

/* ---- acknowledgements ---- */

/* Telling of room that came up is worth a segment when it is a good part of all
 * (RFC 9293 3.8.6.2.2). That a SYN-ACK could not tell of all is told with the first data. */
static bool window_has_opened(const struct tcp_flow *flow)
{
	return flow->has_received &&
		window_now(flow) - (flow->rcv_edge - flow->rcv_nxt) >= flow->rcv_wnd_max / 4;
}

/* To a request, or to the end of the container's stream. */
static bool is_answer_expected(struct tcp_flow *flow)
{
	if (flow->near_eof)
		return flow->state == TCP_CLOSE_WAIT &&
			tcp_habits_of(flow)->last_answer >= TCP_HABIT;
	return flow->n_in == 1 && flow->dialogue >= TCP_HABIT;
}

void tcp_settle_ack(struct tcp_flow *flow)
{
	if (flow->near_eof && !flow->ack_owed)
		return;
	if (flow->ack_owed && is_answer_expected(flow)) {
		if (flow->ack_ns == CLOCK_NEVER)
			flow->ack_ns = tcp_now_ns(flow) + TCP_DELAYED_ACK_NS;
		return;
	}
	if (flow->ack_owed || window_has_opened(flow))
		tcp_send_ack(flow);
}

/* ---- ICMP ---- */

/* The error quotes the SYN, which is made again from what the flow knows of it. */
void tcp_send_unreachable(struct tcp_flow *flow, uint8_t code)
{
	const struct tcpflow_config *config = &flow->owner->config;
	const struct flow_key *key = &flow->flow.key;
	const struct flow_key syn_key = {
		.near = key->far,
		.far = key->near,
		.near_port = key->far_port,
		.far_port = key->near_port,
		.family = key->family,
	};
	const struct route route = {&syn_key, &flow->our_mac, &flow->near_mac};
	struct outgoing syn = {.seq = flow->irs, .flags = TCP_SYN};
	uint8_t frame[HEADERS_MAX], answer[LINK_HEADER_LEN + UNREACHABLE_MAX] = {0};
	struct iovec iov = {.iov_base = answer};
	struct packet packet;
	size_t len = put_headers(frame, &route, &syn, 0) - LINK_HEADER_LEN;

	if (!config->link || packet_parse(frame + LINK_HEADER_LEN, len, &packet) != PACKET_OK)
		return;
	len = unreachable_answer(config->policy, config->icmp_limit, frame + LINK_HEADER_LEN,
		&packet, code, tcp_now_ns(flow), answer + LINK_HEADER_LEN);
	iov.iov_len = LINK_HEADER_LEN + len;
	if (len)
		put_on_link(flow->owner, &iov, 1);
}
