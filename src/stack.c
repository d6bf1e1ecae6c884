/* SPDX-License-Identifier: Apache-2.0 */
#include "stack.h"

#include <errno.h>
#include <sys/random.h>

#include "base/util.h"
#include "wire/icmp.h"
#include "wire/udp.h"
#include "wire/vnet.h"

/* TCP flows, however many descriptors there may be. */
#define TCP_FLOWS_MAX 1000000
/* Descriptors that they leave to the rest; at most a quarter of what there is. */
#define TCP_RESERVE 64
/* Sockets of datagrams; at most half, an eighth and an eighth of all descriptors. */
#define UDP_FLOWS_MAX   8192
#define PING_FLOWS_MAX  256
#define DNS_SOCKETS_MAX 1024

/* ---- TCP ---- */

static void tcp_input(struct stack *stack, uint8_t *frame, struct packet *packet)
{
	if (tcpflow_input(&stack->tcpflow, frame, packet) == TCPFLOW_STRAY)
		tcpflow_refuse(&stack->tcpflow, frame, packet);
}

/* ---- UDP ---- */

static bool is_for_dhcp(const struct stack *stack, const struct packet *packet, uint16_t port)
{
	if (port != (packet->src.family == AF_INET ? UDP_PORT_DHCP_SERVER : UDP_PORT_DHCP6_SERVER))
		return false;
	return policy_is_dhcp_server(stack->config.policy, &packet->dst);
}

static bool is_for_nameserver(const struct stack *stack, const struct packet *packet, uint16_t port)
{
	struct ip_addr addr;

	return policy_map(stack->config.policy, &packet->dst, port, IPPROTO_UDP, &addr) ==
		POLICY_NAMESERVER;
}

/* libslirp knows ordinary frames only. */
static void give_to_bridge(struct stack *stack, uint8_t *frame, struct packet *packet)
{
	uint8_t *buf = frame - LINK_HEADER_LEN;
	const struct vnet_header *vnet = (const struct vnet_header *)buf;
	const uint32_t len = packet->transport_len - UDP_HEADER_LEN,
		       size = le16_get(vnet->gso_size);

	if (vnet->gso_type != VNET_GSO_UDP_L4) {
		ingress_complete_checksum(buf, packet);
		bridge_input(stack->config.bridge, frame, packet);
		return;
	}
	for (uint32_t at = 0; at < len; at += size) {
		ingress_single_out(buf, packet, at, MIN(size, len - at));
		bridge_input(stack->config.bridge, frame, packet);
	}
}

static void udp_input(struct stack *stack, uint8_t *frame, struct packet *packet)
{
	const struct udp_header *udp =
		(const struct udp_header *)(frame + packet->transport_offset);
	const uint16_t port = be16_get(udp->dst_port);

	if (is_for_nameserver(stack, packet, port))
		dns_input(stack->dns, frame, packet);
	else if (is_for_dhcp(stack, packet, port))
		give_to_bridge(stack, frame, packet);
	else
		udpflow_input(&stack->udpflow, frame, packet);
}

/* ---- ICMP and ARP ---- */

static void icmp4_input(struct stack *stack, uint8_t *frame, struct packet *packet, uint8_t type)
{
	switch (type) {
	case ICMP_ECHO:
		icmpflow_input(&stack->icmpflow, frame, packet);
		break;
	case ICMP_DESTINATION_UNREACHABLE:
		udpflow_near_error(&stack->udpflow, frame, packet);
		break;
	default:
		count(stack->config.counters, COUNTER_ICMP_DROPPED);
	}
}

/* libslirp, too, has asked for neighbours, and advertises the router. */
static void icmp6_input(struct stack *stack, uint8_t *frame, struct packet *packet, uint8_t type)
{
	switch (type) {
	case ICMP6_ECHO_REQUEST:
		icmpflow_input(&stack->icmpflow, frame, packet);
		break;
	case ICMP6_PACKET_TOO_BIG:
		udpflow_near_error(&stack->udpflow, frame, packet);
		break;
	case ICMP6_ROUTER_SOLICITATION:
	case ICMP6_NEIGHBOR_ADVERTISEMENT:
		bridge_input(stack->config.bridge, frame, packet);
		break;
	default:
		count(stack->config.counters, COUNTER_ICMP_DROPPED);
	}
}

static void icmp_input(struct stack *stack, uint8_t *frame, struct packet *packet)
{
	uint8_t type = frame[packet->transport_offset];

	if (gateway_input(&stack->gateway, frame, packet, stack->config.loop->now_ns) ==
		GATEWAY_TAKEN)
		return;
	if (packet->src.family == AF_INET)
		icmp4_input(stack, frame, packet, type);
	else
		icmp6_input(stack, frame, packet, type);
}

static void arp_input(struct stack *stack, uint8_t *frame, struct packet *packet)
{
	if (gateway_input(&stack->gateway, frame, packet, stack->config.loop->now_ns) ==
		GATEWAY_PASSED)
		bridge_input(stack->config.bridge, frame, packet);
}

/* ---- the ways in ---- */

void stack_input(
	struct stack *stack, enum ingress_result kind, uint8_t *frame, struct packet *packet)
{
	bridge_saw(stack->config.bridge, packet);
	switch (kind) {
	case INGRESS_TCP:
		tcp_input(stack, frame, packet);
		break;
	case INGRESS_UDP:
		udp_input(stack, frame, packet);
		break;
	case INGRESS_ICMP:
		icmp_input(stack, frame, packet);
		break;
	case INGRESS_OTHER:
		arp_input(stack, frame, packet);
		break;
	case INGRESS_ANSWER:
	case INGRESS_DROP:
		break;
	}
}

void stack_ready(struct stack *stack, struct handle handle, uint32_t events)
{
	switch ((enum handle_kind)handle.kind) {
	case HANDLE_TCP:
		tcpflow_host_ready(&stack->tcpflow, handle, events);
		break;
	case HANDLE_UDP:
		udpflow_host_ready(&stack->udpflow, handle, events);
		break;
	case HANDLE_PING:
		icmpflow_host_ready(&stack->icmpflow, handle, events);
		break;
	case HANDLE_DNS:
		dns_host_ready(stack->dns, handle, events);
		break;
	default:
		break;
	}
}

bool stack_finish(struct stack *stack)
{
	bool more_tcp = tcpflow_finish(&stack->tcpflow);

	return udpflow_finish(&stack->udpflow) || more_tcp;
}

void stack_link_gone(struct stack *stack)
{
	udpflow_finish(&stack->udpflow);
	stack->egress.link = NULL;
	tcpflow_link_gone(&stack->tcpflow);
}

bool stack_has_unsent(const struct stack *stack)
{
	return tcpflow_has_unsent(&stack->tcpflow);
}

/* ---- life ---- */

static int start_tcpflow(struct stack *stack)
{
	const struct stack_config *c = &stack->config;
	const uint64_t left = c->descriptors - MIN(TCP_RESERVE, c->descriptors / 4);
	const struct tcpflow_config config = {
		.policy = c->policy,
		.link = c->link,
		.host = c->host,
		.loop = c->loop,
		.counters = c->counters,
		.icmp_limit = c->icmp_limit,
		.key = &stack->key,
		.max_flows = (uint32_t)MIN(left, TCP_FLOWS_MAX),
		.queue_len = c->link->queue_len,
		.memory = c->memory,
	};

	return tcpflow_init(&stack->tcpflow, &config);
}

/* What UDP, echo and DNS work with. */
static struct flow_config datagrams(struct stack *stack, uint64_t max_sockets)
{
	const struct stack_config *c = &stack->config;

	return (struct flow_config){
		.policy = c->policy,
		.egress = &stack->egress,
		.host = c->host,
		.loop = c->loop,
		.counters = c->counters,
		.icmp_limit = c->icmp_limit,
		.key = &stack->key,
		.max_sockets = (uint32_t)MAX(max_sockets, 1),
	};
}

static int start_datagrams(struct stack *stack)
{
	const uint64_t n = stack->config.descriptors;
	const struct flow_config udp = datagrams(stack, MIN(n / 2, UDP_FLOWS_MAX));
	const struct flow_config ping = datagrams(stack, MIN(n / 8, PING_FLOWS_MAX));
	const struct flow_config dns = datagrams(stack, MIN(n / 8, DNS_SOCKETS_MAX));
	int r;

	if ((r = udpflow_init(&stack->udpflow, &udp)) < 0 ||
		(r = icmpflow_init(&stack->icmpflow, &ping)) < 0)
		return r;
	stack->dns = dns_new(&dns);
	return stack->dns ? 0 : -ENOMEM;
}

int stack_init(struct stack *stack, const struct stack_config *config)
{
	uint32_t id_seed;
	int r;

	*stack = (struct stack){.config = *config};
	r = siphash_key_random(&stack->key);
	if (r < 0)
		return r;
	if (getrandom(&id_seed, sizeof(id_seed), 0) != sizeof(id_seed))
		return -EIO;
	egress_init(&stack->egress, config->policy, config->link, config->mtu, id_seed,
		config->counters);
	gateway_init(&stack->gateway, config->policy, &stack->egress, config->loop, &stack->key,
		config->counters);
	r = start_tcpflow(stack);
	return r < 0 ? r : start_datagrams(stack);
}

void stack_done(struct stack *stack)
{
	dns_free(stack->dns);
	icmpflow_done(&stack->icmpflow);
	udpflow_done(&stack->udpflow);
	tcpflow_done(&stack->tcpflow);
}
