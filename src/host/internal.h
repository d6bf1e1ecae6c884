/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of hostsock share: hostsock.c (epoll, TCP), hostlisten.c (listeners and their
 * clients), hostdgram.c.
 */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/util.h"
#include "host/hostsock.h"

union host_sockaddr {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static inline struct hostsock *hostsock_of(struct host *host)
{
	return container_of(host, struct hostsock, host);
}

static inline socklen_t sockaddr_of_v6(
	const struct in6_addr *in6, uint16_t port, union host_sockaddr *ret)
{
	ret->in6 = (struct sockaddr_in6){
		.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = *in6};
	return sizeof(ret->in6);
}

/* Returns its length. */
static inline socklen_t sockaddr_of(
	const struct ip_addr *addr, uint16_t port, union host_sockaddr *ret)
{
	if (addr->family == AF_INET) {
		ret->in = (struct sockaddr_in){.sin_family = AF_INET,
			.sin_port = htons(port),
			.sin_addr = ip_addr_v4(addr)};
		return sizeof(ret->in);
	}
	return sockaddr_of_v6(&addr->in6, port, ret);
}

/* IPv4's is v4-mapped at a dual-stack socket. */
static inline struct ip_addr addr_of_v6(const struct in6_addr *in6)
{
	struct ip_addr addr = ip_addr_of_v6(in6);

	if (IN6_IS_ADDR_V4MAPPED(in6))
		addr.family = AF_INET;
	return addr;
}

/* Of another family, AF_UNIX or none, there is nothing but that. */
static inline struct ip_addr addr_of(const union host_sockaddr *sa)
{
	if (sa->any.sa_family == AF_INET)
		return ip_addr_of_v4(sa->in.sin_addr);
	if (sa->any.sa_family == AF_INET6)
		return addr_of_v6(&sa->in6.sin6_addr);
	return (struct ip_addr){.family = (uint8_t)sa->any.sa_family};
}

/* At the same place in both families. */
static inline uint16_t port_of(const union host_sockaddr *sa)
{
	return sa->any.sa_family == AF_UNIX ? 0 : ntohs(sa->in.sin_port);
}

static inline void set_option(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof(value));
}

/* hostlisten.c: host_ops of these names. */
bool hostsock_is_listening(struct host *host, int fd);
int hostsock_listen(struct host *host, int fd, int backlog);
int hostsock_describe(struct host *host, int fd, struct host_socket *ret);
int hostsock_tcp_listen(struct host *host, const struct host_bind *bind, struct handle handle);
int hostsock_tcp_listen_pause(struct host *host, int fd);
int hostsock_tcp_listen_resume(struct host *host, int fd, struct handle handle);
int hostsock_tcp_accept(struct host *host, int fd, struct host_client *ret);
int hostsock_tcp_client(struct host *host, int fd, struct host_client *ret);
int hostsock_refuse(struct host *host, int fd);
/* A descriptor that means nothing, for hostsock->spare. */
int hostsock_open_spare(void);

/* hostdgram.c: host_ops of these names. */
int hostsock_dgram_open(struct host *host, const struct host_dgram_config *config,
	struct handle handle, struct host_dgram *ret);
int hostsock_dgram_adopt(struct host *host, int fd, const struct host_dgram_config *config,
	struct handle handle, struct host_dgram *ret);
void hostsock_dgram_close(struct host *host, struct host_dgram *dgram);
int hostsock_dgram_send(
	struct host *host, struct host_dgram *dgram, const struct host_datagram *datagrams, int n);
int hostsock_dgram_recv(
	struct host *host, struct host_dgram *dgram, struct host_datagram *datagrams, int n);
bool hostsock_dgram_error(
	struct host *host, struct host_dgram *dgram, struct host_dgram_error *ret);
