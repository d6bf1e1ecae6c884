/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The far end of the TCP load: tcp-server ADDRESS.
 *
 * It listens on one port per service, prints their numbers as one line of JSON, and ends with its
 * standard input.
 *
 *   sink     reads to the end, then answers with a report
 *   source   reads a number of nanoseconds (8 bytes, the host's order), sends for that long
 *   echo     gives every byte back, a thread per connection: the fewest calls per exchange
 *   many     the same for many and for short connections, by epoll
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum service { SINK, SOURCE, ECHO, MANY, N_SERVICES };

static const char *const names[N_SERVICES] = {"sink", "source", "echo", "many"};
static int listeners[N_SERVICES];

static void serve_sink(int fd)
{
	struct load_report *report = malloc(sizeof(*report));
	char *text = NULL;

	if (report && load_receive(fd, report) == 0)
		text = load_report_json(report);
	if (text)
		send(fd, text, strlen(text), MSG_NOSIGNAL);
	free(text);
	free(report);
}

static void serve_source(int fd)
{
	int64_t duration_ns;

	if (recv(fd, &duration_ns, sizeof(duration_ns), MSG_WAITALL) != sizeof(duration_ns))
		return;
	/* The client's end of file says that it has everything: no reset overtakes the data. */
	if (load_send(fd, duration_ns) == 0)
		recv(fd, &duration_ns, 1, 0);
}

static void serve_echo(int fd)
{
	char data[4096];
	ssize_t n;

	while ((n = recv(fd, data, sizeof(data), 0)) > 0)
		if (send(fd, data, (size_t)n, MSG_NOSIGNAL) < 0)
			return;
}

struct job {
	int fd;
	enum service service;
};

static void *serve(void *data)
{
	static void (*const functions[])(int) = {
		[SINK] = serve_sink, [SOURCE] = serve_source, [ECHO] = serve_echo};
	struct job job = *(struct job *)data;

	free(data);
	functions[job.service](job.fd);
	close(job.fd);
	return NULL;
}

static void serve_by_thread(int fd, enum service service)
{
	struct job *job = malloc(sizeof(*job));
	pthread_t thread;

	if (job) {
		*job = (struct job){fd, service};
		if (pthread_create(&thread, NULL, serve, job) == 0) {
			pthread_detach(thread);
			return;
		}
	}
	free(job);
	close(fd);
}

static void watch(int epoll, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		close(fd);
}

static void accept_all(int epoll, enum service service)
{
	int yes = 1, fd;

	while ((fd = accept4(listeners[service], NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
		if (service == MANY)
			watch(epoll, fd);
		else
			serve_by_thread(fd, service);
	}
}

static void give_back(int fd)
{
	char data[4096];
	ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || send(fd, data, (size_t)n, MSG_NOSIGNAL) < 0)
		close(fd);
}

static int listen_on(const char *address)
{
	struct sockaddr_in6 name;
	socklen_t size = load_address(address, 0, &name);
	int fd;

	fd = socket(name.sin6_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&name, size) < 0 || listen(fd, 4096) < 0)
		load_fail("listening on %s: %s", address, strerror(errno));
	return fd;
}

static void dispatch(int epoll, int fd)
{
	for (enum service service = 0; service < N_SERVICES; service++) {
		if (fd == listeners[service]) {
			accept_all(epoll, service);
			return;
		}
	}
	give_back(fd);
}

int main(int argc, char **argv)
{
	struct epoll_event events[256];
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (argc != 2)
		load_fail("usage: tcp-server ADDRESS");
	load_raise_limit();
	watch(epoll, STDIN_FILENO);
	for (enum service service = 0; service < N_SERVICES; service++) {
		listeners[service] = listen_on(argv[1]);
		watch(epoll, listeners[service]);
		printf("%s\"%s\": %u", service ? ", " : "{", names[service],
			load_port(listeners[service]));
	}
	puts("}");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(epoll, events, 256, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == STDIN_FILENO)
				return 0;
			dispatch(epoll, events[i].data.fd);
		}
	}
}
