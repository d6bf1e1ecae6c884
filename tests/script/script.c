/* SPDX-License-Identifier: Apache-2.0 */
#include "dgram.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* ---- words ---- */

const char *words_take(struct words *words)
{
	return words->at < words->n ? words->word[words->at++] : NULL;
}

bool words_accept(struct words *words, const char *word)
{
	if (words->at == words->n || strcmp(words->word[words->at], word) != 0)
		return false;
	words->at++;
	return true;
}

const char *words_need(struct script *script, struct words *words)
{
	const char *word = words_take(words);

	if (!word)
		world_fail(script->world, "something is missing at the end");
	return word;
}

static uint32_t number_of(struct script *script, const char *word)
{
	char *end;
	unsigned long long n = strtoull(word, &end, 0);

	if (!strcmp(end, "K") || !strcmp(end, "M")) {
		n *= *end == 'K' ? 1024 : 1024 * 1024;
		end++;
	}
	if (!isdigit((unsigned char)*word) || *end || n > UINT32_MAX)
		world_fail(script->world, "%s is no number", word);
	return (uint32_t)n;
}

uint32_t words_number(struct script *script, struct words *words)
{
	return number_of(script, words_need(script, words));
}

uint32_t words_relative(struct script *script, struct words *words, uint32_t base)
{
	const char *word = words_need(script, words);

	if (*word == '+')
		return base + number_of(script, word + 1);
	if (*word == '-')
		return base - number_of(script, word + 1);
	return number_of(script, word);
}

int words_errno(struct script *script, struct words *words)
{
	static const struct {
		const char *name;
		int error;
	} errors[] = {
#define E(name) {#name, name}
		E(EACCES),
		E(EADDRINUSE),
		E(EADDRNOTAVAIL),
		E(EAFNOSUPPORT),
		E(ECONNREFUSED),
		E(ECONNRESET),
		E(EHOSTDOWN),
		E(EHOSTUNREACH),
		E(EINVAL),
		E(EIO),
		E(EMFILE),
		E(EMSGSIZE),
		E(ENETDOWN),
		E(ENETUNREACH),
		E(ENOBUFS),
		E(ENOMEM),
		E(ENOPROTOOPT),
		E(ENOSPC),
		E(EPERM),
		E(EPIPE),
		E(EPROTO),
		E(ETIMEDOUT),
#undef E
	};
	const char *word = words_need(script, words);

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		if (!strcmp(errors[i].name, word))
			return errors[i].error;
	world_fail(script->world, "%s is no error", word);
}

struct ip_addr words_addr(struct script *script, struct words *words)
{
	const char *word = words_need(script, words);
	struct in6_addr v6;
	struct in_addr v4;

	if (inet_pton(AF_INET, word, &v4) == 1)
		return ip_addr_of_v4(v4);
	if (inet_pton(AF_INET6, word, &v6) == 1)
		return ip_addr_of_v6(&v6);
	world_fail(script->world, "%s is no address", word);
}

static int64_t duration_ns(struct script *script, const char *word)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = {{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"min", 60e9}, {"h", 3600e9}};
	char *end;
	double n = strtod(word, &end);

	for (size_t i = 0; end != word && i < ARRAY_SIZE(units); i++)
		if (!strcmp(end, units[i].name))
			return (int64_t)(n * units[i].ns + 0.5);
	world_fail(script->world, "%s is no time", word);
}

/* ---- time ---- */

static void begin(struct script *script)
{
	if (script->has_begun)
		return;
	script->has_begun = true;
	world_init(script->world, &script->config);
}

static void end_turn(struct script *script)
{
	if (script->turn_is_open)
		world_finish_turn(script->world);
	script->turn_is_open = false;
}

static void refuse_outcome(struct script *script, int flow, const struct outcome *outcome)
{
	char text[128];

	if (!outcome)
		return;
	outcome_describe(outcome, text, sizeof(text));
	world_fail(script->world, "nobody expected, of flow %d at %.6f s: %s", flow,
		(double)(outcome->at_ns - script->world->begin_ns) / 1e9, text);
}

/* Everything that went out was expected. */
static void check_logs(struct script *script)
{
	if (script->world->dgrams)
		dgram_check_logs(script);
	for (int i = 0; i < script->world->n_conversations; i++) {
		refuse_outcome(script, i + 1, script->world->conversations[i].to_near.head);
		refuse_outcome(script, i + 1, script->world->conversations[i].to_far.head);
	}
}

bool script_go_on(struct script *script, int64_t until_ns)
{
	int64_t next_ns = world_next_ns(script->world);

	if (next_ns > until_ns)
		return false;
	world_go(script->world, next_ns);
	return true;
}

static void pass_time(struct script *script, int64_t ns)
{
	int64_t until_ns = script->world->loop.now_ns + ns;

	end_turn(script);
	check_logs(script);
	while (script_go_on(script, until_ns))
		;
	script->world->loop.now_ns = until_ns;
}

struct outcome *script_next(struct script *script, struct outcomes *log, const char *what)
{
	struct world *world = script->world;
	int64_t until_ns = world->loop.now_ns + script->patience_ns;

	while (!log->head && script_go_on(script, until_ns))
		;
	if (!log->head)
		world_fail(world, "%s did not come", what);
	if (log->head->at_ns != world->loop.now_ns)
		world_fail(world, "%s came at %.6f s", what,
			(double)(log->head->at_ns - world->begin_ns) / 1e9);
	return outcomes_take(log);
}

void script_wait(struct script *script, struct conversation *c, uint64_t goal,
	bool (*is_so)(const struct conversation *conversation, uint64_t goal), const char *what)
{
	int64_t until_ns = script->world->loop.now_ns + script->patience_ns;

	while (!is_so(c, goal))
		if (!script_go_on(script, until_ns))
			world_fail(script->world, "%s: not so", what);
}

/* ---- what stands in front of the first event ---- */

static void set_offloads(struct script *script, struct words *words)
{
	const char *word = words_need(script, words);

	script->config.offloads = LINK_CSUM;
	if (!strcmp(word, "tso"))
		script->config.offloads |= LINK_TSO4 | LINK_TSO6;
	else if (!strcmp(word, "big"))
		script->config.offloads |= LINK_TSO4 | LINK_TSO6 | LINK_BIG_TCP;
	else if (!strcmp(word, "uso"))
		script->config.offloads |= LINK_USO;
	else if (strcmp(word, "csum") != 0)
		world_fail(script->world, "%s: tso, big, uso or csum", word);
}

static struct ip_addr addr_of(const char *v4_text, const char *v6_text, bool is6)
{
	struct in6_addr v6;
	struct in_addr v4;

	inet_pton(AF_INET, v4_text, &v4);
	inet_pton(AF_INET6, v6_text, &v6);
	return is6 ? ip_addr_of_v6(&v6) : ip_addr_of_v4(v4);
}

static void set_conversations(struct script *script)
{
	bool is6 = script->config.ip6;
	const struct ip_addr near = addr_of("10.0.2.100", "fd00::100", is6);
	const struct ip_addr far = addr_of("192.0.2.1", "2001:db8::1", is6);

	script->world->n_conversations = 0;
	for (uint16_t i = 0; i < CONVERSATIONS_MAX; i++)
		world_converse(script->world, &near, 40001 + i, &far, 80);
}

static struct conversation *conversation_of(struct script *script, uint32_t number)
{
	if (number < 1 || number > CONVERSATIONS_MAX)
		world_fail(script->world, "there is no flow %u", number);
	return &script->world->conversations[number - 1];
}

/* N or N-M; returns the last one. */
static uint32_t range_of(struct script *script, char *word, uint32_t *ret_from)
{
	char *last = strchr(word, '-');

	if (last)
		*last++ = '\0';
	*ret_from = number_of(script, word);
	return last ? number_of(script, last) : *ret_from;
}

/* flow N[-M] ADDRESS PORT [from PORT] [near ADDRESS] */
static void set_flow(struct script *script, struct words *words)
{
	uint32_t from, to;
	int at;

	words_need(script, words);
	to = range_of(script, words->word[words->at - 1], &from);
	at = words->at;
	for (uint32_t i = from; i <= to; i++) {
		struct conversation *c = conversation_of(script, i);

		words->at = at;
		c->far_addr = words_addr(script, words);
		c->far_port = (uint16_t)words_number(script, words);
		if (words_accept(words, "from"))
			c->near_port = (uint16_t)words_number(script, words);
		if (words_accept(words, "near"))
			c->near_addr = words_addr(script, words);
	}
}

/* nameservers unknown | ADDRESS... */
static void set_nameservers(struct script *script, struct words *words)
{
	struct world *world = script->world;

	world->n_nameservers = 0;
	memset(world->is_shunned, 0, sizeof(world->is_shunned));
	while (!words_accept(words, "unknown") && words->at < words->n) {
		if (world->n_nameservers == HOST_NAMESERVERS_MAX)
			world_fail(world, "too many nameservers");
		world->nameservers[world->n_nameservers] =
			(struct host_nameserver){.addr = words_addr(script, words),
				.position = (uint8_t)world->n_nameservers};
		world->n_nameservers++;
	}
}

static bool set(struct script *script, const char *name, struct words *words)
{
	struct world_config *config = &script->config;

	if (!strcmp(name, "ip")) {
		config->ip6 = words_number(script, words) == 6;
		set_conversations(script);
	} else if (!strcmp(name, "flow")) {
		set_flow(script, words);
	} else if (!strcmp(name, "offloads")) {
		set_offloads(script, words);
	} else if (!strcmp(name, "max-flows")) {
		config->max_flows = words_number(script, words);
	} else if (!strcmp(name, "memory")) {
		config->memory = words_number(script, words);
	} else if (!strcmp(name, "queue-len")) {
		config->queue_len = words_number(script, words);
	} else if (!strcmp(name, "mtu") && !script->world->dgrams) {
		config->mtu = words_number(script, words);
	} else if (!strcmp(name, "our-isn")) {
		config->our_isn = words_number(script, words);
	} else if (!strcmp(name, "near-isn")) {
		script->near_isn = words_number(script, words);
	} else if (!strcmp(name, "behind-bridge")) {
		config->behind_bridge = true;
	} else if (!strcmp(name, "no-host-loopback")) {
		config->host_loopback = false;
	} else {
		return false;
	}
	if (script->has_begun)
		world_fail(script->world, "%s comes too late", name);
	return true;
}

/* ---- looks inside ---- */

static void check_state(struct script *script, struct conversation *c, struct words *words)
{
	const struct tcp_flow *flow = world_flow(script->world, c);
	const char *is = flow ? tcp_state_name(flow->state) : "NONE";
	const char *wanted = words_need(script, words);

	if (strcmp(is, wanted) != 0)
		world_fail(script->world, "the state is %s", is);
}

static void check_counter(struct script *script, struct words *words)
{
	const char *name = words_need(script, words);
	uint32_t wanted = words_number(script, words);

	for (int i = 0; i < N_COUNTERS; i++) {
		if (strcmp(name, counter_name((enum counter)i)) != 0)
			continue;
		if (script->world->counters.value[i] != wanted)
			world_fail(script->world, "%s is %llu", name,
				(unsigned long long)script->world->counters.value[i]);
		return;
	}
	world_fail(script->world, "%s is no counter", name);
}

/* opened|active|refused|in|out N ... */
static void check_usage(struct script *script, struct words *words)
{
	const struct usage *usage = script->world->usage;
	const struct {
		const char *name;
		uint64_t value;
	} fields[] = {{"opened", usage->n_opened}, {"active", usage->n_active},
		{"refused", usage->n_refused}, {"in", usage->n_in_bytes},
		{"out", usage->n_out_bytes}};

	for (size_t i = 0; i < ARRAY_SIZE(fields) && words->at < words->n; i++)
		if (words_accept(words, fields[i].name) &&
			words_number(script, words) != fields[i].value)
			world_fail(script->world, "%s is %llu", fields[i].name,
				(unsigned long long)fields[i].value);
}

static bool check_arrivals(struct script *script, const char *name, struct words *words)
{
	struct world *world = script->world;

	if (!strcmp(name, "usage")) {
		check_usage(script, words);
	} else if (!strcmp(name, "asked")) {
		if (words_number(script, words) != world->n_asked)
			world_fail(world, "%u questions were asked", world->n_asked);
		if (words_accept(words, "again") &&
			words_number(script, words) != world->n_asked_again)
			world_fail(world, "%u were asked again", world->n_asked_again);
	} else if (!strcmp(name, "claims")) {
		if ((int)words_number(script, words) != world->n_claims)
			world_fail(world, "%d addresses are claimed", world->n_claims);
	} else {
		return false;
	}
	return true;
}

static bool check(struct script *script, const char *name, struct words *words)
{
	const struct tcpflow *tcpflow = &script->world->tcpflow;
	const struct buffer_pool *pool = &tcpflow->pool;

	if (!strcmp(name, "counter")) {
		check_counter(script, words);
	} else if (!strcmp(name, "over")) {
		world_check_clean(script->world);
	} else if (!strcmp(name, "flows")) {
		if (words_number(script, words) != tcpflow->table.n_flows)
			world_fail(script->world, "there are %u flows", tcpflow->table.n_flows);
	} else if (check_arrivals(script, name, words)) {
		return true;
	} else if (script->world->dgrams && dgram_check(script, name, words)) {
		return true;
	} else if (!strcmp(name, "buffers-free")) {
		if (!buffer_pool_is_whole(pool))
			world_fail(script->world, "buffers are in use");
	} else if (!strcmp(name, "buffers-trimmed")) {
		if (pool->n_touched_free || pool->small_is_touched)
			world_fail(script->world, "buffers were not given back");
	} else {
		return false;
	}
	return true;
}

/* ---- lines ---- */

/* Lines with `<` that follow each other are one turn. */
static void act_with_datagrams(
	struct script *script, const char *actor, int number, struct words *words)
{
	bool is_in = words->at < words->n && !strcmp(words->word[words->at], "<");

	if (!is_in)
		end_turn(script);
	else if (!script->turn_is_open)
		check_logs(script);
	script->turn_is_open = is_in;
	dgram_act(script, actor, number, words);
}

static void act(
	struct script *script, const char *actor, struct conversation *c, struct words *words)
{
	bool is_near = !strcmp(actor, "near");

	if (script->world->dgrams) {
		act_with_datagrams(
			script, actor, (int)(c - script->world->conversations) + 1, words);
		return;
	}

	if (!strcmp(actor, "state")) {
		end_turn(script);
		check_state(script, c, words);
	} else if (words_accept(words, "<")) {
		if (!script->turn_is_open)
			check_logs(script);
		script->turn_is_open = true;
		(is_near ? near_in : far_in)(script, c, words);
	} else if (words_accept(words, ">")) {
		end_turn(script);
		(is_near ? near_out : far_out)(script, c, words);
	} else if (words_accept(words, "?")) {
		end_turn(script);
		if ((is_near ? &c->to_near : &c->to_far)->head)
			(is_near ? near_out : far_out)(script, c, words);
		else
			words->at = words->n;
	} else {
		world_fail(script->world, "%s needs <, > or ?", actor);
	}
}

/* "near", "near#2" or "near#1-100": the line holds for each of them. */
static void act_for_all(struct script *script, char *actor, struct words *words)
{
	char *number = strchr(actor, '#');
	uint32_t from = 1, to = 1;
	int at = words->at;

	if (number)
		*number++ = '\0';
	if (number)
		to = range_of(script, number, &from);
	for (uint32_t i = from; i <= to; i++) {
		words->at = at;
		act(script, actor, conversation_of(script, i), words);
	}
}

static bool is_actor(const char *word)
{
	size_t len = strcspn(word, "#");

	return (len == 4 && !strncmp(word, "near", len)) ||
		(len == 3 && !strncmp(word, "far", len)) ||
		(len == 5 && !strncmp(word, "state", len));
}

/* The time in front; returns the word behind it, NULL: there is none. */
static const char *play_time(struct script *script, struct words *words, const char *word)
{
	script->patience_ns = 0;
	if (*word == '+')
		pass_time(script, duration_ns(script, word + 1));
	else if (!strncmp(word, "..", 2))
		script->patience_ns = duration_ns(script, word + 2);
	else
		return word;
	return words_take(words);
}

static void play_words(struct script *script, struct words *words);

struct step {
	const char *actor, *words;
	bool takes_words;
};

static void play_step(
	struct script *script, const struct step *step, const char *flow, struct words *more)
{
	struct words words = {0};
	char copy[64], *rest = copy, *word;

	snprintf(copy, sizeof(copy), "%s%s %s", step->actor, flow, step->words);
	while ((word = strtok_r(rest, " ", &rest)))
		words.word[words.n++] = word;
	while (step->takes_words && more->at < more->n)
		words.word[words.n++] = more->word[more->at++];
	play_words(script, &words);
}

/* open[#N[-M]] WORDS...: what nearly every script begins with; the words are the SYN's. */
static void open_connection(struct script *script, const char *flow, struct words *words)
{
	static const struct step steps[] = {{"near", "< syn", true}, {"far", "> dial", false},
		{"far", "< connected", false}, {"near", "> syn-ack", false},
		{"near", "< ack", false}, {"near", "? ack", false}};

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		play_step(script, &steps[i], flow, words);
	end_turn(script);
}

/* arrive[#N[-M]] WORDS...: likewise for a client; the words are the SYN-ACK's. */
static void arrive(struct script *script, const char *flow, struct words *words)
{
	static const struct step steps[] = {{"far", "< arrives", false}, {"near", "> syn", false},
		{"near", "< syn-ack", true}, {"near", "> ack", false}};

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		play_step(script, &steps[i], flow, words);
	end_turn(script);
}

/* The rule of all clients is gone. */
static void reset_all(struct script *script)
{
	tcpflow_reset_all(&script->world->tcpflow, script->world->usage);
	script->turn_is_open = true;
}

/* The relay does so when there are many frames. */
static void answer(struct script *script)
{
	if (!script->turn_is_open)
		world_fail(script->world, "nothing has happened in this turn");
	tcpflow_answer(&script->world->tcpflow);
}

static void play_words(struct script *script, struct words *words)
{
	const char *word = words_take(words);

	if (set(script, word, words))
		return;
	if (!strcmp(word, "nameservers")) {
		set_nameservers(script, words);
		return;
	}
	if (!script->has_begun && dgram_set(script, word, words))
		return;
	begin(script);
	word = play_time(script, words, word);
	if (!word)
		return;
	if (is_actor(word)) {
		act_for_all(script, words->word[words->at - 1], words);
		return;
	}
	if (!strcmp(word, "answer")) {
		answer(script);
		return;
	}
	end_turn(script);
	if (!strncmp(word, "open", 4))
		open_connection(script, word + 4, words);
	else if (!strncmp(word, "arrive", 6))
		arrive(script, word + 6, words);
	else if (!strcmp(word, "neighbor"))
		script->world->neighbor_is_unknown = !strcmp(words_need(script, words), "unknown");
	else if (!strcmp(word, "reset-all"))
		reset_all(script);
	else if (!strcmp(word, "link"))
		link_in(script, words);
	else if (!strcmp(word, "stop"))
		world_stop(script->world);
	else if (strcmp(word, "-") != 0 && !check(script, word, words))
		world_fail(script->world, "nobody knows %s", word);
}

static void split(struct script *script, const char *line, char *copy, struct words *words)
{
	char *rest = strcpy(copy, line), *word;

	*words = (struct words){0};
	while ((word = strtok_r(rest, " \t", &rest))) {
		if (*word == '#')
			return;
		if (words->n == WORDS_MAX)
			world_fail(script->world, "too many words");
		words->word[words->n++] = word;
	}
}

/* From line `from` to the end that belongs to it; returns the number of the line behind that. */
static int play_block(struct script *script, int from, uint32_t n_times)
{
	int at = from;

	for (uint32_t i = 0; i < n_times; i++) {
		for (at = from; at < script->n_lines; at++) {
			char copy[1024];
			struct words words;

			script->world->line = at + 1;
			split(script, script->lines[at], copy, &words);
			if (!words.n)
				continue;
			if (words_accept(&words, "end"))
				break;
			if (words_accept(&words, "repeat"))
				at = play_block(script, at + 1, words_number(script, &words));
			else
				play_words(script, &words);
			if (words.at < words.n)
				world_fail(
					script->world, "%s: not understood", words.word[words.at]);
		}
	}
	return at;
}

void script_play(struct script *script)
{
	set_conversations(script);
	play_block(script, 0, 1);
	begin(script);
	end_turn(script);
	check_logs(script);
}
