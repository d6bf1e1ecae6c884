/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP of the container: one socket of the host's, connected to nobody, for each of its addresses
 * and ports, so that whoever it speaks to sees the same mapping (RFC 4787 REQ-1), and whoever knows
 * that one is heard (endpoint-independent filtering, REQ-8).
 *
 *   container --input--> outbox --finish, or when it is full--> dgram_send()
 *   host      --dgram_recv()--> runs of one peer --> egress --> container
 */
#pragma once

#include <stdint.h>

#include "flow/config.h"
#include "flow/inbox.h"
#include "flow/outbox.h"
#include "flow/table.h"
#include "wire/packet.h"

/* A mapping ends when the container has sent nothing and heard nothing for so long (RFC 4787 REQ-5:
 * two minutes or more), one that only asked nameservers sooner (REQ-5 allows it for well-known
 * ports). */
#define UDPFLOW_IDLE_NS     (120 * NS_PER_SEC)
#define UDPFLOW_IDLE_DNS_NS (10 * NS_PER_SEC)

struct udpflow {
	struct flow_config config;
	struct flow_table table;
	struct list used;  /* least recently first */
	struct list ready; /* have more to receive */
	struct outbox outbox;
	struct inbox inbox;
};

/* 0 or a negative errno; `config` is copied, what it points to stays its owner's. */
int udpflow_init(struct udpflow *udpflow, const struct flow_config *config);
void udpflow_done(struct udpflow *udpflow);

/* A whole datagram, or a run of them when its virtio-net header (in front of `frame`) says so. A
 * checksum that is still to be completed is no matter. */
void udpflow_input(struct udpflow *udpflow, const uint8_t *frame, const struct packet *packet);
/* An ICMP error of the container's about a packet that we sent it. */
void udpflow_near_error(struct udpflow *udpflow, const uint8_t *frame, const struct packet *packet);
/* `events` are epoll's. */
void udpflow_host_ready(struct udpflow *udpflow, struct handle handle, uint32_t events);
/* The end of a turn. Returns true when there is more to do at once. */
bool udpflow_finish(struct udpflow *udpflow);
