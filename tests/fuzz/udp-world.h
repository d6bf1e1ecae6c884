/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world of fuzz-udp.c: a host whose datagram sockets do what they were told, a link that looks
 * at each frame, and what must hold after each turn.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"
#include "dns/dns.h"
#include "flow/egress.h"
#include "flow/ingress.h"
#include "gateway/gateway.h"
#include "icmpflow/icmpflow.h"
#include "publish/publish.h"
#include "tests/fuzz/fuzz.h"
#include "udpflow/udpflow.h"
#include "wire/checksum.h"
#include "wire/icmp.h"
#include "wire/ip4.h"
#include "wire/ip6.h"
#include "wire/udp.h"

/* Few enough that the silent ones have to give way. */
#define MAX_FLOWS 6
#define RULES     2
#define ASKED     8
#define FDS       40
#define QUEUE     8

/* What the host says of a socket. */
struct far {
	bool is_open, is_ping, is_full, is_woken;
	bool is_published, is_dual;
	uint8_t family;
	struct handle handle;
	struct ip_addr peer;
	struct host_datagram in[QUEUE]; /* without their data */
	int n_in;
	uint8_t in_type; /* of the ICMP messages among them */
	struct host_dgram_error errors[QUEUE];
	int n_errors;
	int pending; /* the next call fails with it, once */
	int send_error;
	be16 dns_id; /* of the last query */
};

static struct world {
	struct policy policy;
	struct counters counters;
	struct icmp_limit icmp_limit;
	struct ingress ingress;
	struct loop loop;
	struct link link;
	struct host host;
	struct egress egress;
	struct gateway gateway;
	struct udpflow udpflow;
	struct icmpflow icmpflow;
	struct dns *dns;
	struct publish *publish;
	struct splice *splice;            /* nothing asks it for connections */
	struct forward_rule rules[RULES]; /* id 0: not bound */
	struct next_hop next_hop;
	int n_claims;
	bool guest_is_hidden;
	struct socket_source source;
	/* Sockets of the namespace that were asked for. */
	struct {
		socket_made_fn *done;
		void *owner;
		uint64_t cookie;
	} asked[ASKED];
	int n_asked;
	struct far far[FDS];
	uint32_t path_mtu; /* of all paths of the host; 0: wide */
	int open_error;    /* of the next socket */
	bool is_full;      /* the link */
	int n_nameservers;
	int64_t unknown_until_ns; /* the host is looking who they are */
} world;

/* ---- the host ---- */

static struct far *far_of(int fd)
{
	ALWAYS(fd >= 0 && fd < FDS && world.far[fd].is_open);
	return &world.far[fd];
}

static int host_open(struct host *host, const struct host_dgram_config *config,
	struct handle handle, struct host_dgram *ret)
{
	int fd = 0, error = world.open_error;

	world.open_error = 0;
	if (error)
		return -error;
	while (fd < FDS && world.far[fd].is_open)
		fd++;
	if (fd == FDS)
		return -EMFILE;
	world.far[fd] = (struct far){
		.is_open = true,
		.is_ping = config->protocol != IPPROTO_UDP,
		.family = config->family,
		.handle = handle,
	};
	if (config->peer)
		world.far[fd].peer = *config->peer;
	if (config->published) {
		world.far[fd].is_published = true;
		world.far[fd].is_dual = config->published->dual_stack;
	}
	*ret = (struct host_dgram){.fd = fd, .family = config->family};
	return 0;
}

static int host_adopt(struct host *host, int fd, const struct host_dgram_config *config,
	struct handle handle, struct host_dgram *ret)
{
	int r = host_open(host, config, handle, ret);

	if (r == 0)
		close(fd);
	return r;
}

static void host_close(struct host *host, struct host_dgram *dgram)
{
	far_of(dgram->fd)->is_open = false;
	dgram->fd = -1;
}

/* The host's own loopback is reached only where that is allowed. */
static void check_peer(const struct far *far, const struct host_datagram *datagram)
{
	bool is_loopback = datagram->addr.family == AF_INET
		? ntohl(ip_addr_v4(&datagram->addr).s_addr) >> 24 == IN_LOOPBACKNET
		: IN6_IS_ADDR_LOOPBACK(&datagram->addr.in6);

	if (!datagram->addr.family) {
		ALWAYS(far->peer.family);
		return;
	}
	ALWAYS(datagram->addr.family == far->family ||
		(far->is_dual && datagram->addr.family == AF_INET));
	ALWAYS(far->is_published == !!datagram->local.family);
	/* Whoever has spoken to us is answered. */
	if (far->is_published)
		ALWAYS(datagram->local.family == datagram->addr.family);
	else if (is_loopback)
		ALWAYS(world.policy.host_loopback && !far->is_ping);
	else
		ALWAYS(policy_check(&world.policy, &datagram->addr, IPPROTO_UDP) == POLICY_PASS);
	ALWAYS(far->is_ping || datagram->port);
}

static void check_datagram(struct far *far, const struct host_datagram *datagram)
{
	check_peer(far, datagram);
	ALWAYS(datagram->len <= 65535);
	if (datagram->segment) {
		ALWAYS(!far->is_ping && datagram->len > datagram->segment);
		ALWAYS(datagram->len <= HOST_RUN_BYTES_MAX);
		ALWAYS((datagram->len + datagram->segment - 1) / datagram->segment <= HOST_RUN_MAX);
	}
	if (far->is_ping)
		ALWAYS(datagram->len >= ICMP_HEADER_LEN &&
			datagram->data[0] ==
				(far->family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST));
	if (far->handle.kind == HANDLE_DNS && datagram->len >= sizeof(be16))
		memcpy(&far->dns_id, datagram->data, sizeof(be16));
}

static void push_error(struct far *far, const struct host_dgram_error *error)
{
	if (far->n_errors == QUEUE)
		return;
	far->errors[far->n_errors++] = *error;
}

static int send_one(struct far *far, const struct host_datagram *datagram)
{
	const struct host_dgram_error too_big = {.error = EMSGSIZE, .mtu = world.path_mtu};
	size_t len = datagram->segment ? datagram->segment : datagram->len;
	int error = far->pending;

	check_datagram(far, datagram);
	far->pending = 0;
	if (error)
		return error;
	if (far->is_full)
		return EAGAIN;
	error = far->send_error;
	far->send_error = 0;
	if (error || !datagram->dont_fragment || !world.path_mtu ||
		len + IP4_HEADER_MIN <= world.path_mtu)
		return error;
	push_error(far, &too_big);
	return EMSGSIZE;
}

static int host_send(
	struct host *host, struct host_dgram *dgram, const struct host_datagram *datagrams, int n)
{
	struct far *far = far_of(dgram->fd);
	int error, i;

	ALWAYS(n >= 1 && n <= HOST_BATCH_MAX);
	for (i = 0; i < n; i++) {
		error = send_one(far, &datagrams[i]);
		if (error)
			return i ? i : -error;
	}
	return n;
}

static int host_recv(
	struct host *host, struct host_dgram *dgram, struct host_datagram *datagrams, int n)
{
	struct far *far = far_of(dgram->fd);
	int error = far->pending, i;

	far->pending = 0;
	if (error)
		return -error;
	for (i = 0; i < n && far->n_in; i++) {
		uint8_t *data = datagrams[i].data;

		ALWAYS(datagrams[i].len >= 65535);
		datagrams[i] = far->in[--far->n_in];
		datagrams[i].data = data;
		memset(data, 0xa5, datagrams[i].len);
		if (far->is_ping)
			data[0] = far->in_type;
		if (far->handle.kind == HANDLE_DNS && datagrams[i].len >= 4) {
			memcpy(data, &far->dns_id, sizeof(far->dns_id));
			data[2] = far->in_type;
			data[3] = (uint8_t)(far->in_type >> 4);
		}
	}
	return i;
}

static bool host_error(struct host *host, struct host_dgram *dgram, struct host_dgram_error *ret)
{
	struct far *far = far_of(dgram->fd);

	far->pending = 0;
	if (!far->n_errors)
		return false;
	*ret = far->errors[0];
	far->n_errors--;
	memmove(far->errors, far->errors + 1, (size_t)far->n_errors * sizeof(far->errors[0]));
	return true;
}

static int host_change(struct host *host, int fd, uint32_t events, struct handle handle)
{
	struct far *far = far_of(fd);

	far->is_woken = far->n_in || far->n_errors;
	return 0;
}

static int host_nameservers(
	struct host *host, struct host_nameserver ret[HOST_NAMESERVERS_MAX], int64_t now_ns)
{
	static const struct in6_addr v6 = {.s6_addr = {0x20, 1, 0xd, 0xb8, [15] = 0x53}};

	if (now_ns < world.unknown_until_ns)
		return -EAGAIN;
	for (int i = 0; i < world.n_nameservers; i++)
		ret[i] = (struct host_nameserver){
			.addr = i % 2
				? ip_addr_of_v6(&v6)
				: ip_addr_of_v4((struct in_addr){htonl(0xc0000235 + (uint32_t)i)}),
			.position = (uint8_t)i,
		};
	return world.n_nameservers;
}

static void host_nameserver_said(
	struct host *host, const struct ip_addr *addr, bool answered, int64_t now_ns)
{
	ALWAYS(addr->family);
}

static const struct host_ops host_ops = {
	.change = host_change,
	.dgram_open = host_open,
	.dgram_adopt = host_adopt,
	.dgram_close = host_close,
	.dgram_send = host_send,
	.dgram_recv = host_recv,
	.dgram_error = host_error,
	.nameservers = host_nameservers,
	.nameserver_said = host_nameserver_said,
};

/* ---- what is sent to the container ---- */

static uint64_t pseudo_sum(const struct packet *p)
{
	struct ip6_addr src6, dst6;

	if (p->protocol == IPPROTO_ICMP)
		return 0;
	if (p->ethertype == ETH_TYPE_IP4)
		return checksum_pseudo4(ip4_addr_be32(ip_addr_v4(&p->src)),
			ip4_addr_be32(ip_addr_v4(&p->dst)), p->protocol,
			(uint16_t)p->transport_len);
	memcpy(&src6, &p->src.in6, sizeof(src6));
	memcpy(&dst6, &p->dst.in6, sizeof(dst6));
	return checksum_pseudo6(&src6, &dst6, p->protocol, p->transport_len);
}

static void check_checksum(
	const struct vnet_header *vnet, const uint8_t *frame, const struct packet *p)
{
	const uint8_t *at = frame + p->transport_offset;

	if (!(vnet->flags & VNET_NEEDS_CSUM)) {
		ALWAYS(!vnet->gso_type);
		ALWAYS(!be16_get(
			checksum_finish(checksum_add(pseudo_sum(p), at, p->transport_len))));
		return;
	}
	ALWAYS(world.link.offloads & LINK_CSUM && p->protocol == IPPROTO_UDP);
	ALWAYS(le16_get(vnet->csum_start) == p->transport_offset);
	ALWAYS(le16_get(vnet->csum_offset) == offsetof(struct udp_header, checksum));
	if (!vnet->gso_type)
		return;
	ALWAYS(world.link.offloads & LINK_USO && vnet->gso_type == VNET_GSO_UDP_L4);
	ALWAYS(le16_get(vnet->gso_size) &&
		le16_get(vnet->gso_size) < p->transport_len - UDP_HEADER_LEN);
}

/* From somebody whom the container can know. */
static void check_source(const struct packet *p)
{
	ALWAYS(policy_check(&world.policy, &p->src, p->protocol) == POLICY_PASS);
	if (p->src.family == AF_INET)
		ALWAYS(!IN_MULTICAST(ntohl(ip_addr_v4(&p->src).s_addr)));
	else
		ALWAYS(!IN6_IS_ADDR_MULTICAST(&p->src.in6));
	ALWAYS(p->ttl);
}

static int link_send(struct link *link, const struct iovec *iov, int n_iov)
{
	static uint8_t buf[LINK_BUFFER_LEN];
	const uint8_t *frame = buf + LINK_HEADER_LEN;
	const struct vnet_header *vnet = (const struct vnet_header *)buf;
	struct packet p;
	size_t len = 0;

	ALWAYS(n_iov <= LINK_PIECES_MAX);
	for (int i = 0; i < n_iov; i++) {
		ALWAYS(len + iov[i].iov_len <= sizeof(buf));
		memcpy(buf + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	ALWAYS(len > LINK_HEADER_LEN);
	ALWAYS(packet_parse(frame, len - LINK_HEADER_LEN, &p) == PACKET_OK);
	ALWAYS(p.len == len - LINK_HEADER_LEN);
	if (world.is_full)
		return -EAGAIN;
	if (p.ethertype == ETH_TYPE_ARP)
		return 0;
	ALWAYS(vnet->gso_type || p.len - p.ip_offset <= MAX(world.egress.mtu, IP6_MIN_MTU));
	check_source(&p);
	if (!p.is_fragment)
		check_checksum(vnet, frame, &p);
	return 0;
}

static const struct link_ops link_ops = {.send = link_send};

/* ---- turns ---- */

static void wake(struct far *far)
{
	uint32_t events = EPOLLIN | (far->n_errors || far->pending ? EPOLLERR : 0);

	far->is_woken = false;
	switch ((enum handle_kind)far->handle.kind) {
	case HANDLE_UDP:
		udpflow_host_ready(&world.udpflow, far->handle, events);
		break;
	case HANDLE_PING:
		icmpflow_host_ready(&world.icmpflow, far->handle, events);
		break;
	case HANDLE_DNS:
		dns_host_ready(world.dns, far->handle, events);
		break;
	case HANDLE_PUBLISH_UDP:
		publish_ready(world.publish, far->handle, events);
		break;
	default:
		ALWAYS(false);
	}
}

/* ---- published ports ---- */

static bool hop_find(
	struct next_hop *next_hop, const struct ip_addr *addr, bool again, struct eth_addr *ret_mac)
{
	*ret_mac = (struct eth_addr){{2, 0, 0, 0, 0, 1}};
	return !world.guest_is_hidden;
}

static int hop_claim(struct next_hop *next_hop, const struct ip_addr *addr)
{
	if (world.n_claims >= 3)
		return -ENOSPC;
	world.n_claims++;
	return 0;
}

static void hop_release(struct next_hop *next_hop, const struct ip_addr *addr)
{
	ALWAYS(world.n_claims-- > 0);
}

static const struct next_hop_ops hop_ops = {hop_find, hop_claim, hop_release};

static void source_make(struct socket_source *source, uint8_t family, int type,
	socket_made_fn *done, void *owner, uint64_t cookie)
{
	if (world.n_asked == ASKED) {
		done(owner, cookie, -EAGAIN);
		return;
	}
	world.asked[world.n_asked].done = done;
	world.asked[world.n_asked].owner = owner;
	world.asked[world.n_asked++].cookie = cookie;
}

/* The one that was asked for last is there, or cannot be had. */
static void source_answer(bool works)
{
	int i = world.n_asked - 1;

	if (i < 0)
		return;
	world.n_asked--;
	world.asked[i].done(world.asked[i].owner, world.asked[i].cookie,
		works ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -EMFILE);
}

static bool guest6(void *arg, struct in6_addr *ret)
{
	*ret = (struct in6_addr){{{0xfd, [15] = 0x64}}};
	return true;
}

static void bind_rule(int i)
{
	struct forward_backend *backend = publish_backend(world.publish);
	struct forward_rule *rule = &world.rules[i];
	struct forward_failure failure;

	rule->id = 1;
	rule->spec = (struct forward_spec){
		.proto = FORWARD_UDP,
		.host_addr = i ? ip_addr_of_v4((struct in_addr){0}) : ip_addr_of_v6(&in6addr_any),
		.dual_stack = !i,
		.host_port = 8000,
		.guest_port = (uint16_t)(5000 + i),
		.n_ports = 2,
		.path = i ? FORWARD_TAP : FORWARD_AUTO,
		.host_fd = -1,
	};
	if (backend->ops->bind(backend, rule, &failure) < 0)
		rule->id = 0;
}

static void unbind_rule(int i)
{
	struct forward_backend *backend = publish_backend(world.publish);
	struct forward_status status;

	if (!world.rules[i].id)
		return;
	backend->ops->status(backend, &world.rules[i], &status);
	ALWAYS(status.n_active <= MAX_FLOWS && status.n_opened >= status.n_active);
	backend->ops->unbind(backend, &world.rules[i], true);
	world.rules[i].id = 0;
}

/* Who asks for another turn gets on meanwhile. */
static void finish(void)
{
	bool again = true;

	for (int n = 0; again; n++) {
		ALWAYS(n < 100);
		again = false;
		for (int fd = 0; fd < FDS; fd++) {
			if (!world.far[fd].is_open || !world.far[fd].is_woken)
				continue;
			wake(&world.far[fd]);
			again = true;
		}
		dns_finish(world.dns);
		again |= udpflow_finish(&world.udpflow);
		again |= publish_finish(world.publish);
	}
	ALWAYS(world.udpflow.table.n_flows <= MAX_FLOWS);
	ALWAYS(world.icmpflow.table.n_flows <= MAX_FLOWS);
}
