/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published ports by libslirp, with --stack=libslirp: another backend of forward/.
 */
#pragma once

#include "forward/forward.h"
#include "slirp/bridge.h"

struct hostfwd {
	struct forward_backend backend;
	struct bridge *bridge;
	struct in_addr guest; /* the default one */
};

void hostfwd_init(struct hostfwd *hostfwd, struct bridge *bridge, struct in_addr guest);
