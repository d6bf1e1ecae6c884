/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line. One table (option_table) drives getopt_long(3), --help, the shell completions
 * and the test that the manual page agrees; options_check.c then looks at what the options and the
 * target say together. COMPATIBLE: names, grammar, order of checks and messages are
 * slirp4netns 1.3's.
 */
#pragma once

#include <net/ethernet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/log.h"
#include "setup/features.h"

enum personality { PERSONALITY_NETNS_HELPER, PERSONALITY_SLIRP4NETNS };

enum target_kind { TARGET_PID, TARGET_PATH, TARGET_TAPFD, TARGET_BESS };

enum stack_kind { STACK_AUTO, STACK_LIBSLIRP };

enum sandbox_mode {
	SANDBOX_UNSET, /* as the personality says */
	SANDBOX_AUTO,
	SANDBOX_REQUIRE,
	SANDBOX_OFF,
};

struct options {
	const char *program; /* the last component of argv[0]; begins the log lines */
	enum personality personality;

	enum target_kind target;
	int pid;                 /* of TARGET_PID, and of a /proc/PID/ path; else 0 */
	const char *target_path; /* TARGET_PATH, TARGET_BESS */
	int tapfd;               /* TARGET_TAPFD, else -1; may be a number that is not open */
	char tap_name[16];       /* IFNAMSIZ; "" for TARGET_TAPFD and TARGET_BESS */
	const char *userns_path;
	bool quit_with_target;

	bool configure;
	int exit_fd;  /* -1: none; may be a number that is not open */
	int ready_fd; /* -1: none; may be a number that is not open */
	uint32_t mtu;
	bool has_mac;
	struct ether_addr mac;

	/* All derived from --cidr, network byte order. */
	struct in_addr network, netmask, gateway, dns, dhcp_start, dhcp_end, guest;

	bool ipv6;
	bool host_loopback;
	bool dns_enabled;
	bool has_outbound, has_outbound6;
	struct sockaddr_in outbound;
	struct sockaddr_in6 outbound6;

	const char *api_socket;
	const char **publish; /* the rules of --publish, as they were written, in their order */
	size_t n_publish;
	const char *forward_path; /* one of "auto", "splice", "tap"; for rules that name none */
	bool lazy_listen;         /* for those of TCP over our own stack */
	enum stack_kind stack;
	uint64_t buffers; /* of the TCP relay, in bytes */
	uint32_t busy_poll_us;
	const char *pcap;   /* NULL: no capture */
	uint64_t pcap_size; /* of one file in bytes; 0: no limit */

	bool enable_sandbox; /* asked for by name: failure is fatal; not with SANDBOX_OFF */
	bool enable_seccomp; /* asked for by name: failure is fatal; not with disable_seccomp */
	bool disable_seccomp;
	enum sandbox_mode sandbox;
	struct feature_set disabled_features;
	bool show_features;
	enum log_level log_level;

	/* The arguments of the options that are looked at only after all were parsed. */
	const char *cidr_arg, *netns_type_arg, *target_type_arg, *outbound_arg, *outbound6_arg,
		*macaddress_arg, *buffers_arg, *pcap_size_arg;
};

enum options_outcome {
	OPTIONS_OK,
	OPTIONS_EXIT_OK,    /* --help, --version, --features: printed, end with 0 */
	OPTIONS_EXIT_ERROR, /* the message was printed, end with 1 */
};

/* Reads the command line and prints what there is to say about it. Sets the log's name and level.
 * `options` is filled with the defaults first; its pointers lead into argv, and options_done()
 * frees what else it holds, whatever the outcome was. Whether the numbers of descriptors mean
 * anything, and what the rules of --publish say, is not looked at. */
enum options_outcome options_parse(struct options *options, int argc, char **argv);
void options_done(struct options *options);

struct option_row {
	const char *name;     /* without the dashes */
	char letter;          /* 0: none */
	const char *argument; /* shown in --help: "FD"; NULL: takes none */
	const char *help;     /* one line; NULL: not shown (deprecated) */
	/* What may follow, for the completions: words separated by spaces, FILE_WORDS for a path,
	 * INTERFACE_WORDS for a network interface; NULL: anything. */
	const char *words;
	bool repeatable; /* each occurrence adds to the earlier ones, lists take commas */
	size_t field;    /* offset in struct options, for the parsers that are shared */
	enum options_outcome (*parse)(
		struct options *options, const struct option_row *row, const char *argument);
};

#define FILE_WORDS      "@file"
#define INTERFACE_WORDS "@interface"

#define OPTION_ROWS_MAX 64

extern const struct option_row option_table[];
extern const size_t n_option_rows;

/* "Usage: ..." and the table. */
void options_print_usage(FILE *out, enum personality personality);
void options_print_version(FILE *out, enum personality personality);

/* The start-up lines on standard output: what the container's network will be. */
void options_print_banner(const struct options *options);

/* Writes the completion script for a shell, "bash", "zsh" or "fish", to `out`. -EINVAL: no such
 * shell. Used at build time. */
int options_print_completion(FILE *out, const char *shell);
