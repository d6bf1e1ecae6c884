/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuring the namespace over rtnetlink (rtnetlink(7)), for --configure: lo up; the tap's MTU,
 * MAC and up; address N+100 with the network's broadcast address; default route by N+2. Doing it
 * again is no error; another default route that was there is one (EEXIST).
 */
#pragma once

#include <libmnl/libmnl.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct netconf {
	const char *tap_name;
	uint32_t mtu;
	bool has_mac;
	struct ether_addr mac;
	struct in_addr address, netmask, gateway;
};

/* Applies it in the current network namespace. Logs which step failed and why ("cannot set MTU"),
 * returns a negative errno. */
int netconf_apply(const struct netconf *config);

/* How many frames may wait in the tap's transmit queue. Not a part of the above, since it is ours
 * even when the rest is the caller's. Logs nothing. */
int netconf_set_queue_len(const char *tap_name, uint32_t len);

/* Whether this kernel takes TCP/IPv4 packets beyond 64 KiB, the younger half of "BIG TCP": both
 * came with attributes of interfaces that tell how large (Linux 6.3). Logs nothing. */
bool netconf_has_big_tcp(void);

/* Room for each of the messages and for its acknowledgement. */
#define NETCONF_BUF_LEN 512

/* The messages, one builder each, for the tests; `buf` is aligned as struct nlmsghdr. */
struct nlmsghdr *netconf_build_up(void *buf, int ifindex);
struct nlmsghdr *netconf_build_mtu(void *buf, int ifindex, uint32_t mtu);
struct nlmsghdr *netconf_build_queue_len(void *buf, int ifindex, uint32_t len);
struct nlmsghdr *netconf_build_mac(void *buf, int ifindex, const struct ether_addr *mac);
struct nlmsghdr *netconf_build_address(void *buf, int ifindex, const struct netconf *config);
struct nlmsghdr *netconf_build_route(void *buf, int ifindex, const struct netconf *config);
