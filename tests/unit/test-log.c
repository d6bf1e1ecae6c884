/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What reaches standard error and standard output, and that nothing ever blocks there.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

struct fixture {
	int saved[3];
	int reader[3]; /* of 1 and 2 */
};

static void set_up(struct fixture *f, gconstpointer unused)
{
	log_init("name", LOG_LEVEL_INFO);
	for (int fd = 1; fd <= 2; fd++) {
		int pipe_fds[2];

		g_assert_cmpint(pipe2(pipe_fds, O_CLOEXEC), ==, 0);
		f->saved[fd] = dup(fd);
		f->reader[fd] = pipe_fds[0];
		g_assert_cmpint(fcntl(f->reader[fd], F_SETFL, O_NONBLOCK), ==, 0);
		dup2(pipe_fds[1], fd);
		close(pipe_fds[1]);
	}
}

static void restore(struct fixture *f)
{
	for (int fd = 1; fd <= 2; fd++)
		if (f->saved[fd] >= 0) {
			dup2(f->saved[fd], fd);
			close(f->saved[fd]);
			f->saved[fd] = -1;
		}
}

static void tear_down(struct fixture *f, gconstpointer unused)
{
	restore(f);
	close(f->reader[1]);
	close(f->reader[2]);
}

/* What was written; the test's own output goes to where it belongs again. */
static void assert_written(struct fixture *f, int fd, const char *expected)
{
	char got[3 * PIPE_BUF];
	ssize_t n = read(f->reader[fd], got, sizeof(got));

	restore(f);
	g_assert_cmpmem(got, n < 0 ? 0 : (size_t)n, expected, strlen(expected));
}

static void test_lines(struct fixture *f, gconstpointer unused)
{
	log_error("a %d", 1);
	log_warning("b");
	log_info("c");
	log_debug("not this");
	log_plain("plain %s", "text");
	log_errno(LOG_LEVEL_ERROR, -ENOENT, "cannot open %s", "x");
	assert_written(f, 2,
		"name: a 1\nname: warning: b\nname: c\nplain text\n"
		"name: cannot open x: No such file or directory\n");
}

static void test_stdout(struct fixture *f, gconstpointer unused)
{
	log_stdout("* MTU: %d", 1500);
	assert_written(f, 1, "* MTU: 1500\n");
}

static void test_level(struct fixture *f, gconstpointer unused)
{
	log_init("name", LOG_LEVEL_ERROR);
	log_warning("not this");
	log_info("nor this");
	log_error("this");
	assert_written(f, 2, "name: this\n");
}

/* A client's text must not move a terminal's cursor, nor begin a line of its own. */
static void test_control_characters(struct fixture *f, gconstpointer unused)
{
	log_info("a\033[2Jb\nname: c\x7f\xc3\xa4");
	assert_written(f, 2, "name: a?[2Jb?name: c?\xc3\xa4\n");
}

static void test_long_line(struct fixture *f, gconstpointer unused)
{
	g_autofree char *text = g_strnfill(2 * PIPE_BUF, 'x');
	char got[3 * PIPE_BUF];
	ssize_t n;

	log_errno(LOG_LEVEL_ERROR, -ENOENT, "%s", text);
	n = read(f->reader[2], got, sizeof(got));
	restore(f);
	g_assert_cmpint(n, <=, PIPE_BUF);
	g_assert_cmpint(n, >, PIPE_BUF - 8);
	g_assert_cmpint(got[n - 1], ==, '\n');
	g_assert_null(memchr(got, '\0', (size_t)n));
}

/* Nobody reads: lines are dropped and counted until there is room again. */
static void test_full_pipe(struct fixture *f, gconstpointer unused)
{
	uint64_t before = log_dropped(), n_dropped;
	char got[65536];

	for (int i = 0; i < 100000; i++)
		log_info("line %d", i);
	n_dropped = log_dropped() - before;
	while (read(f->reader[2], got, sizeof(got)) > 0)
		;
	log_info("again");
	g_assert_cmpint(read(f->reader[2], got, sizeof(got)), ==, 12);
	restore(f);
	g_assert_cmpuint(n_dropped, >, 1000);
	g_assert_cmpuint(log_dropped() - before, ==, n_dropped);
}

static void test_closed(struct fixture *f, gconstpointer unused)
{
	uint64_t before = log_dropped(), n;

	close(2);
	log_error("nowhere");
	n = log_dropped() - before;
	restore(f);
	g_assert_cmpuint(n, ==, 1);
}

#define ADD(name, fn) g_test_add("/log/" name, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	ADD("lines", test_lines);
	ADD("stdout", test_stdout);
	ADD("level", test_level);
	ADD("control-characters", test_control_characters);
	ADD("long-line", test_long_line);
	ADD("full-pipe", test_full_pipe);
	ADD("closed", test_closed);
	return g_test_run();
}
