/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of API clients: scanner, parser, commands and forward rules, on a backend that binds
 * nothing. An input is a sequence of requests, each beginning where the scanner ended the one
 * before it. The host port says how the backend answers:
 *
 *   1  -EADDRINUSE    2  later: it serves    3  later: -EACCES    4  unbind fails    others: 0
 */
#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>

#include "api/request.h"
#include "api/scanner.h"
#include "base/log.h"
#include "tests/fuzz/fuzz.h"

#define REQUESTS_MAX 64

struct world {
	struct forward_backend backend;
	struct forward *forward;
	unsigned int n_replies;
	bool is_list; /* the last reply */
	uint64_t pending[REQUESTS_MAX];
	uint16_t pending_port[REQUESTS_MAX];
	size_t n_pending;
	size_t n_bound;
};

static struct world world;

static int bind_rule(struct forward_backend *backend, const struct forward_rule *rule)
{
	switch (rule->spec.host_port) {
	case 1:
		return -EADDRINUSE;
	case 2:
	case 3:
		world.pending[world.n_pending] = rule->id;
		world.pending_port[world.n_pending++] = rule->spec.host_port;
		return FORWARD_LATER;
	default:
		world.n_bound++;
		return 0;
	}
}

static int unbind_rule(struct forward_backend *backend, const struct forward_rule *rule)
{
	if (rule->spec.host_port == 4)
		return -EIO;
	world.n_bound--;
	return 0;
}

static const char *describe(struct forward_backend *backend)
{
	return "fuzz";
}

static const struct forward_backend_ops backend_ops = {
	.bind = bind_rule, .unbind = unbind_rule, .describe = describe};

/* Every reply is one object with either an error or what was asked for. */
static void check_reply(void *owner, uint64_t cookie, char *text, size_t len)
{
	json_t *root, *error, *value;

	world.n_replies++;
	ALWAYS(text);
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	error = json_object_get(root, "error");
	value = json_object_get(root, "return");
	ALWAYS(json_is_object(root));
	ALWAYS(!error != !value);
	ALWAYS(text[len - 1] == '}');
	if (error) {
		const char *desc = json_string_value(json_object_get(error, "desc"));

		ALWAYS(desc && strncmp(desc, "bad request: ", 13) == 0);
	}
	world.is_list = json_object_get(root, "entries");
	ALWAYS(world.is_list || len < 2048);
	if (world.is_list)
		ALWAYS(json_array_size(json_object_get(root, "entries")) ==
			forward_count(world.forward));
	json_decref(root);
	free(text);
}

/* Byte by byte the value ends at the same place. Returns where, -1: it does not. */
static ptrdiff_t find_end(const char *text, size_t len)
{
	struct json_scanner whole = {0}, bytewise = {0};
	ptrdiff_t end = json_scanner_feed(&whole, text, len), at = -1;

	ALWAYS(end <= (ptrdiff_t)len);
	for (size_t i = 0; i < len && at < 0; i++) {
		ptrdiff_t one = json_scanner_feed(&bytewise, text + i, 1);

		if (one >= 0)
			at = (ptrdiff_t)i + one;
	}
	ALWAYS(at == end);
	ALWAYS((whole.state == SCAN_DONE) == (end >= 0));
	return end;
}

static void answer_pending(struct forward *forward)
{
	while (world.n_pending > 0) {
		size_t i = --world.n_pending;
		bool serves = world.pending_port[i] == 2;

		world.n_bound += serves;
		forward_bound(forward, world.pending[i], serves ? 0 : -EACCES);
	}
}

static void check_rules(const struct forward *forward)
{
	uint64_t last = 0;
	size_t n = 0;

	for (const struct forward_rule *rule; (rule = forward_next(forward, last)); n++) {
		ALWAYS(rule->id > last);
		ALWAYS(rule->spec.host_port && rule->spec.guest_port);
		last = rule->id;
	}
	ALWAYS(n == forward_count(forward));
	ALWAYS(n == world.n_bound);
}

/* Returns how many requests there were. */
static unsigned int run(struct api_requester *requester, const char *text, size_t len)
{
	unsigned int n = 0;

	while (n < REQUESTS_MAX) {
		ptrdiff_t end = find_end(text, len);
		size_t size = end < 0 ? len : (size_t)end;

		if (size > API_REQUEST_MAX)
			api_request_too_large(requester, n);
		else
			api_request_handle(requester, n, text, size);
		n++;
		check_rules(world.forward);
		if (end < 0 || size == len)
			break;
		text += size;
		len -= size;
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct counters counters = {0};
	struct api_context context = {.counters = &counters};
	struct api_requester requester = {.context = &context, .reply = check_reply};
	unsigned int n;

	log_init("fuzz-api", LOG_LEVEL_ERROR);
	json_object_seed(1); /* the same run for the same input */
	world = (struct world){.backend = {&backend_ops}};
	world.forward = context.forward = forward_new(&world.backend);
	inet_pton(AF_INET, "10.0.2.100", &context.guest);
	n = run(&requester, (const char *)data, size);
	answer_pending(world.forward);
	ALWAYS(world.n_replies == n);
	ALWAYS(counters.value[COUNTER_API_REQUESTS] == n);
	check_rules(world.forward);
	forward_free(world.forward);
	return 0;
}
