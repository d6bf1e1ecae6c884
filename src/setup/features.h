/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel and this build offer beyond Linux 4.18, each with a fallback: probed once, shown
 * by --features, switched off by --disable-feature so that tests reach every fallback.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* X(enumerator, name, what it is and what is used without it) */
#define FEATURES(X)                                                                                \
	X(CLOSE_RANGE, "close-range", "close_range(2), Linux 5.9; else /proc/self/fd is walked")   \
	X(PIDFD, "pidfd", "pidfd_open(2), Linux 5.3; else --quit-with-target is refused")          \
	X(VNET_HDR, "vnet-hdr", "virtio-net headers on the tap; else plain frames")                \
	X(CSUM, "csum",                                                                            \
		"checksums on the tap that are left to us; else the container computes them")      \
	X(TSO4, "tso4",                                                                            \
		"TCP/IPv4 frames of 64 KiB on the tap, with csum; else none beyond the MTU")       \
	X(TSO6, "tso6",                                                                            \
		"TCP/IPv6 frames of 64 KiB on the tap, with csum; else none beyond the MTU")       \
	X(TSO_ECN, "tso-ecn",                                                                      \
		"ECN in frames of 64 KiB, with tso4 or tso6; else the kernel cuts them")           \
	X(BIG_TCP, "big-tcp",                                                                      \
		"TCP frames of 256 KiB to the container, with tso, Linux 6.3; else of 64 KiB")     \
	X(USO, "uso",                                                                              \
		"UDP frames of 64 KiB on the tap, with csum, Linux 6.2; else none beyond the MTU") \
	X(USER_NAMESPACE, "user-namespace",                                                        \
		"a user namespace of the relay's own for the empty root")                          \
	X(EMPTY_ROOT, "empty-root", "mount namespace and pivot_root(2)")                           \
	X(LANDLOCK, "landlock", "file access limited by Landlock, Linux 5.13")                     \
	X(SECCOMP, "seccomp", "the list of system calls")                                          \
	X(AGENT, "agent", "the netns agent stays and makes sockets; else it ends after set-up")    \
	X(IPV6, "ipv6", "the host's kernel has IPv6")                                              \
	X(PING_SOCKET, "ping-socket",                                                              \
		"unprivileged ping, net.ipv4.ping_group_range; else no ping to the outside")       \
	X(UDP_GRO, "udp-gro", "runs of datagrams are received as one, Linux 5.0; else singly")     \
	X(UDP_SEGMENT, "udp-segment", "runs of datagrams are sent as one; else singly")

enum feature {
#define X(id, name, text) FEATURE_##id,
	FEATURES(X)
#undef X
		N_FEATURES
};

struct feature_set {
	uint32_t bits;
};

static inline bool feature_in(struct feature_set set, enum feature which)
{
	return set.bits & (UINT32_C(1) << which);
}

static inline void feature_add(struct feature_set *set, enum feature which)
{
	set->bits |= UINT32_C(1) << which;
}

const char *feature_name(enum feature which);

/* Adds the features of a comma-separated list. -EINVAL for an unknown name; *ret_bad then points to
 * it within `list` and *ret_bad_len is its length. */
int features_parse(
	const char *list, struct feature_set *set, const char **ret_bad, size_t *ret_bad_len);

/* Whether this kernel has it, disregarding --disable-feature: probed without side effects on this
 * process (where need be in a child). *ret_why is a static text, or one in `buf`. */
bool feature_probe(enum feature which, char *buf, size_t buf_len, const char **ret_why);

/* `name: yes (why)` or `name: no (why; what it is for)` per line; then what the build has. */
void features_print(FILE *out, struct feature_set disabled);
