/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fake host: what its calls give, the script has said before; what they were asked is logged.
 * Calls that no one may make on such a socket fail the script.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "dgram.h"

/* So that a descriptor is no index by accident. */
#define FD_BASE 1000

void world_log(struct world *world, struct outcomes *log, const struct outcome *outcome)
{
	struct outcome *copy = malloc(sizeof(*copy));
	char text[128];

	if (!copy)
		world_fail(world, "no memory");
	*copy = *outcome;
	copy->next = NULL;
	copy->at_ns = world->loop.now_ns;
	if (!log->tail)
		log->tail = &log->head;
	*log->tail = copy;
	log->tail = &copy->next;
	if (!world->is_verbose)
		return;
	outcome_describe(copy, text, sizeof(text));
	printf("# %.6f > %s\n", (double)(copy->at_ns - world->begin_ns) / 1e9, text);
}

struct outcome *outcomes_take(struct outcomes *log)
{
	struct outcome *first = log->head;

	log->head = first->next;
	if (!log->head)
		log->tail = &log->head;
	return first;
}

static struct socket *socket_of(struct host *host, int fd, bool must_be_dialled)
{
	struct world *world = container_of(host, struct world, host);
	int index = fd - FD_BASE;

	if (index < 0 || index >= world->n_sockets || !world->sockets[index].is_open)
		world_fail(world, "a call on descriptor %d, which is not open", fd);
	if (must_be_dialled && !world->sockets[index].is_dialled)
		world_fail(world, "a call on a socket that is still dialling");
	return &world->sockets[index];
}

static void log_call(struct host *host, struct socket *s, enum outcome_kind kind, size_t len)
{
	struct world *world = container_of(host, struct world, host);
	const struct outcome out = {.kind = kind, .len = (uint32_t)len};

	if (!s->is_quiet || kind == OUT_CLOSE || kind == OUT_RESET)
		world_log(world, &s->conversation->to_far, &out);
}

static struct socket *add_socket(struct world *world, struct conversation *c)
{
	if (world->n_sockets == SOCKETS_MAX)
		world_fail(world, "too many sockets for one script");
	c->socket = &world->sockets[world->n_sockets++];
	*c->socket = (struct socket){.is_open = true, .conversation = c, .room = ROOM_ALL};
	return c->socket;
}

static int fd_of(const struct world *world, const struct socket *s)
{
	return FD_BASE + (int)(s - world->sockets);
}

int world_accept(struct world *world, struct conversation *c)
{
	struct socket *s = add_socket(world, c);

	s->is_connected = s->is_dialled = true;
	return fd_of(world, s);
}

/* The port with which the client is shown is the relay's choice. */
static int fake_adopt(struct host *host, int fd, struct handle handle)
{
	struct world *world = container_of(host, struct world, host);
	struct socket *s = socket_of(host, fd, true);
	const struct flow *flow =
		flow_table_get(&world->tcpflow.table, handle.index, handle.generation);
	int error = world->adopt_error;

	if (!flow || handle.kind != HANDLE_TCP)
		world_fail(world, "adopts for nobody");
	world->adopt_error = 0;
	if (error)
		return -error;
	s->conversation->far_port = flow->key.far_port;
	s->handle = handle;
	return 0;
}

static int fake_dial(struct host *host, const struct host_dial *dial, struct handle handle)
{
	struct world *world = container_of(host, struct world, host);
	struct conversation *c = world_find(world, handle);
	const struct outcome out = {.kind = OUT_DIAL, .addr = dial->addr, .port = dial->port};
	int error = world->dial_error;

	world_log(world, &c->to_far, &out);
	world->dial_error = 0;
	if (error)
		return -error;
	add_socket(world, c)->handle = handle;
	c->socket->is_connected = world->dials_at_once;
	world->dials_at_once = false;
	return fd_of(world, c->socket);
}

static void fake_dial_result(struct host *host, int fd, struct host_error *ret)
{
	struct socket *s = socket_of(host, fd, false);

	*ret = s->dial_error;
	if (s->is_dialled)
		*ret = (struct host_error){.error = s->error};
}

static void fake_dialled(struct host *host, int fd, const struct ip_addr *addr)
{
	struct socket *s = socket_of(host, fd, false);

	if (s->is_dialled)
		world_fail(container_of(host, struct world, host), "dialled twice");
	s->is_dialled = true;
}

/* As Linux: what had come comes first, then the end, and only then an error. */
static ssize_t fake_recv(struct host *host, int fd, const struct iovec *iov, int n_iov)
{
	struct socket *s = socket_of(host, fd, true);
	size_t len = iov_len(iov, n_iov), n = (size_t)MIN((uint64_t)len, s->n_there - s->n_given);

	if (!len)
		world_fail(container_of(host, struct world, host), "nothing is to be received");
	for (size_t left = n; left; iov++) {
		uint8_t *at = iov->iov_base;
		size_t piece = MIN(left, iov->iov_len);

		for (size_t i = 0; i < piece; i++)
			at[i] = stream_byte(s->conversation, false, s->n_given++);
		left -= piece;
	}
	if (n)
		return (ssize_t)n;
	if (s->is_eof)
		return 0;
	return s->error ? -s->error : -EAGAIN;
}

static void check_bytes(struct host *host, struct socket *s, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (data[i] != stream_byte(s->conversation, true, s->n_sent + i))
			world_fail(container_of(host, struct world, host),
				"wrong bytes for the host at %llu",
				(unsigned long long)(s->n_sent + i));
	s->n_sent += len;
}

/* One outcome for all that is sent in a turn, since into how many calls it is cut is nobody's
 * business. */
static void log_sent(struct host *host, struct socket *s, size_t len)
{
	struct outcomes *log = &s->conversation->to_far;
	struct world *world = container_of(host, struct world, host);
	struct outcome *last = log->head ? container_of(log->tail, struct outcome, next) : NULL;

	if (last && last->kind == OUT_SEND && last->at_ns == world->loop.now_ns)
		last->len += (uint32_t)len;
	else
		log_call(host, s, OUT_SEND, len);
}

static ssize_t fake_send(struct host *host, int fd, const struct iovec *iov, int n_iov)
{
	struct socket *s = socket_of(host, fd, true);
	size_t n = 0;

	if (s->is_shut)
		world_fail(container_of(host, struct world, host), "bytes behind the end");
	if (s->error || s->send_error)
		return s->error ? -s->error : -s->send_error;
	for (int i = 0; i < n_iov && s->room; i++) {
		size_t take = (size_t)MIN((int64_t)iov[i].iov_len, s->room);

		check_bytes(host, s, iov[i].iov_base, take);
		n += take;
		if (s->room != ROOM_ALL)
			s->room -= (int64_t)take;
	}
	if (n)
		log_sent(host, s, n);
	return n ? (ssize_t)n : -EAGAIN;
}

static void fake_shutdown(struct host *host, int fd)
{
	struct socket *s = socket_of(host, fd, true);

	if (s->is_shut)
		world_fail(container_of(host, struct world, host), "shut down twice");
	s->is_shut = true;
	log_call(host, s, OUT_SHUTDOWN, 0);
}

static void fake_close(struct host *host, int fd)
{
	struct socket *s = socket_of(host, fd, false);

	s->is_open = false;
	log_call(host, s, OUT_CLOSE, 0);
}

static void fake_reset(struct host *host, int fd)
{
	struct socket *s = socket_of(host, fd, false);

	s->is_open = false;
	log_call(host, s, OUT_RESET, 0);
}

static void fake_keepalive(struct host *host, int fd, unsigned int idle_s)
{
	log_call(host, socket_of(host, fd, true), OUT_KEEPALIVE, idle_s);
}

/* Those that have failed come last, for ever. */
static int fake_nameservers(
	struct host *host, struct host_nameserver ret[HOST_NAMESERVERS_MAX], int64_t now_ns)
{
	struct world *world = container_of(host, struct world, host);
	int n = 0;

	for (int shunned = 0; shunned < 2; shunned++)
		for (int i = 0; i < world->n_nameservers; i++)
			if (world->is_shunned[i] == shunned)
				ret[n++] = world->nameservers[i];
	return n ? n : -EAGAIN;
}

static void fake_nameserver_said(
	struct host *host, const struct ip_addr *addr, bool answered, int64_t now_ns)
{
	struct world *world = container_of(host, struct world, host);

	for (int i = 0; i < world->n_nameservers; i++)
		if (IN6_ARE_ADDR_EQUAL(&world->nameservers[i].addr.in6, &addr->in6))
			world->is_shunned[i] = !answered;
}

static bool fake_is_connected(struct host *host, int fd)
{
	return socket_of(host, fd, false)->is_connected;
}

/* Its peer's kernel has taken all. */
static bool fake_has_unacknowledged(struct host *host, int fd)
{
	return false;
}

const struct host_ops world_host_ops = {
	.tcp_adopt = fake_adopt,
	.tcp_dial = fake_dial,
	.tcp_dial_result = fake_dial_result,
	.tcp_dialled = fake_dialled,
	.tcp_recv = fake_recv,
	.tcp_send = fake_send,
	.tcp_shutdown = fake_shutdown,
	.tcp_close = fake_close,
	.tcp_reset = fake_reset,
	.tcp_keepalive = fake_keepalive,
	.tcp_has_unacknowledged = fake_has_unacknowledged,
	.nameservers = fake_nameservers,
	.nameserver_said = fake_nameserver_said,
	.is_connected = fake_is_connected,
	.change = dgram_host_change,
	.dgram_open = dgram_host_open,
	.dgram_adopt = dgram_host_adopt,
	.dgram_close = dgram_host_close,
	.dgram_send = dgram_host_send,
	.dgram_recv = dgram_host_recv,
	.dgram_error = dgram_host_error,
};
