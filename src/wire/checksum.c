/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/checksum.h"

static inline uint64_t add64(uint64_t sum, uint64_t word)
{
	sum += word;
	return sum + (sum < word);
}

static inline uint64_t load64(const uint8_t *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return word;
}

/* Less than 8 bytes, as the first ones of a word whose rest is zero (RFC 1071: odd length). */
static uint64_t load_tail(const uint8_t *at, size_t len)
{
	uint64_t word = 0;

	memcpy(&word, at, len);
	return word;
}

/* A ones' complement sum of 64-bit words, folded, is that of their 16-bit words (RFC 1071 2(C)).
 * Four of them side by side: the carry of one is not waited for by the next. */
uint64_t checksum_add(uint64_t sum, const void *data, size_t len)
{
	const uint8_t *at = data;
	uint64_t a = sum, b = 0, c = 0, d = 0;

	for (; len >= 32; at += 32, len -= 32) {
		a = add64(a, load64(at));
		b = add64(b, load64(at + 8));
		c = add64(c, load64(at + 16));
		d = add64(d, load64(at + 24));
	}
	a = add64(add64(a, b), add64(c, d));
	for (; len >= 8; at += 8, len -= 8)
		a = add64(a, load64(at));
	return len ? add64(a, load_tail(at, len)) : a;
}

/* Behind an odd number of bytes the next piece is summed for itself, and its bytes swapped
 * (RFC 1071 2(B)). */
uint64_t checksum_add_pieces(uint64_t sum, const struct iovec *pieces, int n_pieces)
{
	bool is_odd = false;

	for (int i = 0; i < n_pieces; i++) {
		const struct iovec *piece = &pieces[i];

		if (is_odd) {
			be16 part =
				checksum_finish(checksum_add(0, piece->iov_base, piece->iov_len));
			uint8_t swapped[2] = {(uint8_t)~part.b[1], (uint8_t)~part.b[0]};

			sum = checksum_add(sum, swapped, sizeof(swapped));
		} else {
			sum = checksum_add(sum, piece->iov_base, piece->iov_len);
		}
		is_odd ^= piece->iov_len & 1;
	}
	return sum;
}

be16 checksum_finish(uint64_t sum)
{
	uint16_t folded;
	be16 ret;

	sum = (sum & UINT32_MAX) + (sum >> 32);
	sum = (sum & UINT32_MAX) + (sum >> 32);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	folded = (uint16_t)~sum;
	memcpy(&ret, &folded, sizeof(ret));
	return ret;
}

/* Zeros in front of a number do not change the sum: the same words as with 8 and 16 bits. */
uint64_t checksum_pseudo4(be32 src, be32 dst, uint8_t protocol, uint32_t len)
{
	struct {
		be32 src, dst;
		uint8_t zero[3], protocol;
		be32 len;
	} pseudo = {.src = src, .dst = dst, .len = be32_of(len), .protocol = protocol};

	_Static_assert(sizeof(pseudo) == 16, "no padding");
	return checksum_add(0, &pseudo, sizeof(pseudo));
}

uint64_t checksum_pseudo6(
	const struct ip6_addr *src, const struct ip6_addr *dst, uint8_t protocol, uint32_t len)
{
	struct {
		struct ip6_addr src, dst;
		be32 len;
		uint8_t zero[3], protocol;
	} pseudo = {.src = *src, .dst = *dst, .len = be32_of(len), .protocol = protocol};

	_Static_assert(sizeof(pseudo) == 40, "no padding");
	return checksum_add(0, &pseudo, sizeof(pseudo));
}

be16 checksum_update(be16 checksum, be16 before, be16 after)
{
	uint32_t sum = (uint16_t)~be16_get(checksum);

	sum += (uint16_t)~be16_get(before);
	sum += be16_get(after);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	return be16_of((uint16_t)~sum);
}
