/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A circular list whose nodes lie in what they link. A node is in one list at a time; one that is
 * in none is zero.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *head)
{
	head->next = head->prev = head;
}

static inline bool list_is_empty(const struct list *head)
{
	return head->next == head;
}

static inline bool list_is_linked(const struct list *node)
{
	return node->next;
}

static inline void list_append(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

/* In front of the first one. */
static inline void list_prepend(struct list *head, struct list *node)
{
	list_append(head->next, node);
}

/* Nothing happens when it is in no list. */
static inline void list_remove(struct list *node)
{
	if (!node->next)
		return;
	node->prev->next = node->next;
	node->next->prev = node->prev;
	node->next = node->prev = NULL;
}

/* The first node, taken out; NULL: the list is empty. */
static inline struct list *list_take(struct list *head)
{
	struct list *node = head->next;

	if (node == head)
		return NULL;
	head->next = node->next;
	node->next->prev = head;
	node->next = node->prev = NULL;
	return node;
}

/* All nodes of `from`, in their order, behind those of `to`. */
static inline void list_move(struct list *to, struct list *from)
{
	if (list_is_empty(from))
		return;
	from->next->prev = to->prev;
	from->prev->next = to;
	to->prev->next = from->next;
	to->prev = from->prev;
	list_init(from);
}
