/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>

#include "base/list.h"
#include "base/util.h"

#define NODES 4

struct item {
	int value;
	struct list node;
};

static struct list head;
static struct item items[NODES];

static void set_up(void)
{
	list_init(&head);
	for (int i = 0; i < NODES; i++)
		items[i] = (struct item){.value = i};
}

/* The list's values as digits, looked at in both directions. */
static void expect(struct list *list, const char *values)
{
	GString *forward = g_string_new(NULL), *backward = g_string_new(NULL);

	for (struct list *node = list->next; node != list; node = node->next)
		g_string_append_printf(forward, "%d", container_of(node, struct item, node)->value);
	for (struct list *node = list->prev; node != list; node = node->prev)
		g_string_prepend_c(
			backward, (char)('0' + container_of(node, struct item, node)->value));
	g_assert_cmpstr(forward->str, ==, values);
	g_assert_cmpstr(backward->str, ==, values);
	g_assert_true(list_is_empty(list) == (*values == '\0'));
	g_string_free(forward, true);
	g_string_free(backward, true);
}

static void append_all(void)
{
	for (int i = 0; i < NODES; i++)
		list_append(&head, &items[i].node);
}

static void test_append(void)
{
	set_up();
	expect(&head, "");
	g_assert_false(list_is_linked(&items[0].node));
	append_all();
	expect(&head, "0123");
	g_assert_true(list_is_linked(&items[0].node));
}

static void test_remove(void)
{
	set_up();
	append_all();
	list_remove(&items[0].node);
	expect(&head, "123");
	list_remove(&items[2].node);
	expect(&head, "13");
	list_remove(&items[3].node);
	expect(&head, "1");
	list_remove(&items[3].node); /* in no list */
	g_assert_false(list_is_linked(&items[3].node));
	list_remove(&items[1].node);
	expect(&head, "");
	list_append(&head, &items[3].node);
	expect(&head, "3");
}

static void test_take(void)
{
	set_up();
	g_assert_null(list_take(&head));
	append_all();
	for (int i = 0; i < NODES; i++) {
		g_assert_true(list_take(&head) == &items[i].node);
		g_assert_false(list_is_linked(&items[i].node));
	}
	g_assert_null(list_take(&head));
	expect(&head, "");
}

static void test_prepend(void)
{
	set_up();
	list_prepend(&head, &items[2].node);
	expect(&head, "2");
	list_prepend(&head, &items[0].node);
	list_append(&head, &items[3].node);
	expect(&head, "023");
	g_assert_true(list_take(&head) == &items[0].node);
	list_prepend(&head, &items[0].node);
	expect(&head, "023");
}

static void test_move(void)
{
	struct list other;

	set_up();
	list_init(&other);
	list_move(&other, &head); /* nothing to nothing */
	expect(&other, "");
	append_all();
	list_move(&other, &head); /* to an empty one */
	expect(&head, "");
	expect(&other, "0123");
	list_remove(&items[1].node);
	list_append(&head, &items[1].node);
	list_move(&head, &other); /* behind what is there */
	expect(&head, "1023");
	expect(&other, "");
	list_move(&head, &other); /* nothing */
	expect(&head, "1023");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/list/append", test_append);
	g_test_add_func("/list/remove", test_remove);
	g_test_add_func("/list/take", test_take);
	g_test_add_func("/list/prepend", test_prepend);
	g_test_add_func("/list/move", test_move);
	return g_test_run();
}
