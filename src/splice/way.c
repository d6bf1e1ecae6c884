/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One direction's bytes. A message costs one recv(2) and one send(2); what fills the buffer is
 * bulk, and goes on through a pipe until little comes at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "splice/internal.h"

/* Less at a time is cheaper by recv(2) and send(2). */
#define BULK_LEAST (16 * 1024)
#define MAX_IOV    16

/* splice(2): a short one need not mean that there is no more, or no more room. */
static ssize_t splice_bytes(int from, int to, size_t len)
{
	return splice(from, NULL, to, NULL, len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
}

/* Nothing can be sent there any more; what it has received can still be read. */
static void fail_to(struct way *way)
{
	way->to->failed = true;
	way->to->writable = false;
}

static void fail_from(struct way *way)
{
	way->from->failed = true;
	way->from->readable = false;
}

static int64_t now_of(const struct splice *splice)
{
	return splice->config.loop->now_ns;
}

/* ---- to the other socket ---- */

/* What to think of a send(2) or splice(2) of `wanted` bytes; returns how many went. */
static size_t given(struct way *way, ssize_t n, size_t wanted)
{
	if (n < 0) {
		if (errno == EAGAIN)
			way->to->writable = false;
		else if (errno != EINTR)
			fail_to(way);
		return 0;
	}
	if ((size_t)n < wanted)
		way->to->writable = false;
	*way->n_bytes += (uint64_t)n;
	return (size_t)n;
}

static size_t send_buffer(struct splice *splice, struct way *way, size_t len)
{
	ssize_t n;

	do
		n = send(way->to->fd, splice->buffer, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return given(way, n, len);
}

static void give_queue(struct splice *splice, struct way *way)
{
	struct iovec iov[MAX_IOV];
	size_t len = way->queue.len;
	const struct msghdr msg = {
		.msg_iov = iov,
		.msg_iovlen = (size_t)byte_queue_map(&way->queue, 0, &len, iov, MAX_IOV),
	};
	ssize_t n = sendmsg(way->to->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

	byte_queue_drop(&way->queue, &splice->memory, given(way, n, len));
}

static void let_go(struct splice *splice, struct way *way)
{
	struct pipe *pipe = way->pipe;

	if (!pipe)
		return;
	way->pipe = NULL;
	pipe_release(&splice->pipes, pipe, now_of(splice));
}

/* Whether splice(2) is not to be had, for these sockets or at all. */
static bool is_no_splice(int error)
{
	return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP || error == ENOMEM;
}

static void give_pipe(struct splice *splice, struct way *way)
{
	struct pipe *pipe = way->pipe;
	ssize_t n = splice_bytes(pipe->out, way->to->fd, pipe->n_bytes);

	if (n < 0 && is_no_splice(errno)) {
		way->no_pipe = true;
		if (!way_drain(splice, way))
			fail_to(way);
		return;
	}
	pipe->n_bytes -= (uint32_t)given(way, n, n > 0 ? (size_t)n : 1);
	if (!pipe->n_bytes)
		let_go(splice, way);
	else if (way->to->writable)
		pipe_is_moving(pipe);
}

/* ---- out of the pipe, when nobody takes it ---- */

bool way_drain(struct splice *splice, struct way *way)
{
	struct pipe *pipe = way->pipe;

	while (pipe->n_bytes) {
		ssize_t n;

		if (buffer_pool_is_short(&splice->memory, way->side))
			return false;
		n = read(pipe->out, splice->buffer, MIN(pipe->n_bytes, SPLICE_BUFFER));
		if (n <= 0) {
			fail_from(way);
			break;
		}
		pipe->n_bytes -= (uint32_t)n;
		byte_queue_append(
			&way->queue, &splice->memory, way->side, splice->buffer, (size_t)n);
	}
	count(splice->config.counters, COUNTER_SPLICE_DRAINED);
	let_go(splice, way);
	return true;
}

void way_drop(struct splice *splice, struct way *way)
{
	byte_queue_clear(&way->queue, &splice->memory);
	let_go(splice, way);
}

/* ---- from the one socket ---- */

/* What to think of a recv(2). Returns how many bytes came, 0: none. */
static size_t taken(struct way *way, ssize_t n)
{
	if (n > 0)
		return (size_t)n;
	if (n == 0)
		way->ended = true;
	else if (errno == EAGAIN)
		way->from->readable = false;
	else if (errno != EINTR)
		fail_from(way);
	return 0;
}

static void note_size(struct way *way, size_t n)
{
	if (n == SPLICE_BUFFER)
		way->bulk = !way->no_pipe;
	else if (!way->from->ending)
		way->from->readable = false;
}

/* Takes out what was sent after it was looked at. */
static void discard(struct splice *splice, struct way *way, size_t len)
{
	while (len) {
		ssize_t n = recv(way->from->fd, splice->buffer, len, MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			fail_from(way);
			return;
		}
		len -= (size_t)n;
	}
}

/* Without memory for what might not be taken it stays in the kernel until it was. */
static size_t pass_without_memory(struct splice *splice, struct way *way)
{
	size_t n = taken(
		way, recv(way->from->fd, splice->buffer, SPLICE_BUFFER, MSG_DONTWAIT | MSG_PEEK));
	size_t sent = n ? send_buffer(splice, way, n) : 0;

	discard(splice, way, sent);
	if (n && sent == n)
		note_size(way, n);
	return sent;
}

static size_t pass_message(struct splice *splice, struct way *way)
{
	size_t n, sent;

	if (buffer_pool_is_short(&splice->memory, way->side))
		return pass_without_memory(splice, way);
	n = taken(way, recv(way->from->fd, splice->buffer, SPLICE_BUFFER, MSG_DONTWAIT));
	if (!n)
		return 0;
	note_size(way, n);
	sent = send_buffer(splice, way, n);
	if (sent < n)
		byte_queue_append(
			&way->queue, &splice->memory, way->side, splice->buffer + sent, n - sent);
	return n;
}

/* One that is stuck since an earlier turn is drained for it. */
static bool get_pipe(struct splice *splice, struct way *way)
{
	int64_t now_ns = now_of(splice);
	struct pipe *stuck, *pipe = pipe_take(&splice->pipes, now_ns);

	if (!pipe) {
		stuck = pipe_stuck_before(&splice->pipes, now_ns);
		if (stuck && way_drain(splice, stuck->holder))
			pipe = pipe_take(&splice->pipes, now_ns);
	}
	if (!pipe)
		return false;
	pipe->holder = way;
	way->pipe = pipe;
	return true;
}

/* Only recv(2) tells an end from urgent data, at which splice(2) stops. */
static size_t fill_pipe(struct splice *splice, struct way *way)
{
	struct pipe *pipe = way->pipe;
	ssize_t n = splice_bytes(way->from->fd, pipe->in, MIN(pipe->size, splice->share));

	if (n > 0) {
		pipe->n_bytes = (uint32_t)n;
		way->bulk = n >= BULK_LEAST;
		return (size_t)n;
	}
	let_go(splice, way);
	if (n < 0 && is_no_splice(errno))
		way->no_pipe = true;
	else if (n < 0 && (errno != EAGAIN || !way->from->ending))
		return taken(way, n);
	way->bulk = false;
	return pass_message(splice, way);
}

static size_t take(struct splice *splice, struct way *way)
{
	if (!way->bulk)
		return pass_message(splice, way);
	if (get_pipe(splice, way))
		return fill_pipe(splice, way);
	count(splice->config.counters, COUNTER_SPLICE_NO_PIPE);
	return pass_message(splice, way);
}

/* ---- a turn ---- */

static bool can_give(const struct way *way)
{
	return way->to->writable && !way->to->failed && way_has_bytes(way);
}

static bool can_take(const struct way *way)
{
	return way->from->readable && !way->ended && !way_has_bytes(way) && way->to->writable &&
		!way->to->failed;
}

static void give(struct splice *splice, struct way *way)
{
	if (way->queue.len)
		give_queue(splice, way);
	else
		give_pipe(splice, way);
}

bool way_run(struct splice *splice, struct way *way)
{
	size_t n = 0;

	for (;;) {
		if (can_give(way))
			give(splice, way);
		else if (can_take(way) && n < splice->share)
			n += take(splice, way);
		else
			break;
	}
	if (way->pipe)
		pipe_is_stuck(&splice->pipes, way->pipe, now_of(splice));
	if (way->ended && !way->closed && !way_has_bytes(way) && !way->from->failed) {
		way->closed = true;
		shutdown(way->to->fd, SHUT_WR);
	}
	return can_take(way);
}
