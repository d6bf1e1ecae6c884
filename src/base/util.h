/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handful of macros that every file needs.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* GLib, where it is included, has the same. */
#ifndef MIN
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#endif

/* The structure of which `ptr` points to the member named `member`. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* In front of a large local of the data path of which only what was written is read: the build
 * clears all others (-ftrivial-auto-var-init), kilobytes at each call. */
#if __has_attribute(uninitialized)
#define UNCLEARED __attribute__((uninitialized))
#else
#define UNCLEARED
#endif

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

#define NS_PER_MS              INT64_C(1000000)
#define NS_PER_SEC             INT64_C(1000000000)

static inline size_t iov_len(const struct iovec *iov, int n_iov)
{
	size_t len = 0;

	for (int i = 0; i < n_iov; i++)
		len += iov[i].iov_len;
	return len;
}
