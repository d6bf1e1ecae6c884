/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_main() against a server that has its replies ready and keeps what it is asked.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/util.h"
#include "capture.h"
#include "ctl/ctl.h"
#include "setup/options.h"

#define FDS_MAX 8

struct server {
	char *folder, *path;
	int listener;
	GThread *thread;
	const char *const *replies; /* one per connection; NULL ends */
	GString *asked;             /* the requests, one a line */
	ino_t passed[FDS_MAX];      /* the descriptors' */
	int n_passed;
};

static void keep_passed(struct server *server, struct msghdr *message)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	size_t n = header ? MIN((header->cmsg_len - CMSG_LEN(0)) / sizeof(int), FDS_MAX) : 0;
	struct stat stat;
	int fds[FDS_MAX];

	if (n)
		memcpy(fds, CMSG_DATA(header), n * sizeof(int));
	for (size_t i = 0; i < n; i++) {
		g_assert_cmpint(fstat(fds[i], &stat), ==, 0);
		server->passed[server->n_passed++] = stat.st_ino;
		close(fds[i]);
	}
}

static bool is_complete(const GString *text)
{
	json_t *root = json_loads(text->str, 0, NULL);

	json_decref(root);
	return root;
}

static void serve_one(struct server *server, int sock, const char *reply)
{
	GString *text = g_string_new(NULL);

	while (!is_complete(text)) {
		char piece[4096];
		char control[CMSG_SPACE(FDS_MAX * sizeof(int))];
		struct iovec iov = {.iov_base = piece, .iov_len = sizeof(piece)};
		struct msghdr message = {.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control,
			.msg_controllen = sizeof(control)};
		ssize_t n = recvmsg(sock, &message, 0);

		g_assert_cmpint(n, >, 0);
		g_string_append_len(text, piece, n);
		keep_passed(server, &message);
	}
	g_string_append_printf(server->asked, "%s\n", text->str);
	g_string_free(text, TRUE);
	g_assert_cmpint(send(sock, reply, strlen(reply), MSG_NOSIGNAL), ==, strlen(reply));
}

static void *serve(void *arg)
{
	struct server *server = arg;

	for (const char *const *reply = server->replies; *reply; reply++) {
		int sock = accept(server->listener, NULL, NULL);

		g_assert_cmpint(sock, >=, 0);
		serve_one(server, sock, *reply);
		close(sock);
	}
	return NULL;
}

static void server_begin(struct server *server, const char *const *replies)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	*server = (struct server){.replies = replies, .asked = g_string_new(NULL)};
	server->folder = g_dir_make_tmp("ctl-XXXXXX", NULL);
	g_assert_nonnull(server->folder);
	server->path = g_build_filename(server->folder, "s", NULL);
	g_strlcpy(addr.sun_path, server->path, sizeof(addr.sun_path));
	server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(
		bind(server->listener, (const struct sockaddr *)&addr, sizeof(addr)), ==, 0);
	g_assert_cmpint(listen(server->listener, 10), ==, 0);
	if (replies)
		server->thread = g_thread_new("server", serve, server);
}

static void server_end(struct server *server)
{
	if (server->thread)
		g_thread_join(server->thread);
	if (server->listener >= 0)
		close(server->listener);
	g_unlink(server->path);
	g_rmdir(server->folder);
	g_string_free(server->asked, TRUE);
	g_free(server->path);
	g_free(server->folder);
}

struct run {
	int status;
	struct capture text;
};

/* `line` has its words separated by single blanks; SOCKET stands for the path. */
static struct run run_line(const char *socket, const char *line)
{
	char **words = g_strsplit(line, " ", -1);
	char *argv[20] = {NULL};
	struct run run;
	int argc = 0;

	for (char **word = words; *word; word++) {
		g_assert_cmpint(argc, <, 19);
		argv[argc++] = strcmp(*word, "SOCKET") == 0 ? (char *)(uintptr_t)socket : *word;
	}
	capture_begin(&run.text);
	run.status = ctl_main(argc, argv);
	capture_end(&run.text);
	g_strfreev(words);
	return run;
}

#define ADD(arguments)    "{\"execute\":\"add_hostfwd\",\"arguments\":" arguments "}\n"
#define REMOVE(arguments) "{\"execute\":\"remove_hostfwd\",\"arguments\":" arguments "}\n"
#define LIST              "{\"execute\":\"list_hostfwd\",\"arguments\":{}}\n"
#define ID(id)            "{\"return\":{\"id\":" id "}}"
#define DONE              "{\"return\":{}}"

static const char fails[] = "{\"error\":{\"desc\":\"bad request: x\",\"field\":\"host_port\","
			    "\"index\":1,\"port\":80,\"errno\":\"EACCES\",\"message\":\"no\"}}";
static const char old_error[] = "{\"error\":{\"desc\":\"bad request: add_hostfwd: it\"}}";

static const struct {
	const char *line;
	const char *replies[4];
	const char *asked, *out, *err; /* err: after the program's name */
	int status;
} cases[] = {
	{"ctl SOCKET add 8080:80", {ID("7")},
		ADD("{\"proto\":\"tcp\",\"host_addr\":\"0.0.0.0\",\"host_port\":8080,"
		    "\"guest_port\":80}"),
		"7\n", "", 0},
	{"ctl SOCKET add 127.0.0.1:8000-8010:10.0.2.15:9000-9010/udp", {ID("1")},
		ADD("{\"proto\":\"udp\",\"host_addr\":\"127.0.0.1\",\"host_port\":\"8000-8010\","
		    "\"guest_addr\":\"10.0.2.15\",\"guest_port\":\"9000-9010\"}"),
		"1\n", "", 0},
	{"ctl SOCKET add [::1]:53:[fd00::9]:54/udp6", {ID("1")},
		ADD("{\"proto\":\"udp\",\"host_addr\":\"::1\",\"host_port\":53,"
		    "\"guest_addr\":\"fd00::9\",\"guest_port\":54}"),
		"1\n", "", 0},
	{"ctl SOCKET add *:80 --path=tap --lazy", {ID("1")},
		ADD("{\"proto\":\"tcp\",\"host_addr\":\"*\",\"host_port\":80,\"guest_port\":80,"
		    "\"path\":\"tap\",\"lazy\":true}"),
		"1\n", "", 0},
	{"ctl SOCKET add 8080:unix:/run/x", {ID("1")},
		ADD("{\"proto\":\"tcp\",\"host_addr\":\"0.0.0.0\",\"host_port\":8080,"
		    "\"guest_addr\":\"unix:/run/x\"}"),
		"1\n", "", 0},
	{"ctl SOCKET add 80/tcp6 81/tcp4 --path auto", {"{\"return\":{\"ids\":[3,4]}}"},
		ADD("{\"rules\":[{\"proto\":\"tcp\",\"host_addr\":\"::\",\"host_port\":80,"
		    "\"guest_port\":80,\"path\":\"auto\"},{\"proto\":\"tcp\",\"host_addr\":"
		    "\"0.0.0.0\",\"host_port\":81,\"guest_port\":81,\"path\":\"auto\"}]}"),
		"3\n4\n", "", 0},
	{"ctl SOCKET add 79 80", {fails},
		ADD("{\"rules\":[{\"proto\":\"tcp\",\"host_addr\":\"0.0.0.0\",\"host_port\":79,"
		    "\"guest_port\":79},{\"proto\":\"tcp\",\"host_addr\":\"0.0.0.0\","
		    "\"host_port\":80,\"guest_port\":80}]}"),
		"", "80: host_port 80: no (EACCES)\n", 1},
	{"ctl SOCKET add 79", {old_error},
		ADD("{\"proto\":\"tcp\",\"host_addr\":\"0.0.0.0\",\"host_port\":79,"
		    "\"guest_port\":79}"),
		"", "79: bad request: add_hostfwd: it\n", 1},
	{"ctl SOCKET add 79 --json", {old_error},
		ADD("{\"proto\":\"tcp\",\"host_addr\":\"0.0.0.0\",\"host_port\":79,"
		    "\"guest_port\":79}"),
		"{\"error\":{\"desc\":\"bad request: add_hostfwd: it\"}}\n",
		"79: bad request: add_hostfwd: it\n", 1},
	{"ctl SOCKET remove 3", {DONE}, REMOVE("{\"id\":3}"), "", "", 0},
	{"ctl SOCKET remove --close 3 127.0.0.1:8080/udp", {DONE, DONE},
		REMOVE("{\"id\":3,\"close_connections\":true}")
			REMOVE("{\"proto\":\"udp\",\"host_addr\":\"127.0.0.1\",\"host_port\":8080,"
			       "\"close_connections\":true}"),
		"", "", 0},
	{"ctl SOCKET remove unix:/run/x unix:/run/x:80", {DONE, DONE},
		REMOVE("{\"proto\":\"tcp\",\"host_addr\":\"unix:/run/x\"}")
			REMOVE("{\"proto\":\"tcp\",\"host_addr\":\"unix:/run/x\"}"),
		"", "", 0},
	/* those that can be removed are */
	{"ctl SOCKET remove 3 4", {"{\"error\":{\"desc\":\"d\",\"field\":\"id\"}}", DONE},
		REMOVE("{\"id\":3}") REMOVE("{\"id\":4}"), "", "3: id: d\n", 1},
	{"ctl SOCKET list", {"{\"entries\":[],\"return\":{\"entries\":[]}}"}, LIST,
		"ID  STATE  PATH  PROTO  HOST  GUEST  CONNS  IN  OUT\n", "", 0},
	{"ctl SOCKET list --json", {"{\"entries\":[]}"}, LIST, "{\"entries\":[]}\n", "", 0},
	{"ctl SOCKET list",
		{"{\"entries\":[{\"id\":1,\"proto\":\"tcp\",\"host_addr\":\"0.0.0.0\","
		 "\"host_port\":80,\"guest_addr\":\"10.0.2.100\",\"guest_port\":80}]}"},
		LIST,
		"ID  STATE  PATH  PROTO  HOST        GUEST          CONNS  IN  OUT\n"
		" 1  -      -     tcp    0.0.0.0:80  10.0.2.100:80      -   -    -\n",
		"", 0},
	{"ctl SOCKET list",
		{"{\"entries\":[{\"id\":8,\"proto\":\"tcp\",\"host_addr\":\"::1\","
		 "\"host_port\":\"8000-8010\",\"guest_addr\":\"\",\"guest_port\":\"9000-9010\","
		 "\"state\":\"listening\",\"path\":\"auto\",\"lazy\":false,\"active\":12,"
		 "\"in_bytes\":1023,\"out_bytes\":1024},{\"id\":10,\"proto\":\"tcp\",\"host_addr\":"
		 "\"unix:/run/x\",\"host_port\":null,\"guest_addr\":\"unix:/run/y\","
		 "\"guest_port\":null,\"state\":\"failed\",\"path\":\"splice\",\"lazy\":false,"
		 "\"active\":0,\"in_bytes\":10240000,\"out_bytes\":1099511627776,"
		 "\"errno\":\"EADDRINUSE\",\"message\":\"taken\"}]}"},
		LIST,
		"ID  STATE      PATH    PROTO  HOST             GUEST        CONNS    IN   OUT\n"
		" 8  listening  auto    tcp    [::1]:8000-8010  :9000-9010      12  1023  1.0K\n"
		"10  failed     splice  tcp    unix:/run/x      unix:/run/y      0  9.8M  1.0T"
		"  EADDRINUSE: taken\n",
		"", 0},
	{"ctl SOCKET list", {"{}"}, LIST, "", "SOCKET: an answer that says nothing\n", 1},
	{"ctl SOCKET list", {"[]"}, LIST, "", "SOCKET: the answer is no JSON object\n", 1},
	{"ctl SOCKET list", {"{"}, LIST, "", "SOCKET: the answer is no JSON object\n", 1},
	{"ctl SOCKET list", {""}, LIST, "", "SOCKET: closed without an answer\n", 1},
	{"ctl SOCKET add 80", {DONE},
		ADD("{\"proto\":\"tcp\",\"host_addr\":\"0.0.0.0\",\"host_port\":80,"
		    "\"guest_port\":80}"),
		"", "SOCKET: an answer that says nothing\n", 1},
};

static char *expected_error(const char *socket, const char *text)
{
	char **parts = g_strsplit(text, "SOCKET", -1);
	char *filled = g_strjoinv(socket, parts);
	char *line = *text ? g_strconcat("netns-helper ctl: ", filled, NULL) : g_strdup("");

	g_strfreev(parts);
	g_free(filled);
	return line;
}

static void test_requests(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct server server;
		struct run run;
		char *err;

		server_begin(&server, cases[i].replies);
		g_test_message("%zu: %s", i, cases[i].line);
		run = run_line(server.path, cases[i].line);
		g_thread_join(g_steal_pointer(&server.thread));
		err = expected_error(server.path, cases[i].err);
		g_assert_cmpstr(run.text.err, ==, err);
		g_assert_cmpstr(run.text.out, ==, cases[i].out);
		g_assert_cmpstr(server.asked->str, ==, cases[i].asked);
		g_assert_cmpint(run.status, ==, cases[i].status);
		g_free(err);
		capture_free(&run.text);
		server_end(&server);
	}
}

/* What is refused before anybody is asked. */
static const struct {
	const char *line, *err;
	int status;
} wrong[] = {
	{"ctl", "a socket and a command are missing", 2},
	{"ctl SOCKET", "a command is missing", 2},
	{"ctl SOCKET show", "show: not one of: add list remove", 2},
	{"ctl SOCKET add", "add: which rules?", 2},
	{"ctl SOCKET add --lazy", "add: which rules?", 2},
	{"ctl SOCKET remove", "remove: which rules?", 2},
	{"ctl SOCKET list 1", "list takes no rules", 2},
	{"ctl SOCKET list --lazy", "list takes no --lazy", 2},
	{"ctl SOCKET remove 1 --path=tap", "remove takes no --path", 2},
	{"ctl SOCKET add 80 --close", "add takes no --close", 2},
	{"ctl SOCKET add 80 --path=fast", "--path=fast: not one of: auto splice tap", 2},
	{"ctl SOCKET add 80 --path", "option '--path' requires an argument", 2},
	{"ctl SOCKET add 80 --foo", "unrecognized option '--foo'", 2},
	{"ctl SOCKET add 80 70000", "70000: ", 1},
	{"ctl SOCKET add 80/sctp", "80/sctp: ", 1},
	{"ctl SOCKET add fd:0:80", "fd:0:80: ", 1},
	{"ctl SOCKET add fd:999:80", "fd:999:80: ", 1},
	{"ctl SOCKET add fd:web:80", "fd:web:80: ", 1},
	{"ctl SOCKET add unix:/x:80",
		"unix:/x:80: a socket in the file system can be made at the start only (-p)", 1},
	{"ctl SOCKET remove fd:3:80", "fd:3:80: a rule of a passed socket is removed by its id", 1},
	{"ctl SOCKET remove x", "x: ", 1},
	{"ctl /proc/none list", "/proc/none: there is no such socket; does netns-helper run", 1},
	{"ctl /dev/null list", "/dev/null: not a socket", 1},
};

static void test_wrong(void)
{
	struct server server;

	server_begin(&server, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct run run = run_line(server.path, wrong[i].line);
		char *begin = g_strconcat("netns-helper ctl: ", wrong[i].err, NULL);

		g_test_message("%s: %s", wrong[i].line, run.text.err);
		g_assert_true(g_str_has_prefix(run.text.err, begin));
		g_assert_cmpstr(run.text.out, ==, "");
		g_assert_cmpint(run.status, ==, wrong[i].status);
		g_assert_cmpint(!!strstr(run.text.err, "Usage: "), ==, wrong[i].status == 2);
		g_free(begin);
		capture_free(&run.text);
	}
	server_end(&server);
}

static void test_nobody_listens(void)
{
	struct server server;
	struct run run;

	server_begin(&server, NULL);
	close(server.listener);
	server.listener = -1;
	run = run_line(server.path, "ctl SOCKET list");
	g_assert_nonnull(strstr(run.text.err, ": nobody listens there, netns-helper has ended\n"));
	g_assert_cmpint(run.status, ==, 1);
	capture_free(&run.text);
	server_end(&server);
}

/* It listens and never says a word. */
static void test_silence(void)
{
	struct server server;
	struct run run;

	server_begin(&server, NULL);
	run = run_line(server.path, "ctl SOCKET list");
	g_assert_nonnull(strstr(run.text.err, ": no answer within 5 s\n"));
	g_assert_cmpint(run.status, ==, 1);
	capture_free(&run.text);
	server_end(&server);
}

static int listen_on_loopback(ino_t *ret_inode)
{
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct stat stat;

	g_assert_cmpint(bind(sock, (const struct sockaddr *)&addr, sizeof(addr)), ==, 0);
	g_assert_cmpint(listen(sock, 1), ==, 0);
	g_assert_cmpint(fstat(sock, &stat), ==, 0);
	*ret_inode = stat.st_ino;
	return sock;
}

/* Sockets go along in the order of their rules. */
static void test_sockets(void)
{
	const char *const replies[] = {"{\"return\":{\"ids\":[1,2,3]}}", NULL};
	struct server server;
	struct run run;
	char *line;
	ino_t inodes[2];
	int socks[2];

	for (int i = 0; i < 2; i++)
		socks[i] = listen_on_loopback(&inodes[i]);
	server_begin(&server, replies);
	line = g_strdup_printf("ctl SOCKET add fd:%d:80 8080 fd:%d:81", socks[1], socks[0]);
	run = run_line(server.path, line);
	g_thread_join(g_steal_pointer(&server.thread));
	g_assert_cmpstr(run.text.err, ==, "");
	g_assert_cmpstr(run.text.out, ==, "1\n2\n3\n");
	g_assert_cmpstr(server.asked->str, ==,
		ADD("{\"rules\":[{\"proto\":\"tcp\",\"host_fd\":0,\"guest_port\":80},"
		    "{\"proto\":\"tcp\",\"host_addr\":\"0.0.0.0\",\"host_port\":8080,"
		    "\"guest_port\":8080},{\"proto\":\"tcp\",\"host_fd\":1,\"guest_port\":81}]}"));
	g_assert_cmpint(server.n_passed, ==, 2);
	g_assert_cmpuint(server.passed[0], ==, inodes[1]);
	g_assert_cmpuint(server.passed[1], ==, inodes[0]);
	for (int i = 0; i < 2; i++)
		close(socks[i]);
	g_free(line);
	capture_free(&run.text);
	server_end(&server);
}

static void test_help(void)
{
	static const char *const lines[] = {"ctl --help", "ctl SOCKET -h", "ctl SOCKET list --help",
		"ctl SOCKET add 80 --help --foo"};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		struct run run = run_line("/x", lines[i]);

		g_assert_true(g_str_has_prefix(run.text.out, "Usage: netns-helper ctl SOCKET"));
		g_assert_cmpstr(run.text.err, ==, "");
		g_assert_cmpint(run.status, ==, 0);
		capture_free(&run.text);
	}
}

/* setup/completion.c cannot look at the commands and options here. */
static void test_completions(void)
{
	static const char *const shells[] = {"bash", "zsh", "fish"};
	static const char *const words[] = {"add list remove", "--path=auto", "--path=splice",
		"--path=tap", "--lazy", "--json", "--close"};

	for (size_t i = 0; i < ARRAY_SIZE(shells); i++) {
		char *text = NULL;
		size_t len;
		FILE *out = open_memstream(&text, &len);

		g_assert_cmpint(options_print_completion(out, shells[i]), ==, 0);
		fclose(out);
		for (size_t k = 0; k < ARRAY_SIZE(words); k++)
			g_assert_nonnull(strstr(text, words[k]));
		free(text);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/ctl/requests", test_requests);
	g_test_add_func("/ctl/sockets", test_sockets);
	g_test_add_func("/ctl/wrong", test_wrong);
	g_test_add_func("/ctl/help", test_help);
	g_test_add_func("/ctl/nobody-listens", test_nobody_listens);
	g_test_add_func("/ctl/silence", test_silence);
	g_test_add_func("/ctl/completions", test_completions);
	return g_test_run();
}
