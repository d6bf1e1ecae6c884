/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For unit tests: a process in a user and a network namespace of its own, whose root is us; and
 * functions that run in there, in a child of the test.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct container {
	pid_t pid;
};

/* What a child that has a reason to skip ends with. */
#define EXIT_SKIP 77

static inline void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(write(fd, text, strlen(text)), ==, (ssize_t)strlen(text));
	close(fd);
}

static inline void container_map_root(pid_t pid)
{
	char path[64], map[64];

	snprintf(path, sizeof(path), "/proc/%d/setgroups", pid);
	write_file(path, "deny");
	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	snprintf(map, sizeof(map), "0 %u 1", geteuid());
	write_file(path, map);
	snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
	snprintf(map, sizeof(map), "0 %u 1", getegid());
	write_file(path, map);
}

static inline void container_main(int pipe_fd)
{
	int error = unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0 ? errno : 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (write(pipe_fd, &error, sizeof(error)) != sizeof(error) || error)
		_exit(1);
	for (;;)
		pause();
}

/* False: the test was marked as skipped. */
static inline bool container_start(struct container *c)
{
	int fds[2], error = 0;

	g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
	c->pid = fork();
	if (c->pid == 0)
		container_main(fds[1]);
	g_assert_cmpint(c->pid, >, 0);
	close(fds[1]);
	g_assert_cmpint(read(fds[0], &error, sizeof(error)), ==, sizeof(error));
	close(fds[0]);
	if (error) {
		waitpid(c->pid, NULL, 0);
		g_test_skip_printf("no user and network namespace: %s", strerror(error));
		return false;
	}
	container_map_root(c->pid);
	return true;
}

static inline void container_stop(struct container *c)
{
	kill(c->pid, SIGKILL);
	g_assert_cmpint(waitpid(c->pid, NULL, 0), ==, c->pid);
}

static inline void container_join(const struct container *c)
{
	char path[64];
	int user, net;

	snprintf(path, sizeof(path), "/proc/%d/ns/user", c->pid);
	user = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", c->pid);
	net = open(path, O_RDONLY | O_CLOEXEC);
	g_assert_cmpint(setns(user, CLONE_NEWUSER), ==, 0);
	g_assert_cmpint(setns(net, CLONE_NEWNET), ==, 0);
	close(user);
	close(net);
}

/* Runs `fn` in a child, in the container's namespaces when there is a container. False: the child
 * ended with EXIT_SKIP. */
static inline bool run_in(const struct container *c, void (*fn)(void *arg), void *arg)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		if (c)
			container_join(c);
		fn(arg);
		_exit(0);
	}
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == EXIT_SKIP)
		return false;
	g_assert_cmpint(WEXITSTATUS(status), ==, 0);
	return true;
}

static inline bool have_tun(void)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		g_test_skip_printf("/dev/net/tun: %s", strerror(errno));
		return false;
	}
	close(fd);
	return true;
}

/* A test whose body runs in a fresh container that has the tap driver. */
struct container_test {
	const char *name;
	void (*fn)(void *arg);
};

static inline void container_test_run(gconstpointer data)
{
	const struct container_test *test = data;
	struct container c;

	if (!have_tun() || !container_start(&c))
		return;
	if (!run_in(&c, test->fn, NULL))
		g_test_skip("the kernel refused what the test needs");
	container_stop(&c);
}

static inline void container_tests_add(const struct container_test *tests, size_t n_tests)
{
	for (size_t i = 0; i < n_tests; i++)
		g_test_add_data_func(tests[i].name, &tests[i], container_test_run);
}

/* Standard error goes to a file in memory until capture_end(). */
struct capture {
	int saved, file;
};

static inline struct capture capture_begin(void)
{
	struct capture capture = {
		.saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3),
		.file = memfd_create("stderr", MFD_CLOEXEC),
	};

	g_assert_cmpint(dup2(capture.file, STDERR_FILENO), ==, STDERR_FILENO);
	return capture;
}

/* What was written meanwhile; freed by the caller. */
static inline char *capture_end(struct capture *capture)
{
	off_t len = lseek(capture->file, 0, SEEK_END);
	char *text = g_malloc0((size_t)len + 1);

	dup2(capture->saved, STDERR_FILENO);
	g_assert_cmpint(pread(capture->file, text, (size_t)len, 0), ==, len);
	close(capture->saved);
	close(capture->file);
	return text;
}

static inline void assert_captured(struct capture *capture, const char *expected)
{
	g_autofree char *text = capture_end(capture);

	g_assert_cmpstr(text, ==, expected);
}

static inline int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* The inode of /proc/PID/ns/KIND: pid 0 is ourselves. */
static inline ino_t namespace_of(pid_t pid, const char *kind)
{
	struct stat st;
	char path[64];

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, kind);
	else
		snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
	g_assert_cmpint(stat(path, &st), ==, 0);
	return st.st_ino;
}
