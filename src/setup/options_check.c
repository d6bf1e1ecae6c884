/* SPDX-License-Identifier: Apache-2.0 */
#include "setup/options_check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "setup/cidr.h"

/* Of what a pool can be made (flow/buffer.h). */
#define BUFFERS_MIN (256 << 10)
#define BUFFERS_MAX (UINT64_C(16) << 30)
/* Any frame fits into a file of this size (link/pcap.h has the same). */
#define PCAP_SIZE_MIN (128 * 1024)

/* RFC 791: every link carries 68 bytes; the kernel and libslirp refuse less. */
#define MTU_MIN 68

/* Where in the network everything is: slirp4netns's places, which its callers compute. */
#define HOST_GATEWAY   2
#define HOST_DNS       3
#define HOST_DHCP      15
#define HOST_DHCP_LAST 30
#define HOST_GUEST     100

bool options_parse_number(const char *text, long min, long max, long *ret_number)
{
	char *end;
	long number;

	errno = 0; /* ERANGE shows in nothing else where long is no wider than int */
	number = strtol(text, &end, 10);
	if (errno || *end != '\0' || number < min || number > max)
		return false;
	*ret_number = number;
	return true;
}

/* COMPATIBLE: any other word means a path. */
static enum target_kind netns_kind(const char *type)
{
	if (!type || strcmp(type, "pid") == 0)
		return TARGET_PID;
	if (strcmp(type, "tapfd") == 0)
		return TARGET_TAPFD;
	return TARGET_PATH;
}

static bool check_target_type(struct options *options)
{
	const char *type = options->target_type_arg;

	if (!type || strcmp(type, "netns") == 0) {
		options->target = netns_kind(options->netns_type_arg);
		return true;
	}
	if (strcmp(type, "bess") == 0) {
		options->target = TARGET_BESS;
		return true;
	}
	log_error("--target-type=%s: neither netns nor bess", type);
	return false;
}

static bool has_tap_name(enum target_kind target)
{
	return target == TARGET_PID || target == TARGET_PATH;
}

static bool check_bess(const struct options *options, int n, char **args)
{
	if (n > 1)
		log_error("too many arguments for --target-type=bess: %s", args[1]);
	else if (options->configure)
		log_error("--configure conflicts with --target-type=bess");
	else if (options->netns_type_arg)
		log_error("--netns-type conflicts with --target-type=bess");
	else if (options->userns_path)
		log_error("--userns-path conflicts with --target-type=bess");
	else
		return true;
	return false;
}

static bool check_pid(struct options *options, const char *arg)
{
	long pid;

	if (!options_parse_number(arg, 1, INT_MAX, &pid)) {
		log_error("the PID must be a positive integer, not \"%s\"", arg);
		return false;
	}
	options->pid = (int)pid;
	return true;
}

static bool check_path(struct options *options, const char *path)
{
	char rest;
	int pid;

	if (access(path, F_OK) < 0) {
		log_errno(LOG_LEVEL_ERROR, -errno, "an existing path is expected as target: %s",
			path);
		return false;
	}
	options->target_path = path;
	if (sscanf(path, "/proc/%9d/%c", &pid, &rest) == 2 && pid > 0)
		options->pid = pid;
	return true;
}

static bool check_tapfd(struct options *options, const char *arg)
{
	long fd;

	if (!options_parse_number(arg, 0, INT_MAX, &fd)) {
		log_error("the tap's descriptor must be a non-negative integer, not \"%s\"", arg);
		return false;
	}
	options->tapfd = (int)fd;
	return true;
}

static bool check_first_argument(struct options *options, int n, char **args)
{
	switch (options->target) {
	case TARGET_PID:
		return check_pid(options, args[0]);
	case TARGET_PATH:
		return check_path(options, args[0]);
	case TARGET_TAPFD:
		return check_tapfd(options, args[0]);
	case TARGET_BESS:
		options->target_path = args[0];
		return check_bess(options, n, args);
	}
	return false;
}

static void take_tap_name(struct options *options, const char *name)
{
	size_t room = sizeof(options->tap_name) - 1;

	snprintf(options->tap_name, sizeof(options->tap_name), "%s", name);
	if (strlen(name) > room)
		log_warning("the tap's name is cut to %zu bytes: %s", room, options->tap_name);
}

bool options_check_target(struct options *options, int n, char **args)
{
	int wanted;

	if (options->macaddress_arg && !options->configure) {
		log_error("--macaddress needs --configure");
		return false;
	}
	if (!check_target_type(options))
		return false;
	wanted = has_tap_name(options->target) ? 2 : 1;
	if (n < wanted || !check_first_argument(options, n, args))
		return false;
	if (has_tap_name(options->target))
		take_tap_name(options, args[1]);
	for (int i = wanted; i < n; i++)
		log_warning("too many arguments, ignored: %s", args[i]);
	if (options->target == TARGET_TAPFD && options->configure)
		log_warning("--configure does nothing with --netns-type=tapfd");
	return true;
}

static bool check_cidr(struct options *options)
{
	const char *text = options->cidr_arg;

	switch (cidr_parse(text, &options->network, &options->netmask)) {
	case CIDR_OK:
		break;
	case CIDR_SYNTAX:
		log_error("invalid CIDR: %s", text);
		return false;
	case CIDR_ADDRESS:
		log_error("invalid network address: %s", text);
		return false;
	case CIDR_PREFIX:
		log_error("prefix length needs to be %d-%d: %s", CIDR_PREFIX_MIN, CIDR_PREFIX_MAX,
			text);
		return false;
	case CIDR_HOST_BITS:
		/* COMPATIBLE: these words, whatever the network is. */
		log_error("CIDR needs to be a network address like 10.0.2.0/24, "
			  "not like 10.0.2.100/24: %s",
			text);
		return false;
	}
	options->gateway = cidr_host(options->network, HOST_GATEWAY);
	options->dns = cidr_host(options->network, HOST_DNS);
	options->dhcp_start = cidr_host(options->network, HOST_DHCP);
	options->dhcp_end = cidr_host(options->network, HOST_DHCP_LAST);
	options->guest = cidr_host(options->network, HOST_GUEST);
	return true;
}

/* The first address of the family; of several for IPv6 the kernel lists the widest scope first. */
static bool find_interface_address(
	const char *interface, sa_family_t family, void *ret_address, size_t len)
{
	struct ifaddrs *all;
	bool found = false;

	if (getifaddrs(&all) < 0) {
		log_errno(LOG_LEVEL_ERROR, -errno, "cannot list the network interfaces");
		return false;
	}
	for (const struct ifaddrs *at = all; at && !found; at = at->ifa_next) {
		if (at->ifa_addr && at->ifa_addr->sa_family == family &&
			strcmp(at->ifa_name, interface) == 0) {
			memcpy(ret_address, at->ifa_addr, len);
			found = true;
		}
	}
	freeifaddrs(all);
	return found;
}

static bool check_outbound(struct options *options)
{
	struct sockaddr_in *address = &options->outbound;
	const char *text = options->outbound_arg;

	if (!text)
		return true;
	address->sin_family = AF_INET;
	if (inet_pton(AF_INET, text, &address->sin_addr) != 1 &&
		!find_interface_address(text, AF_INET, address, sizeof(*address))) {
		log_error(
			"--outbound-addr=%s: no IPv4 address, nor an interface that has one", text);
		return false;
	}
	options->has_outbound = true;
	return true;
}

static bool check_outbound6(struct options *options)
{
	struct sockaddr_in6 *address = &options->outbound6;
	const char *text = options->outbound6_arg;

	if (!text)
		return true;
	address->sin6_family = AF_INET6;
	if (inet_pton(AF_INET6, text, &address->sin6_addr) != 1 &&
		!find_interface_address(text, AF_INET6, address, sizeof(*address))) {
		log_error("--outbound-addr6=%s: no IPv6 address, nor an interface that has one",
			text);
		return false;
	}
	options->has_outbound6 = true;
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* Six bytes of one or two digits with colons between. */
static bool parse_mac(const char *at, struct ether_addr *ret_mac)
{
	for (int i = 0; i < ETH_ALEN; i++) {
		int value = hex_digit(*at++);

		if (value < 0)
			return false;
		if (hex_digit(*at) >= 0)
			value = value * 16 + hex_digit(*at++);
		if (*at++ != (i < ETH_ALEN - 1 ? ':' : '\0'))
			return false;
		ret_mac->ether_addr_octet[i] = (uint8_t)value;
	}
	return true;
}

static bool check_mac(struct options *options)
{
	if (!options->macaddress_arg)
		return true;
	if (!parse_mac(options->macaddress_arg, &options->mac)) {
		log_error("--macaddress=%s: not six hexadecimal bytes with colons between",
			options->macaddress_arg);
		return false;
	}
	options->has_mac = true;
	return true;
}

/* The power of two that a suffix stands for; -1: it is none. */
static int shift_of_suffix(const char *suffix)
{
	if (*suffix == '\0')
		return 0;
	if (suffix[1] != '\0')
		return -1;
	switch (*suffix | 0x20) {
	case 'k':
		return 10;
	case 'm':
		return 20;
	case 'g':
		return 30;
	default:
		return -1;
	}
}

/* Digits and a suffix, no more than a file can be long. */
static bool parse_size(const char *text, uint64_t *ret_size)
{
	unsigned long long number;
	char *end;
	int shift;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	number = strtoull(text, &end, 10);
	shift = shift_of_suffix(end);
	if (errno || shift < 0 || number > (uint64_t)INT64_MAX >> shift)
		return false;
	*ret_size = (uint64_t)number << shift;
	return true;
}

static bool check_buffers(struct options *options)
{
	const char *size = options->buffers_arg;

	if (!size)
		return true;
	if (!parse_size(size, &options->buffers) || options->buffers < BUFFERS_MIN ||
		options->buffers > BUFFERS_MAX) {
		log_error("--buffers=%s: not a size from 256k to 16G, such as 64M", size);
		return false;
	}
	return true;
}

static bool check_pcap(struct options *options)
{
	const char *size = options->pcap_size_arg;

	if (size && !options->pcap) {
		log_error("--pcap-size needs --pcap");
		return false;
	}
	if (size &&
		(!parse_size(size, &options->pcap_size) ||
			(options->pcap_size && options->pcap_size < PCAP_SIZE_MIN))) {
		log_error("--pcap-size=%s: neither 0 nor a size from 128k on, such as 64M or 1G",
			size);
		return false;
	}
	if (options->pcap && strcmp(options->pcap, "-") == 0) {
		log_error("--pcap=-: a file is needed, log lines go to the standard outputs");
		return false;
	}
	return true;
}

static bool check_quit(const struct options *options)
{
	if (!options->quit_with_target)
		return true;
	if (!options->pid) {
		log_error("--quit-with-target needs a PID or a path below /proc/PID as target");
		return false;
	}
	if (feature_in(options->disabled_features, FEATURE_PIDFD)) {
		log_error("--quit-with-target needs the feature %s, which is disabled",
			feature_name(FEATURE_PIDFD));
		return false;
	}
	return true;
}

/* Splicing needs sockets of the container's namespace, lazy listening the list of its listeners. */
static const char *what_keeps_from_namespace(const struct options *options)
{
	if (options->stack == STACK_LIBSLIRP)
		return "--stack=libslirp";
	if (options->target == TARGET_TAPFD)
		return "--netns-type=tapfd";
	if (options->target == TARGET_BESS)
		return "--target-type=bess";
	return NULL;
}

static bool check_published(const struct options *options)
{
	const char *obstacle = what_keeps_from_namespace(options);
	bool splice = strcmp(options->forward_path, "splice") == 0;

	if (obstacle && splice)
		log_error("--forward-path=splice conflicts with %s", obstacle);
	else if (obstacle && options->lazy_listen)
		log_error("--lazy-listen conflicts with %s", obstacle);
	else if ((splice || options->lazy_listen) &&
		feature_in(options->disabled_features, FEATURE_AGENT))
		log_error("%s needs the feature %s, which is disabled",
			splice ? "--forward-path=splice" : "--lazy-listen",
			feature_name(FEATURE_AGENT));
	else
		return true;
	return false;
}

/* The options that switch a layer off are for the person who debugs a caller that asks for it. */
static void settle_contradictions(struct options *options)
{
	if (options->enable_seccomp && options->disable_seccomp) {
		log_warning("--disable-seccomp overrules --enable-seccomp");
		options->enable_seccomp = false;
	}
	if (options->enable_sandbox && options->sandbox == SANDBOX_OFF) {
		log_warning("--sandbox=off overrules --enable-sandbox");
		options->enable_sandbox = false;
	}
}

bool options_check_values(struct options *options)
{
	if (!check_cidr(options) || !check_outbound(options) || !check_outbound6(options) ||
		!check_mac(options) || !check_quit(options) || !check_buffers(options) ||
		!check_pcap(options) || !check_published(options))
		return false;
	if (options->mtu < MTU_MIN) {
		log_error("cannot set MTU to %u: the least is %d", options->mtu, MTU_MIN);
		return false;
	}
	settle_contradictions(options);
	return true;
}
