/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the generators of load have in common, and the two ends of the TCP load: bulk streams with
 * blocking calls and large buffers, so that plain loopback runs at its own speed and not at the
 * generator's.
 *
 * Content is sampled: each 4 KiB of a stream begin with their offset in it, and the receiver
 * compares those 8 bytes. Comparing every byte is the tests' business.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
	LOAD_CHUNK = 128 << 10, /* of one send() or recv() */
	LOAD_BLOCK = 4096,      /* begins with its offset */
	LOAD_SECONDS_MAX = 3600,
};

struct load_report {
	uint64_t bytes;
	uint64_t n_wrong; /* blocks whose offset is another one */
	int64_t first_ns; /* of the first byte's arrival */
	int64_t last_ns;
	uint64_t per_second[LOAD_SECONDS_MAX];
};

int64_t load_now_ns(void);

/* Prints {"error": ...} as the result and ends the process. */
_Noreturn void load_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* All descriptors that the hard limit allows. */
void load_raise_limit(void);

/* An address of either family for the socket calls; returns its size. */
socklen_t load_address(const char *address, int port, struct sockaddr_in6 *ret_name);
/* The port that a socket is bound to. */
unsigned int load_port(int fd);

struct latencies {
	uint32_t *ns;
	size_t n, room;
};

void latencies_add(struct latencies *l, int64_t ns);
/* Sorts, and gives the value that `percent` of all do not exceed. */
double percentile_us(struct latencies *l, size_t percent);
/* Prints the distribution as a member of an object: "quantiles_us": [[percent, us], ...]. */
void quantiles_print(struct latencies *l);

/* Sends for that long, then shuts its direction down. Returns 0 or a negative errno. */
int load_send(int fd, int64_t duration_ns);

/* Receives to the end of the stream. Returns 0 or a negative errno. */
int load_receive(int fd, struct load_report *ret_report);

/* The report as one line of JSON; free() it. */
char *load_report_json(const struct load_report *report);
