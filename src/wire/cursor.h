/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a frame front to back. A header is only had by taking it, and taking checks the length,
 * so that a pointer to a header that the frame does not hold cannot come to be. All layouts are
 * made of bytes (types.h): they may lie anywhere.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
	const uint8_t *at;
	size_t left;
};

/* The next `len` bytes, or NULL when there are fewer; then the cursor stays where it is. */
static inline const void *cursor_take(struct cursor *cursor, size_t len)
{
	const uint8_t *taken = cursor->at;

	if (len > cursor->left)
		return NULL;
	cursor->at += len;
	cursor->left -= len;
	return taken;
}

/* The next header of that type, or NULL. */
#define cursor_header(cursor, type) ((const type *)cursor_take(cursor, sizeof(type)))

/* Forgets what lies behind the next `len` bytes (padding); false when there are fewer. */
static inline bool cursor_limit(struct cursor *cursor, size_t len)
{
	if (len > cursor->left)
		return false;
	cursor->left = len;
	return true;
}
