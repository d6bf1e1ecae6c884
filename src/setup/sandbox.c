/* SPDX-License-Identifier: Apache-2.0 */
#include "setup/sandbox.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "setup/sandbox_layers.h"
#include "setup/sandbox_rules.h"

/* One line for a layer that cannot be had; what it means depends on who asked for it. */
static int refused(enum sandbox_wish wish, int error, const char *layer, const char *step)
{
	if (wish == SANDBOX_MUST)
		return log_errno(LOG_LEVEL_ERROR, error, "%s: cannot %s", layer, step);
	log_errno(LOG_LEVEL_WARNING, error, "running without %s: cannot %s", layer, step);
	return 0;
}

/* The kernel clears the parent-death signal when the effective ids change or capabilities are
 * gained, and the parent may die while it is cleared. */
struct parent_tie {
	int signal;
	pid_t parent;
};

static void parent_tie_read(struct parent_tie *tie)
{
	*tie = (struct parent_tie){.parent = getppid()};
	prctl(PR_GET_PDEATHSIG, &tie->signal);
}

static void parent_tie_renew(const struct parent_tie *tie)
{
	int now = 0;

	prctl(PR_GET_PDEATHSIG, &now);
	if (now == tie->signal)
		return;
	prctl(PR_SET_PDEATHSIG, tie->signal);
	if (getppid() != tie->parent)
		raise(tie->signal);
}

/*
 * Needs: nothing (a user namespace of its own), or CAP_SYS_ADMIN; /proc mounted.
 * Gives up: every path of the host outside /etc and /run, and writing there.
 * Must still be possible: reading /etc/resolv.conf by name, whatever happens to it; unlinking the
 * API socket; everything with descriptors that are open.
 */
static int enter_root(
	const struct sandbox_plan *plan, struct sandbox_state *state, bool *ret_landlock_instead)
{
	const char *step = "use what --disable-feature names";
	int r = -EOPNOTSUPP;

	*ret_landlock_instead = false;
	if (plan->empty_root == SANDBOX_NO)
		return 0;
	if (state->holds_port_cap && !state->has_admin) {
		log_warning("no empty root, Landlock takes its place: a user namespace would cost "
			    "CAP_NET_BIND_SERVICE");
		*ret_landlock_instead = true;
		return 0;
	}
	if (!feature_in(plan->disabled_features, FEATURE_EMPTY_ROOT))
		r = sandbox_root_enter(plan, state, &step);
	return r ? refused(plan->empty_root, r, "an empty root", step) : 0;
}

/*
 * Needs: nothing; CAP_SETPCAP for the bounding set.
 * Gives up: all capabilities, and every way to get some by execve(2).
 * Must still be possible: binding ports below 1024, if that was allowed at start; and callers of
 * slirp4netns look for that capability, which is worth nothing outside our own user namespace.
 */
static int drop_capabilities(const struct sandbox_plan *plan, const struct sandbox_state *state)
{
	bool keep_port_cap =
		state->holds_port_cap || (plan->slirp4netns_role && state->root_is_empty);
	const char *step = NULL;
	int r;

	if (plan->capabilities == SANDBOX_NO)
		return 0;
	r = sandbox_caps_drop(keep_port_cap, &step);
	return r ? refused(plan->capabilities, r, "dropping capabilities", step) : 0;
}

/*
 * Needs: nothing.
 * Gives up: core dumps; being traced, and /proc/PID/{root,fd,...} being looked into, by the root of
 * a user namespace that this process is in.
 * Must still be possible: a process that is in no namespace of the container's stays readable for
 * its user, whose tests look at /proc/PID/root.
 */
static void hide_from_container(const struct sandbox_plan *plan, const struct sandbox_state *state)
{
	if (plan->same_userns || state->joined_target)
		prctl(PR_SET_DUMPABLE, 0);
}

/*
 * Needs: Linux 5.13 with Landlock switched on.
 * Gives up: what enter_root() does, once more, by another mechanism, also where that was refused.
 * Must still be possible: as in enter_root().
 */
static int enter_landlock(const struct sandbox_plan *plan, enum sandbox_wish wish)
{
	const char *step = "use what --disable-feature names";
	int r = -EOPNOTSUPP;

	if (wish == SANDBOX_NO)
		return 0;
	if (!feature_in(plan->disabled_features, FEATURE_LANDLOCK))
		r = sandbox_landlock_enter(plan, &step);
	return r ? refused(wish, r, "Landlock", step) : 0;
}

/*
 * Needs: nothing (NO_NEW_PRIVS is set on the way).
 * Gives up: every system call that sandbox_rules.c does not name.
 * Must still be possible: what it names.
 */
static int enter_seccomp(const struct sandbox_plan *plan, unsigned int processes)
{
	const char *step = "use what --disable-feature names";
	int r = -EOPNOTSUPP;

	if (plan->seccomp == SANDBOX_NO)
		return 0;
	if (!feature_in(plan->disabled_features, FEATURE_SECCOMP))
		r = sandbox_seccomp_enter(processes, &step);
	return r ? refused(plan->seccomp, r, "seccomp", step) : 0;
}

int sandbox_enter(const struct sandbox_plan *plan)
{
	struct sandbox_state state = {0};
	bool landlock_instead;
	struct parent_tie tie;
	int r;

	parent_tie_read(&tie);
	sandbox_caps_look(&state);
	r = enter_root(plan, &state, &landlock_instead);
	if (!r)
		r = drop_capabilities(plan, &state);
	if (r)
		return r;
	hide_from_container(plan, &state);
	parent_tie_renew(&tie);
	r = enter_landlock(
		plan, landlock_instead ? MAX(plan->landlock, plan->empty_root) : plan->landlock);
	return r ? r : enter_seccomp(plan, plan->captures ? RULE_RELAY | RULE_CAPTURE : RULE_RELAY);
}

int sandbox_enter_agent(const struct sandbox_plan *plan)
{
	const struct sandbox_state nothing_kept = {0};
	int r = drop_capabilities(plan, &nothing_kept);

	return r ? r : enter_seccomp(plan, plan->unix_guests ? RULE_AGENT | RULE_UNIX : RULE_AGENT);
}
