/* SPDX-License-Identifier: Apache-2.0 */
#include "host/hostsock.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"

static struct loop *loop_of(struct host *host)
{
	return container_of(host, struct hostsock, host)->loop;
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

static bool hostsock_is_listening(struct host *host, int fd)
{
	int listening = 0;
	socklen_t len = sizeof(listening);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 && listening;
}

static bool hostsock_is_connected(struct host *host, int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	return getpeername(fd, (struct sockaddr *)&peer, &len) == 0;
}

static int hostsock_listen(struct host *host, int fd, int backlog)
{
	int r = fd_set_nonblocking(fd);

	if (r < 0)
		return r;
	return listen(fd, backlog) < 0 ? -errno : 0;
}

static int open_spare(void)
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

static int hostsock_refuse(struct host *host, int fd)
{
	struct hostsock *hostsock = container_of(host, struct hostsock, host);
	int r = accept_and_reset(fd);

	if (r != -EMFILE || hostsock->spare < 0)
		return r;
	fd_close(&hostsock->spare);
	r = accept_and_reset(fd);
	hostsock->spare = open_spare();
	return r;
}

static const struct host_ops hostsock_ops = {
	.watch = hostsock_watch,
	.change = hostsock_change,
	.unwatch = hostsock_unwatch,
	.is_listening = hostsock_is_listening,
	.is_connected = hostsock_is_connected,
	.listen = hostsock_listen,
	.refuse = hostsock_refuse,
};

void hostsock_init(struct hostsock *hostsock, struct loop *loop)
{
	*hostsock = (struct hostsock){
		.host = {.ops = &hostsock_ops}, .loop = loop, .spare = open_spare()};
}

void hostsock_done(struct hostsock *hostsock)
{
	fd_close(&hostsock->spare);
}
