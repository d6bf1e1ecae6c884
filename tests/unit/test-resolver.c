/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/util.h"
#include "host/resolver.h"
#include "tests/support/container.h"

static char *directory, *path, *other;
static struct resolver resolver;
static int64_t now_ns;

static void set_up(void)
{
	directory = g_dir_make_tmp("resolver-XXXXXX", NULL);
	g_assert_nonnull(directory);
	path = g_build_filename(directory, "resolv.conf", NULL);
	other = g_build_filename(directory, "other", NULL);
	resolver = (struct resolver){.path = path};
	now_ns = 0; /* as good a time as any other */
}

static void tear_down(void)
{
	g_unlink(path);
	g_unlink(other);
	g_assert_cmpint(g_rmdir(directory), ==, 0);
	g_free(path);
	g_free(other);
	g_free(directory);
}

/* In place: the file stays the same. */
static void put_bytes(const char *at, const char *text, size_t len)
{
	cleanup_fd int fd = open(at, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(write(fd, text, len), ==, (ssize_t)len);
}

static void put(const char *text)
{
	put_bytes(path, text, strlen(text));
}

static void expect(const char *server4, const char *server6)
{
	int n_fds = count_fds();
	struct ip_addr got4 = resolver_nameserver(&resolver, AF_INET, now_ns);
	struct ip_addr got6 = resolver_nameserver(&resolver, AF_INET6, now_ns);
	struct in_addr v4 = ip_addr_v4(&got4);
	char text[INET6_ADDRSTRLEN];

	g_assert_cmpint(got4.family, ==, AF_INET);
	g_assert_cmpint(got6.family, ==, AF_INET6);
	g_assert_cmpstr(inet_ntop(AF_INET, &v4, text, sizeof(text)), ==, server4);
	g_assert_cmpstr(inet_ntop(AF_INET6, &got6.in6, text, sizeof(text)), ==, server6);
	g_assert_cmpint(count_fds(), ==, n_fds);
}

static void a_second_later(void)
{
	now_ns += NS_PER_SEC;
}

static void test_contents(void)
{
	static const struct {
		const char *text, *server4, *server6;
	} rows[] = {
		{"", "127.0.0.1", "::1"},
		{"search example.org\noptions edns0\n", "127.0.0.1", "::1"},
		{"nameserver 192.0.2.1\n", "192.0.2.1", "::1"},
		{"nameserver 2001:db8::1\n", "127.0.0.1", "2001:db8::1"},
		{"nameserver 2001:db8::1\nnameserver 192.0.2.1\n", "192.0.2.1", "2001:db8::1"},
		{"nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 2001:db8::1\n"
		 "nameserver 2001:db8::2\n",
			"192.0.2.1", "2001:db8::1"},
		{"nameserver 127.0.0.53", "127.0.0.53", "::1"}, /* without an end of line */
		{"nameserver 192.0.2.1\r\nnameserver 2001:db8::1\r\n", "192.0.2.1", "2001:db8::1"},
		{"nameserver\t \t192.0.2.1 \t\n", "192.0.2.1", "::1"},
		{"nameserver 192.0.2.1 # ours\nnameserver 2001:db8::1;x\n", "192.0.2.1",
			"2001:db8::1"},
		{"nameserver 192.0.2.1#53\n", "192.0.2.1", "::1"},
		{"# nameserver 192.0.2.1\n;nameserver 192.0.2.1\n nameserver 192.0.2.1\n",
			"127.0.0.1", "::1"},
		{"nameservers 192.0.2.1\nnameserver192.0.2.1\nNAMESERVER 192.0.2.1\n"
		 "nameserver\n192.0.2.1\nnameserver \n",
			"127.0.0.1", "::1"},
		{"nameserver 192.0.2\nnameserver 192.0.2.256\nnameserver 192.0.2.1.1\n"
		 "nameserver localhost\nnameserver 2001:db8::x\nnameserver ::1::\nnameserver %\n",
			"127.0.0.1", "::1"},
		{"nameserver rubbish\nnameserver 192.0.2.7\n", "192.0.2.7", "::1"},
		{"nameserver "
		 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"
		 "nameserver 192.0.2.7\n",
			"192.0.2.7", "::1"},
		{"nameserver 2001:0db8:0000:0000:0000:0000:192.168.100.100\n", "127.0.0.1",
			"2001:db8::c0a8:6464"},
		{"nameserver ::ffff:192.0.2.1\n", "127.0.0.1", "::ffff:192.0.2.1"},
	};

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		g_test_message("%s", rows[i].text);
		put(rows[i].text);
		resolver = (struct resolver){.path = path};
		expect(rows[i].server4, rows[i].server6);
		g_assert_cmpstr(resolver.zone6, ==, "");
	}
	tear_down();
}

static void test_binary(void)
{
	static char rubbish[70000];

	set_up();
	for (unsigned int seed = 0; seed < 20; seed++) {
		for (size_t i = 0; i < sizeof(rubbish); i++)
			rubbish[i] = (char)(i * i * (2 * seed + 1) >> 5 ^ seed);
		put_bytes(path, rubbish, sizeof(rubbish));
		a_second_later();
		expect("127.0.0.1", "::1");
	}
	put_bytes(path, "\0\nnameserver 192.0.2.1\n", 23);
	a_second_later();
	resolver_nameserver(&resolver, AF_INET, now_ns); /* either answer is good */
	tear_down();
}

/* Only so much is read, and what is cut off does not become another address. */
static void test_huge(void)
{
	GString *text;

	set_up();
	text = g_string_new("nameserver 192.0.2.1\n");
	while (text->len < 65536 - 23)
		g_string_append_c(text, text->len % 80 ? '#' : '\n');
	g_string_append(text, "\nnameserver 2001:db8::1:2345\n");
	g_assert_cmpuint(text->len, >, 65536);
	for (int i = 0; i < 4; i++) {
		put_bytes(path, text->str, text->len);
		a_second_later();
		expect("192.0.2.1", "::1");
		g_string_insert_c(text, 30, '#');
	}
	g_string_free(text, true);
	put("nameserver 192.0.2.2\n");
	g_assert_cmpint(truncate(path, 1 << 24), ==, 0); /* zeros behind it */
	a_second_later();
	expect("192.0.2.2", "::1");
	tear_down();
}

static void test_not_a_file(void)
{
	int fifo;

	set_up();
	expect("127.0.0.1", "::1"); /* none there */
	put("nameserver 192.0.2.1\n");
	a_second_later();
	expect("192.0.2.1", "::1");
	g_unlink(path);
	g_assert_cmpint(symlink("nowhere", path), ==, 0);
	a_second_later();
	expect("127.0.0.1", "::1");
	g_unlink(path);
	g_assert_cmpint(symlink("resolv.conf", path), ==, 0); /* a loop */
	a_second_later();
	expect("127.0.0.1", "::1");
	g_unlink(path);
	g_assert_cmpint(mkfifo(path, 0644), ==, 0); /* nobody ever writes to it */
	alarm(30);
	a_second_later();
	expect("127.0.0.1", "::1");
	alarm(0);
	fifo = open(path, O_RDWR | O_CLOEXEC); /* what somebody wrote is not ours */
	g_assert_cmpint(write(fifo, "nameserver 192.0.2.3\n", 21), ==, 21);
	a_second_later();
	expect("127.0.0.1", "::1");
	close(fifo);
	g_unlink(path);
	g_assert_cmpint(symlink("/dev/zero", path), ==, 0);
	a_second_later();
	expect("127.0.0.1", "::1");
	g_unlink(path);
	g_assert_cmpint(symlink(".", path), ==, 0); /* a directory */
	a_second_later();
	expect("127.0.0.1", "::1");
	g_unlink(path);
	put_bytes(other, "nameserver 192.0.2.2\n", 21);
	g_assert_cmpint(symlink("other", path), ==, 0); /* a link that leads somewhere */
	a_second_later();
	expect("192.0.2.2", "::1");
	tear_down();
}

/* It is looked at once in a second, whether it is there or not. */
static void test_once_a_second(void)
{
	set_up();
	expect("127.0.0.1", "::1");
	put("nameserver 192.0.2.1\n");
	now_ns += NS_PER_SEC - 1;
	expect("127.0.0.1", "::1");
	now_ns += 1;
	expect("192.0.2.1", "::1");
	put("nameserver 192.0.2.22\n");
	now_ns += NS_PER_SEC - 1;
	expect("192.0.2.1", "::1");
	now_ns += 1;
	expect("192.0.2.22", "::1");
	tear_down();
}

static void rename_over(const char *text)
{
	put_bytes(other, text, strlen(text));
	g_assert_cmpint(g_rename(other, path), ==, 0);
}

static void test_changes(void)
{
	set_up();
	put("nameserver 192.0.2.1\n");
	expect("192.0.2.1", "::1");
	rename_over("nameserver 192.0.2.2\n"); /* of the same size */
	a_second_later();
	expect("192.0.2.2", "::1");
	rename_over("nameserver 2001:db8::1\n"); /* nothing is left of the old one */
	a_second_later();
	expect("127.0.0.1", "2001:db8::1");
	put("");
	a_second_later();
	expect("127.0.0.1", "::1");
	tear_down();
}

/* The very file that was known, after a time without one. */
static void test_comes_back(void)
{
	set_up();
	put("nameserver 192.0.2.1\nnameserver fe80::1%lo\n");
	expect("192.0.2.1", "fe80::1");
	g_assert_cmpint(g_rename(path, other), ==, 0);
	a_second_later();
	expect("127.0.0.1", "::1");
	g_assert_cmpstr(resolver.zone6, ==, "");
	g_assert_cmpint(g_rename(other, path), ==, 0);
	a_second_later();
	expect("192.0.2.1", "fe80::1");
	g_assert_cmpstr(resolver.zone6, ==, "lo");
	tear_down();
}

/* That the container has used up the descriptors does not send its questions elsewhere. */
static void test_no_descriptor_left(void)
{
	struct rlimit limit, none;
	struct ip_addr got;

	set_up();
	put("nameserver 192.0.2.1\n");
	g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
	got = resolver_nameserver(&resolver, AF_INET, now_ns);
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
	g_assert_cmphex(ntohl(ip_addr_v4(&got).s_addr), ==, INADDR_LOOPBACK); /* never seen */
	a_second_later();
	expect("192.0.2.1", "::1");
	a_second_later();
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
	got = resolver_nameserver(&resolver, AF_INET, now_ns);
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
	g_assert_cmphex(ntohl(ip_addr_v4(&got).s_addr), ==, 0xc0000201);
	tear_down();
}

static void test_zones(void)
{
	static const struct {
		const char *text, *server6, *zone;
	} rows[] = {
		{"nameserver fe80::1%lo\n", "fe80::1", "lo"},
		{"nameserver fe80::1%lo # x\nnameserver fe80::2%x\n", "fe80::1", "lo"},
		{"nameserver fe80::1%7\r\n", "fe80::1", "7"},
		{"nameserver fe80::1%\n", "fe80::1", ""},
		{"nameserver fe80::1\n", "fe80::1", ""},
		{"nameserver fe80::1%fifteen-letters\n", "fe80::1", "fifteen-letters"},
		{"nameserver fe80::1%sixteen-letters-\nnameserver fe80::2%lo\n", "fe80::2", "lo"},
		{"nameserver fe80::x%lo\n", "::1", ""},
		{"nameserver 192.0.2.1%lo\n", "::1", ""},
		{"nameserver fe80:1111:2222:3333:4444:5555:6666:7777%fifteen-letters\n",
			"fe80:1111:2222:3333:4444:5555:6666:7777", "fifteen-letters"},
	};

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		g_test_message("%s", rows[i].text);
		put(rows[i].text);
		resolver = (struct resolver){.path = path};
		expect("127.0.0.1", rows[i].server6);
		g_assert_cmpstr(resolver.zone6, ==, rows[i].zone);
	}
	tear_down();
}

static void test_scope(void)
{
	struct resolver named = {.zone6 = "lo"}, numbered = {.zone6 = "4711"}, none = {0},
			unknown = {.zone6 = "no-such-if"};

	g_assert_cmpuint(resolver_scope6(&named), ==, 1); /* in every network namespace */
	g_assert_cmpuint(resolver_scope6(&numbered), ==, 4711);
	g_assert_cmpuint(resolver_scope6(&none), ==, 0);
	g_assert_cmpuint(resolver_scope6(&unknown), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/resolver/contents", test_contents);
	g_test_add_func("/resolver/binary", test_binary);
	g_test_add_func("/resolver/huge", test_huge);
	g_test_add_func("/resolver/not-a-file", test_not_a_file);
	g_test_add_func("/resolver/once-a-second", test_once_a_second);
	g_test_add_func("/resolver/changes", test_changes);
	g_test_add_func("/resolver/comes-back", test_comes_back);
	g_test_add_func("/resolver/no-descriptor-left", test_no_descriptor_left);
	g_test_add_func("/resolver/zones", test_zones);
	g_test_add_func("/resolver/scope", test_scope);
	return g_test_run();
}
