/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of a script: those of the container are made here, and those to it are taken apart and
 * checked for all that must be right in each of them.
 */
#include "wire/checksum.h"
#include "wire/icmp_about.h"
#include "wire/ip4.h"
#include "wire/ip6.h"
#include "world.h"

static const struct eth_addr near_mac = {{0x02, 0, 0, 0, 0, 1}};
static const struct eth_addr our_mac4 = {{0x52, 0x55, 10, 0, 2, 2}};
static const struct eth_addr our_mac6 = {{0x52, 0x56, 0, 0, 0, 2}};

/* Of those who are on the link. */
#define TTL 64
/* The kernel's segments, where the link cuts them. */
#define SEGMENT_LEN 1460

/* Whom the container has dialled it had at an address that the script chose. */
static const struct eth_addr *our_mac(const struct conversation *c)
{
	return c->is_arrival && c->near_addr.family == AF_INET6 ? &our_mac6 : &our_mac4;
}

static uint64_t pseudo_sum(const struct ip_addr *src, const struct ip_addr *dst, size_t len)
{
	struct ip6_addr src6, dst6;

	if (src->family == AF_INET)
		return checksum_pseudo4(ip4_addr_be32(ip_addr_v4(src)),
			ip4_addr_be32(ip_addr_v4(dst)), IPPROTO_TCP, (uint32_t)len);
	memcpy(&src6, &src->in6, sizeof(src6));
	memcpy(&dst6, &dst->in6, sizeof(dst6));
	return checksum_pseudo6(&src6, &dst6, IPPROTO_TCP, (uint32_t)len);
}

/* ---- from the container ---- */

static size_t put_ip(
	uint8_t *at, const struct conversation *c, uint8_t protocol, size_t len, uint8_t ttl)
{
	struct ip4_header ip4 = {
		.version_ihl = 0x45,
		.total_length = be16_of((uint16_t)(IP4_HEADER_MIN + len)),
		.ttl = ttl,
		.protocol = protocol,
	};
	struct ip6_header ip6 = {
		.version_class_flow = be32_of(6U << 28),
		.payload_length = be16_of((uint16_t)len),
		.next_header = protocol,
		.hop_limit = ttl,
	};

	if (c->near_addr.family == AF_INET6) {
		memcpy(&ip6.src, &c->near_addr.in6, sizeof(ip6.src));
		memcpy(&ip6.dst, &c->far_addr.in6, sizeof(ip6.dst));
		memcpy(at, &ip6, sizeof(ip6));
		return sizeof(ip6);
	}
	ip4.src = ip4_addr_be32(ip_addr_v4(&c->near_addr));
	ip4.dst = ip4_addr_be32(ip_addr_v4(&c->far_addr));
	ip4.checksum = checksum_finish(checksum_add(0, &ip4, sizeof(ip4)));
	memcpy(at, &ip4, sizeof(ip4));
	return sizeof(ip4);
}

static size_t put_options(uint8_t *at, const struct conversation *c, const struct near_frame *frame)
{
	size_t len = 0;

	if (frame->mss) {
		memcpy(at, (uint8_t[]){TCP_OPTION_MSS, 4, frame->mss >> 8, frame->mss & 0xff}, 4);
		len = 4;
	}
	if (frame->has_window_scale) {
		memcpy(at + len,
			(uint8_t[]){TCP_OPTION_NOP, TCP_OPTION_WINDOW_SCALE, 3, c->near_shift}, 4);
		len += 4;
	}
	if (frame->options_len)
		memcpy(at + len, frame->options, frame->options_len);
	return len + frame->options_len;
}

static uint16_t window_field(
	struct world *world, const struct conversation *c, const struct near_frame *frame)
{
	uint32_t unit = 1;

	if (frame->flags & TCP_SYN)
		return (uint16_t)MIN(frame->window, UINT16_MAX);
	if (c->near_shift != NO_SHIFT && c->our_shift != NO_SHIFT)
		unit = UINT32_C(1) << c->near_shift;
	if (frame->window % unit || frame->window / unit > UINT16_MAX)
		world_fail(
			world, "a window of %u cannot be said in units of %u", frame->window, unit);
	return (uint16_t)(frame->window / unit);
}

static void put_data(uint8_t *at, const struct conversation *c, const struct near_frame *frame)
{
	uint64_t offset = frame->seq + !!(frame->flags & TCP_SYN) - 1;

	for (uint32_t i = 0; i < frame->len; i++)
		at[i] = stream_byte(c, true, (uint32_t)(offset + i));
}

/* As Linux leaves it on such a link: the checksum to be completed, large segments uncut. */
static void offload(struct world *world, struct vnet_header *vnet, const struct conversation *c,
	const struct near_frame *frame, size_t tcp_offset)
{
	bool is4 = c->near_addr.family == AF_INET;

	vnet->flags = VNET_NEEDS_CSUM;
	vnet->csum_start = le16_of((uint16_t)tcp_offset);
	vnet->csum_offset = le16_of(offsetof(struct tcp_header, checksum));
	if (frame->len <= SEGMENT_LEN || !(world->link.offloads & (is4 ? LINK_TSO4 : LINK_TSO6)))
		return;
	vnet->gso_type = is4 ? VNET_GSO_TCP4 : VNET_GSO_TCP6;
	vnet->gso_size = le16_of(SEGMENT_LEN);
}

/* Into world->buf; returns the length without the virtio-net header. */
size_t frame_build(
	struct world *world, const struct conversation *c, const struct near_frame *frame)
{
	struct vnet_header *vnet = (struct vnet_header *)world->buf;
	struct eth_header *eth = (struct eth_header *)(world->buf + VNET_HEADER_LEN);
	uint8_t options[60], *ip = (uint8_t *)(eth + 1);
	size_t options_len = put_options(options, c, frame);
	size_t tcp_len = TCP_HEADER_MIN + options_len + frame->len;
	size_t ip_len = put_ip(ip, c, IPPROTO_TCP, tcp_len, frame->ttl ? frame->ttl : TTL);
	struct tcp_header *tcp = (struct tcp_header *)(ip + ip_len);
	uint64_t sum = pseudo_sum(&c->near_addr, &c->far_addr, tcp_len);

	if (ip_len + tcp_len > IP4_LEN_MAX)
		world_fail(world, "a segment that no packet holds");
	*vnet = (struct vnet_header){0};
	*eth = (struct eth_header){
		.dst = frame->to ? *frame->to : *our_mac(c),
		.src = near_mac,
		.type = be16_of(c->near_addr.family == AF_INET ? ETH_TYPE_IP4 : ETH_TYPE_IP6),
	};
	*tcp = (struct tcp_header){
		.src_port = be16_of(c->near_port),
		.dst_port = be16_of(c->far_port),
		.seq = be32_of(c->near_isn + frame->seq),
		.ack = be32_of(frame->flags & TCP_ACK ? c->our_isn + frame->ack : 0),
		.offset = (uint8_t)((TCP_HEADER_MIN + options_len) / 4 << 4),
		.flags = frame->flags,
		.window = be16_of(window_field(world, c, frame)),
		.urgent = be16_of(frame->urgent),
	};
	memcpy(tcp + 1, options, options_len);
	put_data((uint8_t *)(tcp + 1) + options_len, c, frame);
	if (world->link.offloads & LINK_CSUM && !frame->has_bad_checksum)
		offload(world, vnet, c, frame, ETH_HEADER_LEN + ip_len);
	else
		tcp->checksum = checksum_finish(checksum_add(sum, tcp, tcp_len));
	if (frame->has_bad_checksum)
		tcp->checksum.b[0] ^= 1;
	return ETH_HEADER_LEN + ip_len + tcp_len;
}

/* Likewise. Its checksum is nobody's business here. */
size_t frame_build_icmp(
	struct world *world, const struct conversation *c, uint8_t type, uint8_t code, uint32_t seq)
{
	bool is4 = c->near_addr.family == AF_INET;
	struct eth_header *eth = (struct eth_header *)(world->buf + VNET_HEADER_LEN);
	const struct icmp_header icmp = {.type = type, .code = code};
	const be16 ports[] = {be16_of(c->far_port), be16_of(c->near_port)};
	const be32 number = be32_of(c->our_isn + seq);
	struct icmp_about about = {
		.src = c->far_addr,
		.dst = c->near_addr,
		.protocol = IPPROTO_TCP,
		.dont_fragment = true,
		.len = TCP_HEADER_MIN,
	};
	uint8_t message[ICMP_ABOUT_MAX];
	size_t len, ip_len;

	memcpy(about.header, ports, sizeof(ports));
	memcpy(about.header + sizeof(ports), &number, sizeof(number));
	len = icmp_about_build(message, &about, &icmp);
	*eth = (struct eth_header){
		.dst = *our_mac(c),
		.src = near_mac,
		.type = be16_of(is4 ? ETH_TYPE_IP4 : ETH_TYPE_IP6),
	};
	ip_len = put_ip((uint8_t *)(eth + 1), c, icmp_protocol(c->near_addr.family), len, TTL);
	memcpy((uint8_t *)(eth + 1) + ip_len, message, len);
	return ETH_HEADER_LEN + ip_len + len;
}

/* ---- to the container ---- */

static struct conversation *find(struct world *world, const struct ip_addr *near,
	uint16_t near_port, const struct ip_addr *far, uint16_t far_port)
{
	for (int i = 0; i < world->n_conversations; i++) {
		struct conversation *c = &world->conversations[i];

		if (c->near_port == near_port && c->far_port == far_port &&
			!memcmp(&c->near_addr.in6, &near->in6, sizeof(near->in6)) &&
			!memcmp(&c->far_addr.in6, &far->in6, sizeof(far->in6)))
			return c;
	}
	return NULL;
}

static const char *check_offloads(const struct world *world, const struct vnet_header *vnet,
	const struct packet *packet, const struct tcp_header *tcp)
{
	bool is4 = packet->ethertype == ETH_TYPE_IP4;
	uint64_t sum = pseudo_sum(&packet->src, &packet->dst, packet->transport_len);
	uint16_t partial = (uint16_t)~be16_get(checksum_finish(sum));

	if (!(world->link.offloads & LINK_CSUM)) {
		if (vnet->flags || vnet->gso_type)
			return "offloads on a link without";
		sum = checksum_add(sum, tcp, packet->transport_len);
		return be16_get(checksum_finish(sum)) ? "a wrong checksum" : NULL;
	}
	if (vnet->flags != VNET_NEEDS_CSUM || be16_get(tcp->checksum) != partial ||
		le16_get(vnet->csum_start) != packet->transport_offset ||
		le16_get(vnet->csum_offset) != offsetof(struct tcp_header, checksum))
		return "a checksum that cannot be completed";
	if (!vnet->gso_type)
		return le16_get(vnet->gso_size) ? "a gso size without a type" : NULL;
	if (!(world->link.offloads & (is4 ? LINK_TSO4 : LINK_TSO6)) ||
		vnet->gso_type != (is4 ? VNET_GSO_TCP4 : VNET_GSO_TCP6))
		return "a gso type that was not offered";
	if (le16_get(vnet->header_len) != packet->transport_offset + packet->transport_header_len)
		return "a wrong length of headers";
	return NULL;
}

static const char *check_payload(
	const struct conversation *c, const struct outcome *out, const uint8_t *data)
{
	uint32_t segment_max = MAX(c->near_mss, 48);

	if (out->gso_size && (out->gso_size != segment_max || out->len <= segment_max))
		return "a wrong gso size";
	if (!out->gso_size && out->len > segment_max)
		return "a segment above the MSS";
	for (uint32_t i = 0; i < out->len; i++)
		if (data[i] != stream_byte(c, false, (uint32_t)(out->seq + i - 1)))
			return "wrong bytes";
	if (out->len && (int32_t)(out->seq + out->len - c->near_edge) > 0)
		return "data beyond the window";
	return NULL;
}

/* What was offered is not taken back. */
static const char *check_window(struct conversation *c, const struct outcome *out)
{
	uint32_t edge = out->ack + out->window;

	if (out->flags & TCP_RST || !(out->flags & TCP_ACK))
		return NULL;
	if (!(out->flags & TCP_SYN) && seq_before(edge, c->our_edge))
		return "a window that shrinks";
	c->our_edge = edge;
	return NULL;
}

static const char *take_tcp(struct world *world, struct conversation *c,
	const struct vnet_header *vnet, const struct packet *packet, const struct tcp_header *tcp,
	struct outcome *ret)
{
	struct tcp_options options;
	uint8_t shift = c->our_shift;
	const char *fault;

	tcp_options_parse(tcp, &options);
	if (tcp->flags & TCP_SYN && !c->our_isn_is_known) {
		c->our_isn = be32_get(tcp->seq);
		c->our_isn_is_known = true;
		c->our_shift = options.has_window_scale ? options.window_scale : NO_SHIFT;
	}
	if (tcp->flags & TCP_SYN || shift == NO_SHIFT || c->near_shift == NO_SHIFT)
		shift = 0;
	*ret = (struct outcome){
		.kind = OUT_SEGMENT,
		.flags = tcp->flags,
		.seq = be32_get(tcp->seq) - c->our_isn,
		.ack = tcp->flags & TCP_ACK ? be32_get(tcp->ack) - c->near_isn : 0,
		.window = (uint32_t)be16_get(tcp->window) << shift,
		.len = packet->transport_len - packet->transport_header_len,
		.gso_size = le16_get(vnet->gso_size),
		.mss = options.mss,
		.shift = options.has_window_scale ? options.window_scale : NO_SHIFT,
	};
	fault = check_offloads(world, vnet, packet, tcp);
	if (!fault)
		fault = check_payload(c, ret, (const uint8_t *)tcp + packet->transport_header_len);
	if (!fault)
		fault = check_window(c, ret);
	return fault;
}

/* The error quotes the SYN: its addresses, ports and number. */
static struct conversation *take_icmp(struct world *world, const uint8_t *frame,
	const struct packet *packet, struct outcome *ret, const char **ret_fault)
{
	const uint8_t *icmp = frame + packet->transport_offset, *ip = icmp + ICMP_HEADER_LEN;
	bool is4 = packet->ethertype == ETH_TYPE_IP4;
	const uint8_t *tcp = ip + (is4 ? IP4_HEADER_MIN : IP6_HEADER_LEN);
	struct conversation *c = NULL;
	struct ip_addr far = {.family = AF_INET6};
	struct in_addr far4;
	be16 near_port, far_port;
	be32 seq;

	if (packet->transport_len < ICMP_HEADER_LEN + (is4 ? IP4_HEADER_MIN : IP6_HEADER_LEN) + 8)
		return NULL;
	memcpy(&far.in6, ip + 24, sizeof(far.in6));
	memcpy(&far4, ip + 16, sizeof(far4));
	memcpy(&near_port, tcp, 2);
	memcpy(&far_port, tcp + 2, 2);
	memcpy(&seq, tcp + 4, 4);
	if (is4)
		far = ip_addr_of_v4(far4);
	c = find(world, &packet->dst, be16_get(near_port), &far, be16_get(far_port));
	if (c && be32_get(seq) != c->near_isn)
		*ret_fault = "a wrong number in the quoted SYN";
	*ret = (struct outcome){.kind = OUT_ICMP, .icmp_type = icmp[0], .icmp_code = icmp[1]};
	return c;
}

/* Beyond 64 KiB the length is that of the frame, and the headers say no other: then they are parsed
 * with one that they can say. */
static bool parse_big(const uint8_t *frame, size_t len, struct packet *ret)
{
	uint8_t headers[ETH_HEADER_LEN + IP6_HEADER_LEN + sizeof(struct ip6_jumbo) + 60];
	struct eth_header *eth = (struct eth_header *)headers;
	struct ip4_header *ip4 = (struct ip4_header *)(eth + 1);
	struct ip6_header *ip6 = (struct ip6_header *)(eth + 1);
	struct ip6_jumbo *jumbo = (struct ip6_jumbo *)(ip6 + 1);
	be16 total;

	memcpy(headers, frame, sizeof(headers));
	if (be16_get(eth->type) == ETH_TYPE_IP4) {
		if (be16_get(ip4->total_length))
			return false;
		total = be16_of(sizeof(headers) - ETH_HEADER_LEN);
		ip4->checksum = checksum_update(ip4->checksum, ip4->total_length, total);
		ip4->total_length = total;
	} else {
		if (be16_get(ip6->payload_length) || ip6->next_header != IPPROTO_HOPOPTS ||
			jumbo->option != IP6_OPTION_JUMBO || jumbo->option_len != 4 ||
			be32_get(jumbo->payload_length) != len - ETH_HEADER_LEN - IP6_HEADER_LEN)
			return false;
		jumbo->option = 1; /* PadN */
		ip6->payload_length = be16_of(sizeof(headers) - ETH_HEADER_LEN - IP6_HEADER_LEN);
	}
	if (packet_parse(headers, sizeof(headers), ret) != PACKET_OK)
		return false;
	ret->len = (uint32_t)len;
	ret->transport_len = ret->len - ret->transport_offset;
	return true;
}

static bool parse(const struct world *world, const uint8_t *frame, size_t len, struct packet *ret)
{
	if (len > LINK_FRAME_MAX)
		return world->link.offloads & LINK_BIG_TCP && parse_big(frame, len, ret);
	return packet_parse(frame, len, ret) == PACKET_OK;
}

struct conversation *frame_check(struct world *world, const uint8_t *buf, size_t len,
	struct outcome *ret, const char **ret_fault)
{
	const uint8_t *frame = buf + LINK_HEADER_LEN;
	const struct eth_header *eth = (const struct eth_header *)frame;
	const struct tcp_header *tcp;
	struct conversation *c;
	struct packet packet;

	*ret_fault = NULL;
	if (len < LINK_HEADER_LEN || !parse(world, frame, len - LINK_HEADER_LEN, &packet))
		return NULL;
	if (memcmp(&eth->dst, &near_mac, sizeof(near_mac)) != 0) {
		*ret_fault = "a frame to a wrong address";
		return NULL;
	}
	if (packet.protocol != IPPROTO_TCP)
		return take_icmp(world, frame, &packet, ret, ret_fault);
	if (packet.ttl != TTL)
		*ret_fault = "a wrong TTL";
	tcp = (const struct tcp_header *)(frame + packet.transport_offset);
	c = find(world, &packet.dst, be16_get(tcp->dst_port), &packet.src, be16_get(tcp->src_port));
	if (!c || memcmp(&eth->src, our_mac(c), sizeof(eth->src)) != 0)
		return NULL;
	if (!*ret_fault)
		*ret_fault = take_tcp(world, c, (const struct vnet_header *)buf, &packet, tcp, ret);
	return c;
}
