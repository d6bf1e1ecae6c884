/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lines of scripts of datagrams: what the container and the host say, and what they must get.
 */
#include "dgram.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire/icmp.h"

/* What a line says beyond the datagram itself. */
struct line {
	struct dgram d;
	uint32_t n_times, n_frames, segment, last, fragment_mtu, lost;
	bool has_mtu, has_df, has_ttl, has_len, is_run;
	int error;
	int dns_id_offset;
};

static struct dgrams *dgrams_of(struct script *script)
{
	return script->world->dgrams;
}

static bool is_ip6(struct script *script)
{
	return script->config.ip6;
}

static struct ip_addr addr_of(struct script *script, const char *text)
{
	char copy[INET6_ADDRSTRLEN];
	struct words words = {.word = {copy}, .n = 1};

	snprintf(copy, sizeof(copy), "%s", text);
	return words_addr(script, &words);
}

static struct ip_addr near_addr(struct script *script, uint8_t family)
{
	return addr_of(script, family == AF_INET ? "10.0.2.100" : "fd00::100");
}

/* ---- words ---- */

static void take_icmp_type(struct script *script, struct words *words, struct dgram *d)
{
	const char *word = words_need(script, words);
	unsigned int type, code;

	if (sscanf(word, "%u/%u", &type, &code) != 2)
		world_fail(script->world, "%s: TYPE/CODE", word);
	d->icmp_type = (uint8_t)type;
	d->icmp_code = (uint8_t)code;
}

/* Words whose value is a number. */
static bool take_number(
	struct script *script, struct words *words, struct line *line, const char *word)
{
	struct dgram *d = &line->d;

	if (!strcmp(word, "from") || !strcmp(word, "to")) {
		d->near_port = (uint16_t)words_number(script, words);
	} else if (!strcmp(word, "id") && *d->name) {
		d->dns_id = (uint16_t)words_number(script, words);
	} else if (!strcmp(word, "id")) {
		d->near_port = (uint16_t)words_number(script, words);
	} else if (!strcmp(word, "seq")) {
		d->far_port = (uint16_t)words_number(script, words);
	} else if (!strcmp(word, "data")) {
		d->len = words_number(script, words);
		line->has_len = true;
	} else if (!strcmp(word, "ttl")) {
		d->ttl = (uint8_t)words_number(script, words);
		line->has_ttl = true;
	} else if (!strcmp(word, "tos")) {
		d->tos = (uint8_t)words_number(script, words);
	} else if (!strcmp(word, "mtu")) {
		d->mtu = words_number(script, words);
		line->has_mtu = true;
	} else if (!strcmp(word, "times")) {
		line->n_times = words_number(script, words);
	} else if (!strcmp(word, "fragment-mtu")) {
		line->fragment_mtu = words_number(script, words);
	} else if (!strcmp(word, "lost")) {
		line->lost = words_number(script, words);
	} else if (!strcmp(word, "packets")) {
		d->n_packets = words_number(script, words);
	} else if (!strcmp(word, "last")) {
		line->last = words_number(script, words);
	} else if (!strcmp(word, "frames") || !strcmp(word, "runs")) {
		line->n_frames = words_number(script, words);
	} else {
		return false;
	}
	return true;
}

static void take_words(struct script *script, struct words *words, struct line *line)
{
	struct dgram *d = &line->d;
	const char *word;

	while ((word = words_take(words))) {
		if (take_number(script, words, line, word))
			continue;
		if (!strcmp(word, "df") || !strcmp(word, "no-df")) {
			line->has_df = true;
			d->dont_fragment = *word == 'd';
		} else if (!strcmp(word, "run")) {
			line->is_run = true;
		} else if (!strcmp(word, "src")) {
			d->near = words_addr(script, words);
		} else if (!strcmp(word, "by")) {
			d->by = words_addr(script, words);
		} else if (!strcmp(word, "at")) {
			d->at = words_addr(script, words);
		} else if (!strcmp(word, "icmp")) {
			take_icmp_type(script, words, d);
		} else if (!strcmp(word, "wrong-id")) {
			line->dns_id_offset = 1;
		} else {
			world_fail(script->world, "%s is nothing of a datagram", word);
		}
	}
}

static void take_name(struct script *script, struct words *words, struct dgram *d)
{
	snprintf(d->name, sizeof(d->name), "%s", words_need(script, words));
}

static struct line new_line(enum dgram_kind kind)
{
	return (struct line){
		.d = {.kind = kind, .near_port = DGRAM_NEAR_PORT, .ttl = 64}, .n_times = 1};
}

/* ---- from the container ---- */

static void give_near(struct script *script, struct line *line)
{
	struct world *world = script->world;

	if (!line->d.near.family)
		line->d.near = near_addr(script, line->d.far.family);
	if (line->is_run) {
		line->segment = line->d.len;
		line->d.len = line->d.len * line->n_times + line->last;
		line->n_times = 1;
	}
	for (uint32_t i = 0; i < line->n_times; i++)
		dgram_input(world, dgram_build(world, &line->d, line->segment), line->fragment_mtu,
			line->lost);
}

static void take_peer(struct script *script, struct words *words, struct dgram *d)
{
	d->far = words_addr(script, words);
	d->far_port = (uint16_t)words_number(script, words);
}

/* icmp TYPE/CODE about udp ADDRESS PORT [to PORT] [mtu N]: about what it got */
static void near_error_in(struct script *script, struct words *words, struct line *line)
{
	struct dgram *d = &line->d;

	d->kind = DGRAM_ERROR;
	take_icmp_type(script, words, d);
	if (!words_accept(words, "about") || !words_accept(words, "udp"))
		world_fail(script->world, "about udp ADDRESS PORT");
	take_peer(script, words, d);
	take_words(script, words, line);
	if (!d->by.family)
		d->by = d->far;
}

static void near_in_line(struct script *script, struct words *words)
{
	const char *word = words_need(script, words);
	struct line line = new_line(DGRAM_UDP);
	struct dgram *d = &line.d;

	if (!strcmp(word, "udp")) {
		take_peer(script, words, d);
	} else if (!strcmp(word, "ping")) {
		d->kind = DGRAM_PING;
		d->near_port = DGRAM_NEAR_ID;
		d->far = words_addr(script, words);
		d->far_port = 1;
	} else if (!strcmp(word, "query")) {
		take_name(script, words, d);
		d->far = addr_of(script, is_ip6(script) ? "fd00::3" : "10.0.2.3");
		d->far_port = 53;
		d->dns_id = 1;
	} else if (!strcmp(word, "icmp")) {
		near_error_in(script, words, &line);
	} else {
		world_fail(script->world, "the container does not know %s", word);
	}
	take_words(script, words, &line);
	give_near(script, &line);
}

/* ---- what goes out ---- */

static struct dgram *next_of(struct script *script, struct dgram_log *log, const char *what)
{
	struct world *world = script->world;
	int64_t until_ns = world->loop.now_ns + script->patience_ns;
	struct dgram *first;

	while (!log->head && script_go_on(script, until_ns))
		;
	first = log->head;
	if (!first)
		world_fail(world, "%s did not come", what);
	if (first->at_ns != world->loop.now_ns)
		world_fail(world, "%s came at %.6f s", what,
			(double)(first->at_ns - world->begin_ns) / 1e9);
	log->head = first->next;
	if (!log->head)
		log->tail = &log->head;
	return first;
}

static void compare(
	struct script *script, const struct dgram *is, const char *what, uint32_t a, uint32_t b)
{
	char text[256];

	dgram_describe(is, text, sizeof(text));
	if (a != b)
		world_fail(script->world, "%s is %u, not %u, in %s", what, a, b, text);
}

static void compare_addr(struct script *script, const struct dgram *is, const char *what,
	const struct ip_addr *a, const struct ip_addr *b)
{
	compare(script, is, what, a->family, b->family);
	compare(script, is, what, 0, !!memcmp(&a->in6, &b->in6, sizeof(a->in6)));
}

/* All that the kind has. */
static void compare_dgram(struct script *script, const struct dgram *is, const struct line *line)
{
	const struct dgram *d = &line->d;

	compare(script, is, "kind", is->kind, d->kind);
	if (d->kind != DGRAM_OPEN || d->far.family) {
		compare_addr(script, is, "far address", &is->far, &d->far);
		compare(script, is, "far port", is->far_port, d->far_port);
	}
	if (is->near_port)
		compare(script, is, "near port", is->near_port, d->near_port);
	if (d->near.family && is->near.family)
		compare(script, is, "family", is->near.family, d->near.family);
	compare(script, is, "name", 0, (uint32_t) !!strcmp(is->name, d->name));
	/* Of a query the host gets any. */
	if (d->is_answer)
		compare(script, is, "id", is->dns_id, d->dns_id);
	if (!*d->name || line->has_len)
		compare(script, is, "length", is->len, d->len);
	if (line->has_ttl)
		compare(script, is, "ttl", is->ttl, d->ttl);
	if (d->kind != DGRAM_ERROR)
		compare(script, is, "tos", is->tos, d->tos);
	if (line->has_df)
		compare(script, is, "df", is->dont_fragment, d->dont_fragment);
	if (line->has_mtu || d->kind == DGRAM_ERROR)
		compare(script, is, "mtu", is->mtu, d->mtu);
	if (d->n_packets)
		compare(script, is, "packets", is->n_packets, d->n_packets);
	if (d->by.family)
		compare_addr(script, is, "by", &is->by, &d->by);
	compare_addr(script, is, "address of ours", &is->at, &d->at);
	compare(script, is, "type", is->icmp_type, d->icmp_type);
	compare(script, is, "code", is->icmp_code, d->icmp_code);
	compare(script, is, "about", is->about, d->about);
}

/* As often as the line says, in so many frames or runs. */
static void expect(
	struct script *script, struct dgram_log *log, struct line *line, const char *what)
{
	uint32_t n = line->n_times + !!line->last, n_frames = 0;
	unsigned int last_frame = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct dgram *is = next_of(script, log, what);

		if (line->last && i == n - 1)
			line->d.len = line->last;
		if (line->d.socket)
			compare(script, is, "socket", (uint32_t)is->socket,
				(uint32_t)line->d.socket);
		compare_dgram(script, is, line);
		n_frames += is->n_frame != last_frame;
		last_frame = is->n_frame;
		free(is);
	}
	if (line->n_frames && line->n_frames != n_frames)
		world_fail(script->world, "%s came in %u frames or runs", what, n_frames);
}

/* icmp TYPE/CODE about udp|ping ADDRESS [PORT] [from PORT] [id N seq N] [mtu N] [by ADDRESS] */
static void near_error_out(struct script *script, struct words *words, struct line *line)
{
	struct dgram *d = &line->d;

	d->kind = DGRAM_ERROR;
	take_icmp_type(script, words, d);
	if (!words_accept(words, "about"))
		world_fail(script->world, "about what?");
	if (words_accept(words, "ping")) {
		d->about = DGRAM_PING;
		d->near_port = DGRAM_NEAR_ID;
		d->far = words_addr(script, words);
		d->far_port = 1;
	} else if (words_accept(words, "udp")) {
		take_peer(script, words, d);
	} else {
		world_fail(script->world, "about udp or ping");
	}
}

static void near_out_line(struct script *script, struct words *words)
{
	const char *word = words_need(script, words);
	struct line line = new_line(DGRAM_UDP);
	struct dgram *d = &line.d;

	if (!strcmp(word, "udp")) {
		take_peer(script, words, d);
	} else if (!strcmp(word, "pong")) {
		d->kind = DGRAM_PONG;
		d->near_port = DGRAM_NEAR_ID;
		d->far = words_addr(script, words);
		d->far_port = 1;
	} else if (!strcmp(word, "answer")) {
		take_name(script, words, d);
		d->far = addr_of(script, is_ip6(script) ? "fd00::3" : "10.0.2.3");
		d->far_port = 53;
		d->dns_id = 1;
		d->is_answer = true;
	} else if (!strcmp(word, "icmp")) {
		near_error_out(script, words, &line);
	} else {
		world_fail(script->world, "the container does not know %s", word);
	}
	take_words(script, words, &line);
	expect(script, &dgrams_of(script)->to_near, &line, word);
}

/* open udp|udp6|ping|ping6 [ADDRESS PORT] [by ADDRESS] */
static void open_out(struct script *script, struct words *words, struct line *line)
{
	const char *word = words_need(script, words);
	size_t len = strlen(word);
	struct dgram *d = &line->d;

	d->kind = DGRAM_OPEN;
	d->about = !strncmp(word, "ping", 4) ? DGRAM_PING : DGRAM_UDP;
	d->near.family = len && word[len - 1] == '6' ? AF_INET6 : AF_INET;
	if (words->at < words->n && strcmp(words->word[words->at], "by") != 0)
		take_peer(script, words, d);
}

/* send ADDRESS PORT data N | send ADDRESS PORT query NAME | send ping ADDRESS [seq N] [data N] */
static void send_out(struct script *script, struct words *words, struct line *line)
{
	struct dgram *d = &line->d;

	d->kind = DGRAM_SEND;
	d->ttl = 63;
	line->has_ttl = true;
	if (words_accept(words, "ping")) {
		d->about = DGRAM_PING;
		d->far = words_addr(script, words);
		d->far_port = 1;
	} else {
		take_peer(script, words, d);
	}
	if (words_accept(words, "query")) {
		take_name(script, words, d);
		line->has_ttl = false;
		return;
	}
	line->has_df = true;
	d->dont_fragment = d->far.family == AF_INET6;
}

/* The socket is the one that the line names, if it names one: `far#2 > ...`. */
static void far_out_line(struct script *script, int number, struct words *words)
{
	const char *word = words_need(script, words);
	struct line line = new_line(DGRAM_UDP);

	if (!strcmp(word, "open")) {
		open_out(script, words, &line);
	} else if (!strcmp(word, "send")) {
		send_out(script, words, &line);
	} else if (!strcmp(word, "close")) {
		line.d.kind = DGRAM_CLOSE;
	} else {
		world_fail(script->world, "the host does not know %s", word);
	}
	take_words(script, words, &line);
	line.d.near_port = 0;
	if (strcmp(word, "open") != 0)
		line.d.socket = number;
	expect(script, &dgrams_of(script)->to_far, &line, word);
}

/* ---- from the host ---- */

static struct dgram_socket *socket_number(struct script *script, int number)
{
	struct dgrams *ds = dgrams_of(script);

	if (number < 1 || number > ds->n_sockets)
		world_fail(script->world, "there is no socket %d", number);
	return ds->sockets[number - 1];
}

static void give_socket(struct script *script, struct dgram_socket *s, struct line *line)
{
	if (line->is_run) {
		line->d.n_run = line->n_times;
		line->d.last = line->last;
		line->n_times = 1;
	}
	for (uint32_t i = 0; i < line->n_times; i++) {
		if (s->n_in == DGRAM_QUEUE_MAX)
			world_fail(script->world, "too many datagrams for one socket");
		s->in[s->n_in] = line->d;
		s->in[s->n_in].near.family = s->config.family;
		s->n_in++;
	}
	s->is_woken = true;
}

/* answer NAME [data N] [wrong-id] [by ADDRESS]: to the query that this socket sent last */
static void answer_in(
	struct script *script, struct words *words, struct dgram_socket *s, struct line *line)
{
	struct dgram *d = &line->d;

	take_name(script, words, d);
	take_words(script, words, line);
	d->is_answer = true;
	d->len = (uint32_t)dgram_dns_len(d);
	d->dns_id = (uint16_t)(s->dns_id + line->dns_id_offset);
	d->far = s->peer;
	d->far_port = s->config.peer_port;
}

/* error ERROR [icmp TYPE/CODE] to ADDRESS PORT|ping ADDRESS [from PORT] [mtu N] [by ADDRESS] */
static void error_in(
	struct script *script, struct words *words, struct dgram_socket *s, struct line *line)
{
	struct dgram *d = &line->d;
	struct host_dgram_error *error = &s->errors[s->n_errors];
	const bool has_icmp =
		(line->error = words_errno(script, words)) && words_accept(words, "icmp");
	uint8_t quote[ICMP_HEADER_LEN] = {
		s->config.family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST, 0, 0, 0, 0x42, 0x42};

	if (has_icmp)
		take_icmp_type(script, words, d);
	if (!words_accept(words, "to"))
		world_fail(script->world, "to whom?");
	d->far = words_addr(script, words);
	d->far_port = 1;
	if (!s->is_ping)
		d->far_port = (uint16_t)words_number(script, words);
	take_words(script, words, line);
	if (s->n_errors == DGRAM_QUEUE_MAX)
		world_fail(script->world, "too many errors for one socket");
	s->n_errors++;
	*error = (struct host_dgram_error){
		.error = line->error,
		.addr = d->far,
		.port = s->is_ping ? 0 : d->far_port,
		.icmp_family = has_icmp ? s->config.family : 0,
		.icmp_type = d->icmp_type,
		.icmp_code = d->icmp_code,
		.mtu = d->mtu,
		.offender = d->by.family || !has_icmp ? d->by : d->far,
		.local = d->at,
	};
	if (s->is_ping) {
		quote[6] = (uint8_t)(d->far_port >> 8);
		quote[7] = (uint8_t)d->far_port;
		memcpy(error->quote, quote, sizeof(quote));
		error->quote_len = sizeof(quote);
	}
	s->pending_error = line->error;
	s->is_woken = true;
}

/* What concerns no socket that there is now. */
static bool far_in_general(struct script *script, struct words *words)
{
	struct dgrams *ds = dgrams_of(script);

	if (words_accept(words, "open")) {
		ds->open_error = words_errno(script, words);
		ds->n_open_errors = words_accept(words, "times") ? words_number(script, words) : 1;
		return true;
	}
	if (words_accept(words, "path-mtu")) {
		if (ds->n_paths == DGRAM_PATHS_MAX)
			world_fail(script->world, "too many paths");
		ds->paths[ds->n_paths].addr = words_addr(script, words);
		ds->paths[ds->n_paths++].mtu = words_number(script, words);
		return true;
	}
	return false;
}

/* quietly in front: no event tells of it */
static void far_in_line(struct script *script, int number, struct words *words)
{
	struct line line = new_line(DGRAM_UDP);
	struct dgram_socket *s;
	bool is_quiet, was_woken;

	if (far_in_general(script, words))
		return;
	s = socket_number(script, number);
	was_woken = s->is_woken;
	is_quiet = words_accept(words, "quietly");
	if (words_accept(words, "udp")) {
		take_peer(script, words, &line.d);
		take_words(script, words, &line);
		give_socket(script, s, &line);
	} else if (words_accept(words, "pong")) {
		line.d.far = words_addr(script, words);
		line.d.far_port = 1;
		take_words(script, words, &line);
		give_socket(script, s, &line);
	} else if (words_accept(words, "answer")) {
		answer_in(script, words, s, &line);
		give_socket(script, s, &line);
	} else if (words_accept(words, "error")) {
		error_in(script, words, s, &line);
	} else if (words_accept(words, "send-error")) {
		s->send_error = words_errno(script, words);
	} else if (words_accept(words, "full")) {
		s->is_full = true;
	} else if (words_accept(words, "room")) {
		s->is_full = false;
	} else {
		world_fail(script->world, "the host does not know %s", words_need(script, words));
	}
	if (is_quiet)
		s->is_woken = was_woken;
}

void dgram_act(struct script *script, const char *actor, int number, struct words *words)
{
	bool is_near = !strcmp(actor, "near");

	if (words_accept(words, "<")) {
		if (is_near)
			near_in_line(script, words);
		else
			far_in_line(script, number, words);
	} else if (words_accept(words, ">")) {
		if (is_near)
			near_out_line(script, words);
		else
			far_out_line(script, number, words);
	} else {
		world_fail(script->world, "%s needs < or >", actor);
	}
}

/* ---- before and beside ---- */

bool dgram_set(struct script *script, const char *name, struct words *words)
{
	struct dgrams *ds;

	if (!strcmp(name, "datagrams")) {
		dgrams_new(script->world);
		return true;
	}
	ds = dgrams_of(script);
	if (!ds)
		return false;
	if (strcmp(name, "mtu") != 0)
		return false;
	ds->mtu = words_number(script, words);
	return true;
}

static uint32_t n_open(const struct dgrams *ds)
{
	uint32_t n = 0;

	for (int i = 0; i < ds->n_sockets; i++)
		n += ds->sockets[i]->is_open;
	return n;
}

bool dgram_check(struct script *script, const char *name, struct words *words)
{
	struct dgrams *ds = dgrams_of(script);
	uint32_t is;

	if (!strcmp(name, "mappings"))
		is = ds->udpflow.table.n_flows;
	else if (!strcmp(name, "pings"))
		is = ds->icmpflow.table.n_flows;
	else if (!strcmp(name, "sockets"))
		is = n_open(ds);
	else
		return dgram_publish_line(script, name, words);
	if (is != words_number(script, words))
		world_fail(script->world, "there are %u %s", is, name);
	return true;
}

void dgram_check_logs(struct script *script)
{
	struct dgrams *ds = dgrams_of(script);
	const struct dgram *d = ds->to_near.head ? ds->to_near.head : ds->to_far.head;
	char text[256];

	if (!d)
		return;
	dgram_describe(d, text, sizeof(text));
	world_fail(script->world, "nobody expected, at %.6f s: %s",
		(double)(d->at_ns - script->world->begin_ns) / 1e9, text);
}
