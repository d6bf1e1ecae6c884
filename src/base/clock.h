/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only place that asks the kernel for the time. The loop samples it once per turn; everything
 * else is given `now_ns`.
 */
#pragma once

#include <stdint.h>

/* Larger than any instant: "never". */
#define CLOCK_NEVER INT64_MAX

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t clock_now_ns(void);

/* To be added to clock_now_ns() for nanoseconds since 1970, as the time of day is set now. */
int64_t clock_wall_offset_ns(void);
