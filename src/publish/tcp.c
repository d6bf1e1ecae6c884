/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/unix_listener.h"
#include "base/util.h"
#include "publish/internal.h"

/* Clients that a listener, and a turn, accept at most: nobody else waits longer than for these. */
#define ACCEPT_BATCH 64
#define ACCEPT_TURN  256
/* A listener whose clients can be neither accepted nor refused (ENFILE, ENOMEM) rests so long. */
#define REST_NS   (100 * NS_PER_MS)

#define NO_SLOT   UINT32_MAX
#define SLOTS_MIN 64

/* ---- handles ---- */

static bool grow_slots(struct publish *publish)
{
	uint32_t n = MAX(publish->n_slots * 2, (uint32_t)SLOTS_MIN);
	struct slot *grown = reallocarray(publish->slots, n, sizeof(*grown));

	if (!grown)
		return false;
	for (uint32_t i = publish->n_slots; i < n; i++)
		grown[i] = (struct slot){.next_free = i + 1 < n ? i + 1 : NO_SLOT};
	publish->first_free = publish->n_slots;
	publish->slots = grown;
	publish->n_slots = n;
	return true;
}

static int take_slot(struct publish *publish, struct listener *listener)
{
	struct slot *slot;

	if (publish->first_free == NO_SLOT && !grow_slots(publish))
		return -ENOMEM;
	listener->slot = publish->first_free;
	slot = &publish->slots[listener->slot];
	publish->first_free = slot->next_free;
	slot->listener = listener;
	listener->generation = slot->generation;
	return 0;
}

static void give_slot(struct publish *publish, const struct listener *listener)
{
	struct slot *slot = &publish->slots[listener->slot];

	slot->listener = NULL;
	slot->generation = (slot->generation + 1) & HANDLE_GENERATION_MASK;
	slot->next_free = publish->first_free;
	publish->first_free = listener->slot;
}

static struct handle handle_of(const struct listener *listener)
{
	return (struct handle){.kind = HANDLE_PUBLISH,
		.index = listener->slot,
		.generation = listener->generation};
}

static struct listener *find(const struct publish *publish, struct handle handle)
{
	struct listener *listener =
		handle.index < publish->n_slots ? publish->slots[handle.index].listener : NULL;

	return listener && listener->generation == handle.generation ? listener : NULL;
}

/* ---- clients ---- */

static void turn_away(struct published *published, int fd)
{
	const struct publish_config *config = &published->publish->config;

	config->host->ops->tcp_reset(config->host, fd);
	published->usage->n_refused++;
	count(config->counters, COUNTER_FORWARD_REFUSED);
}

static int carry_by_tap(const struct listener *listener, int fd, const struct host_client *client)
{
	struct published *published = listener->published;
	struct tcp_arrival arrival = {
		.fd = fd, .near_port = listener->guest_port, .usage = published->usage};

	if (!published_guest(published, client->peer.family, &arrival.near))
		return -EADDRNOTAVAIL;
	publish_client_name(published->publish, &client->peer, client->peer_port, &arrival.near,
		&arrival.far, &arrival.far_port);
	return tcpflow_arrive(published->publish->config.tcpflow, &arrival);
}

/* The dial of the namespace did not work. The rule may be gone meanwhile. */
static void fell_back(void *owner, uint64_t cookie, int fd, int error)
{
	struct publish *publish = owner;
	struct host *host = publish->config.host;
	const struct listener *listener = find(publish, handle_unpack(cookie));
	struct host_client client;

	if (!listener || host->ops->tcp_client(host, fd, &client) < 0)
		host->ops->tcp_reset(host, fd);
	else if (carry_by_tap(listener, fd, &client) < 0)
		turn_away(listener->published, fd);
}

static int carry_by_splice(
	const struct listener *listener, int fd, const struct host_client *client)
{
	struct published *published = listener->published;
	const struct forward_spec *spec = &published->rule->spec;
	struct splice_dial dial = {
		.fd = fd,
		.guest_port = listener->guest_port,
		.guest_path = spec->guest_path,
		.usage = published->usage,
		.owner = published->publish,
		.cookie = handle_pack(handle_of(listener)),
	};

	if (!spec->guest_path && !published_guest(published, client->peer.family, &dial.guest))
		return -EADDRNOTAVAIL;
	if (!spec->guest_path && !publish_is_loopback(&dial.guest))
		dial.fall_back = fell_back;
	return splice_open(published->publish->config.splice, &dial);
}

static void carry(const struct listener *listener, int fd, const struct host_client *client)
{
	struct published *published = listener->published;
	int r = -EMFILE;

	if (fd < published->publish->config.max_fd)
		r = published_wants_splice(published, &client->peer)
			? carry_by_splice(listener, fd, client)
			: carry_by_tap(listener, fd, client);
	if (r < 0)
		turn_away(published, fd);
}

/* ---- accepting ---- */

static void wake(struct timer *timer, int64_t now_ns)
{
	struct publish *publish = container_of(timer, struct publish, rest_timer);
	struct host *host = publish->config.host;
	struct list *link;

	while ((link = list_take(&publish->resting))) {
		const struct listener *listener = container_of(link, struct listener, link);

		host->ops->change(host, listener->fd, EPOLLIN, handle_of(listener));
	}
}

/* Ready it stays, so it is not asked about for a while. */
static void rest(struct listener *listener)
{
	struct publish *publish = listener->published->publish;
	const struct publish_config *config = &publish->config;

	config->host->ops->change(config->host, listener->fd, 0, handle_of(listener));
	list_append(&publish->resting, &listener->link);
	if (!timer_is_armed(&publish->rest_timer))
		timer_arm(&config->loop->timers, &publish->rest_timer,
			config->loop->now_ns + REST_NS);
}

/* There is no descriptor for the client. False: it could not be refused either, or is gone. */
static bool refuse(struct listener *listener)
{
	const struct publish_config *config = &listener->published->publish->config;
	int r = config->host->ops->refuse(config->host, listener->fd);

	if (r == 0) {
		listener->published->usage->n_refused++;
		count(config->counters, COUNTER_FORWARD_REFUSED);
	} else if (r != -EAGAIN) {
		rest(listener);
	}
	return r == 0;
}

/* Returns how many clients there were. What is left is told again: listeners are watched
 * level-triggered. */
static unsigned int accept_clients(struct listener *listener, unsigned int max)
{
	struct host *host = listener->published->publish->config.host;
	struct host_client client;
	unsigned int n;

	for (n = 0; n < max; n++) {
		int fd = host->ops->tcp_accept(host, listener->fd, &client);

		if (fd == -EAGAIN || (fd < 0 && !refuse(listener)))
			break;
		if (fd >= 0)
			carry(listener, fd, &client);
	}
	return n;
}

void publish_tcp_ready(struct publish *publish, struct handle handle)
{
	struct listener *listener = find(publish, handle);

	if (listener && !listener->paused && !list_is_linked(&listener->link))
		list_append(&publish->ready, &listener->link);
}

/* Those that had no turn are the first in the next one. */
bool publish_tcp_finish(struct publish *publish)
{
	unsigned int left = ACCEPT_TURN;
	struct list turn, *link;

	list_init(&turn);
	list_move(&turn, &publish->ready);
	while (left > 0 && (link = list_take(&turn)))
		left -= accept_clients(
			container_of(link, struct listener, link), MIN(left, ACCEPT_BATCH));
	list_move(&publish->ready, &turn);
	return !list_is_empty(&publish->ready);
}

/* ---- listeners ---- */

void listener_set_paused(struct listener *listener, bool paused)
{
	struct host *host = listener->published->publish->config.host;
	int r;

	if (listener->paused == paused) {
		listener->error = 0;
		return;
	}
	if (paused)
		r = host->ops->tcp_listen_pause(host, listener->fd);
	else
		r = host->ops->tcp_listen_resume(host, listener->fd, handle_of(listener));
	listener->error = r;
	if (r < 0)
		return;
	listener->paused = paused;
	list_remove(&listener->link);
}

static int open_bound(struct listener *listener)
{
	const struct published *published = listener->published;
	struct host *host = published->publish->config.host;
	const struct host_bind where = {
		.addr = published->rule->spec.host_addr,
		.port = listener->host_port,
		.dual_stack = published->dual_stack,
		.paused = listener->paused,
	};

	return host->ops->tcp_listen(host, &where, handle_of(listener));
}

static int open_passed(struct listener *listener)
{
	struct published *published = listener->published;
	struct forward_spec *spec = &published->rule->spec;
	struct host *host = published->publish->config.host;
	int fd = spec->host_fd, r = host->ops->listen(host, fd, SOMAXCONN);

	if (r == 0)
		r = host->ops->watch(host, fd, EPOLLIN, handle_of(listener));
	if (r < 0)
		return r;
	spec->host_fd = -1;
	return fd;
}

static int open_named(struct listener *listener)
{
	struct published *published = listener->published;
	struct host *host = published->publish->config.host;
	int r;

	published->unix_listener = calloc(1, sizeof(*published->unix_listener));
	if (!published->unix_listener)
		return -ENOMEM;
	r = unix_listener_open(published->unix_listener, published->rule->spec.host_path);
	if (r == 0)
		r = host->ops->watch(
			host, published->unix_listener->fd, EPOLLIN, handle_of(listener));
	if (r == 0)
		return published->unix_listener->fd;
	unix_listener_close(published->unix_listener);
	free(published->unix_listener);
	published->unix_listener = NULL;
	return r;
}

static int open_fd(struct listener *listener)
{
	switch (listener->published->rule->spec.source) {
	case FORWARD_FROM_UNIX:
		return open_named(listener);
	case FORWARD_FROM_FD:
		return open_passed(listener);
	case FORWARD_FROM_ADDR:
		break;
	}
	return open_bound(listener);
}

/* A descriptor that was passed has copies elsewhere, which would go on to wake us. */
static void close_fd(struct listener *listener)
{
	struct published *published = listener->published;
	struct host *host = published->publish->config.host;

	if (published->rule->spec.source != FORWARD_FROM_ADDR)
		host->ops->unwatch(host, listener->fd);
	if (!published->unix_listener) {
		host->ops->tcp_close(host, listener->fd);
		return;
	}
	unix_listener_close(published->unix_listener);
	free(published->unix_listener);
	published->unix_listener = NULL;
}

static void listener_close(struct listener *listener)
{
	list_remove(&listener->link);
	close_fd(listener);
	give_slot(listener->published->publish, listener);
}

static int listener_open(struct listener *listener)
{
	struct publish *publish = listener->published->publish;
	int r = take_slot(publish, listener);

	if (r < 0)
		return r;
	listener->fd = open_fd(listener);
	if (listener->fd < 0) {
		give_slot(publish, listener);
		return listener->fd;
	}
	if (listener->fd < publish->config.max_fd ||
		listener->published->rule->spec.source == FORWARD_FROM_FD)
		return 0;
	listener_close(listener);
	return -EMFILE;
}

static const char *field_of(const struct forward_spec *spec, int error)
{
	switch (spec->source) {
	case FORWARD_FROM_UNIX:
		return "host_addr";
	case FORWARD_FROM_FD:
		return "host_fd";
	case FORWARD_FROM_ADDR:
		break;
	}
	return error == -EADDRNOTAVAIL || error == -EAFNOSUPPORT || error == -EINVAL ? "host_addr"
										     : "host_port";
}

static void close_listeners(struct published *published)
{
	while (published->n_listeners > 0)
		listener_close(&published->listeners[--published->n_listeners]);
	free(published->listeners);
	published->listeners = NULL;
}

int publish_tcp_bind(struct published *published, struct forward_failure *ret_failure)
{
	struct lazy *lazy = published->publish->lazy;
	const struct forward_spec *spec = &published->rule->spec;
	const bool is_lazy = lazy_is_for(lazy, published);
	int r;

	published->listeners = calloc(spec->n_ports, sizeof(*published->listeners));
	if (!published->listeners)
		return -ENOMEM;
	for (uint32_t i = 0; i < spec->n_ports; i++) {
		struct listener *listener = &published->listeners[i];

		listener->published = published;
		listener->host_port = ret_failure->port = (uint16_t)(spec->host_port + i);
		listener->guest_port = (uint16_t)(spec->guest_port + i);
		listener->paused = is_lazy;
		r = listener_open(listener);
		if (r < 0) {
			ret_failure->field = field_of(spec, r);
			close_listeners(published);
			return r;
		}
		published->n_listeners++;
	}
	if (is_lazy)
		lazy_add(lazy, published);
	return 0;
}

void publish_tcp_unbind(struct published *published)
{
	lazy_remove(published->publish->lazy, published);
	close_listeners(published);
}

void publish_tcp_status(const struct published *published, struct forward_status *ret)
{
	uint32_t n_paused = 0;

	for (uint32_t i = 0; i < published->n_listeners; i++) {
		const struct listener *listener = &published->listeners[i];

		n_paused += listener->paused;
		if (listener->error < 0)
			ret->error = -listener->error;
	}
	if (ret->error)
		ret->state = FORWARD_FAILED;
	else
		ret->state =
			n_paused == published->n_listeners ? FORWARD_WAITING : FORWARD_LISTENING;
}

/* ---- life ---- */

void publish_tcp_init(struct publish *publish)
{
	list_init(&publish->ready);
	list_init(&publish->resting);
	publish->rest_timer.fire = wake;
	publish->first_free = NO_SLOT;
}

void publish_tcp_done(struct publish *publish)
{
	if (publish->config.splice)
		splice_forget(publish->config.splice, publish);
	timer_cancel(&publish->config.loop->timers, &publish->rest_timer);
	free(publish->slots);
}
