/* SPDX-License-Identifier: Apache-2.0 */
#include "base/timer.h"

#include <stddef.h>

#include "base/clock.h"

static void link_at(struct timer **ref, struct timer *timer)
{
	*ref = timer;
	if (timer)
		timer->ref = ref;
}

/* Joins two heaps whose roots have no siblings; the later root becomes the first child. */
static struct timer *meld(struct timer *a, struct timer *b)
{
	if (!a)
		return b;
	if (!b)
		return a;
	if (b->due_ns < a->due_ns) {
		struct timer *swap = a;

		a = b;
		b = swap;
	}
	link_at(&b->next, a->child);
	link_at(&a->child, b);
	a->next = NULL;
	return a;
}

/* Makes one heap of a list of siblings: pairs from left to right, then all pairs from right to
 * left. */
static struct timer *meld_siblings(struct timer *first)
{
	struct timer *pairs = NULL, *root = NULL;

	while (first) {
		struct timer *a = first, *b = a->next, *pair;

		first = b ? b->next : NULL;
		a->next = NULL;
		if (b)
			b->next = NULL;
		pair = meld(a, b);
		pair->next = pairs;
		pairs = pair;
	}
	while (pairs) {
		struct timer *pair = pairs;

		pairs = pair->next;
		pair->next = NULL;
		root = meld(root, pair);
	}
	return root;
}

static void heap_add(struct timer_heap *heap, struct timer *timer)
{
	timer->child = NULL;
	timer->next = NULL;
	link_at(&heap->root, meld(heap->root, timer));
}

void timer_arm(struct timer_heap *heap, struct timer *timer, int64_t due_ns)
{
	timer_cancel(heap, timer);
	timer->due_ns = due_ns;
	heap_add(heap, timer);
}

void timer_cancel(struct timer_heap *heap, struct timer *timer)
{
	struct timer *orphans;

	if (!timer_is_armed(timer))
		return;
	orphans = meld_siblings(timer->child);
	link_at(timer->ref, timer->next);
	timer->child = NULL;
	timer->next = NULL;
	timer->ref = NULL;
	if (orphans)
		link_at(&heap->root, meld(heap->root, orphans));
}

int64_t timer_heap_next(const struct timer_heap *heap)
{
	return heap->root ? heap->root->due_ns : CLOCK_NEVER;
}

void timer_heap_expire(struct timer_heap *heap, int64_t now_ns)
{
	struct timer *due = NULL;

	/* Taken out first, so that what a callback arms is not seen here. They hang in a list by
	 * `next` with `ref` set, and timer_cancel() takes one out of it like out of the heap. */
	while (heap->root && heap->root->due_ns <= now_ns) {
		struct timer *timer = heap->root;

		timer_cancel(heap, timer);
		link_at(&timer->next, due);
		link_at(&due, timer);
	}
	while (due) {
		struct timer *timer = due;

		link_at(&due, timer->next);
		timer->next = NULL;
		timer->ref = NULL;
		timer->fire(timer, now_ns);
	}
}
