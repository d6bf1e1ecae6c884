/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of API clients: scanner, parser, commands and forward rules, on a backend that binds
 * nothing. An input is a sequence of requests, each beginning where the scanner ended the one
 * before it. Each comes with three descriptors: a listener, an idle socket, and no socket. A rule's
 * first host port says how the backend answers:
 *
 *   1  -EADDRINUSE    2  it serves, state failed    3  -EACCES    4  -EOPNOTSUPP, guest_addr
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/request.h"
#include "api/scanner.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "forward/spec.h"
#include "tests/fuzz/fuzz.h"

#define REQUESTS_MAX 64

struct world {
	struct forward_backend backend;
	struct forward *forward;
	size_t n_bound;
	uint64_t last_id;
};

static struct world world;

static int bind_rule(struct forward_backend *backend, struct forward_rule *rule,
	struct forward_failure *ret_failure)
{
	ALWAYS(strcmp(ret_failure->field, "host_port") == 0);
	ALWAYS(rule->id > world.last_id);
	switch (rule->spec.host_port) {
	case 1:
		return -EADDRINUSE;
	case 3:
		return -EACCES;
	case 4:
		ret_failure->field = "guest_addr";
		return -EOPNOTSUPP;
	default:
		fd_close(&rule->spec.host_fd);
		world.n_bound++;
		return 0;
	}
}

static void unbind_rule(
	struct forward_backend *backend, const struct forward_rule *rule, bool close_connections)
{
	world.n_bound--;
}

static void rule_status(struct forward_backend *backend, const struct forward_rule *rule,
	struct forward_status *ret)
{
	if (rule->spec.host_port == 2)
		*ret = (struct forward_status){.state = FORWARD_FAILED, .error = EIO};
}

static const char *describe(struct forward_backend *backend)
{
	return "fuzz";
}

static const struct forward_backend_ops backend_ops = {
	.bind = bind_rule, .unbind = unbind_rule, .status = rule_status, .describe = describe};

static void check_error(const json_t *error)
{
	const char *desc = json_string_value(json_object_get(error, "desc"));
	const json_t *index = json_object_get(error, "index"),
		     *port = json_object_get(error, "port");

	ALWAYS(desc && strncmp(desc, "bad request: ", 13) == 0);
	ALWAYS(!index || (json_is_integer(index) && json_integer_value(index) >= 0));
	ALWAYS(!port || (json_integer_value(port) > 0 && json_integer_value(port) <= UINT16_MAX));
	ALWAYS(!json_object_get(error, "message") || json_object_get(error, "field"));
}

/* Every reply is one object with either an error or what was asked for; those to slirp4netns's
 * requests fit into one read of 2048 bytes, the list excepted. */
static void check_reply(struct api_reply *reply)
{
	json_t *root, *error, *value, *entries;

	ALWAYS(reply->text);
	root = json_loadb(reply->text, reply->len, JSON_REJECT_DUPLICATES, NULL);
	error = json_object_get(root, "error");
	value = json_object_get(root, "return");
	entries = json_object_get(root, "entries");
	ALWAYS(json_is_object(root));
	ALWAYS(!error != !value);
	ALWAYS(reply->text[reply->len - 1] == '}');
	if (error)
		check_error(error);
	ALWAYS(entries || json_object_get(value, "ids") || reply->len < 2048);
	if (entries)
		ALWAYS(json_array_size(entries) == forward_count(world.forward));
	json_decref(root);
	reply->text[reply->len] = '\n'; /* the server does */
	free(reply->text);
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

static bool overlap(const struct forward_spec *a, const struct forward_spec *b)
{
	return a->proto == b->proto && ip_addr_equal(&a->host_addr, &b->host_addr) &&
		a->host_port < b->host_port + b->n_ports &&
		b->host_port < a->host_port + a->n_ports;
}

static void check_rule(const struct forward_rule *rule)
{
	const struct forward_spec *spec = &rule->spec;

	ALWAYS(spec->host_port && (spec->guest_path ? !spec->guest_port : spec->guest_port > 0));
	ALWAYS(spec->n_ports && spec->host_port + spec->n_ports <= UINT16_MAX + 1);
	ALWAYS(spec->guest_path || spec->guest_port + spec->n_ports <= UINT16_MAX + 1);
	ALWAYS(spec->host_addr.family == AF_INET || spec->host_addr.family == AF_INET6);
	ALWAYS(spec->host_fd == -1);
	ALWAYS(forward_find(world.forward, spec) == rule->id);
	for (const struct forward_rule *other = forward_next(world.forward, rule->id); other;
		other = forward_next(world.forward, other->id))
		ALWAYS(!overlap(spec, &other->spec));
}

static void check_rules(void)
{
	uint64_t last = 0;
	size_t n = 0;

	for (const struct forward_rule *rule; (rule = forward_next(world.forward, last)); n++) {
		ALWAYS(rule->id > last);
		check_rule(rule);
		last = rule->id;
	}
	world.last_id = MAX(world.last_id, last);
	ALWAYS(n == forward_count(world.forward));
	ALWAYS(n == world.n_bound);
}

/* The kernel chooses its port, so it is the same rule in each run but for that. */
static int make_listener(void)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ALWAYS(bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	ALWAYS(listen(fd, 1) == 0);
	return fd;
}

static void ask(const struct api_context *context, const char *text, size_t len)
{
	bool with_fds = memmem(text, len, "host_fd", 7);
	int fds[3] = {-1, -1, -1};
	struct api_request request = {.text = text, .len = len, .fds = fds};
	struct api_reply reply;

	if (with_fds) {
		fds[0] = make_listener();
		fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		fds[2] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		request.n_fds = ARRAY_SIZE(fds);
	}
	if (len > API_REQUEST_MAX)
		api_request_too_large(context, &reply);
	else
		api_request_handle(context, &request, &reply);
	check_reply(&reply);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fd_close(&fds[i]);
}

/* Returns how many requests there were. */
static unsigned int run(const struct api_context *context, const char *text, size_t len)
{
	unsigned int n = 0;

	while (n < REQUESTS_MAX) {
		ptrdiff_t end = find_end(text, len);
		size_t size = end < 0 ? len : (size_t)end;

		ask(context, text, size);
		n++;
		check_rules();
		if (end < 0 || size == len)
			break;
		text += size;
		len -= size;
	}
	return n;
}

/* The same bytes as the text of a rule. */
static void parse_spec(const char *text, size_t len)
{
	char *copy = strndup(text, len);
	struct forward_spec spec = {0};
	const char *wrong;
	int r = forward_spec_parse(copy, NULL, NULL, &spec, &wrong);
	char line[FORWARD_SPEC_TEXT_MAX];

	ALWAYS((r < 0) == (wrong != NULL));
	if (r == 0) {
		ALWAYS(spec.n_ports);
		forward_spec_format(&spec, line);
	}
	forward_spec_done(&spec);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct counters counters = {0};
	struct api_context context = {.counters = &counters};
	unsigned int n;

	log_init("fuzz-api", LOG_LEVEL_ERROR);
	json_object_seed(1); /* the same run for the same input */
	world = (struct world){.backend = {&backend_ops}};
	world.forward = context.forward = forward_new(&world.backend);
	inet_pton(AF_INET, "10.0.2.100", &context.guest);
	n = run(&context, (const char *)data, size);
	ALWAYS(counters.value[COUNTER_API_REQUESTS] == n);
	forward_free(world.forward);
	ALWAYS(world.n_bound == 0);
	parse_spec((const char *)data, size);
	return 0;
}
