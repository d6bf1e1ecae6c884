/* SPDX-License-Identifier: Apache-2.0 */
#include "api/request.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/arguments.h"
#include "base/util.h"
#include "forward/spec.h"

struct request {
	const struct api_context *context;
	const struct api_request *from;
	const json_t *arguments; /* NULL without any */
	struct api_reply *reply;
};

/* Why a request is refused. What is zero, or NULL, is not said. */
struct refusal {
	const char *desc; /* as slirp4netns has it, after "bad request: " */
	const struct api_fault *fault;
	bool in_set; /* the fault's index means something */
	const char *hint;
};

void api_request_init(void)
{
	json_object_seed(0);
}

/* ---- replies ---- */

/* Replies hold numbers, addresses and our own words, next to nothing that JSON would escape; so
 * they are printed. jansson takes five times as long for a list of many rules. */
static void PRINTF_LIKE(2, 3) reply(const struct request *request, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vasprintf(&request->reply->text, format, args);
	va_end(args);
	if (len < 0) {
		request->reply->text = NULL;
		return;
	}
	request->reply->len = (size_t)len;
	count(request->context->counters, COUNTER_API_REQUESTS);
}

/* What was printed to `out`, from open_memstream(3), is the reply. */
static void reply_printed(const struct request *request, FILE *out, char *const *text)
{
	bool failed = ferror(out);

	if (fclose(out) == 0 && !failed) {
		request->reply->text = *text;
		request->reply->len = strlen(*text);
		count(request->context->counters, COUNTER_API_REQUESTS);
		return;
	}
	free(*text);
}

/* A path is what is printed, and JSON knows only UTF-8. */
static void print_string(FILE *out, const char *text)
{
	json_auto_t *value = json_string(text);

	if (value) {
		json_dumpf(value, out, JSON_ENCODE_ANY);
		return;
	}
	fputc('"', out);
	for (; *text; text++)
		fputc(*text < ' ' || *text > '~' || *text == '"' || *text == '\\' ? '?' : *text,
			out);
	fputc('"', out);
}

static void print_errno(FILE *out, int error)
{
	const char *name = forward_errno_name(error);

	if (name)
		fprintf(out, ",\"errno\":\"%s\"", name);
	else
		fprintf(out, ",\"errno\":\"%d\"", error);
}

/* "port 80: Permission denied; ...". */
static void print_message(FILE *out, const struct refusal *refusal)
{
	const struct api_fault *fault = refusal->fault;
	bool has_port = fault->port && strcmp(fault->field, "host_port") == 0;

	fputs(",\"message\":\"", out);
	if (has_port)
		fprintf(out, "port %u", fault->port);
	else
		fputs(fault->field, out);
	fprintf(out, ": %s", fault->why ? fault->why : strerror(fault->error));
	if (refusal->hint)
		fprintf(out, "; %s", refusal->hint);
	fputc('"', out);
}

static void print_fault(FILE *out, const struct refusal *refusal)
{
	const struct api_fault *fault = refusal->fault;

	fprintf(out, ",\"field\":\"%s\"", fault->field);
	if (refusal->in_set)
		fprintf(out, ",\"index\":%zu", fault->index);
	if (fault->port)
		fprintf(out, ",\"port\":%u", fault->port);
	if (fault->error)
		print_errno(out, fault->error);
	if (fault->why || fault->error)
		print_message(out, refusal);
}

static void refuse(const struct request *request, const struct refusal *refusal)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	count(request->context->counters, COUNTER_API_ERRORS);
	if (!out)
		return;
	fprintf(out, "{\"error\":{\"desc\":\"bad request: %s\"", refusal->desc);
	if (refusal->fault)
		print_fault(out, refusal);
	fputs("}}", out);
	reply_printed(request, out, &text);
}

static void refuse_plainly(const struct request *request, const char *desc)
{
	refuse(request, &(struct refusal){.desc = desc});
}

static void refuse_argument(const struct request *request, const char *command,
	const struct api_fault *fault, bool in_set)
{
	char desc[96];

	if (in_set)
		snprintf(desc, sizeof(desc), "%s: bad arguments.rules[%zu].%s", command,
			fault->index, fault->field);
	else
		snprintf(desc, sizeof(desc), "%s: bad arguments.%s", command, fault->field);
	refuse(request, &(struct refusal){.desc = desc, .fault = fault, .in_set = in_set});
}

/* ---- add_hostfwd ---- */

static void reply_ids(const struct request *request, uint64_t first, size_t n)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return;
	fputs("{\"return\":{\"ids\":[", out);
	for (size_t i = 0; i < n; i++)
		fprintf(out, "%s%" PRIu64, i ? "," : "", first + i);
	fputs("]}}", out);
	reply_printed(request, out, &text);
}

/* The specs are the rules' now, or gone. */
static void add_specs(
	const struct request *request, struct forward_spec *specs, size_t n, bool in_set)
{
	struct forward_failure failure;
	uint64_t id;

	if (forward_add(request->context->forward, specs, n, LOG_LEVEL_WARNING, &id, &failure) <
		0) {
		const struct api_fault fault = {
			.field = failure.field,
			.index = failure.index,
			.port = failure.port,
			.error = -failure.error,
		};

		refuse(request,
			&(struct refusal){
				.desc = "add_hostfwd: slirp_add_hostfwd failed",
				.fault = &fault,
				.in_set = in_set,
				.hint = forward_failure_hint(&failure),
			});
	} else if (in_set) {
		reply_ids(request, id, n);
	} else {
		reply(request, "{\"return\":{\"id\":%" PRIu64 "}}", id);
	}
}

static void add_set(const struct request *request, const json_t *rules)
{
	size_t n = json_array_size(rules), i = 0;
	struct forward_spec *specs;
	struct api_fault fault = {.field = "rules", .why = "it is to be an array of objects"};

	if (n == 0) {
		refuse_argument(request, "add_hostfwd", &fault, false);
		return;
	}
	specs = calloc(n, sizeof(*specs));
	if (!specs)
		return;
	while (i < n &&
		api_take_spec(request->context, request->from, json_array_get(rules, i), &specs[i],
			&fault))
		i++;
	if (i == n) {
		add_specs(request, specs, n, true);
	} else {
		fault.index = i;
		refuse_argument(request, "add_hostfwd", &fault, true);
		while (i > 0)
			forward_spec_done(&specs[--i]);
	}
	free(specs);
}

static void add_hostfwd(const struct request *request)
{
	const json_t *rules = json_object_get(request->arguments, "rules");
	struct forward_spec spec;
	struct api_fault fault;

	if (rules)
		add_set(request, rules);
	else if (api_take_spec(request->context, request->from, request->arguments, &spec, &fault))
		add_specs(request, &spec, 1, false);
	else
		refuse_argument(request, "add_hostfwd", &fault, false);
}

/* ---- list_hostfwd ---- */

static void print_ports(FILE *out, const char *name, uint16_t first, uint16_t n)
{
	if (!first)
		fprintf(out, ",\"%s\":null", name);
	else if (n == 1)
		fprintf(out, ",\"%s\":%u", name, first);
	else
		fprintf(out, ",\"%s\":\"%u-%u\"", name, first, (uint16_t)(first + n - 1));
}

static void print_unix(FILE *out, const char *path)
{
	char text[256];

	snprintf(text, sizeof(text), "unix:%s", path ? path : "");
	print_string(out, text);
}

static void print_host(FILE *out, const struct forward_spec *spec)
{
	char addr[INET6_ADDRSTRLEN] = "*";

	fputs(",\"host_addr\":", out);
	if (spec->host_addr.family == AF_UNIX) {
		print_unix(out, spec->host_path);
	} else {
		if (!spec->dual_stack)
			forward_addr_format(&spec->host_addr, addr);
		fprintf(out, "\"%s\"", addr);
	}
	print_ports(out, "host_port", spec->host_port, spec->n_ports);
}

static void print_guest(
	FILE *out, const struct api_context *context, const struct forward_spec *spec)
{
	const struct ip_addr fallback = ip_addr_of_v4(context->guest);
	char addr[INET6_ADDRSTRLEN] = "";

	fputs(",\"guest_addr\":", out);
	if (spec->guest_path) {
		print_unix(out, spec->guest_path);
	} else {
		if (spec->guest_addr.family != AF_UNSPEC)
			forward_addr_format(&spec->guest_addr, addr);
		else if (spec->host_addr.family != AF_INET6)
			forward_addr_format(&fallback, addr);
		fprintf(out, "\"%s\"", addr);
	}
	print_ports(out, "guest_port", spec->guest_port, spec->n_ports);
}

static void print_status(FILE *out, const struct forward *forward, const struct forward_rule *rule)
{
	static const char *const states[] = {
		[FORWARD_LISTENING] = "listening",
		[FORWARD_WAITING] = "waiting",
		[FORWARD_FAILED] = "failed",
	};
	struct forward_status status;

	forward_status(forward, rule, &status);
	fprintf(out,
		",\"state\":\"%s\",\"path\":\"%s\",\"lazy\":%s,\"opened\":%" PRIu64
		",\"active\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"in_bytes\":%" PRIu64
		",\"out_bytes\":%" PRIu64,
		states[status.state], forward_path_name(rule->spec.path),
		rule->spec.lazy ? "true" : "false", status.n_opened, status.n_active,
		status.n_refused, status.n_in_bytes, status.n_out_bytes);
	if (!status.error)
		return;
	print_errno(out, status.error);
	fprintf(out, ",\"message\":\"%s\"", strerror(status.error));
}

static void print_rule(
	FILE *out, const struct api_context *context, const struct forward_rule *rule)
{
	fprintf(out, "{\"id\":%" PRIu64 ",\"proto\":\"%s\"", rule->id,
		forward_proto_name(rule->spec.proto));
	print_host(out, &rule->spec);
	print_guest(out, context, &rule->spec);
	print_status(out, context->forward, rule);
	fputc('}', out);
}

/* The rules as a JSON array, malloc'ed; NULL without memory. */
static char *print_rules(const struct api_context *context)
{
	const struct forward_rule *rule = forward_next(context->forward, 0);
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	bool failed;

	if (!out)
		return NULL;
	fputc('[', out);
	while (rule) {
		print_rule(out, context, rule);
		rule = forward_next(context->forward, rule->id);
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
	char *rules = print_rules(request->context);

	if (rules)
		reply(request, "{\"entries\":%s,\"return\":{\"entries\":%s}}", rules, rules);
	free(rules);
}

/* ---- remove_hostfwd ---- */

/* Which rule is meant; 0: none, and the fault says why. */
static uint64_t find_rule(const struct request *request, struct api_fault *ret_fault)
{
	const json_t *id = json_object_get(request->arguments, "id");
	struct forward_spec spec;
	uint64_t found = 0;

	*ret_fault = (struct api_fault){.field = "id", .error = ENOENT, .why = "no such rule"};
	if (id || !json_object_get(request->arguments, "proto"))
		return json_integer_value(id) > 0 ? (uint64_t)json_integer_value(id) : 0;
	if (api_take_host_side(request->arguments, &spec, ret_fault)) {
		*ret_fault = (struct api_fault){
			.field = "host_port", .error = ENOENT, .why = "no such rule"};
		found = forward_find(request->context->forward, &spec);
		forward_spec_done(&spec);
	}
	return found;
}

static void remove_hostfwd(const struct request *request)
{
	struct api_fault fault, how;
	uint64_t id = find_rule(request, &fault);
	bool close_connections = false;

	if (id && !api_take_flag(request->arguments, "close_connections", &close_connections, &how))
		refuse_argument(request, "remove_hostfwd", &how, false);
	else if (id && forward_remove(request->context->forward, id, close_connections) == 0)
		reply(request, "{\"return\":{}}");
	else
		refuse_argument(request, "remove_hostfwd", &fault, false);
}

/* ---- any request ---- */

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
	refuse_plainly(request, "unknown execute");
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

static void handle_object(struct request *request, const json_t *root, const char *name)
{
	struct api_fault fault;

	request->reply->keep_open = request->from->is_kept;
	if (!api_take_flag(root, "keep_open", &request->reply->keep_open, &fault)) {
		request->reply->keep_open = false;
		refuse(request, &(struct refusal){.desc = "bad keep_open", .fault = &fault});
		return;
	}
	request->arguments = json_object_get(root, "arguments");
	execute(request, name);
}

void api_request_handle(
	const struct api_context *context, const struct api_request *from, struct api_reply *ret)
{
	struct request request = {.context = context, .from = from, .reply = ret};
	json_error_t error;
	json_auto_t *root = parse(from->text, from->len, &error);
	const char *name = json_string_value(json_object_get(root, "execute"));

	*ret = (struct api_reply){0};
	/* jansson names what is wrong with a text, but not that it had no memory (but for that of a
	 * string, which it takes for a fault in the text): then there is no reply. */
	if (!root && error.text[0])
		refuse_plainly(&request, "cannot parse JSON");
	else if (root && !json_is_object(root))
		refuse_plainly(&request, "json_object() failed");
	else if (root && !name)
		refuse_plainly(&request, "no execute found");
	else if (root)
		handle_object(&request, root, name);
}

void api_request_too_large(const struct api_context *context, struct api_reply *ret)
{
	*ret = (struct api_reply){0};
	refuse_plainly(&(struct request){.context = context, .reply = ret}, "too large message");
}

void api_request_too_many_fds(const struct api_context *context, struct api_reply *ret)
{
	const struct api_fault fault = {.field = "host_fd", .error = EMFILE};

	*ret = (struct api_reply){0};
	refuse(&(struct request){.context = context, .reply = ret},
		&(struct refusal){.desc = "too many descriptors", .fault = &fault});
}
