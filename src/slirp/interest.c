/* SPDX-License-Identifier: Apache-2.0 */
#include "slirp/interest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/util.h"

void interest_init(struct interest *interest, struct host *host, struct counters *counters)
{
	*interest = (struct interest){.host = host, .counters = counters};
}

void interest_done(struct interest *interest)
{
	for (size_t i = 0; i < interest->n_enrolled; i++) {
		int fd = interest->enrolled[i];

		if (interest->entries[fd].watched)
			interest->host->ops->unwatch(interest->host, fd);
	}
	free(interest->entries);
	free(interest->enrolled);
	*interest = (struct interest){0};
}

struct interest_entry *interest_find(struct interest *interest, int fd)
{
	return fd >= 0 && (size_t)fd < interest->n_entries ? &interest->entries[fd] : NULL;
}

/* Descriptors are small and dense, so the table grows to at most the descriptor limit. */
static struct interest_entry *entry_for(struct interest *interest, int fd)
{
	struct interest_entry *grown;
	size_t n = MAX(interest->n_entries * 2, 64);

	if (fd < 0)
		return NULL;
	if ((size_t)fd < interest->n_entries)
		return &interest->entries[fd];
	n = MAX(n, (size_t)fd + 1);
	grown = reallocarray(interest->entries, n, sizeof(*grown));
	if (!grown)
		return NULL;
	memset(grown + interest->n_entries, 0, (n - interest->n_entries) * sizeof(*grown));
	interest->entries = grown;
	interest->n_entries = n;
	return &grown[fd];
}

static bool enroll(struct interest *interest, int fd, struct interest_entry *entry)
{
	if (entry->is_enrolled)
		return true;
	if (interest->n_enrolled == interest->enrolled_size) {
		size_t size = MAX(interest->enrolled_size * 2, 64);
		int *grown = reallocarray(interest->enrolled, size, sizeof(*grown));

		if (!grown)
			return false;
		interest->enrolled = grown;
		interest->enrolled_size = size;
	}
	interest->enrolled[interest->n_enrolled++] = fd;
	entry->is_enrolled = true;
	return true;
}

static void mark_open(struct interest *interest, struct interest_entry *entry)
{
	if (entry->is_open)
		return;
	entry->is_open = true;
	interest->n_open++;
	interest->n_opened++;
}

/* Everything about the number but its place in `enrolled`, which interest_end() tidies. */
static void forget(struct interest *interest, struct interest_entry *entry)
{
	if (entry->is_open)
		interest->n_open--;
	*entry = (struct interest_entry){
		.pass = entry->pass,
		.generation = entry->generation + 1,
		.is_enrolled = entry->is_enrolled,
	};
}

void interest_opened(struct interest *interest, int fd)
{
	struct interest_entry *entry = entry_for(interest, fd);

	if (!entry)
		return;
	if (entry->is_open) /* its number came back, and nobody had told that it was closed */
		forget(interest, entry);
	mark_open(interest, entry);
}

void interest_closed(struct interest *interest, int fd)
{
	struct interest_entry *entry = interest_find(interest, fd);

	/* Closing takes it out of epoll: no copy of the descriptor exists anywhere. */
	if (entry)
		forget(interest, entry);
}

static struct handle handle_of(int fd, const struct interest_entry *entry)
{
	return (struct handle){
		.kind = HANDLE_SLIRP,
		.index = (uint32_t)fd,
		.generation = entry->generation & HANDLE_GENERATION_MASK,
	};
}

/* ENOENT and EEXIST mean that the number changed hands behind our back. */
static int set_watch(
	struct interest *interest, int fd, struct interest_entry *entry, uint32_t events)
{
	const struct host_ops *ops = interest->host->ops;
	struct handle handle = handle_of(fd, entry);
	int r;

	if (entry->watched)
		r = ops->change(interest->host, fd, events, handle);
	else
		r = ops->watch(interest->host, fd, events, handle);
	if (r != -ENOENT && r != -EEXIST)
		return r;
	count(interest->counters, COUNTER_WATCH_REPAIRED);
	if (r == -ENOENT)
		return ops->watch(interest->host, fd, events, handle);
	return ops->change(interest->host, fd, events, handle);
}

void interest_begin(struct interest *interest)
{
	interest->pass++;
}

struct interest_entry *interest_want(struct interest *interest, int fd, uint32_t events)
{
	struct interest_entry *entry = entry_for(interest, fd);

	if (!entry || !enroll(interest, fd, entry))
		return NULL;
	mark_open(interest, entry);
	entry->pass = interest->pass;
	entry->ready = 0;
	if (entry->watched != events)
		entry->watched = set_watch(interest, fd, entry, events) < 0 ? 0 : events;
	return entry;
}

void interest_end(struct interest *interest)
{
	for (size_t i = 0; i < interest->n_enrolled;) {
		int fd = interest->enrolled[i];
		struct interest_entry *entry = &interest->entries[fd];

		if (entry->pass == interest->pass && entry->watched) {
			i++;
			continue;
		}
		if (entry->watched)
			interest->host->ops->unwatch(interest->host, fd);
		entry->watched = 0;
		entry->ready = 0;
		entry->is_enrolled = false;
		interest->enrolled[i] = interest->enrolled[--interest->n_enrolled];
	}
}

void interest_ready(struct interest *interest, struct handle handle, uint32_t events)
{
	struct interest_entry *entry = interest_find(interest, (int)handle.index);

	if (entry && (entry->generation & HANDLE_GENERATION_MASK) == handle.generation)
		entry->ready |= events;
}

bool interest_any_unsent(struct interest *interest)
{
	for (size_t i = 0; i < interest->n_enrolled; i++) {
		int fd = interest->enrolled[i];

		if (interest->entries[fd].watched & EPOLLOUT &&
			interest->host->ops->is_connected(interest->host, fd))
			return true;
	}
	return false;
}
