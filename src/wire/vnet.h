/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header in front of each frame of a tap with IFF_VNET_HDR (Virtual I/O Device specification
 * 1.1, 5.1.6; struct virtio_net_hdr_v1 of <linux/virtio_net.h>): which checksum is still to be
 * computed, and into segments of which size the frame is to be cut. Little-endian, as TUNSETVNETLE
 * has it. All zero: an ordinary frame.
 */
#pragma once

#include "wire/types.h"

#define VNET_HEADER_LEN 12

enum vnet_flag {
	VNET_NEEDS_CSUM = 1, /* the field holds the pseudo header's sum only */
	VNET_DATA_VALID = 2, /* the checksum was verified */
};

enum vnet_gso {
	VNET_GSO_NONE = 0,
	VNET_GSO_TCP4 = 1,
	VNET_GSO_UDP = 3,
	VNET_GSO_TCP6 = 4,
	VNET_GSO_UDP_L4 = 5,
	VNET_GSO_ECN = 0x80, /* a bit beside the others: the first segment has CWR */
};

typedef struct {
	uint8_t b[2];
} le16;

static inline uint16_t le16_get(le16 v)
{
	return (uint16_t)(v.b[1] << 8 | v.b[0]);
}

static inline le16 le16_of(uint16_t v)
{
	return (le16){{(uint8_t)v, (uint8_t)(v >> 8)}};
}

struct vnet_header {
	uint8_t flags;
	uint8_t gso_type;
	le16 header_len;  /* of Ethernet, IP and TCP together; a hint */
	le16 gso_size;    /* payload of each segment */
	le16 csum_start;  /* from the frame's begin: where summing starts */
	le16 csum_offset; /* from there: where the sum goes */
	le16 num_buffers;
};
_Static_assert(sizeof(struct vnet_header) == VNET_HEADER_LEN, "no padding");
