/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/path_error.h"

#include <errno.h>

#include "tests/support/fake_link.h"
#include "tests/unit/frames.h"

static struct fake_link fake;
static struct egress egress;
static struct counters counters;
static struct policy policy;
static struct icmp_limit limit;
static struct path_error_about about;
static struct host_dgram_error error;
static struct frame sent; /* the last error */

static struct ip_addr address(const char *text)
{
	struct ip_addr addr = {.family = AF_INET6};
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return ip_addr_of_v4(v4);
	g_assert_cmpint(inet_pton(AF_INET6, text, &addr.in6), ==, 1);
	return addr;
}

static void set_up(bool v6)
{
	fake_link_init(&fake);
	memset(&counters, 0, sizeof(counters));
	policy.network.s_addr = htonl(0x0a000200);
	policy.netmask.s_addr = htonl(0xffffff00);
	policy.gateway.s_addr = htonl(0x0a000202);
	policy.gateway6 = address("fd00::2").in6;
	egress_init(&egress, &policy, &fake.link, 1500, 0, &counters);
	icmp_limit_init(&limit, &counters);
	about = (struct path_error_about){
		.near_mac = {{2, 0, 0, 0, 0, 0x64}},
		.near = address(v6 ? "fd00::64" : "10.0.2.100"),
		.far = address(v6 ? "2001:db8::7" : "192.0.2.7"),
		.protocol = IPPROTO_UDP,
		.header = {0x9c, 0x40, 0, 53, 0, 13, 0xab, 0xcd},
	};
	error = (struct host_dgram_error){.error = ECONNREFUSED, .quote_len = 5, .quote = "hello"};
}

static void tear_down(void)
{
	g_assert_null(fake_link_take(&fake));
	fake.link.ops->close(&fake.link);
}

/* Whether one is sent, as path_error_send() says, too; it is in `sent` then. */
static bool send_error(void)
{
	bool told = path_error_send(&egress, &limit, &about, &error, 0);
	GByteArray *frame = fake_link_take(&fake);

	g_assert_true(told == !!frame);
	if (!frame)
		return false;
	sent.len = frame->len;
	memcpy(sent.b, frame->data, frame->len);
	g_byte_array_unref(frame);
	g_assert_cmphex(frame_transport_sum(&sent, sent.len), ==, 0xffff);
	return true;
}

static void assert_sent_from(const char *text)
{
	struct ip_addr from = address(text);

	if (from.family == AF_INET)
		g_assert_cmpmem(sent.b + 26, 4, &from.in6.s6_addr[12], 4);
	else
		g_assert_cmpmem(sent.b + 22, 16, &from.in6, 16);
}

/* ---- what is told ---- */

static const struct {
	const char *what;
	int error;
	uint8_t icmp_family, icmp_type, icmp_code;
	uint32_t mtu;
	/* Type, code and the 32 bits behind the checksum; -1: nothing is told. */
	int type4, code4, type6, code6;
	uint32_t rest4, rest6;
} rows[] = {
	{"refused", ECONNREFUSED, 0, 0, 0, 0, 3, 3, 1, 4, 0, 0},
	{"no host", EHOSTUNREACH, 0, 0, 0, 0, 3, 1, 1, 3, 0, 0},
	{"no net", ENETUNREACH, 0, 0, 0, 0, 3, 0, 1, 0, 0, 0},
	{"no access", EACCES, 0, 0, 0, 0, 3, 13, 1, 1, 0, 0},
	{"a firewall", EPERM, 0, 0, 0, 0, 3, 13, 1, 1, 0, 0},
	{"too long", EMSGSIZE, 0, 0, 0, 1400, 3, 4, 2, 0, 1400, 1400},
	{"far too long", EMSGSIZE, 0, 0, 0, 60, 3, 4, 2, 0, 68, 1280},
	{"too long for a jumbo", EMSGSIZE, 0, 0, 0, 70000, 3, 4, 2, 0, 65535, 70000},
	{"too long for what", EMSGSIZE, 0, 0, 0, 0, 3, 4, -1, 0, 0, 0},
	{"no memory", ENOBUFS, 0, 0, 0, 0, -1, 0, -1, 0, 0, 0},
	{"no error", 0, 0, 0, 0, 0, -1, 0, -1, 0, 0, 0},

	{"ICMP port", ECONNREFUSED, AF_INET, 3, 3, 9, 3, 3, 1, 4, 0, 0},
	{"ICMP source route", EOPNOTSUPP, AF_INET, 3, 5, 0, 3, 5, -1, 0, 0, 0},
	{"ICMP precedence", EHOSTUNREACH, AF_INET, 3, 15, 0, 3, 15, 1, 3, 0, 0},
	{"ICMP fragmentation needed", EMSGSIZE, AF_INET, 3, 4, 1300, 3, 4, 2, 0, 1300, 1300},
	{"ICMP of an old router", EMSGSIZE, AF_INET, 3, 4, 0, 3, 4, -1, 0, 0, 0},
	{"ICMP TTL", EHOSTUNREACH, AF_INET, 11, 0, 9, 11, 0, 1, 3, 0, 0},
	{"ICMP reassembly", EHOSTUNREACH, AF_INET, 11, 1, 0, 11, 1, 1, 3, 0, 0},
	{"ICMP parameter", EPROTO, AF_INET, 12, 0, 0, 12, 0, -1, 0, 0, 0},
	{"ICMP source quench", 0, AF_INET, 4, 0, 0, -1, 0, -1, 0, 0, 0},
	{"ICMP redirect", 0, AF_INET, 5, 0, 0, -1, 0, -1, 0, 0, 0},

	{"ICMPv6 port", ECONNREFUSED, AF_INET6, 1, 4, 9, 3, 3, 1, 4, 0, 0},
	{"ICMPv6 policy", EACCES, AF_INET6, 1, 5, 0, 3, 13, 1, 5, 0, 0},
	{"ICMPv6 too big", EMSGSIZE, AF_INET6, 2, 0, 1300, 3, 4, 2, 0, 1300, 1300},
	{"ICMPv6 far too big", EMSGSIZE, AF_INET6, 2, 0, 600, 3, 4, 2, 0, 600, 1280},
	{"ICMPv6 hop limit", EHOSTUNREACH, AF_INET6, 3, 0, 9, 3, 1, 3, 0, 0, 0},
	{"ICMPv6 parameter", EPROTO, AF_INET6, 4, 1, 0, -1, 0, 4, 1, 0, 0},
	{"ICMPv6 redirect", 0, AF_INET6, 137, 0, 0, -1, 0, -1, 0, 0, 0},
	{"ICMPv6 type 0", 0, AF_INET6, 0, 0, 0, -1, 0, -1, 0, 0, 0},
	{"ICMPv6 answer", 0, AF_INET6, 129, 0, 0, -1, 0, -1, 0, 0, 0},
};

static void test_told(void)
{
	for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
		bool v6 = i & 1;
		int type = v6 ? rows[i / 2].type6 : rows[i / 2].type4;
		const uint8_t *icmp = sent.b + (v6 ? 54 : 34);

		g_test_message("%s, IPv%d", rows[i / 2].what, v6 ? 6 : 4);
		set_up(v6);
		error.error = rows[i / 2].error;
		error.icmp_family = rows[i / 2].icmp_family;
		error.icmp_type = rows[i / 2].icmp_type;
		error.icmp_code = rows[i / 2].icmp_code;
		error.mtu = rows[i / 2].mtu;
		g_assert_true(send_error() == (type >= 0));
		if (type >= 0) {
			g_assert_cmpint(icmp[0], ==, type);
			g_assert_cmpint(icmp[1], ==, v6 ? rows[i / 2].code6 : rows[i / 2].code4);
			g_assert_cmpuint(get16(icmp + 4) << 16 | get16(icmp + 6), ==,
				v6 ? rows[i / 2].rest6 : rows[i / 2].rest4);
		}
		tear_down();
	}
}

/* ---- the packet ---- */

static void test_quote4(void)
{
	const uint8_t *quoted = sent.b + 42;

	set_up(false);
	g_assert_true(send_error());
	g_assert_cmpmem(sent.b, 14, "\2\0\0\0\0\x64\x52\x55\x0a\0\2\2\x08\0", 14);
	g_assert_cmpmem(sent.b + 26, 8, "\x0a\0\2\2\x0a\0\2\x64", 8);
	g_assert_cmpuint(sent.len, ==, 42 + 20 + 8 + 5);
	g_assert_cmpuint(quoted[0], ==, 0x45);
	g_assert_cmpuint(get16(quoted + 2), ==, 20 + 13);
	g_assert_cmphex(naive_sum(0, quoted, 20), ==, 0xffff);
	g_assert_cmpmem(quoted + 8, 2, "\x40\x11", 2);
	g_assert_cmpmem(quoted + 12, 8, "\x0a\0\2\x64\xc0\0\2\7", 8);
	g_assert_cmpmem(quoted + 20, 13, "\x9c\x40\0\x35\0\x0d\xab\xcdhello", 13);
	tear_down();
}

static void test_quote6(void)
{
	const uint8_t *quoted = sent.b + 62;

	set_up(true);
	g_assert_true(send_error());
	g_assert_cmpmem(sent.b, 14, "\2\0\0\0\0\x64\x52\x56\0\0\0\2\x86\xdd", 14);
	assert_sent_from("fd00::2");
	g_assert_cmpmem(sent.b + 38, 16, &about.near.in6, 16);
	g_assert_cmpuint(sent.len, ==, 62 + 40 + 8 + 5);
	g_assert_cmpmem(quoted, 8, "\x60\0\0\0\0\x0d\x11\x40", 8);
	g_assert_cmpmem(quoted + 8, 16, &about.near.in6, 16);
	g_assert_cmpmem(quoted + 24, 16, &about.far.in6, 16);
	g_assert_cmpmem(quoted + 40, 13, "\x9c\x40\0\x35\0\x0d\xab\xcdhello", 13);
	tear_down();
}

/* The datagram's length is quoted, also when not all of it is. An error about size says that the
 * packet might not be fragmented. */
static void test_quote_is_bounded(void)
{
	for (int v6 = 0; v6 < 2; v6++) {
		set_up(v6);
		put16(about.header + 4, 5008);
		error.error = EMSGSIZE;
		error.mtu = 1500;
		error.quote_len = sizeof(error.quote);
		memset(error.quote, 0x5a, sizeof(error.quote));
		g_assert_true(send_error());
		g_assert_cmpuint(sent.len - 14, ==, v6 ? 1280 : 576);
		g_assert_cmpuint(sent.b[sent.len - 1], ==, 0x5a);
		g_assert_cmpuint(get16(sent.b + (v6 ? 66 : 44)), ==, v6 ? 5008 : 5028);
		if (!v6)
			g_assert_cmphex(sent.b[48], ==, 0x40);
		tear_down();
	}
}

static void test_echo(void)
{
	set_up(false);
	about.protocol = IPPROTO_ICMP;
	memcpy(about.header, "\x08\0\x12\x34\0\7\0\1", 8);
	g_assert_true(send_error());
	g_assert_cmpuint(get16(sent.b + 44), ==, 20 + 8 + 5);
	g_assert_cmpuint(sent.b[51], ==, 1);
	g_assert_cmpmem(sent.b + 62, 8, "\x08\0\x12\x34\0\7\0\1", 8);
	tear_down();
}

/* ---- in whose name ---- */

static void test_sender(void)
{
	static const struct {
		const char *offender, *sender4, *sender6;
	} senders[] = {
		{"198.51.100.1", "198.51.100.1", "fd00::2"},
		{"10.0.2.77", "10.0.2.77", "fd00::2"},
		{"127.0.0.1", "10.0.2.2", "fd00::2"},
		{"127.3.2.1", "10.0.2.2", "fd00::2"},
		{"0.0.0.0", "10.0.2.2", "fd00::2"},
		{"224.0.0.1", "10.0.2.2", "fd00::2"},
		{"255.255.255.255", "10.0.2.2", "fd00::2"},
		{"10.0.2.255", "10.0.2.2", "fd00::2"},
		{"10.0.2.100", "10.0.2.2", "fd00::2"},
		{"2001:db8::ff", "10.0.2.2", "2001:db8::ff"},
		{"::1", "10.0.2.2", "fd00::2"},
		{"::", "10.0.2.2", "fd00::2"},
		{"ff02::1", "10.0.2.2", "fd00::2"},
		{"fe80::1", "10.0.2.2", "fd00::2"},
		{"fd00::64", "10.0.2.2", "fd00::2"},
	};

	for (size_t i = 0; i < 2 * ARRAY_SIZE(senders); i++) {
		bool v6 = i & 1;

		g_test_message("%s, IPv%d", senders[i / 2].offender, v6 ? 6 : 4);
		set_up(v6);
		error.offender = address(senders[i / 2].offender);
		about.protocol = v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
		g_assert_true(send_error());
		assert_sent_from(v6 ? senders[i / 2].sender6 : senders[i / 2].sender4);
		/* Whoever it is, it is the gateway that brings it. */
		g_assert_cmpmem(sent.b + 6, 6, v6 ? "\x52\x56\0\0\0\2" : "\x52\x55\x0a\0\2\2", 6);
		tear_down();
	}
}

/* RFC 1122 3.2.2: what went to many is not answered. */
static void test_groups(void)
{
	static const char *groups[] = {"224.0.0.251", "255.255.255.255", "10.0.2.255", "ff02::fb"};

	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		set_up(strchr(groups[i], ':'));
		about.far = address(groups[i]);
		g_assert_false(send_error());
		tear_down();
	}
}

static void test_limit(void)
{
	set_up(false);
	for (int i = 0; i < ICMP_LIMIT_BURST; i++)
		g_assert_true(send_error());
	g_assert_false(send_error());
	g_assert_cmpuint(counters.value[COUNTER_ICMP_LIMITED], ==, 1);
	/* What is not told takes nothing from the limit. */
	error.error = ENOBUFS;
	g_assert_false(send_error());
	g_assert_cmpuint(counters.value[COUNTER_ICMP_LIMITED], ==, 1);
	tear_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/path-error/told", test_told);
	g_test_add_func("/path-error/quote4", test_quote4);
	g_test_add_func("/path-error/quote6", test_quote6);
	g_test_add_func("/path-error/quote-is-bounded", test_quote_is_bounded);
	g_test_add_func("/path-error/echo", test_echo);
	g_test_add_func("/path-error/sender", test_sender);
	g_test_add_func("/path-error/groups", test_groups);
	g_test_add_func("/path-error/limit", test_limit);
	return g_test_run();
}
