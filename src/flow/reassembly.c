/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/reassembly.h"

#include <stdlib.h>

#include "base/clock.h"
#include "wire/checksum.h"
#include "wire/ip4.h"
#include "wire/ip6.h"

#define UNITS_MAX   (65536 / 8)
#define HEADER_MAX  (ETH_HEADER_LEN + IP4_HEADER_MAX)
#define HEADER6_LEN (ETH_HEADER_LEN + IP6_HEADER_LEN)

_Static_assert(HEADER_MAX >= HEADER6_LEN, "the headers of both families fit");

struct datagram {
	struct ip_addr src, dst;
	uint32_t id;
	uint8_t protocol;
	int64_t started_ns;
	uint32_t n_received; /* bytes */
	uint32_t end;        /* of the last byte received */
	uint32_t total;      /* length of the data; 0: the last fragment is missing */
	uint32_t header_len; /* of the whole's frame, up to the data; 0: the first fragment is
				missing */
	uint8_t header[HEADER_MAX];
	/* The first fragment's frame, to be quoted; len 0: it is missing, or nobody could say of
	 * what it is a fragment. */
	struct packet first;
	uint8_t first_frame[REASSEMBLY_FIRST_MAX];
	uint64_t have[UNITS_MAX / 64]; /* one bit per 8 bytes */
	uint8_t data[65536];
};

void reassembly_init(struct reassembly *reassembly, struct counters *counters)
{
	*reassembly = (struct reassembly){.counters = counters};
}

void reassembly_done(struct reassembly *reassembly)
{
	if (reassembly->timers)
		timer_cancel(reassembly->timers, &reassembly->timer);
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

static bool slot_expire(struct reassembly *reassembly, struct datagram **slot, int64_t now_ns)
{
	struct datagram *d = *slot;

	if (!d || now_ns - d->started_ns < REASSEMBLY_TIMEOUT_NS)
		return false;
	if (reassembly->expired && d->first.len)
		reassembly->expired(reassembly->owner, d->first_frame, &d->first, now_ns);
	slot_give_up(reassembly, slot);
	return true;
}

static void on_timer(struct timer *timer, int64_t now_ns)
{
	struct reassembly *reassembly = container_of(timer, struct reassembly, timer);
	int64_t oldest_ns = CLOCK_NEVER;

	for (size_t i = 0; i < ARRAY_SIZE(reassembly->datagrams); i++) {
		struct datagram **slot = &reassembly->datagrams[i];

		if (*slot && !slot_expire(reassembly, slot, now_ns))
			oldest_ns = MIN(oldest_ns, (*slot)->started_ns);
	}
	if (oldest_ns != CLOCK_NEVER)
		timer_arm(reassembly->timers, timer, oldest_ns + REASSEMBLY_TIMEOUT_NS);
}

void reassembly_watch(struct reassembly *reassembly, struct timer_heap *timers,
	reassembly_expired_fn *expired, void *owner)
{
	reassembly->timers = timers;
	reassembly->timer.fire = on_timer;
	reassembly->expired = expired;
	reassembly->owner = owner;
}

/* In IPv6 the next header counts in the first fragment only (RFC 8200 4.5). */
static bool datagram_has(const struct datagram *d, const struct packet *packet)
{
	return d->id == packet->fragment_id &&
		(d->protocol == packet->protocol || packet->ethertype == ETH_TYPE_IP6) &&
		ip_addr_equal(&d->src, &packet->src) && ip_addr_equal(&d->dst, &packet->dst);
}

/* The slot of the packet's datagram, else one that is free (made so if need be). What is too old
 * is given up on the way. */
static struct datagram **slot_find(
	struct reassembly *reassembly, const struct packet *packet, int64_t now_ns)
{
	struct datagram **unused = NULL, **oldest = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(reassembly->datagrams); i++) {
		struct datagram **slot = &reassembly->datagrams[i];

		slot_expire(reassembly, slot, now_ns);
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

/* What stands in front of the whole's data; the lengths are not in it yet. */
static uint32_t header_write(uint8_t *header, const struct packet *packet, const uint8_t *frame)
{
	struct ip6_header *ip6 = (struct ip6_header *)(header + ETH_HEADER_LEN);

	if (packet->ethertype == ETH_TYPE_IP4) {
		memcpy(header, frame, packet->transport_offset);
		return packet->transport_offset;
	}
	memcpy(header, frame, HEADER6_LEN);
	ip6->next_header = packet->protocol;
	return HEADER6_LEN;
}

static void first_keep(struct datagram *d, const struct packet *packet, const uint8_t *frame)
{
	if (packet->transport_offset >= sizeof(d->first_frame))
		return;
	d->first = *packet;
	d->first.len = MIN(packet->len, (uint32_t)sizeof(d->first_frame));
	memcpy(d->first_frame, frame, d->first.len);
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
		d->header_len = header_write(d->header, packet, frame);
		first_keep(d, packet, frame);
	}
	return true;
}

/* Nothing overlaps: so many bytes as the total can only be all of them. */
static bool datagram_is_complete(const struct datagram *d)
{
	return d->total && d->n_received == d->total;
}

static void lengths_write4(struct ip4_header *ip, size_t header_len, size_t data_len)
{
	ip->total_length = be16_of((uint16_t)(header_len + data_len));
	ip->fragment = be16_of(0);
	ip->checksum = be16_of(0);
	ip->checksum = checksum_finish(checksum_add(0, ip, header_len));
}

/* The length of the frame; 0 when header and data together are too long. */
static size_t datagram_write(const struct datagram *d, uint8_t *frame)
{
	size_t ip_header_len = d->header_len - ETH_HEADER_LEN;
	void *ip = frame + ETH_HEADER_LEN;

	if (d->src.family == AF_INET && ip_header_len + d->total > IP4_LEN_MAX)
		return 0;
	memcpy(frame, d->header, d->header_len);
	memcpy(frame + d->header_len, d->data, d->total);
	if (d->src.family == AF_INET)
		lengths_write4(ip, ip_header_len, d->total);
	else
		((struct ip6_header *)ip)->payload_length = be16_of((uint16_t)d->total);
	return d->header_len + d->total;
}

/* Only IPv6 has such fragments. */
static bool is_whole(const struct packet *packet)
{
	return !packet->more_fragments && !packet->fragment_offset;
}

static size_t whole_write(const struct packet *packet, uint8_t *frame)
{
	struct ip6_header *ip = (struct ip6_header *)(frame + ETH_HEADER_LEN);

	ip->next_header = packet->protocol;
	ip->payload_length = be16_of((uint16_t)packet->transport_len);
	memmove(frame + HEADER6_LEN, frame + packet->transport_offset, packet->transport_len);
	return HEADER6_LEN + packet->transport_len;
}

static enum reassembly_outcome add(struct reassembly *reassembly, const struct packet *packet,
	uint8_t *frame, int64_t now_ns, size_t *ret_len)
{
	struct datagram **slot = slot_find(reassembly, packet, now_ns);
	struct datagram *d = *slot;

	if (!d)
		d = *slot = datagram_new(packet, now_ns);
	if (d && reassembly->timers && !timer_is_armed(&reassembly->timer))
		timer_arm(reassembly->timers, &reassembly->timer,
			d->started_ns + REASSEMBLY_TIMEOUT_NS);
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

enum reassembly_outcome reassembly_add(struct reassembly *reassembly, const struct packet *packet,
	uint8_t *frame, int64_t now_ns, size_t *ret_len)
{
	if (!is_whole(packet))
		return add(reassembly, packet, frame, now_ns, ret_len);
	*ret_len = whole_write(packet, frame);
	return REASSEMBLY_COMPLETE;
}
