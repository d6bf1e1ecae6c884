/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model: src/tcpflow between a small TCP of its own (near.c, the container's kernel and its
 * program) and sockets that are made up (far.c, the host's kernel and the peer), over a wire that
 * loses, doubles, delays and reorders (wire.c). One seed is one world, which lives for minutes of
 * simulated time; what must hold is checked where it can be seen first.
 *
 * Frames are written and read without the program's own layouts and checksums, so that a mistake
 * there is not repeated here. Streams are not stored: each byte is a function of who sends it and
 * of its offset.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/timer.h"
#include "base/util.h"
#include "flow/ingress.h"
#include "tcpflow/tcpflow.h"

#define SLOTS_MAX 8
#define FARS_MAX  256
#define RANGES    32

/* ---- chance ---- */

struct rng {
	uint64_t state;
};

uint64_t rng_next(struct rng *rng);
/* 0 to n - 1; n at least 1. */
uint64_t rng_below(struct rng *rng, uint64_t n);
/* With so many chances in 10,000. */
bool rng_chance(struct rng *rng, uint32_t chances);
/* From low to high, both at least 1, each order of magnitude as likely as the others. */
uint64_t rng_scale(struct rng *rng, uint64_t low, uint64_t high);

/* ---- streams ---- */

/* Words of 8 bytes: a counter and whose it is. */
void stream_fill(uint32_t id, uint32_t offset, uint8_t *data, size_t len);
bool stream_is(uint32_t id, uint32_t offset, const uint8_t *data, size_t len);

/* ---- segments ---- */

enum {
	FIN = 1,
	SYN = 2,
	RST = 4,
	PSH = 8,
	ACK = 16,
};

struct segment {
	uint8_t family;
	uint16_t near_port, far_port;
	uint32_t seq, ack, window; /* the field */
	uint8_t flags;
	int mss, shift; /* -1: no such option */
	uint32_t gso_size;
	const uint8_t *data;
	uint32_t len;
};

/* On its way: due to arrive, or in the queue of the link. */
struct frame {
	struct timer timer;
	struct list queue;
	struct list all;
	struct world *world;
	struct near *from; /* NULL: the relay, or nobody's */
	uint32_t end;      /* of its sequence numbers */
	uint32_t edge;     /* of the window it offers */
	bool to_near;
	size_t len;
	uint8_t b[]; /* with the virtio-net header */
};

/* ---- the container's end of a connection ---- */

enum near_state {
	NEAR_SYN_SENT,
	NEAR_LISTEN, /* a client is to come */
	NEAR_SYN_RECEIVED,
	NEAR_OPEN,
	NEAR_TIME_WAIT,
	NEAR_CLOSED,
};

enum near_result {
	RESULT_NONE,
	RESULT_GRACEFUL,
	RESULT_REFUSED,
	RESULT_UNREACHABLE,
	RESULT_RESET,   /* by the relay */
	RESULT_ABORTED, /* by us */
	RESULT_TIMEOUT, /* nobody answered */
};

struct range {
	uint32_t start, end;
};

struct near {
	struct world *world;
	struct slot *slot;
	struct near *next; /* in world.nears */
	struct far *far;   /* whose SYN-ACK was taken, or for whom it listens */
	uint32_t id;
	enum near_state state;
	enum near_result result;
	int64_t result_ns;

	/* What kind it is. */
	int mss_option, shift_option; /* -1: none */
	uint32_t segment_max, gso_max, rcvbuf, sndbuf, ack_every, cwnd_max;
	int64_t delayed_ack_ns, pace_ns, time_wait_ns, keepalive_ns;
	bool keeps_out_of_order, goes_back, probes_with_data, has_nagle, reads_when_sent, shrinks;
	bool closes_early; /* close(2) with its stream's end: what comes later is reset */

	/* To the relay. */
	uint32_t iss, snd_una, snd_nxt, snd_max, snd_wnd, wl1, wl2, recover, cwnd;
	uint32_t mss; /* of what we send */
	uint8_t snd_shift, rcv_shift;
	uint32_t total, written; /* of the stream; written: by the program */
	bool fin_queued, fin_acked, is_recovering;
	unsigned int n_retries, n_duplicates, n_keepalives;
	uint32_t delivered_end; /* what the relay can have seen */
	uint32_t delivered_edge;
	bool has_delivered_edge;

	/* From the relay. */
	uint32_t irs, rcv_nxt, rcv_edge, n_read;
	struct range ranges[RANGES];
	size_t n_ranges;
	bool has_fin_at, fin_seen, fin_first;
	uint32_t fin_at;
	uint32_t n_unacked;
	int64_t heard_ns, paused_until_ns;

	struct timer retransmit, delayed_ack, keepalive, program, abort;
};

/* ---- the host's end ---- */

enum far_state {
	FAR_DIALING,
	FAR_UP,
	FAR_FAILED, /* the dial, or the connection */
};

struct far {
	struct world *world;
	struct near *near; /* whose SYN it was */
	struct far *next;  /* in world.fars */
	uint32_t id;
	int fd; /* -1: the relay has closed it */
	struct handle handle;
	enum far_state state;
	int error;       /* what the next call returns, positive */
	int fail_error;  /* what happens at fail_ns */
	int64_t fail_ns; /* CLOCK_NEVER: never */
	int64_t failed_ns;
	int dial_error;
	struct host_error dial_outcome;
	bool was_up, was_reset, was_closed;

	uint32_t rcvbuf, sndbuf;
	uint32_t in_total, in_arrived, in_taken; /* towards the relay */
	bool in_ended, eof_given;
	uint32_t out_taken, out_read; /* from it */
	bool out_ended, wants_room, is_deaf, reads_when_sent;
	bool wakes; /* the edge is to be told */

	/* The relay's side of the connection, as its frames show it. */
	bool has_iss, has_reset_near;
	uint32_t iss, ack_max, edge_max;
	uint8_t their_shift;

	int64_t pace_ns, paused_until_ns;
	struct timer dial, program;
};

/* ---- the world ---- */

struct wire {
	uint32_t loss, doubling, reordering; /* in 10,000 */
	int64_t delay_ns, jitter_ns, last_due_ns;
};

/* One place from which connections are made, one after the other, by the same ports. */
struct slot {
	struct world *world;
	uint8_t family;
	uint16_t near_port, far_port;
	uint8_t near_addr[16], far_addr[16]; /* the first 4 bytes for IPv4 */
	bool to_loopback;
	bool is_arrival; /* the peer of the host comes first: a client of a published port */
	unsigned int n_left;
	struct near *near; /* the last one */
	struct far *far;   /* the last one that was dialled */
	struct timer start;
};

struct world {
	uint64_t seed;
	struct rng rng;
	bool is_verbose;

	struct loop loop; /* the relay's clock and timers */
	struct counters counters;
	struct policy policy;
	struct icmp_limit icmp_limit;
	struct ingress ingress;
	struct siphash_key key;
	struct tcpflow tcpflow;
	struct link link;
	struct host host;
	struct next_hop next_hop;
	int64_t hop_unknown_ns, hop_known_ns; /* between them nobody knows where the container is */
	struct timer hop;
	uint32_t n_claims;
	struct usage *usage;
	bool has_more;
	size_t memory;
	uint32_t queue_len;

	struct timer_heap timers; /* everybody else's */
	struct wire up, down;
	uint32_t send_failure;    /* in 10,000 */
	bool is_bulky;            /* much is sent to the container, which can take it */
	bool eats_big, is_narrow; /* of frames beyond 64 KiB none arrives; it is told so */
	int64_t link_down_ns, link_up_ns;
	struct list queue; /* frames that the relay can read */
	struct list frames;
	uint32_t n_queued;

	struct slot slots[SLOTS_MAX];
	unsigned int n_slots;
	struct near *nears;
	struct far *fars, *fds[FARS_MAX];
	unsigned int n_open;
	uint32_t n_ids;
	uint64_t n_effects;         /* calls with a visible result */
	uint32_t n_timeouts;        /* of data from the container */
	struct near *dialler;       /* whose SYN is being looked at */
	bool is_calm;               /* nothing is lost or delayed on purpose any more */
	bool is_hungry;             /* many want memory, of which there is little */
	bool near_waits, far_waits; /* programs that read only when all was written; one side's */
	bool link_is_gone, is_ending, is_lossy;
};

static inline int64_t now_ns(const struct world *world)
{
	return world->loop.now_ns;
}

/* Ends the program, and names the seed. */
#define MUST(world, condition) \
	((condition) ? (void)0 : world_fail(world, __FILE__, __LINE__, #condition))
_Noreturn void world_fail(struct world *world, const char *file, int line, const char *what);
void world_say(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* world.c: lives one world from its beginning to its end. */
void world_run(struct world *world, uint64_t seed, bool is_verbose);

/* wire.c */
void wire_send(struct near *near, const struct segment *segment);
/* The answer of a kernel that knows no such connection. */
void wire_refuse(struct slot *slot, const struct segment *segment);
extern const struct link_ops world_link_ops;

/* near.c */
struct near *near_open(struct slot *slot);
/* Waits for the slot's client; or has refused it, when it comes. */
struct near *near_listen(struct slot *slot);
void near_input(struct near *near, const struct segment *segment);
void near_unreachable(struct near *near);
void near_stop(struct near *near);
/* Everything was read and written, or will never be. */
bool near_is_over(const struct near *near);

/* far.c */
extern const struct host_ops world_host_ops;
/* The client of a server; the relay may have no room for it. */
void far_arrive(struct near *near);
/* Tells the relay of all edges. Returns whether there were any. */
bool far_dispatch(struct world *world);
void far_kick(struct far *far);
void far_stop(struct far *far);
bool far_is_over(const struct far *far);
