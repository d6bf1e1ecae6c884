/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client's socket in the container's namespace. What comes from the client goes out of it as it
 * is, and what comes to it goes to the client; who is there sees it as the guest itself.
 */
#include <errno.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/util.h"
#include "publish/udp.h"

static uint64_t cookie_of(const struct udp_client *client)
{
	return (uint64_t)client->flow.generation << 32 | client->flow.index;
}

/* What cannot be dialled goes over the link, if it can. */
static void fall_back(struct udp_client *client)
{
	if (udp_client_use_tap(client))
		udp_client_flush(client);
}

/* The socket is the client's when 0 is returned. */
static int adopt(struct udp_client *client, int fd)
{
	struct host *host = udp_config(client->owner)->host;
	const struct host_dgram_config config = {
		.family = client->guest.family,
		.protocol = IPPROTO_UDP,
		.peer = &client->guest,
		.peer_port = client->port->guest_port,
	};
	const struct handle handle = {
		.kind = HANDLE_PUBLISH_UDP,
		.generation = client->flow.generation,
		.index = client->flow.index | UDP_CLIENT_INDEX,
	};

	return host->ops->dgram_adopt(host, fd, &config, handle, &client->end.dgram);
}

static void on_made(void *owner, uint64_t cookie, int fd)
{
	struct publish_udp *udp = owner;
	struct flow *flow =
		flow_table_get(&udp->clients, (uint32_t)cookie, (uint32_t)(cookie >> 32));
	struct udp_client *client = flow ? container_of(flow, struct udp_client, flow) : NULL;

	if (!client) {
		fd_close(&fd);
	} else if (fd < 0 || fd >= udp_config(udp)->max_fd || adopt(client, fd) < 0) {
		fd_close(&fd);
		fall_back(client);
	} else {
		client->way = UDP_SPLICE;
		udp_client_flush(client);
	}
}

void udp_splice_begin(struct udp_client *client)
{
	struct publish_udp *udp = client->owner;
	struct socket_source *sockets = udp_config(udp)->sockets;

	client->way = UDP_NO_WAY;
	sockets->make(sockets, client->guest.family, SOCK_DGRAM, on_made, udp, cookie_of(client));
}

void udp_splice_send(struct udp_client *client, const struct host_datagram *datagram)
{
	struct host_datagram run = {
		.tos = datagram->tos, .data = datagram->data, .len = datagram->len};

	client->usage->n_in_bytes += run.len;
	client->has_sent = true;
	udp_put(client->owner, &client->end, &run, datagram->segment);
}

/* A container's answer has no hops behind it. */
void udp_splice_answer(struct udp_client *client, const struct run *run)
{
	for (int i = 0; i < run->n && client->usage; i++) {
		struct host_datagram datagram = {.tos = run->first->tos,
			.data = run->iov[i].iov_base,
			.len = run->iov[i].iov_len};

		udp_answer(client, &datagram, 0);
	}
}

/* Its lo is down, or the guest's network is: over the link it may go. */
void udp_splice_failed(struct udp_client *client, const struct host_datagram *datagram, int error)
{
	UNCLEARED struct run run;

	if (error != ENETUNREACH && error != EHOSTUNREACH && error != ENETDOWN)
		return;
	if (publish_is_loopback(&client->guest))
		return;
	client->way = UDP_NO_WAY;
	udp_run_of(datagram, &run);
	udp_client_wait(client, &run);
}

void udp_splice_check(struct udp_client *client)
{
	struct host *host = udp_config(client->owner)->host;

	if (client->way != UDP_NO_WAY)
		return;
	list_remove(&client->end.ready);
	host->ops->dgram_close(host, &client->end.dgram);
	fall_back(client);
}
