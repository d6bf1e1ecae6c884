/* SPDX-License-Identifier: Apache-2.0 */
#include "slirp/hostfwd.h"

#include <errno.h>
#include <libslirp.h>

#include "base/util.h"

/* libslirp's list of sockets has changed. */
static struct Slirp *touch(struct bridge *bridge)
{
	bridge->is_due = true;
	return bridge->slirp;
}

/* The first thing that libslirp cannot do. */
static int check(const struct forward_spec *spec, struct forward_failure *ret_failure)
{
	if (spec->source == FORWARD_FROM_FD)
		ret_failure->field = "host_fd";
	else if (spec->host_addr.family != AF_INET)
		ret_failure->field = "host_addr";
	else if (spec->guest_path || spec->guest_addr.family == AF_INET6)
		ret_failure->field = "guest_addr";
	else if (spec->path == FORWARD_SPLICE)
		ret_failure->field = "path";
	else if (spec->lazy)
		ret_failure->field = "lazy";
	else
		return 0;
	ret_failure->port = 0;
	return -EOPNOTSUPP;
}

static void remove_ports(struct bridge *bridge, const struct forward_spec *spec, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		slirp_remove_hostfwd(touch(bridge), spec->proto == FORWARD_UDP,
			ip_addr_v4(&spec->host_addr), spec->host_port + (int)i);
}

static int hostfwd_bind(struct forward_backend *backend, struct forward_rule *rule,
	struct forward_failure *ret_failure)
{
	struct hostfwd *hostfwd = container_of(backend, struct hostfwd, backend);
	struct bridge *bridge = hostfwd->bridge;
	const struct forward_spec *spec = &rule->spec;
	const struct in_addr guest =
		spec->guest_addr.family == AF_INET ? ip_addr_v4(&spec->guest_addr) : hostfwd->guest;
	int r = check(spec, ret_failure);

	for (uint32_t i = 0; r == 0 && i < spec->n_ports; i++) {
		ret_failure->port = (uint16_t)(spec->host_port + i);
		if (slirp_add_hostfwd(touch(bridge), spec->proto == FORWARD_UDP,
			    ip_addr_v4(&spec->host_addr), ret_failure->port, guest,
			    spec->guest_port + (int)i) < 0) {
			r = errno ? -errno : -EIO;
			remove_ports(bridge, spec, i);
		}
	}
	bridge->new_forward = true;
	return r;
}

/* Connections go on in any case: libslirp does not say whose they are. */
static void hostfwd_unbind(
	struct forward_backend *backend, const struct forward_rule *rule, bool close_connections)
{
	struct bridge *bridge = container_of(backend, struct hostfwd, backend)->bridge;

	remove_ports(bridge, &rule->spec, rule->spec.n_ports);
}

/* libslirp tells nothing. */
static void hostfwd_status(struct forward_backend *backend, const struct forward_rule *rule,
	struct forward_status *ret)
{
}

static const char *hostfwd_describe(struct forward_backend *backend)
{
	return "libslirp";
}

static const struct forward_backend_ops hostfwd_ops = {
	.bind = hostfwd_bind,
	.unbind = hostfwd_unbind,
	.status = hostfwd_status,
	.describe = hostfwd_describe,
};

void hostfwd_init(struct hostfwd *hostfwd, struct bridge *bridge, struct in_addr guest)
{
	*hostfwd = (struct hostfwd){
		.backend = {.ops = &hostfwd_ops}, .bridge = bridge, .guest = guest};
}
