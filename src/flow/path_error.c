/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/path_error.h"

#include <errno.h>

#include "base/util.h"
#include "wire/icmp_about.h"
#include "wire/ip4.h"
#include "wire/udp.h"

/* RFC 1812 5.3.2: errors go with precedence internetwork control. */
#define TOS_INTERNETWORK_CONTROL 0xc0
#define ERROR_TTL                255

_Static_assert(PATH_ERROR_HEADER_MAX == ICMP_ABOUT_HEADER_LEN, "it is quoted whole");

struct told {
	uint8_t type, code;
};

/* What the host's kernel found by itself. False: nothing that could be told. */
static bool tell_errno(uint8_t family, int error, struct told *ret)
{
	static const struct {
		int error;
		struct told v4, v6;
	} rows[] = {
		{ECONNREFUSED, {ICMP_DESTINATION_UNREACHABLE, ICMP_PORT_UNREACHABLE},
			{ICMP6_DESTINATION_UNREACHABLE, ICMP6_PORT_UNREACHABLE}},
		{EHOSTUNREACH, {ICMP_DESTINATION_UNREACHABLE, ICMP_HOST_UNREACHABLE},
			{ICMP6_DESTINATION_UNREACHABLE, ICMP6_ADDRESS_UNREACHABLE}},
		{ENETUNREACH, {ICMP_DESTINATION_UNREACHABLE, ICMP_NET_UNREACHABLE},
			{ICMP6_DESTINATION_UNREACHABLE, ICMP6_NO_ROUTE}},
		{EACCES, {ICMP_DESTINATION_UNREACHABLE, ICMP_ADMIN_PROHIBITED},
			{ICMP6_DESTINATION_UNREACHABLE, ICMP6_ADMIN_PROHIBITED}},
		{EPERM, {ICMP_DESTINATION_UNREACHABLE, ICMP_ADMIN_PROHIBITED},
			{ICMP6_DESTINATION_UNREACHABLE, ICMP6_ADMIN_PROHIBITED}},
		{EMSGSIZE, {ICMP_DESTINATION_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED},
			{ICMP6_PACKET_TOO_BIG, 0}},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].error != error)
			continue;
		*ret = family == AF_INET ? rows[i].v4 : rows[i].v6;
		return true;
	}
	return false;
}

/* Redirects and source quench (RFC 6633) are not told. */
static bool is_told(uint8_t family, uint8_t type)
{
	if (family == AF_INET)
		return type == ICMP_DESTINATION_UNREACHABLE || type == ICMP_TIME_EXCEEDED ||
			type == ICMP_PARAMETER_PROBLEM;
	return type >= ICMP6_DESTINATION_UNREACHABLE && type <= ICMP6_PARAMETER_PROBLEM;
}

static bool tell(uint8_t family, const struct host_dgram_error *error, struct told *ret)
{
	if (error->icmp_family != family)
		return tell_errno(family, error->error, ret);
	*ret = (struct told){error->icmp_type, error->icmp_code};
	return is_told(family, error->icmp_type);
}

static bool is_about_size(uint8_t family, const struct told *told)
{
	if (family == AF_INET6)
		return told->type == ICMP6_PACKET_TOO_BIG;
	return told->type == ICMP_DESTINATION_UNREACHABLE &&
		told->code == ICMP_FRAGMENTATION_NEEDED;
}

/* An unknown one is 0: routers older than RFC 1191 said no more (its section 5). */
static uint32_t mtu_to_tell(uint8_t family, uint32_t mtu)
{
	if (family == AF_INET6)
		return MAX(mtu, IP6_MIN_MTU);
	return mtu ? MIN(MAX(mtu, IP4_MIN_MTU), UINT16_MAX) : 0;
}

/* In whose name it is told: the host itself, and whoever the container could not believe (itself,
 * a group, an address that is never dialled), is the gateway. */
static struct ip_addr sender_of(const struct policy *policy, const struct path_error_about *about,
	const struct ip_addr *offender)
{
	if (offender->family != about->near.family || !ip_addr_is_unicast(offender) ||
		policy_check(policy, offender, IPPROTO_NONE) != POLICY_PASS ||
		policy_is_directed_broadcast(policy, offender) ||
		IN6_ARE_ADDR_EQUAL(&offender->in6, &about->near.in6))
		return policy_gateway(policy, about->near.family);
	return *offender;
}

/* Of transport header and data, as the container sent them. */
static uint32_t length_of(
	const struct path_error_about *about, const struct host_dgram_error *error)
{
	struct udp_header udp;
	uint32_t quoted = PATH_ERROR_HEADER_MAX + (uint32_t)error->quote_len;

	_Static_assert(sizeof(udp) == PATH_ERROR_HEADER_MAX, "it is UDP's whole header");
	memcpy(&udp, about->header, sizeof(udp));
	return about->protocol == IPPROTO_UDP ? MAX(be16_get(udp.length), quoted) : quoted;
}

static void send_error(struct egress *egress, const struct path_error_about *about,
	const struct host_dgram_error *error, const struct icmp_header *icmp, bool about_size)
{
	uint8_t family = about->near.family, buf[ICMP_ABOUT_MAX];
	struct ip_addr gateway = policy_gateway(egress->policy, family);
	const struct egress_head head = {
		.dst_mac = about->near_mac,
		.src_mac = egress_mac(&gateway),
		.src = sender_of(egress->policy, about, &error->offender),
		.dst = about->near,
		.ttl = ERROR_TTL,
		.tos = family == AF_INET ? TOS_INTERNETWORK_CONTROL : 0,
	};
	struct icmp_about packet = {
		.src = about->near,
		.dst = about->far,
		.protocol = about->protocol,
		.dont_fragment = about_size,
		.len = length_of(about, error),
	};
	struct iovec iov[2] = {
		{.iov_base = buf},
		{(void *)(uintptr_t)error->quote, MIN(error->quote_len, icmp_about_room(family))},
	};

	memcpy(packet.header, about->header, sizeof(packet.header));
	iov[0].iov_len = icmp_about_build(buf, &packet, icmp);
	egress_send(egress, &head, icmp_protocol(family), iov, ARRAY_SIZE(iov));
}

bool path_error_send(struct egress *egress, struct icmp_limit *limit,
	const struct path_error_about *about, const struct host_dgram_error *error, int64_t now_ns)
{
	uint8_t family = about->near.family;
	struct icmp_header icmp;
	struct told told;
	bool about_size;

	/* RFC 1122 3.2.2, RFC 4443 2.4(e): never about what went to many. */
	if (!ip_addr_is_unicast(&about->near) || !ip_addr_is_unicast(&about->far) ||
		policy_is_directed_broadcast(egress->policy, &about->far))
		return false;
	if (!tell(family, error, &told))
		return false;
	about_size = is_about_size(family, &told);
	if (about_size && family == AF_INET6 && !error->mtu)
		return false;
	if (!icmp_limit_take(limit, now_ns))
		return false;
	icmp = (struct icmp_header){
		.type = told.type,
		.code = told.code,
		.rest = be32_of(about_size ? mtu_to_tell(family, error->mtu) : 0),
	};
	send_error(egress, about, error, &icmp, about_size);
	return true;
}

void path_error_quote(struct host_dgram_error *error, const struct host_datagram *datagram)
{
	size_t len = datagram->segment ? MIN(datagram->segment, datagram->len) : datagram->len;

	error->addr = datagram->addr;
	error->port = datagram->port;
	error->local = datagram->local;
	error->scope = datagram->scope;
	error->quote_len = MIN(len, sizeof(error->quote));
	memcpy(error->quote, datagram->data, error->quote_len);
}
