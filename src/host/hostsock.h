/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real host behind host_ops. It keeps one descriptor that means nothing, to be given up when a
 * client must be refused and there is no other: the container can use them all up.
 */
#pragma once

#include "base/loop.h"
#include "host/host.h"
#include "host/resolver.h"

/* What the kernel may do for many datagrams at once; without, each is handled by itself. */
enum hostsock_feature {
	HOSTSOCK_UDP_GRO = 1 << 0,     /* runs come in as one, Linux 5.0 */
	HOSTSOCK_UDP_SEGMENT = 1 << 1, /* runs go out as one, Linux 4.18 */
};

struct hostsock {
	struct host host;
	struct loop *loop;
	unsigned int features; /* of enum hostsock_feature */
	struct resolver resolver;
	int spare; /* -1: could not be had (again) */
};

void hostsock_init(struct hostsock *hostsock, struct loop *loop, unsigned int features);
void hostsock_done(struct hostsock *hostsock);
