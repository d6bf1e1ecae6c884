/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests of splice/: real sockets of this host's loopback on both sides, with the test as
 * client, as the accepting part, as the namespace's agent and as the container's server, all in one
 * thread. Nothing waits longer than TIMEOUT_NS.
 */
#pragma once

#include <glib.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/util.h"
#include "splice/internal.h"
#include "tests/support/container.h"

#define TIMEOUT_NS (30 * NS_PER_SEC)

enum side_kind { SIDE_TCP4, SIDE_TCP6, SIDE_UNIX };

/* What the source does with the next wish. */
enum source_mode { SOURCE_MAKES, SOURCE_FAILS, SOURCE_WAITS };

struct bench {
	struct loop loop;
	struct counters counters;
	struct splice *splice;
	struct usage *usage;
	enum source_mode mode;
	int error;
	/* With SOURCE_WAITS: whom to tell. */
	socket_made_fn *done;
	void *done_owner;
	uint64_t done_cookie;
	enum side_kind client_kind, guest_kind;
	int listener, service;   /* the published port's, the container's */
	struct splice_dial dial; /* `fd` is the client's */
	int fell_back;           /* the descriptor that was given back */
	int fall_back_error, n_fell_back;
	int n_fds_before;
	int n_busy; /* turns with events */
	struct socket_source source;
};

struct pair {
	int client, server;
};

/* ---- sockets ---- */

static inline void set_nonblocking(int fd)
{
	g_assert_cmpint(fd_set_nonblocking(fd), ==, 0);
}

static inline socklen_t address_of(int fd, struct sockaddr_storage *sa)
{
	socklen_t len = sizeof(*sa);

	g_assert_cmpint(getsockname(fd, (struct sockaddr *)sa, &len), ==, 0);
	return len;
}

static inline int listen_on(enum side_kind kind, int backlog)
{
	struct sockaddr_storage sa = {0};
	struct sockaddr_in *in = (struct sockaddr_in *)&sa;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&sa;
	socklen_t len = sizeof(*in);
	int fd;

	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (kind == SIDE_TCP6) {
		*in6 = (struct sockaddr_in6){
			.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
		len = sizeof(*in6);
	} else if (kind == SIDE_UNIX) {
		sa.ss_family = AF_UNIX;
		len = sizeof(sa_family_t); /* the kernel finds an abstract name */
	}
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	g_assert_cmpint(fd, >=, 0);
	/* No less is needed by make_bulk(); it is inherited. */
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){6 * 65536}, sizeof(int));
	g_assert_cmpint(bind(fd, (struct sockaddr *)&sa, len), ==, 0);
	g_assert_cmpint(listen(fd, backlog), ==, 0);
	return fd;
}

/* Connected at once: it is the loopback. */
static inline int connect_to(int listener)
{
	struct sockaddr_storage sa;
	socklen_t len = address_of(listener, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(connect(fd, (struct sockaddr *)&sa, len), ==, 0);
	set_nonblocking(fd);
	return fd;
}

/* The client is connected already. */
static inline int accept_now(int listener)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	int fd;

	g_assert_cmpint(poll(&p, 1, TIMEOUT_NS / NS_PER_MS), ==, 1);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	g_assert_cmpint(fd, >=, 0);
	return fd;
}

static inline void reset_now(int *fd)
{
	const struct linger linger = {.l_onoff = 1};

	g_assert_cmpint(setsockopt(*fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), ==, 0);
	fd_close(fd);
}

/* ---- the source ---- */

static inline struct bench *bench_of(struct socket_source *source)
{
	return container_of(source, struct bench, source);
}

static inline void source_answer(
	struct bench *b, int fd, socket_made_fn *done, void *owner, uint64_t cookie)
{
	if (b->mode == SOURCE_MAKES) {
		done(owner, cookie, fd);
		return;
	}
	fd_close(&fd);
	if (b->mode == SOURCE_FAILS) {
		done(owner, cookie, b->error);
	} else {
		b->done = done;
		b->done_owner = owner;
		b->done_cookie = cookie;
	}
}

static inline void source_make(struct socket_source *source, uint8_t family, int type,
	socket_made_fn *done, void *owner, uint64_t cookie)
{
	source_answer(bench_of(source), socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
		done, owner, cookie);
}

static inline void source_connect_unix(struct socket_source *source, const char *path,
	socket_made_fn *done, void *owner, uint64_t cookie)
{
	struct bench *b = bench_of(source);

	g_assert_cmpstr(path, ==, "/a/path");
	source_answer(
		b, b->mode == SOURCE_MAKES ? connect_to(b->service) : -1, done, owner, cookie);
}

/* The late answer of SOURCE_WAITS. */
static inline void source_answer_late(struct bench *b, int fd)
{
	socket_made_fn *done = b->done;

	g_assert_nonnull(done);
	b->done = NULL;
	done(b->done_owner, b->done_cookie, fd);
}

/* ---- the bench ---- */

static inline void bench_fall_back(void *owner, uint64_t cookie, int fd, int error)
{
	struct bench *b = owner;

	g_assert_cmpuint(cookie, ==, 4711);
	b->fell_back = fd;
	b->fall_back_error = error;
	b->n_fell_back++;
}

static inline void bench_dispatch(void *owner, struct handle handle, uint32_t events)
{
	struct bench *b = owner;

	splice_ready(b->splice, handle, events);
}

/* Returns true when there was something to do, or is. */
static inline bool bench_turn(struct bench *b, int64_t deadline_ns)
{
	bool busy = loop_turn(&b->loop, deadline_ns, bench_dispatch, b) > 0;

	b->n_busy += busy;
	return splice_finish(b->splice) || busy;
}

/* Until nothing happens any more, as far as the kernel has got by now: it may be busy, and deliver
 * what is on its way later. */
static inline void bench_settle(struct bench *b)
{
	while (bench_turn(b, 0))
		;
}

#define bench_until(b, condition)                                          \
	do {                                                               \
		int64_t until_late_ns = clock_now_ns() + TIMEOUT_NS;       \
                                                                           \
		while (!(condition)) {                                     \
			bench_turn(b, clock_now_ns() + NS_PER_MS);         \
			g_assert_cmpint(clock_now_ns(), <, until_late_ns); \
		}                                                          \
	} while (0)

/* Waits for something to be there: bytes, the end, or an error as a negative errno. */
static inline ssize_t bench_recv(struct bench *b, int fd, void *buf, size_t len)
{
	ssize_t n = -1;

	bench_until(b, (n = recv(fd, buf, len, MSG_DONTWAIT)) >= 0 || errno != EAGAIN);
	return n < 0 ? -errno : n;
}

static inline void expect_end(struct bench *b, int fd)
{
	char c;

	g_assert_cmpint(bench_recv(b, fd, &c, 1), ==, 0);
}

static inline void expect_reset(struct bench *b, int fd)
{
	char c;

	g_assert_cmpint(bench_recv(b, fd, &c, 1), ==, -ECONNRESET);
}

static inline void expect_open(struct bench *b, int fd)
{
	char c;

	bench_settle(b);
	g_assert_cmpint(recv(fd, &c, 1, 0), ==, -1);
	g_assert_cmpint(errno, ==, EAGAIN);
}

static inline void expect_text(struct bench *b, int fd, const char *text)
{
	char buf[64];

	for (size_t len = strlen(text), n = 0; n < len;) {
		ssize_t more = bench_recv(b, fd, buf, len - n);

		g_assert_cmpint(more, >, 0);
		g_assert_cmpmem(buf, (size_t)more, text + n, (size_t)more);
		n += (size_t)more;
	}
}

/* Time passes for the timers only. */
static inline void bench_pass(struct bench *b, int64_t ns)
{
	b->loop.now_ns += ns;
	timer_heap_expire(&b->loop.timers, b->loop.now_ns);
	splice_finish(b->splice);
}

static inline void bench_dial_set(struct bench *b)
{
	struct sockaddr_storage sa;
	const struct sockaddr_in *in = (const struct sockaddr_in *)&sa;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&sa;

	address_of(b->service, &sa);
	b->dial = (struct splice_dial){
		.usage = b->usage,
		.fall_back = bench_fall_back,
		.owner = b,
		.cookie = 4711,
	};
	if (b->guest_kind == SIDE_UNIX) {
		b->dial.guest_path = "/a/path";
	} else if (b->guest_kind == SIDE_TCP4) {
		b->dial.guest = ip_addr_of_v4(in->sin_addr);
		b->dial.guest_port = ntohs(in->sin_port);
	} else {
		b->dial.guest = ip_addr_of_v6(&in6->sin6_addr);
		b->dial.guest_port = ntohs(in6->sin6_port);
	}
}

static inline void bench_init(struct bench *b, enum side_kind client, enum side_kind guest,
	const struct splice_config *config)
{
	static const struct siphash_key key = {{1, 2}};
	struct splice_config full = *config;

	*b = (struct bench){.client_kind = client, .guest_kind = guest, .fell_back = -1};
	b->n_fds_before = count_fds();
	g_assert_cmpint(loop_init(&b->loop), ==, 0);
	b->source.make = source_make;
	b->source.connect_unix = source_connect_unix;
	full.loop = &b->loop;
	full.counters = &b->counters;
	full.sockets = &b->source;
	full.key = &key;
	if (!full.max_flows)
		full.max_flows = 64;
	b->splice = splice_new(&full);
	g_assert_nonnull(b->splice);
	b->usage = usage_new();
	b->listener = listen_on(client, 4096);
	b->service = listen_on(guest, 4096);
	bench_dial_set(b);
}

/* All of it was given back: flows, memory, pipes (but idle ones), timers, descriptors. */
static inline void bench_done(struct bench *b)
{
	bench_until(b, b->splice->table.n_flows == 0);
	g_assert_cmpuint(b->usage->n_active, ==, 0);
	g_assert_cmpuint(b->usage->n_refs, ==, 1);
	g_assert_true(buffer_pool_is_whole(&b->splice->memory));
	for (int i = 0; i < 100; i++)
		bench_pass(b, NS_PER_SEC);
	g_assert_cmpuint(b->splice->pipes.n_pipes, ==, 0);
	g_assert_false(timer_is_armed(&b->splice->tick));
	splice_free(b->splice);
	g_assert_null(b->loop.timers.root);
	usage_unref(b->usage);
	close(b->listener);
	fd_close(&b->service);
	loop_done(&b->loop);
	g_assert_cmpint(count_fds(), ==, b->n_fds_before);
}

/* The client is there, and accepted. */
static inline int bench_arrive(struct bench *b)
{
	int client = connect_to(b->listener);

	b->dial.fd = accept_now(b->listener);
	g_assert_cmpint(splice_open(b->splice, &b->dial), ==, 0);
	return client;
}

static inline struct pair bench_connect(struct bench *b)
{
	uint64_t n_before = b->dial.usage->n_opened;
	struct pair pair = {.client = bench_arrive(b)};

	bench_until(b, b->dial.usage->n_opened == n_before + 1);
	pair.server = accept_now(b->service);
	return pair;
}

static inline void pair_close(struct bench *b, struct pair *pair)
{
	fd_close(&pair->client);
	fd_close(&pair->server);
	bench_settle(b);
}

/* ---- streams whose every eight bytes are others ---- */

struct stream {
	uint64_t seed, n_sent, n_received;
};

#define PIECE 65536

static inline uint8_t stream_byte(const struct stream *stream, uint64_t at)
{
	uint64_t word = (at / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ stream->seed;

	return (uint8_t)(word >> at % 8 * 8);
}

/* Returns how many bytes went. */
static inline size_t stream_send(struct stream *stream, int fd, uint64_t until)
{
	uint8_t buf[PIECE];
	size_t len = (size_t)MIN(until - stream->n_sent, sizeof(buf));
	ssize_t n;

	if (!len)
		return 0;
	for (size_t i = 0; i < len; i++)
		buf[i] = stream_byte(stream, stream->n_sent + i);
	n = send(fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0) {
		g_assert_cmpint(errno, ==, EAGAIN);
		return 0;
	}
	stream->n_sent += (uint64_t)n;
	return (size_t)n;
}

/* Returns 0 at the end, else how many bytes came or a negative errno. */
static inline ssize_t stream_receive(struct stream *stream, int fd)
{
	uint8_t buf[PIECE];
	ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0)
		return -errno;
	for (ssize_t i = 0; i < n; i++)
		if (buf[i] != stream_byte(stream, stream->n_received + (uint64_t)i))
			g_error("byte %llu is wrong",
				(unsigned long long)(stream->n_received + (uint64_t)i));
	stream->n_received += (uint64_t)n;
	return n;
}

static inline void read_all(struct bench *b, struct stream *stream, int to)
{
	ssize_t n = 1;

	bench_until(b,
		stream->n_received == stream->n_sent ||
			((n = stream_receive(stream, to)) <= 0 && n != -EAGAIN));
	g_assert_true(n > 0 || n == -EAGAIN);
}

/* More than one recv(2) takes is there before the first one is made. */
static inline void make_bulk(
	struct bench *b, struct stream *stream, int from, int to, const struct end *end)
{
	int64_t late_ns = clock_now_ns() + TIMEOUT_NS;
	int n = 0;

	while (n < PIECE + PIECE / 2) {
		stream_send(stream, from, UINT64_MAX);
		g_assert_cmpint(ioctl(end->fd, FIONREAD, &n), ==, 0);
		g_assert_cmpint(clock_now_ns(), <, late_ns);
	}
	bench_until(b, (stream_receive(stream, to), b->splice->pipes.n_pipes));
}

/* `len` bytes go from one to the other, whole. */
static inline void stream_pass(struct bench *b, struct stream *stream, int from, int to, size_t len)
{
	uint64_t until = stream->n_sent + len;
	int64_t late_ns = clock_now_ns() + TIMEOUT_NS;

	while (stream->n_received < until) {
		ssize_t n;

		stream_send(stream, from, until);
		loop_turn(&b->loop, 0, bench_dispatch, b);
		splice_finish(b->splice);
		n = stream_receive(stream, to);
		g_assert_true(n > 0 || n == -EAGAIN);
		g_assert_cmpint(clock_now_ns(), <, late_ns);
	}
	g_assert_cmpuint(stream->n_received, ==, until);
}
