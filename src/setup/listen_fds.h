/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets that whoever started us has opened: the protocol of sd_listen_fds(3), which is three
 * variables of the environment and descriptors from 3 on. They are taken before anything is opened,
 * and closed when the rules that name them have copies of their own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define LISTEN_FDS_FIRST 3
#define LISTEN_FDS_MAX   1024

struct listen_fds {
	int n;       /* from LISTEN_FDS_FIRST on; 0: none */
	char *names; /* as many, with colons between; NULL: they have none */
};

/* Finds nothing when LISTEN_PID is not ours. The variables are gone from the environment
 * afterwards, so that nobody whom we start takes them for his. 0, or a negative errno, which is
 * logged: what was passed does not add up, or is no socket; it is left open then. */
int listen_fds_take(struct listen_fds *ret);
/* Closes them. */
void listen_fds_done(struct listen_fds *fds);

bool listen_fds_has(const struct listen_fds *fds, int fd);
/* The descriptor of this number or name (a forward_fd_fn; `arg` is a struct listen_fds): -EBADF:
 * that number was not passed; -ENOENT: nor was one of that name; -ENOTUNIQ: several have it. */
int listen_fds_find(void *arg, const char *name);
