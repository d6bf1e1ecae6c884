/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/util.h"
#include "forward/spec.h"

/* All of a spec in one line: HOST -> GUEST. */
static char *describe(const struct forward_spec *spec)
{
	char host[FORWARD_SPEC_TEXT_MAX], guest[INET6_ADDRSTRLEN] = "guest";

	forward_spec_format(spec, host);
	if (spec->guest_path)
		return g_strdup_printf("%s -> unix:%s", host, spec->guest_path);
	if (spec->guest_addr.family != AF_UNSPEC)
		forward_addr_format(&spec->guest_addr, guest);
	return g_strdup_printf("%s -> %s %u+%u", host, guest, spec->guest_port, spec->n_ports);
}

static const struct {
	const char *text, *meaning;
} right[] = {
	{"8080", "0.0.0.0:8080/tcp -> guest 8080+1"},
	{"8080:80", "0.0.0.0:8080/tcp -> guest 80+1"},
	{"1:65535", "0.0.0.0:1/tcp -> guest 65535+1"},
	{"8080/udp", "0.0.0.0:8080/udp -> guest 8080+1"},
	{"127.0.0.1:8080:80/udp", "127.0.0.1:8080/udp -> guest 80+1"},
	{"127.0.0.1:8080", "127.0.0.1:8080/tcp -> guest 8080+1"},
	{"8000-8010:80-90", "0.0.0.0:8000-8010/tcp -> guest 80+11"},
	{"8000-8010", "0.0.0.0:8000-8010/tcp -> guest 8000+11"},
	{"1-65535", "0.0.0.0:1-65535/tcp -> guest 1+65535"},
	{"80-80:81", "0.0.0.0:80/tcp -> guest 81+1"},
	{"[::1]:8000-8010:80-90", "[::1]:8000-8010/tcp -> guest 80+11"},
	{"[::]:80/tcp6", "[::]:80/tcp -> guest 80+1"},
	{"80/tcp6", "[::]:80/tcp -> guest 80+1"},
	{"80/udp6", "[::]:80/udp -> guest 80+1"},
	{"80/tcp4", "0.0.0.0:80/tcp -> guest 80+1"},
	{"*:53/udp", "*:53/udp -> guest 53+1"},
	{"*:53/udp4", "0.0.0.0:53/udp -> guest 53+1"},
	{"*:53/udp6", "[::]:53/udp -> guest 53+1"},
	{"8080:10.0.2.7:80", "0.0.0.0:8080/tcp -> 10.0.2.7 80+1"},
	{"8080-8081:10.0.2.7:80-81", "0.0.0.0:8080-8081/tcp -> 10.0.2.7 80+2"},
	{"8080:[fd00::7]:80/tcp", "0.0.0.0:8080/tcp -> fd00::7 80+1"},
	{"[::1]:8080:[fd00::7]:80/tcp6", "[::1]:8080/tcp -> fd00::7 80+1"},
	{"8080:unix:/run/x.sock", "0.0.0.0:8080/tcp -> unix:/run/x.sock"},
	{"8080:unix:/run/x.sock/tcp", "0.0.0.0:8080/tcp -> unix:/run/x.sock"},
	{"127.0.0.1:8080-8090:unix:/a:b", "127.0.0.1:8080-8090/tcp -> unix:/a:b"},
	{"unix:/run/a.sock:80", "unix:/run/a.sock -> guest 80+1"},
	{"unix:a:80/tcp", "unix:a -> guest 80+1"},
	{"unix:/a:b:80", "unix:/a:b -> guest 80+1"},
	{"unix:/run/a.sock:10.0.2.7:80", "unix:/run/a.sock -> 10.0.2.7 80+1"},
	{"unix:/a:[fd00::7]:80", "unix:/a -> fd00::7 80+1"},
	{"unix:/a:unix:/b", "unix:/a -> unix:/b"},
};

static void test_right(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(right); i++) {
		struct forward_spec spec = {.path = FORWARD_TAP, .lazy = true};
		g_autofree char *meaning = NULL;
		const char *wrong;

		g_test_message("%s", right[i].text);
		g_assert_cmpint(
			forward_spec_parse(right[i].text, NULL, NULL, &spec, &wrong), ==, 0);
		g_assert_null(wrong);
		meaning = describe(&spec);
		g_assert_cmpstr(meaning, ==, right[i].meaning);
		g_assert_cmpint(spec.path, ==, FORWARD_TAP);
		g_assert_true(spec.lazy);
		g_assert_cmpint(spec.host_fd, ==, -1);
		forward_spec_done(&spec);
	}
}

#define LONG_PATH                                                                        \
	"/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" \
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

/* A word of what is said about it. */
static const struct {
	const char *text, *wrong;
} wrongs[] = {
	{"", "number"},
	{":", "number"},
	{"x", "number"},
	{"0", "number"},
	{"65536", "number"},
	{"99999999999999999999", "number"},
	{"-1", "number"},
	{"+1", "number"},
	{" 80", "number"},
	{"80 ", "behind"},
	{"80x", "behind"},
	{"0x50", "number"},
	{"80:", "number"},
	{"80:0", "number"},
	{"80:65536", "number"},
	{"80:80:80", "behind"},
	{"80/", "protocol"},
	{"80/sctp", "protocol"},
	{"80/TCP", "protocol"},
	{"80/tcp/tcp", "behind"},
	{"80-", "range"},
	{"80-0", "range"},
	{"80-65536", "range"},
	{"81-80", "lower"},
	{"80-81-82", "behind"},
	{"80-81:80", "differ"},
	{"80:80-81", "differ"},
	{"80-81:80-82", "differ"},
	{"8000-8010:80", "differ"},
	{"127.0.0.1", "behind"},
	{"127.0.0.1:", "number"},
	{"127.0.0.1::80", "number"},
	{"127.0.0:80", "address"},
	{"256.0.0.1:80", "address"},
	{"localhost:80", "number"},
	{"::1:80", "number"},
	{"[::1]", "colon"},
	{"[::1]80", "colon"},
	{"[::1:80", "colon"},
	{"[]:80", "brackets"},
	{"[127.0.0.1]:80", "brackets"},
	{"[::ffff:1.2.3.4]:80", "address"},
	{"[fe80::1%lo]:80", "address"},
	{"*", "colon"},
	{"**:80", "address"},
	{"127.0.0.1:80/tcp6", "address"},
	{"127.0.0.1:80/udp6", "address"},
	{"[::1]:80/tcp4", "address"},
	{"80:10.0.2:80", "address"},
	{"80:10.0.2.7", "behind"},
	{"80:[fd00::7]", "colon"},
	{"80:*:80", "address"},
	{"80:unix:", "path"},
	{"80:unix:" LONG_PATH, "107"},
	{"80:unix:/a/udp", "datagrams"},
	{"unix:", "colon"},
	{"unix:/a", "colon"},
	{"unix::80", "path"},
	{"unix:/a:0", "number"},
	{"unix:/a:80-81", "differ"},
	{"unix:/a:80/udp", "datagrams"},
	{"unix:" LONG_PATH ":80", "107"},
	{"fd:3", "colon"},
	{"fd:3:80", "descriptor"},
};

static void test_wrong(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
		struct forward_spec spec = {.path = FORWARD_SPLICE};
		const char *wrong = NULL;

		g_assert_cmpint(
			forward_spec_parse(wrongs[i].text, NULL, NULL, &spec, &wrong), ==, -EINVAL);
		g_test_message("%s: %s", wrongs[i].text, wrong);
		g_assert_nonnull(strstr(wrong, wrongs[i].wrong));
		g_assert_null(spec.host_path);
		g_assert_null(spec.guest_path);
		g_assert_cmpint(spec.host_fd, ==, -1);
	}
}

static void test_words(void)
{
	enum forward_proto proto;
	enum forward_path path;
	uint8_t family;

	g_assert_true(forward_proto_parse("udp6", &proto, &family));
	g_assert_cmpint(proto, ==, FORWARD_UDP);
	g_assert_cmpint(family, ==, AF_INET6);
	g_assert_true(forward_proto_parse("tcp", &proto, &family));
	g_assert_cmpint(proto, ==, FORWARD_TCP);
	g_assert_cmpint(family, ==, AF_UNSPEC);
	g_assert_false(forward_proto_parse("tcp5", &proto, &family));
	g_assert_false(forward_proto_parse("", &proto, &family));
	g_assert_true(forward_path_parse("auto", &path));
	g_assert_cmpint(path, ==, FORWARD_AUTO);
	g_assert_true(forward_path_parse("splice", &path));
	g_assert_cmpint(path, ==, FORWARD_SPLICE);
	g_assert_true(forward_path_parse("tap", &path));
	g_assert_cmpint(path, ==, FORWARD_TAP);
	g_assert_false(forward_path_parse("Tap", &path));
}

/* Descriptors. */

static int bound(int family, int type, bool v6only)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} addr = {0};
	socklen_t len = family == AF_INET ? sizeof(addr.v4) : sizeof(addr.v6);
	int fd = socket(family, type | SOCK_CLOEXEC, 0), only = v6only;

	if (fd < 0)
		return -1;
	addr.any.sa_family = (sa_family_t)family;
	if (family == AF_INET)
		addr.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
	g_assert_cmpint(bind(fd, &addr.any, len), ==, 0);
	return fd;
}

static int listening(int family, bool v6only)
{
	int fd = bound(family, SOCK_STREAM, v6only);

	if (fd >= 0)
		g_assert_cmpint(listen(fd, 1), ==, 0);
	return fd;
}

static int find(void *arg, const char *name)
{
	return strcmp(name, "web") == 0 ? *(int *)arg : -ENOENT;
}

static int parse_fd(int fd, const char *text, struct forward_spec *ret, const char **ret_wrong)
{
	*ret = (struct forward_spec){0};
	return forward_spec_parse(text, find, &fd, ret, ret_wrong);
}

static void test_fd(void)
{
	int fd = listening(AF_INET, false);
	struct forward_spec spec;
	const char *wrong;

	g_assert_cmpint(parse_fd(fd, "fd:web:10.0.2.7:80", &spec, &wrong), ==, 0);
	g_assert_cmpint(spec.source, ==, FORWARD_FROM_FD);
	g_assert_cmpint(spec.host_fd, !=, fd);
	g_assert_cmpint(fcntl(spec.host_fd, F_GETFD), ==, FD_CLOEXEC);
	g_assert_true(fcntl(spec.host_fd, F_GETFL) & O_NONBLOCK);
	g_assert_cmpint(ntohl(ip_addr_v4(&spec.host_addr).s_addr), ==, INADDR_LOOPBACK);
	g_assert_cmpuint(spec.host_port, >, 0);
	g_assert_cmpuint(spec.guest_port, ==, 80);
	g_assert_cmpuint(spec.n_ports, ==, 1);
	forward_spec_done(&spec);
	/* The original is the caller's still. */
	g_assert_cmpint(fcntl(fd, F_GETFD), >=, 0);
	g_assert_cmpint(parse_fd(fd, "fd:web:80/tcp4", &spec, &wrong), ==, 0);
	forward_spec_done(&spec);
	g_assert_cmpint(parse_fd(fd, "fd:other:80", &spec, &wrong), ==, -EINVAL);
	g_assert_nonnull(strstr(wrong, "no such descriptor"));
	g_assert_cmpint(parse_fd(fd, "fd:web:80/udp", &spec, &wrong), ==, -EINVAL);
	g_assert_nonnull(strstr(wrong, "no datagram socket"));
	g_assert_cmpint(parse_fd(fd, "fd:web:80/tcp6", &spec, &wrong), ==, -EINVAL);
	g_assert_nonnull(strstr(wrong, "family"));
	g_assert_cmpint(parse_fd(fd, "fd:web:80-81", &spec, &wrong), ==, -EINVAL);
	g_assert_nonnull(strstr(wrong, "differ"));
	g_assert_cmpint(spec.host_fd, ==, -1);
	close(fd);
}

static void test_fd_v6(void)
{
	int dual = listening(AF_INET6, false), only = listening(AF_INET6, true);
	struct forward_spec spec;
	const char *wrong;

	if (dual < 0) {
		g_test_skip("no IPv6 here");
		return;
	}
	g_assert_cmpint(parse_fd(dual, "fd:web:80", &spec, &wrong), ==, 0);
	g_assert_true(spec.dual_stack);
	forward_spec_done(&spec);
	g_assert_cmpint(parse_fd(only, "fd:web:80/tcp6", &spec, &wrong), ==, 0);
	g_assert_false(spec.dual_stack);
	g_assert_cmpint(spec.host_addr.family, ==, AF_INET6);
	forward_spec_done(&spec);
	close(dual);
	close(only);
}

static void test_fd_udp(void)
{
	int fd = bound(AF_INET, SOCK_DGRAM, false), unbound = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in peer = {
		.sin_family = AF_INET, .sin_port = 1, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct forward_spec spec;
	const char *wrong;

	g_assert_cmpint(parse_fd(fd, "fd:web:80/udp", &spec, &wrong), ==, 0);
	g_assert_cmpuint(spec.host_port, >, 0);
	forward_spec_done(&spec);
	g_assert_cmpint(parse_fd(fd, "fd:web:80", &spec, &wrong), ==, -EINVAL);
	g_assert_cmpint(parse_fd(unbound, "fd:web:80/udp", &spec, &wrong), ==, -EINVAL);
	g_assert_nonnull(strstr(wrong, "not bound"));
	g_assert_cmpint(connect(fd, (struct sockaddr *)&peer, sizeof(peer)), ==, 0);
	g_assert_cmpint(parse_fd(fd, "fd:web:80/udp", &spec, &wrong), ==, -EINVAL);
	g_assert_nonnull(strstr(wrong, "connected"));
	close(fd);
	close(unbound);
}

static void test_fd_odd(void)
{
	int idle = bound(AF_INET, SOCK_STREAM, false), pipe_fds[2],
	    null = open("/dev/null", O_RDWR);
	struct forward_spec spec;
	const char *wrong;

	g_assert_cmpint(pipe(pipe_fds), ==, 0);
	g_assert_cmpint(parse_fd(idle, "fd:web:80", &spec, &wrong), ==, -EINVAL);
	g_assert_nonnull(strstr(wrong, "no listening"));
	g_assert_cmpint(parse_fd(null, "fd:web:80", &spec, &wrong), ==, -EINVAL);
	g_assert_nonnull(strstr(wrong, "no socket"));
	g_assert_cmpint(parse_fd(pipe_fds[0], "fd:web:80", &spec, &wrong), ==, -EINVAL);
	g_assert_nonnull(strstr(wrong, "no socket"));
	g_assert_cmpint(parse_fd(1000000, "fd:web:80", &spec, &wrong), ==, -EINVAL);
	close(idle);
	close(null);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void test_fd_unix(void)
{
	g_autofree char *folder = g_dir_make_tmp("test-spec-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(folder, "s", NULL);
	g_autofree char *expected = g_strdup_printf("unix:%s -> guest 80+1", path);
	g_autofree char *meaning = NULL;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), nameless = socket(AF_UNIX, SOCK_STREAM, 0);
	struct forward_spec spec;
	const char *wrong;

	g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
	g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
	g_assert_cmpint(listen(fd, 1), ==, 0);
	g_assert_cmpint(parse_fd(fd, "fd:web:80", &spec, &wrong), ==, 0);
	meaning = describe(&spec);
	g_assert_cmpstr(meaning, ==, expected);
	g_assert_cmpint(spec.host_addr.family, ==, AF_UNIX);
	g_assert_cmpuint(spec.host_port, ==, 0);
	forward_spec_done(&spec);
	g_assert_cmpint(parse_fd(fd, "fd:web:80/tcp4", &spec, &wrong), ==, -EINVAL);
	g_assert_cmpint(parse_fd(nameless, "fd:web:80", &spec, &wrong), ==, -EINVAL);
	close(fd);
	close(nameless);
	g_assert_cmpint(unlink(path), ==, 0);
	g_assert_cmpint(rmdir(folder), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/forward-spec/right", test_right);
	g_test_add_func("/forward-spec/wrong", test_wrong);
	g_test_add_func("/forward-spec/words", test_words);
	g_test_add_func("/forward-spec/fd", test_fd);
	g_test_add_func("/forward-spec/fd-v6", test_fd_v6);
	g_test_add_func("/forward-spec/fd-udp", test_fd_udp);
	g_test_add_func("/forward-spec/fd-odd", test_fd_odd);
	g_test_add_func("/forward-spec/fd-unix", test_fd_unix);
	return g_test_run();
}
