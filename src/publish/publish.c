/* SPDX-License-Identifier: Apache-2.0 */
#include "publish/publish.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/unix_listener.h"
#include "base/util.h"
#include "publish/internal.h"

static struct publish *publish_of(struct forward_backend *backend)
{
	return container_of(backend, struct publish, backend);
}

/* ---- decisions ---- */

bool publish_is_loopback(const struct ip_addr *addr)
{
	if (addr->family == AF_INET)
		return ntohl(ip_addr_v4(addr).s_addr) >> 24 == IN_LOOPBACKNET;
	return addr->family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&addr->in6);
}

/* No address, or 0.0.0.0 or ::, which are nobody's. */
static bool is_default(const struct ip_addr *guest)
{
	if (guest->family == AF_INET)
		return ip_addr_v4(guest).s_addr == INADDR_ANY;
	return guest->family != AF_INET6 || IN6_IS_ADDR_UNSPECIFIED(&guest->in6);
}

bool published_has_default_guest(const struct published *published)
{
	return is_default(&published->rule->spec.guest_addr);
}

static bool guest6(const struct publish *publish, struct ip_addr *ret)
{
	const struct publish_config *config = &publish->config;
	struct in6_addr in6;

	if (!config->policy->ipv6 || !config->guest6 || !config->guest6(config->arg, &in6))
		return false;
	*ret = ip_addr_of_v6(&in6);
	return true;
}

/* A rule for both families gives each its own, as long as the guest has both. */
bool published_guest(const struct published *published, uint8_t family, struct ip_addr *ret)
{
	const struct publish *publish = published->publish;
	const struct forward_spec *spec = &published->rule->spec;
	const bool is6 = spec->guest_addr.family == AF_INET6 ||
		(spec->guest_addr.family != AF_INET && published->family == AF_INET6);

	if (!is_default(&spec->guest_addr)) {
		*ret = spec->guest_addr;
		return true;
	}
	if (is6 && (family == AF_INET6 || !published->dual_stack) && guest6(publish, ret))
		return true;
	if (is6 && !published->dual_stack)
		return false;
	*ret = ip_addr_of_v4(publish->config.policy->guest);
	return true;
}

bool published_wants_splice(const struct published *published, const struct ip_addr *peer)
{
	const struct forward_spec *spec = &published->rule->spec;

	if (!published->publish->config.splice)
		return false;
	if (spec->guest_path || publish_is_loopback(&spec->guest_addr) ||
		spec->path == FORWARD_SPLICE)
		return true;
	return spec->path == FORWARD_AUTO && (peer->family == AF_UNIX || publish_is_loopback(peer));
}

uint16_t publish_own_port(struct publish *publish)
{
	return (uint16_t)(49152 + publish->next_port++ % 16384);
}

void publish_client_name(struct publish *publish, const struct ip_addr *peer, uint16_t peer_port,
	const struct ip_addr *guest, struct ip_addr *far, uint16_t *far_port)
{
	const struct policy *policy = publish->config.policy;

	if (peer->family == AF_UNIX) {
		*far = policy_gateway(policy, guest->family);
		*far_port = publish_own_port(publish);
	} else {
		*far = policy_client_name(policy, peer, guest);
		*far_port = peer_port;
	}
}

/* ---- what a rule may ask for ---- */

static int wrong(struct forward_failure *failure, const char *field, int error)
{
	failure->field = field;
	return error;
}

static int check_ports(const struct forward_spec *spec, struct forward_failure *failure)
{
	if (spec->n_ports == 0 || (spec->source != FORWARD_FROM_ADDR && spec->n_ports != 1))
		return wrong(failure, "host_port", -EINVAL);
	if (spec->source == FORWARD_FROM_ADDR &&
		(spec->host_port == 0 || spec->host_port + spec->n_ports - 1 > UINT16_MAX))
		return wrong(failure, "host_port", -EINVAL);
	if (!spec->guest_path &&
		(spec->guest_port == 0 || spec->guest_port + spec->n_ports - 1 > UINT16_MAX))
		return wrong(failure, "guest_port", -EINVAL);
	return 0;
}

/* Of a guest that is not named, with what is known now. */
static int check_default(const struct published *published, struct forward_failure *failure)
{
	const struct publish_config *config = &published->publish->config;
	struct ip_addr guest;

	if (published_guest(published, published->family, &guest))
		return 0;
	if (published->rule->spec.at_start && config->policy->ipv6 && config->guest6)
		return 0;
	return wrong(failure, "guest_addr", -EADDRNOTAVAIL);
}

/* The namespace's own loopback is out of the link's reach, and so is a unix socket. */
static int check_guest(const struct published *published, struct forward_failure *failure)
{
	const struct forward_spec *spec = &published->rule->spec;
	const struct publish_config *config = &published->publish->config;
	const bool is_loopback = publish_is_loopback(&spec->guest_addr);

	if (spec->path == FORWARD_SPLICE && !config->splice)
		return wrong(failure, "path", -EOPNOTSUPP);
	if (spec->guest_path && spec->proto == FORWARD_UDP)
		return wrong(failure, "guest_addr", -EOPNOTSUPP);
	if ((spec->guest_path || is_loopback) && spec->path == FORWARD_TAP)
		return wrong(failure, "path", -EOPNOTSUPP);
	if ((spec->guest_path || is_loopback) && !config->splice)
		return wrong(failure, "guest_addr", -EOPNOTSUPP);
	if (spec->guest_path || is_loopback)
		return 0;
	if (published_has_default_guest(published))
		return check_default(published, failure);
	if (spec->guest_addr.family == AF_INET6 && !config->policy->ipv6)
		return wrong(failure, "guest_addr", -EADDRNOTAVAIL);
	return ip_addr_is_unicast(&spec->guest_addr) ? 0 : wrong(failure, "guest_addr", -EINVAL);
}

static bool is_wanted_kind(const struct host_socket *socket, enum forward_proto proto)
{
	const uint8_t family = socket->addr.family;

	if (family != AF_INET && family != AF_INET6 && (family != AF_UNIX || proto == FORWARD_UDP))
		return false;
	if (proto == FORWARD_TCP)
		return socket->type == SOCK_STREAM && socket->is_listening;
	return socket->type == SOCK_DGRAM && socket->port != 0;
}

static int take_source(struct published *published, struct forward_failure *failure)
{
	const struct forward_spec *spec = &published->rule->spec;
	struct host *host = published->publish->config.host;
	struct host_socket socket;
	int r;

	published->family = AF_UNIX;
	if (spec->source == FORWARD_FROM_UNIX)
		return spec->proto == FORWARD_TCP ? 0 : wrong(failure, "host_addr", -EOPNOTSUPP);
	if (spec->source == FORWARD_FROM_ADDR) {
		published->family = spec->host_addr.family;
		published->dual_stack = spec->dual_stack && spec->host_addr.family == AF_INET6;
		return 0;
	}
	r = host->ops->describe(host, spec->host_fd, &socket);
	if (r == 0 && !is_wanted_kind(&socket, spec->proto))
		r = -EINVAL;
	published->family = socket.addr.family;
	published->dual_stack = socket.dual_stack;
	return r < 0 ? wrong(failure, "host_fd", r) : 0;
}

/* ---- the backend ---- */

static void published_free(struct published *published)
{
	usage_unref(published->usage);
	free(published);
}

static int start(struct published *published, struct forward_failure *failure)
{
	int r = take_source(published, failure);

	if (r == 0)
		r = check_ports(&published->rule->spec, failure);
	if (r == 0)
		r = check_guest(published, failure);
	if (r < 0)
		return r;
	if (published->rule->spec.proto == FORWARD_UDP)
		return publish_udp_bind(published, failure);
	return publish_tcp_bind(published, failure);
}

static int publish_bind(struct forward_backend *backend, struct forward_rule *rule,
	struct forward_failure *ret_failure)
{
	struct publish *publish = publish_of(backend);
	struct published *published = calloc(1, sizeof(*published));
	int r;

	ret_failure->field = "host_port";
	ret_failure->port = rule->spec.host_port;
	if (!published)
		return -ENOMEM;
	published->publish = publish;
	published->rule = rule;
	published->usage = usage_new();
	r = published->usage ? start(published, ret_failure) : -ENOMEM;
	if (r < 0) {
		published_free(published);
		return r;
	}
	list_append(&publish->rules, &published->link);
	rule->served = published;
	return 0;
}

static void close_all(struct publish *publish, const struct published *published)
{
	tcpflow_reset_all(publish->config.tcpflow, published->usage);
	if (publish->config.splice)
		splice_reset_all(publish->config.splice, published->usage);
}

static void publish_unbind(
	struct forward_backend *backend, const struct forward_rule *rule, bool close_connections)
{
	struct publish *publish = publish_of(backend);
	struct published *published = rule->served;

	if (rule->spec.proto == FORWARD_UDP)
		publish_udp_unbind(published);
	else
		publish_tcp_unbind(published);
	if (close_connections && published->usage->n_refs > 1)
		close_all(publish, published);
	list_remove(&published->link);
	published_free(published);
}

static bool knows_guest(const struct published *published)
{
	struct ip_addr guest;

	return published->rule->spec.guest_path ||
		published_guest(published, published->family, &guest);
}

static void publish_status(struct forward_backend *backend, const struct forward_rule *rule,
	struct forward_status *ret)
{
	const struct published *published = rule->served;
	const struct usage *usage = published->usage;

	ret->n_opened = usage->n_opened;
	ret->n_active = usage->n_active;
	ret->n_refused = usage->n_refused;
	ret->n_in_bytes = usage->n_in_bytes;
	ret->n_out_bytes = usage->n_out_bytes;
	if (rule->spec.proto == FORWARD_UDP)
		publish_udp_status(published, ret);
	else
		publish_tcp_status(published, ret);
	if (!knows_guest(published)) {
		ret->state = FORWARD_FAILED;
		ret->error = EADDRNOTAVAIL;
	}
}

static const char *publish_describe(struct forward_backend *backend)
{
	return "published ports";
}

static const struct forward_backend_ops publish_ops = {
	.bind = publish_bind,
	.unbind = publish_unbind,
	.status = publish_status,
	.describe = publish_describe,
};

struct forward_backend *publish_backend(struct publish *publish)
{
	return &publish->backend;
}

size_t publish_folders(const struct publish *publish, int *ret_fds, size_t max)
{
	size_t n = 0;

	for (struct list *link = publish->rules.next; link != &publish->rules && n < max;
		link = link->next) {
		const struct published *published = container_of(link, struct published, link);

		if (published->unix_listener)
			ret_fds[n++] = published->unix_listener->folder_fd;
	}
	return n;
}

/* ---- life, and what comes from the loop ---- */

struct publish *publish_new(const struct publish_config *config)
{
	struct publish *publish = calloc(1, sizeof(*publish));

	if (!publish)
		return NULL;
	publish->backend.ops = &publish_ops;
	publish->config = *config;
	list_init(&publish->rules);
	publish_tcp_init(publish);
	publish->lazy = lazy_new(publish);
	publish->udp = publish_udp_new(publish);
	if (publish->lazy && publish->udp)
		return publish;
	publish_free(publish);
	return NULL;
}

void publish_free(struct publish *publish)
{
	if (!publish)
		return;
	publish_tcp_done(publish);
	if (publish->lazy)
		lazy_free(publish->lazy);
	if (publish->udp)
		publish_udp_free(publish->udp);
	free(publish);
}

void publish_ready(struct publish *publish, struct handle handle, uint32_t events)
{
	if (handle.kind == HANDLE_PUBLISH)
		publish_tcp_ready(publish, handle);
	else
		publish_udp_ready(publish->udp, handle, events);
}

void publish_neighbor(
	struct publish *publish, const struct ip_addr *addr, const struct eth_addr *mac)
{
	publish_udp_neighbor(publish->udp, addr, mac);
}

bool publish_finish(struct publish *publish)
{
	bool more_tcp = publish_tcp_finish(publish);

	return publish_udp_finish(publish->udp) || more_tcp;
}
