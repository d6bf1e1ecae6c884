/* SPDX-License-Identifier: Apache-2.0 */
#include "udpflow/udpflow.h"

#include <errno.h>
#include <sys/epoll.h>

#include "base/util.h"
#include "flow/unreachable.h"
#include "udpflow/internal.h"
#include "wire/icmp_about.h"
#include "wire/udp.h"
#include "wire/vnet.h"

#define DNS_PORT 53
/* Each of OUTBOX_ATTEMPTS_MAX errors, for one event. */
#define ERROR_ROUNDS_MAX 4
/* Mappings from which one turn receives. */
#define TURN_MAPPINGS 32

static struct udp_flow *udp_flow_of(struct flow *flow)
{
	return container_of(flow, struct udp_flow, flow);
}

/* ---- mappings ---- */

static void close_mapping(struct udp_flow *flow)
{
	struct udpflow *udpflow = flow->owner;
	struct host *host = udpflow->config.host;

	if (flow->has_unsent)
		udp_send_all(udpflow);
	host->ops->dgram_close(host, &flow->dgram);
	timer_cancel(&udpflow->config.loop->timers, &flow->timer);
	list_remove(&flow->used);
	list_remove(&flow->ready);
	flow_table_remove(&udpflow->table, &flow->flow);
}

void udp_touch(struct udp_flow *flow)
{
	flow->used_ns = flow->owner->config.loop->now_ns;
	list_remove(&flow->used);
	list_append(&flow->owner->used, &flow->used);
}

bool udp_far_name(const struct udp_flow *flow, const struct ip_addr *addr, struct ip_addr *ret_name)
{
	const struct policy *policy = flow->owner->config.policy;

	if (addr->family != flow->flow.key.family ||
		policy_unmap(policy, addr, ret_name) != POLICY_PASS)
		return false;
	if (addr->family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&addr->in6) &&
		!IN6_IS_ADDR_UNSPECIFIED(&flow->loopback_name))
		ret_name->in6 = flow->loopback_name;
	return true;
}

static int64_t idle_end_ns(const struct udp_flow *flow)
{
	return flow->used_ns + (flow->only_dns ? UDPFLOW_IDLE_DNS_NS : UDPFLOW_IDLE_NS);
}

/* It was armed when the mapping was new, and is not moved with each datagram. */
static void on_timer(struct timer *timer, int64_t now_ns)
{
	struct udp_flow *flow = container_of(timer, struct udp_flow, timer);

	if (now_ns < idle_end_ns(flow))
		timer_arm(&flow->owner->config.loop->timers, timer, idle_end_ns(flow));
	else
		close_mapping(flow);
}

/* The mapping that was silent longest gives way. False: there is none. */
static bool evict(struct udpflow *udpflow)
{
	struct list *oldest = udpflow->used.next;

	if (oldest == &udpflow->used)
		return false;
	close_mapping(container_of(oldest, struct udp_flow, used));
	flow_table_sweep(&udpflow->table);
	count(udpflow->config.counters, COUNTER_UDP_EVICTED);
	return true;
}

static int open_socket(struct udpflow *udpflow, struct udp_flow *flow)
{
	struct host *host = udpflow->config.host;
	const uint8_t family = flow->flow.key.family;
	const struct host_dgram_config config = {
		.family = family,
		.protocol = IPPROTO_UDP,
		.from = policy_source(udpflow->config.policy, family),
	};
	const struct handle handle = {
		.kind = HANDLE_UDP, .generation = flow->flow.generation, .index = flow->flow.index};

	return host->ops->dgram_open(host, &config, handle, &flow->dgram);
}

/* NULL: *ret_error says why. */
static struct udp_flow *new_mapping(
	struct udpflow *udpflow, const struct flow_key *key, int *ret_error)
{
	struct flow *flow = flow_table_add(&udpflow->table, key);
	struct udp_flow *udp;

	if (!flow && evict(udpflow))
		flow = flow_table_add(&udpflow->table, key);
	*ret_error = -ENOMEM;
	if (!flow)
		return NULL;
	udp = udp_flow_of(flow);
	udp->owner = udpflow;
	udp->timer.fire = on_timer;
	udp->only_dns = true;
	do
		*ret_error = open_socket(udpflow, udp);
	while (host_is_short(*ret_error) && evict(udpflow));
	if (*ret_error < 0) {
		flow_table_remove(&udpflow->table, flow);
		return NULL;
	}
	udp_touch(udp);
	timer_arm(&udpflow->config.loop->timers, &udp->timer, udp->used_ns + UDPFLOW_IDLE_DNS_NS);
	count(udpflow->config.counters, COUNTER_UDP_MAPPED);
	return udp;
}

/* ---- from the container ---- */

static void refuse(struct udpflow *udpflow, const uint8_t *frame, const struct packet *packet,
	uint8_t code4, uint8_t code6)
{
	const struct flow_config *config = &udpflow->config;

	count(config->counters, COUNTER_POLICY_REFUSED);
	unreachable_send(config->egress, config->icmp_limit, frame, packet, code4, code6,
		config->loop->now_ns);
}

/* Why there is no socket to send from. Without room the datagram is lost, as on a full wire. */
static void refuse_mapping(
	struct udpflow *udpflow, const uint8_t *frame, const struct packet *packet, int error)
{
	if (host_is_short(error))
		count(udpflow->config.counters, COUNTER_UDP_REFUSED);
	else if (error == -EACCES || error == -EPERM)
		refuse(udpflow, frame, packet, ICMP_ADMIN_PROHIBITED, ICMP6_ADMIN_PROHIBITED);
	else
		refuse(udpflow, frame, packet, ICMP_NET_UNREACHABLE, ICMP6_NO_ROUTE);
}

static struct udp_flow *mapping_of(
	struct udpflow *udpflow, const uint8_t *frame, const struct packet *packet)
{
	struct flow_key key;
	struct flow *flow;
	struct udp_flow *udp;
	int error;

	flow_key_of(&key, frame, packet);
	key.far = (struct in6_addr){0};
	key.far_port = 0;
	flow = flow_table_find(&udpflow->table, &key);
	if (flow)
		return udp_flow_of(flow);
	udp = new_mapping(udpflow, &key, &error);
	if (!udp)
		refuse_mapping(udpflow, frame, packet, error);
	return udp;
}

/* What the frame says of the container, who may have moved (a bridge behind the tap). */
static void note_near(struct udp_flow *flow, const uint8_t *frame, const struct packet *packet,
	uint16_t far_port, const struct ip_addr *far)
{
	const struct eth_header *eth = (const struct eth_header *)frame;

	flow->near_mac = eth->src;
	flow->our_mac = egress_answer_mac(flow->owner->config.egress, eth, packet->src.family);
	if (far_port != DNS_PORT)
		flow->only_dns = false;
	if (packet->dst.family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&far->in6))
		flow->loopback_name = packet->dst.in6;
	udp_touch(flow);
}

/* A run is passed on in runs that the host's kernel takes. */
static void put(struct udpflow *udpflow, struct udp_flow *flow, struct host_datagram *datagram,
	uint16_t segment)
{
	struct host_datagram part;
	bool more;

	do {
		more = outbox_cut(datagram, segment, &part);
		if (!outbox_add(&udpflow->outbox, flow, &part)) {
			udp_send_all(udpflow);
			outbox_add(&udpflow->outbox, flow, &part);
		}
		flow->has_unsent = true;
	} while (more);
}

void udpflow_input(struct udpflow *udpflow, const uint8_t *frame, const struct packet *packet)
{
	const struct vnet_header *vnet =
		(const struct vnet_header *)(const void *)(frame - VNET_HEADER_LEN);
	const struct udp_header *udp =
		(const struct udp_header *)(frame + packet->transport_offset);
	struct host_datagram datagram = {
		.port = be16_get(udp->dst_port),
		.ttl = packet_next_ttl(packet),
		.tos = packet->tos,
		.dont_fragment = packet->dont_fragment,
		.data = (uint8_t *)(uintptr_t)(udp + 1),
		.len = packet->transport_len - UDP_HEADER_LEN,
	};
	const bool is_run = vnet->gso_type == VNET_GSO_UDP_L4;
	struct udp_flow *flow;

	if (policy_map(udpflow->config.policy, &packet->dst, datagram.port, IPPROTO_UDP,
		    &datagram.addr) != POLICY_PASS) {
		refuse(udpflow, frame, packet, ICMP_NET_UNREACHABLE, ICMP6_NO_ROUTE);
		return;
	}
	flow = mapping_of(udpflow, frame, packet);
	if (!flow)
		return;
	note_near(flow, frame, packet, datagram.port, &datagram.addr);
	put(udpflow, flow, &datagram, is_run ? le16_get(vnet->gso_size) : 0);
}

/* ---- the container's errors ---- */

/* Whose datagram, on its way to the container, the error is about. */
static struct udp_flow *mapping_quoted(
	struct udpflow *udpflow, const uint8_t *frame, const struct packet *packet)
{
	struct icmp_about about;
	struct udp_header udp;
	struct flow_key key;
	struct flow *flow;

	if (!icmp_about_parse(frame, packet, &about) || about.protocol != IPPROTO_UDP)
		return NULL;
	memcpy(&udp, about.header, sizeof(udp));
	key = (struct flow_key){
		.near = about.dst.in6,
		.near_port = be16_get(udp.dst_port),
		.family = about.dst.family,
	};
	flow = flow_table_find(&udpflow->table, &key);
	return flow ? udp_flow_of(flow) : NULL;
}

void udpflow_near_error(struct udpflow *udpflow, const uint8_t *frame, const struct packet *packet)
{
	const struct icmp_header *icmp =
		(const struct icmp_header *)(frame + packet->transport_offset);
	uint32_t mtu = icmp_about_mtu(packet->src.family, icmp);
	struct udp_flow *flow;

	flow = mtu ? mapping_quoted(udpflow, frame, packet) : NULL;
	if (!flow) {
		count(udpflow->config.counters, COUNTER_ICMP_DROPPED);
		return;
	}
	if (mtu >= udpflow->config.egress->mtu)
		return;
	flow->path_mtu = mtu;
	flow->path_mtu_until_ns = udpflow->config.loop->now_ns + UDP_PATH_MTU_NS;
}

/* ---- the turn ---- */

void udpflow_host_ready(struct udpflow *udpflow, struct handle handle, uint32_t events)
{
	struct flow *flow = flow_table_get(&udpflow->table, handle.index, handle.generation);
	struct udp_flow *udp;

	if (!flow)
		return;
	udp = udp_flow_of(flow);
	/* More than the limit of ICMP errors lets pass at once: what is left says nothing new. */
	for (int i = 0; events & EPOLLERR && i < ERROR_ROUNDS_MAX; i++)
		if (udp_take_errors(udp, NULL) == UDP_ERRORS_NONE)
			break;
	if (!list_is_linked(&udp->ready))
		list_append(&udpflow->ready, &udp->ready);
}

/* One batch for each of some that have something: nobody waits longer than for these. The others
 * come first in the next turn, those with more behind them. */
static void receive_all(struct udpflow *udpflow)
{
	struct list now;
	struct list *node;

	if (list_is_empty(&udpflow->ready))
		return;
	list_init(&now);
	list_move(&now, &udpflow->ready);
	for (int n = 0; n < TURN_MAPPINGS && (node = list_take(&now)); n++)
		udp_receive(container_of(node, struct udp_flow, ready));
	list_move(&now, &udpflow->ready);
	list_move(&udpflow->ready, &now);
}

bool udpflow_finish(struct udpflow *udpflow)
{
	if (udpflow->outbox.n)
		udp_send_all(udpflow);
	receive_all(udpflow);
	flow_table_sweep(&udpflow->table);
	return !list_is_empty(&udpflow->ready);
}

/* ---- life ---- */

int udpflow_init(struct udpflow *udpflow, const struct flow_config *config)
{
	int r;

	*udpflow = (struct udpflow){.config = *config};
	list_init(&udpflow->used);
	list_init(&udpflow->ready);
	r = inbox_init(&udpflow->inbox, config->loop);
	if (r < 0)
		return r;
	r = outbox_init(&udpflow->outbox);
	if (r == 0)
		r = flow_table_init(
			&udpflow->table, sizeof(struct udp_flow), config->max_sockets, config->key);
	if (r < 0) {
		outbox_done(&udpflow->outbox);
		inbox_done(&udpflow->inbox);
	}
	return r;
}

void udpflow_done(struct udpflow *udpflow)
{
	while (!list_is_empty(&udpflow->used))
		close_mapping(container_of(udpflow->used.next, struct udp_flow, used));
	flow_table_done(&udpflow->table);
	outbox_done(&udpflow->outbox);
	inbox_done(&udpflow->inbox);
}
