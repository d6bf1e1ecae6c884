/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>

#include "tcpflow/rtt.h"

#define MS NS_PER_MS

/* One segment is sent at *now_ns and acknowledged later. */
static void sample(struct tcp_rtt *rtt, int64_t *now_ns, int64_t took_ns)
{
	tcp_rtt_sent(rtt, 100, *now_ns);
	*now_ns += took_ns;
	tcp_rtt_acked(rtt, 100, *now_ns);
}

static void expect(const struct tcp_rtt *rtt, int64_t srtt_ns, int64_t rttvar_ns, int64_t rto_ns)
{
	g_assert_cmpint(rtt->srtt_ns, ==, srtt_ns);
	g_assert_cmpint(rtt->rttvar_ns, ==, rttvar_ns);
	g_assert_cmpint(tcp_rtt_timeout(rtt), ==, rto_ns);
}

/* RFC 6298 2.2 and 2.3, by hand. */
static void test_arithmetic(void)
{
	struct tcp_rtt rtt = {0};
	int64_t now_ns = 5;

	expect(&rtt, 0, 0, TCP_RTO_FIRST_NS);
	sample(&rtt, &now_ns, 80 * MS);
	expect(&rtt, 80 * MS, 40 * MS, 240 * MS);
	/* RTTVAR with the old SRTT: 3/4 40 + 1/4 |80 - 160|; SRTT: 7/8 80 + 1/8 160. */
	sample(&rtt, &now_ns, 160 * MS);
	expect(&rtt, 90 * MS, 50 * MS, 290 * MS);
	/* 3/4 50 + 1/4 |90 - 10|; 7/8 90 + 1/8 10. */
	sample(&rtt, &now_ns, 10 * MS);
	expect(&rtt, 80 * MS, 57500000, 310 * MS);
}

static void test_floor(void)
{
	struct tcp_rtt rtt = {0};
	int64_t now_ns = 0;

	sample(&rtt, &now_ns, 33 * MS);
	expect(&rtt, 33 * MS, 16500000, TCP_RTO_MIN_NS);
	for (int i = 0; i < 1000; i++)
		sample(&rtt, &now_ns, 50000);
	g_assert_cmpint(rtt.srtt_ns, <, 60000);
	g_assert_cmpint(tcp_rtt_timeout(&rtt), ==, TCP_RTO_MIN_NS);
}

/* A turn may see the segment and its acknowledgement at the same instant. That is a measurement,
 * too: afterwards the first timeout does not count any more. */
static void test_no_time_at_all(void)
{
	struct tcp_rtt rtt = {0};
	int64_t now_ns = 0;

	sample(&rtt, &now_ns, 0);
	g_assert_cmpint(rtt.srtt_ns, ==, 1);
	g_assert_cmpint(tcp_rtt_timeout(&rtt), ==, TCP_RTO_MIN_NS);
	sample(&rtt, &now_ns, 0);
	g_assert_cmpint(rtt.srtt_ns, ==, 1);
}

static void test_one_at_a_time(void)
{
	struct tcp_rtt rtt = {0};

	tcp_rtt_sent(&rtt, 100, 0);
	tcp_rtt_sent(&rtt, 200, 70 * MS); /* is not measured */
	tcp_rtt_acked(&rtt, 99, 75 * MS); /* not yet */
	g_assert_cmpint(rtt.srtt_ns, ==, 0);
	tcp_rtt_acked(&rtt, 200, 80 * MS);
	g_assert_cmpint(rtt.srtt_ns, ==, 80 * MS);
	tcp_rtt_acked(&rtt, 300, 500 * MS); /* nothing is being measured */
	g_assert_cmpint(rtt.srtt_ns, ==, 80 * MS);
}

static void test_sequence_wraps(void)
{
	struct tcp_rtt rtt = {0};

	tcp_rtt_sent(&rtt, 5, 0); /* begins before 2^32 */
	tcp_rtt_acked(&rtt, UINT32_MAX, 10 * MS);
	g_assert_cmpint(rtt.srtt_ns, ==, 0);
	tcp_rtt_acked(&rtt, 5, 20 * MS);
	g_assert_cmpint(rtt.srtt_ns, ==, 20 * MS);
}

/* Karn: which of the two sent the acknowledgement answers is unknown. */
static void test_karn(void)
{
	struct tcp_rtt rtt = {0};
	int64_t now_ns = 0;

	sample(&rtt, &now_ns, 80 * MS);
	tcp_rtt_sent(&rtt, 200, now_ns);
	tcp_rtt_backoff(&rtt);
	tcp_rtt_acked(&rtt, 200, now_ns + 5000 * MS);
	expect(&rtt, 80 * MS, 40 * MS, 240 * MS);
	/* What is sent afterwards is measured again. */
	tcp_rtt_sent(&rtt, 300, now_ns);
	tcp_rtt_acked(&rtt, 300, now_ns + 160 * MS);
	g_assert_cmpint(rtt.srtt_ns, ==, 90 * MS);
}

/* RFC 6298 5.5, 5.7: doubled each time, and back when something new is acknowledged. */
static void test_backoff(void)
{
	struct tcp_rtt rtt = {0};
	int64_t now_ns = 0;

	sample(&rtt, &now_ns, 80 * MS);
	for (int64_t expected = 480 * MS; expected < TCP_RTO_MAX_NS; expected *= 2) {
		tcp_rtt_backoff(&rtt);
		g_assert_cmpint(tcp_rtt_timeout(&rtt), ==, expected);
	}
	for (int i = 0; i < 1000; i++) {
		tcp_rtt_backoff(&rtt);
		g_assert_cmpint(tcp_rtt_timeout(&rtt), ==, TCP_RTO_MAX_NS);
	}
	tcp_rtt_acked(&rtt, 500, now_ns);
	g_assert_cmpint(tcp_rtt_timeout(&rtt), ==, 240 * MS);
}

/* Nothing overflows, whatever was measured: a day, and as often sent again as may be. */
static void test_ceiling(void)
{
	struct tcp_rtt rtt = {0};
	int64_t now_ns = INT64_MAX / 4;

	sample(&rtt, &now_ns, 24 * 3600 * NS_PER_SEC);
	g_assert_cmpint(tcp_rtt_timeout(&rtt), ==, TCP_RTO_MAX_NS);
	for (int i = 0; i < 20; i++) {
		tcp_rtt_backoff(&rtt);
		g_assert_cmpint(tcp_rtt_timeout(&rtt), ==, TCP_RTO_MAX_NS);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/rtt/arithmetic", test_arithmetic);
	g_test_add_func("/rtt/floor", test_floor);
	g_test_add_func("/rtt/no-time-at-all", test_no_time_at_all);
	g_test_add_func("/rtt/one-at-a-time", test_one_at_a_time);
	g_test_add_func("/rtt/sequence-wraps", test_sequence_wraps);
	g_test_add_func("/rtt/karn", test_karn);
	g_test_add_func("/rtt/backoff", test_backoff);
	g_test_add_func("/rtt/ceiling", test_ceiling);
	return g_test_run();
}
