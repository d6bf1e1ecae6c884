/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of this host at published ports: two sockets of the kernel's, that of the client and one
 * of the container's namespace (made by the netns agent), and bytes that go from one to the other
 * without being looked at: splice(2) through a pipe for bulk, recv(2) and send(2) for messages.
 *
 *   DIALING --connected--> OPEN --both streams have ended--> (gone)
 *      |                     '--error or reset on either side: a reset to the other one
 *      |--refused: a reset to the client
 *      '--cannot work (no route, lo is down, no agent): given back, for the tap
 *
 * Pipes come from a bounded pool and are held only while bytes are in transit: what found no taker
 * for a turn is drained into memory of the flow's own (bounded; the stream rests then), and the
 * pipe goes back. A flow that gets none uses recv(2) and send(2). No flow waits for another's pipe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/counter.h"
#include "base/loop.h"
#include "base/siphash.h"
#include "base/socket_source.h"
#include "flow/usage.h"
#include "wire/types.h"

/* A dial of the namespace's loopback may hang for ever; the answer of one that works comes at
 * once. */
#define SPLICE_DIAL_NS (2 * NS_PER_SEC)

struct splice_dial {
	int fd; /* the client's; not watched yet */
	struct ip_addr guest;
	uint16_t guest_port;
	const char *guest_path; /* a unix socket instead of them; NULL: none */
	struct usage *usage;    /* a reference is taken */
	/* The dial cannot work: the client is given back, untouched, for another way. NULL: there
	 * is none, it is reset. */
	void (*fall_back)(void *owner, uint64_t cookie, int fd, int error);
	void *owner;
	uint64_t cookie;
};

struct splice_config {
	struct loop *loop;
	struct counters *counters;
	struct socket_source *sockets;
	const struct siphash_key *key;
	uint32_t max_flows;
	size_t memory;      /* for what pipes were drained of, bytes */
	int max_fd;         /* descriptors of pipes are below; 0: any */
	uint64_t max_pipes; /* 0: bulk goes by recv(2) and send(2), too */
	uint32_t pipe_size; /* bytes; 0: what is best, as far as the user's limits allow */
};

struct splice;

/* NULL without memory. `config` is copied, what it points to stays its owner's. */
struct splice *splice_new(const struct splice_config *config);
/* The end is near: connections without bytes on their way are closed, dials are resets. */
void splice_stop(struct splice *splice);
/* Closes what is left: what was sent still arrives. Dials are resets. NULL is nothing. */
void splice_free(struct splice *splice);

/* The client's descriptor is the flow's when 0 is returned; else -EMFILE or -ENOMEM: no room. */
int splice_open(struct splice *splice, const struct splice_dial *dial);
/* HANDLE_SPLICE_NEAR, HANDLE_SPLICE_FAR. `events` are epoll's. */
void splice_ready(struct splice *splice, struct handle handle, uint32_t events);
/* The end of a turn. Returns true when there is more to do at once. */
bool splice_finish(struct splice *splice);
/* Resets all connections that hold `usage`. */
void splice_reset_all(struct splice *splice, const struct usage *usage);
/* The owner of fall_back() goes away: these dials are resets when they fail. */
void splice_forget(struct splice *splice, const void *owner);
/* Whether there are bytes on their way; for the end. */
bool splice_has_unsent(const struct splice *splice);
