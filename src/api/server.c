/* SPDX-License-Identifier: Apache-2.0 */
#include "api/server.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/request.h"
#include "api/scanner.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/unix_listener.h"

/* How many connections one turn accepts. */
#define ACCEPT_BATCH 64
/* Accepting rests for so long when there is no descriptor for it, or until a client goes. */
#define ACCEPT_PAUSE_NS NS_PER_SEC
/* What a client sent beyond its request is read before the close, or it would see ECONNRESET. So
 * many pieces are more than a socket holds by default (net.core.wmem_default). */
#define DRAIN_PIECE  8192
#define DRAIN_PIECES 32

/*
 *   FREE --accept--> READING --request complete--> WAITING --reply--> WRITING --sent--> FREE
 *
 * WAITING and WRITING mostly pass within one call. From each state the client is closed on an
 * error, by its deadline, or to make room. A slot's generation counts its clients, so that a reply
 * that comes late does not reach another one.
 */
enum client_state { CLIENT_FREE, CLIENT_READING, CLIENT_WAITING, CLIENT_WRITING };

struct client {
	struct api_server *server;
	enum client_state state;
	uint32_t generation;
	int fd;
	struct timer deadline;
	int64_t heard_ns; /* when it last sent or took a byte */

	struct json_scanner scanner;
	char *text; /* READING: room for API_REQUEST_MAX + 1 */
	size_t len;

	char *reply; /* WRITING */
	size_t reply_len;
	size_t n_sent;
};

struct api_server {
	struct unix_listener listener;
	struct loop *loop; /* NULL before the start */
	struct api_requester requester;
	struct timer pause; /* armed: the listener is not watched */
	bool starved;       /* since connections last waited in vain; it was logged */
	/* Descriptors that mean nothing, given up for clients when the process has no others: the
	 * container can use them all up, and that must not cost the API. -1: given up. */
	int reserve[API_RESERVE];
	uint64_t n_unsent; /* bytes of replies that wait */
	struct client clients[API_CLIENTS_MAX];
};

static void client_request(struct client *client, size_t len);

static void reserve_fill(struct api_server *server)
{
	for (size_t i = 0; i < API_RESERVE; i++)
		if (server->reserve[i] < 0)
			server->reserve[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static bool reserve_spend(struct api_server *server)
{
	for (size_t i = 0; i < API_RESERVE; i++)
		if (server->reserve[i] >= 0) {
			fd_close(&server->reserve[i]);
			return true;
		}
	return false;
}

static struct handle client_handle(const struct client *client)
{
	return (struct handle){
		.kind = HANDLE_API_CLIENT,
		.generation = client->generation,
		.index = (uint32_t)(client - client->server->clients),
	};
}

/* NULL when the one that was meant is gone. */
static struct client *client_find(struct api_server *server, struct handle handle)
{
	struct client *client;

	if (handle.index >= API_CLIENTS_MAX)
		return NULL;
	client = &server->clients[handle.index];
	if (client->state == CLIENT_FREE || client->generation != handle.generation)
		return NULL;
	return client;
}

static void client_arm(struct client *client, int64_t after_ns)
{
	struct loop *loop = client->server->loop;

	timer_arm(&loop->timers, &client->deadline, loop->now_ns + after_ns);
}

static void accept_resume(struct api_server *server)
{
	const struct handle handle = {.kind = HANDLE_API_LISTENER};

	if (!timer_is_armed(&server->pause))
		return;
	if (loop_watch(server->loop, server->listener.fd, EPOLLIN, handle) == 0)
		timer_cancel(&server->loop->timers, &server->pause);
}

static void accept_pause(struct api_server *server, int error)
{
	if (!server->starved)
		log_errno(LOG_LEVEL_WARNING, error, "cannot accept API clients");
	server->starved = true;
	loop_unwatch(server->loop, server->listener.fd);
	timer_arm(&server->loop->timers, &server->pause, server->loop->now_ns + ACCEPT_PAUSE_NS);
}

static void client_close(struct client *client)
{
	struct api_server *server = client->server;

	loop_unwatch(server->loop, client->fd);
	timer_cancel(&server->loop->timers, &client->deadline);
	server->n_unsent -= client->reply_len - client->n_sent;
	fd_close(&client->fd);
	reserve_fill(server);
	free(client->text);
	free(client->reply);
	*client = (struct client){
		.server = server,
		.fd = -1,
		.generation = (client->generation + 1) & HANDLE_GENERATION_MASK,
	};
	accept_resume(server);
}

static void client_evict(struct client *client)
{
	count(client->server->requester.context->counters, COUNTER_API_EVICTED);
	client_close(client);
}

/* Whether `a` is to make room rather than `b`. One that waits for us is not silent. */
static bool is_more_silent(const struct client *a, const struct client *b)
{
	if ((a->state == CLIENT_WAITING) != (b->state == CLIENT_WAITING))
		return b->state == CLIENT_WAITING;
	return a->heard_ns < b->heard_ns;
}

/* The client that has been silent longest, or of those with an unsent reply; NULL without one. */
static struct client *most_silent(struct api_server *server, bool writing, const struct client *but)
{
	struct client *found = NULL;

	for (size_t i = 0; i < API_CLIENTS_MAX; i++) {
		struct client *client = &server->clients[i];

		if (client->state == CLIENT_FREE || client == but ||
			(writing && client->state != CLIENT_WRITING))
			continue;
		if (!found || is_more_silent(client, found))
			found = client;
	}
	return found;
}

static void pause_fire(struct timer *timer, int64_t now_ns)
{
	struct api_server *server = container_of(timer, struct api_server, pause);
	struct client *client = most_silent(server, false, NULL);

	/* Armed again first: accept_resume() takes this for "not watched". */
	timer_arm(&server->loop->timers, timer, now_ns + ACCEPT_PAUSE_NS);
	if (client)
		client_evict(client);
	else
		accept_resume(server);
}

static void client_deadline(struct timer *timer, int64_t now_ns)
{
	struct client *client = container_of(timer, struct client, deadline);

	if (client->state == CLIENT_READING && client->scanner.state == SCAN_SCALAR)
		client_request(client, client->len);
	else
		client_evict(client);
}

/* The reply was sent: the client reads it, then the end of the file. */
static void client_finish(struct client *client)
{
	char piece[DRAIN_PIECE];

	shutdown(client->fd, SHUT_RDWR);
	for (int i = 0; i < DRAIN_PIECES; i++)
		if (recv(client->fd, piece, sizeof(piece), 0) <= 0)
			break;
	client_close(client);
}

/* The others' replies make room for this one. */
static void limit_unsent(struct client *client)
{
	struct api_server *server = client->server;
	struct client *other;

	while (server->n_unsent > API_UNSENT_MAX && (other = most_silent(server, true, client)))
		client_evict(other);
}

static void client_write(struct client *client)
{
	ssize_t n = send(client->fd, client->reply + client->n_sent,
		client->reply_len - client->n_sent, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		client_close(client);
		return;
	}
	if (n > 0) {
		client->n_sent += (size_t)n;
		client->server->n_unsent -= (uint64_t)n;
		client->heard_ns = client->server->loop->now_ns;
		client_arm(client, API_IDLE_NS);
	}
	if (client->n_sent == client->reply_len)
		client_finish(client);
}

/* From the requests. Most replies leave within this call; what does not waits for EPOLLOUT. */
static void client_reply(void *owner, uint64_t cookie, char *text, size_t len)
{
	struct api_server *server = owner;
	struct handle handle = handle_unpack(cookie);
	struct client *client = client_find(server, handle);

	if (!client) {
		free(text);
		return;
	}
	if (!text) {
		log_warning("no memory to answer an API client");
		client_close(client);
		return;
	}
	client->state = CLIENT_WRITING;
	client->reply = text;
	client->reply_len = len;
	server->n_unsent += len;
	client_arm(client, API_IDLE_NS);
	client_write(client);
	if (!client_find(server, handle))
		return;
	limit_unsent(client);
	if (loop_change(server->loop, client->fd, EPOLLOUT, handle) < 0)
		client_close(client);
}

/* The reading is over. What else the client sends is not waited for, only that it goes. */
static struct handle client_wait(struct client *client)
{
	struct handle handle = client_handle(client);

	client->state = CLIENT_WAITING;
	client_arm(client, API_IDLE_NS);
	return handle;
}

/* The first `len` bytes are a request. */
static void client_request(struct client *client, size_t len)
{
	struct api_server *server = client->server;
	struct handle handle = client_wait(client);
	char *text = client->text;

	client->text = NULL;
	api_request_handle(&server->requester, handle_pack(handle), text, len);
	free(text);
	if (client_find(server, handle) && client->state == CLIENT_WAITING &&
		loop_change(server->loop, client->fd, 0, handle) < 0)
		client_close(client);
}

/* `n` further bytes are behind the first client->len. */
static void client_take(struct client *client, size_t n)
{
	ptrdiff_t end = json_scanner_feed(&client->scanner, client->text + client->len, n);
	size_t len = client->len + (size_t)MAX(end, 0);

	client->len += n;
	if (end >= 0 && len <= API_REQUEST_MAX) {
		client_request(client, len);
	} else if (client->len > API_REQUEST_MAX) {
		struct handle handle = client_wait(client);

		api_request_too_large(&client->server->requester, handle_pack(handle));
	} else {
		bool scalar = client->scanner.state == SCAN_SCALAR;

		client_arm(client, scalar ? API_SCALAR_NS : API_IDLE_NS);
	}
}

static void client_read(struct client *client)
{
	ssize_t n =
		recv(client->fd, client->text + client->len, API_REQUEST_MAX + 1 - client->len, 0);

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			client_close(client);
		return;
	}
	client->heard_ns = client->server->loop->now_ns;
	if (n > 0)
		client_take(client, (size_t)n);
	else
		client_request(client, client->len);
}

void api_server_client_ready(struct api_server *server, struct handle handle, uint32_t events)
{
	struct client *client = client_find(server, handle);

	if (!client)
		return;
	switch (client->state) {
	case CLIENT_READING:
		client_read(client);
		break;
	case CLIENT_WRITING:
		client_write(client);
		break;
	case CLIENT_WAITING:
		/* Watched for nothing, so it can only be EPOLLHUP or EPOLLERR. */
		client_close(client);
		break;
	case CLIENT_FREE:
		break;
	}
}

static struct client *client_slot(struct api_server *server)
{
	struct client *client;

	for (size_t i = 0; i < API_CLIENTS_MAX; i++)
		if (server->clients[i].state == CLIENT_FREE)
			return &server->clients[i];
	client = most_silent(server, false, NULL);
	client_evict(client);
	return client;
}

/* Takes the descriptor over. */
static void client_open(struct api_server *server, int fd)
{
	struct client *client = client_slot(server);

	client->fd = fd;
	client->state = CLIENT_READING;
	client->deadline.fire = client_deadline;
	client->heard_ns = server->loop->now_ns;
	client->text = malloc(API_REQUEST_MAX + 1);
	client_arm(client, API_IDLE_NS);
	if (!client->text || loop_watch(server->loop, fd, EPOLLIN, client_handle(client)) < 0)
		client_close(client);
}

void api_server_accept(struct api_server *server)
{
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int fd = accept4(server->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			client_open(server, fd);
		} else if (errno == EAGAIN) {
			server->starved = false;
			reserve_fill(server); /* accept4(2) wants a number before it looks */
			return;
		} else if (errno == EMFILE && reserve_spend(server)) {
			continue;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			accept_pause(server, -errno);
			return;
		}
	}
}

int api_server_open(struct api_server **ret_server, const char *path)
{
	struct api_server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return log_errno(LOG_LEVEL_ERROR, -ENOMEM, "API socket %s", path);
	r = unix_listener_open(&server->listener, path);
	if (r < 0) {
		free(server);
		return log_errno(
			LOG_LEVEL_ERROR, r, "API socket %s%s", path, unix_listener_explain(r));
	}
	api_request_init();
	for (size_t i = 0; i < API_RESERVE; i++)
		server->reserve[i] = -1;
	for (size_t i = 0; i < API_CLIENTS_MAX; i++) {
		server->clients[i].server = server;
		server->clients[i].fd = -1;
	}
	*ret_server = server;
	return 0;
}

int api_server_start(
	struct api_server *server, struct loop *loop, const struct api_context *context)
{
	const struct handle handle = {.kind = HANDLE_API_LISTENER};

	server->requester =
		(struct api_requester){.context = context, .reply = client_reply, .owner = server};
	server->pause.fire = pause_fire;
	server->loop = loop;
	reserve_fill(server);
	return loop_watch(loop, server->listener.fd, EPOLLIN, handle);
}

/* Nothing below may start to accept again. */
static void stop(struct api_server *server)
{
	timer_cancel(&server->loop->timers, &server->pause);
	loop_unwatch(server->loop, server->listener.fd);
	for (size_t i = 0; i < API_CLIENTS_MAX; i++)
		if (server->clients[i].state != CLIENT_FREE)
			client_close(&server->clients[i]);
}

void api_server_free(struct api_server *server)
{
	int r;

	if (!server)
		return;
	if (server->loop)
		stop(server);
	while (reserve_spend(server))
		;
	r = unix_listener_close(&server->listener);
	if (r < 0)
		log_errno(LOG_LEVEL_WARNING, r, "API socket %s", server->listener.name);
	free(server);
}

int api_server_folder(const struct api_server *server)
{
	return server ? server->listener.folder_fd : -1;
}
