/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Usage: model [--verbose] [--seed N | --seeds FROM-TO]
 * A seed that fails is named; the same seed is the same world, with any compiler.
 */
#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/model/world.h"

#define SEEDS 1000

static void parse_range(const char *text, uint64_t *ret_from, uint64_t *ret_to)
{
	char *end;

	*ret_from = *ret_to = strtoull(text, &end, 10);
	if (*end == '-')
		*ret_to = strtoull(end + 1, &end, 10);
	if (*end || end == text || *ret_to < *ret_from)
		errx(2, "%s: neither a number nor a range", text);
}

static void print_counters(const struct counters *counters)
{
	for (size_t i = 0; i < N_COUNTERS; i++)
		if (counters->value[i])
			printf("# %s %llu\n", counter_name((enum counter)i),
				(unsigned long long)counters->value[i]);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"seed", required_argument, NULL, 's'},
		{"seeds", required_argument, NULL, 's'},
		{"verbose", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	static struct world world;
	struct counters counters = {0};
	uint64_t from = 1, to = SEEDS;
	bool is_verbose = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			parse_range(optarg, &from, &to);
		else if (c == 'v')
			is_verbose = true;
		else
			return 2;
	}
	for (uint64_t seed = from; seed <= to; seed++) {
		world_run(&world, seed, is_verbose);
		for (size_t i = 0; i < N_COUNTERS; i++)
			counters.value[i] += world.counters.value[i];
	}
	/* What came to pass in them. */
	print_counters(&counters);
	printf("seeds %llu-%llu: all held\n", (unsigned long long)from, (unsigned long long)to);
	return 0;
}
