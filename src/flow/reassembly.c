/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/reassembly.h"

#include <stdlib.h>

#include "wire/checksum.h"
#include "wire/ip4.h"

#define UNITS_MAX (65536 / 8)

struct datagram {
	struct ip_addr src, dst;
	uint32_t id;
	uint8_t protocol;
	int64_t started_ns;
	uint32_t n_received; /* bytes */
	uint32_t end;        /* of the last byte received */
	uint32_t total;      /* length of the data; 0: the last fragment is missing */
	uint32_t header_len; /* of the first fragment's frame, up to its data; 0: missing */
	uint8_t header[ETH_HEADER_LEN + IP4_HEADER_MAX];
	uint64_t have[UNITS_MAX / 64]; /* one bit per 8 bytes */
	uint8_t data[65536];
};

void reassembly_init(struct reassembly *reassembly, struct counters *counters)
{
	*reassembly = (struct reassembly){.counters = counters};
}

void reassembly_done(struct reassembly *reassembly)
{
	for (size_t i = 0; i < ARRAY_SIZE(reassembly->datagrams); i++)
		free(reassembly->datagrams[i]);
	*reassembly = (struct reassembly){0};
}

static void slot_clear(struct datagram **slot)
{
	free(*slot);
	*slot = NULL;
}

static enum reassembly_outcome slot_give_up(struct reassembly *reassembly, struct datagram **slot)
{
	slot_clear(slot);
	count(reassembly->counters, COUNTER_DROP_FRAGMENT);
	return REASSEMBLY_DROPPED;
}

static bool datagram_has(const struct datagram *d, const struct packet *packet)
{
	return d->id == packet->fragment_id && d->protocol == packet->protocol &&
		IN6_ARE_ADDR_EQUAL(&d->src.in6, &packet->src.in6) &&
		IN6_ARE_ADDR_EQUAL(&d->dst.in6, &packet->dst.in6);
}

/* The slot of the packet's datagram, else one that is free (made so if need be). What is too old
 * is given up on the way. */
static struct datagram **slot_find(
	struct reassembly *reassembly, const struct packet *packet, int64_t now_ns)
{
	struct datagram **unused = NULL, **oldest = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(reassembly->datagrams); i++) {
		struct datagram **slot = &reassembly->datagrams[i];

		if (*slot && now_ns - (*slot)->started_ns >= REASSEMBLY_TIMEOUT_NS)
			slot_give_up(reassembly, slot);
		if (!*slot)
			unused = slot;
		else if (datagram_has(*slot, packet))
			return slot;
		else if (!oldest || (*slot)->started_ns < (*oldest)->started_ns)
			oldest = slot;
	}
	if (!unused) {
		slot_give_up(reassembly, oldest);
		unused = oldest;
	}
	return unused;
}

/* All but the data is zero. */
static struct datagram *datagram_new(const struct packet *packet, int64_t now_ns)
{
	struct datagram *d = malloc(sizeof(*d));

	if (!d)
		return NULL;
	memset(d, 0, offsetof(struct datagram, data));
	d->src = packet->src;
	d->dst = packet->dst;
	d->id = packet->fragment_id;
	d->protocol = packet->protocol;
	d->started_ns = now_ns;
	return d;
}

/* Marks [start, end) as received; false when some of it was. */
static bool datagram_mark(struct datagram *d, uint32_t start, uint32_t end)
{
	for (uint32_t unit = start / 8; unit < (end + 7) / 8; unit++) {
		uint64_t bit = UINT64_C(1) << unit % 64;

		if (d->have[unit / 64] & bit)
			return false;
		d->have[unit / 64] |= bit;
	}
	return true;
}

/* packet_parse() has made sure that the fragment ends within 65535 bytes. */
static bool datagram_add(struct datagram *d, const struct packet *packet, const uint8_t *frame)
{
	uint32_t start = packet->fragment_offset, end = start + packet->transport_len;

	if (d->total && end > d->total)
		return false;
	if (!packet->more_fragments) {
		/* A second last fragment ends here or overlaps. */
		if (end < d->end)
			return false;
		d->total = end;
	}
	if (!datagram_mark(d, start, end))
		return false;
	memcpy(d->data + start, frame + packet->transport_offset, packet->transport_len);
	d->n_received += packet->transport_len;
	d->end = MAX(d->end, end);
	if (start == 0) {
		d->header_len = packet->transport_offset;
		memcpy(d->header, frame, d->header_len);
	}
	return true;
}

/* Nothing overlaps: so many bytes as the total can only be all of them. */
static bool datagram_is_complete(const struct datagram *d)
{
	return d->total && d->n_received == d->total;
}

/* The length of the frame; 0 when header and data together are too long. */
static size_t datagram_write(const struct datagram *d, uint8_t *frame)
{
	size_t len = d->header_len + d->total, ip_len = len - ETH_HEADER_LEN;
	struct ip4_header *ip = (struct ip4_header *)(frame + ETH_HEADER_LEN);

	if (ip_len > IP4_LEN_MAX)
		return 0;
	memcpy(frame, d->header, d->header_len);
	memcpy(frame + d->header_len, d->data, d->total);
	ip->total_length = be16_of((uint16_t)ip_len);
	ip->fragment = be16_of(0);
	ip->checksum = be16_of(0);
	ip->checksum = checksum_finish(checksum_add(0, ip, d->header_len - ETH_HEADER_LEN));
	return len;
}

enum reassembly_outcome reassembly_add(struct reassembly *reassembly, const struct packet *packet,
	uint8_t *frame, int64_t now_ns, size_t *ret_len)
{
	struct datagram **slot = slot_find(reassembly, packet, now_ns);
	struct datagram *d = *slot;

	if (!d)
		d = *slot = datagram_new(packet, now_ns);
	if (!d || !datagram_add(d, packet, frame))
		return slot_give_up(reassembly, slot);
	if (!datagram_is_complete(d))
		return REASSEMBLY_WAITS;
	*ret_len = datagram_write(d, frame);
	if (!*ret_len)
		return slot_give_up(reassembly, slot);
	slot_clear(slot);
	return REASSEMBLY_COMPLETE;
}
