/* SPDX-License-Identifier: Apache-2.0 */
#include "api/server.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
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

/* A client's buffer begins with so many bytes, which is more than most requests have. */
#define ROOM_MIN 4096

/*
 *   FREE --accept--> READING --request complete--> WRITING --reply sent--> FREE
 *                      ^ ^                            |
 *                      | +------ nothing is left -----+ "keep_open"
 *                      |                              |
 *                      +-not complete-- NEXT <--------+ bytes are left
 *
 * WRITING mostly passes within one call. NEXT waits for a turn of its own, so that a client with
 * many requests at once holds up nobody; its EPOLLOUT comes at once. From each state the client is
 * closed on an error, by its deadline, or to make room. A slot's generation counts its clients.
 */
enum client_state { CLIENT_FREE, CLIENT_READING, CLIENT_WRITING, CLIENT_NEXT };

struct client {
	struct api_server *server;
	enum client_state state;
	bool is_kept; /* has asked for more than one request */
	uint32_t generation;
	uint32_t events; /* that it is watched for */
	int fd;
	struct timer deadline;
	int64_t heard_ns; /* when it last sent or took a byte */

	/* begin <= scanned <= end <= room: a request from `begin` on, the scanner has seen it up to
	 * `scanned`. */
	struct json_scanner scanner;
	char *text;
	size_t begin, scanned, end, room;
	/* Descriptors that came with it; the first n_old_fds before the last piece. */
	int fds[API_FDS_MAX];
	size_t n_fds, n_old_fds;

	struct api_reply reply; /* WRITING */
	size_t n_sent;
};

struct api_server {
	struct unix_listener listener;
	struct loop *loop; /* NULL before the start */
	const struct api_context *context;
	struct timer pause; /* armed: the listener is not watched */
	bool starved;       /* since connections last waited in vain; it was logged */
	/* Descriptors that mean nothing, given up for clients when the process has no others: the
	 * container can use them all up, and that must not cost the API. -1: given up. */
	int reserve[API_RESERVE];
	/* Of all clients: bytes of replies that wait, bytes of buffers, descriptors. */
	uint64_t n_unsent;
	size_t n_room, n_fds;
	struct client clients[API_CLIENTS_MAX];
};

static void client_request(struct client *client);

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

static void free_buffer(struct client *client)
{
	client->server->n_room -= client->room;
	free(client->text);
	client->text = NULL;
	client->begin = client->scanned = client->end = client->room = 0;
}

/* The first `n`; those that a rule has taken are -1. */
static void drop_fds(struct client *client, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fd_close(&client->fds[i]);
	client->n_fds -= n;
	client->n_old_fds -= MIN(n, client->n_old_fds);
	client->server->n_fds -= n;
	memmove(client->fds, client->fds + n, client->n_fds * sizeof(client->fds[0]));
}

static void free_reply(struct client *client)
{
	client->server->n_unsent -= client->reply.len - client->n_sent;
	free(client->reply.text);
	client->reply = (struct api_reply){0};
	client->n_sent = 0;
}

static void client_close(struct client *client)
{
	struct api_server *server = client->server;

	loop_unwatch(server->loop, client->fd);
	timer_cancel(&server->loop->timers, &client->deadline);
	fd_close(&client->fd);
	drop_fds(client, client->n_fds);
	reserve_fill(server);
	free_buffer(client);
	free_reply(client);
	*client = (struct client){
		.server = server,
		.fd = -1,
		.generation = (client->generation + 1) & HANDLE_GENERATION_MASK,
	};
	accept_resume(server);
}

static void client_evict(struct client *client)
{
	count(client->server->context->counters, COUNTER_API_EVICTED);
	client_close(client);
}

static bool is_any(const struct client *client)
{
	return true;
}

static bool has_reply(const struct client *client)
{
	return client->state == CLIENT_WRITING;
}

static bool has_much_room(const struct client *client)
{
	return client->room > ROOM_MIN;
}

static bool has_fds(const struct client *client)
{
	return client->n_fds > 0;
}

/* Of the clients of which `filter` holds the one that has been silent longest; NULL without one. */
static struct client *most_silent(struct api_server *server,
	bool (*filter)(const struct client *client), const struct client *but)
{
	struct client *found = NULL;

	for (size_t i = 0; i < API_CLIENTS_MAX; i++) {
		struct client *client = &server->clients[i];

		if (client->state == CLIENT_FREE || client == but || !filter(client))
			continue;
		if (!found || client->heard_ns < found->heard_ns)
			found = client;
	}
	return found;
}

/* What others hold makes room for what `client` has got. */
static void limit_others(struct client *client)
{
	struct api_server *server = client->server;
	struct client *other;

	while (server->n_unsent > API_UNSENT_MAX &&
		(other = most_silent(server, has_reply, client)))
		client_evict(other);
	while (server->n_room > API_UNREAD_MAX &&
		(other = most_silent(server, has_much_room, client)))
		client_evict(other);
	while (server->n_fds > API_UNUSED_FDS_MAX && (other = most_silent(server, has_fds, client)))
		client_evict(other);
}

static void pause_fire(struct timer *timer, int64_t now_ns)
{
	struct api_server *server = container_of(timer, struct api_server, pause);
	struct client *client = most_silent(server, is_any, NULL);

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
		client_request(client);
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

static void client_watch(struct client *client, uint32_t events)
{
	if (client->events == events)
		return;
	client->events = events;
	if (loop_change(client->server->loop, client->fd, events, client_handle(client)) < 0)
		client_close(client);
}

/* The reply was sent, and the client asks on. */
static void client_continue(struct client *client)
{
	free_reply(client);
	client_arm(client, API_IDLE_NS);
	if (client->begin == client->end) {
		free_buffer(client);
		client->state = CLIENT_READING;
		client_watch(client, EPOLLIN);
	} else {
		client->state = CLIENT_NEXT;
		client_watch(client, EPOLLOUT);
	}
}

/* What does not leave within this call waits for EPOLLOUT. */
static void client_write(struct client *client)
{
	ssize_t n = send(client->fd, client->reply.text + client->n_sent,
		client->reply.len - client->n_sent, MSG_NOSIGNAL);

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
	if (client->n_sent < client->reply.len) {
		limit_others(client);
		client_watch(client, EPOLLOUT);
	} else if (client->reply.keep_open)
		client_continue(client);
	else
		client_finish(client);
}

/* Replies on a connection that stays, or has stayed, end with a newline: there is room for it where
 * the NUL is. */
static void client_reply(struct client *client, const struct api_reply *reply)
{
	if (!reply->text) {
		log_warning("no memory to answer an API client");
		client_close(client);
		return;
	}
	client->state = CLIENT_WRITING;
	client->reply = *reply;
	client->is_kept = client->is_kept || reply->keep_open;
	if (client->is_kept)
		client->reply.text[client->reply.len++] = '\n';
	if (!reply->keep_open)
		free_buffer(client);
	client->server->n_unsent += client->reply.len;
	client_arm(client, API_IDLE_NS);
	client_write(client);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Whether another request begins behind the one that is complete. */
static bool has_next(const struct client *client)
{
	for (size_t i = client->scanned; i < client->end; i++)
		if (!is_space(client->text[i]))
			return true;
	return false;
}

/* What was scanned is a request. Descriptors belong to the last request of the piece they came
 * with. */
static void client_request(struct client *client)
{
	const struct api_request request = {
		.text = client->text + client->begin,
		.len = client->scanned - client->begin,
		.fds = client->fds,
		.n_fds = has_next(client) ? client->n_old_fds : client->n_fds,
		.is_kept = client->is_kept,
	};
	struct api_reply reply;

	if (request.len > API_REQUEST_MAX)
		api_request_too_large(client->server->context, &reply);
	else
		api_request_handle(client->server->context, &request, &reply);
	drop_fds(client, request.n_fds);
	client->begin = client->scanned;
	client->scanner = (struct json_scanner){0};
	client_reply(client, &reply);
}

/* Between requests white space is nothing that counts. */
static void skip_space(struct client *client)
{
	if (client->is_kept && client->scanner.state == SCAN_BEFORE)
		client->begin = client->scanned = client->end = 0;
}

/* Looks for the end of a request in what has been read. */
static void client_scan(struct client *client)
{
	ptrdiff_t n = json_scanner_feed(
		&client->scanner, client->text + client->scanned, client->end - client->scanned);

	client->scanned = n < 0 ? client->end : client->scanned + (size_t)n;
	if (n >= 0 || client->end - client->begin > API_REQUEST_MAX) {
		client_request(client);
		return;
	}
	skip_space(client);
	client->state = CLIENT_READING;
	client_arm(client, client->scanner.state == SCAN_SCALAR ? API_SCALAR_NS : API_IDLE_NS);
	client_watch(client, EPOLLIN);
}

/* Room for at least one byte more. */
static int make_room(struct client *client)
{
	size_t room = MIN(MAX(2 * client->room, (size_t)ROOM_MIN), (size_t)API_REQUEST_MAX + 1);
	char *text;

	if (client->begin > 0) {
		client->end -= client->begin;
		client->scanned -= client->begin;
		memmove(client->text, client->text + client->begin, client->end);
		client->begin = 0;
	}
	if (client->end < client->room)
		return 0;
	text = realloc(client->text, room);
	if (!text)
		return -ENOMEM;
	client->server->n_room += room - client->room;
	client->text = text;
	client->room = room;
	limit_others(client);
	return 0;
}

static bool take_fd(struct client *client, int fd)
{
	if (client->n_fds == API_FDS_MAX) {
		fd_close(&fd);
		return false;
	}
	client->fds[client->n_fds++] = fd;
	client->server->n_fds++;
	return true;
}

/* Returns whether all of them were there, and have their place. */
static bool take_fds(struct client *client, struct msghdr *message)
{
	bool all = !(message->msg_flags & MSG_CTRUNC);

	client->n_old_fds = client->n_fds;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			all = take_fd(client, fd) && all;
		}
	}
	limit_others(client);
	return all;
}

static void client_end_of_file(struct client *client)
{
	if (client->is_kept && client->scanner.state == SCAN_BEFORE)
		client_close(client);
	else
		client_request(client);
}

static void refuse_fds(struct client *client)
{
	struct api_reply reply;

	api_request_too_many_fds(client->server->context, &reply);
	client_reply(client, &reply);
}

static ssize_t receive(struct client *client, struct msghdr *message)
{
	struct iovec piece = {client->text + client->end, client->room - client->end};
	ssize_t n;

	message->msg_iov = &piece;
	message->msg_iovlen = 1;
	n = recvmsg(client->fd, message, MSG_CMSG_CLOEXEC);
	return n < 0 ? -errno : n;
}

static void client_read(struct client *client)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(API_FDS_MAX * sizeof(int))];
	} control;
	struct msghdr message = {.msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n = make_room(client);

	if (n == 0)
		n = receive(client, &message);
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n < 0) {
		client_close(client);
		return;
	}
	client->heard_ns = client->server->loop->now_ns;
	if (!take_fds(client, &message)) {
		refuse_fds(client);
	} else if (n > 0) {
		client->end += (size_t)n;
		client_scan(client);
	} else {
		client_end_of_file(client);
	}
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
	case CLIENT_NEXT:
		client_scan(client);
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
	client = most_silent(server, is_any, NULL);
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
	client->events = EPOLLIN;
	client_arm(client, API_IDLE_NS);
	if (loop_watch(server->loop, fd, EPOLLIN, client_handle(client)) < 0)
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

	server->context = context;
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
