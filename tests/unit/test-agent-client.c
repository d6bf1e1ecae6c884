/* SPDX-License-Identifier: Apache-2.0 */
/* The relay's client against an agent that the test plays, and the agent's loop against a relay
 * that the test plays; no namespaces. */
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/support/container.h"
#include "tests/support/relay.h"

/* The test itself is the agent: what it does is in `peer`. */
static int relay_start_played(struct relay *relay)
{
	int socks[2];

	*relay = (struct relay){.tap.fd = -1};
	/* Before the socketpair, of which it must have no copy. */
	relay->agent.pid = fork();
	if (relay->agent.pid == 0)
		_exit(0);
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks), ==, 0);
	g_assert_cmpint(fd_set_nonblocking(socks[0]), ==, 0);
	relay->agent.sock = socks[0];
	relay_init(relay);
	return socks[1];
}

/* Found out by the sender: also the others' `done` is not called from within. */
static void test_killed_before_sending(void)
{
	struct answers answers = {0};
	struct relay relay;
	int peer = relay_start_played(&relay);

	g_assert_cmpint(ask(&relay, &answers, &tcp4, 0), ==, 0);
	close(peer);
	g_assert_cmpint(ask(&relay, &answers, &tcp4, 0), ==, -EPIPE);
	g_assert_cmpint(answers.n, ==, 0);
	turn_until(&relay, &answers, 1);
	g_assert_cmpint(answers.last_fd, ==, -EPIPE);
	relay_done(&relay);
}

static void test_no_agent(void)
{
	struct answers answers = {0};
	struct relay relay = {.agent.sock = -1, .tap.fd = -1};

	relay_init(&relay);
	g_assert_cmpint(ask(&relay, &answers, &tcp4, 0), ==, -EPIPE);
	g_assert_cmpint(answers.n, ==, 0);
	relay_done(&relay);
}

/* Takes one request from the relay's client. */
static uint32_t take_request(int peer)
{
	struct agent_message message;
	int fd;

	g_assert_cmpint(agent_recv(peer, &message, &fd), ==, 0);
	g_assert_cmpint(message.type, ==, AGENT_SOCKET);
	g_assert_cmpint(fd, ==, -1);
	return message.id;
}

static void reply_with(int peer, uint32_t type, uint32_t id, int error, int fd)
{
	struct agent_message message = {.type = type, .id = id, .error = error};

	g_assert_cmpint(agent_send(peer, &message, fd), ==, 0);
	g_assert_cmpint(recv(peer, &message, sizeof(message), MSG_DONTWAIT), ==, -1);
}

/* Not more: the client has heard all there is. */
static void turn_once(struct relay *relay)
{
	g_assert_cmpint(loop_turn(&relay->loop, 0, dispatch, relay), ==, 1);
	g_assert_cmpint(loop_turn(&relay->loop, 0, dispatch, relay), ==, 0);
}

static void test_strange_replies(void)
{
	struct answers answers = {0};
	struct relay relay;
	int peer = relay_start_played(&relay), n_fds = count_fds();
	uint64_t *n_errors = &relay.counters.value[COUNTER_AGENT_ERRORS];
	uint32_t id;

	g_assert_cmpint(ask(&relay, &answers, &tcp4, 0), ==, 0);
	id = take_request(peer);
	/* Nobody asked: the descriptor is closed. */
	reply_with(peer, AGENT_SOCKET_REPLY, id + 1, 0, peer);
	turn_once(&relay);
	g_assert_cmpuint(*n_errors, ==, 1);
	/* Not a reply. */
	reply_with(peer, AGENT_TAP, id, 0, peer);
	turn_once(&relay);
	g_assert_cmpuint(*n_errors, ==, 2);
	/* The reply to another question. */
	reply_with(peer, AGENT_RESOLV_CONF_REPLY, id, 0, peer);
	turn_once(&relay);
	g_assert_cmpuint(*n_errors, ==, 3);
	/* No message at all. */
	reply_with(peer, 77, id, 0, peer);
	g_assert_cmpint(send(peer, "short", 5, 0), ==, 5);
	turn_once(&relay);
	g_assert_cmpuint(*n_errors, ==, 5);
	g_assert_cmpint(answers.n, ==, 0);
	g_assert_cmpint(count_fds(), ==, n_fds);
	/* The right one at last; and it is answered once. */
	reply_with(peer, AGENT_SOCKET_REPLY, id, 0, peer);
	turn_once(&relay);
	g_assert_cmpint(answers.n, ==, 1);
	g_assert_cmpint(answers.last_fd, >=, 0);
	reply_with(peer, AGENT_SOCKET_REPLY, id, 0, peer);
	turn_once(&relay);
	g_assert_cmpint(answers.n, ==, 1);
	g_assert_cmpuint(*n_errors, ==, 6);
	g_assert_cmpint(count_fds(), ==, n_fds);
	close(peer);
	relay_done(&relay);
}

static void test_resolv_conf(void)
{
	struct answers answers = {0};
	struct agent_message message;
	struct relay relay;
	int peer = relay_start_played(&relay), n_fds = count_fds(), fd;

	g_assert_cmpint(ask_resolv_conf(&relay, &answers), ==, 0);
	g_assert_cmpint(agent_recv(peer, &message, &fd), ==, 0);
	g_assert_cmpint(message.type, ==, AGENT_RESOLV_CONF);
	g_assert_cmpint(fd, ==, -1);
	reply_with(peer, AGENT_SOCKET_REPLY, message.id, 0, peer); /* it did not ask for that */
	turn_once(&relay);
	g_assert_cmpint(answers.n, ==, 0);
	reply_with(peer, AGENT_RESOLV_CONF_REPLY, message.id, 0, peer);
	turn_once(&relay);
	g_assert_cmpint(answers.n, ==, 1);
	g_assert_cmpint(answers.last_fd, >=, 0);
	g_assert_cmpint(count_fds(), ==, n_fds);
	close(peer);
	turn_once(&relay);
	g_assert_cmpint(ask_resolv_conf(&relay, &answers), ==, -EPIPE);
	relay_done(&relay);
}

static void test_strange_errors(void)
{
	static const struct {
		int error;
		bool with_fd;
		int expected;
	} cases[] = {
		{-EMFILE, false, -EMFILE},
		{-EMFILE, true, -EMFILE},
		{0, false, -EBADMSG},
		{1, true, -EBADMSG},
		{-5000, false, -EBADMSG},
	};
	struct answers answers = {0};
	struct relay relay;
	int peer = relay_start_played(&relay), n_fds = count_fds();

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		g_assert_cmpint(ask(&relay, &answers, &tcp4, 0), ==, 0);
		reply_with(peer, AGENT_SOCKET_REPLY, take_request(peer), cases[i].error,
			cases[i].with_fd ? peer : -1);
		turn_once(&relay);
		g_assert_cmpint(answers.last_fd, ==, cases[i].expected);
		g_assert_cmpint(count_fds(), ==, n_fds);
	}
	g_assert_cmpuint(relay.counters.value[COUNTER_AGENT_ERRORS], ==, ARRAY_SIZE(cases));
	close(peer);
	relay_done(&relay);
}

/* In a child: the descriptor limit is its own. It is lowered behind the sending, since it is one
 * for all that the user has in flight, too, and other tests have some. */
static void receive_without_room(void *arg)
{
	struct answers answers = {0};
	struct relay relay;
	int peer = relay_start_played(&relay);
	struct rlimit limit;
	uint32_t id;

	g_assert_cmpint(ask(&relay, &answers, &tcp4, 0), ==, 0);
	id = take_request(peer);
	reply_with(peer, AGENT_SOCKET_REPLY, id, 0, peer);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 3;
	g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
	turn_once(&relay);
	g_assert_cmpint(answers.last_fd, ==, -EMFILE);
}

static void test_no_room(void)
{
	run_in(NULL, receive_without_room, NULL);
}

static void send_two(int peer, uint32_t id)
{
	struct agent_message message = {.type = AGENT_SOCKET_REPLY, .id = id};
	struct iovec iov = {.iov_base = &message, .iov_len = sizeof(message)};
	union {
		char buf[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);
	int fds[2] = {peer, peer};

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(cmsg), fds, sizeof(fds));
	g_assert_cmpint(sendmsg(peer, &header, 0), ==, sizeof(message));
}

static void test_two_descriptors(void)
{
	struct answers answers = {0};
	struct relay relay;
	int peer = relay_start_played(&relay), n_fds = count_fds();

	g_assert_cmpint(ask(&relay, &answers, &tcp4, 0), ==, 0);
	send_two(peer, take_request(peer));
	turn_once(&relay);
	g_assert_cmpint(answers.last_fd, ==, -EMFILE);
	g_assert_cmpint(count_fds(), ==, n_fds);
	close(peer);
	relay_done(&relay);
}

static void test_deadline(void)
{
	struct answers answers = {0};
	struct relay relay;
	int peer = relay_start_played(&relay), n_fds = count_fds();
	int64_t start_ns = relay.loop.now_ns;
	uint32_t first, second;

	g_assert_cmpint(ask(&relay, &answers, &tcp4, 0), ==, 0);
	relay.loop.now_ns += NS_PER_SEC;
	g_assert_cmpint(ask(&relay, &answers, &tcp4, 1), ==, 0);
	first = take_request(peer);
	second = take_request(peer);
	timer_heap_expire(&relay.loop.timers, start_ns + AGENT_TIMEOUT_NS - 1);
	g_assert_cmpint(answers.n, ==, 0);
	timer_heap_expire(&relay.loop.timers, start_ns + AGENT_TIMEOUT_NS);
	g_assert_cmpint(answers.n_of[0], ==, 1);
	g_assert_cmpint(answers.n_of[1], ==, 0);
	g_assert_cmpint(answers.last_fd, ==, -ETIMEDOUT);
	/* Too late, the other in time. */
	reply_with(peer, AGENT_SOCKET_REPLY, first, 0, peer);
	reply_with(peer, AGENT_SOCKET_REPLY, second, 0, peer);
	turn_once(&relay);
	g_assert_cmpint(answers.n_of[0], ==, 1);
	g_assert_cmpint(answers.n_of[1], ==, 1);
	g_assert_cmpint(answers.last_fd, >=, 0);
	g_assert_cmpuint(relay.counters.value[COUNTER_AGENT_ERRORS], ==, 2);
	g_assert_cmpint(count_fds(), ==, n_fds);
	close(peer);
	relay_done(&relay);
}

/* The number comes round while the first request waits. */
static void test_ids(void)
{
	struct answers answers = {0};
	struct relay relay;
	int peer = relay_start_played(&relay);
	uint32_t first, next;

	relay.client.next_id = UINT32_MAX;
	g_assert_cmpint(ask(&relay, &answers, &tcp4, 0), ==, 0);
	first = take_request(peer);
	g_assert_cmpuint(first, ==, UINT32_MAX);
	relay.client.next_id = UINT32_MAX;
	g_assert_cmpint(ask(&relay, &answers, &tcp4, 1), ==, 0);
	next = take_request(peer);
	g_assert_cmpuint(next, !=, first);
	reply_with(peer, AGENT_SOCKET_REPLY, next, -EPERM, -1);
	turn_once(&relay);
	g_assert_cmpint(answers.n_of[0], ==, 0);
	g_assert_cmpint(answers.n_of[1], ==, 1);
	close(peer);
	relay_done(&relay);
}

/* Asks again from its own answer, until there are three. */
struct asker {
	struct relay *relay;
	int n, last;
};

static void ask_again(void *owner, uint64_t cookie, int fd)
{
	struct asker *asker = owner;

	asker->last = fd;
	if (fd >= 0)
		close(fd);
	if (++asker->n < 3)
		asker->last =
			agent_client_socket(&asker->relay->client, &tcp4, ask_again, asker, cookie);
}

static void test_ask_from_answer(void)
{
	struct relay relay;
	struct asker asker = {.relay = &relay};
	int peer = relay_start_played(&relay);

	g_assert_cmpint(agent_client_socket(&relay.client, &tcp4, ask_again, &asker, 0), ==, 0);
	reply_with(peer, AGENT_SOCKET_REPLY, take_request(peer), 0, peer);
	turn_once(&relay);
	g_assert_cmpint(asker.n, ==, 1);
	g_assert_cmpint(asker.last, ==, 0);
	take_request(peer);
	close(peer);
	turn_once(&relay);
	/* The agent is gone: no further one is waited for. */
	g_assert_cmpint(asker.n, ==, 2);
	g_assert_cmpint(asker.last, ==, -EPIPE);
	g_assert_cmpint(relay.n_lost, ==, 1);
	relay_done(&relay);
}

static void drop_capabilities(void)
{
	cap_t none = cap_init();

	g_assert_cmpint(cap_set_proc(none), ==, 0);
	cap_free(none);
}

/* Fewer than test_serve_malformed() passes, and more than other tests have in flight. */
#define AGENT_FDS 300

/* An agent without a container, in a child; the test is its relay. */
static pid_t serve_in_child(int *ret_sock, rlim_t max_fds)
{
	int socks[2];
	pid_t pid;

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks), ==, 0);
	pid = fork();
	if (pid == 0) {
		struct rlimit limit = {max_fds, max_fds};

		close(socks[0]);
		setrlimit(RLIMIT_NOFILE, &limit);
		drop_capabilities();
		_exit(agent_serve(socks[1]) == 0 ? 0 : 1);
	}
	close(socks[1]);
	*ret_sock = socks[0];
	return pid;
}

static int make_nothing(void)
{
	return 0;
}

static int make_file(void)
{
	int fd = open("/etc/resolv.conf", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	return write(fd, "nameserver 192.0.2.1\n", 21) == 21 ? close(fd) : -1;
}

static int make_fifo(void)
{
	return mkfifo("/etc/resolv.conf", 0644);
}

static int make_folder(void)
{
	return mkdir("/etc/resolv.conf", 0755);
}

static int make_loop(void)
{
	return symlink("resolv.conf", "/etc/resolv.conf");
}

static int make_dangling(void)
{
	return symlink("/run/none/there", "/etc/resolv.conf");
}

static int make_link(void)
{
	return symlink("/etc/elsewhere/real", "/etc/resolv.conf") ||
		mkdir("/etc/elsewhere", 0755) || make_file();
}

static int make_unreadable(void)
{
	return make_file() || chmod("/etc/resolv.conf", 0);
}

static void assert_resolv_conf(int sock, uint32_t id, int expected)
{
	struct agent_message message = {.type = AGENT_RESOLV_CONF, .id = id};
	char text[64];
	int fd;

	g_assert_cmpint(agent_send(sock, &message, -1), ==, 0);
	g_assert_cmpint(agent_recv(sock, &message, &fd), ==, 0);
	g_assert_cmpint(message.type, ==, AGENT_RESOLV_CONF_REPLY);
	g_assert_cmpuint(message.id, ==, id);
	g_assert_cmpint(message.error, ==, expected);
	g_assert_true((fd >= 0) == (expected == 0));
	if (fd < 0)
		return;
	g_assert_cmpint(read(fd, text, sizeof(text)), ==, 21);
	g_assert_cmpint(fcntl(fd, F_GETFL) & O_ACCMODE, ==, O_RDONLY);
	g_assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

/* In a container's user namespace and a mount namespace of its own. */
static void serve_resolv_conf(void *arg)
{
	static const struct {
		int (*make)(void);
		int error;
	} cases[] = {
		{make_nothing, -ENOENT},
		{make_file, 0},
		{make_fifo, -EINVAL},
		{make_folder, -EINVAL},
		{make_loop, -ELOOP},
		{make_dangling, -ENOENT},
		{make_link, 0},
		{make_unreadable, -EACCES},
	};
	pid_t pid;
	int sock;

	if (unshare(CLONE_NEWNS) < 0)
		_exit(EXIT_SKIP);
	for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (mount("none", "/etc", "tmpfs", 0, NULL) < 0)
			_exit(EXIT_SKIP);
		g_assert_cmpint(cases[i].make(), ==, 0);
		pid = serve_in_child(&sock, AGENT_FDS);
		assert_resolv_conf(sock, i, cases[i].error);
		close(sock);
		assert_exits(pid, 0);
		g_assert_cmpint(umount("/etc"), ==, 0);
	}
}

static void test_serve_resolv_conf(void)
{
	struct container c;

	if (!container_start(&c))
		return;
	if (!run_in(&c, serve_resolv_conf, NULL))
		g_test_skip("no mount namespace");
	container_stop(&c);
}

static void assert_reply(int sock, uint32_t id, int expected)
{
	struct agent_message reply;
	int fd;

	g_assert_cmpint(agent_recv(sock, &reply, &fd), ==, 0);
	g_assert_cmpint(reply.type, ==, AGENT_SOCKET_REPLY);
	g_assert_cmpuint(reply.id, ==, id);
	g_assert_cmpint(reply.error, ==, expected);
	g_assert_true((fd >= 0) == (expected == 0));
	fd_close(&fd);
}

static void assert_answer(int sock, struct agent_message request, int expected)
{
	static uint32_t id;

	request.id = ++id;
	g_assert_cmpint(agent_send(sock, &request, -1), ==, 0);
	assert_reply(sock, id, expected);
}

static void test_serve_requests(void)
{
	static const struct {
		struct agent_socket what;
		int error;
	} cases[] = {
		{{AF_INET, SOCK_STREAM, 0}, 0},
		{{AF_INET6, SOCK_DGRAM, 0}, 0},
		{{AF_NETLINK, SOCK_DGRAM, NETLINK_SOCK_DIAG}, 0},
		{{AF_UNIX, SOCK_STREAM, 0}, -EPERM},
		{{AF_PACKET, SOCK_RAW, 0}, -EPERM},
		{{AF_INET, SOCK_RAW, IPPROTO_TCP}, -EPERM},
		{{AF_INET, SOCK_SEQPACKET, 0}, -EPERM},
		{{AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0}, -EPERM},
		{{-1, SOCK_STREAM, 0}, -EPERM},
		{{AF_NETLINK, SOCK_STREAM, NETLINK_SOCK_DIAG}, -EPERM},
		{{AF_NETLINK, SOCK_RAW, NETLINK_ROUTE}, -EPROTONOSUPPORT},
		{{AF_INET, SOCK_STREAM, IPPROTO_UDP}, -EPROTONOSUPPORT},
		{{AF_INET, SOCK_DGRAM, IPPROTO_ICMP}, -EPROTONOSUPPORT},
		{{AF_INET6, SOCK_STREAM, -1}, -EPROTONOSUPPORT},
	};
	int sock;
	pid_t pid = serve_in_child(&sock, AGENT_FDS);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_answer(sock,
			(struct agent_message){.type = AGENT_SOCKET, .socket = cases[i].what},
			cases[i].error);
	assert_answer(sock, (struct agent_message){.type = AGENT_TAP}, -EBADMSG);
	assert_answer(sock, (struct agent_message){.type = AGENT_SOCKET_REPLY}, -EBADMSG);
	close(sock);
	assert_exits(pid, 0);
}

/* What is no message is passed over, what is no request is answered so; descriptors that come with
 * either are closed: with all of them it could not make a socket. */
static void test_serve_malformed(void)
{
	struct agent_message message = {.type = 99};
	struct {
		struct agent_message message;
		char more;
	} large = {.message.type = AGENT_SOCKET};
	int sock;
	uint32_t id = 0;
	pid_t pid = serve_in_child(&sock, AGENT_FDS);

	for (int i = 0; i < 100; i++) {
		g_assert_cmpint(send(sock, "x", 1, 0), ==, 1);
		g_assert_cmpint(send(sock, &large, sizeof(large), 0), ==, sizeof(large));
		g_assert_cmpint(agent_send(sock, &message, sock), ==, 0);
		send_two(sock, ++id);
		assert_reply(sock, id, -EBADMSG);
		message.type = AGENT_TAP;
		message.id = ++id;
		g_assert_cmpint(agent_send(sock, &message, sock), ==, 0);
		assert_reply(sock, id, -EBADMSG);
		message.type = 99;
	}
	assert_answer(sock, (struct agent_message){.type = AGENT_SOCKET, .socket = tcp4}, 0);
	close(sock);
	assert_exits(pid, 0);
}

static void test_serve_without_descriptors(void)
{
	int sock;
	pid_t pid = serve_in_child(&sock, 0);

	for (int i = 0; i < 3; i++)
		assert_answer(sock, (struct agent_message){.type = AGENT_SOCKET, .socket = tcp4},
			-EMFILE);
	close(sock);
	assert_exits(pid, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/agent-serve/requests", test_serve_requests);
	g_test_add_func("/agent-serve/resolv-conf", test_serve_resolv_conf);
	g_test_add_func("/agent-serve/malformed", test_serve_malformed);
	g_test_add_func("/agent-serve/without-descriptors", test_serve_without_descriptors);
	g_test_add_func("/agent-client/killed-before-sending", test_killed_before_sending);
	g_test_add_func("/agent-client/no-agent", test_no_agent);
	g_test_add_func("/agent-client/strange-replies", test_strange_replies);
	g_test_add_func("/agent-client/resolv-conf", test_resolv_conf);
	g_test_add_func("/agent-client/strange-errors", test_strange_errors);
	g_test_add_func("/agent-client/no-room", test_no_room);
	g_test_add_func("/agent-client/two-descriptors", test_two_descriptors);
	g_test_add_func("/agent-client/deadline", test_deadline);
	g_test_add_func("/agent-client/ids", test_ids);
	g_test_add_func("/agent-client/ask-from-answer", test_ask_from_answer);
	return g_test_run();
}
