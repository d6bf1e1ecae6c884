/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two ends of the UDP load have in common: floods of numbered datagrams, as fast as
 * sendmmsg() goes, at a rate, or as runs that the kernel cuts (UDP_SEGMENT), and their tally.
 *
 * Each datagram begins with 8 bytes, the flood's session and its number, and has the flood's
 * length. Control messages begin with an address family that is none; they are said again until
 * they are answered.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
	UDP_BATCH = 64,      /* of one sendmmsg() or recvmmsg() */
	UDP_RUN = 40,        /* datagrams of a run: 48 KB of 1200 bytes each */
	UDP_SIZE_MAX = 1472, /* of a datagram: one frame at MTU 1500 */
};

#define UDP_CONTROL_MAGIC UINT64_C(0xffff55aa00c0ffee)

struct flood {
	uint64_t session; /* below 2^23 */
	int64_t duration_ns;
	uint64_t rate; /* per second; 0: as fast as it goes */
	uint32_t size;
	uint32_t runs; /* sent as runs, and received with UDP_GRO */
};

struct tally {
	uint64_t n;
	uint64_t n_wrong; /* of this flood, but of another length or number */
	int64_t first_ns; /* of the first one's arrival */
	int64_t last_ns;
};

enum udp_control_kind {
	UDP_BEGIN, /* to the sink: forget the tally, this flood comes */
	UDP_END,   /* to the sink: the tally, please */
	UDP_FLOOD, /* to the source: send this flood to me */
	UDP_SENT,  /* to the source: how many were they? Answered when the flood is over */
};

struct udp_control {
	uint64_t magic;
	uint64_t kind;
	struct flood flood;
	struct tally tally; /* in answers; UDP_SENT: n alone */
};

/* Sends a flood; `to` is NULL on a connected socket. Returns how many were sent. */
uint64_t flood_send(int fd, const struct flood *flood, struct sockaddr *to, socklen_t to_len);

/* Room for what one call receives. */
struct inbox;

struct inbox *inbox_new(void);
/* Waits for datagrams (SO_RCVTIMEO) and adds those of `flood` to the tally. A control message ends
 * the batch: it is in *ret_control, its sender in *ret_from, and true is returned. *ret_idle says
 * that the wait was in vain. */
bool inbox_receive(struct inbox *inbox, int fd, const struct flood *flood, struct tally *tally,
	struct udp_control *ret_control, struct sockaddr_storage *ret_from, bool *ret_idle);

/* A larger receive buffer, as large as an ordinary user gets it, and runs received whole or not. */
void udp_prepare(int fd, bool runs);
