/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/dns.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/util.h"
#include "dns/internal.h"
#include "dns/message.h"
#include "flow/path_error.h"
#include "wire/udp.h"
#include "wire/vnet.h"

/* Who says nothing for so long is not waited for: the next one is asked, too. */
#define TURN_NS (500 * NS_PER_MS)
/* Longer than any client waits before it asks again. */
#define GIVE_UP_NS (10 * NS_PER_SEC)
/* All that wait for an answer; beyond that the oldest gives way. */
#define QUERIES_MAX     16384
#define QUERY_BYTES_MAX (16 * 1024 * 1024)

static int64_t now_of(const struct dns *dns)
{
	return dns->config.loop->now_ns;
}

void dns_tell(struct dns *dns, const struct host_nameserver *server, bool answered)
{
	struct host *host = dns->config.host;

	host->ops->nameserver_said(host, &server->addr, answered, now_of(dns));
}

/* ---- queries ---- */

static struct dns_query **bucket_of(struct dns *dns, uint64_t hash)
{
	return &dns->buckets[hash % DNS_BUCKETS];
}

void dns_query_unlink(struct dns_query *query)
{
	struct dns *dns = query->owner;
	struct dns_query **ref = bucket_of(dns, query->hash);

	while (*ref != query)
		ref = &(*ref)->next;
	*ref = query->next;
	for (int i = 0; i < query->n_tries; i++)
		dns_socket_detach(&query->tries[i]);
	timer_cancel(&dns->config.loop->timers, &query->timer);
	list_remove(&query->used);
	list_remove(&query->waiting);
	dns->n_queries--;
	dns->n_bytes -= sizeof(*query) + query->len;
}

static void query_free(struct dns_query *query)
{
	dns_query_unlink(query);
	free(query);
}

static bool is_full_for(const struct dns *dns, size_t len)
{
	return dns->n_queries >= QUERIES_MAX ||
		dns->n_bytes + sizeof(struct dns_query) + len > QUERY_BYTES_MAX;
}

static void make_room(struct dns *dns, size_t len)
{
	struct list *node;

	while (is_full_for(dns, len) && (node = list_take(&dns->queries))) {
		count(dns->config.counters, COUNTER_DNS_EVICTED);
		query_free(container_of(node, struct dns_query, used));
	}
}

static bool is_live(const struct dns_query *query)
{
	for (int i = 0; i < query->n_tries; i++)
		if (query->tries[i].socket)
			return true;
	return false;
}

static bool was_tried(const struct dns_query *query, const struct host_nameserver *server)
{
	for (int i = 0; i < query->n_tries; i++)
		if (dns_is_same_server(&query->tries[i].server, server))
			return true;
	return false;
}

/* ---- asking ---- */

static void arm(struct dns_query *query, int64_t due_ns)
{
	timer_arm(
		&query->owner->config.loop->timers, &query->timer, MIN(due_ns, query->give_up_ns));
}

static bool ask(struct dns_query *query, const struct host_nameserver *server)
{
	struct dns *dns = query->owner;
	struct dns_try *try = &query->tries[query->n_tries++];
	int r;

	*try = (struct dns_try){.server = *server, .query = query};
	if (query->n_tries > 1)
		count(dns->config.counters, COUNTER_DNS_FAILED_OVER);
	r = dns_socket_attach(dns, try);
	if (r == 0)
		dns_send(try);
	else if (r == -EMFILE)
		query->is_short = true;
	else
		dns_tell(dns, server, false);
	return r == 0;
}

/* The next one that was not asked yet. False: there is none. */
static bool ask_next(struct dns_query *query, const struct host_nameserver *servers, int n)
{
	for (int i = 0; i < n && query->n_tries < HOST_NAMESERVERS_MAX; i++)
		if (!was_tried(query, &servers[i]) && ask(query, &servers[i]))
			return true;
	return false;
}

/* All have refused. That they could not be asked is silence: the client asks again. */
static void refuse(struct dns_query *query)
{
	struct dns *dns = query->owner;
	const struct udp_header udp = {
		.src_port = be16_of(query->near_port),
		.dst_port = be16_of(DNS_PORT),
		.length = be16_of((uint16_t)(UDP_HEADER_LEN + query->len)),
	};
	struct path_error_about about = {
		.near_mac = query->near_mac,
		.near = query->near,
		.far = query->asked,
		.protocol = IPPROTO_UDP,
	};
	struct host_dgram_error error = {
		.error = ECONNREFUSED, .quote_len = MIN(query->len, HOST_QUOTE_MAX)};

	count(dns->config.counters, COUNTER_DNS_REFUSED);
	if (query->is_short)
		return;
	memcpy(about.header, &udp, sizeof(udp));
	memcpy(error.quote, query->data, error.quote_len);
	path_error_send(dns->config.egress, dns->config.icmp_limit, &about, &error, now_of(dns));
}

static void wait_for_servers(struct dns_query *query)
{
	struct dns *dns = query->owner;
	struct timer_heap *timers = &dns->config.loop->timers;

	timer_cancel(timers, &query->timer);
	if (!list_is_linked(&query->waiting))
		list_append(&dns->waiting, &query->waiting);
	if (!timer_is_armed(&dns->wait_timer))
		timer_arm(timers, &dns->wait_timer, now_of(dns) + HOST_NAMESERVERS_WAIT_NS);
}

/* Whom to ask next, and what when there is nobody. The query may be gone afterwards. */
static void proceed(struct dns_query *query)
{
	struct dns *dns = query->owner;
	struct host *host = dns->config.host;
	struct host_nameserver servers[HOST_NAMESERVERS_MAX];
	int n = host->ops->nameservers(host, servers, now_of(dns));

	if (n == -EAGAIN) {
		wait_for_servers(query);
	} else if (ask_next(query, servers, n)) {
		arm(query, now_of(dns) + TURN_NS);
	} else if (is_live(query)) {
		arm(query, query->give_up_ns);
	} else {
		refuse(query);
		query_free(query);
	}
}

void dns_onward(struct dns_try *try)
{
	struct dns_query *query = try->query;

	dns_socket_detach(try);
	if (!list_is_linked(&query->waiting))
		list_append(&query->owner->onward, &query->waiting);
}

static void fire(struct timer *timer, int64_t now_ns)
{
	struct dns_query *query = container_of(timer, struct dns_query, timer);
	struct dns_try *last = &query->tries[query->n_tries - 1];

	if (now_ns >= query->give_up_ns) {
		count(query->owner->config.counters, COUNTER_DNS_UNANSWERED);
		query_free(query);
		return;
	}
	if (last->socket)
		dns_tell(query->owner, &last->server, false);
	proceed(query);
}

/* The client asks once more: the next one, or else those again that it was sent to, in turn. */
static void ask_again(struct dns_query *query)
{
	struct dns *dns = query->owner;
	struct host *host = dns->config.host;
	struct host_nameserver servers[HOST_NAMESERVERS_MAX];
	int n;

	if (list_is_linked(&query->waiting))
		return;
	n = host->ops->nameservers(host, servers, now_of(dns));
	if (ask_next(query, servers, n)) {
		arm(query, now_of(dns) + TURN_NS);
		return;
	}
	for (int i = 0; i < query->n_tries; i++) {
		struct dns_try *try = &query->tries[query->n_again++ % query->n_tries];

		if (try->socket) {
			dns_send(try);
			return;
		}
	}
}

static void servers_are_late(struct timer *timer, int64_t now_ns)
{
	dns_servers_known(container_of(timer, struct dns, wait_timer));
}

void dns_servers_known(struct dns *dns)
{
	struct list waiting, *node;

	list_init(&waiting);
	list_move(&waiting, &dns->waiting);
	timer_cancel(&dns->config.loop->timers, &dns->wait_timer);
	while ((node = list_take(&waiting)))
		proceed(container_of(node, struct dns_query, waiting));
}

/* ---- from the container ---- */

/* Who asks what; a client that repeats its query repeats all of it. */
static uint64_t hash_of(
	const struct dns *dns, const struct dns_query *who, const uint8_t *data, size_t len)
{
	const struct {
		struct in6_addr near, asked;
		uint64_t port;
	} key = {who->near.in6, who->asked.in6, who->near_port};

	return siphash(dns->config.key, &key, sizeof(key)) ^ siphash(dns->config.key, data, len);
}

static struct dns_query *find(
	struct dns *dns, const struct dns_query *who, const uint8_t *data, size_t len)
{
	struct dns_query *query = *bucket_of(dns, who->hash);

	while (query &&
		!(query->hash == who->hash && query->near_port == who->near_port &&
			query->len == len && !memcmp(query->data, data, len) &&
			ip_addr_equal(&query->near, &who->near) &&
			ip_addr_equal(&query->asked, &who->asked)))
		query = query->next;
	return query;
}

static struct dns_query *query_new(
	struct dns *dns, const struct dns_query *who, const uint8_t *data, size_t len)
{
	struct dns_query *query, **bucket = bucket_of(dns, who->hash);

	make_room(dns, len);
	query = calloc(1, sizeof(*query) + len);
	if (!query)
		return NULL;
	*query = *who;
	query->owner = dns;
	query->len = len;
	query->timer.fire = fire;
	query->give_up_ns = now_of(dns) + GIVE_UP_NS;
	memcpy(query->data, data, len);
	query->next = *bucket;
	*bucket = query;
	list_append(&dns->queries, &query->used);
	dns->n_queries++;
	dns->n_bytes += sizeof(*query) + len;
	return query;
}

static void take_query(struct dns *dns, struct dns_query *who, const uint8_t *data, size_t len)
{
	struct dns_query *query;

	count(dns->config.counters, COUNTER_DNS_QUERIES);
	if (!dns_is_query(data, len)) {
		count(dns->config.counters, COUNTER_DNS_DROPPED);
		return;
	}
	who->hash = hash_of(dns, who, data, len);
	query = find(dns, who, data, len);
	if (query) {
		ask_again(query);
		return;
	}
	query = query_new(dns, who, data, len);
	if (query)
		proceed(query);
	else
		count(dns->config.counters, COUNTER_DNS_DROPPED);
}

void dns_input(struct dns *dns, const uint8_t *frame, const struct packet *packet)
{
	const struct eth_header *eth = (const struct eth_header *)frame;
	const struct vnet_header *vnet = (const struct vnet_header *)(frame - VNET_HEADER_LEN);
	const struct udp_header *udp =
		(const struct udp_header *)(frame + packet->transport_offset);
	const uint8_t *data = frame + packet->transport_offset + UDP_HEADER_LEN;
	size_t len = packet->transport_len - UDP_HEADER_LEN, one;
	struct dns_query who = {
		.near_mac = eth->src,
		.near = packet->src,
		.asked = packet->dst,
		.near_port = be16_get(udp->src_port),
	};

	one = vnet->gso_type == VNET_GSO_UDP_L4 ? le16_get(vnet->gso_size) : 0;
	/* Of a run the UDP header's length is to be set yet. */
	if (!one)
		one = len = MIN(len, (size_t)be16_get(udp->length) - UDP_HEADER_LEN);
	do {
		take_query(dns, &who, data, MIN(one, len));
		data += MIN(one, len);
		len -= MIN(one, len);
	} while (len);
}

/* ---- the turn ---- */

/* Ends: each query goes on at most HOST_NAMESERVERS_MAX times. */
void dns_finish(struct dns *dns)
{
	struct list *node;

	while (dns->outbox.n || !list_is_empty(&dns->onward)) {
		dns_send_all(dns);
		while ((node = list_take(&dns->onward)))
			proceed(container_of(node, struct dns_query, waiting));
	}
}

/* ---- life ---- */

static int init(struct dns *dns, const struct flow_config *config)
{
	int r;

	dns->config = *config;
	dns->batch = INBOX_BATCH_MIN;
	dns->wait_timer.fire = servers_are_late;
	list_init(&dns->queries);
	list_init(&dns->waiting);
	list_init(&dns->onward);
	list_init(&dns->open);
	list_init(&dns->full);
	dns->sockets = calloc(config->max_sockets, sizeof(struct dns_socket *));
	dns->free_indices = calloc(config->max_sockets, sizeof(uint32_t));
	if (!dns->sockets || !dns->free_indices)
		return -ENOMEM;
	for (uint32_t i = 0; i < config->max_sockets; i++)
		dns->free_indices[i] = i;
	r = inbox_init(&dns->inbox, config->loop);
	if (r < 0)
		return r;
	r = outbox_init(&dns->outbox);
	if (r < 0)
		inbox_done(&dns->inbox);
	return r;
}

struct dns *dns_new(const struct flow_config *config)
{
	struct dns *dns = calloc(1, sizeof(*dns));

	if (dns && init(dns, config) < 0) {
		free(dns->sockets);
		free(dns->free_indices);
		free(dns);
		dns = NULL;
	}
	return dns;
}

static void close_all(struct list *sockets)
{
	while (!list_is_empty(sockets))
		dns_socket_close(container_of(sockets->next, struct dns_socket, node));
}

void dns_free(struct dns *dns)
{
	if (!dns)
		return;
	for (struct list *node = dns->queries.next, *next; node != &dns->queries; node = next) {
		next = node->next;
		query_free(container_of(node, struct dns_query, used));
	}
	close_all(&dns->open);
	close_all(&dns->full);
	timer_cancel(&dns->config.loop->timers, &dns->wait_timer);
	free(dns->sockets);
	free(dns->free_indices);
	outbox_done(&dns->outbox);
	inbox_done(&dns->inbox);
	free(dns);
}
