/* SPDX-License-Identifier: Apache-2.0 */
#include "publish/udp.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/util.h"

#define PORTS_MAX UDP_CLIENT_INDEX
#define PORTS_MIN 64
/* Ends from which one turn receives. */
#define TURN_ENDS 32
/* Each of OUTBOX_ATTEMPTS_MAX errors, for one event. */
#define ERROR_ROUNDS_MAX 4

struct published_udp {
	uint32_t n_ports; /* that are bound */
	struct udp_socket ports[];
};

void udp_lost(struct publish_udp *udp, struct usage *usage, enum counter which, int n)
{
	udp_config(udp)->counters->value[which] += (uint64_t)n;
	usage->n_refused += (uint64_t)n;
}

/* ---- the published sockets ---- */

static int make_room(struct publish_udp *udp)
{
	uint32_t room = MAX(udp->ports_room * 2, PORTS_MIN);
	struct udp_socket **ports;

	if (udp->first_free < udp->ports_room)
		return 0;
	if (room > PORTS_MAX)
		return -ENOMEM;
	ports = reallocarray(udp->ports, room, sizeof(struct udp_socket *));
	if (!ports)
		return -ENOMEM;
	memset(ports + udp->ports_room, 0, (room - udp->ports_room) * sizeof(struct udp_socket *));
	udp->ports = ports;
	udp->ports_room = room;
	return 0;
}

/* The lowest free index; no index below first_free is free. */
static int port_register(struct publish_udp *udp, struct udp_socket *port)
{
	int r;

	while (udp->first_free < udp->ports_room && udp->ports[udp->first_free])
		udp->first_free++;
	r = make_room(udp);
	if (r < 0)
		return r;
	port->index = udp->first_free++;
	port->generation = udp->generation++ & HANDLE_GENERATION_MASK;
	udp->ports[port->index] = port;
	return 0;
}

static void port_unregister(struct publish_udp *udp, struct udp_socket *port)
{
	udp->ports[port->index] = NULL;
	udp->first_free = MIN(udp->first_free, port->index);
}

static int port_open(struct publish_udp *udp, struct udp_socket *port, uint16_t host_port)
{
	struct host *host = udp_config(udp)->host;
	struct published *published = port->published;
	struct forward_spec *spec = &published->rule->spec;
	const struct host_bind bind = {
		.addr = spec->host_addr, .port = host_port, .dual_stack = published->dual_stack};
	const struct host_dgram_config config = {
		.family = published->family, .protocol = IPPROTO_UDP, .published = &bind};
	const struct handle handle = {
		.kind = HANDLE_PUBLISH_UDP, .generation = port->generation, .index = port->index};
	int r;

	if (spec->source != FORWARD_FROM_FD)
		return host->ops->dgram_open(host, &config, handle, &port->end.dgram);
	r = host->ops->dgram_adopt(host, spec->host_fd, &config, handle, &port->end.dgram);
	if (r == 0)
		spec->host_fd = -1;
	return r;
}

static int port_begin(struct published *published, struct udp_socket *port, uint16_t i)
{
	struct publish_udp *udp = published->publish->udp;
	const struct forward_spec *spec = &published->rule->spec;
	int r;

	*port = (struct udp_socket){
		.published = published,
		.guest_port = (uint16_t)(spec->guest_port + i),
		.end.dgram.fd = -1,
	};
	list_init(&port->clients);
	r = port_register(udp, port);
	if (r < 0)
		return r;
	r = port_open(udp, port, (uint16_t)(spec->host_port + i));
	if (r < 0)
		port_unregister(udp, port);
	return r;
}

/* Without its socket a client cannot be answered. */
static void port_end(struct udp_socket *port)
{
	struct publish_udp *udp = port->published->publish->udp;
	struct host *host = udp_config(udp)->host;

	publish_udp_send_all(udp);
	while (!list_is_empty(&port->clients))
		udp_client_close(container_of(port->clients.next, struct udp_client, of_port));
	list_remove(&port->end.ready);
	host->ops->dgram_close(host, &port->end.dgram);
	port_unregister(udp, port);
}

/* ---- rules ---- */

static void end_ports(struct published *published)
{
	struct published_udp *set = published->udp;

	while (set->n_ports)
		port_end(&set->ports[--set->n_ports]);
	free(set);
	published->udp = NULL;
}

int publish_udp_bind(struct published *published, struct forward_failure *ret_failure)
{
	const struct forward_spec *spec = &published->rule->spec;
	struct published_udp *set;
	int r = 0;

	if (spec->lazy) {
		ret_failure->field = "lazy";
		return -EOPNOTSUPP;
	}
	set = calloc(1, sizeof(*set) + spec->n_ports * sizeof(set->ports[0]));
	if (!set)
		return -ENOMEM;
	published->udp = set;
	for (uint16_t i = 0; r == 0 && i < spec->n_ports; i++) {
		ret_failure->field = spec->source == FORWARD_FROM_FD ? "host_fd" : "host_port";
		ret_failure->port = (uint16_t)(spec->host_port + i);
		r = port_begin(published, &set->ports[i], i);
		if (r == -EADDRNOTAVAIL)
			ret_failure->field = "host_addr";
		set->n_ports += r == 0;
	}
	if (r < 0)
		end_ports(published);
	return r;
}

void publish_udp_unbind(struct published *published)
{
	struct publish_udp *udp = published->publish->udp;

	end_ports(published);
	flow_table_sweep(&udp->clients);
	flow_table_sweep(&udp->names);
}

void publish_udp_status(const struct published *published, struct forward_status *ret)
{
	ret->state = FORWARD_LISTENING;
	ret->error = 0;
}

/* ---- receiving ---- */

static struct udp_client *client_of_end(struct udp_end *end)
{
	return container_of(end, struct udp_client, end);
}

static void deliver_to_container(void *owner, const struct run *run)
{
	struct udp_socket *port = owner;
	struct publish_udp *udp = port->published->publish->udp;
	struct udp_client *client = run->first->port ? udp_client_of(port, run->first) : NULL;

	if (client)
		udp_client_deliver(client, run);
	else
		udp_lost(udp, port->published->usage, COUNTER_PUBLISH_UDP_DROPPED, run->n);
}

static void deliver_to_client(void *owner, const struct run *run)
{
	udp_splice_answer(owner, run);
}

/* An error of what was sent before is in the way of what has come. */
static int receive(
	struct publish_udp *udp, struct udp_end *end, struct host_datagram *in, int asked)
{
	struct host *host = udp_config(udp)->host;
	int n = host->ops->dgram_recv(host, &end->dgram, in, asked);

	for (int i = 0; n < 0 && i < OUTBOX_ATTEMPTS_MAX; i++) {
		publish_udp_take_errors(udp, end, NULL);
		n = host->ops->dgram_recv(host, &end->dgram, in, asked);
	}
	return MAX(n, 0);
}

/* One batch. Fewer than asked for: no more are there, and the next one is an event. */
static void receive_from(struct publish_udp *udp, struct udp_end *end)
{
	unsigned int asked = MAX(end->batch, INBOX_BATCH_MIN);
	struct host_datagram *in = inbox_rooms(&udp->inbox, asked);
	run_deliver_fn *deliver = end->is_client ? deliver_to_client : deliver_to_container;
	void *owner = end->is_client ? (void *)client_of_end(end) : (void *)end;
	UNCLEARED struct run run;
	int n = receive(udp, end, in, (int)asked);

	end->batch = inbox_batch(asked, (unsigned int)n);
	if ((unsigned int)n == asked)
		list_append(&udp->ready, &end->ready);
	run_begin(&run);
	for (int i = 0; i < n; i++)
		run_add(&run, &in[i], deliver, owner);
	run_end(&run, deliver, owner);
}

/* One batch of each of some, the others come first in the next turn: nobody's flood keeps others
 * waiting for longer than that. */
static void receive_all(struct publish_udp *udp)
{
	struct list now;
	struct list *node;

	list_init(&now);
	list_move(&now, &udp->ready);
	for (int n = 0; n < TURN_ENDS && (node = list_take(&now)); n++)
		receive_from(udp, container_of(node, struct udp_end, ready));
	list_move(&now, &udp->ready);
	list_move(&udp->ready, &now);
}

/* ---- the turn ---- */

static struct udp_end *end_of(struct publish_udp *udp, struct handle handle)
{
	struct udp_client *client;
	struct udp_socket *port;
	struct flow *flow;

	if (handle.index & UDP_CLIENT_INDEX) {
		flow = flow_table_get(
			&udp->clients, handle.index & ~UDP_CLIENT_INDEX, handle.generation);
		client = flow ? container_of(flow, struct udp_client, flow) : NULL;
		return client && client->way == UDP_SPLICE ? &client->end : NULL;
	}
	port = handle.index < udp->ports_room ? udp->ports[handle.index] : NULL;
	return port && port->generation == handle.generation ? &port->end : NULL;
}

void publish_udp_ready(struct publish_udp *udp, struct handle handle, uint32_t events)
{
	struct udp_end *end = end_of(udp, handle);

	if (!end)
		return;
	/* More than the limit of ICMP errors lets pass at once: what is left says nothing new. */
	for (int i = 0; events & EPOLLERR && i < ERROR_ROUNDS_MAX; i++)
		if (publish_udp_take_errors(udp, end, NULL) == UDP_ERRORS_NONE)
			break;
	if (!list_is_linked(&end->ready))
		list_append(&udp->ready, &end->ready);
}

/* Whether it is the one that they wait for is seen at the end of the turn: once for all. */
void publish_udp_neighbor(
	struct publish_udp *udp, const struct ip_addr *addr, const struct eth_addr *mac)
{
	udp->heard = true;
}

static void flush_waiting(struct publish_udp *udp)
{
	struct list now;
	struct list *node;

	udp->heard = false;
	list_init(&now);
	list_move(&now, &udp->waiting);
	while ((node = list_take(&now))) {
		list_append(&udp->waiting, node);
		udp_client_flush(container_of(node, struct udp_client, waiting));
	}
}

bool publish_udp_finish(struct publish_udp *udp)
{
	publish_udp_send_all(udp);
	if (!list_is_empty(&udp->ready))
		receive_all(udp);
	if (udp->heard)
		flush_waiting(udp);
	publish_udp_send_all(udp);
	flow_table_sweep(&udp->clients);
	flow_table_sweep(&udp->names);
	return !list_is_empty(&udp->ready);
}

/* ---- life ---- */

static int init_parts(struct publish_udp *udp)
{
	const struct publish_config *config = udp_config(udp);
	int r;

	r = flow_table_init(
		&udp->clients, sizeof(struct udp_client), config->max_udp_clients, config->key);
	if (r < 0)
		return r;
	r = flow_table_init(
		&udp->names, sizeof(struct udp_name), config->max_udp_clients, config->key);
	if (r < 0)
		goto no_names;
	r = inbox_init(&udp->inbox, config->loop);
	if (r < 0)
		goto no_inbox;
	r = outbox_init(&udp->outbox);
	if (r == 0)
		return 0;
	inbox_done(&udp->inbox);
no_inbox:
	flow_table_done(&udp->names);
no_names:
	flow_table_done(&udp->clients);
	return r;
}

struct publish_udp *publish_udp_new(struct publish *publish)
{
	struct publish_udp *udp = calloc(1, sizeof(*udp));

	if (!udp)
		return NULL;
	udp->publish = publish;
	list_init(&udp->used);
	list_init(&udp->ready);
	list_init(&udp->waiting);
	if (init_parts(udp) == 0)
		return udp;
	free(udp);
	return NULL;
}

void publish_udp_free(struct publish_udp *udp)
{
	flow_table_sweep(&udp->clients);
	flow_table_sweep(&udp->names);
	flow_table_done(&udp->clients);
	flow_table_done(&udp->names);
	inbox_done(&udp->inbox);
	outbox_done(&udp->outbox);
	free(udp->ports);
	free(udp);
}
