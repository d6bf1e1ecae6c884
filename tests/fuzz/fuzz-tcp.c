/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames, time and results of the host, in any order, through ingress and tcpflow. The input is a
 * byte of settings and then operations, each a byte of `enum operation` and its arguments; the last
 * one may be cut short, the missing bytes are zero. Numbers of a crafted segment are relative to
 * those that the flow has, so that few bytes lead far.
 *
 * Besides the sanitizers' findings it fails when a frame is sent that does not parse or has a wrong
 * checksum, beyond the container's window, or that takes back what was acknowledged or offered;
 * when a stream differs from what was put in; when a flow has numbers that cannot be, the machine
 * meets an event that it has no answer to, the end of a turn does not come, a flow outlives hours
 * of silence, or something is left behind.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/util.h"
#include "flow/ingress.h"
#include "tcpflow/tcpflow.h"
#include "tests/fuzz/tcp-world.h"
#include "wire/checksum.h"
#include "wire/cursor.h"
#include "wire/icmp_about.h"
#include "wire/ip4.h"
#include "wire/ip6.h"
#include "wire/tcp.h"

#define OPTIONS_LEN 12
/* Operations of one input; more teach nothing. */
#define OPERATIONS_MAX 400
/* After so long without a word of the container no flow is left. */
#define SILENCE_NS (3 * 3600 * NS_PER_SEC)

enum setting {
	SETTING_CSUM = 1 << 0,
	SETTING_TSO = 1 << 1,
	SETTING_SHORT_QUEUE = 1 << 2,
	SETTING_LARGE_POOL = 1 << 3,
	SETTING_SILENCE = 1 << 4,   /* at the end; else the flows are closed as they are */
	SETTING_LINK_GONE = 1 << 5, /* at the end */
};

/* An operation's lower 3 bits; the rest of its byte is an argument, too. */
enum operation {
	OP_SEGMENT, /* flags, choice, seq16, ack16, window16, len16 */
	OP_QUICK,   /* a segment with ACK, in place: len16, window16 */
	OP_RAW,     /* virtio-net header, len16, bytes */
	OP_TIME,    /* the argument: how long */
	OP_EVENT,   /* fd, events; the dial's outcome in the argument */
	OP_SUPPLY,  /* fd, in16, out16: what can be received and sent; the argument: an error */
	OP_FINISH,
	OP_OTHER, /* the argument: see op_other() */
};

/* ---- frames from the container ---- */

/* The window of an acknowledgement that may be taken. */
static void note_near_edge(const uint8_t *frame, const struct packet *p)
{
	const struct tcp_header *tcp = (const struct tcp_header *)(frame + p->transport_offset);
	uint32_t ack = be32_get(tcp->ack), edge;
	struct flow_key key;
	struct tcp_flow *flow;
	struct track *track;
	struct flow *found;

	flow_key_of(&key, frame, p);
	found = flow_table_find(&world.tcpflow.table, &key);
	world.dial_irs = be32_get(tcp->seq);
	if (!found)
		return;
	flow = container_of(found, struct tcp_flow, flow);
	if (tcp_is_arriving(flow) && !(tcp->flags & TCP_SYN))
		return;
	track = &world.track[found->index];
	track->is_foreign |= world.is_raw;
	if (!(tcp->flags & TCP_ACK) || seq_before(ack, flow->snd_una) ||
		seq_after(ack, flow->snd_nxt))
		return;
	edge = ack + ((uint32_t)be16_get(tcp->window) << flow->snd_shift);
	if (!track->has_near_edge || seq_after(edge, track->near_edge))
		track->near_edge = edge;
	track->has_near_edge = true;
}

static void input(uint8_t *buf, size_t len)
{
	static uint8_t answer[INGRESS_ANSWER_MAX];
	struct packet packet;
	size_t answer_len;
	uint8_t *frame = buf + VNET_HEADER_LEN;

	if (world.is_gone ||
		ingress_frame(&world.ingress, buf, len, world.loop.now_ns, &packet, answer,
			&answer_len) != INGRESS_TCP)
		return;
	note_near_edge(frame, &packet);
	if (tcpflow_input(&world.tcpflow, frame, &packet) == TCPFLOW_STRAY)
		tcpflow_refuse(&world.tcpflow, frame, &packet);
	check_flows();
}

static const uint8_t near6[16] = {0xfd, [15] = 0x64}, far6[16] = {0x20, 1, 0xd, 0xb8, [15] = 1};
static const uint32_t near4 = 0x0a000264, far4 = 0xc6336407;

static size_t put_ip(uint8_t *at, bool is4, uint8_t protocol, size_t len)
{
	struct ip4_header *ip4 = (struct ip4_header *)at;
	struct ip6_header *ip6 = (struct ip6_header *)at;

	if (is4) {
		*ip4 = (struct ip4_header){
			.version_ihl = 0x45,
			.total_length = be16_of((uint16_t)(sizeof(*ip4) + len)),
			.ttl = 64,
			.protocol = protocol,
			.src = be32_of(near4),
			.dst = be32_of(far4),
		};
		ip4->checksum = checksum_finish(checksum_add(0, ip4, sizeof(*ip4)));
		return sizeof(*ip4);
	}
	*ip6 = (struct ip6_header){
		.version_class_flow = be32_of(0x60000000),
		.payload_length = be16_of((uint16_t)len),
		.next_header = protocol,
		.hop_limit = 64,
	};
	memcpy(&ip6->src, near6, sizeof(near6));
	memcpy(&ip6->dst, far6, sizeof(far6));
	return sizeof(*ip6);
}

struct crafted {
	unsigned int slot; /* family, and 4 ports of which the last cannot be dialled */
	uint8_t flags, choice;
	uint16_t seq, ack, window, len;
};

/* The flow that a slot has; NULL: none. */
static struct tcp_flow *flow_in_slot(unsigned int slot)
{
	for (size_t i = 0; i < MAX_FLOWS; i++) {
		struct tcp_flow *flow = flow_at(i);

		if (flow && flow->flow.is_hashed && flow->flow.key.near_port == 1000 + slot)
			return flow;
	}
	return NULL;
}

/* A client's may be shown as another one. */
static uint16_t far_port_of(unsigned int slot)
{
	const struct tcp_flow *flow = flow_in_slot(slot);

	return flow ? flow->flow.key.far_port : (uint16_t)(84 + slot % 4);
}

/* Whence the numbers are counted. */
static void set_numbers(struct tcp_header *tcp, const struct crafted *c)
{
	const struct tcp_flow *flow = flow_in_slot(c->slot);
	uint32_t seq = 0xffffff00, ack = 0;

	if (flow) {
		seq = (c->choice & 1) ? flow->rcv_edge : flow->rcv_nxt;
		ack = (c->choice & 2) ? flow->snd_una : flow->snd_nxt;
	}
	seq += (uint32_t)(int16_t)c->seq;
	ack += (uint32_t)(int16_t)c->ack;
	tcp->seq = be32_of(seq);
	tcp->ack = be32_of(ack);
}

static size_t put_options(uint8_t *at, uint8_t choice)
{
	static const uint8_t sets[4][OPTIONS_LEN] = {
		{2, 4, 0x05, 0xb4, 1, 3, 3, 7, 1, 1, 4, 2},
		{2, 4, 0x00, 0x10, 1, 3, 3, 14, 0, 0, 0, 0},
		{2, 4, 0xff, 0xff, 3, 3, 0, 1, 1, 1, 1, 1},
		{3, 3, 200, 2, 4, 0, 0, 1, 1, 1, 1, 1},
	};

	memcpy(at, sets[choice & 3], OPTIONS_LEN);
	return OPTIONS_LEN;
}

static void craft(const struct crafted *c)
{
	static uint8_t buf[INGRESS_BUFFER_LEN];
	struct vnet_header *vnet = (struct vnet_header *)buf;
	uint8_t *frame = buf + VNET_HEADER_LEN, *ip = frame + ETH_HEADER_LEN;
	struct eth_header *eth = (struct eth_header *)frame;
	bool is4 = c->slot < 4;
	size_t ip_len = is4 ? 20 : 40, header_len = TCP_HEADER_MIN;
	struct tcp_header *tcp = (struct tcp_header *)(ip + ip_len);
	uint8_t *data;

	*eth = (struct eth_header){
		.dst = {{0x52, 0x55, 10, 0, 2, 2}},
		.src = {{2, 0, 0, 0, 0, 1}},
		.type = be16_of(is4 ? ETH_TYPE_IP4 : ETH_TYPE_IP6),
	};
	*tcp = (struct tcp_header){
		.src_port = be16_of((uint16_t)(1000 + c->slot)),
		.dst_port = be16_of(far_port_of(c->slot)),
		.flags = c->flags,
		.window = be16_of(c->window),
	};
	set_numbers(tcp, c);
	if (c->flags & TCP_SYN && c->choice & 4)
		header_len += put_options((uint8_t *)(tcp + 1), c->choice >> 3);
	tcp->offset = (uint8_t)(header_len / 4 << 4);
	put_ip(ip, is4, IPPROTO_TCP, header_len + c->len);
	data = (uint8_t *)tcp + header_len;
	/* What a SYN brings is behind its number. */
	memcpy(data, stream_at(be32_get(tcp->seq) + !!(c->flags & TCP_SYN)), c->len);
	*vnet = (struct vnet_header){.flags = c->choice & 0x80 ? 0 : VNET_DATA_VALID};
	input(buf, ETH_HEADER_LEN + ip_len + header_len + c->len);
}

/* ---- operations ---- */

static uint8_t next8(struct cursor *in)
{
	const uint8_t *at = cursor_take(in, 1);

	return at ? *at : 0;
}

static uint16_t next16(struct cursor *in)
{
	uint16_t high = next8(in);

	return (uint16_t)(high << 8 | next8(in));
}

/* More often small than not; at most what fits into a packet. */
static uint16_t next_len(struct cursor *in)
{
	uint16_t len = next16(in);

	if (!(len & 0x8000))
		return len & 0xfff;
	return (uint16_t)MIN(len, 65535 - IP6_HEADER_LEN - TCP_HEADER_MIN - OPTIONS_LEN);
}

static void op_segment(struct cursor *in, unsigned int argument)
{
	struct crafted c = {.slot = argument % 8};

	c.flags = next8(in);
	c.choice = next8(in);
	c.seq = next16(in);
	c.ack = next16(in);
	c.window = next16(in);
	c.len = next_len(in);
	craft(&c);
}

static void op_quick(struct cursor *in, unsigned int argument)
{
	struct crafted c = {.slot = argument % 8, .flags = TCP_ACK};

	c.len = next_len(in);
	c.window = next16(in);
	if (argument & 8)
		c.flags |= TCP_FIN;
	if (argument & 16)
		c.choice = 2; /* acknowledges nothing new */
	craft(&c);
}

static void op_raw(struct cursor *in)
{
	static uint8_t buf[INGRESS_BUFFER_LEN];
	const uint8_t *vnet = cursor_take(in, VNET_HEADER_LEN), *data;
	size_t len = next16(in);

	len = MIN(len, in->left);
	data = cursor_take(in, len);
	if (!vnet)
		return;
	memcpy(buf, vnet, VNET_HEADER_LEN);
	memcpy(buf + VNET_HEADER_LEN, data, len);
	world.is_raw = true;
	input(buf, len);
	world.is_raw = false;
}

/* Time passes between turns only. */
static void expire(int64_t until_ns)
{
	int64_t due_ns;

	finish();
	while ((due_ns = timer_heap_next(&world.loop.timers)) <= until_ns) {
		world.loop.now_ns = MAX(world.loop.now_ns, due_ns);
		timer_heap_expire(&world.loop.timers, world.loop.now_ns);
		finish();
	}
	world.loop.now_ns = until_ns;
}

/* From a microsecond to hours. */
static void op_time(unsigned int argument)
{
	expire(world.loop.now_ns + (INT64_C(1000) << argument) + 1);
}

static void op_event(struct cursor *in, unsigned int argument)
{
	static const int errors[] = {
		0, ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, EACCES, ECONNRESET, EPROTO};
	static const uint32_t bits[] = {EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR};
	struct far *far = &world.far[next8(in) % FDS];
	uint8_t chosen = next8(in);
	uint32_t events = 0;

	for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
		if (chosen & 1 << i)
			events |= bits[i];
	if (!far->is_open || !events)
		return;
	if (!far->is_up && events & (EPOLLERR | EPOLLHUP))
		far->error = errors[argument % ARRAY_SIZE(errors)];
	if (chosen & 0x80)
		far->in_ended = true;
	far->is_connected = true;
	tcpflow_host_ready(&world.tcpflow, far->handle, events);
	check_flows();
}

/* More of it, and the event that says so. */
static void op_supply(struct cursor *in, unsigned int argument)
{
	static const int errors[] = {0, 0, 0, 0, ECONNRESET, ETIMEDOUT, EPIPE, EHOSTUNREACH};
	struct far *far = &world.far[next8(in) % FDS];
	uint32_t n_in = next16(in), n_out = next16(in);

	if (!far->is_open)
		return;
	if (!far->in_ended)
		far->in += n_in;
	far->room += n_out;
	far->in_ended |= argument & 8;
	far->is_connected = true;
	if (far->is_up)
		far->error = errors[argument % ARRAY_SIZE(errors)];
	tcpflow_host_ready(&world.tcpflow, far->handle,
		EPOLLIN | EPOLLOUT | (far->in_ended ? EPOLLRDHUP : 0) |
			(far->error ? EPOLLERR | EPOLLHUP : 0));
	check_flows();
}

static struct ip_addr addr4(uint32_t v4)
{
	return ip_addr_of_v4((struct in_addr){htonl(v4)});
}

static struct ip_addr addr6(const uint8_t v6[16])
{
	struct in6_addr addr;

	memcpy(&addr, v6, sizeof(addr));
	return ip_addr_of_v6(&addr);
}

static void arrive(unsigned int slot)
{
	const bool is4 = slot < 4;
	const struct tcp_arrival arrival = {
		.fd = free_fd(),
		.near = is4 ? addr4(near4) : addr6(near6),
		.near_port = (uint16_t)(1000 + slot),
		.far = is4 ? addr4(far4) : addr6(far6),
		.far_port = (uint16_t)(84 + slot % 4),
		.usage = world.usage,
	};

	world.far[arrival.fd] = (struct far){.is_open = true, .is_up = true};
	if (tcpflow_arrive(&world.tcpflow, &arrival) < 0)
		world.far[arrival.fd].is_open = false;
}

/* About the SYN that is under way, more or less. */
static void near_error(unsigned int slot, uint8_t type, uint8_t code)
{
	static uint8_t frame[256];
	const bool is4 = slot < 4;
	const struct tcp_flow *flow = flow_in_slot(slot);
	const struct icmp_header icmp = {.type = type, .code = code & 0xf};
	const be16 ports[] = {be16_of(far_port_of(slot)), be16_of((uint16_t)(1000 + slot))};
	const be32 seq = be32_of((flow ? flow->iss : 0) + (code >> 7));
	struct eth_header *eth = (struct eth_header *)frame;
	struct icmp_about about = {
		.src = is4 ? addr4(far4) : addr6(far6),
		.dst = is4 ? addr4(near4) : addr6(near6),
		.protocol = code & 0x40 ? IPPROTO_UDP : IPPROTO_TCP,
		.len = TCP_HEADER_MIN,
	};
	uint8_t message[ICMP_ABOUT_MAX];
	struct packet packet;
	size_t len, ip_len;

	memcpy(about.header, ports, sizeof(ports));
	memcpy(about.header + sizeof(ports), &seq, sizeof(seq));
	len = icmp_about_build(message, &about, &icmp) - (code >> 4 & 3) * 8;
	*eth = (struct eth_header){.type = be16_of(is4 ? ETH_TYPE_IP4 : ETH_TYPE_IP6)};
	ip_len = put_ip(frame + ETH_HEADER_LEN, is4, icmp_protocol(is4 ? AF_INET : AF_INET6), len);
	memcpy(frame + ETH_HEADER_LEN + ip_len, message, len);
	ALWAYS(packet_parse(frame, ETH_HEADER_LEN + ip_len + len, &packet) == PACKET_OK);
	tcpflow_near_error(&world.tcpflow, frame, &packet);
}

static void op_neighbor(bool is_unknown)
{
	const struct ip_addr addr = addr4(near4), addr_6 = addr6(near6);

	world.is_unknown = is_unknown;
	if (is_unknown)
		return;
	tcpflow_neighbor(&world.tcpflow, &addr, &near_mac);
	tcpflow_neighbor(&world.tcpflow, &addr_6, &near_mac);
}

/* The middle bits choose: the link, and whether it takes frames; a client, and in which slot; where
 * the container is, and whether that is unknown; the end of the rule, or an ICMP error. */
static void op_other(struct cursor *in, unsigned int argument)
{
	const unsigned int slot = argument & 1 ? 4 + (argument >> 3) : argument >> 3;
	uint8_t type;

	switch (argument >> 1 & 3) {
	case 0:
		world.is_down = argument & 1;
		return;
	case 1:
		arrive(slot);
		break;
	case 2:
		op_neighbor(argument & 1);
		break;
	case 3:
		if (argument == 31) {
			tcpflow_reset_all(&world.tcpflow, world.usage);
			break;
		}
		type = next8(in);
		near_error(slot, type, next8(in));
		break;
	}
	check_flows();
}

static void operate(struct cursor *in)
{
	uint8_t code = next8(in);
	unsigned int argument = code >> 3;

	switch ((enum operation)(code & 7)) {
	case OP_SEGMENT:
		op_segment(in, argument);
		break;
	case OP_QUICK:
		op_quick(in, argument);
		break;
	case OP_RAW:
		op_raw(in);
		break;
	case OP_TIME:
		op_time(argument);
		break;
	case OP_EVENT:
		op_event(in, argument);
		break;
	case OP_SUPPLY:
		op_supply(in, argument);
		break;
	case OP_FINISH:
		if (argument == 1)
			tcpflow_answer(&world.tcpflow);
		else
			finish();
		check_flows();
		break;
	case OP_OTHER:
		op_other(in, argument);
		break;
	}
}

/* ---- the end ---- */

static void end_dials(void)
{
	for (size_t fd = 0; fd < FDS; fd++) {
		struct far *far = &world.far[fd];

		if (!far->is_open || far->is_up)
			continue;
		far->error = ETIMEDOUT;
		tcpflow_host_ready(&world.tcpflow, far->handle, EPOLLERR | EPOLLHUP);
	}
}

static void be_silent(void)
{
	for (int i = 0; i < HOST_NAMESERVERS_MAX; i++)
		end_dials();
	finish();
	expire(world.loop.now_ns + SILENCE_NS);
	/* What was acknowledged waits for the host as long as its kernel does. */
	for (struct flow *flow = flow_table_any(&world.tcpflow.table); flow;
		flow = flow_table_after(&world.tcpflow.table, flow))
		ALWAYS(container_of(flow, struct tcp_flow, flow)->state == TCP_DRAINING);
}

static void lose_link(void)
{
	tcpflow_link_gone(&world.tcpflow);
	world.is_gone = true;
	finish();
	for (struct flow *flow = flow_table_any(&world.tcpflow.table); flow;
		flow = flow_table_after(&world.tcpflow.table, flow))
		ALWAYS(container_of(flow, struct tcp_flow, flow)->up.len);
}

static void check_nothing_left(void)
{
	ALWAYS(timer_heap_next(&world.loop.timers) == CLOCK_NEVER);
	for (size_t fd = 0; fd < FDS; fd++)
		ALWAYS(!world.far[fd].is_open);
	ALWAYS(!world.n_claims && !world.usage->n_active && world.usage->n_refs == 1);
}

/* ---- the beginning ---- */

static void world_init(uint8_t settings)
{
	static const struct siphash_key key = {{1, 2}};
	const struct tcpflow_config config = {
		.policy = &world.policy,
		.link = &world.link,
		.host = &world.host,
		.loop = &world.loop,
		.counters = &world.counters,
		.icmp_limit = &world.icmp_limit,
		.next_hop = &world.next_hop,
		.mtu = 1500,
		.key = &key,
		.max_flows = MAX_FLOWS,
		.queue_len = settings & SETTING_SHORT_QUEUE ? 20 : 0,
		.memory = settings & SETTING_LARGE_POOL ? 4 * 1024 * 1024 : BUFFER_POOL_MIN,
	};

	world = (struct world){
		.policy =
			{
				.network = {htonl(0x0a000200)},
				.netmask = {htonl(0xffffff00)},
				.gateway = {htonl(0x0a000202)},
				.dns = {htonl(0x0a000203)},
				.guest = {htonl(0x0a000264)},
				.gateway6 = {{{0xfd, [15] = 2}}},
				.dns6 = {{{0xfd, [15] = 3}}},
				.ipv6 = true,
				.host_loopback = true,
				.dns_enabled = true,
			},
		.loop = {.epoll_fd = -1, .now_ns = NS_PER_SEC},
		.link = {.ops = &link_ops, .fd = -1},
		.host = {.ops = &host_ops},
		.next_hop = {.ops = &hop_ops},
		.usage = usage_new(),
	};
	ALWAYS(world.usage);
	if (settings & SETTING_CSUM)
		world.link.offloads = LINK_CSUM;
	if (settings & SETTING_CSUM && settings & SETTING_TSO)
		world.link.offloads |= LINK_TSO4 | LINK_TSO6;
	icmp_limit_init(&world.icmp_limit, &world.counters);
	ingress_init(&world.ingress, &world.policy, &world.icmp_limit, true, &world.counters);
	ALWAYS(tcpflow_init(&world.tcpflow, &config) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct cursor in = {.at = data, .left = len};
	uint8_t settings = next8(&in);

	if (!pattern[1])
		pattern_init();
	world_init(settings);
	for (unsigned int i = 0; i < OPERATIONS_MAX && in.left; i++)
		operate(&in);
	finish();
	if (settings & SETTING_SILENCE)
		be_silent();
	else if (settings & SETTING_LINK_GONE)
		lose_link();
	if (!world.tcpflow.table.n_flows)
		ALWAYS(buffer_pool_is_whole(&world.tcpflow.pool));
	tcpflow_done(&world.tcpflow);
	ingress_done(&world.ingress);
	check_nothing_left();
	usage_unref(world.usage);
	return 0;
}
