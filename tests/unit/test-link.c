/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tap link over a packet socket, which reads and writes whole frames as a tap does. The real
 * device is in test-tapdev and in the system tests.
 */
#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "link/tap.h"

struct fixture {
	struct tap_link tap;
	int peer;
	uint8_t buf[LINK_BUFFER_LEN];
};

static void set_up(struct fixture *f, gconstpointer vnet_len)
{
	int pair[2];

	g_assert_cmpint(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), ==, 0);
	f->peer = pair[1];
	if (vnet_len)
		tap_link_init(&f->tap, pair[0], (uint8_t)GPOINTER_TO_INT(vnet_len));
	else
		tap_link_init_socket(&f->tap, pair[0]);
}

static void tear_down(struct fixture *f, gconstpointer unused)
{
	f->tap.link.ops->close(&f->tap.link);
	g_assert_cmpint(f->tap.link.fd, ==, -1);
	close(f->peer);
}

static ssize_t receive(struct fixture *f)
{
	return f->tap.link.ops->recv(&f->tap.link, f->buf);
}

static int transmit(struct fixture *f, const struct iovec *iov, int n)
{
	return f->tap.link.ops->send(&f->tap.link, iov, n);
}

/* Whatever the device's header length, the frame stands behind LINK_HEADER_LEN bytes. */
static void test_recv(struct fixture *f, gconstpointer vnet_len)
{
	uint8_t packet[12 + 60];
	size_t header = (size_t)GPOINTER_TO_INT(vnet_len);

	for (size_t i = 0; i < sizeof(packet); i++)
		packet[i] = (uint8_t)(i + 1);
	memset(f->buf, 0xee, sizeof(f->buf));
	g_assert_cmpint(receive(f), ==, -EAGAIN);
	g_assert_cmpint(send(f->peer, packet, header + 60, 0), ==, (ssize_t)(header + 60));
	g_assert_cmpint(receive(f), ==, 60);
	g_assert_cmpmem(f->buf, header, packet, header);
	for (size_t i = header; i < LINK_HEADER_LEN; i++)
		g_assert_cmpuint(f->buf[i], ==, 0);
	g_assert_cmpmem(f->buf + LINK_HEADER_LEN, 60, packet + header, 60);
	g_assert_cmpint(receive(f), ==, -EAGAIN);
}

static void test_send(struct fixture *f, gconstpointer vnet_len)
{
	size_t header = (size_t)GPOINTER_TO_INT(vnet_len);
	uint8_t front[LINK_HEADER_LEN + 3] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 'a', 'b', 'c'};
	uint8_t rest[] = {'d', 'e'}, got[64];
	const struct iovec iov[2] = {{front, sizeof(front)}, {rest, sizeof(rest)}};

	g_assert_cmpint(transmit(f, iov, 2), ==, 0);
	g_assert_cmpint(recv(f->peer, got, sizeof(got), 0), ==, (ssize_t)(header + 5));
	g_assert_cmpmem(got, header, front, header);
	g_assert_cmpmem(got + header, 5, "abcde", 5);
}

static void test_largest_frame(struct fixture *f, gconstpointer vnet_len)
{
	g_autofree uint8_t *packet = g_malloc0(LINK_FRAME_MAX + 12);
	size_t header = (size_t)GPOINTER_TO_INT(vnet_len);

	packet[header + LINK_FRAME_MAX - 1] = 0x5a;
	g_assert_cmpint(send(f->peer, packet, header + LINK_FRAME_MAX, 0), ==,
		(ssize_t)(header + LINK_FRAME_MAX));
	g_assert_cmpint(receive(f), ==, LINK_FRAME_MAX);
	g_assert_cmpuint(f->buf[LINK_BUFFER_LEN - 1], ==, 0x5a);
}

static void test_peer_closes(struct fixture *f, gconstpointer unused)
{
	uint8_t frame[LINK_HEADER_LEN + 14] = {0};
	const struct iovec iov = {frame, sizeof(frame)};

	g_assert_cmpint(send(f->peer, "", 0, 0), ==, 0);
	g_assert_cmpint(receive(f), ==, 0);
	shutdown(f->peer, SHUT_RDWR);
	g_assert_cmpint(receive(f), ==, -ENODEV);
	g_assert_cmpint(transmit(f, &iov, 1), ==, -ENODEV);
}

static void test_full(struct fixture *f, gconstpointer unused)
{
	uint8_t frame[LINK_HEADER_LEN + 1500] = {0};
	const struct iovec iov = {frame, sizeof(frame)};
	int r, n = 0;

	while ((r = transmit(f, &iov, 1)) == 0)
		n++;
	g_assert_cmpint(r, ==, -EAGAIN);
	g_assert_cmpint(n, >, 0);
}

static void test_bad_iov(struct fixture *f, gconstpointer unused)
{
	uint8_t frame[LINK_HEADER_LEN] = {0};
	struct iovec iov[LINK_PIECES_MAX + 1] = {{frame, LINK_HEADER_LEN - 1}};

	g_assert_cmpint(transmit(f, iov, 1), ==, -EINVAL);
	iov[0].iov_len = LINK_HEADER_LEN;
	g_assert_cmpint(transmit(f, iov, ARRAY_SIZE(iov)), ==, -EINVAL);
}

#define ADD(name, vnet_len, fn) \
	g_test_add("/link/" name, struct fixture, GINT_TO_POINTER(vnet_len), set_up, fn, tear_down)

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	g_test_init(&argc, &argv, NULL);
	ADD("recv-without-header", 0, test_recv);
	ADD("recv-header-10", 10, test_recv);
	ADD("recv-header-12", 12, test_recv);
	ADD("send-without-header", 0, test_send);
	ADD("send-header-10", 10, test_send);
	ADD("send-header-12", 12, test_send);
	ADD("largest-frame", 0, test_largest_frame);
	ADD("largest-frame-with-header", 12, test_largest_frame);
	ADD("peer-closes", 0, test_peer_closes);
	ADD("full", 0, test_full);
	ADD("bad-iov", 0, test_bad_iov);
	return g_test_run();
}
