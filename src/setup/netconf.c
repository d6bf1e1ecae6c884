/* SPDX-License-Identifier: Apache-2.0 */
#include "setup/netconf.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"

/* LOOPBACK_IFINDEX: in every network namespace. */
#define LO_IFINDEX 1
/* An enumerator that the headers of the oldest supported systems lack. */
#define GSO_IPV4_MAX_SIZE 63

static struct nlmsghdr *begin(void *buf, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *message;

	/* libmnl 1.0.4 leaves the padding of attributes as it was. */
	memset(buf, 0, NETCONF_BUF_LEN);
	message = mnl_nlmsg_put_header(buf);
	message->nlmsg_type = type;
	message->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	return message;
}

static struct nlmsghdr *begin_link(void *buf, int ifindex, unsigned int set_flags)
{
	struct nlmsghdr *message = begin(buf, RTM_NEWLINK, 0);
	struct ifinfomsg *link = mnl_nlmsg_put_extra_header(message, sizeof(*link));

	link->ifi_family = AF_UNSPEC;
	link->ifi_index = ifindex;
	link->ifi_flags = set_flags;
	link->ifi_change = set_flags;
	return message;
}

struct nlmsghdr *netconf_build_up(void *buf, int ifindex)
{
	return begin_link(buf, ifindex, IFF_UP);
}

struct nlmsghdr *netconf_build_mtu(void *buf, int ifindex, uint32_t mtu)
{
	struct nlmsghdr *message = begin_link(buf, ifindex, 0);

	mnl_attr_put_u32(message, IFLA_MTU, mtu);
	return message;
}

struct nlmsghdr *netconf_build_queue_len(void *buf, int ifindex, uint32_t len)
{
	struct nlmsghdr *message = begin_link(buf, ifindex, 0);

	mnl_attr_put_u32(message, IFLA_TXQLEN, len);
	return message;
}

struct nlmsghdr *netconf_build_mac(void *buf, int ifindex, const struct ether_addr *mac)
{
	struct nlmsghdr *message = begin_link(buf, ifindex, 0);

	mnl_attr_put(message, IFLA_ADDRESS, sizeof(*mac), mac);
	return message;
}

/* With the broadcast address, as SIOCSIFADDR and SIOCSIFNETMASK would set it. */
struct nlmsghdr *netconf_build_address(void *buf, int ifindex, const struct netconf *config)
{
	struct nlmsghdr *message = begin(buf, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
	struct ifaddrmsg *address = mnl_nlmsg_put_extra_header(message, sizeof(*address));

	address->ifa_family = AF_INET;
	address->ifa_prefixlen = (uint8_t)__builtin_popcount(config->netmask.s_addr);
	address->ifa_scope = RT_SCOPE_UNIVERSE;
	address->ifa_index = (uint32_t)ifindex;
	mnl_attr_put_u32(message, IFA_LOCAL, config->address.s_addr);
	mnl_attr_put_u32(message, IFA_ADDRESS, config->address.s_addr);
	mnl_attr_put_u32(message, IFA_BROADCAST, config->address.s_addr | ~config->netmask.s_addr);
	return message;
}

struct nlmsghdr *netconf_build_route(void *buf, int ifindex, const struct netconf *config)
{
	struct nlmsghdr *message = begin(buf, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
	struct rtmsg *route = mnl_nlmsg_put_extra_header(message, sizeof(*route));

	route->rtm_family = AF_INET;
	route->rtm_table = RT_TABLE_MAIN;
	route->rtm_protocol = RTPROT_BOOT;
	route->rtm_scope = RT_SCOPE_UNIVERSE;
	route->rtm_type = RTN_UNICAST;
	mnl_attr_put_u32(message, RTA_GATEWAY, config->gateway.s_addr);
	mnl_attr_put_u32(message, RTA_OIF, (uint32_t)ifindex);
	return message;
}

/* Sends one message and waits for its acknowledgement; `buf`, its own buffer, takes that. */
static int exchange(struct mnl_socket *nl, void *buf, struct nlmsghdr *message, uint32_t seq)
{
	ssize_t n;

	message->nlmsg_seq = seq;
	if (mnl_socket_sendto(nl, message, message->nlmsg_len) < 0)
		return -errno;
	do
		n = mnl_socket_recvfrom(nl, buf, NETCONF_BUF_LEN);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return mnl_cb_run(buf, (size_t)n, seq, mnl_socket_get_portid(nl), NULL, NULL) < 0 ? -errno
											  : 0;
}

enum step { STEP_LO_UP, STEP_MTU, STEP_MAC, STEP_UP, STEP_ADDRESS, STEP_ROUTE, N_STEPS };

struct route_search {
	uint32_t ifindex;
	struct in_addr gateway;
	bool same_device, same_gateway; /* of the route that is being looked at */
	bool found;
};

static int match_attribute(const struct nlattr *attr, void *data)
{
	struct route_search *search = data;
	uint16_t type = mnl_attr_get_type(attr);

	if (mnl_attr_validate(attr, MNL_TYPE_U32) < 0)
		return MNL_CB_OK;
	if (type == RTA_OIF)
		search->same_device = mnl_attr_get_u32(attr) == search->ifindex;
	else if (type == RTA_GATEWAY)
		search->same_gateway = mnl_attr_get_u32(attr) == search->gateway.s_addr;
	return MNL_CB_OK;
}

static int match_route(const struct nlmsghdr *message, void *data)
{
	const struct rtmsg *route = mnl_nlmsg_get_payload(message);
	struct route_search *search = data;

	if (route->rtm_dst_len != 0 || route->rtm_table != RT_TABLE_MAIN)
		return MNL_CB_OK;
	search->same_device = false;
	search->same_gateway = false;
	mnl_attr_parse(message, sizeof(*route), match_attribute, search);
	search->found |= search->same_device && search->same_gateway;
	return MNL_CB_OK;
}

/* Whether the default route that is there is the one to be set. Any other is left alone: this may
 * be the wrong namespace, and one whose route somebody still needs. */
static bool has_route(struct mnl_socket *nl, int ifindex, const struct netconf *config)
{
	struct route_search search = {.ifindex = (uint32_t)ifindex, .gateway = config->gateway};
	_Alignas(struct nlmsghdr) char buf[16384];
	struct nlmsghdr *message = begin(buf, RTM_GETROUTE, 0);
	struct rtmsg *route = mnl_nlmsg_put_extra_header(message, sizeof(*route));
	unsigned int portid = mnl_socket_get_portid(nl);
	ssize_t n;

	message->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	message->nlmsg_seq = N_STEPS + 1;
	route->rtm_family = AF_INET;
	if (mnl_socket_sendto(nl, message, message->nlmsg_len) < 0)
		return false;
	do
		n = mnl_socket_recvfrom(nl, buf, sizeof(buf));
	while ((n < 0 && errno == EINTR) ||
		(n > 0 &&
			mnl_cb_run(buf, (size_t)n, N_STEPS + 1, portid, match_route, &search) > 0));
	return search.found;
}

static const char *const step_names[N_STEPS] = {
	[STEP_LO_UP] = "bring up lo, for",
	[STEP_MTU] = "set MTU of",
	[STEP_MAC] = "set the MAC address of",
	[STEP_UP] = "bring up",
	[STEP_ADDRESS] = "set the address of",
	[STEP_ROUTE] = "set the default route over",
};

static struct nlmsghdr *build_step(
	enum step step, void *buf, int ifindex, const struct netconf *config)
{
	switch (step) {
	case STEP_LO_UP:
		return netconf_build_up(buf, LO_IFINDEX);
	case STEP_MTU:
		return netconf_build_mtu(buf, ifindex, config->mtu);
	case STEP_MAC:
		return netconf_build_mac(buf, ifindex, &config->mac);
	case STEP_UP:
		return netconf_build_up(buf, ifindex);
	case STEP_ADDRESS:
		return netconf_build_address(buf, ifindex, config);
	default:
		return netconf_build_route(buf, ifindex, config);
	}
}

static int apply_steps(struct mnl_socket *nl, int ifindex, const struct netconf *config)
{
	_Alignas(struct nlmsghdr) char buf[NETCONF_BUF_LEN];

	for (enum step step = 0; step < N_STEPS; step++) {
		struct nlmsghdr *message;
		int r;

		if (step == STEP_MAC && !config->has_mac)
			continue;
		message = build_step(step, buf, ifindex, config);
		r = exchange(nl, buf, message, step + 1);
		if (r == -EEXIST && step == STEP_ROUTE && has_route(nl, ifindex, config))
			r = 0;
		if (r < 0)
			return log_errno(LOG_LEVEL_ERROR, r, "cannot %s %s", step_names[step],
				config->tap_name);
	}
	return 0;
}

static void close_netlink(struct mnl_socket **nl)
{
	if (*nl)
		mnl_socket_close(*nl);
}

static int open_netlink(struct mnl_socket **ret_nl)
{
	*ret_nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	return !*ret_nl || mnl_socket_bind(*ret_nl, 0, MNL_SOCKET_AUTOPID) < 0 ? -errno : 0;
}

int netconf_set_queue_len(const char *tap_name, uint32_t len)
{
	int ifindex = (int)if_nametoindex(tap_name), r;
	__attribute__((cleanup(close_netlink))) struct mnl_socket *nl = NULL;
	_Alignas(struct nlmsghdr) char buf[NETCONF_BUF_LEN];

	if (ifindex == 0)
		return -errno;
	r = open_netlink(&nl);
	if (r < 0)
		return r;
	return exchange(nl, buf, netconf_build_queue_len(buf, ifindex, len), 1);
}

int netconf_apply(const struct netconf *config)
{
	int ifindex = (int)if_nametoindex(config->tap_name), r;
	__attribute__((cleanup(close_netlink))) struct mnl_socket *nl = NULL;

	if (ifindex == 0)
		return log_errno(LOG_LEVEL_ERROR, -errno, "cannot find %s", config->tap_name);
	r = open_netlink(&nl);
	if (r < 0)
		return log_errno(LOG_LEVEL_ERROR, r, "cannot open an rtnetlink socket");
	return apply_steps(nl, ifindex, config);
}

static int find_gso_ipv4(const struct nlattr *attr, void *data)
{
	bool *found = data;

	*found |= mnl_attr_get_type(attr) == GSO_IPV4_MAX_SIZE;
	return MNL_CB_OK;
}

static int find_in_link(const struct nlmsghdr *message, void *data)
{
	return mnl_attr_parse(message, sizeof(struct ifinfomsg), find_gso_ipv4, data);
}

bool netconf_has_big_tcp(void)
{
	__attribute__((cleanup(close_netlink))) struct mnl_socket *nl = NULL;
	_Alignas(struct nlmsghdr) char buf[16384];
	struct nlmsghdr *message = begin(buf, RTM_GETLINK, 0);
	struct ifinfomsg *link = mnl_nlmsg_put_extra_header(message, sizeof(*link));
	bool found = false;
	ssize_t n;

	message->nlmsg_flags = NLM_F_REQUEST;
	link->ifi_index = LO_IFINDEX;
	if (open_netlink(&nl) < 0 || mnl_socket_sendto(nl, message, message->nlmsg_len) < 0)
		return false;
	do
		n = mnl_socket_recvfrom(nl, buf, sizeof(buf));
	while (n < 0 && errno == EINTR);
	return n > 0 &&
		mnl_cb_run(buf, (size_t)n, 0, mnl_socket_get_portid(nl), find_in_link, &found) >=
		0 &&
		found;
}
