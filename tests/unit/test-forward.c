/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>

#include "base/log.h"
#include "forward/forward.h"
#include "tests/support/fake-backend.h"

struct fixture {
	struct fake_backend fake;
	struct forward *forward;

	/* What the last forward_done_fn told. */
	unsigned int n_done;
	uint64_t cookie;
	int error;
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
}

static void done(void *owner, uint64_t cookie, int error, uint64_t id)
{
	struct fixture *f = owner;

	f->n_done++;
	f->cookie = cookie;
	f->error = error;
	f->id = id;
}

static struct forward_spec spec_of(enum forward_proto proto, const char *host_addr, uint16_t port)
{
	struct forward_spec spec = {.proto = proto, .host_port = port, .guest_port = 80};

	g_assert_cmpint(inet_pton(AF_INET, host_addr, &spec.host_addr), ==, 1);
	g_assert_cmpint(inet_pton(AF_INET, "10.0.2.100", &spec.guest_addr), ==, 1);
	return spec;
}

/* Asks for tcp 0.0.0.0:PORT with the port as cookie. */
static void add(struct fixture *f, uint16_t port, int answer)
{
	struct forward_spec spec = spec_of(FORWARD_TCP, "0.0.0.0", port);

	f->fake.bind_answer = answer;
	forward_add(f->forward, &spec, done, f, port);
}

static void assert_told(struct fixture *f, unsigned int n, uint64_t cookie, int error, uint64_t id)
{
	g_assert_cmpuint(f->n_done, ==, n);
	g_assert_cmpuint(f->cookie, ==, cookie);
	g_assert_cmpint(f->error, ==, error);
	g_assert_cmpuint(f->id, ==, id);
}

static void assert_ids(struct fixture *f, const char *expected)
{
	g_autoptr(GString) ids = g_string_new("");

	for (const struct forward_rule *r = forward_next(f->forward, 0); r;
		r = forward_next(f->forward, r->id))
		g_string_append_printf(ids, "%u:%u ", (unsigned int)r->id, r->spec.host_port);
	g_assert_cmpstr(ids->str, ==, expected);
}

static void test_ids(struct fixture *f, gconstpointer unused)
{
	assert_ids(f, "");
	add(f, 1000, 0);
	assert_told(f, 1, 1000, 0, 1);
	add(f, 2000, 0);
	assert_told(f, 2, 2000, 0, 2);
	add(f, 3000, -EACCES);
	assert_told(f, 3, 3000, -EACCES, 0);
	add(f, 4000, 0);
	assert_told(f, 4, 4000, 0, 3);
	assert_ids(f, "1:1000 2:2000 3:4000 ");

	g_assert_cmpint(forward_remove(f->forward, 3), ==, 0);
	g_assert_cmpuint(f->fake.last.spec.host_port, ==, 4000);
	add(f, 4000, 0);
	assert_told(f, 5, 4000, 0, 4);
	g_assert_cmpint(forward_remove(f->forward, 1), ==, 0);
	assert_ids(f, "2:2000 4:4000 ");
	g_assert_cmpuint(forward_count(f->forward), ==, 2);
}

static void test_remove_unknown(struct fixture *f, gconstpointer unused)
{
	add(f, 1000, 0);
	g_assert_cmpint(forward_remove(f->forward, 0), ==, -ENOENT);
	g_assert_cmpint(forward_remove(f->forward, 2), ==, -ENOENT);
	g_assert_cmpint(forward_remove(f->forward, UINT64_MAX), ==, -ENOENT);
	g_assert_cmpuint(f->fake.n_unbind, ==, 0);
	g_assert_cmpint(forward_remove(f->forward, 1), ==, 0);
	g_assert_cmpint(forward_remove(f->forward, 1), ==, -ENOENT);
	g_assert_cmpuint(f->fake.n_unbind, ==, 1);
}

static void test_remove_fails(struct fixture *f, gconstpointer unused)
{
	add(f, 1000, 0);
	f->fake.unbind_answer = -EIO;
	g_assert_cmpint(forward_remove(f->forward, 1), ==, -EIO);
	assert_ids(f, "1:1000 ");
	f->fake.unbind_answer = 0;
	g_assert_cmpint(forward_remove(f->forward, 1), ==, 0);
	assert_ids(f, "");
}

/* The same port is another one with another protocol or address; nothing else distinguishes. */
static void test_duplicate(struct fixture *f, gconstpointer unused)
{
	struct forward_spec spec = spec_of(FORWARD_TCP, "127.0.0.1", 1000);

	forward_add(f->forward, &spec, done, f, 1);
	assert_told(f, 1, 1, 0, 1);
	spec.guest_port = 81;
	forward_add(f->forward, &spec, done, f, 2);
	assert_told(f, 2, 2, -EADDRINUSE, 0);
	g_assert_cmpuint(f->fake.n_bind, ==, 1);
	spec.proto = FORWARD_UDP;
	forward_add(f->forward, &spec, done, f, 3);
	assert_told(f, 3, 3, 0, 2);
	spec = spec_of(FORWARD_TCP, "127.0.0.2", 1000);
	forward_add(f->forward, &spec, done, f, 4);
	assert_told(f, 4, 4, 0, 3);
	g_assert_cmpint(forward_remove(f->forward, 1), ==, 0);
	spec = spec_of(FORWARD_TCP, "127.0.0.1", 1000);
	forward_add(f->forward, &spec, done, f, 5);
	assert_told(f, 5, 5, 0, 4);
}

static void test_later(struct fixture *f, gconstpointer unused)
{
	add(f, 1000, FORWARD_LATER);
	g_assert_cmpuint(f->n_done, ==, 0);
	g_assert_cmpuint(f->fake.last.id, ==, 1);
	assert_ids(f, "");
	g_assert_cmpuint(forward_count(f->forward), ==, 0);
	/* Nobody was told its id: it cannot be removed, and its port is taken. */
	g_assert_cmpint(forward_remove(f->forward, 1), ==, -ENOENT);
	add(f, 1000, 0);
	assert_told(f, 1, 1000, -EADDRINUSE, 0);

	forward_bound(f->forward, 1, 0);
	assert_told(f, 2, 1000, 0, 1);
	assert_ids(f, "1:1000 ");
	/* Said twice, or of nothing. */
	forward_bound(f->forward, 1, -EIO);
	forward_bound(f->forward, 7, 0);
	g_assert_cmpuint(f->n_done, ==, 2);
	assert_ids(f, "1:1000 ");
	g_assert_cmpuint(forward_count(f->forward), ==, 1);
}

static void test_later_fails(struct fixture *f, gconstpointer unused)
{
	add(f, 1000, FORWARD_LATER);
	forward_bound(f->forward, 1, -EADDRINUSE);
	assert_told(f, 1, 1000, -EADDRINUSE, 0);
	add(f, 1000, 0);
	assert_told(f, 2, 1000, 0, 1);

	/* 2 fails while 3 has its id already: 2 is never used. */
	add(f, 2000, FORWARD_LATER);
	add(f, 3000, 0);
	assert_told(f, 3, 3000, 0, 3);
	forward_bound(f->forward, 2, -EIO);
	assert_told(f, 4, 2000, -EIO, 0);
	add(f, 4000, 0);
	assert_told(f, 5, 4000, 0, 4);
	assert_ids(f, "1:1000 3:3000 4:4000 ");
}

static void test_forget(struct fixture *f, gconstpointer unused)
{
	add(f, 1000, FORWARD_LATER);
	add(f, 2000, FORWARD_LATER);
	forward_forget(f->forward, f);
	forward_bound(f->forward, 1, 0);
	forward_bound(f->forward, 2, -EIO);
	g_assert_cmpuint(f->n_done, ==, 0);
	assert_ids(f, "1:1000 ");
}

static void test_close_all(struct fixture *f, gconstpointer unused)
{
	add(f, 1000, 0);
	add(f, 2000, FORWARD_LATER);
	f->fake.unbind_answer = -EIO; /* logged, no reason to stay */
	forward_close_all(f->forward);
	g_assert_cmpuint(f->fake.n_unbind, ==, 2);
	g_assert_cmpuint(forward_count(f->forward), ==, 0);
	assert_ids(f, "");
	forward_bound(f->forward, 2, 0);
	assert_told(f, 1, 1000, 0, 1);
	add(f, 1000, 0);
	assert_told(f, 2, 1000, 0, 3);
}

static void test_limit(struct fixture *f, gconstpointer unused)
{
	for (uint32_t i = 0; i < FORWARD_RULES_MAX; i++) {
		struct forward_spec spec = spec_of(
			i & 1 ? FORWARD_UDP : FORWARD_TCP, "127.0.0.1", (uint16_t)(i / 2 + 1));

		forward_add(f->forward, &spec, done, f, i);
		assert_told(f, i + 1, i, 0, i + 1);
	}
	add(f, 1, 0);
	assert_told(f, FORWARD_RULES_MAX + 1, 1, -ENOSPC, 0);
	g_assert_cmpint(forward_remove(f->forward, 5000), ==, 0);
	add(f, 1, 0);
	assert_told(f, FORWARD_RULES_MAX + 2, 1, 0, FORWARD_RULES_MAX + 1);
	g_assert_cmpuint(forward_count(f->forward), ==, FORWARD_RULES_MAX);
	g_assert_cmpuint(forward_next(f->forward, 4999)->id, ==, 5001);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	log_init("test-forward", LOG_LEVEL_ERROR);
#define TEST(name, function) \
	g_test_add("/forward/" name, struct fixture, NULL, set_up, function, tear_down)
	TEST("ids", test_ids);
	TEST("remove-unknown", test_remove_unknown);
	TEST("remove-fails", test_remove_fails);
	TEST("duplicate", test_duplicate);
	TEST("later", test_later);
	TEST("later-fails", test_later_fails);
	TEST("forget", test_forget);
	TEST("close-all", test_close_all);
	TEST("limit", test_limit);
	return g_test_run();
}
