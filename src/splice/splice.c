/* SPDX-License-Identifier: Apache-2.0 */
#include "splice/splice.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"
#include "splice/internal.h"

#define EVENTS (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET)

/* What all may take in one turn, in each direction, and what one may in any case: nobody waits
 * longer than for that, here or elsewhere in the loop. */
#define TURN_BYTES  (1024 * 1024)
#define SHARE_LEAST (64 * 1024)

/* How often pipes and memory are looked after, while there are any. */
#define TICK_NS (100 * NS_PER_MS)

static struct splice_flow *of(struct flow *flow)
{
	return flow ? container_of(flow, struct splice_flow, flow) : NULL;
}

static struct splice_flow *find(struct splice *splice, struct handle handle)
{
	return of(flow_table_get(&splice->table, handle.index, handle.generation));
}

static struct handle handle_of(const struct splice_flow *flow, const struct end *end)
{
	return (struct handle){
		.kind = end == &flow->near ? HANDLE_SPLICE_NEAR : HANDLE_SPLICE_FAR,
		.generation = flow->flow.generation,
		.index = flow->flow.index,
	};
}

/* ---- sockets ---- */

static void set_option(int fd, int level, int name)
{
	const int on = 1;

	setsockopt(fd, level, name, &on, sizeof(on));
}

/* Nagle's work was done by the kernel of whoever sent; a peer that vanishes is to be noticed;
 * urgent data is ordinary data. A unix socket knows nothing of them. */
static void set_options(int fd)
{
	set_option(fd, IPPROTO_TCP, TCP_NODELAY);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE);
	set_option(fd, SOL_SOCKET, SO_OOBINLINE);
}

static void end_reset(struct end *end)
{
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};

	if (end->fd >= 0)
		setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	fd_close(&end->fd);
}

static int watch(struct splice_flow *flow, const struct end *end)
{
	return loop_watch(flow->splice->config.loop, end->fd, EVENTS, handle_of(flow, end));
}

static int dial_tcp(const struct splice_flow *flow)
{
	const struct ip_addr *guest = &flow->guest;
	const struct sockaddr_in in = {
		.sin_family = AF_INET,
		.sin_port = htons(flow->guest_port),
		.sin_addr = ip_addr_v4(guest),
	};
	const struct sockaddr_in6 in6 = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(flow->guest_port),
		.sin6_addr = guest->in6,
	};
	int r;

	if (guest->family == AF_INET)
		r = connect(flow->near.fd, (const struct sockaddr *)&in, sizeof(in));
	else
		r = connect(flow->near.fd, (const struct sockaddr *)&in6, sizeof(in6));
	return r < 0 && errno != EINPROGRESS ? -errno : 0;
}

/* ---- the life of one ---- */

static void set_active(struct splice_flow *flow)
{
	if (list_is_linked(&flow->active))
		return;
	list_append(&flow->splice->active, &flow->active);
	flow->splice->n_active++;
}

/* Both sockets are closed or given away by now. */
static void flow_remove(struct splice_flow *flow)
{
	struct splice *splice = flow->splice;

	if (flow->state == SPLICE_OPEN)
		flow->usage->n_active--;
	flow->state = SPLICE_GONE;
	timer_cancel(&splice->config.loop->timers, &flow->deadline);
	list_remove(&flow->active);
	way_drop(splice, &flow->in);
	way_drop(splice, &flow->out);
	usage_unref(flow->usage);
	flow->usage = NULL;
	flow_table_remove(&splice->table, &flow->flow);
}

static void flow_close(struct splice_flow *flow)
{
	fd_close(&flow->near.fd);
	fd_close(&flow->far.fd);
	flow_remove(flow);
}

static void flow_reset(struct splice_flow *flow)
{
	end_reset(&flow->near);
	end_reset(&flow->far);
	flow_remove(flow);
}

static void dial_fail(struct splice_flow *flow, int error)
{
	flow->dial_error = error;
	set_active(flow);
}

static void dial_expire(struct timer *timer, int64_t now_ns)
{
	dial_fail(container_of(timer, struct splice_flow, deadline), -ETIMEDOUT);
}

/* The guest's own word is passed on; where there is none, another way may lead there. */
static void dial_failed(struct splice_flow *flow)
{
	struct splice *splice = flow->splice;
	int error = flow->dial_error, fd;

	if (!flow->fall_back || error == -ECONNREFUSED || error == -ECONNRESET) {
		flow->usage->n_refused++;
		count(splice->config.counters, COUNTER_SPLICE_REFUSED);
		flow_reset(flow);
		return;
	}
	count(splice->config.counters, COUNTER_SPLICE_FELL_BACK);
	fd = fd_take(&flow->far.fd);
	loop_unwatch(splice->config.loop, fd);
	flow_close(flow);
	flow->fall_back(flow->owner, flow->cookie, fd, error);
}

static void opened(struct splice_flow *flow)
{
	flow->state = SPLICE_OPEN;
	timer_cancel(&flow->splice->config.loop->timers, &flow->deadline);
	flow->usage->n_opened++;
	flow->usage->n_active++;
	count(flow->splice->config.counters, COUNTER_SPLICE_OPENED);
}

static int dial(struct splice_flow *flow)
{
	int r;

	set_options(flow->near.fd);
	flow->state = SPLICE_DIALING;
	r = flow->is_unix ? 0 : dial_tcp(flow);
	return r < 0 ? r : watch(flow, &flow->near);
}

/* socket_made_fn */
static void take_socket(void *owner, uint64_t cookie, int fd)
{
	struct splice *splice = owner;
	struct splice_flow *flow = find(splice, handle_unpack(cookie));
	int r = fd;

	if (!flow) {
		fd_close(&fd);
		return;
	}
	if (fd >= 0) {
		flow->near.fd = fd;
		flow->dial_error = 0;
		timer_arm(&splice->config.loop->timers, &flow->deadline,
			splice->config.loop->now_ns + SPLICE_DIAL_NS);
		r = dial(flow);
	}
	if (r < 0)
		dial_fail(flow, r);
}

static void ask_socket(struct splice_flow *flow, const char *path)
{
	struct splice *splice = flow->splice;
	struct socket_source *source = splice->config.sockets;
	const uint64_t cookie = handle_pack(handle_of(flow, &flow->near));

	if (path)
		source->connect_unix(source, path, take_socket, splice, cookie);
	else
		source->make(source, flow->guest.family, SOCK_STREAM, take_socket, splice, cookie);
}

static void flow_init(
	struct splice_flow *flow, struct splice *splice, const struct splice_dial *dial)
{
	flow->splice = splice;
	flow->usage = usage_ref(dial->usage);
	flow->guest = dial->guest;
	flow->guest_port = dial->guest_port;
	flow->is_unix = dial->guest_path;
	flow->fall_back = dial->guest_path ? NULL : dial->fall_back;
	flow->owner = dial->owner;
	flow->cookie = dial->cookie;
	flow->deadline.fire = dial_expire;
	flow->near.fd = -1;
	flow->far = (struct end){.fd = dial->fd, .writable = true};
	flow->in = (struct way){
		.from = &flow->far,
		.to = &flow->near,
		.side = BUFFER_DOWN,
		.n_bytes = &flow->usage->n_in_bytes,
	};
	flow->out = (struct way){
		.from = &flow->near,
		.to = &flow->far,
		.side = BUFFER_UP,
		.n_bytes = &flow->usage->n_out_bytes,
	};
}

/* No flow is found by its key. */
static struct splice_flow *flow_new(struct splice *splice)
{
	struct flow_key key = {.family = AF_UNSPEC};

	splice->n_opened++;
	memcpy(&key.near, &splice->n_opened, sizeof(splice->n_opened));
	return of(flow_table_add(&splice->table, &key));
}

int splice_open(struct splice *splice, const struct splice_dial *dial)
{
	struct splice_flow *flow = flow_new(splice);
	int r;

	if (!flow)
		return splice->table.n_flows < splice->table.max_flows ? -ENOMEM : -EMFILE;
	flow_init(flow, splice, dial);
	r = watch(flow, &flow->far);
	if (r < 0) {
		flow->far.fd = -1;
		flow_remove(flow);
		return r;
	}
	set_options(flow->far.fd);
	timer_arm(&splice->config.loop->timers, &flow->deadline,
		splice->config.loop->now_ns + SPLICE_DIAL_NS);
	ask_socket(flow, dial->guest_path);
	return 0;
}

/* ---- events ---- */

static void dial_event(struct splice_flow *flow, uint32_t events)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (events & (EPOLLERR | EPOLLHUP) && !flow->is_unix) {
		getsockopt(flow->near.fd, SOL_SOCKET, SO_ERROR, &error, &len);
		dial_fail(flow, error ? -error : -ECONNRESET);
	} else if (flow->near.writable) {
		opened(flow);
	}
}

void splice_ready(struct splice *splice, struct handle handle, uint32_t events)
{
	struct splice_flow *flow = find(splice, handle);
	struct end *end;

	if (!flow)
		return;
	end = handle.kind == HANDLE_SPLICE_NEAR ? &flow->near : &flow->far;
	end->readable |= !!(events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR));
	end->ending |= !!(events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR));
	end->writable |= !!(events & EPOLLOUT);
	end->failed |= !!(events & EPOLLERR);
	if (flow->state == SPLICE_DIALING && end == &flow->near)
		dial_event(flow, events);
	set_active(flow);
}

/* After an error nothing more goes to that socket; what it had received still goes to the other,
 * as far as it is taken at once. */
static void open_run(struct splice *splice, struct splice_flow *flow)
{
	bool more = way_run(splice, &flow->in);

	more |= way_run(splice, &flow->out);
	if (flow->in.closed && flow->out.closed)
		flow_close(flow);
	else if (more)
		set_active(flow);
	else if (flow->near.failed || flow->far.failed)
		flow_reset(flow);
}

/* After a stall the time may be over while the news that it stands is still in epoll's queue,
 * behind those of others. */
static bool stands_after_all(const struct splice_flow *flow)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	return flow->state == SPLICE_DIALING && flow->dial_error == -ETIMEDOUT &&
		getpeername(flow->near.fd, (struct sockaddr *)&peer, &len) == 0;
}

static void flow_run(struct splice *splice, struct splice_flow *flow)
{
	if (stands_after_all(flow)) {
		flow->near.writable = true;
		opened(flow);
	}
	if (flow->state == SPLICE_OPEN)
		open_run(splice, flow);
	else if (flow->far.failed)
		flow_reset(flow);
	else if (flow->dial_error)
		dial_failed(flow);
}

/* ---- housekeeping ---- */

static void watch_over(struct splice *splice)
{
	struct loop *loop = splice->config.loop;

	if (timer_is_armed(&splice->tick))
		return;
	if (splice->pipes.n_pipes || buffer_pool_has_idle(&splice->memory))
		timer_arm(&loop->timers, &splice->tick, loop->now_ns + TICK_NS);
}

static void tick(struct timer *timer, int64_t now_ns)
{
	struct splice *splice = container_of(timer, struct splice, tick);
	struct pipe *pipe;

	while ((pipe = pipe_stuck_before(&splice->pipes, now_ns - TICK_NS)))
		if (!way_drain(splice, pipe->holder))
			break;
	pipe_pool_trim(&splice->pipes, now_ns);
	buffer_pool_trim(&splice->memory);
	watch_over(splice);
}

bool splice_finish(struct splice *splice)
{
	struct list turn, *node;

	list_init(&turn);
	list_move(&turn, &splice->active);
	splice->share = MAX(TURN_BYTES / MAX(splice->n_active, 1), SHARE_LEAST);
	splice->n_active = 0;
	while ((node = list_take(&turn)))
		flow_run(splice, container_of(node, struct splice_flow, active));
	flow_table_sweep(&splice->table);
	watch_over(splice);
	return !list_is_empty(&splice->active);
}

/* ---- all of them ---- */

static struct splice_flow *first(const struct splice *splice)
{
	return of(flow_table_any(&splice->table));
}

static struct splice_flow *after(const struct splice *splice, const struct splice_flow *flow)
{
	return of(flow_table_after(&splice->table, &flow->flow));
}

void splice_reset_all(struct splice *splice, const struct usage *usage)
{
	struct splice_flow *flow, *next;

	for (flow = first(splice); flow; flow = next) {
		next = after(splice, flow);
		if (flow->usage == usage)
			flow_reset(flow);
	}
}

void splice_forget(struct splice *splice, const void *owner)
{
	for (struct splice_flow *flow = first(splice); flow; flow = after(splice, flow))
		if (flow->owner == owner)
			flow->fall_back = NULL;
}

/* What the kernel acknowledged to the sender counts, too. */
static bool way_has_unsent(const struct way *way)
{
	return way_has_bytes(way) || (way->from->readable && !way->ended);
}

static bool flow_has_unsent(const struct splice_flow *flow)
{
	return flow->state == SPLICE_OPEN &&
		(way_has_unsent(&flow->in) || way_has_unsent(&flow->out));
}

bool splice_has_unsent(const struct splice *splice)
{
	for (struct splice_flow *flow = first(splice); flow; flow = after(splice, flow))
		if (flow_has_unsent(flow))
			return true;
	return false;
}

/* A client who was not let in yet has no connection that could have ended. */
static void leave(struct splice_flow *flow)
{
	if (flow->state == SPLICE_OPEN)
		flow_close(flow);
	else
		flow_reset(flow);
}

void splice_stop(struct splice *splice)
{
	struct splice_flow *flow, *next;

	for (flow = first(splice); flow; flow = next) {
		next = after(splice, flow);
		if (!flow_has_unsent(flow))
			leave(flow);
	}
}

struct splice *splice_new(const struct splice_config *config)
{
	struct splice *splice = calloc(1, sizeof(*splice));

	if (!splice)
		return NULL;
	splice->config = *config;
	splice->tick.fire = tick;
	list_init(&splice->active);
	pipe_pool_init(&splice->pipes, config->max_pipes, config->pipe_size, config->max_fd);
	if (flow_table_init(
		    &splice->table, sizeof(struct splice_flow), config->max_flows, config->key) < 0)
		goto fail_table;
	if (buffer_pool_init(&splice->memory, MAX(config->memory, BUFFER_POOL_MIN)) < 0)
		goto fail_memory;
	return splice;

fail_memory:
	flow_table_done(&splice->table);
fail_table:
	free(splice);
	return NULL;
}

void splice_free(struct splice *splice)
{
	struct splice_flow *flow;

	if (!splice)
		return;
	while ((flow = first(splice)))
		leave(flow);
	timer_cancel(&splice->config.loop->timers, &splice->tick);
	pipe_pool_done(&splice->pipes);
	buffer_pool_done(&splice->memory);
	flow_table_done(&splice->table);
	free(splice);
}
