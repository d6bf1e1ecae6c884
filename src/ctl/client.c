/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/fd.h"

#define REPLY_PIECE 65536

/* The kernel says ECONNREFUSED of a regular file, too. */
static int check_is_socket(const char *path)
{
	struct stat found;

	if (stat(path, &found) < 0)
		return -errno;
	return S_ISSOCK(found.st_mode) ? 0 : -ENOTSOCK;
}

static int set_silence(int sock)
{
	const struct timeval silence = {.tv_sec = CLIENT_SILENCE_SEC};

	if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence)) < 0 ||
		setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof(silence)) < 0)
		return -errno;
	return 0;
}

/* EAGAIN is what a blocking call says when its time is up. */
static int error_of_call(void)
{
	return errno == EAGAIN ? -ETIMEDOUT : -errno;
}

static int connect_to(const char *path, int *ret_sock)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	cleanup_fd int sock = -1;
	int r;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path));
	if ((r = check_is_socket(path)) < 0)
		return r;
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	if ((r = set_silence(sock)) < 0)
		return r;
	if (connect(sock, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return error_of_call();
	*ret_sock = fd_take(&sock);
	return 0;
}

/* The descriptors go with the first byte. */
static int send_piece(int sock, const char *data, size_t len, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(CLIENT_FDS_MAX * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (n_fds) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
	}
	do {
		n = sendmsg(sock, &message, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? error_of_call() : (int)n;
}

/* A server that has heard enough closes its side: what it said is read nevertheless. */
static int send_all(int sock, const char *data, const int *fds, size_t n_fds)
{
	size_t len = strlen(data);

	while (len > 0) {
		int n = send_piece(sock, data, len, fds, n_fds);

		if (n == -EPIPE || n == -ECONNRESET)
			return 0;
		if (n < 0)
			return n;
		data += n;
		len -= (size_t)n;
		n_fds = 0;
	}
	return 0;
}

struct reply {
	char *text;
	size_t len, size;
};

static int make_room(struct reply *reply)
{
	size_t size = reply->size ? 2 * reply->size : REPLY_PIECE;
	char *text;

	if (reply->len + 1 < reply->size)
		return 0;
	if (size > CLIENT_REPLY_MAX)
		return -EMSGSIZE;
	text = realloc(reply->text, size);
	if (!text)
		return -ENOMEM;
	reply->text = text;
	reply->size = size;
	return 0;
}

static int receive_all(int sock, struct reply *reply)
{
	for (;;) {
		int r = make_room(reply);
		ssize_t n;

		if (r < 0)
			return r;
		n = recv(sock, reply->text + reply->len, reply->size - reply->len - 1, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && !(errno == ECONNRESET && reply->len))
			return error_of_call();
		if (n <= 0)
			return reply->len ? 0 : -EBADMSG;
		reply->len += (size_t)n;
	}
}

int client_ask(const char *path, const char *request, const int *fds, size_t n_fds,
	char **ret_reply, size_t *ret_len)
{
	struct reply reply = {0};
	cleanup_fd int sock = -1;
	int r;

	if (n_fds > CLIENT_FDS_MAX)
		return -E2BIG;
	if ((r = connect_to(path, &sock)) < 0 || (r = send_all(sock, request, fds, n_fds)) < 0 ||
		(r = receive_all(sock, &reply)) < 0) {
		free(reply.text);
		return r;
	}
	reply.text[reply.len] = '\0';
	*ret_reply = reply.text;
	*ret_len = reply.len;
	return 0;
}
