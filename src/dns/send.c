/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/util.h"
#include "dns/internal.h"

void dns_send(struct dns_try *try)
{
	struct dns_query *query = try->query;
	struct dns *dns = query->owner;
	const struct host_datagram datagram = {.data = query->data, .len = query->len};
	be16 near_id, id = be16_of(try->id);

	memcpy(&near_id, query->data, sizeof(near_id));
	memcpy(query->data, &id, sizeof(id));
	if (!outbox_add(&dns->outbox, try->socket, &datagram)) {
		dns_send_all(dns);
		/* Its socket may have failed: then it goes on, with all others that were there. */
		if (try->socket)
			outbox_add(&dns->outbox, try->socket, &datagram);
	}
	if (try->socket)
		try->socket->has_unsent = true;
	memcpy(query->data, &near_id, sizeof(near_id));
}

/* The host's kernel says that it is too long, which only what is longer than any run can be. That
 * says nothing about the nameserver, but one of the other family may take it. */
static void pass_on(struct dns_socket *socket, const struct host_datagram *message)
{
	struct dns_try *try;
	be16 id;

	memcpy(&id, message->data, sizeof(id));
	try = dns_socket_find(socket, be16_get(id));
	if (try)
		dns_onward(try);
}

/* As on any wire: whoever waits for it asks again. */
static void lose(struct dns *dns, const struct host_datagram *messages, int n)
{
	for (int i = 0; i < n; i++)
		dns->config.counters->value[COUNTER_UDP_SEND_FULL] +=
			host_n_datagrams(&messages[i]);
}

static void send_from(struct dns_socket *socket, const struct host_datagram *messages, int n)
{
	struct dns *dns = socket->owner;
	struct host *host = dns->config.host;

	for (int i = 0, r; i < n && !socket->is_failed; i += r) {
		r = host->ops->dgram_send(host, &socket->dgram, messages + i, n - i);
		if (r == -EAGAIN || r == 0) {
			lose(dns, messages + i, n - i);
			break;
		}
		if (r == -EMSGSIZE) {
			pass_on(socket, &messages[i]);
			r = 1;
		} else if (r < 0) {
			dns_socket_fail(socket);
		}
	}
	dns->config.counters->value[COUNTER_UDP_SEND_FULL] += socket->dgram.n_dropped;
	socket->dgram.n_dropped = 0;
}

void dns_send_all(struct dns *dns)
{
	UNCLEARED struct host_datagram messages[OUTBOX_MESSAGES];
	void *sender;
	unsigned int n;

	while ((n = outbox_take(&dns->outbox, &sender, messages))) {
		struct dns_socket *socket = sender;

		send_from(socket, messages, (int)n);
		socket->has_unsent = false;
		dns_socket_settle(socket);
	}
}
