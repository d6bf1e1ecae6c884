/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the end of the first JSON value (RFC 8259) in a stream of bytes by counting brackets and
 * quotes, each byte once, so that a client that sends byte by byte costs O(n). It does not check
 * the value: the parser does.
 *
 *   BEFORE --opening bracket--> NESTED --depth 0--------> DONE
 *   BEFORE --quote------------> STRING --closing quote--> DONE
 *   BEFORE --anything else----> SCALAR --white space----> DONE
 *
 * A value that is nested too deep ends there, too: the parser refuses it, and nobody waits for the
 * rest. White space and the bytes of a byte order mark leave it in BEFORE. Where a SCALAR ends
 * without white space behind it only the end of the stream, or a clock, can tell.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* jansson's limit. */
#define JSON_DEPTH_MAX 2048

/* All zero when new. */
struct json_scanner {
	enum { SCAN_BEFORE, SCAN_NESTED, SCAN_SCALAR, SCAN_STRING, SCAN_DONE } state;
	uint32_t depth;
	bool in_string;
	bool escaped;
};

/* Looks at `len` further bytes. Returns how many of them belong to the value (or to what stands
 * before it) once it is complete, -1 as long as it is not. Once it was complete, 0. */
ptrdiff_t json_scanner_feed(struct json_scanner *scanner, const char *bytes, size_t len);
