/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's nameservers, as resolv.conf(5) names them: the first of each family. The file is
 * looked at again when it is asked for and a second has gone by.
 */
#pragma once

#include <net/if.h>
#include <sys/stat.h>

#include "wire/types.h"

#define RESOLVER_PATH "/etc/resolv.conf"

/* All zero but for the path, to begin with. */
struct resolver {
	const char *path;
	struct ip_addr server4, server6;
	char zone6[IF_NAMESIZE]; /* server6's interface, a name or a number; empty: none is named */
	int64_t checked_ns;
	bool was_checked;
	bool is_known; /* the servers are those of the file as it was `seen` */
	struct stat seen;
};

/* The nameserver of that family; without one the host's loopback, as resolv.conf(5) has it. */
struct ip_addr resolver_nameserver(struct resolver *resolver, uint8_t family, int64_t now_ns);

/* The index of the interface behind which the nameserver server6 is (RFC 4007 11), as interfaces
 * are called now; 0: none. */
uint32_t resolver_scope6(const struct resolver *resolver);
