/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/unreachable.h"

#include "wire/icmp.h"

size_t icmp_error_answer(const struct policy *policy, struct icmp_limit *limit,
	const uint8_t *frame, const struct packet *packet, uint8_t type, uint8_t code,
	uint32_t rest, int64_t now_ns, uint8_t *answer)
{
	struct icmp_sender sender = {.addr = policy_gateway(policy, packet->src.family)};

	if (!icmp_error_allowed(frame, packet) ||
		policy_is_directed_broadcast(policy, &packet->dst))
		return 0;
	if (!icmp_limit_take(limit, now_ns))
		return 0;
	sender.mac = egress_mac(&sender.addr);
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

void unreachable_send(struct egress *egress, struct icmp_limit *limit, const uint8_t *frame,
	const struct packet *packet, uint8_t code4, uint8_t code6, int64_t now_ns)
{
	uint8_t answer[UNREACHABLE_MAX];
	size_t len = unreachable_answer(egress->policy, limit, frame, packet,
		packet->ethertype == ETH_TYPE_IP4 ? code4 : code6, now_ns, answer);

	if (len)
		egress_frame(egress, answer, len);
}
