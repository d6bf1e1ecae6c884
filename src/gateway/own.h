/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which addresses on the link are ours. Router advertisements come from the gateway's link-local
 * one.
 */
#pragma once

#include "flow/policy.h"

enum own_address {
	OWN_NONE,
	OWN_GATEWAY, /* N+2, fd00::2, fe80::2 */
	OWN_DNS,     /* N+3, fd00::3, fe80::3; also with --disable-dns */
};

enum own_address own_address_of(const struct policy *policy, const struct ip_addr *addr);
