/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a published rule was used for. The rule and each of its connections hold it, so that it is
 * there as long as any of them.
 */
#pragma once

#include <stdint.h>

struct usage {
	uint32_t n_refs;
	uint64_t n_opened;   /* connections, or UDP clients */
	uint64_t n_active;   /* of them now */
	uint64_t n_refused;  /* clients that were turned away: no room, no answer, a refusal */
	uint64_t n_in_bytes; /* of payload, to the container */
	uint64_t n_out_bytes;
};

/* With one reference; NULL without memory. */
struct usage *usage_new(void);
struct usage *usage_ref(struct usage *usage);
/* Frees with the last one. NULL is nothing. */
void usage_unref(struct usage *usage);
