/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/usage.h"

#include <stdlib.h>

struct usage *usage_new(void)
{
	struct usage *usage = calloc(1, sizeof(*usage));

	if (usage)
		usage->n_refs = 1;
	return usage;
}

struct usage *usage_ref(struct usage *usage)
{
	usage->n_refs++;
	return usage;
}

void usage_unref(struct usage *usage)
{
	if (usage && --usage->n_refs == 0)
		free(usage);
}
