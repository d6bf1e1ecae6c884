/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"
#include "host/internal.h"

/* Clients that were gone before they were accepted, of which one call passes over so many. */
#define GONE_CLIENTS_MAX 64

static bool has_option(int fd, int level, int name, int *ret)
{
	socklen_t len = sizeof(*ret);

	*ret = 0;
	return getsockopt(fd, level, name, ret, &len) == 0;
}

/* ---- listeners ---- */

bool hostsock_is_listening(struct host *host, int fd)
{
	int listening;

	return has_option(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening) && listening;
}

int hostsock_listen(struct host *host, int fd, int backlog)
{
	int r = fd_set_nonblocking(fd);

	if (r < 0)
		return r;
	return listen(fd, backlog) < 0 ? -errno : 0;
}

int hostsock_describe(struct host *host, int fd, struct host_socket *ret)
{
	union host_sockaddr sa = {0};
	socklen_t len = sizeof(sa);
	int only;

	*ret = (struct host_socket){0};
	if (!has_option(fd, SOL_SOCKET, SO_TYPE, &ret->type) || getsockname(fd, &sa.any, &len) < 0)
		return -errno;
	ret->addr = addr_of(&sa);
	ret->port = port_of(&sa);
	ret->is_listening = hostsock_is_listening(host, fd);
	ret->dual_stack = sa.any.sa_family == AF_INET6 &&
		IN6_IS_ADDR_UNSPECIFIED(&sa.in6.sin6_addr) &&
		has_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only) && !only;
	return 0;
}

/* With SO_REUSEADDR others bind to the same port, and may listen, as long as nobody does; without
 * it listen(2) fails while connections of ours have the port. So it is on for the two calls, and
 * off between them. */
static int bind_port(int fd, const struct host_bind *where)
{
	union host_sockaddr sa;
	socklen_t len = sockaddr_of(&where->addr, where->port, &sa);

	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (where->addr.family == AF_INET6)
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !where->dual_stack);
	if (bind(fd, &sa.any, len) < 0)
		return -errno;
	if (where->paused)
		set_option(fd, SOL_SOCKET, SO_REUSEADDR, 0);
	return 0;
}

static int listen_and_watch(struct host *host, int fd, struct handle handle)
{
	if (listen(fd, SOMAXCONN) < 0)
		return -errno;
	return loop_watch(hostsock_of(host)->loop, fd, EPOLLIN, handle);
}

int hostsock_tcp_listen(struct host *host, const struct host_bind *where, struct handle handle)
{
	cleanup_fd int fd =
		socket(where->addr.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = bind_port(fd, where);
	if (r == 0 && !where->paused)
		r = listen_and_watch(host, fd, handle);
	return r < 0 ? r : fd_take(&fd);
}

/* One that does not listen is in error for epoll, which cannot be told to keep it to itself. */
int hostsock_tcp_listen_pause(struct host *host, int fd)
{
	if (shutdown(fd, SHUT_RD) < 0)
		return -errno;
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 0);
	return loop_unwatch(hostsock_of(host)->loop, fd);
}

int hostsock_tcp_listen_resume(struct host *host, int fd, struct handle handle)
{
	int r;

	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	r = listen_and_watch(host, fd, handle);
	if (r < 0) {
		shutdown(fd, SHUT_RD);
		set_option(fd, SOL_SOCKET, SO_REUSEADDR, 0);
	}
	return r;
}

/* ---- clients ---- */

/* accept(2): what has already happened to the new connection, which is none any more. */
static bool was_gone(int error)
{
	switch (error) {
	case ECONNABORTED:
	case EINTR:
	case EPERM:
	case EPROTO:
	case ENOPROTOOPT:
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENONET:
		return true;
	default:
		return false;
	}
}

int hostsock_tcp_accept(struct host *host, int fd, struct host_client *ret)
{
	union host_sockaddr sa = {0};
	int client;

	for (int i = 0; i < GONE_CLIENTS_MAX; i++) {
		socklen_t len = sizeof(sa);

		client = accept4(fd, &sa.any, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (client >= 0) {
			ret->peer = addr_of(&sa);
			ret->peer_port = port_of(&sa);
			return client;
		}
		if (!was_gone(errno))
			return -errno;
	}
	return -EAGAIN;
}

int hostsock_tcp_client(struct host *host, int fd, struct host_client *ret)
{
	union host_sockaddr sa = {0};
	socklen_t len = sizeof(sa);

	if (getpeername(fd, &sa.any, &len) < 0)
		return -errno;
	ret->peer = addr_of(&sa);
	ret->peer_port = port_of(&sa);
	return 0;
}

int hostsock_open_spare(void)
{
	return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static int accept_and_reset(int fd)
{
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	cleanup_fd int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (client < 0)
		return -errno;
	return setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0 ? -errno : 0;
}

int hostsock_refuse(struct host *host, int fd)
{
	struct hostsock *hostsock = hostsock_of(host);
	int r = accept_and_reset(fd);

	if (r != -EMFILE || hostsock->spare < 0)
		return r;
	fd_close(&hostsock->spare);
	r = accept_and_reset(fd);
	hostsock->spare = hostsock_open_spare();
	return r;
}
