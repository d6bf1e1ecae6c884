/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each case runs in a child, since the descriptors have to be those from 3 on.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"
#include "capture.h"
#include "setup/listen_fds.h"

/* What is passed, from descriptor 3 on: s a socket, p a pipe, - nothing. */
static void pass(const char *what)
{
	fd_close_all_but(NULL, 0, false);
	for (int fd = LISTEN_FDS_FIRST; *what; what++, fd++) {
		int made[2];

		if (*what == '-')
			continue;
		if (*what == 'p')
			g_assert_cmpint(pipe(made), ==, 0);
		else
			g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, made), ==, 0);
		/* above all that is passed first, then where it belongs */
		made[1] = fcntl(made[1], F_DUPFD, 50);
		g_assert_cmpint(dup2(made[1], 100 + fd), ==, 100 + fd);
	}
	for (int fd = LISTEN_FDS_FIRST; fd < 100; fd++)
		close(fd);
	for (int fd = LISTEN_FDS_FIRST; fd < LISTEN_FDS_FIRST + 20; fd++) {
		if (fcntl(100 + fd, F_GETFD) >= 0)
			g_assert_cmpint(dup2(100 + fd, fd), ==, fd);
		close(100 + fd);
	}
}

static void set(const char *name, const char *value)
{
	if (value)
		setenv(name, value, 1);
	else
		unsetenv(name);
}

struct passed {
	const char *what, *pid, *count, *names; /* pid "me": ours */
};

static void prepare(const struct passed *passed)
{
	char me[20];

	g_snprintf(me, sizeof(me), "%d", (int)getpid());
	pass(passed->what);
	set("LISTEN_PID", g_strcmp0(passed->pid, "me") == 0 ? me : passed->pid);
	set("LISTEN_FDS", passed->count);
	set("LISTEN_FDNAMES", passed->names);
}

static void check_environment(void)
{
	g_assert_null(getenv("LISTEN_PID"));
	g_assert_null(getenv("LISTEN_FDS"));
	g_assert_null(getenv("LISTEN_FDNAMES"));
}

/* Ends the child; the parent looks at its status. */
static bool is_child(int *ret_status)
{
	pid_t pid = fork();

	if (pid == 0)
		return true;
	g_assert_cmpint(waitpid(pid, ret_status, 0), ==, pid);
	return false;
}

static void test_taken(void)
{
	static const struct {
		struct passed passed;
		int n;
		const char *look_for;
		int found;
	} cases[] = {
		{{"s", "me", "1", NULL}, 1, "3", 3},
		{{"s", "me", "1", NULL}, 1, "4", -EBADF},
		{{"s", "me", "1", NULL}, 1, "2", -EBADF},
		{{"s", "me", "1", NULL}, 1, "3x", -EBADF},
		{{"s", "me", "1", NULL}, 1, "99999999999", -EBADF},
		{{"s", "me", "1", NULL}, 1, "web", -ENOENT},
		{{"s", "me", "1", NULL}, 1, "", -ENOENT},
		{{"s", "me", "1", "web"}, 1, "web", 3},
		{{"s", "me", "1", "web"}, 1, "we", -ENOENT},
		{{"s", "me", "1", "web"}, 1, "webs", -ENOENT},
		{{"sss", "me", "3", "web:dns:web"}, 3, "dns", 4},
		{{"sss", "me", "3", "web:dns:web"}, 3, "web", -ENOTUNIQ},
		{{"sss", "me", "3", "web:dns:web"}, 3, "5", 5},
		{{"sss", "me", "3", "a::b"}, 3, "b", 5},
		{{"sss", "me", "3", "a::b"}, 3, "", 4},
		{{"ssp", "me", "2", "a:b"}, 2, "5", -EBADF},
		{{"s", "1", "1", NULL}, 0, "3", -EBADF},
		{{"s", "", "1", "web"}, 0, "web", -ENOENT},
		{{"s", NULL, "1", NULL}, 0, "3", -EBADF},
		{{"s", "mine", "1", NULL}, 0, "3", -EBADF},
		{{"p", "1", "junk", "a:b:c"}, 0, "3", -EBADF},
		{{"s", "me", NULL, NULL}, 0, "3", -EBADF},
		{{"s", "me", "0", ""}, 0, "3", -EBADF},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int status;

		if (is_child(&status)) {
			struct listen_fds fds;

			prepare(&cases[i].passed);
			g_assert_cmpint(listen_fds_take(&fds), ==, 0);
			check_environment();
			g_assert_cmpint(fds.n, ==, cases[i].n);
			g_assert_cmpint(
				listen_fds_find(&fds, cases[i].look_for), ==, cases[i].found);
			for (int k = 0; k < fds.n; k++)
				g_assert_cmpint(
					fcntl(LISTEN_FDS_FIRST + k, F_GETFD), ==, FD_CLOEXEC);
			listen_fds_done(&fds);
			g_assert_cmpint(fds.n, ==, 0);
			for (int k = 0; k < cases[i].n; k++)
				g_assert_cmpint(fcntl(LISTEN_FDS_FIRST + k, F_GETFD), ==, -1);
			_exit(0);
		}
		g_test_message("case %zu", i);
		g_assert_cmpint(status, ==, 0);
	}
}

/* What the one line says after the program's name. */
static void test_refused(void)
{
	static const struct {
		struct passed passed;
		int error;
		const char *line;
	} cases[] = {
		{{"s", "me", "junk", NULL}, -EINVAL,
			"LISTEN_FDS=junk: not a number of descriptors up to 1024\n"},
		{{"s", "me", "-1", NULL}, -EINVAL,
			"LISTEN_FDS=-1: not a number of descriptors up to 1024\n"},
		{{"s", "me", "1025", NULL}, -EINVAL,
			"LISTEN_FDS=1025: not a number of descriptors up to 1024\n"},
		{{"s-s", "me", "3", NULL}, -EBADF,
			"LISTEN_FDS=3: descriptor 4: Bad file descriptor\n"},
		{{"sp", "me", "2", "a:b"}, -ENOTSOCK,
			"LISTEN_FDS=2: descriptor 4: Socket operation on non-socket\n"},
		{{"ss", "me", "2", "a"}, -EINVAL, "LISTEN_FDNAMES=a: 1 names for 2 descriptors\n"},
		{{"ss", "me", "2", "a:b:c"}, -EINVAL,
			"LISTEN_FDNAMES=a:b:c: 3 names for 2 descriptors\n"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int status;

		if (is_child(&status)) {
			struct listen_fds fds;
			struct capture capture;
			int r;

			prepare(&cases[i].passed);
			capture_begin(&capture);
			r = listen_fds_take(&fds);
			capture_end(&capture);
			g_assert_cmpint(r, ==, cases[i].error);
			g_assert_true(g_str_has_suffix(capture.err, cases[i].line));
			g_assert_cmpint(fds.n, ==, 0);
			check_environment();
			_exit(0);
		}
		g_test_message("case %zu", i);
		g_assert_cmpint(status, ==, 0);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/listen-fds/taken", test_taken);
	g_test_add_func("/listen-fds/refused", test_refused);
	return g_test_run();
}
