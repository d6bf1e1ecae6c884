/* SPDX-License-Identifier: Apache-2.0 */
#include "forward/spec.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/util.h"

#define UNIX_PREFIX "unix:"
#define FD_PREFIX   "fd:"

static const struct proto {
	const char *name;
	enum forward_proto proto;
	uint8_t family;
} protos[] = {
	{"tcp", FORWARD_TCP, AF_UNSPEC},
	{"udp", FORWARD_UDP, AF_UNSPEC},
	{"tcp4", FORWARD_TCP, AF_INET},
	{"udp4", FORWARD_UDP, AF_INET},
	{"tcp6", FORWARD_TCP, AF_INET6},
	{"udp6", FORWARD_UDP, AF_INET6},
};

bool forward_proto_parse(const char *text, enum forward_proto *ret_proto, uint8_t *ret_family)
{
	for (size_t i = 0; i < ARRAY_SIZE(protos); i++)
		if (strcmp(text, protos[i].name) == 0) {
			*ret_proto = protos[i].proto;
			*ret_family = protos[i].family;
			return true;
		}
	return false;
}

bool forward_path_parse(const char *text, enum forward_path *ret_path)
{
	static const enum forward_path paths[] = {FORWARD_AUTO, FORWARD_SPLICE, FORWARD_TAP};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (strcmp(text, forward_path_name(paths[i])) == 0) {
			*ret_path = paths[i];
			return true;
		}
	return false;
}

/* ---- addresses and ports ---- */

/* IPv4 addresses in IPv6's clothes are neither: the kernel has no such listener. */
bool forward_addr_parse(const char *text, struct ip_addr *ret_addr)
{
	struct in6_addr v6;
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		*ret_addr = ip_addr_of_v4(v4);
	else if (inet_pton(AF_INET6, text, &v6) == 1 && !IN6_IS_ADDR_V4MAPPED(&v6))
		*ret_addr = ip_addr_of_v6(&v6);
	else
		return false;
	return true;
}

bool forward_host_addr_parse(const char *text, uint8_t family, struct forward_spec *spec)
{
	bool is_any = strcmp(text, "*") == 0;
	struct ip_addr addr;

	spec->dual_stack = is_any && family == AF_UNSPEC;
	if (is_any || !*text)
		addr = family == AF_INET6 || spec->dual_stack
			? ip_addr_of_v6(&in6addr_any)
			: ip_addr_of_v4((struct in_addr){.s_addr = htonl(INADDR_ANY)});
	else if (!forward_addr_parse(text, &addr) || (family != AF_UNSPEC && family != addr.family))
		return false;
	spec->host_addr = addr;
	return true;
}

/* Digits only, 1..65535. Returns where they end, NULL: it is no port. */
static const char *take_port(const char *text, uint16_t *ret_port)
{
	uint32_t port = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		port = port * 10 + (uint32_t)(*p - '0');
		if (port > UINT16_MAX)
			return NULL;
	}
	*ret_port = (uint16_t)port;
	return port ? p : NULL;
}

/* `n` is up to 65535. */
static const char *ports_parse(const char *text, uint16_t *ret_first, uint16_t *ret_n)
{
	const char *end = take_port(text, ret_first);
	uint16_t last;

	if (!end)
		return "a port is a number from 1 to 65535";
	last = *ret_first;
	if (*end == '-') {
		end = take_port(end + 1, &last);
		if (!end)
			return "a range ends with a port from 1 to 65535";
	}
	if (*end)
		return "there is something behind the port";
	if (last < *ret_first)
		return "a range begins with its lower port";
	*ret_n = (uint16_t)(last - *ret_first + 1);
	return NULL;
}

bool forward_ports_parse(const char *text, uint16_t *ret_first, uint16_t *ret_n)
{
	return !ports_parse(text, ret_first, ret_n);
}

/* ---- a rule's text ---- */

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static const char *copy_path(const char *path, char **ret)
{
	if (!*path)
		return "the path is missing";
	if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return "the path is longer than 107 bytes";
	*ret = strdup(path);
	return *ret ? NULL : "no memory";
}

/* Cuts "ADDR:" off the front of `*text`, if there is one. Returns it, NULL: there is none. */
static char *cut_addr(char **text, const char **ret_wrong)
{
	bool in_brackets = **text == '[';
	char *addr = *text + in_brackets;
	char *end = strchr(addr, in_brackets ? ']' : ':');

	if (!in_brackets && (!end || !memchr(addr, '.', (size_t)(end - addr))) && *addr != '*')
		return NULL;
	if (!end || (in_brackets && end[1] != ':')) {
		*ret_wrong = "the address is to be followed by a colon and a port";
		return NULL;
	}
	*text = end + 1 + in_brackets;
	*end = '\0';
	if (in_brackets != !!strchr(addr, ':'))
		*ret_wrong = "IPv6 addresses, and only they, are in brackets";
	return addr;
}

static const char *parse_guest(char *text, struct forward_spec *spec)
{
	const char *wrong = NULL;
	uint16_t n_ports;
	char *addr;

	if (has_prefix(text, UNIX_PREFIX)) {
		if (spec->proto != FORWARD_TCP)
			return "a unix socket takes no datagrams";
		return copy_path(text + strlen(UNIX_PREFIX), &spec->guest_path);
	}
	addr = cut_addr(&text, &wrong);
	if (wrong)
		return wrong;
	if (addr && !forward_addr_parse(addr, &spec->guest_addr))
		return "the container's address is none";
	wrong = ports_parse(text, &spec->guest_port, &n_ports);
	if (!wrong && n_ports != spec->n_ports)
		return "the two ranges differ in length";
	return wrong;
}

static const char *parse_addr_rule(char *text, uint8_t family, struct forward_spec *spec)
{
	const char *wrong = NULL;
	char *addr = cut_addr(&text, &wrong), *guest;

	if (wrong)
		return wrong;
	if (!forward_host_addr_parse(addr ? addr : "", family, spec))
		return "the host's address is none of this protocol";
	guest = strchr(text, ':');
	if (guest)
		*guest++ = '\0';
	wrong = ports_parse(text, &spec->host_port, &spec->n_ports);
	if (wrong)
		return wrong;
	if (guest)
		return parse_guest(guest, spec);
	spec->guest_port = spec->host_port;
	return NULL;
}

/* The last colon that can be before GUEST: everything between "unix:" and it is the path. */
static char *find_guest(char *text)
{
	char *guest = strstr(text, ":" UNIX_PREFIX), *colon = strrchr(text, ':'), *addr;
	struct in_addr v4;

	if (guest || !colon)
		return guest;
	if (colon > text && colon[-1] == ']') {
		for (addr = colon; addr > text && *addr != '['; addr--)
			;
		return addr > text && addr[-1] == ':' ? addr - 1 : colon;
	}
	*colon = '\0';
	addr = strrchr(text, ':');
	if (addr && inet_pton(AF_INET, addr + 1, &v4) == 1)
		guest = addr;
	*colon = ':';
	return guest ? guest : colon;
}

static const char *parse_unix_rule(char *text, struct forward_spec *spec)
{
	char *guest = find_guest(text);
	const char *wrong;

	if (spec->proto != FORWARD_TCP)
		return "a unix socket takes no datagrams";
	if (!guest)
		return "unix:PATH is to be followed by a colon and the container's port";
	*guest = '\0';
	spec->source = FORWARD_FROM_UNIX;
	spec->host_addr.family = AF_UNIX;
	spec->n_ports = 1;
	wrong = copy_path(text, &spec->host_path);
	return wrong ? wrong : parse_guest(guest + 1, spec);
}

static const char *parse_fd_rule(
	char *text, uint8_t family, forward_fd_fn *find_fd, void *arg, struct forward_spec *spec)
{
	char *guest = strchr(text, ':');
	cleanup_fd int copy = -1;
	const char *wrong;
	int fd;

	if (!guest)
		return "fd:NAME is to be followed by a colon and the container's port";
	*guest = '\0';
	fd = find_fd ? find_fd(arg, text) : -EBADF;
	if (fd < 0)
		return "no such descriptor was passed";
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return "the descriptor cannot be copied";
	if (forward_spec_set_fd(spec, copy, family, &wrong) < 0)
		return wrong;
	fd_take(&copy);
	return parse_guest(guest + 1, spec);
}

/* Cuts "/PROTO" off. Where there is a unix socket, whatever else is behind a slash is its path. */
static const char *cut_proto(char *text, struct forward_spec *spec, uint8_t *ret_family)
{
	char *slash = strrchr(text, '/');

	spec->proto = FORWARD_TCP;
	*ret_family = AF_UNSPEC;
	if (!slash)
		return NULL;
	if (forward_proto_parse(slash + 1, &spec->proto, ret_family))
		*slash = '\0';
	else if (!strstr(text, UNIX_PREFIX))
		return "the protocol is none of tcp, udp, tcp4, udp4, tcp6 and udp6";
	return NULL;
}

static const char *parse(char *text, forward_fd_fn *find_fd, void *arg, struct forward_spec *spec)
{
	uint8_t family;
	const char *wrong = cut_proto(text, spec, &family);

	if (wrong)
		return wrong;
	if (has_prefix(text, UNIX_PREFIX))
		return parse_unix_rule(text + strlen(UNIX_PREFIX), spec);
	if (has_prefix(text, FD_PREFIX))
		return parse_fd_rule(text + strlen(FD_PREFIX), family, find_fd, arg, spec);
	return parse_addr_rule(text, family, spec);
}

int forward_spec_parse(const char *text, forward_fd_fn *find_fd, void *arg,
	struct forward_spec *ret, const char **ret_wrong)
{
	struct forward_spec spec = {.host_fd = -1, .path = ret->path, .lazy = ret->lazy};
	char *copy = strdup(text);

	*ret_wrong = copy ? parse(copy, find_fd, arg, &spec) : "no memory";
	free(copy);
	if (*ret_wrong)
		forward_spec_done(&spec);
	*ret = spec;
	return *ret_wrong ? -EINVAL : 0;
}

/* ---- sockets that were passed ---- */

union any_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
};

static int option(int fd, int level, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(fd, level, name, &value, &len) < 0 ? -errno : value;
}

/* A listener, or a UDP socket without a peer. */
static int check_kind(int fd, const struct forward_spec *spec, const char **ret_wrong)
{
	int type = option(fd, SOL_SOCKET, SO_TYPE);
	union any_address peer;
	socklen_t len = sizeof(peer);

	*ret_wrong = "it is no socket";
	if (type < 0)
		return type;
	*ret_wrong = spec->proto == FORWARD_TCP ? "it is no listening stream socket"
						: "it is no datagram socket";
	if (type != (spec->proto == FORWARD_TCP ? SOCK_STREAM : SOCK_DGRAM))
		return -EPROTOTYPE;
	if (spec->proto == FORWARD_TCP)
		return option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 1 ? 0 : -EINVAL;
	*ret_wrong = "it is connected";
	return getpeername(fd, &peer.any, &len) == 0 ? -EISCONN : 0;
}

static int check_protocol(int fd, const struct forward_spec *spec)
{
	int protocol = option(fd, SOL_SOCKET, SO_PROTOCOL);

	return protocol == (spec->proto == FORWARD_TCP ? IPPROTO_TCP : IPPROTO_UDP)
		? 0
		: -EPROTONOSUPPORT;
}

/* What it is bound to. */
static int take_name(int fd, struct forward_spec *spec)
{
	union any_address name = {0};
	socklen_t len = sizeof(name) - 1; /* a path that fills sun_path has no NUL */

	if (getsockname(fd, &name.any, &len) < 0)
		return -errno;
	spec->host_addr.family = (uint8_t)name.any.sa_family;
	if (name.any.sa_family == AF_INET) {
		spec->host_addr = ip_addr_of_v4(name.v4.sin_addr);
		spec->host_port = ntohs(name.v4.sin_port);
	} else if (name.any.sa_family == AF_INET6) {
		spec->host_addr = ip_addr_of_v6(&name.v6.sin6_addr);
		spec->host_port = ntohs(name.v6.sin6_port);
		spec->dual_stack = IN6_IS_ADDR_UNSPECIFIED(&name.v6.sin6_addr) &&
			option(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0;
	} else if (name.any.sa_family == AF_UNIX && len > sizeof(sa_family_t) &&
		*name.local.sun_path) {
		spec->host_path = strdup(name.local.sun_path);
		return spec->host_path ? 0 : -ENOMEM;
	}
	return 0;
}

static int take_socket(int fd, uint8_t family, struct forward_spec *spec, const char **ret_wrong)
{
	int r = check_kind(fd, spec, ret_wrong);

	if (r < 0)
		return r;
	*ret_wrong = "its address cannot be told";
	r = take_name(fd, spec);
	if (r < 0)
		return r;
	*ret_wrong = "it is of another family";
	if (spec->host_addr.family == AF_UNIX)
		return spec->proto == FORWARD_TCP && family == AF_UNSPEC ? 0 : -EAFNOSUPPORT;
	if ((spec->host_addr.family != AF_INET && spec->host_addr.family != AF_INET6) ||
		(family != AF_UNSPEC && family != spec->host_addr.family))
		return -EAFNOSUPPORT;
	*ret_wrong = "it is of another protocol";
	r = check_protocol(fd, spec);
	if (r < 0)
		return r;
	*ret_wrong = "it is not bound";
	return spec->host_port ? 0 : -EINVAL;
}

int forward_spec_set_fd(struct forward_spec *spec, int fd, uint8_t family, const char **ret_wrong)
{
	int r = take_socket(fd, family, spec, ret_wrong);

	if (r == 0) {
		*ret_wrong = "it cannot be made non-blocking";
		r = fd_set_nonblocking(fd);
	}
	if (r < 0) {
		free(spec->host_path);
		spec->host_path = NULL;
		return r;
	}
	*ret_wrong = NULL;
	spec->source = FORWARD_FROM_FD;
	spec->host_fd = fd;
	spec->n_ports = 1;
	return 0;
}

/* ---- text of a rule ---- */

void forward_addr_format(const struct ip_addr *addr, char text[INET6_ADDRSTRLEN])
{
	struct in_addr v4 = ip_addr_v4(addr);

	if (addr->family == AF_INET)
		inet_ntop(AF_INET, &v4, text, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, &addr->in6, text, INET6_ADDRSTRLEN);
}

void forward_spec_format(const struct forward_spec *spec, char text[FORWARD_SPEC_TEXT_MAX])
{
	bool in_brackets = spec->host_addr.family == AF_INET6 && !spec->dual_stack;
	char addr[INET6_ADDRSTRLEN] = "*", range[8] = "";

	if (spec->host_addr.family == AF_UNIX) {
		snprintf(text, FORWARD_SPEC_TEXT_MAX, UNIX_PREFIX "%s",
			spec->host_path ? spec->host_path : "");
		return;
	}
	if (!spec->dual_stack)
		forward_addr_format(&spec->host_addr, addr);
	if (spec->n_ports > 1)
		snprintf(range, sizeof(range), "-%u",
			(uint16_t)(spec->host_port + spec->n_ports - 1));
	snprintf(text, FORWARD_SPEC_TEXT_MAX, "%s%s%s:%u%s/%s", in_brackets ? "[" : "", addr,
		in_brackets ? "]" : "", spec->host_port, range, forward_proto_name(spec->proto));
}
