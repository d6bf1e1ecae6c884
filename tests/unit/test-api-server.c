/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real server on the real loop, with clients on a real socket in a folder made for the test.
 * Everything runs in this one thread: settle() turns the loop until nothing is ready any more, and
 * time jumps by firing the timers early.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/server.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "tests/support/fake-backend.h"

#define LIST       "{\"execute\":\"list_hostfwd\"}"
#define EMPTY_LIST "{\"entries\":[],\"return\":{\"entries\":[]}}"
#define BAD_JSON   "{\"error\":{\"desc\":\"bad request: cannot parse JSON\"}}"
#define NO_OBJECT  "{\"error\":{\"desc\":\"bad request: json_object() failed\"}}"
#define TOO_LARGE  "{\"error\":{\"desc\":\"bad request: too large message\"}}"

struct fixture {
	char *folder;
	char *path;
	struct loop loop;
	struct counters counters;
	struct fake_backend fake;
	struct api_context context;
	struct api_server *server;
	unsigned int n_listener_events;
	int n_fds;
};

static int count_fds(void)
{
	GDir *dir = g_dir_open("/proc/self/fd", 0, NULL);
	int n = 0;

	g_assert_nonnull(dir);
	while (g_dir_read_name(dir))
		n++;
	g_dir_close(dir);
	return n;
}

static void dispatch(void *owner, struct handle handle, uint32_t events)
{
	struct fixture *f = owner;

	if (handle.kind == HANDLE_API_LISTENER) {
		f->n_listener_events++;
		api_server_accept(f->server);
	} else {
		g_assert_cmpint(handle.kind, ==, HANDLE_API_CLIENT);
		api_server_client_ready(f->server, handle, events);
	}
}

/* Until nothing is ready. That this ends shows that no state of a descriptor makes it spin. */
static void settle(struct fixture *f)
{
	int n, n_turns = 0;

	do {
		n = loop_turn(&f->loop, 0, dispatch, f);
		g_assert_cmpint(n, >=, 0);
		g_assert_cmpint(n_turns++, <, 20000);
	} while (n > 0);
}

static void jump(struct fixture *f, int64_t by_ns)
{
	timer_heap_expire(&f->loop.timers, f->loop.now_ns + by_ns);
	settle(f);
}

static void make_folder(struct fixture *f, gconstpointer unused)
{
	f->n_fds = count_fds();
	f->folder = g_dir_make_tmp("test-api-XXXXXX", NULL);
	g_assert_nonnull(f->folder);
	f->path = g_build_filename(f->folder, "socket", NULL);
}

static void start(struct fixture *f)
{
	g_assert_cmpint(loop_init(&f->loop), ==, 0);
	f->fake.base.ops = &fake_backend_ops;
	f->context.forward = forward_new(&f->fake.base);
	f->context.counters = &f->counters;
	inet_pton(AF_INET, "10.0.2.100", &f->context.guest);
	g_assert_cmpint(api_server_start(f->server, &f->loop, &f->context), ==, 0);
}

static void set_up(struct fixture *f, gconstpointer unused)
{
	make_folder(f, NULL);
	g_assert_cmpint(api_server_open(&f->server, f->path), ==, 0);
	start(f);
}

/* Nothing stays behind: no name, no timer, no descriptor. */
static void tear_down(struct fixture *f, gconstpointer unused)
{
	api_server_free(f->server);
	g_assert_cmpint(access(f->path, F_OK), ==, -1);
	if (f->context.forward) {
		g_assert_null(f->loop.timers.root);
		forward_free(f->context.forward);
		loop_done(&f->loop);
	}
	g_assert_cmpint(rmdir(f->folder), ==, 0);
	g_assert_cmpint(count_fds(), ==, f->n_fds);
	g_free(f->path);
	g_free(f->folder);
}

static int bind_or_connect(const char *path, int type,
	int (*call)(int, const struct sockaddr *, socklen_t), int *ret_error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpuint(g_strlcpy(address.sun_path, path, sizeof(address.sun_path)), <,
		sizeof(address.sun_path));
	*ret_error = call(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? errno : 0;
	return fd;
}

static int plug(struct fixture *f)
{
	int error, fd = bind_or_connect(f->path, SOCK_STREAM, connect, &error);

	g_assert_cmpint(error, ==, 0);
	return fd;
}

static void say_bytes(int fd, const char *bytes, size_t len)
{
	g_assert_cmpint(send(fd, bytes, len, MSG_NOSIGNAL), ==, len);
}

static void say(int fd, const char *text)
{
	say_bytes(fd, text, strlen(text));
}

static void assert_open(int fd)
{
	char c;

	g_assert_cmpint(recv(fd, &c, 1, MSG_PEEK), ==, -1);
	g_assert_cmpint(errno, ==, EAGAIN);
}

/* The connection ended with this reply (in one piece) and the end of the file, no reset. */
static void assert_reply(int fd, const char *expected)
{
	char reply[2048];
	ssize_t n = recv(fd, reply, sizeof(reply) - 1, 0);

	g_assert_cmpint(n, >=, 0);
	reply[n] = '\0';
	g_assert_cmpstr(reply, ==, expected);
	g_assert_cmpint(recv(fd, reply, 1, 0), ==, 0);
	close(fd);
}

static uint64_t counted(const struct fixture *f, enum counter which)
{
	return f->counters.value[which];
}

static void plug_many(struct fixture *f, int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		fds[i] = plug(f);
		settle(f);
	}
}

static void close_many(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

/* Opening. */

static void test_mode(struct fixture *f, gconstpointer unused)
{
	mode_t old = umask(0);
	struct stat st;

	g_assert_cmpint(api_server_open(&f->server, f->path), ==, 0);
	umask(old);
	g_assert_cmpint(lstat(f->path, &st), ==, 0);
	g_assert_true(S_ISSOCK(st.st_mode));
	g_assert_cmpuint(st.st_mode & 07777, ==, 0600);
	g_assert_cmpint(fcntl(api_server_folder(f->server), F_GETFL) & O_PATH, ==, O_PATH);
	g_assert_cmpint(api_server_folder(NULL), ==, -1);
}

static void test_bad_paths(struct fixture *f, gconstpointer unused)
{
	g_autofree char *in_missing = g_build_filename(f->folder, "missing", "socket", NULL);
	g_autofree char *slash = g_strconcat(f->folder, "/", NULL);
	char longest[110];

	memset(longest, 'x', sizeof(longest));
	longest[108] = '\0';
	g_assert_cmpint(api_server_open(&f->server, longest), ==, -ENAMETOOLONG);
	g_assert_cmpint(api_server_open(&f->server, ""), ==, -ENOENT);
	g_assert_cmpint(api_server_open(&f->server, in_missing), ==, -ENOENT);
	g_assert_cmpint(api_server_open(&f->server, slash), ==, -EISDIR);
	g_assert_cmpint(api_server_open(&f->server, f->folder), ==, -EEXIST);
	g_assert_cmpint(api_server_open(&f->server, "/proc/socket"), <, 0);
	g_assert_null(f->server);
}

/* 107 bytes are possible; a relative path counts from the working folder. */
static void test_long_relative_path(struct fixture *f, gconstpointer unused)
{
	g_autofree char *cwd = g_get_current_dir();
	char name[108];

	memset(name, 'x', sizeof(name));
	name[107] = '\0';
	g_assert_cmpint(chdir(f->folder), ==, 0);
	g_assert_cmpint(api_server_open(&f->server, name), ==, 0);
	g_assert_cmpint(access(name, F_OK), ==, 0);
	g_assert_cmpint(chdir("/"), ==, 0);
	api_server_free(f->server);
	f->server = NULL;
	/* tear_down() finds the folder empty. */
	g_assert_cmpint(chdir(cwd), ==, 0);
}

static void test_stale_socket(struct fixture *f, gconstpointer unused)
{
	int error, stale = bind_or_connect(f->path, SOCK_STREAM, bind, &error);

	g_assert_cmpint(error, ==, 0);
	close(stale);
	g_assert_cmpint(access(f->path, F_OK), ==, 0);
	g_assert_cmpint(api_server_open(&f->server, f->path), ==, 0);
	start(f);
	stale = plug(f);
	say(stale, LIST);
	settle(f);
	assert_reply(stale, EMPTY_LIST);
}

/* Also one whose backlog is full, or that is of another type. */
static void test_live_socket(struct fixture *f, gconstpointer unused)
{
	int error, live = bind_or_connect(f->path, SOCK_STREAM, bind, &error);

	g_assert_cmpint(error, ==, 0);
	g_assert_cmpint(listen(live, 0), ==, 0);
	g_assert_cmpint(api_server_open(&f->server, f->path), ==, -EADDRINUSE);
	/* The first attempt fills the backlog. */
	g_assert_cmpint(api_server_open(&f->server, f->path), ==, -EADDRINUSE);
	g_assert_cmpint(access(f->path, F_OK), ==, 0);
	close(live);
	g_assert_cmpint(unlink(f->path), ==, 0);

	live = bind_or_connect(f->path, SOCK_DGRAM, bind, &error);
	g_assert_cmpint(error, ==, 0);
	g_assert_cmpint(api_server_open(&f->server, f->path), ==, -EADDRINUSE);
	close(live);
	g_assert_cmpint(unlink(f->path), ==, 0);
}

/* One that ends while we wait for the path: here when it has seen us. */
static void test_predecessor(struct fixture *f, gconstpointer unused)
{
	int error, live = bind_or_connect(f->path, SOCK_STREAM, bind, &error);
	pid_t pid;

	g_assert_cmpint(error, ==, 0);
	g_assert_cmpint(listen(live, 8), ==, 0);
	pid = fork();
	g_assert_cmpint(pid, >=, 0);
	if (pid == 0) {
		struct pollfd p = {.fd = live, .events = POLLIN};

		_exit(poll(&p, 1, -1) == 1 ? 0 : 1);
	}
	close(live);
	g_assert_cmpint(api_server_open(&f->server, f->path), ==, 0);
	g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
	start(f);
	live = plug(f);
	say(live, LIST);
	settle(f);
	assert_reply(live, EMPTY_LIST);
}

static void test_no_socket(struct fixture *f, gconstpointer unused)
{
	g_autofree char *content = NULL;

	g_assert_true(g_file_set_contents(f->path, "mine", -1, NULL));
	g_assert_cmpint(api_server_open(&f->server, f->path), ==, -EEXIST);
	g_assert_true(g_file_get_contents(f->path, &content, NULL, NULL));
	g_assert_cmpstr(content, ==, "mine");
	g_assert_cmpint(unlink(f->path), ==, 0);

	g_assert_cmpint(symlink("nowhere", f->path), ==, 0);
	g_assert_cmpint(api_server_open(&f->server, f->path), ==, -EEXIST);
	g_assert_cmpint(unlink(f->path), ==, 0);
}

/* A successor's socket at the same path is not unlinked. */
static void test_unlinks_only_own(struct fixture *f, gconstpointer unused)
{
	struct api_server *successor = NULL;

	g_assert_cmpint(unlink(f->path), ==, 0);
	g_assert_cmpint(api_server_open(&successor, f->path), ==, 0);
	api_server_free(f->server);
	f->server = NULL;
	g_assert_cmpint(access(f->path, F_OK), ==, 0);
	api_server_free(successor);
	g_assert_cmpint(access(f->path, F_OK), ==, -1);
}

/* As behind pivot_root: the path does not lead there any more, the folder's descriptor does. */
static void test_unlinks_in_moved_folder(struct fixture *f, gconstpointer unused)
{
	g_autofree char *moved = g_strconcat(f->folder, "-moved", NULL);
	g_autofree char *path = g_build_filename(moved, "socket", NULL);

	g_assert_cmpint(rename(f->folder, moved), ==, 0);
	g_assert_cmpint(access(path, F_OK), ==, 0);
	api_server_free(f->server);
	f->server = NULL;
	g_assert_cmpint(access(path, F_OK), ==, -1);
	g_assert_cmpint(rename(moved, f->folder), ==, 0);
}

/* Requests. */

static void test_one_request(struct fixture *f, gconstpointer unused)
{
	int fd = plug(f);

	say(fd,
		"{\"execute\":\"add_hostfwd\",\"arguments\":{\"proto\":\"tcp\","
		"\"host_port\":8080,\"guest_port\":80}}\n");
	settle(f);
	assert_reply(fd, "{\"return\":{\"id\":1}}");
	fd = plug(f);
	say(fd, "{\"execute\":\"remove_hostfwd\",\"arguments\":{\"id\":1}}");
	g_assert_cmpint(shutdown(fd, SHUT_WR), ==, 0);
	settle(f);
	assert_reply(fd, "{\"return\":{}}");
}

static void test_split_writes(struct fixture *f, gconstpointer unused)
{
	for (size_t cut = 1; cut < strlen(LIST); cut++) {
		int fd = plug(f);

		say_bytes(fd, LIST, cut);
		settle(f);
		assert_open(fd);
		say(fd, &LIST[cut]);
		settle(f);
		assert_reply(fd, EMPTY_LIST);
	}
}

/* As slow as may be, with others served in between. */
static void test_byte_at_a_time(struct fixture *f, gconstpointer unused)
{
	int slow = plug(f);

	for (size_t i = 0; i < strlen(LIST); i++) {
		int fd = plug(f);

		assert_open(slow);
		say_bytes(slow, &LIST[i], 1);
		say(fd, "{}");
		settle(f);
		assert_reply(fd, "{\"error\":{\"desc\":\"bad request: no execute found\"}}");
	}
	assert_reply(slow, EMPTY_LIST);
}

static void test_end_of_file(struct fixture *f, gconstpointer unused)
{
	static const struct {
		const char *text, *reply;
	} cases[] = {{"", BAD_JSON}, {" ", BAD_JSON}, {"{\"execute\"", BAD_JSON},
		{"null", NO_OBJECT}, {"7", NO_OBJECT}, {"bad", BAD_JSON}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = plug(f);

		if (*cases[i].text)
			say(fd, cases[i].text);
		g_assert_cmpint(shutdown(fd, SHUT_WR), ==, 0);
		settle(f);
		assert_reply(fd, cases[i].reply);
	}
}

/* Complete at white space, or after a second of silence. */
static void test_scalar(struct fixture *f, gconstpointer unused)
{
	int fd = plug(f);

	say(fd, "badjson\n");
	settle(f);
	assert_reply(fd, BAD_JSON);

	fd = plug(f);
	say(fd, "12");
	settle(f);
	jump(f, API_SCALAR_NS / 2);
	assert_open(fd);
	say(fd, "3");
	settle(f);
	jump(f, API_SCALAR_NS);
	assert_reply(fd, NO_OBJECT);
	g_assert_cmpuint(counted(f, COUNTER_API_EVICTED), ==, 0);
}

/* More than a socket holds: in pieces, until all is sent or the server has ended it. */
static void pour(struct fixture *f, int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EPIPE)
			return;
		if (n < 0) {
			g_assert_cmpint(errno, ==, EAGAIN);
			n = 0;
		}
		bytes += n;
		len -= (size_t)n;
		settle(f);
	}
}

static void test_limit(struct fixture *f, gconstpointer unused)
{
	size_t size = 2 * API_REQUEST_MAX;
	g_autofree char *text = g_malloc(size);
	int fd;

	/* 1 MiB with the last bracket. */
	memset(text, ' ', size);
	memcpy(text + API_REQUEST_MAX - strlen(LIST), LIST, strlen(LIST));
	fd = plug(f);
	pour(f, fd, text, API_REQUEST_MAX - 1);
	assert_open(fd);
	say_bytes(fd, text + API_REQUEST_MAX - 1, 1);
	settle(f);
	assert_reply(fd, EMPTY_LIST);

	/* One more; and nothing of a value. */
	memset(text, ' ', size);
	memcpy(text + API_REQUEST_MAX + 1 - strlen(LIST), LIST, strlen(LIST));
	fd = plug(f);
	pour(f, fd, text, API_REQUEST_MAX + 1);
	assert_reply(fd, TOO_LARGE);
	memset(text, 0, size);
	fd = plug(f);
	pour(f, fd, text, size);
	assert_reply(fd, TOO_LARGE);

	/* What is behind the value does not count, however it is cut. */
	memset(text, '}', size);
	memcpy(text, LIST, strlen(LIST));
	fd = plug(f);
	pour(f, fd, text, size);
	assert_reply(fd, EMPTY_LIST);
	g_assert_cmpuint(counted(f, COUNTER_API_ERRORS), ==, 2);
}

/* Nobody waits for the end of it. */
static void test_nesting_bomb(struct fixture *f, gconstpointer unused)
{
	char text[4096];
	int fd = plug(f);

	memset(text, '[', sizeof(text));
	say_bytes(fd, text, sizeof(text));
	settle(f);
	assert_reply(fd, BAD_JSON);
}

/* Many large requests that do not become complete: the oldest make room. */
static void test_unread_limit(struct fixture *f, gconstpointer unused)
{
	enum { N = API_UNREAD_MAX / API_REQUEST_MAX + 4 };
	g_autofree char *text = g_malloc(API_REQUEST_MAX);
	int fds[N], small = plug(f);

	say(small, "{");
	settle(f);
	memset(text, ' ', API_REQUEST_MAX);
	for (int i = 0; i < N; i++) {
		fds[i] = plug(f);
		pour(f, fds[i], text, API_REQUEST_MAX);
	}
	g_assert_cmpuint(counted(f, COUNTER_API_EVICTED), >=, 4);
	g_assert_cmpuint(counted(f, COUNTER_API_EVICTED), <, 8);
	/* The last, and one that needs little, are not among them. */
	assert_open(fds[N - 1]);
	assert_open(small);
	close_many(fds, N);
	close(small);
	settle(f);
}

/* Several requests on a connection. */

/* The last one of a connection that is kept open. */
#define LAST_LIST     "{\"execute\":\"list_hostfwd\",\"keep_open\":false}"
#define KEPT(execute) "{\"execute\":\"" execute "\",\"keep_open\":true}"
#define UNKNOWN       "{\"error\":{\"desc\":\"bad request: unknown execute\"}}"

/* It sent just this. */
static void assert_said(int fd, const char *expected)
{
	char reply[2048];
	ssize_t n = recv(fd, reply, sizeof(reply) - 1, 0);

	g_assert_cmpint(n, >=, 0);
	reply[n] = '\0';
	g_assert_cmpstr(reply, ==, expected);
}

static void test_keep_open(struct fixture *f, gconstpointer unused)
{
	int fd = plug(f);

	for (int i = 0; i < 3; i++) {
		say(fd, KEPT("list_hostfwd"));
		settle(f);
		assert_said(fd, EMPTY_LIST "\n");
		assert_open(fd);
	}
	say(fd, KEPT("bad") "\n\n");
	settle(f);
	assert_said(fd, UNKNOWN "\n");
	assert_open(fd);
	/* It need not be said again. */
	say(fd, LIST);
	settle(f);
	assert_said(fd, EMPTY_LIST "\n");
	assert_open(fd);
	say(fd, LAST_LIST);
	settle(f);
	assert_reply(fd, EMPTY_LIST "\n");

	fd = plug(f);
	say(fd, KEPT("bad"));
	settle(f);
	assert_said(fd, UNKNOWN "\n");
	say(fd, "{]");
	settle(f);
	assert_reply(fd, BAD_JSON "\n");
}

/* Its end between requests is no request; within one it is. */
static void test_keep_open_ends(struct fixture *f, gconstpointer unused)
{
	static const struct {
		const char *rest, *reply;
	} cases[] = {{"", ""}, {"\n \n", ""}, {"{", BAD_JSON "\n"}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = plug(f);

		say(fd, KEPT("bad"));
		settle(f);
		assert_said(fd, UNKNOWN "\n");
		if (*cases[i].rest)
			say(fd, cases[i].rest);
		g_assert_cmpint(shutdown(fd, SHUT_WR), ==, 0);
		settle(f);
		if (*cases[i].reply)
			assert_said(fd, cases[i].reply);
		g_assert_cmpint(recv(fd, &(char){0}, 1, 0), ==, 0);
		close(fd);
	}
	g_assert_cmpuint(counted(f, COUNTER_API_EVICTED), ==, 0);
}

/* However much white space is between two requests. */
static void test_keep_open_space(struct fixture *f, gconstpointer unused)
{
	g_autofree char *text = g_malloc(API_REQUEST_MAX);
	int fd = plug(f);

	memset(text, '\n', API_REQUEST_MAX);
	say(fd, KEPT("bad"));
	settle(f);
	assert_said(fd, UNKNOWN "\n");
	for (int i = 0; i < 3; i++)
		pour(f, fd, text, API_REQUEST_MAX);
	say(fd, LAST_LIST);
	settle(f);
	assert_reply(fd, EMPTY_LIST "\n");
}

static void test_keep_open_idle(struct fixture *f, gconstpointer unused)
{
	int fd = plug(f);

	say(fd, KEPT("bad"));
	settle(f);
	assert_said(fd, UNKNOWN "\n");
	jump(f, API_IDLE_NS / 2);
	assert_open(fd);
	say(fd, KEPT("bad"));
	settle(f);
	assert_said(fd, UNKNOWN "\n");
	jump(f, API_IDLE_NS / 2);
	assert_open(fd);
	jump(f, API_IDLE_NS);
	g_assert_cmpint(recv(fd, &(char){0}, 1, 0), ==, 0);
	close(fd);
}

/* All at once, more than one piece of them; another client comes in between. */
static void test_pipelined(struct fixture *f, gconstpointer unused)
{
	g_autoptr(GString) asked = g_string_new(NULL), expected = g_string_new(NULL);
	g_autofree char *got = NULL;
	int fd = plug(f), other;
	size_t len = 0;

	for (int i = 0; i < 1000; i++) {
		g_string_append(asked, KEPT("bad"));
		if (i % 3 == 0)
			g_string_append(asked, " \n");
		g_string_append(expected, UNKNOWN "\n");
	}
	g_string_append(asked, LAST_LIST "junk");
	g_string_append(expected, EMPTY_LIST "\n");
	say_bytes(fd, asked->str, asked->len);
	other = plug(f);
	say(other, LIST);
	for (int i = 0; i < 8; i++)
		g_assert_cmpint(loop_turn(&f->loop, 0, dispatch, f), >, 0);
	assert_reply(other, EMPTY_LIST);
	got = g_malloc0(expected->len + 1);
	for (ssize_t n = -1; n != 0;) {
		settle(f);
		n = recv(fd, got + len, expected->len - len, 0);
		if (n > 0)
			len += (size_t)n;
		if (len == expected->len)
			break;
	}
	g_assert_cmpstr(got, ==, expected->str);
	g_assert_cmpint(recv(fd, got, 1, 0), ==, 0);
	close(fd);
}

/* Cut anywhere, two requests are two. */
static void test_pipelined_split(struct fixture *f, gconstpointer unused)
{
	static const char two[] = KEPT("bad") "\n" LAST_LIST;

	for (size_t cut = 1; cut < strlen(two); cut++) {
		int fd = plug(f);

		say_bytes(fd, two, cut);
		settle(f);
		say(fd, two + cut);
		settle(f);
		assert_reply(fd, UNKNOWN "\n" EMPTY_LIST "\n");
	}
}

/* Descriptors. */

/* `n` times `fd`, with `text`. */
static void pass(int to, const char *text, int fd, size_t n)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(64 * sizeof(int))];
	} control = {0};
	struct iovec piece = {(void *)(uintptr_t)text, strlen(text)};
	struct msghdr message = {.msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(n * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	for (size_t i = 0; i < n; i++)
		memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(int));
	g_assert_cmpint(sendmsg(to, &message, MSG_NOSIGNAL), ==, strlen(text));
}

static int make_listener(void)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
	g_assert_cmpint(listen(fd, 1), ==, 0);
	return fd;
}

#define FROM_FD(i, more)                                                               \
	"{\"execute\":\"add_hostfwd\",\"arguments\":{\"proto\":\"tcp\",\"host_fd\":" i \
	",\"guest_port\":80}" more "}"

static void test_descriptor(struct fixture *f, gconstpointer unused)
{
	int fd = plug(f), listener = make_listener(), n_fds = count_fds();

	pass(fd, FROM_FD("1", ""), listener, 2);
	settle(f);
	assert_reply(fd, "{\"return\":{\"id\":1}}");
	g_assert_cmpint(f->fake.last.source, ==, FORWARD_FROM_FD);
	/* The server's end and the client's are gone, and all copies. */
	settle(f);
	g_assert_cmpint(count_fds(), ==, n_fds - 1);
	close(listener);
}

/* With the first of two pieces. */
static void test_descriptor_early(struct fixture *f, gconstpointer unused)
{
	int fd = plug(f), listener = make_listener();

	pass(fd, "{", listener, 1);
	settle(f);
	say(fd, &FROM_FD("0", "")[1]);
	settle(f);
	assert_reply(fd, "{\"return\":{\"id\":1}}");
	close(listener);
}

static void test_descriptor_pipelined(struct fixture *f, gconstpointer unused)
{
	int fd = plug(f), listener = make_listener();

	say(fd, KEPT("bad"));
	pass(fd, FROM_FD("0", ",\"keep_open\":true") "\n", listener, 1);
	settle(f);
	assert_said(fd, UNKNOWN "\n{\"return\":{\"id\":1}}\n");
	/* It was that request's. */
	say(fd, FROM_FD("0", ""));
	settle(f);
	assert_said(fd,
		"{\"error\":{\"desc\":\"bad request: add_hostfwd: bad arguments.host_fd\","
		"\"field\":\"host_fd\",\"message\":\"host_fd: it is the index, from 0, of a "
		"descriptor that came with the request\"}}\n");
	close(fd);
	close(listener);
}

#define TOO_MANY                                                                           \
	"{\"error\":{\"desc\":\"bad request: too many descriptors\",\"field\":\"host_fd\"" \
	",\"errno\":\"EMFILE\",\"message\":\"host_fd: Too many open files\"}}"

static void test_descriptors_limit(struct fixture *f, gconstpointer unused)
{
	int n_fds = count_fds(), fd = plug(f);

	pass(fd, LIST, fd, API_FDS_MAX);
	settle(f);
	assert_reply(fd, EMPTY_LIST);
	fd = plug(f);
	pass(fd, LIST, fd, API_FDS_MAX + 1);
	settle(f);
	assert_reply(fd, TOO_MANY);
	fd = plug(f);
	pass(fd, " ", fd, API_FDS_MAX);
	settle(f);
	assert_open(fd);
	pass(fd, LIST, fd, 1);
	settle(f);
	assert_reply(fd, TOO_MANY);
	settle(f);
	g_assert_cmpint(count_fds(), ==, n_fds);
}

/* Clients that hold descriptors and ask for nothing: the oldest make room. */
static void test_descriptors_total(struct fixture *f, gconstpointer unused)
{
	enum { N = API_UNUSED_FDS_MAX / API_FDS_MAX + 2 };
	int fds[N], without = plug(f), n_fds;

	settle(f);
	n_fds = count_fds();
	for (int i = 0; i < N; i++) {
		fds[i] = plug(f);
		pass(fds[i], "{", STDERR_FILENO, API_FDS_MAX);
		settle(f);
	}
	g_assert_cmpuint(counted(f, COUNTER_API_EVICTED), ==, 2);
	g_assert_cmpint(recv(fds[1], &(char){0}, 1, 0), ==, 0);
	assert_open(fds[2]);
	assert_open(without);
	g_assert_cmpint(count_fds(), ==, n_fds + N + (N - 2) + API_UNUSED_FDS_MAX);
	close_many(fds, N);
	close(without);
	settle(f);
}

/* As much as the socket holds beyond the request: the reply ends with EOF, not with ECONNRESET. */
static void test_unread_input(struct fixture *f, gconstpointer unused)
{
	g_autofree char *zeros = g_malloc0(1 << 20);
	int fd = plug(f);

	say(fd, "{]");
	g_assert_cmpint(send(fd, zeros, 1 << 20, MSG_NOSIGNAL), >, 40000);
	settle(f);
	assert_reply(fd, BAD_JSON);
}

static void test_gone_client(struct fixture *f, gconstpointer unused)
{
	int fd = plug(f);

	say(fd, LIST);
	close(fd);
	fd = plug(f);
	say(fd, "{\"exec");
	close(fd);
	close(plug(f));
	settle(f);
	fd = plug(f);
	say(fd, LIST);
	settle(f);
	assert_reply(fd, EMPTY_LIST);
}

/* A copy of a client's descriptor, as a fork has it, does not stay in the loop. */
static void test_unwatched(struct fixture *f, gconstpointer unused)
{
	int fd = plug(f), accepted = dup(fd), copy;

	close(accepted); /* the lowest that is free, so the server's is the same */
	settle(f);
	copy = dup(accepted);
	g_assert_cmpint(copy, >=, 0);
	say(fd, LIST);
	settle(f);
	assert_reply(fd, EMPTY_LIST);
	close(copy);
}

/* Many clients. */

static void test_silent_clients(struct fixture *f, gconstpointer unused)
{
	int fds[API_CLIENTS_MAX], fd;

	plug_many(f, fds, API_CLIENTS_MAX);
	/* The first one speaks up, so the second is the most silent. */
	say(fds[0], "{");
	settle(f);
	fd = plug(f);
	say(fd, LIST);
	settle(f);
	assert_reply(fd, EMPTY_LIST);
	g_assert_cmpuint(counted(f, COUNTER_API_EVICTED), ==, 1);
	assert_open(fds[0]);
	g_assert_cmpint(recv(fds[1], &(char){0}, 1, 0), ==, 0);
	assert_open(fds[2]);

	jump(f, API_IDLE_NS);
	g_assert_cmpuint(counted(f, COUNTER_API_EVICTED), ==, API_CLIENTS_MAX);
	for (size_t i = 0; i < API_CLIENTS_MAX; i++)
		g_assert_cmpint(recv(fds[i], &(char){0}, 1, 0), ==, 0);
	close_many(fds, API_CLIENTS_MAX);
}

/* More at once than one turn accepts and, where the backlog can be so long, the table has places.
 */
static void test_burst(struct fixture *f, gconstpointer unused)
{
	g_autofree char *somaxconn = NULL;
	int fds[2 * API_CLIENTS_MAX];
	size_t n;

	g_assert_true(g_file_get_contents("/proc/sys/net/core/somaxconn", &somaxconn, NULL, NULL));
	n = MIN(ARRAY_SIZE(fds), (size_t)atoi(somaxconn));
	for (size_t i = 0; i < n; i++) {
		fds[i] = plug(f);
		say(fds[i], LIST);
	}
	settle(f);
	for (size_t i = 0; i < n; i++)
		assert_reply(fds[i], EMPTY_LIST);
	g_assert_cmpuint(counted(f, COUNTER_API_EVICTED), ==, 0);
	g_assert_cmpuint(counted(f, COUNTER_API_REQUESTS), ==, n);
}

static void add_rules(struct fixture *f, unsigned int n);

/* A reply longer than the socket's buffer, to a client that reads late, or never. */
static void test_never_reads(struct fixture *f, gconstpointer unused)
{
	g_autofree char *reply = g_malloc(8 << 20);
	int late, never, fd;
	size_t len = 0;
	ssize_t n;

	add_rules(f, 10000);
	late = plug(f);
	never = plug(f);
	say(late, LIST);
	say(never, LIST);
	settle(f);
	fd = plug(f);
	say(fd, "{}");
	settle(f);
	assert_reply(fd, "{\"error\":{\"desc\":\"bad request: no execute found\"}}");
	while ((n = recv(late, reply + len, (8 << 20) - len, 0)) != 0) {
		if (n > 0)
			len += (size_t)n;
		else
			g_assert_cmpint(errno, ==, EAGAIN);
		settle(f);
	}
	g_assert_cmpuint(len, >, 2 * 10000 * 80);
	g_assert_true(g_str_has_prefix(reply, "{\"entries\":[{\"id\":1,\"proto\":\"tcp\","));
	g_assert_cmpint(memcmp(reply + len - 4, "}]}}", 4), ==, 0);
	jump(f, API_IDLE_NS / 2);
	g_assert_cmpuint(counted(f, COUNTER_API_EVICTED), ==, 0);
	jump(f, API_IDLE_NS);
	g_assert_cmpuint(counted(f, COUNTER_API_EVICTED), ==, 1);
	close(late);
	close(never);
}

static void add_rules(struct fixture *f, unsigned int n)
{
	struct forward_spec *specs = g_new0(struct forward_spec, n);
	struct forward_failure failure;
	uint64_t id;

	for (unsigned int i = 0; i < n; i++)
		specs[i] = (struct forward_spec){.proto = i & 1 ? FORWARD_UDP : FORWARD_TCP,
			.host_addr.family = AF_INET,
			.host_fd = -1,
			.n_ports = 1,
			.host_port = (uint16_t)(i / 2 + 1),
			.guest_port = 65535};
	g_assert_cmpint(
		forward_add(f->context.forward, specs, n, LOG_LEVEL_WARNING, &id, &failure), ==, 0);
	g_free(specs);
}

/* Replies that nobody takes are bounded: the oldest make room. */
static void test_unsent_limit(struct fixture *f, gconstpointer unused)
{
	int fds[7];

	add_rules(f, FORWARD_RULES_MAX); /* 30 MB the list, of which a socket holds little */
	plug_many(f, fds, ARRAY_SIZE(fds));
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		say(fds[i], LIST);
		settle(f);
	}
	g_assert_cmpuint(counted(f, COUNTER_API_EVICTED), >=, 2);
	g_assert_cmpuint(counted(f, COUNTER_API_EVICTED), <, ARRAY_SIZE(fds) - 1);
	close_many(fds, ARRAY_SIZE(fds));
	settle(f);
}

/* Events of a client that is gone already, as one turn may fetch them, do not hang up another. */
static void test_stale_events(struct fixture *f, gconstpointer unused)
{
	int fd;

	close(plug(f));
	settle(f);
	fd = plug(f);
	settle(f);
	shutdown(fd, SHUT_WR);
	for (uint32_t generation = 2; generation < 4; generation++)
		api_server_client_ready(
			f->server, (struct handle){HANDLE_API_CLIENT, generation, 0}, EPOLLIN);
	api_server_client_ready(f->server, (struct handle){HANDLE_API_CLIENT, 0, 0}, EPOLLIN);
	api_server_client_ready(
		f->server, (struct handle){HANDLE_API_CLIENT, 0, API_CLIENTS_MAX}, EPOLLIN);
	api_server_client_ready(f->server, (struct handle){HANDLE_API_CLIENT, 0, 1}, EPOLLIN);
	assert_open(fd);
	api_server_client_ready(f->server, (struct handle){HANDLE_API_CLIENT, 1, 0}, EPOLLIN);
	assert_reply(fd, BAD_JSON);
}

/* From now on `fd` is the last descriptor that this process can have. */
static struct rlimit tighten_limit(int fd)
{
	struct rlimit old, tight;

	g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
	tight = old;
	tight.rlim_cur = (rlim_t)fd + 1;
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &tight), ==, 0);
	return old;
}

/* As many silent clients as there are descriptors in reserve; they take them when they are accepted
 * under a tight limit. */
static void plug_reserve(struct fixture *f, int fds[8])
{
	for (int i = 0; i < 8; i++)
		fds[i] = plug(f);
}

/* No descriptor for a client: the listener rests, and no turn is spent on it. */
static void test_no_descriptors(struct fixture *f, gconstpointer unused)
{
	int fds[2] = {plug(f), plug(f)}, others[8], fd;
	struct rlimit old;
	unsigned int n_events;

	settle(f);
	plug_reserve(f, others);
	fd = plug(f);
	say(fd, LIST);
	old = tighten_limit(fd);
	settle(f);
	n_events = f->n_listener_events;
	settle(f);
	g_assert_cmpuint(f->n_listener_events, ==, n_events);
	assert_open(fd);

	/* A client that goes makes the place. */
	say(fds[0], "{}");
	settle(f);
	assert_reply(fd, EMPTY_LIST);
	g_assert_cmpuint(counted(f, COUNTER_API_EVICTED), ==, 0);
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
	close_many(fds, ARRAY_SIZE(fds));
	close_many(others, ARRAY_SIZE(others));
}

/* None goes: after a second the most silent one does. */
static void test_no_descriptors_evicts(struct fixture *f, gconstpointer unused)
{
	int silent = plug(f), others[8], fd;
	struct rlimit old;

	settle(f);
	plug_reserve(f, others);
	fd = plug(f);
	say(fd, LIST);
	old = tighten_limit(fd);
	settle(f);
	assert_open(silent);
	jump(f, NS_PER_SEC);
	g_assert_cmpint(recv(silent, &(char){0}, 1, 0), ==, 0);
	assert_reply(fd, EMPTY_LIST);
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
	close(silent);
	close_many(others, ARRAY_SIZE(others));
}

/* The container has used up all descriptors: clients are served all the same, one after another
 * and for ever. */
static void test_reserve(struct fixture *f, gconstpointer unused)
{
	int fds[20];
	struct rlimit old;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = plug(f);
	old = tighten_limit(fds[ARRAY_SIZE(fds) - 1]);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		say(fds[i], LIST);
		settle(f);
		assert_reply(fds[i], EMPTY_LIST);
	}
	g_assert_cmpuint(counted(f, COUNTER_API_EVICTED), ==, 0);
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
}

static void test_free_with_clients(struct fixture *f, gconstpointer unused)
{
	int fds[3];

	plug_many(f, fds, 2);
	fds[2] = plug(f); /* not yet accepted */
	say(fds[0], "{");
	api_server_free(f->server);
	f->server = NULL;
	g_assert_cmpint(recv(fds[1], &(char){0}, 1, 0), ==, 0);
	close_many(fds, ARRAY_SIZE(fds));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	/* Errors are wanted here, and would only hide others in the output. */
	log_init("test-api-server", (enum log_level) - 1);
#define OPEN(name, function) \
	g_test_add("/api-server/" name, struct fixture, NULL, make_folder, function, tear_down)
#define TEST(name, function) \
	g_test_add("/api-server/" name, struct fixture, NULL, set_up, function, tear_down)
	OPEN("mode", test_mode);
	OPEN("bad-paths", test_bad_paths);
	OPEN("long-relative-path", test_long_relative_path);
	OPEN("stale-socket", test_stale_socket);
	OPEN("live-socket", test_live_socket);
	OPEN("predecessor", test_predecessor);
	OPEN("no-socket", test_no_socket);
	TEST("unlinks-only-own", test_unlinks_only_own);
	TEST("unlinks-in-moved-folder", test_unlinks_in_moved_folder);
	TEST("one-request", test_one_request);
	TEST("split-writes", test_split_writes);
	TEST("byte-at-a-time", test_byte_at_a_time);
	TEST("end-of-file", test_end_of_file);
	TEST("scalar", test_scalar);
	TEST("limit", test_limit);
	TEST("nesting-bomb", test_nesting_bomb);
	TEST("unread-limit", test_unread_limit);
	TEST("keep-open", test_keep_open);
	TEST("keep-open-ends", test_keep_open_ends);
	TEST("keep-open-space", test_keep_open_space);
	TEST("keep-open-idle", test_keep_open_idle);
	TEST("pipelined", test_pipelined);
	TEST("pipelined-split", test_pipelined_split);
	TEST("descriptor", test_descriptor);
	TEST("descriptor-early", test_descriptor_early);
	TEST("descriptor-pipelined", test_descriptor_pipelined);
	TEST("descriptors-limit", test_descriptors_limit);
	TEST("descriptors-total", test_descriptors_total);
	TEST("unread-input", test_unread_input);
	TEST("gone-client", test_gone_client);
	TEST("unwatched", test_unwatched);
	TEST("silent-clients", test_silent_clients);
	TEST("burst", test_burst);
	TEST("never-reads", test_never_reads);
	TEST("unsent-limit", test_unsent_limit);
	TEST("stale-events", test_stale_events);
	TEST("no-descriptors", test_no_descriptors);
	TEST("no-descriptors-evicts", test_no_descriptors_evicts);
	TEST("reserve", test_reserve);
	TEST("free-with-clients", test_free_with_clients);
	return g_test_run();
}
