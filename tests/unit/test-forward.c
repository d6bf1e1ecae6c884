/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "forward/forward.h"
#include "forward/spec.h"
#include "tests/support/fake-backend.h"

struct fixture {
	struct fake_backend fake;
	struct forward *forward;
	/* What the last forward_add() told. */
	struct forward_failure failure;
	uint64_t id;
};

static void set_up(struct fixture *f, gconstpointer unused)
{
	f->fake.base.ops = &fake_backend_ops;
	f->forward = forward_new(&f->fake.base);
	g_assert_nonnull(f->forward);
}

static void tear_down(struct fixture *f, gconstpointer unused)
{
	forward_free(f->forward);
	forward_free(NULL);
}

/* From a rule's text, but for descriptors. */
static struct forward_spec spec_of(const char *text)
{
	struct forward_spec spec = {0};
	const char *wrong;

	g_assert_cmpint(forward_spec_parse(text, NULL, NULL, &spec, &wrong), ==, 0);
	return spec;
}

/* `texts` are separated by spaces. */
static int add(struct fixture *f, const char *texts)
{
	g_auto(GStrv) parts = g_strsplit(texts, " ", -1);
	struct forward_spec specs[16];
	size_t n = g_strv_length(parts);

	g_assert_cmpuint(n, <=, ARRAY_SIZE(specs));
	for (size_t i = 0; i < n; i++)
		specs[i] = spec_of(parts[i]);
	return forward_add(f->forward, specs, n, LOG_LEVEL_WARNING, &f->id, &f->failure);
}

static void assert_ids(struct fixture *f, const char *expected)
{
	g_autoptr(GString) ids = g_string_new("");
	size_t n = 0;

	for (const struct forward_rule *r = forward_next(f->forward, 0); r;
		r = forward_next(f->forward, r->id), n++)
		g_string_append_printf(ids, "%u:%u ", (unsigned int)r->id, r->spec.host_port);
	g_assert_cmpstr(ids->str, ==, expected);
	g_assert_cmpuint(forward_count(f->forward), ==, n);
}

static void assert_failure(
	struct fixture *f, int error, size_t index, uint16_t port, const char *field)
{
	g_assert_cmpint(f->failure.error, ==, error);
	g_assert_cmpuint(f->failure.index, ==, index);
	g_assert_cmpuint(f->failure.port, ==, port);
	g_assert_cmpstr(f->failure.field, ==, field);
}

static void test_ids(struct fixture *f, gconstpointer unused)
{
	assert_ids(f, "");
	g_assert_cmpint(add(f, "1000"), ==, 0);
	g_assert_cmpuint(f->id, ==, 1);
	g_assert_cmpint(f->failure.error, ==, 0);
	g_assert_cmpint(add(f, "2000"), ==, 0);
	g_assert_cmpuint(f->id, ==, 2);
	f->fake.bind_answer = -EACCES;
	g_assert_cmpint(add(f, "3000"), ==, -EACCES);
	assert_failure(f, -EACCES, 0, 3000, "host_port");
	f->fake.bind_answer = 0;
	g_assert_cmpint(add(f, "4000 5000"), ==, 0);
	g_assert_cmpuint(f->id, ==, 3);
	assert_ids(f, "1:1000 2:2000 3:4000 4:5000 ");

	g_assert_cmpint(forward_remove(f->forward, 4, false), ==, 0);
	g_assert_cmpuint(f->fake.last.host_port, ==, 5000);
	g_assert_false(f->fake.closed_connections);
	g_assert_cmpint(add(f, "5000"), ==, 0);
	g_assert_cmpuint(f->id, ==, 5);
	g_assert_cmpint(forward_remove(f->forward, 1, true), ==, 0);
	g_assert_true(f->fake.closed_connections);
	assert_ids(f, "2:2000 3:4000 5:5000 ");
}

static void test_remove_unknown(struct fixture *f, gconstpointer unused)
{
	add(f, "1000");
	g_assert_cmpint(forward_remove(f->forward, 0, false), ==, -ENOENT);
	g_assert_cmpint(forward_remove(f->forward, 2, false), ==, -ENOENT);
	g_assert_cmpint(forward_remove(f->forward, UINT64_MAX, false), ==, -ENOENT);
	g_assert_cmpuint(f->fake.n_unbind, ==, 0);
	g_assert_cmpint(forward_remove(f->forward, 1, false), ==, 0);
	g_assert_cmpint(forward_remove(f->forward, 1, false), ==, -ENOENT);
	g_assert_cmpuint(f->fake.n_unbind, ==, 1);
}

/* What is there already, what is asked for, and the spec and port that are to blame; port 0: it is
 * possible. */
static const struct {
	const char *before, *asked;
	size_t index;
	uint16_t port;
} overlaps[] = {
	{"1000", "1000:81", 0, 1000},
	{"1000", "1000/udp", 0, 0},
	{"1000", "127.0.0.1:1000", 0, 0},
	{"127.0.0.1:1000", "127.0.0.2:1000", 0, 0},
	{"127.0.0.1:1000", "[::1]:1000", 0, 0},
	{"[::]:1000", "*:1000", 0, 1000},
	{"1000-1009", "1010", 0, 0},
	{"1000-1009", "999", 0, 0},
	{"1000-1009", "1009", 0, 1009},
	{"1000-1009", "1005-1020", 0, 1005},
	{"1000-1009", "990-1000", 0, 1000},
	{"1000-1009", "900-2000", 0, 1000},
	{"1000-1009", "1003-1004", 0, 1003},
	{"1000 1002 1004", "1003", 0, 0},
	{"1000 1002 1004", "1001-1003", 0, 1002},
	{"65535", "65000-65535", 0, 65535},
	{"", "1000 1001 1000", 2, 1000},
	{"", "1000-1010 2000 1005", 2, 1005},
	{"", "1005 2000 1000-1010", 2, 1005},
	{"", "1-100 50 60", 1, 50},
	{"", "1-100 60 50", 1, 60},
	{"", "1-100 2-3 4-5 100-101", 1, 2},
	{"", "1-100/udp 50 127.0.0.1:50 60/udp", 3, 60},
	{"3000", "1000 3000 1000", 1, 3000},
	{"3000", "1000 1000 3000", 1, 1000},
	{"unix:/a:80", "unix:/b:80 unix:/c:80", 0, 0},
};

static void test_overlap(struct fixture *f, gconstpointer unused)
{
	for (size_t i = 0; i < ARRAY_SIZE(overlaps); i++) {
		unsigned int n_bind;

		g_test_message("%s + %s", overlaps[i].before, overlaps[i].asked);
		if (*overlaps[i].before)
			g_assert_cmpint(add(f, overlaps[i].before), ==, 0);
		n_bind = f->fake.n_bind;
		if (overlaps[i].port) {
			g_assert_cmpint(add(f, overlaps[i].asked), ==, -EADDRINUSE);
			assert_failure(
				f, -EADDRINUSE, overlaps[i].index, overlaps[i].port, "host_port");
			/* Nothing reached the backend. */
			g_assert_cmpuint(f->fake.n_bind, ==, n_bind);
		} else {
			g_assert_cmpint(add(f, overlaps[i].asked), ==, 0);
		}
		forward_close_all(f->forward);
		g_assert_cmpuint(f->fake.n_bind, ==, f->fake.n_unbind);
	}
}

/* A port is free again when its rule goes, and only then. */
static void test_free_again(struct fixture *f, gconstpointer unused)
{
	g_assert_cmpint(add(f, "1000-1009 2000-2009 500-509 2000/udp"), ==, 0);
	g_assert_cmpint(forward_remove(f->forward, 1, false), ==, 0);
	g_assert_cmpint(add(f, "2005"), ==, -EADDRINUSE);
	g_assert_cmpint(add(f, "505"), ==, -EADDRINUSE);
	g_assert_cmpint(add(f, "2000/udp"), ==, -EADDRINUSE);
	g_assert_cmpint(add(f, "900-1100"), ==, 0);
	g_assert_cmpint(add(f, "1005"), ==, -EADDRINUSE);
}

/* All or nothing: those before the one that fails are taken back, with whoever has come. */
static void test_all_or_nothing(struct fixture *f, gconstpointer unused)
{
	add(f, "100");
	f->fake.bind_answer = -EADDRNOTAVAIL;
	f->fake.bind_port = 3000;
	f->fake.bind_field = "host_addr";
	g_assert_cmpint(add(f, "1000 2000 3000 4000"), ==, -EADDRNOTAVAIL);
	assert_failure(f, -EADDRNOTAVAIL, 2, 3000, "host_addr");
	g_assert_cmpuint(f->fake.n_bind, ==, 4);
	g_assert_cmpuint(f->fake.n_unbind, ==, 2);
	g_assert_true(f->fake.closed_connections);
	assert_ids(f, "1:100 ");
	g_assert_cmpint(add(f, "1000 2000 4000"), ==, 0);
	g_assert_cmpuint(f->id, ==, 2);
	assert_ids(f, "1:100 2:1000 3:2000 4:4000 ");
	g_assert_cmpint(
		forward_add(f->forward, NULL, 0, LOG_LEVEL_WARNING, &f->id, &f->failure), ==, 0);
}

static int a_descriptor(void *arg, const char *name)
{
	return *(int *)arg;
}

/* The descriptor goes with the rule that was not added, and to the backend with the one that was.
 * Either way the spec has nothing left. */
static void test_descriptor(struct fixture *f, gconstpointer unused)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct forward_spec spec = {0};
	const char *wrong;

	g_assert_cmpint(listen(fd, 1), ==, 0);
	for (int round = 0; round < 2; round++) {
		int copy;

		g_assert_cmpint(
			forward_spec_parse("fd:x:unix:/y", a_descriptor, &fd, &spec, &wrong), ==,
			0);
		copy = spec.host_fd;
		g_assert_cmpint(copy, >, 2);
		f->fake.bind_answer = round ? 0 : -EIO;
		g_assert_cmpint(
			forward_add(f->forward, &spec, 1, LOG_LEVEL_WARNING, &f->id, &f->failure),
			==, f->fake.bind_answer);
		g_assert_cmpint(fcntl(copy, F_GETFD), ==, -1);
		g_assert_cmpint(spec.host_fd, ==, -1);
		g_assert_null(spec.guest_path);
	}
	g_assert_cmpstr(forward_next(f->forward, 0)->spec.guest_path, ==, "/y");
	close(fd);
}

static void test_find(struct fixture *f, gconstpointer unused)
{
	static const struct {
		const char *text;
		uint64_t id;
	} cases[] = {
		{"1000", 1},
		{"1000:9", 1},
		{"2000-2009", 2},
		{"2000", 0},
		{"2000-2008", 0},
		{"2001-2009", 0},
		{"*:1000", 3},
		{"[::]:1000", 0},
		{"1000/udp", 0},
		{"unix:/a:1", 4},
		{"unix:/b:1", 0},
		{"999", 0},
		{"65535", 0},
	};

	add(f, "1000 2000-2009 *:1000 unix:/a:80");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct forward_spec spec = spec_of(cases[i].text);

		g_test_message("%s", cases[i].text);
		g_assert_cmpuint(forward_find(f->forward, &spec), ==, cases[i].id);
		forward_spec_done(&spec);
	}
}

static void test_status(struct fixture *f, gconstpointer unused)
{
	struct forward_status status;

	add(f, "1000");
	f->fake.status = (struct forward_status){.state = FORWARD_FAILED, .error = EIO};
	forward_status(f->forward, forward_next(f->forward, 0), &status);
	g_assert_cmpint(status.state, ==, FORWARD_FAILED);
	g_assert_cmpint(status.error, ==, EIO);
}

static void test_close_all(struct fixture *f, gconstpointer unused)
{
	add(f, "1000 2000");
	forward_close_all(f->forward);
	g_assert_cmpuint(f->fake.n_unbind, ==, 2);
	assert_ids(f, "");
	g_assert_cmpint(add(f, "1000"), ==, 0);
	g_assert_cmpuint(f->id, ==, 3);
}

/* `n` rules on single ports of `host`, from `port` on, downwards. */
static struct forward_spec *many(const char *host, uint16_t port, size_t n)
{
	struct forward_spec *specs = g_new0(struct forward_spec, n);

	for (size_t i = 0; i < n; i++) {
		specs[i] = (struct forward_spec){.host_fd = -1,
			.host_port = (uint16_t)(port - i),
			.n_ports = 1,
			.guest_port = 80};
		g_assert_true(forward_addr_parse(host, &specs[i].host_addr));
	}
	return specs;
}

static void test_limit(struct fixture *f, gconstpointer unused)
{
	g_autofree struct forward_spec *one = many("127.0.0.1", 65535, 65535);
	g_autofree struct forward_spec *two = many("127.0.0.2", 2, 2);

	g_assert_cmpint(
		forward_add(f->forward, one, 65535, LOG_LEVEL_WARNING, &f->id, &f->failure), ==, 0);
	g_assert_cmpint(forward_add(f->forward, two, 2, LOG_LEVEL_WARNING, &f->id, &f->failure), ==,
		-ENOSPC);
	assert_failure(f, -ENOSPC, 0, 0, "rules");
	g_assert_cmpint(add(f, "127.0.0.2:2"), ==, 0);
	g_assert_cmpint(add(f, "127.0.0.2:1"), ==, -ENOSPC);
	g_assert_cmpint(forward_remove(f->forward, 5000, false), ==, 0);
	g_assert_cmpint(add(f, "127.0.0.2:1"), ==, 0);
	g_assert_cmpuint(f->id, ==, FORWARD_RULES_MAX + 1);
	g_assert_cmpuint(forward_next(f->forward, 4999)->id, ==, 5001);
}

/* The same ports on address after address: a search through all rules would take minutes. */
static void test_many(struct fixture *f, gconstpointer unused)
{
	for (int i = 1; i <= 6; i++) {
		g_autofree char *host = g_strdup_printf("127.0.0.%d", 7 - i);
		g_autofree struct forward_spec *specs = many(host, 10000, 10000);

		g_assert_cmpint(forward_add(f->forward, specs, 10000, LOG_LEVEL_WARNING, &f->id,
					&f->failure),
			==, 0);
	}
	for (int port = 1; port <= 5000; port++) {
		g_autofree char *text = g_strdup_printf("127.0.0.7:%d", port);
		g_autofree char *again = g_strdup_printf("127.0.0.3:%d", port);

		g_assert_cmpint(add(f, text), ==, 0);
		g_assert_cmpint(add(f, again), ==, -EADDRINUSE);
	}
	g_assert_cmpuint(forward_count(f->forward), ==, 65000);
}

static void test_hints(struct fixture *f, gconstpointer unused)
{
	struct forward_failure failure = {.error = -EACCES, .field = "host_port", .port = 80};

	g_assert_nonnull(
		strstr(forward_failure_hint(&failure), "net.ipv4.ip_unprivileged_port_start"));
	g_assert_nonnull(strstr(forward_failure_hint(&failure), "descriptor"));
	failure.error = -EIO;
	g_assert_null(forward_failure_hint(&failure));
	g_assert_cmpstr(forward_errno_name(EADDRINUSE), ==, "EADDRINUSE");
	g_assert_null(forward_errno_name(0));
	g_assert_null(forward_errno_name(100000));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	/* Failures are wanted here, and would only hide others in the output. */
	log_init("test-forward", LOG_LEVEL_ERROR);
#define TEST(name, function) \
	g_test_add("/forward/" name, struct fixture, NULL, set_up, function, tear_down)
	TEST("ids", test_ids);
	TEST("remove-unknown", test_remove_unknown);
	TEST("overlap", test_overlap);
	TEST("free-again", test_free_again);
	TEST("all-or-nothing", test_all_or_nothing);
	TEST("descriptor", test_descriptor);
	TEST("find", test_find);
	TEST("status", test_status);
	TEST("close-all", test_close_all);
	TEST("limit", test_limit);
	TEST("many", test_many);
	TEST("hints", test_hints);
	return g_test_run();
}
