/* SPDX-License-Identifier: Apache-2.0 */
/* How a dial ends: in a connection with all that the client said meanwhile, in a refusal, or in
 * another way. */
#include "splice-fixture.h"

#include <arpa/inet.h>

static const struct splice_config usual = {.memory = 1024 * 1024, .max_pipes = 4};

/* The client was given back with what it has said unread, and works. */
static void expect_fall_back(struct bench *b, int client, int error)
{
	bench_until(b, b->n_fell_back == 1);
	g_assert_cmpint(b->fall_back_error, ==, error);
	g_assert_cmpuint(b->usage->n_refused, ==, 0);
	g_assert_cmpuint(b->usage->n_opened, ==, 0);
	g_assert_cmpuint(b->splice->table.n_flows, ==, 0);
	expect_text(b, b->fell_back, "early");
	g_assert_cmpint(send(b->fell_back, "x", 1, 0), ==, 1);
	expect_text(b, client, "x");
	/* Nobody watches it any more. */
	g_assert_cmpint(send(client, "x", 1, 0), ==, 1);
	g_assert_cmpint(loop_turn(&b->loop, 0, bench_dispatch, b), ==, 0);
	fd_close(&b->fell_back);
}

/* ---- the client is early ---- */

static void early(enum side_kind client_kind, enum side_kind guest_kind, bool wait_for_socket)
{
	struct bench b;
	int client, server;

	bench_init(&b, client_kind, guest_kind, &usual);
	b.mode = wait_for_socket ? SOURCE_WAITS : SOURCE_MAKES;
	client = bench_arrive(&b);
	g_assert_cmpint(send(client, "early", 5, 0), ==, 5);
	shutdown(client, SHUT_WR);
	bench_settle(&b);
	if (wait_for_socket && guest_kind == SIDE_UNIX)
		source_answer_late(&b, connect_to(b.service));
	else if (wait_for_socket)
		source_answer_late(&b,
			socket(b.dial.guest.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
	bench_until(&b, b.usage->n_opened == 1);
	server = accept_now(b.service);
	expect_text(&b, server, "early");
	expect_end(&b, server);
	g_assert_cmpint(send(server, "late", 4, 0), ==, 4);
	close(server);
	bench_settle(&b);
	expect_text(&b, client, "late");
	expect_end(&b, client);
	close(client);
	bench_done(&b);
}

static void test_early(void)
{
	for (int i = 0; i < 2; i++) {
		early(SIDE_TCP4, SIDE_TCP4, i);
		early(SIDE_TCP6, SIDE_TCP4, i);
		early(SIDE_UNIX, SIDE_TCP6, i);
		early(SIDE_TCP4, SIDE_UNIX, i);
	}
}

/* The service speaks first, as those of mail do. */
static void test_server_speaks_first(void)
{
	struct bench b;
	struct pair pair;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	pair = bench_connect(&b);
	g_assert_cmpint(send(pair.server, "220", 3, 0), ==, 3);
	bench_settle(&b);
	expect_text(&b, pair.client, "220");
	pair_close(&b, &pair);
	bench_done(&b);
}

static void expect_options(int fd)
{
	static const struct {
		int level, name;
	} options[] = {
		{IPPROTO_TCP, TCP_NODELAY}, {SOL_SOCKET, SO_KEEPALIVE}, {SOL_SOCKET, SO_OOBINLINE}};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		int on = 0;
		socklen_t len = sizeof(on);

		g_assert_cmpint(
			getsockopt(fd, options[i].level, options[i].name, &on, &len), ==, 0);
		g_assert_cmpint(on, ==, 1);
	}
}

static void test_options(void)
{
	struct splice_flow *flow;
	struct bench b;
	struct pair pair;

	bench_init(&b, SIDE_TCP4, SIDE_TCP6, &usual);
	pair = bench_connect(&b);
	flow = (struct splice_flow *)(void *)flow_table_any(&b.splice->table);
	expect_options(flow->near.fd);
	expect_options(flow->far.fd);
	pair_close(&b, &pair);
	bench_done(&b);
}

/* ---- it fails ---- */

static void test_refused(void)
{
	static const enum side_kind kinds[] = {SIDE_TCP4, SIDE_TCP6};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct bench b;
		int client;

		bench_init(&b, SIDE_TCP4, kinds[i], &usual);
		fd_close(&b.service);
		client = bench_arrive(&b);
		expect_reset(&b, client);
		g_assert_cmpint(b.n_fell_back, ==, 0);
		g_assert_cmpuint(b.usage->n_refused, ==, 1);
		g_assert_cmpuint(b.usage->n_opened, ==, 0);
		close(client);
		bench_done(&b);
	}
}

/* Not before splice_open() has returned. */
static void no_socket(bool late, int error)
{
	struct bench b;
	int client;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	b.mode = late ? SOURCE_WAITS : SOURCE_FAILS;
	b.error = error;
	client = bench_arrive(&b);
	g_assert_cmpint(send(client, "early", 5, 0), ==, 5);
	if (late) {
		bench_settle(&b);
		source_answer_late(&b, error);
	}
	g_assert_cmpint(b.n_fell_back, ==, 0);
	bench_settle(&b);
	expect_fall_back(&b, client, error);
	close(client);
	bench_done(&b);
}

static void test_no_socket(void)
{
	no_socket(false, -EPIPE);
	no_socket(true, -EPIPE);
	no_socket(true, -EMFILE);
}

/* There is nothing else for it. */
static void test_no_fall_back(void)
{
	for (int i = 0; i < 2; i++) {
		struct bench b;
		int client;

		bench_init(&b, SIDE_TCP4, i ? SIDE_UNIX : SIDE_TCP4, &usual);
		b.mode = SOURCE_FAILS;
		b.error = -EPIPE;
		if (!i)
			b.dial.fall_back = NULL;
		client = bench_arrive(&b);
		expect_reset(&b, client);
		g_assert_cmpint(b.n_fell_back, ==, 0);
		g_assert_cmpuint(b.usage->n_refused, ==, 1);
		close(client);
		bench_done(&b);
	}
}

/* Who would take it has gone. */
static void test_forget(void)
{
	struct bench b;
	int client, other;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	b.mode = SOURCE_WAITS;
	other = bench_arrive(&b);
	b.dial.owner = &other; /* somebody else */
	client = bench_arrive(&b);
	splice_forget(b.splice, &other);
	source_answer_late(&b, -EPIPE);
	bench_settle(&b);
	expect_reset(&b, client);
	expect_open(&b, other);
	g_assert_cmpint(b.n_fell_back, ==, 0);
	bench_pass(&b, SPLICE_DIAL_NS);
	g_assert_cmpint(b.n_fell_back, ==, 1);
	fd_close(&b.fell_back);
	close(client);
	close(other);
	bench_done(&b);
}

/* The backlog is full, so that nobody answers, as with a loopback that is down. */
static void test_timeout(void)
{
	struct bench b;
	int client, queued;
	int64_t late_ns;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	g_assert_cmpint(listen(b.service, 0), ==, 0);
	queued = connect_to(b.service);
	late_ns = b.loop.now_ns + SPLICE_DIAL_NS;
	client = bench_arrive(&b);
	g_assert_cmpint(send(client, "early", 5, 0), ==, 5);
	bench_settle(&b);
	g_assert_cmpint(timer_heap_next(&b.loop.timers), ==, late_ns);
	bench_pass(&b, late_ns - b.loop.now_ns - 1);
	g_assert_cmpint(b.n_fell_back, ==, 0);
	g_assert_cmpuint(b.splice->table.n_flows, ==, 1);
	bench_pass(&b, 1);
	expect_fall_back(&b, client, -ETIMEDOUT);
	close(queued);
	close(client);
	bench_done(&b);
}

/* An agent that never answers, and does so too late. */
static void test_source_timeout(void)
{
	struct bench b;
	int client;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	b.mode = SOURCE_WAITS;
	client = bench_arrive(&b);
	g_assert_cmpint(send(client, "early", 5, 0), ==, 5);
	bench_settle(&b);
	bench_pass(&b, SPLICE_DIAL_NS);
	expect_fall_back(&b, client, -ETIMEDOUT);
	source_answer_late(&b, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	close(client);
	bench_done(&b);
}

/* The time that the agent took is not the container's. */
static void test_slow_source(void)
{
	struct bench b;
	int client, queued;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	g_assert_cmpint(listen(b.service, 0), ==, 0);
	queued = connect_to(b.service);
	b.mode = SOURCE_WAITS;
	client = bench_arrive(&b);
	g_assert_cmpint(send(client, "early", 5, 0), ==, 5);
	bench_settle(&b);
	b.loop.now_ns += SPLICE_DIAL_NS;
	/* Both in one turn. */
	timer_heap_expire(&b.loop.timers, b.loop.now_ns);
	source_answer_late(&b, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	splice_finish(b.splice);
	g_assert_cmpint(b.n_fell_back, ==, 0);
	bench_pass(&b, SPLICE_DIAL_NS);
	expect_fall_back(&b, client, -ETIMEDOUT);
	close(queued);
	close(client);
	bench_done(&b);
}

/* The connection stands, but a busy turn takes 128 events, and its own was not among them. */
static void test_late_event(void)
{
	struct bench b;
	struct pair pair;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	pair.client = bench_arrive(&b);
	pair.server = accept_now(b.service);
	b.loop.now_ns += SPLICE_DIAL_NS;
	timer_heap_expire(&b.loop.timers, b.loop.now_ns);
	splice_finish(b.splice);
	g_assert_cmpint(b.n_fell_back, ==, 0);
	g_assert_cmpuint(b.usage->n_active, ==, 1);
	g_assert_cmpint(send(pair.client, "a", 1, 0), ==, 1);
	expect_text(&b, pair.server, "a");
	g_assert_cmpint(send(pair.server, "b", 1, 0), ==, 1);
	expect_text(&b, pair.client, "b");
	pair_close(&b, &pair);
	bench_done(&b);
}

/* Who was not let in yet has no connection that could have ended. */
static void test_stop_dialling(void)
{
	struct bench b;
	int client;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	b.mode = SOURCE_WAITS;
	client = bench_arrive(&b);
	bench_settle(&b);
	splice_stop(b.splice);
	expect_reset(&b, client);
	source_answer_late(&b, -EPIPE);
	close(client);
	bench_done(&b);
}

static void no_route(void *arg)
{
	struct bench b;
	int client;

	g_assert_cmpint(system("exec ip link set lo up"), ==, 0);
	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	inet_pton(AF_INET, "192.0.2.1", &b.dial.guest.in6.s6_addr[12]);
	client = bench_arrive(&b);
	g_assert_cmpint(send(client, "early", 5, 0), ==, 5);
	bench_settle(&b);
	expect_fall_back(&b, client, -ENETUNREACH);
	close(client);
	bench_done(&b);
}

static void test_no_route(void)
{
	struct container c;

	if (!container_start(&c))
		return;
	run_in(&c, no_route, NULL);
	container_stop(&c);
}

/* ---- the client goes, or is too much ---- */

static void test_client_resets(void)
{
	for (int i = 0; i < 2; i++) {
		struct bench b;
		int client;

		bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
		b.mode = SOURCE_WAITS;
		client = bench_arrive(&b);
		reset_now(&client);
		if (i)
			bench_until(&b, b.splice->table.n_flows == 0);
		source_answer_late(
			&b, socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
		bench_until(&b, b.splice->table.n_flows == 0);
		g_assert_cmpint(b.n_fell_back, ==, 0);
		bench_done(&b);
	}
}

static void test_too_many(void)
{
	struct splice_config config = usual;
	struct bench b;
	struct pair pair, other;
	int client;

	config.max_flows = 1;
	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &config);
	pair = bench_connect(&b);
	client = connect_to(b.listener);
	b.dial.fd = accept_now(b.listener);
	g_assert_cmpint(splice_open(b.splice, &b.dial), ==, -EMFILE);
	g_assert_cmpuint(b.usage->n_refs, ==, 2);
	close(b.dial.fd); /* it is still ours */
	close(client);
	pair_close(&b, &pair);
	other = bench_connect(&b);
	pair_close(&b, &other);
	bench_done(&b);
}

static void test_reset_all_dials(void)
{
	struct bench b;
	int client;

	bench_init(&b, SIDE_TCP4, SIDE_TCP4, &usual);
	b.mode = SOURCE_WAITS;
	client = bench_arrive(&b);
	splice_reset_all(b.splice, b.usage);
	expect_reset(&b, client);
	splice_finish(b.splice);
	source_answer_late(&b, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	g_assert_cmpint(b.n_fell_back, ==, 0);
	close(client);
	bench_done(&b);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/splice-dial/early", test_early);
	g_test_add_func("/splice-dial/server-speaks-first", test_server_speaks_first);
	g_test_add_func("/splice-dial/options", test_options);
	g_test_add_func("/splice-dial/refused", test_refused);
	g_test_add_func("/splice-dial/no-socket", test_no_socket);
	g_test_add_func("/splice-dial/no-fall-back", test_no_fall_back);
	g_test_add_func("/splice-dial/forget", test_forget);
	g_test_add_func("/splice-dial/timeout", test_timeout);
	g_test_add_func("/splice-dial/source-timeout", test_source_timeout);
	g_test_add_func("/splice-dial/slow-source", test_slow_source);
	g_test_add_func("/splice-dial/late-event", test_late_event);
	g_test_add_func("/splice-dial/stop", test_stop_dialling);
	g_test_add_func("/splice-dial/no-route", test_no_route);
	g_test_add_func("/splice-dial/client-resets", test_client_resets);
	g_test_add_func("/splice-dial/too-many", test_too_many);
	g_test_add_func("/splice-dial/reset-all", test_reset_all_dials);
	return g_test_run();
}
