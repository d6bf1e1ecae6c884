/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rule as people write it, on the command line (-p, --publish) and to `netns-helper ctl`:
 *
 *   [ADDR:]PORT[-PORT][:GUEST[-GUEST]][/PROTO]     IPv6 addresses in brackets
 *   unix:PATH:GUEST[/PROTO]                        a listener made at PATH
 *   fd:N:GUEST[/PROTO], fd:NAME:GUEST[/PROTO]      one that was passed (sd_listen_fds(3))
 *
 * GUEST is [ADDR:]PORT, or unix:PATH for a unix socket of the host. PROTO is tcp, udp, tcp4, tcp6,
 * udp4 or udp6; without it tcp. Without ADDR it is every IPv4 address (with tcp6 and udp6 every
 * IPv6 address); "*" is every address of both families, or of the protocol's. A PATH has no
 * ":unix:" in it, and does not end like a protocol.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#include "forward/forward.h"

/* "tcp", "udp", "tcp4", "udp4", "tcp6", "udp6"; *ret_family is AF_INET, AF_INET6, or AF_UNSPEC
 * where the name leaves it open. False: none of them. */
bool forward_proto_parse(const char *text, enum forward_proto *ret_proto, uint8_t *ret_family);
/* "auto", "splice", "tap". */
bool forward_path_parse(const char *text, enum forward_path *ret_path);

/* "::1", "10.0.0.1"; no brackets, no scope. */
bool forward_addr_parse(const char *text, struct ip_addr *ret_addr);
void forward_addr_format(const struct ip_addr *addr, char text[INET6_ADDRSTRLEN]);
/* An address, "" or "*", as above; sets host_addr and dual_stack. False: it is none, or not of
 * `family` (AF_UNSPEC: any). */
bool forward_host_addr_parse(const char *text, uint8_t family, struct forward_spec *spec);
/* "8080", "8000-8100". */
bool forward_ports_parse(const char *text, uint16_t *ret_first, uint16_t *ret_n);

/* The rule's clients come from `fd`, a listener or a bound UDP socket, as spec->proto says: sets
 * what it is bound to. It is the spec's now, and non-blocking. A negative errno: it is no such
 * socket, *ret_wrong says why, for people, and it stays the caller's. */
int forward_spec_set_fd(struct forward_spec *spec, int fd, uint8_t family, const char **ret_wrong);

/* What "fd:..." means; returns the descriptor or a negative errno. It stays the caller's. */
typedef int forward_fd_fn(void *arg, const char *name);

/* 0 or -EINVAL; *ret_wrong then says what is wrong, for people, and there is nothing in `ret`.
 * `ret` is complete but for `path` and `lazy`, which are left as they are. host_fd is a copy of its
 * own. */
int forward_spec_parse(const char *text, forward_fd_fn *find_fd, void *arg,
	struct forward_spec *ret, const char **ret_wrong);

/* "127.0.0.1:8000-8010/tcp", "*:53/udp", "unix:/run/x": the host's side, for logs and lists; cut
 * when it is too long. */
#define FORWARD_SPEC_TEXT_MAX 192
void forward_spec_format(const struct forward_spec *spec, char text[FORWARD_SPEC_TEXT_MAX]);
