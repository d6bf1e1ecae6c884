/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published ports over TCP, with real listeners in a namespace of their own. The two paths and
 * datagrams are played by the test: it notes whom it was given, and closes or resets them itself.
 * Time is the loop's, which the test moves.
 */
#pragma once

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/util.h"
#include "host/hostsock.h"
#include "publish/internal.h"
#include "tests/support/container.h"
#include "tests/support/interfaces.h"

#define GUEST      "10.0.2.100"
#define GUEST6     "fd00::64"
#define OURS4      "192.0.2.1" /* on lo: a client there is not local */
#define OURS6      "2001:db8::1"

#define TIMEOUT_NS (30 * NS_PER_SEC)
#define GIVEN_MAX  512

/* Whom a path was given. */
struct given {
	bool is_splice;
	struct tcp_arrival arrival;
	struct splice_dial dial;
};

static struct fixture {
	struct loop loop;
	struct hostsock hostsock;
	struct host_ops ops; /* of the real host, which a test may change */
	struct counters counters;
	struct policy policy;
	struct publish *publish;
	struct forward_backend *backend;
	struct given given[GIVEN_MAX];
	size_t n_given;
	int path_error; /* what the paths answer */
	int n_reset_tap, n_reset_splice, n_forgotten;
	bool has_guest6;
	int64_t now_ns; /* how far the test has slept */
	int n_fds_before;
} f;

/* ---- what the test plays ---- */

static void take(const struct given *given)
{
	g_assert_cmpuint(f.n_given, <, GIVEN_MAX);
	f.given[f.n_given++] = *given;
}

int tcpflow_arrive(struct tcpflow *tcpflow, const struct tcp_arrival *arrival)
{
	if (f.path_error == 0)
		take(&(struct given){.arrival = *arrival});
	return f.path_error;
}

int splice_open(struct splice *splice, const struct splice_dial *dial)
{
	if (f.path_error == 0)
		take(&(struct given){.is_splice = true, .dial = *dial});
	return f.path_error;
}

void tcpflow_reset_all(struct tcpflow *tcpflow, const struct usage *usage)
{
	f.n_reset_tap++;
}

void splice_reset_all(struct splice *splice, const struct usage *usage)
{
	f.n_reset_splice++;
}

void splice_forget(struct splice *splice, const void *owner)
{
	f.n_forgotten++;
}

struct publish_udp *publish_udp_new(struct publish *publish)
{
	return (struct publish_udp *)publish;
}

void publish_udp_free(struct publish_udp *udp)
{
}

int publish_udp_bind(struct published *published, struct forward_failure *ret_failure)
{
	return 0;
}

void publish_udp_unbind(struct published *published)
{
}

void publish_udp_status(const struct published *published, struct forward_status *ret)
{
}

void publish_udp_ready(struct publish_udp *udp, struct handle handle, uint32_t events)
{
}

void publish_udp_neighbor(
	struct publish_udp *udp, const struct ip_addr *addr, const struct eth_addr *mac)
{
}

bool publish_udp_finish(struct publish_udp *udp)
{
	return false;
}

/* ---- the fixture ---- */

static bool fixture_guest6(void *arg, struct in6_addr *ret)
{
	inet_pton(AF_INET6, GUEST6, ret);
	return f.has_guest6;
}

static void fixture_policy(struct policy *policy)
{
	*policy = (struct policy){.ipv6 = true, .host_loopback = true, .dns_enabled = true};
	inet_pton(AF_INET, "10.0.2.0", &policy->network);
	inet_pton(AF_INET, "255.255.255.0", &policy->netmask);
	inet_pton(AF_INET, "10.0.2.2", &policy->gateway);
	inet_pton(AF_INET, "10.0.2.3", &policy->dns);
	inet_pton(AF_INET, GUEST, &policy->guest);
	inet_pton(AF_INET6, "fd00::2", &policy->gateway6);
	inet_pton(AF_INET6, "fd00::3", &policy->dns6);
}

/* `sockets` NULL: there is no namespace. */
static void fixture_start(struct socket_source *sockets)
{
	static int nobody;
	struct publish_config config = {
		.policy = &f.policy,
		.host = &f.hostsock.host,
		.loop = &f.loop,
		.counters = &f.counters,
		.tcpflow = (struct tcpflow *)(void *)&nobody,
		.splice = sockets ? (struct splice *)(void *)&nobody : NULL,
		.sockets = sockets,
		.max_fd = INT_MAX,
		.guest6 = fixture_guest6,
	};

	f = (struct fixture){.n_fds_before = count_fds(), .has_guest6 = true};
	fixture_policy(&f.policy);
	g_assert_cmpint(loop_init(&f.loop), ==, 0);
	hostsock_init(&f.hostsock, &f.loop, 0);
	f.ops = *f.hostsock.host.ops;
	f.hostsock.host.ops = &f.ops;
	f.publish = publish_new(&config);
	g_assert_nonnull(f.publish);
	f.backend = publish_backend(f.publish);
}

static void fixture_forget_given(void)
{
	for (size_t i = 0; i < f.n_given; i++)
		close(f.given[i].is_splice ? f.given[i].dial.fd : f.given[i].arrival.fd);
	f.n_given = 0;
}

static void fixture_stop(void)
{
	fixture_forget_given();
	publish_free(f.publish);
	g_assert_null(f.loop.timers.root);
	hostsock_done(&f.hostsock);
	loop_done(&f.loop);
	g_assert_cmpint(count_fds(), ==, f.n_fds_before);
}

static void fixture_dispatch(void *owner, struct handle handle, uint32_t events)
{
	g_assert_cmpint(handle.kind, ==, HANDLE_PUBLISH);
	publish_ready(f.publish, handle, events);
}

/* One turn without waiting. Returns whether there is more to do at once. */
static bool fixture_turn(void)
{
	g_assert_cmpint(loop_turn(&f.loop, 0, fixture_dispatch, NULL), >=, 0);
	return publish_finish(f.publish);
}

/* Until so many clients were given to the paths; there are no more then. */
static void fixture_expect_given(size_t n)
{
	const int64_t until_ns = clock_now_ns() + TIMEOUT_NS;

	while (f.n_given < n) {
		g_assert_cmpint(clock_now_ns(), <, until_ns);
		g_assert_cmpint(
			loop_turn(&f.loop, clock_now_ns() + 10 * NS_PER_MS, fixture_dispatch, NULL),
			>=, 0);
		publish_finish(f.publish);
	}
	fixture_turn();
	g_assert_cmpuint(f.n_given, ==, n);
}

/* The timers of so much later fire. Real time, which each turn brings back, does not catch up. */
static void fixture_sleep(int64_t ns)
{
	f.now_ns = MAX(f.now_ns, f.loop.now_ns) + ns;
	f.loop.now_ns = f.now_ns;
	timer_heap_expire(&f.loop.timers, f.loop.now_ns);
}

/* ---- rules ---- */

static struct forward_rule rule_of(const char *host, uint16_t port, uint16_t n_ports)
{
	return (struct forward_rule){
		.spec = {.host_addr = addr_of(host),
			.host_port = port,
			.guest_port = 80,
			.n_ports = n_ports,
			.host_fd = -1},
	};
}

static int rule_bind(struct forward_rule *rule, struct forward_failure *ret)
{
	*ret = (struct forward_failure){0};
	return f.backend->ops->bind(f.backend, rule, ret);
}

static void rule_start(struct forward_rule *rule)
{
	struct forward_failure failure;
	int r = rule_bind(rule, &failure);

	if (r < 0)
		g_error("bind: %s, %s %u", strerror(-r), failure.field, failure.port);
}

static void rule_stop(struct forward_rule *rule)
{
	f.backend->ops->unbind(f.backend, rule, false);
}

static struct forward_status rule_status(const struct forward_rule *rule)
{
	struct forward_status status = {0};

	f.backend->ops->status(f.backend, rule, &status);
	return status;
}

/* ---- clients ---- */

static int client_dial_from(int fd, const char *to, uint16_t port)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	int r;

	if (inet_pton(AF_INET, to, &in.sin_addr) == 1) {
		r = connect(fd, (struct sockaddr *)&in, sizeof(in));
	} else {
		g_assert_cmpint(inet_pton(AF_INET6, to, &in6.sin6_addr), ==, 1);
		r = connect(fd, (struct sockaddr *)&in6, sizeof(in6));
	}
	return r < 0 ? -errno : 0;
}

/* Its descriptor or a negative errno. */
static int client_dial(const char *to, uint16_t port)
{
	cleanup_fd int fd =
		socket(strchr(to, ':') ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = client_dial_from(fd, to, port);

	return r < 0 ? r : fd_take(&fd);
}

static inline void client_expect_reset(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char byte;

	g_assert_cmpint(poll(&p, 1, (int)(TIMEOUT_NS / NS_PER_MS)), ==, 1);
	g_assert_cmpint(read(fd, &byte, 1), ==, -1);
	g_assert_cmpint(errno, ==, ECONNRESET);
}
