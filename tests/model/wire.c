/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames, and the wire that they go over: made and read byte by byte, as the RFCs draw them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "tests/model/world.h"

#define VNET 12
#define ETH  14

static const uint8_t near_mac[6] = {0x02, 0, 0, 0, 0, 0x64};
static const uint8_t our_mac[6] = {0x52, 0x55, 10, 0, 2, 2};
static const uint8_t our_mac6[6] = {0x52, 0x56, 0, 0, 0, 2};

static void put16(uint8_t *at, uint32_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

static void put32(uint8_t *at, uint32_t v)
{
	put16(at, v >> 16);
	put16(at + 2, v);
}

static uint32_t get16(const uint8_t *at)
{
	return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at)
{
	return get16(at) << 16 | get16(at + 2);
}

/* RFC 1071. */
static uint32_t sum(uint32_t before, const uint8_t *data, size_t len)
{
	uint64_t total = before;

	for (size_t i = 0; i + 1 < len; i += 2)
		total += get16(data + i);
	if (len & 1)
		total += (uint32_t)data[len - 1] << 8;
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (uint32_t)total;
}

static uint32_t pseudo_sum(const uint8_t *ip, uint32_t protocol, uint32_t len)
{
	bool is4 = ip[0] >> 4 == 4;
	uint32_t addresses = is4 ? sum(0, ip + 12, 8) : sum(0, ip + 8, 32);
	uint8_t tail[8] = {0};

	put32(tail, len);
	put16(tail + 6, protocol);
	return sum(addresses, tail, sizeof(tail));
}

/* ---- from the container ---- */

static size_t put_ip(uint8_t *ip, const struct slot *slot, size_t tcp_len)
{
	if (slot->family == AF_INET6) {
		memset(ip, 0, 40);
		ip[0] = 0x60;
		put16(ip + 4, (uint32_t)tcp_len);
		ip[6] = 6;
		ip[7] = 64;
		memcpy(ip + 8, slot->near_addr, 16);
		memcpy(ip + 24, slot->far_addr, 16);
		return 40;
	}
	memset(ip, 0, 20);
	ip[0] = 0x45;
	put16(ip + 2, (uint32_t)(20 + tcp_len));
	ip[6] = 0x40;
	ip[8] = 64;
	ip[9] = 6;
	memcpy(ip + 12, slot->near_addr, 4);
	memcpy(ip + 16, slot->far_addr, 4);
	put16(ip + 10, ~sum(0, ip, 20) & 0xffff);
	return 20;
}

static size_t put_options(uint8_t *at, const struct segment *segment)
{
	size_t n = 0;

	if (segment->mss >= 0) {
		at[0] = 2;
		at[1] = 4;
		put16(at + 2, (uint32_t)segment->mss);
		n = 4;
	}
	if (segment->shift >= 0) {
		memcpy(at + n, (uint8_t[]){1, 3, 3, (uint8_t)segment->shift}, 4);
		n += 4;
	}
	return n;
}

static size_t put_tcp(uint8_t *tcp, const struct slot *slot, const struct segment *segment)
{
	size_t header_len = 20 + put_options(tcp + 20, segment);

	put16(tcp, slot->near_port);
	put16(tcp + 2, slot->far_port);
	put32(tcp + 4, segment->seq);
	put32(tcp + 8, segment->flags & ACK ? segment->ack : 0);
	tcp[12] = (uint8_t)(header_len / 4 << 4);
	tcp[13] = segment->flags;
	put16(tcp + 14, segment->window);
	put32(tcp + 16, 0);
	if (segment->len)
		memcpy(tcp + header_len, segment->data, segment->len);
	return header_len;
}

/* Left to the other end whenever that is allowed, or needed. */
static void put_checksum(struct world *world, uint8_t *b, size_t ip_len, size_t header_len,
	const struct segment *segment)
{
	uint8_t *ip = b + VNET + ETH, *tcp = ip + ip_len;
	uint32_t len = (uint32_t)header_len + segment->len;

	if (!segment->gso_size &&
		!(world->link.offloads & LINK_CSUM && rng_chance(&world->rng, 9000))) {
		put16(tcp + 16, ~sum(pseudo_sum(ip, 6, len), tcp, len) & 0xffff);
		return;
	}
	put16(tcp + 16, pseudo_sum(ip, 6, len));
	b[0] = 1;
	b[6] = (uint8_t)(ETH + ip_len);
	b[8] = 16;
	if (!segment->gso_size)
		return;
	b[1] = ip_len == 20 ? 1 : 4;
	b[2] = (uint8_t)(ETH + ip_len + header_len);
	b[4] = (uint8_t)segment->gso_size;
	b[5] = (uint8_t)(segment->gso_size >> 8);
}

static struct frame *frame_new(struct world *world, size_t size)
{
	struct frame *frame = malloc(sizeof(*frame) + size);

	MUST(world, frame);
	memset(frame, 0, sizeof(*frame) + VNET);
	frame->world = world;
	list_append(&world->frames, &frame->all);
	return frame;
}

static void frame_free(struct frame *frame)
{
	timer_cancel(&frame->world->timers, &frame->timer);
	list_remove(&frame->queue);
	list_remove(&frame->all);
	free(frame);
}

static struct frame *frame_of(struct slot *slot, const struct segment *segment)
{
	struct frame *frame = frame_new(slot->world, VNET + ETH + 40 + 28 + segment->len);
	uint8_t *ip = frame->b + VNET + ETH, *tcp;
	size_t header_len = 20 + (segment->mss >= 0 ? 4 : 0) + (segment->shift >= 0 ? 4 : 0);
	size_t ip_len = put_ip(ip, slot, header_len + segment->len);

	tcp = ip + ip_len;
	put_tcp(tcp, slot, segment);
	memcpy(frame->b + VNET, our_mac, 6);
	memcpy(frame->b + VNET + 6, near_mac, 6);
	put16(frame->b + VNET + 12, ip_len == 20 ? 0x0800 : 0x86dd);
	put_checksum(slot->world, frame->b, ip_len, header_len, segment);
	frame->len = VNET + ETH + ip_len + header_len + segment->len;
	frame->end =
		segment->seq + segment->len + !!(segment->flags & SYN) + !!(segment->flags & FIN);
	return frame;
}

/* ---- what the relay sends ---- */

/* Of the slot's connection, but for the far port; NULL: no such slot. */
/* With a header of its own for the length of what is beyond 64 KiB. */
static size_t ip_header_len(const uint8_t *ip)
{
	if (ip[0] >> 4 == 4)
		return 20;
	return ip[6] ? 40 : 48;
}

static bool is_tcp(const uint8_t *ip)
{
	if (ip[0] >> 4 == 4)
		return ip[9] == 6;
	return ip[6] == 6 || !ip[6];
}

static struct slot *parse(
	struct world *world, const uint8_t *frame, size_t len, struct segment *ret)
{
	const uint8_t *ip = frame + ETH, *tcp;
	bool is4 = get16(frame + 12) == 0x0800;
	size_t ip_len = ip_header_len(ip), header_len;

	MUST(world, len >= ETH + ip_len + 20);
	tcp = ip + ip_len;
	header_len = (size_t)(tcp[12] >> 4) * 4;
	MUST(world, len >= ETH + ip_len + header_len);
	*ret = (struct segment){
		.family = is4 ? AF_INET : AF_INET6,
		.far_port = (uint16_t)get16(tcp),
		.near_port = (uint16_t)get16(tcp + 2),
		.seq = get32(tcp + 4),
		.ack = get32(tcp + 8),
		.flags = tcp[13],
		.window = get16(tcp + 14),
		.mss = -1,
		.shift = -1,
		.data = tcp + header_len,
		.len = (uint32_t)(len - ETH - ip_len - header_len),
	};
	for (size_t at = 20; at < header_len; at += tcp[at] < 2 ? 1 : tcp[at + 1]) {
		if (tcp[at] == 2)
			ret->mss = (int)get16(tcp + at + 2);
		if (tcp[at] == 3)
			ret->shift = tcp[at + 2];
	}
	for (unsigned int i = 0; i < world->n_slots; i++) {
		struct slot *slot = &world->slots[i];

		if (slot->family == ret->family && slot->near_port == ret->near_port)
			return slot;
	}
	return NULL;
}

/* `rest` is the header's length and what follows it: beyond 64 KiB it says 0, and IPv6 tells in an
 * option of its own. */
static void check_length(struct world *world, const uint8_t *ip, size_t rest)
{
	bool is4 = ip[0] >> 4 == 4;

	if (rest <= (is4 ? 65535 : 65535 + 40)) {
		MUST(world, is4 ? get16(ip + 2) == rest : get16(ip + 4) == rest - 40);
		return;
	}
	MUST(world, world->link.offloads & LINK_BIG_TCP && !get16(ip + (is4 ? 2 : 4)));
	MUST(world,
		is4 ||
			(ip[6] == 0 && ip[40] == 6 && !ip[41] && ip[42] == 0xc2 && ip[43] == 4 &&
				get32(ip + 44) == rest - 40));
}

/* Headers that a kernel would take. */
static void check_headers(struct world *world, const uint8_t *b, size_t len)
{
	const uint8_t *ip = b + VNET + ETH, *tcp;
	bool is4 = ip[0] >> 4 == 4;
	size_t ip_len = ip_header_len(ip), rest = len - VNET - ETH;
	uint32_t offload = is4 ? LINK_TSO4 : LINK_TSO6, tcp_len = (uint32_t)(rest - ip_len);

	MUST(world, !memcmp(b + VNET, near_mac, 6));
	MUST(world, get16(b + VNET + 12) == (is4 ? 0x0800u : 0x86ddu));
	MUST(world, !is4 || (ip[0] == 0x45 && sum(0, ip, 20) == 0xffff));
	check_length(world, ip, rest);
	tcp = ip + ip_len;
	if (!is_tcp(ip))
		return;
	MUST(world,
		!memcmp(b + VNET + 6, our_mac, 6) || (!is4 && !memcmp(b + VNET + 6, our_mac6, 6)));
	if (!(b[0] & 1)) {
		MUST(world, sum(pseudo_sum(ip, 6, tcp_len), tcp, tcp_len) == 0xffff);
		MUST(world, !b[1]);
		return;
	}
	MUST(world, world->link.offloads & LINK_CSUM);
	MUST(world, get16(tcp + 16) == pseudo_sum(ip, 6, tcp_len));
	MUST(world, b[6] == ETH + ip_len && !b[7] && b[8] == 16 && !b[9]);
	if (b[1]) {
		MUST(world, world->link.offloads & offload && b[1] == (is4 ? 1 : 4));
		MUST(world, b[2] == ETH + ip_len + (tcp[12] >> 4) * 4u && (b[4] || b[5]));
	}
}

static uint32_t mss_of(const struct near *near)
{
	if (near->mss_option >= 0)
		return (uint32_t)near->mss_option;
	return near->slot->family == AF_INET ? 536 : 1220;
}

/* Nothing but what was received from the host, in its place, and within the window. */
static void check_payload(struct world *world, const struct far *far, const struct segment *segment)
{
	const struct near *near = far->near;
	uint32_t offset = segment->seq - far->iss - 1, end = offset + segment->len;
	uint32_t end_seq = segment->seq + segment->len + (segment->flags & FIN);

	MUST(world,
		segment->gso_size ? segment->gso_size == mss_of(near)
				  : segment->len <= mss_of(near));
	/* An acknowledgement stands behind a FIN that was sent. */
	MUST(world, (int32_t)end <= (int32_t)(far->in_taken + (!segment->len && far->eof_given)));
	if (segment->len)
		MUST(world, stream_is(far->id, offset, segment->data, segment->len));
	if (segment->flags & FIN)
		MUST(world, far->eof_given && end == far->in_total);
	if (segment->len || segment->flags & FIN)
		MUST(world,
			near->has_delivered_edge && (int32_t)(near->delivered_edge - end_seq) >= 0);
}

static void check_acknowledgement(
	struct world *world, struct far *far, const struct segment *segment)
{
	uint32_t shift = segment->flags & SYN ? 0 : far->their_shift;
	uint32_t edge = segment->ack + (segment->window << shift);

	MUST(world, (int32_t)(far->near->delivered_end - segment->ack) >= 0);
	MUST(world, (int32_t)(segment->ack - far->ack_max) >= 0);
	/* A SYN has no room for a scaled window. */
	MUST(world, segment->flags & SYN || (int32_t)(edge - far->edge_max) >= 0);
	far->ack_max = segment->ack;
	if ((int32_t)(edge - far->edge_max) > 0)
		far->edge_max = edge;
}

static void check_segment(struct world *world, struct slot *slot, const struct segment *segment)
{
	struct far *far = slot->far;

	/* Of the last client, who was shown with another port, only a late reset can come. */
	MUST(world,
		slot->far_port == segment->far_port || (slot->is_arrival && segment->flags & RST));
	if (segment->flags & RST) {
		if (far && slot->far_port == segment->far_port)
			far->has_reset_near = true;
		return;
	}
	MUST(world, far && (segment->flags & ACK || (slot->is_arrival && segment->flags == SYN)));
	if (segment->flags & SYN) {
		MUST(world, slot->is_arrival || segment->ack == far->near->iss + 1);
		MUST(world, !segment->len && slot->is_arrival == !(segment->flags & ACK));
		MUST(world, far->state == FAR_UP || far->was_up);
		MUST(world, !far->has_iss || far->iss == segment->seq);
		if (!far->has_iss && !slot->is_arrival) {
			far->ack_max = segment->ack;
			far->edge_max = segment->ack;
		}
		far->has_iss = true;
		far->iss = segment->seq;
		if (segment->shift >= 0 && !slot->is_arrival)
			far->their_shift = (uint8_t)segment->shift;
	}
	MUST(world, far->has_iss);
	if (segment->flags == SYN)
		return;
	check_acknowledgement(world, far, segment);
	if (!(segment->flags & SYN))
		check_payload(world, far, segment);
}

/* ---- the wire ---- */

static void deliver_near(struct frame *frame)
{
	struct world *world = frame->world;
	const uint8_t *ip = frame->b + VNET + ETH;
	bool is4 = ip[0] >> 4 == 4;
	struct segment segment;
	struct slot *slot;

	if (!is_tcp(ip)) {
		/* An ICMP error about a SYN of ours: 8 bytes, and our packet. */
		const uint8_t *inner = ip + (is4 ? 20 : 40) + 8;
		const uint8_t *tcp = inner + (is4 ? 20 : 40);

		for (unsigned int i = 0; i < world->n_slots; i++)
			if (world->slots[i].near && world->slots[i].near_port == get16(tcp) &&
				world->slots[i].far_port == get16(tcp + 2) &&
				world->slots[i].near->iss == get32(tcp + 4))
				near_unreachable(world->slots[i].near);
		return;
	}
	slot = parse(world, frame->b + VNET, frame->len - VNET, &segment);
	MUST(world, slot && slot->near);
	if (segment.far_port != slot->far_port)
		return;
	near_input(slot->near, &segment);
}

/* The queue of the link loses what comes when it is full. */
static void deliver_relay(struct frame *frame)
{
	struct world *world = frame->world;

	if (world->link_is_gone || (world->queue_len && world->n_queued >= world->queue_len)) {
		frame_free(frame);
		return;
	}
	list_append(&world->queue, &frame->queue);
	world->n_queued++;
}

static void fire_frame(struct timer *timer, int64_t now)
{
	struct frame *frame = container_of(timer, struct frame, timer);

	(void)now;
	if (!frame->to_near) {
		deliver_relay(frame);
		return;
	}
	deliver_near(frame);
	frame_free(frame);
}

static void put_on_wire(struct wire *wire, struct frame *frame)
{
	struct world *world = frame->world;
	struct rng *rng = &world->rng;
	int64_t due_ns = now_ns(world) + wire->delay_ns;

	if (rng_chance(rng, wire->loss)) {
		frame_free(frame);
		return;
	}
	if (wire->jitter_ns && rng_chance(rng, wire->reordering)) {
		due_ns += (int64_t)rng_below(rng, (uint64_t)wire->jitter_ns);
	} else {
		due_ns = MAX(due_ns, wire->last_due_ns + 1);
		wire->last_due_ns = due_ns;
	}
	frame->timer.fire = fire_frame;
	timer_arm(&world->timers, &frame->timer, due_ns);
}

static void put_copies(struct wire *wire, struct frame *frame)
{
	struct world *world = frame->world;
	struct frame *copy;

	if (rng_chance(&world->rng, wire->doubling)) {
		copy = frame_new(world, frame->len);
		copy->from = frame->from;
		copy->end = frame->end;
		copy->edge = frame->edge;
		copy->to_near = frame->to_near;
		copy->len = frame->len;
		memcpy(copy->b, frame->b, frame->len);
		put_on_wire(wire, copy);
	}
	put_on_wire(wire, frame);
}

void wire_send(struct near *near, const struct segment *segment)
{
	struct frame *frame = frame_of(near->slot, segment);

	world_say(near->world, "near %u > %s%s%s%s seq %u ack %u len %u win %u", near->id,
		segment->flags & SYN ? "S" : "", segment->flags & FIN ? "F" : "",
		segment->flags & RST ? "R" : "", segment->flags & ACK ? "." : "",
		segment->seq - near->iss, segment->ack - near->irs, segment->len,
		segment->window << (segment->flags & SYN ? 0 : near->rcv_shift));
	frame->from = near;
	frame->edge = segment->flags & ACK
		? segment->ack + (segment->window << (segment->flags & SYN ? 0 : near->rcv_shift))
		: 0;
	put_copies(&near->world->up, frame);
}

void wire_refuse(struct slot *slot, const struct segment *segment)
{
	struct segment reset = {.flags = RST, .mss = -1, .shift = -1};

	if (segment->flags & RST)
		return;
	if (segment->flags & ACK) {
		reset.seq = segment->ack;
	} else {
		reset.flags |= ACK;
		reset.ack = segment->seq + segment->len + !!(segment->flags & (SYN | FIN));
	}
	world_say(slot->world, "port %u > R seq %u", slot->near_port, reset.seq);
	put_copies(&slot->world->up, frame_of(slot, &reset));
}

/* ---- the link ---- */

static ssize_t link_recv(struct link *link, uint8_t *buf)
{
	struct world *world = container_of(link, struct world, link);
	struct list *node = list_take(&world->queue);
	struct frame *frame;
	struct near *near;
	size_t len;

	if (!node)
		return -EAGAIN;
	frame = container_of(node, struct frame, queue);
	world->n_queued--;
	near = frame->from;
	len = frame->len;
	memcpy(buf, frame->b, len);
	world->dialler = near;
	if (near) {
		bool has_ack =
			frame->b[VNET + ETH + (near->slot->family == AF_INET ? 20 : 40) + 13] & ACK;

		if ((int32_t)(frame->end - near->delivered_end) > 0)
			near->delivered_end = frame->end;
		if (has_ack &&
			(!near->has_delivered_edge ||
				(int32_t)(frame->edge - near->delivered_edge) > 0)) {
			near->delivered_edge = frame->edge;
			near->has_delivered_edge = true;
		}
	}
	frame_free(frame);
	return (ssize_t)(len - VNET);
}

static int link_send(struct link *link, const struct iovec *iov, int n_iov)
{
	struct world *world = container_of(link, struct world, link);
	struct segment segment;
	struct frame *frame;
	struct slot *slot;
	size_t len = iov_len(iov, n_iov);
	bool is_big = len > VNET + ETH + 65535 + 40;

	MUST(world, !world->link_is_gone);
	MUST(world, len <= VNET + ETH + 48 + 20 + LINK_BIG_PAYLOAD);
	frame = frame_new(world, len);
	for (int i = 0; i < n_iov; i++) {
		memcpy(frame->b + frame->len, iov[i].iov_base, iov[i].iov_len);
		frame->len += iov[i].iov_len;
	}
	frame->to_near = true;
	check_headers(world, frame->b, len);
	if (is_tcp(frame->b + VNET + ETH)) {
		slot = parse(world, frame->b + VNET, len - VNET, &segment);
		MUST(world, slot);
		segment.gso_size = frame->b[1] ? frame->b[4] | (uint32_t)frame->b[5] << 8 : 0;
		world_say(world, "relay %u > %s%s%s%s seq %u ack %u len %u win %u", slot->near_port,
			segment.flags & SYN ? "S" : "", segment.flags & FIN ? "F" : "",
			segment.flags & RST ? "R" : "", segment.flags & ACK ? "." : "",
			segment.seq - (slot->far ? slot->far->iss : 0),
			segment.ack - (slot->far ? slot->far->near->iss : 0), segment.len,
			segment.window << (slot->far ? slot->far->their_shift : 0));
		check_segment(world, slot, &segment);
	}
	world->n_effects++;
	if (now_ns(world) >= world->link_down_ns && now_ns(world) < world->link_up_ns) {
		frame_free(frame);
		return -EIO;
	}
	if (rng_chance(&world->rng, world->send_failure) || (is_big && world->is_narrow)) {
		frame_free(frame);
		return -EAGAIN;
	}
	if (is_big && world->eats_big) {
		frame_free(frame);
		return 0;
	}
	put_copies(&world->down, frame);
	return 0;
}

static void link_close(struct link *link)
{
	struct world *world = container_of(link, struct world, link);

	world->link_is_gone = true;
	for (struct list *node = world->frames.next, *next; node != &world->frames; node = next) {
		next = node->next;
		frame_free(container_of(node, struct frame, all));
	}
	world->n_queued = 0;
}

const struct link_ops world_link_ops = {
	.recv = link_recv,
	.send = link_send,
	.close = link_close,
};
