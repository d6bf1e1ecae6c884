/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fake host's datagram sockets. An error of an earlier datagram is in the way of the next call
 * once, as on Linux.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "dgram.h"
#include "wire/icmp.h"
#include "wire/ip4.h"
#include "wire/ip6.h"
#include "wire/udp.h"

#define FD_BASE 5000
/* Of the kernel's own choice. */
#define HOST_ID 0x4242

static struct world *world_of(struct host *host)
{
	return container_of(host, struct world, host);
}

static struct dgram_socket *socket_of(struct host *host, int fd)
{
	struct world *world = world_of(host);
	int index = fd - FD_BASE;

	if (index < 0 || index >= world->dgrams->n_sockets ||
		!world->dgrams->sockets[index]->is_open)
		world_fail(world, "a call on descriptor %d, which is not open", fd);
	return world->dgrams->sockets[index];
}

int dgram_host_open(struct host *host, const struct host_dgram_config *config, struct handle handle,
	struct host_dgram *ret)
{
	struct world *world = world_of(host);
	struct dgrams *ds = world->dgrams;
	struct dgram_socket *s;
	struct dgram out = {.kind = DGRAM_OPEN};

	if (ds->n_open_errors) {
		ds->n_open_errors--;
		return -ds->open_error;
	}
	s = calloc(1, sizeof(*s));
	if (!s || ds->n_sockets == DGRAM_SOCKETS_MAX)
		world_fail(world, "too many sockets for one script");
	*ret = (struct host_dgram){.fd = FD_BASE + ds->n_sockets, .family = config->family};
	ds->sockets[ds->n_sockets++] = s;
	s->is_open = true;
	s->config = *config;
	s->is_ping = config->protocol != IPPROTO_UDP;
	s->handle = handle;
	out.socket = ds->n_sockets;
	out.about = s->is_ping ? DGRAM_PING : DGRAM_UDP;
	out.near.family = config->family;
	if (config->peer) {
		s->peer = out.far = *config->peer;
		out.far_port = config->peer_port;
	}
	if (config->published) {
		s->bound = config->published->addr;
		out.far = s->bound;
		out.far_port = config->published->port;
	}
	if (config->from)
		out.by = *config->from;
	dgram_log_add(world, &ds->to_far, &out);
	return 0;
}

/* It gets a new number: the one that was given means nothing here. */
int dgram_host_adopt(struct host *host, int fd, const struct host_dgram_config *config,
	struct handle handle, struct host_dgram *ret)
{
	close(fd);
	return dgram_host_open(host, config, handle, ret);
}

void dgram_host_close(struct host *host, struct host_dgram *dgram)
{
	struct world *world = world_of(host);
	const struct dgram out = {.kind = DGRAM_CLOSE, .socket = dgram->fd - FD_BASE + 1};

	socket_of(host, dgram->fd)->is_open = false;
	dgram->fd = -1;
	dgram_log_add(world, &world->dgrams->to_far, &out);
}

/* ---- sending ---- */

static uint32_t headers_len(const struct dgram_socket *s)
{
	uint32_t ip_len = s->config.family == AF_INET ? IP4_HEADER_MIN : IP6_HEADER_LEN;

	/* A ping's own header is in its data. */
	return ip_len + (s->is_ping ? 0 : UDP_HEADER_LEN);
}

/* 0: it is not too large for its path. */
static uint32_t mtu_exceeded(
	struct world *world, const struct dgram_socket *s, const struct host_datagram *datagram)
{
	size_t len = datagram->segment ? datagram->segment : datagram->len;

	for (int i = 0; i < world->dgrams->n_paths; i++)
		if (!memcmp(&world->dgrams->paths[i].addr.in6, &datagram->addr.in6, 16) &&
			len + headers_len(s) > world->dgrams->paths[i].mtu)
			return world->dgrams->paths[i].mtu;
	return 0;
}

static void log_one(struct world *world, struct dgram_socket *s, const struct host_datagram *from,
	const uint8_t *data, size_t len, struct dgram *out)
{
	if (s->is_ping) {
		if (len < ICMP_HEADER_LEN)
			world_fail(world, "sends half an echo request");
		out->about = DGRAM_PING;
		out->far_port = (uint16_t)(data[6] << 8 | data[7]);
		data += ICMP_HEADER_LEN;
		len -= ICMP_HEADER_LEN;
	}
	if (!dgram_look(out, data, len))
		world_fail(world, "gives the host wrong data in a datagram of %zu", len);
	if (*out->name) {
		memcpy(s->name, out->name, sizeof(s->name));
		s->dns_id = out->dns_id;
	}
	dgram_log_add(world, &world->dgrams->to_far, out);
}

static void log_sent(
	struct world *world, struct dgram_socket *s, int fd, const struct host_datagram *datagram)
{
	struct dgram out = {
		.kind = DGRAM_SEND,
		.about = DGRAM_UDP,
		.socket = fd - FD_BASE + 1,
		.n_frame = ++world->dgrams->n_frames,
		.far = datagram->addr,
		.far_port = datagram->port,
		.ttl = datagram->ttl,
		.tos = datagram->tos,
		.dont_fragment = datagram->dont_fragment,
		.at = datagram->local,
	};
	size_t segment = datagram->segment ? datagram->segment : datagram->len;
	size_t at = 0;

	if (!out.far.family) {
		out.far = s->peer;
		out.far_port = s->config.peer_port;
	}
	if (!out.far.family)
		world_fail(world, "sends to nobody");
	do {
		size_t n = MIN(datagram->len - at, segment);

		log_one(world, s, datagram, datagram->data + at, n, &out);
		at += n;
	} while (at < datagram->len);
}

static int take_pending(struct dgram_socket *s)
{
	int error = s->pending_error;

	s->pending_error = 0;
	return error;
}

static void push_error(struct world *world, struct dgram_socket *s, int error, uint32_t mtu)
{
	if (s->n_errors == DGRAM_QUEUE_MAX)
		world_fail(world, "too many errors in one socket");
	s->errors[s->n_errors++] = (struct host_dgram_error){.error = error, .mtu = mtu};
}

/* 0 or an errno. */
static int send_one(
	struct world *world, struct dgram_socket *s, int fd, const struct host_datagram *datagram)
{
	uint32_t mtu;
	int error = take_pending(s);

	if (error)
		return error;
	if (s->is_full)
		return EAGAIN;
	error = s->send_error;
	s->send_error = 0;
	if (error)
		return error;
	mtu = mtu_exceeded(world, s, datagram);
	if (datagram->dont_fragment && mtu) {
		push_error(world, s, EMSGSIZE, mtu);
		return EMSGSIZE;
	}
	log_sent(world, s, fd, datagram);
	return 0;
}

int dgram_host_send(
	struct host *host, struct host_dgram *dgram, const struct host_datagram *datagrams, int n)
{
	struct dgram_socket *s = socket_of(host, dgram->fd);
	int error = 0, i;

	if (n < 1 || n > HOST_BATCH_MAX)
		world_fail(world_of(host), "sends %d at once", n);
	for (i = 0; i < n; i++) {
		error = send_one(world_of(host), s, dgram->fd, &datagrams[i]);
		if (!error)
			continue;
		/* What stops a batch is met again by the next call. */
		if (i && error != EAGAIN && error != EMSGSIZE)
			s->pending_error = error;
		if (i && error == EMSGSIZE)
			s->n_errors--;
		break;
	}
	return i ? i : -error;
}

/* ---- receiving ---- */

/* Of one, or of as many as the kernel has put together (UDP_GRO). */
static size_t put_run(const struct dgram *d, uint8_t *data)
{
	struct dgram one = *d;
	size_t len = 0;

	for (uint32_t i = 0; i < MAX(d->n_run, 1); i++, len += d->len)
		dgram_fill(data + len, &one);
	one.len = d->last;
	if (d->last)
		dgram_fill(data + len, &one);
	return len + d->last;
}

static size_t put_data(const struct dgram_socket *s, const struct dgram *d, uint8_t *data)
{
	const struct icmp_header icmp = {
		.type = d->near.family == AF_INET ? ICMP_ECHO_REPLY : ICMP6_ECHO_REPLY,
		.rest = be32_of((uint32_t)HOST_ID << 16 | d->far_port),
	};

	if (!s->is_ping)
		return put_run(d, data);
	memcpy(data, &icmp, sizeof(icmp));
	dgram_fill(data + sizeof(icmp), d);
	return sizeof(icmp) + d->len;
}

int dgram_host_recv(
	struct host *host, struct host_dgram *dgram, struct host_datagram *datagrams, int n)
{
	struct dgram_socket *s = socket_of(host, dgram->fd);
	int error = take_pending(s), i;

	if (error)
		return -error;
	for (i = 0; i < n && s->at_in < s->n_in; i++) {
		const struct dgram *d = &s->in[s->at_in++];
		uint8_t *data = datagrams[i].data;

		if (datagrams[i].len < 65536)
			world_fail(world_of(host), "has no room for a datagram");
		datagrams[i] = (struct host_datagram){
			.addr = d->far,
			.port = s->is_ping ? 0 : d->far_port,
			.local = d->at,
			.ttl = d->ttl,
			.tos = d->tos,
			.segment = (uint16_t)(d->n_run ? d->len : 0),
			.data = data,
			.len = put_data(s, d, data),
		};
	}
	if (s->at_in == s->n_in)
		s->at_in = s->n_in = 0;
	return i;
}

bool dgram_host_error(struct host *host, struct host_dgram *dgram, struct host_dgram_error *ret)
{
	struct dgram_socket *s = socket_of(host, dgram->fd);

	if (s->at_error == s->n_errors)
		return false;
	*ret = s->errors[s->at_error++];
	if (s->at_error == s->n_errors)
		s->at_error = s->n_errors = 0;
	s->pending_error = 0;
	return true;
}

/* An edge-triggered watch that is said again tells at once when there is something. */
int dgram_host_change(struct host *host, int fd, uint32_t events, struct handle handle)
{
	struct dgram_socket *s = socket_of(host, fd);

	s->handle = handle;
	s->is_woken = s->at_in < s->n_in || s->at_error < s->n_errors;
	return 0;
}
