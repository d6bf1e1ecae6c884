/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/util.h"
#include "dns/internal.h"

/* A port is guessed less often than it changes (RFC 5452 9.2): tries that one socket serves at a
 * time, and in its life. */
#define IN_FLIGHT_MAX 16
#define USED_MAX      64
/* When there is no other socket to be had. */
#define CROWDED_MAX 1024
/* How long a socket that serves nobody waits for more. */
#define IDLE_NS (500 * NS_PER_MS)

static struct dns_socket *socket_of(struct list *node)
{
	return container_of(node, struct dns_socket, node);
}

/* ---- life ---- */

void dns_socket_close(struct dns_socket *socket)
{
	struct dns *dns = socket->owner;
	struct host *host = dns->config.host;

	timer_cancel(&dns->config.loop->timers, &socket->idle);
	list_remove(&socket->node);
	host->ops->dgram_close(host, &socket->dgram);
	dns->sockets[socket->index] = NULL;
	dns->free_indices[--dns->n_sockets] = socket->index;
	free(socket);
}

static void close_idle(struct timer *timer, int64_t now_ns)
{
	dns_socket_close(container_of(timer, struct dns_socket, idle));
}

static bool is_worn(const struct dns_socket *socket)
{
	return socket->is_failed || socket->n_used >= USED_MAX;
}

void dns_socket_settle(struct dns_socket *socket)
{
	struct dns *dns = socket->owner;
	bool is_full = is_worn(socket) || socket->n_tries >= IN_FLIGHT_MAX;
	struct timer_heap *timers = &dns->config.loop->timers;

	if (socket->n_tries)
		timer_cancel(timers, &socket->idle);
	else if (is_worn(socket) && !socket->is_held) {
		dns_socket_close(socket);
		return;
	} else {
		timer_arm(timers, &socket->idle, dns->config.loop->now_ns + IDLE_NS);
	}
	list_remove(&socket->node);
	list_append(is_full ? &dns->full : &dns->open, &socket->node);
}

static int open_socket(
	struct dns *dns, const struct host_nameserver *server, struct dns_socket *socket)
{
	struct host *host = dns->config.host;
	const struct host_dgram_config config = {
		.family = server->addr.family,
		.protocol = IPPROTO_UDP,
		.from = policy_source_to(dns->config.policy, &server->addr),
		.peer = &server->addr,
		.peer_port = DNS_PORT,
		.peer_scope = server->scope,
	};
	const struct handle handle = {
		.kind = HANDLE_DNS,
		.index = dns->free_indices[dns->n_sockets],
		.generation = ++dns->generation & HANDLE_GENERATION_MASK,
	};

	*socket = (struct dns_socket){
		.owner = dns,
		.server = *server,
		.index = handle.index,
		.generation = handle.generation,
		.idle.fire = close_idle,
	};
	list_init(&socket->tries);
	return host->ops->dgram_open(host, &config, handle, &socket->dgram);
}

static int new_socket(
	struct dns *dns, const struct host_nameserver *server, struct dns_socket **ret)
{
	struct dns_socket *socket = malloc(sizeof(*socket));
	int r = socket ? open_socket(dns, server, socket) : -ENOMEM;

	if (r < 0) {
		free(socket);
		return r;
	}
	dns->sockets[socket->index] = socket;
	dns->n_sockets++;
	*ret = socket;
	return 0;
}

/* ---- who serves a try ---- */

/* The one that was used last, so that the others become idle. */
static struct dns_socket *find_open(struct dns *dns, const struct host_nameserver *server)
{
	for (struct list *node = dns->open.prev; node != &dns->open; node = node->prev)
		if (dns_is_same_server(&socket_of(node)->server, server))
			return socket_of(node);
	return NULL;
}

/* Others that serve nobody give way. */
static bool make_room(struct dns *dns)
{
	for (struct list *node = dns->open.next; node != &dns->open; node = node->next) {
		if (socket_of(node)->n_tries || socket_of(node)->is_held)
			continue;
		dns_socket_close(socket_of(node));
		return true;
	}
	return false;
}

/* The full ones take turns. */
static struct dns_socket *find_full(struct dns *dns, const struct host_nameserver *server)
{
	for (struct list *node = dns->full.next; node != &dns->full; node = node->next) {
		struct dns_socket *socket = socket_of(node);

		if (!socket->is_failed && socket->n_tries < CROWDED_MAX &&
			dns_is_same_server(&socket->server, server))
			return socket;
	}
	return NULL;
}

static int find_socket(
	struct dns *dns, const struct host_nameserver *server, struct dns_socket **ret)
{
	int r = -EMFILE;

	*ret = find_open(dns, server);
	if (*ret)
		return 0;
	if (dns->n_sockets < dns->config.max_sockets)
		r = new_socket(dns, server, ret);
	if (!host_is_short(r))
		return r;
	*ret = find_full(dns, server);
	if (*ret)
		return 0;
	if (make_room(dns))
		r = new_socket(dns, server, ret);
	return host_is_short(r) ? -EMFILE : r;
}

/* ---- tries ---- */

struct dns_try *dns_socket_find(struct dns_socket *socket, uint16_t id)
{
	for (struct list *node = socket->tries.next; node != &socket->tries; node = node->next) {
		struct dns_try *try = container_of(node, struct dns_try, in_socket);

		if (try->id == id)
			return try;
	}
	return NULL;
}

/* Nobody can guess them: a keyed hash of a counter. */
static uint16_t new_id(struct dns *dns, struct dns_socket *socket)
{
	uint16_t id;

	do {
		dns->n_ids++;
		id = (uint16_t)siphash(dns->config.key, &dns->n_ids, sizeof(dns->n_ids));
	} while (dns_socket_find(socket, id));
	return id;
}

int dns_socket_attach(struct dns *dns, struct dns_try *try)
{
	struct dns_socket *socket;
	int r = find_socket(dns, &try->server, &socket);

	if (r < 0)
		return r;
	try->id = new_id(dns, socket);
	try->socket = socket;
	list_append(&socket->tries, &try->in_socket);
	socket->n_tries++;
	socket->n_used++;
	dns_socket_settle(socket);
	return 0;
}

void dns_socket_detach(struct dns_try *try)
{
	struct dns_socket *socket = try->socket;

	if (!socket)
		return;
	list_remove(&try->in_socket);
	try->socket = NULL;
	socket->n_tries--;
	dns_socket_settle(socket);
}

int dns_socket_send(struct dns_try *try)
{
	struct dns_query *query = try->query;
	struct host *host = query->owner->config.host;
	const struct host_datagram datagram = {.data = query->data, .len = query->len};
	be16 near_id, id = be16_of(try->id);
	int r;

	memcpy(&near_id, query->data, sizeof(near_id));
	memcpy(query->data, &id, sizeof(id));
	r = host->ops->dgram_send(host, &try->socket->dgram, &datagram, 1);
	memcpy(query->data, &near_id, sizeof(near_id));
	return MIN(r, 0);
}

struct dns_socket *dns_socket_get(struct dns *dns, struct handle handle)
{
	struct dns_socket *socket =
		handle.index < dns->config.max_sockets ? dns->sockets[handle.index] : NULL;

	return socket && socket->generation == handle.generation ? socket : NULL;
}
