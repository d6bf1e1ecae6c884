/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors: closing them, and the process's limits on them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Closes *fd unless it is negative, and makes it -1. errno is kept. */
void fd_close(int *fd);

/* For locals: closed at the end of the scope, unless fd_take() moved it out. */
#define cleanup_fd __attribute__((cleanup(fd_close)))

/* Returns *fd and leaves -1 there. */
static inline int fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Closes every descriptor from 3 on that is not in `keep` (any order, negative ones ignored): with
 * close_range(2) where the kernel has it (5.9) and it may be used, else by /proc/self/fd. */
void fd_close_all_but(const int *keep, size_t n_keep, bool may_close_range);

/* Opens /dev/null on each of 0, 1 and 2 that is closed, so that nothing else gets these numbers. */
int fd_fill_stdio(void);

/* Raises RLIMIT_NOFILE's soft limit to the hard one; the limit then in force is stored. Returns 0
 * or a negative errno (the old limit then stays). */
int fd_raise_limit(uint64_t *ret_limit);

int fd_set_nonblocking(int fd);
int fd_set_cloexec(int fd);
