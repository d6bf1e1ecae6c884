/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/client.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "base/util.h"

/* A reply's error is a number that the agent chose. */
#define ERRNO_MAX 4095

int agent_client_init(
	struct agent_client *client, int sock, struct loop *loop, struct counters *counters)
{
	*client = (struct agent_client){.loop = loop, .counters = counters, .sock = -1};
	if (sock >= 0) {
		int r = loop_watch(loop, sock, EPOLLIN, (struct handle){.kind = HANDLE_AGENT});

		if (r < 0)
			return r;
	}
	client->sock = sock;
	return 0;
}

/* The slot is free before its owner hears of it, who may use it at once. */
static void finish(struct agent_request *request, int fd)
{
	request->waiting = false;
	timer_cancel(&request->client->loop->timers, &request->deadline);
	if (fd < 0)
		count(request->client->counters, COUNTER_AGENT_ERRORS);
	request->done(request->owner, request->cookie, fd);
}

static void request_expire(struct timer *timer, int64_t now_ns)
{
	finish(container_of(timer, struct agent_request, deadline), -ETIMEDOUT);
}

void agent_client_done(struct agent_client *client)
{
	if (client->sock >= 0)
		loop_unwatch(client->loop, fd_take(&client->sock));
	for (size_t i = 0; i < AGENT_REQUESTS_MAX; i++)
		if (client->requests[i].waiting)
			finish(&client->requests[i], -EPIPE);
}

static struct agent_request *find(struct agent_client *client, uint32_t id)
{
	for (size_t i = 0; i < AGENT_REQUESTS_MAX; i++)
		if (client->requests[i].waiting && client->requests[i].id == id)
			return &client->requests[i];
	return NULL;
}

static struct agent_request *find_free(struct agent_client *client)
{
	for (size_t i = 0; i < AGENT_REQUESTS_MAX; i++)
		if (!client->requests[i].waiting)
			return &client->requests[i];
	return NULL;
}

static uint32_t new_id(struct agent_client *client)
{
	while (find(client, client->next_id))
		client->next_id++;
	return client->next_id++;
}

static int send_request(struct agent_client *client, struct agent_message *message,
	const struct agent_request *what)
{
	struct agent_request *request = find_free(client);
	int r;

	if (client->sock < 0)
		return -EPIPE;
	if (!request)
		return -EAGAIN;
	message->id = new_id(client);
	r = agent_send(client->sock, message, -1);
	if (r < 0)
		return r;
	*request = *what;
	request->waiting = true;
	request->id = message->id;
	request->deadline.fire = request_expire;
	request->client = client;
	timer_arm(
		&client->loop->timers, &request->deadline, client->loop->now_ns + AGENT_TIMEOUT_NS);
	count(client->counters, COUNTER_AGENT_REQUESTS);
	return 0;
}

int agent_client_socket(struct agent_client *client, const struct agent_socket *what,
	agent_socket_fn *done, void *owner, uint64_t cookie)
{
	struct agent_message message = {.type = AGENT_SOCKET, .socket = *what};
	const struct agent_request request = {
		.reply_type = AGENT_SOCKET_REPLY, .done = done, .owner = owner, .cookie = cookie};

	return send_request(client, &message, &request);
}

int agent_client_unix(struct agent_client *client, const char *path, agent_socket_fn *done,
	void *owner, uint64_t cookie)
{
	struct agent_message message = {.type = AGENT_UNIX};
	const struct agent_request request = {
		.reply_type = AGENT_SOCKET_REPLY, .done = done, .owner = owner, .cookie = cookie};
	size_t size = strlen(path) + 1;

	if (size > sizeof(message.unix_path.path))
		return -ENAMETOOLONG;
	memcpy(message.unix_path.path, path, size);
	return send_request(client, &message, &request);
}

int agent_client_resolv_conf(
	struct agent_client *client, agent_socket_fn *done, void *owner, uint64_t cookie)
{
	struct agent_message message = {.type = AGENT_RESOLV_CONF};
	const struct agent_request request = {.reply_type = AGENT_RESOLV_CONF_REPLY,
		.done = done,
		.owner = owner,
		.cookie = cookie};

	return send_request(client, &message, &request);
}

/* What the owner is told: the descriptor, or an error even if the reply has neither or both. */
static int outcome(const struct agent_message *reply, int *fd)
{
	if (reply->error < 0 && reply->error >= -ERRNO_MAX)
		return reply->error;
	return reply->error == 0 && *fd >= 0 ? fd_take(fd) : -EBADMSG;
}

static void take_reply(struct agent_client *client, const struct agent_message *reply, int fd)
{
	cleanup_fd int reply_fd = fd;
	struct agent_request *request = find(client, reply->id);

	if (request && request->reply_type == reply->type)
		finish(request, outcome(reply, &reply_fd));
	else
		count(client->counters, COUNTER_AGENT_ERRORS);
}

int agent_client_ready(struct agent_client *client)
{
	/* One turn's share; the rest is still there in the next. */
	for (int i = 0; i < AGENT_REQUESTS_MAX && client->sock >= 0; i++) {
		struct agent_message reply;
		int fd, r = agent_recv(client->sock, &reply, &fd);

		if (r == -EAGAIN)
			return 0;
		if (r == -EBADMSG) {
			count(client->counters, COUNTER_AGENT_ERRORS);
		} else if (r < 0) {
			agent_client_done(client);
			return -EPIPE;
		} else {
			take_reply(client, &reply, fd);
		}
	}
	return 0;
}
