/* SPDX-License-Identifier: Apache-2.0 */
#include "stack.h"

#include <errno.h>
#include <limits.h>
#include <sys/random.h>

#include "base/util.h"
#include "wire/icmp.h"
#include "wire/icmp_about.h"
#include "wire/udp.h"
#include "wire/vnet.h"

/* TCP flows, however many descriptors there may be. */
#define TCP_FLOWS_MAX 1000000
/* Descriptors that they leave to the rest; at most a quarter of what there is. */
#define TCP_RESERVE 64
/* Of connections with two descriptors, which have half of all; and of pipes, with two. */
#define SPLICE_FLOWS_MAX 500000
#define SPLICE_PIPES_MAX 256
/* Sockets of datagrams; at most half, an eighth and an eighth of all descriptors. */
#define UDP_FLOWS_MAX   8192
#define PING_FLOWS_MAX  256
#define DNS_SOCKETS_MAX 1024
/* Clients of published UDP ports; at most a quarter. */
#define UDP_CLIENTS_MAX 8192

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

/* libslirp knows ordinary frames only; nobody asks in runs. */
static void dhcp_input(struct stack *stack, uint8_t *frame, struct packet *packet)
{
	uint8_t *buf = frame - LINK_HEADER_LEN;
	const struct vnet_header *vnet = (const struct vnet_header *)buf;

	if (vnet->gso_type == VNET_GSO_UDP_L4) {
		count(stack->config.counters, COUNTER_DROP_GSO);
		return;
	}
	ingress_complete_checksum(buf, packet);
	bridge_input(stack->config.bridge, frame, packet);
}

static void udp_input(struct stack *stack, uint8_t *frame, struct packet *packet)
{
	const struct udp_header *udp =
		(const struct udp_header *)(frame + packet->transport_offset);
	const uint16_t port = be16_get(udp->dst_port);

	if (is_for_nameserver(stack, packet, port))
		dns_input(stack->dns, frame, packet);
	else if (is_for_dhcp(stack, packet, port))
		dhcp_input(stack, frame, packet);
	else if (!publish_udp_input(stack->publish, frame, packet))
		udpflow_input(&stack->udpflow, frame, packet);
}

/* ---- ICMP and ARP ---- */

static void error_input(struct stack *stack, uint8_t *frame, struct packet *packet)
{
	struct icmp_about about;

	if (icmp_about_parse(frame, packet, &about) && about.protocol == IPPROTO_TCP)
		tcpflow_near_error(&stack->tcpflow, frame, packet);
	else if (!publish_udp_near_error(stack->publish, frame, packet))
		udpflow_near_error(&stack->udpflow, frame, packet);
}

static void icmp4_input(struct stack *stack, uint8_t *frame, struct packet *packet, uint8_t type)
{
	switch (type) {
	case ICMP_ECHO:
		icmpflow_input(&stack->icmpflow, frame, packet);
		break;
	case ICMP_DESTINATION_UNREACHABLE:
		error_input(stack, frame, packet);
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
	case ICMP6_DESTINATION_UNREACHABLE:
	case ICMP6_PACKET_TOO_BIG:
		error_input(stack, frame, packet);
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

/* ---- neighbours ---- */

static void heard(void *arg, const struct ip_addr *addr, const struct eth_addr *mac)
{
	struct stack *stack = arg;

	tcpflow_neighbor(&stack->tcpflow, addr, mac);
	publish_neighbor(stack->publish, addr, mac);
}

static bool guest6(void *arg, struct in6_addr *ret)
{
	const struct stack *stack = arg;

	return gateway_guest6(&stack->gateway, ret);
}

/* ---- the ways in ---- */

void stack_input(
	struct stack *stack, enum ingress_result kind, uint8_t *frame, struct packet *packet)
{
	bridge_saw(stack->config.bridge, packet);
	gateway_saw(&stack->gateway, packet);
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
	case HANDLE_SPLICE_NEAR:
	case HANDLE_SPLICE_FAR:
		splice_ready(stack->splice, handle, events);
		break;
	case HANDLE_PUBLISH:
	case HANDLE_PUBLISH_UDP:
		publish_ready(stack->publish, handle, events);
		break;
	default:
		break;
	}
}

struct forward_backend *stack_publish_backend(struct stack *stack)
{
	return publish_backend(stack->publish);
}

void stack_answer(struct stack *stack)
{
	tcpflow_answer(&stack->tcpflow);
}

/* Clients that were accepted go on in the same turn. */
bool stack_finish(struct stack *stack)
{
	bool more = publish_finish(stack->publish);

	more = (stack->splice && splice_finish(stack->splice)) || more;
	more = tcpflow_finish(&stack->tcpflow) || more;
	dns_finish(stack->dns);
	return udpflow_finish(&stack->udpflow) || more;
}

void stack_link_gone(struct stack *stack)
{
	publish_finish(stack->publish);
	udpflow_finish(&stack->udpflow);
	if (stack->splice)
		splice_stop(stack->splice);
	stack->egress.link = NULL;
	tcpflow_link_gone(&stack->tcpflow);
}

bool stack_has_unsent(const struct stack *stack)
{
	return tcpflow_has_unsent(&stack->tcpflow) ||
		(stack->splice && splice_has_unsent(stack->splice));
}

/* ---- life ---- */

/* Of `n` descriptors those that flows may use up. */
static uint64_t without_reserve(uint64_t n)
{
	return n - MIN(TCP_RESERVE, n / 4);
}

int stack_max_fd(uint64_t limit)
{
	return (int)MIN(without_reserve(limit), INT_MAX);
}

static int start_tcpflow(struct stack *stack)
{
	const struct stack_config *c = &stack->config;
	const struct tcpflow_config config = {
		.policy = c->policy,
		.link = c->link,
		.host = c->host,
		.loop = c->loop,
		.counters = c->counters,
		.icmp_limit = c->icmp_limit,
		.next_hop = &stack->gateway.next_hop,
		.key = &stack->key,
		.mtu = c->mtu,
		.max_flows = (uint32_t)MIN(without_reserve(c->descriptors), TCP_FLOWS_MAX),
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

static int start_splice(struct stack *stack)
{
	const struct stack_config *c = &stack->config;
	const struct splice_config config = {
		.loop = c->loop,
		.counters = c->counters,
		.sockets = c->sockets,
		.key = &stack->key,
		.max_flows = (uint32_t)MAX(MIN(c->descriptors / 4, SPLICE_FLOWS_MAX), 1),
		.memory = c->memory / 4,
		.max_fd = stack_max_fd(c->descriptor_limit),
		.max_pipes = MIN(c->descriptors / 16, SPLICE_PIPES_MAX),
	};

	if (!c->sockets)
		return 0;
	stack->splice = splice_new(&config);
	return stack->splice ? 0 : -ENOMEM;
}

static int start_publish(struct stack *stack)
{
	const struct stack_config *c = &stack->config;
	const struct publish_config config = {
		.policy = c->policy,
		.host = c->host,
		.loop = c->loop,
		.counters = c->counters,
		.egress = &stack->egress,
		.icmp_limit = c->icmp_limit,
		.next_hop = &stack->gateway.next_hop,
		.tcpflow = &stack->tcpflow,
		.splice = stack->splice,
		.sockets = c->sockets,
		.key = &stack->key,
		.max_udp_clients = (uint32_t)MAX(MIN(c->descriptors / 4, UDP_CLIENTS_MAX), 1),
		.max_fd = stack_max_fd(c->descriptor_limit),
		.guest6 = guest6,
		.arg = stack,
	};

	stack->publish = publish_new(&config);
	return stack->publish ? 0 : -ENOMEM;
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
	if ((r = start_tcpflow(stack)) < 0 || (r = start_datagrams(stack)) < 0 ||
		(r = start_splice(stack)) < 0 || (r = start_publish(stack)) < 0)
		return r;
	stack->gateway.heard = heard;
	stack->gateway.heard_arg = stack;
	return 0;
}

void stack_done(struct stack *stack)
{
	publish_free(stack->publish);
	splice_free(stack->splice);
	dns_free(stack->dns);
	icmpflow_done(&stack->icmpflow);
	udpflow_done(&stack->udpflow);
	tcpflow_done(&stack->tcpflow);
}
