/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts that serve datagrams, on the fake link and the fake host, and who gets which frame.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "dgram.h"
#include "wire/icmp.h"
#include "wire/udp.h"

#define MTU_DEFAULT 1500

static const struct siphash_key key = {{0x1716151413121110, 0x1f1e1d1c1b1a1918}};

/* ---- logs ---- */

static size_t describe_addr(const struct dgram *d, char *text, size_t size)
{
	char addr[INET6_ADDRSTRLEN] = "nobody";
	struct in_addr v4;

	if (d->far.family == AF_INET) {
		v4 = ip_addr_v4(&d->far);
		inet_ntop(AF_INET, &v4, addr, sizeof(addr));
	} else if (d->far.family == AF_INET6) {
		inet_ntop(AF_INET6, &d->far.in6, addr, sizeof(addr));
	}
	return (size_t)snprintf(text, size, "%s %u", addr, d->far_port);
}

void dgram_describe(const struct dgram *d, char *text, size_t size)
{
	static const char *const names[] = {
		[DGRAM_UDP] = "near: udp",
		[DGRAM_PING] = "near: ping",
		[DGRAM_PONG] = "near: pong",
		[DGRAM_ERROR] = "near: icmp",
		[DGRAM_OPEN] = "open",
		[DGRAM_CLOSE] = "close",
		[DGRAM_SEND] = "send",
	};
	char peer[64];

	describe_addr(d, peer, sizeof(peer));
	if (d->kind == DGRAM_ERROR)
		snprintf(text, size, "near: icmp %u/%u about %s %s from %u mtu %u", d->icmp_type,
			d->icmp_code, d->about == DGRAM_UDP ? "udp" : "ping", peer, d->near_port,
			d->mtu);
	else if (d->socket)
		snprintf(text, size, "far#%d: %s %s data %u ttl %u%s %s", d->socket, names[d->kind],
			peer, d->len, d->ttl, d->dont_fragment ? " df" : "", d->name);
	else
		snprintf(text, size, "%s %s data %u to %u ttl %u %s", names[d->kind], peer, d->len,
			d->near_port, d->ttl, d->name);
}

void dgram_log_add(struct world *world, struct dgram_log *log, const struct dgram *dgram)
{
	struct dgram *copy = malloc(sizeof(*copy));
	char text[256];

	if (!copy)
		world_fail(world, "no memory");
	*copy = *dgram;
	copy->next = NULL;
	copy->at_ns = world->loop.now_ns;
	if (!log->tail)
		log->tail = &log->head;
	*log->tail = copy;
	log->tail = &copy->next;
	if (!world->is_verbose)
		return;
	dgram_describe(copy, text, sizeof(text));
	printf("# %.6f > %s\n", (double)(copy->at_ns - world->begin_ns) / 1e9, text);
}

static void log_free(struct dgram_log *log)
{
	for (struct dgram *d = log->head, *next; d; d = next) {
		next = d->next;
		free(d);
	}
}

/* ---- life ---- */

void dgrams_new(struct world *world)
{
	if (world->dgrams)
		return;
	world->dgrams = calloc(1, sizeof(*world->dgrams));
	if (!world->dgrams)
		world_fail(world, "no memory");
	world->dgrams->world = world;
	world->dgrams->mtu = MTU_DEFAULT;
}

static void tell(void *owner, const uint8_t *frame, size_t len)
{
	struct world *world = owner;

	egress_frame(&world->dgrams->egress, frame, len);
}

void dgrams_start(struct world *world, const struct world_config *config)
{
	struct dgrams *ds = world->dgrams;
	const struct flow_config flow_config = {
		.policy = &world->policy,
		.egress = &ds->egress,
		.host = &world->host,
		.loop = &world->loop,
		.counters = &world->counters,
		.icmp_limit = &world->icmp_limit,
		.key = &key,
		.max_sockets = config->max_flows,
	};

	ingress_watch(&world->ingress, &world->loop.timers, tell, world);
	egress_init(&ds->egress, &world->policy, &world->link, ds->mtu, 1, &world->counters);
	gateway_init(
		&ds->gateway, &world->policy, &ds->egress, &world->loop, &key, &world->counters);
	if (udpflow_init(&ds->udpflow, &flow_config) < 0 ||
		icmpflow_init(&ds->icmpflow, &flow_config) < 0)
		world_fail(world, "udpflow_init or icmpflow_init");
	ds->dns = dns_new(&flow_config);
	if (!ds->dns)
		world_fail(world, "dns_new");
	dgram_publish_start(world, config);
}

void dgrams_stop(struct world *world)
{
	dgram_publish_stop(world);
	udpflow_done(&world->dgrams->udpflow);
	icmpflow_done(&world->dgrams->icmpflow);
	dns_free(world->dgrams->dns);
}

void dgrams_free(struct world *world)
{
	struct dgrams *ds = world->dgrams;

	for (int i = 0; i < ds->n_sockets; i++)
		free(ds->sockets[i]);
	log_free(&ds->to_near);
	log_free(&ds->to_far);
	free(ds);
	world->dgrams = NULL;
}

void dgrams_check_clean(struct world *world)
{
	struct dgrams *ds = world->dgrams;

	dgram_publish_check_clean(world);
	for (int i = 0; i < ds->n_sockets; i++)
		if (ds->sockets[i]->is_open)
			world_fail(world, "socket %d of the host is left open", i + 1);
	if (world->is_done)
		return;
	if (ds->udpflow.table.n_flows || ds->icmpflow.table.n_flows)
		world_fail(world, "%u mappings and %u echo conversations are left",
			ds->udpflow.table.n_flows, ds->icmpflow.table.n_flows);
}

/* ---- the dispatch ---- */

static void udp_input(struct world *world, const uint8_t *frame, const struct packet *packet)
{
	const struct udp_header *udp =
		(const struct udp_header *)(frame + packet->transport_offset);
	struct ip_addr addr;

	if (policy_map(&world->policy, &packet->dst, be16_get(udp->dst_port), IPPROTO_UDP, &addr) !=
		POLICY_NAMESERVER) {
		if (!publish_udp_input(world->dgrams->publish, frame, packet))
			udpflow_input(&world->dgrams->udpflow, frame, packet);
		return;
	}
	dns_input(world->dgrams->dns, frame, packet);
}

static void icmp_input(struct world *world, const uint8_t *frame, const struct packet *packet)
{
	struct dgrams *ds = world->dgrams;
	uint8_t type = frame[packet->transport_offset];

	if (gateway_input(&ds->gateway, frame, packet, world->loop.now_ns) == GATEWAY_TAKEN)
		return;
	if (type == (packet->protocol == IPPROTO_ICMP ? ICMP_ECHO : ICMP6_ECHO_REQUEST))
		icmpflow_input(&ds->icmpflow, frame, packet);
	else if (!publish_udp_near_error(ds->publish, frame, packet))
		udpflow_near_error(&ds->udpflow, frame, packet);
}

void dgrams_near_input(struct world *world, size_t len)
{
	uint8_t *frame = world->buf + VNET_HEADER_LEN;
	uint8_t answer[INGRESS_ANSWER_MAX];
	struct packet packet;
	size_t answer_len;

	switch (ingress_frame(&world->ingress, world->buf, len, world->loop.now_ns, &packet, answer,
		&answer_len)) {
	case INGRESS_UDP:
		udp_input(world, frame, &packet);
		break;
	case INGRESS_ICMP:
		icmp_input(world, frame, &packet);
		break;
	case INGRESS_ANSWER:
		egress_frame(&world->dgrams->egress, answer, answer_len);
		break;
	case INGRESS_OTHER:
	case INGRESS_TCP:
	case INGRESS_DROP:
		break;
	}
}

static void wake(struct world *world, struct dgram_socket *s)
{
	uint32_t events = EPOLLIN;

	if (s->at_error < s->n_errors || s->pending_error)
		events |= EPOLLERR;
	switch ((enum handle_kind)s->handle.kind) {
	case HANDLE_UDP:
		udpflow_host_ready(&world->dgrams->udpflow, s->handle, events);
		break;
	case HANDLE_PING:
		icmpflow_host_ready(&world->dgrams->icmpflow, s->handle, events);
		break;
	case HANDLE_PUBLISH_UDP:
		publish_ready(world->dgrams->publish, s->handle, events);
		break;
	case HANDLE_DNS:
		dns_host_ready(world->dgrams->dns, s->handle, events);
		break;
	default:
		world_fail(world, "a socket with a handle of kind %u", s->handle.kind);
	}
}

bool dgrams_finish(struct world *world)
{
	struct dgrams *ds = world->dgrams;
	bool again = false;

	for (int i = 0; i < ds->n_sockets; i++) {
		struct dgram_socket *s = ds->sockets[i];

		if (!s->is_open || !s->is_woken)
			continue;
		s->is_woken = false;
		wake(world, s);
		again = true;
	}
	again |= publish_finish(ds->publish);
	dns_finish(ds->dns);
	return udpflow_finish(&ds->udpflow) || again;
}
