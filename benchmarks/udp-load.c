/* SPDX-License-Identifier: Apache-2.0 */
#include "udp-load.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "load.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
	NUMBER_BITS = 40,
	RECEIVE_BUFFER = 4 << 20,
	ROOM = 65536, /* of a run; a single datagram touches its beginning only */
	PACE_NS = 100000,
};

struct outbox {
	struct mmsghdr messages[UDP_BATCH];
	struct iovec iov[UDP_BATCH];
	char control[CMSG_SPACE(sizeof(uint16_t))];
	uint32_t per_message; /* datagrams */
	uint32_t stride;
	char data[UDP_BATCH * ROOM];
};

struct inbox {
	struct mmsghdr messages[UDP_BATCH];
	struct iovec iov[UDP_BATCH];
	struct sockaddr_storage from[UDP_BATCH];
	char control[UDP_BATCH][CMSG_SPACE(sizeof(int))];
	char data[UDP_BATCH][ROOM];
};

static void say_segment(struct outbox *o, uint16_t size)
{
	struct cmsghdr *header = (struct cmsghdr *)o->control;

	header->cmsg_level = SOL_UDP;
	header->cmsg_type = UDP_SEGMENT;
	header->cmsg_len = CMSG_LEN(sizeof(size));
	memcpy(CMSG_DATA(header), &size, sizeof(size));
}

static struct outbox *outbox_new(const struct flood *flood, struct sockaddr *to, socklen_t to_len)
{
	struct outbox *o = calloc(1, sizeof(*o));

	if (!o)
		load_fail("out of memory");
	o->per_message = flood->runs ? UDP_RUN : 1;
	o->stride = o->per_message * flood->size;
	if (flood->runs)
		say_segment(o, (uint16_t)flood->size);
	for (size_t i = 0; i < UDP_BATCH; i++) {
		o->iov[i] = (struct iovec){o->data + i * o->stride, o->stride};
		o->messages[i].msg_hdr = (struct msghdr){.msg_name = to,
			.msg_namelen = to_len,
			.msg_iov = &o->iov[i],
			.msg_iovlen = 1,
			.msg_control = flood->runs ? o->control : NULL,
			.msg_controllen = flood->runs ? sizeof(o->control) : 0};
	}
	return o;
}

static void number(struct outbox *o, const struct flood *flood, uint64_t first, unsigned int n)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t value = flood->session << NUMBER_BITS | (first + i);

		memcpy(o->data + i * flood->size, &value, sizeof(value));
	}
}

/* How many messages are due now. What was missed by more than a batch is not made up for: it would
 * overrun a receiver that keeps up with the rate. */
static unsigned int n_due(const struct flood *flood, int64_t now_ns, int64_t *origin_ns, uint64_t n)
{
	uint64_t due = (uint64_t)((double)(now_ns - *origin_ns) * (double)flood->rate / 1e9);

	if (due <= n)
		return 0;
	if (due - n <= UDP_BATCH)
		return (unsigned int)(due - n);
	*origin_ns = now_ns - (int64_t)((double)n * 1e9 / (double)flood->rate);
	return UDP_BATCH / 2;
}

static void wait_a_little(void)
{
	struct timespec pause = {.tv_nsec = PACE_NS};

	nanosleep(&pause, NULL);
}

uint64_t flood_send(int fd, const struct flood *flood, struct sockaddr *to, socklen_t to_len)
{
	struct outbox *o = outbox_new(flood, to, to_len);
	int64_t origin_ns = load_now_ns(), end_ns = origin_ns + flood->duration_ns, now_ns;
	uint64_t n_sent = 0;

	prctl(PR_SET_TIMERSLACK, 1);
	while ((now_ns = load_now_ns()) < end_ns) {
		unsigned int n = flood->runs ? 1 : UDP_BATCH;
		int r;

		if (flood->rate && (n = n_due(flood, now_ns, &origin_ns, n_sent)) == 0) {
			wait_a_little();
			continue;
		}
		number(o, flood, n_sent, n * o->per_message);
		r = sendmmsg(fd, o->messages, n, 0);
		if (r > 0)
			n_sent += (uint64_t)r * o->per_message;
		else if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR)
			load_fail("sending: %s", strerror(errno));
	}
	free(o);
	return n_sent;
}

struct inbox *inbox_new(void)
{
	struct inbox *inbox = calloc(1, sizeof(*inbox));

	if (!inbox)
		load_fail("out of memory");
	return inbox;
}

/* The length of the datagrams in a message. */
static size_t segment_of(struct msghdr *message, size_t len)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		int segment;

		if (c->cmsg_level != SOL_UDP || c->cmsg_type != UDP_GRO)
			continue;
		memcpy(&segment, CMSG_DATA(c), sizeof(segment));
		return segment > 0 ? (size_t)segment : len;
	}
	return len;
}

static void tally_one(struct tally *tally, const struct flood *flood, const char *data, size_t len,
	int64_t now_ns)
{
	uint64_t value = 0;

	memcpy(&value, data, len < sizeof(value) ? len : sizeof(value));
	if (value >> NUMBER_BITS != flood->session)
		return; /* late, of an earlier flood */
	if (tally->n++ == 0)
		tally->first_ns = now_ns;
	tally->last_ns = now_ns;
	tally->n_wrong += len != flood->size;
}

static bool is_control(const char *data, size_t len, struct udp_control *ret)
{
	if (len != sizeof(*ret))
		return false;
	memcpy(ret, data, sizeof(*ret));
	return ret->magic == UDP_CONTROL_MAGIC;
}

static void inbox_clear(struct inbox *inbox)
{
	for (size_t i = 0; i < UDP_BATCH; i++) {
		inbox->iov[i] = (struct iovec){inbox->data[i], ROOM};
		inbox->messages[i].msg_hdr = (struct msghdr){.msg_name = &inbox->from[i],
			.msg_namelen = sizeof(inbox->from[i]),
			.msg_iov = &inbox->iov[i],
			.msg_iovlen = 1,
			.msg_control = inbox->control[i],
			.msg_controllen = sizeof(inbox->control[i])};
	}
}

bool inbox_receive(struct inbox *inbox, int fd, const struct flood *flood, struct tally *tally,
	struct udp_control *ret_control, struct sockaddr_storage *ret_from, bool *ret_idle)
{
	bool found = false;
	int64_t now_ns;
	int n;

	inbox_clear(inbox);
	n = recvmmsg(fd, inbox->messages, UDP_BATCH, MSG_WAITFORONE, NULL);
	*ret_idle = n < 0 && errno == EAGAIN;
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		load_fail("receiving: %s", strerror(errno));
	now_ns = load_now_ns();
	for (int i = 0; i < n; i++) {
		size_t len = inbox->messages[i].msg_len, segment;

		if (is_control(inbox->data[i], len, ret_control)) {
			memcpy(ret_from, &inbox->from[i], sizeof(*ret_from));
			found = true;
			continue;
		}
		segment = segment_of(&inbox->messages[i].msg_hdr, len);
		for (size_t at = 0; at < len; at += segment)
			tally_one(tally, flood, inbox->data[i] + at,
				len - at < segment ? len - at : segment, now_ns);
	}
	return found;
}

void udp_prepare(int fd, bool runs)
{
	int size = RECEIVE_BUFFER, on = runs;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on)) < 0 && runs)
		load_fail("UDP_GRO: %s", strerror(errno));
}
