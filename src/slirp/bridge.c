/* SPDX-License-Identifier: Apache-2.0 */
#include "slirp/bridge.h"

#include <errno.h>
#include <glib.h>
#include <libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "slirp/reass_guard.h"

/* libslirp 4.9 (configuration 6) renamed what deals with sockets. */
#if SLIRP_CHECK_VERSION(4, 9, 0)
#define register_poll_fd   register_poll_socket
#define unregister_poll_fd unregister_poll_socket
#define slirp_pollfds_fill slirp_pollfds_fill_socket
typedef slirp_os_socket slirp_fd;
#else
typedef int slirp_fd;
#endif

/* Descriptors that libslirp's accepted clients leave free for the API, the log and the rest; at
 * most a quarter of what there is. */
#define DESCRIPTOR_RESERVE 64
/* How long a listener is left alone on which not even a refusal was possible. */
#define LISTENERS_REST_NS (100 * NS_PER_MS)
/* Clients of one listener that are refused in one turn while descriptors are short. */
#define REFUSE_BATCH 64
/* "Nothing is due" in the timeout that libslirp fills in: it never asks for more. */
#define FILL_TIMEOUT_IDLE 1000

struct bridge_timer {
	struct timer timer;
	struct bridge *bridge;
	SlirpTimerId id;
	void *cb_opaque;
};

/* ---- what libslirp asks of us ---- */

static ssize_t on_send_packet(const void *frame, size_t len, void *opaque)
{
	static uint8_t no_offload[LINK_HEADER_LEN];
	struct bridge *bridge = opaque;
	const struct iovec iov[2] = {
		{.iov_base = no_offload, .iov_len = sizeof(no_offload)},
		{.iov_base = (void *)(uintptr_t)frame, .iov_len = len},
	};

	if (bridge->inquiry)
		reass_inquiry_saw(bridge->inquiry, frame, len);
	if (bridge->link && bridge->link->ops->send(bridge->link, iov, ARRAY_SIZE(iov)) == 0)
		count(bridge->counters, COUNTER_FRAMES_OUT);
	else
		count(bridge->counters, COUNTER_FRAMES_OUT_DROPPED);
	return (ssize_t)len; /* what was not taken is lost, as on any wire */
}

static void on_guest_error(const char *message, void *opaque)
{
	log_debug("libslirp: %s", message);
}

static int64_t on_clock_get_ns(void *opaque)
{
	const struct bridge *bridge = opaque;

	return bridge->loop->now_ns;
}

static void timer_fire(struct timer *timer, int64_t now_ns)
{
	struct bridge_timer *t = container_of(timer, struct bridge_timer, timer);

	slirp_handle_timer(t->bridge->slirp, t->id, t->cb_opaque);
	t->bridge->is_due = true;
}

static void *on_timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
	struct bridge *bridge = opaque;
	struct bridge_timer *t = g_new0(struct bridge_timer, 1);

	*t = (struct bridge_timer){
		.timer.fire = timer_fire, .bridge = bridge, .id = id, .cb_opaque = cb_opaque};
	if (id == SLIRP_TIMER_RA)
		bridge->ra_timer = t;
	return t;
}

static void on_timer_free(void *timer, void *opaque)
{
	struct bridge *bridge = opaque;
	struct bridge_timer *t = timer;

	if (bridge->ra_timer == t)
		bridge->ra_timer = NULL;
	timer_cancel(&bridge->loop->timers, &t->timer);
	g_free(t);
}

static void on_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	struct bridge *bridge = opaque;
	struct bridge_timer *t = timer;

	timer_arm(&bridge->loop->timers, &t->timer, expire_ms * NS_PER_MS);
}

static void on_register_fd(slirp_fd fd, void *opaque)
{
	struct bridge *bridge = opaque;

	interest_opened(&bridge->interest, (int)fd);
}

static void on_unregister_fd(slirp_fd fd, void *opaque)
{
	struct bridge *bridge = opaque;

	interest_closed(&bridge->interest, (int)fd);
}

static void on_notify(void *opaque)
{
	struct bridge *bridge = opaque;

	bridge->is_due = true;
}

static void on_init_completed(Slirp *slirp, void *opaque)
{
	struct bridge *bridge = opaque;

	bridge->slirp = slirp;
}

static const SlirpCb callbacks = {
	.send_packet = on_send_packet,
	.guest_error = on_guest_error,
	.clock_get_ns = on_clock_get_ns,
	.timer_new_opaque = on_timer_new,
	.timer_free = on_timer_free,
	.timer_mod = on_timer_mod,
	.register_poll_fd = on_register_fd,
	.unregister_poll_fd = on_unregister_fd,
	.notify = on_notify,
	.init_completed = on_init_completed,
};

/* GLib would write to standard error by itself, and could block there. Whatever libslirp calls
 * critical, a container can make it say as often as it likes. */
static void on_glib_log(const char *domain, GLogLevelFlags level, const char *message, void *opaque)
{
	log_debug("%s: %s", domain ? domain : "glib", message);
}

/* ---- its list of descriptors ---- */

static uint32_t epoll_events(int slirp_events)
{
	return (slirp_events & SLIRP_POLL_IN ? EPOLLIN : 0u) |
		(slirp_events & SLIRP_POLL_OUT ? EPOLLOUT : 0u) |
		(slirp_events & SLIRP_POLL_PRI ? EPOLLPRI : 0u) |
		(slirp_events & SLIRP_POLL_ERR ? EPOLLERR : 0u) |
		(slirp_events & SLIRP_POLL_HUP ? EPOLLHUP : 0u);
}

static int slirp_events(uint32_t events)
{
	return (events & EPOLLIN ? SLIRP_POLL_IN : 0) | (events & EPOLLOUT ? SLIRP_POLL_OUT : 0) |
		(events & EPOLLPRI ? SLIRP_POLL_PRI : 0) |
		(events & EPOLLERR ? SLIRP_POLL_ERR : 0) | (events & EPOLLHUP ? SLIRP_POLL_HUP : 0);
}

/* libslirp listens with a backlog of 1, and bursts of clients would wait for SYN retries. */
static void mend_listener(struct bridge *bridge, int fd, struct interest_entry *entry)
{
	struct host *host = bridge->interest.host;
	int r;

	entry->is_listener = host->ops->is_listening(host, fd);
	if (!entry->is_listener)
		return;
	r = host->ops->listen(host, fd, SOMAXCONN);
	if (r < 0)
		log_errno(LOG_LEVEL_WARNING, r, "cannot enlarge the backlog of a published port");
}

static bool listeners_rest(const struct bridge *bridge)
{
	return bridge->loop->now_ns < bridge->listeners_rest_until_ns;
}

static int on_add_poll(slirp_fd fd, int events, void *opaque)
{
	struct bridge *bridge = opaque;
	struct interest_entry *entry = interest_find(&bridge->interest, (int)fd);

	if (entry && entry->is_listener && listeners_rest(bridge))
		return -1;
	entry = interest_want(&bridge->interest, (int)fd, epoll_events(events));
	if (!entry)
		return -1;
	if (!entry->was_wanted && bridge->new_forward)
		mend_listener(bridge, (int)fd, entry);
	entry->was_wanted = true;
	return (int)fd;
}

static bool is_short_of_descriptors(const struct bridge *bridge)
{
	uint64_t reserve = MIN(DESCRIPTOR_RESERVE, bridge->descriptor_limit / 4);

	return bridge->interest.n_open + reserve >= bridge->descriptor_limit;
}

static void let_listeners_rest(struct bridge *bridge)
{
	bridge->listeners_rest_until_ns = bridge->loop->now_ns + LISTENERS_REST_NS;
}

/* A listener on which nobody accepts stays ready for ever: its clients are reset, and where even
 * that fails the listeners rest. */
static void refuse_clients(struct bridge *bridge, int fd)
{
	struct host *host = bridge->interest.host;
	int r = 0;

	for (int i = 0; i < REFUSE_BATCH && (r = host->ops->refuse(host, fd)) == 0; i++)
		count(bridge->counters, COUNTER_FORWARD_REFUSED);
	if (r < 0 && r != -EAGAIN)
		let_listeners_rest(bridge);
}

static int on_get_revents(int fd, void *opaque)
{
	struct bridge *bridge = opaque;
	struct interest_entry *entry = interest_find(&bridge->interest, fd);

	if (!entry || !entry->ready)
		return 0;
	if (entry->is_listener && is_short_of_descriptors(bridge)) {
		refuse_clients(bridge, fd);
		return 0;
	}
	bridge->listener_was_ready |= entry->is_listener;
	return slirp_events(entry->ready);
}

/* ---- the turn ---- */

/* A listener that was ready and brought no socket stays ready: accept(2) failed, and libslirp does
 * not tell. */
static void begin(struct bridge *bridge)
{
	uint64_t n_opened = bridge->interest.n_opened;

	if (bridge->has_begun)
		return;
	bridge->has_begun = true;
	bridge->is_due = true;
	bridge->listener_was_ready = false;
	slirp_pollfds_poll(bridge->slirp, 0, on_get_revents, bridge);
	if (bridge->listener_was_ready && bridge->interest.n_opened == n_opened)
		let_listeners_rest(bridge);
}

void bridge_ready(struct bridge *bridge, struct handle handle, uint32_t events)
{
	interest_ready(&bridge->interest, handle, events);
	bridge->is_due = true;
}

void bridge_saw(struct bridge *bridge, const struct packet *packet)
{
	if (bridge->seen_ipv6 || packet->ethertype != ETH_TYPE_IP6)
		return;
	bridge->seen_ipv6 = true;
	bridge_link_up(bridge);
}

/* ARP's and neighbour discovery's frames: libslirp books the address in them, but sends what waits
 * for it only with the next frame or event. A datagram to a published port would wait until it
 * expires. */
static void notice_neighbor(struct bridge *bridge, const struct packet *packet)
{
	if (packet->ethertype == ETH_TYPE_ARP || packet->protocol == IPPROTO_ICMPV6)
		bridge->heard_neighbor = true;
}

/* Told that waiting for events failed, libslirp looks at no socket. */
static void send_waiting(struct bridge *bridge)
{
	if (!bridge->heard_neighbor)
		return;
	bridge->heard_neighbor = false;
	slirp_pollfds_poll(bridge->slirp, 1, on_get_revents, bridge);
}

static enum reass_answer inquire(
	struct bridge *bridge, struct reass_inquiry *inquiry, uint8_t *probe, size_t probe_len)
{
	char *connections;
	enum reass_answer answer;

	slirp_input(bridge->slirp, probe, (int)probe_len);
	if (!reass_inquiry_sweep(inquiry, probe, probe_len))
		return REASS_NOT_NEXT;
	slirp_input(bridge->slirp, probe, (int)probe_len);
	connections = slirp_connection_info(bridge->slirp);
	answer = reass_inquiry_end(inquiry, connections);
	g_free(connections);
	return answer;
}

/* Whether libslirp expects this TCP segment next, and what of it may pass: the rest is cut off. */
static bool is_next(struct bridge *bridge, uint8_t *frame, struct packet *packet)
{
	uint8_t probe[REASS_PROBE_MAX];
	struct reass_inquiry inquiry;
	size_t probe_len;
	enum reass_answer answer;

	probe_len = reass_inquiry_begin(&inquiry, frame, packet, probe);
	if (!probe_len)
		return false;
	bridge->inquiry = &inquiry;
	answer = inquire(bridge, &inquiry, probe, probe_len);
	bridge->inquiry = NULL;
	return reass_guard_apply(answer, frame, packet);
}

void bridge_input(struct bridge *bridge, uint8_t *frame, struct packet *packet)
{
	uint8_t answer[FILTER_ANSWER_MAX];
	size_t answer_len;

	begin(bridge);
	bridge_saw(bridge, packet);
	notice_neighbor(bridge, packet);
	switch (filter_packet(
		&bridge->filter, frame, packet, bridge->loop->now_ns, answer, &answer_len)) {
	case FILTER_PASS:
		slirp_input(bridge->slirp, frame, (int)packet->len);
		break;
	case FILTER_PASS_IF_NEXT:
		if (is_next(bridge, frame, packet))
			slirp_input(bridge->slirp, frame, (int)packet->len);
		break;
	case FILTER_ANSWER:
		on_send_packet(answer, answer_len, bridge);
		break;
	case FILTER_DROP:
		break;
	}
}

void bridge_finish(struct bridge *bridge)
{
	uint32_t timeout_ms = UINT32_MAX;

	if (!bridge->is_due && bridge->loop->now_ns < bridge->deadline_ns)
		return;
	begin(bridge);
	send_waiting(bridge);
	interest_begin(&bridge->interest);
	slirp_pollfds_fill(bridge->slirp, &timeout_ms, on_add_poll, bridge);
	interest_end(&bridge->interest);
	bridge->new_forward = false;
	bridge->is_due = false;
	bridge->has_begun = false;
	bridge->deadline_ns = timeout_ms >= FILL_TIMEOUT_IDLE
		? CLOCK_NEVER
		: bridge->loop->now_ns + timeout_ms * NS_PER_MS;
	if (listeners_rest(bridge))
		bridge->deadline_ns = MIN(bridge->deadline_ns, bridge->listeners_rest_until_ns);
}

void bridge_link_up(struct bridge *bridge)
{
	if (bridge->ra_timer)
		timer_arm(&bridge->loop->timers, &bridge->ra_timer->timer, bridge->loop->now_ns);
}

bool bridge_has_unsent(struct bridge *bridge)
{
	return interest_any_unsent(&bridge->interest);
}

/* ---- life ---- */

int bridge_init(struct bridge *bridge, const struct bridge_config *config, struct link *link,
	struct host *host, struct loop *loop, struct counters *counters)
{
	const struct policy *policy = config->policy;
	const SlirpConfig slirp_config = {
		.version = SLIRP_CONFIG_VERSION_MAX,
		.in_enabled = true,
		.vnetwork = policy->network,
		.vnetmask = policy->netmask,
		.vhost = policy->gateway,
		.vnameserver = policy->dns,
		.vdhcp_start = config->dhcp_start,
		.in6_enabled = policy->ipv6,
		.vprefix_addr6.s6_addr = {0xfd},
		.vprefix_len = 64,
		.vhost6 = policy->gateway6,
		.vnameserver6 = policy->dns6,
		.if_mtu = config->mtu,
		.if_mru = config->mtu,
		.disable_host_loopback = !policy->host_loopback,
		.outbound_addr = config->outbound,
		.outbound_addr6 = config->outbound6,
		.disable_dns = !config->dns_enabled,
	};

	*bridge = (struct bridge){
		.link = link,
		.loop = loop,
		.counters = counters,
		.deadline_ns = CLOCK_NEVER,
		.descriptor_limit = config->descriptor_limit,
		.is_due = true,
	};
	g_log_set_default_handler(on_glib_log, NULL);
	interest_init(&bridge->interest, host, counters);
	filter_init(&bridge->filter, policy, config->icmp_limit, counters);
	bridge->slirp = slirp_new(&slirp_config, &callbacks, bridge);
	if (!bridge->slirp) {
		interest_done(&bridge->interest);
		return -EINVAL;
	}
	return 0;
}

void bridge_done(struct bridge *bridge)
{
	if (bridge->slirp)
		slirp_cleanup(bridge->slirp);
	bridge->slirp = NULL;
	interest_done(&bridge->interest);
}
