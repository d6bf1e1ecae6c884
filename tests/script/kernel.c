/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's kernel, as far as long transfers need one: acknowledges what comes in order at
 * once, keeps to the window, sends again after a while or three duplicates, probes closed windows.
 */
#include "base/clock.h"
#include "world.h"

#define SEGMENT_LEN 1460
#define RTO_NS      (200 * NS_PER_MS)
#define RTO_MAX_NS  (120 * NS_PER_SEC)

static bool is_ended(const struct kernel *k)
{
	return k->wants_fin && k->next == (uint32_t)(k->n_written + 2);
}

/* The number behind the last byte that was written. */
static uint32_t end_of(const struct kernel *k)
{
	return (uint32_t)(k->n_written + 1);
}

void kernel_start(struct world *world, struct conversation *c)
{
	c->kernel = (struct kernel){
		.is_on = true,
		.una = c->near_next,
		.next = c->near_next,
		.edge = c->our_edge,
		.n_written = c->near_next - 1,
		.n_read = c->near_got - 1,
		.rto_ns = CLOCK_NEVER,
	};
}

static void take_ack(struct kernel *k, const struct outcome *segment)
{
	if (seq_after(segment->ack, k->una)) {
		k->una = segment->ack;
		k->n_duplicates = k->n_backoffs = 0;
		k->rto_ns = CLOCK_NEVER;
		if (seq_before(k->next, k->una))
			k->next = k->una;
	} else if (segment->ack == k->una && k->una != k->next && !segment->len &&
		k->edge == segment->ack + segment->window && ++k->n_duplicates == 3) {
		k->next = k->una;
	}
	k->edge = segment->ack + segment->window;
}

void kernel_take(struct world *world, struct conversation *c, const struct outcome *segment)
{
	struct kernel *k = &c->kernel;
	uint32_t end = segment->seq + segment->len + !!(segment->flags & TCP_FIN);

	if (segment->flags & TCP_RST) {
		k->is_reset = true;
		return;
	}
	take_ack(k, segment);
	if (end != segment->seq && !seq_after(segment->seq, c->near_got) &&
		seq_after(end, c->near_got)) {
		k->n_read += segment->seq + segment->len - c->near_got;
		c->near_got = end;
		c->our_next = end;
	}
	k->ack_owed |= end != segment->seq || seq_before(segment->seq, c->near_got);
}

static void say(
	struct world *world, struct conversation *c, uint32_t seq, uint32_t len, uint8_t flags)
{
	const struct near_frame frame = {
		.flags = TCP_ACK | flags,
		.seq = seq,
		.ack = c->near_got,
		.window = c->near_window,
		.len = len,
	};

	c->kernel.ack_owed = false;
	world_near_input(world, c, &frame);
}

static void time_out(struct kernel *k, int64_t now_ns)
{
	k->next = k->una;
	k->n_duplicates = 0;
	if (k->n_backoffs < 16)
		k->n_backoffs++;
	k->rto_ns = CLOCK_NEVER;
}

static bool say_data(struct world *world, struct conversation *c)
{
	struct kernel *k = &c->kernel;
	uint32_t left = end_of(k) - k->next, room = k->edge - k->next, seq = k->next, len;

	if (is_ended(k) || seq_before(k->edge, k->next))
		return false;
	len = MIN(MIN(left, room), SEGMENT_LEN);
	if (len) {
		k->next += len;
		say(world, c, seq, len, len == left ? TCP_PSH : 0);
		return true;
	}
	if (left || !k->wants_fin || !room)
		return false;
	k->next++;
	say(world, c, seq, 0, TCP_FIN);
	return true;
}

bool kernel_step(struct world *world, struct conversation *c)
{
	struct kernel *k = &c->kernel;
	int64_t now_ns = world->loop.now_ns;
	bool timed_out = k->rto_ns <= now_ns, said = false;

	if (!k->is_on || k->is_reset)
		return false;
	if (timed_out)
		time_out(k, now_ns);
	while (!k->is_reset && say_data(world, c))
		said = true;
	if (k->is_reset)
		return said;
	if (!said && (k->ack_owed || timed_out)) {
		/* A window that stays shut is asked about. */
		say(world, c, timed_out ? k->una - 1 : k->next, 0, 0);
		said = true;
	}
	c->near_next = k->next;
	if (k->rto_ns == CLOCK_NEVER && (k->una != k->next || k->next != end_of(k) + k->wants_fin))
		k->rto_ns = now_ns + MIN(RTO_NS << k->n_backoffs, RTO_MAX_NS);
	return said;
}
