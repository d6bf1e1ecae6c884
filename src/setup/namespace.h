/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target's namespaces, as open files: opened in the caller's mount namespace before anything
 * else is given up, joined later by the agent alone.
 */
#pragma once

#include <stdbool.h>

#include "setup/options.h"

struct target {
	int netns_fd;  /* -1: none (tapfd, bess) */
	int userns_fd; /* -1: the caller's own is the right one */
	int pidfd;     /* with --quit-with-target: readable when the target has ended; else -1 */
	/* The target's user namespace is the one we are in: its root could trace us. */
	bool same_userns;
	int pid;          /* of the command line; 0: a path was given */
	const char *path; /* of the command line, not copied; NULL: a PID was given */
};

/* Opens /proc/PID/ns/{net,user} or the paths of the command line. With quit_with_target the pidfd
 * is opened first and asked again last, so that neither it nor the namespaces can be those of
 * another process that got the number. Logs what failed, returns a negative errno. */
int target_open(struct target *target, const struct options *options);
void target_done(struct target *target);

/* Joins the user namespace (a refusal is no error: we may be in it already) and then the network
 * namespace, whose refusal is logged and returned. Single-threaded callers only (setns(2)). */
int target_join(const struct target *target);
