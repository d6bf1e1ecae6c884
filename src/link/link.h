/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link: frames between the container and us, each behind its virtio-net header. `link_ops` is
 * the first of the two interfaces through which the data path has effects (the other: host_ops).
 * Behind it is a tap (tap.c) or, in tests, a fake.
 *
 * The buffer of a frame always begins with LINK_HEADER_LEN bytes of struct virtio_net_hdr_v1
 * (Linux 3.10's header of 12 bytes); a link without such headers leaves it zero, which means: no
 * offload was used. What may be in it, both ways, is said by `offloads`.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "wire/eth.h"

#define LINK_HEADER_LEN 12
/* The largest frame: 64 KiB behind an IPv6 header, an Ethernet header and a VLAN tag. */
#define LINK_FRAME_MAX (65536 + 40 + 18)
/* Pieces of a frame that send() takes at least. */
#define LINK_PIECES_MAX 66
#define LINK_BUFFER_LEN (LINK_HEADER_LEN + LINK_FRAME_MAX)

/* Bits of link.offloads, named as the kernel names them for TUNSETOFFLOAD. */
enum link_offload {
	LINK_CSUM = 1 << 0,
	LINK_TSO4 = 1 << 1,
	LINK_TSO6 = 1 << 2,
	LINK_TSO_ECN = 1 << 3,
	LINK_USO = 3 << 5, /* USO4 and USO6 */
	/* Not one of those: with TSO, what we send may be LINK_BIG_PAYLOAD long, its IPv4 header's
	 * total length 0, its IPv6 header followed by a jumbo payload option (Linux 6.3). */
	LINK_BIG_TCP = 1 << 16,
};

/* Of one TCP frame with LINK_BIG_TCP; the kernel's own bound is twice as much. */
#define LINK_BIG_PAYLOAD (256 * 1024)

struct link;

struct link_ops {
	/* Reads one frame to `buf` (LINK_BUFFER_LEN bytes), header in front. Returns the frame's
	 * length without the header, -EAGAIN when there is none now, -EMSGSIZE when it was too long
	 * (it is gone then), -ENODEV when the link is gone for good. */
	ssize_t (*recv)(struct link *link, uint8_t *buf);
	/* Writes one frame; the first LINK_HEADER_LEN bytes of iov[0] are its header. Returns 0,
	 * -EAGAIN when there is no room now, -EIO when the interface is down, -ENODEV when the link
	 * is gone for good. Not taken means not sent: nothing is kept. */
	int (*send)(struct link *link, const struct iovec *iov, int n_iov);
	void (*close)(struct link *link);
};

struct link {
	const struct link_ops *ops;
	int fd; /* to be watched for EPOLLIN; -1: none */
	uint32_t offloads;
	uint32_t queue_len;  /* frames that can wait for us, more are lost; 0: the sender waits */
	struct eth_addr mac; /* of the container's end; zero: not known */
};
