/* SPDX-License-Identifier: Apache-2.0 */
#include "setup/listen_fds.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "setup/options_check.h"

static bool is_for_us(void)
{
	const char *text = getenv("LISTEN_PID");
	long pid;

	return text && options_parse_number(text, 1, INT_MAX, &pid) && pid == getpid();
}

static int take_count(int *ret_n)
{
	const char *text = getenv("LISTEN_FDS");
	long n = 0;

	if (text && !options_parse_number(text, 0, LISTEN_FDS_MAX, &n)) {
		log_error("LISTEN_FDS=%s: not a number of descriptors up to %d", text,
			LISTEN_FDS_MAX);
		return -EINVAL;
	}
	*ret_n = (int)n;
	return 0;
}

static int take_names(int n, char **ret_names)
{
	const char *text = getenv("LISTEN_FDNAMES");
	int n_names = 1;

	if (!text || n == 0)
		return 0;
	for (const char *at = text; (at = strchr(at, ':')); at++)
		n_names++;
	if (n_names != n) {
		log_error("LISTEN_FDNAMES=%s: %d names for %d descriptors", text, n_names, n);
		return -EINVAL;
	}
	*ret_names = strdup(text);
	return *ret_names ? 0 : log_errno(LOG_LEVEL_ERROR, -ENOMEM, "LISTEN_FDNAMES");
}

static int check_sockets(int n)
{
	struct stat stat;

	for (int fd = LISTEN_FDS_FIRST; fd < LISTEN_FDS_FIRST + n; fd++) {
		if (fstat(fd, &stat) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			return log_errno(
				LOG_LEVEL_ERROR, -errno, "LISTEN_FDS=%d: descriptor %d", n, fd);
		if (!S_ISSOCK(stat.st_mode))
			return log_errno(
				LOG_LEVEL_ERROR, -ENOTSOCK, "LISTEN_FDS=%d: descriptor %d", n, fd);
	}
	return 0;
}

int listen_fds_take(struct listen_fds *ret)
{
	struct listen_fds found = {0};
	int r = 0;

	if (is_for_us() && (r = take_count(&found.n)) == 0 && (r = check_sockets(found.n)) == 0)
		r = take_names(found.n, &found.names);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	unsetenv("LISTEN_PIDFDID"); /* systemd 258 */
	*ret = r == 0 ? found : (struct listen_fds){0};
	return r;
}

void listen_fds_done(struct listen_fds *fds)
{
	for (int i = 0; i < fds->n; i++)
		close(LISTEN_FDS_FIRST + i);
	free(fds->names);
	*fds = (struct listen_fds){0};
}

bool listen_fds_has(const struct listen_fds *fds, int fd)
{
	return fd >= LISTEN_FDS_FIRST && fd < LISTEN_FDS_FIRST + fds->n;
}

static int find_by_name(const struct listen_fds *fds, const char *name)
{
	const char *at = fds->names;
	size_t wanted = strlen(name);
	int found = -ENOENT;

	for (int fd = LISTEN_FDS_FIRST; at && listen_fds_has(fds, fd); fd++) {
		size_t len = strcspn(at, ":");

		if (len == wanted && memcmp(at, name, len) == 0) {
			if (found >= 0)
				return -ENOTUNIQ;
			found = fd;
		}
		at += len + 1;
	}
	return found;
}

int listen_fds_find(void *arg, const char *name)
{
	const struct listen_fds *fds = arg;
	long fd;

	if (!isdigit((unsigned char)*name))
		return find_by_name(fds, name);
	if (!options_parse_number(name, 0, INT_MAX, &fd) || !listen_fds_has(fds, (int)fd))
		return -EBADF;
	return (int)fd;
}
