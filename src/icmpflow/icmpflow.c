/* SPDX-License-Identifier: Apache-2.0 */
#include "icmpflow/icmpflow.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "base/util.h"
#include "flow/path_error.h"
#include "flow/unreachable.h"
#include "wire/checksum.h"
#include "wire/icmp.h"

/* Replies that one call takes, each in a buffer of its own. */
#define INBOX_REPLIES   8
#define INBOX_REPLY_MAX 65536
/* Calls that one event is worth: what is left then is a new event. */
#define CALLS_MAX 8
/* Errors likewise. */
#define ERRORS_MAX  64

#define HOST_EVENTS (EPOLLIN | EPOLLERR | EPOLLET)

/* One address of the container's and one id. */
struct ping_flow {
	struct flow flow; /* near_port is the id; the far end is whoever is asked */
	struct icmpflow *owner;
	struct host_dgram dgram;
	struct eth_addr near_mac, our_mac;
	struct list used;
	int64_t used_ns;
};

/* An echo request of the container. */
struct ping_request {
	const uint8_t *frame;
	const struct packet *packet;
	const struct icmp_header *icmp;
	struct ip_addr to; /* in the host's world */
};

static uint16_t echo_id(const struct icmp_header *icmp)
{
	return (uint16_t)(icmp->rest.b[0] << 8 | icmp->rest.b[1]);
}

static void set_echo_id(struct icmp_header *icmp, uint16_t id)
{
	icmp->rest.b[0] = (uint8_t)(id >> 8);
	icmp->rest.b[1] = (uint8_t)id;
}

static void drop(struct icmpflow *icmpflow)
{
	count(icmpflow->config.counters, COUNTER_ICMP_DROPPED);
}

/* ---- the life of flows ---- */

static void flow_close(struct ping_flow *flow)
{
	struct icmpflow *icmpflow = flow->owner;
	struct host *host = icmpflow->config.host;

	if (flow->dgram.fd >= 0)
		host->ops->dgram_close(host, &flow->dgram);
	list_remove(&flow->used);
	flow_table_remove(&icmpflow->table, &flow->flow);
}

static struct ping_flow *longest_silent(struct icmpflow *icmpflow)
{
	if (list_is_empty(&icmpflow->used))
		return NULL;
	return container_of(icmpflow->used.next, struct ping_flow, used);
}

/* The timer may fire too early, never too late. */
static void flow_use(struct ping_flow *flow)
{
	struct icmpflow *icmpflow = flow->owner;
	struct loop *loop = icmpflow->config.loop;

	flow->used_ns = loop->now_ns;
	list_remove(&flow->used);
	list_append(&icmpflow->used, &flow->used);
	if (!timer_is_armed(&icmpflow->timer))
		timer_arm(&loop->timers, &icmpflow->timer, flow->used_ns + ICMPFLOW_IDLE_NS);
}

static void expire(struct timer *timer, int64_t now_ns)
{
	struct icmpflow *icmpflow = container_of(timer, struct icmpflow, timer);
	struct ping_flow *flow;

	while ((flow = longest_silent(icmpflow)) && flow->used_ns + ICMPFLOW_IDLE_NS <= now_ns)
		flow_close(flow);
	flow_table_sweep(&icmpflow->table);
	if (flow)
		timer_arm(&icmpflow->config.loop->timers, timer, flow->used_ns + ICMPFLOW_IDLE_NS);
}

/* Returns whether there was one to give way. One that is being opened is none yet. */
static bool evict(struct icmpflow *icmpflow)
{
	struct ping_flow *flow = longest_silent(icmpflow);

	if (!flow)
		return false;
	count(icmpflow->config.counters, COUNTER_ICMP_EVICTED);
	flow_close(flow);
	flow_table_sweep(&icmpflow->table);
	return true;
}

/* 0 or a negative errno. */
static int flow_open(struct ping_flow *flow)
{
	const struct flow_config *config = &flow->owner->config;
	uint8_t family = flow->flow.key.family;
	const struct host_dgram_config dgram_config = {
		.family = family,
		.protocol = icmp_protocol(family),
		.from = policy_source(config->policy, family),
	};
	const struct handle handle = {
		.kind = HANDLE_PING,
		.generation = flow->flow.generation,
		.index = flow->flow.index,
	};
	int r;

	do
		r = config->host->ops->dgram_open(
			config->host, &dgram_config, handle, &flow->dgram);
	while (host_is_short(r) && evict(flow->owner));
	if (r < 0)
		flow->dgram.fd = -1;
	return r;
}

static struct ping_flow *flow_add(struct icmpflow *icmpflow, const struct flow_key *key)
{
	struct flow *added = flow_table_add(&icmpflow->table, key);
	struct ping_flow *flow;

	if (!added && evict(icmpflow))
		added = flow_table_add(&icmpflow->table, key);
	if (!added)
		return NULL;
	flow = container_of(added, struct ping_flow, flow);
	flow->owner = icmpflow;
	flow->dgram.fd = -1;
	return flow;
}

/* ---- answers in the gateway's name ---- */

static void answer_unreachable(
	struct icmpflow *icmpflow, const struct ping_request *request, uint8_t code4, uint8_t code6)
{
	const struct flow_config *config = &icmpflow->config;

	unreachable_send(config->egress, config->icmp_limit, request->frame, request->packet, code4,
		code6, config->loop->now_ns);
}

/* Why there is no socket. */
static void answer_refused(struct icmpflow *icmpflow, const struct ping_request *request, int error)
{
	if (error != -EACCES && error != -EPERM) {
		drop(icmpflow);
		if (!host_is_short(error))
			answer_unreachable(icmpflow, request, ICMP_NET_UNREACHABLE, ICMP6_NO_ROUTE);
		return;
	}
	if (!icmpflow->has_warned)
		log_warning("the host's kernel forbids echo requests (ping) to this group; "
			    "sysctl -w net.ipv4.ping_group_range=\"0 2147483647\" on the host "
			    "allows them to everybody");
	icmpflow->has_warned = true;
	count(icmpflow->config.counters, COUNTER_ICMP_FORBIDDEN);
	answer_unreachable(icmpflow, request, ICMP_ADMIN_PROHIBITED, ICMP6_ADMIN_PROHIBITED);
}

/* ---- errors ---- */

static void tell(struct ping_flow *flow, const struct icmp_header *asked, const struct ip_addr *far,
	const struct host_dgram_error *error)
{
	const struct flow_config *config = &flow->owner->config;
	struct path_error_about about = {
		.near_mac = flow->near_mac,
		.near = {.family = flow->flow.key.family, .in6 = flow->flow.key.near},
		.far = *far,
		.protocol = icmp_protocol(flow->flow.key.family),
	};

	memcpy(about.header, asked, sizeof(*asked));
	path_error_send(config->egress, config->icmp_limit, &about, error, config->loop->now_ns);
}

/* The quote begins with the header as it left the host: its id is the host kernel's. */
static void tell_earlier(struct ping_flow *flow, struct host_dgram_error *error)
{
	const struct policy *policy = flow->owner->config.policy;
	struct icmp_header asked;
	struct ip_addr far;
	uint16_t id = flow->flow.key.near_port;

	if (error->quote_len < sizeof(asked) || error->addr.family != flow->flow.key.family ||
		policy_unmap(policy, &error->addr, &far) != POLICY_PASS)
		return;
	memcpy(&asked, error->quote, sizeof(asked));
	/* ICMPv6's covers the addresses, too, of which the container knows others. */
	if (error->addr.family == AF_INET)
		asked.checksum =
			checksum_update(asked.checksum, be16_of(echo_id(&asked)), be16_of(id));
	set_echo_id(&asked, id);
	error->quote_len -= sizeof(asked);
	memmove(error->quote, error->quote + sizeof(asked), error->quote_len);
	tell(flow, &asked, &far, error);
}

/* `error` says what, but not about which. */
static void tell_request(
	struct ping_flow *flow, const struct ping_request *request, struct host_dgram_error *error)
{
	size_t len = request->packet->transport_len - ICMP_HEADER_LEN;

	error->quote_len = MIN(len, sizeof(error->quote));
	memcpy(error->quote, request->icmp + 1, error->quote_len);
	tell(flow, request->icmp, &request->packet->dst, error);
}

/* Tells of what became of earlier requests. *ret_mtu is that of the path on which one just failed
 * to be sent, if it says so. Returns whether there may be more. */
static bool drain_errors(struct ping_flow *flow, uint32_t *ret_mtu)
{
	struct host *host = flow->owner->config.host;
	struct host_dgram_error error;

	for (int i = 0; i < ERRORS_MAX; i++) {
		if (!host->ops->dgram_error(host, &flow->dgram, &error))
			return false;
		if (error.error == EMSGSIZE && !error.icmp_family)
			*ret_mtu = error.mtu;
		else
			tell_earlier(flow, &error);
	}
	return true;
}

/* ---- requests ---- */

/* Larger than the path takes: told, and sent in fragments all the same. */
static void too_big(struct ping_flow *flow, const struct ping_request *request, uint32_t mtu)
{
	struct host_dgram_error error = {.error = EMSGSIZE, .mtu = mtu};

	if (mtu)
		tell_request(flow, request, &error);
}

/* An earlier request's error is no reason not to send this one; a second failure is its own. */
static void flow_send(struct ping_flow *flow, const struct ping_request *request)
{
	struct host *host = flow->owner->config.host;
	struct host_datagram datagram = {
		.addr = request->to,
		.ttl = packet_next_ttl(request->packet),
		.tos = request->packet->tos,
		.dont_fragment = request->packet->dont_fragment,
		.data = (uint8_t *)(uintptr_t)request->icmp,
		.len = request->packet->transport_len,
	};
	struct host_dgram_error error = {0};
	bool is_second = false;
	uint32_t mtu = 0;
	int r;

	while ((r = host->ops->dgram_send(host, &flow->dgram, &datagram, 1)) < 1) {
		if (r == 0 || r == -EAGAIN)
			break;
		drain_errors(flow, &mtu);
		if (r == -EMSGSIZE && datagram.dont_fragment && (mtu || is_second)) {
			too_big(flow, request, mtu);
			datagram.dont_fragment = false;
		} else if (is_second) {
			break;
		}
		is_second = true;
	}
	if (r == 1)
		return;
	drop(flow->owner);
	error.error = -r;
	if (r < 0 && r != -EAGAIN && r != -EMSGSIZE)
		tell_request(flow, request, &error);
}

/* Whether the request is to leave; if not, it was answered or counted. */
static bool may_leave(struct icmpflow *icmpflow, struct ping_request *request)
{
	const struct policy *policy = icmpflow->config.policy;
	const struct ip_addr *dst = &request->packet->dst;

	if (request->icmp->code) {
		drop(icmpflow);
		return false;
	}
	/* Nobody is there but the gateway, which has answered; about groups no error is sent. */
	if (policy_on_link(policy, dst)) {
		drop(icmpflow);
		answer_unreachable(
			icmpflow, request, ICMP_HOST_UNREACHABLE, ICMP6_ADDRESS_UNREACHABLE);
		return false;
	}
	if (policy_map(policy, dst, 0, request->packet->protocol, &request->to) != POLICY_PASS) {
		count(icmpflow->config.counters, COUNTER_POLICY_REFUSED);
		answer_unreachable(icmpflow, request, ICMP_NET_UNREACHABLE, ICMP6_NO_ROUTE);
		return false;
	}
	return true;
}

/* NULL: the request was answered or dropped. */
static struct ping_flow *flow_of(struct icmpflow *icmpflow, const struct ping_request *request)
{
	const struct flow_key key = {
		.near = request->packet->src.in6,
		.near_port = echo_id(request->icmp),
		.family = request->packet->src.family,
	};
	struct flow *found = flow_table_find(&icmpflow->table, &key);
	struct ping_flow *flow;
	int r;

	if (found)
		return container_of(found, struct ping_flow, flow);
	flow = flow_add(icmpflow, &key);
	if (!flow) {
		drop(icmpflow);
		return NULL;
	}
	r = flow_open(flow);
	if (r == 0)
		return flow;
	flow_close(flow);
	answer_refused(icmpflow, request, r);
	return NULL;
}

void icmpflow_input(struct icmpflow *icmpflow, const uint8_t *frame, const struct packet *packet)
{
	const struct eth_header *eth = (const struct eth_header *)frame;
	struct ping_request request = {
		.frame = frame,
		.packet = packet,
		.icmp = (const struct icmp_header *)(frame + packet->transport_offset),
	};
	struct ping_flow *flow;

	if (!may_leave(icmpflow, &request))
		return;
	flow = flow_of(icmpflow, &request);
	if (flow) {
		flow->near_mac = eth->src;
		flow->our_mac = egress_answer_mac(icmpflow->config.egress, eth, packet->src.family);
		flow_use(flow);
		flow_send(flow, &request);
	}
	flow_table_sweep(&icmpflow->table);
}

/* ---- replies ---- */

static bool is_reply(const struct ping_flow *flow, const struct host_datagram *datagram)
{
	uint8_t type = flow->flow.key.family == AF_INET ? ICMP_ECHO_REPLY : ICMP6_ECHO_REPLY;

	return datagram->len >= ICMP_HEADER_LEN && datagram->data[0] == type &&
		datagram->addr.family == flow->flow.key.family;
}

static void pass_reply(struct ping_flow *flow, const struct host_datagram *datagram)
{
	const struct flow_config *config = &flow->owner->config;
	struct icmp_header *icmp = (struct icmp_header *)datagram->data;
	struct egress_head head = {
		.dst_mac = flow->near_mac,
		.src_mac = flow->our_mac,
		.dst = {.family = flow->flow.key.family, .in6 = flow->flow.key.near},
		.ttl = datagram->ttl,
		.tos = datagram->tos,
	};
	const struct iovec iov = {.iov_base = datagram->data, .iov_len = datagram->len};

	if (!is_reply(flow, datagram) ||
		policy_unmap(config->policy, &datagram->addr, &head.src) != POLICY_PASS) {
		drop(flow->owner);
		return;
	}
	set_echo_id(icmp, flow->flow.key.near_port);
	flow_use(flow);
	egress_send(config->egress, &head, icmp_protocol(head.dst.family), &iov, 1);
}

/* As dgram_recv() has it. */
static int receive_replies(struct ping_flow *flow)
{
	struct host *host = flow->owner->config.host;
	struct host_datagram datagrams[INBOX_REPLIES];
	int n;

	for (size_t i = 0; i < INBOX_REPLIES; i++)
		datagrams[i] = (struct host_datagram){
			.data = flow->owner->inbox + i * INBOX_REPLY_MAX,
			.len = INBOX_REPLY_MAX,
		};
	n = host->ops->dgram_recv(host, &flow->dgram, datagrams, INBOX_REPLIES);
	for (int i = 0; i < n; i++)
		pass_reply(flow, &datagrams[i]);
	return n;
}

/* Returns whether there may be more. An error that comes twice is none of an earlier request's:
 * asking on would be for nothing. */
static bool receive(struct ping_flow *flow)
{
	bool has_failed = false, has_errors;
	uint32_t mtu;
	int n;

	for (int i = 0; i < CALLS_MAX; i++) {
		has_errors = drain_errors(flow, &mtu);
		n = receive_replies(flow);
		if (n < 0 ? has_failed : n < INBOX_REPLIES && !has_errors)
			return false;
		has_failed = n < 0;
	}
	return true;
}

void icmpflow_host_ready(struct icmpflow *icmpflow, struct handle handle, uint32_t events)
{
	struct flow *found = flow_table_get(&icmpflow->table, handle.index, handle.generation);
	struct host *host = icmpflow->config.host;
	struct ping_flow *flow;

	if (!found)
		return;
	flow = container_of(found, struct ping_flow, flow);
	/* Edge-triggered, and not at its end: said once more, it is news again. */
	if (receive(flow))
		host->ops->change(host, flow->dgram.fd, HOST_EVENTS, handle);
}

/* ---- the relay's part ---- */

int icmpflow_init(struct icmpflow *icmpflow, const struct flow_config *config)
{
	*icmpflow = (struct icmpflow){
		.config = *config,
		.timer.fire = expire,
		/* Pages that no reply has touched are not there. */
		.inbox = malloc(INBOX_REPLIES * INBOX_REPLY_MAX),
	};
	int r;

	if (!icmpflow->inbox)
		return -ENOMEM;
	list_init(&icmpflow->used);
	r = flow_table_init(
		&icmpflow->table, sizeof(struct ping_flow), config->max_sockets, config->key);
	if (r < 0) {
		free(icmpflow->inbox);
		icmpflow->inbox = NULL;
	}
	return r;
}

void icmpflow_done(struct icmpflow *icmpflow)
{
	struct ping_flow *flow;

	while ((flow = longest_silent(icmpflow)))
		flow_close(flow);
	timer_cancel(&icmpflow->config.loop->timers, &icmpflow->timer);
	flow_table_done(&icmpflow->table);
	free(icmpflow->inbox);
	icmpflow->inbox = NULL;
}
