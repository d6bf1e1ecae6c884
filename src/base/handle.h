/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an epoll event carries: not a pointer, which may dangle, but who is meant, and of which
 * generation. Every receiver checks the generation of what it finds at the index; a stale event is
 * dropped there.
 */
#pragma once

#include <stdint.h>

/* Everybody who watches a descriptor; relay_dispatch() is the one switch over them. */
enum handle_kind {
	HANDLE_NONE,
	HANDLE_SIGNAL,
	HANDLE_EXIT_FD,
	HANDLE_TARGET,
	HANDLE_LINK,
	HANDLE_AGENT,
	HANDLE_API_LISTENER,
	HANDLE_API_CLIENT,  /* index: the client's slot */
	HANDLE_SLIRP,       /* index: the descriptor */
	HANDLE_TCP,         /* index: the flow */
	HANDLE_UDP,         /* index: the flow */
	HANDLE_PING,        /* index: the flow */
	HANDLE_DNS,         /* index: the upstream socket */
	HANDLE_SPLICE_NEAR, /* index: the flow; its socket in the container's namespace */
	HANDLE_SPLICE_FAR,  /* index: the flow; the client's socket */
	HANDLE_PUBLISH,     /* index: the listener */
	HANDLE_PUBLISH_UDP, /* index: the published socket, or that of one client */
};

struct handle {
	uint8_t kind;
	uint32_t generation; /* 24 bits */
	uint32_t index;
};

#define HANDLE_GENERATION_MASK UINT32_C(0xffffff)

static inline uint64_t handle_pack(struct handle h)
{
	return (uint64_t)h.kind << 56 | (uint64_t)(h.generation & HANDLE_GENERATION_MASK) << 32 |
		h.index;
}

static inline struct handle handle_unpack(uint64_t word)
{
	return (struct handle){
		.kind = (uint8_t)(word >> 56),
		.generation = (uint32_t)(word >> 32) & HANDLE_GENERATION_MASK,
		.index = (uint32_t)word,
	};
}
