/* SPDX-License-Identifier: Apache-2.0 */
#include "api/request.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

struct request {
	struct api_requester *requester;
	uint64_t cookie;
	const json_t *arguments; /* NULL without any */
};

void api_request_init(void)
{
	json_object_seed(0);
}

/* Replies hold numbers, addresses and our own words, nothing that JSON would escape; so they are
 * printed. jansson takes five times as long for a list of many rules. */
static void PRINTF_LIKE(3, 4)
	reply(const struct api_requester *to, uint64_t cookie, const char *format, ...)
{
	char *text = NULL;
	va_list args;
	int len;

	va_start(args, format);
	len = vasprintf(&text, format, args);
	va_end(args);
	if (len < 0) {
		to->reply(to->owner, cookie, NULL, 0);
		return;
	}
	count(to->context->counters, COUNTER_API_REQUESTS);
	to->reply(to->owner, cookie, text, (size_t)len);
}

static void refuse(const struct api_requester *to, uint64_t cookie, const char *what)
{
	count(to->context->counters, COUNTER_API_ERRORS);
	reply(to, cookie, "{\"error\":{\"desc\":\"bad request: %s\"}}", what);
}

static void refuse_argument(const struct request *request, const char *command, const char *field)
{
	count(request->requester->context->counters, COUNTER_API_ERRORS);
	reply(request->requester, request->cookie,
		"{\"error\":{\"desc\":\"bad request: %s: bad arguments.%s\"}}", command, field);
}

static bool take_proto(const json_t *value, enum forward_proto *ret_proto)
{
	const char *text = json_string_value(value);

	if (!text || (strcmp(text, "tcp") != 0 && strcmp(text, "udp") != 0))
		return false;
	*ret_proto = *text == 't' ? FORWARD_TCP : FORWARD_UDP;
	return true;
}

/* Missing, null and "" mean the default. */
static bool take_addr(const json_t *value, struct in_addr fallback, struct ip_addr *ret_addr)
{
	const char *text = json_string_value(value);
	struct in_addr addr = fallback;

	if (value && !json_is_null(value) && !(text && !*text) &&
		(!text || inet_pton(AF_INET, text, &addr) != 1))
		return false;
	*ret_addr = ip_addr_of_v4(addr);
	return true;
}

/* The value of what is no integer (80.0 is a real) is 0. */
static bool take_port(const json_t *value, uint16_t *ret_port)
{
	json_int_t port = json_integer_value(value);

	if (port < 1 || port > UINT16_MAX)
		return false;
	*ret_port = (uint16_t)port;
	return true;
}

/* Returns the name of the first argument that is wrong, NULL when all are right. The order is
 * slirp4netns's. */
static const char *take_spec(const struct request *request, struct forward_spec *ret_spec)
{
	const struct in_addr any = {.s_addr = htonl(INADDR_ANY)};
	const struct in_addr guest = request->requester->context->guest;
	const json_t *arguments = request->arguments;

	if (!take_proto(json_object_get(arguments, "proto"), &ret_spec->proto))
		return "proto";
	if (!take_addr(json_object_get(arguments, "host_addr"), any, &ret_spec->host_addr))
		return "host_addr";
	if (!take_port(json_object_get(arguments, "host_port"), &ret_spec->host_port))
		return "host_port";
	if (!take_addr(json_object_get(arguments, "guest_addr"), guest, &ret_spec->guest_addr))
		return "guest_addr";
	if (!take_port(json_object_get(arguments, "guest_port"), &ret_spec->guest_port))
		return "guest_port";
	return NULL;
}

static void add_hostfwd(const struct request *request)
{
	struct api_requester *requester = request->requester;
	struct forward_spec spec = {.n_ports = 1, .host_fd = -1};
	const char *wrong = take_spec(request, &spec);
	struct forward_failure failure;
	uint64_t id;

	if (wrong)
		refuse_argument(request, "add_hostfwd", wrong);
	else if (forward_add(requester->context->forward, &spec, 1, &id, &failure) < 0)
		refuse(requester, request->cookie, "add_hostfwd: slirp_add_hostfwd failed");
	else
		reply(requester, request->cookie, "{\"return\":{\"id\":%" PRIu64 "}}", id);
}

static void print_rule(FILE *out, const struct forward_rule *rule)
{
	char host[INET_ADDRSTRLEN], guest[INET_ADDRSTRLEN];

	const struct in_addr host_addr = ip_addr_v4(&rule->spec.host_addr),
			     guest_addr = ip_addr_v4(&rule->spec.guest_addr);

	inet_ntop(AF_INET, &host_addr, host, sizeof(host));
	inet_ntop(AF_INET, &guest_addr, guest, sizeof(guest));
	fprintf(out,
		"{\"id\":%" PRIu64 ",\"proto\":\"%s\",\"host_addr\":\"%s\",\"host_port\":%u,"
		"\"guest_addr\":\"%s\",\"guest_port\":%u}",
		rule->id, forward_proto_name(rule->spec.proto), host, rule->spec.host_port, guest,
		rule->spec.guest_port);
}

/* The rules as a JSON array, malloc'ed; NULL without memory. */
static char *print_rules(const struct forward *forward)
{
	const struct forward_rule *rule = forward_next(forward, 0);
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	bool failed;

	if (!out)
		return NULL;
	fputc('[', out);
	while (rule) {
		print_rule(out, rule);
		rule = forward_next(forward, rule->id);
		if (rule)
			fputc(',', out);
	}
	fputc(']', out);
	failed = ferror(out);
	if (fclose(out) == 0 && !failed)
		return text;
	free(text);
	return NULL;
}

/* slirp4netns documents one shape and sends the other; clients exist for either. */
static void list_hostfwd(const struct request *request)
{
	const struct api_requester *requester = request->requester;
	char *rules = print_rules(requester->context->forward);

	if (rules)
		reply(requester, request->cookie, "{\"entries\":%s,\"return\":{\"entries\":%s}}",
			rules, rules);
	else
		requester->reply(requester->owner, request->cookie, NULL, 0);
	free(rules);
}

static void remove_hostfwd(const struct request *request)
{
	const struct api_requester *requester = request->requester;
	json_int_t id = json_integer_value(json_object_get(request->arguments, "id"));

	if (id > 0 && forward_remove(requester->context->forward, (uint64_t)id, false) == 0)
		reply(requester, request->cookie, "{\"return\":{}}");
	else
		refuse_argument(request, "remove_hostfwd", "id");
}

static const struct {
	const char *name;
	void (*run)(const struct request *request);
} commands[] = {
	{"add_hostfwd", add_hostfwd},
	{"list_hostfwd", list_hostfwd},
	{"remove_hostfwd", remove_hostfwd},
};

static void execute(const struct request *request, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(name, commands[i].name) == 0) {
			commands[i].run(request);
			return;
		}
	}
	refuse(request->requester, request->cookie, "unknown execute");
}

/* What follows the value is not looked at, and any value will do: execute() tells what it must be.
 * A byte order mark may come first. */
static json_t *parse(const char *text, size_t len, json_error_t *ret_error)
{
	static const char mark[] = {'\xef', '\xbb', '\xbf'};
	size_t skip = len >= sizeof(mark) && memcmp(text, mark, sizeof(mark)) == 0 ? 3 : 0;

	return json_loadb(text + skip, len - skip,
		JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK | JSON_DECODE_ANY, ret_error);
}

void api_request_handle(
	struct api_requester *requester, uint64_t cookie, const char *text, size_t len)
{
	struct request request = {.requester = requester, .cookie = cookie};
	json_error_t error;
	json_auto_t *root = parse(text, len, &error);
	const char *name = json_string_value(json_object_get(root, "execute"));

	/* jansson names what is wrong with a text, but not that it had no memory (but for that of a
	 * string, which it takes for a fault in the text). */
	if (!root && !error.text[0])
		requester->reply(requester->owner, cookie, NULL, 0);
	else if (!root)
		refuse(requester, cookie, "cannot parse JSON");
	else if (!json_is_object(root))
		refuse(requester, cookie, "json_object() failed");
	else if (!name)
		refuse(requester, cookie, "no execute found");
	else {
		request.arguments = json_object_get(root, "arguments");
		execute(&request, name);
	}
}

void api_request_too_large(const struct api_requester *requester, uint64_t cookie)
{
	refuse(requester, cookie, "too large message");
}
