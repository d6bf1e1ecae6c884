/* SPDX-License-Identifier: Apache-2.0 */
/* The agent in a container. */
#include <arpa/inet.h>
#include <dirent.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>

#include "tests/support/container.h"
#include "tests/support/relay.h"

static struct agent_config config_of(const struct target *target, const struct sandbox_plan *plan)
{
	return (struct agent_config){
		.target = target,
		.tap_name = "tap0",
		.vnet_hdr = true,
		.offloads = TUN_F_CSUM | TUN_F_TSO4,
		.configure = true,
		.netconf =
			{
				.tap_name = "tap0",
				.mtu = 1500,
				.address.s_addr = inet_addr("10.0.2.100"),
				.netmask.s_addr = inet_addr("255.255.255.0"),
				.gateway.s_addr = inet_addr("10.0.2.2"),
			},
		.stay = true,
		.sandbox = plan,
	};
}

/* The agent of a fresh container, serving: it holds no more than it needs. */
static bool relay_start(struct relay *relay, struct container *c)
{
	static const struct sandbox_plan plan = {
		.capabilities = SANDBOX_TRY,
		.seccomp = SANDBOX_TRY,
		.keep_folder = -1,
		.target_userns = -1,
	};
	struct options options = {.target = TARGET_PID};
	struct agent_config config;
	struct target target;
	bool is_up;

	*relay = (struct relay){0};
	if (!have_tun() || !container_start(c))
		return false;
	options.pid = c->pid;
	g_assert_cmpint(target_open(&target, &options), ==, 0);
	config = config_of(&target, &plan);
	g_assert_cmpint(agent_start(&relay->agent, &config), ==, 0);
	g_assert_cmpint(agent_wait_tap(&relay->agent, &relay->tap, &is_up), ==, 0);
	g_assert_true(is_up);
	agent_wait_settled(&relay->agent);
	target_done(&target);
	relay_init(relay);
	return true;
}

static void see_configured(void *arg)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "tap0"};
	struct sockaddr_in *address = (struct sockaddr_in *)(void *)&request.ifr_addr;

	g_assert_cmpint(ioctl(sock, SIOCGIFFLAGS, &request), ==, 0);
	g_assert_true(request.ifr_flags & IFF_UP);
	g_assert_cmpint(ioctl(sock, SIOCGIFADDR, &request), ==, 0);
	g_assert_cmphex(ntohl(address->sin_addr.s_addr), ==, 0x0a000264);
	g_assert_cmpint(ioctl(sock, SIOCGIFTXQLEN, &request), ==, 0);
	g_assert_cmpint(request.ifr_qlen, ==, TAPDEV_QUEUE_LEN);
}

static void test_tap(void)
{
	struct container c;
	struct relay relay;
	int n_fds = count_fds();

	if (!relay_start(&relay, &c))
		return;
	g_assert_cmpint(relay.tap.vnet_len, ==, 12);
	g_assert_cmphex(relay.tap.offloads, ==, TUN_F_CSUM | TUN_F_TSO4);
	g_assert_cmpuint(relay.tap.queue_len, ==, TAPDEV_QUEUE_LEN);
	g_assert_true(fcntl(relay.tap.fd, F_GETFL) & O_NONBLOCK);
	g_assert_true(fcntl(relay.tap.fd, F_GETFD) & FD_CLOEXEC);
	g_assert_true(fcntl(relay.agent.sock, F_GETFL) & O_NONBLOCK);
	g_assert_true(fcntl(relay.agent.sock, F_GETFD) & FD_CLOEXEC);
	run_in(&c, see_configured, NULL);
	relay_done(&relay);
	container_stop(&c);
	g_assert_cmpint(count_fds(), ==, n_fds);
}

/* SIOCGSKNS: the network namespace that the socket is in (Linux 4.10). */
static void look_at_netns(struct answers *answers, int fd)
{
	int netns = ioctl(fd, SIOCGSKNS);
	struct stat st;

	g_assert_cmpint(netns, >=, 0);
	g_assert_cmpint(fstat(netns, &st), ==, 0);
	g_assert_cmpuint(st.st_ino, ==, answers->netns);
	close(netns);
	g_assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	g_assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void assert_kind(const struct agent_socket *what, int fd)
{
	int domain, type, protocol;
	socklen_t len = sizeof(int);

	g_assert_cmpint(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len), ==, 0);
	g_assert_cmpint(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len), ==, 0);
	g_assert_cmpint(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len), ==, 0);
	g_assert_cmpint(domain, ==, what->family);
	g_assert_cmpint(type, ==, what->type);
	g_assert_cmpint(protocol, ==, what->protocol);
}

static const struct agent_socket all_kinds[] = {
	{AF_INET, SOCK_STREAM, IPPROTO_TCP},
	{AF_INET, SOCK_DGRAM, IPPROTO_UDP},
	{AF_INET6, SOCK_STREAM, IPPROTO_TCP},
	{AF_INET6, SOCK_DGRAM, IPPROTO_UDP},
	{AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG},
};
static const struct agent_socket *kind_asked;

static void look_at_kind(struct answers *answers, int fd)
{
	look_at_netns(answers, fd);
	assert_kind(kind_asked, fd);
}

static void test_thousand_sockets(void)
{
	struct answers answers = {.look = look_at_kind};
	struct container c;
	struct relay relay;
	int n_fds;

	if (!relay_start(&relay, &c))
		return;
	n_fds = count_fds();
	answers.netns = namespace_of(c.pid, "net");
	g_assert_cmpuint(answers.netns, !=, namespace_of(0, "net"));
	for (int i = 0; i < 1000; i++) {
		kind_asked = &all_kinds[i % (int)ARRAY_SIZE(all_kinds)];
		g_assert_cmpint(ask(&relay, &answers, kind_asked, 0), ==, 0);
		turn_until(&relay, &answers, i + 1);
		g_assert_cmpint(answers.last_fd, >=, 0);
	}
	g_assert_cmpuint(relay.counters.value[COUNTER_AGENT_REQUESTS], ==, 1000);
	g_assert_cmpuint(relay.counters.value[COUNTER_AGENT_ERRORS], ==, 0);
	g_assert_cmpint(count_fds(), ==, n_fds);
	relay_done(&relay);
	container_stop(&c);
}

/* With all that the agent has given up. What the machine has there is its own affair. */
static void test_resolv_conf(void)
{
	struct answers answers = {0};
	struct container c;
	struct relay relay;
	struct stat st;
	int expected = stat("/etc/resolv.conf", &st) < 0 ? -errno : 0;

	if (!relay_start(&relay, &c))
		return;
	if (expected == 0 && !S_ISREG(st.st_mode))
		expected = -EINVAL;
	for (int i = 0; i < 100; i++) {
		g_assert_cmpint(ask_resolv_conf(&relay, &answers), ==, 0);
		turn_until(&relay, &answers, i + 1);
		g_assert_cmpint(MIN(answers.last_fd, 0), ==, expected);
	}
	g_assert_cmpint(ask_and_wait(&relay, &tcp4), >=, 0); /* it is alive and well */
	relay_done(&relay);
	container_stop(&c);
}

static void test_flood(void)
{
	struct answers answers = {0};
	struct container c;
	struct relay relay;

	if (!relay_start(&relay, &c))
		return;
	for (int round = 0; round < 3; round++) {
		answers.n = 0;
		for (int i = 0; i < AGENT_REQUESTS_MAX; i++)
			g_assert_cmpint(ask(&relay, &answers, &tcp4, 0), ==, 0);
		g_assert_cmpint(ask(&relay, &answers, &tcp4, 0), ==, -EAGAIN);
		turn_until(&relay, &answers, AGENT_REQUESTS_MAX);
	}
	relay_done(&relay);
	container_stop(&c);
}

/* Stopped first, so that the requests are waiting for certain when it dies. */
static void test_killed_in_between(void)
{
	struct answers answers = {0};
	struct container c;
	struct relay relay;
	int status;

	if (!relay_start(&relay, &c))
		return;
	kill(relay.agent.pid, SIGSTOP);
	g_assert_cmpint(waitpid(relay.agent.pid, &status, WUNTRACED), ==, relay.agent.pid);
	for (int i = 0; i < 10; i++)
		g_assert_cmpint(ask(&relay, &answers, &tcp4, 0), ==, 0);
	kill(relay.agent.pid, SIGKILL);
	turn_until(&relay, &answers, 10);
	/* Not by the deadline, which gives -ETIMEDOUT. */
	g_assert_cmpint(answers.last_fd, ==, -EPIPE);
	g_assert_cmpint(relay.n_lost, ==, 1);
	g_assert_cmpint(ask(&relay, &answers, &tcp4, 0), ==, -EPIPE);
	g_assert_cmpint(agent_client_ready(&relay.client), ==, 0);
	relay_done(&relay);
	g_assert_cmpint(waitpid(relay.agent.pid, &status, 0), ==, -1);
	container_stop(&c);
}

static void test_ignores_signals(void)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE};
	struct container c;
	struct relay relay;

	if (!relay_start(&relay, &c))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		g_assert_cmpint(kill(relay.agent.pid, signals[i]), ==, 0);
		g_assert_cmpint(ask_and_wait(&relay, &tcp4), >=, 0);
	}
	relay_done(&relay);
	container_stop(&c);
}

static uint64_t status_field(pid_t pid, const char *name)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/status", pid);
	g_autofree char *text = NULL;
	const char *found;

	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	found = strstr(text, name);
	g_assert_nonnull(found);
	return strtoull(found + strlen(name), NULL, 16);
}

static void handler(int sig)
{
}

static void test_fresh_signal_state(void)
{
	sigset_t set, before;
	struct container c;
	struct relay relay;

	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_BLOCK, &set, &before);
	signal(SIGALRM, handler);
	if (relay_start(&relay, &c)) {
		g_assert_cmphex(status_field(relay.agent.pid, "\nSigBlk:\t"), ==, 0);
		g_assert_cmphex(status_field(relay.agent.pid, "\nSigCgt:\t") &
				(UINT64_C(1) << (SIGALRM - 1)),
			==, 0);
		relay_done(&relay);
		container_stop(&c);
	}
	signal(SIGALRM, SIG_DFL);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

/* What the sandbox leaves it; whether the host has seccomp is not looked at here. */
static void test_holds_nothing(void)
{
	static const char *const sets[] = {
		"\nCapInh:\t", "\nCapPrm:\t", "\nCapEff:\t", "\nCapAmb:\t"};
	struct container c;
	struct relay relay;
	g_autofree char *dir_path = NULL;
	struct dirent *entry;
	int n_sockets = 0;
	DIR *dir;

	if (!relay_start(&relay, &c))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		g_assert_cmphex(status_field(relay.agent.pid, sets[i]), ==, 0);
	g_assert_cmphex(status_field(relay.agent.pid, "\nNoNewPrivs:\t"), ==, 1);
	g_assert_cmphex(status_field(relay.agent.pid, "\nSeccomp:\t"), ==, 2);
	/* Only the host's root may look further. */
	dir_path = g_strdup_printf("/proc/%d/fd", relay.agent.pid);
	dir = opendir(dir_path);
	while (dir && (entry = readdir(dir))) {
		char to[64] = "";

		if (entry->d_name[0] == '.')
			continue;
		g_assert_cmpint(readlinkat(dirfd(dir), entry->d_name, to, sizeof(to) - 1), >, 0);
		if (atoi(entry->d_name) <= 2)
			g_assert_cmpstr(to, ==, "/dev/null");
		else
			g_assert_cmpint(n_sockets++, ==, 0);
	}
	if (dir)
		closedir(dir);
	relay_done(&relay);
	container_stop(&c);
}

static void relay_that_is_killed(void *arg)
{
	struct relay relay;
	struct container c;
	pid_t *shared = arg;

	if (!relay_start(&relay, &c))
		_exit(EXIT_SKIP);
	*shared = relay.agent.pid;
	kill(getpid(), SIGKILL);
}

/* The relay is killed; the agent, left to us, ends. */
static void test_ends_with_relay(void)
{
	pid_t *agent = mmap(
		NULL, sizeof(*agent), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;
	int status;

	g_assert_cmpint(prctl(PR_SET_CHILD_SUBREAPER, 1), ==, 0);
	pid = fork();
	if (pid == 0)
		relay_that_is_killed(agent);
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP) {
		g_test_skip("no container with a tap");
	} else {
		g_assert_true(WIFSIGNALED(status));
		g_assert_cmpint(waitpid(*agent, &status, 0), ==, *agent);
	}
	/* The container's process, which had the relay as its parent, too. */
	while (waitpid(-1, &status, 0) > 0)
		;
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	munmap(agent, sizeof(*agent));
}

/* Fails and says so; nothing is left of it. */
static void assert_start_fails(
	struct container *c, const char *tap_name, uint32_t mtu, const char *line)
{
	struct options options = {.target = TARGET_PID, .pid = c->pid};
	static const struct sandbox_plan plan = {.keep_folder = -1, .target_userns = -1};
	struct agent_process agent;
	struct agent_config config;
	struct capture capture;
	struct target target;
	struct tapdev tap;
	bool is_up;

	g_assert_cmpint(target_open(&target, &options), ==, 0);
	config = config_of(&target, &plan);
	config.tap_name = tap_name;
	config.netconf.tap_name = tap_name;
	config.netconf.mtu = mtu;
	capture = capture_begin();
	g_assert_cmpint(agent_start(&agent, &config), ==, 0);
	g_assert_cmpint(agent_wait_tap(&agent, &tap, &is_up), ==, -ECHILD);
	assert_captured(&capture, line);
	g_assert_cmpint(agent.sock, ==, -1);
	g_assert_cmpint(waitpid(agent.pid, NULL, 0), ==, -1);
	target_done(&target);
}

static void test_fails(void)
{
	struct container c;
	struct relay relay;
	int n_fds;

	if (!relay_start(&relay, &c))
		return;
	n_fds = count_fds();
	assert_start_fails(&c, "tap0", 1500,
		"netns-helper: cannot attach to the tap tap0: Device or resource busy\n");
	assert_start_fails(
		&c, "tap1", 1, "netns-helper: cannot set MTU of tap1: Invalid argument\n");
	g_assert_cmpint(count_fds(), ==, n_fds);
	relay_done(&relay);
	container_stop(&c);
}

/* A message that says of the tap what cannot be, or with something else in its descriptor's place.
 */
static void test_odd_tap(void)
{
	static const struct {
		struct agent_tap tap;
		bool with_fd;
		int result;
	} rows[] = {
		{{12, 0, TUN_F_CSUM | TUN_F_TSO6, 1}, true, 0},
		{{0, 0, 0, 500}, true, 0},
		{{12, 0, TUN_F_CSUM, 1}, false, -EBADMSG},
		{{11, 0, 0, 500}, true, -EBADMSG},
		{{12, 0, 0x100, 500}, true, -EBADMSG},
		{{12, 0, TUN_F_UFO, 500}, true, -EBADMSG},
		{{0, 0, TUN_F_CSUM, 500}, true, -EBADMSG},
		{{10, 0, TUN_F_CSUM, 0}, true, -EBADMSG},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct agent_message message = {.type = AGENT_TAP, .tap = rows[i].tap};
		struct agent_process agent = {.stays = true};
		struct capture capture;
		struct tapdev tap = {.fd = -1};
		int socks[2];
		bool is_up;

		g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks), ==, 0);
		agent.sock = socks[0];
		agent.pid = fork();
		if (agent.pid == 0)
			_exit(0);
		g_assert_cmpint(agent_send(socks[1], &message, rows[i].with_fd ? 0 : -1), ==, 0);
		close(socks[1]);
		capture = capture_begin();
		g_assert_cmpint(agent_wait_tap(&agent, &tap, &is_up), ==, rows[i].result);
		g_free(capture_end(&capture));
		g_assert_cmpint(tap.fd >= 0, ==, rows[i].result == 0);
		g_assert_cmphex(tap.offloads, ==, tap.fd >= 0 ? rows[i].tap.offloads : 0);
		g_assert_cmpuint(tap.queue_len, ==, tap.fd >= 0 ? rows[i].tap.queue_len : 0);
		fd_close(&tap.fd);
		agent_stop(&agent);
	}
}

/* It is gone before it has settled, which is agent_client_ready()'s to say, or says what is out of
 * turn. */
static void test_does_not_settle(void)
{
	const struct agent_message odd = {.type = AGENT_SOCKET_REPLY};
	struct agent_process agent = {.stays = true};
	struct agent_message message;
	struct capture capture;
	int socks[2], fd;

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks), ==, 0);
	agent.sock = socks[0];
	g_assert_cmpint(agent_send(socks[1], &odd, 0), ==, 0);
	close(socks[1]);
	capture = capture_begin();
	agent_wait_settled(&agent);
	assert_captured(
		&capture, "netns-helper: warning: the netns agent said what nobody asked for\n");
	capture = capture_begin();
	agent_wait_settled(&agent);
	assert_captured(&capture, "");
	g_assert_cmpint(agent_recv(agent.sock, &message, &fd), ==, -EPIPE);
	close(agent.sock);
}

static void test_does_not_stay(void)
{
	struct options options = {.target = TARGET_PID};
	struct agent_process agent;
	struct agent_config config;
	struct container c;
	struct target target;
	struct tapdev tap;
	bool is_up;

	if (!have_tun() || !container_start(&c))
		return;
	options.pid = c.pid;
	g_assert_cmpint(target_open(&target, &options), ==, 0);
	config = config_of(&target, NULL);
	config.stay = false;
	config.configure = false;
	g_assert_cmpint(agent_start(&agent, &config), ==, 0);
	g_assert_cmpint(agent_wait_tap(&agent, &tap, &is_up), ==, 0);
	g_assert_false(is_up);
	g_assert_cmpint(agent.sock, ==, -1);
	g_assert_cmpint(waitpid(agent.pid, NULL, 0), ==, -1);
	close(tap.fd);
	target_done(&target);
	container_stop(&c);
}

/* What a process of the container tries on a process that shares its user namespace; 0 or what the
 * kernel said to each. */
struct attempts {
	pid_t victim;
	int trace, root, fds, mem;
};

static int result(long r)
{
	return r < 0 ? -errno : 0;
}

static void attempt(void *arg)
{
	struct attempts *attempts = arg;
	char path[64], to[64];
	int fd;

	g_assert_cmpint(geteuid(), ==, 0);
	snprintf(path, sizeof(path), "/proc/%d/root", attempts->victim);
	attempts->root = result(readlink(path, to, sizeof(to)));
	snprintf(path, sizeof(path), "/proc/%d/fd/0", attempts->victim);
	attempts->fds = result(readlink(path, to, sizeof(to)));
	snprintf(path, sizeof(path), "/proc/%d/mem", attempts->victim);
	fd = open(path, O_RDWR | O_CLOEXEC);
	attempts->mem = result(fd);
	attempts->trace = result(ptrace(PTRACE_SEIZE, attempts->victim, NULL, NULL));
}

/* A process that joined as the agent does, but made itself dumpable. */
static pid_t fork_dumpable(const struct container *c)
{
	int fds[2];
	char byte;
	pid_t pid;

	g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
	pid = fork();
	if (pid == 0) {
		container_join(c);
		prctl(PR_SET_DUMPABLE, 1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		g_assert_cmpint(write(fds[1], "", 1), ==, 1);
		for (;;)
			pause();
	}
	g_assert_cmpint(read(fds[0], &byte, 1), ==, 1);
	close(fds[0]);
	close(fds[1]);
	return pid;
}

static void test_untraceable(void)
{
	struct attempts *attempts = mmap(
		NULL, sizeof(*attempts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct container c;
	struct relay relay;
	pid_t control;

	if (!relay_start(&relay, &c))
		return;
	/* That these attempts find a victim that is not protected. */
	control = fork_dumpable(&c);
	attempts->victim = control;
	run_in(&c, attempt, attempts);
	g_assert_cmpint(attempts->root, ==, 0);
	g_assert_cmpint(attempts->fds, ==, 0);
	g_assert_cmpint(attempts->mem, ==, 0);
	g_assert_cmpint(attempts->trace, ==, 0);
	kill(control, SIGKILL);
	waitpid(control, NULL, 0);

	attempts->victim = relay.agent.pid;
	run_in(&c, attempt, attempts);
	g_assert_cmpint(attempts->root, ==, -EACCES);
	g_assert_cmpint(attempts->fds, ==, -EACCES);
	g_assert_cmpint(attempts->mem, ==, -EACCES);
	g_assert_cmpint(attempts->trace, ==, -EPERM);
	g_assert_cmpint(ask_and_wait(&relay, &tcp4), >=, 0);
	relay_done(&relay);
	container_stop(&c);
	munmap(attempts, sizeof(*attempts));
}

/* A stopped agent cannot hold up the relay's end; left alone it ends. */
static void test_stop_stopped(void)
{
	struct container c;
	struct relay relay;
	int status;

	if (!relay_start(&relay, &c))
		return;
	kill(relay.agent.pid, SIGSTOP);
	g_assert_cmpint(waitpid(relay.agent.pid, &status, WUNTRACED), ==, relay.agent.pid);
	relay_done(&relay);
	kill(relay.agent.pid, SIGCONT);
	assert_exits(relay.agent.pid, 0);
	container_stop(&c);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/agent/tap", test_tap);
	g_test_add_func("/agent/thousand-sockets", test_thousand_sockets);
	g_test_add_func("/agent/resolv-conf", test_resolv_conf);
	g_test_add_func("/agent/flood", test_flood);
	g_test_add_func("/agent/killed-in-between", test_killed_in_between);
	g_test_add_func("/agent/ignores-signals", test_ignores_signals);
	g_test_add_func("/agent/fresh-signal-state", test_fresh_signal_state);
	g_test_add_func("/agent/holds-nothing", test_holds_nothing);
	g_test_add_func("/agent/ends-with-relay", test_ends_with_relay);
	g_test_add_func("/agent/fails", test_fails);
	g_test_add_func("/agent/odd-tap", test_odd_tap);
	g_test_add_func("/agent/does-not-settle", test_does_not_settle);
	g_test_add_func("/agent/does-not-stay", test_does_not_stay);
	g_test_add_func("/agent/untraceable", test_untraceable);
	g_test_add_func("/agent/stop-stopped", test_stop_stopped);
	return g_test_run();
}
