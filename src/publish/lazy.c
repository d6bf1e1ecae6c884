/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules that listen only while something in the container does. There is no event to wait for
 * (sock_diag(7) has groups for destroyed sockets only), so its listeners are looked at four times a
 * second, while there are such rules, through one socket of the namespace:
 *
 *   ASKING for the socket --made--> LOOKING --dump of IPv4, of IPv6--> the rules follow
 *      '--cannot be had--> all rules listen; asked for again, unless nobody is there
 *
 * The kernel makes an answer while it is read, so that nothing is waited for. Who answers is the
 * container's kernel, and its root may send to the socket, too: what is not of the kernel, or is no
 * answer to the last question, is passed over.
 */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "publish/internal.h"

/* TCP_LISTEN of <netinet/tcp.h>, whose other states have names of ours. */
#define STATE_LISTEN 10

#define POLL_NS      (250 * NS_PER_MS)
#define RETRY_NS     NS_PER_SEC
/* What one look reads at most; a longer answer is read on at the next. */
#define READS_MAX    64
#define BUFFER_BYTES 32768
/* Listeners at single addresses that are remembered; ports of others count as listened at. */
#define SINGLES_MAX 4096

struct ports {
	uint64_t bits[(UINT16_MAX + 1) / 64];
};

/* What listens in the container, as far as the answers were read. */
struct seen {
	struct ports any4, any6; /* at 0.0.0.0 or ::, for each family */
	struct ports more;       /* beyond what `singles` has room for */
	uint32_t n_singles;
	struct single {
		uint16_t port;
		struct ip_addr addr;
	} singles[SINGLES_MAX];
};

struct lazy {
	struct publish *publish;
	struct list rules;
	struct timer timer;
	int fd; /* of the namespace, -1: none */
	bool is_asking;
	bool is_gone;    /* nobody is there to ask */
	bool has_warned; /* since it worked */
	uint8_t family;  /* of the question that is being answered; 0: none is */
	uint32_t seq;
	struct seen seen;
	uint8_t buffer[BUFFER_BYTES];
};

/* ---- what was seen ---- */

static void set_port(struct ports *ports, uint16_t port)
{
	ports->bits[port / 64] |= UINT64_C(1) << port % 64;
}

static bool has_port(const struct ports *ports, uint16_t port)
{
	return ports->bits[port / 64] >> port % 64 & 1;
}

static void forget_seen(struct seen *seen)
{
	memset(seen, 0, offsetof(struct seen, singles));
}

static void note(struct seen *seen, const struct ip_addr *addr, uint16_t port, bool only6)
{
	if (addr->family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&addr->in6)) {
		set_port(&seen->any6, port);
		if (!only6)
			set_port(&seen->any4, port);
	} else if (addr->family == AF_INET && ip_addr_v4(addr).s_addr == INADDR_ANY) {
		set_port(&seen->any4, port);
	} else if (seen->n_singles < SINGLES_MAX) {
		seen->singles[seen->n_singles++] = (struct single){.port = port, .addr = *addr};
	} else {
		set_port(&seen->more, port);
	}
}

static int compare(const void *a, const void *b)
{
	const struct single *x = a, *y = b;

	return (int)x->port - (int)y->port;
}

static bool has_single(const struct seen *seen, const struct ip_addr *guest, uint16_t port)
{
	uint32_t low = 0, high = seen->n_singles;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (seen->singles[middle].port < port)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < seen->n_singles && seen->singles[low].port == port; low++)
		if (ip_addr_equal(&seen->singles[low].addr, guest))
			return true;
	return false;
}

static bool listens_at(const struct seen *seen, const struct ip_addr *guest, uint16_t port)
{
	return has_port(guest->family == AF_INET ? &seen->any4 : &seen->any6, port) ||
		has_port(&seen->more, port) || has_single(seen, guest, port);
}

/* ---- the rules follow ---- */

/* A rule for both families listens for either. */
static bool is_served(const struct published *published, uint16_t port)
{
	const struct seen *seen = &published->publish->lazy->seen;
	struct ip_addr guest;

	if (published_guest(published, AF_INET, &guest) && listens_at(seen, &guest, port))
		return true;
	if (published->family == AF_INET)
		return false;
	return published_guest(published, AF_INET6, &guest) && listens_at(seen, &guest, port);
}

static void follow(struct lazy *lazy)
{
	struct list *link;

	qsort(lazy->seen.singles, lazy->seen.n_singles, sizeof(struct single), compare);
	for (link = lazy->rules.next; link != &lazy->rules; link = link->next) {
		struct published *published = container_of(link, struct published, lazy_link);

		for (uint32_t i = 0; i < published->n_listeners; i++) {
			struct listener *listener = &published->listeners[i];

			listener_set_paused(listener, !is_served(published, listener->guest_port));
		}
	}
}

/* Nobody knows: better a reset than no service. False: some cannot listen. */
static bool listen_all(struct lazy *lazy, int error)
{
	bool all = true;
	struct list *link;

	if (!lazy->has_warned)
		log_errno(LOG_LEVEL_WARNING, error,
			"cannot see who listens in the container; published ports listen "
			"meanwhile");
	lazy->has_warned = true;
	for (link = lazy->rules.next; link != &lazy->rules; link = link->next) {
		struct published *published = container_of(link, struct published, lazy_link);

		for (uint32_t i = 0; i < published->n_listeners; i++) {
			listener_set_paused(&published->listeners[i], false);
			all = all && !published->listeners[i].error;
		}
	}
	return all;
}

/* ---- questions and answers ---- */

static int ask(struct lazy *lazy, uint8_t family)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 request;
	} message = {
		.header = {.nlmsg_len = sizeof(message),
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
			.nlmsg_seq = ++lazy->seq},
		.request = {.sdiag_family = family,
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = 1 << STATE_LISTEN},
	};

	lazy->family = family;
	return send(lazy->fd, &message, sizeof(message), MSG_DONTWAIT) < 0 ? -errno : 0;
}

static bool is_only_ip6(const struct nlmsghdr *header)
{
	struct nlattr *attr;

	mnl_attr_for_each(attr, header, sizeof(struct inet_diag_msg))
	{
		if (mnl_attr_get_type(attr) == INET_DIAG_SKV6ONLY &&
			mnl_attr_validate(attr, MNL_TYPE_U8) == 0)
			return mnl_attr_get_u8(attr);
	}
	return false;
}

static int take_socket(const struct nlmsghdr *header, void *arg)
{
	struct lazy *lazy = arg;
	const struct inet_diag_msg *message = mnl_nlmsg_get_payload(header);
	struct ip_addr addr;

	if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
		mnl_nlmsg_get_payload_len(header) < sizeof(*message))
		return MNL_CB_OK;
	if (message->idiag_family == AF_INET) {
		struct in_addr v4 = {.s_addr = message->id.idiag_src[0]};

		addr = ip_addr_of_v4(v4);
	} else {
		addr.family = AF_INET6;
		memcpy(&addr.in6, message->id.idiag_src, sizeof(addr.in6));
		if (IN6_IS_ADDR_V4MAPPED(&addr.in6))
			addr.family = AF_INET;
	}
	note(&lazy->seen, &addr, ntohs(message->id.idiag_sport), is_only_ip6(header));
	return MNL_CB_OK;
}

/* 1: there is more; 0: that was all; or a negative errno. */
static int read_some(struct lazy *lazy)
{
	struct sockaddr_nl from = {0};
	socklen_t len = sizeof(from);
	ssize_t n = recvfrom(lazy->fd, lazy->buffer, sizeof(lazy->buffer), MSG_DONTWAIT,
		(struct sockaddr *)&from, &len);
	const struct nlmsghdr *header = (const struct nlmsghdr *)(const void *)lazy->buffer;
	int r;

	if (n < 0)
		return -errno;
	if (len != sizeof(from) || from.nl_pid != 0 || n < (ssize_t)sizeof(*header) ||
		header->nlmsg_seq != lazy->seq)
		return 1;
	r = mnl_cb_run(lazy->buffer, (size_t)n, lazy->seq, 0, take_socket, lazy);
	return r < 0 ? -errno : r;
}

/* As read_some(), for one look's share of both questions. */
static int look(struct lazy *lazy)
{
	int r = 0;

	if (!lazy->family) {
		forget_seen(&lazy->seen);
		r = ask(lazy, AF_INET);
	}
	for (int i = 0; r >= 0 && i < READS_MAX; i++) {
		r = read_some(lazy);
		if (r == 0 && lazy->family == AF_INET6)
			return 0;
		if (r == 0)
			r = ask(lazy, AF_INET6);
	}
	return r < 0 ? r : 1;
}

/* ---- the timer ---- */

static void arm(struct lazy *lazy, int64_t delay_ns)
{
	const struct loop *loop = lazy->publish->config.loop;

	if (!list_is_empty(&lazy->rules))
		timer_arm(
			&lazy->publish->config.loop->timers, &lazy->timer, loop->now_ns + delay_ns);
}

/* With nobody to ask there is nothing to come back for but what could not listen. */
static void go_without(struct lazy *lazy, int error)
{
	lazy->is_gone = lazy->is_gone || error == -EPIPE;
	if (!listen_all(lazy, error) || !lazy->is_gone)
		arm(lazy, RETRY_NS);
}

static void made(void *owner, uint64_t cookie, int fd)
{
	struct lazy *lazy = owner;

	lazy->is_asking = false;
	if (list_is_empty(&lazy->rules)) {
		fd_close(&fd);
	} else if (fd < 0) {
		go_without(lazy, fd);
	} else {
		lazy->fd = fd;
		lazy->family = 0;
		arm(lazy, 0);
	}
}

/* An answer that broke off spoils the socket for the next question (EBUSY), so it goes. */
static void poll_listeners(struct lazy *lazy)
{
	int r = look(lazy);

	if (r <= 0)
		lazy->family = 0;
	if (r < 0) {
		fd_close(&lazy->fd);
		go_without(lazy, r);
		return;
	}
	if (r == 0) {
		lazy->has_warned = false;
		follow(lazy);
	}
	arm(lazy, POLL_NS);
}

static void fire(struct timer *timer, int64_t now_ns)
{
	struct lazy *lazy = container_of(timer, struct lazy, timer);
	struct socket_source *sockets = lazy->publish->config.sockets;

	if (lazy->is_gone) {
		go_without(lazy, -EPIPE);
	} else if (lazy->fd >= 0) {
		poll_listeners(lazy);
	} else if (!lazy->is_asking) {
		lazy->is_asking = true;
		sockets->make(sockets, AF_NETLINK, SOCK_RAW, made, lazy, 0);
	}
}

/* ---- life ---- */

struct lazy *lazy_new(struct publish *publish)
{
	struct lazy *lazy = calloc(1, sizeof(*lazy));

	if (!lazy)
		return NULL;
	lazy->publish = publish;
	list_init(&lazy->rules);
	lazy->timer.fire = fire;
	lazy->fd = -1;
	lazy->is_gone = !publish->config.sockets;
	return lazy;
}

void lazy_free(struct lazy *lazy)
{
	timer_cancel(&lazy->publish->config.loop->timers, &lazy->timer);
	fd_close(&lazy->fd);
	free(lazy);
}

static bool is_guest6(const struct publish_config *config, const struct ip_addr *addr)
{
	struct in6_addr guest;

	return addr->family == AF_INET6 && config->guest6 && config->guest6(config->arg, &guest) &&
		IN6_ARE_ADDR_EQUAL(&addr->in6, &guest);
}

/* Of the guest's other addresses, and of those behind it, nobody knows here whether they are the
 * namespace's: those rules always listen. */
bool lazy_is_for(const struct lazy *lazy, const struct published *published)
{
	const struct forward_spec *spec = &published->rule->spec;
	const struct policy *policy = published->publish->config.policy;
	const struct in_addr v4 = ip_addr_v4(&spec->guest_addr);

	if (!spec->lazy || lazy->is_gone || !forward_spec_can_be_lazy(spec))
		return false;
	return published_has_default_guest(published) || publish_is_loopback(&spec->guest_addr) ||
		(spec->guest_addr.family == AF_INET && v4.s_addr == policy->guest.s_addr) ||
		is_guest6(&published->publish->config, &spec->guest_addr);
}

void lazy_add(struct lazy *lazy, struct published *published)
{
	list_append(&lazy->rules, &published->lazy_link);
	if (!timer_is_armed(&lazy->timer) && !lazy->is_asking)
		arm(lazy, 0);
}

void lazy_remove(struct lazy *lazy, struct published *published)
{
	if (!list_is_linked(&published->lazy_link))
		return;
	list_remove(&published->lazy_link);
	if (!list_is_empty(&lazy->rules))
		return;
	timer_cancel(&lazy->publish->config.loop->timers, &lazy->timer);
	fd_close(&lazy->fd);
	lazy->family = 0;
}
