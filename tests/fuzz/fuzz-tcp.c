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
#include "tests/fuzz/fuzz.h"
#include "wire/checksum.h"
#include "wire/cursor.h"
#include "wire/ip4.h"
#include "wire/ip6.h"
#include "wire/tcp.h"

#define MAX_FLOWS   24
#define FDS         64
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
	OP_LINK, /* the argument: whether it takes frames */
};

/* What the host says of a descriptor. */
struct far {
	bool is_open, is_up;
	int error;         /* of the next calls, 0: none */
	uint32_t in, room; /* bytes that can be received, and sent, now */
	uint32_t in_offset, out_offset;
	bool in_ended, out_ended;
	struct handle handle;
};

/* What the frames of a flow have said. */
struct track {
	uint32_t generation;
	int fd;
	bool has_iss, has_edge;
	uint32_t iss, irs;
	uint32_t ack, edge; /* the latest of the relay */
	bool has_near_edge;
	uint32_t near_edge; /* of the container's windows */
	bool is_foreign;    /* raw frames came: its bytes are anything */
};

static struct world {
	struct policy policy;
	struct counters counters;
	struct icmp_limit icmp_limit;
	struct ingress ingress;
	struct loop loop;
	struct link link;
	struct host host;
	struct tcpflow tcpflow;
	struct far far[FDS];
	struct track track[MAX_FLOWS];
	uint64_t n_effects;
	uint32_t dial_irs; /* the number of the SYN that is looked at */
	bool is_down, is_gone, is_raw;
} world;

/* ---- streams: a byte is a function of its place, modulo 64 KiB ---- */

static uint8_t pattern[2 * 65536];

static void pattern_init(void)
{
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7 + (i >> 8 & 0xff) * 13);
}

/* At most 64 KiB from there. */
static const uint8_t *stream_at(uint32_t place)
{
	return pattern + place % 65536;
}

/* ---- the host ---- */

static struct far *far_of(int fd)
{
	ALWAYS(fd >= 0 && fd < FDS && world.far[fd].is_open);
	return &world.far[fd];
}

static int host_dial(struct host *host, const struct host_dial *dial, struct handle handle)
{
	int fd = 0;

	ALWAYS(dial->port && handle.index < MAX_FLOWS);
	while (fd < FDS && world.far[fd].is_open)
		fd++;
	ALWAYS(fd < FDS);
	/* One in eight ports cannot be dialled. */
	if (dial->port % 8 == 7)
		return -EADDRNOTAVAIL;
	world.far[fd] = (struct far){.is_open = true, .handle = handle};
	world.track[handle.index] =
		(struct track){.generation = handle.generation, .fd = fd, .irs = world.dial_irs};
	world.track[handle.index].is_foreign = world.is_raw;
	return fd;
}

static void host_dial_result(struct host *host, int fd, struct host_error *ret)
{
	struct far *far = far_of(fd);

	*ret = (struct host_error){.error = far->error};
	far->is_up = !far->error;
	far->error = 0;
}

static void host_dialled(struct host *host, int fd, const struct ip_addr *addr)
{
	far_of(fd)->is_up = true;
}

static int take_error(struct far *far)
{
	int error = far->error;

	far->error = 0;
	world.n_effects++;
	return -error;
}

static ssize_t host_recv(struct host *host, int fd, void *buf, size_t len)
{
	struct far *far = far_of(fd);
	uint32_t n = (uint32_t)MIN(len, far->in);

	ALWAYS(far->is_up && len && len <= 65536);
	if (!n && far->error)
		return take_error(far);
	if (!n && !far->in_ended)
		return -EAGAIN;
	memcpy(buf, stream_at(far->in_offset), n);
	far->in -= n;
	far->in_offset += n;
	world.n_effects++;
	return n;
}

static void check_sent(const struct far *far, const uint8_t *data, uint32_t n)
{
	const struct track *track = &world.track[far->handle.index];

	ALWAYS(track->generation == far->handle.generation);
	if (!track->is_foreign)
		ALWAYS(!memcmp(data, stream_at(track->irs + 1 + far->out_offset), n));
}

static ssize_t host_send(struct host *host, int fd, const struct iovec *iov, int n_iov)
{
	struct far *far = far_of(fd);
	ssize_t taken = 0;

	ALWAYS(far->is_up && n_iov > 0 && !far->out_ended);
	if (far->error)
		return take_error(far);
	for (int i = 0; i < n_iov && far->room; i++) {
		uint32_t n = (uint32_t)MIN(iov[i].iov_len, far->room);

		check_sent(far, iov[i].iov_base, n);
		far->room -= n;
		far->out_offset += n;
		taken += n;
	}
	world.n_effects += taken > 0;
	return taken ? taken : -EAGAIN;
}

static void host_shutdown(struct host *host, int fd)
{
	ALWAYS(!far_of(fd)->out_ended);
	far_of(fd)->out_ended = true;
}

static void host_close(struct host *host, int fd)
{
	far_of(fd)->is_open = false;
	world.n_effects++;
}

static void host_keepalive(struct host *host, int fd, unsigned int idle_s)
{
	far_of(fd);
	ALWAYS(idle_s);
}

static struct ip_addr host_nameserver(struct host *host, uint8_t family, int64_t now_ns)
{
	return ip_addr_of_v4((struct in_addr){htonl(0xc0000235)});
}

static const struct host_ops host_ops = {
	.tcp_dial = host_dial,
	.tcp_dial_result = host_dial_result,
	.tcp_dialled = host_dialled,
	.tcp_recv = host_recv,
	.tcp_send = host_send,
	.tcp_shutdown = host_shutdown,
	.tcp_close = host_close,
	.tcp_reset = host_close,
	.tcp_keepalive = host_keepalive,
	.nameserver = host_nameserver,
};

/* ---- what is sent to the container ---- */

static uint64_t pseudo_sum(const struct packet *p)
{
	struct ip6_addr src6, dst6;
	be32 src4, dst4;

	if (p->ethertype == ETH_TYPE_IP4) {
		memcpy(&src4, &p->src.in6.s6_addr[12], sizeof(src4));
		memcpy(&dst4, &p->dst.in6.s6_addr[12], sizeof(dst4));
		return checksum_pseudo4(src4, dst4, IPPROTO_TCP, (uint16_t)p->transport_len);
	}
	memcpy(&src6, &p->src.in6, sizeof(src6));
	memcpy(&dst6, &p->dst.in6, sizeof(dst6));
	return checksum_pseudo6(&src6, &dst6, IPPROTO_TCP, p->transport_len);
}

static void check_checksum(
	const struct vnet_header *vnet, const uint8_t *frame, const struct packet *p)
{
	const uint8_t *at = frame + p->transport_offset;
	be16 field = ((const struct tcp_header *)at)->checksum;

	if (!(vnet->flags & VNET_NEEDS_CSUM)) {
		ALWAYS(!vnet->gso_type);
		ALWAYS(!be16_get(
			checksum_finish(checksum_add(pseudo_sum(p), at, p->transport_len))));
		return;
	}
	ALWAYS(world.link.offloads & LINK_CSUM);
	ALWAYS(le16_get(vnet->csum_start) == p->transport_offset);
	ALWAYS(le16_get(vnet->csum_offset) == offsetof(struct tcp_header, checksum));
	ALWAYS(be16_get(checksum_finish(pseudo_sum(p))) + be16_get(field) == 0xffff);
	if (!vnet->gso_type)
		return;
	ALWAYS(world.link.offloads & (p->ethertype == ETH_TYPE_IP4 ? LINK_TSO4 : LINK_TSO6));
	ALWAYS(vnet->gso_type == (p->ethertype == ETH_TYPE_IP4 ? VNET_GSO_TCP4 : VNET_GSO_TCP6));
	ALWAYS(le16_get(vnet->gso_size));
}

/* The flow to which a frame of the relay belongs, seen from the container. */
static struct tcp_flow *flow_of(const uint8_t *frame, const struct packet *p)
{
	struct flow_key theirs, key;
	struct flow *found;

	flow_key_of(&theirs, frame, p);
	key = (struct flow_key){
		.near = theirs.far,
		.far = theirs.near,
		.near_port = theirs.far_port,
		.far_port = theirs.near_port,
		.family = theirs.family,
	};
	found = flow_table_find(&world.tcpflow.table, &key);
	return found ? container_of(found, struct tcp_flow, flow) : NULL;
}

static void check_data(const struct tcp_flow *flow, const struct track *track,
	const struct tcp_header *tcp, uint32_t len)
{
	uint32_t seq = be32_get(tcp->seq), end = seq + len + !!(tcp->flags & TCP_FIN);
	const uint8_t *data = (const uint8_t *)tcp + tcp_header_len(tcp);

	if (end == seq)
		return;
	ALWAYS(track->has_near_edge && !seq_after(end, track->near_edge));
	ALWAYS(!memcmp(data, stream_at(seq - track->iss - 1), len));
	/* What was received, and not more. */
	ALWAYS(!seq_after(seq + len, track->iss + 1 + world.far[track->fd].in_offset));
	if (tcp->flags & TCP_FIN)
		ALWAYS(flow->far_eof &&
			seq + len == track->iss + 1 + world.far[track->fd].in_offset);
}

static void check_window(
	const struct tcp_flow *flow, struct track *track, const struct tcp_header *tcp)
{
	uint32_t ack = be32_get(tcp->ack);
	uint32_t edge = ack + ((uint32_t)be16_get(tcp->window) << flow->rcv_shift);

	ALWAYS(ack == flow->rcv_nxt);
	ALWAYS(!track->has_edge || !seq_before(ack, track->ack));
	ALWAYS(!track->has_edge || !seq_before(edge, track->edge));
	track->ack = ack;
	track->edge = edge;
	track->has_edge = true;
}

static void check_segment(
	const struct vnet_header *vnet, const uint8_t *frame, const struct packet *p)
{
	const struct tcp_header *tcp = (const struct tcp_header *)(frame + p->transport_offset);
	uint32_t len = p->transport_len - p->transport_header_len;
	struct track *track;
	struct tcp_flow *flow;

	check_checksum(vnet, frame, p);
	if (tcp->flags & TCP_RST)
		return;
	flow = flow_of(frame, p);
	ALWAYS(flow && tcp->flags & TCP_ACK);
	track = &world.track[flow->flow.index];
	ALWAYS(track->generation == flow->flow.generation);
	if (tcp->flags & TCP_SYN) {
		ALWAYS(!len && be32_get(tcp->ack) == flow->irs + 1);
		ALWAYS(!track->has_iss || track->iss == be32_get(tcp->seq));
		track->has_iss = true;
		track->iss = be32_get(tcp->seq);
		return;
	}
	ALWAYS(track->has_iss);
	ALWAYS(vnet->gso_type ? le16_get(vnet->gso_size) == flow->mss : len <= flow->mss);
	check_window(flow, track, tcp);
	check_data(flow, track, tcp, len);
}

static int link_send(struct link *link, const struct iovec *iov, int n_iov)
{
	static uint8_t buf[LINK_BUFFER_LEN];
	const uint8_t *frame = buf + LINK_HEADER_LEN;
	struct packet p;
	size_t len = 0;

	ALWAYS(!world.is_gone);
	for (int i = 0; i < n_iov; i++) {
		ALWAYS(iov[i].iov_len && len + iov[i].iov_len <= sizeof(buf));
		memcpy(buf + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	ALWAYS(len > LINK_HEADER_LEN);
	ALWAYS(packet_parse(frame, len - LINK_HEADER_LEN, &p) == PACKET_OK);
	ALWAYS(p.len == len - LINK_HEADER_LEN && !p.is_fragment);
	if (p.protocol == IPPROTO_TCP)
		check_segment((const struct vnet_header *)buf, frame, &p);
	world.n_effects++;
	return world.is_down ? -EIO : 0;
}

static const struct link_ops link_ops = {.send = link_send};

/* ---- what must hold after each step ---- */

static void check_flow(const struct tcp_flow *flow)
{
	const struct track *track = &world.track[flow->flow.index];

	ALWAYS(!seq_after(flow->snd_una, flow->snd_nxt));
	if (flow->state <= TCP_TIME_WAIT)
		ALWAYS(flow->snd_nxt - flow->snd_una <= flow->down.len + 1);
	ALWAYS(!seq_after(flow->rcv_nxt, flow->rcv_edge));
	ALWAYS(flow->up.len <= flow->rcv_wnd_max + BUFFER_LARGE);
	ALWAYS(flow->down.len <= TCP_DOWN_WINDOW + BUFFER_LARGE);
	ALWAYS(flow->fd >= 0 || !flow->up.len);
	if (flow->fd < 0)
		return;
	ALWAYS(world.far[flow->fd].is_open && track->fd == flow->fd);
	/* Nothing is lost between the container and the host. */
	if (world.far[flow->fd].is_up && !flow->near_eof)
		ALWAYS(flow->rcv_nxt - flow->irs - 1 ==
			world.far[flow->fd].out_offset + flow->up.len);
}

static struct tcp_flow *flow_at(size_t index)
{
	struct flow *flow = flow_table_get(
		&world.tcpflow.table, (uint32_t)index, world.track[index].generation);

	return flow ? container_of(flow, struct tcp_flow, flow) : NULL;
}

/* Flows without a track have not been dialled and are over. */
static void check_flows(void)
{
	unsigned int n = 0;

	ALWAYS(!world.counters.value[COUNTER_TCP_IMPOSSIBLE]);
	for (size_t i = 0; i < MAX_FLOWS; i++) {
		const struct tcp_flow *flow = flow_at(i);

		if (flow)
			check_flow(flow);
		n += !!flow;
	}
	ALWAYS(world.tcpflow.n_half_open <= n && n <= world.tcpflow.table.n_flows);
}

static void finish(void)
{
	unsigned int n_idle = 0;
	uint64_t before;

	do {
		before = world.n_effects;
		if (!tcpflow_finish(&world.tcpflow))
			break;
		n_idle = world.n_effects == before ? n_idle + 1 : 0;
		ALWAYS(n_idle < 4);
	} while (true);
	check_flows();
}

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

static size_t put_ip(uint8_t *at, bool is4, size_t tcp_len)
{
	static const uint8_t near6[16] = {0xfd, [15] = 0x64},
			     far6[16] = {0x20, 1, 0xd, 0xb8, [15] = 1};
	struct ip4_header *ip4 = (struct ip4_header *)at;
	struct ip6_header *ip6 = (struct ip6_header *)at;

	if (is4) {
		*ip4 = (struct ip4_header){
			.version_ihl = 0x45,
			.total_length = be16_of((uint16_t)(sizeof(*ip4) + tcp_len)),
			.ttl = 64,
			.protocol = IPPROTO_TCP,
			.src = be32_of(0x0a000264),
			.dst = be32_of(0xc6336407),
		};
		ip4->checksum = checksum_finish(checksum_add(0, ip4, sizeof(*ip4)));
		return sizeof(*ip4);
	}
	*ip6 = (struct ip6_header){
		.version_class_flow = be32_of(0x60000000),
		.payload_length = be16_of((uint16_t)tcp_len),
		.next_header = IPPROTO_TCP,
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
		.dst_port = be16_of((uint16_t)(84 + c->slot % 4)),
		.flags = c->flags,
		.window = be16_of(c->window),
	};
	set_numbers(tcp, c);
	if (c->flags & TCP_SYN && c->choice & 4)
		header_len += put_options((uint8_t *)(tcp + 1), c->choice >> 3);
	tcp->offset = (uint8_t)(header_len / 4 << 4);
	put_ip(ip, is4, header_len + c->len);
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

static void expire(int64_t until_ns)
{
	int64_t due_ns;

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
	if (far->is_up)
		far->error = errors[argument % ARRAY_SIZE(errors)];
	tcpflow_host_ready(&world.tcpflow, far->handle,
		EPOLLIN | EPOLLOUT | (far->in_ended ? EPOLLRDHUP : 0) |
			(far->error ? EPOLLERR | EPOLLHUP : 0));
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
		finish();
		break;
	case OP_LINK:
		world.is_down = argument & 1;
		break;
	}
}

/* ---- the end ---- */

static void be_silent(void)
{
	for (size_t fd = 0; fd < FDS; fd++) {
		struct far *far = &world.far[fd];

		if (!far->is_open || far->is_up)
			continue;
		far->error = ETIMEDOUT;
		tcpflow_host_ready(&world.tcpflow, far->handle, EPOLLERR | EPOLLHUP);
	}
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
	};
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
	return 0;
}
