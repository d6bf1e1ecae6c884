/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's nameservers, as resolv.conf(5) names them, of both families and in their order; and
 * which of them do not answer.
 *
 * The file is looked at again when somebody asks and a second has gone by. Who opens it is the
 * owner's choice: the resolver itself by its path, at once, or somebody else (the netns agent), who
 * passes the descriptor later:
 *
 *   KNOWN --asked, a second old--> LOOKING --resolver_take(), or RESOLVER_WAIT_NS--> KNOWN
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

#include "host/host.h"

#define RESOLVER_PATH       "/etc/resolv.conf"
#define RESOLVER_RECHECK_NS NS_PER_SEC
/* Beyond that nobody's resolver reads. */
#define RESOLVER_FILE_MAX 65536
/* So long a nameserver that was silent, or refused, is tried last. */
#define RESOLVER_SHUN_NS (30 * NS_PER_SEC)

/* As the file has it. */
struct resolver_server {
	struct ip_addr addr;
	char zone[IF_NAMESIZE]; /* its interface, a name or a number; empty: none is named */
};

/* Pure. Returns how many the text names; those beyond HOST_NAMESERVERS_MAX are ignored. */
int resolver_parse(const char *text, size_t len, struct resolver_server ret[HOST_NAMESERVERS_MAX]);

/* All zero but for path, ask and arg, to begin with. */
struct resolver {
	const char *path;
	/* Has the file opened: resolver_take() follows, now or later. A negative errno: it will
	 * not. NULL: the resolver opens it itself. */
	int (*ask)(void *arg);
	void *arg;
	struct resolver_server servers[HOST_NAMESERVERS_MAX];
	uint32_t scopes[HOST_NAMESERVERS_MAX];
	int64_t shunned_until_ns[HOST_NAMESERVERS_MAX];
	int n_servers; /* 0: nobody has looked yet */
	int64_t checked_ns, asked_ns;
	bool was_checked;
	bool is_looking;
};

/* As host_ops.nameservers(). Where the file names none it is the host's loopback, as resolv.conf(5)
 * has it. */
int resolver_nameservers(struct resolver *resolver,
	struct host_nameserver ret[HOST_NAMESERVERS_MAX], int64_t now_ns);
/* As host_ops.nameserver_said(). */
void resolver_said(
	struct resolver *resolver, const struct ip_addr *addr, bool answered, int64_t now_ns);
/* What became of ask(): the file, whose descriptor becomes the resolver's, or why it could not be
 * opened, a negative errno. What says nothing about the file (no descriptor, nobody there) leaves
 * everything as it was. */
void resolver_take(struct resolver *resolver, int fd, int64_t now_ns);
