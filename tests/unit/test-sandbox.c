/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "sandbox-child.h"
#include "setup/sandbox_rules.h"

/* ---- the tables ---- */

static void test_rows_are_sane(void)
{
	for (size_t i = 0; i < n_sandbox_allowed; i++) {
		const struct sandbox_rule *rule = &sandbox_allowed[i];

		g_assert_cmpuint(strlen(rule->reason), >, 3);
		g_assert_cmpint(rule->processes, !=, 0);
		g_assert_cmpint(rule->processes &
				~(RULE_RELAY | RULE_AGENT | RULE_SANITIZER | RULE_CAPTURE |
					RULE_UNIX),
			==, 0);
		for (size_t k = 0; k < ARRAY_SIZE(rule->when); k++) {
			g_assert_cmpint(rule->when[k].index, <, 6);
			g_assert_cmpuint(rule->when[k].value & ~rule->when[k].mask, ==, 0);
		}
	}
}

/* libseccomp knows the names of all architectures: a slip of the pen is none of them. */
static void test_names_are_known(void)
{
	for (size_t i = 0; i < n_sandbox_allowed; i++)
		g_assert_cmpint(seccomp_syscall_resolve_name(sandbox_allowed[i].syscall), !=,
			__NR_SCMP_ERROR);
	for (size_t i = 0; i < n_sandbox_fatal; i++)
		g_assert_cmpint(
			seccomp_syscall_resolve_name(sandbox_fatal[i]), !=, __NR_SCMP_ERROR);
}

static void test_allowed_is_not_fatal(void)
{
	for (size_t i = 0; i < n_sandbox_allowed; i++)
		for (size_t k = 0; k < n_sandbox_fatal; k++)
			if (sandbox_allowed[i].processes & ~RULE_SANITIZER)
				g_assert_cmpstr(sandbox_allowed[i].syscall, !=, sandbox_fatal[k]);
}

static void test_no_row_twice(void)
{
	for (size_t i = 0; i < n_sandbox_allowed; i++)
		for (size_t k = 0; k < i; k++) {
			const struct sandbox_rule *a = &sandbox_allowed[i],
						  *b = &sandbox_allowed[k];

			if (strcmp(a->syscall, b->syscall) == 0 && a->processes & b->processes)
				g_assert_cmpint(memcmp(a->when, b->when, sizeof(a->when)), !=, 0);
		}
}

/* ---- seccomp ---- */

static void call_after_seccomp(const void *data)
{
	struct sandbox_plan plan = only_seccomp();

	check(sandbox_enter(&plan) == 0);
	syscall(*(const int *)data, 0, 0, 0, 0, 0, 0);
}

static bool sanitizer_needs(const char *name)
{
	for (size_t i = 0; NETNS_HELPER_SANITIZED && i < n_sandbox_allowed; i++)
		if (sandbox_allowed[i].processes & RULE_SANITIZER &&
			strcmp(sandbox_allowed[i].syscall, name) == 0)
			return true;
	return false;
}

static void test_fatal_calls_kill(void)
{
	for (size_t i = 0; i < n_sandbox_fatal; i++) {
		int number = seccomp_syscall_resolve_name(sandbox_fatal[i]), status;

		if (number < 0 || sanitizer_needs(sandbox_fatal[i]))
			continue;
		status = run_child(call_after_seccomp, &number);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			g_test_message("%s: status %#x", sandbox_fatal[i], (unsigned int)status);
		g_assert_true(WIFSIGNALED(status));
		g_assert_cmpint(WTERMSIG(status), ==, SIGSYS);
	}
}

#ifdef __x86_64__
static void call_as_i386(const void *data)
{
	struct sandbox_plan plan = only_seccomp();
	long result = 20; /* getpid of i386 */

	if (data)
		check(sandbox_enter(&plan) == 0);
	__asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
}

static void test_other_architecture_kills(void)
{
	int status = run_child(call_as_i386, NULL);

	if (!WIFEXITED(status)) {
		g_test_skip("this kernel has no 32-bit system calls");
		return;
	}
	status = run_child(call_as_i386, "");
	g_assert_true(WIFSIGNALED(status));
	g_assert_cmpint(WTERMSIG(status), ==, SIGSYS);
}
#endif

static void unlisted_calls_are_counted(const void *data)
{
	struct sandbox_plan plan = only_seccomp();
	char name[32];
	int last;

	check(sandbox_enter(&plan) == 0);
	check(sandbox_refused_calls(&last) == 0 && last == -1);
	check(is_refused(syscall(SYS_getpriority, 0, 0)));
	check(sandbox_refused_calls(&last) == 1 && last == SYS_getpriority);
	check(strcmp(sandbox_syscall_name(last, name, sizeof(name)), "getpriority") == 0);
	check(is_refused(syscall(SYS_sync)));
	check(sandbox_refused_calls(&last) == 2 && last == SYS_sync);
	check(strcmp(sandbox_syscall_name(1 << 20, name, sizeof(name)), "?") == 0);
}

/* A caller may have blocked the signal: the handler must be reached all the same. */
static void blocked_sigsys_does_not_kill(const void *data)
{
	struct sandbox_plan plan = only_seccomp();
	sigset_t all;

	sigfillset(&all);
	check(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
	check(sandbox_enter(&plan) == 0);
	check(is_refused(syscall(SYS_sync)));
}

static void connect_over_loopback(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, near, far;
	char c = 0;

	check(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0);
	check(bind(listener, (struct sockaddr *)&at, len) == 0 && listen(listener, 1) == 0);
	check(getsockname(listener, (struct sockaddr *)&at, &len) == 0);
	near = socket(AF_INET, SOCK_STREAM, 0);
	check(connect(near, (struct sockaddr *)&at, sizeof(at)) == 0);
	far = accept(listener, NULL, NULL);
	check(far >= 0);
	check(fcntl(far, F_SETFL, fcntl(far, F_GETFL) | O_NONBLOCK) == 0);
	check(send(near, "x", 1, 0) == 1 && shutdown(near, SHUT_WR) == 0);
	check(poll(&(struct pollfd){.fd = far, .events = POLLIN}, 1, -1) == 1);
	check(recv(far, &c, 1, 0) == 1 && c == 'x');
	check(ioctl(far, FIONREAD, &one) == 0);
	close(near);
	close(far);
	close(listener);
}

static struct mmsghdr *two_messages(void)
{
	static char bytes[2];
	static struct iovec iov[2] = {{&bytes[0], 1}, {&bytes[1], 1}};
	static struct mmsghdr messages[2] = {
		{.msg_hdr = {.msg_iov = &iov[0], .msg_iovlen = 1}},
		{.msg_hdr = {.msg_iov = &iov[1], .msg_iovlen = 1}},
	};

	return messages;
}

static int datagrams_to_itself(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	check(bind(fd, (struct sockaddr *)&at, len) == 0);
	check(getsockname(fd, (struct sockaddr *)&at, &len) == 0);
	check(connect(fd, (struct sockaddr *)&at, len) == 0);
	return fd;
}

static void send_in_batches(void)
{
	int fd = datagrams_to_itself(), ping;

	check(sendmmsg(fd, two_messages(), 2, MSG_DONTWAIT | MSG_NOSIGNAL) == 2);
	check(recvmmsg(fd, two_messages(), 2, MSG_DONTWAIT, NULL) == 2);
	check(recvmsg(fd, &two_messages()->msg_hdr, MSG_ERRQUEUE | MSG_DONTWAIT) == -1);
	check(errno == EAGAIN);
	close(fd);
	ping = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP);
	check(ping >= 0 || errno == EACCES);
	close(ping);
}

static void pass_through_pipe(const int socks[2])
{
	int fds[2];

	check(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
	check(fcntl(fds[1], F_SETPIPE_SZ, 65536) > 0);
	check(send(socks[0], "x", 1, 0) == 1);
	check(splice(socks[1], NULL, fds[1], NULL, 1, SPLICE_F_NONBLOCK) == 1);
	check(splice(fds[0], NULL, socks[0], NULL, 1, SPLICE_F_NONBLOCK) == 1);
}

static void listed_calls_work(const void *data)
{
	struct sandbox_plan plan = only_seccomp();
	char *big = malloc(1000), line[16];
	struct rlimit limit;
	struct stat st;
	FILE *f;
	int last, socks[2];

	check(socketpair(AF_UNIX, SOCK_STREAM, 0, socks) == 0);
	check(sandbox_enter(&plan) == 0);
	connect_over_loopback();
	send_in_batches();
	pass_through_pipe(socks);
	check(socket(AF_INET6, SOCK_DGRAM, 0) >= 0 || errno == EAFNOSUPPORT);
	f = fopen("/etc/passwd", "re");
	check(f && fgets(line, sizeof(line), f) && fclose(f) == 0);
	check(stat("/etc/passwd", &st) == 0);
	for (size_t size = 1 << 12; size <= 1 << 26; size *= 4) {
		big = realloc(big, size);
		check(big);
		memset(big, 1, size);
	}
	free(big);
	check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	check(sandbox_refused_calls(&last) == 0);
}

static int empty_a_file(const struct sandbox_plan *plan)
{
	char path[] = "/tmp/nh-sandbox-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	check(fd >= 0 && unlink(path) == 0);
	check(write(fd, "x", 1) == 1);
	check(sandbox_enter(plan) == 0);
	check(write(fd, "y", 1) == 1);
	return ftruncate(fd, 0);
}

/* The files of a capture are opened before and emptied after, which Landlock knows to tell. */
static void capture_empties_files(const void *data)
{
	struct sandbox_plan plan = only_seccomp();
	int last;

	plan.landlock = have_landlock() ? SANDBOX_MUST : SANDBOX_NO;
	plan.captures = true;
	check(empty_a_file(&plan) == 0);
	check(sandbox_refused_calls(&last) == 0);
}

static void nobody_else_empties_files(const void *data)
{
	struct sandbox_plan plan = only_seccomp();

	check(is_refused(empty_a_file(&plan)));
}

static void abort_in_seccomp(const void *data)
{
	struct sandbox_plan plan = only_seccomp();

	/* Sanitizers catch it otherwise. */
	signal(SIGABRT, SIG_DFL);
	check(prctl(PR_SET_DUMPABLE, 0) == 0);
	check(sandbox_enter(&plan) == 0);
	abort();
}

static void test_abort_still_aborts(void)
{
	int status = run_child(abort_in_seccomp, NULL);

	g_assert_true(WIFSIGNALED(status));
	g_assert_cmpint(WTERMSIG(status), ==, SIGABRT);
}

static void __attribute__((unused)) sockets_of_other_families_are_refused(const void *data)
{
	struct sandbox_plan plan = only_seccomp();

	check(sandbox_enter(&plan) == 0);
	check(socket(AF_UNIX, SOCK_STREAM, 0) == -1 && errno == EAFNOSUPPORT);
	check(is_refused(socket(AF_PACKET, SOCK_RAW, 0)));
	check(is_refused(socket(AF_NETLINK, SOCK_RAW, 0)));
	check(is_refused(socket(AF_VSOCK, SOCK_STREAM, 0)));
}

static void arguments_are_looked_at(const void *data)
{
	struct rlimit limit = {.rlim_cur = 10, .rlim_max = 10};
	struct sandbox_plan plan = only_seccomp();
	int folder = open("/etc", O_PATH | O_DIRECTORY), null = open("/dev/null", O_RDWR);
	void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fds[2];

	check(sandbox_enter(&plan) == 0);
	check(is_refused(open("/dev/null", O_WRONLY)));
	check(is_refused(open("/dev/null", O_RDWR)));
	check(is_refused(open("/tmp/x", O_RDONLY | O_CREAT, 0600)));
	check(is_refused(open("/etc", O_PATH)));
	check(is_refused(open("/etc", O_RDONLY | O_DIRECTORY)));
	check(is_refused(openat(folder, "passwd", O_RDONLY)));
	check(is_refused(mprotect(page, 4096, PROT_READ | PROT_EXEC)));
	check(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
			MAP_FAILED &&
		errno == ENOSYS);
	check(is_refused(prlimit(0, RLIMIT_NOFILE, &limit, NULL)));
	check(is_refused(prlimit(getppid(), RLIMIT_NOFILE, NULL, &limit)));
	check(is_refused(syscall(SYS_tgkill, 1, 1, 0)));
	check(syscall(SYS_tgkill, getpid(), getpid(), 0) == 0);
	check(is_refused(ioctl(null, TIOCSTI, "x")));
#ifndef __i386__ /* may be socketcall(2) there */
	check(is_refused(recvmmsg(null, two_messages(), 2, MSG_DONTWAIT, &(struct timespec){0})));
	check(is_refused(recvmmsg(null, two_messages(), 2, 0, NULL)));
	check(is_refused(sendmmsg(null, two_messages(), 2, 0)));
#endif
	check(is_refused(fcntl(null, F_SETOWN, 1)));
	check(is_refused(pipe2(fds, O_CLOEXEC)));
	check(is_refused(splice(null, &(loff_t){0}, null, NULL, 1, 0)));
	check(is_refused(splice(null, NULL, null, &(loff_t){0}, 1, 0)));
	check(is_refused(prctl(PR_SET_DUMPABLE, 1)));
}

static void test_other_families_are_refused(void)
{
#ifdef __i386__
	g_test_skip("socketcall(2) has its arguments in memory, where no filter sees them");
#else
	expect_good(run_child(sockets_of_other_families_are_refused, NULL));
#endif
}

static void test_arguments_are_looked_at(void)
{
	if (NETNS_HELPER_SANITIZED)
		g_test_skip("the sanitizers need these calls with any argument");
	else
		expect_good(run_child(arguments_are_looked_at, NULL));
}

/* ---- the agent ---- */

static void agent_keeps_little(const void *data)
{
	struct sandbox_plan plan = only_seccomp();
	int pair[2], last;
	char c;

	plan.capabilities = SANDBOX_MUST;
	plan.slirp4netns_role = true;
	check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
	check(sandbox_enter_agent(&plan) == 0);
	check(send(pair[0], "x", 1, 0) == 1 || errno == ENOSYS);
	check(sendmsg(pair[0],
		      &(struct msghdr){
			      .msg_iov = &(struct iovec){.iov_base = &c, .iov_len = 1},
			      .msg_iovlen = 1,
		      },
		      0) == 1);
	check(socket(AF_INET, SOCK_STREAM, 0) >= 0);
	check(socket(AF_NETLINK, SOCK_DGRAM, 4 /* NETLINK_SOCK_DIAG */) >= 0);
	sandbox_refused_calls(&last);
#ifndef __i386__ /* all of them are socketcall(2) there */
	check(is_refused(socket(AF_NETLINK, SOCK_RAW, 0 /* NETLINK_ROUTE */)));
	check(is_refused(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)));
	check(is_refused(connect(pair[0], NULL, sizeof(struct sockaddr_un))));
	check(is_refused(bind(pair[0], NULL, 0)));
#endif
	check(is_refused(unlinkat(AT_FDCWD, "/nowhere", 0)));
	check(NETNS_HELPER_SANITIZED || is_refused(open("/etc/passwd", O_RDONLY)));
	check(NETNS_HELPER_SANITIZED || is_refused(open("/etc/resolv.conf", O_RDONLY)));
	check(openat(AT_FDCWD, sandbox_resolv_conf, O_RDONLY | O_CLOEXEC) >= 0 || errno != ENOSYS);
	check(NETNS_HELPER_SANITIZED ||
		is_refused(openat(AT_FDCWD, sandbox_resolv_conf, O_RDWR | O_CLOEXEC)));
	check(NETNS_HELPER_SANITIZED ||
		is_refused(openat(AT_FDCWD, sandbox_resolv_conf, O_PATH | O_CLOEXEC)));
}

/* Only where somebody may ask for it. */
static void agent_connects_to_unix(const void *data)
{
	const struct sockaddr_un nowhere = {.sun_family = AF_UNIX, .sun_path = "/nowhere"};
	struct sandbox_plan plan = only_seccomp();
	int fd, last;

	plan.unix_guests = true;
	check(sandbox_enter_agent(&plan) == 0);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	check(fd >= 0);
	check(connect(fd, (const struct sockaddr *)&nowhere, sizeof(nowhere)) == -1);
	check(errno == ENOENT);
	check(sandbox_refused_calls(&last) == 0);
#ifndef __i386__ /* socketcall(2) there */
	check(is_refused(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)));
	check(is_refused(connect(fd, (const struct sockaddr *)&nowhere, 16)));
#endif
}

static void agent_has_no_capability(const void *data)
{
	struct sandbox_plan plan = nothing();

	plan.capabilities = SANDBOX_MUST;
	plan.slirp4netns_role = true;
	check(sandbox_enter_agent(&plan) == 0);
	check(status_field("CapPrm", 16) == 0 && status_field("CapEff", 16) == 0);
	check(status_field("CapInh", 16) == 0 && status_field("CapAmb", 16) == 0);
	check(status_field("NoNewPrivs", 10) == 1);
	check(geteuid() != 0 || status_field("CapBnd", 16) == 0);
}

/* ---- capabilities ---- */

#define PORT_CAP (1ULL << CAP_NET_BIND_SERVICE)

static void check_capabilities(unsigned long long left, unsigned long long bounding)
{
	check(status_field("CapPrm", 16) == left);
	check(status_field("CapEff", 16) == left);
	check(status_field("CapInh", 16) == left);
	check(status_field("CapAmb", 16) == 0);
	check(status_field("CapBnd", 16) == bounding);
	check(status_field("NoNewPrivs", 10) == 1);
}

/* /proc stays in reach: the empty root is tested by its effect on the user namespace only. */
static void drop_and_check(bool slirp4netns_role, bool ordinary, unsigned long long left)
{
	struct sandbox_plan plan = nothing();
	unsigned long long bounding;

	if (ordinary)
		become_ordinary();
	bounding = geteuid() == 0 ? left : status_field("CapBnd", 16);
	plan.capabilities = SANDBOX_MUST;
	plan.slirp4netns_role = slirp4netns_role;
	check(sandbox_enter(&plan) == 0);
	check_capabilities(left, bounding);
}

static void root_keeps_port_cap(const void *data)
{
	need_root();
	/* Over a network namespace of the test's own user namespace, whatever that is. */
	if (unshare(CLONE_NEWNET) < 0)
		_exit(SKIP);
	drop_and_check(false, false, PORT_CAP);
}

static void user_keeps_nothing(const void *role)
{
	drop_and_check(role, true, 0);
}

/* In a user namespace that does not own the network namespace the capability is worth nothing. */
static void namespace_root_keeps_nothing(const void *data)
{
	struct sandbox_plan plan = nothing();

	become_ordinary();
	become_namespace_root(CLONE_NEWNS);
	plan.capabilities = SANDBOX_MUST;
	check(sandbox_enter(&plan) == 0);
	check_capabilities(0, 0);
}

/* Seen from outside, since the empty root has no /proc. */
static void slirp4netns_role_shows_port_cap(const void *ordinary)
{
	struct sandbox_plan plan = all_layers();
	int self = open("/proc/self/status", O_RDONLY);
	char text[4096] = {0};

	if (ordinary)
		become_ordinary();
	if (geteuid() != 0 && !have_user_namespaces())
		_exit(SKIP);
	plan.slirp4netns_role = true;
	check(sandbox_enter(&plan) == 0);
	check(read(self, text, sizeof(text) - 1) > 0);
	check(strstr(text, "CapInh:\t0000000000000400"));
	check(strstr(text, "CapPrm:\t0000000000000400"));
	check(strstr(text, "CapEff:\t0000000000000400"));
	check(strstr(text, "CapBnd:\t0000000000000400"));
	check(strstr(text, "CapAmb:\t0000000000000000"));
	check(strstr(text, "NoNewPrivs:\t1"));
	check(strstr(text, "Seccomp:\t2"));
}

static void own_role_shows_none(const void *data)
{
	struct sandbox_plan plan = all_layers();
	int self = open("/proc/self/status", O_RDONLY);
	char text[4096] = {0};

	become_ordinary();
	if (!have_user_namespaces())
		_exit(SKIP);
	check(sandbox_enter(&plan) == 0);
	check(read(self, text, sizeof(text) - 1) > 0);
	check(strstr(text, "CapPrm:\t0000000000000000") &&
		strstr(text, "CapBnd:\t0000000000000000"));
}

/* Root of namespaces of its own that has given up all but the port capability. */
static void hold_only_port_cap(void)
{
	static const cap_value_t port_cap[] = {CAP_NET_BIND_SERVICE};
	cap_t caps = cap_init();

	become_namespace_root(CLONE_NEWNET);
	check(cap_set_flag(caps, CAP_PERMITTED, 1, port_cap, CAP_SET) == 0);
	check(cap_set_flag(caps, CAP_EFFECTIVE, 1, port_cap, CAP_SET) == 0);
	check(cap_set_flag(caps, CAP_INHERITABLE, 1, port_cap, CAP_SET) == 0);
	check(cap_set_proc(caps) == 0);
	check(cap_set_ambient(CAP_NET_BIND_SERVICE, CAP_SET) == 0);
	cap_free(caps);
}

static void port_cap_is_not_traded_for_a_root(const void *data)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(81)};
	struct sandbox_plan plan = nothing();
	struct stat before, after;

	if (!have_landlock())
		_exit(SKIP);
	hold_only_port_cap();
	plan.empty_root = plan.capabilities = SANDBOX_MUST;
	check(stat("/proc/self/ns/user", &before) == 0);
	check(sandbox_enter(&plan) == 0);
	check(stat("/proc/self/ns/user", &after) == 0 && before.st_ino == after.st_ino);
	check(bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&at, sizeof(at)) == 0);
	check(open("/usr/.", O_RDONLY) < 0 && errno == EACCES);
	check(open("/etc/passwd", O_RDONLY) >= 0);
	check(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_BIND_SERVICE, 0, 0) == 0);
}

/* Neither the one nor the other: who asked for it by name gets an error. */
static void port_cap_without_landlock(const void *data)
{
	struct sandbox_plan plan = nothing();

	hold_only_port_cap();
	plan.empty_root = SANDBOX_MUST;
	feature_add(&plan.disabled_features, FEATURE_LANDLOCK);
	check(sandbox_enter(&plan) == -EOPNOTSUPP);
}

/* ---- what the caller set ---- */

static void parent_death_signal_stays(const void *ordinary)
{
	struct sandbox_plan plan = nothing();
	int sig = 0;

	if (ordinary)
		become_ordinary();
	if (geteuid() != 0 && !have_user_namespaces())
		_exit(SKIP);
	plan.empty_root = plan.capabilities = SANDBOX_MUST;
	check(prctl(PR_SET_PDEATHSIG, SIGUSR2) == 0);
	check(sandbox_enter(&plan) == 0);
	check(prctl(PR_GET_PDEATHSIG, &sig) == 0 && sig == SIGUSR2);
	check(prctl(PR_GET_DUMPABLE) == 1);
}

static void hides_in_shared_namespace(const void *data)
{
	struct sandbox_plan plan = nothing();

	plan.same_userns = true;
	check(prctl(PR_GET_DUMPABLE) == 1);
	check(sandbox_enter(&plan) == 0);
	check(prctl(PR_GET_DUMPABLE) == 0);
}

/* ---- who asked for it ---- */

struct wish_case {
	enum feature feature;
	size_t layer; /* offset in struct sandbox_plan */
};

static void disabled_layer(const void *data)
{
	const struct wish_case *c = data;
	struct sandbox_plan plan = nothing();
	enum sandbox_wish *wish = (enum sandbox_wish *)(void *)((char *)&plan + c->layer);
	struct stat st;

	feature_add(&plan.disabled_features, c->feature);
	*wish = SANDBOX_TRY;
	check(sandbox_enter(&plan) == 0);
	*wish = SANDBOX_NO;
	check(sandbox_enter(&plan) == 0);
	check(stat("/usr", &st) == 0 && open("/usr/.", O_RDONLY) >= 0);
	check(syscall(SYS_getpriority, 0, 0) >= 0);
	*wish = SANDBOX_MUST;
	check(sandbox_enter(&plan) == -EOPNOTSUPP);
}

static void no_user_namespace(const void *data)
{
	struct sandbox_plan plan = nothing();
	struct stat st;

	become_ordinary();
	feature_add(&plan.disabled_features, FEATURE_USER_NAMESPACE);
	plan.empty_root = SANDBOX_TRY;
	check(sandbox_enter(&plan) == 0 && stat("/usr", &st) == 0);
	plan.empty_root = SANDBOX_MUST;
	check(sandbox_enter(&plan) == -EPERM);
}

static void capabilities_left_alone(const void *data)
{
	struct sandbox_plan plan = nothing();
	unsigned long long before = status_field("CapEff", 16);

	check(sandbox_enter(&plan) == 0);
	check(status_field("CapEff", 16) == before && status_field("NoNewPrivs", 10) == 0);
}

/* ---- the list ---- */

#define WISH(feature_name, member)                                            \
	&(const struct wish_case)                                             \
	{                                                                     \
		FEATURE_##feature_name, offsetof(struct sandbox_plan, member) \
	}

static const struct child_case cases[] = {
	{"seccomp/unlisted-calls-are-counted", unlisted_calls_are_counted, NULL},
	{"seccomp/blocked-sigsys-does-not-kill", blocked_sigsys_does_not_kill, NULL},
	{"seccomp/listed-calls-work", listed_calls_work, NULL},
	{"seccomp/capture-empties-files", capture_empties_files, NULL},
	{"seccomp/nobody-else-empties-files", nobody_else_empties_files, NULL},
	{"agent/keeps-little", agent_keeps_little, NULL},
	{"agent/connects-to-unix", agent_connects_to_unix, NULL},
	{"agent/has-no-capability", agent_has_no_capability, NULL},
	{"caps/root-keeps-port-cap", root_keeps_port_cap, NULL},
	{"caps/user-keeps-nothing", user_keeps_nothing, NULL},
	{"caps/user-keeps-nothing-slirp4netns", user_keeps_nothing, "role"},
	{"caps/namespace-root-keeps-nothing", namespace_root_keeps_nothing, NULL},
	{"caps/slirp4netns-role-shows-port-cap", slirp4netns_role_shows_port_cap, NULL},
	{"caps/slirp4netns-role-ordinary", slirp4netns_role_shows_port_cap, AS_ORDINARY},
	{"caps/own-role-shows-none", own_role_shows_none, NULL},
	{"caps/port-cap-is-not-traded", port_cap_is_not_traded_for_a_root, NULL},
	{"caps/port-cap-without-landlock", port_cap_without_landlock, NULL},
	{"caps/left-alone", capabilities_left_alone, NULL},
	{"life/parent-death-signal-stays", parent_death_signal_stays, NULL},
	{"life/parent-death-signal-ordinary", parent_death_signal_stays, AS_ORDINARY},
	{"life/hides-in-shared-namespace", hides_in_shared_namespace, NULL},
	{"wish/empty-root", disabled_layer, WISH(EMPTY_ROOT, empty_root)},
	{"wish/landlock", disabled_layer, WISH(LANDLOCK, landlock)},
	{"wish/seccomp", disabled_layer, WISH(SECCOMP, seccomp)},
	{"wish/no-user-namespace", no_user_namespace, NULL},
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/sandbox/table/rows-are-sane", test_rows_are_sane);
	g_test_add_func("/sandbox/table/names-are-known", test_names_are_known);
	g_test_add_func("/sandbox/table/allowed-is-not-fatal", test_allowed_is_not_fatal);
	g_test_add_func("/sandbox/table/no-row-twice", test_no_row_twice);
	g_test_add_func("/sandbox/seccomp/fatal-calls-kill", test_fatal_calls_kill);
	g_test_add_func("/sandbox/seccomp/abort-still-aborts", test_abort_still_aborts);
	g_test_add_func("/sandbox/seccomp/arguments-are-looked-at", test_arguments_are_looked_at);
	g_test_add_func(
		"/sandbox/seccomp/other-families-are-refused", test_other_families_are_refused);
#ifdef __x86_64__
	g_test_add_func("/sandbox/seccomp/other-architecture-kills", test_other_architecture_kills);
#endif
	add_child_cases(cases, ARRAY_SIZE(cases));
	return g_test_run();
}
