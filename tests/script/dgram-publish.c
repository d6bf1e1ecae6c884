/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published UDP ports in scripts: rules, sockets of the namespace.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "dgram.h"

static void make(struct socket_source *source, uint8_t family, int type, socket_made_fn *done,
	void *owner, uint64_t cookie)
{
	struct dgrams *ds = container_of(source, struct dgrams, source);

	if (ds->n_asked == DGRAM_MADE_MAX)
		world_fail(ds->world, "too many sockets of the namespace");
	ds->asked[ds->n_asked++] = (struct dgram_asked){done, owner, cookie, family};
}

static bool guest6(void *arg, struct in6_addr *ret)
{
	*ret = (struct in6_addr){{{0xfd, [14] = 1}}};
	return true;
}

void dgram_publish_start(struct world *world, const struct world_config *config)
{
	static const struct siphash_key key = {{3, 4}};
	struct dgrams *ds = world->dgrams;
	const struct splice_config splice_config = {
		.loop = &world->loop,
		.counters = &world->counters,
		.sockets = &ds->source,
		.key = &key,
		.max_flows = 1,
	};
	struct publish_config publish_config = {
		.policy = &world->policy,
		.host = &world->host,
		.loop = &world->loop,
		.counters = &world->counters,
		.egress = &ds->egress,
		.icmp_limit = &world->icmp_limit,
		.next_hop = &world->next_hop,
		.sockets = &ds->source,
		.key = &key,
		.max_udp_clients = config->max_flows,
		.max_fd = INT_MAX,
		.guest6 = guest6,
	};

	ds->source.make = make;
	publish_config.splice = ds->splice = splice_new(&splice_config);
	ds->publish = ds->splice ? publish_new(&publish_config) : NULL;
	if (!ds->publish)
		world_fail(world, "publish_new");
}

static void unpublish(struct dgrams *ds, int i)
{
	struct forward_backend *backend = publish_backend(ds->publish);

	backend->ops->unbind(backend, &ds->rules[i], false);
	ds->rules[i].id = 0;
}

void dgram_publish_stop(struct world *world)
{
	struct dgrams *ds = world->dgrams;

	for (int i = 0; i < ds->n_rules; i++)
		if (ds->rules[i].id)
			unpublish(ds, i);
	publish_free(ds->publish);
	splice_free(ds->splice);
}

/* Those of the published ports stay open: they end with the script. */
void dgram_publish_check_clean(struct world *world)
{
	struct dgrams *ds = world->dgrams;

	for (int i = 0; i < ds->n_rules; i++)
		if (ds->rules[i].id)
			unpublish(ds, i);
}

/* publish ADDRESS PORT to PORT [ports N] [guest ADDRESS] [path auto|splice|tap] [dual]
 * [fails ERROR] */
static void publish_line(struct script *script, struct words *words)
{
	static const char *const paths[] = {
		[FORWARD_AUTO] = "auto", [FORWARD_SPLICE] = "splice", [FORWARD_TAP] = "tap"};
	struct dgrams *ds = script->world->dgrams;
	struct forward_backend *backend = publish_backend(ds->publish);
	struct forward_rule *rule = &ds->rules[ds->n_rules];
	struct forward_failure failure;
	int expected = 0, r;

	if (ds->n_rules == DGRAM_RULES_MAX)
		world_fail(script->world, "too many rules");
	*rule = (struct forward_rule){.id = (uint64_t)++ds->n_rules};
	rule->spec = (struct forward_spec){.proto = FORWARD_UDP, .n_ports = 1, .host_fd = -1};
	rule->spec.host_addr = words_addr(script, words);
	rule->spec.host_port = (uint16_t)words_number(script, words);
	if (!words_accept(words, "to"))
		world_fail(script->world, "to which port?");
	rule->spec.guest_port = (uint16_t)words_number(script, words);
	while (words->at < words->n) {
		if (words_accept(words, "guest"))
			rule->spec.guest_addr = words_addr(script, words);
		else if (words_accept(words, "ports"))
			rule->spec.n_ports = (uint16_t)words_number(script, words);
		else if (words_accept(words, "dual"))
			rule->spec.dual_stack = true;
		else if (words_accept(words, "fails"))
			expected = words_errno(script, words);
		else if (!words_accept(words, "path"))
			world_fail(script->world, "%s of a rule?", words_need(script, words));
		else
			while (!words_accept(words, paths[rule->spec.path]))
				if (rule->spec.path++ == FORWARD_TAP)
					world_fail(script->world, "which path?");
	}
	r = backend->ops->bind(backend, rule, &failure);
	if (r < 0)
		rule->id = 0;
	if (r != -expected)
		world_fail(script->world, "publishing gives %d (%s)", r, failure.field);
}

static void made(struct script *script, int fd)
{
	struct dgrams *ds = script->world->dgrams;
	struct dgram_asked first = ds->asked[0];

	if (!ds->n_asked)
		world_fail(script->world, "nobody has asked for a socket");
	script->turn_is_open = true;
	ds->n_asked--;
	memmove(ds->asked, ds->asked + 1, (size_t)ds->n_asked * sizeof(first));
	first.done(first.owner, first.cookie, fd);
}

/* rule N opened|active|refused|in|out NUMBER */
static void usage_line(struct script *script, struct words *words)
{
	struct dgrams *ds = script->world->dgrams;
	struct forward_backend *backend = publish_backend(ds->publish);
	uint32_t rule = words_number(script, words);
	const char *which = words_need(script, words);
	struct forward_status status;
	uint64_t is;

	if (!rule || rule > (uint32_t)ds->n_rules || !ds->rules[rule - 1].id)
		world_fail(script->world, "there is no rule %u", rule);
	backend->ops->status(backend, &ds->rules[rule - 1], &status);
	is = !strcmp(which, "opened")       ? status.n_opened
		: !strcmp(which, "active")  ? status.n_active
		: !strcmp(which, "refused") ? status.n_refused
		: !strcmp(which, "in")      ? status.n_in_bytes
					    : status.n_out_bytes;
	if (is != words_number(script, words))
		world_fail(script->world, "%s is %u", which, (unsigned int)is);
}

bool dgram_publish_line(struct script *script, const char *name, struct words *words)
{
	struct dgrams *ds = script->world->dgrams;
	static const struct eth_addr mac = {{0x02, 0, 0, 0, 0, 1}};
	const struct ip_addr guest = ip_addr_of_v4(script->world->policy.guest);

	if (!strcmp(name, "publish")) {
		publish_line(script, words);
	} else if (!strcmp(name, "unpublish")) {
		unpublish(ds, (int)words_number(script, words) - 1);
	} else if (!strcmp(name, "rule")) {
		usage_line(script, words);
	} else if (!strcmp(name, "heard")) {
		script->turn_is_open = true;
		publish_neighbor(ds->publish, &guest, &mac);
	} else if (!strcmp(name, "socket-made")) {
		made(script, open("/dev/null", O_RDONLY | O_CLOEXEC));
	} else if (!strcmp(name, "socket-failed")) {
		made(script, -words_errno(script, words));
	} else {
		return false;
	}
	return true;
}
