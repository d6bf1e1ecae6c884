/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of what a function prints: standard output and error go to memory for a while.
 */
#pragma once

#include <glib.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

struct capture {
	int saved[2]; /* of descriptors 1 and 2 */
	char *out;    /* after capture_end(); freed by capture_free() */
	char *err;
};

static inline void capture_begin(struct capture *capture)
{
	fflush(NULL);
	for (int fd = 1; fd <= 2; fd++) {
		int memory = memfd_create("capture", MFD_CLOEXEC);

		g_assert_cmpint(memory, >=, 0);
		capture->saved[fd - 1] = dup(fd);
		g_assert_cmpint(dup2(memory, fd), ==, fd);
		close(memory);
	}
}

static inline char *capture_take(int fd, int saved)
{
	off_t len = lseek(fd, 0, SEEK_END);
	char *text = g_malloc0((size_t)len + 1);
	ssize_t n = pread(fd, text, (size_t)len, 0);

	dup2(saved, fd);
	close(saved);
	g_assert_cmpint(n, ==, len);
	return text;
}

static inline void capture_end(struct capture *capture)
{
	fflush(NULL);
	capture->out = capture_take(1, capture->saved[0]);
	capture->err = capture_take(2, capture->saved[1]);
}

static inline void capture_free(struct capture *capture)
{
	g_free(capture->out);
	g_free(capture->err);
}
