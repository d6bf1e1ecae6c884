/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two ends of the TCP load have in common: bulk streams with blocking calls and large
 * buffers, so that plain loopback runs at its own speed and not at the generator's.
 *
 * Content is sampled: each 4 KiB of a stream begin with their offset in it, and the receiver
 * compares those 8 bytes. Comparing every byte is the tests' business.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

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

/* Sends for that long, then shuts its direction down. Returns 0 or a negative errno. */
int load_send(int fd, int64_t duration_ns);

/* Receives to the end of the stream. Returns 0 or a negative errno. */
int load_receive(int fd, struct load_report *ret_report);

/* The report as one line of JSON; free() it. */
char *load_report_json(const struct load_report *report);
