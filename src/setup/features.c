/* SPDX-License-Identifier: Apache-2.0 */
#include "setup/features.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"
#include "setup/build_info.h"
#include "setup/netconf.h"
#include "setup/tapdev.h"

/* Numbers that the headers of the oldest supported systems lack; calls as new as these have the
 * same number everywhere. */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#endif
#define LANDLOCK_VERSION_QUERY 1U
/* Linux 4.18 and 5.0. */
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define SCRATCH_FOLDER "/tmp" /* any folder: the probe's own mount hides it */

static const struct {
	const char *name;
	const char *text;
} feature_table[] = {
#define X(id, name, text) [FEATURE_##id] = {name, text},
	FEATURES(X)
#undef X
};

_Static_assert(N_FEATURES <= 32, "feature_set has 32 bits");

/* Where a probe writes its reason. */
struct reason {
	char *buf;
	size_t len;
};

const char *feature_name(enum feature which)
{
	return feature_table[which].name;
}

static bool feature_find(const char *name, size_t len, enum feature *ret_which)
{
	for (size_t i = 0; i < N_FEATURES; i++) {
		const char *candidate = feature_table[i].name;

		if (strlen(candidate) == len && memcmp(candidate, name, len) == 0) {
			*ret_which = (enum feature)i;
			return true;
		}
	}
	return false;
}

int features_parse(
	const char *list, struct feature_set *set, const char **ret_bad, size_t *ret_bad_len)
{
	struct feature_set found = *set;

	for (;;) {
		size_t len = strcspn(list, ",");
		enum feature which;

		if (!feature_find(list, len, &which)) {
			*ret_bad = list;
			*ret_bad_len = len;
			return -EINVAL;
		}
		feature_add(&found, which);
		if (list[len] == '\0')
			break;
		list += len + 1;
	}
	*set = found;
	return 0;
}

/* The outcome of "`what` was tried": `error` is 0 or a negative errno. */
static bool tried(struct reason *why, const char *what, int error)
{
	if (error)
		snprintf(why->buf, why->len, "%s: %s", what, strerror(-error));
	else
		snprintf(why->buf, why->len, "%s works", what);
	return error == 0;
}

static int errno_of(long result)
{
	return result < 0 ? -errno : 0;
}

static bool probe_close_range(struct reason *why)
{
	/* No descriptor has this number. */
	return tried(
		why, "close_range(2)", errno_of(syscall(SYS_close_range, UINT_MAX, UINT_MAX, 0)));
}

static bool probe_pidfd(struct reason *why)
{
	cleanup_fd int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	return tried(why, "pidfd_open(2)", errno_of(fd));
}

static bool probe_vnet_hdr(struct reason *why)
{
	cleanup_fd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	unsigned int flags = 0;

	if (fd < 0)
		return tried(why, "opening /dev/net/tun", -errno);
	if (ioctl(fd, TUNGETFEATURES, &flags) < 0)
		return tried(why, "TUNGETFEATURES", -errno);
	return tried(why, "IFF_VNET_HDR", flags & IFF_VNET_HDR ? 0 : -EOPNOTSUPP);
}

static int write_file(const char *path, const char *text)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return errno_of(write(fd, text, strlen(text)));
}

/* Some hosts allow the namespace and then refuse every use of it (AppArmor), so its use is tried:
 * the maps without which no file can be made in it. */
static int enter_user_namespace(int extra_flags)
{
	unsigned int uid = geteuid(), gid = getegid();
	char map[32];
	int error;

	if (unshare(CLONE_NEWUSER | extra_flags) < 0)
		return -errno;
	snprintf(map, sizeof(map), "0 %u 1", uid);
	error = write_file("/proc/self/uid_map", map);
	if (error)
		return error;
	error = write_file("/proc/self/setgroups", "deny");
	if (error)
		return error;
	snprintf(map, sizeof(map), "0 %u 1", gid);
	return write_file("/proc/self/gid_map", map);
}

/* Privileged callers need no user namespace for it. */
static int enter_namespace(int flag)
{
	return unshare(flag) < 0 ? enter_user_namespace(flag) : 0;
}

static int try_user_namespace(unsigned long unused)
{
	return enter_user_namespace(0);
}

/* The tap, and the namespace that it is in, end with the child. */
static int try_offloads(unsigned long offloads)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int error = enter_namespace(CLONE_NEWNET);
	cleanup_fd int fd = -1;

	if (error)
		return error;
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETOFFLOAD, offloads) < 0)
		return -errno;
	return 0;
}

static int try_empty_root(unsigned long unused)
{
	int error = enter_namespace(CLONE_NEWNS);

	if (error)
		return error;
	if (mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0 ||
		mount("tmpfs", SCRATCH_FOLDER, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
			"size=64k") < 0 ||
		chdir(SCRATCH_FOLDER) < 0 || mkdir("old", 0700) < 0 ||
		syscall(SYS_pivot_root, ".", "old") < 0)
		return -errno;
	return 0;
}

/* Runs `attempt(arg)` in a child and returns its result, -EPERM for a child that was killed. The
 * answer comes through a pipe, because the caller of this program may have SIGCHLD ignored. */
static int try_in_child(int (*attempt)(unsigned long arg), unsigned long arg)
{
	int ends[2], result = -EPERM;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child == 0) {
		result = attempt(arg);
		_exit(write(ends[1], &result, sizeof(result)) != sizeof(result));
	}
	if (child < 0)
		result = -errno;
	fd_close(&ends[1]);
	if (child > 0) {
		if (read(ends[0], &result, sizeof(result)) != sizeof(result))
			result = -EPERM;
		waitpid(child, NULL, 0);
	}
	fd_close(&ends[0]);
	return result;
}

static bool probe_user_namespace(struct reason *why)
{
	return tried(why, "unshare(2) of a user namespace", try_in_child(try_user_namespace, 0));
}

static bool probe_empty_root(struct reason *why)
{
	return tried(why, "pivot_root(2) in a mount namespace", try_in_child(try_empty_root, 0));
}

static bool probe_offloads(struct reason *why, unsigned long offloads)
{
	return tried(
		why, "TUNSETOFFLOAD on a tap of its own", try_in_child(try_offloads, offloads));
}

static bool probe_csum(struct reason *why)
{
	return probe_offloads(why, TUN_F_CSUM);
}

static bool probe_tso4(struct reason *why)
{
	return probe_offloads(why, TUN_F_CSUM | TUN_F_TSO4);
}

static bool probe_tso6(struct reason *why)
{
	return probe_offloads(why, TUN_F_CSUM | TUN_F_TSO6);
}

static bool probe_tso_ecn(struct reason *why)
{
	return probe_offloads(why, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN);
}

static bool probe_uso(struct reason *why)
{
	return probe_offloads(why, TUN_F_CSUM | TAPDEV_USO);
}

static bool probe_big_tcp(struct reason *why)
{
	return tried(why, "IFLA_GSO_IPV4_MAX_SIZE of lo", netconf_has_big_tcp() ? 0 : -EOPNOTSUPP);
}

static bool probe_landlock(struct reason *why)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION_QUERY);

	if (version < 0)
		return tried(why, "landlock_create_ruleset(2)", -errno);
	snprintf(why->buf, why->len, "version %ld of its interface", version);
	return true;
}

static bool probe_seccomp(struct reason *why)
{
	uint32_t action = SECCOMP_RET_TRAP;

	return tried(why, "seccomp(2) with SECCOMP_RET_TRAP",
		errno_of(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action)));
}

static bool probe_agent(struct reason *why)
{
	snprintf(why->buf, why->len, "part of this build");
	return true;
}

static bool probe_ipv6(struct reason *why)
{
	cleanup_fd int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return tried(why, "an IPv6 socket", errno_of(fd));
}

static bool probe_ping_socket(struct reason *why)
{
	cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP);

	return tried(why, "an unprivileged ping socket", errno_of(fd));
}

static bool probe_udp_option(struct reason *why, int option, int value, const char *what)
{
	cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return tried(why, "a UDP socket", -errno);
	return tried(
		why, what, errno_of(setsockopt(fd, IPPROTO_UDP, option, &value, sizeof(value))));
}

static bool probe_udp_gro(struct reason *why)
{
	return probe_udp_option(why, UDP_GRO, 1, "UDP_GRO");
}

static bool probe_udp_segment(struct reason *why)
{
	return probe_udp_option(why, UDP_SEGMENT, 1200, "UDP_SEGMENT");
}

static bool (*const probes[])(struct reason *why) = {
	[FEATURE_CLOSE_RANGE] = probe_close_range,
	[FEATURE_PIDFD] = probe_pidfd,
	[FEATURE_VNET_HDR] = probe_vnet_hdr,
	[FEATURE_CSUM] = probe_csum,
	[FEATURE_TSO4] = probe_tso4,
	[FEATURE_TSO6] = probe_tso6,
	[FEATURE_TSO_ECN] = probe_tso_ecn,
	[FEATURE_BIG_TCP] = probe_big_tcp,
	[FEATURE_USO] = probe_uso,
	[FEATURE_USER_NAMESPACE] = probe_user_namespace,
	[FEATURE_EMPTY_ROOT] = probe_empty_root,
	[FEATURE_LANDLOCK] = probe_landlock,
	[FEATURE_SECCOMP] = probe_seccomp,
	[FEATURE_AGENT] = probe_agent,
	[FEATURE_IPV6] = probe_ipv6,
	[FEATURE_PING_SOCKET] = probe_ping_socket,
	[FEATURE_UDP_GRO] = probe_udp_gro,
	[FEATURE_UDP_SEGMENT] = probe_udp_segment,
};

_Static_assert(ARRAY_SIZE(probes) == N_FEATURES, "every feature has a probe");

bool feature_probe(enum feature which, char *buf, size_t buf_len, const char **ret_why)
{
	*ret_why = buf;
	return probes[which](&(struct reason){buf, buf_len});
}

void features_print(FILE *out, struct feature_set disabled)
{
	for (size_t i = 0; i < N_FEATURES; i++) {
		const char *why = "disabled on the command line";
		char buf[128];
		bool yes = !feature_in(disabled, (enum feature)i) &&
			feature_probe((enum feature)i, buf, sizeof(buf), &why);

		if (yes)
			fprintf(out, "%s: yes (%s)\n", feature_table[i].name, why);
		else
			fprintf(out, "%s: no (%s; %s)\n", feature_table[i].name, why,
				feature_table[i].text);
	}
	build_info_print_features(out);
}
