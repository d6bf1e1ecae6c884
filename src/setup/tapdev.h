/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a tap or attaching to one. Name, address, MTU, flags and queue length of a tap that was
 * there before stay as they are; packet-info and virtio-net headers, their size, byte order and the
 * offloads belong to each attachment and are set every time, also to "none": what a killed
 * predecessor left on a persistent tap stays there otherwise.
 *
 * A tap that we made gets a transmit queue of TAPDEV_QUEUE_LEN frames: what the container sends
 * while the queue is full is lost, whatever window it was allowed.
 */
#pragma once

#include <linux/if_tun.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "setup/features.h"

/* 5.9 MB in frames of MTU 1500, which is more than a window; a place in the queue costs 8 bytes. */
#define TAPDEV_QUEUE_LEN 4096
/* The kernel's for a new tap; assumed where the namespace of the tap cannot be asked. */
#define TAPDEV_QUEUE_LEN_DEFAULT 1000

/* Linux 6.2; the kernel takes both or none. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#define TAPDEV_USO (TUN_F_USO4 | TUN_F_USO6)

struct tapdev {
	int fd;             /* non-blocking, close-on-exec */
	uint8_t vnet_len;   /* bytes of virtio-net header before each frame: 0, 10 or 12 */
	uint32_t offloads;  /* that are on: TUN_F_*; 0 without virtio-net header */
	uint32_t queue_len; /* frames that can wait for us, at least 1 */
};

/* The offloads (TUN_F_*) that can be asked for without these features. */
uint32_t tapdev_offloads(struct feature_set disabled);

/* In the current network namespace. Of `offloads` those are switched on that the kernel takes, the
 * later ones of CSUM, TSO4, TSO6, TSO_ECN, USO are given up first. The fields of the virtio-net
 * header are little-endian on every machine. Logs one line that names the device and the errno (and
 * for a missing /dev/net/tun what to do), returns a negative errno. */
int tapdev_open(struct tapdev *tap, const char *name, bool vnet_hdr, uint32_t offloads);

/* Takes an attached tap that the caller passed: its flags cannot be changed, they are asked
 * (TUNGETIFF, TUNGETVNETHDRSZ); without header there are no offloads. Refuses what is no tap, is
 * not attached, or has a packet-info header. The descriptor becomes ours only when 0 is returned.
 */
int tapdev_adopt(struct tapdev *tap, int fd, uint32_t offloads);
