/* SPDX-License-Identifier: Apache-2.0 */
#include "api/arguments.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>

#include "base/util.h"
#include "forward/spec.h"

#define UNIX_PREFIX "unix:"

/* Always false. */
static bool fail(struct api_fault *fault, const char *field, const char *why)
{
	*fault = (struct api_fault){.field = field, .why = why};
	return false;
}

static bool is_missing(const json_t *value)
{
	return !value || json_is_null(value);
}

/* The text of an address; "" when there is none, NULL when it is no string. */
static const char *addr_text(const json_t *value)
{
	return is_missing(value) ? "" : json_string_value(value);
}

/* What is behind "unix:", NULL: it is no such address. */
static const char *unix_path(const char *text)
{
	size_t len = strlen(UNIX_PREFIX);

	return text && strncmp(text, UNIX_PREFIX, len) == 0 ? text + len : NULL;
}

static bool take_proto(const json_t *value, struct forward_spec *spec, uint8_t *ret_family,
	struct api_fault *ret_fault)
{
	const char *text = json_string_value(value);

	if (text && forward_proto_parse(text, &spec->proto, ret_family))
		return true;
	return fail(ret_fault, "proto", "it is one of tcp, udp, tcp4, udp4, tcp6 and udp6");
}

/* A number, or a string with a range of them. The value of what is no integer (80.0 is a real) is
 * 0; a number in a string was never one. */
static bool take_ports(const json_t *value, uint16_t *ret_first, uint16_t *ret_n)
{
	const char *text = json_string_value(value);
	json_int_t port = json_integer_value(value);

	if (text)
		return strchr(text, '-') && forward_ports_parse(text, ret_first, ret_n);
	if (port < 1 || port > UINT16_MAX)
		return false;
	*ret_first = (uint16_t)port;
	*ret_n = 1;
	return true;
}

static bool take_host_ports(
	const json_t *value, struct forward_spec *spec, struct api_fault *ret_fault)
{
	return take_ports(value, &spec->host_port, &spec->n_ports) ||
		fail(ret_fault, "host_port",
			"it is a number from 1 to 65535, or two of them in a string: 8000-8100");
}

static bool take_host_addr(
	const json_t *value, uint8_t family, struct forward_spec *spec, struct api_fault *ret_fault)
{
	const char *text = addr_text(value);

	if (text && forward_host_addr_parse(text, family, spec))
		return true;
	if (unix_path(text))
		return fail(ret_fault, "host_addr",
			"a unix socket is made at the start (--publish), or passed as a descriptor "
			"(host_fd)");
	return fail(ret_fault, "host_addr",
		"it is an IPv4 or IPv6 address that the protocol can have, or *");
}

static bool take_host_fd(const struct api_request *request, const json_t *arguments, uint8_t family,
	struct forward_spec *spec, struct api_fault *ret_fault)
{
	const json_t *value = json_object_get(arguments, "host_fd");
	json_int_t i = json_integer_value(value);
	const char *wrong;
	int r;

	if (!is_missing(json_object_get(arguments, "host_addr")))
		return fail(ret_fault, "host_addr", "the descriptor of host_fd has its own");
	if (!is_missing(json_object_get(arguments, "host_port")))
		return fail(ret_fault, "host_port", "the descriptor of host_fd has its own");
	if (!json_is_integer(value) || i < 0 || (uint64_t)i >= request->n_fds)
		return fail(ret_fault, "host_fd",
			"it is the index, from 0, of a descriptor that came with the request");
	if (request->fds[i] < 0)
		return fail(ret_fault, "host_fd", "another rule has this descriptor");
	r = forward_spec_set_fd(spec, request->fds[i], family, &wrong);
	if (r < 0) {
		fail(ret_fault, "host_fd", wrong);
		ret_fault->error = -r;
		return false;
	}
	request->fds[i] = -1;
	return true;
}

static bool take_host(const struct api_request *request, const json_t *arguments, uint8_t family,
	struct forward_spec *spec, struct api_fault *ret_fault)
{
	if (!is_missing(json_object_get(arguments, "host_fd")))
		return take_host_fd(request, arguments, family, spec, ret_fault);
	return take_host_addr(json_object_get(arguments, "host_addr"), family, spec, ret_fault) &&
		take_host_ports(json_object_get(arguments, "host_port"), spec, ret_fault);
}

static bool take_guest_path(const char *path, const json_t *port, struct forward_spec *spec,
	struct api_fault *ret_fault)
{
	if (spec->proto != FORWARD_TCP)
		return fail(ret_fault, "guest_addr", "a unix socket takes no datagrams");
	if (*path != '/')
		return fail(ret_fault, "guest_addr", "the path of a unix socket begins with /");
	if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return fail(ret_fault, "guest_addr", "the path is longer than 107 bytes");
	if (!is_missing(port))
		return fail(ret_fault, "guest_port", "a unix socket has no port");
	spec->guest_path = strdup(path);
	if (spec->guest_path)
		return true;
	fail(ret_fault, "guest_addr", NULL);
	ret_fault->error = ENOMEM;
	return false;
}

static bool take_guest(
	const json_t *arguments, struct forward_spec *spec, struct api_fault *ret_fault)
{
	const char *text = addr_text(json_object_get(arguments, "guest_addr"));
	const char *path = unix_path(text);
	const json_t *port = json_object_get(arguments, "guest_port");
	uint16_t n;

	if (path)
		return take_guest_path(path, port, spec, ret_fault);
	if (!text || (*text && !forward_addr_parse(text, &spec->guest_addr)))
		return fail(
			ret_fault, "guest_addr", "it is an IPv4 or IPv6 address, or unix:/PATH");
	if (!take_ports(port, &spec->guest_port, &n))
		return fail(ret_fault, "guest_port",
			"it is a number from 1 to 65535, or two of them in a string: 8000-8100");
	if (n != spec->n_ports)
		return fail(ret_fault, "guest_port", "it has as many ports as host_port");
	return true;
}

static bool take_path(const json_t *value, struct forward_spec *spec, struct api_fault *ret_fault)
{
	const char *text = json_string_value(value);

	if (is_missing(value)) {
		/* There is no other way to a unix socket. */
		if (spec->guest_path)
			spec->path = FORWARD_AUTO;
		return true;
	}
	if (!text || !forward_path_parse(text, &spec->path))
		return fail(ret_fault, "path", "it is one of auto, splice and tap");
	if (spec->path == FORWARD_TAP && spec->guest_path)
		return fail(ret_fault, "path", "no tap leads to a unix socket");
	return true;
}

static bool take_lazy(const json_t *value, struct forward_spec *spec, struct api_fault *ret_fault)
{
	bool possible = forward_spec_can_be_lazy(spec);

	if (is_missing(value)) {
		spec->lazy = spec->lazy && possible;
		return true;
	}
	if (!json_is_boolean(value))
		return fail(ret_fault, "lazy", "it is true or false");
	spec->lazy = json_is_true(value);
	return possible || !spec->lazy ||
		fail(ret_fault, "lazy",
			"only for TCP, not for sockets that are passed or unix sockets");
}

bool api_take_flag(const json_t *object, const char *name, bool *ret, struct api_fault *ret_fault)
{
	const json_t *value = json_object_get(object, name);

	if (is_missing(value))
		return true;
	if (!json_is_boolean(value))
		return fail(ret_fault, name, "it is true or false");
	*ret = json_is_true(value);
	return true;
}

bool api_take_spec(const struct api_context *context, const struct api_request *request,
	const json_t *arguments, struct forward_spec *ret, struct api_fault *ret_fault)
{
	uint8_t family;

	*ret = (struct forward_spec){.host_fd = -1, .path = context->path, .lazy = context->lazy};
	if (take_proto(json_object_get(arguments, "proto"), ret, &family, ret_fault) &&
		take_host(request, arguments, family, ret, ret_fault) &&
		take_guest(arguments, ret, ret_fault) &&
		take_path(json_object_get(arguments, "path"), ret, ret_fault) &&
		take_lazy(json_object_get(arguments, "lazy"), ret, ret_fault))
		return true;
	forward_spec_done(ret);
	return false;
}

bool api_take_host_side(
	const json_t *arguments, struct forward_spec *ret, struct api_fault *ret_fault)
{
	const char *path = unix_path(addr_text(json_object_get(arguments, "host_addr")));
	uint8_t family;

	*ret = (struct forward_spec){.host_fd = -1};
	if (!take_proto(json_object_get(arguments, "proto"), ret, &family, ret_fault))
		return false;
	if (path) {
		ret->host_addr.family = AF_UNIX;
		ret->host_path = strdup(path);
		return ret->host_path || fail(ret_fault, "host_addr", "no memory");
	}
	return take_host_addr(json_object_get(arguments, "host_addr"), family, ret, ret_fault) &&
		take_host_ports(json_object_get(arguments, "host_port"), ret, ret_fault);
}
