/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed hash for tables whose keys an adversary may
 * choose, and for initial sequence numbers (RFC 6528).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
	uint64_t k[2];
};

uint64_t siphash(const struct siphash_key *key, const void *data, size_t len);

/* A key that nobody can guess (getrandom(2), before the sandbox). 0 or a negative errno. */
int siphash_key_random(struct siphash_key *ret_key);
