/* SPDX-License-Identifier: Apache-2.0 */
#include "publish-fixture.h"

#include <sys/epoll.h>
#include <sys/stat.h>

/* Nobody asks it for anything. */
static struct socket_source sockets;

static void set_up(void)
{
	interface_up("lo");
	fixture_start(&sockets);
}

/* ---- which path, and as whom ---- */

static void expect_address(const struct ip_addr *addr, const char *expected)
{
	const struct ip_addr want = addr_of(expected);
	char text[INET6_ADDRSTRLEN];

	if (ip_addr_equal(addr, &want))
		return;
	if (addr->family == AF_INET)
		inet_ntop(AF_INET, &addr->in6.s6_addr[12], text, sizeof(text));
	else
		inet_ntop(AF_INET6, &addr->in6, text, sizeof(text));
	g_error("%s instead of %s", text, expected);
}

/* A client that dials `to` is carried to `guest`; `shown` NULL: by splice. */
static void expect_path(
	struct forward_rule *rule, const char *to, const char *guest, const char *shown)
{
	cleanup_fd int client = -1;
	const struct given *given = &f.given[0];

	rule_start(rule);
	client = client_dial(to, rule->spec.host_port);
	g_assert_cmpint(client, >=, 0);
	fixture_expect_given(1);
	g_assert_true(given->is_splice == !shown);
	expect_address(shown ? &given->arrival.near : &given->dial.guest, guest);
	if (shown) {
		expect_address(&given->arrival.far, shown);
		g_assert_cmpuint(given->arrival.near_port, ==, rule->spec.guest_port);
		g_assert_cmpuint(given->arrival.far_port, !=, 0);
	} else {
		g_assert_cmpuint(given->dial.guest_port, ==, rule->spec.guest_port);
	}
	fixture_forget_given();
	rule_stop(rule);
}

static void test_paths(void *arg)
{
	static const struct {
		const char *host, *to, *guest;
		enum forward_path path;
		bool dual_stack;
		const char *expected, *shown;
	} rows[] = {
		{"0.0.0.0", "127.0.0.1", NULL, FORWARD_AUTO, false, GUEST, NULL},
		{"0.0.0.0", "127.1.2.3", NULL, FORWARD_AUTO, false, GUEST, NULL},
		{"127.0.0.2", "127.0.0.2", "10.0.2.9", FORWARD_AUTO, false, "10.0.2.9", NULL},
		{"0.0.0.0", OURS4, NULL, FORWARD_AUTO, false, GUEST, OURS4},
		{"0.0.0.0", OURS4, "172.17.0.2", FORWARD_AUTO, false, "172.17.0.2", OURS4},
		{"0.0.0.0", OURS4, NULL, FORWARD_SPLICE, false, GUEST, NULL},
		{"0.0.0.0", "127.0.0.1", NULL, FORWARD_TAP, false, GUEST, "10.0.2.2"},
		{"0.0.0.0", OURS4, "127.0.0.1", FORWARD_AUTO, false, "127.0.0.1", NULL},
		{"0.0.0.0", OURS4, "::1", FORWARD_AUTO, false, "::1", NULL},
		{"0.0.0.0", OURS4, GUEST6, FORWARD_AUTO, false, GUEST6, "fd00::2"},
		{"::", "::1", NULL, FORWARD_AUTO, false, GUEST6, NULL},
		{"::", "::1", NULL, FORWARD_TAP, false, GUEST6, "fd00::2"},
		{"::", OURS6, NULL, FORWARD_AUTO, false, GUEST6, OURS6},
		{"::", OURS6, GUEST, FORWARD_AUTO, false, GUEST, "10.0.2.2"},
		{"::", OURS6, NULL, FORWARD_AUTO, true, GUEST6, OURS6},
		{"::", OURS4, NULL, FORWARD_AUTO, true, GUEST, OURS4},
		{"::", "127.0.0.1", NULL, FORWARD_AUTO, true, GUEST, NULL},
	};
	bool has6;

	set_up();
	add_address4("lo:1", OURS4, "255.255.255.255");
	has6 = add_address6("lo", OURS6, 128);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct forward_rule rule = rule_of(rows[i].host, (uint16_t)(6000 + i), 1);

		if (strchr(rows[i].host, ':') && !has6)
			continue;
		rule.spec.path = rows[i].path;
		rule.spec.dual_stack = rows[i].dual_stack;
		if (rows[i].guest)
			rule.spec.guest_addr = addr_of(rows[i].guest);
		expect_path(&rule, rows[i].to, rows[i].expected, rows[i].shown);
	}
	fixture_stop();
}

/* The guest's IPv6 address may change, or be forgotten. */
static void test_guest6_goes(void *arg)
{
	struct forward_rule rule = rule_of("::", 6000, 1);
	int client;

	set_up();
	if (!add_address6("lo", OURS6, 128))
		_exit(EXIT_SKIP);
	rule_start(&rule);
	f.has_guest6 = false;
	client = client_dial("::1", 6000);
	while (rule_status(&rule).n_refused == 0)
		fixture_turn();
	client_expect_reset(client);
	close(client);
	rule_stop(&rule);
	/* One for both families has another. */
	rule.spec.dual_stack = true;
	expect_path(&rule, "::1", GUEST, NULL);
	fixture_stop();
}

static void test_no_namespace(void *arg)
{
	struct forward_rule rule = rule_of("127.0.0.1", 6000, 1);
	struct forward_failure failure;

	interface_up("lo");
	fixture_start(NULL);
	rule.spec.lazy = true;
	expect_path(&rule, "127.0.0.1", GUEST, "10.0.2.2");
	rule.spec.path = FORWARD_SPLICE;
	g_assert_cmpint(rule_bind(&rule, &failure), ==, -EOPNOTSUPP);
	g_assert_cmpstr(failure.field, ==, "path");
	rule.spec.path = FORWARD_AUTO;
	rule.spec.guest_addr = addr_of("127.0.0.1");
	g_assert_cmpint(rule_bind(&rule, &failure), ==, -EOPNOTSUPP);
	g_assert_cmpstr(failure.field, ==, "guest_addr");
	fixture_stop();
}

/* ---- a dial of the namespace that does not work ---- */

static void test_fall_back(void *arg)
{
	struct forward_rule rule = rule_of("127.0.0.1", 6000, 1);
	int client, late;
	struct splice_dial dial;

	set_up();
	rule_start(&rule);
	client = client_dial("127.0.0.1", 6000);
	fixture_expect_given(1);
	dial = f.given[0].dial;
	g_assert_nonnull(dial.fall_back);
	dial.fall_back(dial.owner, dial.cookie, dial.fd, -ENETUNREACH);
	g_assert_cmpuint(f.n_given, ==, 2);
	g_assert_false(f.given[1].is_splice);
	g_assert_cmpint(f.given[1].arrival.fd, ==, dial.fd);
	expect_address(&f.given[1].arrival.far, "10.0.2.2");
	f.n_given = 1;
	fixture_forget_given();
	/* The path over the link has no room either; and then the rule is gone. */
	late = client_dial("127.0.0.1", 6000);
	fixture_expect_given(1);
	dial = f.given[0].dial;
	f.n_given = 0;
	rule_stop(&rule);
	dial.fall_back(dial.owner, dial.cookie, dial.fd, -ENETUNREACH);
	client_expect_reset(late);
	g_assert_cmpuint(f.n_given, ==, 0);
	close(client);
	close(late);
	fixture_stop();
	g_assert_cmpint(f.n_forgotten, ==, 1);
}

static void test_no_way_back(void *arg)
{
	struct forward_rule rule = rule_of("127.0.0.1", 6000, 1);
	char path[] = "/run/server.sock";
	int client;

	set_up();
	rule.spec.guest_addr = addr_of("127.0.0.1");
	rule_start(&rule);
	client = client_dial("127.0.0.1", 6000);
	fixture_expect_given(1);
	g_assert_null(f.given[0].dial.fall_back);
	g_assert_null(f.given[0].dial.guest_path);
	close(client);
	fixture_forget_given();
	rule_stop(&rule);
	rule.spec.guest_path = path;
	rule.spec.guest_addr.family = AF_UNSPEC;
	rule_start(&rule);
	client = client_dial("127.0.0.1", 6000);
	fixture_expect_given(1);
	g_assert_null(f.given[0].dial.fall_back);
	g_assert_cmpstr(f.given[0].dial.guest_path, ==, path);
	close(client);
	rule_stop(&rule);
	fixture_stop();
}

/* ---- what cannot be ---- */

static void expect_failure(struct forward_rule *rule, int error, const char *field)
{
	struct forward_failure failure;

	g_assert_cmpint(rule_bind(rule, &failure), ==, error);
	g_assert_cmpstr(failure.field, ==, field);
	g_assert_true(list_is_empty(&f.publish->rules));
}

static void test_refused_rules(void *arg)
{
	char path[] = "/x";
	struct forward_rule rule;

	set_up();
	rule = rule_of("192.0.2.77", 6000, 1);
	expect_failure(&rule, -EADDRNOTAVAIL, "host_addr");
	rule = rule_of("127.0.0.1", 65535, 2);
	expect_failure(&rule, -EINVAL, "host_port");
	rule = rule_of("127.0.0.1", 6000, 2);
	rule.spec.guest_port = 65535;
	expect_failure(&rule, -EINVAL, "guest_port");
	rule = rule_of("127.0.0.1", 6000, 1);
	rule.spec.guest_addr = addr_of("127.0.0.1");
	rule.spec.path = FORWARD_TAP;
	expect_failure(&rule, -EOPNOTSUPP, "path");
	rule.spec.guest_addr = addr_of("224.0.0.1");
	expect_failure(&rule, -EINVAL, "guest_addr");
	rule.spec.guest_path = path;
	expect_failure(&rule, -EOPNOTSUPP, "path");
	rule.spec.path = FORWARD_AUTO;
	rule.spec.proto = FORWARD_UDP;
	expect_failure(&rule, -EOPNOTSUPP, "guest_addr");
	rule = rule_of("::1", 6000, 1);
	f.has_guest6 = false;
	expect_failure(&rule, -EADDRNOTAVAIL, "guest_addr");
	f.has_guest6 = true;
	f.policy.ipv6 = false;
	expect_failure(&rule, -EADDRNOTAVAIL, "guest_addr");
	rule = rule_of("127.0.0.1", 6000, 1);
	rule.spec.guest_addr = addr_of(GUEST6);
	expect_failure(&rule, -EADDRNOTAVAIL, "guest_addr");
	fixture_stop();
}

/* All ports or none, and which one it was. */
static void test_range(void *arg)
{
	struct forward_rule rule = rule_of("127.0.0.1", 6000, 20),
			    taken = rule_of("127.0.0.1", 6013, 1);
	struct forward_failure failure;
	int client;

	set_up();
	rule_start(&taken);
	g_assert_cmpint(rule_bind(&rule, &failure), ==, -EADDRINUSE);
	g_assert_cmpuint(failure.port, ==, 6013);
	g_assert_cmpstr(failure.field, ==, "host_port");
	g_assert_cmpint(client_dial("127.0.0.1", 6000), ==, -ECONNREFUSED);
	g_assert_cmpint(client_dial("127.0.0.1", 6012), ==, -ECONNREFUSED);
	rule_stop(&taken);
	rule_start(&rule);
	client = client_dial("127.0.0.1", 6013);
	fixture_expect_given(1);
	g_assert_cmpuint(f.given[0].dial.guest_port, ==, 93);
	close(client);
	rule_stop(&rule);
	g_assert_cmpint(client_dial("127.0.0.1", 6013), ==, -ECONNREFUSED);
	fixture_stop();
}

static int64_t cpu_ns(void)
{
	struct timespec now;

	g_assert_cmpint(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), ==, 0);
	return now.tv_sec * NS_PER_SEC + now.tv_nsec;
}

/* Ten times the time that it may take, of which others' work is no part. */
static void test_many_ports(void *arg)
{
	struct forward_rule rule = rule_of("127.0.0.1", 6000, 10000);
	const struct rlimit limit = {.rlim_cur = 11000, .rlim_max = 11000};
	int64_t begun_ns;

	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		_exit(EXIT_SKIP);
	set_up();
	begun_ns = cpu_ns();
	rule_start(&rule);
	g_assert_cmpint(cpu_ns() - begun_ns, <, 1 * NS_PER_SEC);
	begun_ns = cpu_ns();
	rule_stop(&rule);
	g_assert_cmpint(cpu_ns() - begun_ns, <, 1 * NS_PER_SEC);
	/* Those that are kept for others are not taken. */
	f.publish->config.max_fd = 1000;
	expect_failure(&rule, -EMFILE, "host_port");
	fixture_stop();
}

/* ---- unix sockets, and those of others ---- */

static int dial_unix(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_strlcpy(sa.sun_path, path, sizeof(sa.sun_path));
	return connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : fd_take(&fd);
}

static void test_unix(void *arg)
{
	g_autofree char *folder = g_dir_make_tmp("publish-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(folder, "socket", NULL);
	struct forward_rule rule = rule_of("127.0.0.1", 1, 1);
	struct stat st;
	int client;

	set_up();
	rule.spec = (struct forward_spec){.source = FORWARD_FROM_UNIX,
		.host_path = path,
		.guest_port = 80,
		.n_ports = 1,
		.host_fd = -1};
	rule_start(&rule);
	g_assert_cmpint(stat(path, &st), ==, 0);
	g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
	client = dial_unix(path);
	fixture_expect_given(1);
	g_assert_true(f.given[0].is_splice);
	expect_address(&f.given[0].dial.guest, GUEST);
	f.given[0].dial.fall_back(
		f.given[0].dial.owner, f.given[0].dial.cookie, f.given[0].dial.fd, -EHOSTUNREACH);
	g_assert_cmpuint(f.n_given, ==, 2);
	expect_address(&f.given[1].arrival.far, "10.0.2.2");
	g_assert_cmpuint(f.given[1].arrival.far_port, >=, 49152);
	f.n_given = 1;
	close(client);
	rule_stop(&rule);
	g_assert_cmpint(stat(path, &st), ==, -1);
	/* Another one's file is left alone. */
	rule_start(&rule);
	g_assert_cmpint(unlink(path), ==, 0);
	g_assert_true(g_file_set_contents(path, "", 0, NULL));
	rule_stop(&rule);
	expect_failure(&rule, -EEXIST, "host_addr");
	g_assert_cmpint(unlink(path), ==, 0);
	g_assert_cmpint(rmdir(folder), ==, 0);
	rule.spec.proto = FORWARD_UDP;
	expect_failure(&rule, -EOPNOTSUPP, "host_addr");
	fixture_stop();
}

static int bound_at(const char *address, int type, bool listening)
{
	const struct ip_addr addr = addr_of(address);
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = ip_addr_v4(&addr)};
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	g_assert_cmpint(bind(fd, (struct sockaddr *)&in, sizeof(in)), ==, 0);
	g_assert_true(!listening || listen(fd, 1) == 0);
	return fd;
}

static uint16_t port_of(int fd)
{
	struct host_socket socket;

	g_assert_cmpint(f.ops.describe(&f.hostsock.host, fd, &socket), ==, 0);
	return socket.port;
}

static struct forward_rule rule_from(int fd, enum forward_proto proto)
{
	return (struct forward_rule){.spec = {.source = FORWARD_FROM_FD,
					     .proto = proto,
					     .guest_port = 80,
					     .n_ports = 1,
					     .host_fd = fd}};
}

static void test_passed(void *arg)
{
	struct forward_rule rule;
	int fd, copy, client;

	set_up();
	fd = bound_at("127.0.0.1", SOCK_STREAM, true);
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	rule = rule_from(fd, FORWARD_TCP);
	rule_start(&rule);
	g_assert_cmpint(rule.spec.host_fd, ==, -1);
	client = client_dial("127.0.0.1", port_of(copy));
	fixture_expect_given(1);
	expect_address(&f.given[0].dial.guest, GUEST);
	close(client);
	rule_stop(&rule);
	/* The other copy still listens: nothing comes from there. */
	client = client_dial("127.0.0.1", port_of(copy));
	g_assert_cmpint(client, >=, 0);
	g_assert_cmpint(loop_turn(&f.loop, 0, fixture_dispatch, NULL), ==, 0);
	close(client);
	close(copy);
	fixture_stop();
}

static void expect_useless(int fd, enum forward_proto proto, int error)
{
	struct forward_rule rule = rule_from(fd, proto);

	expect_failure(&rule, error, "host_fd");
	g_assert_cmpint(rule.spec.host_fd, ==, fd);
	close(fd);
}

static void test_passed_wrong(void *arg)
{
	struct forward_rule rule;
	int fd;

	set_up();
	expect_useless(open("/dev/null", O_RDONLY | O_CLOEXEC), FORWARD_TCP, -ENOTSOCK);
	expect_useless(bound_at("127.0.0.1", SOCK_STREAM, false), FORWARD_TCP, -EINVAL);
	expect_useless(bound_at("127.0.0.1", SOCK_STREAM, true), FORWARD_UDP, -EINVAL);
	expect_useless(bound_at("127.0.0.1", SOCK_DGRAM, false), FORWARD_TCP, -EINVAL);
	expect_useless(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), FORWARD_UDP, -EINVAL);
	expect_useless(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), FORWARD_UDP, -EINVAL);
	fd = bound_at("127.0.0.1", SOCK_DGRAM, false);
	rule = rule_from(fd, FORWARD_UDP);
	rule_start(&rule);
	rule_stop(&rule);
	close(fd);
	fixture_stop();
}

/* ---- too many ---- */

/* Neither path has room: the client hears of it at once. */
static void test_no_room(void *arg)
{
	struct forward_rule rule = rule_of("127.0.0.1", 6000, 1);
	int client;

	set_up();
	rule_start(&rule);
	f.path_error = -ENOSPC;
	client = client_dial("127.0.0.1", 6000);
	while (rule_status(&rule).n_refused == 0)
		fixture_turn();
	client_expect_reset(client);
	close(client);
	g_assert_cmpuint(f.counters.value[COUNTER_FORWARD_REFUSED], ==, 1);
	/* And of descriptors that are kept. */
	f.path_error = 0;
	f.publish->config.max_fd = 3;
	client = client_dial("127.0.0.1", 6000);
	while (rule_status(&rule).n_refused == 1)
		fixture_turn();
	client_expect_reset(client);
	close(client);
	g_assert_cmpuint(f.n_given, ==, 0);
	rule_stop(&rule);
	fixture_stop();
}

#define CROWD 20

static void test_descriptors_run_out(void *arg)
{
	struct forward_rule rule = rule_of("127.0.0.1", 6000, 1);
	struct rlimit limit;
	int clients[CROWD], lowest;

	set_up();
	rule_start(&rule);
	for (int i = 0; i < CROWD; i++)
		clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	lowest = dup(0);
	close(lowest);
	g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
	limit.rlim_cur = (rlim_t)lowest + 5;
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
	for (int i = 0; i < CROWD; i++)
		g_assert_cmpint(client_dial_from(clients[i], "127.0.0.1", 6000), ==, 0);
	while (f.n_given + rule_status(&rule).n_refused < CROWD)
		fixture_turn();
	g_assert_cmpuint(f.n_given, ==, 5);
	g_assert_cmpuint(f.counters.value[COUNTER_FORWARD_REFUSED], ==, CROWD - 5);
	for (int i = 5; i < CROWD; i++)
		client_expect_reset(clients[i]);
	fixture_forget_given();
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < CROWD; i++)
		close(clients[i]);
	rule_stop(&rule);
	fixture_stop();
}

static int refuse_nobody(struct host *host, int fd)
{
	return -ENFILE;
}

static int accept_nobody(struct host *host, int fd, struct host_client *ret)
{
	return -ENFILE;
}

/* Who can be neither accepted nor refused waits, and nobody spins. */
static void test_rest(void *arg)
{
	struct forward_rule rule = rule_of("127.0.0.1", 6000, 1);
	struct host_ops real;
	int client;

	set_up();
	real = f.ops;
	rule_start(&rule);
	f.ops.tcp_accept = accept_nobody;
	f.ops.refuse = refuse_nobody;
	client = client_dial("127.0.0.1", 6000);
	while (!timer_is_armed(&f.publish->rest_timer))
		fixture_turn();
	g_assert_cmpint(loop_turn(&f.loop, 0, fixture_dispatch, NULL), ==, 0);
	f.ops.tcp_accept = real.tcp_accept;
	fixture_sleep(NS_PER_SEC);
	fixture_expect_given(1);
	/* One that goes while it rests. */
	f.ops.tcp_accept = accept_nobody;
	close(client);
	client = client_dial("127.0.0.1", 6000);
	while (!timer_is_armed(&f.publish->rest_timer))
		fixture_turn();
	rule_stop(&rule);
	fixture_sleep(NS_PER_SEC);
	close(client);
	fixture_stop();
}

/* A crowd at one port keeps nobody at another one waiting. */
static void test_fair(void *arg)
{
	struct forward_rule busy = rule_of("127.0.0.1", 6000, 1),
			    quiet = rule_of("127.0.0.1", 6001, 1);
	int clients[300], client;
	size_t n_quiet = 0;

	set_up();
	rule_start(&busy);
	rule_start(&quiet);
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
		clients[i] = client_dial("127.0.0.1", 6000);
	client = client_dial("127.0.0.1", 6001);
	fixture_turn();
	g_assert_cmpuint(f.n_given, <, 100);
	for (size_t i = 0; i < f.n_given; i++)
		n_quiet += f.given[i].dial.usage == ((struct published *)quiet.served)->usage;
	g_assert_cmpuint(n_quiet, ==, 1);
	fixture_expect_given(ARRAY_SIZE(clients) + 1);
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
		close(clients[i]);
	close(client);
	rule_stop(&busy);
	rule_stop(&quiet);
	fixture_stop();
}

static size_t list_length(const struct list *head)
{
	size_t n = 0;

	for (const struct list *node = head->next; node != head; node = node->next)
		n++;
	return n;
}

/* More listeners than one turn serves: each has its turn. */
static void test_many_ready(void *arg)
{
	struct forward_rule rule = rule_of("127.0.0.1", 6000, 300);
	int clients[300];

	set_up();
	rule_start(&rule);
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
		clients[i] = client_dial("127.0.0.1", (uint16_t)(6000 + i));
	while (list_length(&f.publish->ready) < 300)
		loop_turn(&f.loop, 0, fixture_dispatch, NULL);
	g_assert_true(publish_finish(f.publish));
	g_assert_cmpuint(f.n_given, ==, 256);
	g_assert_false(publish_finish(f.publish));
	g_assert_cmpuint(f.n_given, ==, 300);
	fixture_expect_given(ARRAY_SIZE(clients));
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
		close(clients[i]);
	rule_stop(&rule);
	fixture_stop();
}

/* ---- the end of a rule ---- */

static void test_close_connections(void *arg)
{
	struct forward_rule rule = rule_of("127.0.0.1", 6000, 1);
	struct usage *usage;

	set_up();
	rule_start(&rule);
	f.backend->ops->unbind(f.backend, &rule, true);
	g_assert_cmpint(f.n_reset_tap + f.n_reset_splice, ==, 0); /* it had none */
	rule_start(&rule);
	usage = usage_ref(((struct published *)rule.served)->usage);
	f.backend->ops->unbind(f.backend, &rule, false);
	g_assert_cmpint(f.n_reset_tap + f.n_reset_splice, ==, 0);
	usage_unref(usage);
	rule_start(&rule);
	usage = usage_ref(((struct published *)rule.served)->usage);
	f.backend->ops->unbind(f.backend, &rule, true);
	g_assert_cmpint(f.n_reset_tap, ==, 1);
	g_assert_cmpint(f.n_reset_splice, ==, 1);
	usage_unref(usage);
	fixture_stop();
}

static void test_status(void *arg)
{
	struct forward_rule rule = rule_of("127.0.0.1", 6000, 1);
	struct forward_status status;
	struct usage *usage;

	set_up();
	rule_start(&rule);
	usage = ((struct published *)rule.served)->usage;
	usage->n_opened = 1;
	usage->n_active = 2;
	usage->n_refused = 3;
	usage->n_in_bytes = 4;
	usage->n_out_bytes = 5;
	status = rule_status(&rule);
	g_assert_cmpint(status.state, ==, FORWARD_LISTENING);
	g_assert_cmpint(status.error, ==, 0);
	g_assert_cmpuint(status.n_opened, ==, 1);
	g_assert_cmpuint(status.n_active, ==, 2);
	g_assert_cmpuint(status.n_refused, ==, 3);
	g_assert_cmpuint(status.n_in_bytes, ==, 4);
	g_assert_cmpuint(status.n_out_bytes, ==, 5);
	rule_stop(&rule);
	fixture_stop();
}

/* An event that was fetched before the rule went away. */
static void test_stale_event(void *arg)
{
	struct forward_rule rule = rule_of("127.0.0.1", 6000, 1);
	struct handle handle = {.kind = HANDLE_PUBLISH};
	int client;

	set_up();
	rule_start(&rule);
	rule_stop(&rule);
	rule_start(&rule); /* has the same slot */
	client = client_dial("127.0.0.1", 6000);
	publish_ready(f.publish, handle, EPOLLIN);
	g_assert_true(list_is_empty(&f.publish->ready));
	handle.index = 1000000;
	publish_ready(f.publish, handle, EPOLLIN);
	fixture_expect_given(1);
	close(client);
	rule_stop(&rule);
	fixture_stop();
}

static const struct container_test tests[] = {
	{"/publish/paths", test_paths},
	{"/publish/guest6-goes", test_guest6_goes},
	{"/publish/no-namespace", test_no_namespace},
	{"/publish/fall-back", test_fall_back},
	{"/publish/no-way-back", test_no_way_back},
	{"/publish/refused-rules", test_refused_rules},
	{"/publish/range", test_range},
	{"/publish/many-ports", test_many_ports},
	{"/publish/unix", test_unix},
	{"/publish/passed", test_passed},
	{"/publish/passed-wrong", test_passed_wrong},
	{"/publish/no-room", test_no_room},
	{"/publish/descriptors-run-out", test_descriptors_run_out},
	{"/publish/rest", test_rest},
	{"/publish/fair", test_fair},
	{"/publish/many-ready", test_many_ready},
	{"/publish/close-connections", test_close_connections},
	{"/publish/status", test_status},
	{"/publish/stale-event", test_stale_event},
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	container_tests_add(tests, ARRAY_SIZE(tests));
	return g_test_run();
}
