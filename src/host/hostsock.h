/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real host behind host_ops.
 */
#pragma once

#include "base/loop.h"
#include "host/host.h"

struct hostsock {
	struct host host;
	struct loop *loop;
};

void hostsock_init(struct hostsock *hostsock, struct loop *loop);
