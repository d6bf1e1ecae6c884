/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each test runs in a child, since it plays with the process's own descriptors.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"

static void in_child(void (*test)(const void *), const void *arg)
{
	pid_t pid = fork();
	int status;

	g_assert_cmpint(pid, >=, 0);
	if (pid == 0) {
		test(arg);
		_exit(0);
	}
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_cmpint(status, ==, 0);
}

static void check(bool good)
{
	if (!good)
		_exit(1);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void close_all_but(const void *may_close_range)
{
	int keep[] = {700, -1, 5, 300, 5};

	for (int fd = 3; fd < 20; fd++)
		check(dup2(0, fd) == fd);
	check(dup2(0, 300) == 300 && dup2(0, 301) == 301 && dup2(0, 700) == 700);
	fd_close_all_but(keep, ARRAY_SIZE(keep), may_close_range != NULL);
	for (int fd = 0; fd < 800; fd++)
		check(is_open(fd) == (fd < 3 || fd == 5 || fd == 300 || fd == 700));
}

static void test_close_all_but(void)
{
	in_child(close_all_but, "close_range");
	in_child(close_all_but, NULL);
}

static void fill_stdio(const void *unused)
{
	int n_open = 0;

	close(0);
	close(2);
	check(fd_fill_stdio() == 0);
	check(is_open(0) && is_open(1) && is_open(2));
	for (int fd = 3; fd < 64; fd++)
		n_open += is_open(fd);
	check(fd_fill_stdio() == 0);
	for (int fd = 3; fd < 64; fd++)
		n_open -= is_open(fd);
	check(n_open == 0);
}

static void test_fill_stdio(void)
{
	in_child(fill_stdio, NULL);
}

static void raise_limit(const void *unused)
{
	struct rlimit limit = {.rlim_cur = 64, .rlim_max = 128};
	uint64_t in_force = 0;

	check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	check(fd_raise_limit(&in_force) == 0 && in_force == 128);
	check(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 128);
}

static void test_raise_limit(void)
{
	in_child(raise_limit, NULL);
}

static void test_close_keeps_errno(void)
{
	int fd = -1;

	errno = EDOM;
	fd_close(&fd);
	fd = 100000;
	fd_close(&fd);
	g_assert_cmpint(errno, ==, EDOM);
	g_assert_cmpint(fd, ==, -1);
}

static void test_flags(void)
{
	int pipe_fds[2];

	g_assert_cmpint(pipe(pipe_fds), ==, 0);
	g_assert_cmpint(fd_set_nonblocking(pipe_fds[0]), ==, 0);
	g_assert_cmpint(fd_set_cloexec(pipe_fds[0]), ==, 0);
	g_assert_true(fcntl(pipe_fds[0], F_GETFL) & O_NONBLOCK);
	g_assert_true(fcntl(pipe_fds[0], F_GETFD) & FD_CLOEXEC);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	g_assert_cmpint(fd_set_nonblocking(-1), ==, -EBADF);
	g_assert_cmpint(fd_set_cloexec(-1), ==, -EBADF);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fd/close-all-but", test_close_all_but);
	g_test_add_func("/fd/fill-stdio", test_fill_stdio);
	g_test_add_func("/fd/raise-limit", test_raise_limit);
	g_test_add_func("/fd/close-keeps-errno", test_close_keeps_errno);
	g_test_add_func("/fd/flags", test_flags);
	return g_test_run();
}
