/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API socket: a superset of slirp4netns's protocol (docs: netns-helper-api(7)). One JSON
 * request per connection, answered at the first complete value, then closed; or one after another,
 * when the client asks for it.
 *
 * It never costs a packet: everything is non-blocking, a turn reads one piece from each client that
 * is ready, clients are bounded (the one that has been silent longest makes room), and each has a
 * deadline.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/counter.h"
#include "base/loop.h"
#include "base/util.h"
#include "forward/forward.h"

/* A request has at most so many bytes, with what stands before it. */
#define API_REQUEST_MAX (1 << 20)
/* And so many descriptors with it. */
#define API_FDS_MAX     16
#define API_CLIENTS_MAX 256
/* How many clients at a time are served when the process has used up its descriptors. */
#define API_RESERVE 8
/* A client that is silent for so long, or does not take its reply, is closed. */
#define API_IDLE_NS (60 * NS_PER_SEC)
/* A number, `true` or a word of nonsense counts as complete after so long a silence. */
#define API_SCALAR_NS NS_PER_SEC
/* Replies that clients do not take are kept up to so many bytes together; then the client that has
 * been silent longest loses its. The longest single reply (65,536 rules) has 30 MB. */
#define API_UNSENT_MAX (UINT64_C(64) << 20)
/* Likewise requests that are not complete, beyond a small one of each client, and descriptors that
 * came with them. One client alone does not reach either limit. */
#define API_UNREAD_MAX     (16 << 20)
#define API_UNUSED_FDS_MAX 64

struct api_server;

/* What the requests need to know. */
struct api_context {
	struct forward *forward;
	struct in_addr guest; /* the default guest_addr: N+100, to be listed */
	/* Of rules that do not say it: --forward-path, --lazy-listen. */
	enum forward_path path;
	bool lazy;
	struct counters *counters;
};

/* Binds `path` (mode 0600 from the first moment, a stale socket replaced, a live one or anything
 * else -EADDRINUSE / -EEXIST) and listens. Errors are logged, naming the path, and returned as
 * negative errno. Nothing is served before api_server_start(). */
int api_server_open(struct api_server **ret_server, const char *path);
/* Joins the loop. The server keeps the pointers. */
int api_server_start(
	struct api_server *server, struct loop *loop, const struct api_context *context);
/* Closes all clients and the listener and unlinks the path, if it still is the socket made here;
 * works after pivot_root too (the folder was kept open). Before the loop and the forward rules go.
 * NULL is nothing. */
void api_server_free(struct api_server *server);

/* The folder of the socket as O_PATH descriptor, for the sandbox to except; -1 without one. */
int api_server_folder(const struct api_server *server);

/* From the loop: HANDLE_API_LISTENER, HANDLE_API_CLIENT. */
void api_server_accept(struct api_server *server);
void api_server_client_ready(struct api_server *server, struct handle handle, uint32_t events);
