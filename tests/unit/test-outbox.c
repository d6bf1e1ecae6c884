/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>
#include <string.h>

#include "flow/outbox.h"

/* Only their addresses are looked at. */
static char flow_a, flow_b;
#define FLOW_A ((void *)&flow_a)
#define FLOW_B ((void *)&flow_b)

static struct outbox outbox;
static uint8_t bytes[OUTBOX_BYTES + 1];

static struct host_datagram to(uint16_t port, size_t len)
{
	static uint8_t next;

	memset(bytes, ++next, len);
	return (struct host_datagram){
		.addr = ip_addr_of_v4((struct in_addr){0x01020304}),
		.port = port,
		.ttl = 63,
		.data = bytes,
		.len = len,
	};
}

static bool put(void *flow, uint16_t port, size_t len)
{
	struct host_datagram datagram = to(port, len);

	return outbox_add(&outbox, flow, &datagram);
}

static void expect(unsigned int i, size_t len, uint16_t segment, uint32_t n_datagrams)
{
	g_assert_cmpuint(i, <, outbox.n);
	g_assert_cmpuint(outbox.messages[i].len, ==, len);
	g_assert_cmpuint(outbox.messages[i].segment, ==, segment);
	g_assert_cmpuint(outbox.n_datagrams[i], ==, n_datagrams);
}

static void test_equal_ones_are_a_run(void)
{
	for (int i = 0; i < 3; i++)
		g_assert_true(put(FLOW_A, 1, 100));
	g_assert_cmpuint(outbox.n, ==, 1);
	expect(0, 300, 100, 3);
	/* Each byte where it belongs. */
	for (int i = 0; i < 3; i++)
		for (int k = 0; k < 100; k++)
			g_assert_cmpuint(outbox.messages[0].data[i * 100 + k], ==,
				(uint8_t)(bytes[0] - 2 + i));
}

static void test_a_shorter_one_is_the_last(void)
{
	put(FLOW_A, 1, 100);
	put(FLOW_A, 1, 40);
	put(FLOW_A, 1, 40);
	put(FLOW_A, 1, 50);
	g_assert_cmpuint(outbox.n, ==, 3);
	expect(0, 140, 100, 2);
	expect(1, 40, 0, 1);
	expect(2, 50, 0, 1);
}

static void test_empty_ones_stand_alone(void)
{
	put(FLOW_A, 1, 0);
	put(FLOW_A, 1, 0);
	put(FLOW_A, 1, 7);
	put(FLOW_A, 1, 0);
	g_assert_cmpuint(outbox.n, ==, 4);
	expect(0, 0, 0, 1);
	expect(2, 7, 0, 1);
	expect(3, 0, 0, 1);
}

/* What differs in anything that the kernel is told for a whole message. */
static void test_others_stand_apart(void)
{
	struct host_datagram datagram = to(1, 100);

	outbox_add(&outbox, FLOW_A, &datagram);
	outbox_add(&outbox, FLOW_B, &datagram);
	datagram.port = 2;
	outbox_add(&outbox, FLOW_B, &datagram);
	datagram.addr.in6.s6_addr[15] ^= 1;
	outbox_add(&outbox, FLOW_B, &datagram);
	datagram.ttl--;
	outbox_add(&outbox, FLOW_B, &datagram);
	datagram.tos ^= 4;
	outbox_add(&outbox, FLOW_B, &datagram);
	datagram.dont_fragment = true;
	outbox_add(&outbox, FLOW_B, &datagram);
	outbox_add(&outbox, FLOW_B, &datagram);
	g_assert_cmpuint(outbox.n, ==, 7);
	expect(6, 200, 100, 2);
}

static void test_runs_join_runs(void)
{
	struct host_datagram run = to(1, 250);

	run.segment = 100;
	put(FLOW_A, 1, 100);
	outbox_add(&outbox, FLOW_A, &run);
	outbox_add(&outbox, FLOW_A, &run);
	run.segment = 125;
	outbox_add(&outbox, FLOW_A, &run);
	g_assert_cmpuint(outbox.n, ==, 3);
	expect(0, 350, 100, 4);
	expect(1, 250, 100, 3);
	expect(2, 250, 125, 2);
}

static void test_a_run_has_limits(void)
{
	for (int i = 0; i < HOST_RUN_MAX + 1; i++)
		put(FLOW_A, 1, 10);
	g_assert_cmpuint(outbox.n, ==, 2);
	expect(0, (size_t)10 * HOST_RUN_MAX, 10, HOST_RUN_MAX);
	outbox_clear(&outbox);
	put(FLOW_A, 1, 40000);
	put(FLOW_A, 1, 40000);
	expect(0, 40000, 0, 1);
	expect(1, 40000, 0, 1);
}

static void test_full(void)
{
	for (int i = 0; i < OUTBOX_MESSAGES; i++)
		g_assert_true(put(FLOW_A, (uint16_t)(1 + i), 10));
	g_assert_false(put(FLOW_A, 1, 10));
	/* The last one still grows. */
	g_assert_true(put(FLOW_A, OUTBOX_MESSAGES, 10));
	outbox_clear(&outbox);
	g_assert_true(put(FLOW_A, 1, OUTBOX_BYTES / 2));
	g_assert_true(put(FLOW_A, 1, OUTBOX_BYTES / 2));
	g_assert_false(put(FLOW_A, 1, 1));
	outbox_clear(&outbox);
	g_assert_true(put(FLOW_A, 1, 1));
	expect(0, 1, 0, 1);
}

struct test {
	void (*run)(void);
	const char *path;
};

static void run_fresh(const void *arg)
{
	const struct test *test = arg;

	g_assert_cmpint(outbox_init(&outbox), ==, 0);
	test->run();
	outbox_done(&outbox);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{test_equal_ones_are_a_run, "/outbox/equal-ones-are-a-run"},
		{test_a_shorter_one_is_the_last, "/outbox/a-shorter-one-is-the-last"},
		{test_empty_ones_stand_alone, "/outbox/empty-ones-stand-alone"},
		{test_others_stand_apart, "/outbox/others-stand-apart"},
		{test_runs_join_runs, "/outbox/runs-join-runs"},
		{test_a_run_has_limits, "/outbox/a-run-has-limits"},
		{test_full, "/outbox/full"},
	};

	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
		g_test_add_data_func(tests[i].path, &tests[i], run_fresh);
	return g_test_run();
}
