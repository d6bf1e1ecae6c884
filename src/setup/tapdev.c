/* SPDX-License-Identifier: Apache-2.0 */
#include "setup/tapdev.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "setup/netconf.h"

#define TUN_PATH "/dev/net/tun"

/* How long a tap of that name may be about to go on a busy machine, and how often to look. */
#define BUSY_NS       (3 * NS_PER_SEC)
#define BUSY_RETRY_MS 2

/* struct virtio_net_hdr, and struct virtio_net_hdr_mrg_rxbuf of <linux/virtio_net.h>. */
#define VNET_LEN_SHORT 10
#define VNET_LEN_LONG  12

/* In the order in which they are given up. */
static const struct {
	enum feature feature;
	uint32_t offload;
} offload_table[] = {
	{FEATURE_USO, TAPDEV_USO},
	{FEATURE_TSO_ECN, TUN_F_TSO_ECN},
	{FEATURE_TSO6, TUN_F_TSO6},
	{FEATURE_TSO4, TUN_F_TSO4},
	{FEATURE_CSUM, TUN_F_CSUM},
};

static int log_no_tun(int error)
{
	switch (error) {
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
		return log_errno(LOG_LEVEL_ERROR, error,
			"cannot open %s (load it with `modprobe tun`, or pass it into the "
			"container with `--device %s`)",
			TUN_PATH, TUN_PATH);
	case -EACCES:
	case -EPERM:
		return log_errno(LOG_LEVEL_ERROR, error,
			"cannot open %s (this user must be allowed to read and write it; a "
			"container needs `--device %s`)",
			TUN_PATH, TUN_PATH);
	default:
		return log_errno(LOG_LEVEL_ERROR, error, "cannot open %s", TUN_PATH);
	}
}

static int attach(int fd, const char *name, bool vnet_hdr)
{
	struct ifreq request = {
		.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | (vnet_hdr ? IFF_VNET_HDR : 0)),
	};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	return ioctl(fd, TUNSETIFF, &request) < 0 ? -errno : 0;
}

/* A predecessor's tap keeps its name for some ms after its end, and nothing tells when that is
 * over; containers that are restarted get their new helper just then. */
static int attach_when_free(int fd, const char *name, bool vnet_hdr)
{
	int64_t until_ns = clock_now_ns() + BUSY_NS;
	int r;

	while ((r = attach(fd, name, vnet_hdr)) == -EBUSY && clock_now_ns() < until_ns)
		poll(NULL, 0, BUSY_RETRY_MS);
	return r;
}

static int log_not_attached(int error, const char *name)
{
	if (error == -EINVAL)
		return log_errno(LOG_LEVEL_ERROR, error,
			"cannot attach to %s (it is no tap, or one with several queues)", name);
	return log_errno(LOG_LEVEL_ERROR, error, "cannot attach to the tap %s", name);
}

/* The size that the kernel did not let us choose is asked. */
static int set_vnet_header(int fd, uint8_t *ret_len)
{
	int len = VNET_LEN_LONG, little_endian = 1;

	if (ioctl(fd, TUNSETVNETLE, &little_endian) < 0)
		return -errno;
	if (ioctl(fd, TUNSETVNETHDRSZ, &len) < 0 && ioctl(fd, TUNGETVNETHDRSZ, &len) < 0)
		return -errno;
	if (len != VNET_LEN_SHORT && len != VNET_LEN_LONG)
		return -EOPNOTSUPP;
	*ret_len = (uint8_t)len;
	return 0;
}

/* What the kernel's rules leave: no TSO and no USO without CSUM, no TSO_ECN without TSO, USO for
 * both families or none. */
static uint32_t consistent(uint32_t offloads)
{
	if (!(offloads & TUN_F_CSUM))
		return 0;
	if (!(offloads & (TUN_F_TSO4 | TUN_F_TSO6)))
		offloads &= ~(uint32_t)TUN_F_TSO_ECN;
	return (offloads & TAPDEV_USO) == TAPDEV_USO ? offloads : offloads & ~(uint32_t)TAPDEV_USO;
}

uint32_t tapdev_offloads(struct feature_set disabled)
{
	uint32_t offloads = 0;

	for (size_t i = 0; i < ARRAY_SIZE(offload_table); i++)
		if (!feature_in(disabled, offload_table[i].feature))
			offloads |= offload_table[i].offload;
	return consistent(offloads);
}

/* All are refused for one that the kernel does not know. */
static int set_offloads(int fd, uint32_t wanted, uint32_t *ret_offloads)
{
	wanted = consistent(wanted);
	for (size_t i = 0; ioctl(fd, TUNSETOFFLOAD, (unsigned long)wanted) < 0; i++) {
		if (errno != EINVAL || i == ARRAY_SIZE(offload_table))
			return -errno;
		wanted = consistent(wanted & ~offload_table[i].offload);
	}
	*ret_offloads = wanted;
	return 0;
}

static uint32_t ask_queue_len(const char *name)
{
	cleanup_fd int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {0};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (sock < 0 || ioctl(sock, SIOCGIFTXQLEN, &request) < 0) {
		log_errno(LOG_LEVEL_DEBUG, -errno, "cannot ask the queue length of %s", name);
		return TAPDEV_QUEUE_LEN_DEFAULT;
	}
	return (uint32_t)MAX(request.ifr_qlen, 1);
}

/* A tap that is not persistent was made by this attachment: there cannot be another one. */
static uint32_t set_up_queue(int fd, const char *name)
{
	struct ifreq request = {0};
	int r = ioctl(fd, TUNGETIFF, &request) < 0 ? -errno : 0;

	if (r == 0 && !(request.ifr_flags & IFF_PERSIST))
		r = netconf_set_queue_len(name, TAPDEV_QUEUE_LEN);
	if (r < 0)
		log_errno(LOG_LEVEL_DEBUG, r, "cannot set the queue length of %s", name);
	return ask_queue_len(name);
}

static void log_tap(const char *name, const struct tapdev *tap)
{
	log_debug("%s: header of %u bytes, offloads %#x, room for %u frames", name, tap->vnet_len,
		tap->offloads, tap->queue_len);
}

int tapdev_open(struct tapdev *tap, const char *name, bool vnet_hdr, uint32_t offloads)
{
	cleanup_fd int fd = open(TUN_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	uint8_t vnet_len = 0;
	int r;

	if (fd < 0)
		return log_no_tun(-errno);
	r = attach_when_free(fd, name, vnet_hdr);
	if (r == -EINVAL && vnet_hdr) {
		vnet_hdr = false;
		r = attach_when_free(fd, name, vnet_hdr);
	}
	if (r < 0)
		return log_not_attached(r, name);
	r = vnet_hdr ? set_vnet_header(fd, &vnet_len) : 0;
	if (r == 0)
		r = set_offloads(fd, vnet_len ? offloads : 0, &offloads);
	if (r < 0)
		return log_errno(LOG_LEVEL_ERROR, r, "cannot set up the tap %s", name);
	*tap = (struct tapdev){.vnet_len = vnet_len, .offloads = offloads};
	tap->queue_len = set_up_queue(fd, name);
	tap->fd = fd_take(&fd);
	log_tap(name, tap);
	return 0;
}

/* TUNGETIFF reports IFF_NO_PI, but also IFF_NOFILTER, which is the same bit, while no filter is
 * attached: so one that passes everything is attached for the question. Where that is refused we
 * believe the caller. */
static bool has_packet_info(int fd)
{
	struct sock_filter pass = BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	struct sock_fprog program = {.len = 1, .filter = &pass};
	struct ifreq request = {0};
	bool known;

	if (ioctl(fd, TUNATTACHFILTER, &program) < 0)
		return false;
	known = ioctl(fd, TUNGETIFF, &request) == 0;
	ioctl(fd, TUNDETACHFILTER, NULL);
	return known && !(request.ifr_flags & IFF_NO_PI);
}

static int check_flags(int fd, const struct ifreq *request)
{
	if (!(request->ifr_flags & IFF_TAP))
		return log_errno(
			LOG_LEVEL_ERROR, -EINVAL, "the descriptor %d is a tun, no tap", fd);
	if (has_packet_info(fd))
		return log_errno(LOG_LEVEL_ERROR, -EINVAL,
			"the tap of descriptor %d has packet-info headers", fd);
	return 0;
}

static int ask_vnet_len(int fd, const struct ifreq *request, uint8_t *ret_len)
{
	int len = 0, little_endian = 1;

	if (request->ifr_flags & IFF_VNET_HDR && ioctl(fd, TUNGETVNETHDRSZ, &len) < 0)
		return log_errno(
			LOG_LEVEL_ERROR, -errno, "cannot ask the header size of descriptor %d", fd);
	if (len != 0 && len != VNET_LEN_SHORT && len != VNET_LEN_LONG)
		return log_errno(LOG_LEVEL_ERROR, -EOPNOTSUPP,
			"the tap of descriptor %d has headers of %d bytes", fd, len);
	if (len != 0 && ioctl(fd, TUNSETVNETLE, &little_endian) < 0)
		return log_errno(LOG_LEVEL_ERROR, -errno,
			"cannot set the header's byte order of descriptor %d", fd);
	*ret_len = (uint8_t)len;
	return 0;
}

/* Its namespace is the caller's, and TUNGETIFF tells no queue length. */
int tapdev_adopt(struct tapdev *tap, int fd, uint32_t offloads)
{
	struct ifreq request = {0};
	uint8_t vnet_len = 0;
	int r;

	/* EBADFD: of /dev/net/tun, but attached to nothing; ENOTTY: of something else. */
	if (ioctl(fd, TUNGETIFF, &request) < 0)
		return log_errno(
			LOG_LEVEL_ERROR, -errno, "the descriptor %d is no attached tap", fd);
	if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return log_errno(LOG_LEVEL_ERROR, -EBADF,
			"the tap of descriptor %d is not open for reading and writing", fd);
	r = check_flags(fd, &request);
	if (r == 0)
		r = ask_vnet_len(fd, &request, &vnet_len);
	if (r < 0)
		return r;
	r = set_offloads(fd, vnet_len ? offloads : 0, &offloads);
	if (r == 0)
		r = fd_set_nonblocking(fd);
	if (r == 0)
		r = fd_set_cloexec(fd);
	if (r < 0)
		return log_errno(LOG_LEVEL_ERROR, r, "cannot set up the tap of descriptor %d", fd);
	*tap = (struct tapdev){
		.fd = fd,
		.vnet_len = vnet_len,
		.offloads = offloads,
		.queue_len = TAPDEV_QUEUE_LEN_DEFAULT,
	};
	log_tap(request.ifr_name, tap);
	return 0;
}
