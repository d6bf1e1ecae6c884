/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay's side of the agent: asynchronous requests for sockets of the container's namespace
 * and for the host's resolv.conf, a bounded number at a time, each with a deadline. When the agent
 * is gone every waiting request fails at once, and so does every later one; nobody ever waits for a
 * dead agent.
 */
#pragma once

#include "agent/protocol.h"
#include "base/counter.h"
#include "base/loop.h"
#include "base/socket_source.h"

#define AGENT_REQUESTS_MAX 64
#define AGENT_TIMEOUT_NS   (5 * NS_PER_SEC)

/* `fd` is the new socket or a negative errno: -EPIPE when the agent is gone, -ETIMEDOUT, -EMFILE
 * when the relay has no room for it, or why it could not be made. It may ask for another socket. */
typedef socket_made_fn agent_socket_fn;

struct agent_client {
	struct loop *loop;
	struct counters *counters;
	int sock; /* the agent_process's; -1: gone */
	uint32_t next_id;
	struct agent_request {
		bool waiting;
		uint32_t reply_type; /* of enum agent_message_type */
		uint32_t id;
		agent_socket_fn *done;
		void *owner;
		uint64_t cookie;
		struct timer deadline;
		struct agent_client *client;
	} requests[AGENT_REQUESTS_MAX];
};

/* Watches the socket (-1: there is no agent) as HANDLE_AGENT. It stays the agent_process's, whose
 * agent_stop() closes it. */
int agent_client_init(
	struct agent_client *client, int sock, struct loop *loop, struct counters *counters);
/* Waiting requests fail with -EPIPE. */
void agent_client_done(struct agent_client *client);

/* 0: `done` will be called, never before this returns. Else it will not: -EPIPE (no agent),
 * -EAGAIN (too many requests at a time), or why it could not be sent. */
int agent_client_socket(struct agent_client *client, const struct agent_socket *what,
	agent_socket_fn *done, void *owner, uint64_t cookie);

/* Likewise a stream socket that is connected to `path`; -ENAMETOOLONG. */
int agent_client_unix(struct agent_client *client, const char *path, agent_socket_fn *done,
	void *owner, uint64_t cookie);

/* Likewise; the descriptor is of the host's resolv.conf. What it is of is for the callee to see:
 * the agent is not trusted. */
int agent_client_resolv_conf(
	struct agent_client *client, agent_socket_fn *done, void *owner, uint64_t cookie);

/* From the loop: HANDLE_AGENT. Returns -EPIPE once, when the agent is found gone: for the owner to
 * log, and to reap it with agent_stop(). */
int agent_client_ready(struct agent_client *client);
