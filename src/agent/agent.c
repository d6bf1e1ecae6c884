/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

/* Loading a list of system calls takes milliseconds, on a busy machine tenths of a second. */
#define SETTLE_TIMEOUT_MS 5000
/* How long agent_stop() waits for an agent that has nothing to do but to end. */
#define STOP_TIMEOUT_MS 1000

static bool is_allowed_kind(const struct agent_socket *what)
{
	switch (what->family) {
	case AF_INET:
	case AF_INET6:
		return what->type == SOCK_STREAM || what->type == SOCK_DGRAM;
	case AF_NETLINK:
		return what->type == SOCK_RAW || what->type == SOCK_DGRAM;
	default:
		return false;
	}
}

static bool is_allowed_protocol(const struct agent_socket *what)
{
	if (what->family == AF_NETLINK)
		return what->protocol == NETLINK_SOCK_DIAG;
	if (what->protocol == 0)
		return true;
	return what->protocol == (what->type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP);
}

static int make_socket(const struct agent_socket *what, int *ret_fd)
{
	int fd;

	if (!is_allowed_kind(what))
		return -EPERM;
	if (!is_allowed_protocol(what))
		return -EPROTONOSUPPORT;
	fd = socket(what->family, what->type | SOCK_NONBLOCK | SOCK_CLOEXEC, what->protocol);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

/* Absolute paths only: an abstract name would be one of the container's. A service that is too busy
 * to take the connection at once is -EAGAIN, so that nobody waits for it. */
static int connect_unix(const struct agent_unix *what, int *ret_fd)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	cleanup_fd int fd = -1;

	_Static_assert(sizeof(sa.sun_path) == sizeof(what->path), "every path fits");
	if (what->path[0] != '/' || !memchr(what->path, '\0', sizeof(what->path)))
		return -EINVAL;
	memcpy(sa.sun_path, what->path, sizeof(sa.sun_path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	*ret_fd = fd_take(&fd);
	return 0;
}

/* The caller's, since the agent stays in its mount namespace. One that is opened must not wait for
 * a writer, and become nobody's terminal. */
static int open_resolv_conf(int *ret_fd)
{
	cleanup_fd int fd =
		openat(AT_FDCWD, sandbox_resolv_conf, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*ret_fd = fd_take(&fd);
	return 0;
}

/* The descriptor may be refused where the answer is not: the user has too many in flight
 * (ETOOMANYREFS, unix(7)). */
static int answer(int sock, const struct agent_message *request)
{
	struct agent_message reply = {.type = AGENT_SOCKET_REPLY, .id = request->id};
	cleanup_fd int fd = -1;
	int r;

	if (request->type == AGENT_RESOLV_CONF)
		reply.type = AGENT_RESOLV_CONF_REPLY;
	if (request->type == AGENT_SOCKET)
		reply.error = make_socket(&request->socket, &fd);
	else if (request->type == AGENT_UNIX)
		reply.error = connect_unix(&request->unix_path, &fd);
	else if (request->type == AGENT_RESOLV_CONF)
		reply.error = open_resolv_conf(&fd);
	else
		reply.error = -EBADMSG;
	r = agent_send(sock, &reply, fd);
	if (r == 0 || r == -EPIPE || fd < 0)
		return r;
	reply.error = r;
	return agent_send(sock, &reply, -1);
}

int agent_serve(int sock)
{
	for (;;) {
		struct agent_message request;
		int fd, r = agent_recv(sock, &request, &fd);

		fd_close(&fd); /* no request has one */
		if (r == 0)
			r = answer(sock, &request);
		if (r == -EPIPE)
			return 0;
		if (r < 0 && r != -EBADMSG)
			return r;
	}
}

/* Runs in the child with all signals blocked: the relay's handlers are not for it. Signals that the
 * caller ignores stay ignored. */
static void reset_signals(void)
{
	struct sigaction action;
	sigset_t none;

	for (int sig = 1; sig < 32; sig++)
		if (sigaction(sig, NULL, &action) == 0 && action.sa_handler != SIG_DFL &&
			action.sa_handler != SIG_IGN)
			signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Joining a user namespace that somebody else made may make us dumpable again
 * (fs.suid_dumpable = 1). */
static int join(const struct target *target)
{
	int r;

	prctl(PR_SET_DUMPABLE, 0);
	r = target_join(target);
	prctl(PR_SET_DUMPABLE, 0);
	return r;
}

static int hand_over(const struct agent_config *config, int sock)
{
	struct agent_message message = {.type = AGENT_TAP};
	struct tapdev tap;
	int r;

	r = join(config->target);
	if (r < 0)
		return r;
	r = tapdev_open(&tap, config->tap_name, config->vnet_hdr, config->offloads);
	if (r < 0)
		return r;
	r = config->configure ? netconf_apply(&config->netconf) : 0;
	if (r == 0) {
		message.tap.vnet_len = tap.vnet_len;
		message.tap.is_up = config->configure;
		message.tap.offloads = tap.offloads;
		message.tap.queue_len = tap.queue_len;
		r = agent_send(sock, &message, tap.fd);
		if (r < 0 && r != -EPIPE)
			log_errno(LOG_LEVEL_ERROR, r, "cannot hand over the tap %s",
				config->tap_name);
	}
	fd_close(&tap.fd);
	return r;
}

/* Callers signal the whole process group; what ends the relay ends us, nothing else. SIGUSR1 is
 * the relay's, too. */
static void ignore_signals(void)
{
	static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGUSR1, SIGUSR2};

	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
}

/* The caller may wait for the end of its pipes. */
static int drop_stdio(void)
{
	cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return log_errno(LOG_LEVEL_ERROR, -errno, "cannot open /dev/null");
	for (int fd = 0; fd <= 2; fd++)
		if (dup2(null, fd) < 0)
			return -errno;
	return 0;
}

/* Silent from here on: what the host refuses us it refuses the relay, which says so. */
static int settle(const struct agent_config *config, int sock, pid_t relay)
{
	const struct agent_message settled = {.type = AGENT_SETTLED};
	int r;

	ignore_signals();
	fd_close_all_but(
		&sock, 1, !feature_in(config->sandbox->disabled_features, FEATURE_CLOSE_RANGE));
	r = drop_stdio();
	if (r < 0)
		return r;
	if (chdir("/") < 0)
		return -errno;
	/* A second rope, and not before the join, which clears it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != relay)
		return -ESRCH;
	r = sandbox_enter_agent(config->sandbox);
	return r < 0 ? r : agent_send(sock, &settled, -1);
}

static int agent_main(const struct agent_config *config, int sock, pid_t relay)
{
	int r;

	reset_signals();
	r = hand_over(config, sock);
	if (r < 0 || !config->stay)
		return r;
	r = settle(config, sock, relay);
	return r < 0 ? r : agent_serve(sock);
}

/* Returns the child's pid in the parent; in the child it does not return. */
static pid_t fork_agent(const struct agent_config *config, const int socks[2])
{
	sigset_t all, before;
	pid_t relay = getpid(), pid;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0) {
		close(socks[0]);
		_exit(agent_main(config, socks[1], relay) < 0 ? 1 : 0);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid < 0 ? -errno : pid;
}

int agent_start(struct agent_process *agent, const struct agent_config *config)
{
	int socks[2], r;

	*agent = (struct agent_process){.sock = -1, .stays = config->stay};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0)
		return log_errno(LOG_LEVEL_ERROR, -errno, "cannot make a socketpair");
	r = fd_set_nonblocking(socks[0]);
	if (r == 0)
		r = fork_agent(config, socks);
	close(socks[1]);
	if (r < 0) {
		close(socks[0]);
		return log_errno(LOG_LEVEL_ERROR, r, "cannot start the netns agent");
	}
	agent->pid = r;
	agent->sock = socks[0];
	return 0;
}

/* True once there is something to receive, or the end. */
static bool wait_event(int sock, short events, int timeout_ms)
{
	struct pollfd p = {.fd = sock, .events = events};
	int n;

	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

/* The wait status, -1 without one. The agent's end is closed by nothing but its end, so that no
 * wait is long once the hang-up was seen. */
static int reap(struct agent_process *agent)
{
	int status = -1, flags;
	pid_t pid;

	shutdown(agent->sock, SHUT_WR);
	flags = wait_event(agent->sock, 0, STOP_TIMEOUT_MS) ? 0 : WNOHANG;
	fd_close(&agent->sock);
	do
		pid = waitpid(agent->pid, &status, flags);
	while (pid < 0 && errno == EINTR);
	return pid == agent->pid ? status : -1;
}

void agent_stop(struct agent_process *agent)
{
	if (agent->sock >= 0)
		reap(agent);
}

static int wait_message(int sock, struct agent_message *message, int *ret_fd)
{
	int r;

	do {
		wait_event(sock, POLLIN, -1);
		r = agent_recv(sock, message, ret_fd);
	} while (r == -EAGAIN);
	return r;
}

/* Logs what the agent could not. */
static int failed(struct agent_process *agent, int error)
{
	int status = reap(agent);

	if (error != -EPIPE)
		return log_errno(LOG_LEVEL_ERROR, error, "cannot receive the tap");
	if (status >= 0 && WIFSIGNALED(status))
		log_error("the netns agent was killed by signal %d", WTERMSIG(status));
	return -ECHILD;
}

static bool is_tap(const struct agent_message *message, int fd)
{
	uint32_t possible = tapdev_offloads((struct feature_set){0});
	const struct agent_tap *tap = &message->tap;
	uint8_t len = tap->vnet_len;

	if (message->type != AGENT_TAP || fd < 0 || tap->queue_len == 0)
		return false;
	if (len == 0)
		return tap->offloads == 0;
	return (len == 10 || len == 12) && !(tap->offloads & ~possible);
}

int agent_wait_tap(struct agent_process *agent, struct tapdev *ret_tap, bool *ret_is_up)
{
	struct agent_message message;
	cleanup_fd int fd = -1;
	int r = wait_message(agent->sock, &message, &fd);

	if (r == 0 && message.error < 0)
		r = message.error;
	else if (r == 0 && !is_tap(&message, fd))
		r = -EBADMSG;
	if (r < 0)
		return failed(agent, r);
	*ret_tap = (struct tapdev){
		.fd = fd_take(&fd),
		.vnet_len = message.tap.vnet_len,
		.offloads = message.tap.offloads,
		.queue_len = message.tap.queue_len,
	};
	*ret_is_up = message.tap.is_up;
	if (!agent->stays)
		reap(agent);
	return 0;
}

void agent_wait_settled(const struct agent_process *agent)
{
	struct agent_message message;
	cleanup_fd int fd = -1;
	int r;

	if (agent->sock < 0)
		return;
	if (!wait_event(agent->sock, POLLIN, SETTLE_TIMEOUT_MS)) {
		log_warning("the netns agent has not given up its privileges yet");
		return;
	}
	r = agent_recv(agent->sock, &message, &fd);
	if (r == 0 && message.type != AGENT_SETTLED)
		log_warning("the netns agent said what nobody asked for");
}
