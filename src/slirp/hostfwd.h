/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published ports by libslirp: the first backend of forward/.
 *
 * libslirp dials the container itself, so segments of these connections are for it even where TCP
 * is ours otherwise: they come from a port of the container that was published once.
 */
#pragma once

#include "forward/forward.h"
#include "slirp/bridge.h"

struct hostfwd {
	struct forward_backend backend;
	struct bridge *bridge;
	/* A bit for each port of the container that ever was. */
	uint8_t tcp_ports[65536 / 8], udp_ports[65536 / 8];
};

/* Whether a TCP segment or UDP datagram from this port of the container may belong to a connection
 * or socket of libslirp. */
bool hostfwd_is_published(const struct hostfwd *hostfwd, enum forward_proto proto, uint16_t port);

void hostfwd_init(struct hostfwd *hostfwd, struct bridge *bridge);
