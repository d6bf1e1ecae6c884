/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of a flow: dialling, and moving bytes between its socket and the two queues.
 */
#include "base/clock.h"
#include "base/util.h"
#include "tcpflow/internal.h"

#include <errno.h>
#include <sys/epoll.h>

/* Chunks that one recv(2) fills: with large frames, one of these. */
#define READ_CHUNKS_MAX (LINK_BIG_PAYLOAD / BUFFER_LARGE)
/* What one flow may take from the host in one turn, until the others had theirs. */
#define BUDGET (READ_CHUNKS_MAX * BUFFER_LARGE)
/* A message up to this size is copied, so that its large chunk is free for the next one. */
#define COPY_MAX BUFFER_SMALL
/* Reads of what nobody wants any more, of one flow in one turn. */
#define DISCARD_READS 64
/* Pieces of `up` that one call takes to the host. */
#define PIECES_MAX 8

int tcp_far_dial(struct tcp_flow *flow, const struct host_dial *dial)
{
	struct host *host = flow->owner->config.host;
	const struct handle handle = {
		.kind = HANDLE_TCP,
		.index = flow->flow.index,
		.generation = flow->flow.generation,
	};

	int fd = host->ops->tcp_dial(host, dial, handle);

	flow->far_addr = dial->addr;
	flow->fd = MAX(fd, -1);
	return MIN(fd, 0);
}

static void dialing_ready(struct tcp_flow *flow, uint32_t events)
{
	struct host *host = flow->owner->config.host;
	struct host_error error = {0};

	if (events & (EPOLLERR | EPOLLHUP))
		host->ops->tcp_dial_result(host, flow->fd, &error);
	else if (!(events & EPOLLOUT))
		return;
	/* One of this turn may still be about the nameserver that was dialled before. */
	if (flow->is_dns && !error.error && !host->ops->is_connected(host, flow->fd))
		return;
	flow->error = error;
	tcp_event(flow, error.error ? TCP_EVENT_DIAL_FAILED : TCP_EVENT_CONNECTED, NULL);
}

/* The host's stream has ended, and the container knows: no recv(2) will tell of a reset behind it.
 */
static bool is_behind_end(const struct tcp_flow *flow)
{
	return flow->far_eof && flow->state != TCP_ESTABLISHED && flow->state != TCP_CLOSE_WAIT;
}

/* Where nobody reads, a reset is asked for: also of a client, before the container was there.
 * Returns whether there was one. */
static bool failed_unread(struct tcp_flow *flow, uint32_t events)
{
	struct host *host = flow->owner->config.host;
	struct host_error error = {0};

	if (!(events & EPOLLERR) || !(tcp_flow_is_arriving(flow) || is_behind_end(flow)))
		return false;
	host->ops->tcp_dial_result(host, flow->fd, &error);
	if (!error.error)
		return false;
	flow->error = error;
	tcp_event(flow, TCP_EVENT_FAR_ERROR, NULL);
	return true;
}

void tcpflow_host_ready(struct tcpflow *tcpflow, struct handle handle, uint32_t events)
{
	struct flow *found = flow_table_get(&tcpflow->table, handle.index, handle.generation);
	struct tcp_flow *flow;

	if (!found)
		return;
	flow = container_of(found, struct tcp_flow, flow);
	if (flow->fd < 0)
		return;
	if (flow->state == TCP_DIALING)
		dialing_ready(flow, events);
	if (tcp_flow_is_over(flow) || flow->state == TCP_DIALING || failed_unread(flow, events))
		return;
	flow->far_writable |= !!(events & EPOLLOUT);
	/* At urgent data recv(2) stops, too. */
	flow->far_ending |= !!(events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR));
	if (!flow->far_eof)
		flow->far_readable |= !!(events & EPOLLIN) || flow->far_ending;
	tcp_event(flow, TCP_EVENT_FAR_READY, NULL);
}

/* ---- up ---- */

/* A call on the socket has failed for good; what that means, the machine knows. */
static void failed(struct tcp_flow *flow, ssize_t error)
{
	flow->error = (struct host_error){.error = (int)-error};
	tcp_event(flow, TCP_EVENT_FAR_ERROR, NULL);
}

static uint32_t send_pieces(struct tcp_flow *flow, const struct iovec *iov, int n_iov, size_t len)
{
	struct host *host = flow->owner->config.host;
	ssize_t n = host->ops->tcp_send(host, flow->fd, iov, n_iov);

	if (n < 0 && n != -EAGAIN) {
		failed(flow, n);
		return 0;
	}
	n = MAX(n, 0);
	if ((size_t)n < len)
		flow->far_writable = false;
	if (flow->usage)
		flow->usage->n_out_bytes += (size_t)n;
	return (uint32_t)n;
}

uint32_t tcp_far_send(struct tcp_flow *flow, const uint8_t *data, uint32_t len)
{
	const struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};

	return flow->far_writable ? send_pieces(flow, &iov, 1, len) : 0;
}

static void flush_up(struct tcp_flow *flow)
{
	struct iovec iov[PIECES_MAX];

	while (flow->up.len && flow->far_writable) {
		size_t len = flow->up.len;
		int n_iov = byte_queue_map(&flow->up, 0, &len, iov, PIECES_MAX);
		uint32_t n = send_pieces(flow, iov, n_iov, len);

		if (tcp_flow_is_over(flow) || flow->fd < 0)
			return;
		byte_queue_drop(&flow->up, &flow->owner->pool, n);
	}
}

/* The end of the container's stream follows its last byte. */
static void shut_when_flushed(struct tcp_flow *flow)
{
	struct host *host = flow->owner->config.host;

	if (!flow->near_eof || flow->up.len || flow->is_shut)
		return;
	flow->is_shut = true;
	host->ops->tcp_shutdown(host, flow->fd);
}

/* ---- down ---- */

/* Room for one recv(2). */
struct reading {
	struct chunk *chunks[READ_CHUNKS_MAX];
	struct iovec iov[READ_CHUNKS_MAX];
	int n;
	uint32_t room;
};

static void wait_for_memory(struct tcp_flow *flow)
{
	if (!list_is_linked(&flow->hungry))
		list_append(&flow->owner->hungry, &flow->hungry);
}

/* Up to `room` bytes, or what there is memory for. Returns whether there is some. */
static bool make_room(struct tcp_flow *flow, uint32_t room, struct reading *reading)
{
	reading->n = 0;
	reading->room = 0;
	while (reading->room < room && reading->n < READ_CHUNKS_MAX) {
		struct chunk *chunk = chunk_alloc(&flow->owner->pool, BUFFER_DOWN);
		uint32_t n;

		if (!chunk)
			break;
		n = MIN(room - reading->room, chunk->size);
		reading->chunks[reading->n] = chunk;
		reading->iov[reading->n++] = (struct iovec){.iov_base = chunk->data, .iov_len = n};
		reading->room += n;
	}
	if (!reading->n)
		wait_for_memory(flow);
	return reading->n;
}

static void keep_chunk(struct tcp_flow *flow, struct chunk *chunk, uint32_t len)
{
	struct buffer_pool *pool = &flow->owner->pool;

	chunk->end = len;
	if (len <= COPY_MAX)
		chunk->start = (uint32_t)byte_queue_append(
			&flow->down, pool, BUFFER_DOWN, chunk->data, len);
	if (chunk->start == chunk->end)
		chunk_release(pool, chunk);
	else
		byte_queue_adopt(&flow->down, chunk);
}

/* The first `len` bytes were filled; the rest of the chunks goes back. */
static void keep(struct tcp_flow *flow, const struct reading *reading, uint32_t len)
{
	for (int i = 0; i < reading->n; i++) {
		uint32_t n = MIN(len, (uint32_t)reading->iov[i].iov_len);

		keep_chunk(flow, reading->chunks[i], n);
		len -= n;
	}
}

/* How much the next recv(2) is for: who fills it has more. */
static void adapt_chunks(struct tcp_flow *flow, bool is_full)
{
	flow->n_chunks = is_full ? (uint8_t)MIN(2 * MAX(flow->n_chunks, 1), READ_CHUNKS_MAX) : 1;
}

/* Whole segments, so that none but the last is short. */
static uint32_t room_for_one_read(const struct tcp_flow *flow, uint32_t budget)
{
	uint32_t room = MIN(tcp_room_down(flow), budget);

	room = MIN(room, MAX(flow->n_chunks, 1) * (uint32_t)BUFFER_LARGE);
	return room > flow->mss ? room - room % flow->mss : room;
}

/* One recv(2) and what it brought to the link. Returns how much that was, 0: no more now. */
static uint32_t pull(struct tcp_flow *flow, uint32_t budget)
{
	struct host *host = flow->owner->config.host;
	uint32_t room = room_for_one_read(flow, budget);
	UNCLEARED struct reading reading;
	ssize_t n;

	if (!room || !make_room(flow, room, &reading))
		return 0;
	n = host->ops->tcp_recv(host, flow->fd, reading.iov, reading.n);
	adapt_chunks(flow, n == (ssize_t)reading.room);
	if (n < (ssize_t)reading.room && !(n > 0 && flow->far_ending))
		flow->far_readable = false;
	keep(flow, &reading, (uint32_t)MAX(n, 0));
	if (n > 0) {
		if (flow->usage)
			flow->usage->n_in_bytes += (size_t)n;
		tcp_send_pending(flow);
		return (uint32_t)n;
	}
	if (n == 0)
		flow->far_eof = true;
	else if (n != -EAGAIN)
		failed(flow, n);
	return 0;
}

static void pull_within_budget(struct tcp_flow *flow)
{
	uint32_t left = BUDGET, n;

	/* No segment is cut by the end of it. */
	while (flow->far_readable && left >= flow->mss) {
		n = pull(flow, left);
		if (!n || flow->fd < 0 || tcp_flow_is_over(flow))
			return;
		left -= n;
	}
	if (flow->far_readable)
		tcp_flow_schedule(flow);
}

void tcp_far_discard(struct tcp_flow *flow)
{
	struct host *host = flow->owner->config.host;
	uint8_t nowhere[4096];
	const struct iovec iov = {.iov_base = nowhere, .iov_len = sizeof(nowhere)};

	for (int i = 0; i < DISCARD_READS; i++)
		if (host->ops->tcp_recv(host, flow->fd, &iov, 1) <= 0)
			return;
}

void tcp_far_pump(struct tcp_flow *flow)
{
	uint32_t before = flow->up.len;

	flush_up(flow);
	if (tcp_flow_is_over(flow) || flow->fd < 0)
		return;
	shut_when_flushed(flow);
	if (flow->state != TCP_DRAINING)
		pull_within_budget(flow);
	else if (flow->up.len != before)
		flow->idle_ns = tcp_now_ns(flow) + TCP_DRAINING_NS;
}
