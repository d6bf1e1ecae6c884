/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of --publish: from the text on the command line to rules that serve.
 */
#pragma once

#include "forward/forward.h"
#include "forward/spec.h"
#include "setup/options.h"

/* All of them or none. 0 or a negative errno; why is one line of the log. `find_fd` knows the
 * descriptors that were passed. */
int rules_add(struct forward *forward, const struct options *options, forward_fd_fn *find_fd,
	void *find_fd_arg);
