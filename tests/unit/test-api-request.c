/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/request.h"
#include "base/log.h"
#include "base/util.h"
#include "forward/spec.h"
#include "tests/support/fake-backend.h"

#define BAD(what) "{\"error\":{\"desc\":\"bad request: " what "\"}}"
/* The reply goes on behind it. */
#define BAD_ARGUMENT(command, field)                                            \
	"{\"error\":{\"desc\":\"bad request: " command ": bad arguments." field \
	"\",\"field\":\"" field "\""
#define BAD_ADD(field)  BAD_ARGUMENT("add_hostfwd", field)
#define BAD_REMOVE      BAD_ARGUMENT("remove_hostfwd", "id")
#define ADD(arguments)  "{\"execute\":\"add_hostfwd\",\"arguments\":{" arguments "}}"
#define ADD_SET(rules)  ADD("\"rules\":[" rules "]")
#define REMOVE(id)      "{\"execute\":\"remove_hostfwd\",\"arguments\":{\"id\":" id "}}"
#define REMOVE_BY(rule) "{\"execute\":\"remove_hostfwd\",\"arguments\":{" rule "}}"
#define LIST            "{\"execute\":\"list_hostfwd\"}"
#define ENTRIES(inside) "{\"entries\":[" inside "],\"return\":{\"entries\":[" inside "]}}"
#define TCP80           "\"proto\":\"tcp\",\"host_port\":8080,\"guest_port\":80"
#define PORTS(h, g)     "\"host_port\":" h ",\"guest_port\":" g

struct fixture {
	struct fake_backend fake;
	struct counters counters;
	struct api_context context;

	int fds[4]; /* that the next request comes with */
	size_t n_fds;
	char *reply; /* the last */
	bool keep_open;
};

static void set_up(struct fixture *f, gconstpointer unused)
{
	f->fake.base.ops = &fake_backend_ops;
	f->context.forward = forward_new(&f->fake.base);
	f->context.counters = &f->counters;
	inet_pton(AF_INET, "10.0.2.100", &f->context.guest);
	api_request_init();
}

static void tear_down(struct fixture *f, gconstpointer unused)
{
	forward_free(f->context.forward);
	free(f->reply);
}

static void take_reply(struct fixture *f, const struct api_reply *reply)
{
	free(f->reply);
	f->reply = reply->text;
	f->keep_open = reply->keep_open;
	if (f->reply)
		g_assert_cmpuint(strlen(f->reply), ==, reply->len);
}

/* The reply to one request. */
static const char *ask_bytes(struct fixture *f, const char *text, size_t len)
{
	/* A copy without a final NUL, so that a sanitizer sees reads behind it. */
	g_autofree char *bytes = g_malloc(MAX(len, 1u));
	const struct api_request request = {
		.text = bytes, .len = len, .fds = f->fds, .n_fds = f->n_fds};
	struct api_reply reply;

	memcpy(bytes, text, len);
	api_request_handle(&f->context, &request, &reply);
	take_reply(f, &reply);
	return f->reply;
}

static const char *ask(struct fixture *f, const char *text)
{
	g_autofree char *shown = g_strescape(text, NULL);

	g_test_message("%s", shown);
	return ask_bytes(f, text, strlen(text));
}

static const struct {
	const char *request;
	const char *reply;
} errors[] = {
	{"", BAD("cannot parse JSON")},
	{" ", BAD("cannot parse JSON")},
	{"\xef\xbb\xbf", BAD("cannot parse JSON")},
	{"badjson", BAD("cannot parse JSON")},
	{"{", BAD("cannot parse JSON")},
	{"{]", BAD("cannot parse JSON")},
	{"{\"execute\":\"list_hostfwd\"", BAD("cannot parse JSON")},
	{"{'execute':'list_hostfwd'}", BAD("cannot parse JSON")},
	{"{\"execute\":\"list_hostfwd\",}", BAD("cannot parse JSON")},
	{"{\"execute\":\"list_hostfwd\",\"execute\":\"list_hostfwd\"}", BAD("cannot parse JSON")},
	{ADD("\"proto\":\"tcp\",\"proto\":\"tcp\""), BAD("cannot parse JSON")},
	{"{\"execute\":\"list_hostfwd\\u0000\"}", BAD("cannot parse JSON")},
	{"{\"execute\":\"\xff\"}", BAD("cannot parse JSON")},
	{"{\"execute\":1e999}", BAD("cannot parse JSON")},
	{"{\"execute\":99999999999999999999}", BAD("cannot parse JSON")},
	{"null", BAD("json_object() failed")},
	{"true", BAD("json_object() failed")},
	{"1", BAD("json_object() failed")},
	{"\"list_hostfwd\"", BAD("json_object() failed")},
	{"[]", BAD("json_object() failed")},
	{"[{\"execute\":\"list_hostfwd\"}]", BAD("json_object() failed")},
	{"{}", BAD("no execute found")},
	{"{\"Execute\":\"list_hostfwd\"}", BAD("no execute found")},
	{"{\"execute\":1}", BAD("no execute found")},
	{"{\"execute\":null}", BAD("no execute found")},
	{"{\"execute\":[\"list_hostfwd\"]}", BAD("no execute found")},
	{"{\"execute\":\"\"}", BAD("unknown execute")},
	{"{\"execute\":\"bad\"}", BAD("unknown execute")},
	{"{\"execute\":\"LIST_HOSTFWD\"}", BAD("unknown execute")},
	{"{\"execute\":\"list_hostfwd \"}", BAD("unknown execute")},

	{"{\"execute\":\"add_hostfwd\"}", BAD_ADD("proto")},
	{"{\"execute\":\"add_hostfwd\",\"arguments\":[]}", BAD_ADD("proto")},
	{"{\"execute\":\"add_hostfwd\",\"arguments\":\"\"}", BAD_ADD("proto")},
	{ADD(""), BAD_ADD("proto")},
	{ADD("\"host_port\":8080,\"guest_port\":80"), BAD_ADD("proto")},
	{ADD("\"proto\":null,\"host_port\":1,\"guest_port\":1"), BAD_ADD("proto")},
	{ADD("\"proto\":\"bad\",\"host_port\":1,\"guest_port\":1"), BAD_ADD("proto")},
	{ADD("\"proto\":\"\",\"host_port\":1,\"guest_port\":1"), BAD_ADD("proto")},
	{ADD("\"proto\":\"TCP\",\"host_port\":1,\"guest_port\":1"), BAD_ADD("proto")},
	{ADD("\"proto\":\"sctp\",\"host_port\":1,\"guest_port\":1"), BAD_ADD("proto")},
	{ADD("\"proto\":6,\"host_port\":1,\"guest_port\":1"), BAD_ADD("proto")},
	{ADD(TCP80 ",\"host_addr\":\"localhost\""), BAD_ADD("host_addr")},
	{ADD(TCP80 ",\"host_addr\":\"127.1\""), BAD_ADD("host_addr")},
	{ADD(TCP80 ",\"host_addr\":\"256.0.0.1\""), BAD_ADD("host_addr")},
	{ADD(TCP80 ",\"host_addr\":\" 127.0.0.1\""), BAD_ADD("host_addr")},
	{ADD(TCP80 ",\"host_addr\":2130706433"), BAD_ADD("host_addr")},
	{ADD(TCP80 ",\"host_addr\":[]"), BAD_ADD("host_addr")},
	{ADD("\"proto\":\"tcp\",\"guest_port\":80"), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\",\"host_port\":0,\"guest_port\":80"), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\",\"host_port\":-3,\"guest_port\":80"), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\",\"host_port\":65536,\"guest_port\":80"), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\",\"host_port\":70000,\"guest_port\":80"), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\",\"host_port\":4294967376,\"guest_port\":80"), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\",\"host_port\":8084.7,\"guest_port\":80"), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\",\"host_port\":80.0,\"guest_port\":80"), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\",\"host_port\":8e1,\"guest_port\":80"), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\",\"host_port\":\"8080\",\"guest_port\":80"), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\",\"host_port\":true,\"guest_port\":80"), BAD_ADD("host_port")},
	{ADD(TCP80 ",\"guest_addr\":\"guest\""), BAD_ADD("guest_addr")},
	{ADD(TCP80 ",\"guest_addr\":0"), BAD_ADD("guest_addr")},
	{ADD("\"proto\":\"tcp\",\"host_port\":8080"), BAD_ADD("guest_port")},
	{ADD("\"proto\":\"udp\",\"host_port\":8080,\"guest_port\":0"), BAD_ADD("guest_port")},
	{ADD("\"proto\":\"udp\",\"host_port\":8080,\"guest_port\":65536"), BAD_ADD("guest_port")},
	{ADD("\"proto\":\"udp\",\"host_port\":8080,\"guest_port\":\"80\""), BAD_ADD("guest_port")},
	/* All wrong: the order of the checks. */
	{ADD("\"proto\":1,\"host_addr\":1,\"host_port\":0,\"guest_addr\":1"), BAD_ADD("proto")},
	{ADD("\"proto\":\"tcp\",\"host_addr\":1,\"host_port\":0,\"guest_addr\":1"),
		BAD_ADD("host_addr")},
	{ADD("\"proto\":\"tcp\",\"host_port\":0,\"guest_addr\":1"), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\",\"host_port\":1,\"guest_addr\":1"), BAD_ADD("guest_addr")},

	/* What slirp4netns does not have. */
	{ADD("\"proto\":\"tcp5\"," PORTS("1", "1")), BAD_ADD("proto")},
	{ADD(TCP80 ",\"host_addr\":\"::ffff:127.0.0.1\""), BAD_ADD("host_addr")},
	{ADD(TCP80 ",\"host_addr\":\"[::1]\""), BAD_ADD("host_addr")},
	{ADD(TCP80 ",\"host_addr\":\"unix:/run/x\""), BAD_ADD("host_addr")},
	{ADD("\"proto\":\"tcp6\",\"host_addr\":\"127.0.0.1\"," PORTS("1", "1")),
		BAD_ADD("host_addr")},
	{ADD("\"proto\":\"udp4\",\"host_addr\":\"::1\"," PORTS("1", "1")), BAD_ADD("host_addr")},
	{ADD("\"proto\":\"tcp\"," PORTS("\"1-\"", "1")), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\"," PORTS("\"2-1\"", "1")), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\"," PORTS("\"0-1\"", "1")), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\"," PORTS("\"65535-65536\"", "1")), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\"," PORTS("\"1-2 \"", "1")), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\"," PORTS("\"1-2\"", "1")), BAD_ADD("guest_port")},
	{ADD("\"proto\":\"tcp\"," PORTS("\"1-2\"", "\"1-3\"")), BAD_ADD("guest_port")},
	{ADD("\"proto\":\"tcp\"," PORTS("1", "\"1-3\"")), BAD_ADD("guest_port")},
	{ADD(TCP80 ",\"guest_addr\":\"unix:/run/x\""), BAD_ADD("guest_port")},
	{ADD("\"proto\":\"tcp\",\"host_port\":1,\"guest_addr\":\"unix:run\""),
		BAD_ADD("guest_addr")},
	{ADD("\"proto\":\"tcp\",\"host_port\":1,\"guest_addr\":\"unix:\""), BAD_ADD("guest_addr")},
	{ADD("\"proto\":\"udp\",\"host_port\":1,\"guest_addr\":\"unix:/x\""),
		BAD_ADD("guest_addr")},
	{ADD("\"proto\":\"tcp\",\"host_port\":1,\"guest_addr\":\"unix:/x\",\"path\":\"tap\""),
		BAD_ADD("path")},
	{ADD("\"proto\":\"tcp\",\"host_port\":1,\"guest_addr\":\"unix:/x\",\"lazy\":true"),
		BAD_ADD("lazy")},
	{ADD(TCP80 ",\"path\":\"fast\""), BAD_ADD("path")},
	{ADD(TCP80 ",\"path\":1"), BAD_ADD("path")},
	{ADD(TCP80 ",\"lazy\":1"), BAD_ADD("lazy")},
	{ADD("\"proto\":\"udp\",\"lazy\":true," PORTS("1", "1")), BAD_ADD("lazy")},
	{ADD("\"proto\":\"tcp\",\"host_fd\":0,\"guest_port\":1"), BAD_ADD("host_fd")},
	{ADD("\"proto\":\"tcp\",\"host_fd\":-1,\"guest_port\":1"), BAD_ADD("host_fd")},
	{ADD("\"proto\":\"tcp\",\"host_fd\":\"0\",\"guest_port\":1"), BAD_ADD("host_fd")},
	{ADD(TCP80 ",\"host_fd\":0"), BAD_ADD("host_port")},
	{ADD("\"proto\":\"tcp\",\"host_fd\":0,\"host_addr\":\"::1\",\"guest_port\":1"),
		BAD_ADD("host_addr")},
	{ADD("\"rules\":1"), BAD_ADD("rules")},
	{ADD("\"rules\":{}"), BAD_ADD("rules")},
	{ADD("\"rules\":null"), BAD_ADD("rules")},
	{ADD_SET(""), BAD_ADD("rules")},
	{ADD_SET("1"),
		"{\"error\":{\"desc\":\"bad request: add_hostfwd: bad arguments.rules[0].proto\","
		"\"field\":\"proto\",\"index\":0,\"message\":\"proto: "},
	{ADD_SET("{" TCP80 "},{\"proto\":\"tcp\"}"),
		"{\"error\":{\"desc\":\"bad request: add_hostfwd: bad "
		"arguments.rules[1].host_port\","
		"\"field\":\"host_port\",\"index\":1,\"message\":\"host_port: "},
	{"{\"execute\":\"list_hostfwd\",\"keep_open\":1}",
		"{\"error\":{\"desc\":\"bad request: bad keep_open\",\"field\":\"keep_open\""},

	{"{\"execute\":\"remove_hostfwd\"}", BAD_REMOVE},
	{"{\"execute\":\"remove_hostfwd\",\"arguments\":{}}", BAD_REMOVE},
	{"{\"execute\":\"remove_hostfwd\",\"arguments\":[1]}", BAD_REMOVE},
	{REMOVE("0"), BAD_REMOVE},
	{REMOVE("-1"), BAD_REMOVE},
	{REMOVE("1"), BAD_REMOVE},
	{REMOVE("1.0"), BAD_REMOVE},
	{REMOVE("\"1\""), BAD_REMOVE},
	{REMOVE("null"), BAD_REMOVE},
	{REMOVE("\"x\",\"proto\":\"tcp\",\"host_port\":1"), BAD_REMOVE},
	{REMOVE("1,\"close_connections\":1"), BAD_ARGUMENT("remove_hostfwd", "close_connections")},
	{REMOVE_BY("\"proto\":\"tcp\""), BAD_ARGUMENT("remove_hostfwd", "host_port")},
	{REMOVE_BY("\"proto\":7,\"host_port\":1"), BAD_ARGUMENT("remove_hostfwd", "proto")},
	{REMOVE_BY("\"proto\":\"tcp\",\"host_addr\":\"x\",\"host_port\":1"),
		BAD_ARGUMENT("remove_hostfwd", "host_addr")},
	{REMOVE_BY("\"proto\":\"tcp\",\"host_port\":1"),
		BAD_ARGUMENT("remove_hostfwd", "host_port") ",\"errno\":\"ENOENT\""},
	{REMOVE_BY("\"proto\":\"tcp\",\"host_addr\":\"unix:/x\""),
		BAD_ARGUMENT("remove_hostfwd", "host_port") ",\"errno\":\"ENOENT\""},
	{REMOVE("9223372036854775807"), BAD_REMOVE},
};

static void test_errors(struct fixture *f, gconstpointer unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		json_auto_t *root = json_loads(ask(f, errors[i].request), 0, NULL);

		g_assert_true(g_str_has_prefix(f->reply, errors[i].reply));
		g_assert_cmpuint(strlen(f->reply), <, 2048);
		g_assert_nonnull(json_object_get(root, "error"));
		g_assert_cmpuint(json_object_size(root), ==, 1);
		g_assert_false(f->keep_open);
	}
	g_assert_cmpuint(f->fake.n_bind + f->fake.n_unbind, ==, 0);
	g_assert_cmpuint(f->counters.value[COUNTER_API_REQUESTS], ==, ARRAY_SIZE(errors));
	g_assert_cmpuint(f->counters.value[COUNTER_API_ERRORS], ==, ARRAY_SIZE(errors));
}

static void test_too_large(struct fixture *f, gconstpointer unused)
{
	struct api_reply reply;

	api_request_too_large(&f->context, &reply);
	take_reply(f, &reply);
	g_assert_cmpstr(f->reply, ==, BAD("too large message"));
	api_request_too_many_fds(&f->context, &reply);
	take_reply(f, &reply);
	g_assert_true(g_str_has_prefix(f->reply,
		"{\"error\":{\"desc\":\"bad request: too many descriptors\",\"field\":\"host_fd\","
		"\"errno\":\"EMFILE\",\"message\":"));
	g_assert_cmpuint(f->counters.value[COUNTER_API_ERRORS], ==, 2);
}

/* Deeper than the parser goes: an answer, and no deep recursion. */
static void test_nesting(struct fixture *f, gconstpointer unused)
{
	g_autofree char *text = g_malloc(API_REQUEST_MAX);

	memset(text, '[', API_REQUEST_MAX);
	g_assert_cmpstr(ask_bytes(f, text, API_REQUEST_MAX), ==, BAD("cannot parse JSON"));
	memset(text, ']', API_REQUEST_MAX);
	memset(text, '[', 1000);
	g_assert_cmpstr(ask_bytes(f, text, 2000), ==, BAD("json_object() failed"));
}

/* The last spec as a rule's host side, path and guest. */
static void assert_last(struct fixture *f, const char *expected)
{
	const struct forward_spec *spec = &f->fake.last;
	char host[FORWARD_SPEC_TEXT_MAX], guest[INET6_ADDRSTRLEN] = "guest";
	g_autofree char *text = NULL;

	forward_spec_format(spec, host);
	if (spec->guest_addr.family != AF_UNSPEC)
		forward_addr_format(&spec->guest_addr, guest);
	text = g_strdup_printf("%s %s%s %s %u+%u", host, forward_path_name(spec->path),
		spec->lazy ? " lazy" : "", guest, spec->guest_port, spec->n_ports);
	g_assert_cmpstr(text, ==, expected);
}

static const struct {
	const char *request, *spec;
} adds[] = {
	{ADD(TCP80), "0.0.0.0:8080/tcp auto guest 80+1"},
	{ADD("\"proto\":\"udp\",\"host_addr\":\"\",\"guest_addr\":\"\"," PORTS("65535", "1")),
		"0.0.0.0:65535/udp auto guest 1+1"},
	{ADD("\"proto\":\"tcp\",\"host_addr\":\"127.0.0.1\",\"guest_addr\":\"192.168.1.7\"," PORTS(
		 "1", "65535")),
		"127.0.0.1:1/tcp auto 192.168.1.7 65535+1"},
	{ADD("\"proto\":\"tcp\",\"host_addr\":null,\"guest_addr\":null," PORTS("2", "2")),
		"0.0.0.0:2/tcp auto guest 2+1"},
	{ADD("\"proto\":\"tcp\",\"guest_addr\":\"0.0.0.0\"," PORTS("3", "2")),
		"0.0.0.0:3/tcp auto 0.0.0.0 2+1"},
	/* Unknown keys are ignored, whatever they hold. */
	{"{\"x\":{},\"arguments\":{\"host_ip\":\"127.0.0.1\",\"guest_port\":3,"
	 "\"host_port\":3,\"proto\":\"udp\"},\"execute\":\"add_hostfwd\"}",
		"0.0.0.0:3/udp auto guest 3+1"},
	{ADD("\"proto\":\"tcp4\"," PORTS("4", "4")), "0.0.0.0:4/tcp auto guest 4+1"},
	{ADD("\"proto\":\"tcp6\"," PORTS("4", "4")), "[::]:4/tcp auto guest 4+1"},
	{ADD("\"proto\":\"udp6\",\"host_addr\":\"::1\",\"guest_addr\":\"fd00::7\"," PORTS(
		 "4", "4")),
		"[::1]:4/udp auto fd00::7 4+1"},
	{ADD("\"proto\":\"tcp\",\"host_addr\":\"*\"," PORTS("5", "5")), "*:5/tcp auto guest 5+1"},
	{ADD("\"proto\":\"tcp\"," PORTS("\"8000-8009\"", "\"80-89\"")),
		"0.0.0.0:8000-8009/tcp auto guest 80+10"},
	{ADD("\"proto\":\"tcp\"," PORTS("\"6-6\"", "7")), "0.0.0.0:6/tcp auto guest 7+1"},
	{ADD("\"proto\":\"tcp\",\"path\":\"splice\",\"lazy\":true," PORTS("7", "7")),
		"0.0.0.0:7/tcp splice lazy guest 7+1"},
	{ADD("\"proto\":\"tcp\",\"path\":\"tap\",\"lazy\":false," PORTS("8", "7")),
		"0.0.0.0:8/tcp tap guest 7+1"},
	{ADD("\"proto\":\"tcp\",\"path\":null,\"lazy\":null,\"host_fd\":null," PORTS("9", "7")),
		"0.0.0.0:9/tcp auto guest 7+1"},
	{ADD("\"proto\":\"tcp\",\"host_port\":10,\"guest_addr\":\"unix:/run/\\u00e4\""),
		"0.0.0.0:10/tcp auto guest 0+1"},
};

static void test_add(struct fixture *f, gconstpointer unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(adds); i++) {
		g_autofree char *reply = g_strdup_printf("{\"return\":{\"id\":%zu}}", i + 1);

		g_assert_cmpstr(ask(f, adds[i].request), ==, reply);
		assert_last(f, adds[i].spec);
	}
	g_assert_cmpuint(f->counters.value[COUNTER_API_REQUESTS], ==, ARRAY_SIZE(adds));
	g_assert_cmpuint(f->counters.value[COUNTER_API_ERRORS], ==, 0);
}

/* --forward-path and --lazy-listen hold where the rule says nothing and it is possible. */
static void test_defaults(struct fixture *f, gconstpointer unused)
{
	f->context.path = FORWARD_TAP;
	f->context.lazy = true;
	ask(f, ADD(TCP80));
	assert_last(f, "0.0.0.0:8080/tcp tap lazy guest 80+1");
	ask(f, ADD("\"proto\":\"tcp\",\"path\":\"auto\",\"lazy\":false," PORTS("1", "2")));
	assert_last(f, "0.0.0.0:1/tcp auto guest 2+1");
	ask(f, ADD("\"proto\":\"udp\"," PORTS("1", "2")));
	assert_last(f, "0.0.0.0:1/udp tap guest 2+1");
	ask(f, ADD("\"proto\":\"tcp\",\"host_port\":2,\"guest_addr\":\"unix:/x\""));
	assert_last(f, "0.0.0.0:2/tcp auto guest 0+1");
}

static void test_set(struct fixture *f, gconstpointer unused)
{
	static const char two[] =
		ADD_SET("{" TCP80 "},{\"proto\":\"udp\"," PORTS("\"1-3\"", "\"2-4\"") "}");

	g_assert_cmpstr(ask(f, two), ==, "{\"return\":{\"ids\":[1,2]}}");
	assert_last(f, "0.0.0.0:1-3/udp auto guest 2+3");
	g_assert_cmpstr(ask(f, ADD_SET("{\"proto\":\"tcp\"," PORTS("1", "1") "}")), ==,
		"{\"return\":{\"ids\":[3]}}");
	/* None of the second's rules stays. */
	g_assert_cmpstr(ask(f, ADD_SET("{\"proto\":\"tcp\"," PORTS("2", "1") "},{" TCP80 "}")), ==,
		"{\"error\":{\"desc\":\"bad request: add_hostfwd: slirp_add_hostfwd failed\","
		"\"field\":\"host_port\",\"index\":1,\"port\":8080,\"errno\":\"EADDRINUSE\","
		"\"message\":\"port 8080: Address already in use; another rule or another "
		"program has it\"}}");
	g_assert_cmpuint(forward_count(f->context.forward), ==, 3);
	g_assert_cmpuint(f->fake.n_bind, ==, 3);
}

/* 10,000 rules fit into a request. */
static void test_large_set(struct fixture *f, gconstpointer unused)
{
	g_autoptr(GString) text = g_string_new("{\"execute\":\"add_hostfwd\",\"arguments\":{"
					       "\"rules\":[");

	for (int port = 10001; port <= 20000; port++)
		g_string_append_printf(text,
			"%s{\"proto\":\"tcp\",\"host_port\":%d,\"guest_port\":%d,"
			"\"host_addr\":\"127.0.0.1\",\"path\":\"tap\"}",
			port > 10001 ? "," : "", port, port);
	g_string_append(text, "]}}");
	g_assert_cmpuint(text->len, <, API_REQUEST_MAX);
	ask_bytes(f, text->str, text->len);
	g_assert_true(g_str_has_prefix(f->reply, "{\"return\":{\"ids\":[1,2,3,"));
	g_assert_true(g_str_has_suffix(f->reply, ",9999,10000]}}"));
	g_assert_cmpuint(forward_count(f->context.forward), ==, 10000);
}

/* One that the kernel chose a port for. */
static int listener(uint16_t *ret_port)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, len), ==, 0);
	g_assert_cmpint(listen(fd, 1), ==, 0);
	g_assert_cmpint(getsockname(fd, (struct sockaddr *)&addr, &len), ==, 0);
	*ret_port = ntohs(addr.sin_port);
	return fd;
}

#define FROM_FD(i) "\"proto\":\"tcp\",\"host_fd\":" i ",\"guest_port\":80"

static void test_descriptors(struct fixture *f, gconstpointer unused)
{
	uint16_t port;
	g_autofree char *expected = NULL;
	int taken = listener(&port);

	f->fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	f->fds[1] = taken;
	f->n_fds = 2;
	g_assert_true(g_str_has_prefix(
		ask(f, ADD(FROM_FD("0"))), BAD_ADD("host_fd") ",\"errno\":\"EINVAL\""));
	g_assert_true(g_str_has_prefix(ask(f, ADD(FROM_FD("2"))), BAD_ADD("host_fd")));
	g_assert_cmpstr(ask(f, ADD(FROM_FD("1"))), ==, "{\"return\":{\"id\":1}}");
	expected = g_strdup_printf("127.0.0.1:%u/tcp auto guest 80+1", port);
	assert_last(f, expected);
	g_assert_cmpint(f->fake.last.source, ==, FORWARD_FROM_FD);
	g_assert_cmpint(f->fds[1], ==, -1);
	g_assert_cmpint(fcntl(taken, F_GETFD), ==, -1);
	/* Once is enough. */
	g_assert_true(g_str_has_prefix(ask(f, ADD(FROM_FD("1"))), BAD_ADD("host_fd")));
	close(f->fds[0]);
}

/* A rule of the set that is wrong takes the others' descriptors with it. */
static void test_descriptors_of_bad_set(struct fixture *f, gconstpointer unused)
{
	uint16_t port;
	int fd = listener(&port);

	f->fds[0] = fd;
	f->n_fds = 1;
	g_assert_nonnull(strstr(ask(f, ADD_SET("{" FROM_FD("0") "},{" FROM_FD("0") "}")),
		"bad arguments.rules[1].host_fd\",\"field\":\"host_fd\",\"index\":1"));
	g_assert_cmpint(f->fds[0], ==, -1);
	g_assert_cmpint(fcntl(fd, F_GETFD), ==, -1);
	g_assert_cmpuint(f->fake.n_bind, ==, 0);
}

static void test_keep_open(struct fixture *f, gconstpointer unused)
{
	g_assert_cmpstr(
		ask(f, "{\"execute\":\"list_hostfwd\",\"keep_open\":true}"), ==, ENTRIES(""));
	g_assert_true(f->keep_open);
	ask(f, "{\"execute\":\"bad\",\"keep_open\":true}");
	g_assert_true(f->keep_open);
	ask(f, "{\"execute\":\"list_hostfwd\",\"keep_open\":false}");
	g_assert_false(f->keep_open);
	ask(f, "{\"execute\":\"list_hostfwd\",\"arguments\":{\"keep_open\":true}}");
	g_assert_false(f->keep_open);
}

static void test_lenient(struct fixture *f, gconstpointer unused)
{
	g_assert_cmpstr(ask(f, " \t\r\n" LIST "\n"), ==, ENTRIES(""));
	g_assert_cmpstr(ask(f, "\xef\xbb\xbf" LIST), ==, ENTRIES(""));
	g_assert_cmpstr(ask(f, "\xef\xbb\xbf \n" LIST), ==, ENTRIES(""));
	g_assert_cmpstr(ask(f, LIST "junk{"), ==, ENTRIES(""));
	g_assert_cmpstr(ask(f, LIST LIST), ==, ENTRIES(""));
	g_assert_cmpstr(ask(f, "{\"execute\":\"list\\u005fhostfwd\"}"), ==, ENTRIES(""));
	g_assert_cmpstr(ask(f, "{\"execute\":\"list_hostfwd\",\"arguments\":7}"), ==, ENTRIES(""));
}

#define FAILED "{\"error\":{\"desc\":\"bad request: add_hostfwd: slirp_add_hostfwd failed\""

static void test_add_fails(struct fixture *f, gconstpointer unused)
{
	f->fake.bind_answer = -EACCES;
	ask(f, ADD("\"proto\":\"tcp\"," PORTS("80", "80")));
	g_assert_true(g_str_has_prefix(f->reply,
		FAILED ",\"field\":\"host_port\",\"port\":80,\"errno\":\"EACCES\","
		       "\"message\":\"port 80: Permission denied; "));
	g_assert_nonnull(strstr(f->reply, "net.ipv4.ip_unprivileged_port_start"));
	g_assert_nonnull(strstr(f->reply, "descriptor"));
	f->fake.bind_answer = -EADDRNOTAVAIL;
	f->fake.bind_field = "host_addr";
	g_assert_cmpstr(ask(f, ADD(TCP80)), ==,
		FAILED ",\"field\":\"host_addr\",\"port\":8080,\"errno\":\"EADDRNOTAVAIL\","
		       "\"message\":\"host_addr: Cannot assign requested address; it is no "
		       "address of this host\"}}");
	f->fake.bind_answer = 0;
	g_assert_cmpstr(ask(f, ADD(TCP80)), ==, "{\"return\":{\"id\":1}}");
	/* A duplicate does not reach the backend. */
	g_assert_true(g_str_has_prefix(ask(f, ADD(TCP80)), FAILED));
	g_assert_cmpuint(f->fake.n_bind, ==, 3);
}

#define STATUS                                                                                 \
	",\"state\":\"listening\",\"path\":\"auto\",\"lazy\":false,\"opened\":0,\"active\":0," \
	"\"refused\":0,\"in_bytes\":0,\"out_bytes\":0}"
#define ENTRY(id, proto, host, ports, guest)                                                     \
	"{\"id\":" id ",\"proto\":\"" proto "\",\"host_addr\":\"" host "\",\"host_port\":" ports \
	",\"guest_addr\":\"" guest "\",\"guest_port\":80" STATUS

static void test_list_and_remove(struct fixture *f, gconstpointer unused)
{
	g_assert_cmpstr(ask(f, LIST), ==, ENTRIES(""));
	ask(f, ADD(TCP80));
	ask(f,
		ADD("\"proto\":\"udp\",\"host_port\":8080,\"guest_port\":80,"
		    "\"host_addr\":\"127.0.0.1\",\"guest_addr\":\"0.0.0.0\""));
	g_assert_cmpstr(ask(f, LIST), ==,
		ENTRIES(ENTRY("1", "tcp", "0.0.0.0", "8080", "10.0.2.100") "," ENTRY(
			"2", "udp", "127.0.0.1", "8080", "0.0.0.0")));
	g_assert_cmpstr(ask(f, REMOVE("1")), ==, "{\"return\":{}}");
	g_assert_cmpuint(f->fake.n_unbind, ==, 1);
	g_assert_false(f->fake.closed_connections);
	g_assert_true(g_str_has_prefix(ask(f, REMOVE("1")), BAD_REMOVE));
	g_assert_cmpstr(
		ask(f, LIST), ==, ENTRIES(ENTRY("2", "udp", "127.0.0.1", "8080", "0.0.0.0")));
	g_assert_cmpstr(ask(f, REMOVE("2,\"close_connections\":true")), ==, "{\"return\":{}}");
	g_assert_true(f->fake.closed_connections);
	g_assert_cmpstr(ask(f, LIST), ==, ENTRIES(""));
}

static void test_list_new(struct fixture *f, gconstpointer unused)
{
	ask(f, ADD("\"proto\":\"tcp6\"," PORTS("1", "80")));
	ask(f, ADD("\"proto\":\"tcp\",\"host_addr\":\"*\"," PORTS("2", "80")));
	ask(f,
		ADD("\"proto\":\"tcp\",\"host_addr\":\"::1\",\"guest_addr\":\"fd00::7\"," PORTS(
			"3", "80")));
	g_assert_cmpstr(ask(f, LIST), ==,
		ENTRIES(ENTRY("1", "tcp", "::", "1", "") "," ENTRY(
			"2", "tcp", "*", "2", "") "," ENTRY("3", "tcp", "::1", "3", "fd00::7")));
	ask(f, REMOVE("1"));
	ask(f, REMOVE("2"));
	ask(f, REMOVE("3"));
	f->fake.status = (struct forward_status){FORWARD_FAILED, EADDRNOTAVAIL, 1, 2, 3, 4, 5};
	ask(f,
		ADD("\"proto\":\"tcp\",\"host_port\":\"10-12\",\"guest_port\":\"20-22\",\"lazy\":"
		    "true,"
		    "\"path\":\"splice\""));
	g_assert_nonnull(strstr(ask(f, LIST),
		",\"host_port\":\"10-12\",\"guest_addr\":\"10.0.2.100\",\"guest_port\":\"20-22\","
		"\"state\":\"failed\",\"path\":\"splice\",\"lazy\":true,\"opened\":1,\"active\":2,"
		"\"refused\":3,\"in_bytes\":4,\"out_bytes\":5,\"errno\":\"EADDRNOTAVAIL\","
		"\"message\":\"Cannot assign requested address\"}"));
	f->fake.status = (struct forward_status){.state = FORWARD_WAITING};
	g_assert_nonnull(strstr(ask(f, LIST), "\"state\":\"waiting\""));
}

/* Whatever bytes are in a path, the list is JSON. */
static void test_list_paths(struct fixture *f, gconstpointer unused)
{
	static const char *const texts[] = {
		"unix:/a\"b:unix:/c\\d\x01", "unix:/\xff\"\\:80", "unix:/\xc3\xa4:80"};
	json_auto_t *root = NULL;
	const json_t *entry;
	uint64_t id;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct forward_spec spec = {0};
		struct forward_failure failure;
		const char *wrong;

		g_assert_cmpint(forward_spec_parse(texts[i], NULL, NULL, &spec, &wrong), ==, 0);
		g_assert_cmpint(
			forward_add(f->context.forward, &spec, 1, LOG_LEVEL_WARNING, &id, &failure),
			==, 0);
	}
	root = json_loads(ask(f, LIST), 0, NULL);
	g_assert_nonnull(root);
	entry = json_array_get(json_object_get(root, "entries"), 0);
	g_assert_cmpstr(json_string_value(json_object_get(entry, "host_addr")), ==, "unix:/a\"b");
	g_assert_cmpstr(
		json_string_value(json_object_get(entry, "guest_addr")), ==, "unix:/c\\d\x01");
	g_assert_true(json_is_null(json_object_get(entry, "host_port")));
	g_assert_true(json_is_null(json_object_get(entry, "guest_port")));
	entry = json_array_get(json_object_get(root, "entries"), 2);
	g_assert_cmpstr(
		json_string_value(json_object_get(entry, "host_addr")), ==, "unix:/\xc3\xa4");
	g_assert_cmpstr(ask(f, REMOVE_BY("\"proto\":\"tcp\",\"host_addr\":\"unix:/a\\\"b\"")), ==,
		"{\"return\":{}}");
}

static void test_remove_by_rule(struct fixture *f, gconstpointer unused)
{
	ask(f, ADD(TCP80));
	ask(f, ADD("\"proto\":\"tcp\",\"host_addr\":\"*\"," PORTS("\"10-12\"", "\"10-12\"")));
	g_assert_true(g_str_has_prefix(
		ask(f, REMOVE_BY("\"proto\":\"tcp\",\"host_addr\":\"*\",\"host_port\":10")),
		BAD_ARGUMENT("remove_hostfwd", "host_port")));
	g_assert_cmpstr(
		ask(f, REMOVE_BY("\"proto\":\"tcp\",\"host_addr\":\"*\",\"host_port\":\"10-12\"")),
		==, "{\"return\":{}}");
	g_assert_cmpstr(ask(f,
				REMOVE_BY("\"proto\":\"tcp\",\"host_port\":8080,"
					  "\"close_connections\":true")),
		==, "{\"return\":{}}");
	g_assert_true(f->fake.closed_connections);
	g_assert_cmpuint(forward_count(f->context.forward), ==, 0);
}

/* jansson without memory from its n-th allocation on: no reply, or, since it takes a string without
 * memory for a fault in the text, an error; and nothing done. */
static unsigned int allocations_left;

static void *scarce_malloc(size_t size)
{
	return allocations_left > 0 && allocations_left-- ? malloc(size) : NULL;
}

static void test_no_memory(struct fixture *f, gconstpointer unused)
{
	static const char request[] = ADD("\"proto\":\"tcp\",\"host_addr\":\"127.0.0.1\","
					  "\"host_port\":8080,\"guest_port\":80,\"x\":[1,{}]");
	unsigned int n, n_silent = 0;

	json_set_alloc_funcs(scarce_malloc, free);
	for (n = 0; n < 1000; n++) {
		allocations_left = n;
		ask(f, request);
		if (f->fake.n_bind > 0)
			break;
		if (f->reply)
			g_assert_cmpstr(f->reply, ==, BAD("cannot parse JSON"));
		else
			n_silent++;
	}
	json_set_alloc_funcs(malloc, free);
	g_assert_cmpstr(f->reply, ==, "{\"return\":{\"id\":1}}");
	g_assert_cmpuint(n_silent, >, 10);
	g_assert_cmpuint(f->counters.value[COUNTER_API_REQUESTS], ==, n + 1 - n_silent);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	log_init("test-api-request", LOG_LEVEL_ERROR);
#define TEST(name, function) \
	g_test_add("/api-request/" name, struct fixture, NULL, set_up, function, tear_down)
	TEST("errors", test_errors);
	TEST("too-large", test_too_large);
	TEST("nesting", test_nesting);
	TEST("add", test_add);
	TEST("defaults", test_defaults);
	TEST("set", test_set);
	TEST("large-set", test_large_set);
	TEST("descriptors", test_descriptors);
	TEST("descriptors-of-bad-set", test_descriptors_of_bad_set);
	TEST("keep-open", test_keep_open);
	TEST("lenient", test_lenient);
	TEST("add-fails", test_add_fails);
	TEST("list-and-remove", test_list_and_remove);
	TEST("list-new", test_list_new);
	TEST("list-paths", test_list_paths);
	TEST("remove-by-rule", test_remove_by_rule);
	TEST("no-memory", test_no_memory);
	return g_test_run();
}
