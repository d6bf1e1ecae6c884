/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/util.h"
#include "publish/udp.h"

/* Ports that are tried for a client whose own is in use towards the same guest. */
#define NAMES_TRIED 64

/* A datagram, or a run of them, that waits for a way. */
struct udp_waiter {
	struct list link;
	struct host_datagram datagram; /* without addresses */
	uint8_t data[];
};

static struct udp_client *udp_client_of_flow(struct flow *flow)
{
	return container_of(flow, struct udp_client, flow);
}

static bool is_link_local6(const struct ip_addr *addr)
{
	return addr->family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&addr->in6);
}

/* The socket, our address, the client's. Of a link-local one the interface is kept where the
 * address has zeroes (RFC 4291 2.5.6). */
static struct flow_key key_to_host(const struct udp_socket *port, const struct ip_addr *addr,
	uint16_t addr_port, const struct ip_addr *local, uint32_t scope)
{
	const be32 scope_bytes = be32_of(scope);
	struct flow_key key = {
		.near = local->in6,
		.far = addr->in6,
		.near_port = (uint16_t)port->index,
		.far_port = addr_port,
		.family = addr->family,
		.zero = {(uint8_t)(port->index >> 16), (uint8_t)(port->index >> 24)},
	};

	if (!local->family)
		key.near = (struct in6_addr){0};
	if (is_link_local6(addr))
		memcpy(&key.far.s6_addr[4], &scope_bytes, sizeof(scope_bytes));
	return key;
}

struct udp_client *udp_client_find(struct udp_socket *port, const struct ip_addr *addr,
	uint16_t addr_port, const struct ip_addr *local, uint32_t scope)
{
	struct publish_udp *udp = port->published->publish->udp;
	const struct flow_key key = key_to_host(port, addr, addr_port, local, scope);
	struct flow *flow = flow_table_find(&udp->clients, &key);

	return flow ? udp_client_of_flow(flow) : NULL;
}

/* ---- what waits ---- */

static size_t cost_of(const struct udp_waiter *waiter)
{
	return sizeof(*waiter) + waiter->datagram.len;
}

static struct udp_waiter *take_waiter(struct udp_client *client)
{
	struct list *node = list_take(&client->queue);
	struct udp_waiter *waiter;

	if (!node)
		return NULL;
	waiter = container_of(node, struct udp_waiter, link);
	client->n_queue--;
	client->owner->n_waiting_bytes -= cost_of(waiter);
	return waiter;
}

/* All that waits is lost. */
static void drop_queue(struct udp_client *client)
{
	struct udp_waiter *waiter;

	while ((waiter = take_waiter(client))) {
		udp_lost(client->owner, client->usage, COUNTER_PUBLISH_UDP_DROPPED,
			(int)host_n_datagrams(&waiter->datagram));
		free(waiter);
	}
	list_remove(&client->waiting);
}

/* Side by side. */
static struct udp_waiter *copy_run(const struct run *run)
{
	size_t len = iov_len(run->iov, run->n), at = 0;
	struct udp_waiter *waiter = malloc(sizeof(*waiter) + len);

	if (!waiter)
		return NULL;
	*waiter = (struct udp_waiter){
		.datagram = {
			.ttl = run->first->ttl,
			.tos = run->first->tos,
			.segment = run->n > 1 ? (uint16_t)run->iov[0].iov_len : 0,
			.len = len,
		}};
	for (int i = 0; i < run->n; at += run->iov[i++].iov_len)
		memcpy(waiter->data + at, run->iov[i].iov_base, run->iov[i].iov_len);
	return waiter;
}

void udp_client_wait(struct udp_client *client, const struct run *run)
{
	struct publish_udp *udp = client->owner;
	struct udp_waiter *waiter = NULL;
	const int64_t now_ns = udp_config(udp)->loop->now_ns;

	if (client->n_queue < PUBLISH_UDP_WAITING_MAX &&
		udp->n_waiting_bytes < PUBLISH_UDP_WAITING_BYTES)
		waiter = copy_run(run);
	if (!waiter) {
		udp_lost(udp, client->usage, COUNTER_PUBLISH_UDP_DROPPED, run->n);
		return;
	}
	list_append(&client->queue, &waiter->link);
	client->n_queue++;
	udp->n_waiting_bytes += cost_of(waiter);
	if (list_is_linked(&client->waiting))
		return;
	list_append(&udp->waiting, &client->waiting);
	client->wait_since_ns = now_ns;
	timer_arm(&udp_config(udp)->loop->timers, &client->timer, now_ns + PUBLISH_UDP_ASK_NS);
}

/* ---- over the link ---- */

static void send_to_container(
	struct udp_client *client, const struct eth_addr *mac, const struct run *run)
{
	const struct publish_config *config = udp_config(client->owner);
	const struct flow_key *key = &client->name->flow.key;
	struct egress_head head = {
		.dst_mac = *mac,
		.src_mac = client->our_mac,
		.src = {.family = key->family, .in6 = key->far},
		.dst = client->guest,
		.tos = run->first->tos,
		.ttl = run->first->ttl,
	};

	if (config->loop->now_ns < client->path_mtu_until_ns)
		head.path_mtu = client->path_mtu;
	egress_udp(config->egress, &head, key->far_port, key->near_port, run->iov, run->n);
	client->has_sent = true;
	client->usage->n_in_bytes += iov_len(run->iov, run->n);
}

void udp_run_of(const struct host_datagram *datagram, struct run *ret)
{
	size_t size = datagram->segment ? datagram->segment : datagram->len, at = 0;

	*ret = (struct run){.first = datagram};
	do {
		ret->iov[ret->n++] = (struct iovec){
			.iov_base = datagram->data + at, .iov_len = MIN(size, datagram->len - at)};
		at += size;
	} while (at < datagram->len);
}

static bool find_guest(struct udp_client *client, bool again, struct eth_addr *ret_mac)
{
	struct next_hop *next_hop = udp_config(client->owner)->next_hop;

	return next_hop->ops->find(next_hop, &client->guest, again, ret_mac);
}

static void send_waiter(struct udp_client *client, struct udp_waiter *waiter)
{
	struct eth_addr mac;
	UNCLEARED struct run run;

	waiter->datagram.data = waiter->data;
	if (client->way == UDP_SPLICE) {
		udp_splice_send(client, &waiter->datagram);
	} else if (find_guest(client, false, &mac)) {
		udp_run_of(&waiter->datagram, &run);
		send_to_container(client, &mac, &run);
	}
}

static bool has_way(struct udp_client *client)
{
	struct eth_addr mac;

	if (client->way == UDP_TAP)
		return find_guest(client, false, &mac);
	return client->way == UDP_SPLICE;
}

/* The way may end while that goes. */
void udp_client_flush(struct udp_client *client)
{
	struct udp_waiter *waiter;

	while (has_way(client) && (waiter = take_waiter(client))) {
		send_waiter(client, waiter);
		free(waiter);
	}
	if (!client->n_queue)
		list_remove(&client->waiting);
}

static void deliver_spliced(struct udp_client *client, const struct run *run)
{
	int i;

	for (i = 0; i < run->n && client->way == UDP_SPLICE; i++) {
		const struct host_datagram datagram = {
			.tos = run->first->tos,
			.data = run->iov[i].iov_base,
			.len = run->iov[i].iov_len,
		};

		udp_splice_send(client, &datagram);
	}
	udp_config(client->owner)->counters->value[COUNTER_PUBLISH_UDP_DROPPED] +=
		(uint64_t)(run->n - i);
}

void udp_client_deliver(struct udp_client *client, const struct run *run)
{
	struct eth_addr mac;

	udp_client_touch(client);
	if (client->way == UDP_SPLICE)
		deliver_spliced(client, run);
	else if (client->way == UDP_TAP && !client->n_queue && find_guest(client, false, &mac))
		send_to_container(client, &mac, run);
	else
		udp_client_wait(client, run);
}

/* ---- names ---- */

static struct udp_name *new_name(struct udp_client *client, const struct ip_addr *shown)
{
	struct publish_udp *udp = client->owner;
	struct flow_key key = {
		.near = client->guest.in6,
		.far = shown->in6,
		.near_port = client->port->guest_port,
		.far_port = client->addr_port,
		.family = client->guest.family,
	};
	struct flow *flow;

	for (int i = 0; flow_table_find(&udp->names, &key); i++) {
		if (i == NAMES_TRIED)
			return NULL;
		key.far_port = publish_own_port(udp->publish);
	}
	flow = flow_table_add(&udp->names, &key);
	return flow ? container_of(flow, struct udp_name, flow) : NULL;
}

/* Who is on the link answers for itself, as far as the container sees; else the gateway. */
static void set_our_mac(struct udp_client *client, const struct ip_addr *shown)
{
	const struct policy *policy = udp_config(client->owner)->policy;
	const struct ip_addr gateway = policy_gateway(policy, shown->family);

	client->our_mac = egress_mac(policy_on_link(policy, shown) ? shown : &gateway);
}

static int give_name(struct udp_client *client)
{
	const struct publish_config *config = udp_config(client->owner);
	const struct ip_addr shown =
		policy_client_name(config->policy, &client->addr, &client->guest);
	int r = config->next_hop->ops->claim(config->next_hop, &shown);

	if (r < 0)
		return r;
	client->name = new_name(client, &shown);
	if (!client->name) {
		config->next_hop->ops->release(config->next_hop, &shown);
		return -ENOSPC;
	}
	client->name->client = client;
	set_our_mac(client, &shown);
	return 0;
}

static void take_name(struct udp_client *client)
{
	struct next_hop *next_hop = udp_config(client->owner)->next_hop;
	struct ip_addr shown;

	if (!client->name)
		return;
	shown = (struct ip_addr){
		.family = client->name->flow.key.family, .in6 = client->name->flow.key.far};
	next_hop->ops->release(next_hop, &shown);
	flow_table_remove(&client->owner->names, &client->name->flow);
	client->name = NULL;
}

bool udp_client_use_tap(struct udp_client *client)
{
	client->way = UDP_TAP;
	if (!publish_is_loopback(&client->guest) && give_name(client) == 0)
		return true;
	udp_client_close(client);
	return false;
}

/* ---- life ---- */

void udp_client_touch(struct udp_client *client)
{
	client->used_ns = udp_config(client->owner)->loop->now_ns;
	list_remove(&client->used);
	list_append(&client->owner->used, &client->used);
}

void udp_client_close(struct udp_client *client)
{
	struct publish_udp *udp = client->owner;
	struct host *host = udp_config(udp)->host;

	if (client->end.dgram.fd >= 0) {
		publish_udp_send_all(udp);
		/* What was sent may have failed so that it was closed. */
		if (!client->usage)
			return;
		host->ops->dgram_close(host, &client->end.dgram);
	}
	drop_queue(client);
	take_name(client);
	timer_cancel(&udp_config(udp)->loop->timers, &client->timer);
	list_remove(&client->used);
	list_remove(&client->of_port);
	list_remove(&client->end.ready);
	client->way = UDP_NO_WAY;
	client->usage->n_active--;
	usage_unref(client->usage);
	client->usage = NULL;
	flow_table_remove(&udp->clients, &client->flow);
}

/* Nobody answers for the guest: what waits is lost, and a client that never got anything through
 * with it. */
static void ask_again(struct udp_client *client, int64_t now_ns)
{
	struct eth_addr mac;

	if (now_ns - client->wait_since_ns >= NEXT_HOP_GIVE_UP_NS) {
		drop_queue(client);
		if (!client->has_sent)
			udp_client_close(client);
		return;
	}
	if (client->way == UDP_TAP && find_guest(client, true, &mac))
		udp_client_flush(client);
}

/* It is armed for the end of the silence that was to come when it was armed, and sooner for what
 * waits; datagrams do not move it. */
static void on_timer(struct timer *timer, int64_t now_ns)
{
	struct udp_client *client = container_of(timer, struct udp_client, timer);
	struct publish_udp *udp = client->owner;
	int64_t end_ns = client->used_ns + PUBLISH_UDP_IDLE_NS;

	if (list_is_linked(&client->waiting))
		ask_again(client, now_ns);
	else if (now_ns >= end_ns)
		udp_client_close(client);
	if (!client->usage)
		return;
	if (list_is_linked(&client->waiting))
		end_ns = MIN(end_ns, now_ns + PUBLISH_UDP_ASK_NS);
	timer_arm(&udp_config(udp)->loop->timers, timer, end_ns);
}

/* The client that was silent longest gives way. False: there is none. */
static bool evict(struct publish_udp *udp)
{
	if (list_is_empty(&udp->used))
		return false;
	udp_client_close(container_of(udp->used.next, struct udp_client, used));
	flow_table_sweep(&udp->clients);
	flow_table_sweep(&udp->names);
	count(udp_config(udp)->counters, COUNTER_PUBLISH_UDP_EVICTED);
	return true;
}

static void begin(struct udp_client *client, struct udp_socket *port,
	const struct host_datagram *from, const struct ip_addr *guest)
{
	struct publish_udp *udp = port->published->publish->udp;
	const struct publish_config *config = udp_config(udp);

	client->owner = udp;
	client->port = port;
	client->addr = from->addr;
	client->addr_port = from->port;
	client->local = from->local;
	client->scope = from->scope;
	client->guest = *guest;
	client->usage = usage_ref(port->published->usage);
	client->usage->n_opened++;
	client->usage->n_active++;
	client->end = (struct udp_end){.dgram.fd = -1, .is_client = true};
	client->timer.fire = on_timer;
	list_init(&client->queue);
	list_append(&port->clients, &client->of_port);
	udp_client_touch(client);
	timer_arm(&config->loop->timers, &client->timer, client->used_ns + PUBLISH_UDP_IDLE_NS);
	count(config->counters, COUNTER_PUBLISH_UDP_CLIENTS);
}

static struct udp_client *new_client(struct udp_socket *port, const struct host_datagram *from)
{
	struct published *published = port->published;
	struct publish_udp *udp = published->publish->udp;
	const struct flow_key key =
		key_to_host(port, &from->addr, from->port, &from->local, from->scope);
	struct ip_addr guest;
	struct udp_client *client;
	struct flow *flow;

	if (!published_guest(published, from->addr.family, &guest))
		return NULL;
	flow = flow_table_add(&udp->clients, &key);
	if (!flow && evict(udp))
		flow = flow_table_add(&udp->clients, &key);
	if (!flow)
		return NULL;
	client = udp_client_of_flow(flow);
	begin(client, port, from, &guest);
	if (udp_config(udp)->sockets && published_wants_splice(published, &from->addr))
		udp_splice_begin(client);
	else
		udp_client_use_tap(client);
	return client->usage ? client : NULL;
}

struct udp_client *udp_client_of(struct udp_socket *port, const struct host_datagram *from)
{
	struct udp_client *client =
		udp_client_find(port, &from->addr, from->port, &from->local, from->scope);

	return client ? client : new_client(port, from);
}
