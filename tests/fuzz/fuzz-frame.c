/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames through ingress, and what passes for libslirp through the filter. The input is a byte of
 * settings and then frames, each behind its length (2 bytes, big-endian) and, if the settings say
 * so, its virtio-net header (12 bytes, not counted); the last may be shorter than it says.
 *
 * Besides the sanitizers' findings it fails when something comes through that must not: a frame
 * that does not parse, a fragment, an address that is never dialled, an offload that is none or was
 * not offered, a wrong checksum that nobody vouches for, for our own stack a port 0, a packet whose
 * time to live has ended or one of a protocol that it does not carry, urgent data; when a header
 * changes under the hand of whoever completes a checksum; and when a right checksum becomes wrong.
 */
#include "base/util.h"
#include "flow/ingress.h"
#include "link/link.h"
#include "slirp/filter.h"
#include "tests/fuzz/fuzz.h"
#include "wire/checksum.h"
#include "wire/cursor.h"
#include "wire/icmp.h"
#include "wire/ip6.h"
#include "wire/tcp.h"
#include "wire/udp.h"

enum setting {
	SETTING_NO_IPV6 = 1 << 0,
	SETTING_VNET = 1 << 1, /* headers in front of the frames; else they are zero */
	SETTING_SLOW = 1 << 2, /* 10 s between frames */
	SETTING_OWN_STACK = 1 << 3,
	SETTING_USO = 1 << 4, /* the link cuts runs of datagrams */
};

struct world {
	struct policy policy;
	struct counters counters;
	struct icmp_limit icmp_limit;
	struct ingress ingress;
	struct filter filter;
	int64_t now_ns;
};

static struct policy policy_make(bool ipv6)
{
	struct policy policy = {
		.network = {htonl(0x0a000200)},
		.netmask = {htonl(0xffffff00)},
		.gateway = {htonl(0x0a000202)},
		.dns = {htonl(0x0a000203)},
		.guest = {htonl(0x0a000264)},
		.gateway6 = {{{0xfd, [15] = 2}}},
		.dns6 = {{{0xfd, [15] = 3}}},
		.ipv6 = ipv6,
		.host_loopback = true,
	};

	return policy;
}

static void world_init(struct world *w, uint8_t settings)
{
	*w = (struct world){.policy = policy_make(!(settings & SETTING_NO_IPV6))};
	icmp_limit_init(&w->icmp_limit, &w->counters);
	ingress_init(&w->ingress, &w->policy, &w->icmp_limit, settings & SETTING_OWN_STACK,
		&w->counters);
	w->ingress.offloads = settings & SETTING_USO ? LINK_CSUM | LINK_USO : LINK_CSUM;
	filter_init(&w->filter, &w->policy, &w->icmp_limit, &w->counters);
}

static uint64_t pseudo_sum(const struct packet *p)
{
	struct ip6_addr src6, dst6;
	be32 src4, dst4;

	if (p->protocol == IPPROTO_ICMP)
		return 0;
	if (p->ethertype == ETH_TYPE_IP4) {
		memcpy(&src4, &p->src.in6.s6_addr[12], sizeof(src4));
		memcpy(&dst4, &p->dst.in6.s6_addr[12], sizeof(dst4));
		return checksum_pseudo4(src4, dst4, p->protocol, (uint16_t)p->transport_len);
	}
	memcpy(&src6, &p->src.in6, sizeof(src6));
	memcpy(&dst6, &p->dst.in6, sizeof(dst6));
	return checksum_pseudo6(&src6, &dst6, p->protocol, p->transport_len);
}

static bool checksum_is_right(const uint8_t *frame, const struct packet *p)
{
	uint64_t sum = checksum_add(pseudo_sum(p), frame + p->transport_offset, p->transport_len);

	return be16_get(checksum_finish(sum)) == 0;
}

static bool is_tcp(const struct packet *p)
{
	return p->protocol == IPPROTO_TCP && p->transport_header_len;
}

static uint64_t n_counted(const struct world *w)
{
	uint64_t n = 0;

	for (size_t i = 0; i < N_COUNTERS; i++)
		n += w->counters.value[i];
	return n;
}

static void check_vnet(const struct world *w, const uint8_t *buf, enum ingress_result result)
{
	static const struct vnet_header zero;
	const struct vnet_header *vnet = (const struct vnet_header *)buf;

	if (result == INGRESS_OTHER || result == INGRESS_ICMP || !w->ingress.own_stack)
		ALWAYS(!memcmp(vnet, &zero, sizeof(zero)));
	if (!vnet->gso_type)
		return;
	ALWAYS(le16_get(vnet->gso_size));
	if (result == INGRESS_TCP)
		ALWAYS((vnet->gso_type & ~VNET_GSO_ECN) == VNET_GSO_TCP4 ||
			(vnet->gso_type & ~VNET_GSO_ECN) == VNET_GSO_TCP6);
	else
		ALWAYS(vnet->gso_type == VNET_GSO_UDP_L4 && w->ingress.offloads & LINK_USO);
}

static void check_udp(const struct vnet_header *vnet, const uint8_t *frame, const struct packet *p)
{
	const struct udp_header *udp = (const struct udp_header *)(frame + p->transport_offset);
	uint32_t len = p->transport_len - UDP_HEADER_LEN, size = le16_get(vnet->gso_size);

	ALWAYS(p->protocol == IPPROTO_UDP && p->transport_header_len == UDP_HEADER_LEN);
	ALWAYS(be16_get(udp->length) == p->transport_len);
	ALWAYS(p->transport_offset + p->transport_len == p->len);
	ALWAYS(be16_get(udp->src_port) && be16_get(udp->dst_port));
	if (vnet->gso_type)
		ALWAYS(len && (len + size - 1) / size <= INGRESS_RUN_MAX);
	ALWAYS(vnet->flags & (VNET_NEEDS_CSUM | VNET_DATA_VALID) || !be16_get(udp->checksum) ||
		checksum_is_right(frame, p));
}

/* What our own stack may rely on. */
static void check_own(
	const struct world *w, const uint8_t *buf, const struct packet *p, enum ingress_result r)
{
	const struct vnet_header *vnet = (const struct vnet_header *)buf;
	const uint8_t *frame = buf + VNET_HEADER_LEN;

	ALWAYS(p->ttl > 1 || policy_on_link(&w->policy, &p->dst));
	switch (r) {
	case INGRESS_TCP:
		ALWAYS(vnet->flags & (VNET_NEEDS_CSUM | VNET_DATA_VALID) ||
			checksum_is_right(frame, p));
		break;
	case INGRESS_UDP:
		check_udp(vnet, frame, p);
		break;
	case INGRESS_ICMP:
		ALWAYS(p->protocol ==
			(p->ethertype == ETH_TYPE_IP4 ? IPPROTO_ICMP : IPPROTO_ICMPV6));
		ALWAYS(p->transport_header_len == ICMP_HEADER_LEN && checksum_is_right(frame, p));
		break;
	default:
		ALWAYS(false);
	}
}

/* What ingress says of the frame is what one sees there. */
static void check_ingress(const struct world *w, const uint8_t *buf, const struct packet *packet,
	enum ingress_result r)
{
	const uint8_t *frame = buf + VNET_HEADER_LEN;
	struct packet p;

	ALWAYS(packet_parse(frame, packet->len, &p) == PACKET_OK);
	/* What was put together may be cut again, whatever the family. */
	p.dont_fragment &= packet->dont_fragment;
	/* What came in fragments may be cut again. */
	ALWAYS(p.dont_fragment || !packet->dont_fragment);
	p.dont_fragment = packet->dont_fragment;
	ALWAYS(!memcmp(&p, packet, sizeof(p)));
	ALWAYS(p.len == packet->len && !p.is_fragment && !p.source_routed);
	ALWAYS((r == INGRESS_TCP) == (p.ethertype != ETH_TYPE_ARP && is_tcp(&p)));
	check_vnet(w, buf, r);
	if (p.ethertype == ETH_TYPE_ARP)
		return;
	ALWAYS(p.ethertype == ETH_TYPE_IP4 || w->policy.ipv6);
	ALWAYS(policy_check(&w->policy, &p.dst, p.protocol) == POLICY_PASS);
	if (w->ingress.own_stack)
		check_own(w, buf, &p, r);
	else
		ALWAYS(r == INGRESS_TCP || r == INGRESS_OTHER);
}

static void check_filtered(const uint8_t *frame, const struct packet *packet, bool was_right)
{
	const struct tcp_header *tcp;
	struct packet p;

	ALWAYS(packet_parse(frame, packet->len, &p) == PACKET_OK);
	/* What was put together may be cut again, whatever the family. */
	p.dont_fragment &= packet->dont_fragment;
	/* What came in fragments may be cut again. */
	ALWAYS(p.dont_fragment || !packet->dont_fragment);
	p.dont_fragment = packet->dont_fragment;
	ALWAYS(!memcmp(&p, packet, sizeof(p)));
	if (!is_tcp(&p))
		return;
	tcp = (const struct tcp_header *)(frame + p.transport_offset);
	ALWAYS(!(tcp->flags & TCP_URG) && !be16_get(tcp->urgent));
	ALWAYS(!was_right || checksum_is_right(frame, &p));
}

static void check_answer(const uint8_t *answer, size_t len)
{
	struct packet p;

	ALWAYS(len <= INGRESS_ANSWER_MAX);
	ALWAYS(packet_parse(answer, len, &p) == PACKET_OK && p.len == len);
	ALWAYS(!icmp_error_allowed(answer, &p)); /* it is one */
}

static void check_filter(struct world *w, uint8_t *frame, struct packet *packet)
{
	static uint8_t answer[FILTER_ANSWER_MAX];
	bool was_right = is_tcp(packet) && checksum_is_right(frame, packet);
	uint64_t before = n_counted(w);
	size_t len;

	switch (filter_packet(&w->filter, frame, packet, w->now_ns, answer, &len)) {
	case FILTER_PASS:
	case FILTER_PASS_IF_NEXT:
		check_filtered(frame, packet, was_right);
		break;
	case FILTER_ANSWER:
		check_answer(answer, len);
		break;
	case FILTER_DROP:
		ALWAYS(n_counted(w) > before);
		break;
	}
}

/* Only TCP and UDP can still lack their checksum; no other byte is written to complete it. */
static void check_complete(uint8_t *buf, const struct packet *packet)
{
	static uint8_t before[INGRESS_FRAME_MAX];
	const struct vnet_header *vnet = (const struct vnet_header *)buf;
	uint8_t *frame = buf + VNET_HEADER_LEN;
	size_t field = packet->transport_offset +
		(packet->protocol == IPPROTO_TCP ? offsetof(struct tcp_header, checksum)
						 : offsetof(struct udp_header, checksum));

	if (!(vnet->flags & VNET_NEEDS_CSUM))
		return;
	memcpy(before, frame, packet->len);
	ingress_complete_checksum(buf, packet);
	memcpy(before + field, frame + field, sizeof(be16));
	ALWAYS(!memcmp(before, frame, packet->len));
}

static void check_frame(struct world *w, const uint8_t *vnet, const uint8_t *data, size_t len)
{
	static uint8_t buf[INGRESS_BUFFER_LEN], answer[INGRESS_ANSWER_MAX];
	struct packet packet;
	enum ingress_result result;
	size_t answer_len;

	packet_parse(data, len, &packet); /* of the right size for the sanitizer */
	memcpy(buf, vnet, VNET_HEADER_LEN);
	memcpy(buf + VNET_HEADER_LEN, data, len);
	result = ingress_frame(&w->ingress, buf, len, w->now_ns, &packet, answer, &answer_len);
	switch (result) {
	case INGRESS_TCP:
	case INGRESS_UDP:
	case INGRESS_ICMP:
	case INGRESS_OTHER:
		check_ingress(w, buf, &packet, result);
		check_complete(buf, &packet);
		check_filter(w, buf + VNET_HEADER_LEN, &packet);
		break;
	case INGRESS_ANSWER:
		check_answer(answer, answer_len);
		break;
	case INGRESS_DROP:
		break;
	}
}

/* Takes one frame; false at the end. */
static bool next_frame(struct world *w, struct cursor *input, uint8_t settings)
{
	static const uint8_t no_offload[VNET_HEADER_LEN];
	const uint8_t *vnet = no_offload, *head = cursor_take(input, 2);
	uint8_t *copy;
	size_t n;

	if (!head)
		return false;
	if (settings & SETTING_VNET && !(vnet = cursor_take(input, VNET_HEADER_LEN)))
		return false;
	n = MIN((size_t)head[0] << 8 | head[1], input->left);
	/* A copy of its own, so that a byte too far is seen. */
	copy = malloc(n ? n : 1);
	ALWAYS(copy);
	memcpy(copy, cursor_take(input, n), n);
	w->now_ns += settings & SETTING_SLOW ? 10 * NS_PER_SEC : 1;
	check_frame(w, vnet, copy, n);
	free(copy);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct cursor input = {.at = data, .left = len};
	const uint8_t *settings = cursor_take(&input, 1);
	struct world w;

	if (!settings)
		return 0;
	world_init(&w, *settings);
	while (next_frame(&w, &input, *settings))
		;
	ingress_done(&w.ingress);
	return 0;
}
