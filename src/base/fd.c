/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(fd_take(fd));
	errno = saved;
}

static bool is_kept(int fd, const int *keep, size_t n_keep)
{
	for (size_t i = 0; i < n_keep; i++)
		if (keep[i] == fd)
			return true;
	return false;
}

/* The lowest kept descriptor from `from` on, INT_MAX without one. */
static int next_kept(int from, const int *keep, size_t n_keep)
{
	int next = INT_MAX;

	for (size_t i = 0; i < n_keep; i++)
		if (keep[i] >= from && keep[i] < next)
			next = keep[i];
	return next;
}

static int close_range_all_but(const int *keep, size_t n_keep)
{
#ifdef SYS_close_range
	for (int from = 3;;) {
		int kept = next_kept(from, keep, n_keep);
		unsigned int last = kept == INT_MAX ? UINT_MAX : (unsigned int)kept - 1;

		if ((kept == INT_MAX || kept > from) &&
			syscall(SYS_close_range, (unsigned int)from, last, 0) < 0)
			return -errno;
		if (kept == INT_MAX)
			return 0;
		from = kept + 1;
	}
#else
	return -ENOSYS;
#endif
}

void fd_close_all_but(const int *keep, size_t n_keep, bool may_close_range)
{
	struct dirent *entry;
	DIR *dir;

	if (may_close_range && close_range_all_but(keep, n_keep) == 0)
		return;
	dir = opendir("/proc/self/fd");
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		int fd = atoi(entry->d_name);

		if (fd > 2 && fd != dirfd(dir) && !is_kept(fd, keep, n_keep))
			close(fd);
	}
	closedir(dir);
}

int fd_fill_stdio(void)
{
	for (;;) {
		int fd = open("/dev/null", O_RDWR);

		if (fd < 0)
			return -errno;
		if (fd > 2) {
			close(fd);
			return 0;
		}
	}
}

int fd_raise_limit(uint64_t *ret_limit)
{
	struct rlimit limit;
	rlim_t soft;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -errno;
	soft = limit.rlim_cur;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
		*ret_limit = soft;
		return -errno;
	}
	*ret_limit = limit.rlim_cur;
	return 0;
}

int fd_set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int fd_set_cloexec(int fd)
{
	return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}
