/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/util.h"
#include "flow/path_error.h"
#include "publish/udp.h"
#include "wire/icmp_about.h"
#include "wire/ip4.h"
#include "wire/ip6.h"
#include "wire/udp.h"
#include "wire/vnet.h"

static struct udp_socket *udp_socket_of(struct udp_end *end)
{
	return container_of(end, struct udp_socket, end);
}

/* ---- errors of the host's kernel ---- */

/* What IPv6's header is longer than IPv4's, when the client is of the other family. */
static uint32_t mtu_for_guest(const struct udp_client *client, uint32_t mtu)
{
	const uint32_t more = IP6_HEADER_LEN - IP4_HEADER_MIN;

	if (client->addr.family == client->guest.family || !mtu)
		return mtu;
	if (client->addr.family == AF_INET)
		return mtu + more;
	return mtu > more ? mtu - more : 0;
}

static void tell(struct udp_socket *port, struct host_dgram_error *error)
{
	struct udp_client *client =
		udp_client_find(port, &error->addr, error->port, &error->local, error->scope);
	struct path_error_about about = {.protocol = IPPROTO_UDP};
	const struct publish_config *config;
	struct udp_header header;

	if (!client || client->way != UDP_TAP)
		return;
	config = udp_config(client->owner);
	if (!config->next_hop->ops->find(config->next_hop, &client->guest, false, &about.near_mac))
		return;
	about.near = client->guest;
	about.far = (struct ip_addr){
		.family = client->name->flow.key.family, .in6 = client->name->flow.key.far};
	header = (struct udp_header){
		.src_port = be16_of(client->name->flow.key.near_port),
		.dst_port = be16_of(client->name->flow.key.far_port),
		.length = be16_of((uint16_t)(UDP_HEADER_LEN + error->quote_len)),
	};
	memcpy(about.header, &header, sizeof(header));
	error->mtu = mtu_for_guest(client, error->mtu);
	path_error_send(config->egress, config->icmp_limit, &about, error, config->loop->now_ns);
}

/* A socket of the namespace: the guest does not want it, or there is no way to it. UDP has no word
 * for that to the client. */
static void note_splice_error(struct udp_client *client, const struct host_dgram_error *error)
{
	if (error->error == ECONNREFUSED)
		udp_lost(client->owner, client->usage, COUNTER_PUBLISH_UDP_REFUSED, 1);
}

enum udp_errors publish_udp_take_errors(
	struct publish_udp *udp, struct udp_end *end, const struct host_datagram *current)
{
	struct host *host = udp_config(udp)->host;
	enum udp_errors found = UDP_ERRORS_NONE;
	struct host_dgram_error error;

	for (int n = 0; n < OUTBOX_ATTEMPTS_MAX; n++) {
		if (!host->ops->dgram_error(host, &end->dgram, &error))
			break;
		if (found == UDP_ERRORS_NONE)
			found = UDP_ERRORS_SOME;
		if (error.error == EMSGSIZE && !error.addr.family && current) {
			found = UDP_ERRORS_TOO_BIG;
			path_error_quote(&error, current);
		}
		if (end->is_client)
			note_splice_error(container_of(end, struct udp_client, end), &error);
		else if (error.addr.family)
			tell(udp_socket_of(end), &error);
	}
	return found;
}

/* ---- to the host ---- */

/* As udpflow: what is larger than its path's MTU goes in fragments when the container was told. */
static bool retry_answer(struct udp_socket *port, struct host_datagram *datagram, int error)
{
	struct publish_udp *udp = port->published->publish->udp;
	enum udp_errors found = publish_udp_take_errors(udp, &port->end, datagram);
	struct host_dgram_error e = {.error = error};

	if (found == UDP_ERRORS_SOME)
		return true;
	if (error == EMSGSIZE && datagram->dont_fragment) {
		datagram->dont_fragment = false;
		return true;
	}
	if (found == UDP_ERRORS_NONE) {
		path_error_quote(&e, datagram);
		tell(port, &e);
	}
	return false;
}

static bool retry(void *sender, struct host_datagram *datagram, int error)
{
	struct udp_end *end = sender;
	struct udp_client *client;

	if (!end->is_client)
		return retry_answer(udp_socket_of(end), datagram, error);
	client = container_of(end, struct udp_client, end);
	if (publish_udp_take_errors(client->owner, end, NULL) != UDP_ERRORS_NONE)
		return true;
	udp_splice_failed(client, datagram, error);
	return false;
}

void publish_udp_send_all(struct publish_udp *udp)
{
	const struct publish_config *config = udp_config(udp);
	UNCLEARED struct host_datagram messages[OUTBOX_MESSAGES];
	void *sender;
	unsigned int n;

	if (!udp->outbox.n)
		return;
	while ((n = outbox_take(&udp->outbox, &sender, messages))) {
		struct udp_end *end = sender;

		outbox_send(
			config->host, &end->dgram, config->counters, messages, n, retry, sender);
		if (end->is_client)
			udp_splice_check(container_of(end, struct udp_client, end));
	}
}

void udp_put(
	struct publish_udp *udp, struct udp_end *end, struct host_datagram *run, uint16_t segment)
{
	struct host_datagram part;
	bool more;

	do {
		more = outbox_cut(run, segment, &part);
		if (!outbox_add(&udp->outbox, end, &part)) {
			publish_udp_send_all(udp);
			outbox_add(&udp->outbox, end, &part);
		}
	} while (more);
}

void udp_answer(struct udp_client *client, struct host_datagram *data, uint16_t segment)
{
	data->addr = client->addr;
	data->port = client->addr_port;
	data->local = client->local;
	data->scope = client->scope;
	client->usage->n_out_bytes += data->len;
	udp_client_touch(client);
	udp_put(client->owner, &client->port->end, data, segment);
}

/* ---- from the container ---- */

static struct udp_client *client_of_name(struct publish_udp *udp, const struct flow_key *key)
{
	struct flow *flow = flow_table_find(&udp->names, key);

	return flow ? container_of(flow, struct udp_name, flow)->client : NULL;
}

bool publish_udp_input(struct publish *publish, const uint8_t *frame, const struct packet *packet)
{
	const struct vnet_header *vnet =
		(const struct vnet_header *)(const void *)(frame - VNET_HEADER_LEN);
	const struct udp_header *header =
		(const struct udp_header *)(frame + packet->transport_offset);
	const bool is_run = vnet->gso_type == VNET_GSO_UDP_L4;
	struct host_datagram datagram = {
		.ttl = packet_next_ttl(packet),
		.tos = packet->tos,
		.dont_fragment = packet->dont_fragment,
		.data = (uint8_t *)(uintptr_t)(header + 1),
		.len = packet->transport_len - UDP_HEADER_LEN,
	};
	struct udp_client *client;
	struct flow_key key;

	if (!publish->udp->names.n_flows)
		return false;
	flow_key_of(&key, frame, packet);
	client = client_of_name(publish->udp, &key);
	if (!client)
		return false;
	udp_answer(client, &datagram, is_run ? le16_get(vnet->gso_size) : 0);
	return true;
}

/* ---- the container's errors ---- */

static bool is_refusal(uint8_t family, const struct icmp_header *icmp)
{
	if (family == AF_INET)
		return icmp->type == ICMP_DESTINATION_UNREACHABLE &&
			icmp->code == ICMP_PORT_UNREACHABLE;
	return icmp->type == ICMP6_DESTINATION_UNREACHABLE && icmp->code == ICMP6_PORT_UNREACHABLE;
}

/* Whose datagram, on its way to the container, the error is about. */
static struct udp_client *client_quoted(
	struct publish_udp *udp, const uint8_t *frame, const struct packet *packet)
{
	struct icmp_about about;
	struct udp_header header;
	struct flow_key key;

	if (!icmp_about_parse(frame, packet, &about) || about.protocol != IPPROTO_UDP)
		return NULL;
	memcpy(&header, about.header, sizeof(header));
	key = (struct flow_key){
		.near = about.dst.in6,
		.far = about.src.in6,
		.near_port = be16_get(header.dst_port),
		.far_port = be16_get(header.src_port),
		.family = about.dst.family,
	};
	return client_of_name(udp, &key);
}

/* No socket can be told to send an ICMP error, so nobody hears of a refusal but who counts. */
bool publish_udp_near_error(
	struct publish *publish, const uint8_t *frame, const struct packet *packet)
{
	const struct icmp_header *icmp =
		(const struct icmp_header *)(frame + packet->transport_offset);
	struct udp_client *client = client_quoted(publish->udp, frame, packet);
	uint32_t mtu;

	if (!client)
		return false;
	mtu = icmp_about_mtu(packet->src.family, icmp);
	if (mtu && mtu < publish->config.egress->mtu) {
		client->path_mtu = mtu;
		client->path_mtu_until_ns = publish->config.loop->now_ns + PUBLISH_UDP_PATH_MTU_NS;
	} else if (is_refusal(packet->src.family, icmp)) {
		udp_lost(publish->udp, client->usage, COUNTER_PUBLISH_UDP_REFUSED, 1);
	}
	return true;
}
