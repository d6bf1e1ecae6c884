/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Echo requests of the container to the world, and the replies and errors on their way back,
 * through ping sockets (icmp(7)): one per container address and id. The kernel chooses the id on
 * the host's side; the container sees its own.
 */
#pragma once

#include <stdint.h>

#include "flow/config.h"
#include "flow/table.h"
#include "wire/packet.h"

/* A conversation ends when nothing was asked or answered for so long. */
#define ICMPFLOW_IDLE_NS (60 * NS_PER_SEC)

struct icmpflow {
	struct flow_config config;
	struct flow_table table;
	struct list used; /* least recently first */
	struct timer timer;
	uint8_t *inbox;  /* replies, as the host gives them */
	bool has_warned; /* that ping_group_range forbids it */
};

/* 0 or a negative errno; `config` is copied, what it points to stays its owner's. */
int icmpflow_init(struct icmpflow *icmpflow, const struct flow_config *config);
void icmpflow_done(struct icmpflow *icmpflow);

/* An echo request, whole, that is not for the gateway itself, its checksum complete. */
void icmpflow_input(struct icmpflow *icmpflow, const uint8_t *frame, const struct packet *packet);
/* `events` are epoll's. */
void icmpflow_host_ready(struct icmpflow *icmpflow, struct handle handle, uint32_t events);
