/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the relay gives up before it looks at the first packet, in stages; each function is headed
 * in sandbox.c by *needs / gives up / must still be possible*. The system calls that remain are in
 * one table, sandbox_rules.c, each with its reason.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "setup/features.h"

/* Who asked for a layer decides what its refusal by the host means. */
enum sandbox_wish {
	SANDBOX_NO,
	SANDBOX_TRY,  /* ours: refusal costs one warning line */
	SANDBOX_MUST, /* the caller's: refusal is an error */
};

struct sandbox_plan {
	enum sandbox_wish empty_root; /* with etc and run kept, read-only */
	enum sandbox_wish landlock;
	enum sandbox_wish seccomp;
	enum sandbox_wish capabilities; /* the drop of all of them, and NO_NEW_PRIVS */
	bool slirp4netns_role;          /* keeps CAP_NET_BIND_SERVICE with an empty root */
	bool same_userns; /* the container's root lives in our user namespace: not dumpable */
	int keep_folder;  /* O_PATH, the API socket's: Landlock must allow unlinking there; or -1 */
	const int *more_folders; /* those of other sockets of ours: as keep_folder */
	size_t n_more_folders;
	bool captures; /* to files, which are emptied now and then (--pcap) */
	/* Guests of published ports may be unix sockets, to which the agent connects. */
	bool unix_guests;
	int target_userns; /* joined only if the host forbids new user namespaces; or -1 */
	struct feature_set disabled_features;
};

/* Applies the plan in order: root, capabilities, Landlock, seccomp. Logs what was refused; returns
 * 0 or a negative errno for what is an error. The parent-death signal that the caller set is armed
 * again when a change of credentials cleared it. Single-threaded callers only. */
int sandbox_enter(const struct sandbox_plan *plan);

/* "/etc/resolv.conf": the only name that the agent may open, and only when openat(2) is given this
 * very array: the list of system calls sees addresses, not what lies there. */
extern const char sandbox_resolv_conf[];

/* The agent's: no capability, NO_NEW_PRIVS, its own short list of system calls. */
int sandbox_enter_agent(const struct sandbox_plan *plan);

/* System calls outside the list that were refused with ENOSYS so far; *ret_last is the number of
 * the latest. */
uint64_t sandbox_refused_calls(int *ret_last);

/* The name of a system call of this architecture, "?" when unknown. */
const char *sandbox_syscall_name(int number, char *buf, size_t buf_len);
