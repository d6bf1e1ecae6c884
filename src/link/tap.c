/* SPDX-License-Identifier: Apache-2.0 */
#include "link/tap.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"

/* The kernel's header length for whoever attaches next and does not say (virtio_net_hdr). */
#define VNET_LEN_DEFAULT 10

static struct tap_link *tap_of(struct link *link)
{
	return container_of(link, struct tap_link, link);
}

/* What the errors of a tap mean: EBADFD after the device was deleted, EFAULT in the instant of it,
 * EIO while it is down. */
static int outcome_of(int error)
{
	switch (error) {
	case EAGAIN:
	case EINTR:
	case ENOBUFS:
	case ENOMEM:
		return -EAGAIN;
	case EBADFD:
	case EFAULT:
	case ENODEV:
	case EPIPE:
	case ECONNRESET:
	case ENOTCONN:
		return -ENODEV;
	default:
		return -error;
	}
}

/* An empty read of a packet socket is an empty packet or the end of file. */
static bool socket_has_ended(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) == 1 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

/* One read: the device's header ends where the frame begins, and is moved to where a shorter one
 * belongs. */
static ssize_t tap_recv(struct link *link, uint8_t *buf)
{
	struct tap_link *tap = tap_of(link);
	uint8_t *header = buf + LINK_HEADER_LEN - tap->vnet_len;
	ssize_t n = read(link->fd, header, tap->vnet_len + (size_t)LINK_FRAME_MAX);

	if (n < 0)
		return outcome_of(errno);
	if (n == 0 && tap->is_socket && socket_has_ended(link->fd))
		return -ENODEV;
	if (tap->vnet_len < LINK_HEADER_LEN) {
		memmove(buf, header, tap->vnet_len);
		memset(buf + tap->vnet_len, 0, LINK_HEADER_LEN - (size_t)tap->vnet_len);
	}
	return n < tap->vnet_len ? 0 : n - tap->vnet_len;
}

static int tap_send(struct link *link, const struct iovec *iov, int n_iov)
{
	struct tap_link *tap = tap_of(link);
	UNCLEARED struct iovec pieces[LINK_PIECES_MAX + 1];

	if (n_iov > LINK_PIECES_MAX || iov[0].iov_len < LINK_HEADER_LEN)
		return -EINVAL;
	if (tap->vnet_len == LINK_HEADER_LEN)
		return writev(link->fd, iov, n_iov) < 0 ? outcome_of(errno) : 0;
	pieces[0] = (struct iovec){.iov_base = iov[0].iov_base, .iov_len = tap->vnet_len};
	pieces[1] = (struct iovec){
		.iov_base = (uint8_t *)iov[0].iov_base + LINK_HEADER_LEN,
		.iov_len = iov[0].iov_len - LINK_HEADER_LEN,
	};
	memcpy(&pieces[2], &iov[1], (size_t)(n_iov - 1) * sizeof(*iov));
	return writev(link->fd, pieces, n_iov + 1) < 0 ? outcome_of(errno) : 0;
}

/* Header size and offloads outlive the attachment on a persistent tap: leave it as a new one. */
static void tap_close(struct link *link)
{
	struct tap_link *tap = tap_of(link);
	int vnet_len = VNET_LEN_DEFAULT;

	if (link->fd >= 0 && tap->vnet_len) {
		(void)ioctl(link->fd, TUNSETOFFLOAD, 0);
		(void)ioctl(link->fd, TUNSETVNETHDRSZ, &vnet_len);
	}
	fd_close(&link->fd);
}

static const struct link_ops tap_ops = {
	.recv = tap_recv,
	.send = tap_send,
	.close = tap_close,
};

void tap_link_init(struct tap_link *tap, int fd, uint8_t vnet_len)
{
	*tap = (struct tap_link){.link = {.ops = &tap_ops, .fd = fd}, .vnet_len = vnet_len};
}

void tap_link_find_mac(struct tap_link *tap)
{
	struct ifreq request = {0};

	if (ioctl(tap->link.fd, SIOCGIFHWADDR, &request) == 0)
		memcpy(&tap->link.mac, request.ifr_hwaddr.sa_data, sizeof(tap->link.mac));
}

void tap_link_init_socket(struct tap_link *tap, int fd)
{
	tap_link_init(tap, fd, 0);
	tap->is_socket = true;
}
