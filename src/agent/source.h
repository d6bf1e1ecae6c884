/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent as a source of sockets: once a client has come a stock of unconnected TCP sockets of
 * its family is kept ready, so that a dial does not wait for the agent; it is given up when none
 * has come for a while. What finds the stock empty, or is no TCP socket, waits in a bounded queue.
 * When the agent is gone everything fails at once.
 */
#pragma once

#include "agent/client.h"
#include "base/list.h"

/* Of each family; when half of it is left the rest is asked for. */
#define SOURCE_STOCK 32
/* Those that wait: more fail with -EAGAIN. */
#define SOURCE_WAITING_MAX 4096

struct source_shelf {
	int fds[SOURCE_STOCK];
	uint32_t n_fds;
	bool is_stocked;
	struct list waiting; /* for the next that is made */
	uint32_t n_waiting, n_asked;
};

struct agent_source {
	struct socket_source source;
	struct agent_client *client;
	int max_fd; /* descriptors from this number on are kept for others: -EMFILE */
	struct source_shelf shelves[2]; /* TCP over IPv4, over IPv6 */
	struct list others;             /* wishes of other kinds, not sent yet */
	struct list asked;              /* and those that were */
	uint32_t n_waiting, n_asked;    /* of all kinds */
	struct timer idle;
	int64_t used_ns;
};

/* `client` stays its owner's, and is there as long as the source. */
void agent_source_init(struct agent_source *source, struct agent_client *client);
/* After agent_client_done(), which has answered what was asked; what waits fails with -EPIPE. */
void agent_source_done(struct agent_source *source);
