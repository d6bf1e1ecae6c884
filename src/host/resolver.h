/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's nameservers, as resolv.conf(5) names them: the first of each family. The file is
 * looked at again when it is asked for and a second has gone by.
 */
#pragma once

#include <sys/stat.h>

#include "wire/types.h"

struct resolver {
	struct ip_addr server4, server6;
	int64_t checked_ns;
	bool is_known;
	struct stat seen; /* the file that was read */
};

/* The nameserver of that family; without one the host's loopback, as resolv.conf(5) has it. */
struct ip_addr resolver_nameserver(struct resolver *resolver, uint8_t family, int64_t now_ns);
