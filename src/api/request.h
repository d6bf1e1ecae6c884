/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request: its bytes in, the reply's bytes out. Knows JSON (jansson) and the forward rules,
 * no sockets.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api/server.h"

/* Told the reply: `text` is malloc'ed and passed on; NULL when memory ran out. */
typedef void api_reply_fn(void *owner, uint64_t cookie, char *text, size_t len);

/* Where replies go. */
struct api_requester {
	const struct api_context *context;
	api_reply_fn *reply;
	void *owner;
};

/* Once, before the sandbox: jansson reads the seed of its hash tables from /dev/urandom. */
void api_request_init(void);

/* Parses and carries out one request of `len` bytes. The reply comes before this returns, or later
 * when the forward rule's backend takes its time; it comes once, with `cookie`. */
void api_request_handle(
	struct api_requester *requester, uint64_t cookie, const char *text, size_t len);

/* The reply to a request longer than API_REQUEST_MAX. */
void api_request_too_large(const struct api_requester *requester, uint64_t cookie);
