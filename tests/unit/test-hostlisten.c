/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners and their clients: real sockets, on the loopback of a namespace of their own.
 */
#include "frames.h"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/util.h"
#include "host/hostsock.h"
#include "tests/support/container.h"
#include "tests/support/interfaces.h"

#define TIMEOUT_NS (30 * NS_PER_SEC)

static struct loop loop;
static struct hostsock hostsock;
static struct host *host;
static uint32_t events;
static int n_fds_before;

static const struct handle handle = {.kind = HANDLE_PUBLISH, .index = 5, .generation = 0xabcdef};

static void set_up(void)
{
	interface_up("lo");
	n_fds_before = count_fds();
	g_assert_cmpint(loop_init(&loop), ==, 0);
	hostsock_init(&hostsock, &loop, 0);
	host = &hostsock.host;
}

static void tear_down(void)
{
	hostsock_done(&hostsock);
	loop_done(&loop);
	g_assert_cmpint(count_fds(), ==, n_fds_before);
}

static void note(void *owner, struct handle got, uint32_t got_events)
{
	g_assert_cmpint(got.kind, ==, HANDLE_PUBLISH);
	g_assert_cmpuint(got.index, ==, handle.index);
	g_assert_cmpuint(got.generation, ==, handle.generation);
	events |= got_events;
}

static void wait_for(uint32_t wanted)
{
	int64_t until_ns = clock_now_ns() + TIMEOUT_NS;

	for (events = 0; (events & wanted) != wanted;) {
		g_assert_cmpint(clock_now_ns(), <, until_ns);
		g_assert_cmpint(loop_turn(&loop, until_ns, note, NULL), >=, 0);
	}
}

static void expect_no_event(void)
{
	events = 0;
	g_assert_cmpint(loop_turn(&loop, 0, note, NULL), >=, 0);
	g_assert_cmphex(events, ==, 0);
}

static socklen_t sockaddr_for(const char *address, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	struct sockaddr_in *in = (struct sockaddr_in *)ret;

	*ret = (struct sockaddr_storage){0};
	if (inet_pton(AF_INET, address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		return sizeof(*in);
	}
	g_assert_cmpint(inet_pton(AF_INET6, address, &in6->sin6_addr), ==, 1);
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(port);
	return sizeof(*in6);
}

static uint16_t port_of(int fd)
{
	struct host_socket socket;

	g_assert_cmpint(host->ops->describe(host, fd, &socket), ==, 0);
	return socket.port;
}

/* The namespace is ours, so the port is free. One of the kernel's choice would not be kept by a
 * socket that stops listening. */
static int listen_at(const char *address, bool dual_stack, bool paused)
{
	static uint16_t port = 4000;
	const struct host_bind where = {.addr = addr_of(address),
		.port = ++port,
		.dual_stack = dual_stack,
		.paused = paused};

	return host->ops->tcp_listen(host, &where, handle);
}

/* The client's end, or a negative errno; blocking. */
static int dial(const char *address, uint16_t port)
{
	struct sockaddr_storage sa;
	socklen_t len = sockaddr_for(address, port, &sa);
	cleanup_fd int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(fd, >=, 0);
	return connect(fd, (struct sockaddr *)&sa, len) < 0 ? -errno : fd_take(&fd);
}

static int option_of(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	g_assert_cmpint(getsockopt(fd, level, name, &value, &len), ==, 0);
	return value;
}

/* ---- listening and accepting ---- */

static void expect_client(int listener, const char *to, const char *peer)
{
	cleanup_fd int near = dial(to, port_of(listener)), far = -1;
	const struct ip_addr expected = addr_of(peer);
	struct host_client client, again;

	g_assert_cmpint(near, >=, 0);
	wait_for(EPOLLIN);
	far = host->ops->tcp_accept(host, listener, &client);
	g_assert_cmpint(far, >=, 0);
	g_assert_true(ip_addr_equal(&client.peer, &expected));
	g_assert_cmpuint(client.peer_port, ==, port_of(near));
	g_assert_true(fcntl(far, F_GETFL) & O_NONBLOCK);
	g_assert_true(fcntl(far, F_GETFD) & FD_CLOEXEC);
	g_assert_cmpint(host->ops->tcp_client(host, far, &again), ==, 0);
	g_assert_true(ip_addr_equal(&again.peer, &expected));
	g_assert_cmpuint(again.peer_port, ==, client.peer_port);
	g_assert_cmpint(host->ops->tcp_accept(host, listener, &client), ==, -EAGAIN);
	expect_no_event();
}

static void test_accept(void *arg)
{
	int four, six, both;

	set_up();
	four = listen_at("127.0.0.1", false, false);
	g_assert_cmpint(four, >=, 0);
	g_assert_true(host->ops->is_listening(host, four));
	expect_client(four, "127.0.0.1", "127.0.0.1");
	close(four);
	six = listen_at("::1", false, false);
	g_assert_cmpint(six, >=, 0);
	expect_client(six, "::1", "::1");
	close(six);
	six = listen_at("::", false, false);
	expect_client(six, "::1", "::1");
	g_assert_cmpint(dial("127.0.0.1", port_of(six)), ==, -ECONNREFUSED);
	close(six);
	both = listen_at("::", true, false);
	expect_client(both, "::1", "::1");
	expect_client(both, "127.0.0.1", "127.0.0.1");
	close(both);
	tear_down();
}

static void test_errors(void *arg)
{
	struct host_bind where = {.addr = addr_of("127.0.0.1"), .port = 5000};
	int fd;

	set_up();
	fd = host->ops->tcp_listen(host, &where, handle);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(host->ops->tcp_listen(host, &where, handle), ==, -EADDRINUSE);
	where.addr = addr_of("192.0.2.7");
	g_assert_cmpint(host->ops->tcp_listen(host, &where, handle), ==, -EADDRNOTAVAIL);
	where.addr = addr_of("127.0.0.2");
	close(fd);
	fd = host->ops->tcp_listen(host, &where, handle);
	g_assert_cmpint(fd, >=, 0);
	close(fd);
	tear_down();
}

/* Who was there and went away is no client, and no error. */
static void test_client_gone(void *arg)
{
	const struct linger reset = {.l_onoff = 1};
	struct host_client client;
	int listener, near, far;

	set_up();
	listener = listen_at("127.0.0.1", false, false);
	near = dial("127.0.0.1", port_of(listener));
	g_assert_cmpint(near, >=, 0);
	setsockopt(near, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(near);
	wait_for(EPOLLIN);
	far = host->ops->tcp_accept(host, listener, &client);
	g_assert_cmpint(far, >=, 0); /* Linux hands it over all the same */
	g_assert_cmpint(host->ops->tcp_client(host, far, &client), ==, -ENOTCONN);
	close(far);
	close(listener);
	tear_down();
}

/* ---- pausing ---- */

/* As somebody else would bind, who is told that he may have what others have, too. */
static int bind_as_other(uint16_t port)
{
	struct sockaddr_storage sa;
	socklen_t len = sockaddr_for("127.0.0.1", port, &sa);
	cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int on = 1;

	g_assert_cmpint(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), ==, 0);
	return bind(fd, (struct sockaddr *)&sa, len) < 0 ? -errno : 0;
}

static void expect_paused(int listener)
{
	const uint16_t port = port_of(listener);

	g_assert_false(host->ops->is_listening(host, listener));
	g_assert_cmpint(dial("127.0.0.1", port), ==, -ECONNREFUSED);
	g_assert_cmpint(bind_as_other(port), ==, -EADDRINUSE);
	expect_no_event();
}

static void test_pause(void *arg)
{
	struct host_client client;
	int listener, near, far, waiting;
	char byte;

	set_up();
	listener = listen_at("127.0.0.1", false, false);
	near = dial("127.0.0.1", port_of(listener));
	far = host->ops->tcp_accept(host, listener, &client);
	g_assert_cmpint(far, >=, 0);
	waiting = dial("127.0.0.1", port_of(listener));
	g_assert_cmpint(waiting, >=, 0);
	g_assert_cmpint(host->ops->tcp_listen_pause(host, listener), ==, 0);
	expect_paused(listener);
	g_assert_cmpint(read(waiting, &byte, 1), ==, -1);
	g_assert_cmpint(errno, ==, ECONNRESET);
	g_assert_cmpint(write(far, "x", 1), ==, 1); /* goes on */
	g_assert_cmpint(read(near, &byte, 1), ==, 1);
	g_assert_cmpint(host->ops->tcp_listen_resume(host, listener, handle), ==, 0);
	expect_client(listener, "127.0.0.1", "127.0.0.1");
	close(waiting);
	close(near);
	close(far);
	close(listener);
	tear_down();
}

static void test_paused_from_the_start(void *arg)
{
	int listener;

	set_up();
	listener = listen_at("127.0.0.1", false, true);
	g_assert_cmpint(listener, >=, 0);
	for (int i = 0; i < 2; i++) {
		expect_paused(listener);
		g_assert_cmpint(host->ops->tcp_listen_resume(host, listener, handle), ==, 0);
		expect_client(listener, "127.0.0.1", "127.0.0.1");
		g_assert_cmpint(host->ops->tcp_listen_pause(host, listener), ==, 0);
	}
	close(listener);
	tear_down();
}

/* ---- others' sockets ---- */

static struct host_socket describe(int fd)
{
	struct host_socket ret;

	g_assert_cmpint(host->ops->describe(host, fd, &ret), ==, 0);
	return ret;
}

static void test_describe(void *arg)
{
	cleanup_fd int unix_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cleanup_fd int udp_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	cleanup_fd int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
	const struct ip_addr any = addr_of("::");
	struct host_socket socket;
	int fd;

	set_up();
	fd = listen_at("::", true, false);
	socket = describe(fd);
	g_assert_cmpint(socket.type, ==, SOCK_STREAM);
	g_assert_true(ip_addr_equal(&socket.addr, &any));
	g_assert_true(socket.dual_stack && socket.is_listening && socket.port);
	close(fd);
	fd = listen_at("::", false, true);
	socket = describe(fd);
	g_assert_false(socket.dual_stack || socket.is_listening);
	close(fd);
	socket = describe(unix_fd);
	g_assert_cmpint(socket.addr.family, ==, AF_UNIX);
	g_assert_false(socket.is_listening);
	socket = describe(udp_fd);
	g_assert_cmpint(socket.type, ==, SOCK_DGRAM);
	g_assert_cmpuint(socket.port, ==, 0);
	g_assert_cmpint(host->ops->describe(host, file, &socket), ==, -ENOTSOCK);
	g_assert_cmpint(host->ops->describe(host, 1000000, &socket), ==, -EBADF);
	tear_down();
}

/* ---- adopting ---- */

static void expect_edges(int fd, int peer)
{
	g_assert_cmpint(host->ops->tcp_adopt(host, fd, handle), ==, 0);
	wait_for(EPOLLOUT);
	expect_no_event();
	g_assert_cmpint(write(peer, "x", 1), ==, 1);
	wait_for(EPOLLIN);
	expect_no_event();
	close(peer);
	wait_for(EPOLLRDHUP);
}

static void test_adopt(void *arg)
{
	struct host_client client;
	int listener, near, fd, pair[2];

	set_up();
	listener = listen_at("127.0.0.1", false, false);
	near = dial("127.0.0.1", port_of(listener));
	fd = host->ops->tcp_accept(host, listener, &client);
	close(listener);
	expect_edges(fd, near);
	g_assert_cmpint(option_of(fd, IPPROTO_TCP, TCP_NODELAY), ==, 1);
	g_assert_cmpint(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), ==, 1);
	g_assert_cmpint(option_of(fd, SOL_SOCKET, SO_OOBINLINE), ==, 1);
	host->ops->tcp_close(host, fd);
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
	expect_edges(pair[0], pair[1]);
	host->ops->tcp_close(host, pair[0]);
	tear_down();
}

static void test_unix_client(void *arg)
{
	const struct sockaddr_un name = {.sun_family = AF_UNIX}; /* of the kernel's choice */
	struct sockaddr_un sa;
	socklen_t len = sizeof(sa);
	struct host_client client;
	int listener, near, far;

	set_up();
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(bind(listener, (const struct sockaddr *)&name, sizeof(sa_family_t)), ==, 0);
	g_assert_cmpint(getsockname(listener, (struct sockaddr *)&sa, &len), ==, 0);
	g_assert_cmpint(host->ops->listen(host, listener, SOMAXCONN), ==, 0);
	g_assert_cmpint(host->ops->tcp_accept(host, listener, &client), ==, -EAGAIN);
	near = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(connect(near, (struct sockaddr *)&sa, len), ==, 0);
	far = host->ops->tcp_accept(host, listener, &client);
	g_assert_cmpint(far, >=, 0);
	g_assert_cmpint(client.peer.family, ==, AF_UNIX);
	g_assert_cmpuint(client.peer_port, ==, 0);
	g_assert_cmpint(host->ops->tcp_client(host, far, &client), ==, 0);
	g_assert_cmpint(client.peer.family, ==, AF_UNIX);
	close(near);
	close(far);
	close(listener);
	tear_down();
}

static const struct container_test tests[] = {
	{"/hostlisten/accept", test_accept},
	{"/hostlisten/errors", test_errors},
	{"/hostlisten/client-gone", test_client_gone},
	{"/hostlisten/pause", test_pause},
	{"/hostlisten/paused-from-the-start", test_paused_from_the_start},
	{"/hostlisten/describe", test_describe},
	{"/hostlisten/adopt", test_adopt},
	{"/hostlisten/unix-client", test_unix_client},
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	container_tests_add(tests, ARRAY_SIZE(tests));
	return g_test_run();
}
