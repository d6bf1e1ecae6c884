/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data path without kernels: frame-steps CASE STEPS. Frames of a container that is made up go
 * through ingress and the flows, to sockets and a link that take everything and copy nothing; so
 * what is counted is the program's own work. benchmarks/frames runs it under valgrind, which counts
 * inside of frame_steps_run() only. One line of JSON is the result: steps, frames, nanoseconds.
 *
 * The key of the tables and the time are fixed, so that the same program gives the same number of
 * instructions each time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/util.h"
#include "flow/egress.h"
#include "flow/ingress.h"
#include "tcpflow/tcpflow.h"
#include "udpflow/udpflow.h"
#include "wire/checksum.h"
#include "wire/ip4.h"
#include "wire/tcp.h"
#include "wire/udp.h"

enum {
	MTU = 1500,
	MSS = MTU - IP4_HEADER_MIN - TCP_HEADER_MIN,
	RUN = 44 * MSS, /* of a frame that is to be cut */
	DATAGRAM = 1400,
	TURN = 8, /* frames that are read in one turn of the loop */
	BATCH = 32,
	N_LOOKUPS = 1000,
	NEAR = 0x0a000264, /* 10.0.2.100 */
	FAR = 0xc6336407,  /* 198.51.100.7 */
	TURN_NS = 10000,
};

static struct world {
	struct policy policy;
	struct counters counters;
	struct icmp_limit icmp_limit;
	struct ingress ingress;
	struct egress egress;
	struct loop loop;
	struct link link;
	struct host host;
	struct tcpflow tcpflow;
	struct udpflow udpflow;
	struct flow_table table;
	struct handle handle; /* of the one flow */
	bool is_up;
	size_t n_in; /* bytes, or datagrams, that can be received */
	uint64_t n_frames;
	uint32_t near_seq, near_ack;
	uint8_t buf[INGRESS_BUFFER_LEN];
	size_t frame_len;
} world;

_Noreturn static void fail(const char *what)
{
	printf("{\"error\": \"%s\"}\n", what);
	exit(1);
}

#define MUST(condition) ((condition) ? (void)0 : fail(#condition))

/* ---- the host: takes all, gives what is there ---- */

static int host_dial(struct host *host, const struct host_dial *dial, struct handle handle)
{
	world.handle = handle;
	return 3;
}

static void host_dial_result(struct host *host, int fd, struct host_error *ret)
{
	*ret = (struct host_error){};
}

static void host_dialled(struct host *host, int fd, const struct ip_addr *addr)
{
	world.is_up = true;
}

static ssize_t host_recv(struct host *host, int fd, const struct iovec *iov, int n_iov)
{
	size_t n = MIN(iov_len(iov, n_iov), world.n_in);

	world.n_in -= n;
	return n ? (ssize_t)n : -EAGAIN;
}

static ssize_t host_send(struct host *host, int fd, const struct iovec *iov, int n_iov)
{
	return (ssize_t)iov_len(iov, n_iov);
}

static void host_ignore(struct host *host, int fd)
{
}

static void host_keepalive(struct host *host, int fd, unsigned int idle_s)
{
}

static bool host_no(struct host *host, int fd)
{
	return false;
}

static bool host_is_connected(struct host *host, int fd)
{
	return world.is_up;
}

static int host_open(struct host *host, const struct host_dgram_config *config,
	struct handle handle, struct host_dgram *ret)
{
	world.handle = handle;
	*ret = (struct host_dgram){.fd = 3, .family = config->family};
	return 0;
}

static void host_dgram_close(struct host *host, struct host_dgram *dgram)
{
	dgram->fd = -1;
}

static int host_dgram_send(
	struct host *host, struct host_dgram *dgram, const struct host_datagram *datagrams, int n)
{
	return n;
}

static int host_dgram_recv(
	struct host *host, struct host_dgram *dgram, struct host_datagram *datagrams, int n)
{
	int i;

	for (i = 0; i < n && world.n_in; i++, world.n_in--) {
		datagrams[i].addr = ip_addr_of_v4((struct in_addr){htonl(FAR)});
		datagrams[i].port = 7;
		datagrams[i].ttl = 64;
		datagrams[i].tos = 0;
		datagrams[i].segment = 0;
		datagrams[i].len = DATAGRAM;
	}
	return i;
}

static bool host_dgram_error(
	struct host *host, struct host_dgram *dgram, struct host_dgram_error *ret)
{
	return false;
}

static int host_change(struct host *host, int fd, uint32_t events, struct handle handle)
{
	return 0;
}

static const struct host_ops host_ops = {
	.change = host_change,
	.is_connected = host_is_connected,
	.tcp_dial = host_dial,
	.tcp_dial_result = host_dial_result,
	.tcp_dialled = host_dialled,
	.tcp_recv = host_recv,
	.tcp_send = host_send,
	.tcp_shutdown = host_ignore,
	.tcp_close = host_ignore,
	.tcp_reset = host_ignore,
	.tcp_keepalive = host_keepalive,
	.tcp_has_unacknowledged = host_no,
	.dgram_open = host_open,
	.dgram_close = host_dgram_close,
	.dgram_send = host_dgram_send,
	.dgram_recv = host_dgram_recv,
	.dgram_error = host_dgram_error,
};

/* ---- the link: what the container would acknowledge is all that is looked at ---- */

static int link_send(struct link *link, const struct iovec *iov, int n_iov)
{
	const struct ip4_header *ip = (const struct ip4_header *)((const uint8_t *)iov[0].iov_base +
		LINK_HEADER_LEN + ETH_HEADER_LEN);
	const struct tcp_header *tcp = (const struct tcp_header *)(ip + 1);
	uint32_t len;

	world.n_frames++;
	if (ip->protocol != IPPROTO_TCP)
		return 0;
	len = be16_get(ip->total_length) - IP4_HEADER_MIN - tcp_header_len(tcp);
	world.near_ack = be32_get(tcp->seq) + len + !!(tcp->flags & TCP_SYN);
	return 0;
}

static const struct link_ops link_ops = {.send = link_send};

/* ---- the container ---- */

/* An IPv4 header before a transport header whose checksum is still to be completed. */
static uint8_t *put_headers(uint8_t protocol, size_t len, uint16_t csum_offset)
{
	struct vnet_header *vnet = (struct vnet_header *)world.buf;
	struct eth_header *eth = (struct eth_header *)(vnet + 1);
	struct ip4_header *ip = (struct ip4_header *)(eth + 1);

	*vnet = (struct vnet_header){
		.flags = VNET_NEEDS_CSUM,
		.csum_start = le16_of(ETH_HEADER_LEN + IP4_HEADER_MIN),
		.csum_offset = le16_of(csum_offset),
	};
	*eth = (struct eth_header){
		.dst = {{0x52, 0x55, 10, 0, 2, 2}},
		.src = {{2, 0, 0, 0, 0, 1}},
		.type = be16_of(ETH_TYPE_IP4),
	};
	*ip = (struct ip4_header){
		.version_ihl = 0x45,
		.total_length = be16_of((uint16_t)(IP4_HEADER_MIN + len)),
		.ttl = 64,
		.protocol = protocol,
		.src = be32_of(NEAR),
		.dst = be32_of(FAR),
	};
	ip->checksum = checksum_finish(checksum_add(0, ip, sizeof(*ip)));
	world.frame_len = ETH_HEADER_LEN + IP4_HEADER_MIN + len;
	return (uint8_t *)(ip + 1);
}

static void put_tcp(uint8_t flags, size_t len, bool is_run)
{
	static const uint8_t options[8] = {2, 4, MSS >> 8, MSS & 0xff, 1, 3, 3, 7};
	size_t header_len = TCP_HEADER_MIN + (flags & TCP_SYN ? sizeof(options) : 0);
	struct tcp_header *tcp;

	tcp = (struct tcp_header *)put_headers(
		IPPROTO_TCP, header_len + len, offsetof(struct tcp_header, checksum));
	*tcp = (struct tcp_header){
		.src_port = be16_of(1000),
		.dst_port = be16_of(80),
		.seq = be32_of(world.near_seq),
		.ack = be32_of(world.near_ack),
		.offset = (uint8_t)(header_len / 4 << 4),
		.flags = flags,
		.window = be16_of(65535),
	};
	if (flags & TCP_SYN)
		memcpy(tcp + 1, options, sizeof(options));
	if (is_run) {
		struct vnet_header *vnet = (struct vnet_header *)world.buf;

		vnet->gso_type = VNET_GSO_TCP4;
		vnet->gso_size = le16_of(MSS);
		vnet->header_len = le16_of((uint16_t)(world.frame_len - len));
	}
	world.near_seq += (uint32_t)len + !!(flags & TCP_SYN);
}

static void put_udp(size_t len)
{
	struct udp_header *udp = (struct udp_header *)put_headers(
		IPPROTO_UDP, UDP_HEADER_LEN + len, offsetof(struct udp_header, checksum));

	*udp = (struct udp_header){
		.src_port = be16_of(1000),
		.dst_port = be16_of(7),
		.length = be16_of((uint16_t)(UDP_HEADER_LEN + len)),
	};
}

/* ---- turns ---- */

static enum ingress_result receive(struct packet *packet)
{
	static uint8_t answer[INGRESS_ANSWER_MAX];
	size_t answer_len;

	return ingress_frame(&world.ingress, world.buf, world.frame_len, world.loop.now_ns, packet,
		answer, &answer_len);
}

static void input(void)
{
	uint8_t *frame = world.buf + VNET_HEADER_LEN;
	struct packet packet;

	switch (receive(&packet)) {
	case INGRESS_TCP:
		MUST(tcpflow_input(&world.tcpflow, frame, &packet) == TCPFLOW_TAKEN);
		break;
	case INGRESS_UDP:
		udpflow_input(&world.udpflow, frame, &packet);
		break;
	default:
		fail("a frame was refused");
	}
}

static void finish_turn(void)
{
	while (tcpflow_finish(&world.tcpflow) || udpflow_finish(&world.udpflow))
		;
	world.loop.now_ns += TURN_NS;
	timer_heap_expire(&world.loop.timers, world.loop.now_ns);
}

static void open_tcp(void)
{
	put_tcp(TCP_SYN, 0, false);
	input();
	finish_turn();
	tcpflow_host_ready(&world.tcpflow, world.handle, EPOLLOUT);
	finish_turn();
	put_tcp(TCP_ACK, 0, false);
	input();
	finish_turn();
	MUST(world.is_up);
}

static void open_udp(void)
{
	put_udp(DATAGRAM);
	input();
	finish_turn();
}

static void fill_key(struct flow_key *ret, uint16_t port)
{
	struct packet packet;

	put_tcp(TCP_ACK, 0, false);
	MUST(receive(&packet) == INGRESS_TCP);
	flow_key_of(ret, world.buf + VNET_HEADER_LEN, &packet);
	ret->near_port = port;
}

static void open_lookups(void)
{
	struct flow_key key;

	for (uint16_t i = 0; i < N_LOOKUPS; i++) {
		fill_key(&key, (uint16_t)(1000 + i));
		MUST(flow_table_add(&world.table, &key));
	}
}

/* ---- the cases: `i` is the step ---- */

static void step_parse(unsigned int i)
{
	struct packet packet;

	put_tcp(TCP_ACK, MSS, false);
	MUST(receive(&packet) == INGRESS_TCP);
	world.n_frames++;
}

static void step_lookup(unsigned int i)
{
	static struct flow_key key;

	if (!key.family)
		fill_key(&key, 0);
	key.near_port = (uint16_t)(1000 + i % N_LOOKUPS);
	MUST(flow_table_find(&world.table, &key));
	world.n_frames++;
}

static void send_up(unsigned int i, size_t len)
{
	put_tcp(TCP_ACK, len, len > MSS);
	input();
	world.n_frames++;
	if (i % TURN == TURN - 1)
		finish_turn();
}

static void step_tcp_up(unsigned int i)
{
	send_up(i, MSS);
}

static void step_tcp_up_run(unsigned int i)
{
	send_up(i, RUN);
}

static void receive_down(size_t len)
{
	world.n_in = len;
	tcpflow_host_ready(&world.tcpflow, world.handle, EPOLLIN);
	finish_turn();
	put_tcp(TCP_ACK, 0, false);
	input();
	finish_turn();
	MUST(!world.n_in);
}

static void step_tcp_down(unsigned int i)
{
	receive_down(MSS);
}

static void step_tcp_down_run(unsigned int i)
{
	receive_down(RUN);
}

static void step_exchange(unsigned int i)
{
	put_tcp(TCP_ACK | TCP_PSH, 1, false);
	input();
	finish_turn();
	receive_down(1);
}

static void step_udp_up(unsigned int i)
{
	put_udp(DATAGRAM);
	input();
	world.n_frames++;
	if (i % BATCH == BATCH - 1)
		finish_turn();
}

static void step_udp_down(unsigned int i)
{
	if (i % BATCH)
		return;
	world.n_in = BATCH;
	udpflow_host_ready(&world.udpflow, world.handle, EPOLLIN);
	finish_turn();
	MUST(!world.n_in);
}

static const struct {
	const char *name;
	void (*open)(void);
	void (*step)(unsigned int i);
} cases[] = {
	{"parse", NULL, step_parse},
	{"lookup", open_lookups, step_lookup},
	{"tcp-up", open_tcp, step_tcp_up},
	{"tcp-up-run", open_tcp, step_tcp_up_run},
	{"tcp-down", open_tcp, step_tcp_down},
	{"tcp-down-run", open_tcp, step_tcp_down_run},
	{"tcp-exchange", open_tcp, step_exchange},
	{"udp-up", open_udp, step_udp_up},
	{"udp-down", open_udp, step_udp_down},
};

/* ---- a run ---- */

static void start_flows(void)
{
	static const struct siphash_key key = {{1, 2}};
	const struct tcpflow_config tcp = {
		.policy = &world.policy,
		.link = &world.link,
		.host = &world.host,
		.loop = &world.loop,
		.counters = &world.counters,
		.icmp_limit = &world.icmp_limit,
		.key = &key,
		.mtu = MTU,
		.max_flows = 64,
		.memory = 64 << 20,
	};
	const struct flow_config udp = {
		.policy = &world.policy,
		.egress = &world.egress,
		.host = &world.host,
		.loop = &world.loop,
		.counters = &world.counters,
		.icmp_limit = &world.icmp_limit,
		.key = &key,
		.max_sockets = 64,
	};

	MUST(tcpflow_init(&world.tcpflow, &tcp) == 0);
	MUST(udpflow_init(&world.udpflow, &udp) == 0);
	MUST(flow_table_init(&world.table, sizeof(struct flow), 2 * N_LOOKUPS, &key) == 0);
}

static void start(void)
{
	world.policy = (struct policy){
		.network.s_addr = htonl(0x0a000200),
		.netmask.s_addr = htonl(0xffffff00),
		.gateway.s_addr = htonl(0x0a000202),
		.dns.s_addr = htonl(0x0a000203),
		.guest.s_addr = htonl(NEAR),
		.host_loopback = true,
		.dns_enabled = true,
	};
	world.loop = (struct loop){.epoll_fd = -1, .now_ns = NS_PER_SEC};
	world.host.ops = &host_ops;
	world.link = (struct link){.ops = &link_ops,
		.fd = -1,
		.offloads = LINK_CSUM | LINK_TSO4 | LINK_TSO6 | LINK_USO};
	icmp_limit_init(&world.icmp_limit, &world.counters);
	ingress_init(&world.ingress, &world.policy, &world.icmp_limit, true, &world.counters);
	world.ingress.offloads = world.link.offloads;
	egress_init(&world.egress, &world.policy, &world.link, MTU, 1, &world.counters);
	start_flows();
}

/* What is counted: valgrind looks for this name. */
void frame_steps_run(void (*step)(unsigned int i), unsigned int n) __attribute__((noinline));
void frame_steps_run(void (*step)(unsigned int i), unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		step(i);
}

int main(int argc, char **argv)
{
	unsigned int n = argc == 3 ? (unsigned int)strtoul(argv[2], NULL, 10) : 0;

	start();
	for (size_t i = 0; n && i < ARRAY_SIZE(cases); i++) {
		int64_t begin_ns;

		if (strcmp(argv[1], cases[i].name) != 0)
			continue;
		if (cases[i].open)
			cases[i].open();
		world.n_frames = 0;
		begin_ns = clock_now_ns();
		frame_steps_run(cases[i].step, n);
		printf("{\"steps\": %u, \"frames\": %" PRIu64 ", \"ns\": %" PRId64 "}\n", n,
			world.n_frames, clock_now_ns() - begin_ns);
		return 0;
	}
	fail("usage: frame-steps CASE STEPS");
}
