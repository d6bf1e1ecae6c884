/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a port cannot be published, in words: for programs the errno's name, for people a hint.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "forward/forward.h"

const char *forward_errno_name(int error)
{
	static const struct {
		int error;
		const char *name;
	} names[] = {
		{EACCES, "EACCES"},
		{EADDRINUSE, "EADDRINUSE"},
		{EADDRNOTAVAIL, "EADDRNOTAVAIL"},
		{EAFNOSUPPORT, "EAFNOSUPPORT"},
		{EAGAIN, "EAGAIN"},
		{EBADF, "EBADF"},
		{ECONNREFUSED, "ECONNREFUSED"},
		{EEXIST, "EEXIST"},
		{EHOSTUNREACH, "EHOSTUNREACH"},
		{EINVAL, "EINVAL"},
		{EIO, "EIO"},
		{EISCONN, "EISCONN"},
		{EMFILE, "EMFILE"},
		{ENAMETOOLONG, "ENAMETOOLONG"},
		{ENETDOWN, "ENETDOWN"},
		{ENETUNREACH, "ENETUNREACH"},
		{ENFILE, "ENFILE"},
		{ENOBUFS, "ENOBUFS"},
		{ENODEV, "ENODEV"},
		{ENOENT, "ENOENT"},
		{ENOMEM, "ENOMEM"},
		{ENOPROTOOPT, "ENOPROTOOPT"},
		{ENOSPC, "ENOSPC"},
		{ENOSYS, "ENOSYS"},
		{ENOTCONN, "ENOTCONN"},
		{ENOTSOCK, "ENOTSOCK"},
		{EOPNOTSUPP, "EOPNOTSUPP"},
		{EPERM, "EPERM"},
		{EPIPE, "EPIPE"},
		{EPROTONOSUPPORT, "EPROTONOSUPPORT"},
		{EPROTOTYPE, "EPROTOTYPE"},
		{ETIMEDOUT, "ETIMEDOUT"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].error == error)
			return names[i].name;
	return NULL;
}

const char *forward_failure_hint(const struct forward_failure *failure)
{
	switch (-failure->error) {
	case EACCES:
		return "a port below net.ipv4.ip_unprivileged_port_start needs that sysctl "
		       "lowered, "
		       "CAP_NET_BIND_SERVICE, or a socket that is bound already and passed as a "
		       "descriptor";
	case EADDRINUSE:
		return "another rule or another program has it";
	case EADDRNOTAVAIL:
		return strcmp(failure->field, "guest_addr") == 0
			? "the container's own address is not known; name it"
			: "it is no address of this host";
	case EMFILE:
	case ENFILE:
		return "each port takes a descriptor, and RLIMIT_NOFILE allows no more";
	case EOPNOTSUPP:
		if (strcmp(failure->field, "path") == 0)
			return "no tap leads to a unix socket or to the container's loopback, and "
			       "splice needs the container's namespace";
		return "not with this --stack, or for this target";
	case ENOSPC:
		return "there are as many rules as there can be";
	default:
		return NULL;
	}
}
