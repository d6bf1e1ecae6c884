/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request: its bytes in, the reply's bytes out. Knows JSON (jansson) and the forward rules,
 * no sockets but those that a client passes on.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "api/server.h"

struct api_request {
	const char *text;
	size_t len;
	int *fds; /* that came along; those that a rule has taken are -1 afterwards */
	size_t n_fds;
	bool is_kept; /* an earlier one of the connection has said keep_open */
};

struct api_reply {
	char *text; /* malloc'ed, the caller's, with room for one byte more; NULL: out of memory */
	size_t len;
	bool keep_open; /* the client has more to ask */
};

/* Once, before the sandbox: jansson reads the seed of its hash tables from /dev/urandom. */
void api_request_init(void);

/* Parses and carries out one request. */
void api_request_handle(const struct api_context *context, const struct api_request *request,
	struct api_reply *ret);

/* The reply to a request longer than API_REQUEST_MAX. */
void api_request_too_large(const struct api_context *context, struct api_reply *ret);
/* And to one whose descriptors were more than API_FDS_MAX, or than the process can have. */
void api_request_too_many_fds(const struct api_context *context, struct api_reply *ret);
