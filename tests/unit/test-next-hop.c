/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gateway.h"

#include "tests/support/fake_link.h"
#include "tests/unit/frames.h"

static struct fake_link fake;
static struct egress egress;
static struct counters counters;
static struct policy policy;
static struct gateway gateway;
static struct loop loop;
static struct frame frame;
static uint32_t n_heard;
static struct ip_addr heard_addr;
static struct eth_addr heard_mac;

static struct ip_addr addr_of(const char *text)
{
	struct in6_addr v6;
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return ip_addr_of_v4(v4);
	g_assert_cmpint(inet_pton(AF_INET6, text, &v6), ==, 1);
	return ip_addr_of_v6(&v6);
}

static void note_heard(void *arg, const struct ip_addr *addr, const struct eth_addr *mac)
{
	g_assert_true(arg == &n_heard);
	/* Whoever is told may ask at once. */
	g_assert_nonnull(neighbor_find(&gateway.neighbors, addr));
	n_heard++;
	heard_addr = *addr;
	heard_mac = *mac;
}

static void set_up(void)
{
	const struct siphash_key key = {{1, 2}};

	fake_link_init(&fake);
	memset(&counters, 0, sizeof(counters));
	policy = (struct policy){
		.network.s_addr = htonl(0x0a000200),
		.netmask.s_addr = htonl(0xffffff00),
		.gateway.s_addr = htonl(0x0a000202),
		.dns.s_addr = htonl(0x0a000203),
		.guest.s_addr = htonl(0x0a000264),
		.gateway6 = addr_of("fd00::2").in6,
		.dns6 = addr_of("fd00::3").in6,
		.ipv6 = true,
		.dns_enabled = true,
	};
	loop.now_ns = 1000 * NS_PER_SEC;
	n_heard = 0;
	egress_init(&egress, &policy, &fake.link, 65520, 0, &counters);
	gateway_init(&gateway, &policy, &egress, &loop, &key, &counters);
	gateway.heard = note_heard;
	gateway.heard_arg = &n_heard;
}

static GByteArray *sent(void)
{
	return fake_link_take(&fake);
}

static void assert_silent(void)
{
	g_assert_null(sent());
}

static void tear_down(void)
{
	assert_silent();
	g_assert_cmpuint(gateway.n_claims, ==, 0);
	fake.link.ops->close(&fake.link);
}

static bool find(const char *text, bool again, struct eth_addr *ret)
{
	const struct ip_addr addr = addr_of(text);

	return gateway.next_hop.ops->find(&gateway.next_hop, &addr, again, ret);
}

static int claim(const char *text)
{
	const struct ip_addr addr = addr_of(text);

	return gateway.next_hop.ops->claim(&gateway.next_hop, &addr);
}

static void release(const char *text)
{
	const struct ip_addr addr = addr_of(text);

	gateway.next_hop.ops->release(&gateway.next_hop, &addr);
}

/* The container's. */
static enum gateway_result go(void)
{
	g_autofree uint8_t *bytes = g_memdup2(frame.b, frame.len);
	struct packet packet;

	g_assert_cmpint(packet_parse(bytes, frame.len, &packet), ==, PACKET_OK);
	gateway_saw(&gateway, &packet);
	return gateway_input(&gateway, bytes, &packet, loop.now_ns);
}

static void arp(uint8_t opcode, const char *sender, const char *target)
{
	frame_arp(&frame);
	frame.b[21] = opcode;
	g_assert_cmpint(inet_pton(AF_INET, sender, frame.b + 28), ==, 1);
	g_assert_cmpint(inet_pton(AF_INET, target, frame.b + 38), ==, 1);
	go();
}

/* Its link-layer address is 02:00:00:00:00:65. */
static void ndp(uint8_t type, const char *src, const char *dst, const char *target, uint8_t option)
{
	uint8_t message[32] = {type, [24] = option, [25] = 1, [26] = 2, [31] = 0x65};
	const struct in6_addr addr = addr_of(target).in6;

	memcpy(message + 8, &addr, 16);
	frame_ip6(&frame, 58, src, dst, message, option ? 32 : 24);
	go();
}

/* ---- asking ---- */

static void assert_arp_request(uint8_t last)
{
	const uint8_t expected[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x55, 10, 0, 2, 2,
		8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x55, 10, 0, 2, 2, 10, 0, 2, 2, 0, 0, 0, 0, 0,
		0, 10, 0, 2, last};
	GByteArray *got = sent();

	g_assert_nonnull(got);
	g_assert_cmpmem(got->data, got->len, expected, sizeof(expected));
	g_byte_array_unref(got);
}

static void assert_solicitation(const char *target)
{
	const struct in6_addr addr = addr_of(target).in6, us = addr_of("fd00::2").in6;
	struct in6_addr node = addr_of("ff02::1:ff00:0").in6;
	GByteArray *got = sent();
	struct frame f;

	memcpy(&node.s6_addr[13], &addr.s6_addr[13], 3);
	g_assert_nonnull(got);
	g_assert_cmpuint(got->len, ==, 86);
	f.len = got->len;
	memcpy(f.b, got->data, got->len);
	g_byte_array_unref(got);
	g_assert_cmpmem(f.b, 3, "\x33\x33\xff", 3);
	g_assert_cmpmem(f.b + 3, 3, &addr.s6_addr[13], 3);
	g_assert_cmpmem(f.b + 6, 6, "\x52\x56\0\0\0\2", 6);
	g_assert_cmpuint(f.b[21], ==, 255);
	g_assert_cmpmem(f.b + 22, 16, &us, 16);
	g_assert_cmpmem(f.b + 38, 16, &node, 16);
	g_assert_cmpmem(f.b + 54, 2, "\x87\0", 2);
	g_assert_cmpmem(f.b + 62, 16, &addr, 16);
	g_assert_cmpmem(f.b + 78, 8, "\1\1\x52\x56\0\0\0\2", 8);
	g_assert_cmphex(frame_transport_sum(&f, f.len), ==, 0xffff);
}

static void test_ask(void)
{
	struct eth_addr mac = {{1}};

	set_up();
	g_assert_false(find("10.0.2.77", false, &mac));
	g_assert_cmpuint(mac.b[0], ==, 1);
	assert_arp_request(77);
	arp(2, "10.0.2.77", "10.0.2.2");
	g_assert_cmpuint(n_heard, ==, 1);
	g_assert_cmphex(ntohl(ip_addr_v4(&heard_addr).s_addr), ==, 0x0a00024d);
	g_assert_cmpuint(heard_mac.b[5], ==, 0x64);
	g_assert_true(find("10.0.2.77", false, &mac));
	g_assert_cmpuint(mac.b[5], ==, 0x64);
	g_assert_cmpuint(counters.value[COUNTER_NEIGHBORS_ASKED], ==, 1);
	tear_down();
}

static void test_ask6(void)
{
	struct eth_addr mac;

	set_up();
	g_assert_false(find("fd00::1234:5678", false, &mac));
	assert_solicitation("fd00::1234:5678");
	ndp(136, "fd00::1234:5678", "fd00::2", "fd00::1234:5678", 2);
	g_assert_cmpuint(n_heard, ==, 1);
	g_assert_true(find("fd00::1234:5678", false, &mac));
	g_assert_cmpuint(mac.b[5], ==, 0x65);
	policy.ipv6 = false;
	g_assert_false(find("fd00::1234:5678", false, &mac));
	tear_down();
}

/* Once a second for each, also again. */
static void test_pace(void)
{
	struct eth_addr mac;

	set_up();
	for (int i = 0; i < 3; i++) {
		g_assert_false(find("10.0.2.77", i, &mac));
		assert_arp_request(77);
		g_assert_false(find("10.0.2.77", i, &mac));
		loop.now_ns += NS_PER_SEC - 1;
		g_assert_false(find("10.0.2.77", i, &mac));
		assert_silent();
		loop.now_ns += 1;
	}
	arp(2, "10.0.2.77", "10.0.2.2");
	g_assert_true(find("10.0.2.77", false, &mac));
	assert_silent();
	g_assert_true(find("10.0.2.77", true, &mac));
	assert_arp_request(77);
	g_assert_true(find("10.0.2.77", true, &mac));
	tear_down();
}

static void test_pace_of_all(void)
{
	struct eth_addr mac;
	char text[16];
	int n = 0;

	set_up();
	for (int second = 0; second < 2; second++) {
		for (int i = 5; i < 105; i++) {
			g_snprintf(text, sizeof(text), "10.0.2.%d", i == 100 ? 200 : i);
			g_assert_false(find(text, false, &mac));
		}
		for (GByteArray *got; (got = sent()); n++)
			g_byte_array_unref(got);
		g_assert_cmpint(n, ==, (second + 1) * GATEWAY_QUESTIONS_MAX);
		loop.now_ns += NS_PER_SEC;
	}
	tear_down();
}

/* Behind the guest. */
static void test_off_link(void)
{
	struct eth_addr mac;

	set_up();
	g_assert_false(find("172.17.0.2", false, &mac));
	assert_arp_request(100);
	arp(2, "10.0.2.100", "10.0.2.2");
	g_assert_true(find("172.17.0.2", false, &mac));
	g_assert_true(find("172.17.0.3", false, &mac));
	g_assert_cmpuint(mac.b[5], ==, 0x64);
	/* The guest was not seen. */
	g_assert_false(find("fd01::5", false, &mac));
	assert_silent();
	ndp(135, "fd00::64", "ff02::1:ff00:77", "fd00::77", 1);
	g_assert_true(find("fd01::5", false, &mac));
	g_assert_cmpuint(mac.b[5], ==, 0x65);
	tear_down();
}

static void test_nobody(void)
{
	static const char *const nobody[] = {"10.0.2.2", "10.0.2.3", "10.0.2.255", "224.0.0.1",
		"255.255.255.255", "fd00::2", "fd00::3", "fe80::2", "ff02::1"};
	struct eth_addr mac;

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(nobody); i++) {
		g_test_message("%s", nobody[i]);
		g_assert_false(find(nobody[i], true, &mac));
		assert_silent();
	}
	tear_down();
}

/* ---- clients that seem to be on the link ---- */

static bool is_answered(void)
{
	g_autoptr(GByteArray) got = sent();

	if (!got)
		return false;
	/* The gateway's address, whoever it is answered for. */
	g_assert_cmpmem(
		got->data + 6, 6, got->data[13] == 6 ? "\x52\x55\12\0\2\2" : "\x52\x56\0\0\0\2", 6);
	return true;
}

static bool answers_arp(const char *sender, const char *target)
{
	arp(1, sender, target);
	return is_answered();
}

static void test_claim(void)
{
	set_up();
	g_assert_false(answers_arp("10.0.2.100", "10.0.2.77"));
	g_assert_cmpint(claim("10.0.2.77"), ==, 0);
	g_assert_cmpint(claim("10.0.2.77"), ==, 0);
	g_assert_true(answers_arp("10.0.2.100", "10.0.2.77"));
	g_assert_false(answers_arp("10.0.2.100", "10.0.2.78"));
	/* A probe, and an announcement. */
	g_assert_false(answers_arp("0.0.0.0", "10.0.2.77"));
	release("10.0.2.77");
	g_assert_true(answers_arp("10.0.2.100", "10.0.2.77"));
	release("10.0.2.77");
	g_assert_false(answers_arp("10.0.2.100", "10.0.2.77"));
	release("10.0.2.77");
	tear_down();
}

/* A machine of that address speaks for itself. */
static void test_claim_of_neighbor(void)
{
	set_up();
	g_assert_cmpint(claim("10.0.2.77"), ==, 0);
	g_assert_false(answers_arp("10.0.2.77", "10.0.2.77"));
	g_assert_false(answers_arp("10.0.2.100", "10.0.2.77"));
	release("10.0.2.77");
	tear_down();
}

static void test_claim6(void)
{
	const struct ip_addr claimed = addr_of("fd00::77");
	GByteArray *got;

	set_up();
	g_assert_cmpint(claim("fd00::77"), ==, 0);
	ndp(135, "fd00::64", "ff02::1:ff00:77", "fd00::77", 1);
	got = sent();
	g_assert_nonnull(got);
	g_assert_cmpuint(got->len, ==, 86);
	g_assert_cmpmem(got->data, 6, "\2\0\0\0\0\x65", 6);
	/* Solicited, no router, and it gives way. */
	g_assert_cmphex(got->data[58], ==, 0x40);
	g_assert_cmpmem(got->data + 78, 8, "\2\1\x52\x56\0\0\0\2", 8);
	g_byte_array_unref(got);
	ndp(135, "fd00::64", "ff02::1:ff00:78", "fd00::78", 1);
	assert_silent();
	/* Whoever takes the address may have it. */
	ndp(135, "::", "ff02::1:ff00:77", "fd00::77", 0);
	assert_silent();
	g_assert_false(gateway_is_claimed(&gateway, &claimed));
	ndp(136, "fd00::64", "ff02::1", "fd00::77", 2);
	ndp(135, "fd00::64", "ff02::1:ff00:77", "fd00::77", 1);
	assert_silent();
	release("fd00::77");
	tear_down();
}

static void test_claim_of_nobody(void)
{
	static const char *const nobody[] = {"192.0.2.1", "2001:db8::1", "10.0.2.2", "10.0.2.3",
		"10.0.2.100", "fd00::2", "fd00::3", "224.0.0.1"};

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(nobody); i++) {
		g_test_message("%s", nobody[i]);
		g_assert_cmpint(claim(nobody[i]), ==, 0);
		g_assert_cmpuint(gateway.n_claims, ==, 0);
		release(nobody[i]);
	}
	g_assert_false(answers_arp("10.0.2.77", "10.0.2.100"));
	tear_down();
}

static void test_claims_are_bounded(void)
{
	char text[32];

	set_up();
	for (int i = 0; i < GATEWAY_CLAIMS_MAX; i++) {
		g_snprintf(text, sizeof(text), "fd00::1:%x", i);
		g_assert_cmpint(claim(text), ==, 0);
	}
	g_assert_cmpint(claim("fd00::2:0"), ==, -ENOSPC);
	g_assert_cmpint(claim("fd00::1:0"), ==, 0);
	g_assert_cmpint(claim("192.0.2.1"), ==, 0);
	release("fd00::1:0");
	for (int i = 0; i < GATEWAY_CLAIMS_MAX; i++) {
		g_snprintf(text, sizeof(text), "fd00::1:%x", i);
		release(text);
	}
	g_assert_cmpuint(gateway.n_claims, ==, 0);
	tear_down();
}

/* ---- the guest's IPv6 address ---- */

static void expect_guest6(const char *text)
{
	struct in6_addr got;
	bool is_known = gateway_guest6(&gateway, &got);

	g_assert_cmpint(is_known, ==, text != NULL);
	if (text)
		g_assert_cmpmem(&got, sizeof(got), addr_of(text).in6.s6_addr, 16);
}

static void see(const char *src)
{
	uint8_t udp[16] = {0x12, 0x34, 0, 53, 0, 16};
	struct packet packet;

	frame_ip6(&frame, 17, src, "2001:db8::99", udp, sizeof(udp));
	g_assert_cmpint(packet_parse(frame.b, frame.len, &packet), ==, PACKET_OK);
	gateway_saw(&gateway, &packet);
}

static void test_guest6(void)
{
	static const char *const nobody[] = {
		"fe80::64", "::", "fd00::2", "fd00::3", "ff02::1", "::1", "::ffff:10.0.2.100"};

	set_up();
	expect_guest6(NULL);
	for (size_t i = 0; i < ARRAY_SIZE(nobody); i++) {
		g_test_message("%s", nobody[i]);
		see(nobody[i]);
		expect_guest6(NULL);
	}
	see("2001:db8::5");
	expect_guest6("2001:db8::5");
	see("fd01::5");
	expect_guest6("fd01::5");
	/* Of our network, and no other one again. */
	see("fd00::64");
	expect_guest6("fd00::64");
	see("2001:db8::5");
	see("fe80::64");
	expect_guest6("fd00::64");
	see("fd00::65");
	expect_guest6("fd00::65");
	tear_down();
}

static void test_guest6_of_ndp(void)
{
	set_up();
	/* It is about to take it, and has not said a word. */
	ndp(135, "::", "ff02::1:ff00:64", "fd00::64", 0);
	expect_guest6("fd00::64");
	ndp(136, "fe80::64", "ff02::1", "fd00::66", 2);
	expect_guest6("fd00::66");
	/* Of whom it asks is not it. */
	ndp(135, "fd00::66", "ff02::1:ff00:67", "fd00::67", 1);
	expect_guest6("fd00::66");
	ndp(135, "::", "ff02::1:ff00:2", "fd00::2", 0);
	g_byte_array_unref(sent());
	expect_guest6("fd00::66");
	tear_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/next-hop/ask", test_ask);
	g_test_add_func("/next-hop/ask6", test_ask6);
	g_test_add_func("/next-hop/pace", test_pace);
	g_test_add_func("/next-hop/pace-of-all", test_pace_of_all);
	g_test_add_func("/next-hop/off-link", test_off_link);
	g_test_add_func("/next-hop/nobody", test_nobody);
	g_test_add_func("/next-hop/claim", test_claim);
	g_test_add_func("/next-hop/claim-of-neighbor", test_claim_of_neighbor);
	g_test_add_func("/next-hop/claim6", test_claim6);
	g_test_add_func("/next-hop/claim-of-nobody", test_claim_of_nobody);
	g_test_add_func("/next-hop/claims-are-bounded", test_claims_are_bounded);
	g_test_add_func("/next-hop/guest6", test_guest6);
	g_test_add_func("/next-hop/guest6-of-ndp", test_guest6_of_ndp);
	return g_test_run();
}
