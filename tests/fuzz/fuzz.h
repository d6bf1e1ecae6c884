/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets have in common.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Called by libFuzzer, or by replay.c. */
__attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that holds for every input. */
#define ALWAYS(condition)                                                              \
	do {                                                                           \
		if (!(condition)) {                                                    \
			fprintf(stderr, "%s:%d: not always: %s\n", __FILE__, __LINE__, \
				#condition);                                           \
			abort();                                                       \
		}                                                                      \
	} while (0)
