/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines on standard error and the banner on standard output. One line is one write of at most
 * PIPE_BUF bytes, made only when poll(2) says that it will not block; else the line is dropped and
 * counted. The level and the name are the program's only global state.
 */
#pragma once

#include <stdint.h>

#include "base/util.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* `name` begins every line; it is not copied. */
void log_init(const char *name, enum log_level level);

void log_line(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);

/* "NAME: MESSAGE: strerror(-error)"; `error` is a negative errno. Returns it, so that one statement
 * can log and pass it on. */
int log_errno(enum log_level level, int error, const char *format, ...) PRINTF_LIKE(3, 4);

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* A line on standard error that is asked for, whatever the level, and that programs may read:
 * without the name. */
void log_plain(const char *format, ...) PRINTF_LIKE(1, 2);

/* A line on standard output, under the same rules, without the name. */
void log_stdout(const char *format, ...) PRINTF_LIKE(1, 2);

/* How many lines could not be written. */
uint64_t log_dropped(void);
