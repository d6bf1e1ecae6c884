/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/unreachable.h"

#include "wire/icmp.h"

/* libslirp's addresses on the wire: 52:55 and the IPv4 address, 52:56 and the last four bytes of
 * the IPv6 address. */
static struct icmp_sender gateway_of(const struct policy *policy, uint16_t ethertype)
{
	struct icmp_sender sender = {.mac = {{0x52, 0x55}}};

	if (ethertype == ETH_TYPE_IP4) {
		sender.addr = ip_addr_of_v4(policy->gateway);
	} else {
		sender.mac.b[1] = 0x56;
		sender.addr = ip_addr_of_v6(&policy->gateway6);
	}
	memcpy(&sender.mac.b[2], &sender.addr.in6.s6_addr[12], 4);
	return sender;
}

size_t icmp_error_answer(const struct policy *policy, struct icmp_limit *limit,
	const uint8_t *frame, const struct packet *packet, uint8_t type, uint8_t code,
	uint32_t rest, int64_t now_ns, uint8_t *answer)
{
	struct icmp_sender sender = gateway_of(policy, packet->ethertype);

	if (!icmp_error_allowed(frame, packet) ||
		policy_is_directed_broadcast(policy, &packet->dst))
		return 0;
	if (!icmp_limit_take(limit, now_ns))
		return 0;
	return icmp_build_error(answer, &sender, frame, packet, type, code, rest);
}

size_t unreachable_answer(const struct policy *policy, struct icmp_limit *limit,
	const uint8_t *frame, const struct packet *packet, uint8_t code, int64_t now_ns,
	uint8_t *answer)
{
	uint8_t type = packet->ethertype == ETH_TYPE_IP4 ? ICMP_DESTINATION_UNREACHABLE
							 : ICMP6_DESTINATION_UNREACHABLE;

	return icmp_error_answer(policy, limit, frame, packet, type, code, 0, now_ns, answer);
}
