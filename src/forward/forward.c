/* SPDX-License-Identifier: Apache-2.0 */
#include "forward/forward.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "forward/spec.h"

/* How many entries the first one allocates; then it doubles. */
#define ENTRIES_MIN 16

struct forward {
	struct forward_backend *backend;
	struct forward_rule **rules; /* in the order of their ids: a new one is the last */
	size_t n_rules;
	/* Those that have ports, by protocol, address and port. Their ranges are apart. */
	struct forward_rule **by_port;
	size_t n_by_port;
	size_t n_allocated; /* of both */
	uint64_t last_id;
};

const char *forward_proto_name(enum forward_proto proto)
{
	return proto == FORWARD_TCP ? "tcp" : "udp";
}

const char *forward_path_name(enum forward_path path)
{
	static const char *const names[] = {
		[FORWARD_AUTO] = "auto", [FORWARD_SPLICE] = "splice", [FORWARD_TAP] = "tap"};

	return names[path];
}

void forward_spec_done(struct forward_spec *spec)
{
	free(spec->host_path);
	free(spec->guest_path);
	if (spec->host_fd >= 0)
		close(spec->host_fd);
	*spec = (struct forward_spec){.host_fd = -1};
}

bool forward_spec_can_be_lazy(const struct forward_spec *spec)
{
	return spec->proto == FORWARD_TCP && spec->source == FORWARD_FROM_ADDR && !spec->guest_path;
}

/* ---- the table ---- */

/* The index of the first rule whose id is `id` or greater. */
static size_t lower_bound(const struct forward *forward, uint64_t id)
{
	size_t low = 0, high = forward->n_rules;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (forward->rules[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool has_port(const struct forward_spec *spec)
{
	return spec->host_addr.family == AF_INET || spec->host_addr.family == AF_INET6;
}

static uint32_t last_port(const struct forward_spec *spec)
{
	return (uint32_t)spec->host_port + spec->n_ports - 1;
}

/* As memcmp(). */
static int compare_socket(const struct forward_spec *a, const struct forward_spec *b)
{
	if (a->proto != b->proto)
		return a->proto < b->proto ? -1 : 1;
	if (a->host_addr.family != b->host_addr.family)
		return a->host_addr.family < b->host_addr.family ? -1 : 1;
	return memcmp(&a->host_addr.in6, &b->host_addr.in6, sizeof(a->host_addr.in6));
}

static int compare_spec(const struct forward_spec *a, const struct forward_spec *b)
{
	int r = compare_socket(a, b);

	return r ? r : (int)a->host_port - (int)b->host_port;
}

/* For qsort(3), over pointers into one array: its order decides between equals. */
static int compare_order(const void *a, const void *b)
{
	const struct forward_spec *const *left = a, *const *right = b;
	int r = compare_spec(*left, *right);

	return r ? r : (*left > *right) - (*left < *right);
}

/* The index of the first rule in by_port that is not before `spec`. */
static size_t port_bound(const struct forward *forward, const struct forward_spec *spec)
{
	size_t low = 0, high = forward->n_by_port;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_spec(&forward->by_port[middle]->spec, spec) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The first port of `spec` that a rule has already; 0: there is none. */
static uint16_t taken_port(const struct forward *forward, const struct forward_spec *spec)
{
	size_t i = port_bound(forward, spec);
	const struct forward_spec *before = i > 0 ? &forward->by_port[i - 1]->spec : NULL;
	const struct forward_spec *after =
		i < forward->n_by_port ? &forward->by_port[i]->spec : NULL;

	if (before && compare_socket(before, spec) == 0 && last_port(before) >= spec->host_port)
		return spec->host_port;
	if (after && compare_socket(after, spec) == 0 && after->host_port <= last_port(spec))
		return after->host_port;
	return 0;
}

static void by_port_remove(struct forward *forward, const struct forward_rule *rule)
{
	size_t i = port_bound(forward, &rule->spec);

	if (!has_port(&rule->spec))
		return;
	forward->n_by_port--;
	memmove(&forward->by_port[i], &forward->by_port[i + 1],
		(forward->n_by_port - i) * sizeof(struct forward_rule *));
}

static int grow(struct forward_rule ***rules, size_t n)
{
	struct forward_rule **grown = reallocarray(*rules, n, sizeof(struct forward_rule *));

	if (!grown)
		return -ENOMEM;
	*rules = grown;
	return 0;
}

static int make_room(struct forward *forward, size_t n)
{
	size_t wanted = MAX(forward->n_allocated, (size_t)ENTRIES_MIN);

	if (n > FORWARD_RULES_MAX - forward->n_rules)
		return -ENOSPC;
	while (wanted < forward->n_rules + n)
		wanted *= 2;
	if (wanted == forward->n_allocated)
		return 0;
	if (grow(&forward->rules, wanted) < 0 || grow(&forward->by_port, wanted) < 0)
		return -ENOMEM;
	forward->n_allocated = wanted;
	return 0;
}

static void free_rule(struct forward_rule *rule)
{
	forward_spec_done(&rule->spec);
	free(rule);
}

/* ---- a set of specs ---- */

/* `sorted` are those of `specs` that have ports. */
struct set {
	struct forward_spec *specs;
	size_t n;
	struct forward_spec **sorted;
	size_t n_sorted;
};

static int set_sort(struct set *set)
{
	set->sorted = malloc(MAX(set->n, (size_t)1) * sizeof(struct forward_spec *));
	if (!set->sorted)
		return -ENOMEM;
	for (size_t i = 0; i < set->n; i++)
		if (has_port(&set->specs[i]))
			set->sorted[set->n_sorted++] = &set->specs[i];
	qsort(set->sorted, set->n_sorted, sizeof(struct forward_spec *), compare_order);
	return 0;
}

/* Of several failures the one of the first spec is told. */
static void note_taken(struct forward_failure *failure, size_t index, uint16_t port)
{
	if (failure->error && failure->index <= index)
		return;
	failure->error = -EADDRINUSE;
	failure->index = index;
	failure->port = port;
	failure->field = "host_port";
}

/* Whether two of the set have a port in common: one's range begins within that which reaches
 * farthest of those before it. The later in the set is to blame. */
static void check_set(const struct set *set, struct forward_failure *ret_failure)
{
	const struct forward_spec *farthest = set->n_sorted ? set->sorted[0] : NULL;

	for (size_t i = 1; i < set->n_sorted; i++) {
		const struct forward_spec *spec = set->sorted[i];
		bool same = compare_socket(farthest, spec) == 0;

		if (same && spec->host_port <= last_port(farthest))
			note_taken(ret_failure, (size_t)(MAX(farthest, spec) - set->specs),
				spec->host_port);
		if (!same || last_port(spec) > last_port(farthest))
			farthest = spec;
	}
}

static int check_taken(
	const struct forward *forward, const struct set *set, struct forward_failure *ret_failure)
{
	check_set(set, ret_failure);
	for (size_t i = 0; i < set->n_sorted; i++) {
		uint16_t port = taken_port(forward, set->sorted[i]);

		if (port)
			note_taken(ret_failure, (size_t)(set->sorted[i] - set->specs), port);
	}
	return ret_failure->error;
}

/* The spec's belongings are the rule's when it is one. */
static int add_one(
	struct forward *forward, struct forward_spec *spec, struct forward_failure *ret_failure)
{
	struct forward_rule *rule = malloc(sizeof(*rule));
	int r;

	if (!rule)
		return -ENOMEM;
	ret_failure->field = "host_port";
	ret_failure->port = has_port(spec) ? spec->host_port : 0;
	*rule = (struct forward_rule){.id = forward->last_id + 1, .spec = *spec};
	r = forward->backend->ops->bind(forward->backend, rule, ret_failure);
	if (r < 0) {
		spec->host_fd = rule->spec.host_fd;
		free(rule);
		return r;
	}
	spec->host_path = spec->guest_path = NULL;
	spec->host_fd = -1;
	forward->last_id++;
	forward->rules[forward->n_rules++] = rule;
	return 0;
}

/* Nobody was told its id, so the next rule can have it. */
static void take_back_last(struct forward *forward)
{
	struct forward_rule *rule = forward->rules[--forward->n_rules];

	forward->last_id--;
	forward->backend->ops->unbind(forward->backend, rule, true);
	free_rule(rule);
}

/* The set's rules are the last ones. Two sorted rows become one, from behind. */
static void by_port_merge(struct forward *forward, const struct set *set)
{
	struct forward_rule **new_rules = &forward->rules[forward->n_rules - set->n];
	size_t i = forward->n_by_port, j = set->n_sorted;

	while (j > 0) {
		struct forward_rule *rule = new_rules[set->sorted[j - 1] - set->specs];

		if (i > 0 && compare_spec(&forward->by_port[i - 1]->spec, &rule->spec) > 0) {
			forward->by_port[i + j - 1] = forward->by_port[i - 1];
			i--;
		} else {
			forward->by_port[i + --j] = rule;
		}
	}
	forward->n_by_port += set->n_sorted;
}

static int add_set(
	struct forward *forward, const struct set *set, struct forward_failure *ret_failure)
{
	size_t n_before = forward->n_rules;
	int r = check_taken(forward, set, ret_failure);

	for (size_t i = 0; r == 0 && i < set->n; i++) {
		ret_failure->index = i;
		r = add_one(forward, &set->specs[i], ret_failure);
	}
	if (r == 0)
		by_port_merge(forward, set);
	while (r < 0 && forward->n_rules > n_before)
		take_back_last(forward);
	return r;
}

static void log_failure(const struct forward *forward, const struct set *set, enum log_level level,
	const struct forward_failure *failure)
{
	const char *hint = forward_failure_hint(failure);
	char text[FORWARD_SPEC_TEXT_MAX], where[32];

	forward_spec_format(&set->specs[failure->index], text);
	if (failure->port && strcmp(failure->field, "host_port") == 0)
		snprintf(where, sizeof(where), "port %u", failure->port);
	else
		snprintf(where, sizeof(where), "%s", failure->field);
	log_line(level, "%s: cannot publish %s: %s: %s%s%s",
		forward->backend->ops->describe(forward->backend), text, where,
		strerror(-failure->error), hint ? "; " : "", hint ? hint : "");
}

/* ---- all of them ---- */

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

void forward_close_all(struct forward *forward)
{
	while (forward->n_rules > 0) {
		struct forward_rule *rule = forward->rules[--forward->n_rules];

		forward->backend->ops->unbind(forward->backend, rule, false);
		free_rule(rule);
	}
	free(forward->rules);
	free(forward->by_port);
	forward->rules = forward->by_port = NULL;
	forward->n_by_port = 0;
	forward->n_allocated = 0;
}

int forward_add(struct forward *forward, struct forward_spec *specs, size_t n, enum log_level level,
	uint64_t *ret_id, struct forward_failure *ret_failure)
{
	struct set set = {.specs = specs, .n = n};
	int r = make_room(forward, n);

	*ret_failure = (struct forward_failure){.field = "rules"};
	*ret_id = forward->last_id + 1;
	if (r == 0)
		r = set_sort(&set);
	if (r == 0)
		r = add_set(forward, &set, ret_failure);
	ret_failure->error = r;
	if (r < 0 && n > 0)
		log_failure(forward, &set, level, ret_failure);
	free(set.sorted);
	for (size_t i = 0; i < n; i++)
		forward_spec_done(&specs[i]);
	return r;
}

int forward_remove(struct forward *forward, uint64_t id, bool close_connections)
{
	size_t i = lower_bound(forward, id);
	struct forward_rule *rule;

	if (i == forward->n_rules || forward->rules[i]->id != id)
		return -ENOENT;
	rule = forward->rules[i];
	forward->n_rules--;
	memmove(&forward->rules[i], &forward->rules[i + 1],
		(forward->n_rules - i) * sizeof(struct forward_rule *));
	by_port_remove(forward, rule);
	forward->backend->ops->unbind(forward->backend, rule, close_connections);
	free_rule(rule);
	return 0;
}

static uint64_t find_path(const struct forward *forward, const char *path)
{
	for (size_t i = 0; i < forward->n_rules; i++) {
		const char *other = forward->rules[i]->spec.host_path;

		if (other && strcmp(other, path) == 0)
			return forward->rules[i]->id;
	}
	return 0;
}

uint64_t forward_find(const struct forward *forward, const struct forward_spec *spec)
{
	const struct forward_rule *rule;
	size_t i;

	if (!has_port(spec))
		return find_path(forward, spec->host_path);
	i = port_bound(forward, spec);
	rule = i < forward->n_by_port ? forward->by_port[i] : NULL;
	if (!rule || compare_spec(&rule->spec, spec) != 0 || rule->spec.n_ports != spec->n_ports ||
		rule->spec.dual_stack != spec->dual_stack)
		return 0;
	return rule->id;
}

const struct forward_rule *forward_next(const struct forward *forward, uint64_t after_id)
{
	size_t i = lower_bound(forward, after_id + 1);

	return i < forward->n_rules ? forward->rules[i] : NULL;
}

void forward_status(
	const struct forward *forward, const struct forward_rule *rule, struct forward_status *ret)
{
	*ret = (struct forward_status){.state = FORWARD_LISTENING};
	forward->backend->ops->status(forward->backend, rule, ret);
}

size_t forward_count(const struct forward *forward)
{
	return forward->n_rules;
}
