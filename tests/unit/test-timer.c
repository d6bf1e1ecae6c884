/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>

#include "base/clock.h"
#include "base/timer.h"
#include "base/util.h"

struct probe {
	struct timer timer;
	struct timer_heap *heap;
	int n_fired;
	int64_t fired_ns;
	int64_t again_ns;     /* armed again from the callback when not 0 */
	struct probe *victim; /* cancelled from the callback */
};

static void probe_fire(struct timer *timer, int64_t now_ns)
{
	struct probe *probe = container_of(timer, struct probe, timer);

	g_assert_false(timer_is_armed(timer));
	probe->n_fired++;
	probe->fired_ns = now_ns;
	if (probe->again_ns)
		timer_arm(probe->heap, timer, probe->again_ns);
	if (probe->victim)
		timer_cancel(probe->heap, &probe->victim->timer);
}

static struct probe probe_of(struct timer_heap *heap)
{
	return (struct probe){.timer = {.fire = probe_fire}, .heap = heap};
}

static void test_empty(void)
{
	struct timer_heap heap = {0};
	struct probe p = probe_of(&heap);

	g_assert_cmpint(timer_heap_next(&heap), ==, CLOCK_NEVER);
	timer_heap_expire(&heap, 1000);
	timer_cancel(&heap, &p.timer);
	g_assert_false(timer_is_armed(&p.timer));
}

static void test_moved_and_cancelled(void)
{
	struct timer_heap heap = {0};
	struct probe p = probe_of(&heap), q = probe_of(&heap);

	timer_arm(&heap, &p.timer, 10);
	timer_arm(&heap, &q.timer, 20);
	timer_arm(&heap, &p.timer, 30);
	g_assert_cmpint(timer_heap_next(&heap), ==, 20);
	timer_cancel(&heap, &q.timer);
	g_assert_cmpint(timer_heap_next(&heap), ==, 30);
	timer_heap_expire(&heap, 29);
	g_assert_cmpint(p.n_fired, ==, 0);
	timer_heap_expire(&heap, 30);
	g_assert_cmpint(p.n_fired, ==, 1);
	g_assert_cmpint(q.n_fired, ==, 0);
	g_assert_null(heap.root);
}

static void test_rearm_in_callback_waits(void)
{
	struct timer_heap heap = {0};
	struct probe p = probe_of(&heap);

	p.again_ns = 5;
	timer_arm(&heap, &p.timer, 5);
	timer_heap_expire(&heap, 7);
	g_assert_cmpint(p.n_fired, ==, 1);
	g_assert_true(timer_is_armed(&p.timer));
	timer_cancel(&heap, &p.timer);
}

static void test_cancel_another_in_callback(void)
{
	struct timer_heap heap = {0};
	struct probe p = probe_of(&heap), q = probe_of(&heap);

	p.victim = &q;
	q.victim = &p;
	timer_arm(&heap, &p.timer, 5);
	timer_arm(&heap, &q.timer, 5);
	timer_heap_expire(&heap, 5);
	g_assert_cmpint(p.n_fired + q.n_fired, ==, 1);
	g_assert_false(timer_is_armed(&p.timer));
	g_assert_false(timer_is_armed(&q.timer));
}

/* Random arming, moving and cancelling against a plain array. */
static void test_model(void)
{
	struct timer_heap heap = {0};
	struct probe probes[97];
	int64_t due[ARRAY_SIZE(probes)], now = 0;

	for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
		probes[i] = probe_of(&heap);
		due[i] = CLOCK_NEVER;
	}
	for (int step = 0; step < 20000; step++) {
		size_t i = (size_t)g_test_rand_int_range(0, ARRAY_SIZE(probes));
		int64_t next = CLOCK_NEVER;

		switch (g_test_rand_int_range(0, 4)) {
		case 0:
		case 1:
			due[i] = now + g_test_rand_int_range(0, 1000);
			timer_arm(&heap, &probes[i].timer, due[i]);
			break;
		case 2:
			due[i] = CLOCK_NEVER;
			timer_cancel(&heap, &probes[i].timer);
			break;
		default:
			now += g_test_rand_int_range(0, 50);
			timer_heap_expire(&heap, now);
			for (size_t k = 0; k < ARRAY_SIZE(probes); k++) {
				g_assert_cmpint(probes[k].n_fired, ==, due[k] <= now ? 1 : 0);
				if (probes[k].n_fired) {
					g_assert_cmpint(probes[k].fired_ns, ==, now);
					probes[k].n_fired = 0;
					due[k] = CLOCK_NEVER;
				}
			}
		}
		for (size_t k = 0; k < ARRAY_SIZE(probes); k++) {
			next = MIN(next, due[k]);
			g_assert_cmpint(
				timer_is_armed(&probes[k].timer), ==, due[k] != CLOCK_NEVER);
		}
		g_assert_cmpint(timer_heap_next(&heap), ==, next);
	}
	for (size_t k = 0; k < ARRAY_SIZE(probes); k++)
		timer_cancel(&heap, &probes[k].timer);
	g_assert_null(heap.root);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/timer/empty", test_empty);
	g_test_add_func("/timer/moved-and-cancelled", test_moved_and_cancelled);
	g_test_add_func("/timer/rearm-in-callback-waits", test_rearm_in_callback_waits);
	g_test_add_func("/timer/cancel-another-in-callback", test_cancel_another_in_callback);
	g_test_add_func("/timer/model", test_model);
	return g_test_run();
}
