/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/protocol.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

union control {
	char buf[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

/* The peer's end was closed: with requests unread (unix(7) then says ECONNRESET) or without. */
static int error_of(int error)
{
	return error == ECONNRESET ? -EPIPE : -error;
}

static void attach(struct msghdr *header, union control *control, int fd)
{
	struct cmsghdr *cmsg;

	*control = (union control){0};
	header->msg_control = control->buf;
	header->msg_controllen = sizeof(control->buf);
	cmsg = CMSG_FIRSTHDR(header);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
}

int agent_send(int sock, const struct agent_message *message, int fd)
{
	struct agent_message copy = *message;
	struct iovec iov = {.iov_base = &copy, .iov_len = sizeof(copy)};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
	union control control;
	ssize_t n;

	if (fd >= 0)
		attach(&header, &control, fd);
	do
		n = sendmsg(sock, &header, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? error_of(errno) : 0;
}

/* There is room for one: the kernel does not hand out a second one (MSG_CTRUNC). */
static int detach(struct msghdr *header)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(header);
	int fd = -1;

	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS &&
		cmsg->cmsg_len == CMSG_LEN(sizeof(fd)))
		memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

int agent_recv(int sock, struct agent_message *message, int *ret_fd)
{
	struct iovec iov = {.iov_base = message, .iov_len = sizeof(*message)};
	union control control;
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = CMSG_LEN(sizeof(int)),
	};
	cleanup_fd int fd = -1;
	ssize_t n;

	*ret_fd = -1;
	do
		n = recvmsg(sock, &header, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_of(errno);
	fd = detach(&header);
	/* A packet of no bytes looks like the end, and nobody has a reason to send one. */
	if (n == 0)
		return -EPIPE;
	if (n != sizeof(*message) || header.msg_flags & MSG_TRUNC || message->type < AGENT_TAP ||
		message->type > AGENT_SETTLED)
		return -EBADMSG;
	if (header.msg_flags & MSG_CTRUNC)
		message->error = -EMFILE;
	else
		*ret_fd = fd_take(&fd);
	return 0;
}
