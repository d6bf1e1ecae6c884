/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's kernel and the program on it: one connection, opened actively, or by a client of
 * a published port.
 */
#include <stdlib.h>

#include "tests/model/world.h"

#define RTO_NS          (200 * NS_PER_MS)
#define RTO_FIRST_NS    (1 * NS_PER_SEC)
#define RTO_MAX_NS      (20 * NS_PER_SEC)
#define SYN_RETRIES     6
#define RETRIES         15
#define KEEPALIVES      9
#define KEEPALIVE_AGAIN (15 * NS_PER_SEC)

static bool before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static bool after(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

static void arm(struct near *near, struct timer *timer, int64_t delay_ns)
{
	timer_arm(&near->world->timers, timer, now_ns(near->world) + delay_ns);
}

static void cancel(struct near *near, struct timer *timer)
{
	timer_cancel(&near->world->timers, timer);
}

void near_stop(struct near *near)
{
	cancel(near, &near->retransmit);
	cancel(near, &near->delayed_ack);
	cancel(near, &near->keepalive);
	cancel(near, &near->program);
	cancel(near, &near->abort);
}

static void end_with(struct near *near, enum near_result result)
{
	if (near->result == RESULT_NONE) {
		near->result = result;
		near->result_ns = now_ns(near->world);
	}
	world_say(near->world, "near %u: ends with %d", near->id, result);
	near->state = NEAR_CLOSED;
	near_stop(near);
}

static void kick(struct near *near)
{
	if (!timer_is_armed(&near->program) && near->state == NEAR_OPEN)
		arm(near, &near->program,
			1 + (int64_t)rng_below(&near->world->rng, (uint64_t)near->pace_ns));
}

/* ---- what is sent ---- */

static uint32_t offset_of(const struct near *near, uint32_t seq)
{
	return seq - near->iss - 1;
}

static uint32_t received(const struct near *near)
{
	return near->rcv_nxt - near->irs - 1 - near->fin_seen;
}

static uint32_t room(const struct near *near)
{
	uint32_t unread = received(near) - near->n_read;

	return unread < near->rcvbuf ? near->rcvbuf - unread : 0;
}

/* The field: nothing that was offered is taken back, unless this one does such things. Small
 * windows are offered as none (RFC 9293 3.8.6.2.2). */
static uint32_t window_field(struct near *near)
{
	uint32_t offered = near->rcv_edge - near->rcv_nxt, window = room(near);

	if (window < near->rcvbuf / 2 &&
		(near->mss_option < 0 || window < (uint32_t)near->mss_option))
		window = 0;
	if (near->shrinks)
		window = room(near);
	else if (window < offered)
		window = offered;
	if (near->shrinks)
		window >>= near->rcv_shift;
	else
		window = (window + (1u << near->rcv_shift) - 1) >> near->rcv_shift;
	if (window > 65535)
		window = 65535;
	if (after(near->rcv_nxt + (window << near->rcv_shift), near->rcv_edge))
		near->rcv_edge = near->rcv_nxt + (window << near->rcv_shift);
	return window;
}

static void transmit(struct near *near, struct segment *segment)
{
	segment->ack = near->rcv_nxt;
	segment->window = window_field(near);
	segment->flags |= ACK;
	segment->mss = segment->shift = -1;
	near->n_unacked = 0;
	cancel(near, &near->delayed_ack);
	wire_send(near, segment);
}

static void send_ack(struct near *near)
{
	struct segment segment = {.seq = near->snd_max};

	transmit(near, &segment);
}

static void send_reset(struct near *near)
{
	struct segment segment = {.seq = near->snd_max, .flags = RST};

	transmit(near, &segment);
}

static void send_syn(struct near *near)
{
	struct segment segment = {
		.seq = near->iss,
		.flags = SYN,
		.mss = near->mss_option,
		.shift = near->shift_option,
		.window = near->rcvbuf < 65535 ? near->rcvbuf : 65535,
	};

	wire_send(near, &segment);
	arm(near, &near->retransmit, RTO_FIRST_NS << near->n_retries);
}

static void send_syn_ack(struct near *near)
{
	struct segment segment = {
		.seq = near->iss,
		.ack = near->rcv_nxt,
		.flags = SYN | ACK,
		.mss = near->mss_option,
		.shift = near->shift_option >= 0 && near->rcv_shift ? near->rcv_shift : -1,
		.window = MIN(near->rcvbuf, 65535),
	};

	if (near->shift_option == 0)
		segment.shift = 0;
	wire_send(near, &segment);
	arm(near, &near->retransmit, RTO_FIRST_NS << near->n_retries);
}

static int64_t timeout_ns(const struct near *near)
{
	const struct world *world = near->world;
	int64_t rto_ns = (RTO_NS + 4 * (world->up.delay_ns + world->down.delay_ns))
		<< near->n_retries;

	return rto_ns < RTO_MAX_NS ? rto_ns : RTO_MAX_NS;
}

static uint32_t payload_max(const struct near *near)
{
	uint32_t offload = near->slot->family == AF_INET ? LINK_TSO4 : LINK_TSO6;
	uint32_t max = near->mss < near->segment_max ? near->mss : near->segment_max;

	if (near->world->link.offloads & offload && near->gso_max > max)
		max = near->gso_max;
	return max;
}

/* From `seq` on, at most `len` bytes, and FIN when it belongs there. Returns the end. */
static uint32_t send_from(struct near *near, uint32_t seq, uint32_t len)
{
	static uint8_t data[65536];
	struct segment segment = {.seq = seq, .data = data};
	uint32_t offset = offset_of(near, seq), end;

	/* FIN alone, again */
	if (offset > near->total)
		offset = near->total;
	segment.len = MIN(len, near->written - offset);
	segment.len = MIN(segment.len, payload_max(near));
	segment.gso_size = segment.len > near->mss ? near->mss : 0;
	stream_fill(near->id, offset, data, segment.len);
	if (near->fin_queued && offset + segment.len == near->total)
		segment.flags |= FIN;
	if (rng_chance(&near->world->rng, 3000))
		segment.flags |= PSH;
	end = seq + segment.len + (segment.flags & FIN);
	if (after(end, near->snd_max))
		near->snd_max = end;
	transmit(near, &segment);
	return end;
}

static bool has_more(const struct near *near)
{
	uint32_t offset = offset_of(near, near->snd_nxt);

	return offset < near->written || (near->fin_queued && offset == near->total);
}

static void output(struct near *near)
{
	while (has_more(near)) {
		uint32_t edge = near->snd_una + MIN(near->snd_wnd, near->cwnd);
		uint32_t left = near->written - offset_of(near, near->snd_nxt);
		uint32_t usable = after(edge, near->snd_nxt) ? edge - near->snd_nxt : 0;

		if (!usable ||
			(near->has_nagle && left < near->mss && !near->fin_queued &&
				near->snd_nxt != near->snd_una))
			break;
		near->snd_nxt = send_from(near, near->snd_nxt, usable);
	}
	if ((near->snd_una != near->snd_nxt || has_more(near)) &&
		!timer_is_armed(&near->retransmit))
		arm(near, &near->retransmit, timeout_ns(near));
}

/* ---- timers ---- */

/* A closed window (RFC 9293 3.8.6.1): a byte too many, or one that is old. */
static void probe(struct near *near)
{
	struct segment segment = {.seq = near->snd_una - 1};

	if (near->probes_with_data && offset_of(near, near->snd_una) < near->written)
		send_from(near, near->snd_una, 1);
	else
		transmit(near, &segment);
}

static void fire_retransmit(struct timer *timer, int64_t now)
{
	struct near *near = container_of(timer, struct near, retransmit);

	(void)now;
	near->n_retries++;
	if (near->n_retries > (near->state < NEAR_OPEN ? SYN_RETRIES : RETRIES)) {
		end_with(near, RESULT_TIMEOUT);
		return;
	}
	if (near->state == NEAR_SYN_RECEIVED) {
		send_syn_ack(near);
		return;
	}
	if (near->state == NEAR_SYN_SENT) {
		send_syn(near);
		return;
	}
	if (near->snd_una == near->snd_nxt) {
		if (!has_more(near))
			return;
		if (!near->snd_wnd) {
			near->n_retries = near->n_retries > 5 ? 5 : near->n_retries;
			probe(near);
		}
	} else {
		near->world->n_timeouts++;
		near->cwnd = payload_max(near);
		near->is_recovering = true;
		near->recover = near->snd_max;
		if (near->goes_back)
			near->snd_nxt = near->snd_una;
		else if (near->snd_wnd)
			send_from(near, near->snd_una, MIN(near->cwnd, near->snd_wnd));
		else
			probe(near);
	}
	output(near);
	if (!timer_is_armed(&near->retransmit))
		arm(near, &near->retransmit, timeout_ns(near));
}

static void fire_delayed_ack(struct timer *timer, int64_t now)
{
	(void)now;
	send_ack(container_of(timer, struct near, delayed_ack));
}

static void fire_keepalive(struct timer *timer, int64_t now)
{
	struct near *near = container_of(timer, struct near, keepalive);
	struct segment segment = {.seq = near->snd_una - 1};

	if (near->state == NEAR_TIME_WAIT) {
		end_with(near, RESULT_GRACEFUL);
		return;
	}
	if (near->heard_ns + near->keepalive_ns > now) {
		timer_arm(&near->world->timers, timer, near->heard_ns + near->keepalive_ns);
		return;
	}
	if (++near->n_keepalives > KEEPALIVES) {
		end_with(near, RESULT_TIMEOUT);
		return;
	}
	transmit(near, &segment);
	arm(near, timer, KEEPALIVE_AGAIN);
}

/* ---- the program ---- */

static bool may_read(const struct near *near)
{
	return near->paused_until_ns <= now_ns(near->world) &&
		(!near->reads_when_sent || offset_of(near, near->snd_una) >= near->total);
}

static bool step_read(struct near *near)
{
	uint32_t unread = received(near) - near->n_read, edge = near->rcv_edge, n;

	if (!unread || !may_read(near))
		return false;
	n = 1 + (uint32_t)rng_below(&near->world->rng, unread);
	near->n_read += rng_chance(&near->world->rng, 5000) ? unread : n;
	/* Worth a word when it is a good part (RFC 9293 3.8.6.2.2). */
	if ((int32_t)(near->rcv_nxt + room(near) - edge) >= (int32_t)(near->rcvbuf / 2) &&
		!near->fin_seen)
		send_ack(near);
	return true;
}

static bool step_write(struct near *near)
{
	uint32_t held = near->written - MIN(offset_of(near, near->snd_una), near->written);
	uint32_t room_left = near->sndbuf > held ? near->sndbuf - held : 0;
	uint32_t left = near->total - near->written, n = MIN(left, room_left);

	if (near->fin_queued || (left && !n))
		return false;
	if (n)
		near->written += 1 + (uint32_t)rng_below(&near->world->rng, n);
	if (near->written == near->total && rng_chance(&near->world->rng, 5000))
		near->fin_queued = true;
	output(near);
	return true;
}

static void abort_now(struct near *near)
{
	send_reset(near);
	end_with(near, RESULT_ABORTED);
}

/* Nobody hears of a connection that never was. */
static void fire_abort(struct timer *timer, int64_t now)
{
	struct near *near = container_of(timer, struct near, abort);

	(void)now;
	if (near->state == NEAR_OPEN)
		abort_now(near);
	else if (near->state == NEAR_SYN_SENT)
		end_with(near, RESULT_ABORTED);
}

static void fire_program(struct timer *timer, int64_t now)
{
	struct near *near = container_of(timer, struct near, program);
	struct rng *rng = &near->world->rng;
	bool did;

	if (rng_chance(rng, 100) && !near->world->is_calm) {
		near->paused_until_ns = now + (int64_t)rng_scale(rng, NS_PER_MS, 60 * NS_PER_SEC);
		timer_arm(&near->world->timers, timer, near->paused_until_ns);
		return;
	}
	did = step_read(near);
	if (near->state == NEAR_OPEN)
		did |= step_write(near);
	if (did && near->state == NEAR_OPEN)
		kick(near);
}

bool near_is_over(const struct near *near)
{
	/* The client has never come. */
	if (near->state == NEAR_LISTEN)
		return near->far->fd < 0;
	return near->state == NEAR_CLOSED;
}

/* Both streams have ended: TIME_WAIT for who was first, the other one forgets. */
static void check_end(struct near *near)
{
	if (!near->fin_seen || !near->fin_acked || near->state != NEAR_OPEN)
		return;
	if (near->n_read != received(near)) {
		near->reads_when_sent = false;
		near->n_read = received(near);
	}
	if (near->result == RESULT_NONE) {
		near->result = RESULT_GRACEFUL;
		near->result_ns = now_ns(near->world);
		world_say(near->world, "near %u: both have ended", near->id);
	}
	if (near->fin_first) {
		near_stop(near);
		near->state = NEAR_CLOSED;
		return;
	}
	near->state = NEAR_TIME_WAIT;
	near_stop(near);
	arm(near, &near->keepalive, near->time_wait_ns);
}

/* ---- what comes ---- */

/* What the relay's SYN says. */
static void take_syn(struct near *near, const struct segment *segment)
{
	near->irs = segment->seq;
	near->rcv_nxt = near->rcv_edge = segment->seq + 1;
	near->snd_wnd = segment->window;
	near->wl1 = segment->seq;
	near->wl2 = segment->ack;
	MUST(near->world, segment->mss > 0);
	near->mss = MIN((uint32_t)segment->mss, near->mss);
	if (near->shift_option >= 0 && segment->shift >= 0) {
		near->snd_shift = (uint8_t)segment->shift;
		near->rcv_shift = (uint8_t)near->shift_option;
	}
	near->rcvbuf = MIN(near->rcvbuf, UINT32_C(65535) << near->rcv_shift);
	near->rcv_edge += MIN(near->rcvbuf, 65535);
	near->heard_ns = now_ns(near->world);
}

static void start(struct near *near)
{
	near->snd_una = near->snd_nxt;
	near->state = NEAR_OPEN;
	near->n_retries = 0;
	cancel(near, &near->retransmit);
	arm(near, &near->keepalive, near->keepalive_ns);
	world_say(near->world, "near %u: open, to far %u", near->id, near->far->id);
}

static void take_syn_ack(struct near *near, const struct segment *segment)
{
	struct far *far = near->world->fars;

	while (far && !(far->near == near && far->has_iss && far->iss == segment->seq))
		far = far->next;
	MUST(near->world, far);
	MUST(near->world, near->shift_option >= 0 || segment->shift < 0);
	near->far = far;
	take_syn(near, segment);
	start(near);
	send_ack(near);
	kick(near);
}

static void input_listen(struct near *near, const struct segment *segment)
{
	if (segment->flags & RST)
		return;
	if (segment->flags & ACK) {
		wire_refuse(near->slot, segment);
		return;
	}
	MUST(near->world, segment->flags == SYN && segment->shift >= 0);
	take_syn(near, segment);
	near->far->their_shift = near->shift_option >= 0 ? (uint8_t)segment->shift : 0;
	near->far->ack_max = near->far->edge_max = near->iss + 1;
	near->state = NEAR_SYN_RECEIVED;
	send_syn_ack(near);
}

static void input_syn_sent(struct near *near, const struct segment *segment)
{
	bool is_ours = segment->flags & ACK && segment->ack == near->iss + 1;

	if (segment->flags & ACK && !is_ours)
		wire_refuse(near->slot, segment);
	else if (segment->flags & RST && is_ours)
		end_with(near, RESULT_REFUSED);
	else if (segment->flags & SYN && is_ours)
		take_syn_ack(near, segment);
}

static void input_open(struct near *near, const struct segment *segment);

static void input_syn_received(struct near *near, const struct segment *segment)
{
	if (segment->flags & RST) {
		if (segment->seq == near->rcv_nxt)
			end_with(near, RESULT_RESET);
	} else if (segment->flags & SYN) {
		send_syn_ack(near);
	} else if (segment->ack != near->iss + 1) {
		wire_refuse(near->slot, segment);
	} else {
		start(near);
		kick(near);
		input_open(near, segment);
	}
}

static bool is_acceptable(const struct near *near, const struct segment *segment)
{
	uint32_t end = segment->seq + segment->len + !!(segment->flags & FIN);

	if (end == segment->seq)
		return !before(segment->seq, near->rcv_nxt) && !after(segment->seq, near->rcv_edge);
	return after(end, near->rcv_nxt) && before(segment->seq, near->rcv_edge);
}

static void take_new_ack(struct near *near, uint32_t ack)
{
	uint32_t acked = ack - near->snd_una;

	near->snd_una = ack;
	if (after(ack, near->snd_nxt))
		near->snd_nxt = ack;
	near->n_retries = 0;
	near->n_duplicates = 0;
	cancel(near, &near->retransmit);
	near->cwnd = MIN(near->cwnd + acked, near->cwnd_max);
	if (near->is_recovering && !before(ack, near->recover))
		near->is_recovering = false;
	if (near->is_recovering && !near->goes_back && near->snd_una != near->snd_nxt &&
		near->snd_wnd)
		send_from(near, near->snd_una, MIN(near->snd_wnd, payload_max(near)));
	if (near->fin_queued && ack == near->iss + 1 + near->total + 1)
		near->fin_acked = true;
	kick(near);
}

static void take_duplicate(struct near *near)
{
	if (++near->n_duplicates != 3 || near->is_recovering || !near->snd_wnd)
		return;
	near->is_recovering = true;
	near->recover = near->snd_max;
	send_from(near, near->snd_una, MIN(near->snd_wnd, payload_max(near)));
}

static void take_ack(struct near *near, const struct segment *segment)
{
	uint32_t window = segment->window << near->snd_shift;
	bool is_duplicate = segment->ack == near->snd_una && near->snd_una != near->snd_nxt &&
		!segment->len && window == near->snd_wnd && !(segment->flags & FIN);

	if (before(near->wl1, segment->seq) ||
		(near->wl1 == segment->seq && !before(segment->ack, near->wl2))) {
		if (!near->snd_wnd && window)
			near->n_retries = 0;
		near->snd_wnd = window;
		near->wl1 = segment->seq;
		near->wl2 = segment->ack;
	}
	if (after(segment->ack, near->snd_una))
		take_new_ack(near, segment->ack);
	else if (is_duplicate)
		take_duplicate(near);
	output(near);
}

static void keep_range(struct near *near, uint32_t start, uint32_t end)
{
	if (near->keeps_out_of_order && near->n_ranges < RANGES)
		near->ranges[near->n_ranges++] = (struct range){start, end};
}

/* What lies behind rcv_nxt now, of what was kept. */
static void join_ranges(struct near *near)
{
	for (size_t i = 0; i < near->n_ranges;) {
		struct range *range = &near->ranges[i];

		if (after(range->start, near->rcv_nxt)) {
			i++;
			continue;
		}
		if (after(range->end, near->rcv_nxt))
			near->rcv_nxt = range->end;
		*range = near->ranges[--near->n_ranges];
		i = 0;
	}
}

/* Returns whether all of it was as awaited. */
static bool take_data(struct near *near, const struct segment *segment)
{
	uint32_t start = segment->seq, end = start + segment->len;

	if (before(start, near->rcv_nxt))
		start = near->rcv_nxt;
	if (after(end, near->rcv_edge))
		end = near->rcv_edge;
	if (near->shrinks && after(end, near->rcv_nxt + room(near)))
		end = near->rcv_nxt + room(near);
	if (!after(end, start))
		return !segment->len;
	if (start != near->rcv_nxt) {
		keep_range(near, start, end);
		return false;
	}
	near->rcv_nxt = end;
	join_ranges(near);
	return !near->n_ranges;
}

static void take_fin(struct near *near, const struct segment *segment)
{
	uint32_t at = segment->seq + segment->len;

	if (segment->flags & FIN && (at == near->rcv_nxt || near->keeps_out_of_order)) {
		MUST(near->world, !near->has_fin_at || near->fin_at == at);
		near->has_fin_at = true;
		near->fin_at = at;
	}
	if (!near->has_fin_at || near->fin_seen || near->rcv_nxt != near->fin_at)
		return;
	/* It comes behind the last byte, and only when the host's peer has ended its stream. */
	MUST(near->world, near->far->eof_given && received(near) == near->far->in_total);
	near->rcv_nxt++;
	near->fin_seen = true;
	near->fin_first = !near->fin_acked;
	/* Not yet acknowledged, but sent: CLOSING is TIME_WAIT's way. */
	if (near->fin_queued && near->snd_max == near->iss + near->total + 2)
		near->fin_first = false;
}

static void acknowledge(struct near *near, const struct segment *segment, bool is_awaited)
{
	if (!segment->len && !(segment->flags & FIN))
		return;
	near->n_unacked += 1 + segment->len / (2 * MAX(near->rcvbuf / 8, 1));
	if (!is_awaited || near->fin_seen || near->n_unacked >= near->ack_every ||
		!near->delayed_ack_ns)
		send_ack(near);
	else if (!timer_is_armed(&near->delayed_ack))
		arm(near, &near->delayed_ack, near->delayed_ack_ns);
}

static void input_reset(struct near *near, const struct segment *segment)
{
	if (segment->seq == near->rcv_nxt)
		end_with(near, RESULT_RESET);
	else if (after(segment->seq, near->rcv_nxt) && before(segment->seq, near->rcv_edge))
		send_ack(near);
}

static void input_open(struct near *near, const struct segment *segment)
{
	uint32_t had = near->rcv_nxt;
	bool is_awaited;

	if (segment->flags & RST) {
		input_reset(near, segment);
		return;
	}
	if (segment->flags & SYN || !is_acceptable(near, segment)) {
		near->heard_ns = now_ns(near->world);
		near->n_keepalives = 0;
		if (segment->flags & SYN || segment->len || segment->flags & FIN ||
			before(segment->seq, near->rcv_nxt))
			send_ack(near);
		return;
	}
	if (!(segment->flags & ACK) || after(segment->ack, near->snd_max))
		return;
	near->heard_ns = now_ns(near->world);
	near->n_keepalives = 0;
	take_ack(near, segment);
	is_awaited = take_data(near, segment);
	take_fin(near, segment);
	if (near->closes_early && near->fin_queued && near->rcv_nxt != had && !near->fin_seen) {
		abort_now(near); /* nobody will ever read it (RFC 1122 4.2.2.13) */
		return;
	}
	acknowledge(near, segment, is_awaited);
	if (near->rcv_nxt != had)
		kick(near);
	check_end(near);
}

static void input_time_wait(struct near *near, const struct segment *segment)
{
	if (segment->flags & RST)
		return;
	if (segment->len || segment->flags & (FIN | SYN) || before(segment->seq, near->rcv_nxt))
		send_ack(near);
}

void near_input(struct near *near, const struct segment *segment)
{
	switch (near->state) {
	case NEAR_SYN_SENT:
		input_syn_sent(near, segment);
		break;
	case NEAR_LISTEN:
		input_listen(near, segment);
		break;
	case NEAR_SYN_RECEIVED:
		input_syn_received(near, segment);
		break;
	case NEAR_OPEN:
		input_open(near, segment);
		break;
	case NEAR_TIME_WAIT:
		input_time_wait(near, segment);
		break;
	case NEAR_CLOSED:
		wire_refuse(near->slot, segment);
		break;
	}
}

void near_unreachable(struct near *near)
{
	if (near->state == NEAR_SYN_SENT)
		end_with(near, RESULT_UNREACHABLE);
}

/* ---- the beginning ---- */

static void choose_kind(struct near *near)
{
	static const int sizes[] = {-1, 48, 88, 536, 1220, 1460, 1460, 8960, 65475};
	struct rng *rng = &near->world->rng;
	uint64_t total_max;

	near->mss_option = sizes[rng_below(rng, ARRAY_SIZE(sizes))];
	near->shift_option = (int)rng_below(rng, 16) - 1;
	near->mss = (uint32_t)near->mss_option;
	if (near->mss_option < 0)
		near->mss = near->slot->family == AF_INET ? 536 : 1220;
	near->segment_max = rng_chance(rng, 2000) ? (uint32_t)rng_scale(rng, 1, 1460) : UINT32_MAX;
	near->gso_max = rng_chance(rng, 7000) ? (uint32_t)rng_scale(rng, 1000, 65000) : 0;
	if (near->segment_max != UINT32_MAX)
		near->gso_max = 0;
	total_max = (uint64_t)MIN(near->mss, near->segment_max) * 700;
	near->total =
		rng_chance(rng, 1000) ? 0 : (uint32_t)rng_scale(rng, 1, MIN(total_max, 2000000));
	near->rcvbuf = (uint32_t)rng_scale(rng, rng_chance(rng, 500) ? 1 : 500, 4000000);
	near->sndbuf = (uint32_t)rng_scale(rng, 500 + near->total / 2000, 4000000);
	near->ack_every = 1 + (uint32_t)rng_below(rng, 3);
	near->cwnd_max =
		rng_chance(rng, 3000) ? (uint32_t)rng_scale(rng, 100, 100000) : UINT32_MAX / 4;
	near->cwnd = MIN(near->cwnd_max, 10 * payload_max(near));
	near->delayed_ack_ns = rng_chance(rng, 7000) ? 40 * NS_PER_MS : 0;
	near->pace_ns = (int64_t)rng_scale(rng, 1000, 300 * NS_PER_MS);
	if (!near->world->is_bulky)
		return;
	near->mss_option = 1460;
	near->mss = 1460;
	near->shift_option = 7;
	near->rcvbuf = 4000000;
	near->pace_ns = 1000;
}

/* What goes to it fills the wire. */
static void be_hungry(struct near *near)
{
	near->mss_option = 1460;
	near->mss = 1460;
	near->shift_option = 7;
	near->rcvbuf = 1000000;
	near->delayed_ack_ns = 40 * NS_PER_MS;
}

static void choose_habits(struct near *near)
{
	struct rng *rng = &near->world->rng;

	near->keeps_out_of_order = rng_chance(rng, 6000);
	near->goes_back = rng_chance(rng, 5000);
	near->probes_with_data = rng_chance(rng, 5000);
	near->has_nagle = rng_chance(rng, 5000);
	near->reads_when_sent = near->world->near_waits && rng_chance(rng, 5000);
	near->shrinks = rng_chance(rng, 1000);
	while (near->shrinks && near->shift_option > 0 && near->rcvbuf >> near->shift_option < 4)
		near->shift_option--;
	near->closes_early = rng_chance(rng, 500);
	near->time_wait_ns = (int64_t)rng_scale(rng, NS_PER_SEC, 60 * NS_PER_SEC);
	near->keepalive_ns = (int64_t)rng_scale(rng, 5 * NS_PER_SEC, 75 * NS_PER_SEC);
	if (rng_chance(rng, 700))
		arm(near, &near->abort, (int64_t)rng_scale(rng, NS_PER_MS, 120 * NS_PER_SEC));
}

/* Not among the numbers of the last one: nobody could tell them from each other. */
static uint32_t choose_iss(struct near *near, const struct near *last)
{
	struct rng *rng = &near->world->rng;
	uint32_t iss = (uint32_t)rng_next(rng);

	if (rng_chance(rng, 5000))
		iss = UINT32_MAX - (uint32_t)rng_scale(rng, 1, 100000);
	if (last && (rng_chance(rng, 7000) || iss - last->iss + (1u << 24) < 1u << 25))
		iss = last->snd_max + 100000 + (uint32_t)rng_below(rng, 100000);
	return iss;
}

static struct near *near_new(struct slot *slot)
{
	struct near *near = calloc(1, sizeof(*near)), *last = slot->near;
	struct world *world = slot->world;

	MUST(world, near);
	near->world = world;
	near->slot = slot;
	near->id = ++world->n_ids;
	near->next = world->nears;
	world->nears = near;
	near->retransmit.fire = fire_retransmit;
	near->delayed_ack.fire = fire_delayed_ack;
	near->keepalive.fire = fire_keepalive;
	near->program.fire = fire_program;
	near->abort.fire = fire_abort;
	choose_kind(near);
	if (world->is_hungry)
		be_hungry(near);
	choose_habits(near);
	near->iss = choose_iss(near, last);
	near->snd_una = near->delivered_end = near->iss;
	near->snd_nxt = near->snd_max = near->iss + 1;
	world_say(world, "near %u: port %u, iss %u, %u bytes, mss %d, window %u << %d", near->id,
		slot->near_port, near->iss, near->total, near->mss_option, near->rcvbuf,
		near->shift_option);
	slot->near = near;
	return near;
}

struct near *near_open(struct slot *slot)
{
	struct near *near = near_new(slot);

	send_syn(near);
	return near;
}

struct near *near_listen(struct slot *slot)
{
	struct near *near = near_new(slot);

	near->state = NEAR_LISTEN;
	if (rng_chance(&near->world->rng, 500))
		end_with(near, RESULT_REFUSED);
	return near;
}
