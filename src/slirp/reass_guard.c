/* SPDX-License-Identifier: Apache-2.0 */
#include "slirp/reass_guard.h"

#include <libslirp.h>
#include <stdio.h>

#include "wire/checksum.h"
#include "wire/ip6.h"
#include "wire/tcp.h"

/* libslirp loads it from the address as it lies there, and compares in the machine's byte order. */
static uint32_t trigger_of(const struct packet *packet)
{
	uint32_t trigger;

	if (packet->ethertype == ETH_TYPE_IP4)
		return 0;
	memcpy(&trigger, &packet->src.in6.s6_addr[4], sizeof(trigger));
	return trigger;
}

static struct tcp_header *tcp_of(uint8_t *frame, const struct packet *packet)
{
	return (struct tcp_header *)(frame + packet->transport_offset);
}

static uint32_t data_len_of(const struct packet *packet)
{
	return packet->transport_len - packet->transport_header_len;
}

/* ---- changes: the checksum stays as right, or as wrong, as it was ---- */

static void set_field(be16 *checksum, be16 *field, be16 value)
{
	*checksum = checksum_update(*checksum, *field, value);
	*field = value;
}

static void set_seq(struct tcp_header *tcp, uint32_t seq)
{
	be16 half[2];

	memcpy(half, &tcp->seq, sizeof(half));
	set_field(&tcp->checksum, &half[0], be16_of((uint16_t)(seq >> 16)));
	set_field(&tcp->checksum, &half[1], be16_of((uint16_t)seq));
	memcpy(&tcp->seq, half, sizeof(half));
}

static void set_flags(struct tcp_header *tcp, uint8_t flags)
{
	be16 word = {{tcp->offset, tcp->flags}};

	set_field(&tcp->checksum, &word, (be16){{tcp->offset, flags}});
	tcp->flags = flags;
}

static void set_ip_len(uint8_t *frame, const struct packet *packet, uint32_t n_removed)
{
	struct ip4_header *ip4 = (struct ip4_header *)(frame + packet->ip_offset);
	struct ip6_header *ip6 = (struct ip6_header *)(frame + packet->ip_offset);

	if (packet->ethertype == ETH_TYPE_IP4)
		set_field(&ip4->checksum, &ip4->total_length,
			be16_of((uint16_t)(be16_get(ip4->total_length) - n_removed)));
	else
		ip6->payload_length =
			be16_of((uint16_t)(be16_get(ip6->payload_length) - n_removed));
}

static const uint8_t *data_of(const uint8_t *frame, const struct packet *packet)
{
	return frame + packet->transport_offset + packet->transport_header_len;
}

/* What was behind `keep` bytes of data is gone, FIN included. `frame` may have lost them already.
 */
static void cut(uint8_t *frame, struct packet *packet, uint32_t keep, const uint8_t *data)
{
	struct tcp_header *tcp = tcp_of(frame, packet);
	uint32_t len = data_len_of(packet), n_removed = len - keep;

	set_flags(tcp, tcp->flags & (uint8_t)~TCP_FIN);
	for (uint32_t i = keep & ~1u; i < len; i += 2) {
		be16 before = {{data[i], i + 1 < len ? data[i + 1] : 0}};
		be16 after = {{i < keep ? data[i] : 0, 0}};

		tcp->checksum = checksum_update(tcp->checksum, before, after);
	}
	tcp->checksum = checksum_update(tcp->checksum, be16_of((uint16_t)packet->transport_len),
		be16_of((uint16_t)(packet->transport_len - n_removed))); /* pseudo header */
	set_ip_len(frame, packet, n_removed);
	packet->transport_len -= n_removed;
	packet->len -= n_removed;
}

enum reass_verdict reass_guard_check(uint8_t *frame, struct packet *packet)
{
	const struct tcp_header *tcp = tcp_of(frame, packet);
	bool syn = tcp->flags & TCP_SYN, fin = tcp->flags & TCP_FIN;
	uint32_t len = data_len_of(packet);
	uint32_t to_trigger = trigger_of(packet) - (be32_get(tcp->seq) + syn);

	if (SLIRP_CHECK_VERSION(4, 8, 0) || to_trigger > len)
		return REASS_PASS;
	if (to_trigger == 0 && (len || !fin))
		return REASS_PASS;
	if (to_trigger > 1 || syn) {
		cut(frame, packet, to_trigger ? to_trigger - 1 : 0, data_of(frame, packet));
		return REASS_CUT;
	}
	return REASS_ASK;
}

bool reass_guard_apply(enum reass_answer answer, uint8_t *frame, struct packet *packet)
{
	uint32_t len = data_len_of(packet);

	if (answer == REASS_NEXT_ALL)
		return len > 1;
	if (answer == REASS_NEXT_BYTE && len > 1)
		cut(frame, packet, 1, data_of(frame, packet));
	return answer == REASS_NEXT_BYTE;
}

/* ---- the inquiry ---- */

size_t reass_inquiry_begin(struct reass_inquiry *inquiry, const uint8_t *frame,
	const struct packet *packet, uint8_t *ret_probe)
{
	struct packet probe = *packet;
	struct tcp_header *tcp = tcp_of(ret_probe, packet);
	const uint8_t *data = data_of(frame, packet);
	size_t header_len = (size_t)(data - frame);

	if (header_len > REASS_PROBE_MAX)
		return 0;
	memcpy(ret_probe, frame, header_len);
	*inquiry = (struct reass_inquiry){
		.near = packet->src,
		.far = packet->dst,
		.near_port = be16_get(tcp->src_port),
		.far_port = be16_get(tcp->dst_port),
		.next = be32_get(tcp->seq),
	};
	cut(ret_probe, &probe, 0, data);
	set_seq(tcp, inquiry->next - 1);
	return probe.len;
}

bool reass_inquiry_sweep(struct reass_inquiry *inquiry, uint8_t *probe, size_t len)
{
	struct packet packet;
	struct tcp_header *tcp;

	if (!inquiry->n_next || inquiry->n_other || inquiry->near_port == 0 ||
		packet_parse(probe, len, &packet) != PACKET_OK)
		return false;
	inquiry->n_next = inquiry->n_resets = 0;
	tcp = tcp_of(probe, &packet);
	set_field(&tcp->checksum, &tcp->src_port, be16_of(0));
	return true;
}

static bool is_same_addr(const struct ip_addr *a, const struct ip_addr *b)
{
	return a->family == b->family && IN6_ARE_ADDR_EQUAL(&a->in6, &b->in6);
}

void reass_inquiry_saw(struct reass_inquiry *inquiry, const uint8_t *frame, size_t len)
{
	struct packet packet;
	struct tcp_header tcp;

	if (packet_parse(frame, len, &packet) != PACKET_OK || packet.protocol != IPPROTO_TCP ||
		!is_same_addr(&packet.src, &inquiry->far) ||
		!is_same_addr(&packet.dst, &inquiry->near))
		return;
	memcpy(&tcp, frame + packet.transport_offset, sizeof(tcp));
	if (be16_get(tcp.src_port) != inquiry->far_port)
		return;
	if (be16_get(tcp.dst_port) == 0 && tcp.flags & TCP_RST)
		inquiry->n_resets++;
	if (be16_get(tcp.dst_port) != inquiry->near_port)
		return;
	if ((tcp.flags & (TCP_ACK | TCP_RST | TCP_SYN)) == TCP_ACK &&
		be32_get(tcp.ack) == inquiry->next)
		inquiry->n_next++;
	else
		inquiry->n_other++;
}

/* "  TCP[ESTABLISHED]  17  10.0.2.100 40000  192.0.2.1 80  0  0", the last two are what waits for
 * the host, and for the container. Of a connection to a published port the second pair is the near
 * end, and the first one is of the host. */
static bool connection_read(
	const char *line, const struct reass_inquiry *inquiry, enum reass_answer *ret_answer)
{
	char state[16];
	unsigned int first, second, n_waiting;

	if (sscanf(line, " TCP[%15[^]]] %*d %*s %u %*s %u %u", state, &first, &second,
		    &n_waiting) != 4 ||
		!strcmp(state, "HOST_FORWARD"))
		return false;
	if (!strcmp(state, "ESTABLISHED"))
		*ret_answer = REASS_NEXT_BYTE;
	else
		*ret_answer = n_waiting ? REASS_NOT_NEXT : REASS_NEXT_ALL;
	return second == inquiry->near_port ||
		(first == inquiry->near_port && second == inquiry->far_port);
}

/* What holds for all of them. */
static enum reass_answer answer_of(const struct reass_inquiry *inquiry, const char *connections)
{
	enum reass_answer all = REASS_NOT_NEXT, one;
	bool found = false;

	for (const char *line = connections; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!connection_read(line, inquiry, &one))
			continue;
		all = !found || one == all ? one : REASS_NOT_NEXT;
		found = true;
		if (all == REASS_NOT_NEXT)
			break;
	}
	return all;
}

enum reass_answer reass_inquiry_end(const struct reass_inquiry *inquiry, const char *connections)
{
	if (inquiry->n_next || inquiry->n_other || !inquiry->n_resets)
		return REASS_NOT_NEXT;
	return answer_of(inquiry, connections);
}
