/* SPDX-License-Identifier: Apache-2.0 */
#include "forward/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"

/* How many entries the first one allocates; then it doubles. */
#define ENTRIES_MIN 16

struct entry {
	struct forward_rule rule;
	bool pending; /* the backend said FORWARD_LATER, or has not returned yet */

	/* Who waits, while it is pending. */
	forward_done_fn *done; /* NULL: forgotten */
	void *owner;
	uint64_t cookie;
};

struct forward {
	struct forward_backend *backend;
	struct entry *entries; /* in the order of their ids: a new one is the last */
	size_t n_entries;
	size_t n_allocated;
	size_t n_serving;
	uint64_t last_id;
	/* How many entries have this host port: most are free, and need no look at all entries. */
	uint32_t n_on_port[2][UINT16_MAX + 1];
};

static uint32_t *on_port(struct forward *forward, const struct forward_spec *spec)
{
	return &forward->n_on_port[spec->proto][spec->host_port];
}

const char *forward_proto_name(enum forward_proto proto)
{
	return proto == FORWARD_TCP ? "tcp" : "udp";
}

static int log_failure(
	const struct forward *forward, const char *what, const struct forward_spec *spec, int error)
{
	char addr[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &spec->host_addr, addr, sizeof(addr));
	return log_errno(LOG_LEVEL_WARNING, error, "%s: cannot %s %s %s:%u",
		forward->backend->ops->describe(forward->backend), what,
		forward_proto_name(spec->proto), addr, spec->host_port);
}

struct forward *forward_new(struct forward_backend *backend)
{
	struct forward *forward = calloc(1, sizeof(*forward));

	if (forward)
		forward->backend = backend;
	return forward;
}

void forward_free(struct forward *forward)
{
	if (!forward)
		return;
	forward_close_all(forward);
	free(forward);
}

static int unbind(struct forward *forward, const struct forward_rule *rule)
{
	int r = forward->backend->ops->unbind(forward->backend, rule);

	return r < 0 ? log_failure(forward, "withdraw", &rule->spec, r) : 0;
}

void forward_close_all(struct forward *forward)
{
	while (forward->n_entries > 0) {
		struct forward_rule rule = forward->entries[--forward->n_entries].rule;

		--*on_port(forward, &rule.spec);
		unbind(forward, &rule);
	}
	forward->n_serving = 0;
	free(forward->entries);
	forward->entries = NULL;
	forward->n_allocated = 0;
}

/* The index of the first entry whose id is `id` or greater. */
static size_t lower_bound(const struct forward *forward, uint64_t id)
{
	size_t low = 0, high = forward->n_entries;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (forward->entries[middle].rule.id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct entry *find(const struct forward *forward, uint64_t id)
{
	size_t i = lower_bound(forward, id);

	if (i == forward->n_entries || forward->entries[i].rule.id != id)
		return NULL;
	return &forward->entries[i];
}

static void drop(struct forward *forward, struct entry *entry)
{
	size_t n_behind = (size_t)(forward->entries + forward->n_entries - entry) - 1;

	--*on_port(forward, &entry->rule.spec);
	memmove(entry, entry + 1, n_behind * sizeof(*entry));
	forward->n_entries--;
}

static bool is_taken(struct forward *forward, const struct forward_spec *spec)
{
	if (*on_port(forward, spec) == 0)
		return false;
	for (size_t i = 0; i < forward->n_entries; i++) {
		const struct forward_spec *other = &forward->entries[i].rule.spec;

		if (other->host_port == spec->host_port && other->proto == spec->proto &&
			other->host_addr.s_addr == spec->host_addr.s_addr)
			return true;
	}
	return false;
}

static int make_room(struct forward *forward)
{
	size_t n = MAX(forward->n_allocated * 2, (size_t)ENTRIES_MIN);
	struct entry *entries;

	if (forward->n_entries >= FORWARD_RULES_MAX)
		return -ENOSPC;
	if (forward->n_entries < forward->n_allocated)
		return 0;
	entries = reallocarray(forward->entries, n, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	forward->entries = entries;
	forward->n_allocated = n;
	return 0;
}

/* A pending entry becomes a rule that serves, or goes; who waits is told. */
static void settle(struct forward *forward, struct entry *entry, int error)
{
	struct entry was = *entry;

	entry->pending = false;
	if (error < 0) {
		log_failure(forward, "publish", &was.rule.spec, error);
		drop(forward, entry);
		/* Nobody was told this id, so the next rule can have it. */
		if (was.rule.id == forward->last_id)
			forward->last_id--;
	} else {
		forward->n_serving++;
	}
	if (was.done)
		was.done(was.owner, was.cookie, error, error < 0 ? 0 : was.rule.id);
}

void forward_add(struct forward *forward, const struct forward_spec *spec, forward_done_fn *done,
	void *owner, uint64_t cookie)
{
	struct forward_rule rule = {.spec = *spec};
	int r = is_taken(forward, spec) ? -EADDRINUSE : make_room(forward);

	if (r < 0) {
		log_failure(forward, "publish", spec, r);
		done(owner, cookie, r, 0);
		return;
	}
	rule.id = ++forward->last_id;
	forward->entries[forward->n_entries++] = (struct entry){
		.rule = rule, .pending = true, .done = done, .owner = owner, .cookie = cookie};
	++*on_port(forward, spec);
	r = forward->backend->ops->bind(forward->backend, &rule);
	if (r != FORWARD_LATER)
		forward_bound(forward, rule.id, r);
}

void forward_bound(struct forward *forward, uint64_t id, int error)
{
	struct entry *entry = find(forward, id);

	if (entry && entry->pending)
		settle(forward, entry, error);
}

void forward_forget(struct forward *forward, const void *owner)
{
	for (size_t i = 0; i < forward->n_entries; i++)
		if (forward->entries[i].owner == owner)
			forward->entries[i].done = NULL;
}

int forward_remove(struct forward *forward, uint64_t id)
{
	struct entry *entry = find(forward, id);
	struct forward_rule rule;
	int r;

	if (!entry || entry->pending)
		return -ENOENT;
	rule = entry->rule;
	r = unbind(forward, &rule);
	if (r < 0)
		return r;
	drop(forward, find(forward, id));
	forward->n_serving--;
	return 0;
}

const struct forward_rule *forward_next(const struct forward *forward, uint64_t after_id)
{
	for (size_t i = lower_bound(forward, after_id + 1); i < forward->n_entries; i++)
		if (!forward->entries[i].pending)
			return &forward->entries[i].rule;
	return NULL;
}

size_t forward_count(const struct forward *forward)
{
	return forward->n_serving;
}
