/* SPDX-License-Identifier: Apache-2.0 */
#include "setup/options.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "config.h"
#include "setup/build_info.h"
#include "setup/options_check.h"

/* What getopt_long() returns for the long name of a row; its letter is returned as such. */
#define VALUE_OF_ROW 0x100

#define HELP_COLUMN  32

static const char *personality_name(enum personality personality)
{
	return personality == PERSONALITY_SLIRP4NETNS ? "slirp4netns" : "netns-helper";
}

void options_print_version(FILE *out, enum personality personality)
{
	fprintf(out, "%s version %s\n", personality_name(personality),
		personality == PERSONALITY_SLIRP4NETNS ? SLIRP4NETNS_VERSION
						       : NETNS_HELPER_VERSION);
	build_info_print(out);
	fflush(out);
}

static void print_row(FILE *out, const struct option_row *row)
{
	int n = 0;

	if (row->letter)
		n += fprintf(out, "-%c, ", row->letter);
	n += fprintf(out, "--%s", row->name);
	if (row->argument)
		n += fprintf(out, "=%s", row->argument);
	fprintf(out, "%*s%s\n", MAX(HELP_COLUMN - n, 2), "", row->help);
}

void options_print_usage(FILE *out, enum personality personality)
{
	fprintf(out, "Usage: %s [OPTION]... PID|PATH|FD [TAPNAME]\n",
		personality_name(personality));
	fputs("   or: netns-helper ctl SOCKET COMMAND..., see netns-helper ctl --help\n", out);
	fprintf(out, "Gives a network namespace a working network, without root.\n\n");
	for (size_t i = 0; i < n_option_rows; i++)
		if (option_table[i].help)
			print_row(out, &option_table[i]);
	fflush(out);
}

static void describe_to_getopt(struct option *longs, char *shorts)
{
	for (size_t i = 0; i < n_option_rows; i++) {
		const struct option_row *row = &option_table[i];

		longs[i] = (struct option){
			.name = row->name,
			.has_arg = row->argument ? required_argument : no_argument,
			.val = VALUE_OF_ROW + (int)i,
		};
		if (row->letter)
			*shorts++ = row->letter;
		if (row->letter && row->argument)
			*shorts++ = ':';
	}
	*shorts = '\0';
}

/* NULL for getopt_long()'s '?'. */
static const struct option_row *find_row(int value)
{
	if (value >= VALUE_OF_ROW)
		return &option_table[value - VALUE_OF_ROW];
	for (size_t i = 0; i < n_option_rows; i++)
		if (option_table[i].letter == value)
			return &option_table[i];
	return NULL;
}

/* Leaves optind at the first argument that is no option. */
static enum options_outcome parse_all(struct options *options, int argc, char **argv)
{
	struct option longs[OPTION_ROWS_MAX + 1] = {0};
	char shorts[2 * OPTION_ROWS_MAX + 1];
	int value;

	describe_to_getopt(longs, shorts);
	optind = 0; /* glibc, musl: begins anew */
	while ((value = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct option_row *row = find_row(value);
		enum options_outcome outcome =
			row ? row->parse(options, row, optarg) : OPTIONS_EXIT_ERROR;

		if (outcome != OPTIONS_OK)
			return outcome;
	}
	return OPTIONS_OK;
}

static const char *program_name(int argc, char **argv)
{
	const char *path = argc > 0 && argv[0] ? argv[0] : "";
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	return *name ? name : "netns-helper";
}

static void set_defaults(struct options *options, const char *program)
{
	*options = (struct options){
		.program = program,
		.personality = strcmp(program, "slirp4netns") == 0 ? PERSONALITY_SLIRP4NETNS
								   : PERSONALITY_NETNS_HELPER,
		.tapfd = -1,
		.exit_fd = -1,
		.ready_fd = -1,
		.mtu = 1500,
		.cidr_arg = "10.0.2.0/24",
		.forward_path = "auto",
		.host_loopback = true,
		.dns_enabled = true,
		.buffers = 64 << 20,
		.busy_poll_us = 40,
		.pcap_size = 64 << 20,
		.log_level = LOG_LEVEL_INFO,
	};
}

/* COMPATIBLE: errors of options and target are followed by the usage on standard output, those of
 * addresses are not. */
enum options_outcome options_parse(struct options *options, int argc, char **argv)
{
	enum options_outcome outcome;

	set_defaults(options, program_name(argc, argv));
	log_init(options->program, options->log_level);
	outcome = parse_all(options, argc, argv);
	if (outcome == OPTIONS_EXIT_OK)
		return outcome;
	if (outcome == OPTIONS_OK && options->show_features) {
		features_print(stdout, options->disabled_features);
		fflush(stdout);
		return OPTIONS_EXIT_OK;
	}
	if (outcome != OPTIONS_OK || !options_check_target(options, argc - optind, argv + optind)) {
		options_print_usage(stdout, options->personality);
		return OPTIONS_EXIT_ERROR;
	}
	return options_check_values(options) ? OPTIONS_OK : OPTIONS_EXIT_ERROR;
}

void options_done(struct options *options)
{
	free(options->publish);
	options->publish = NULL;
	options->n_publish = 0;
}

static void print_address(const char *label, struct in_addr address)
{
	char text[INET_ADDRSTRLEN];

	log_stdout("* %-17s%s", label, inet_ntop(AF_INET, &address, text, sizeof(text)));
}

static void print_optional(const struct options *options)
{
	char text[INET6_ADDRSTRLEN];
	const uint8_t *mac = options->mac.ether_addr_octet;

	if (options->api_socket)
		log_stdout("* %-17s%s", "API Socket:", options->api_socket);
	if (options->has_outbound)
		print_address("Outbound IPv4:", options->outbound.sin_addr);
	if (options->has_outbound6)
		log_stdout("* %-17s%s", "Outbound IPv6:",
			inet_ntop(AF_INET6, &options->outbound6.sin6_addr, text, sizeof(text)));
	if (options->has_mac)
		log_stdout("* %-17s%02x:%02x:%02x:%02x:%02x:%02x", "MAC:", mac[0], mac[1], mac[2],
			mac[3], mac[4], mac[5]);
}

void options_print_banner(const struct options *options)
{
	char gateway[INET_ADDRSTRLEN];

	log_stdout("Starting slirp");
	log_stdout("* %-17s%u", "MTU:", options->mtu);
	print_address("Network:", options->network);
	print_address("Netmask:", options->netmask);
	print_address("Gateway:", options->gateway);
	if (options->dns_enabled)
		print_address("DNS:", options->dns);
	print_address("DHCP begin:", options->dhcp_start);
	print_address("DHCP end:", options->dhcp_end);
	print_address("Recommended IP:", options->guest);
	print_optional(options);
	if (options->host_loopback)
		log_stdout("WARNING: the container reaches the host's 127.0.0.1 as %s "
			   "(--disable-host-loopback prevents it)",
			inet_ntop(AF_INET, &options->gateway, gateway, sizeof(gateway)));
}
