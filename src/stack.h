/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stack of our own (--stack=auto): the flows of all kinds, and which of them a packet is for.
 * libslirp, behind the bridge, keeps DHCP and router advertisements.
 *
 *   ingress --> TCP   tcpflow
 *               UDP   DHCP | dns | publish (answers to clients of published ports) | udpflow
 *               ICMP  gateway | icmpflow | tcpflow, publish, udpflow (errors)
 *                     | the bridge (router solicitations)
 *               ARP   gateway, and the bridge for what it has asked
 */
#pragma once

#include "base/counter.h"
#include "base/loop.h"
#include "dns/dns.h"
#include "flow/egress.h"
#include "flow/icmp_limit.h"
#include "flow/ingress.h"
#include "flow/policy.h"
#include "gateway/gateway.h"
#include "host/host.h"
#include "icmpflow/icmpflow.h"
#include "link/link.h"
#include "publish/publish.h"
#include "slirp/bridge.h"
#include "splice/splice.h"
#include "tcpflow/tcpflow.h"
#include "udpflow/udpflow.h"

struct stack_config {
	const struct policy *policy;
	struct link *link;
	struct host *host;
	struct loop *loop;
	struct counters *counters;
	struct icmp_limit *icmp_limit;
	struct bridge *bridge;
	struct socket_source *sockets; /* NULL: there is no namespace to have sockets of */
	uint32_t mtu;
	uint64_t descriptor_limit;
	uint64_t descriptors; /* that there are for all flows together */
	size_t memory;        /* for what TCP keeps, bytes */
};

struct stack {
	struct stack_config config;
	struct siphash_key key;
	struct egress egress;
	struct gateway gateway;
	struct tcpflow tcpflow;
	struct udpflow udpflow;
	struct icmpflow icmpflow;
	struct dns *dns;
	struct splice *splice; /* NULL: as config.sockets */
	struct publish *publish;
};

/* 0 or a negative errno; `config` is copied, what it points to stays its owner's. */
int stack_init(struct stack *stack, const struct stack_config *config);
void stack_done(struct stack *stack);

/* A packet that ingress let pass as `kind`; its virtio-net header lies in front of `frame`. */
void stack_input(
	struct stack *stack, enum ingress_result kind, uint8_t *frame, struct packet *packet);
/* Who carries out the rules of published ports. */
/* Of a limit of descriptors: those from this number on are kept for what must go on when clients
 * use up the others. */
int stack_max_fd(uint64_t limit);
struct forward_backend *stack_publish_backend(struct stack *stack);
/* An event of one of its descriptors: of TCP, UDP, echo requests, DNS and published ports. */
void stack_ready(struct stack *stack, struct handle handle, uint32_t events);
/* Before frames of which there are many: short answers of the host's do not wait for these. */
void stack_answer(struct stack *stack);
/* The end of a turn. Returns true when there is more to do at once. */
bool stack_finish(struct stack *stack);
/* The link is gone or going: what was acknowledged is still written to the host, the rest ends. */
void stack_link_gone(struct stack *stack);
bool stack_has_unsent(const struct stack *stack);
