/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DNS forwarder at N+3 and fd00::3: each query goes on to the host's nameservers, of either
 * family, under an id of its own and from a port that serves few others (RFC 5452), and its answer
 * back, otherwise untouched. Who does not answer is passed over, and tried last for a while. TCP is
 * tcpflow's.
 */
#pragma once

#include <stdint.h>

#include "flow/config.h"
#include "wire/packet.h"

struct dns;

/* NULL: no memory. `config` is copied, what it points to stays its owner's. */
struct dns *dns_new(const struct flow_config *config);
void dns_free(struct dns *dns);

/* A UDP datagram to port 53 of N+3 or fd00::3, or a run of them when its virtio-net header (in
 * front of `frame`) says so. */
void dns_input(struct dns *dns, const uint8_t *frame, const struct packet *packet);
/* `events` are epoll's. */
void dns_host_ready(struct dns *dns, struct handle handle, uint32_t events);
/* The list of nameservers is there, or has changed: queries that wait for it go out. */
void dns_servers_known(struct dns *dns);
/* The end of a turn: what is to be sent goes out. */
void dns_finish(struct dns *dns);
