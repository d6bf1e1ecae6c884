/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/util.h"

struct fixture {
	struct loop loop;

	/* What was dispatched. */
	unsigned int n;
	struct handle handle; /* the last */
	uint32_t events;

	struct timer timer;
	unsigned int n_when_fired; /* how many events were dispatched before it */
	int64_t fired_ns;
};

static void fire(struct timer *timer, int64_t now_ns)
{
	struct fixture *f = container_of(timer, struct fixture, timer);

	f->n_when_fired = f->n;
	f->fired_ns = now_ns;
}

static void set_up(struct fixture *f, gconstpointer unused)
{
	g_assert_cmpint(loop_init(&f->loop), ==, 0);
	f->timer.fire = fire;
}

static void tear_down(struct fixture *f, gconstpointer unused)
{
	g_assert_null(f->loop.timers.root);
	loop_done(&f->loop);
	g_assert_cmpint(f->loop.epoll_fd, ==, -1);
}

static void dispatch(void *owner, struct handle handle, uint32_t events)
{
	struct fixture *f = owner;

	f->n++;
	f->handle = handle;
	f->events = events;
}

static int turn(struct fixture *f)
{
	return loop_turn(&f->loop, 0, dispatch, f);
}

static int ready_fd(void)
{
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	g_assert_cmpint(fd, >=, 0);
	return fd;
}

/* Every field survives the way through epoll, at its largest. */
static void test_handle(struct fixture *f, gconstpointer unused)
{
	const struct handle handle = {
		.kind = 0xff, .generation = HANDLE_GENERATION_MASK, .index = UINT32_MAX};
	cleanup_fd int fd = ready_fd();

	g_assert_cmpint(loop_watch(&f->loop, fd, EPOLLIN, handle), ==, 0);
	g_assert_cmpint(turn(f), ==, 1);
	g_assert_cmpuint(f->n, ==, 1);
	g_assert_cmpuint(f->handle.kind, ==, handle.kind);
	g_assert_cmpuint(f->handle.generation, ==, handle.generation);
	g_assert_cmpuint(f->handle.index, ==, handle.index);
	g_assert_cmpuint(f->events, ==, EPOLLIN);
}

/* What does not fit into 24 bits does not spill into the kind. */
static void test_generation_wraps(struct fixture *f, gconstpointer unused)
{
	struct handle handle = handle_unpack(handle_pack((struct handle){
		.kind = HANDLE_LINK, .generation = HANDLE_GENERATION_MASK + 2, .index = 7}));

	g_assert_cmpuint(handle.kind, ==, HANDLE_LINK);
	g_assert_cmpuint(handle.generation, ==, 1);
	g_assert_cmpuint(handle.index, ==, 7);
}

static void test_change_and_unwatch(struct fixture *f, gconstpointer unused)
{
	cleanup_fd int fd = ready_fd();

	g_assert_cmpint(
		loop_watch(&f->loop, fd, EPOLLIN, (struct handle){.kind = HANDLE_LINK}), ==, 0);
	g_assert_cmpint(turn(f), ==, 1);
	g_assert_cmpint(turn(f), ==, 1); /* level-triggered */
	g_assert_cmpint(loop_change(&f->loop, fd, 0, (struct handle){.kind = HANDLE_LINK}), ==, 0);
	g_assert_cmpint(turn(f), ==, 0);
	g_assert_cmpint(
		loop_change(&f->loop, fd, EPOLLOUT, (struct handle){.kind = HANDLE_AGENT}), ==, 0);
	g_assert_cmpint(turn(f), ==, 1);
	g_assert_cmpuint(f->handle.kind, ==, HANDLE_AGENT);
	g_assert_cmpuint(f->events, ==, EPOLLOUT);
	g_assert_cmpint(loop_unwatch(&f->loop, fd), ==, 0);
	g_assert_cmpint(turn(f), ==, 0);
	g_assert_cmpuint(f->n, ==, 3);
}

static void test_errors(struct fixture *f, gconstpointer unused)
{
	const struct handle handle = {.kind = HANDLE_LINK};
	cleanup_fd int fd = ready_fd(), null = open("/dev/null", O_RDWR | O_CLOEXEC);

	g_assert_cmpint(loop_watch(&f->loop, -1, EPOLLIN, handle), ==, -EBADF);
	g_assert_cmpint(loop_watch(&f->loop, null, EPOLLIN, handle), ==, -EPERM);
	g_assert_cmpint(loop_change(&f->loop, fd, EPOLLIN, handle), ==, -ENOENT);
	g_assert_cmpint(loop_unwatch(&f->loop, fd), ==, -ENOENT);
	g_assert_cmpint(loop_watch(&f->loop, fd, EPOLLIN, handle), ==, 0);
	g_assert_cmpint(loop_watch(&f->loop, fd, EPOLLIN, handle), ==, -EEXIST);
}

/* ---- busy polling ---- */

#define WINDOW_NS (40 * NS_PER_MS / 1000)

/* How many such waits it takes until it looks, or no longer does; 0: it never happens. */
static unsigned int learn_until(struct busy_poll *poll, int64_t waited_ns, bool looks)
{
	for (unsigned int n = 0; n < 100000; n++) {
		if ((busy_poll_ns(poll) > 0) == looks)
			return n;
		busy_poll_learn(poll, waited_ns);
	}
	return 0;
}

static void test_busy_poll_learns(struct fixture *f, gconstpointer unused)
{
	struct busy_poll poll;
	unsigned int first, n;

	busy_poll_init(&poll, WINDOW_NS);
	g_assert_cmpint(busy_poll_ns(&poll), ==, 0);
	first = learn_until(&poll, WINDOW_NS, true);
	g_assert_cmpuint(first, >, 1);
	g_assert_cmpint(busy_poll_ns(&poll), ==, WINDOW_NS);
	/* a dialogue with a pause now and then */
	for (int i = 0; i < 1000; i++) {
		busy_poll_learn(&poll, i % 10 ? WINDOW_NS : NS_PER_SEC);
		g_assert_cmpint(busy_poll_ns(&poll), ==, WINDOW_NS);
	}
	/* and its end */
	n = learn_until(&poll, WINDOW_NS + 1, false);
	g_assert_cmpuint(n, >, 0);
	g_assert_cmpuint(n, <, 100);
}

/* Each time that it was wrong it takes more to convince it, until it was right for a while. */
static void test_busy_poll_doubts(struct fixture *f, gconstpointer unused)
{
	struct busy_poll poll;
	unsigned int first, before = 0, now = 0;

	busy_poll_init(&poll, WINDOW_NS);
	first = learn_until(&poll, WINDOW_NS, true);
	for (int i = 0; i < 20; i++) {
		g_assert_cmpuint(learn_until(&poll, WINDOW_NS + 1, false), >, 0);
		before = now;
		now = learn_until(&poll, WINDOW_NS + 1, true); /* short, had it slept */
		g_assert_cmpuint(now, >, first);
		g_assert_cmpuint(now, >=, before);
	}
	g_assert_cmpuint(now, ==, before); /* there is an end to it */
	for (int i = 0; i < 100; i++)
		busy_poll_learn(&poll, 0);
	g_assert_cmpuint(learn_until(&poll, NS_PER_SEC, false), >, 0);
	g_assert_cmpuint(learn_until(&poll, WINDOW_NS, true), <, before);
}

static void test_busy_poll_sleeps(struct fixture *f, gconstpointer unused)
{
	struct busy_poll poll;

	busy_poll_init(&poll, 0);
	g_assert_cmpuint(learn_until(&poll, 0, true), ==, 0);
	g_assert_cmpint(busy_poll_ns(&poll), ==, 0);
	busy_poll_init(&poll, WINDOW_NS);
	g_assert_cmpuint(learn_until(&poll, NS_PER_MS, true), ==, 0);
	g_assert_cmpint(busy_poll_ns(&poll), ==, 0);
}

/* While it looks, a turn has the same outcome: an event, a timer in time, or nothing. */
static void test_busy_poll_turns(struct fixture *f, gconstpointer unused)
{
	cleanup_fd int fd = ready_fd();
	int64_t before_ns = clock_now_ns();

	busy_poll_init(&f->loop.busy_poll, NS_PER_SEC);
	learn_until(&f->loop.busy_poll, 0, true);
	timer_arm(&f->loop.timers, &f->timer, before_ns + 5 * NS_PER_MS);
	g_assert_cmpint(loop_turn(&f->loop, CLOCK_NEVER, dispatch, f), ==, 0);
	g_assert_cmpint(f->fired_ns, >=, before_ns + 5 * NS_PER_MS);
	g_assert_cmpint(
		loop_watch(&f->loop, fd, EPOLLIN, (struct handle){.kind = HANDLE_LINK}), ==, 0);
	g_assert_cmpint(loop_turn(&f->loop, CLOCK_NEVER, dispatch, f), ==, 1);
	g_assert_cmpint(f->handle.kind, ==, HANDLE_LINK);
	g_assert_cmpint(busy_poll_ns(&f->loop.busy_poll), >, 0);
}

/* Hang-up is told without being asked for. */
static void test_hang_up(struct fixture *f, gconstpointer unused)
{
	int pair[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
	g_assert_cmpint(
		loop_watch(&f->loop, pair[0], 0, (struct handle){.kind = HANDLE_LINK}), ==, 0);
	g_assert_cmpint(turn(f), ==, 0);
	close(pair[1]);
	g_assert_cmpint(turn(f), ==, 1);
	g_assert_cmpuint(f->events & EPOLLHUP, ==, EPOLLHUP);
	close(pair[0]);
}

/* More than one turn takes: none is lost, none comes twice in a row before the others. */
static void test_many(struct fixture *f, gconstpointer unused)
{
	int fds[300], n;

	for (uint32_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = ready_fd();
		g_assert_cmpint(loop_watch(&f->loop, fds[i], EPOLLIN | EPOLLONESHOT,
					(struct handle){.kind = HANDLE_SLIRP, .index = i}),
			==, 0);
	}
	while ((n = turn(f)) > 0)
		g_assert_cmpint(n, <, ARRAY_SIZE(fds));
	g_assert_cmpint(n, ==, 0);
	g_assert_cmpuint(f->n, ==, ARRAY_SIZE(fds));
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

/* The wait ends when a timer is due, not before; the deadline that is given comes first if it is
 * earlier. */
static void test_timer(struct fixture *f, gconstpointer unused)
{
	int64_t due_ns = clock_now_ns() + 5 * NS_PER_MS;

	timer_arm(&f->loop.timers, &f->timer, due_ns);
	g_assert_cmpint(turn(f), ==, 0);
	g_assert_cmpint(f->fired_ns, ==, 0);
	g_assert_cmpint(loop_turn(&f->loop, CLOCK_NEVER, dispatch, f), ==, 0);
	g_assert_cmpint(f->fired_ns, >=, due_ns);
	g_assert_cmpint(f->fired_ns, ==, f->loop.now_ns);

	due_ns = clock_now_ns() + 5 * NS_PER_MS;
	timer_arm(&f->loop.timers, &f->timer, CLOCK_NEVER - 1);
	g_assert_cmpint(loop_turn(&f->loop, due_ns, dispatch, f), ==, 0);
	g_assert_cmpint(f->loop.now_ns, >=, due_ns);
	g_assert_true(timer_is_armed(&f->timer));
	timer_cancel(&f->loop.timers, &f->timer);
}

/* In one turn the events come first: what they tell may be what a timer waits for. */
static void test_order(struct fixture *f, gconstpointer unused)
{
	cleanup_fd int fd = ready_fd();

	g_assert_cmpint(
		loop_watch(&f->loop, fd, EPOLLIN, (struct handle){.kind = HANDLE_LINK}), ==, 0);
	timer_arm(&f->loop.timers, &f->timer, f->loop.now_ns);
	f->n_when_fired = UINT_MAX;
	g_assert_cmpint(loop_turn(&f->loop, CLOCK_NEVER, dispatch, f), ==, 1);
	g_assert_cmpuint(f->n_when_fired, ==, 1);
	g_assert_cmpuint(f->n, ==, 1);
}

static void on_alarm(int unused)
{
}

/* A signal ends the wait and is no error. */
static void test_signal(struct fixture *f, gconstpointer unused)
{
	struct sigaction action = {.sa_handler = on_alarm}, old;
	/* Again and again, for the case that the first comes before the wait. */
	struct itimerval timer = {{0, 5000}, {0, 5000}}, off = {{0, 0}, {0, 0}};

	g_assert_cmpint(sigaction(SIGALRM, &action, &old), ==, 0);
	g_assert_cmpint(setitimer(ITIMER_REAL, &timer, NULL), ==, 0);
	g_assert_cmpint(loop_turn(&f->loop, CLOCK_NEVER, dispatch, f), ==, 0);
	g_assert_cmpint(setitimer(ITIMER_REAL, &off, NULL), ==, 0);
	g_assert_cmpint(sigaction(SIGALRM, &old, NULL), ==, 0);
}

static void test_broken_loop(struct fixture *f, gconstpointer unused)
{
	loop_done(&f->loop);
	g_assert_cmpint(turn(f), ==, -EBADF);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define TEST(name, function) \
	g_test_add("/loop/" name, struct fixture, NULL, set_up, function, tear_down)
	TEST("handle", test_handle);
	TEST("generation-wraps", test_generation_wraps);
	TEST("change-and-unwatch", test_change_and_unwatch);
	TEST("errors", test_errors);
	TEST("busy-poll-learns", test_busy_poll_learns);
	TEST("busy-poll-doubts", test_busy_poll_doubts);
	TEST("busy-poll-sleeps", test_busy_poll_sleeps);
	TEST("busy-poll-turns", test_busy_poll_turns);
	TEST("hang-up", test_hang_up);
	TEST("many", test_many);
	TEST("timer", test_timer);
	TEST("order", test_order);
	TEST("signal", test_signal);
	TEST("broken-loop", test_broken_loop);
	return g_test_run();
}
