/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replies of the API for people (netns-helper-api(7)). Members that an older server does not send
 * are shown as "-".
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* True: the reply is an error, and one line on standard error says which. `rules` are the n rules
 * of the request as they were written, one of which the reply may name by its index. */
bool show_error(const json_t *reply, char **rules, size_t n);

/* The ids of the rules that were added, one a line. False: there is none in the reply. */
bool show_ids(FILE *out, const json_t *reply);
/* The rules as a table. False: the reply has none, not even none of them. */
bool show_list(FILE *out, const json_t *reply);
