/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/rule.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"

void passed_fds_done(struct passed_fds *passed)
{
	while (passed->n > 0)
		fd_close(&passed->fds[--passed->n]);
}

/* fd:N is a descriptor of our own; names belong to sd_listen_fds(3), which is for the start. */
static int find_own_fd(void *arg, const char *name)
{
	char *end;
	long fd;

	errno = 0;
	fd = strtol(name, &end, 10);
	if (*name < '0' || *name > '9' || *end || errno || (int)fd != fd)
		return -ENOENT;
	return (int)fd;
}

/* False: the reason was logged. */
static bool parse(const char *text, struct forward_spec *ret)
{
	const char *wrong = NULL;

	*ret = (struct forward_spec){.host_fd = -1};
	if (forward_spec_parse(text, find_own_fd, NULL, ret, &wrong) == 0)
		return true;
	log_error("%s: %s", text, wrong);
	return false;
}

static json_t *text_of_addr(const struct ip_addr *addr, bool dual_stack)
{
	char text[INET6_ADDRSTRLEN];

	if (dual_stack)
		return json_string("*");
	forward_addr_format(addr, text);
	return json_string(text);
}

static json_t *text_of_ports(uint16_t first, uint16_t n)
{
	return n == 1 ? json_integer(first) : json_sprintf("%u-%u", first, first + n - 1U);
}

/* Both fail only without memory. */
static int add_host(json_t *rule, const struct forward_spec *spec)
{
	return json_object_set_new(
		       rule, "host_addr", text_of_addr(&spec->host_addr, spec->dual_stack)) |
		json_object_set_new(
			rule, "host_port", text_of_ports(spec->host_port, spec->n_ports));
}

static int add_guest(json_t *rule, const struct forward_spec *spec)
{
	int failed = 0;

	if (spec->guest_path)
		return json_object_set_new(
			rule, "guest_addr", json_sprintf("unix:%s", spec->guest_path));
	if (spec->guest_addr.family != AF_UNSPEC)
		failed |= json_object_set_new(
			rule, "guest_addr", text_of_addr(&spec->guest_addr, false));
	return failed |
		json_object_set_new(
			rule, "guest_port", text_of_ports(spec->guest_port, spec->n_ports));
}

static int add_passed(json_t *rule, struct forward_spec *spec, struct passed_fds *passed)
{
	int failed = json_object_set_new(rule, "host_fd", json_integer((json_int_t)passed->n));

	passed->fds[passed->n++] = fd_take(&spec->host_fd);
	return failed;
}

static json_t *rule_of_spec(struct forward_spec *spec, struct passed_fds *passed)
{
	json_t *rule = json_object();
	int failed =
		json_object_set_new(rule, "proto", json_string(forward_proto_name(spec->proto)));

	failed |= spec->source == FORWARD_FROM_FD ? add_passed(rule, spec, passed)
						  : add_host(rule, spec);
	failed |= add_guest(rule, spec);
	if (!failed)
		return rule;
	json_decref(rule);
	log_errno(LOG_LEVEL_ERROR, -ENOMEM, "a rule");
	return NULL;
}

json_t *rule_to_add(const char *text, struct passed_fds *passed)
{
	struct forward_spec spec;
	json_t *rule = NULL;

	if (!parse(text, &spec))
		return NULL;
	if (spec.source == FORWARD_FROM_UNIX)
		log_error(
			"%s: a socket in the file system can be made at the start only (-p)", text);
	else if (spec.source == FORWARD_FROM_FD && passed->n == CLIENT_FDS_MAX)
		log_error("%s: at most %d sockets go with one request", text, CLIENT_FDS_MAX);
	else
		rule = rule_of_spec(&spec, passed);
	forward_spec_done(&spec);
	return rule;
}

static bool is_id(const char *text)
{
	return *text && text[strspn(text, "0123456789")] == '\0';
}

static json_t *host_of_spec(const struct forward_spec *spec)
{
	json_t *rule = json_object();

	if (json_object_set_new(rule, "proto", json_string(forward_proto_name(spec->proto))) == 0 &&
		add_host(rule, spec) == 0)
		return rule;
	json_decref(rule);
	return NULL;
}

/* With where it leads to, or without, as the list shows it. */
static json_t *host_of_unix(const char *text)
{
	struct forward_spec spec = {.host_fd = -1};
	const char *wrong;
	bool whole = forward_spec_parse(text, NULL, NULL, &spec, &wrong) == 0;
	json_t *addr = whole ? json_sprintf("unix:%s", spec.host_path) : json_string(text);

	forward_spec_done(&spec);
	return json_pack("{s:s, s:o}", "proto", "tcp", "host_addr", addr);
}

static json_t *host_of_rule(const char *text)
{
	struct forward_spec spec;
	json_t *rule;

	if (strncmp(text, "fd:", 3) == 0) {
		log_error("%s: a rule of a passed socket is removed by its id", text);
		return NULL;
	}
	if (!parse(text, &spec))
		return NULL;
	rule = host_of_spec(&spec);
	forward_spec_done(&spec);
	return rule;
}

json_t *rule_to_remove(const char *text)
{
	if (is_id(text))
		return json_pack("{s:I}", "id", (json_int_t)strtoll(text, NULL, 10));
	if (strncmp(text, "unix:", 5) == 0)
		return host_of_unix(text);
	return host_of_rule(text);
}
