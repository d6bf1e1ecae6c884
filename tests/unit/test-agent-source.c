/* SPDX-License-Identifier: Apache-2.0 */
/* The agent as a source of sockets: a real agent's loop in a child, but for what only a played one
 * does. No namespaces. */
#include <sys/stat.h>
#include <sys/un.h>

#include "agent/source.h"
#include "tests/support/container.h"
#include "tests/support/relay.h"

struct fixture {
	struct relay relay;
	struct agent_source source;
	int n_fds_before;
};

/* Who has a wish: the cookie is its index in `fds`. */
#define WISHES 5000
static int fds[WISHES], n_answers;

static void take(void *owner, uint64_t cookie, int fd)
{
	g_assert_cmpint(fds[cookie], ==, 0);
	fds[cookie] = fd;
	n_answers++;
}

static void forget(void)
{
	for (int i = 0; i < WISHES; i++) {
		if (fds[i] > 0)
			close(fds[i]);
		fds[i] = 0;
	}
	n_answers = 0;
}

static void wish(struct fixture *f, uint8_t family, int type, uint64_t cookie)
{
	f->source.source.make(&f->source.source, family, type, take, NULL, cookie);
}

static void wish_unix(struct fixture *f, const char *path, uint64_t cookie)
{
	f->source.source.connect_unix(&f->source.source, path, take, NULL, cookie);
}

static void set_up(struct fixture *f, bool played, int *ret_peer)
{
	int socks[2];

	*f = (struct fixture){.relay.tap.fd = -1};
	f->n_fds_before = count_fds();
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks), ==, 0);
	f->relay.agent.pid = fork();
	if (f->relay.agent.pid == 0) {
		close(socks[0]);
		_exit(played || agent_serve(socks[1]) == 0 ? 0 : 1);
	}
	if (played)
		*ret_peer = socks[1];
	else
		close(socks[1]);
	g_assert_cmpint(fd_set_nonblocking(socks[0]), ==, 0);
	f->relay.agent.sock = socks[0];
	relay_init(&f->relay);
	agent_source_init(&f->source, &f->relay.client);
}

static void tear_down(struct fixture *f)
{
	forget();
	agent_client_done(&f->relay.client);
	agent_source_done(&f->source);
	g_assert_cmpuint(f->source.n_waiting, ==, 0);
	g_assert_cmpuint(f->source.n_asked, ==, 0);
	forget();
	relay_done(&f->relay);
	g_assert_cmpint(count_fds(), ==, f->n_fds_before);
}

static void turn_until_answers(struct fixture *f, int n)
{
	while (n_answers < n)
		g_assert_cmpint(loop_turn(&f->relay.loop, CLOCK_NEVER, dispatch, &f->relay), >=, 0);
	g_assert_cmpint(n_answers, ==, n);
}

static void turn_until_stocked(struct fixture *f, size_t shelf)
{
	while (f->source.n_asked)
		g_assert_cmpint(loop_turn(&f->relay.loop, CLOCK_NEVER, dispatch, &f->relay), >=, 0);
	g_assert_cmpuint(f->source.shelves[shelf].n_fds, ==, SOURCE_STOCK);
}

static void expect_socket(int fd, int family, int type)
{
	int value;
	socklen_t len = sizeof(value);

	g_assert_cmpint(fd, >, 0);
	g_assert_cmpint(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &len), ==, 0);
	g_assert_cmpint(value, ==, family);
	g_assert_cmpint(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len), ==, 0);
	g_assert_cmpint(value, ==, type);
	g_assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	g_assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

/* The first waits for the agent, the next ones do not. */
static void test_stock(void)
{
	static const int families[] = {AF_INET, AF_INET6};
	struct fixture f;

	set_up(&f, false, NULL);
	for (size_t i = 0; i < 2; i++) {
		wish(&f, (uint8_t)families[i], SOCK_STREAM, 0);
		g_assert_cmpint(n_answers, ==, 0);
		turn_until_answers(&f, 1);
		turn_until_stocked(&f, i);
		for (uint64_t n = 1; n <= SOURCE_STOCK; n++)
			wish(&f, (uint8_t)families[i], SOCK_STREAM, n);
		g_assert_cmpint(n_answers, ==, SOURCE_STOCK + 1);
		for (int n = 0; n <= SOURCE_STOCK; n++)
			expect_socket(fds[n], families[i], SOCK_STREAM);
		forget();
		turn_until_stocked(&f, i);
	}
	wish(&f, AF_INET, SOCK_DGRAM, 0);
	wish(&f, AF_INET6, SOCK_DGRAM, 1);
	turn_until_answers(&f, 2);
	expect_socket(fds[0], AF_INET, SOCK_DGRAM);
	expect_socket(fds[1], AF_INET6, SOCK_DGRAM);
	tear_down(&f);
}

static void test_stock_is_given_up(void)
{
	struct fixture f;
	int n_fds;

	set_up(&f, false, NULL);
	n_fds = count_fds();
	wish(&f, AF_INET, SOCK_STREAM, 0);
	turn_until_answers(&f, 1);
	turn_until_stocked(&f, 0);
	forget();
	g_assert_cmpint(count_fds(), ==, n_fds + SOURCE_STOCK);
	timer_heap_expire(&f.relay.loop.timers, f.source.used_ns + 4 * NS_PER_SEC);
	g_assert_cmpint(count_fds(), ==, n_fds + SOURCE_STOCK);
	timer_heap_expire(&f.relay.loop.timers, f.source.used_ns + 6 * NS_PER_SEC);
	g_assert_cmpint(count_fds(), ==, n_fds);
	g_assert_null(f.relay.loop.timers.root);
	/* And begins anew. */
	wish(&f, AF_INET, SOCK_STREAM, 0);
	turn_until_answers(&f, 1);
	turn_until_stocked(&f, 0);
	tear_down(&f);
}

/* Far more than the agent is asked for at a time. */
static void test_burst(void)
{
	struct fixture f;

	set_up(&f, false, NULL);
	for (uint64_t i = 0; i < 300; i++)
		wish(&f, i % 3 ? AF_INET : AF_INET6, SOCK_STREAM, i);
	for (uint64_t i = 300; i < 500; i++)
		wish(&f, AF_INET, SOCK_DGRAM, i);
	turn_until_answers(&f, 500);
	for (int i = 0; i < 500; i++)
		expect_socket(fds[i], i < 300 && i % 3 == 0 ? AF_INET6 : AF_INET,
			i < 300 ? SOCK_STREAM : SOCK_DGRAM);
	tear_down(&f);
}

/* Nobody answers: those that wait are bounded, and told when the agent is gone. */
static void test_agent_is_gone(void)
{
	struct fixture f;
	int peer;

	set_up(&f, true, &peer);
	for (uint64_t i = 0; i < SOURCE_WAITING_MAX; i++)
		wish(&f, AF_INET, i % 2 ? SOCK_STREAM : SOCK_DGRAM, i);
	g_assert_cmpint(n_answers, ==, 0);
	wish(&f, AF_INET, SOCK_STREAM, SOURCE_WAITING_MAX);
	wish_unix(&f, "/a", SOURCE_WAITING_MAX + 1);
	g_assert_cmpint(n_answers, ==, 2);
	g_assert_cmpint(fds[SOURCE_WAITING_MAX], ==, -EAGAIN);
	g_assert_cmpint(fds[SOURCE_WAITING_MAX + 1], ==, -EAGAIN);
	close(peer);
	turn_until_answers(&f, SOURCE_WAITING_MAX + 2);
	for (int i = 0; i < SOURCE_WAITING_MAX; i++)
		g_assert_cmpint(fds[i], ==, -EPIPE);
	forget();
	wish(&f, AF_INET, SOCK_STREAM, 0);
	wish(&f, AF_INET6, SOCK_DGRAM, 1);
	wish_unix(&f, "/a", 2);
	g_assert_cmpint(n_answers, ==, 3);
	for (int i = 0; i < 3; i++)
		g_assert_cmpint(fds[i], ==, -EPIPE);
	tear_down(&f);
}

/* The stock is not worth keeping without it. */
static void test_agent_leaves_a_stock(void)
{
	struct fixture f;

	set_up(&f, false, NULL);
	wish(&f, AF_INET, SOCK_STREAM, 0);
	turn_until_answers(&f, 1);
	turn_until_stocked(&f, 0);
	shutdown(f.relay.agent.sock, SHUT_WR);
	while (!f.relay.n_lost)
		g_assert_cmpint(loop_turn(&f.relay.loop, CLOCK_NEVER, dispatch, &f.relay), >=, 0);
	wish(&f, AF_INET, SOCK_STREAM, 1);
	g_assert_cmpint(fds[1], ==, -EPIPE);
	g_assert_cmpuint(f.source.shelves[0].n_fds, ==, 0);
	tear_down(&f);
}

/* What is refused is told to who asked, and not asked for again by ourselves. */
static void test_refusal(void)
{
	struct agent_message message;
	struct fixture f;
	int peer, fd;

	set_up(&f, true, &peer);
	wish(&f, AF_INET6, SOCK_STREAM, 0);
	g_assert_cmpint(agent_recv(peer, &message, &fd), ==, 0);
	message = (struct agent_message){
		.type = AGENT_SOCKET_REPLY, .id = message.id, .error = -EAFNOSUPPORT};
	g_assert_cmpint(agent_send(peer, &message, -1), ==, 0);
	turn_until_answers(&f, 1);
	g_assert_cmpint(fds[0], ==, -EAFNOSUPPORT);
	g_assert_cmpuint(f.source.n_asked, ==, 0);
	close(peer);
	tear_down(&f);
}

/* ---- unix ---- */

static struct sockaddr_un path_in(const char *folder, const char *name)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	g_assert_cmpint(snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s", folder, name), <,
		(int)sizeof(sa.sun_path));
	return sa;
}

static int listen_at(const struct sockaddr_un *sa, int type)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	g_assert_cmpint(bind(fd, (const struct sockaddr *)sa, sizeof(*sa)), ==, 0);
	if (type == SOCK_STREAM)
		g_assert_cmpint(listen(fd, 0), ==, 0);
	return fd;
}

static int wish_path(struct fixture *f, const char *path)
{
	forget();
	wish_unix(f, path, 0);
	turn_until_answers(f, 1);
	return fds[0];
}

/* What is kept for others is neither a stock's nor a client's. */
static void test_reserve(void)
{
	struct fixture f;

	set_up(&f, false, NULL);
	f.source.max_fd = 0;
	for (uint64_t i = 0; i < 3; i++) {
		wish(&f, i ? AF_INET : AF_INET6, i == 2 ? SOCK_DGRAM : SOCK_STREAM, i);
		turn_until_answers(&f, (int)i + 1);
		g_assert_cmpint(fds[i], ==, -EMFILE);
	}
	while (f.source.n_asked)
		g_assert_cmpint(loop_turn(&f.relay.loop, CLOCK_NEVER, dispatch, &f.relay), >=, 0);
	g_assert_cmpuint(f.source.shelves[0].n_fds, ==, 0);
	f.source.max_fd = INT_MAX;
	forget();
	wish(&f, AF_INET, SOCK_STREAM, 0);
	turn_until_answers(&f, 1);
	expect_socket(fds[0], AF_INET, SOCK_STREAM);
	tear_down(&f);
}

static void test_unix(void)
{
	g_autofree char *folder = g_dir_make_tmp("nh-source-XXXXXX", NULL);
	struct sockaddr_un stream = path_in(folder, "stream"), dgram = path_in(folder, "dgram");
	struct sockaddr_un nowhere = path_in(folder, "nowhere");
	char longest[200], c;
	int service, other, client;
	struct fixture f;

	set_up(&f, false, NULL);
	service = listen_at(&stream, SOCK_STREAM);
	other = listen_at(&dgram, SOCK_DGRAM);
	expect_socket(wish_path(&f, stream.sun_path), AF_UNIX, SOCK_STREAM);
	client = accept4(service, NULL, NULL, SOCK_CLOEXEC);
	g_assert_cmpint(send(fds[0], "x", 1, 0), ==, 1);
	g_assert_cmpint(recv(client, &c, 1, 0), ==, 1);
	close(client);
	g_assert_cmpint(wish_path(&f, nowhere.sun_path), ==, -ENOENT);
	g_assert_cmpint(wish_path(&f, dgram.sun_path), ==, -EPROTOTYPE);
	g_assert_cmpint(wish_path(&f, folder), ==, -ECONNREFUSED);
	g_assert_cmpint(wish_path(&f, "stream"), ==, -EINVAL);
	g_assert_cmpint(wish_path(&f, ""), ==, -EINVAL);
	/* 108 bytes, and the end of the string; then one less. */
	snprintf(longest, sizeof(longest), "%s%0*d", nowhere.sun_path,
		108 - (int)strlen(nowhere.sun_path), 0);
	g_assert_cmpint(wish_path(&f, longest), ==, -ENAMETOOLONG);
	longest[107] = '\0';
	g_assert_cmpint(wish_path(&f, longest), ==, -ENOENT);
	/* One may wait to be accepted, the next is told at once. */
	forget();
	wish_unix(&f, stream.sun_path, 0);
	wish_unix(&f, stream.sun_path, 1);
	turn_until_answers(&f, 2);
	g_assert_cmpint(fds[0], >=, 0);
	g_assert_cmpint(fds[1], ==, -EAGAIN);
	close(service);
	close(other);
	unlink(stream.sun_path);
	unlink(dgram.sun_path);
	rmdir(folder);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/agent-source/stock", test_stock);
	g_test_add_func("/agent-source/stock-is-given-up", test_stock_is_given_up);
	g_test_add_func("/agent-source/burst", test_burst);
	g_test_add_func("/agent-source/agent-is-gone", test_agent_is_gone);
	g_test_add_func("/agent-source/agent-leaves-a-stock", test_agent_leaves_a_stock);
	g_test_add_func("/agent-source/refusal", test_refusal);
	g_test_add_func("/agent-source/reserve", test_reserve);
	g_test_add_func("/agent-source/unix", test_unix);
	return g_test_run();
}
