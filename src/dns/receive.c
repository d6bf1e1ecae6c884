/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/util.h"
#include "dns/internal.h"
#include "dns/message.h"

/* Batches and errors of one socket in one turn: a stranger who floods it holds up nobody. */
#define RECEIVES_MAX 4
#define ERRORS_MAX   64

/* ---- answers ---- */

/* Whether both go to one client in one run. */
static bool goes_with(const struct dns_answer *a, const struct dns_answer *b)
{
	return a->query->near_port == b->query->near_port && a->len == b->len &&
		ip_addr_equal(&a->query->near, &b->query->near) &&
		ip_addr_equal(&a->query->asked, &b->query->asked) &&
		!memcmp(&a->query->near_mac, &b->query->near_mac, sizeof(a->query->near_mac));
}

/* The first of `n` answers, which `query` waits for, and those that go with it. */
static void deliver(struct dns *dns, struct dns_query *query, struct dns_answer *first, int n)
{
	const struct egress_head head = {
		.dst_mac = query->near_mac,
		.src_mac = egress_mac(&query->asked),
		.src = query->asked,
		.dst = query->near,
	};
	UNCLEARED struct iovec iov[EGRESS_PIECES_MAX];
	int n_iov = 0;

	for (struct dns_answer *one = first; one < first + n && n_iov < EGRESS_PIECES_MAX; one++) {
		if (!one->query || (one != first && !goes_with(first, one)))
			continue;
		iov[n_iov++] = (struct iovec){.iov_base = one->data, .iov_len = one->len};
		count(dns->config.counters, COUNTER_DNS_ANSWERS);
		if (one == first)
			continue;
		free(one->query);
		one->query = NULL;
	}
	egress_udp(dns->config.egress, &head, DNS_PORT, query->near_port, iov, n_iov);
	free(query);
	first->query = NULL;
}

static void deliver_all(struct dns *dns)
{
	int n = (int)dns->n_answers;

	for (struct dns_answer *one = dns->answers; n; one++, n--)
		if (one->query)
			deliver(dns, one->query, one, n);
	dns->n_answers = 0;
}

static void take_answer(struct dns_socket *socket, uint8_t *data, size_t len)
{
	struct dns *dns = socket->owner;
	struct dns_try *try = NULL;
	struct dns_query *query;
	be16 id;

	if (len >= DNS_HEADER_LEN) {
		memcpy(&id, data, sizeof(id));
		try = dns_socket_find(socket, be16_get(id));
	}
	if (!try || !dns_is_answer(data, len, try->query->data, try->query->len)) {
		count(dns->config.counters, COUNTER_DNS_STRANGERS);
		return;
	}
	query = try->query;
	dns_tell(dns, &socket->server, true);
	dns_query_unlink(query);
	memcpy(data, query->data, sizeof(be16)); /* its own id */
	dns->answers[dns->n_answers++] = (struct dns_answer){query, data, len};
	if (dns->n_answers == ARRAY_SIZE(dns->answers))
		deliver_all(dns);
}

/* One datagram, or a run of them. */
static void take_datagram(struct dns_socket *socket, const struct host_datagram *datagram)
{
	size_t len = datagram->len, one = datagram->segment ? datagram->segment : len, at = 0;

	do {
		take_answer(socket, datagram->data + at, MIN(one, len - at));
		at += one;
	} while (at < len);
}

/* ---- events ---- */

/* A datagram that was too long, as the only one, says nothing about the nameserver. Returns whether
 * there may be more. */
static bool take_errors(struct dns_socket *socket)
{
	struct host *host = socket->owner->config.host;
	struct host_dgram_error error;
	bool has_failed = false;
	int n = 0;

	for (; n < ERRORS_MAX && host->ops->dgram_error(host, &socket->dgram, &error); n++)
		has_failed |= error.error != EMSGSIZE;
	if (has_failed)
		dns_socket_fail(socket);
	return n == ERRORS_MAX;
}

/* Returns whether there may be more. */
static bool receive(struct dns_socket *socket)
{
	struct dns *dns = socket->owner;
	struct host *host = dns->config.host;
	int n = 0, asked = 0;

	for (int i = 0; i < RECEIVES_MAX && n == asked; i++) {
		struct host_datagram *in;

		asked = (int)dns->batch;
		in = inbox_rooms(&dns->inbox, dns->batch);
		n = host->ops->dgram_recv(host, &socket->dgram, in, asked);
		for (int k = 0; k < n; k++)
			take_datagram(socket, &in[k]);
		deliver_all(dns);
		dns->batch = inbox_batch(dns->batch, (unsigned int)MAX(n, 0));
	}
	return n == asked;
}

void dns_host_ready(struct dns *dns, struct handle handle, uint32_t events)
{
	struct dns_socket *socket = dns_socket_get(dns, handle);
	struct host *host = dns->config.host;
	bool has_more;

	if (!socket)
		return;
	socket->is_held = true;
	has_more = receive(socket);
	if (events & EPOLLERR) {
		has_more = take_errors(socket);
		/* What an error was in front of. */
		has_more |= receive(socket);
	}
	/* Edge-triggered, and not at its end: said once more, it is news again. */
	if (has_more)
		host->ops->change(host, socket->dgram.fd, DNS_HOST_EVENTS, handle);
	socket->is_held = false;
	dns_socket_settle(socket);
}
