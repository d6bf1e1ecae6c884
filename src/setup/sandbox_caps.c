/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include "base/fd.h"
#include "setup/sandbox_layers.h"

static void free_cap(cap_t *cap)
{
	if (*cap)
		cap_free(*cap);
}

static bool has_cap(cap_t caps, cap_value_t which, cap_flag_t set)
{
	cap_flag_value_t value;

	return caps && cap_get_flag(caps, which, set, &value) == 0 && value == CAP_SET;
}

/* NS_GET_USERNS (Linux 4.9) shows the owner only to processes of the owner or of one of its
 * ancestors: exactly those whose capabilities count in that network namespace. */
static bool owns_network_namespace(void)
{
	cleanup_fd int netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	cleanup_fd int owner = netns < 0 ? -1 : ioctl(netns, NS_GET_USERNS);

	return owner >= 0;
}

void sandbox_caps_look(struct sandbox_state *state)
{
	__attribute__((cleanup(free_cap))) cap_t caps = cap_get_proc();

	state->has_admin = has_cap(caps, CAP_SYS_ADMIN, CAP_EFFECTIVE);
	state->holds_port_cap =
		has_cap(caps, CAP_NET_BIND_SERVICE, CAP_PERMITTED) && owns_network_namespace();
}

/* Without CAP_SETPCAP the kernel forbids it; NO_NEW_PRIVS then makes it meaningless. */
static int empty_bounding_set(bool keep_port_cap)
{
	for (cap_value_t which = 0; cap_get_bound(which) >= 0; which++) {
		if (keep_port_cap && which == CAP_NET_BIND_SERVICE)
			continue;
		if (cap_get_bound(which) == 1 && cap_drop_bound(which) < 0)
			return -errno;
	}
	return 0;
}

/* The port capability in `ret`, in the sets that may have it; everything else is clear. */
static int fill_remaining(cap_t ret, cap_t old, bool keep_port_cap)
{
	static const cap_value_t port_cap[] = {CAP_NET_BIND_SERVICE};

	if (!keep_port_cap || !has_cap(old, CAP_NET_BIND_SERVICE, CAP_PERMITTED))
		return 0;
	if (cap_set_flag(ret, CAP_PERMITTED, 1, port_cap, CAP_SET) < 0 ||
		cap_set_flag(ret, CAP_EFFECTIVE, 1, port_cap, CAP_SET) < 0)
		return -errno;
	/* Beyond the bounding set nothing becomes inheritable (capabilities(7)). */
	if (cap_get_bound(CAP_NET_BIND_SERVICE) == 1 &&
		cap_set_flag(ret, CAP_INHERITABLE, 1, port_cap, CAP_SET) < 0)
		return -errno;
	return 0;
}

int sandbox_caps_drop(bool keep_port_cap, const char **ret_step)
{
	__attribute__((cleanup(free_cap))) cap_t old = cap_get_proc();
	__attribute__((cleanup(free_cap))) cap_t remaining = cap_init();
	int r;

	*ret_step = "set no_new_privs";
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	*ret_step = "read the capabilities";
	if (!old || !remaining)
		return -errno;
	*ret_step = "empty the bounding set";
	if (has_cap(old, CAP_SETPCAP, CAP_EFFECTIVE)) {
		r = empty_bounding_set(keep_port_cap);
		if (r < 0)
			return r;
	}
	/* Ambient capabilities: since 4.3; EINVAL before. */
	*ret_step = "clear the ambient set";
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return -errno;
	*ret_step = "empty the capability sets";
	r = fill_remaining(remaining, old, keep_port_cap);
	if (r < 0)
		return r;
	return cap_set_proc(remaining) < 0 ? -errno : 0;
}
