/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to the DNS address: the host's nameservers are dialled one after the other, until
 * one stands. How the last one failed is how the flow fails.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/util.h"
#include "tcpflow/internal.h"

/* Who does not stand by then gives way to the next one, if there is one. */
#define TURN_NS (1 * NS_PER_SEC)
/* Until the next question while the host is looking who they are. */
#define LOOK_NS (4 * NS_PER_MS)

static bool is_tried(const struct tcp_flow *flow, const struct host_nameserver *server)
{
	return flow->servers_tried & 1U << server->position;
}

static bool has_untried(const struct tcp_flow *flow, const struct host_nameserver *servers, int n)
{
	for (int i = 0; i < n; i++)
		if (!is_tried(flow, &servers[i]))
			return true;
	return false;
}

/* That the host has no descriptor left is no nameserver's fault. */
static bool is_servers_fault(int error)
{
	return error != EMFILE && error != ENFILE && error != ENOMEM;
}

static void tell_failed(struct tcp_flow *flow, int error)
{
	struct host *host = flow->owner->config.host;

	if (is_servers_fault(error))
		host->ops->nameserver_said(host, &flow->far_addr, false, tcp_now_ns(flow));
}

static int dial(struct tcp_flow *flow, const struct host_nameserver *server)
{
	const struct host_dial dial = {
		.addr = server->addr,
		.scope = server->scope,
		.port = flow->flow.key.far_port,
		.from = policy_source_to(flow->owner->config.policy, &server->addr),
	};
	int r = tcp_far_dial(flow, &dial);

	flow->servers_tried |= (uint8_t)(1U << server->position);
	if (r < 0) {
		flow->error = (struct host_error){.error = -r};
		tell_failed(flow, -r);
	}
	return r;
}

int tcp_nameserver_dial(struct tcp_flow *flow)
{
	struct host *host = flow->owner->config.host;
	struct host_nameserver servers[HOST_NAMESERVERS_MAX];
	int n = host->ops->nameservers(host, servers, tcp_now_ns(flow)), r = -ENOENT;

	flow->is_dns = true;
	flow->idle_ns = CLOCK_NEVER;
	if (n == -EAGAIN)
		flow->idle_ns = tcp_now_ns(flow) + LOOK_NS;
	for (int i = 0; i < n && r < 0; i++)
		if (!is_tried(flow, &servers[i]))
			r = dial(flow, &servers[i]);
	if (r == 0 && has_untried(flow, servers, n))
		flow->idle_ns = tcp_now_ns(flow) + TURN_NS;
	tcp_timer_update(flow);
	return n == -EAGAIN ? 0 : r;
}

bool tcp_nameserver_failed(struct tcp_flow *flow)
{
	struct host *host = flow->owner->config.host;

	if (flow->fd >= 0) {
		tell_failed(flow, flow->error.error);
		host->ops->tcp_reset(host, flow->fd);
		flow->fd = -1;
	}
	return tcp_nameserver_dial(flow) == 0;
}
