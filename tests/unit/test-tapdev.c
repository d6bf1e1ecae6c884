/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <seccomp.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/util.h"
#include "setup/netconf.h"
#include "setup/tapdev.h"
#include "tests/support/container.h"

static struct ifreq named(const char *name)
{
	struct ifreq request = {0};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	return request;
}

static int try_ioctl(unsigned long what, struct ifreq *request)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r = ioctl(sock, what, request) < 0 ? -errno : 0;

	close(sock);
	return r;
}

static struct ifreq ask(const char *name, unsigned long what)
{
	struct ifreq request = named(name);

	g_assert_cmpint(try_ioctl(what, &request), ==, 0);
	return request;
}

static void tell(unsigned long what, struct ifreq request)
{
	g_assert_cmpint(try_ioctl(what, &request), ==, 0);
}

#define ALL_TSO      (TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)
#define OLD_OFFLOADS (TUN_F_CSUM | ALL_TSO)
#define ALL_OFFLOADS (OLD_OFFLOADS | TAPDEV_USO)

/* What this kernel takes of all of them. */
static uint32_t known_offloads(void)
{
	const char *why;
	char buf[128];

	return feature_probe(FEATURE_USO, buf, sizeof(buf), &why) ? ALL_OFFLOADS : OLD_OFFLOADS;
}

static void ask_ethtool(const char *name, void *command)
{
	struct ifreq request = named(name);

	request.ifr_data = command;
	g_assert_cmpint(try_ioctl(SIOCETHTOOL, &request), ==, 0);
}

/* What TUNSETOFFLOAD has switched on, as the network stack sees it: nobody else knows. The numbers
 * of the features differ between kernels, their names do not. */
static uint32_t offloads_of(const char *name)
{
	static const struct {
		const char *feature;
		uint32_t offload;
	} rows[] = {
		{"tx-checksum-ip-generic", TUN_F_CSUM},
		{"tx-tcp-segmentation", TUN_F_TSO4},
		{"tx-tcp6-segmentation", TUN_F_TSO6},
		{"tx-tcp-ecn-segmentation", TUN_F_TSO_ECN},
		{"tx-udp-segmentation", TAPDEV_USO},
	};
	static uint32_t buf[(sizeof(struct ethtool_gstrings) + 256 * ETH_GSTRING_LEN) / 4];
	static uint32_t buf_features[64];
	struct ethtool_gstrings *names = (void *)buf;
	struct ethtool_gfeatures *features = (void *)buf_features;
	uint32_t found = 0;

	*names = (struct ethtool_gstrings){ETHTOOL_GSTRINGS, .string_set = ETH_SS_FEATURES};
	ask_ethtool(name, names);
	*features = (struct ethtool_gfeatures){ETHTOOL_GFEATURES, .size = 8};
	ask_ethtool(name, features);
	for (uint32_t i = 0; i < names->len; i++)
		for (size_t row = 0; row < ARRAY_SIZE(rows); row++)
			if (!strcmp((char *)names->data + (size_t)i * ETH_GSTRING_LEN,
				    rows[row].feature) &&
				features->features[i / 32].active & UINT32_C(1) << i % 32)
				found |= rows[row].offload;
	return found;
}

static int open_raw(const char *name, int flags)
{
	struct ifreq request = named(name);
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	request.ifr_flags = (short)flags;
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(ioctl(fd, TUNSETIFF, &request), ==, 0);
	return fd;
}

static void assert_exists(const char *name, bool exists)
{
	struct ifreq request = named(name);

	g_assert_cmpint(try_ioctl(SIOCGIFFLAGS, &request), ==, exists ? 0 : -ENODEV);
}

static void assert_open_fails(const char *name, int error, const char *line)
{
	struct capture capture;
	struct tapdev tap;
	int n_fds = count_fds();

	capture = capture_begin();
	g_assert_cmpint(tapdev_open(&tap, name, true, ALL_OFFLOADS), ==, error);
	assert_captured(&capture, line);
	g_assert_cmpint(count_fds(), ==, n_fds);
}

static void make(void *arg)
{
	struct tapdev tap;
	struct ifreq request;
	int len = 0, little_endian = 0;

	g_assert_cmpint(tapdev_open(&tap, "tap0", true, 0), ==, 0);
	g_assert_cmpint(tap.vnet_len, ==, 12);
	g_assert_cmphex(tap.offloads, ==, 0);
	g_assert_cmphex(offloads_of("tap0"), ==, 0);
	g_assert_cmpint(ioctl(tap.fd, TUNGETVNETHDRSZ, &len), ==, 0);
	g_assert_cmpint(len, ==, 12);
	g_assert_cmpint(ioctl(tap.fd, TUNGETVNETLE, &little_endian), ==, 0);
	g_assert_cmpint(little_endian, ==, 1);
	g_assert_true(fcntl(tap.fd, F_GETFL) & O_NONBLOCK);
	g_assert_true(fcntl(tap.fd, F_GETFD) & FD_CLOEXEC);
	g_assert_cmpint(ioctl(tap.fd, TUNGETIFF, &request), ==, 0);
	g_assert_cmpint(request.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR), ==,
		IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	g_assert_false(request.ifr_flags & (IFF_PERSIST | IFF_MULTI_QUEUE));
	assert_open_fails("tap0", -EBUSY,
		"netns-helper: cannot attach to the tap tap0: Device or resource busy\n");
	close(tap.fd);
	assert_exists("tap0", false);

	g_assert_cmpint(tapdev_open(&tap, "tap0", false, ALL_OFFLOADS), ==, 0);
	g_assert_cmpint(tap.vnet_len, ==, 0);
	g_assert_cmphex(tap.offloads, ==, 0);
	g_assert_cmphex(offloads_of("tap0"), ==, 0);
	g_assert_cmpint(ioctl(tap.fd, TUNGETIFF, &request), ==, 0);
	g_assert_false(request.ifr_flags & IFF_VNET_HDR);
	close(tap.fd);
}

static void test_offloads_wanted(void)
{
	static const struct {
		const char *disabled;
		uint32_t offloads;
	} rows[] = {
		{"pidfd", ALL_OFFLOADS},
		{"uso", OLD_OFFLOADS},
		{"tso-ecn", ALL_OFFLOADS & ~TUN_F_TSO_ECN},
		{"tso6", ALL_OFFLOADS & ~TUN_F_TSO6},
		{"tso4", ALL_OFFLOADS & ~TUN_F_TSO4},
		{"tso4,tso6", TUN_F_CSUM | TAPDEV_USO},
		{"tso4,tso6,uso", TUN_F_CSUM},
		{"csum", 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct feature_set disabled = {0};
		const char *bad;
		size_t len;

		g_assert_cmpint(features_parse(rows[i].disabled, &disabled, &bad, &len), ==, 0);
		g_assert_cmphex(tapdev_offloads(disabled), ==, rows[i].offloads);
	}
}

/* Every set, whether or not the kernel would take it. */
static void switch_offloads(void *arg)
{
	uint32_t known = known_offloads();
	struct tapdev tap;

	for (uint32_t wanted = 0; wanted <= ALL_OFFLOADS; wanted++) {
		uint32_t expected = wanted & TUN_F_CSUM ? wanted & known : 0;

		if (wanted & TUN_F_UFO)
			continue;
		if ((wanted & TAPDEV_USO) != TAPDEV_USO)
			expected &= ~(uint32_t)TAPDEV_USO;

		if (!(wanted & (TUN_F_TSO4 | TUN_F_TSO6)))
			expected &= ~(uint32_t)TUN_F_TSO_ECN;
		g_assert_cmpint(tapdev_open(&tap, "tap0", true, wanted), ==, 0);
		g_assert_cmphex(tap.offloads, ==, expected);
		g_assert_cmphex(offloads_of("tap0"), ==, expected);
		close(tap.fd);
	}
}

static void load(scmp_filter_ctx filter)
{
	if (seccomp_load(filter) < 0)
		_exit(EXIT_SKIP);
	seccomp_release(filter);
}

/* A kernel that does not know the offloads of `unknown`; filters add up. */
static void forget_offloads(uint32_t unknown)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(ioctl), 2,
		SCMP_A1(SCMP_CMP_EQ, TUNSETOFFLOAD), SCMP_A2(SCMP_CMP_MASKED_EQ, unknown, unknown));
	load(filter);
}

static void fall_back(void *arg)
{
	static const struct {
		uint32_t unknown, left;
	} rows[] = {
		{TAPDEV_USO, OLD_OFFLOADS},
		{TUN_F_TSO_ECN, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6},
		{TUN_F_TSO6, TUN_F_CSUM | TUN_F_TSO4},
		{TUN_F_TSO4, TUN_F_CSUM},
		{TUN_F_CSUM, 0},
	};
	struct tapdev tap;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		forget_offloads(rows[i].unknown);
		g_assert_cmpint(tapdev_open(&tap, "tap0", true, ALL_OFFLOADS), ==, 0);
		g_assert_cmphex(tap.offloads, ==, rows[i].left);
		g_assert_cmphex(offloads_of("tap0"), ==, rows[i].left);
		close(tap.fd);
	}
}

static void no_offload_at_all(void *arg)
{
	forget_offloads(0);
	assert_open_fails(
		"tap0", -EINVAL, "netns-helper: cannot set up the tap tap0: Invalid argument\n");
}

static void send_frame(int sock, int ifindex)
{
	static const uint8_t frame[60] = {[0] = 2, [6] = 2, [12] = 0x88, [13] = 0xb5};
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = ifindex, .sll_halen = 6};

	g_assert_cmpint(
		sendto(sock, frame, sizeof(frame), 0, (void *)&to, sizeof(to)), ==, sizeof(frame));
}

/* As many frames as it says wait for us, and the next ones are lost. */
static void hold_a_window(void *arg)
{
	int sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	struct ifreq request = named("tap0");
	uint32_t n = 0;
	struct tapdev tap;
	uint8_t frame[2048];

	g_assert_cmpint(tapdev_open(&tap, "tap0", true, 0), ==, 0);
	g_assert_cmpuint(tap.queue_len, ==, TAPDEV_QUEUE_LEN);
	g_assert_cmpint(ask("tap0", SIOCGIFTXQLEN).ifr_qlen, ==, TAPDEV_QUEUE_LEN);
	request.ifr_flags = IFF_UP;
	tell(SIOCSIFFLAGS, request);
	for (uint32_t i = 0; i < tap.queue_len + 100; i++)
		send_frame(sock, (int)if_nametoindex("tap0"));
	while (read(tap.fd, frame, sizeof(frame)) > 0)
		n++;
	g_assert_cmpuint(n, ==, tap.queue_len);
	close(sock);
	close(tap.fd);
}

/* What the kernel has is used and told. (socketcall(2) of i386 cannot be refused by family.) */
static void no_rtnetlink(void *arg)
{
#ifdef __i386__
	return;
#endif
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	struct capture capture = capture_begin();
	struct tapdev tap;

	seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
		SCMP_A0(SCMP_CMP_EQ, AF_NETLINK));
	load(filter);
	log_init("netns-helper", LOG_LEVEL_DEBUG);
	g_assert_cmpint(tapdev_open(&tap, "tap0", false, 0), ==, 0);
	assert_captured(&capture,
		"netns-helper: cannot set the queue length of tap0: Operation not permitted\n"
		"netns-helper: tap0: header of 0 bytes, offloads 0, room for 1000 frames\n");
	g_assert_cmpuint(tap.queue_len, ==, 1000);
	close(tap.fd);
}

static void set_up_foreign(const char *name)
{
	struct ifreq request = named(name);

	request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(request.ifr_hwaddr.sa_data, "\x02\xaa\xbb\xcc\xdd\xee", 6);
	tell(SIOCSIFHWADDR, request);
	request = named(name);
	request.ifr_mtu = 4321;
	tell(SIOCSIFMTU, request);
	g_assert_cmpint(netconf_set_queue_len(name, 77), ==, 0);
	request = named(name);
	request.ifr_flags = IFF_UP | IFF_NOARP | IFF_BROADCAST;
	tell(SIOCSIFFLAGS, request);
}

static void assert_foreign(const char *name, short flags)
{
	struct ifreq request = ask(name, SIOCGIFHWADDR);

	g_assert_cmpmem(request.ifr_hwaddr.sa_data, 6, "\x02\xaa\xbb\xcc\xdd\xee", 6);
	request = ask(name, SIOCGIFMTU);
	g_assert_cmpint(request.ifr_mtu, ==, 4321);
	request = ask(name, SIOCGIFTXQLEN);
	g_assert_cmpint(request.ifr_qlen, ==, 77);
	request = ask(name, SIOCGIFFLAGS);
	g_assert_cmpint(request.ifr_flags & ~IFF_RUNNING, ==, flags & ~IFF_RUNNING);
}

/* RootlessKit's: persistent, up, and with what a killed predecessor left. */
static void attach_to_persistent(void *arg)
{
	const struct {
		bool vnet_hdr;
		uint32_t wanted, offloads;
	} rounds[] = {
		{true, 0, 0},
		{true, ALL_OFFLOADS, known_offloads()},
		{true, TUN_F_CSUM, TUN_F_CSUM},
		{true, ALL_OFFLOADS, known_offloads()},
		{false, ALL_OFFLOADS, 0},
	};
	int fd = open_raw("tap7", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR), len = 10;
	struct tapdev tap;
	short flags;

	g_assert_cmpint(ioctl(fd, TUNSETPERSIST, 1UL), ==, 0);
	g_assert_cmpint(ioctl(fd, TUNSETVNETHDRSZ, &len), ==, 0);
	g_assert_cmpint(ioctl(fd, TUNSETOFFLOAD, (unsigned long)(TUN_F_CSUM | TUN_F_TSO4)), ==, 0);
	set_up_foreign("tap7");
	close(fd);
	flags = ask("tap7", SIOCGIFFLAGS).ifr_flags;
	g_assert_cmphex(offloads_of("tap7"), ==, TUN_F_CSUM | TUN_F_TSO4);

	for (size_t i = 0; i < ARRAY_SIZE(rounds); i++) {
		g_assert_cmpint(
			tapdev_open(&tap, "tap7", rounds[i].vnet_hdr, rounds[i].wanted), ==, 0);
		g_assert_cmpint(tap.vnet_len, ==, rounds[i].vnet_hdr ? 12 : 0);
		g_assert_cmphex(tap.offloads, ==, rounds[i].offloads);
		g_assert_cmphex(offloads_of("tap7"), ==, rounds[i].offloads);
		g_assert_cmpuint(tap.queue_len, ==, 77);
		assert_foreign("tap7", flags);
		close(tap.fd);
		assert_exists("tap7", true);
		assert_foreign("tap7", flags);
	}
}

static void refuse(void *arg)
{
	int fd;

	fd = open_raw("many", IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE);
	assert_open_fails("many", -EINVAL,
		"netns-helper: cannot attach to many (it is no tap, or one with several queues): "
		"Invalid argument\n");
	close(fd);
	fd = open_raw("tun0", IFF_TUN | IFF_NO_PI);
	assert_open_fails("tun0", -EINVAL,
		"netns-helper: cannot attach to tun0 (it is no tap, or one with several queues): "
		"Invalid argument\n");
	close(fd);
	assert_open_fails("lo", -EINVAL,
		"netns-helper: cannot attach to lo (it is no tap, or one with several queues): "
		"Invalid argument\n");
}

/* One frame of the container, behind its header: a datagram to an address without neighbour asks
 * by ARP. */
static void carry_frames(void *arg)
{
	static const uint8_t zeros[12];
	struct tapdev tap;
	struct ifreq request = named("tap0");
	struct sockaddr_in *address = (struct sockaddr_in *)(void *)&request.ifr_addr;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
	struct pollfd p = {.events = POLLIN};
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint8_t frame[2048];

	g_assert_cmpint(tapdev_open(&tap, "tap0", true, 0), ==, 0);
	*address = (struct sockaddr_in){.sin_family = AF_INET};
	address->sin_addr.s_addr = htonl(0x0a000264);
	tell(SIOCSIFADDR, request);
	request = named("tap0");
	request.ifr_flags = IFF_UP;
	tell(SIOCSIFFLAGS, request);
	to.sin_addr.s_addr = htonl(0x0a000202);
	g_assert_cmpint(sendto(sock, "x", 1, 0, (void *)&to, sizeof(to)), ==, 1);
	p.fd = tap.fd;
	do {
		g_assert_cmpint(poll(&p, 1, -1), ==, 1);
		g_assert_cmpint(read(tap.fd, frame, sizeof(frame)), >=, 12 + 42);
		g_assert_cmpmem(frame, 10, zeros, 10);
	} while (memcmp(frame + 12 + 12, "\x08\x06", 2) != 0);
	g_assert_cmpmem(frame + 12 + 38, 4, "\x0a\x00\x02\x02", 4);
	close(sock);
	close(tap.fd);
}

static void assert_adopt_fails(int fd, int error, const char *format)
{
	g_autofree char *line = NULL;
	struct capture capture = capture_begin();
	struct tapdev tap;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	line = g_strdup_printf(format, fd);
#pragma GCC diagnostic pop
	g_assert_cmpint(tapdev_adopt(&tap, fd, ALL_OFFLOADS), ==, error);
	assert_captured(&capture, line);
	if (error != -EBADF)
		g_assert_cmpint(close(fd), ==, 0);
}

static void adopt(void *arg)
{
	struct tapdev tap;
	int fd = open_raw("tap0", IFF_TAP | IFF_NO_PI), len = 10, little_endian = 0;

	fcntl(fd, F_SETFD, 0);
	g_assert_cmpint(ioctl(fd, TUNSETOFFLOAD, (unsigned long)(TUN_F_CSUM | TUN_F_TSO4)), ==, 0);
	g_assert_cmphex(offloads_of("tap0"), ==, TUN_F_CSUM | TUN_F_TSO4);
	g_assert_cmpint(tapdev_adopt(&tap, fd, ALL_OFFLOADS), ==, 0);
	g_assert_cmpint(tap.fd, ==, fd);
	g_assert_cmpint(tap.vnet_len, ==, 0);
	g_assert_cmphex(tap.offloads, ==, 0);
	g_assert_cmphex(offloads_of("tap0"), ==, 0);
	g_assert_cmpuint(tap.queue_len, ==, 1000);
	g_assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	g_assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);

	fd = open_raw("tap0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	g_assert_cmpint(ioctl(fd, TUNSETVNETHDRSZ, &len), ==, 0);
	for (uint32_t wanted = known_offloads();; wanted = 0) {
		g_assert_cmpint(tapdev_adopt(&tap, fd, wanted), ==, 0);
		g_assert_cmpint(tap.vnet_len, ==, 10);
		g_assert_cmphex(tap.offloads, ==, wanted);
		g_assert_cmphex(offloads_of("tap0"), ==, wanted);
		if (wanted == 0)
			break;
	}
	g_assert_cmpint(ioctl(fd, TUNGETVNETLE, &little_endian), ==, 0);
	g_assert_cmpint(little_endian, ==, 1);
	close(fd);
}

static void adopt_fails(void *arg)
{
	int fd, len = 64, pipe_fds[2];

	assert_adopt_fails(1000, -EBADF,
		"netns-helper: the descriptor %d is no attached tap: Bad file descriptor\n");
	g_assert_cmpint(pipe2(pipe_fds, O_CLOEXEC), ==, 0);
	assert_adopt_fails(pipe_fds[0], -ENOTTY,
		"netns-helper: the descriptor %d is no attached tap: Inappropriate ioctl for "
		"device\n");
	close(pipe_fds[1]);
	assert_adopt_fails(open("/dev/net/tun", O_RDWR | O_CLOEXEC), -EBADFD,
		"netns-helper: the descriptor %d is no attached tap: File descriptor in bad "
		"state\n");
	assert_adopt_fails(open_raw("tun0", IFF_TUN | IFF_NO_PI), -EINVAL,
		"netns-helper: the descriptor %d is a tun, no tap: Invalid argument\n");
#if __SIZEOF_POINTER__ == 8 /* a 32-bit program cannot ask a 64-bit kernel */
	assert_adopt_fails(open_raw("tap1", IFF_TAP), -EINVAL,
		"netns-helper: the tap of descriptor %d has packet-info headers: Invalid "
		"argument\n");
#endif
	fd = open_raw("tap2", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	g_assert_cmpint(ioctl(fd, TUNSETVNETHDRSZ, &len), ==, 0);
	assert_adopt_fails(fd, -EOPNOTSUPP,
		"netns-helper: the tap of descriptor %d has headers of 64 bytes: Operation not "
		"supported\n");
}

/* In a /dev/net of our own. */
static void no_device(void *arg)
{
	cap_t none = cap_init();
	int fd;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", "/dev/net", "tmpfs", 0, NULL) < 0)
		_exit(EXIT_SKIP);
	assert_open_fails("tap0", -ENOENT,
		"netns-helper: cannot open /dev/net/tun (load it with `modprobe tun`, or pass it "
		"into the container with `--device /dev/net/tun`): No such file or directory\n");
	fd = open("/dev/net/tun", O_CREAT | O_WRONLY | O_CLOEXEC, 0);
	g_assert_cmpint(fd, >=, 0);
	close(fd);
	g_assert_cmpint(cap_set_proc(none), ==, 0);
	cap_free(none);
	assert_open_fails("tap0", -EACCES,
		"netns-helper: cannot open /dev/net/tun (this user must be allowed to read and "
		"write it; a container needs `--device /dev/net/tun`): Permission denied\n");
}

static void no_permission(void *arg)
{
	cap_t none = cap_init();

	g_assert_cmpint(cap_set_proc(none), ==, 0);
	cap_free(none);
	assert_open_fails("tap0", -EPERM,
		"netns-helper: cannot attach to the tap tap0: Operation not permitted\n");
}

int main(int argc, char **argv)
{
	static const struct container_test tests[] = {
		{"/tapdev/make", make},
		{"/tapdev/switch-offloads", switch_offloads},
		{"/tapdev/fall-back", fall_back},
		{"/tapdev/no-offload-at-all", no_offload_at_all},
		{"/tapdev/hold-a-window", hold_a_window},
		{"/tapdev/no-rtnetlink", no_rtnetlink},
		{"/tapdev/attach-to-persistent", attach_to_persistent},
		{"/tapdev/refuse", refuse},
		{"/tapdev/carry-frames", carry_frames},
		{"/tapdev/adopt", adopt},
		{"/tapdev/adopt-fails", adopt_fails},
		{"/tapdev/no-device", no_device},
		{"/tapdev/no-permission", no_permission},
	};

	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/tapdev/offloads-wanted", test_offloads_wanted);
	container_tests_add(tests, ARRAY_SIZE(tests));
	return g_test_run();
}
