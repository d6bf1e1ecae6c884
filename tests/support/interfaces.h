/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For unit tests that have a network namespace: interfaces and their addresses.
 */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <net/if.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/util.h"
#include "wire/types.h"

#define INTERFACES_TIMEOUT_NS (30 * NS_PER_SEC)

static inline struct ip_addr addr_of(const char *address)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, address, &v4) == 1)
		return ip_addr_of_v4(v4);
	g_assert_cmpint(inet_pton(AF_INET6, address, &v6), ==, 1);
	return ip_addr_of_v6(&v6);
}

static inline struct ifreq request_for(const char *name)
{
	struct ifreq ifr = {0};

	g_strlcpy(ifr.ifr_name, name, sizeof(ifr.ifr_name));
	return ifr;
}

static inline void interface_up(const char *name)
{
	cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = request_for(name);

	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	g_assert_cmpint(ioctl(fd, SIOCSIFFLAGS, &ifr), ==, 0);
}

static inline void add_address4(const char *name, const char *address, const char *mask)
{
	cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = request_for(name);
	struct sockaddr_in *in = (struct sockaddr_in *)&ifr.ifr_addr;

	in->sin_family = AF_INET;
	inet_pton(AF_INET, address, &in->sin_addr);
	g_assert_cmpint(ioctl(fd, SIOCSIFADDR, &ifr), ==, 0);
	inet_pton(AF_INET, mask, &in->sin_addr);
	g_assert_cmpint(ioctl(fd, SIOCSIFNETMASK, &ifr), ==, 0);
}

/* The kernel looks for duplicates in the background, also where there can be none. */
static inline void wait_for_address6(const struct in6_addr *addr, int ifindex)
{
	const struct sockaddr_in6 sa = {
		.sin6_family = AF_INET6, .sin6_addr = *addr, .sin6_scope_id = (uint32_t)ifindex};
	cleanup_fd int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int64_t until_ns = clock_now_ns() + INTERFACES_TIMEOUT_NS;

	while (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0) {
		g_assert_cmpint(errno, ==, EADDRNOTAVAIL);
		g_assert_cmpint(clock_now_ns(), <, until_ns);
		g_usleep(1000);
	}
}

/* False: the machine is without IPv6. */
static inline bool add_address6(const char *name, const char *address, uint32_t prefix)
{
	cleanup_fd int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct {
		struct in6_addr addr;
		uint32_t prefix;
		int ifindex;
	} request = {.prefix = prefix, .ifindex = (int)if_nametoindex(name)};

	inet_pton(AF_INET6, address, &request.addr);
	if (fd < 0 || ioctl(fd, SIOCSIFADDR, &request) < 0)
		return false;
	wait_for_address6(&request.addr, request.ifindex);
	return true;
}
