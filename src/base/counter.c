/* SPDX-License-Identifier: Apache-2.0 */
#include "base/counter.h"

static const char *const names[N_COUNTERS] = {
#define X(id, name, text) [COUNTER_##id] = name,
	COUNTERS(X)
#undef X
};

const char *counter_name(enum counter which)
{
	return names[which];
}
