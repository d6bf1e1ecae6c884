/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The phases of a start, in order: options > target > agent and tap > API socket > parts > sandbox
 * > ready > loop > end. Each needs less than the one before; after the sandbox nothing is opened by
 * path but /etc/resolv.conf (libslirp).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "ctl/ctl.h"
#include "relay.h"
#include "setup/bess.h"
#include "setup/listen_fds.h"
#include "setup/namespace.h"
#include "setup/options.h"
#include "setup/sandbox.h"
#include "setup/tapdev.h"

/* Named outcome of a phase: end now, with status 0. */
#define START_ENDS 1

struct start {
	struct options options;
	struct listen_fds listen_fds;
	struct target target;
	struct agent_process agent;
	struct tapdev tap;
	bool tap_is_up;
	bool exit_fd_is_dead; /* the number was not open: ends right after the ready byte */
	bool stdio_was_open[3];
	uint64_t descriptor_limit;
	struct api_server *api;
	int signal_fd;
};

/* What a careless caller may have left us: closed stdio, ignored or blocked signals. */
static int tidy_inheritance(struct start *start)
{
	const struct sigaction ignored = {.sa_handler = SIG_IGN};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGCHLD, SIG_DFL);
	sigaction(SIGPIPE, &ignored, NULL);
	sigaction(SIGXFSZ, &ignored, NULL); /* a capture or a log at the limit of RLIMIT_FSIZE */
	for (int fd = 0; fd <= 2; fd++)
		start->stdio_was_open[fd] = fcntl(fd, F_GETFD) >= 0;
	return fd_fill_stdio();
}

static bool was_open(const struct start *start, int fd)
{
	return fd <= 2 ? start->stdio_was_open[fd] : fcntl(fd, F_GETFD) >= 0;
}

/* It is closed after the ready byte, and the next descriptor would take its number, and the log. */
static int move_ready_fd(int *fd)
{
	int moved = fcntl(*fd, F_DUPFD_CLOEXEC, 3);

	if (moved < 0)
		return -errno;
	close(*fd);
	*fd = moved;
	return fd_fill_stdio();
}

/* What is a socket for a rule of --publish is nothing else. */
static int check_listen_fds(const struct start *start)
{
	const struct options *options = &start->options;
	const struct {
		const char *what;
		int fd;
	} others[] = {{"--ready-fd", options->ready_fd}, {"--exit-fd", options->exit_fd},
		{"the tap", options->target == TARGET_TAPFD ? options->tapfd : -1}};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		if (listen_fds_has(&start->listen_fds, others[i].fd)) {
			log_error("descriptor %d cannot be %s and one of LISTEN_FDS", others[i].fd,
				others[i].what);
			return -EINVAL;
		}
	}
	return 0;
}

/* Decided before anything is opened, since an own descriptor could get the number. */
static int check_passed_fds(struct start *start)
{
	struct options *options = &start->options;
	int tapfd = options->target == TARGET_TAPFD ? options->tapfd : -1, r;

	if ((r = listen_fds_take(&start->listen_fds)) != 0 || (r = check_listen_fds(start)) != 0)
		return r;
	if (tapfd >= 0 && !was_open(start, tapfd))
		return log_errno(LOG_LEVEL_ERROR, -EBADF, "tapfd %d", tapfd);
	if (tapfd >= 0 && (tapfd == options->exit_fd || tapfd == options->ready_fd)) {
		log_error("descriptor %d cannot be the tap and something else", tapfd);
		return -EINVAL;
	}
	/* One that is the ready-fd, too, is closed by us right after the byte. */
	if (options->exit_fd >= 0 &&
		(options->exit_fd == options->ready_fd || !was_open(start, options->exit_fd))) {
		start->exit_fd_is_dead = true;
		options->exit_fd = -1;
	}
	if (options->ready_fd >= 0 && !was_open(start, options->ready_fd))
		options->ready_fd = -1;
	if (options->ready_fd >= 0 && options->ready_fd <= 2)
		r = move_ready_fd(&options->ready_fd);
	return r < 0 ? log_errno(LOG_LEVEL_ERROR, r, "ready-fd") : 0;
}

/* Namespace paths may be /proc/self/fd/N of the caller's, so they are opened before the rest of
 * what was inherited is closed. */
static int open_target(struct start *start)
{
	const struct options *options = &start->options;
	int r = target_open(&start->target, options);
	int keep[6 + LISTEN_FDS_MAX] = {options->exit_fd, options->ready_fd,
		options->target == TARGET_TAPFD ? options->tapfd : -1, start->target.netns_fd,
		start->target.userns_fd, start->target.pidfd};
	size_t n_keep = 6;

	if (r < 0)
		return r;
	for (int i = 0; i < start->listen_fds.n; i++)
		keep[n_keep++] = LISTEN_FDS_FIRST + i;
	fd_close_all_but(
		keep, n_keep, !feature_in(options->disabled_features, FEATURE_CLOSE_RANGE));
	if (fd_raise_limit(&start->descriptor_limit) < 0)
		log_warning("the descriptor limit stays at %llu",
			(unsigned long long)start->descriptor_limit);
	return 0;
}

static enum sandbox_wish root_wish(const struct options *options)
{
	if (options->enable_sandbox || options->sandbox == SANDBOX_REQUIRE)
		return SANDBOX_MUST;
	if (options->sandbox == SANDBOX_OFF)
		return SANDBOX_NO;
	if (options->sandbox == SANDBOX_AUTO)
		return SANDBOX_TRY;
	/* Podman's no_pivot_root relies on it that slirp4netns does nothing unasked. */
	return options->personality == PERSONALITY_SLIRP4NETNS ? SANDBOX_NO : SANDBOX_TRY;
}

/* A rule of --publish may lead to one, and those of the API's clients. */
static bool may_have_unix_guests(const struct options *options)
{
	for (size_t i = 0; i < options->n_publish; i++)
		if (strstr(options->publish[i], ":unix:"))
			return true;
	return options->api_socket;
}

static struct sandbox_plan sandbox_plan_of(const struct start *start)
{
	const struct options *options = &start->options;
	enum sandbox_wish by_default =
		options->sandbox == SANDBOX_REQUIRE ? SANDBOX_MUST : SANDBOX_TRY;

	return (struct sandbox_plan){
		.empty_root = root_wish(options),
		.landlock = options->sandbox == SANDBOX_OFF ? SANDBOX_NO : by_default,
		.seccomp = options->disable_seccomp ? SANDBOX_NO
			: options->enable_seccomp   ? SANDBOX_MUST
						    : by_default,
		.capabilities = options->enable_sandbox ? SANDBOX_MUST : by_default,
		.slirp4netns_role = options->personality == PERSONALITY_SLIRP4NETNS,
		.same_userns = start->target.same_userns,
		.keep_folder = api_server_folder(start->api),
		.captures = options->pcap,
		.unix_guests = may_have_unix_guests(options),
		.target_userns = start->target.userns_fd,
		.disabled_features = options->disabled_features,
	};
}

_Static_assert((int)LINK_CSUM == TUN_F_CSUM && (int)LINK_TSO4 == TUN_F_TSO4 &&
		(int)LINK_TSO6 == TUN_F_TSO6 && (int)LINK_TSO_ECN == TUN_F_TSO_ECN &&
		(int)LINK_USO == TAPDEV_USO,
	"the offloads of a tap are those of its link");

/* libslirp takes ordinary frames only. */
static uint32_t wanted_offloads(const struct options *options)
{
	return options->stack == STACK_AUTO ? tapdev_offloads(options->disabled_features) : 0;
}

/* What the kernel takes does not depend on the tap. */
static uint32_t more_offloads(const struct options *options, uint32_t of_tap)
{
	if (!(of_tap & (LINK_TSO4 | LINK_TSO6)) ||
		feature_in(options->disabled_features, FEATURE_BIG_TCP))
		return 0;
	return netconf_has_big_tcp() ? LINK_BIG_TCP : 0;
}

static int start_agent(struct start *start)
{
	const struct options *options = &start->options;
	const struct sandbox_plan plan = sandbox_plan_of(start);
	const struct agent_config config = {
		.target = &start->target,
		.tap_name = options->tap_name,
		.vnet_hdr = !feature_in(options->disabled_features, FEATURE_VNET_HDR),
		.offloads = wanted_offloads(options),
		.configure = options->configure,
		.netconf =
			{
				.tap_name = options->tap_name,
				.mtu = options->mtu,
				.has_mac = options->has_mac,
				.mac = options->mac,
				.address = options->guest,
				.netmask = options->netmask,
				.gateway = options->gateway,
			},
		.stay = !feature_in(options->disabled_features, FEATURE_AGENT),
		.sandbox = &plan,
	};

	return agent_start(&start->agent, &config);
}

static int open_link(struct start *start, struct tap_link *link)
{
	const struct options *options = &start->options;
	int fd, r;

	switch (options->target) {
	case TARGET_BESS:
		r = bess_accept(options->target_path, options->exit_fd, &fd);
		if (r == -ECANCELED)
			return START_ENDS;
		if (r == 0)
			tap_link_init_socket(link, fd);
		return r;
	case TARGET_TAPFD:
		r = tapdev_adopt(&start->tap, options->tapfd, wanted_offloads(options));
		break;
	default:
		r = agent_wait_tap(&start->agent, &start->tap, &start->tap_is_up);
	}
	if (r != 0)
		return r;
	tap_link_init(link, start->tap.fd, start->tap.vnet_len);
	tap_link_find_mac(link);
	link->link.offloads = start->tap.offloads | more_offloads(options, start->tap.offloads);
	link->link.queue_len = start->tap.queue_len;
	return 0;
}

static int open_capture(const struct options *options, struct pcap_link *pcap)
{
	return options->pcap ? pcap_link_open(pcap, options->pcap, options->pcap_size) : 0;
}

/* From here on a signal is an event; before, it ends the program, with nothing to clean up. */
static int open_signals(struct start *start)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	start->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return start->signal_fd < 0 ? log_errno(LOG_LEVEL_ERROR, -errno, "signalfd") : 0;
}

static int open_api(struct start *start)
{
	const char *path = start->options.api_socket;

	return path ? api_server_open(&start->api, path) : 0;
}

static int init_relay(struct start *start, struct relay *relay)
{
	const struct relay_parts parts = {
		.options = &start->options,
		.descriptor_limit = start->descriptor_limit,
		.api = start->api,
		.find_fd = listen_fds_find,
		.find_fd_arg = &start->listen_fds,
		.signal_fd = fd_take(&start->signal_fd),
		.exit_fd = start->options.exit_fd,
		.target_fd = start->target.pidfd,
		.agent = start->agent,
		.link_is_up = start->tap_is_up,
	};
	int r = relay_init(relay, &parts);

	listen_fds_done(&start->listen_fds); /* the rules have copies */
	return r;
}

/* At the end, names in the folders of our sockets are taken away. */
static int enter_sandbox(struct start *start, const struct relay *relay)
{
	struct sandbox_plan plan = sandbox_plan_of(start);
	size_t max = start->options.n_publish;
	int *folders = calloc(MAX(max, (size_t)1), sizeof(*folders)), r;

	if (!folders)
		return log_errno(LOG_LEVEL_ERROR, -ENOMEM, "the sandbox");
	plan.more_folders = folders;
	plan.n_more_folders = relay_folders(relay, folders, max);
	r = sandbox_enter(&plan);
	free(folders);
	fd_close(&start->target.userns_fd);
	return r;
}

/* Readers take one byte, some of them no more. */
static void tell_ready(struct start *start)
{
	int *fd = &start->options.ready_fd;

	if (*fd < 0)
		return;
	while (write(*fd, "1", 1) < 0 && errno == EINTR)
		;
	fd_close(fd);
}

static int start_up(struct start *start, struct relay *relay)
{
	bool has_namespace =
		start->options.target == TARGET_PID || start->options.target == TARGET_PATH;
	int r;

	if ((r = check_passed_fds(start)) != 0 || (r = open_target(start)) != 0)
		return r;
	if (has_namespace && (r = start_agent(start)) != 0)
		return r;
	fd_close(&start->target.netns_fd);
	options_print_banner(&start->options);
	if ((r = open_capture(&start->options, &relay->pcap)) != 0 ||
		(r = open_link(start, &relay->tap)) != 0 || (r = open_signals(start)) != 0 ||
		(r = open_api(start)) != 0)
		return r;
	if ((r = init_relay(start, relay)) != 0 || (r = enter_sandbox(start, relay)) != 0) {
		relay_give_up(relay);
		api_server_free(start->api);
		return r;
	}
	agent_wait_settled(&start->agent);
	tell_ready(start);
	return 0;
}

static int exit_status(enum relay_end end)
{
	return end == RELAY_LINK_GONE || end == RELAY_FAILED ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int serve(struct start *start)
{
	static struct relay relay;
	int r = start_up(start, &relay);

	if (r != 0)
		return r == START_ENDS ? EXIT_SUCCESS : EXIT_FAILURE;
	if (start->exit_fd_is_dead)
		relay.end = RELAY_EXIT_FD;
	else
		relay_run(&relay);
	relay_stop(&relay);
	return exit_status(relay.end);
}

int main(int argc, char **argv)
{
	struct start start = {.signal_fd = -1, .agent = {.sock = -1}, .tap = {.fd = -1}};
	int r, status;

	if (argc > 1 && strcmp(argv[1], "ctl") == 0)
		return ctl_main(argc - 1, argv + 1);
	r = tidy_inheritance(&start);
	if (r < 0) {
		log_errno(LOG_LEVEL_ERROR, r, "cannot open /dev/null");
		return EXIT_FAILURE;
	}
	switch (options_parse(&start.options, argc, argv)) {
	case OPTIONS_EXIT_OK:
		status = EXIT_SUCCESS;
		break;
	case OPTIONS_EXIT_ERROR:
		status = EXIT_FAILURE;
		break;
	default:
		status = serve(&start);
	}
	options_done(&start.options);
	return status;
}
