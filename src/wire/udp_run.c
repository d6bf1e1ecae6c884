/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/udp_run.h"

#include "base/util.h"
#include "wire/checksum.h"
#include "wire/ip4.h"
#include "wire/ip6.h"
#include "wire/udp.h"

void udp_run_begin(struct udp_run *run, uint8_t *frame, const struct packet *packet, uint32_t size)
{
	*run = (struct udp_run){
		.frame = frame,
		.packet = *packet,
		.size = size,
		.left = packet->transport_len - UDP_HEADER_LEN,
	};
}

/* Returns the pseudo header's sum. */
static uint64_t set_ip4(uint8_t *at, const struct packet *packet)
{
	struct ip4_header *ip = (struct ip4_header *)at;

	ip->total_length = be16_of((uint16_t)(packet->len - packet->ip_offset));
	ip->checksum = be16_of(0);
	ip->checksum =
		checksum_finish(checksum_add(0, ip, packet->transport_offset - packet->ip_offset));
	return checksum_pseudo4(ip->src, ip->dst, IPPROTO_UDP, (uint16_t)packet->transport_len);
}

static uint64_t set_ip6(uint8_t *at, const struct packet *packet)
{
	struct ip6_header *ip = (struct ip6_header *)at;

	ip->payload_length = be16_of((uint16_t)(packet->len - packet->ip_offset - IP6_HEADER_LEN));
	return checksum_pseudo6(&ip->src, &ip->dst, IPPROTO_UDP, packet->transport_len);
}

static void set_headers(struct udp_run *run)
{
	struct packet *packet = &run->packet;
	uint8_t *ip = run->frame + packet->ip_offset;
	struct udp_header *udp = (struct udp_header *)(run->frame + packet->transport_offset);
	uint64_t sum;

	packet->transport_len = UDP_HEADER_LEN + run->len;
	packet->len = packet->transport_offset + packet->transport_len;
	udp->length = be16_of((uint16_t)packet->transport_len);
	udp->checksum = be16_of(0);
	sum = packet->ethertype == ETH_TYPE_IP4 ? set_ip4(ip, packet) : set_ip6(ip, packet);
	udp->checksum = checksum_finish(checksum_add(sum, udp, packet->transport_len));
	if (be16_get(udp->checksum) == 0) /* that would say that there is none (RFC 768) */
		udp->checksum = be16_of(UINT16_MAX);
}

bool udp_run_next(struct udp_run *run)
{
	const size_t header_len = run->packet.transport_offset + UDP_HEADER_LEN;

	if (!run->left)
		return false;
	/* The headers go in front of the next one's data. */
	if (run->len) {
		memmove(run->frame + run->len, run->frame, header_len);
		run->frame += run->len;
	}
	run->len = MIN(run->size, run->left);
	run->left -= run->len;
	set_headers(run);
	return true;
}
