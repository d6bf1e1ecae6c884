/* SPDX-License-Identifier: Apache-2.0 */
#include "base/unix_listener.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/util.h"

/* How long a predecessor that is ending may still hold the path on a busy machine. */
#define PREDECESSOR_NS (3 * NS_PER_SEC)

static int open_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

/* An empty path would be an abstract address of the kernel's choice. */
static int fill_address(struct sockaddr_un *address, const char *path)
{
	size_t len = strlen(path);

	if (len == 0)
		return -ENOENT;
	if (len >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(address->sun_path, path, len);
	return 0;
}

/* Opens the path's folder and keeps its last component. */
static int open_folder(struct unix_listener *listener, const struct sockaddr_un *address)
{
	char folder[sizeof(address->sun_path)];
	const char *slash = strrchr(address->sun_path, '/');
	const char *name = slash ? slash + 1 : address->sun_path;
	int len = slash ? (int)(name - address->sun_path) : 0;

	if (!*name)
		return -EISDIR;
	snprintf(listener->name, sizeof(listener->name), "%s", name);
	snprintf(folder, sizeof(folder), "%.*s", len, address->sun_path);
	listener->folder_fd = open(len ? folder : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return listener->folder_fd < 0 ? -errno : 0;
}

/* 0 when nobody accepts on the socket at this address; else *ret_fd is connected to whoever does.
 * EAGAIN: its backlog is full. EPROTOTYPE: it is no stream. Somebody has it in any case. */
static int check_stale(const struct sockaddr_un *address, int *ret_fd)
{
	cleanup_fd int fd = open_socket();

	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0) {
		*ret_fd = fd_take(&fd);
		return -EADDRINUSE;
	}
	if (errno == EAGAIN || errno == EPROTOTYPE)
		return -EADDRINUSE;
	return errno == ECONNREFUSED || errno == ENOENT ? 0 : -errno;
}

/* A container that is restarted gets its new helper while the old one is still about to end: its
 * end is seen as the hang-up of a connection to it. */
static int wait_stale(const struct sockaddr_un *address)
{
	int64_t until_ns = clock_now_ns() + PREDECESSOR_NS, left_ns;
	int r;

	do {
		cleanup_fd int fd = -1;
		struct pollfd p = {.events = POLLRDHUP};

		r = check_stale(address, &fd);
		left_ns = until_ns - clock_now_ns();
		if (fd < 0)
			return r;
		p.fd = fd;
		if (left_ns > 0)
			poll(&p, 1, (int)(left_ns / NS_PER_MS));
	} while (left_ns > 0);
	return r;
}

/* Takes away what a helper that was killed has left behind, and nothing else. */
static int unlink_stale(const struct unix_listener *listener, const struct sockaddr_un *address)
{
	struct stat st;
	int r;

	if (fstatat(listener->folder_fd, listener->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	r = wait_stale(address);
	if (r < 0)
		return r;
	if (unlinkat(listener->folder_fd, listener->name, 0) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

static int bind_address(int fd, const struct sockaddr_un *address)
{
	return bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
}

/* The file gets the mode that the socket has, so there is no moment with another one. */
static int make_name(struct unix_listener *listener, const struct sockaddr_un *address)
{
	struct stat st;
	int r = fchmod(listener->fd, 0600) < 0 ? -errno : bind_address(listener->fd, address);

	if (r == -EADDRINUSE) {
		r = unlink_stale(listener, address);
		if (r == 0)
			r = bind_address(listener->fd, address);
	}
	if (r < 0)
		return r;
	if (fstatat(listener->folder_fd, listener->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	listener->dev = st.st_dev;
	listener->ino = st.st_ino;
	return 0;
}

static int open_all(struct unix_listener *listener, const char *path)
{
	struct sockaddr_un address;
	int r = fill_address(&address, path);

	if (r < 0)
		return r;
	listener->fd = open_socket();
	if (listener->fd < 0)
		return listener->fd;
	r = open_folder(listener, &address);
	if (r == 0)
		r = make_name(listener, &address);
	if (r < 0)
		return r;
	return listen(listener->fd, SOMAXCONN) < 0 ? -errno : 0;
}

const char *unix_listener_explain(int error)
{
	switch (error) {
	case -ENAMETOOLONG:
		return " (longer than 107 bytes)";
	case -EADDRINUSE:
		return " (another program listens there)";
	case -EEXIST:
		return " (not a socket, so it is left alone)";
	default:
		return "";
	}
}

int unix_listener_open(struct unix_listener *listener, const char *path)
{
	int r;

	*listener = (struct unix_listener){.fd = -1, .folder_fd = -1};
	r = open_all(listener, path);
	if (r < 0)
		unix_listener_close(listener);
	return r;
}

/* The number of an inode is not given again while the socket bound to it is open. */
static bool is_ours(const struct unix_listener *listener)
{
	struct stat st;

	return listener->ino &&
		fstatat(listener->folder_fd, listener->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		st.st_dev == listener->dev && st.st_ino == listener->ino;
}

int unix_listener_close(struct unix_listener *listener)
{
	int r = 0;

	if (is_ours(listener) && unlinkat(listener->folder_fd, listener->name, 0) < 0)
		r = -errno;
	fd_close(&listener->fd);
	fd_close(&listener->folder_fd);
	return r;
}
