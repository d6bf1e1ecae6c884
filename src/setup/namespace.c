/* SPDX-License-Identifier: Apache-2.0 */
#include "setup/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

/* "/proc/" PID "/ns/user" */
#define PROC_PATH_LEN 32

static const char *proc_path(char *buf, int pid, const char *kind)
{
	snprintf(buf, PROC_PATH_LEN, "/proc/%d/ns/%s", pid, kind);
	return buf;
}

/* `type` is CLONE_NEWNET or CLONE_NEWUSER. O_NONBLOCK: a FIFO does not hold us up. */
static int open_namespace(const char *path, int type, int *ret_fd)
{
	const char *kind = type == CLONE_NEWNET ? "network" : "user";
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return log_errno(
			LOG_LEVEL_ERROR, -errno, "cannot open the %s namespace %s", kind, path);
	if (ioctl(fd, NS_GET_NSTYPE) != type)
		return log_errno(LOG_LEVEL_ERROR, -EINVAL, "%s is no %s namespace", path, kind);
	*ret_fd = fd_take(&fd);
	return 0;
}

/* Without a way to know (a kernel without user namespaces) there is one for all. */
static bool is_own_userns(int userns_fd)
{
	struct stat theirs, ours;

	if (fstat(userns_fd, &theirs) < 0 || stat("/proc/self/ns/user", &ours) < 0)
		return true;
	return theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

/* EPERM of NS_GET_USERNS: the owner is neither ours nor one below it (ioctl_ns(2)). */
static bool is_owned_by_own_userns(int netns_fd)
{
	cleanup_fd int owner = ioctl(netns_fd, NS_GET_USERNS);

	if (owner < 0)
		return errno != EPERM;
	return is_own_userns(owner);
}

static int open_by_pid(struct target *target, const char *userns_path)
{
	char net[PROC_PATH_LEN], user[PROC_PATH_LEN];
	cleanup_fd int own_userns_fd = -1;
	int r;

	r = open_namespace(proc_path(net, target->pid, "net"), CLONE_NEWNET, &target->netns_fd);
	if (r < 0)
		return r;
	r = open_namespace(proc_path(user, target->pid, "user"), CLONE_NEWUSER, &own_userns_fd);
	if (r < 0)
		return r;
	target->same_userns = is_own_userns(own_userns_fd);
	if (userns_path)
		return open_namespace(userns_path, CLONE_NEWUSER, &target->userns_fd);
	target->userns_fd = fd_take(&own_userns_fd);
	return 0;
}

static int open_by_path(struct target *target, const char *userns_path)
{
	int r = open_namespace(target->path, CLONE_NEWNET, &target->netns_fd);

	if (r < 0)
		return r;
	target->same_userns = is_owned_by_own_userns(target->netns_fd);
	return userns_path ? open_namespace(userns_path, CLONE_NEWUSER, &target->userns_fd) : 0;
}

/* The PID of "/proc/PID/...", 0 without one. */
static int pid_of_path(const char *path)
{
	static const char prefix[] = "/proc/";
	char *end;
	long pid;

	if (strncmp(path, prefix, strlen(prefix)) != 0)
		return 0;
	path += strlen(prefix);
	if (*path < '1' || *path > '9')
		return 0;
	pid = strtol(path, &end, 10);
	return *end == '/' && pid <= INT_MAX ? (int)pid : 0;
}

static int open_pidfd(struct target *target, const struct options *options)
{
	int pid = target->pid ? target->pid : pid_of_path(target->path);
	int error = -ENOSYS;

	if (pid == 0)
		return log_errno(LOG_LEVEL_ERROR, -EINVAL,
			"cannot quit with the target %s, which names no process", target->path);
#ifdef SYS_pidfd_open
	if (!feature_in(options->disabled_features, FEATURE_PIDFD)) {
		target->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		error = target->pidfd < 0 ? -errno : 0;
	}
#endif
	if (error)
		return log_errno(LOG_LEVEL_ERROR, error, "cannot watch the process %d", pid);
	return 0;
}

/* A process that ended meanwhile may have left its number, and what we opened by it, to another. */
static int check_alive(const struct target *target)
{
	struct pollfd p = {.fd = target->pidfd, .events = POLLIN};

	if (poll(&p, 1, 0) <= 0)
		return 0;
	return log_errno(LOG_LEVEL_ERROR, -ESRCH, "the target ended while it was looked at");
}

static int open_all(struct target *target, const struct options *options)
{
	int r = 0;

	if (options->quit_with_target)
		r = open_pidfd(target, options);
	if (r < 0)
		return r;
	r = target->path ? open_by_path(target, options->userns_path)
			 : open_by_pid(target, options->userns_path);
	return r < 0 ? r : check_alive(target);
}

int target_open(struct target *target, const struct options *options)
{
	int r;

	*target = (struct target){.netns_fd = -1, .userns_fd = -1, .pidfd = -1};
	if (options->target == TARGET_PID)
		target->pid = options->pid;
	else if (options->target == TARGET_PATH)
		target->path = options->target_path;
	else
		return 0;
	r = open_all(target, options);
	if (r < 0)
		target_done(target);
	return r;
}

void target_done(struct target *target)
{
	fd_close(&target->pidfd);
	fd_close(&target->userns_fd);
	fd_close(&target->netns_fd);
}

/* When the user namespace refused us, too, that is the reason: EINVAL is "in it already". */
static int log_refusal(const struct target *target, int error, int userns_error)
{
	char buf[PROC_PATH_LEN];
	const char *path = target->path ? target->path : proc_path(buf, target->pid, "net");

	if (userns_error == 0 || userns_error == EINVAL)
		return log_errno(
			LOG_LEVEL_ERROR, error, "cannot join the network namespace %s", path);
	return log_errno(LOG_LEVEL_ERROR, error,
		"cannot join the network namespace %s (nor its user namespace: %s)", path,
		strerror(userns_error));
}

int target_join(const struct target *target)
{
	int userns_error = 0;

	if (target->userns_fd >= 0 && setns(target->userns_fd, CLONE_NEWUSER) < 0)
		userns_error = errno;
	if (setns(target->netns_fd, CLONE_NEWNET) < 0)
		return log_refusal(target, -errno, userns_error);
	return 0;
}
