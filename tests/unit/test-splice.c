/* SPDX-License-Identifier: Apache-2.0 */
/* Streams through splice/: whole, in order, by pipes and without, and what happens at their ends.
 */
#include "splice-fixture.h"

#include <sys/resource.h>

#define MEMORY (16 * 1024 * 1024)
#define MIB    (1024 * 1024)

static const struct splice_config usual = {.memory = MEMORY, .max_pipes = 16};

/* ---- whole ---- */

struct transfer {
	const char *name;
	enum side_kind client, guest;
	struct splice_config config;
	size_t len;
};

static const struct transfer transfers[] = {
	{"/splice/whole/tcp4", SIDE_TCP4, SIDE_TCP4, {.memory = MEMORY, .max_pipes = 16}, 64 * MIB},
	{"/splice/whole/tcp6", SIDE_TCP6, SIDE_TCP6, {.memory = MEMORY, .max_pipes = 16}, 8 * MIB},
	{"/splice/whole/tcp6-to-tcp4", SIDE_TCP6, SIDE_TCP4, {.memory = MEMORY, .max_pipes = 16},
		8 * MIB},
	{"/splice/whole/unix-client", SIDE_UNIX, SIDE_TCP4, {.memory = MEMORY, .max_pipes = 16},
		16 * MIB},
	{"/splice/whole/unix-guest", SIDE_TCP4, SIDE_UNIX, {.memory = MEMORY, .max_pipes = 16},
		16 * MIB},
	{"/splice/whole/unix-both", SIDE_UNIX, SIDE_UNIX, {.memory = MEMORY, .max_pipes = 16},
		16 * MIB},
	{"/splice/whole/no-pipes", SIDE_TCP4, SIDE_TCP4, {.memory = MEMORY}, 16 * MIB},
	{"/splice/whole/one-pipe", SIDE_TCP4, SIDE_TCP4, {.memory = MEMORY, .max_pipes = 1},
		16 * MIB},
	{"/splice/whole/tiny-pipes", SIDE_TCP4, SIDE_TCP4,
		{.memory = MEMORY, .max_pipes = 16, .pipe_size = 4096}, 16 * MIB},
	{"/splice/whole/middling-pipes", SIDE_TCP4, SIDE_TCP4,
		{.memory = MEMORY, .max_pipes = 16, .pipe_size = 65536}, 16 * MIB},
};

/* Both ways at once; the client ends first, then the server. */
static void exchange(struct bench *b, struct pair *pair, size_t len)
{
	struct stream up = {.seed = 1}, down = {.seed = 2};
	int64_t late_ns = clock_now_ns() + TIMEOUT_NS;
	bool up_ended = false, down_ended = false;

	while (!up_ended || !down_ended) {
		if (up.n_sent < len && stream_send(&up, pair->client, len) && up.n_sent == len)
			shutdown(pair->client, SHUT_WR);
		if (down.n_sent < len && stream_send(&down, pair->server, len) &&
			down.n_sent == len)
			shutdown(pair->server, SHUT_WR);
		loop_turn(&b->loop, 0, bench_dispatch, b);
		splice_finish(b->splice);
		up_ended |= stream_receive(&up, pair->server) == 0;
		down_ended |= stream_receive(&down, pair->client) == 0;
		g_assert_cmpint(clock_now_ns(), <, late_ns);
	}
	g_assert_cmpuint(up.n_received, ==, len);
	g_assert_cmpuint(down.n_received, ==, len);
}

static void test_whole(gconstpointer data)
{
	const struct transfer *transfer = data;
	struct bench b;
	struct pair pair;

	bench_init(&b, transfer->client, transfer->guest, &transfer->config);
	pair = bench_connect(&b);
	g_assert_cmpuint(b.usage->n_active, ==, 1);
	exchange(&b, &pair, transfer->len);
	pair_close(&b, &pair);
	g_assert_cmpuint(b.usage->n_opened, ==, 1);
	g_assert_cmpuint(b.usage->n_in_bytes, ==, transfer->len);
	g_assert_cmpuint(b.usage->n_out_bytes, ==, transfer->len);
	bench_done(&b);
}

/* ---- messages ---- */

static struct splice_flow *only_flow(struct bench *b)
{
	return (struct splice_flow *)(void *)flow_table_any(&b->splice->table);
}

static void ping_pong(struct bench *b, struct pair *pair, int n)
{
	for (int i = 0; i < n; i++) {
		b->n_busy = 0;
		g_assert_cmpint(send(pair->client, "?", 1, MSG_NOSIGNAL), ==, 1);
		expect_text(b, pair->server, "?");
		g_assert_cmpint(send(pair->server, "!", 1, MSG_NOSIGNAL), ==, 1);
		expect_text(b, pair->client, "!");
		g_assert_cmpint(b->n_busy, <=, 4);
	}
}

/* Also after bulk, and no pipe is held meanwhile. */
static void test_ping_pong(void)
{
	struct stream stream = {.seed = 3};
	struct bench b;
	struct pair pair;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	pair = bench_connect(&b);
	ping_pong(&b, &pair, 1000);
	g_assert_cmpuint(b.splice->pipes.n_pipes, ==, 0);
	make_bulk(&b, &stream, pair.client, pair.server, &only_flow(&b)->far);
	read_all(&b, &stream, pair.server);
	g_assert_null(only_flow(&b)->in.pipe);
	ping_pong(&b, &pair, 1000);
	g_assert_false(only_flow(&b)->in.bulk);
	g_assert_false(only_flow(&b)->out.bulk);
	pair_close(&b, &pair);
	bench_done(&b);
}

/* Where it stops, recv(2) stops, too, and splice(2) looks as if there was no more. */
static void test_urgent(void)
{
	struct stream stream = {.seed = 4};
	struct bench b;
	struct pair pair;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	pair = bench_connect(&b);
	for (int i = 0; i < 3; i++) {
		g_assert_cmpint(send(pair.client, "abc", 3, MSG_OOB), ==, 3);
		g_assert_cmpint(send(pair.client, "de", 2, 0), ==, 2);
		expect_text(&b, pair.server, "abcde");
		/* Bulk, and then the same in front of the end. */
		stream_pass(&b, &stream, pair.client, pair.server, 4 * MIB);
	}
	only_flow(&b)->in.bulk = true;
	g_assert_cmpint(send(pair.client, "u", 1, MSG_OOB), ==, 1);
	expect_text(&b, pair.server, "u");
	only_flow(&b)->in.bulk = true;
	g_assert_cmpint(send(pair.client, "v", 1, MSG_OOB), ==, 1);
	shutdown(pair.client, SHUT_WR);
	expect_text(&b, pair.server, "v");
	expect_end(&b, pair.server);
	pair_close(&b, &pair);
	pair = bench_connect(&b);
	g_assert_cmpint(send(pair.client, "xyz", 3, MSG_OOB), ==, 3);
	g_assert_cmpint(send(pair.client, "!", 1, 0), ==, 1);
	shutdown(pair.client, SHUT_WR);
	expect_text(&b, pair.server, "xyz!");
	expect_end(&b, pair.server);
	pair_close(&b, &pair);
	bench_done(&b);
}

/* ---- ends ---- */

static void half_close(enum side_kind client, enum side_kind guest, bool server_first)
{
	struct stream stream = {.seed = 5}, back = {.seed = 6};
	struct bench b;
	struct pair pair;
	int first, second;

	bench_init(&b, client, guest, &usual);
	pair = bench_connect(&b);
	first = server_first ? pair.server : pair.client;
	second = server_first ? pair.client : pair.server;
	stream_pass(&b, &stream, first, second, 3 * MIB + 7);
	shutdown(first, SHUT_WR);
	bench_settle(&b);
	expect_end(&b, second);
	/* Without time limit. */
	for (int i = 0; i < 100; i++)
		bench_pass(&b, 3600 * NS_PER_SEC);
	expect_open(&b, first);
	stream_pass(&b, &back, second, first, 3 * MIB + 9);
	expect_open(&b, first);
	shutdown(second, SHUT_WR);
	expect_end(&b, first);
	bench_until(&b, b.splice->table.n_flows == 0);
	pair_close(&b, &pair);
	bench_done(&b);
}

static void test_half_close(void)
{
	half_close(SIDE_TCP4, SIDE_TCP4, false);
	half_close(SIDE_TCP4, SIDE_TCP4, true);
	half_close(SIDE_UNIX, SIDE_TCP6, false);
	half_close(SIDE_UNIX, SIDE_TCP6, true);
	half_close(SIDE_TCP4, SIDE_UNIX, false);
	half_close(SIDE_TCP4, SIDE_UNIX, true);
}

/* What had arrived before is still read. */
static void reset_one(bool by_server, bool with_data)
{
	struct bench b;
	struct pair pair;
	int *first, second;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	pair = bench_connect(&b);
	first = by_server ? &pair.server : &pair.client;
	second = by_server ? pair.client : pair.server;
	if (with_data)
		g_assert_cmpint(send(*first, "last", 4, 0), ==, 4);
	reset_now(first);
	bench_settle(&b);
	if (with_data)
		expect_text(&b, second, "last");
	expect_reset(&b, second);
	bench_until(&b, b.splice->table.n_flows == 0);
	pair_close(&b, &pair);
	bench_done(&b);
}

static void test_reset(void)
{
	for (int i = 0; i < 4; i++)
		reset_one(i & 1, i & 2);
}

/* It is found by sending to it, before its own event is there: still not taken for an end. */
static void test_reset_found_by_sending(void)
{
	const struct linger linger = {.l_onoff = 1};
	struct splice_flow *flow;
	struct bench b;
	struct pair pair;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	pair = bench_connect(&b);
	flow = only_flow(&b);
	setsockopt(pair.server, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	g_assert_cmpint(send(pair.server, "last", 4, 0), ==, 4);
	fd_close(&pair.server);
	g_assert_cmpint(poll(&(struct pollfd){.fd = flow->near.fd}, 1, -1), ==, 1);
	g_assert_cmpint(send(pair.client, "x", 1, MSG_NOSIGNAL), ==, 1);
	g_assert_cmpint(poll(&(struct pollfd){.fd = flow->far.fd, .events = POLLIN}, 1, -1), ==, 1);
	flow->far.readable = flow->near.readable = flow->near.ending = true;
	list_append(&b.splice->active, &flow->active);
	splice_finish(b.splice);
	expect_text(&b, pair.client, "last");
	expect_reset(&b, pair.client);
	pair_close(&b, &pair);
	bench_done(&b);
}

/* The reader has stopped, and so nothing can be moved. */
static void test_reset_while_stalled(void)
{
	struct stream stream = {.seed = 7}, other = {.seed = 77};
	struct bench b;
	struct pair pair;
	ssize_t n;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	pair = bench_connect(&b);
	bench_until(&b,
		!stream_send(&stream, pair.client, UINT64_MAX) &&
			way_has_bytes(&only_flow(&b)->in));
	reset_now(&pair.client);
	bench_until(&b, b.splice->table.n_flows == 0);
	while ((n = stream_receive(&stream, pair.server)) > 0 || n == -EAGAIN)
		;
	g_assert_cmpint(n, ==, -ECONNRESET);
	pair_close(&b, &pair);
	/* What was left in the pipe is nobody else's. */
	pair = bench_connect(&b);
	stream_pass(&b, &other, pair.client, pair.server, 4 * MIB);
	pair_close(&b, &pair);
	bench_done(&b);
}

/* The service answers before it has read all, and closes: the kernel makes a reset of that. */
static void test_early_answer(void)
{
	struct stream stream = {.seed = 8};
	struct bench b;
	struct pair pair;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	pair = bench_connect(&b);
	while (stream_send(&stream, pair.client, UINT64_MAX))
		bench_settle(&b);
	g_assert_cmpint(send(pair.server, "enough", 6, 0), ==, 6);
	fd_close(&pair.server);
	expect_text(&b, pair.client, "enough");
	expect_reset(&b, pair.client);
	pair_close(&b, &pair);
	bench_done(&b);
}

/* A peer that is gone is noticed by what is sent to it. */
static void test_closed_peer(void)
{
	struct bench b;
	struct pair pair;

	bench_init(&b, SIDE_TCP4, SIDE_UNIX, &usual);
	pair = bench_connect(&b);
	fd_close(&pair.server);
	bench_settle(&b);
	expect_end(&b, pair.client);
	g_assert_cmpint(send(pair.client, "x", 1, MSG_NOSIGNAL), ==, 1);
	bench_until(&b, send(pair.client, "x", 1, MSG_NOSIGNAL) < 0);
	g_assert_cmpint(errno, ==, EPIPE);
	pair_close(&b, &pair);
	bench_done(&b);
}

static void test_reset_all(void)
{
	struct usage *other = usage_new();
	struct bench b;
	struct pair pair[2];

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	pair[0] = bench_connect(&b);
	b.dial.usage = other;
	pair[1] = bench_connect(&b);
	splice_reset_all(b.splice, other);
	splice_finish(b.splice);
	expect_reset(&b, pair[1].client);
	expect_reset(&b, pair[1].server);
	g_assert_cmpuint(other->n_refs, ==, 1);
	g_assert_cmpuint(other->n_active, ==, 0);
	ping_pong(&b, &pair[0], 1);
	splice_reset_all(b.splice, b.usage);
	expect_reset(&b, pair[0].client);
	pair_close(&b, &pair[0]);
	pair_close(&b, &pair[1]);
	usage_unref(other);
	bench_done(&b);
}

/* Near the end those go first that have nothing to say any more. */
static void test_stop(void)
{
	struct bench b;
	struct pair idle, busy;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	idle = bench_connect(&b);
	busy = bench_connect(&b);
	g_assert_cmpint(send(busy.client, "last", 4, 0), ==, 4);
	while (!splice_has_unsent(b.splice))
		g_assert_cmpint(loop_turn(&b.loop, CLOCK_NEVER, bench_dispatch, &b), >=, 0);
	splice_stop(b.splice);
	expect_end(&b, idle.client);
	expect_end(&b, idle.server);
	expect_text(&b, busy.server, "last");
	expect_open(&b, busy.server);
	splice_stop(b.splice);
	expect_end(&b, busy.client);
	expect_end(&b, busy.server);
	fd_close(&idle.client);
	fd_close(&idle.server);
	fd_close(&busy.client);
	fd_close(&busy.server);
	bench_done(&b);
}

/* Closing gives both an end, after what they were sent. */
static void test_free(void)
{
	struct stream stream = {.seed = 9};
	struct bench b;
	struct pair pair;
	ssize_t n;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	pair = bench_connect(&b);
	g_assert_false(splice_has_unsent(b.splice));
	stream_send(&stream, pair.client, 1000);
	while (!splice_has_unsent(b.splice))
		g_assert_cmpint(loop_turn(&b.loop, CLOCK_NEVER, bench_dispatch, &b), >=, 0);
	bench_until(&b, !splice_has_unsent(b.splice));
	while (stream_send(&stream, pair.client, UINT64_MAX))
		bench_settle(&b);
	g_assert_true(splice_has_unsent(b.splice));
	bench_until(&b, stream_receive(&stream, pair.server) <= 0 && !splice_has_unsent(b.splice));
	stream_send(&stream, pair.client, stream.n_sent + 1000);
	bench_until(&b, b.usage->n_in_bytes == stream.n_sent);
	splice_free(b.splice);
	g_assert_null(b.loop.timers.root);
	while ((n = stream_receive(&stream, pair.server)) > 0 || n == -EAGAIN)
		;
	g_assert_cmpint(n, ==, 0);
	g_assert_cmpuint(stream.n_received, ==, stream.n_sent);
	g_assert_cmpint(recv(pair.client, &(char){0}, 1, MSG_WAITALL), ==, 0);
	fd_close(&pair.client);
	fd_close(&pair.server);
	close(b.listener);
	close(b.service);
	loop_done(&b.loop);
	g_assert_cmpuint(b.usage->n_refs, ==, 1);
	g_assert_cmpuint(b.usage->n_active, ==, 0);
	usage_unref(b.usage);
	g_assert_cmpint(count_fds(), ==, b.n_fds_before);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(transfers); i++)
		g_test_add_data_func(transfers[i].name, &transfers[i], test_whole);
	g_test_add_func("/splice/ping-pong", test_ping_pong);
	g_test_add_func("/splice/urgent", test_urgent);
	g_test_add_func("/splice/half-close", test_half_close);
	g_test_add_func("/splice/reset", test_reset);
	g_test_add_func("/splice/reset-found-by-sending", test_reset_found_by_sending);
	g_test_add_func("/splice/reset-while-stalled", test_reset_while_stalled);
	g_test_add_func("/splice/early-answer", test_early_answer);
	g_test_add_func("/splice/closed-peer", test_closed_peer);
	g_test_add_func("/splice/reset-all", test_reset_all);
	g_test_add_func("/splice/stop", test_stop);
	g_test_add_func("/splice/free", test_free);
	return g_test_run();
}
