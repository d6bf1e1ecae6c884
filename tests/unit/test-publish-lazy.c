/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules that listen only while the container does. The namespace of the test is host and container
 * in one: what listens at the guest's address or at all of them is the container's.
 */
#include "publish-fixture.h"

#include <linux/netlink.h>

#define POLL_NS (250 * NS_PER_MS)

/* ---- who makes the socket ---- */

static struct {
	int error; /* what is answered instead */
	unsigned int n_asked;
	bool is_late; /* the answer waits for answer() */
	socket_made_fn *done;
	void *owner;
	uint64_t cookie;
} maker;

static void answer(void)
{
	int fd = maker.error;

	if (fd == 0)
		fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
	maker.done(maker.owner, maker.cookie, fd);
}

static void make(struct socket_source *source, uint8_t family, int type, socket_made_fn *done,
	void *owner, uint64_t cookie)
{
	g_assert_cmpint(family, ==, AF_NETLINK);
	g_assert_cmpint(type, ==, SOCK_RAW);
	maker.n_asked++;
	maker.done = done;
	maker.owner = owner;
	maker.cookie = cookie;
	if (!maker.is_late)
		answer();
}

static struct socket_source sockets = {.make = make};

/* ---- the test ---- */

static void set_up(void)
{
	interface_up("lo");
	add_address4("lo:1", GUEST, "255.255.255.255");
	fixture_start(&sockets);
	memset(&maker, 0, sizeof(maker));
}

static struct forward_rule lazy_rule(void)
{
	struct forward_rule rule = rule_of("127.0.0.1", 6000, 1);

	rule.spec.lazy = true;
	return rule;
}

/* As the container's. */
static int serve(const char *address, uint16_t port, bool only6)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	const int on = 1, only = only6;
	int fd;

	fd = socket(strchr(address, ':') ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (inet_pton(AF_INET, address, &in.sin_addr) == 1) {
		g_assert_cmpint(bind(fd, (struct sockaddr *)&in, sizeof(in)), ==, 0);
	} else {
		inet_pton(AF_INET6, address, &in6.sin6_addr);
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
		g_assert_cmpint(bind(fd, (struct sockaddr *)&in6, sizeof(in6)), ==, 0);
	}
	g_assert_cmpint(listen(fd, 5), ==, 0);
	return fd;
}

static void expect_state(const struct forward_rule *rule, enum forward_state state)
{
	int fd = client_dial("127.0.0.1", rule->spec.host_port);

	g_assert_cmpint(rule_status(rule).state, ==, state);
	if (state == FORWARD_LISTENING) {
		g_assert_cmpint(fd, >=, 0);
		close(fd);
		fixture_expect_given(1);
		fixture_forget_given();
	} else {
		g_assert_cmpint(fd, ==, -ECONNREFUSED);
	}
	fixture_turn();
	g_assert_cmpint(loop_turn(&f.loop, 0, fixture_dispatch, NULL), ==, 0);
}

/* The socket is asked for at once, and looked through when it is there. */
static void begin(struct forward_rule *rule)
{
	rule_start(rule);
	fixture_sleep(0);
	fixture_sleep(0);
}

static void test_follows(void *arg)
{
	struct forward_rule rule = lazy_rule();
	int server, client;

	set_up();
	begin(&rule);
	for (int i = 0; i < 2; i++) {
		expect_state(&rule, FORWARD_WAITING);
		server = serve("0.0.0.0", 80, false);
		fixture_sleep(POLL_NS);
		expect_state(&rule, FORWARD_LISTENING);
		/* A connection stands while the listener goes and comes. */
		client = client_dial("127.0.0.1", 6000);
		fixture_expect_given(1);
		close(server);
		fixture_sleep(POLL_NS);
		expect_state(&rule, FORWARD_WAITING);
		fixture_sleep(POLL_NS);
		server = serve("0.0.0.0", 80, false);
		fixture_sleep(POLL_NS);
		close(client);
		fixture_forget_given();
		expect_state(&rule, FORWARD_LISTENING);
		close(server);
		fixture_sleep(POLL_NS);
	}
	g_assert_cmpuint(maker.n_asked, ==, 1);
	rule_stop(&rule);
	g_assert_null(f.loop.timers.root);
	fixture_stop();
}

static void expect_counts(
	const char *address, uint16_t port, bool only6, const char *guest, bool counts)
{
	struct forward_rule rule = lazy_rule();
	int server = serve(address, port, only6);

	if (guest)
		rule.spec.guest_addr = addr_of(guest);
	begin(&rule);
	if ((rule_status(&rule).state == FORWARD_LISTENING) != counts)
		g_error("%s %u for %s", address, port, guest ? guest : "the guest");
	close(server);
	fixture_sleep(POLL_NS);
	g_assert_cmpint(rule_status(&rule).state, ==, FORWARD_WAITING);
	rule_stop(&rule);
}

static void test_who_counts(void *arg)
{
	set_up();
	expect_counts("0.0.0.0", 80, false, NULL, true);
	expect_counts(GUEST, 80, false, NULL, true);
	expect_counts(GUEST, 80, false, GUEST, true);
	expect_counts("0.0.0.0", 81, false, NULL, false);
	expect_counts("127.0.0.1", 80, false, NULL, false);
	expect_counts("127.0.0.2", 80, false, NULL, false);
	expect_counts("127.0.0.1", 80, false, "127.0.0.1", true);
	expect_counts("0.0.0.0", 80, false, "127.0.0.1", true);
	expect_counts("127.0.0.2", 80, false, "127.0.0.1", false);
	if (add_address6("lo", GUEST6, 128)) {
		expect_counts("::", 80, false, NULL, true);
		expect_counts("::", 80, true, NULL, false);
		expect_counts("::1", 80, false, NULL, false);
		expect_counts("::", 80, false, "127.0.0.1", true);
		expect_counts("::1", 80, false, "::1", true);
		expect_counts("::", 80, true, "::1", true);
		expect_counts("0.0.0.0", 80, false, "::1", false);
	}
	fixture_stop();
}

static void test_ip6_rule(void *arg)
{
	struct forward_rule rule = lazy_rule();
	int server;

	set_up();
	if (!add_address6("lo", GUEST6, 128))
		_exit(EXIT_SKIP);
	rule.spec.host_addr = addr_of("::1");
	begin(&rule);
	g_assert_cmpint(rule_status(&rule).state, ==, FORWARD_WAITING);
	server = serve("0.0.0.0", 80, false);
	fixture_sleep(POLL_NS);
	g_assert_cmpint(rule_status(&rule).state, ==, FORWARD_WAITING);
	close(server);
	server = serve(GUEST6, 80, true);
	fixture_sleep(POLL_NS);
	g_assert_cmpint(rule_status(&rule).state, ==, FORWARD_LISTENING);
	close(server);
	rule_stop(&rule);
	fixture_stop();
}

/* Each port of a range by itself. */
static void test_range(void *arg)
{
	struct forward_rule rule = rule_of("127.0.0.1", 6000, 3);
	int server;

	set_up();
	rule.spec.lazy = true;
	begin(&rule);
	server = serve("0.0.0.0", 81, false);
	fixture_sleep(POLL_NS);
	g_assert_cmpint(rule_status(&rule).state, ==, FORWARD_LISTENING);
	g_assert_cmpint(client_dial("127.0.0.1", 6000), ==, -ECONNREFUSED);
	g_assert_cmpint(client_dial("127.0.0.1", 6002), ==, -ECONNREFUSED);
	close(client_dial("127.0.0.1", 6001));
	fixture_expect_given(1);
	close(server);
	rule_stop(&rule);
	fixture_stop();
}

/* Nobody here knows who listens there. */
static void test_listens_always(void *arg)
{
	struct forward_rule rule = lazy_rule();

	set_up();
	rule.spec.guest_addr = addr_of("172.17.0.2");
	rule_start(&rule);
	expect_state(&rule, FORWARD_LISTENING);
	g_assert_cmpuint(maker.n_asked, ==, 0);
	rule_stop(&rule);
	fixture_stop();
}

/* So many listeners that one look does not see them all, and more than are remembered. */
static void test_many_listeners(void *arg)
{
	struct forward_rule rule = lazy_rule();
	const struct rlimit limit = {.rlim_cur = 8000, .rlim_max = 8000};
	int *servers = g_new(int, 6000);

	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		_exit(EXIT_SKIP);
	set_up();
	for (int i = 0; i < 6000; i++)
		servers[i] = serve("127.0.0.1", (uint16_t)(10000 + i), false);
	begin(&rule);
	for (int i = 0; i < 10; i++)
		fixture_sleep(POLL_NS);
	g_assert_cmpint(rule_status(&rule).state, ==, FORWARD_WAITING);
	close(servers[0]);
	servers[0] = serve(GUEST, 80, false);
	for (int i = 0; i < 10; i++)
		fixture_sleep(POLL_NS);
	g_assert_cmpint(rule_status(&rule).state, ==, FORWARD_LISTENING);
	for (int i = 0; i < 6000; i++)
		close(servers[i]);
	g_free(servers);
	rule_stop(&rule);
	fixture_stop();
}

/* ---- what does not work ---- */

/* One warning, and better a reset than no service. */
static void test_agent_gone(void *arg)
{
	struct forward_rule rule = lazy_rule(), later = lazy_rule();
	struct capture capture;
	char *text;

	set_up();
	maker.error = -EPIPE;
	capture = capture_begin();
	begin(&rule);
	expect_state(&rule, FORWARD_LISTENING);
	fixture_sleep(60 * NS_PER_SEC);
	later.spec.host_port = 6001;
	rule_start(&later);
	expect_state(&later, FORWARD_LISTENING);
	text = capture_end(&capture);
	g_assert_nonnull(strstr(text, "cannot see who listens"));
	g_assert_null(strstr(strstr(text, "cannot see who listens") + 1, "cannot see"));
	g_free(text);
	g_assert_cmpuint(maker.n_asked, ==, 1);
	rule_stop(&rule);
	rule_stop(&later);
	fixture_stop();
}

/* A shortage passes. */
static void test_no_socket_for_a_while(void *arg)
{
	struct forward_rule rule = lazy_rule();

	set_up();
	maker.error = -EMFILE;
	begin(&rule);
	expect_state(&rule, FORWARD_LISTENING);
	maker.error = 0;
	fixture_sleep(NS_PER_SEC);
	fixture_sleep(POLL_NS);
	expect_state(&rule, FORWARD_WAITING);
	rule_stop(&rule);
	fixture_stop();
}

/* The rule is gone when the socket comes. */
static void test_late_socket(void *arg)
{
	struct forward_rule rule = lazy_rule();

	set_up();
	maker.is_late = true;
	begin(&rule);
	expect_state(&rule, FORWARD_WAITING);
	fixture_sleep(POLL_NS);
	g_assert_cmpuint(maker.n_asked, ==, 1);
	rule_stop(&rule);
	answer();
	/* And once more, with a rule that waits for it. */
	begin(&rule);
	g_assert_cmpuint(maker.n_asked, ==, 2);
	rule_stop(&rule);
	rule_start(&rule);
	answer();
	fixture_sleep(0);
	expect_state(&rule, FORWARD_WAITING);
	rule_stop(&rule);
	fixture_stop();
}

static int resume_error;
static int (*real_resume)(struct host *host, int fd, struct handle handle);

static int resume(struct host *host, int fd, struct handle handle)
{
	return resume_error ? resume_error : real_resume(host, fd, handle);
}

static void test_cannot_listen_again(void *arg)
{
	struct forward_rule rule = lazy_rule();
	int server;

	set_up();
	real_resume = f.ops.tcp_listen_resume;
	f.ops.tcp_listen_resume = resume;
	resume_error = -EADDRINUSE;
	server = serve("0.0.0.0", 80, false);
	begin(&rule);
	expect_state(&rule, FORWARD_FAILED);
	g_assert_cmpint(rule_status(&rule).error, ==, EADDRINUSE);
	resume_error = 0;
	fixture_sleep(POLL_NS);
	expect_state(&rule, FORWARD_LISTENING);
	g_assert_cmpint(rule_status(&rule).error, ==, 0);
	close(server);
	rule_stop(&rule);
	fixture_stop();
}

/* The container's root sends to the socket what the kernel might have said. */
static void test_impostor(void *arg)
{
	struct forward_rule rule = lazy_rule();
	struct sockaddr_nl sa = {.nl_family = AF_NETLINK}, ours;
	struct {
		struct nlmsghdr header;
		int error;
		struct nlmsghdr old;
	} message = {
		.header = {.nlmsg_len = sizeof(message), .nlmsg_type = NLMSG_ERROR, .nlmsg_seq = 1},
		.error = -ENOENT};
	socklen_t len = sizeof(ours);
	int fd, victim;

	set_up();
	maker.is_late = true;
	begin(&rule);
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	victim = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
	g_assert_cmpint(bind(victim, (struct sockaddr *)&sa, sizeof(sa)), ==, 0);
	g_assert_cmpint(getsockname(victim, (struct sockaddr *)&ours, &len), ==, 0);
	if (sendto(fd, &message, sizeof(message), 0, (struct sockaddr *)&ours, len) < 0)
		_exit(EXIT_SKIP);
	maker.done(maker.owner, maker.cookie, victim);
	fixture_sleep(0);
	expect_state(&rule, FORWARD_WAITING);
	close(fd);
	rule_stop(&rule);
	fixture_stop();
}

static const struct container_test tests[] = {
	{"/publish-lazy/follows", test_follows},
	{"/publish-lazy/who-counts", test_who_counts},
	{"/publish-lazy/ip6-rule", test_ip6_rule},
	{"/publish-lazy/range", test_range},
	{"/publish-lazy/listens-always", test_listens_always},
	{"/publish-lazy/many-listeners", test_many_listeners},
	{"/publish-lazy/agent-gone", test_agent_gone},
	{"/publish-lazy/no-socket-for-a-while", test_no_socket_for_a_while},
	{"/publish-lazy/late-socket", test_late_socket},
	{"/publish-lazy/cannot-listen-again", test_cannot_listen_again},
	{"/publish-lazy/impostor", test_impostor},
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	container_tests_add(tests, ARRAY_SIZE(tests));
	return g_test_run();
}
