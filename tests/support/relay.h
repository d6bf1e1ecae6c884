/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For unit tests: the relay's part beside an agent, its loop and its client.
 */
#pragma once

#include <glib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/client.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/util.h"

/* A relay's part: an agent (or who plays it) and the client that asks it. */
struct relay {
	struct agent_process agent;
	struct tapdev tap;
	struct loop loop;
	struct counters counters;
	struct agent_client client;
	int n_lost; /* how often agent_client_ready() said so */
};

/* What became of the requests. */
struct answers {
	int n;
	int last_fd; /* closed, when it was a descriptor */
	int n_of[8]; /* by cookie */
	void (*look)(struct answers *answers, int fd);
	ino_t netns;
	bool sent_is_over; /* `done` may be called */
};

static const struct agent_socket tcp4 = {AF_INET, SOCK_STREAM, 0};

static inline void done(void *owner, uint64_t cookie, int fd)
{
	struct answers *answers = owner;

	g_assert_true(answers->sent_is_over);
	answers->n++;
	answers->n_of[cookie]++;
	answers->last_fd = fd;
	if (fd >= 0 && answers->look)
		answers->look(answers, fd);
	if (fd >= 0)
		close(fd);
}

static inline int ask(struct relay *relay, struct answers *answers, const struct agent_socket *what,
	uint64_t cookie)
{
	int r;

	answers->sent_is_over = false;
	r = agent_client_socket(&relay->client, what, done, answers, cookie);
	answers->sent_is_over = true;
	return r;
}

static inline void dispatch(void *owner, struct handle handle, uint32_t events)
{
	struct relay *relay = owner;
	int r;

	g_assert_cmpint(handle.kind, ==, HANDLE_AGENT);
	r = agent_client_ready(&relay->client);
	if (r < 0) {
		g_assert_cmpint(r, ==, -EPIPE);
		relay->n_lost++;
	}
}

static inline void turn_until(struct relay *relay, const struct answers *answers, int n)
{
	while (answers->n < n)
		g_assert_cmpint(loop_turn(&relay->loop, CLOCK_NEVER, dispatch, relay), >=, 0);
	g_assert_cmpint(answers->n, ==, n);
}

static inline int ask_and_wait(struct relay *relay, const struct agent_socket *what)
{
	struct answers answers = {0};

	g_assert_cmpint(ask(relay, &answers, what, 0), ==, 0);
	turn_until(relay, &answers, 1);
	return answers.last_fd;
}

static inline int ask_resolv_conf(struct relay *relay, struct answers *answers)
{
	int r;

	answers->sent_is_over = false;
	r = agent_client_resolv_conf(&relay->client, done, answers, 0);
	answers->sent_is_over = true;
	return r;
}

static inline void relay_init(struct relay *relay)
{
	g_assert_cmpint(loop_init(&relay->loop), ==, 0);
	g_assert_cmpint(agent_client_init(
				&relay->client, relay->agent.sock, &relay->loop, &relay->counters),
		==, 0);
}

static inline void relay_done(struct relay *relay)
{
	agent_client_done(&relay->client);
	g_assert_null(relay->loop.timers.root);
	agent_stop(&relay->agent);
	g_assert_cmpint(relay->agent.sock, ==, -1);
	loop_done(&relay->loop);
	fd_close(&relay->tap.fd);
}

static inline void assert_exits(pid_t pid, int expected)
{
	int status;

	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_true(WIFEXITED(status));
	g_assert_cmpint(WEXITSTATUS(status), ==, expected);
}
