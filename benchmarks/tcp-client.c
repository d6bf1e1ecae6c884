/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The near end of the TCP load: tcp-client ADDRESS PORT MODE AMOUNT. One line of JSON is the
 * result; what fails prints {"error": why} instead. SECONDS can be a fraction.
 *
 *   send SECONDS       to the service sink; rates are the receiver's
 *   receive SECONDS    from the service source
 *   exchange SECONDS   1-byte requests and responses, one after another (echo)
 *   exchanges NUMBER   the same, so many of them
 *   connect SECONDS    connect, one exchange, close, and again (many)
 *   idle NUMBER        opens so many one after another (many), then one exchange on each, prints
 *                      the result and keeps them open until the end of standard input
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "load.h"

enum { PATIENCE_S = 8 };

static struct sockaddr_in6 far_name; /* or a sockaddr_in */
static socklen_t far_size;

static int dial(void)
{
	struct timeval patience = {.tv_sec = PATIENCE_S};
	int fd = socket(far_name.sin6_family, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

	if (fd < 0)
		load_fail("socket: %s", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	/* connect() keeps to the time-out for sending. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&far_name, far_size) < 0)
		load_fail("connect: %s", errno == EINPROGRESS ? "no answer" : strerror(errno));
	return fd;
}

/* Returns how long it took. */
static int64_t exchange(int fd)
{
	int64_t begin_ns = load_now_ns();
	char byte = 'x';
	ssize_t n;

	if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
		load_fail("sending a request: %s", strerror(errno));
	n = recv(fd, &byte, 1, 0);
	if (n != 1)
		load_fail("waiting for a response: %s", n ? strerror(errno) : "end of stream");
	return load_now_ns() - begin_ns;
}

static void do_send(int64_t duration_ns)
{
	char text[65536];
	size_t length = 0;
	int fd = dial(), r;
	ssize_t n;

	r = load_send(fd, duration_ns);
	if (r < 0)
		load_fail("sending: %s", strerror(-r));
	while ((n = recv(fd, text + length, sizeof(text) - length, 0)) > 0)
		length += (size_t)n;
	if (length == 0)
		load_fail("the stream stalled: no report by the receiver within %d s", PATIENCE_S);
	fwrite(text, 1, length, stdout);
}

static void do_receive(int64_t duration_ns)
{
	static struct load_report report;
	int fd = dial(), r;
	char *text;

	if (send(fd, &duration_ns, sizeof(duration_ns), MSG_NOSIGNAL) != sizeof(duration_ns))
		load_fail("sending the duration: %s", strerror(errno));
	r = load_receive(fd, &report);
	if (r < 0)
		load_fail("receiving, after %llu bytes: %s", (unsigned long long)report.bytes,
			strerror(-r));
	text = load_report_json(&report);
	if (!text)
		load_fail("out of memory");
	fputs(text, stdout);
	free(text);
}

/* And forgets them. */
static void print_rate(struct latencies *l, int64_t length_ns)
{
	printf("{\"n\": %zu, \"seconds\": %.6f, \"p50_us\": %.2f, \"p99_us\": %.2f, ", l->n,
		(double)length_ns / 1e9, percentile_us(l, 50), percentile_us(l, 99));
	quantiles_print(l);
	puts("}");
	free(l->ns);
	*l = (struct latencies){};
}

static void do_exchange(int64_t duration_ns, size_t n)
{
	struct latencies l = {};
	int fd = dial();
	int64_t begin_ns = load_now_ns(), now_ns = begin_ns;

	while (now_ns - begin_ns < duration_ns && l.n < n) {
		latencies_add(&l, exchange(fd));
		now_ns = load_now_ns();
	}
	print_rate(&l, now_ns - begin_ns);
}

static void do_connect(int64_t duration_ns)
{
	struct latencies l = {};
	int64_t begin_ns = load_now_ns(), now_ns = begin_ns;

	while (now_ns - begin_ns < duration_ns) {
		int64_t one_ns = now_ns;
		int fd = dial();

		exchange(fd);
		close(fd);
		now_ns = load_now_ns();
		latencies_add(&l, now_ns - one_ns);
	}
	print_rate(&l, now_ns - begin_ns);
}

static void do_idle(size_t n)
{
	int *fds = calloc(n, sizeof(*fds));
	struct latencies l = {};
	int64_t begin_ns = load_now_ns(), open_ns;
	char byte;

	if (!fds)
		load_fail("out of memory");
	for (size_t i = 0; i < n; i++)
		fds[i] = dial();
	open_ns = load_now_ns() - begin_ns;
	for (size_t i = 0; i < n; i++)
		latencies_add(&l, exchange(fds[i]));
	print_rate(&l, open_ns);
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	free(fds);
}

int main(int argc, char **argv)
{
	double amount = argc == 5 ? strtod(argv[4], NULL) : 0;
	int64_t duration_ns = (int64_t)(amount * 1e9);
	const char *mode = argc == 5 ? argv[3] : "";

	load_raise_limit();
	if (!(amount > 0 && amount < 1e6))
		load_fail("usage: tcp-client ADDRESS PORT MODE AMOUNT");
	far_size = load_address(argv[1], atoi(argv[2]), &far_name);
	if (strcmp(mode, "send") == 0)
		do_send(duration_ns);
	else if (strcmp(mode, "receive") == 0)
		do_receive(duration_ns);
	else if (strcmp(mode, "exchange") == 0)
		do_exchange(duration_ns, SIZE_MAX);
	else if (strcmp(mode, "exchanges") == 0)
		do_exchange(INT64_MAX, (size_t)amount);
	else if (strcmp(mode, "connect") == 0)
		do_connect(duration_ns);
	else if (strcmp(mode, "idle") == 0)
		do_idle((size_t)amount);
	else
		load_fail("%s is no mode", mode);
	return 0;
}
