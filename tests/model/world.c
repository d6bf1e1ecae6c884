/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One world: its beginning, its turns, and what must hold at its end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/world.h"

/* How many frames the relay takes in a turn at most. */
#define BATCH_MAX 16
/* How long programs dawdle at most then. */
#define CALM_PACE_NS (5 * NS_PER_MS)
/* Turns without a visible effect at one instant, until they are called a busy loop. */
#define IDLE_TURNS_MAX 20
/* How long anything may take once nobody disturbs any more. A container's end that vanished while
 * nothing was under way is found after the hours of RFC 1122 4.2.3.6. */
#define END_NS          (20 * 60 * NS_PER_SEC)
#define END_VANISHED_NS (TCP_IDLE_NS + END_NS)

/* ---- chance ---- */

/* Steele, Lea and Flood's SplitMix64. */
uint64_t rng_next(struct rng *rng)
{
	uint64_t z = rng->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint64_t rng_below(struct rng *rng, uint64_t n)
{
	return rng_next(rng) % n;
}

bool rng_chance(struct rng *rng, uint32_t chances)
{
	return chances && rng_below(rng, 10000) < chances;
}

uint64_t rng_scale(struct rng *rng, uint64_t low, uint64_t high)
{
	uint64_t n_doublings = 0, top;

	while (low << n_doublings < high)
		n_doublings++;
	top = low << rng_below(rng, n_doublings + 1);
	top = low + rng_below(rng, top);
	return top < high ? top : high;
}

/* ---- streams ---- */

static uint64_t word_of(uint32_t id, uint32_t offset)
{
	return (uint64_t)id << 32 | offset / 8;
}

void stream_fill(uint32_t id, uint32_t offset, uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len;) {
		uint64_t word = word_of(id, offset + (uint32_t)i);
		size_t at = (offset + i) % 8, n = MIN(8 - at, len - i);

		memcpy(data + i, (uint8_t *)&word + at, n);
		i += n;
	}
}

bool stream_is(uint32_t id, uint32_t offset, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len;) {
		uint64_t word = word_of(id, offset + (uint32_t)i);
		size_t at = (offset + i) % 8, n = MIN(8 - at, len - i);

		if (memcmp(data + i, (uint8_t *)&word + at, n) != 0)
			return false;
		i += n;
	}
	return true;
}

/* ---- words ---- */

void world_say(struct world *world, const char *format, ...)
{
	va_list args;

	if (!world->is_verbose)
		return;
	va_start(args, format);
	printf("%13.6f ", (double)now_ns(world) / 1e9);
	vprintf(format, args);
	printf("\n");
	va_end(args);
}

static void print_conversations(const struct world *world)
{
	for (const struct near *near = world->nears; near; near = near->next)
		fprintf(stderr,
			"# near %u: port %u state %d result %d sent %u of %u acked %u received %u "
			"read %u fin %d/%d window %u\n",
			near->id, near->slot->near_port, near->state, near->result,
			near->snd_nxt - near->iss - 1, near->total, near->snd_una - near->iss - 1,
			near->rcv_nxt - near->irs, near->n_read, near->fin_acked, near->fin_seen,
			near->snd_wnd);
	for (const struct far *far = world->fars; far; far = far->next)
		fprintf(stderr,
			"# far %u of near %u: fd %d state %d in %u+%u of %u out %u+%u ended "
			"%d/%d\n",
			far->id, far->near->id, far->fd, far->state, far->in_taken,
			far->in_arrived - far->in_taken, far->in_total, far->out_read,
			far->out_taken - far->out_read, far->in_ended, far->out_ended);
}

void world_fail(struct world *world, const char *file, int line, const char *what)
{
	fflush(stdout);
	fprintf(stderr, "%s:%d: must hold: %s\n# seed %llu, after %.6f s\n", file, line, what,
		(unsigned long long)world->seed, (double)now_ns(world) / 1e9);
	print_conversations(world);
	exit(1);
}

/* ---- the beginning ---- */

static const struct eth_addr near_mac = {{0x02, 0, 0, 0, 0, 0x64}};

static struct policy policy_make(void)
{
	return (struct policy){
		.network = {htonl(0x0a000200)},
		.netmask = {htonl(0xffffff00)},
		.gateway = {htonl(0x0a000202)},
		.dns = {htonl(0x0a000203)},
		.guest = {htonl(0x0a000264)},
		.gateway6 = {{{0xfd, [15] = 2}}},
		.dns6 = {{{0xfd, [15] = 3}}},
		.ipv6 = true,
		.host_loopback = true,
	};
}

static void choose_wire(struct world *world, struct wire *wire)
{
	struct rng *rng = &world->rng;

	wire->delay_ns = (int64_t)rng_scale(rng, 1000, 100 * NS_PER_MS);
	if (rng_chance(rng, 5000))
		wire->delay_ns = 1000;
	if (rng_chance(rng, 4000))
		wire->loss = (uint32_t)rng_scale(rng, 1, 3000);
	if (rng_chance(rng, 3000))
		wire->doubling = (uint32_t)rng_scale(rng, 1, 3000);
	if (!rng_chance(rng, 3000))
		return;
	wire->reordering = (uint32_t)rng_scale(rng, 1, 5000);
	wire->jitter_ns = (int64_t)rng_scale(rng, 1000, 200 * NS_PER_MS);
}

static void choose_link(struct world *world)
{
	static const uint32_t offloads[] = {0, 0, LINK_CSUM, LINK_CSUM | LINK_TSO4,
		LINK_CSUM | LINK_TSO4 | LINK_TSO6, LINK_CSUM | LINK_TSO4 | LINK_TSO6 | LINK_TSO_ECN,
		LINK_CSUM | LINK_TSO4 | LINK_TSO6 | LINK_BIG_TCP};
	struct rng *rng = &world->rng;

	world->link = (struct link){
		.ops = &world_link_ops,
		.fd = -1,
		.offloads = offloads[rng_below(rng, ARRAY_SIZE(offloads))],
		.mac = near_mac,
	};
	if (rng_chance(rng, 5000))
		world->queue_len = (uint32_t)rng_scale(rng, 16, 2000);
	world->is_bulky = world->link.offloads & LINK_BIG_TCP && rng_chance(rng, 5000);
	world->eats_big = world->is_bulky && rng_chance(rng, 2000);
	world->is_narrow = world->is_bulky && rng_chance(rng, 2000);
	if (rng_chance(rng, 2000))
		world->send_failure = (uint32_t)rng_scale(rng, 1, 2000);
	if (!rng_chance(rng, 1000))
		return;
	world->link_down_ns = now_ns(world) + (int64_t)rng_scale(rng, NS_PER_MS, 60 * NS_PER_SEC);
	world->link_up_ns =
		world->link_down_ns + (int64_t)rng_scale(rng, NS_PER_MS, 20 * NS_PER_SEC);
}

/* Whether nothing is lost, doubled or delayed beyond what a tap does. */
static bool wire_is_good(const struct world *world, const struct wire *wire)
{
	return !wire->loss && !wire->doubling && !wire->reordering && !world->send_failure &&
		!world->link_up_ns && !world->eats_big && !world->is_narrow &&
		wire->delay_ns <= 10 * NS_PER_MS;
}

static void fire_slot(struct timer *timer, int64_t now)
{
	struct slot *slot = container_of(timer, struct slot, start);

	(void)now;
	if (slot->world->link_is_gone)
		return;
	slot->n_left--;
	if (slot->is_arrival)
		far_arrive(near_listen(slot));
	else
		near_open(slot);
}

static void slot_init(struct world *world, unsigned int index)
{
	static const uint8_t near4[] = {10, 0, 2, 100}, gateway4[] = {10, 0, 2, 2},
			     far4[] = {198, 51, 100, 7};
	static const uint8_t near6[16] = {0xfd, [15] = 0x64}, gateway6[16] = {0xfd, [15] = 2},
			     far6[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 7};
	struct slot *slot = &world->slots[index];
	struct rng *rng = &world->rng;

	*slot = (struct slot){
		.world = world,
		.family = rng_chance(rng, 5000) ? AF_INET : AF_INET6,
		.near_port = (uint16_t)(40000 + index),
		.far_port = (uint16_t)(80 + rng_below(rng, 2)),
		.to_loopback = rng_chance(rng, 5000),
		.is_arrival = rng_chance(rng, 4000),
		.n_left = rng_chance(rng, 7000) ? 1 : 2 + (unsigned int)rng_below(rng, 2),
		.start.fire = fire_slot,
	};
	if (slot->family == AF_INET) {
		memcpy(slot->near_addr, near4, 4);
		memcpy(slot->far_addr, slot->to_loopback ? gateway4 : far4, 4);
	} else {
		memcpy(slot->near_addr, near6, 16);
		memcpy(slot->far_addr, slot->to_loopback ? gateway6 : far6, 16);
	}
	timer_arm(&world->timers, &slot->start,
		now_ns(world) + (int64_t)rng_scale(rng, 1000, 10 * NS_PER_SEC));
}

/* ---- where the container is ---- */

static bool hop_find(
	struct next_hop *next_hop, const struct ip_addr *addr, bool again, struct eth_addr *ret_mac)
{
	struct world *world = container_of(next_hop, struct world, next_hop);

	if (now_ns(world) >= world->hop_unknown_ns && now_ns(world) < world->hop_known_ns)
		return false;
	*ret_mac = near_mac;
	return true;
}

static int hop_claim(struct next_hop *next_hop, const struct ip_addr *addr)
{
	container_of(next_hop, struct world, next_hop)->n_claims++;
	return 0;
}

static void hop_release(struct next_hop *next_hop, const struct ip_addr *addr)
{
	struct world *world = container_of(next_hop, struct world, next_hop);

	MUST(world, world->n_claims--);
}

static const struct next_hop_ops hop_ops = {
	.find = hop_find,
	.claim = hop_claim,
	.release = hop_release,
};

static void fire_hop(struct timer *timer, int64_t now)
{
	struct world *world = container_of(timer, struct world, hop);
	const struct ip_addr near4 = ip_addr_of_v4(world->policy.guest);
	const struct in6_addr v6 = {{{0xfd, [15] = 0x64}}};
	const struct ip_addr near6 = ip_addr_of_v6(&v6);

	tcpflow_neighbor(&world->tcpflow, &near4, &near_mac);
	tcpflow_neighbor(&world->tcpflow, &near6, &near_mac);
}

/* For less than NEXT_HOP_GIVE_UP_NS, so that nobody is turned away. */
static void choose_hop(struct world *world)
{
	struct rng *rng = &world->rng;

	world->next_hop.ops = &hop_ops;
	world->usage = usage_new();
	MUST(world, world->usage);
	world->hop.fire = fire_hop;
	world->hop_unknown_ns = now_ns(world) + (int64_t)rng_scale(rng, 1, 10 * NS_PER_SEC);
	world->hop_known_ns =
		world->hop_unknown_ns + (int64_t)rng_scale(rng, 1000, 2900 * NS_PER_MS);
	if (rng_chance(rng, 7000))
		timer_arm(&world->timers, &world->hop, world->hop_known_ns);
}

static void start_relay(struct world *world)
{
	const struct tcpflow_config config = {
		.policy = &world->policy,
		.link = &world->link,
		.host = &world->host,
		.loop = &world->loop,
		.counters = &world->counters,
		.icmp_limit = &world->icmp_limit,
		.next_hop = &world->next_hop,
		.mtu = rng_chance(&world->rng, 5000) ? 1500 : 65520,
		.key = &world->key,
		.max_flows = 64,
		.queue_len = world->queue_len,
		.memory = world->memory,
	};

	icmp_limit_init(&world->icmp_limit, &world->counters);
	ingress_init(&world->ingress, &world->policy, &world->icmp_limit, true, &world->counters);
	MUST(world, tcpflow_init(&world->tcpflow, &config) == 0);
}

static void world_init(struct world *world, uint64_t seed, bool is_verbose)
{
	struct rng *rng = &world->rng;

	*world = (struct world){
		.seed = seed,
		.rng.state = seed * UINT64_C(0x2545f4914f6cdd1d),
		.is_verbose = is_verbose,
		.loop = {.epoll_fd = -1, .now_ns = NS_PER_SEC},
		.policy = policy_make(),
		.host.ops = &world_host_ops,
	};
	list_init(&world->queue);
	list_init(&world->frames);
	world->key = (struct siphash_key){{rng_next(rng), rng_next(rng)}};
	world->memory = (size_t)rng_scale(rng, BUFFER_POOL_MIN, 16 * 1024 * 1024);
	world->is_hungry = rng_chance(rng, 500);
	if (world->is_hungry || rng_chance(rng, 3000))
		world->memory = BUFFER_POOL_MIN;
	world->near_waits = rng_chance(rng, 3000);
	world->far_waits = !world->near_waits && rng_chance(rng, 3000);
	choose_link(world);
	choose_wire(world, &world->up);
	choose_wire(world, &world->down);
	world->is_lossy = !wire_is_good(world, &world->up) || !wire_is_good(world, &world->down);
	choose_hop(world);
	start_relay(world);
	world->n_slots = 1 + (unsigned int)rng_below(rng, SLOTS_MAX);
	if (rng_chance(rng, 5000))
		world->n_slots = 1;
	if (world->is_hungry)
		world->n_slots = SLOTS_MAX;
	for (unsigned int i = 0; i < world->n_slots; i++)
		slot_init(world, i);
}

/* ---- turns ---- */

static void take_frames(struct world *world)
{
	static uint8_t buf[INGRESS_BUFFER_LEN], answer[INGRESS_ANSWER_MAX];
	size_t n_left = 1 + rng_below(&world->rng, BATCH_MAX), answer_len;
	struct packet packet;
	ssize_t len;

	while (n_left-- && (len = world->link.ops->recv(&world->link, buf)) >= 0) {
		const uint8_t *frame = buf + LINK_HEADER_LEN;

		MUST(world,
			ingress_frame(&world->ingress, buf, (size_t)len, now_ns(world), &packet,
				answer, &answer_len) == INGRESS_TCP);
		if (tcpflow_input(&world->tcpflow, frame, &packet) == TCPFLOW_STRAY)
			tcpflow_refuse(&world->tcpflow, frame, &packet);
		world->n_effects++;
	}
	world->dialler = NULL;
}

/* What a flow may never be in, whatever came before. */
static void check_flows(struct world *world)
{
	struct tcpflow *tcpflow = &world->tcpflow;

	MUST(world, !world->counters.value[COUNTER_TCP_IMPOSSIBLE]);
	MUST(world, tcpflow->table.n_flows <= 64);
	for (struct flow *at = flow_table_any(&tcpflow->table); at;
		at = flow_table_after(&tcpflow->table, at)) {
		const struct tcp_flow *flow = container_of(at, struct tcp_flow, flow);

		MUST(world, (int32_t)(flow->snd_nxt - flow->snd_una) >= 0);
		MUST(world, (int32_t)(flow->rcv_edge - flow->rcv_nxt) >= 0);
		MUST(world, flow->up.len <= flow->rcv_wnd_max + BUFFER_LARGE);
		MUST(world, flow->down.len <= TCP_DOWN_WINDOW + BUFFER_LARGE);
		MUST(world, flow->fd >= 0 || !flow->up.len);
		/* A closed window is opened by the one who closed it. */
		if (flow->state >= TCP_ESTABLISHED && flow->state <= TCP_LAST_ACK)
			MUST(world,
				flow->rcv_edge != flow->rcv_nxt || flow->up.len || flow->near_eof ||
					flow->ack_ns != CLOCK_NEVER);
	}
}

static int64_t next_ns(const struct world *world)
{
	int64_t ours_ns = timer_heap_next(&world->loop.timers);
	int64_t theirs_ns = timer_heap_next(&world->timers);

	if (world->has_more || !list_is_empty(&world->queue))
		return now_ns(world);
	return MIN(ours_ns, theirs_ns);
}

/* Returns false when the relay wanted it and did nothing that others can see. */
static bool turn(struct world *world)
{
	uint64_t before = world->n_effects;
	int64_t due_ns = next_ns(world);
	bool is_ours = world->has_more || timer_heap_next(&world->loop.timers) <= due_ns;

	MUST(world, due_ns != CLOCK_NEVER);
	world->loop.now_ns =
		MAX(due_ns, now_ns(world) + 1 + (int64_t)rng_below(&world->rng, 20000));
	/* One by one: those that fire at once do so in no particular order. */
	while (timer_heap_next(&world->timers) <= now_ns(world))
		timer_heap_expire(&world->timers, timer_heap_next(&world->timers));
	timer_heap_expire(&world->loop.timers, now_ns(world));
	far_dispatch(world);
	if (rng_below(&world->rng, 2))
		tcpflow_answer(&world->tcpflow);
	take_frames(world);
	world->has_more = tcpflow_finish(&world->tcpflow);
	check_flows(world);
	return !is_ours || world->n_effects != before;
}

/* ---- what is left to do ---- */

static bool is_quiet(const struct world *world)
{
	if (!list_is_empty(&world->frames))
		return false;
	for (const struct near *near = world->nears; near; near = near->next)
		if (!near_is_over(near))
			return false;
	for (const struct far *far = world->fars; far; far = far->next)
		if (!far_is_over(far))
			return false;
	return true;
}

static int64_t jitter_of(const struct world *world)
{
	return 2 *
		(world->up.delay_ns + world->up.jitter_ns + world->down.delay_ns +
			world->down.jitter_ns);
}

/* The next connection from the same port, when no segment of the last one can come any more; the
 * relay may still remember it. */
static bool start_next(struct world *world)
{
	struct rng *rng = &world->rng;
	bool any = false;

	for (unsigned int i = 0; i < world->n_slots; i++) {
		struct slot *slot = &world->slots[i];

		any |= slot->n_left || timer_is_armed(&slot->start);
		if (!slot->n_left || timer_is_armed(&slot->start) || !near_is_over(slot->near))
			continue;
		/* A client whom the relay has not given up. */
		if (slot->is_arrival && slot->far->fd >= 0)
			continue;
		timer_arm(&world->timers, &slot->start,
			now_ns(world) + jitter_of(world) + NS_PER_MS +
				(int64_t)rng_scale(rng, NS_PER_MS, 20 * NS_PER_SEC));
	}
	return any;
}

/* From now on everybody gets on with it; half of the worlds keep their wire. */
static void calm(struct world *world)
{
	world->is_calm = true;
	for (struct near *near = world->nears; near; near = near->next) {
		near->paused_until_ns = 0;
		near->pace_ns = MIN(near->pace_ns, CALM_PACE_NS);
	}
	for (struct far *far = world->fars; far; far = far->next)
		far->pace_ns = MIN(far->pace_ns, CALM_PACE_NS);
	if (rng_chance(&world->rng, 5000))
		return;
	world->up.loss = world->up.doubling = world->up.reordering = 0;
	world->down.loss = world->down.doubling = world->down.reordering = 0;
	world->send_failure = 0;
}

static bool has_vanished(const struct world *world)
{
	for (const struct near *near = world->nears; near; near = near->next)
		if (near->result == RESULT_ABORTED || near->result == RESULT_TIMEOUT ||
			near->result == RESULT_RESET)
			return true;
	return false;
}

/* ---- what must have come of it ---- */

static uint32_t acknowledged(const struct near *near)
{
	return MIN(near->snd_una - near->iss - 1, near->total);
}

/* Somebody else did it; or all was over, the relay has forgotten it, and of its last words every
 * one was lost. */
static bool may_be_reset(const struct world *world, const struct far *far)
{
	return far->state == FAR_FAILED || world->counters.value[COUNTER_TCP_GIVEN_UP] ||
		(world->is_lossy && far->out_ended && far->eof_given);
}

static void check_near(struct world *world, const struct near *near)
{
	const struct far *far = near->far;

	switch (near->result) {
	case RESULT_GRACEFUL:
		MUST(world, far && near->fin_seen && near->fin_acked);
		MUST(world, far->eof_given && far->in_taken == far->in_total);
		MUST(world, far->state == FAR_FAILED || far->out_read == near->total);
		MUST(world, far->state == FAR_FAILED || far->out_ended);
		break;
	case RESULT_RESET:
		MUST(world, may_be_reset(world, far));
		MUST(world, far->state != FAR_FAILED || near->result_ns >= far->failed_ns);
		break;
	case RESULT_REFUSED:
	case RESULT_UNREACHABLE:
	case RESULT_ABORTED:
	case RESULT_TIMEOUT:
		break;
	case RESULT_NONE:
		MUST(world, near->state == NEAR_LISTEN);
		MUST(world, far->was_reset || far->state == FAR_FAILED);
	}
	/* Unless a reset came, from either side or for want of an answer. */
	if (far && far->state != FAR_FAILED && !far->was_reset)
		MUST(world, far->out_taken >= acknowledged(near));
}

/* A dial comes to nothing when the host says so, and not otherwise. */
static void check_refusal(struct world *world, const struct near *near)
{
	bool has_failed = world->counters.value[COUNTER_TCP_GIVEN_UP];

	if (near->result != RESULT_REFUSED && near->result != RESULT_UNREACHABLE)
		return;
	if (near->slot->is_arrival) {
		MUST(world, near->far->was_reset || near->far->state == FAR_FAILED);
		return;
	}
	for (const struct far *far = world->fars; far; far = far->next)
		has_failed |= far->near == near && (far->dial_error || far->state == FAR_FAILED);
	MUST(world, has_failed);
}

static void check_far(struct world *world, const struct far *far)
{
	const struct near *near = far->near;
	bool is_theirs = near->far == far;

	MUST(world, far->fd < 0);
	if (!is_theirs)
		MUST(world, !far->out_taken || far->was_reset || far->state == FAR_FAILED);
	/* A connection that was ended by a reset is not made to look as if it were whole. */
	if (far->was_up && far->state == FAR_UP && !far->was_reset)
		MUST(world, far->out_ended || far->was_closed);
	if (is_theirs && near->result == RESULT_ABORTED && far->state == FAR_UP &&
		!near->fin_queued)
		MUST(world, far->was_reset);
}

/* Besides the wire: a queue that is full, a window taken back, a host that fell silent. */
static bool anyone_loses(const struct world *world)
{
	for (const struct near *near = world->nears; near; near = near->next)
		if (near->shrinks)
			return true;
	for (const struct far *far = world->fars; far; far = far->next)
		if (far->state == FAR_FAILED && far->fail_error == ETIMEDOUT)
			return true;
	return world->queue_len;
}

static void check_counters(struct world *world)
{
	static const enum counter never[] = {COUNTER_DROP_TRUNCATED, COUNTER_DROP_OVERSIZED,
		COUNTER_DROP_ETHERTYPE, COUNTER_DROP_HEADER, COUNTER_DROP_CHECKSUM,
		COUNTER_DROP_GSO, COUNTER_DROP_FRAGMENT, COUNTER_TCP_IMPOSSIBLE,
		COUNTER_TCP_REFUSED, COUNTER_POLICY_REFUSED};
	const uint64_t *value = world->counters.value;

	for (size_t i = 0; i < ARRAY_SIZE(never); i++)
		MUST(world, !value[never[i]]);
	if (world->is_lossy)
		return;
	MUST(world, !value[COUNTER_FRAMES_OUT_DROPPED] && !value[COUNTER_TCP_GIVEN_UP]);
	if (anyone_loses(world))
		return;
	MUST(world, !value[COUNTER_TCP_RETRANSMITS]);
	MUST(world, !world->n_timeouts || value[COUNTER_TCP_MEMORY_SHORT]);
}

/* All that the relay took it has given back. */
static void check_rest(struct world *world)
{
	struct tcpflow *tcpflow = &world->tcpflow;
	unsigned int n = 0;

	MUST(world, !tcpflow->table.n_flows && !tcpflow->n_half_open && !world->n_open);
	MUST(world, !tcpflow->n_arriving && list_is_empty(&tcpflow->resolving));
	MUST(world, !world->n_claims && !world->usage->n_active && world->usage->n_refs == 1);
	MUST(world, buffer_pool_is_whole(&tcpflow->pool));
	MUST(world, list_is_empty(&tcpflow->ready) && list_is_empty(&tcpflow->hungry));
	while (timer_heap_next(&world->loop.timers) != CLOCK_NEVER) {
		MUST(world, ++n < 1000);
		world->loop.now_ns = MAX(timer_heap_next(&world->loop.timers), now_ns(world));
		timer_heap_expire(&world->loop.timers, now_ns(world));
		MUST(world, !tcpflow_finish(tcpflow));
	}
	MUST(world, !tcpflow_has_unsent(tcpflow));
}

/* ---- the life ---- */

static void live(struct world *world)
{
	struct rng *rng = &world->rng;
	int64_t calm_ns = now_ns(world) + (int64_t)rng_scale(rng, NS_PER_SEC, 180 * NS_PER_SEC);
	int64_t end_ns = CLOCK_NEVER;
	unsigned int n_idle = 0;
	int64_t idle_since_ns = 0;

	while (start_next(world) || !is_quiet(world) || world->tcpflow.table.n_flows) {
		if (turn(world)) {
			n_idle = 0;
			idle_since_ns = now_ns(world);
		} else if (++n_idle > IDLE_TURNS_MAX) {
			MUST(world, now_ns(world) - idle_since_ns > NS_PER_MS);
		}
		if (now_ns(world) >= calm_ns && !world->is_calm)
			calm(world);
		if (end_ns == CLOCK_NEVER && world->is_calm && !start_next(world))
			end_ns = now_ns(world);
		if (end_ns != CLOCK_NEVER)
			MUST(world,
				now_ns(world) - end_ns <
					(has_vanished(world) ? END_VANISHED_NS : END_NS));
	}
}

static void check_all(struct world *world)
{
	for (const struct near *near = world->nears; near; near = near->next) {
		check_near(world, near);
		check_refusal(world, near);
	}
	for (const struct far *far = world->fars; far; far = far->next)
		check_far(world, far);
	check_counters(world);
}

static void world_done(struct world *world)
{
	world->link.ops->close(&world->link);
	for (struct near *near = world->nears, *next; near; near = next) {
		next = near->next;
		near_stop(near);
		free(near);
	}
	for (struct far *far = world->fars, *next; far; far = next) {
		next = far->next;
		far_stop(far);
		free(far);
	}
	world->is_ending = true;
	timer_cancel(&world->timers, &world->hop);
	usage_unref(world->usage);
	tcpflow_done(&world->tcpflow);
	ingress_done(&world->ingress);
	MUST(world, timer_heap_next(&world->loop.timers) == CLOCK_NEVER);
}

void world_run(struct world *world, uint64_t seed, bool is_verbose)
{
	world_init(world, seed, is_verbose);
	live(world);
	check_all(world);
	check_rest(world);
	world_done(world);
}
