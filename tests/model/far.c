/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's kernel and the peer behind it: sockets with bounded buffers and edge-triggered events,
 * as Linux gives them. An edge is noted where the kernel wakes its waiters; what it says is looked
 * up when it is told.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "tests/model/world.h"

static struct world *world_of(struct host *host)
{
	return container_of(host, struct world, host);
}

static struct far *far_of(struct host *host, int fd)
{
	struct world *world = world_of(host);

	MUST(world, fd >= 0 && fd < FARS_MAX && world->fds[fd]);
	return world->fds[fd];
}

static void wake(struct far *far)
{
	far->wakes = far->fd >= 0;
}

void far_stop(struct far *far)
{
	timer_cancel(&far->world->timers, &far->dial);
	timer_cancel(&far->world->timers, &far->program);
}

void far_kick(struct far *far)
{
	struct world *world = far->world;
	int64_t due_ns =
		now_ns(world) + 1 + (int64_t)rng_below(&world->rng, (uint64_t)far->pace_ns);

	if (!timer_is_armed(&far->program) && far->state == FAR_UP)
		timer_arm(&world->timers, &far->program, due_ns);
}

bool far_is_over(const struct far *far)
{
	return far->fd < 0 && !timer_is_armed(&far->dial) &&
		(far->state != FAR_UP || far->was_reset || far->out_read == far->out_taken);
}

/* ---- what happens to the connection ---- */

static void fail(struct far *far, int error)
{
	world_say(far->world, "far %u: fails with %d", far->id, error);
	far->state = FAR_FAILED;
	far->failed_ns = now_ns(far->world);
	/* Its peer had said its last word before (tcp_reset() of Linux in CLOSE_WAIT). */
	far->error = far->in_ended && error == ECONNRESET ? EPIPE : error;
	wake(far);
	far_stop(far);
}

static void fire_dial(struct timer *timer, int64_t now)
{
	struct far *far = container_of(timer, struct far, dial);

	if (far->dial_error) {
		far->state = FAR_FAILED;
		far->failed_ns = now;
		far->error = far->dial_error;
	} else {
		world_say(far->world, "far %u: up", far->id);
		far->state = FAR_UP;
		far->was_up = true;
		far_kick(far);
	}
	wake(far);
}

/* ---- the peer's program ---- */

static bool step_write(struct far *far)
{
	struct rng *rng = &far->world->rng;
	uint32_t held = far->in_arrived - far->in_taken;
	uint32_t n = MIN(far->in_total - far->in_arrived, far->rcvbuf - MIN(held, far->rcvbuf));

	if (far->in_ended || far->fd < 0)
		return false;
	if (n) {
		far->in_arrived += rng_chance(rng, 3000) ? n : 1 + (uint32_t)rng_below(rng, n);
		wake(far);
		return true;
	}
	if (far->in_arrived < far->in_total)
		return false;
	far->in_ended = true;
	wake(far);
	return true;
}

static bool step_read(struct far *far)
{
	struct rng *rng = &far->world->rng;
	uint32_t held = far->out_taken - far->out_read, room;

	if (!held || (far->reads_when_sent && far->in_taken < far->in_total && far->fd >= 0))
		return false;
	far->out_read += rng_chance(rng, 5000) ? held : 1 + (uint32_t)rng_below(rng, held);
	room = far->sndbuf - (far->out_taken - far->out_read);
	/* sk_stream_write_space(): a third is free */
	if (far->wants_room && room >= far->sndbuf / 3) {
		far->wants_room = false;
		wake(far);
	}
	/* It reads no more, and its kernel says so to what still comes. */
	if (far->is_deaf && far->in_ended) {
		fail(far, ECONNRESET);
		return false;
	}
	return true;
}

static void fire_program(struct timer *timer, int64_t now)
{
	struct far *far = container_of(timer, struct far, program);
	struct rng *rng = &far->world->rng;
	bool did;

	if (far->state != FAR_UP)
		return;
	if (far->fail_ns <= now && far->fd >= 0) {
		fail(far, far->fail_error);
		return;
	}
	if (rng_chance(rng, 100) && !far->world->is_calm) {
		timer_arm(&far->world->timers, timer,
			now + (int64_t)rng_scale(rng, NS_PER_MS, 60 * NS_PER_SEC));
		return;
	}
	if (rng_chance(rng, 100))
		wake(far);
	did = step_write(far);
	did |= step_read(far);
	if (did)
		far_kick(far);
	else if (far->fail_ns != CLOCK_NEVER && far->state == FAR_UP && far->fd >= 0)
		timer_arm(&far->world->timers, timer, far->fail_ns);
}

/* ---- epoll ---- */

static uint32_t events_of(const struct far *far)
{
	uint32_t events = 0;

	if (far->state == FAR_DIALING)
		return 0;
	if (far->state == FAR_FAILED)
		return EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | (far->error ? EPOLLERR : 0);
	if (far->in_arrived > far->in_taken || far->in_ended)
		events |= EPOLLIN;
	if (far->in_ended)
		events |= EPOLLRDHUP;
	if (far->in_ended && far->out_ended)
		events |= EPOLLHUP;
	if (!far->wants_room)
		events |= EPOLLOUT;
	return events;
}

bool far_dispatch(struct world *world)
{
	bool any = false;

	for (int fd = 0; fd < FARS_MAX; fd++) {
		struct far *far = world->fds[fd];
		uint32_t events;

		if (!far || !far->wakes)
			continue;
		far->wakes = false;
		events = events_of(far);
		if (!events)
			continue;
		world_say(world, "far %u: event 0x%x", far->id, events);
		tcpflow_host_ready(&world->tcpflow, far->handle, events);
		any = true;
	}
	return any;
}

/* ---- dialling ---- */

/* Among them what says nothing about the peer. */
static void choose_outcome(struct far *far)
{
	static const int errors[] = {ECONNREFUSED, ECONNREFUSED, ENETUNREACH, EHOSTUNREACH,
		ETIMEDOUT, EACCES, ECONNRESET};
	struct rng *rng = &far->world->rng;
	bool is4 = far->near->slot->family == AF_INET;

	if (!rng_chance(rng, 800))
		return;
	far->dial_error = errors[rng_below(rng, ARRAY_SIZE(errors))];
	if (far->dial_error == EHOSTUNREACH && rng_chance(rng, 5000))
		far->dial_outcome = (struct host_error){
			.icmp_family = is4 ? AF_INET : AF_INET6,
			.icmp_type = is4 ? 3 : 1,
			.icmp_code = is4 ? 13 : 1,
		};
	far->dial_outcome.error = far->dial_error;
}

static void choose_kind(struct far *far)
{
	const struct near *near = far->near;
	struct rng *rng = &far->world->rng;
	uint32_t piece = near->mss_option >= 0 ? (uint32_t)near->mss_option : 536;
	uint64_t max = (uint64_t)MIN(piece, near->rcvbuf) * 700;

	far->in_total = rng_chance(rng, 1000) ? 0 : (uint32_t)rng_scale(rng, 1, MIN(max, 2000000));
	if (far->world->is_hungry)
		far->in_total = 200000 + (uint32_t)rng_below(rng, 100000);
	/* Not in more than some thousand portions. */
	far->rcvbuf = (uint32_t)rng_scale(rng, 100 + far->in_total / 2000, 2000000);
	far->sndbuf = (uint32_t)rng_scale(rng, 100 + near->total / 2000, 2000000);
	far->pace_ns = (int64_t)rng_scale(rng, 1000, 300 * NS_PER_MS);
	if (far->world->is_bulky) {
		far->in_total = 500000 + (uint32_t)rng_below(rng, 1500000);
		far->rcvbuf = 2000000;
		far->pace_ns = 1000;
	}
	far->is_deaf = rng_chance(rng, 200);
	far->reads_when_sent = far->world->far_waits && rng_chance(rng, 5000);
	far->fail_ns = CLOCK_NEVER;
	if (!rng_chance(rng, 700))
		return;
	far->fail_ns = now_ns(far->world) + (int64_t)rng_scale(rng, NS_PER_MS, 120 * NS_PER_SEC);
	far->fail_error = rng_chance(rng, 7000) ? ECONNRESET : ETIMEDOUT;
}

static struct far *far_new(struct world *world)
{
	struct far *far = calloc(1, sizeof(*far));

	MUST(world, far);
	far->world = world;
	far->fd = -1;
	far->near = world->dialler;
	far->id = ++world->n_ids;
	far->next = world->fars;
	world->fars = far;
	far->dial.fire = fire_dial;
	far->program.fire = fire_program;
	return far;
}

static void take_fd(struct far *far)
{
	struct world *world = far->world;

	for (far->fd = 0; world->fds[far->fd];)
		MUST(world, ++far->fd < FARS_MAX);
	world->fds[far->fd] = far;
	world->n_open++;
}

static bool is_far_addr(const struct slot *slot, const struct ip_addr *addr)
{
	struct in_addr in = ip_addr_v4(addr);

	if (addr->family != slot->family)
		return false;
	if (slot->family == AF_INET)
		return slot->to_loopback ? ntohl(in.s_addr) == INADDR_LOOPBACK
					 : !memcmp(&in, slot->far_addr, 4);
	return slot->to_loopback ? IN6_IS_ADDR_LOOPBACK(&addr->in6)
				 : !memcmp(&addr->in6, slot->far_addr, 16);
}

static int host_dial(struct host *host, const struct host_dial *dial, struct handle handle)
{
	static const int errors[] = {-EMFILE, -ENETUNREACH, -EADDRNOTAVAIL, -ENOMEM};
	struct world *world = world_of(host);
	struct far *far;

	MUST(world, world->dialler);
	MUST(world, dial->port == world->dialler->slot->far_port);
	MUST(world, is_far_addr(world->dialler->slot, &dial->addr));
	far = far_new(world);
	world->dialler->slot->far = far;
	choose_outcome(far);
	choose_kind(far);
	world->n_effects++;
	if (rng_chance(&world->rng, 200)) {
		far->state = FAR_FAILED;
		far->dial_error = -errors[rng_below(&world->rng, ARRAY_SIZE(errors))];
		return -far->dial_error;
	}
	take_fd(far);
	far->handle = handle;
	world_say(world, "far %u: dialled for near %u, %u bytes, error %d", far->id, far->near->id,
		far->in_total, far->dial_error);
	timer_arm(&world->timers, &far->dial,
		now_ns(world) +
			(rng_chance(&world->rng, 3000)
					? 0
					: (int64_t)rng_scale(&world->rng, 1000, 5 * NS_PER_SEC)));
	return far->fd;
}

static void host_dial_result(struct host *host, int fd, struct host_error *ret)
{
	struct far *far = far_of(host, fd);

	MUST(far->world, far->state != FAR_DIALING);
	*ret = (struct host_error){0};
	if (far->state != FAR_FAILED)
		return;
	*ret = far->dial_outcome;
	ret->error = far->error;
	far->dial_error = far->error;
	far->error = 0;
}

static void host_dialled(struct host *host, int fd, const struct ip_addr *addr)
{
	struct far *far = far_of(host, fd);

	MUST(far->world, far->was_up && is_far_addr(far->near->slot, addr));
}

static void release(struct far *far)
{
	struct world *world = far->world;

	world->fds[far->fd] = NULL;
	world->n_open--;
	world->n_effects++;
	far->fd = -1;
	far->wakes = false;
	if (far->state == FAR_DIALING)
		far_stop(far);
}

/* The relay shows the client with the port that it likes. */
static int host_adopt(struct host *host, int fd, struct handle handle)
{
	struct far *far = far_of(host, fd);
	struct world *world = far->world;
	const struct flow *flow =
		flow_table_get(&world->tcpflow.table, handle.index, handle.generation);

	MUST(world, flow && flow->key.near_port == far->near->slot->near_port);
	if (rng_chance(&world->rng, 200))
		return -EMFILE;
	far->handle = handle;
	far->near->slot->far_port = flow->key.far_port;
	wake(far);
	return 0;
}

static struct ip_addr addr_of(const struct slot *slot, const uint8_t *bytes)
{
	struct in6_addr v6;
	struct in_addr v4;

	memcpy(&v4, bytes, sizeof(v4));
	memcpy(&v6, bytes, sizeof(v6));
	return slot->family == AF_INET ? ip_addr_of_v4(v4) : ip_addr_of_v6(&v6);
}

void far_arrive(struct near *near)
{
	struct world *world = near->world;
	struct slot *slot = near->slot;
	struct tcp_arrival arrival = {
		.near = addr_of(slot, slot->near_addr),
		.near_port = slot->near_port,
		.far = addr_of(slot, slot->far_addr),
		.far_port = slot->far_port,
		.usage = world->usage,
	};
	struct far *far;

	world->dialler = near;
	far = far_new(world);
	choose_kind(far);
	near->far = slot->far = far;
	far->state = FAR_UP;
	far->was_up = true;
	take_fd(far);
	arrival.fd = far->fd;
	world_say(world, "far %u: arrives for near %u, %u bytes", far->id, near->id, far->in_total);
	far_kick(far);
	if (tcpflow_arrive(&world->tcpflow, &arrival) == 0)
		return;
	far->was_reset = true;
	release(far);
	far_stop(far);
}

/* ---- reading and writing ---- */

/* An error is told once. */
static int take_error(struct far *far, int otherwise)
{
	int error = far->error ? far->error : otherwise;

	far->error = 0;
	return -error;
}

static ssize_t host_recv(struct host *host, int fd, const struct iovec *iov, int n_iov)
{
	struct far *far = far_of(host, fd);
	size_t len = iov_len(iov, n_iov);
	uint32_t n = (uint32_t)MIN(far->in_arrived - far->in_taken, len);

	MUST(far->world, far->state != FAR_DIALING && len);
	if (!n && far->state == FAR_FAILED && !far->in_ended) {
		/* Errors first, then the end that every dead connection has. */
		far->world->n_effects++;
		return far->error ? take_error(far, 0) : 0;
	}
	if (!n && !far->in_ended)
		return -EAGAIN;
	for (size_t left = n; left; iov++) {
		size_t piece = MIN(left, iov->iov_len);

		stream_fill(far->id, far->in_taken, iov->iov_base, piece);
		far->in_taken += piece;
		left -= piece;
	}
	far->eof_given |= !n;
	far->world->n_effects++;
	far_kick(far);
	return n;
}

static ssize_t host_send(struct host *host, int fd, const struct iovec *iov, int n_iov)
{
	struct far *far = far_of(host, fd);
	struct world *world = far->world;
	uint32_t room = far->sndbuf - (far->out_taken - far->out_read), taken = 0;
	size_t len = iov_len(iov, n_iov);

	MUST(world, far->state != FAR_DIALING && n_iov > 0 && !far->out_ended);
	if (far->state == FAR_FAILED) {
		world->n_effects++;
		return take_error(far, EPIPE);
	}
	MUST(world, len);
	if (far->wants_room)
		room = 0;
	for (int i = 0; i < n_iov && taken < room; i++) {
		uint32_t n = (uint32_t)MIN(iov[i].iov_len, room - taken);

		/* What is taken here was sent by the container, in its order. */
		MUST(world, far->near->total - far->out_taken >= n);
		MUST(world, stream_is(far->near->id, far->out_taken, iov[i].iov_base, n));
		far->out_taken += n;
		taken += n;
	}
	if (taken < len)
		far->wants_room = true;
	world->n_effects += taken ? 1 : 0;
	far_kick(far);
	return taken ? (ssize_t)taken : -EAGAIN;
}

/* ---- the end ---- */

/* The peer is told that this was all. */
static void check_whole(struct far *far)
{
	if (!far->world->link_is_gone)
		MUST(far->world, far->out_taken == far->near->total && far->near->fin_queued);
}

static void host_shutdown(struct host *host, int fd)
{
	struct far *far = far_of(host, fd);

	MUST(far->world, far->was_up && !far->out_ended);
	far->out_ended = true;
	far->world->n_effects++;
	if (far->state != FAR_UP)
		return;
	check_whole(far);
	wake(far);
	far_kick(far);
}

static void host_close(struct host *host, int fd)
{
	struct far *far = far_of(host, fd);

	world_say(far->world, "far %u: closed", far->id);
	if (far->state == FAR_UP && !far->world->is_ending) {
		check_whole(far);
		/* Else the kernel resets it, and what is in its queue is lost. */
		MUST(far->world, far->in_arrived == far->in_taken || far->world->link_is_gone);
	}
	/* A reset is passed on, unless both had said all. */
	if (far->state == FAR_FAILED && far->has_iss && far->fail_error != ETIMEDOUT &&
		!far->world->is_ending && !(far->eof_given && far->near->fin_queued))
		MUST(far->world, far->has_reset_near);
	far->was_closed = true;
	release(far);
	far_kick(far);
}

static void host_reset(struct host *host, int fd)
{
	struct far *far = far_of(host, fd);

	world_say(far->world, "far %u: reset", far->id);
	far->was_reset = true;
	release(far);
	far_stop(far);
}

static void host_keepalive(struct host *host, int fd, unsigned int idle_s)
{
	struct far *far = far_of(host, fd);

	MUST(far->world, idle_s && idle_s < 32768); /* as Linux bounds it */
}

static int host_nameservers(
	struct host *host, struct host_nameserver ret[HOST_NAMESERVERS_MAX], int64_t now_ns)
{
	ret[0] = (struct host_nameserver){
		.addr = ip_addr_of_v4((struct in_addr){htonl(INADDR_LOOPBACK)})};
	return 1;
}

static void host_nameserver_said(
	struct host *host, const struct ip_addr *addr, bool answered, int64_t now_ns)
{
}

static bool host_is_connected(struct host *host, int fd)
{
	return far_of(host, fd)->state == FAR_UP;
}

/* Its peer's kernel has taken all. */
static bool host_has_unacknowledged(struct host *host, int fd)
{
	return false;
}

const struct host_ops world_host_ops = {
	.tcp_adopt = host_adopt,
	.tcp_dial = host_dial,
	.tcp_dial_result = host_dial_result,
	.tcp_dialled = host_dialled,
	.tcp_recv = host_recv,
	.tcp_send = host_send,
	.tcp_shutdown = host_shutdown,
	.tcp_close = host_close,
	.tcp_reset = host_reset,
	.tcp_keepalive = host_keepalive,
	.tcp_has_unacknowledged = host_has_unacknowledged,
	.nameservers = host_nameservers,
	.nameserver_said = host_nameserver_said,
	.is_connected = host_is_connected,
};
