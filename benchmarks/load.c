/* SPDX-License-Identifier: Apache-2.0 */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int64_t load_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

void load_fail(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	printf("{\"error\": \"%s\"}\n", text);
	fflush(stdout);
	_exit(1);
}

void load_raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

socklen_t load_address(const char *address, int port, struct sockaddr_in6 *ret_name)
{
	struct sockaddr_in *four = (struct sockaddr_in *)ret_name;

	memset(ret_name, 0, sizeof(*ret_name));
	if (inet_pton(AF_INET6, address, &ret_name->sin6_addr) == 1) {
		ret_name->sin6_family = AF_INET6;
		ret_name->sin6_port = htons((uint16_t)port);
		return sizeof(*ret_name);
	}
	if (inet_pton(AF_INET, address, &four->sin_addr) != 1)
		load_fail("%s is no address", address);
	four->sin_family = AF_INET;
	four->sin_port = htons((uint16_t)port);
	return sizeof(*four);
}

unsigned int load_port(int fd)
{
	struct sockaddr_in6 name;
	socklen_t size = sizeof(name);

	/* IPv4 has its port in the same place. */
	getsockname(fd, (struct sockaddr *)&name, &size);
	return ntohs(name.sin6_port);
}

void latencies_add(struct latencies *l, int64_t ns)
{
	if (l->n == l->room) {
		l->room = l->room ? 2 * l->room : 65536;
		l->ns = reallocarray(l->ns, l->room, sizeof(*l->ns));
		if (!l->ns)
			load_fail("out of memory");
	}
	l->ns[l->n++] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

double percentile_us(struct latencies *l, size_t percent)
{
	if (l->n == 0)
		return 0;
	qsort(l->ns, l->n, sizeof(*l->ns), compare);
	return l->ns[(l->n - 1) * percent / 100] / 1e3;
}

void quantiles_print(struct latencies *l)
{
	static const double percents[] = {1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100};

	percentile_us(l, 50); /* sorts */
	printf("\"quantiles_us\": [");
	for (size_t i = 0; l->n && i < sizeof(percents) / sizeof(percents[0]); i++) {
		size_t at = (size_t)((double)(l->n - 1) * percents[i] / 100);

		printf("%s[%g, %.2f]", i ? ", " : "", percents[i], (double)l->ns[at] / 1e3);
	}
	printf("]");
}

static void stamp(char *chunk, uint64_t offset)
{
	for (size_t at = 0; at < LOAD_CHUNK; at += LOAD_BLOCK) {
		uint64_t value = offset + at;

		memcpy(chunk + at, &value, sizeof(value));
	}
}

int load_send(int fd, int64_t duration_ns)
{
	/* So that a stream that stalls is given up in time. */
	struct timeval patience = {.tv_usec = 200000};
	int64_t end_ns = load_now_ns() + duration_ns;
	char *chunk = calloc(1, LOAD_CHUNK);
	uint64_t offset = 0;
	int r = 0;

	if (!chunk)
		return -ENOMEM;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	while (load_now_ns() < end_ns) {
		size_t at = offset % LOAD_CHUNK;
		ssize_t n;

		if (at == 0)
			stamp(chunk, offset);
		n = send(fd, chunk + at, LOAD_CHUNK - at, MSG_NOSIGNAL);
		if (n > 0) {
			offset += (uint64_t)n;
		} else if (errno != EAGAIN && errno != EINTR) {
			r = -errno;
			break;
		}
	}
	free(chunk);
	if (r == 0 && shutdown(fd, SHUT_WR) < 0)
		r = -errno;
	return r;
}

/* How many blocks that begin, with all of their 8 bytes, in this piece of the stream are wrong. */
static uint64_t n_wrong_blocks(const char *data, size_t length, uint64_t offset)
{
	uint64_t n = 0;

	for (size_t at = -offset % LOAD_BLOCK; at + sizeof(uint64_t) <= length; at += LOAD_BLOCK) {
		uint64_t value;

		memcpy(&value, data + at, sizeof(value));
		n += value != offset + at;
	}
	return n;
}

int load_receive(int fd, struct load_report *ret_report)
{
	struct load_report *report = ret_report;
	char *chunk = malloc(LOAD_CHUNK);
	int r = 0;

	memset(report, 0, sizeof(*report));
	if (!chunk)
		return -ENOMEM;
	for (;;) {
		ssize_t n = recv(fd, chunk, LOAD_CHUNK, 0);
		int64_t second;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = -errno;
		if (n <= 0)
			break;
		report->last_ns = load_now_ns();
		if (report->bytes == 0)
			report->first_ns = report->last_ns;
		second = (report->last_ns - report->first_ns) / 1000000000;
		if (second < LOAD_SECONDS_MAX)
			report->per_second[second] += (uint64_t)n;
		report->n_wrong += n_wrong_blocks(chunk, (size_t)n, report->bytes);
		report->bytes += (uint64_t)n;
	}
	free(chunk);
	return r;
}

char *load_report_json(const struct load_report *report)
{
	int64_t length_ns = report->last_ns - report->first_ns;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	fprintf(out, "{\"bytes\": %llu, \"wrong\": %llu, \"seconds\": %.6f, \"per_second\": [",
		(unsigned long long)report->bytes, (unsigned long long)report->n_wrong,
		(double)length_ns / 1e9);
	for (int64_t i = 0; i < LOAD_SECONDS_MAX && i <= length_ns / 1000000000; i++)
		fprintf(out, "%s%llu", i ? ", " : "", (unsigned long long)report->per_second[i]);
	fprintf(out, "]}\n");
	fclose(out);
	return text;
}
