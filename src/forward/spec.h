/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rule as people write it, on the command line (-p, --publish) and to `netns-helper ctl`:
 *
 *   [ADDR:]PORT[-PORT][:GUEST[-GUEST]][/PROTO]     IPv6 addresses in brackets
 *   unix:PATH:GUEST[/PROTO]                        a listener made at PATH
 *   fd:N:GUEST[/PROTO], fd:NAME:GUEST[/PROTO]      one that was passed (sd_listen_fds(3))
 *
 * GUEST is [ADDR:]PORT, or unix:PATH for a unix socket of the host. PROTO is tcp, udp, tcp4, tcp6,
 * udp4 or udp6; without it tcp. Without ADDR it is every IPv4 address; "*" is every address of both
 * families.
 */
#pragma once

#include <stddef.h>

#include "forward/forward.h"

/* "tcp", "udp", "tcp4", "udp4", "tcp6", "udp6"; *ret_family is AF_INET, AF_INET6, or AF_UNSPEC
 * where the name leaves it open. False: none of them. */
bool forward_proto_parse(const char *text, enum forward_proto *ret_proto, uint8_t *ret_family);
/* "auto", "splice", "tap". */
bool forward_path_parse(const char *text, enum forward_path *ret_path);

/* What "fd:..." means; returns the descriptor or a negative errno. It stays the caller's. */
typedef int forward_fd_fn(void *arg, const char *name);

/* 0, -EINVAL or -ENOMEM; *ret_wrong then says what is wrong, for people. `ret` is complete but for
 * `path` and `lazy`, which are left as they are. host_fd is a copy of its own. */
int forward_spec_parse(const char *text, forward_fd_fn *find_fd, void *arg,
	struct forward_spec *ret, const char **ret_wrong);

/* "127.0.0.1:8000-8010/tcp": the host's side, for logs and lists; cut when it is too long. */
#define FORWARD_SPEC_TEXT_MAX 192
void forward_spec_format(const struct forward_spec *spec, char text[FORWARD_SPEC_TEXT_MAX]);
