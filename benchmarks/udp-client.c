/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The near end of the UDP load: udp-client ADDRESS PORT MODE SECONDS SIZE [RATE]. One line of JSON
 * is the result; what fails prints {"error": why} instead.
 *
 *   send, send-runs         floods the service sink; the figures are the receiver's
 *   receive, receive-runs   is flooded by the service source
 *   exchange                requests and responses, one after another (echo)
 *
 * A RATE, per second, paces a flood. With runs the sender leaves cutting to the kernel, and the
 * receiver takes what came together together (UDP_SEGMENT, UDP_GRO).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "load.h"
#include "udp-load.h"

enum {
	QUIET_MS = 250, /* then a message is said again */
	PATIENCE = 40,  /* times */
	LOST_MAX = 100, /* exchanges */
};

static int dial(const char *address, const char *port, bool runs)
{
	struct timeval quiet = {.tv_usec = QUIET_MS * 1000};
	struct sockaddr_in6 name;
	socklen_t size = load_address(address, atoi(port), &name);
	int fd = socket(name.sin6_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&name, size) < 0)
		load_fail("connect: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &quiet, sizeof(quiet));
	udp_prepare(fd, runs);
	return fd;
}

static void say(int fd, enum udp_control_kind kind, const struct flood *flood)
{
	struct udp_control control = {.magic = UDP_CONTROL_MAGIC, .kind = kind, .flood = *flood};

	if (send(fd, &control, sizeof(control), 0) < 0)
		load_fail("sending: %s", strerror(errno));
}

/* Says something until it is answered, and tallies what comes instead of the answer. */
static struct udp_control ask(int fd, enum udp_control_kind kind, const struct flood *flood,
	struct inbox *inbox, struct tally *tally)
{
	struct udp_control control;

	say(fd, kind, flood);
	for (int n_idle = 0; n_idle < PATIENCE;) {
		struct sockaddr_storage from;
		bool idle;

		if (inbox_receive(inbox, fd, flood, tally, &control, &from, &idle) &&
			control.kind == (uint64_t)kind && control.flood.session == flood->session)
			return control;
		if (idle) {
			n_idle++;
			say(fd, kind, flood);
		}
	}
	load_fail("no answer from the far end");
}

static void print_flood(const struct tally *tally, uint64_t n_sent)
{
	printf("{\"n\": %llu, \"sent\": %llu, \"wrong\": %llu, \"seconds\": %.6f}\n",
		(unsigned long long)tally->n, (unsigned long long)n_sent,
		(unsigned long long)tally->n_wrong,
		(double)(tally->last_ns - tally->first_ns) / 1e9);
}

static void do_send(int fd, const struct flood *flood)
{
	struct inbox *inbox = inbox_new();
	struct tally none = {};
	uint64_t n_sent;

	ask(fd, UDP_BEGIN, flood, inbox, &none);
	n_sent = flood_send(fd, flood, NULL, 0);
	none = ask(fd, UDP_END, flood, inbox, &none).tally;
	print_flood(&none, n_sent);
	free(inbox);
}

static void do_receive(int fd, const struct flood *flood)
{
	struct inbox *inbox = inbox_new();
	struct tally tally = {};

	for (int n_idle = 0; tally.n == 0; n_idle++) {
		struct sockaddr_storage from;
		struct udp_control control;
		bool idle;

		if (n_idle == PATIENCE)
			load_fail("no flood arrives");
		say(fd, UDP_FLOOD, flood);
		inbox_receive(inbox, fd, flood, &tally, &control, &from, &idle);
	}
	for (bool idle = false; !idle;) {
		struct sockaddr_storage from;
		struct udp_control control;

		inbox_receive(inbox, fd, flood, &tally, &control, &from, &idle);
	}
	print_flood(&tally, ask(fd, UDP_SENT, flood, inbox, &tally).tally.n);
	free(inbox);
}

/* Returns whether the datagram came back. */
static bool exchange(int fd, uint64_t serial, size_t size)
{
	char request[UDP_SIZE_MAX] = {}, response[UDP_SIZE_MAX];
	ssize_t n;

	memcpy(request, &serial, sizeof(serial));
	if (send(fd, request, size, 0) < 0)
		load_fail("sending a request: %s", strerror(errno));
	do {
		n = recv(fd, response, sizeof(response), 0);
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n < 0)
			load_fail("waiting for a response: %s", strerror(errno));
	} while ((size_t)n != size || memcmp(request, response, size) != 0);
	return true;
}

static void do_exchange(int fd, const struct flood *flood)
{
	struct latencies l = {};
	int64_t begin_ns = load_now_ns(), now_ns = begin_ns;
	uint64_t n_lost = 0;

	for (uint64_t serial = 0; now_ns - begin_ns < flood->duration_ns; serial++) {
		int64_t one_ns = now_ns;
		bool came = exchange(fd, serial, flood->size);

		now_ns = load_now_ns();
		if (came)
			latencies_add(&l, now_ns - one_ns);
		else if (++n_lost > LOST_MAX)
			load_fail("%llu requests or responses lost", (unsigned long long)n_lost);
	}
	printf("{\"n\": %zu, \"lost\": %llu, \"seconds\": %.6f, \"p50_us\": %.2f, \"p99_us\": "
	       "%.2f, ",
		l.n, (unsigned long long)n_lost, (double)(now_ns - begin_ns) / 1e9,
		percentile_us(&l, 50), percentile_us(&l, 99));
	quantiles_print(&l);
	puts("}");
	free(l.ns);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(int fd, const struct flood *flood);
		bool runs;
	} modes[] = {
		{"send", do_send, false},
		{"send-runs", do_send, true},
		{"receive", do_receive, false},
		{"receive-runs", do_receive, true},
		{"exchange", do_exchange, false},
	};
	struct flood flood = {};

	if (argc != 6 && argc != 7)
		load_fail("usage: udp-client ADDRESS PORT MODE SECONDS SIZE [RATE]");
	flood.session = (uint64_t)load_now_ns() >> 10 & 0x7fffff;
	flood.duration_ns = (int64_t)(strtod(argv[4], NULL) * 1e9);
	flood.size = (uint32_t)strtoul(argv[5], NULL, 10);
	flood.rate = argc == 7 ? strtoull(argv[6], NULL, 10) : 0;
	if (flood.duration_ns <= 0 || flood.size < sizeof(uint64_t) || flood.size > UDP_SIZE_MAX)
		load_fail("%s seconds of %s bytes are out of range", argv[4], argv[5]);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(argv[3], modes[i].name) == 0) {
			flood.runs = modes[i].runs;
			modes[i].run(dial(argv[1], argv[2], flood.runs), &flood);
			return 0;
		}
	}
	load_fail("%s is no mode", argv[3]);
}
