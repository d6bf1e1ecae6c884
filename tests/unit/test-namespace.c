/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>

#include "base/log.h"
#include "setup/namespace.h"
#include "tests/support/container.h"

static struct options options_pid(pid_t pid)
{
	return (struct options){.target = TARGET_PID, .pid = pid};
}

static struct options options_path(const char *path)
{
	return (struct options){.target = TARGET_PATH, .target_path = path};
}

/* target_open() fails with this error and this line, and leaves nothing open. */
static void assert_refused(const struct options *options, int error, const char *line)
{
	struct target target;
	struct capture capture;
	int n_fds = count_fds();

	capture = capture_begin();
	g_assert_cmpint(target_open(&target, options), ==, error);
	assert_captured(&capture, line);
	g_assert_cmpint(target.netns_fd, ==, -1);
	g_assert_cmpint(target.userns_fd, ==, -1);
	g_assert_cmpint(target.pidfd, ==, -1);
	g_assert_cmpint(count_fds(), ==, n_fds);
}

static pid_t dead_pid(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
	return pid;
}

struct join_case {
	const struct target *target;
	ino_t user, net;
};

static void join_succeeds(void *arg)
{
	const struct join_case *join = arg;

	g_assert_cmpint(target_join(join->target), ==, 0);
	g_assert_cmpuint(namespace_of(0, "user"), ==, join->user);
	g_assert_cmpuint(namespace_of(0, "net"), ==, join->net);
}

static void test_pid(void)
{
	struct container c;
	struct target target;
	struct options options;
	struct join_case join;
	int n_fds;

	if (!container_start(&c))
		return;
	n_fds = count_fds();
	options = options_pid(c.pid);
	g_assert_cmpint(target_open(&target, &options), ==, 0);
	g_assert_false(target.same_userns);
	g_assert_cmpint(target.pidfd, ==, -1);
	join = (struct join_case){&target, namespace_of(c.pid, "user"), namespace_of(c.pid, "net")};
	g_assert_cmpuint(join.net, !=, namespace_of(0, "net"));
	run_in(NULL, join_succeeds, &join);
	/* Opened is enough: the target need not live. */
	container_stop(&c);
	run_in(NULL, join_succeeds, &join);
	target_done(&target);
	g_assert_cmpint(count_fds(), ==, n_fds);
}

static void test_pid_same_userns(void)
{
	struct options options = options_pid(getpid());
	struct target target;

	g_assert_cmpint(target_open(&target, &options), ==, 0);
	g_assert_true(target.same_userns);
	target_done(&target);
}

static void test_pid_dead(void)
{
	struct options options = options_pid(dead_pid());
	g_autofree char *line = g_strdup_printf("netns-helper: cannot open the network namespace "
						"/proc/%d/ns/net: No such file or directory\n",
		options.pid);
	g_autofree char *watch_line = g_strdup_printf(
		"netns-helper: cannot watch the process %d: No such process\n", options.pid);

	assert_refused(&options, -ENOENT, line);
	options.quit_with_target = true;
	assert_refused(&options, -ESRCH, watch_line);
}

static void open_own_by_path(void *arg)
{
	struct options options = options_path("/proc/self/ns/net");
	struct target target;

	g_assert_cmpint(target_open(&target, &options), ==, 0);
	g_assert_true(target.same_userns);
	g_assert_cmpint(target.userns_fd, ==, -1);
	g_assert_cmpint(target_join(&target), ==, 0);
	target_done(&target);
}

/* Which the kernel refuses with EINVAL. */
static void join_own_userns(void *arg)
{
	struct options options = options_pid(getpid());
	struct target target;

	g_assert_cmpint(target_open(&target, &options), ==, 0);
	g_assert_true(target.same_userns);
	g_assert_cmpint(target.userns_fd, >=, 0);
	g_assert_cmpint(target_join(&target), ==, 0);
	target_done(&target);
}

static void test_path(void)
{
	struct container c;
	struct target target;
	struct options options;
	struct join_case join;
	g_autofree char *net = NULL, *user = NULL;

	if (!container_start(&c))
		return;
	net = g_strdup_printf("/proc/%d/ns/net", c.pid);
	user = g_strdup_printf("/proc/%d/ns/user", c.pid);
	options = options_path(net);
	g_assert_cmpint(target_open(&target, &options), ==, 0);
	g_assert_false(target.same_userns);
	g_assert_cmpint(target.userns_fd, ==, -1);
	target_done(&target);

	options.userns_path = user;
	g_assert_cmpint(target_open(&target, &options), ==, 0);
	join = (struct join_case){&target, namespace_of(c.pid, "user"), namespace_of(c.pid, "net")};
	run_in(NULL, join_succeeds, &join);
	target_done(&target);

	run_in(&c, open_own_by_path, NULL);
	run_in(&c, join_own_userns, NULL);
	container_stop(&c);
}

/* A process of another container looks at this one's namespace. */
static void open_foreign_by_path(void *arg)
{
	const struct target *target = arg;
	struct options options;
	struct target again;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", target->netns_fd);
	options = options_path(path);
	g_assert_cmpint(target_open(&again, &options), ==, 0);
	g_assert_false(again.same_userns);
	target_done(&again);
}

static void join_refused(void *arg)
{
	const struct target *target = arg;
	struct target path_only = *target;
	struct capture capture = capture_begin();
	g_autofree char *line = g_strdup_printf(
		"netns-helper: cannot join the network namespace /proc/%d/ns/net (nor its user "
		"namespace: Operation not permitted): Operation not permitted\n",
		target->pid);

	g_assert_cmpint(target_join(target), ==, -EPERM);
	assert_captured(&capture, line);

	path_only.userns_fd = -1;
	path_only.path = "/run/netns/x";
	capture = capture_begin();
	g_assert_cmpint(target_join(&path_only), ==, -EPERM);
	assert_captured(&capture,
		"netns-helper: cannot join the network namespace /run/netns/x: "
		"Operation not permitted\n");
}

static void test_join_refused(void)
{
	struct container c, other;
	struct options options;
	struct target target;

	if (!container_start(&c))
		return;
	g_assert_true(container_start(&other));
	options = options_pid(c.pid);
	g_assert_cmpint(target_open(&target, &options), ==, 0);
	run_in(&other, join_refused, &target);
	run_in(&other, open_foreign_by_path, &target);
	target_done(&target);
	container_stop(&other);
	container_stop(&c);
}

static void test_no_namespace(void)
{
	g_autofree char *dir = g_dir_make_tmp("namespace-XXXXXX", NULL);
	g_autofree char *fifo = g_build_filename(dir, "fifo", NULL);
	g_autofree char *fifo_line = g_strdup_printf(
		"netns-helper: %s is no network namespace: Invalid argument\n", fifo);
	struct options options = options_path("/proc/self/ns/user");

	assert_refused(&options, -EINVAL,
		"netns-helper: /proc/self/ns/user is no network namespace: Invalid argument\n");
	options.target_path = "/proc/self/status";
	assert_refused(&options, -EINVAL,
		"netns-helper: /proc/self/status is no network namespace: Invalid argument\n");
	options.target_path = "/nowhere/at-all";
	assert_refused(&options, -ENOENT,
		"netns-helper: cannot open the network namespace /nowhere/at-all: No such file or "
		"directory\n");
	/* Nobody will ever write to it. */
	g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
	options.target_path = fifo;
	assert_refused(&options, -EINVAL, fifo_line);
	unlink(fifo);
	rmdir(dir);

	options = options_pid(getpid());
	options.userns_path = "/proc/self/ns/net";
	assert_refused(&options, -EINVAL,
		"netns-helper: /proc/self/ns/net is no user namespace: Invalid argument\n");
	options = options_path("/proc/self/ns/net");
	options.userns_path = "/nowhere/at-all";
	assert_refused(&options, -ENOENT,
		"netns-helper: cannot open the user namespace /nowhere/at-all: No such file or "
		"directory\n");
}

static bool has_ended(int pidfd, int timeout_ms)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, timeout_ms) == 1;
}

static void watch_to_the_end(struct options options, pid_t pid)
{
	struct target target;

	options.quit_with_target = true;
	g_assert_cmpint(target_open(&target, &options), ==, 0);
	g_assert_cmpint(target.pidfd, >=, 0);
	g_assert_false(has_ended(target.pidfd, 0));
	kill(pid, SIGKILL);
	g_assert_true(has_ended(target.pidfd, -1));
	waitpid(pid, NULL, 0);
	target_done(&target);
}

static pid_t fork_sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

static bool have_pidfd(void)
{
	struct options options = options_pid(getpid());
	struct target target;
	struct capture capture = capture_begin();
	int r;

	options.quit_with_target = true;
	r = target_open(&target, &options);
	g_free(capture_end(&capture));
	target_done(&target);
	if (r == -ENOSYS)
		g_test_skip("no pidfd_open");
	return r != -ENOSYS;
}

static void test_quit_with_target(void)
{
	pid_t pid;
	g_autofree char *path = NULL, *zombie_path = NULL;
	struct options options;
	siginfo_t info;

	if (!have_pidfd())
		return;
	pid = fork_sleeper();
	watch_to_the_end(options_pid(pid), pid);
	pid = fork_sleeper();
	path = g_strdup_printf("/proc/%d/ns/net", pid);
	watch_to_the_end(options_path(path), pid);

	/* It has ended between the pidfd and the namespace, which may be another's. */
	pid = fork();
	if (pid == 0)
		_exit(0);
	g_assert_cmpint(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), ==, 0);
	zombie_path = g_strdup_printf("/proc/%d/../self/ns/net", pid);
	options = options_path(zombie_path);
	options.quit_with_target = true;
	assert_refused(&options, -ESRCH,
		"netns-helper: the target ended while it was looked at: No such process\n");
	waitpid(pid, NULL, 0);
}

static void test_quit_with_target_refused(void)
{
	struct options options = options_path("/run/netns/x");
	g_autofree char *line = g_strdup_printf(
		"netns-helper: cannot watch the process %d: Function not implemented\n", getpid());

	options.quit_with_target = true;
	assert_refused(&options, -EINVAL,
		"netns-helper: cannot quit with the target /run/netns/x, which names no process: "
		"Invalid argument\n");
	options.target_path = "/proc/self/ns/net";
	assert_refused(&options, -EINVAL,
		"netns-helper: cannot quit with the target /proc/self/ns/net, which names no "
		"process: Invalid argument\n");
	options = options_pid(getpid());
	options.quit_with_target = true;
	feature_add(&options.disabled_features, FEATURE_PIDFD);
	assert_refused(&options, -ENOSYS, line);
}

static void test_none(void)
{
	struct options options = {.target = TARGET_TAPFD, .tapfd = 3};
	struct target target;

	g_assert_cmpint(target_open(&target, &options), ==, 0);
	g_assert_cmpint(target.netns_fd, ==, -1);
	target_done(&target);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/namespace/pid", test_pid);
	g_test_add_func("/namespace/pid-same-userns", test_pid_same_userns);
	g_test_add_func("/namespace/pid-dead", test_pid_dead);
	g_test_add_func("/namespace/path", test_path);
	g_test_add_func("/namespace/join-refused", test_join_refused);
	g_test_add_func("/namespace/no-namespace", test_no_namespace);
	g_test_add_func("/namespace/quit-with-target", test_quit_with_target);
	g_test_add_func("/namespace/quit-with-target-refused", test_quit_with_target_refused);
	g_test_add_func("/namespace/none", test_none);
	return g_test_run();
}
