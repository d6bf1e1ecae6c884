/* SPDX-License-Identifier: Apache-2.0 */
#include "relay.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "rules.h"
#include "setup/sandbox.h"
#include "wire/ip4.h"
#include "wire/tcp.h"

/* Frames that one turn takes from the link at most: nobody else waits longer than for these. */
#define LINK_BATCH 64
/* And bytes: two of the largest frames take a tenth of a millisecond. */
#define LINK_BATCH_BYTES (128 * 1024)

/* So late no timer is but after a pause; rounding and a turn's work are below. */
#define LATE_NS (10 * NS_PER_MS)

/* How long bytes that the container was told have arrived are still written at the end. */
#define DRAIN_NS (1 * NS_PER_SEC)
/* And before the tap is closed, whose name is wanted soon: so long, and so many turns in any case,
 * which is a matter of milliseconds unless the machine is busy with others. */
#define LAST_LOOK_NS    (10 * NS_PER_MS)
#define LAST_LOOK_TURNS 32
/* Nothing tells that a peer has acknowledged the last of it. */
#define DRAIN_LOOK_NS (10 * NS_PER_MS)

_Static_assert(LINK_HEADER_LEN == VNET_HEADER_LEN, "ingress takes the link's frames as they are");
_Static_assert(LINK_BUFFER_LEN >= INGRESS_BUFFER_LEN, "a datagram fits into the link's buffer");

/* ---- counters ---- */

static void update_counters(struct relay *relay)
{
	int last;

	relay->counters.value[COUNTER_SYSCALLS_REFUSED] = sandbox_refused_calls(&last);
	relay->counters.value[COUNTER_LOG_DROPPED] = log_dropped();
}

static void print_counters(struct relay *relay)
{
	update_counters(relay);
	for (size_t i = 0; i < N_COUNTERS; i++)
		log_plain("%s %llu", counter_name((enum counter)i),
			(unsigned long long)relay->counters.value[i]);
}

/* " name=value" of all that are not zero. */
static void format_counters(struct relay *relay, char *text, size_t size)
{
	size_t at = 0;

	update_counters(relay);
	text[0] = '\0';
	for (size_t i = 0; i < N_COUNTERS && at < size; i++)
		if (relay->counters.value[i])
			at += (size_t)snprintf(text + at, size - at, " %s=%llu",
				counter_name((enum counter)i),
				(unsigned long long)relay->counters.value[i]);
}

/* The first of each run of refused system calls is worth a line: the list lacks something. */
static void report_refused_calls(struct relay *relay)
{
	char name[32];
	int last;
	uint64_t n = sandbox_refused_calls(&last);

	if (n == relay->n_refused_seen)
		return;
	relay->n_refused_seen = n;
	if (last == relay->last_refused)
		return;
	relay->last_refused = last;
	log_warning("system call %s (%d) is not on the sandbox's list, refused with ENOSYS",
		sandbox_syscall_name(last, name, sizeof(name)), last);
}

/* ---- events ---- */

static void end_with(struct relay *relay, enum relay_end end)
{
	if (relay->end == RELAY_RUNS)
		relay->end = end;
}

static void reap_children(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void take_signals(struct relay *relay)
{
	struct signalfd_siginfo info;

	while (read(relay->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGUSR1:
			print_counters(relay);
			break;
		case SIGCHLD:
			reap_children();
			break;
		default:
			relay->end_signal = (int)info.ssi_signo;
			end_with(relay, RELAY_SIGNAL);
		}
	}
}

/* A frame of ingress's. */
static void send_answer(void *owner, const uint8_t *frame, size_t len)
{
	static uint8_t no_offload[LINK_HEADER_LEN];
	struct relay *relay = owner;
	struct link *link = relay->link;
	const struct iovec iov[2] = {
		{.iov_base = no_offload, .iov_len = sizeof(no_offload)},
		{.iov_base = (uint8_t *)(uintptr_t)frame, .iov_len = len},
	};

	if (link->ops->send(link, iov, ARRAY_SIZE(iov)) == 0)
		count(&relay->counters, COUNTER_FRAMES_OUT);
	else
		count(&relay->counters, COUNTER_FRAMES_OUT_DROPPED);
}

/* The dispatch of frames: one of `len` bytes lies in relay->frame, behind its header. */
static void frame_input(struct relay *relay, size_t len)
{
	size_t answer_len;
	struct packet packet;
	enum ingress_result kind = ingress_frame(&relay->ingress, relay->frame, len,
		relay->loop.now_ns, &packet, relay->answer, &answer_len);

	if (kind == INGRESS_ANSWER)
		send_answer(relay, relay->answer, answer_len);
	else if (kind == INGRESS_DROP)
		return;
	else if (relay->has_stack)
		stack_input(&relay->stack, kind, relay->frame + LINK_HEADER_LEN, &packet);
	else
		bridge_input(&relay->bridge, relay->frame + LINK_HEADER_LEN, &packet);
}

/* How many frames to take before looking at the rest again. A read that finds nothing costs as much
 * as one that finds a frame, so a request and its answer get along with one read each; whoever is
 * ready again at once is read from in larger batches, until one finds nothing. */
static void adapt_batch(struct relay *relay, bool ran_dry)
{
	if (ran_dry || !relay->link_was_ready)
		relay->link_batch = 1;
	else
		relay->link_batch = MIN(relay->link_batch * 2, LINK_BATCH);
}

static void take_frames(struct relay *relay, uint32_t events)
{
	struct link *link = relay->link;
	size_t n_bytes = 0;
	ssize_t n = 0;

	for (unsigned int i = 0; i < relay->link_batch && n_bytes < LINK_BATCH_BYTES; i++) {
		n = link->ops->recv(link, relay->frame);
		if (n == -EAGAIN)
			break;
		if (n == -EMSGSIZE)
			continue;
		if (n < 0) {
			end_with(relay, RELAY_LINK_GONE);
			return;
		}
		count(&relay->counters, COUNTER_FRAMES_IN);
		n_bytes += (size_t)n;
		frame_input(relay, (size_t)n);
	}
	adapt_batch(relay, n == -EAGAIN);
	/* A tap without its device is in error and never readable again. */
	if (n == -EAGAIN && events & (EPOLLERR | EPOLLHUP))
		end_with(relay, RELAY_LINK_GONE);
}

static void agent_event(struct relay *relay)
{
	if (agent_client_ready(&relay->agent) != -EPIPE)
		return;
	log_warning("the netns agent is gone; what needs sockets of the namespace will fail, and "
		    "changes of " RESOLVER_PATH " are not seen any more");
	agent_stop(&relay->agent_process);
}

static void take_resolv_conf(void *owner, uint64_t cookie, int fd)
{
	struct relay *relay = owner;

	resolver_take(&relay->hostsock.resolver, fd, relay->loop.now_ns);
	if (relay->has_stack)
		dns_servers_known(relay->stack.dns);
}

/* The agent has the caller's file system before it; the relay's is empty. */
static int ask_resolv_conf(void *arg)
{
	struct relay *relay = arg;

	return agent_client_resolv_conf(&relay->agent, take_resolv_conf, relay, 0);
}

static void dispatch(void *owner, struct handle handle, uint32_t events)
{
	struct relay *relay = owner;

	switch ((enum handle_kind)handle.kind) {
	case HANDLE_LINK:
		relay->link_events |= events;
		break;
	case HANDLE_SLIRP:
		bridge_ready(&relay->bridge, handle, events);
		break;
	case HANDLE_TCP:
	case HANDLE_UDP:
	case HANDLE_PING:
	case HANDLE_DNS:
	case HANDLE_SPLICE_NEAR:
	case HANDLE_SPLICE_FAR:
	case HANDLE_PUBLISH:
	case HANDLE_PUBLISH_UDP:
		stack_ready(&relay->stack, handle, events);
		break;
	case HANDLE_API_LISTENER:
		api_server_accept(relay->api);
		break;
	case HANDLE_API_CLIENT:
		api_server_client_ready(relay->api, handle, events);
		break;
	case HANDLE_AGENT:
		agent_event(relay);
		break;
	case HANDLE_SIGNAL:
		take_signals(relay);
		break;
	case HANDLE_EXIT_FD:
		end_with(relay, RELAY_EXIT_FD);
		break;
	case HANDLE_TARGET:
		end_with(relay, RELAY_TARGET_GONE);
		break;
	case HANDLE_NONE:
		break;
	}
}

/* libslirp's events come before frames: its list is good only until the first frame. Returns how
 * many events there were, or a negative errno. */
static int turn(struct relay *relay, int64_t deadline_ns)
{
	int r;

	relay->link_events = 0;
	deadline_ns = relay->has_more ? 0 : MIN(deadline_ns, relay->bridge.deadline_ns);
	r = loop_wait(&relay->loop, deadline_ns, dispatch, relay);
	if (r < 0)
		return log_errno(LOG_LEVEL_ERROR, r, "cannot wait for events");
	/* We were kept from running, and what a timer waits for may stand behind others. */
	if (timer_heap_next(&relay->loop.timers) <= relay->loop.now_ns - LATE_NS)
		relay->link_batch = LINK_BATCH;
	if (relay->link_events && relay->link_batch > 1 && relay->has_stack)
		stack_answer(&relay->stack);
	if (relay->link_events)
		take_frames(relay, relay->link_events);
	loop_expire(&relay->loop);
	relay->link_was_ready = relay->link_events;
	bridge_finish(&relay->bridge);
	relay->has_more = relay->has_stack && stack_finish(&relay->stack);
	pcap_link_flush(&relay->pcap);
	report_refused_calls(relay);
	return r;
}

enum relay_end relay_run(struct relay *relay)
{
	while (relay->end == RELAY_RUNS)
		if (turn(relay, CLOCK_NEVER) < 0)
			end_with(relay, RELAY_FAILED);
	return relay->end;
}

/* ---- the end ---- */

static void log_end(struct relay *relay)
{
	char counters[1024];
	enum log_level level = LOG_LEVEL_INFO;
	const char *why = "";

	switch (relay->end) {
	case RELAY_RUNS:
		return;
	case RELAY_EXIT_FD:
		why = "exit-fd hung up";
		break;
	case RELAY_SIGNAL:
		why = strsignal(relay->end_signal);
		break;
	case RELAY_TARGET_GONE:
		why = "the target process has ended";
		break;
	case RELAY_LINK_GONE:
		why = "the tap device is gone";
		level = LOG_LEVEL_ERROR;
		break;
	case RELAY_FAILED:
		why = "the event loop failed";
		level = LOG_LEVEL_ERROR;
		break;
	}
	format_counters(relay, counters, sizeof(counters));
	log_line(level, "ends: %s;%s", why, counters);
}

/* What the host's kernel has taken for us counts as arrived, too: it is passed on as far as that
 * goes at once. The container's address on the tap, to which spliced connections go, is gone with
 * it. */
static void look_once_more(struct relay *relay)
{
	int64_t until_ns = relay->loop.now_ns + LAST_LOOK_NS;
	int n = 1;

	for (int i = 0; (n > 0 || (n == 0 && relay->has_more)) &&
		(i < LAST_LOOK_TURNS || relay->loop.now_ns < until_ns);
		i++)
		n = turn(relay, 0);
}

static bool has_unsent(struct relay *relay)
{
	return bridge_has_unsent(&relay->bridge) ||
		(relay->has_stack && stack_has_unsent(&relay->stack));
}

static void drain(struct relay *relay)
{
	int64_t until_ns = relay->loop.now_ns + DRAIN_NS;

	while (has_unsent(relay) && relay->loop.now_ns < until_ns)
		if (turn(relay, MIN(until_ns, relay->loop.now_ns + DRAIN_LOOK_NS)) < 0)
			return;
}

size_t relay_folders(const struct relay *relay, int *ret_fds, size_t max)
{
	return relay->has_stack ? publish_folders(relay->stack.publish, ret_fds, max) : 0;
}

void relay_stop(struct relay *relay)
{
	forward_close_all(relay->forward);
	api_server_free(relay->api);
	relay->api = NULL;
	if (relay->end != RELAY_FAILED)
		look_once_more(relay);
	relay->bridge.link = NULL;
	if (relay->has_stack)
		stack_link_gone(&relay->stack);
	relay->link->ops->close(relay->link);
	agent_client_done(&relay->agent);
	agent_source_done(&relay->agent_source);
	agent_stop(&relay->agent_process);
	drain(relay);
	forward_free(relay->forward);
	bridge_done(&relay->bridge);
	if (relay->has_stack)
		stack_done(&relay->stack);
	ingress_done(&relay->ingress);
	hostsock_done(&relay->hostsock);
	fd_close(&relay->signal_fd);
	loop_done(&relay->loop);
	log_end(relay);
}

/* ---- the beginning ---- */

static unsigned int host_features(const struct options *options)
{
	unsigned int features = 0;

	if (!feature_in(options->disabled_features, FEATURE_UDP_GRO))
		features |= HOSTSOCK_UDP_GRO;
	if (!feature_in(options->disabled_features, FEATURE_UDP_SEGMENT))
		features |= HOSTSOCK_UDP_SEGMENT;
	return features;
}

static void set_policy(struct policy *policy, const struct options *options)
{
	*policy = (struct policy){
		.network = options->network,
		.netmask = options->netmask,
		.gateway = options->gateway,
		.dns = options->dns,
		.guest = options->guest,
		.gateway6.s6_addr = {0xfd, [15] = 2},
		.dns6.s6_addr = {0xfd, [15] = 3},
		.ipv6 = options->ipv6,
		.host_loopback = options->host_loopback,
		.dns_enabled = options->dns_enabled,
		.has_outbound = options->has_outbound,
		.has_outbound6 = options->has_outbound6,
		.outbound = ip_addr_of_v4(options->outbound.sin_addr),
		.outbound6 = ip_addr_of_v6(&options->outbound6.sin6_addr),
	};
}

static int watch(struct relay *relay, int fd, uint32_t events, enum handle_kind kind)
{
	if (fd < 0)
		return 0;
	return loop_watch(&relay->loop, fd, events, (struct handle){.kind = kind});
}

/* EPERM: a regular file or /dev/null, which never hangs up. */
static int watch_exit_fd(struct relay *relay, int fd)
{
	int r = watch(relay, fd, 0, HANDLE_EXIT_FD);

	return r == -EPERM ? 0 : r;
}

/* The lowest free number is about how many there are already; the API keeps some for itself. */
static uint64_t descriptors_left(const struct relay *relay, uint64_t limit)
{
	uint64_t used = (uint64_t)MAX(relay->hostsock.spare, 0) + 1 + API_RESERVE;

	return limit > used ? limit - used : 1;
}

static int start_bridge(struct relay *relay, const struct relay_parts *parts)
{
	struct options *options = parts->options;
	const struct bridge_config config = {
		.policy = &relay->policy,
		.icmp_limit = &relay->icmp_limit,
		.dhcp_start = options->dhcp_start,
		.mtu = options->mtu,
		.dns_enabled = options->dns_enabled,
		.outbound = options->has_outbound ? &options->outbound : NULL,
		.outbound6 = options->has_outbound6 ? &options->outbound6 : NULL,
		.descriptor_limit = descriptors_left(relay, parts->descriptor_limit),
	};
	int r;

	r = bridge_init(&relay->bridge, &config, relay->link, &relay->hostsock.host, &relay->loop,
		&relay->counters);
	if (r < 0)
		return log_errno(LOG_LEVEL_ERROR, r, "libslirp refuses its configuration");
	hostfwd_init(&relay->hostfwd, &relay->bridge, relay->policy.guest);
	if (parts->link_is_up)
		bridge_link_up(&relay->bridge);
	return 0;
}

static int start_stack(struct relay *relay, const struct relay_parts *parts)
{
	const struct stack_config config = {
		.policy = &relay->policy,
		.link = relay->link,
		.host = &relay->hostsock.host,
		.loop = &relay->loop,
		.counters = &relay->counters,
		.icmp_limit = &relay->icmp_limit,
		.bridge = &relay->bridge,
		.sockets = parts->agent.sock >= 0 ? &relay->agent_source.source : NULL,
		.mtu = parts->options->mtu,
		.descriptor_limit = parts->descriptor_limit,
		.descriptors = descriptors_left(relay, parts->descriptor_limit),
		.memory = (size_t)MIN(parts->options->buffers, SIZE_MAX / 2),
	};
	int r = stack_init(&relay->stack, &config);

	if (r < 0)
		return log_errno(LOG_LEVEL_ERROR, r, "cannot start the relay");
	relay->has_stack = true;
	return 0;
}

static int start_api(struct relay *relay, const struct relay_parts *parts)
{
	const char *path = parts->options->forward_path;

	relay->api_context = (struct api_context){
		.forward = relay->forward,
		.guest = relay->policy.guest,
		.lazy = parts->options->lazy_listen,
		.counters = &relay->counters,
	};
	if (path && !forward_path_parse(path, &relay->api_context.path))
		return -EINVAL;
	if (!relay->api)
		return 0;
	return api_server_start(relay->api, &relay->loop, &relay->api_context);
}

/* The first look is the relay's own, since there is no sandbox yet: so there is always a list. */
static void start_resolver(struct relay *relay, const struct relay_parts *parts)
{
	struct resolver *resolver = &relay->hostsock.resolver;
	struct host_nameserver servers[HOST_NAMESERVERS_MAX];

	resolver_nameservers(resolver, servers, relay->loop.now_ns);
	if (parts->agent.sock < 0)
		return;
	resolver->ask = ask_resolv_conf;
	resolver->arg = relay;
}

/* The relay of TCP copies from behind the headers, libslirp from the frame's begin. */
static uint8_t *frame_place(struct relay *relay, enum stack_kind stack)
{
	size_t before = LINK_HEADER_LEN;

	if (stack == STACK_AUTO)
		before += ETH_HEADER_LEN + IP4_HEADER_MIN + TCP_HEADER_MIN;
	return relay->buffer + (128 - before) % 64;
}

/* Our own stack carries published ports itself. */
static struct forward_backend *backend(struct relay *relay)
{
	return relay->has_stack ? stack_publish_backend(&relay->stack) : &relay->hostfwd.backend;
}

static int start_forward(struct relay *relay, const struct relay_parts *parts)
{
	relay->forward = forward_new(backend(relay));
	if (!relay->forward)
		return log_errno(LOG_LEVEL_ERROR, -ENOMEM, "cannot start");
	return rules_add(relay->forward, parts->options, parts->find_fd, parts->find_fd_arg);
}

static int start_agent_client(struct relay *relay, const struct relay_parts *parts)
{
	int r = agent_client_init(&relay->agent, parts->agent.sock, &relay->loop, &relay->counters);

	agent_source_init(&relay->agent_source, &relay->agent);
	relay->agent_source.max_fd = stack_max_fd(parts->descriptor_limit);
	return r;
}

static int watch_all(struct relay *relay, const struct relay_parts *parts)
{
	int r;

	if ((r = watch(relay, relay->link->fd, EPOLLIN, HANDLE_LINK)) < 0 ||
		(r = watch(relay, relay->signal_fd, EPOLLIN, HANDLE_SIGNAL)) < 0 ||
		(r = watch(relay, parts->target_fd, EPOLLIN, HANDLE_TARGET)) < 0 ||
		(r = watch_exit_fd(relay, parts->exit_fd)) < 0 ||
		(r = start_agent_client(relay, parts)) < 0)
		return log_errno(LOG_LEVEL_ERROR, r, "cannot watch a descriptor");
	return 0;
}

int relay_init(struct relay *relay, const struct relay_parts *parts)
{
	int r = loop_init(&relay->loop);

	if (r < 0)
		return log_errno(LOG_LEVEL_ERROR, r, "cannot make an event loop");
	busy_poll_init(&relay->loop.busy_poll, parts->options->busy_poll_us * NS_PER_MS / 1000);
	relay->api = parts->api;
	relay->signal_fd = parts->signal_fd;
	relay->agent_process = parts->agent;
	relay->link = &relay->tap.link;
	if (parts->options->pcap)
		relay->link = pcap_link_wrap(&relay->pcap, relay->link, &relay->loop.now_ns,
			clock_wall_offset_ns(), &relay->counters);
	set_policy(&relay->policy, parts->options);
	icmp_limit_init(&relay->icmp_limit, &relay->counters);
	relay->link_batch = 1;
	relay->frame = frame_place(relay, parts->options->stack);
	ingress_init(&relay->ingress, &relay->policy, &relay->icmp_limit,
		parts->options->stack == STACK_AUTO, &relay->counters);
	ingress_watch(&relay->ingress, &relay->loop.timers, send_answer, relay);
	hostsock_init(&relay->hostsock, &relay->loop, host_features(parts->options));
	relay->ingress.offloads = relay->link->offloads;
	start_resolver(relay, parts);
	r = watch_all(relay, parts);
	if (r == 0)
		r = start_bridge(relay, parts);
	if (r == 0 && parts->options->stack == STACK_AUTO)
		r = start_stack(relay, parts);
	if (r == 0)
		r = start_forward(relay, parts);
	if (r < 0)
		return r;
	r = start_api(relay, parts);
	return r < 0 ? log_errno(LOG_LEVEL_ERROR, r, "cannot watch the API socket") : 0;
}

void relay_give_up(struct relay *relay)
{
	if (relay->forward)
		forward_close_all(relay->forward);
}
