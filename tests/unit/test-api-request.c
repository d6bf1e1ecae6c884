/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "api/request.h"
#include "base/log.h"
#include "base/util.h"
#include "tests/support/fake-backend.h"

#define BAD(what)       "{\"error\":{\"desc\":\"bad request: " what "\"}}"
#define BAD_ADD(field)  BAD("add_hostfwd: bad arguments." field)
#define BAD_REMOVE      BAD("remove_hostfwd: bad arguments.id")
#define ADD(arguments)  "{\"execute\":\"add_hostfwd\",\"arguments\":{" arguments "}}"
#define REMOVE(id)      "{\"execute\":\"remove_hostfwd\",\"arguments\":{\"id\":" id "}}"
#define LIST            "{\"execute\":\"list_hostfwd\"}"
#define ENTRIES(inside) "{\"entries\":[" inside "],\"return\":{\"entries\":[" inside "]}}"
#define TCP80           "\"proto\":\"tcp\",\"host_port\":8080,\"guest_port\":80"

struct fixture {
	struct fake_backend fake;
	struct counters counters;
	struct api_context context;
	struct api_requester requester;

	unsigned int n_replies;
	uint64_t cookie;
	char *reply; /* the last */
};

static void take_reply(void *owner, uint64_t cookie, char *text, size_t len)
{
	struct fixture *f = owner;

	f->n_replies++;
	f->cookie = cookie;
	free(f->reply);
	f->reply = text;
	if (text)
		g_assert_cmpuint(strlen(text), ==, len);
}

static void set_up(struct fixture *f, gconstpointer unused)
{
	f->fake.base.ops = &fake_backend_ops;
	f->context.forward = forward_new(&f->fake.base);
	f->context.counters = &f->counters;
	inet_pton(AF_INET, "10.0.2.100", &f->context.guest);
	f->requester =
		(struct api_requester){.context = &f->context, .reply = take_reply, .owner = f};
	api_request_init();
}

static void tear_down(struct fixture *f, gconstpointer unused)
{
	forward_free(f->context.forward);
	free(f->reply);
}

/* The reply to one request; exactly one comes, with its cookie. */
static const char *ask_bytes(struct fixture *f, const char *text, size_t len)
{
	unsigned int n = f->n_replies;
	/* A copy without a final NUL, so that a sanitizer sees reads behind it. */
	g_autofree char *bytes = g_malloc(MAX(len, 1u));

	memcpy(bytes, text, len);
	api_request_handle(&f->requester, 1000 + n, bytes, len);
	g_assert_cmpuint(f->n_replies, ==, n + 1);
	g_assert_cmpuint(f->cookie, ==, 1000 + n);
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
	{ADD("\"proto\":\"tcp4\",\"host_port\":1,\"guest_port\":1"), BAD_ADD("proto")},
	{ADD("\"proto\":\"udp6\",\"host_port\":1,\"guest_port\":1"), BAD_ADD("proto")},
	{ADD("\"proto\":\"sctp\",\"host_port\":1,\"guest_port\":1"), BAD_ADD("proto")},
	{ADD("\"proto\":6,\"host_port\":1,\"guest_port\":1"), BAD_ADD("proto")},
	{ADD(TCP80 ",\"host_addr\":\"::\""), BAD_ADD("host_addr")},
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
	{ADD(TCP80 ",\"guest_addr\":\"fd00::100\""), BAD_ADD("guest_addr")},
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

	{"{\"execute\":\"remove_hostfwd\"}", BAD_REMOVE},
	{"{\"execute\":\"remove_hostfwd\",\"arguments\":{}}", BAD_REMOVE},
	{"{\"execute\":\"remove_hostfwd\",\"arguments\":[1]}", BAD_REMOVE},
	{REMOVE("0"), BAD_REMOVE},
	{REMOVE("-1"), BAD_REMOVE},
	{REMOVE("1"), BAD_REMOVE},
	{REMOVE("1.0"), BAD_REMOVE},
	{REMOVE("\"1\""), BAD_REMOVE},
	{REMOVE("null"), BAD_REMOVE},
	{REMOVE("9223372036854775807"), BAD_REMOVE},
};

static void test_errors(struct fixture *f, gconstpointer unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		g_assert_cmpstr(ask(f, errors[i].request), ==, errors[i].reply);
		g_assert_cmpuint(strlen(f->reply), <, 2048);
	}
	g_assert_cmpuint(f->fake.n_bind + f->fake.n_unbind, ==, 0);
	g_assert_cmpuint(f->counters.value[COUNTER_API_REQUESTS], ==, ARRAY_SIZE(errors));
	g_assert_cmpuint(f->counters.value[COUNTER_API_ERRORS], ==, ARRAY_SIZE(errors));
}

static void test_too_large(struct fixture *f, gconstpointer unused)
{
	api_request_too_large(&f->requester, 5);
	g_assert_cmpstr(f->reply, ==, BAD("too large message"));
	g_assert_cmpuint(f->cookie, ==, 5);
	g_assert_cmpuint(f->counters.value[COUNTER_API_ERRORS], ==, 1);
}

/* Deeper than the parser goes: an answer, and no deep recursion. */
static void test_nesting(struct fixture *f, gconstpointer unused)
{
	char text[API_REQUEST_MAX];

	memset(text, '[', sizeof(text));
	g_assert_cmpstr(ask_bytes(f, text, sizeof(text)), ==, BAD("cannot parse JSON"));
	memset(text, ']', sizeof(text));
	memset(text, '[', 1000);
	g_assert_cmpstr(ask_bytes(f, text, 2000), ==, BAD("json_object() failed"));
}

static void assert_last(struct fixture *f, enum forward_proto proto, const char *host_addr,
	uint16_t host_port, const char *guest_addr, uint16_t guest_port)
{
	const struct forward_spec *spec = &f->fake.last.spec;

	g_assert_cmpint(spec->proto, ==, proto);
	g_assert_cmpuint(spec->host_addr.s_addr, ==, inet_addr(host_addr));
	g_assert_cmpuint(spec->host_port, ==, host_port);
	g_assert_cmpuint(spec->guest_addr.s_addr, ==, inet_addr(guest_addr));
	g_assert_cmpuint(spec->guest_port, ==, guest_port);
}

static void test_add(struct fixture *f, gconstpointer unused)
{
	g_assert_cmpstr(ask(f, ADD(TCP80)), ==, "{\"return\":{\"id\":1}}");
	assert_last(f, FORWARD_TCP, "0.0.0.0", 8080, "10.0.2.100", 80);
	g_assert_cmpstr(ask(f,
				ADD("\"proto\":\"udp\",\"host_addr\":\"\",\"host_port\":65535,"
				    "\"guest_addr\":\"\",\"guest_port\":1")),
		==, "{\"return\":{\"id\":2}}");
	assert_last(f, FORWARD_UDP, "0.0.0.0", 65535, "10.0.2.100", 1);
	g_assert_cmpstr(ask(f,
				ADD("\"proto\":\"tcp\",\"host_addr\":\"127.0.0.1\",\"host_port\":1,"
				    "\"guest_addr\":\"192.168.1.7\",\"guest_port\":65535")),
		==, "{\"return\":{\"id\":3}}");
	assert_last(f, FORWARD_TCP, "127.0.0.1", 1, "192.168.1.7", 65535);
	g_assert_cmpstr(ask(f,
				ADD("\"proto\":\"tcp\",\"host_addr\":null,\"host_port\":2,"
				    "\"guest_addr\":null,\"guest_port\":2")),
		==, "{\"return\":{\"id\":4}}");
	assert_last(f, FORWARD_TCP, "0.0.0.0", 2, "10.0.2.100", 2);
	/* Unknown keys are ignored, whatever they hold. */
	g_assert_cmpstr(
		ask(f,
			"{\"x\":{},\"arguments\":{\"host_ip\":\"127.0.0.1\",\"guest_port\":3,"
			"\"host_port\":3,\"proto\":\"udp\"},\"execute\":\"add_hostfwd\"}"),
		==, "{\"return\":{\"id\":5}}");
	assert_last(f, FORWARD_UDP, "0.0.0.0", 3, "10.0.2.100", 3);
	g_assert_cmpuint(f->counters.value[COUNTER_API_REQUESTS], ==, 5);
	g_assert_cmpuint(f->counters.value[COUNTER_API_ERRORS], ==, 0);
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

static void test_add_fails(struct fixture *f, gconstpointer unused)
{
	f->fake.bind_answer = -EADDRINUSE;
	g_assert_cmpstr(ask(f, ADD(TCP80)), ==, BAD("add_hostfwd: slirp_add_hostfwd failed"));
	f->fake.bind_answer = 0;
	g_assert_cmpstr(ask(f, ADD(TCP80)), ==, "{\"return\":{\"id\":1}}");
	/* A duplicate does not reach the backend. */
	g_assert_cmpstr(ask(f, ADD(TCP80)), ==, BAD("add_hostfwd: slirp_add_hostfwd failed"));
	g_assert_cmpuint(f->fake.n_bind, ==, 2);
}

#define ENTRY(id, proto, host, guest)                                  \
	"{\"id\":" id ",\"proto\":\"" proto "\",\"host_addr\":\"" host \
	"\",\"host_port\":8080,\"guest_addr\":\"" guest "\",\"guest_port\":80}"

static void test_list_and_remove(struct fixture *f, gconstpointer unused)
{
	g_assert_cmpstr(ask(f, LIST), ==, ENTRIES(""));
	ask(f, ADD(TCP80));
	ask(f,
		ADD("\"proto\":\"udp\",\"host_port\":8080,\"guest_port\":80,"
		    "\"host_addr\":\"127.0.0.1\",\"guest_addr\":\"0.0.0.0\""));
	g_assert_cmpstr(ask(f, LIST), ==,
		ENTRIES(ENTRY("1", "tcp", "0.0.0.0", "10.0.2.100") "," ENTRY(
			"2", "udp", "127.0.0.1", "0.0.0.0")));
	g_assert_cmpstr(ask(f, REMOVE("1")), ==, "{\"return\":{}}");
	g_assert_cmpuint(f->fake.n_unbind, ==, 1);
	g_assert_cmpstr(ask(f, REMOVE("1")), ==, BAD_REMOVE);
	g_assert_cmpstr(ask(f, LIST), ==, ENTRIES(ENTRY("2", "udp", "127.0.0.1", "0.0.0.0")));
	f->fake.unbind_answer = -EIO;
	g_assert_cmpstr(
		ask(f, REMOVE("2")), ==, BAD("remove_hostfwd: slirp_remove_hostfwd failed"));
	f->fake.unbind_answer = 0;
	g_assert_cmpstr(ask(f, REMOVE("2")), ==, "{\"return\":{}}");
	g_assert_cmpstr(ask(f, LIST), ==, ENTRIES(""));
}

static void test_later(struct fixture *f, gconstpointer unused)
{
	f->fake.bind_answer = FORWARD_LATER;
	api_request_handle(&f->requester, 7, ADD(TCP80), strlen(ADD(TCP80)));
	g_assert_cmpuint(f->n_replies, ==, 0);
	g_assert_cmpstr(ask(f, LIST), ==, ENTRIES(""));
	forward_bound(f->context.forward, 1, 0);
	g_assert_cmpuint(f->n_replies, ==, 2);
	g_assert_cmpuint(f->cookie, ==, 7);
	g_assert_cmpstr(f->reply, ==, "{\"return\":{\"id\":1}}");
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
	TEST("lenient", test_lenient);
	TEST("add-fails", test_add_fails);
	TEST("list-and-remove", test_list_and_remove);
	TEST("later", test_later);
	TEST("no-memory", test_no_memory);
	return g_test_run();
}
