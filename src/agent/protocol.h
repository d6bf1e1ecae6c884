/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What relay and netns agent say to each other over a SOCK_SEQPACKET socketpair: fixed-size,
 * typed messages, one per packet, at most one descriptor (SCM_RIGHTS) with each reply. Neither
 * side trusts the other's numbers: the agent has met the container's namespace, the relay the
 * container's packets.
 */
#pragma once

#include <stdint.h>

enum agent_message_type {
	AGENT_TAP = 1,           /* agent -> relay, first: the tap, with its descriptor */
	AGENT_SOCKET,            /* relay -> agent: make a socket; both ways the same id */
	AGENT_SOCKET_REPLY,      /* agent -> relay: the descriptor, or why not */
	AGENT_RESOLV_CONF,       /* relay -> agent: open the caller's /etc/resolv.conf */
	AGENT_RESOLV_CONF_REPLY, /* agent -> relay: the descriptor, or why not */
	AGENT_UNIX,              /* relay -> agent: connect a unix socket; AGENT_SOCKET_REPLY */
	AGENT_SETTLED,           /* agent -> relay, second: it has nothing left to give up */
};

struct agent_tap {
	uint8_t vnet_len;
	uint8_t is_up; /* it was configured by the agent */
	uint32_t offloads;
	uint32_t queue_len;
};

/* Made are: AF_INET and AF_INET6 with SOCK_STREAM (protocol 0 or IPPROTO_TCP) or SOCK_DGRAM (0 or
 * IPPROTO_UDP), and AF_NETLINK with SOCK_RAW or SOCK_DGRAM and NETLINK_SOCK_DIAG. `type` has no
 * flags: the descriptor always arrives non-blocking and close-on-exec. */
struct agent_socket {
	int32_t family;
	int32_t type;
	int32_t protocol;
};

/* An absolute path in the caller's file system, and the end of the string. */
struct agent_unix {
	char path[108];
};

struct agent_message {
	uint32_t type;
	uint32_t id;   /* of the request; replies repeat it */
	int32_t error; /* replies: 0, or a negative errno and no descriptor */
	union {
		struct agent_tap tap;
		struct agent_socket socket;
		struct agent_unix unix_path;
	};
};

/* Sends one message, with a descriptor when `fd` is not negative. Blocks only on a socket that
 * does (the agent's end), else -EAGAIN. 0 or a negative errno; -EPIPE when the peer is gone. */
int agent_send(int sock, const struct agent_message *message, int fd);

/* Receives one message; *ret_fd is the descriptor that came with it or -1. 0, -EAGAIN, -EPIPE at
 * the end, -EBADMSG for what is no message (descriptors that came with it are closed). A descriptor
 * for which the receiver has no room makes `error` -EMFILE. */
int agent_recv(int sock, struct agent_message *message, int *ret_fd);
