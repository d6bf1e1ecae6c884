/* SPDX-License-Identifier: Apache-2.0 */
#include "base/util.h"
#include "udpflow/internal.h"

#define BATCH_MIN 4

/* Datagrams of one peer on their way to the container. */
struct run {
	const struct host_datagram *first; /* NULL: none yet */
	struct iovec iov[EGRESS_PIECES_MAX];
	int n;
};

static bool same_peer(const struct host_datagram *a, const struct host_datagram *b)
{
	return a->port == b->port && a->ttl == b->ttl && a->tos == b->tos &&
		ip_addr_equal(&a->addr, &b->addr);
}

/* Only the last may be shorter. */
static bool takes(const struct run *run, const struct host_datagram *datagram, size_t len)
{
	size_t size = run->iov[0].iov_len;

	return same_peer(run->first, datagram) && run->n < EGRESS_PIECES_MAX && len &&
		len <= size && run->iov[run->n - 1].iov_len == size;
}

static void deliver(struct udp_flow *flow, struct run *run)
{
	const struct flow_config *config = &flow->owner->config;
	const struct host_datagram *from = run->first;
	struct egress_head head = {
		.dst_mac = flow->near_mac,
		.src_mac = flow->our_mac,
		.dst = {.family = flow->flow.key.family, .in6 = flow->flow.key.near},
		.tos = from->tos,
		.ttl = from->ttl,
	};

	run->first = NULL;
	if (!from->port || !udp_far_name(flow, &from->addr, &head.src)) {
		config->counters->value[COUNTER_UDP_STRANGERS] += (uint64_t)run->n;
		return;
	}
	if (config->loop->now_ns < flow->path_mtu_until_ns)
		head.path_mtu = flow->path_mtu;
	egress_udp(config->egress, &head, from->port, flow->flow.key.near_port, run->iov, run->n);
}

static void add(struct udp_flow *flow, struct run *run, const struct host_datagram *datagram,
	uint8_t *data, size_t len)
{
	if (run->first && !takes(run, datagram, len))
		deliver(flow, run);
	if (!run->first) {
		run->first = datagram;
		run->n = 0;
	}
	run->iov[run->n++] = (struct iovec){.iov_base = data, .iov_len = len};
}

/* What the kernel has put together is taken apart again, and joined with what goes with it. */
static void add_all(struct udp_flow *flow, struct run *run, const struct host_datagram *datagram)
{
	size_t size = datagram->segment ? datagram->segment : datagram->len;

	for (size_t at = 0; at < datagram->len; at += size)
		add(flow, run, datagram, datagram->data + at, MIN(size, datagram->len - at));
	if (!datagram->len)
		add(flow, run, datagram, datagram->data, 0);
}

/* Who sends more at a time is asked for more; a single answer costs no more than one. */
static void adapt_batch(struct udp_flow *flow, unsigned int n)
{
	if (n == flow->batch)
		flow->batch = MIN(flow->batch * 2, HOST_BATCH_MAX);
	else if (n < flow->batch / 4)
		flow->batch = MAX(flow->batch / 2, BATCH_MIN);
}

/* An error of what was sent before is in the way of what has come. */
static int receive(struct udp_flow *flow, struct host_datagram *in, int asked)
{
	struct host *host = flow->owner->config.host;
	int n = host->ops->dgram_recv(host, &flow->dgram, in, asked);

	for (int i = 0; n < 0 && i < UDP_ATTEMPTS_MAX; i++) {
		udp_take_errors(flow, NULL);
		n = host->ops->dgram_recv(host, &flow->dgram, in, asked);
	}
	return MAX(n, 0);
}

/* Fewer than asked for: no more are there, and the next one is an event. */
void udp_receive(struct udp_flow *flow)
{
	struct udpflow *udpflow = flow->owner;
	struct host_datagram *in = udpflow->in;
	struct run run = {.first = NULL};
	unsigned int asked = flow->batch = MAX(flow->batch, BATCH_MIN);
	int n;

	for (unsigned int i = 0; i < asked; i++) {
		in[i].data = udpflow->inbox + i * UDP_INBOX_STRIDE;
		in[i].len = UDP_INBOX_ROOM;
	}
	n = receive(flow, in, (int)asked);
	for (int i = 0; i < n; i++)
		add_all(flow, &run, &in[i]);
	if (run.first)
		deliver(flow, &run);
	if (n > 0)
		udp_touch(flow);
	if ((unsigned int)n == asked)
		list_append(&udpflow->ready, &flow->ready);
	adapt_batch(flow, (unsigned int)n);
}
