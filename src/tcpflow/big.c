/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames beyond 64 KiB ("BIG TCP"): a stream to the container costs by the frame as much as by the
 * byte, since each is a walk through its kernel that wakes the reader. The kernel takes them where
 * the link says LINK_BIG_TCP, but it cuts them into single segments to pass them on, while it
 * passes on those of 64 KiB whole. So they are for connections that end in the container's own
 * namespace: no bridge is in front, so packets come from the link's own Ethernet address, and no
 * router, so they come with the time to live that they began with. Something on the way may throw
 * them away unseen, like filters that believe the length in the header: what is lost once is sent
 * again in smaller ones, and for the rest of the connection it stays at that, unless the
 * acknowledgement reaches beyond what was sent again, and nothing was lost. One that does not reach
 * into such a frame says nothing of it: those of smaller frames in front of it may be late as well.
 */
#include "base/log.h"
#include "base/util.h"
#include "tcpflow/internal.h"

/* Connections in a row that have lost one, until none tries, but for one in a while. */
#define DOUBTS_MAX 3
#define RETRY_NS   (60 * NS_PER_SEC)

static struct tcp_big_doubt *doubt_of(struct tcp_flow *flow)
{
	return &flow->owner->big_doubts[flow->flow.key.family == AF_INET6];
}

/* Linux and most others begin with 64, some with 128 or 255. */
static bool is_initial_ttl(uint8_t ttl)
{
	return ttl == 64 || ttl == 128 || ttl == 255;
}

static bool ends_at_link(const struct link *link, const struct tcp_segment *syn)
{
	const struct eth_header *eth = (const struct eth_header *)syn->frame;

	return is_initial_ttl(syn->packet->ttl) && !memcmp(&eth->src, &link->mac, sizeof(eth->src));
}

void tcp_big_begin(struct tcp_flow *flow, const struct tcp_segment *syn)
{
	const struct link *link = flow->owner->config.link;
	struct tcp_big_doubt *doubt = doubt_of(flow);

	if (!link || !(link->offloads & LINK_BIG_TCP) || !ends_at_link(link, syn))
		return;
	if (doubt->n == DOUBTS_MAX && tcp_now_ns(flow) < doubt->until_ns)
		return;
	doubt->until_ns = tcp_now_ns(flow) + RETRY_NS;
	flow->big = TCP_BIG_YES;
}

void tcp_big_sent(struct tcp_flow *flow, uint32_t seq, uint32_t len)
{
	tcp_count(flow, COUNTER_TCP_BIG);
	if (!flow->big_is_under_way)
		flow->big_first = seq;
	flow->big_is_under_way = true;
	flow->big_last = seq;
	flow->big_end = seq + len;
}

static void lost(struct tcp_flow *flow)
{
	struct tcp_big_doubt *doubt = doubt_of(flow);

	flow->big = TCP_BIG_NEVER;
	tcp_count(flow, COUNTER_TCP_BIG_LOST);
	if (doubt->n < DOUBTS_MAX && ++doubt->n == DOUBTS_MAX)
		log_info("frames of more than 64 KiB do not arrive in the container, which is "
			 "tried again once a minute");
}

/* The acknowledgement reaches into a large frame that was in doubt. */
static void judge(struct tcp_flow *flow)
{
	/* Nothing but what was sent again has arrived. */
	if (!seq_after(flow->snd_una, flow->again_end)) {
		lost(flow);
		return;
	}
	flow->big = TCP_BIG_YES;
	flow->big_first = flow->big_last;
}

void tcp_big_acked(struct tcp_flow *flow)
{
	if (!flow->big_is_under_way)
		return;
	if (flow->big == TCP_BIG_DOUBTED && seq_after(flow->snd_una, flow->big_first))
		judge(flow);
	if (seq_before(flow->snd_una, flow->big_end))
		return;
	flow->big_is_under_way = false;
	if (flow->big == TCP_BIG_YES)
		doubt_of(flow)->n = 0;
}

void tcp_big_missed(struct tcp_flow *flow, uint32_t len)
{
	if (flow->big == TCP_BIG_NEVER || !flow->big_is_under_way)
		return;
	flow->big = TCP_BIG_DOUBTED;
	flow->again_end = flow->snd_una + len;
}
