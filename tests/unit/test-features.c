/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "capture.h"
#include "config.h"
#include "setup/features.h"

static struct feature_set set_of(enum feature which)
{
	struct feature_set set = {0};

	feature_add(&set, which);
	return set;
}

static void test_names(void)
{
	for (size_t i = 0; i < N_FEATURES; i++) {
		struct feature_set set = {0};
		const char *bad;
		size_t len;

		g_assert_cmpint(
			features_parse(feature_name((enum feature)i), &set, &bad, &len), ==, 0);
		g_assert_cmpuint(set.bits, ==, set_of((enum feature)i).bits);
	}
}

static void test_list(void)
{
	struct feature_set set = set_of(FEATURE_IPV6);
	const char *bad;
	size_t len;

	g_assert_cmpint(features_parse("pidfd,landlock,pidfd", &set, &bad, &len), ==, 0);
	g_assert_true(feature_in(set, FEATURE_PIDFD));
	g_assert_true(feature_in(set, FEATURE_LANDLOCK));
	g_assert_true(feature_in(set, FEATURE_IPV6));
	g_assert_false(feature_in(set, FEATURE_SECCOMP));
}

static void test_unknown(void)
{
	static const struct {
		const char *list;
		size_t at, len;
	} cases[] = {{"", 0, 0}, {"pidf", 0, 4}, {"pidfdx", 0, 6}, {"pidfd,", 6, 0},
		{",pidfd", 0, 0}, {"pidfd,nope,agent", 6, 4}, {"PIDFD", 0, 5},
		{"pidfd agent", 0, 11}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct feature_set set = set_of(FEATURE_IPV6);
		const char *bad = NULL;
		size_t len = 99;

		g_assert_cmpint(features_parse(cases[i].list, &set, &bad, &len), ==, -EINVAL);
		g_assert_true(bad == cases[i].list + cases[i].at);
		g_assert_cmpuint(len, ==, cases[i].len);
		g_assert_cmpuint(set.bits, ==, set_of(FEATURE_IPV6).bits);
	}
}

static bool probe(enum feature which)
{
	const char *why = NULL;
	char buf[128];
	bool yes = feature_probe(which, buf, sizeof(buf), &why);

	g_assert_nonnull(why);
	g_assert_cmpuint(strlen(why), >, 0);
	return yes;
}

/* What can be asked of the kernel in another way. */
static void test_truth(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	g_assert_cmpint(probe(FEATURE_PIDFD), ==, fd >= 0);
	close(fd);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	g_assert_cmpint(probe(FEATURE_IPV6), ==, fd >= 0);
	close(fd);
	g_assert_cmpint(
		probe(FEATURE_LANDLOCK), ==, syscall(SYS_landlock_create_ruleset, NULL, 0, 1) > 0);
	g_assert_true(probe(FEATURE_AGENT));
}

static char *link_text(const char *path)
{
	char *text = g_file_read_link(path, NULL);

	g_assert_nonnull(text);
	return text;
}

static int lowest_free_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static void test_no_side_effects(void)
{
	static const char *const links[] = {"/proc/self/ns/user", "/proc/self/ns/mnt",
		"/proc/self/ns/net", "/proc/self/cwd", "/proc/self/root"};
	char *before[ARRAY_SIZE(links)];
	int fd = lowest_free_fd();

	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		before[i] = link_text(links[i]);
	for (size_t i = 0; i < N_FEATURES; i++)
		probe((enum feature)i);
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		char *after = link_text(links[i]);

		g_assert_cmpstr(before[i], ==, after);
		g_free(before[i]);
		g_free(after);
	}
	g_assert_cmpint(lowest_free_fd(), ==, fd);
	g_assert_cmpint(waitpid(-1, NULL, WNOHANG), ==, -1);
	g_assert_cmpint(errno, ==, ECHILD);
}

/* A caller's ignored SIGCHLD makes the kernel reap the children and forget their status. */
static void test_ignored_sigchld(void)
{
	bool before = probe(FEATURE_USER_NAMESPACE), during;

	signal(SIGCHLD, SIG_IGN);
	during = probe(FEATURE_USER_NAMESPACE);
	signal(SIGCHLD, SIG_DFL);
	g_assert_cmpint(before, ==, during);
}

static void test_print(void)
{
	struct capture capture;

	capture_begin(&capture);
	features_print(stdout, set_of(FEATURE_AGENT));
	capture_end(&capture);
	g_assert_cmpstr(capture.err, ==, "");
	for (size_t i = 0; i < N_FEATURES; i++) {
		char *pattern =
			g_strdup_printf("^%s: (yes|no) \\(.+\\)$", feature_name((enum feature)i));

		g_assert_true(g_regex_match_simple(pattern, capture.out, G_REGEX_MULTILINE, 0));
		g_free(pattern);
	}
	g_assert_nonnull(strstr(capture.out, "\nagent: no (disabled on the command line; "));
	g_assert_nonnull(strstr(capture.out, "\nlibslirp: yes (4."));
	g_assert_nonnull(strstr(capture.out, "SLIRP_CONFIG_VERSION_MAX "));
	g_assert_nonnull(strstr(capture.out, "\nlibseccomp: yes ("));
	g_assert_nonnull(strstr(
		capture.out, NETNS_HELPER_SANITIZED ? "\nsanitizer: yes (" : "\nsanitizer: no ("));
	capture_free(&capture);
}

/* The kernel of a host that has nothing, or ends who asks. */
static int in_poor_kernel(uint32_t unshare_action)
{
	static const struct {
		const char *call;
		enum feature feature;
	} refused[] = {
		{"close_range", FEATURE_CLOSE_RANGE},
		{"pidfd_open", FEATURE_PIDFD},
		{"seccomp", FEATURE_SECCOMP},
		{"landlock_create_ruleset", FEATURE_LANDLOCK},
		{"socket", FEATURE_PING_SOCKET},
		{"socket", FEATURE_IPV6},
		{"socket", FEATURE_UDP_GRO},
		{"socket", FEATURE_UDP_SEGMENT},
		{"ioctl", FEATURE_VNET_HDR},
		{"ioctl", FEATURE_CSUM},
		{"ioctl", FEATURE_TSO4},
		{"ioctl", FEATURE_TSO6},
		{"ioctl", FEATURE_TSO_ECN},
		{"ioctl", FEATURE_USO},
	};
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int n_wrong = 0;

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS),
			seccomp_syscall_resolve_name(refused[i].call), 0);
	seccomp_rule_add(filter, unshare_action, SCMP_SYS(unshare), 0);
	if (seccomp_load(filter) < 0)
		return 77;
	seccomp_release(filter);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		n_wrong += probe(refused[i].feature);
	n_wrong += probe(FEATURE_USER_NAMESPACE);
	n_wrong += probe(FEATURE_EMPTY_ROOT);
	n_wrong += !probe(FEATURE_AGENT);
	return n_wrong;
}

static void run_in_child(int (*fn)(uint32_t arg), uint32_t arg)
{
	pid_t child = fork();
	int status;

	g_assert_cmpint(child, >=, 0);
	if (child == 0)
		_exit(fn(arg));
	g_assert_cmpint(waitpid(child, &status, 0), ==, child);
	g_assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		g_test_skip("the kernel refuses seccomp filters");
	else
		g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

static void test_refused(void)
{
	run_in_child(in_poor_kernel, SCMP_ACT_ERRNO(EPERM));
}

static const struct {
	enum feature feature;
	uint32_t uses; /* of TUNSETOFFLOAD */
} offload_rows[] = {
	{FEATURE_CSUM, 0x01},
	{FEATURE_TSO4, 0x03},
	{FEATURE_TSO6, 0x05},
	{FEATURE_TSO_ECN, 0x0b},
	{FEATURE_USO, 0x61},
};

/* On a kernel that knows all offloads but `unknown`: exactly those rows are missing that use it. */
static int without_offload(uint32_t unknown)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int n_wrong = 0;

	seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(ioctl), 2,
		SCMP_A1(SCMP_CMP_EQ, TUNSETOFFLOAD), SCMP_A2(SCMP_CMP_MASKED_EQ, unknown, unknown));
	if (seccomp_load(filter) < 0)
		return 77;
	seccomp_release(filter);
	for (size_t i = 0; i < ARRAY_SIZE(offload_rows); i++)
		n_wrong += probe(offload_rows[i].feature) == !!(offload_rows[i].uses & unknown);
	return n_wrong;
}

/* No tap is made in the namespace of the caller, whatever it may do there. */
static int without_namespaces(uint32_t unused)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int n_wrong = 0;

	seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 0);
	if (seccomp_load(filter) < 0)
		return 77;
	seccomp_release(filter);
	for (size_t i = 0; i < ARRAY_SIZE(offload_rows); i++)
		n_wrong += probe(offload_rows[i].feature);
	return n_wrong;
}

static void test_offloads(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(offload_rows); i++)
		if (!probe(offload_rows[i].feature)) {
			g_test_skip_printf("the kernel has no %s, or no namespace to try it in",
				feature_name(offload_rows[i].feature));
			return;
		}
	for (uint32_t unknown = 0x01; unknown <= 0x40; unknown <<= 1)
		run_in_child(without_offload, unknown);
	run_in_child(without_namespaces, 0);
}

static void test_killed(void)
{
	run_in_child(in_poor_kernel, SCMP_ACT_KILL_PROCESS);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/features/names", test_names);
	g_test_add_func("/features/list", test_list);
	g_test_add_func("/features/unknown", test_unknown);
	g_test_add_func("/features/truth", test_truth);
	g_test_add_func("/features/no-side-effects", test_no_side_effects);
	g_test_add_func("/features/ignored-sigchld", test_ignored_sigchld);
	g_test_add_func("/features/print", test_print);
	g_test_add_func("/features/refused", test_refused);
	g_test_add_func("/features/offloads", test_offloads);
	g_test_add_func("/features/killed", test_killed);
	return g_test_run();
}
