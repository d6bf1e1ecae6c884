/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of datagrams: those of the container are made here, and those to it are taken apart and
 * checked for all that must be right in each of them.
 */
#include <stdio.h>

#include "dgram.h"
#include "wire/checksum.h"
#include "wire/icmp.h"
#include "wire/ip4.h"
#include "wire/ip6.h"
#include "wire/udp.h"
#include "wire/vnet.h"

#define DNS_HEADER_LEN 12

static const struct eth_addr near_mac = {{0x02, 0, 0, 0, 0, 1}};
static const struct eth_addr our_mac = {{0x52, 0x55, 10, 0, 2, 2}};

/* ---- what is in a datagram ---- */

static size_t question_end(const struct dgram *d)
{
	return DNS_HEADER_LEN + 1 + strlen(d->name) + 1 + 4;
}

size_t dgram_dns_len(const struct dgram *d)
{
	return MAX(question_end(d), d->len);
}

/* Longer ones than the question are filled up with what is as good as any record. */
static size_t put_dns(uint8_t *data, const struct dgram *d)
{
	size_t name_len = strlen(d->name), len = question_end(d);

	memset(data, 0, dgram_dns_len(d));
	data[0] = (uint8_t)(d->dns_id >> 8);
	data[1] = (uint8_t)d->dns_id;
	data[2] = d->is_answer ? 0x81 : 1;
	data[5] = 1;
	data[DNS_HEADER_LEN] = (uint8_t)name_len;
	memcpy(data + DNS_HEADER_LEN + 1, d->name, name_len);
	data[len - 3] = 1;
	data[len - 1] = 1;
	for (size_t i = len; i < d->len; i++)
		data[i] = (uint8_t)(i * 7);
	return dgram_dns_len(d);
}

static uint8_t data_byte(size_t len, size_t i)
{
	return (uint8_t)(len * 31 + i * 7 + i / 256 * 13);
}

void dgram_fill(uint8_t *data, const struct dgram *d)
{
	if (*d->name) {
		put_dns(data, d);
		return;
	}
	for (size_t i = 0; i < d->len; i++)
		data[i] = data_byte(d->len, i);
}

static bool look_dns(struct dgram *d, const uint8_t *data, size_t len)
{
	uint8_t again[DGRAM_DATA_MAX + DGRAM_NAME_MAX];
	size_t name_len = len > DNS_HEADER_LEN ? data[DNS_HEADER_LEN] : 0;

	if (!name_len || name_len >= DGRAM_NAME_MAX || len < DNS_HEADER_LEN + 6 + name_len)
		return false;
	memcpy(d->name, data + DNS_HEADER_LEN + 1, name_len);
	d->name[name_len] = '\0';
	d->dns_id = (uint16_t)(data[0] << 8 | data[1]);
	d->is_answer = data[2] & 0x80;
	return put_dns(again, d) == len && !memcmp(again, data, len);
}

bool dgram_look(struct dgram *d, const uint8_t *data, size_t len)
{
	d->len = (uint32_t)len;
	for (size_t i = 0; i < len; i++)
		if (data[i] != data_byte(len, i))
			return look_dns(d, data, len);
	return true;
}

/* ---- from the container ---- */

static bool is4(const struct dgram *d)
{
	return d->far.family == AF_INET;
}

static uint64_t pseudo_sum(
	const struct ip_addr *src, const struct ip_addr *dst, uint8_t protocol, size_t len)
{
	struct ip6_addr src6, dst6;

	if (protocol == IPPROTO_ICMP)
		return 0;
	if (src->family == AF_INET)
		return checksum_pseudo4(ip4_addr_be32(ip_addr_v4(src)),
			ip4_addr_be32(ip_addr_v4(dst)), protocol, (uint16_t)len);
	memcpy(&src6, &src->in6, sizeof(src6));
	memcpy(&dst6, &dst->in6, sizeof(dst6));
	return checksum_pseudo6(&src6, &dst6, protocol, (uint32_t)len);
}

static uint8_t protocol_of(const struct dgram *d)
{
	if (d->kind == DGRAM_UDP)
		return IPPROTO_UDP;
	return is4(d) ? IPPROTO_ICMP : IPPROTO_ICMPV6;
}

/* An IP header of `src` to `dst`; returns its length. */
static size_t put_ip(uint8_t *at, const struct dgram *d, const struct ip_addr *src,
	const struct ip_addr *dst, uint8_t protocol, size_t len)
{
	struct ip4_header ip4 = {
		.version_ihl = 0x45,
		.tos = d->tos,
		.total_length = be16_of((uint16_t)(IP4_HEADER_MIN + len)),
		.fragment = be16_of(d->dont_fragment ? IP4_DONT_FRAGMENT : 0),
		.ttl = d->ttl,
		.protocol = protocol,
	};
	struct ip6_header ip6 = {
		.version_class_flow = be32_of(6U << 28 | (uint32_t)d->tos << 20),
		.payload_length = be16_of((uint16_t)len),
		.next_header = protocol,
		.hop_limit = d->ttl,
	};

	if (src->family == AF_INET6) {
		memcpy(&ip6.src, &src->in6, sizeof(ip6.src));
		memcpy(&ip6.dst, &dst->in6, sizeof(ip6.dst));
		memcpy(at, &ip6, sizeof(ip6));
		return sizeof(ip6);
	}
	ip4.src = ip4_addr_be32(ip_addr_v4(src));
	ip4.dst = ip4_addr_be32(ip_addr_v4(dst));
	ip4.checksum = checksum_finish(checksum_add(0, &ip4, sizeof(ip4)));
	memcpy(at, &ip4, sizeof(ip4));
	return sizeof(ip4);
}

static size_t put_echo(uint8_t *at, const struct dgram *d)
{
	const struct icmp_header icmp = {
		.type = is4(d) ? ICMP_ECHO : ICMP6_ECHO_REQUEST,
		.rest = be32_of((uint32_t)d->near_port << 16 | d->far_port),
	};

	memcpy(at, &icmp, sizeof(icmp));
	dgram_fill(at + sizeof(icmp), d);
	return sizeof(icmp) + d->len;
}

/* A run is many datagrams' data behind one header. */
static size_t put_udp(uint8_t *at, const struct dgram *d, uint32_t segment)
{
	struct udp_header udp = {
		.src_port = be16_of(d->near_port), .dst_port = be16_of(d->far_port)};
	struct dgram one = *d;
	size_t len = sizeof(udp);

	if (*d->name) {
		len += put_dns(at + len, d);
	} else {
		for (uint32_t left = d->len, n; left || len == sizeof(udp); left -= n) {
			n = segment ? MIN(left, segment) : left;
			one.len = n;
			dgram_fill(at + len, &one);
			len += n;
			if (!left)
				break;
		}
	}
	udp.length = be16_of((uint16_t)len);
	memcpy(at, &udp, sizeof(udp));
	return len;
}

/* It quotes what we sent the container. */
static size_t put_error(uint8_t *at, const struct dgram *d)
{
	const struct icmp_header icmp = {
		.type = d->icmp_type,
		.code = d->icmp_code,
		.rest = be32_of(d->mtu),
	};
	const struct udp_header udp = {
		.src_port = be16_of(d->far_port),
		.dst_port = be16_of(d->near_port),
		.length = be16_of((uint16_t)(sizeof(udp) + d->len)),
	};
	size_t len = sizeof(icmp);

	memcpy(at, &icmp, sizeof(icmp));
	len += put_ip(at + len, d, &d->far, &d->near, IPPROTO_UDP, sizeof(udp) + d->len);
	memcpy(at + len, &udp, sizeof(udp));
	return len + sizeof(udp);
}

static void put_checksum(struct world *world, const struct dgram *d, const struct ip_addr *dst,
	uint8_t *transport, size_t len, uint32_t segment)
{
	struct vnet_header *vnet = (struct vnet_header *)world->buf;
	uint8_t protocol = protocol_of(d);
	uint64_t sum = pseudo_sum(&d->near, dst, protocol, len);
	size_t offset = protocol == IPPROTO_UDP ? offsetof(struct udp_header, checksum)
						: offsetof(struct icmp_header, checksum);
	be16 checksum;

	if (protocol == IPPROTO_UDP && world->link.offloads & LINK_CSUM) {
		vnet->flags = VNET_NEEDS_CSUM;
		vnet->csum_start = le16_of((uint16_t)(transport - world->buf - VNET_HEADER_LEN));
		vnet->csum_offset = le16_of((uint16_t)offset);
		checksum = be16_of((uint16_t)~be16_get(checksum_finish(sum)));
	} else {
		checksum = checksum_finish(checksum_add(sum, transport, len));
	}
	if (segment) {
		vnet->gso_type = VNET_GSO_UDP_L4;
		vnet->gso_size = le16_of((uint16_t)segment);
	}
	memcpy(transport + offset, &checksum, sizeof(checksum));
}

size_t dgram_build(struct world *world, const struct dgram *d, uint32_t segment)
{
	struct eth_header *eth = (struct eth_header *)(world->buf + VNET_HEADER_LEN);
	uint8_t *ip = (uint8_t *)(eth + 1);
	uint8_t *transport = ip + (is4(d) ? IP4_HEADER_MIN : IP6_HEADER_LEN);
	const struct ip_addr *dst = d->kind == DGRAM_ERROR ? &d->by : &d->far;
	size_t len;

	if (d->kind == DGRAM_UDP)
		len = put_udp(transport, d, segment);
	else if (d->kind == DGRAM_PING)
		len = put_echo(transport, d);
	else
		len = put_error(transport, d);
	if (IP4_HEADER_MIN + len > IP4_LEN_MAX)
		world_fail(world, "a datagram that no packet holds");
	memset(world->buf, 0, VNET_HEADER_LEN);
	*eth = (struct eth_header){
		.dst = our_mac,
		.src = near_mac,
		.type = be16_of(is4(d) ? ETH_TYPE_IP4 : ETH_TYPE_IP6),
	};
	put_ip(ip, d, &d->near, dst, protocol_of(d), len);
	put_checksum(world, d, dst, transport, len, segment);
	return (size_t)(transport - (uint8_t *)eth) + len;
}

/* The part of `whole`, a packet behind its Ethernet header, that begins `offset` bytes behind the
 * IP header; goes to world->buf. Returns the frame's length. */
static size_t put_fragment(
	struct world *world, const uint8_t *whole, size_t offset, size_t len, bool more)
{
	uint8_t *frame = world->buf + VNET_HEADER_LEN, *ip = frame + ETH_HEADER_LEN;
	struct ip4_header *ip4 = (struct ip4_header *)ip;
	struct ip6_header *ip6 = (struct ip6_header *)ip;
	struct ip6_fragment *fragment = (struct ip6_fragment *)(ip6 + 1);

	memset(world->buf, 0, VNET_HEADER_LEN);
	memcpy(frame, whole, ETH_HEADER_LEN + IP6_HEADER_LEN);
	if (ip[0] >> 4 == IP4_VERSION) {
		ip4->total_length = be16_of((uint16_t)(IP4_HEADER_MIN + len));
		ip4->id = be16_of(0x1234);
		ip4->fragment = be16_of((uint16_t)(offset / 8 | (more ? IP4_MORE_FRAGMENTS : 0)));
		ip4->checksum = be16_of(0);
		ip4->checksum = checksum_finish(checksum_add(0, ip4, sizeof(*ip4)));
		memcpy(ip4 + 1, whole + ETH_HEADER_LEN + IP4_HEADER_MIN + offset, len);
		return ETH_HEADER_LEN + IP4_HEADER_MIN + len;
	}
	*fragment = (struct ip6_fragment){
		.next_header = ip6->next_header,
		.offset = be16_of((uint16_t)(offset | more)),
		.id = be32_of(0x12345678),
	};
	ip6->next_header = IPPROTO_FRAGMENT;
	ip6->payload_length = be16_of((uint16_t)(sizeof(*fragment) + len));
	memcpy(fragment + 1, whole + ETH_HEADER_LEN + IP6_HEADER_LEN + offset, len);
	return ETH_HEADER_LEN + IP6_HEADER_LEN + sizeof(*fragment) + len;
}

void dgram_input(struct world *world, size_t len, uint32_t mtu, uint32_t lost)
{
	static uint8_t whole[INGRESS_BUFFER_LEN];
	bool is_ip4 = world->buf[VNET_HEADER_LEN + ETH_HEADER_LEN] >> 4 == IP4_VERSION;
	size_t headers = is_ip4 ? IP4_HEADER_MIN : IP6_HEADER_LEN;
	size_t part = (mtu - headers - (is_ip4 ? 0 : sizeof(struct ip6_fragment))) & ~(size_t)7;
	size_t left = len - ETH_HEADER_LEN - headers, n;
	uint32_t number = 0;

	if (!mtu) {
		dgrams_near_input(world, len);
		return;
	}
	if (world->buf[0])
		world_fail(world, "a fragment's checksum cannot be left to the link");
	memcpy(whole, world->buf + VNET_HEADER_LEN, len);
	for (size_t offset = 0; left; offset += n, left -= n) {
		n = MIN(part, left);
		if (++number != lost)
			dgrams_near_input(world, put_fragment(world, whole, offset, n, left > n));
	}
}

/* ---- to the container ---- */

static void check_checksum(struct world *world, const struct vnet_header *vnet,
	const uint8_t *transport, const struct packet *packet)
{
	size_t len = packet->transport_len;
	uint64_t sum = pseudo_sum(&packet->src, &packet->dst, packet->protocol, len);
	uint16_t partial = (uint16_t)~be16_get(checksum_finish(sum));

	if (vnet->flags & VNET_NEEDS_CSUM) {
		if (!(world->link.offloads & LINK_CSUM) ||
			be16_get(((const struct udp_header *)transport)->checksum) != partial ||
			le16_get(vnet->csum_start) != packet->transport_offset)
			world_fail(world, "sends a checksum that cannot be completed");
		return;
	}
	if (be16_get(checksum_finish(checksum_add(sum, transport, len))))
		world_fail(world, "sends a wrong checksum");
}

static void take_udp(struct world *world, struct dgram *d, const struct vnet_header *vnet,
	const uint8_t *transport, size_t len)
{
	const struct udp_header *udp = (const struct udp_header *)transport;
	const uint8_t *data = transport + sizeof(*udp);
	size_t left = len - sizeof(*udp), segment = left;

	if (be16_get(udp->length) != len)
		world_fail(world, "sends a wrong UDP length");
	if (vnet->gso_type == VNET_GSO_UDP_L4)
		segment = le16_get(vnet->gso_size);
	if (vnet->gso_type && (!(world->link.offloads & LINK_USO) || !segment || segment >= left))
		world_fail(world, "sends a run that is none");
	d->kind = DGRAM_UDP;
	d->far_port = be16_get(udp->src_port);
	d->near_port = be16_get(udp->dst_port);
	do {
		size_t n = MIN(left, segment);

		if (!dgram_look(d, data, n))
			world_fail(world, "sends wrong data in a datagram of %zu", n);
		dgram_log_add(world, &world->dgrams->to_near, d);
		data += n;
		left -= n;
	} while (left);
}

static void take_pong(
	struct world *world, struct dgram *d, const struct icmp_header *icmp, size_t len)
{
	d->kind = DGRAM_PONG;
	d->near_port = (uint16_t)(be32_get(icmp->rest) >> 16);
	d->far_port = (uint16_t)be32_get(icmp->rest);
	if (!dgram_look(d, (const uint8_t *)(icmp + 1), len - sizeof(*icmp)))
		world_fail(world, "sends wrong data in a reply");
	dgram_log_add(world, &world->dgrams->to_near, d);
}

/* What it quotes must be what the container sent, as far as it goes. */
static void take_error(
	struct world *world, struct dgram *d, const struct icmp_header *icmp, size_t len)
{
	const uint8_t *ip = (const uint8_t *)(icmp + 1), *transport;
	size_t ip_len = d->near.family == AF_INET ? IP4_HEADER_MIN : IP6_HEADER_LEN;
	struct in_addr v4[2];
	be16 ports[4];
	uint8_t protocol;

	if (len < sizeof(*icmp) + ip_len + 8)
		world_fail(world, "sends an error that says too little");
	transport = ip + ip_len;
	memcpy(ports, transport, sizeof(ports));
	d->kind = DGRAM_ERROR;
	d->by = d->far;
	d->icmp_type = icmp->type;
	d->icmp_code = icmp->code;
	d->mtu = be32_get(icmp->rest);
	if (ip_len == IP4_HEADER_MIN) {
		memcpy(v4, ip + 12, sizeof(v4));
		protocol = ip[9];
		if (v4[0].s_addr != ip_addr_v4(&d->near).s_addr)
			world_fail(world, "sends an error about another's packet");
		d->far = ip_addr_of_v4(v4[1]);
	} else {
		protocol = ip[6];
		if (memcmp(ip + 8, &d->near.in6, 16) != 0)
			world_fail(world, "sends an error about another's packet");
		memcpy(&d->far.in6, ip + 24, 16);
		if (protocol == IPPROTO_FRAGMENT && len >= sizeof(*icmp) + ip_len + 16) {
			protocol = *transport;
			memcpy(ports, transport + sizeof(struct ip6_fragment), sizeof(ports));
		}
	}
	d->about = protocol == IPPROTO_UDP ? DGRAM_UDP : DGRAM_PING;
	d->near_port = be16_get(ports[d->about == DGRAM_UDP ? 0 : 2]);
	d->far_port = be16_get(ports[d->about == DGRAM_UDP ? 1 : 3]);
	dgram_log_add(world, &world->dgrams->to_near, d);
}

static void take_transport(struct world *world, struct dgram *d, const struct vnet_header *vnet,
	const uint8_t *transport, const struct packet *packet)
{
	const struct icmp_header *icmp = (const struct icmp_header *)transport;
	bool is_pong = d->near.family == AF_INET ? icmp->type == ICMP_ECHO_REPLY
						 : icmp->type == ICMP6_ECHO_REPLY;

	check_checksum(world, vnet, transport, packet);
	if (packet->protocol == IPPROTO_UDP)
		take_udp(world, d, vnet, transport, packet->transport_len);
	else if (is_pong)
		take_pong(world, d, icmp, packet->transport_len);
	else
		take_error(world, d, icmp, packet->transport_len);
}

/* We send them in their order. Returns whether the datagram is whole. */
static bool put_together(struct world *world, const uint8_t *frame, struct packet *packet)
{
	struct dgrams *ds = world->dgrams;

	if (packet->fragment_offset != (packet->fragment_offset ? ds->whole_len : 0) ||
		(packet->more_fragments && packet->transport_len % 8))
		world_fail(world, "sends a fragment that does not fit");
	memcpy(ds->whole + packet->fragment_offset, frame + packet->transport_offset,
		packet->transport_len);
	ds->whole_len = packet->fragment_offset + packet->transport_len;
	ds->n_packets = packet->fragment_offset ? ds->n_packets + 1 : 1;
	packet->transport_len = (uint32_t)ds->whole_len;
	return !packet->more_fragments;
}

void dgrams_take_frame(struct world *world, const uint8_t *buf, size_t len)
{
	struct dgrams *ds = world->dgrams;
	const uint8_t *frame = buf + LINK_HEADER_LEN, *transport;
	const struct eth_header *eth = (const struct eth_header *)frame;
	const uint8_t *ip = (const uint8_t *)(eth + 1);
	struct dgram d = {.n_frame = ++ds->n_frames, .n_packets = 1};
	const struct vnet_header *vnet = (const struct vnet_header *)buf;
	struct packet packet;

	if (packet_parse(frame, len - LINK_HEADER_LEN, &packet) != PACKET_OK ||
		packet.len != len - LINK_HEADER_LEN)
		world_fail(world, "sends a frame that is none");
	if (memcmp(&eth->dst, &near_mac, sizeof(near_mac)) != 0)
		world_fail(world, "sends to a wrong Ethernet address");
	if (packet.ethertype == ETH_TYPE_ARP)
		return;
	if (!vnet->gso_type && packet.len - packet.ip_offset > ds->mtu)
		world_fail(world, "sends a packet above the MTU");
	d.near = packet.dst;
	d.far = packet.src;
	d.ttl = packet.ttl;
	d.tos = packet.ethertype == ETH_TYPE_IP4
		? ip[1]
		: (uint8_t)(be32_get(((const struct ip6_header *)ip)->version_class_flow) >> 20);
	transport = frame + packet.transport_offset;
	if (packet.is_fragment) {
		if (!put_together(world, frame, &packet))
			return;
		transport = ds->whole;
		d.n_packets = ds->n_packets;
	}
	take_transport(world, &d, vnet, transport, &packet);
}
