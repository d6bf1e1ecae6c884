/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/egress.h"

#include "base/util.h"
#include "wire/checksum.h"
#include "wire/icmp.h"
#include "wire/ip4.h"
#include "wire/ip6.h"
#include "wire/udp.h"
#include "wire/vnet.h"

#define TTL_DEFAULT 64
/* All that may stand in front of the transport header. */
#define HEADERS_MAX \
	(LINK_HEADER_LEN + ETH_HEADER_LEN + IP6_HEADER_LEN + sizeof(struct ip6_fragment))
/* In front of a datagram's pieces: the headers, and UDP's where it is made here. */
#define PIECES_MAX (2 + EGRESS_PIECES_MAX)
_Static_assert(PIECES_MAX <= LINK_PIECES_MAX, "one frame");

/* A packet's transport header and data: pieces[1] and all behind it. The first one is for the
 * headers in front. Not zeroed when made: it is large, and there is one for each frame. */
struct datagram {
	const struct egress_head *head;
	uint8_t protocol;
	uint16_t gso_size; /* 0: one datagram, not a run */
	uint32_t len;
	int n_pieces;
	struct iovec pieces[PIECES_MAX];
	uint8_t headers[HEADERS_MAX]; /* pieces[0], of a packet that is whole */
};

/* Which part of a datagram a packet carries. */
struct part {
	uint32_t offset, len;
	bool is_fragment, is_last;
	uint32_t id;
};

void egress_init(struct egress *egress, const struct policy *policy, struct link *link,
	uint32_t mtu, uint32_t id_seed, struct counters *counters)
{
	*egress = (struct egress){
		.policy = policy,
		.link = link,
		.counters = counters,
		.mtu = mtu,
		.next_id = (uint16_t)(id_seed >> 16),
		.next_id6 = id_seed,
	};
}

struct eth_addr egress_mac(const struct ip_addr *addr)
{
	struct eth_addr mac = {{0x52, addr->family == AF_INET ? 0x55 : 0x56}};

	memcpy(&mac.b[2], &addr->in6.s6_addr[12], 4);
	return mac;
}

struct eth_addr egress_answer_mac(
	const struct egress *egress, const struct eth_header *eth, uint8_t family)
{
	struct ip_addr gateway;

	if (!eth_addr_is_group(&eth->dst))
		return eth->dst;
	gateway = policy_gateway(egress->policy, family);
	return egress_mac(&gateway);
}

static void drop(struct egress *egress)
{
	count(egress->counters, COUNTER_FRAMES_OUT_DROPPED);
}

/* Whether it was taken. */
static bool put_on_link(struct egress *egress, const struct iovec *iov, int n_iov)
{
	bool taken = egress->link && egress->link->ops->send(egress->link, iov, n_iov) == 0;

	count(egress->counters, taken ? COUNTER_FRAMES_OUT : COUNTER_FRAMES_OUT_DROPPED);
	return taken;
}

/* ---- headers ---- */

static size_t ip_header_len(const struct egress_head *head)
{
	return head->dst.family == AF_INET ? IP4_HEADER_MIN : IP6_HEADER_LEN;
}

static uint8_t ttl_of(const struct egress_head *head)
{
	return head->ttl ? head->ttl : TTL_DEFAULT;
}

static size_t put_ip4(uint8_t *at, const struct datagram *d, const struct part *part)
{
	struct ip4_header *ip = (struct ip4_header *)at;

	*ip = (struct ip4_header){
		.version_ihl = IP4_VERSION << 4 | IP4_HEADER_MIN / 4,
		.tos = d->head->tos,
		.total_length = be16_of((uint16_t)(IP4_HEADER_MIN + part->len)),
		.id = be16_of((uint16_t)part->id),
		.fragment = be16_of(
			(uint16_t)(part->offset / 8 | (part->is_last ? 0 : IP4_MORE_FRAGMENTS))),
		.ttl = ttl_of(d->head),
		.protocol = d->protocol,
		.src = ip4_addr_be32(ip_addr_v4(&d->head->src)),
		.dst = ip4_addr_be32(ip_addr_v4(&d->head->dst)),
	};
	ip->checksum = checksum_finish(checksum_add(0, ip, sizeof(*ip)));
	return sizeof(*ip);
}

static size_t put_ip6(uint8_t *at, const struct datagram *d, const struct part *part)
{
	struct ip6_header *ip = (struct ip6_header *)at;
	struct ip6_fragment *fragment = (struct ip6_fragment *)(ip + 1);
	size_t fragment_len = part->is_fragment ? sizeof(*fragment) : 0;

	*ip = (struct ip6_header){
		.version_class_flow =
			be32_of((uint32_t)IP6_VERSION << 28 | (uint32_t)d->head->tos << 20),
		.payload_length = be16_of((uint16_t)(fragment_len + part->len)),
		.next_header = part->is_fragment ? IPPROTO_FRAGMENT : d->protocol,
		.hop_limit = ttl_of(d->head),
	};
	memcpy(&ip->src, &d->head->src.in6, sizeof(ip->src));
	memcpy(&ip->dst, &d->head->dst.in6, sizeof(ip->dst));
	if (part->is_fragment)
		*fragment = (struct ip6_fragment){
			.next_header = d->protocol,
			.offset = be16_of((
				uint16_t)(part->offset | (part->is_last ? 0 : IP6_MORE_FRAGMENTS))),
			.id = be32_of(part->id),
		};
	return sizeof(*ip) + fragment_len;
}

/* All in front of the transport header, but for what the virtio-net header is to say. */
static size_t put_headers(uint8_t *buf, const struct datagram *d, const struct part *part)
{
	struct eth_header *eth = (struct eth_header *)(buf + LINK_HEADER_LEN);
	bool is4 = d->head->dst.family == AF_INET;
	uint8_t *ip = (uint8_t *)(eth + 1);

	memset(buf, 0, LINK_HEADER_LEN);
	*eth = (struct eth_header){
		.dst = d->head->dst_mac,
		.src = d->head->src_mac,
		.type = be16_of(is4 ? ETH_TYPE_IP4 : ETH_TYPE_IP6),
	};
	return LINK_HEADER_LEN + sizeof(*eth) + (is4 ? put_ip4(ip, d, part) : put_ip6(ip, d, part));
}

/* ---- checksums ---- */

static uint64_t pseudo_sum(const struct datagram *d)
{
	struct ip6_addr src6, dst6;

	if (d->head->dst.family == AF_INET)
		return checksum_pseudo4(ip4_addr_be32(ip_addr_v4(&d->head->src)),
			ip4_addr_be32(ip_addr_v4(&d->head->dst)), d->protocol, (uint16_t)d->len);
	memcpy(&src6, &d->head->src.in6, sizeof(src6));
	memcpy(&dst6, &d->head->dst.in6, sizeof(dst6));
	return checksum_pseudo6(&src6, &dst6, d->protocol, d->len);
}

/* Where in the transport header it is; NULL: there is none that we know of. */
static be16 *checksum_field(const struct datagram *d)
{
	size_t offset;

	switch (d->protocol) {
	case IPPROTO_UDP:
		offset = offsetof(struct udp_header, checksum);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		offset = offsetof(struct icmp_header, checksum);
		break;
	default:
		return NULL;
	}
	if (d->pieces[1].iov_len < offset + sizeof(be16))
		return NULL;
	return (be16 *)((uint8_t *)d->pieces[1].iov_base + offset);
}

static void put_checksum(struct datagram *d)
{
	be16 *field = checksum_field(d);
	uint64_t sum = d->protocol == IPPROTO_ICMP ? 0 : pseudo_sum(d);

	if (!field)
		return;
	*field = be16_of(0);
	*field = checksum_finish(checksum_add_pieces(sum, &d->pieces[1], d->n_pieces - 1));
	/* UDP's 0 says that there is none (RFC 768). */
	if (d->protocol == IPPROTO_UDP && be16_get(*field) == 0)
		*field = be16_of(UINT16_MAX);
}

/* UDP's is left to the link where it computes them: the field gets what it cannot know. Never
 * ICMP's: programs look at it through raw sockets, for which the kernel does not complete it. */
static void put_partial_checksum(struct datagram *d, struct vnet_header *vnet)
{
	struct udp_header *udp = d->pieces[1].iov_base;
	size_t offset = ETH_HEADER_LEN + ip_header_len(d->head);
	be16 pseudo = checksum_finish(pseudo_sum(d));

	udp->checksum = (be16){{(uint8_t)~pseudo.b[0], (uint8_t)~pseudo.b[1]}};
	vnet->flags = VNET_NEEDS_CSUM;
	vnet->csum_start = le16_of((uint16_t)offset);
	vnet->csum_offset = le16_of(offsetof(struct udp_header, checksum));
	/* Also of a single datagram: so the kernel puts just the headers apart, and the payload
	 * where large copies are fast. */
	vnet->header_len = le16_of((uint16_t)(offset + sizeof(*udp)));
	if (!d->gso_size)
		return;
	vnet->gso_type = VNET_GSO_UDP_L4;
	vnet->gso_size = le16_of(d->gso_size);
}

/* ---- packets ---- */

static uint32_t take_ids(struct egress *egress, uint32_t n)
{
	uint32_t id = egress->next_id;

	egress->next_id = (uint16_t)(id + n);
	return id;
}

/* `n_datagrams`: the kernel numbers those of a run onwards. */
static void send_whole(struct egress *egress, struct datagram *d, uint32_t n_datagrams)
{
	struct part part = {.len = d->len, .is_last = true, .id = take_ids(egress, n_datagrams)};

	d->pieces[0] = (struct iovec){d->headers, put_headers(d->headers, d, &part)};
	if (d->protocol == IPPROTO_UDP && egress->link && egress->link->offloads & LINK_CSUM &&
		d->pieces[1].iov_len >= sizeof(struct udp_header))
		put_partial_checksum(d, (struct vnet_header *)d->headers);
	else
		put_checksum(d);
	(void)put_on_link(egress, d->pieces, d->n_pieces);
}

/* The pieces of `part` follow frame[0]; how many there are with it. `*piece` and `*skip`, the bytes
 * of it that have been sent, go on to the next part. */
static int slice(const struct datagram *d, const struct part *part, struct iovec *frame, int *piece,
	size_t *skip)
{
	uint32_t left = part->len;
	int n = 1;

	while (left && *piece < d->n_pieces) {
		const struct iovec *from = &d->pieces[*piece];
		size_t len = MIN(from->iov_len - *skip, left);

		frame[n++] = (struct iovec){(uint8_t *)from->iov_base + *skip, len};
		left -= (uint32_t)len;
		*skip += len;
		if (*skip == from->iov_len) {
			++*piece;
			*skip = 0;
		}
	}
	return n;
}

/* The rest of a datagram is worth nothing when one of its fragments was not taken. */
static void send_fragments(struct egress *egress, struct datagram *d, uint32_t part_max)
{
	bool is4 = d->head->dst.family == AF_INET;
	struct part part = {
		.is_fragment = true, .id = is4 ? take_ids(egress, 1) : egress->next_id6++};
	UNCLEARED struct iovec frame[PIECES_MAX];
	uint8_t buf[HEADERS_MAX];
	size_t skip = 0;
	int piece = 1, n;

	put_checksum(d);
	for (; part.offset < d->len; part.offset += part.len) {
		part.len = MIN(d->len - part.offset, part_max);
		part.is_last = part.offset + part.len == d->len;
		n = slice(d, &part, frame, &piece, &skip);
		frame[0] = (struct iovec){buf, put_headers(buf, d, &part)};
		if (!put_on_link(egress, frame, n))
			return;
	}
}

/* Of an IP packet to `head`. Nobody need go below the smallest MTU that a family allows (RFC 791,
 * RFC 8200 5), and a link that has a smaller one is not asked to carry less than eight bytes. */
static uint32_t mtu_of(const struct egress *egress, const struct egress_head *head)
{
	uint32_t floor = head->dst.family == AF_INET ? IP4_MIN_MTU : IP6_MIN_MTU;
	uint32_t mtu = egress->mtu;

	if (head->path_mtu)
		mtu = MIN(mtu, MAX(head->path_mtu, floor));
	return MAX(mtu, IP4_MIN_MTU);
}

static void send_datagram(struct egress *egress, struct datagram *d)
{
	size_t header_len = ip_header_len(d->head);
	uint32_t mtu = mtu_of(egress, d->head);
	bool is4 = d->head->dst.family == AF_INET;
	uint32_t len_max = is4 ? IP4_LEN_MAX - IP4_HEADER_MIN : IP6_PAYLOAD_MAX;

	if (d->len > len_max) {
		drop(egress);
		return;
	}
	if (header_len + d->len <= mtu) {
		send_whole(egress, d, 1);
		return;
	}
	if (!is4)
		header_len += sizeof(struct ip6_fragment);
	send_fragments(egress, d, (mtu - (uint32_t)header_len) & ~UINT32_C(7));
}

void egress_send(struct egress *egress, const struct egress_head *head, uint8_t protocol,
	const struct iovec *iov, int n_iov)
{
	UNCLEARED struct datagram d;

	if (n_iov < 1 || n_iov > EGRESS_PIECES_MAX) {
		drop(egress);
		return;
	}
	d.head = head;
	d.protocol = protocol;
	d.gso_size = 0;
	d.len = 0;
	d.n_pieces = 1 + n_iov;
	for (int i = 0; i < n_iov; i++) {
		d.pieces[1 + i] = iov[i];
		/* No sum of lengths gets past 32 bits. */
		d.len += (uint32_t)MIN(iov[i].iov_len, UINT16_MAX + 1);
	}
	send_datagram(egress, &d);
}

/* ---- runs of datagrams ---- */

/* How many of these go in one frame: equal ones, and a shorter one behind them. */
static int run_len(const struct egress *egress, const struct egress_head *head,
	const struct iovec *iov, int n_iov)
{
	const uint32_t offloads = LINK_CSUM | LINK_USO;
	size_t size = iov[0].iov_len;
	size_t len = ip_header_len(head) + sizeof(struct udp_header) + size;
	int n = 1;

	if (!egress->link || (egress->link->offloads & offloads) != offloads || size == 0 ||
		len > mtu_of(egress, head))
		return 1;
	while (n < n_iov && n < EGRESS_PIECES_MAX && iov[n].iov_len <= size && iov[n].iov_len > 0 &&
		len + iov[n].iov_len <= IP4_LEN_MAX) {
		len += iov[n].iov_len;
		if (iov[n++].iov_len < size)
			break;
	}
	return n;
}

void egress_udp(struct egress *egress, const struct egress_head *head, uint16_t src_port,
	uint16_t dst_port, const struct iovec *iov, int n_iov)
{
	struct udp_header udp = {.src_port = be16_of(src_port), .dst_port = be16_of(dst_port)};
	UNCLEARED struct datagram d;

	d.head = head;
	d.protocol = IPPROTO_UDP;
	d.pieces[1] = (struct iovec){&udp, sizeof(udp)};
	for (int n; n_iov > 0; iov += n, n_iov -= n) {
		n = run_len(egress, head, iov, n_iov);
		d.len = sizeof(udp);
		for (int i = 0; i < n; i++) {
			d.pieces[2 + i] = iov[i];
			d.len += (uint32_t)MIN(iov[i].iov_len, UINT16_MAX + 1);
		}
		d.n_pieces = 2 + n;
		d.gso_size = n > 1 ? (uint16_t)iov[0].iov_len : 0;
		udp.length = be16_of((uint16_t)d.len);
		if (d.gso_size)
			send_whole(egress, &d, (uint32_t)n);
		else
			send_datagram(egress, &d);
	}
}

void egress_frame(struct egress *egress, const uint8_t *frame, size_t len)
{
	static uint8_t no_offload[LINK_HEADER_LEN];
	const struct iovec iov[] = {
		{no_offload, sizeof(no_offload)}, {(void *)(uintptr_t)frame, len}};

	(void)put_on_link(egress, iov, ARRAY_SIZE(iov));
}
