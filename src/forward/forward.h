/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published ports: the rules, their ids, and who carries them out. A backend is a small table of
 * operations: our own (publish/), or libslirp's hostfwd (slirp/hostfwd.c) with --stack=libslirp.
 *
 * Rules are owned here; the API only names them by id. Ids start at 1, grow by 1 with every rule
 * that was added, and are never used again.
 *
 * A rule that has a port in common with another of the same protocol and host address is refused
 * here with -EADDRINUSE: the kernel would only see it for TCP, and libslirp names listeners by
 * these three. What else collides (the wildcard with an address) the backend finds out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "wire/types.h"

/* More rules than host ports of one protocol and address make no sense. */
#define FORWARD_RULES_MAX 65536

enum forward_proto { FORWARD_TCP, FORWARD_UDP };

/* "tcp", "udp". */
const char *forward_proto_name(enum forward_proto proto);

/* How a client is carried into the container. */
enum forward_path {
	FORWARD_AUTO,   /* FORWARD_SPLICE for clients at 127/8 and ::1, else FORWARD_TAP */
	FORWARD_SPLICE, /* by a socket of the container's namespace; the server sees that one */
	FORWARD_TAP,    /* over the link; the server sees the client */
};

/* "auto", "splice", "tap". */
const char *forward_path_name(enum forward_path path);

/* Where clients come from. */
enum forward_source {
	FORWARD_FROM_ADDR, /* host_addr and ports */
	FORWARD_FROM_UNIX, /* host_path: a listener of our own in the file system, made at start */
	FORWARD_FROM_FD,   /* host_fd: a socket that somebody else has bound */
};

/* What a client asks for. */
struct forward_spec {
	enum forward_proto proto;
	enum forward_source source;
	/* 0.0.0.0 is every IPv4 address, :: every IPv6 address, and with `dual_stack` every IPv4
	 * address, too. Of FORWARD_FROM_FD what the socket is bound to. AF_UNIX for unix sockets:
	 * no ports then, host_port is 0 and n_ports 1. */
	struct ip_addr host_addr;
	bool dual_stack;
	/* The first of n_ports in a row, host byte order, 1..65535. n_ports is 1 or more. With
	 * `guest_path` guest_port is 0. */
	uint16_t host_port, guest_port;
	uint16_t n_ports;
	/* Family AF_UNSPEC: the guest's own, of host_addr's family: N+100, or the IPv6 address at
	 * which the guest was last seen. (AF_UNSPEC with `guest_path`, too.) 0.0.0.0 can be asked
	 * for as well and means N+100. */
	struct ip_addr guest_addr;
	enum forward_path path;
	bool lazy;        /* TCP: listens while something in the container does */
	bool at_start;    /* nobody was there yet to be seen: the guest need not be known */
	char *host_path;  /* FORWARD_FROM_UNIX, and a passed unix socket's, if it has one */
	int host_fd;      /* FORWARD_FROM_FD; -1: none */
	char *guest_path; /* a unix socket of the host instead of the guest's address; NULL: none */
};

/* Takes the strings and the descriptor along, closes and frees what a spec owns; it is as zero with
 * host_fd -1 then. */
void forward_spec_done(struct forward_spec *spec);
/* Whether `lazy` can be asked for: not of datagrams, which nobody refuses, of others' sockets, and
 * of unix sockets. */
bool forward_spec_can_be_lazy(const struct forward_spec *spec);

struct forward_rule {
	uint64_t id;
	struct forward_spec spec; /* owned by the rule */
	void *served;             /* the backend's own, from bind() to unbind() */
};

enum forward_state {
	FORWARD_LISTENING,
	FORWARD_WAITING, /* `lazy`, and nothing in the container listens */
	FORWARD_FAILED,  /* `error` says why; it is tried again */
};

/* What has become of a rule. */
struct forward_status {
	enum forward_state state;
	int error;                                                       /* positive errno */
	uint64_t n_opened, n_active, n_refused, n_in_bytes, n_out_bytes; /* as in struct usage */
};

/* What was wrong with one of the specs of a set. */
struct forward_failure {
	int error;     /* negative errno, 0: nothing */
	size_t index;  /* of the spec in the set */
	uint16_t port; /* the host's; 0: it has nothing to do with a port */
	/* Which argument is to blame: "host_port", "host_addr", "guest_addr", "path", ..., "rules"
	 * when it is all of them. */
	const char *field;
};

/* "EADDRINUSE" of a positive errno; NULL for one that no socket call has. */
const char *forward_errno_name(int error);
/* What people can do about it, beyond what strerror(3) says; NULL: nothing to add. */
const char *forward_failure_hint(const struct forward_failure *failure);

struct forward_backend;

struct forward_backend_ops {
	/* Starts to serve the rule, all of its ports or none: 0 when it serves, a negative errno
	 * (EADDRINUSE, EACCES, ...) when it cannot, *ret_failure has port and field then (before
	 * the call they are host_port). `rule` stays where it is until unbind(). The descriptor of
	 * FORWARD_FROM_FD is the backend's when 0 is returned: it takes it out of the spec. */
	int (*bind)(struct forward_backend *backend, struct forward_rule *rule,
		struct forward_failure *ret_failure);
	/* Stops to serve it: the ports are free when this returns. Connections go on, or with
	 * `close_connections` are reset. */
	void (*unbind)(struct forward_backend *backend, const struct forward_rule *rule,
		bool close_connections);
	void (*status)(struct forward_backend *backend, const struct forward_rule *rule,
		struct forward_status *ret);
	/* A word for logs: "libslirp". */
	const char *(*describe)(struct forward_backend *backend);
};

struct forward_backend {
	const struct forward_backend_ops *ops;
};

struct forward;

/* The backend is kept, not owned. NULL without memory. */
struct forward *forward_new(struct forward_backend *backend);
/* Unbinds all rules. NULL is nothing. */
void forward_free(struct forward *forward);
/* Unbinds all rules, at exit: the ports are free when this returns. */
void forward_close_all(struct forward *forward);

/* All of `specs` or none of them. Returns 0, and the id of the first in *ret_id (the others'
 * follow it), or a negative errno, and *ret_failure; that is logged, too, as `level`. What the
 * specs own is the rules' afterwards, or freed: they are as after forward_spec_done() either way.
 */
int forward_add(struct forward *forward, struct forward_spec *specs, size_t n, enum log_level level,
	uint64_t *ret_id, struct forward_failure *ret_failure);
/* 0 or -ENOENT when there is no such rule. */
int forward_remove(struct forward *forward, uint64_t id, bool close_connections);
/* The id of the rule with the same protocol, host address and host ports (all of them), or with the
 * same host_path; 0: there is none. */
uint64_t forward_find(const struct forward *forward, const struct forward_spec *spec);

/* The rules in the order of their ids. The pointer is good until the next change. */
const struct forward_rule *forward_next(const struct forward *forward, uint64_t after_id);
void forward_status(
	const struct forward *forward, const struct forward_rule *rule, struct forward_status *ret);
size_t forward_count(const struct forward *forward);
