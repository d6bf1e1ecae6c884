/* SPDX-License-Identifier: Apache-2.0 */
/* Readers that have stopped: what waits for them is bounded, nobody else waits, and nothing of it
 * is lost. */
#include "splice-fixture.h"

#include <poll.h>
#include <sys/resource.h>

#define MIB (1024 * 1024)

static struct splice_flow *first_flow(struct bench *b)
{
	return (struct splice_flow *)(void *)flow_table_any(&b->splice->table);
}

/* The one opened last. */
static struct splice_flow *last_flow(struct bench *b)
{
	struct flow *last = NULL;

	for (struct flow *flow = flow_table_any(&b->splice->table); flow;
		flow = flow_table_after(&b->splice->table, flow))
		last = flow;
	return (struct splice_flow *)(void *)last;
}

/* There is more, and nobody takes it. */
static bool is_stuck(const struct way *way)
{
	return !way->to->writable && (way_has_bytes(way) || way->from->readable);
}

/* Until neither socket takes more. */
static void fill(struct bench *b, struct stream *stream, int from, const struct way *way)
{
	bench_until(b, stream_send(stream, from, UINT64_MAX) == 0 && is_stuck(way));
}

/* What waits is in a pipe. */
static void fill_pipe(
	struct bench *b, struct stream *stream, const struct pair *pair, struct way *way)
{
	fill(b, stream, pair->client, way);
	bench_until(b,
		(way->bulk = true, stream_receive(stream, pair->server),
			stream_send(stream, pair->client, UINT64_MAX), way->pipe));
}

/* A tenth of a second later the pipe is free again, and what was in it in memory. */
static void test_pipe_is_drained(void)
{
	const struct splice_config config = {.memory = 16 * MIB, .max_pipes = 1};
	struct stream stream = {.seed = 1};
	struct bench b;
	struct pair pair;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &config);
	pair = bench_connect(&b);
	fill_pipe(&b, &stream, &pair, &first_flow(&b)->in);
	bench_pass(&b, NS_PER_SEC);
	g_assert_cmpuint(b.counters.value[COUNTER_SPLICE_DRAINED], >, 0);
	g_assert_null(first_flow(&b)->in.pipe);
	g_assert_false(list_is_empty(&b.splice->pipes.free));
	g_assert_cmpuint(first_flow(&b)->in.queue.len, >, 0);
	g_assert_cmpuint(first_flow(&b)->in.queue.len, <=, MIB);
	/* More does not come in. */
	fill(&b, &stream, pair.client, &first_flow(&b)->in);
	g_assert_null(first_flow(&b)->in.pipe);
	g_assert_cmpuint(first_flow(&b)->in.queue.len, <=, MIB);
	read_all(&b, &stream, pair.server);
	stream_pass(&b, &stream, pair.client, pair.server, 4 * MIB);
	pair_close(&b, &pair);
	bench_done(&b);
}

/* With too little for what is in the pipe, and with pipes that it cannot be drained of at all. */
static void test_too_little_memory(void)
{
	struct stream streams[3] = {{.seed = 1}, {.seed = 2}, {.seed = 3}};
	const struct splice_config config = {.memory = BUFFER_POOL_MIN, .max_pipes = 1};
	struct pair pairs[3];
	struct bench b;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &config);
	for (int i = 0; i < 3; i++) {
		pairs[i] = bench_connect(&b);
		fill(&b, &streams[i], pairs[i].client, &last_flow(&b)->in);
		bench_pass(&b, NS_PER_SEC);
	}
	g_assert_cmpuint(b.splice->memory.large.n_free, <=, b.splice->memory.large.n_chunks);
	for (int i = 0; i < 3; i++)
		read_all(&b, &streams[i], pairs[i].server);
	for (int i = 0; i < 3; i++) {
		stream_pass(&b, &streams[i], pairs[i].client, pairs[i].server, 4 * MIB);
		pair_close(&b, &pairs[i]);
	}
	bench_done(&b);
}

/* Memory is used up altogether: what was looked at stays in the kernel until it is taken. */
static void test_no_memory(void)
{
	const struct splice_config config = {.memory = BUFFER_POOL_MIN};
	struct stream streams[64] = {{0}};
	struct pair pairs[64];
	struct bench b;
	size_t n = 0;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &config);
	/* Where the kernel takes all or nothing of a send, memory is left to the next. Four get
	 * none. */
	for (int n_without = 0; n_without < 4; n++) {
		g_assert_cmpuint(n, <, ARRAY_SIZE(pairs));
		n_without += buffer_pool_is_short(&b.splice->memory, BUFFER_UP);
		streams[n].seed = n;
		pairs[n] = bench_connect(&b);
		fill(&b, &streams[n], pairs[n].client, &last_flow(&b)->in);
	}
	for (size_t i = 0; i < n; i++) {
		/* The other way is none of theirs. */
		g_assert_cmpint(send(pairs[i].server, "x", 1, 0), ==, 1);
		expect_text(&b, pairs[i].client, "x");
	}
	for (size_t i = n; i-- > 0;) {
		read_all(&b, &streams[i], pairs[i].server);
		stream_pass(&b, &streams[i], pairs[i].client, pairs[i].server, MIB);
	}
	for (size_t i = 0; i < n; i++)
		pair_close(&b, &pairs[i]);
	bench_done(&b);
}

/* The pipe of one that is stuck is there for the next, at once. */
static void test_pipe_is_taken_over(void)
{
	const struct splice_config config = {.memory = 16 * MIB, .max_pipes = 1};
	struct stream stalled = {.seed = 1}, live = {.seed = 2};
	struct pair pairs[2];
	struct bench b;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &config);
	pairs[0] = bench_connect(&b);
	fill_pipe(&b, &stalled, &pairs[0], &first_flow(&b)->in);
	pairs[1] = bench_connect(&b);
	fill_pipe(&b, &live, &pairs[1], &last_flow(&b)->in);
	g_assert_cmpuint(b.counters.value[COUNTER_SPLICE_DRAINED], >, 0);
	g_assert_null(first_flow(&b)->in.pipe);
	read_all(&b, &live, pairs[1].server);
	read_all(&b, &stalled, pairs[0].server);
	pair_close(&b, &pairs[0]);
	pair_close(&b, &pairs[1]);
	bench_done(&b);
}

/* Ends while something waits: it still arrives, the end behind it. */
static void test_end_behind_stalled(void)
{
	const struct splice_config config = {.memory = 16 * MIB, .max_pipes = 1};
	struct stream stream = {.seed = 1};
	struct bench b;
	struct pair pair;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &config);
	pair = bench_connect(&b);
	fill(&b, &stream, pair.client, &first_flow(&b)->in);
	shutdown(pair.client, SHUT_WR);
	bench_settle(&b);
	bench_pass(&b, NS_PER_SEC);
	read_all(&b, &stream, pair.server);
	expect_end(&b, pair.server);
	pair_close(&b, &pair);
	bench_done(&b);
}

/* Small, or 2,000 of them would hold a gigabyte of the kernel's. */
static void shrink(int fd, int name)
{
	const int size = 65536;

	g_assert_cmpint(setsockopt(fd, SOL_SOCKET, name, &size, sizeof(size)), ==, 0);
}

/* Windows that hardly open. */
static void test_small_windows(void)
{
	const struct splice_config config = {.memory = 16 * MIB, .max_pipes = 1};
	struct stream stream = {.seed = 1};
	struct bench b;
	struct pair pair;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &config);
	shrink(b.listener, SO_SNDBUF);
	shrink(b.service, SO_RCVBUF);
	pair = bench_connect(&b);
	shrink(pair.client, SO_RCVBUF);
	fill(&b, &stream, pair.server, &first_flow(&b)->out);
	read_all(&b, &stream, pair.client);
	pair_close(&b, &pair);
	bench_done(&b);
}

static void raise_limit(void)
{
	struct rlimit limit;

	g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* As fill(), with nothing in it. */
static void fill_quickly(struct bench *b, int from, const struct way *way)
{
	static const char zeros[PIECE];

	bench_until(b,
		send(from, zeros, sizeof(zeros), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && is_stuck(way));
}

/* Many times the pipes. */
#define N_STALLED 200

/* Clients that never read, of a service that never stops: a request beside them is answered
 * within a few turns all the same. */
static void test_crowd(void)
{
	const struct splice_config config = {.memory = 16 * MIB, .max_pipes = 8, .max_flows = 4096};
	static struct pair pairs[N_STALLED];
	const size_t n = N_STALLED;
	struct bench b;
	struct pair live;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &config);
	shrink(b.listener, SO_SNDBUF);
	shrink(b.service, SO_RCVBUF);
	live = bench_connect(&b);
	for (size_t i = 0; i < n; i++) {
		pairs[i] = bench_connect(&b);
		shrink(pairs[i].client, SO_RCVBUF);
		fill_quickly(&b, pairs[i].server, &last_flow(&b)->out);
	}
	g_assert_cmpuint(b.usage->n_active, ==, n + 1);
	g_assert_cmpuint(b.splice->pipes.n_pipes, <=, 8);
	for (int i = 0; i < 100; i++) {
		b.n_busy = 0;
		g_assert_cmpint(send(live.client, "?", 1, MSG_NOSIGNAL), ==, 1);
		expect_text(&b, live.server, "?");
		g_assert_cmpint(send(live.server, "!", 1, MSG_NOSIGNAL), ==, 1);
		expect_text(&b, live.client, "!");
		g_assert_cmpint(b.n_busy, <=, 40);
	}
	for (size_t i = 0; i < n; i++) {
		fd_close(&pairs[i].client);
		fd_close(&pairs[i].server);
	}
	pair_close(&b, &live);
	bench_done(&b);
}

/* In a child: sends, and reads what comes, for ever. */
static pid_t start_peer(const struct pair *pair)
{
	pid_t pid = fork();

	if (pid == 0) {
		static char buf[PIECE];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			struct pollfd p[2] = {
				{pair->client, POLLOUT, 0}, {pair->server, POLLIN, 0}};

			poll(p, 2, -1);
			if (p[0].revents)
				(void)!send(pair->client, buf, sizeof(buf), MSG_DONTWAIT);
			if (p[1].revents)
				(void)!recv(pair->server, buf, sizeof(buf), MSG_DONTWAIT);
		}
	}
	return pid;
}

/* One that could go on for ever leaves the turn to the others, and comes again. */
static void test_budget(void)
{
	const struct splice_config config = {.memory = 16 * MIB, .max_pipes = 4};
	int64_t late_ns = clock_now_ns() + TIMEOUT_NS;
	struct bench b;
	struct pair pair;
	pid_t peer;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &config);
	pair = bench_connect(&b);
	peer = start_peer(&pair);
	while (b.usage->n_in_bytes < 512 * MIB && clock_now_ns() < late_ns) {
		uint64_t before = b.usage->n_in_bytes;

		g_assert_cmpint(loop_turn(&b.loop, 0, bench_dispatch, &b), >=, 0);
		splice_finish(b.splice);
		g_assert_cmpuint(b.usage->n_in_bytes - before, <=, 3 * MIB);
	}
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
	pair_close(&b, &pair);
	bench_done(&b);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	raise_limit();
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/splice-stall/pipe-is-drained", test_pipe_is_drained);
	g_test_add_func("/splice-stall/too-little-memory", test_too_little_memory);
	g_test_add_func("/splice-stall/no-memory", test_no_memory);
	g_test_add_func("/splice-stall/pipe-is-taken-over", test_pipe_is_taken_over);
	g_test_add_func("/splice-stall/end-behind-stalled", test_end_behind_stalled);
	g_test_add_func("/splice-stall/small-windows", test_small_windows);
	g_test_add_func("/splice-stall/crowd", test_crowd);
	g_test_add_func("/splice-stall/budget", test_budget);
	return g_test_run();
}
