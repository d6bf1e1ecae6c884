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

static int hostfwd_bind(struct forward_backend *backend, const struct forward_rule *rule)
{
	struct hostfwd *hostfwd = container_of(backend, struct hostfwd, backend);
	struct bridge *bridge = hostfwd->bridge;
	const struct forward_spec *spec = &rule->spec;
	uint8_t *ports;

	if (slirp_add_hostfwd(touch(bridge), spec->proto == FORWARD_UDP, spec->host_addr,
		    spec->host_port, spec->guest_addr, spec->guest_port) < 0)
		return -errno;
	bridge->new_forward = true;
	ports = spec->proto == FORWARD_UDP ? hostfwd->udp_ports : hostfwd->tcp_ports;
	ports[spec->guest_port / 8] |= (uint8_t)(1 << spec->guest_port % 8);
	return 0;
}

static int hostfwd_unbind(struct forward_backend *backend, const struct forward_rule *rule)
{
	struct bridge *bridge = container_of(backend, struct hostfwd, backend)->bridge;
	const struct forward_spec *spec = &rule->spec;

	return slirp_remove_hostfwd(touch(bridge), spec->proto == FORWARD_UDP, spec->host_addr,
		       spec->host_port) < 0
		? -ENOENT
		: 0;
}

static const char *hostfwd_describe(struct forward_backend *backend)
{
	return "libslirp";
}

static const struct forward_backend_ops hostfwd_ops = {
	.bind = hostfwd_bind,
	.unbind = hostfwd_unbind,
	.describe = hostfwd_describe,
};

bool hostfwd_is_published(const struct hostfwd *hostfwd, enum forward_proto proto, uint16_t port)
{
	const uint8_t *ports = proto == FORWARD_UDP ? hostfwd->udp_ports : hostfwd->tcp_ports;

	return ports[port / 8] & 1 << port % 8;
}

void hostfwd_init(struct hostfwd *hostfwd, struct bridge *bridge)
{
	*hostfwd = (struct hostfwd){.backend = {.ops = &hostfwd_ops}, .bridge = bridge};
}
