/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world of a script: one relay of TCP (struct tcpflow) between a fake link and a fake host, on
 * a clock that only the script moves. What goes out is checked at once where it must always be
 * right (checksums, addresses, content, windows), and put into logs, one per conversation and side,
 * for the script to compare.
 *
 * Sequence numbers are relative here, as in the scripts: 0 is the SYN of the side that counts, 1
 * its first byte. Streams carry a pattern that depends on the position, so each byte is compared.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/util.h"
#include "flow/ingress.h"
#include "tcpflow/tcpflow.h"
#include "wire/tcp.h"

#define CONVERSATIONS_MAX 200
#define SOCKETS_MAX       1000
#define NO_SHIFT          255
/* What a socket takes when nothing is said. */
#define ROOM_ALL INT64_MAX

enum outcome_kind {
	OUT_SEGMENT,
	OUT_ICMP,
	OUT_DIAL,
	OUT_SEND,
	OUT_SHUTDOWN,
	OUT_CLOSE,
	OUT_RESET,
	OUT_KEEPALIVE,
};

/* What the relay did. */
struct outcome {
	struct outcome *next;
	int64_t at_ns;
	enum outcome_kind kind;
	uint8_t flags;
	uint32_t seq, ack, window; /* relative; in bytes */
	uint32_t len;              /* of the data; of a pace in seconds */
	uint32_t gso_size;
	uint16_t mss;  /* of a SYN-ACK */
	uint8_t shift; /* likewise; NO_SHIFT: none */
	uint8_t icmp_type, icmp_code;
	struct ip_addr addr;
	uint16_t port;
};

struct outcomes {
	struct outcome *head, **tail;
};

/* A kernel in the container's place (kernel.c), for what is too long to be written down. */
struct kernel {
	bool is_on, is_reset, ack_owed, wants_fin;
	uint32_t una, next, edge;
	uint64_t n_written, n_read;
	unsigned int n_duplicates, n_backoffs;
	int64_t rto_ns;
};

/* One pair of addresses and ports. */
struct conversation {
	struct ip_addr near_addr, far_addr;
	uint16_t near_port, far_port;
	uint32_t near_isn, our_isn;
	bool is_open, our_isn_is_known;
	bool is_arrival; /* the far end came first */
	/* What the near end says by itself when the script does not say otherwise. */
	uint32_t near_next, near_got, near_window;
	uint8_t near_shift, our_shift;
	uint16_t near_mss;
	uint32_t near_edge; /* as far as it ever allowed us to send */
	/* What is expected of us likewise. */
	uint32_t our_next, our_got;
	uint32_t our_edge;
	struct outcomes to_near, to_far;
	struct kernel kernel;
	struct socket *socket;
};

/* A socket of the fake host. */
struct socket {
	bool is_open, is_connected, is_dialled, is_shut, is_quiet, is_eof;
	struct conversation *conversation;
	struct handle handle;
	uint64_t n_sent, n_given, n_there; /* bytes: taken from us, given to us, to be given */
	int64_t room;
	int error, send_error;
	struct host_error dial_error;
};

struct dgrams;

struct world {
	struct tcpflow tcpflow;
	struct dgrams *dgrams; /* NULL: the script is one of TCP */
	struct loop loop;
	int64_t begin_ns;
	struct counters counters;
	struct icmp_limit icmp_limit;
	struct policy policy;
	struct ingress ingress;
	struct link link;
	struct host host;
	int link_error;               /* what sending gives, 0: it works */
	bool link_is_narrow;          /* it has no memory for frames beyond 64 KiB */
	int dial_error;               /* what the next dial gives */
	bool dials_at_once;           /* the next connection stands when it returns */
	int adopt_error, claim_error; /* likewise of a client */
	struct next_hop next_hop;
	bool neighbor_is_unknown;
	uint32_t n_asked;       /* for neighbours that were not known, or again */
	uint32_t n_asked_again; /* of them */
	int n_claims;
	struct usage *usage; /* of all clients */
	struct host_nameserver nameservers[HOST_NAMESERVERS_MAX];
	bool is_shunned[HOST_NAMESERVERS_MAX]; /* by their position: tried last */
	int n_nameservers;                     /* 0: they are being looked for */
	bool is_done;
	struct conversation conversations[CONVERSATIONS_MAX];
	int n_conversations;
	struct socket sockets[SOCKETS_MAX];
	int n_sockets;
	bool is_visited[N_TCP_STATES][N_TCP_EVENTS];
	bool is_tracing;
	bool is_verbose;
	uint8_t buf[INGRESS_BUFFER_LEN];
	const char *file;
	int line;
};

/* A frame of the container; numbers relative. */
struct near_frame {
	uint8_t flags;
	uint32_t seq, ack;
	uint32_t window;
	uint32_t len;
	uint16_t urgent;
	uint16_t mss; /* 0: no option */
	uint8_t ttl;  /* 0: 64 */
	bool has_window_scale;
	bool has_bad_checksum;
	const uint8_t *options; /* more of them, already padded */
	size_t options_len;
	const struct eth_addr *to; /* NULL: us */
};

struct world_config {
	bool ip6;
	bool host_loopback;
	bool behind_bridge; /* the container is not the link's own end */
	uint32_t offloads, max_flows, queue_len, mtu;
	size_t memory;
	uint32_t our_isn; /* of the first conversation, when its SYN comes at once */
};

void world_init(struct world *world, const struct world_config *config);
/* Nothing is left of anything, or the script fails. */
void world_check_clean(struct world *world);
/* The relay ends here. */
void world_stop(struct world *world);
void world_done(struct world *world);
/* Prints where and why the script failed, and exits. */
_Noreturn void world_fail(struct world *world, const char *fmt, ...) PRINTF_LIKE(2, 3);

void world_near_input(
	struct world *world, struct conversation *conversation, const struct near_frame *frame);
/* An ICMP error about our SYN, whose number it quotes. */
void world_near_icmp(struct world *world, struct conversation *conversation, uint8_t type,
	uint8_t code, uint32_t seq);
/* A client: what tcpflow_arrive() says. */
int world_arrive(struct world *world, struct conversation *conversation);
/* Somebody was heard on the link. */
void world_hear(struct world *world, const struct ip_addr *addr);
void world_far_event(struct world *world, struct socket *socket, uint32_t events);
/* The end of a turn, and of those that it asks for. */
void world_finish_turn(struct world *world);
/* The next instant at which something happens by itself; CLOCK_NEVER: nothing will. */
int64_t world_next_ns(const struct world *world);
/* Goes there, and lets it happen. */
void world_go(struct world *world, int64_t now_ns);

struct conversation *world_converse(struct world *world, const struct ip_addr *near,
	uint16_t near_port, const struct ip_addr *far, uint16_t far_port);
/* Whose flow this is. */
struct conversation *world_find(struct world *world, struct handle handle);
/* NULL: there is none. */
struct tcp_flow *world_flow(struct world *world, const struct conversation *conversation);
void outcome_describe(const struct outcome *outcome, char *text, size_t size);
uint8_t stream_byte(const struct conversation *conversation, bool is_up, uint64_t offset);

/* ---- frame.c ---- */

size_t frame_build(struct world *world, const struct conversation *conversation,
	const struct near_frame *frame);
size_t frame_build_icmp(struct world *world, const struct conversation *conversation, uint8_t type,
	uint8_t code, uint32_t seq);
/* A frame that was sent: false when it is none of a conversation, or not right; then *ret_fault. */
struct conversation *frame_check(struct world *world, const uint8_t *buf, size_t len,
	struct outcome *ret, const char **ret_fault);

/* ---- kernel.c ---- */

void kernel_start(struct world *world, struct conversation *conversation);
void kernel_take(
	struct world *world, struct conversation *conversation, const struct outcome *segment);
/* Says what it has to say; returns whether it did. */
bool kernel_step(struct world *world, struct conversation *conversation);

/* ---- host.c ---- */

extern const struct host_ops world_host_ops;
/* A socket that is connected; its descriptor. */
int world_accept(struct world *world, struct conversation *conversation);
void world_log(struct world *world, struct outcomes *log, const struct outcome *outcome);
struct outcome *outcomes_take(struct outcomes *log);
