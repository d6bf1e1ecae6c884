/* SPDX-License-Identifier: Apache-2.0 */
#include "forward/spec.h"

#include <arpa/inet.h>
#include <stdio.h>

void forward_spec_format(const struct forward_spec *spec, char text[FORWARD_SPEC_TEXT_MAX])
{
	char addr[INET6_ADDRSTRLEN] = "";
	struct in_addr v4 = ip_addr_v4(&spec->host_addr);

	if (spec->host_addr.family == AF_INET)
		inet_ntop(AF_INET, &v4, addr, sizeof(addr));
	else
		inet_ntop(AF_INET6, &spec->host_addr.in6, addr, sizeof(addr));
	snprintf(text, FORWARD_SPEC_TEXT_MAX, "%s %s:%u", forward_proto_name(spec->proto), addr,
		spec->host_port);
}
