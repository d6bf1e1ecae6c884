/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox's layers, one file each, for sandbox.c alone: it decides in which order they come and
 * what a refusal means, they do the work. A layer that fails returns a negative errno and names the
 * step in *ret_step ("make a mount namespace"), so that sandbox.c logs one line.
 */
#pragma once

#include <stdbool.h>

#include "setup/sandbox.h"

/* What a process may do and became on the way; filled in by the layers from top to bottom. */
struct sandbox_state {
	bool has_admin; /* CAP_SYS_ADMIN at entry: needs no user namespace for its mounts */
	/* CAP_NET_BIND_SERVICE at entry, over the network namespace that the host sockets are in:
	 * a user namespace of our own would lose it, so none is made. */
	bool holds_port_cap;
	bool root_is_empty;
	bool joined_target; /* is in the target's user namespace: must not be dumpable */
};

/* Fills in has_admin and holds_port_cap. */
void sandbox_caps_look(struct sandbox_state *state);

/* Empties all sets, the bounding set where allowed, and sets NO_NEW_PRIVS. With `keep_port_cap`
 * CAP_NET_BIND_SERVICE stays effective, permitted and inheritable, if it is permitted. */
int sandbox_caps_drop(bool keep_port_cap, const char **ret_step);

/* Moves to a root that holds etc and run, read-only, and nothing else. Sets root_is_empty and
 * joined_target. plan->keep_folder, and more_folders, keep their numbers and their folders, but
 * from then on cannot be left by "..". After a failure the old root is still there, in a mount
 * namespace of our own. */
int sandbox_root_enter(
	const struct sandbox_plan *plan, struct sandbox_state *state, const char **ret_step);

/* What resolv.conf really is, when that lies outside /etc and /run; else an empty string. `buf` has
 * PATH_MAX bytes. */
void sandbox_find_resolv_conf(char *buf);

/* File access by path: reading below /etc and /run and in the folder of resolv.conf's target;
 * removing files in plan->keep_folder and more_folders. Sets NO_NEW_PRIVS, which it needs. */
int sandbox_landlock_enter(const struct sandbox_plan *plan, const char **ret_step);

/* Loads the list of sandbox_rules.c for one process (RULE_RELAY or RULE_AGENT), and the handler
 * that counts what it refuses. */
int sandbox_seccomp_enter(unsigned int process, const char **ret_step);
