/* SPDX-License-Identifier: Apache-2.0 */
#include <libslirp.h>

#include "path-fixture.h"

struct dhcp {
	uint8_t type; /* 0: plain BOOTP */
	uint8_t mac;
	uint32_t wanted; /* option 50, an offset to N; 0: none */
	uint32_t ciaddr;
};

/* What dhclient and udhcpc send: 300 bytes, padded behind the end option. */
static void frame_dhcp(struct dhcp dhcp)
{
	uint8_t message[300] = {1, 1, 6, 0, 1, 2, 3, 4, [28] = 2, [33] = dhcp.mac, [236] = 0x63,
		0x82, 0x53, 0x63, [240] = 0};
	size_t at = 241;

	if (dhcp.ciaddr)
		memcpy(message + 12, (uint8_t[4]){10, 0, 2, (uint8_t)dhcp.ciaddr}, 4);
	if (dhcp.type) {
		memcpy(message + at, (uint8_t[3]){53, 1, dhcp.type}, 3);
		at += 3;
	}
	if (dhcp.wanted) {
		memcpy(message + at, (uint8_t[6]){50, 4, 10, 0, 2, (uint8_t)dhcp.wanted}, 6);
		at += 6;
	}
	message[at] = 255;
	frame_udp(&frame, dhcp.ciaddr ? NEAR4 : "0.0.0.0",
		dhcp.ciaddr ? GATEWAY4 : "255.255.255.255", 67, message, sizeof(message));
	memset(frame.b, 0xff, 6);
}

static void test_dhcp_malformed(void)
{
	static const struct dhcp discover = {.type = 1, .mac = 1};

	set_up();
	frame_dhcp(discover);
	expect_pass();
	frame.b[33] = 9; /* without an address, to somebody else */
	frame_fix_ip4(&frame);
	expect_drop(COUNTER_DROP_HEADER);
	frame_dhcp(discover);
	frame.b[42] = 2; /* a reply */
	expect_drop(COUNTER_DROP_HEADER);
	frame_dhcp(discover);
	put16(frame.b + 38, 8 + 239); /* without the whole cookie */
	expect_drop(COUNTER_DROP_HEADER);
	frame_dhcp(discover);
	frame.b[42 + 245] = 200; /* behind the end */
	frame.b[42 + 244] = 12;
	expect_drop(COUNTER_DROP_HEADER);
	frame_dhcp(discover);
	memset(frame.b + 42 + 244, 0, 300 - 245); /* no end option, and then one without a length */
	frame.b[42 + 299] = 12;
	expect_drop(COUNTER_DROP_HEADER);
	frame.b[42 + 299] = 0;
	expect_pass();
	tear_down();
}

static void test_dhcp_no_lease_left(void)
{
	set_up();
	for (uint8_t i = 0; i < DHCP_LEASES_MAX; i++) {
		frame_dhcp((struct dhcp){.type = 1, .mac = i + 1});
		expect_pass();
	}
	frame_dhcp((struct dhcp){.type = 1, .mac = 99});
	expect_drop(COUNTER_DROP_DHCP);
	frame_dhcp((struct dhcp){.type = 3, .mac = 99});
	expect_drop(COUNTER_DROP_DHCP);
	frame_dhcp((struct dhcp){.type = 3, .mac = 99, .wanted = 15}); /* a DHCPNAK */
	expect_pass();
	frame_dhcp((struct dhcp){.type = 1, .mac = 5});
	expect_pass();
	tear_down();
}

/* --- the guard's books against libslirp's own --- */

static int n_sent;

static ssize_t count_sent(const void *buf, size_t len, void *opaque)
{
	n_sent++;
	return (ssize_t)len;
}

static void ignore_error(const char *message, void *opaque)
{
}

static int64_t slirp_now(void *opaque)
{
	return now_ns;
}

static void *timer_make(SlirpTimerCb cb, void *cb_opaque, void *opaque)
{
	return &n_sent;
}

static void timer_drop(void *timer, void *opaque)
{
}

static void timer_set(void *timer, int64_t expire_ms, void *opaque)
{
}

static void watch(int fd, void *opaque)
{
}

static void notice(void *opaque)
{
}

static Slirp *slirp_make(void)
{
	static const SlirpCb callbacks = {
		.send_packet = count_sent,
		.guest_error = ignore_error,
		.clock_get_ns = slirp_now,
		.timer_new = timer_make,
		.timer_free = timer_drop,
		.timer_mod = timer_set,
		.register_poll_fd = watch,
		.unregister_poll_fd = watch,
		.notify = notice,
	};
	SlirpConfig config = {
		.version = 4,
		.in_enabled = true,
		.vnetwork = policy.network,
		.vnetmask = policy.netmask,
		.vhost = policy.gateway,
		.vnameserver = policy.dns,
		.if_mtu = 1500,
		.if_mru = 1500,
		.disable_host_loopback = true,
	};

	inet_pton(AF_INET, "10.0.2.15", &config.vdhcp_start);
	return slirp_new(&config, &callbacks, NULL);
}

static struct dhcp dhcp_random(void)
{
	return (struct dhcp){
		.type = (uint8_t)g_test_rand_int_range(0, 4),
		.mac = (uint8_t)g_test_rand_int_range(0, 24),
		.wanted = (uint32_t)(g_test_rand_bit() ? g_test_rand_int_range(10, 36) : 0),
		.ciaddr = (uint32_t)(g_test_rand_bit() ? g_test_rand_int_range(10, 36) : 0),
	};
}

/* Random requests: what the guard passes is answered, what it stops would not be. */
static void test_dhcp_books(void)
{
	static const uint8_t answered_types[] = {true, true, false, true};
	bool stopped = false;

	for (int round = 0; round < 40; round++) {
		Slirp *slirp;

		set_up();
		slirp = slirp_make();
		for (int i = 0; i < 100; i++) {
			struct dhcp dhcp = dhcp_random();
			enum verdict result;

			frame_dhcp(dhcp);
			result = go();
			n_sent = 0;
			slirp_input(slirp, frame.b, (int)frame.len);
			g_assert_cmpint(n_sent, ==, result == PASS && answered_types[dhcp.type]);
			stopped |= result == DROP;
		}
		slirp_cleanup(slirp);
		tear_down();
	}
	g_assert_true(stopped);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	with_filter = true;
	g_test_add_func("/dhcp-guard/malformed", test_dhcp_malformed);
	g_test_add_func("/dhcp-guard/no-lease-left", test_dhcp_no_lease_left);
	g_test_add_func("/dhcp-guard/books", test_dhcp_books);
	return g_test_run();
}
