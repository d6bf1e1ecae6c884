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
static struct frame frame; /* the container's */
static struct frame reply; /* the last one */

static struct in6_addr v6(const char *text)
{
	struct in6_addr addr;

	g_assert_cmpint(inet_pton(AF_INET6, text, &addr), ==, 1);
	return addr;
}

static void set_up(void)
{
	const struct siphash_key key = {{1, 2}};

	fake_link_init(&fake);
	memset(&counters, 0, sizeof(counters));
	policy.network.s_addr = htonl(0x0a000200);
	policy.netmask.s_addr = htonl(0xffffff00);
	policy.gateway.s_addr = htonl(0x0a000202);
	policy.dns.s_addr = htonl(0x0a000203);
	policy.gateway6 = v6("fd00::2");
	policy.dns6 = v6("fd00::3");
	policy.dns_enabled = true;
	egress_init(&egress, &policy, &fake.link, 65520, 0, &counters);
	gateway_init(&gateway, &policy, &egress, &loop, &key, &counters);
}

static void tear_down(void)
{
	g_assert_null(fake_link_take(&fake));
	fake.link.ops->close(&fake.link);
}

static enum gateway_result go(void)
{
	/* Of its own size, so that a sanitizer sees what reads behind the end. */
	g_autofree uint8_t *bytes = g_memdup2(frame.b, frame.len);
	struct packet packet;

	g_assert_cmpint(packet_parse(bytes, frame.len, &packet), ==, PACKET_OK);
	return gateway_input(&gateway, bytes, &packet, 42);
}

static bool take_reply(void)
{
	GByteArray *sent = fake_link_take(&fake);

	if (!sent)
		return false;
	reply.len = sent->len;
	memcpy(reply.b, sent->data, sent->len);
	g_byte_array_unref(sent);
	if (reply.b[13] != 6)
		g_assert_cmphex(frame_transport_sum(&reply, reply.len), ==, 0xffff);
	return true;
}

/* The last byte of its MAC; -1: not known. */
static int neighbor(const char *text)
{
	struct ip_addr addr = {.family = AF_INET6};
	const struct neighbor *found;
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		addr = ip_addr_of_v4(v4);
	else
		addr.in6 = v6(text);
	found = neighbor_find(&gateway.neighbors, &addr);
	if (!found)
		return -1;
	g_assert_cmpint(found->heard_ns, ==, 42);
	return found->mac.b[5];
}

static void assert_dropped(enum counter reason)
{
	g_assert_cmpint(go(), ==, GATEWAY_TAKEN);
	g_assert_false(take_reply());
	g_assert_cmpuint(counters.value[reason], ==, 1);
	counters.value[reason] = 0;
	g_assert_cmpuint(gateway.neighbors.n_neighbors, ==, 0);
}

/* ---- ARP ---- */

static void arp(uint8_t opcode, const char *sender, const char *target)
{
	frame_arp(&frame);
	frame.b[21] = opcode;
	g_assert_cmpint(inet_pton(AF_INET, sender, frame.b + 28), ==, 1);
	g_assert_cmpint(inet_pton(AF_INET, target, frame.b + 38), ==, 1);
}

static const struct {
	uint8_t opcode;
	const char *sender, *target;
	bool is_answered, passes, is_learned;
} arps[] = {
	{1, "10.0.2.100", "10.0.2.2", true, false, true},
	{1, "10.0.2.100", "10.0.2.3", true, false, true},
	{1, "10.0.2.100", "10.0.2.4", false, false, true},
	{1, "10.0.2.100", "192.0.2.2", false, false, true},
	{1, "0.0.0.0", "10.0.2.2", true, false, false}, /* a probe */
	{1, "0.0.0.0", "10.0.2.100", false, false, false},
	{1, "10.0.2.2", "10.0.2.2", true, false, false}, /* announces what is ours */
	{1, "10.0.2.100", "10.0.2.100", false, true, true},
	{2, "10.0.2.100", "10.0.2.2", false, true, true},
	{2, "10.0.2.2", "10.0.2.100", false, false, false}, /* claims what is ours */
	{2, "10.0.2.3", "10.0.2.3", false, false, false},
};

static void test_arp(void)
{
	for (int dns = 0; dns < 2; dns++) {
		for (size_t i = 0; i < ARRAY_SIZE(arps); i++) {
			uint8_t expected[42] = {2, 0, 0, 0, 0, 0x64, 0x52, 0x55, 0, 0, 0, 0, 8, 6,
				0, 1, 8, 0, 6, 4, 0, 2, 0x52, 0x55};

			g_test_message("row %zu", i);
			set_up();
			policy.dns_enabled = dns;
			arp(arps[i].opcode, arps[i].sender, arps[i].target);
			g_assert_cmpint(go(), ==, arps[i].passes ? GATEWAY_PASSED : GATEWAY_TAKEN);
			g_assert_true(take_reply() == arps[i].is_answered);
			if (arps[i].is_answered) {
				memcpy(expected + 8, frame.b + 38, 4);
				memcpy(expected + 24, frame.b + 38, 4);
				memcpy(expected + 28, frame.b + 38, 4);
				memcpy(expected + 32, frame.b + 22, 10);
				g_assert_cmpmem(reply.b, reply.len, expected, sizeof(expected));
			}
			g_assert_cmpint(neighbor("10.0.2.100"), ==, arps[i].is_learned ? 0x64 : -1);
			g_assert_cmpuint(gateway.neighbors.n_neighbors, ==, arps[i].is_learned);
			tear_down();
		}
	}
}

static void test_arp_of_nobody(void)
{
	static const char *senders[] = {"127.0.0.1", "224.0.0.1", "255.255.255.255"};

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(senders); i++) {
		arp(1, senders[i], "10.0.2.2");
		assert_dropped(COUNTER_DROP_HEADER);
	}
	arp(1, "10.0.2.100", "10.0.2.2");
	frame.b[22] = 3;
	assert_dropped(COUNTER_DROP_HEADER);
	tear_down();
}

/* ---- neighbour discovery ---- */

/* With the option of `option_type` (0: none) that says 02:00:00:00:00:65, which is not the frame's
 * source. */
static void ndp(
	uint8_t type, const char *src, const char *dst, const char *target, uint8_t option_type)
{
	uint8_t message[32] = {type, [24] = option_type, [25] = 1, [26] = 2, [31] = 0x65};
	struct in6_addr addr = v6(target);

	memcpy(message + 8, &addr, 16);
	frame_ip6(&frame, 58, src, dst, message, option_type ? 32 : 24);
}

static const struct {
	const char *src, *dst, *target;
	uint8_t option_type;
	bool is_answered;
	uint8_t flags;
} solicitations[] = {
	{"fd00::64", "ff02::1:ff00:2", "fd00::2", 1, true, 0xe0},
	{"fd00::64", "ff02::1:ff00:3", "fd00::3", 1, true, 0x60},
	{"fe80::64", "ff02::1:ff00:2", "fe80::2", 1, true, 0xe0},
	{"fe80::64", "ff02::1:ff00:3", "fe80::3", 1, true, 0x60},
	{"fd00::64", "fd00::2", "fd00::2", 0, true, 0xe0}, /* is it still there? */
	{"::", "ff02::1:ff00:2", "fd00::2", 0, true, 0xa0},
	{"::", "ff02::1:ff00:3", "fd00::3", 0, true, 0x20},
	{"::", "ff02::1:ff00:64", "fd00::64", 0, false, 0},
	{"fd00::64", "ff02::1:ff00:4", "fd00::4", 1, false, 0},
	{"fd00::64", "ff02::1:ff00:2", "2001:db8::2", 1, false, 0},
	{"fd00::64", "ff02::1:ff00:2", "fe80:1::2", 1, false, 0},
};

static void test_neighbor_solicitation(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(solicitations); i++) {
		bool has_option = solicitations[i].option_type;
		bool is_dad = !strcmp(solicitations[i].src, "::");
		struct in6_addr target = v6(solicitations[i].target);
		struct in6_addr dst = v6(is_dad ? "ff02::1" : solicitations[i].src);
		uint8_t mac[6] = {0x52, 0x56, 0, 0, 0, target.s6_addr[15]};

		g_test_message("row %zu", i);
		set_up();
		ndp(135, solicitations[i].src, solicitations[i].dst, solicitations[i].target,
			solicitations[i].option_type);
		g_assert_cmpint(go(), ==, GATEWAY_TAKEN);
		g_assert_true(take_reply() == solicitations[i].is_answered);
		if (solicitations[i].is_answered) {
			const uint8_t *message = reply.b + 54;

			g_assert_cmpuint(reply.len, ==, 54 + 32);
			g_assert_cmpmem(reply.b, 6,
				is_dad               ? "\x33\x33\0\0\0\1"
					: has_option ? "\2\0\0\0\0\x65"
						     : "\2\0\0\0\0\x64",
				6);
			g_assert_cmpmem(reply.b + 6, 6, mac, 6);
			g_assert_cmpuint(reply.b[21], ==, 255);
			g_assert_cmpmem(reply.b + 22, 16, &target, 16);
			g_assert_cmpmem(reply.b + 38, 16, &dst, 16);
			g_assert_cmpmem(message, 2, "\x88\0", 2);
			g_assert_cmphex(message[4], ==, solicitations[i].flags);
			g_assert_cmpmem(message + 8, 16, &target, 16);
			g_assert_cmpmem(message + 24, 2, "\2\1", 2);
			g_assert_cmpmem(message + 26, 6, mac, 6);
		}
		g_assert_cmpuint(gateway.neighbors.n_neighbors, ==, has_option);
		if (has_option)
			g_assert_cmpint(neighbor(solicitations[i].src), ==, 0x65);
		tear_down();
	}
}

static void test_neighbor_advertisement(void)
{
	set_up();
	ndp(136, "fd00::64", "fd00::2", "fd00::64", 2);
	g_assert_cmpint(go(), ==, GATEWAY_PASSED);
	g_assert_cmpint(neighbor("fd00::64"), ==, 0x65);
	ndp(136, "fd00::66", "ff02::1", "fd00::66", 0);
	g_assert_cmpint(go(), ==, GATEWAY_PASSED);
	g_assert_cmpint(neighbor("fd00::66"), ==, -1);
	/* Claims what is ours. */
	ndp(136, "fd00::64", "ff02::1", "fd00::2", 2);
	g_assert_cmpint(go(), ==, GATEWAY_TAKEN);
	g_assert_cmpuint(gateway.neighbors.n_neighbors, ==, 1);
	tear_down();
}

static void test_router_solicitation(void)
{
	uint8_t message[16] = {133, [8] = 1, 1, 2, 0, 0, 0, 0, 0x65};

	set_up();
	frame_ip6(&frame, 58, "fe80::64", "ff02::2", message, sizeof(message));
	g_assert_cmpint(go(), ==, GATEWAY_PASSED);
	g_assert_cmpint(neighbor("fe80::64"), ==, 0x65);
	frame_ip6(&frame, 58, "::", "ff02::2", message, 8);
	g_assert_cmpint(go(), ==, GATEWAY_PASSED);
	tear_down();
}

/* RFC 4861 6.1.1, 7.1.1, 7.1.2 */
static const struct {
	const char *what, *src, *dst, *target;
	uint8_t type, option_type;
	size_t offset;
	uint8_t byte;
} broken[] = {
	{"hop limit", "fd00::64", "ff02::1:ff00:2", "fd00::2", 135, 1, 21, 254},
	{"code", "fd00::64", "ff02::1:ff00:2", "fd00::2", 135, 1, 55, 1},
	{"target of many", "fd00::64", "ff02::1:ff00:2", "ff02::2", 135, 1, 0, 2},
	{"option of no length", "fd00::64", "ff02::1:ff00:2", "fd00::2", 135, 1, 79, 0},
	{"option behind the end", "fd00::64", "ff02::1:ff00:2", "fd00::2", 135, 1, 79, 2},
	{"source of ::", "::", "ff02::1:ff00:2", "fd00::2", 135, 1, 0, 2},
	{":: to one", "::", "fd00::2", "fd00::2", 135, 0, 0, 2},
	{"advertised target of many", "fd00::64", "fd00::2", "ff02::2", 136, 2, 0, 2},
	{"solicited by all", "fd00::64", "ff02::1", "fd00::64", 136, 2, 58, 0x40},
	{"advertisement's hop limit", "fd00::64", "fd00::2", "fd00::64", 136, 2, 21, 64},
	{"router's hop limit", "fe80::64", "ff02::2", "fd00::64", 133, 1, 21, 64},
	{"router advertisement", "fe80::64", "ff02::1", "fd00::64", 134, 0, 0, 2},
	{"redirect", "fe80::64", "fd00::64", "fd00::64", 137, 0, 0, 2},
};

static void test_broken_ndp(void)
{
	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		g_test_message("%s", broken[i].what);
		ndp(broken[i].type, broken[i].src, broken[i].dst, broken[i].target,
			broken[i].option_type);
		frame.b[broken[i].offset] = broken[i].byte;
		frame_fix_transport(&frame);
		assert_dropped(COUNTER_DROP_HEADER);
	}
	/* Too short for its target. */
	ndp(135, "fd00::64", "ff02::1:ff00:2", "fd00::2", 0);
	frame.len -= 1;
	put16(frame.b + 18, 23);
	frame_fix_transport(&frame);
	assert_dropped(COUNTER_DROP_TRUNCATED);
	tear_down();
}

/* ---- echo ---- */

static void echo(const char *src, const char *dst, size_t len)
{
	static uint8_t message[65536];
	bool is6 = strchr(src, ':');

	memset(message, 0, 8);
	message[0] = is6 ? 128 : 8;
	put16(message + 4, 0xabcd);
	put16(message + 6, 7);
	for (size_t i = 8; i < 8 + len; i++)
		message[i] = (uint8_t)(i * 7);
	frame_ip(&frame, is6 ? 58 : 1, src, dst, message, 8 + len);
	if (is6) {
		frame.b[14] |= 0x0b;
		frame.b[15] |= 0x90;
	} else {
		frame.b[15] = 0xb9;
		frame_fix_ip4(&frame);
	}
}

static void assert_echoed(size_t len)
{
	bool is6 = !frame_is_ip4(&frame);
	const uint8_t *message;

	g_assert_cmpint(go(), ==, GATEWAY_TAKEN);
	g_assert_true(take_reply());
	g_assert_cmpmem(reply.b, 6, frame_near_mac, 6);
	g_assert_cmpuint(reply.len, ==, frame.len);
	message = frame_transport(&reply);
	if (is6) {
		g_assert_cmpmem(reply.b + 6, 2, "\x52\x56", 2);
		g_assert_cmpmem(reply.b + 8, 4, frame.b + 50, 4);
		g_assert_cmpmem(reply.b + 14, 2, "\x6b\x90", 2);
		g_assert_cmpuint(reply.b[21], ==, 64);
		g_assert_cmpmem(reply.b + 22, 16, frame.b + 38, 16);
		g_assert_cmpmem(reply.b + 38, 16, frame.b + 22, 16);
	} else {
		g_assert_cmpmem(reply.b + 6, 2, "\x52\x55", 2);
		g_assert_cmpmem(reply.b + 8, 4, frame.b + 30, 4);
		g_assert_cmphex(reply.b[15], ==, 0xb9);
		g_assert_cmpuint(reply.b[22], ==, 64);
		g_assert_cmpmem(reply.b + 26, 4, frame.b + 30, 4);
		g_assert_cmpmem(reply.b + 30, 4, frame.b + 26, 4);
	}
	g_assert_cmpmem(message, 2, is6 ? "\x81\0" : "\0\0", 2);
	g_assert_cmpmem(message + 4, len + 4, frame_transport(&frame) + 4, len + 4);
}

static void test_echo(void)
{
	static const char *ours[] = {
		"10.0.2.2", "10.0.2.3", "fd00::2", "fd00::3", "fe80::2", "fe80::3"};

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
		const char *src = strchr(ours[i], ':') ? "fd00::64" : "10.0.2.100";

		echo(src, ours[i], 56);
		assert_echoed(56);
		echo(src, ours[i], 0);
		assert_echoed(0);
		echo(src, ours[i], 65001);
		assert_echoed(65001);
	}
	tear_down();
}

/* Also when the link's MTU is smaller than what came. */
static void test_echo_in_fragments(void)
{
	uint32_t n = 0;

	set_up();
	egress.mtu = 1500;
	echo("10.0.2.100", "10.0.2.2", 65507);
	g_assert_cmpint(go(), ==, GATEWAY_TAKEN);
	for (GByteArray *sent; (sent = fake_link_take(&fake)); n++)
		g_byte_array_unref(sent);
	g_assert_cmpuint(n, ==, 45);
	tear_down();
}

static void test_echo_to_others(void)
{
	static const char *others[] = {"10.0.2.4", "10.0.2.100", "10.0.2.255", "192.0.2.1",
		"fd00::4", "fd00::1:2", "fe80::4", "fe80:1::2", "ff02::1", "2001:db8::2"};

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		echo(strchr(others[i], ':') ? "fd00::64" : "10.0.2.100", others[i], 56);
		g_assert_cmpint(go(), ==, GATEWAY_PASSED);
	}
	policy.dns_enabled = false;
	echo("10.0.2.100", "10.0.2.3", 56);
	g_assert_cmpint(go(), ==, GATEWAY_PASSED);
	echo("fd00::64", "fd00::3", 56);
	g_assert_cmpint(go(), ==, GATEWAY_PASSED);
	echo("10.0.2.100", "10.0.2.2", 56);
	assert_echoed(56);
	tear_down();
}

static void test_other_icmp(void)
{
	set_up();
	for (unsigned int type = 0; type < 256; type++) {
		echo("10.0.2.100", "10.0.2.2", 56);
		frame.b[34] = (uint8_t)type;
		frame_fix_transport(&frame);
		if (type != 8)
			g_assert_cmpint(go(), ==, GATEWAY_PASSED);
		echo("fd00::64", "fd00::2", 56);
		frame.b[54] = (uint8_t)type;
		frame_fix_transport(&frame);
		if (type != 128 && (type < 133 || type > 137))
			g_assert_cmpint(go(), ==, GATEWAY_PASSED);
	}
	/* ICMP of the other family means nothing. */
	echo("fd00::64", "fd00::2", 56);
	frame.b[20] = 1;
	g_assert_cmpint(go(), ==, GATEWAY_PASSED);
	tear_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/gateway/arp", test_arp);
	g_test_add_func("/gateway/arp-of-nobody", test_arp_of_nobody);
	g_test_add_func("/gateway/neighbor-solicitation", test_neighbor_solicitation);
	g_test_add_func("/gateway/neighbor-advertisement", test_neighbor_advertisement);
	g_test_add_func("/gateway/router-solicitation", test_router_solicitation);
	g_test_add_func("/gateway/broken-ndp", test_broken_ndp);
	g_test_add_func("/gateway/echo", test_echo);
	g_test_add_func("/gateway/echo-in-fragments", test_echo_in_fragments);
	g_test_add_func("/gateway/echo-to-others", test_echo_to_others);
	g_test_add_func("/gateway/other-icmp", test_other_icmp);
	return g_test_run();
}
