/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The far end: what the fake host's sockets give, and what they were asked. And the link.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "script.h"

/* ---- from the host ---- */

/* connected; failed ERROR [icmp TYPE CODE] */
static uint32_t take_dial_outcome(
	struct script *script, struct conversation *c, struct words *words, const char *word)
{
	struct host_error *error = &c->socket->dial_error;

	*error = (struct host_error){0};
	c->socket->is_connected = !strcmp(word, "connected");
	if (c->socket->is_connected)
		return EPOLLOUT;
	error->error = words_errno(script, words);
	if (words_accept(words, "icmp")) {
		error->icmp_family = c->far_addr.family;
		error->icmp_type = (uint8_t)words_number(script, words);
		error->icmp_code = (uint8_t)words_number(script, words);
	}
	return EPOLLOUT | EPOLLERR | EPOLLHUP;
}

/* room N|all|none */
static uint32_t take_room(struct script *script, struct socket *s, struct words *words)
{
	s->room = ROOM_ALL;
	if (words_accept(words, "all"))
		return EPOLLOUT;
	s->room = words_accept(words, "none") ? 0 : words_number(script, words);
	return s->room ? EPOLLOUT : 0;
}

/* Returns epoll's events that tell of it, 0: none do. */
static uint32_t take_word(
	struct script *script, struct conversation *c, struct words *words, const char *word)
{
	struct socket *s = c->socket;

	if (!s)
		world_fail(script->world, "there is no socket");
	if (!strcmp(word, "connected") || !strcmp(word, "failed"))
		return take_dial_outcome(script, c, words, word);
	if (!strcmp(word, "data")) {
		s->n_there += words_number(script, words);
		return EPOLLIN;
	}
	if (!strcmp(word, "eof")) {
		s->is_eof = true;
		return EPOLLIN | EPOLLRDHUP;
	}
	if (!strcmp(word, "error")) {
		s->error = words_errno(script, words);
		return EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLERR | EPOLLHUP;
	}
	if (!strcmp(word, "send-error")) {
		s->send_error = words_errno(script, words);
		return 0;
	}
	if (!strcmp(word, "room"))
		return take_room(script, s, words);
	if (!strcmp(word, "writable"))
		return EPOLLOUT;
	if (!strcmp(word, "quiet")) {
		s->is_quiet = true;
		return 0;
	}
	world_fail(script->world, "the host does not know %s", word);
}

/* arrives [other-port] [ERROR] */
static void arrive(struct script *script, struct conversation *c, struct words *words)
{
	uint16_t port = c->far_port;
	bool has_other_port = words_accept(words, "other-port");
	int wanted = words->at < words->n ? -words_errno(script, words) : 0, r;

	near_begin(c, script->near_isn);
	c->is_arrival = true;
	r = world_arrive(script->world, c);
	if (r != wanted)
		world_fail(script->world, "the client's arrival gives %d", r);
	if ((c->far_port != port) != has_other_port)
		world_fail(script->world, "the client is shown with port %u", c->far_port);
}

/* What the next call says; returns whether it is of those. */
static bool take_error(struct script *script, struct words *words)
{
	struct world *world = script->world;
	bool is_dial = words_accept(words, "dial");
	int *error = is_dial                   ? &world->dial_error
		: words_accept(words, "adopt") ? &world->adopt_error
		: words_accept(words, "claim") ? &world->claim_error
					       : NULL;

	if (is_dial && words_accept(words, "connected"))
		world->dials_at_once = true;
	else if (error)
		*error = words_errno(script, words);
	return error;
}

void far_in(struct script *script, struct conversation *c, struct words *words)
{
	uint32_t events = 0;
	const char *word;

	if (take_error(script, words))
		return;
	if (words_accept(words, "arrives")) {
		arrive(script, c, words);
		return;
	}
	while ((word = words_take(words)))
		events |= take_word(script, c, words, word);
	if (events)
		world_far_event(script->world, c->socket, events);
}

/* ---- to it ---- */

static const struct {
	const char *name;
	enum outcome_kind kind;
	bool has_number;
} calls[] = {
	{"dial", OUT_DIAL, false},
	{"send", OUT_SEND, true},
	{"shutdown", OUT_SHUTDOWN, false},
	{"close", OUT_CLOSE, false},
	{"reset", OUT_RESET, false},
	{"keepalive", OUT_KEEPALIVE, true},
};

/* dial [ADDRESS PORT] */
static bool dial_is(struct script *script, const struct outcome *out, const struct conversation *c,
	struct words *words)
{
	struct ip_addr addr = c->far_addr;
	uint16_t port = c->far_port;

	if (words->at < words->n) {
		addr = words_addr(script, words);
		port = (uint16_t)words_number(script, words);
	}
	return out->addr.family == addr.family && out->port == port &&
		!memcmp(&out->addr.in6, &addr.in6, sizeof(addr.in6));
}

static bool has_received(const struct conversation *c, uint64_t goal)
{
	return c->socket && c->socket->n_sent == goal;
}

void far_out(struct script *script, struct conversation *c, struct words *words)
{
	const char *word = words_need(script, words);
	struct outcome *out;
	char text[128];
	bool is_so = false;

	if (!strcmp(word, "received")) {
		script_wait(script, c, words_number(script, words), has_received, "received");
		return;
	}
	out = script_next(script, &c->to_far, word);
	outcome_describe(out, text, sizeof(text));
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if (!strcmp(calls[i].name, word))
			is_so = out->kind == calls[i].kind &&
				(!calls[i].has_number || out->len == words_number(script, words));
	if (out->kind == OUT_DIAL && !dial_is(script, out, c, words))
		is_so = false;
	if (!is_so)
		world_fail(script->world, "%s came", text);
	free(out);
}

/* ---- the link ---- */

void link_in(struct script *script, struct words *words)
{
	struct world *world = script->world;

	if (words_accept(words, "full"))
		world->link_error = EAGAIN;
	else if (words_accept(words, "narrow"))
		world->link_is_narrow = true;
	else if (words_accept(words, "down"))
		world->link_error = EIO;
	else if (words_accept(words, "works"))
		world->link_error = 0;
	else if (words_accept(words, "gone"))
		tcpflow_link_gone(&world->tcpflow);
	else
		world_fail(world, "full, down, works or gone");
	script->turn_is_open = true;
}
