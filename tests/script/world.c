/* SPDX-License-Identifier: Apache-2.0 */
#include "dgram.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/siphash.h"

/* Turns that ask for another one at once; more than that is a loop. */
#define TURNS_MAX 100000

static const struct siphash_key key = {{0x0706050403020100, 0x0f0e0d0c0b0a0908}};

void world_fail(struct world *world, const char *fmt, ...)
{
	va_list ap;

	printf("not ok 1 - %s\n# %s:%d: at %.6f s: ", world->file, world->file, world->line,
		(double)(world->loop.now_ns - world->begin_ns) / 1e9);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	exit(1);
}

/* ---- streams ---- */

/* Counters of 8 bytes, mixed (the finalizer of SplitMix64), other ones for each stream. */
uint8_t stream_byte(const struct conversation *c, bool is_up, uint64_t offset)
{
	uint64_t x = offset / 8 + ((uint64_t)c->near_port << 33 | (uint64_t)is_up << 32);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	x ^= x >> 31;
	return (uint8_t)(x >> offset % 8 * 8);
}

/* ---- the link ---- */

static int fake_link_send(struct link *link, const struct iovec *iov, int n_iov)
{
	static uint8_t buf[LINK_BUFFER_LEN + LINK_BIG_PAYLOAD];
	struct world *world = container_of(link, struct world, link);
	struct conversation *c;
	struct outcome out;
	const char *fault;
	size_t len = 0;

	if (world->link_error)
		return -world->link_error;
	if (world->link_is_narrow && iov_len(iov, n_iov) > LINK_BUFFER_LEN)
		return -EAGAIN;
	for (int i = 0; i < n_iov; i++) {
		if (len + iov[i].iov_len > sizeof(buf))
			world_fail(world, "a frame above all bounds");
		memcpy(buf + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	if (world->dgrams) {
		dgrams_take_frame(world, buf, len);
		return 0;
	}
	c = frame_check(world, buf, len, &out, &fault);
	if (!c || fault)
		world_fail(world, "sends %s", fault ? fault : "a frame to nobody");
	if (c->kernel.is_on && out.kind == OUT_SEGMENT)
		kernel_take(world, c, &out);
	else
		world_log(world, &c->to_near, &out);
	return 0;
}

static const struct link_ops link_ops = {.send = fake_link_send};

/* ---- the next hop: the container itself, when it is known ---- */

static const struct eth_addr near_mac = {{0x02, 0, 0, 0, 0, 1}};

static bool fake_find(
	struct next_hop *next_hop, const struct ip_addr *addr, bool again, struct eth_addr *ret_mac)
{
	struct world *world = container_of(next_hop, struct world, next_hop);

	world->n_asked += again || world->neighbor_is_unknown;
	world->n_asked_again += again;
	if (!world->neighbor_is_unknown)
		*ret_mac = near_mac;
	return !world->neighbor_is_unknown;
}

static int fake_claim(struct next_hop *next_hop, const struct ip_addr *addr)
{
	struct world *world = container_of(next_hop, struct world, next_hop);
	int error = world->claim_error;

	world->claim_error = 0;
	world->n_claims += !error;
	return -error;
}

static void fake_release(struct next_hop *next_hop, const struct ip_addr *addr)
{
	struct world *world = container_of(next_hop, struct world, next_hop);

	if (world->n_claims-- == 0)
		world_fail(world, "releases what was not claimed");
}

static const struct next_hop_ops next_hop_ops = {
	.find = fake_find,
	.claim = fake_claim,
	.release = fake_release,
};

/* ---- the relay ---- */

static void note_visit(void *arg, enum tcp_state state, enum tcp_event event)
{
	struct world *world = arg;

	if (world->is_tracing)
		world->is_visited[state][event] = true;
}

static struct in_addr v4(const char *text)
{
	struct in_addr addr = {0};

	inet_pton(AF_INET, text, &addr);
	return addr;
}

static void policy_init(struct policy *policy, const struct world_config *config)
{
	*policy = (struct policy){
		.network = v4("10.0.2.0"),
		.netmask = v4("255.255.255.0"),
		.gateway = v4("10.0.2.2"),
		.dns = v4("10.0.2.3"),
		.guest = v4("10.0.2.100"),
		.gateway6.s6_addr = {0xfd, [15] = 2},
		.dns6.s6_addr = {0xfd, [15] = 3},
		.ipv6 = true,
		.host_loopback = config->host_loopback,
		.dns_enabled = true,
	};
}

/* The clock starts so that the first ISN, which counts with it, is what the script wants. */
static void set_clock(struct world *world, uint32_t our_isn)
{
	const struct conversation *c = &world->conversations[0];
	const struct flow_key flow_key = {
		.near = c->near_addr.in6,
		.far = c->far_addr.in6,
		.near_port = c->near_port,
		.far_port = c->far_port,
		.family = c->near_addr.family,
	};
	uint32_t hash = (uint32_t)siphash(&world->tcpflow.isn_key, &flow_key, sizeof(flow_key));

	world->begin_ns = world->loop.now_ns = (int64_t)(uint32_t)(our_isn - hash) * 4096;
}

void world_init(struct world *world, const struct world_config *config)
{
	const struct tcpflow_config tcpflow_config = {
		.policy = &world->policy,
		.link = &world->link,
		.host = &world->host,
		.loop = &world->loop,
		.counters = &world->counters,
		.icmp_limit = &world->icmp_limit,
		.next_hop = &world->next_hop,
		.mtu = config->mtu,
		.key = &key,
		.max_flows = config->max_flows,
		.queue_len = config->queue_len,
		.memory = config->memory,
	};

	world->link = (struct link){.ops = &link_ops, .fd = -1, .offloads = config->offloads};
	if (!config->behind_bridge)
		world->link.mac = near_mac;
	world->host.ops = &world_host_ops;
	world->next_hop.ops = &next_hop_ops;
	world->usage = usage_new();
	if (!world->usage)
		world_fail(world, "no memory");
	policy_init(&world->policy, config);
	icmp_limit_init(&world->icmp_limit, &world->counters);
	ingress_init(&world->ingress, &world->policy, &world->icmp_limit, true, &world->counters);
	world->ingress.offloads = world->link.offloads;
	if (tcpflow_init(&world->tcpflow, &tcpflow_config) < 0)
		world_fail(world, "tcpflow_init");
	world->tcpflow.trace = note_visit;
	world->tcpflow.trace_arg = world;
	world->is_tracing = true;
	set_clock(world, config->our_isn);
	if (world->dgrams)
		dgrams_start(world, config);
}

void world_check_clean(struct world *world)
{
	if (world->tcpflow.table.n_flows)
		world_fail(world, "%u flows are left", world->tcpflow.table.n_flows);
	for (int i = 0; i < world->n_sockets; i++)
		if (world->sockets[i].is_open)
			world_fail(world, "a socket of the host is left open");
	if (!world->is_done && !buffer_pool_is_whole(&world->tcpflow.pool))
		world_fail(world, "buffers are left in use");
	if (world->tcpflow.n_half_open)
		world_fail(world, "%u half-open flows are left", world->tcpflow.n_half_open);
	if (world->tcpflow.n_arriving || !list_is_empty(&world->tcpflow.resolving))
		world_fail(world, "%u clients still arrive", world->tcpflow.n_arriving);
	if (world->n_claims)
		world_fail(world, "%d addresses are still claimed", world->n_claims);
	if (world->usage->n_active || world->usage->n_refs != 1)
		world_fail(world, "the rule is still in use");
	if (world->dgrams)
		dgrams_check_clean(world);
}

void world_stop(struct world *world)
{
	if (world->is_done)
		return;
	tcpflow_done(&world->tcpflow);
	if (world->dgrams)
		dgrams_stop(world);
	world->is_done = true;
}

void world_done(struct world *world)
{
	world_stop(world);
	ingress_done(&world->ingress);
	usage_unref(world->usage);
	if (world->loop.timers.root)
		world_fail(world, "a timer is left armed");
}

/* ---- what comes in ---- */

/* What we must have got of it, if all is well: what follows what we had. */
static void note_near(struct conversation *c, const struct near_frame *frame)
{
	uint32_t end = frame->seq + frame->len + !!(frame->flags & (TCP_SYN | TCP_FIN));

	if (frame->flags & TCP_SYN)
		end = frame->seq ? 0 : 1;
	if (!seq_after(frame->seq, c->our_got) && seq_after(end, c->our_got) &&
		!(frame->flags & TCP_RST))
		c->our_got = end;
	if (frame->flags & TCP_ACK && seq_after(frame->ack + frame->window, c->near_edge))
		c->near_edge = frame->ack + frame->window;
}

void world_near_input(struct world *world, struct conversation *c, const struct near_frame *frame)
{
	size_t len = frame_build(world, c, frame), answer_len;
	uint8_t answer[LINK_HEADER_LEN + INGRESS_ANSWER_MAX] = {0};
	const struct iovec iov = {.iov_base = answer};
	struct iovec whole = iov;
	struct packet packet;

	note_near(c, frame);
	switch (ingress_frame(&world->ingress, world->buf, len, world->loop.now_ns, &packet,
		answer + LINK_HEADER_LEN, &answer_len)) {
	case INGRESS_TCP:
		if (tcpflow_input(&world->tcpflow, world->buf + VNET_HEADER_LEN, &packet) ==
			TCPFLOW_STRAY)
			tcpflow_refuse(&world->tcpflow, world->buf + VNET_HEADER_LEN, &packet);
		break;
	case INGRESS_ANSWER:
		whole.iov_len = LINK_HEADER_LEN + answer_len;
		fake_link_send(&world->link, &whole, 1);
		break;
	case INGRESS_UDP:
	case INGRESS_ICMP:
	case INGRESS_OTHER:
	case INGRESS_DROP:
		break;
	}
}

void world_near_icmp(
	struct world *world, struct conversation *c, uint8_t type, uint8_t code, uint32_t seq)
{
	size_t len = frame_build_icmp(world, c, type, code, seq);
	const uint8_t *frame = world->buf + VNET_HEADER_LEN;
	struct packet packet;

	if (packet_parse(frame, len, &packet) != PACKET_OK)
		world_fail(world, "no packet");
	tcpflow_near_error(&world->tcpflow, frame, &packet);
}

int world_arrive(struct world *world, struct conversation *c)
{
	const struct tcp_arrival arrival = {
		.fd = world_accept(world, c),
		.near = c->near_addr,
		.near_port = c->near_port,
		.far = c->far_addr,
		.far_port = c->far_port,
		.usage = world->usage,
	};
	int r = tcpflow_arrive(&world->tcpflow, &arrival);

	/* Its owner refuses the client. */
	if (r < 0)
		c->socket->is_open = false;
	return r;
}

void world_hear(struct world *world, const struct ip_addr *addr)
{
	tcpflow_neighbor(&world->tcpflow, addr, &near_mac);
}

void world_far_event(struct world *world, struct socket *socket, uint32_t events)
{
	tcpflow_host_ready(&world->tcpflow, socket->handle, events);
}

/* ---- time ---- */

static bool kernels_step(struct world *world)
{
	bool said = false;

	for (int i = 0; i < world->n_conversations; i++)
		said |= kernel_step(world, &world->conversations[i]);
	return said;
}

void world_finish_turn(struct world *world)
{
	bool again = true;

	for (int n = 0; again; n++) {
		if (n == TURNS_MAX)
			world_fail(world, "goes round without end");
		again = !world->is_done && tcpflow_finish(&world->tcpflow);
		if (world->dgrams && !world->is_done)
			again |= dgrams_finish(world);
		again |= kernels_step(world);
	}
}

int64_t world_next_ns(const struct world *world)
{
	int64_t next_ns = timer_heap_next(&world->loop.timers);

	for (int i = 0; i < world->n_conversations; i++)
		if (world->conversations[i].kernel.is_on &&
			!world->conversations[i].kernel.is_reset)
			next_ns = MIN(next_ns, world->conversations[i].kernel.rto_ns);
	return next_ns;
}

void world_go(struct world *world, int64_t now_ns)
{
	world->loop.now_ns = MAX(world->loop.now_ns, now_ns);
	timer_heap_expire(&world->loop.timers, world->loop.now_ns);
	world_finish_turn(world);
}

/* ---- conversations ---- */

struct conversation *world_converse(struct world *world, const struct ip_addr *near,
	uint16_t near_port, const struct ip_addr *far, uint16_t far_port)
{
	struct conversation *c = &world->conversations[world->n_conversations];

	if (world->n_conversations == CONVERSATIONS_MAX)
		world_fail(world, "too many conversations for one script");
	world->n_conversations++;
	*c = (struct conversation){
		.near_addr = *near,
		.near_port = near_port,
		.far_addr = *far,
		.far_port = far_port,
		.near_shift = NO_SHIFT,
		.our_shift = NO_SHIFT,
	};
	return c;
}

struct tcp_flow *world_flow(struct world *world, const struct conversation *c)
{
	const struct flow_key flow_key = {
		.near = c->near_addr.in6,
		.far = c->far_addr.in6,
		.near_port = c->near_port,
		.far_port = c->far_port,
		.family = c->near_addr.family,
	};
	struct flow *flow = flow_table_find(&world->tcpflow.table, &flow_key);

	return flow ? container_of(flow, struct tcp_flow, flow) : NULL;
}

struct conversation *world_find(struct world *world, struct handle handle)
{
	const struct flow *flow =
		flow_table_get(&world->tcpflow.table, handle.index, handle.generation);

	for (int i = 0; i < world->n_conversations; i++) {
		const struct tcp_flow *known = world_flow(world, &world->conversations[i]);

		if (known && &known->flow == flow)
			return &world->conversations[i];
	}
	world_fail(world, "a handle of no flow");
}

static size_t describe_segment(const struct outcome *out, char *text, size_t size)
{
	static const char letters[] = "FSRPAUEC";
	char flags[9];
	int n = 0;

	for (int i = 0; i < 8; i++)
		if (out->flags & 1 << i)
			flags[n++] = letters[i];
	flags[n] = '\0';
	return (size_t)snprintf(text, size, "near: %s seq %u ack %u len %u win %u gso %u", flags,
		out->seq, out->ack, out->len, out->window, out->gso_size);
}

void outcome_describe(const struct outcome *out, char *text, size_t size)
{
	static const char *const names[] = {
		[OUT_DIAL] = "dial",
		[OUT_SEND] = "send",
		[OUT_SHUTDOWN] = "shutdown",
		[OUT_CLOSE] = "close",
		[OUT_RESET] = "reset",
		[OUT_KEEPALIVE] = "keepalive",
	};

	if (out->kind == OUT_SEGMENT)
		describe_segment(out, text, size);
	else if (out->kind == OUT_ICMP)
		snprintf(text, size, "near: icmp %u/%u", out->icmp_type, out->icmp_code);
	else
		snprintf(text, size, "far: %s %u", names[out->kind],
			out->kind == OUT_DIAL ? out->port : out->len);
}
