/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct {
	const char *name;
	enum log_level level;
	uint64_t n_dropped;
} the_log = {.name = "netns-helper", .level = LOG_LEVEL_INFO};

void log_init(const char *name, enum log_level level)
{
	the_log.name = name;
	the_log.level = level;
}

uint64_t log_dropped(void)
{
	return the_log.n_dropped;
}

/* A pipe that polls writable has room for PIPE_BUF bytes (pipe(7)), so the write does not block,
 * though the descriptor, which is the caller's, was not made non-blocking. */
static void write_line(int fd, const char *line, size_t len)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT) || write(fd, line, len) != (ssize_t)len)
		the_log.n_dropped++;
}

/* Appends formatted text at *at, always leaving room for the newline. */
static void PRINTF_LIKE(3, 0) append(char *line, size_t *at, const char *format, va_list args)
{
	size_t room = PIPE_BUF - 1 - *at;
	int n = vsnprintf(line + *at, room, format, args);

	if (n > 0)
		*at += MIN((size_t)n, room - 1);
}

static void PRINTF_LIKE(3, 4) append_f(char *line, size_t *at, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	append(line, at, format, args);
	va_end(args);
}

/* Control characters of a message (it may quote a client) do not reach a terminal. */
static void finish_line(int fd, char *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	write_line(fd, line, len);
}

static void PRINTF_LIKE(3, 0)
	log_va(enum log_level level, int error, const char *format, va_list args)
{
	char line[PIPE_BUF];
	size_t len = 0;

	if (level > the_log.level)
		return;
	append_f(line, &len, "%s: %s", the_log.name, level == LOG_LEVEL_WARNING ? "warning: " : "");
	append(line, &len, format, args);
	if (error)
		append_f(line, &len, ": %s", strerror(-error));
	finish_line(STDERR_FILENO, line, len);
}

void log_line(enum log_level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_va(level, 0, format, args);
	va_end(args);
}

int log_errno(enum log_level level, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_va(level, error, format, args);
	va_end(args);
	return error;
}

static void PRINTF_LIKE(2, 0) plain_va(int fd, const char *format, va_list args)
{
	char line[PIPE_BUF];
	size_t len = 0;

	append(line, &len, format, args);
	finish_line(fd, line, len);
}

void log_plain(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	plain_va(STDERR_FILENO, format, args);
	va_end(args);
}

void log_stdout(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	plain_va(STDOUT_FILENO, format, args);
	va_end(args);
}
