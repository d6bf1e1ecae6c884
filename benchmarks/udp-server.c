/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The far end of the UDP load: udp-server ADDRESS.
 *
 * It binds one port per service, prints their numbers as one line of JSON, and ends with its
 * standard input. A service has one client at a time.
 *
 *   sink     counts the datagrams of a flood
 *   source   floods whoever asks for it
 *   echo     gives every datagram back
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"
#include "udp-load.h"

enum service { SINK, SOURCE, ECHO, N_SERVICES };

static const char *const names[N_SERVICES] = {"sink", "source", "echo"};

static void answer(int fd, struct udp_control *control, const struct sockaddr_storage *to)
{
	sendto(fd, control, sizeof(*control), 0, (const struct sockaddr *)to, sizeof(*to));
}

static void *serve_sink(void *data)
{
	struct inbox *inbox = inbox_new();
	int fd = *(int *)data;
	struct flood flood = {.session = UINT64_MAX};
	struct tally tally = {};

	for (;;) {
		struct sockaddr_storage from;
		struct udp_control control;
		bool idle;

		if (!inbox_receive(inbox, fd, &flood, &tally, &control, &from, &idle))
			continue;
		if (control.kind == UDP_BEGIN && control.flood.session != flood.session) {
			flood = control.flood;
			tally = (struct tally){};
			udp_prepare(fd, flood.runs);
		}
		control.tally = tally;
		answer(fd, &control, &from);
	}
	return NULL;
}

static void *serve_source(void *data)
{
	struct inbox *inbox = inbox_new();
	int fd = *(int *)data;
	struct flood flood = {.session = UINT64_MAX};
	uint64_t n_sent = 0;

	for (;;) {
		struct sockaddr_storage from;
		struct udp_control control;
		struct tally none;
		bool idle;

		if (!inbox_receive(inbox, fd, &flood, &none, &control, &from, &idle))
			continue;
		if (control.kind == UDP_FLOOD && control.flood.session != flood.session) {
			flood = control.flood;
			n_sent = flood_send(fd, &flood, (struct sockaddr *)&from, sizeof(from));
		} else if (control.kind == UDP_SENT && control.flood.session == flood.session) {
			control.tally = (struct tally){.n = n_sent};
			answer(fd, &control, &from);
		}
	}
	return NULL;
}

static void *serve_echo(void *data)
{
	int fd = *(int *)data;
	char datagram[65536];

	for (;;) {
		struct sockaddr_storage from;
		socklen_t size = sizeof(from);
		ssize_t n = recvfrom(
			fd, datagram, sizeof(datagram), 0, (struct sockaddr *)&from, &size);

		if (n >= 0)
			sendto(fd, datagram, (size_t)n, 0, (struct sockaddr *)&from, size);
	}
	return NULL;
}

static int bind_to(const struct sockaddr_in6 *name, socklen_t size)
{
	int fd = socket(name->sin6_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)name, size) < 0)
		load_fail("binding: %s", strerror(errno));
	udp_prepare(fd, false);
	return fd;
}

int main(int argc, char **argv)
{
	static void *(*const functions[])(void *) = {
		[SINK] = serve_sink, [SOURCE] = serve_source, [ECHO] = serve_echo};
	static int fds[N_SERVICES];
	struct sockaddr_in6 name;
	socklen_t size;
	char byte;

	if (argc != 2)
		load_fail("usage: udp-server ADDRESS");
	size = load_address(argv[1], 0, &name);
	for (enum service service = 0; service < N_SERVICES; service++) {
		pthread_t thread;

		fds[service] = bind_to(&name, size);
		if (pthread_create(&thread, NULL, functions[service], &fds[service]) != 0)
			load_fail("no thread");
		printf("%s\"%s\": %u", service ? ", " : "{", names[service],
			load_port(fds[service]));
	}
	puts("}");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}
