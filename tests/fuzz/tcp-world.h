/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world of fuzz-tcp.c: a host that does what it was told, a link that looks at each frame, and
 * what must hold after each step.
 */
#pragma once

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "flow/ingress.h"
#include "tcpflow/tcpflow.h"
#include "tests/fuzz/fuzz.h"
#include "wire/checksum.h"
#include "wire/tcp.h"

/* Few enough that those in TIME_WAIT have to give way. */
#define MAX_FLOWS 12
#define FDS       64

/* What the host says of a descriptor. */
struct far {
	bool is_open, is_up;
	bool is_connected; /* at once, or an event has come */
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
	bool is_arrival;    /* a client's: irs is known only when the container has accepted */
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
	struct next_hop next_hop;
	struct usage *usage;
	uint32_t n_claims;
	bool is_unknown; /* where the container is */
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

static int free_fd(void)
{
	int fd = 0;

	while (fd < FDS && world.far[fd].is_open)
		fd++;
	ALWAYS(fd < FDS);
	return fd;
}

/* Every other one cannot be watched when the link is down. */
static int host_adopt(struct host *host, int fd, struct handle handle)
{
	ALWAYS(far_of(fd)->is_up && handle.index < MAX_FLOWS);
	if (world.is_down && handle.generation % 2)
		return -EMFILE;
	world.far[fd].handle = handle;
	world.track[handle.index] =
		(struct track){.generation = handle.generation, .fd = fd, .is_arrival = true};
	return 0;
}

static int host_dial(struct host *host, const struct host_dial *dial, struct handle handle)
{
	struct track *track = &world.track[handle.index];
	int fd = free_fd();

	ALWAYS(dial->port && handle.index < MAX_FLOWS);
	/* One in eight ports cannot be dialled. */
	if (dial->port % 8 == 7)
		return -EADDRNOTAVAIL;
	/* And to one in eight the connection stands at once. */
	world.far[fd] = (struct far){
		.is_open = true, .handle = handle, .is_connected = dial->port % 8 == 6};
	/* Else another nameserver for the same flow. */
	if (track->generation != handle.generation || !handle.generation)
		*track = (struct track){.generation = handle.generation,
			.irs = world.dial_irs,
			.is_foreign = world.is_raw};
	track->fd = fd;
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

static ssize_t host_recv(struct host *host, int fd, const struct iovec *iov, int n_iov)
{
	struct far *far = far_of(fd);
	size_t len = iov_len(iov, n_iov);
	uint32_t n = (uint32_t)MIN(len, far->in);

	ALWAYS(far->is_up && len && len <= LINK_BIG_PAYLOAD);
	if (!n && far->error)
		return take_error(far);
	if (!n && !far->in_ended)
		return -EAGAIN;
	far->in -= n;
	for (uint32_t left = n; left; iov++) {
		uint32_t piece = MIN(left, (uint32_t)iov->iov_len);

		memcpy(iov->iov_base, stream_at(far->in_offset), piece);
		far->in_offset += piece;
		left -= piece;
	}
	world.n_effects++;
	return n;
}

static uint32_t irs_of(const struct far *far)
{
	const struct handle handle = far->handle;
	struct flow *flow = flow_table_get(&world.tcpflow.table, handle.index, handle.generation);

	if (!world.track[handle.index].is_arrival)
		return world.track[handle.index].irs;
	ALWAYS(flow);
	return container_of(flow, struct tcp_flow, flow)->irs;
}

static void check_sent(const struct far *far, const uint8_t *data, uint32_t n)
{
	const struct track *track = &world.track[far->handle.index];

	ALWAYS(track->generation == far->handle.generation);
	if (!track->is_foreign)
		ALWAYS(!memcmp(data, stream_at(irs_of(far) + 1 + far->out_offset), n));
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

/* 192.0.2.53 and .54 */
static int host_nameservers(
	struct host *host, struct host_nameserver ret[HOST_NAMESERVERS_MAX], int64_t now_ns)
{
	for (uint8_t i = 0; i < 2; i++)
		ret[i] = (struct host_nameserver){
			.addr = ip_addr_of_v4((struct in_addr){htonl(0xc0000235 + i)}),
			.position = i};
	return 2;
}

static void host_nameserver_said(
	struct host *host, const struct ip_addr *addr, bool answered, int64_t now_ns)
{
	ALWAYS(addr->family == AF_INET);
}

static bool host_is_connected(struct host *host, int fd)
{
	return far_of(fd)->is_connected;
}

/* Its peer's kernel has taken all. */
static bool host_has_unacknowledged(struct host *host, int fd)
{
	return false;
}

static const struct host_ops host_ops = {
	.tcp_adopt = host_adopt,
	.tcp_dial = host_dial,
	.tcp_dial_result = host_dial_result,
	.tcp_dialled = host_dialled,
	.tcp_recv = host_recv,
	.tcp_send = host_send,
	.tcp_shutdown = host_shutdown,
	.tcp_close = host_close,
	.tcp_reset = host_close,
	.tcp_keepalive = host_keepalive,
	.tcp_has_unacknowledged = host_has_unacknowledged,
	.nameservers = host_nameservers,
	.nameserver_said = host_nameserver_said,
	.is_connected = host_is_connected,
};

/* ---- the next hop ---- */

static const struct eth_addr near_mac = {{2, 0, 0, 0, 0, 1}};

static bool hop_find(
	struct next_hop *next_hop, const struct ip_addr *addr, bool again, struct eth_addr *ret_mac)
{
	if (!world.is_unknown)
		*ret_mac = near_mac;
	return !world.is_unknown;
}

static int hop_claim(struct next_hop *next_hop, const struct ip_addr *addr)
{
	world.n_claims++;
	return 0;
}

static void hop_release(struct next_hop *next_hop, const struct ip_addr *addr)
{
	ALWAYS(world.n_claims--);
}

static const struct next_hop_ops hop_ops = {
	.find = hop_find,
	.claim = hop_claim,
	.release = hop_release,
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

static bool tcp_is_arriving(const struct tcp_flow *flow)
{
	return flow->state == TCP_RESOLVING || flow->state == TCP_SYN_SENT;
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
	ALWAYS(flow);
	track = &world.track[flow->flow.index];
	ALWAYS(track->generation == flow->flow.generation);
	/* Only the first word of all acknowledges nothing. */
	if (tcp->flags & TCP_ACK)
		ALWAYS(!tcp_is_arriving(flow));
	else
		ALWAYS(tcp->flags == TCP_SYN && track->is_arrival && flow->state == TCP_SYN_SENT);
	if (tcp->flags & TCP_SYN) {
		ALWAYS(!len);
		ALWAYS(track->is_arrival || be32_get(tcp->ack) == flow->irs + 1);
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
	if (world.far[flow->fd].is_up && !flow->near_eof && !tcp_is_arriving(flow))
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
	ALWAYS(world.tcpflow.n_half_open + world.tcpflow.n_arriving <= n);
	ALWAYS(n <= world.tcpflow.table.n_flows && world.n_claims <= n);
	ALWAYS(world.usage->n_active <= n && world.usage->n_refs == world.n_claims + 1);
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
