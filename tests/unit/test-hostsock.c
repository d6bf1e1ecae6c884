/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real sockets, in a namespace of their own: on its loopback, and through a tun device whose other
 * end is the test, which plays the network there.
 */
#include "frames.h"

#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/util.h"
#include "host/hostsock.h"
#include "tests/support/container.h"
#include "tests/support/interfaces.h"

#define OURS4      "192.0.2.1" /* on lo */
#define OURS6      "fd00:1::1"
#define TUN4       "198.51.100.1"
#define REMOTE4    "198.51.100.9" /* behind the tun */
#define TUN6       "2001:db8::1"
#define REMOTE6    "2001:db8::9"
#define TUN        "tun0"

#define TIMEOUT_NS (30 * NS_PER_SEC)

static struct loop loop;
static struct hostsock hostsock;
static struct host *host;
static uint32_t events;
static int n_fds_before, tun;

static const struct handle handle = {.kind = HANDLE_TCP, .index = 77, .generation = 0x123456};

/* ---- the namespace ---- */

static void set_up(void)
{
	interface_up("lo");
	tun = -1;
	n_fds_before = count_fds();
	g_assert_cmpint(loop_init(&loop), ==, 0);
	hostsock_init(&hostsock, &loop, 0);
	host = &hostsock.host;
	events = 0;
}

static void tear_down(void)
{
	fd_close(&tun);
	hostsock_done(&hostsock);
	loop_done(&loop);
	g_assert_cmpint(count_fds(), ==, n_fds_before);
}

/* ---- events ---- */

static void note(void *owner, struct handle got, uint32_t got_events)
{
	g_assert_cmpint(got.kind, ==, HANDLE_TCP);
	g_assert_cmpuint(got.index, ==, handle.index);
	g_assert_cmpuint(got.generation, ==, handle.generation);
	events |= got_events;
}

static void look(void)
{
	g_assert_cmpint(loop_turn(&loop, 0, note, NULL), >=, 0);
}

/* Until all of these have come. */
static void wait_for(uint32_t wanted)
{
	int64_t until_ns = clock_now_ns() + TIMEOUT_NS;

	while ((events & wanted) != wanted) {
		g_assert_cmpint(clock_now_ns(), <, until_ns);
		g_assert_cmpint(loop_turn(&loop, until_ns, note, NULL), >=, 0);
	}
}

static void expect_no_event(void)
{
	events = 0;
	look();
	g_assert_cmphex(events, ==, 0);
}

/* ---- the other end, on the loopback ---- */

static struct sockaddr_storage sockaddr_for(const char *address, uint16_t port)
{
	struct sockaddr_storage sa = {0};
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&sa;
	struct sockaddr_in *in = (struct sockaddr_in *)&sa;

	if (inet_pton(AF_INET, address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
	} else {
		g_assert_cmpint(inet_pton(AF_INET6, address, &in6->sin6_addr), ==, 1);
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
	}
	return sa;
}

static int listen_at(const char *address, uint16_t *ret_port)
{
	struct sockaddr_storage sa = sockaddr_for(address, 0);
	socklen_t len = sizeof(sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), ==, 0);
	g_assert_cmpint(getsockname(fd, (struct sockaddr *)&sa, &len), ==, 0);
	g_assert_cmpint(listen(fd, 5), ==, 0);
	/* The port lies at the same place in both families. */
	*ret_port = ntohs(((struct sockaddr_in *)&sa)->sin_port);
	return fd;
}

static int dial_from(const char *address, uint16_t port, const char *from)
{
	struct ip_addr source = from ? addr_of(from) : (struct ip_addr){0};
	const struct host_dial dial = {
		.addr = addr_of(address), .port = port, .from = from ? &source : NULL};

	events = 0;
	return host->ops->tcp_dial(host, &dial, handle);
}

static struct host_error result_of(int fd)
{
	struct host_error error;

	memset(&error, 0xff, sizeof(error)); /* all of it is to be written */
	host->ops->tcp_dial_result(host, fd, &error);
	return error;
}

/* A connection that stands: its two ends. */
static int connect_pair(int *ret_peer)
{
	uint16_t port;
	cleanup_fd int listener = listen_at("127.0.0.1", &port);
	int fd = dial_from("127.0.0.1", port, NULL);
	const struct ip_addr addr = addr_of("127.0.0.1");

	g_assert_cmpint(fd, >=, 0);
	wait_for(EPOLLOUT);
	g_assert_cmpint(result_of(fd).error, ==, 0);
	host->ops->tcp_dialled(host, fd, &addr);
	*ret_peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	g_assert_cmpint(*ret_peer, >=, 0);
	return fd;
}

static int option_of(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	g_assert_cmpint(getsockopt(fd, level, name, &value, &len), ==, 0);
	return value;
}

/* ---- dialling ---- */

static void dial_success(const char *address)
{
	uint16_t port;
	cleanup_fd int listener = listen_at(address, &port);
	cleanup_fd int peer = -1;
	int fd = dial_from(address, port, NULL);
	struct host_error error;

	g_assert_cmpint(fd, >=, 0);
	wait_for(EPOLLOUT);
	g_assert_cmphex(events, ==, EPOLLOUT);
	error = result_of(fd);
	g_assert_cmpint(error.error, ==, 0);
	g_assert_cmpint(error.icmp_family, ==, 0);
	g_assert_cmpint(option_of(fd, IPPROTO_TCP, TCP_NODELAY), ==, 1);
	g_assert_cmpint(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), ==, 1);
	g_assert_cmpint(option_of(fd, SOL_SOCKET, SO_OOBINLINE), ==, 1);
	g_assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	g_assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	g_assert_true(host->ops->is_connected(host, fd));
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	g_assert_cmpint(peer, >=, 0);
	host->ops->tcp_close(host, fd);
}

static void test_dial(void *arg)
{
	set_up();
	dial_success("127.0.0.1");
	if (add_address6("lo", OURS6, 128))
		dial_success("::1");
	tear_down();
}

/* An event comes when something changes, and then once. */
static void test_edges(void *arg)
{
	int peer, fd;

	set_up();
	fd = connect_pair(&peer);
	expect_no_event();
	g_assert_cmpint(write(peer, "x", 1), ==, 1);
	wait_for(EPOLLIN);
	g_assert_false(events & EPOLLRDHUP);
	expect_no_event(); /* though it was not read */
	g_assert_cmpint(write(peer, "x", 1), ==, 1);
	wait_for(EPOLLIN);
	shutdown(peer, SHUT_WR);
	wait_for(EPOLLRDHUP);
	expect_no_event();
	host->ops->tcp_close(host, fd);
	close(peer);
	tear_down();
}

static void dial_refused(const char *address)
{
	uint16_t port;
	int listener = listen_at(address, &port);
	struct host_error error;
	int fd;

	close(listener);
	fd = dial_from(address, port, NULL);
	if (fd < 0) {
		g_assert_cmpint(fd, ==, -ECONNREFUSED);
		return;
	}
	wait_for(EPOLLERR);
	error = result_of(fd);
	g_assert_cmpint(error.error, ==, ECONNREFUSED);
	g_assert_cmpint(error.icmp_family, ==, 0); /* a reset */
	host->ops->tcp_close(host, fd);
}

static void test_refused(void *arg)
{
	set_up();
	dial_refused("127.0.0.1");
	if (add_address6("lo", OURS6, 128))
		dial_refused("::1");
	tear_down();
}

/* What fails at once leaves nothing behind. */
static void test_fails_at_once(void *arg)
{
	struct rlimit limit, none;
	uint16_t port;
	int listener, n_fds, r;

	set_up();
	listener = listen_at("127.0.0.1", &port);
	n_fds = count_fds();
	g_assert_cmpint(dial_from("203.0.113.1", 80, NULL), ==, -ENETUNREACH); /* no route */
	g_assert_cmpint(dial_from("255.255.255.255", 80, NULL), ==, -ENETUNREACH);
	g_assert_cmpint(dial_from("224.0.0.1", 80, NULL), ==, -ENETUNREACH);
	g_assert_cmpint(dial_from("127.0.0.1", port, "192.0.2.99"), ==, -EADDRNOTAVAIL);
	if (add_address6("lo", OURS6, 128)) {
		g_assert_cmpint(dial_from("2001:db8::1", 80, NULL), ==, -ENETUNREACH);
		g_assert_cmpint(dial_from("::1", 80, "fd00:1::99"), ==, -EADDRNOTAVAIL);
		g_assert_cmpint(dial_from("fe80::1", 80, NULL), ==, -EINVAL);
	}
	g_assert_cmpint(count_fds(), ==, n_fds);

	getrlimit(RLIMIT_NOFILE, &limit);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
	setrlimit(RLIMIT_NOFILE, &none);
	r = dial_from("127.0.0.1", port, NULL);
	setrlimit(RLIMIT_NOFILE, &limit);
	g_assert_cmpint(r, ==, -EMFILE);

	loop_done(&loop); /* it cannot be watched */
	g_assert_cmpint(dial_from("127.0.0.1", port, NULL), ==, -EBADF);
	g_assert_cmpint(count_fds(), ==, n_fds - 1);
	close(listener);
	tear_down();
}

static void expect_peer(const char *to, const char *from, const char *expected)
{
	uint16_t port;
	cleanup_fd int listener = listen_at(to, &port);
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char text[INET6_ADDRSTRLEN];
	cleanup_fd int peer = -1;
	int fd = dial_from(to, port, from);

	g_test_message("to %s from %s", to, from);
	g_assert_cmpint(fd, >=, 0);
	wait_for(EPOLLOUT);
	peer = accept4(listener, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC);
	g_assert_cmpint(peer, >=, 0);
	if (sa.ss_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)&sa)->sin_addr, text, sizeof(text));
	else
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&sa)->sin6_addr, text, sizeof(text));
	g_assert_cmpstr(text, ==, expected);
	/* The port is one that nobody else needs to have to themselves. */
	if (from && strchr(from, ':') == strchr(to, ':'))
		g_assert_cmpint(option_of(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), ==, 1);
	host->ops->tcp_close(host, fd);
}

static void test_source(void *arg)
{
	set_up();
	add_address4("lo:1", OURS4, "255.255.255.255");
	expect_peer("127.0.0.1", NULL, "127.0.0.1");
	expect_peer("127.0.0.1", OURS4, OURS4);
	expect_peer(OURS4, "127.0.0.1", "127.0.0.1");
	expect_peer("127.0.0.1", OURS6, "127.0.0.1"); /* of the other family: not meant */
	if (add_address6("lo", OURS6, 128)) {
		expect_peer("::1", NULL, "::1");
		expect_peer("::1", OURS6, OURS6);
		expect_peer("::1", OURS4, "::1");
	}
	tear_down();
}

/* ---- a connection ---- */

static ssize_t host_send(int fd, const char *text)
{
	const struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};

	return host->ops->tcp_send(host, fd, &iov, 1);
}

static ssize_t host_recv(int fd, void *buf, size_t len)
{
	const struct iovec iov = {.iov_base = buf, .iov_len = len};

	return host->ops->tcp_recv(host, fd, &iov, 1);
}

static void expect_recv(int fd, const char *text)
{
	char buf[100];
	ssize_t n = host_recv(fd, buf, sizeof(buf));

	g_assert_cmpint(n, >=, 0);
	g_assert_cmpmem(buf, (size_t)n, text, strlen(text));
}

/* The peer's, which waits for it. */
static void expect_peer_recv(int peer, const char *text)
{
	char buf[100];
	ssize_t n = recv(peer, buf, strlen(text), MSG_WAITALL);

	g_assert_cmpint(n, >=, 0);
	g_assert_cmpmem(buf, (size_t)n, text, strlen(text));
}

static void expect_peer_end(int peer)
{
	char byte;

	g_assert_cmpint(recv(peer, &byte, 1, 0), ==, 0);
}

static void expect_peer_reset(int peer)
{
	char byte;

	g_assert_cmpint(recv(peer, &byte, 1, 0), ==, -1);
	g_assert_cmpint(errno, ==, ECONNRESET);
}

static void expect_peer_error(int peer, int error)
{
	struct pollfd pfd = {.fd = peer};

	g_assert_cmpint(poll(&pfd, 1, TIMEOUT_NS / NS_PER_MS), ==, 1);
	g_assert_true(pfd.revents & POLLERR);
	g_assert_cmpint(option_of(peer, SOL_SOCKET, SO_ERROR), ==, error);
}

static void test_bytes(void *arg)
{
	const struct iovec pieces[] = {
		{.iov_base = (char[]){"one "}, .iov_len = 4},
		{.iov_base = (char[]){"two "}, .iov_len = 4},
		{.iov_base = (char[]){"three"}, .iov_len = 5},
	};
	char buf[4];
	int peer, fd;

	set_up();
	fd = connect_pair(&peer);
	g_assert_cmpint(host_recv(fd, buf, sizeof(buf)), ==, -EAGAIN);
	g_assert_cmpint(host_send(fd, "single"), ==, 6);
	expect_peer_recv(peer, "single");
	g_assert_cmpint(host->ops->tcp_send(host, fd, pieces, 3), ==, 13);
	expect_peer_recv(peer, "one two three");
	g_assert_cmpint(write(peer, "answer", 6), ==, 6);
	wait_for(EPOLLIN);
	g_assert_cmpint(host_recv(fd, buf, sizeof(buf)), ==, 4);
	expect_recv(fd, "er");
	g_assert_cmpint(host_recv(fd, buf, sizeof(buf)), ==, -EAGAIN);
	shutdown(peer, SHUT_WR);
	wait_for(EPOLLRDHUP);
	expect_recv(fd, "");
	host->ops->tcp_close(host, fd);
	close(peer);
	tear_down();
}

/* A peer that does not read: less than all is taken, then nothing, and an event says when more. */
static void test_full(void *arg)
{
	static char block[200000], sink[200000];
	struct iovec pieces[2] = {{.iov_base = block, .iov_len = sizeof(block)},
		{.iov_base = block, .iov_len = sizeof(block)}};
	size_t sent = 0, received = 0;
	ssize_t n;
	int peer, fd;

	set_up();
	fd = connect_pair(&peer);
	for (int i = 0;; i++) {
		n = host->ops->tcp_send(host, fd, pieces, 1 + i % 2);
		if (n < 0)
			break;
		sent += (size_t)n;
		g_assert_cmpuint(sent, <, 1u << 30);
	}
	g_assert_cmpint(n, ==, -EAGAIN);
	expect_no_event();
	while (received < sent) {
		n = recv(peer, sink, sizeof(sink), 0);
		g_assert_cmpint(n, >, 0);
		received += (size_t)n;
	}
	wait_for(EPOLLOUT);
	g_assert_cmpint(host_send(fd, "x"), ==, 1);
	expect_peer_recv(peer, "x");
	host->ops->tcp_close(host, fd);
	close(peer);
	tear_down();
}

static void test_shutdown(void *arg)
{
	int peer, fd;

	set_up();
	fd = connect_pair(&peer);
	g_assert_cmpint(host_send(fd, "last words"), ==, 10);
	host->ops->tcp_shutdown(host, fd);
	expect_peer_recv(peer, "last words");
	expect_peer_end(peer);
	g_assert_cmpint(host_send(fd, "x"), ==, -EPIPE);  /* and no SIGPIPE */
	g_assert_cmpint(write(peer, "answer", 6), ==, 6); /* the other direction is open */
	wait_for(EPOLLIN);
	expect_recv(fd, "answer");
	host->ops->tcp_close(host, fd);
	close(peer);
	tear_down();
}

static void test_close(void *arg)
{
	int peer, fd, n_fds;

	set_up();
	n_fds = count_fds();
	fd = connect_pair(&peer);
	g_assert_cmpint(host_send(fd, "last words"), ==, 10);
	host->ops->tcp_close(host, fd);
	expect_peer_recv(peer, "last words");
	expect_peer_end(peer);
	close(peer);
	expect_no_event(); /* nobody watches what is closed */
	g_assert_cmpint(count_fds(), ==, n_fds);
	tear_down();
}

static void test_reset(void *arg)
{
	int peer, fd, n_fds;

	set_up();
	n_fds = count_fds();
	fd = connect_pair(&peer);
	host->ops->tcp_reset(host, fd);
	expect_peer_reset(peer);
	close(peer);
	fd = connect_pair(&peer); /* after our end of the stream, and the peer's */
	host->ops->tcp_shutdown(host, fd);
	expect_peer_end(peer);
	host->ops->tcp_reset(host, fd);
	expect_peer_error(peer, EPIPE); /* Linux' word for a reset behind the end */
	close(peer);
	fd = connect_pair(&peer);
	shutdown(peer, SHUT_WR);
	wait_for(EPOLLRDHUP);
	host->ops->tcp_reset(host, fd);
	expect_peer_reset(peer);
	close(peer);
	expect_no_event();
	g_assert_cmpint(count_fds(), ==, n_fds);
	tear_down();
}

static void test_peer_resets(void *arg)
{
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	char buf[4];
	int peer, fd;

	set_up();
	fd = connect_pair(&peer);
	setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(peer);
	wait_for(EPOLLERR | EPOLLHUP);
	g_assert_cmpint(host_recv(fd, buf, sizeof(buf)), ==, -ECONNRESET);
	g_assert_cmpint(host_send(fd, "x"), ==, -EPIPE);
	host->ops->tcp_close(host, fd);
	tear_down();
}

static void test_keepalive(void *arg)
{
	static const struct {
		unsigned int idle_s;
		int expected_idle_s, interval_s;
	} rows[] = {{1, 1, 1}, {15, 15, 15}, {60, 60, 20}, {7200, 7200, 20}, {32767, 32767, 20},
		{32768, 32767, 20}, {2, 2, 2}, {UINT_MAX, 32767, 20}};
	int peer, fd;

	set_up();
	fd = connect_pair(&peer);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		host->ops->tcp_keepalive(host, fd, rows[i].idle_s);
		g_assert_cmpint(
			option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE), ==, rows[i].expected_idle_s);
		g_assert_cmpint(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL), ==, rows[i].interval_s);
		g_assert_cmpint(option_of(fd, IPPROTO_TCP, TCP_KEEPCNT), ==, 3);
	}
	host->ops->tcp_close(host, fd);
	close(peer);
	tear_down();
}

/* A client that must not come in is reset, also when there is no descriptor left for it. */
static void test_refuse(void *arg)
{
	struct rlimit limit, none;
	uint16_t port;
	int listener, client, r;

	set_up();
	listener = listen_at("127.0.0.1", &port);
	g_assert_cmpint(host->ops->listen(host, listener, 5), ==, 0);
	g_assert_true(host->ops->is_listening(host, listener));
	g_assert_cmpint(host->ops->refuse(host, listener), ==, -EAGAIN);
	for (int i = 0; i < 2; i++) {
		struct sockaddr_storage sa = sockaddr_for("127.0.0.1", port);

		client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		g_assert_cmpint(connect(client, (struct sockaddr *)&sa, sizeof(sa)), ==, 0);
		g_assert_false(host->ops->is_listening(host, client));
		getrlimit(RLIMIT_NOFILE, &limit);
		none = (struct rlimit){.rlim_cur = (rlim_t)client + 1, .rlim_max = limit.rlim_max};
		if (i)
			setrlimit(RLIMIT_NOFILE, &none);
		r = host->ops->refuse(host, listener);
		setrlimit(RLIMIT_NOFILE, &limit);
		g_assert_cmpint(r, ==, 0);
		g_assert_cmpint(hostsock.spare, >=, 0);
		expect_peer_reset(client);
		close(client);
	}
	close(listener);
	tear_down();
}

/* ---- the network behind the tun ---- */

static struct frame packet; /* without an Ethernet header */

/* False: there is no IPv6. */
static bool open_tun(bool with_ip6)
{
	struct ifreq ifr = request_for(TUN);

	tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	ifr.ifr_flags = IFF_TUN | IFF_NO_PI;
	g_assert_cmpint(ioctl(tun, TUNSETIFF, &ifr), ==, 0);
	add_address4(TUN, TUN4, "255.255.255.0");
	interface_up(TUN);
	return !with_ip6 || add_address6(TUN, TUN6, 64);
}

/* The next TCP segment that the host's kernel sends. */
static void expect_segment(void)
{
	int64_t until_ns = clock_now_ns() + TIMEOUT_NS;
	struct pollfd pfd = {.fd = tun, .events = POLLIN};
	ssize_t n;

	do {
		g_assert_cmpint(clock_now_ns(), <, until_ns);
		g_assert_cmpint(poll(&pfd, 1, TIMEOUT_NS / NS_PER_MS), ==, 1);
		n = read(tun, packet.b, sizeof(packet.b));
		g_assert_cmpint(n, >, 0);
		packet.len = (size_t)n;
	} while (packet.b[packet.b[0] >> 4 == 4 ? 9 : 6] != IPPROTO_TCP);
}

static void inject(const uint8_t *data, size_t len)
{
	g_assert_cmpint(write(tun, data, len), ==, (ssize_t)len);
}

/* A router's answer to the packet. */
static void inject_icmp4(uint8_t type, uint8_t code)
{
	uint8_t reply[20 + 8 + 28] = {0x45, [8] = 64, [9] = IPPROTO_ICMP, [20] = type, [21] = code};

	put16(reply + 2, sizeof(reply));
	memcpy(reply + 12, packet.b + 16, 4);
	memcpy(reply + 16, packet.b + 12, 4);
	put16(reply + 10, ~naive_sum(0, reply, 20));
	memcpy(reply + 28, packet.b, 28);
	put16(reply + 22, ~naive_sum(0, reply + 20, sizeof(reply) - 20));
	inject(reply, sizeof(reply));
}

static void inject_icmp6(uint8_t type, uint8_t code)
{
	uint8_t reply[40 + 8 + 60] = {
		0x60, [5] = 8 + 60, [6] = IPPROTO_ICMPV6, [7] = 64, [40] = type, [41] = code};
	uint32_t sum;

	memcpy(reply + 8, packet.b + 24, 16);
	memcpy(reply + 24, packet.b + 8, 16);
	memcpy(reply + 48, packet.b, 60);
	sum = naive_sum(8 + 60 + IPPROTO_ICMPV6, reply + 8, 32);
	put16(reply + 42, ~naive_sum(sum, reply + 40, 8 + 60));
	inject(reply, sizeof(reply));
}

/* What the remote host says to the segment, IPv4. */
static void inject_tcp(uint32_t seq, uint8_t flags)
{
	const uint8_t *theirs = packet.b + 20;
	uint8_t reply[40] = {0x45, [3] = 40, [8] = 64, [9] = IPPROTO_TCP, [32] = 0x50, [33] = flags,
		[34] = 0xff, [35] = 0xff};
	uint32_t ack = get16(theirs + 4) << 16 | get16(theirs + 6), sum;

	ack += (theirs[13] & 0x02 ? 1 : 0) +
		(uint32_t)(packet.len - 20 - (size_t)(theirs[12] >> 4) * 4);
	memcpy(reply + 12, packet.b + 16, 4);
	memcpy(reply + 16, packet.b + 12, 4);
	put16(reply + 10, ~naive_sum(0, reply, 20));
	memcpy(reply + 20, theirs + 2, 2);
	memcpy(reply + 22, theirs, 2);
	put16(reply + 24, seq >> 16);
	put16(reply + 26, seq);
	put16(reply + 28, ack >> 16);
	put16(reply + 30, ack);
	sum = naive_sum(20 + IPPROTO_TCP, reply + 12, 8);
	put16(reply + 36, ~naive_sum(sum, reply + 20, 20));
	inject(reply, sizeof(reply));
}

struct icmp_row {
	uint8_t type, code;
	int error;
};

static void expect_icmp(const char *address, uint8_t family, const struct icmp_row *row)
{
	int fd = dial_from(address, 80, NULL);
	struct host_error error;

	g_test_message("%s: type %u code %u", address, row->type, row->code);
	g_assert_cmpint(fd, >=, 0);
	expect_segment();
	expect_no_event();
	if (family == AF_INET)
		inject_icmp4(row->type, row->code);
	else
		inject_icmp6(row->type, row->code);
	wait_for(EPOLLERR);
	error = result_of(fd);
	g_assert_cmpint(error.error, ==, row->error);
	g_assert_cmpint(error.icmp_family, ==, family);
	g_assert_cmpint(error.icmp_type, ==, row->type);
	g_assert_cmpint(error.icmp_code, ==, row->code);
	host->ops->tcp_close(host, fd);
}

/* Codes that the errno merges are told apart. */
static void test_icmp4(void *arg)
{
	static const struct icmp_row rows[] = {{3, 0, ENETUNREACH}, {3, 1, EHOSTUNREACH},
		{3, 2, ENOPROTOOPT}, {3, 3, ECONNREFUSED}, {3, 6, ENETUNREACH}, {3, 9, ENETUNREACH},
		{3, 10, EHOSTUNREACH}, {3, 13, EHOSTUNREACH}};

	set_up();
	open_tun(false);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		expect_icmp(REMOTE4, AF_INET, &rows[i]);
	tear_down();
}

static void test_icmp6(void *arg)
{
	static const struct icmp_row rows[] = {{1, 0, ENETUNREACH}, {1, 1, EACCES},
		{1, 3, EHOSTUNREACH}, {1, 4, ECONNREFUSED}, {1, 5, EACCES}, {1, 6, EACCES}};

	set_up();
	if (!open_tun(true))
		_exit(EXIT_SKIP);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		expect_icmp(REMOTE6, AF_INET6, &rows[i]);
	tear_down();
}

/* Once the connection stands, an ICMP error is no reason to end it (RFC 1122 4.2.3.9). */
static void test_icmp_is_soft_when_dialled(void *arg)
{
	const struct ip_addr addr = addr_of(REMOTE4);
	char buf[4];
	int fd;

	set_up();
	open_tun(false);
	fd = dial_from(REMOTE4, 80, NULL);
	expect_segment();
	inject_tcp(1000, 0x12);
	wait_for(EPOLLOUT);
	expect_segment(); /* the acknowledgement */
	g_assert_cmpint(result_of(fd).error, ==, 0);
	host->ops->tcp_dialled(host, fd, &addr);
	g_assert_cmpint(host_send(fd, "hello"), ==, 5);
	do
		expect_segment();
	while (packet.len <= 40 + 12 && packet.b[packet.len - 1] != 'o');
	events = 0;
	inject_icmp4(3, 1);
	inject_tcp(1001, 0x11); /* a FIN behind it: it was seen when that has come */
	wait_for(EPOLLRDHUP);
	g_assert_false(events & EPOLLERR);
	g_assert_cmpint(host_recv(fd, buf, sizeof(buf)), ==, 0);
	g_assert_cmpint(host_send(fd, "x"), ==, 1);
	host->ops->tcp_reset(host, fd);
	tear_down();
}

/* Nothing of a dial that is given up is left, neither here nor on the wire. */
static void test_give_up(void *arg)
{
	int n_fds, fd;

	set_up();
	open_tun(false);
	n_fds = count_fds();
	for (int i = 0; i < 2; i++) {
		fd = dial_from(REMOTE4, 80, NULL);
		expect_segment();
		if (i)
			host->ops->tcp_close(host, fd);
		else
			host->ops->tcp_reset(host, fd);
		inject_tcp(1000, 0x12);
		expect_segment();
		g_assert_cmphex(packet.b[33], ==, 0x04); /* nobody knows of it */
		expect_no_event();
		g_assert_cmpint(count_fds(), ==, n_fds);
	}
	tear_down();
}

static int dial_scope(uint32_t scope)
{
	const struct host_dial dial = {.addr = addr_of("fe80::9"), .scope = scope, .port = 53};

	return host->ops->tcp_dial(host, &dial, handle);
}

/* A link-local nameserver is behind an interface. */
static void test_scope(void *arg)
{
	int fd;

	set_up();
	if (!open_tun(true) || !add_address6(TUN, "fe80::1", 64))
		_exit(EXIT_SKIP);
	g_assert_cmpint(dial_scope(0), ==, -EINVAL);
	g_assert_cmpint(dial_scope(4711), <, 0);
	fd = dial_scope(if_nametoindex(TUN));
	g_assert_cmpint(fd, >=, 0);
	expect_segment();
	g_assert_cmphex(get16(packet.b + 24), ==, 0xfe80);
	g_assert_cmphex(get16(packet.b + 38), ==, 9);
	host->ops->tcp_close(host, fd);
	tear_down();
}

static const struct container_test tests[] = {
	{"/hostsock/dial", test_dial},
	{"/hostsock/edges", test_edges},
	{"/hostsock/refused", test_refused},
	{"/hostsock/fails-at-once", test_fails_at_once},
	{"/hostsock/source", test_source},
	{"/hostsock/bytes", test_bytes},
	{"/hostsock/full", test_full},
	{"/hostsock/shutdown", test_shutdown},
	{"/hostsock/close", test_close},
	{"/hostsock/reset", test_reset},
	{"/hostsock/peer-resets", test_peer_resets},
	{"/hostsock/keepalive", test_keepalive},
	{"/hostsock/refuse", test_refuse},
	{"/hostsock/icmp4", test_icmp4},
	{"/hostsock/icmp6", test_icmp6},
	{"/hostsock/icmp-is-soft-when-dialled", test_icmp_is_soft_when_dialled},
	{"/hostsock/give-up", test_give_up},
	{"/hostsock/scope", test_scope},
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	container_tests_add(tests, ARRAY_SIZE(tests));
	return g_test_run();
}
