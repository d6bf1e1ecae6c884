/* SPDX-License-Identifier: Apache-2.0 */
#include "setup/bess.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

static int remove_old_socket(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	return unlink(path) < 0 ? -errno : 0;
}

static int listen_at(const char *path, int *ret_fd)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	cleanup_fd int fd = -1;
	int r;

	if (len == 0) /* the kernel would choose an abstract one */
		return -ENOENT;
	if (len >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, len);
	r = remove_old_socket(path);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 1) < 0)
		return -errno;
	*ret_fd = fd_take(&fd);
	return 0;
}

/* The exit-fd counts here, too: the client may never come. */
static int wait_for_client(int listener, int exit_fd, int *ret_fd)
{
	struct pollfd fds[2] = {{.fd = listener, .events = POLLIN}, {.fd = exit_fd}};

	for (;;) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return -errno;
		if (fds[1].revents)
			return -ECANCELED;
		*ret_fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (*ret_fd >= 0)
			return 0;
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			return -errno;
	}
}

int bess_accept(const char *path, int exit_fd, int *ret_fd)
{
	cleanup_fd int listener = -1;
	int r = listen_at(path, &listener);

	if (r < 0)
		return log_errno(LOG_LEVEL_ERROR, r, "cannot make the bess socket %s", path);
	r = wait_for_client(listener, exit_fd, ret_fd);
	unlink(path);
	if (r < 0 && r != -ECANCELED)
		log_errno(LOG_LEVEL_ERROR, r, "cannot accept the bess client on %s", path);
	return r;
}
