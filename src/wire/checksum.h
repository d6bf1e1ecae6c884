/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Internet checksum (RFC 1071). Sums are kept in the machine's byte order and 64 bits wide;
 * only checksum_finish() makes a wire value of one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "wire/ip6.h"
#include "wire/types.h"

/* `sum` (0 to begin with) and the bytes at `data`. Only the last piece may be of odd length. */
uint64_t checksum_add(uint64_t sum, const void *data, size_t len);

/* The bytes of all pieces, one after another, each of any length. */
uint64_t checksum_add_pieces(uint64_t sum, const struct iovec *pieces, int n_pieces);

/* The complement, ready for the header's field. Over data that holds a right checksum it is 0. */
be16 checksum_finish(uint64_t sum);

/* The pseudo headers (RFC 9293 3.1, RFC 8200 8.1); `len` is that of transport header and data, and
 * counts whole where it is more than IPv4's header can say. */
uint64_t checksum_pseudo4(be32 src, be32 dst, uint8_t protocol, uint32_t len);
uint64_t checksum_pseudo6(
	const struct ip6_addr *src, const struct ip6_addr *dst, uint8_t protocol, uint32_t len);

/* The checksum after a 16-bit field changed from `before` to `after` (RFC 1624, equation 3). */
be16 checksum_update(be16 checksum, be16 before, be16 after);
