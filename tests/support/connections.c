/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many connections from one process to another:
 *
 *   connections serve ADDRESS PORT N_PORTS
 *        answers each 8-byte word with the same; a word with its top bit set is answered and then
 *        the server closes first. Prints "ready", ends with its standard input.
 *   connections dial ADDRESS PORT N_PORTS COUNT PARALLEL
 *        opens COUNT connections in turn over the ports, says a word on each, compares the answer,
 *        closes. On every other one the server closes first. Prints "COUNT dialled".
 *   connections hold ADDRESS PORT N_PORTS COUNT PARALLEL
 *        opens and keeps them, says a word on each and prints "N held, M refused"; for each line
 *        of standard input says another on all that were held, and prints it again.
 *
 * A connection that fails in another way than it may ends the program with status 1.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FDS      70000
#define SERVER_FIRST (1ULL << 63)
#define ANSWERED     (1ULL << 62) /* and its end is waited for */
#define LISTENER     (1ULL << 32) /* in what epoll carries */

struct connection {
	uint64_t word;
	bool has_spoken, is_held;
};

static struct connection connections[MAX_FDS];
static int epoll_fd;
static union {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
} address;
static socklen_t address_len;
static uint16_t first_port;
static unsigned int n_ports;
static uint64_t n_done, n_failed, n_open;

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "%s (%" PRIu64 " done, %" PRIu64 " failed, %" PRIu64 " open): %s\n", what,
		n_done, n_failed, n_open, strerror(errno));
	exit(1);
}

static void parse_address(const char *text)
{
	if (inet_pton(AF_INET, text, &address.in.sin_addr) == 1) {
		address.sa.sa_family = AF_INET;
		address_len = sizeof(address.in);
	} else if (inet_pton(AF_INET6, text, &address.in6.sin6_addr) == 1) {
		address.sa.sa_family = AF_INET6;
		address_len = sizeof(address.in6);
	} else {
		fail(text);
	}
}

/* The port stands at the same place in both families. */
static int open_socket(unsigned int port_index)
{
	int fd = socket(address.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || fd >= MAX_FDS)
		fail("socket");
	address.in.sin_port = htons((uint16_t)(first_port + port_index % n_ports));
	return fd;
}

static void watch(int fd, uint32_t events, uint64_t mark)
{
	struct epoll_event event = {.events = events, .data.u64 = mark | (uint64_t)fd};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		fail("epoll_ctl");
}

/* ---- serve ---- */

static void accept_all(int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED))
			return;
		if (fd < 0 || fd >= MAX_FDS)
			fail("accept");
		watch(fd, EPOLLIN, 0);
	}
}

static void answer(int fd)
{
	uint64_t word;
	ssize_t n = recv(fd, &word, sizeof(word), 0);

	if (n == sizeof(word)) {
		if (send(fd, &word, sizeof(word), MSG_NOSIGNAL) == sizeof(word) &&
			!(word & SERVER_FIRST))
			return;
	} else if (n > 0) {
		fail("part of a word");
	}
	close(fd);
}

static void serve(void)
{
	struct epoll_event events[256];
	int on = 1;

	for (unsigned int i = 0; i < n_ports; i++) {
		int fd = open_socket(i);

		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (bind(fd, &address.sa, address_len) < 0 || listen(fd, 4096) < 0)
			fail("listen");
		watch(fd, EPOLLIN, LISTENER);
	}
	watch(STDIN_FILENO, EPOLLIN, 0);
	puts("ready");
	for (;;) {
		int n = epoll_wait(epoll_fd, events, 256, -1);

		for (int i = 0; i < n; i++) {
			int fd = (int)(events[i].data.u64 & 0xffffff);

			if (fd == STDIN_FILENO)
				return;
			if (events[i].data.u64 & LISTENER)
				accept_all(fd);
			else
				answer(fd);
		}
	}
}

/* ---- dial and hold ---- */

static void dial_one(uint64_t number, bool is_held)
{
	int fd = open_socket((unsigned int)number);
	uint64_t word = number | (!is_held && number % 2 ? SERVER_FIRST : 0);

	connections[fd] = (struct connection){.word = word, .is_held = is_held};
	if (connect(fd, &address.sa, address_len) < 0 && errno != EINPROGRESS)
		fail("connect");
	watch(fd, EPOLLIN | EPOLLOUT | EPOLLET, 0);
	n_open++;
}

static void end_one(int fd, bool failed)
{
	connections[fd].is_held = false;
	close(fd);
	n_open--;
	n_failed += failed;
	n_done++;
}

static void say(int fd)
{
	if (send(fd, &connections[fd].word, 8, MSG_NOSIGNAL) != 8)
		fail("send");
}

/* The whole answer and, if the server closes first, its end. Returns false as long as it lacks. */
static bool hear(int fd)
{
	struct connection *connection = &connections[fd];
	uint64_t word;
	ssize_t n = recv(fd, &word, sizeof(word), 0);

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n == 0 && connection->word & ANSWERED)
		return true;
	if (n != sizeof(word) || word != connection->word)
		fail("no answer, or a wrong one");
	if (!(word & SERVER_FIRST))
		return true;
	connection->word |= ANSWERED;
	return hear(fd);
}

/* A connection is refused before its first word, if at all. */
static bool is_refused(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return error;
}

static void connected(int fd, uint32_t events)
{
	if (events & (EPOLLERR | EPOLLHUP) && is_refused(fd)) {
		end_one(fd, true);
	} else if (events & EPOLLOUT) {
		connections[fd].has_spoken = true;
		say(fd);
	}
}

static void event_of(const struct epoll_event *event)
{
	int fd = (int)(event->data.u64 & 0xffffff);

	if (!connections[fd].has_spoken) {
		connected(fd, event->events);
		return;
	}
	if (!(event->events & EPOLLIN) || !hear(fd))
		return;
	if (connections[fd].is_held)
		n_done++;
	else
		end_one(fd, false);
}

/* `count` connections, `parallel` of them not yet done at any time. */
static void run(uint64_t count, uint64_t parallel, bool is_held)
{
	struct epoll_event events[256];
	uint64_t n_dialled = 0;

	while (n_done < count) {
		while (n_dialled < count && n_dialled - n_done < parallel)
			dial_one(n_dialled++, is_held);
		int n = epoll_wait(epoll_fd, events, 256, 60000);

		if (n < 0 && errno == EINTR) /* it was stopped for a while */
			continue;
		if (n <= 0)
			fail("silence");
		for (int i = 0; i < n; i++)
			event_of(&events[i]);
	}
}

static void say_again(void)
{
	for (int fd = 0; fd < MAX_FDS; fd++) {
		uint64_t word;

		if (!connections[fd].is_held)
			continue;
		fcntl(fd, F_SETFL, 0);
		say(fd);
		if (recv(fd, &word, sizeof(word), MSG_WAITALL) != sizeof(word) ||
			word != connections[fd].word)
			fail("no answer later");
	}
}

static void hold(uint64_t count, uint64_t parallel)
{
	char line[16];

	run(count, parallel, true);
	do {
		printf("%" PRIu64 " held, %" PRIu64 " refused\n", n_open, n_failed);
		if (!fgets(line, sizeof(line), stdin))
			return;
		say_again();
	} while (true);
}

int main(int argc, char **argv)
{
	struct rlimit limit;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 5)
		fail("arguments");
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	parse_address(argv[2]);
	first_port = (uint16_t)atoi(argv[3]);
	n_ports = (unsigned int)atoi(argv[4]);
	if (!strcmp(argv[1], "serve")) {
		serve();
		return 0;
	}
	if (argc < 7)
		fail("arguments");
	if (!strcmp(argv[1], "hold")) {
		hold(strtoull(argv[5], NULL, 10), strtoull(argv[6], NULL, 10));
		return 0;
	}
	run(strtoull(argv[5], NULL, 10), strtoull(argv[6], NULL, 10), false);
	printf("%" PRIu64 " dialled, %" PRIu64 " refused\n", n_done - n_failed, n_failed);
	return 0;
}
