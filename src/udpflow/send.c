/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/util.h"
#include "flow/path_error.h"
#include "udpflow/internal.h"
#include "wire/udp.h"

/* ---- errors ---- */

static void tell(struct udp_flow *flow, const struct host_dgram_error *error)
{
	const struct flow_config *config = &flow->owner->config;
	const struct flow_key *key = &flow->flow.key;
	struct path_error_about about = {
		.near_mac = flow->near_mac,
		.near = {.family = key->family, .in6 = key->near},
		.protocol = IPPROTO_UDP,
	};
	const struct udp_header header = {
		.src_port = be16_of(key->near_port),
		.dst_port = be16_of(error->port),
		.length = be16_of((uint16_t)(UDP_HEADER_LEN + error->quote_len)),
	};

	if (!udp_far_name(flow, &error->addr, &about.far))
		return;
	memcpy(about.header, &header, sizeof(header));
	path_error_send(config->egress, config->icmp_limit, &about, error, config->loop->now_ns);
}

enum udp_errors udp_take_errors(struct udp_flow *flow, const struct host_datagram *current)
{
	const struct flow_config *config = &flow->owner->config;
	enum udp_errors found = UDP_ERRORS_NONE;
	struct host_dgram_error error;

	for (int n = 0; n < OUTBOX_ATTEMPTS_MAX; n++) {
		if (!config->host->ops->dgram_error(config->host, &flow->dgram, &error))
			break;
		if (found == UDP_ERRORS_NONE)
			found = UDP_ERRORS_SOME;
		if (error.error == EMSGSIZE && !error.addr.family && current) {
			found = UDP_ERRORS_TOO_BIG;
			path_error_quote(&error, current);
		}
		if (error.addr.family)
			tell(flow, &error);
	}
	return found;
}

/* What the kernel has refused at once: there is no route, or the firewall forbids it. */
static void tell_refusal(struct udp_flow *flow, const struct host_datagram *datagram, int error)
{
	struct host_dgram_error e = {.error = error};

	path_error_quote(&e, datagram);
	tell(flow, &e);
}

/* ---- sending ---- */

/* The first of `datagrams` was not sent. Whether to try it again. A datagram that is larger than
 * its path's MTU goes out in fragments after all, when the container has been told: who looks for
 * the MTU hears of it, and who does not has lost nothing. */
static bool retry(void *sender, struct host_datagram *datagram, int error)
{
	struct udp_flow *flow = sender;
	enum udp_errors found = udp_take_errors(flow, datagram);

	if (found == UDP_ERRORS_SOME)
		return true;
	if (error == EMSGSIZE && datagram->dont_fragment) {
		datagram->dont_fragment = false;
		return true;
	}
	if (found == UDP_ERRORS_NONE)
		tell_refusal(flow, datagram, error);
	return false;
}

void udp_send_all(struct udpflow *udpflow)
{
	const struct flow_config *config = &udpflow->config;
	UNCLEARED struct host_datagram messages[OUTBOX_MESSAGES];
	void *sender;
	unsigned int n;

	while ((n = outbox_take(&udpflow->outbox, &sender, messages))) {
		struct udp_flow *flow = sender;

		flow->has_unsent = false;
		outbox_send(config->host, &flow->dgram, config->counters, messages, n, retry, flow);
	}
}
