/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The empty root: a read-only tmpfs with etc and run, which are bound from the host as slaves, so
 * that what the host mounts and unmounts there is seen here and nothing travels back.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"
#include "setup/sandbox_layers.h"

/* Newer than the oldest headers; the numbers are those of all architectures (Alpha excepted). */
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#define TREE_CLONE        1
#define TREE_RECURSIVE    0x8000 /* AT_RECURSIVE */
#define LOCKED_ATTRIBUTES 0xf    /* MOUNT_ATTR_RDONLY, _NOSUID, _NODEV, _NOEXEC */
#define LOCKED_FLAGS      (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)

/* The new root is built here; the folder must exist on every machine. */
#define STAGE "/tmp"
/* The old root's place during pivot_root(2). A name that no path in the new root begins with. */
#define OLD_ROOT ".old"

struct root_builder {
	const char *step;
	char resolv_conf[PATH_MAX]; /* what it is when outside etc and run; else empty */
	int resolv_conf_fd;
};

/* Notes what was tried; turns a system call's result into 0 or a negative errno. */
static int did(struct root_builder *builder, const char *step, int result)
{
	builder->step = step;
	return result < 0 ? -errno : 0;
}

static bool is_below(const char *path, const char *folder)
{
	size_t len = strlen(folder);

	return strncmp(path, folder, len) == 0 && path[len] == '/';
}

void sandbox_find_resolv_conf(char *buf)
{
	if (!realpath("/etc/resolv.conf", buf) || is_below(buf, "/etc") || is_below(buf, "/run"))
		buf[0] = '\0';
}

static int write_file(const char *path, const char *text)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	return n < 0 ? -1 : 0;
}

/* Both maps are needed: a file system refuses (EOVERFLOW) to create what belongs to nobody. The
 * ids stay what they were. */
static int map_ids(struct root_builder *builder, uid_t uid, gid_t gid)
{
	char map[64];
	int r;

	/* ENOENT before Linux 3.19, where the group map needs no such promise. */
	r = did(builder, "give up setgroups", write_file("/proc/self/setgroups", "deny"));
	if (r < 0 && r != -ENOENT)
		return r;
	snprintf(map, sizeof(map), "%u %u 1\n", (unsigned int)uid, (unsigned int)uid);
	r = did(builder, "map the user id", write_file("/proc/self/uid_map", map));
	if (r < 0)
		return r;
	snprintf(map, sizeof(map), "%u %u 1\n", (unsigned int)gid, (unsigned int)gid);
	return did(builder, "map the group id", write_file("/proc/self/gid_map", map));
}

/* The container's root could trace us there, hence not dumpable from before the first moment. */
static int join_target(
	struct root_builder *builder, const struct sandbox_plan *plan, struct sandbox_state *state)
{
	int r;

	prctl(PR_SET_DUMPABLE, 0);
	r = did(builder, "join the target's user namespace",
		setns(plan->target_userns, CLONE_NEWUSER));
	if (r < 0)
		return r;
	state->joined_target = true;
	/* An id that has no name there could not own the new root's folders. */
	if (geteuid() != 0) {
		r = did(builder, "become root of the target's user namespace",
			setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 ? -1 : 0);
		if (r < 0)
			return r;
	}
	return did(builder, "make a mount namespace", unshare(CLONE_NEWNS));
}

static int enter_namespaces(
	struct root_builder *builder, const struct sandbox_plan *plan, struct sandbox_state *state)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int r = -EPERM;

	if (state->has_admin)
		return did(builder, "make a mount namespace", unshare(CLONE_NEWNS));
	builder->step = "make a user namespace";
	if (!feature_in(plan->disabled_features, FEATURE_USER_NAMESPACE))
		r = did(builder, builder->step, unshare(CLONE_NEWUSER | CLONE_NEWNS));
	if (r == 0)
		return map_ids(builder, uid, gid);
	return plan->target_userns < 0 ? r : join_target(builder, plan, state);
}

/*
 * An O_PATH descriptor of a folder outside the new root is a way out of it: ".." leads to the
 * host's. A detached copy of the mount, with that folder as its root, has no "..". Best effort
 * (open_tree(2) is Linux 5.2): the filter of system calls allows only unlinkat(2) there.
 */
static void confine_folder(int folder)
{
	char link[32], path[PATH_MAX];
	cleanup_fd int tree = -1;
	struct stat was, is;
	ssize_t len;

	if (folder < 0)
		return;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", folder);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return;
	path[len] = '\0';
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, path,
		TREE_CLONE | TREE_RECURSIVE | (unsigned int)O_CLOEXEC);
	if (tree < 0 || fstat(folder, &was) < 0 || fstat(tree, &is) < 0)
		return;
	if (was.st_dev == is.st_dev && was.st_ino == is.st_ino)
		dup3(tree, folder, O_CLOEXEC);
}

/* Read-only and so on, with all mounts below where the kernel can (5.12), else the top one. Flags
 * that the host locked stay, since all of them are set and the times of access not touched. */
static int lock_mount(const char *path)
{
	const uint64_t attributes[4] = {LOCKED_ATTRIBUTES};

	if (syscall(SYS_mount_setattr, AT_FDCWD, path, TREE_RECURSIVE, attributes,
		    sizeof(attributes)) == 0)
		return 0;
	return mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | LOCKED_FLAGS, NULL);
}

static int keep_folder(struct root_builder *builder, const char *host, const char *name)
{
	int r;

	r = did(builder, "make a folder in the new root", mkdir(name, 0755));
	if (r < 0)
		return r;
	r = did(builder, "bind /etc and /run", mount(host, name, NULL, MS_BIND | MS_REC, NULL));
	return r;
}

/* Users' own folders, full of sockets and keys: resolv.conf does not lie there. Best effort. */
static void cover_user_folders(const struct root_builder *builder)
{
	char real[PATH_MAX];
	struct stat st;

	if (lstat("run/user", &st) < 0 || !S_ISDIR(st.st_mode) ||
		(realpath("/etc/resolv.conf", real) && is_below(real, "/run/user")))
		return;
	mount("tmpfs", "run/user", "tmpfs", LOCKED_FLAGS, "size=4k,nr_inodes=2,mode=0");
}

static int make_parents(const char *path)
{
	char part[PATH_MAX + 1];

	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(part, sizeof(part), ".%.*s", (int)(slash - path), path);
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -1;
	}
	return 0;
}

/* The file that /etc/resolv.conf leads to, at its own path, by the descriptor that was opened
 * before the stage covered it. */
static int keep_resolv_conf(struct root_builder *builder)
{
	char link[32], path[PATH_MAX + 1];
	int fd, r;

	if (builder->resolv_conf_fd < 0)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", builder->resolv_conf_fd);
	snprintf(path, sizeof(path), ".%s", builder->resolv_conf);
	r = did(builder, "make a place for resolv.conf", make_parents(builder->resolv_conf));
	if (r < 0)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
	r = did(builder, "make a place for resolv.conf", fd);
	fd_close(&fd);
	if (r < 0)
		return r;
	r = did(builder, "bind resolv.conf's file", mount(link, path, NULL, MS_BIND, NULL));
	return r < 0 ? r : did(builder, "make resolv.conf read-only", lock_mount(path));
}

/* In the stage: etc, run and what they need. */
static int furnish(struct root_builder *builder)
{
	int r;

	r = keep_folder(builder, "/etc", "etc");
	if (!r)
		r = keep_folder(builder, "/run", "run");
	if (r < 0)
		return r;
	cover_user_folders(builder);
	r = did(builder, "make /etc read-only", lock_mount("etc"));
	if (!r)
		r = did(builder, "make /run read-only", lock_mount("run"));
	if (!r)
		r = keep_resolv_conf(builder);
	if (!r)
		r = did(builder, "make a folder in the new root", mkdir(OLD_ROOT, 0700));
	return r;
}

static int pivot(struct root_builder *builder)
{
	int r;

	r = did(builder, "change the root", (int)syscall(SYS_pivot_root, ".", OLD_ROOT));
	if (r < 0)
		return r;
	r = did(builder, "enter the new root", chdir("/"));
	if (!r)
		r = did(builder, "detach the old root", umount2("/" OLD_ROOT, MNT_DETACH));
	if (!r)
		r = did(builder, "remove the old root's folder", rmdir("/" OLD_ROOT));
	if (!r)
		r = did(builder, "make the new root read-only",
			mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | LOCKED_FLAGS, NULL));
	return r;
}

/* A stage that was not moved into would hide the host's folder of that name. */
static int build_root(struct root_builder *builder)
{
	int r;

	/* Slaves all: pivot_root(2) refuses shared mounts, and the copies bound below get what the
	 * host mounts and unmounts in its own. */
	r = did(builder, "cut the mounts' way back to the host",
		mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
	if (!r)
		r = did(builder, "mount a tmpfs on " STAGE,
			mount("tmpfs", STAGE, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
				"size=64k,nr_inodes=4k,mode=0755"));
	if (r < 0)
		return r;
	r = did(builder, "enter " STAGE, chdir(STAGE));
	if (!r)
		r = furnish(builder);
	if (!r)
		r = pivot(builder);
	if (r < 0 && chdir("/") == 0)
		umount2(STAGE, MNT_DETACH);
	return r;
}

int sandbox_root_enter(
	const struct sandbox_plan *plan, struct sandbox_state *state, const char **ret_step)
{
	struct root_builder builder = {.resolv_conf_fd = -1};
	int r;

	r = enter_namespaces(&builder, plan, state);
	if (!r) {
		confine_folder(plan->keep_folder);
		for (size_t i = 0; i < plan->n_more_folders; i++)
			confine_folder(plan->more_folders[i]);
		sandbox_find_resolv_conf(builder.resolv_conf);
		if (builder.resolv_conf[0])
			builder.resolv_conf_fd = open(builder.resolv_conf, O_PATH | O_CLOEXEC);
		r = build_root(&builder);
		fd_close(&builder.resolv_conf_fd);
	}
	state->root_is_empty = r == 0;
	*ret_step = builder.step;
	return r;
}
