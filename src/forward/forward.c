/* SPDX-License-Identifier: Apache-2.0 */
#include "forward/forward.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "forward/spec.h"

/* How many entries the first one allocates; then it doubles. */
#define ENTRIES_MIN 16

struct forward {
	struct forward_backend *backend;
	struct forward_rule **rules; /* in the order of their ids: a new one is the last */
	size_t n_rules;
	size_t n_allocated;
	uint64_t last_id;
	/* How many rules have this host port: most are free, and need no look at all rules. */
	uint32_t n_on_port[2][UINT16_MAX + 1];
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
	return spec->source != FORWARD_FROM_UNIX;
}

static void count_ports(struct forward *forward, const struct forward_spec *spec, int by)
{
	for (uint32_t i = 0; has_port(spec) && i < spec->n_ports; i++)
		forward->n_on_port[spec->proto][spec->host_port + i] += (uint32_t)by;
}

static bool overlap(const struct forward_spec *a, const struct forward_spec *b)
{
	return has_port(a) && has_port(b) && a->proto == b->proto &&
		a->host_port < b->host_port + b->n_ports &&
		b->host_port < a->host_port + a->n_ports &&
		ip_addr_equal(&a->host_addr, &b->host_addr);
}

/* The first port of `spec` that a rule has already; 0: there is none. */
static uint16_t taken_port(const struct forward *forward, const struct forward_spec *spec)
{
	bool maybe = false;

	for (uint32_t i = 0; has_port(spec) && i < spec->n_ports; i++)
		maybe = maybe || forward->n_on_port[spec->proto][spec->host_port + i];
	for (size_t i = 0; maybe && i < forward->n_rules; i++)
		if (overlap(spec, &forward->rules[i]->spec))
			return MAX(spec->host_port, forward->rules[i]->spec.host_port);
	return 0;
}

static int make_room(struct forward *forward, size_t n)
{
	size_t wanted = MAX(forward->n_allocated, (size_t)ENTRIES_MIN);
	struct forward_rule **rules;

	if (n > FORWARD_RULES_MAX - forward->n_rules)
		return -ENOSPC;
	while (wanted < forward->n_rules + n)
		wanted *= 2;
	if (wanted == forward->n_allocated)
		return 0;
	rules = reallocarray(forward->rules, wanted, sizeof(struct forward_rule *));
	if (!rules)
		return -ENOMEM;
	forward->rules = rules;
	forward->n_allocated = wanted;
	return 0;
}

static void free_rule(struct forward_rule *rule)
{
	forward_spec_done(&rule->spec);
	free(rule);
}

/* ---- one rule ---- */

static int log_failure(const struct forward *forward, const struct forward_spec *spec, int error)
{
	char text[FORWARD_SPEC_TEXT_MAX];

	forward_spec_format(spec, text);
	return log_errno(LOG_LEVEL_WARNING, error, "%s: cannot publish %s",
		forward->backend->ops->describe(forward->backend), text);
}

/* The spec's belongings are the rule's when it is one. */
static int add_one(
	struct forward *forward, struct forward_spec *spec, struct forward_failure *ret_failure)
{
	struct forward_rule *rule;
	int r;

	ret_failure->field = "host_port";
	ret_failure->port = taken_port(forward, spec);
	if (ret_failure->port)
		return -EADDRINUSE;
	ret_failure->port = spec->host_port;
	rule = malloc(sizeof(*rule));
	if (!rule)
		return -ENOMEM;
	*rule = (struct forward_rule){.id = forward->last_id + 1, .spec = *spec};
	r = forward->backend->ops->bind(forward->backend, rule, ret_failure);
	if (r < 0) {
		free(rule);
		return r;
	}
	*spec = (struct forward_spec){.host_fd = -1};
	forward->last_id++;
	forward->rules[forward->n_rules++] = rule;
	count_ports(forward, &rule->spec, 1);
	return 0;
}

static void take_back_last(struct forward *forward)
{
	struct forward_rule *rule = forward->rules[--forward->n_rules];

	forward->backend->ops->unbind(forward->backend, rule, true);
	count_ports(forward, &rule->spec, -1);
	free_rule(rule);
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

		count_ports(forward, &rule->spec, -1);
		forward->backend->ops->unbind(forward->backend, rule, false);
		free_rule(rule);
	}
	free(forward->rules);
	forward->rules = NULL;
	forward->n_allocated = 0;
}

int forward_add(struct forward *forward, struct forward_spec *specs, size_t n, uint64_t *ret_id,
	struct forward_failure *ret_failure)
{
	uint64_t first_id = forward->last_id + 1;
	int r = make_room(forward, n);

	*ret_failure = (struct forward_failure){0};
	*ret_id = first_id;
	for (size_t i = 0; r == 0 && i < n; i++) {
		ret_failure->index = i;
		r = add_one(forward, &specs[i], ret_failure);
		if (r < 0)
			log_failure(forward, &specs[i], r);
	}
	ret_failure->error = r;
	/* Nobody was told these ids, so the next rules can have them. */
	while (r < 0 && forward->last_id >= first_id) {
		take_back_last(forward);
		forward->last_id--;
	}
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
	count_ports(forward, &rule->spec, -1);
	forward->backend->ops->unbind(forward->backend, rule, close_connections);
	free_rule(rule);
	return 0;
}

static bool same_host_side(const struct forward_spec *a, const struct forward_spec *b)
{
	if (a->proto != b->proto || a->source != b->source)
		return false;
	if (a->source == FORWARD_FROM_UNIX)
		return strcmp(a->host_path, b->host_path) == 0;
	return a->host_port == b->host_port && a->n_ports == b->n_ports &&
		ip_addr_equal(&a->host_addr, &b->host_addr);
}

uint64_t forward_find(const struct forward *forward, const struct forward_spec *spec)
{
	for (size_t i = 0; i < forward->n_rules; i++)
		if (same_host_side(&forward->rules[i]->spec, spec))
			return forward->rules[i]->id;
	return 0;
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
