/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP, echo requests, ICMP errors, DNS, ARP and neighbour discovery of the container, time, and
 * results of the host, in any order, through ingress, gateway, icmpflow, udpflow and dns. The input
 * is a byte of settings and then operations, each a byte of `enum operation` and its arguments; the
 * last one may be cut short, the missing bytes are zero.
 *
 * Besides the sanitizers' findings it fails when a frame is sent that does not parse, is above the
 * MTU, has a wrong checksum or a source that cannot be; when the host is asked for what policy
 * forbids, or for a run that it cannot send; when the end of a turn does not come, a flow outlives
 * its silence, or something is left behind.
 */
#include "base/log.h"
#include "tests/fuzz/udp-world.h"
#include "wire/cursor.h"

/* Operations of one input; more teach nothing. */
#define OPERATIONS_MAX 400
#define LEN_MAX        65507

enum setting {
	SETTING_CSUM = 1 << 0,
	SETTING_USO = 1 << 1,
	SETTING_LARGE_MTU = 1 << 2,
	SETTING_LOOPBACK = 1 << 3,
	SETTING_SILENCE = 1 << 4, /* at the end; else all is closed as it is */
	SETTING_NO_DNS = 1 << 5,
	SETTING_LINK_GONE = 1 << 6, /* at the end */
	SETTING_PUBLISH = 1 << 7,
};

/* An operation's lower 3 bits; the rest of its byte is an argument, too. */
enum operation {
	OP_UDP,    /* the argument: port and far address; choice, len16, segment16 */
	OP_ECHO,   /* the argument: id and far address; choice, len16 */
	OP_RAW,    /* virtio-net header, len16, bytes */
	OP_TIME,   /* the argument: how long */
	OP_SUPPLY, /* fd, n, len16, segment16; the argument: from whom */
	OP_ERROR,  /* fd, error, type, code, mtu16; the argument: to whom */
	OP_ABOUT,  /* an ICMP error of the container's: type, code, mtu16, port */
	OP_HOST,   /* the argument: what becomes of it from now on; value */
};

/* ---- frames from the container ---- */

static uint8_t buf[INGRESS_BUFFER_LEN];

static void udp_input(const uint8_t *frame, const struct packet *packet)
{
	const struct udp_header *udp =
		(const struct udp_header *)(frame + packet->transport_offset);
	struct ip_addr addr;

	if (policy_map(&world.policy, &packet->dst, be16_get(udp->dst_port), IPPROTO_UDP, &addr) !=
		POLICY_NAMESERVER) {
		if (!publish_udp_input(world.publish, frame, packet))
			udpflow_input(&world.udpflow, frame, packet);
		return;
	}
	ingress_complete_checksum(buf, packet);
	dns_input(world.dns, frame, packet);
}

static void icmp_input(const uint8_t *frame, const struct packet *packet)
{
	uint8_t type = frame[packet->transport_offset];

	if (gateway_input(&world.gateway, frame, packet, world.loop.now_ns) == GATEWAY_TAKEN ||
		packet->ethertype == ETH_TYPE_ARP)
		return;
	if (type == (packet->protocol == IPPROTO_ICMP ? ICMP_ECHO : ICMP6_ECHO_REQUEST))
		icmpflow_input(&world.icmpflow, frame, packet);
	else if (packet->protocol == IPPROTO_ICMP ? type == ICMP_DESTINATION_UNREACHABLE
						  : type <= ICMP6_PACKET_TOO_BIG) {
		if (!publish_udp_near_error(world.publish, frame, packet))
			udpflow_near_error(&world.udpflow, frame, packet);
	}
}

static void tell(void *owner, const uint8_t *frame, size_t len)
{
	egress_frame(&world.egress, frame, len);
}

/* The frame in `buf`. */
static void input(size_t len)
{
	static uint8_t answer[INGRESS_ANSWER_MAX];
	struct packet packet;
	size_t answer_len;
	uint8_t *frame = buf + VNET_HEADER_LEN;

	switch (ingress_frame(
		&world.ingress, buf, len, world.loop.now_ns, &packet, answer, &answer_len)) {
	case INGRESS_UDP:
		udp_input(frame, &packet);
		break;
	case INGRESS_ICMP:
	case INGRESS_OTHER:
		icmp_input(frame, &packet);
		break;
	case INGRESS_ANSWER:
		egress_frame(&world.egress, answer, answer_len);
		break;
	case INGRESS_TCP:
	case INGRESS_DROP:
		break;
	}
}

static const uint32_t addrs4[] = {0xc6336407, 0xc6336408, 0x0a000202, 0x0a000203, 0x0a0002ff,
	0xffffffff, 0xe00000fb, 0x7f000001};
static const uint8_t addrs6[][16] = {
	{0x20, 1, 0xd, 0xb8, [15] = 1},
	{0x20, 1, 0xd, 0xb8, [15] = 2},
	{0xfd, [15] = 2},
	{0xfd, [15] = 3},
	{0xfd, [15] = 0x55},
	{0xff, 2, [15] = 0xfb},
	{0xfe, 0x80, [15] = 1},
	{[15] = 1},
};

static struct ip_addr far_addr(unsigned int which, bool is4)
{
	struct in6_addr v6;

	if (is4)
		return ip_addr_of_v4((struct in_addr){htonl(addrs4[which % 8])});
	memcpy(&v6, addrs6[which % 8], sizeof(v6));
	return ip_addr_of_v6(&v6);
}

/* `from_far`: the packet that an error is about. Returns the header's length. */
static size_t put_ip(uint8_t *at, const struct ip_addr *far, bool from_far, uint8_t protocol,
	uint8_t ttl, bool dont_fragment, size_t len)
{
	static const struct in6_addr near6 = {.s6_addr = {0xfd, [15] = 0x64}};
	struct ip_addr near = ip_addr_of_v6(&near6);
	const struct ip_addr *src = from_far ? far : &near, *dst = from_far ? &near : far;
	struct ip4_header *ip4 = (struct ip4_header *)at;
	struct ip6_header *ip6 = (struct ip6_header *)at;

	if (far->family == AF_INET) {
		near = ip_addr_of_v4((struct in_addr){htonl(0x0a000264)});
		*ip4 = (struct ip4_header){
			.version_ihl = 0x45,
			.total_length = be16_of((uint16_t)(sizeof(*ip4) + len)),
			.fragment = be16_of(dont_fragment ? IP4_DONT_FRAGMENT : 0),
			.ttl = ttl,
			.protocol = protocol,
			.src = ip4_addr_be32(ip_addr_v4(src)),
			.dst = ip4_addr_be32(ip_addr_v4(dst)),
		};
		ip4->checksum = checksum_finish(checksum_add(0, ip4, sizeof(*ip4)));
		return sizeof(*ip4);
	}
	*ip6 = (struct ip6_header){
		.version_class_flow = be32_of(0x60000000),
		.payload_length = be16_of((uint16_t)len),
		.next_header = protocol,
		.hop_limit = ttl,
	};
	memcpy(&ip6->src, &src->in6, sizeof(ip6->src));
	memcpy(&ip6->dst, &dst->in6, sizeof(ip6->dst));
	return sizeof(*ip6);
}

static void put_icmp_checksum(uint8_t *icmp, const struct ip_addr *far, size_t ip_len, size_t len)
{
	uint64_t sum = 0;
	be16 checksum;

	if (far->family == AF_INET6) {
		const struct ip6_header *ip6 = (const struct ip6_header *)(icmp - ip_len);

		sum = checksum_pseudo6(&ip6->src, &ip6->dst, IPPROTO_ICMPV6, (uint32_t)len);
	}
	checksum = checksum_finish(checksum_add(sum, icmp, len));
	memcpy(icmp + offsetof(struct icmp_header, checksum), &checksum, sizeof(checksum));
}

static uint8_t *begin_frame(const struct ip_addr *far)
{
	struct eth_header *eth = (struct eth_header *)(buf + VNET_HEADER_LEN);

	memset(buf, 0, VNET_HEADER_LEN);
	*eth = (struct eth_header){
		.dst = {{0x52, 0x55, 10, 0, 2, 2}},
		.src = {{2, 0, 0, 0, 0, 1}},
		.type = be16_of(far->family == AF_INET ? ETH_TYPE_IP4 : ETH_TYPE_IP6),
	};
	return (uint8_t *)(eth + 1);
}

/* ---- operations ---- */

static uint8_t next8(struct cursor *in)
{
	const uint8_t *at = cursor_take(in, 1);

	return at ? *at : 0;
}

static uint16_t next16(struct cursor *in)
{
	uint16_t high = next8(in);

	return (uint16_t)(high << 8 | next8(in));
}

/* More often small than not. */
static uint16_t next_len(struct cursor *in)
{
	uint16_t len = next16(in);

	return (len & 0x8000) ? (uint16_t)MIN(len, LEN_MAX) : len & 0x7ff;
}

/* A question for the root (RFC 1035 4.1). */
static void put_query(uint8_t *data, size_t len, uint8_t id)
{
	static const uint8_t query[] = {0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1};

	memset(data, 0x5a, len);
	memcpy(data, query, MIN(len, sizeof(query)));
	if (len)
		data[0] = id;
}

/* choice: 1 Don't Fragment, 2 a run, 4 IPv6, 8 a TTL of 1, 16 port 53; the upper bits are the
 * container's port. */
static void op_udp(struct cursor *in, unsigned int argument)
{
	uint8_t choice = next8(in);
	struct ip_addr far = far_addr(argument, !(choice & 4));
	struct vnet_header *vnet = (struct vnet_header *)buf;
	uint8_t *ip = begin_frame(&far);
	size_t ip_len = far.family == AF_INET ? IP4_HEADER_MIN : IP6_HEADER_LEN;
	size_t len = next_len(in);
	uint16_t segment = next16(in);
	struct udp_header *udp = (struct udp_header *)(ip + ip_len);

	put_ip(ip, &far, false, IPPROTO_UDP, choice & 8 ? 1 : 64, choice & 1, sizeof(*udp) + len);
	*udp = (struct udp_header){
		.src_port = be16_of((uint16_t)(5000 + (choice >> 5) + argument / 8 * 8)),
		.dst_port = be16_of(choice & 16 ? 53 : 7),
		.length = be16_of((uint16_t)(sizeof(*udp) + len)),
	};
	put_query((uint8_t *)(udp + 1), len, (uint8_t)argument);
	vnet->flags = VNET_NEEDS_CSUM;
	vnet->csum_start = le16_of((uint16_t)(ETH_HEADER_LEN + ip_len));
	vnet->csum_offset = le16_of(offsetof(struct udp_header, checksum));
	if (choice & 2) {
		vnet->gso_type = VNET_GSO_UDP_L4;
		vnet->gso_size = le16_of(segment);
	}
	input(ETH_HEADER_LEN + ip_len + sizeof(*udp) + len);
}

static void op_echo(struct cursor *in, unsigned int argument)
{
	uint8_t choice = next8(in);
	struct ip_addr far = far_addr(argument, !(choice & 4));
	uint8_t *ip = begin_frame(&far);
	size_t ip_len = far.family == AF_INET ? IP4_HEADER_MIN : IP6_HEADER_LEN;
	size_t len = sizeof(struct icmp_header) + next_len(in);
	struct icmp_header *icmp = (struct icmp_header *)(ip + ip_len);

	put_ip(ip, &far, false, icmp_protocol(far.family), choice & 8 ? 1 : 64, choice & 1, len);
	memset(icmp, 0, len);
	icmp->type = far.family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
	icmp->code = choice & 2 ? 1 : 0;
	icmp->rest = be32_of((uint32_t)(choice >> 4) << 16 | argument);
	put_icmp_checksum((uint8_t *)icmp, &far, ip_len, len);
	input(ETH_HEADER_LEN + ip_len + len);
}

static void op_raw(struct cursor *in)
{
	const uint8_t *vnet = cursor_take(in, VNET_HEADER_LEN), *data;
	size_t len = next16(in);

	len = MIN(len, in->left);
	data = cursor_take(in, len);
	if (!vnet)
		return;
	memcpy(buf, vnet, VNET_HEADER_LEN);
	memcpy(buf + VNET_HEADER_LEN, data, len);
	input(len);
}

/* About a datagram of the world's to the container. */
static void op_about(struct cursor *in, unsigned int argument)
{
	bool is4 = argument & 8;
	struct ip_addr far = far_addr(argument, is4);
	uint8_t *ip = begin_frame(&far);
	size_t ip_len = is4 ? IP4_HEADER_MIN : IP6_HEADER_LEN;
	size_t len = sizeof(struct icmp_header) + ip_len + sizeof(struct udp_header);
	struct icmp_header *icmp = (struct icmp_header *)(ip + ip_len);
	struct udp_header *udp = (struct udp_header *)((uint8_t *)(icmp + 1) + ip_len);

	put_ip(ip, &far, false, icmp_protocol(far.family), 64, false, len);
	put_ip((uint8_t *)(icmp + 1), &far, true, IPPROTO_UDP, 64, false, sizeof(*udp));
	*icmp = (struct icmp_header){.type = next8(in), .code = next8(in)};
	icmp->rest = be32_of(next16(in));
	*udp = (struct udp_header){
		.src_port = be16_of(7), .dst_port = be16_of((uint16_t)(5000 + next8(in) % 32))};
	put_icmp_checksum((uint8_t *)icmp, &far, ip_len, len);
	input(ETH_HEADER_LEN + ip_len + len);
}

static void expire(int64_t until_ns)
{
	int64_t due_ns;

	finish();
	while ((due_ns = timer_heap_next(&world.loop.timers)) <= until_ns) {
		world.loop.now_ns = MAX(world.loop.now_ns, due_ns);
		timer_heap_expire(&world.loop.timers, world.loop.now_ns);
		finish();
	}
	world.loop.now_ns = until_ns;
}

/* From a microsecond to hours. */
static void op_time(unsigned int argument)
{
	expire(world.loop.now_ns + (INT64_C(1000) << argument) + 1);
}

/* To which of our addresses; and who is dual-stack hears both families. */
static void make_published(
	const struct far *far, struct host_datagram *datagram, unsigned int which, uint8_t choice)
{
	bool is4 = far->family == AF_INET || (far->is_dual && choice & 16);

	datagram->addr = far_addr(which, is4);
	datagram->local = far_addr(choice >> 5 & 1, is4);
	datagram->scope = choice & 1;
}

static void op_supply(struct cursor *in, unsigned int argument)
{
	struct far *far = &world.far[next8(in) % FDS];
	uint8_t choice = next8(in);
	struct host_datagram datagram = {
		.addr = far_addr(argument, far->family == AF_INET),
		.port = choice & 16 ? 53 : 7,
		.ttl = choice & 32 ? 0 : 64,
		.tos = choice,
		.len = next_len(in),
		.segment = next16(in),
	};

	if (!far->is_open)
		return;
	/* As the kernel puts them together. */
	if (far->is_ping || datagram.len <= datagram.segment || datagram.len > 65000 ||
		datagram.len > (size_t)datagram.segment * HOST_RUN_MAX)
		datagram.segment = 0;
	if (far->is_published)
		make_published(far, &datagram, argument, choice);
	if (far->peer.family) {
		datagram.addr = far->peer;
		datagram.port = 53;
		datagram.segment = 0;
	}
	far->in_type = choice & 64 ? (uint8_t)argument : 0x81;
	if (far->is_ping && !(choice & 64))
		far->in_type = far->family == AF_INET ? ICMP_ECHO_REPLY : ICMP6_ECHO_REPLY;
	for (int i = 0; i <= (choice & 7) && far->n_in < QUEUE; i++)
		far->in[far->n_in++] = datagram;
	far->is_woken |= !(choice & 8);
}

static void op_error(struct cursor *in, unsigned int argument)
{
	static const int errors[] = {ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EACCES, EPERM,
		EMSGSIZE, ENOPROTOOPT, EPROTO};
	struct far *far = &world.far[next8(in) % FDS];
	uint8_t choice = next8(in);
	struct host_dgram_error error = {
		.error = errors[choice % 8],
		.addr = far_addr(argument, far->family == AF_INET),
		.port = 7,
		.icmp_family = choice & 8 ? far->family : 0,
		.icmp_type = next8(in),
		.icmp_code = next8(in),
		.mtu = next16(in),
		.offender = far_addr(argument + 1, far->family == AF_INET),
		.quote_len = choice & 16 ? sizeof(error.quote) : choice >> 5,
	};

	if (!far->is_open)
		return;
	if (far->is_published) {
		error.local = far_addr(choice >> 5 & 1, far->family == AF_INET);
		error.scope = choice & 1;
	}
	push_error(far, &error);
	far->pending = error.error;
	far->is_woken = true;
}

static void op_rules(uint8_t value)
{
	static const struct eth_addr mac = {{2, 0, 0, 0, 0, 1}};
	const struct ip_addr guest = far_addr(0, true);

	world.guest_is_hidden = value & 1;
	if (!world.guest_is_hidden)
		publish_neighbor(world.publish, &guest, &mac);
	if (value & 2)
		unbind_rule(value >> 2 & 1);
	if (value & 8 && !world.rules[value >> 2 & 1].id)
		bind_rule(value >> 2 & 1);
}

static void op_host(struct cursor *in, unsigned int argument)
{
	static const int errors[] = {
		0, EMFILE, EACCES, EAFNOSUPPORT, ENOBUFS, EPERM, EADDRNOTAVAIL, EIO};
	uint8_t value = next8(in);
	struct far *far = &world.far[value % FDS];

	switch (argument % 8) {
	case 0:
		world.open_error = errors[value % 8];
		break;
	case 1:
		world.path_mtu = value * 40U;
		break;
	case 2:
		world.is_full = value & 1;
		break;
	case 3:
		far->is_full = !far->is_full;
		break;
	case 4:
		far->send_error = errors[argument / 8 * 2 + 1];
		break;
	case 5:
		world.n_nameservers = 1 + value % HOST_NAMESERVERS_MAX;
		world.unknown_until_ns = 0;
		if (value & 128)
			world.unknown_until_ns = world.loop.now_ns + HOST_NAMESERVERS_WAIT_NS;
		else
			dns_servers_known(world.dns);
		break;
	case 6:
		source_answer(value & 1);
		finish();
		break;
	default:
		op_rules(value);
		finish();
	}
}

static void operate(struct cursor *in)
{
	uint8_t byte = next8(in);
	unsigned int argument = byte >> 3;

	switch ((enum operation)(byte & 7)) {
	case OP_UDP:
		op_udp(in, argument);
		break;
	case OP_ECHO:
		op_echo(in, argument);
		break;
	case OP_RAW:
		op_raw(in);
		break;
	case OP_TIME:
		op_time(argument);
		break;
	case OP_SUPPLY:
		op_supply(in, argument);
		break;
	case OP_ERROR:
		op_error(in, argument);
		break;
	case OP_ABOUT:
		op_about(in, argument);
		break;
	case OP_HOST:
		op_host(in, argument);
		break;
	}
}

/* ---- an input ---- */

static void set_policy(uint8_t settings)
{
	world.policy = (struct policy){
		.network.s_addr = htonl(0x0a000200),
		.netmask.s_addr = htonl(0xffffff00),
		.gateway.s_addr = htonl(0x0a000202),
		.dns.s_addr = htonl(0x0a000203),
		.guest.s_addr = htonl(0x0a000264),
		.gateway6.s6_addr = {0xfd, [15] = 2},
		.dns6.s6_addr = {0xfd, [15] = 3},
		.ipv6 = true,
		.host_loopback = settings & SETTING_LOOPBACK,
		.dns_enabled = !(settings & SETTING_NO_DNS),
	};
}

static void start_publish(const struct siphash_key *key)
{
	const struct splice_config splice_config = {
		.loop = &world.loop,
		.counters = &world.counters,
		.sockets = &world.source,
		.key = key,
		.max_flows = 1,
	};
	struct publish_config config = {
		.policy = &world.policy,
		.host = &world.host,
		.loop = &world.loop,
		.counters = &world.counters,
		.egress = &world.egress,
		.icmp_limit = &world.icmp_limit,
		.next_hop = &world.next_hop,
		.sockets = &world.source,
		.key = key,
		.max_udp_clients = MAX_FLOWS,
		.max_fd = INT_MAX,
		.guest6 = guest6,
	};

	world.next_hop.ops = &hop_ops;
	world.source.make = source_make;
	config.splice = world.splice = splice_new(&splice_config);
	ALWAYS(world.splice);
	world.publish = publish_new(&config);
	ALWAYS(world.publish);
}

static void stop_publish(void)
{
	for (int i = 0; i < RULES; i++)
		unbind_rule(i);
	while (world.n_asked)
		source_answer(true);
	ALWAYS(!world.n_claims);
}

static void start_parts(void)
{
	static const struct siphash_key key = {{1, 2}};
	const struct flow_config config = {
		.policy = &world.policy,
		.egress = &world.egress,
		.host = &world.host,
		.loop = &world.loop,
		.counters = &world.counters,
		.icmp_limit = &world.icmp_limit,
		.key = &key,
		.max_sockets = MAX_FLOWS,
	};

	gateway_init(
		&world.gateway, &world.policy, &world.egress, &world.loop, &key, &world.counters);
	ALWAYS(udpflow_init(&world.udpflow, &config) == 0);
	ALWAYS(icmpflow_init(&world.icmpflow, &config) == 0);
	world.dns = dns_new(&config);
	ALWAYS(world.dns);
	start_publish(&key);
}

static void start(uint8_t settings)
{
	world = (struct world){
		.host.ops = &host_ops,
		.link = {.ops = &link_ops, .fd = -1},
		.loop = {.epoll_fd = -1, .now_ns = NS_PER_SEC},
		.n_nameservers = 2,
	};
	if (settings & SETTING_CSUM)
		world.link.offloads |= LINK_CSUM;
	if (settings & SETTING_USO)
		world.link.offloads |= LINK_CSUM | LINK_USO;
	set_policy(settings);
	icmp_limit_init(&world.icmp_limit, &world.counters);
	ingress_init(&world.ingress, &world.policy, &world.icmp_limit, true, &world.counters);
	ingress_watch(&world.ingress, &world.loop.timers, tell, NULL);
	world.ingress.offloads = world.link.offloads;
	egress_init(&world.egress, &world.policy, &world.link,
		settings & SETTING_LARGE_MTU ? 65520 : 1500, 1, &world.counters);
	start_parts();
	for (int i = 0; settings & SETTING_PUBLISH && i < RULES; i++)
		bind_rule(i);
}

/* Nobody says anything any more: all conversations end by themselves. */
static void be_silent(void)
{
	for (int fd = 0; fd < FDS; fd++)
		world.far[fd].n_in = world.far[fd].n_errors = world.far[fd].pending = 0;
	expire(world.loop.now_ns + 2 * UDPFLOW_IDLE_NS);
	ALWAYS(!world.udpflow.table.n_flows && !world.icmpflow.table.n_flows);
	ALWAYS(!world.n_claims);
	stop_publish();
	for (int fd = 0; fd < FDS; fd++)
		ALWAYS(!world.far[fd].is_open);
	ALWAYS(!world.loop.timers.root);
}

static void stop(uint8_t settings)
{
	if (settings & SETTING_LINK_GONE)
		world.egress.link = NULL;
	if (settings & SETTING_SILENCE)
		be_silent();
	stop_publish();
	publish_free(world.publish);
	splice_free(world.splice);
	udpflow_done(&world.udpflow);
	icmpflow_done(&world.icmpflow);
	dns_free(world.dns);
	ingress_done(&world.ingress);
	for (int fd = 0; fd < FDS; fd++)
		ALWAYS(!world.far[fd].is_open);
	ALWAYS(!world.loop.timers.root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor in = {.at = data, .left = size};
	uint8_t settings = next8(&in);

	log_init("fuzz-udp", LOG_LEVEL_ERROR);
	start(settings);
	for (int i = 0; in.left && i < OPERATIONS_MAX; i++)
		operate(&in);
	finish();
	stop(settings);
	return 0;
}
