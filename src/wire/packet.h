/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One frame, looked at once: what it is, from whom, to whom, and where its parts lie. Pure: it
 * checks lengths and fields against each other and against the RFCs, and judges nothing else;
 * who may send what to whom is asked elsewhere.
 *
 * Bytes behind the end that the IP header names are padding and no error (RFC 894).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/eth.h"
#include "wire/types.h"

/* Extension headers that are followed before the packet is called absurd. */
#define PACKET_EXTENSIONS_MAX 8

enum packet_outcome {
	PACKET_OK,
	PACKET_TRUNCATED,         /* shorter than its headers say, or than they must be */
	PACKET_BAD_HEADER,        /* fields that contradict each other or the RFC */
	PACKET_BAD_CHECKSUM,      /* IPv4 header checksum; transport checksums are not looked at */
	PACKET_BAD_FRAGMENT,      /* a fragment that can belong to no datagram */
	PACKET_UNKNOWN_ETHERTYPE, /* neither ARP, IPv4 nor IPv6 */
};

struct packet {
	uint16_t ethertype;
	uint8_t protocol;   /* the last next header of IPv6; 0 for ARP */
	uint8_t ttl;        /* or hop limit */
	uint8_t tos;        /* or traffic class: DSCP and ECN */
	bool dont_fragment; /* IPv6: always */
	struct ip_addr src, dst;
	bool source_routed;
	/* Offsets from the frame's begin, lengths in bytes. */
	uint32_t ip_offset;
	uint32_t transport_offset;
	uint32_t transport_len;        /* header and data, up to the packet's end */
	uint32_t transport_header_len; /* TCP with options, UDP, ICMP; 0: none, or a fragment */
	uint32_t len;                  /* the frame without padding */
	bool is_fragment;
	bool more_fragments;
	uint32_t fragment_offset;
	uint32_t fragment_id;
};

/* With which it goes on; ingress has answered what may go no further. Groups and our own addresses
 * are on the link (RFC 1112 6.1: 1 is the default for groups). */
static inline uint8_t packet_next_ttl(const struct packet *packet)
{
	return packet->ttl > 1 ? packet->ttl - 1 : 1;
}

/* The addresses and offsets in *ret are good for PACKET_OK only. */
enum packet_outcome packet_parse(const uint8_t *frame, size_t len, struct packet *ret);
