/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock (landlock(7)): the interface's constants are written out, since the oldest headers know
 * none of them and newer ones not all.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"
#include "setup/sandbox_layers.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif

#define CREATE_RULESET_VERSION 1
#define RULE_PATH_BENEATH      1

#define ACCESS_READ_FILE       (UINT64_C(1) << 2)
#define ACCESS_READ_DIR        (UINT64_C(1) << 3)
#define ACCESS_REMOVE_FILE     (UINT64_C(1) << 5)

/* Everything that each version of the interface can forbid about files. Version 4 is about TCP
 * ports, of which any may be asked for. */
static const uint64_t handled_by_version[] = {
	[1] = (UINT64_C(1) << 13) - 1, /* execute ... make_sym */
	[2] = (UINT64_C(1) << 14) - 1, /* refer */
	[3] = (UINT64_C(1) << 15) - 1, /* truncate */
	[4] = (UINT64_C(1) << 15) - 1,
	[5] = (UINT64_C(1) << 16) - 1, /* ioctl on devices that are opened from now on */
};

/* Version 6: no connecting to abstract sockets outside. Signals are left to the list of system
 * calls: to scope them, too, would keep the kernel from delivering the agent's parent-death signal.
 */
#define SCOPE_VERSION   6
#define SCOPED_ABSTRACT 1

struct ruleset_attr {
	uint64_t handled_access_fs;
	uint64_t handled_access_net;
	uint64_t scoped;
};

struct path_beneath_attr {
	uint64_t allowed_access;
	int32_t parent_fd;
} __attribute__((packed));

static int make_ruleset(long version)
{
	size_t last = ARRAY_SIZE(handled_by_version) - 1;
	struct ruleset_attr attr = {
		.handled_access_fs = handled_by_version[MIN((size_t)version, last)],
		.scoped = version >= SCOPE_VERSION ? SCOPED_ABSTRACT : 0,
	};
	/* Older kernels know only the first member. */
	size_t size = version >= SCOPE_VERSION ? sizeof(attr) : sizeof(attr.handled_access_fs);
	int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);

	return fd < 0 ? -errno : fd;
}

static int allow(int ruleset, int folder, uint64_t access)
{
	struct path_beneath_attr attr = {.allowed_access = access, .parent_fd = folder};

	return syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &attr, 0) < 0 ? -errno
											: 0;
}

/* A folder that does not exist needs no exception. */
static int allow_reading(int ruleset, const char *path, uint64_t access)
{
	cleanup_fd int fd = open(path, O_PATH | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	return allow(ruleset, fd, access);
}

/* The folder, so that a file moved there in its place is readable, too; never the whole root. */
static int allow_resolv_conf(int ruleset)
{
	char path[PATH_MAX], *slash;

	sandbox_find_resolv_conf(path);
	slash = strrchr(path, '/');
	if (slash && slash != path)
		*slash = '\0';
	return slash ? allow_reading(ruleset, path, ACCESS_READ_FILE) : 0;
}

static int allow_all(int ruleset, const struct sandbox_plan *plan)
{
	int r;

	r = allow_reading(ruleset, "/etc", ACCESS_READ_FILE | ACCESS_READ_DIR);
	if (!r)
		r = allow_reading(ruleset, "/run", ACCESS_READ_FILE | ACCESS_READ_DIR);
	if (!r)
		r = allow_resolv_conf(ruleset);
	if (!r && plan->keep_folder >= 0)
		r = allow(ruleset, plan->keep_folder, ACCESS_REMOVE_FILE);
	for (size_t i = 0; !r && i < plan->n_more_folders; i++)
		r = allow(ruleset, plan->more_folders[i], ACCESS_REMOVE_FILE);
	return r;
}

int sandbox_landlock_enter(const struct sandbox_plan *plan, const char **ret_step)
{
	cleanup_fd int ruleset = -1;
	long version;
	int r;

	*ret_step = "use it on this kernel";
	version = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
	if (version < 1)
		return version < 0 ? -errno : -EOPNOTSUPP;
	*ret_step = "make a rule set";
	ruleset = make_ruleset(version);
	if (ruleset < 0)
		return ruleset;
	*ret_step = "except the folders that are needed";
	r = allow_all(ruleset, plan);
	if (r < 0)
		return r;
	*ret_step = "restrict this process";
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		return -errno;
	return 0;
}
