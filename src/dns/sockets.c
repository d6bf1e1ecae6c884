/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/util.h"
#include "dns/internal.h"

/* A port is guessed less often than it changes (RFC 5452 9.2): tries that one socket serves, all at
 * a time or one after another, and how long it takes new ones. */
#define USED_MAX 64
#define LIFE_NS  (1 * NS_PER_SEC)
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
	return socket->is_failed || socket->n_used >= USED_MAX ||
		socket->owner->config.loop->now_ns - socket->opened_ns >= LIFE_NS;
}

static bool may_close(const struct dns_socket *socket)
{
	return !socket->n_tries && !socket->is_held && !socket->has_unsent;
}

void dns_socket_settle(struct dns_socket *socket)
{
	struct dns *dns = socket->owner;
	struct timer_heap *timers = &dns->config.loop->timers;

	if (socket->n_tries)
		timer_cancel(timers, &socket->idle);
	else if (is_worn(socket) && may_close(socket)) {
		dns_socket_close(socket);
		return;
	} else {
		timer_arm(timers, &socket->idle, dns->config.loop->now_ns + IDLE_NS);
	}
	list_remove(&socket->node);
	list_append(is_worn(socket) ? &dns->full : &dns->open, &socket->node);
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
		.is_plain = true,
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
		.opened_ns = dns->config.loop->now_ns,
		.idle.fire = close_idle,
	};
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
		if (!is_worn(socket_of(node)) &&
			dns_is_same_server(&socket_of(node)->server, server))
			return socket_of(node);
	return NULL;
}

/* Others that serve nobody give way. */
static bool make_room(struct dns *dns)
{
	for (struct list *node = dns->open.next; node != &dns->open; node = node->next) {
		if (!may_close(socket_of(node)))
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

static struct dns_try **bucket_of(struct dns_socket *socket, uint16_t id)
{
	return &socket->tries[id % DNS_TRY_BUCKETS];
}

struct dns_try *dns_socket_find(struct dns_socket *socket, uint16_t id)
{
	struct dns_try *try = *bucket_of(socket, id);

	while (try && try->id != id)
		try = try->next;
	return try;
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
	struct dns_try **bucket;
	int r = find_socket(dns, &try->server, &socket);

	if (r < 0)
		return r;
	try->id = new_id(dns, socket);
	try->socket = socket;
	bucket = bucket_of(socket, try->id);
	try->next = *bucket;
	*bucket = try;
	socket->n_tries++;
	socket->n_used++;
	dns_socket_settle(socket);
	return 0;
}

void dns_socket_detach(struct dns_try *try)
{
	struct dns_socket *socket = try->socket;
	struct dns_try **ref;

	if (!socket)
		return;
	ref = bucket_of(socket, try->id);
	while (*ref != try)
		ref = &(*ref)->next;
	*ref = try->next;
	try->socket = NULL;
	socket->n_tries--;
	dns_socket_settle(socket);
}

/* It is held by the caller: what it served last does not close it. */
void dns_socket_fail(struct dns_socket *socket)
{
	dns_tell(socket->owner, &socket->server, false);
	socket->is_failed = true;
	for (int i = 0; i < DNS_TRY_BUCKETS; i++)
		while (socket->tries[i])
			dns_onward(socket->tries[i]);
}

struct dns_socket *dns_socket_get(struct dns *dns, struct handle handle)
{
	struct dns_socket *socket =
		handle.index < dns->config.max_sockets ? dns->sockets[handle.index] : NULL;

	return socket && socket->generation == handle.generation ? socket : NULL;
}
