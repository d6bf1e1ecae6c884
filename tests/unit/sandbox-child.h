/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox cannot be left again, so every case runs in a child of its own, which ends with 0,
 * SKIP (the kernel refuses what the case needs) or FAILED after a line that says where.
 */
#pragma once

#include <config.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "setup/sandbox.h"

#define SKIP             77
#define SKIP_ORDINARY    78
#define FAILED           99
#define ORDINARY_USER    1000

#define check(condition) check_at(condition, #condition, __FILE__, __LINE__)

static inline void check_at(bool holds, const char *condition, const char *file, int line)
{
	if (holds)
		return;
	fprintf(stderr, "# %s:%d: %s (%s)\n", file, line, condition, strerror(errno));
	_exit(FAILED);
}

typedef void child_fn(const void *data);

static inline int run_child(child_fn *fn, const void *data)
{
	int status;
	pid_t pid = fork();

	g_assert_cmpint(pid, >=, 0);
	if (pid == 0) {
		fn(data);
		_exit(0);
	}
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	return status;
}

static inline void expect_good(int status)
{
	g_assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == SKIP)
		g_test_skip("the kernel refuses what this needs");
	else if (WEXITSTATUS(status) == SKIP_ORDINARY)
		g_test_skip("only root can prepare this");
	else
		g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

/* As whoever runs this program, if that is no superuser; else as uid 1000 without capabilities. */
static inline void become_ordinary(void)
{
	if (geteuid() != 0)
		return;
	check(setgroups(0, NULL) == 0);
	check(setresgid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER) == 0);
	check(setresuid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER) == 0);
	/* As after an execve(2): else /proc/self belongs to root. */
	check(prctl(PR_SET_DUMPABLE, 1) == 0);
}

static inline void need_root(void)
{
	if (geteuid() != 0)
		_exit(SKIP_ORDINARY);
}

static inline void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	check(fd >= 0);
	check(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* All capabilities in a user namespace of its own, under the id `inside`, with `flags` more. */
static inline void enter_user_namespace(int inside, int flags)
{
	char map[32];
	int uid = (int)geteuid(), gid = (int)getegid();

	if (unshare(CLONE_NEWUSER | flags) < 0)
		_exit(SKIP);
	write_text("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "%d %d 1", inside, uid);
	write_text("/proc/self/uid_map", map);
	snprintf(map, sizeof(map), "%d %d 1", inside, gid);
	write_text("/proc/self/gid_map", map);
}

/* Root already: only `flags`. */
static inline void become_namespace_root(int flags)
{
	if (geteuid() != 0)
		enter_user_namespace(0, flags);
	else if (unshare(flags) < 0)
		_exit(SKIP);
}

static inline void drop_all_capabilities(void)
{
	cap_t none = cap_init();

	check(none && cap_set_proc(none) == 0);
	cap_free(none);
}

static inline bool have_landlock(void)
{
	return syscall(444 /* landlock_create_ruleset */, NULL, 0, 1) > 0;
}

static inline bool have_user_namespaces(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(unshare(CLONE_NEWUSER) < 0);
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static inline struct sandbox_plan nothing(void)
{
	return (struct sandbox_plan){.keep_folder = -1, .target_userns = -1};
}

static inline struct sandbox_plan only_seccomp(void)
{
	struct sandbox_plan plan = nothing();

	plan.seccomp = SANDBOX_MUST;
	return plan;
}

static inline struct sandbox_plan all_layers(void)
{
	struct sandbox_plan plan = nothing();

	plan.empty_root = plan.seccomp = plan.capabilities = SANDBOX_MUST;
	plan.landlock = have_landlock() ? SANDBOX_MUST : SANDBOX_NO;
	return plan;
}

static inline bool is_refused(long result)
{
	return result == -1 && errno == ENOSYS;
}

static inline unsigned long long status_field(const char *name, int base)
{
	char line[256];
	unsigned long long value = ~0ULL;
	FILE *f = fopen("/proc/self/status", "re");

	check(f);
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
			value = strtoull(line + strlen(name) + 1, NULL, base);
	fclose(f);
	return value;
}

/* One child per case. */
struct child_case {
	const char *name;
	child_fn *fn;
	const void *data;
};

#define AS_ORDINARY "ordinary"

static inline void run_child_case(const void *data)
{
	const struct child_case *c = data;

	expect_good(run_child(c->fn, c->data));
}

static inline void add_child_cases(const struct child_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *name = g_strconcat("/sandbox/", cases[i].name, NULL);

		g_test_add_data_func(name, &cases[i], run_child_case);
		g_free(name);
	}
}
