/* SPDX-License-Identifier: Apache-2.0 */
#include "base/util.h"
#include "udpflow/internal.h"

static void deliver(void *owner, const struct run *run)
{
	struct udp_flow *flow = owner;
	const struct flow_config *config = &flow->owner->config;
	const struct host_datagram *from = run->first;
	struct egress_head head = {
		.dst_mac = flow->near_mac,
		.src_mac = flow->our_mac,
		.dst = {.family = flow->flow.key.family, .in6 = flow->flow.key.near},
		.tos = from->tos,
		.ttl = from->ttl,
	};

	if (!from->port || !udp_far_name(flow, &from->addr, &head.src)) {
		config->counters->value[COUNTER_UDP_STRANGERS] += (uint64_t)run->n;
		return;
	}
	if (config->loop->now_ns < flow->path_mtu_until_ns)
		head.path_mtu = flow->path_mtu;
	egress_udp(config->egress, &head, from->port, flow->flow.key.near_port, run->iov, run->n);
}

/* An error of what was sent before is in the way of what has come. */
static int receive(struct udp_flow *flow, struct host_datagram *in, int asked)
{
	struct host *host = flow->owner->config.host;
	int n = host->ops->dgram_recv(host, &flow->dgram, in, asked);

	for (int i = 0; n < 0 && i < OUTBOX_ATTEMPTS_MAX; i++) {
		udp_take_errors(flow, NULL);
		n = host->ops->dgram_recv(host, &flow->dgram, in, asked);
	}
	return MAX(n, 0);
}

/* Fewer than asked for: no more are there, and the next one is an event. */
void udp_receive(struct udp_flow *flow)
{
	struct udpflow *udpflow = flow->owner;
	unsigned int asked = flow->batch = MAX(flow->batch, INBOX_BATCH_MIN);
	struct host_datagram *in = inbox_rooms(&udpflow->inbox, asked);
	UNCLEARED struct run run;
	int n = receive(flow, in, (int)asked);

	run_begin(&run);
	for (int i = 0; i < n; i++)
		run_add(&run, &in[i], deliver, flow);
	run_end(&run, deliver, flow);
	if (n > 0)
		udp_touch(flow);
	if ((unsigned int)n == asked)
		list_append(&udpflow->ready, &flow->ready);
	flow->batch = inbox_batch(asked, (unsigned int)n);
}
