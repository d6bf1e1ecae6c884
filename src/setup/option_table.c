/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options, and what each does when it is met. A parser that returns OPTIONS_EXIT_ERROR has
 * printed its message; the usage follows.
 *
 * COMPATIBLE: a new name must leave every abbreviation of slirp4netns's own names unambiguous
 * (test-options.c tries them all).
 */
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "setup/options.h"
#include "setup/options_check.h"

#define MTU_MAX          65521
#define BUSY_POLL_MAX_US 1000

static void *field_of(struct options *options, const struct option_row *row)
{
	return (char *)options + row->field;
}

static enum options_outcome parse_on(
	struct options *options, const struct option_row *row, const char *argument)
{
	*(bool *)field_of(options, row) = true;
	return OPTIONS_OK;
}

static enum options_outcome parse_off(
	struct options *options, const struct option_row *row, const char *argument)
{
	*(bool *)field_of(options, row) = false;
	return OPTIONS_OK;
}

static enum options_outcome parse_on_experimental(
	struct options *options, const struct option_row *row, const char *argument)
{
	log_stdout("WARNING: --%s is experimental", row->name);
	return parse_on(options, row, argument);
}

static enum options_outcome parse_no_host_loopback(
	struct options *options, const struct option_row *row, const char *argument)
{
	log_stdout("WARNING: --%s is deprecated, use --disable-host-loopback", row->name);
	return parse_off(options, row, argument);
}

static enum options_outcome parse_create_sandbox(
	struct options *options, const struct option_row *row, const char *argument)
{
	log_stdout("WARNING: --%s is deprecated, use --enable-sandbox", row->name);
	return parse_on(options, row, argument);
}

static enum options_outcome parse_text(
	struct options *options, const struct option_row *row, const char *argument)
{
	*(const char **)field_of(options, row) = argument;
	return OPTIONS_OK;
}

static enum options_outcome parse_descriptor(
	struct options *options, const struct option_row *row, const char *argument)
{
	long fd;

	if (!options_parse_number(argument, 0, INT_MAX, &fd)) {
		log_error("--%s=%s: not a non-negative integer", row->name, argument);
		return OPTIONS_EXIT_ERROR;
	}
	*(int *)field_of(options, row) = (int)fd;
	return OPTIONS_OK;
}

static enum options_outcome parse_mtu(
	struct options *options, const struct option_row *row, const char *argument)
{
	long mtu;

	if (!options_parse_number(argument, 1, MTU_MAX, &mtu)) {
		log_error("--mtu=%s: not a positive integer up to %d", argument, MTU_MAX);
		return OPTIONS_EXIT_ERROR;
	}
	options->mtu = (uint32_t)mtu;
	return OPTIONS_OK;
}

static enum options_outcome parse_busy_poll(
	struct options *options, const struct option_row *row, const char *argument)
{
	long us;

	if (!options_parse_number(argument, 0, BUSY_POLL_MAX_US, &us)) {
		log_error("--busy-poll=%s: not a number of microseconds up to %d", argument,
			BUSY_POLL_MAX_US);
		return OPTIONS_EXIT_ERROR;
	}
	options->busy_poll_us = (uint32_t)us;
	return OPTIONS_OK;
}

static enum options_outcome parse_userns_path(
	struct options *options, const struct option_row *row, const char *argument)
{
	if (access(argument, F_OK) < 0) {
		log_errno(LOG_LEVEL_ERROR, -errno, "--userns-path=%s", argument);
		return OPTIONS_EXIT_ERROR;
	}
	options->userns_path = argument;
	return OPTIONS_OK;
}

/* The place of `argument` among the row's words; -1, with a message, when it is none of them. */
static int word_index(const struct option_row *row, const char *argument)
{
	const char *at = row->words;
	size_t argument_len = strlen(argument);

	for (int i = 0;; i++) {
		size_t len = strcspn(at, " ");

		if (len == argument_len && memcmp(at, argument, len) == 0)
			return i;
		at += len;
		if (*at == '\0')
			break;
		at++;
	}
	log_error("--%s=%s: not one of: %s", row->name, argument, row->words);
	return -1;
}

static enum options_outcome parse_stack(
	struct options *options, const struct option_row *row, const char *argument)
{
	int i = word_index(row, argument);

	if (i < 0)
		return OPTIONS_EXIT_ERROR;
	options->stack = (enum stack_kind)i;
	return OPTIONS_OK;
}

static enum options_outcome parse_publish(
	struct options *options, const struct option_row *row, const char *argument)
{
	const char **all =
		reallocarray(options->publish, options->n_publish + 1, sizeof(options->publish[0]));

	if (!all) {
		log_errno(LOG_LEVEL_ERROR, -errno, "--%s=%s", row->name, argument);
		return OPTIONS_EXIT_ERROR;
	}
	options->publish = all;
	options->publish[options->n_publish++] = argument;
	return OPTIONS_OK;
}

static enum options_outcome parse_forward_path(
	struct options *options, const struct option_row *row, const char *argument)
{
	if (word_index(row, argument) < 0)
		return OPTIONS_EXIT_ERROR;
	options->forward_path = argument;
	return OPTIONS_OK;
}

/* Takes effect at once, so that it covers the rest of the command line. */
static enum options_outcome parse_log_level(
	struct options *options, const struct option_row *row, const char *argument)
{
	int i = word_index(row, argument);

	if (i < 0)
		return OPTIONS_EXIT_ERROR;
	options->log_level = (enum log_level)i;
	log_init(options->program, options->log_level);
	return OPTIONS_OK;
}

static enum options_outcome parse_sandbox(
	struct options *options, const struct option_row *row, const char *argument)
{
	int i = word_index(row, argument);

	if (i < 0)
		return OPTIONS_EXIT_ERROR;
	options->sandbox = (enum sandbox_mode)(SANDBOX_AUTO + i);
	return OPTIONS_OK;
}

static enum options_outcome parse_personality(
	struct options *options, const struct option_row *row, const char *argument)
{
	int i = word_index(row, argument);

	if (i < 0)
		return OPTIONS_EXIT_ERROR;
	options->personality = (enum personality)i;
	return OPTIONS_OK;
}

static enum options_outcome parse_disable_feature(
	struct options *options, const struct option_row *row, const char *argument)
{
	const char *bad;
	size_t len;

	if (features_parse(argument, &options->disabled_features, &bad, &len) < 0) {
		log_error("--%s: no such feature: \"%.*s\"", row->name, (int)len, bad);
		return OPTIONS_EXIT_ERROR;
	}
	return OPTIONS_OK;
}

static enum options_outcome parse_help(
	struct options *options, const struct option_row *row, const char *argument)
{
	options_print_usage(stdout, options->personality);
	return OPTIONS_EXIT_OK;
}

static enum options_outcome parse_version(
	struct options *options, const struct option_row *row, const char *argument)
{
	options_print_version(stdout, options->personality);
	return OPTIONS_EXIT_OK;
}

#define FIELD(member) offsetof(struct options, member)

/* The names with a blank after each, the last as well. */
#define X(id, name, text) name " "

const struct option_row option_table[] = {
	{"configure", 'c', NULL, "bring up lo and the tap, with address and default route",
		.field = FIELD(configure), .parse = parse_on},
	{"exit-fd", 'e', "FD", "end when this descriptor hangs up", .field = FIELD(exit_fd),
		.parse = parse_descriptor},
	{"ready-fd", 'r', "FD", "write \"1\" to this descriptor when the network is there",
		.field = FIELD(ready_fd), .parse = parse_descriptor},
	{"mtu", 'm', "MTU", "the network's MTU (default 1500, at most 65521)", .parse = parse_mtu},
	{"enable-ipv6", '6', NULL, "IPv6 as well, fd00::/64 (experimental)", .field = FIELD(ipv6),
		.parse = parse_on_experimental},
	{"api-socket", 'a', "PATH", "listen here for requests, e.g. to publish ports", FILE_WORDS,
		.field = FIELD(api_socket), .parse = parse_text},
	{"publish", 'p', "RULE", "publish ports: [ADDR:]PORT[-PORT][:[ADDR:]PORT[-PORT]][/PROTO]",
		.repeatable = true, .parse = parse_publish},
	{"forward-path", 0, "PATH", "of clients of such ports: auto (default), splice or tap",
		"auto splice tap", .parse = parse_forward_path},
	{"lazy-listen", 0, NULL, "listen only while something in the container does",
		.field = FIELD(lazy_listen), .parse = parse_on},
	{"cidr", 0, "CIDR", "the container's IPv4 network (default 10.0.2.0/24)",
		.field = FIELD(cidr_arg), .parse = parse_text},
	{"disable-host-loopback", 0, NULL,
		"the gateway (10.0.2.2) does not lead to the host's own 127.0.0.1",
		.field = FIELD(host_loopback), .parse = parse_off},
	{"no-host-loopback", 0, NULL, NULL, .field = FIELD(host_loopback),
		.parse = parse_no_host_loopback},
	{"disable-dns", 0, NULL, "no DNS forwarder at 10.0.2.3", .field = FIELD(dns_enabled),
		.parse = parse_off},
	{"outbound-addr", 0, "IPV4", "send from this address or interface of the host",
		INTERFACE_WORDS, .field = FIELD(outbound_arg), .parse = parse_text},
	{"outbound-addr6", 0, "IPV6", "the same for IPv6", INTERFACE_WORDS,
		.field = FIELD(outbound6_arg), .parse = parse_text},
	{"macaddress", 0, "MAC", "the tap's MAC address (only with -c)",
		.field = FIELD(macaddress_arg), .parse = parse_text},
	{"netns-type", 0, "TYPE", "what the target is: pid (default), path or tapfd",
		"pid path tapfd", .field = FIELD(netns_type_arg), .parse = parse_text},
	{"userns-path", 0, "PATH", "join this user namespace", FILE_WORDS,
		.parse = parse_userns_path},
	{"target-type", 0, "TYPE", "netns (default), or bess: PATH is a socket to listen on",
		"netns bess", .field = FIELD(target_type_arg), .parse = parse_text},
	{"quit-with-target", 0, NULL, "end when the target's process has ended",
		.field = FIELD(quit_with_target), .parse = parse_on},
	{"stack", 0, "NAME", "the TCP/IP stack: auto (default) or libslirp", "auto libslirp",
		.parse = parse_stack},
	{"buffers", 0, "SIZE", "memory for what TCP connections hold, at most (default 64M)",
		.field = FIELD(buffers_arg), .parse = parse_text},
	{"busy-poll", 0, "USEC", "look so long for what comes soon (default 40; 0: always sleep)",
		.parse = parse_busy_poll},
	{"enable-sandbox", 0, NULL, "insist on an empty root without capabilities",
		.field = FIELD(enable_sandbox), .parse = parse_on},
	{"create-sandbox", 0, NULL, NULL, .field = FIELD(enable_sandbox),
		.parse = parse_create_sandbox},
	{"enable-seccomp", 0, NULL, "insist on the list of system calls (experimental)",
		.field = FIELD(enable_seccomp), .parse = parse_on_experimental},
	{"disable-seccomp", 0, NULL, "any system call, for debugging",
		.field = FIELD(disable_seccomp), .parse = parse_on},
	{"sandbox", 0, "MODE", "what if the host refuses part of it: auto, require; or off",
		"auto require off", .parse = parse_sandbox},
	{"features", 0, NULL, "show what the kernel and this build offer",
		.field = FIELD(show_features), .parse = parse_on},
	{"disable-feature", 0, "NAME[,NAME]", "do without some of --features", FEATURES(X),
		.repeatable = true, .parse = parse_disable_feature},
	{"pcap", 0, "FILE", "write all frames to this file, for tcpdump and Wireshark", FILE_WORDS,
		.field = FIELD(pcap), .parse = parse_text},
	{"pcap-size", 0, "SIZE",
		"begin FILE.1, then FILE anew at this size (default 64M; 0: never)",
		.field = FIELD(pcap_size_arg), .parse = parse_text},
	{"log-level", 0, "LEVEL", "error, warning, info (default) or debug",
		"error warning info debug", .parse = parse_log_level},
	{"personality", 0, "NAME", "netns-helper or slirp4netns (default: by argv[0])",
		"netns-helper slirp4netns", .parse = parse_personality},
	{"help", 'h', NULL, "show this and exit", .parse = parse_help},
	{"version", 'v', NULL, "show the version and exit", .parse = parse_version},
};

const size_t n_option_rows = ARRAY_SIZE(option_table);

_Static_assert(ARRAY_SIZE(option_table) <= OPTION_ROWS_MAX, "options.c has room for all");
