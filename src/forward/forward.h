/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published ports: the rules, their ids, and who carries them out. A backend is a small table of
 * operations; libslirp's hostfwd is the first (slirp/hostfwd.c). A backend may answer later than it
 * was asked, so the outcome of an addition always comes by callback.
 *
 * Rules are owned here; the API only names them by id. Ids start at 1, grow by 1 with every rule
 * that was added successfully, and are never used again. (One that fails late, when a younger one
 * has its id already, leaves a gap.)
 *
 * A rule of the same protocol, host address and port as another is refused here with -EADDRINUSE:
 * libslirp names listeners by these three, and would stop the wrong one. What else collides (the
 * wildcard with an address) the backend finds out.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* More rules than host ports of one protocol and address make no sense. */
#define FORWARD_RULES_MAX 65536

enum forward_proto { FORWARD_TCP, FORWARD_UDP };

/* "tcp", "udp". */
const char *forward_proto_name(enum forward_proto proto);

/* What a client asks for. */
struct forward_spec {
	enum forward_proto proto;
	struct in_addr host_addr; /* network byte order; 0.0.0.0: every IPv4 address */
	uint16_t host_port;       /* host byte order, 1..65535 */
	struct in_addr guest_addr;
	uint16_t guest_port;
};

struct forward_rule {
	uint64_t id;
	struct forward_spec spec;
};

struct forward_backend;

struct forward_backend_ops {
	/* Starts to serve the rule: 0 when it serves, a negative errno (EADDRINUSE, EACCES, ...)
	 * when it cannot, FORWARD_LATER when forward_bound() will tell. `rule` is gone when
	 * this returns. */
	int (*bind)(struct forward_backend *backend, const struct forward_rule *rule);
	/* Stops to serve it: the port is free when this returns. Connections go on. At exit also
	 * called for a rule that FORWARD_LATER was said of. */
	int (*unbind)(struct forward_backend *backend, const struct forward_rule *rule);
	/* A word for logs: "libslirp". */
	const char *(*describe)(struct forward_backend *backend);
};

/* A named outcome of bind(). */
#define FORWARD_LATER 1

struct forward_backend {
	const struct forward_backend_ops *ops;
};

struct forward;

/* Told once per forward_add(): `error` is 0 and `id` valid, or `error` is a negative errno.
 * `cookie` is what the requester gave; it must be good for the case that the requester is gone. */
typedef void forward_done_fn(void *owner, uint64_t cookie, int error, uint64_t id);

/* The backend is kept, not owned. NULL without memory. */
struct forward *forward_new(struct forward_backend *backend);
/* Unbinds all rules. Requesters that still wait are not told. NULL is nothing. */
void forward_free(struct forward *forward);
/* Unbinds all rules, at exit: the ports are free when this returns. Requesters that still wait are
 * not told, and forward_bound() finds nothing any more. */
void forward_close_all(struct forward *forward);

/* `done` may be called before this returns. What the backend refuses is logged. */
void forward_add(struct forward *forward, const struct forward_spec *spec, forward_done_fn *done,
	void *owner, uint64_t cookie);
/* By the backend that answered FORWARD_LATER; `id` is the rule's, `error` 0 or a negative errno. */
void forward_bound(struct forward *forward, uint64_t id, int error);
/* `owner` goes away: what it asked for still happens, but it is not told. */
void forward_forget(struct forward *forward, const void *owner);
/* 0, -ENOENT when no such rule serves, or the backend's error: the rule then stays. */
int forward_remove(struct forward *forward, uint64_t id);

/* The rules that serve, in the order of their ids. The pointer is good until the next change. */
const struct forward_rule *forward_next(const struct forward *forward, uint64_t after_id);
size_t forward_count(const struct forward *forward);
