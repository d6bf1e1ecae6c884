/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection as splice.c (its life) and way.c (its bytes) know it.
 *
 * A socket's events are edges: `readable` and `writable` stay set until a call says that there is
 * no more. Nothing but them, and the bytes that wait, says what can be done next.
 */
#pragma once

#include "flow/buffer.h"
#include "flow/table.h"
#include "splice/pipes.h"
#include "splice/splice.h"

/* What one recv(2) takes; one that fills it is followed by more. */
#define SPLICE_BUFFER 65536

/* One of the two sockets. */
struct end {
	int fd; /* -1: none yet, or no more */
	bool readable, writable;
	/* Its end, an error or urgent data was announced: a short read need not be the last. */
	bool ending;
	bool failed;
};

/* One direction: from one socket to the other. What waits is in `queue`, then in `pipe`, then in
 * the kernel; nothing is taken while something waits. */
struct way {
	struct end *from, *to;
	struct byte_queue queue;
	struct pipe *pipe; /* NULL: none is held */
	enum buffer_side side;
	bool bulk;    /* by a pipe, when there is one */
	bool no_pipe; /* splice(2) does not serve these sockets */
	bool ended;   /* nothing is left in `from` */
	bool closed;  /* which was passed on */
	uint64_t *n_bytes;
};

enum splice_state {
	SPLICE_ASKING, /* for a socket of the namespace */
	SPLICE_DIALING,
	SPLICE_OPEN,
	SPLICE_GONE, /* until the turn is over */
};

struct splice_flow {
	struct flow flow;
	struct list active; /* there is something to do */
	enum splice_state state;
	int dial_error; /* a negative errno: the dial has failed */
	struct end near, far;
	struct way in, out; /* to the container, and out of it */
	struct usage *usage;
	struct timer deadline; /* of the dial */
	struct splice *splice;

	/* While it is dialled. */
	struct ip_addr guest;
	uint16_t guest_port;
	bool is_unix;
	void (*fall_back)(void *owner, uint64_t cookie, int fd, int error);
	void *owner;
	uint64_t cookie;
};

struct splice {
	struct splice_config config;
	struct flow_table table;
	struct list active;
	uint32_t n_active;
	uint32_t share; /* bytes that one direction may take in this turn */
	struct pipe_pool pipes;
	struct buffer_pool memory;
	struct timer tick;
	uint64_t n_opened;
	uint8_t buffer[SPLICE_BUFFER];
};

static inline bool way_has_bytes(const struct way *way)
{
	return way->queue.len || way->pipe;
}

/* Moves what can be moved in a turn. Returns true when there is more to do at once. Errors become
 * `failed` at one of the ends. */
bool way_run(struct splice *splice, struct way *way);
/* The pipe's bytes go to memory. Returns false when there is too little; some may have gone. */
bool way_drain(struct splice *splice, struct way *way);
/* Forgets what waits. */
void way_drop(struct splice *splice, struct way *way);
