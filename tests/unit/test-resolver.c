/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
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
static int n_asked, ask_error;

static void set_up(void)
{
	directory = g_dir_make_tmp("resolver-XXXXXX", NULL);
	g_assert_nonnull(directory);
	path = g_build_filename(directory, "resolv.conf", NULL);
	other = g_build_filename(directory, "other", NULL);
	resolver = (struct resolver){.path = path};
	n_asked = ask_error = 0;
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

/* "192.0.2.1 fe80::1%3": addresses, and the interfaces that are named. */
static char *list_of(const struct host_nameserver *servers, int n)
{
	GString *list = g_string_new(NULL);
	char text[INET6_ADDRSTRLEN];

	for (int i = 0; i < n; i++) {
		struct in_addr v4 = ip_addr_v4(&servers[i].addr);
		bool is4 = servers[i].addr.family == AF_INET;
		const void *addr = is4 ? (const void *)&v4 : &servers[i].addr.in6;

		inet_ntop(servers[i].addr.family, addr, text, sizeof(text));
		g_string_append_printf(list, "%s%s", i ? " " : "", text);
		if (servers[i].scope)
			g_string_append_printf(list, "%%%u", servers[i].scope);
	}
	return g_string_free(list, false);
}

static void expect(const char *wanted)
{
	struct host_nameserver servers[HOST_NAMESERVERS_MAX];
	int n_fds = count_fds(), n = resolver_nameservers(&resolver, servers, now_ns);
	char *list;

	g_assert_cmpint(n, >, 0);
	list = list_of(servers, n);
	g_assert_cmpstr(list, ==, wanted);
	g_assert_cmpint(count_fds(), ==, n_fds);
	g_free(list);
}

static void expect_looking(void)
{
	struct host_nameserver servers[HOST_NAMESERVERS_MAX];

	g_assert_cmpint(resolver_nameservers(&resolver, servers, now_ns), ==, -EAGAIN);
}

/* What the file does not say (resolv.conf(5)). */
#define LOOPBACK "127.0.0.1 ::1"

static void a_second_later(void)
{
	now_ns += NS_PER_SEC;
}

/* ---- the text ---- */

static void test_contents(void)
{
	static const struct {
		const char *text, *servers;
	} rows[] = {
		{"", LOOPBACK},
		{"search example.org\noptions edns0\n", LOOPBACK},
		{"nameserver 192.0.2.1\n", "192.0.2.1"},
		{"nameserver 2001:db8::1\n", "2001:db8::1"},
		{"nameserver 2001:db8::1\nnameserver 192.0.2.1\n", "2001:db8::1 192.0.2.1"},
		{"nameserver 192.0.2.1\nsearch x\nnameserver 192.0.2.2\nnameserver 2001:db8::1\n",
			"192.0.2.1 192.0.2.2 2001:db8::1"},
		{"nameserver 127.0.0.53", "127.0.0.53"}, /* without an end of line */
		{"nameserver 192.0.2.1\r\nnameserver 2001:db8::1\r\n", "192.0.2.1 2001:db8::1"},
		{"nameserver\t \t192.0.2.1 \t\n", "192.0.2.1"},
		{"nameserver 192.0.2.1 # ours\nnameserver 2001:db8::1;x\n",
			"192.0.2.1 2001:db8::1"},
		{"nameserver 192.0.2.1#53\n", "192.0.2.1"},
		{"# nameserver 192.0.2.1\n;nameserver 192.0.2.1\n nameserver 192.0.2.1\n",
			LOOPBACK},
		{"nameservers 192.0.2.1\nnameserver192.0.2.1\nNAMESERVER 192.0.2.1\n"
		 "nameserver\n192.0.2.1\nnameserver \n",
			LOOPBACK},
		{"nameserver 192.0.2\nnameserver 192.0.2.256\nnameserver 192.0.2.1.1\n"
		 "nameserver localhost\nnameserver 2001:db8::x\nnameserver ::1::\nnameserver %\n",
			LOOPBACK},
		{"nameserver rubbish\nnameserver 192.0.2.7\n", "192.0.2.7"},
		{"nameserver "
		 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"
		 "nameserver 192.0.2.7\n",
			"192.0.2.7"},
		{"nameserver 2001:0db8:0000:0000:0000:0000:192.168.100.100\n",
			"2001:db8::c0a8:6464"},
		{"nameserver ::ffff:192.0.2.1\n", "192.0.2.1"},
		{"nameserver fe80::1%lo\n", "fe80::1%1"}, /* in every network namespace */
		{"nameserver fe80::1%lo # x\nnameserver fe80::2%4711\r\n",
			"fe80::1%1 fe80::2%4711"},
		{"nameserver fe80::1%\nnameserver fe80::2\nnameserver fe80::3%no-such-if\n",
			"fe80::1 fe80::2 fe80::3"},
		{"nameserver fe80::1%sixteen-letters-\nnameserver fe80::2%lo\n", "fe80::2%1"},
		{"nameserver fe80::x%lo\nnameserver 192.0.2.1%lo\n", LOOPBACK},
		{"nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
		 "nameserver 192.0.2.4\nnameserver 192.0.2.5\nnameserver 192.0.2.6\n"
		 "nameserver 192.0.2.7\nnameserver 192.0.2.8\nnameserver 192.0.2.9\n",
			"192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 192.0.2.5 192.0.2.6 192.0.2.7 "
			"192.0.2.8"},
	};

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		g_test_message("%s", rows[i].text);
		put(rows[i].text);
		resolver = (struct resolver){.path = path};
		expect(rows[i].servers);
	}
	tear_down();
}

/* The longest that fits: an address with all its digits, and a zone. */
static void test_longest_zone(void)
{
	static const char text[] = "nameserver "
				   "fe80:1111:2222:3333:4444:5555:6666:7777%fifteen-letters\n";
	struct resolver_server servers[HOST_NAMESERVERS_MAX];

	g_assert_cmpint(resolver_parse(text, strlen(text), servers), ==, 1);
	g_assert_cmpstr(servers[0].zone, ==, "fifteen-letters");
	g_assert_cmphex(servers[0].addr.in6.s6_addr[15], ==, 0x77);
}

static void test_binary(void)
{
	static const char nul[] = "\0\nnameserver 192.0.2.1\nnameserver 192.0.2.2\0x\n"
				  "name\0server 192.0.2.3\nnameserver\0 192.0.2.4\n";
	static char rubbish[70000];

	set_up();
	for (unsigned int seed = 0; seed < 20; seed++) {
		for (size_t i = 0; i < sizeof(rubbish); i++)
			rubbish[i] = (char)(i * i * (2 * seed + 1) >> 5 ^ seed);
		put_bytes(path, rubbish, sizeof(rubbish));
		a_second_later();
		expect(LOOPBACK);
	}
	put_bytes(path, nul, sizeof(nul) - 1);
	a_second_later();
	expect("192.0.2.1");
	tear_down();
}

/* ---- the file ---- */

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
		expect("192.0.2.1");
		g_string_insert_c(text, 30, '#');
	}
	g_string_free(text, true);
	put("nameserver 192.0.2.2\n");
	g_assert_cmpint(truncate(path, 1 << 24), ==, 0); /* zeros behind it */
	a_second_later();
	expect("192.0.2.2");
	tear_down();
}

static void test_not_a_file(void)
{
	int fifo;

	set_up();
	expect(LOOPBACK); /* none there */
	put("nameserver 192.0.2.1\n");
	a_second_later();
	expect("192.0.2.1");
	g_unlink(path);
	g_assert_cmpint(symlink("nowhere", path), ==, 0);
	a_second_later();
	expect(LOOPBACK);
	g_unlink(path);
	g_assert_cmpint(symlink("resolv.conf", path), ==, 0); /* a loop */
	a_second_later();
	expect(LOOPBACK);
	g_unlink(path);
	g_assert_cmpint(mkfifo(path, 0644), ==, 0); /* nobody ever writes to it */
	alarm(30);
	a_second_later();
	expect(LOOPBACK);
	alarm(0);
	fifo = open(path, O_RDWR | O_CLOEXEC); /* what somebody wrote is not ours */
	g_assert_cmpint(write(fifo, "nameserver 192.0.2.3\n", 21), ==, 21);
	a_second_later();
	expect(LOOPBACK);
	close(fifo);
	g_unlink(path);
	g_assert_cmpint(symlink("/dev/zero", path), ==, 0);
	a_second_later();
	expect(LOOPBACK);
	g_unlink(path);
	g_assert_cmpint(symlink(".", path), ==, 0); /* a directory */
	a_second_later();
	expect(LOOPBACK);
	g_unlink(path);
	put_bytes(other, "nameserver 192.0.2.2\n", 21);
	g_assert_cmpint(symlink("other", path), ==, 0); /* a link that leads somewhere */
	a_second_later();
	expect("192.0.2.2");
	tear_down();
}

/* It is looked at once in a second, whether it is there or not. */
static void test_once_a_second(void)
{
	set_up();
	expect(LOOPBACK);
	put("nameserver 192.0.2.1\n");
	now_ns += NS_PER_SEC - 1;
	expect(LOOPBACK);
	now_ns += 1;
	expect("192.0.2.1");
	put("nameserver 192.0.2.22\n");
	now_ns += NS_PER_SEC - 1;
	expect("192.0.2.1");
	now_ns += 1;
	expect("192.0.2.22");
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
	expect("192.0.2.1");
	rename_over("nameserver 192.0.2.2\n"); /* of the same size */
	a_second_later();
	expect("192.0.2.2");
	rename_over("nameserver 2001:db8::1\n"); /* nothing is left of the old one */
	a_second_later();
	expect("2001:db8::1");
	put("");
	a_second_later();
	expect(LOOPBACK);
	tear_down();
}

/* Of the same size and time, in the same place. */
static void test_no_trace(void)
{
	const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};

	set_up();
	for (char last = '1'; last < '4'; last++) {
		char text[] = "nameserver 192.0.2.x\n", wanted[] = "192.0.2.x";

		text[sizeof(text) - 3] = wanted[sizeof(wanted) - 2] = last;
		put(text);
		g_assert_cmpint(utimensat(AT_FDCWD, path, times, 0), ==, 0);
		a_second_later();
		expect(wanted);
	}
	tear_down();
}

/* The very file that was known, after a time without one. */
static void test_comes_back(void)
{
	set_up();
	put("nameserver 192.0.2.1\nnameserver fe80::1%lo\n");
	expect("192.0.2.1 fe80::1%1");
	g_assert_cmpint(g_rename(path, other), ==, 0);
	a_second_later();
	expect(LOOPBACK);
	g_assert_cmpint(g_rename(other, path), ==, 0);
	a_second_later();
	expect("192.0.2.1 fe80::1%1");
	tear_down();
}

/* That the container has used up the descriptors does not send its questions elsewhere. */
static void test_no_descriptor_left(void)
{
	struct rlimit limit, none;
	struct host_nameserver servers[HOST_NAMESERVERS_MAX];

	set_up();
	put("nameserver 192.0.2.1\n");
	g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
	g_assert_cmpint(resolver_nameservers(&resolver, servers, now_ns), ==, 2);
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
	expect(LOOPBACK); /* never seen */
	a_second_later();
	expect("192.0.2.1");
	a_second_later();
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
	g_assert_cmpint(resolver_nameservers(&resolver, servers, now_ns), ==, 1);
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
	expect("192.0.2.1");
	tear_down();
}

/* ---- somebody else opens it ---- */

static int ask(void *arg)
{
	g_assert_true(arg == &now_ns);
	n_asked++;
	return ask_error;
}

static void answer(const char *name)
{
	resolver_take(&resolver, open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC), now_ns);
}

static void set_up_asking(void)
{
	set_up();
	put("nameserver 192.0.2.1\n");
	resolver.ask = ask;
	resolver.arg = &now_ns;
}

static void test_asks(void)
{
	set_up_asking();
	for (int i = 0; i < 3; i++)
		expect_looking(); /* and asks once */
	g_assert_cmpint(n_asked, ==, 1);
	now_ns += NS_PER_MS;
	answer(path);
	expect("192.0.2.1");
	put("nameserver 192.0.2.22\n");
	now_ns += NS_PER_SEC - 1;
	expect("192.0.2.1");
	g_assert_cmpint(n_asked, ==, 1);
	now_ns += 1;
	expect_looking();
	answer(path);
	expect("192.0.2.22");
	g_assert_cmpint(n_asked, ==, 2);
	tear_down();
}

/* Nobody waits longer than that for an agent that says nothing; what it says then is heard. */
static void test_no_answer(void)
{
	set_up_asking();
	expect_looking();
	answer(path);
	a_second_later();
	expect_looking();
	put("nameserver 192.0.2.22\n");
	now_ns += HOST_NAMESERVERS_WAIT_NS - 1;
	expect_looking();
	now_ns += 1;
	expect("192.0.2.1");
	answer(path);
	expect("192.0.2.22");
	g_assert_cmpint(n_asked, ==, 2);
	tear_down();
}

static void test_nobody_there(void)
{
	static const int passing[] = {
		EPIPE, EAGAIN, EMFILE, ENFILE, ENOMEM, ETIMEDOUT, ETOOMANYREFS, EBADMSG};

	set_up_asking();
	expect_looking();
	answer(path);
	for (size_t i = 0; i < ARRAY_SIZE(passing); i++) {
		ask_error = -passing[i];
		a_second_later();
		expect("192.0.2.1");
	}
	g_assert_cmpint(n_asked, ==, 1 + ARRAY_SIZE(passing));
	resolver = (struct resolver){.path = path, .ask = ask, .arg = &now_ns};
	ask_error = -EPIPE;
	expect(LOOPBACK); /* it never was */
	tear_down();
}

/* The agent is not believed that it is a file. */
static void test_answers(void)
{
	static const int errors[] = {ENOENT, EACCES, ELOOP, EINVAL, EPERM};
	int pipe_fds[2];

	set_up_asking();
	expect_looking();
	answer(path);
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		a_second_later();
		expect_looking();
		resolver_take(&resolver, -errors[i], now_ns);
		expect(LOOPBACK);
		a_second_later();
		expect_looking();
		answer(path);
		expect("192.0.2.1");
	}
	a_second_later();
	expect_looking();
	answer(directory);
	expect(LOOPBACK);
	g_assert_cmpint(pipe2(pipe_fds, O_CLOEXEC), ==, 0);
	g_assert_cmpint(write(pipe_fds[1], "nameserver 192.0.2.3\n", 21), ==, 21);
	a_second_later();
	expect_looking();
	resolver_take(&resolver, pipe_fds[0], now_ns);
	expect(LOOPBACK);
	close(pipe_fds[1]);
	tear_down();
}

/* ---- who answers ---- */

static void say(const char *text, bool answered)
{
	struct in_addr v4;
	struct in6_addr v6;
	struct ip_addr addr;

	if (inet_pton(AF_INET, text, &v4) == 1)
		addr = ip_addr_of_v4(v4);
	else if (inet_pton(AF_INET6, text, &v6) == 1)
		addr = ip_addr_of_v6(&v6);
	else
		g_assert_not_reached();
	resolver_said(&resolver, &addr, answered, now_ns);
}

static void test_memory(void)
{
	struct host_nameserver servers[HOST_NAMESERVERS_MAX];

	set_up();
	put("nameserver 192.0.2.1\nnameserver 2001:db8::2\nnameserver 192.0.2.3\n");
	expect("192.0.2.1 2001:db8::2 192.0.2.3");
	say("192.0.2.1", false);
	expect("2001:db8::2 192.0.2.3 192.0.2.1");
	g_assert_cmpint(resolver_nameservers(&resolver, servers, now_ns), ==, 3);
	g_assert_cmpint(servers[0].position, ==, 1);
	g_assert_cmpint(servers[2].position, ==, 0);
	now_ns += 10 * NS_PER_SEC;
	say("2001:db8::2", false);
	expect("192.0.2.3 192.0.2.1 2001:db8::2");
	now_ns += 20 * NS_PER_SEC - 1;
	expect("192.0.2.3 192.0.2.1 2001:db8::2");
	now_ns += 1; /* 30 s after the first word */
	expect("192.0.2.1 192.0.2.3 2001:db8::2");
	say("2001:db8::2", true); /* it speaks */
	expect("192.0.2.1 2001:db8::2 192.0.2.3");
	say("192.0.2.1", false);
	say("2001:db8::2", false);
	say("192.0.2.3", false); /* all of them */
	expect("192.0.2.1 2001:db8::2 192.0.2.3");
	say("198.51.100.1", false); /* who is that? */
	expect("192.0.2.1 2001:db8::2 192.0.2.3");
	tear_down();
}

/* A new file is no reason to forget who does not answer. */
static void test_memory_and_changes(void)
{
	set_up();
	put("nameserver 192.0.2.1\nnameserver 192.0.2.2\n");
	expect("192.0.2.1 192.0.2.2");
	say("192.0.2.1", false);
	put("nameserver 192.0.2.3\nnameserver 192.0.2.1\nnameserver 192.0.2.22\n");
	a_second_later();
	expect("192.0.2.3 192.0.2.22 192.0.2.1");
	put("nameserver 192.0.2.1\nnameserver 192.0.2.3\n");
	a_second_later();
	expect("192.0.2.3 192.0.2.1");
	say("192.0.2.1", true);
	expect("192.0.2.1 192.0.2.3");
	tear_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/resolver/contents", test_contents);
	g_test_add_func("/resolver/longest-zone", test_longest_zone);
	g_test_add_func("/resolver/binary", test_binary);
	g_test_add_func("/resolver/huge", test_huge);
	g_test_add_func("/resolver/not-a-file", test_not_a_file);
	g_test_add_func("/resolver/once-a-second", test_once_a_second);
	g_test_add_func("/resolver/changes", test_changes);
	g_test_add_func("/resolver/no-trace", test_no_trace);
	g_test_add_func("/resolver/comes-back", test_comes_back);
	g_test_add_func("/resolver/no-descriptor-left", test_no_descriptor_left);
	g_test_add_func("/resolver/asks", test_asks);
	g_test_add_func("/resolver/no-answer", test_no_answer);
	g_test_add_func("/resolver/nobody-there", test_nobody_there);
	g_test_add_func("/resolver/answers", test_answers);
	g_test_add_func("/resolver/memory", test_memory);
	g_test_add_func("/resolver/memory-and-changes", test_memory_and_changes);
	return g_test_run();
}
