/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <time.h> /* what <linux/errqueue.h> needs */

#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"
#include "host/internal.h"

/* Linux 4.18 and 5.0; not in every libc's header. */
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define DGRAM_EVENTS (EPOLLIN | EPOLLERR | EPOLLET)
/* What a burst may fill before anybody looks; net.core.rmem_max and wmem_max allow less. */
#define BUFFER_BYTES (4 << 20)
/* How often what an earlier datagram's error was in the way of is tried again: a network that sends
 * errors faster than that must not hold the loop up. */
#define REPEATS_MAX 3

_Static_assert(IP_PMTUDISC_DONT == IPV6_PMTUDISC_DONT && IP_PMTUDISC_DO == IPV6_PMTUDISC_DO,
	"one value for both families");

/* ---- opening and closing ---- */

/* -EACCES is told of ping sockets, which the kernel forbids by group. */
static int open_socket(const struct host_dgram_config *config)
{
	int fd =
		socket(config->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, config->protocol);

	if (fd >= 0)
		return fd;
	return errno == EPERM ? -EACCES : -errno;
}

/* An IPv4 path's MTU, if it is known already, is respected without IP_PMTUDISC_DO, too: by
 * fragments. */
static void set_options4(int fd)
{
	set_option(fd, IPPROTO_IP, IP_RECVERR, 1);
	set_option(fd, IPPROTO_IP, IP_RECVTTL, 1);
	set_option(fd, IPPROTO_IP, IP_RECVTOS, 1);
	set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
	set_option(fd, SOL_SOCKET, SO_BROADCAST, 1);
}

static void set_options6(int fd)
{
	set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	set_option(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
	set_option(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
	set_option(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT);
}

static void set_options(
	const struct hostsock *hostsock, int fd, const struct host_dgram_config *config)
{
	if (config->family == AF_INET)
		set_options4(fd);
	else
		set_options6(fd);
	set_option(fd, SOL_SOCKET, SO_RCVBUF, BUFFER_BYTES);
	set_option(fd, SOL_SOCKET, SO_SNDBUF, BUFFER_BYTES);
	if (config->protocol == IPPROTO_UDP && hostsock->features & HOSTSOCK_UDP_GRO)
		set_option(fd, IPPROTO_UDP, UDP_GRO, 1);
}

/* A port, or an id, is the kernel's random choice: here, or with the first datagram. */
static int set_ends(int fd, const struct host_dgram_config *config)
{
	union host_sockaddr sa;
	socklen_t len;

	if (config->from && config->from->family == config->family) {
		len = sockaddr_of(config->from, 0, &sa);
		if (bind(fd, &sa.any, len) < 0)
			return -errno;
	}
	if (!config->peer)
		return 0;
	len = sockaddr_of(config->peer, config->peer_port, &sa);
	if (config->family == AF_INET6)
		sa.in6.sin6_scope_id = config->peer_scope;
	return connect(fd, &sa.any, len) < 0 ? -errno : 0;
}

int hostsock_dgram_open(struct host *host, const struct host_dgram_config *config,
	struct handle handle, struct host_dgram *ret)
{
	struct hostsock *hostsock = hostsock_of(host);
	cleanup_fd int fd = open_socket(config);
	int r;

	if (fd < 0)
		return fd;
	set_options(hostsock, fd, config);
	r = set_ends(fd, config);
	if (r == 0)
		r = loop_watch(hostsock->loop, fd, DGRAM_EVENTS, handle);
	if (r < 0)
		return r;
	*ret = (struct host_dgram){
		.fd = fd_take(&fd),
		.family = config->family,
		.no_runs = !(hostsock->features & HOSTSOCK_UDP_SEGMENT),
	};
	return 0;
}

/* Closing takes it out of the epoll set: nobody else has a copy. */
void hostsock_dgram_close(struct host *host, struct host_dgram *dgram)
{
	fd_close(&dgram->fd);
}

/* ---- sending ---- */

/* Where a message begins: in datagrams[index], `offset` bytes behind its start. */
struct place {
	int index;
	size_t offset;
};

union run_control {
	struct cmsghdr header;
	uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
};

/* What one system call takes; a run is one message, or one for each of its datagrams. */
struct outgoing {
	unsigned int n;
	struct place places[HOST_BATCH_MAX + 1]; /* of each message; the last: behind them */
	struct mmsghdr messages[HOST_BATCH_MAX];
	struct iovec iov[HOST_BATCH_MAX];
	union host_sockaddr names[HOST_BATCH_MAX];
	union run_control controls[HOST_BATCH_MAX];
};

static bool has_same_options(const struct host_datagram *a, const struct host_datagram *b)
{
	return a->ttl == b->ttl && a->tos == b->tos && a->dont_fragment == b->dont_fragment &&
		ip_addr_is_group(&a->addr) == ip_addr_is_group(&b->addr);
}

static bool is_run(const struct host_datagram *datagram)
{
	return datagram->segment && datagram->len > datagram->segment;
}

static void set_hops(struct host_dgram *dgram, bool is_to_group, uint8_t ttl)
{
	bool is4 = dgram->family == AF_INET;
	int value = ttl ? ttl : -1, name;

	if (is_to_group) {
		name = is4 ? IP_MULTICAST_TTL : IPV6_MULTICAST_HOPS;
		dgram->group_ttl = ttl;
	} else {
		name = is4 ? IP_TTL : IPV6_UNICAST_HOPS;
		dgram->ttl = ttl;
	}
	set_option(dgram->fd, is4 ? IPPROTO_IP : IPPROTO_IPV6, name, value);
}

static void set_traffic_class(struct host_dgram *dgram, uint8_t tos)
{
	if (dgram->family == AF_INET)
		set_option(dgram->fd, IPPROTO_IP, IP_TOS, tos);
	else
		set_option(dgram->fd, IPPROTO_IPV6, IPV6_TCLASS, tos);
	dgram->tos = tos;
}

static void set_dont_fragment(struct host_dgram *dgram, bool on)
{
	int value = on ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT;

	if (dgram->family == AF_INET)
		set_option(dgram->fd, IPPROTO_IP, IP_MTU_DISCOVER, value);
	else
		set_option(dgram->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, value);
	dgram->dont_fragment = on;
}

static void set_options_for(struct host_dgram *dgram, const struct host_datagram *datagram)
{
	bool is_to_group = ip_addr_is_group(&datagram->addr);

	if ((is_to_group ? dgram->group_ttl : dgram->ttl) != datagram->ttl)
		set_hops(dgram, is_to_group, datagram->ttl);
	if (dgram->tos != datagram->tos)
		set_traffic_class(dgram, datagram->tos);
	if (dgram->dont_fragment != datagram->dont_fragment)
		set_dont_fragment(dgram, datagram->dont_fragment);
}

static void set_segment(union run_control *control, struct msghdr *message, uint16_t segment)
{
	control->header = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof(segment)),
		.cmsg_level = IPPROTO_UDP,
		.cmsg_type = UDP_SEGMENT,
	};
	memcpy(CMSG_DATA(&control->header), &segment, sizeof(segment));
	message->msg_control = control;
	message->msg_controllen = sizeof(*control);
}

/* `len` bytes from where the next message begins. */
static void add_message(
	struct outgoing *out, const struct host_datagram *datagram, size_t len, bool as_run)
{
	unsigned int i = out->n++;
	struct msghdr *message = &out->messages[i].msg_hdr;

	*message = (struct msghdr){.msg_iov = &out->iov[i], .msg_iovlen = 1};
	out->iov[i] =
		(struct iovec){.iov_base = datagram->data + out->places[i].offset, .iov_len = len};
	if (datagram->addr.family) {
		message->msg_name = &out->names[i];
		message->msg_namelen = sockaddr_of(&datagram->addr, datagram->port, &out->names[i]);
	}
	if (as_run)
		set_segment(&out->controls[i], message, datagram->segment);
}

/* As many as one call takes from `at` on, with the same options. */
static void gather(struct outgoing *out, const struct host_dgram *dgram,
	const struct host_datagram *datagrams, int n, struct place at)
{
	const struct host_datagram *first = &datagrams[at.index];

	out->n = 0;
	out->places[0] = at;
	while (out->n < HOST_BATCH_MAX && at.index < n) {
		const struct host_datagram *next = &datagrams[at.index];
		size_t len = next->len - at.offset;

		if (!has_same_options(first, next))
			break;
		if (is_run(next) && dgram->no_runs)
			len = MIN(len, next->segment);
		add_message(out, next, len, is_run(next) && !dgram->no_runs);
		at.offset += len;
		if (at.offset == next->len)
			at = (struct place){.index = at.index + 1};
		out->places[out->n] = at;
	}
}

/* How many messages were sent, or a negative errno. */
static int send_gathered(int fd, struct outgoing *out)
{
	const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
	const struct msghdr *first = &out->messages[0].msg_hdr;
	ssize_t r;

	if (out->n > 1)
		r = sendmmsg(fd, out->messages, out->n, flags);
	else if (first->msg_control)
		r = sendmsg(fd, first, flags);
	else
		r = sendto(fd, out->iov[0].iov_base, out->iov[0].iov_len, flags, first->msg_name,
			first->msg_namelen);
	if (r < 0)
		return errno == ENOBUFS ? -EAGAIN : -errno;
	return out->n > 1 ? (int)r : 1;
}

/* The errors of datagrams that were sent before come out of the next call, and go with it; one that
 * stays is the next datagram's own. Some can only be its own. */
static bool may_be_of_another(int error, const struct host_datagram *datagram)
{
	switch (error) {
	case -EAGAIN:
	case -EINVAL:
	case -EPERM:
	case -EBADF:
		return false;
	case -EMSGSIZE:
		return !datagram->dont_fragment;
	default:
		return true;
	}
}

static bool refuses_runs(int error)
{
	return error == -EMSGSIZE || error == -EINVAL || error == -EIO;
}

/* `at` moves to what was not sent. Returns why not, a negative errno, or 0: all was. */
static int send_from(
	struct host_dgram *dgram, const struct host_datagram *datagrams, int n, struct place *at)
{
	struct outgoing out;
	int repeats = 0;
	bool was_partial = false;

	while (at->index < n) {
		const struct host_datagram *first = &datagrams[at->index];
		int r;

		set_options_for(dgram, first);
		gather(&out, dgram, datagrams, n, *at);
		r = send_gathered(dgram->fd, &out);
		if (r > 0) {
			*at = out.places[r];
			was_partial = (unsigned int)r < out.n;
			repeats = 0;
		} else if (out.messages[0].msg_hdr.msg_control && refuses_runs(r)) {
			dgram->no_runs = true;
			was_partial = false; /* that left nothing in the error queue */
		} else if (repeats++ == REPEATS_MAX || !may_be_of_another(r, first)) {
			/* sendmmsg(2) did not say that it had found the same. */
			dgram->n_repeated_errors += r == -EMSGSIZE && was_partial;
			return r;
		}
	}
	return 0;
}

static uint32_t count_left(const struct host_datagram *run, size_t offset)
{
	return (uint32_t)((run->len - offset + run->segment - 1) / run->segment);
}

int hostsock_dgram_send(
	struct host *host, struct host_dgram *dgram, const struct host_datagram *datagrams, int n)
{
	struct place at = {0};
	int error = send_from(dgram, datagrams, n, &at);

	if (at.offset) {
		dgram->n_dropped += count_left(&datagrams[at.index], at.offset);
		return at.index + 1;
	}
	if (at.index == 0)
		return error;
	/* The caller will come with it again, and is told then. */
	dgram->n_repeated_errors += error == -EMSGSIZE;
	return at.index;
}

/* ---- receiving ---- */

/* TTL, TOS and segment, each an int at most. */
union receive_control {
	struct cmsghdr header;
	uint8_t bytes[3 * CMSG_SPACE(sizeof(int))];
};

struct incoming {
	struct mmsghdr messages[HOST_BATCH_MAX];
	struct iovec iov[HOST_BATCH_MAX];
	union host_sockaddr names[HOST_BATCH_MAX];
	union receive_control controls[HOST_BATCH_MAX];
};

static void make_room(struct incoming *in, const struct host_datagram *datagrams, int n)
{
	for (int i = 0; i < n; i++) {
		in->iov[i] =
			(struct iovec){.iov_base = datagrams[i].data, .iov_len = datagrams[i].len};
		in->messages[i].msg_hdr = (struct msghdr){
			.msg_name = &in->names[i],
			.msg_namelen = sizeof(in->names[i]),
			.msg_iov = &in->iov[i],
			.msg_iovlen = 1,
			.msg_control = &in->controls[i],
			.msg_controllen = sizeof(in->controls[i]),
		};
	}
}

/* How many messages have come, or a negative errno. The first call after an error fails with that:
 * it is in the queue, and no reason not to look for more. */
static int receive(int fd, struct incoming *in, int n)
{
	int repeats = 0;
	ssize_t r;

	do {
		if (n == 1)
			r = recvmsg(fd, &in->messages[0].msg_hdr, MSG_DONTWAIT);
		else
			r = recvmmsg(fd, in->messages, (unsigned int)n, MSG_DONTWAIT, NULL);
	} while (r < 0 && errno != EAGAIN && errno != EBADF && repeats++ < REPEATS_MAX);
	if (r < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n == 1)
		in->messages[0].msg_len = (unsigned int)r;
	return n == 1 ? 1 : (int)r;
}

static void read_control(const struct cmsghdr *c, struct host_datagram *datagram)
{
	/* IPv4's TOS is one byte, all else an int. */
	int value = *CMSG_DATA(c);

	if (c->cmsg_len >= CMSG_LEN(sizeof(value)))
		memcpy(&value, CMSG_DATA(c), sizeof(value));
	if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL)
		datagram->ttl = (uint8_t)value;
	else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS)
		datagram->tos = (uint8_t)value;
	else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT)
		datagram->ttl = (uint8_t)value;
	else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS)
		datagram->tos = (uint8_t)value;
	else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO && value > 0 &&
		(size_t)value < datagram->len)
		datagram->segment = (uint16_t)value;
}

static struct ip_addr addr_of(const union host_sockaddr *sa)
{
	if (sa->any.sa_family == AF_INET)
		return ip_addr_of_v4(sa->in.sin_addr);
	if (sa->any.sa_family == AF_INET6)
		return ip_addr_of_v6(&sa->in6.sin6_addr);
	return (struct ip_addr){0};
}

static uint16_t port_of(const union host_sockaddr *sa)
{
	/* At the same place in both families. */
	return ntohs(sa->in.sin_port);
}

static void read_message(
	struct mmsghdr *message, const union host_sockaddr *name, struct host_datagram *ret)
{
	struct msghdr *header = &message->msg_hdr;

	*ret = (struct host_datagram){
		.addr = addr_of(name),
		.port = port_of(name),
		.data = header->msg_iov->iov_base,
		.len = message->msg_len,
	};
	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c))
		read_control(c, ret);
}

/* One that the room was too short for is lost; its room goes to the next. Returns how many are
 * whole. */
static int read_messages(struct incoming *in, struct host_datagram *datagrams, int n)
{
	int n_whole = 0;

	for (int i = 0; i < n; i++) {
		struct host_datagram lost = datagrams[n_whole];

		if (in->messages[i].msg_hdr.msg_flags & MSG_TRUNC)
			continue;
		read_message(&in->messages[i], &in->names[i], &datagrams[n_whole]);
		if (n_whole != i) {
			datagrams[i].data = lost.data;
			datagrams[i].len = lost.len;
		}
		n_whole++;
	}
	return n_whole;
}

int hostsock_dgram_recv(
	struct host *host, struct host_dgram *dgram, struct host_datagram *datagrams, int n)
{
	struct incoming in;
	int n_whole = 0, asked, r;

	do {
		asked = n - n_whole;
		make_room(&in, datagrams + n_whole, asked);
		r = receive(dgram->fd, &in, asked);
		if (r <= 0)
			break;
		n_whole += read_messages(&in, datagrams + n_whole, r);
	} while (r == asked && n_whole < n);
	return n_whole ? n_whole : r;
}

/* ---- errors ---- */

struct error_message {
	union host_sockaddr name;
	union {
		struct cmsghdr header;
		uint8_t bytes[CMSG_SPACE(sizeof(struct sock_extended_err) +
				      sizeof(union host_sockaddr)) +
			2 * CMSG_SPACE(sizeof(int))]; /* TTL and TOS of the ICMP error come, too */
	} control;
};

static const struct sock_extended_err *find_error(struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
		if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
			(c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
			return (const struct sock_extended_err *)(void *)CMSG_DATA(c);
	return NULL;
}

static void read_error(const struct sock_extended_err *error, const union host_sockaddr *name,
	struct host_dgram_error *ret)
{
	ret->error = (int)error->ee_errno;
	if (error->ee_errno == EMSGSIZE)
		ret->mtu = error->ee_info;
	if (error->ee_origin == SO_EE_ORIGIN_ICMP)
		ret->icmp_family = AF_INET;
	else if (error->ee_origin == SO_EE_ORIGIN_ICMP6)
		ret->icmp_family = AF_INET6;
	else
		return;
	ret->icmp_type = error->ee_type;
	ret->icmp_code = error->ee_code;
	ret->addr = addr_of(name);
	ret->port = port_of(name);
	/* SO_EE_OFFENDER(), which knows no const. */
	ret->offender = addr_of((const union host_sockaddr *)(const void *)(error + 1));
}

/* False: there is none. */
static bool take_error(int fd, struct host_dgram_error *ret)
{
	struct error_message in = {0};
	struct iovec iov = {.iov_base = ret->quote, .iov_len = sizeof(ret->quote)};
	struct msghdr message = {
		.msg_name = &in.name,
		.msg_namelen = sizeof(in.name),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &in.control,
		.msg_controllen = sizeof(in.control),
	};
	ssize_t r = recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
	const struct sock_extended_err *error = r < 0 ? NULL : find_error(&message);

	memset(ret, 0, offsetof(struct host_dgram_error, quote));
	if (!error)
		return false;
	ret->quote_len = (size_t)r;
	read_error(error, &in.name, ret);
	return true;
}

/* Taking the last ICMP error out of the queue takes the pending one along (sock_dequeue_err_skb);
 * one for which the queue had no room is pending alone, until it is asked for. */
static void forget_pending_error(int fd)
{
	int error;
	socklen_t len = sizeof(error);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
}

bool hostsock_dgram_error(struct host *host, struct host_dgram *dgram, struct host_dgram_error *ret)
{
	while (take_error(dgram->fd, ret)) {
		if (ret->icmp_family || ret->error != EMSGSIZE || !dgram->n_repeated_errors)
			return true;
		dgram->n_repeated_errors--;
	}
	dgram->n_repeated_errors = 0;
	forget_pending_error(dgram->fd);
	return false;
}
