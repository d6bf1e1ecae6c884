/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one thread that does nothing but relay can reach: tcp-relay ADDRESS SERVICE=PORT...
 *
 * It copies between two sockets of ADDRESS, and that is all: no tap, no TCP of its own, no
 * container. A connection to its own port of a service becomes one to PORT. It prints its ports as
 * tcp-server does, and ends with its standard input.
 *
 * What is read from one end is passed to the other before more is read, so who takes nothing stops
 * only the one that sends to it. The end of each direction is passed on by itself.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum { SERVICES_MAX = 8 };

struct service {
	int fd; /* listens */
	struct sockaddr_in6 target;
	socklen_t target_size;
};

/* Of a connection; the two ends are made and freed together. */
struct end {
	int fd;
	uint32_t watched;       /* as epoll knows it */
	bool is_over;           /* its end of file has been passed on */
	size_t held_at, n_held; /* of data: what the other end has not taken yet */
	struct end *other;
	char data[LOAD_CHUNK];
};

static struct service services[SERVICES_MAX];
static int n_services, epoll;

static void watch(int fd, int operation, uint32_t events, void *data)
{
	struct epoll_event event = {.events = events, .data.ptr = data};

	if (epoll_ctl(epoll, operation, fd, &event) < 0)
		load_fail("epoll: %s", strerror(errno));
}

/* An end of which nothing is wanted is not watched at all: epoll would tell its errors for ever. */
static void watch_end(struct end *end)
{
	uint32_t in = end->is_over || end->n_held ? 0 : EPOLLIN;
	uint32_t events = in | (end->other->n_held ? EPOLLOUT : 0);

	if (events == end->watched)
		return;
	if (end->watched && events)
		watch(end->fd, EPOLL_CTL_MOD, events, end);
	else
		watch(end->fd, events ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, events, end);
	end->watched = events;
}

static void close_both(struct end *end)
{
	close(end->other->fd);
	free(end->other);
	close(end->fd);
	free(end);
}

/* Returns 0 or a negative errno, as pass_on(). */
static int take(struct end *end)
{
	ssize_t n = recv(end->fd, end->data, sizeof(end->data), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	end->held_at = 0;
	end->n_held = (size_t)n;
	end->is_over = n == 0;
	return n == 0 && shutdown(end->other->fd, SHUT_WR) < 0 ? -errno : 0;
}

static int pass_on(struct end *end)
{
	ssize_t n = send(
		end->other->fd, end->data + end->held_at, end->n_held, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	end->held_at += (size_t)n;
	end->n_held -= (size_t)n;
	return 0;
}

/* Something has happened to this end. */
static void step(struct end *end)
{
	int r = 0;

	if (end->other->n_held)
		r = pass_on(end->other);
	if (r == 0 && !end->n_held && !end->is_over)
		r = take(end);
	if (r == 0 && end->n_held)
		r = pass_on(end);
	if (r < 0 || (end->is_over && end->other->is_over)) {
		close_both(end);
		return;
	}
	watch_end(end);
	watch_end(end->other);
}

static void accept_one(const struct service *service)
{
	struct end *near = calloc(1, sizeof(*near)), *far = calloc(1, sizeof(*far));
	const struct sockaddr *target = (const struct sockaddr *)&service->target;
	int yes = 1;

	if (!near || !far)
		load_fail("out of memory");
	near->other = far;
	far->other = near;
	near->fd = accept4(service->fd, NULL, NULL, SOCK_CLOEXEC);
	far->fd = socket(service->target.sin6_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (near->fd < 0 || far->fd < 0 || connect(far->fd, target, service->target_size) < 0)
		load_fail("a connection: %s", strerror(errno));
	setsockopt(near->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	setsockopt(far->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	watch_end(near);
	watch_end(far);
}

/* Makes a service of SERVICE=PORT, and prints its port. */
static void add_service(const char *address, char *argument)
{
	struct service *service = &services[n_services];
	char *port = strchr(argument, '=');
	struct sockaddr_in6 name;
	socklen_t size = load_address(address, 0, &name);

	if (!port || n_services == SERVICES_MAX)
		load_fail("%s is no SERVICE=PORT, or one too many", argument);
	*port++ = '\0';
	service->target_size = load_address(address, atoi(port), &service->target);
	service->fd = socket(name.sin6_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (service->fd < 0 || bind(service->fd, (struct sockaddr *)&name, size) < 0 ||
		listen(service->fd, 4096) < 0)
		load_fail("listening on %s: %s", address, strerror(errno));
	watch(service->fd, EPOLL_CTL_ADD, EPOLLIN, service);
	printf("%s\"%s\": %u", n_services++ ? ", " : "{", argument, load_port(service->fd));
}

static void dispatch(void *data)
{
	for (int i = 0; i < n_services; i++) {
		if (data == &services[i]) {
			accept_one(&services[i]);
			return;
		}
	}
	step(data);
}

int main(int argc, char **argv)
{
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (argc < 3)
		load_fail("usage: tcp-relay ADDRESS SERVICE=PORT...");
	load_raise_limit();
	watch(STDIN_FILENO, EPOLL_CTL_ADD, EPOLLIN, NULL);
	for (int i = 2; i < argc; i++)
		add_service(argv[1], argv[i]);
	puts("}");
	fflush(stdout);
	for (;;) {
		struct epoll_event event;

		/* One at a time: another one could be of an end that the first has freed. */
		if (epoll_wait(epoll, &event, 1, -1) < 1)
			continue;
		if (!event.data.ptr)
			return 0;
		dispatch(event.data.ptr);
	}
}
