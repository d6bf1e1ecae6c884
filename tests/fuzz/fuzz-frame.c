/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames through the filter. The input is a byte of settings and then frames, each behind its
 * length (2 bytes, big-endian); the last may be shorter than it says.
 *
 * Besides the sanitizers' findings it fails when something comes through that must not: a frame
 * that does not parse, a fragment, an address that is never dialled, urgent data; and when the
 * filter makes a right checksum wrong.
 */
#include <stdlib.h>

#include "base/util.h"
#include "slirp/filter.h"
#include "wire/checksum.h"
#include "wire/icmp_error.h"
#include "wire/packet.h"
#include "wire/tcp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum setting {
	SETTING_NO_IPV6 = 1 << 0,
	SETTING_LARGE_MTU = 1 << 1,
	SETTING_SLOW = 1 << 2, /* 10 s between frames */
};

#define REQUIRE(condition)        \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

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

static bool tcp_checksum_is_right(const uint8_t *frame, const struct packet *p)
{
	struct ip6_addr src6, dst6;
	be32 src4, dst4;
	uint64_t sum;

	if (p->ethertype == ETH_TYPE_IP4) {
		memcpy(&src4, &p->src.in6.s6_addr[12], sizeof(src4));
		memcpy(&dst4, &p->dst.in6.s6_addr[12], sizeof(dst4));
		sum = checksum_pseudo4(src4, dst4, IPPROTO_TCP, (uint16_t)p->transport_len);
	} else {
		memcpy(&src6, &p->src.in6, sizeof(src6));
		memcpy(&dst6, &p->dst.in6, sizeof(dst6));
		sum = checksum_pseudo6(&src6, &dst6, IPPROTO_TCP, p->transport_len);
	}
	sum = checksum_add(sum, frame + p->transport_offset, p->transport_len);
	return be16_get(checksum_finish(sum)) == 0;
}

static bool is_tcp(enum packet_outcome outcome, const struct packet *p)
{
	return outcome == PACKET_OK && p->protocol == IPPROTO_TCP && p->transport_header_len;
}

static void check_passed(const struct filter *filter, const uint8_t *frame, size_t len)
{
	struct packet p;
	const struct tcp_header *tcp;

	REQUIRE(packet_parse(frame, len, &p) == PACKET_OK);
	REQUIRE(p.len == len && !p.is_fragment && !p.source_routed);
	if (p.ethertype == ETH_TYPE_ARP)
		return;
	REQUIRE(p.ethertype == ETH_TYPE_IP4 || filter->policy->ipv6);
	REQUIRE(policy_check(filter->policy, &p.dst, p.protocol) == POLICY_PASS);
	if (p.protocol != IPPROTO_TCP)
		return;
	tcp = (const struct tcp_header *)(frame + p.transport_offset);
	REQUIRE(!(tcp->flags & TCP_URG) && !be16_get(tcp->urgent));
}

static void check_answer(const uint8_t *answer, size_t len)
{
	struct packet p;

	REQUIRE(len <= FILTER_ANSWER_MAX);
	REQUIRE(packet_parse(answer, len, &p) == PACKET_OK && p.len == len);
	REQUIRE(!icmp_error_allowed(answer, &p)); /* it is one */
}

static void check_frame(struct filter *filter, const uint8_t *data, size_t len, int64_t now_ns)
{
	static uint8_t frame[FILTER_FRAME_MAX], answer[FILTER_ANSWER_MAX];
	enum packet_outcome outcome;
	struct packet before, after;
	bool was_right;
	size_t ret_len;

	memcpy(frame, data, len);
	outcome = packet_parse(data, len, &before); /* of the right size for the sanitizer */
	was_right = is_tcp(outcome, &before) && tcp_checksum_is_right(data, &before);
	switch (filter_frame(filter, frame, len, now_ns, answer, &ret_len)) {
	case FILTER_PASS:
		check_passed(filter, frame, ret_len);
		packet_parse(frame, ret_len, &after);
		REQUIRE(!was_right || tcp_checksum_is_right(frame, &after));
		break;
	case FILTER_ANSWER:
		check_answer(answer, ret_len);
		break;
	case FILTER_DROP:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t settings = len ? *data++ : 0;
	struct policy policy = policy_make(!(settings & SETTING_NO_IPV6));
	struct counters counters = {0};
	int64_t now_ns = 0;
	struct filter filter;
	size_t left = len ? len - 1 : 0;

	filter_init(&filter, &policy, settings & SETTING_LARGE_MTU ? 65520 : 1500, &counters);
	while (left >= 2) {
		size_t n = MIN((size_t)data[0] << 8 | data[1], left - 2);
		/* A copy of its own, so that a byte too far is seen. */
		uint8_t *copy = malloc(n ? n : 1);

		REQUIRE(copy);
		memcpy(copy, data + 2, n);
		now_ns += settings & SETTING_SLOW ? 10 * NS_PER_SEC : 1;
		check_frame(&filter, copy, n, now_ns);
		free(copy);
		data += 2 + n;
		left -= 2 + n;
	}
	filter_done(&filter);
	return 0;
}
