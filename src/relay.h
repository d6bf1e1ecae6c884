/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The composition root: owns all parts by value, so that several relays could run side by side (but
 * for libslirp's globals), and holds the two dispatches, of events and of frames.
 *
 * It starts when everything that needs privileges or paths has been done (main.c, setup/).
 */
#pragma once

#include "agent/agent.h"
#include "agent/client.h"
#include "agent/source.h"
#include "api/server.h"
#include "base/counter.h"
#include "base/loop.h"
#include "flow/icmp_limit.h"
#include "flow/ingress.h"
#include "flow/policy.h"
#include "forward/forward.h"
#include "forward/spec.h"
#include "host/hostsock.h"
#include "link/pcap.h"
#include "link/tap.h"
#include "setup/options.h"
#include "slirp/bridge.h"
#include "slirp/hostfwd.h"
#include "stack.h"

/* Why it ended; the exit status and the last log line follow from it. */
enum relay_end {
	RELAY_RUNS = 0,
	RELAY_EXIT_FD,
	RELAY_SIGNAL,
	RELAY_TARGET_GONE,
	RELAY_LINK_GONE,
	RELAY_FAILED,
};

struct relay {
	struct loop loop;
	struct counters counters;
	struct policy policy;
	struct icmp_limit icmp_limit;
	struct ingress ingress;
	struct tap_link tap;
	struct pcap_link pcap; /* around the tap, with --pcap */
	struct link *link;     /* whichever of the two frames go through */
	struct hostsock hostsock;
	struct stack stack; /* with --stack=auto */
	bool has_stack;
	bool has_more; /* of what the last turn began */
	struct bridge bridge;
	struct hostfwd hostfwd;
	struct forward *forward;
	struct api_server *api; /* NULL: none */
	struct api_context api_context;
	struct agent_process agent_process;
	struct agent_client agent;
	struct agent_source agent_source;
	int signal_fd;
	enum relay_end end;
	int end_signal;
	uint32_t link_events; /* of this turn */
	unsigned int link_batch;
	bool link_was_ready;     /* in the turn before */
	uint64_t n_refused_seen; /* refused system calls that were reported already, and the last */
	int last_refused;
	/* The frame that was read, and its virtio-net header. Where it lies in the buffer makes
	 * what is copied begin at a cache line: large copies run up to a quarter slower otherwise.
	 */
	uint8_t *frame;
	_Alignas(64) uint8_t buffer[64 + LINK_BUFFER_LEN];
	uint8_t answer[INGRESS_ANSWER_MAX];
};

/* What main() has prepared; descriptors become the relay's but for exit_fd and target_fd. */
struct relay_parts {
	struct options *options; /* the outbound addresses are kept by libslirp */
	uint64_t descriptor_limit;
	struct api_server *api;
	forward_fd_fn *find_fd; /* what was passed for the rules of --publish */
	void *find_fd_arg;
	int signal_fd;
	int exit_fd;                /* -1: none */
	int target_fd;              /* pidfd, -1: none */
	struct agent_process agent; /* without a socket: none */
	bool link_is_up;
};

/* Everything that allocates or can fail, before the sandbox. relay->tap is set already, and
 * relay->pcap is open if it is wanted. 0 or a negative errno, logged. */
int relay_init(struct relay *relay, const struct relay_parts *parts);
/* As publish_folders(). */
size_t relay_folders(const struct relay *relay, int *ret_fds, size_t max);
/* The start has failed, in relay_init() or later: takes away what lies in the file system. */
void relay_give_up(struct relay *relay);
/* Runs until something ends it; returns what. */
enum relay_end relay_run(struct relay *relay);
/* Published ports and the link first, at once; then what was acknowledged is written for at most a
 * second; logs the last line. */
void relay_stop(struct relay *relay);
