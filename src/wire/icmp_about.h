/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packet that an ICMP error is about: made anew from what is known of it, when it is no longer
 * there (for one that is at hand: wire/icmp_error.h), and read from an error that has come.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "wire/icmp.h"
#include "wire/icmp_error.h"
#include "wire/ip6.h"
#include "wire/packet.h"
#include "wire/types.h"

#define ICMP_ABOUT_HEADER_LEN 8
/* What is built: the ICMP header, the quoted packet's IP and transport headers. */
#define ICMP_ABOUT_MAX (ICMP_HEADER_LEN + IP6_HEADER_LEN + ICMP_ABOUT_HEADER_LEN)

/* The packet that it is about. */
struct icmp_about {
	struct ip_addr src, dst; /* of one family */
	uint8_t protocol;
	bool dont_fragment;
	uint32_t len;                          /* of the transport header and its data */
	uint8_t header[ICMP_ABOUT_HEADER_LEN]; /* the transport header */
};

/* Returns the length of what was built. `icmp`, whose checksum is left to whoever makes the packet,
 * begins it. */
size_t icmp_about_build(
	uint8_t *buf, const struct icmp_about *about, const struct icmp_header *icmp);

/* How many bytes of the data may follow, so that the packet is not larger than an error may be. */
size_t icmp_about_room(uint8_t family);

/* The MTU that an ICMP error tells, never less than the family's smallest; 0: it tells none. */
uint32_t icmp_about_mtu(uint8_t family, const struct icmp_header *icmp);

/* Of an ICMP error; `len` and `dont_fragment` are left out. False: what it quotes is too short, or
 * a later fragment. */
bool icmp_about_parse(const uint8_t *frame, const struct packet *packet, struct icmp_about *ret);
