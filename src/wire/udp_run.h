/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run of UDP datagrams behind one header (virtio-net's GSO_UDP_L4), taken apart in place for
 * those who know no runs: each becomes a frame of its own with complete checksums.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/packet.h"

struct udp_run {
	uint8_t *frame; /* the datagram's, and where its parts lie */
	struct packet packet;
	uint32_t size, len, left; /* of each datagram's data, of this one's, and behind it */
};

/* Before the first one; `size` is not 0. A single datagram is a run, too. */
void udp_run_begin(struct udp_run *run, uint8_t *frame, const struct packet *packet, uint32_t size);
/* The next datagram is in run->frame; the one before it is overwritten. False: there is none. */
bool udp_run_next(struct udp_run *run);
