/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The netns agent: the only process that joins the container's namespaces.
 *
 *   START --join, tap, configure--> HANDED OVER --drop everything--> SERVING --end of file--> gone
 *
 *   START        the caller's privileges; not dumpable before it joins, since the container's root
 *                could trace it otherwise
 *   SERVING      no capability, no descriptor but the socketpair, its own list of system calls
 * It must not outlive the relay: the end of the socketpair ends it, whatever ended the relay.
 */
#pragma once

#include <stdbool.h>

#include "agent/protocol.h"
#include "setup/namespace.h"
#include "setup/netconf.h"
#include "setup/sandbox.h"
#include "setup/tapdev.h"

struct agent_config {
	const struct target *target;
	const char *tap_name;
	bool vnet_hdr;
	uint32_t offloads; /* wanted, as in tapdev_open() */
	bool configure;
	struct netconf netconf;             /* with `configure` */
	bool stay;                          /* serve requests after the tap was handed over */
	const struct sandbox_plan *sandbox; /* with `stay` */
};

struct agent_process {
	int pid;
	int sock; /* the relay's end: non-blocking, close-on-exec; -1: none (any more) */
	bool stays;
};

/* Forks the agent; it works while the caller prepares other things. 0 or a negative errno, which
 * was logged. */
int agent_start(struct agent_process *agent, const struct agent_config *config);

/* Waits until the tap has arrived; an agent that does not stay has ended then. When it failed it
 * has logged why: -ECHILD, and it is gone. */
int agent_wait_tap(struct agent_process *agent, struct tapdev *ret_tap, bool *ret_is_up);

/* Waits until the agent has given up all that it does not need, so that who is told "ready" finds
 * both processes confined; before anything is received from it but the tap. Nothing happens when
 * there is no agent. One that is gone is left to agent_client_ready(); one that does not settle in
 * time (the container's root may have stopped it) settles later, with a warning now. */
void agent_wait_settled(const struct agent_process *agent);

/* Closes the socket, which ends the agent, and reaps it; after agent_client_done(). One that does
 * not end within a second (the container's root may have stopped it) is left to the kernel. Nothing
 * happens when there is no agent. */
void agent_stop(struct agent_process *agent);

/* The agent's main loop once it holds nothing but its socket (for the tests, too): serves requests
 * until end of file. Returns 0 at the end of file, else a negative errno. */
int agent_serve(int sock);
