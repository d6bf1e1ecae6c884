/* SPDX-License-Identifier: Apache-2.0 */
#include "base/siphash.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

struct state {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

static inline void sip_round(struct state *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 = rotate(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v2 = rotate(s->v2, 32);
}

static inline void absorb(struct state *s, uint64_t word)
{
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

static inline uint64_t load_le64(const uint8_t *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return le64toh(word);
}

uint64_t siphash(const struct siphash_key *key, const void *data, size_t len)
{
	struct state s = {
		.v0 = key->k[0] ^ UINT64_C(0x736f6d6570736575),
		.v1 = key->k[1] ^ UINT64_C(0x646f72616e646f6d),
		.v2 = key->k[0] ^ UINT64_C(0x6c7967656e657261),
		.v3 = key->k[1] ^ UINT64_C(0x7465646279746573),
	};
	const uint8_t *at = data;
	uint8_t last[8] = {[7] = (uint8_t)len};

	for (; len >= 8; at += 8, len -= 8)
		absorb(&s, load_le64(at));
	memcpy(last, at, len);
	absorb(&s, load_le64(last));
	s.v2 ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

int siphash_key_random(struct siphash_key *ret_key)
{
	ssize_t n = getrandom(ret_key, sizeof(*ret_key), 0);

	if (n < 0)
		return -errno;
	return n == sizeof(*ret_key) ? 0 : -EIO;
}
