/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules as people write them (forward/spec.h) become the arguments of requests
 * (netns-helper-api(7)).
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "ctl/client.h"
#include "forward/spec.h"

/* The sockets that go along with a request; owned. */
struct passed_fds {
	size_t n;
	int fds[CLIENT_FDS_MAX];
};

/* Closes them. */
void passed_fds_done(struct passed_fds *passed);

/* What add_hostfwd wants to know of the rule `text`; its socket, if it names one, goes into
 * `passed`. NULL: the reason was logged. */
json_t *rule_to_add(const char *text, struct passed_fds *passed);
/* What remove_hostfwd wants to know: an id, if these are digits and nothing else, or a rule's
 * protocol, host address and ports. NULL: the reason was logged. */
json_t *rule_to_remove(const char *text);
