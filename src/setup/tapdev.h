/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a tap or attaching to one. Name, address, MTU, flags and queue length of a tap that was
 * there before stay as they are; packet-info and virtio-net headers, their size, byte order and the
 * offloads belong to each attachment and are set every time, also to "none": what a killed
 * predecessor left on a persistent tap stays there otherwise.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tapdev {
	int fd;           /* non-blocking, close-on-exec */
	uint8_t vnet_len; /* bytes of virtio-net header before each frame: 0, 10 or 12 */
};

/* In the current network namespace. The fields of the virtio-net header are little-endian on every
 * machine. Logs one line that names the device and the errno (and for a missing /dev/net/tun what
 * to do), returns a negative errno. */
int tapdev_open(struct tapdev *tap, const char *name, bool vnet_hdr);

/* Takes an attached tap that the caller passed: its flags cannot be changed, they are asked
 * (TUNGETIFF, TUNGETVNETHDRSZ); offloads are cleared. Refuses what is no tap, is not attached, or
 * has a packet-info header. The descriptor becomes ours only when 0 is returned. */
int tapdev_adopt(struct tapdev *tap, int fd);
