/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>
#include <sys/epoll.h>

#include "slirp/interest.h"
#include "tests/support/fake_host.h"

struct fixture {
	struct fake_host host;
	struct counters counters;
	struct interest interest;
};

static void set_up(struct fixture *f, gconstpointer unused)
{
	fake_host_init(&f->host);
	f->counters = (struct counters){0};
	interest_init(&f->interest, &f->host.host, &f->counters);
}

static void tear_down(struct fixture *f, gconstpointer unused)
{
	interest_done(&f->interest);
	for (int fd = 0; fd < FAKE_HOST_FDS; fd++)
		g_assert_false(f->host.fd[fd].is_watched);
}

/* One list of libslirp's; the descriptors end with -1. */
static void list(struct fixture *f, uint32_t events, const int *fds)
{
	interest_begin(&f->interest);
	for (; *fds >= 0; fds++)
		g_assert_nonnull(interest_want(&f->interest, *fds, events));
	interest_end(&f->interest);
}

#define LIST(f, events, ...) list(f, events, (const int[]){__VA_ARGS__, -1})

static void test_only_differences(struct fixture *f, gconstpointer unused)
{
	LIST(f, EPOLLIN, 5, 6, 7);
	g_assert_cmpint(f->host.n_calls, ==, 3);
	LIST(f, EPOLLIN, 7, 5, 6);
	g_assert_cmpint(f->host.n_calls, ==, 3);
	LIST(f, EPOLLIN, 5, 7);
	g_assert_cmpint(f->host.n_calls, ==, 4);
	g_assert_false(f->host.fd[6].is_watched);
	LIST(f, EPOLLOUT, 5, 7);
	g_assert_cmpint(f->host.n_calls, ==, 6);
	g_assert_cmpuint(f->host.fd[5].events, ==, EPOLLOUT);
}

static void test_event_is_seen_once(struct fixture *f, gconstpointer unused)
{
	LIST(f, EPOLLIN, 5);
	interest_ready(&f->interest, f->host.fd[5].handle, EPOLLIN);
	interest_ready(&f->interest, f->host.fd[5].handle, EPOLLHUP);
	g_assert_cmpuint(interest_find(&f->interest, 5)->ready, ==, EPOLLIN | EPOLLHUP);
	LIST(f, EPOLLIN, 5);
	g_assert_cmpuint(interest_find(&f->interest, 5)->ready, ==, 0);
}

/* The number of a closed socket goes to a new one between two events of the same batch. */
static void test_stale_event(struct fixture *f, gconstpointer unused)
{
	struct handle old;

	interest_opened(&f->interest, 5);
	LIST(f, EPOLLIN, 5);
	old = f->host.fd[5].handle;
	interest_closed(&f->interest, 5);
	fake_host_close(&f->host, 5);
	interest_opened(&f->interest, 5);
	LIST(f, EPOLLIN, 5);
	interest_ready(&f->interest, old, EPOLLIN);
	g_assert_cmpuint(interest_find(&f->interest, 5)->ready, ==, 0);
	interest_ready(&f->interest, f->host.fd[5].handle, EPOLLIN);
	g_assert_cmpuint(interest_find(&f->interest, 5)->ready, ==, EPOLLIN);
	g_assert_cmpuint(f->counters.value[COUNTER_WATCH_REPAIRED], ==, 0);
}

/* Closed and opened again without a word: epoll has forgotten what we believe is watched. */
static void test_repaired_enoent(struct fixture *f, gconstpointer unused)
{
	LIST(f, EPOLLIN, 5);
	fake_host_close(&f->host, 5);
	LIST(f, EPOLLOUT, 5);
	g_assert_true(f->host.fd[5].is_watched);
	g_assert_cmpuint(f->host.fd[5].events, ==, EPOLLOUT);
	g_assert_cmpuint(f->counters.value[COUNTER_WATCH_REPAIRED], ==, 1);
}

static void test_repaired_eexist(struct fixture *f, gconstpointer unused)
{
	f->host.fd[5].is_watched = true;
	LIST(f, EPOLLIN, 5);
	g_assert_cmpuint(f->host.fd[5].events, ==, EPOLLIN);
	g_assert_cmpuint(f->counters.value[COUNTER_WATCH_REPAIRED], ==, 1);
	LIST(f, EPOLLIN, 5);
	g_assert_cmpuint(f->counters.value[COUNTER_WATCH_REPAIRED], ==, 1);
}

/* Opened twice and closed never in between: the old watch went with the old socket. */
static void test_number_came_back(struct fixture *f, gconstpointer unused)
{
	interest_opened(&f->interest, 5);
	LIST(f, EPOLLIN, 5);
	fake_host_close(&f->host, 5);
	interest_opened(&f->interest, 5);
	g_assert_cmpuint(f->interest.n_open, ==, 1);
	LIST(f, EPOLLIN, 5);
	g_assert_true(f->host.fd[5].is_watched);
	g_assert_cmpuint(f->counters.value[COUNTER_WATCH_REPAIRED], ==, 0);
}

static void test_counts_open(struct fixture *f, gconstpointer unused)
{
	interest_opened(&f->interest, 5);
	interest_opened(&f->interest, 9);
	LIST(f, EPOLLIN, 5, 9, 10); /* 10: a listener, of which libslirp did not tell */
	g_assert_cmpuint(f->interest.n_open, ==, 3);
	interest_closed(&f->interest, 10);
	interest_closed(&f->interest, 9);
	interest_closed(&f->interest, 200);
	fake_host_close(&f->host, 9);
	fake_host_close(&f->host, 10);
	g_assert_cmpuint(f->interest.n_open, ==, 1);
	LIST(f, EPOLLIN, 5);
	g_assert_cmpuint(f->interest.n_enrolled, ==, 1);
}

static void test_unsent(struct fixture *f, gconstpointer unused)
{
	LIST(f, EPOLLOUT, 5);
	g_assert_false(interest_any_unsent(&f->interest));
	f->host.fd[5].is_connected = true;
	g_assert_true(interest_any_unsent(&f->interest));
	LIST(f, EPOLLIN, 5);
	g_assert_false(interest_any_unsent(&f->interest));
}

static void test_strange_descriptors(struct fixture *f, gconstpointer unused)
{
	g_assert_null(interest_want(&f->interest, -1, EPOLLIN));
	g_assert_null(interest_find(&f->interest, -1));
	g_assert_null(interest_find(&f->interest, 1000000));
	interest_ready(&f->interest, (struct handle){.index = 1000000}, EPOLLIN);
	interest_opened(&f->interest, -1);
	interest_closed(&f->interest, -1);
	g_assert_cmpuint(f->interest.n_open, ==, 0);
}

#define ADD(name, fn) g_test_add("/interest/" name, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	ADD("only-differences", test_only_differences);
	ADD("event-is-seen-once", test_event_is_seen_once);
	ADD("stale-event", test_stale_event);
	ADD("repaired-enoent", test_repaired_enoent);
	ADD("repaired-eexist", test_repaired_eexist);
	ADD("number-came-back", test_number_came_back);
	ADD("counts-open", test_counts_open);
	ADD("unsent", test_unsent);
	ADD("strange-descriptors", test_strange_descriptors);
	return g_test_run();
}
