/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link over a descriptor that moves one Ethernet frame per read and write: a tap, or the
 * SOCK_SEQPACKET socket of a bess client. It does not make or configure the device (setup/tapdev).
 */
#pragma once

#include <stdbool.h>

#include "link/link.h"

struct tap_link {
	struct link link;
	uint8_t vnet_len; /* virtio-net header in front of each frame: 0, 10 or 12 bytes */
	bool is_socket;
};

/* Takes the descriptor, which must be non-blocking. */
void tap_link_init(struct tap_link *tap, int fd, uint8_t vnet_len);
/* Asks the device for its address: link.mac. Before the sandbox. */
void tap_link_find_mac(struct tap_link *tap);
/* A bess client: no headers, and an empty read may be the end. */
void tap_link_init_socket(struct tap_link *tap, int fd);
