/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP relay: each connection of the container ends here and goes on as a socket of the host,
 * and each client of a published port goes on from here to the container.
 * It is no general TCP: the container's kernel sits at the other end of a wire that is short, keeps
 * the order and loses next to nothing. Two streams meet in a flow,
 *
 *   up     container -> host: from the frame straight to send(2); what the socket does not take
 *          waits in `up`, and was acknowledged; the window tells how much may
 *   down   host -> container: from recv(2) to `down`, from there to the link, and it stays in
 * `down` until the container has acknowledged it
 *
 * State machine: tcpflow/states.h. Effects only through link_ops, host_ops and the timer heap.
 *
 * A turn has three steps: what happened is put into flows (tcpflow_input(), tcpflow_host_ready(),
 * timers), flows that have something to do stand in `ready`, and tcpflow_finish() steps each of
 * them once, within a budget: bytes move, one acknowledgement tells of all of them, the ended are
 * freed. Beside many frames tcpflow_answer() has stepped some of them before these. Host sockets
 * are watched edge-triggered; `far_readable` and `far_writable` keep what was
 * told until a call shows that it is no longer so.
 */
#pragma once

#include "base/counter.h"
#include "base/list.h"
#include "base/loop.h"
#include "flow/buffer.h"
#include "flow/icmp_limit.h"
#include "flow/next_hop.h"
#include "flow/policy.h"
#include "flow/table.h"
#include "flow/usage.h"
#include "host/host.h"
#include "link/link.h"
#include "tcpflow/rtt.h"
#include "tcpflow/states.h"
#include "wire/eth.h"

/* What of the stream from the container may wait for the host's socket, and so the window. */
#define TCP_UP_WINDOW (256 * 1024)
/* What of the stream to the container may be unacknowledged. More of either brings no throughput,
 * and what stands in the tap's queue is in front of others. */
#define TCP_DOWN_WINDOW (2 * LINK_BIG_PAYLOAD)

/* How long nobody answers until the flow is ended: retransmissions, and probes. */
#define TCP_GIVE_UP_NS (100 * NS_PER_SEC)
/* Silence after which the container is probed: half-closed, and otherwise (RFC 9293 3.8.4). */
#define TCP_HALF_CLOSED_IDLE_NS (60 * NS_PER_SEC)
#define TCP_IDLE_NS             (7200 * NS_PER_SEC)
/* Between the probes; so many without an answer end the flow. */
#define TCP_PROBE_INTERVAL_NS (15 * NS_PER_SEC)
#define TCP_PROBES            3
/* A SYN-ACK that nobody acknowledges. */
#define TCP_SYN_GIVE_UP_NS (20 * NS_PER_SEC)
/* Between the questions where the container's server is. */
#define TCP_ASK_AGAIN_NS (1 * NS_PER_SEC)
/* On a wire without routers nothing is older than this (2 MSL, RFC 9293 3.4.2). */
#define TCP_TIME_WAIT_NS (10 * NS_PER_SEC)
/* How long a peer that vanished is silent to the container after its last word. */
#define TCP_VANISHED_NS (110 * NS_PER_SEC)
/* How long a host's socket may take nothing of what a closed connection has left for it, when
 * memory is short. */
#define TCP_DRAINING_NS (600 * NS_PER_SEC)
/* In a dialogue an acknowledgement waits so long for data to ride on. */
#define TCP_DELAYED_ACK_NS (4 * NS_PER_MS)
/* Between two looks at free memory. */
#define TCP_TRIM_NS (500 * NS_PER_MS)

/* Whether frames beyond 64 KiB are sent to the container (big.c). */
enum tcp_big {
	TCP_BIG_NEVER,
	TCP_BIG_YES,
	TCP_BIG_DOUBTED, /* one may have been lost: the acknowledgement that reaches it tells */
};

struct tcp_flow {
	struct flow flow; /* first: the table's */
	enum tcp_state state;
	int fd;                  /* the host's socket, -1: none any more */
	struct ip_addr far_addr; /* whom it speaks to, as the host sees it */

	/* The near side's variables (RFC 9293 3.3.1). */
	uint32_t snd_una, snd_nxt;
	uint32_t snd_wnd, snd_wl1, max_snd_wnd;
	uint32_t rcv_nxt, rcv_edge; /* rcv_edge: how far the window reached that was offered */
	uint32_t rcv_wnd_max;       /* how much is offered at most */
	uint32_t last_ack_sent;
	uint32_t iss, irs;
	uint16_t mss; /* of what we send */
	uint8_t snd_shift, rcv_shift;
	uint8_t n_duplicates; /* acknowledgements */
	uint8_t n_probes;     /* unanswered */
	uint8_t n_chunks;     /* for which the next recv(2) is given room */
	bool has_window_scale;
	bool is_recovering; /* RFC 6582: something was lost, up to `recover` */
	uint32_t recover;
	enum tcp_big big;
	bool big_is_under_way;
	uint32_t big_first, big_last; /* where the first frame of that size that may be lost begins,
				       * and the last */
	uint32_t big_end;             /* what follows the last */
	uint32_t again_end;           /* what follows that which was sent again, in doubt */
	struct tcp_rtt rtt;

	/* What is to be done. */
	bool far_readable, far_writable;
	bool far_ending; /* a short read does not mean that nothing follows */
	bool far_eof;    /* all of the host's stream is in `down` */
	bool near_eof;   /* all of the container's stream is in `up`, or sent */
	bool is_shut;    /* the host's socket was told of near_eof */
	bool ack_owed;
	uint8_t n_in;            /* segments with data since we sent some */
	uint8_t dialogue;        /* how often in a row an answer came soon, up to TCP_HABIT */
	bool has_answered;       /* data was sent to the container */
	bool has_received;       /* data of the container, of which some was acknowledged */
	bool is_arrival;         /* the host's side came first: tcpflow_arrive() */
	bool is_active;          /* counted in usage->n_active */
	bool has_retried;        /* SYN_SENT: an old connection was in the way, once */
	bool is_dns;             /* goes to the host's nameservers, whichever stands */
	uint8_t servers_tried;   /* bits, by their position */
	uint32_t far_pace_s;     /* of the probes to the host, 0: its default */
	struct host_error error; /* why dialling or a call on the socket failed */

	struct byte_queue up, down;
	struct byte_queue ahead; /* from the container, behind a gap; begins at ahead_seq */
	uint32_t ahead_seq;

	/* Deadlines; CLOCK_NEVER: none. The timer is armed for the earliest, or earlier. */
	int64_t retransmit_ns, ack_ns, idle_ns;
	int64_t unanswered_since_ns; /* the first word that nobody answered; CLOCK_NEVER: none */
	int64_t heard_ns;            /* the container's last segment */
	struct timer timer;

	struct list ready;   /* in tcpflow.ready */
	struct list hungry;  /* in tcpflow.hungry: waits for memory */
	struct list waiting; /* in tcpflow.waiting: in TIME_WAIT, oldest first; in
			      * tcpflow.resolving: in RESOLVING; tcpflow.dialled: in SYN_SENT */
	struct usage *usage; /* of an arrival's rule; NULL: there is none */
	struct eth_addr near_mac, our_mac;
	struct tcpflow *owner;
};

struct tcpflow_config {
	const struct policy *policy;
	struct link *link;
	struct host *host;
	struct loop *loop; /* its time and its timers */
	struct counters *counters;
	struct icmp_limit *icmp_limit;
	struct next_hop *next_hop;
	const struct siphash_key *key;
	uint32_t mtu; /* of the link */
	uint32_t max_flows;
	uint32_t queue_len; /* packets that the container's side of the link holds, 0: no bound */
	size_t memory;      /* of all buffers, bytes */
};

/* What short connections of late were like, each counted up to TCP_HABIT: whether the first request
 * was answered so soon that the answer could carry its acknowledgement, and whether the host ended
 * its stream that soon after the container. One that was not makes it 0. */
struct tcp_habits {
	uint8_t first_answer, last_answer;
};

/* So often in a row makes a habit. */
#define TCP_HABIT 2

struct tcpflow {
	struct tcpflow_config config;
	struct tcp_habits habits, arrival_habits; /* of connections that the container dialled, or
						   * that it was dialled for */
	struct siphash_key isn_key;
	struct flow_table table;
	struct buffer_pool pool;
	struct list ready, hungry, waiting, resolving, dialled;
	struct timer trim_timer;
	struct tcp_big_doubt {
		uint8_t n;
		int64_t until_ns;
	} big_doubts[2]; /* of IPv4 and IPv6 (big.c) */
	/* Of each kind there may be max_half_open, so that neither takes the other's room. */
	uint32_t n_half_open; /* the container's dials */
	uint32_t n_arriving;  /* clients for whom it is dialled */
	uint32_t max_half_open;
	uint32_t n_challenges; /* in the second that began at challenges_since_ns (RFC 5961 7) */
	int64_t challenges_since_ns;
	/* Tests hear of each event, before it is handled; NULL: nobody does. */
	void (*trace)(void *arg, enum tcp_state state, enum tcp_event event);
	void *trace_arg;
};

/* A client of a published port, whom the container is to meet. */
struct tcp_arrival {
	int fd;              /* the accepted connection; not watched yet */
	struct ip_addr near; /* the container's server */
	uint16_t near_port;
	struct ip_addr far; /* as whom the container sees the client, of the same family */
	uint16_t far_port;
	struct usage *usage; /* its rule's; a reference is taken */
};

enum tcpflow_result {
	TCPFLOW_TAKEN,
	TCPFLOW_STRAY, /* of no flow, and no SYN: to be refused, if nobody else knows it */
};

/* 0 or a negative errno; `config` is copied, what it points to stays its owner's. */
int tcpflow_init(struct tcpflow *tcpflow, const struct tcpflow_config *config);
/* Closes what is left: what was sent still arrives. */
void tcpflow_done(struct tcpflow *tcpflow);

/* A whole TCP segment (flow/ingress.h). */
enum tcpflow_result tcpflow_input(
	struct tcpflow *tcpflow, const uint8_t *frame, const struct packet *packet);
/* Answers a stray segment with a reset, unless it is one (RFC 9293 3.10.7.1). */
void tcpflow_refuse(struct tcpflow *tcpflow, const uint8_t *frame, const struct packet *packet);
/* Dials the container (RFC 9293 3.10.1) in the name of the client; its descriptor is the flow's
 * when 0 is returned. If these ports are in use between the two the client is shown with another
 * one. What the container answers the client gets: a refusal is a reset, and so is that nobody is
 * there (NEXT_HOP_GIVE_UP_NS) or answers (TCP_SYN_GIVE_UP_NS). The usage counts it as opened when
 * the container has accepted it, else as refused. A negative errno: -ENOSPC there is no room,
 * -EADDRINUSE no port is free between the two, -ENETDOWN the link is gone, -EAFNOSUPPORT, -EINVAL
 * these two cannot meet, or what tcp_adopt() says; then nothing was counted. Not to be called out
 * of the other functions of the relay. */
int tcpflow_arrive(struct tcpflow *tcpflow, const struct tcp_arrival *arrival);
/* `addr` was heard of at `mac`: flows that wait for it dial. */
void tcpflow_neighbor(
	struct tcpflow *tcpflow, const struct ip_addr *addr, const struct eth_addr *mac);
/* An ICMP error of the container's or of a router behind it. */
void tcpflow_near_error(struct tcpflow *tcpflow, const uint8_t *frame, const struct packet *packet);
/* Resets all connections that hold `usage`. */
void tcpflow_reset_all(struct tcpflow *tcpflow, const struct usage *usage);
/* `events` are epoll's. */
void tcpflow_host_ready(struct tcpflow *tcpflow, struct handle handle, uint32_t events);
/* Before frames of which there are many: what the host has said goes to the container first, where
 * that is not much. */
void tcpflow_answer(struct tcpflow *tcpflow);
/* The end of a turn. Returns true when there is more to do at once. */
bool tcpflow_finish(struct tcpflow *tcpflow);
/* The link is gone or going: no frame will be read or written any more. What the container was told
 * has arrived is still written to the host, and what comes from there is thrown away. */
void tcpflow_link_gone(struct tcpflow *tcpflow);
/* Whether there are bytes that were acknowledged and not yet taken by a host socket, or, when the
 * link is gone, by its peer: to close a socket that has something to read would throw them away. */
bool tcpflow_has_unsent(const struct tcpflow *tcpflow);
