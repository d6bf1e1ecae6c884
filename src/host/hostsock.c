/* SPDX-License-Identifier: Apache-2.0 */
#include "host/hostsock.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"
#include "host/internal.h"

static struct loop *loop_of(struct host *host)
{
	return hostsock_of(host)->loop;
}

static int hostsock_watch(struct host *host, int fd, uint32_t events, struct handle handle)
{
	return loop_watch(loop_of(host), fd, events, handle);
}

static int hostsock_change(struct host *host, int fd, uint32_t events, struct handle handle)
{
	return loop_change(loop_of(host), fd, events, handle);
}

static int hostsock_unwatch(struct host *host, int fd)
{
	return loop_unwatch(loop_of(host), fd);
}

static bool hostsock_is_connected(struct host *host, int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	return getpeername(fd, (struct sockaddr *)&peer, &len) == 0;
}

/* ---- TCP ---- */

#define FAR_EVENTS (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET)

/* With it an ICMP error is kept with its type and code, and is final even for a connection that
 * stands: so it is on while dialling only. */
static void set_error_queue(int fd, bool is4, int on)
{
	if (is4)
		set_option(fd, IPPROTO_IP, IP_RECVERR, on);
	else
		set_option(fd, IPPROTO_IPV6, IPV6_RECVERR, on);
}

static bool is_loopback(const struct ip_addr *addr)
{
	if (addr->family == AF_INET)
		return ntohl(ip_addr_v4(addr).s_addr) >> 24 == IN_LOOPBACKNET;
	return IN6_IS_ADDR_LOOPBACK(&addr->in6);
}

static int bind_source(int fd, const struct ip_addr *from)
{
	union host_sockaddr sa;
	socklen_t len = sockaddr_of(from, 0, &sa);

	/* The port is chosen by connect(2), which knows the whole four-tuple. */
	set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	return bind(fd, &sa.any, len) < 0 ? -errno : 0;
}

/* Nagle's work was done by the container's kernel; a peer that vanishes is to be noticed; urgent
 * data is ordinary data, as it is in the other direction. */
static void set_up(int fd)
{
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
}

static int set_up_and_connect(int fd, const struct host_dial *dial)
{
	union host_sockaddr sa;
	socklen_t len = sockaddr_of(&dial->addr, dial->port, &sa);
	int r;

	if (dial->addr.family == AF_INET6)
		sa.in6.sin6_scope_id = dial->scope;
	set_up(fd);
	if (!is_loopback(&dial->addr))
		set_error_queue(fd, dial->addr.family == AF_INET, 1);
	if (dial->from && dial->from->family == dial->addr.family) {
		r = bind_source(fd, dial->from);
		if (r < 0)
			return r;
	}
	if (connect(fd, &sa.any, len) < 0 && errno != EINPROGRESS)
		return -errno;
	return 0;
}

static int hostsock_tcp_dial(struct host *host, const struct host_dial *dial, struct handle handle)
{
	cleanup_fd int fd =
		socket(dial->addr.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = set_up_and_connect(fd, dial);
	if (r == 0)
		r = loop_watch(loop_of(host), fd, FAR_EVENTS, handle);
	return r < 0 ? r : fd_take(&fd);
}

static int hostsock_tcp_adopt(struct host *host, int fd, struct handle handle)
{
	set_up(fd);
	return loop_watch(loop_of(host), fd, FAR_EVENTS, handle);
}

/* The queue's entry has the ICMP error's own type and code, which the errno merges. */
static void read_error_queue(int fd, struct host_error *ret)
{
	_Alignas(struct cmsghdr) uint8_t
		control[CMSG_SPACE(sizeof(struct sock_extended_err) + sizeof(struct sockaddr_in6))];
	struct msghdr msg = {.msg_control = control, .msg_controllen = sizeof(control)};
	const struct sock_extended_err *error;

	if (recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		bool is4 = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR;
		bool is6 = c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR;

		if (!is4 && !is6)
			continue;
		error = (const struct sock_extended_err *)(void *)CMSG_DATA(c);
		if (error->ee_origin == SO_EE_ORIGIN_ICMP)
			ret->icmp_family = AF_INET;
		else if (error->ee_origin == SO_EE_ORIGIN_ICMP6)
			ret->icmp_family = AF_INET6;
		ret->icmp_type = error->ee_type;
		ret->icmp_code = error->ee_code;
	}
}

static void hostsock_tcp_dial_result(struct host *host, int fd, struct host_error *ret)
{
	socklen_t len = sizeof(ret->error);

	*ret = (struct host_error){0};
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &ret->error, &len) < 0)
		ret->error = errno;
	if (ret->error)
		read_error_queue(fd, ret);
}

static void hostsock_tcp_dialled(struct host *host, int fd, const struct ip_addr *addr)
{
	if (!is_loopback(addr))
		set_error_queue(fd, addr->family == AF_INET, 0);
}

static ssize_t hostsock_tcp_recv(struct host *host, int fd, const struct iovec *iov, int n_iov)
{
	struct msghdr msg = {
		.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n_iov};
	ssize_t n;

	if (n_iov == 1)
		n = recv(fd, iov->iov_base, iov->iov_len, MSG_DONTWAIT);
	else
		n = recvmsg(fd, &msg, MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

static ssize_t hostsock_tcp_send(struct host *host, int fd, const struct iovec *iov, int n_iov)
{
	const struct msghdr msg = {
		.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n_iov};
	ssize_t n;

	if (n_iov == 1)
		n = send(fd, iov->iov_base, iov->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

static void hostsock_tcp_shutdown(struct host *host, int fd)
{
	shutdown(fd, SHUT_WR);
}

/* Closing takes it out of the epoll set: nobody else has a copy. */
static void hostsock_tcp_close(struct host *host, int fd)
{
	close(fd);
}

static void hostsock_tcp_reset(struct host *host, int fd)
{
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

#define KEEPALIVE_PROBES         3
#define KEEPALIVE_INTERVAL_MAX_S 20
/* Linux refuses more (tcp(7)). */
#define KEEPALIVE_IDLE_MAX_S 32767

static void hostsock_tcp_keepalive(struct host *host, int fd, unsigned int idle_s)
{
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)MIN(idle_s, KEEPALIVE_IDLE_MAX_S));
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, (int)MIN(idle_s, KEEPALIVE_INTERVAL_MAX_S));
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
}

static bool hostsock_tcp_has_unacknowledged(struct host *host, int fd)
{
	int n = 0;

	return ioctl(fd, SIOCOUTQ, &n) == 0 && n > 0;
}

static int hostsock_nameservers(
	struct host *host, struct host_nameserver ret[HOST_NAMESERVERS_MAX], int64_t now_ns)
{
	struct hostsock *hostsock = hostsock_of(host);

	return resolver_nameservers(&hostsock->resolver, ret, now_ns);
}

static void hostsock_nameserver_said(
	struct host *host, const struct ip_addr *addr, bool answered, int64_t now_ns)
{
	struct hostsock *hostsock = hostsock_of(host);

	resolver_said(&hostsock->resolver, addr, answered, now_ns);
}

static const struct host_ops hostsock_ops = {
	.watch = hostsock_watch,
	.change = hostsock_change,
	.unwatch = hostsock_unwatch,
	.is_listening = hostsock_is_listening,
	.is_connected = hostsock_is_connected,
	.listen = hostsock_listen,
	.refuse = hostsock_refuse,
	.describe = hostsock_describe,
	.tcp_listen = hostsock_tcp_listen,
	.tcp_listen_pause = hostsock_tcp_listen_pause,
	.tcp_listen_resume = hostsock_tcp_listen_resume,
	.tcp_accept = hostsock_tcp_accept,
	.tcp_client = hostsock_tcp_client,
	.tcp_adopt = hostsock_tcp_adopt,
	.tcp_dial = hostsock_tcp_dial,
	.tcp_dial_result = hostsock_tcp_dial_result,
	.tcp_dialled = hostsock_tcp_dialled,
	.tcp_recv = hostsock_tcp_recv,
	.tcp_send = hostsock_tcp_send,
	.tcp_shutdown = hostsock_tcp_shutdown,
	.tcp_close = hostsock_tcp_close,
	.tcp_reset = hostsock_tcp_reset,
	.tcp_keepalive = hostsock_tcp_keepalive,
	.tcp_has_unacknowledged = hostsock_tcp_has_unacknowledged,
	.dgram_open = hostsock_dgram_open,
	.dgram_adopt = hostsock_dgram_adopt,
	.dgram_close = hostsock_dgram_close,
	.dgram_send = hostsock_dgram_send,
	.dgram_recv = hostsock_dgram_recv,
	.dgram_error = hostsock_dgram_error,
	.nameservers = hostsock_nameservers,
	.nameserver_said = hostsock_nameserver_said,
};

void hostsock_init(struct hostsock *hostsock, struct loop *loop, unsigned int features)
{
	*hostsock = (struct hostsock){
		.host = {.ops = &hostsock_ops},
		.loop = loop,
		.features = features,
		.resolver.path = RESOLVER_PATH,
		.spare = hostsock_open_spare(),
	};
}

void hostsock_done(struct hostsock *hostsock)
{
	fd_close(&hostsock->spare);
}
