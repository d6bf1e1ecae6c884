/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of libslirp's descriptors epoll watches, and for what.
 *
 * libslirp says what it wants only by listing all its sockets (slirp_pollfds_fill); this turns each
 * list into the epoll calls for what has changed. It survives that libslirp closes a descriptor
 * without telling and that its number comes back for another socket: a watch is repaired when epoll
 * disagrees, and an event of the old socket does not reach the new one (generation).
 *
 *   UNKNOWN --opened or first wanted--> OPEN --wanted--> WATCHED --not wanted--> OPEN --closed-->
 * UNKNOWN
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/counter.h"
#include "host/host.h"

struct interest_entry {
	uint32_t pass; /* the last list that it was on */
	uint32_t generation;
	uint32_t watched; /* epoll events, 0: not in epoll */
	uint32_t ready;   /* events since the last list */
	bool is_open;
	bool is_enrolled; /* in `enrolled` */
	bool was_wanted;  /* since it was opened */
	bool is_listener;
};

struct interest {
	struct host *host;
	struct counters *counters;
	struct interest_entry *entries; /* by descriptor */
	size_t n_entries;
	int *enrolled; /* descriptors that are watched, or were until a moment ago */
	size_t n_enrolled, enrolled_size;
	uint32_t pass;
	size_t n_open;     /* descriptors that libslirp holds */
	uint64_t n_opened; /* how many it ever had */
};

void interest_init(struct interest *interest, struct host *host, struct counters *counters);
void interest_done(struct interest *interest);

/* libslirp tells (not of every socket in 4.7) that it has one more, or is about to close one. */
void interest_opened(struct interest *interest, int fd);
void interest_closed(struct interest *interest, int fd);

/* One list: begin, want each, end. interest_want() returns the entry, good until the next call, or
 * NULL when memory ran out (the descriptor is then not watched until the next list). */
void interest_begin(struct interest *interest);
struct interest_entry *interest_want(struct interest *interest, int fd, uint32_t events);
void interest_end(struct interest *interest);

/* An event from epoll; of an earlier holder of the number: nothing happens. */
void interest_ready(struct interest *interest, struct handle handle, uint32_t events);

/* NULL when nothing is known of the descriptor. */
struct interest_entry *interest_find(struct interest *interest, int fd);

/* Whether a connected socket still waits to take bytes (EPOLLOUT). */
bool interest_any_unsent(struct interest *interest);
