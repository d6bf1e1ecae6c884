/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request: its bytes in, the reply's bytes out. Knows JSON (jansson) and the forward rules,
 * no sockets.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "api/server.h"

/* Told the reply: `text` is malloc'ed, passed on; NULL when memory ran out. May be called before
 * api_request_handle() returns, or later. */
typedef void api_reply_fn(void *owner, uint64_t cookie, char *text, size_t len);

/* Parses and carries out one request of `len` bytes. */
void api_request_handle(const struct api_context *context, const char *text, size_t len,
	api_reply_fn *reply, void *owner, uint64_t cookie);

/* The reply to a request longer than API_REQUEST_MAX. */
char *api_reply_too_large(size_t *ret_len);
