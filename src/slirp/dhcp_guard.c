/* SPDX-License-Identifier: Apache-2.0 */
#include "slirp/dhcp_guard.h"

#include "wire/cursor.h"

/* RFC 951, with the options of RFC 2131 3 behind. */
struct bootp_header {
	uint8_t op, htype, hlen, hops;
	be32 xid;
	be16 secs, flags;
	be32 ciaddr, yiaddr, siaddr, giaddr;
	struct eth_addr chaddr; /* of 16 bytes */
	uint8_t chaddr_rest[10];
	uint8_t sname[64];
	uint8_t file[128];
	be32 cookie;
};
_Static_assert(sizeof(struct bootp_header) == 240, "no padding");

#define BOOTREQUEST 1
#define DHCP_COOKIE 0x63825363

/* RFC 2132. */
enum {
	OPTION_PAD = 0,
	OPTION_REQUESTED_ADDRESS = 50,
	OPTION_MESSAGE_TYPE = 53,
	OPTION_END = 255,
};

enum {
	DHCPDISCOVER = 1,
	DHCPREQUEST = 3,
};

struct dhcp_request {
	struct eth_addr mac;
	uint8_t type;
	uint32_t address; /* host byte order; 0: none */
};

void dhcp_guard_init(struct dhcp_guard *guard, struct in_addr first)
{
	*guard = (struct dhcp_guard){.first = first};
}

static void option_read(uint8_t tag, const uint8_t *value, uint8_t len, struct dhcp_request *ret)
{
	be32 address;

	if (tag == OPTION_MESSAGE_TYPE && len >= 1)
		ret->type = value[0];
	if (tag == OPTION_REQUESTED_ADDRESS && len >= sizeof(address)) {
		memcpy(&address, value, sizeof(address));
		ret->address = be32_get(address);
	}
}

/* False when one runs over the end. Without an end option the list ends with the message, as
 * libslirp has it. */
static bool options_read(struct cursor *options, struct dhcp_request *ret)
{
	const uint8_t *tag, *len, *value;

	while ((tag = cursor_take(options, 1)) && *tag != OPTION_END) {
		if (*tag == OPTION_PAD)
			continue;
		len = cursor_take(options, 1);
		if (!len)
			return false;
		value = cursor_take(options, *len);
		if (!value)
			return false;
		option_read(*tag, value, *len, ret);
	}
	return true;
}

static bool request_read(const uint8_t *message, size_t len, struct dhcp_request *ret)
{
	struct cursor cursor = {.at = message, .left = len};
	const struct bootp_header *bootp = cursor_header(&cursor, struct bootp_header);

	*ret = (struct dhcp_request){0};
	if (!bootp || bootp->op != BOOTREQUEST)
		return false;
	ret->mac = bootp->chaddr;
	if (be32_get(bootp->cookie) == DHCP_COOKIE && !options_read(&cursor, ret))
		return false;
	if (ret->type == DHCPREQUEST && !ret->address)
		ret->address = be32_get(bootp->ciaddr);
	if (ret->type == 0)
		ret->type = DHCPREQUEST; /* plain BOOTP */
	return true;
}

static bool lease_is_of(const struct dhcp_lease *lease, const struct eth_addr *mac)
{
	return !memcmp(&lease->mac, mac, sizeof(*mac));
}

static bool lease_take(struct dhcp_lease *lease, const struct eth_addr *mac)
{
	if (lease->taken && !lease_is_of(lease, mac))
		return false;
	*lease = (struct dhcp_lease){.taken = true, .mac = *mac};
	return true;
}

static bool take_requested(struct dhcp_guard *guard, const struct dhcp_request *request)
{
	uint32_t i = request->address - ntohl(guard->first.s_addr); /* huge for smaller ones */

	return i < DHCP_LEASES_MAX && lease_take(&guard->leases[i], &request->mac);
}

/* libslirp's server looks for one that has the MAC, taken or not, when it renews. */
static bool take_own(struct dhcp_guard *guard, const struct dhcp_request *request)
{
	for (size_t i = 0; i < DHCP_LEASES_MAX; i++) {
		if (lease_is_of(&guard->leases[i], &request->mac))
			return lease_take(&guard->leases[i], &request->mac);
	}
	return false;
}

static bool take_any(struct dhcp_guard *guard, const struct dhcp_request *request)
{
	for (size_t i = 0; i < DHCP_LEASES_MAX; i++) {
		if (lease_take(&guard->leases[i], &request->mac))
			return true;
	}
	return false;
}

enum dhcp_verdict dhcp_guard_check(struct dhcp_guard *guard, const uint8_t *message, size_t len)
{
	struct dhcp_request request;
	bool served = true;

	if (!request_read(message, len, &request))
		return DHCP_MALFORMED;
	if (request.type == DHCPDISCOVER)
		served = take_requested(guard, &request) || take_any(guard, &request);
	else if (request.type == DHCPREQUEST && request.address)
		take_requested(guard, &request); /* else it gets a DHCPNAK */
	else if (request.type == DHCPREQUEST)
		served = take_own(guard, &request) || take_any(guard, &request);
	return served ? DHCP_PASS : DHCP_NO_LEASE;
}
