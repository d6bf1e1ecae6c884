/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real host behind host_ops. It keeps one descriptor that means nothing, to be given up when a
 * client must be refused and there is no other: the container can use them all up.
 */
#pragma once

#include "base/loop.h"
#include "host/host.h"
#include "host/resolver.h"

struct hostsock {
	struct host host;
	struct loop *loop;
	struct resolver resolver;
	int spare; /* -1: could not be had (again) */
};

void hostsock_init(struct hostsock *hostsock, struct loop *loop);
void hostsock_done(struct hostsock *hostsock);
