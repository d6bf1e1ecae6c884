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
	uint8_t tcp_ports[65536 / 8]; /* a bit for each port of the container that ever was */
};

/* Whether a TCP segment from this port of the container may belong to a connection of libslirp. */
bool hostfwd_is_published(const struct hostfwd *hostfwd, uint16_t port);

void hostfwd_init(struct hostfwd *hostfwd, struct bridge *bridge);
