/* SPDX-License-Identifier: Apache-2.0 */
/* Walking the options of an IPv4 or a TCP header. */
#pragma once

#include "wire/cursor.h"

/* Options of IPv4 and TCP have one form: 0 ends the list, 1 stands alone, all others carry the
 * length of themselves (RFC 791 3.1, RFC 9293 3.2). Takes the next one; false at the end of the
 * list, or when it is broken: then the cursor is not empty and *ret_type not 0. */
static inline bool option_next(struct cursor *options, uint8_t *ret_type)
{
	*ret_type = 0;
	if (!options->left)
		return false;
	*ret_type = options->at[0];
	if (*ret_type == 0)
		return false;
	if (*ret_type == 1)
		return cursor_take(options, 1);
	if (options->left < 2 || options->at[1] < 2)
		return false;
	return cursor_take(options, options->at[1]);
}
