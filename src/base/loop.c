/* SPDX-License-Identifier: Apache-2.0 */
#include "base/loop.h"

#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/util.h"

/* How many events one turn takes; the rest is still there in the next. */
#define LOOP_BATCH 128

int loop_init(struct loop *loop)
{
	*loop = (struct loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC), .now_ns = clock_now_ns()};
	return loop->epoll_fd < 0 ? -errno : 0;
}

void loop_done(struct loop *loop)
{
	fd_close(&loop->epoll_fd);
}

static int control(struct loop *loop, int op, int fd, uint32_t events, struct handle handle)
{
	struct epoll_event event = {.events = events, .data.u64 = handle_pack(handle)};

	return epoll_ctl(loop->epoll_fd, op, fd, &event) < 0 ? -errno : 0;
}

int loop_watch(struct loop *loop, int fd, uint32_t events, struct handle handle)
{
	return control(loop, EPOLL_CTL_ADD, fd, events, handle);
}

int loop_change(struct loop *loop, int fd, uint32_t events, struct handle handle)
{
	return control(loop, EPOLL_CTL_MOD, fd, events, handle);
}

int loop_unwatch(struct loop *loop, int fd)
{
	return control(loop, EPOLL_CTL_DEL, fd, 0, (struct handle){.kind = HANDLE_NONE});
}

/* Rounded up, so that a timer is not waited for twice. */
static int timeout_ms(int64_t until_ns, int64_t now_ns)
{
	int64_t left_ns = until_ns - now_ns;

	if (until_ns == CLOCK_NEVER)
		return -1;
	if (left_ns <= 0)
		return 0;
	return (int)MIN((left_ns + NS_PER_MS - 1) / NS_PER_MS, INT_MAX);
}

/* Returns the number of events or a negative errno. */
static int fetch(struct loop *loop, struct epoll_event *events, int timeout)
{
	int n = epoll_wait(loop->epoll_fd, events, LOOP_BATCH, timeout);

	if (n < 0)
		n = -errno;
	loop->now_ns = clock_now_ns();
	return n;
}

static int wait_until(struct loop *loop, struct epoll_event *events, int64_t until_ns)
{
	const int64_t began_ns = clock_now_ns();
	const int64_t look_until_ns = MIN(began_ns + busy_poll_ns(&loop->busy_poll), until_ns);
	int n = 0;

	loop->now_ns = began_ns;
	while (n == 0 && loop->now_ns < look_until_ns)
		n = fetch(loop, events, 0);
	if (n == 0)
		n = fetch(loop, events, timeout_ms(until_ns, loop->now_ns));
	busy_poll_learn(&loop->busy_poll, loop->now_ns - began_ns);
	return n;
}

int loop_wait(struct loop *loop, int64_t deadline_ns, loop_dispatch_fn *dispatch, void *owner)
{
	UNCLEARED struct epoll_event events[LOOP_BATCH];
	int64_t until_ns = MIN(deadline_ns, timer_heap_next(&loop->timers));
	int n = until_ns > loop->now_ns ? wait_until(loop, events, until_ns)
					: fetch(loop, events, 0);

	if (n < 0 && n != -EINTR)
		return n;
	for (int i = 0; i < n; i++)
		dispatch(owner, handle_unpack(events[i].data.u64), events[i].events);
	return MAX(n, 0);
}

void loop_expire(struct loop *loop)
{
	timer_heap_expire(&loop->timers, loop->now_ns);
}

int loop_turn(struct loop *loop, int64_t deadline_ns, loop_dispatch_fn *dispatch, void *owner)
{
	int n = loop_wait(loop, deadline_ns, dispatch, owner);

	if (n >= 0)
		loop_expire(loop);
	return n;
}
