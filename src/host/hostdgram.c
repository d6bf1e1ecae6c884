/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <time.h> /* what <linux/errqueue.h> needs */

#include <linux/errqueue.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
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
	set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
}

static void set_options6(int fd)
{
	set_option(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
	set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT);
}

/* What only those that pass datagrams on want to know, or may do. */
static void set_relay_options(const struct hostsock *hostsock, int fd,
	const struct host_dgram_config *config, bool is_dual)
{
	if (config->family == AF_INET || is_dual) {
		set_option(fd, IPPROTO_IP, IP_RECVTTL, 1);
		set_option(fd, IPPROTO_IP, IP_RECVTOS, 1);
		set_option(fd, SOL_SOCKET, SO_BROADCAST, 1);
	}
	if (config->family == AF_INET6) {
		set_option(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
		set_option(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	}
	if (config->protocol == IPPROTO_UDP && hostsock->features & HOSTSOCK_UDP_GRO)
		set_option(fd, IPPROTO_UDP, UDP_GRO, 1);
}

/* Of a socket with IPv4 peers as v4-mapped addresses the kernel tells IPv6's, too. */
static void ask_for_local(int fd, uint8_t family)
{
	if (family == AF_INET)
		set_option(fd, IPPROTO_IP, IP_PKTINFO, 1);
	else
		set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
}

static void set_options(const struct hostsock *hostsock, int fd,
	const struct host_dgram_config *config, bool is_dual)
{
	if (config->family == AF_INET || is_dual)
		set_options4(fd);
	if (config->family == AF_INET6)
		set_options6(fd);
	if (config->published)
		ask_for_local(fd, config->family);
	set_option(fd, SOL_SOCKET, SO_RCVBUF, BUFFER_BYTES);
	set_option(fd, SOL_SOCKET, SO_SNDBUF, BUFFER_BYTES);
	if (!config->is_plain)
		set_relay_options(hostsock, fd, config, is_dual);
}

static int bind_to(int fd, const struct ip_addr *addr, uint16_t port)
{
	union host_sockaddr sa;
	socklen_t len = sockaddr_of(addr, port, &sa);

	return bind(fd, &sa.any, len) < 0 ? -errno : 0;
}

/* A port, or an id, is the kernel's random choice, where none is given: here, or with the first
 * datagram. */
static int set_source(int fd, const struct host_dgram_config *config)
{
	const struct host_bind *published = config->published;

	if (config->family == AF_INET6)
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !(published && published->dual_stack));
	if (published)
		return bind_to(fd, &published->addr, published->port);
	if (config->from && config->from->family == config->family)
		return bind_to(fd, config->from, 0);
	return 0;
}

static int set_peer(int fd, const struct host_dgram_config *config)
{
	union host_sockaddr sa;
	socklen_t len;

	if (!config->peer)
		return 0;
	len = sockaddr_of(config->peer, config->peer_port, &sa);
	if (config->family == AF_INET6)
		sa.in6.sin6_scope_id = config->peer_scope;
	return connect(fd, &sa.any, len) < 0 ? -errno : 0;
}

static int option_of(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, level, name, &value, &len) < 0 ? -1 : value;
}

/* A namespace whose lo is down loses what goes to its own addresses, and says nothing. */
static int check_lo(int fd, const struct host_dgram_config *config)
{
	union host_sockaddr sa = {.any.sa_family = AF_UNSPEC};
	socklen_t len = sizeof(sa);
	struct ifreq lo = {.ifr_name = "lo"};
	struct ip_addr own;

	if (!config->peer || getsockname(fd, &sa.any, &len) < 0)
		return 0;
	own = addr_of(&sa);
	if (!ip_addr_equal(&own, config->peer) || ioctl(fd, SIOCGIFFLAGS, &lo) < 0)
		return 0;
	return lo.ifr_flags & IFF_UP ? 0 : -ENETDOWN;
}

static int check_kind(int fd, const struct host_dgram_config *config)
{
	if (option_of(fd, SOL_SOCKET, SO_TYPE) != SOCK_DGRAM ||
		option_of(fd, SOL_SOCKET, SO_DOMAIN) != config->family ||
		option_of(fd, SOL_SOCKET, SO_PROTOCOL) != config->protocol)
		return -EPROTOTYPE;
	return 0;
}

/* A socket of the kind that `config` says. */
static int set_up(struct hostsock *hostsock, int fd, const struct host_dgram_config *config,
	struct handle handle, struct host_dgram *ret)
{
	bool is_dual = false;
	int r;

	if (config->family == AF_INET6 && config->published)
		is_dual = option_of(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0;
	set_options(hostsock, fd, config, is_dual);
	r = set_peer(fd, config);
	if (r == 0)
		r = check_lo(fd, config);
	if (r == 0)
		r = loop_watch(hostsock->loop, fd, DGRAM_EVENTS, handle);
	if (r < 0)
		return r;
	*ret = (struct host_dgram){
		.fd = fd,
		.family = config->family,
		.no_runs = !(hostsock->features & HOSTSOCK_UDP_SEGMENT),
		.is_dual = is_dual,
	};
	return 0;
}

int hostsock_dgram_adopt(struct host *host, int fd, const struct host_dgram_config *config,
	struct handle handle, struct host_dgram *ret)
{
	int r = check_kind(fd, config);

	if (r == 0)
		r = set_up(hostsock_of(host), fd, config, handle, ret);
	if (r == 0)
		ret->is_shared = true;
	return r;
}

int hostsock_dgram_open(struct host *host, const struct host_dgram_config *config,
	struct handle handle, struct host_dgram *ret)
{
	cleanup_fd int fd = open_socket(config);
	int r;

	if (fd < 0)
		return fd;
	r = set_source(fd, config);
	if (r == 0)
		r = set_up(hostsock_of(host), fd, config, handle, ret);
	if (r == 0)
		fd_take(&fd);
	return r;
}

/* Closing takes it out of the epoll set, if nobody else has a copy. */
void hostsock_dgram_close(struct host *host, struct host_dgram *dgram)
{
	if (dgram->is_shared)
		loop_unwatch(hostsock_of(host)->loop, dgram->fd);
	fd_close(&dgram->fd);
}

/* ---- sending ---- */

/* Where a message begins: in datagrams[index], `offset` bytes behind its start. */
struct place {
	int index;
	size_t offset;
};

/* The segment of a run, and the source address. */
union send_control {
	struct cmsghdr header;
	uint8_t bytes[CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

/* What one system call takes; a run is one message, or one for each of its datagrams. */
struct outgoing {
	unsigned int n;
	struct place places[HOST_BATCH_MAX + 1]; /* of each message; the last: behind them */
	struct mmsghdr messages[HOST_BATCH_MAX];
	struct iovec iov[HOST_BATCH_MAX];
	union host_sockaddr names[HOST_BATCH_MAX];
	union send_control controls[HOST_BATCH_MAX];
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

/* Of IPv4 peers, and of IPv6's: a dual-stack socket has both. */
static void set_both(const struct host_dgram *dgram, int name4, int name6, int value)
{
	if (dgram->family == AF_INET || dgram->is_dual)
		set_option(dgram->fd, IPPROTO_IP, name4, value);
	if (dgram->family == AF_INET6)
		set_option(dgram->fd, IPPROTO_IPV6, name6, value);
}

static void set_hops(struct host_dgram *dgram, bool is_to_group, uint8_t ttl)
{
	int value = ttl ? ttl : -1;

	if (is_to_group) {
		set_both(dgram, IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, value);
		dgram->group_ttl = ttl;
	} else {
		set_both(dgram, IP_TTL, IPV6_UNICAST_HOPS, value);
		dgram->ttl = ttl;
	}
}

static void set_traffic_class(struct host_dgram *dgram, uint8_t tos)
{
	set_both(dgram, IP_TOS, IPV6_TCLASS, tos);
	dgram->tos = tos;
}

static void set_dont_fragment(struct host_dgram *dgram, bool on)
{
	set_both(dgram, IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, on ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT);
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

static void add_control(struct msghdr *message, int level, int type, const void *value, size_t len)
{
	struct cmsghdr *c = (void *)((uint8_t *)message->msg_control + message->msg_controllen);

	*c = (struct cmsghdr){.cmsg_len = CMSG_LEN(len), .cmsg_level = level, .cmsg_type = type};
	memcpy(CMSG_DATA(c), value, len);
	message->msg_controllen += CMSG_SPACE(len);
}

/* As IPv4's own, or v4-mapped, by the socket's family. */
static void add_local(const struct host_dgram *dgram, struct msghdr *message,
	const struct host_datagram *datagram)
{
	if (dgram->family == AF_INET) {
		const struct in_pktinfo info = {.ipi_spec_dst = ip_addr_v4(&datagram->local)};

		add_control(message, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	} else {
		const struct in6_pktinfo info = {
			.ipi6_addr = datagram->local.in6, .ipi6_ifindex = datagram->scope};

		add_control(message, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
	}
}

static void add_controls(const struct host_dgram *dgram, struct msghdr *message,
	union send_control *room, const struct host_datagram *datagram, bool as_run)
{
	if (!as_run && !datagram->local.family)
		return;
	message->msg_control = room;
	if (as_run)
		add_control(message, IPPROTO_UDP, UDP_SEGMENT, &datagram->segment,
			sizeof(datagram->segment));
	if (datagram->local.family)
		add_local(dgram, message, datagram);
}

static void set_name(const struct host_dgram *dgram, struct msghdr *message,
	union host_sockaddr *name, const struct host_datagram *datagram)
{
	if (!datagram->addr.family)
		return;
	message->msg_name = name;
	message->msg_namelen = dgram->is_dual
		? sockaddr_of_v6(&datagram->addr.in6, datagram->port, name)
		: sockaddr_of(&datagram->addr, datagram->port, name);
	if (name->any.sa_family == AF_INET6)
		name->in6.sin6_scope_id = datagram->scope;
}

/* `len` bytes from where the next message begins. */
static void add_message(struct outgoing *out, const struct host_dgram *dgram,
	const struct host_datagram *datagram, size_t len, bool as_run)
{
	unsigned int i = out->n++;
	struct msghdr *message = &out->messages[i].msg_hdr;

	*message = (struct msghdr){.msg_iov = &out->iov[i], .msg_iovlen = 1};
	out->iov[i] =
		(struct iovec){.iov_base = datagram->data + out->places[i].offset, .iov_len = len};
	set_name(dgram, message, &out->names[i], datagram);
	add_controls(dgram, message, &out->controls[i], datagram, as_run);
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
		add_message(out, dgram, next, len, is_run(next) && !dgram->no_runs);
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
	UNCLEARED struct outgoing out;
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
		} else if (is_run(first) && !dgram->no_runs && refuses_runs(r)) {
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

/* TTL, TOS and segment, each an int at most, and where it came to. */
union receive_control {
	struct cmsghdr header;
	uint8_t bytes[3 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct in6_pktinfo))];
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

/* Of a link-local peer, whom nobody else's interface knows. */
static uint32_t scope_of(const union host_sockaddr *sa)
{
	return sa->any.sa_family == AF_INET6 ? sa->in6.sin6_scope_id : 0;
}

/* The address from which to answer. What came to a group has none. False: it is something else. */
static bool read_local(const struct cmsghdr *c, bool is_error, struct ip_addr *ret)
{
	struct in_pktinfo info4;
	struct in6_pktinfo info6;

	if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
		memcpy(&info4, CMSG_DATA(c), sizeof(info4));
		/* Of errors the kernel says only where they came to. */
		*ret = ip_addr_of_v4(is_error ? info4.ipi_addr : info4.ipi_spec_dst);
	} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
		memcpy(&info6, CMSG_DATA(c), sizeof(info6));
		*ret = addr_of_v6(&info6.ipi6_addr);
	} else {
		return false;
	}
	if (!ip_addr_is_unicast(ret))
		ret->family = 0;
	return true;
}

static void read_control(const struct cmsghdr *c, struct host_datagram *datagram)
{
	/* IPv4's TOS is one byte, all else an int. */
	int value = *CMSG_DATA(c);

	if (read_local(c, false, &datagram->local))
		return;
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

static void read_message(
	struct mmsghdr *message, const union host_sockaddr *name, struct host_datagram *ret)
{
	struct msghdr *header = &message->msg_hdr;

	*ret = (struct host_datagram){
		.addr = addr_of(name),
		.port = port_of(name),
		.scope = scope_of(name),
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
	UNCLEARED struct incoming in;
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
			/* Of the ICMP error come TTL, TOS and where it came to, too. */
			2 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct in6_pktinfo))];
	} control;
};

static const struct sock_extended_err *find_error(struct msghdr *message, struct ip_addr *ret_local)
{
	const struct sock_extended_err *error = NULL;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
			(c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
			error = (const struct sock_extended_err *)(void *)CMSG_DATA(c);
		else
			read_local(c, true, ret_local);
	}
	return error;
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
	ret->scope = scope_of(name);
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
	struct ip_addr local = {0};
	const struct sock_extended_err *error = r < 0 ? NULL : find_error(&message, &local);

	memset(ret, 0, offsetof(struct host_dgram_error, quote));
	if (!error)
		return false;
	ret->local = local;
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
