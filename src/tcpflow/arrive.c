/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of published ports: the container is dialled in their name.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/util.h"
#include "flow/egress.h"
#include "tcpflow/internal.h"
#include "wire/icmp_about.h"

/* Ports that are tried when the client's own is in use between the two. */
#define PORTS_TRIED 64
#define PORT_MIN    1024

/* ---- what an arrival holds ---- */

static struct ip_addr addr_of(const struct in6_addr *in6, uint8_t family)
{
	return (struct ip_addr){.family = family, .in6 = *in6};
}

static struct ip_addr near_of(const struct tcp_flow *flow)
{
	return addr_of(&flow->flow.key.near, flow->flow.key.family);
}

void tcp_arrival_opened(struct tcp_flow *flow)
{
	if (!flow->usage)
		return;
	flow->usage->n_opened++;
	flow->usage->n_active++;
	flow->is_active = true;
}

void tcp_arrival_leave(struct tcp_flow *flow)
{
	if (flow->is_active)
		flow->usage->n_active--;
	flow->is_active = false;
}

void tcp_arrival_forget(struct tcp_flow *flow)
{
	struct next_hop *next_hop = flow->owner->config.next_hop;
	const struct ip_addr far = addr_of(&flow->flow.key.far, flow->flow.key.family);

	if (!flow->is_arrival)
		return;
	tcp_arrival_leave(flow);
	usage_unref(flow->usage);
	flow->usage = NULL;
	next_hop->ops->release(next_hop, &far);
}

void tcp_arrival_turn_away(struct tcp_flow *flow)
{
	if (flow->usage)
		flow->usage->n_refused++;
	tcp_flow_reset_far(flow);
}

/* ---- dialling ---- */

bool tcp_arrival_find(struct tcp_flow *flow, bool again)
{
	struct next_hop *next_hop = flow->owner->config.next_hop;
	const struct ip_addr near = near_of(flow);

	return next_hop->ops->find(next_hop, &near, again, &flow->near_mac);
}

void tcp_arrival_dial(struct tcp_flow *flow)
{
	tcp_flow_set_state(flow, TCP_SYN_SENT);
	flow->idle_ns = CLOCK_NEVER;
	tcp_send_syn(flow);
	tcp_rtt_sent(&flow->rtt, flow->snd_nxt, tcp_now_ns(flow));
	flow->unanswered_since_ns = tcp_now_ns(flow);
	flow->retransmit_ns = tcp_now_ns(flow) + tcp_rtt_timeout(&flow->rtt);
	tcp_timer_update(flow);
}

static void resolve(struct tcp_flow *flow)
{
	if (tcp_arrival_find(flow, false)) {
		tcp_arrival_dial(flow);
		return;
	}
	flow->retransmit_ns = tcp_now_ns(flow) + TCP_ASK_AGAIN_NS;
	flow->idle_ns = tcp_now_ns(flow) + NEXT_HOP_GIVE_UP_NS;
	tcp_timer_update(flow);
}

/* ---- arriving ---- */

static bool can_meet(const struct tcp_arrival *arrival)
{
	return arrival->near_port && arrival->far_port && ip_addr_is_unicast(&arrival->near) &&
		ip_addr_is_unicast(&arrival->far);
}

/* The client's own port if it is free between the two, which it is but for clients of several
 * published ports of one server, and for what the container has dialled itself. */
static bool choose_port(const struct tcpflow *tcpflow, struct flow_key *key)
{
	uint64_t seed = siphash(&tcpflow->isn_key, key, sizeof(*key));

	for (uint32_t i = 0; i < PORTS_TRIED; i++) {
		if (!flow_table_find(&tcpflow->table, key))
			return true;
		key->far_port = (uint16_t)(PORT_MIN + (seed + i) % (UINT16_MAX + 1 - PORT_MIN));
	}
	return false;
}

/* The oldest in TIME_WAIT give way. Nobody else holds a pointer to a flow now. */
static bool make_room(struct tcpflow *tcpflow)
{
	const struct flow_table *table = &tcpflow->table;
	struct list *node;

	while (table->n_flows >= table->max_flows && (node = list_take(&tcpflow->waiting))) {
		tcp_flow_end_near(container_of(node, struct tcp_flow, waiting));
		flow_table_sweep(&tcpflow->table);
	}
	return table->n_flows < table->max_flows;
}

/* Those that the container has not answered for longest give way: the clients of a server that is
 * silent take no place for long from those of others. */
static void limit_arriving(struct tcpflow *tcpflow)
{
	struct list *node;

	while (tcpflow->n_arriving >= tcpflow->max_half_open) {
		node = list_take(&tcpflow->dialled);
		if (!node)
			node = list_take(&tcpflow->resolving);
		if (!node)
			return;
		tcp_arrival_turn_away(container_of(node, struct tcp_flow, waiting));
		count(tcpflow->config.counters, COUNTER_TCP_REFUSED);
		flow_table_sweep(&tcpflow->table);
	}
}

static int check_room(struct tcpflow *tcpflow)
{
	limit_arriving(tcpflow);
	if (make_room(tcpflow))
		return 0;
	count(tcpflow->config.counters, COUNTER_TCP_REFUSED);
	return -ENOSPC;
}

/* Its address is claimed from here on. */
static void set_up(
	struct tcp_flow *flow, struct tcpflow *tcpflow, const struct tcp_arrival *arrival)
{
	const struct ip_addr gateway = policy_gateway(tcpflow->config.policy, arrival->near.family);

	flow->is_arrival = true;
	tcp_flow_set_up(flow, tcpflow, TCP_RESOLVING);
	flow->our_mac = egress_mac(&gateway);
	flow->far_addr = arrival->far;
	flow->usage = arrival->usage ? usage_ref(arrival->usage) : NULL;
	flow->mss = tcp_link_mss(flow);
	flow->has_window_scale = true;
	flow->rcv_wnd_max = tcp_flow_window_max(flow);
}

static int adopt(struct tcp_flow *flow, int fd)
{
	struct host *host = flow->owner->config.host;
	const struct handle handle = {
		.kind = HANDLE_TCP,
		.index = flow->flow.index,
		.generation = flow->flow.generation,
	};
	int r = host->ops->tcp_adopt(host, fd, handle);

	if (r < 0)
		return r;
	flow->fd = fd;
	flow->far_writable = true;
	return 0;
}

static int open_flow(
	struct tcpflow *tcpflow, const struct flow_key *key, const struct tcp_arrival *arrival)
{
	struct next_hop *next_hop = tcpflow->config.next_hop;
	struct flow *added;
	struct tcp_flow *flow;
	int r;

	r = next_hop->ops->claim(next_hop, &arrival->far);
	if (r < 0)
		return r;
	added = flow_table_add(&tcpflow->table, key);
	if (!added) {
		next_hop->ops->release(next_hop, &arrival->far);
		return -ENOMEM;
	}
	flow = container_of(added, struct tcp_flow, flow);
	set_up(flow, tcpflow, arrival);
	r = adopt(flow, arrival->fd);
	if (r < 0) {
		tcp_flow_close(flow);
		return r;
	}
	count(tcpflow->config.counters, COUNTER_TCP_ARRIVED);
	resolve(flow);
	return 0;
}

int tcpflow_arrive(struct tcpflow *tcpflow, const struct tcp_arrival *arrival)
{
	struct flow_key key = {
		.near = arrival->near.in6,
		.far = arrival->far.in6,
		.near_port = arrival->near_port,
		.far_port = arrival->far_port,
		.family = arrival->near.family,
	};
	int r;

	if (!tcpflow->config.link)
		return -ENETDOWN;
	if (arrival->near.family != arrival->far.family)
		return -EAFNOSUPPORT;
	if (!can_meet(arrival))
		return -EINVAL;
	r = check_room(tcpflow);
	if (r < 0)
		return r;
	if (!choose_port(tcpflow, &key))
		return -EADDRINUSE;
	return open_flow(tcpflow, &key, arrival);
}

/* ---- what is heard of the container ---- */

static bool is_meant(struct tcp_flow *flow, const struct ip_addr *addr, const struct eth_addr *mac)
{
	const struct ip_addr near = near_of(flow);

	if (!policy_on_link(flow->owner->config.policy, &near))
		return tcp_arrival_find(flow, false);
	if (!ip_addr_equal(&near, addr))
		return false;
	flow->near_mac = *mac;
	return true;
}

void tcpflow_neighbor(
	struct tcpflow *tcpflow, const struct ip_addr *addr, const struct eth_addr *mac)
{
	struct list waiting, *node;

	list_init(&waiting);
	list_move(&waiting, &tcpflow->resolving);
	while ((node = list_take(&waiting))) {
		struct tcp_flow *flow = container_of(node, struct tcp_flow, waiting);

		list_append(&tcpflow->resolving, node);
		if (is_meant(flow, addr, mac))
			tcp_event(flow, TCP_EVENT_NEIGHBOR, NULL);
	}
}

/* That the packet is too big is none: a SYN fits. */
static bool is_unreachable(const struct icmp_header *icmp, uint8_t family)
{
	if (family == AF_INET)
		return icmp->type == ICMP_DESTINATION_UNREACHABLE &&
			icmp->code != ICMP_FRAGMENTATION_NEEDED;
	return icmp->type == ICMP6_DESTINATION_UNREACHABLE;
}

/* What every error quotes of a segment. */
struct quote {
	be16 src_port, dst_port;
	be32 seq;
};
_Static_assert(sizeof(struct quote) == ICMP_ABOUT_HEADER_LEN, "no padding");

/* The flow whose SYN it is about. */
static struct tcp_flow *flow_about(struct tcpflow *tcpflow, const struct icmp_about *about)
{
	struct quote quote;
	struct flow_key key = {
		.near = about->dst.in6, .far = about->src.in6, .family = about->dst.family};
	struct flow *found;
	struct tcp_flow *flow;

	memcpy(&quote, about->header, sizeof(quote));
	key.near_port = be16_get(quote.dst_port);
	key.far_port = be16_get(quote.src_port);
	found = flow_table_find(&tcpflow->table, &key);
	if (!found)
		return NULL;
	flow = container_of(found, struct tcp_flow, flow);
	return flow->state == TCP_SYN_SENT && be32_get(quote.seq) == flow->iss ? flow : NULL;
}

/* RFC 5927 5: an error ends what is not yet a connection, and only one about the SYN that is under
 * way. */
void tcpflow_near_error(struct tcpflow *tcpflow, const uint8_t *frame, const struct packet *packet)
{
	const struct icmp_header *icmp =
		(const struct icmp_header *)(frame + packet->transport_offset);
	struct icmp_about about;
	struct tcp_flow *flow = NULL;

	if (is_unreachable(icmp, packet->src.family) && icmp_about_parse(frame, packet, &about) &&
		about.protocol == IPPROTO_TCP)
		flow = flow_about(tcpflow, &about);
	if (flow)
		tcp_event(flow, TCP_EVENT_NEAR_ERROR, NULL);
	else
		count(tcpflow->config.counters, COUNTER_ICMP_DROPPED);
}

/* ---- the rule is gone ---- */

/* Of one that is over for the container nobody there is told: its ports may be another's. */
static void reset(struct tcp_flow *flow)
{
	if (flow->state == TCP_TIME_WAIT || flow->state == TCP_DRAINING)
		tcp_flow_reset_far(flow);
	else
		tcp_flow_abort(flow);
}

void tcpflow_reset_all(struct tcpflow *tcpflow, const struct usage *usage)
{
	for (struct flow *f = flow_table_any(&tcpflow->table); f;
		f = flow_table_after(&tcpflow->table, f)) {
		struct tcp_flow *flow = container_of(f, struct tcp_flow, flow);

		if (flow->usage == usage && flow->is_arrival)
			reset(flow);
	}
}
